use proptest::prelude::*;

use super::*;
use crate::config::{NamePattern, PortRole, PortRule};
use crate::facts::{NeighbourState, RouteLeg, RouteTarget};
use crate::resolve::Delivery;

const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn subnet(text: &str) -> Subnet {
    let (addr, len) = text.split_once('/').unwrap();
    Subnet::new(ip(addr), len.parse().unwrap()).unwrap()
}

fn link(ifindex: u32, carrier: bool) -> Fact {
    Fact::Link(Link {
        ifindex,
        name: format!("eth{ifindex}"),
        mac: Some(OWN),
        mtu: 1500,
        up: true,
        carrier,
        loopback: false,
        kind: LinkKind::Plain,
    })
}

fn address(ifindex: u32, text: &str) -> Fact {
    let (addr, _) = text.split_once('/').unwrap();
    Fact::Address(Address {
        ifindex,
        addr: ip(addr),
        subnet: subnet(text),
    })
}

fn neighbour(ifindex: u32, addr: &str, state: NeighbourState) -> Fact {
    Fact::Neighbour(Neighbour {
        ifindex,
        addr: ip(addr),
        mac: Some(PEER),
        state,
    })
}

fn config() -> NetworkConfig {
    NetworkConfig {
        ports: vec![PortRule {
            pattern: NamePattern::new("eth*").unwrap(),
            role: PortRole::Uplink,
        }],
        ..NetworkConfig::default()
    }
}

fn key(addr: &str) -> NextHopKey {
    NextHopKey {
        addr: ip(addr),
        link: None,
    }
}

fn adjacency(ifindex: u32) -> Adjacency {
    Adjacency {
        ifindex,
        src_mac: OWN,
        dst_mac: PEER,
        mtu: 1500,
        tx_ifindex: ifindex,
        vlan: 0,
        delivery: Delivery::Wire,
    }
}

/// One uplink, eth1, with 10.0.0.1/24 and a neighbour 10.0.0.2.
fn network() -> Network {
    let mut network = Network::new(config());
    network.snapshot([
        link(1, true),
        address(1, "10.0.0.1/24"),
        neighbour(1, "10.0.0.2", NeighbourState::Reachable),
    ]);
    network.update();
    network
}

#[test]
fn a_port_its_subnet_its_address_and_its_neighbour_are_told() {
    let delta = network().poll_delta().unwrap();
    assert_eq!(delta.ports.len(), 1);
    assert_eq!(
        delta.local,
        [
            (subnet("10.0.0.0/24"), Some(Local::Punt)),
            (subnet("10.0.0.1/32"), Some(Local::Punt)),
            (subnet("10.0.0.2/32"), Some(Local::Host(adjacency(1)))),
        ]
    );
}

#[test]
fn nothing_changed_means_no_delta() {
    let mut network = network();
    network.poll_delta().unwrap();
    network.apply(link(1, true));
    network.update();
    assert_eq!(network.poll_delta(), None);
}

#[test]
fn a_next_hop_without_carrier_is_unusable_and_the_speaker_hears_of_it_once() {
    let mut network = network();
    network.track(key("10.0.0.2"));
    network.update();
    let fact = network.poll_next_hop().unwrap();
    assert_eq!((fact.key, fact.metric), (key("10.0.0.2"), Some(0)));
    network.poll_delta();

    network.apply(link(1, false));
    network.update();
    network.update();
    assert_eq!(network.poll_next_hop().unwrap().metric, None);
    assert_eq!(network.poll_next_hop(), None);
    let delta = network.poll_delta().unwrap();
    assert_eq!(
        delta.next_hops,
        [(
            key("10.0.0.2"),
            Some(Resolution::Unusable(Unusable::NoCarrier))
        )]
    );
    assert!(delta.local.contains(&(subnet("10.0.0.0/24"), None)));
    assert!(delta.local.contains(&(subnet("10.0.0.2/32"), None)));
    assert!(
        !delta.local.iter().any(|(p, _)| *p == subnet("10.0.0.1/32")),
        "an own address stays own"
    );
}

#[test]
fn a_neighbour_that_fails_is_unusable_until_it_answers_though_it_is_asked_again() {
    let mut network = network();
    network.track(key("10.0.0.2"));
    network.update();
    while network.poll_probe().is_some() {}
    while network.poll_next_hop().is_some() {}

    network.apply(neighbour(1, "10.0.0.2", NeighbourState::Failed));
    network.update();
    let failed = Resolution::Unusable(Unusable::NeighbourFailed { ifindex: 1 });
    assert_eq!(network.resolve(key("10.0.0.2")), failed);
    assert_eq!(network.poll_next_hop().unwrap().metric, None);
    network.probe_again();
    let probe = Probe {
        ifindex: 1,
        addr: ip("10.0.0.2"),
    };
    assert_eq!(network.poll_probe(), Some(probe));

    // Asked again, it is neither there nor forgotten.
    network.apply(neighbour(1, "10.0.0.2", NeighbourState::Incomplete));
    network.update();
    assert_eq!(network.resolve(key("10.0.0.2")), failed);
    assert_eq!(network.poll_next_hop(), None);
    network.apply(neighbour(1, "10.0.0.2", NeighbourState::Reachable));
    network.update();
    assert_eq!(
        network.resolve(key("10.0.0.2")),
        Resolution::Resolved(adjacency(1))
    );
    assert_eq!(network.poll_next_hop().unwrap().metric, Some(0));
}

#[test]
fn a_released_next_hop_is_no_longer_kept_resolved() {
    let mut network = network();
    network.track(key("10.0.0.2"));
    network.update();
    let probe = network.poll_probe().unwrap();
    assert_eq!(network.poll_release(), None);
    network.release(key("10.0.0.2"));
    network.update();
    assert_eq!(network.poll_release(), Some(probe));
    assert_eq!(network.poll_release(), None);
}

fn hop(addr: &str, weight: u32) -> Hop {
    Hop {
        key: key(addr),
        weight,
    }
}

/// Defines set `id` with these next hops and points `prefix` at it. Returns it as forwarded.
fn learn(network: &mut Network, id: u32, prefix: &str, hops: &[Hop]) -> Vec<Hop> {
    let flat = network.define(SetId(id), Some(hops.into())).unwrap();
    network.route(subnet(prefix), Some(SetId(id)));
    flat.to_vec()
}

fn foreign(prefix: &str, metric: u32, legs: &[(&str, u32, u32)]) -> KernelRoute {
    let leg = |(gateway, ifindex, weight): &(&str, u32, u32)| RouteLeg {
        gateway: gateway.parse().ok(),
        ifindex: *ifindex,
        weight: *weight,
    };
    KernelRoute {
        prefix: subnet(prefix),
        metric,
        protocol: 4,
        target: RouteTarget::Legs(legs.iter().map(leg).collect()),
    }
}

/// eth1 with 10.0.0.1/24 and eth2 with 10.0.1.1/24, and a neighbour .2 on each.
fn two_links() -> Network {
    let mut network = Network::new(config());
    network.snapshot([
        link(1, true),
        link(2, true),
        address(1, "10.0.0.1/24"),
        address(2, "10.0.1.1/24"),
        neighbour(1, "10.0.0.2", NeighbourState::Reachable),
        neighbour(2, "10.0.1.2", NeighbourState::Reachable),
    ]);
    network.update();
    network
}

#[test]
fn a_next_hop_behind_a_bgp_route_is_replaced_by_what_leads_to_it_in_proportion() {
    let mut network = two_links();
    let both = [hop("10.0.0.2", 1), hop("10.0.1.2", 3)];
    assert_eq!(
        learn(&mut network, 1, "192.0.2.0/24", &both),
        both,
        "connected next hops stand for themselves"
    );
    let far = learn(&mut network, 2, "203.0.113.0/24", &[hop("192.0.2.9", 1)]);
    assert_eq!(far, both);
    // And behind that, beside a connected one: 1/2 to it, 1/8 and 3/8 to the others.
    let mixed = [hop("203.0.113.9", 1), hop("10.0.0.2", 1)];
    assert_eq!(
        learn(&mut network, 3, "198.51.100.0/24", &mixed),
        [hop("10.0.0.2", 5), hop("10.0.1.2", 3)]
    );
    network.track(key("203.0.113.9"));
    network.update();
    assert_eq!(
        network.poll_next_hop().unwrap().metric,
        Some(2),
        "a step for each route"
    );
}

#[test]
fn a_changed_route_tells_of_the_sets_that_depend_on_it_and_no_others() {
    let mut network = two_links();
    learn(&mut network, 1, "192.0.2.0/24", &[hop("10.0.0.2", 1)]);
    learn(&mut network, 2, "203.0.113.0/24", &[hop("192.0.2.9", 1)]);
    learn(&mut network, 3, "198.51.100.0/24", &[hop("10.0.0.2", 1)]);
    network.update();
    assert_eq!(network.poll_set(), None);

    learn(&mut network, 4, "192.0.2.0/28", &[hop("10.0.1.2", 1)]);
    network.update();
    let told = network.poll_set().unwrap();
    assert_eq!((told.0, &told.1[..]), (SetId(2), &[hop("10.0.1.2", 1)][..]));
    assert_eq!(network.poll_set(), None);
    // Its next hop is gone with its route; the covering one takes over.
    network.route(subnet("192.0.2.0/28"), None);
    network.update();
    assert_eq!(network.poll_set().unwrap().1[..], [hop("10.0.0.2", 1)]);
}

#[test]
fn no_route_is_reached_through_itself() {
    let mut network = two_links();
    network.found_route(&foreign("192.0.0.0/16", 0, &[("10.0.0.2", 1, 1)]));
    network.track(key("192.0.2.9"));
    network.update();
    assert_eq!(network.poll_next_hop().unwrap().metric, Some(1));
    // Learned by way of its own next hop: nothing may change by its being installed.
    learn(&mut network, 1, "192.0.2.0/24", &[hop("192.0.2.9", 1)]);
    network.update();
    assert_eq!(network.poll_next_hop(), None);

    // Two that lead to each other, and nothing beneath.
    learn(&mut network, 2, "203.0.113.0/24", &[hop("198.51.100.9", 1)]);
    learn(&mut network, 3, "198.51.100.0/24", &[hop("203.0.113.9", 1)]);
    for addr in ["203.0.113.9", "198.51.100.9"] {
        let resolution = network.resolve(key(addr));
        assert_eq!(resolution.metric(), None, "{addr}: {resolution:?}");
    }
}

#[test]
fn more_than_eight_routes_behind_one_another_are_too_many() {
    let mut network = two_links();
    learn(&mut network, 1, "172.16.1.0/24", &[hop("10.0.0.2", 1)]);
    for n in 2..=9_u32 {
        let behind = hop(&format!("172.16.{}.1", n - 1), 1);
        learn(&mut network, n, &format!("172.16.{n}.0/24"), &[behind]);
    }
    assert_eq!(network.legs(key("172.16.7.1")), [hop("10.0.0.2", 1)]);
    assert_eq!(
        network.resolve(key("172.16.9.1")),
        Resolution::Unusable(Unusable::TooDeep)
    );
}

#[test]
fn others_kernel_routes_lead_to_next_hops_by_longest_match_and_lowest_metric() {
    let mut network = two_links();
    let route = foreign(
        "192.0.2.0/24",
        10,
        &[("10.0.0.2", 1, 1), ("10.0.1.2", 2, 2)],
    );
    network.found_route(&route);
    assert_eq!(
        network.legs(key("192.0.2.9")),
        [hop("10.0.0.2", 1), hop("10.0.1.2", 2)]
    );
    network.found_route(&foreign("192.0.2.0/24", 5, &[("10.0.1.2", 2, 1)]));
    assert_eq!(network.legs(key("192.0.2.9")), [hop("10.0.1.2", 1)]);
    let mut reject = foreign("192.0.2.8/30", 0, &[]);
    reject.target = RouteTarget::Reject;
    network.found_route(&reject);
    assert_eq!(
        network.resolve(key("192.0.2.9")),
        Resolution::Unusable(Unusable::Rejected)
    );
    network.lost_route(&reject);
    network.listing_begins();
    network.found_route(&route);
    network.listing_ends();
    assert_eq!(
        network.legs(key("192.0.2.9")).len(),
        2,
        "only that one is left"
    );
}

#[test]
fn a_default_route_leads_to_a_next_hop_only_if_it_may() {
    let mut network = two_links();
    network.found_route(&foreign("0.0.0.0/0", 100, &[("10.0.0.2", 1, 1)]));
    let far = key("192.0.2.9");
    assert_eq!(
        network.resolve(far),
        Resolution::Unusable(Unusable::NotConnected)
    );
    network.configure(NetworkConfig {
        resolve_via_default: true,
        ..config()
    });
    assert_eq!(network.legs(far), [hop("10.0.0.2", 1)]);
}

#[test]
fn no_peer_leads_a_connected_next_hop_elsewhere() {
    let mut network = two_links();
    learn(&mut network, 1, "10.0.0.2/32", &[hop("10.0.1.2", 1)]);
    assert_eq!(network.legs(key("10.0.0.2")), [hop("10.0.0.2", 1)]);
    // The operator may.
    network.found_route(&foreign("10.0.0.2/32", 0, &[("10.0.1.2", 2, 1)]));
    assert_eq!(network.legs(key("10.0.0.2")), [hop("10.0.1.2", 1)]);
}

#[test]
fn others_routes_are_the_kernels_unless_ours_is_better() {
    let mut network = two_links();
    while network.poll_delta().is_some() {}
    network.found_route(&foreign("203.0.113.0/24", 100, &[("10.0.0.2", 1, 1)]));
    network.update();
    let delta = network.poll_delta().unwrap();
    assert_eq!(delta.local, [(subnet("203.0.113.0/24"), Some(Local::Punt))]);
    learn(&mut network, 1, "203.0.113.0/24", &[hop("10.0.1.2", 1)]);
    network.update();
    let delta = network.poll_delta().unwrap();
    assert_eq!(
        delta.local,
        [(subnet("203.0.113.0/24"), None)],
        "ours is 32"
    );
    network.found_route(&foreign("203.0.113.0/24", 0, &[("10.0.0.2", 1, 1)]));
    network.update();
    let delta = network.poll_delta().unwrap();
    assert_eq!(delta.local, [(subnet("203.0.113.0/24"), Some(Local::Punt))]);
}

#[test]
fn a_pod_is_a_host_route_on_its_interface_and_is_kept_resolved() {
    let mut network = Network::new(NetworkConfig {
        ports: vec![
            PortRule {
                pattern: NamePattern::new("eth1").unwrap(),
                role: PortRole::Uplink,
            },
            PortRule {
                pattern: NamePattern::new("eth*").unwrap(),
                role: PortRole::Pod,
            },
        ],
        ..NetworkConfig::default()
    });
    let veth = |peer_elsewhere| {
        let Fact::Link(link) = link(7, true) else {
            unreachable!()
        };
        Fact::Link(Link {
            kind: LinkKind::Veth { peer_elsewhere },
            ..link
        })
    };
    network.snapshot([link(1, true), veth(true)]);
    let mut route = foreign("10.244.0.5/32", 0, &[("", 7, 1)]);
    route.protocol = 3;
    network.found_route(&route);
    network.update();
    let pod = subnet("10.244.0.5/32");
    let delta = network.poll_delta().unwrap();
    assert!(delta.local.contains(&(pod, Some(Local::Punt))), "{delta:?}");
    let probe = Probe {
        ifindex: 7,
        addr: ip("10.244.0.5"),
    };
    assert_eq!(network.poll_probe(), Some(probe));

    network.apply(neighbour(7, "10.244.0.5", NeighbourState::Reachable));
    network.update();
    let delivered = |delivery| {
        Local::Host(Adjacency {
            delivery,
            ..adjacency(7)
        })
    };
    let delta = network.poll_delta().unwrap();
    assert_eq!(delta.local, [(pod, Some(delivered(Delivery::Peer)))]);
    network.apply(veth(false));
    network.update();
    let delta = network.poll_delta().unwrap();
    assert_eq!(
        delta.local,
        [(pod, Some(delivered(Delivery::Local)))],
        "its other end is here"
    );
    network.lost_route(&route);
    network.apply(Fact::NeighbourGone {
        ifindex: 7,
        addr: ip("10.244.0.5"),
    });
    network.update();
    assert_eq!(network.poll_delta().unwrap().local, [(pod, None)]);
    assert_eq!(network.poll_release(), Some(probe));
}

#[test]
fn a_vlan_device_sends_tagged_frames_on_its_parent() {
    let mut network = two_links();
    let Fact::Link(plain) = link(1, true) else {
        unreachable!()
    };
    network.apply(Fact::Link(Link {
        kind: LinkKind::Vlan { parent: 9, vid: 42 },
        ..plain
    }));
    network.update();
    let Resolution::Resolved(adjacency) = network.resolve(key("10.0.0.2")) else {
        panic!("resolved");
    };
    assert_eq!(
        (adjacency.ifindex, adjacency.tx_ifindex, adjacency.vlan),
        (1, 9, 42)
    );
}

#[test]
fn the_longest_connected_subnet_on_a_usable_link_wins() {
    let mut network = network();
    network.apply(link(2, true));
    network.apply(address(2, "10.0.0.129/25"));
    assert!(matches!(
        network.resolve(key("10.0.0.200")),
        Resolution::Pending { ifindex: 2, .. }
    ));
    network.apply(link(2, false));
    assert!(matches!(
        network.resolve(key("10.0.0.200")),
        Resolution::Pending { ifindex: 1, .. }
    ));
}

#[test]
fn each_reason_for_an_unusable_next_hop_is_told_apart() {
    let mut network = network();
    let resolve = |network: &Network, addr: &str, link| {
        network.resolve(NextHopKey {
            addr: ip(addr),
            link,
        })
    };
    let why = |reason| Resolution::Unusable(reason);
    assert_eq!(
        resolve(&network, "192.0.2.1", None),
        why(Unusable::NotConnected)
    );
    assert_eq!(
        resolve(&network, "10.0.0.1", None),
        why(Unusable::OwnAddress)
    );
    assert_eq!(
        resolve(&network, "fe80::1", None),
        why(Unusable::LinkMissing)
    );
    assert_eq!(
        resolve(&network, "fe80::1", Some(7)),
        why(Unusable::LinkUnknown)
    );
    assert!(matches!(
        resolve(&network, "fe80::1", Some(1)),
        Resolution::Pending { ifindex: 1, .. }
    ));
    network.configure(NetworkConfig::default());
    let not_a_port = resolve(&network, "10.0.0.2", None);
    assert_eq!(not_a_port, why(Unusable::NotAPort { ifindex: 1 }));
    assert_eq!(not_a_port.metric(), Some(0), "reachable through the stack");
}

#[test]
fn an_address_that_is_own_and_a_neighbour_of_another_link_is_own() {
    let mut network = network();
    network.apply(link(2, true));
    network.apply(address(2, "10.0.0.2/24"));
    network.poll_delta();
    network.update();
    let delta = network.poll_delta().unwrap();
    assert!(
        delta
            .local
            .contains(&(subnet("10.0.0.2/32"), Some(Local::Punt)))
    );
}

#[test]
fn a_second_user_of_a_next_hop_is_told_and_the_first_release_keeps_it() {
    let mut network = network();
    network.track(key("10.0.0.2"));
    network.update();
    network.poll_delta();
    network.track(key("10.0.0.2"));
    network.update();
    assert_eq!(network.poll_delta().unwrap().next_hops.len(), 1);
    network.release(key("10.0.0.2"));
    assert_eq!(network.poll_delta(), None);
    network.release(key("10.0.0.2"));
    assert_eq!(
        network.poll_delta().unwrap().next_hops,
        [(key("10.0.0.2"), None)]
    );
}

#[test]
fn limits_are_kept_and_what_did_not_fit_is_counted() {
    let mut config = config();
    config.limits.max_host_routes = 1;
    config.limits.max_neighbours = 2;
    config.limits.max_next_hops = 1;
    let mut network = Network::new(config);
    network.snapshot([
        link(1, true),
        address(1, "10.0.0.1/24"),
        neighbour(1, "10.0.0.2", NeighbourState::Reachable),
        neighbour(1, "10.0.0.3", NeighbourState::Reachable),
        neighbour(1, "10.0.0.4", NeighbourState::Reachable),
    ]);
    network.track(key("10.0.0.2"));
    network.track(key("10.0.0.3"));
    network.update();
    let overflow = network.overflow();
    assert_eq!(
        (
            overflow.neighbours,
            overflow.host_routes,
            overflow.next_hops
        ),
        (1, 1, 1)
    );
    let refused = network.poll_next_hop().unwrap();
    assert_eq!((refused.key, refused.metric), (key("10.0.0.3"), None));
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let index = 1..4_u32;
    let host = 1..6_u8;
    prop_oneof![
        (index.clone(), any::<bool>()).prop_map(|(i, c)| link(i, c)),
        index.clone().prop_map(|ifindex| Fact::LinkGone { ifindex }),
        (index.clone(), host.clone()).prop_map(|(i, h)| address(i, &format!("10.0.{i}.{h}/24"))),
        (index.clone(), host.clone(), any::<bool>()).prop_map(|(i, h, ok)| neighbour(
            i,
            &format!("10.0.{i}.{h}"),
            if ok {
                NeighbourState::Reachable
            } else {
                NeighbourState::Failed
            }
        )),
        (index, host).prop_map(|(ifindex, h)| Fact::NeighbourGone {
            ifindex,
            addr: ip(&format!("10.0.{ifindex}.{h}"))
        }),
    ]
}

proptest! {
    /// Deltas, applied one after another, lead to what one update over all facts tells.
    #[test]
    fn deltas_add_up(facts in proptest::collection::vec(any_fact(), 0..40)) {
        let mut steps = Network::new(config());
        let mut at_once = Network::new(config());
        let mut local = BTreeMap::new();
        let mut ports = BTreeMap::new();
        for fact in facts {
            at_once.apply(fact.clone());
            steps.apply(fact);
            steps.update();
            let delta = steps.poll_delta().unwrap_or_default();
            for (prefix, value) in delta.local {
                match value { Some(v) => { local.insert(prefix, v); } None => { prop_assert!(local.remove(&prefix).is_some()); } }
            }
            for (ifindex, value) in delta.ports {
                match value { Some(v) => { ports.insert(ifindex, v); } None => { prop_assert!(ports.remove(&ifindex).is_some()); } }
            }
        }
        at_once.update();
        let delta = at_once.poll_delta().unwrap_or_default();
        let want_local: BTreeMap<_, _> = delta.local.into_iter().map(|(p, v)| (p, v.unwrap())).collect();
        let want_ports: BTreeMap<_, _> = delta.ports.into_iter().map(|(p, v)| (p, v.unwrap())).collect();
        prop_assert_eq!(local, want_local);
        prop_assert_eq!(ports, want_ports);
    }
}
