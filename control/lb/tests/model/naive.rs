//! Tables by the simplest means: everything from the objects, in loops over all of them, each time anew.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use causeway_api::endpoint_slice::{Endpoint, EndpointSlice};
use causeway_api::service::Service;
use causeway_lb::{BackendKey, Family, FrontendKey, FrontendKind, Listen, Protocol};

use super::history::World;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NaiveRoute {
    Reject,
    Drop,
    Forward {
        masquerade: bool,
        to: BTreeSet<BackendKey>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NaiveFrontend {
    pub(crate) service: String,
    pub(crate) kind: FrontendKind,
    pub(crate) pod: NaiveRoute,
    pub(crate) host: NaiveRoute,
    pub(crate) outside: NaiveRoute,
    pub(crate) affinity: Option<u32>,
    pub(crate) ranges: Option<BTreeSet<String>>,
}

/// Weights by service, name and protocol of the port, and backend.
pub(crate) type Weights = BTreeMap<(String, String, Protocol, BackendKey), u16>;

#[derive(Debug, Default)]
pub(crate) struct Naive {
    pub(crate) frontends: BTreeMap<FrontendKey, NaiveFrontend>,
    pub(crate) backends: BTreeMap<BackendKey, bool>,
    pub(crate) weights: Weights,
    pub(crate) health_checks: BTreeMap<u16, (String, u32)>,
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) originated: BTreeSet<IpAddr>,
    /// Services that don't get something because another one has it.
    pub(crate) losers: BTreeSet<String>,
}

/// A service that is ours, with everything that is wrong left out.
struct Clean<'a> {
    object: &'a Service,
    name: String,
    created: Option<String>,
    addresses: Vec<(IpAddr, FrontendKind)>,
    families: BTreeSet<Family>,
    /// Name, protocol, port, node port.
    ports: Vec<(String, Protocol, u16, Option<u16>)>,
    load_balancer: bool,
    external: bool,
    external_local: bool,
    internal_local: bool,
}

/// An endpoint of a port.
#[derive(Clone)]
struct Found<'a> {
    key: BackendKey,
    ready: bool,
    terminating: bool,
    serving: bool,
    local: bool,
    weight: u16,
    endpoint: &'a Endpoint,
}

impl Naive {
    pub(crate) fn compute(world: &World, node: &str) -> Self {
        let mut naive = Self::default();
        let label = |name: &str| world.node.as_ref()?.metadata.labels.get(name).cloned();
        let zone = label("topology.kubernetes.io/zone");
        let excluded = label("node.kubernetes.io/exclude-from-external-load-balancers").is_some();
        let services: Vec<_> = world.services.values().filter_map(clean).collect();
        let mut claims: BTreeMap<FrontendKey, Vec<(FrontendKind, Option<String>, String)>> =
            BTreeMap::new();
        for service in &services {
            naive
                .addresses
                .extend(service.addresses.iter().map(|(addr, _)| *addr));
            for (key, kind, ..) in frontends(service) {
                let claim = (kind, service.created.clone(), service.name.clone());
                claims.entry(key).or_default().push(claim);
            }
        }
        claims.values_mut().for_each(|claims| claims.sort());
        let mut health: BTreeMap<u16, Vec<(Option<String>, String, u32)>> = BTreeMap::new();
        for service in &services {
            let mut ready_here: BTreeMap<Family, BTreeSet<IpAddr>> = BTreeMap::new();
            let mut pools = BTreeSet::new();
            for (key, kind, port, family) in frontends(service) {
                let found = endpoints(service, world, port, family, node);
                if pools.insert((port, family)) {
                    let (name, protocol, ..) = &service.ports[port];
                    for one in &found {
                        *naive.backends.entry(one.key).or_default() |= one.serving;
                        let key = (service.name.clone(), name.clone(), *protocol, one.key);
                        naive.weights.insert(key, one.weight);
                        if one.local && one.ready && one.weight > 0 {
                            ready_here.entry(family).or_default().insert(one.key.addr);
                        }
                    }
                }
                if claims[&key][0].2 != service.name {
                    naive.losers.insert(service.name.clone());
                    continue;
                }
                let frontend = frontend(service, kind, family, &found, node, zone.as_deref());
                let kept_away = kind == FrontendKind::LoadBalancer
                    && (excluded
                        || service
                            .object
                            .spec
                            .load_balancer_class
                            .as_ref()
                            .is_some_and(|class| class != "causeway.dev/bgp"));
                if let Listen::Address(addr) = key.listen
                    && matches!(frontend.outside, NaiveRoute::Forward { .. })
                    && !kept_away
                {
                    naive.originated.insert(addr);
                }
                naive.frontends.insert(key, frontend);
            }
            let port = service.object.spec.health_check_node_port;
            if service.load_balancer && service.external_local && port != 0 {
                let most = ready_here.values().map(BTreeSet::len).max().unwrap_or(0);
                let claim = (service.created.clone(), service.name.clone(), most as u32);
                health.entry(port as u16).or_default().push(claim);
            }
        }
        for (port, mut claims) in health {
            claims.sort();
            let losers = claims.drain(1..).map(|(_, name, _)| name);
            naive.losers.extend(losers);
            let (_, name, ready) = claims.remove(0);
            naive.health_checks.insert(port, (name, ready));
        }
        naive
    }
}

fn clean(object: &Service) -> Option<Clean<'_>> {
    let spec = &object.spec;
    let kind = spec.service_type.as_deref().unwrap_or("ClusterIP");
    let labels = &object.metadata.labels;
    if kind == "ExternalName"
        || labels.contains_key("service.kubernetes.io/service-proxy-name")
        || spec.cluster_ip.as_deref() == Some("None")
    {
        return None;
    }
    let load_balancer = kind == "LoadBalancer";
    let node_ports = load_balancer || kind == "NodePort";
    let cluster: Vec<IpAddr> = spec
        .cluster_ips
        .iter()
        .filter_map(|ip| usable(ip))
        .collect();
    let external: Vec<IpAddr> = spec
        .external_ips
        .iter()
        .filter_map(|ip| usable(ip))
        .collect();
    let balanced: Vec<IpAddr> = object
        .status
        .iter()
        .filter(|_| load_balancer)
        .flat_map(|status| &status.load_balancer.as_ref().unwrap().ingress)
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| usable(ingress.ip.as_ref()?))
        .collect();
    let mut families: BTreeSet<_> = cluster.iter().map(|ip| Family::of(*ip)).collect();
    if families.is_empty() {
        families = balanced
            .iter()
            .chain(&external)
            .map(|ip| Family::of(*ip))
            .collect();
    }
    if families.is_empty() {
        families.insert(Family::V4);
    }
    let mut addresses: BTreeMap<IpAddr, FrontendKind> = BTreeMap::new();
    for (list, kind) in [
        (&external, FrontendKind::ExternalIp),
        (&balanced, FrontendKind::LoadBalancer),
        (&cluster, FrontendKind::ClusterIp),
    ] {
        for addr in list
            .iter()
            .filter(|addr| families.contains(&Family::of(**addr)))
        {
            addresses.insert(*addr, kind);
        }
    }
    let mut ports: Vec<(String, Protocol, u16, Option<u16>)> = Vec::new();
    for port in &spec.ports {
        let name = port.name.clone().unwrap_or_default();
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"));
        let (Some(protocol), Some(number)) = (protocol, number(port.port)) else {
            continue;
        };
        if ports
            .iter()
            .any(|p| p.1 == protocol && (p.0 == name || p.2 == number))
        {
            continue;
        }
        let node_port = number_if(node_ports, port.node_port).filter(|wanted| {
            !ports
                .iter()
                .any(|p| p.1 == protocol && p.3 == Some(*wanted))
        });
        ports.push((name, protocol, number, node_port));
    }
    let external_addresses = addresses
        .iter()
        .any(|(_, kind)| *kind == FrontendKind::ExternalIp)
        || external
            .iter()
            .any(|addr| families.contains(&Family::of(*addr)));
    let is_external = external_addresses
        || addresses
            .values()
            .any(|kind| *kind == FrontendKind::LoadBalancer)
        || balanced
            .iter()
            .any(|addr| families.contains(&Family::of(*addr)))
        || ports.iter().any(|port| port.3.is_some());
    Some(Clean {
        object,
        name: format!("default/{}", object.metadata.name),
        created: object.metadata.creation_timestamp.clone(),
        addresses: addresses.into_iter().collect(),
        families,
        ports,
        load_balancer,
        external: is_external,
        external_local: (node_ports || external_addresses)
            && spec.external_traffic_policy.as_deref() == Some("Local"),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
    })
}

fn usable(text: &str) -> Option<IpAddr> {
    // The only bad addresses of this small world.
    text.parse().ok().filter(|ip: &IpAddr| !ip.is_loopback())
}

fn number(number: i64) -> Option<u16> {
    (1..=65535).contains(&number).then_some(number as u16)
}

fn number_if(applies: bool, wanted: i64) -> Option<u16> {
    number(wanted).filter(|_| applies)
}

/// Key, kind, index of the port, family.
fn frontends(service: &Clean<'_>) -> Vec<(FrontendKey, FrontendKind, usize, Family)> {
    let mut all = Vec::new();
    for (n, (_, protocol, port, node_port)) in service.ports.iter().enumerate() {
        for (addr, kind) in &service.addresses {
            let key = FrontendKey {
                listen: Listen::Address(*addr),
                port: *port,
                protocol: *protocol,
            };
            all.push((key, *kind, n, Family::of(*addr)));
        }
        for (family, port) in service.families.iter().zip(node_port.iter().cycle()) {
            let key = FrontendKey {
                listen: Listen::NodePort(*family),
                port: *port,
                protocol: *protocol,
            };
            all.push((key, FrontendKind::NodePort, n, *family));
        }
    }
    all
}

fn endpoints<'a>(
    service: &Clean<'_>,
    world: &'a World,
    port: usize,
    family: Family,
    node: &str,
) -> Vec<Found<'a>> {
    let (name, protocol, ..) = &service.ports[port];
    let mut found: BTreeMap<BackendKey, Vec<Found<'a>>> = BTreeMap::new();
    for slice in world.slices.values() {
        let labels = &slice.metadata.labels;
        let of = labels.get("kubernetes.io/service-name");
        if of != Some(&service.object.metadata.name) || slice.address_type != family.name() {
            continue;
        }
        let Some(port) = slice_port(slice, name, *protocol) else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let addresses = endpoint.addresses.iter().filter_map(|ip| usable(ip));
            for addr in addresses.filter(|addr| Family::of(*addr) == family) {
                let key = BackendKey {
                    addr,
                    port,
                    protocol: *protocol,
                };
                let conditions = endpoint.conditions;
                let says_ready = conditions.ready.unwrap_or(true);
                let serving = conditions.serving.unwrap_or(says_ready);
                let ready = says_ready || service.object.spec.publish_not_ready_addresses;
                found.entry(key).or_default().push(Found {
                    key,
                    ready,
                    terminating: !ready && serving && conditions.terminating == Some(true),
                    serving: serving || ready,
                    local: endpoint.node_name.as_deref() == Some(node),
                    weight: weight(service.object, slice, addr),
                    endpoint,
                });
            }
        }
    }
    let mut merged = Vec::new();
    for same in found.into_values() {
        let quality = |one: &Found<'_>| match one {
            Found { ready: true, .. } => 3,
            Found {
                terminating: true, ..
            } => 2,
            Found { serving: true, .. } => 1,
            _ => 0,
        };
        let best = same.iter().map(quality).max().unwrap();
        let mut one = same
            .iter()
            .find(|one| quality(one) == best)
            .unwrap()
            .clone();
        one.local = same.iter().any(|one| one.local);
        one.serving = same.iter().any(|one| one.serving);
        merged.push(one);
    }
    merged
}

fn slice_port(slice: &EndpointSlice, name: &str, protocol: Protocol) -> Option<u16> {
    slice
        .ports
        .iter()
        .find(|port| {
            port.name.as_deref().unwrap_or("") == name
                && port.protocol.as_deref().unwrap_or("TCP") == protocol.name()
        })
        .and_then(|port| number(port.port?))
}

fn weight(service: &Service, slice: &EndpointSlice, addr: IpAddr) -> u16 {
    let annotation = "service.causeway.dev/weight";
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|n| *n <= 255);
    let parts = || {
        let text = service.metadata.annotations.get(annotation);
        text.into_iter().flat_map(|text| text.split(','))
    };
    let by_address = parts()
        .filter_map(|part| part.split_once('='))
        .filter(|(ip, _)| usable(ip.trim()) == Some(addr))
        .filter_map(|(_, n)| number(n))
        .next_back();
    let of_slice = slice
        .metadata
        .annotations
        .get(annotation)
        .and_then(|text| number(text));
    let of_service = parts()
        .filter(|part| !part.contains('='))
        .filter_map(number)
        .next_back();
    by_address.or(of_slice).or(of_service).unwrap_or(100)
}

fn frontend(
    service: &Clean<'_>,
    kind: FrontendKind,
    family: Family,
    found: &[Found<'_>],
    node: &str,
    zone: Option<&str>,
) -> NaiveFrontend {
    let spec = &service.object.spec;
    let working: Vec<_> = found.iter().filter(|one| one.weight > 0).collect();
    let usable = working.iter().any(|one| one.ready || one.terminating);
    let fall_back = |among: Vec<&Found<'_>>| -> Vec<BackendKey> {
        let ready: Vec<_> = among
            .iter()
            .filter(|one| one.ready)
            .map(|one| one.key)
            .collect();
        if !ready.is_empty() {
            return ready;
        }
        among
            .iter()
            .filter(|one| one.terminating)
            .map(|one| one.key)
            .collect()
    };
    let local = fall_back(working.iter().copied().filter(|one| one.local).collect());
    let ready: Vec<&Found<'_>> = working.iter().copied().filter(|one| one.ready).collect();
    let near = nearest(&ready, spec.traffic_distribution.as_deref(), node, zone);
    let cluster = near.unwrap_or_else(|| fall_back(working.clone()));
    let to = |members: &[BackendKey], masquerade: bool| {
        if !members.is_empty() {
            NaiveRoute::Forward {
                masquerade,
                to: members.iter().copied().collect(),
            }
        } else if usable {
            NaiveRoute::Drop
        } else {
            NaiveRoute::Reject
        }
    };
    let (pod, host, outside) = match (kind == FrontendKind::ClusterIp, service) {
        (
            true,
            Clean {
                internal_local: true,
                ..
            },
        ) => (to(&local, false), to(&local, true), to(&local, true)),
        (true, _) => (to(&cluster, false), to(&cluster, true), to(&cluster, true)),
        (
            false,
            Clean {
                external_local: true,
                ..
            },
        ) => {
            assert!(service.external);
            (to(&cluster, false), to(&cluster, true), to(&local, false))
        }
        (false, _) => (to(&cluster, true), to(&cluster, true), to(&cluster, true)),
    };
    let written = &spec.load_balancer_source_ranges;
    let prefixes: Vec<causeway_api::cidr::Cidr> = written
        .iter()
        .filter_map(|text| text.trim().parse().ok())
        .collect();
    let broken = prefixes.len() < written.len();
    let ranges: BTreeSet<_> = prefixes
        .iter()
        .filter(|prefix| Family::of(prefix.addr()) == family)
        .map(ToString::to_string)
        .collect();
    NaiveFrontend {
        service: service.name.clone(),
        kind,
        pod,
        host,
        outside,
        affinity: (spec.session_affinity.as_deref() == Some("ClientIP")).then_some(10_800),
        ranges: (kind == FrontendKind::LoadBalancer && (broken || !ranges.is_empty()))
            .then_some(ranges),
    }
}

/// What topology prefers of the ready endpoints; `None` if it has no say.
fn nearest(
    ready: &[&Found<'_>],
    distribution: Option<&str>,
    node: &str,
    zone: Option<&str>,
) -> Option<Vec<BackendKey>> {
    let zones = |one: &Found<'_>| -> Vec<String> {
        let hints = one.endpoint.hints.iter().flat_map(|hints| &hints.for_zones);
        hints.map(|hint| hint.name.clone()).collect()
    };
    let nodes = |one: &Found<'_>| -> Vec<String> {
        let hints = one.endpoint.hints.iter().flat_map(|hints| &hints.for_nodes);
        hints.map(|hint| hint.name.clone()).collect()
    };
    let keys = |chosen: Vec<&&Found<'_>>| -> Option<Vec<BackendKey>> {
        (!chosen.is_empty()).then(|| chosen.into_iter().map(|one| one.key).collect())
    };
    let hinted = ready
        .iter()
        .any(|one| !zones(one).is_empty() || !nodes(one).is_empty());
    if hinted {
        let for_node = || {
            ready
                .iter()
                .filter(|one| nodes(one).iter().any(|n| n == node))
                .collect()
        };
        let for_zone = || {
            ready
                .iter()
                .filter(|one| zones(one).iter().any(|z| Some(z.as_str()) == zone))
                .collect()
        };
        let all_nodes = ready.iter().all(|one| !nodes(one).is_empty());
        let all_zones = ready.iter().all(|one| !zones(one).is_empty());
        return all_nodes
            .then(|| keys(for_node()))
            .flatten()
            .or_else(|| all_zones.then(|| keys(for_zone())).flatten());
    }
    let distribution = distribution?;
    if distribution == "PreferSameNode" {
        let here = keys(ready.iter().filter(|one| one.local).collect());
        if here.is_some() {
            return here;
        }
    }
    if ready.iter().any(|one| one.endpoint.zone.is_none()) || zone.is_none() {
        return None;
    }
    keys(
        ready
            .iter()
            .filter(|one| one.endpoint.zone.as_deref() == zone)
            .collect(),
    )
}
