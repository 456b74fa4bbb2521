//! `cargo xtask setup`: what building and testing need and a fresh machine lacks.
//!
//! Nothing is installed unannounced, and installing a router here never starts it: Debian's packages start their
//! services from `invoke-rc.d`, which asks `/usr/sbin/policy-rc.d` first. Ours answers no while `apt-get` runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::workspace::{
    cargo, find_program, is_executable, need_root, note, output, root, run as run_command,
    target_dir,
};

/// The linker whose default feature uses rustc 1.95's own LLVM.
const BPF_LINKER: &str = "0.10.3";
/// What builds and runs the fuzz targets.
const CARGO_FUZZ: &str = "0.13.2";

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only say what is missing; exits 1 when something is
    #[arg(long)]
    check: bool,
}

/// Installs whatever is missing.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    if args.check {
        let missing = missing();
        for line in &missing {
            println!("missing: {line}");
        }
        if missing.is_empty() {
            println!("nothing is missing");
            return Ok(ExitCode::SUCCESS);
        }
        return Ok(ExitCode::FAILURE);
    }
    let linker = ensure_ebpf_tools()?;
    let packages = all_packages();
    ensure_packages(&packages)?;
    note(format!(
        "ready: rust-src, {}, {} Debian packages",
        linker.display(),
        packages.len()
    ));
    Ok(ExitCode::SUCCESS)
}

/// What `build-ebpf` needs: the standard library's sources, and the linker whose path is returned.
pub(crate) fn ensure_ebpf_tools() -> Result<PathBuf> {
    ensure_rust_src()?;
    ensure_bpf_linker()
}

/// A Debian package and a file by which to see that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    name: &'static str,
    file: &'static str,
    what_for: &'static str,
}

const fn package(name: &'static str, file: &'static str, what_for: &'static str) -> Package {
    Package {
        name,
        file,
        what_for,
    }
}

const TCPDUMP: Package = package("tcpdump", "tcpdump", "captures");

/// What every namespace lab needs.
pub(crate) const LAB: &[Package] = &[
    package("iproute2", "ip", "namespaces and links"),
    package("iputils-ping", "ping", "reachability"),
    package("ethtool", "ethtool", "veth offloads"),
    package(
        "bpftool",
        "bpftool",
        "a look into the maps that is not ours",
    ),
    package("util-linux", "setpriv", "tests without capabilities"),
    TCPDUMP,
];

/// What boots another kernel and packs its initial file system.
pub(crate) const VM: &[Package] = &[
    package(
        "qemu-system-x86",
        "qemu-system-x86_64",
        "a machine with another kernel",
    ),
    package("cpio", "cpio", "that machine's file system"),
    TCPDUMP,
    LAB[0],
    LAB[1],
    LAB[2],
    LAB[3],
];

/// The routers that the demo shows.
pub(crate) const DEMO_PEERS: &[Package] = &[
    package("frr", "/usr/lib/frr/bgpd", "FRR, a peer"),
    package("bird2", "bird", "BIRD 2, a peer"),
];

/// What the suites run on this machine's own kernel.
pub(crate) const PACKAGES: &[Package] = &[
    LAB[0],
    LAB[1],
    LAB[2],
    LAB[3],
    LAB[4],
    LAB[5],
    DEMO_PEERS[0],
    DEMO_PEERS[1],
    package("gobgpd", "gobgpd", "GoBGP, a peer"),
    package("openbgpd", "bgpctl", "OpenBGPD, a peer"),
    package("exabgp", "exabgp", "ExaBGP, a peer"),
    package(
        "bgpdump",
        "bgpdump",
        "a reader of recordings that is not ours",
    ),
];

/// Everything that any suite needs.
fn all_packages() -> Vec<Package> {
    let mut all = PACKAGES.to_vec();
    all.extend(VM.iter().filter(|package| !PACKAGES.contains(package)));
    all
}

/// Those of `packages` that are not installed.
pub(crate) fn missing_packages(packages: &[Package]) -> Vec<Package> {
    packages
        .iter()
        .copied()
        .filter(|package| {
            if package.file.starts_with('/') {
                !is_executable(Path::new(package.file))
            } else {
                find_program(package.file).is_none()
            }
        })
        .collect()
}

/// Installs those of `packages` that are missing.
pub(crate) fn ensure_packages(packages: &[Package]) -> Result<()> {
    let missing = missing_packages(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing
        .iter()
        .map(|package| format!("{} ({})", package.name, package.what_for))
        .collect::<Vec<_>>()
        .join(", ");
    if !is_debian() {
        bail!(
            "these programs are missing: {list}; `cargo xtask setup` installs packages on Debian only, \
             so install their equivalents with this system's package manager \
             and keep their services stopped"
        );
    }
    note(format!(
        "installing Debian packages, without starting their services: {list}"
    ));
    need_root("installing packages")?;
    let _no_services = NoServices::start()?;
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    if install(&names).is_err() {
        // Fresh images come without package lists, old ones with lists of versions that are gone.
        refresh_package_lists()?;
        install(&names)?;
    }
    let units: Vec<_> = names.iter().filter_map(|name| unit_of(name)).collect();
    keep_disabled(&units);
    match missing_packages(packages).as_slice() {
        [] => Ok(()),
        [still, ..] => bail!(
            "package {} is installed but {} is not there; install it by hand",
            still.name,
            still.file
        ),
    }
}

fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !rust_src_present().unwrap_or(false) {
        missing.push("rust-src, to build core for the eBPF target".to_owned());
    }
    if find_bpf_linker().is_none() {
        missing.push(format!("bpf-linker {BPF_LINKER}"));
    }
    missing.extend(
        missing_packages(&all_packages())
            .iter()
            .map(|package| format!("Debian package {}: {}", package.name, package.what_for)),
    );
    missing
}

fn rust_src_present() -> Result<bool> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let sysroot = output(rustc.args(["--print", "sysroot"]).current_dir(root()))?;
    // The component list can name rust-src while its files are gone; only the files count.
    Ok(Path::new(sysroot.trim())
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .exists())
}

fn ensure_rust_src() -> Result<()> {
    if rust_src_present()? {
        return Ok(());
    }
    note("installing rust-src (rustup component add rust-src)");
    run_command(
        Command::new("rustup")
            .args(["component", "add", "rust-src"])
            .current_dir(root()),
    )
    .context("without rustup, install the sources of this rustc's standard library by hand")?;
    if rust_src_present()? {
        return Ok(());
    }
    // rustup believes in what its manifest says.
    run_command(
        Command::new("rustup")
            .args(["component", "remove", "rust-src"])
            .current_dir(root()),
    )?;
    run_command(
        Command::new("rustup")
            .args(["component", "add", "rust-src"])
            .current_dir(root()),
    )?;
    if !rust_src_present()? {
        bail!("rust-src is installed but lib/rustlib/src is empty; reinstall the toolchain");
    }
    Ok(())
}

fn ensure_bpf_linker() -> Result<PathBuf> {
    ensure_tool("bpf-linker", BPF_LINKER)
}

/// What `fuzz` needs.
pub(crate) fn ensure_cargo_fuzz() -> Result<PathBuf> {
    ensure_tool("cargo-fuzz", CARGO_FUZZ)
}

/// A program from crates.io in this version, installed into the target directory if it is nowhere.
fn ensure_tool(name: &str, version: &str) -> Result<PathBuf> {
    if let Some(tool) = find_tool(name, version) {
        return Ok(tool);
    }
    let tools = tools_dir();
    note(format!(
        "installing {name} {version} into {} (about a minute)",
        tools.display()
    ));
    run_command(
        cargo()
            .args(["install", name, "--locked", "--quiet"])
            .args(["--version", version, "--root"])
            .arg(&tools)
            // Its own objects would lie beside ours for ever.
            .env_remove("CARGO_TARGET_DIR"),
    )?;
    find_tool(name, version).with_context(|| format!("no {name} in {}", tools.display()))
}

fn find_bpf_linker() -> Option<PathBuf> {
    find_tool("bpf-linker", BPF_LINKER)
}

fn find_tool(name: &str, version: &str) -> Option<PathBuf> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    [
        Some(tools_dir().join("bin").join(name)),
        cargo_home.map(|home| home.join("bin").join(name)),
        find_program(name),
    ]
    .into_iter()
    .flatten()
    .filter(|file| is_executable(file))
    .find(|file| {
        output(Command::new(file).arg("--version"))
            .is_ok_and(|text| text.split_whitespace().any(|word| word == version))
    })
}

fn tools_dir() -> PathBuf {
    target_dir().join("tools")
}

fn is_debian() -> bool {
    find_program("apt-get").is_some()
        && fs::read_to_string("/etc/os-release").is_ok_and(|text| names_debian(&text))
}

fn names_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| {
            line.strip_prefix("ID=")
                .or_else(|| line.strip_prefix("ID_LIKE="))
        })
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .any(|id| id == "debian")
}

/// Asks the archive what there is.
pub(crate) fn refresh_package_lists() -> Result<()> {
    note("refreshing the package lists");
    run_command(Command::new("apt-get").args(["-q", "update"]))
}

fn install(names: &[&str]) -> Result<()> {
    run_command(
        Command::new("apt-get")
            .args(["-q", "-y", "--no-install-recommends", "install"])
            .args(names)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// The service that a package would enable for the next boot.
fn unit_of(package: &str) -> Option<&'static str> {
    match package {
        "frr" => Some("frr.service"),
        "bird2" => Some("bird.service"),
        "gobgpd" => Some("gobgpd.service"),
        "openbgpd" => Some("openbgpd.service"),
        "exabgp" => Some("exabgp.service"),
        _ => None,
    }
}

fn keep_disabled(units: &[&str]) {
    if units.is_empty() || find_program("systemctl").is_none() {
        return;
    }
    let done = output(
        Command::new("systemctl")
            .args(["--quiet", "disable"])
            .args(units),
    );
    if let Err(error) = done {
        note(format!(
            "could not disable {} for the next boot: {error:#}",
            units.join(", ")
        ));
    }
}

/// While it lives, `invoke-rc.d` starts no service.
struct NoServices {
    file: Option<PathBuf>,
    saved: Option<PathBuf>,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_SAVED: &str = "/usr/sbin/policy-rc.d.before-causeway-setup";
const POLICY_TEXT: &str = "#!/bin/sh\n# Written by causeway's `cargo xtask setup` for the time of an installation.\nexit 101\n";

impl NoServices {
    fn start() -> Result<Self> {
        Self::start_at(Path::new(POLICY), Path::new(POLICY_SAVED))
    }

    fn start_at(file: &Path, saved: &Path) -> Result<Self> {
        // What an interrupted run left.
        if fs::read_to_string(file).is_ok_and(|text| text == POLICY_TEXT) {
            fs::remove_file(file)?;
        }
        if saved.exists() {
            fs::rename(saved, file)?;
        }
        if forbids(file) {
            return Ok(Self {
                file: None,
                saved: None,
            });
        }
        let moved = file.exists();
        if moved {
            fs::rename(file, saved)?;
        }
        let guard = Self {
            file: Some(file.to_owned()),
            saved: moved.then(|| saved.to_owned()),
        };
        fs::write(file, POLICY_TEXT).with_context(|| format!("cannot write {}", file.display()))?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        let restored = fs::remove_file(file).and_then(|()| match &self.saved {
            Some(saved) => fs::rename(saved, file),
            None => Ok(()),
        });
        if let Err(error) = restored {
            note(format!(
                "could not restore {}: {error}; services will not start until it is removed",
                file.display()
            ));
        }
    }
}

/// Whether the policy in place already says no.
fn forbids(policy: &Path) -> bool {
    is_executable(policy)
        && Command::new(policy)
            .args(["causeway-test-peer", "start"])
            .status()
            .is_ok_and(|status| status.code() == Some(101))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_children_are_recognised() {
        assert!(names_debian("NAME=x\nID=debian\n"));
        assert!(names_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(names_debian("ID=pop\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!names_debian("ID=fedora\nNAME=\"not debian\"\n"));
    }

    #[test]
    fn a_service_policy_is_put_back_as_it_was() {
        let dir = std::env::temp_dir().join(format!("cw-policy-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, saved) = (dir.join("policy-rc.d"), dir.join("saved"));
        let theirs = "#!/bin/sh\nexit 0\n";
        fs::write(&file, theirs).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();

        let guard = NoServices::start_at(&file, &saved).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), POLICY_TEXT);
        // A run that was killed here leaves both files; the next one starts from theirs again.
        std::mem::forget(guard);
        drop(NoServices::start_at(&file, &saved).unwrap());

        assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
        assert!(!saved.exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn without_a_policy_none_is_left_behind() {
        let dir = std::env::temp_dir().join(format!("cw-no-policy-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("policy-rc.d");
        let guard = NoServices::start_at(&file, &dir.join("saved")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), POLICY_TEXT);
        drop(guard);
        assert!(!file.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
