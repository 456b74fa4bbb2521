//! Random histories of services: after every single entry that is written, a packet finds its way; after every delta, the
//! maps say what the tables say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use causeway_api::endpoint_slice::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use causeway_api::meta::KubeMeta;
use causeway_api::service::{
    LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceStatus,
};
use causeway_lb::{
    BackendId, BackendKey, Delta, Family, Frontend, FrontendKey, FrontendKind, Held, Lb, LbConfig,
    Listen, ObjectKey, Pool, PoolId, Protocol, Ring, Route, Routes, Scope, Seat, ServiceId, Tables,
    mapped,
};
use causeway_maps::service::{
    Backend, RingPage, SourceRangeKey, admission, backend_flags, frontend_flags, frontend_kind,
    route, svc_addr_flags,
};
use causeway_plan::{ServiceCapacities, ServiceDump, Services};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(24)
    })]

    #[test]
    fn any_history_leaves_maps_that_say_what_the_tables_say(seeds in prop::collection::vec(any::<u64>(), 1..30)) {
        let mut stage = Stage::new(ServiceCapacities::default());
        for seed in seeds {
            stage.step(Random(seed));
        }
        prop_assert_eq!(stage.services.starved(), 0);
        prop_assert!(stage.refused.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_refused_until_there_is_some(seeds in prop::collection::vec(any::<u64>(), 1..30)) {
        let mut stage = Stage::new(ServiceCapacities { seats: 32, ring_pages: 8 });
        for seed in seeds {
            stage.step(Random(seed));
        }
        for n in 0..SERVICES {
            stage.lb.remove_service("default", &format!("s{n}"));
        }
        stage.poll();
        // What was given back rests until the next delta.
        stage.lb.apply_service(&service(0, &mut Random(1)));
        stage.lb.apply_slice(&slice(0, 4, &mut Random(1)));
        stage.poll();
        prop_assert!(stage.refused.is_empty());
        prop_assert_eq!(stage.services.starved(), 0);
    }
}

#[test]
fn a_pool_without_room_is_refused_by_name_and_let_in_when_another_goes() {
    // A page for one ring, seats for both.
    let mut stage = Stage::new(ServiceCapacities {
        seats: 64,
        ring_pages: 1,
    });
    for n in 0..2 {
        let mut service = service(n, &mut Random(0));
        service.spec.service_type = None;
        service.spec.cluster_ips.truncate(1);
        service.spec.external_ips.clear();
        service.spec.internal_traffic_policy = None;
        service.spec.ports.truncate(1);
        stage.lb.apply_service(&service);
        let mut slice = slice(n, 3, &mut Random(0));
        for endpoint in &mut slice.endpoints {
            endpoint.conditions = EndpointConditions::default();
        }
        stage.lb.apply_slice(&slice);
    }
    stage.poll();
    let refused: Vec<_> = stage.refused.iter().map(ToString::to_string).collect();
    assert_eq!(refused, ["10.96.0.2:80/TCP"]);
    assert_eq!(stage.services.starved(), 1);
    stage.lb.remove_service("default", "s0");
    stage.poll();
    assert_eq!(stage.services.starved(), 1, "its place rests");
    stage.lb.apply_slice(&slice(4, 1, &mut Random(0)));
    stage.lb.apply_service(&service(4, &mut Random(0)));
    stage.poll();
    assert_eq!(stage.services.starved(), 0);
    assert!(stage.refused.is_empty());
}

#[test]
fn who_leaves_while_the_seats_move_is_there_until_the_new_ring_is() {
    let key = |n: u8| BackendKey {
        addr: [10, 0, 0, n].into(),
        port: 80,
        protocol: Protocol::Tcp,
    };
    let backend = |n: u8| {
        let backend = causeway_lb::Backend {
            key: key(n),
            serving: true,
        };
        (BackendId(n.into()), Some(backend))
    };
    let seat = |n: u8| Seat {
        backend: BackendId(n.into()),
        cluster: true,
        local: false,
    };
    let ring = |members: &[(u8, u16)]| {
        let members: Vec<_> = members
            .iter()
            .map(|(n, seat)| (key(*n), 1, *seat))
            .collect();
        Ring::new(&members).map(Arc::new)
    };
    let pool = |seats| Pool {
        service: ServiceId(1),
        owner: ObjectKey::new("default", "web"),
        port_name: "".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
        affinity: None,
        seats,
    };
    let forward = Route::Forward {
        scope: Scope::Cluster,
        masquerade: false,
    };
    let address: IpAddr = [10, 96, 0, 1].into();
    let frontend = (
        FrontendKey {
            listen: Listen::Address(address),
            port: 80,
            protocol: Protocol::Tcp,
        },
        Some(Frontend {
            kind: FrontendKind::ClusterIp,
            service: ServiceId(1),
            pool: PoolId(1),
            routes: Routes {
                pod: forward,
                host: forward,
                outside: forward,
            },
            source_ranges: false,
        }),
    );
    let held = Held {
        reject_others: true,
    };
    let scope = (PoolId(1), Scope::Cluster);
    let mut services = Services::default();
    let mut dump = ServiceDump::default();
    let mut apply = |delta: &Delta| {
        for op in services.apply(delta).ops {
            for single in op.single() {
                dump.apply(&single);
                assert_eq!(dump.inconsistencies(), [""; 0], "after {single:?}");
            }
        }
    };
    apply(&Delta {
        backends: vec![backend(1), backend(2)],
        seats: vec![
            ((PoolId(1), 0), Some(seat(1))),
            ((PoolId(1), 1), Some(seat(2))),
        ],
        rings: vec![(scope, ring(&[(1, 0), (2, 1)]))],
        pools: vec![(PoolId(1), Some(pool(2)))],
        addresses: vec![(address, Some(held))],
        frontends: vec![frontend],
        ..Delta::default()
    });
    // As after a restart, when somebody gets back a seat behind an empty one.
    apply(&Delta {
        backends: vec![(BackendId(1), None), backend(3)],
        seats: vec![((PoolId(1), 0), None), ((PoolId(1), 2), Some(seat(3)))],
        rings: vec![(scope, ring(&[(2, 1), (3, 2)]))],
        pools: vec![(PoolId(1), Some(pool(3)))],
        ..Delta::default()
    });
    let seats = dump.seats.values().map(|seat| seat.backend);
    assert_eq!(seats.collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_backend_that_comes_back_is_another_generation() {
    let mut stage = Stage::new(ServiceCapacities::default());
    stage.lb.apply_service(&service(0, &mut Random(7)));
    stage.lb.apply_slice(&slice(0, 1, &mut Random(7)));
    stage.poll();
    let generations = |stage: &Stage| -> BTreeSet<u32> {
        let backends = stage.dump.backends.values();
        backends.map(|backend| backend.generation).collect()
    };
    assert_eq!(generations(&stage), [1].into());
    stage.lb.apply_slice(&slice(0, 0, &mut Random(7)));
    stage.poll();
    assert!(
        stage
            .dump
            .backends
            .values()
            .all(|backend| backend.flags == 0)
    );
    assert_eq!(
        generations(&stage),
        [1].into(),
        "kept for those who remember it"
    );
    stage.lb.apply_slice(&slice(0, 1, &mut Random(7)));
    stage.poll();
    assert_eq!(generations(&stage), [2].into());
}

#[test]
fn a_ring_of_one_member_takes_no_page_and_one_that_keeps_its_size_stays_where_it_is() {
    let mut stage = Stage::new(ServiceCapacities::default());
    stage.lb.apply_service(&service(0, &mut Random(7)));
    stage.lb.apply_slice(&slice(0, 1, &mut Random(7)));
    stage.poll();
    assert!(stage.dump.ring_pages.is_empty());
    stage.lb.apply_slice(&slice(0, 5, &mut Random(7)));
    stage.poll();
    let pages: Vec<u32> = stage.dump.ring_pages.keys().copied().collect();
    stage.lb.apply_slice(&slice(0, 6, &mut Random(7)));
    stage.poll();
    assert!(stage.dump.ring_pages.keys().eq(&pages));
    assert!(!pages.is_empty());
}

#[test]
fn a_restart_finds_every_entry_where_it_was_and_removes_what_is_gone_meanwhile() {
    for seed in 0..4 {
        let mut stage = Stage::new(ServiceCapacities::default());
        let mut random = Random(seed);
        // Some history, so that numbers are not in order.
        for _ in 0..3 {
            stage.step(Random(random.below(u64::MAX)));
        }
        let objects: Vec<_> = (0..SERVICES)
            .map(|n| (service(n, &mut random), slice(n, 1 + n * 4, &mut random)))
            .collect();
        for (service, slice) in &objects {
            stage.lb.apply_service(service);
            stage.lb.apply_slice(slice);
        }
        stage.poll();
        // The same objects again.
        let mut again = stage.restarted();
        for (service, slice) in &objects {
            again.lb.apply_service(service);
            again.lb.apply_slice(slice);
        }
        again.poll();
        again.finish_restore();
        assert_eq!(named(&again.dump), named(&stage.dump));
        // Others: a service less, and endpoints that came and went.
        let mut changed = stage.restarted();
        for (n, (service, _)) in objects.iter().enumerate().skip(1) {
            changed.lb.apply_service(service);
            changed
                .lb
                .apply_slice(&slice(n, 3 + seed as usize % 20, &mut random));
        }
        changed.poll();
        changed.finish_restore();
        // And the next change finds everything in order.
        changed.lb.apply_slice(&slice(1, 2, &mut random));
        changed.lb.remove_service("default", "s2");
        changed.poll();
        assert!(
            changed
                .dump
                .backends
                .values()
                .all(|backend| backend.generation > 0)
        );
    }
}

#[test]
fn an_empty_set_of_tables_leaves_nothing_in_the_maps_but_generations() {
    let mut stage = Stage::new(ServiceCapacities::default());
    for n in 0..SERVICES {
        stage
            .lb
            .apply_service(&service(n, &mut Random(n as u64 + 3)));
        stage
            .lb
            .apply_slice(&slice(n, 3, &mut Random(n as u64 + 3)));
    }
    stage.poll();
    assert!(!stage.dump.frontends.is_empty());
    for n in 0..SERVICES {
        stage.lb.remove_service("default", &format!("s{n}"));
        stage.lb.remove_slice("default", &format!("s{n}-1"));
    }
    stage.poll();
    let mut left = stage.dump.clone();
    left.ring_pages.clear();
    assert!(left.backends.values().all(|backend| backend.flags == 0));
    left.backends.clear();
    assert_eq!(left, ServiceDump::default());
}

/// What stands in the maps, pages that no pool names left out.
fn named(dump: &ServiceDump) -> ServiceDump {
    let mut named = dump.clone();
    named.ring_pages.retain(|page, _| {
        let rings = dump
            .pools
            .values()
            .flat_map(|pool| [pool.cluster, pool.local]);
        let mut rings = rings.filter(|ring| ring.slots > 1);
        rings.any(|ring| {
            (ring.page..=ring.page + (ring.slots >> RingPage::SLOT_BITS)).contains(page)
        })
    });
    named
}

const SERVICES: usize = 5;

struct Stage {
    lb: Lb,
    tables: Tables,
    services: Services,
    dump: ServiceDump,
    refused: BTreeSet<FrontendKey>,
    /// The maps still hold what they held before.
    restoring: bool,
}

impl Stage {
    fn new(capacities: ServiceCapacities) -> Self {
        Self {
            lb: Lb::new(LbConfig::new("node-a")),
            tables: Tables::default(),
            services: Services::new(capacities),
            dump: ServiceDump::default(),
            refused: BTreeSet::new(),
            restoring: false,
        }
    }

    /// Another process over the same maps.
    fn restarted(&self) -> Self {
        let mut again = Self {
            dump: self.dump.clone(),
            restoring: true,
            ..Self::new(ServiceCapacities::default())
        };
        again.dump.restore(&mut again.lb);
        again.services.restore(&again.dump);
        again
    }

    /// All that is wanted has been applied.
    fn finish_restore(&mut self) {
        self.lb.end_restore();
        for op in self.services.prune() {
            for single in op.single() {
                self.dump.apply(&single);
                assert_eq!(self.dump.inconsistencies(), [""; 0], "after {single:?}");
            }
        }
        self.restoring = false;
        self.compare();
    }

    fn step(&mut self, mut random: Random) {
        for _ in 0..=random.below(2) {
            let n = random.below(SERVICES as u64) as usize;
            match random.below(10) {
                0 => self.lb.remove_service("default", &format!("s{n}")),
                1..4 => self.lb.apply_service(&service(n, &mut random)),
                4 => self.lb.remove_slice("default", &format!("s{n}-1")),
                _ => {
                    let sizes = [0, 1, 2, 3, 7, 10, 11, 20, 45];
                    let count = sizes[random.below(sizes.len() as u64) as usize];
                    self.lb.apply_slice(&slice(n, count, &mut random));
                }
            }
        }
        self.poll();
    }

    /// Takes in all deltas, entry by entry.
    fn poll(&mut self) {
        while let Some(delta) = self.lb.poll_delta(usize::MAX) {
            self.tables.apply(&delta);
            let batch = self.services.apply(&delta);
            assert_eq!(batch.revision, delta.revision);
            for op in &batch.ops {
                assert!(!op.is_empty());
                // Looking at everything after each entry of a ring or seat is what takes the time of this test.
                for single in op.single() {
                    self.dump.apply(&single);
                    assert_eq!(
                        self.dump.inconsistencies(),
                        [""; 0],
                        "after {single:?} of {op:?}"
                    );
                }
            }
            for key in batch.refused {
                assert!(self.refused.insert(key), "{key} is told once");
            }
            for key in batch.admitted {
                assert!(self.refused.remove(&key), "{key} was refused");
            }
            self.refused
                .retain(|key| self.tables.frontends.contains_key(key));
            if !self.restoring {
                self.compare();
            }
            self.lb.programmed(delta.revision);
        }
    }

    /// The maps, read as the programs read them, beside the tables.
    fn compare(&self) {
        let (dump, tables) = (&self.dump, &self.tables);
        let wanted = tables
            .frontends
            .iter()
            .filter(|(key, _)| !self.refused.contains(key));
        let mut frontends = 0;
        for (key, frontend) in wanted {
            frontends += 1;
            let found = dump.frontends.iter().find(|(other, _)| same(other, key));
            let (_, found) = found.unwrap_or_else(|| panic!("{key} is missing"));
            assert_eq!(
                (found.pool, found.service),
                (frontend.pool.0, frontend.service.0)
            );
            let routes = [
                frontend.routes.pod,
                frontend.routes.host,
                frontend.routes.outside,
            ];
            assert_eq!(
                [found.pod, found.host, found.outside],
                routes.map(byte),
                "{key}"
            );
            let pool = &tables.pools[&frontend.pool];
            let written = &dump.pools[&frontend.pool.0];
            assert_eq!(written.identity, pool.identity());
            assert_eq!(
                written.affinity_seconds,
                pool.affinity.map_or(0, |s| s.get())
            );
            for scope in [Scope::Cluster, Scope::Local] {
                let shares = tables.shares(frontend.pool, scope);
                let ring = tables.rings.get(&(frontend.pool, scope));
                let slots = ring.map_or(0, |ring| ring.slots().len() as u32);
                let mut counted: BTreeMap<([u8; 16], u16, u8), usize> = BTreeMap::new();
                for slot in 0..slots {
                    let backend = dump.backend(frontend.pool.0, scope == Scope::Local, slot);
                    let backend = backend.unwrap_or_else(|| panic!("slot {slot} of {key}"));
                    *counted.entry(place(backend)).or_default() += 1;
                }
                let expected: BTreeMap<_, _> =
                    shares.iter().map(|(key, n)| (place_of(key), *n)).collect();
                assert_eq!(counted, expected, "{scope:?} ring of {key}");
            }
            assert_eq!(
                found.flags & frontend_flags::SOURCE_RANGES != 0,
                frontend.source_ranges
            );
        }
        assert_eq!(dump.frontends.len(), frontends);
        let present = dump
            .backends
            .values()
            .filter(|b| b.flags & backend_flags::PRESENT != 0);
        assert_eq!(present.count(), tables.backends.len());
        let held = dump
            .addresses
            .values()
            .filter(|flags| *flags & svc_addr_flags::HELD != 0);
        assert_eq!(held.count(), tables.addresses.len());
        for ((service, family), ranges) in &tables.source_ranges {
            for client in ["10.1.2.3", "192.0.2.9", "2001:db8::9"] {
                let client: IpAddr = client.parse().unwrap();
                if Family::of(client) != *family {
                    continue;
                }
                let inside = ranges
                    .prefixes
                    .iter()
                    .any(|prefix| prefix.0.contains(client));
                let admitted = inside == (ranges.policy == causeway_lb::RangesPolicy::Allow);
                let key = SourceRangeKey::new(service.0, client.is_ipv6(), address(client), 128);
                assert_eq!(longest(dump, &key), Some(u32::from(admitted)), "{client}");
            }
        }
        if self.refused.is_empty() {
            assert_eq!(dump.seats.len(), tables.seats.len());
            assert_eq!(dump.pools.len(), tables.pools.len());
        }
        assert_eq!([admission::REFUSED, admission::ADMITTED], [0, 1]);
        assert!(
            dump.ring_pages
                .values()
                .all(|page| page.seats.len() == RingPage::SLOTS)
        );
    }
}

fn address(addr: IpAddr) -> causeway_maps::service::ServiceAddr {
    causeway_maps::service::ServiceAddr::v6(mapped(addr).octets())
}

/// What an LPM trie would find.
fn longest(dump: &ServiceDump, client: &SourceRangeKey) -> Option<u32> {
    let bits = |key: &SourceRangeKey| {
        let bytes = [&key.service_family[..], &key.addr.octets()].concat();
        let bit = move |n: u32| bytes[n as usize / 8] >> (7 - n % 8) & 1;
        (0..160).map(bit).collect::<Vec<_>>()
    };
    let matches = dump.source_ranges.iter().filter(|(key, _)| {
        let len = key.prefix_len as usize;
        bits(key)[..len] == bits(client)[..len]
    });
    Some(*matches.max_by_key(|(key, _)| key.prefix_len)?.1)
}

fn same(found: &causeway_maps::service::FrontendKey, key: &FrontendKey) -> bool {
    let (kind, addr) = match key.listen {
        Listen::Address(addr) => (frontend_kind::ADDRESS, addr),
        Listen::NodePort(Family::V4) => (frontend_kind::NODE_PORT, [0, 0, 0, 0].into()),
        Listen::NodePort(Family::V6) => (frontend_kind::NODE_PORT, [0_u16; 8].into()),
    };
    found.kind == kind
        && found.addr.octets() == mapped(addr).octets()
        && u16::from_be(found.port) == key.port
        && found.protocol == key.protocol as u8
}

fn byte(wanted: Route) -> u8 {
    match wanted {
        Route::Reject => 0,
        Route::Drop => 1,
        Route::Forward { scope, masquerade } => {
            route::FORWARD
                + if scope == Scope::Local {
                    route::LOCAL
                } else {
                    0
                }
                + if masquerade { route::MASQUERADE } else { 0 }
        }
    }
}

fn place(backend: &Backend) -> ([u8; 16], u16, u8) {
    (
        backend.addr.octets(),
        u16::from_be(backend.port),
        backend.protocol,
    )
}

fn place_of(key: &BackendKey) -> ([u8; 16], u16, u8) {
    (mapped(key.addr).octets(), key.port, key.protocol as u8)
}

fn meta(name: &str) -> KubeMeta {
    KubeMeta {
        name: name.to_owned(),
        ..KubeMeta::default()
    }
}

/// Service `n`, of some type, with one port or two.
fn service(n: usize, random: &mut Random) -> Service {
    let mut service = Service {
        metadata: meta(&format!("s{n}")),
        ..Service::default()
    };
    let spec = &mut service.spec;
    spec.cluster_ips = vec![format!("10.96.0.{}", n + 1), format!("fd00:96::{}", n + 1)];
    spec.service_type =
        Some(["ClusterIP", "NodePort", "LoadBalancer"][random.below(3) as usize].to_owned());
    for port in 0..=i64::from(random.below(2) == 0) {
        spec.ports.push(ServicePort {
            name: Some(format!("p{port}")),
            port: 80 + port,
            node_port: 30_000 + i64::try_from(n).unwrap() * 2 + port,
            ..ServicePort::default()
        });
    }
    let local = |random: &mut Random| (random.below(3) == 0).then(|| "Local".to_owned());
    spec.internal_traffic_policy = local(random);
    spec.external_traffic_policy = local(random);
    if random.below(2) == 0 {
        spec.session_affinity = Some("ClientIP".to_owned());
    }
    if random.below(3) == 0 {
        // Sometimes two services want the same address.
        spec.external_ips = vec!["192.0.2.80".to_owned()];
    }
    let ranges = [
        "10.0.0.0/8",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::/0",
        "192.0.2.8/31",
    ];
    for range in ranges {
        if random.below(4) == 0 {
            spec.load_balancer_source_ranges.push(range.to_owned());
        }
    }
    if random.below(2) == 0 {
        let name = causeway_api::service::SOURCE_RANGES_POLICY_ANNOTATION.to_owned();
        service.metadata.annotations.insert(name, "deny".to_owned());
    }
    service.status = Some(ServiceStatus {
        load_balancer: Some(LoadBalancerStatus {
            ingress: [format!("198.51.100.{n}"), format!("2001:db8:100::{n}")]
                .map(|ip| LoadBalancerIngress {
                    ip: Some(ip),
                    ..LoadBalancerIngress::default()
                })
                .into(),
        }),
    });
    service
}

/// A slice of service `n` with some of these endpoints ready.
fn slice(n: usize, count: usize, random: &mut Random) -> EndpointSlice {
    let mut slice = EndpointSlice {
        metadata: meta(&format!("s{n}-1")),
        address_type: "IPv4".to_owned(),
        ..EndpointSlice::default()
    };
    let label = "kubernetes.io/service-name".to_owned();
    slice.metadata.labels.insert(label, format!("s{n}"));
    slice.ports = (0..2)
        .map(|port| EndpointPort {
            name: Some(format!("p{port}")),
            port: Some(8080 + port),
            ..EndpointPort::default()
        })
        .collect();
    // The same addresses serve several services, and others each time.
    let first = random.below(3) as usize;
    slice.endpoints = (first..first + count)
        .map(|at| Endpoint {
            addresses: vec![format!("10.0.{}.{}", at / 200, at % 200 + 1)],
            conditions: EndpointConditions {
                ready: Some(count == 1 || random.below(5) > 0),
                serving: Some(true),
                terminating: Some(random.below(2) == 0),
            },
            node_name: Some(["node-a", "node-b"][at % 2].to_owned()),
            ..Endpoint::default()
        })
        .collect();
    slice
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }
}
