//! Ports and local prefixes, as they follow from facts and configuration.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::held::{Facts, is_link_local};
use super::{Local, Port, Probe};
use crate::config::{NetworkConfig, PortRole};
use crate::facts::{RouteLeg, RouteTarget, Subnet};
use crate::fib::Fib;
use crate::foreign::Foreign;
use crate::resolve::{NextHopKey, Resolution};

/// What follows from facts and configuration.
#[derive(Debug, Default)]
pub(super) struct Derived {
    pub(super) ports: BTreeMap<u32, Port>,
    pub(super) local: BTreeMap<Subnet, Local>,
    /// Pods' neighbours, to be kept resolved.
    pub(super) pods: BTreeSet<Probe>,
    host_routes: usize,
    pub(super) host_routes_left_out: u64,
}

impl Derived {
    pub(super) fn new(config: &NetworkConfig, facts: &Facts, foreign: &Foreign, fib: &Fib) -> Self {
        let mut derived = Self::default();
        for link in facts.links.values() {
            if let (Some(role), Some(mac)) = (config.role(&link.name), link.mac) {
                let port = Port {
                    name: link.name.clone(),
                    mac,
                    role,
                    kind: link.kind,
                };
                derived.ports.insert(link.ifindex, port);
            }
        }
        derived.neighbours(config, facts);
        derived.foreign(config, facts, foreign, fib);
        // After the host routes: where both claim a prefix, the node's own address wins.
        derived.punts(facts);
        derived
    }

    fn neighbours(&mut self, config: &NetworkConfig, facts: &Facts) {
        let mut subnets: BTreeMap<u32, Vec<Subnet>> = BTreeMap::new();
        for address in &facts.addresses {
            if self.ports.contains_key(&address.ifindex) && !is_link_local(address.addr) {
                subnets
                    .entry(address.ifindex)
                    .or_default()
                    .push(address.subnet);
            }
        }
        for neighbour in facts.neighbours.values() {
            let in_subnet = subnets
                .get(&neighbour.ifindex)
                .is_some_and(|all| all.iter().any(|s| s.contains(neighbour.addr)));
            // A pod's interface has no subnet on the host's side: whoever answers there is the pod.
            let pod = self.is_pod(neighbour.ifindex) && !is_link_local(neighbour.addr);
            if in_subnet || pod {
                self.host(
                    config,
                    facts,
                    neighbour.addr,
                    neighbour.ifindex,
                    neighbour.addr,
                );
            }
        }
    }

    fn is_pod(&self, ifindex: u32) -> bool {
        self.ports
            .get(&ifindex)
            .is_some_and(|port| port.role == PortRole::Pod)
    }

    /// A route to a neighbour. Returns whether that neighbour is resolved.
    fn host(
        &mut self,
        config: &NetworkConfig,
        facts: &Facts,
        host: IpAddr,
        ifindex: u32,
        neighbour: IpAddr,
    ) -> bool {
        let key = NextHopKey {
            addr: neighbour,
            link: Some(ifindex),
        };
        let Ok(Resolution::Resolved(adjacency)) = facts.resolve(config, key) else {
            return false;
        };
        if self.host_routes >= config.limits.max_host_routes {
            self.host_routes_left_out += 1;
            return false;
        }
        let before = self
            .local
            .insert(Subnet::host(host), Local::Host(adjacency));
        self.host_routes += usize::from(!matches!(before, Some(Local::Host(_))));
        true
    }

    /// Others' routes are the kernel's to follow; those to pods lead to the pods.
    fn foreign(&mut self, config: &NetworkConfig, facts: &Facts, foreign: &Foreign, fib: &Fib) {
        for (prefix, target, better) in foreign.prefixes() {
            if prefix.is_host()
                && let RouteTarget::Legs(legs) = target
                && let [
                    RouteLeg {
                        gateway, ifindex, ..
                    },
                ] = legs[..]
                && self.is_pod(ifindex)
            {
                let addr = gateway.unwrap_or(prefix.addr());
                self.pods.insert(Probe { ifindex, addr });
                if !self.host(config, facts, prefix.addr(), ifindex, addr) {
                    self.local.entry(prefix).or_insert(Local::Punt);
                }
                continue;
            }
            let ours = fib.contains(prefix);
            // What no route in the maps matches is the kernel's anyway, so a default route alone needs none.
            let theirs = if prefix.len() == 0 {
                better && ours
            } else {
                (better || !ours) && !is_never_routed(prefix.addr())
            };
            if theirs {
                self.local.entry(prefix).or_insert(Local::Punt);
            }
        }
    }

    fn punts(&mut self, facts: &Facts) {
        for address in &facts.addresses {
            if is_never_routed(address.addr) {
                continue;
            }
            // An own address stays own while its link is down; a subnet without carrier is better reached another way.
            self.local.insert(Subnet::host(address.addr), Local::Punt);
            let usable = facts
                .links
                .get(&address.ifindex)
                .is_some_and(|link| link.usable() || (link.loopback && link.up));
            if usable {
                self.local.entry(address.subnet).or_insert(Local::Punt);
            }
        }
    }
}

/// Addresses that the dataplane passes on before it looks at routes.
fn is_never_routed(addr: IpAddr) -> bool {
    addr.is_loopback() || addr.is_multicast() || addr.is_unspecified() || is_link_local(addr)
}
