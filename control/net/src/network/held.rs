//! The facts held, and what a next hop on a link resolves to by them.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::Overflow;
use crate::config::{NetworkConfig, PortRole};
use crate::facts::{Address, Fact, Link, LinkKind, Neighbour, NeighbourState};
use crate::resolve::{Adjacency, Delivery, NextHopKey, Resolution, Unusable};

/// What was learned, bounded.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) addresses: BTreeSet<Address>,
    pub(super) neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    /// Neighbours that were asked and did not answer; while they are asked again they are not there either.
    pub(super) failed: BTreeSet<(u32, IpAddr)>,
}

impl Facts {
    pub(super) fn apply(&mut self, fact: Fact, limits: &crate::Limits, refused: &mut Overflow) {
        match fact {
            Fact::Link(link) => {
                if !link.usable() {
                    self.failed.retain(|(ifindex, _)| *ifindex != link.ifindex);
                }
                if room(&self.links, &link.ifindex, limits.max_links) {
                    self.links.insert(link.ifindex, link);
                } else {
                    refused.links += 1;
                }
            }
            Fact::LinkGone { ifindex } => {
                self.links.remove(&ifindex);
                self.addresses.retain(|address| address.ifindex != ifindex);
                self.neighbours.retain(|(link, _), _| *link != ifindex);
                self.failed.retain(|(link, _)| *link != ifindex);
            }
            Fact::Address(address) => {
                if self.addresses.contains(&address) || self.addresses.len() < limits.max_addresses
                {
                    self.addresses.insert(address);
                } else {
                    refused.addresses += 1;
                }
            }
            Fact::AddressGone(address) => {
                self.addresses.remove(&address);
            }
            Fact::Neighbour(neighbour) => {
                if neighbour.addr.is_multicast() {
                    return;
                }
                let key = (neighbour.ifindex, neighbour.addr);
                if neighbour.resolved().is_some() {
                    self.failed.remove(&key);
                } else if neighbour.state == NeighbourState::Failed
                    && self.failed.len() < limits.max_neighbours
                {
                    self.failed.insert(key);
                }
                if room(&self.neighbours, &key, limits.max_neighbours) {
                    self.neighbours.insert(key, neighbour);
                } else {
                    refused.neighbours += 1;
                }
            }
            Fact::NeighbourGone { ifindex, addr } => {
                self.neighbours.remove(&(ifindex, addr));
            }
        }
    }

    pub(super) fn resolve(
        &self,
        config: &NetworkConfig,
        key: NextHopKey,
    ) -> Result<Resolution, Unusable> {
        if self.is_own(key) {
            return Err(Unusable::OwnAddress);
        }
        let ifindex = match key.link {
            Some(ifindex) => ifindex,
            None if is_link_local(key.addr) => return Err(Unusable::LinkMissing),
            None => {
                let connected = self.connected(key.addr);
                connected.ok_or(Unusable::NotConnected)?.ifindex
            }
        };
        let link = self.links.get(&ifindex).ok_or(Unusable::LinkUnknown)?;
        if !link.up {
            return Err(Unusable::LinkDown);
        }
        if !link.carrier {
            return Err(Unusable::NoCarrier);
        }
        let role = config
            .role(&link.name)
            .ok_or(Unusable::NotAPort { ifindex })?;
        let src_mac = link.mac.ok_or(Unusable::NoEthernet)?;
        let neighbour = self.neighbours.get(&(ifindex, key.addr));
        let resolved = neighbour.and_then(Neighbour::resolved);
        if resolved.is_none() && self.failed.contains(&(ifindex, key.addr)) {
            return Err(Unusable::NeighbourFailed { ifindex });
        }
        Ok(match resolved {
            Some(dst_mac) => Resolution::Resolved(Adjacency {
                ifindex,
                src_mac,
                dst_mac,
                mtu: link.mtu,
                tx_ifindex: tx(link).0,
                vlan: tx(link).1,
                delivery: delivery(link, role),
            }),
            None => Resolution::Pending {
                ifindex,
                src_mac,
                mtu: link.mtu,
            },
        })
    }

    /// Whether it is an address of this node.
    pub(super) fn is_own(&self, key: NextHopKey) -> bool {
        self.addresses.iter().any(|address| {
            address.addr == key.addr && key.link.is_none_or(|link| link == address.ifindex)
        })
    }

    /// The interface whose subnet holds `addr`: a usable link before another, then the longest, then the lowest index.
    pub(super) fn connected(&self, addr: IpAddr) -> Option<Connected> {
        let usable = |ifindex: u32| -> bool { self.links.get(&ifindex).is_some_and(Link::usable) };
        self.addresses
            .iter()
            .filter(|address| address.subnet.contains(addr))
            .map(|address| Connected {
                usable: usable(address.ifindex),
                len: address.subnet.len(),
                ifindex: address.ifindex,
            })
            .max_by_key(|found| (found.usable, found.len, core::cmp::Reverse(found.ifindex)))
    }
}

/// A link whose subnet holds an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connected {
    pub(super) usable: bool,
    pub(super) len: u8,
    pub(super) ifindex: u32,
}

fn room<K: Ord, V>(map: &BTreeMap<K, V>, key: &K, max: usize) -> bool {
    map.len() < max || map.contains_key(key)
}

/// Where XDP sends what leaves by `link`, and with which tag.
fn tx(link: &Link) -> (u32, u16) {
    match link.kind {
        LinkKind::Vlan { parent, vid } => (parent, vid),
        LinkKind::Plain | LinkKind::Veth { .. } => (link.ifindex, 0),
    }
}

fn delivery(link: &Link, role: PortRole) -> Delivery {
    let peer = LinkKind::Veth {
        peer_elsewhere: true,
    };
    match role {
        PortRole::Pod if link.kind == peer => Delivery::Peer,
        PortRole::Pod => Delivery::Local,
        PortRole::Uplink | PortRole::Access => Delivery::Wire,
    }
}

pub(super) fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}
