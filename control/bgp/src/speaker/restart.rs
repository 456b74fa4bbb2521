//! Our own graceful restart (RFC 4724 4.1): no route is selected before the peers have sent theirs.

use super::{Speaker, SpeakerEvent};
use crate::session::Peer;
use crate::time::Time;

/// Deferral of route selection.
#[derive(Debug, Default)]
pub(super) struct Deferral(Option<Time>);

impl Deferral {
    /// When selection begins at the latest.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.0
    }
}

impl Speaker {
    pub(super) fn begin_deferral(&mut self, now: Time) {
        if let Some(limit) = self.config.restarting {
            self.deferral.0 = Some(now + limit);
            self.rib.hold_output(true);
        }
    }

    /// Ends it once every peer has said all it knows.
    pub(super) fn check_deferral(&mut self, now: Time) {
        let _ = now;
        if self.deferral.0.is_some() && self.peers.values().all(|entry| is_settled(&entry.peer)) {
            self.end_deferral(true);
        }
    }

    /// Ends it when the Selection_Deferral_Timer expires.
    pub(super) fn expire_deferral(&mut self, now: Time) {
        if self.deferral.0.is_some_and(|at| at <= now) {
            self.end_deferral(false);
        }
    }

    fn end_deferral(&mut self, complete: bool) {
        self.deferral.0 = None;
        self.local.restarting = false;
        self.rib.hold_output(false);
        self.transmission.close_gate();
        self.push_event(SpeakerEvent::SelectionResumed { complete });
    }
}

/// RFC 4724 4.1: End-of-RIB "from all its peers, excluding the ones with the Restart State bit set and excluding the ones
/// that do not advertise the graceful restart capability".
fn is_settled(peer: &Peer) -> bool {
    if peer.is_down() {
        return true;
    }
    let Some(negotiated) = peer
        .session()
        .and_then(|session| session.negotiated.as_ref())
    else {
        return false;
    };
    negotiated.graceful_restart.as_ref().is_none_or(|graceful| {
        graceful.restarting
            || graceful
                .families
                .iter()
                .filter(|f| negotiated.families.contains(f.family))
                .all(|f| peer.end_of_rib.contains(f.family))
    })
}
