//! What happens to the speaker, as log lines.

use core::net::SocketAddr;
use std::collections::HashMap;
use std::sync::Arc;

use causeway_bgp::speaker::{Reset, SpeakerEvent};
use causeway_bgp::types::PeerId;
use tokio::time::Instant;

use crate::limits;

/// Writes events, and keeps the names of peers.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    names: HashMap<PeerId, Arc<str>>,
    /// A peer can send millions of malformed UPDATEs.
    malformed: HashMap<PeerId, Paced>,
    /// Anybody can connect as often as they like.
    refused: Paced,
    turned_away: Paced,
}

/// What others can cause without end: one line at a time, the rest counted.
#[derive(Debug, Default)]
struct Paced {
    told: Option<Instant>,
    untold: u64,
}

impl Paced {
    /// Whether a line is due; then how many were left out since the last one.
    fn due(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self
            .told
            .is_some_and(|told| now.duration_since(told) < limits::LOG_PAUSE)
        {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(core::mem::take(&mut self.untold))
    }
}

impl EventLog {
    /// The name of a peer.
    pub(super) fn name(&self, peer: PeerId) -> String {
        let known = self.names.get(&peer);
        known.map_or_else(|| format!("peer-{}", peer.0), |name| name.to_string())
    }

    /// Remembers a name that an event tells.
    pub(crate) fn learn(&mut self, event: &SpeakerEvent) {
        if let SpeakerEvent::PeerAdded { peer, name } = event {
            self.names.insert(*peer, name.clone());
        }
    }

    /// Writes one line at most.
    pub(super) fn write(&mut self, event: &SpeakerEvent) {
        match event {
            SpeakerEvent::PeerAdded { peer, name } => {
                self.names.insert(*peer, name.clone());
            }
            SpeakerEvent::MalformedUpdate { peer, reaction } => {
                if let Some(untold) = self.malformed.entry(*peer).or_default().due() {
                    let peer = self.name(*peer);
                    tracing::warn!(peer, %reaction, untold, "malformed UPDATE");
                }
                return;
            }
            SpeakerEvent::Refused {
                remote,
                reason,
                total,
            } => {
                if let Some(untold) = self.refused.due() {
                    tracing::warn!(%remote, %reason, total, untold, "connection refused");
                }
                return;
            }
            _ => {}
        }
        self.line(event);
        if let SpeakerEvent::PeerRemoved { peer, .. } = event {
            self.names.remove(peer);
            self.malformed.remove(peer);
        }
    }

    /// A connection beyond [`limits::CONNECTIONS`] was closed at once.
    pub(super) fn turned_away(&mut self, remote: Option<SocketAddr>, total: u64) {
        if let Some(untold) = self.turned_away.due() {
            let (limit, remote) = (limits::CONNECTIONS, remote.map(tracing::field::display));
            tracing::warn!(remote, limit, total, untold, "too many connections");
        }
    }

    fn line(&self, event: &SpeakerEvent) {
        use SpeakerEvent as E;
        let name = |peer: &PeerId| self.name(*peer);
        match event {
            E::PeerAdded { name, .. } => tracing::info!(peer = &**name, "peer added"),
            E::PeerRemoved { name, .. } => tracing::info!(peer = &**name, "peer removed"),
            E::StateChanged { peer, from, to } => {
                tracing::debug!(peer = name(peer), %from, %to, "state changed");
            }
            E::SessionUp {
                peer,
                remote_asn,
                remote_router_id,
                families,
            } => tracing::info!(
                peer = name(peer),
                %remote_asn,
                %remote_router_id,
                families = families.iter().map(|f| f.name()).collect::<Vec<_>>().join(","),
                "session established"
            ),
            E::SessionDown {
                peer,
                reset,
                retained,
            } => tracing::warn!(
                peer = name(peer),
                reason = %reset.cause,
                sent = sent(reset),
                retained = retained.iter().map(|f| f.name()).collect::<Vec<_>>().join(","),
                "session down"
            ),
            E::AttemptFailed { peer, reset } => tracing::info!(
                peer = name(peer),
                reason = %reset.cause,
                state = %reset.state,
                sent = sent(reset),
                "attempt failed"
            ),
            E::IdleHold {
                peer,
                duration,
                flaps,
            } => match duration {
                Some(duration) => tracing::info!(peer = name(peer), ?duration, flaps, "held idle"),
                None => tracing::warn!(peer = name(peer), flaps, "held idle until enabled"),
            },
            E::MaxPrefixesWarning {
                peer,
                family,
                received,
                limit,
            } => {
                let what = if received > limit {
                    "more prefixes than the limit"
                } else {
                    "prefix limit is near"
                };
                tracing::warn!(peer = name(peer), %family, received, limit, "{what}");
            }
            // Written by `write`, as often as is good.
            E::MalformedUpdate { .. } | E::Refused { .. } => {}
            E::EndOfRib { peer, family } => {
                tracing::debug!(peer = name(peer), %family, "end of RIB received");
            }
            E::StaleSwept {
                peer,
                family,
                cause,
            } => tracing::info!(peer = name(peer), %family, ?cause, "stale routes removed"),
            E::SelectionResumed { complete } => {
                tracing::info!(complete, "route selection begins after the restart");
            }
            E::Rejected { reason } => tracing::error!(%reason, "not carried out"),
        }
    }
}

fn sent(reset: &Reset) -> String {
    reset
        .sent
        .as_ref()
        .map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
