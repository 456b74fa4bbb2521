//! Batches out: differences between what is wanted and what is in the maps, in an order that is safe after each operation.
//!
//! Ports, next hops, groups, routes; then what nobody needs any more, in reverse. Routes come only when every group that
//! can be written is; a group goes only when no route in the map points to it, a next hop when no group holds it.

use std::collections::BTreeSet;

use causeway_bgp::types::{Prefix4, Prefix6};
use causeway_maps::{Group, GroupId, NextHopId};
use causeway_net::NextHopKey;

use super::Planner;
use super::apply::Tables;
use super::state::{GroupSlot, HopSlot, WantedGroup, hops_of};
use crate::group::{entry, key_of, lower, select};
use crate::routes::{LocalTarget, TableFamily};
use crate::write::{Batch, Key, Write, lower as lower_writes};

impl Planner {
    /// The next operations, touching at most `max_entries` entries; `None` if there is nothing to do until something
    /// changes. Only a group that is larger by itself exceeds it, because it comes with its next hops.
    pub fn poll_batch(&mut self, max_entries: usize) -> Option<Batch> {
        let mut out = Out {
            ops: Vec::new(),
            max: max_entries.max(1),
        };
        self.emit_config(&mut out);
        self.emit_ports(&mut out);
        self.emit_next_hops(&mut out);
        self.emit_groups(&mut out);
        if self.hops.dirty.is_empty() && self.groups.dirty.is_empty() {
            self.emit_routes::<Prefix4>(&mut out);
            self.emit_routes::<Prefix6>(&mut out);
        }
        self.remove_groups(&mut out);
        self.remove_next_hops(&mut out);
        self.remove_ports(&mut out);

        let completes = self.completed();
        if out.ops.is_empty() {
            match self.in_flight.back_mut() {
                Some((_, last)) => *last = (*last).max(completes),
                None => self.programmed = self.programmed.max(completes),
            }
            return None;
        }
        self.last_batch += 1;
        self.in_flight.push_back((self.last_batch, completes));
        Some(Batch {
            generation: self.last_batch,
            ops: lower_writes(out.ops),
        })
    }

    fn emit_config(&mut self, out: &mut Out) {
        if self.config == self.written_config {
            return;
        }
        if let Some(config) = self.config {
            self.push(out, Write::Config(config));
            self.written_config = Some(config);
        }
    }

    fn emit_ports(&mut self, out: &mut Out) {
        let dirty: Vec<u32> = self.ports.dirty.iter().copied().collect();
        for ifindex in dirty {
            if out.room() == 0 {
                return;
            }
            let Some(port) = self.ports.wanted.get(&ifindex).copied() else {
                continue;
            };
            self.ports.dirty.remove(&ifindex);
            let same = self.ports.written.insert(ifindex, port) == Some(port);
            if !same || self.force.contains(&Key::Port(ifindex)) {
                let port = Some(port);
                self.push(out, Write::Port { ifindex, port });
            }
        }
    }

    /// Entries of next hops that are in the map already; new ones come with their group.
    fn emit_next_hops(&mut self, out: &mut Out) {
        while out.room() > 0 {
            let Some(key) = self.hops.dirty.pop_first() else {
                return;
            };
            let Some(hop) = self.hops.wanted.get(&key) else {
                continue;
            };
            let (Some(id), Some(value)) = (hop.id, hop.resolution().as_ref().and_then(entry))
            else {
                continue;
            };
            let Some(slot) = self.hops.slots.get_mut(&id) else {
                continue;
            };
            if slot.value != value || self.force.contains(&Key::NextHop(id)) {
                slot.value = value;
                let next_hop = Some(value);
                self.push(out, Write::NextHop { id, next_hop });
            }
        }
    }

    fn emit_groups(&mut self, out: &mut Out) {
        while out.room() > 0 {
            let Some(place) = self.groups.dirty.pop_first() else {
                return;
            };
            let Some(group) = self.groups.wanted.get(place) else {
                continue;
            };
            let most = 1 + group.members.len().min(Group::MAX_MEMBERS);
            if out.room() < most && !out.ops.is_empty() {
                self.groups.dirty.insert(place);
                return;
            }
            let resolution = |key: &NextHopKey| self.hops.wanted.get(key)?.resolution();
            if group
                .members
                .iter()
                .any(|member| resolution(&key_of(member)).is_none())
            {
                self.groups.unanswered.insert(place);
                continue;
            }
            self.groups.unanswered.remove(&place);
            let selected: Vec<_> = select(&group.members, resolution)
                .into_iter()
                .map(|member| (key_of(member), member.weight))
                .collect();
            let mut members = Vec::with_capacity(selected.len());
            for (key, weight) in selected {
                if let Some(id) = self.place_next_hop(key, out) {
                    members.push((id, weight));
                }
            }
            self.write_group(place, lower(&members), out);
        }
    }

    /// The slot of a next hop, written now if it has none.
    fn place_next_hop(&mut self, key: NextHopKey, out: &mut Out) -> Option<NextHopId> {
        let hop = self.hops.wanted.get_mut(&key)?;
        if let Some(id) = hop.id {
            return Some(id);
        }
        let value = hop.resolution().as_ref().and_then(entry)?;
        let same = |slot: &HopSlot| slot.owner.is_none() && slot.value == value;
        let found = self.hops.slots.iter_mut().find(|(_, slot)| same(slot));
        if let Some((id, slot)) = found {
            slot.owner = Some(key);
            hop.id = Some(*id);
            self.hops.idle.remove(id);
            return hop.id;
        }
        let Some(id) = self.hops.ids.take().map(NextHopId) else {
            self.hops.left_out.insert(key);
            return None;
        };
        self.hops.left_out.remove(&key);
        hop.id = Some(id);
        let slot = HopSlot {
            value,
            groups: 0,
            owner: Some(key),
        };
        self.hops.slots.insert(id, slot);
        let next_hop = Some(value);
        self.push(out, Write::NextHop { id, next_hop });
        Some(id)
    }

    fn write_group(&mut self, place: usize, value: Group, out: &mut Out) {
        let Some(group) = self.groups.wanted.get_mut(place) else {
            return;
        };
        let (id, known) = match group.id {
            Some(id) => (id, true),
            None => {
                let same = |slot: &GroupSlot| slot.owner.is_none() && *slot.value == value;
                let found = self.groups.slots.iter().find(|(_, slot)| same(slot));
                if let Some((id, _)) = found {
                    (*id, true)
                } else if let Some(id) = self.groups.ids.take() {
                    (GroupId(id), false)
                } else {
                    self.groups.left_out.insert(place);
                    for id in hops_of(&value) {
                        self.drop_reference(id, 0);
                    }
                    return;
                }
            }
        };
        group.id = Some(id);
        let WantedGroup {
            waiting4, waiting6, ..
        } = group;
        for prefix in core::mem::take(waiting4) {
            self.routes4.touch(prefix);
        }
        for prefix in core::mem::take(waiting6) {
            self.routes6.touch(prefix);
        }
        self.groups.left_out.remove(&place);
        self.groups.idle.remove(&id);

        let after = hops_of(&value);
        let slot = self.groups.slots.entry(id).or_insert_with(|| GroupSlot {
            value: Box::new(lower(&[])),
            routes: 0,
            owner: None,
        });
        slot.owner = Some(place);
        let before = hops_of(&slot.value);
        let same = known && *slot.value == value;
        *slot.value = value;
        if !same || self.force.contains(&Key::Group(id)) {
            let group = Some(Box::new(value));
            self.push(out, Write::Group { id, group });
        }
        for id in after.difference(&before) {
            if let Some(slot) = self.hops.slots.get_mut(id) {
                slot.groups += 1;
                self.hops.idle.remove(id);
            }
        }
        for id in before.difference(&after) {
            self.drop_reference(*id, 1);
        }
    }

    /// Takes `count` references away from a next hop's slot; without any it is idle.
    fn drop_reference(&mut self, id: NextHopId, count: u32) {
        if let Some(slot) = self.hops.slots.get_mut(&id) {
            slot.groups = slot.groups.saturating_sub(count);
            if slot.groups == 0 {
                self.hops.idle.insert(id);
            }
        }
    }

    fn emit_routes<P: TableFamily>(&mut self, out: &mut Out)
    where
        Self: Tables<P>,
        WantedGroup: Waiting<P>,
    {
        while out.room() > 0 {
            let Some(prefix) = self.table().pop() else {
                return;
            };
            self.emit_route(prefix, out);
            self.table().tidy(prefix);
        }
    }

    fn emit_route<P: TableFamily>(&mut self, prefix: P, out: &mut Out)
    where
        Self: Tables<P>,
        WantedGroup: Waiting<P>,
    {
        let entry = self.table().entries.get(&prefix).copied();
        let entry = entry.unwrap_or_default();
        let place = match self.table().local.get(&prefix).copied() {
            Some(LocalTarget::Punt) => None,
            Some(LocalTarget::Group(place)) => Some(place),
            None => match entry.bgp.and_then(|set| self.groups.sets.get(&set)) {
                Some(place) => Some(*place),
                None => return self.write_route(prefix, None, out),
            },
        };
        let Some(place) = place else {
            return self.write_route(prefix, Some(GroupId::PUNT), out);
        };
        let unanswered = self.groups.unanswered.contains(&place);
        let Some(group) = self.groups.wanted.get_mut(place) else {
            return self.write_route(prefix, None, out);
        };
        match group.id {
            Some(id) => self.write_route(prefix, Some(id), out),
            // What the map holds stays until the network has answered.
            None if unanswered => {
                group.waiting().insert(prefix);
            }
            None => {
                group.waiting().insert(prefix);
                self.write_route(prefix, None, out);
            }
        }
    }

    fn write_route<P: TableFamily>(&mut self, prefix: P, group: Option<GroupId>, out: &mut Out)
    where
        Self: Tables<P>,
    {
        let force = !self.force.is_empty() && self.force.contains(&prefix.key());
        let table = self.table();
        table.left_out.remove(&prefix);
        let written = table.entries.get(&prefix).map_or(0, |entry| entry.written);
        if written == group.map_or(0, |group| group.0) && !force {
            return;
        }
        if group.is_some() && written == 0 && table.used >= table.capacity {
            table.left_out.insert(prefix);
            return;
        }
        let before = table.write(prefix, group);
        self.groups.move_route(before, group);
        self.push(out, prefix.write(group));
    }

    fn remove_groups(&mut self, out: &mut Out) {
        while out.room() > 0 {
            if let Some(id) = self.groups.stray.pop() {
                self.push(out, Write::Group { id, group: None });
                continue;
            }
            let Some(id) = self.groups.idle.pop_first() else {
                return;
            };
            let removable = |slot: &GroupSlot| slot.owner.is_none() && slot.routes == 0;
            if !self.groups.slots.get(&id).is_some_and(removable) {
                continue;
            }
            let Some(slot) = self.groups.slots.remove(&id) else {
                continue;
            };
            self.push(out, Write::Group { id, group: None });
            for hop in hops_of(&slot.value) {
                self.drop_reference(hop, 1);
            }
            self.groups.ids.free(id.0);
            self.groups.dirty.extend(self.groups.left_out.first());
        }
    }

    fn remove_next_hops(&mut self, out: &mut Out) {
        while out.room() > 0 {
            if let Some(id) = self.hops.stray.pop() {
                let next_hop = None;
                self.push(out, Write::NextHop { id, next_hop });
                continue;
            }
            let Some(id) = self.hops.idle.pop_first() else {
                return;
            };
            let used = |slot: &HopSlot| slot.groups > 0;
            if self.hops.slots.get(&id).is_none_or(used) {
                continue;
            }
            let Some(slot) = self.hops.slots.remove(&id) else {
                continue;
            };
            if let Some(hop) = slot.owner.and_then(|key| self.hops.wanted.get_mut(&key)) {
                hop.id = None;
            }
            let next_hop = None;
            self.push(out, Write::NextHop { id, next_hop });
            self.hops.ids.free(id.0);
            if let Some(hop) = self
                .hops
                .left_out
                .first()
                .and_then(|key| self.hops.wanted.get(key))
            {
                self.groups.dirty.extend(&hop.groups);
            }
        }
    }

    fn remove_ports(&mut self, out: &mut Out) {
        let dirty: Vec<u32> = self.ports.dirty.iter().copied().collect();
        for ifindex in dirty {
            if out.room() == 0 {
                return;
            }
            let used = || {
                let mut slots = self.hops.slots.values();
                slots.any(|slot| slot.value.ifindex == ifindex && slot.groups > 0)
            };
            if self.ports.wanted.contains_key(&ifindex) || used() {
                continue;
            }
            self.ports.dirty.remove(&ifindex);
            let there = self.ports.written.remove(&ifindex).is_some();
            if there || self.force.contains(&Key::Port(ifindex)) {
                let port = None;
                self.push(out, Write::Port { ifindex, port });
            }
        }
    }

    /// The last of BGP's generations that is wholly in batches.
    fn completed(&mut self) -> Option<u64> {
        let groups = &self.groups;
        let blocked = |place: &usize| -> bool {
            groups
                .wanted
                .get(*place)
                .is_some_and(|g| !g.waiting4.is_empty() || !g.waiting6.is_empty())
        };
        if !self.hops.dirty.is_empty()
            || !groups.dirty.is_empty()
            || groups.unanswered.iter().any(blocked)
        {
            return None;
        }
        let mut last = None;
        while let Some(awaited) = self.awaited.front() {
            if !self.routes4.passed(awaited.mark4) || !self.routes6.passed(awaited.mark6) {
                break;
            }
            last = Some(awaited.generation);
            self.awaited.pop_front();
        }
        last
    }

    fn push(&mut self, out: &mut Out, op: Write) {
        if !self.failed.is_empty() || !self.force.is_empty() {
            let key = op.key();
            self.failed.remove(&key);
            self.force.remove(&key);
        }
        out.ops.push(op);
    }
}

/// The batch being made.
struct Out {
    ops: Vec<Write>,
    max: usize,
}

impl Out {
    fn room(&self) -> usize {
        self.max.saturating_sub(self.ops.len())
    }
}

/// Routes of a family that wait for a group.
pub(super) trait Waiting<P> {
    fn waiting(&mut self) -> &mut BTreeSet<P>;
}

impl Waiting<Prefix4> for WantedGroup {
    fn waiting(&mut self) -> &mut BTreeSet<Prefix4> {
        &mut self.waiting4
    }
}

impl Waiting<Prefix6> for WantedGroup {
    fn waiting(&mut self) -> &mut BTreeSet<Prefix6> {
        &mut self.waiting6
    }
}
