//! The stages of the service tables, from objects to entries of maps.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;

use causeway_api::endpoint_slice::{Endpoint, EndpointPort, EndpointSlice};
use causeway_api::meta::KubeMeta;
use causeway_api::service::{Service, ServicePort};
use causeway_lb::{Lb, LbConfig};
use causeway_plan::Services;
use foldhash::fast::FixedState;

use super::timed;

const FULL_SERVICES: usize = 10_000;
const QUICK_SERVICES: usize = 1_000;
const ENDPOINTS: usize = 10;
const CHANGES: usize = 1_000;
/// Services of one delta, as the daemon asks for them.
const QUANTUM: usize = 256;
const RING: usize = 1_021;

/// Objects of a cluster, and the slices that change one by one afterwards.
pub(super) struct Cluster {
    objects: Vec<(Service, EndpointSlice)>,
    changes: Vec<EndpointSlice>,
}

impl Cluster {
    pub(super) fn new(quick: bool) -> Self {
        let services = if quick { QUICK_SERVICES } else { FULL_SERVICES };
        Self {
            objects: (0..services).map(|n| (service(n), slice(n, 20))).collect(),
            changes: (0..CHANGES)
                .map(|round| slice(round * 7919 % services, 21 + round % 2))
                .collect(),
        }
    }

    /// Case, metric, nanoseconds.
    pub(super) fn ours(&self) -> Vec<(&'static str, &'static str, f64)> {
        let mut lb = Lb::new(LbConfig::new("node-1"));
        let mut maps = Services::default();
        let (full, ()) = timed(|| {
            for (service, slice) in &self.objects {
                lb.apply_service(service);
                lb.apply_slice(slice);
            }
            write(&mut lb, &mut maps);
        });
        let (change, ()) = timed(|| {
            for slice in &self.changes {
                lb.apply_slice(slice);
                write(&mut lb, &mut maps);
            }
        });
        let services = self.objects.len() as f64;
        vec![
            ("service-tables", "per_service_ns", full / services),
            ("one-slice", "per_change_ns", change / CHANGES as f64),
        ]
    }

    /// The least: addresses read and put into hash maps, and a ring filled by turns.
    pub(super) fn plain(&self) -> Vec<f64> {
        let mut frontends = HashMap::with_hasher(FixedState::default());
        let mut backends = HashMap::with_hasher(FixedState::default());
        let mut take = |slice: &EndpointSlice, number: usize| {
            let mut members = Vec::with_capacity(ENDPOINTS);
            for address in slice.endpoints.iter().flat_map(|one| &one.addresses) {
                if let Ok(addr) = address.parse::<IpAddr>() {
                    backends.insert((addr, 8080u16), number);
                    members.push(addr);
                }
            }
            let ring: Vec<u16> = (0..RING).map(|n| (n % members.len()) as u16).collect();
            black_box(ring);
        };
        let (full, ()) = timed(|| {
            for (number, (service, slice)) in self.objects.iter().enumerate() {
                let address = service.spec.cluster_ip.as_deref().unwrap_or_default();
                if let Ok(addr) = address.parse::<IpAddr>() {
                    frontends.insert((addr, 80u16), number);
                }
                take(slice, number);
            }
        });
        let (change, ()) = timed(|| {
            for (number, slice) in self.changes.iter().enumerate() {
                take(slice, number);
            }
        });
        black_box(frontends);
        vec![full / self.objects.len() as f64, change / CHANGES as f64]
    }
}

/// Takes all writes as if they were carried out.
fn write(lb: &mut Lb, maps: &mut Services) {
    while let Some(delta) = lb.poll_delta(QUANTUM) {
        let batch = maps.apply(&delta);
        lb.programmed(batch.revision);
        black_box(batch);
    }
    while lb.poll_announcement().is_some() {}
}

fn service(n: usize) -> Service {
    let mut service = Service {
        metadata: meta(format!("service-{n}")),
        ..Service::default()
    };
    service.spec.cluster_ip = Some(format!("10.96.{}.{}", n >> 8, n & 255));
    service.spec.ports = vec![ServicePort {
        port: 80,
        ..ServicePort::default()
    }];
    service
}

/// The endpoints of a service, of which the first has an address that begins so.
fn slice(n: usize, first: usize) -> EndpointSlice {
    let mut slice = EndpointSlice {
        metadata: meta(format!("service-{n}-x")),
        address_type: "IPv4".to_owned(),
        ..EndpointSlice::default()
    };
    let label = "kubernetes.io/service-name".to_owned();
    slice.metadata.labels.insert(label, format!("service-{n}"));
    slice.ports = vec![EndpointPort {
        port: Some(8080),
        ..EndpointPort::default()
    }];
    slice.endpoints = (0..ENDPOINTS)
        .map(|at| {
            let number = n * ENDPOINTS + at;
            let first = if at == 0 { first } else { 20 };
            let rest = (number >> 16, number >> 8 & 255, number & 255);
            Endpoint {
                addresses: vec![format!("{first}.{}.{}.{}", rest.0, rest.1, rest.2)],
                node_name: Some(format!("node-{}", number % 100)),
                ..Endpoint::default()
            }
        })
        .collect();
    slice
}

fn meta(name: String) -> KubeMeta {
    KubeMeta {
        name,
        namespace: Some("default".to_owned()),
        ..KubeMeta::default()
    }
}
