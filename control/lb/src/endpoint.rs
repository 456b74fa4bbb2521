//! Endpoint slices as far as tables depend on them.

use core::net::IpAddr;
use core::num::NonZeroU16;
use std::sync::Arc;

use causeway_api::endpoint_slice::{self as api, SERVICE_NAME_LABEL};
use causeway_api::service::{HEADLESS_LABEL, PROXY_NAME_LABEL, WEIGHT_ANNOTATION};
use smallvec::SmallVec;

use crate::config::LbConfig;
use crate::names::Names;
use crate::problem::{Findings, ProblemKind};
use crate::service;
use crate::types::{Family, Protocol, host_address};

/// An endpoint slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) family: Family,
    pub(crate) ports: SmallVec<[SlicePort; 1]>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Weight of its endpoints.
    pub(crate) weight: Option<u16>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlicePort {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) port: NonZeroU16,
}

/// One address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) addr: IpAddr,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) zone: Option<Arc<str>>,
    pub(crate) hints: Option<Box<Hints>>,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) zones: Vec<Arc<str>>,
    pub(crate) nodes: Vec<Arc<str>>,
}

/// The service of a slice; `None` for one that is none of our business.
pub(crate) fn service_name<'a>(
    object: &'a api::EndpointSlice,
    config: &LbConfig,
) -> Option<&'a str> {
    let labels = &object.metadata.labels;
    let other_proxy = labels
        .get(PROXY_NAME_LABEL)
        .is_some_and(|name| Some(name) != config.proxy_name.as_ref());
    if other_proxy || labels.contains_key(HEADLESS_LABEL) {
        return None;
    }
    Some(labels.get(SERVICE_NAME_LABEL)?.as_str()).filter(|name| !name.is_empty())
}

impl Slice {
    /// Reads an object; what is wrong in it is told to `findings` and left out. `None` if nothing of it can be used.
    pub(crate) fn parse(
        object: &api::EndpointSlice,
        config: &LbConfig,
        names: &mut Names,
        findings: &mut Findings,
    ) -> Option<Self> {
        let family = Family::ALL
            .into_iter()
            .find(|family| family.name() == object.address_type);
        let Some(family) = family else {
            let text = format!(
                "`{}` can't be balanced; the slice is left out, write IPv4 or IPv6",
                object.address_type
            );
            findings.push(ProblemKind::BadValue, "addressType", text);
            return None;
        };
        let mut slice = Self {
            family,
            ports: ports(object, config, names, findings),
            endpoints: Vec::new(),
            weight: None,
        };
        if let Some(text) = object.metadata.annotations.get(WEIGHT_ANNOTATION) {
            slice.weight = service::weight(text);
            if slice.weight.is_none() {
                service::bad_weight(text, findings);
            }
        }
        let most = config.limits.endpoints_per_slice;
        if object.endpoints.len() > most {
            let text = format!(
                "{} endpoints are left out: a slice has at most {most}",
                object.endpoints.len() - most
            );
            findings.push(ProblemKind::Limit, "endpoints", text);
        }
        for (n, endpoint) in object.endpoints.iter().take(most).enumerate() {
            slice.take(n, endpoint, names, findings);
        }
        slice.endpoints.shrink_to_fit();
        Some(slice)
    }

    fn take(
        &mut self,
        n: usize,
        endpoint: &api::Endpoint,
        names: &mut Names,
        findings: &mut Findings,
    ) {
        // Kubernetes allows a hundred; all are equally good.
        const MOST: usize = 100;
        let ready = endpoint.conditions.ready.unwrap_or(true);
        for (at, text) in endpoint.addresses.iter().enumerate() {
            let field = || format!("endpoints[{n}].addresses[{at}]");
            if at == MOST {
                let text = format!(
                    "this address and those behind it are left out: an endpoint has at most {MOST}"
                );
                findings.push(ProblemKind::Limit, field(), text);
                break;
            }
            let Some(addr) = host_address(text) else {
                let text =
                    format!("`{text}` is no address of an endpoint; it is left out, correct it");
                findings.push(ProblemKind::BadAddress, field(), text);
                continue;
            };
            if Family::of(addr) != self.family {
                let text = format!(
                    "{addr} is left out: the slice's addressType is {}; put it in a slice of its own family",
                    self.family
                );
                findings.push(ProblemKind::WrongFamily, field(), text);
                continue;
            }
            let mut name = |text: &Option<String>| {
                text.as_deref()
                    .filter(|text| !text.is_empty())
                    .map(|text| names.intern(text))
            };
            self.endpoints.push(Endpoint {
                addr,
                ready,
                serving: endpoint.conditions.serving.unwrap_or(ready),
                terminating: endpoint.conditions.terminating.unwrap_or(false),
                node: name(&endpoint.node_name),
                zone: name(&endpoint.zone),
                hints: endpoint
                    .hints
                    .as_ref()
                    .and_then(|hints| Hints::parse(hints, names)),
            });
        }
    }
}

impl Hints {
    fn parse(hints: &api::EndpointHints, names: &mut Names) -> Option<Box<Self>> {
        // Kubernetes allows eight of either.
        const MOST: usize = 8;
        let mut list = |of: &[api::ForName]| {
            of.iter()
                .take(MOST)
                .map(|hint| names.intern(&hint.name))
                .collect()
        };
        let hints = Self {
            zones: list(&hints.for_zones),
            nodes: list(&hints.for_nodes),
        };
        (!hints.zones.is_empty() || !hints.nodes.is_empty()).then(|| Box::new(hints))
    }
}

fn ports(
    object: &api::EndpointSlice,
    config: &LbConfig,
    names: &mut Names,
    findings: &mut Findings,
) -> SmallVec<[SlicePort; 1]> {
    let most = config.limits.ports_per_object;
    if object.ports.len() > most {
        let text = format!(
            "{} ports are left out: a slice has at most {most} here",
            object.ports.len() - most
        );
        findings.push(ProblemKind::Limit, "ports", text);
    }
    let mut ports: SmallVec<[SlicePort; 1]> = SmallVec::new();
    for (n, wanted) in object.ports.iter().take(most).enumerate() {
        let field = format!("ports[{n}]");
        let Some(protocol) = service::protocol(&field, wanted.protocol.as_deref(), findings) else {
            continue;
        };
        // No number means every port: of use to policies, not to a service.
        let Some(number) = wanted.port else {
            continue;
        };
        let Some(port) = service::port(
            &format!("{field}.port"),
            number,
            "the port is left out",
            findings,
        ) else {
            continue;
        };
        let name = names.intern(wanted.name.as_deref().unwrap_or_default());
        let twice = ports
            .iter()
            .any(|other| other.name == name && other.protocol == protocol);
        if twice {
            let text =
                format!("{protocol} port `{name}` is left out: an earlier port has its name");
            findings.push(ProblemKind::DuplicatePort, field, text);
            continue;
        }
        ports.push(SlicePort {
            name,
            protocol,
            port,
        });
    }
    ports
}
