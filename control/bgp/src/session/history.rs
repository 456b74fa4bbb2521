//! What a peer has been through: how its last session ended, apart from what keeps the next one from coming up.

use super::State;
use crate::speaker::Reset;
use crate::time::Time;

/// What a peer has been through.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) state: State,
    pub(crate) state_since: Time,
    /// Times that a session became Established.
    pub(crate) established: u64,
    /// Times that an Established session ended.
    pub(crate) flaps: u64,
    /// How the last Established session ended. While there has been none, how the last connection that carried an OPEN
    /// of ours ended.
    pub(crate) last_reset: Option<Reset>,
    /// How the last attempt that did not lead to Established ended.
    pub(crate) last_error: Option<Reset>,
}

impl History {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            state_since: now,
            ..Self::default()
        }
    }

    /// A connection, and with it an OPEN, came to its end.
    pub(super) fn connection_ended(&mut self, reset: &Reset) {
        if reset.state == State::Established {
            self.last_reset = Some(reset.clone());
            return;
        }
        if self.established == 0 {
            self.last_reset = Some(reset.clone());
        }
        self.last_error = Some(reset.clone());
    }

    /// An attempt got no connection. Returns whether that is news: the same failure again is not.
    pub(super) fn attempt_failed(&mut self, reset: &Reset) -> bool {
        let is_news = self
            .last_error
            .as_ref()
            .is_none_or(|last| last.cause != reset.cause);
        self.last_error = Some(reset.clone());
        is_news
    }
}
