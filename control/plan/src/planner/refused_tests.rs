//! What BGP is told of prefixes that could not be written, against what a kernel that refuses entries really holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::types::{AddressFamily as _, Prefix, Prefix4};
use causeway_maps::RouteKey4;
use causeway_net::{Adjacency, MacAddr, NetDelta, Resolution};
use proptest::prelude::*;

use super::tests::single;
use super::*;
use crate::{Dump, Op};

const SETS: u32 = 4;

/// A planner, maps behind a kernel that refuses some entries, and what BGP believes.
struct World {
    planner: Planner,
    maps: Dump,
    refused: BTreeSet<Key>,
    generation: u64,
    wanted: BTreeMap<Prefix, u32>,
    /// As told.
    failed: BTreeSet<Prefix>,
    /// Prefixes told, either way.
    told: usize,
}

fn prefix(n: u8) -> Prefix {
    let len = if n.is_multiple_of(2) { 24 } else { 25 };
    Prefix4::new(Ipv4Addr::new(10, 0, n, 0), len)
        .unwrap()
        .into()
}

fn key_of(prefix: Prefix) -> RouteKey4 {
    let Prefix::V4(prefix) = prefix else {
        unreachable!("only IPv4 here")
    };
    RouteKey4 {
        prefix_len: u32::from(prefix.len()),
        addr: prefix.addr().octets(),
    }
}

fn member(set: u32) -> FibNextHop {
    FibNextHop {
        addr: IpAddr::from([192, 0, 2, u8::try_from(set).unwrap()]),
        link: None,
        weight: 1,
    }
}

impl World {
    /// Every set has a next hop of its own, all resolved.
    fn new(capacities: Capacities) -> Self {
        let mut world = Self {
            planner: Planner::new(capacities),
            maps: Dump::default(),
            refused: BTreeSet::new(),
            generation: 1,
            wanted: BTreeMap::new(),
            failed: BTreeSet::new(),
            told: 0,
        };
        let set = |set| (NextHopSetId(set), Some([member(set)].into()));
        let delta = FibDelta {
            sets: (1..=SETS).map(set).collect(),
            routes: Vec::new(),
        };
        world.planner.apply_fib(1, delta);
        let adjacency = |set| Adjacency {
            ifindex: set,
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 1, 1]),
            mtu: 1500,
            tx_ifindex: set,
            vlan: 0,
            delivery: causeway_net::Delivery::Wire,
        };
        let resolved = |set| {
            let key = NextHopKey {
                addr: member(set).addr,
                link: None,
            };
            (key, Some(Resolution::Resolved(adjacency(set))))
        };
        world.planner.apply_net(NetDelta {
            next_hops: (1..=SETS).map(resolved).collect(),
            ..NetDelta::default()
        });
        world.settle();
        world
    }

    fn route(&mut self, prefix: Prefix, set: Option<u32>) {
        match set {
            Some(set) => self.wanted.insert(prefix, set),
            None => self.wanted.remove(&prefix),
        };
        self.generation += 1;
        let delta = FibDelta {
            sets: Vec::new(),
            routes: vec![(prefix, set.map(NextHopSetId))],
        };
        self.planner.apply_fib(self.generation, delta);
    }

    /// Applies what the kernel takes, and hears what is said.
    fn settle(&mut self) {
        while let Some(batch) = self.planner.poll_batch(3) {
            let before = self.told;
            self.hear();
            assert_eq!(self.told, before, "nothing is said with a batch in flight");
            let mut failures = Vec::new();
            for op in single(&batch.ops) {
                let key = touched(&op);
                match key.filter(|key| self.refused.contains(key)) {
                    Some(key) => failures.push(Failure {
                        key,
                        error: "out of memory".into(),
                    }),
                    None => self.maps.apply(&op),
                }
            }
            self.planner.ack(batch.generation, failures);
            self.hear();
        }
        self.hear();
    }

    fn hear(&mut self) {
        while let Some(told) = self.planner.poll_refusals(2) {
            self.told += told.failed.len() + told.recovered.len();
            for prefix in told.failed {
                assert!(self.failed.insert(prefix), "{prefix} is told twice");
            }
            for prefix in told.recovered {
                assert!(self.failed.remove(&prefix), "{prefix} had not failed");
            }
        }
    }

    fn retry(&mut self) {
        self.planner.retry();
        self.settle();
    }

    /// Prefixes that are wanted and of which packets would not go where they should.
    fn lost(&self) -> BTreeSet<Prefix> {
        let goes = |prefix: Prefix, set: u32| {
            let group = self.maps.routes4.get(&key_of(prefix));
            let group = group.and_then(|id| self.maps.groups.get(id));
            let first = group.map(|group| u32::from(group.slots[0].order[0]));
            let hop = first.and_then(|id| self.maps.next_hops.get(&causeway_maps::NextHopId(id)));
            hop.is_some_and(|hop| hop.ifindex == set)
        };
        let wanted = self.wanted.iter();
        wanted
            .filter(|(prefix, set)| !goes(**prefix, **set))
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    fn why(&self, prefix: Prefix) -> String {
        let refused = self.planner.refused(usize::MAX);
        let found = refused.iter().find(|(other, _)| *other == prefix);
        found.map_or_else(String::new, |(_, why)| why.to_string())
    }
}

/// What can be refused: additions.
fn touched(op: &Op) -> Option<Key> {
    Some(match op {
        Op::PutRoutes4(routes) => Key::Route4(routes[0].0),
        Op::PutGroup(id, _) => Key::Group(*id),
        Op::PutNextHop(id, _) => Key::NextHop(*id),
        _ => return None,
    })
}

fn set(prefixes: impl IntoIterator<Item = u8>) -> BTreeSet<Prefix> {
    prefixes.into_iter().map(prefix).collect()
}

#[test]
fn a_prefix_beyond_the_limit_has_failed_until_there_is_room() {
    let mut world = World::new(Capacities::default());
    world.planner.set_route_limits(2, 2);
    for n in 1..=3 {
        world.route(prefix(n), Some(1));
        world.settle();
    }
    assert_eq!(world.failed, set([3]));
    assert_eq!(
        world.why(prefix(3)),
        "map routes4 is full: it takes 2 entries"
    );
    let view = world.planner.route(prefix(3)).unwrap();
    assert!(view.group.is_none() && view.refused.is_some());
    assert_eq!(world.planner.summary().refused, 1);

    world.route(prefix(1), None);
    world.settle();
    assert_eq!(world.failed, set([]));
    assert_eq!(world.lost(), set([]));
    assert_eq!(world.planner.summary().refused, 0);
}

#[test]
fn a_prefix_that_failed_recovers_when_nobody_wants_it() {
    let mut world = World::new(Capacities::default());
    world.planner.set_route_limits(0, 0);
    world.route(prefix(1), Some(1));
    world.settle();
    assert_eq!(world.failed, set([1]));
    world.route(prefix(1), None);
    world.settle();
    assert_eq!(world.failed, set([]));
}

#[test]
fn a_range_that_is_announced_fails_like_a_route() {
    let mut world = World::new(Capacities::default());
    world.planner.set_route_limits(0, 0);
    world.planner.set_owned([prefix(2)]);
    world.settle();
    assert_eq!(world.failed, set([2]));
    world.planner.set_route_limits(1, 1);
    world.settle();
    assert_eq!(world.failed, set([]));
}

#[test]
fn another_limit_keeps_what_is_in_and_lets_in_what_fits() {
    let mut world = World::new(Capacities::default());
    for n in 1..=4 {
        world.route(prefix(n), Some(1));
    }
    world.settle();
    world.planner.set_route_limits(2, 2);
    world.route(prefix(5), Some(1));
    world.route(prefix(6), Some(1));
    world.settle();
    assert_eq!(world.failed, set([5, 6]));
    world.planner.set_route_limits(5, 5);
    world.settle();
    assert_eq!(world.failed.len(), 1);
    world.planner.set_route_limits(u32::MAX, u32::MAX);
    world.settle();
    assert_eq!(world.failed, set([]));
}

#[test]
fn a_refused_entry_has_failed_until_the_kernel_takes_it() {
    let mut world = World::new(Capacities::default());
    let key = Key::Route4(key_of(prefix(1)));
    world.refused.insert(key);
    world.route(prefix(1), Some(1));
    world.settle();
    assert_eq!(world.failed, set([1]));
    assert_eq!(
        world.why(prefix(1)),
        "the kernel refused route 10.0.1.0/25: out of memory"
    );
    let told = world.told;
    for _ in 0..3 {
        world.retry();
        assert_eq!(world.told, told, "nothing new");
    }
    // BGP changes its mind and the kernel does not.
    world.route(prefix(1), Some(2));
    world.settle();
    assert_eq!(world.told, told, "nothing new");

    world.refused.clear();
    world.planner.retry();
    world.hear();
    assert_eq!(world.told, told, "not before it is acknowledged");
    world.settle();
    assert_eq!(world.failed, set([]));
    assert_eq!(world.lost(), set([]));
}

#[test]
fn with_a_group_that_the_kernel_refuses_all_its_routes_fail() {
    let mut world = World::new(Capacities::default());
    world.route(prefix(1), Some(1));
    world.route(prefix(2), Some(1));
    world.route(prefix(3), Some(2));
    world.settle();
    let group = world.planner.route(prefix(1)).unwrap().group.unwrap();
    world.refused.insert(Key::Group(group));
    world.planner.rewrite(Key::Group(group));
    world.settle();
    assert_eq!(world.failed, set([1, 2]));
    world.refused.clear();
    world.retry();
    assert_eq!(world.failed, set([]));
}

#[test]
fn routes_of_a_group_without_an_id_or_a_next_hop_fail() {
    for full in ["groups", "next_hops"] {
        let capacities = Capacities::default();
        let mut world = World::new(match full {
            // Three are reserved: of the four groups two have room.
            "groups" => Capacities {
                groups: 5,
                ..capacities
            },
            _ => Capacities {
                next_hops: 3,
                ..capacities
            },
        });
        for n in 1..=4 {
            world.route(prefix(n), Some(u32::from(n)));
        }
        world.settle();
        assert_eq!(world.failed, world.lost());
        assert_eq!(world.failed.len(), 2, "{full}");
        let first = *world.failed.iter().next().unwrap();
        assert!(world.why(first).starts_with(&format!("map {full} is full")));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Route(u8, Option<u32>),
    Limit(u32),
    Refuse(u8),
    Accept,
    Retry,
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u8, prop::option::weighted(0.7, 1..=SETS)).prop_map(|(n, set)| Step::Route(n, set)),
        1 => (0..12_u32).prop_map(Step::Limit),
        1 => (0..12_u8).prop_map(Step::Refuse),
        1 => Just(Step::Accept),
        2 => Just(Step::Retry),
        4 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Whenever nothing is in flight, BGP believes of exactly those prefixes that they failed whose packets would not go
    /// where they should.
    #[test]
    fn bgp_knows_of_every_failure_and_of_no_other(steps in steps()) {
        let mut world = World::new(Capacities::default());
        for step in steps {
            match step {
                Step::Route(n, set) => world.route(prefix(n), set),
                Step::Limit(limit) => world.planner.set_route_limits(limit, limit),
                Step::Refuse(n) => {
                    world.refused.insert(Key::Route4(key_of(prefix(n))));
                }
                Step::Accept => world.refused.clear(),
                Step::Retry => world.retry(),
                Step::Settle => {
                    world.settle();
                    let lost = world.lost();
                    prop_assert!(world.failed.is_superset(&lost), "{:?} of {lost:?}", world.failed);
                }
            }
        }
        world.refused.clear();
        world.settle();
        world.retry();
        world.planner.set_route_limits(u32::MAX, u32::MAX);
        world.settle();
        prop_assert_eq!(&world.failed, &BTreeSet::new());
        prop_assert_eq!(world.lost(), BTreeSet::new());
    }
}
