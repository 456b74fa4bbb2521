//! What is wanted and what the array maps hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use causeway_bgp::fib::{FibNextHop, NextHopSetId};
use causeway_bgp::types::{Prefix4, Prefix6};
use causeway_maps::{Group, GroupId, NextHop, NextHopId, Port, VlanKey};
use causeway_net::{Adjacency, NextHopKey, Resolution};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use slab::Slab;

use crate::ids::Ids;
use crate::slots::Slots;

/// Ports: wanted, in the map, and those to be looked at.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pub(super) wanted: BTreeMap<u32, PortEntry>,
    pub(super) written: BTreeMap<u32, PortEntry>,
    pub(super) dirty: BTreeSet<u32>,
    pub(super) left_out: BTreeSet<u32>,
}

/// What the maps say of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortEntry {
    pub(super) port: Port,
    /// Where its frames leave by: its entry of `tx_ports`.
    pub(super) tx: u32,
    /// The tag by which it is known, on `tx`.
    pub(super) vlan: Option<VlanKey>,
}

/// Next hops.
#[derive(Debug)]
pub(super) struct Hops {
    /// Those that some group wants.
    pub(super) wanted: BTreeMap<NextHopKey, Hop>,
    /// The map.
    pub(super) slots: BTreeMap<NextHopId, HopSlot>,
    pub(super) ids: Ids,
    /// Those whose entry may have to change.
    pub(super) dirty: BTreeSet<NextHopKey>,
    /// Slots that no group in the map holds any more.
    pub(super) idle: BTreeSet<NextHopId>,
    pub(super) left_out: BTreeSet<NextHopKey>,
    /// Slots to be zeroed although nobody is known to have used them.
    pub(super) stray: Vec<NextHopId>,
}

/// A next hop that some group wants.
#[derive(Debug, Default)]
pub(super) struct Hop {
    /// Groups that want it.
    pub(super) groups: BTreeSet<usize>,
    /// Of these, how many come from BGP: the network is asked for it while there is one.
    pub(super) tracked: usize,
    /// What the network answered.
    pub(super) told: Option<Resolution>,
    /// What a local host route brought along.
    pub(super) local: Option<Adjacency>,
    pub(super) id: Option<NextHopId>,
}

impl Hop {
    /// What it resolves to, as far as it is known.
    pub(super) fn resolution(&self) -> Option<Resolution> {
        self.local.map(Resolution::Resolved).or(self.told)
    }
}

/// An entry of `next_hops`.
#[derive(Debug)]
pub(super) struct HopSlot {
    pub(super) value: NextHop,
    /// Groups in the map that hold it.
    pub(super) groups: u32,
    /// `None` for one found in the map that nobody has asked for yet.
    pub(super) owner: Option<NextHopKey>,
}

/// Groups.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) wanted: Slab<WantedGroup>,
    /// Place by members: equal sets share a group.
    pub(super) by_members: HashMap<(Origin, Arc<[FibNextHop]>), usize, RandomState>,
    pub(super) sets: HashMap<NextHopSetId, usize, RandomState>,
    /// The map.
    pub(super) slots: BTreeMap<GroupId, GroupSlot>,
    pub(super) ids: Ids,
    /// Places whose entry may have to change.
    pub(super) dirty: BTreeSet<usize>,
    /// Slots that no route in the map points to and nobody wants.
    pub(super) idle: BTreeSet<GroupId>,
    /// Places that got no id.
    pub(super) left_out: BTreeSet<usize>,
    /// Slots to be zeroed although nobody is known to have used them.
    pub(super) stray: Vec<GroupId>,
    /// Places whose next hops the network has not all spoken of.
    pub(super) unanswered: BTreeSet<usize>,
    /// Tables of sets that were given up lately: one that comes back finds its flows.
    pub(super) remembered: VecDeque<Remembered>,
}

/// The table of a set that nobody wants now.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) members: Arc<[FibNextHop]>,
    /// What the ids in the table stood for.
    pub(super) ids: Vec<(NextHopId, NextHopKey)>,
    pub(super) slots: Slots,
}

impl Remembered {
    /// Whether it knows every member.
    fn is_complete(&self) -> bool {
        self.ids.len() == self.members.len() && self.ids.iter().all(|(id, _)| self.slots.knows(*id))
    }
}

/// Tables remembered, of 5 KiB each.
pub(super) const MAX_REMEMBERED: usize = 64;

/// Who wants a group. Kept apart, because only BGP's next hops are tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    Bgp,
    Local,
}

/// A group that a set or a host route wants.
#[derive(Debug)]
pub(super) struct WantedGroup {
    pub(super) origin: Origin,
    pub(super) members: Arc<[FibNextHop]>,
    /// Sets and host routes that stand for it.
    pub(super) users: usize,
    pub(super) id: Option<GroupId>,
    /// Routes to be looked at again when it is in the map.
    pub(super) waiting4: BTreeSet<Prefix4>,
    pub(super) waiting6: BTreeSet<Prefix6>,
}

/// An entry of `groups`.
#[derive(Debug)]
pub(super) struct GroupSlot {
    pub(super) value: Box<Group>,
    /// Distinct members of `value`, ascending.
    pub(super) members: Vec<NextHopId>,
    /// What `value` is made from.
    pub(super) slots: Slots,
    /// Routes in the map that point to it.
    pub(super) routes: u64,
    /// `None` for one that nobody wants, or found in the map.
    pub(super) owner: Option<usize>,
}

impl Hops {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            wanted: BTreeMap::new(),
            slots: BTreeMap::new(),
            ids: Ids::new(NextHopId::FIRST.0, capacity),
            dirty: BTreeSet::new(),
            idle: BTreeSet::new(),
            left_out: BTreeSet::new(),
            stray: Vec::new(),
        }
    }
}

impl Groups {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            wanted: Slab::new(),
            by_members: HashMap::default(),
            sets: HashMap::default(),
            slots: BTreeMap::new(),
            ids: Ids::new(GroupId::FIRST.0, capacity),
            dirty: BTreeSet::new(),
            idle: BTreeSet::new(),
            left_out: BTreeSet::new(),
            stray: Vec::new(),
            unanswered: BTreeSet::new(),
            remembered: VecDeque::new(),
        }
    }

    /// Keeps a table for when its set comes back; one of a single member tells nothing, and one that a member never came to
    /// tells less than an earlier one.
    pub(super) fn remember(&mut self, table: Remembered) {
        if table.members.len() < 2 {
            return;
        }
        let same = |other: &Remembered| other.members == table.members;
        if !table.is_complete() && self.remembered.iter().any(same) {
            return;
        }
        self.remembered.retain(|other| !same(other));
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(table);
    }

    /// Counts routes of the map to and from a group; one that nobody needs becomes idle.
    pub(super) fn move_route(&mut self, from: Option<GroupId>, to: Option<GroupId>) {
        if from == to {
            return;
        }
        if let Some(slot) = to.and_then(|id| self.slots.get_mut(&id)) {
            slot.routes += 1;
        }
        if let Some(id) = from
            && let Some(slot) = self.slots.get_mut(&id)
        {
            slot.routes = slot.routes.saturating_sub(1);
            if slot.routes == 0 && slot.owner.is_none() {
                self.idle.insert(id);
            }
        }
    }
}

impl GroupSlot {
    /// An entry with this table, to which no route points.
    pub(super) fn new(slots: Slots, value: Group) -> Self {
        Self {
            members: members_of(&value),
            value: Box::new(value),
            slots,
            routes: 0,
            owner: None,
        }
    }

    /// How many members it has in common with `ids`, which ascend.
    pub(super) fn in_common(&self, ids: &[NextHopId]) -> usize {
        let known = |id: &&NextHopId| ids.binary_search(id).is_ok();
        self.members.iter().filter(known).count()
    }
}

/// The distinct next hops of a group's entry, ascending.
pub(crate) fn members_of(group: &Group) -> Vec<NextHopId> {
    let mut ids: Vec<u16> = group.slots.iter().flat_map(|slot| slot.order).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| *id != 0);
    ids.into_iter().map(|id| NextHopId(u32::from(id))).collect()
}
