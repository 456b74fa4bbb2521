//! A plain deterministic fuzzing loop: pick a seed, change it a little, run the target. Slower to find its way than
//! coverage-guided fuzzing, but it needs nothing but the stable toolchain and is the same everywhere.

use std::panic;
use std::time::{Duration, Instant};

use causeway_random::Random;

/// Longest input in bytes.
const MAX_INPUT_BYTES: usize = 8192;
/// Most changes to one input.
const MAX_CHANGES: u64 = 8;

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Executions of the target.
    pub executions: u64,
    /// Time it took.
    pub elapsed: Duration,
}

impl Report {
    /// Executions per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        let executions = self.executions as f64;
        executions / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Runs the target on mutated seeds. The inputs are a function of the corpus and the seed.
pub fn run(target: fn(&[u8]), corpus: &[Vec<u8>], executions: u64, seed: u64) -> Report {
    let start = Instant::now();
    let mut random = Random::new(seed);
    let mut input = Vec::new();
    for _ in 0..executions {
        input.clear();
        if let Some(base) = random.pick(corpus) {
            input.extend_from_slice(base);
        }
        for _ in 0..=random.below(MAX_CHANGES) {
            change(&mut input, corpus, &mut random);
        }
        input.truncate(MAX_INPUT_BYTES);
        shown_if_it_fails(target, &input);
    }
    Report {
        executions,
        elapsed: start.elapsed(),
    }
}

/// Runs the target; what it panics on is printed, as small as leaving out parts makes it.
pub fn shown_if_it_fails(target: fn(&[u8]), input: &[u8]) {
    let Err(panic) = panic::catch_unwind(|| target(input)) else {
        return;
    };
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let small = smaller(target, input.to_vec());
    panic::set_hook(hook);
    let hex: String = small.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("fails on {hex}");
    panic::resume_unwind(panic);
}

/// Leaves out halves, quarters and so on for as long as it fails without them.
fn smaller(target: fn(&[u8]), mut input: Vec<u8>) -> Vec<u8> {
    let mut length = input.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at < input.len() {
            let end = (at + length).min(input.len());
            let mut shorter = input.clone();
            shorter.drain(at..end);
            if panic::catch_unwind(|| target(&shorter)).is_err() {
                input = shorter;
            } else {
                at = end;
            }
        }
        length /= 2;
    }
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    // Values at which lengths and codes change their meaning.
    const INTERESTING: [u8; 12] = [0, 1, 2, 3, 4, 8, 16, 24, 32, 33, 128, 255];

    let at = random.index(input.len() + 1);
    match random.below(8) {
        0 => input.insert(at, random.byte()),
        1 if at < input.len() => {
            input.remove(at);
        }
        2 if at < input.len() => input[at] ^= 1 << random.below(8),
        3 if at < input.len() => input[at] = random.byte(),
        4 if at < input.len() => input[at] = INTERESTING[random.index(INTERESTING.len())],
        5 if at < input.len() => {
            input[at] = input[at].wrapping_add(1).wrapping_sub(random.byte() & 2)
        }
        // A piece of this input or of another one, somewhere else.
        6 => {
            let other = random.pick(corpus).unwrap_or(input);
            let from = random.index(other.len() + 1);
            let length = random.index((other.len() - from).min(64) + 1);
            let piece = other[from..from + length].to_vec();
            input.splice(at..at, piece);
        }
        7 => {
            let end = at + random.index((input.len() - at).min(64) + 1);
            input.drain(at..end);
        }
        _ => {}
    }
}
