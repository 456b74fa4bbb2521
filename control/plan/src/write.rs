//! Entries of maps, one by one; a batch of them becomes [`Op`]s.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use causeway_maps::catalogue::{
    CONFIG, FLAT4_ROOTS, FLAT4_TABLE, GROUPS, NEXT_HOPS, PODS4, PODS6, PORTS, ROUTES4, ROUTES6,
    TX_PORTS, VLANS,
};
use causeway_maps::{
    Config, Group, GroupId, NextHop, NextHopId, Port, RouteKey4, RouteKey6, VlanKey,
};

use crate::flat::FlatWrite;
use crate::op::Op;

/// Sets an entry (`Some`), or removes it (`None`; entries of arrays become zero).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// The one entry of `config`.
    Config(Config),
    /// `ports`, `tx_ports` and `vlans`.
    Port {
        /// Interface.
        ifindex: u32,
        /// Entry.
        port: Option<Port>,
        /// Where its frames leave by, if that is to be set, or removed.
        tx: Option<u32>,
        /// The tag by which it is known, if that is to be set, or removed.
        vlan: Option<VlanKey>,
    },
    /// Removes an entry of `vlans`.
    StrayVlan(VlanKey),
    /// `next_hops`.
    NextHop {
        /// Slot.
        id: NextHopId,
        /// Entry.
        next_hop: Option<NextHop>,
    },
    /// `groups`.
    Group {
        /// Slot.
        id: GroupId,
        /// Entry; boxed, because it is ten times larger than a route's.
        group: Option<Box<Group>>,
    },
    /// `routes4`.
    Route4 {
        /// Prefix.
        key: RouteKey4,
        /// Group it points to.
        group: Option<GroupId>,
    },
    /// `routes6`.
    Route6 {
        /// Prefix.
        key: RouteKey6,
        /// Group it points to.
        group: Option<GroupId>,
    },
    /// `pods4`.
    Pod4(u32, GroupId),
    /// `pods6`.
    Pod6(u32, GroupId),
    /// `flat4_roots` and `flat4`.
    Flat4(FlatWrite),
}

impl Write {
    /// What it touches.
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Config(_) => Key::Config,
            Self::Port { ifindex, .. } => Key::Port(*ifindex),
            Self::NextHop { id, .. } => Key::NextHop(*id),
            Self::Group { id, .. } => Key::Group(*id),
            Self::Route4 { key, .. } => Key::Route4(*key),
            Self::Route6 { key, .. } => Key::Route6(*key),
            Self::StrayVlan(key) => Key::Vlan(*key),
            Self::Pod4(index, _) => Key::Pod4(*index),
            Self::Pod6(index, _) => Key::Pod6(*index),
            Self::Flat4(FlatWrite::Row(octets, _)) => Key::Flat4Row(*octets),
            Self::Flat4(FlatWrite::Root(octet, _) | FlatWrite::Drop(octet)) => {
                Key::Flat4Root(*octet)
            }
        }
    }
}

/// An entry of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The one entry of `config`.
    Config,
    /// `ports`, `tx_ports` and `vlans`: an interface.
    Port(u32),
    /// `vlans`: a tag that belongs to no interface.
    Vlan(VlanKey),
    /// `next_hops`.
    NextHop(NextHopId),
    /// `groups`.
    Group(GroupId),
    /// `routes4`.
    Route4(RouteKey4),
    /// `routes6`.
    Route6(RouteKey6),
    /// `pods4`.
    Pod4(u32),
    /// `pods6`.
    Pod6(u32),
    /// `flat4_roots`, by first octet.
    Flat4Root(u8),
    /// A row of a table in `flat4`, by the first two octets.
    Flat4Row([u8; 2]),
}

impl Key {
    /// The entry that `key`, as bytes in host order, names in the map called `map`; `None` for another map.
    #[must_use]
    pub fn from_map(map: &str, key: &[u8]) -> Option<Self> {
        let index = || bytemuck::try_pod_read_unaligned::<u32>(key).ok();
        match map {
            _ if map == CONFIG.name => Some(Self::Config),
            _ if map == PORTS.name || map == TX_PORTS.name => index().map(Self::Port),
            _ if map == NEXT_HOPS.name => index().map(|id| Self::NextHop(NextHopId(id))),
            _ if map == GROUPS.name => index().map(|id| Self::Group(GroupId(id))),
            _ if map == ROUTES4.name => {
                bytemuck::try_pod_read_unaligned(key).ok().map(Self::Route4)
            }
            _ if map == ROUTES6.name => {
                bytemuck::try_pod_read_unaligned(key).ok().map(Self::Route6)
            }
            _ if map == VLANS.name => bytemuck::try_pod_read_unaligned(key).ok().map(Self::Vlan),
            _ if map == PODS4.name => index().map(Self::Pod4),
            _ if map == PODS6.name => index().map(Self::Pod6),
            _ if map == FLAT4_ROOTS.name => Some(Self::Flat4Root(index()?.try_into().ok()?)),
            _ if map == FLAT4_TABLE.name => Some(Self::Flat4Row(key.try_into().ok()?)),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Port(ifindex) => write!(f, "port {ifindex}"),
            Self::Vlan(key) => write!(f, "VLAN {} on interface {}", key.vid, key.parent),
            Self::Pod4(index) => write!(f, "block {index} of the pods' IPv4 addresses"),
            Self::Pod6(index) => write!(f, "block {index} of the pods' IPv6 addresses"),
            Self::Flat4Root(octet) => write!(f, "flat table of {octet}.0.0.0/8"),
            Self::Flat4Row([a, b]) => write!(f, "flat table, row of {a}.{b}.0.0/16"),
            Self::NextHop(id) => write!(f, "next hop {}", id.0),
            Self::Group(id) => write!(f, "group {}", id.0),
            Self::Route4(key) => {
                let addr = IpAddr::V4(Ipv4Addr::from(key.addr));
                write!(f, "route {addr}/{}", key.prefix_len)
            }
            Self::Route6(key) => {
                let addr = IpAddr::V6(Ipv6Addr::from(key.addr));
                write!(f, "route {addr}/{}", key.prefix_len)
            }
        }
    }
}

/// Operations to be applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Counts up from 1; goes back by [`crate::Planner::ack`].
    pub generation: u64,
    /// At least one.
    pub ops: Vec<Op>,
}

/// The operations for `writes`, in their order; neighbouring routes go together.
pub(crate) fn lower(writes: Vec<Write>) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    for write in writes {
        match write {
            Write::Config(config) => ops.push(Op::PutConfig(config)),
            Write::Port {
                ifindex,
                port: Some(port),
                tx,
                vlan,
            } => {
                ops.extend(tx.map(Op::PutTxPort));
                ops.push(Op::PutPort(ifindex, port));
                ops.extend(vlan.map(|key| Op::PutVlan(key, ifindex)));
            }
            Write::Port {
                ifindex,
                port: None,
                tx,
                vlan,
            } => {
                ops.extend(vlan.map(Op::ClearVlan));
                ops.push(Op::ClearPort(ifindex));
                ops.extend(tx.map(Op::ClearTxPort));
            }
            Write::StrayVlan(key) => ops.push(Op::ClearVlan(key)),
            Write::Pod4(index, group) => match ops.last_mut() {
                Some(Op::PutPods4(entries)) => entries.push((index, group)),
                _ => ops.push(Op::PutPods4(vec![(index, group)])),
            },
            Write::Pod6(index, group) => match ops.last_mut() {
                Some(Op::PutPods6(entries)) => entries.push((index, group)),
                _ => ops.push(Op::PutPods6(vec![(index, group)])),
            },
            Write::Flat4(FlatWrite::Root(octet, root)) => match ops.last_mut() {
                Some(Op::PutFlat4Roots(roots)) => roots.push((octet, root)),
                _ => ops.push(Op::PutFlat4Roots(vec![(octet, root)])),
            },
            Write::Flat4(FlatWrite::Row(octets, row)) => match ops.last_mut() {
                Some(Op::PutFlat4Rows(rows)) => rows.push((octets, row)),
                _ => ops.push(Op::PutFlat4Rows(vec![(octets, row)])),
            },
            Write::Flat4(FlatWrite::Drop(octet)) => ops.push(Op::DropFlat4(octet)),
            Write::NextHop { id, next_hop } => ops.push(match next_hop {
                Some(next_hop) => Op::PutNextHop(id, next_hop),
                None => Op::ClearNextHop(id),
            }),
            Write::Group { id, group } => ops.push(match group {
                Some(group) => Op::PutGroup(id, group),
                None => Op::ClearGroup(id),
            }),
            Write::Route4 {
                key,
                group: Some(group),
            } => match ops.last_mut() {
                Some(Op::PutRoutes4(routes)) => routes.push((key, group)),
                _ => ops.push(Op::PutRoutes4(vec![(key, group)])),
            },
            Write::Route4 { key, group: None } => match ops.last_mut() {
                Some(Op::DeleteRoutes4(keys)) => keys.push(key),
                _ => ops.push(Op::DeleteRoutes4(vec![key])),
            },
            Write::Route6 {
                key,
                group: Some(group),
            } => match ops.last_mut() {
                Some(Op::PutRoutes6(routes)) => routes.push((key, group)),
                _ => ops.push(Op::PutRoutes6(vec![(key, group)])),
            },
            Write::Route6 { key, group: None } => match ops.last_mut() {
                Some(Op::DeleteRoutes6(keys)) => keys.push(key),
                _ => ops.push(Op::DeleteRoutes6(vec![key])),
            },
        }
    }
    ops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_routes_go_together_and_order_is_kept() {
        let route = |n: u8, group: Option<u32>| Write::Route4 {
            key: RouteKey4 {
                prefix_len: 32,
                addr: [10, 0, 0, n],
            },
            group: group.map(GroupId),
        };
        let ops = lower(vec![
            route(1, Some(2)),
            route(2, Some(3)),
            route(3, None),
            route(4, Some(2)),
        ]);
        assert!(
            matches!(&ops[..], [Op::PutRoutes4(a), Op::DeleteRoutes4(b), Op::PutRoutes4(c)]
            if a.len() == 2 && b.len() == 1 && c.len() == 1)
        );
    }

    #[test]
    fn a_key_is_known_by_its_map_and_bytes() {
        let key = RouteKey4 {
            prefix_len: 8,
            addr: [10, 0, 0, 0],
        };
        assert_eq!(
            Key::from_map("routes4", bytemuck::bytes_of(&key)),
            Some(Key::Route4(key))
        );
        assert_eq!(
            Key::from_map("tx_ports", &7_u32.to_ne_bytes()),
            Some(Key::Port(7))
        );
        assert_eq!(Key::from_map("routes4", &[0; 7]), None);
        assert_eq!(Key::from_map("layout", &[0; 4]), None);
        assert_eq!(Key::Route4(key).to_string(), "route 10.0.0.0/8");
    }
}
