//! The planner's batches through the real maps.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::types::{Prefix, Prefix4, Prefix6};
use causeway_datapath::Datapath;
use causeway_maps::GroupId;
use causeway_maps::catalogue::MAX_GROUPS;
use causeway_net::{
    Adjacency, Delivery, LinkKind, Local, MacAddr, NetDelta, Port, PortRole, Resolution, Subnet,
    Unusable,
};
use causeway_plan::{Capacities, Difference, Interest, Key, Op, Planner};

use crate::{ifindex, on_a_host, options};

/// Operations in a batch.
const BATCH: usize = 4_096;
const ROUTES: u32 = 100_000;

#[test]
fn a_hundred_thousand_routes_are_in_the_maps_as_intended_and_survive_a_restart() {
    on_a_host(|bpffs| {
        let options = options(bpffs);
        let mut datapath = Datapath::load(&options)?;
        let mut planner = Planner::new(Capacities::default());
        want(&mut planner, ROUTES)?;
        settle(&mut planner, &mut datapath)?;
        let dump = datapath.dump()?;
        ensure!(dump.routes4.len() == ROUTES as usize && dump.routes6.len() == ROUTES as usize);
        ensure!(planner.verify(&dump, 10).is_empty());
        ensure!(planner.poll_programmed() == Some(1) && planner.failed().count() == 0);
        drop((planner, datapath));

        let mut datapath = Datapath::load(&options)?;
        let mut planner = Planner::new(Capacities::default());
        planner.restore(datapath.dump()?);
        want(&mut planner, ROUTES - 1)?;
        let again = settle(&mut planner, &mut datapath)?;
        ensure!(again == 0, "what is there was written again: {again}");
        ensure!(planner.verify(&datapath.dump()?, 10).is_empty());
        planner.prune();
        let removed = settle(&mut planner, &mut datapath)?;
        ensure!(
            removed == 2,
            "{removed} operations for one prefix of each family"
        );
        ensure!(planner.verify(&datapath.dump()?, 10).is_empty());
        Ok(())
    });
}

#[test]
fn a_lost_next_hop_takes_as_many_operations_with_many_routes_as_with_one() {
    on_a_host(|bpffs| {
        let mut datapath = Datapath::load(&options(bpffs))?;
        let mut planner = Planner::new(Capacities::default());
        want(&mut planner, 10_000)?;
        settle(&mut planner, &mut datapath)?;
        planner.apply_net(told(1, Resolution::Unusable(Unusable::NoCarrier)));
        let operations = settle(&mut planner, &mut datapath)?;
        ensure!(operations == 1, "{operations} operations");
        ensure!(planner.verify(&datapath.dump()?, 10).is_empty());
        Ok(())
    });
}

#[test]
fn what_somebody_else_changed_is_found_and_repaired() {
    on_a_host(|bpffs| {
        let mut datapath = Datapath::load(&options(bpffs))?;
        let mut planner = Planner::new(Capacities::default());
        want(&mut planner, 10)?;
        settle(&mut planner, &mut datapath)?;
        let intact = datapath.dump()?;

        let gone = *intact.routes4.keys().next().context("a route")?;
        let changed = *intact.groups.keys().next().context("a group")?;
        for op in [Op::DeleteRoutes4(vec![gone]), Op::ClearGroup(changed)] {
            datapath.apply(&op)?;
        }
        let differences = planner.verify(&datapath.dump()?, 10);
        let wanted = [
            Difference::Missing(Key::Group(changed)),
            Difference::Missing(Key::Route4(gone)),
        ];
        ensure!(differences == wanted, "{differences:?}");
        planner.rewrite(Key::Route4(gone));
        planner.rewrite(Key::Group(changed));
        settle(&mut planner, &mut datapath)?;
        ensure!(datapath.dump()? == intact);
        Ok(())
    });
}

#[test]
fn what_the_kernel_refuses_is_named_by_the_prefixes_that_need_it() {
    on_a_host(|bpffs| {
        const TOO_MANY: u32 = 5;
        let mut datapath = Datapath::load(&options(bpffs))?;
        // Believes that there is room for more groups than the map has.
        let mut planner = Planner::new(Capacities {
            groups: MAX_GROUPS + 100,
            ..Capacities::default()
        });
        let hosts = MAX_GROUPS - GroupId::FIRST.0 + TOO_MANY;
        let neighbour = |n: u32, there: bool| {
            let subnet = Subnet::host(IpAddr::V4((0x0a00_0000 + n).into()));
            let adjacency = Adjacency {
                ifindex: 1,
                src_mac: MacAddr([2; 6]),
                dst_mac: MacAddr([4; 6]),
                mtu: 1500,
                tx_ifindex: 1,
                vlan: 0,
                delivery: Delivery::Wire,
            };
            (subnet, there.then_some(Local::Host(adjacency)))
        };
        planner.apply_net(NetDelta {
            local: (0..hosts).map(|n| neighbour(n, true)).collect(),
            ..NetDelta::default()
        });
        settle(&mut planner, &mut datapath)?;
        let told = planner.poll_refusals(100).context("nothing is refused")?;
        ensure!(
            told.failed.len() == TOO_MANY as usize && told.recovered.is_empty(),
            "{told:?}"
        );
        for (prefix, why) in planner.refused(100) {
            ensure!(told.failed.contains(&prefix), "{prefix}");
            let why = why.to_string();
            ensure!(why.starts_with("the kernel refused group"), "{why}");
        }
        planner.retry();
        settle(&mut planner, &mut datapath)?;
        ensure!(planner.poll_refusals(100).is_none(), "it refuses still");

        planner.apply_net(NetDelta {
            local: (0..hosts).map(|n| neighbour(n, false)).collect(),
            ..NetDelta::default()
        });
        settle(&mut planner, &mut datapath)?;
        let gone = planner.poll_refusals(100).context("nothing has changed")?;
        ensure!(gone.recovered.len() == TOO_MANY as usize, "{gone:?}");
        Ok(())
    });
}

/// As many prefixes of each family, by the same two next hops on a port.
fn want(planner: &mut Planner, routes: u32) -> Result<()> {
    let set = Some(NextHopSetId(1));
    let v4 = (0..routes).map(|n| Prefix4::new((0x0a00_0000 + (n << 4)).into(), 28));
    let v6 =
        (0..u128::from(routes)).map(|n| Prefix6::new(((0x2001_0db8 << 96) + (n << 64)).into(), 64));
    let prefixes = v4
        .map(|prefix| prefix.map(Prefix::V4))
        .chain(v6.map(|prefix| prefix.map(Prefix::V6)));
    let members: Arc<[FibNextHop]> = [1, 2].map(hop).into();
    planner.apply_fib(
        1,
        FibDelta {
            sets: vec![(NextHopSetId(1), Some(members))],
            routes: prefixes
                .map(|prefix| Some((prefix?, set)))
                .collect::<Option<_>>()
                .context("a prefix too long")?,
        },
    );
    let uplink = Port {
        name: "up0".into(),
        mac: MacAddr([2; 6]),
        role: PortRole::Uplink,
        kind: LinkKind::Plain,
    };
    planner.apply_net(NetDelta {
        ports: vec![(ifindex("up0")?, Some(uplink))],
        ..NetDelta::default()
    });
    while let Some(interest) = planner.poll_interest() {
        if let Interest::Track(key) = interest {
            let IpAddr::V4(addr) = key.addr else { continue };
            let n = addr.octets()[3];
            let adjacency = Adjacency {
                ifindex: ifindex("up0")?,
                src_mac: MacAddr([2; 6]),
                dst_mac: MacAddr([n; 6]),
                mtu: 1500,
                tx_ifindex: ifindex("up0")?,
                vlan: 0,
                delivery: Delivery::Wire,
            };
            planner.apply_net(told(n, Resolution::Resolved(adjacency)));
        }
    }
    Ok(())
}

fn hop(n: u8) -> FibNextHop {
    FibNextHop {
        addr: IpAddr::from([192, 0, 2, n]),
        link: None,
        weight: 1,
    }
}

fn told(n: u8, resolution: Resolution) -> NetDelta {
    let key = causeway_net::NextHopKey {
        addr: hop(n).addr,
        link: None,
    };
    NetDelta {
        next_hops: vec![(key, Some(resolution))],
        ..NetDelta::default()
    }
}

/// Applies what there is to do; returns the number of operations, without those on the flat table, which is made anew after
/// a restart.
fn settle(planner: &mut Planner, datapath: &mut Datapath) -> Result<usize> {
    let mut operations = 0;
    while let Some(batch) = planner.poll_batch(BATCH) {
        let flat = |op: &&Op| {
            matches!(
                op,
                Op::PutFlat4Roots(_) | Op::PutFlat4Rows(_) | Op::DropFlat4(_)
            )
        };
        operations += batch.ops.iter().filter(|op| !flat(op)).count();
        let mut failures = Vec::new();
        for op in &batch.ops {
            if let Err(error) = datapath.apply(op) {
                failures.extend(error.planner_failures());
            }
        }
        planner.ack(batch.generation, failures);
    }
    Ok(operations)
}
