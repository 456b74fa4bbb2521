//! What happens to the speaker, as log lines.

use std::collections::HashMap;
use std::sync::Arc;

use causeway_bgp::speaker::{Reset, SpeakerEvent};
use causeway_bgp::types::PeerId;

/// Writes one line, and keeps the names of peers.
pub(super) fn event(names: &mut HashMap<PeerId, Arc<str>>, event: &SpeakerEvent) {
    use SpeakerEvent as E;
    if let E::PeerAdded { peer, name } = event {
        names.insert(*peer, name.clone());
    }
    let name = |peer: &PeerId| names.get(peer).map_or("?", |name| &**name).to_owned();
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
        } => tracing::warn!(peer = name(peer), %family, received, limit, "prefix limit is near"),
        E::MalformedUpdate { peer, reaction } => {
            tracing::warn!(peer = name(peer), %reaction, "malformed UPDATE");
        }
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
    if let E::PeerRemoved { peer, .. } = event {
        names.remove(peer);
    }
}

fn sent(reset: &Reset) -> String {
    reset
        .sent
        .as_ref()
        .map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
