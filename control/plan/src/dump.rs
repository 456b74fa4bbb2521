//! What the maps hold, as read back.

use std::collections::BTreeMap;

use causeway_maps::{
    Config, Flat4Block, Flat4Root, Group, GroupId, NextHop, NextHopId, Port, RouteKey4, RouteKey6,
    VlanKey, flat4_mode,
};

use crate::op::Op;
use crate::write::Key;

/// The contents of the maps, entries of arrays that are all zero left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// `config`.
    pub config: Option<Config>,
    /// `ports`, by interface index.
    pub ports: BTreeMap<u32, Port>,
    /// Interfaces in `tx_ports`, ascending.
    pub tx_ports: Vec<u32>,
    /// `next_hops`.
    pub next_hops: BTreeMap<NextHopId, NextHop>,
    /// `groups`.
    pub groups: BTreeMap<GroupId, Group>,
    /// `routes4`.
    pub routes4: BTreeMap<RouteKey4, GroupId>,
    /// `routes6`.
    pub routes6: BTreeMap<RouteKey6, GroupId>,
    /// `vlans`: interfaces by tag.
    pub vlans: BTreeMap<VlanKey, u32>,
    /// `pods4`, by block.
    pub pods4: BTreeMap<u32, GroupId>,
    /// `pods6`, by block.
    pub pods6: BTreeMap<u32, GroupId>,
    /// `flat4_roots`, by first octet.
    pub flat4_roots: BTreeMap<u8, Flat4Root>,
    /// The tables in `flat4`, by first and second octet.
    pub flat4: BTreeMap<[u8; 2], Box<Flat4Block>>,
}

impl Dump {
    /// Changes it as `op` changes the maps.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::PutConfig(config) => self.config = Some(*config),
            Op::PutPort(ifindex, port) => put(&mut self.ports, *ifindex, Some(*port)),
            Op::ClearPort(ifindex) => put(&mut self.ports, *ifindex, None),
            Op::PutTxPort(ifindex) => {
                if let Err(at) = self.tx_ports.binary_search(ifindex) {
                    self.tx_ports.insert(at, *ifindex);
                }
            }
            Op::ClearTxPort(ifindex) => self.tx_ports.retain(|other| other != ifindex),
            Op::PutNextHop(id, next_hop) => put(&mut self.next_hops, *id, Some(*next_hop)),
            Op::ClearNextHop(id) => put(&mut self.next_hops, *id, None),
            Op::PutGroup(id, group) => put(&mut self.groups, *id, Some(**group)),
            Op::ClearGroup(id) => put(&mut self.groups, *id, None),
            Op::PutRoutes4(routes) => self.routes4.extend(routes.iter().copied()),
            Op::DeleteRoutes4(keys) => remove(&mut self.routes4, keys),
            Op::PutRoutes6(routes) => self.routes6.extend(routes.iter().copied()),
            Op::DeleteRoutes6(keys) => remove(&mut self.routes6, keys),
            Op::PutVlan(key, ifindex) => put(&mut self.vlans, *key, Some(*ifindex)),
            Op::ClearVlan(key) => put(&mut self.vlans, *key, None),
            Op::PutPods4(entries) => put_slots(&mut self.pods4, entries, GroupId::NONE),
            Op::PutPods6(entries) => put_slots(&mut self.pods6, entries, GroupId::NONE),
            Op::PutFlat4Roots(roots) => {
                let zero = bytemuck::Zeroable::zeroed();
                put_slots(&mut self.flat4_roots, roots, zero);
            }
            Op::PutFlat4Rows(rows) => self.flat4.extend(rows.iter().cloned()),
            Op::DropFlat4(octet) => self.flat4.retain(|[first, _], _| first != octet),
        }
    }

    /// How `self`, the intent, and `found` differ; at most `max` differences.
    #[must_use]
    pub fn differences(&self, found: &Self, max: usize) -> Vec<Difference> {
        let mut out = Vec::new();
        if self.config.is_some() && self.config != found.config {
            out.push(Difference::Other(Key::Config));
        }
        // A port is one entry for the planner: its maps are repaired together.
        let pairs = |dump: &Self| -> BTreeMap<u32, (Option<Port>, bool)> {
            let ports = dump.ports.keys().chain(&dump.tx_ports);
            ports
                .map(|i| (*i, (dump.ports.get(i).copied(), dump.tx_ports.contains(i))))
                .collect()
        };
        compare(
            &pairs(self),
            &pairs(found),
            |k| Key::Port(*k),
            max,
            &mut out,
        );
        compare(
            &self.next_hops,
            &found.next_hops,
            |k| Key::NextHop(*k),
            max,
            &mut out,
        );
        // An empty group is all zeros, like a slot that is not in use.
        let groups = |dump: &Self| -> BTreeMap<GroupId, Group> {
            let groups = dump.groups.iter();
            groups
                .filter(|(_, group)| group.member_count > 0)
                .map(|(id, group)| (*id, *group))
                .collect()
        };
        compare(
            &groups(self),
            &groups(found),
            |k| Key::Group(*k),
            max,
            &mut out,
        );
        compare(
            &self.routes4,
            &found.routes4,
            |k| Key::Route4(*k),
            max,
            &mut out,
        );
        compare(
            &self.routes6,
            &found.routes6,
            |k| Key::Route6(*k),
            max,
            &mut out,
        );
        compare(&self.vlans, &found.vlans, |k| Key::Vlan(*k), max, &mut out);
        compare(&self.pods4, &found.pods4, |k| Key::Pod4(*k), max, &mut out);
        compare(&self.pods6, &found.pods6, |k| Key::Pod6(*k), max, &mut out);
        compare(
            &self.flat4_roots,
            &found.flat4_roots,
            |k| Key::Flat4Root(*k),
            max,
            &mut out,
        );
        // Tables that are not looked up may hold anything.
        let read = |dump: &Self| -> BTreeMap<[u8; 2], Box<Flat4Block>> {
            let table = |octet| {
                let root = self.flat4_roots.get(octet);
                root.is_some_and(|root| root.mode == flat4_mode::TABLE)
            };
            let rows = dump.flat4.iter();
            rows.filter(|([octet, _], _)| table(octet))
                .map(|(octets, row)| (*octets, row.clone()))
                .collect()
        };
        compare(
            &read(self),
            &read(found),
            |k| Key::Flat4Row(*k),
            max,
            &mut out,
        );
        out.truncate(max);
        out
    }
}

/// An entry that is not as intended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Intended and not there.
    Missing(Key),
    /// There and not intended.
    Unexpected(Key),
    /// There with another value.
    Other(Key),
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// Entries of an array: a zero is nothing.
fn put_slots<K: Ord + Copy, V: Copy + PartialEq>(
    map: &mut BTreeMap<K, V>,
    entries: &[(K, V)],
    zero: V,
) {
    for (key, value) in entries {
        put(map, *key, (*value != zero).then_some(*value));
    }
}

fn remove<K: Ord, V>(map: &mut BTreeMap<K, V>, keys: &[K]) {
    for key in keys {
        map.remove(key);
    }
}

fn compare<K: Ord, V: PartialEq>(
    wanted: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    key: impl Fn(&K) -> Key,
    max: usize,
    out: &mut Vec<Difference>,
) {
    for (k, value) in wanted {
        if out.len() >= max {
            return;
        }
        match found.get(k) {
            None => out.push(Difference::Missing(key(k))),
            Some(other) if other != value => out.push(Difference::Other(key(k))),
            Some(_) => {}
        }
    }
    for k in found.keys().filter(|k| !wanted.contains_key(k)) {
        if out.len() >= max {
            return;
        }
        out.push(Difference::Unexpected(key(k)));
    }
}
