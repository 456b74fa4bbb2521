//! The fuzz targets on the stable toolchain: the committed corpus, then mutations of it.
//!
//! `CAUSEWAY_TIER=full` runs ten million executions per target. `CAUSEWAY_FUZZ_EXECUTIONS` sets another number,
//! `CAUSEWAY_FUZZ_SEED` the seed; both are printed.

use std::path::PathBuf;

use causeway_codec_tests::{mutate, targets};

/// Executions per target in a normal test run.
const DEFAULT_EXECUTIONS: u64 = 50_000;
/// Executions per target in the full tier.
const FULL_EXECUTIONS: u64 = 10_000_000;
/// Seed of a normal test run.
const DEFAULT_SEED: u64 = 4271;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| std::fs::read(path).unwrap())
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

fn replay_and_mutate(name: &str) {
    let target = targets::ALL
        .into_iter()
        .find(|target| target.name == name)
        .unwrap();
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no seeds for {name}");
    for input in &corpus {
        (target.run)(input);
    }
    let full = std::env::var("CAUSEWAY_TIER").is_ok_and(|tier| tier == "full");
    let executions = if full {
        FULL_EXECUTIONS
    } else {
        DEFAULT_EXECUTIONS
    };
    let executions = number("CAUSEWAY_FUZZ_EXECUTIONS", executions);
    let seed = number("CAUSEWAY_FUZZ_SEED", DEFAULT_SEED);
    println!("{name}: {executions} executions, CAUSEWAY_FUZZ_SEED={seed}");
    let report = mutate::run(target.run, &corpus, executions, seed);
    println!("{name}: {:.0} executions/s", report.per_second());
}

#[test]
fn arbitrary_streams_are_decoded_alike_however_they_are_cut() {
    replay_and_mutate("decode_message");
}

#[test]
fn arbitrary_updates_come_back_as_they_were_understood() {
    replay_and_mutate("decode_update");
}

#[test]
fn arbitrary_opens_come_back_as_they_were_understood() {
    replay_and_mutate("decode_open");
}
