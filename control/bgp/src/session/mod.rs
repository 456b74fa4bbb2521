//! Sessions: the state machine of each peer (RFC 4271 8).

pub mod change;
mod timer;

use core::fmt;

pub use timer::TimerKind;

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
