//! Sessions: the state machine of each peer (RFC 4271 8).
//!
//! A *peer* is Idle, Connect or Active until it has a transport connection. From OpenSent on each *connection* has its own
//! state machine; a peer has at most two, until the collision is resolved (RFC 4271 6.8).
//!
//! ```text
//!            ManualStart, AutomaticStart,                              ManualStop or an error in any state:
//!            IdleHoldTimer_Expires                                     NOTIFICATION if we found it, back to Idle,
//!  ┌──────┐ ───────────────────────────▶ ┌─────────┐                   IdleHoldTimer with back-off
//!  │ Idle │                              │ Connect │◀─────────┐ ConnectRetryTimer_Expires
//!  └──────┘ ───────────(passive)───┐     └─┬─────┬─┘          │
//!                                  │       │     └───────▶┌───┴────┐
//!                                  └───────┼─────────────▶│ Active │◀────────────┐
//!                     Tcp_CR_Acked,        │  TcpConn.    └───┬────┘             │
//!                     TcpConnectionConfirmed  Fails           │ TcpConnection-   │ TcpConnectionFails
//!                                          ▼                  │ Confirmed        │ in OpenSent
//!                                     ┌──────────┐◀───────────┘                  │
//!                       (sends OPEN)  │ OpenSent │───────────────────────────────┘
//!                                     └────┬─────┘
//!                                          │ BGPOpen (collision? RFC 4271 6.8; sends KEEPALIVE)
//!                                   ┌──────▼──────┐
//!                                   │ OpenConfirm │◀─┐ KeepaliveTimer_Expires
//!                                   └──────┬──────┘──┘
//!                                          │ KeepAliveMsg
//!                                   ┌──────▼──────┐
//!                                   │ Established │◀─┐ UpdateMsg, KeepAliveMsg, KeepaliveTimer_Expires
//!                                   └─────────────┘──┘
//! ```
//!
//! Where we differ from the letter of RFC 4271 8.2.2, and why:
//!
//! - A connection attempt that fails leads from Connect to Active, as the RFC has it with the DelayOpenTimer running, not
//!   to Idle: Idle refuses the peer's own attempts, and two peers that start at the same time would keep missing each other.
//! - A NOTIFICATION in OpenSent (event 25) ends the connection without an answer: RFC 4271 6.4 forbids answering one.
//! - The first error after a stable session leads through Idle at once; back-off begins with the second in a row.
//! - With graceful restart, a new connection replaces an Established one when its valid OPEN arrives (RFC 4724 4.2), not
//!   as soon as TCP connects (RFC 4724 5), so that a port scan can't end sessions; and not right after Established, when it
//!   is the late half of a collision.
//! - With graceful restart, the KEEPALIVE that answers an OPEN waits while a connection of ours is on its way to the peer:
//!   see `collision`.
//! - DelayOpen and the Established-state collision option are not offered; both are optional (RFC 4271 8.1.1).

pub mod change;
mod collision;
mod connection;
mod effect;
mod graceful;
mod history;
mod open;
mod peer;
mod prefix_limit;
#[cfg(test)]
mod tests;
mod timer;

use core::fmt;
use core::time::Duration;

pub(crate) use connection::Connection;
pub(crate) use effect::{Context, Effect};
pub(crate) use open::Local;
pub(crate) use peer::{Event, Peer, cease as cease_with};
pub(crate) use timer::Jitter;
pub use timer::TimerKind;

use crate::speaker::ResetCause;
use crate::wire::Notification;
use crate::wire::notification::{cease, code};

/// State of the FSM (RFC 4271 8.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Refuses connections.
    #[default]
    Idle,
    /// Waits for its TCP connection to complete.
    Connect,
    /// Listens, and connects when the ConnectRetryTimer expires.
    Active,
    /// Sent OPEN, waits for the peer's.
    OpenSent,
    /// Got OPEN, waits for KEEPALIVE.
    OpenConfirm,
    /// Exchanges routes.
    Established,
}

impl State {
    /// The RFC's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) cause: ResetCause,
    /// The NOTIFICATION to send.
    pub(crate) notify: Option<Notification>,
    /// Where the peer goes, if this was its last connection.
    pub(crate) next: Next,
    /// Don't wait for what is still to be sent.
    pub(crate) abort: bool,
}

/// Where a peer goes after its last connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// To Active (RFC 4271 8.2.2 OpenSent, event 18).
    Active,
    /// To Idle, and on after the IdleHoldTimer; `damp` counts it as an oscillation.
    Idle { damp: bool },
    /// To Idle for this long, or until told to start.
    Held(Option<Duration>),
}

impl End {
    /// We found an error.
    pub(crate) const fn error(cause: ResetCause, notification: Notification) -> Self {
        Self {
            cause,
            notify: Some(notification),
            next: Next::Idle { damp: true },
            abort: false,
        }
    }

    /// The peer told us one (events 24 and 25).
    pub(crate) const fn notified(notification: Notification) -> Self {
        Self {
            cause: ResetCause::NotificationReceived(notification),
            notify: None,
            next: Next::Idle { damp: true },
            abort: false,
        }
    }

    /// The peer told us one before the session stood. A peer that turns connections away for now (RFC 4486, Connection
    /// Rejected) may be held idle after errors: we go on listening, else two that hold each other off never meet.
    pub(crate) fn turned_away(notification: Notification) -> Self {
        let rejected =
            (notification.code, notification.subcode) == (code::CEASE, cease::CONNECTION_REJECTED);
        Self {
            next: if rejected {
                Next::Active
            } else {
                Next::Idle { damp: true }
            },
            ..Self::notified(notification)
        }
    }

    /// An operator or the configuration wants it.
    pub(crate) const fn stop(cause: ResetCause, notification: Notification, next: Next) -> Self {
        Self {
            cause,
            notify: Some(notification),
            next,
            abort: false,
        }
    }
}
