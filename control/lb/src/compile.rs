//! One service and its slices to what it wants in the tables: a pure function, without ids and without other services.

use core::net::IpAddr;
use core::num::{NonZeroU16, NonZeroU32};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::LbConfig;
use crate::endpoint::Slice;
use crate::select::{Here, Scopes, Selection, State, Verdict, select};
use crate::service::{Service, ServicePort, SourceRanges, TrafficPolicy};
use crate::tables::{FrontendKey, FrontendKind, Listen, Scope, pool_identity};
use crate::traffic_policy::Filled;
use crate::types::{BackendKey, Family, ObjectKey, Protocol};

/// What a service wants.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) pools: Vec<WantedPool>,
    pub(crate) addresses: Vec<(IpAddr, FrontendKind)>,
    pub(crate) source_ranges: [Option<SourceRanges>; 2],
    pub(crate) health_check: Option<(NonZeroU16, u32)>,
    /// Endpoints that the limit leaves out.
    pub(crate) left_out: usize,
}

/// A pool and its frontends.
#[derive(Debug)]
pub(crate) struct WantedPool {
    pub(crate) port_name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) family: Family,
    pub(crate) affinity: Option<NonZeroU32>,
    pub(crate) internal_policy: TrafficPolicy,
    pub(crate) external_policy: TrafficPolicy,
    /// In the order of keys.
    pub(crate) members: Vec<Member>,
    pub(crate) usable: bool,
    /// The local ring holds terminating endpoints, for want of ready ones.
    pub(crate) local_terminating: bool,
    pub(crate) frontends: Vec<(FrontendKey, FrontendKind)>,
}

/// An endpoint of a pool, chosen or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) key: BackendKey,
    pub(crate) weight: u16,
    pub(crate) serving: bool,
    pub(crate) cluster: bool,
    pub(crate) local: bool,
}

impl Member {
    pub(crate) fn in_scope(&self, scope: Scope) -> bool {
        match scope {
            Scope::Cluster => self.cluster,
            Scope::Local => self.local,
        }
    }
}

impl WantedPool {
    pub(crate) fn identity(&self, owner: &ObjectKey) -> u64 {
        pool_identity(owner, &self.port_name, self.protocol, self.family)
    }

    /// Which rings have members.
    pub(crate) fn filled(&self) -> Filled {
        Filled {
            cluster: self.members.iter().any(|member| member.cluster),
            local: self.members.iter().any(|member| member.local),
            usable: self.usable,
        }
    }
}

/// The scopes that a service's frontends use.
pub(crate) fn scopes(service: &Service) -> Scopes {
    let external = service.externally_accessible();
    Scopes {
        // Under external Local too: pods and the node itself reach all endpoints.
        cluster: external || service.internal_policy == TrafficPolicy::Cluster,
        local: service.internal_policy == TrafficPolicy::Local
            || (external && service.external_policy == TrafficPolicy::Local),
    }
}

/// Judges the endpoints of one port in one family.
pub(crate) fn judge<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice>,
    port: &ServicePort,
    family: Family,
    here: Here<'_>,
    config: &LbConfig,
) -> Selection<'a> {
    let most = config.limits.backends_per_pool;
    select(service, slices, port, family, here, scopes(service), most)
}

/// Computes what the service wants.
pub(crate) fn compile<'a, I>(
    service: &Service,
    slices: impl Fn() -> I,
    here: Here<'_>,
    config: &LbConfig,
) -> Wanted
where
    I: Iterator<Item = &'a Slice>,
{
    let mut wanted = Wanted {
        addresses: addresses(service),
        ..Wanted::default()
    };
    let mut local_ready = [BTreeSet::new(), BTreeSet::new()];
    for port in &service.ports {
        for &family in &service.families {
            let frontends = frontends(port, family, &wanted.addresses);
            if frontends.is_empty() {
                continue;
            }
            let selection = judge(service, slices(), port, family, here, config);
            wanted.left_out += selection.left_out;
            if service.health_check_node_port.is_some() {
                local_ready[family as usize].extend(
                    selection
                        .candidates
                        .iter()
                        .filter(|one| one.local && one.state == State::Ready && one.weight > 0)
                        .map(|one| one.key.addr),
                );
            }
            wanted
                .pools
                .push(pool(service, port, family, &selection, frontends));
        }
    }
    for family in Family::ALL {
        wanted.source_ranges[family as usize] = service.source_ranges(family).filter(|_| {
            let pools = wanted.pools.iter().filter(|pool| pool.family == family);
            let mut frontends = pools.flat_map(|pool| &pool.frontends);
            frontends.any(|(_, kind)| *kind == FrontendKind::LoadBalancer)
        });
    }
    // A pod of a dual-stack service has an address in both families and is one endpoint.
    let most = local_ready.iter().map(BTreeSet::len).max().unwrap_or(0);
    wanted.health_check = service
        .health_check_node_port
        .map(|port| (port, u32::try_from(most).unwrap_or(u32::MAX)));
    wanted
}

fn pool(
    service: &Service,
    port: &ServicePort,
    family: Family,
    selection: &Selection<'_>,
    frontends: Vec<(FrontendKey, FrontendKind)>,
) -> WantedPool {
    WantedPool {
        port_name: Arc::clone(&port.name),
        protocol: port.protocol,
        family,
        affinity: service.affinity,
        internal_policy: service.internal_policy,
        external_policy: service.external_policy,
        usable: selection.usable,
        local_terminating: selection
            .candidates
            .iter()
            .any(|one| one.within_node == Verdict::ChosenTerminating),
        members: selection
            .candidates
            .iter()
            .map(|one| Member {
                key: one.key,
                weight: one.weight,
                serving: one.serving,
                cluster: one.cluster.is_chosen(),
                local: one.within_node.is_chosen(),
            })
            .collect(),
        frontends,
    }
}

/// Addresses of a service, each once: what it is to the service in the first place.
fn addresses(service: &Service) -> Vec<(IpAddr, FrontendKind)> {
    let mut addresses: Vec<_> = [
        (&service.cluster_ips[..], FrontendKind::ClusterIp),
        (&service.load_balancer_ips[..], FrontendKind::LoadBalancer),
        (&service.external_ips[..], FrontendKind::ExternalIp),
    ]
    .into_iter()
    .flat_map(|(addrs, kind)| addrs.iter().map(move |addr| (*addr, kind)))
    .collect();
    addresses.sort_unstable();
    addresses.dedup_by_key(|(addr, _)| *addr);
    addresses
}

fn frontends(
    port: &ServicePort,
    family: Family,
    addresses: &[(IpAddr, FrontendKind)],
) -> Vec<(FrontendKey, FrontendKind)> {
    let key = |listen, number: NonZeroU16| FrontendKey {
        listen,
        port: number.get(),
        protocol: port.protocol,
    };
    let node_port = port.node_port.map(|number| {
        (
            key(Listen::NodePort(family), number),
            FrontendKind::NodePort,
        )
    });
    addresses
        .iter()
        .filter(|(addr, _)| Family::of(*addr) == family)
        .map(|(addr, kind)| (key(Listen::Address(*addr), port.port), *kind))
        .chain(node_port)
        .collect()
}
