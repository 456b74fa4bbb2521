//! Members of an update group that are not in step: what they are still to be sent, a bit per destination.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::audience::{Audience, Facts, NamedPeers};
use super::bits::BitSet;
use super::config::RibSession;
use super::encode;
use super::export::Advertisement;
use super::limits::{
    CHUNK_BYTES, MAX_BATCH_DESTINATIONS, MAX_EXCESS_DESTINATIONS, MAX_READY_BYTES,
};
use super::table::Table;
use crate::types::{AddressFamily, PeerId};
use crate::wire::{Attributes, RefreshKind, UpdateWriter};

/// A member that is sent destinations from a bit set.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// To be sent.
    pub(super) pending: BitSet,
    /// What it may have been sent: only these are ever withdrawn.
    pub(super) sent: BitSet,
    pub(super) cursor: u32,
    /// Messages made and not yet taken.
    pub(super) ready: VecDeque<Bytes>,
    /// What to say when the cursor has been once through the table.
    pub(super) marker: Marker,
    /// What to say before anything else.
    pub(super) begin_refresh: bool,
}

/// What ends a pass over the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Marker {
    #[default]
    None,
    /// End-of-RIB (RFC 4724 2).
    EndOfRib,
    /// EoRR (RFC 7313).
    EndOfRefresh,
}

/// A change of what a group is sent for one destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) slot: u32,
    pub(super) old: Advertisement,
    pub(super) new: Advertisement,
    /// The same on the wire: only the peer that is not sent its own path differs.
    pub(super) same_wire: bool,
}

/// What is needed to write messages.
pub(super) struct Writing<'a, A> {
    pub(super) table: &'a Table<A>,
    pub(super) facts: Facts<'a>,
    /// Attributes on the wire.
    pub(super) attributes: &'a dyn Fn(Advertisement) -> Attributes,
}

impl CatchUp {
    /// A change of a destination, seen from this member.
    pub(super) fn note(&mut self, change: &Change, peer: PeerId, audience: Audience<'_>) {
        if audience.includes(change.new, peer) {
            if !change.same_wire || !audience.includes(change.old, peer) {
                self.pending.insert(change.slot);
            }
        } else if self.sent.contains(change.slot) {
            self.pending.insert(change.slot);
        } else {
            self.pending.remove(change.slot);
        }
    }

    /// Writes messages for the next destinations.
    pub(super) fn fill<A: AddressFamily>(
        &mut self,
        (peer, named): (PeerId, &NamedPeers),
        session: &RibSession,
        advertised: &[Advertisement],
        building: bool,
        writing: &Writing<'_, A>,
    ) {
        if core::mem::take(&mut self.begin_refresh) {
            let mut out = BytesMut::new();
            encode::refresh_marker(&mut out, A::FAMILY, RefreshKind::Begin);
            self.ready.push_back(out.freeze());
        }
        let audience = writing.facts.audience(named);
        let mut items: Vec<(Advertisement, u32)> = Vec::new();
        while let Some(slot) = self.pending.next_from(self.cursor) {
            let new = advertised
                .get(slot as usize)
                .copied()
                .unwrap_or(Advertisement::NONE);
            // A batch ends where the attributes change, so that it tears no UPDATE apart.
            let excess = items.len().checked_sub(MAX_BATCH_DESTINATIONS);
            let together = items.last().is_some_and(|&(last, _)| last == new);
            if excess.is_some_and(|excess| excess >= MAX_EXCESS_DESTINATIONS || !together) {
                break;
            }
            self.cursor = slot + 1;
            self.pending.remove(slot);
            if audience.includes(new, peer) {
                items.push((new, slot));
            } else if self.sent.contains(slot) {
                items.push((Advertisement::NONE, slot));
            }
        }
        let mut full = items.len() >= MAX_BATCH_DESTINATIONS;
        items.sort_by_key(|&(advertisement, _)| advertisement);
        let (mut out, mut prefixes) = (BytesMut::new(), Vec::new());
        let (mut writer, mut written) = (encode::writer(session), 0);
        for run in items.chunk_by(|a, b| a.0 == b.0) {
            if written >= MAX_READY_BYTES {
                full = true;
                for &(_, slot) in run {
                    self.pending.insert(slot);
                    self.cursor = self.cursor.min(slot);
                }
                continue;
            }
            prefixes.clear();
            for &(advertisement, slot) in run {
                prefixes.push(writing.table.prefix(slot));
                if advertisement.is_none() {
                    self.sent.remove(slot);
                } else {
                    self.sent.insert(slot);
                }
            }
            let before = out.len();
            write_run(&mut out, &mut writer, run[0].0, &prefixes, writing);
            written += out.len() - before;
            if out.len() >= CHUNK_BYTES {
                self.ready.push_back(out.split().freeze());
            }
        }
        if !full && !building {
            // Once through the table: what changed behind the cursor meanwhile comes in the next pass.
            self.cursor = 0;
            match core::mem::take(&mut self.marker) {
                Marker::None => {}
                Marker::EndOfRib => encode::end_of_rib(&mut out, A::FAMILY),
                Marker::EndOfRefresh => {
                    encode::refresh_marker(&mut out, A::FAMILY, RefreshKind::End)
                }
            }
        } else if !full {
            self.cursor = 0;
        }
        if !out.is_empty() {
            self.ready.push_back(out.freeze());
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty()
            && self.ready.is_empty()
            && self.marker == Marker::None
            && !self.begin_refresh
    }
}

pub(super) fn write_run<A: AddressFamily>(
    out: &mut BytesMut,
    writer: &mut UpdateWriter,
    advertisement: Advertisement,
    prefixes: &[A],
    writing: &Writing<'_, A>,
) {
    if advertisement.is_none() {
        encode::withdraw(out, writer, prefixes);
    } else {
        encode::announce(out, writer, &(writing.attributes)(advertisement), prefixes);
    }
}
