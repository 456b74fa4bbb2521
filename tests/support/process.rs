//! A program running in a node, stopped when the value is dropped.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::{Node, wait_until};

/// How long a program may take to end when asked to.
const GRACE: Duration = Duration::from_secs(3);

/// What a program takes of memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now.
    pub resident_mib: u64,
    /// The most that was resident since it started.
    pub peak_mib: u64,
}

/// A running program. It leads a process group, so that its children end with it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    node: Node,
}

impl Process {
    /// Starts `command`, which was made by [`Node::command`]; its output goes to `NAME.log` in the node's directory.
    pub fn start(node: &Node, name: &str, mut command: Command) -> Result<Self> {
        let log = node.dir().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        // SAFETY: `setsid` is a system call.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                Ok(())
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name} on {}", node.name()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            node: node.clone(),
        })
    }

    /// The node that it runs in.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it takes of memory.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let of = |name: &str| -> Result<u64> {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))
                .and_then(|kib| kib.trim().parse::<u64>().ok())
                .with_context(|| format!("no {name} in {status}"))
        };
        Ok(Memory {
            resident_mib: of("VmRSS:")? / 1024,
            peak_mib: of("VmHWM:")? / 1024,
        })
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Where it writes.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// An error with the end of its log, if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = self.log();
            let skip = log.lines().count().saturating_sub(15);
            let tail: Vec<_> = log.lines().skip(skip).collect();
            bail!(
                "{} on {} has ended ({status}):\n{}",
                self.name,
                self.node.name(),
                tail.join("\n")
            );
        }
        Ok(())
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.raw_pid(), signal)?)
    }

    /// Stops the program where it stands, each of its threads, until [`Self::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let tasks = format!("/proc/{}/task", self.pid());
        wait_until(&format!("{} to stand still", self.name), GRACE, || {
            for task in fs::read_dir(&tasks)? {
                let stat = fs::read_to_string(task?.path().join("stat"))?;
                // The state stands behind the name, which is in parentheses.
                let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
                ensure!(state == Some(b'T'), "{stat}");
            }
            Ok(())
        })
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends a signal to the program and its children.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        Ok(killpg(self.raw_pid(), signal)?)
    }

    /// Ends the program and its children without warning.
    pub fn kill(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            killpg(self.raw_pid(), Signal::SIGKILL)?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// Asks it to end and waits; after three seconds it is killed, which is an error.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill(self.raw_pid(), Signal::SIGTERM)?;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill()?;
        bail!("{} did not end within {GRACE:?} of SIGTERM", self.name)
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.node.is_kept() {
            let _ = self.kill();
        }
    }
}
