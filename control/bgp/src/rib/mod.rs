//! The RIBs (RFC 4271 3.2) and what happens between them.
//!
//! ```text
//!  UPDATE ──import policy──▶ Adj-RIB-In ──decision──▶ Loc-RIB ──export policy──▶ Adj-RIB-Out ──▶ UPDATEs
//!  (attributes interned)     (the paths of   (marks in   │       (once per update group)
//!                             a destination)  the paths) └──▶ FibDelta
//! ```
//!
//! Input only marks destinations; [`Rib::flush`] decides and sends. Whoever has more input at hand applies it first and
//! flushes later: that is what keeps ten peers that withdraw together from causing ten rounds of path hunting.
//!
//! Polling order after any input: [`Rib::work`] until it says done, [`Rib::flush`] until it says done,
//! [`Rib::poll_fib`], [`Rib::poll_next_hop_interest`], and [`Rib::poll_transmit`] for every peer whose transport has room.

mod adj_out;
mod attributes;
mod audience;
mod bits;
mod catch_up;
mod config;
mod decision;
mod encode;
mod export;
mod family;
mod group;
mod import;
mod limits;
mod loc_rib;
mod next_hop;
mod query;
mod source;
mod table;
mod view;
mod walk;
mod weight;

use core::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use attributes::AttributeStore;
pub use config::{
    Confederation, FamilySession, LinkBandwidthMode, MedConfig, MissingMed, NextHopMode, PeerKind,
    RibConfig, RibSession,
};
use family::{Common, FamilyRib};
use next_hop::{NextHopSets, NextHops};

pub use view::{
    AdvertisedView, Cursor, DecisionStep, Explanation, ExportStatus, FamilySummary, Ineligible,
    Page, PathStatus, PathView, PeerCounts, RouteFilter, RouteView, RuleName, Summary,
};

use crate::fib::FibDelta;
use crate::origin::{self, Originated};
use crate::types::{Family, PeerId, Prefix, Prefix4, Prefix6};
use crate::wire::Update;

/// A next hop whose reachability the RIB wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHopKey {
    /// Address.
    pub addr: IpAddr,
    /// Interface index, where the address is link-local.
    pub link: Option<u32>,
}

/// A change of interest in a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopInterest {
    /// Say with [`Rib::next_hop_changed`] whether it is reachable, and whenever that changes.
    Track(NextHopKey),
    /// No longer needed.
    Release(NextHopKey),
}

/// Why the RIB refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RibError {
    /// Too many sessions, counting those whose paths are still being removed.
    #[error(
        "the RIB holds paths of {limit} sessions, its limit; try again when old paths are gone"
    )]
    TooManySessions {
        /// The limit.
        limit: usize,
    },
}

/// Adj-RIB-In, Loc-RIB and Adj-RIB-Out of a speaker.
#[derive(Debug)]
pub struct Rib {
    common: Common,
    v4: FamilyRib<Prefix4>,
    v6: FamilyRib<Prefix6>,
    held: bool,
    /// Which family is asked first for output, in turn, so that a large table of one does not keep the other waiting.
    turn: Family,
}

impl Rib {
    /// An empty RIB.
    #[must_use]
    pub fn new(config: RibConfig) -> Self {
        let seed = config.hash_seed;
        Self {
            v4: FamilyRib::new(seed),
            v6: FamilyRib::new(seed),
            common: Common {
                store: AttributeStore::new(&config),
                next_hops: NextHops::new(config.assume_reachable, seed),
                sets: NextHopSets::new(seed),
                config,
            },
            held: false,
            turn: Family::Ipv4Unicast,
        }
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &RibConfig {
        &self.common.config
    }

    /// Changes the configuration; what it touches is imported and decided anew in [`Self::work`]. `hash_seed`,
    /// `install_routes` and `assume_reachable` stay as they were.
    pub fn set_config(&mut self, config: RibConfig) {
        let old = core::mem::replace(&mut self.common.config, config);
        let new = &mut self.common.config;
        new.hash_seed = old.hash_seed;
        new.install_routes = old.install_routes;
        new.assume_reachable = old.assume_reachable;
        if *new == old {
            return;
        }
        self.common.store.configure(new);
        let identity = |config: &RibConfig| {
            let identifier = config.confederation.as_ref().map(|it| it.identifier);
            (
                config.local_asn,
                config.router_id,
                config.cluster_id,
                identifier,
            )
        };
        if identity(new) != identity(&old) {
            self.v4.import_all();
            self.v6.import_all();
        }
        self.v4.decide_all();
        self.v6.decide_all();
    }

    /// A session is established: paths may come, and the table is sent to it. Paths kept from its last session
    /// ([`Self::peer_down`]) stay, stale, until replaced or swept.
    ///
    /// # Errors
    ///
    /// If the RIB holds paths of too many sessions; the peer is then not known to the RIB.
    pub fn peer_up(&mut self, peer: PeerId, session: RibSession) -> Result<(), RibError> {
        let session = Arc::new(session);
        self.v4.peer_up(peer, &session, &mut self.common)?;
        if let Err(error) = self.v6.peer_up(peer, &session, &mut self.common) {
            self.v4.peer_down(peer, false, &mut self.common);
            return Err(error);
        }
        Ok(())
    }

    /// The session is gone, and with it its paths, but those of the families to `retain`: they become stale (RFC 4724
    /// 4.2). Called again without a session, it drops what was retained.
    pub fn peer_down(&mut self, peer: PeerId, retain: &[Family]) {
        self.v4.peer_down(
            peer,
            retain.contains(&Family::Ipv4Unicast),
            &mut self.common,
        );
        self.v6.peer_down(
            peer,
            retain.contains(&Family::Ipv6Unicast),
            &mut self.common,
        );
    }

    /// New facts for an established session: policies, next hops. What differs is imported and sent again; the peer need
    /// not be asked. Kind, ASes and addresses must be those of the session.
    pub fn set_session(&mut self, peer: PeerId, session: RibSession) {
        let session = Arc::new(session);
        self.v4.set_session(peer, &session, &mut self.common);
        self.v6.set_session(peer, &session, &mut self.common);
    }

    /// Applies an UPDATE of an established session.
    pub fn handle_update(&mut self, peer: PeerId, update: Update) {
        self.v4.withdraw(peer, &update.withdrawn4, &mut self.common);
        self.v6.withdraw(peer, &update.withdrawn6, &mut self.common);
        if let Some(reach) = update.reach4 {
            self.v4.announce(peer, reach, &mut self.common);
        }
        if let Some(reach) = update.reach6 {
            self.v6.announce(peer, reach, &mut self.common);
        }
    }

    /// Paths of this peer that are still stale go (RFC 4724 4.2: after End-of-RIB, or when the time is up).
    pub fn sweep_stale(&mut self, peer: PeerId, family: Family) {
        match family {
            Family::Ipv4Unicast => self.v4.kill_stale(peer),
            Family::Ipv6Unicast => self.v6.kill_stale(peer),
        }
    }

    /// The peer begins to send everything again (RFC 7313 BoRR): all its paths become stale.
    pub fn begin_refresh(&mut self, peer: PeerId, family: Family) {
        match family {
            Family::Ipv4Unicast => self.v4.begin_refresh(peer),
            Family::Ipv6Unicast => self.v6.begin_refresh(peer),
        }
    }

    /// It has sent everything (EoRR): what is still stale goes.
    pub fn end_refresh(&mut self, peer: PeerId, family: Family) {
        self.sweep_stale(peer, family);
    }

    /// The peer asks for everything again (RFC 2918).
    pub fn refresh_out(&mut self, peer: PeerId, family: Family) {
        match family {
            Family::Ipv4Unicast => self.v4.refresh_out(peer, &self.common),
            Family::Ipv6Unicast => self.v6.refresh_out(peer, &self.common),
        }
    }

    /// Replaces the prefixes that this speaker originates. Of a prefix listed twice the last one counts.
    pub fn set_originated(&mut self, originated: Vec<Originated>) {
        self.v4
            .set_originated(origin::of_family(&originated), &mut self.common);
        self.v6
            .set_originated(origin::of_family(&originated), &mut self.common);
    }

    /// A next hop is reachable at this cost, or not reachable.
    pub fn next_hop_changed(&mut self, key: NextHopKey, metric: Option<u32>) {
        if self.common.next_hops.set_metric(key, metric) {
            self.v4.next_hops_changed();
            self.v6.next_hops_changed();
        }
    }

    /// Whether it is still unknown of some next hop if it can be reached: paths by it are not chosen meanwhile.
    #[must_use]
    pub fn awaits_next_hops(&self) -> bool {
        self.common.next_hops.unanswered()
    }

    /// The forwarding tables could not take these prefixes. Until [`Self::program_recovered`] they are neither originated nor
    /// passed on, whatever paths they have: nobody is to send traffic that would be lost here. The decision is not touched.
    pub fn program_failed(&mut self, prefixes: &[Prefix]) {
        self.set_programmed(prefixes, false);
    }

    /// They have taken them after all, or nobody wants it of them any more.
    pub fn program_recovered(&mut self, prefixes: &[Prefix]) {
        self.set_programmed(prefixes, true);
    }

    fn set_programmed(&mut self, prefixes: &[Prefix], programmed: bool) {
        for prefix in prefixes {
            match *prefix {
                Prefix::V4(prefix) => self.v4.set_programmed(prefix, programmed),
                Prefix::V6(prefix) => self.v6.set_programmed(prefix, programmed),
            }
        }
    }

    /// Replaces the list of own addresses: a next hop among them is refused (RFC 4271 5.1.3).
    pub fn set_own_addresses(&mut self, addresses: Vec<IpAddr>) {
        if self.common.next_hops.set_own(addresses) {
            self.v4.next_hops_changed();
            self.v6.next_hops_changed();
        }
    }

    /// Next hops to be watched or no longer.
    pub fn poll_next_hop_interest(&mut self) -> Option<NextHopInterest> {
        self.common.next_hops.poll_interest()
    }

    /// Withholds all decisions, advertisements and FIB changes while routes are still being learned after a restart
    /// (RFC 4724 4.1).
    pub fn hold_output(&mut self, hold: bool) {
        self.held = hold;
    }

    /// Walks over at most `max_destinations` for what is too much for one go (paths of a dead session, a policy change,
    /// next hops). Returns whether there is more.
    pub fn work(&mut self, max_destinations: usize) -> bool {
        let left = self.v4.work(max_destinations, &mut self.common);
        self.v6.work(left, &mut self.common);
        self.v4.has_work() || self.v6.has_work()
    }

    /// Decides for at most `max_destinations` that input has touched and hands the results on. Returns whether there is
    /// more.
    pub fn flush(&mut self, max_destinations: usize) -> bool {
        if self.held {
            return false;
        }
        let left = self.v4.flush(max_destinations, &mut self.common);
        self.v6.flush(left, &mut self.common);
        self.v4.has_dirty() || self.v6.has_dirty()
    }

    /// The changes of the FIB so far, of at most `max_routes` routes; `None` if there are none.
    pub fn poll_fib(&mut self, max_routes: usize) -> Option<FibDelta> {
        let mut delta = FibDelta::default();
        let definitions = self.common.sets.take_definitions();
        delta
            .sets
            .extend(definitions.into_iter().map(|(id, set)| (id, Some(set))));
        self.v4.poll_fib(&mut delta, max_routes);
        let left = max_routes.saturating_sub(delta.routes.len());
        self.v6.poll_fib(&mut delta, left);
        if !self.v4.has_fib() && !self.v6.has_fib() {
            let released = self.common.sets.take_releases(&mut self.common.next_hops);
            delta.sets.extend(released.into_iter().map(|id| (id, None)));
        }
        (!delta.is_empty()).then_some(delta)
    }

    /// Whole messages to send to the peer: about `max_bytes`, or what was encoded at once if that is more (some 64 KiB);
    /// `None` if there is nothing. End-of-RIB follows each family's table.
    pub fn poll_transmit(&mut self, peer: PeerId, max_bytes: usize) -> Option<Bytes> {
        if self.held {
            return None;
        }
        let (v4, v6, common) = (&mut self.v4, &mut self.v6, &self.common);
        match self.turn {
            Family::Ipv4Unicast => {
                self.turn = Family::Ipv6Unicast;
                v4.poll_transmit(peer, max_bytes, common)
                    .or_else(|| v6.poll_transmit(peer, max_bytes, common))
            }
            Family::Ipv6Unicast => {
                self.turn = Family::Ipv4Unicast;
                v6.poll_transmit(peer, max_bytes, common)
                    .or_else(|| v4.poll_transmit(peer, max_bytes, common))
            }
        }
    }
}
