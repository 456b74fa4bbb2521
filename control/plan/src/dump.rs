//! What the maps hold, as read back.

use std::collections::BTreeMap;

use causeway_maps::{Config, Group, GroupId, NextHop, NextHopId, Port, RouteKey4, RouteKey6};

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
        }
    }

    /// How `self`, the intent, and `found` differ; at most `max` differences.
    #[must_use]
    pub fn differences(&self, found: &Self, max: usize) -> Vec<Difference> {
        let mut out = Vec::new();
        if self.config.is_some() && self.config != found.config {
            out.push(Difference::Other(Key::Config));
        }
        // A port is one entry for the planner: both of its maps are repaired together.
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
