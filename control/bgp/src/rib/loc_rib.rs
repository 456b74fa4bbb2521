//! The Loc-RIB of a family: which paths are chosen, and where the FIB points.

use core::net::{IpAddr, Ipv4Addr};

use smallvec::SmallVec;

use super::config::{LinkBandwidthMode, PeerKind};
use super::decision::{Candidate, Decision, decide};
use super::family::{Common, FamilyRib};
use super::next_hop::{Member, Members, NO_SET, NextHopIndex};
use super::source::Life;
use super::table::{Mark, Path, Refusal, SourceId};
use super::weight::weights;
use crate::fib::{FibDelta, NextHopSetId};
use crate::types::AddressFamily;

impl<A: AddressFamily> FamilyRib<A> {
    /// Chooses among the paths of a destination.
    pub(super) fn decide(&mut self, slot: u32, common: &mut Common) {
        let paths = self.table.paths(slot);
        let had_best = paths.iter().any(|path| path.mark == Mark::Best);
        let mut marks: SmallVec<[Mark; 8]> = SmallVec::from_elem(Mark::None, paths.len());
        if let [path] = paths {
            if self.candidate(path, common).is_some() {
                marks[0] = Mark::Best;
            }
        } else {
            let metric = |hop| common.next_hops.metric(hop);
            self.choose(slot, &mut marks, common, metric);
        }
        let has_best = marks.contains(&Mark::Best);
        for (path, mark) in self.table.paths_mut(slot).iter_mut().zip(marks) {
            path.mark = mark;
        }
        self.routes += usize::from(has_best);
        self.routes -= usize::from(had_best);
        if common.config.install_routes {
            self.install(slot, common);
        }
    }

    /// Marks the paths of a destination, where next hops cost what `metric` says.
    fn choose(
        &self,
        slot: u32,
        marks: &mut [Mark],
        common: &Common,
        metric: impl Fn(NextHopIndex) -> Option<u32>,
    ) {
        let (positions, candidates): (SmallVec<[usize; 8]>, SmallVec<[Candidate<'_>; 8]>) = self
            .table
            .paths(slot)
            .iter()
            .enumerate()
            .filter_map(|(position, path)| {
                let metric = metric(common.store.next_hop(path.attr))?;
                Some((position, self.candidate_at(path, metric, common)?))
            })
            .unzip();
        let Some(decision) = decide(&candidates, &common.config) else {
            return;
        };
        marks[positions[decision.best]] = Mark::Best;
        for index in self.beside(slot, &positions, &candidates, &decision, common) {
            marks[positions[index]] = Mark::Multipath;
        }
    }

    /// Indexes of the candidates that are used beside the best one.
    fn beside(
        &self,
        slot: u32,
        positions: &[usize],
        candidates: &[Candidate<'_>],
        decision: &Decision,
        common: &Common,
    ) -> SmallVec<[usize; 8]> {
        let config = &common.config;
        let best = &candidates[decision.best];
        let maximum = if best.external {
            config.maximum_paths_ebgp
        } else {
            config.maximum_paths_ibgp
        };
        if best.local || maximum <= 1 {
            return SmallVec::new();
        }
        let paths = self.table.paths(slot);
        let as_path = |index: usize| {
            &common
                .store
                .attributes(paths[positions[index]].attr)
                .as_path
        };
        let mut equal: SmallVec<[usize; 8]> = (0..candidates.len())
            .filter(|&index| index != decision.best && decision.is_equal_cost(index))
            .filter(|&index| config.multipath_relax || as_path(index) == as_path(decision.best))
            .collect();
        // Which of too many are used must not depend on the order of arrival.
        equal.sort_by_key(|&index| (candidates[index].router_id, candidates[index].peer_addr));
        equal.truncate(usize::from(maximum) - 1);
        equal
    }

    /// The path as a candidate, if it is eligible.
    pub(super) fn candidate<'a>(&self, path: &Path, common: &'a Common) -> Option<Candidate<'a>> {
        let metric = common.next_hops.metric(common.store.next_hop(path.attr))?;
        self.candidate_at(path, metric, common)
    }

    /// The path as a candidate whose next hop costs so much, if nothing else speaks against it.
    fn candidate_at<'a>(
        &self,
        path: &Path,
        metric: u32,
        common: &'a Common,
    ) -> Option<Candidate<'a>> {
        if path.refusal != Refusal::None {
            return None;
        }
        let source = self.sources.of(path.source);
        if source.life == Life::Dead {
            return None;
        }
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
            peer_addr: session.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |session| {
                session.remote_addr
            }),
        })
    }

    /// Points the destination at the next hops of its chosen paths.
    fn install(&mut self, slot: u32, common: &mut Common) {
        let chosen = self.table.paths(slot).iter().map(|path| path.mark);
        let members = self.members(slot, chosen, common);
        let old = self.table.destination(slot).set;
        let stands = match common.sets.members(old) {
            Some(old) => *old == members || self.waits_for(slot, old, &members, common),
            None => members.is_empty(),
        };
        if stands {
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

    /// Whether of a destination's set `old` only such members are not among the chosen ones, `now`, as cannot be reached
    /// and would be chosen again if they could.
    ///
    /// Then the set stands: whoever forwards leaves out what cannot be reached, so that the loss of a next hop and its
    /// return move no prefix. With its last path a member goes for good: it may come up again before its session.
    fn waits_for(&self, slot: u32, old: &Members, now: &Members, common: &Common) -> bool {
        let next_hops = &common.next_hops;
        let reachable = old
            .iter()
            .map(|member| member.hop)
            .filter(|hop| next_hops.metric(*hop).is_some());
        if now.is_empty() || !reachable.eq(now.iter().map(|member| member.hop)) {
            return false;
        }
        let paths = self.table.paths(slot);
        let mut marks: SmallVec<[Mark; 8]> = SmallVec::from_elem(Mark::None, paths.len());
        self.choose(slot, &mut marks, common, |hop| {
            let member = old.iter().any(|member| member.hop == hop);
            let former = || next_hops.last_metric(hop).filter(|_| member);
            next_hops.metric(hop).or_else(former)
        });
        self.members(slot, marks.into_iter(), common) == *old
    }

    /// The next hops of the paths that are marked, each with its share.
    fn members(&self, slot: u32, marks: impl Iterator<Item = Mark>, common: &Common) -> Members {
        let mut hops: SmallVec<[(NextHopIndex, f32); 4]> = self
            .table
            .paths(slot)
            .iter()
            .zip(marks)
            .filter(|(path, mark)| *mark != Mark::None && path.source != SourceId::LOCAL)
            .map(|(path, _)| {
                let bandwidth = common.store.rank(path.attr).bandwidth;
                (common.store.next_hop(path.attr), bandwidth)
            })
            .collect();
        // Of two paths over one next hop, what the greater one tells.
        hops.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        hops.dedup_by_key(|(hop, _)| *hop);
        let by_bandwidth = common.config.link_bandwidth == LinkBandwidthMode::WhenAll;
        if hops.len() < 2 || !by_bandwidth || hops.iter().any(|&(_, told)| told <= 0.0) {
            let equal = |(hop, _)| Member { hop, weight: 1 };
            return hops.into_iter().map(equal).collect();
        }
        let weights = weights(&mut hops.iter().map(|&(_, told)| told));
        let both = hops.iter().zip(weights);
        both.map(|(&(hop, _), weight)| Member { hop, weight })
            .collect()
    }

    /// The share of a chosen path in the traffic of its destination.
    pub(super) fn weight(&self, slot: u32, path: &Path, common: &Common) -> Option<u8> {
        let hop = common.store.next_hop(path.attr);
        let members = common.sets.members(self.table.destination(slot).set)?;
        let member = members.iter().find(|member| member.hop == hop)?;
        (path.mark != Mark::None && path.source != SourceId::LOCAL).then_some(member.weight)
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

    /// The chosen path.
    pub(super) fn best(&self, slot: u32) -> Option<&Path> {
        self.table
            .paths(slot)
            .iter()
            .find(|path| path.mark == Mark::Best)
    }
}
