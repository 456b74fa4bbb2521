//! What a speaker shows of itself: owned, plain structs.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use super::{RefuseReason, Reset};
use crate::session::State;
use crate::session::TimerKind;
use crate::time::Time;
use crate::types::{Asn, Family, PeerId, RouterId};
use crate::wire::Capability;

/// A peer.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighborView {
    /// Number.
    pub id: PeerId,
    /// Name.
    pub name: Arc<str>,
    /// Accepted from a dynamic range.
    pub dynamic: bool,
    /// Address.
    pub address: IpAddr,
    /// Interface index of a link-local address.
    pub scope: Option<u32>,
    /// Our AS towards it.
    pub local_asn: Asn,
    /// Its AS, configured or learned; `None` while unknown.
    pub remote_asn: Option<Asn>,
    /// Its identifier, from its OPEN.
    pub remote_router_id: Option<RouterId>,
    /// iBGP. `None` while its AS is unknown.
    pub internal: Option<bool>,
    /// The peer is in another member AS of our confederation (RFC 5065).
    pub confederation: bool,
    /// State of the connection that is furthest.
    pub state: State,
    /// Administratively down.
    pub admin_down: bool,
    /// We never connect.
    pub passive: bool,
    /// Since when it is in this state.
    pub state_since: Time,
    /// Our and their end of the current connection.
    pub sockets: Option<(SocketAddr, SocketAddr)>,
    /// How the last Established session ended. While there has been none, how the last connection on which we sent an
    /// OPEN ended.
    pub last_reset: Option<Reset>,
    /// How the last attempt that did not lead to Established ended, whatever came after it.
    pub last_error: Option<Reset>,
    /// Times that an Established session ended.
    pub flaps: u64,
    /// Times that a session became Established.
    pub established: u64,
    /// Messages.
    pub counters: Counters,
    /// Per negotiated or configured family.
    pub families: Vec<NeighborFamily>,
    /// Timers.
    pub timers: TimersView,
    /// Capabilities that we sent or would send.
    pub local_capabilities: Vec<Capability>,
    /// Capabilities that the peer sent; empty while unknown.
    pub remote_capabilities: Vec<Capability>,
    /// What both agreed on, while there is a session.
    pub negotiated: Option<NegotiatedView>,
    /// Bytes handed to the connection and not yet taken by its socket.
    pub in_flight_bytes: usize,
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiatedView {
    /// Families.
    pub families: Vec<Family>,
    /// 4-octet AS numbers.
    pub four_octet_as: bool,
    /// Route refresh.
    pub route_refresh: bool,
    /// Enhanced route refresh.
    pub enhanced_refresh: bool,
    /// Messages over 4,096 bytes.
    pub extended_messages: bool,
    /// Families whose routes we keep when the peer restarts.
    pub graceful_restart: Vec<Family>,
}

/// Messages in and out, since the peer was configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received.
    pub received: MessageCounters,
    /// Sent.
    pub sent: MessageCounters,
    /// UPDATEs that needed a reaction of RFC 7606.
    pub malformed_updates: u64,
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounters {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

impl MessageCounters {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.open + self.update + self.notification + self.keepalive + self.route_refresh
    }
}

/// One family of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborFamily {
    /// Family.
    pub family: Family,
    /// Negotiated in the current session.
    pub negotiated: bool,
    /// Prefixes in its Adj-RIB-In, refused ones included.
    pub received: usize,
    /// Those of them that rules and import policy let through.
    pub accepted: usize,
    /// Prefixes in its Adj-RIB-Out.
    pub advertised: usize,
    /// Stale prefixes, kept over a restart.
    pub stale: usize,
    /// Limit on `received`.
    pub max_prefixes: Option<u32>,
    /// The peer's End-of-RIB came.
    pub end_of_rib_received: bool,
    /// Our End-of-RIB went.
    pub end_of_rib_sent: bool,
}

/// Timers of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimersView {
    /// Hold time configured.
    pub hold_configured: Duration,
    /// Keepalive time configured.
    pub keepalive_configured: Duration,
    /// Hold time negotiated; zero without keepalives.
    pub hold: Option<Duration>,
    /// Keepalive time in use.
    pub keepalive: Option<Duration>,
    /// Running timers with what is left of them.
    pub running: Vec<(TimerKind, Duration)>,
}

/// Connections refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedView {
    /// How many.
    pub total: u64,
    /// The same by reason, each reason once.
    pub by_reason: Vec<(RefuseReason, u64)>,
    /// The last ones, newest last.
    pub recent: Vec<(Time, SocketAddr, RefuseReason)>,
}
