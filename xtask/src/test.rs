//! `cargo xtask test`: builds once, runs every suite, counts.
//!
//! Everything is built by one cargo invocation, so that one set of features and one profile serves the daemon and all
//! tests, and the test binaries are then started from here. A suite that could not run counts as one failure.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Deserialize;

use crate::workspace::{binaries, cargo, fixture, is_root, note, run as run_command};
use crate::{build_ebpf, lint, setup, vm};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Suites to run; all of the tier when none is named
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// `ci` is what every change must pass; `full` adds `vm` and runs long forms of the other suites
    #[arg(long, value_enum, default_value_t = Tier::Ci)]
    tier: Tier,
    /// Pass this on to the tests: only those whose name contains it
    #[arg(long)]
    filter: Option<String>,
    /// Let tests that keep documents or data write them anew instead of comparing
    #[arg(long)]
    bless: bool,
}

/// How much of each suite to run; tests read it from `CAUSEWAY_TIER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    Ci,
    Full,
}

/// Failed tests of a binary that are run once more; when more fail, it is not chance.
const SECOND_CHANCES: usize = 5;

/// A group of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Suite {
    /// Formatting, clippy and the rules between the rooms
    Lint,
    /// Every crate's own tests
    Unit,
    /// The wire codec against other people's vectors and decoders
    Codec,
    /// Many speakers in one process on virtual time
    Sim,
    /// Packets through the loaded programs, by `BPF_PROG_TEST_RUN`
    Kernel,
    /// Batches, pins and reconciliation against real maps
    Datapath,
    /// Sessions with FRR, BIRD and others in namespaces
    Interop,
    /// Recorded Internet tables and updates through real sessions
    Realdata,
    /// Packets between namespaces, end to end
    Netns,
    /// The oldest kernel that we support, in a machine of its own; not in the `ci` tier unless named
    Vm,
}

impl Suite {
    /// Whether its tests load programs or make namespaces.
    fn needs_root(self) -> bool {
        matches!(
            self,
            Self::Kernel | Self::Datapath | Self::Interop | Self::Realdata | Self::Netns | Self::Vm
        )
    }

    /// The suites whose binaries run in this one.
    fn sources(self) -> Vec<Self> {
        match self {
            Self::Vm => vec![Self::Kernel, Self::Datapath, Self::Vm],
            other => vec![other],
        }
    }

    /// Whether it runs without being named.
    fn belongs_to(self, tier: Tier) -> bool {
        self != Self::Vm || tier == Tier::Full
    }

    /// How long one of its binaries may run before it is stopped and counted as failed.
    fn limit(self, tier: Tier) -> Duration {
        let minutes = match tier {
            Tier::Ci => 15,
            Tier::Full => 240,
        };
        Duration::from_secs(minutes * 60)
    }

    /// Tests of one binary that run at a time; the labs mostly wait for timers, so more than there are cores.
    fn threads(self) -> Option<usize> {
        match self {
            Self::Interop | Self::Realdata | Self::Netns => Some(4),
            Self::Vm => Some(2),
            _ => None,
        }
    }

    /// The suite of a test target, by where it lives; none for a target that nobody would run.
    fn of(package: &str, target: &Target) -> Option<Self> {
        match (package, target.is_test()) {
            ("causeway-sim", _) => Some(Self::Sim),
            ("causeway-tests", true) => Self::from_str(&target.name, false).ok(),
            (_, true) if target.name == "codec" => Some(Self::Codec),
            _ => Some(Self::Unit),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.to_possible_value()
                .expect("no suite is hidden")
                .get_name(),
        )
    }
}

/// Checks that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Those that held.
    pub(crate) passed: u32,
    /// Those that did not, and suites that did not run.
    pub(crate) failed: u32,
}

impl Tally {
    /// One check.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: u32::from(passed),
            failed: u32::from(!passed),
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs the suites; the exit code says whether all passed.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let mut suites = if args.suites.is_empty() {
        let all = Suite::value_variants().iter().copied();
        all.filter(|suite| suite.belongs_to(args.tier)).collect()
    } else {
        args.suites.clone()
    };
    suites.sort();
    suites.dedup();

    let mut results = Vec::new();
    let mut timed = |suite: Suite, work: &mut dyn FnMut() -> Result<Tally>| {
        let start = Instant::now();
        let tally = work().unwrap_or_else(|error| {
            eprintln!("error: {suite}: {error:#}");
            Tally::one(false)
        });
        results.push((suite, tally, start.elapsed()));
    };

    let tests: Vec<_> = suites
        .iter()
        .filter(|suite| **suite != Suite::Lint)
        .collect();
    if !tests.is_empty() {
        let later = suites.contains(&Suite::Netns);
        let built = prepare(&suites)
            .and_then(|()| if later { build_fixture() } else { Ok(()) })
            .and_then(|()| build());
        if let Err(error) = &built {
            eprintln!("error: {error:#}");
        }
        let built = built.unwrap_or_default();
        for suite in tests {
            timed(*suite, &mut || run_suite(*suite, &built, &args));
        }
    }
    if suites.contains(&Suite::Lint) {
        // Last: clippy checks every crate again and nobody waits for it to see a test fail.
        timed(Suite::Lint, &mut lint::checks);
    }
    Ok(summary(&results))
}

fn summary(results: &[(Suite, Tally, Duration)]) -> ExitCode {
    let mut total = Tally::default();
    println!();
    println!(
        "{:<10} {:>8} {:>8} {:>8}",
        "suite", "passed", "failed", "seconds"
    );
    for (suite, tally, took) in results {
        println!(
            "{:<10} {:>8} {:>8} {:>8.1}",
            suite.to_string(),
            tally.passed,
            tally.failed,
            took.as_secs_f64()
        );
        total.add(*tally);
    }
    println!();
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Installs what the suites need.
fn prepare(suites: &[Suite]) -> Result<()> {
    build_ebpf::build()?;
    if suites.contains(&Suite::Interop) || suites.contains(&Suite::Realdata) {
        setup::ensure_packages(setup::PACKAGES)?;
    } else if suites.contains(&Suite::Netns) {
        setup::ensure_packages(setup::LAB)?;
    }
    Ok(())
}

/// A test binary.
#[derive(Clone, Debug)]
struct Binary {
    name: String,
    file: PathBuf,
    /// The package's directory, which is where cargo starts its tests.
    dir: PathBuf,
}

type Binaries = BTreeMap<Suite, Vec<Binary>>;

fn build() -> Result<Binaries> {
    note("building the daemon, the CLI and all tests");
    let mut command = cargo();
    command
        .args(["build", "--workspace", "--bins", "--tests"])
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let mut found = Binaries::new();
    for line in BufReader::new(stdout).lines() {
        let Some((suite, binary)) = test_binary(&line?) else {
            continue;
        };
        let suite = suite.with_context(|| {
            format!(
                "{} belongs to no suite; xtask/src/test.rs lists them",
                binary.name
            )
        })?;
        found.entry(suite).or_default().push(binary);
    }
    if !child.wait()?.success() {
        bail!("the workspace does not build");
    }
    Ok(found)
}

/// Builds the daemon of the later version that the upgrade test upgrades to.
///
/// Chosen from the whole workspace, so that dependencies get the features that [`build`] gives them and only what knows the
/// maps is compiled once more. Cargo puts it in the place of the daemon, from where it is copied; [`build`] puts the daemon
/// back.
fn build_fixture() -> Result<()> {
    build_ebpf::build_fixture()?;
    note("building the daemon of a later version");
    run_command(
        cargo()
            .args(["build", "--quiet", "--workspace", "--bin", "causewayd"])
            .args(["--features", "causewayd/upgrade-fixture"]),
    )?;
    let (from, to) = (binaries().join("causewayd"), fixture());
    fs::create_dir_all(&to)?;
    // Renamed, so that nobody starts half of it.
    let temporary = to.join(format!("causewayd.{}", std::process::id()));
    fs::copy(&from, &temporary).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::rename(&temporary, to.join("causewayd"))?;
    Ok(())
}

#[derive(Deserialize)]
struct Artifact {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Target {
    fn is_test(&self) -> bool {
        self.kind.iter().any(|kind| kind == "test")
    }
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

fn test_binary(line: &str) -> Option<(Option<Suite>, Binary)> {
    let artifact: Artifact = serde_json::from_str(line).ok()?;
    if artifact.reason != "compiler-artifact" || !artifact.profile?.test {
        return None;
    }
    let (target, dir) = (
        artifact.target?,
        artifact.manifest_path?.parent()?.to_owned(),
    );
    let package = package_name(&dir)?;
    Some((
        Suite::of(&package, &target),
        Binary {
            name: format!("{package}/{}", target.name),
            file: artifact.executable?,
            dir,
        },
    ))
}

/// The `name` of the package in `dir`.
fn package_name(dir: &Path) -> Option<String> {
    let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).ok()?;
    manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = "))
        .map(|name| name.trim().trim_matches('"').to_owned())
}

fn run_suite(suite: Suite, built: &Binaries, args: &Args) -> Result<Tally> {
    let sources = suite.sources();
    let binaries: Vec<&Binary> = sources
        .iter()
        .filter_map(|source| built.get(source))
        .flatten()
        .collect();
    if !built.contains_key(&suite) {
        bail!("it was not built, so nothing ran");
    }
    if suite.needs_root() && !is_root() {
        bail!("needs root: run `sudo -E env PATH=\"$PATH\" cargo xtask test {suite}`");
    }
    let place = Place::of(suite)?;
    let mut total = Tally::default();
    for (n, binary) in binaries.iter().enumerate() {
        note(format!(
            "{suite} {}/{}: {}",
            n + 1,
            binaries.len(),
            binary.name
        ));
        total.add(run_binary(suite, &place, binary, args)?);
    }
    if total == Tally::default() && args.filter.is_none() {
        bail!("it has no test");
    }
    Ok(total)
}

/// Where test binaries run.
enum Place {
    Here,
    Machine(vm::Machine),
}

impl Place {
    fn of(suite: Suite) -> Result<Self> {
        Ok(match suite {
            Suite::Vm => Self::Machine(vm::Machine::ensure()?),
            _ => Self::Here,
        })
    }

    fn command(&self, binary: &Binary, args: &Args, words: &[String]) -> Result<Command> {
        let tier = match args.tier {
            Tier::Ci => "ci",
            Tier::Full => "full",
        };
        match self {
            Self::Here => {
                let mut command = Command::new(&binary.file);
                command
                    .current_dir(&binary.dir)
                    .env("CARGO_MANIFEST_DIR", &binary.dir)
                    .env("CAUSEWAY_BIN_DIR", binaries())
                    .env("CAUSEWAY_LATER_BIN_DIR", fixture())
                    .env("CAUSEWAY_TIER", tier)
                    .args(words);
                if args.bless {
                    command.env("CAUSEWAY_BLESS", "1");
                }
                Ok(command)
            }
            // What a test would bless there is gone with the machine.
            Self::Machine(machine) => machine.command(&vm::Guest {
                program: &binary.file,
                args: words,
                env: &[("CAUSEWAY_TIER", tier.to_owned())],
                binaries: &["causewayd", "causeway"].map(|name| binaries().join(name)),
                object: &build_ebpf::object(),
            }),
        }
    }
}

/// Runs a binary. What fails where other programs' timing counts is run once more, alone; both outcomes are shown.
fn run_binary(suite: Suite, place: &Place, binary: &Binary, args: &Args) -> Result<Tally> {
    let words: Vec<String> = args
        .filter
        .iter()
        .cloned()
        .chain(suite.threads().map(|n| format!("--test-threads={n}")))
        .collect();
    let (mut tally, failed) = run_once(suite, place, binary, args, &words)?;
    if suite.threads().is_none() || failed.len() > SECOND_CHANCES {
        return Ok(tally);
    }
    for test in failed {
        note(format!("{suite}: {test} once more, alone"));
        let words = ["--exact".to_owned(), test.clone()];
        let (alone, _) = run_once(suite, place, binary, args, &words)?;
        if alone == Tally::one(true) {
            note(format!(
                "{suite}: flaky: {test} failed beside others and passed alone"
            ));
            tally.failed -= 1;
            tally.passed += 1;
        }
    }
    Ok(tally)
}

/// Runs the tests that `words` select; the result and the names of those that failed.
fn run_once(
    suite: Suite,
    place: &Place,
    binary: &Binary,
    args: &Args,
    words: &[String],
) -> Result<(Tally, Vec<String>)> {
    let mut command = place.command(binary, args, words)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", binary.file.display()))?;
    let stdout = child.stdout.take().context("the test has no stdout")?;
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            // The receiver is gone only when this process is ending.
            let _ = sender.send(line);
        }
    });
    let succeeded = wait(&mut child, suite.limit(args.tier))?;
    if succeeded.is_some() {
        // A test that was stopped may have left children holding the pipe open; don't wait for them.
        let _ = reader.join();
    }
    let mut tally: Option<Tally> = None;
    let mut failed = Vec::new();
    for line in lines.try_iter() {
        if let Some(result) = result_line(&line) {
            tally.get_or_insert_default().add(result);
        }
        failed.extend(failed_test(&line).map(str::to_owned));
    }
    if succeeded != Some(true) && tally.is_none_or(|tally| tally.failed == 0) {
        eprintln!(
            "error: {} ended without saying which test failed",
            binary.name
        );
        tally.get_or_insert_default().failed += 1;
    }
    let tally = tally.with_context(|| format!("{} printed no result", binary.name))?;
    Ok((tally, failed))
}

/// Whether `child` succeeded; `None` when it had to be stopped.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<bool>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if Instant::now() > deadline {
            eprintln!("error: stopped after {} minutes", limit.as_secs() / 60);
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads libtest's `test wire::open ... FAILED`.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Reads libtest's `test result: ok. 3 passed; 0 failed; …`.
fn result_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_results_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(
            result_line(line),
            Some(Tally {
                passed: 12,
                failed: 3
            })
        );
        assert_eq!(result_line("test wire::open ... ok"), None);
        assert_eq!(
            failed_test("test wire::open ... FAILED"),
            Some("wire::open")
        );
        assert_eq!(failed_test("test wire::open ... ok"), None);
    }

    #[test]
    fn a_target_belongs_to_the_suite_of_its_place() {
        let target = |name: &str, kind: &str| Target {
            name: name.to_owned(),
            kind: vec![kind.to_owned()],
        };
        let of = |package: &str, name: &str, kind: &str| Suite::of(package, &target(name, kind));
        assert_eq!(
            of("causeway-tests", "interop", "test"),
            Some(Suite::Interop)
        );
        assert_eq!(of("causeway-tests", "support", "lib"), Some(Suite::Unit));
        assert_eq!(of("causeway-sim", "mesh", "test"), Some(Suite::Sim));
        assert_eq!(of("causeway-bgp", "codec", "test"), Some(Suite::Codec));
        assert_eq!(of("causeway-bgp", "causeway_bgp", "lib"), Some(Suite::Unit));
        // A target that no suite runs is an error, not a silence.
        assert_eq!(of("causeway-tests", "unheard_of", "test"), None);
    }
}
