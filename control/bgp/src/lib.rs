//! The BGP-4 speaker core (RFC 4271 and what surrounds it), without sockets, clock, threads or randomness.
//!
//! A tour in data-flow order:
//!
//! 1. [`wire`] frames, decodes and encodes messages. A decode error *is* its RFC 7606 reaction.
//! 2. [`policy`] accepts, rejects and changes routes, and says which rule did.
//! 3. [`rib`] keeps paths, decides, and yields [`fib`] changes and UPDATEs; [`origin`] is what this speaker originates.
//! 4. [`session`] is the state machine of each peer; [`config`] says how it shall behave.
//! 5. [`speaker`] owns peers and RIB. It is what a shell or a simulation drives.
//!    [`record`] writes down what happened to one and does it again.

#![forbid(unsafe_code)]

pub mod config;
pub mod fib;
pub mod origin;
pub mod policy;
pub mod record;
pub mod rib;
pub mod session;
pub mod speaker;
pub mod time;
pub mod types;
pub mod wire;
