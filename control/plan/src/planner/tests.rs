use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::types::Prefix;
use causeway_maps::{Flat4Block, Group, GroupId, NextHop, NextHopId, flat4_mode, next_hop_flags};
use causeway_net::{
    Adjacency, Delivery, LinkKind, Local, MacAddr, NetDelta, NextHopKey, Port, PortRole,
    Resolution, Subnet, Unusable,
};
use proptest::prelude::*;

use super::state::members_of;
use super::*;
use crate::{Dump, Op};

const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn hop(n: u8) -> FibNextHop {
    FibNextHop {
        addr: IpAddr::from([10, 0, 0, n]),
        link: None,
        weight: 1,
    }
}

fn key(n: u8) -> NextHopKey {
    NextHopKey {
        addr: hop(n).addr,
        link: None,
    }
}

fn adjacency(n: u8) -> Adjacency {
    Adjacency {
        ifindex: u32::from(n),
        src_mac: OWN,
        dst_mac: MacAddr([2, 0, 0, 0, 1, n]),
        mtu: 1500,
        tx_ifindex: u32::from(n),
        vlan: 0,
        delivery: Delivery::Wire,
    }
}

fn pending(n: u8) -> Resolution {
    Resolution::Pending {
        ifindex: u32::from(n),
        src_mac: OWN,
        mtu: 1500,
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn subnet(text: &str) -> Subnet {
    let prefix = prefix(text);
    Subnet::new(prefix.addr(), prefix.len()).unwrap()
}

fn define(set: u32, hops: &[u8]) -> (NextHopSetId, Option<Arc<[FibNextHop]>>) {
    let members: Vec<_> = hops.iter().map(|n| hop(*n)).collect();
    (NextHopSetId(set), Some(members.into()))
}

fn route(text: &str, set: u32) -> (Prefix, Option<NextHopSetId>) {
    (prefix(text), Some(NextHopSetId(set)))
}

fn told(n: u8, resolution: Resolution) -> NetDelta {
    NetDelta {
        next_hops: vec![(key(n), Some(resolution))],
        ..NetDelta::default()
    }
}

/// A planner and the maps it writes, checked after every operation.
struct Rig {
    planner: Planner,
    maps: Dump,
    ops: usize,
}

impl Rig {
    fn new(capacities: Capacities) -> Self {
        let mut rig = Self {
            planner: Planner::new(capacities),
            maps: Dump::default(),
            ops: 0,
        };
        // The flat table says of every /8 that there is nothing.
        rig.settle();
        rig
    }

    fn fib(&mut self, generation: u64, sets: &[(u32, &[u8])], routes: &[(&str, u32)]) {
        let delta = FibDelta {
            sets: sets.iter().map(|(set, hops)| define(*set, hops)).collect(),
            routes: routes.iter().map(|(text, set)| route(text, *set)).collect(),
        };
        self.planner.apply_fib(generation, delta);
    }

    fn resolve(&mut self, hops: &[u8]) {
        for n in hops {
            let resolution = Resolution::Resolved(adjacency(*n));
            self.planner.apply_net(told(*n, resolution));
        }
    }

    /// Applies all batches; returns the number of operations.
    fn settle(&mut self) -> usize {
        let before = self.ops;
        while let Some(batch) = self.planner.poll_batch(1) {
            for op in single(&batch.ops) {
                self.maps.apply(&op);
                self.ops += 1;
                assert_sound(&self.maps, &op);
            }
            self.planner.ack(batch.generation, []);
        }
        self.ops - before
    }

    fn group_of(&self, text: &str) -> Option<GroupId> {
        let prefix = prefix(text);
        self.maps
            .routes4
            .iter()
            .find(|(key, _)| {
                IpAddr::from(key.addr) == prefix.addr() && key.prefix_len == u32::from(prefix.len())
            })
            .map(|(_, group)| *group)
    }

    /// Interfaces that traffic for `text` leaves by.
    fn leaves_by(&self, text: &str) -> Vec<u32> {
        let Some(group) = self
            .group_of(text)
            .and_then(|id| self.maps.groups.get(&id).copied())
        else {
            return Vec::new();
        };
        members_of(&group)
            .iter()
            .map(|id| self.maps.next_hops[id].ifindex)
            .collect()
    }
}

impl Rig {
    /// Slot by slot, the interface that its flows leave by.
    fn leaders(&self, text: &str) -> Vec<u32> {
        let id = self.group_of(text).unwrap();
        let first = |slot: &causeway_maps::Slot| NextHopId(u32::from(slot.order[0]));
        let slots = self.maps.groups[&id].slots.iter();
        slots
            .map(|slot| self.maps.next_hops[&first(slot)].ifindex)
            .collect()
    }
}

/// Each entry by itself, so that every moment in between is seen.
pub(super) fn single(ops: &[Op]) -> Vec<Op> {
    ops.iter()
        .flat_map(|op| match op {
            Op::PutRoutes4(routes) => routes
                .iter()
                .map(|route| Op::PutRoutes4(vec![*route]))
                .collect(),
            Op::DeleteRoutes4(keys) => keys
                .iter()
                .map(|key| Op::DeleteRoutes4(vec![*key]))
                .collect(),
            other => vec![other.clone()],
        })
        .collect()
}

/// A route points to a group that was written, a group to next hops that are written, a next hop to a port.
fn assert_sound(maps: &Dump, op: &Op) {
    for (prefix, group) in &maps.routes4 {
        assert!(
            *group < GroupId::FIRST || maps.groups.contains_key(group),
            "{prefix:?} points to {group:?}, which is not written, after {op:?}"
        );
    }
    let named = maps.pods4.values().chain(maps.pods6.values()).copied();
    let roots = maps.flat4_roots.values().map(|root| GroupId(root.group));
    let table = |octet| {
        maps.flat4_roots
            .get(octet)
            .is_some_and(|r| r.mode == flat4_mode::TABLE)
    };
    let rows = maps.flat4.iter().filter(|([octet, _], _)| table(octet));
    let rows = rows.flat_map(|(_, row)| row.groups.map(GroupId));
    for group in named.chain(roots).chain(rows) {
        assert!(
            group < GroupId::FIRST
                || group.0 == Flat4Block::COVER
                || maps.groups.contains_key(&group),
            "something derived names {group:?}, which is not written, after {op:?}"
        );
    }
    for (id, group) in &maps.groups {
        for member in members_of(group) {
            assert!(
                maps.next_hops.contains_key(&member),
                "{id:?} holds {member:?}, which is not written, after {op:?}"
            );
        }
    }
}

#[test]
fn a_route_is_written_once_its_next_hops_are_known() {
    let mut rig = Rig::new(Capacities::default());
    rig.fib(7, &[(1, &[1, 2])], &[("192.0.2.0/24", 1)]);
    let interest: Vec<_> = core::iter::from_fn(|| rig.planner.poll_interest()).collect();
    assert_eq!(interest, [Interest::Track(key(1)), Interest::Track(key(2))]);
    rig.settle();
    assert_eq!(rig.group_of("192.0.2.0/24"), None);
    assert_eq!(rig.planner.poll_programmed(), None);

    rig.resolve(&[1]);
    rig.planner
        .apply_net(told(2, Resolution::Unusable(Unusable::NoCarrier)));
    rig.settle();
    assert_eq!(rig.leaves_by("192.0.2.0/24"), [1]);
    assert_eq!(rig.planner.poll_programmed(), Some(7));
    assert_eq!(rig.planner.poll_programmed(), None);
}

#[test]
fn a_lost_next_hop_rewrites_its_groups_and_no_route() {
    let mut rig = Rig::new(Capacities::default());
    let texts: Vec<String> = (0..200).map(|n| format!("192.0.{n}.0/24")).collect();
    let routes: Vec<_> = texts.iter().map(|text| (text.as_str(), 1)).collect();
    rig.fib(1, &[(1, &[1, 2])], &routes);
    rig.resolve(&[1, 2]);
    rig.settle();
    assert_eq!(rig.leaves_by("192.0.7.0/24"), [1, 2]);

    rig.planner
        .apply_net(told(1, Resolution::Unusable(Unusable::NoCarrier)));
    let ops = rig.settle();
    assert_eq!(rig.leaves_by("192.0.7.0/24"), [2]);
    assert_eq!(ops, 1, "the group");
}

#[test]
fn a_pending_member_stays_out_while_another_is_resolved() {
    let mut rig = Rig::new(Capacities::default());
    rig.fib(1, &[(1, &[1, 2])], &[("192.0.2.0/24", 1)]);
    rig.resolve(&[1]);
    rig.planner.apply_net(told(2, pending(2)));
    rig.settle();
    assert_eq!(rig.leaves_by("192.0.2.0/24"), [1]);

    rig.planner.apply_net(told(1, pending(1)));
    rig.settle();
    assert_eq!(rig.leaves_by("192.0.2.0/24"), [1, 2]);
    let unresolved = |hop: &NextHop| hop.flags & next_hop_flags::RESOLVED == 0;
    assert!(rig.maps.next_hops.values().all(unresolved));
}

#[test]
fn a_local_prefix_beats_bgp_and_gives_way_when_it_goes() {
    let mut rig = Rig::new(Capacities::default());
    rig.fib(1, &[(1, &[1])], &[("192.0.2.0/24", 1)]);
    rig.resolve(&[1]);
    let local = |value| NetDelta {
        local: vec![(subnet("192.0.2.0/24"), value)],
        ..NetDelta::default()
    };
    rig.planner.apply_net(local(Some(Local::Punt)));
    rig.settle();
    assert_eq!(rig.group_of("192.0.2.0/24"), Some(GroupId::PUNT));
    rig.planner.apply_net(local(None));
    rig.settle();
    assert_eq!(rig.leaves_by("192.0.2.0/24"), [1]);
}

#[test]
fn a_neighbour_becomes_a_host_route_and_follows_its_mac_address() {
    let mut rig = Rig::new(Capacities::default());
    let host = |n: u8| NetDelta {
        local: vec![(subnet("10.9.9.9/32"), Some(Local::Host(adjacency(n))))],
        ..NetDelta::default()
    };
    rig.planner.apply_net(host(3));
    rig.settle();
    assert_eq!(rig.leaves_by("10.9.9.9/32"), [3]);
    assert_eq!(rig.planner.poll_interest(), None, "it is resolved already");
    rig.planner.apply_net(host(4));
    rig.settle();
    assert_eq!(rig.leaves_by("10.9.9.9/32"), [4]);
    assert_eq!(rig.maps.next_hops.len(), 1, "nothing is left behind");
}

#[test]
fn a_set_that_leads_elsewhere_changes_its_group_and_no_route() {
    let mut rig = Rig::new(Capacities::default());
    let prefixes = ["192.0.2.0/24", "198.51.100.0/24"];
    rig.fib(1, &[(1, &[1])], &prefixes.map(|text| (text, 1)));
    rig.resolve(&[1]);
    rig.settle();
    let group = rig.group_of(prefixes[0]);
    rig.planner.redefine(NextHopSetId(1), &Arc::from([hop(2)]));
    rig.resolve(&[2]);
    assert_eq!(rig.settle(), 3, "a next hop, the group, the old next hop");
    for text in prefixes {
        assert_eq!(rig.leaves_by(text), [2]);
        assert_eq!(rig.group_of(text), group);
    }

    // Beside a set with the same members it shares their group, and leaves it again.
    rig.fib(2, &[(2, &[3])], &[("203.0.113.0/24", 2)]);
    rig.resolve(&[3]);
    rig.settle();
    rig.planner.redefine(NextHopSetId(1), &Arc::from([hop(3)]));
    rig.settle();
    assert_eq!(rig.leaves_by(prefixes[0]), [3]);
    rig.planner.redefine(NextHopSetId(1), &Arc::from([hop(1)]));
    rig.resolve(&[1]);
    rig.settle();
    assert_eq!(rig.leaves_by(prefixes[0]), [1]);
    assert_eq!(rig.leaves_by("203.0.113.0/24"), [3]);
}

#[test]
fn equal_sets_share_a_group_and_it_goes_with_the_last() {
    let mut rig = Rig::new(Capacities::default());
    rig.fib(
        1,
        &[(1, &[1]), (2, &[1])],
        &[("192.0.2.0/24", 1), ("198.51.100.0/24", 2)],
    );
    rig.resolve(&[1]);
    rig.settle();
    assert_eq!(rig.maps.groups.len(), 1);
    for (generation, set, text) in [(2, 1, "192.0.2.0/24"), (3, 2, "198.51.100.0/24")] {
        let delta = FibDelta {
            sets: vec![(NextHopSetId(set), None)],
            routes: vec![(prefix(text), None)],
        };
        rig.planner.apply_fib(generation, delta);
        rig.settle();
    }
    assert_eq!(rig.maps, Rig::new(Capacities::default()).maps);
    assert_eq!(rig.planner.poll_programmed(), Some(3));
}

#[test]
fn what_does_not_fit_is_named_and_comes_in_when_there_is_room() {
    let mut rig = Rig::new(Capacities {
        routes4: 2,
        groups: GroupId::FIRST.0 + 1,
        ..Capacities::default()
    });
    rig.fib(
        1,
        &[(1, &[1]), (2, &[2])],
        &[
            ("10.1.0.0/16", 1),
            ("10.2.0.0/16", 1),
            ("10.3.0.0/16", 1),
            ("10.4.0.0/16", 2),
        ],
    );
    rig.resolve(&[1, 2]);
    rig.settle();
    let left_out: Vec<_> = rig
        .planner
        .left_out(10)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        left_out,
        [
            "group of 10.0.0.2 does not fit: groups holds at most 4",
            "route 10.3.0.0/16 does not fit: routes4 holds at most 2",
        ]
    );
    let delta = FibDelta {
        sets: vec![(NextHopSetId(1), None)],
        routes: ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]
            .map(|text| (prefix(text), None))
            .to_vec(),
    };
    rig.planner.apply_fib(2, delta);
    rig.settle();
    assert_eq!(rig.planner.left_out(10), []);
    assert_eq!(rig.leaves_by("10.4.0.0/16"), [2]);
}

#[test]
fn a_failed_write_is_named_and_tried_again() {
    let mut rig = Rig::new(Capacities::default());
    rig.fib(1, &[(1, &[1])], &[("192.0.2.0/24", 1)]);
    rig.resolve(&[1]);
    let batch = rig.planner.poll_batch(1000).unwrap();
    let routes = batch.ops.iter().find_map(|op| match op {
        Op::PutRoutes4(routes) => Some(routes),
        _ => None,
    });
    let routes = routes.expect("the route is written");
    let key = Key::Route4(routes[0].0);
    let error = "no space left".into();
    rig.planner.ack(batch.generation, [Failure { key, error }]);
    assert_eq!(rig.planner.failed().count(), 1);
    assert_eq!(rig.planner.poll_batch(1000), None);

    rig.planner.retry();
    let again = rig.planner.poll_batch(1000).unwrap();
    assert_eq!(again.ops, [Op::PutRoutes4(routes.clone())]);
    assert_eq!(rig.planner.failed().count(), 0);
}

#[test]
fn a_difference_is_found_and_repaired() {
    let mut rig = Rig::new(Capacities::default());
    rig.fib(1, &[(1, &[1])], &[("192.0.2.0/24", 1)]);
    rig.resolve(&[1]);
    rig.settle();
    assert_eq!(rig.planner.verify(&rig.maps, 10), []);
    let intact = rig.maps.clone();

    rig.maps.routes4.clear();
    rig.maps
        .groups
        .values_mut()
        .for_each(|group| *group = Group::EMPTY);
    let differences = rig.planner.verify(&rig.maps, 10);
    assert_eq!(differences.len(), 2);
    for difference in differences {
        let (crate::Difference::Missing(key)
        | crate::Difference::Unexpected(key)
        | crate::Difference::Other(key)) = difference;
        rig.planner.rewrite(key);
    }
    rig.settle();
    assert_eq!(rig.maps, intact);
}

#[test]
fn a_restart_keeps_ids_writes_nothing_that_is_there_and_prunes_the_rest() {
    let mut first = Rig::new(Capacities::default());
    first.fib(
        1,
        &[(1, &[3]), (2, &[1, 2])],
        &[("192.0.2.0/24", 2), ("198.51.100.0/24", 1)],
    );
    first.resolve(&[1, 2, 3]);
    first.settle();

    let mut second = Rig::new(Capacities::default());
    second.maps = first.maps.clone();
    second.planner.restore(first.maps.clone());
    second.fib(1, &[(9, &[1, 2])], &[("192.0.2.0/24", 9)]);
    second.resolve(&[1, 2]);
    assert_eq!(second.settle(), 0, "everything wanted is there");
    assert_eq!(second.planner.poll_programmed(), Some(1));
    assert_eq!(
        second.group_of("192.0.2.0/24"),
        first.group_of("192.0.2.0/24")
    );
    assert_eq!(second.leaves_by("198.51.100.0/24"), [3], "not pruned yet");

    second.planner.prune();
    second.settle();
    assert_eq!(second.group_of("198.51.100.0/24"), None);
    assert_eq!(second.maps.groups.len(), 1);
    assert_eq!(second.maps.next_hops.len(), 2);
}

/// What can happen to a planner.
#[derive(Clone, Debug)]
enum Step {
    /// A route to a set of these next hops, or none.
    Route(u8, Option<BTreeSet<u8>>),
    /// A next hop resolves so.
    NextHop(u8, u8),
    /// A local prefix: none, punt, or a host behind an interface.
    Local(u8, u8),
    /// A port comes or goes.
    Port(u8, bool),
    /// At most so many batches of so many entries are applied.
    Work(u8, u8),
    /// The network answers what it was asked.
    Answer,
    /// The agent dies and starts again from the maps.
    Restart,
}

/// A link is cut and BGP follows; it is mended, and the neighbour answers only when BGP has its routes back, lost them once
/// more with the session of before, and has them again.
#[test]
fn a_member_that_answers_after_its_routes_are_back_finds_its_flows() {
    const ALL: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
    const OTHERS: &[u8] = &[1, 2, 4, 5, 6, 7, 8];
    let text = "10.1.0.0/16";
    let mut rig = Rig::new(Capacities::default());
    let mut generation = 0;
    let mut leads = |rig: &mut Rig, hops: &[u8]| {
        let (before, now) = (generation, generation + 1);
        generation = now;
        rig.fib(u64::from(now), &[(now, hops)], &[(text, now)]);
        let gone = (NextHopSetId(before), None);
        let delta = FibDelta {
            sets: vec![gone],
            routes: Vec::new(),
        };
        rig.planner.apply_fib(u64::from(now), delta);
        while rig.planner.poll_interest().is_some() {}
    };
    // They come one after the other, so that the table has a history.
    for n in 1..=8 {
        leads(&mut rig, &ALL[..n]);
        rig.resolve(&ALL[..n]);
        rig.settle();
    }
    let before = rig.leaders(text);
    let no_link = Resolution::Unusable(Unusable::NoCarrier);
    rig.planner.apply_net(told(3, no_link));
    rig.settle();
    leads(&mut rig, OTHERS);
    rig.settle();
    let without = rig.leaders(text);
    assert!(before.iter().zip(&without).all(|(a, b)| a == b || *a == 3));
    for _ in 0..2 {
        leads(&mut rig, ALL);
        rig.planner.apply_net(told(3, pending(3)));
        rig.settle();
        leads(&mut rig, OTHERS);
        rig.settle();
    }
    leads(&mut rig, ALL);
    rig.planner.apply_net(told(3, pending(3)));
    rig.settle();
    assert_eq!(rig.leaders(text), without);
    rig.resolve(&[3]);
    rig.settle();
    assert_eq!(rig.leaders(text), before);
}

fn any_step() -> impl Strategy<Value = Step> {
    let hops = proptest::collection::btree_set(1..6_u8, 1..4);
    prop_oneof![
        4 => (0..8_u8, proptest::option::weighted(0.8, hops)).prop_map(|(p, s)| Step::Route(p, s)),
        3 => (1..6_u8, 0..4_u8).prop_map(|(n, r)| Step::NextHop(n, r)),
        2 => (0..8_u8, 0..4_u8).prop_map(|(p, l)| Step::Local(p, l)),
        1 => (1..6_u8, any::<bool>()).prop_map(|(i, there)| Step::Port(i, there)),
        4 => (0..4_u8, 1..5_u8).prop_map(|(batches, entries)| Step::Work(batches, entries)),
        2 => Just(Step::Answer),
        1 => Just(Step::Restart),
    ]
}

/// What is wanted, kept in the most naive way.
#[derive(Default)]
struct Model {
    routes: BTreeMap<u8, BTreeSet<u8>>,
    next_hops: BTreeMap<u8, Resolution>,
    local: BTreeMap<u8, Local>,
    ports: BTreeSet<u8>,
    /// Interned sets, as the RIB would keep them.
    sets: BTreeMap<BTreeSet<u8>, u32>,
    last_set: u32,
    generation: u64,
}

/// Prefixes 0 to 3 are subnets, 4 to 7 hosts.
fn prefix_of(n: u8) -> String {
    if n < 4 {
        format!("172.16.{n}.0/24")
    } else {
        format!("172.16.0.{n}/32")
    }
}

fn resolution_of(n: u8, kind: u8) -> Resolution {
    match kind {
        0 => Resolution::Unusable(Unusable::NoCarrier),
        1 => pending(n),
        2 => Resolution::Resolved(adjacency(n)),
        _ => Resolution::Resolved(Adjacency {
            mtu: 9000,
            ..adjacency(n)
        }),
    }
}

impl Model {
    /// The delta of one changed route, as the RIB would make it.
    fn route(&mut self, n: u8, hops: Option<BTreeSet<u8>>) -> FibDelta {
        let mut delta = FibDelta::default();
        let before = self.routes.remove(&n);
        let set = hops.map(|hops| {
            let set = *self.sets.entry(hops.clone()).or_insert_with(|| {
                self.last_set += 1;
                let members: Vec<u8> = hops.iter().copied().collect();
                delta.sets.push(define(self.last_set, &members));
                self.last_set
            });
            self.routes.insert(n, hops);
            NextHopSetId(set)
        });
        delta.routes.push((prefix(&prefix_of(n)), set));
        if let Some(before) = before
            && !self.routes.values().any(|hops| *hops == before)
            && let Some(set) = self.sets.remove(&before)
        {
            delta.sets.push((NextHopSetId(set), None));
        }
        delta
    }

    fn local(n: u8, kind: u8) -> Option<Local> {
        match kind {
            0 => None,
            1 => Some(Local::Punt),
            _ if n < 4 => Some(Local::Punt),
            ifindex => Some(Local::Host(adjacency(ifindex))),
        }
    }

    /// Where traffic for each prefix should go: the entries' contents, without ids.
    fn wanted(&self) -> BTreeMap<String, Option<Vec<NextHop>>> {
        let mut wanted = BTreeMap::new();
        for n in 0..8 {
            let target = match self.local.get(&n) {
                Some(Local::Punt) => None,
                Some(Local::Host(adjacency)) => {
                    let host = NextHopKey {
                        addr: prefix(&prefix_of(n)).addr(),
                        link: None,
                    };
                    let resolved = Resolution::Resolved(*adjacency);
                    Some(crate::group::entry(host, &resolved).into_iter().collect())
                }
                None => match self.routes.get(&n) {
                    Some(hops) => Some(self.members(hops)),
                    None => continue,
                },
            };
            wanted.insert(prefix_of(n), target);
        }
        wanted
    }

    fn members(&self, hops: &BTreeSet<u8>) -> Vec<NextHop> {
        let of = |flags: u32| -> Vec<NextHop> {
            hops.iter()
                .filter_map(|n| entry_of(*n, self.next_hops.get(n)?))
                .filter(|entry| entry.flags == flags)
                .collect()
        };
        let resolved = of(next_hop_flags::RESOLVED);
        if resolved.is_empty() { of(0) } else { resolved }
    }
}

fn entry_of(n: u8, resolution: &Resolution) -> Option<NextHop> {
    crate::group::entry(key(n), resolution)
}

/// The same of the maps.
fn found(maps: &Dump) -> BTreeMap<String, Option<Vec<NextHop>>> {
    maps.routes4
        .iter()
        .map(|(key, group)| {
            let prefix = format!("{}/{}", IpAddr::from(key.addr), key.prefix_len);
            if *group == GroupId::PUNT {
                return (prefix, None);
            }
            let group = maps.groups[group];
            let members = members_of(&group);
            let mut members: Vec<_> = members.iter().map(|id| maps.next_hops[id]).collect();
            members.sort_by_key(|hop| hop.addr);
            (prefix, Some(members))
        })
        .collect()
}

fn port(n: u8) -> Port {
    Port {
        name: format!("eth{n}"),
        mac: OWN,
        role: PortRole::Uplink,
        kind: LinkKind::Plain,
    }
}

/// What the network says to whoever newly asks.
fn answer(rig: &mut Rig, model: &Model) {
    while let Some(interest) = rig.planner.poll_interest() {
        if let Interest::Track(key) = interest {
            let IpAddr::V4(addr) = key.addr else { continue };
            let n = addr.octets()[3];
            let resolution = model
                .next_hops
                .get(&n)
                .copied()
                .unwrap_or(Resolution::Unusable(Unusable::NotConnected));
            rig.planner.apply_net(told(n, resolution));
        }
    }
}

fn work(rig: &mut Rig, batches: usize, entries: usize) {
    for _ in 0..batches {
        let Some(batch) = rig.planner.poll_batch(entries) else {
            return;
        };
        for op in single(&batch.ops) {
            rig.maps.apply(&op);
            assert_sound(&rig.maps, &op);
        }
        rig.planner.ack(batch.generation, []);
    }
}

fn restart(rig: &mut Rig, model: &Model) {
    rig.planner = Planner::new(Capacities::default());
    rig.planner.restore(rig.maps.clone());
    let mut delta = FibDelta::default();
    for (hops, set) in &model.sets {
        let members: Vec<u8> = hops.iter().copied().collect();
        delta.sets.push(define(*set, &members));
    }
    for (n, hops) in &model.routes {
        let set = NextHopSetId(model.sets[hops]);
        delta.routes.push((prefix(&prefix_of(*n)), Some(set)));
    }
    rig.planner.apply_fib(1, delta);
    let mut net = NetDelta::default();
    for n in &model.ports {
        net.ports.push((u32::from(*n), Some(port(*n))));
    }
    for (n, local) in &model.local {
        net.local.push((subnet(&prefix_of(*n)), Some(*local)));
    }
    rig.planner.apply_net(net);
    rig.planner.prune();
}

fn step(rig: &mut Rig, model: &mut Model, step: Step) {
    match step {
        Step::Route(n, hops) => {
            let delta = model.route(n, hops);
            model.generation += 1;
            rig.planner.apply_fib(model.generation, delta);
        }
        Step::NextHop(n, kind) => {
            let resolution = resolution_of(n, kind);
            model.next_hops.insert(n, resolution);
            rig.planner.apply_net(told(n, resolution));
        }
        Step::Local(n, kind) => {
            let local = Model::local(n, kind);
            match local {
                Some(local) => model.local.insert(n, local),
                None => model.local.remove(&n),
            };
            let delta = NetDelta {
                local: vec![(subnet(&prefix_of(n)), local)],
                ..NetDelta::default()
            };
            rig.planner.apply_net(delta);
        }
        Step::Port(n, there) => {
            let before = if there {
                model.ports.insert(n);
                Some(port(n))
            } else {
                model.ports.remove(&n);
                None
            };
            let delta = NetDelta {
                ports: vec![(u32::from(n), before)],
                ..NetDelta::default()
            };
            rig.planner.apply_net(delta);
        }
        Step::Work(batches, entries) => work(rig, batches.into(), entries.into()),
        Step::Answer => answer(rig, model),
        Step::Restart => {
            restart(rig, model);
            model.generation = 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens in whatever order, the maps end as a naive computation says, hold nothing else, and are sound after
    /// every single operation.
    #[test]
    fn the_maps_end_as_wanted(steps in proptest::collection::vec(any_step(), 1..60)) {
        let mut rig = Rig::new(Capacities::default());
        let mut model = Model::default();
        for n in 1..6 {
            step(&mut rig, &mut model, Step::NextHop(n, 2));
        }
        for one in steps {
            step(&mut rig, &mut model, one);
        }
        answer(&mut rig, &model);
        work(&mut rig, usize::MAX, 3);

        let found = found(&rig.maps);
        prop_assert_eq!(&found, &model.wanted());
        let used: BTreeSet<GroupId> = rig.maps.routes4.values().copied()
            .filter(|id| *id != GroupId::PUNT).collect();
        let groups: BTreeSet<GroupId> = rig.maps.groups.keys().copied().collect();
        prop_assert!(used.is_subset(&groups));
        let held: BTreeSet<NextHopId> = rig.maps.groups.values()
            .flat_map(members_of).collect();
        // One that is wanted and can't be used keeps its entry, so that it finds its slots when it is back.
        prop_assert!(held.is_subset(&rig.maps.next_hops.keys().copied().collect()));
        prop_assert!(rig.maps.next_hops.len() <= 8 + model.local.len());
        let differences = rig.planner.verify(&rig.maps, 10);
        prop_assert_eq!(&differences, &[]);
        prop_assert!(rig.planner.summary().settled);
        let last = core::iter::from_fn(|| rig.planner.poll_programmed()).last();
        if model.generation > 0 {
            prop_assert_eq!(last, Some(model.generation));
        }
    }
}
