//! Writes to the maps of services, and what maps hold after them.

use std::collections::{BTreeMap, BTreeSet};

use causeway_maps::service::{
    Backend, Frontend, FrontendKey, Pool, RingPage, Seat, ServiceAddr, SourceRangeKey,
    backend_flags, frontend_kind, route,
};

/// Entries of one map to be written in their order. Doing it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceOp {
    /// Write entries of `backends`.
    PutBackends(Vec<(u32, Backend)>),
    /// Write entries of `seats`.
    PutSeats(Vec<(u32, Seat)>),
    /// Write entries of `ring_pages`.
    PutRingPages(Vec<(u32, Box<RingPage>)>),
    /// Write entries of `pools`.
    PutPools(Vec<(u32, Pool)>),
    /// Add or replace entries of `src_ranges`.
    PutSourceRanges(Vec<(SourceRangeKey, u32)>),
    /// Remove entries of `src_ranges`; absent ones are fine.
    DeleteSourceRanges(Vec<SourceRangeKey>),
    /// Add or replace entries of `svc_addrs`.
    PutAddresses(Vec<(ServiceAddr, u32)>),
    /// Remove entries of `svc_addrs`; absent ones are fine.
    DeleteAddresses(Vec<ServiceAddr>),
    /// Add or replace entries of `frontends`.
    PutFrontends(Vec<(FrontendKey, Frontend)>),
    /// Remove entries of `frontends`; absent ones are fine.
    DeleteFrontends(Vec<FrontendKey>),
}

impl ServiceOp {
    /// Entries that it writes or removes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::PutBackends(entries) => entries.len(),
            Self::PutSeats(entries) => entries.len(),
            Self::PutRingPages(entries) => entries.len(),
            Self::PutPools(entries) => entries.len(),
            Self::PutSourceRanges(entries) => entries.len(),
            Self::DeleteSourceRanges(keys) => keys.len(),
            Self::PutAddresses(entries) => entries.len(),
            Self::DeleteAddresses(keys) => keys.len(),
            Self::PutFrontends(entries) => entries.len(),
            Self::DeleteFrontends(keys) => keys.len(),
        }
    }

    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// It in parts of one entry each, for tests of what holds in between.
    #[must_use]
    pub fn single(&self) -> Vec<Self> {
        fn each<T: Clone>(entries: &[T], op: fn(Vec<T>) -> ServiceOp) -> Vec<ServiceOp> {
            entries
                .iter()
                .map(|entry| op(vec![entry.clone()]))
                .collect()
        }
        match self {
            Self::PutBackends(entries) => each(entries, Self::PutBackends),
            Self::PutSeats(entries) => each(entries, Self::PutSeats),
            Self::PutRingPages(entries) => each(entries, Self::PutRingPages),
            Self::PutPools(entries) => each(entries, Self::PutPools),
            Self::PutSourceRanges(entries) => each(entries, Self::PutSourceRanges),
            Self::DeleteSourceRanges(keys) => each(keys, Self::DeleteSourceRanges),
            Self::PutAddresses(entries) => each(entries, Self::PutAddresses),
            Self::DeleteAddresses(keys) => each(keys, Self::DeleteAddresses),
            Self::PutFrontends(entries) => each(entries, Self::PutFrontends),
            Self::DeleteFrontends(keys) => each(keys, Self::DeleteFrontends),
        }
    }
}

/// The contents of the maps of services, entries of arrays that are all zero left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceDump {
    /// `backends`.
    pub backends: BTreeMap<u32, Backend>,
    /// `seats`.
    pub seats: BTreeMap<u32, Seat>,
    /// `ring_pages`. Those that no pool names may hold anything.
    pub ring_pages: BTreeMap<u32, Box<RingPage>>,
    /// `pools`.
    pub pools: BTreeMap<u32, Pool>,
    /// `src_ranges`.
    pub source_ranges: BTreeMap<SourceRangeKey, u32>,
    /// `svc_addrs`.
    pub addresses: BTreeMap<ServiceAddr, u32>,
    /// `frontends`.
    pub frontends: BTreeMap<FrontendKey, Frontend>,
}

impl ServiceDump {
    /// Changes it as `op` changes the maps.
    pub fn apply(&mut self, op: &ServiceOp) {
        match op {
            ServiceOp::PutBackends(entries) => put(&mut self.backends, entries),
            ServiceOp::PutSeats(entries) => put(&mut self.seats, entries),
            ServiceOp::PutRingPages(entries) => self.ring_pages.extend(entries.iter().cloned()),
            ServiceOp::PutPools(entries) => put(&mut self.pools, entries),
            ServiceOp::PutSourceRanges(entries) => {
                self.source_ranges.extend(entries.iter().copied())
            }
            ServiceOp::DeleteSourceRanges(keys) => {
                self.source_ranges.retain(|key, _| !keys.contains(key));
            }
            ServiceOp::PutAddresses(entries) => self.addresses.extend(entries.iter().copied()),
            ServiceOp::DeleteAddresses(keys) => self.addresses.retain(|key, _| !keys.contains(key)),
            ServiceOp::PutFrontends(entries) => self.frontends.extend(entries.iter().copied()),
            ServiceOp::DeleteFrontends(keys) => self.frontends.retain(|key, _| !keys.contains(key)),
        }
    }

    /// The backend of a connection with this hash, found as the programs find it: by page, seat and backend. `None` where
    /// there is no such ring.
    #[must_use]
    pub fn backend(&self, pool: u32, local: bool, hash: u32) -> Option<&Backend> {
        let pool = self.pools.get(&pool)?;
        let ring = if local { pool.local } else { pool.cluster };
        let slot = hash.checked_rem(ring.slots)?;
        let seat = if ring.slots == 1 {
            u16::try_from(ring.page).ok()?
        } else {
            let page = self
                .ring_pages
                .get(&(ring.page + (slot >> RingPage::SLOT_BITS)))?;
            page.seats[slot as usize % RingPage::SLOTS]
        };
        if seat >= pool.seats {
            return None;
        }
        let seat = self.seats.get(&(pool.seats_base + u32::from(seat)))?;
        let backend = self.backends.get(&seat.backend);
        backend.filter(|backend| backend.flags & backend_flags::PRESENT != 0)
    }

    /// What doesn't hold together, one sentence each: frontends by whose routes some connection finds no backend.
    #[must_use]
    pub fn inconsistencies(&self) -> Vec<String> {
        let asked: BTreeSet<_> = self
            .frontends
            .values()
            .flat_map(|frontend| {
                [frontend.pod, frontend.host, frontend.outside]
                    .into_iter()
                    .filter(|route| route & route::FORWARD != 0)
                    .map(|route| (frontend.pool, route & route::LOCAL != 0))
            })
            .collect();
        let mut found = Vec::new();
        for (pool, local) in asked {
            let slots = self.pools.get(&pool).map_or(0, |pool| {
                let ring = if local { pool.local } else { pool.cluster };
                ring.slots
            });
            let lost = (0..slots).find(|slot| self.backend(pool, local, *slot).is_none());
            if slots == 0 || lost.is_some() {
                let ring = if local { "local" } else { "cluster" };
                found.push(format!("the {ring} ring of pool {pool} leads nowhere"));
            }
        }
        let unnamed = self.frontends.iter().filter(|(key, frontend)| {
            frontend.pool == 0
                || (key.kind == frontend_kind::ADDRESS && !self.addresses.contains_key(&key.addr))
        });
        found.extend(unnamed.map(|(key, _)| format!("{:?} is not held", key.addr.octets())));
        found
    }
}

/// Entries of an array: one that is all zero is nothing.
fn put<V: bytemuck::Pod + PartialEq>(map: &mut BTreeMap<u32, V>, entries: &[(u32, V)]) {
    for (index, value) in entries {
        if *value == V::zeroed() {
            map.remove(index);
        } else {
            map.insert(*index, *value);
        }
    }
}
