//! Look-ups in what is derived against a naive longest prefix match, over random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::types::{AddressFamily, Prefix, Prefix4, Prefix6};
use causeway_maps::{Config, Flat4Block, GroupId, NextHopId, PodRange4, PodRange6, flat4_mode};
use causeway_net::{Adjacency, MacAddr, NetDelta, Resolution};
use proptest::prelude::*;

use super::*;
use crate::Dump;

/// A planner whose routes point to one of a few groups, each of one next hop, and the maps it writes.
struct World {
    planner: Planner,
    maps: Dump,
    generation: u64,
    routes: BTreeMap<Prefix, u8>,
    /// What an earlier planner wrote and nobody wants any more: it stays until it is pruned.
    left: BTreeMap<Prefix, u8>,
    seen: BTreeSet<Prefix>,
    config: Config,
}

const HOPS: u8 = 4;

impl World {
    fn new(config: Config) -> Self {
        let mut world = Self {
            planner: Planner::new(Capacities::default()),
            maps: Dump::default(),
            generation: 0,
            routes: BTreeMap::new(),
            left: BTreeMap::new(),
            seen: BTreeSet::new(),
            config,
        };
        world.begin();
        world
    }

    /// Tells a new planner all there is.
    fn begin(&mut self) {
        self.planner.set_config(self.config);
        let set = |n: u8| {
            let member = FibNextHop {
                addr: IpAddr::from([192, 0, 2, n]),
                link: None,
                weight: 1,
            };
            (NextHopSetId(n.into()), Some([member].into()))
        };
        let routes = self.routes.iter();
        let routes = routes.map(|(prefix, n)| (*prefix, Some(NextHopSetId(u32::from(*n)))));
        let delta = FibDelta {
            sets: (1..=HOPS).map(set).collect(),
            routes: routes.collect(),
        };
        self.generation += 1;
        self.planner.apply_fib(self.generation, delta);
        for n in 1..=HOPS {
            let key = NextHopKey {
                addr: IpAddr::from([192, 0, 2, n]),
                link: None,
            };
            let adjacency = Adjacency {
                ifindex: n.into(),
                src_mac: MacAddr([2; 6]),
                dst_mac: MacAddr([4; 6]),
                mtu: 1500,
                tx_ifindex: n.into(),
                vlan: 0,
                delivery: causeway_net::Delivery::Wire,
            };
            self.planner.apply_net(NetDelta {
                next_hops: vec![(key, Some(Resolution::Resolved(adjacency)))],
                ..NetDelta::default()
            });
        }
    }

    fn route(&mut self, prefix: Prefix, to: Option<u8>) {
        self.seen.insert(prefix);
        self.left.remove(&prefix);
        match to {
            Some(to) => self.routes.insert(prefix, to),
            None => self.routes.remove(&prefix),
        };
        self.generation += 1;
        let to = to.map(|to| NextHopSetId(to.into()));
        let delta = FibDelta {
            routes: vec![(prefix, to)],
            ..FibDelta::default()
        };
        self.planner.apply_fib(self.generation, delta);
    }

    /// Applies so many batches of this size.
    fn work(&mut self, batches: usize, entries: usize) {
        for _ in 0..batches {
            let Some(batch) = self.planner.poll_batch(entries) else {
                return;
            };
            for op in &batch.ops {
                self.maps.apply(op);
            }
            self.planner.ack(batch.generation, []);
        }
    }

    /// A daemon that comes after one that was killed.
    fn restart(&mut self) {
        self.planner = Planner::new(Capacities::default());
        self.planner.restore(self.maps.clone());
        let written = self.seen.iter().filter_map(|prefix| {
            let group = self.in_trie(*prefix)?;
            Some((*prefix, self.hop(group)?))
        });
        self.left = written
            .filter(|(prefix, _)| !self.routes.contains_key(prefix))
            .collect();
        self.begin();
    }

    fn prune(&mut self) {
        self.planner.prune();
        self.left.clear();
    }

    /// The only member of a group.
    fn hop(&self, group: GroupId) -> Option<u8> {
        let group = self.maps.groups.get(&group)?;
        let id = group.slots[0].order[0];
        let hop = self.maps.next_hops[&NextHopId(id.into())];
        Some(hop.ifindex as u8)
    }

    /// Every address at the border of a prefix that ever was there is found where it should be.
    fn check(&mut self) {
        self.work(usize::MAX, 1000);
        assert_eq!(self.planner.verify(&self.maps, 10), []);
        for prefix in &self.seen {
            for addr in borders(*prefix) {
                let (group, by) = self.look_up(addr);
                let wanted = self.naive(addr);
                assert_eq!(self.hop(group), wanted, "{addr} by {by}");
            }
        }
    }

    fn naive(&self, addr: IpAddr) -> Option<u8> {
        let covers = |prefix: &Prefix| {
            prefix.addr().is_ipv4() == addr.is_ipv4()
                && Prefix::new(addr, prefix.len()).as_ref() == Some(prefix)
        };
        let covering = self
            .routes
            .iter()
            .chain(&self.left)
            .filter(|(prefix, _)| covers(prefix));
        let longest = covering.max_by_key(|(prefix, _)| prefix.len());
        longest.map(|(_, hop)| *hop)
    }

    /// As the programs do.
    fn look_up(&self, addr: IpAddr) -> (GroupId, &'static str) {
        let config = self.maps.config.expect("written first");
        let block = match addr {
            IpAddr::V4(addr) => config.pods4.block(addr.octets()),
            IpAddr::V6(addr) => config.pods6.block(addr.octets()),
        };
        let pods = match addr {
            IpAddr::V4(_) => &self.maps.pods4,
            IpAddr::V6(_) => &self.maps.pods6,
        };
        if let Some(group) = block.and_then(|block| pods.get(&block)) {
            return (*group, "index");
        }
        if let IpAddr::V4(addr) = addr {
            let [a, b, c, _] = addr.octets();
            let root = self.maps.flat4_roots.get(&a).copied();
            let root = root.unwrap_or_else(bytemuck::Zeroable::zeroed);
            match root.mode {
                flat4_mode::DIRECT => return (GroupId(root.group), "root"),
                flat4_mode::TABLE => match self.maps.flat4[&[a, b]].groups[usize::from(c)] {
                    0 => {}
                    Flat4Block::COVER => return (GroupId(root.group), "cover"),
                    group => return (GroupId(group), "table"),
                },
                _ => {}
            }
        }
        let found = (0..=128)
            .rev()
            .find_map(|len| self.in_trie(Prefix::new(addr, len)?));
        (found.unwrap_or(GroupId::NONE), "trie")
    }

    fn in_trie(&self, prefix: Prefix) -> Option<GroupId> {
        match prefix {
            Prefix::V4(prefix) => self.maps.routes4.get(&causeway_maps::RouteKey4 {
                prefix_len: prefix.len().into(),
                addr: prefix.addr().octets(),
            }),
            Prefix::V6(prefix) => self.maps.routes6.get(&causeway_maps::RouteKey6 {
                prefix_len: prefix.len().into(),
                addr: prefix.addr().octets(),
            }),
        }
        .copied()
    }
}

/// First and last address of a prefix, and those beside it.
fn borders(prefix: Prefix) -> Vec<IpAddr> {
    match prefix {
        Prefix::V4(prefix) => {
            let first = prefix.bits();
            let last = first | u32::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
            let all = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
            all.map(|bits| Ipv4Addr::from_bits(bits).into()).to_vec()
        }
        Prefix::V6(prefix) => {
            let first = prefix.bits();
            let last = first | u128::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
            let all = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
            all.map(|bits| Ipv6Addr::from_bits(bits).into()).to_vec()
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Route(Prefix, Option<u8>),
    /// So many of one length, one behind the other, so that tables come and go.
    Many(Prefix, u8, Option<u8>),
    Work(usize, usize),
    Ranges(bool),
    Check,
    Restart,
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (any::<u32>(), 0..=32_u8, 0..4).prop_map(|(bits, len, near)| {
        // Mostly in two /8s, so that they nest.
        let bits = match near {
            0 => bits,
            1 => 0x0a00_0000 | bits & 0x00ff_ffff,
            _ => 0x0a0a_0000 | bits & 0x0007_03ff,
        };
        Prefix4::new(Ipv4Addr::from_bits(bits), len).unwrap().into()
    });
    let v6 = (any::<u32>(), 40..=80_u8).prop_map(|(bits, len)| {
        let bits = 0xfd00_0000_0001 << 80 | u128::from(bits & 0x3ff) << 62;
        Prefix6::new(Ipv6Addr::from_bits(bits), len).unwrap().into()
    });
    prop_oneof![3 => v4, 1 => v6]
}

fn any_step() -> impl Strategy<Value = Step> {
    let to = || prop_oneof![2 => (1..=HOPS).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        20 => (any_prefix(), to()).prop_map(|(prefix, to)| Step::Route(prefix, to)),
        6 => (any_prefix(), 20..=28_u8, to()).prop_map(|(p, len, to)| Step::Many(p, len, to)),
        10 => (1..4_usize, 1..50_usize).prop_map(|(n, size)| Step::Work(n, size)),
        1 => any::<bool>().prop_map(Step::Ranges),
        3 => Just(Step::Check),
        1 => Just(Step::Restart),
    ]
}

fn config(small: bool) -> Config {
    let (pods4, pods6) = match small {
        true => (
            PodRange4::new([10, 10, 0, 0], 16, 24),
            PodRange6::new(Ipv6Addr::new(0xfd00, 0, 1, 0, 0, 0, 0, 0).octets(), 48, 64),
        ),
        false => (PodRange4::new([10, 0, 0, 0], 8, 22), None),
    };
    Config {
        flags: 0,
        hash_seed: 7,
        pods4: pods4.unwrap_or(PodRange4::NONE),
        pods6: pods6.unwrap_or(PodRange6::NONE),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_look_up_gives_what_a_naive_longest_prefix_match_does(
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut world = World::new(config(true));
        for step in steps {
            match step {
                Step::Route(prefix, to) => world.route(prefix, to),
                Step::Many(prefix, len, to) => {
                    let IpAddr::V4(addr) = prefix.addr() else { continue };
                    for n in 0..crate::flat::TABLE_ROUTES as u32 + 6 {
                        let step = 1_u32 << (32 - len);
                        let addr = Ipv4Addr::from_bits(addr.to_bits().wrapping_add(n * step));
                        world.route(Prefix4::new(addr, len).unwrap().into(), to);
                    }
                }
                Step::Work(batches, entries) => world.work(batches, entries),
                Step::Ranges(small) => {
                    world.config = config(small);
                    world.planner.set_config(world.config);
                }
                Step::Check => world.check(),
                Step::Restart => world.restart(),
            }
        }
        // Nobody withdrew what was there before a restart.
        world.prune();
        world.check();
        for prefix in world.routes.keys().copied().collect::<Vec<_>>() {
            world.route(prefix, None);
        }
        world.check();
        prop_assert!(world.maps.flat4.is_empty(), "a table without routes is kept");
        prop_assert!(world.maps.pods4.is_empty() && world.maps.pods6.is_empty());
    }
}

#[test]
fn a_table_that_loads_is_put_aside_until_no_routes_wait() {
    let mut world = World::new(config(false));
    let prefix = |n: u32| Prefix4::new(Ipv4Addr::from_bits(0x0b00_0000 + (n << 8)), 24).unwrap();
    for n in 0..100 {
        world.route(prefix(n).into(), Some(1));
    }
    world.work(usize::MAX, 1000);
    let root = |world: &World| world.maps.flat4_roots.get(&11).map_or(0, |root| root.mode);
    assert_eq!(root(&world), flat4_mode::TABLE);
    assert_eq!(world.look_up([11, 0, 5, 1].into()).1, "table");
    assert_eq!(world.look_up([11, 9, 5, 1].into()).1, "cover");
    assert_eq!(world.look_up([12, 9, 5, 1].into()).1, "root");
    for n in 100..200 {
        world.route(prefix(n).into(), Some(2));
    }
    world.work(1, 50);
    assert_eq!(root(&world), flat4_mode::LPM, "routes wait");
    world.work(usize::MAX, 50);
    assert_eq!(root(&world), flat4_mode::TABLE);
    world.check();
}

#[test]
fn a_refused_row_puts_its_table_aside_until_it_is_written() {
    let mut world = World::new(config(false));
    let prefix = |n: u32| Prefix4::new(Ipv4Addr::from_bits(0x0b00_0000 + (n << 8)), 24).unwrap();
    for n in 0..100 {
        world.route(prefix(n).into(), Some(1));
    }
    world.work(usize::MAX, 10_000);
    world.route(prefix(3).into(), Some(2));
    let batch = world.planner.poll_batch(10_000).unwrap();
    let key = Key::Flat4Row([11, 0]);
    let error = "out of memory".into();
    world
        .planner
        .ack(batch.generation, [Failure { key, error }]);
    for op in &batch.ops {
        if !matches!(op, crate::Op::PutFlat4Rows(_)) {
            world.maps.apply(op);
        }
    }
    let root = |world: &World| world.maps.flat4_roots.get(&11).map_or(0, |root| root.mode);
    world.work(usize::MAX, 10_000);
    assert_eq!(root(&world), flat4_mode::LPM);
    world.planner.retry();
    world.work(usize::MAX, 10_000);
    assert_eq!(root(&world), flat4_mode::TABLE);
    world.check();
}
