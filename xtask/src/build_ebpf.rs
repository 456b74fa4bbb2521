//! `cargo xtask build-ebpf`: the eBPF programs, as `target/ebpf/causeway.o`.
//!
//! The object lies in the project's own `target/`, whatever `CARGO_TARGET_DIR` says, because the daemon embeds it
//! and has to find it. Cargo sees to it that nothing is compiled twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use aya_obj::{Map, Object, ProgramSection};
use causeway_maps::catalogue::{ALL, FLAT4, FLAT4_TABLE};
use causeway_maps::{MapSpec, fixture};

use crate::setup::ensure_ebpf_tools;
use crate::workspace::{cargo, note, root, run as run_command, target_dir};

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "ebpf";
/// The entry points: at XDP or at TC.
const PROGRAMS: &[(&str, bool)] = &[
    ("causeway_xdp", true),
    ("causeway_tc_uplink", false),
    ("causeway_tc_pod", false),
];

/// Builds the object and says where it is.
pub(crate) fn run() -> Result<ExitCode> {
    let object = build()?;
    println!("{}", object.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the object, unless it is up to date, and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    note("building the eBPF programs");
    build_as("object", &[], object())
}

/// Builds the programs of the version that the upgrade test upgrades to. Its daemon embeds them.
pub(crate) fn build_fixture() -> Result<PathBuf> {
    note("building the eBPF programs of a later version");
    let object = root().join("target/ebpf/causeway-upgrade-fixture.o");
    build_as("object,upgrade-fixture", &fixture::CHANGED, object)
}

/// Builds the programs with these features and puts them into `object`; `others` are maps that aren't as in the catalogue.
fn build_as(features: &str, others: &[&str], object: PathBuf) -> Result<PathBuf> {
    let built = compile("causeway-ebpf", "causeway", features)?;
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    verify(&bytes, others)
        .with_context(|| format!("{} is not what it should be", built.display()))?;
    install(&bytes, &object).with_context(|| format!("cannot write {}", object.display()))?;
    Ok(object)
}

/// Builds the programs of the packet bench and returns the object's path.
pub(crate) fn build_bench() -> Result<PathBuf> {
    note("building the eBPF programs of the bench");
    compile("causeway-bench-ebpf", "bench", "object")
}

fn compile(package: &str, binary: &str, features: &str) -> Result<PathBuf> {
    let linker = ensure_ebpf_tools()?;
    run_command(
        cargo()
            .args(["build", "--quiet", "--package", package])
            .args(["--bin", binary, "--features", features])
            .args(["--profile", PROFILE, "--target", TARGET])
            .args(["-Z", "build-std=core"])
            // `build-std` is unstable, and this toolchain is pinned.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker))
            // It would win over the profile's.
            .env_remove("CARGO_INCREMENTAL")
            .env_remove("RUSTFLAGS"),
    )
    .context("the eBPF programs do not build; `cargo xtask setup` installs what that takes")?;
    Ok(target_dir().join(TARGET).join(PROFILE).join(binary))
}

/// Where the object is.
pub(crate) fn object() -> PathBuf {
    root().join("target/ebpf/causeway.o")
}

/// Separated as cargo wants it, so that paths may contain blanks.
fn rustflags(linker: &Path) -> String {
    [
        // Full debug info is what BTF is made of; with less, aya counts functions differently than the kernel.
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // The newest instructions that Linux 6.1 knows; LLVM's default may move on.
        "-Ctarget-cpu=v3",
        // aya-ebpf's registers; the object itself runs anywhere.
        "--cfg=bpf_target_arch=\"x86_64\"",
        &format!("-Clinker={}", linker.display()),
    ]
    .join("\x1f")
}

/// Leaves an object alone that is the same, so that the daemon which embeds it is not built again.
fn install(bytes: &[u8], object: &Path) -> Result<()> {
    if fs::read(object).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let dir = object.parent().context("it has no directory")?;
    fs::create_dir_all(dir)?;
    // Renamed, so that nobody reads half of it.
    let temporary = object.with_extension(format!("o.{}", std::process::id()));
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, object)?;
    Ok(())
}

/// Compares what was built with what userspace expects, but for the layout of the maps `others`.
fn verify(bytes: &[u8], others: &[&str]) -> Result<()> {
    let object = Object::parse(bytes).context("it is no eBPF object")?;
    ensure!(
        object.btf.is_some() && object.btf_ext.is_some(),
        "it has no BTF, so bpftool could not name fields; is bpf-linker the version that `cargo xtask setup` installs?"
    );
    for &(name, is_xdp) in PROGRAMS {
        let program = object
            .programs
            .get(name)
            .with_context(|| format!("it lacks program {name}"))?;
        let is_right = match program.section {
            ProgramSection::Xdp { .. } => is_xdp,
            ProgramSection::SchedClassifier => !is_xdp,
            _ => false,
        };
        ensure!(
            is_right,
            "program {name} is not for the hook that it should be for"
        );
    }
    for spec in ALL {
        let map = object
            .maps
            .get(spec.name)
            .with_context(|| format!("it lacks map {}", spec.name))?;
        if !others.contains(&spec.name) {
            compare(map, spec).with_context(|| format!("map {}", spec.name))?;
        }
    }
    let inner = object.maps.get(FLAT4.name).and_then(Map::inner);
    let inner = inner.with_context(|| format!("map {} is made of nothing", FLAT4.name))?;
    compare(&inner, &FLAT4_TABLE).with_context(|| format!("the tables in map {}", FLAT4.name))?;
    for name in object.maps.keys() {
        if !ALL.iter().any(|spec| spec.name == name) {
            bail!("it has map {name}, which maps/src/catalogue.rs does not list");
        }
    }
    Ok(())
}

fn compare(map: &Map, spec: &MapSpec) -> Result<()> {
    ensure!(
        matches!(map, Map::Btf(_)),
        "it is not declared with #[btf_map]"
    );
    for (what, built, expected) in [
        ("kind", map.map_type(), spec.kind as u32),
        ("key_size", map.key_size(), spec.key_size),
        ("value_size", map.value_size(), spec.value_size),
        ("max_entries", map.max_entries(), spec.max_entries),
        ("flags", map.map_flags(), spec.flags),
    ] {
        ensure!(
            built == expected,
            "{what} is {built}, and {expected} in maps/src/catalogue.rs"
        );
    }
    Ok(())
}
