//! What must hold when the network is at rest.

use std::collections::{BTreeSet, HashMap};

use causeway_bgp::rib::{Cursor, PathStatus, RouteFilter, RouteView};
use causeway_bgp::session::State;
use causeway_bgp::speaker::Speaker;
use causeway_bgp::types::{Family, PeerId, Prefix};

use crate::model::{self, ModelRoute};
use crate::network::Network;
use crate::plan::{prefix4, prefix6};

/// Sessions up, Loc-RIBs equal to the model's, forwarding without loops, no route without a live source.
pub fn at_rest(network: &Network) {
    sessions_are_up(network);
    routes_equal_the_model(network);
    forwarding_reaches_its_origin(network);
}

/// Every session between two live nodes over a live link is Established.
pub fn sessions_are_up(network: &Network) {
    for (node, here) in network.nodes.iter().enumerate() {
        let Some(speaker) = &here.speaker else {
            continue;
        };
        for view in speaker.neighbors(network.now) {
            let (_, link) = network.owner(view.address).expect("a link address");
            let plan = &network.plan.links[link];
            let expected =
                network.is_up(link) && plan.ends.iter().all(|node| network.is_alive(*node));
            assert_eq!(
                view.state == State::Established,
                expected,
                "node {node}, link {link}: {}, last reset {:?}",
                view.state,
                view.last_reset
            );
        }
    }
}

/// Every Loc-RIB holds exactly what the model computes.
pub fn routes_equal_the_model(network: &Network) {
    let links = peer_links(network);
    let mut expected_prefixes = BTreeSet::new();
    for origin in 0..network.plan.nodes.len() {
        if !network.plan.nodes[origin].originates || network.nodes[origin].speaker.is_none() {
            continue;
        }
        let expected = model::routes_to(network, origin);
        for prefix in [prefix4(origin), prefix6(origin)] {
            expected_prefixes.insert(prefix);
            for (node, route) in expected.iter().enumerate() {
                route_equals(network, (node, &links[node]), prefix, route);
            }
        }
    }
    no_other_routes(network, &expected_prefixes);
}

fn route_equals(
    network: &Network,
    (node, links): (usize, &PeerLinks),
    prefix: Prefix,
    expected: &ModelRoute,
) {
    let Some(speaker) = &network.nodes[node].speaker else {
        return;
    };
    let page = speaker
        .rib()
        .routes(RouteFilter::Exact(prefix), Cursor::default(), 8);
    let view = page.items.first();
    let best = view.and_then(|view| {
        view.paths
            .iter()
            .find(|path| path.status == PathStatus::Best)
    });
    let Some(expected_best) = &expected.best else {
        assert!(
            best.is_none(),
            "node {node} has a route to {prefix} that nobody can have: {view:?}"
        );
        return;
    };
    let Some(best) = best else {
        panic!("node {node} has no route to {prefix}, expected {expected_best:?}; it has {view:?}");
    };
    let attributes = best.imported.as_ref().unwrap_or(&best.received);
    let as_path: Vec<u32> = attributes.as_path.asns().map(|asn| asn.0).collect();
    let link = best.peer.map(|peer| links[&peer]);
    assert_eq!(
        (link, &as_path),
        (expected_best.link, &expected_best.as_path),
        "best path of {prefix} at node {node}: {view:?}"
    );
    let communities: BTreeSet<_> = attributes.communities.iter().copied().collect();
    assert_eq!(
        (attributes.med, communities),
        (expected_best.med, expected_best.communities.clone()),
        "MED and communities of {prefix} at node {node}: {view:?}"
    );
    let used = view.map(|view| used_links(links, view)).unwrap_or_default();
    assert_eq!(
        used, expected.used,
        "paths in use for {prefix} at node {node}: {view:?}"
    );
}

fn used_links(links: &PeerLinks, view: &RouteView) -> Vec<usize> {
    let mut used: Vec<_> = view
        .paths
        .iter()
        .filter(|path| matches!(path.status, PathStatus::Best | PathStatus::Multipath))
        .filter_map(|path| Some(links[&path.peer?]))
        .collect();
    used.sort_unstable();
    used
}

/// The link of each peer of a node.
type PeerLinks = HashMap<PeerId, usize>;

fn peer_links(network: &Network) -> Vec<PeerLinks> {
    let links = |speaker: &Speaker| {
        speaker
            .neighbors(network.now)
            .iter()
            .map(|view| {
                (
                    view.id,
                    network.owner(view.address).expect("a link address").1,
                )
            })
            .collect()
    };
    network
        .nodes
        .iter()
        .map(|node| node.speaker.as_ref().map(links).unwrap_or_default())
        .collect()
}

fn no_other_routes(network: &Network, expected: &BTreeSet<Prefix>) {
    for (node, here) in network.nodes.iter().enumerate() {
        let Some(speaker) = &here.speaker else {
            continue;
        };
        for family in Family::ALL {
            let page =
                speaker
                    .rib()
                    .routes(RouteFilter::All(family), Cursor::default(), usize::MAX);
            for view in page.items {
                let stale = view.paths.iter().any(|path| path.stale);
                assert!(
                    expected.contains(&view.prefix) && !stale,
                    "node {node} keeps {view:?} without a live source"
                );
            }
        }
        for prefix in here.fib.prefixes() {
            assert!(
                expected.contains(&prefix),
                "node {node} forwards to {prefix}, which nobody originates"
            );
        }
    }
}

/// Every forwarding entry leads to the origin, whatever member is chosen at each hop, and never in a circle.
pub fn forwarding_reaches_its_origin(network: &Network) {
    for origin in 0..network.plan.nodes.len() {
        if !network.plan.nodes[origin].originates || network.nodes[origin].speaker.is_none() {
            continue;
        }
        for prefix in [prefix4(origin), prefix6(origin)] {
            let mut states = vec![Visit::New; network.plan.nodes.len()];
            for node in 0..network.plan.nodes.len() {
                if network.nodes[node].speaker.is_some() {
                    walk(network, (origin, prefix, None), node, &mut states);
                }
            }
        }
    }
}

/// The same while `away` restarts: its forwarding table works on without it.
pub fn forwarding_reaches_its_origin_despite(network: &Network, away: usize) {
    assert!(
        network.nodes[away].speaker.is_none(),
        "node {away} is not away"
    );
    for origin in (0..network.plan.nodes.len()).filter(|origin| *origin != away) {
        let mut states = vec![Visit::New; network.plan.nodes.len()];
        for node in 0..network.plan.nodes.len() {
            let prefix = prefix4(origin);
            let reaches = node == origin || !network.nodes[node].fib.next_hops(prefix).is_empty();
            assert!(
                reaches,
                "node {node} lost {prefix} while node {away} restarts"
            );
            walk(network, (origin, prefix, Some(away)), node, &mut states);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

fn walk(
    network: &Network,
    what: (usize, Prefix, Option<usize>),
    node: usize,
    states: &mut [Visit],
) {
    let (origin, prefix, away) = what;
    match states[node] {
        Visit::Done => return,
        Visit::Open => panic!("{prefix} loops through node {node}"),
        Visit::New => states[node] = Visit::Open,
    }
    for next_hop in network.nodes[node].fib.next_hops(prefix) {
        let (next, _) = network.owner(next_hop.addr).expect("a link address");
        assert_ne!(next, node, "{prefix} at node {node} points at itself");
        let alive = away == Some(next) || network.nodes[next].speaker.is_some();
        assert!(alive, "{prefix} at node {node} points at a dead node");
        let goes_on = next == origin || !network.nodes[next].fib.next_hops(prefix).is_empty();
        assert!(
            goes_on,
            "{prefix} ends at node {next}, not at its origin {origin}"
        );
        if next != origin {
            walk(network, what, next, states);
        }
    }
    states[node] = Visit::Done;
}
