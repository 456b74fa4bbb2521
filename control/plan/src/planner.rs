//! The planner.

mod apply;
mod derive;
mod emit;
mod refused;
mod restore;
mod state;
mod view;

use std::collections::{BTreeSet, VecDeque};

use causeway_bgp::types::{Prefix4, Prefix6};
use causeway_maps::{Config, VlanKey, catalogue};
use causeway_net::NextHopKey;

use crate::flat::Flat4;
use crate::pods::Pods;
use crate::routes::Table;
use crate::write::Key;
use refused::Refused;
pub use refused::{Refusals, Why};
use state::{Groups, Hops, Ports};

/// Turns deltas into batches of operations.
///
/// Polling order: after [`Self::apply_fib`], [`Self::apply_net`], [`Self::retry`] or [`Self::prune`], take all of
/// [`Self::poll_interest`] to the network, then batches from [`Self::poll_batch`] one after another, each applied and
/// handed to [`Self::ack`] (a few may be in flight, acknowledged in order); then [`Self::poll_refusals`] and
/// [`Self::poll_programmed`].
///
/// A group is written when the network has said of each of its next hops what it resolves to; until then the routes that
/// want it stay as they are.
#[derive(Debug)]
pub struct Planner {
    capacities: Capacities,
    config: Option<Config>,
    written_config: Option<Config>,
    ports: Ports,
    hops: Hops,
    groups: Groups,
    routes4: Table<Prefix4>,
    routes6: Table<Prefix6>,
    pods4: Pods<Prefix4>,
    pods6: Pods<Prefix6>,
    flat4: Flat4,
    /// Entries of `vlans` to be removed although nobody is known to have written them.
    stray_vlans: Vec<VlanKey>,
    interest: VecDeque<Interest>,
    /// Operations that failed.
    refused: Refused,
    /// Entries to be written even if they are believed to be right.
    force: BTreeSet<Key>,
    last_batch: u64,
    /// BGP's generations that are not all in batches yet, with the ends of the queues when they came.
    awaited: VecDeque<Awaited>,
    /// Batches not acknowledged, with the last of BGP's generations that each completes.
    in_flight: VecDeque<(u64, Option<u64>)>,
    programmed: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    generation: u64,
    mark4: u64,
    mark6: u64,
}

/// Whether the planner needs a next hop to be resolved. Hand it to [`causeway_net::Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// From now on.
    Track(NextHopKey),
    /// No longer.
    Release(NextHopKey),
}

/// An operation that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Entry.
    pub key: Key,
    /// What the kernel said.
    pub error: Box<str>,
}

/// How much the maps take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// IPv4 prefixes.
    pub routes4: u32,
    /// IPv6 prefixes.
    pub routes6: u32,
    /// Slots of `groups`, reserved ones included.
    pub groups: u32,
    /// Slots of `next_hops`, the reserved one included.
    pub next_hops: u32,
    /// Interface indices below this can be ports.
    pub ifindex: u32,
}

impl Default for Capacities {
    /// Those of the production object.
    fn default() -> Self {
        Self {
            routes4: catalogue::MAX_ROUTES4,
            routes6: catalogue::MAX_ROUTES6,
            groups: catalogue::MAX_GROUPS,
            next_hops: catalogue::MAX_NEXT_HOPS,
            ifindex: catalogue::MAX_IFINDEX,
        }
    }
}

/// Something that did not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} does not fit: {map} holds at most {capacity}")]
pub struct LeftOut {
    /// What: a prefix, a set of next hops, a next hop, an interface.
    pub what: What,
    /// Name of the full map.
    pub map: &'static str,
    /// Its capacity in entries.
    pub capacity: u32,
}

/// What did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A prefix.
    Prefix(causeway_bgp::types::Prefix),
    /// A set of next hops, by its members' addresses.
    Group(Vec<core::net::IpAddr>),
    /// A next hop.
    NextHop(core::net::IpAddr),
    /// An interface.
    Port(u32),
}

impl core::fmt::Display for What {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Prefix(prefix) => write!(f, "route {prefix}"),
            Self::Group(members) => {
                f.write_str("group of")?;
                for member in members {
                    write!(f, " {member}")?;
                }
                Ok(())
            }
            Self::NextHop(addr) => write!(f, "next hop {addr}"),
            Self::Port(ifindex) => write!(f, "interface {ifindex}"),
        }
    }
}

/// Sizes, for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// IPv4 prefixes in the map.
    pub routes4: u32,
    /// IPv6 prefixes in the map.
    pub routes6: u32,
    /// Groups in the map.
    pub groups: u32,
    /// Next hops in the map.
    pub next_hops: u32,
    /// Ports in the map.
    pub ports: u32,
    /// What did not fit.
    pub left_out: u32,
    /// Operations that failed and wait to be tried again.
    pub failed: u32,
    /// Prefixes that are wanted and could not be put into the maps, for want of room or because the kernel refused.
    pub refused: u32,
    /// The last batch.
    pub last_batch: u64,
    /// Whether everything wanted is in batches that were acknowledged.
    pub settled: bool,
}

impl Planner {
    /// With nothing wanted and nothing written.
    #[must_use]
    pub fn new(capacities: Capacities) -> Self {
        Self {
            capacities,
            config: None,
            written_config: None,
            ports: Ports::default(),
            hops: Hops::new(capacities.next_hops),
            groups: Groups::new(capacities.groups),
            routes4: Table::new(capacities.routes4),
            routes6: Table::new(capacities.routes6),
            pods4: Pods::new(catalogue::MAX_POD_BLOCKS),
            pods6: Pods::new(catalogue::MAX_POD_BLOCKS),
            flat4: Flat4::new(),
            stray_vlans: Vec::new(),
            interest: VecDeque::new(),
            refused: Refused::default(),
            force: BTreeSet::new(),
            last_batch: 0,
            awaited: VecDeque::new(),
            in_flight: VecDeque::new(),
            programmed: None,
        }
    }

    /// What the planner needs resolved, or no longer.
    pub fn poll_interest(&mut self) -> Option<Interest> {
        self.interest.pop_front()
    }

    /// The last of BGP's generations that is in the maps, if it rose since the last call.
    pub fn poll_programmed(&mut self) -> Option<u64> {
        self.programmed.take()
    }
}

#[cfg(test)]
mod derive_tests;
#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod tests;
