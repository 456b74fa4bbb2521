//! BGP's routes as the network sees them: sets of next hops, and which prefix points at which set.

use crate::resolve::NextHopKey;

/// A set of next hops, named by whoever defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(pub u32);

/// A next hop and its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// Next hop.
    pub key: NextHopKey,
    /// Relative weight, at least 1.
    pub weight: u32,
}
