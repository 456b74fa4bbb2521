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

mod config;
mod view;

use core::net::IpAddr;
use std::collections::BTreeMap;

use bytes::Bytes;

pub use config::{
    FamilySession, MedConfig, MissingMed, NextHopMode, PeerKind, RibConfig, RibSession,
};
pub use view::{
    AdvertisedView, Cursor, DecisionStep, Explanation, ExportStatus, FamilySummary, Ineligible,
    Page, PathStatus, PathView, PeerCounts, RouteFilter, RouteView, RuleName, Summary,
};

use crate::fib::FibDelta;
use crate::origin::Originated;
use crate::types::{Family, PeerId, Prefix};
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
    config: RibConfig,
    sessions: BTreeMap<PeerId, RibSession>,
    originated: Vec<Originated>,
    held: bool,
}

impl Rib {
    /// An empty RIB.
    #[must_use]
    pub fn new(config: RibConfig) -> Self {
        Self {
            config,
            sessions: BTreeMap::new(),
            originated: Vec::new(),
            held: false,
        }
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &RibConfig {
        &self.config
    }

    /// Changes the configuration; everything is decided anew at the next flushes.
    pub fn set_config(&mut self, config: RibConfig) {
        self.config = config;
    }

    /// A session is established: paths may come, and the table is sent to it. Paths kept from its last session
    /// ([`Self::peer_down`]) stay, stale, until replaced or swept.
    ///
    /// # Errors
    ///
    /// If the RIB holds paths of too many sessions.
    pub fn peer_up(&mut self, peer: PeerId, session: RibSession) -> Result<(), RibError> {
        self.sessions.insert(peer, session);
        Ok(())
    }

    /// The session is gone, and with it its paths, but those of the families to `retain`: they become stale (RFC 4724
    /// 4.2).
    pub fn peer_down(&mut self, peer: PeerId, retain: &[Family]) {
        let _ = retain;
        self.sessions.remove(&peer);
    }

    /// New facts for an established session: policies, next hops. What differs is imported and sent again; the peer need
    /// not be asked. Kind, ASes and addresses must be those of the session.
    pub fn set_session(&mut self, peer: PeerId, session: RibSession) {
        self.sessions.insert(peer, session);
    }

    /// Applies an UPDATE of an established session.
    pub fn handle_update(&mut self, peer: PeerId, update: &Update) {
        let _ = (peer, update);
    }

    /// Paths of this peer that are still stale go (RFC 4724 4.2: after End-of-RIB, or when the time is up).
    pub fn sweep_stale(&mut self, peer: PeerId, family: Family) {
        let _ = (peer, family);
    }

    /// The peer begins to send everything again (RFC 7313 BoRR, or our own ROUTE-REFRESH): all its paths become stale.
    pub fn begin_refresh(&mut self, peer: PeerId, family: Family) {
        let _ = (peer, family);
    }

    /// It has sent everything (EoRR): what is still stale goes.
    pub fn end_refresh(&mut self, peer: PeerId, family: Family) {
        self.sweep_stale(peer, family);
    }

    /// The peer asks for everything again (RFC 2918).
    pub fn refresh_out(&mut self, peer: PeerId, family: Family) {
        let _ = (peer, family);
    }

    /// Replaces the prefixes that this speaker originates.
    pub fn set_originated(&mut self, originated: Vec<Originated>) {
        self.originated = originated;
    }

    /// A next hop is reachable at this cost, or not reachable.
    pub fn next_hop_changed(&mut self, key: NextHopKey, metric: Option<u32>) {
        let _ = (key, metric);
    }

    /// Replaces the list of own addresses: a next hop among them is refused (RFC 4271 5.1.3).
    pub fn set_own_addresses(&mut self, addresses: Vec<IpAddr>) {
        let _ = addresses;
    }

    /// Next hops to be watched or no longer.
    pub fn poll_next_hop_interest(&mut self) -> Option<NextHopInterest> {
        None
    }

    /// Withholds all advertisements and FIB changes while routes are still being learned after a restart (RFC 4724 4.1).
    pub fn hold_output(&mut self, hold: bool) {
        self.held = hold;
    }

    /// Walks over at most `max_destinations` for what is too much for one go (paths of a dead session, a policy change,
    /// next hops). Returns whether there is more.
    pub fn work(&mut self, max_destinations: usize) -> bool {
        let _ = max_destinations;
        false
    }

    /// Decides for at most `max_destinations` that input has touched and hands the results on. Returns whether there is
    /// more.
    pub fn flush(&mut self, max_destinations: usize) -> bool {
        let _ = max_destinations;
        false
    }

    /// The changes of the FIB so far, of at most `max_routes` routes; `None` if there are none.
    pub fn poll_fib(&mut self, max_routes: usize) -> Option<FibDelta> {
        let _ = max_routes;
        None
    }

    /// Whole messages to send to the peer, about `max_bytes` of them (never less than one message); `None` if there is
    /// nothing. End-of-RIB follows each family's table.
    pub fn poll_transmit(&mut self, peer: PeerId, max_bytes: usize) -> Option<Bytes> {
        let _ = (peer, max_bytes);
        None
    }

    /// Routes of the Loc-RIB with all their paths, at most `limit`.
    #[must_use]
    pub fn routes(&self, filter: RouteFilter, cursor: Cursor, limit: usize) -> Page<RouteView> {
        let _ = (filter, cursor, limit);
        Page {
            items: Vec::new(),
            next: None,
        }
    }

    /// Paths received from a peer, rejected ones included, at most `limit`.
    #[must_use]
    pub fn received(
        &self,
        peer: PeerId,
        family: Family,
        cursor: Cursor,
        limit: usize,
    ) -> Page<(Prefix, PathView)> {
        let _ = (peer, family, cursor, limit);
        Page {
            items: Vec::new(),
            next: None,
        }
    }

    /// Prefixes advertised to a peer, at most `limit`.
    #[must_use]
    pub fn advertised(
        &self,
        peer: PeerId,
        family: Family,
        cursor: Cursor,
        limit: usize,
    ) -> Page<AdvertisedView> {
        let _ = (peer, family, cursor, limit);
        Page {
            items: Vec::new(),
            next: None,
        }
    }

    /// Why a prefix is where it is.
    #[must_use]
    pub fn explain(&self, prefix: Prefix) -> Explanation {
        Explanation {
            prefix,
            paths: Vec::new(),
            covered_by: None,
            exports: Vec::new(),
        }
    }

    /// Counts of a peer, for max-prefix and the API. `received` is before policy: what a peer sends costs memory whether
    /// policy likes it or not.
    #[must_use]
    pub fn counts(&self, peer: PeerId, family: Family) -> PeerCounts {
        let _ = (peer, family);
        PeerCounts::default()
    }

    /// Figures of the whole.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::default()
    }
}
