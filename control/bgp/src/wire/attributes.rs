//! Path attributes, as decoded.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::AsPath;
use crate::types::{Asn, RouterId};

/// ORIGIN (RFC 4271 5.1.1). The order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// 0.
    Igp,
    /// 1.
    Egp,
    /// 2.
    Incomplete,
}

/// Where to send: NEXT_HOP (RFC 4271 5.1.3) or the next hop of MP_REACH_NLRI (RFC 4760 3, RFC 2545 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6, global or link-local alone.
    V6(Ipv6Addr),
    /// IPv6 global and link-local.
    V6LinkLocal {
        /// Global address.
        global: Ipv6Addr,
        /// Link-local address on the link shared with the peer.
        link_local: Ipv6Addr,
    },
}

/// AGGREGATOR (RFC 4271 5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// AS that aggregated.
    pub asn: Asn,
    /// Router that aggregated.
    pub router_id: RouterId,
}

/// A community (RFC 1997), `ASN:VALUE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Community(pub u32);

impl Community {
    /// NO_EXPORT.
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// NO_ADVERTISE.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// NO_EXPORT_SUBCONFED.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// GRACEFUL_SHUTDOWN (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// BLACKHOLE (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xffff_029a);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// An extended community (RFC 4360), 8 octets in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// Link bandwidth (draft-ietf-idr-link-bandwidth), in either of its forms, transitive and not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkBandwidth {
    /// AS that set it, 2 octets.
    pub asn: u16,
    /// Bytes per second; finite and not negative.
    pub bytes_per_second: f32,
}

impl ExtendedCommunity {
    /// Link bandwidth of the AS, non-transitive (0x4004) or transitive (0x0004).
    #[must_use]
    pub const fn from_link_bandwidth(bandwidth: LinkBandwidth, transitive: bool) -> Self {
        let [a, b] = bandwidth.asn.to_be_bytes();
        let [c, d, e, f] = bandwidth.bytes_per_second.to_be_bytes();
        Self([if transitive { 0x00 } else { 0x40 }, 0x04, a, b, c, d, e, f])
    }

    /// The link bandwidth that it tells; `None` if it tells something else or no number that makes sense.
    #[must_use]
    pub fn link_bandwidth(self) -> Option<LinkBandwidth> {
        let [0x00 | 0x40, 0x04, a, b, c, d, e, f] = self.0 else {
            return None;
        };
        let bytes_per_second = f32::from_be_bytes([c, d, e, f]);
        (bytes_per_second.is_finite() && bytes_per_second >= 0.0).then_some(LinkBandwidth {
            asn: u16::from_be_bytes([a, b]),
            bytes_per_second,
        })
    }
}

/// A large community (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LargeCommunity {
    /// Global administrator.
    pub global: u32,
    /// Local data part 1.
    pub local1: u32,
    /// Local data part 2.
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

/// A reflection cluster (RFC 4456).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// An attribute that this speaker does not know, optional and transitive, passed on as it came with the partial bit set
/// (RFC 4271 5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnknownAttribute {
    /// Attribute flags as they go out: optional, transitive, partial.
    pub flags: u8,
    /// Attribute type code.
    pub code: u8,
    /// Value.
    pub value: Box<[u8]>,
}

/// The attributes of a route, next hop included: what is interned, compared and shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AS_PATH, already merged with AS4_PATH (RFC 6793 4.2.3).
    pub as_path: AsPath,
    /// Next hop.
    pub next_hop: NextHop,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; absent from an eBGP peer.
    pub local_pref: Option<u32>,
    /// COMMUNITIES, sorted and without duplicates.
    pub communities: Box<[Community]>,
    /// What few routes carry.
    pub rare: Option<Box<RareAttributes>>,
}

/// Attributes that few routes carry, apart so that the others stay small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RareAttributes {
    /// AGGREGATOR, already merged with AS4_AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<RouterId>,
    /// CLUSTER_LIST (RFC 4456), nearest first.
    pub cluster_list: Box<[ClusterId]>,
    /// EXTENDED COMMUNITIES, sorted and without duplicates.
    pub extended_communities: Box<[ExtendedCommunity]>,
    /// LARGE_COMMUNITY, sorted and without duplicates.
    pub large_communities: Box<[LargeCommunity]>,
    /// Unknown transitive attributes by type code.
    pub unknown: Box<[UnknownAttribute]>,
}
