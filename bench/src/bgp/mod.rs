//! `bench bgp`: one daemon between N blasters and one monitor, all eBGP, accept-all, no kernel routes.
//!
//! ```text
//!   blaster 1 ─┐  prebuilt UPDATEs      ┌────────┐       all best routes
//!   blaster 2 ─┼───────────────────────▶│ daemon │─────────────────────────▶ monitor (records, verifies)
//!   blaster N ─┘      veth, netns       └────────┘
//! ```
//!
//! [`table`] is what is announced, [`wire`] its bytes; [`lab`] holds the namespaces, [`daemons`] what can stand in
//! the middle, [`process`] what it costs; [`fleet`] sends, [`monitor`] records, [`view`] verifies; [`run`] puts one
//! run together and [`cases`] say what happens in it.
//!
//! Ours and BIRD alternate within each round, so that drift of the machine meets both. The generators and the
//! monitor have the last CPU, the daemon all others: BIRD 2 uses one at a time, and a daemon that uses more has them
//! only on a machine with more than two.

mod cases;
pub(crate) mod daemons;
pub(crate) mod fleet;
pub(crate) mod lab;
mod monitor;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod table;
mod view;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::bgp::cases::{Case, Figure};
use crate::bgp::daemons::Subject;
use crate::bgp::lab::Lab;
use crate::report::{Comparison, Report};
use crate::stats::Samples;

const FULL_ROUNDS: usize = 5;

/// Options of this suite.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The daemon to measure.
    #[arg(long, default_value = "target/release/causewayd")]
    daemon: PathBuf,
    /// The scripts that write the daemons' configurations.
    #[arg(long, default_value = "bench/configs/bgp")]
    configs: PathBuf,
    /// Only cases whose name contains this.
    #[arg(long)]
    case: Option<String>,
    /// Rounds per case [default: 5, quick: 1].
    #[arg(long)]
    rounds: Option<usize>,
    /// Measure the references without ours.
    #[arg(long)]
    references_only: bool,
    /// Measure the other installed daemons (FRR, GoBGP, OpenBGPD) too, one round each, for information.
    #[arg(long)]
    others: bool,
}

/// Runs the suite.
pub(crate) fn run(args: &Args, quick: bool, report: &mut Report) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the bgp suite makes network namespaces: run it as root"
    );
    let ours = match args.references_only {
        true => None,
        false => Some(Subject::causeway(&args.daemon, &args.configs)?),
    };
    let bird = Subject::bird(&args.configs)?;
    let others = if args.others {
        Subject::others(&args.configs)
    } else {
        Vec::new()
    };
    let rounds = args.rounds.unwrap_or(if quick { 1 } else { FULL_ROUNDS });
    ensure!(rounds > 0, "--rounds 0 measures nothing");

    let cpus = std::thread::available_parallelism()
        .context("count the CPUs")?
        .get();
    let lab = Lab::create(cpus)?;
    let wanted = |case: &Case| {
        args.case
            .as_deref()
            .is_none_or(|part| case.name.contains(part))
    };
    for case in Case::all(quick).into_iter().filter(wanted) {
        report.expect_case(case.name);
        let table = case.table();
        let mut results = [Results::default(), Results::default()];
        for round in 0..rounds {
            let mut sides: Vec<(&Subject, usize)> = [(ours.as_ref(), 0), (Some(&bird), 1)]
                .into_iter()
                .filter_map(|(subject, side)| Some((subject?, side)))
                .collect();
            if round % 2 == 1 {
                sides.reverse();
            }
            for (subject, side) in sides {
                results[side].add(subject, case, case.measure(&lab, subject, &table));
            }
        }
        let [our_results, bird_results] = results;
        compare(
            report,
            case,
            ours.as_ref().map(|_| &our_results),
            &bird,
            &bird_results,
            true,
        );
        for other in &others {
            let mut results = Results::default();
            results.add(other, case, case.measure(&lab, other, &table));
            compare(
                report,
                case,
                ours.as_ref().map(|_| &our_results),
                other,
                &results,
                false,
            );
        }
    }
    Ok(())
}

/// The runs of one case on one side.
#[derive(Debug, Default)]
struct Results {
    /// By metric, in the order in which the case reports them.
    order: Vec<(&'static str, &'static str)>,
    samples: BTreeMap<&'static str, Samples>,
    failed: bool,
}

impl Results {
    /// A failed run makes the side's results void: a daemon that is wrong isn't fast.
    fn add(&mut self, subject: &Subject, case: Case, figures: Result<Vec<Figure>>) {
        match figures {
            Ok(figures) => {
                for Figure {
                    metric,
                    unit,
                    value,
                } in figures
                {
                    if !self.samples.contains_key(metric) {
                        self.order.push((metric, unit));
                    }
                    self.samples.entry(metric).or_default().push(value);
                }
            }
            Err(error) => {
                eprintln!("{}: {}: {error:#}", case.name, subject.title);
                self.failed = true;
            }
        }
    }

    fn of(&self, metric: &str) -> Option<&Samples> {
        if self.failed {
            None
        } else {
            self.samples.get(metric)
        }
    }
}

fn compare(
    report: &mut Report,
    case: Case,
    ours: Option<&Results>,
    reference: &Subject,
    results: &Results,
    binding: bool,
) {
    let order = match &results.order[..] {
        [] => ours.map(|ours| &ours.order[..]).unwrap_or_default(),
        order => order,
    };
    for (metric, unit) in order {
        report.add(Comparison {
            case: case.name,
            metric,
            unit,
            ours: ours.and_then(|ours| ours.of(metric)),
            reference: &reference.title,
            reference_value: results.of(metric),
            binding,
        });
    }
}
