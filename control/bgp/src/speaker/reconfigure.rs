//! A new configuration, with the least effect that brings it about.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::admission::contains;
use super::carry_out::rib_session;
use super::{Output, ResetCause, Speaker};
use crate::config::{PeerConfig, ShutdownMessage, SpeakerConfig};
use crate::session::change::{Change, change};
use crate::session::{Effect, End, Event, Next, cease_with};
use crate::time::Time;
use crate::types::PeerId;
use crate::wire::Notification;
use crate::wire::notification::{cease, code};

impl Speaker {
    /// Replaces the configuration, or tells why not.
    pub(super) fn reconfigure(&mut self, now: Time, new: SpeakerConfig) {
        if let Err(error) = new.validate() {
            self.reject(&error.to_string());
            return;
        }
        let listened = self.listen();
        let old = core::mem::replace(&mut self.config, new);
        self.replace_speaker(now, &old);
        self.replace_peers(now);
        self.replace_groups(now);
        if listened != self.listen() {
            self.outputs.push_back(Output::Listen);
        }
    }

    /// What concerns the speaker as a whole.
    fn replace_speaker(&mut self, now: Time, old: &SpeakerConfig) {
        let new = &self.config;
        if new.rib != old.rib {
            self.rib.set_config(new.rib.clone());
        }
        if new.own_addresses != old.own_addresses {
            self.rib.set_own_addresses(new.own_addresses.clone());
        }
        if new.originated != old.originated {
            self.rib.set_originated(new.originated.clone());
        }
        self.transmission.rib_touched();
        self.local.hostname.clone_from(&new.hostname);
        let identity = (new.rib.local_asn, new.rib.router_id);
        let field = if identity != (self.local.asn, self.local.router_id) {
            Some("asn or router_id")
        } else if new.rib.confederation != self.local.confederation {
            Some("confederation")
        } else {
            None
        };
        (self.local.asn, self.local.router_id) = identity;
        self.local.confederation.clone_from(&new.rib.confederation);
        if let Some(field) = field {
            for id in self.peer_ids() {
                self.reset(now, id, field);
            }
        }
    }

    fn replace_peers(&mut self, now: Time) {
        let mut wanted: BTreeMap<Arc<str>, PeerConfig> = self
            .config
            .peers
            .iter()
            .map(|peer| (Arc::clone(&peer.name), peer.clone()))
            .collect();
        for id in self.peer_ids() {
            let Some(entry) = self
                .peers
                .get(&id)
                .filter(|entry| entry.peer.group.is_none())
            else {
                continue;
            };
            match wanted.remove(&entry.peer.config.name) {
                Some(new) => self.replace_peer(now, id, new),
                None => self.remove(now, id),
            }
        }
        for peer in wanted.into_values() {
            self.add_peer(now, peer, None);
        }
    }

    /// Dynamic peers follow their group, unless they are now configured themselves.
    fn replace_groups(&mut self, now: Time) {
        for id in self.peer_ids() {
            let Some(entry) = self.peers.get(&id) else {
                continue;
            };
            let old = &entry.peer.config;
            let Some(name) = &entry.peer.group else {
                continue;
            };
            let configured = self
                .config
                .peers
                .iter()
                .any(|peer| (peer.remote, peer.scope) == (old.remote, old.scope));
            let group = self.config.dynamic.iter().find(|group| {
                group.name == *name
                    && group
                        .ranges
                        .iter()
                        .any(|range| contains(*range, old.remote))
            });
            match group.filter(|_| !configured) {
                Some(group) => {
                    let new = PeerConfig {
                        session: Arc::clone(&group.session),
                        ..old.clone()
                    };
                    self.replace_peer(now, id, new);
                }
                None => self.remove(now, id),
            }
        }
    }

    fn replace_peer(&mut self, now: Time, id: PeerId, new: PeerConfig) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        let old = core::mem::replace(&mut entry.peer.config, new);
        let Some(what) = change(&old, &entry.peer.config) else {
            return;
        };
        let rekey = old.session.transport.md5 != entry.peer.config.session.transport.md5;
        match what {
            Change::Live => {}
            Change::Rekey => self.rekey(id),
            Change::Routes => {
                if rekey {
                    self.rekey(id);
                }
                self.renew_routes(id);
            }
            Change::Reset("shutdown") => self.shutdown_changed(now, id),
            Change::Reset(field) => self.reset(now, id, field),
        }
    }

    fn rekey(&mut self, id: PeerId) {
        let Some(entry) = self.peers.get(&id) else {
            return;
        };
        for connection in &entry.peer.connections {
            self.outputs.push_back(Output::Rekey {
                conn: connection.id,
                md5: entry.peer.config.session.transport.md5.clone(),
            });
        }
    }

    fn renew_routes(&mut self, id: PeerId) {
        let Some(entry) = self.peers.get(&id) else {
            return;
        };
        if let Some(session) = entry
            .peer
            .session()
            .and_then(|conn| rib_session(&self.local, &entry.peer, conn))
        {
            self.rib.set_session(id, session);
            self.transmission.rib_touched();
        }
    }

    fn shutdown_changed(&mut self, now: Time, id: PeerId) {
        let Some(entry) = self.peers.get(&id) else {
            return;
        };
        match entry.peer.config.session.shutdown.clone() {
            Some(message) => {
                let end = End::stop(
                    ResetCause::AdminShutdown,
                    cease_with(cease::ADMINISTRATIVE_SHUTDOWN, &message),
                    Next::Held(None),
                );
                self.with_peer(now, id, |peer, ctx| peer.stop(ctx, &end));
            }
            None => self.with_peer(now, id, |peer, ctx| peer.handle(ctx, Event::Start)),
        }
    }

    fn reset(&mut self, now: Time, id: PeerId, field: &'static str) {
        let end = End::stop(
            ResetCause::ConfigChanged(field),
            Notification::new(code::CEASE, cease::OTHER_CONFIGURATION_CHANGE),
            Next::Idle { damp: false },
        );
        self.with_peer(now, id, |peer, ctx| {
            if peer.is_down() {
                let end = End {
                    next: Next::Held(None),
                    ..end
                };
                peer.stop(ctx, &end);
            } else {
                peer.stop(ctx, &end);
            }
        });
    }

    fn remove(&mut self, now: Time, id: PeerId) {
        let end = End::stop(
            ResetCause::PeerRemoved,
            cease_with(cease::PEER_DECONFIGURED, &ShutdownMessage::default()),
            Next::Held(None),
        );
        self.with_peer(now, id, |peer, ctx| {
            peer.stop(ctx, &end);
            ctx.push(Effect::Event(super::SpeakerEvent::PeerRemoved {
                peer: id,
                name: Arc::clone(&peer.config.name),
            }));
        });
        self.peers.remove(&id);
    }
}
