//! From a next hop to the neighbours that lead to it, over connected links, others' kernel routes and BGP's own routes.
//!
//! * A connected link beats BGP whatever the lengths: no peer can lead a neighbour's traffic elsewhere. Of connected links
//!   and others' kernel routes the longer prefix counts.
//! * A route whose next hop is being resolved does not resolve it: a route is never reached through itself, and what
//!   is reached does not change because it is installed.
//! * Next hops behind a route are taken in its proportions.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::held::{Facts, is_link_local};
use crate::config::NetworkConfig;
use crate::facts::{RouteLeg, RouteTarget};
use crate::fib::{Fib, Hop};
use crate::foreign::Foreign;
use crate::resolve::{NextHopKey, Resolution, Unusable};

/// Routes behind one another at most.
const MAX_DEPTH: usize = 8;
/// Neighbours that one next hop leads to at most.
const MAX_LEGS: usize = 64;
/// The whole, which next hops share: divisible by every number up to 16, twice.
const WHOLE: u64 = 720_720 * 720_720;

pub(super) struct Recursion<'a> {
    pub(super) facts: &'a Facts,
    pub(super) config: &'a NetworkConfig,
    pub(super) foreign: &'a Foreign,
    pub(super) fib: &'a Fib,
    /// Addresses on whose routes the result depends.
    pub(super) looked_up: BTreeSet<IpAddr>,
}

/// What a next hop leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Neighbours and their shares of [`WHOLE`]; the next hop itself if it is one.
    pub(super) legs: BTreeMap<NextHopKey, u64>,
    /// IGP metric.
    pub(super) metric: u32,
}

impl Recursion<'_> {
    pub(super) fn reach(&mut self, key: NextHopKey) -> Result<Reach, Unusable> {
        self.follow(key, &mut Vec::new())
    }

    fn follow(&mut self, key: NextHopKey, path: &mut Vec<NextHopKey>) -> Result<Reach, Unusable> {
        self.looked_up.insert(key.addr);
        if key.link.is_some() || is_link_local(key.addr) || self.facts.is_own(key) {
            return self.direct(key);
        }
        let connected = self.facts.connected(key.addr);
        let usable = connected.filter(|connected| connected.usable);
        let with_default = self.config.resolve_via_default;
        let route = self.foreign.best(key.addr, with_default);
        let longer = |len: u8| usable.is_none_or(|usable| len > usable.len);
        if let Some((_, metric, target)) = route.filter(|(prefix, ..)| longer(prefix.len())) {
            return self.over_route(key, metric, target);
        }
        if usable.is_some() {
            return self.direct(key);
        }
        if let Some(reach) = self.over_bgp(key, path)? {
            return Ok(reach);
        }
        // Tells why not: its link is down, or there is none.
        self.direct(key)
    }

    /// A neighbour.
    fn direct(&self, key: NextHopKey) -> Result<Reach, Unusable> {
        match self.facts.resolve(self.config, key) {
            Err(why) if !matches!(why, Unusable::NotAPort { .. }) => Err(why),
            Ok(Resolution::Unusable(why)) => Err(why),
            _ => Ok(Reach {
                legs: BTreeMap::from([(key, WHOLE)]),
                metric: 0,
            }),
        }
    }

    fn over_route(
        &mut self,
        key: NextHopKey,
        metric: u32,
        target: &RouteTarget,
    ) -> Result<Reach, Unusable> {
        let legs = match target {
            RouteTarget::Legs(legs) => legs,
            RouteTarget::Reject => return Err(Unusable::Rejected),
            // The kernel was told not to spell it out (`nexthop_compat_mode`).
            RouteTarget::Object(_) => return Err(Unusable::NotConnected),
        };
        let mut found = Vec::new();
        let mut why = Unusable::NotConnected;
        for RouteLeg {
            gateway,
            ifindex,
            weight,
        } in legs
        {
            let neighbour = self.neighbour(gateway.unwrap_or(key.addr), *ifindex);
            self.looked_up.insert(neighbour.addr);
            match self.direct(neighbour) {
                Ok(reach) => found.push((reach, u64::from(*weight))),
                Err(error) => why = error,
            }
        }
        // A connected next hop is always nearer.
        merge(found, metric.max(1)).ok_or(why)
    }

    /// As BGP would name it where that means the same: one neighbour, one next hop.
    fn neighbour(&self, addr: IpAddr, ifindex: u32) -> NextHopKey {
        let same = !is_link_local(addr)
            && self.facts.connected(addr).is_some_and(|connected| {
                let route = self.foreign.best(addr, false);
                let longer = route.is_some_and(|(prefix, ..)| prefix.len() > connected.len);
                connected.usable && connected.ifindex == ifindex && !longer
            });
        NextHopKey {
            addr,
            link: (!same).then_some(ifindex),
        }
    }

    fn over_bgp(
        &mut self,
        key: NextHopKey,
        path: &mut Vec<NextHopKey>,
    ) -> Result<Option<Reach>, Unusable> {
        path.push(key);
        let with_default = self.config.resolve_via_default;
        let (fib, looped) = (self.fib, |hops: &[Hop]| {
            hops.iter().any(|hop| path.contains(&hop.key))
        });
        let route = fib
            .matches(key.addr)
            .find(|(prefix, hops)| (with_default || prefix.len() > 0) && !looped(hops));
        let reach = match route {
            None => Ok(None),
            Some(_) if path.len() >= MAX_DEPTH => Err(Unusable::TooDeep),
            Some((_, hops)) => {
                let mut found = Vec::new();
                let mut why = Unusable::NotConnected;
                for hop in hops {
                    match self.follow(hop.key, path) {
                        Ok(reach) => found.push((reach, u64::from(hop.weight.max(1)))),
                        Err(error) => why = error,
                    }
                }
                let metric = found.iter().map(|(reach, _)| reach.metric).max();
                let metric = metric.unwrap_or(0).saturating_add(1);
                merge(found, metric).map(Some).ok_or(why)
            }
        };
        path.pop();
        reach
    }
}

/// Several ways by weight; `None` without any.
fn merge(found: Vec<(Reach, u64)>, metric: u32) -> Option<Reach> {
    let total: u64 = found.iter().map(|(_, weight)| *weight).sum();
    let mut legs: BTreeMap<NextHopKey, u64> = BTreeMap::new();
    for (reach, weight) in found {
        for (key, share) in reach.legs {
            if legs.len() < MAX_LEGS || legs.contains_key(&key) {
                *legs.entry(key).or_default() += scaled(share, weight, total).max(1);
            }
        }
    }
    (!legs.is_empty()).then_some(Reach { legs, metric })
}

/// Members of a set with each replaced by what it leads to; as they are where they lead to themselves or nowhere.
pub(super) fn flatten(members: &[Hop], reach: impl Fn(NextHopKey) -> Option<Reach>) -> Vec<Hop> {
    let mut flat: BTreeMap<NextHopKey, u64> = BTreeMap::new();
    let mut plain = true;
    let most = members.iter().map(|hop| u64::from(hop.weight)).max();
    let most = most.unwrap_or(1).max(1);
    for hop in members {
        let weight = u64::from(hop.weight.max(1));
        let legs = reach(hop.key).map(|reach| reach.legs);
        let legs = legs.unwrap_or_else(|| BTreeMap::from([(hop.key, WHOLE)]));
        plain &= legs.len() == 1 && legs.contains_key(&hop.key);
        for (key, share) in legs {
            *flat.entry(key).or_default() += scaled(share, weight, most).max(1);
        }
    }
    if plain {
        return members.to_vec();
    }
    let divisor = flat.values().copied().fold(0, gcd).max(1);
    let most = flat.values().copied().max().unwrap_or(1) / divisor;
    let limit = u64::from(u16::MAX);
    let weight = |share: u64| {
        let share = share / divisor;
        let share = if most > limit {
            scaled(share, limit, most).max(1)
        } else {
            share
        };
        u32::try_from(share).unwrap_or(u32::MAX)
    };
    flat.into_iter()
        .map(|(key, share)| Hop {
            key,
            weight: weight(share),
        })
        .collect()
}

/// `share * numerator / denominator`, without overflow.
fn scaled(share: u64, numerator: u64, denominator: u64) -> u64 {
    let product = u128::from(share) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
