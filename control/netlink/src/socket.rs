//! One netlink socket: requests and their answers, and notifications.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::error::Error;
use crate::wire::{Message, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, messages};

/// The kernel fills dumps in pieces of at most 32 KiB; notifications are smaller.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Longest wait for an answer. The kernel answers from within the request; more means that something is badly wrong.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a dump that was interrupted by a change is tried again.
const MAX_DUMP_TRIES: u32 = 8;

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
    pub(crate) fn messages(
        &self,
    ) -> impl Iterator<Item = Result<Message<'_>, crate::wire::Malformed>> {
        messages(&self.buffer)
    }

    /// Sends a request and hands each message of the answer to `each`; anew from the start if a dump was interrupted.
    /// `build` gets the sequence number, `restart` is called before a new attempt.
    pub(crate) async fn dump<T>(
        &mut self,
        what: &'static str,
        build: impl Fn(u32) -> Vec<u8>,
        mut each: impl FnMut(&mut Vec<T>, &Message<'_>) -> Result<(), crate::wire::Malformed>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..MAX_DUMP_TRIES {
            let mut items = Vec::new();
            let name = || format!("list {what}");
            let whole = self
                .exchange(&name, &build, |message| each(&mut items, message))
                .await?;
            if whole {
                return Ok(items);
            }
        }
        Err(Error::Restless {
            what,
            tries: MAX_DUMP_TRIES,
        })
    }

    /// Sends a request and reads its answer. Returns whether it was consistent.
    pub(crate) async fn exchange(
        &mut self,
        name: &impl Fn() -> String,
        build: impl Fn(u32) -> Vec<u8>,
        each: impl FnMut(&Message<'_>) -> Result<(), crate::wire::Malformed>,
    ) -> Result<bool, Error> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let request = build(self.sequence);
        let kernel = SocketAddr::new(0, 0);
        self.socket
            .get_ref()
            .send_to(&request, &kernel, 0)
            .map_err(|source| Error::Socket {
                what: "write to",
                source,
            })?;
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
        mut each: impl FnMut(&Message<'_>) -> Result<(), crate::wire::Malformed>,
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
