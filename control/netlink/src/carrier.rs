//! Looks at the carrier of watched links, on a thread of its own.
//!
//! The kernel tells of a lost carrier at once only if it told of nothing in the second before, in any network namespace
//! (`net/core/link_watch.c`). So somebody has to look: often after news of a link here, seldom otherwise, because then what the
//! kernel told of was elsewhere or nothing. Over netlink a look costs a whole description of the link, and on the runtime's
//! timers a wake-up of its own; here it is one short `ioctl`, and the rest of the daemon sleeps until one differs. What costs
//! is the wake-up. The `ioctl` also makes the kernel catch up with itself (`linkwatch_sync_dev`): it tells everybody then.

use core::sync::atomic::{AtomicBool, Ordering};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::sync::Notify;

/// How often carriers are looked at when there is no news.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often after news of a link, and for how long: for the second that the kernel keeps the next news back, and some more.
const HURRIED_INTERVAL: Duration = Duration::from_millis(20);
const HURRY: Duration = Duration::from_millis(1500);

/// `ETHTOOL_GLINK` (`linux/ethtool.h`).
const ETHTOOL_GLINK: u32 = 0x0a;

/// The watch; its thread ends with it. Of the network namespace that it was opened in.
pub(crate) struct Carriers(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    changed: Notify,
    /// A watched link's driver does not tell.
    blind: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Names of the links to watch from now on.
    watch: Option<Vec<CString>>,
    /// There was news of a link.
    news: bool,
    stop: bool,
}

impl Carriers {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            changed: Notify::new(),
            blind: AtomicBool::new(false),
        });
        let watched = Arc::clone(&shared);
        thread::Builder::new()
            .name("carrier".to_owned())
            .spawn(move || watched.run(&socket))?;
        Ok(Self(shared))
    }

    /// Watches these links, by name, instead of those before.
    pub(crate) fn watch<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let names = names.filter_map(|name| CString::new(name).ok()).collect();
        self.0.state().watch = Some(names);
        self.0.wake.notify_one();
    }

    /// The kernel told of a link: it may keep back what happens next.
    pub(crate) fn hurry(&self) {
        let mut state = self.0.state();
        // One that was not looked at yet has woken the thread.
        if !core::mem::replace(&mut state.news, true) {
            self.0.wake.notify_one();
        }
    }

    /// Ends when a carrier has changed, or may have before it was first looked at. Cancelling it loses nothing.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Whether there are links whose changes can't be seen here.
    pub(crate) fn blind(&self) -> bool {
        self.0.blind.load(Ordering::Relaxed)
    }
}

impl Drop for Carriers {
    fn drop(&mut self) {
        self.0.state().stop = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, socket: &OwnedFd) {
        let mut links: Vec<(CString, Option<bool>)> = Vec::new();
        let mut hurry_until = Instant::now();
        loop {
            let interval = match links.is_empty() {
                true => None,
                false if Instant::now() < hurry_until => Some(HURRIED_INTERVAL),
                false => Some(INTERVAL),
            };
            let State { watch, news, stop } = self.pause(interval);
            if stop {
                return;
            }
            let anew = watch.is_some();
            if let Some(names) = watch {
                links = names.into_iter().map(|name| (name, None)).collect();
            }
            let mut changed = anew;
            for (name, before) in &mut links {
                let now = carrier(socket, name);
                changed |= *before != now;
                *before = now;
            }
            if changed || news {
                hurry_until = Instant::now() + HURRY;
            }
            if changed {
                let blind = links.iter().any(|(_, carrier)| carrier.is_none());
                self.blind.store(blind, Ordering::Relaxed);
                self.changed.notify_one();
            }
        }
    }

    /// Waits for the next look, for ever without an interval, or for what there is to do.
    fn pause(&self, interval: Option<Duration>) -> State {
        let quiet = |state: &mut State| !state.stop && !state.news && state.watch.is_none();
        let state = self.state();
        let mut state = match interval {
            None => {
                let woken = self.wake.wait_while(state, quiet);
                woken.unwrap_or_else(PoisonError::into_inner)
            }
            Some(interval) => {
                let woken = self.wake.wait_timeout_while(state, interval, quiet);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        let stop = state.stop;
        State {
            stop,
            ..core::mem::take(&mut *state)
        }
    }
}

/// Whether a link has its carrier; `None` if it can't be told.
fn carrier(socket: &OwnedFd, name: &CString) -> Option<bool> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value {
        command: ETHTOOL_GLINK,
        data: 0,
    };
    #[expect(unsafe_code, reason = "zeros are a request without a name")]
    // SAFETY: plain integers, an array of them, and a union with a pointer, for all of which zeros are valid.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    // The kernel wants a zero behind the name.
    if name.as_bytes().len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the request names an interface and points to a value that the kernel fills in, and both live across the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    (result == 0).then_some(value.data != 0)
}
