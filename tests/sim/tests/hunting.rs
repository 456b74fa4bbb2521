//! What the neighbours see of a change.

use core::time::Duration;

use causeway_bgp::types::Prefix;
use causeway_sim::network::Network;
use causeway_sim::plan::{LinkPlan, NodePlan, Plan, prefix4, prefix6};
use causeway_sim::{check, seed};

const LIMIT: Duration = Duration::from_secs(600);
const PARTNERS: usize = 8;

/// A destination behind `PARTNERS` equal routers of one AS, a node that uses them all, and an observer behind it:
/// 0 observer, 1 node, 2.. partners, last destination.
fn fan(seed: u64) -> Network {
    let node = |asn, maximum_paths, originates| NodePlan {
        maximum_paths,
        originates,
        ..NodePlan::new(asn)
    };
    let mut plan = Plan::default();
    plan.nodes.push(node(65_001, 1, true));
    plan.nodes.push(node(65_002, 64, true));
    for _ in 0..PARTNERS {
        plan.nodes.push(node(65_003, 1, false));
    }
    let destination = plan.nodes.len();
    plan.nodes.push(node(65_004, 64, true));
    let delay = Duration::from_millis(1);
    plan.links.push(LinkPlan::new(0, 1, delay));
    for partner in 2..2 + PARTNERS {
        plan.links.push(LinkPlan::new(1, partner, delay));
        plan.links.push(LinkPlan::new(partner, destination, delay));
    }
    let mut network = Network::new(plan, seed);
    network.run_to_rest(LIMIT);
    check::at_rest(&network);
    network
}

fn destination(network: &Network) -> [Prefix; 2] {
    let last = network.plan.nodes.len() - 1;
    [prefix4(last), prefix6(last)]
}

#[test]
fn the_death_of_equal_partners_is_not_told_to_anybody_who_keeps_the_same_path() {
    let mut network = fan(seed(11));
    for partner in 2..1 + PARTNERS {
        let before = network.nodes[0].updates_in[&0];
        network.stop(partner);
        network.run_to_rest(LIMIT);
        let told = network.nodes[0].updates_in[&0] - before;
        assert_eq!(
            told, 0,
            "partner {partner} died and the observer heard of it"
        );
        let members = network.nodes[1]
            .fib
            .next_hops(destination(&network)[0])
            .len();
        assert_eq!(members, 1 + PARTNERS - partner);
    }
    check::at_rest(&network);
}

#[test]
fn when_all_partners_die_at_once_the_observer_hears_one_withdrawal_per_family() {
    let mut network = fan(seed(12));
    let before = network.nodes[0].updates_in[&0];
    for partner in 2..2 + PARTNERS {
        network.stop(partner);
    }
    network.run_to_rest(LIMIT);
    assert_eq!(network.nodes[0].updates_in[&0] - before, 2);
    for prefix in destination(&network) {
        assert!(network.nodes[0].fib.next_hops(prefix).is_empty());
    }
}
