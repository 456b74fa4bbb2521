//! Peers that misbehave hurt nobody but themselves.

use core::net::Ipv4Addr;
use core::time::Duration;

use bytes::Bytes;
use causeway_bgp::origin::Originated;
use causeway_bgp::session::State;
use causeway_bgp::speaker::ResetCause;
use causeway_bgp::types::Prefix;
use causeway_random::Random;
use causeway_sim::network::Network;
use causeway_sim::plan::{LinkPlan, NodePlan, Plan, prefix4};
use causeway_sim::{check, seed};

const LIMIT: Duration = Duration::from_secs(600);

/// A hub with three neighbours: 0 hub, 1 the troublemaker, 2 and 3 good ones.
fn star(seed: u64) -> Network {
    let mut plan = Plan::default();
    for node in 0..4 {
        plan.nodes.push(NodePlan::new(65_001 + node));
    }
    for node in 1..4 {
        plan.links
            .push(LinkPlan::new(0, node, Duration::from_millis(1)));
    }
    Network::new(plan, seed)
}

fn many(count: u32) -> Vec<Originated> {
    (0..count)
        .map(|index| {
            let addr = Ipv4Addr::from_bits(0x6440_0000 + index);
            let mut originated = Originated::new(Prefix::new(addr.into(), 32).unwrap());
            // Few prefixes share attributes, so that messages stay small and many.
            originated.med = Some(index / 4);
            originated
        })
        .collect()
}

#[test]
fn a_peer_that_does_not_read_makes_only_its_own_updates_wait_and_is_cut() {
    let mut network = star(seed(51));
    network.run_to_rest(LIMIT);
    network.nodes[1].stuck = true;
    network.originate(2, many(60_000));
    network.run(Duration::from_secs(30));
    assert_eq!(
        network.nodes[3]
            .fib
            .prefixes()
            .filter(|p| p.len() == 32)
            .count(),
        60_000
    );
    let most = network.nodes[0].most_in_flight;
    assert!(
        most > 256 * 1024,
        "the stuck connection filled up: {most} bytes"
    );
    network.run(Duration::from_secs(600));
    let hub = network.nodes[0].speaker.as_ref().unwrap();
    for view in hub.neighbors(network.now) {
        let stuck = network.owner(view.address).unwrap().0 == 1;
        if stuck {
            let cause = view.last_reset.map(|reset| reset.cause);
            let cut = matches!(
                cause,
                Some(
                    ResetCause::SendHoldTimer
                        | ResetCause::HoldTimer
                        | ResetCause::Transport(_)
                        | ResetCause::NotificationReceived(_)
                )
            );
            assert!(cut, "{cause:?}");
        } else {
            assert_eq!((view.state, view.flaps), (State::Established, 0));
        }
    }
}

#[test]
fn a_peer_that_sends_garbage_is_answered_and_backed_off_and_the_others_go_on() {
    let seed = seed(52);
    let mut random = Random::new(seed);
    let mut network = star(seed);
    network.set_puppet(
        1,
        Box::new(move |_| {
            let bytes: Vec<u8> = (0..1 + random.index(200))
                .map(|_| random.bits() as u8)
                .collect();
            vec![Bytes::from(bytes)]
        }),
    );
    network.run(Duration::from_secs(1_200));
    let hub = network.nodes[0].speaker.as_ref().unwrap();
    for view in hub.neighbors(network.now) {
        let bad = network.owner(view.address).unwrap().0 == 1;
        if bad {
            let opens = view.counters.sent.open;
            assert!((5..60).contains(&opens), "{opens} attempts in 20 minutes");
            assert!(matches!(
                view.last_reset.unwrap().cause,
                ResetCause::MalformedMessage(_)
            ));
        } else {
            assert_eq!((view.state, view.flaps), (State::Established, 0));
        }
    }
}

#[test]
fn a_session_that_is_reset_every_second_is_backed_off_and_the_others_go_on() {
    let mut network = star(seed(53));
    network.run_to_rest(LIMIT);
    for _ in 0..300 {
        network.lose_session(0);
        network.run(Duration::from_secs(1));
    }
    let hub = network.nodes[0].speaker.as_ref().unwrap();
    let views = hub.neighbors(network.now);
    let flapping = views
        .iter()
        .find(|view| network.owner(view.address).unwrap().0 == 1)
        .unwrap();
    assert!(
        (4..60).contains(&flapping.flaps),
        "{} flaps in 300 s",
        flapping.flaps
    );
    assert!(!network.nodes[3].fib.next_hops(prefix4(2)).is_empty());
    network.run(Duration::from_secs(200));
    network.run_to_rest(LIMIT);
    check::at_rest(&network);
}
