//! Entries of the tables as entries of the maps, and the order in which they are written.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use causeway_lb::{
    BackendKey, Delta, Family, Frontend, FrontendKey, Listen, RangesPolicy, Route, Scope,
    ServiceId, SourceRanges,
};
use causeway_maps::service::{
    self as map, RingPage, ServiceAddr, SourceRangeKey, admission, backend_flags, frontend_flags,
    frontend_kind, route, svc_addr_flags,
};

use super::{ServiceOp, Services};

/// The writes of a batch, by what they must not come before.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub(super) backends: Vec<(u32, map::Backend)>,
    pub(super) seats: Vec<(u32, map::Seat)>,
    pub(super) pages: Vec<(u32, Box<RingPage>)>,
    pub(super) pools: Vec<(u32, map::Pool)>,
    pub(super) pages_in_place: Vec<(u32, Box<RingPage>)>,
    source_ranges: Vec<(SourceRangeKey, u32)>,
    addresses: Vec<(ServiceAddr, u32)>,
    frontends: Vec<(map::FrontendKey, map::Frontend)>,
    pub(super) frontends_after: Vec<map::FrontendKey>,
    pub(super) addresses_after: Vec<ServiceAddr>,
    pub(super) source_ranges_after: Vec<SourceRangeKey>,
    pub(super) pools_after: Vec<(u32, map::Pool)>,
    pub(super) seats_after: Vec<(u32, map::Seat)>,
    pub(super) backends_after: Vec<(u32, map::Backend)>,
}

impl Writes {
    pub(super) fn into_ops(self) -> Vec<ServiceOp> {
        let ops = [
            ServiceOp::PutBackends(self.backends),
            ServiceOp::PutSeats(self.seats),
            ServiceOp::PutRingPages(self.pages),
            ServiceOp::PutPools(self.pools),
            ServiceOp::PutRingPages(self.pages_in_place),
            ServiceOp::PutSourceRanges(self.source_ranges),
            ServiceOp::PutAddresses(self.addresses),
            ServiceOp::PutFrontends(self.frontends),
            ServiceOp::DeleteFrontends(self.frontends_after),
            ServiceOp::DeleteAddresses(self.addresses_after),
            ServiceOp::DeleteSourceRanges(self.source_ranges_after),
            ServiceOp::PutPools(self.pools_after),
            ServiceOp::PutSeats(self.seats_after),
            ServiceOp::PutBackends(self.backends_after),
        ];
        ops.into_iter().filter(|op| !op.is_empty()).collect()
    }
}

impl Services {
    pub(super) fn change_backends(&mut self, delta: &Delta, writes: &mut Writes) {
        for (id, backend) in &delta.backends {
            let at = id.0 as usize;
            if self.generations.len() <= at {
                self.generations.resize(at + 1, 0);
            }
            let generation = &mut self.generations[at];
            let Some(backend) = backend else {
                self.backends.remove(id);
                writes.backends_after.push((id.0, gone(*generation)));
                continue;
            };
            if !self.backends.contains(id) {
                *generation = generation.wrapping_add(1);
            }
            self.backends.insert(*id);
            let value = lowered_backend(&backend.key, backend.serving, *generation);
            writes.backends.push((id.0, value));
        }
    }

    pub(super) fn change_source_ranges(&mut self, delta: &Delta, writes: &mut Writes) {
        for (key, ranges) in &delta.source_ranges {
            let now = ranges
                .as_ref()
                .map(|ranges| lowered_ranges(*key, ranges))
                .unwrap_or_default();
            let before = self.source_ranges.remove(key).unwrap_or_default();
            let changed = now
                .iter()
                .filter(|(key, value)| before.get(key) != Some(value));
            writes
                .source_ranges
                .extend(changed.map(|(key, value)| (*key, *value)));
            let gone = before.keys().filter(|key| !now.contains_key(key));
            writes.source_ranges_after.extend(gone);
            if !now.is_empty() {
                self.source_ranges.insert(*key, now);
            }
        }
    }

    pub(super) fn change_addresses(&mut self, delta: &Delta, writes: &mut Writes) {
        const NODE_PORT: u32 = svc_addr_flags::NODE_PORT;
        let mut touched = BTreeMap::new();
        let old = |addresses: &BTreeMap<ServiceAddr, u32>, addr: &ServiceAddr| {
            addresses.get(addr).copied().unwrap_or(0)
        };
        for (addr, held) in &delta.addresses {
            let addr = lowered_addr(*addr);
            let flags = touched
                .entry(addr)
                .or_insert_with(|| old(&self.addresses, &addr));
            *flags &= NODE_PORT;
            if let Some(held) = held {
                *flags |= svc_addr_flags::HELD;
                if held.reject_others {
                    *flags |= svc_addr_flags::REJECT_OTHERS;
                }
            }
        }
        for (addr, answers) in &delta.node_port_addresses {
            let addr = lowered_addr(*addr);
            let flags = touched
                .entry(addr)
                .or_insert_with(|| old(&self.addresses, &addr));
            *flags &= !NODE_PORT;
            if answers.is_some() {
                *flags |= NODE_PORT;
            }
        }
        for (addr, flags) in touched {
            if flags == 0 {
                self.addresses.remove(&addr);
                writes.addresses_after.push(addr);
            } else {
                self.addresses.insert(addr, flags);
                writes.addresses.push((addr, flags));
            }
        }
    }

    /// Returns the frontends that are refused from now on, and those that no longer are.
    pub(super) fn change_frontends(
        &mut self,
        delta: &Delta,
        writes: &mut Writes,
    ) -> (Vec<FrontendKey>, Vec<FrontendKey>) {
        let mut touched = BTreeSet::new();
        for (key, frontend) in &delta.frontends {
            touched.insert(*key);
            let before = match frontend {
                Some(frontend) => self.frontends.insert(*key, *frontend),
                None => self.frontends.remove(key),
            };
            if let Some(before) = before
                && let Some(pool) = self.pools.get_mut(&before.pool)
            {
                pool.frontends.remove(key);
            }
            if let Some(frontend) = frontend
                && let Some(pool) = self.pools.get_mut(&frontend.pool)
            {
                pool.frontends.insert(*key);
            }
            // One that goes is to be removed unless it never was there.
            if frontend.is_none() && before.is_some() && !self.refused.remove(key) {
                writes.frontends_after.push(lowered_key(key));
            }
        }
        for id in core::mem::take(&mut self.turned) {
            let pool = self.pools.get(&id);
            touched.extend(pool.into_iter().flat_map(|pool| &pool.frontends));
        }
        let (mut refused, mut admitted) = (Vec::new(), Vec::new());
        for key in touched {
            let Some(frontend) = self.frontends.get(&key) else {
                continue;
            };
            if self.starved.contains(&frontend.pool) {
                if self.refused.insert(key) {
                    refused.push(key);
                    writes.frontends_after.push(lowered_key(&key));
                }
                continue;
            }
            if self.refused.remove(&key) {
                admitted.push(key);
            }
            let value = lowered_frontend(frontend);
            writes.frontends.push((lowered_key(&key), value));
        }
        (refused, admitted)
    }
}

/// What stays of a backend: how often its number was given away.
pub(super) fn gone(generation: u32) -> map::Backend {
    map::Backend {
        generation,
        ..bytemuck::Zeroable::zeroed()
    }
}

fn lowered_addr(addr: IpAddr) -> ServiceAddr {
    match addr {
        IpAddr::V4(addr) => ServiceAddr::v4(addr.octets()),
        IpAddr::V6(addr) => ServiceAddr::v6(addr.octets()),
    }
}

fn lowered_backend(key: &BackendKey, serving: bool, generation: u32) -> map::Backend {
    let serving = if serving { backend_flags::SERVING } else { 0 };
    map::Backend {
        addr: lowered_addr(key.addr),
        port: key.port.to_be(),
        protocol: key.protocol as u8,
        flags: backend_flags::PRESENT | serving,
        generation,
    }
}

fn lowered_key(key: &FrontendKey) -> map::FrontendKey {
    let (addr, kind) = match key.listen {
        Listen::Address(addr) => (lowered_addr(addr), frontend_kind::ADDRESS),
        Listen::NodePort(Family::V4) => (ServiceAddr::v4([0; 4]), frontend_kind::NODE_PORT),
        Listen::NodePort(Family::V6) => (ServiceAddr::v6([0; 16]), frontend_kind::NODE_PORT),
    };
    map::FrontendKey {
        addr,
        port: key.port.to_be(),
        protocol: key.protocol as u8,
        kind,
    }
}

fn lowered_frontend(frontend: &Frontend) -> map::Frontend {
    let flags = if frontend.source_ranges {
        frontend_flags::SOURCE_RANGES
    } else {
        0
    };
    map::Frontend {
        pool: frontend.pool.0,
        service: frontend.service.0,
        pod: lowered_route(frontend.routes.pod),
        host: lowered_route(frontend.routes.host),
        outside: lowered_route(frontend.routes.outside),
        flags,
    }
}

fn lowered_route(route: Route) -> u8 {
    match route {
        Route::Reject => route::REJECT,
        Route::Drop => route::DROP,
        Route::Forward { scope, masquerade } => {
            let scope = match scope {
                Scope::Cluster => 0,
                Scope::Local => route::LOCAL,
            };
            let masquerade = if masquerade { route::MASQUERADE } else { 0 };
            route::FORWARD | scope | masquerade
        }
    }
}

fn lowered_ranges(
    (service, family): (ServiceId, Family),
    ranges: &SourceRanges,
) -> BTreeMap<SourceRangeKey, u32> {
    let (inside, outside) = match ranges.policy {
        RangesPolicy::Allow => (admission::ADMITTED, admission::REFUSED),
        RangesPolicy::Deny => (admission::REFUSED, admission::ADMITTED),
    };
    let ipv6 = family == Family::V6;
    let everybody = SourceRangeKey::new(service.0, ipv6, ServiceAddr::v6([0; 16]), 0);
    let prefixes = ranges.prefixes.iter().map(|prefix| {
        let mapped = if prefix.addr().is_ipv4() { 96 } else { 0 };
        let len = mapped + u32::from(prefix.prefix_len());
        let addr = lowered_addr(prefix.addr());
        (SourceRangeKey::new(service.0, ipv6, addr, len), inside)
    });
    // `::/0` is the same entry as everybody's, and stands for more.
    core::iter::once((everybody, outside))
        .chain(prefixes)
        .collect()
}
