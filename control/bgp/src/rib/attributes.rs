//! The attribute store: equal sets of attributes are one allocation, known by a small id.

use core::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::config::{MissingMed, RibConfig};
use super::next_hop::{NextHopIndex, NextHops};
use crate::wire::Attributes;

/// An interned set of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AttrId(u32);

impl AttrId {
    /// Stands for "none" where an `Option` would cost four bytes per destination.
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) const fn is_none(self) -> bool {
        self.0 == u32::MAX
    }
}

/// What the decision process compares, taken out of the attributes once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    pub(super) local_pref: u32,
    pub(super) med: u32,
    /// The AS that MED is compared within; 0 for a path of our own AS.
    pub(super) neighbour: u32,
    /// ORIGINATOR_ID, or 0.
    pub(super) originator: u32,
    pub(super) as_path_length: u32,
    pub(super) cluster_list_length: u32,
    pub(super) origin: u8,
    /// Link bandwidth in bytes per second, the least if there are several; 0 if it tells none.
    pub(super) bandwidth: f32,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    attributes: Attributes,
    /// Interface index that a link-local next hop is bound to, 0 otherwise.
    link: u32,
    /// As received, where import policy changed it. Part of the identity: the store has one entry per pair.
    base: AttrId,
    next_hop: NextHopIndex,
    refs: u32,
    rank: Rank,
}

/// Interned attributes, counted by reference.
#[derive(Debug)]
pub(super) struct AttributeStore {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: FixedState,
    default_local_pref: u32,
    missing_med: u32,
}

impl AttributeStore {
    pub(super) fn new(config: &RibConfig) -> Self {
        let mut store = Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(config.hash_seed),
            default_local_pref: 0,
            missing_med: 0,
        };
        store.configure(config);
        store
    }

    /// Takes over what ranks depend on.
    pub(super) fn configure(&mut self, config: &RibConfig) {
        self.default_local_pref = config.default_local_pref;
        self.missing_med = match config.med.missing {
            MissingMed::Best => 0,
            MissingMed::Worst => u32::MAX,
        };
        let (local_pref, med) = (self.default_local_pref, self.missing_med);
        for entry in self.entries.iter_mut().flatten() {
            entry.rank = rank(&entry.attributes, local_pref, med);
        }
    }

    /// The id of `attributes`, with one reference for the caller.
    pub(super) fn intern(
        &mut self,
        attributes: Attributes,
        link: Option<u32>,
        base: AttrId,
        next_hops: &mut NextHops,
    ) -> AttrId {
        let link = next_hops.binding_link(attributes.next_hop, link);
        let hash = self.hasher.hash_one((&attributes, link, base));
        let entries = &self.entries;
        let found = self.index.find(hash, |&id| {
            entry(entries, id).is_some_and(|entry| {
                entry.hash == hash
                    && entry.link == link
                    && entry.base == base
                    && entry.attributes == attributes
            })
        });
        if let Some(&id) = found {
            self.retain(AttrId(id), 1);
            return AttrId(id);
        }
        if !base.is_none() {
            self.retain(base, 1);
        }
        let new = Entry {
            hash,
            rank: rank(&attributes, self.default_local_pref, self.missing_med),
            next_hop: next_hops.acquire(attributes.next_hop, link),
            attributes,
            link,
            base,
            refs: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = Some(new);
                id
            }
            None => {
                self.entries.push(Some(new));
                u32::try_from(self.entries.len() - 1).expect("fewer attribute sets than paths")
            }
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, id, |&id| {
            entry(entries, id).map_or(0, |entry| entry.hash)
        });
        AttrId(id)
    }

    /// Adds `count` references.
    pub(super) fn retain(&mut self, id: AttrId, count: u32) {
        if let Some(entry) = self.entries.get_mut(id.0 as usize).and_then(Option::as_mut) {
            entry.refs += count;
        }
    }

    /// Drops a reference; the last one frees the entry.
    pub(super) fn release(&mut self, id: AttrId, next_hops: &mut NextHops) {
        let Some(entry) = self.entries.get_mut(id.0 as usize) else {
            return;
        };
        let Some(held) = entry.as_mut() else { return };
        held.refs -= 1;
        if held.refs > 0 {
            return;
        }
        let (hash, base, next_hop) = (held.hash, held.base, held.next_hop);
        *entry = None;
        self.free.push(id.0);
        if let Ok(found) = self.index.find_entry(hash, |&other| other == id.0) {
            found.remove();
        }
        next_hops.release(next_hop);
        if !base.is_none() {
            self.release(base, next_hops);
        }
    }

    pub(super) fn attributes(&self, id: AttrId) -> &Attributes {
        &self.entry(id).attributes
    }

    pub(super) fn rank(&self, id: AttrId) -> &Rank {
        &self.entry(id).rank
    }

    pub(super) fn next_hop(&self, id: AttrId) -> NextHopIndex {
        self.entry(id).next_hop
    }

    pub(super) fn link(&self, id: AttrId) -> Option<u32> {
        Some(self.entry(id).link).filter(|&link| link != 0)
    }

    /// As received: the entry that `id` was derived from by import policy, or `id`.
    pub(super) fn received(&self, id: AttrId) -> AttrId {
        let base = self.entry(id).base;
        if base.is_none() { id } else { base }
    }

    /// Distinct sets.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn entry(&self, id: AttrId) -> &Entry {
        entry(&self.entries, id.0).expect("an id in use has an entry")
    }
}

fn entry(entries: &[Option<Entry>], id: u32) -> Option<&Entry> {
    entries.get(id as usize)?.as_ref()
}

fn rank(attributes: &Attributes, default_local_pref: u32, missing_med: u32) -> Rank {
    let rare = attributes.rare.as_deref();
    Rank {
        local_pref: attributes.local_pref.unwrap_or(default_local_pref),
        med: attributes.med.unwrap_or(missing_med),
        neighbour: attributes.as_path.first_as().map_or(0, |asn| asn.0),
        originator: rare
            .and_then(|rare| rare.originator_id)
            .map_or(0, |id| id.0),
        as_path_length: u32::try_from(attributes.as_path.hops()).unwrap_or(u32::MAX),
        cluster_list_length: rare.map_or(0, |rare| {
            u32::try_from(rare.cluster_list.len()).unwrap_or(u32::MAX)
        }),
        origin: attributes.origin as u8,
        bandwidth: rare.map_or(0.0, |rare| {
            let all = rare.extended_communities.iter();
            let told = all.filter_map(|community| community.link_bandwidth());
            let least = told.map(|it| it.bytes_per_second).reduce(f32::min);
            least.unwrap_or(0.0)
        }),
    }
}
