//! What the eBPF programs compute: which packets are forwarded, where to, and with what headers.
//!
//! A tour in the order a packet meets it:
//!
//! 1. [`Context`] — the packet as an entry point sees it; [`Tables`] — the maps.
//! 2. [`forward`] — the pipeline: port, headers, route, group, next hop; then the hook sends.
//! 3. [`family`] — all that differs between IPv4 and IPv6.
//! 4. [`hash`], [`checksum`] — arithmetic.
//! 5. [`Verdict`] — what became of the packet.
//!
//! The entry points and the maps are in `src/bin/causeway.rs`, which only builds for `bpfel-unknown-none`. Everything
//! here also builds and is tested on the host.
//!
//! # Invariants
//!
//! * A packet that is not forwarded is not modified: whatever can fail comes before the first write.
//! * No function here is called, all are inlined: the verifier of old kernels sees one function, and nothing returns
//!   an aggregate through a BPF calling convention that has no place for one.
//! * No loop but the bounded one over a slot's members, no panic, no allocation.

#![no_std]
#![forbid(unsafe_code)]

pub mod checksum;
mod context;
pub mod family;
pub mod hash;
pub mod header;
mod pipeline;

pub use context::{Context, Tables};
pub use pipeline::{Verdict, forward};

#[cfg(test)]
extern crate std;
