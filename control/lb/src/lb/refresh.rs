//! One service brought to what it wants now.

use core::net::IpAddr;
use core::num::NonZeroU16;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::compile::{Wanted, WantedPool, compile};
use crate::pool::PoolState;
use crate::problem::{Findings, Place, ProblemKind};
use crate::tables::{FrontendKey, FrontendKind};
use crate::types::{Family, ObjectKey, ObjectRef};

use super::{Claim, Entry, Lb};

impl Lb {
    /// Computes a service anew and writes what differs into [`super::Touched`].
    pub(super) fn refresh(&mut self, at: usize) {
        let wanted = self.wanted(at);
        self.entries[at].dirty = false;
        self.starved.remove(&at);
        self.touched.entries.insert(at);
        self.orphans(at);
        let new_id = self.service_id(at, &wanted);
        let left_out = self.pools(at, &wanted.pools) + wanted.left_out;
        self.claim_addresses(at, wanted.addresses);
        self.claim_health_check(at, wanted.health_check);
        let entry = &mut self.entries[at];
        if let Some(id) = entry.id {
            for (family, ranges) in Family::ALL.into_iter().zip(wanted.source_ranges) {
                let before = &mut entry.source_ranges[family as usize];
                if *before != ranges {
                    before.clone_from(&ranges);
                    self.touched.source_ranges.insert((id, family), ranges);
                }
            }
        }
        entry.left_out = left_out;
        if entry.pools.is_empty()
            && let Some(id) = entry.id.take()
        {
            // One that was given back for others to have would bring this service here again, forever.
            if new_id {
                self.service_ids.untake(id.0);
            } else {
                self.service_ids.give_back(id.0);
            }
        }
        if entry.service.is_none() && entry.slices.is_empty() {
            let entry = self.entries.remove(at);
            self.by_key.remove(&entry.key);
            self.touched.entries.remove(&at);
            let reference = ObjectRef::Service(entry.key);
            self.problems.clear(&reference, Place::Tables);
        }
    }

    fn wanted(&self, at: usize) -> Wanted {
        let entry = &self.entries[at];
        match entry.service.as_deref() {
            Some(service) if service.hands_off.is_none() => {
                compile(service, || entry.slices.values(), self.here(), &self.config)
            }
            _ => Wanted::default(),
        }
    }

    /// Tells of slices without a service, or that they have one now.
    fn orphans(&mut self, at: usize) {
        let Entry {
            key,
            service,
            slices,
            ..
        } = &self.entries[at];
        for name in slices.keys() {
            let reference = ObjectRef::EndpointSlice(ObjectKey {
                namespace: Arc::clone(&key.namespace),
                name: Arc::clone(name),
            });
            if service.is_some() {
                self.problems.clear(&reference, Place::Tables);
                continue;
            }
            let mut findings = Findings::new(&self.config.limits);
            let text = format!("there is no Service {key}; the slice waits for it");
            findings.push(ProblemKind::NoService, "metadata.labels", text);
            self.problems.set(reference, Place::Tables, findings);
        }
    }

    /// Numbers a service that wants pools; says whether it had no number before.
    fn service_id(&mut self, at: usize, wanted: &Wanted) -> bool {
        let entry = &mut self.entries[at];
        if entry.id.is_some() || wanted.pools.is_empty() {
            return false;
        }
        let identities = wanted.pools.iter().map(|pool| pool.identity(&entry.key));
        entry.id = self
            .former
            .service(identities)
            .or_else(|| self.service_ids.take().map(crate::tables::ServiceId));
        entry.id.is_some()
    }

    /// Brings the pools to what is wanted; says for how much there was no room.
    fn pools(&mut self, at: usize, wanted: &[WantedPool]) -> usize {
        let entry = &mut self.entries[at];
        let mut before = core::mem::take(&mut entry.pools);
        let old_claims: BTreeSet<_> = before.iter().flat_map(|pool| claims(at, pool)).collect();
        let mut left_out = 0;
        let mut now = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let Some(service) = entry.id else {
                left_out += 1;
                continue;
            };
            let same = before.iter().position(|pool| {
                pool.published.as_ref().is_some_and(|pool| {
                    (&pool.port_name, pool.protocol, pool.family)
                        == (&wanted.port_name, wanted.protocol, wanted.family)
                })
            });
            let pool = match same {
                Some(same) => Some(before.swap_remove(same)),
                None => self
                    .former
                    .pool(wanted.identity(&entry.key))
                    .or_else(|| self.pool_ids.take().map(crate::tables::PoolId))
                    .map(PoolState::new),
            };
            let Some(mut pool) = pool else {
                left_out += 1;
                continue;
            };
            left_out += pool.update(
                service,
                &entry.key,
                wanted,
                &mut self.backends,
                &self.former,
                &mut self.touched.pools,
            );
            pool.frontends.clone_from(&wanted.frontends);
            now.push(pool);
        }
        entry.pools = now;
        for pool in before {
            self.pool_ids.give_back(pool.id.0);
            pool.remove(&mut self.backends, &mut self.touched.pools);
        }
        let new_claims: BTreeSet<_> = (self.entries[at].pools.iter())
            .flat_map(|pool| claims(at, pool))
            .collect();
        for (key, claim) in old_claims.difference(&new_claims) {
            if let Some(slot) = self.frontends.get_mut(key) {
                slot.claims.retain(|other| other != claim);
            }
        }
        for (key, claim) in new_claims.difference(&old_claims) {
            self.frontends.entry(*key).or_default().claims.push(*claim);
        }
        let keys = old_claims.union(&new_claims).map(|(key, _)| *key);
        self.touched.frontends.extend(keys);
        if left_out > 0 {
            self.starved.insert(at);
        }
        left_out
    }

    fn claim_addresses(&mut self, at: usize, wanted: Vec<(IpAddr, FrontendKind)>) {
        let before = core::mem::replace(&mut self.entries[at].addresses, wanted);
        let now = &self.entries[at].addresses;
        for (addr, kind) in before.iter().filter(|claim| !now.contains(claim)) {
            if let Some(slot) = self.addresses.get_mut(addr) {
                slot.claims.retain(|claim| *claim != (at, *kind));
            }
        }
        for (addr, kind) in now.iter().filter(|claim| !before.contains(claim)) {
            let slot = self.addresses.entry(*addr).or_default();
            slot.claims.push((at, *kind));
        }
        let addrs = before.iter().chain(now).map(|(addr, _)| *addr);
        self.touched.addresses.extend(addrs);
    }

    fn claim_health_check(&mut self, at: usize, wanted: Option<(NonZeroU16, u32)>) {
        let before = core::mem::replace(&mut self.entries[at].health_check, wanted);
        let port = |check: Option<(NonZeroU16, u32)>| check.map(|(port, _)| port);
        if port(before) != port(wanted) {
            if let Some((port, _)) = before
                && let Some(slot) = self.health_checks.get_mut(&port)
            {
                slot.claims.retain(|entry| *entry != at);
            }
            if let Some((port, _)) = wanted {
                self.health_checks.entry(port).or_default().claims.push(at);
            }
        }
        let ports = [before, wanted].into_iter().filter_map(port);
        self.touched.health_checks.extend(ports);
    }
}

/// What a pool claims.
fn claims(at: usize, pool: &PoolState) -> impl Iterator<Item = (FrontendKey, Claim)> + '_ {
    pool.frontends.iter().map(move |(key, kind)| {
        let claim = Claim {
            kind: *kind,
            entry: at,
            pool: pool.id,
        };
        (*key, claim)
    })
}
