//! How long tables take: the first full list, and one slice among all of them. Run with `--release`.
//!
//! `cargo run --release -p causeway-lb --example service_load -- [SERVICES] [ENDPOINTS]`

use std::time::Instant;

use causeway_api::endpoint_slice::{Endpoint, EndpointPort, EndpointSlice};
use causeway_api::meta::KubeMeta;
use causeway_api::service::{Service, ServicePort};
use causeway_lb::{Delta, Lb, LbConfig};

/// Services computed between two deltas.
const QUANTUM: usize = 256;
const CHANGES: usize = 10_000;

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let services = numbers.next().unwrap_or(10_000);
    let endpoints = numbers.next().unwrap_or(10);
    let objects: Vec<_> = (0..services)
        .map(|n| (service(n), slice(n, endpoints, 0)))
        .collect();
    let before = resident_kib();
    let mut lb = Lb::new(LbConfig::new("node-a"));
    let start = Instant::now();
    for (service, slice) in &objects {
        lb.apply_service(service);
        lb.apply_slice(slice);
    }
    let applied = start.elapsed();
    let (mut changes, mut slots, mut longest) = (0, 0, 0);
    loop {
        let start = Instant::now();
        let Some(delta) = poll(&mut lb, QUANTUM) else {
            break;
        };
        longest = longest.max(start.elapsed().as_micros());
        changes += delta.len();
        slots += ring_slots(&delta);
    }
    let full = start.elapsed();
    println!("{services} services x {endpoints} endpoints");
    println!(
        "full list: {:.3} s ({:.3} s to read), {changes} changes, {slots} ring slots, longest delta {:.2} ms",
        full.as_secs_f64(),
        applied.as_secs_f64(),
        longest as f64 / 1e3
    );
    if let (Some(before), Some(after)) = (before, resident_kib()) {
        println!(
            "resident: {:.1} MiB for the tables",
            (after - before) as f64 / 1024.0
        );
    }
    let mut took: Vec<_> = (0..CHANGES)
        .map(|round| {
            let n = round * 7919 % services;
            let slice = slice(n, endpoints, round % 2 + 1);
            let start = Instant::now();
            lb.apply_slice(&slice);
            while poll(&mut lb, QUANTUM).is_some() {}
            start.elapsed()
        })
        .collect();
    took.sort();
    println!(
        "one slice: median {:.1} us, p99 {:.1} us, worst {:.1} us",
        took[CHANGES / 2].as_secs_f64() * 1e6,
        took[CHANGES * 99 / 100].as_secs_f64() * 1e6,
        took[CHANGES - 1].as_secs_f64() * 1e6
    );
}

fn poll(lb: &mut Lb, most: usize) -> Option<Delta> {
    let delta = lb.poll_delta(most)?;
    lb.programmed(delta.revision);
    while lb.poll_announcement().is_some() {}
    Some(delta)
}

fn ring_slots(delta: &Delta) -> usize {
    let rings = delta.rings.iter().filter_map(|(_, ring)| ring.as_ref());
    rings.map(|ring| ring.slots().len()).sum()
}

fn service(n: usize) -> Service {
    let mut service = Service {
        metadata: meta(format!("service-{n}")),
        ..Service::default()
    };
    service.spec.cluster_ip = Some(format!(
        "10.{}.{}.{}",
        96 + (n >> 16),
        n >> 8 & 255,
        n & 255
    ));
    service.spec.ports = vec![ServicePort {
        name: Some("http".to_owned()),
        port: 80,
        ..ServicePort::default()
    }];
    service
}

/// The endpoints of a service; `turn` exchanges the first one.
fn slice(n: usize, endpoints: usize, turn: usize) -> EndpointSlice {
    let mut slice = EndpointSlice {
        metadata: meta(format!("service-{n}-x")),
        address_type: "IPv4".to_owned(),
        ..EndpointSlice::default()
    };
    let label = "kubernetes.io/service-name".to_owned();
    slice.metadata.labels.insert(label, format!("service-{n}"));
    slice.ports = vec![EndpointPort {
        name: Some("http".to_owned()),
        port: Some(8080),
        ..EndpointPort::default()
    }];
    slice.endpoints = (0..endpoints)
        .map(|at| {
            let number = n * endpoints + at;
            let first = if at == 0 { 20 + turn } else { 20 };
            Endpoint {
                addresses: vec![format!(
                    "{first}.{}.{}.{}",
                    number >> 16,
                    number >> 8 & 255,
                    number & 255
                )],
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

/// Memory of this process, where the system tells it.
fn resident_kib() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
