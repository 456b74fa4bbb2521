//! The RIBs of one address family.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use slab::Slab;
use smallvec::SmallVec;

use super::attributes::{AttrId, AttributeStore};
use super::audience::Facts;
use super::bits::BitSet;
use super::config::{PeerKind, RibConfig, RibSession};
use super::group::Group;
use super::import::{Import, strip_internal};
use super::next_hop::{NextHopSets, NextHops};
use super::source::{Life, Sources};
use super::table::{Mark, Path, Refusal, SourceId, Table};
use super::walk::{Task, Walk};
use super::{RibError, limits};
use crate::types::{AddressFamily, PeerId};
use crate::wire::{Attributes, Reach};

/// What both families share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) config: RibConfig,
    pub(super) store: AttributeStore,
    pub(super) next_hops: NextHops,
    pub(super) sets: NextHopSets,
}

/// The RIBs of a family.
#[derive(Debug)]
pub(super) struct FamilyRib<A> {
    pub(super) table: Table<A>,
    pub(super) sources: Sources,
    pub(super) peers: BTreeMap<PeerId, PeerRib>,
    pub(super) groups: Slab<Group>,
    /// Destinations with a best path.
    pub(super) routes: usize,
    pub(super) dirty: VecDeque<u32>,
    pub(super) is_dirty: BitSet,
    pub(super) fib: VecDeque<u32>,
    pub(super) is_fib: BitSet,
    /// Destinations without paths, kept until nobody waits for their withdrawal.
    graveyard: VecDeque<u32>,
    pub(super) walks: VecDeque<Walk>,
    /// What is originated, to find what is not any more.
    originated: BTreeSet<A>,
    /// What the forwarding tables could not take: it is not advertised, because its traffic would be lost here.
    unprogrammed: HashSet<A, FixedState>,
}

/// An established session.
#[derive(Debug)]
pub(super) struct PeerRib {
    pub(super) session: Arc<RibSession>,
    pub(super) source: SourceId,
    pub(super) group: usize,
}

impl<A: AddressFamily> FamilyRib<A> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            table: Table::new(seed),
            sources: Sources::new(),
            peers: BTreeMap::new(),
            groups: Slab::new(),
            routes: 0,
            dirty: VecDeque::new(),
            is_dirty: BitSet::default(),
            fib: VecDeque::new(),
            is_fib: BitSet::default(),
            graveyard: VecDeque::new(),
            walks: VecDeque::new(),
            originated: BTreeSet::new(),
            unprogrammed: HashSet::with_hasher(FixedState::with_seed(seed)),
        }
    }

    pub(super) fn peer_up(
        &mut self,
        peer: PeerId,
        session: &Arc<RibSession>,
        common: &mut Common,
    ) -> Result<(), RibError> {
        if self.peers.contains_key(&peer) {
            self.peer_down(peer, false, common);
        }
        let Some(settings) = &session.families[A::FAMILY.index()] else {
            self.kill_stale(peer);
            return Ok(());
        };
        let source =
            self.sources
                .add(peer, Arc::clone(session))
                .ok_or(RibError::TooManySessions {
                    limit: limits::MAX_SOURCES,
                })?;
        let group = self.group_for(session, settings, None, common);
        let facts = facts(&self.sources, common);
        self.groups[group].join(peer, session.remote_addr, facts);
        self.peers.insert(
            peer,
            PeerRib {
                session: Arc::clone(session),
                source,
                group,
            },
        );
        Ok(())
    }

    pub(super) fn peer_down(&mut self, peer: PeerId, retain: bool, common: &mut Common) {
        let Some(state) = self.peers.remove(&peer) else {
            if !retain {
                self.kill_stale(peer);
            }
            return;
        };
        self.groups[state.group].leave(peer, facts(&self.sources, common));
        self.drop_group_if_empty(state.group, common);
        self.sources.of_mut(state.source).life = Life::Stale;
        if !retain {
            self.kill_stale(peer);
        }
    }

    /// New facts for a session: imports and exports what they change.
    pub(super) fn set_session(
        &mut self,
        peer: PeerId,
        session: &Arc<RibSession>,
        common: &mut Common,
    ) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let Some(settings) = &session.families[A::FAMILY.index()] else {
            return;
        };
        let old = core::mem::replace(&mut state.session, Arc::clone(session));
        let group = state.group;
        let old_settings = old.families[A::FAMILY.index()].as_ref();
        for id in self.sources.of_peer(peer) {
            self.sources.of_mut(id).session = Some(Arc::clone(session));
        }
        let reimport = old_settings.is_none_or(|old| {
            old.import != settings.import || old.default_route_in != settings.default_route_in
        }) || old.enforce_first_as != session.enforce_first_as
            || old.allow_own_as != session.allow_own_as
            || old.kind != session.kind;
        if reimport {
            for id in self.sources.of_peer(peer) {
                self.start(Task::Import(id));
            }
        }
        if self.groups[group].serves(session, settings) {
            return;
        }
        let new = self.group_for(session, settings, Some(group), common);
        let facts = facts(&self.sources, common);
        if let Some(catch_up) = self.groups[group].leave(peer, facts)
            && let Some((old, new)) = self.groups.get2_mut(group, new)
        {
            new.adopt((peer, session.remote_addr), catch_up, old);
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.group = new;
        }
        self.drop_group_if_empty(group, common);
    }

    /// Everything from this peer becomes stale until it is announced again.
    pub(super) fn begin_refresh(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get(&peer) else {
            return;
        };
        let (old, session) = (state.source, Arc::clone(&state.session));
        if self.sources.of(old).paths == 0 {
            return;
        }
        // Without a free source nothing becomes stale: the refresh then only adds and replaces.
        if let Some(new) = self.sources.add(peer, session) {
            self.sources.of_mut(old).life = Life::Stale;
            if let Some(state) = self.peers.get_mut(&peer) {
                state.source = new;
            }
        }
    }

    pub(super) fn kill_stale(&mut self, peer: PeerId) {
        for id in self.sources.of_peer(peer) {
            let source = self.sources.of_mut(id);
            if source.life == Life::Stale {
                source.life = Life::Dead;
                if source.paths > 0 {
                    self.start(Task::Remove(id));
                } else {
                    self.sources.collect(id);
                }
            }
        }
    }

    pub(super) fn refresh_out(&mut self, peer: PeerId, common: &Common) {
        if let Some(state) = self.peers.get(&peer) {
            let markers = state.session.enhanced_refresh;
            let facts = facts(&self.sources, common);
            self.groups[state.group].refresh(peer, facts, markers);
        }
    }

    pub(super) fn withdraw(&mut self, peer: PeerId, prefixes: &[A], common: &mut Common) {
        for &prefix in prefixes {
            let Some(slot) = self.table.find(prefix) else {
                continue;
            };
            if let Some(position) = self.position(slot, peer) {
                self.remove_path(slot, position, common);
            }
        }
    }

    pub(super) fn announce(&mut self, peer: PeerId, reach: Reach<A>, common: &mut Common) {
        let Some(state) = self.peers.get(&peer) else {
            return;
        };
        let (session, source) = (Arc::clone(&state.session), state.source);
        let Some(settings) = &session.families[A::FAMILY.index()] else {
            return;
        };
        let mut attributes = reach.attributes;
        if session.kind == PeerKind::External {
            strip_internal(&mut attributes);
        }
        let received = common.store.intern(
            attributes,
            session.link,
            AttrId::NONE,
            &mut common.next_hops,
        );
        let mut import = Import::new(&session, settings, &common.config, received, &common.store);
        for prefix in reach.prefixes {
            let (attr, refusal) =
                import.path(prefix.erase(), &mut common.store, &mut common.next_hops);
            let slot = self.table.find_or_insert(prefix);
            self.put_path(
                slot,
                Path {
                    attr,
                    source,
                    mark: Mark::None,
                    refusal,
                },
                Some(peer),
                common,
            );
        }
        import.finish(&mut common.store, &mut common.next_hops);
    }

    /// Replaces what is originated.
    pub(super) fn set_originated(
        &mut self,
        originated: Vec<(A, Attributes, bool)>,
        common: &mut Common,
    ) {
        let mut gone = core::mem::take(&mut self.originated);
        for (prefix, attributes, ready) in originated {
            gone.remove(&prefix);
            self.originated.insert(prefix);
            let attr = common
                .store
                .intern(attributes, None, AttrId::NONE, &mut common.next_hops);
            let refusal = if ready {
                Refusal::None
            } else {
                Refusal::NotReady
            };
            let slot = self.table.find_or_insert(prefix);
            let path = Path {
                attr,
                source: SourceId::LOCAL,
                mark: Mark::None,
                refusal,
            };
            self.put_path(slot, path, None, common);
        }
        for prefix in gone {
            if let Some(slot) = self.table.find(prefix)
                && let Some(position) = self
                    .table
                    .paths(slot)
                    .iter()
                    .position(|path| path.source == SourceId::LOCAL)
            {
                self.remove_path(slot, position, common);
            }
        }
    }

    /// Notes whether the forwarding tables took a prefix; what changes is advertised or withdrawn by the next flush.
    pub(super) fn set_programmed(&mut self, prefix: A, programmed: bool) {
        let changed = if programmed {
            self.unprogrammed.remove(&prefix)
        } else {
            self.unprogrammed.insert(prefix)
        };
        if changed && let Some(slot) = self.table.find(prefix) {
            self.mark_dirty(slot);
        }
        if self.unprogrammed.is_empty() {
            // A table that did not fit leaves megabytes.
            self.unprogrammed.shrink_to_fit();
        }
    }

    /// Whether traffic to a destination would be lost here.
    pub(super) fn is_unprogrammed(&self, slot: u32) -> bool {
        !self.unprogrammed.is_empty() && self.unprogrammed.contains(&self.table.prefix(slot))
    }

    pub(super) fn unprogrammed(&self) -> usize {
        self.unprogrammed.len()
    }

    pub(super) fn position(&self, slot: u32, peer: PeerId) -> Option<usize> {
        self.table
            .paths(slot)
            .iter()
            .position(|path| self.sources.peer(path.source) == Some(peer))
    }

    /// Puts a path in the place of the peer's former one. Takes over the reference on its attributes.
    pub(super) fn put_path(
        &mut self,
        slot: u32,
        path: Path,
        peer: Option<PeerId>,
        common: &mut Common,
    ) {
        let sources = &mut self.sources;
        let paths = self.table.paths_mut(slot);
        match paths
            .iter_mut()
            .find(|old| sources.peer(old.source) == peer)
        {
            Some(old) => {
                let replaced = *old;
                let same = (replaced.attr, replaced.refusal) == (path.attr, path.refusal);
                *old = Path {
                    mark: replaced.mark,
                    ..path
                };
                common.store.release(replaced.attr, &mut common.next_hops);
                sources.of_mut(path.source).gains(&path);
                sources.of_mut(replaced.source).loses(&replaced);
                if replaced.source != path.source {
                    sources.collect(replaced.source);
                } else if same {
                    return;
                }
            }
            None => {
                sources.of_mut(path.source).gains(&path);
                self.table.push_path(slot, path);
            }
        }
        self.mark_dirty(slot);
    }

    pub(super) fn remove_path(&mut self, slot: u32, position: usize, common: &mut Common) {
        let removed = self.table.remove_path(slot, position);
        self.routes -= usize::from(removed.mark == Mark::Best);
        common.store.release(removed.attr, &mut common.next_hops);
        self.sources.of_mut(removed.source).loses(&removed);
        self.sources.collect(removed.source);
        self.mark_dirty(slot);
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if self.is_dirty.insert(slot) {
            self.dirty.push_back(slot);
        }
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Decides for about `budget` destinations and hands the results on. Returns how many are left of the budget.
    ///
    /// What came with the same attributes as the last destination is decided along with it, so that routes of one UPDATE
    /// leave in one UPDATE.
    pub(super) fn flush(&mut self, budget: usize, common: &mut Common) -> usize {
        let count = budget.min(self.dirty.len());
        let mut slots: Vec<u32> = self.dirty.drain(..count).collect();
        for &slot in &slots {
            self.is_dirty.remove(slot);
            self.decide(slot, common);
        }
        let last = slots.last().and_then(|&slot| self.best(slot));
        if let Some(last) = last.map(|path| path.attr) {
            for _ in 0..limits::MAX_EXCESS_DESTINATIONS {
                let Some(&slot) = self.dirty.front() else {
                    break;
                };
                if !self.table.paths(slot).iter().any(|path| path.attr == last) {
                    break;
                }
                self.dirty.pop_front();
                self.is_dirty.remove(slot);
                self.decide(slot, common);
                slots.push(slot);
            }
        }
        let groups: SmallVec<[usize; 8]> = self.groups.iter().map(|(id, _)| id).collect();
        for id in groups {
            self.export_slots(id, &slots, common);
        }
        for &slot in &slots {
            if self.table.paths(slot).is_empty() {
                self.graveyard.push_back(slot);
            }
        }
        self.bury(count);
        common.next_hops.collect();
        budget - count
    }

    /// Forgets destinations without paths that nobody waits for.
    pub(super) fn bury(&mut self, at_least: usize) {
        for _ in 0..self
            .graveyard
            .len()
            .min(at_least + limits::MAX_BURY_DESTINATIONS)
        {
            let Some(slot) = self.graveyard.pop_front() else {
                break;
            };
            if !self.table.paths(slot).is_empty() || self.table.is_free(slot) {
                continue;
            }
            let done = !self.is_dirty.contains(slot)
                && !self.is_fib.contains(slot)
                && self
                    .groups
                    .iter()
                    .all(|(_, group)| group.is_done_with(slot));
            if done {
                self.table.remove(slot);
            } else {
                self.graveyard.push_back(slot);
            }
        }
    }
}

const fn facts<'a>(sources: &'a Sources, common: &'a Common) -> Facts<'a> {
    Facts {
        sources,
        store: &common.store,
    }
}
