//! The speaker: all peers and the RIB behind one interface, driven by a shell with sockets and a clock, or by a simulation.
//!
//! ```text
//!  Input ──▶ admission (who is it?) ──▶ Peer (session/) ──effects──▶ RIB, Outputs
//!                                          │ legal UPDATE
//!                                          └────────────────────────▶ RIB ──▶ Transmit, Fib, NextHop
//! ```

mod admission;
mod carry_out;
mod deadlines;
mod event;
mod io;
mod neighbors;
mod reconfigure;
mod restart;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod transmit;
mod view;

use core::fmt;
use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

pub use event::{RefuseReason, Reset, ResetCause, SpeakerEvent, SweepCause};
pub use io::{Command, Input, Link, Listener, Output, Path, inbound_conn};
pub use view::{
    Counters, MessageCounters, NegotiatedView, NeighborFamily, NeighborView, RefusedView,
    TimersView,
};

use crate::config::{ConfigError, ShutdownMessage, SpeakerConfig};
use crate::rib::Rib;
use crate::session::{Context, Effect, End, Event, Jitter, Local, Next, Peer, cease_with};
use crate::time::Time;
use crate::types::{ConnId, Family, PeerId};
use crate::wire::notification::{cease, code};
use crate::wire::{
    Decoded, MessageError, Notification, RefreshKind, RouteRefresh, encode_route_refresh,
};
use admission::Admission;
use deadlines::Deadlines;
use restart::Deferral;
use transmit::Transmission;

type ConnMap = HashMap<ConnId, PeerId, foldhash::fast::FixedState>;

/// A BGP speaker.
///
/// Polling order: any number of [`Self::handle`] for what is at hand, [`Self::handle_timeout`] when [`Self::poll_timeout`]
/// is due, then [`Self::poll_output`] until it yields `None`. A shell with more input at hand handles it first, for at most
/// some milliseconds: changes to a prefix then merge, and routes with equal attributes share messages. A shell without
/// polls at once, so that a lone change leaves at once. A shell may also stop polling after its quantum and come back
/// later ([`Self::has_work`]); nothing is lost.
pub struct Speaker {
    config: SpeakerConfig,
    local: Local,
    jitter: Jitter,
    peers: BTreeMap<PeerId, Entry>,
    conns: ConnMap,
    rib: Rib,
    deadlines: Deadlines,
    admission: Admission,
    transmission: Transmission,
    deferral: Deferral,
    outputs: VecDeque<Output>,
    /// Reused between calls.
    effects: Vec<Effect>,
    next_peer: u32,
    next_conn: u64,
    stopping: bool,
}

/// A peer and what the speaker keeps beside it.
struct Entry {
    peer: Peer,
    counters: Counters,
    /// Its entry in [`Deadlines`].
    scheduled: Option<Time>,
    /// In the queue of [`Transmission`].
    queued: bool,
    /// End-of-RIB sent in this session, by family index.
    end_of_rib_sent: [bool; Family::ALL.len()],
}

impl Speaker {
    /// A speaker that starts its peers at `now`. `seed` decides jitter only.
    ///
    /// # Errors
    ///
    /// If the configuration is not valid.
    pub fn new(now: Time, config: SpeakerConfig, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        let local = Local {
            asn: config.rib.local_asn,
            confederation: config.rib.confederation.clone(),
            router_id: config.rib.router_id,
            hostname: config.hostname.clone(),
            restarting: config.restarting.is_some(),
        };
        let mut rib = Rib::new(crate::rib::RibConfig {
            hash_seed: seed,
            ..config.rib.clone()
        });
        rib.set_own_addresses(config.own_addresses.clone());
        rib.set_originated(config.originated.clone());
        let mut speaker = Self {
            local,
            jitter: Jitter::new(seed),
            peers: BTreeMap::new(),
            conns: ConnMap::default(),
            rib,
            deadlines: Deadlines::default(),
            admission: Admission::default(),
            transmission: Transmission::default(),
            deferral: Deferral::default(),
            outputs: VecDeque::new(),
            effects: Vec::new(),
            next_peer: 0,
            next_conn: 0,
            stopping: false,
            config,
        };
        speaker.transmission.rib_touched();
        speaker.begin_deferral(now);
        for peer in speaker.config.peers.clone() {
            speaker.add_peer(now, peer, None);
        }
        speaker.outputs.push_back(Output::Listen);
        Ok(speaker)
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Connected { conn, path } => match self.conns.get(&conn) {
                Some(&peer) => self.with_peer(now, peer, |p, ctx| {
                    p.handle(ctx, Event::TcpCrAcked(conn, path))
                }),
                None => self.outputs.push_back(Output::Close { conn, abort: true }),
            },
            Input::ConnectFailed { conn, reason } => {
                if let Some(peer) = self.conns.remove(&conn) {
                    self.with_peer(now, peer, |p, ctx| {
                        p.handle(ctx, Event::TcpConnectionFails(conn, reason))
                    });
                }
            }
            Input::Accepted { conn, path } => self.accepted(now, conn, path),
            Input::Received {
                conn,
                messages,
                error,
            } => self.received(now, conn, messages, error),
            Input::Transmitted { conn, bytes } => self.transmitted(now, conn, bytes),
            Input::Closed { conn, reason } => {
                if let Some(peer) = self.conns.remove(&conn) {
                    self.with_peer(now, peer, |p, ctx| p.closed(ctx, conn, reason));
                }
            }
            Input::NextHop { key, metric } => {
                self.rib.next_hop_changed(key, metric);
                self.transmission.rib_touched();
            }
            Input::Programmed { generation } => self.transmission.programmed(generation),
            Input::ProgramFailed { prefixes } => {
                self.rib.program_failed(&prefixes);
                self.transmission.rib_touched();
            }
            Input::ProgramRecovered { prefixes } => {
                self.rib.program_recovered(&prefixes);
                self.transmission.rib_touched();
            }
            Input::Originate(originated) => {
                self.config.originated.clone_from(&originated);
                self.rib.set_originated(originated);
                self.transmission.rib_touched();
            }
            Input::Reconfigure(config) => self.reconfigure(now, *config),
            Input::Command(command) => self.command(now, command),
        }
    }

    /// Lets expired timers act.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((at, id)) = self.deadlines.due(now) {
            let Some(entry) = self.peers.get_mut(&id) else {
                continue;
            };
            if entry.scheduled != Some(at) {
                continue;
            }
            entry.scheduled = None;
            self.with_peer(now, id, Peer::expire);
        }
        self.expire_deferral(now);
    }

    /// When [`Self::handle_timeout`] is to be called next. It may turn out that nothing was due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines
            .next()
            .into_iter()
            .chain(self.deferral.deadline())
            .min()
    }

    /// The RIB, for its queries.
    #[must_use]
    pub const fn rib(&self) -> &Rib {
        &self.rib
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &SpeakerConfig {
        &self.config
    }

    /// Messages of one connection: the fast path.
    fn received(
        &mut self,
        now: Time,
        conn: ConnId,
        messages: Vec<Decoded>,
        error: Option<MessageError>,
    ) {
        let Some(&id) = self.conns.get(&conn) else {
            return;
        };
        for Decoded { message, reactions } in messages {
            let mut update = None;
            self.with_peer_quick(now, id, |peer, ctx| {
                if !reactions.is_empty() {
                    ctx.counters.malformed_updates += 1;
                }
                update = peer.received(ctx, conn, message);
            });
            for reaction in reactions {
                self.outputs
                    .push_back(Output::Event(SpeakerEvent::MalformedUpdate {
                        peer: id,
                        reaction,
                    }));
            }
            if let Some(update) = update {
                let reached = [update.reach4.is_some(), update.reach6.is_some()];
                let end_of_rib = update.end_of_rib;
                self.rib.handle_update(id, update);
                self.transmission.rib_touched();
                self.deferral.news(now);
                self.after_update(now, id, reached, end_of_rib);
            }
            if !self.conns.contains_key(&conn) {
                // The session ended; what came after on this connection is not to be looked at.
                break;
            }
        }
        if let Some(error) = error.filter(|_| self.conns.contains_key(&conn)) {
            let what = error.reason.into();
            self.with_peer_quick(now, id, |peer, ctx| {
                peer.malformed(ctx, conn, what, error.notification)
            });
        }
        self.reschedule(id);
    }

    fn after_update(
        &mut self,
        now: Time,
        id: PeerId,
        reached: [bool; 2],
        end_of_rib: Option<Family>,
    ) {
        for family in Family::ALL {
            let Some(entry) = self.peers.get(&id) else {
                return;
            };
            let limited = entry
                .peer
                .config
                .session
                .family(family)
                .is_some_and(|f| f.max_prefixes.is_some());
            if reached[family.index()] && limited {
                let received = self.rib.counts(id, family).received;
                self.with_peer_quick(now, id, |peer, ctx| {
                    peer.check_prefixes(ctx, family, received)
                });
            }
        }
        if let Some(family) = end_of_rib {
            self.with_peer_quick(now, id, |peer, ctx| peer.end_of_rib(ctx, family));
            self.check_deferral(now);
        }
    }

    fn command(&mut self, now: Time, command: Command) {
        let stop = |cause, subcode, message: &ShutdownMessage, next| {
            End::stop(cause, cease_with(subcode, message), next)
        };
        match command {
            Command::Reset { peer, message } => {
                let next = Next::Idle { damp: false };
                let end = stop(
                    ResetCause::AdminReset,
                    cease::ADMINISTRATIVE_RESET,
                    &message,
                    next,
                );
                self.with_known_peer(now, peer, |p, ctx| {
                    if !p.is_down() {
                        p.stop(ctx, &end);
                    }
                });
            }
            Command::Disable { peer, message } => {
                let end = stop(
                    ResetCause::AdminShutdown,
                    cease::ADMINISTRATIVE_SHUTDOWN,
                    &message,
                    Next::Held(None),
                );
                self.with_known_peer(now, peer, |p, ctx| {
                    p.disabled = true;
                    p.stop(ctx, &end);
                });
            }
            Command::Enable { peer } => self.with_known_peer(now, peer, Peer::enable),
            Command::RefreshIn { peer, family } => self.refresh_in(now, peer, family),
            Command::RefreshOut { peer, family } => {
                self.with_known_peer(now, peer, |p, ctx| {
                    if p.session().is_some() {
                        ctx.push(Effect::RefreshOut(family));
                    }
                });
            }
            Command::Shutdown { message, restart } => {
                self.stopping = true;
                let mut end = stop(
                    ResetCause::ShuttingDown,
                    cease::ADMINISTRATIVE_SHUTDOWN,
                    &message,
                    Next::Held(None),
                );
                if restart {
                    // RFC 4724 4.1: the transport just goes away.
                    end.notify = None;
                }
                for id in self.peer_ids() {
                    self.with_peer(now, id, |p, ctx| p.stop(ctx, &end));
                }
            }
        }
    }

    fn refresh_in(&mut self, now: Time, peer: PeerId, family: Family) {
        let mut sent = false;
        self.with_known_peer(now, peer, |p, ctx| {
            let Some(session) = p.session_mut() else {
                return;
            };
            let able = session
                .negotiated
                .as_ref()
                .is_some_and(|n| n.route_refresh && n.families.contains(family));
            if able {
                let mut bytes = bytes::BytesMut::new();
                let request = RouteRefresh {
                    family,
                    kind: RefreshKind::Request,
                };
                encode_route_refresh(request, &mut bytes);
                ctx.counters.sent.route_refresh += 1;
                session.send(ctx, bytes);
                sent = true;
            }
        });
        if !sent {
            self.reject("the peer has no session with this family and route refresh; reset the session instead");
        }
    }

    fn reject(&mut self, reason: &str) {
        self.push_event(SpeakerEvent::Rejected {
            reason: reason.into(),
        });
    }

    fn push_event(&mut self, event: SpeakerEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    fn peer_ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    fn with_known_peer(
        &mut self,
        now: Time,
        id: PeerId,
        act: impl FnOnce(&mut Peer, &mut Context<'_>),
    ) {
        if self.peers.contains_key(&id) {
            self.with_peer(now, id, act);
        } else {
            self.reject("no such peer; list them with their numbers and names");
        }
    }

    /// Lets a peer act, carries its effects out and notes its next deadline.
    fn with_peer(&mut self, now: Time, id: PeerId, act: impl FnOnce(&mut Peer, &mut Context<'_>)) {
        self.with_peer_quick(now, id, act);
        self.reschedule(id);
    }

    /// The same without the deadline, which the caller sees to.
    fn with_peer_quick(
        &mut self,
        now: Time,
        id: PeerId,
        act: impl FnOnce(&mut Peer, &mut Context<'_>),
    ) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        let mut ctx = Context {
            now,
            local: &self.local,
            jitter: &mut self.jitter,
            next_conn: &mut self.next_conn,
            counters: &mut entry.counters,
            effects: &mut self.effects,
        };
        act(&mut entry.peer, &mut ctx);
        if !self.effects.is_empty() {
            self.carry_out(now, id);
        }
    }

    fn reschedule(&mut self, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        if entry.peer.is_forgotten() {
            self.forget(id);
            return;
        }
        self.deadlines
            .schedule(id, &mut entry.scheduled, entry.peer.deadline());
    }
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speaker")
            .field("local", &self.local)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

/// The NOTIFICATION for a connection that nobody wants (RFC 4486 4).
fn connection_rejected() -> Notification {
    Notification::new(code::CEASE, cease::CONNECTION_REJECTED)
}
