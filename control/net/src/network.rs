//! Holds the facts, derives what follows from them, and tells what changed.

mod derived;
mod held;
mod recurse;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::config::{NetworkConfig, PortRole};
use crate::facts::{Address, Fact, KernelRoute, Link, LinkKind, MacAddr, Neighbour, Subnet};
use crate::fib::{Fib, Hop, SetId};
use crate::foreign::Foreign;
use crate::resolve::{Adjacency, NextHopKey, Resolution, Unusable};
use derived::Derived;
use held::Facts;
use recurse::{Reach, Recursion, flatten};

/// Links, addresses and neighbours of one network namespace, and what follows for forwarding.
///
/// Feed with [`Self::snapshot`], [`Self::apply`], [`Self::track`], [`Self::release`] and [`Self::configure`], with the
/// kernel's routes ([`Self::found_route`]) and BGP's ([`Self::define`], [`Self::route`]); call [`Self::update`] once after a
/// batch of these, then take what changed with the `poll_*` functions until they return `None`: next-hop facts for the
/// speaker, sets and the delta for the planner, probes for netlink.
#[derive(Debug, Default)]
pub struct Network {
    config: NetworkConfig,
    facts: Facts,
    foreign: Foreign,
    fib: Fib,
    /// Sets as forwarded: each next hop replaced by what it leads to.
    flat: BTreeMap<SetId, Arc<[Hop]>>,
    /// Which sets a next hop is in.
    users: BTreeMap<NextHopKey, BTreeSet<SetId>>,
    /// What each next hop in a set or tracked leads to.
    reached: BTreeMap<NextHopKey, Reached>,
    /// Which of them depend on the routes to an address, or on its neighbour.
    watchers: BTreeMap<IpAddr, BTreeSet<NextHopKey>>,
    /// Next hops to be resolved anew; all of them.
    dirty: BTreeSet<NextHopKey>,
    dirty_all: bool,
    /// Ports and local prefixes are to be derived anew.
    derive: bool,
    /// Tracked next hops, how often, and what was last told.
    tracked: BTreeMap<NextHopKey, Tracked>,
    derived: Derived,
    delta: NetDelta,
    next_hop_facts: VecDeque<NextHopFact>,
    probes: BTreeSet<Probe>,
    /// Neighbours that the kernel was asked to keep resolved, and those of which it need not any more.
    managed: BTreeSet<Probe>,
    releases: BTreeSet<Probe>,
    sets: VecDeque<(SetId, Arc<[Hop]>)>,
    refused: Overflow,
}

/// What changed since the last one. Apply ports before next hops, next hops before local prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetDelta {
    /// Ports by interface index: there or changed (`Some`), or no longer ports.
    pub ports: Vec<(u32, Option<Port>)>,
    /// Tracked next hops: resolution (`Some`), or released.
    pub next_hops: Vec<(NextHopKey, Option<Resolution>)>,
    /// Prefixes that are this node's or on its links; they beat BGP's.
    pub local: Vec<(Subnet, Option<Local>)>,
}

impl NetDelta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.next_hops.is_empty() && self.local.is_empty()
    }
}

/// An interface that takes part in forwarding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Its own Ethernet address.
    pub mac: MacAddr,
    /// Where it leads.
    pub role: PortRole,
    /// What the interface is.
    pub kind: LinkKind,
}

/// What a local prefix means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// An own address or a connected subnet: the kernel's stack answers.
    Punt,
    /// A resolved neighbour in the subnet of a port.
    Host(Adjacency),
}

/// Whether a tracked next hop is reachable, for the speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHopFact {
    /// Next hop.
    pub key: NextHopKey,
    /// IGP metric; `None` if unreachable.
    pub metric: Option<u32>,
}

/// A neighbour that the kernel should resolve and keep resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Probe {
    /// Interface.
    pub ifindex: u32,
    /// Address.
    pub addr: IpAddr,
}

/// How much did not fit the limits. Zero everywhere when all is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Facts about links left out since the last snapshot.
    pub links: u64,
    /// Facts about addresses left out since the last snapshot.
    pub addresses: u64,
    /// Facts about neighbours left out since the last snapshot.
    pub neighbours: u64,
    /// Host routes left out now.
    pub host_routes: u64,
    /// Next hops refused since the start; they count as unreachable.
    pub next_hops: u64,
    /// Others' routes left out since they were last listed.
    pub routes: u64,
}

impl Network {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: NetworkConfig) -> Self {
        Self {
            config,
            dirty_all: true,
            derive: true,
            ..Self::default()
        }
    }

    /// Replaces the configuration.
    pub fn configure(&mut self, config: NetworkConfig) {
        self.config = config;
        self.everything_changed();
    }

    fn everything_changed(&mut self) {
        self.dirty_all = true;
        self.derive = true;
    }

    /// Replaces all facts by those of a full dump.
    pub fn snapshot(&mut self, facts: impl IntoIterator<Item = Fact>) {
        // Who did not answer has not answered since.
        let failed = core::mem::take(&mut self.facts.failed);
        self.facts = Facts {
            failed,
            ..Facts::default()
        };
        self.everything_changed();
        self.refused = Overflow {
            next_hops: self.refused.next_hops,
            ..Overflow::default()
        };
        for fact in facts {
            self.apply(fact);
        }
    }

    /// Takes in one fact.
    pub fn apply(&mut self, fact: Fact) {
        match &fact {
            Fact::Neighbour(Neighbour { addr, .. }) | Fact::NeighbourGone { addr, .. } => {
                self.dirty
                    .extend(self.watchers.get(addr).into_iter().flatten());
                self.derive = true;
            }
            Fact::Link(_) | Fact::LinkGone { .. } | Fact::Address(_) | Fact::AddressGone(_) => {
                self.everything_changed();
            }
        }
        self.facts
            .apply(fact, &self.config.limits, &mut self.refused);
    }

    /// Somebody's route is in the kernel's main table: from a listing, or news. Ours are not looked at.
    pub fn found_route(&mut self, route: &KernelRoute) {
        let max = self.config.limits.max_foreign_routes;
        if self.foreign.insert(route, max) {
            self.foreign_changed(route.prefix);
        }
    }

    /// Somebody's route is gone.
    pub fn lost_route(&mut self, route: &KernelRoute) {
        if self.foreign.remove(route) {
            self.foreign_changed(route.prefix);
        }
    }

    /// A listing of all the kernel's routes begins.
    pub fn listing_begins(&mut self) {
        self.foreign.listing_begins();
    }

    /// The listing is complete: what it did not show is gone.
    pub fn listing_ends(&mut self) {
        for prefix in self.foreign.listing_ends() {
            self.foreign_changed(prefix);
        }
    }

    fn foreign_changed(&mut self, prefix: Subnet) {
        self.touch(prefix);
        self.derive = true;
    }

    /// The routes to these addresses changed.
    fn touch(&mut self, prefix: Subnet) {
        let range = self.watchers.range(prefix.addr()..=prefix.last());
        self.dirty.extend(range.flat_map(|(_, keys)| keys));
    }

    /// Defines a set of BGP's next hops, or releases it. Returns it as forwarded: a next hop that is reached by way of
    /// others is replaced by those, in its proportions. When that changes, [`Self::poll_set`] tells.
    pub fn define(&mut self, id: SetId, members: Option<Arc<[Hop]>>) -> Option<Arc<[Hop]>> {
        let before = self.fib.sets.get(&id).map(Arc::clone);
        self.fib.define(id, members.clone());
        for hop in before.iter().flat_map(|hops| hops.iter()) {
            if let Some(users) = self.users.get_mut(&hop.key) {
                users.remove(&id);
                if users.is_empty() {
                    self.users.remove(&hop.key);
                    self.forget(hop.key);
                }
            }
        }
        let Some(members) = members else {
            self.flat.remove(&id);
            self.sets.retain(|(set, _)| *set != id);
            return None;
        };
        for hop in members.iter() {
            self.users.entry(hop.key).or_default().insert(id);
            if !self.reached.contains_key(&hop.key) {
                self.reach(hop.key);
            }
        }
        let flat = self.flatten(&members);
        self.flat.insert(id, Arc::clone(&flat));
        Some(flat)
    }

    /// BGP's route for a prefix, or that there is none any more.
    pub fn route(&mut self, prefix: Subnet, set: Option<SetId>) {
        if self.fib.route(prefix, set) {
            if !self.watchers.is_empty() {
                self.touch(prefix);
            }
            self.derive |= self.foreign.contains(prefix);
        }
    }

    /// A set that is forwarded otherwise now.
    pub fn poll_set(&mut self) -> Option<(SetId, Arc<[Hop]>)> {
        self.sets.pop_front()
    }

    /// A neighbour that need not be kept resolved any more.
    pub fn poll_release(&mut self) -> Option<Probe> {
        self.releases.pop_first()
    }

    /// Starts to say what `key` resolves to. Counted: as many [`Self::release`] end it.
    pub fn track(&mut self, key: NextHopKey) {
        if !self.tracked.contains_key(&key)
            && self.tracked.len() >= self.config.limits.max_next_hops
        {
            self.refused.next_hops += 1;
            self.next_hop_facts
                .push_back(NextHopFact { key, metric: None });
            let unusable = Resolution::Unusable(Unusable::NotConnected);
            self.delta.next_hops.push((key, Some(unusable)));
            return;
        }
        let tracked = self.tracked.entry(key).or_default();
        tracked.users += 1;
        // A second user has not heard what the first one was told.
        tracked.told = None;
        self.dirty.insert(key);
    }

    /// Ends one [`Self::track`].
    pub fn release(&mut self, key: NextHopKey) {
        let Some(tracked) = self.tracked.get_mut(&key) else {
            return;
        };
        tracked.users = tracked.users.saturating_sub(1);
        if tracked.users == 0 {
            self.tracked.remove(&key);
            self.forget(key);
            self.next_hop_facts.retain(|fact| fact.key != key);
            self.delta.next_hops.push((key, None));
        }
    }

    /// Derives anew what may have changed, and compares.
    pub fn update(&mut self) {
        self.update_next_hops();
        if core::mem::take(&mut self.derive) {
            let derived = Derived::new(&self.config, &self.facts, &self.foreign, &self.fib);
            changes(&self.derived.ports, &derived.ports, &mut self.delta.ports);
            changes(&self.derived.local, &derived.local, &mut self.delta.local);
            for probe in derived.pods.difference(&self.derived.pods) {
                self.probes.insert(*probe);
            }
            self.derived = derived;
        }
        self.update_managed();
    }

    /// What changed for the planner.
    pub fn poll_delta(&mut self) -> Option<NetDelta> {
        if self.delta.is_empty() {
            return None;
        }
        Some(core::mem::take(&mut self.delta))
    }

    /// What changed for the speaker.
    pub fn poll_next_hop(&mut self) -> Option<NextHopFact> {
        self.next_hop_facts.pop_front()
    }

    /// The next neighbour that needs the kernel's attention. A pending one comes up again with every [`Self::update`]
    /// that finds its state changed, and on [`Self::probe_again`].
    pub fn poll_probe(&mut self) -> Option<Probe> {
        self.probes.pop_first()
    }

    /// Asks anew for all tracked next hops that don't answer, or not yet. Call it on a slow timer.
    pub fn probe_again(&mut self) {
        for (key, tracked) in &self.tracked {
            let ifindex = match tracked.told {
                Some(
                    Resolution::Pending { ifindex, .. }
                    | Resolution::Unusable(Unusable::NeighbourFailed { ifindex }),
                ) => ifindex,
                _ => continue,
            };
            let addr = key.addr;
            self.probes.insert(Probe { ifindex, addr });
        }
        let unresolved = |probe: &&Probe| {
            let neighbour = self.facts.neighbours.get(&(probe.ifindex, probe.addr));
            neighbour.and_then(Neighbour::resolved).is_none()
        };
        self.probes
            .extend(self.derived.pods.iter().filter(unresolved));
    }

    /// What `key` resolves to at this moment.
    #[must_use]
    pub fn resolve(&self, key: NextHopKey) -> Resolution {
        let (reach, _) = self.follow(key);
        self.resolution(key, &reach)
    }

    /// The neighbours that `key` leads to, with their shares; itself if it is one.
    #[must_use]
    pub fn legs(&self, key: NextHopKey) -> Vec<Hop> {
        let hop = Hop { key, weight: 1 };
        flatten(&[hop], |key| self.follow(key).0.ok())
    }

    fn follow(&self, key: NextHopKey) -> (Result<Reach, Unusable>, BTreeSet<IpAddr>) {
        let mut recursion = Recursion {
            facts: &self.facts,
            config: &self.config,
            foreign: &self.foreign,
            fib: &self.fib,
            looked_up: BTreeSet::new(),
        };
        let reach = recursion.reach(key);
        (reach, recursion.looked_up)
    }

    fn resolution(&self, key: NextHopKey, reach: &Result<Reach, Unusable>) -> Resolution {
        match reach {
            Ok(reach) if reach.legs.contains_key(&key) => self
                .facts
                .resolve(&self.config, key)
                .unwrap_or_else(Resolution::Unusable),
            Ok(_) => Resolution::Unusable(Unusable::Recursive),
            Err(why) => Resolution::Unusable(*why),
        }
    }

    /// Tracked next hops and what they resolve to.
    pub fn next_hops(&self) -> impl Iterator<Item = (NextHopKey, Resolution)> + '_ {
        self.tracked.keys().map(|key| (*key, self.resolve(*key)))
    }

    /// Links, by index.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.facts.links.values()
    }

    /// The link with this name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links().find(|link| link.name == name)
    }

    /// Addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.facts.addresses.iter()
    }

    /// Neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = &Neighbour> {
        self.facts.neighbours.values()
    }

    /// Ports, by interface index.
    pub fn ports(&self) -> impl Iterator<Item = (u32, &Port)> {
        self.derived
            .ports
            .iter()
            .map(|(ifindex, port)| (*ifindex, port))
    }

    /// What did not fit.
    #[must_use]
    pub fn overflow(&self) -> Overflow {
        Overflow {
            host_routes: self.derived.host_routes_left_out,
            routes: self.foreign.refused,
            ..self.refused
        }
    }

    fn update_next_hops(&mut self) {
        if core::mem::take(&mut self.dirty_all) {
            self.dirty.extend(self.tracked.keys());
            self.dirty.extend(self.users.keys());
        }
        let mut sets = BTreeSet::new();
        for key in core::mem::take(&mut self.dirty) {
            if !self.tracked.contains_key(&key) && !self.users.contains_key(&key) {
                continue;
            }
            if self.reach(key) {
                sets.extend(self.users.get(&key).into_iter().flatten());
            }
            self.tell(key);
        }
        for id in sets {
            let Some(members) = self.fib.sets.get(&id).map(Arc::clone) else {
                continue;
            };
            let flat = self.flatten(&members);
            if self.flat.get(&id) != Some(&flat) {
                self.flat.insert(id, Arc::clone(&flat));
                self.sets.push_back((id, flat));
            }
        }
    }

    /// Follows a next hop anew. Returns whether it leads elsewhere than before.
    fn reach(&mut self, key: NextHopKey) -> bool {
        let (reach, looked_up) = self.follow(key);
        let before = self.reached.remove(&key);
        for addr in before.iter().flat_map(|before| &before.looked_up) {
            if !looked_up.contains(addr) {
                unwatch(&mut self.watchers, *addr, key);
            }
        }
        for addr in &looked_up {
            self.watchers.entry(*addr).or_default().insert(key);
        }
        let changed = before.is_none_or(|before| before.reach != reach);
        self.reached.insert(key, Reached { reach, looked_up });
        changed
    }

    /// Nobody asks for a next hop any more, unless it is in a set or tracked.
    fn forget(&mut self, key: NextHopKey) {
        if self.tracked.contains_key(&key) || self.users.contains_key(&key) {
            return;
        }
        if let Some(reached) = self.reached.remove(&key) {
            for addr in reached.looked_up {
                unwatch(&mut self.watchers, addr, key);
            }
        }
    }

    fn flatten(&self, members: &Arc<[Hop]>) -> Arc<[Hop]> {
        let reach = |key| self.reached.get(&key)?.reach.clone().ok();
        let flat = flatten(members, reach);
        if flat[..] == members[..] {
            Arc::clone(members)
        } else {
            flat.into()
        }
    }

    /// Tells what became of a tracked next hop, if that is news.
    fn tell(&mut self, key: NextHopKey) {
        let Some(reached) = self.reached.get(&key) else {
            return;
        };
        let now = self.resolution(key, &reached.reach);
        let metric = match &reached.reach {
            Ok(reach) => Some(reach.metric),
            Err(_) => now.metric(),
        };
        let Some(tracked) = self.tracked.get_mut(&key) else {
            return;
        };
        let before = tracked.told.replace(now);
        let metric_before = tracked.metric.replace(metric);
        if before != Some(now) {
            self.delta.next_hops.push((key, Some(now)));
        }
        if before.is_none() || metric_before != Some(metric) {
            self.next_hop_facts.push_back(NextHopFact { key, metric });
        }
        if before == Some(now) {
            return;
        }
        // A resolved one too, the first time: the kernel must keep it so.
        let ifindex = match (now, before) {
            (Resolution::Pending { ifindex, .. }, _) => ifindex,
            (Resolution::Resolved(adjacency), before)
                if !matches!(before, Some(Resolution::Resolved(_))) =>
            {
                adjacency.ifindex
            }
            _ => return,
        };
        self.probes.insert(Probe {
            ifindex,
            addr: key.addr,
        });
    }

    /// Releases neighbours that nobody needs resolved any more.
    fn update_managed(&mut self) {
        self.managed.extend(&self.probes);
        if self.delta.next_hops.is_empty() && self.delta.local.is_empty() {
            return;
        }
        let wanted = |probe: &Probe| {
            let key = |link| NextHopKey {
                addr: probe.addr,
                link,
            };
            self.tracked.contains_key(&key(None))
                || self.tracked.contains_key(&key(Some(probe.ifindex)))
                || self.derived.pods.contains(probe)
        };
        let unwanted: Vec<Probe> = self
            .managed
            .iter()
            .filter(|probe| !wanted(probe))
            .copied()
            .collect();
        for probe in unwanted {
            self.managed.remove(&probe);
            self.probes.remove(&probe);
            self.releases.insert(probe);
        }
    }
}

fn unwatch(watchers: &mut BTreeMap<IpAddr, BTreeSet<NextHopKey>>, addr: IpAddr, key: NextHopKey) {
    if let Some(keys) = watchers.get_mut(&addr) {
        keys.remove(&key);
        if keys.is_empty() {
            watchers.remove(&addr);
        }
    }
}

/// What a next hop leads to, and on what that depends.
#[derive(Debug)]
struct Reached {
    reach: Result<Reach, Unusable>,
    looked_up: BTreeSet<IpAddr>,
}

#[derive(Debug, Default)]
struct Tracked {
    users: u32,
    told: Option<Resolution>,
    /// The metric last told.
    metric: Option<Option<u32>>,
}

/// Appends to `delta` how `after` differs from `before`.
fn changes<K: Copy + Ord, V: Clone + PartialEq>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    delta: &mut Vec<(K, Option<V>)>,
) {
    for key in before.keys().filter(|key| !after.contains_key(key)) {
        delta.push((*key, None));
    }
    for (key, value) in after {
        if before.get(key) != Some(value) {
            delta.push((*key, Some(value.clone())));
        }
    }
}

#[cfg(test)]
mod tests;
