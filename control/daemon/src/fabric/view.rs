//! What the API shows of the fabric.

use causeway_api::view as api;
use causeway_bgp::fib::FibNextHop;
use causeway_bgp::types::Prefix;
use causeway_net::kernel::KernelSummary;
use causeway_net::{NextHopKey, PortRole, Resolution};
use causeway_plan::RouteView;

use super::Fabric;

/// Refused prefixes that the status names.
const MAX_REFUSED: usize = 20;

impl Fabric {
    /// Forwarding as a whole; generations are the speaker's to tell.
    pub(crate) fn status(&self) -> api::DataplaneStatus {
        let summary = self.planner.summary();
        let mut error = self.error.clone();
        if error.is_none() {
            error = self.uplinks.error().map(str::to_owned);
        }
        if error.is_none() {
            error = self.planner.left_out(1).first().map(ToString::to_string);
        }
        api::DataplaneStatus {
            mode: "xdp".to_owned(),
            routes: summary.routes4 as usize + summary.routes6 as usize,
            groups: summary.groups as usize,
            next_hops: summary.next_hops as usize,
            uplinks: self
                .network
                .ports()
                .filter(|(_, port)| port.role != PortRole::Pod)
                .map(|(index, port)| api::Uplink {
                    name: port.name.clone(),
                    index,
                    up: self
                        .network
                        .link_named(&port.name)
                        .is_some_and(causeway_net::Link::usable),
                    xdp: self.uplinks.state(index),
                })
                .collect(),
            counters: self
                .counters()
                .into_iter()
                .filter(|counter| counter.packets > 0)
                .collect(),
            kernel: Some(kernel_status(self.kernel.summary())),
            repaired: self.repaired,
            refused: summary.refused as usize,
            refused_routes: self
                .planner
                .refused(MAX_REFUSED)
                .into_iter()
                .map(|(prefix, why)| api::RefusedRoute {
                    prefix: prefix.to_string(),
                    reason: why.to_string(),
                })
                .collect(),
            error,
            ..api::DataplaneStatus::default()
        }
    }

    /// What becomes of packets to a prefix, if the planner knows it.
    pub(crate) fn route(&self, prefix: Prefix) -> Option<api::Route> {
        self.planner.route(prefix).map(|view| self.shown(&view))
    }

    /// Prefixes that are this node's or on its links, in order.
    pub(crate) fn local_routes(&self, max: usize) -> Vec<(Prefix, api::Route)> {
        let mut local: Vec<_> = self.planner.local_routes().collect();
        local.sort_by_key(|view| view.prefix);
        local.truncate(max);
        local
            .iter()
            .map(|view| (view.prefix, self.shown(view)))
            .collect()
    }

    pub(super) fn shown(&self, view: &RouteView) -> api::Route {
        let next_hops: Vec<_> = view.members.iter().map(|hop| self.next_hop(hop)).collect();
        let state = match view.group {
            _ if view.refused.is_some() => "refused",
            Some(_) => "programmed",
            None if !next_hops.is_empty()
                && next_hops.iter().all(|hop| hop.state != "resolved") =>
            {
                "unresolved"
            }
            None => "pending",
        };
        api::Route {
            prefix: view.prefix.to_string(),
            origin: view.origin.to_owned(),
            group: view.group.map(|group| group.0),
            next_hops,
            state: state.to_owned(),
            reason: view.refused.as_ref().map(ToString::to_string),
        }
    }

    fn next_hop(&self, hop: &FibNextHop) -> api::NextHop {
        let resolution = self.network.resolve(NextHopKey {
            addr: hop.addr,
            link: hop.link,
        });
        let (ifindex, state) = match resolution {
            Resolution::Resolved(adjacency) => (Some(adjacency.ifindex), "resolved".to_owned()),
            Resolution::Pending { ifindex, .. } => (
                Some(ifindex),
                "waiting for the neighbor to answer".to_owned(),
            ),
            Resolution::Unusable(why) => (hop.link, why.to_string()),
        };
        let interface = ifindex.and_then(|ifindex| {
            let mut links = self.network.links();
            Some(links.find(|link| link.ifindex == ifindex)?.name.clone())
        });
        api::NextHop {
            address: hop.addr,
            interface,
            weight: hop.weight,
            state,
        }
    }

    /// Packets by hook and outcome, those that did not occur included.
    pub(crate) fn counters(&self) -> Vec<api::PacketCounter> {
        let counters = match self.datapath.counters() {
            Ok(counters) => counters,
            Err(error) => {
                tracing::warn!(%error, "the counters cannot be read");
                return Vec::new();
            }
        };
        counters
            .into_iter()
            .map(|(hook, reason, counter)| api::PacketCounter {
                hook: hook.name().to_owned(),
                reason: reason.name().to_owned(),
                packets: counter.packets,
                bytes: counter.bytes,
            })
            .collect()
    }
}

fn kernel_status(summary: KernelSummary) -> api::KernelStatus {
    api::KernelStatus {
        routes: summary.routes,
        groups: summary.groups,
        next_hops: summary.next_hops,
        conflicts: summary.conflicts,
        left_out: summary.left_out,
        refused: summary.refused,
        repaired: summary.repaired,
        error: summary.error.map(String::from),
    }
}
