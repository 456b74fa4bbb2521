//! What the kernel's own routing table shall hold, against what it holds: the difference as operations.
//!
//! ```text
//!  sets, routes (BGP) ─┐                     ┌─▶ poll ──▶ operations ──▶ netlink
//!  resolutions (net) ──┼──▶ wanted ─ diff ───┤                             │
//!  owned ranges ───────┘       held ─────────┘◀── ack: what was refused ◀──┘
//!                               ▲
//!                               └── listings and notifications: what there really is
//! ```
//!
//! A route points at a next-hop *group*, one for each set of next hops, whose members are next-hop *objects* (Linux 5.3,
//! `RTM_NEWNEXTHOP`): when a next hop goes, its groups change, and no route does.
//!
//! The kernel changes these things by itself, and mostly without a word: loss of carrier deletes the objects on that link,
//! takes them out of their groups, deletes groups that are left empty, and all routes to those. So the objects are listed
//! again whenever a link was touched or the kernel refused something: from them follows which routes are gone.
//!
//! Everything of ours carries [`PROTOCOL`] and lies in our ranges of ids. What others made is never changed: a route is made
//! only where there is none with its prefix and metric, and replaced only while the one there is known to be ours.

mod found;
mod objects;
mod routes;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::facts::Subnet;
use crate::fib::{Hop, SetId};
use crate::resolve::NextHopKey;
use objects::{GroupSlot, HopSlot, Ids, Set};
use routes::RouteStore;

/// Our protocol number (`rtm_protocol`, `nh_protocol`) on routes and next-hop objects. Nobody else's in iproute2's
/// `rt_protos` or in FRR's and BIRD's sources.
pub const PROTOCOL: u8 = 67;
/// Metric of the routes: below what DHCP clients and router advertisements give a default route (100 and up, 1024), above
/// static IPv4 routes and connected ones (0).
pub const METRIC: u32 = 32;
/// Metric of the blackhole routes of owned ranges: whatever else there is for the same prefix wins.
pub const BLACKHOLE_METRIC: u32 = 4_000_000_000;
/// Ids of next-hop objects: this one and the [`MAX_OBJECTS`] from it.
pub const FIRST_HOP_ID: u32 = 0x4357_0000;
/// Ids of next-hop groups: this one and the [`MAX_OBJECTS`] from it.
pub const FIRST_GROUP_ID: u32 = 0x4358_0000;
/// Next-hop objects, and groups, at most.
pub const MAX_OBJECTS: u32 = 16_384;
/// Members of a group at most; those with the lowest addresses are taken.
pub const MAX_MEMBERS: usize = 256;
/// Routes at most, wanted or found.
pub const MAX_ROUTES: usize = 2_097_152;
/// The largest weight of a member that every kernel takes.
const MAX_WEIGHT: u64 = 255;

/// One operation on the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make a next-hop object, or change the one there is.
    NextHop {
        /// Its id.
        id: u32,
        /// Where it leads.
        gateway: Gateway,
        /// It is there.
        replace: bool,
    },
    /// Make a group, or change its members.
    Group {
        /// Its id.
        id: u32,
        /// Ids and weights (1–255).
        members: Members,
        /// It is there.
        replace: bool,
    },
    /// Remove an object or a group; with a group go the routes that use it.
    RemoveNextHop {
        /// Its id.
        id: u32,
    },
    /// Make a route to a group, or point it at another.
    Route {
        /// Destination.
        prefix: Subnet,
        /// The group.
        group: u32,
        /// One of ours is there.
        replace: bool,
    },
    /// Make the blackhole route of an owned range.
    Blackhole {
        /// Destination.
        prefix: Subnet,
    },
    /// Remove one of our routes.
    RemoveRoute {
        /// Destination.
        prefix: Subnet,
        /// Its metric.
        metric: u32,
    },
}

/// Ids and weights of a group's members, by id.
pub type Members = Arc<[(u32, u8)]>;

/// A neighbour on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gateway {
    /// Interface.
    pub ifindex: u32,
    /// Its address.
    pub addr: IpAddr,
}

/// A next-hop object or group found in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundNextHop {
    /// Its id.
    pub id: u32,
    /// Who made it (`nh_protocol`).
    pub protocol: u8,
    /// What it is.
    pub value: FoundValue,
}

/// What a next-hop object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundValue {
    /// A neighbour on a link.
    Gateway(Gateway),
    /// A group.
    Group(Members),
    /// Something that we never make.
    Other,
}

/// Why the kernel did not do what an operation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which operation of the batch, from 0.
    pub index: usize,
    /// What follows from it.
    pub kind: RefusalKind,
    /// The kernel's words.
    pub error: Box<str>,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is one already (`EEXIST`).
    Exists,
    /// There is none (`ENOENT`, `ESRCH`).
    Missing,
    /// Anything else.
    Other,
}

/// What is to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listing {
    /// Next-hop objects; hand them to [`KernelTable::found_next_hops`].
    NextHops,
    /// Routes; see [`KernelTable::listing_begins`].
    Routes,
}

/// Sizes and troubles, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSummary {
    /// Routes of ours that the kernel holds, blackholes included.
    pub routes: usize,
    /// Groups of ours that the kernel holds.
    pub groups: usize,
    /// Next-hop objects of ours that the kernel holds.
    pub next_hops: usize,
    /// Routes that somebody else's with the same prefix and metric keeps out.
    pub conflicts: usize,
    /// Sets, routes and next hops that did not fit.
    pub left_out: u64,
    /// Operations refused since the start, conflicts not counted.
    pub refused: u64,
    /// Routes and objects of ours found changed or gone and made again since the start.
    pub repaired: u64,
    /// The last refusal, until nothing is refused any more.
    pub error: Option<Box<str>>,
    /// Everything wanted is there.
    pub settled: bool,
}

/// The kernel's table, as wanted and as held.
///
/// Feed with [`Self::define`], [`Self::route`], [`Self::next_hop`], [`Self::own`] and with what is found. When
/// [`Self::poll_listing`] asks for a listing, make it; then take batches from [`Self::poll`] one at a time, each carried out
/// and handed to [`Self::ack`] before the next.
#[derive(Debug)]
pub struct KernelTable {
    enabled: bool,
    sets: BTreeMap<SetId, Set>,
    /// Which sets a next hop is in.
    users: BTreeMap<NextHopKey, BTreeSet<SetId>>,
    resolutions: BTreeMap<NextHopKey, Option<Gateway>>,
    hops: BTreeMap<u32, HopSlot>,
    by_gateway: BTreeMap<Gateway, u32>,
    hop_ids: Ids,
    groups: BTreeMap<u32, GroupSlot>,
    group_ids: Ids,
    /// Sets whose group may have to change.
    dirty: BTreeSet<SetId>,
    /// Sets that got no id.
    left_out: BTreeSet<SetId>,
    /// Groups and objects that nobody may need any more.
    idle: BTreeSet<u32>,
    routes: RouteStore,
    /// Owned ranges, and whether the blackhole is there.
    owned: BTreeMap<Subnet, Owned>,
    /// What an earlier daemon left is kept.
    inheriting: bool,
    wanted_listings: BTreeSet<Listing>,
    listing: Option<Listing>,
    batch: Vec<Op>,
    /// Refused; tried again by [`Self::retry`].
    again: bool,
    refused: u64,
    repaired: u64,
    error: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Owned {
    wanted: bool,
    held: bool,
    seen: bool,
    refused: bool,
}

impl KernelTable {
    /// Knows nothing of the kernel yet: it wants to see everything first.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            sets: BTreeMap::new(),
            users: BTreeMap::new(),
            resolutions: BTreeMap::new(),
            hops: BTreeMap::new(),
            by_gateway: BTreeMap::new(),
            hop_ids: Ids::new(FIRST_HOP_ID),
            groups: BTreeMap::new(),
            group_ids: Ids::new(FIRST_GROUP_ID),
            dirty: BTreeSet::new(),
            left_out: BTreeSet::new(),
            idle: BTreeSet::new(),
            routes: RouteStore::default(),
            owned: BTreeMap::new(),
            inheriting: true,
            wanted_listings: BTreeSet::from([Listing::NextHops, Listing::Routes]),
            listing: None,
            batch: Vec::new(),
            again: false,
            refused: 0,
            repaired: 0,
            error: None,
        }
    }

    /// Whether anything is wanted at all; if not, what is there goes.
    pub fn enable(&mut self, enabled: bool) {
        if self.enabled != enabled {
            self.enabled = enabled;
            self.routes.scan = true;
            self.dirty.extend(self.sets.keys());
        }
    }

    /// Defines a set, anew or for the first time, or releases it: nothing points at it any more.
    pub fn define(&mut self, id: SetId, members: Option<Arc<[Hop]>>) {
        let before = match members {
            Some(members) => {
                for hop in members.iter() {
                    self.users.entry(hop.key).or_default().insert(id);
                }
                let set = self.sets.entry(id).or_default();
                core::mem::replace(&mut set.members, members)
            }
            None => match self.sets.remove(&id) {
                Some(set) => {
                    if let Some(group) = set.group
                        && let Some(slot) = self.groups.get_mut(&group)
                    {
                        slot.owner = None;
                        self.idle.insert(group);
                    }
                    set.members
                }
                None => return,
            },
        };
        let now = self.sets.get(&id).map(|set| Arc::clone(&set.members));
        for hop in before.iter() {
            let stays = now
                .as_ref()
                .is_some_and(|now| now.iter().any(|other| other.key == hop.key));
            if !stays && let Some(users) = self.users.get_mut(&hop.key) {
                users.remove(&id);
                if users.is_empty() {
                    self.users.remove(&hop.key);
                }
            }
        }
        self.left_out.remove(&id);
        if now.is_some() {
            self.dirty.insert(id);
        } else {
            self.dirty.remove(&id);
        }
    }

    /// BGP's route for a prefix, or that there is none any more.
    pub fn route(&mut self, prefix: Subnet, set: Option<SetId>) {
        self.routes.want(prefix, set);
    }

    /// What a next hop resolves to, or that nobody asks any more.
    pub fn next_hop(&mut self, key: NextHopKey, resolution: Option<&crate::Resolution>) {
        let changed = match resolution {
            Some(resolution) => {
                let gateway = resolution.ifindex().map(|ifindex| Gateway {
                    ifindex,
                    addr: key.addr,
                });
                self.resolutions.insert(key, gateway) != Some(gateway)
            }
            None => self.resolutions.remove(&key).is_some(),
        };
        if changed && let Some(users) = self.users.get(&key) {
            self.dirty.extend(users);
        }
    }

    /// The ranges that this node owns, in place of those told before: what is not on it ends here.
    pub fn own(&mut self, ranges: impl IntoIterator<Item = Subnet>) {
        let ranges: BTreeSet<Subnet> = ranges.into_iter().collect();
        for (prefix, owned) in &mut self.owned {
            if owned.wanted && !ranges.contains(prefix) {
                owned.wanted = false;
                self.routes.queue(*prefix);
            }
        }
        for prefix in ranges {
            let owned = self.owned.entry(prefix).or_default();
            if !owned.wanted {
                owned.wanted = true;
                self.routes.queue(prefix);
            }
        }
    }

    /// BGP has said everything that it will say after a start: what an earlier daemon left and nobody wants goes.
    pub fn prune(&mut self) {
        if core::mem::take(&mut self.inheriting) {
            self.routes.scan = true;
            self.idle.extend(self.groups.keys());
            self.idle.extend(self.hops.keys());
            for (prefix, owned) in &self.owned {
                if !owned.wanted {
                    self.routes.queue(*prefix);
                }
            }
        }
    }

    /// Tries again what was refused. Call it on a slow timer.
    pub fn retry(&mut self) {
        if core::mem::take(&mut self.again) {
            self.list(Listing::NextHops);
            self.list(Listing::Routes);
        }
    }

    /// Looks whether everything is as it should be. Call it on a slow timer, `routes` on a very slow one.
    pub fn verify(&mut self, routes: bool) {
        self.list(Listing::NextHops);
        if routes {
            self.routes.try_conflicts();
            self.list(Listing::Routes);
        }
    }

    /// Something happened to a link: what is on it may be gone.
    pub fn link_touched(&mut self, ifindex: u32) {
        if self.hops.values().any(|hop| hop.gateway.ifindex == ifindex) {
            self.list(Listing::NextHops);
        }
    }

    /// Somebody made, changed or removed a next-hop object.
    pub fn next_hop_touched(&mut self, id: u32) {
        if self.hop_ids.contains(id) || self.group_ids.contains(id) {
            self.list(Listing::NextHops);
        }
    }

    /// The last refusal, until nothing is refused any more.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The listing to be made now, if there is one. There is none while one is being made.
    pub fn poll_listing(&mut self) -> Option<Listing> {
        if self.listing.is_some() {
            return None;
        }
        self.listing = self.wanted_listings.pop_first();
        self.listing
    }

    /// The listing could not be made; it is wanted still.
    pub fn listing_failed(&mut self) {
        self.wanted_listings.extend(self.listing.take());
    }

    /// Sizes and troubles.
    #[must_use]
    pub fn summary(&self) -> KernelSummary {
        KernelSummary {
            routes: self.routes.held() + self.owned.values().filter(|owned| owned.held).count(),
            groups: self
                .groups
                .values()
                .filter(|group| group.held.is_some())
                .count(),
            next_hops: self.hops.values().filter(|hop| hop.held.is_some()).count(),
            conflicts: self.routes.conflicts(),
            left_out: self.left_out.len() as u64 + self.routes.left_out(),
            refused: self.refused,
            repaired: self.repaired,
            error: self.error.clone(),
            settled: self.idle_now(),
        }
    }

    /// Nothing to do until something changes.
    fn idle_now(&self) -> bool {
        self.listing.is_none()
            && self.wanted_listings.is_empty()
            && self.dirty.is_empty()
            && self.routes.is_settled()
            && !self.again
    }

    fn list(&mut self, listing: Listing) {
        self.wanted_listings.insert(listing);
    }

    /// The next operations, at most `max` and a few; `None` if there is nothing to do now.
    pub fn poll(&mut self, max: usize) -> Option<&[Op]> {
        // What a listing says is compared with what was there when it began.
        if self.listing.is_some() || !self.wanted_listings.is_empty() {
            return None;
        }
        self.batch.clear();
        self.emit_groups(max);
        if self.dirty.is_empty() {
            self.emit_routes(max);
        }
        self.emit_removals(max);
        if self.batch.is_empty() && !self.again {
            self.error = None;
        }
        (!self.batch.is_empty()).then_some(&self.batch[..])
    }

    /// What became of the last batch: everything not named was done.
    pub fn ack(&mut self, refusals: impl IntoIterator<Item = Refusal>) {
        let batch = core::mem::take(&mut self.batch);
        for refusal in refusals {
            if let Some(op) = batch.get(refusal.index) {
                self.refuse(op, refusal);
            }
        }
        self.batch = batch;
    }

    /// Nobody knows what became of the last batch.
    pub fn ack_lost(&mut self) {
        self.list(Listing::NextHops);
        self.list(Listing::Routes);
    }

    fn refuse(&mut self, op: &Op, refusal: Refusal) {
        let Refusal { kind, error, .. } = refusal;
        match (op, kind) {
            // Gone already: as wanted.
            (Op::RemoveNextHop { .. } | Op::RemoveRoute { .. }, RefusalKind::Missing) => return,
            // Somebody's, or ours after all: a listing tells.
            (Op::Route { prefix, .. }, RefusalKind::Exists) => {
                if self.routes.in_the_way(*prefix) {
                    self.list(Listing::Routes);
                }
                return;
            }
            (Op::Blackhole { prefix }, _) => {
                if let Some(owned) = self.owned.get_mut(prefix) {
                    owned.held = false;
                    owned.refused = true;
                }
                self.again = true;
            }
            (Op::Route { prefix, .. }, RefusalKind::Missing) => {
                // The route that was to be replaced, or the group: the listing tells, and the rest follows from it.
                self.routes.lost(*prefix);
                self.list(Listing::NextHops);
                self.repaired += 1;
                return;
            }
            (Op::Route { prefix, .. }, RefusalKind::Other) => {
                self.routes.lost(*prefix);
                self.routes.unqueue(*prefix);
                self.again = true;
            }
            (Op::NextHop { .. } | Op::Group { .. }, RefusalKind::Exists | RefusalKind::Missing) => {
                self.list(Listing::NextHops);
                return;
            }
            (Op::NextHop { id, .. }, RefusalKind::Other) => {
                if let Some(slot) = self.hops.get_mut(id) {
                    slot.held = None;
                    slot.refused = true;
                }
                self.redo_groups_with(*id);
                self.again = true;
            }
            (Op::Group { id, .. }, RefusalKind::Other) => {
                if let Some(slot) = self.groups.get_mut(id) {
                    slot.refused = true;
                }
                self.again = true;
            }
            (Op::RemoveNextHop { .. } | Op::RemoveRoute { .. }, _) => self.again = true,
        }
        self.refused += 1;
        self.error = Some(error);
    }
}

#[cfg(test)]
mod tests;
