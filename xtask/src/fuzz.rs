//! `cargo xtask fuzz`: coverage-guided fuzzing of the targets in `tests/fuzz`.
//!
//! cargo-fuzz is installed into the target directory when it is missing. The sanitizer's options count as unstable, but the
//! pinned toolchain has all that is needed for them: `RUSTC_BOOTSTRAP` makes it take them, so that what is fuzzed is what
//! ships. The suites need neither: `tests/codec` replays the corpus and mutates it.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::setup;
use crate::workspace::{note, root, run as run_command, target_dir};

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
    let cargo_fuzz = setup::ensure_cargo_fuzz()?;
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
        let found = target_dir().join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&found)?;
        note(format!("fuzzing {target}, {} executions", args.runs));
        run_command(
            Command::new(&cargo_fuzz)
                .args(["run", "--fuzz-dir"])
                .arg(directory())
                .arg(target)
                // What is found goes into the first directory; the corpus in the repository is only read.
                .arg(&found)
                .arg(directory().join("corpus").join(target))
                .arg("--")
                .arg(format!("-runs={}", args.runs))
                .current_dir(root())
                .env("CARGO_TARGET_DIR", target_dir().join("fuzz"))
                .env("RUSTC_BOOTSTRAP", "1"),
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
