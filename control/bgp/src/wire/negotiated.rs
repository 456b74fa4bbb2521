//! What two OPEN messages agree on.

use core::fmt;

use super::{Capability, GracefulRestartCapability, Open};
use crate::types::{Asn, Family, RouterId};

/// How a peer relates to us; decides which attributes it may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// Another AS.
    External,
    /// Another member AS of our confederation (RFC 5065).
    Confederation,
    /// Our own AS.
    Internal,
}

/// A set of address families.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FamilySet(u8);

impl FamilySet {
    /// No family.
    pub const EMPTY: Self = Self(0);
    /// Every family of [`Family::ALL`].
    pub const ALL: Self = Self(0b11);

    /// Whether the family is a member.
    #[must_use]
    pub const fn contains(self, family: Family) -> bool {
        self.0 & (1 << family.index()) != 0
    }

    /// Adds a family.
    pub const fn insert(&mut self, family: Family) {
        self.0 |= 1 << family.index();
    }

    /// Removes a family.
    pub const fn remove(&mut self, family: Family) {
        self.0 &= !(1 << family.index());
    }

    /// Families in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members in the order of [`Family::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(move |family| self.contains(*family))
    }
}

impl FromIterator<Family> for FamilySet {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        let mut set = Self::EMPTY;
        families.into_iter().for_each(|family| set.insert(family));
        set
    }
}

impl fmt::Debug for FamilySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a session may use, from the OPEN we sent and the OPEN we received (RFC 5492 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's AS.
    pub remote_asn: Asn,
    /// The peer's identifier.
    pub remote_router_id: RouterId,
    /// Families that both announced. A speaker without multiprotocol capabilities means IPv4 unicast (RFC 4760 8).
    pub families: FamilySet,
    /// Both speak 4-octet AS numbers (RFC 6793): AS_PATH and AGGREGATOR carry 4 octets per AS.
    pub as4: bool,
    /// The peer accepts ROUTE-REFRESH (RFC 2918 4).
    pub route_refresh: bool,
    /// Both announced enhanced route refresh: BoRR and EoRR are understood (RFC 7313 4).
    pub enhanced_refresh: bool,
    /// Both announced that they accept messages of up to 65,535 bytes. RFC 8654 4 asks for the peer's word only, but FRR
    /// always announces and then takes long messages only from those that announce them too.
    pub extended_message_send: bool,
    /// We announced that we accept messages of up to 65,535 bytes.
    pub extended_message_receive: bool,
    /// The peer's graceful restart capability, if both announced it (RFC 4724 3).
    pub graceful_restart: Option<GracefulRestartCapability>,
    /// Both set the N bit: NOTIFICATION and hold timer expiry keep the routes too (RFC 8538 2).
    pub graceful_notification: bool,
    /// Hold time in seconds, the smaller of both; 0 means no keepalives and no hold timer (RFC 4271 4.2).
    pub hold_time: u16,
    /// The peer's host name, if it told.
    pub hostname: Option<Box<str>>,
}

impl Negotiated {
    /// Compares the OPEN sent with the OPEN received.
    #[must_use]
    pub fn new(local: &Open, remote: &Open) -> Self {
        let both = |wanted: &Capability| {
            local.capabilities.contains(wanted) && remote.capabilities.contains(wanted)
        };
        let graceful = local.graceful_restart().zip(remote.graceful_restart());
        Self {
            remote_asn: remote.asn,
            remote_router_id: remote.router_id,
            families: local.families().intersection(remote.families()),
            as4: local.four_octet_as().is_some() && remote.four_octet_as().is_some(),
            route_refresh: remote.capabilities.contains(&Capability::RouteRefresh),
            enhanced_refresh: both(&Capability::EnhancedRouteRefresh),
            extended_message_send: both(&Capability::ExtendedMessage),
            extended_message_receive: local.capabilities.contains(&Capability::ExtendedMessage),
            graceful_notification: graceful
                .is_some_and(|(ours, theirs)| ours.notification && theirs.notification),
            graceful_restart: graceful.map(|(_, theirs)| theirs.clone()),
            hold_time: local.hold_time.min(remote.hold_time),
            hostname: remote
                .capabilities
                .iter()
                .find_map(|capability| match capability {
                    Capability::Hostname { host, .. } => Some(host.clone()),
                    _ => None,
                }),
        }
    }

    /// The longest message we may send, in bytes (RFC 4271 4.1, RFC 8654 4).
    #[must_use]
    pub const fn max_send_bytes(&self) -> usize {
        if self.extended_message_send {
            super::MAX_EXTENDED_MESSAGE_BYTES
        } else {
            super::MAX_MESSAGE_BYTES
        }
    }
}

impl Open {
    /// The families announced; IPv4 unicast if there is no multiprotocol capability at all (RFC 4760 8).
    #[must_use]
    pub fn families(&self) -> FamilySet {
        let mut families = FamilySet::EMPTY;
        let mut silent = true;
        for capability in &self.capabilities {
            if let Capability::Multiprotocol { afi, safi } = *capability {
                silent = false;
                if let Some(family) = Family::from_afi_safi(afi, safi) {
                    families.insert(family);
                }
            }
        }
        if silent {
            families.insert(Family::Ipv4Unicast);
        }
        families
    }

    /// The AS number of the 4-octet AS capability.
    #[must_use]
    pub fn four_octet_as(&self) -> Option<Asn> {
        self.capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::FourOctetAs(asn) => Some(*asn),
                _ => None,
            })
    }

    /// The graceful restart capability.
    #[must_use]
    pub fn graceful_restart(&self) -> Option<&GracefulRestartCapability> {
        self.capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::GracefulRestart(graceful) => Some(graceful),
                _ => None,
            })
    }
}
