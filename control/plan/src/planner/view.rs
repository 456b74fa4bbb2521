//! Answers for people.

use core::net::IpAddr;

use causeway_bgp::types::{AddressFamily, Prefix, Prefix4, Prefix6};
use causeway_maps::{Config, Group, GroupId, NextHop, NextHopId};
use causeway_net::Resolution;

use super::state::Origin;
use super::{Failure, LeftOut, Planner, Summary, What};
use crate::group::entry;
use crate::routes::{Entry, LocalTarget, RouteView, Table, TableFamily};

impl Planner {
    /// Sizes.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Summary {
            routes4: self.routes4.used,
            routes6: self.routes6.used,
            groups: count(self.groups.slots.len()),
            next_hops: count(self.hops.slots.len()),
            ports: count(self.ports.written.len()),
            left_out: count(
                self.routes4.left_out.len()
                    + self.routes6.left_out.len()
                    + self.groups.left_out.len()
                    + self.hops.left_out.len()
                    + self.ports.left_out.len(),
            ),
            failed: count(self.refused.len()),
            refused: count(self.routes4.told.len() + self.routes6.told.len()),
            last_batch: self.last_batch,
            settled: self.awaited.is_empty() && self.in_flight.is_empty(),
        }
    }

    /// What did not fit, by name; at most `max`.
    #[must_use]
    pub fn left_out(&self, max: usize) -> Vec<LeftOut> {
        let left_out = |what, map, capacity| LeftOut {
            what,
            map,
            capacity,
        };
        let ports = self
            .ports
            .left_out
            .iter()
            .map(|ifindex| left_out(What::Port(*ifindex), "ports", self.capacities.ifindex));
        let hops = self.hops.left_out.iter().map(|key| {
            left_out(
                What::NextHop(key.addr),
                "next_hops",
                self.capacities.next_hops,
            )
        });
        let groups = self.groups.left_out.iter().filter_map(|place| {
            let group = self.groups.wanted.get(*place)?;
            let members = group.members.iter().map(|member| member.addr).collect();
            Some(left_out(
                What::Group(members),
                "groups",
                self.capacities.groups,
            ))
        });
        let routes4 = self.routes4.left_out.iter().map(|prefix| {
            left_out(
                What::Prefix(prefix.erase()),
                "routes4",
                self.routes4.capacity,
            )
        });
        let routes6 = self.routes6.left_out.iter().map(|prefix| {
            left_out(
                What::Prefix(prefix.erase()),
                "routes6",
                self.routes6.capacity,
            )
        });
        ports
            .chain(hops)
            .chain(groups)
            .chain(routes4)
            .chain(routes6)
            .take(max)
            .collect()
    }

    /// Operations that failed and wait for [`Self::retry`].
    pub fn failed(&self) -> impl Iterator<Item = Failure> + '_ {
        self.refused.waiting().map(|(key, error)| Failure {
            key: *key,
            error: error.into(),
        })
    }

    /// All prefixes, in no order: IPv4 first.
    pub fn routes(&self) -> impl Iterator<Item = RouteView> + '_ {
        self.views(&self.routes4).chain(self.views(&self.routes6))
    }

    /// One prefix, if anybody wants it or the map holds it.
    #[must_use]
    pub fn route(&self, prefix: Prefix) -> Option<RouteView> {
        match prefix {
            Prefix::V4(prefix) => self.view(&self.routes4, prefix),
            Prefix::V6(prefix) => self.view(&self.routes6, prefix),
        }
    }

    /// The longest prefix that anybody wants, or the map holds, and that covers an address.
    #[must_use]
    pub fn longest_match(&self, addr: IpAddr) -> Option<RouteView> {
        match addr {
            IpAddr::V4(addr) => self.longest(&self.routes4, Prefix4::new(addr, Prefix4::BITS)?),
            IpAddr::V6(addr) => self.longest(&self.routes6, Prefix6::new(addr, Prefix6::BITS)?),
        }
    }

    /// What the one entry of `config` should be.
    #[must_use]
    pub fn config_entry(&self) -> Option<Config> {
        self.written_config
    }

    /// What an entry of `groups` should be; `None` for one that should be zero.
    #[must_use]
    pub fn group_entry(&self, id: GroupId) -> Option<&Group> {
        Some(&*self.groups.slots.get(&id)?.value)
    }

    /// What an entry of `next_hops` should be; `None` for one that should be zero.
    #[must_use]
    pub fn next_hop_entry(&self, id: NextHopId) -> Option<NextHop> {
        Some(self.hops.slots.get(&id)?.value)
    }

    /// Prefixes that the network wants, in no order: own addresses, connected subnets, neighbours.
    pub fn local_routes(&self) -> impl Iterator<Item = RouteView> + '_ {
        let local4 = self.routes4.local.keys();
        let local6 = self.routes6.local.keys();
        local4
            .filter_map(|prefix| self.view(&self.routes4, *prefix))
            .chain(local6.filter_map(|prefix| self.view(&self.routes6, *prefix)))
    }

    /// The next hops in the map that the group forwards to.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<Vec<(NextHopId, NextHop)>> {
        let slot = self.groups.slots.get(&id)?;
        let hops = slot.members.iter();
        Some(
            hops.filter_map(|id| Some((*id, self.hops.slots.get(id)?.value)))
                .collect(),
        )
    }

    /// The next hops in the map.
    pub fn next_hops(&self) -> impl Iterator<Item = (NextHopId, NextHop)> + '_ {
        self.hops.slots.iter().map(|(id, slot)| (*id, slot.value))
    }

    /// Whether a next hop is wanted, can be sent to, and stands in the map as it should.
    #[must_use]
    pub fn believes_in(&self, id: NextHopId) -> bool {
        let Some(slot) = self.hops.slots.get(&id) else {
            return false;
        };
        let resolution = slot
            .owner
            .and_then(|key| Some((key, self.hops.wanted.get(&key)?.resolution()?)));
        let Some((key, resolution)) = resolution else {
            return false;
        };
        matches!(resolution, Resolution::Resolved(_)) && entry(key, &resolution) == Some(slot.value)
    }

    fn longest<P: TableFamily>(&self, table: &Table<P>, host: P) -> Option<RouteView> {
        let lengths = (0..=P::BITS).rev();
        let mut views = lengths.filter_map(|len| self.view(table, host.shortened(len)));
        views.find(|view| view.group.is_some() || view.origin != "restored")
    }

    fn views<'a, P: TableFamily>(
        &'a self,
        table: &'a Table<P>,
    ) -> impl Iterator<Item = RouteView> + 'a {
        let prefixes = table.entries.keys();
        prefixes.filter_map(|prefix| self.view(table, *prefix))
    }

    fn view<P: TableFamily>(&self, table: &Table<P>, prefix: P) -> Option<RouteView> {
        let local = table.local.get(&prefix);
        let entry = match table.entries.get(&prefix) {
            Some(entry) => *entry,
            // One that is only local, and not in the map, has no entry.
            None if local.is_some() || table.owned.contains(&prefix) => Entry::default(),
            None => return None,
        };
        let place = match local {
            Some(LocalTarget::Group(place)) => Some(*place),
            Some(LocalTarget::Punt) => None,
            None => entry
                .bgp
                .and_then(|set| self.groups.sets.get(&set).copied()),
        };
        let wanted = place.and_then(|place| self.groups.wanted.get(place));
        let origin = match (local, wanted.map(|group| group.origin)) {
            (Some(LocalTarget::Punt), _) => "connected",
            (_, Some(Origin::Local)) => "neighbour",
            (_, Some(Origin::Bgp)) => "bgp",
            (_, None) if table.owned.contains(&prefix) => "owned",
            (_, None) => "restored",
        };
        Some(RouteView {
            prefix: prefix.erase(),
            origin,
            group: (entry.written != 0).then_some(GroupId(entry.written)),
            members: wanted.map_or_else(Vec::new, |group| group.members.to_vec()),
            refused: self.why_not(table, prefix),
        })
    }
}
