//! Graceful restart in a network: forwarding goes on while a speaker is away.

use core::time::Duration;

use causeway_bgp::speaker::SpeakerEvent;
use causeway_sim::network::Network;
use causeway_sim::plan::{LinkPlan, NodePlan, Plan};
use causeway_sim::{check, seed};

const LIMIT: Duration = Duration::from_secs(900);

/// Five nodes in a row; the one in the middle restarts.
fn row(graceful: bool, seed: u64) -> Network {
    let mut plan = Plan::default();
    for node in 0..5 {
        plan.nodes.push(NodePlan {
            graceful,
            ..NodePlan::new(65_001 + node)
        });
    }
    for node in 0..4 {
        plan.links
            .push(LinkPlan::new(node, node + 1, Duration::from_millis(2)));
    }
    let mut network = Network::new(plan, seed);
    network.run_to_rest(LIMIT);
    check::at_rest(&network);
    network
}

fn removals(network: &Network) -> usize {
    network.nodes.iter().map(|node| node.removals.len()).sum()
}

#[test]
fn nobody_removes_a_route_while_a_speaker_restarts_gracefully() {
    let mut network = row(true, seed(21));
    network.restart(2, true, Duration::from_secs(10));
    network.run(Duration::from_secs(9));
    check::forwarding_reaches_its_origin_despite(&network, 2);
    network.run_to_rest(LIMIT);
    assert_eq!(removals(&network), 0);
    check::at_rest(&network);
    let resumed = network.nodes[2]
        .events
        .iter()
        .any(|(_, event)| matches!(event, SpeakerEvent::SelectionResumed { complete: true }));
    assert!(resumed, "selection waited for End-of-RIB, and got it");
}

#[test]
fn without_graceful_restart_routes_go_and_come_back() {
    let mut network = row(false, seed(22));
    network.restart(2, false, Duration::from_secs(10));
    network.run_to_rest(LIMIT);
    assert!(removals(&network) > 0);
    check::at_rest(&network);
}

#[test]
fn a_prefix_withdrawn_during_the_restart_is_gone_afterwards() {
    let mut network = row(true, seed(23));
    network.restart(2, true, Duration::from_secs(10));
    network.run(Duration::from_secs(2));
    network.set_originates(4, false);
    network.run_to_rest(LIMIT);
    check::at_rest(&network);
}

#[test]
fn stale_routes_go_when_the_speaker_never_comes_back() {
    let mut network = row(true, seed(24));
    network.stop(2);
    network.run(Duration::from_secs(60));
    assert_eq!(removals(&network), 0, "kept for the restart time");
    network.run(Duration::from_secs(120));
    network.run_to_rest(LIMIT);
    check::at_rest(&network);
}
