//! Prefixes that this speaker originates itself.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::types::{AddressFamily, Asn, Family, Prefix};
use crate::wire::{
    AsPath, Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin,
    RareAttributes,
};

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

impl Originated {
    /// The attributes that the prefix starts out with. The next hop is unspecified: it becomes the own address on each
    /// session.
    fn attributes(&self) -> Attributes {
        let rare = RareAttributes {
            extended_communities: sorted(&self.extended_communities),
            large_communities: sorted(&self.large_communities),
            ..RareAttributes::default()
        };
        Attributes {
            origin: self.origin,
            atomic_aggregate: false,
            as_path: AsPath::sequence(self.prepend.iter().map(|asn| asn.0)),
            next_hop: match self.prefix.family() {
                Family::Ipv4Unicast => NextHop::V4(Ipv4Addr::UNSPECIFIED),
                Family::Ipv6Unicast => NextHop::V6(Ipv6Addr::UNSPECIFIED),
            },
            med: self.med,
            local_pref: self.local_pref,
            communities: sorted(&self.communities),
            rare: (rare != RareAttributes::default()).then(|| Box::new(rare)),
        }
    }
}

/// Prefixes of one family with their attributes and whether they are ready.
pub(crate) fn of_family<A: AddressFamily>(all: &[Originated]) -> Vec<(A, Attributes, bool)> {
    all.iter()
        .filter_map(|originated| {
            let prefix = A::from_prefix(originated.prefix)?;
            Some((prefix, originated.attributes(), originated.ready))
        })
        .collect()
}

fn sorted<T: Ord + Copy>(values: &[T]) -> Box<[T]> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    values.into()
}
