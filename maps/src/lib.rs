//! What the kernel and userspace agree on: the maps, their keys and values, and the reasons a packet was forwarded or
//! passed on.
//!
//! A tour in the order a packet meets it:
//!
//! 1. [`Port`] — may this interface forward, and which MAC address is its own?
//! 2. [`RouteKey4`], [`RouteKey6`] — the longest-prefix-match tries, prefix → [`GroupId`].
//! 3. [`Group`] — the ECMP set, group → [`NextHopId`] by flow hash.
//! 4. [`NextHop`] — interface, MAC addresses and MTU to send with.
//! 5. [`Reason`] — what became of it, counted per CPU in [`Counter`]s.
//!
//! [`catalogue`] lists every map with its name, capacity and layout hash: the one place for all three.
//!
//! # Invariants
//!
//! * Every type that crosses the boundary is [`bytemuck::Pod`]: no padding, no invalid bit patterns, fixed size.
//! * Addresses and MAC addresses are byte arrays in network order; every other integer is in host order.
//! * This crate knows neither aya nor an allocator. It builds for `bpfel-unknown-none` and for the host.

#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]

pub mod catalogue;
mod layout;
mod reason;
mod types;

pub use catalogue::{MapKind, MapSpec};
pub use layout::Layout;
pub use reason::{Outcome, Reason};
pub use types::{
    Config, Counter, Group, GroupId, NextHop, NextHopId, Port, RouteKey4, RouteKey6, TxPort,
    config_flags, next_hop_flags, port_flags,
};
