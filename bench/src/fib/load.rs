//! 1M routes through planner and datapath, in this process.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::types::{Prefix as BgpPrefix, Prefix4};
use causeway_datapath::{Datapath, LoadOptions};
use causeway_net::{
    Adjacency, Delivery, LinkKind, MacAddr, NetDelta, NextHopKey, Port, PortRole, Resolution,
};
use causeway_plan::{Capacities, Interest, Op, Planner};

use super::bare::Bare;
use crate::bgp::table::{Prefix, Table};
use crate::packet::cpu_ns;
use crate::report::{Comparison, Report};
use crate::stats::Samples;

pub(crate) const CASE: &str = "load-1m";
/// Operations in a batch, as the daemon asks for.
const BATCH: usize = 4_096;
const SEED: u64 = 1;
/// `lo`: what the maps say of it is of no concern here.
const IFINDEX: u32 = 1;
const MAC: MacAddr = MacAddr([2; 6]);

/// What one load took, in seconds of this thread's CPU time.
struct Spent {
    /// Until every route is in the LPM map.
    lpm: f64,
    /// Until the table derived from it is there too, and everything is acknowledged.
    all: f64,
}

/// Runs the case.
pub(crate) fn run(object: &Path, routes: usize, rounds: usize, report: &mut Report) -> Result<()> {
    report.expect_case(CASE);
    let table = Table::generate(routes, 0, SEED).prefixes;
    let mut sorted = table.clone();
    sorted.sort_by_key(|prefix| (prefix.addr, prefix.len));
    let [mut lpm, mut all, mut bare, mut in_order] = [const { Samples::EMPTY }; 4];
    for round in 0..rounds {
        if round % 2 == 1 {
            bare.push(load_bare(&table)?);
        }
        let spent = load_ours(object, &table)?;
        lpm.push(spent.lpm);
        all.push(spent.all);
        in_order.push(load_bare(&sorted)?);
        if round % 2 == 0 {
            bare.push(load_bare(&table)?);
        }
    }
    // The planner puts what it is given in order; a loader could do so too.
    let given = ("bare batch loader", &bare);
    let sorted = ("bare batch loader, sorted", &in_order);
    for (metric, ours, (reference, value), binding) in [
        ("lpm_cpu_seconds", &lpm, given, true),
        ("lpm_cpu_seconds", &lpm, sorted, false),
        ("all_cpu_seconds", &all, given, false),
    ] {
        report.add(Comparison {
            case: CASE,
            metric,
            unit: "s",
            ours: Some(ours),
            reference,
            reference_value: Some(value),
            binding,
        });
    }
    Ok(())
}

fn load_bare(table: &[Prefix]) -> Result<f64> {
    let mut bare = Bare::create()?;
    let start = cpu_seconds()?;
    bare.fill(table)?;
    let spent = cpu_seconds()? - start;
    bare.verify(table)?;
    Ok(spent)
}

fn load_ours(object: &Path, table: &[Prefix]) -> Result<Spent> {
    let pins = Pins::new();
    let object = std::fs::read(object).with_context(|| {
        format!(
            "read {}; `cargo xtask bench fib` builds it",
            object.display()
        )
    })?;
    let mut datapath = Datapath::load(&LoadOptions {
        pin_dir: pins.0.clone(),
        object: object.into(),
    })?;
    let mut planner = Planner::new(Capacities::default());
    let delta = delta(table)?;

    let start = cpu_seconds()?;
    planner.apply_fib(1, delta);
    resolve(&mut planner);
    let mut written = 0;
    let mut lpm = None;
    while let Some(batch) = planner.poll_batch(BATCH) {
        for op in &batch.ops {
            datapath.apply(op).context("write the maps")?;
            if let Op::PutRoutes4(routes) = op {
                written += routes.len();
            }
        }
        if lpm.is_none() && written >= table.len() {
            lpm = Some(cpu_seconds()? - start);
        }
        planner.ack(batch.generation, []);
    }
    let all = cpu_seconds()? - start;
    ensure!(
        planner.poll_programmed() == Some(1),
        "the routes are not programmed"
    );
    let lpm = lpm.with_context(|| format!("{written} of {} routes were written", table.len()))?;
    ensure!(
        datapath.dump()?.routes4.len() == table.len(),
        "the map does not hold all routes"
    );
    datapath.unload()?;
    Ok(Spent { lpm, all })
}

/// CPU time of this thread.
fn cpu_seconds() -> Result<f64> {
    Ok(cpu_ns()? / 1e9)
}

/// All prefixes by the same two next hops.
fn delta(table: &[Prefix]) -> Result<FibDelta> {
    let set = NextHopSetId(1);
    let members: Arc<[FibNextHop]> = [1, 2]
        .map(|n| FibNextHop {
            addr: IpAddr::from([192, 0, 2, n]),
            link: None,
            weight: 1,
        })
        .into();
    let routes = table
        .iter()
        .map(|prefix| {
            Some((
                BgpPrefix::V4(Prefix4::new(prefix.addr.into(), prefix.len)?),
                Some(set),
            ))
        })
        .collect::<Option<_>>()
        .context("a prefix too long")?;
    Ok(FibDelta {
        sets: vec![(set, Some(members))],
        routes,
    })
}

/// Says of each next hop that it is there.
fn resolve(planner: &mut Planner) {
    planner.apply_net(NetDelta {
        ports: vec![(
            IFINDEX,
            Some(Port {
                name: "lo".into(),
                mac: MAC,
                role: PortRole::Uplink,
                kind: LinkKind::Plain,
            }),
        )],
        ..NetDelta::default()
    });
    while let Some(interest) = planner.poll_interest() {
        if let Interest::Track(key) = interest {
            planner.apply_net(told(key));
        }
    }
}

fn told(key: NextHopKey) -> NetDelta {
    let adjacency = Adjacency {
        ifindex: IFINDEX,
        src_mac: MAC,
        dst_mac: MAC,
        mtu: 1500,
        tx_ifindex: IFINDEX,
        vlan: 0,
        delivery: Delivery::Wire,
    };
    NetDelta {
        next_hops: vec![(key, Some(Resolution::Resolved(adjacency)))],
        ..NetDelta::default()
    }
}

/// A directory of pins that goes with whoever has it.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Self {
        Self(PathBuf::from(format!(
            "/sys/fs/bpf/cw-bench-{}",
            std::process::id()
        )))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = Datapath::unload_pins(&self.0) {
            eprintln!("warning: {error:#}");
        }
    }
}
