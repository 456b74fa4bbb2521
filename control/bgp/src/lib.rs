//! The BGP-4 speaker core (RFC 4271 and what surrounds it), without sockets, clock, threads or randomness.
//!
//! A tour in data-flow order:
//!
//! 1. [`wire`] frames, decodes and encodes messages. A decode error *is* its RFC 7606 reaction.

#![forbid(unsafe_code)]

pub mod time;
pub mod types;
pub mod wire;
