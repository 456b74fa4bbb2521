//! Streams what the kernel knows: everything first, then every change.
//!
//! ```text
//!   subscribe ──▶ dump links, addresses, neighbours ──▶ Event::Snapshot
//!                     ▲                                     │
//!      queue overrun  │                                     ▼
//!                     └──────────────── notifications, link reads ──▶ Event::Changes
//! ```
//!
//! The subscription comes before the dump, so that nothing is missed; what is told twice does no harm.
//!
//! A link notification only says *that* something changed. Its content may be older than what was read since, and the
//! kernel batches these events to about one a second (`net/core/link_watch.c`). So a notification makes us read that link
//! and all watched ones, and watched links are read on a timer besides: what is read is the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use causeway_net::{Fact, Link};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::codec::{dump_addresses, dump_links, dump_neighbours, fact, query_link};
use crate::error::Error;
use crate::socket::{Connection, Received};
use crate::wire::{Malformed, Message};

/// `RTNLGRP_LINK`, `RTNLGRP_NEIGH`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`.
const GROUPS: [u32; 4] = [1, 3, 5, 9];
/// Datagrams handled in one go; then the caller gets what there is.
const MAX_DATAGRAMS_PER_EVENT: usize = 256;

/// How a [`Monitor`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorConfig {
    /// How often watched links are read. A read takes some 10 µs for each.
    pub link_interval: Duration,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            link_interval: Duration::from_millis(50),
        }
    }
}

/// What a [`Monitor`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All there is; replaces everything told before.
    Snapshot(Vec<Fact>),
    /// What changed, in order. Never empty.
    Changes(Vec<Fact>),
}

/// Links, addresses and neighbours of the network namespace that it was opened in.
pub struct Monitor {
    notifications: Connection,
    requests: Connection,
    timer: Interval,
    /// Links as last told, to tell changes only.
    links: BTreeMap<u32, Link>,
    watched: BTreeSet<u32>,
    /// Changes gathered and not told yet; kept here, so that cancelling loses none.
    pending: Vec<Fact>,
    /// Links to be read.
    touched: BTreeSet<u32>,
    /// Everything must be read anew.
    stale: bool,
    overruns: u64,
}

impl Monitor {
    /// Subscribes. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// If the system refuses a socket or the subscription.
    pub fn open(config: MonitorConfig) -> Result<Self, Error> {
        let mut notifications = Connection::open()?;
        notifications.subscribe(&GROUPS)?;
        let period = config.link_interval.max(Duration::from_millis(1));
        let mut timer = interval_at(Instant::now() + period, period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            notifications,
            requests: Connection::open()?,
            timer,
            links: BTreeMap::new(),
            watched: BTreeSet::new(),
            pending: Vec::new(),
            touched: BTreeSet::new(),
            stale: true,
            overruns: 0,
        })
    }

    /// Which links to read on the timer: those whose loss must be seen at once.
    pub fn watch(&mut self, links: impl IntoIterator<Item = u32>) {
        self.watched = links.into_iter().collect();
    }

    /// How often notifications were lost and everything was read anew.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// The next event; the first is a snapshot. Cancelling it loses nothing.
    ///
    /// # Errors
    ///
    /// If the socket or a request failed. The next call reads everything anew; wait a moment before it.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let event = self.step().await;
        if event.is_err() {
            self.stale = true;
        }
        event
    }

    async fn step(&mut self) -> Result<Event, Error> {
        loop {
            if self.stale {
                return self.snapshot().await.map(Event::Snapshot);
            }
            self.read_links().await?;
            if !self.pending.is_empty() {
                return Ok(Event::Changes(core::mem::take(&mut self.pending)));
            }
            tokio::select! {
                received = self.notifications.receive() => {
                    self.take(received?);
                    self.drain();
                }
                _ = self.timer.tick() => self.touched.extend(&self.watched),
            }
        }
    }

    async fn snapshot(&mut self) -> Result<Vec<Fact>, Error> {
        self.pending.clear();
        self.touched.clear();
        let mut facts = self.requests.dump("links", dump_links, gather).await?;
        let links = facts.iter().filter_map(|fact| match fact {
            Fact::Link(link) => Some((link.ifindex, link.clone())),
            _ => None,
        });
        self.links = links.collect();
        facts.extend(
            self.requests
                .dump("addresses", dump_addresses, gather)
                .await?,
        );
        facts.extend(
            self.requests
                .dump("neighbours", dump_neighbours, gather)
                .await?,
        );
        self.stale = false;
        Ok(facts)
    }

    /// Takes in what else waits, to tell it together.
    fn drain(&mut self) {
        for _ in 1..MAX_DATAGRAMS_PER_EVENT {
            match self.notifications.try_receive() {
                Some(received) => self.take(received),
                None => return,
            }
        }
    }

    fn take(&mut self, received: Received) {
        if received == Received::Overrun {
            tracing::warn!("netlink notifications were lost; reading everything anew");
            self.overruns += 1;
            self.stale = true;
            return;
        }
        for message in self.notifications.messages() {
            match message.and_then(|message| fact(&message)) {
                Ok(None) => {}
                Ok(Some(Fact::Link(link))) => {
                    self.touched.insert(link.ifindex);
                    self.touched.extend(&self.watched);
                }
                Ok(Some(Fact::LinkGone { ifindex })) => {
                    self.touched.remove(&ifindex);
                    self.links.remove(&ifindex);
                    self.pending.push(Fact::LinkGone { ifindex });
                }
                Ok(Some(fact)) => self.pending.push(fact),
                Err(error) => tracing::warn!("a netlink notification is ignored: {error}"),
            }
        }
    }

    /// Reads the links that may have changed, and tells those that did.
    async fn read_links(&mut self) -> Result<(), Error> {
        while let Some(ifindex) = self.touched.first().copied() {
            let name = || format!("read interface {ifindex}");
            let mut found = Vec::new();
            let answer = self
                .requests
                .exchange(
                    &name,
                    |sequence| query_link(sequence, ifindex),
                    |message| gather(&mut found, message),
                )
                .await;
            match answer {
                // The notification of its end is on its way, or was missed: either way it is gone.
                Err(Error::Refused { error, .. }) if error.errno == libc::ENODEV => {
                    if self.links.remove(&ifindex).is_some() {
                        self.pending.push(Fact::LinkGone { ifindex });
                    }
                }
                Err(error) => return Err(error),
                Ok(_) => {
                    for fact in found {
                        self.tell(fact);
                    }
                }
            }
            self.touched.remove(&ifindex);
        }
        Ok(())
    }

    fn tell(&mut self, fact: Fact) {
        if let Fact::Link(link) = &fact {
            let before = self.links.insert(link.ifindex, link.clone());
            if before.as_ref() == Some(link) {
                return;
            }
        }
        self.pending.push(fact);
    }
}

fn gather(facts: &mut Vec<Fact>, message: &Message<'_>) -> Result<(), Malformed> {
    facts.extend(fact(message)?);
    Ok(())
}
