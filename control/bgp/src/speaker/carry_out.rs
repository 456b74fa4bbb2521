//! Effects of the peers' state machines: to the RIB and to the outside.

use super::{Output, ResetCause, Speaker};
use crate::rib::{PeerKind, RibSession};
use crate::session::{Connection, Effect, End, Local, Next, Peer};
use crate::time::Time;
use crate::types::{Family, PeerId};
use crate::wire::notification::{cease, code};
use crate::wire::{DecoderConfig, Notification};

impl Speaker {
    /// Carries out what the state machine of `id` asked for.
    pub(super) fn carry_out(&mut self, now: Time, id: PeerId) {
        let mut effects = core::mem::take(&mut self.effects);
        let mut recheck_deferral = false;
        let mut out_of_resources = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Connect { conn } => self.connect(id, conn),
                Effect::Start { conn, open } => self.start(id, conn, open),
                Effect::Send { conn, bytes } => {
                    self.outputs.push_back(Output::Transmit { conn, bytes })
                }
                Effect::Close { conn, abort } => {
                    self.conns.remove(&conn);
                    self.outputs.push_back(Output::Close { conn, abort });
                }
                Effect::Up => {
                    out_of_resources |= !self.session_up(id);
                    recheck_deferral = true;
                }
                Effect::Down { retained } => {
                    let families: Vec<Family> = retained.iter().collect();
                    self.rib.peer_down(id, &families);
                    self.transmission.rib_touched();
                    recheck_deferral = true;
                }
                Effect::RefreshOut(family) => {
                    self.rib.refresh_out(id, family);
                    self.transmission.rib_touched();
                }
                Effect::BeginRefresh(family) => self.rib.begin_refresh(id, family),
                Effect::Sweep(family, cause) => {
                    self.rib.sweep_stale(id, family);
                    self.transmission.rib_touched();
                    self.outputs
                        .push_back(Output::Event(super::SpeakerEvent::StaleSwept {
                            peer: id,
                            family,
                            cause,
                        }));
                }
                Effect::Event(event) => self.outputs.push_back(Output::Event(event)),
            }
        }
        // Effects of the effects land in a new vector; keep the larger one.
        if self.effects.is_empty() {
            self.effects = effects;
        }
        if out_of_resources {
            let notification = Notification::new(code::CEASE, cease::OUT_OF_RESOURCES);
            let end = End::stop(
                ResetCause::OutOfResources,
                notification,
                Next::Idle { damp: true },
            );
            self.with_peer(now, id, |peer, ctx| peer.end_session(ctx, end));
        }
        if recheck_deferral {
            self.check_deferral(now);
        }
    }

    fn connect(&mut self, id: PeerId, conn: crate::types::ConnId) {
        let Some(entry) = self.peers.get(&id) else {
            return;
        };
        let config = &entry.peer.config;
        self.conns.insert(conn, id);
        self.outputs.push_back(Output::Connect {
            conn,
            peer: id,
            remote: config.socket(),
            local: config.session.local_address,
            options: config.session.transport.clone(),
        });
    }

    fn start(&mut self, id: PeerId, conn: crate::types::ConnId, open: Box<crate::wire::Open>) {
        let Some(entry) = self.peers.get(&id) else {
            return;
        };
        let confederation = self.local.confederation.as_ref();
        // Who is shown another AS than the member one is outside.
        let inside = confederation.filter(|_| open.asn == self.local.asn);
        let members = inside.map(|it| it.members.iter().copied().collect());
        self.outputs.push_back(Output::Start {
            conn,
            peer: id,
            open,
            decoder: DecoderConfig {
                confederation_members: members.unwrap_or_default(),
                ..DecoderConfig::default()
            },
            options: entry.peer.config.session.transport.clone(),
        });
    }

    /// Whether the RIB has taken the session in.
    fn session_up(&mut self, id: PeerId) -> bool {
        let Some(entry) = self.peers.get_mut(&id) else {
            return true;
        };
        entry.end_of_rib_sent = [false; Family::ALL.len()];
        let session = entry
            .peer
            .session()
            .and_then(|conn| rib_session(&self.local, &entry.peer, conn));
        let Some(session) = session else {
            return true;
        };
        self.transmission.rib_touched();
        self.rib.peer_up(id, session).is_ok()
    }
}

/// What the RIB needs to know of an established session.
pub(super) fn rib_session(
    local: &Local,
    peer: &Peer,
    connection: &Connection,
) -> Option<RibSession> {
    let negotiated = connection.negotiated.as_ref()?;
    let config = &peer.config.session;
    let local_asn = connection.local_open.asn;
    let kind = if negotiated.remote_asn == local_asn {
        PeerKind::Internal {
            client: config.route_reflector_client,
        }
    } else if local_asn == local.asn && local.is_member(negotiated.remote_asn) {
        PeerKind::Confederation
    } else {
        PeerKind::External
    };
    let families: Vec<_> = config
        .families
        .iter()
        .filter(|family| negotiated.families.contains(family.family))
        .map(|family| (family.family, family.routing.clone()))
        .collect();
    let path = &connection.path;
    let mut session = RibSession::new(
        kind,
        (local_asn, path.local.ip().to_canonical()),
        (
            negotiated.remote_asn,
            negotiated.remote_router_id,
            path.remote.ip().to_canonical(),
        ),
        &families,
    );
    if let Some(link) = &path.link {
        session.link = Some(link.index);
        session.subnets = link.subnets.clone();
        session.local_ipv4 = link.ipv4;
        session.local_ipv6 = link.ipv6;
        session.local_link_local = link.link_local;
    }
    session.enforce_first_as = config.enforce_first_as && kind == PeerKind::External;
    session.allow_own_as = config.allow_own_as;
    session.as4 = negotiated.as4;
    session.max_message_bytes = if negotiated.extended_message_send {
        u16::MAX
    } else {
        4096
    };
    session.enhanced_refresh = negotiated.enhanced_refresh;
    Some(session)
}
