//! Answers to questions: listings in pages, and explanations.

use std::sync::Arc;

use super::Rib;
use super::attributes::AttrId;
use super::audience::Facts;
use super::decision::{Candidate, decide};
use super::export::{Advertisement, Target, rule_name};
use super::family::{Common, FamilyRib};
use super::import::evaluate;
use super::limits::MAX_PAGE_SCAN_DESTINATIONS;
use super::source::Life;
use super::table::{Mark, Path, Refusal};
use super::view::{
    AdvertisedView, Cursor, Explanation, ExportStatus, FamilySummary, Ineligible, Page, PathStatus,
    PathView, PeerCounts, RouteFilter, RouteView, Summary,
};
use crate::types::{AddressFamily, Family, PeerId, Prefix, Prefix4, Prefix6};
use crate::wire::Attributes;

/// Does the same for the family of a value.
macro_rules! by_family {
    ($rib:expr, $family:expr, $name:ident => $body:expr) => {
        match $family {
            Family::Ipv4Unicast => {
                let $name = &$rib.v4;
                $body
            }
            Family::Ipv6Unicast => {
                let $name = &$rib.v6;
                $body
            }
        }
    };
}

impl Rib {
    /// Routes with all their paths, at most `limit`.
    #[must_use]
    pub fn routes(&self, filter: RouteFilter, cursor: Cursor, limit: usize) -> Page<RouteView> {
        let common = &self.common;
        match filter {
            RouteFilter::All(family) => {
                by_family!(self, family, rib => rib.list(cursor, limit, |slot| rib.route(slot, common)))
            }
            RouteFilter::Exact(Prefix::V4(prefix)) => self.v4.exact(prefix, common),
            RouteFilter::Exact(Prefix::V6(prefix)) => self.v6.exact(prefix, common),
            RouteFilter::Longer(Prefix::V4(prefix)) => {
                self.v4.longer(prefix, cursor, limit, common)
            }
            RouteFilter::Longer(Prefix::V6(prefix)) => {
                self.v6.longer(prefix, cursor, limit, common)
            }
            RouteFilter::LongestMatch(addr) => match addr {
                core::net::IpAddr::V4(addr) => self
                    .v4
                    .longest_match(Prefix4::new(addr, Prefix4::BITS), common),
                core::net::IpAddr::V6(addr) => self
                    .v6
                    .longest_match(Prefix6::new(addr, Prefix6::BITS), common),
            },
        }
    }

    /// Paths received from a peer, rejected ones included, at most `limit`.
    #[must_use]
    pub fn received(
        &self,
        peer: PeerId,
        family: Family,
        cursor: Cursor,
        limit: usize,
    ) -> Page<(Prefix, PathView)> {
        let common = &self.common;
        by_family!(self, family, rib => rib.list(cursor, limit, |slot| {
            let mine = |path: &Path| rib.sources.peer(path.source) == Some(peer);
            let index = rib.table.paths(slot).iter().position(mine)?;
            let view = rib.views(slot, common).into_iter().nth(index)?;
            Some((rib.table.prefix(slot).erase(), view))
        }))
    }

    /// Prefixes advertised to a peer, at most `limit`: what it has or is about to be sent.
    #[must_use]
    pub fn advertised(
        &self,
        peer: PeerId,
        family: Family,
        cursor: Cursor,
        limit: usize,
    ) -> Page<AdvertisedView> {
        let common = &self.common;
        by_family!(self, family, rib => rib.list_advertised(peer, cursor, limit, common))
    }

    /// Why a prefix is where it is.
    #[must_use]
    pub fn explain(&self, prefix: Prefix) -> Explanation {
        let mut explanation = match prefix {
            Prefix::V4(prefix) => self.v4.explain(prefix, &self.common),
            Prefix::V6(prefix) => self.v6.explain(prefix, &self.common),
        };
        if self.held {
            for (_, status) in &mut explanation.exports {
                *status = ExportStatus::Held;
            }
        }
        explanation
    }

    /// Counts of a peer, for max-prefix and the API. `received` is before policy: what a peer sends costs memory whether
    /// policy likes it or not.
    #[must_use]
    pub fn counts(&self, peer: PeerId, family: Family) -> PeerCounts {
        by_family!(self, family, rib => rib.counts(peer))
    }

    /// Figures of the whole.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            families: [self.v4.summary(), self.v6.summary()],
            attribute_sets: self.common.store.len(),
            next_hop_sets: self.common.sets.len(),
            update_groups: self.v4.groups.len() + self.v6.groups.len(),
        }
    }
}

impl<A: AddressFamily> FamilyRib<A> {
    fn list<T>(
        &self,
        cursor: Cursor,
        limit: usize,
        mut item: impl FnMut(u32) -> Option<T>,
    ) -> Page<T> {
        let mut items = Vec::new();
        let end = self
            .table
            .slots()
            .min(cursor.0.saturating_add(MAX_PAGE_SCAN_DESTINATIONS));
        for slot in cursor.0..end {
            if items.len() >= limit {
                return Page {
                    items,
                    next: Some(Cursor(slot)),
                };
            }
            items.extend(item(slot));
        }
        Page {
            items,
            next: (end < self.table.slots()).then_some(Cursor(end)),
        }
    }

    fn route(&self, slot: u32, common: &Common) -> Option<RouteView> {
        let mut paths = self.views(slot, common);
        paths.sort_by_key(|path| match path.status {
            PathStatus::Best => 0,
            PathStatus::Multipath => 1,
            PathStatus::Lost { .. } => 2,
            PathStatus::Ineligible(_) => 3,
        });
        (!paths.is_empty()).then(|| RouteView {
            prefix: self.table.prefix(slot).erase(),
            paths,
        })
    }

    fn exact(&self, prefix: A, common: &Common) -> Page<RouteView> {
        let route = self
            .table
            .find(prefix)
            .and_then(|slot| self.route(slot, common));
        Page {
            items: route.into_iter().collect(),
            next: None,
        }
    }

    fn longer(&self, prefix: A, cursor: Cursor, limit: usize, common: &Common) -> Page<RouteView> {
        self.list(cursor, limit, |slot| {
            prefix
                .covers(self.table.prefix(slot))
                .then(|| self.route(slot, common))
                .flatten()
        })
    }

    fn longest_match(&self, host: Option<A>, common: &Common) -> Page<RouteView> {
        let slot = host.and_then(|host| self.covering_best(host));
        let route = slot.and_then(|slot| self.route(slot, common));
        Page {
            items: route.into_iter().collect(),
            next: None,
        }
    }

    fn covering_best(&self, prefix: A) -> Option<u32> {
        self.table
            .covering(prefix)
            .find(|&slot| self.best(slot).is_some())
    }

    fn list_advertised(
        &self,
        peer: PeerId,
        cursor: Cursor,
        limit: usize,
        common: &Common,
    ) -> Page<AdvertisedView> {
        let Some(group) = self
            .peers
            .get(&peer)
            .and_then(|state| self.groups.get(state.group))
        else {
            return Page {
                items: Vec::new(),
                next: None,
            };
        };
        let target = Target {
            config: &common.config,
            session: &group.session,
            settings: &group.settings,
        };
        let mut last: Option<(Advertisement, Arc<Attributes>)> = None;
        self.list(cursor, limit, |slot| {
            let advertised = group.advertised(slot);
            if !group.is_for(peer, advertised, self.facts(common)) {
                return None;
            }
            let attributes = match &last {
                Some((same, attributes)) if *same == advertised => Arc::clone(attributes),
                _ => {
                    let source = self.sources.of(advertised.source);
                    let wire = target.wire_attributes(advertised, A::FAMILY, source, &common.store);
                    let wire = Arc::new(wire);
                    last = Some((advertised, Arc::clone(&wire)));
                    wire
                }
            };
            Some(AdvertisedView {
                prefix: self.table.prefix(slot).erase(),
                attributes,
                source: self.sources.peer(advertised.source),
            })
        })
    }

    fn explain(&self, prefix: A, common: &Common) -> Explanation {
        let slot = self.table.find(prefix);
        let paths = slot
            .and_then(|slot| self.route(slot, common))
            .map(|route| route.paths);
        let covered_by = match &paths {
            Some(_) => None,
            None => self
                .covering_best(prefix)
                .map(|slot| self.table.prefix(slot).erase()),
        };
        let status = |peer| {
            slot.map_or(ExportStatus::NoBestPath, |slot| {
                self.status(peer, slot, common)
            })
        };
        Explanation {
            prefix: prefix.erase(),
            paths: paths.unwrap_or_default(),
            covered_by,
            exports: self
                .peers
                .keys()
                .map(|&peer| (peer, status(peer)))
                .collect(),
        }
    }

    fn status(&self, peer: PeerId, slot: u32, common: &Common) -> ExportStatus {
        let group = self
            .peers
            .get(&peer)
            .and_then(|state| self.groups.get(state.group));
        let (Some(group), Some(best)) = (group, self.best(slot)) else {
            return ExportStatus::NoBestPath;
        };
        if self.sources.peer(best.source) == Some(peer) {
            return ExportStatus::SplitHorizon;
        }
        if self.is_unprogrammed(slot) {
            return ExportStatus::NotProgrammed;
        }
        let target = Target {
            config: &common.config,
            session: &group.session,
            settings: &group.settings,
        };
        let attributes = common.store.attributes(best.attr);
        let prefix = self.table.prefix(slot).erase();
        let names_peer = || {
            let advertised = group.advertised(slot);
            !advertised.is_none() && !group.is_for(peer, advertised, self.facts(common))
        };
        match target.judge(prefix, attributes, self.sources.of(best.source)) {
            Err(status) => status,
            Ok(_) if names_peer() => ExportStatus::NextHopIsPeer,
            Ok(_) if group.building || group.is_pending(peer, slot) => ExportStatus::Pending,
            Ok(_) => ExportStatus::Advertised,
        }
    }

    /// The paths of a destination in the order of the table.
    fn views(&self, slot: u32, common: &Common) -> Vec<PathView> {
        let paths = self.table.paths(slot);
        let eligible: Vec<(usize, Candidate<'_>)> = paths
            .iter()
            .enumerate()
            .filter_map(|(index, path)| Some((index, self.candidate(path, common)?)))
            .collect();
        let candidates: Vec<Candidate<'_>> = eligible.iter().map(|&(_, path)| path).collect();
        let decision = decide(&candidates, &common.config);
        let against = decision
            .as_ref()
            .and_then(|decision| self.sources.peer(paths[eligible[decision.best].0].source));
        let status = |index: usize, path: &Path| match path.mark {
            Mark::Best => PathStatus::Best,
            Mark::Multipath => PathStatus::Multipath,
            Mark::None => {
                let position = eligible.iter().position(|&(other, _)| other == index);
                match (position, &decision) {
                    (Some(position), Some(decision)) => match decision.lost_at[position] {
                        Some(step) => PathStatus::Lost { step, against },
                        None => PathStatus::Ineligible(Ineligible::Undecided),
                    },
                    _ => PathStatus::Ineligible(self.ineligible(slot, path, common)),
                }
            }
        };
        paths
            .iter()
            .enumerate()
            .map(|(index, path)| {
                let received = common.store.received(path.attr);
                let attributes = |id: AttrId| Arc::new(common.store.attributes(id).clone());
                PathView {
                    peer: self.sources.peer(path.source),
                    received: attributes(received),
                    imported: (received != path.attr).then(|| attributes(path.attr)),
                    stale: self.sources.of(path.source).life == Life::Stale,
                    status: status(index, path),
                    weight: self.weight(slot, path, common),
                }
            })
            .collect()
    }

    fn ineligible(&self, slot: u32, path: &Path, common: &Common) -> Ineligible {
        let source = self.sources.of(path.source);
        let attributes = common.store.attributes(common.store.received(path.attr));
        match path.refusal {
            Refusal::AsLoop => Ineligible::AsLoop,
            Refusal::Confederation => Ineligible::Confederation,
            Refusal::OwnOriginatorId => Ineligible::OwnOriginatorId,
            Refusal::ClusterLoop => Ineligible::ClusterLoop,
            Refusal::FirstAs => Ineligible::FirstAs {
                found: attributes.as_path.first_as(),
            },
            Refusal::NextHopMartian => Ineligible::NextHopMartian,
            Refusal::NextHopOwn => Ineligible::NextHopOwn,
            Refusal::NoPolicy => Ineligible::NoPolicy,
            Refusal::DefaultRoute => Ineligible::DefaultRoute,
            Refusal::NotReady => Ineligible::NotReady,
            Refusal::Policy => {
                let session = source.session.as_deref();
                let policy = session.and_then(|session| {
                    let settings = session.families[A::FAMILY.index()].as_ref()?;
                    Some((session, settings.import.as_deref()?))
                });
                match policy {
                    None => Ineligible::NoPolicy,
                    Some((session, policy)) => {
                        let prefix = self.table.prefix(slot).erase();
                        let outcome = evaluate(policy, attributes, prefix, session);
                        Ineligible::Rejected(rule_name(policy, &outcome))
                    }
                }
            }
            Refusal::None if source.life == Life::Dead => Ineligible::PeerDown,
            Refusal::None if common.next_hops.is_own(common.store.next_hop(path.attr)) => {
                Ineligible::NextHopOwn
            }
            Refusal::None => Ineligible::NextHopUnreachable,
        }
    }

    fn counts(&self, peer: PeerId) -> PeerCounts {
        let mut counts = PeerCounts::default();
        for id in self.sources.of_peer(peer) {
            let source = self.sources.of(id);
            if source.life == Life::Dead {
                continue;
            }
            counts.received += source.paths as usize;
            counts.accepted += source.accepted as usize;
            if source.life == Life::Stale {
                counts.stale += source.paths as usize;
            }
        }
        if let Some(state) = self.peers.get(&peer)
            && let Some(group) = self.groups.get(state.group)
        {
            let own = self.sources.of_peer(peer);
            counts.advertised = group.count(&own, state.session.remote_addr);
        }
        counts
    }

    const fn facts<'a>(&'a self, common: &'a Common) -> Facts<'a> {
        Facts {
            sources: &self.sources,
            store: &common.store,
        }
    }

    fn summary(&self) -> FamilySummary {
        FamilySummary {
            prefixes: self.table.len(),
            paths: self.table.paths_len(),
            routes: self.routes,
            unprogrammed: self.unprogrammed(),
        }
    }
}
