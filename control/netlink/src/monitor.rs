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
//! and all watched ones, at once and in quick succession for a moment; so does a carrier that [`Carriers`] sees change, and
//! watched links are read on a slow timer besides: what is read is the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use causeway_net::{Fact, Link};
use tokio::time::{Instant, sleep_until};

use crate::carrier::Carriers;
use crate::codec::{dump_addresses, dump_links, dump_neighbours, fact, query_link};
use crate::error::Error;
use crate::socket::{Connection, Listing, MAX_DUMP_TRIES, Received, Step};
use crate::wire::{Malformed, Message};

/// `RTNLGRP_LINK`, `RTNLGRP_NEIGH`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`.
const GROUPS: [u32; 4] = [1, 3, 5, 9];
/// What is listed, and the request for it by sequence number.
type List = (&'static str, fn(u32) -> Vec<u8>);
/// What there is to list.
const LISTS: [List; 3] = [
    ("links", dump_links),
    ("addresses", dump_addresses),
    ("neighbours", dump_neighbours),
];
/// How often watched links are read after something happened to one, and for how long: links that fail together fail
/// within milliseconds.
const HURRIED_INTERVAL: Duration = Duration::from_millis(2);
const HURRY: Duration = Duration::from_millis(100);
/// How often they are read when a driver does not tell of its carrier.
const BLIND_INTERVAL: Duration = Duration::from_millis(50);
/// Datagrams handled in one go; then the caller gets what there is.
const MAX_DATAGRAMS_PER_EVENT: usize = 256;

/// How a [`Monitor`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorConfig {
    /// How often watched links are read when nothing seems to happen: for what the kernel forgot to tell, because their
    /// carriers are watched apart.
    pub link_interval: Duration,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            link_interval: Duration::from_secs(10),
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
    /// Everything is being read anew.
    snapshot: Option<Snapshot>,
    /// Notifications were lost while everything was being read: once more.
    again: bool,
    /// Links as last told, to tell changes only.
    links: BTreeMap<u32, Link>,
    watched: BTreeSet<u32>,
    carriers: Carriers,
    /// Watched links by the names under which [`Self::carriers`] looks at them.
    names: BTreeMap<u32, String>,
    link_interval: Duration,
    /// When watched links are read next.
    next_read: Instant,
    /// Until then they are read in quick succession.
    hurry_until: Instant,
    /// Changes gathered and not told yet; kept here, so that cancelling loses none.
    pending: Vec<Fact>,
    /// Links to be read.
    touched: BTreeSet<u32>,
    overruns: u64,
}

/// How far a reading of everything has come. Kept in the monitor, so that cancelling loses nothing.
#[derive(Default)]
struct Snapshot {
    /// How many of [`LISTS`] are complete.
    lists: usize,
    listing: Option<Listing>,
    /// Of the list that is being read.
    part: Vec<Fact>,
    facts: Vec<Fact>,
    /// How often the list that is being read changed meanwhile.
    tries: u32,
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
        let now = Instant::now();
        Ok(Self {
            notifications,
            requests: Connection::open()?,
            snapshot: Some(Snapshot::default()),
            again: false,
            links: BTreeMap::new(),
            watched: BTreeSet::new(),
            carriers: Carriers::open().map_err(Error::Carrier)?,
            names: BTreeMap::new(),
            link_interval: config.link_interval.max(HURRIED_INTERVAL),
            next_read: now,
            hurry_until: now,
            pending: Vec::new(),
            touched: BTreeSet::new(),
            overruns: 0,
        })
    }

    /// Which links to read on the timer: those whose loss must be seen at once. One that is new is read at once.
    pub fn watch(&mut self, links: impl IntoIterator<Item = u32>) {
        let watched: BTreeSet<u32> = links.into_iter().collect();
        self.touched.extend(watched.difference(&self.watched));
        self.watched = watched;
    }

    /// How often notifications were lost and everything was read anew.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// The next event; the first is a snapshot. Cancelling it loses nothing, whatever it is about.
    ///
    /// # Errors
    ///
    /// If the socket or a request failed. The next call reads everything anew; wait a moment before it.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let event = self.step().await;
        if event.is_err() {
            self.snapshot = Some(Snapshot::default());
            // The kernel may be in the middle of an answer, and would refuse the next question.
            self.requests = Connection::open()?;
        }
        event
    }

    async fn step(&mut self) -> Result<Event, Error> {
        loop {
            if self.snapshot.is_some() {
                if let Some(facts) = self.read_on().await? {
                    return Ok(Event::Snapshot(facts));
                }
                continue;
            }
            self.read_links().await?;
            self.watch_carriers();
            if !self.pending.is_empty() {
                return Ok(Event::Changes(core::mem::take(&mut self.pending)));
            }
            tokio::select! {
                received = self.notifications.receive() => {
                    self.take(received?);
                    self.drain();
                }
                () = sleep_until(self.next_read) => self.time_to_read(),
                () = self.carriers.changed() => {
                    self.touched.extend(&self.watched);
                    self.hurry();
                }
            }
        }
    }

    fn time_to_read(&mut self) {
        self.touched.extend(&self.watched);
        let now = Instant::now();
        let pause = if now < self.hurry_until {
            HURRIED_INTERVAL
        } else if self.carriers.blind() {
            self.link_interval.min(BLIND_INTERVAL)
        } else {
            self.link_interval
        };
        self.next_read = now + pause;
    }

    /// Has the carriers of the watched links looked at, by the names that they have now.
    fn watch_carriers(&mut self) {
        let name = |ifindex: &u32| Some((*ifindex, self.links.get(ifindex)?.name.clone()));
        let names: BTreeMap<u32, String> = self.watched.iter().filter_map(name).collect();
        if names != self.names {
            self.carriers.watch(names.values().map(String::as_str));
            self.names = names;
        }
    }

    /// Something happened to a link: more will follow at once, and the kernel may tell of it a second late.
    fn hurry(&mut self) {
        let now = Instant::now();
        self.hurry_until = now + HURRY;
        self.next_read = self.next_read.min(now + HURRIED_INTERVAL);
        self.carriers.hurry();
    }

    /// Reads a piece of everything; all of it when it is complete.
    async fn read_on(&mut self) -> Result<Option<Vec<Fact>>, Error> {
        let Some(snapshot) = self.snapshot.as_mut() else {
            return Ok(None);
        };
        let Some((what, build)) = LISTS.get(snapshot.lists) else {
            return Ok(self.complete());
        };
        let listing = match &mut snapshot.listing {
            Some(listing) => listing,
            none => none.insert(self.requests.begin(what, build)?),
        };
        let part = &mut snapshot.part;
        let read = self.requests.step(listing, |message| gather(part, message));
        match read.await? {
            Step::More => return Ok(None),
            Step::Done => {
                snapshot.facts.append(&mut snapshot.part);
                snapshot.lists += 1;
                snapshot.tries = 0;
            }
            Step::Interrupted if snapshot.tries + 1 >= MAX_DUMP_TRIES => {
                let tries = MAX_DUMP_TRIES;
                return Err(Error::Restless { what, tries });
            }
            Step::Interrupted => {
                snapshot.part.clear();
                snapshot.tries += 1;
            }
        }
        snapshot.listing = None;
        Ok(None)
    }

    /// Everything has been read.
    fn complete(&mut self) -> Option<Vec<Fact>> {
        let facts = self.snapshot.take()?.facts;
        if core::mem::take(&mut self.again) {
            self.snapshot = Some(Snapshot::default());
            return None;
        }
        // What was told meanwhile is in the lists, or waits to be read.
        self.pending.clear();
        let links = facts.iter().filter_map(|fact| match fact {
            Fact::Link(link) => Some((link.ifindex, link.clone())),
            _ => None,
        });
        self.links = links.collect();
        self.time_to_read();
        Some(facts)
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
            self.again = self.snapshot.is_some();
            self.snapshot.get_or_insert_default();
            return;
        }
        let mut touched = BTreeSet::new();
        for message in self.notifications.messages() {
            match message.and_then(|message| fact(&message)) {
                Ok(None) => {}
                Ok(Some(Fact::Link(link))) => {
                    touched.insert(link.ifindex);
                }
                Ok(Some(Fact::LinkGone { ifindex })) => {
                    touched.remove(&ifindex);
                    self.touched.remove(&ifindex);
                    // Unless a reading found out before.
                    if self.links.remove(&ifindex).is_some() {
                        self.pending.push(Fact::LinkGone { ifindex });
                    }
                }
                Ok(Some(fact)) => self.pending.push(fact),
                Err(error) => tracing::warn!("a netlink notification is ignored: {error}"),
            }
        }
        if !touched.is_empty() {
            self.touched.append(&mut touched);
            self.touched.extend(&self.watched);
            self.hurry();
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
            self.hurry();
        }
        self.pending.push(fact);
    }
}

fn gather(facts: &mut Vec<Fact>, message: &Message<'_>) -> Result<(), Malformed> {
    facts.extend(fact(message)?);
    Ok(())
}
