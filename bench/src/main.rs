//! Benches that run us and a reference side by side in one session and quote the ratio.
//!
//! | suite | what it measures | reference |
//! |---|---|---|
//! | `bgp` | `causewayd --dataplane none` between route generators and a monitor | BIRD 2 |
//! | `fib` | routes on their way to the maps, and the loss of a next hop | a bare loader, limits |
//! | `micro` | the stages of the speaker core, one by one | plain programs |
//! | `packet` | the eBPF programs, packet by packet | plain programs |
//!
//! Every result is one [`report::Row`]; `goals.toml` says which ratios are promised. Start it as
//! `cargo xtask bench SUITE`, which builds what is measured first.

mod bgp;
mod fib;
mod goals;
mod micro;
mod packet;
mod random;
mod report;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::goals::Goals;
use crate::report::{Format, Report};

#[derive(Debug, Parser)]
#[command(name = "causeway-bench", about = "Run one bench suite")]
struct Args {
    /// One round, and without the largest cases.
    #[arg(long, global = true)]
    quick: bool,
    /// Exit with 1 when a goal of goals.toml is missed or was not measured.
    #[arg(long, global = true)]
    check: bool,
    /// How results are printed on stdout.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// The goals, by suite, case and metric.
    #[arg(long, global = true, default_value = "bench/goals.toml")]
    goals: PathBuf,
    /// Directory for SUITE.jsonl.
    #[arg(long, global = true, default_value = "target/bench")]
    results: PathBuf,
    /// The commit that is measured, quoted in every row.
    #[arg(long, global = true, default_value = "unknown")]
    commit: String,
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Debug, Subcommand)]
enum Suite {
    /// The BGP speaker between blasters and a monitor, against BIRD 2 (needs root).
    Bgp(bgp::Args),
    /// Routes on their way to the maps, and an idle daemon (needs root).
    Fib(fib::Args),
    /// The stages of the speaker core in one process, against plain programs.
    Micro,
    /// The eBPF programs, packet by packet, against plain ones (needs root).
    Packet(packet::Args),
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let goals = Goals::read(&args.goals)?;
    let name = match &args.suite {
        Suite::Bgp(_) => "bgp",
        Suite::Fib(_) => "fib",
        Suite::Micro => "micro",
        Suite::Packet(_) => "packet",
    };
    let mut report = Report::new(name, args.output, &args.commit, goals.suite(name));
    match &args.suite {
        Suite::Bgp(suite) => bgp::run(suite, args.quick, &mut report)?,
        Suite::Fib(suite) => fib::run(suite, args.quick, &mut report)?,
        Suite::Micro => micro::run(args.quick, &mut report)?,
        Suite::Packet(suite) => packet::run(suite, args.quick, &mut report)?,
    }
    report.write(&args.results)?;
    let met = report.print_summary();
    Ok(if args.check && !met {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
