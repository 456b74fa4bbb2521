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
use super::state::{GroupSlot, HopSlot, WantedGroup};
use crate::group::{address, entry, key_of, select};
use crate::routes::{LocalTarget, TableFamily};
use crate::slots::Slots;
use crate::write::{Batch, Key, Write, lower as lower_writes};

/// Groups looked at for each member of a new one.
const MAX_RELATED: usize = 16;

impl Planner {
    /// The next operations, touching at most `max_entries` entries; `None` if there is nothing to do until something
    /// changes. Exceeded only by a group that is larger by itself, because it comes with its next hops, and by roots of the
    /// flat table, because they say that it is not to be read.
    pub fn poll_batch(&mut self, max_entries: usize) -> Option<Batch> {
        let mut out = Out {
            ops: Vec::new(),
            max: max_entries.max(1),
        };
        self.emit_config(&mut out);
        self.emit_ports(&mut out);
        self.emit_next_hops(&mut out);
        self.emit_groups(&mut out);
        self.emit_pods(&mut out);
        if self.hops.dirty.is_empty() && self.groups.dirty.is_empty() {
            self.emit_routes::<Prefix4>(&mut out);
            self.emit_routes::<Prefix6>(&mut out);
        }
        self.emit_pods(&mut out);
        self.emit_flat4(&mut out);
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

    pub(super) fn emit_config(&mut self, out: &mut Out) {
        let config = self.config_now();
        if config == self.written_config {
            return;
        }
        if let Some(config) = config {
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
            let Some(entry) = self.ports.wanted.get(&ifindex).copied() else {
                continue;
            };
            self.ports.dirty.remove(&ifindex);
            let before = self.ports.written.insert(ifindex, entry);
            if let Some(before) = before
                && before.vlan != entry.vlan
            {
                self.stray_vlans.extend(before.vlan);
            }
            if before != Some(entry) || self.force.contains(&Key::Port(ifindex)) {
                let port = Write::Port {
                    ifindex,
                    port: Some(entry.port),
                    tx: Some(entry.tx),
                    vlan: entry.vlan,
                };
                self.push(out, port);
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
            let value = hop.resolution().and_then(|r| entry(key, &r));
            let (Some(id), Some(value)) = (hop.id, value) else {
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
            let selection = select(&group.members, resolution);
            let id_of = |member: &&_| self.hops.wanted.get(&key_of(member))?.id;
            let away: Vec<_> = selection.away.iter().filter_map(id_of).collect();
            let present: Vec<_> = selection
                .present
                .iter()
                .map(|member| (key_of(member), member.weight))
                .collect();
            let any = !present.is_empty();
            let mut members = Vec::with_capacity(present.len());
            for (key, weight) in present {
                if let Some(id) = self.place_next_hop(key, out) {
                    members.push((id, weight));
                }
            }
            self.note_starved(place, any && members.is_empty());
            self.write_group(place, &members, &away, out);
        }
    }

    /// The slot of a next hop, written now if it has none.
    fn place_next_hop(&mut self, key: NextHopKey, out: &mut Out) -> Option<NextHopId> {
        let hop = self.hops.wanted.get_mut(&key)?;
        if let Some(id) = hop.id {
            return Some(id);
        }
        let value = hop.resolution().and_then(|r| entry(key, &r))?;
        // One that an earlier daemon left is known by where it is, and keeps its id.
        let (addr, _) = address(key.addr);
        let same = |slot: &HopSlot| {
            slot.owner.is_none()
                && (slot.value == value
                    || (slot.value.ifindex, slot.value.addr) == (value.ifindex, addr))
        };
        let found = self.hops.slots.iter_mut().find(|(_, slot)| same(slot));
        if let Some((id, slot)) = found {
            let id = *id;
            slot.owner = Some(key);
            hop.id = Some(id);
            self.hops.idle.remove(&id);
            if core::mem::replace(&mut slot.value, value) != value {
                let next_hop = Some(value);
                self.push(out, Write::NextHop { id, next_hop });
            }
            return Some(id);
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

    fn write_group(
        &mut self,
        place: usize,
        members: &[(NextHopId, u32)],
        away: &[NextHopId],
        out: &mut Out,
    ) {
        let Some((id, mut slots)) = self.group_slots(place, members, away) else {
            self.groups.left_out.insert(place);
            for (id, _) in members {
                self.drop_reference(*id, 0);
            }
            return;
        };
        slots.update(members, away);
        let value = slots.group();
        let fresh = GroupSlot::new(slots, value);

        let known = self.groups.slots.contains_key(&id);
        let slot = self
            .groups
            .slots
            .entry(id)
            .or_insert_with(|| GroupSlot::new(Slots::default(), Group::EMPTY));
        let before = GroupSlot {
            owner: Some(place),
            routes: slot.routes,
            ..fresh
        };
        let before = core::mem::replace(slot, before);
        let after = slot.members.clone();
        let same = known && *before.value == value;
        if !same || self.force.contains(&Key::Group(id)) {
            let group = Some(Box::new(value));
            self.push(out, Write::Group { id, group });
        }
        for id in after
            .iter()
            .filter(|id| before.members.binary_search(id).is_err())
        {
            if let Some(slot) = self.hops.slots.get_mut(id) {
                slot.groups += 1;
                self.hops.idle.remove(id);
            }
        }
        for id in before
            .members
            .iter()
            .filter(|id| after.binary_search(id).is_err())
        {
            self.drop_reference(*id, 1);
        }
        self.groups.left_out.remove(&place);
        self.groups.idle.remove(&id);
        let Some(group) = self.groups.wanted.get_mut(place) else {
            return;
        };
        group.id = Some(id);
        for prefix in core::mem::take(&mut group.waiting4) {
            self.routes4.touch(prefix);
        }
        for prefix in core::mem::take(&mut group.waiting6) {
            self.routes6.touch(prefix);
        }
    }

    /// The id of a group, taken now if it has none, and the table from which its next one is made: the one it has, or that
    /// of a group with these members which nobody else owns, or the best to start from. `None` if there is no id left.
    fn group_slots(
        &mut self,
        place: usize,
        members: &[(NextHopId, u32)],
        away: &[NextHopId],
    ) -> Option<(GroupId, Slots)> {
        if let Some(id) = self.groups.wanted.get(place)?.id {
            let slots = self.groups.slots.get(&id).map(|slot| slot.slots.clone());
            let slots = self.recalled(place, slots.unwrap_or_default(), members, away);
            return Some((id, slots));
        }
        let mut ids: Vec<NextHopId> = members.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let orphan = |slot: &GroupSlot| slot.owner.is_none() && slot.members == ids;
        if let Some((id, slot)) = self.groups.slots.iter().find(|(_, slot)| orphan(slot)) {
            return Some((*id, slot.slots.clone()));
        }
        let start = self.start_from(place, &ids, members, away);
        let id = self.groups.ids.take()?;
        Some((GroupId(id), start))
    }

    /// A table with which few flows move: that of the group which has most members in common, because its routes are those
    /// that come here, or the one that this set had before, if that moves no more.
    fn start_from(
        &self,
        place: usize,
        ids: &[NextHopId],
        members: &[(NextHopId, u32)],
        away: &[NextHopId],
    ) -> Slots {
        let Some(wanted) = self.groups.wanted.get(place) else {
            return Slots::default();
        };
        let hops = wanted.members.iter().map(key_of);
        let related = hops
            .filter_map(|key| self.hops.wanted.get(&key))
            .flat_map(|hop| hop.groups.iter().rev().take(MAX_RELATED))
            .filter_map(|place| self.groups.wanted.get(*place)?.id);
        let orphans = self.groups.slots.iter();
        let orphans = orphans
            .filter(|(_, slot)| slot.owner.is_none())
            .map(|(id, _)| *id)
            .take(MAX_RELATED);
        let candidates: BTreeSet<GroupId> = related.chain(orphans).take(4 * MAX_RELATED).collect();
        let nearest = candidates
            .iter()
            .filter_map(|id| self.groups.slots.get(id))
            .map(|slot| (slot, slot.in_common(ids)))
            .filter(|(_, common)| *common > 0)
            .max_by_key(|(slot, common)| (*common, core::cmp::Reverse(slot.members.len())))
            .map(|(slot, _)| slot.slots.clone());
        let remembered = self.remembered(place);
        match (nearest, remembered) {
            (Some(nearest), Some(remembered)) => nearest.or_as_calm(remembered, members, away),
            (nearest, remembered) => nearest.or(remembered).unwrap_or_default(),
        }
    }

    /// The table of a set, or the one that it had before where a member comes that only that one knows: its neighbour may
    /// answer later than its routes are back.
    fn recalled(
        &self,
        place: usize,
        now: Slots,
        members: &[(NextHopId, u32)],
        away: &[NextHopId],
    ) -> Slots {
        if members.iter().all(|(id, _)| now.knows(*id)) {
            return now;
        }
        match self.remembered(place) {
            Some(before) => now.or_as_calm(before, members, away),
            None => now,
        }
    }

    /// The table that the same set had before it was given up, in today's ids.
    fn remembered(&self, place: usize) -> Option<Slots> {
        let members = &self.groups.wanted.get(place)?.members;
        let mut known = self.groups.remembered.iter().rev();
        let found = known.find(|known| known.members == *members)?;
        let today = |id: NextHopId| {
            let (_, key) = found.ids.iter().find(|(old, _)| *old == id)?;
            self.hops.wanted.get(key)?.id
        };
        Some(found.slots.renamed(today))
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
        self.table().suspect_if_told(prefix);
        let place = match self.table().local.get(&prefix).copied() {
            Some(LocalTarget::Punt) => None,
            Some(LocalTarget::Group(place)) => Some(place),
            None => match entry.bgp.and_then(|set| self.groups.sets.get(&set)) {
                Some(place) => Some(*place),
                None => {
                    // The stack knows the pods of another CNI and the addresses that another proxy translates; its own
                    // blackhole route drops the rest.
                    let owned = self.table().owned.contains(&prefix);
                    let group = owned.then_some(GroupId::PUNT);
                    return self.write_route(prefix, group, out);
                }
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
            Some(id) => {
                if self.refused.may_spoil_groups() {
                    self.table().suspects.push(prefix);
                }
                self.write_route(prefix, Some(id), out);
            }
            // What the map holds stays until the network has answered.
            None if unanswered => {
                group.waiting().insert(prefix);
            }
            None => {
                group.waiting().insert(prefix);
                self.table().suspects.push(prefix);
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
            table.suspects.push(prefix);
            return;
        }
        let before = table.write(prefix, group);
        self.groups.move_route(before, group);
        self.push(out, prefix.write(group));
        self.derive(prefix, before, group);
    }

    fn remove_groups(&mut self, out: &mut Out) {
        let mut freed = 0;
        // What is derived may still name a group that no route does.
        while out.room() > 0 && self.derived_settled() {
            if let Some(id) = self.groups.stray.pop() {
                self.push(out, Write::Group { id, group: None });
                continue;
            }
            let Some(id) = self.groups.idle.pop_first() else {
                break;
            };
            let removable = |slot: &GroupSlot| slot.owner.is_none() && slot.routes == 0;
            if !self.groups.slots.get(&id).is_some_and(removable) {
                continue;
            }
            let Some(slot) = self.groups.slots.remove(&id) else {
                continue;
            };
            self.push(out, Write::Group { id, group: None });
            for hop in slot.members {
                self.drop_reference(hop, 1);
            }
            self.groups.ids.free(id.0);
            freed += 1;
        }
        // Each makes room for another.
        let waiting = self.groups.left_out.difference(&self.groups.dirty);
        let admitted: Vec<usize> = waiting.take(freed).copied().collect();
        self.groups.dirty.extend(admitted);
    }

    fn remove_next_hops(&mut self, out: &mut Out) {
        let mut freed = 0;
        while out.room() > 0 {
            if let Some(id) = self.hops.stray.pop() {
                let next_hop = None;
                self.push(out, Write::NextHop { id, next_hop });
                continue;
            }
            let Some(id) = self.hops.idle.pop_first() else {
                break;
            };
            // One that is wanted keeps its id while no group holds it: tables remember it by that.
            let used = |slot: &HopSlot| slot.groups > 0 || slot.owner.is_some();
            if self.hops.slots.get(&id).is_none_or(used) {
                continue;
            }
            self.hops.slots.remove(&id);
            let next_hop = None;
            self.push(out, Write::NextHop { id, next_hop });
            self.hops.ids.free(id.0);
            freed += 1;
        }
        for key in self.hops.left_out.iter().take(freed) {
            if let Some(hop) = self.hops.wanted.get(key) {
                self.groups.dirty.extend(&hop.groups);
            }
        }
    }

    fn remove_ports(&mut self, out: &mut Out) {
        while out.room() > 0
            && let Some(key) = self.stray_vlans.pop()
        {
            let mut written = self.ports.written.values();
            if !written.any(|entry| entry.vlan == Some(key)) {
                self.push(out, Write::StrayVlan(key));
            }
        }
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
            let entry = self.ports.written.remove(&ifindex);
            if entry.is_some() || self.force.contains(&Key::Port(ifindex)) {
                let tx = entry.map_or(ifindex, |entry| entry.tx);
                let mut written = self.ports.written.values();
                let shared = written.any(|other| other.tx == tx);
                let port = Write::Port {
                    ifindex,
                    port: None,
                    tx: (!shared).then_some(tx),
                    vlan: entry.and_then(|entry| entry.vlan),
                };
                self.push(out, port);
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
            || !self.derived_settled()
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

    pub(super) fn push(&mut self, out: &mut Out, op: Write) {
        if !self.refused.is_empty() || !self.force.is_empty() {
            let key = op.key();
            // The batch that is being made.
            self.refused.pushed(&key, self.last_batch + 1);
            self.force.remove(&key);
        }
        out.ops.push(op);
    }
}

/// The batch being made.
pub(super) struct Out {
    ops: Vec<Write>,
    max: usize,
}

impl Out {
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.ops.len())
    }

    /// Leaves room for fewer.
    pub(super) fn charge(&mut self, entries: usize) {
        self.max = self.max.saturating_sub(entries);
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
