//! From the RIB to the outside: decide in portions, hand forwarding changes on, let every peer with room take its turn.

use std::collections::VecDeque;

use super::{Output, Speaker};
use crate::config::limits;
use crate::session::{Context, Peer};
use crate::time::Time;
use crate::types::{ConnId, Family, PeerId};

/// Destinations decided between two looks at what else there is to do.
const FLUSH_DESTINATIONS: usize = 4096;

/// What is on its way out of the RIB.
#[derive(Debug, Default)]
pub(super) struct Transmission {
    /// The RIB has something to decide.
    dirty: bool,
    /// It may have forwarding changes.
    fib: bool,
    /// Peers that may have updates, in turn. A peer that has no credit leaves until it has.
    queue: VecDeque<PeerId>,
    generation: u64,
    programmed: u64,
    gate: Gate,
}

/// After a restart, nothing is advertised before the first complete forwarding table is programmed (RFC 4724 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// Waits for the RIB to have told its forwarding changes.
    Settling,
    /// Waits for this generation.
    Until(u64),
}

impl Transmission {
    /// Something in the RIB changed.
    pub(super) fn rib_touched(&mut self) {
        self.dirty = true;
    }

    /// Advertise only after everything decided now is programmed.
    pub(super) fn close_gate(&mut self) {
        self.gate = Gate::Settling;
        self.dirty = true;
    }

    pub(super) fn programmed(&mut self, generation: u64) {
        self.programmed = self.programmed.max(generation.min(self.generation));
        self.open_gate();
    }

    /// Whether the RIB may be asked for forwarding changes: some may be there, and the forwarding tables keep up. What
    /// they don't take yet merges in the RIB.
    fn fib_has_room(&self) -> bool {
        self.fib && self.generation - self.programmed < limits::FIB_DELTAS_IN_FLIGHT
    }

    fn open_gate(&mut self) {
        if self.gate == Gate::Settling && !self.dirty && !self.fib {
            self.gate = Gate::Until(self.generation);
        }
        if matches!(self.gate, Gate::Until(generation) if self.programmed >= generation) {
            self.gate = Gate::Open;
        }
    }
}

impl Speaker {
    /// The next thing to do. Call until `None`.
    pub fn poll_output(&mut self, now: Time) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.transmission.dirty {
                let more = self.rib.work(FLUSH_DESTINATIONS) | self.rib.flush(FLUSH_DESTINATIONS);
                self.transmission.dirty = more;
                self.transmission.fib = true;
                while let Some(interest) = self.rib.poll_next_hop_interest() {
                    self.outputs.push_back(Output::NextHop(interest));
                }
                self.queue_all();
            }
            if self.transmission.fib_has_room() {
                if let Some(delta) = self.rib.poll_fib(limits::FIB_DELTA_PREFIXES) {
                    self.transmission.generation += 1;
                    let generation = self.transmission.generation;
                    return Some(Output::Fib { generation, delta });
                }
                self.transmission.fib = false;
            }
            self.transmission.open_gate();
            if let Some(output) = self.transmit_next(now) {
                return Some(output);
            }
            if !self.transmission.dirty && self.outputs.is_empty() {
                return None;
            }
        }
    }

    /// Whether [`Self::poll_output`] has something to yield, or work to do to find out.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let waiting = self.transmission.gate == Gate::Open && !self.transmission.queue.is_empty();
        !self.outputs.is_empty()
            || self.transmission.dirty
            || self.transmission.fib_has_room()
            || waiting
    }

    /// The socket took bytes.
    pub(super) fn transmitted(&mut self, now: Time, conn: ConnId, bytes: usize) {
        let Some(&id) = self.conns.get(&conn) else {
            return;
        };
        let mut credit = false;
        self.with_peer(now, id, |peer, _| {
            if let Some(connection) = peer.connections.iter_mut().find(|c| c.id == conn) {
                connection.transmitted(now, bytes);
                credit = connection.has_credit();
            }
        });
        if credit {
            self.queue(id);
        }
    }

    fn queue_all(&mut self) {
        for (id, entry) in &mut self.peers {
            if !entry.queued && entry.peer.session().is_some() {
                entry.queued = true;
                self.transmission.queue.push_back(*id);
            }
        }
    }

    fn queue(&mut self, id: PeerId) {
        if let Some(entry) = self.peers.get_mut(&id)
            && !entry.queued
        {
            entry.queued = true;
            self.transmission.queue.push_back(id);
        }
    }

    /// Updates for the next peer that has some and room for them.
    fn transmit_next(&mut self, now: Time) -> Option<Output> {
        if self.transmission.gate != Gate::Open {
            return None;
        }
        while let Some(id) = self.transmission.queue.pop_front() {
            let Some(entry) = self.peers.get_mut(&id) else {
                continue;
            };
            entry.queued = false;
            let Some(session) = entry.peer.session().filter(|session| session.has_credit()) else {
                continue;
            };
            let conn = session.id;
            let Some(bytes) = self.rib.poll_transmit(id, limits::TRANSMIT_BYTES) else {
                continue;
            };
            entry.queued = true;
            self.transmission.queue.push_back(id);
            let counted = count(&bytes);
            entry.counters.sent.update += counted.updates;
            entry.counters.sent.route_refresh += counted.refreshes;
            for family in Family::ALL {
                entry.end_of_rib_sent[family.index()] |= counted.end_of_rib[family.index()];
            }
            let length = bytes.len();
            self.with_peer(now, id, |peer: &mut Peer, ctx: &mut Context<'_>| {
                if let Some(session) = peer.session_mut() {
                    session.updates_sent(ctx, length);
                }
            });
            return Some(Output::Transmit { conn, bytes });
        }
        None
    }
}

#[derive(Default)]
struct Counted {
    updates: u64,
    refreshes: u64,
    end_of_rib: [bool; 2],
}

/// Messages in what the RIB wrote, by type.
fn count(mut bytes: &[u8]) -> Counted {
    /// Header, and lengths of withdrawn routes and attributes.
    const EMPTY_UPDATE: usize = 23;
    let mut counted = Counted::default();
    while let Some(&[high, low, kind]) = bytes.get(16..19) {
        let length = usize::from(u16::from_be_bytes([high, low])).max(19);
        match kind {
            2 => counted.updates += 1,
            5 => counted.refreshes += 1,
            _ => {}
        }
        if kind == 2 && length == EMPTY_UPDATE {
            counted.end_of_rib[Family::Ipv4Unicast.index()] = true;
        }
        // An MP_UNREACH_NLRI with nothing but AFI and SAFI, with or without the extended length bit.
        if kind == 2 && (length == EMPTY_UPDATE + 6 || length == EMPTY_UPDATE + 7) {
            counted.end_of_rib[Family::Ipv6Unicast.index()] = true;
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    counted
}
