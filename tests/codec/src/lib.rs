//! What the codec tests and the fuzz targets share.
//!
//! - [`targets`]: one function per fuzz target. It takes arbitrary bytes and panics if a property does not hold.
//! - [`mutate`]: a plain deterministic loop over mutated seeds, for machines without cargo-fuzz.
//! - [`session`]: decoders that have seen an OPEN.
//! - [`speaker`]: the target of the whole speaker.

#![forbid(unsafe_code)]

pub mod mutate;
pub mod session;
pub mod speaker;
pub mod targets;
