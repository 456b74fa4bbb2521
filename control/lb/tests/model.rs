//! The tables beside a naive model that computes them from the objects as they are now, with nothing kept: after any
//! history, both are equal. Ids, seats and the order of events must not show.

#[path = "model/history.rs"]
mod history;
#[path = "model/naive.rs"]
mod naive;

use std::collections::{BTreeMap, BTreeSet};

use causeway_lb::{
    Announcement, BackendKey, FrontendKey, Lb, LbConfig, ObjectRef, ProblemKind, Ring, Route,
    Scope, Tables, Withheld,
};
use history::{History, World};
use naive::{Naive, NaiveFrontend, NaiveRoute};
use proptest::prelude::*;

const NODE: &str = "node-a";

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_000)
    })]

    #[test]
    fn any_history_ends_in_the_tables_of_its_last_state(seeds in prop::collection::vec(any::<u64>(), 1..60)) {
        let mut lb = Lb::new(LbConfig::new(NODE));
        let mut tables = Tables::default();
        let mut world = World::default();
        for seed in seeds {
            match History::step(seed, &mut world, &mut lb) {
                History::Apply => {}
                History::Poll(most) => poll(&mut lb, &mut tables, most),
                History::Compare => {
                    poll(&mut lb, &mut tables, usize::MAX);
                    compare(&lb, &tables, &world);
                }
            }
        }
        poll(&mut lb, &mut tables, usize::MAX);
        compare(&lb, &tables, &world);
    }

    #[test]
    fn the_order_in_which_objects_come_does_not_matter(seeds in prop::collection::vec(any::<u64>(), 1..40), turn in 0usize..40) {
        let mut world = World::default();
        let mut lb = Lb::new(LbConfig::new(NODE));
        let mut tables = Tables::default();
        for seed in seeds {
            History::step(seed, &mut world, &mut lb);
        }
        poll(&mut lb, &mut tables, usize::MAX);
        let mut other = Lb::new(LbConfig::new(NODE));
        let mut other_tables = Tables::default();
        let mut objects = world.objects();
        let turn = turn % objects.len().max(1);
        objects.rotate_left(turn);
        for object in &objects {
            object.apply(&mut other);
            poll(&mut other, &mut other_tables, 1);
        }
        poll(&mut other, &mut other_tables, usize::MAX);
        prop_assert_eq!(nameless(&tables), nameless(&other_tables));
    }

    #[test]
    fn a_restart_gives_the_same_ids_again(seeds in prop::collection::vec(any::<u64>(), 1..40)) {
        let mut world = World::default();
        let mut lb = Lb::new(LbConfig::new(NODE));
        let mut tables = Tables::default();
        for seed in seeds {
            History::step(seed, &mut world, &mut lb);
            poll(&mut lb, &mut tables, 1);
        }
        poll(&mut lb, &mut tables, usize::MAX);
        let mut again = Lb::new(LbConfig::new(NODE));
        for (id, pool) in &tables.pools {
            again.restore_pool(pool.identity(), *id, pool.service);
        }
        for (id, backend) in &tables.backends {
            again.restore_backend(*id, backend.key);
        }
        for ((pool, number), seat) in &tables.seats {
            again.restore_seat(*pool, *number, tables.backends[&seat.backend].key);
        }
        for object in world.objects() {
            object.apply(&mut again);
        }
        let mut after = Tables::default();
        poll(&mut again, &mut after, usize::MAX);
        again.end_restore();
        poll(&mut again, &mut after, usize::MAX);
        prop_assert_eq!(after, tables);
    }

    #[test]
    fn a_full_list_removes_what_it_does_not_hold(before in prop::collection::vec(any::<u64>(), 1..30), after in prop::collection::vec(any::<u64>(), 1..30)) {
        let mut lb = Lb::new(LbConfig::new(NODE));
        let mut tables = Tables::default();
        let mut forgotten = World::default();
        for seed in before {
            History::step(seed, &mut forgotten, &mut lb);
        }
        poll(&mut lb, &mut tables, usize::MAX);
        let mut scratch = Lb::new(LbConfig::new(NODE));
        let mut world = World::default();
        for seed in after {
            History::step(seed, &mut world, &mut scratch);
        }
        lb.begin_sync();
        lb.remove_node(NODE);
        for object in world.objects() {
            object.apply(&mut lb);
        }
        lb.end_sync();
        poll(&mut lb, &mut tables, usize::MAX);
        compare(&lb, &tables, &world);
    }
}

/// Takes in deltas, each of which must leave the tables whole, and acknowledges them.
fn poll(lb: &mut Lb, tables: &mut Tables, most: usize) {
    while let Some(delta) = lb.poll_delta(most) {
        let freed: BTreeSet<_> = delta
            .backends
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(id, _)| *id)
            .collect();
        tables.apply(&delta);
        assert_eq!(tables.inconsistencies(), [""; 0]);
        for (_, seat) in &delta.seats {
            assert!(seat.is_none_or(|seat| !freed.contains(&seat.backend)));
        }
        lb.programmed(delta.revision);
        if most != usize::MAX {
            break;
        }
    }
}

fn compare(lb: &Lb, tables: &Tables, world: &World) {
    let naive = Naive::compute(world, NODE);
    let frontends: BTreeMap<FrontendKey, NaiveFrontend> = tables
        .frontends
        .iter()
        .map(|(key, frontend)| {
            let pool = &tables.pools[&frontend.pool];
            let route = |route| named_route(tables, frontend.pool, route);
            let ranges = frontend.source_ranges.then(|| {
                let ranges = &tables.source_ranges[&(frontend.service, pool.family)];
                ranges.prefixes.iter().map(ToString::to_string).collect()
            });
            let named = NaiveFrontend {
                service: pool.owner.to_string(),
                kind: frontend.kind,
                pod: route(frontend.routes.pod),
                host: route(frontend.routes.host),
                outside: route(frontend.routes.outside),
                affinity: pool.affinity.map(|seconds| seconds.get()),
                ranges,
            };
            (*key, named)
        })
        .collect();
    assert_eq!(frontends, naive.frontends);
    let backends: BTreeMap<BackendKey, bool> = tables
        .backends
        .values()
        .map(|backend| (backend.key, backend.serving))
        .collect();
    assert_eq!(backends, naive.backends);
    let health: BTreeMap<u16, (String, u32)> = tables
        .health_checks
        .iter()
        .map(|(port, check)| (port.get(), (check.service.to_string(), check.local_ready)))
        .collect();
    assert_eq!(health, naive.health_checks);
    let addresses: BTreeSet<_> = tables.addresses.keys().copied().collect();
    assert_eq!(addresses, naive.addresses);
    let originated: BTreeSet<_> = addresses
        .iter()
        .copied()
        .filter(|addr| match lb.announced(*addr) {
            Some(Announcement::Originate { .. }) => true,
            Some(Announcement::Withhold(why)) => {
                assert_ne!(*why, Withheld::Programming, "{addr}");
                false
            }
            None => panic!("nothing is told of {addr}"),
        })
        .collect();
    assert_eq!(originated, naive.originated);
    // Rings are what anybody would compute who knows only the members.
    for ((pool, scope), ring) in &tables.rings {
        let seats: Vec<_> = tables
            .seats
            .range((*pool, 0)..=(*pool, u16::MAX))
            .map(|((_, number), seat)| (*number, *seat))
            .collect();
        let members: Vec<_> = seats
            .iter()
            .filter(|(_, seat)| match scope {
                Scope::Cluster => seat.cluster,
                Scope::Local => seat.local,
            })
            .map(|(number, seat)| {
                let key = tables.backends[&seat.backend].key;
                let pool = &tables.pools[pool];
                let port = (pool.owner.to_string(), pool.port_name.to_string());
                let weight = naive.weights[&(port.0, port.1, pool.protocol, key)];
                (key, weight, *number)
            })
            .collect();
        assert_eq!(Some(ring.as_ref()), Ring::new(&members).as_ref());
    }
    let conflicts: BTreeSet<_> = lb
        .problems()
        .into_iter()
        .filter(|report| report.problem.kind == ProblemKind::Conflict)
        .map(|report| match report.object {
            ObjectRef::Service(key) => key.to_string(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(conflicts, naive.losers);
}

fn named_route(tables: &Tables, pool: causeway_lb::PoolId, route: Route) -> NaiveRoute {
    match route {
        Route::Reject => NaiveRoute::Reject,
        Route::Drop => NaiveRoute::Drop,
        Route::Forward { scope, masquerade } => NaiveRoute::Forward {
            masquerade,
            to: tables.shares(pool, scope).into_keys().collect(),
        },
    }
}

/// Frontends without ids, and every slot of their rings by backend.
fn nameless(tables: &Tables) -> BTreeMap<FrontendKey, (String, Vec<Vec<BackendKey>>)> {
    tables
        .frontends
        .iter()
        .map(|(key, frontend)| {
            let rings = [Scope::Cluster, Scope::Local]
                .into_iter()
                .map(|scope| {
                    let ring = tables.rings.get(&(frontend.pool, scope));
                    ring.into_iter()
                        .flat_map(|ring| ring.slots())
                        .map(|seat| {
                            let seat = tables.seats[&(frontend.pool, *seat)];
                            tables.backends[&seat.backend].key
                        })
                        .collect()
                })
                .collect();
            let text = format!("{:?} {:?}", frontend.kind, frontend.routes);
            (*key, (text, rings))
        })
        .collect()
}
