//! Which members of an update group an advertisement is for: all but the peer that it came from and the peer that its next
//! hop names.
//!
//! RFC 4271 5.1.3: "a route ... SHALL NOT be advertised to a peer using an address of that peer as NEXT_HOP". Such a route
//! is not sent to that peer at all. Our own address in its place would be allowed, and would make the peer send us what we
//! send back to it.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::attributes::AttributeStore;
use super::export::Advertisement;
use super::source::Sources;
use crate::types::PeerId;
use crate::wire::NextHop;

/// Members by their address.
pub(super) type NamedPeers = BTreeMap<IpAddr, PeerId>;

/// What an advertisement refers to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) sources: &'a Sources,
    pub(super) store: &'a AttributeStore,
}

impl<'a> Facts<'a> {
    pub(super) const fn audience(self, named: &'a NamedPeers) -> Audience<'a> {
        Audience { facts: self, named }
    }

    /// The addresses that an advertisement names as next hop, other than that of the peer it came from.
    pub(super) fn names(self, advertisement: Advertisement) -> [Option<IpAddr>; 2] {
        if advertisement.is_none() || !advertisement.flags.keeps_next_hop() {
            return [None; 2];
        }
        let session = self.sources.of(advertisement.source).session.as_ref();
        let from = session.map(|session| session.remote_addr);
        let names = match self.store.attributes(advertisement.attr).next_hop {
            NextHop::V4(addr) => [Some(addr.into()), None],
            NextHop::V6(addr) => [Some(addr.into()), None],
            NextHop::V6LinkLocal { global, link_local } => {
                [Some(global.into()), Some(link_local.into())]
            }
        };
        names.map(|name| name.filter(|name| Some(*name) != from))
    }
}

/// The members of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience<'a> {
    facts: Facts<'a>,
    named: &'a NamedPeers,
}

impl Audience<'_> {
    /// Whether there is something for this member.
    pub(super) fn includes(self, advertisement: Advertisement, peer: PeerId) -> bool {
        !advertisement.is_none() && !self.excluded(advertisement).contains(&Some(peer))
    }

    /// The peers that it is not for.
    pub(super) fn excluded(self, advertisement: Advertisement) -> [Option<PeerId>; 2] {
        if advertisement.is_none() {
            return [None; 2];
        }
        [
            self.facts.sources.peer(advertisement.source),
            self.named(advertisement),
        ]
    }

    /// The member that the next hop names, if it isn't the one that the path came from.
    pub(super) fn named(self, advertisement: Advertisement) -> Option<PeerId> {
        let names = self.facts.names(advertisement);
        let mut members = names.iter().flatten();
        members.find_map(|name| self.named.get(name).copied())
    }
}
