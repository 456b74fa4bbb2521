//! A set of nodes under one prefix, and the removal of what dead runs left.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::node::{self, Node};

/// Where `ip netns` keeps names.
pub(crate) const NAMESPACES: &str = "/run/netns";

/// Every name of ours begins with this.
const PREFIX: &str = "cw-";

/// How much of a log a failure shows.
const LOG_LINES: usize = 40;

/// Nodes that belong together. Namespaces are named `cw-<run>-<lab>-<node>`, where a run is a process and a lab its
/// n-th; the same name stands for a directory of configuration and logs.
#[derive(Clone)]
pub struct Lab {
    shared: Arc<Shared>,
    /// A node lives as long as its lab, whether or not a test still names it.
    nodes: Arc<Mutex<Vec<Node>>>,
}

/// What a lab's parts need to know when they are dropped.
pub(crate) struct Shared {
    prefix: String,
    dir: PathBuf,
    keep: AtomicBool,
}

impl Shared {
    /// Whether the lab outlives this process.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep.load(Ordering::Relaxed)
    }
}

impl Lab {
    /// An empty lab that is undone when its last part is dropped.
    ///
    /// # Errors
    ///
    /// Without root, or when the temporary directory cannot be made.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let lab = NEXT.fetch_add(1, Ordering::Relaxed);
        remove_dead_runs();
        Self::with_prefix(format!("{PREFIX}{}-{lab}-", std::process::id()))
    }

    /// Runs a test in a lab of its own. When it fails, the ends of all logs are printed before the lab goes away.
    ///
    /// # Panics
    ///
    /// With the error of `test`.
    pub fn test(test: impl FnOnce(&Self) -> Result<()>) {
        let lab = Self::new().unwrap_or_else(|error| panic!("{error:#}"));
        if let Err(error) = test(&lab) {
            println!("{}", lab.logs());
            panic!("{error:#}");
        }
    }

    /// A lab under a fixed name, which only [`Lab::remove_named`] or the next lab of that name removes once it was
    /// [kept](Self::keep).
    pub fn named(name: &str) -> Result<Self> {
        ensure!(
            name.parse::<u32>().is_err(),
            "a lab's name must not look like a process id"
        );
        remove_dead_runs();
        Self::remove_named(name);
        Self::with_prefix(format!("{PREFIX}{name}-"))
    }

    /// Removes the lab of that name; says whether there was one.
    pub fn remove_named(name: &str) -> bool {
        remove(&format!("{PREFIX}{name}-"))
    }

    /// The last lines of every log in the lab.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for node in names_in(self.dir()) {
            let dir = self.dir().join(&node);
            for name in names_in(&dir).filter(|name| name.ends_with(".log")) {
                let log = fs::read(dir.join(&name)).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                let skip = log.lines().count().saturating_sub(LOG_LINES);
                text.push_str(&format!("── {node}/{name}\n"));
                for line in log.lines().skip(skip) {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }

    fn with_prefix(prefix: String) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root"
        );
        let dir = std::env::temp_dir().join(prefix.trim_end_matches('-'));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        readable_by_all(&dir)?;
        Ok(Self {
            shared: Arc::new(Shared {
                prefix,
                dir,
                keep: AtomicBool::new(false),
            }),
            nodes: Arc::default(),
        })
    }

    /// A new node, called `name` in this lab.
    pub fn node(&self, name: &str) -> Result<Node> {
        let dir = self.shared.dir.join(name);
        fs::create_dir_all(&dir)?;
        readable_by_all(&dir)?;
        let node = Node::new(
            name,
            &format!("{}{name}", self.shared.prefix),
            dir,
            self.shared.clone(),
        )?;
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(node.clone());
        Ok(node)
    }

    /// Removes a node while the others go on: what runs in it, and its namespace with all links.
    ///
    /// # Errors
    ///
    /// While something else still holds the node, since its namespace would live on.
    pub fn remove(&self, node: Node) -> Result<()> {
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| other.namespace() != node.namespace());
        let name = node.name().to_owned();
        ensure!(node.is_last(), "something still holds node {name}");
        Ok(())
    }

    /// Leaves everything as it is when the values are dropped.
    pub fn keep(&self) {
        self.shared.keep.store(true, Ordering::Relaxed);
    }

    /// Configuration and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.is_kept() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Routers drop their privileges before they read their configuration.
pub(crate) fn readable_by_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot open {} to all", path.display()))
}

fn remove_dead_runs() {
    let mut runs: Vec<_> = names_in(Path::new(NAMESPACES))
        .chain(names_in(&std::env::temp_dir()))
        .filter_map(|name| dead_run(&name, |pid| Path::new("/proc").join(pid).exists()))
        .collect();
    runs.sort();
    runs.dedup();
    for run in runs {
        remove(&run);
    }
}

/// The prefix of the run that made `name`, if its process is gone.
fn dead_run(name: &str, alive: impl Fn(&str) -> bool) -> Option<String> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse::<u32>().ok()?;
    (!alive(pid)).then(|| format!("{PREFIX}{pid}-"))
}

/// Removes every namespace and directory whose name begins with `prefix`; says whether there was a namespace.
fn remove(prefix: &str) -> bool {
    let mut found = false;
    for name in names_in(Path::new(NAMESPACES)).filter(|name| name.starts_with(prefix)) {
        node::remove_namespace(&name);
        found = true;
    }
    for name in names_in(&std::env::temp_dir()) {
        if name.starts_with(prefix) || name == prefix.trim_end_matches('-') {
            let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
        }
    }
    found
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_whose_process_is_gone_are_removed() {
        let alive = |pid: &str| pid == "12";
        assert_eq!(dead_run("cw-13-0-tor", alive).as_deref(), Some("cw-13-"));
        assert_eq!(dead_run("cw-12-0-tor", alive), None);
        assert_eq!(dead_run("cw-demo-tor", alive), None);
        assert_eq!(dead_run("other-13-0", alive), None);
    }
}
