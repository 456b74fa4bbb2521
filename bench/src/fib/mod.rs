//! `bench fib`: from routes to maps.
//!
//! | case | what it measures | reference |
//! |---|---|---|
//! | `load-1m` | 1M routes through planner and datapath into the LPM map | a bare loader of batches |
//! | `update-to-map` | an UPDATE leaves its sender, and the prefix is in the map | a limit |
//! | `next-hop-loss` | a link is cut, and the programs don't use its next hop any more, with 1M prefixes | with 10 prefixes |
//! | `idle` | memory and CPU of a daemon with 10 peers and 1k routes | limits |
//!
//! [`load`] runs the planner and the datapath in this process; the others the shipped daemon, with its programs attached, in
//! the lab of the `bgp` suite ([`daemon`]). A limit is a figure that the product promises, as the reference of its row.

mod bare;
mod daemon;
mod load;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::bgp::lab::Lab;
use crate::report::{Comparison, Report};
use crate::stats::Samples;

const FULL_ROUNDS: usize = 5;
const LIMIT: &str = "limit";

/// Options of this suite.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The daemon to measure.
    #[arg(long, default_value = "target/release/causewayd")]
    daemon: PathBuf,
    /// The production object.
    #[arg(long, default_value = "target/ebpf/causeway.o")]
    object: PathBuf,
    /// The scripts that write the daemons' configurations.
    #[arg(long, default_value = "bench/configs/bgp")]
    configs: PathBuf,
    /// Only cases whose name contains this.
    #[arg(long)]
    case: Option<String>,
    /// Rounds per case [default: 5, quick: 1].
    #[arg(long)]
    rounds: Option<usize>,
}

/// Runs the suite; `quick` loads 100k routes instead of 1M.
pub(crate) fn run(args: &Args, quick: bool, report: &mut Report) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the fib suite loads eBPF programs and makes network namespaces: run it as root"
    );
    let rounds = args.rounds.unwrap_or(if quick { 1 } else { FULL_ROUNDS });
    ensure!(rounds > 0, "--rounds 0 measures nothing");
    let routes = if quick { 100_000 } else { 1_000_000 };
    let wanted = |name: &str| args.case.as_deref().is_none_or(|part| name.contains(part));

    let cpus = std::thread::available_parallelism()
        .context("count the CPUs")?
        .get();
    let lab = Lab::create(cpus)?;
    if wanted(load::CASE) {
        load::run(&args.object, routes, rounds, report)?;
    }
    let subject = daemon::Subject::new(&args.daemon, &args.configs)?;
    if wanted(daemon::UPDATE_TO_MAP) {
        daemon::update_to_map(&lab, &subject, report)?;
    }
    if wanted(daemon::NEXT_HOP_LOSS) {
        daemon::next_hop_loss(&lab, &subject, routes, rounds, report)?;
    }
    if wanted(daemon::IDLE) {
        daemon::idle(&lab, &subject, quick, report)?;
    }
    Ok(())
}

/// A figure beside what it may be at most.
fn against_limit(
    report: &mut Report,
    case: &str,
    (metric, unit): (&'static str, &'static str),
    ours: f64,
    limit: f64,
) {
    report.add(Comparison {
        case,
        metric,
        unit,
        ours: Some(&Samples::of(ours)),
        reference: LIMIT,
        reference_value: Some(&Samples::of(limit)),
        binding: true,
    });
}

/// A figure for information.
fn alone(
    report: &mut Report,
    case: &str,
    (metric, unit): (&'static str, &'static str),
    ours: &Samples,
) {
    report.add(Comparison {
        case,
        metric,
        unit,
        ours: Some(ours),
        reference: "-",
        reference_value: None,
        binding: false,
    });
}
