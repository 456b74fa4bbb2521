//! What there really is: listings and notifications.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::objects::HopSlot;
use super::{
    BLACKHOLE_METRIC, FoundNextHop, FoundValue, KernelTable, Listing, METRIC, Members, PROTOCOL,
};
use crate::facts::{KernelRoute, RouteTarget};

impl KernelTable {
    /// All next-hop objects that there are, in answer to [`Listing::NextHops`].
    pub fn found_next_hops(&mut self, found: impl IntoIterator<Item = FoundNextHop>) {
        if self.listing == Some(Listing::NextHops) {
            self.listing = None;
        }
        let mut seen = BTreeSet::new();
        for FoundNextHop {
            id,
            protocol,
            value,
        } in found
        {
            let in_range = self.hop_ids.contains(id) || self.group_ids.contains(id);
            if !in_range {
                continue;
            }
            if protocol != PROTOCOL {
                self.yield_id(id);
                continue;
            }
            seen.insert(id);
            match value {
                FoundValue::Group(members) if self.group_ids.contains(id) => {
                    self.found_group(id, members);
                }
                FoundValue::Gateway(gateway) if self.hop_ids.contains(id) => {
                    self.hop_ids.claim(id);
                    let slot = self.hops.entry(id).or_insert_with(|| HopSlot {
                        gateway,
                        held: None,
                        groups: 0,
                        refused: false,
                    });
                    slot.held = Some(gateway);
                    let owner = slot.gateway;
                    self.by_gateway.entry(owner).or_insert(id);
                }
                // Ours by protocol and range, but not by kind: of no use, and in the way.
                FoundValue::Group(_) | FoundValue::Gateway(_) | FoundValue::Other => {
                    self.yield_id(id);
                }
            }
        }
        let lost: Vec<u32> = self
            .groups
            .iter()
            .filter(|(id, slot)| slot.held.is_some() && !seen.contains(id))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.repaired += 1;
            self.set_held(id, None);
        }
        for (id, slot) in &mut self.hops {
            if !seen.contains(id) && slot.held.take().is_some() {
                self.repaired += 1;
            }
            slot.refused = false;
        }
        for slot in self.groups.values_mut() {
            slot.refused = false;
        }
        self.recount();
        self.dirty.extend(self.sets.keys());
    }

    /// Somebody else has this id: ours is another one.
    fn yield_id(&mut self, id: u32) {
        if self.hop_ids.contains(id) {
            self.hop_ids.avoid(id);
            if let Some(slot) = self.hops.remove(&id) {
                self.by_gateway.remove(&slot.gateway);
            }
        } else {
            self.group_ids.avoid(id);
            if self.groups.contains_key(&id) {
                self.set_held(id, None);
                let owner = self.groups.remove(&id).and_then(|slot| slot.owner);
                if let Some(set) = owner.and_then(|owner| self.sets.get_mut(&owner)) {
                    set.group = None;
                }
            }
        }
    }

    fn found_group(&mut self, id: u32, members: Members) {
        self.group_ids.claim(id);
        let mut members: Vec<_> = members.to_vec();
        members.sort_unstable();
        let slot = self.groups.entry(id).or_default();
        if slot.held.as_deref() != Some(&members[..]) {
            slot.held = Some(Arc::from(members));
        }
    }

    /// Counts anew in which groups each object is.
    fn recount(&mut self) {
        for slot in self.hops.values_mut() {
            slot.groups = 0;
        }
        for slot in self.groups.values() {
            for (id, _) in slot.held.iter().flat_map(|members| members.iter()) {
                if let Some(hop) = self.hops.get_mut(id) {
                    hop.groups += 1;
                }
            }
        }
        let unused = self.hops.iter().filter(|(_, slot)| slot.groups == 0);
        self.idle.extend(unused.map(|(id, _)| *id));
    }

    /// The answer to [`Listing::Routes`] begins.
    pub fn listing_begins(&mut self) {
        self.routes.listing_begins();
        for owned in self.owned.values_mut() {
            owned.seen = false;
        }
    }

    /// A route is there: from a listing, or from a notification of what somebody else did. Others' may be in the way of
    /// ours.
    pub fn found_route(&mut self, route: &KernelRoute) {
        let KernelRoute { prefix, metric, .. } = *route;
        if route.protocol != PROTOCOL {
            if metric == METRIC && self.routes.is_wanted(prefix) {
                self.routes.contest(prefix, true);
                if self.listing.is_none() && self.routes.is_held(prefix) {
                    // It may have taken our route's place.
                    self.list(Listing::Routes);
                }
            }
            return;
        }
        match (&route.target, metric) {
            (RouteTarget::Reject, BLACKHOLE_METRIC) => {
                let owned = self.owned.entry(prefix).or_default();
                (owned.held, owned.seen) = (true, true);
                self.routes.queue(prefix);
            }
            (RouteTarget::Object(group), METRIC) => {
                if let Some(before) = self.routes.found(prefix, *group) {
                    self.count(before, *group);
                }
            }
            _ => self.stray(prefix, metric),
        }
    }

    /// Somebody removed a route.
    pub fn lost_route(&mut self, route: &KernelRoute) {
        let KernelRoute { prefix, metric, .. } = *route;
        if route.protocol != PROTOCOL {
            if metric == METRIC {
                self.routes.contest(prefix, false);
                self.routes.free_again(prefix);
            }
            return;
        }
        match metric {
            METRIC => {
                if let Some(group) = self.routes.lost(prefix) {
                    self.repaired += 1;
                    self.count(group, 0);
                }
            }
            BLACKHOLE_METRIC => {
                if let Some(owned) = self.owned.get_mut(&prefix) {
                    self.repaired += u64::from(owned.wanted && owned.held);
                    owned.held = false;
                    self.routes.queue(prefix);
                }
            }
            _ => {}
        }
        if self.listing == Some(Listing::Routes) {
            // It may come up in the rest of the listing all the same.
            self.list(Listing::Routes);
        }
    }

    /// The answer to [`Listing::Routes`] is complete: what it did not show is not there.
    pub fn listing_ends(&mut self) {
        if self.listing == Some(Listing::Routes) {
            self.listing = None;
        }
        for prefix in self.routes.unseen() {
            if let Some(group) = self.routes.lost(prefix) {
                self.repaired += 1;
                self.count(group, 0);
            }
        }
        for (prefix, owned) in &mut self.owned {
            owned.refused = false;
            owned.held &= owned.seen;
            self.routes.queue(*prefix);
        }
        self.routes.scan = true;
    }
}
