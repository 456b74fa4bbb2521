//! Prefixes of one family: what wants them where, and what the map holds.

use std::collections::VecDeque;

use causeway_bgp::fib::{FibNextHop, NextHopSetId};
use causeway_bgp::types::{AddressFamily, Prefix, Prefix4, Prefix6};
use causeway_maps::catalogue::{ROUTES4, ROUTES6};
use causeway_maps::{GroupId, RouteKey4, RouteKey6};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::blocks::Cover;
use crate::planner::Why;
use crate::write::{Key, Write};

/// A route as people want to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// Prefix.
    pub prefix: Prefix,
    /// `connected`, `neighbour`, `bgp`, `owned`, or `restored` for one taken over from the map and not yet wanted.
    pub origin: &'static str,
    /// Group that the map's entry points to; `None` if it is not in the map.
    pub group: Option<GroupId>,
    /// Members of the set it stands for; none for what the stack answers.
    pub members: Vec<FibNextHop>,
    /// Why it is not in the maps as it should, if that is for want of room or because the kernel refused.
    pub refused: Option<Why>,
}

/// A family whose prefixes are keys of a map.
pub(crate) trait TableFamily: AddressFamily {
    /// The name of this family's map.
    const MAP: &'static str;
    /// The write to the map of this family.
    fn write(self, group: Option<GroupId>) -> Write;
    /// The key in the map of this family.
    fn key(self) -> Key;
    /// The first `len` bits of it; all of them if it has no more.
    fn shortened(self, len: u8) -> Self {
        Self::from_bytes(&self.addr_bytes(), len.min(self.len())).unwrap_or(self)
    }
}

impl TableFamily for Prefix4 {
    const MAP: &'static str = ROUTES4.name;

    fn write(self, group: Option<GroupId>) -> Write {
        Write::Route4 {
            key: key4(self),
            group,
        }
    }

    fn key(self) -> Key {
        Key::Route4(key4(self))
    }
}

impl TableFamily for Prefix6 {
    const MAP: &'static str = ROUTES6.name;

    fn write(self, group: Option<GroupId>) -> Write {
        Write::Route6 {
            key: key6(self),
            group,
        }
    }

    fn key(self) -> Key {
        Key::Route6(key6(self))
    }
}

fn key4(prefix: Prefix4) -> RouteKey4 {
    RouteKey4 {
        prefix_len: u32::from(prefix.len()),
        addr: prefix.addr().octets(),
    }
}

fn key6(prefix: Prefix6) -> RouteKey6 {
    RouteKey6 {
        prefix_len: u32::from(prefix.len()),
        addr: prefix.addr().octets(),
    }
}

/// What a local prefix points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalTarget {
    /// [`GroupId::PUNT`].
    Punt,
    /// A group, by its place among the groups.
    Group(usize),
}

/// One prefix.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entry {
    /// BGP's choice.
    pub(crate) bgp: Option<NextHopSetId>,
    /// What the map holds: a group id, 0 for nothing.
    pub(crate) written: u32,
    /// Stands in the queue.
    pub(crate) queued: bool,
}

/// All prefixes of one family.
#[derive(Debug)]
pub(crate) struct Table<P> {
    pub(crate) entries: HashMap<P, Entry, RandomState>,
    pub(crate) local: HashMap<P, LocalTarget, RandomState>,
    /// Ranges that this node announces: what nothing else takes is dropped.
    pub(crate) owned: HashSet<P, RandomState>,
    /// Entries in the map by length.
    by_len: Box<[u32]>,
    queue: VecDeque<P>,
    /// How many ever went through the queue: a position in it.
    pushed: u64,
    popped: u64,
    /// Entries in the map.
    pub(crate) used: u32,
    pub(crate) capacity: u32,
    pub(crate) left_out: HashSet<P, RandomState>,
    /// Refused, as BGP was told.
    pub(crate) told: HashSet<P, RandomState>,
    /// Those that may be refused now, or not any more.
    pub(crate) suspects: Vec<P>,
}

impl<P: TableFamily> Table<P> {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            entries: HashMap::default(),
            local: HashMap::default(),
            owned: HashSet::default(),
            by_len: vec![0; usize::from(P::BITS) + 1].into_boxed_slice(),
            queue: VecDeque::new(),
            pushed: 0,
            popped: 0,
            used: 0,
            capacity,
            left_out: HashSet::default(),
            told: HashSet::default(),
            suspects: Vec::new(),
        }
    }

    /// Sets or clears what BGP wants.
    pub(crate) fn set_bgp(&mut self, prefix: P, set: Option<NextHopSetId>) {
        if set.is_none() && !self.entries.contains_key(&prefix) {
            return;
        }
        self.entries.entry(prefix).or_default().bgp = set;
        self.touch(prefix);
    }

    /// Puts it into the queue, once.
    pub(crate) fn touch(&mut self, prefix: P) {
        let entry = self.entries.entry(prefix).or_default();
        if !core::mem::replace(&mut entry.queued, true) {
            self.queue.push_back(prefix);
            self.pushed += 1;
        }
    }

    /// Takes the next one out of the queue.
    pub(crate) fn pop(&mut self) -> Option<P> {
        let prefix = self.queue.pop_front()?;
        self.popped += 1;
        if let Some(entry) = self.entries.get_mut(&prefix) {
            entry.queued = false;
        }
        if self.queue.is_empty() {
            // After a full table the queue would keep its megabytes.
            self.queue.shrink_to(1024);
        }
        Some(prefix)
    }

    /// The end of the queue as a position.
    pub(crate) fn mark(&self) -> u64 {
        self.pushed
    }

    /// Whether everything before `mark` was taken out.
    pub(crate) fn passed(&self, mark: u64) -> bool {
        self.popped >= mark
    }

    /// Notes what the map holds now, and returns what it held. Forgets a prefix that nobody wants.
    pub(crate) fn write(&mut self, prefix: P, group: Option<GroupId>) -> Option<GroupId> {
        let entry = self.entries.entry(prefix).or_default();
        let now = group.map_or(0, |group| group.0);
        let before = core::mem::replace(&mut entry.written, now);
        if entry.bgp.is_none() && now == 0 && !entry.queued {
            self.entries.remove(&prefix);
        }
        match (before, now) {
            (0, 0) => {}
            (0, _) => {
                self.used += 1;
                self.by_len[usize::from(prefix.len())] += 1;
            }
            (_, 0) => {
                self.used -= 1;
                self.by_len[usize::from(prefix.len())] -= 1;
                self.admit_one();
            }
            _ => {}
        }
        (before != 0).then_some(GroupId(before))
    }

    /// The group that the map holds for a prefix.
    pub(crate) fn group(&self, prefix: P) -> Option<u16> {
        let written = self.entries.get(&prefix)?.written;
        // Ids end far below.
        u16::try_from(written).ok().filter(|group| *group != 0)
    }

    /// All that the map holds.
    pub(crate) fn written(&self) -> impl Iterator<Item = (P, u16)> {
        let prefixes = self.entries.keys();
        prefixes.filter_map(|prefix| Some((*prefix, self.group(*prefix)?)))
    }

    /// The longest prefix in the map that is shorter than `prefix` and covers it.
    pub(crate) fn cover(&self, prefix: P) -> Cover {
        (0..prefix.len())
            .rev()
            .filter(|len| self.by_len[usize::from(*len)] > 0)
            .find_map(|len| Some((len, self.group(prefix.shortened(len))?)))
    }

    /// Whether nothing waits in the queue.
    pub(crate) fn drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets a prefix that was looked at and that nobody wants.
    pub(crate) fn tidy(&mut self, prefix: P) {
        if let Some(entry) = self.entries.get(&prefix)
            && entry.bgp.is_none()
            && entry.written == 0
            && !entry.queued
        {
            self.entries.remove(&prefix);
        }
    }

    /// Another limit. What was left out is looked at again as far as there is room.
    pub(crate) fn set_capacity(&mut self, capacity: u32) {
        if core::mem::replace(&mut self.capacity, capacity) == capacity {
            return;
        }
        let room = capacity.saturating_sub(self.used) as usize;
        let admitted: Vec<P> = self.left_out.iter().take(room).copied().collect();
        for prefix in admitted {
            self.left_out.remove(&prefix);
            self.touch(prefix);
        }
    }

    /// It may have got in, or be wanted no more.
    pub(crate) fn suspect_if_told(&mut self, prefix: P) {
        if !self.told.is_empty() && self.told.contains(&prefix) {
            self.suspects.push(prefix);
        }
    }

    /// There is room: looks again at one that was left out.
    fn admit_one(&mut self) {
        if let Some(prefix) = self.left_out.iter().next().copied() {
            self.left_out.remove(&prefix);
            self.touch(prefix);
        }
    }
}
