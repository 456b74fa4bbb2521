//! A running daemon: what it costs, and its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a daemon may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(3);

/// A daemon with its private directory; both are gone after the drop.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    pub(crate) fn new(child: Child, directory: PathBuf) -> Self {
        Self { child, directory }
    }

    /// Fails with the daemon's last words if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait().context("look after the daemon")? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended with {status}:\n{}", self.last_words()),
        }
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(log_path(&self.directory)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// CPU time of all its threads (those that ended too) and of its child processes.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for pid in self.processes()? {
            // Nanoseconds, where /proc/PID/stat counts ticks of 10 ms. A process that has just ended has no clock.
            if let Ok(time) = nix::time::clock_getcpuclockid(pid).and_then(|clock| clock.now()) {
                total += Duration::from(time);
            }
        }
        Ok(total)
    }

    /// Peak resident memory, summed over its processes.
    pub(crate) fn peak_rss_mib(&self) -> Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// Resident memory now, summed over its processes.
    pub(crate) fn rss_mib(&self) -> Result<f64> {
        self.status_mib("VmRSS:")
    }

    fn status_mib(&self, field: &str) -> Result<f64> {
        let mut total_kib = 0.0;
        for pid in self.processes()? {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("read the status of process {pid}"))?;
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(field))
                .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok())
                .with_context(|| format!("{field} in /proc/PID/status"))?;
            total_kib += value;
        }
        Ok(total_kib / 1024.0)
    }

    /// Memory of the kernel's that the BPF maps take which the daemon has open.
    pub(crate) fn map_memory_mib(&self) -> Result<f64> {
        let mut bytes = BTreeMap::new();
        for pid in self.processes()? {
            let directory = format!("/proc/{pid}/fdinfo");
            for entry in
                std::fs::read_dir(&directory).with_context(|| format!("list {directory}"))?
            {
                // One that was closed meanwhile is no map.
                let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
                let field = |name: &str| {
                    let mut lines = text.lines();
                    let value = lines.find_map(|line| line.strip_prefix(name))?;
                    value.trim().parse::<u64>().ok()
                };
                // The same map may be open twice.
                if let (Some(id), Some(memory)) = (field("map_id:"), field("memlock:")) {
                    bytes.insert(id, memory);
                }
            }
        }
        Ok(bytes.values().sum::<u64>() as f64 / f64::from(1 << 20))
    }

    fn processes(&self) -> Result<Vec<Pid>> {
        let mut found = vec![Pid::from_raw(i32::try_from(self.child.id())?)];
        let mut next = 0;
        while let Some(parent) = found.get(next) {
            let tasks = format!("/proc/{parent}/task");
            for task in std::fs::read_dir(&tasks).with_context(|| format!("list {tasks}"))? {
                let children = std::fs::read_to_string(task?.path().join("children"));
                let children = children.unwrap_or_default();
                found.extend(
                    children
                        .split_whitespace()
                        .filter_map(|pid| pid.parse().ok())
                        .map(Pid::from_raw),
                );
            }
            next += 1;
        }
        Ok(found)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let processes = self.processes().unwrap_or_default();
        if let Some(main) = processes.first() {
            let _ = kill(*main, Signal::SIGTERM);
        }
        let deadline = Instant::now() + TERM_GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            for pid in processes {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
        if std::env::var_os("CAUSEWAY_BENCH_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// Where a daemon's output goes.
pub(crate) fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}
