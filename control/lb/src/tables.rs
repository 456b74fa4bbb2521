//! What comes out: the desired tables and how they change, in terms that `plan` lowers to maps.
//!
//! ```text
//! frontend (address, protocol, port) ──▶ route of the client: reject | drop | forward by the pool's cluster or local ring
//!     pool ── ring of a scope ── slot of the connection ──▶ seat ──▶ backend (address, port, protocol)
//! ```
//!
//! A pool is one port of one service in one family. Its *seats* are numbered from 0; a backend keeps its seat for as long
//! as it is chosen, so that a ring is rewritten in place and changes only where the choice does. A ring's slots name seats.
//!
//! # Order of writes
//!
//! A [`Delta`] is safe after every single write in this order: backends, seats, rings, pools, source ranges, addresses and
//! frontends that are new or changed; then what is removed, the other way round. A delta never gives an id to something
//! else that it takes it from.

use core::fmt;
use core::net::IpAddr;
use core::num::{NonZeroU16, NonZeroU32};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::maglev::Ring;
use crate::service::SourceRanges;
use crate::types::{BackendKey, Family, ObjectKey, Protocol};

/// Number of a backend, kept while anybody has the backend. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u32);

/// Number of a pool. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u32);

/// Number of a service: the key of its source ranges. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

/// Destination that packets for a service have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listen {
    /// This address.
    Address(IpAddr),
    /// Every address of the node that answers node ports, of this family.
    NodePort(Family),
}

/// Key of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendKey {
    /// Destination.
    pub listen: Listen,
    /// Destination port, never 0.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl fmt::Display for FrontendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listen {
            Listen::Address(IpAddr::V4(addr)) => write!(f, "{addr}:{}", self.port)?,
            Listen::Address(IpAddr::V6(addr)) => write!(f, "[{addr}]:{}", self.port)?,
            Listen::NodePort(family) => write!(f, "node-{family}:{}", self.port)?,
        }
        write!(f, "/{}", self.protocol)
    }
}

/// What makes an address or port a service's. In the order in which services that claim the same one get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// `clusterIPs`.
    ClusterIp,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `nodePort`.
    NodePort,
    /// `externalIPs`: anybody may write them, so they come last.
    ExternalIp,
}

impl FrontendKind {
    /// Kubernetes' word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
            Self::ExternalIp => "ExternalIP",
        }
    }
}

/// Which ring of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Endpoints anywhere, as topology prefers.
    Cluster,
    /// Endpoints on this node.
    Local,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// TCP RST or ICMP port unreachable: there is no usable endpoint anywhere.
    Reject,
    /// Nothing is answered: there are usable endpoints, but none that the traffic policy allows here.
    Drop,
    /// To a backend of the ring.
    Forward {
        /// The ring.
        scope: Scope,
        /// The backend sees this node's address instead of the client's. Hairpin connections (client = backend) are always
        /// masqueraded, whatever stands here.
        masquerade: bool,
    },
}

/// What becomes of new connections, by where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Routes {
    /// A pod of this node that has its own network namespace.
    pub pod: Route,
    /// The node itself, pods on its network included.
    pub host: Route,
    /// Anybody else.
    pub outside: Route,
}

/// Value of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// What it is to its service.
    pub kind: FrontendKind,
    /// Whose it is.
    pub service: ServiceId,
    /// Where the backends are.
    pub pool: PoolId,
    /// What becomes of new connections.
    pub routes: Routes,
    /// Clients other than the node itself are checked against the source ranges of the service and family; who may not
    /// pass is dropped.
    pub source_ranges: bool,
}

/// Value of a pool: one port of a service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The service.
    pub service: ServiceId,
    /// Its name, for people.
    pub owner: ObjectKey,
    /// Name of the port; empty if it has none.
    pub port_name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Family.
    pub family: Family,
    /// Seconds that a client sticks to its backend, over all frontends of the pool; `None` for no affinity.
    pub affinity: Option<NonZeroU32>,
    /// Seats are numbered below this.
    pub seats: u16,
}

impl Pool {
    /// See [`pool_identity`].
    #[must_use]
    pub fn identity(&self) -> u64 {
        pool_identity(&self.owner, &self.port_name, self.protocol, self.family)
    }
}

/// A pool's identity over restarts, for maps that have no room for names: FNV-1a over namespace, name, name of the port,
/// protocol and family, with a zero byte after each.
#[must_use]
pub fn pool_identity(
    owner: &ObjectKey,
    port_name: &str,
    protocol: Protocol,
    family: Family,
) -> u64 {
    let texts = [&*owner.namespace, &*owner.name, port_name];
    texts
        .iter()
        .flat_map(|text| text.bytes().chain([0]))
        .chain([protocol as u8, 0, family as u8, 0])
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

/// Who sits on a seat, and which rings may choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The backend.
    pub backend: BackendId,
    /// The cluster ring has it.
    pub cluster: bool,
    /// The local ring has it.
    pub local: bool,
}

/// A backend. One that is in no ring is still there while an endpoint has it, so that its connections can finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where packets go.
    pub key: BackendKey,
    /// Some endpoint with it says it answers. UDP flows leave a backend that does not.
    pub serving: bool,
}

/// How an address of services answers where no frontend matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Reject what has no frontend. Not so for an address that the host has itself: its own sockets answer there.
    pub reject_others: bool,
}

/// A health check that load balancers outside ask for, under `externalTrafficPolicy: Local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Whose it is.
    pub service: ObjectKey,
    /// Endpoints on this node that are ready; 200 if there is one, else 503.
    pub local_ready: u32,
}

/// One change of a table: the value that holds from now on, or `None` when the key goes.
pub type Change<K, V> = (K, Option<V>);

/// Changes of all tables, each in the order of keys, each key once.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Counts up; [`crate::Lb::programmed`] wants it back.
    pub revision: u64,
    /// Backends.
    pub backends: Vec<Change<BackendId, Backend>>,
    /// Seats of pools.
    pub seats: Vec<Change<(PoolId, u16), Seat>>,
    /// Rings of pools.
    pub rings: Vec<Change<(PoolId, Scope), Arc<Ring>>>,
    /// Pools.
    pub pools: Vec<Change<PoolId, Pool>>,
    /// Who may use the load-balancer addresses of a service.
    pub source_ranges: Vec<Change<(ServiceId, Family), SourceRanges>>,
    /// Addresses of services.
    pub addresses: Vec<Change<IpAddr, Held>>,
    /// Addresses of the node that answer node ports.
    pub node_port_addresses: Vec<Change<IpAddr, ()>>,
    /// Frontends.
    pub frontends: Vec<Change<FrontendKey, Frontend>>,
    /// Health checks by port. No map: the daemon answers them.
    pub health_checks: Vec<Change<NonZeroU16, HealthCheck>>,
}

impl Delta {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes of all tables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.backends.len()
            + self.seats.len()
            + self.rings.len()
            + self.pools.len()
            + self.source_ranges.len()
            + self.addresses.len()
            + self.node_port_addresses.len()
            + self.frontends.len()
            + self.health_checks.len()
    }
}

/// The tables that all deltas so far amount to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// Backends.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Seats.
    pub seats: BTreeMap<(PoolId, u16), Seat>,
    /// Rings.
    pub rings: BTreeMap<(PoolId, Scope), Arc<Ring>>,
    /// Pools.
    pub pools: BTreeMap<PoolId, Pool>,
    /// Source ranges.
    pub source_ranges: BTreeMap<(ServiceId, Family), SourceRanges>,
    /// Addresses of services.
    pub addresses: BTreeMap<IpAddr, Held>,
    /// Addresses of the node that answer node ports.
    pub node_port_addresses: BTreeMap<IpAddr, ()>,
    /// Frontends.
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// Health checks.
    pub health_checks: BTreeMap<NonZeroU16, HealthCheck>,
}

impl Tables {
    /// Takes in the changes.
    pub fn apply(&mut self, delta: &Delta) {
        change(&mut self.backends, &delta.backends);
        change(&mut self.seats, &delta.seats);
        change(&mut self.rings, &delta.rings);
        change(&mut self.pools, &delta.pools);
        change(&mut self.source_ranges, &delta.source_ranges);
        change(&mut self.addresses, &delta.addresses);
        change(&mut self.node_port_addresses, &delta.node_port_addresses);
        change(&mut self.frontends, &delta.frontends);
        change(&mut self.health_checks, &delta.health_checks);
    }

    /// The backends that a slot of this ring may name, each with its number of slots, in the order of their keys.
    #[must_use]
    pub fn shares(&self, pool: PoolId, scope: Scope) -> BTreeMap<BackendKey, usize> {
        let mut shares = BTreeMap::new();
        for seat in self
            .rings
            .get(&(pool, scope))
            .into_iter()
            .flat_map(|ring| ring.slots())
        {
            let backend = self
                .seats
                .get(&(pool, *seat))
                .and_then(|seat| self.backends.get(&seat.backend));
            if let Some(backend) = backend {
                *shares.entry(backend.key).or_default() += 1;
            }
        }
        shares
    }

    /// What doesn't hold together, one sentence each: names that lead nowhere, rings and seats that disagree.
    #[must_use]
    pub fn inconsistencies(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (key, frontend) in &self.frontends {
            if !self.pools.contains_key(&frontend.pool) {
                found.push(format!(
                    "{key} names pool {} that is not there",
                    frontend.pool.0
                ));
            }
            for route in [
                frontend.routes.pod,
                frontend.routes.host,
                frontend.routes.outside,
            ] {
                if let Route::Forward { scope, .. } = route
                    && !self.rings.contains_key(&(frontend.pool, scope))
                {
                    found.push(format!(
                        "{key} forwards by a {scope:?} ring that is not there"
                    ));
                }
            }
            if let Listen::Address(addr) = key.listen
                && !self.addresses.contains_key(&addr)
            {
                found.push(format!("the address of {key} is not held"));
            }
        }
        for ((pool, scope), ring) in &self.rings {
            for seat in ring.slots() {
                let fine = self
                    .seats
                    .get(&(*pool, *seat))
                    .is_some_and(|seat| match scope {
                        Scope::Cluster => seat.cluster,
                        Scope::Local => seat.local,
                    });
                if !fine {
                    found.push(format!(
                        "ring {}/{scope:?} names seat {seat} in vain",
                        pool.0
                    ));
                    break;
                }
            }
        }
        for ((pool, number), seat) in &self.seats {
            if !self.backends.contains_key(&seat.backend) {
                found.push(format!("seat {}/{number} has no backend", pool.0));
            }
            let pool_has = self
                .pools
                .get(pool)
                .is_some_and(|pool| *number < pool.seats);
            if !pool_has {
                found.push(format!("seat {}/{number} is outside its pool", pool.0));
            }
        }
        found
    }
}

fn change<K: Ord + Clone, V: Clone>(table: &mut BTreeMap<K, V>, changes: &[Change<K, V>]) {
    for (key, value) in changes {
        match value {
            Some(value) => table.insert(key.clone(), value.clone()),
            None => table.remove(key),
        };
    }
}
