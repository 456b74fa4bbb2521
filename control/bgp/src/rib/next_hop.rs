//! Next hops in use, whether they can be reached, and the interned sets of them that the FIB is given.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{NextHopInterest, NextHopKey};
use crate::fib::{FibNextHop, NextHopSetId};
use crate::types::Family;
use crate::wire::NextHop;

/// A next hop in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NextHopIndex(u32);

#[derive(Debug)]
struct Entry {
    key: NextHopKey,
    /// Attribute sets that name it.
    refs: u32,
    metric: Option<u32>,
    /// What it cost when it could be reached last.
    last_metric: Option<u32>,
    /// Somebody said whether it can be reached.
    answered: bool,
    /// By [`Family::index`]: changed since the last walk over that family's table began, or under that walk.
    change: [Change; Family::ALL.len()],
    /// An address of ours.
    own: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Waiting,
    Walking,
}

/// Next hops by index.
#[derive(Debug)]
pub(super) struct NextHops {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: HashMap<NextHopKey, u32, FixedState>,
    interest: VecDeque<NextHopInterest>,
    /// Lost their last reference; released when nobody took them up again.
    idle: Vec<u32>,
    own: Vec<IpAddr>,
    assume_reachable: bool,
}

impl NextHops {
    pub(super) fn new(assume_reachable: bool, seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashMap::with_hasher(FixedState::with_seed(seed)),
            interest: VecDeque::new(),
            idle: Vec::new(),
            own: Vec::new(),
            assume_reachable,
        }
    }

    /// The interface index that this next hop is bound to; 0 for an address that means the same everywhere.
    #[expect(clippy::unused_self, reason = "reads as a question to the table")]
    pub(super) fn binding_link(&self, next_hop: NextHop, link: Option<u32>) -> u32 {
        match next_hop {
            NextHop::V4(_) => 0,
            NextHop::V6(addr) if !addr.is_unicast_link_local() => 0,
            NextHop::V6(_) | NextHop::V6LinkLocal { .. } => link.unwrap_or(0),
        }
    }

    /// The entry of a next hop, with one reference for the caller.
    pub(super) fn acquire(&mut self, next_hop: NextHop, link: u32) -> NextHopIndex {
        let key = key(next_hop, link);
        if let Some(&index) = self.index.get(&key) {
            if let Some(entry) = &mut self.entries[index as usize] {
                entry.refs += 1;
            }
            return NextHopIndex(index);
        }
        let local = key.addr.is_unspecified();
        let known = local || self.assume_reachable;
        let entry = Entry {
            key,
            refs: 1,
            metric: known.then_some(0),
            last_metric: None,
            answered: known,
            change: [Change::None; Family::ALL.len()],
            own: self.own.contains(&key.addr),
        };
        if !local {
            self.interest.push_back(NextHopInterest::Track(key));
        }
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = Some(entry);
                index
            }
            None => {
                self.entries.push(Some(entry));
                u32::try_from(self.entries.len() - 1).expect("fewer next hops than attribute sets")
            }
        };
        self.index.insert(key, index);
        NextHopIndex(index)
    }

    /// Drops a reference.
    pub(super) fn release(&mut self, index: NextHopIndex) {
        if let Some(entry) = self
            .entries
            .get_mut(index.0 as usize)
            .and_then(Option::as_mut)
        {
            entry.refs -= 1;
            if entry.refs == 0 {
                self.idle.push(index.0);
            }
        }
    }

    /// Forgets next hops that nobody names any more. Not done at once, because a path replaced by an equal one lets go
    /// of its next hop for a moment.
    pub(super) fn collect(&mut self) {
        for index in core::mem::take(&mut self.idle) {
            let slot = &mut self.entries[index as usize];
            if let Some(entry) = slot.take_if(|entry| entry.refs == 0) {
                self.index.remove(&entry.key);
                self.free.push(index);
                if !entry.key.addr.is_unspecified() {
                    self.interest.push_back(NextHopInterest::Release(entry.key));
                }
            }
        }
    }

    pub(super) fn poll_interest(&mut self) -> Option<NextHopInterest> {
        self.interest.pop_front()
    }

    /// Records reachability; returns whether a walk over the table is due.
    pub(super) fn set_metric(&mut self, key: NextHopKey, metric: Option<u32>) -> bool {
        let Some(&index) = self.index.get(&key) else {
            return false;
        };
        let Some(entry) = &mut self.entries[index as usize] else {
            return false;
        };
        let changed = entry.metric != metric;
        entry.last_metric = entry.metric.or(entry.last_metric);
        entry.metric = metric;
        entry.answered = true;
        if changed {
            entry.change = [Change::Waiting; Family::ALL.len()];
        }
        changed
    }

    /// Whether nobody has said of some next hop yet if it can be reached.
    pub(super) fn unanswered(&self) -> bool {
        self.entries.iter().flatten().any(|entry| !entry.answered)
    }

    /// Records the own addresses; returns whether a walk over the table is due.
    pub(super) fn set_own(&mut self, own: Vec<IpAddr>) -> bool {
        self.own = own;
        let mut changed = false;
        for entry in self.entries.iter_mut().flatten() {
            let own = self.own.contains(&entry.key.addr);
            if own != entry.own {
                entry.own = own;
                entry.change = [Change::Waiting; Family::ALL.len()];
                changed = true;
            }
        }
        changed
    }

    /// Begins a walk over a family's table for everything that changed so far.
    pub(super) fn begin_walk(&mut self, family: Family) {
        for entry in self.entries.iter_mut().flatten() {
            let change = &mut entry.change[family.index()];
            if *change == Change::Waiting {
                *change = Change::Walking;
            }
        }
    }

    /// Ends it.
    pub(super) fn end_walk(&mut self, family: Family) {
        for entry in self.entries.iter_mut().flatten() {
            let change = &mut entry.change[family.index()];
            if *change == Change::Walking {
                *change = Change::None;
            }
        }
    }

    /// Whether the walk in progress is about this one.
    pub(super) fn is_walked(&self, index: NextHopIndex, family: Family) -> bool {
        self.entry(index)
            .is_some_and(|entry| entry.change[family.index()] != Change::None)
    }

    /// Cost to reach it; `None` if it can't be reached or is an address of ours.
    pub(super) fn metric(&self, index: NextHopIndex) -> Option<u32> {
        self.entry(index)
            .filter(|entry| !entry.own)
            .and_then(|entry| entry.metric)
    }

    /// What it cost before it could not be reached any more; `None` if it never could or is an address of ours.
    pub(super) fn last_metric(&self, index: NextHopIndex) -> Option<u32> {
        self.entry(index)
            .filter(|entry| !entry.own)
            .and_then(|entry| entry.last_metric)
    }

    pub(super) fn is_own(&self, index: NextHopIndex) -> bool {
        self.entry(index).is_some_and(|entry| entry.own)
    }

    fn key(&self, index: NextHopIndex) -> Option<NextHopKey> {
        self.entry(index).map(|entry| entry.key)
    }

    fn entry(&self, index: NextHopIndex) -> Option<&Entry> {
        self.entries.get(index.0 as usize)?.as_ref()
    }
}

/// The address to send to: on a shared link the link-local one (RFC 2545 3).
fn key(next_hop: NextHop, link: u32) -> NextHopKey {
    let link = (link != 0).then_some(link);
    match next_hop {
        NextHop::V4(addr) => NextHopKey {
            addr: addr.into(),
            link: None,
        },
        NextHop::V6LinkLocal { link_local, .. } if link.is_some() => NextHopKey {
            addr: link_local.into(),
            link,
        },
        NextHop::V6(addr) | NextHop::V6LinkLocal { global: addr, .. } => NextHopKey {
            addr: addr.into(),
            link: link.filter(|_| addr.is_unicast_link_local()),
        },
    }
}

/// Whether packets can be sent there at all.
pub(super) fn is_martian(next_hop: NextHop) -> bool {
    match next_hop {
        NextHop::V4(addr) => {
            addr.is_unspecified()
                || addr.is_loopback()
                || addr.is_multicast()
                || addr.octets()[0] == 0
                || addr.octets()[0] >= 240
                || addr == Ipv4Addr::BROADCAST
        }
        NextHop::V6(addr) | NextHop::V6LinkLocal { global: addr, .. } => {
            addr.is_unspecified() || addr.is_loopback() || addr.is_multicast()
        }
    }
}

/// A member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) hop: NextHopIndex,
    /// Share of the traffic, at least 1.
    pub(super) weight: u8,
}

/// The members of a set, sorted.
pub(super) type Members = SmallVec<[Member; 4]>;

#[derive(Debug)]
struct Set {
    members: Members,
    /// Destinations that point at it.
    refs: u32,
}

/// The interned sets of next hops.
#[derive(Debug)]
pub(super) struct NextHopSets {
    sets: Vec<Option<Set>>,
    free: Vec<u32>,
    index: HashMap<Members, u32, FixedState>,
    /// To be defined at the next delta.
    fresh: Vec<(NextHopSetId, Arc<[FibNextHop]>)>,
    /// Lost their last destination.
    idle: Vec<u32>,
}

/// Stands for "no set" in a destination.
pub(super) const NO_SET: u32 = u32::MAX;

impl NextHopSets {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sets: Vec::new(),
            free: Vec::new(),
            index: HashMap::with_hasher(FixedState::with_seed(seed)),
            fresh: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// The set of these members, with one reference for the caller.
    pub(super) fn acquire(&mut self, members: &Members, next_hops: &mut NextHops) -> u32 {
        if let Some(&id) = self.index.get(members) {
            if let Some(set) = &mut self.sets[id as usize] {
                set.refs += 1;
            }
            return id;
        }
        let mut fib: Vec<FibNextHop> = members
            .iter()
            .filter_map(|member| Some((next_hops.key(member.hop)?, member.weight)))
            .map(|(key, weight)| FibNextHop {
                addr: key.addr,
                link: key.link,
                weight: weight.into(),
            })
            .collect();
        fib.sort_unstable();
        for member in members {
            // A set outlives the paths that made it until its release is delivered.
            if let Some(entry) = &mut next_hops.entries[member.hop.0 as usize] {
                entry.refs += 1;
            }
        }
        let set = Set {
            members: members.clone(),
            refs: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.sets[id as usize] = Some(set);
                id
            }
            None => {
                self.sets.push(Some(set));
                u32::try_from(self.sets.len() - 1).expect("fewer sets than destinations")
            }
        };
        self.index.insert(members.clone(), id);
        self.fresh.push((NextHopSetId(id), fib.into()));
        id
    }

    pub(super) fn members(&self, id: u32) -> Option<&Members> {
        self.sets.get(id as usize)?.as_ref().map(|set| &set.members)
    }

    pub(super) fn release(&mut self, id: u32) {
        if let Some(set) = self.sets.get_mut(id as usize).and_then(Option::as_mut) {
            set.refs -= 1;
            if set.refs == 0 {
                self.idle.push(id);
            }
        }
    }

    pub(super) fn take_definitions(&mut self) -> Vec<(NextHopSetId, Arc<[FibNextHop]>)> {
        core::mem::take(&mut self.fresh)
    }

    /// Sets that nothing points at any more. Only to be taken when every route change was delivered.
    pub(super) fn take_releases(&mut self, next_hops: &mut NextHops) -> Vec<NextHopSetId> {
        let mut released = Vec::new();
        for id in core::mem::take(&mut self.idle) {
            if let Some(set) = self.sets[id as usize].take_if(|set| set.refs == 0) {
                self.index.remove(&set.members);
                for member in &set.members {
                    next_hops.release(member.hop);
                }
                self.free.push(id);
                released.push(NextHopSetId(id));
            }
        }
        released
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}
