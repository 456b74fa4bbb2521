//! What the kernel and userspace agree on: the maps, their keys and values, and the reasons a packet was forwarded or
//! passed on.
//!
//! A tour in the order a packet meets it:
//!
//! 1. [`VlanKey`], [`Port`] — which interface did it come in on, may it forward, and which MAC address is its own?
//! 2. [`PodRange4`], [`PodRange6`] — pods' addresses, whose routes are found by an index.
//! 3. [`Flat4Root`], [`Flat4Block`] — a flat table for IPv4 addresses of large tables.
//! 4. [`RouteKey4`], [`RouteKey6`] — the longest-prefix-match tries, prefix → [`GroupId`]: the truth that 2 and 3 are
//!    made from, and asked when they don't know.
//! 5. [`Group`] — the ECMP set: by flow hash a [`Slot`] of [`NextHopId`]s in order of preference, of which the first
//!    that is not [`dead`] is taken.
//! 6. [`NextHop`] — interface, tag, MAC addresses and MTU to send with.
//! 7. [`Reason`] — what became of it, counted per CPU and [`Hook`] in [`Counter`]s.
//!
//! [`service`] has the keys and values of services, which the planner lowers and no program reads yet.
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
pub mod fixture;
mod layout;
mod pods;
mod reason;
pub mod service;
mod types;

pub use catalogue::{MapKind, MapSpec};
pub use layout::Layout;

pub use reason::{Hook, Outcome, Reason};
pub use types::{
    Config, Counter, Flat4Block, Flat4Root, Group, GroupId, NextHop, NextHopId, PodRange4,
    PodRange6, Port, RouteKey4, RouteKey6, Slot, TxPort, VlanKey, config_flags, dead, flat4_mode,
    next_hop_flags, port_flags,
};
