//! Routes: which set each shall point at, and which group it does.

use std::collections::{BTreeSet, VecDeque};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{BLACKHOLE_METRIC, KernelTable, MAX_ROUTES, METRIC, Op};
use crate::facts::Subnet;
use crate::fib::SetId;

/// No group.
const NONE: u32 = 0;

/// All prefixes that are wanted or held.
#[derive(Debug, Default)]
pub(super) struct RouteStore {
    entries: HashMap<Subnet, Entry, RandomState>,
    /// Prefixes to be looked at; each at most once.
    queue: VecDeque<Subnet>,
    queued: hashbrown::HashSet<Subnet, RandomState>,
    /// All prefixes are to be looked at.
    pub(super) scan: bool,
    /// Sets without a group whose routes wait for it.
    pub(super) waiting: BTreeSet<SetId>,
    /// Routes of ours with another metric than we give: an earlier version's.
    pub(super) strays: BTreeSet<(Subnet, u32)>,
    conflicts: BTreeSet<Subnet>,
    /// Somebody else's route with our metric is there: a replacement could hit that one.
    contested: BTreeSet<Subnet>,
    left_out: u64,
    held: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    wanted: Option<SetId>,
    /// The group that the kernel's route points at, or [`NONE`].
    held: u32,
    /// Of the listing being made.
    seen: bool,
}

/// Routes with another metric that are remembered, to be removed.
const MAX_STRAYS: usize = 4_096;

impl RouteStore {
    pub(super) fn want(&mut self, prefix: Subnet, set: Option<SetId>) {
        if set.is_some() && self.entries.len() >= MAX_ROUTES && !self.entries.contains_key(&prefix)
        {
            self.left_out += 1;
            return;
        }
        let entry = self.entries.entry(prefix).or_default();
        if entry.wanted != set {
            entry.wanted = set;
            self.queue(prefix);
        }
    }

    pub(super) fn queue(&mut self, prefix: Subnet) {
        if self.queued.insert(prefix) {
            self.queue.push_back(prefix);
        }
    }

    /// Not now: it was refused, and comes up again with the next listing.
    pub(super) fn unqueue(&mut self, prefix: Subnet) {
        if self.queued.remove(&prefix) {
            self.queue.retain(|other| *other != prefix);
        }
    }

    /// The kernel has no route of ours for it.
    pub(super) fn lost(&mut self, prefix: Subnet) -> Option<u32> {
        let entry = self.entries.get_mut(&prefix)?;
        let before = core::mem::replace(&mut entry.held, NONE);
        self.queue(prefix);
        if before == NONE {
            return None;
        }
        self.held -= 1;
        Some(before)
    }

    /// Whether this is news: a route that is not ours, or not known to be, has its prefix and metric.
    pub(super) fn in_the_way(&mut self, prefix: Subnet) -> bool {
        self.lost(prefix);
        self.unqueue(prefix);
        self.conflicts.insert(prefix)
    }

    /// Looks again whether what was in the way has gone without a word.
    pub(super) fn try_conflicts(&mut self) {
        for prefix in core::mem::take(&mut self.conflicts) {
            self.queue(prefix);
        }
    }

    /// Somebody else has a route with the same prefix and metric beside or instead of ours, or no longer.
    pub(super) fn contest(&mut self, prefix: Subnet, there: bool) {
        if !there {
            self.contested.remove(&prefix);
        } else if self.contested.len() < MAX_STRAYS {
            self.contested.insert(prefix);
        }
    }

    /// What was in the way has gone.
    pub(super) fn free_again(&mut self, prefix: Subnet) {
        if self.conflicts.remove(&prefix) {
            self.queue(prefix);
        }
    }

    /// A group has gone, and its routes with it.
    pub(super) fn group_gone(&mut self, group: u32) {
        for entry in self.entries.values_mut() {
            if entry.held == group {
                entry.held = NONE;
                self.held -= 1;
            }
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn conflicts(&self) -> usize {
        self.conflicts.len()
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(super) fn is_settled(&self) -> bool {
        self.queue.is_empty() && !self.scan
    }

    pub(super) fn listing_begins(&mut self) {
        for entry in self.entries.values_mut() {
            entry.seen = false;
        }
    }

    /// The kernel's route for a prefix points at this group. Returns the group it was believed to point at.
    pub(super) fn found(&mut self, prefix: Subnet, group: u32) -> Option<u32> {
        if self.entries.len() >= MAX_ROUTES && !self.entries.contains_key(&prefix) {
            self.left_out += 1;
            return None;
        }
        let entry = self.entries.entry(prefix).or_default();
        entry.seen = true;
        self.conflicts.remove(&prefix);
        if entry.held == group {
            return None;
        }
        let before = core::mem::replace(&mut entry.held, group);
        if before == NONE {
            self.held += 1;
        }
        self.queue(prefix);
        Some(before)
    }

    /// Those believed to be there that the listing did not show, with their groups.
    pub(super) fn unseen(&self) -> Vec<Subnet> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.held != NONE && !entry.seen)
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    pub(super) fn is_wanted(&self, prefix: Subnet) -> bool {
        self.entries
            .get(&prefix)
            .is_some_and(|entry| entry.wanted.is_some())
    }

    pub(super) fn is_held(&self, prefix: Subnet) -> bool {
        self.entries
            .get(&prefix)
            .is_some_and(|entry| entry.held != NONE)
    }
}

impl KernelTable {
    pub(super) fn emit_routes(&mut self, max: usize) {
        if core::mem::take(&mut self.routes.scan) {
            self.scan();
        }
        while self.batch.len() < max {
            let Some(prefix) = self.routes.queue.pop_front() else {
                break;
            };
            self.routes.queued.remove(&prefix);
            self.emit_owned(prefix);
            self.emit_route(prefix);
        }
        if !self.inheriting {
            while self.batch.len() < max
                && let Some((prefix, metric)) = self.routes.strays.pop_first()
            {
                self.batch.push(Op::RemoveRoute { prefix, metric });
            }
        }
    }

    /// Queues every prefix whose route is not as wanted.
    fn scan(&mut self) {
        let wrong: Vec<Subnet> = self
            .routes
            .entries
            .iter()
            .filter(|(prefix, entry)| {
                let target = self.target(**prefix, entry.wanted);
                target.is_some_and(|target| target != entry.held)
            })
            .map(|(prefix, _)| *prefix)
            .collect();
        for prefix in wrong {
            self.routes.queue(prefix);
        }
    }

    /// The group that a route shall point at; `None` to leave it as it is for now.
    fn target(&self, prefix: Subnet, wanted: Option<SetId>) -> Option<u32> {
        // What this node originates ends here.
        if self.owned.get(&prefix).is_some_and(|owned| owned.wanted) || !self.enabled {
            return Some(NONE);
        }
        let Some(set) = wanted else {
            return (!self.inheriting).then_some(NONE);
        };
        let group = self.sets.get(&set).and_then(|set| set.group);
        let held = |id: &u32| self.groups.get(id).is_some_and(|slot| slot.held.is_some());
        match group {
            Some(id) if held(&id) => Some(id),
            // A set of which nothing is reachable: what there is of an earlier daemon stays until we know better.
            _ => (!self.inheriting).then_some(NONE),
        }
    }

    fn emit_route(&mut self, prefix: Subnet) {
        let Some(entry) = self.routes.entries.get(&prefix).copied() else {
            return;
        };
        let target = self.target(prefix, entry.wanted);
        if let Some(set) = entry.wanted
            && target.is_none_or(|target| target == NONE)
        {
            self.routes.waiting.insert(set);
        }
        let Some(target) = target else {
            return;
        };
        if entry.wanted.is_none() && entry.held == NONE {
            self.routes.entries.remove(&prefix);
            self.routes.conflicts.remove(&prefix);
            return;
        }
        if target == entry.held || self.routes.conflicts.contains(&prefix) {
            return;
        }
        let held = entry.held != NONE;
        let replace = held && target != NONE && !self.routes.contested.contains(&prefix);
        if held && !replace {
            let metric = METRIC;
            self.batch.push(Op::RemoveRoute { prefix, metric });
        }
        if target != NONE {
            self.batch.push(Op::Route {
                prefix,
                group: target,
                replace,
            });
        }
        self.move_route(prefix, target);
        if entry.wanted.is_none() {
            self.routes.entries.remove(&prefix);
        }
    }

    /// The kernel's route is believed to point at this group from now on.
    fn move_route(&mut self, prefix: Subnet, group: u32) {
        let Some(entry) = self.routes.entries.get_mut(&prefix) else {
            return;
        };
        let before = core::mem::replace(&mut entry.held, group);
        match (before, group) {
            (NONE, NONE) => {}
            (NONE, _) => self.routes.held += 1,
            (_, NONE) => self.routes.held -= 1,
            _ => {}
        }
        self.count(before, group);
    }

    /// One route less for a group, and one more for another.
    pub(super) fn count(&mut self, from: u32, to: u32) {
        if let Some(slot) = self.groups.get_mut(&to) {
            slot.routes += 1;
        }
        if let Some(slot) = self.groups.get_mut(&from) {
            slot.routes = slot.routes.saturating_sub(1);
            if slot.routes == 0 && slot.owner.is_none() {
                self.idle.insert(from);
            }
        }
    }

    fn emit_owned(&mut self, prefix: Subnet) {
        let (enabled, inheriting) = (self.enabled, self.inheriting);
        let Some(owned) = self.owned.get_mut(&prefix) else {
            return;
        };
        let wanted = owned.wanted && enabled;
        if wanted && !owned.held && !owned.refused {
            owned.held = true;
            self.batch.push(Op::Blackhole { prefix });
        } else if !wanted && owned.held && !(inheriting && enabled) {
            owned.held = false;
            self.batch.push(Op::RemoveRoute {
                prefix,
                metric: BLACKHOLE_METRIC,
            });
        }
        if !owned.wanted && !owned.held {
            self.owned.remove(&prefix);
        }
    }

    /// A route of ours was found with a metric that we don't give.
    pub(super) fn stray(&mut self, prefix: Subnet, metric: u32) {
        if self.routes.strays.len() < MAX_STRAYS {
            self.routes.strays.insert((prefix, metric));
        }
    }
}
