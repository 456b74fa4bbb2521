//! The fuzz targets on the stable toolchain: the committed corpus, then mutations of it.
//!
//! `CAUSEWAY_TIER=full` runs ten million executions per decoder and a million of the speaker. `CAUSEWAY_FUZZ_EXECUTIONS`
//! sets another number, `CAUSEWAY_FUZZ_SEED` the seed; both are printed. `CAUSEWAY_FUZZ_INPUT` runs one input only, in
//! hexadecimal as a failure prints it; `CAUSEWAY_FUZZ_TRACE=1` prints what the speaker is told and says.

use std::path::PathBuf;

use causeway_codec_tests::{mutate, speaker, targets};

/// Executions of a decoder in a normal test run and in the full tier.
const DECODER_EXECUTIONS: (u64, u64) = (50_000, 10_000_000);
/// The same for the speaker, which does some hundred things in each.
const SPEAKER_EXECUTIONS: (u64, u64) = (1_000, 1_000_000);
/// Seed of a normal test run.
const DEFAULT_SEED: u64 = 4271;

fn directory(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = directory(target);
    let entries = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn bytes(digits: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16);
    (0..digits.len() / 2)
        .map(|index| octet(index * 2).expect("hexadecimal digits"))
        .collect()
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
        Err(_) => default,
    }
}

fn replay_and_mutate(name: &str, (few, many): (u64, u64)) {
    let target = targets::ALL
        .into_iter()
        .find(|target| target.name == name)
        .unwrap();
    if let Ok(digits) = std::env::var("CAUSEWAY_FUZZ_INPUT") {
        return (target.run)(&bytes(&digits));
    }
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no seeds for {name}");
    for input in &corpus {
        mutate::shown_if_it_fails(target.run, input);
    }
    let full = std::env::var("CAUSEWAY_TIER").is_ok_and(|tier| tier == "full");
    let executions = number("CAUSEWAY_FUZZ_EXECUTIONS", if full { many } else { few });
    let seed = number("CAUSEWAY_FUZZ_SEED", DEFAULT_SEED);
    println!("{name}: {executions} executions, CAUSEWAY_FUZZ_SEED={seed}");
    let report = mutate::run(target.run, &corpus, executions, seed);
    println!("{name}: {:.0} executions/s", report.per_second());
}

#[test]
fn arbitrary_streams_are_decoded_alike_however_they_are_cut() {
    replay_and_mutate("decode_message", DECODER_EXECUTIONS);
}

#[test]
fn arbitrary_updates_come_back_as_they_were_understood() {
    replay_and_mutate("decode_update", DECODER_EXECUTIONS);
}

#[test]
fn arbitrary_opens_come_back_as_they_were_understood() {
    replay_and_mutate("decode_open", DECODER_EXECUTIONS);
}

#[test]
fn whatever_happens_to_a_speaker_it_stays_consistent() {
    replay_and_mutate("speaker", SPEAKER_EXECUTIONS);
}

/// `CAUSEWAY_BLESS=1` writes them.
#[test]
fn the_seeds_of_the_speaker_are_in_its_corpus() {
    let directory = directory("speaker");
    for (name, bytes) in speaker::seeds::all() {
        let path = directory.join(name);
        if std::env::var_os("CAUSEWAY_BLESS").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let stored = std::fs::read(&path).unwrap_or_default();
        assert_eq!(stored, bytes, "{} is another one", path.display());
    }
}

#[test]
fn the_seeds_of_the_speaker_reach_what_they_are_there_for() {
    let mut events = std::collections::BTreeSet::new();
    let (mut fib_changes, mut routes_compared) = (0, 0);
    for (name, bytes) in speaker::seeds::all() {
        let seen = speaker::observe(&bytes);
        println!("{name}: {seen:?}");
        events.extend(seen.events);
        fib_changes += seen.fib_changes;
        routes_compared += seen.routes_compared;
    }
    let expected = [
        "AttemptFailed",
        "EndOfRib",
        "IdleHold",
        "MalformedUpdate",
        "MaxPrefixesWarning",
        "PeerAdded",
        "PeerRemoved",
        "Refused",
        "Rejected",
        "SelectionResumed",
        "SessionDown",
        "SessionUp",
        "StaleSwept",
        "StateChanged",
    ];
    let events: Vec<_> = events.iter().map(String::as_str).collect();
    assert_eq!(events, expected, "every event but none that is new");
    assert!(
        fib_changes > 50,
        "{fib_changes} changes of the forwarding tables"
    );
    assert!(
        routes_compared > 50,
        "{routes_compared} routes compared with Adj-RIB-Out"
    );
}
