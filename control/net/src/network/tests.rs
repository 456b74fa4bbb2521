use proptest::prelude::*;

use super::*;
use crate::config::{Limits, NamePattern, PortRule};
use crate::facts::NeighbourState;

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
        limits: Limits::default(),
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
fn a_neighbour_that_fails_is_pending_reachable_for_bgp_and_probed() {
    let mut network = network();
    network.track(key("10.0.0.2"));
    network.update();
    while network.poll_probe().is_some() {}
    while network.poll_next_hop().is_some() {}

    network.apply(neighbour(1, "10.0.0.2", NeighbourState::Failed));
    network.update();
    assert!(matches!(
        network.resolve(key("10.0.0.2")),
        Resolution::Pending { ifindex: 1, .. }
    ));
    assert_eq!(network.poll_next_hop(), None);
    let probe = Probe {
        ifindex: 1,
        addr: ip("10.0.0.2"),
    };
    assert_eq!(network.poll_probe(), Some(probe));
    assert_eq!(network.poll_probe(), None);
    network.probe_again();
    assert_eq!(network.poll_probe(), Some(probe));
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
