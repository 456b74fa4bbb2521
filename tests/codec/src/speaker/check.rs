//! What must hold after every step, and what must hold at rest.

use std::collections::{BTreeMap, BTreeSet};

use causeway_bgp::config::limits;
use causeway_bgp::rib::{Cursor, Ineligible, PathStatus, PathView, RouteFilter, RouteView};
use causeway_bgp::session::State;
use causeway_bgp::speaker::NeighborView;
use causeway_bgp::types::{Family, PeerId, Prefix};
use causeway_bgp::wire::Attributes;

use super::plan::REMOTES;
use super::remote::ip;
use super::world::World;

/// Connections of one peer at a time: one of each direction, and one that is about to be refused.
const MAX_CONNECTIONS_PER_REMOTE: usize = 64;

/// What holds after every step.
pub(super) fn always(world: &World) {
    let neighbors = world.speaker.neighbors(world.now);
    sessions(world, &neighbors);
    assert!(neighbors.len() <= limits::PEERS);
    assert!(world.speaker.refused().recent.len() <= limits::REFUSED_REMEMBERED);
    let waiting = world.fib.handed_over - world.fib.programmed;
    assert!(waiting <= limits::FIB_DELTAS_IN_FLIGHT);
    if world.drained {
        routes(world, &neighbors);
    }
}

/// What holds when everything slow has caught up. Returns how many routes peers were found to have been told.
pub(super) fn at_rest(world: &World) -> usize {
    forwarding(world);
    let neighbors = world.speaker.neighbors(world.now);
    neighbors.iter().map(|view| told(world, view)).sum()
}

fn sessions(world: &World, neighbors: &[NeighborView]) {
    for view in neighbors {
        let up = world.up.contains(&view.id);
        if world.drained {
            assert_eq!(
                view.state == State::Established,
                up,
                "{}: state and events differ",
                view.name
            );
        }
        if let Some(sockets) = view.sockets
            && world.drained
        {
            let socket = world
                .sockets
                .iter()
                .find(|s| (s.path.local, s.path.remote) == sockets);
            let socket = socket.unwrap_or_else(|| panic!("{} has no such socket", view.name));
            assert!(socket.is_started() || socket.dialing, "{}", view.name);
            assert_eq!(ip(socket.remote), view.address, "{}", view.name);
            if view.state == State::Established {
                assert_eq!(view.in_flight_bytes, socket.in_flight, "{}", view.name);
            }
        }
        for (kind, left) in &view.timers.running {
            assert!(
                left.as_secs() <= 24 * 3600,
                "{}: {kind:?} runs for {left:?}",
                view.name
            );
        }
    }
    for remote in REMOTES {
        let open = world
            .sockets
            .iter()
            .filter(|s| s.remote.address == remote.address);
        let started = open.filter(|s| s.is_started()).count();
        assert!(
            !world.drained || started <= 2,
            "{started} connections with {}",
            remote.address
        );
    }
    assert!(world.sockets.len() <= MAX_CONNECTIONS_PER_REMOTE * REMOTES.len());
}

/// Loc-RIB and Adj-RIBs-In against each other.
fn routes(world: &World, neighbors: &[NeighborView]) {
    let rib = world.speaker.rib();
    let states: BTreeMap<PeerId, &NeighborView> =
        neighbors.iter().map(|view| (view.id, view)).collect();
    for family in Family::ALL {
        let listed = rib.routes(RouteFilter::All(family), Cursor::default(), usize::MAX);
        let mut received: BTreeMap<PeerId, usize> = BTreeMap::new();
        let mut best = 0;
        for route in &listed.items {
            if world.held {
                undecided(route);
            } else {
                decided(world, route);
            }
            best += usize::from(has_best(route));
            for path in &route.paths {
                let Some(peer) = path.peer else {
                    continue;
                };
                *received.entry(peer).or_default() += 1;
                let up = states
                    .get(&peer)
                    .is_some_and(|view| view.state == State::Established);
                assert!(
                    up || path.stale || path.status == PathStatus::Ineligible(Ineligible::PeerDown),
                    "{} has a path of {peer:?}, which is down: {path:?}",
                    route.prefix
                );
            }
        }
        let summary = rib.summary().families[family.index()];
        assert_eq!(summary.routes, best, "{family}: routes counted and listed");
        for view in neighbors {
            let listed = rib.received(view.id, family, Cursor::default(), usize::MAX);
            let count = received.get(&view.id).copied().unwrap_or(0);
            assert_eq!(listed.items.len(), count, "{} {family}", view.name);
            let counts = rib.counts(view.id, family);
            assert_eq!(counts.received, count, "{} {family}", view.name);
            let stale = listed.items.iter().filter(|(_, path)| path.stale).count();
            assert_eq!(counts.stale, stale, "{} {family}: stale paths", view.name);
        }
    }
}

fn has_best(route: &RouteView) -> bool {
    route.paths.iter().any(|p| p.status == PathStatus::Best)
}

/// While selection waits, nothing is best and so nothing has lost against it.
fn undecided(route: &RouteView) {
    for path in &route.paths {
        let chosen = matches!(path.status, PathStatus::Best | PathStatus::Multipath);
        assert!(!chosen, "{}: {path:?} was chosen too early", route.prefix);
    }
}

/// One best path if any is eligible, and none that the first steps of RFC 4271 9.1 would have preferred.
fn decided(world: &World, route: &RouteView) {
    let prefix = route.prefix;
    for path in &route.paths {
        let undecided = path.status == PathStatus::Ineligible(Ineligible::Undecided);
        assert!(!undecided, "{prefix}: {path:?} waits for nothing");
    }
    let eligible: Vec<_> = route
        .paths
        .iter()
        .filter(|path| !matches!(path.status, PathStatus::Ineligible(_)))
        .collect();
    let best: Vec<_> = eligible
        .iter()
        .filter(|path| path.status == PathStatus::Best)
        .collect();
    assert_eq!(
        best.len(),
        usize::from(!eligible.is_empty()),
        "{prefix}: {:?}",
        route.paths
    );
    let Some(best) = best.first() else {
        return;
    };
    let peers: BTreeSet<_> = route.paths.iter().map(|path| path.peer).collect();
    assert_eq!(peers.len(), route.paths.len(), "{prefix}: one path a peer");
    for path in &eligible {
        assert!(
            rank(best) <= rank(path),
            "{prefix}: {best:?} was preferred to {path:?}"
        );
        let multipath = path.status == PathStatus::Multipath;
        assert!(
            !multipath || world.manner.multipath && rank(best) == rank(path),
            "{prefix}: {path:?} is used beside {best:?}"
        );
    }
}

/// Less is better: LOCAL_PREF, own origin, AS path, ORIGIN.
fn rank(path: &PathView) -> (u32, bool, usize, causeway_bgp::wire::Origin) {
    let attributes = path.imported.as_ref().unwrap_or(&path.received);
    let preference = attributes.local_pref.unwrap_or(100);
    (
        u32::MAX - preference,
        path.peer.is_some(),
        attributes.as_path.hops(),
        attributes.origin,
    )
}

/// The forwarding tables hold exactly the routes with a best path from somebody else.
fn forwarding(world: &World) {
    let rib = world.speaker.rib();
    let mut expected = BTreeSet::new();
    for family in Family::ALL {
        let listed = rib.routes(RouteFilter::All(family), Cursor::default(), usize::MAX);
        for route in listed.items {
            let best = route.paths.iter().find(|p| p.status == PathStatus::Best);
            if best.is_some_and(|path| path.peer.is_some()) {
                expected.insert(route.prefix);
            }
        }
    }
    let programmed: BTreeSet<_> = world.fib.routes.keys().copied().collect();
    assert_eq!(programmed, expected, "forwarding tables and Loc-RIB");
    let used: BTreeSet<_> = world.fib.routes.values().copied().collect();
    let defined: BTreeSet<_> = world.fib.sets.keys().copied().collect();
    assert_eq!(used, defined, "next-hop sets that nobody uses");
}

/// The peer knows exactly what Adj-RIB-Out says.
fn told(world: &World, view: &NeighborView) -> usize {
    let Some(sockets) = view.sockets.filter(|_| view.state == State::Established) else {
        return 0;
    };
    let socket = world
        .sockets
        .iter()
        .find(|s| (s.path.local, s.path.remote) == sockets);
    let Some(listener) = socket.and_then(|socket| socket.listener.as_ref()) else {
        return 0;
    };
    let mut expected: BTreeMap<Prefix, Attributes> = BTreeMap::new();
    for family in Family::ALL {
        let page = world
            .speaker
            .rib()
            .advertised(view.id, family, Cursor::default(), usize::MAX);
        expected.extend(
            page.items
                .into_iter()
                .map(|route| (route.prefix, (*route.attributes).clone())),
        );
    }
    let known: Vec<_> = listener.routes.keys().collect();
    assert_eq!(
        known,
        expected.keys().collect::<Vec<_>>(),
        "what {} was told and Adj-RIB-Out",
        view.name
    );
    if listener.is_exact() {
        assert_eq!(
            listener.routes, expected,
            "attributes sent to {}",
            view.name
        );
    }
    expected.len()
}
