//! Two connections with one peer (RFC 4271 6.8).
//!
//! With graceful restart a collision that is found late costs routes: a peer that accepts a connection while its session is
//! Established takes it for a restart of ours (RFC 4724 4.2) and ends the session, and what was stale already goes. FRR and
//! BIRD do so as soon as they accept, however long the connection has waited in their kernel's queue. So:
//!
//! - A speaker that restarts lets its peers come first, for [`limits::PEERS_COME_FIRST`]: they notice the loss and connect
//!   once soon after it, or had no success already and wait for us.
//! - While another connection is on its way, either side's, our KEEPALIVE waits, for [`limits::COLLISION`] at most: it would
//!   make the session Established at the peer.
//!
//! ```text
//!   our attempt           peer's connection
//!        │ SYN                  │
//!        │                      │ OPEN
//!        │ ···················· │ KEEPALIVE held back
//!        │ OPEN, or it fails    │
//!        ▼                      ▼
//!      the collision is resolved, KEEPALIVE on what stays
//! ```
//!
//! - What comes to us within [`limits::COLLISION`] of Established is the late half of a collision, and no restart of the
//!   peer.

use super::timer::TimerKind;
use super::{Connection, Context, End, Next, Peer, State};
use crate::config::limits;
use crate::speaker::ResetCause;
use crate::wire::Notification;
use crate::wire::notification::{cease, code};

impl Peer {
    /// RFC 4271 6.8, once a connection has got a valid OPEN. Returns its index if it stays.
    pub(super) fn resolve_collision(
        &mut self,
        ctx: &mut Context<'_>,
        index: usize,
    ) -> Option<usize> {
        let Some(other) = (0..self.connections.len()).find(|other| *other != index) else {
            return Some(index);
        };
        let (new, old) = (&self.connections[index], &self.connections[other]);
        let keep_new = match old.state {
            // "…cannot examine": the peer's identifier is not known there yet. Its OPEN will find this one in OpenConfirm.
            State::OpenSent => return Some(index),
            State::Established => {
                // RFC 4724 4.2: a peer that restarts opens a new connection before we notice that the old one is dead.
                old.is_graceful() && new.opened_at > self.history.state_since + limits::COLLISION
            }
            _ if new.inbound == old.inbound => true,
            _ => new.inbound == self.remote_wins(new),
        };
        if keep_new {
            let (cause, notify) = if old.state == State::Established {
                (ResetCause::Reconnected, None)
            } else {
                (ResetCause::Collision, Some(collision()))
            };
            let end = End {
                cause,
                notify,
                next: Next::Idle { damp: false },
                abort: false,
            };
            self.end(ctx, other, end);
            Some(if other < index { index - 1 } else { index })
        } else {
            self.end(ctx, index, closed());
            None
        }
    }

    /// Whether the peer must not establish this session yet, since another connection is on its way.
    pub(super) fn must_hold_back(&self, index: usize) -> bool {
        let connection = &self.connections[index];
        let theirs_or_ours =
            |c: &Connection| c.inbound != connection.inbound && c.state == State::OpenSent;
        connection.is_graceful()
            && (self.attempt.is_some() || self.connections.iter().any(theirs_or_ours))
    }

    /// Sends the answer that was held back, once nothing of ours is on its way.
    pub(super) fn release(&mut self, ctx: &mut Context<'_>) {
        let held_back = self.connections.iter().position(Connection::is_held_back);
        if held_back.is_some_and(|index| self.must_hold_back(index)) {
            return;
        }
        self.timers.stop(TimerKind::Collision);
        if let Some(index) = held_back
            && self.connections[index].answer(ctx)
        {
            self.establish(ctx, index);
        }
    }

    /// The peer never says anything on the other connection, or never gets it.
    pub(super) fn collision_timer_expires(&mut self, ctx: &mut Context<'_>) {
        self.give_up_attempt(ctx);
        let open_sent = |c: &Connection| c.state == State::OpenSent;
        if let Some(index) = self.connections.iter().position(open_sent) {
            self.end(ctx, index, closed());
        }
    }

    /// Whether the connection opened by the peer is the one to keep: its identifier is higher, or its AS where identifiers
    /// are equal (RFC 6286 2.3).
    pub(super) fn remote_wins(&self, connection: &Connection) -> bool {
        let ours = &connection.local_open;
        connection
            .remote_open
            .as_ref()
            .is_some_and(|theirs| (theirs.router_id, theirs.asn) > (ours.router_id, ours.asn))
    }
}

/// The end of the one that does not stay.
fn closed() -> End {
    End::stop(
        ResetCause::Collision,
        collision(),
        Next::Idle { damp: false },
    )
}

fn collision() -> Notification {
    Notification::new(code::CEASE, cease::CONNECTION_COLLISION)
}
