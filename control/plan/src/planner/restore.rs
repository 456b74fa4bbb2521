//! After a restart: what the maps hold is taken over, so that forwarding goes on, and pruned once intent is known.

use causeway_bgp::types::{AddressFamily, Prefix4, Prefix6};
use causeway_maps::{Group, GroupId, NextHop, NextHopId};

use super::Planner;
use super::state::{GroupSlot, HopSlot, hops_of};
use crate::dump::{Difference, Dump};
use crate::group::lower;
use crate::routes::{Table, TableFamily};
use crate::write::{Key, lower as lower_writes};

impl Planner {
    /// Believes that the maps hold `dump`. Call it before anything else; ids in use are kept for whoever wants the same
    /// entries.
    pub fn restore(&mut self, dump: Dump) {
        self.written_config = dump.config;
        // A port that is only half there is written, or removed, whatever is believed.
        let both = |ifindex: &u32| {
            dump.ports.contains_key(ifindex) && dump.tx_ports.binary_search(ifindex).is_ok()
        };
        let all = dump.ports.keys().chain(&dump.tx_ports);
        self.force
            .extend(all.filter(|ifindex| !both(ifindex)).map(|i| Key::Port(*i)));
        self.ports.written = dump.ports;
        for (id, value) in dump.next_hops {
            self.restore_next_hop(id, value);
        }
        for (id, value) in dump.groups {
            self.restore_group(id, value);
        }
        for (key, group) in dump.routes4 {
            let len = u8::try_from(key.prefix_len).unwrap_or(u8::MAX);
            self.restore_target(group);
            if let Some(prefix) = Prefix4::from_bytes(&key.addr, len) {
                restore_route(&mut self.routes4, prefix, group);
                self.groups.move_route(None, Some(group));
            }
        }
        for (key, group) in dump.routes6 {
            let len = u8::try_from(key.prefix_len).unwrap_or(u8::MAX);
            self.restore_target(group);
            if let Some(prefix) = Prefix6::from_bytes(&key.addr, len) {
                restore_route(&mut self.routes6, prefix, group);
                self.groups.move_route(None, Some(group));
            }
        }
    }

    /// Removes what was taken over and is not wanted. Call it when intent is complete: after the network's snapshot, and
    /// when BGP has converged.
    pub fn prune(&mut self) {
        prune_routes(&mut self.routes4);
        prune_routes(&mut self.routes6);
        for (id, slot) in &self.groups.slots {
            if slot.owner.is_none() && slot.routes == 0 {
                self.groups.idle.insert(*id);
            }
        }
        for (id, slot) in &self.hops.slots {
            if slot.groups == 0 {
                self.hops.idle.insert(*id);
            }
        }
        for ifindex in self.ports.written.keys() {
            if !self.ports.wanted.contains_key(ifindex) {
                self.ports.dirty.insert(*ifindex);
            }
        }
        let half = self.force.iter().filter_map(|key| match key {
            Key::Port(ifindex) => Some(*ifindex),
            _ => None,
        });
        self.ports.dirty.extend(half);
    }

    /// What the maps hold when everything in batches is applied.
    #[must_use]
    pub fn intent(&self) -> Dump {
        let mut dump = Dump {
            config: self.written_config,
            ports: self.ports.written.clone(),
            tx_ports: self.ports.written.keys().copied().collect(),
            ..Dump::default()
        };
        for (id, slot) in &self.hops.slots {
            if slot.value != bytemuck::Zeroable::zeroed() {
                dump.next_hops.insert(*id, slot.value);
            }
        }
        for (id, slot) in &self.groups.slots {
            if slot.value.member_count > 0 {
                dump.groups.insert(*id, *slot.value);
            }
        }
        fill(&self.routes4, &mut dump);
        fill(&self.routes6, &mut dump);
        dump
    }

    /// How the maps differ from intent; at most `max` differences. Hand their keys to [`Self::rewrite`] to repair them.
    #[must_use]
    pub fn verify(&self, found: &Dump, max: usize) -> Vec<Difference> {
        self.intent().differences(found, max)
    }

    fn restore_next_hop(&mut self, id: NextHopId, value: NextHop) {
        if self.hops.ids.claim(id.0) {
            let slot = HopSlot {
                value,
                groups: 0,
                owner: None,
            };
            self.hops.slots.insert(id, slot);
        }
    }

    fn restore_group(&mut self, id: GroupId, value: Group) {
        if id < GroupId::FIRST || !self.groups.ids.claim(id.0) {
            return;
        }
        for hop in hops_of(&value) {
            if hop != NextHopId::NONE {
                // A member that is not in the dump has a slot of zeros.
                self.restore_next_hop(hop, bytemuck::Zeroable::zeroed());
            }
            if let Some(slot) = self.hops.slots.get_mut(&hop) {
                slot.groups += 1;
            }
        }
        let slot = GroupSlot {
            value: Box::new(value),
            routes: 0,
            owner: None,
        };
        self.groups.slots.insert(id, slot);
    }

    /// A group that a route points to and that is not in the dump has a slot of zeros.
    fn restore_target(&mut self, id: GroupId) {
        if id >= GroupId::FIRST && !self.groups.slots.contains_key(&id) {
            self.restore_group(id, lower(&[]));
        }
    }
}

fn restore_route<P: TableFamily>(table: &mut Table<P>, prefix: P, group: GroupId) {
    table.write(prefix, Some(group));
}

fn prune_routes<P: TableFamily>(table: &mut Table<P>) {
    let unwanted: Vec<P> = table
        .entries
        .iter()
        .filter(|(prefix, entry)| {
            entry.written != 0 && entry.bgp.is_none() && !table.local.contains_key(*prefix)
        })
        .map(|(prefix, _)| *prefix)
        .collect();
    for prefix in unwanted {
        table.touch(prefix);
    }
}

fn fill<P: TableFamily>(table: &Table<P>, dump: &mut Dump) {
    for (prefix, entry) in &table.entries {
        if entry.written != 0 {
            for op in lower_writes(vec![prefix.write(Some(GroupId(entry.written)))]) {
                dump.apply(&op);
            }
        }
    }
}
