//! What happens to the speaker, as log lines.

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
    malformed: HashMap<PeerId, Malformed>,
}

/// Malformed UPDATEs of a peer: one line at a time, the others counted, because a peer can send millions.
#[derive(Debug)]
struct Malformed {
    told: Instant,
    untold: u64,
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
                let reaction = reaction.to_string();
                return self.malformed(*peer, &reaction);
            }
            _ => {}
        }
        self.line(event);
        if let SpeakerEvent::PeerRemoved { peer, .. } = event {
            self.names.remove(peer);
            self.malformed.remove(peer);
        }
    }

    fn malformed(&mut self, peer: PeerId, reaction: &str) {
        let now = Instant::now();
        let untold = match self.malformed.get_mut(&peer) {
            Some(state) if now.duration_since(state.told) < limits::MALFORMED_LOG_PAUSE => {
                state.untold += 1;
                return;
            }
            Some(state) => state.untold,
            None => 0,
        };
        let told = Malformed {
            told: now,
            untold: 0,
        };
        self.malformed.insert(peer, told);
        tracing::warn!(peer = self.name(peer), reaction, untold, "malformed UPDATE");
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
            // Written by `malformed`.
            E::MalformedUpdate { .. } => {}
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
            E::Refused {
                remote,
                reason,
                total,
            } => tracing::warn!(%remote, %reason, total, "connection refused"),
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
