//! The OPEN that we send and the checks on the one that we get.

use crate::config::RemoteAs;
use crate::config::SessionConfig;
use crate::rib::Confederation;
use crate::types::{Asn, RouterId};
use crate::wire::notification::{code, open};
use crate::wire::{
    Capability, GracefulRestartCapability, GracefulRestartFamily, Negotiated, Notification, Open,
};

/// What all sessions of a speaker share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// The speaker's AS.
    pub(crate) asn: Asn,
    /// The confederation that this AS is a member of.
    pub(crate) confederation: Option<Confederation>,
    /// Its identifier.
    pub(crate) router_id: RouterId,
    /// Its host name.
    pub(crate) hostname: Option<Box<str>>,
    /// It restarted and waits for End-of-RIB (RFC 4724 4.1).
    pub(crate) restarting: bool,
}

impl Local {
    /// The AS that a peer is shown: within a confederation the member AS, to others the confederation (RFC 5065 4).
    pub(crate) fn asn_towards(&self, config: &SessionConfig) -> Asn {
        let within = |confederation: &Confederation| match config.remote_as {
            RemoteAs::Exactly(asn) => asn == self.asn || confederation.members.contains(&asn),
            RemoteAs::Internal => true,
            RemoteAs::External | RemoteAs::Any => false,
        };
        match (config.local_as, &self.confederation) {
            (Some(asn), _) => asn,
            (None, Some(confederation)) if !within(confederation) => confederation.identifier,
            (None, _) => self.asn,
        }
    }

    /// Whether the AS is another member of our confederation.
    pub(crate) fn is_member(&self, asn: Asn) -> bool {
        let confederation = self.confederation.as_ref();
        confederation.is_some_and(|it| it.members.contains(&asn))
    }

    /// The OPEN for a session of this configuration. `preserved`: forwarding state towards the peer outlived whatever ended
    /// the last session.
    pub(crate) fn open(&self, config: &SessionConfig, preserved: bool) -> Open {
        let asn = self.asn_towards(config);
        let mut capabilities: Vec<_> = config
            .families
            .iter()
            .map(|family| Capability::multiprotocol(family.family))
            .collect();
        capabilities.push(Capability::RouteRefresh);
        capabilities.push(Capability::EnhancedRouteRefresh);
        capabilities.push(Capability::FourOctetAs(asn));
        if config.extended_messages {
            capabilities.push(Capability::ExtendedMessage);
        }
        if let Some(graceful) = &config.graceful_restart {
            let forwarding = preserved || self.restarting;
            capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
                restarting: self.restarting,
                notification: graceful.notification,
                restart_time: graceful.restart_time_seconds,
                families: config
                    .families
                    .iter()
                    .map(|family| GracefulRestartFamily {
                        family: family.family,
                        forwarding,
                    })
                    .collect(),
            }));
        }
        if let Some(host) = &self.hostname {
            capabilities.push(Capability::Hostname {
                host: host.clone(),
                domain: "".into(),
            });
        }
        Open {
            asn,
            hold_time: u16::try_from(config.timers.hold.as_secs()).unwrap_or(u16::MAX),
            router_id: self.router_id,
            capabilities,
        }
    }
}

/// A refused OPEN: which field and the NOTIFICATION to send (RFC 4271 6.2).
pub(crate) type Refused = (&'static str, Notification);

/// Compares the OPENs, in the order of RFC 4271 6.2.
pub(crate) fn negotiate(
    config: &SessionConfig,
    ours: &Open,
    theirs: &Open,
) -> Result<Negotiated, Refused> {
    let refuse = |field, subcode| Err((field, Notification::new(code::OPEN, subcode)));
    let internal = theirs.asn == ours.asn;
    let expected = match config.remote_as {
        RemoteAs::Exactly(asn) => theirs.asn == asn,
        RemoteAs::Internal => internal,
        RemoteAs::External => !internal,
        RemoteAs::Any => true,
    };
    if !expected || theirs.asn == Asn::ZERO {
        return refuse("AS number", open::BAD_PEER_AS);
    }
    // RFC 6286 2.2: not zero, and another one than ours within one AS.
    if theirs.router_id.0 == 0 || (internal && theirs.router_id == ours.router_id) {
        return refuse("BGP identifier", open::BAD_BGP_IDENTIFIER);
    }
    if matches!(theirs.hold_time, 1 | 2) {
        return refuse("hold time", open::UNACCEPTABLE_HOLD_TIME);
    }
    let negotiated = Negotiated::new(ours, theirs);
    if negotiated.families.is_empty() {
        // RFC 5492 3: the data lists the capabilities that we miss.
        let data: Vec<u8> = config
            .families
            .iter()
            .flat_map(|family| {
                let [high, low] = family.family.afi().to_be_bytes();
                [1, 4, high, low, 0, family.family.safi()]
            })
            .collect();
        return Err((
            "capabilities: no address family in common",
            Notification::with_data(code::OPEN, open::UNSUPPORTED_CAPABILITY, &data),
        ));
    }
    Ok(negotiated)
}
