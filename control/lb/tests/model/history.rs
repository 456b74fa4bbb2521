//! Random objects from a small world, so that they meet: few services, slices, addresses and nodes.

use std::collections::BTreeMap;

use causeway_api::endpoint_slice::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForName,
};
use causeway_api::meta::KubeMeta;
use causeway_api::node::Node;
use causeway_api::service::{
    LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceStatus,
};
use causeway_lb::Lb;

/// The objects that are there.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) slices: BTreeMap<String, EndpointSlice>,
    pub(crate) node: Option<Node>,
}

impl World {
    /// All of them.
    pub(crate) fn objects(&self) -> Vec<Object<'_>> {
        let services = self.services.values().map(Object::Service);
        let slices = self.slices.values().map(Object::Slice);
        let node = self.node.iter().map(Object::Node);
        services.chain(slices).chain(node).collect()
    }
}

/// One of them.
pub(crate) enum Object<'a> {
    Service(&'a Service),
    Slice(&'a EndpointSlice),
    Node(&'a Node),
}

impl Object<'_> {
    pub(crate) fn apply(&self, lb: &mut Lb) {
        match self {
            Self::Service(service) => lb.apply_service(service),
            Self::Slice(slice) => lb.apply_slice(slice),
            Self::Node(node) => lb.apply_node(node),
        }
    }
}

/// What a step asks for besides.
pub(crate) enum History {
    Apply,
    Poll(usize),
    Compare,
}

impl History {
    /// Does one random thing to both.
    pub(crate) fn step(seed: u64, world: &mut World, lb: &mut Lb) -> Self {
        let mut random = Random(seed);
        match random.below(18) {
            0..=4 => {
                let service = random.service();
                lb.apply_service(&service);
                world
                    .services
                    .insert(service.metadata.name.clone(), service);
            }
            5..=10 => {
                let slice = random.slice();
                lb.apply_slice(&slice);
                world.slices.insert(slice.metadata.name.clone(), slice);
            }
            11 => {
                let name = random.service_name();
                lb.remove_service("default", &name);
                world.services.remove(&name);
            }
            12 => {
                let name = random.slice_name();
                lb.remove_slice("default", &name);
                world.slices.remove(&name);
            }
            13..=15 => {
                let node = random.node();
                lb.apply_node(&node);
                if node.metadata.name == "node-a" {
                    world.node = Some(node);
                }
            }
            16 => return Self::Poll(1 + random.below(3) as usize),
            _ => return Self::Compare,
        }
        Self::Apply
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    fn text(&mut self, from: &[&str]) -> String {
        self.pick(from).to_owned()
    }

    fn maybe<T>(&mut self, percent: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance(percent).then(|| make(self))
    }

    fn service_name(&mut self) -> String {
        self.text(&["s1", "s2", "s3", "s4"])
    }

    fn slice_name(&mut self) -> String {
        self.text(&["e1", "e2", "e3", "e4", "e5", "e6"])
    }

    fn meta(&mut self, name: String) -> KubeMeta {
        KubeMeta {
            name,
            namespace: Some("default".to_owned()),
            ..KubeMeta::default()
        }
    }

    fn service(&mut self) -> Service {
        let name = self.service_name();
        let mut service = Service {
            metadata: self.meta(name),
            ..Service::default()
        };
        if self.chance(30) {
            service.metadata.creation_timestamp =
                Some(self.text(&["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]));
        }
        if self.chance(5) {
            let value = self.text(&["other", ""]);
            let label = "service.kubernetes.io/service-proxy-name";
            service.metadata.labels.insert(label.to_owned(), value);
        }
        if self.chance(15) {
            let value = self.text(&["0", "10.0.0.1=0", "50, 10.0.0.2=200", "x", "10.0.0.3=1,"]);
            let annotation = "service.causeway.dev/weight";
            service
                .metadata
                .annotations
                .insert(annotation.to_owned(), value);
        }
        let spec = &mut service.spec;
        spec.service_type = self.maybe(70, |random| {
            random.text(&[
                "ClusterIP",
                "NodePort",
                "LoadBalancer",
                "LoadBalancer",
                "ExternalName",
                "What",
            ])
        });
        let v4 = ["10.96.0.1", "10.96.0.2", "10.96.0.3"];
        let v6 = ["fd00::1", "fd00::2"];
        if self.chance(5) {
            spec.cluster_ip = Some("None".to_owned());
        } else if self.chance(85) {
            let (a, b) = (self.text(&v4), self.text(&v6));
            spec.cluster_ips = match self.below(4) {
                0 => vec![b],
                1 => vec![a, b],
                _ => vec![a],
            };
        }
        if self.chance(20) {
            spec.external_ips =
                vec![self.text(&["192.0.2.1", "10.96.0.1", "fd00::9", "127.0.0.1"])];
        }
        let ports = self.below(3) + 1;
        for n in 0..ports {
            spec.ports.push(ServicePort {
                name: Some(["", "http", "dns"][n as usize].to_owned()),
                protocol: self.maybe(50, |random| random.text(&["TCP", "UDP", "SCTP", "GRE"])),
                port: self.pick(&[80, 80, 53, 0, 70_000]),
                node_port: self.pick(&[0, 0, 30_080, 30_053, -1]),
            });
        }
        let policies = ["Cluster", "Local"];
        spec.internal_traffic_policy = self.maybe(50, |random| random.text(&policies));
        spec.external_traffic_policy = self.maybe(60, |random| random.text(&policies));
        spec.traffic_distribution = self.maybe(30, |random| {
            random.text(&["PreferSameZone", "PreferSameNode", "PreferClose"])
        });
        spec.publish_not_ready_addresses = self.chance(10);
        spec.session_affinity = self.maybe(30, |random| random.text(&["None", "ClientIP"]));
        if self.chance(30) {
            spec.load_balancer_source_ranges = vec![
                self.text(&["10.0.0.0/8", " 192.0.2.0/24 ", "fd00::/16", "wrong"]),
                self.text(&["10.0.0.0/8", "198.51.100.0/24"]),
            ];
        }
        spec.load_balancer_class =
            self.maybe(20, |random| random.text(&["causeway.dev/bgp", "other"]));
        spec.health_check_node_port = self.pick(&[0, 0, 32_000, 32_001]);
        let ingress = (0..self.below(3))
            .map(|_| LoadBalancerIngress {
                ip: self.maybe(90, |random| {
                    random.text(&["198.51.100.1", "198.51.100.2", "fd01::1"])
                }),
                ip_mode: self.maybe(30, |random| random.text(&["VIP", "Proxy"])),
            })
            .collect();
        service.status = Some(ServiceStatus {
            load_balancer: Some(LoadBalancerStatus { ingress }),
        });
        service
    }

    fn slice(&mut self) -> EndpointSlice {
        let name = self.slice_name();
        let mut slice = EndpointSlice {
            metadata: self.meta(name),
            address_type: self.text(&["IPv4", "IPv4", "IPv6", "FQDN"]),
            ..EndpointSlice::default()
        };
        if self.chance(95) {
            let service = self.service_name();
            let label = "kubernetes.io/service-name";
            slice.metadata.labels.insert(label.to_owned(), service);
        }
        if self.chance(10) {
            let value = self.text(&["0", "7", "256", "300x"]);
            let annotation = "service.causeway.dev/weight";
            slice
                .metadata
                .annotations
                .insert(annotation.to_owned(), value);
        }
        for name in ["", "http", "dns"] {
            if self.chance(70) {
                slice.ports.push(EndpointPort {
                    name: Some(name.to_owned()),
                    protocol: self.maybe(30, |random| random.text(&["TCP", "UDP"])),
                    port: self.maybe(95, |random| random.pick(&[8080, 8080, 9090, 0])),
                });
            }
        }
        // Hints and zones count only where every endpoint has them.
        let (hints, zones) = (self.pick(&[0, 0, 30, 100]), self.pick(&[50, 100]));
        for _ in 0..self.below(5) {
            let endpoint = self.endpoint(hints, zones);
            slice.endpoints.push(endpoint);
        }
        slice
    }

    fn endpoint(&mut self, hints: u64, zones: u64) -> Endpoint {
        let mut endpoint = Endpoint {
            node_name: self.maybe(90, |random| random.text(&["node-a", "node-b", "node-c"])),
            zone: self.maybe(zones, |random| random.text(&["z1", "z2"])),
            ..Endpoint::default()
        };
        for _ in 0..self.below(3) {
            endpoint.addresses.push(self.text(&[
                "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd02::1", "fd02::2", "fd02::3",
                "::1", "nonsense",
            ]));
        }
        if self.chance(60) {
            endpoint.conditions = EndpointConditions {
                ready: self.maybe(80, |random| random.chance(60)),
                serving: self.maybe(70, |random| random.chance(60)),
                terminating: self.maybe(70, |random| random.chance(50)),
            };
        }
        if self.chance(hints) {
            let zones = self.below(3);
            let nodes = self.below(2);
            let mut list = |n, names: &[&str]| {
                (0..n)
                    .map(|_| ForName {
                        name: self.text(names),
                    })
                    .collect()
            };
            endpoint.hints = Some(EndpointHints {
                for_zones: list(zones, &["z1", "z2"]),
                for_nodes: list(nodes, &["node-a", "node-b"]),
            });
        }
        endpoint
    }

    fn node(&mut self) -> Node {
        let name = self.text(&["node-a", "node-a", "node-b"]);
        let mut node = Node {
            metadata: KubeMeta {
                name,
                ..KubeMeta::default()
            },
            ..Node::default()
        };
        if self.chance(80) {
            let zone = self.text(&["z1", "z2"]);
            let label = "topology.kubernetes.io/zone";
            node.metadata.labels.insert(label.to_owned(), zone);
        }
        if self.chance(15) {
            let label = "node.kubernetes.io/exclude-from-external-load-balancers";
            node.metadata.labels.insert(label.to_owned(), String::new());
        }
        node
    }
}
