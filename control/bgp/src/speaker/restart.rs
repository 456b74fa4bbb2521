//! Our own graceful restart (RFC 4724 4.1): no route is selected before the peers have sent theirs.

use core::time::Duration;

use super::{Speaker, SpeakerEvent};
use crate::session::Peer;
use crate::time::Time;
use crate::types::PeerId;

/// How long it must be quiet before a peer is believed to have no route. RFC 4724 doesn't wait for one that says it restarts
/// itself, as FRR does for two minutes after its start, nor for one without graceful restart; routes of both come a moment
/// after the session is up, and would be missing from the forwarding tables until then.
const QUIET: Duration = Duration::from_secs(2);
/// The same when nothing is missing that is known of: whether next hops can be reached is answered meanwhile. A path by one
/// that nobody has answered for is not chosen, and would be missing from what is advertised before End-of-RIB.
const BREATH: Duration = Duration::from_millis(500);
/// How long all that quiet is waited for.
const QUIET_AT_LAST: Duration = Duration::from_secs(10);

/// Deferral of route selection.
#[derive(Debug, Default)]
pub(super) struct Deferral {
    /// When selection begins at the latest.
    limit: Option<Time>,
    /// Nobody has to be waited for any more, but something may be missing.
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    quiet: Duration,
    until: Time,
    limit: Time,
}

impl Deferral {
    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        let doubt = self.doubt.map(|doubt| doubt.until);
        self.limit.into_iter().chain(doubt).min()
    }

    /// An UPDATE came.
    pub(super) fn news(&mut self, now: Time) {
        if let Some(doubt) = &mut self.doubt {
            doubt.until = doubt.limit.min(now + doubt.quiet);
        }
    }
}

impl Speaker {
    pub(super) fn begin_deferral(&mut self, now: Time) {
        if let Some(limit) = self.config.restarting {
            self.deferral.limit = Some(now + limit);
            self.rib.hold_output(true);
        }
    }

    /// Ends it once every peer has said all it knows.
    pub(super) fn check_deferral(&mut self, now: Time) {
        if self.deferral.limit.is_none() {
            return;
        }
        if !self.peers.values().all(|entry| is_settled(&entry.peer)) {
            self.deferral.doubt = None;
        } else if self.deferral.doubt.is_none() {
            let mut peers = self.peers.iter();
            let incomplete = peers.any(|(id, entry)| self.has_no_route(*id, &entry.peer));
            let quiet = if incomplete || self.rib.awaits_next_hops() {
                QUIET
            } else {
                BREATH
            };
            self.deferral.doubt = Some(Doubt {
                quiet,
                until: now + quiet,
                limit: now + QUIET_AT_LAST,
            });
        }
    }

    /// Whether a peer's session is up and has brought no route of some family.
    fn has_no_route(&self, id: PeerId, peer: &Peer) -> bool {
        let negotiated = peer
            .session()
            .and_then(|session| session.negotiated.as_ref());
        negotiated.is_some_and(|negotiated| {
            let mut families = negotiated.families.iter();
            families.any(|family| self.rib.counts(id, family).received == 0)
        })
    }

    /// Ends it when the last doubt is gone, or the Selection_Deferral_Timer expires.
    pub(super) fn expire_deferral(&mut self, now: Time) {
        if self.deferral.doubt.is_some_and(|doubt| doubt.until <= now) {
            self.end_deferral(true);
        } else if self.deferral.limit.is_some_and(|at| at <= now) {
            self.end_deferral(false);
        }
    }

    fn end_deferral(&mut self, complete: bool) {
        self.deferral = Deferral::default();
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
