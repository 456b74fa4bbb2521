//! What was recorded happens again, bit for bit.

use core::time::Duration;

use causeway_bgp::record::{Line, Replay};
use causeway_bgp::speaker::Output;
use causeway_bgp::time::Time;
use causeway_sim::network::Network;
use causeway_sim::plan::EndPolicy;
use causeway_sim::random::Random;
use causeway_sim::{seed, topology};

const LIMIT: Duration = Duration::from_secs(900);

/// A node with four sessions, through collisions, losses, a restart of a neighbour and much routing.
fn eventful(seed: u64) -> Network {
    let plan = topology::mesh(5, &mut Random::new(seed));
    let mut network = Network::new(plan, seed);
    network.record(2);
    network.run_to_rest(LIMIT);
    let (link, _) = network.links_of(2)[0];
    network.lose_session(link);
    network.run(Duration::from_secs(1));
    network.restart(4, false, Duration::from_millis(300));
    network.set_policy(
        0,
        0,
        EndPolicy {
            silent: true,
            ..EndPolicy::default()
        },
    );
    network.run_to_rest(LIMIT);
    network
}

fn replay(network: &Network) -> Vec<Output> {
    let recording = network.nodes[2].recording.as_ref().unwrap();
    let text: Vec<String> = recording.steps.iter().map(Line::to_string).collect();
    let config = recording.config.clone().unwrap();
    let mut replay = Replay::new(Time::ZERO, config, recording.seed).unwrap();
    text.iter()
        .flat_map(|line| replay.apply(line.parse().unwrap()))
        .collect()
}

#[test]
fn a_recorded_speaker_does_the_same_again() {
    let network = eventful(seed(41));
    let recorded = &network.nodes[2].recording.as_ref().unwrap().outputs;
    let replayed = replay(&network);
    assert!(recorded.len() > 100, "only {} outputs", recorded.len());
    for (index, (recorded, replayed)) in recorded.iter().zip(&replayed).enumerate() {
        assert_eq!(recorded, replayed, "output {index}");
    }
    assert_eq!(recorded.len(), replayed.len());
}

#[test]
fn the_same_seed_makes_the_same_network() {
    let seed = seed(42);
    let (first, second) = (eventful(seed), eventful(seed));
    assert_eq!(first.now, second.now);
    for (a, b) in first.nodes.iter().zip(&second.nodes) {
        assert_eq!(a.events, b.events);
    }
}
