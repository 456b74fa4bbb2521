//! What a peer's state machine asks for: effects are data, carried out by the speaker.

use bytes::Bytes;

use super::open::Local;
use super::timer::Jitter;
use crate::speaker::{Counters, SpeakerEvent, SweepCause};
use crate::time::Time;
use crate::types::{ConnId, Family};
use crate::wire::{FamilySet, Open};

/// Something to be done, in order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Open a TCP connection to the peer.
    Connect { conn: ConnId },
    /// Start reading.
    Start { conn: ConnId, open: Box<Open> },
    /// Send messages.
    Send { conn: ConnId, bytes: Bytes },
    /// Close a connection or give an attempt up.
    Close { conn: ConnId, abort: bool },
    /// The session is established.
    Up,
    /// It is no longer; routes of these families stay as stale.
    Down { retained: FamilySet },
    /// The peer wants everything again.
    RefreshOut(Family),
    /// The peer begins to send everything again.
    BeginRefresh(Family),
    /// Stale routes go.
    Sweep(Family, SweepCause),
    /// For logs.
    Event(SpeakerEvent),
}

/// What a state machine may use while it handles an event.
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) local: &'a Local,
    pub(crate) jitter: &'a mut Jitter,
    pub(crate) next_conn: &'a mut u64,
    pub(crate) counters: &'a mut Counters,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn event(&mut self, event: SpeakerEvent) {
        self.effects.push(Effect::Event(event));
    }

    /// A number for an outgoing connection.
    pub(crate) fn new_conn(&mut self) -> ConnId {
        *self.next_conn += 1;
        ConnId(*self.next_conn)
    }
}
