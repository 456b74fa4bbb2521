//! A pool as it stands in the tables: who sits where, and which rings were made of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::backends::Backends;
use crate::compile::{Member, WantedPool};
use crate::ids::Ids;
use crate::maglev::{self, Ring};
use crate::tables::{
    BackendId, FrontendKey, FrontendKind, Pool, PoolId, Routes, Scope, Seat, ServiceId,
};
use crate::traffic_policy;
use crate::types::{BackendKey, ObjectKey};

/// Both scopes, in the order of [`PoolState::rings`].
const SCOPES: [Scope; 2] = [Scope::Cluster, Scope::Local];

/// A ring can't name more.
pub(crate) const MOST_SEATS: usize = maglev::SIZES[maglev::SIZES.len() - 1] as usize;

/// Changes of pools, for the next delta.
#[derive(Debug, Default)]
pub(crate) struct PoolChanges {
    pub(crate) seats: BTreeMap<(PoolId, u16), Option<Seat>>,
    pub(crate) rings: BTreeMap<(PoolId, Scope), Option<Arc<Ring>>>,
    pub(crate) pools: BTreeMap<PoolId, Option<Pool>>,
}

/// A pool.
#[derive(Debug)]
pub(crate) struct PoolState {
    pub(crate) id: PoolId,
    pub(crate) published: Option<Pool>,
    /// For cluster addresses.
    pub(crate) internal: Routes,
    /// For all others.
    pub(crate) external: Routes,
    pub(crate) frontends: Vec<(FrontendKey, FrontendKind)>,
    pub(crate) local_terminating: bool,
    /// Every endpoint's backend, chosen or not, in the order of keys.
    held: Vec<HeldBackend>,
    seats: Vec<Option<Seat>>,
    /// What the rings were made of: key order; empty for no ring.
    rings: [Vec<Share>; 2],
}

#[derive(Clone, Copy, Debug)]
struct HeldBackend {
    key: BackendKey,
    id: BackendId,
    serving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    backend: BackendId,
    seat: u16,
    weight: u16,
}

impl PoolState {
    pub(crate) fn new(id: PoolId) -> Self {
        let nobody = Routes {
            pod: crate::tables::Route::Reject,
            host: crate::tables::Route::Reject,
            outside: crate::tables::Route::Reject,
        };
        Self {
            id,
            published: None,
            internal: nobody,
            external: nobody,
            frontends: Vec::new(),
            local_terminating: false,
            held: Vec::new(),
            seats: Vec::new(),
            rings: [Vec::new(), Vec::new()],
        }
    }

    /// What becomes of connections to a frontend of this kind.
    pub(crate) fn routes(&self, kind: FrontendKind) -> Routes {
        match kind {
            FrontendKind::ClusterIp => self.internal,
            _ => self.external,
        }
    }

    /// Backends in the local ring.
    pub(crate) fn local_members(&self) -> usize {
        self.rings[Scope::Local as usize].len()
    }

    /// The number of this backend, if the pool has it.
    pub(crate) fn backend(&self, key: &BackendKey) -> Option<BackendId> {
        let at = self.held.binary_search_by(|held| held.key.cmp(key)).ok()?;
        Some(self.held[at].id)
    }

    /// Brings the pool to what is wanted. Says how many endpoints found no room.
    pub(crate) fn update(
        &mut self,
        service: ServiceId,
        owner: &ObjectKey,
        wanted: &WantedPool,
        backends: &mut Backends,
        former_seats: &Former,
        out: &mut PoolChanges,
    ) -> usize {
        let members = self.hold(&wanted.members, backends);
        let left_out = wanted.members.len() - members.len();
        self.seat(&members, former_seats, out);
        for scope in SCOPES {
            self.ring(scope, &members, out);
        }
        let mut filled = wanted.filled();
        // Endpoints without room are in no ring.
        filled.cluster &= !self.rings[Scope::Cluster as usize].is_empty();
        filled.local &= !self.rings[Scope::Local as usize].is_empty();
        self.internal = traffic_policy::internal(wanted.internal_policy, filled);
        self.external = traffic_policy::external(wanted.external_policy, filled);
        self.local_terminating = wanted.local_terminating;
        let pool = Pool {
            service,
            owner: owner.clone(),
            port_name: Arc::clone(&wanted.port_name),
            protocol: wanted.protocol,
            family: wanted.family,
            affinity: wanted.affinity,
            seats: seat_number(self.seats.len()),
        };
        if self.published.as_ref() != Some(&pool) {
            out.pools.insert(self.id, Some(pool.clone()));
            self.published = Some(pool);
        }
        left_out
    }

    /// Takes the pool out of the tables.
    pub(crate) fn remove(self, backends: &mut Backends, out: &mut PoolChanges) {
        for held in &self.held {
            backends.release(held.id, held.serving);
        }
        for number in taken(&self.seats) {
            out.seats.insert((self.id, number), None);
        }
        for scope in SCOPES {
            if !self.rings[scope as usize].is_empty() {
                out.rings.insert((self.id, scope), None);
            }
        }
        if self.published.is_some() {
            out.pools.insert(self.id, None);
        }
    }

    /// Holds the backends of all members, and no others. Returns the members that found room, in the order of keys.
    fn hold<'a>(
        &mut self,
        wanted: &'a [Member],
        backends: &mut Backends,
    ) -> Vec<(&'a Member, BackendId)> {
        let mut before = core::mem::take(&mut self.held).into_iter().peekable();
        let mut members = Vec::with_capacity(wanted.len());
        let mut gone = Vec::new();
        for member in wanted {
            while let Some(held) = before.next_if(|held| held.key < member.key) {
                gone.push(held);
            }
            let id = match before.next_if(|held| held.key == member.key) {
                Some(held) => {
                    backends.set_serving(held.id, held.serving, member.serving);
                    Some(held.id)
                }
                None => backends.acquire(member.key, member.serving),
            };
            if let Some(id) = id {
                members.push((member, id));
                self.held.push(HeldBackend {
                    key: member.key,
                    id,
                    serving: member.serving,
                });
            }
        }
        for held in gone.into_iter().chain(before) {
            backends.release(held.id, held.serving);
        }
        members
    }

    /// Gives every chosen member a seat; who has one keeps it.
    fn seat(&mut self, members: &[(&Member, BackendId)], former: &Former, out: &mut PoolChanges) {
        let mut chosen: Vec<_> = members
            .iter()
            .filter(|(member, _)| member.cluster || member.local)
            .map(|(member, id)| {
                let seat = Seat {
                    backend: *id,
                    cluster: member.cluster,
                    local: member.local,
                };
                (*id, member.key, seat)
            })
            .collect();
        chosen.sort_unstable_by_key(|(id, ..)| *id);
        let mut seated = vec![false; chosen.len()];
        let before = self.seats.clone();
        for seat in &mut self.seats {
            let Some(holder) = seat else {
                continue;
            };
            match chosen.binary_search_by_key(&holder.backend, |(id, ..)| *id) {
                Ok(at) => {
                    seated[at] = true;
                    *seat = Some(chosen[at].2);
                }
                Err(_) => *seat = None,
            }
        }
        // In the order of keys, so that a pool that is filled at once is seated in that order.
        let mut standing: Vec<_> = chosen
            .iter()
            .zip(seated)
            .filter(|(_, seated)| !seated)
            .map(|((_, key, seat), _)| (*key, *seat))
            .collect();
        standing.sort_unstable_by_key(|(key, _)| *key);
        // Those who sat here before a restart go first, lest somebody takes their seat.
        standing.retain(|(key, seat)| {
            let number = former.seat(self.id, key).filter(|number| {
                usize::from(*number) < MOST_SEATS
                    && self
                        .seats
                        .get(usize::from(*number))
                        .is_none_or(Option::is_none)
            });
            let Some(number) = number.map(usize::from) else {
                return true;
            };
            if self.seats.len() <= number {
                self.seats.resize(number + 1, None);
            }
            self.seats[number] = Some(*seat);
            false
        });
        let mut next = 0;
        for (_, seat) in standing {
            while self.seats.get(next).is_some_and(Option::is_some) {
                next += 1;
            }
            match self.seats.get_mut(next) {
                Some(empty) => *empty = Some(seat),
                None => self.seats.push(Some(seat)),
            }
        }
        while self.seats.last().is_some_and(Option::is_none) {
            self.seats.pop();
        }
        for number in 0..before.len().max(self.seats.len()) {
            let [old, new] =
                [&before, &self.seats].map(|seats| seats.get(number).copied().flatten());
            if old != new {
                out.seats.insert((self.id, seat_number(number)), new);
            }
        }
    }

    fn ring(&mut self, scope: Scope, members: &[(&Member, BackendId)], out: &mut PoolChanges) {
        let mut seats: Vec<_> = taken(&self.seats)
            .filter_map(|number| Some((self.seats[usize::from(number)]?.backend, number)))
            .collect();
        seats.sort_unstable();
        let mut shares = Vec::new();
        let mut ring_members = Vec::new();
        for (member, backend) in members.iter().filter(|(member, _)| member.in_scope(scope)) {
            let Ok(at) = seats.binary_search_by_key(backend, |(id, _)| *id) else {
                continue;
            };
            let (seat, weight) = (seats[at].1, member.weight);
            shares.push(Share {
                backend: *backend,
                seat,
                weight,
            });
            ring_members.push((member.key, weight, seat));
        }
        let before = &mut self.rings[scope as usize];
        if *before == shares {
            return;
        }
        let ring = Ring::new(&ring_members).map(Arc::new);
        *before = shares;
        out.rings.insert((self.id, scope), ring);
    }
}

/// Numbers of seats that are taken.
fn taken(seats: &[Option<Seat>]) -> impl Iterator<Item = u16> + '_ {
    seats
        .iter()
        .enumerate()
        .filter(|(_, seat)| seat.is_some())
        .map(|(number, _)| seat_number(number))
}

/// Pools have at most as many members as a ring has slots, which is less than 2^16.
fn seat_number(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// What the maps held before a restart: numbers that are given out again to whoever had them.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// By identity.
    pools: HashMap<u64, (PoolId, ServiceId), FixedState>,
    services: BTreeSet<ServiceId>,
    seats: HashMap<(PoolId, BackendKey), u16, FixedState>,
}

impl Former {
    pub(crate) fn keep_pool(
        &mut self,
        identity: u64,
        pool: PoolId,
        service: ServiceId,
        pool_ids: &mut Ids,
        service_ids: &mut Ids,
    ) {
        if pool_ids.claim(pool.0)
            && let Some((other, _)) = self.pools.insert(identity, (pool, service))
        {
            pool_ids.give_back(other.0);
        }
        if service_ids.claim(service.0) {
            self.services.insert(service);
        }
    }

    pub(crate) fn keep_seat(&mut self, pool: PoolId, key: BackendKey, seat: u16) {
        self.seats.insert((pool, key), seat);
    }

    fn seat(&self, pool: PoolId, key: &BackendKey) -> Option<u16> {
        self.seats.get(&(pool, *key)).copied()
    }

    /// The number of the service that had one of these pools, once.
    pub(crate) fn service(&mut self, identities: impl Iterator<Item = u64>) -> Option<ServiceId> {
        let mut known = identities.filter_map(|identity| self.pools.get(&identity));
        let (_, service) = known.find(|(_, service)| self.services.contains(service))?;
        self.services.take(service)
    }

    /// The number of a pool, once.
    pub(crate) fn pool(&mut self, identity: u64) -> Option<PoolId> {
        Some(self.pools.remove(&identity)?.0)
    }

    /// Gives back what nobody has wanted since.
    pub(crate) fn end(&mut self, pool_ids: &mut Ids, service_ids: &mut Ids) {
        let former = core::mem::take(self);
        for (pool, _) in former.pools.into_values() {
            pool_ids.give_back(pool.0);
        }
        for service in former.services {
            service_ids.give_back(service.0);
        }
    }
}
