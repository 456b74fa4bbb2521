//! Holds the facts, derives what follows from them, and tells what changed.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::config::{NetworkConfig, PortRole};
use crate::facts::{Address, Fact, Link, LinkKind, MacAddr, Neighbour, Subnet};
use crate::resolve::{Adjacency, Delivery, NextHopKey, Resolution, Unusable};

/// Links, addresses and neighbours of one network namespace, and what follows for forwarding.
///
/// Feed with [`Self::snapshot`], [`Self::apply`], [`Self::track`], [`Self::release`] and [`Self::configure`]; call
/// [`Self::update`] once after a batch of these, then take what changed with the `poll_*` functions until they return
/// `None`: next-hop facts for the speaker, the delta for the planner, probes for netlink.
#[derive(Debug, Default)]
pub struct Network {
    config: NetworkConfig,
    facts: Facts,
    /// Tracked next hops, how often, and what was last told.
    tracked: BTreeMap<NextHopKey, Tracked>,
    derived: Derived,
    delta: NetDelta,
    next_hop_facts: VecDeque<NextHopFact>,
    probes: BTreeSet<Probe>,
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
}

impl Network {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: NetworkConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Replaces the configuration.
    pub fn configure(&mut self, config: NetworkConfig) {
        self.config = config;
    }

    /// Replaces all facts by those of a full dump.
    pub fn snapshot(&mut self, facts: impl IntoIterator<Item = Fact>) {
        self.facts = Facts::default();
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
        self.facts
            .apply(fact, &self.config.limits, &mut self.refused);
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
    }

    /// Ends one [`Self::track`].
    pub fn release(&mut self, key: NextHopKey) {
        let Some(tracked) = self.tracked.get_mut(&key) else {
            return;
        };
        tracked.users = tracked.users.saturating_sub(1);
        if tracked.users == 0 {
            self.tracked.remove(&key);
            self.next_hop_facts.retain(|fact| fact.key != key);
            self.delta.next_hops.push((key, None));
        }
    }

    /// Derives everything anew and compares.
    pub fn update(&mut self) {
        self.update_next_hops();
        let derived = Derived::new(&self.config, &self.facts);
        changes(&self.derived.ports, &derived.ports, &mut self.delta.ports);
        changes(&self.derived.local, &derived.local, &mut self.delta.local);
        self.derived = derived;
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

    /// Asks anew for all tracked next hops that are pending. Call it on a slow timer.
    pub fn probe_again(&mut self) {
        for (key, tracked) in &self.tracked {
            if let Some(Resolution::Pending { ifindex, .. }) = tracked.told {
                self.probes.insert(Probe {
                    ifindex,
                    addr: key.addr,
                });
            }
        }
    }

    /// What `key` resolves to at this moment.
    #[must_use]
    pub fn resolve(&self, key: NextHopKey) -> Resolution {
        self.facts
            .resolve(&self.config, key)
            .unwrap_or_else(Resolution::Unusable)
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
            ..self.refused
        }
    }

    fn update_next_hops(&mut self) {
        for (key, tracked) in &mut self.tracked {
            let now = self
                .facts
                .resolve(&self.config, *key)
                .unwrap_or_else(Resolution::Unusable);
            let before = tracked.told.replace(now);
            if before == Some(now) {
                continue;
            }
            self.delta.next_hops.push((*key, Some(now)));
            if before.map(|before| before.metric()) != Some(now.metric()) {
                self.next_hop_facts.push_back(NextHopFact {
                    key: *key,
                    metric: now.metric(),
                });
            }
            // A resolved one too, the first time: the kernel must keep it so.
            let ifindex = match (now, before) {
                (Resolution::Pending { ifindex, .. }, _) => ifindex,
                (Resolution::Resolved(adjacency), before)
                    if !matches!(before, Some(Resolution::Resolved(_))) =>
                {
                    adjacency.ifindex
                }
                _ => continue,
            };
            self.probes.insert(Probe {
                ifindex,
                addr: key.addr,
            });
        }
    }
}

#[derive(Debug, Default)]
struct Tracked {
    users: u32,
    told: Option<Resolution>,
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

/// What was learned, bounded.
#[derive(Debug, Default)]
struct Facts {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<Address>,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

impl Facts {
    fn apply(&mut self, fact: Fact, limits: &crate::Limits, refused: &mut Overflow) {
        match fact {
            Fact::Link(link) => {
                if room(&self.links, &link.ifindex, limits.max_links) {
                    self.links.insert(link.ifindex, link);
                } else {
                    refused.links += 1;
                }
            }
            Fact::LinkGone { ifindex } => {
                self.links.remove(&ifindex);
                self.addresses.retain(|address| address.ifindex != ifindex);
                self.neighbours.retain(|(link, _), _| *link != ifindex);
            }
            Fact::Address(address) => {
                if self.addresses.contains(&address) || self.addresses.len() < limits.max_addresses
                {
                    self.addresses.insert(address);
                } else {
                    refused.addresses += 1;
                }
            }
            Fact::AddressGone(address) => {
                self.addresses.remove(&address);
            }
            Fact::Neighbour(neighbour) => {
                if neighbour.addr.is_multicast() {
                    return;
                }
                let key = (neighbour.ifindex, neighbour.addr);
                if room(&self.neighbours, &key, limits.max_neighbours) {
                    self.neighbours.insert(key, neighbour);
                } else {
                    refused.neighbours += 1;
                }
            }
            Fact::NeighbourGone { ifindex, addr } => {
                self.neighbours.remove(&(ifindex, addr));
            }
        }
    }

    fn resolve(&self, config: &NetworkConfig, key: NextHopKey) -> Result<Resolution, Unusable> {
        if self.addresses.iter().any(|address| {
            address.addr == key.addr && key.link.is_none_or(|l| l == address.ifindex)
        }) {
            return Err(Unusable::OwnAddress);
        }
        let ifindex = match key.link {
            Some(ifindex) => ifindex,
            None if is_link_local(key.addr) => return Err(Unusable::LinkMissing),
            None => self.connected(key.addr).ok_or(Unusable::NotConnected)?,
        };
        let link = self.links.get(&ifindex).ok_or(Unusable::LinkUnknown)?;
        if !link.up {
            return Err(Unusable::LinkDown);
        }
        if !link.carrier {
            return Err(Unusable::NoCarrier);
        }
        let role = config
            .role(&link.name)
            .ok_or(Unusable::NotAPort { ifindex })?;
        let src_mac = link.mac.ok_or(Unusable::NoEthernet)?;
        let neighbour = self.neighbours.get(&(ifindex, key.addr));
        Ok(match neighbour.and_then(Neighbour::resolved) {
            Some(dst_mac) => Resolution::Resolved(Adjacency {
                ifindex,
                src_mac,
                dst_mac,
                mtu: link.mtu,
                tx_ifindex: tx(link).0,
                vlan: tx(link).1,
                delivery: delivery(link, role),
            }),
            None => Resolution::Pending {
                ifindex,
                src_mac,
                mtu: link.mtu,
            },
        })
    }

    /// The interface whose subnet holds `addr`: the longest wins, a usable link before another, then the lowest index.
    fn connected(&self, addr: IpAddr) -> Option<u32> {
        let usable = |ifindex: u32| -> bool { self.links.get(&ifindex).is_some_and(Link::usable) };
        self.addresses
            .iter()
            .filter(|address| address.subnet.contains(addr))
            .max_by_key(|address| {
                (
                    usable(address.ifindex),
                    address.subnet.len(),
                    core::cmp::Reverse(address.ifindex),
                )
            })
            .map(|address| address.ifindex)
    }
}

fn room<K: Ord, V>(map: &BTreeMap<K, V>, key: &K, max: usize) -> bool {
    map.len() < max || map.contains_key(key)
}

/// What follows from facts and configuration.
#[derive(Debug, Default)]
struct Derived {
    ports: BTreeMap<u32, Port>,
    local: BTreeMap<Subnet, Local>,
    host_routes_left_out: u64,
}

impl Derived {
    fn new(config: &NetworkConfig, facts: &Facts) -> Self {
        let mut derived = Self::default();
        for link in facts.links.values() {
            if let (Some(role), Some(mac)) = (config.role(&link.name), link.mac) {
                let port = Port {
                    name: link.name.clone(),
                    mac,
                    role,
                    kind: link.kind,
                };
                derived.ports.insert(link.ifindex, port);
            }
        }
        derived.host_routes(config, facts);
        // After the host routes: where both claim a prefix, the node's own address wins.
        derived.punts(facts);
        derived
    }

    fn host_routes(&mut self, config: &NetworkConfig, facts: &Facts) {
        let mut subnets: BTreeMap<u32, Vec<Subnet>> = BTreeMap::new();
        for address in &facts.addresses {
            if self.ports.contains_key(&address.ifindex) && !is_link_local(address.addr) {
                subnets
                    .entry(address.ifindex)
                    .or_default()
                    .push(address.subnet);
            }
        }
        let mut used = 0;
        for neighbour in facts.neighbours.values() {
            let Some(subnets) = subnets.get(&neighbour.ifindex) else {
                continue;
            };
            if !subnets.iter().any(|subnet| subnet.contains(neighbour.addr)) {
                continue;
            }
            let key = NextHopKey {
                addr: neighbour.addr,
                link: Some(neighbour.ifindex),
            };
            let Ok(Resolution::Resolved(adjacency)) = facts.resolve(config, key) else {
                continue;
            };
            if used >= config.limits.max_host_routes {
                self.host_routes_left_out += 1;
                continue;
            }
            let host = Subnet::host(neighbour.addr);
            if self.local.insert(host, Local::Host(adjacency)).is_none() {
                used += 1;
            }
        }
    }

    fn punts(&mut self, facts: &Facts) {
        for address in &facts.addresses {
            if is_never_routed(address.addr) {
                continue;
            }
            // An own address stays own while its link is down; a subnet without carrier is better reached another way.
            self.local.insert(Subnet::host(address.addr), Local::Punt);
            let usable = facts
                .links
                .get(&address.ifindex)
                .is_some_and(|link| link.usable() || (link.loopback && link.up));
            if usable {
                self.local.entry(address.subnet).or_insert(Local::Punt);
            }
        }
    }
}

/// Where XDP sends what leaves by `link`, and with which tag.
fn tx(link: &Link) -> (u32, u16) {
    match link.kind {
        LinkKind::Vlan { parent, vid } => (parent, vid),
        LinkKind::Plain | LinkKind::Veth { .. } => (link.ifindex, 0),
    }
}

fn delivery(link: &Link, role: PortRole) -> Delivery {
    let peer = LinkKind::Veth {
        peer_elsewhere: true,
    };
    match role {
        PortRole::Pod if link.kind == peer => Delivery::Peer,
        PortRole::Pod => Delivery::Local,
        PortRole::Uplink | PortRole::Access => Delivery::Wire,
    }
}

/// Addresses that the dataplane passes on before it looks at routes.
fn is_never_routed(addr: IpAddr) -> bool {
    addr.is_loopback() || addr.is_multicast() || addr.is_unspecified() || is_link_local(addr)
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
