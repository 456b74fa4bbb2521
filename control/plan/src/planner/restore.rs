//! After a restart: what the maps hold is taken over, so that forwarding goes on, and pruned once intent is known.

use causeway_bgp::types::{AddressFamily, Prefix4, Prefix6};
use causeway_maps::{Flat4Root, Group, GroupId, NextHop, NextHopId};

use super::Planner;
use super::state::{GroupSlot, HopSlot, PortEntry};
use crate::dump::{Difference, Dump};
use crate::routes::{Table, TableFamily};
use crate::slots::Slots;
use crate::write::{Key, lower as lower_writes};

impl Planner {
    /// Believes that the maps hold `dump`. Call it before anything else; ids in use are kept for whoever wants the same
    /// entries.
    pub fn restore(&mut self, dump: Dump) {
        self.written_config = dump.config;
        self.restore_ports(&dump);
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
        let number = |(index, group): (u32, GroupId)| (index, group.0);
        self.pods4.restore(dump.pods4.into_iter().map(number));
        self.pods6.restore(dump.pods6.into_iter().map(number));
        let octets = dump.flat4.keys().map(|[octet, _]| *octet).collect();
        self.flat4.restore(&dump.flat4_roots, &octets);
        // The flat table is made anew: until it is, its /8s are looked up in the trie.
        self.derive_all();
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
            ..Dump::default()
        };
        for (ifindex, entry) in &self.ports.written {
            dump.ports.insert(*ifindex, entry.port);
            dump.tx_ports.push(entry.tx);
            dump.vlans.extend(entry.vlan.map(|key| (key, *ifindex)));
        }
        dump.tx_ports.sort_unstable();
        dump.tx_ports.dedup();
        let number = |(index, group)| (index, GroupId(group));
        dump.pods4 = self.pods4.entries().map(number).collect();
        dump.pods6 = self.pods6.entries().map(number).collect();
        let used = |(_, root): &(u8, Flat4Root)| *root != bytemuck::Zeroable::zeroed();
        dump.flat4_roots = self.flat4.roots().filter(used).collect();
        dump.flat4 = self.flat4.rows().collect();
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

    fn restore_ports(&mut self, dump: &Dump) {
        let there = |ifindex: &u32| dump.tx_ports.binary_search(ifindex).is_ok();
        for (ifindex, port) in &dump.ports {
            let mut vlans = dump.vlans.iter();
            let vlan = vlans
                .find(|(_, device)| *device == ifindex)
                .map(|(key, _)| *key);
            let tx = vlan.map_or(*ifindex, |key| key.parent);
            let entry = PortEntry {
                port: *port,
                tx,
                vlan,
            };
            self.ports.written.insert(*ifindex, entry);
            // A port that is only half there is written, or removed, whatever is believed.
            if !there(&tx) {
                self.force.insert(Key::Port(*ifindex));
            }
        }
        let used = |ifindex: &u32| self.ports.written.values().any(|e| e.tx == *ifindex);
        let stray: Vec<u32> = dump.tx_ports.iter().copied().filter(|i| !used(i)).collect();
        self.force.extend(stray.into_iter().map(Key::Port));
        let written = &self.ports.written;
        let devices = dump.vlans.iter();
        let gone = devices.filter(|(_, device)| !written.contains_key(device));
        self.stray_vlans.extend(gone.map(|(key, _)| *key));
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
        let slot = GroupSlot::new(Slots::from_group(&value), value);
        for hop in &slot.members {
            // A member that is not in the dump has a slot of zeros.
            self.restore_next_hop(*hop, bytemuck::Zeroable::zeroed());
            if let Some(slot) = self.hops.slots.get_mut(hop) {
                slot.groups += 1;
            }
        }
        self.groups.slots.insert(id, slot);
    }

    /// A group that a route points to and that is not in the dump has a slot of zeros.
    fn restore_target(&mut self, id: GroupId) {
        if id >= GroupId::FIRST && !self.groups.slots.contains_key(&id) {
            self.restore_group(id, Group::EMPTY);
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
            entry.written != 0
                && entry.bgp.is_none()
                && !table.local.contains_key(*prefix)
                && !table.owned.contains(*prefix)
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
