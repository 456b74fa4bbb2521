//! The room's state: objects in, deltas, announcements and problems out.

mod finish;
mod refresh;
mod sync;

use core::net::IpAddr;
use core::num::NonZeroU16;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use causeway_api::{endpoint_slice, node, service as api};
use foldhash::fast::FixedState;
use slab::Slab;
use smallvec::SmallVec;

use crate::announce::{Announcement, AnnouncementChange, Vip};
use crate::backends::Backends;
use crate::config::LbConfig;
use crate::endpoint::{self, Slice};
use crate::ids::Ids;
use crate::names::Names;
use crate::node::NodeFacts;
use crate::pool::{Former, MOST_SEATS, PoolChanges, PoolState};
use crate::problem::{Findings, Place, ProblemKind, Problems, Report};
use crate::select::Here;
use crate::service::{Service, SourceRanges};
use crate::tables::{
    Delta, Frontend, FrontendKey, FrontendKind, HealthCheck, Held, Listen, PoolId, ServiceId,
};
use crate::types::{Family, ObjectKey, ObjectRef};

/// The service tables of one node.
///
/// Objects go in by `apply_…` and `remove_…`, which only mark what is touched. [`Self::poll_delta`] computes and yields the
/// changes of some services at a time; each delta's revision goes back by [`Self::programmed`] once it is written. After
/// either, [`Self::poll_announcement`] and [`Self::poll_problem`] are emptied.
#[derive(Debug)]
pub struct Lb {
    pub(crate) config: LbConfig,
    names: Names,
    problems: Problems,
    node: NodeFacts,
    host_addresses: BTreeSet<IpAddr>,
    pub(crate) entries: Slab<Entry>,
    by_key: HashMap<ObjectKey, usize, FixedState>,
    /// Which service a slice is with, and when it was last seen.
    slices: HashMap<ObjectKey, SliceRecord, FixedState>,
    /// Endpoint addresses in all slices.
    endpoints: usize,
    dirty: VecDeque<usize>,
    /// Services for which there was no room.
    starved: BTreeSet<usize>,
    service_ids: Ids,
    pool_ids: Ids,
    pub(crate) backends: Backends,
    former: Former,
    pub(crate) frontends: HashMap<FrontendKey, Slot, FixedState>,
    published_frontends: usize,
    /// Frontends for which there was no room.
    left_out: BTreeSet<FrontendKey>,
    addresses: HashMap<IpAddr, AddressSlot, FixedState>,
    node_port_addresses: BTreeSet<IpAddr>,
    health_checks: BTreeMap<NonZeroU16, HealthSlot>,
    vips: HashMap<IpAddr, Vip, FixedState>,
    /// Addresses whose announcement waits for a revision.
    waiting: BTreeSet<(u64, IpAddr)>,
    /// Addresses whose announcement has changed.
    told: BTreeSet<IpAddr>,
    touched: Touched,
    revision: u64,
    programmed: u64,
    sync_epoch: u32,
}

/// A service and its slices, either of which may be missing.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: ObjectKey,
    pub(crate) service: Option<Box<Service>>,
    pub(crate) slices: BTreeMap<Arc<str>, Slice>,
    seen: u32,
    dirty: bool,
    id: Option<ServiceId>,
    pub(crate) pools: Vec<PoolState>,
    pub(crate) addresses: Vec<(IpAddr, FrontendKind)>,
    source_ranges: [Option<SourceRanges>; 2],
    pub(crate) health_check: Option<(NonZeroU16, u32)>,
    /// Endpoints, pools or ids for which there was no room.
    left_out: usize,
}

#[derive(Clone, Copy, Debug)]
struct SliceRecord {
    entry: usize,
    seen: u32,
}

/// A frontend: who claims it, and what was last published.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    claims: SmallVec<[Claim; 1]>,
    pub(crate) published: Option<Frontend>,
    /// The entry of the service that has it.
    pub(crate) winner: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    kind: FrontendKind,
    entry: usize,
    pool: PoolId,
}

#[derive(Debug, Default)]
struct AddressSlot {
    claims: SmallVec<[(usize, FrontendKind); 1]>,
    published: Option<Held>,
}

#[derive(Debug, Default)]
struct HealthSlot {
    claims: SmallVec<[usize; 1]>,
    winner: Option<usize>,
    published: Option<HealthCheck>,
}

/// What the next delta looks at.
#[derive(Debug, Default)]
struct Touched {
    pools: PoolChanges,
    source_ranges: BTreeMap<(ServiceId, Family), Option<SourceRanges>>,
    frontends: BTreeSet<FrontendKey>,
    addresses: BTreeSet<IpAddr>,
    health_checks: BTreeSet<NonZeroU16>,
    node_port_addresses: bool,
    /// Services whose problems may have changed.
    entries: BTreeSet<usize>,
}

/// How much there is, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Services that are there.
    pub services: usize,
    /// Those of them that are none of our business.
    pub hands_off: usize,
    /// Endpoint slices.
    pub slices: usize,
    /// Those of them whose service is not there.
    pub orphans: usize,
    /// Endpoint addresses in all slices.
    pub endpoints: usize,
    /// Pools.
    pub pools: usize,
    /// Backends.
    pub backends: usize,
    /// Frontends.
    pub frontends: usize,
    /// Frontends for which there was no room.
    pub left_out_frontends: usize,
    /// Services for which there was no room in some other table.
    pub left_out_services: usize,
    /// Services that have not been looked at since they changed.
    pub pending: usize,
}

impl Lb {
    /// Empty tables for a node.
    #[must_use]
    pub fn new(mut config: LbConfig) -> Self {
        let limits = &mut config.limits;
        limits.backends_per_pool = limits.backends_per_pool.min(MOST_SEATS);
        Self {
            names: Names::default(),
            problems: Problems::new(limits),
            node: NodeFacts::default(),
            host_addresses: BTreeSet::new(),
            entries: Slab::new(),
            by_key: HashMap::default(),
            slices: HashMap::default(),
            endpoints: 0,
            dirty: VecDeque::new(),
            starved: BTreeSet::new(),
            service_ids: Ids::new(u32::try_from(limits.services).unwrap_or(u32::MAX)),
            pool_ids: Ids::new(limits.pools),
            backends: Backends::new(limits.backends),
            former: Former::default(),
            frontends: HashMap::default(),
            published_frontends: 0,
            left_out: BTreeSet::new(),
            addresses: HashMap::default(),
            node_port_addresses: BTreeSet::new(),
            health_checks: BTreeMap::new(),
            vips: HashMap::default(),
            waiting: BTreeSet::new(),
            told: BTreeSet::new(),
            touched: Touched::default(),
            revision: 0,
            programmed: 0,
            sync_epoch: 0,
            config,
        }
    }

    /// A service is new or has changed.
    pub fn apply_service(&mut self, object: &api::Service) {
        let key = object_key(&object.metadata, &mut self.names);
        let mut findings = Findings::new(&self.config.limits);
        let service = Service::parse(object, &self.config, &mut self.names, &mut findings);
        let reference = ObjectRef::Service(key.clone());
        let Some(at) = self.entry(key, &mut findings) else {
            self.problems.set(reference, Place::Input, findings);
            return;
        };
        self.problems.set(reference, Place::Input, findings);
        let entry = &mut self.entries[at];
        entry.seen = self.sync_epoch;
        if entry.service.as_deref() != Some(&service) {
            entry.service = Some(Box::new(service));
            self.mark(at);
        }
    }

    /// A service is gone. Its slices are kept: they may belong to one that is created anew.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let key = ObjectKey::new(namespace, name);
        let Some(&at) = self.by_key.get(&key) else {
            return;
        };
        self.problems.clear(&ObjectRef::Service(key), Place::Input);
        if self.entries[at].service.take().is_some() {
            self.mark(at);
        }
    }

    /// An endpoint slice is new or has changed.
    pub fn apply_slice(&mut self, object: &endpoint_slice::EndpointSlice) {
        let key = object_key(&object.metadata, &mut self.names);
        let reference = ObjectRef::EndpointSlice(key.clone());
        let mut findings = Findings::new(&self.config.limits);
        let target = endpoint::service_name(object, &self.config)
            .map(|name| ObjectKey {
                namespace: Arc::clone(&key.namespace),
                name: self.names.intern(name),
            })
            .and_then(|service| {
                let slice = Slice::parse(object, &self.config, &mut self.names, &mut findings)?;
                let at = self.room_for(&key, service, &slice, &mut findings)?;
                Some((at, slice))
            });
        self.problems.set(reference, Place::Input, findings);
        let Some((at, slice)) = target else {
            self.drop_slice(&key);
            return;
        };
        // A slice whose label names another service moves.
        if self
            .slices
            .get(&key)
            .is_some_and(|record| record.entry != at)
        {
            self.drop_slice(&key);
        }
        let record = SliceRecord {
            entry: at,
            seen: self.sync_epoch,
        };
        self.slices.insert(key.clone(), record);
        let entry = &mut self.entries[at];
        if entry.slices.get(&key.name) == Some(&slice) {
            return;
        }
        self.endpoints += slice.endpoints.len();
        if let Some(before) = entry.slices.insert(key.name, slice) {
            self.endpoints -= before.endpoints.len();
        }
        self.mark(at);
    }

    /// An endpoint slice is gone.
    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let key = ObjectKey::new(namespace, name);
        let reference = ObjectRef::EndpointSlice(key.clone());
        self.problems.clear(&reference, Place::Input);
        self.drop_slice(&key);
    }

    /// A node is new or has changed. Only this one matters.
    pub fn apply_node(&mut self, object: &node::Node) {
        if object.metadata.name != self.config.node_name {
            return;
        }
        let mut findings = Findings::new(&self.config.limits);
        let facts = NodeFacts::parse(object, &mut findings);
        let reference = ObjectRef::Node(self.names.intern(&object.metadata.name));
        self.problems.set(reference, Place::Input, findings);
        self.set_node(facts);
    }

    /// A node is gone.
    pub fn remove_node(&mut self, name: &str) {
        if name == self.config.node_name {
            self.problems
                .clear(&ObjectRef::Node(name.into()), Place::Input);
            self.set_node(NodeFacts::default());
        }
    }

    /// The addresses that the host's interfaces have now.
    pub fn set_host_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let now: BTreeSet<_> = addresses.into_iter().collect();
        let changed = now.symmetric_difference(&self.host_addresses).copied();
        self.touched.addresses.extend(changed);
        self.host_addresses = now;
        self.touched.node_port_addresses = true;
    }

    /// Computes what has changed of at most so many services; `None` when nothing is left. Every delta that comes out is to
    /// be given back by its revision to [`Self::programmed`], the empty ones too.
    pub fn poll_delta(&mut self, most_services: usize) -> Option<Delta> {
        for _ in 0..most_services.max(1) {
            let Some(at) = self.dirty.pop_front() else {
                break;
            };
            self.refresh(at);
        }
        self.finish()
    }

    /// Everything up to this revision is in the maps.
    pub fn programmed(&mut self, revision: u64) {
        self.programmed = self.programmed.max(revision);
        while let Some((_, addr)) = self
            .waiting
            .first()
            .copied()
            .filter(|(revision, _)| *revision <= self.programmed)
        {
            self.announce_waiting(addr);
        }
    }

    /// The entry of this frontend, or one that it needs, could not be written: its address is withdrawn.
    pub fn program_failed(&mut self, key: FrontendKey) {
        let Listen::Address(addr) = key.listen else {
            return;
        };
        if let Some(vip) = self.vips.get_mut(&addr)
            && !vip.failed.contains(&key)
        {
            vip.failed.push(key);
            self.judge_address(addr);
        }
    }

    /// What had failed is written now.
    pub fn program_recovered(&mut self, key: FrontendKey) {
        let Listen::Address(addr) = key.listen else {
            return;
        };
        if let Some(vip) = self.vips.get_mut(&addr) {
            let before = vip.failed.len();
            vip.failed.retain(|failed| *failed != key);
            if vip.failed.len() != before {
                self.judge_address(addr);
            }
        }
    }

    /// The next change of what this node announces. Only the last state of an address is told.
    pub fn poll_announcement(&mut self) -> Option<AnnouncementChange> {
        let addr = self.told.pop_first()?;
        let announcement = self.vips.get(&addr).and_then(|vip| vip.told.clone());
        Some(AnnouncementChange { addr, announcement })
    }

    /// What was last told of an address; `None` if no service has it.
    #[must_use]
    pub fn announced(&self, addr: IpAddr) -> Option<&Announcement> {
        self.vips.get(&addr)?.told.as_ref()
    }

    /// The next problem that has appeared. Each is told once; problems of one kind that come back are told again.
    pub fn poll_problem(&mut self) -> Option<Report> {
        self.problems.next_report()
    }

    /// What is wrong now.
    #[must_use]
    pub fn problems(&self) -> Vec<Report> {
        self.problems.current()
    }

    /// How often problems of each kind have appeared.
    pub fn problem_counts(&self) -> impl Iterator<Item = (ProblemKind, u64)> + '_ {
        self.problems.ever()
    }

    /// Problems that were not told because nobody asked for long.
    #[must_use]
    pub fn untold_problems(&self) -> u64 {
        self.problems.unreported()
    }

    /// How much there is. Looks at every service.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let services = || {
            self.entries
                .iter()
                .filter_map(|(_, e)| e.service.as_deref())
        };
        Summary {
            services: services().count(),
            hands_off: services().filter(|s| s.hands_off.is_some()).count(),
            slices: self.slices.len(),
            orphans: (self.entries.iter())
                .filter(|(_, entry)| entry.service.is_none())
                .map(|(_, entry)| entry.slices.len())
                .sum(),
            endpoints: self.endpoints,
            pools: self.entries.iter().map(|(_, e)| e.pools.len()).sum(),
            backends: self.backends.len(),
            frontends: self.published_frontends,
            left_out_frontends: self.left_out.len(),
            left_out_services: self.starved.len(),
            pending: self.dirty.len(),
        }
    }

    pub(crate) fn entry_of(&self, key: &ObjectKey) -> Option<(usize, &Entry)> {
        let at = *self.by_key.get(key)?;
        Some((at, self.entries.get(at)?))
    }

    pub(crate) fn here(&self) -> Here<'_> {
        Here {
            node: &self.config.node_name,
            zone: self.node.zone.as_deref(),
        }
    }

    /// The entry of a service; `None`, and a finding, if there is no room for a new one.
    fn entry(&mut self, key: ObjectKey, findings: &mut Findings) -> Option<usize> {
        if let Some(at) = self.by_key.get(&key) {
            return Some(*at);
        }
        let most = self.config.limits.services;
        if self.entries.len() >= most {
            let text = format!("is left out: there are {most} services");
            findings.push(ProblemKind::Limit, "metadata.name", text);
            return None;
        }
        let at = self.entries.insert(Entry {
            key: key.clone(),
            service: None,
            slices: BTreeMap::new(),
            seen: self.sync_epoch,
            dirty: false,
            id: None,
            pools: Vec::new(),
            addresses: Vec::new(),
            source_ranges: [None, None],
            health_check: None,
            left_out: 0,
        });
        self.by_key.insert(key, at);
        Some(at)
    }

    /// The entry for a slice, if no limit stands against it.
    fn room_for(
        &mut self,
        key: &ObjectKey,
        service: ObjectKey,
        slice: &Slice,
        findings: &mut Findings,
    ) -> Option<usize> {
        let known = self.slices.get(key).copied();
        let limits = &self.config.limits;
        let of_service = self
            .by_key
            .get(&service)
            .filter(|at| known.is_none_or(|known| known.entry != **at))
            .map_or(0, |at| self.entries[*at].slices.len());
        let before = known
            .and_then(|known| self.entries[known.entry].slices.get(&key.name))
            .map_or(0, |slice| slice.endpoints.len());
        let after = self.endpoints - before + slice.endpoints.len();
        let full = if known.is_none() && self.slices.len() >= limits.slices {
            Some(format!("is left out: there are {} slices", limits.slices))
        } else if of_service >= limits.slices_per_service {
            let most = limits.slices_per_service;
            Some(format!("is left out: its service has {most} slices"))
        } else if after > limits.endpoints {
            let most = limits.endpoints;
            Some(format!(
                "is left out: there would be more than {most} endpoints"
            ))
        } else {
            None
        };
        if let Some(text) = full {
            findings.push(ProblemKind::Limit, "metadata.name", text);
            return None;
        }
        self.entry(service, findings)
    }

    fn drop_slice(&mut self, key: &ObjectKey) {
        let Some(record) = self.slices.remove(key) else {
            return;
        };
        let reference = ObjectRef::EndpointSlice(key.clone());
        self.problems.clear(&reference, Place::Tables);
        if let Some(slice) = self.entries[record.entry].slices.remove(&key.name) {
            self.endpoints -= slice.endpoints.len();
            self.mark(record.entry);
        }
    }

    fn set_node(&mut self, facts: NodeFacts) {
        if self.node == facts {
            return;
        }
        if self.node.zone != facts.zone {
            let all: Vec<_> = self.entries.iter().map(|(at, _)| at).collect();
            all.into_iter().for_each(|at| self.mark(at));
        }
        if self.node.excluded != facts.excluded {
            self.touched.addresses.extend(self.vips.keys().copied());
        }
        self.node = facts;
        self.touched.node_port_addresses = true;
    }

    fn mark(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push_back(at);
        }
    }
}

fn object_key(meta: &causeway_api::meta::KubeMeta, names: &mut Names) -> ObjectKey {
    ObjectKey {
        namespace: names.intern(meta.namespace.as_deref().unwrap_or("default")),
        name: meta.name.as_str().into(),
    }
}
