//! `cargo xtask bench SUITE`: builds what is measured, then runs the suite beside its reference.
//!
//! What is measured is what ships: release binaries. The suites themselves are in `bench/`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::build_ebpf;
use crate::workspace::{cargo, need_root, note, output, root, run as run_command, target_dir};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum)]
    suite: Suite,
    /// One round, and without the largest cases
    #[arg(long)]
    quick: bool,
    /// Exit with 1 when a goal of bench/goals.toml is missed in what was run
    #[arg(long)]
    check: bool,
    /// How results are printed; they are also written to target/bench/SUITE.jsonl
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Options of the suite itself: `cargo xtask bench bgp -- --help` lists them
    #[arg(last = true)]
    suite_options: Vec<String>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The BGP speaker between blasters and a monitor, against BIRD 2
    Bgp,
    /// Routes on their way to the maps, and an idle daemon, against a bare loader and limits
    Fib,
    /// The stages of the speaker core in one process, against plain programs
    Micro,
    /// The eBPF programs, packet by packet, against plain ones and the kernel
    Packet,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Builds and runs the suite; its exit code is ours.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let binaries = target_dir().join("release");
    let mut packages = vec!["--package", "causeway-bench"];
    let mut suite: Vec<OsString> = Vec::new();
    match args.suite {
        Suite::Bgp => {
            need_root("the bgp suite, which makes network namespaces,")?;
            packages.extend(["--package", "causewayd"]);
            suite.extend([
                "bgp".into(),
                "--daemon".into(),
                binaries.join("causewayd").into(),
            ]);
        }
        Suite::Fib => {
            need_root("the fib suite, which loads programs and makes network namespaces,")?;
            packages.extend(["--package", "causewayd"]);
            suite.extend([
                "fib".into(),
                "--daemon".into(),
                binaries.join("causewayd").into(),
                "--object".into(),
                build_ebpf::build()?.into(),
            ]);
        }
        Suite::Micro => suite.push("micro".into()),
        Suite::Packet => {
            need_root("the packet suite, which loads programs and makes network namespaces,")?;
            suite.extend([
                "packet".into(),
                "--object".into(),
                build_ebpf::build()?.into(),
                "--bench-object".into(),
                build_ebpf::build_bench()?.into(),
            ]);
        }
    }
    note("building release binaries");
    run_command(
        cargo()
            .args(["build", "--quiet", "--release"])
            .args(packages),
    )?;

    let mut bench = Command::new(binaries.join("causeway-bench"));
    bench.current_dir(root()).args(suite);
    bench.args(["--commit", &commit()]);
    if args.quick {
        bench.arg("--quick");
    }
    if args.check {
        bench.arg("--check");
    }
    bench.args([
        "--output",
        match args.output {
            Output::Table => "table",
            Output::Json => "json",
        },
    ]);
    let status = bench
        .args(args.suite_options)
        .status()
        .context("start target/release/causeway-bench")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The commit that is measured, marked when the tree has changes on top; `unknown` outside a repository.
fn commit() -> String {
    let mut git = Command::new("git");
    git.current_dir(root())
        .args(["describe", "--always", "--dirty", "--abbrev=12"]);
    output(&mut git).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
