//! The service tables as entries of maps.
//!
//! [`causeway_lb`] hands out numbers for pools, seats and backends. What is left to decide here is where in the arrays the
//! seats and rings of a pool lie ([`extents`]), how often a backend's number was given away, and in which order all of it
//! is written:
//!
//! ```text
//! backends ─▶ seats ─▶ new pages of rings ─▶ pools ─▶ pages rewritten in place ─▶ source ranges ─▶ addresses ─▶ frontends
//! ```
//!
//! then what goes, the other way round. A pool keeps what it had until then: the seats that somebody leaves, the ring that
//! no frontend will ask any more.
//!
//! # Invariants
//!
//! * After every single entry that is written in this order, whatever a frontend leads to is there: its pool, the ring that
//!   its routes ask, a seat for each slot, a backend for each seat.
//! * A place in an array that is given up is not used in the same batch: a program may be reading it.
//! * After a restart the maps are taken over as they are, and what nobody wants again goes when [`Services::prune`] says so.
//! * A pool without room has no frontends in the maps, and says so; it gets them when there is room.

mod extents;
mod lower;
mod op;
mod place;
mod restore;

use std::collections::{BTreeMap, BTreeSet};

use causeway_lb::{BackendId, Delta, Family, Frontend, FrontendKey, PoolId, ServiceId, maglev};
use causeway_maps::catalogue::{RING_PAGES, SEATS};
use causeway_maps::service::{self as map, RingPage};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use extents::Extents;
use lower::Writes;
use place::PoolState;
use restore::Stale;

pub use op::{ServiceDump, ServiceOp};

/// Pages of the longest ring.
const LONGEST_RING_PAGES: u32 =
    maglev::SIZES[maglev::SIZES.len() - 1].div_ceil(RingPage::SLOTS as u32);
/// Seats of the largest pool; their numbers have 16 bits.
const MOST_SEATS: u32 = 1 << u16::BITS;

/// Entries that there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCapacities {
    /// Of `seats`.
    pub seats: u32,
    /// Of `ring_pages`.
    pub ring_pages: u32,
}

impl Default for ServiceCapacities {
    fn default() -> Self {
        Self {
            seats: SEATS.max_entries,
            ring_pages: RING_PAGES.max_entries,
        }
    }
}

/// What a delta becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceBatch {
    /// The delta's own, for [`causeway_lb::Lb::programmed`].
    pub revision: u64,
    /// To be applied in their order; none of them is empty.
    pub ops: Vec<ServiceOp>,
    /// Frontends for whose pools there is no room, each told once: for [`causeway_lb::Lb::program_failed`].
    pub refused: Vec<FrontendKey>,
    /// Those of them that have found room since: for [`causeway_lb::Lb::program_recovered`].
    pub admitted: Vec<FrontendKey>,
}

/// What the maps of services hold, as far as the next delta depends on it.
#[derive(Debug)]
pub struct Services {
    seats: Extents,
    pages: Extents,
    /// Those that are there.
    backends: HashSet<BackendId, FixedState>,
    /// How often each backend's number was given away, by number.
    generations: Vec<u32>,
    pools: BTreeMap<PoolId, PoolState>,
    /// Pools for which there is no room.
    starved: BTreeSet<PoolId>,
    /// As they are wanted.
    frontends: HashMap<FrontendKey, Frontend, FixedState>,
    /// Those that are not in the map because of their pools.
    refused: BTreeSet<FrontendKey>,
    /// Pools whose frontends are to be looked at again.
    turned: BTreeSet<PoolId>,
    source_ranges: BTreeMap<(ServiceId, Family), BTreeMap<map::SourceRangeKey, u32>>,
    addresses: BTreeMap<map::ServiceAddr, u32>,
    /// What the maps held before a restart, and nobody has wanted since.
    stale: Stale,
}

impl Default for Services {
    fn default() -> Self {
        Self::new(ServiceCapacities::default())
    }
}

impl Services {
    /// For maps of these capacities, which are empty.
    #[must_use]
    pub fn new(capacities: ServiceCapacities) -> Self {
        let extents = |capacity: u32, longest: u32| Extents::new(capacity, longest.min(capacity));
        Self {
            seats: extents(capacities.seats, MOST_SEATS),
            pages: extents(capacities.ring_pages, LONGEST_RING_PAGES),
            backends: HashSet::default(),
            generations: Vec::new(),
            pools: BTreeMap::new(),
            starved: BTreeSet::new(),
            frontends: HashMap::default(),
            refused: BTreeSet::new(),
            turned: BTreeSet::new(),
            source_ranges: BTreeMap::new(),
            addresses: BTreeMap::new(),
            stale: Stale::default(),
        }
    }

    /// The writes that bring the maps from where the last delta left them to where this one does.
    pub fn apply(&mut self, delta: &Delta) -> ServiceBatch {
        let room = self.seats.rested() | self.pages.rested();
        let mut writes = Writes::default();
        self.change_backends(delta, &mut writes);
        let mut touched = self.take_in(delta);
        if room {
            touched.extend(&self.starved);
        }
        for id in touched {
            self.place(id, &mut writes);
        }
        self.change_source_ranges(delta, &mut writes);
        self.change_addresses(delta, &mut writes);
        let (refused, admitted) = self.change_frontends(delta, &mut writes);
        let ops = writes.into_ops();
        self.stale.wanted(&ops);
        ServiceBatch {
            revision: delta.revision,
            ops,
            refused,
            admitted,
        }
    }

    /// Pools for which there is no room.
    #[must_use]
    pub fn starved(&self) -> usize {
        self.starved.len()
    }

    /// Notes seats, rings and pools as they are wanted from now on; returns the pools that they are of.
    fn take_in(&mut self, delta: &Delta) -> BTreeSet<PoolId> {
        let mut touched = BTreeSet::new();
        for ((id, number), seat) in &delta.seats {
            touched.insert(*id);
            self.stale.seats.remove(&(*id, *number));
            self.pools.entry(*id).or_default().seat(*number, *seat);
        }
        for ((id, scope), ring) in &delta.rings {
            touched.insert(*id);
            self.pools
                .entry(*id)
                .or_default()
                .ring(*scope, ring.clone());
        }
        for (id, pool) in &delta.pools {
            touched.insert(*id);
            self.stale.pools.remove(id);
            self.pools.entry(*id).or_default().pool.clone_from(pool);
        }
        touched
    }
}
