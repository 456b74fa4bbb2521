//! The RIBs of one address family.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;

use super::attributes::{AttrId, AttributeStore};
use super::bits::BitSet;
use super::config::{FamilySession, PeerKind, RibConfig, RibSession};
use super::decision::{Candidate, Decision, decide};
use super::export::{Advertisement, Target};
use super::group::{Change, Group, Writing};
use super::import::{Import, strip_internal};
use super::next_hop::{Members, NO_SET, NextHopSets, NextHops};
use super::source::{Life, Sources};
use super::table::{Mark, Path, Refusal, SourceId, Table};
use super::{RibError, limits};
use crate::fib::{FibDelta, NextHopSetId};
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
    dirty: VecDeque<u32>,
    is_dirty: BitSet,
    fib: VecDeque<u32>,
    is_fib: BitSet,
    /// Destinations without paths, kept until nobody waits for their withdrawal.
    graveyard: VecDeque<u32>,
    walks: VecDeque<Walk>,
    /// What is originated: the source prefix by prefix is in the table, this is for finding what is gone.
    originated: HashMap<A, ()>,
}

/// An established session.
#[derive(Debug)]
pub(super) struct PeerRib {
    pub(super) session: Arc<RibSession>,
    pub(super) source: SourceId,
    pub(super) group: usize,
}

/// A walk over the whole table, done in pieces.
#[derive(Debug)]
struct Walk {
    cursor: u32,
    task: Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Removes the paths of a dead source.
    Remove(SourceId),
    /// Runs import policy again.
    Import(SourceId),
    /// Finds destinations whose next hops changed.
    NextHops,
    /// Fills or changes what a group is sent.
    Export(usize),
    /// Decides everything anew.
    Decide,
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
            originated: HashMap::new(),
        }
    }

    // ----- sessions ---------------------------------------------------------------------------------------------

    pub(super) fn peer_up(
        &mut self,
        peer: PeerId,
        session: &Arc<RibSession>,
        common: &mut Common,
    ) -> Result<(), RibError> {
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
        self.groups[group].join(peer, &self.sources);
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
        self.groups[state.group].leave(peer, &self.sources);
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
        let (source, group) = (state.source, state.group);
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
        let _ = source;
        if self.groups[group].serves(session, settings) {
            return;
        }
        let new = self.group_for(session, settings, Some(group), common);
        if let Some(catch_up) = self.groups[group].leave(peer, &self.sources)
            && let Some((old, new)) = self.groups.get2_mut(group, new)
        {
            new.adopt(peer, catch_up, old);
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

    pub(super) fn refresh_out(&mut self, peer: PeerId) {
        if let Some(state) = self.peers.get(&peer) {
            let markers = state.session.enhanced_refresh;
            self.groups[state.group].refresh(peer, &self.sources, markers);
        }
    }

    /// The group that serves a session; a new one starts with what `like` has advertised, or empty.
    fn group_for(
        &mut self,
        session: &Arc<RibSession>,
        settings: &FamilySession,
        like: Option<usize>,
        common: &mut Common,
    ) -> usize {
        if let Some((id, _)) = self
            .groups
            .iter()
            .find(|(_, group)| group.serves(session, settings))
        {
            return id;
        }
        let group = match like.and_then(|like| self.groups.get(like)) {
            Some(like) => like.split(Arc::clone(session), settings.clone()),
            None => Group::new(Arc::clone(session), settings.clone()),
        };
        for slot in 0..group.slots() {
            let advertised = group.advertised(slot);
            if !advertised.is_none() {
                common.store.retain(advertised.attr, 1);
                self.sources.of_mut(advertised.source).advertised += 1;
            }
        }
        let id = self.groups.insert(group);
        self.start(Task::Export(id));
        id
    }

    fn drop_group_if_empty(&mut self, id: usize, common: &mut Common) {
        if !self.groups[id].members.is_empty() {
            return;
        }
        let group = self.groups.remove(id);
        self.walks.retain(|walk| walk.task != Task::Export(id));
        for slot in 0..group.slots() {
            self.forget(group.advertised(slot), common);
        }
    }

    fn forget(&mut self, advertised: Advertisement, common: &mut Common) {
        if !advertised.is_none() {
            common.store.release(advertised.attr, &mut common.next_hops);
            self.sources.of_mut(advertised.source).advertised -= 1;
            self.sources.collect(advertised.source);
        }
    }

    // ----- paths ------------------------------------------------------------------------------------------------

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
            self.originated.insert(prefix, ());
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
        for (prefix, ()) in gone {
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

    fn position(&self, slot: u32, peer: PeerId) -> Option<usize> {
        self.table
            .paths(slot)
            .iter()
            .position(|path| self.sources.peer(path.source) == Some(peer))
    }

    /// Puts a path in the place of the peer's former one. Takes over the reference on its attributes.
    fn put_path(&mut self, slot: u32, path: Path, peer: Option<PeerId>, common: &mut Common) {
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
                if replaced.source != path.source {
                    sources.of_mut(path.source).paths += 1;
                    sources.of_mut(replaced.source).paths -= 1;
                    sources.collect(replaced.source);
                } else if same {
                    return;
                }
            }
            None => {
                sources.of_mut(path.source).paths += 1;
                self.table.push_path(slot, path);
            }
        }
        self.mark_dirty(slot);
    }

    fn remove_path(&mut self, slot: u32, position: usize, common: &mut Common) {
        let removed = self.table.remove_path(slot, position);
        self.routes -= usize::from(removed.mark == Mark::Best);
        common.store.release(removed.attr, &mut common.next_hops);
        self.sources.of_mut(removed.source).paths -= 1;
        self.sources.collect(removed.source);
        self.mark_dirty(slot);
    }

    fn mark_dirty(&mut self, slot: u32) {
        if self.is_dirty.insert(slot) {
            self.dirty.push_back(slot);
        }
    }

    // ----- walks ------------------------------------------------------------------------------------------------

    pub(super) fn next_hops_changed(&mut self) {
        self.start(Task::NextHops);
    }

    pub(super) fn decide_all(&mut self) {
        self.start(Task::Decide);
    }

    /// Runs import policy again for all peers, after a change of the own AS or identifiers.
    pub(super) fn import_all(&mut self) {
        let all: Vec<SourceId> = self
            .sources
            .iter()
            .filter(|(_, source)| source.peer.is_some() && source.life != Life::Dead)
            .map(|(id, _)| id)
            .collect();
        for id in all {
            self.start(Task::Import(id));
        }
    }

    fn start(&mut self, task: Task) {
        if let Task::Export(id) = task {
            self.groups[id].building = true;
        }
        // One that has not begun will do what is asked; one under way may have passed what changed.
        if !self
            .walks
            .iter()
            .any(|walk| walk.task == task && walk.cursor == 0)
        {
            self.walks.push_back(Walk { cursor: 0, task });
        }
    }

    /// Goes on with walks over at most `budget` destinations. Returns how many are left of the budget.
    pub(super) fn work(&mut self, mut budget: usize, common: &mut Common) -> usize {
        while budget > 0 {
            let Some(mut walk) = self.walks.pop_front() else {
                break;
            };
            if walk.cursor == 0 && walk.task == Task::NextHops {
                common.next_hops.begin_walk(A::FAMILY);
            }
            let slots = self.table.slots();
            let end = slots.min(
                walk.cursor
                    .saturating_add(u32::try_from(budget).unwrap_or(u32::MAX)),
            );
            let finished = match walk.task {
                Task::Export(id) => {
                    self.export_range(id, walk.cursor..end, common);
                    false
                }
                task => (walk.cursor..end).any(|slot| {
                    // The id of a source that is gone may already stand for another one.
                    let gone = matches!(task, Task::Remove(id) if self.sources.is_gone(id));
                    if !gone {
                        self.walk_destination(slot, task, common);
                    }
                    gone
                }),
            };
            budget -= (end - walk.cursor) as usize;
            walk.cursor = end;
            if end < slots && !finished {
                self.walks.push_front(walk);
            } else {
                self.end_walk(walk.task, common);
            }
        }
        budget
    }

    pub(super) fn has_work(&self) -> bool {
        !self.walks.is_empty()
    }

    fn walk_destination(&mut self, slot: u32, task: Task, common: &mut Common) {
        match task {
            Task::Remove(id) => {
                if let Some(position) = self
                    .table
                    .paths(slot)
                    .iter()
                    .position(|path| path.source == id)
                {
                    self.remove_path(slot, position, common);
                }
            }
            Task::Import(id) => self.import_again(slot, id, common),
            Task::NextHops => {
                let walked = self.table.paths(slot).iter().any(|path| {
                    common
                        .next_hops
                        .is_walked(common.store.next_hop(path.attr), A::FAMILY)
                });
                if walked {
                    self.mark_dirty(slot);
                }
            }
            Task::Decide => {
                if !self.table.paths(slot).is_empty() {
                    self.mark_dirty(slot);
                }
            }
            Task::Export(_) => {}
        }
    }

    fn end_walk(&mut self, task: Task, common: &mut Common) {
        match task {
            Task::NextHops => common.next_hops.end_walk(A::FAMILY),
            Task::Export(id) => {
                let again = self.walks.iter().any(|walk| walk.task == task);
                if let Some(group) = self.groups.get_mut(id) {
                    group.building = again;
                }
            }
            Task::Remove(_) | Task::Import(_) | Task::Decide => {}
        }
    }

    fn import_again(&mut self, slot: u32, id: SourceId, common: &mut Common) {
        let Some(position) = self
            .table
            .paths(slot)
            .iter()
            .position(|path| path.source == id)
        else {
            return;
        };
        let path = self.table.paths(slot)[position];
        let source = self.sources.of(id);
        let (Some(session), Some(peer)) = (source.session.clone(), source.peer) else {
            return;
        };
        let Some(settings) = &session.families[A::FAMILY.index()] else {
            return;
        };
        let received = common.store.received(path.attr);
        common.store.retain(received, 1);
        let mut import = Import::new(&session, settings, &common.config, received, &common.store);
        let prefix = self.table.prefix(slot).erase();
        let (attr, refusal) = import.path(prefix, &mut common.store, &mut common.next_hops);
        import.finish(&mut common.store, &mut common.next_hops);
        self.put_path(
            slot,
            Path {
                attr,
                refusal,
                ..path
            },
            Some(peer),
            common,
        );
    }

    // ----- decision ---------------------------------------------------------------------------------------------

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Decides for at most `budget` destinations and hands the results on. Returns how many are left of the budget.
    pub(super) fn flush(&mut self, budget: usize, common: &mut Common) -> usize {
        let count = budget.min(self.dirty.len());
        let slots: Vec<u32> = self.dirty.drain(..count).collect();
        for &slot in &slots {
            self.is_dirty.remove(slot);
            self.decide(slot, common);
        }
        let groups: SmallVec<[usize; 8]> = self.groups.iter().map(|(id, _)| id).collect();
        for id in groups {
            self.export_slots(id, slots.iter().copied(), common);
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
    fn bury(&mut self, at_least: usize) {
        const EXTRA: usize = 1024;
        for _ in 0..self.graveyard.len().min(at_least + EXTRA) {
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

    fn decide(&mut self, slot: u32, common: &mut Common) {
        let mut candidates: SmallVec<[(usize, Candidate<'_>); 8]> = SmallVec::new();
        let had_best = self
            .table
            .paths(slot)
            .iter()
            .any(|path| path.mark == Mark::Best);
        let paths = self.table.paths(slot);
        let single = match paths {
            [path] => Some(self.candidate(path, common).is_some()),
            _ => None,
        };
        let mut marks: SmallVec<[Mark; 8]> = SmallVec::from_elem(Mark::None, paths.len());
        match single {
            Some(eligible) => {
                if eligible {
                    marks[0] = Mark::Best;
                }
            }
            None => {
                for (index, path) in paths.iter().enumerate() {
                    if let Some(candidate) = self.candidate(path, common) {
                        candidates.push((index, candidate));
                    }
                }
                let only: SmallVec<[Candidate<'_>; 8]> =
                    candidates.iter().map(|(_, candidate)| *candidate).collect();
                if let Some(decision) = decide(&only, &common.config) {
                    for (position, mark) in self.marks(slot, &candidates, &decision, common) {
                        marks[position] = mark;
                    }
                }
            }
        }
        drop(candidates);
        for (path, mark) in self.table.paths_mut(slot).iter_mut().zip(&marks) {
            path.mark = *mark;
        }
        let has_best = marks.contains(&Mark::Best);
        self.routes += usize::from(has_best);
        self.routes -= usize::from(had_best);
        if common.config.install_routes {
            self.install(slot, common);
        }
    }

    /// The candidates' marks: the best one and those used beside it.
    fn marks(
        &self,
        slot: u32,
        candidates: &[(usize, Candidate<'_>)],
        decision: &Decision,
        common: &Common,
    ) -> SmallVec<[(usize, Mark); 8]> {
        let config = &common.config;
        let paths = self.table.paths(slot);
        let (best_position, best) = candidates[decision.best];
        let mut marks: SmallVec<[(usize, Mark); 8]> = SmallVec::new();
        marks.push((best_position, Mark::Best));
        let maximum = if best.external {
            config.maximum_paths_ebgp
        } else {
            config.maximum_paths_ibgp
        };
        if best.local || maximum <= 1 {
            return marks;
        }
        let best_path = &common.store.attributes(paths[best_position].attr).as_path;
        let mut equal: SmallVec<[usize; 8]> = (0..candidates.len())
            .filter(|&index| index != decision.best && decision.is_equal_cost(index))
            .filter(|&index| {
                config.multipath_relax
                    || common
                        .store
                        .attributes(paths[candidates[index].0].attr)
                        .as_path
                        == *best_path
            })
            .collect();
        // Which of too many are used must not depend on the order of arrival.
        equal.sort_by_key(|&index| {
            let candidate = &candidates[index].1;
            (candidate.router_id, candidate.peer_addr)
        });
        equal.truncate(usize::from(maximum) - 1);
        marks.extend(
            equal
                .into_iter()
                .map(|index| (candidates[index].0, Mark::Multipath)),
        );
        marks
    }

    /// The path as a candidate, if it is eligible.
    pub(super) fn candidate<'a>(&self, path: &Path, common: &'a Common) -> Option<Candidate<'a>> {
        if path.refusal != Refusal::None {
            return None;
        }
        let source = self.sources.of(path.source);
        if source.life == Life::Dead {
            return None;
        }
        let metric = common.next_hops.metric(common.store.next_hop(path.attr))?;
        let session = source.session.as_deref();
        Some(Candidate {
            rank: common.store.rank(path.attr),
            local: session.is_none(),
            external: session.is_some_and(|session| session.kind == PeerKind::External),
            metric,
            was_best: path.mark == Mark::Best,
            router_id: session.map_or(common.config.router_id.0, |session| {
                session.remote_router_id.0
            }),
            peer_addr: session.map_or(
                core::net::IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
                |session| session.remote_addr,
            ),
        })
    }

    /// Points the destination at the next hops of its chosen paths.
    fn install(&mut self, slot: u32, common: &mut Common) {
        let mut members = Members::new();
        for path in self.table.paths(slot) {
            if path.mark != Mark::None && path.source != SourceId::LOCAL {
                members.push(common.store.next_hop(path.attr));
            }
        }
        members.sort_unstable();
        members.dedup();
        let old = self.table.destination(slot).set;
        if old != NO_SET && common.sets.members(old) == Some(&members)
            || old == NO_SET && members.is_empty()
        {
            return;
        }
        let new = if members.is_empty() {
            NO_SET
        } else {
            common.sets.acquire(&members, &mut common.next_hops)
        };
        if old != NO_SET {
            common.sets.release(old);
        }
        self.table.set_next_hops(slot, new);
        if self.is_fib.insert(slot) {
            self.fib.push_back(slot);
        }
    }

    /// Moves at most `max` route changes into `delta`.
    pub(super) fn poll_fib(&mut self, delta: &mut FibDelta, max: usize) {
        for slot in self.fib.drain(..max.min(self.fib.len())) {
            self.is_fib.remove(slot);
            let destination = self.table.destination(slot);
            let set = (destination.set != NO_SET).then_some(NextHopSetId(destination.set));
            delta.routes.push((destination.prefix.erase(), set));
        }
    }

    pub(super) fn has_fib(&self) -> bool {
        !self.fib.is_empty()
    }

    // ----- export -----------------------------------------------------------------------------------------------

    pub(super) fn best(&self, slot: u32) -> Option<&Path> {
        self.table
            .paths(slot)
            .iter()
            .find(|path| path.mark == Mark::Best)
    }

    fn export_range(&mut self, id: usize, range: core::ops::Range<u32>, common: &mut Common) {
        let mut from = range.start;
        while from < range.end {
            let to = range.end.min(from + 16 * 1024);
            // What is dirty is exported when it is decided.
            let slots: Vec<u32> = (from..to)
                .filter(|&slot| !self.is_dirty.contains(slot))
                .collect();
            self.export_slots(id, slots.into_iter(), common);
            from = to;
        }
    }

    /// Brings what a group is sent up to date for these destinations.
    fn export_slots(&mut self, id: usize, slots: impl Iterator<Item = u32>, common: &mut Common) {
        let mut changes = Vec::new();
        let mut last: Option<((AttrId, SourceId), Option<Advertisement>)> = None;
        let mut last_same: Option<((Advertisement, Advertisement), bool)> = None;
        let session = Arc::clone(&self.groups[id].session);
        let settings = self.groups[id].settings.clone();
        let uniform = settings
            .export
            .as_ref()
            .is_none_or(|policy| !policy.looks_at_prefix());
        for slot in slots {
            let best = self.best(slot).map(|path| (path.attr, path.source));
            let prefix = self.table.prefix(slot);
            let new = best.and_then(|key @ (attr, source)| {
                if uniform
                    && prefix.len() != 0
                    && let Some((cached, result)) = last
                    && cached == key
                {
                    if let Some(result) = result {
                        common.store.retain(result.attr, 1);
                    }
                    return result;
                }
                let target = Target {
                    config: &common.config,
                    session: &session,
                    settings: &settings,
                };
                let result = target.export(
                    prefix.erase(),
                    attr,
                    (source, self.sources.of(source)),
                    &mut common.store,
                    &mut common.next_hops,
                );
                if prefix.len() != 0 {
                    last = Some((key, result));
                }
                result
            });
            let new = new.unwrap_or(Advertisement::NONE);
            let old = self.groups[id].set_advertised(slot, new);
            if !new.is_none() {
                self.sources.of_mut(new.source).advertised += 1;
            }
            if old != new {
                let same_wire = !old.is_none() && !new.is_none() && {
                    match last_same {
                        Some((pair, same)) if pair == (old, new) => same,
                        _ => {
                            let target = Target {
                                config: &common.config,
                                session: &session,
                                settings: &settings,
                            };
                            let wire = |advertisement: Advertisement| {
                                target.wire_attributes(
                                    advertisement,
                                    A::FAMILY,
                                    self.sources.of(advertisement.source),
                                    &common.store,
                                )
                            };
                            let same = wire(old) == wire(new);
                            last_same = Some(((old, new), same));
                            same
                        }
                    }
                };
                changes.push(Change {
                    slot,
                    old,
                    new,
                    same_wire,
                });
            } else {
                self.forget(old, common);
            }
        }
        if changes.is_empty() {
            return;
        }
        let target = Target {
            config: &common.config,
            session: &session,
            settings: &settings,
        };
        let attributes = |advertisement: Advertisement| {
            target.wire_attributes(
                advertisement,
                A::FAMILY,
                self.sources.of(advertisement.source),
                &common.store,
            )
        };
        let writing = Writing {
            table: &self.table,
            sources: &self.sources,
            attributes: &attributes,
        };
        self.groups[id].publish(&changes, common.config.group_log_bytes, &writing);
        for change in changes {
            self.forget(change.old, common);
        }
    }

    /// The next messages for a peer.
    pub(super) fn poll_transmit(
        &mut self,
        peer: PeerId,
        max_bytes: usize,
        common: &Common,
    ) -> Option<Bytes> {
        let id = self.peers.get(&peer)?.group;
        let group = self.groups.get_mut(id)?;
        let session = Arc::clone(&group.session);
        let settings = group.settings.clone();
        let target = Target {
            config: &common.config,
            session: &session,
            settings: &settings,
        };
        let attributes = |advertisement: Advertisement| {
            target.wire_attributes(
                advertisement,
                A::FAMILY,
                self.sources.of(advertisement.source),
                &common.store,
            )
        };
        let writing = Writing {
            table: &self.table,
            sources: &self.sources,
            attributes: &attributes,
        };
        group.poll(peer, max_bytes, &writing)
    }
}
