//! The kernel's own routing table: for what this host sends, and for what the programs hand up.

use causeway_bgp::fib::FibDelta;
use causeway_net::kernel::{KernelSummary, KernelTable, Listing};
use causeway_net::{NetDelta, Network, SetId, Subnet};
use causeway_netlink::{Error, MAX_BATCH, RouteEvent, RouteEvents, RouteNews, RouteWriter};

/// What the table shall hold and holds, and the way to change it.
pub(super) struct Kernel {
    table: KernelTable,
    writer: RouteWriter,
    /// Ticks of the slow timer.
    ticks: u64,
    /// What was said last about what the kernel refuses.
    said: Option<Box<str>>,
    enabled: bool,
}

/// Slow ticks between two looks at the next-hop objects: they go without a word when a link does.
const LOOK_TICKS: u64 = 10;
/// Slow ticks between two looks at all routes.
const LOOK_AT_ROUTES_TICKS: u64 = 300;

impl Kernel {
    /// Opens it in the network namespace of this thread, with the events that others cause.
    pub(super) fn open() -> Result<(Self, RouteEvents), Error> {
        let writer = RouteWriter::open()?;
        let events = RouteEvents::open(&writer)?;
        let kernel = Self {
            table: KernelTable::new(true),
            writer,
            ticks: 0,
            said: None,
            enabled: true,
        };
        Ok((kernel, events))
    }

    /// Whether BGP's routes are put into it.
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Sizes and troubles.
    pub(super) fn summary(&self) -> KernelSummary {
        self.table.summary()
    }

    pub(super) fn table(&mut self) -> &mut KernelTable {
        &mut self.table
    }

    pub(super) fn configure(&mut self, enabled: bool, owned: &[Subnet]) {
        self.enabled = enabled;
        self.table.enable(enabled);
        self.table.own(owned.iter().copied());
    }

    /// BGP's changes.
    pub(super) fn apply_fib(&mut self, delta: &FibDelta) {
        for (set, members) in &delta.sets {
            if let Some(members) = members {
                let hops = members.iter().map(super::hop);
                self.table.define(SetId(set.0), Some(hops.collect()));
            }
        }
        for (prefix, set) in &delta.routes {
            if let Some(subnet) = Subnet::new(prefix.addr(), prefix.len()) {
                self.table.route(subnet, set.map(|set| SetId(set.0)));
            }
        }
        for (set, members) in &delta.sets {
            if members.is_none() {
                self.table.define(SetId(set.0), None);
            }
        }
    }

    /// The network's changes.
    pub(super) fn apply_net(&mut self, delta: &NetDelta) {
        for (key, resolution) in &delta.next_hops {
            self.table.next_hop(*key, resolution.as_ref());
        }
    }

    /// What was found in the kernel, or what others did there.
    pub(super) fn found(&mut self, event: &RouteEvent) {
        match event {
            RouteEvent::ListingBegins => self.table.listing_begins(),
            RouteEvent::Listed(routes) => {
                for route in routes {
                    self.table.found_route(route);
                }
            }
            RouteEvent::ListingEnds => self.table.listing_ends(),
            RouteEvent::NextHops(found) => self.table.found_next_hops(found.iter().cloned()),
            RouteEvent::News(news) => {
                for news in news {
                    match news {
                        RouteNews::Route(route) => self.table.found_route(route),
                        RouteNews::RouteGone(route) => self.table.lost_route(route),
                        RouteNews::NextHop(id) => self.table.next_hop_touched(*id),
                        RouteNews::Link(ifindex) => self.table.link_touched(*ifindex),
                    }
                }
            }
            RouteEvent::Overrun => self.table.verify(true),
        }
    }

    /// The slow timer.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        self.table.retry();
        if self.ticks.is_multiple_of(LOOK_TICKS) {
            self.table
                .verify(self.ticks.is_multiple_of(LOOK_AT_ROUTES_TICKS));
        }
    }

    /// Starts a listing that is wanted, or carries a batch out. Returns whether there may be more.
    pub(super) async fn write(&mut self, events: &mut RouteEvents) -> bool {
        if let Some(listing) = self.table.poll_listing() {
            if let Err(error) = events.list(listing) {
                self.failed(&error);
            }
            return false;
        }
        let Some(batch) = self.table.poll(MAX_BATCH) else {
            self.say();
            return false;
        };
        match self.writer.apply(batch).await {
            Ok(refusals) => self.table.ack(refusals),
            Err(error) => {
                tracing::warn!(%error, "nobody knows what became of some routes; reading them anew");
                self.table.ack_lost();
            }
        }
        self.say();
        true
    }

    /// A listing could not be made.
    pub(super) fn failed(&mut self, error: &Error) {
        tracing::warn!(%error, "the kernel's routes cannot be read");
        self.table.listing_failed();
    }

    /// Tells of a refusal once.
    fn say(&mut self) {
        let error = self.table.error();
        if error != self.said.as_deref() {
            if let Some(error) = error {
                tracing::warn!(error, "the kernel's table is not as it should be");
            }
            self.said = error.map(Into::into);
        }
    }
}

/// What others have in the kernel leads to next hops, and is left to the kernel.
pub(super) fn found(network: &mut Network, event: &RouteEvent) {
    match event {
        RouteEvent::ListingBegins => network.listing_begins(),
        RouteEvent::Listed(routes) => routes.iter().for_each(|route| network.found_route(route)),
        RouteEvent::ListingEnds => network.listing_ends(),
        RouteEvent::News(news) => {
            for news in news {
                match news {
                    RouteNews::Route(route) => network.found_route(route),
                    RouteNews::RouteGone(route) => network.lost_route(route),
                    RouteNews::NextHop(_) | RouteNews::Link(_) => {}
                }
            }
        }
        RouteEvent::NextHops(_) | RouteEvent::Overrun => {}
    }
}

/// Which listing comes first when both are wanted: routes mean something only beside the objects that they use.
const _: () = assert!((Listing::NextHops as u8) < (Listing::Routes as u8));
