//! What the kernel knows about the network, over route netlink (RFC 3549): a small codec of our own and sockets.
//!
//! A tour in data-flow order:
//!
//! 1. [`wire`] frames messages and attributes, bounds-checked: bytes in, slices out.
//! 2. [`codec`] turns links, addresses and neighbours into [`causeway_net::Fact`]s, and builds the few requests we make.
//! 3. [`Monitor`] streams them: everything first, then every change; after an overrun, everything again.
//! 4. [`Neighbours`] has the kernel resolve neighbours and keep them resolved.
//! 5. [`RouteEvents`] lists routes and next-hop objects and tells what others change; [`RouteWriter`] makes ours.
//!
//! Sockets belong to the network namespace of the thread that opens them.

#![deny(unsafe_code)]

mod carrier;
pub mod codec;
mod compat;
mod error;
mod monitor;
mod neighbours;
mod routes;
mod socket;
pub mod wire;

pub use codec::route::RouteNews;
pub use error::{Error, KernelError};
pub use monitor::{Event, Monitor, MonitorConfig};
pub use neighbours::Neighbours;
pub use routes::{MAX_BATCH, RouteEvent, RouteEvents, RouteWriter};
