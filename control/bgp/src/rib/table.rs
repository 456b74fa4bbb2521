//! The destinations of one family and their paths: the Adj-RIBs-In and, by marks in the paths, the Loc-RIB.
//!
//! A destination is 24 bytes for IPv4 with its only path inside; the hash table beside it holds slots only.

use core::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use slab::Slab;

use super::attributes::AttrId;
use super::next_hop::NO_SET;
use crate::types::AddressFamily;

/// The incarnation of a peer that a path came from: a new one per session, and per refresh. Staleness is a matter of the
/// source, so that marking a million paths stale touches none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceId(pub(super) u16);

impl SourceId {
    /// Paths that this speaker originates.
    pub(super) const LOCAL: Self = Self(0);
    /// No path.
    pub(super) const NONE: Self = Self(u16::MAX);
}

/// One path of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Attributes after import policy.
    pub(super) attr: AttrId,
    pub(super) source: SourceId,
    pub(super) mark: Mark,
    /// Why it takes no part; next hops and dead sources are looked at when deciding.
    pub(super) refusal: Refusal,
}

impl Path {
    const EMPTY: Self = Self {
        attr: AttrId::NONE,
        source: SourceId::NONE,
        mark: Mark::None,
        refusal: Refusal::None,
    };
}

/// What the last decision made of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    Best,
    Multipath,
}

/// Why import refused a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    None,
    AsLoop,
    Confederation,
    OwnOriginatorId,
    ClusterLoop,
    FirstAs,
    NextHopMartian,
    NextHopOwn,
    NoPolicy,
    DefaultRoute,
    Policy,
    NotReady,
}

const NO_MORE: u32 = u32::MAX;
/// In `more` of a slot that is free.
const FREE: u32 = u32::MAX - 1;

#[derive(Debug)]
pub(super) struct Destination<A> {
    pub(super) prefix: A,
    /// The only path, if there is one and `more` says no more.
    only: Path,
    /// All paths, if there are several.
    more: u32,
    /// Next-hop set in the FIB, or [`NO_SET`].
    pub(super) set: u32,
}

/// The destinations of a family.
#[derive(Debug)]
pub(super) struct Table<A> {
    destinations: Vec<Destination<A>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: FixedState,
    spilled: Slab<Vec<Path>>,
    /// Destinations by prefix length, so that a search for covering prefixes probes only lengths in use.
    lengths: Box<[u32]>,
    paths: usize,
    /// Destinations that have a path.
    occupied: usize,
}

impl<A: AddressFamily> Table<A> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            destinations: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            spilled: Slab::new(),
            lengths: vec![0; usize::from(A::BITS) + 1].into(),
            paths: 0,
            occupied: 0,
        }
    }

    /// Number of slots, free ones included.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.destinations.len()).expect("slots are u32")
    }

    /// Prefixes that have a path.
    pub(super) const fn len(&self) -> usize {
        self.occupied
    }

    pub(super) const fn paths_len(&self) -> usize {
        self.paths
    }

    pub(super) fn find(&self, prefix: A) -> Option<u32> {
        let destinations = &self.destinations;
        self.index
            .find(self.hasher.hash_one(prefix), |&slot| {
                destinations[slot as usize].prefix == prefix
            })
            .copied()
    }

    /// The slot of `prefix`, a new one if need be.
    pub(super) fn find_or_insert(&mut self, prefix: A) -> u32 {
        let hash = self.hasher.hash_one(prefix);
        let (destinations, hasher) = (&self.destinations, &self.hasher);
        let entry = self.index.entry(
            hash,
            |&slot| destinations[slot as usize].prefix == prefix,
            |&slot| hasher.hash_one(destinations[slot as usize].prefix),
        );
        let vacant = match entry {
            hashbrown::hash_table::Entry::Occupied(found) => return *found.get(),
            hashbrown::hash_table::Entry::Vacant(vacant) => vacant,
        };
        let new = Destination {
            prefix,
            only: Path::EMPTY,
            more: NO_MORE,
            set: NO_SET,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                vacant.insert(slot);
                self.destinations[slot as usize] = new;
                slot
            }
            None => {
                let slot = u32::try_from(self.destinations.len()).expect("slots are u32");
                vacant.insert(slot);
                self.destinations.push(new);
                slot
            }
        };
        self.lengths[usize::from(prefix.len())] += 1;
        slot
    }

    /// Frees a destination that has no path. Its slot is used again.
    pub(super) fn remove(&mut self, slot: u32) {
        let prefix = self.destinations[slot as usize].prefix;
        let hash = self.hasher.hash_one(prefix);
        if let Ok(found) = self.index.find_entry(hash, |&other| other == slot) {
            found.remove();
            self.lengths[usize::from(prefix.len())] -= 1;
            self.destinations[slot as usize].more = FREE;
            self.free.push(slot);
        }
    }

    pub(super) fn is_free(&self, slot: u32) -> bool {
        self.destinations[slot as usize].more == FREE
    }

    pub(super) fn destination(&self, slot: u32) -> &Destination<A> {
        &self.destinations[slot as usize]
    }

    pub(super) fn set_next_hops(&mut self, slot: u32, set: u32) -> u32 {
        core::mem::replace(&mut self.destinations[slot as usize].set, set)
    }

    pub(super) fn prefix(&self, slot: u32) -> A {
        self.destinations[slot as usize].prefix
    }

    /// All paths of a destination; none for a free slot.
    pub(super) fn paths(&self, slot: u32) -> &[Path] {
        let destination = &self.destinations[slot as usize];
        if destination.more < FREE {
            &self.spilled[destination.more as usize]
        } else if destination.only.source == SourceId::NONE {
            &[]
        } else {
            core::slice::from_ref(&destination.only)
        }
    }

    pub(super) fn paths_mut(&mut self, slot: u32) -> &mut [Path] {
        let destination = &mut self.destinations[slot as usize];
        if destination.more < FREE {
            &mut self.spilled[destination.more as usize]
        } else if destination.only.source == SourceId::NONE {
            &mut []
        } else {
            core::slice::from_mut(&mut destination.only)
        }
    }

    pub(super) fn push_path(&mut self, slot: u32, path: Path) {
        let destination = &mut self.destinations[slot as usize];
        self.paths += 1;
        if destination.more < FREE {
            self.spilled[destination.more as usize].push(path);
        } else if destination.only.source == SourceId::NONE {
            destination.only = path;
            self.occupied += 1;
        } else {
            let paths = vec![destination.only, path];
            destination.more = u32::try_from(self.spilled.insert(paths)).expect("fewer than slots");
        }
    }

    /// Removes the path at `position`, keeping the order of the others.
    pub(super) fn remove_path(&mut self, slot: u32, position: usize) -> Path {
        let destination = &mut self.destinations[slot as usize];
        self.paths -= 1;
        if destination.more >= FREE {
            self.occupied -= 1;
            return core::mem::replace(&mut destination.only, Path::EMPTY);
        }
        let paths = &mut self.spilled[destination.more as usize];
        let removed = paths.remove(position);
        if let [last] = paths[..] {
            destination.only = last;
            self.spilled.remove(destination.more as usize);
            destination.more = NO_MORE;
        }
        removed
    }

    /// Slots of the prefixes known that cover `prefix`, itself included, longest first.
    pub(super) fn covering(&self, prefix: A) -> impl Iterator<Item = u32> {
        let bytes = prefix.addr_bytes();
        (0..=prefix.len())
            .rev()
            .filter(|&len| self.lengths[usize::from(len)] > 0)
            .filter_map(move |len| self.find(A::from_bytes(&bytes, len)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Prefix, Prefix4};

    fn prefix(text: &str) -> Prefix4 {
        Prefix4::from_prefix(text.parse::<Prefix>().unwrap()).unwrap()
    }

    fn path(source: u16) -> Path {
        Path {
            source: SourceId(source),
            ..Path::EMPTY
        }
    }

    #[test]
    fn a_destination_with_one_path_takes_24_bytes() {
        assert_eq!(size_of::<Destination<Prefix4>>(), 24);
        assert_eq!(size_of::<Path>(), 8);
    }

    #[test]
    fn paths_move_out_and_in_again_as_their_number_changes() {
        let mut table = Table::new(0);
        let slot = table.find_or_insert(prefix("10.0.0.0/8"));
        assert!(table.paths(slot).is_empty());
        for source in 0..3 {
            table.push_path(slot, path(source));
        }
        assert_eq!(
            (table.paths_len(), table.len(), table.spilled.len()),
            (3, 1, 1)
        );
        assert_eq!(table.remove_path(slot, 1), path(1));
        assert_eq!(table.remove_path(slot, 0), path(0));
        assert_eq!(
            (table.paths(slot), table.spilled.len()),
            (&[path(2)][..], 0)
        );
        assert_eq!(table.remove_path(slot, 0), path(2));
        assert_eq!((table.paths_len(), table.len()), (0, 0));
    }

    #[test]
    fn a_freed_slot_is_used_again_and_known_by_its_new_prefix_only() {
        let mut table = Table::new(0);
        let slot = table.find_or_insert(prefix("10.0.0.0/8"));
        table.remove(slot);
        assert!(table.is_free(slot) && table.paths(slot).is_empty());
        assert_eq!(table.find_or_insert(prefix("11.0.0.0/8")), slot);
        assert_eq!((table.find(prefix("10.0.0.0/8")), table.slots()), (None, 1));
    }

    #[test]
    fn covering_prefixes_come_longest_first() {
        let mut table = Table::new(0);
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"] {
            table.find_or_insert(prefix(text));
        }
        let covering: Vec<_> = table
            .covering(prefix("10.1.9.0/24"))
            .map(|slot| table.prefix(slot).to_string())
            .collect();
        assert_eq!(covering, ["10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]);
    }
}
