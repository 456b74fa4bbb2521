//! Keeps the kernel from telling of every route whose group of next hops is given other members.
//!
//! For programs that know nothing of next-hop objects it sends a notification for each route of the group, a microsecond each
//! under the lock that news of links wait for too: with a million routes a link that fails meanwhile is noticed more than a
//! second late. The sysctl `net.ipv4.nexthop_compat_mode` (Linux 5.8, both families) decides, at the moment of the change. It
//! also decides whether others' listings of routes spell objects out, so it is off for the length of one system call.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

/// The switch of the network namespace that it was opened in.
pub(crate) struct CompatMode(Option<File>);

/// While this lives, the kernel is quiet.
pub(crate) struct Quiet<'a>(Option<&'a File>);

impl CompatMode {
    /// Without the right to write it, or on a kernel without it, the kernel stays as it is.
    pub(crate) fn open() -> Self {
        let path = "/proc/sys/net/ipv4/nexthop_compat_mode";
        let file = OpenOptions::new().read(true).write(true).open(path);
        if let Err(error) = &file {
            tracing::debug!(path, %error, "groups with many routes change slowly");
        }
        Self(file.ok())
    }

    /// Switches the notifications off, if they are on.
    pub(crate) fn quiet(&self) -> Quiet<'_> {
        let file = self.0.as_ref();
        Quiet(file.filter(|file| {
            let mut value = [0];
            let on = matches!(file.read_at(&mut value, 0), Ok(1)) && value == *b"1";
            on && file.write_all_at(b"0\n", 0).is_ok()
        }))
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.0
            && let Err(error) = file.write_all_at(b"1\n", 0)
        {
            tracing::warn!(%error, "net.ipv4.nexthop_compat_mode stays 0");
        }
    }
}
