//! Networks that come to rest must hold exactly what a plain computation says, after whatever happened to them.

use core::time::Duration;

use causeway_random::Random;
use causeway_sim::network::Network;
use causeway_sim::plan::Plan;
use causeway_sim::{check, full_tier, seed, topology};

const LIMIT: Duration = Duration::from_secs(1_200);

fn settle(network: &mut Network) {
    network.run_to_rest(LIMIT);
    check::at_rest(network);
}

fn at_rest(plan: Plan, seed: u64) -> Network {
    let mut network = Network::new(plan, seed);
    settle(&mut network);
    network
}

#[test]
fn a_full_mesh_agrees_with_the_model() {
    let seed = seed(1);
    at_rest(topology::mesh(8, &mut Random::new(seed)), seed);
}

#[test]
fn random_networks_agree_with_the_model() {
    let first = seed(100);
    for seed in first..first + 5 {
        at_rest(topology::random_graph(20, 15, &mut Random::new(seed)), seed);
    }
}

#[test]
fn a_fabric_with_equal_paths_agrees_with_the_model() {
    let seed = seed(2);
    let clos = topology::Clos {
        pods: 3,
        leaves: 3,
        spines: 2,
        supers: 2,
    };
    at_rest(clos.plan(&mut Random::new(seed)), seed);
}

#[test]
fn policies_decide_as_the_model_says() {
    let first = seed(200);
    for seed in first..first + 5 {
        let mut random = Random::new(seed);
        let mut plan = topology::random_graph(20, 25, &mut random);
        topology::vary(&mut plan, &mut random);
        for node in &mut plan.nodes {
            node.always_compare_med = random.one_in(2);
            node.maximum_paths = if random.one_in(2) { 4 } else { 1 };
        }
        at_rest(plan, seed);
    }
}

#[test]
fn med_decides_between_routers_of_one_neighbouring_as() {
    let seed = seed(6);
    let mut random = Random::new(seed);
    let clos = topology::Clos {
        pods: 3,
        leaves: 3,
        spines: 3,
        supers: 2,
    };
    let mut plan = clos.plan(&mut random);
    topology::vary(&mut plan, &mut random);
    at_rest(plan, seed);
}

#[test]
fn reflection_agrees_with_the_model() {
    let seed = seed(3);
    let mut network = at_rest(topology::reflection(2, 6, &mut Random::new(seed)), seed);
    // Without one of the reflectors everything still goes through the other one.
    network.stop(0);
    settle(&mut network);
}

#[test]
fn whatever_happens_the_network_comes_to_rest_as_the_model_says() {
    let seed = seed(4);
    let mut random = Random::new(seed);
    let mut plan = topology::random_graph(16, 14, &mut random);
    for node in &mut plan.nodes {
        node.always_compare_med = random.one_in(2);
        node.maximum_paths = if random.one_in(2) { 4 } else { 1 };
    }
    let mut network = at_rest(plan, seed);
    let rounds = if full_tier() { 5_000 } else { 100 };
    for round in 0..rounds {
        for _ in 0..=random.index(3) {
            disturb(&mut network, &mut random);
            network.run(Duration::from_millis(random.bits() % 3_000));
        }
        println!("round {round}");
        settle(&mut network);
    }
}

fn disturb(network: &mut Network, random: &mut Random) {
    let link = random.index(network.plan.links.len());
    let node = random.index(network.plan.nodes.len());
    match random.index(7) {
        0 => network.set_link(link, false),
        1 | 2 => network.set_link(link, true),
        3 => network.lose_session(link),
        4 => {
            if network.nodes[node].speaker.is_some() {
                network.restart(node, false, Duration::from_millis(random.bits() % 2_000));
            }
        }
        5 => {
            let originates = network.plan.nodes[node].originates;
            network.set_originates(node, !originates);
        }
        _ => {
            // Preferring providers at random can have several stable states; these cannot.
            let policy = topology::any_policy(random);
            network.set_policy(link, random.index(2), policy);
        }
    }
}

/// 200 speakers, or 2,000 in the full tier.
#[test]
fn a_large_fabric_agrees_with_the_model_before_and_after_losses() {
    let seed = seed(5);
    let mut random = Random::new(seed);
    let clos = if full_tier() {
        topology::Clos {
            pods: 50,
            leaves: 36,
            spines: 4,
            supers: 8,
        }
    } else {
        topology::Clos {
            pods: 8,
            leaves: 20,
            spines: 4,
            supers: 2,
        }
    };
    println!("{} speakers", clos.nodes());
    let mut plan = clos.plan(&mut random);
    // Every leaf of the small fabric originates; of the large one one in 36, to keep time and memory within bounds.
    for (node, plan) in plan.nodes.iter_mut().enumerate() {
        plan.originates &= !full_tier() || node % 36 == 0;
    }
    let mut network = Network::new(plan, seed);
    settle(&mut network);
    for _ in 0..4 {
        network.set_link(random.index(network.plan.links.len()), false);
    }
    network.restart(clos.spine(0, 0), false, Duration::from_millis(500));
    settle(&mut network);
}
