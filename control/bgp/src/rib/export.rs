//! Export: whether a best path is sent to a group of peers, and with which attributes.

use core::net::IpAddr;

use super::attributes::{AttrId, AttributeStore};
use super::config::{FamilySession, NextHopMode, PeerKind, RibConfig, RibSession};
use super::import::{cluster_id, is_link_local};
use super::source::Source;
use super::table::SourceId;
use super::view::{ExportStatus, RuleName};
use crate::policy::{self, Action, Outcome, PeerType, RouteSource, Subject, Verdict};
use crate::types::{Family, Prefix};
use crate::wire::{Attributes, Community, NextHop};

/// What a group of peers was sent for a destination: attributes after export policy, and where they came from. The rest
/// of the way to the wire ([`wire_attributes`]) is the same for the whole group and done when encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Advertisement {
    pub(super) source: SourceId,
    pub(super) flags: Flags,
    pub(super) attr: AttrId,
}

impl Advertisement {
    pub(super) const NONE: Self = Self {
        source: SourceId::NONE,
        flags: Flags(0),
        attr: AttrId::NONE,
    };

    pub(super) const fn is_none(self) -> bool {
        self.attr.is_none()
    }
}

/// What export policy has decided, so that the rules of the session kind don't undo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Flags(u16);

impl Flags {
    const NEXT_HOP_SET: u16 = 1;
    const MED_SET: u16 = 2;
    /// The next hop is not our own address: it may be that of a member of the group.
    const NEXT_HOP_KEPT: u16 = 4;

    pub(super) const fn keeps_next_hop(self) -> bool {
        self.has(Self::NEXT_HOP_KEPT)
    }

    fn of<'a>(actions: impl Iterator<Item = &'a Action>) -> Self {
        let mut flags = 0;
        for action in actions {
            if action.sets_next_hop() {
                flags |= Self::NEXT_HOP_SET;
            }
            if action.sets_med() {
                flags |= Self::MED_SET;
            }
        }
        Self(flags)
    }

    const fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }
}

/// One session family as a target of exports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) config: &'a RibConfig,
    pub(super) session: &'a RibSession,
    pub(super) settings: &'a FamilySession,
}

impl Target<'_> {
    /// Whether a best path is sent, and what policy made of it (`None`: there is no policy).
    pub(super) fn judge(
        &self,
        prefix: Prefix,
        attributes: &Attributes,
        source: &Source,
    ) -> Result<Option<Outcome>, ExportStatus> {
        let kind = self.session.kind;
        if let (
            PeerKind::Internal { client },
            Some(PeerKind::Internal {
                client: from_client,
            }),
        ) = (kind, source.kind())
            && !client
            && !from_client
        {
            return Err(ExportStatus::NotReflected);
        }
        // RFC 1997 speaks of received routes: on our own ones these communities are meant for the neighbour.
        if source.peer.is_some() && forbids(&attributes.communities, kind) {
            return Err(ExportStatus::WellKnownCommunity);
        }
        if prefix.is_default() && !self.settings.default_route_out {
            return Err(ExportStatus::DefaultRoute);
        }
        let outcome = match &self.settings.export {
            None if kind == PeerKind::External => return Err(ExportStatus::NoPolicy),
            None => None,
            Some(policy) => {
                let outcome = self.evaluate(policy, prefix, attributes, source);
                if outcome.verdict == Verdict::Reject {
                    return Err(ExportStatus::Rejected(rule_name(policy, &outcome)));
                }
                Some(outcome)
            }
        };
        let set = outcome
            .as_ref()
            .is_some_and(|outcome| self.flags(outcome).has(Flags::NEXT_HOP_SET));
        if !set
            && self.needs_self(attributes.next_hop, source)
            && self_next_hop(self.session, prefix.family()).is_none()
        {
            return Err(ExportStatus::NoNextHop);
        }
        Ok(outcome)
    }

    /// The same, ready to be kept: `None` if nothing is sent. Holds one reference on the attributes.
    pub(super) fn export(
        &self,
        prefix: Prefix,
        attr: AttrId,
        (source_id, source): (SourceId, &Source),
        store: &mut AttributeStore,
        next_hops: &mut super::next_hop::NextHops,
    ) -> Option<Advertisement> {
        let outcome = self.judge(prefix, store.attributes(attr), source).ok()?;
        let kept = |flags: Flags, attributes: &Attributes| {
            let set = flags.has(Flags::NEXT_HOP_SET);
            let kept = set || !self.needs_self(attributes.next_hop, source);
            Flags(flags.0 | if kept { Flags::NEXT_HOP_KEPT } else { 0 })
        };
        let (Some(outcome), Some(policy)) = (outcome, &self.settings.export) else {
            store.retain(attr, 1);
            return Some(Advertisement {
                source: source_id,
                flags: kept(Flags(0), store.attributes(attr)),
                attr,
            });
        };
        let flags = self.flags(&outcome);
        if outcome.is_unchanged() {
            store.retain(attr, 1);
            return Some(Advertisement {
                source: source_id,
                flags: kept(flags, store.attributes(attr)),
                attr,
            });
        }
        let mut attributes = store.attributes(attr).clone();
        policy.apply(
            &outcome,
            &mut attributes,
            prefix.family(),
            &self.context(prefix.family()),
        );
        let flags = kept(flags, &attributes);
        let attr = if attributes == *store.attributes(attr) {
            store.retain(attr, 1);
            attr
        } else {
            let link = store.link(attr);
            store.intern(attributes, link, AttrId::NONE, next_hops)
        };
        Some(Advertisement {
            source: source_id,
            flags,
            attr,
        })
    }

    /// The attributes as they go to the wire.
    pub(super) fn wire_attributes(
        &self,
        advertisement: Advertisement,
        family: Family,
        source: &Source,
        store: &AttributeStore,
    ) -> Attributes {
        let mut attributes = store.attributes(advertisement.attr).clone();
        let flags = advertisement.flags;
        if !flags.has(Flags::NEXT_HOP_SET) && self.needs_self(attributes.next_hop, source) {
            if let Some(next_hop) = self_next_hop(self.session, family) {
                attributes.next_hop = next_hop;
            }
        } else if !flags.has(Flags::NEXT_HOP_SET) {
            let link = store.link(advertisement.attr);
            if !self.shares_link(attributes.next_hop, link) {
                attributes.next_hop = without_link_local(attributes.next_hop);
            }
        }
        match self.session.kind {
            PeerKind::External => {
                // RFC 4271 5.1.4: what came from another AS is not told to a third one.
                let ours = source.peer.is_none() || attributes.as_path.is_empty();
                if !ours && !flags.has(Flags::MED_SET) {
                    attributes.med = None;
                }
                attributes.as_path = attributes
                    .as_path
                    .without_confederation()
                    .prepend(self.session.local_asn, 1);
                super::import::strip_internal(&mut attributes);
                strip_non_transitive(&mut attributes);
            }
            PeerKind::Confederation => {
                attributes.as_path = attributes
                    .as_path
                    .prepend_confederation(self.session.local_asn);
                attributes
                    .local_pref
                    .get_or_insert(self.config.default_local_pref);
                // RFC 4456 8: reflection ends at the border of the AS.
                super::import::strip_reflection(&mut attributes);
            }
            PeerKind::Internal { .. } => {
                attributes
                    .local_pref
                    .get_or_insert(self.config.default_local_pref);
                if let (Some(PeerKind::Internal { .. }), Some(session)) =
                    (source.kind(), &source.session)
                {
                    // RFC 4456 8.
                    let rare = attributes.rare.get_or_insert_default();
                    rare.originator_id.get_or_insert(session.remote_router_id);
                    let mut clusters = vec![cluster_id(self.config)];
                    clusters.extend(&rare.cluster_list);
                    rare.cluster_list = clusters.into();
                }
            }
        }
        attributes
    }

    fn evaluate(
        &self,
        policy: &policy::Policy,
        prefix: Prefix,
        attributes: &Attributes,
        source: &Source,
    ) -> Outcome {
        let peer = match self.session.kind {
            PeerKind::External => PeerType::External,
            PeerKind::Confederation | PeerKind::Internal { .. } => PeerType::Internal,
        };
        let source = match source.kind() {
            None => RouteSource::Local,
            Some(PeerKind::External) => RouteSource::External,
            Some(PeerKind::Confederation | PeerKind::Internal { .. }) => RouteSource::Internal,
        };
        let subject = Subject::new(prefix, peer, source);
        policy.evaluate(attributes, &subject, &self.context(prefix.family()))
    }

    fn context(&self, family: Family) -> policy::Session {
        policy::Session {
            local_asn: self.session.local_asn,
            self_next_hop: self_next_hop(self.session, family),
        }
    }

    fn flags(&self, outcome: &Outcome) -> Flags {
        match &self.settings.export {
            Some(policy) => Flags::of(policy.applied(outcome).flat_map(|rule| &rule.actions)),
            None => Flags(0),
        }
    }

    /// Whether the own address is the next hop (RFC 4271 5.1.3), unless policy says otherwise.
    fn needs_self(&self, next_hop: NextHop, source: &Source) -> bool {
        if source.peer.is_none() && is_unspecified(next_hop) {
            return true;
        }
        // A link-local address means nothing beyond its link.
        if is_link_local(next_hop) {
            return true;
        }
        let reflected = matches!(self.session.kind, PeerKind::Internal { .. })
            && matches!(source.kind(), Some(PeerKind::Internal { .. }));
        match self.settings.next_hop {
            NextHopMode::Default => self.session.kind == PeerKind::External,
            NextHopMode::SelfAddress => !reflected,
            NextHopMode::Unchanged => false,
            NextHopMode::ThirdParty => {
                self.session.kind == PeerKind::External && !self.shares_subnet(next_hop)
            }
        }
    }

    /// Whether the next hop is on a subnet that we share with this directly connected peer (RFC 4271 5.1.3).
    fn shares_subnet(&self, next_hop: NextHop) -> bool {
        let addr = super::import::global(next_hop);
        let host = Prefix::new(addr, if addr.is_ipv4() { 32 } else { 128 });
        let subnets = self.session.subnets.iter();
        self.session.link.is_some()
            && host.is_some_and(|host| subnets.clone().any(|subnet| subnet.covers(host)))
    }

    /// RFC 2545 3: a link-local next hop goes along if, and only if, the speaker, the peer and the next hop are on one link.
    fn shares_link(&self, next_hop: NextHop, link: Option<u32>) -> bool {
        link.is_some() && link == self.session.link && self.shares_subnet(next_hop)
    }
}

/// What "self" means as next hop of a family on this session; `None` if no address of ours fits.
pub(super) fn self_next_hop(session: &RibSession, family: Family) -> Option<NextHop> {
    match family {
        Family::Ipv4Unicast => match session.local_addr {
            IpAddr::V4(addr) => Some(NextHop::V4(addr)),
            IpAddr::V6(_) => session.local_ipv4.map(NextHop::V4),
        },
        Family::Ipv6Unicast => {
            let global = match session.local_addr {
                IpAddr::V6(addr) if !addr.is_unicast_link_local() => Some(addr),
                _ => session.local_ipv6,
            };
            let link_local = session.local_link_local.or(match session.local_addr {
                IpAddr::V6(addr) if addr.is_unicast_link_local() => Some(addr),
                _ => None,
            });
            match (global, link_local) {
                (Some(global), Some(link_local)) if session.link.is_some() => {
                    Some(NextHop::V6LinkLocal { global, link_local })
                }
                (Some(global), _) => Some(NextHop::V6(global)),
                (None, Some(link_local)) => Some(NextHop::V6(link_local)),
                (None, None) => None,
            }
        }
    }
}

/// The rule that decided, by name.
pub(super) fn rule_name(policy: &policy::Policy, outcome: &Outcome) -> RuleName {
    let rule = outcome
        .decided_by
        .and_then(|index| policy.rules().get(usize::from(index)));
    RuleName {
        policy: policy.name().into(),
        rule: rule.map(|rule| rule.name.clone()),
        reason: rule.and_then(|rule| rule.reason.clone()),
    }
}

/// NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED (RFC 1997); NO_EXPORT ends at the border of a confederation.
fn forbids(communities: &[Community], kind: PeerKind) -> bool {
    communities.iter().any(|&community| match community {
        Community::NO_ADVERTISE => true,
        Community::NO_EXPORT => kind == PeerKind::External,
        Community::NO_EXPORT_SUBCONFED => {
            matches!(kind, PeerKind::External | PeerKind::Confederation)
        }
        _ => false,
    })
}

fn is_unspecified(next_hop: NextHop) -> bool {
    match next_hop {
        NextHop::V4(addr) => addr.is_unspecified(),
        NextHop::V6(addr) | NextHop::V6LinkLocal { global: addr, .. } => addr.is_unspecified(),
    }
}

/// The link-local address of a next hop is only for the link it was told on (RFC 2545 3).
fn without_link_local(next_hop: NextHop) -> NextHop {
    match next_hop {
        NextHop::V6LinkLocal { global, .. } => NextHop::V6(global),
        other => other,
    }
}

/// Extended communities with the non-transitive bit stay in their AS (RFC 4360 2).
fn strip_non_transitive(attributes: &mut Attributes) {
    const NON_TRANSITIVE: u8 = 0x40;
    let Some(rare) = &mut attributes.rare else {
        return;
    };
    if rare
        .extended_communities
        .iter()
        .any(|community| community.0[0] & NON_TRANSITIVE != 0)
    {
        let kept = rare.extended_communities.iter().copied();
        rare.extended_communities = kept
            .filter(|community| community.0[0] & NON_TRANSITIVE == 0)
            .collect();
        if **rare == crate::wire::RareAttributes::default() {
            attributes.rare = None;
        }
    }
}
