//! When which peer wants to be called. Restarting a timer to a later time, which every message does, costs nothing here:
//! the peer is called at the old time, finds nothing due and is put back.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;
use crate::types::PeerId;

/// Deadlines of all peers.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BinaryHeap<Reverse<(Time, PeerId)>>);

impl Deadlines {
    /// The peer wants to be called at `next`; `scheduled` is its entry here.
    pub(super) fn schedule(
        &mut self,
        peer: PeerId,
        scheduled: &mut Option<Time>,
        next: Option<Time>,
    ) {
        if let Some(next) = next
            && scheduled.is_none_or(|at| next < at)
        {
            *scheduled = Some(next);
            self.0.push(Reverse((next, peer)));
        }
    }

    /// The earliest entry.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out one entry that is due. The peer clears its `scheduled` if it is this one.
    pub(super) fn due(&mut self, now: Time) -> Option<(Time, PeerId)> {
        let Reverse((at, peer)) = *self.0.peek()?;
        if at > now {
            return None;
        }
        self.0.pop();
        Some((at, peer))
    }
}
