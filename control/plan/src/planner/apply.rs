//! Deltas in: what is wanted changes, what is touched is marked.

use std::collections::BTreeSet;
use std::sync::Arc;

use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::types::{AddressFamily, Prefix, Prefix4, Prefix6};
use causeway_maps::{Config, Port, VlanKey, port_flags};
use causeway_net::{
    Adjacency, LinkKind, Local, NetDelta, NextHopKey, PortRole, Resolution, Subnet,
};

use super::state::{Groups, Hops, Origin, PortEntry, Remembered, WantedGroup};
use super::{Awaited, Failure, Interest, Planner};
use crate::group::key_of;
use crate::pods::Pods;
use crate::routes::{LocalTarget, Table, TableFamily};
use crate::slots::Slots;
use crate::write::Key;

impl Planner {
    /// Sets the one entry of `config`. Its ranges of pods' addresses come into force once they are indexed.
    pub fn set_config(&mut self, config: Config) {
        self.config = Some(config);
        self.set_ranges(&config);
    }

    /// Sets the ranges that this node announces. What nothing more specific takes goes to the stack, and by no other
    /// route back to whoever sent it. Host addresses are left out: they are ranges of nothing.
    pub fn set_owned(&mut self, prefixes: impl IntoIterator<Item = Prefix>) {
        let (mut owned4, mut owned6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                Prefix::V4(prefix) => owned4.push(prefix),
                Prefix::V6(prefix) => owned6.push(prefix),
            }
        }
        own(&mut self.routes4, owned4);
        own(&mut self.routes6, owned6);
    }

    /// Sets how many prefixes of each family there may be, at most as many as the map takes. What is in the map beyond that
    /// stays while it is wanted; what was left out comes in as far as there is room.
    pub fn set_route_limits(&mut self, routes4: u32, routes6: u32) {
        self.routes4
            .set_capacity(routes4.min(self.capacities.routes4));
        self.routes6
            .set_capacity(routes6.min(self.capacities.routes6));
    }

    /// Takes in BGP's changes. `generation` must rise; [`Self::poll_programmed`] gives it back.
    pub fn apply_fib(&mut self, generation: u64, mut delta: FibDelta) {
        // Neighbours share most of their way through the kernel's trie: in order, a full table is written in a fraction of
        // the time. Stable, so that of two changes of a prefix the later counts.
        delta.routes.sort_by_key(|(prefix, _)| *prefix);
        for (set, members) in &delta.sets {
            if let Some(members) = members {
                self.define(*set, members);
            }
        }
        for (prefix, set) in delta.routes {
            match prefix {
                Prefix::V4(prefix) => self.routes4.set_bgp(prefix, set),
                Prefix::V6(prefix) => self.routes6.set_bgp(prefix, set),
            }
        }
        for (set, members) in &delta.sets {
            if members.is_none()
                && let Some(place) = self.groups.sets.remove(set)
            {
                self.release(place);
            }
        }
        self.awaited.push_back(Awaited {
            generation,
            mark4: self.routes4.mark(),
            mark6: self.routes6.mark(),
        });
    }

    /// Takes in the network's changes.
    pub fn apply_net(&mut self, delta: NetDelta) {
        for (ifindex, port) in delta.ports {
            self.set_port(ifindex, port);
        }
        for (key, resolution) in delta.next_hops {
            if let (Some(resolution), Some(hop)) = (resolution, self.hops.wanted.get_mut(&key))
                && hop.tracked > 0
            {
                let before = hop.resolution();
                hop.told = Some(resolution);
                changed(&mut self.hops, &mut self.groups, key, before);
            }
        }
        for (subnet, local) in delta.local {
            match Prefix::new(subnet.addr(), subnet.len()) {
                Some(Prefix::V4(prefix)) => self.set_local(prefix, subnet, local),
                Some(Prefix::V6(prefix)) => self.set_local(prefix, subnet, local),
                None => {}
            }
        }
    }

    /// What became of a batch. Batches are acknowledged in order.
    pub fn ack(&mut self, generation: u64, failures: impl IntoIterator<Item = Failure>) {
        for failure in failures {
            if let Key::Flat4Row(octets) = failure.key {
                self.flat4.refused(octets);
            }
            self.note_refusal(failure.key, failure.error);
        }
        self.note_acknowledged(generation);
        while let Some((batch, completes)) = self.in_flight.front().copied()
            && batch <= generation
        {
            self.in_flight.pop_front();
            self.programmed = self.programmed.max(completes);
        }
    }

    /// Tries again what failed. Call it with a backoff.
    pub fn retry(&mut self) {
        for key in self.refused.retry() {
            self.rewrite(key);
        }
    }

    /// Writes an entry again even if it is believed to be right: after a failure, or when a dump shows a difference.
    pub fn rewrite(&mut self, key: Key) {
        match key {
            Key::Config => self.written_config = None,
            Key::Port(ifindex) => {
                self.ports.dirty.insert(ifindex);
                // Others may leave by it.
                let written = self.ports.written.iter();
                let users = written.filter(|(_, entry)| entry.tx == ifindex);
                let users: Vec<u32> = users.map(|(user, _)| *user).collect();
                self.ports.dirty.extend(&users);
                self.force.extend(users.into_iter().map(Key::Port));
            }
            Key::Vlan(key) => {
                let mut written = self.ports.written.iter();
                match written.find(|(_, entry)| entry.vlan == Some(key)) {
                    Some((ifindex, _)) => {
                        self.ports.dirty.insert(*ifindex);
                        self.force.insert(Key::Port(*ifindex));
                    }
                    None => self.stray_vlans.push(key),
                }
                return;
            }
            Key::Pod4(index) => return self.pods4.rewrite(index),
            Key::Pod6(index) => return self.pods6.rewrite(index),
            Key::Flat4Root(octet) => return self.flat4.rewrite_root(octet),
            Key::Flat4Row(octets) => return self.flat4.rewrite_row(octets),
            Key::NextHop(id) => match self.hops.slots.get(&id) {
                Some(slot) => self.hops.dirty.extend(slot.owner),
                None => self.hops.stray.extend([id]),
            },
            Key::Group(id) => match self.groups.slots.get(&id) {
                Some(slot) => self.groups.dirty.extend(slot.owner),
                None => self.groups.stray.extend([id]),
            },
            Key::Route4(key) => {
                let len = u8::try_from(key.prefix_len).unwrap_or(u8::MAX);
                if let Some(prefix) = Prefix4::from_bytes(&key.addr, len) {
                    self.routes4.touch(prefix);
                }
            }
            Key::Route6(key) => {
                let len = u8::try_from(key.prefix_len).unwrap_or(u8::MAX);
                if let Some(prefix) = Prefix6::from_bytes(&key.addr, len) {
                    self.routes6.touch(prefix);
                }
            }
        }
        self.force.insert(key);
    }

    /// Gives a set other members, because what its next hops lead to has changed. Its routes stay as they are.
    pub fn redefine(&mut self, set: NextHopSetId, members: &Arc<[FibNextHop]>) {
        let Some(place) = self.groups.sets.get(&set).copied() else {
            return;
        };
        let key = (Origin::Bgp, Arc::clone(members));
        let sole = self
            .groups
            .wanted
            .get(place)
            .is_some_and(|group| group.users == 1);
        if !sole || self.groups.by_members.contains_key(&key) {
            // Its group is shared, or is to be: the routes move.
            return self.define(set, members);
        }
        let Some(group) = self.groups.wanted.get_mut(place) else {
            return;
        };
        let before = core::mem::replace(&mut group.members, Arc::clone(members));
        self.groups
            .by_members
            .remove(&(Origin::Bgp, Arc::clone(&before)));
        self.groups.by_members.insert(key, place);
        self.groups.dirty.insert(place);
        self.want_hops(place, Origin::Bgp, members);
        for key in before.iter().map(key_of) {
            if !members.iter().any(|member| key_of(member) == key) {
                self.release_hop(key, place, Origin::Bgp);
            }
        }
    }

    fn define(&mut self, set: NextHopSetId, members: &Arc<[FibNextHop]>) {
        let place = self.acquire(Origin::Bgp, members);
        if let Some(before) = self.groups.sets.insert(set, place) {
            if before != place {
                // The RIB defines each id once; should one ever change its meaning, its routes must follow.
                touch_set(&mut self.routes4, set);
                touch_set(&mut self.routes6, set);
            }
            self.release(before);
        }
    }

    /// One more user of the group with these members.
    fn acquire(&mut self, origin: Origin, members: &Arc<[FibNextHop]>) -> usize {
        if let Some(place) = self
            .groups
            .by_members
            .get(&(origin, Arc::clone(members)))
            .copied()
        {
            if let Some(group) = self.groups.wanted.get_mut(place) {
                group.users += 1;
            }
            return place;
        }
        let place = self.groups.wanted.insert(WantedGroup {
            origin,
            members: Arc::clone(members),
            users: 1,
            id: None,
            waiting4: BTreeSet::new(),
            waiting6: BTreeSet::new(),
        });
        self.groups
            .by_members
            .insert((origin, Arc::clone(members)), place);
        self.groups.dirty.insert(place);
        self.want_hops(place, origin, members);
        place
    }

    /// A group wants these next hops.
    fn want_hops(&mut self, place: usize, origin: Origin, members: &[FibNextHop]) {
        for key in members.iter().map(key_of) {
            let hop = self.hops.wanted.entry(key).or_default();
            if hop.groups.insert(place) && origin == Origin::Bgp {
                hop.tracked += 1;
                if hop.tracked == 1 {
                    self.interest.push_back(Interest::Track(key));
                }
            }
        }
    }

    /// One user less; a group without any is given up, its slot when no route points to it any more.
    fn release(&mut self, place: usize) {
        let Some(group) = self.groups.wanted.get_mut(place) else {
            return;
        };
        group.users -= 1;
        if group.users > 0 {
            return;
        }
        let group = self.groups.wanted.remove(place);
        self.groups
            .by_members
            .remove(&(group.origin, Arc::clone(&group.members)));
        self.groups.dirty.remove(&place);
        self.groups.left_out.remove(&place);
        self.groups.unanswered.remove(&place);
        self.forget_starved(place);
        for prefix in group.waiting4 {
            self.routes4.touch(prefix);
        }
        for prefix in group.waiting6 {
            self.routes6.touch(prefix);
        }
        if let Some(id) = group.id
            && let Some(slot) = self.groups.slots.get_mut(&id)
        {
            slot.owner = None;
            if slot.routes == 0 {
                self.groups.idle.insert(id);
            }
            let keys = group.members.iter().map(key_of);
            let ids = keys.filter_map(|key| Some((self.hops.wanted.get(&key)?.id?, key)));
            let remembered = Remembered {
                members: Arc::clone(&group.members),
                ids: ids.collect(),
                slots: slot.slots.clone(),
            };
            // Who was away has no claim to a group that somebody else may take over.
            slot.slots = Slots::from_group(&slot.value);
            self.groups.remember(remembered);
        }
        for key in group.members.iter().map(key_of) {
            self.release_hop(key, place, group.origin);
        }
    }

    fn release_hop(&mut self, key: NextHopKey, place: usize, origin: Origin) {
        let Some(hop) = self.hops.wanted.get_mut(&key) else {
            return;
        };
        if !hop.groups.remove(&place) {
            return;
        }
        let before = hop.resolution();
        match origin {
            Origin::Bgp => {
                hop.tracked -= 1;
                if hop.tracked == 0 {
                    hop.told = None;
                    self.interest.push_back(Interest::Release(key));
                }
            }
            Origin::Local => hop.local = None,
        }
        if !hop.groups.is_empty() {
            changed(&mut self.hops, &mut self.groups, key, before);
            return;
        }
        let id = hop.id;
        self.hops.wanted.remove(&key);
        self.hops.dirty.remove(&key);
        self.hops.left_out.remove(&key);
        if let Some(id) = id
            && let Some(slot) = self.hops.slots.get_mut(&id)
        {
            slot.owner = None;
            if slot.groups == 0 {
                self.hops.idle.insert(id);
            }
        }
    }

    fn set_port(&mut self, ifindex: u32, port: Option<causeway_net::Port>) {
        let fits = ifindex < self.capacities.ifindex;
        self.ports.left_out.remove(&ifindex);
        match port {
            Some(_) if !fits => {
                self.ports.left_out.insert(ifindex);
            }
            Some(port) => {
                let uplink = match port.role {
                    PortRole::Uplink => port_flags::UPLINK,
                    PortRole::Pod => port_flags::POD,
                    PortRole::Access => 0,
                };
                let vlan = match port.kind {
                    LinkKind::Vlan { parent, vid } => Some(VlanKey {
                        parent,
                        vid,
                        reserved: 0,
                    }),
                    LinkKind::Plain | LinkKind::Veth { .. } => None,
                };
                let entry = PortEntry {
                    port: Port {
                        flags: port_flags::ENABLED | uplink,
                        mac: port.mac.0,
                        reserved: [0; 2],
                    },
                    tx: vlan.map_or(ifindex, |key| key.parent),
                    vlan,
                };
                self.ports.wanted.insert(ifindex, entry);
            }
            None => {
                self.ports.wanted.remove(&ifindex);
            }
        }
        self.ports.dirty.insert(ifindex);
    }

    fn set_local<P: TableFamily>(&mut self, prefix: P, subnet: Subnet, local: Option<Local>)
    where
        Self: Tables<P>,
    {
        let target = local.map(|local| match local {
            Local::Punt => LocalTarget::Punt,
            Local::Host(adjacency) => LocalTarget::Group(self.acquire_host(subnet, adjacency)),
        });
        let table = self.table();
        let before = match target {
            Some(target) => table.local.insert(prefix, target),
            None => table.local.remove(&prefix),
        };
        table.touch(prefix);
        if let Some(LocalTarget::Group(place)) = before {
            self.release(place);
        }
    }

    fn acquire_host(&mut self, subnet: Subnet, adjacency: Adjacency) -> usize {
        let member = FibNextHop {
            addr: subnet.addr(),
            link: Some(adjacency.ifindex),
            weight: 1,
        };
        let key = key_of(&member);
        let place = self.acquire(Origin::Local, &Arc::from([member]));
        if let Some(hop) = self.hops.wanted.get_mut(&key) {
            let before = hop.resolution();
            hop.local = Some(adjacency);
            changed(&mut self.hops, &mut self.groups, key, before);
        }
        place
    }
}

/// The table of a family.
pub(super) trait Tables<P> {
    fn table(&mut self) -> &mut Table<P>;
    fn table_ref(&self) -> &Table<P>;
    /// The index of this family.
    fn pods(&mut self) -> &mut Pods<P>;
}

impl Tables<Prefix4> for Planner {
    fn table(&mut self) -> &mut Table<Prefix4> {
        &mut self.routes4
    }

    fn table_ref(&self) -> &Table<Prefix4> {
        &self.routes4
    }

    fn pods(&mut self) -> &mut Pods<Prefix4> {
        &mut self.pods4
    }
}

impl Tables<Prefix6> for Planner {
    fn table(&mut self) -> &mut Table<Prefix6> {
        &mut self.routes6
    }

    fn table_ref(&self) -> &Table<Prefix6> {
        &self.routes6
    }

    fn pods(&mut self) -> &mut Pods<Prefix6> {
        &mut self.pods6
    }
}

/// Marks what depends on a next hop: always its entry; its groups only if it now counts otherwise among their members.
fn changed(hops: &mut Hops, groups: &mut Groups, key: NextHopKey, before: Option<Resolution>) {
    let Some(hop) = hops.wanted.get(&key) else {
        return;
    };
    let after = hop.resolution();
    if before == after {
        return;
    }
    hops.dirty.insert(key);
    if !matches!(after, Some(Resolution::Resolved(_))) {
        hops.left_out.remove(&key);
    }
    let kind = |r: &Option<Resolution>| r.as_ref().map(core::mem::discriminant);
    if kind(&before) != kind(&after) {
        groups.dirty.extend(&hop.groups);
    }
}

fn own<P: TableFamily>(table: &mut Table<P>, prefixes: Vec<P>) {
    let ranges = prefixes.into_iter().filter(|prefix| prefix.len() < P::BITS);
    let after = ranges.collect();
    let before = core::mem::replace(&mut table.owned, after);
    let changed: Vec<P> = before.symmetric_difference(&table.owned).copied().collect();
    for prefix in changed {
        table.touch(prefix);
    }
}

fn touch_set<P: TableFamily>(table: &mut Table<P>, set: NextHopSetId) {
    let touched: Vec<P> = table
        .entries
        .iter()
        .filter(|(_, entry)| entry.bgp == Some(set))
        .map(|(prefix, _)| *prefix)
        .collect();
    for prefix in touched {
        table.touch(prefix);
    }
}
