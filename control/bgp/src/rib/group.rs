//! Update groups: peers that are sent the same, and how each of them is kept in step.
//!
//! ```text
//!                    change of a destination
//!                              │ advertised[slot] := new
//!              ┌───────────────┴────────────────┐
//!     encoded once into the log         a bit per destination
//!              ▼                                ▼
//!       member in step ──── lags ────▶ member catching up (initial table, refresh, slow transport)
//!              ▲                                │
//!              └──────── all bits sent ─────────┘
//! ```
//!
//! What a member costs is bounded: a place in the log, or two bits per destination.

use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::audience::{Facts, NamedPeers};
use super::bits::BitSet;
use super::catch_up::{CatchUp, Change, Marker, Writing, write_run};
use super::config::{FamilySession, RibSession};
use super::encode;
use super::export::Advertisement;
use super::limits::CHUNK_BYTES;
use super::table::SourceId;
use crate::types::{AddressFamily, PeerId};

/// Peers that are sent the same.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) session: Arc<RibSession>,
    pub(super) settings: FamilySession,
    /// By slot; slots beyond its end were never advertised.
    advertised: Vec<Advertisement>,
    /// How many are.
    count: usize,
    /// How many are by source.
    by_source: Vec<u32>,
    /// How many name this address as next hop, other than that of the peer they came from.
    by_name: BTreeMap<IpAddr, u32>,
    pub(super) members: BTreeMap<PeerId, Member>,
    /// The members by address.
    named: NamedPeers,
    log: VecDeque<Chunk>,
    log_bytes: usize,
    /// Sequence number of the first chunk in the log.
    log_start: u64,
    /// A walk over the whole table for this group is not finished.
    pub(super) building: bool,
}

/// Messages for the members in step.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    scope: Scope,
    /// Destinations they are about, for members that fall back.
    slots: Box<[u32]>,
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    All,
    /// Not for the peer that the path came from, nor the one that its next hop names.
    Except([Option<PeerId>; 2]),
    /// Only for that peer.
    Only(PeerId),
}

impl Scope {
    fn includes(self, peer: PeerId) -> bool {
        match self {
            Self::All => true,
            Self::Except(others) => !others.contains(&Some(peer)),
            Self::Only(other) => peer == other,
        }
    }
}

/// How far a member is.
#[derive(Debug)]
pub(super) enum Member {
    /// It has everything up to this place in the log.
    InStep {
        next: u64,
    },
    CatchingUp(Box<CatchUp>),
}

impl Group {
    pub(super) fn new(session: Arc<RibSession>, settings: FamilySession) -> Self {
        Self {
            session,
            settings,
            advertised: Vec::new(),
            count: 0,
            by_source: Vec::new(),
            by_name: BTreeMap::new(),
            members: BTreeMap::new(),
            named: NamedPeers::new(),
            log: VecDeque::new(),
            log_bytes: 0,
            log_start: 0,
            building: true,
        }
    }

    /// Whether a session belongs here.
    pub(super) fn serves(&self, session: &RibSession, settings: &FamilySession) -> bool {
        self.same_wire(session, settings)
            && self.settings.export == settings.export
            && self.settings.default_route_out == settings.default_route_out
    }

    /// Whether one advertisement looks the same on both sessions.
    fn same_wire(&self, session: &RibSession, settings: &FamilySession) -> bool {
        let own = &self.session;
        own.kind == session.kind
            && own.local_asn == session.local_asn
            && own.local_addr == session.local_addr
            && own.local_ipv4 == session.local_ipv4
            && own.local_ipv6 == session.local_ipv6
            && own.local_link_local == session.local_link_local
            && own.link == session.link
            && own.subnets == session.subnets
            && own.as4 == session.as4
            && own.max_message_bytes == session.max_message_bytes
            && self.settings.next_hop == settings.next_hop
    }

    pub(super) fn advertised(&self, slot: u32) -> Advertisement {
        self.advertised
            .get(slot as usize)
            .copied()
            .unwrap_or(Advertisement::NONE)
    }

    /// Records what is advertised; returns what was.
    pub(super) fn set_advertised(
        &mut self,
        slot: u32,
        new: Advertisement,
        facts: Facts<'_>,
    ) -> Advertisement {
        let slot = slot as usize;
        if slot >= self.advertised.len() {
            if new.is_none() {
                return Advertisement::NONE;
            }
            self.advertised.resize(slot + 1, Advertisement::NONE);
        }
        let old = core::mem::replace(&mut self.advertised[slot], new);
        if !new.is_none() {
            self.count += 1;
            let source = usize::from(new.source.0);
            if source >= self.by_source.len() {
                self.by_source.resize(source + 1, 0);
            }
            self.by_source[source] += 1;
        }
        if !old.is_none() {
            self.count -= 1;
            self.by_source[usize::from(old.source.0)] -= 1;
        }
        if old != new {
            for name in facts.names(new).into_iter().flatten() {
                *self.by_name.entry(name).or_default() += 1;
            }
            for name in facts.names(old).into_iter().flatten() {
                self.unname(name);
            }
        }
        old
    }

    fn unname(&mut self, name: IpAddr) {
        if let Some(count) = self.by_name.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                self.by_name.remove(&name);
            }
        }
    }

    /// How many a member is sent, where these are its own sources and its address.
    pub(super) fn count(&self, own: &[SourceId], addr: IpAddr) -> usize {
        let of = |source: &SourceId| self.by_source.get(usize::from(source.0)).copied();
        self.count
            - own
                .iter()
                .filter_map(of)
                .chain(self.by_name.get(&addr).copied())
                .map(|count| count as usize)
                .sum::<usize>()
    }

    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.advertised.len()).unwrap_or(u32::MAX)
    }

    /// A copy of the state of what is advertised, for a group that splits off. The caller counts the references.
    pub(super) fn split(&self, session: Arc<RibSession>, settings: FamilySession) -> Self {
        Self {
            advertised: self.advertised.clone(),
            count: self.count,
            by_source: self.by_source.clone(),
            by_name: self.by_name.clone(),
            ..Self::new(session, settings)
        }
    }

    /// A new member, to be sent everything and then End-of-RIB.
    pub(super) fn join(&mut self, peer: PeerId, addr: IpAddr, facts: Facts<'_>) {
        self.named.insert(addr, peer);
        let mut catch_up = CatchUp {
            marker: Marker::EndOfRib,
            ..CatchUp::default()
        };
        self.mark_all(&mut catch_up.pending, peer, facts);
        self.members
            .insert(peer, Member::CatchingUp(Box::new(catch_up)));
    }

    /// A member that comes from another group, with what it had there.
    pub(super) fn adopt(
        &mut self,
        (peer, addr): (PeerId, IpAddr),
        mut catch_up: Box<CatchUp>,
        from: &Self,
    ) {
        self.named.insert(addr, peer);
        let everything = !self.same_wire(&from.session, &from.settings);
        for slot in 0..self.slots().max(from.slots()) {
            if everything || self.advertised(slot) != from.advertised(slot) {
                catch_up.pending.insert(slot);
            }
        }
        catch_up.cursor = 0;
        self.members.insert(peer, Member::CatchingUp(catch_up));
    }

    /// Takes a member out, with what it has.
    pub(super) fn leave(&mut self, peer: PeerId, facts: Facts<'_>) -> Option<Box<CatchUp>> {
        self.fall_back(peer, &[], facts);
        let member = self.members.remove(&peer)?;
        self.named.retain(|_, named| *named != peer);
        self.trim();
        match member {
            Member::CatchingUp(catch_up) => Some(catch_up),
            Member::InStep { .. } => None,
        }
    }

    /// Sends everything again to a member, between markers if it knows them.
    pub(super) fn refresh(&mut self, peer: PeerId, facts: Facts<'_>, markers: bool) {
        self.fall_back(peer, &[], facts);
        let mut all = BitSet::default();
        self.mark_all(&mut all, peer, facts);
        if let Some(Member::CatchingUp(catch_up)) = self.members.get_mut(&peer) {
            let mut from = 0;
            while let Some(slot) = all.next_from(from) {
                catch_up.pending.insert(slot);
                from = slot + 1;
            }
            catch_up.cursor = 0;
            // A table that is still being sent for the first time ends with End-of-RIB all the same.
            if markers && catch_up.marker == Marker::None {
                catch_up.begin_refresh = true;
                catch_up.marker = Marker::EndOfRefresh;
            }
        }
    }

    fn mark_all(&self, set: &mut BitSet, peer: PeerId, facts: Facts<'_>) {
        let audience = facts.audience(&self.named);
        for (slot, &advertised) in (0..).zip(&self.advertised) {
            if audience.includes(advertised, peer) {
                set.insert(slot);
            }
        }
    }

    /// Turns a member in step into one that catches up from where it was; `changes` are recorded and not yet handed on.
    fn fall_back(&mut self, peer: PeerId, changes: &[Change], facts: Facts<'_>) {
        let Some(Member::InStep { next }) = self.members.get(&peer) else {
            return;
        };
        let mut catch_up = CatchUp::default();
        self.mark_all(&mut catch_up.sent, peer, facts);
        let audience = facts.audience(&self.named);
        for change in changes {
            if audience.includes(change.old, peer) {
                catch_up.sent.insert(change.slot);
            } else {
                catch_up.sent.remove(change.slot);
            }
        }
        let unread = usize::try_from(next.saturating_sub(self.log_start)).unwrap_or(usize::MAX);
        for chunk in self
            .log
            .iter()
            .skip(unread)
            .filter(|chunk| chunk.scope.includes(peer))
        {
            for &slot in &chunk.slots {
                catch_up.pending.insert(slot);
                catch_up.sent.insert(slot);
            }
        }
        self.members
            .insert(peer, Member::CatchingUp(Box::new(catch_up)));
    }

    /// Hands on changes that are already recorded: bits for members that catch up, messages for those in step.
    pub(super) fn publish<A: AddressFamily>(
        &mut self,
        changes: &[Change],
        max_log_bytes: usize,
        writing: &Writing<'_, A>,
    ) {
        // Who lags makes room first, so that it does not cost the others their place.
        self.enforce_log_limit(max_log_bytes / 2, changes, writing.facts);
        let mut in_step = false;
        let audience = writing.facts.audience(&self.named);
        for (&peer, member) in &mut self.members {
            match member {
                Member::InStep { .. } => in_step = true,
                Member::CatchingUp(catch_up) => {
                    for change in changes {
                        catch_up.note(change, peer, audience);
                    }
                }
            }
        }
        if in_step {
            self.write_changes(changes, max_log_bytes, writing);
        }
    }

    fn write_changes<A: AddressFamily>(
        &mut self,
        changes: &[Change],
        max_log_bytes: usize,
        writing: &Writing<'_, A>,
    ) {
        let members = &self.members;
        let audience = writing.facts.audience(&self.named);
        let excluded = |advertisement: Advertisement| {
            let excluded = audience.excluded(advertisement);
            excluded.map(|peer| peer.filter(|peer| members.contains_key(peer)))
        };
        let mut items: Vec<(Scope, Advertisement, u32)> = Vec::with_capacity(changes.len());
        for change in changes {
            let (old, new) = (excluded(change.old), excluded(change.new));
            let had = !change.old.is_none();
            let has = !change.new.is_none();
            if !change.same_wire {
                let scope = match if has { new } else { old } {
                    [None, None] => Scope::All,
                    peers => Scope::Except(peers),
                };
                items.push((scope, change.new, change.slot));
            }
            if had && has && old != new {
                for &peer in new
                    .iter()
                    .flatten()
                    .filter(|&&peer| !old.contains(&Some(peer)))
                {
                    items.push((Scope::Only(peer), Advertisement::NONE, change.slot));
                }
                let again = old.iter().flatten().filter(|_| change.same_wire);
                for &peer in again.filter(|&&peer| !new.contains(&Some(peer))) {
                    items.push((Scope::Only(peer), change.new, change.slot));
                }
            }
        }
        // Prefixes with the same attributes go into the same messages, in the order in which they came.
        items.sort_by_key(|&(scope, advertisement, _)| (scope, advertisement));
        let (mut prefixes, mut writer) = (Vec::new(), encode::writer(&self.session));
        let mut rest = &items[..];
        while let Some(&(scope, _, _)) = rest.first() {
            let same_scope = rest.iter().take_while(|item| item.0 == scope).count();
            let (mut out, mut slots) = (BytesMut::new(), Vec::new());
            for run in rest[..same_scope].chunk_by(|a, b| a.1 == b.1) {
                prefixes.clear();
                prefixes.extend(run.iter().map(|&(_, _, slot)| writing.table.prefix(slot)));
                write_run(&mut out, &mut writer, run[0].1, &prefixes, writing);
                slots.extend(run.iter().map(|&(_, _, slot)| slot));
                if out.len() >= CHUNK_BYTES {
                    self.push_chunk(out.split().freeze(), scope, &mut slots);
                }
                if self.log_bytes > max_log_bytes {
                    break;
                }
            }
            if !out.is_empty() {
                self.push_chunk(out.freeze(), scope, &mut slots);
            }
            rest = &rest[same_scope..];
            if self.log_bytes > max_log_bytes {
                break;
            }
        }
        if self.log_bytes > max_log_bytes {
            self.give_up_log(changes, writing.facts);
        }
    }

    /// Lets every member in step fall back: more changed at once than the log may hold.
    fn give_up_log(&mut self, changes: &[Change], facts: Facts<'_>) {
        let members: SmallVec<[PeerId; 8]> = self.members.keys().copied().collect();
        for peer in members {
            if !matches!(self.members.get(&peer), Some(Member::InStep { .. })) {
                continue;
            }
            self.fall_back(peer, changes, facts);
            if let Some(Member::CatchingUp(catch_up)) = self.members.get_mut(&peer) {
                let audience = facts.audience(&self.named);
                for change in changes {
                    catch_up.note(change, peer, audience);
                }
            }
        }
        self.trim();
    }

    fn push_chunk(&mut self, bytes: Bytes, scope: Scope, slots: &mut Vec<u32>) {
        self.log_bytes += bytes.len();
        self.log.push_back(Chunk {
            bytes,
            scope,
            slots: core::mem::take(slots).into(),
        });
    }

    /// Members that lag too far fall back to their bit sets.
    fn enforce_log_limit(&mut self, max_bytes: usize, changes: &[Change], facts: Facts<'_>) {
        while self.log_bytes > max_bytes {
            let start = self.log_start;
            let slowest: Vec<PeerId> = self
                .members
                .iter()
                .filter(|(_, member)| matches!(member, Member::InStep { next } if *next <= start))
                .map(|(&peer, _)| peer)
                .collect();
            for peer in slowest {
                self.fall_back(peer, changes, facts);
            }
            self.trim();
            if self.log_start == start {
                break;
            }
        }
    }

    /// Forgets what every member in step has taken.
    fn trim(&mut self) {
        let taken = self
            .members
            .values()
            .filter_map(|member| match member {
                Member::InStep { next } => Some(*next),
                Member::CatchingUp(_) => None,
            })
            .min()
            .unwrap_or(u64::MAX);
        while self.log_start < taken {
            let Some(chunk) = self.log.pop_front() else {
                break;
            };
            self.log_bytes -= chunk.bytes.len();
            self.log_start += 1;
        }
    }

    fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    /// Whether a destination without paths can be forgotten: no member waits for its withdrawal.
    pub(super) fn is_done_with(&self, slot: u32) -> bool {
        self.log.is_empty()
            && self.members.values().all(|member| match member {
                Member::InStep { .. } => true,
                Member::CatchingUp(catch_up) => !catch_up.pending.contains(slot),
            })
    }

    /// The next messages for a member.
    pub(super) fn poll<A: AddressFamily>(
        &mut self,
        peer: PeerId,
        max_bytes: usize,
        writing: &Writing<'_, A>,
    ) -> Option<Bytes> {
        let end = self.log_end();
        let building = self.building;
        match self.members.get_mut(&peer)? {
            Member::InStep { next } => {
                let before = *next;
                let mut found: SmallVec<[Bytes; 4]> = SmallVec::new();
                let mut length = 0;
                while *next < end {
                    let chunk = &self.log[usize::try_from(*next - self.log_start).ok()?];
                    if chunk.scope.includes(peer) {
                        length += chunk.bytes.len();
                        if !found.is_empty() && length > max_bytes {
                            break;
                        }
                        found.push(chunk.bytes.clone());
                    }
                    *next += 1;
                }
                let was_slowest = before == self.log_start && *next > before;
                if was_slowest {
                    self.trim();
                }
                joined(&found)
            }
            Member::CatchingUp(catch_up) => {
                if let Some(bytes) = catch_up.ready.pop_front() {
                    return Some(bytes);
                }
                let to = (peer, &self.named);
                catch_up.fill(to, &self.session, &self.advertised, building, writing);
                let bytes = catch_up.ready.pop_front();
                if catch_up.is_done() {
                    self.members.insert(peer, Member::InStep { next: end });
                }
                bytes
            }
        }
    }

    /// Whether an advertisement is for this member.
    pub(super) fn is_for(&self, peer: PeerId, advertised: Advertisement, facts: Facts<'_>) -> bool {
        facts.audience(&self.named).includes(advertised, peer)
    }

    /// Whether a change for this destination is still on its way to the member.
    pub(super) fn is_pending(&self, peer: PeerId, slot: u32) -> bool {
        match self.members.get(&peer) {
            None => false,
            Some(Member::CatchingUp(catch_up)) => {
                catch_up.pending.contains(slot) || !catch_up.ready.is_empty()
            }
            Some(Member::InStep { next }) => {
                let unread =
                    usize::try_from(next.saturating_sub(self.log_start)).unwrap_or(usize::MAX);
                self.log
                    .iter()
                    .skip(unread)
                    .any(|chunk| chunk.slots.contains(&slot))
            }
        }
    }
}

/// One piece as it is; several small ones in one buffer, because each costs the transport a call.
fn joined(pieces: &[Bytes]) -> Option<Bytes> {
    match pieces {
        [] => None,
        [piece] => Some(piece.clone()),
        pieces => Some(pieces.concat().into()),
    }
}
