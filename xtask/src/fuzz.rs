//! `cargo xtask fuzz`: coverage-guided fuzzing of the targets in `tests/fuzz`.
//!
//! It needs nightly and cargo-fuzz. The suites do not: `tests/codec` replays the corpus and mutates it on the pinned
//! toolchain.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};

use crate::workspace::{find_program, note, root, run as run_command};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Targets; all of them when none is named
    targets: Vec<String>,
    /// Executions of each target
    #[arg(long, default_value_t = 1_000_000)]
    runs: u64,
}

/// Runs the targets one after the other, up to the first that finds something.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if find_program("cargo-fuzz").is_none() {
        bail!(
            "cargo-fuzz is missing: `rustup toolchain install nightly && cargo install cargo-fuzz`"
        );
    }
    let known = targets()?;
    for target in &args.targets {
        ensure!(
            known.contains(target),
            "no target {target}; there are {}",
            known.join(", ")
        );
    }
    let chosen = if args.targets.is_empty() {
        &known
    } else {
        &args.targets
    };
    for target in chosen {
        note(format!("fuzzing {target}, {} executions", args.runs));
        run_command(
            Command::new("cargo")
                .args(["+nightly", "fuzz", "run", "--fuzz-dir"])
                .arg(directory())
                .arg(target)
                .arg("--")
                .arg(format!("-runs={}", args.runs))
                .current_dir(root())
                // `cargo xtask` sets these to the pinned toolchain.
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("CARGO")
                .env_remove("RUSTC"),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn directory() -> PathBuf {
    root().join("tests/fuzz")
}

fn targets() -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(directory().join("fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(
            path.file_stem()
                .and_then(|stem| Some(stem.to_str()?.to_owned())),
        );
    }
    targets.sort();
    Ok(targets)
}
