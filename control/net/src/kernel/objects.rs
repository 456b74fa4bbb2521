//! Next-hop objects and groups: ids, what is held, what is to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Gateway, KernelTable, MAX_MEMBERS, MAX_OBJECTS, MAX_WEIGHT, Members, Op};
use crate::fib::{Hop, SetId};

/// A set of next hops that BGP uses.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) members: Arc<[Hop]>,
    /// Its group's id.
    pub(super) group: Option<u32>,
}

/// A next-hop object, wanted or held.
#[derive(Debug)]
pub(super) struct HopSlot {
    pub(super) gateway: Gateway,
    /// What the kernel has under this id.
    pub(super) held: Option<Gateway>,
    /// Groups held that it is in.
    pub(super) groups: u32,
    /// The kernel did not take it; out of groups until it is tried again.
    pub(super) refused: bool,
}

/// A group, wanted or held.
#[derive(Debug, Default)]
pub(super) struct GroupSlot {
    pub(super) owner: Option<SetId>,
    pub(super) held: Option<Members>,
    /// Routes held that point at it.
    pub(super) routes: u32,
    pub(super) refused: bool,
}

/// Hands out ids, the lowest free first.
#[derive(Debug)]
pub(super) struct Ids {
    first: u32,
    next: u32,
    free: BTreeSet<u32>,
    /// Somebody else's.
    taken: BTreeSet<u32>,
}

impl Ids {
    pub(super) fn new(first: u32) -> Self {
        Self {
            first,
            next: first,
            free: BTreeSet::new(),
            taken: BTreeSet::new(),
        }
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        (self.first..self.first + MAX_OBJECTS).contains(&id)
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop_first() {
            return Some(id);
        }
        while self.contains(self.next) {
            let id = self.next;
            self.next += 1;
            if !self.taken.contains(&id) {
                return Some(id);
            }
        }
        None
    }

    /// Found in use by an earlier daemon.
    pub(super) fn claim(&mut self, id: u32) {
        self.free.remove(&id);
        while self.contains(self.next) && self.next <= id {
            if self.next != id {
                self.free.insert(self.next);
            }
            self.next += 1;
        }
    }

    /// Found in use by somebody else.
    pub(super) fn avoid(&mut self, id: u32) {
        self.claim(id);
        self.taken.insert(id);
    }

    fn free(&mut self, id: u32) {
        if !self.taken.contains(&id) {
            self.free.insert(id);
        }
    }
}

impl KernelTable {
    /// Brings groups, and the objects that they need, to what is wanted.
    pub(super) fn emit_groups(&mut self, max: usize) {
        while self.batch.len() < max {
            let Some(id) = self.dirty.pop_first() else {
                return;
            };
            self.emit_group(id);
        }
    }

    fn emit_group(&mut self, id: SetId) {
        let Some(set) = self.sets.get(&id) else {
            return;
        };
        let (members, group) = (Arc::clone(&set.members), set.group);
        let wanted = if self.enabled {
            self.place_members(&members)
        } else {
            Members::default()
        };
        if wanted.is_empty() {
            // Nothing can be sent anywhere. The kernel deletes the routes along with the group.
            if let Some(group) = group
                && self.groups.get(&group).is_some_and(|g| g.held.is_some())
            {
                self.batch.push(Op::RemoveNextHop { id: group });
                self.set_held(group, None);
            }
            return;
        }
        let Some(group) = group.or_else(|| self.adopt(id, &wanted)) else {
            self.left_out.insert(id);
            return;
        };
        let slot = self.groups.entry(group).or_default();
        slot.owner = Some(id);
        if slot.held.as_ref() == Some(&wanted) || slot.refused {
            return;
        }
        let replace = slot.held.is_some();
        self.batch.push(Op::Group {
            id: group,
            members: Arc::clone(&wanted),
            replace,
        });
        self.set_held(group, Some(wanted));
        if !replace {
            // Its routes may have been waiting, or have gone with it.
            self.routes.scan |= self.routes.waiting.remove(&id);
        }
    }

    /// The members that can be sent to, by object.
    fn place_members(&mut self, members: &[Hop]) -> Members {
        let mut weights: BTreeMap<u32, u64> = BTreeMap::new();
        for hop in members {
            let Some(gateway) = self.resolutions.get(&hop.key).copied().flatten() else {
                continue;
            };
            if weights.len() >= MAX_MEMBERS {
                break;
            }
            if let Some(id) = self.place_hop(gateway) {
                *weights.entry(id).or_default() += u64::from(hop.weight.max(1));
            }
        }
        let divisor = weights.values().copied().fold(0, gcd).max(1);
        let most = weights.values().copied().max().unwrap_or(1) / divisor;
        let scaled = |weight: u64| {
            let weight = weight / divisor;
            let weight = if most > MAX_WEIGHT {
                (weight * MAX_WEIGHT / most).max(1)
            } else {
                weight
            };
            u8::try_from(weight).unwrap_or(u8::MAX)
        };
        weights
            .into_iter()
            .map(|(id, weight)| (id, scaled(weight)))
            .collect()
    }

    /// The object of a neighbour, made now if it is not there.
    fn place_hop(&mut self, gateway: Gateway) -> Option<u32> {
        let id = match self.by_gateway.get(&gateway) {
            Some(id) => *id,
            None => {
                let id = self.hop_ids.take()?;
                self.by_gateway.insert(gateway, id);
                self.hops.insert(
                    id,
                    HopSlot {
                        gateway,
                        held: None,
                        groups: 0,
                        refused: false,
                    },
                );
                id
            }
        };
        let slot = self.hops.get_mut(&id)?;
        if slot.refused {
            return None;
        }
        if slot.held != Some(gateway) {
            let replace = slot.held.replace(gateway).is_some();
            self.batch.push(Op::NextHop {
                id,
                gateway,
                replace,
            });
        }
        Some(id)
    }

    /// A group for a set that has none: one that was found and is right, or a new one.
    fn adopt(&mut self, set: SetId, wanted: &Members) -> Option<u32> {
        let found = self
            .groups
            .iter()
            .find(|(_, slot)| slot.owner.is_none() && slot.held.as_ref() == Some(wanted))
            .map(|(id, _)| *id);
        let id = found.or_else(|| self.group_ids.take())?;
        self.idle.remove(&id);
        self.sets.get_mut(&set)?.group = Some(id);
        Some(id)
    }

    /// The kernel's group is now this, or gone; with it go its routes.
    pub(super) fn set_held(&mut self, id: u32, members: Option<Members>) {
        let slot = self.groups.entry(id).or_default();
        let gone = members.is_none() && slot.held.is_some();
        let before = core::mem::replace(&mut slot.held, members.clone());
        for (hop, _) in members.iter().flat_map(|members| members.iter()) {
            if let Some(hop) = self.hops.get_mut(hop) {
                hop.groups += 1;
            }
        }
        for (hop, _) in before.iter().flat_map(|members| members.iter()) {
            if let Some(slot) = self.hops.get_mut(hop) {
                slot.groups = slot.groups.saturating_sub(1);
                if slot.groups == 0 {
                    self.idle.insert(*hop);
                }
            }
        }
        if gone {
            let owner = self.groups.get_mut(&id).and_then(|slot| {
                slot.routes = 0;
                slot.owner
            });
            self.routes.group_gone(id);
            self.routes.waiting.extend(owner);
            self.idle.insert(id);
        }
    }

    /// An object was refused: its groups are made without it.
    pub(super) fn redo_groups_with(&mut self, hop: u32) {
        for slot in self.groups.values() {
            let has = slot
                .held
                .as_ref()
                .is_some_and(|members| members.iter().any(|(id, _)| *id == hop));
            if has {
                self.dirty.extend(slot.owner);
            }
        }
    }

    /// Removes groups and objects that nobody needs any more.
    pub(super) fn emit_removals(&mut self, max: usize) {
        if self.inheriting || !self.dirty.is_empty() || !self.routes.is_settled() {
            return;
        }
        // Groups first: an object goes when no group holds it.
        while let Some(id) = self.idle.pop_last() {
            if self.batch.len() >= max {
                self.idle.insert(id);
                return;
            }
            if self.group_ids.contains(id) {
                self.remove_group(id);
            } else {
                self.remove_hop(id);
            }
        }
    }

    fn remove_group(&mut self, id: u32) {
        let Some(slot) = self.groups.get(&id) else {
            return;
        };
        if slot.owner.is_some() || slot.routes > 0 {
            return;
        }
        if slot.held.is_some() {
            self.batch.push(Op::RemoveNextHop { id });
            self.set_held(id, None);
        }
        self.groups.remove(&id);
        self.idle.remove(&id);
        self.group_ids.free(id);
        self.dirty.extend(self.left_out.pop_first());
    }

    fn remove_hop(&mut self, id: u32) {
        let Some(slot) = self.hops.get(&id) else {
            return;
        };
        if slot.groups > 0 {
            return;
        }
        if slot.held.is_some() {
            self.batch.push(Op::RemoveNextHop { id });
        }
        let gateway = slot.gateway;
        self.hops.remove(&id);
        if self.by_gateway.get(&gateway) == Some(&id) {
            self.by_gateway.remove(&gateway);
        }
        self.hop_ids.free(id);
        self.dirty.extend(self.left_out.pop_first());
    }
}

pub(super) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
