//! Development verbs, one file each: `cargo xtask VERB`.

mod bench;
mod build_ebpf;
mod demo;
mod fuzz;
mod lint;
mod load;
mod setup;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Everything that building, showing and checking Causeway takes.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing: rust-src, bpf-linker and, on Debian, the routers that the tests talk to
    Setup(setup::Args),
    /// Build the eBPF programs into target/ebpf/causeway.o
    BuildEbpf,
    /// Show it in network namespaces: two racks with pods under two spines, one of which is removed
    Demo(demo::Args),
    /// Load the programs, pin their maps and attach XDP to an interface, without the daemon
    Load(load::Args),
    /// Detach XDP everywhere and remove the pins
    Unload(load::PinArgs),
    /// Run the suites; the last line says how many checks passed and failed
    Test(test::Args),
    /// Measure us and a reference side by side; the last line says how many goals are met
    Bench(bench::Args),
    /// Search for inputs that break the decoders; needs nightly and cargo-fuzz
    Fuzz(fuzz::Args),
    /// Check formatting, clippy, the rules between the rooms and that nothing is left half done
    Lint,
}

fn main() -> ExitCode {
    let outcome = match Args::parse().verb {
        Verb::Setup(args) => setup::run(args),
        Verb::BuildEbpf => build_ebpf::run(),
        Verb::Demo(args) => demo::run(&args),
        Verb::Load(args) => load::run(&args),
        Verb::Unload(args) => load::unload(&args),
        Verb::Test(args) => test::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Lint => lint::run(),
    };
    report(outcome)
}

fn report(outcome: Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
