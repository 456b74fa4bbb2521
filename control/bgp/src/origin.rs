//! Prefixes that this speaker originates itself.

use crate::types::{Asn, Prefix};
use crate::wire::{Community, ExtendedCommunity, LargeCommunity, Origin};

/// A prefix to originate, with the attributes it starts out with.
///
/// A prefix waits while `ready` is false: traffic is attracted only once it can be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originated {
    /// The prefix.
    pub prefix: Prefix,
    /// ORIGIN.
    pub origin: Origin,
    /// LOCAL_PREF; the RIB's default if absent.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES, in any order.
    pub communities: Vec<Community>,
    /// EXTENDED COMMUNITIES, in any order.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// LARGE_COMMUNITY, in any order.
    pub large_communities: Vec<LargeCommunity>,
    /// AS numbers put on the path, nearest first, usually the own AS a few times.
    pub prepend: Vec<Asn>,
    /// Whether its forwarding state is programmed.
    pub ready: bool,
}

impl Originated {
    /// `prefix` with ORIGIN IGP and nothing else, ready.
    #[must_use]
    pub const fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            origin: Origin::Igp,
            local_pref: None,
            med: None,
            communities: Vec::new(),
            extended_communities: Vec::new(),
            large_communities: Vec::new(),
            prepend: Vec::new(),
            ready: true,
        }
    }
}
