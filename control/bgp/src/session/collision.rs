//! Two connections with one peer (RFC 4271 6.8).

use super::{Connection, Context, End, Next, Peer, State};
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
                // RFC 4724 4.2: a peer that restarts opens a new connection before we notice that the old one is dead. One
                // that was there before the session was established is an ordinary collision.
                old.negotiated
                    .as_ref()
                    .is_some_and(|n| n.graceful_restart.is_some())
                    && new.opened_at > self.history.state_since
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
            let end = End::stop(
                ResetCause::Collision,
                collision(),
                Next::Idle { damp: false },
            );
            self.end(ctx, index, end);
            None
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

fn collision() -> Notification {
    Notification::new(code::CEASE, cease::CONNECTION_COLLISION)
}
