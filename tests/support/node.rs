//! A node: a network namespace with a name, and a mount namespace of its own.
//!
//! In its mount namespace a node has an empty `/run` and a private bpffs, so that every daemon runs under its default
//! names however many there are. (`ip netns exec` would hide bpffs, which is why commands enter through `setns`.) The
//! mount namespace lives as long as its holder, a sleeping process.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{NAMESPACES, Shared};

/// A machine of the lab. Clones are the same machine; it goes away with the lab and the last of them.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    namespace: String,
    dir: PathBuf,
    network: File,
    mounts: File,
    holder: Child,
    lab: Arc<Shared>,
}

impl Node {
    pub(crate) fn new(name: &str, namespace: &str, dir: PathBuf, lab: Arc<Shared>) -> Result<Self> {
        checked(Command::new("ip").args(["netns", "add", namespace]))?;
        let made = Self::enter_new(name, namespace, dir, lab);
        if made.is_err() {
            remove_namespace(namespace);
        }
        made
    }

    fn enter_new(name: &str, namespace: &str, dir: PathBuf, lab: Arc<Shared>) -> Result<Self> {
        let network = File::open(Path::new(NAMESPACES).join(namespace))?;
        let mut holder = Command::new("sleep");
        holder
            .arg("infinity")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let entry = network.try_clone()?;
        // SAFETY: the closure makes system calls only; it neither allocates nor takes locks.
        unsafe {
            holder.pre_exec(move || {
                // Not in our process group: an interrupt at the terminal must find the lab whole.
                nix::unistd::setsid()?;
                setns(&entry, CloneFlags::CLONE_NEWNET)?;
                private_mounts()
            });
        }
        let mut holder = holder.spawn().context("cannot start a node's holder")?;
        let mounts = match File::open(format!("/proc/{}/ns/mnt", holder.id())) {
            Ok(file) => file,
            Err(error) => {
                let _ = holder.kill();
                return Err(error.into());
            }
        };
        let node = Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                dir,
                network,
                mounts,
                holder,
                lab,
            }),
        };
        node.sysctl("ipv6/conf/default/accept_dad", "0")?;
        // A cut link must not lose its addresses.
        node.sysctl("ipv6/conf/all/keep_addr_on_down", "1")?;
        node.sysctl("ipv4/conf/all/rp_filter", "0")?;
        node.sysctl("ipv4/conf/default/rp_filter", "0")?;
        node.ip(["link set lo up"])?;
        Ok(node)
    }

    /// Its name in the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its name for `ip netns`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// For its configuration and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// A process that lives in both of its namespaces: `nsenter --target PID --net --mount` enters the node.
    #[must_use]
    pub fn holder(&self) -> u32 {
        self.inner.holder.id()
    }

    /// Whether dropping this value removes the node.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.inner.lab.is_kept()
    }

    /// A command that will run in this node. Arguments and environment are the caller's; paths must be absolute,
    /// since the working directory becomes `/`.
    ///
    /// # Panics
    ///
    /// When this process has no file descriptors left.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let network = self.inner.network.try_clone().expect("a file descriptor");
        let mounts = self.inner.mounts.try_clone().expect("a file descriptor");
        // SAFETY: `setns` is a system call; the closure neither allocates nor takes locks.
        unsafe {
            command.pre_exec(move || {
                setns(&network, CloneFlags::CLONE_NEWNET)?;
                setns(&mounts, CloneFlags::CLONE_NEWNS)?;
                Ok(())
            });
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program in this node to its end and returns its stdout.
    ///
    /// # Errors
    ///
    /// When it cannot start or fails; its stderr is quoted.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        checked(self.command(program).args(args)).with_context(|| format!("on {}", self.name()))
    }

    /// Runs lines of `ip` in this node, as one batch: `node.ip(["link set eth0 up"])`. Lines that begin with `-6` run
    /// after the others: a batch has one family.
    pub fn ip<S: AsRef<str>>(&self, lines: impl IntoIterator<Item = S>) -> Result<()> {
        let (mut any, mut v6) = (String::new(), String::new());
        for line in lines {
            let (batch, line) = match line.as_ref().strip_prefix("-6 ") {
                Some(line) => (&mut v6, line),
                None => (&mut any, line.as_ref()),
            };
            batch.push_str(line);
            batch.push('\n');
        }
        self.ip_batch(&[], &any)?;
        self.ip_batch(&["-6"], &v6)
    }

    fn ip_batch(&self, options: &[&str], lines: &str) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        // In the network namespace only: names of other namespaces are looked up below /run.
        let network = self.inner.network.try_clone()?;
        let mut command = Command::new("ip");
        command
            .args(options)
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // SAFETY: as in `command`.
        unsafe {
            command.pre_exec(move || Ok(setns(&network, CloneFlags::CLONE_NEWNET)?));
        }
        let mut child = command.spawn().context("cannot start ip")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "on {}: ip {}: {} in\n{lines}",
                self.name(),
                options.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Connects `interface` here to `their_interface` of `other`; both ends come up.
    ///
    /// The ends suit native XDP redirects between veths: a redirected frame keeps no checksum that was left to
    /// hardware, and only an end with GRO (or a program) takes frames in.
    pub fn link(&self, interface: &str, other: &Node, their_interface: &str) -> Result<()> {
        self.ip([format!(
            "link add {interface} type veth peer name {their_interface} netns {}",
            other.namespace()
        )])?;
        for (node, interface) in [(self, interface), (other, their_interface)] {
            node.ip([format!("link set {interface} up")])?;
            // After it is up: set before, GRO is shown as on and redirected frames are still dropped.
            node.run("ethtool", ["-K", interface, "tx", "off", "gro", "on"])?;
        }
        Ok(())
    }

    /// Gives `interface` addresses with prefix lengths, usable at once.
    pub fn address<S: AsRef<str>>(
        &self,
        interface: &str,
        addresses: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        self.ip(addresses.into_iter().map(|address| {
            let address = address.as_ref();
            let nodad = if address.contains(':') { " nodad" } else { "" };
            format!("addr add {address} dev {interface}{nodad}")
        }))
    }

    /// Lets the kernel forward.
    pub fn forwarding(&self) -> Result<()> {
        self.sysctl("ipv4/ip_forward", "1")?;
        self.sysctl("ipv6/conf/all/forwarding", "1")
    }

    /// Sets `/proc/sys/net/NAME` in this node.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.enter(|| fs::write(Path::new("/proc/sys/net").join(name), value))?
            .with_context(|| format!("cannot set net/{name} on {}", self.name()))
    }

    /// Calls `work` on a thread that is in this node's network: sockets that it opens stay there.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// When `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let network = &self.inner.network;
        std::thread::scope(|scope| {
            let thread =
                scope.spawn(move || setns(network, CloneFlags::CLONE_NEWNET).map(|()| work()));
            match thread.join() {
                Ok(result) => {
                    result.with_context(|| format!("cannot enter {}", self.inner.namespace))
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.lab.is_kept() {
            return;
        }
        remove_namespace(&self.namespace);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Ends what runs in a namespace of ours and removes it.
pub(crate) fn remove_namespace(namespace: &str) {
    for pid in processes_in(namespace) {
        let _ = kill(pid, Signal::SIGKILL);
    }
    // Nobody can act on a failure here; the next run tries again.
    let _ = Command::new("ip")
        .args(["netns", "del", namespace])
        .stderr(Stdio::null())
        .status();
}

fn processes_in(namespace: &str) -> Vec<Pid> {
    let Ok(network) = fs::metadata(Path::new(NAMESPACES).join(namespace)) else {
        return Vec::new();
    };
    let own = i32::try_from(std::process::id()).ok();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| Some(*pid) != own)
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|theirs| (theirs.dev(), theirs.ino()) == (network.dev(), network.ino()))
        })
        .map(Pid::from_raw)
        .collect()
}

/// Runs in the child between fork and exec: system calls only.
fn private_mounts() -> io::Result<()> {
    const NONE: Option<&CStr> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // A slave, so that a namespace that is removed outside is not kept alive by its mount in here.
    mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    mount(
        Some(c"bpf"),
        c"/sys/fs/bpf",
        Some(c"bpf"),
        MsFlags::empty(),
        NONE,
    )?;
    mount(
        Some(c"run"),
        c"/run",
        Some(c"tmpfs"),
        MsFlags::empty(),
        Some(c"mode=0755"),
    )?;
    Ok(())
}

/// Runs to the end; an error quotes what the program said.
pub(crate) fn checked(command: &mut Command) -> Result<String> {
    let shown = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    let output = command
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
