//! The BGP-4 speaker core (RFC 4271 and what surrounds it), without sockets, clock, threads or randomness.
//!
//! A tour in data-flow order:
//!
//! 1. [`wire`] frames, decodes and encodes messages. A decode error *is* its RFC 7606 reaction.
//! 2. [`policy`] accepts, rejects and changes routes, and says which rule did.
//! 3. [`rib`] keeps paths, decides, and yields [`fib`] changes and UPDATEs; [`origin`] is what this speaker originates.

#![forbid(unsafe_code)]

pub mod fib;
pub mod origin;
pub mod policy;
pub mod rib;
pub mod time;
pub mod types;
pub mod wire;
