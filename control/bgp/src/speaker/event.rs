//! What happened, with its reason.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use crate::session::State;
use crate::time::Time;
use crate::types::{Asn, Family, PeerId, RouterId};
use crate::wire::{Notification, Reaction};

/// Something worth a log line, a metric or a status update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpeakerEvent {
    /// A peer came to be: configured, or accepted from a dynamic range.
    PeerAdded {
        /// Peer.
        peer: PeerId,
        /// Its name.
        name: Arc<str>,
    },
    /// A peer is gone: its configuration, or a dynamic peer's session.
    PeerRemoved {
        /// Peer.
        peer: PeerId,
        /// Its name.
        name: Arc<str>,
    },
    /// The state changed.
    StateChanged {
        /// Peer.
        peer: PeerId,
        /// Before.
        from: State,
        /// After.
        to: State,
    },
    /// A session is Established.
    SessionUp {
        /// Peer.
        peer: PeerId,
        /// Its AS.
        remote_asn: Asn,
        /// Its identifier.
        remote_router_id: RouterId,
        /// The negotiated families.
        families: Vec<Family>,
    },
    /// An Established session ended.
    SessionDown {
        /// Peer.
        peer: PeerId,
        /// Why.
        reset: Reset,
        /// Families whose routes are kept as stale (RFC 4724).
        retained: Vec<Family>,
    },
    /// An attempt ended before Established.
    AttemptFailed {
        /// Peer.
        peer: PeerId,
        /// Why.
        reset: Reset,
    },
    /// The peer is held idle after an error.
    IdleHold {
        /// Peer.
        peer: PeerId,
        /// For how long; `None` until a command.
        duration: Option<Duration>,
        /// Flaps in a row.
        flaps: u32,
    },
    /// A family reached its warning threshold, or exceeded a limit that only warns.
    MaxPrefixesWarning {
        /// Peer.
        peer: PeerId,
        /// Family.
        family: Family,
        /// Prefixes received.
        received: u32,
        /// Limit.
        limit: u32,
    },
    /// A malformed UPDATE was treated as a withdrawal or lost an attribute (RFC 7606).
    MalformedUpdate {
        /// Peer.
        peer: PeerId,
        /// The attribute, its fault and what was done.
        reaction: Reaction,
    },
    /// The peer sent all its routes of a family.
    EndOfRib {
        /// Peer.
        peer: PeerId,
        /// Family.
        family: Family,
    },
    /// Stale routes of a family were removed.
    StaleSwept {
        /// Peer.
        peer: PeerId,
        /// Family.
        family: Family,
        /// Why now.
        cause: SweepCause,
    },
    /// Route selection, deferred since our restart, began (RFC 4724 4.1).
    SelectionResumed {
        /// All peers that restart gracefully sent End-of-RIB, rather than time running out.
        complete: bool,
    },
    /// A connection was refused.
    Refused {
        /// Who.
        remote: SocketAddr,
        /// Why.
        reason: RefuseReason,
        /// How many were refused so far.
        total: u64,
    },
    /// A command or reconfiguration could not be carried out.
    Rejected {
        /// Why and what to do.
        reason: Box<str>,
    },
}

/// Why stale routes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepCause {
    /// The peer's End-of-RIB came.
    EndOfRib,
    /// The peer didn't come back within its restart time.
    RestartTimer,
    /// The peer came back and its End-of-RIB didn't follow in time.
    StaleTimer,
    /// The peer came back without having kept its forwarding state, or without the family.
    NotPreserved,
    /// The peer said that it sent everything again (RFC 7313 EoRR).
    EndOfRefresh,
    /// The session ended again, or for good.
    SessionEnded,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// Not a configured peer and in no dynamic range.
    UnknownPeer,
    /// The dynamic group is full.
    DynamicLimit,
    /// The peer is administratively down.
    AdminDown,
    /// The peer is held idle after errors.
    IdleHold,
    /// Came in on another address than the peer's local address.
    WrongLocalAddress,
    /// There already is a connection from the peer.
    Duplicate,
    /// We are shutting down.
    ShuttingDown,
}

impl RefuseReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::UnknownPeer,
        Self::DynamicLimit,
        Self::AdminDown,
        Self::IdleHold,
        Self::WrongLocalAddress,
        Self::Duplicate,
        Self::ShuttingDown,
    ];

    /// A word for it, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownPeer => "unknown-peer",
            Self::DynamicLimit => "dynamic-limit",
            Self::AdminDown => "admin-down",
            Self::IdleHold => "idle-hold",
            Self::WrongLocalAddress => "wrong-local-address",
            Self::Duplicate => "duplicate",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownPeer => "not a configured peer and in no dynamic range",
            Self::DynamicLimit => "the dynamic group has reached its limit",
            Self::AdminDown => "the peer is administratively down",
            Self::IdleHold => "the peer is held idle after errors",
            Self::WrongLocalAddress => "came in on another address than the peer's local address",
            Self::Duplicate => "the peer already has a connection to us",
            Self::ShuttingDown => "we are shutting down",
        })
    }
}

/// The end of a session or attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// When.
    pub at: Time,
    /// State it ended in.
    pub state: State,
    /// Why.
    pub cause: ResetCause,
    /// NOTIFICATION that we sent, if any.
    pub sent: Option<Notification>,
}

/// Why a session or attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// The peer sent a NOTIFICATION (RFC 4271 events 24 and 25).
    NotificationReceived(Notification),
    /// The transport failed or was closed (event 18); what the system said.
    Transport(Box<str>),
    /// We could not connect (event 18); what the system said.
    ConnectFailed(Box<str>),
    /// ConnectRetryTimer expired before the transport stood (event 9).
    ConnectTimeout,
    /// HoldTimer expired (event 10).
    HoldTimer,
    /// SendHoldTimer expired: the peer doesn't read (RFC 9687).
    SendHoldTimer,
    /// A message could not be decoded (events 21, 22 and 28); which error.
    MalformedMessage(Box<str>),
    /// The peer's OPEN was refused (event 22); which field.
    OpenRejected(&'static str),
    /// A message that the state does not allow (RFC 6608).
    UnexpectedMessage(&'static str),
    /// The other connection with this peer won (event 23).
    Collision,
    /// The peer, restarting gracefully, opened a new connection (RFC 4724 5).
    Reconnected,
    /// Administrative shutdown (event 2).
    AdminShutdown,
    /// Administrative reset.
    AdminReset,
    /// The configuration changed; which field.
    ConfigChanged(&'static str),
    /// The peer was removed from the configuration.
    PeerRemoved,
    /// Too many prefixes (RFC 4486 4).
    MaxPrefixes {
        /// Family.
        family: Family,
        /// Limit.
        limit: u32,
    },
    /// The RIB holds paths of as many sessions as it can (RFC 4486 4).
    OutOfResources,
    /// We stop, or restart.
    ShuttingDown,
}

impl ResetCause {
    /// Whether the peer or the path to it ended the session, not we.
    #[must_use]
    pub const fn by_remote(&self) -> bool {
        matches!(
            self,
            Self::NotificationReceived(_)
                | Self::Transport(_)
                | Self::ConnectFailed(_)
                | Self::Reconnected
        )
    }
}

impl fmt::Display for ResetCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotificationReceived(notice) => write!(f, "peer sent {notice}"),
            Self::Transport(reason) if reason.is_empty() => {
                f.write_str("peer closed the connection")
            }
            Self::Transport(reason) => write!(f, "connection lost: {reason}"),
            Self::ConnectFailed(reason) => write!(f, "could not connect: {reason}"),
            Self::ConnectTimeout => f.write_str("could not connect: no answer"),
            Self::HoldTimer => f.write_str("hold timer expired"),
            Self::SendHoldTimer => f.write_str("send hold timer expired: peer does not read"),
            Self::MalformedMessage(what) => write!(f, "malformed message: {what}"),
            Self::OpenRejected(what) => write!(f, "OPEN rejected: {what}"),
            Self::UnexpectedMessage(what) => write!(f, "unexpected {what}"),
            Self::Collision => f.write_str("connection collision"),
            Self::Reconnected => f.write_str("peer restarted and opened a new connection"),
            Self::AdminShutdown => f.write_str("administrative shutdown"),
            Self::AdminReset => f.write_str("administrative reset"),
            Self::ConfigChanged(field) => write!(f, "configuration of {field} changed"),
            Self::PeerRemoved => f.write_str("peer removed from the configuration"),
            Self::MaxPrefixes { family, limit } => {
                write!(f, "more than {limit} {family} prefixes received")
            }
            Self::OutOfResources => {
                f.write_str("the RIB holds paths of as many sessions as it can")
            }
            Self::ShuttingDown => f.write_str("speaker stops"),
        }
    }
}
