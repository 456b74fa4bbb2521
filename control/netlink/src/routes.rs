//! The kernel's routes and next-hop objects: what is there, what changes, and our own operations.
//!
//! ```text
//!   RouteEvents  list ──▶ routes, objects      RouteWriter  batch of operations ──▶ refusals
//!                watch ──▶ what others change
//! ```
//!
//! Notifications of our own operations are filtered out in the kernel: a table that loads would drown what others do.

use core::net::IpAddr;
use std::io;
use std::os::fd::BorrowedFd;

use causeway_net::KernelRoute;
use causeway_net::kernel::{FoundNextHop, Listing as What, Op, Refusal, RefusalKind};

use crate::codec::route::{
    RouteNews, any_route, dump_next_hops, dump_routes, match_route, next_hop, operation, route,
    route_news,
};
use crate::compat::CompatMode;
use crate::error::{Error, KernelError};
use crate::socket::{Connection, Listing, MAX_DUMP_TRIES, Received, Step};

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_ROUTE`, `RTNLGRP_NEXTHOP`.
const GROUPS: [u32; 4] = [1, 7, 11, 32];
/// Room for notifications, bytes: some 5,000 of them.
const NOTIFICATION_BYTES: usize = 4 << 20;
/// Room for the answers to a batch that is refused as a whole, bytes.
const ANSWER_BYTES: usize = 2 << 20;
/// Datagrams handled in one go; then the caller gets what there is.
const MAX_DATAGRAMS_PER_EVENT: usize = 256;
/// Operations in one message to the kernel. It carries them out before the system call returns: a millisecond or two.
pub const MAX_BATCH: usize = 256;

/// What [`RouteEvents`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteEvent {
    /// A list of all routes begins.
    ListingBegins,
    /// Some of its routes.
    Listed(Vec<KernelRoute>),
    /// It was complete.
    ListingEnds,
    /// All next-hop objects.
    NextHops(Vec<FoundNextHop>),
    /// What others did, in order. Never empty.
    News(Vec<RouteNews>),
    /// Notifications were lost: list everything.
    Overrun,
}

/// Tells of routes and next-hop objects in the network namespace that it was opened in.
pub struct RouteEvents {
    notifications: Connection,
    requests: Connection,
    listing: Option<InProgress>,
    overruns: u64,
}

struct InProgress {
    what: What,
    listing: Option<Listing>,
    next_hops: Vec<FoundNextHop>,
    /// Only its end remains to be told.
    complete: bool,
    tries: u32,
}

impl RouteEvents {
    /// Subscribes, leaving out what `writer` does. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// If the system refuses a socket, the filter or the subscription.
    pub fn open(writer: &RouteWriter) -> Result<Self, Error> {
        let mut notifications = Connection::open()?;
        notifications.grow(NOTIFICATION_BYTES);
        ignore(notifications.fd(), writer.port).map_err(|source| Error::Socket {
            what: "attach a filter to",
            source,
        })?;
        notifications.subscribe(&GROUPS)?;
        Ok(Self {
            notifications,
            requests: Connection::open()?,
            listing: None,
            overruns: 0,
        })
    }

    /// Makes a list; [`Self::next`] tells it. One at a time: a list that is being made is given up.
    ///
    /// # Errors
    ///
    /// If the system refuses a socket.
    pub fn list(&mut self, what: What) -> Result<(), Error> {
        if self.listing.is_some() {
            self.give_up()?;
        }
        self.listing = Some(InProgress {
            what,
            listing: None,
            next_hops: Vec::new(),
            complete: false,
            tries: 0,
        });
        Ok(())
    }

    /// How often notifications were lost.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// The next event. Cancelling it loses nothing.
    ///
    /// # Errors
    ///
    /// If the socket or a request failed. A list that was being made is given up.
    pub async fn next(&mut self) -> Result<RouteEvent, Error> {
        let event = self.step().await;
        if event.is_err() {
            self.give_up()?;
        }
        event
    }

    fn give_up(&mut self) -> Result<(), Error> {
        self.listing = None;
        // The kernel may be in the middle of an answer, and would refuse the next question.
        self.requests = Connection::open()?;
        Ok(())
    }

    async fn step(&mut self) -> Result<RouteEvent, Error> {
        loop {
            // Notifications wait for the end of a list: they are newer than it.
            let Some(progress) = &mut self.listing else {
                let received = self.notifications.receive().await?;
                if let Some(event) = self.take(received) {
                    return Ok(event);
                }
                continue;
            };
            if progress.complete {
                self.listing = None;
                return Ok(RouteEvent::ListingEnds);
            }
            let Some(listing) = &mut progress.listing else {
                let (name, build): (_, fn(u32) -> Vec<u8>) = match progress.what {
                    What::NextHops => ("next hops", dump_next_hops),
                    What::Routes => ("routes", dump_routes),
                };
                progress.listing = Some(self.requests.begin(name, build)?);
                if progress.what == What::Routes {
                    return Ok(RouteEvent::ListingBegins);
                }
                continue;
            };
            let mut routes = Vec::new();
            let (what, found) = (progress.what, &mut progress.next_hops);
            let read = self.requests.step(listing, |message| {
                match what {
                    What::NextHops => found.extend(next_hop(message.body)?),
                    What::Routes => routes.extend(route(message.body)?),
                }
                Ok(())
            });
            let step = read.await?;
            match (what, step) {
                (_, Step::More) => {}
                (What::NextHops, Step::Done) => {
                    let found = core::mem::take(&mut progress.next_hops);
                    self.listing = None;
                    return Ok(RouteEvent::NextHops(found));
                }
                (What::NextHops, Step::Interrupted) => {
                    progress.tries += 1;
                    if progress.tries >= MAX_DUMP_TRIES {
                        return Err(Error::Restless {
                            what: "next hops",
                            tries: progress.tries,
                        });
                    }
                    progress.next_hops.clear();
                    progress.listing = None;
                }
                // Who changes a route meanwhile tells of it.
                (What::Routes, Step::Done | Step::Interrupted) => progress.complete = true,
            }
            if !routes.is_empty() {
                return Ok(RouteEvent::Listed(routes));
            }
        }
    }

    fn take(&mut self, received: Received) -> Option<RouteEvent> {
        let mut news = Vec::new();
        let mut received = Some(received);
        for _ in 0..MAX_DATAGRAMS_PER_EVENT {
            match received {
                Some(Received::Datagram) => {}
                Some(Received::Overrun) => {
                    tracing::warn!("notifications of routes were lost; reading them anew");
                    self.overruns += 1;
                    return Some(RouteEvent::Overrun);
                }
                None => break,
            }
            for message in self.notifications.messages() {
                match message.and_then(|message| route_news(&message)) {
                    Ok(told) => news.extend(told),
                    Err(error) => tracing::warn!("a netlink notification is ignored: {error}"),
                }
            }
            received = self.notifications.try_receive();
        }
        (!news.is_empty()).then_some(RouteEvent::News(news))
    }
}

/// Drops what `port` did before it is queued: classic BPF over the message, `nlmsg_pid` at offset 12.
fn ignore(socket: BorrowedFd<'_>, port: u32) -> io::Result<()> {
    let filter = |code: u32, jt, jf, k| {
        socket2::SockFilter::new(u16::try_from(code).unwrap_or_default(), jt, jf, k)
    };
    socket2::SockRef::from(&socket).attach_filter(&[
        filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 12),
        // Loads are big-endian; the field is not.
        filter(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            port.to_be(),
        ),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ])
}

/// Carries operations out.
pub struct RouteWriter {
    connection: Connection,
    compat_mode: CompatMode,
    port: u32,
    request: Vec<u8>,
}

impl RouteWriter {
    /// Opens it, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// If the system refuses a socket.
    pub fn open() -> Result<Self, Error> {
        let connection = Connection::open()?;
        connection.grow(ANSWER_BYTES);
        let port = connection.port()?;
        Ok(Self {
            connection,
            compat_mode: CompatMode::open(),
            port,
            request: Vec::new(),
        })
    }

    /// Carries out up to [`MAX_BATCH`] operations, in order, and tells which of them were refused.
    ///
    /// # Errors
    ///
    /// If the answers were lost: nobody knows what was done.
    pub async fn apply(&mut self, ops: &[Op]) -> Result<Vec<Refusal>, Error> {
        let ops = ops.get(..MAX_BATCH).unwrap_or(ops);
        let Some(last) = ops.len().checked_sub(1) else {
            return Ok(Vec::new());
        };
        let first = self.connection.reserve(ops.len());
        self.request.clear();
        for (index, op) in ops.iter().enumerate() {
            let sequence = first.wrapping_add(u32::try_from(index).unwrap_or_default());
            self.request
                .extend_from_slice(&operation(sequence, op, index == last));
        }
        let regrouped = |op: &Op| matches!(op, Op::Group { replace: true, .. });
        let quiet = ops.iter().any(regrouped).then(|| self.compat_mode.quiet());
        self.connection.send_bytes(&self.request)?;
        drop(quiet);
        let mut refusals = Vec::new();
        self.connection
            .answers(first, ops.len(), |index, error| {
                refusals.extend(error.map(|error| Refusal {
                    index,
                    kind: match error.errno {
                        libc::EEXIST => RefusalKind::Exists,
                        libc::ENOENT | libc::ESRCH => RefusalKind::Missing,
                        _ => RefusalKind::Other,
                    },
                    error: refusal(ops.get(index), &error),
                }));
            })
            .await?;
        Ok(refusals)
    }

    /// The route that the kernel takes to `addr`, from its main table or another one; `None` if it has none.
    ///
    /// # Errors
    ///
    /// If the kernel did not answer, or refused for another reason.
    pub async fn matching(&mut self, addr: IpAddr) -> Result<Option<KernelRoute>, Error> {
        let name = || format!("look {addr} up");
        let mut found = None;
        let answer = self
            .connection
            .exchange(
                &name,
                |sequence| match_route(sequence, addr),
                |message| {
                    found = any_route(message.body)?;
                    Ok(())
                },
            )
            .await;
        match answer {
            Ok(_) => Ok(found),
            Err(Error::Refused { error, .. })
                if matches!(
                    error.errno,
                    libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ESRCH
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What was refused and why, in one line.
fn refusal(op: Option<&Op>, error: &KernelError) -> Box<str> {
    let what = match op {
        Some(Op::NextHop { id, gateway, .. }) => {
            format!(
                "next hop {id} ({} on interface {})",
                gateway.addr, gateway.ifindex
            )
        }
        Some(Op::Group { id, .. }) => format!("next-hop group {id}"),
        Some(Op::RemoveNextHop { id }) => format!("the removal of next hop {id}"),
        Some(Op::Route { prefix, .. }) => format!("the route to {prefix}"),
        Some(Op::Blackhole { prefix }) => format!("the blackhole route for {prefix}"),
        Some(Op::RemoveRoute { prefix, .. }) => format!("the removal of the route to {prefix}"),
        None => "a request".to_owned(),
    };
    format!("the kernel refused {what}: {error}").into()
}
