//! `cargo xtask demo`: two racks under two spines, from a client to pods and from pod to pod.
//!
//! [`support::racks`] draws it. Everything runs in network namespaces of its own: by default FRR is the first ToR and
//! BIRD the second, the spines, the nodes and the client's edge are ours. What is shown is counted twice where it can be:
//! a packet that arrives, and the counter of the program that sent it on. The last thing printed is a table whose rows
//! hold or don't; the exit code is 1 if any doesn't.

mod scene;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use support::{Lab, wait};

use crate::workspace::{cargo, need_root, note, run as run_command};
use crate::{build_ebpf, setup};
use scene::Scene;

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Who plays the two ToRs
    #[arg(long, value_enum, default_value_t = Tors::Real)]
    peers: Tors,
    /// Leave everything running and say what to try
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier --keep left running
    #[arg(long, conflicts_with_all = ["keep", "peers"])]
    clean: bool,
}

/// Who plays the two ToRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tors {
    /// FRR and BIRD
    Real,
    /// Our own daemon on both, for machines without those
    None,
}

/// Under this name a kept lab lives on.
const KEPT: &str = "demo";

/// Shows it; exits 1 when anything it shows did not hold.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    need_root("the demo makes network namespaces and loads programs: it")?;
    if args.clean {
        let found = Lab::remove_named(KEPT);
        println!(
            "{}",
            if found {
                "removed"
            } else {
                "there was nothing to remove"
            }
        );
        return Ok(ExitCode::SUCCESS);
    }
    prepare(args.peers)?;
    stop_on_signals();
    let lab = if args.keep {
        Lab::named(KEPT)?
    } else {
        Lab::new()?
    };
    if args.keep {
        lab.keep();
    }
    let mut show = Show::new();
    let outcome = Scene::start(&lab, args.peers, &mut show)
        .and_then(|mut scene| scene.play(&mut show).map(|()| scene));
    match outcome {
        Ok(scene) => {
            show.table();
            if args.keep {
                scene.what_to_try()?;
            }
        }
        Err(error) => {
            show.table();
            if !wait::interrupted() {
                eprintln!("{}", lab.logs());
            }
            if args.keep {
                eprintln!("kept as it is; `cargo xtask demo --clean` removes it");
            }
            return Err(error);
        }
    }
    Ok(if show.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn prepare(tors: Tors) -> Result<()> {
    setup::ensure_packages(setup::LAB)?;
    if tors == Tors::Real {
        setup::ensure_packages(setup::DEMO_PEERS).map_err(|error| {
            anyhow!("{error:#}; or run `cargo xtask demo --peers none`, where our own daemon plays both ToRs")
        })?;
    }
    build_ebpf::build()?;
    note("building causewayd and causeway");
    run_command(cargo().args(["build", "--quiet", "-p", "causewayd", "-p", "causeway"]))
}

/// From now on Ctrl-C ends the next wait, and the lab is undone on the way out.
fn stop_on_signals() {
    extern "C" fn interrupt(_: libc::c_int) {
        wait::interrupt();
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler stores to an atomic, which is safe in a signal handler.
        unsafe {
            libc::signal(signal, interrupt as *const () as libc::sighandler_t);
        }
    }
}

/// Progress, and what was shown.
struct Show {
    start: Instant,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    seen: String,
    holds: bool,
}

impl Show {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            rows: Vec::new(),
        }
    }

    /// A line of progress.
    fn say(&self, text: &str) {
        println!("[{:5.1} s] {text}", self.start.elapsed().as_secs_f64());
    }

    fn row(&mut self, what: &str, seen: impl Into<String>, holds: bool) {
        let seen = seen.into();
        self.say(&format!(
            "{} {what}: {seen}",
            if holds { "ok  " } else { "FAIL" }
        ));
        self.rows.push(Row {
            what: what.to_owned(),
            seen,
            holds,
        });
    }

    fn holds(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.holds)
    }

    fn table(&self) {
        let width = |text: fn(&Row) -> &str| {
            self.rows
                .iter()
                .map(|row| text(row).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (what, seen) = (width(|row| &row.what), width(|row| &row.seen));
        println!("\n{:<what$}  {:<seen$}  holds", "what", "seen");
        println!("{}  {}  ─────", "─".repeat(what), "─".repeat(seen));
        for row in &self.rows {
            println!(
                "{:<what$}  {:<seen$}  {}",
                row.what,
                row.seen,
                if row.holds { "yes" } else { "NO" }
            );
        }
        println!();
    }
}

/// Sleeps, unless interrupted.
fn pause(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        if wait::interrupted() {
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
