//! TC programs on an interface's ingress: a pinned TCX link, which a successor updates in place; where the kernel has no
//! TCX (before Linux 6.6), a filter of the `clsact` queueing discipline under a handle of ours, replaced in place as well.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

use crate::error::Error;
use crate::sys;

/// Which program an interface gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcProgram {
    /// Behind XDP on an uplink.
    Uplink,
    /// On the host's side of a pod's interface.
    Pod,
}

impl TcProgram {
    /// Its name in the object.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uplink => "causeway_tc_uplink",
            Self::Pod => "causeway_tc_pod",
        }
    }
}

/// Where TC programs are hung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcHook {
    /// TCX.
    Tcx,
    /// A filter of `clsact`.
    Clsact,
}

impl TcHook {
    /// TCX from Linux 6.6 on.
    pub(crate) fn of_this_kernel() -> Self {
        let tcx = KernelVersion::new(6, 6, 0);
        match KernelVersion::current() {
            Ok(current) if current >= tcx => Self::Tcx,
            _ => Self::Clsact,
        }
    }

    /// `tcx` or `clsact`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Our filter's place: nobody else takes this handle by chance.
const FILTER_PRIORITY: u16 = 0xca05;
const FILTER_HANDLE: u32 = 0xca05_e3a7;

/// Attaches `program`, or puts it in the place of the one that an earlier process left.
pub(crate) fn attach(
    program: &mut SchedClassifier,
    links: &Path,
    (interface, ifindex): (&str, u32),
    hook: TcHook,
) -> Result<(), Error> {
    // The kernel's own answer to a missing interface could be anything.
    if !sys::interface_exists(ifindex) {
        return Err(Error::NoInterface {
            interface: interface.to_owned(),
            ifindex,
        });
    }
    match hook {
        TcHook::Tcx => attach_tcx(program, links, (interface, ifindex)),
        TcHook::Clsact => attach_clsact(program, interface),
    }
    .map_err(|source| Error::AttachTc {
        interface: interface.to_owned(),
        source,
    })
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn attach_tcx(
    program: &mut SchedClassifier,
    links: &Path,
    (interface, ifindex): (&str, u32),
) -> Result<(), Failure> {
    let pin = pin_path(links, ifindex);
    if pin.exists() {
        let there = sys::open_pin(&pin).and_then(|link| sys::tcx_link_ifindex(link.as_fd()))?;
        if there == ifindex {
            let link = FdLink::from(PinnedLink::from_pin(&pin)?);
            let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
            // The pin holds the link; ours may go.
            drop(program.take_link(id)?);
            return Ok(());
        }
        // Of an interface that is gone.
        fs::remove_file(&pin)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
    FdLink::try_from(program.take_link(id)?)?.pin(&pin)?;
    Ok(())
}

fn attach_clsact(program: &mut SchedClassifier, interface: &str) -> Result<(), Failure> {
    // There already, as often as not: then attaching works, else its error is the one to tell.
    let _ = tc::qdisc_add_clsact(interface);
    let id = match program.attach_to_link(filter(interface)?) {
        Ok(id) => id,
        Err(_) => {
            let options = TcAttachOptions::Netlink(NlOptions {
                priority: FILTER_PRIORITY,
                handle: TcHandle::from(FILTER_HANDLE),
                classid: None,
            });
            program.attach_with_options(interface, TcAttachType::Ingress, options)?
        }
    };
    // Dropping the link would remove the filter, which is to outlive this process.
    core::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Detaches from the interface; nothing attached is fine.
pub(crate) fn detach(links: &Path, ifindex: u32, hook: TcHook) -> Result<(), Error> {
    let pin = pin_path(links, ifindex);
    match fs::remove_file(&pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::system(format!("unpinning {}", pin.display()))(error));
        }
        _ => {}
    }
    if hook == TcHook::Clsact
        && let Some(interface) = sys::interface_name(ifindex)
    {
        detach_clsact(&interface);
    }
    Ok(())
}

/// Removes our filters from every interface: unlike pinned links, they are listed nowhere.
pub(crate) fn detach_all(hook: TcHook) {
    if hook == TcHook::Tcx {
        return;
    }
    for interface in sys::interface_names() {
        detach_clsact(&interface);
    }
}

/// Nothing attached is fine. The queueing discipline stays: others may use it, and it costs nothing.
fn detach_clsact(interface: &str) {
    // What is dropped is detached; it is found by its handle.
    drop(filter(interface));
}

/// Our filter on an interface, whether it is there or not.
fn filter(interface: &str) -> io::Result<SchedClassifierLink> {
    let handle = TcHandle::from(FILTER_HANDLE);
    let ingress = TcAttachType::Ingress;
    SchedClassifierLink::attached(interface, ingress, FILTER_PRIORITY, handle, None)
}

fn pin_path(links: &Path, ifindex: u32) -> PathBuf {
    links.join(format!("tc-{ifindex}"))
}
