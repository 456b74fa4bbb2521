//! What is wanted and could not be put into the maps, prefix by prefix: traffic for it would be lost here, so that nobody
//! must be told to send any.
//!
//! ```text
//!  full map, refusal of the kernel ──▶ suspects ──poll_refusals──▶ failed      (once)
//!  acknowledged, or not wanted ──────▶ suspects ──poll_refusals──▶ recovered   (once)
//! ```
//!
//! A refused entry that is tried again counts as refused until the batch that holds it is acknowledged without it.

use std::collections::{BTreeMap, BTreeSet};

use causeway_bgp::types::{AddressFamily, Prefix, Prefix4, Prefix6};
use causeway_maps::{RouteKey4, RouteKey6};

use super::Planner;
use super::apply::Tables;
use crate::routes::{LocalTarget, Table, TableFamily};
use crate::write::Key;

/// Why a prefix that is wanted is not in the maps as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// A map is full.
    #[error("map {map} is full: it takes {capacity} entries")]
    Full {
        /// Name of the map.
        map: &'static str,
        /// Its capacity in entries, or the limit that was set.
        capacity: u32,
    },
    /// The kernel refused an entry.
    #[error("the kernel refused {entry}: {error}")]
    Refused {
        /// The entry.
        entry: Key,
        /// What it said.
        error: Box<str>,
    },
}

/// Prefixes that changed sides since the last call of [`Planner::poll_refusals`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Wanted, and not in the maps as they should be.
    pub failed: Vec<Prefix>,
    /// In the maps after all, or not wanted any more.
    pub recovered: Vec<Prefix>,
}

/// Entries that were refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Waiting to be tried again.
    waiting: BTreeMap<Key, Box<str>>,
    /// On their way again, with the batch once they are in one.
    retried: BTreeMap<Key, (Box<str>, Option<u64>)>,
    /// Places of groups none of whose members found room.
    starved: BTreeSet<usize>,
}

impl Refused {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Those that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Key, &str)> {
        self.waiting.iter().map(|(key, error)| (key, &**error))
    }

    /// An entry goes into this batch.
    pub(super) fn pushed(&mut self, key: &Key, batch: u64) {
        if let Some(error) = self.waiting.remove(key) {
            self.retried.insert(*key, (error, Some(batch)));
        } else if let Some((_, pushed)) = self.retried.get_mut(key) {
            *pushed = Some(batch);
        }
    }

    /// Whether no entry is refused.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.retried.is_empty()
    }

    /// Whether routes that are written may still lead nowhere.
    pub(super) fn may_spoil_groups(&self) -> bool {
        !self.starved.is_empty() || !self.is_empty()
    }

    /// Takes what waits, to be tried again.
    pub(super) fn retry(&mut self) -> Vec<Key> {
        let waiting = core::mem::take(&mut self.waiting);
        let keys = waiting.keys().copied().collect();
        let retried = waiting.into_iter().filter(|(key, _)| carries_routes(key));
        self.retried
            .extend(retried.map(|(key, error)| (key, (error, None))));
        keys
    }

    fn error(&self, key: &Key) -> Option<Why> {
        let retried = || self.retried.get(key).map(|(error, _)| error);
        let error = self.waiting.get(key).or_else(retried)?;
        Some(Why::Refused {
            entry: *key,
            error: error.clone(),
        })
    }
}

/// Whether routes depend on an entry.
fn carries_routes(key: &Key) -> bool {
    matches!(
        key,
        Key::Route4(_) | Key::Route6(_) | Key::Group(_) | Key::NextHop(_)
    )
}

impl Planner {
    /// Prefixes that could not be put into the maps, and those that could after all, at most `max`; `None` if nothing
    /// changed. Says nothing while batches are in flight. Call it before [`Self::poll_programmed`].
    pub fn poll_refusals(&mut self, max: usize) -> Option<Refusals> {
        if !self.in_flight.is_empty() {
            return None;
        }
        let mut told = Refusals::default();
        self.tell::<Prefix4>(max, &mut told);
        self.tell::<Prefix6>(max, &mut told);
        (told != Refusals::default()).then_some(told)
    }

    /// Prefixes that are refused now, with the reason; at most `max`, the lowest.
    #[must_use]
    pub fn refused(&self, max: usize) -> Vec<(Prefix, Why)> {
        let told4 = lowest(&self.routes4, max);
        let told6 = lowest(&self.routes6, max.saturating_sub(told4.len()));
        let why4 = told4
            .into_iter()
            .filter_map(|prefix| Some((prefix.erase(), self.why_not(&self.routes4, prefix)?)));
        let why6 = told6
            .into_iter()
            .filter_map(|prefix| Some((prefix.erase(), self.why_not(&self.routes6, prefix)?)));
        why4.chain(why6).collect()
    }

    fn tell<P: TableFamily>(&mut self, max: usize, told: &mut Refusals)
    where
        Self: Tables<P>,
    {
        while told.failed.len() + told.recovered.len() < max {
            let Some(prefix) = self.table().suspects.pop() else {
                return;
            };
            let refused = self.why_not(self.table_ref(), prefix).is_some();
            let table = self.table();
            if refused && table.told.insert(prefix) {
                told.failed.push(prefix.erase());
            } else if !refused && table.told.remove(&prefix) {
                told.recovered.push(prefix.erase());
            }
        }
    }

    /// Why a prefix is not in the maps as it should; `None` if it is, or is about to be, or nobody wants it.
    pub(super) fn why_not<P: TableFamily>(&self, table: &Table<P>, prefix: P) -> Option<Why> {
        // One that is only local, and not in the map, has no entry.
        let entry = table.entries.get(&prefix).copied().unwrap_or_default();
        let place = match table.local.get(&prefix) {
            Some(LocalTarget::Punt) => None,
            Some(LocalTarget::Group(place)) => Some(*place),
            None => match entry.bgp.and_then(|set| self.groups.sets.get(&set)) {
                Some(place) => Some(*place),
                None if table.owned.contains(&prefix) => None,
                None => return None,
            },
        };
        if table.left_out.contains(&prefix) {
            return Some(Why::Full {
                map: P::MAP,
                capacity: table.capacity,
            });
        }
        let refused = || self.refused.error(&prefix.key());
        let Some(place) = place else {
            return refused();
        };
        if self.groups.left_out.contains(&place) {
            return Some(Why::Full {
                map: "groups",
                capacity: self.capacities.groups,
            });
        }
        if self.refused.starved.contains(&place) {
            return Some(Why::Full {
                map: "next_hops",
                capacity: self.capacities.next_hops,
            });
        }
        refused().or_else(|| {
            let id = self.groups.wanted.get(place)?.id?;
            let members = &self.groups.slots.get(&id)?.members;
            let hops = || {
                members
                    .iter()
                    .map(|hop| self.refused.error(&Key::NextHop(*hop)))
            };
            self.refused.error(&Key::Group(id)).or_else(|| {
                hops()
                    .all(|error| error.is_some())
                    .then(|| hops().next())??
            })
        })
    }

    /// The kernel refused an entry.
    pub(super) fn note_refusal(&mut self, key: Key, error: Box<str>) {
        self.refused.retried.remove(&key);
        self.refused.waiting.insert(key, error);
        self.suspect_users(key);
    }

    /// What was tried again in batches up to this one, and not refused, is in.
    pub(super) fn note_acknowledged(&mut self, batch: u64) {
        let done = |(_, pushed): &(Box<str>, Option<u64>)| pushed.is_some_and(|at| at <= batch);
        let retried = self.refused.retried.iter();
        let keys: Vec<Key> = retried
            .filter(|(_, retried)| done(retried))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.refused.retried.remove(&key);
            self.suspect_users(key);
        }
    }

    /// Notes whether a group that could forward has no member for want of room.
    pub(super) fn note_starved(&mut self, place: usize, starved: bool) {
        let changed = if starved {
            self.refused.starved.insert(place)
        } else {
            self.refused.starved.remove(&place)
        };
        if changed {
            self.suspect_places(&BTreeSet::from([place]));
        }
    }

    /// A group is given up; its place may be taken by another.
    pub(super) fn forget_starved(&mut self, place: usize) {
        self.refused.starved.remove(&place);
    }

    /// The routes that depend on an entry are looked at.
    fn suspect_users(&mut self, key: Key) {
        match key {
            Key::Route4(RouteKey4 { prefix_len, addr }) => {
                let len = u8::try_from(prefix_len).unwrap_or(u8::MAX);
                self.routes4
                    .suspects
                    .extend(Prefix4::from_bytes(&addr, len));
            }
            Key::Route6(RouteKey6 { prefix_len, addr }) => {
                let len = u8::try_from(prefix_len).unwrap_or(u8::MAX);
                self.routes6
                    .suspects
                    .extend(Prefix6::from_bytes(&addr, len));
            }
            Key::Group(id) => {
                let slot = self.groups.slots.get(&id);
                let places = slot.and_then(|slot| slot.owner).into_iter().collect();
                self.suspect_places(&places);
            }
            Key::NextHop(id) => {
                let owner = self.hops.slots.get(&id).and_then(|slot| slot.owner);
                let hop = owner.and_then(|key| self.hops.wanted.get(&key));
                let places = hop.map(|hop| hop.groups.clone()).unwrap_or_default();
                self.suspect_places(&places);
            }
            _ => {}
        }
    }

    /// A walk over all routes; what leads here is a full map of next hops or a kernel that refuses an array's slot.
    fn suspect_places(&mut self, places: &BTreeSet<usize>) {
        if places.is_empty() {
            return;
        }
        let sets = &self.groups.sets;
        suspect(&mut self.routes4, |set| sets.get(set).copied(), places);
        suspect(&mut self.routes6, |set| sets.get(set).copied(), places);
    }
}

fn suspect<P: TableFamily>(
    table: &mut Table<P>,
    place_of: impl Fn(&causeway_bgp::fib::NextHopSetId) -> Option<usize>,
    places: &BTreeSet<usize>,
) {
    let wants = |prefix: &P, set: Option<causeway_bgp::fib::NextHopSetId>| {
        let place = match table.local.get(prefix) {
            Some(LocalTarget::Group(place)) => Some(*place),
            Some(LocalTarget::Punt) => None,
            None => set.as_ref().and_then(&place_of),
        };
        place.is_some_and(|place| places.contains(&place))
    };
    let entries = table
        .entries
        .iter()
        .map(|(prefix, entry)| (prefix, entry.bgp));
    let local = table.local.keys().map(|prefix| (prefix, None));
    let found: Vec<P> = entries
        .chain(local)
        .filter(|(prefix, set)| wants(prefix, *set))
        .map(|(prefix, _)| *prefix)
        .collect();
    table.suspects.extend(found);
}

fn lowest<P: TableFamily>(table: &Table<P>, max: usize) -> Vec<P> {
    let mut lowest: Vec<P> = table.told.iter().copied().collect();
    if max < lowest.len() {
        lowest.select_nth_unstable(max);
        lowest.truncate(max);
    }
    lowest.sort_unstable();
    lowest
}
