//! A service as far as tables depend on it: parsed once, so that it can't hold a bad value.

use core::net::IpAddr;
use core::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use causeway_api::cidr::Cidr;
use causeway_api::service::{
    self as api, HEADLESS_LABEL, NO_CLUSTER_IP, PROXY_NAME_LABEL, SOURCE_RANGES_POLICY_ANNOTATION,
    WEIGHT_ANNOTATION,
};
use smallvec::SmallVec;

use crate::config::LbConfig;
use crate::limits::{
    DEFAULT_AFFINITY_SECONDS, DEFAULT_WEIGHT, Limits, MAX_AFFINITY_SECONDS, MAX_WEIGHT,
};
use crate::names::Names;
use crate::problem::{Findings, ProblemKind};
use crate::types::{Family, Protocol, host_address};

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Older services win conflicts; RFC 3339 texts in UTC sort by time.
    pub(crate) created: Option<Box<str>>,
    /// Why it is none of our business, if so; then nothing below is filled in.
    pub(crate) hands_off: Option<HandsOff>,
    pub(crate) families: SmallVec<[Family; 2]>,
    pub(crate) cluster_ips: SmallVec<[IpAddr; 2]>,
    pub(crate) external_ips: Vec<IpAddr>,
    pub(crate) load_balancer_ips: Vec<IpAddr>,
    pub(crate) ports: SmallVec<[ServicePort; 1]>,
    pub(crate) internal_policy: TrafficPolicy,
    pub(crate) external_policy: TrafficPolicy,
    pub(crate) distribution: Option<Distribution>,
    pub(crate) publish_not_ready: bool,
    /// Seconds.
    pub(crate) affinity: Option<NonZeroU32>,
    pub(crate) source_ranges: Option<Box<SourceRanges>>,
    /// Whether a node whose traffic policy lets it may announce the load-balancer addresses.
    pub(crate) our_class: bool,
    pub(crate) health_check_node_port: Option<NonZeroU16>,
    pub(crate) weights: Option<Box<Weights>>,
}

/// Why a service is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandsOff {
    /// `type: ExternalName`: a name, nothing to balance.
    ExternalName,
    /// `clusterIP: None`.
    Headless,
    /// The label `service.kubernetes.io/headless`.
    HeadlessLabel,
    /// The label `service.kubernetes.io/service-proxy-name` names another proxy.
    OtherProxy,
}

impl HandsOff {
    /// One sentence.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::ExternalName => "type ExternalName is a name, there is nothing to balance",
            Self::Headless => "clusterIP None: clients find the endpoints by DNS",
            Self::HeadlessLabel => "the label service.kubernetes.io/headless keeps proxies off",
            Self::OtherProxy => {
                "the label service.kubernetes.io/service-proxy-name gives it to another proxy"
            }
        }
    }
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicePort {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) port: NonZeroU16,
    pub(crate) node_port: Option<NonZeroU16>,
}

/// Which endpoints may get traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Those on this node.
    Local,
}

/// Which endpoints are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// `PreferSameZone`, `PreferClose`.
    SameZone,
    /// `PreferSameNode`, then those of the zone.
    SameNode,
}

/// Who may use the load-balancer addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRanges {
    /// What a match means.
    pub policy: RangesPolicy,
    /// Prefixes, sorted, without duplicates.
    pub prefixes: Vec<Cidr>,
    /// Something was written that is no prefix: with no other prefix left, nobody is let in.
    pub(crate) broken: bool,
}

/// What it means that a source is in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RangesPolicy {
    /// Only these are let in.
    #[default]
    Allow,
    /// Only these are kept out.
    Deny,
}

/// Weights of endpoints as the service's annotation has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) default: Option<u16>,
    /// Sorted by address.
    by_address: Vec<(IpAddr, u16)>,
}

impl Service {
    /// Reads an object; what is wrong in it is told to `findings` and left out.
    pub(crate) fn parse(
        object: &api::Service,
        config: &LbConfig,
        names: &mut Names,
        findings: &mut Findings,
    ) -> Self {
        let (meta, spec) = (&object.metadata, &object.spec);
        let mut service = Self::untouched(meta.creation_timestamp.as_deref());
        let kind = spec.service_type.as_deref().unwrap_or("ClusterIP");
        service.hands_off = hands_off(object, config);
        if service.hands_off.is_some() {
            return service;
        }
        let (node_ports, load_balancer) = match kind {
            "ClusterIP" => (false, false),
            "NodePort" => (true, false),
            "LoadBalancer" => (true, true),
            _ => {
                unknown(
                    findings,
                    "spec.type",
                    kind,
                    "ClusterIP, NodePort, LoadBalancer or ExternalName",
                );
                (false, false)
            }
        };
        service.addresses(object, load_balancer, config, findings);
        service.ports(spec, node_ports, config, names, findings);
        let accessible = node_ports || !service.external_ips.is_empty();
        let policies = [
            (
                "spec.internalTrafficPolicy",
                &spec.internal_traffic_policy,
                true,
            ),
            (
                "spec.externalTrafficPolicy",
                &spec.external_traffic_policy,
                accessible,
            ),
        ]
        .map(|(field, value, applies)| {
            let policy = traffic_policy(field, value.as_deref(), findings);
            if applies {
                policy
            } else {
                TrafficPolicy::Cluster
            }
        });
        [service.internal_policy, service.external_policy] = policies;
        service.distribution = match spec.traffic_distribution.as_deref() {
            None | Some("") => None,
            Some("PreferSameZone" | "PreferClose") => Some(Distribution::SameZone),
            Some("PreferSameNode") => Some(Distribution::SameNode),
            Some(other) => {
                let known = "PreferSameZone, PreferSameNode or PreferClose";
                unknown(findings, "spec.trafficDistribution", other, known);
                None
            }
        };
        service.publish_not_ready = spec.publish_not_ready_addresses;
        service.affinity = affinity(spec, findings);
        if load_balancer {
            let policy = meta.annotations.get(SOURCE_RANGES_POLICY_ANNOTATION);
            service.source_ranges = source_ranges(spec, policy, &config.limits, findings);
            service.our_class = match spec.load_balancer_class.as_deref() {
                None | Some("") => config.announce_without_class,
                Some(class) => class == config.load_balancer_class,
            };
            if service.external_policy == TrafficPolicy::Local && spec.health_check_node_port != 0 {
                service.health_check_node_port = port(
                    "spec.healthCheckNodePort",
                    spec.health_check_node_port,
                    "there is no health check",
                    findings,
                );
            }
        }
        service.weights = meta
            .annotations
            .get(WEIGHT_ANNOTATION)
            .and_then(|text| weights(text, findings))
            .map(Box::new);
        service
    }

    fn untouched(created: Option<&str>) -> Self {
        Self {
            created: created.map(Into::into),
            hands_off: None,
            families: SmallVec::new(),
            cluster_ips: SmallVec::new(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            ports: SmallVec::new(),
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            distribution: None,
            publish_not_ready: false,
            affinity: None,
            source_ranges: None,
            our_class: false,
            health_check_node_port: None,
            weights: None,
        }
    }

    /// The weight that the service gives to an endpoint.
    pub(crate) fn weight(&self, addr: IpAddr, of_slice: Option<u16>) -> u16 {
        let of_service = self.weights.as_deref();
        of_service
            .and_then(|weights| {
                let at = weights
                    .by_address
                    .binary_search_by(|(other, _)| other.cmp(&addr));
                Some(weights.by_address[at.ok()?].1)
            })
            .or(of_slice)
            .or_else(|| of_service?.default)
            .unwrap_or(DEFAULT_WEIGHT)
    }

    /// Whether anybody outside can reach it, by whatever address.
    pub(crate) fn externally_accessible(&self) -> bool {
        !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
            || self.ports.iter().any(|port| port.node_port.is_some())
    }

    /// The ranges that hold for load-balancer addresses of a family. Ranges of the other family don't count; if nothing
    /// readable is left of what was written, nobody is let in.
    pub(crate) fn source_ranges(&self, family: Family) -> Option<SourceRanges> {
        let all = self.source_ranges.as_deref()?;
        let prefixes: Vec<_> = all
            .prefixes
            .iter()
            .copied()
            .filter(|prefix| Family::of(prefix.addr()) == family)
            .collect();
        // With nothing readable left, `deny` would let in whom the unreadable text meant to keep out.
        let policy = if prefixes.is_empty() {
            RangesPolicy::Allow
        } else {
            all.policy
        };
        (!prefixes.is_empty() || all.broken).then_some(SourceRanges {
            policy,
            prefixes,
            broken: all.broken,
        })
    }

    fn addresses(
        &mut self,
        object: &api::Service,
        load_balancer: bool,
        config: &LbConfig,
        findings: &mut Findings,
    ) {
        let spec = &object.spec;
        let mut left = config.limits.addresses_per_service;
        let mut address = |field: String, text: &str, findings: &mut Findings| {
            if left == 0 {
                let text = format!(
                    "is left out: a service has at most {} addresses here",
                    config.limits.addresses_per_service
                );
                findings.push(ProblemKind::Limit, field, text);
                return None;
            }
            let addr = host_address(text);
            match addr {
                Some(_) => left -= 1,
                None => {
                    let text =
                        format!("`{text}` is no address of a host; it is left out, correct it");
                    findings.push(ProblemKind::BadAddress, field, text);
                }
            }
            addr
        };
        let cluster: &[String] = match (&spec.cluster_ips[..], &spec.cluster_ip) {
            ([], Some(only)) => core::slice::from_ref(only),
            (all, _) => all,
        };
        for (n, text) in cluster.iter().enumerate().filter(|(_, ip)| !ip.is_empty()) {
            self.cluster_ips
                .extend(address(format!("spec.clusterIPs[{n}]"), text, findings));
        }
        for (n, text) in spec.external_ips.iter().enumerate() {
            let field = format!("spec.externalIPs[{n}]");
            let Some(addr) = address(field.clone(), text, findings) else {
                continue;
            };
            let admitted = config
                .external_ip_ranges
                .as_ref()
                .is_none_or(|ranges| ranges.iter().any(|range| range.0.contains(addr)));
            if admitted {
                self.external_ips.push(addr);
            } else {
                let text = format!(
                    "{addr} is outside the ranges that the configuration admits; it is left out"
                );
                findings.push(ProblemKind::NotAdmitted, field, text);
            }
        }
        let ingress = object
            .status
            .iter()
            .filter(|_| load_balancer)
            .filter_map(|status| status.load_balancer.as_ref())
            .flat_map(|status| status.ingress.iter().enumerate());
        for (n, ingress) in ingress {
            let field = format!("status.loadBalancer.ingress[{n}]");
            match ingress.ip_mode.as_deref() {
                None | Some("" | "VIP") => {}
                // Packets come with a node's address as destination: node ports serve them.
                Some("Proxy") => continue,
                Some(other) => {
                    unknown(findings, &format!("{field}.ipMode"), other, "VIP or Proxy");
                    continue;
                }
            }
            // Without an address it has a host name: nothing of ours.
            let Some(text) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) else {
                continue;
            };
            self.load_balancer_ips
                .extend(address(format!("{field}.ip"), text, findings));
        }
        self.families = families(spec, self, findings);
        let families = &self.families;
        let mut of_family = |field: &str, addrs: &mut dyn Iterator<Item = IpAddr>| -> Vec<IpAddr> {
            let mut kept: Vec<IpAddr> = Vec::new();
            for addr in addrs {
                if !families.contains(&Family::of(addr)) {
                    let text = format!(
                        "{addr} is left out: the service has no {}; see spec.ipFamilies",
                        Family::of(addr)
                    );
                    findings.push(ProblemKind::WrongFamily, field, text);
                } else if !kept.contains(&addr) {
                    kept.push(addr);
                }
            }
            kept
        };
        let cluster_ips = of_family("spec.clusterIPs", &mut self.cluster_ips.iter().copied());
        let external_ips = of_family("spec.externalIPs", &mut self.external_ips.iter().copied());
        let load_balancer_ips = of_family(
            "status.loadBalancer.ingress",
            &mut self.load_balancer_ips.iter().copied(),
        );
        self.cluster_ips = cluster_ips.into();
        self.external_ips = external_ips;
        self.load_balancer_ips = load_balancer_ips;
    }

    fn ports(
        &mut self,
        spec: &api::ServiceSpec,
        node_ports: bool,
        config: &LbConfig,
        names: &mut Names,
        findings: &mut Findings,
    ) {
        let most = config.limits.ports_per_object;
        if spec.ports.len() > most {
            let text = format!(
                "{} ports are left out: a service has at most {most} here",
                spec.ports.len() - most
            );
            findings.push(ProblemKind::Limit, "spec.ports", text);
        }
        for (n, wanted) in spec.ports.iter().take(most).enumerate() {
            let field = format!("spec.ports[{n}]");
            let Some(protocol) = protocol(&field, wanted.protocol.as_deref(), findings) else {
                continue;
            };
            let Some(number) = port(
                &format!("{field}.port"),
                wanted.port,
                "the port is left out",
                findings,
            ) else {
                continue;
            };
            let name = names.intern(wanted.name.as_deref().unwrap_or_default());
            let twice = self.ports.iter().any(|other| {
                other.protocol == protocol && (other.port == number || other.name == name)
            });
            if twice {
                let text = format!(
                    "{protocol} port {number} `{name}` is left out: an earlier port has the same number or name"
                );
                findings.push(ProblemKind::DuplicatePort, field, text);
                continue;
            }
            let mut node_port = if node_ports && wanted.node_port != 0 {
                port(
                    &format!("{field}.nodePort"),
                    wanted.node_port,
                    "there is no node port",
                    findings,
                )
            } else {
                None
            };
            let taken =
                |other: &&ServicePort| other.protocol == protocol && other.node_port == node_port;
            if node_port.is_some() && self.ports.iter().any(|other| taken(&other)) {
                let text = "is left out: an earlier port of the protocol has it; choose another";
                findings.push(
                    ProblemKind::DuplicatePort,
                    format!("{field}.nodePort"),
                    text,
                );
                node_port = None;
            }
            self.ports.push(ServicePort {
                name,
                protocol,
                port: number,
                node_port,
            });
        }
    }
}

fn hands_off(object: &api::Service, config: &LbConfig) -> Option<HandsOff> {
    let (labels, spec) = (&object.metadata.labels, &object.spec);
    if spec.service_type.as_deref() == Some("ExternalName") {
        return Some(HandsOff::ExternalName);
    }
    if labels.contains_key(HEADLESS_LABEL) {
        return Some(HandsOff::HeadlessLabel);
    }
    if labels
        .get(PROXY_NAME_LABEL)
        .is_some_and(|name| Some(name) != config.proxy_name.as_ref())
    {
        return Some(HandsOff::OtherProxy);
    }
    let first = spec.cluster_ips.first().or(spec.cluster_ip.as_ref());
    (first.is_some_and(|ip| ip == NO_CLUSTER_IP)).then_some(HandsOff::Headless)
}

/// What `ipFamilies` says, else what the cluster addresses are, else what the others are.
fn families(
    spec: &api::ServiceSpec,
    service: &Service,
    findings: &mut Findings,
) -> SmallVec<[Family; 2]> {
    let mut families: SmallVec<[Family; 2]> = SmallVec::new();
    for (n, text) in spec.ip_families.iter().enumerate() {
        match Family::ALL.into_iter().find(|family| family.name() == text) {
            Some(family) => families.push(family),
            None => unknown(
                findings,
                &format!("spec.ipFamilies[{n}]"),
                text,
                "IPv4 or IPv6",
            ),
        }
    }
    if families.is_empty() {
        families.extend(service.cluster_ips.iter().copied().map(Family::of));
    }
    if families.is_empty() {
        families.extend(service.load_balancer_ips.iter().copied().map(Family::of));
        families.extend(service.external_ips.iter().copied().map(Family::of));
    }
    if families.is_empty() {
        families.push(Family::V4);
    }
    families.sort_unstable();
    families.dedup();
    families
}

fn affinity(spec: &api::ServiceSpec, findings: &mut Findings) -> Option<NonZeroU32> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            unknown(findings, "spec.sessionAffinity", other, "None or ClientIP");
            return None;
        }
    }
    let asked = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = asked.map_or(Some(DEFAULT_AFFINITY_SECONDS), |asked| {
        u32::try_from(asked)
            .ok()
            .filter(|seconds| (1..=MAX_AFFINITY_SECONDS).contains(seconds))
    });
    if seconds.is_none() {
        let text = format!(
            "{} is out of range; {DEFAULT_AFFINITY_SECONDS} is used, write 1 to {MAX_AFFINITY_SECONDS}",
            asked.unwrap_or_default()
        );
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        findings.push(ProblemKind::BadValue, field, text);
    }
    NonZeroU32::new(seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS))
}

fn source_ranges(
    spec: &api::ServiceSpec,
    policy: Option<&String>,
    limits: &Limits,
    findings: &mut Findings,
) -> Option<Box<SourceRanges>> {
    const FIELD: &str = "spec.loadBalancerSourceRanges";
    if spec.load_balancer_source_ranges.is_empty() {
        return None;
    }
    let policy = match policy.map(|text| text.trim()) {
        None | Some("allow") => RangesPolicy::Allow,
        Some("deny") => RangesPolicy::Deny,
        Some(other) => {
            let field = format!("metadata.annotations[{SOURCE_RANGES_POLICY_ANNOTATION}]");
            unknown(findings, &field, other, "allow or deny");
            RangesPolicy::Allow
        }
    };
    let mut ranges = SourceRanges {
        policy,
        prefixes: Vec::new(),
        broken: false,
    };
    for (n, text) in spec.load_balancer_source_ranges.iter().enumerate() {
        let field = || format!("{FIELD}[{n}]");
        match text.trim().parse::<Cidr>() {
            Ok(_) if ranges.prefixes.len() == limits.source_ranges_per_service => {
                let text = format!(
                    "this range and those behind it are left out: a service has at most {}",
                    limits.source_ranges_per_service
                );
                findings.push(ProblemKind::Limit, field(), text);
                break;
            }
            Ok(prefix) => ranges.prefixes.push(prefix.network()),
            Err(error) => {
                ranges.broken = true;
                findings.push(ProblemKind::BadRange, field(), error.to_string());
            }
        }
    }
    ranges.prefixes.sort_unstable();
    ranges.prefixes.dedup();
    Some(Box::new(ranges))
}

/// `50`, or `10.0.0.1=0, 10.0.0.2=200`, or both.
fn weights(text: &str, findings: &mut Findings) -> Option<Weights> {
    let mut weights = Weights {
        default: None,
        by_address: Vec::new(),
    };
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (addr, number) = match part.split_once('=') {
            Some((addr, number)) => (Some(addr), number),
            None => (None, part),
        };
        let parsed = (addr.map(host_address), weight(number));
        match parsed {
            (None, Some(number)) => weights.default = Some(number),
            (Some(Some(addr)), Some(number)) => weights.by_address.push((addr, number)),
            _ => bad_weight(part, findings),
        }
    }
    // The last one written of an address counts.
    weights.by_address.reverse();
    weights.by_address.sort_by_key(|(addr, _)| *addr);
    weights.by_address.dedup_by_key(|(addr, _)| *addr);
    (weights.default.is_some() || !weights.by_address.is_empty()).then_some(weights)
}

/// A weight, 0 to [`MAX_WEIGHT`].
pub(crate) fn weight(text: &str) -> Option<u16> {
    let number = text.trim().parse().ok()?;
    (number <= MAX_WEIGHT).then_some(number)
}

/// Tells of a weight that is none.
pub(crate) fn bad_weight(text: &str, findings: &mut Findings) {
    let field = format!("metadata.annotations[{WEIGHT_ANNOTATION}]");
    let text = format!(
        "`{text}` is passed over; write a weight from 0 to {MAX_WEIGHT}, on services also ADDRESS=WEIGHT"
    );
    findings.push(ProblemKind::BadValue, field, text);
}

/// A port number; what is none is told of.
pub(crate) fn port(
    field: &str,
    number: i64,
    consequence: &str,
    findings: &mut Findings,
) -> Option<NonZeroU16> {
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    if port.is_none() {
        let text = format!("{number} is no port; {consequence}, write 1 to 65535");
        findings.push(ProblemKind::BadPort, field, text);
    }
    port
}

/// A protocol, TCP if absent; one that we don't know is told of.
pub(crate) fn protocol(
    field: &str,
    text: Option<&str>,
    findings: &mut Findings,
) -> Option<Protocol> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("TCP");
    let protocol = Protocol::parse(text);
    if protocol.is_none() {
        unknown(
            findings,
            &format!("{field}.protocol"),
            text,
            "TCP, UDP or SCTP",
        );
    }
    protocol
}

fn traffic_policy(field: &str, text: Option<&str>, findings: &mut Findings) -> TrafficPolicy {
    match text {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            unknown(findings, field, other, "Cluster or Local");
            TrafficPolicy::Cluster
        }
    }
}

fn unknown(findings: &mut Findings, field: &str, value: &str, known: &str) {
    let text = format!("`{value}` is unknown and passed over; write {known}");
    findings.push(ProblemKind::BadValue, field, text);
}
