use proptest::prelude::*;

use super::*;
use crate::facts::{KernelRoute, RouteTarget};
use crate::resolve::{Resolution, Unusable};

const STATIC: u8 = 4;

/// The kernel, as far as it matters: what it takes, and what it does by itself.
#[derive(Debug, Default)]
struct Kernel {
    hops: BTreeMap<u32, Gateway>,
    groups: BTreeMap<u32, Vec<(u32, u8)>>,
    /// By prefix and metric: who made it, and the group; blackholes have none.
    routes: BTreeMap<(Subnet, u32), (u8, Option<u32>)>,
}

impl Kernel {
    fn apply(&mut self, op: &Op) -> Result<(), RefusalKind> {
        use RefusalKind::{Exists, Missing, Other};
        let known = |there: bool, replace: bool| match (there, replace) {
            (true, false) => Err(Exists),
            (false, true) => Err(Missing),
            _ => Ok(()),
        };
        match op {
            Op::NextHop {
                id,
                gateway,
                replace,
            } => {
                known(self.hops.contains_key(id), *replace)?;
                self.hops.insert(*id, *gateway);
            }
            Op::Group {
                id,
                members,
                replace,
            } => {
                known(self.groups.contains_key(id), *replace)?;
                if members.iter().any(|(hop, _)| !self.hops.contains_key(hop)) {
                    return Err(Other);
                }
                self.groups.insert(*id, members.to_vec());
            }
            Op::RemoveNextHop { id } => {
                if self.groups.remove(id).is_some() {
                    self.routes.retain(|_, (_, group)| *group != Some(*id));
                } else {
                    self.hops.remove(id).ok_or(Missing)?;
                    self.take_out(&BTreeSet::from([*id]));
                }
            }
            Op::Route {
                prefix,
                group,
                replace,
            } => {
                let key = (*prefix, METRIC);
                known(self.routes.contains_key(&key), *replace)?;
                if !self.groups.contains_key(group) {
                    return Err(Other);
                }
                let before = self.routes.insert(key, (PROTOCOL, Some(*group)));
                assert!(
                    before.is_none_or(|(protocol, _)| protocol == PROTOCOL),
                    "somebody's route was replaced: {op:?}"
                );
            }
            Op::Blackhole { prefix } => {
                let key = (*prefix, BLACKHOLE_METRIC);
                known(self.routes.contains_key(&key), false)?;
                self.routes.insert(key, (PROTOCOL, None));
            }
            Op::RemoveRoute { prefix, metric } => {
                let key = (*prefix, *metric);
                match self.routes.get(&key) {
                    Some((PROTOCOL, _)) => self.routes.remove(&key),
                    _ => return Err(Missing),
                };
            }
        }
        Ok(())
    }

    /// Carrier is lost: without a word all that used the link goes.
    fn cut(&mut self, ifindex: u32) {
        let gone: BTreeSet<u32> = self
            .hops
            .iter()
            .filter(|(_, gateway)| gateway.ifindex == ifindex)
            .map(|(id, _)| *id)
            .collect();
        self.hops.retain(|id, _| !gone.contains(id));
        self.take_out(&gone);
    }

    fn take_out(&mut self, gone: &BTreeSet<u32>) {
        for members in self.groups.values_mut() {
            members.retain(|(id, _)| !gone.contains(id));
        }
        self.groups.retain(|_, members| !members.is_empty());
        let groups = &self.groups;
        self.routes
            .retain(|_, (_, group)| group.is_none_or(|id| groups.contains_key(&id)));
    }

    fn listed(&self) -> Vec<FoundNextHop> {
        let hops = self
            .hops
            .iter()
            .map(|(id, gateway)| (*id, FoundValue::Gateway(*gateway)));
        let groups = self
            .groups
            .iter()
            .map(|(id, members)| (*id, FoundValue::Group(Arc::from(&members[..]))));
        hops.chain(groups)
            .map(|(id, value)| FoundNextHop {
                id,
                protocol: PROTOCOL,
                value,
            })
            .collect()
    }

    fn route(&self, prefix: Subnet, metric: u32) -> Option<KernelRoute> {
        let (protocol, group) = *self.routes.get(&(prefix, metric))?;
        Some(KernelRoute {
            prefix,
            metric,
            protocol,
            target: group.map_or(RouteTarget::Reject, RouteTarget::Object),
        })
    }

    /// Links by which a prefix is reached by a route of ours.
    fn ways(&self, prefix: Subnet) -> Vec<u32> {
        match self.routes.get(&(prefix, METRIC)) {
            Some((PROTOCOL, Some(group))) => self.groups[group]
                .iter()
                .map(|(hop, _)| self.hops[hop].ifindex)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Carries everything out. Returns the operations.
fn settle(table: &mut KernelTable, kernel: &mut Kernel) -> Vec<Op> {
    let mut done = Vec::new();
    for _ in 0..200 {
        match table.poll_listing() {
            Some(Listing::NextHops) => {
                table.found_next_hops(kernel.listed());
                continue;
            }
            Some(Listing::Routes) => {
                table.listing_begins();
                for (prefix, metric) in kernel.routes.keys() {
                    table.found_route(&kernel.route(*prefix, *metric).unwrap());
                }
                table.listing_ends();
                continue;
            }
            None => {}
        }
        let Some(batch) = table.poll(3).map(<[Op]>::to_vec) else {
            return done;
        };
        let refused: Vec<Refusal> = batch
            .iter()
            .enumerate()
            .filter_map(|(index, op)| {
                Some(Refusal {
                    index,
                    kind: kernel.apply(op).err()?,
                    error: "no".into(),
                })
            })
            .collect();
        table.ack(refused);
        done.extend(batch);
    }
    panic!("it never ends: {table:#?}");
}

fn subnet(n: u8) -> Subnet {
    Subnet::new(IpAddr::from([10, n, 0, 0]), 16).unwrap()
}

fn key(n: u8) -> NextHopKey {
    NextHopKey {
        addr: IpAddr::from([192, 0, 2, n]),
        link: None,
    }
}

fn hops(members: &[u8]) -> Option<Arc<[Hop]>> {
    let hop = |n: &u8| Hop {
        key: key(*n),
        weight: 1,
    };
    Some(members.iter().map(hop).collect())
}

fn reachable(n: u8) -> Resolution {
    Resolution::Unusable(Unusable::NotAPort {
        ifindex: u32::from(n),
    })
}

const UNREACHABLE: Resolution = Resolution::Unusable(Unusable::NoCarrier);

/// Sets 1 (next hops 1 and 2) and 2 (next hop 3), and routes 1 to 9 to the first and 10 to the second.
fn loaded() -> (KernelTable, Kernel) {
    let (mut table, mut kernel) = (KernelTable::new(true), Kernel::default());
    load(&mut table);
    table.prune();
    settle(&mut table, &mut kernel);
    (table, kernel)
}

fn load(table: &mut KernelTable) {
    for n in 1..=3 {
        table.next_hop(key(n), Some(&reachable(n)));
    }
    table.define(SetId(1), hops(&[1, 2]));
    table.define(SetId(2), hops(&[3]));
    for n in 1..=9 {
        table.route(subnet(n), Some(SetId(1)));
    }
    table.route(subnet(10), Some(SetId(2)));
}

#[test]
fn routes_lead_where_they_shall() {
    let (table, kernel) = loaded();
    for n in 1..=9 {
        assert_eq!(kernel.ways(subnet(n)), [1, 2]);
    }
    assert_eq!(kernel.ways(subnet(10)), [3]);
    let summary = table.summary();
    assert_eq!(
        (summary.routes, summary.groups, summary.next_hops),
        (10, 2, 3)
    );
    assert!(summary.settled && summary.error.is_none());
}

#[test]
fn a_lost_next_hop_changes_its_group_and_no_route() {
    let (mut table, mut kernel) = loaded();
    table.next_hop(key(2), Some(&UNREACHABLE));
    let done = settle(&mut table, &mut kernel);
    assert!(
        !done.iter().any(|op| matches!(op, Op::Route { .. })),
        "{done:?}"
    );
    assert_eq!(kernel.ways(subnet(9)), [1]);
    assert_eq!(kernel.hops.len(), 2, "its object is gone");
}

#[test]
fn what_the_kernel_deleted_without_a_word_comes_back_when_the_link_does() {
    let (mut table, mut kernel) = loaded();
    for link in [1, 2] {
        kernel.cut(link);
        table.next_hop(key(link as u8), Some(&UNREACHABLE));
    }
    assert!(kernel.ways(subnet(1)).is_empty());
    settle(&mut table, &mut kernel);
    assert_eq!(table.summary().routes, 1);
    for link in [1, 2] {
        table.next_hop(key(link), Some(&reachable(link)));
    }
    settle(&mut table, &mut kernel);
    for n in 1..=9 {
        assert_eq!(kernel.ways(subnet(n)), [1, 2]);
    }
}

#[test]
fn a_flap_that_only_the_kernel_saw_is_repaired_once_the_link_is_looked_at() {
    let (mut table, mut kernel) = loaded();
    kernel.cut(1);
    kernel.cut(2);
    table.link_touched(2);
    settle(&mut table, &mut kernel);
    assert_eq!(kernel.ways(subnet(5)), [1, 2]);
    assert!(table.summary().repaired > 0);
}

#[test]
fn a_route_that_somebody_deletes_or_bends_is_repaired() {
    let (mut table, mut kernel) = loaded();
    let route = kernel.route(subnet(4), METRIC).unwrap();
    kernel.routes.remove(&(subnet(4), METRIC));
    table.lost_route(&route);
    settle(&mut table, &mut kernel);
    assert_eq!(kernel.ways(subnet(4)), [1, 2]);

    let other = kernel.route(subnet(10), METRIC).unwrap();
    let RouteTarget::Object(group) = other.target else {
        panic!("{other:?}");
    };
    kernel
        .routes
        .insert((subnet(4), METRIC), (PROTOCOL, Some(group)));
    table.found_route(&kernel.route(subnet(4), METRIC).unwrap());
    settle(&mut table, &mut kernel);
    assert_eq!(kernel.ways(subnet(4)), [1, 2]);
}

#[test]
fn somebody_elses_route_stays_and_ours_comes_when_it_goes() {
    let (mut table, mut kernel) = (KernelTable::new(true), Kernel::default());
    kernel.routes.insert((subnet(4), METRIC), (STATIC, None));
    load(&mut table);
    settle(&mut table, &mut kernel);
    let foreign = kernel.route(subnet(4), METRIC).unwrap();
    assert_eq!(foreign.protocol, STATIC);
    assert_eq!(table.summary().conflicts, 1);

    kernel.routes.remove(&(subnet(4), METRIC));
    table.lost_route(&foreign);
    settle(&mut table, &mut kernel);
    assert_eq!(kernel.ways(subnet(4)), [1, 2]);
    assert_eq!(table.summary().conflicts, 0);
}

#[test]
fn a_route_that_took_our_place_is_not_replaced() {
    let (mut table, mut kernel) = loaded();
    kernel.routes.insert((subnet(4), METRIC), (STATIC, None));
    table.found_route(&kernel.route(subnet(4), METRIC).unwrap());
    table.route(subnet(4), Some(SetId(2)));
    settle(&mut table, &mut kernel);
    assert_eq!(kernel.route(subnet(4), METRIC).unwrap().protocol, STATIC);
}

#[test]
fn the_next_daemon_takes_over_without_touching_a_route_and_prunes_when_told() {
    let (_, mut kernel) = loaded();
    let mut table = KernelTable::new(true);
    settle(&mut table, &mut kernel);
    for n in 1..=10 {
        assert!(!kernel.ways(subnet(n)).is_empty(), "a gap at {n}");
    }
    load(&mut table);
    table.route(subnet(9), None);
    let done = settle(&mut table, &mut kernel);
    assert_eq!(done, [], "all of it was there");
    table.prune();
    let done = settle(&mut table, &mut kernel);
    assert_eq!(
        done,
        [Op::RemoveRoute {
            prefix: subnet(9),
            metric: METRIC
        }]
    );
}

#[test]
fn owned_ranges_end_in_a_blackhole_and_are_never_routed_away() {
    let (mut table, mut kernel) = loaded();
    table.own([subnet(4), subnet(77)]);
    settle(&mut table, &mut kernel);
    for n in [4, 77] {
        assert!(kernel.routes.contains_key(&(subnet(n), BLACKHOLE_METRIC)));
    }
    assert!(kernel.ways(subnet(4)).is_empty());
    table.own([]);
    settle(&mut table, &mut kernel);
    assert!(!kernel.routes.contains_key(&(subnet(77), BLACKHOLE_METRIC)));
    assert_eq!(kernel.ways(subnet(4)), [1, 2]);
}

#[test]
fn switched_off_it_leaves_nothing_behind() {
    let (mut table, mut kernel) = loaded();
    table.own([subnet(77)]);
    settle(&mut table, &mut kernel);
    table.enable(false);
    table.own([]);
    settle(&mut table, &mut kernel);
    assert!(kernel.routes.is_empty(), "{kernel:?}");
    assert!(kernel.groups.is_empty(), "{kernel:?}");
}

#[test]
fn ids_that_somebody_else_uses_are_left_alone() {
    let (mut table, mut kernel) = (KernelTable::new(true), Kernel::default());
    load(&mut table);
    let theirs = FoundNextHop {
        id: FIRST_HOP_ID,
        protocol: STATIC,
        value: FoundValue::Other,
    };
    assert_eq!(table.poll_listing(), Some(Listing::NextHops));
    table.found_next_hops([theirs]);
    let done = settle(&mut table, &mut kernel);
    let touched = |op: &Op| matches!(op, Op::NextHop { id, .. } if *id == FIRST_HOP_ID);
    assert!(!done.iter().any(touched), "{done:?}");
    assert_eq!(kernel.ways(subnet(1)), [1, 2]);
}

#[test]
fn weights_keep_their_proportions_within_what_the_kernel_takes() {
    let (mut table, mut kernel) = (KernelTable::new(true), Kernel::default());
    for n in 1..=3 {
        table.next_hop(key(n), Some(&reachable(n)));
    }
    let weighted = |weights: &[(u8, u32)]| -> Option<Arc<[Hop]>> {
        let hop = |(n, weight): &(u8, u32)| Hop {
            key: key(*n),
            weight: *weight,
        };
        Some(weights.iter().map(hop).collect())
    };
    for (weights, expected) in [
        ([(1, 10), (2, 20), (3, 30)], [1, 2, 3]),
        ([(1, 1), (2, 1_000), (3, 2_000)], [1, 127, 255]),
        ([(1, u32::MAX), (2, 1), (3, u32::MAX)], [255, 1, 255]),
    ] {
        table.define(SetId(1), weighted(&weights));
        table.route(subnet(1), Some(SetId(1)));
        settle(&mut table, &mut kernel);
        let members = kernel.groups.values().next().unwrap();
        let found: Vec<u8> = members.iter().map(|(_, weight)| *weight).collect();
        assert_eq!(found, expected);
    }
}

#[derive(Clone, Debug)]
enum Event {
    Resolve(u8, bool),
    Define(u8, Vec<u8>),
    Route(u8, Option<u8>),
    Cut(u8),
    Delete(u8),
    Foreign(u8, bool),
    Settle,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..5_u8, any::<bool>()).prop_map(|(n, up)| Event::Resolve(n, up)),
        (1..4_u8, proptest::collection::vec(1..5_u8, 1..4))
            .prop_map(|(set, members)| Event::Define(set, members)),
        (1..9_u8, proptest::option::of(1..4_u8)).prop_map(|(n, set)| Event::Route(n, set)),
        (1..5_u8).prop_map(Event::Cut),
        (1..9_u8).prop_map(Event::Delete),
        (1..9_u8, any::<bool>()).prop_map(|(n, there)| Event::Foreign(n, there)),
        Just(Event::Settle),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_kernel_ends_as_wanted(
        events in proptest::collection::vec(event(), 0..60)
    ) {
        let (mut table, mut kernel) = (KernelTable::new(true), Kernel::default());
        let mut up: BTreeMap<u8, bool> = BTreeMap::new();
        let mut sets: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let mut routes: BTreeMap<u8, u8> = BTreeMap::new();
        for event in events {
            match event {
                Event::Resolve(n, reachable_now) => {
                    up.insert(n, reachable_now);
                    let resolution = if reachable_now { reachable(n) } else { UNREACHABLE };
                    table.next_hop(key(n), Some(&resolution));
                }
                Event::Define(set, members) => {
                    table.define(SetId(set.into()), hops(&members));
                    sets.insert(set, members);
                }
                Event::Route(n, set) => {
                    let set = set.filter(|set| sets.contains_key(set));
                    table.route(subnet(n), set.map(|set| SetId(set.into())));
                    match set {
                        Some(set) => routes.insert(n, set),
                        None => routes.remove(&n),
                    };
                }
                Event::Cut(link) => {
                    kernel.cut(link.into());
                    table.link_touched(link.into());
                }
                Event::Delete(n) => {
                    if let Some(route) = kernel.route(subnet(n), METRIC)
                        && route.protocol == PROTOCOL
                    {
                        kernel.routes.remove(&(subnet(n), METRIC));
                        table.lost_route(&route);
                    }
                }
                Event::Foreign(n, there) => {
                    let place = (subnet(n), METRIC);
                    if there && !kernel.routes.contains_key(&place) {
                        kernel.routes.insert(place, (STATIC, None));
                        table.found_route(&kernel.route(subnet(n), METRIC).unwrap());
                    } else if let Some(route) = kernel.route(subnet(n), METRIC)
                        && route.protocol == STATIC
                    {
                        kernel.routes.remove(&place);
                        table.lost_route(&route);
                    }
                }
                Event::Settle => {
                    settle(&mut table, &mut kernel);
                }
            }
        }
        table.prune();
        table.retry();
        settle(&mut table, &mut kernel);
        for n in 1..9 {
            let foreign = kernel.route(subnet(n), METRIC).is_some_and(|r| r.protocol == STATIC);
            let mut wanted: Vec<u32> = routes
                .get(&n)
                .map(|set| sets[set].clone())
                .unwrap_or_default()
                .into_iter()
                .filter(|hop| up.get(hop) == Some(&true) && !foreign)
                .map(u32::from)
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            let mut found = kernel.ways(subnet(n));
            found.sort_unstable();
            prop_assert_eq!(found, wanted, "route {}", n);
        }
        let used: BTreeSet<u32> = kernel.groups.values().flatten().map(|(id, _)| *id).collect();
        prop_assert_eq!(used, kernel.hops.keys().copied().collect::<BTreeSet<u32>>());
    }
}
