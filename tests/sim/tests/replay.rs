//! What was recorded happens again, bit for bit.

use core::time::Duration;

use causeway_bgp::config::ShutdownMessage;
use causeway_bgp::record::{Recording, Replay};
use causeway_bgp::speaker::Command;
use causeway_bgp::time::Time;
use causeway_random::Random;
use causeway_sim::network::Network;
use causeway_sim::plan::EndPolicy;
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
    // The recorded one itself: its configuration, what it originates, an operator.
    let (link, end) = network.links_of(2)[1];
    let prefer = EndPolicy {
        local_pref: Some(200),
        ..EndPolicy::default()
    };
    network.set_policy(link, end, prefer);
    network.set_originates(2, false);
    let peer = network.nodes[2]
        .speaker
        .as_ref()
        .unwrap()
        .neighbors(network.now)[0]
        .id;
    let message = ShutdownMessage::new("by hand");
    network.command(2, Command::Reset { peer, message });
    network.run_to_rest(LIMIT);
    network
}

#[test]
fn a_recorded_speaker_does_the_same_again() {
    let mut network = eventful(seed(41));
    let recording = network.nodes[2].recording.as_mut().unwrap();
    let text = recording.text();
    let read: Recording = text.parse().unwrap();
    let configs = &recording.configs;
    let mut replay = Replay::new(read.seed, |text| {
        let index: usize = text.trim().parse().map_err(|_| text.to_owned())?;
        Ok(configs[index].clone())
    });
    let mut replayed = Vec::new();
    for line in read.lines {
        let (outputs, difference) = replay.apply(line).unwrap();
        assert_eq!(difference, None);
        replayed.extend(outputs);
    }
    let recorded = &recording.outputs;
    assert!(recorded.len() > 100, "only {} outputs", recorded.len());
    // The shell does not record its last poll before the text is taken: it may go on.
    assert!(recorded.len() - replayed.len() < 10);
    for (index, (recorded, replayed)) in recorded.iter().zip(&replayed).enumerate() {
        assert_eq!(recorded, replayed, "output {index}");
    }
    for happened in [
        "configure",
        "originate",
        "command",
        "received",
        "timeout",
        "closed",
    ] {
        assert!(
            text.contains(&format!(" {happened}")),
            "no {happened} in it"
        );
    }
}

#[test]
fn a_speaker_that_was_given_something_else_is_found_out() {
    let mut network = eventful(seed(43));
    let recording = network.nodes[2].recording.as_mut().unwrap();
    let read: Recording = recording.text().parse().unwrap();
    let mut configs = recording.configs.clone();
    for config in &mut configs {
        config.rib.default_local_pref += 1;
        config.peers.pop();
    }
    let mut replay = Replay::new(read.seed, |text| {
        Ok(configs[text.trim().parse::<usize>().unwrap()].clone())
    });
    let outcome = read
        .lines
        .into_iter()
        .map(|line| replay.apply(line))
        .find(|outcome| !matches!(outcome, Ok((_, None))));
    let Some(Ok((_, Some(difference)))) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(difference.at, Time::ZERO);
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
