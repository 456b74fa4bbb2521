//! A machine with the oldest kernel that we support: Debian 12's, under qemu, with an initramfs made here.
//!
//! Nothing is installed for it but qemu: the kernel and a static busybox are downloaded as Debian packages and taken apart
//! below the target directory. The initramfs holds busybox, the kernel modules that the suite needs, the programs that
//! the labs call with their libraries, and one test binary; its `init` mounts what a lab expects, runs the binary with its
//! output on the serial console, and turns the machine off. The emulator is qemu's own (TCG): nested virtualisation is
//! rarely to be had where tests run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::setup;
use crate::workspace::{find_program, note, output, run as run_command, target_dir};

/// Kernel packages that will do; the newest of them is taken.
const KERNELS: &str = r"^linux-image-6\.1\.[0-9]+-[0-9]+-cloud-amd64$";
const BUSYBOX: &str = "busybox-static";

/// Modules that the suite uses, loaded before it starts.
const MODULES: &[&str] = &[
    "veth",
    "8021q",
    "bonding",
    "vrf",
    "dummy",
    "bridge",
    "sctp",
    "sch_ingress",
    "cls_bpf",
    "sch_netem",
];

/// What of busybox is used, by `init` and by the labs.
const APPLETS: &[&str] = &[
    "sh", "mount", "modprobe", "reboot", "sleep", "cat", "find", "head", "ls", "test", "dmesg",
    "grep",
];

/// Programs that the labs call, taken from this machine.
const PROGRAMS: &[&str] = &["ip", "tc", "bpftool", "ethtool", "ping", "tcpdump"];

const MEMORY_MIB: u32 = 2048;
const CPUS: u32 = 2;

/// Below the guest's root: the same places as in the project.
const GUEST_PROJECT: &str = "/causeway";

/// A kernel with its modules, and a busybox.
pub(crate) struct Machine {
    kernel: PathBuf,
    modules: PathBuf,
    busybox: PathBuf,
    dir: PathBuf,
}

/// A program that the machine runs.
pub(crate) struct Guest<'a> {
    /// On this machine.
    pub(crate) program: &'a Path,
    /// Its arguments.
    pub(crate) args: &'a [String],
    /// Its environment.
    pub(crate) env: &'a [(&'a str, String)],
    /// Binaries under test, found by the guest in `CAUSEWAY_BIN_DIR`.
    pub(crate) binaries: &'a [PathBuf],
    /// The eBPF object.
    pub(crate) object: &'a Path,
}

impl Machine {
    /// Downloads what is not there yet.
    pub(crate) fn ensure() -> Result<Self> {
        setup::ensure_packages(setup::VM)?;
        let dir = target_dir().join("tools/vm");
        let (package, parts) = match kernel_in(&dir) {
            Some(found) => found,
            None => download(&dir)?,
        };
        let version = package.trim_start_matches("linux-image-").to_owned();
        let machine = Self {
            kernel: parts.join("boot").join(format!("vmlinuz-{version}")),
            modules: parts.join("lib/modules").join(&version),
            busybox: dir.join(BUSYBOX).join("bin/busybox"),
            dir,
        };
        if !machine.modules.join("modules.dep").exists() {
            run_command(
                Command::new(&machine.busybox)
                    .args(["depmod", "-b"])
                    .args([&parts, Path::new(&version)]),
            )?;
        }
        Ok(machine)
    }

    /// A command that boots the machine, which runs `guest` and ends. The guest's output is the command's.
    pub(crate) fn command(&self, guest: &Guest<'_>) -> Result<Command> {
        let image = self.initramfs(guest)?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", &CPUS.to_string()])
            .args(["-m", &MEMORY_MIB.to_string()])
            .args(["-serial", "stdio", "-no-reboot"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(image)
            // A panic ends the machine at once, and the suite with it; warnings come with their stacks. On a busy host the
            // check of the timer fails.
            .args([
                "-append",
                "console=ttyS0 quiet loglevel=5 panic=-1 no_timer_check",
            ])
            .stdin(Stdio::null());
        Ok(command)
    }

    fn initramfs(&self, guest: &Guest<'_>) -> Result<PathBuf> {
        let name = guest.program.file_name().context("a program has a name")?;
        let name = name.to_string_lossy();
        let image = self.dir.join(format!("{name}.cpio"));
        let mut tree = Tree::new(self.dir.join("tree"))?;
        tree.install(&self.busybox, Path::new("bin/busybox"))?;
        for applet in APPLETS {
            tree.link("/bin/busybox", &format!("bin/{applet}"))?;
        }
        // The kernel looks for it there.
        tree.link("/bin/busybox", "sbin/modprobe")?;
        for module in module_files(&self.modules, MODULES)? {
            tree.module(&self.modules, &module)?;
        }
        for dependency in ["modules.dep", "modules.alias", "modules.symbols"] {
            tree.module(&self.modules, Path::new(dependency))?;
        }
        for program in PROGRAMS {
            let file = find_program(program)
                .with_context(|| format!("{program} is missing; `cargo xtask setup`"))?;
            tree.program(&file, Path::new("usr/bin").join(program).as_path())?;
        }
        let project = Path::new(GUEST_PROJECT.trim_start_matches('/'));
        for binary in guest.binaries {
            let name = binary.file_name().context("a binary has a name")?;
            tree.program(binary, &project.join("bin").join(name))?;
        }
        tree.program(guest.program, &project.join("tests/guest"))?;
        tree.install(guest.object, &project.join("target/ebpf/causeway.o"))?;
        tree.script("init", &init(guest))?;
        tree.pack(&image)?;
        Ok(image)
    }
}

/// The newest kernel that was downloaded before.
fn kernel_in(dir: &Path) -> Option<(String, PathBuf)> {
    if !dir.join(BUSYBOX).join("bin/busybox").exists() {
        return None;
    }
    let names = fs::read_dir(dir).ok()?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names
        .filter(|name| name.starts_with("linux-image-") && dir.join(name).join("boot").exists())
        .max_by_key(|name| version_key(name))?;
    let parts = dir.join(&newest);
    Some((newest, parts))
}

/// Fetches the packages and takes them apart, without installing them.
fn download(dir: &Path) -> Result<(String, PathBuf)> {
    let search = || output(Command::new("apt-cache").args(["search", "--names-only", KERNELS]));
    let mut found = newest_kernel(&search()?);
    if found.is_none() {
        setup::refresh_package_lists()?;
        found = newest_kernel(&search()?);
    }
    let kernel = found.with_context(|| {
        format!("no package matches {KERNELS}; the `vm` suite needs the archive of Debian 12")
    })?;
    note(format!(
        "downloading {kernel} and {BUSYBOX} for the vm suite"
    ));
    for package in [kernel.as_str(), BUSYBOX] {
        let temporary = dir.join("download");
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary)?;
        let fetch = || {
            run_command(
                Command::new("apt-get")
                    // As root it would want to become another user, who may not write here.
                    .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
                    .current_dir(&temporary),
            )
        };
        if fetch().is_err() {
            setup::refresh_package_lists()?;
            fetch()?;
        }
        let archive = fs::read_dir(&temporary)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
            .with_context(|| format!("apt-get downloaded no {package}"))?;
        let parts = temporary.join("parts");
        run_command(Command::new("dpkg-deb").arg("-x").args([&archive, &parts]))?;
        let place = dir.join(package);
        let _ = fs::remove_dir_all(&place);
        // Complete or not at all: what is in its place is not looked at again.
        fs::rename(parts, place)?;
        fs::remove_dir_all(&temporary)?;
    }
    let parts = dir.join(&kernel);
    Ok((kernel, parts))
}

fn newest_kernel(listing: &str) -> Option<String> {
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .max_by_key(|name| version_key(name))
        .map(str::to_owned)
}

/// The numbers in a package's name, in order.
fn version_key(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// `names` and what they depend on, as paths below the modules' directory.
fn module_files(modules: &Path, names: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let text = fs::read_to_string(modules.join("modules.dep"))?;
    let dependencies: BTreeMap<&str, Vec<&str>> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let mut files = BTreeSet::new();
    for name in names {
        let ending = format!("/{name}.ko");
        let file = dependencies
            .keys()
            .find(|file| file.ends_with(&ending))
            .with_context(|| format!("the kernel package has no module {name}"))?;
        // Every line lists the whole closure.
        files.insert(PathBuf::from(file));
        files.extend(dependencies[file].iter().map(PathBuf::from));
    }
    Ok(files)
}

/// What the kernel starts.
fn init(guest: &Guest<'_>) -> String {
    let quote = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let mut text = String::from(
        "#!/bin/sh\n\
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TMPDIR=/tmp RUST_BACKTRACE=0\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         mount -t tmpfs tmp /tmp\n\
         mount -t tmpfs run /run\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mount -t cgroup2 cgroup /sys/fs/cgroup\n\
         mount -t tracefs trace /sys/kernel/tracing\n\
         ip link set lo up\n",
    );
    for module in MODULES {
        text.push_str(&format!(
            "modprobe {module} || echo \"error: no module {module}\"\n"
        ));
    }
    for (name, value) in guest.env {
        text.push_str(&format!("export {name}={}\n", quote(value)));
    }
    text.push_str(&format!(
        "export CARGO_MANIFEST_DIR={GUEST_PROJECT}/tests CAUSEWAY_BIN_DIR={GUEST_PROJECT}/bin CAUSEWAY_VM=1\n\
         cd {GUEST_PROJECT}/tests\n./guest"
    ));
    for word in guest.args {
        text.push(' ');
        text.push_str(&quote(word));
    }
    // The machine was told to end rather than to start again.
    text.push_str(" 2>&1\nreboot -f\n");
    text
}

/// The directory that becomes the initramfs.
struct Tree {
    root: PathBuf,
    libraries: BTreeSet<PathBuf>,
}

impl Tree {
    fn new(root: PathBuf) -> Result<Self> {
        let _ = fs::remove_dir_all(&root);
        for dir in ["proc", "sys", "dev", "tmp", "run", "etc", "var/run"] {
            fs::create_dir_all(root.join(dir))?;
        }
        Ok(Self {
            root,
            libraries: BTreeSet::new(),
        })
    }

    fn place(&self, path: &Path) -> Result<PathBuf> {
        let place = self.root.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(dir) = place.parent() {
            fs::create_dir_all(dir)?;
        }
        Ok(place)
    }

    /// Copies a file to `path`.
    fn install(&self, file: &Path, path: &Path) -> Result<PathBuf> {
        let place = self.place(path)?;
        fs::copy(file, &place).with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(place)
    }

    /// Copies a program to `path` without its debug information, and the libraries that it needs to where they are here.
    fn program(&mut self, file: &Path, path: &Path) -> Result<()> {
        let place = self.install(file, path)?;
        // `strip` is part of what Rust links with. What can't be stripped works all the same.
        let _ = Command::new("strip")
            .arg("--strip-debug")
            .arg(&place)
            .stderr(Stdio::null())
            .status();
        for library in libraries(file)? {
            if self.libraries.insert(library.clone()) {
                self.install(&library, &library)?;
            }
        }
        Ok(())
    }

    fn module(&self, modules: &Path, file: &Path) -> Result<()> {
        let version = modules.file_name().context("modules of a version")?;
        self.install(
            &modules.join(file),
            &Path::new("lib/modules").join(version).join(file),
        )?;
        Ok(())
    }

    fn link(&self, target: &str, path: &str) -> Result<()> {
        Ok(symlink(target, self.place(Path::new(path))?)?)
    }

    fn script(&self, path: &str, text: &str) -> Result<()> {
        let place = self.place(Path::new(path))?;
        fs::write(&place, text)?;
        Ok(fs::set_permissions(
            place,
            fs::Permissions::from_mode(0o755),
        )?)
    }

    /// Writes it all into one archive and removes it.
    fn pack(self, image: &Path) -> Result<()> {
        let status = Command::new("sh")
            .args([
                "-c",
                "find . -print0 | cpio --null --create --format=newc --quiet --owner=0:0 > \"$0\"",
            ])
            .arg(image)
            .current_dir(&self.root)
            .status()?;
        ensure!(status.success(), "cannot write {}", image.display());
        Ok(fs::remove_dir_all(self.root)?)
    }
}

/// The shared libraries of a program, the loader included.
fn libraries(file: &Path) -> Result<Vec<PathBuf>> {
    let shown = Command::new("ldd").arg(file).output()?;
    // Scripts and static programs have none.
    if !shown.status.success() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", file.display(), line.trim());
    }
    Ok(library_paths(&text))
}

/// Reads `libc.so.6 => /lib/libc.so.6 (0x…)` and `/lib64/ld.so (0x…)`.
fn library_paths(ldd: &str) -> Vec<PathBuf> {
    ldd.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_the_one_with_the_highest_numbers() {
        let listing = "linux-image-6.1.0-9-cloud-amd64 - Linux 6.1\n\
                       linux-image-6.1.0-56-cloud-amd64 - Linux 6.1\n\
                       linux-image-6.1.0-47-cloud-amd64 - Linux 6.1\n";
        assert_eq!(
            newest_kernel(listing).as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(newest_kernel(""), None);
    }

    #[test]
    fn libraries_and_the_loader_are_found_in_what_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f00)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n";
        assert_eq!(
            library_paths(text),
            [
                PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"),
                PathBuf::from("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn a_guests_words_reach_it_as_they_are() {
        let text = init(&Guest {
            program: Path::new("/x"),
            args: &["it's".to_owned()],
            env: &[("CAUSEWAY_TIER", "full".to_owned())],
            binaries: &[],
            object: Path::new("/o"),
        });
        assert!(text.contains(r"./guest 'it'\''s' 2>&1"), "{text}");
        assert!(text.contains("export CAUSEWAY_TIER='full'"), "{text}");
    }
}
