//! From what BGP and the node's network want to the entries of the maps: desired state, differences, ordered operations.
//! Pure; the caller moves deltas in and batches out.
//!
//! A tour in data-flow order:
//!
//! 1. [`Planner::apply_fib`] takes in BGP's changes, [`Planner::apply_net`] the network's; both only mark what is touched.
//! 2. [`Planner::poll_interest`] says which next hops the planner needs resolved: [`causeway_net::Network`] answers.
//! 3. [`Planner::poll_batch`] yields a bounded [`Batch`] of [`Op`]s, in an order that is safe after every single one.
//! 4. [`Planner::ack`] hears what became of it, by [`Key`]. [`Planner::poll_refusals`] names the prefixes that could not be
//!    written, and [`Planner::poll_programmed`] says how far BGP's changes are in.
//! 5. After a restart, [`Planner::restore`] takes over what a [`Dump`] of the maps holds, ids included, and
//!    [`Planner::prune`] removes what nobody wanted since. [`Planner::verify`] compares a dump with intent.
//!
//! # Invariants
//!
//! * After every single operation, a route points to a group that is written, and a group to next hops that are written.
//! * Prefix-independent: a next hop that is lost rewrites the groups that hold it, never a route.
//! * Local prefixes (own addresses, connected subnets, neighbours) beat BGP's for the same prefix, and these what drops
//!   the rest of a range that this node announces.
//! * What is derived from routes (the index of pods' addresses, the flat IPv4 table) is written after them, and gives what
//!   they give or asks them; a group goes only when nothing derived names it.
//! * What does not fit a map's capacity is left out, named by [`Planner::left_out`], and put in when there is room. A prefix
//!   that is wanted and not in the maps as it should is told by [`Planner::poll_refusals`] until it is.

#![forbid(unsafe_code)]

mod blocks;
mod dump;
mod flat;
mod group;
mod ids;
mod op;
mod planner;
mod pods;
mod routes;
mod services;
mod slots;
mod write;

pub use dump::{Difference, Dump};
pub use group::address_of;
pub use op::Op;
pub use planner::{Capacities, Failure, Interest, LeftOut, Planner, Refusals, Summary, What, Why};
pub use routes::RouteView;
pub use services::{ServiceBatch, ServiceCapacities, ServiceDump, ServiceOp, Services};
pub use write::{Batch, Key};
