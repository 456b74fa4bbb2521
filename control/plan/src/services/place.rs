//! Where the seats and rings of a pool lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use causeway_lb::{BackendId, FrontendKey, Pool, PoolId, Ring, Scope, Seat};
use causeway_maps::service::{self as map, RingPage, RingRef, seat_flags};

use super::Services;
use super::extents::{Extent, Extents};
use super::lower::Writes;

/// A pool, what is wanted of it and where it lies.
#[derive(Debug, Default)]
pub(super) struct PoolState {
    /// `None` when it goes.
    pub(super) pool: Option<Pool>,
    pub(super) frontends: BTreeSet<FrontendKey>,
    seats: Vec<Option<Seat>>,
    /// Who sat on the seats that the map doesn't have yet as they are.
    left: BTreeMap<u16, Option<Seat>>,
    seats_at: Option<Extent>,
    rings: [RingState; 2],
    /// As it stands in the map.
    written: Option<map::Pool>,
}

/// A ring, and where it lies.
#[derive(Debug)]
struct RingState {
    /// What it is to become, if that differs from what it is.
    wanted: Option<Option<Arc<Ring>>>,
    pages: Option<Extent>,
    /// As pools name it.
    at: RingRef,
}

impl Default for RingState {
    fn default() -> Self {
        Self {
            wanted: None,
            pages: None,
            at: NOWHERE,
        }
    }
}

const NOWHERE: RingRef = RingRef { page: 0, slots: 0 };

impl PoolState {
    /// Notes who sits on a seat from now on.
    pub(super) fn seat(&mut self, number: u16, seat: Option<Seat>) {
        let at = usize::from(number);
        if self.seats.len() <= at {
            self.seats.resize(at + 1, None);
        }
        let before = core::mem::replace(&mut self.seats[at], seat);
        self.left.entry(number).or_insert(before);
    }

    /// Empties a seat that nobody wants since a restart; returns its index in the map.
    pub(super) fn empty_seat(&mut self, number: u16) -> Option<u32> {
        // The pool may have fewer seats by now.
        if let Some(seat) = self.seats.get_mut(usize::from(number)) {
            *seat = None;
        }
        let extent = self.seats_at?;
        (u32::from(number) < extent.len()).then_some(extent.start + u32::from(number))
    }

    /// Notes a ring that is wanted from now on, or none.
    pub(super) fn ring(&mut self, scope: Scope, ring: Option<Arc<Ring>>) {
        self.rings[scope as usize].wanted = Some(ring);
    }

    /// A pool as a map had it before a restart, with who sat on its seats; `None` if another pool lies where it should.
    pub(super) fn restored(
        written: map::Pool,
        seats: Vec<Option<Seat>>,
        seat_extents: &mut Extents,
        page_extents: &mut Extents,
    ) -> Option<Self> {
        let mut state = Self {
            written: Some(written),
            seats,
            ..Self::default()
        };
        if written.seats > 0 {
            let extent = seat_extents.claim(written.seats_base, written.seats.into())?;
            state.seats_at = Some(extent);
        }
        for (ring, at) in state.rings.iter_mut().zip([written.cluster, written.local]) {
            ring.at = at;
            if at.slots <= 1 {
                continue;
            }
            let needs = at.slots.div_ceil(RingPage::SLOTS as u32);
            ring.pages = page_extents.claim(at.page, needs);
            if ring.pages.is_none() {
                let pages = state.rings.into_iter().filter_map(|ring| ring.pages);
                pages.for_each(|extent| page_extents.free(extent));
                state
                    .seats_at
                    .into_iter()
                    .for_each(|extent| seat_extents.free(extent));
                return None;
            }
        }
        Some(state)
    }

    /// The extents that it needs and doesn't have; `None`, and nothing is taken, if there is no room for one of them.
    fn make_room(&self, pool: &Pool, seats: &mut Extents, pages: &mut Extents) -> Option<Room> {
        let mut room = Room::default();
        let wanted = u32::from(pool.seats);
        if wanted > self.seats_at.map_or(0, Extent::len) {
            room.seats = Some(seats.take(wanted)?);
        }
        for (ring, taken) in self.rings.iter().zip(&mut room.pages) {
            let needs = match &ring.wanted {
                Some(Some(wanted)) if single(wanted).is_none() => page_count(wanted),
                _ => continue,
            };
            if ring.pages.map(Extent::len) == Some(needs.next_power_of_two()) {
                continue;
            }
            *taken = pages.take(needs);
            if taken.is_none() {
                room.seats.into_iter().for_each(|extent| seats.free(extent));
                let pages_taken = room.pages.into_iter().flatten();
                pages_taken.for_each(|extent| pages.free(extent));
                return None;
            }
        }
        Some(room)
    }
}

/// Extents taken for a pool.
#[derive(Default)]
struct Room {
    seats: Option<Extent>,
    pages: [Option<Extent>; 2],
}

impl Services {
    /// Brings a pool to what is wanted of it, if there is room.
    pub(super) fn place(&mut self, id: PoolId, writes: &mut Writes) {
        let Some(state) = self.pools.get_mut(&id) else {
            self.starved.remove(&id);
            return;
        };
        let Some(pool) = state.pool.clone() else {
            self.drop_pool(id, writes);
            return;
        };
        let Some(room) = state.make_room(&pool, &mut self.seats, &mut self.pages) else {
            if self.starved.insert(id) {
                self.turned.insert(id);
            }
            return;
        };
        if self.starved.remove(&id) {
            self.turned.insert(id);
        }
        let base = place_seats(state, room.seats, &mut self.seats, writes);
        let before = state.written;
        let mut rings = [NOWHERE; 2];
        let mut kept = before.map_or([NOWHERE; 2], |before| [before.cluster, before.local]);
        for ((ring, pages), (now, kept)) in
            (state.rings.iter_mut().zip(room.pages)).zip(rings.iter_mut().zip(&mut kept))
        {
            *now = place_ring(ring, pages, &mut self.pages, writes);
            if now.slots > 0 {
                *kept = *now;
            }
        }
        let value = |[cluster, local]: [RingRef; 2], seats| map::Pool {
            identity: pool.identity(),
            service: pool.service.0,
            seats_base: base,
            seats,
            reserved: 0,
            affinity_seconds: pool.affinity.map_or(0, core::num::NonZeroU32::get),
            cluster,
            local,
        };
        // Frontends ask the rings of before until they are written.
        let seats_before = before.map_or(0, |before| before.seats);
        let first = value(kept, pool.seats.max(seats_before));
        let last = value(rings, pool.seats);
        if before != Some(first) {
            writes.pools.push((id.0, first));
        }
        if first != last {
            writes.pools_after.push((id.0, last));
        }
        state.written = Some(last);
        state.seats.truncate(usize::from(pool.seats));
    }

    /// Takes a pool out of the maps.
    pub(super) fn drop_pool(&mut self, id: PoolId, writes: &mut Writes) {
        let Some(state) = self.pools.remove(&id) else {
            return;
        };
        self.starved.remove(&id);
        if state.written.is_some() {
            let nothing = bytemuck::Zeroable::zeroed();
            writes.pools_after.push((id.0, nothing));
        }
        if let Some(extent) = state.seats_at {
            clear_seats(extent, extent.len(), writes);
            self.seats.give_back(extent);
        }
        for extent in state.rings.into_iter().filter_map(|ring| ring.pages) {
            self.pages.give_back(extent);
        }
    }
}

/// Writes the seats that differ, all of them if they move; returns where they begin.
fn place_seats(
    state: &mut PoolState,
    moved: Option<Extent>,
    extents: &mut Extents,
    writes: &mut Writes,
) -> u32 {
    let left = core::mem::take(&mut state.left);
    let number_of = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    if let Some(to) = moved {
        for (at, seat) in state.seats.iter().enumerate() {
            // Who leaves is still named by the ring of before.
            let sits = seat.or_else(|| left.get(&number_of(at)).copied().flatten());
            if let Some(sits) = sits {
                writes.seats.push((to.start + at as u32, lowered(sits)));
            }
        }
        if let Some(from) = state.seats_at.replace(to) {
            clear_seats(from, from.len(), writes);
            extents.give_back(from);
        }
    }
    let base = state.seats_at.map_or(0, |extent| extent.start);
    for (number, before) in left {
        let now = state.seats.get(usize::from(number)).copied().flatten();
        let index = base + u32::from(number);
        match now {
            Some(_) if moved.is_some() => {}
            Some(seat) => writes.seats.push((index, lowered(seat))),
            None if before.is_some() => {
                writes
                    .seats_after
                    .push((index, bytemuck::Zeroable::zeroed()));
            }
            None => {}
        }
    }
    base
}

pub(super) fn clear_seats(extent: Extent, len: u32, writes: &mut Writes) {
    let nothing = bytemuck::Zeroable::zeroed();
    let seats = (extent.start..extent.start + len).map(|index| (index, nothing));
    writes.seats_after.extend(seats);
}

/// Reads a seat back; `None` if nobody sits there.
pub(super) fn raised(seat: map::Seat) -> Option<Seat> {
    (seat.backend != 0).then_some(Seat {
        backend: BackendId(seat.backend),
        cluster: seat.flags & seat_flags::CLUSTER != 0,
        local: seat.flags & seat_flags::LOCAL != 0,
    })
}

fn lowered(seat: Seat) -> map::Seat {
    let flag = |set, flag| if set { flag } else { 0 };
    map::Seat {
        backend: seat.backend.0,
        flags: flag(seat.cluster, seat_flags::CLUSTER) | flag(seat.local, seat_flags::LOCAL),
    }
}

/// Writes a ring, in place if its size stays; returns where it is.
fn place_ring(
    state: &mut RingState,
    moved: Option<Extent>,
    extents: &mut Extents,
    writes: &mut Writes,
) -> RingRef {
    let Some(wanted) = state.wanted.take() else {
        return state.at;
    };
    let single = wanted.as_deref().map(single);
    let (pages, at) = match (wanted, single) {
        (None, _) | (_, None) => (None, NOWHERE),
        (Some(_), Some(Some(seat))) => {
            let page = seat.into();
            (None, RingRef { page, slots: 1 })
        }
        (Some(ring), Some(None)) => {
            let extent = moved.or(state.pages);
            let into = if moved.is_some() {
                &mut writes.pages
            } else {
                &mut writes.pages_in_place
            };
            let start = extent.map_or(0, |extent| extent.start);
            for (page, slots) in (start..).zip(ring.slots().chunks(RingPage::SLOTS)) {
                let mut seats = [RingPage::NOBODY; RingPage::SLOTS];
                seats[..slots.len()].copy_from_slice(slots);
                into.push((page, Box::new(RingPage { seats })));
            }
            let slots = u32::try_from(ring.slots().len()).unwrap_or(0);
            (extent, RingRef { page: start, slots })
        }
    };
    if let Some(before) = core::mem::replace(&mut state.pages, pages)
        && pages != Some(before)
    {
        extents.give_back(before);
    }
    state.at = at;
    at
}

/// The seat that all slots name, if they do.
fn single(ring: &Ring) -> Option<u16> {
    let [first, rest @ ..] = ring.slots() else {
        return None;
    };
    rest.iter().all(|seat| seat == first).then_some(*first)
}

fn page_count(ring: &Ring) -> u32 {
    u32::try_from(ring.slots().len().div_ceil(RingPage::SLOTS)).unwrap_or(u32::MAX)
}
