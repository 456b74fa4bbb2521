//! A restart over maps that are full: numbers and places are taken over, what nobody wants again goes.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeSet;

use causeway_lb::{BackendId, BackendKey, Lb, PoolId, Protocol, ServiceId};
use causeway_maps::service::{
    self as map, Backend, FrontendKey, ServiceAddr, SourceRangeKey, backend_flags,
};

use super::lower::{Writes, gone};
use super::place::{PoolState, raised};
use super::{ServiceDump, ServiceOp, Services};

/// Entries that the maps held before a restart, and that nobody has wanted since.
#[derive(Debug, Default)]
pub(super) struct Stale {
    backends: BTreeSet<u32>,
    pub(super) seats: BTreeSet<(PoolId, u16)>,
    pub(super) pools: BTreeSet<PoolId>,
    source_ranges: BTreeSet<SourceRangeKey>,
    addresses: BTreeSet<ServiceAddr>,
    frontends: BTreeSet<FrontendKey>,
}

impl Stale {
    /// These are written.
    pub(super) fn wanted(&mut self, ops: &[ServiceOp]) {
        for op in ops {
            match op {
                ServiceOp::PutBackends(entries) => strike(&mut self.backends, entries),
                ServiceOp::PutSourceRanges(entries) => strike(&mut self.source_ranges, entries),
                ServiceOp::PutAddresses(entries) => strike(&mut self.addresses, entries),
                ServiceOp::PutFrontends(entries) => strike(&mut self.frontends, entries),
                _ => {}
            }
        }
    }
}

fn strike<K: Ord, V>(from: &mut BTreeSet<K>, entries: &[(K, V)]) {
    if from.is_empty() {
        return;
    }
    for (key, _) in entries {
        from.remove(key);
    }
}

impl ServiceDump {
    /// After a restart, before anything is applied: gives the numbers that the maps hold to those who had them.
    pub fn restore(&self, lb: &mut Lb) {
        for (id, pool) in &self.pools {
            lb.restore_pool(pool.identity, PoolId(*id), ServiceId(pool.service));
        }
        for (id, backend) in &self.backends {
            if let Some(key) = key(backend) {
                lb.restore_backend(BackendId(*id), key);
            }
        }
        for (id, pool) in &self.pools {
            for number in 0..pool.seats {
                let seat = self.seats.get(&pool.seats_base.wrapping_add(number.into()));
                let backend = seat.and_then(|seat| self.backends.get(&seat.backend));
                if let Some(key) = backend.and_then(key) {
                    lb.restore_seat(PoolId(*id), number, key);
                }
            }
        }
    }
}

impl Services {
    /// After a restart, before the first delta: the maps hold this, and packets go by it. Pools that lie on top of each
    /// other are written anew elsewhere.
    pub fn restore(&mut self, dump: &ServiceDump) {
        let last = dump.backends.keys().next_back();
        let len = last.map_or(0, |last| *last as usize + 1);
        self.generations = vec![0; len];
        for (id, backend) in &dump.backends {
            self.generations[*id as usize] = backend.generation;
            if backend.flags & backend_flags::PRESENT != 0 {
                self.backends.insert(BackendId(*id));
                self.stale.backends.insert(*id);
            }
        }
        for (id, pool) in &dump.pools {
            let seat = |number: u16| {
                let seat = dump.seats.get(&pool.seats_base.wrapping_add(number.into()));
                seat.copied().and_then(raised)
            };
            let seats: Vec<_> = (0..pool.seats).map(seat).collect();
            let taken = (0..).zip(&seats).filter(|(_, seat)| seat.is_some());
            let numbers: Vec<u16> = taken.map(|(number, _)| number).collect();
            self.stale.pools.insert(PoolId(*id));
            let state = PoolState::restored(*pool, seats, &mut self.seats, &mut self.pages);
            if let Some(state) = state {
                self.pools.insert(PoolId(*id), state);
                self.stale
                    .seats
                    .extend(numbers.into_iter().map(|number| (PoolId(*id), number)));
            }
        }
        self.stale.source_ranges.extend(dump.source_ranges.keys());
        self.stale.addresses.extend(dump.addresses.keys());
        self.stale.frontends.extend(dump.frontends.keys());
    }

    /// All that is wanted has been applied once since [`Self::restore`]: the writes that remove the rest.
    pub fn prune(&mut self) -> Vec<ServiceOp> {
        let stale = core::mem::take(&mut self.stale);
        let mut writes = Writes::default();
        writes.frontends_after.extend(stale.frontends);
        writes.addresses_after.extend(stale.addresses);
        writes.source_ranges_after.extend(stale.source_ranges);
        for id in stale.pools {
            if self.pools.contains_key(&id) {
                self.drop_pool(id, &mut writes);
            } else {
                let nothing = bytemuck::Zeroable::zeroed();
                writes.pools_after.push((id.0, nothing));
            }
        }
        for (id, number) in stale.seats {
            let pool = self.pools.get_mut(&id);
            let index = pool.and_then(|pool| pool.empty_seat(number));
            let nothing = bytemuck::Zeroable::zeroed();
            writes
                .seats_after
                .extend(index.map(|index| (index, nothing)));
        }
        for id in stale.backends {
            self.backends.remove(&BackendId(id));
            let generation = self.generations.get(id as usize).copied();
            writes
                .backends_after
                .push((id, gone(generation.unwrap_or(0))));
        }
        writes.into_ops()
    }
}

/// Whose entry it is; `None` for nobody's.
fn key(backend: &map::Backend) -> Option<BackendKey> {
    let Backend { flags, port, .. } = *backend;
    let addr: IpAddr = Ipv6Addr::from(backend.addr.octets()).to_canonical();
    (flags & backend_flags::PRESENT != 0).then_some(BackendKey {
        addr,
        port: u16::from_be(port),
        protocol: Protocol::from_number(backend.protocol)?,
    })
}
