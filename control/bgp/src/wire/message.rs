//! The five messages, as decoded.

use super::{Attributes, Capability, Notification};
use crate::types::{Asn, Family, Prefix4, Prefix6, RouterId};

/// A BGP message (RFC 4271 4, RFC 2918).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is an UPDATE; a box would cost it an allocation"
)]
pub enum Message {
    /// Type 1.
    Open(Open),
    /// Type 2.
    Update(Update),
    /// Type 3.
    Notification(Notification),
    /// Type 4.
    Keepalive,
    /// Type 5.
    RouteRefresh(RouteRefresh),
}

/// OPEN (RFC 4271 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS: the 4-octet one if its capability was there, else the 2-octet field.
    pub asn: Asn,
    /// Proposed hold time in seconds; 0 turns keepalives off, 1 and 2 are refused.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: RouterId,
    /// Capabilities in the order sent (RFC 5492). The encoder adds the 4-octet AS capability only if it is listed.
    pub capabilities: Vec<Capability>,
}

/// Prefixes of one family announced with one set of attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach<P> {
    /// Attributes, the next hop included.
    pub attributes: Attributes,
    /// Prefixes, in the order sent.
    pub prefixes: Vec<P>,
}

/// UPDATE (RFC 4271 4.3, RFC 4760), with RFC 7606's treat-as-withdraw and attribute discard already carried out:
/// prefixes to be treated as withdrawn are in `withdrawn*`, and `reactions` says why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// IPv4 prefixes withdrawn, from the withdrawn-routes field or MP_UNREACH_NLRI.
    pub withdrawn4: Vec<Prefix4>,
    /// IPv6 prefixes withdrawn.
    pub withdrawn6: Vec<Prefix6>,
    /// IPv4 prefixes announced, from the NLRI field or MP_REACH_NLRI.
    pub reach4: Option<Reach<Prefix4>>,
    /// IPv6 prefixes announced.
    pub reach6: Option<Reach<Prefix6>>,
    /// This message is the End-of-RIB marker of a family (RFC 4724 2).
    pub end_of_rib: Option<Family>,
}

/// ROUTE-REFRESH (RFC 2918, RFC 7313).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Family.
    pub family: Family,
    /// Which of the three.
    pub kind: RefreshKind,
}

/// Message subtype of ROUTE-REFRESH (RFC 7313 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// 0: please send everything again.
    Request,
    /// 1: BoRR, beginning of route refresh.
    Begin,
    /// 2: EoRR, end of route refresh.
    End,
}
