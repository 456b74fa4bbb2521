//! Import: what is wrong with a path whatever policy says, and what policy makes of it.

use core::net::IpAddr;

use super::attributes::{AttrId, AttributeStore};
use super::config::{FamilySession, PeerKind, RibConfig, RibSession};
use super::next_hop::{NextHops, is_martian};
use super::table::Refusal;
use crate::policy::{self, Outcome, PeerType, RouteSource, Subject, Verdict};
use crate::types::{Asn, Prefix};
use crate::wire::{Attributes, ClusterId, Community, NextHop};

/// Import for one set of attributes of one session.
pub(super) struct Import<'a> {
    session: &'a RibSession,
    family: &'a FamilySession,
    /// Attributes as received.
    pub(super) received: AttrId,
    /// What is wrong with all paths that carry them.
    refusal: Refusal,
    shutdown: bool,
    /// The last result, because prefixes of one UPDATE usually fare alike.
    last: Option<(Outcome, AttrId)>,
}

impl<'a> Import<'a> {
    /// Takes over the caller's reference to `received`.
    pub(super) fn new(
        session: &'a RibSession,
        family: &'a FamilySession,
        config: &RibConfig,
        received: AttrId,
        store: &AttributeStore,
    ) -> Self {
        let attributes = store.attributes(received);
        let external = session.kind == PeerKind::External;
        Self {
            session,
            family,
            received,
            refusal: refusal(session, family, config, attributes),
            shutdown: external
                && attributes
                    .communities
                    .contains(&Community::GRACEFUL_SHUTDOWN),
            last: None,
        }
    }

    /// Imports the path of one prefix: its attributes, with one reference for the caller, and why it is refused, if it
    /// is.
    pub(super) fn path(
        &mut self,
        prefix: Prefix,
        store: &mut AttributeStore,
        next_hops: &mut NextHops,
    ) -> (AttrId, Refusal) {
        let default_refused = prefix.is_default() && !self.family.default_route_in;
        if self.refusal != Refusal::None || default_refused {
            store.retain(self.received, 1);
            let refusal = if self.refusal == Refusal::None {
                Refusal::DefaultRoute
            } else {
                self.refusal
            };
            return (self.received, refusal);
        }
        let outcome = match (&self.family.import, &self.last) {
            (None, _) => unchanged(),
            (Some(policy), Some((last, _))) if !policy.looks_at_prefix() => last.clone(),
            (Some(policy), _) => evaluate(
                policy,
                store.attributes(self.received),
                prefix,
                self.session,
            ),
        };
        let refusal = match outcome.verdict {
            Verdict::Accept => Refusal::None,
            Verdict::Reject => Refusal::Policy,
        };
        let attr = match &self.last {
            Some((last, attr)) if *last == outcome => *attr,
            _ => {
                let attr = self.result(&outcome, prefix, store, next_hops);
                if let Some((_, old)) = self.last.replace((outcome, attr)) {
                    store.release(old, next_hops);
                }
                attr
            }
        };
        store.retain(attr, 1);
        (attr, refusal)
    }

    /// The attributes that an outcome leads to, with one reference for the caller.
    fn result(
        &self,
        outcome: &Outcome,
        prefix: Prefix,
        store: &mut AttributeStore,
        next_hops: &mut NextHops,
    ) -> AttrId {
        let received = store.attributes(self.received);
        let changes = self.shutdown || !outcome.is_unchanged();
        if outcome.verdict == Verdict::Accept && changes {
            let mut attributes = received.clone();
            if let Some(policy) = &self.family.import {
                policy.apply(
                    outcome,
                    &mut attributes,
                    prefix.family(),
                    &context(self.session),
                );
            }
            if self.shutdown {
                attributes.local_pref = Some(0);
            }
            if attributes != *received {
                let link = store.link(self.received).or(self.session.link);
                return store.intern(attributes, link, self.received, next_hops);
            }
        }
        store.retain(self.received, 1);
        self.received
    }

    /// Lets go of what it holds.
    pub(super) fn finish(self, store: &mut AttributeStore, next_hops: &mut NextHops) {
        if let Some((_, attr)) = self.last {
            store.release(attr, next_hops);
        }
        store.release(self.received, next_hops);
    }
}

fn unchanged() -> Outcome {
    Outcome {
        verdict: Verdict::Accept,
        decided_by: None,
        applied: smallvec::SmallVec::new(),
    }
}

/// What the session's import policy makes of a path.
pub(super) fn evaluate(
    policy: &policy::Policy,
    attributes: &Attributes,
    prefix: Prefix,
    session: &RibSession,
) -> Outcome {
    let (peer, source) = match session.kind {
        PeerKind::External => (PeerType::External, RouteSource::External),
        PeerKind::Confederation | PeerKind::Internal { .. } => {
            (PeerType::Internal, RouteSource::Internal)
        }
    };
    policy.evaluate(
        attributes,
        &Subject::new(prefix, peer, source),
        &context(session),
    )
}

fn context(session: &RibSession) -> policy::Session {
    policy::Session {
        local_asn: session.local_asn,
        self_next_hop: Some(match session.remote_addr {
            IpAddr::V4(addr) => NextHop::V4(addr),
            IpAddr::V6(addr) => NextHop::V6(addr),
        }),
    }
}

/// Drops what must not come by eBGP: LOCAL_PREF (RFC 4271 5.1.5), ORIGINATOR_ID and CLUSTER_LIST (RFC 4456 8).
pub(super) fn strip_internal(attributes: &mut Attributes) {
    attributes.local_pref = None;
    strip_reflection(attributes);
}

/// Drops ORIGINATOR_ID and CLUSTER_LIST, which mean nothing beyond their AS (RFC 4456 8).
pub(super) fn strip_reflection(attributes: &mut Attributes) {
    if let Some(rare) = &mut attributes.rare {
        rare.originator_id = None;
        rare.cluster_list = Box::default();
        if **rare == crate::wire::RareAttributes::default() {
            attributes.rare = None;
        }
    }
}

fn refusal(
    session: &RibSession,
    family: &FamilySession,
    config: &RibConfig,
    attributes: &Attributes,
) -> Refusal {
    let external = session.kind == PeerKind::External;
    let path = &attributes.as_path;
    // RFC 5065 5: from outside, segments of a confederation are an error; between members, to begin with none is.
    if external && path.has_confederation() {
        return Refusal::Confederation;
    }
    if session.kind == PeerKind::Confederation && path.first_member() != Some(session.remote_asn) {
        return Refusal::Confederation;
    }
    if external
        && session.enforce_first_as
        && attributes.as_path.first_as() != Some(session.remote_asn)
    {
        return Refusal::FirstAs;
    }
    let identifier = config.confederation.as_ref().map(|it| it.identifier);
    let own =
        |asn: Asn| asn == config.local_asn || asn == session.local_asn || Some(asn) == identifier;
    let loops = attributes.as_path.asns().filter(|&asn| own(asn)).count();
    if loops > usize::from(session.allow_own_as) {
        return Refusal::AsLoop;
    }
    if let Some(rare) = attributes.rare.as_deref() {
        if rare.originator_id == Some(config.router_id) {
            return Refusal::OwnOriginatorId;
        }
        if rare.cluster_list.contains(&cluster_id(config)) {
            return Refusal::ClusterLoop;
        }
    }
    let off_link = session.link.is_none() && is_link_local(attributes.next_hop);
    if off_link || is_martian(attributes.next_hop) {
        return Refusal::NextHopMartian;
    }
    if global(attributes.next_hop) == session.local_addr {
        return Refusal::NextHopOwn;
    }
    if external && family.import.is_none() {
        return Refusal::NoPolicy;
    }
    Refusal::None
}

/// The cluster that this reflector stands for (RFC 4456 8).
pub(super) fn cluster_id(config: &RibConfig) -> ClusterId {
    config.cluster_id.unwrap_or(ClusterId(config.router_id.0))
}

/// Whether the next hop has no meaning beyond a link.
pub(super) fn is_link_local(next_hop: NextHop) -> bool {
    matches!(global(next_hop), IpAddr::V6(addr) if addr.is_unicast_link_local())
}

pub(super) fn global(next_hop: NextHop) -> IpAddr {
    match next_hop {
        NextHop::V4(addr) => addr.into(),
        NextHop::V6(addr) | NextHop::V6LinkLocal { global: addr, .. } => addr.into(),
    }
}
