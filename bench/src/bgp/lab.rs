//! Two network namespaces and two links between them: the daemon under test on one side, all its peers on the other.
//!
//! Peer n has the subnet 10.99.n.0/30 for itself (the daemon is .1, the peer .2), and the monitor a link for itself:
//! the daemon must put its own address into NEXT_HOP (RFC 4271, section 5.1.3) and never a third party's. BIRD looks
//! at links for that, others at subnets.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, CpuSet};
use nix::unistd::Pid;

use crate::bgp::wire::Identity;

/// All namespaces of the benches and tests start like this.
const NAME_PREFIX: &str = "cw-bench-";

pub(crate) const DAEMON_ASN: u32 = 65_000;
/// Peer n is AS 64600 + n.
pub(crate) const PEER_BASE_ASN: u32 = 64_600;
/// The monitor's number; blasters count from 1.
pub(crate) const MONITOR: u8 = 0;
pub(crate) const MAX_PEERS: u8 = 40;

/// The namespaces, deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    daemon: String,
    peers: String,
    cpus: usize,
}

/// Peer n of the daemon; the monitor is number 0.
pub(crate) fn peer(number: u8) -> Identity {
    Identity {
        asn: PEER_BASE_ASN + u32::from(number),
        addr: Ipv4Addr::new(10, 99, number, 2),
    }
}

/// The daemon's address towards peer n.
pub(crate) fn daemon_addr(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, number, 1)
}

/// Where the daemon of a run keeps its files.
pub(crate) fn daemon_directory(run: impl std::fmt::Display) -> PathBuf {
    std::env::temp_dir().join(format!("{NAME_PREFIX}{run}"))
}

impl Lab {
    /// Creates the namespaces and moves the calling thread, which must be the only one, into the peers' side.
    ///
    /// The generators are pinned to the last of the `cpus`, the daemon to all others.
    pub(crate) fn create(cpus: usize) -> Result<Self> {
        pin_to(cpus - 1)?;
        remove_leftovers()?;
        let run = std::process::id();
        let lab = Self {
            daemon: format!("{NAME_PREFIX}{run}-dut"),
            peers: format!("{NAME_PREFIX}{run}-peers"),
            cpus,
        };
        ip(&["netns", "add", &lab.daemon])?;
        ip(&["netns", "add", &lab.peers])?;
        let links = format!(
            "link add blasters type veth peer name blasters netns {peers}\n\
             link add monitor type veth peer name monitor netns {peers}\n",
            peers = lab.peers
        );
        ip_batch(&lab.daemon, &links)?;
        for (namespace, host) in [(&lab.daemon, 1), (&lab.peers, 2)] {
            let mut batch = String::from("link set lo up\n");
            for number in 0..=MAX_PEERS {
                let link = if number == MONITOR {
                    "monitor"
                } else {
                    "blasters"
                };
                batch.push_str(&format!("addr add 10.99.{number}.{host}/30 dev {link}\n"));
            }
            batch.push_str("link set monitor up\nlink set blasters up\n");
            ip_batch(namespace, &batch)?;
        }
        let namespace = std::fs::File::open(format!("/run/netns/{}", lab.peers))
            .context("open the peers' namespace")?;
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET)
            .context("enter the peers' namespace")?;
        Ok(lab)
    }

    /// A command that runs in the daemon's namespace under its own process id.
    ///
    /// `ip netns exec` would mount a fresh sysfs and hide bpffs; only the network namespace is entered.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.daemon))
            .arg("--");
        // The daemon must not outlive a bench that is killed.
        command.args(["setpriv", "--pdeathsig", "TERM"]);
        // Away from the generators, whose pinning a child inherits: the scheduler would sometimes put a daemon on the
        // CPU of whoever wakes it, and the same run would then cost twice as much or half.
        let cpus = format!("0-{}", self.cpus.saturating_sub(2));
        command.args(["taskset", "--cpu-list", &cpus]).arg(program);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.daemon, &self.peers] {
            if let Err(error) = ip(&["netns", "del", namespace]) {
                eprintln!("warning: {error:#}");
            }
        }
    }
}

fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    nix::sched::sched_setaffinity(Pid::from_raw(0), &set).context("pin the generators")
}

/// Deletes the namespaces of runs that were killed.
fn remove_leftovers() -> Result<()> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries {
        let name = entry.context("list the network namespaces")?.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some((run, _)) = name
            .strip_prefix(NAME_PREFIX)
            .and_then(|rest| rest.split_once('-'))
        else {
            continue;
        };
        if run.parse::<u32>().is_ok() && !Path::new("/proc").join(run).exists() {
            ip(&["netns", "del", name])?;
            // Its daemon's directory, if it got that far.
            let _ = std::fs::remove_dir_all(daemon_directory(run));
        }
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(args)
        .output()
        .context("run `ip` of iproute2")?;
    ensure!(
        output.status.success(),
        "`ip {}`: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn ip_batch(namespace: &str, batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run `ip` of iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(batch.as_bytes())
            .context("write to `ip -batch`")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "`ip -n {namespace} -batch`: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
