//! Where things are, and how a verb runs another program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The top of the project.
pub(crate) fn root() -> PathBuf {
    // Read at run time: a target directory shared by two checkouts must not point one at the other.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where `cargo build` puts the binaries of the one profile that tests and the demo use.
pub(crate) fn binaries() -> PathBuf {
    target_dir().join("debug")
}

/// Where the daemon of the later version is that the upgrade test upgrades to.
pub(crate) fn fixture() -> PathBuf {
    target_dir().join("upgrade-fixture")
}

/// `cargo`, started in the project.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Set by `cargo run` for this program; they would make every build script run again.
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| {
            (name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
                || name == "CARGO_PRIMARY_PACKAGE"
        });
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// Says what is being done. Notes go to stderr, results to stdout.
pub(crate) fn note(text: impl AsRef<str>) {
    eprintln!("── {}", text.as_ref());
}

/// Runs `command`; an error names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs `command` and returns what it wrote to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` did not write UTF-8", shown(command)))
}

/// Refuses, in one line, what needs root when we are not.
pub(crate) fn need_root(what: &str) -> Result<()> {
    if !is_root() {
        bail!("{what} needs root: run it again with `sudo -E env PATH=\"$PATH\" cargo xtask …`");
    }
    Ok(())
}

/// Whether we run as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The file that `name` stands for on `PATH`, or in the system directories that a user's `PATH` often lacks.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

/// Whether `file` can be started.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
