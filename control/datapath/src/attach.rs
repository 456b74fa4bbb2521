//! XDP on an interface, by a pinned link: it stays when the process goes, and a successor replaces its program atomically.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp};
use causeway_maps::catalogue::MAX_IFINDEX;

use crate::error::Error;
use crate::pins;
use crate::sys;

/// Which XDP mode to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AttachMode {
    /// Native; generic where the driver can't.
    #[default]
    Auto,
    /// Native or not at all.
    Native,
    /// Generic: works on every interface, after the kernel has made an skb.
    Generic,
}

/// The XDP mode of an attached program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the stack's receive path, slower.
    Generic,
}

impl XdpMode {
    /// `native` or `generic`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn aya(self) -> aya::programs::xdp::XdpMode {
        match self {
            Self::Native => aya::programs::xdp::XdpMode::Driver,
            Self::Generic => aya::programs::xdp::XdpMode::Skb,
        }
    }
}

/// An interface with our program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name at the time.
    pub interface: String,
    /// Index.
    pub ifindex: u32,
    /// Mode.
    pub mode: XdpMode,
    /// Whether an older program was replaced in place, without a packet missing it.
    pub replaced: bool,
}

/// Attaches `program` to the interface, or replaces the program of the link that is pinned for it.
pub(crate) fn attach(
    program: &mut Xdp,
    links: &Path,
    (interface, ifindex): (&str, u32),
    mode: AttachMode,
) -> Result<Attachment, Error> {
    let interface = interface.to_owned();
    if ifindex >= MAX_IFINDEX {
        return Err(Error::IfindexTooLarge {
            interface,
            ifindex,
            limit: MAX_IFINDEX,
        });
    }
    // The kernel's own answer to a missing interface is EINVAL, which could be anything.
    if !sys::interface_exists(ifindex) {
        return Err(Error::NoInterface { interface, ifindex });
    }
    for existing in [XdpMode::Native, XdpMode::Generic] {
        let pin = pin_path(links, ifindex, existing);
        if !pin.exists() {
            continue;
        }
        let wanted = match mode {
            AttachMode::Auto => true,
            AttachMode::Native => existing == XdpMode::Native,
            AttachMode::Generic => existing == XdpMode::Generic,
        };
        if wanted && replace(program, &pin, ifindex, &interface)? {
            return Ok(Attachment {
                interface,
                ifindex,
                mode: existing,
                replaced: true,
            });
        }
        // A link of an interface that is gone, or in a mode no longer wanted.
        fs::remove_file(&pin).map_err(Error::system(format!("unpinning {}", pin.display())))?;
    }
    let mode = match mode {
        AttachMode::Native => attach_new(program, links, &interface, ifindex, XdpMode::Native)?,
        AttachMode::Generic => attach_new(program, links, &interface, ifindex, XdpMode::Generic)?,
        AttachMode::Auto => {
            match attach_new(program, links, &interface, ifindex, XdpMode::Native) {
                Err(Error::NoNativeXdp { .. }) => {
                    attach_new(program, links, &interface, ifindex, XdpMode::Generic)?
                }
                other => other?,
            }
        }
    };
    Ok(Attachment {
        interface,
        ifindex,
        mode,
        replaced: false,
    })
}

/// Detaches from the interface; nothing attached is fine.
pub(crate) fn detach(links: &Path, ifindex: u32) -> Result<(), Error> {
    for mode in [XdpMode::Native, XdpMode::Generic] {
        let pin = pin_path(links, ifindex, mode);
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::system(format!("unpinning {}", pin.display()))(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Interfaces that have a pinned link, gone ones left out.
pub(crate) fn attached(links: &Path) -> Result<Vec<(u32, XdpMode)>, Error> {
    let mut attached = Vec::new();
    for pin in pins::list(links)? {
        let Some((ifindex, mode)) = parse_pin(&pin) else {
            continue;
        };
        if pinned_ifindex(&pin)? == Some(ifindex) {
            attached.push((ifindex, mode));
        }
    }
    attached.sort_unstable_by_key(|&(ifindex, _)| ifindex);
    Ok(attached)
}

fn pin_path(links: &Path, ifindex: u32, mode: XdpMode) -> PathBuf {
    links.join(format!("xdp-{ifindex}-{}", mode.name()))
}

fn parse_pin(pin: &Path) -> Option<(u32, XdpMode)> {
    let (ifindex, mode) = pin
        .file_name()?
        .to_str()?
        .strip_prefix("xdp-")?
        .split_once('-')?;
    let mode = [XdpMode::Native, XdpMode::Generic]
        .into_iter()
        .find(|known| known.name() == mode)?;
    Some((ifindex.parse().ok()?, mode))
}

/// The interface that a pinned link is attached to: the index in the name may have been given to another one since.
fn pinned_ifindex(pin: &Path) -> Result<Option<u32>, Error> {
    let ifindex = sys::open_pin(pin).and_then(|link| sys::xdp_link_ifindex(link.as_fd()));
    let ifindex = ifindex.map_err(Error::system(format!("reading link {}", pin.display())))?;
    Ok((ifindex != 0).then_some(ifindex))
}

/// Puts `program` in the place of the pinned link's; false if that link's interface is gone.
fn replace(program: &mut Xdp, pin: &Path, ifindex: u32, interface: &str) -> Result<bool, Error> {
    if pinned_ifindex(pin)? != Some(ifindex) {
        return Ok(false);
    }
    let failed = |source| Error::Attach {
        interface: interface.to_owned(),
        source,
    };
    let link = PinnedLink::from_pin(pin).map_err(|error| failed(error.into()))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|error| failed(error.into()))?;
    let id = program
        .attach_to_link(link)
        .map_err(|error| failed(error.into()))?;
    // The pin holds the link; ours may go.
    drop(
        program
            .take_link(id)
            .map_err(|error| failed(error.into()))?,
    );
    Ok(true)
}

fn attach_new(
    program: &mut Xdp,
    links: &Path,
    interface: &str,
    ifindex: u32,
    mode: XdpMode,
) -> Result<XdpMode, Error> {
    let name = || interface.to_owned();
    let id = program
        .attach_to_if_index(ifindex, mode.aya())
        .map_err(|error| refused(error, interface, ifindex, mode))?;
    let link = program.take_link(id).map_err(|error| Error::Attach {
        interface: name(),
        source: error.into(),
    })?;
    // aya falls back to a netlink attachment, which can't be pinned and would go with the process; dropping it detaches.
    let link = FdLink::try_from(link).map_err(|error| match mode {
        XdpMode::Native => Error::NoNativeXdp {
            interface: name(),
            source: io::Error::from_raw_os_error(libc::EINVAL),
        },
        XdpMode::Generic => Error::Attach {
            interface: name(),
            source: error.into(),
        },
    })?;
    link.pin(pin_path(links, ifindex, mode))
        .map_err(|error| Error::Attach {
            interface: name(),
            source: error.into(),
        })?;
    Ok(mode)
}

fn refused(error: ProgramError, interface: &str, ifindex: u32, mode: XdpMode) -> Error {
    let interface = interface.to_owned();
    let errno = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match (errno, mode) {
        (Some(libc::ENODEV), _) => Error::NoInterface { interface, ifindex },
        (Some(libc::EBUSY | libc::EEXIST), _) => Error::Occupied { interface },
        (Some(errno), XdpMode::Native) => Error::NoNativeXdp {
            interface,
            source: io::Error::from_raw_os_error(errno),
        },
        (None, XdpMode::Native) => Error::NoNativeXdp {
            interface,
            source: io::Error::other(error.to_string()),
        },
        (_, XdpMode::Generic) => Error::Attach {
            interface,
            source: error.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_name_carries_index_and_mode() {
        let pin = pin_path(Path::new("/links"), 7, XdpMode::Generic);
        assert_eq!(pin, Path::new("/links/xdp-7-generic"));
        assert_eq!(parse_pin(&pin), Some((7, XdpMode::Generic)));
        assert_eq!(parse_pin(Path::new("/links/xdp-7-offload")), None);
    }
}
