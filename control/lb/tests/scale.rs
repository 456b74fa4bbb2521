//! Many services, and large ones.

use causeway_api::endpoint_slice::{Endpoint, EndpointPort, EndpointSlice};
use causeway_api::meta::KubeMeta;
use causeway_api::service::{Service, ServicePort};
use causeway_lb::{Lb, LbConfig, Limits, PoolId, ProblemKind, Scope, ServiceId, Tables};

fn meta(name: &str) -> KubeMeta {
    KubeMeta {
        name: name.to_owned(),
        ..KubeMeta::default()
    }
}

fn service(n: usize) -> Service {
    let mut service = Service {
        metadata: meta(&format!("s{n}")),
        ..Service::default()
    };
    service.spec.cluster_ip = Some(format!("10.96.{}.{}", n / 250, n % 250 + 1));
    service.spec.ports = vec![ServicePort {
        port: 80,
        ..ServicePort::default()
    }];
    service
}

/// A slice of service `n` with this many endpoints, the first of them with this number.
fn slice(n: usize, first: usize, count: usize) -> EndpointSlice {
    let mut slice = EndpointSlice {
        metadata: meta(&format!("s{n}-{}", first / 10_000)),
        address_type: "IPv4".to_owned(),
        ..EndpointSlice::default()
    };
    let label = "kubernetes.io/service-name".to_owned();
    slice.metadata.labels.insert(label, format!("s{n}"));
    slice.ports = vec![EndpointPort {
        port: Some(8080),
        ..EndpointPort::default()
    }];
    slice.endpoints = (first..first + count)
        .map(|n| Endpoint {
            addresses: vec![format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)],
            ..Endpoint::default()
        })
        .collect();
    slice
}

fn poll(lb: &mut Lb, tables: &mut Tables, most: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(delta) = lb.poll_delta(most) {
        tables.apply(&delta);
        sizes.push(delta.len());
        lb.programmed(delta.revision);
    }
    assert_eq!(tables.inconsistencies(), [""; 0]);
    sizes
}

#[test]
fn a_change_of_one_slice_among_many_touches_one_service() {
    let mut lb = Lb::new(LbConfig::new("node-a"));
    let mut tables = Tables::default();
    for n in 0..300 {
        lb.apply_service(&service(n));
        lb.apply_slice(&slice(n, n * 10, 10));
    }
    assert_eq!(lb.summary().pending, 300);
    let sizes = poll(&mut lb, &mut tables, 100);
    assert_eq!(sizes.len(), 3, "a hundred services at a time");
    assert_eq!(tables.backends.len(), 3000);
    lb.apply_slice(&slice(7, 70, 9));
    assert_eq!(lb.summary().pending, 1);
    // One backend, one seat, one pool (it has fewer seats), one ring.
    assert_eq!(poll(&mut lb, &mut tables, 100), [4]);
    // The same once more changes nothing.
    lb.apply_slice(&slice(7, 70, 9));
    lb.apply_service(&service(7));
    assert_eq!(lb.summary().pending, 0);
    assert_eq!(poll(&mut lb, &mut tables, 100), [0; 0]);
}

#[test]
fn a_thousand_endpoints_in_one_slice_are_all_served() {
    let mut lb = Lb::new(LbConfig::new("node-a"));
    let mut tables = Tables::default();
    lb.apply_service(&service(0));
    lb.apply_slice(&slice(0, 0, 999));
    poll(&mut lb, &mut tables, usize::MAX);
    // 10.0.0.0 is an address like others.
    let pool = *tables.pools.keys().next().unwrap();
    assert_eq!(tables.shares(pool, Scope::Cluster).len(), 999);
    assert_eq!(tables.rings[&(pool, Scope::Cluster)].slots().len(), 65_521);
    assert_eq!(lb.poll_problem(), None);
    // One more endpoint takes one more seat, and the others keep theirs.
    let before = tables.seats.clone();
    lb.apply_slice(&slice(0, 0, 1000));
    poll(&mut lb, &mut tables, usize::MAX);
    assert_eq!(tables.seats.len(), 1000);
    assert!(before.iter().all(|(key, seat)| tables.seats[key] == *seat));
}

#[test]
fn what_exceeds_a_slice_or_a_table_is_left_out_and_told_once() {
    let mut config = LbConfig::new("node-a");
    config.limits = Limits {
        services: 2,
        slices: 3,
        endpoints: 1500,
        ..Limits::default()
    };
    let mut lb = Lb::new(config);
    let mut tables = Tables::default();
    lb.apply_service(&service(0));
    lb.apply_service(&service(1));
    lb.apply_service(&service(2));
    lb.apply_slice(&slice(0, 0, 1200));
    lb.apply_slice(&slice(0, 10_000, 600));
    lb.apply_slice(&slice(1, 20_000, 1));
    lb.apply_slice(&slice(1, 30_000, 1));
    lb.apply_slice(&slice(1, 40_000, 1));
    lb.apply_slice(&slice(1, 40_000, 1));
    poll(&mut lb, &mut tables, usize::MAX);
    let mut told = Vec::new();
    while let Some(report) = lb.poll_problem() {
        assert_eq!(report.problem.kind, ProblemKind::Limit, "{report}");
        told.push(report.object.to_string());
    }
    let expected = [
        "Service default/s2",
        "EndpointSlice default/s0-0",
        "EndpointSlice default/s0-1",
        "EndpointSlice default/s1-4",
    ];
    assert_eq!(told, expected);
    assert_eq!(tables.backends.len(), 1002);
    let counted: u64 = lb.problem_counts().map(|(_, count)| count).sum();
    assert_eq!(counted, 4);
}

#[test]
fn nothing_is_left_when_everything_is_removed() {
    let mut lb = Lb::new(LbConfig::new("node-a"));
    let mut tables = Tables::default();
    for n in 0..20 {
        lb.apply_service(&service(n));
        lb.apply_slice(&slice(n, n * 10, 10));
    }
    poll(&mut lb, &mut tables, usize::MAX);
    assert_eq!(lb.summary().frontends, 20);
    for n in 0..20 {
        lb.remove_service("default", &format!("s{n}"));
        lb.remove_slice("default", &format!("s{n}-0"));
    }
    poll(&mut lb, &mut tables, usize::MAX);
    assert_eq!(tables, Tables::default());
    assert_eq!(lb.summary(), causeway_lb::Summary::default());
    while let Some(change) = lb.poll_announcement() {
        assert_eq!(change.announcement, None);
    }
}

#[test]
fn services_that_change_nothing_do_not_hide_the_ones_behind_them() {
    let mut lb = Lb::new(LbConfig::new("node-a"));
    let mut tables = Tables::default();
    for n in 0..3 {
        let mut headless = service(n);
        headless.spec.cluster_ip = Some("None".to_owned());
        lb.apply_service(&headless);
    }
    lb.apply_service(&service(3));
    poll(&mut lb, &mut tables, 1);
    assert_eq!(tables.frontends.len(), 1);
}

#[test]
fn a_service_that_finds_no_number_takes_none_of_its_parts_along() {
    let mut config = LbConfig::new("node-a");
    config.limits = Limits {
        services: 1,
        pools: 2,
        ..Limits::default()
    };
    let mut lb = Lb::new(config);
    let mut tables = Tables::default();
    // The maps still hold the only number for a service of before the restart.
    lb.restore_pool(1, PoolId(1), ServiceId(1));
    let mut two_ports = service(0);
    two_ports.spec.ports.push(ServicePort {
        name: Some("other".to_owned()),
        port: 81,
        ..ServicePort::default()
    });
    lb.apply_service(&two_ports);
    poll(&mut lb, &mut tables, usize::MAX);
    assert_eq!(tables.pools.len(), 0);
    lb.end_restore();
    poll(&mut lb, &mut tables, usize::MAX);
    assert_eq!(tables.pools.len(), 2);
}
