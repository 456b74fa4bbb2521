//! What the Loc-RIB tells the forwarding plane: prefix-independent changes.
//!
//! Prefixes point at interned sets of next hops, so that a change of a set is one change and not one per prefix.
//!
//! A set may keep members that can't be reached at present, as long as one can and BGP would use them again: whoever forwards
//! knows from where [`crate::rib::Rib::poll_next_hop_interest`] is answered, and leaves them out meanwhile. So neither the
//! loss of a next hop nor its return moves a prefix.

use core::net::IpAddr;
use std::sync::Arc;

use crate::types::Prefix;

/// An interned set of next hops. Reused only after its release was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHopSetId(pub u32);

/// One member of a next-hop set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FibNextHop {
    /// The BGP next hop; link-local addresses come with their `link`.
    pub addr: IpAddr,
    /// Interface index, if the address means something only there.
    pub link: Option<u32>,
    /// Relative weight, at least 1.
    pub weight: u32,
}

/// A batch of changes. Apply in this order: definitions in `sets`, then `routes`, then releases in `sets`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FibDelta {
    /// Sets defined (`Some`, sorted by address and without duplicates) or released (`None`; nothing points at it any more).
    /// All definitions come before all releases.
    pub sets: Vec<(NextHopSetId, Option<Arc<[FibNextHop]>>)>,
    /// Routes installed or moved (`Some`) or removed (`None`). A prefix appears at most once.
    pub routes: Vec<(Prefix, Option<NextHopSetId>)>,
}

impl FibDelta {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.routes.is_empty()
    }
}
