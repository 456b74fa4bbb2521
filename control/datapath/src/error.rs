//! What can go wrong, each with its way out.

use std::io;
use std::path::PathBuf;

use causeway_plan::{Failure, Key};

/// Why the datapath can't be used. Each is one sentence with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks a capability.
    #[error(
        "the datapath needs the capability {capability}; run as root, or add it with \
         AmbientCapabilities= in systemd or securityContext.capabilities in Kubernetes"
    )]
    MissingCapability {
        /// Its name, such as `CAP_BPF`.
        capability: &'static str,
    },
    /// The kernel is too old.
    #[error("the datapath needs Linux 6.1 or newer, and this is {release}; upgrade the kernel")]
    OldKernel {
        /// As `uname -r` says.
        release: String,
    },
    /// The kernel was built without BTF.
    #[error(
        "/sys/kernel/btf/vmlinux is missing; the datapath needs a kernel with CONFIG_DEBUG_INFO_BTF=y, as \
         distributions ship it"
    )]
    NoBtf,
    /// The directory for pins is not on a BPF file system.
    #[error(
        "{} is not on a BPF file system; mount one with `mount -t bpf bpf {}`",
        dir.display(), mount_point.display()
    )]
    NotBpffs {
        /// Where pins were to go.
        dir: PathBuf,
        /// Where to mount.
        mount_point: PathBuf,
    },
    /// Another process holds the pins.
    #[error(
        "another process keeps the datapath in {}; stop it, or give this one its own directory with \
         --bpffs", dir.display()
    )]
    InUse {
        /// Directory of the pins.
        dir: PathBuf,
    },
    /// The binary was built without the eBPF object.
    #[error(
        "this binary was built without the eBPF programs; run `cargo xtask build-ebpf` and build it again"
    )]
    NoObject,
    /// The object lacks a program or map that this crate knows.
    #[error(
        "the eBPF object has no {what}; it is of another version: run `cargo xtask build-ebpf` and build again"
    )]
    WrongObject {
        /// What is missing.
        what: String,
    },
    /// The kernel refused the object.
    #[error("the kernel refuses the eBPF programs: {0}")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel has no such interface.
    #[error("interface {interface} (index {ifindex}) is gone; `ip link` lists those there are")]
    NoInterface {
        /// Name.
        interface: String,
        /// Index.
        ifindex: u32,
    },
    /// The interface's index is beyond the arrays indexed by it.
    #[error(
        "interface {interface} has index {ifindex}, and only indexes below {limit} can forward; recreate \
         it soon after boot, before many others"
    )]
    IfindexTooLarge {
        /// Name.
        interface: String,
        /// Index.
        ifindex: u32,
        /// First index that doesn't fit.
        limit: u32,
    },
    /// Another XDP program is there.
    #[error(
        "another XDP program is attached to {interface}; remove it with \
         `ip link set dev {interface} xdp off` or its owner's tool"
    )]
    Occupied {
        /// Interface.
        interface: String,
    },
    /// The driver can't.
    #[error(
        "the driver of {interface} refuses native XDP ({source}); set xdpMode to generic or auto, lower the \
         MTU, or turn off what it says stands in the way"
    )]
    NoNativeXdp {
        /// Interface.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Attaching failed otherwise.
    #[error("XDP can't be attached to {interface}: {source}")]
    Attach {
        /// Interface.
        interface: String,
        /// The kernel's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A TC program can't be attached.
    #[error("the TC program can't be attached to {interface}: {source}")]
    AttachTc {
        /// Interface.
        interface: String,
        /// The kernel's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A system call failed.
    #[error("{action}: {source}")]
    System {
        /// What was being done, to which object.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}

/// Entries that the kernel did not take. The others of the operation are written.
#[derive(Debug, thiserror::Error)]
#[error(
    "map {map}: {} of the entries were refused, the first because: {}",
    failures.len(), failures.first().map_or_else(String::new, |f| f.error.to_string())
)]
pub struct ApplyError {
    /// Map.
    pub map: &'static str,
    /// The refused ones.
    pub failures: Vec<KeyFailure>,
}

impl ApplyError {
    /// The refused entries as the planner knows them, for [`causeway_plan::Planner::ack`].
    #[must_use]
    pub fn planner_failures(&self) -> Vec<Failure> {
        self.failures
            .iter()
            .filter_map(|failure| {
                Some(Failure {
                    key: Key::from_map(self.map, &failure.key)?,
                    error: failure.error.to_string().into(),
                })
            })
            .collect()
    }
}

/// An entry that the kernel did not take.
#[derive(Debug)]
pub struct KeyFailure {
    /// Key, as in the map.
    pub key: Vec<u8>,
    /// The kernel's answer; `ENOSPC` or `E2BIG` is a full map.
    pub error: io::Error,
}

impl KeyFailure {
    /// Whether the map is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.error.raw_os_error(), Some(libc::ENOSPC | libc::E2BIG))
    }
}
