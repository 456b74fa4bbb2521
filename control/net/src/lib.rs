//! What the node knows about its own network, and what follows for forwarding: links, addresses and neighbours in, ports,
//! resolved next hops and local prefixes out. Pure: facts come from netlink by way of the caller, nothing is asked for.
//!
//! A tour in data-flow order:
//!
//! 1. [`facts`] — what netlink tells: [`Link`], [`Address`], [`Neighbour`], one [`Fact`] at a time or all as a snapshot.
//! 2. [`config`] — which interfaces are ports, and the limits.
//! 3. [`resolve`] — a next hop becomes an [`Adjacency`], or the reason why not.
//! 4. [`Network`] — holds all of it and yields what changed.
//!
//! 5. [`kernel`] — what the kernel's own table shall hold, against what it holds.
//!
//! # Invariants
//!
//! * Everything is derived anew from the facts and compared with what was last told: no state depends on the order in
//!   which facts came.

#![forbid(unsafe_code)]

pub mod config;
pub mod facts;
mod fib;
mod foreign;
pub mod kernel;
mod network;
pub mod resolve;

pub use config::{Limits, NamePattern, NetworkConfig, PortRole, PortRule};
pub use facts::{
    Address, Fact, KernelRoute, Link, LinkKind, MacAddr, Neighbour, NeighbourState, RouteLeg,
    RouteTarget, Subnet,
};
pub use fib::{Hop, SetId};
pub use network::{Local, NetDelta, Network, NextHopFact, Overflow, Port, Probe};
pub use resolve::{Adjacency, Delivery, NextHopKey, Resolution, Unusable};
