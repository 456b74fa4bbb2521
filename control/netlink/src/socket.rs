//! One netlink socket: requests and their answers, and notifications.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{Error, KernelError};
use crate::wire::{Malformed, Message, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, messages};

/// The kernel fills dumps in pieces of at most 32 KiB; notifications are smaller.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Longest wait for an answer. The kernel answers from within the request; more means that something is badly wrong.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a dump that was interrupted by a change is tried again.
pub(crate) const MAX_DUMP_TRIES: u32 = 8;

/// A socket, in the network namespace of the thread that opened it.
pub(crate) struct Connection {
    socket: AsyncFd<Socket>,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What came instead of notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A datagram, whole.
    Datagram,
    /// Some were lost: the queue was full (`ENOBUFS`), or one did not fit (`MSG_TRUNC`).
    Overrun,
}

/// A list that is being read.
pub(crate) struct Listing {
    what: &'static str,
    sequence: u32,
    consistent: bool,
    deadline: Instant,
}

/// What reading on in a list gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not all of it yet.
    More,
    /// The end.
    Done,
    /// It changed meanwhile: begin again.
    Interrupted,
}

impl Connection {
    pub(crate) fn open() -> Result<Self, Error> {
        let failed = |what| move |source| Error::Socket { what, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("open"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket
            .set_non_blocking(true)
            .map_err(failed("make non-blocking"))?;
        // Both only make errors more legible: not having them is no reason to fail.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let registered = {
            #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
            // SAFETY: `Socket` owns an open descriptor, which is neither closed nor replaced while `AsyncFd` holds it.
            unsafe {
                AsyncFd::register(socket)
            }
        };
        Ok(Self {
            socket: registered.map_err(|error| failed("watch")(error.into()))?,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BYTES),
        })
    }

    /// Joins multicast groups (`RTNLGRP_*`).
    pub(crate) fn subscribe(&mut self, groups: &[u32]) -> Result<(), Error> {
        for group in groups {
            self.socket
                .get_mut()
                .add_membership(*group)
                .map_err(|source| Error::Socket {
                    what: "subscribe",
                    source,
                })?;
        }
        Ok(())
    }

    /// The next datagram, for [`Self::messages`]. Cancelling it loses nothing.
    pub(crate) async fn receive(&mut self) -> Result<Received, Error> {
        loop {
            let mut ready = self
                .socket
                .readable()
                .await
                .map_err(|source| Error::Socket {
                    what: "wait for",
                    source,
                })?;
            let buffer = &mut self.buffer;
            let received = ready.try_io(|socket| {
                buffer.clear();
                // With MSG_TRUNC the length is that of the datagram, even if it did not fit.
                socket.get_ref().recv_from(buffer, libc::MSG_TRUNC)
            });
            match received {
                // Not readable after all.
                Err(_) => {}
                // Only the kernel is listened to.
                Ok(Ok((_, from))) if from.port_number() != 0 => {}
                Ok(Ok((len, _))) if len > self.buffer.len() => return Ok(Received::Overrun),
                Ok(Ok(_)) => return Ok(Received::Datagram),
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Received::Overrun);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(source)) => {
                    let what = "read from";
                    return Err(Error::Socket { what, source });
                }
            }
        }
    }

    /// Whether a datagram waits; takes it.
    pub(crate) fn try_receive(&mut self) -> Option<Received> {
        self.buffer.clear();
        match self
            .socket
            .get_ref()
            .recv_from(&mut self.buffer, libc::MSG_TRUNC)
        {
            Ok((_, from)) if from.port_number() != 0 => {
                self.buffer.clear();
                Some(Received::Datagram)
            }
            Ok((len, _)) if len > self.buffer.len() => Some(Received::Overrun),
            Ok(_) => Some(Received::Datagram),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Some(Received::Overrun),
            // Whatever else it is, the next `receive` meets it.
            Err(_) => None,
        }
    }

    /// The messages of the datagram received last.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
        messages(&self.buffer)
    }

    /// Makes room for what comes, as far as the system allows.
    pub(crate) fn grow(&self, bytes: usize) {
        // Beyond `rmem_max` where we may, which takes CAP_NET_ADMIN as all of this does; without, overruns are noticed.
        if nix::sys::socket::setsockopt(&self.fd(), nix::sys::socket::sockopt::RcvBufForce, &bytes)
            .is_err()
        {
            tracing::debug!(bytes, "a netlink socket keeps its small buffer");
        }
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        #[expect(unsafe_code, reason = "netlink-sys gives raw descriptors only")]
        // SAFETY: `Socket` owns an open descriptor, and the result borrows it.
        unsafe {
            BorrowedFd::borrow_raw(self.socket.get_ref().as_raw_fd())
        }
    }

    /// Its port: what the kernel calls the sender of its requests.
    pub(crate) fn port(&self) -> Result<u32, Error> {
        let mut address = SocketAddr::new(0, 0);
        let found = self.socket.get_ref().get_address(&mut address);
        found.map_err(|source| Error::Socket {
            what: "look at",
            source,
        })?;
        Ok(address.port_number())
    }

    /// Sequence numbers for `count` requests in a row; the first one.
    pub(crate) fn reserve(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first
    }

    /// Reads the answers to `count` requests from `first` on, of which the last one is answered in any case and the others
    /// only if they are refused.
    pub(crate) async fn answers(
        &mut self,
        first: u32,
        count: usize,
        mut each: impl FnMut(usize, Option<KernelError>),
    ) -> Result<(), Error> {
        let name = || "change routes".to_owned();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match timeout_at(deadline, self.receive()).await {
                Ok(received) => {
                    if received? == Received::Overrun {
                        return Err(Error::Lost { request: name() });
                    }
                }
                Err(_) => {
                    return Err(Error::Silent {
                        request: name(),
                        millis: ANSWER_TIMEOUT.as_millis(),
                    });
                }
            }
            for message in self.messages() {
                let malformed = |error| Error::Malformed {
                    request: name(),
                    error,
                };
                let message = message.map_err(malformed)?;
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || index >= count {
                    continue;
                }
                each(index, message.error().map_err(malformed)?);
                if index + 1 == count {
                    return Ok(());
                }
            }
        }
    }

    /// Asks for a list; [`Self::step`] reads it.
    pub(crate) fn begin(
        &mut self,
        what: &'static str,
        build: impl Fn(u32) -> Vec<u8>,
    ) -> Result<Listing, Error> {
        let sequence = self.send(build)?;
        Ok(Listing {
            what,
            sequence,
            consistent: true,
            deadline: Instant::now() + ANSWER_TIMEOUT,
        })
    }

    /// Reads one datagram of a list and hands its messages to `each`. Cancelling it loses nothing.
    pub(crate) async fn step(
        &mut self,
        listing: &mut Listing,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<Step, Error> {
        let request = || format!("list {}", listing.what);
        match timeout_at(listing.deadline, self.receive()).await {
            Ok(received) => {
                if received? == Received::Overrun {
                    return Ok(Step::Interrupted);
                }
            }
            Err(_) => {
                return Err(Error::Silent {
                    request: request(),
                    millis: ANSWER_TIMEOUT.as_millis(),
                });
            }
        }
        listing.deadline = Instant::now() + ANSWER_TIMEOUT;
        for message in self.messages() {
            let malformed = |error| Error::Malformed {
                request: request(),
                error,
            };
            let message = message.map_err(malformed)?;
            if message.sequence != listing.sequence {
                continue;
            }
            listing.consistent &= message.flags & NLM_F_DUMP_INTR == 0;
            if !matches!(message.kind, NLMSG_DONE | NLMSG_ERROR) {
                each(&message).map_err(malformed)?;
                continue;
            }
            return match message.error().map_err(malformed)? {
                None if listing.consistent => Ok(Step::Done),
                None => Ok(Step::Interrupted),
                Some(error) => Err(Error::Refused {
                    request: request(),
                    error,
                }),
            };
        }
        Ok(Step::More)
    }

    /// Sends a request with a sequence number of its own and returns that.
    fn send(&mut self, build: impl Fn(u32) -> Vec<u8>) -> Result<u32, Error> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.send_bytes(&build(self.sequence))?;
        Ok(self.sequence)
    }

    /// Sends requests.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let kernel = SocketAddr::new(0, 0);
        let sent = self.socket.get_ref().send_to(bytes, &kernel, 0);
        sent.map(drop).map_err(|source| Error::Socket {
            what: "write to",
            source,
        })
    }

    /// Sends a request and reads its answer. Returns whether it was consistent.
    pub(crate) async fn exchange(
        &mut self,
        name: &impl Fn() -> String,
        build: impl Fn(u32) -> Vec<u8>,
        each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        self.send(build)?;
        match timeout(ANSWER_TIMEOUT, self.answer(name, each)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Silent {
                request: name(),
                millis: ANSWER_TIMEOUT.as_millis(),
            }),
        }
    }

    /// Reads until the answer to the last request is complete. A late answer to an earlier request is skipped.
    async fn answer(
        &mut self,
        name: &impl Fn() -> String,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        /// `NLM_F_MULTI`.
        const MULTI: u16 = 0x2;
        let mut consistent = true;
        loop {
            if self.receive().await? == Received::Overrun {
                return Ok(false);
            }
            for message in self.messages() {
                let malformed = |error| Error::Malformed {
                    request: name(),
                    error,
                };
                let message = message.map_err(malformed)?;
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                if matches!(message.kind, NLMSG_DONE | NLMSG_ERROR) {
                    return match message.error().map_err(malformed)? {
                        None => Ok(consistent),
                        Some(error) => Err(Error::Refused {
                            request: name(),
                            error,
                        }),
                    };
                }
                each(&message).map_err(malformed)?;
                if message.flags & MULTI == 0 {
                    return Ok(consistent);
                }
            }
        }
    }
}
