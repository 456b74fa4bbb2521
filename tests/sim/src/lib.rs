//! Hundreds of speakers in one process on virtual time: whole networks of the public API of `causeway-bgp`, with delay,
//! loss of sessions, restarts and policy changes, everything from one seed.
//!
//! - [`plan`] says what a network is made of, and [`topology`] builds fabrics, random meshes and reflection from a seed.
//! - [`network`] moves bytes and time: links with delay, connections with real framing; [`fib`] is what the speakers program.
//! - [`model`] computes what every Loc-RIB must hold, by iterating a plain path-vector computation to its fixpoint.
//! - [`check`] compares, and follows the forwarding tables hop by hop.
//!
//! A failing test prints its seed; `CAUSEWAY_SEED=N` runs that one again. `CAUSEWAY_TIER=full` runs the large sizes.

pub mod check;
pub mod fib;
pub mod model;
pub mod network;
pub mod plan;
pub mod topology;

/// The seed of this run: `CAUSEWAY_SEED`, or the test's own. Printed, so that a failure names it.
#[must_use]
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("CAUSEWAY_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default);
    println!("seed {seed} (repeat with CAUSEWAY_SEED={seed})");
    seed
}

/// Whether the large sizes are wanted.
#[must_use]
pub fn full_tier() -> bool {
    std::env::var("CAUSEWAY_TIER").is_ok_and(|tier| tier == "full")
}
