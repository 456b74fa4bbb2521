//! Routes that others put into the kernel's main table.

use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::facts::{KernelRoute, RouteLeg, RouteTarget, Subnet};
use crate::kernel::{METRIC, PROTOCOL};

/// By prefix, then metric: of several for one prefix the first counts.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    routes: BTreeMap<Subnet, BTreeMap<u32, Entry>>,
    lengths: BTreeMap<(bool, u8), usize>,
    count: usize,
    /// Did not fit since the last listing.
    pub(crate) refused: u64,
}

#[derive(Debug)]
struct Entry {
    target: RouteTarget,
    /// Of the listing being made.
    seen: bool,
}

impl Foreign {
    /// Returns whether that changes anything.
    pub(crate) fn insert(&mut self, route: &KernelRoute, max: usize) -> bool {
        let KernelRoute { prefix, metric, .. } = *route;
        if route.protocol == PROTOCOL {
            return false;
        }
        let entry = Entry {
            target: route.target.clone(),
            seen: true,
        };
        let there = self
            .routes
            .get_mut(&prefix)
            .and_then(|metrics| metrics.get_mut(&metric));
        if let Some(there) = there {
            let changed = there.target != entry.target;
            *there = entry;
            return changed;
        }
        if self.count >= max {
            self.refused += 1;
            return false;
        }
        self.count += 1;
        let length = (prefix.addr().is_ipv4(), prefix.len());
        *self.lengths.entry(length).or_default() += 1;
        self.routes.entry(prefix).or_default().insert(metric, entry);
        true
    }

    /// Returns whether that changes anything.
    pub(crate) fn remove(&mut self, route: &KernelRoute) -> bool {
        if route.protocol == PROTOCOL {
            return false;
        }
        // IPv6 removes the ways of a route one by one, and tells of each.
        if let (RouteTarget::Legs(gone), Some(entry)) = (
            &route.target,
            self.routes
                .get_mut(&route.prefix)
                .and_then(|metrics| metrics.get_mut(&route.metric)),
        ) && let RouteTarget::Legs(legs) = &mut entry.target
        {
            legs.retain(|leg| !gone.iter().any(|other| same_way(leg, other)));
            if !legs.is_empty() {
                return true;
            }
        }
        self.drop_entry(route.prefix, route.metric)
    }

    fn drop_entry(&mut self, prefix: Subnet, metric: u32) -> bool {
        let Some(metrics) = self.routes.get_mut(&prefix) else {
            return false;
        };
        if metrics.remove(&metric).is_none() {
            return false;
        }
        if metrics.is_empty() {
            self.routes.remove(&prefix);
        }
        self.count -= 1;
        let length = (prefix.addr().is_ipv4(), prefix.len());
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
        true
    }

    pub(crate) fn listing_begins(&mut self) {
        self.refused = 0;
        for entry in self.routes.values_mut().flat_map(BTreeMap::values_mut) {
            entry.seen = false;
        }
    }

    /// What the listing did not show is gone: those prefixes.
    pub(crate) fn listing_ends(&mut self) -> Vec<Subnet> {
        let gone: Vec<(Subnet, u32)> = self
            .routes
            .iter()
            .flat_map(|(prefix, metrics)| {
                let unseen = metrics.iter().filter(|(_, entry)| !entry.seen);
                unseen.map(|(metric, _)| (*prefix, *metric))
            })
            .collect();
        for (prefix, metric) in &gone {
            self.drop_entry(*prefix, *metric);
        }
        gone.into_iter().map(|(prefix, _)| prefix).collect()
    }

    pub(crate) fn contains(&self, prefix: Subnet) -> bool {
        self.routes.contains_key(&prefix)
    }

    /// The longest match: prefix, metric and target.
    pub(crate) fn best(
        &self,
        addr: IpAddr,
        with_default: bool,
    ) -> Option<(Subnet, u32, &RouteTarget)> {
        let v4 = addr.is_ipv4();
        let shortest = u8::from(!with_default);
        self.lengths
            .range((v4, shortest)..=(v4, u8::MAX))
            .rev()
            .find_map(|((_, len), _)| {
                let prefix = Subnet::new(addr, *len)?;
                let (metric, entry) = self.routes.get(&prefix)?.first_key_value()?;
                Some((prefix, *metric, &entry.target))
            })
    }

    /// Prefixes, each with its best target and whether that beats a route of ours to the same prefix.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (Subnet, &RouteTarget, bool)> {
        self.routes.iter().filter_map(|(prefix, metrics)| {
            let (metric, entry) = metrics.first_key_value()?;
            Some((*prefix, &entry.target, *metric < METRIC))
        })
    }
}

fn same_way(a: &RouteLeg, b: &RouteLeg) -> bool {
    (a.gateway, a.ifindex) == (b.gateway, b.ifindex)
}
