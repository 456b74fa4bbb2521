//! The views of the peers.

use core::time::Duration;

use super::{Entry, NegotiatedView, NeighborFamily, NeighborView, Speaker, TimersView};
use crate::config::RemoteAs;
use crate::rib::Rib;
use crate::session::{Connection, Peer};
use crate::time::Time;
use crate::types::{Asn, Family, PeerId};

impl Speaker {
    /// Every peer, in the order of its number.
    #[must_use]
    pub fn neighbors(&self, now: Time) -> Vec<NeighborView> {
        self.peers
            .keys()
            .filter_map(|id| self.neighbor(now, *id))
            .collect()
    }

    /// One peer.
    #[must_use]
    pub fn neighbor(&self, now: Time, id: PeerId) -> Option<NeighborView> {
        let entry = self.peers.get(&id)?;
        let Entry { peer, counters, .. } = entry;
        let config = &peer.config.session;
        let connection = peer.connection();
        let remote_open = connection.and_then(|c| c.remote_open.as_ref());
        let local_asn = self.local.asn_towards(config);
        let remote_asn = remote_open
            .map(|open| open.asn)
            .or(expected_asn(config.remote_as, local_asn));
        Some(NeighborView {
            id,
            name: peer.config.name.clone(),
            dynamic: peer.group.is_some(),
            address: peer.config.remote,
            scope: peer.config.scope,
            local_asn,
            remote_asn,
            remote_router_id: remote_open.map(|open| open.router_id),
            internal: remote_asn.map(|asn| asn == local_asn),
            confederation: local_asn == self.local.asn
                && remote_asn.is_some_and(|asn| self.local.is_member(asn)),
            state: peer.history.state,
            admin_down: peer.is_down(),
            passive: peer.config.passive,
            state_since: peer.history.state_since,
            sockets: connection.map(|c| (c.path.local, c.path.remote)),
            last_reset: peer.history.last_reset.clone(),
            last_error: peer.history.last_error.clone(),
            flaps: peer.history.flaps,
            established: peer.history.established,
            counters: *counters,
            families: config
                .families
                .iter()
                .map(|family| family_view(&self.rib, entry, family.family))
                .collect(),
            timers: timers(now, peer, connection),
            local_capabilities: connection
                .map_or_else(|| self.local.open(config, false), |c| c.local_open.clone())
                .capabilities,
            remote_capabilities: remote_open
                .map(|open| open.capabilities.clone())
                .unwrap_or_default(),
            negotiated: peer.session().and_then(negotiated),
            in_flight_bytes: connection.map_or(0, |c| c.in_flight),
        })
    }
}

fn expected_asn(remote: RemoteAs, local: Asn) -> Option<Asn> {
    match remote {
        RemoteAs::Exactly(asn) => Some(asn),
        RemoteAs::Internal => Some(local),
        RemoteAs::External | RemoteAs::Any => None,
    }
}

fn family_view(rib: &Rib, entry: &Entry, family: Family) -> NeighborFamily {
    let peer = &entry.peer;
    let counts = rib.counts(peer.id, family);
    NeighborFamily {
        family,
        negotiated: peer
            .session()
            .and_then(|c| c.negotiated.as_ref())
            .is_some_and(|n| n.families.contains(family)),
        received: counts.received,
        accepted: counts.accepted,
        advertised: counts.advertised,
        stale: counts.stale,
        max_prefixes: peer
            .config
            .session
            .family(family)
            .and_then(|config| config.max_prefixes)
            .map(|max| max.limit),
        end_of_rib_received: peer.end_of_rib.contains(family),
        end_of_rib_sent: entry.end_of_rib_sent[family.index()],
    }
}

fn timers(now: Time, peer: &Peer, connection: Option<&Connection>) -> TimersView {
    let configured = &peer.config.session.timers;
    let times = connection.and_then(Connection::times);
    let mut running: Vec<_> = peer
        .timers
        .running()
        .chain(connection.into_iter().flat_map(|c| c.timers.running()))
        .map(|(kind, at)| (kind, at.saturating_since(now)))
        .collect();
    running.sort_unstable();
    TimersView {
        hold_configured: configured.hold,
        keepalive_configured: configured.keepalive,
        hold: times.map(|(hold, _): (Duration, Duration)| hold),
        keepalive: times.map(|(_, keepalive)| keepalive),
        running,
    }
}

fn negotiated(session: &Connection) -> Option<NegotiatedView> {
    let negotiated = session.negotiated.as_ref()?;
    Some(NegotiatedView {
        families: negotiated.families.iter().collect(),
        four_octet_as: negotiated.as4,
        route_refresh: negotiated.route_refresh,
        enhanced_refresh: negotiated.enhanced_refresh,
        extended_messages: negotiated.extended_message_send,
        graceful_restart: negotiated
            .graceful_restart
            .iter()
            .flat_map(|graceful| graceful.families.iter())
            .map(|family| family.family)
            .filter(|family| negotiated.families.contains(*family))
            .collect(),
    })
}
