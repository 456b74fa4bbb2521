//! Watching the directory of the configuration.

use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use causeway_api::view::Diagnostic;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::limits;

/// Says `()` once things have changed in the directory and then been quiet for a moment.
///
/// # Errors
///
/// If the kernel can't watch it.
pub(crate) fn watch(dir: &Path) -> Result<mpsc::Receiver<()>> {
    let watched = || -> Result<AsyncFd<Watch>> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // A ConfigMap is changed by renaming a hidden link, an editor saves by renaming or writing.
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        inotify.add_watch(dir, flags)?;
        // SAFETY: the watch owns its descriptor and returns the same one as long as it lives.
        let watch = unsafe { AsyncFd::register_with_interest(Watch(inotify), Interest::READABLE) };
        Ok(watch?)
    };
    let inotify = watched().with_context(|| format!("cannot watch {}", dir.display()))?;
    let (say, said) = mpsc::channel(1);
    tokio::spawn(async move {
        while changed(&inotify).await {
            // Goes on as long as changes follow one another; what is read at the end is the last state of each file.
            while tokio::time::timeout(limits::RELOAD_PAUSE, changed(&inotify)).await == Ok(true) {}
            if say.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(said)
}

/// nix's inotify lends its descriptor in one way, tokio wants it in the other.
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Waits for a change. False: nothing can be watched any more.
async fn changed(inotify: &AsyncFd<Watch>) -> bool {
    loop {
        let Ok(mut ready) = inotify.readable().await else {
            return false;
        };
        match inotify.get_ref().0.read_events() {
            Ok(_) => return true,
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(error) => {
                tracing::error!(%error, "the configuration is no longer watched; use SIGHUP to reload it");
                return false;
            }
        }
    }
}

/// One mistake per line.
pub(crate) fn listed(errors: &[Diagnostic]) -> String {
    let lines: Vec<_> = errors.iter().map(|error| format!("  {error}")).collect();
    lines.join("\n")
}

/// A configuration that is right in itself but doesn't fit the host.
pub(crate) fn refused(dir: &Path, error: &anyhow::Error) -> Diagnostic {
    Diagnostic {
        file: dir.display().to_string(),
        line: 0,
        object: String::new(),
        field: String::new(),
        problem: format!("{error:#}"),
        remedy: String::new(),
    }
}
