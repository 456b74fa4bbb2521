//! The kernel side's keeper: loads the eBPF object, pins its maps, attaches its programs and writes its entries.
//!
//! A tour in the order of a start:
//!
//! 1. [`preflight`](check_host) — may this process do that, and can this kernel? One sentence if not.
//! 2. [`Datapath::load`] — opens the pinned maps that still fit, makes the others, loads the programs.
//! 3. [`Datapath::attach`] — XDP on an interface, by a pinned link that outlives the process; an attached older program is
//!    replaced atomically.
//! 4. [`Datapath::apply`] — carries out the planner's operations, in batches, idempotently.
//! 5. [`Datapath::dump`], [`Datapath::counters`] — what the kernel really holds.
//!
//! # Invariants
//!
//! * Nothing here decides what should be in a map: that is the planner's.
//! * Every raw `bpf(2)` call is in [`sys`]; no other module is `unsafe`.
//! * Dropping a [`Datapath`] stops nothing: pins keep maps and programs at work until [`Datapath::unload`].

#![deny(unsafe_code)]

mod attach;
mod datapath;
mod dump;
mod error;
mod migrate;
#[cfg(feature = "embedded-object")]
mod object;
mod pins;
mod preflight;
mod sys;
mod tc;

pub use attach::{AttachMode, Attachment, XdpMode};
pub use datapath::{Datapath, LoadOptions, MapUsage};
pub use error::{ApplyError, Error, KeyFailure};
#[cfg(feature = "embedded-object")]
pub use object::OBJECT;
pub use pins::{DEFAULT_PIN_DIR, Recreated};
pub use preflight::check_host;
pub use tc::{TcHook, TcProgram};
