//! A peer: Idle, Connect and Active, its connections, collisions, oscillation damping, graceful restart as helper.

use core::time::Duration;
use std::sync::Arc;

use super::connection::Verdict;
use super::graceful::is_final;
use super::history::History;
use super::timer::{TimerKind, Timers};
use super::{Connection, Context, Effect, End, Next, State};
use crate::config::{PeerConfig, ShutdownMessage, limits};
use crate::speaker::{Path, RefuseReason, Reset, ResetCause, SpeakerEvent, SweepCause};
use crate::time::Time;
use crate::types::{ConnId, PeerId};
use crate::wire::notification::code;
use crate::wire::{FamilySet, Message, Notification, Update};

/// Events of RFC 4271 8.1 that concern a peer rather than one of its connections.
#[derive(Debug)]
pub(crate) enum Event {
    /// Events 1, 3 to 7: by configuration, command or timer; passive or not as configured.
    Start,
    /// Event 13.
    IdleHoldTimerExpires,
    /// Event 9.
    ConnectRetryTimerExpires,
    /// Event 16: our attempt succeeded.
    TcpCrAcked(ConnId, Path),
    /// Event 17: the peer connected to us.
    TcpConnectionConfirmed(ConnId, Path),
    /// Event 18, for our attempt.
    TcpConnectionFails(ConnId, Box<str>),
}

/// Where a peer stands without looking at its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Connect,
    Active,
    /// It has a connection; that one's state counts.
    Open,
}

/// A peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) config: PeerConfig,
    /// The group that accepted it.
    pub(crate) group: Option<Arc<str>>,
    /// Stopped by command.
    pub(crate) disabled: bool,
    pub(crate) timers: Timers,
    pub(crate) connections: Vec<Connection>,
    pub(crate) history: History,
    /// Families with routes that are stale or being refreshed.
    pub(crate) retained: FamilySet,
    /// End-of-RIB received in this session.
    pub(crate) end_of_rib: FamilySet,
    /// Told about the warning threshold.
    pub(super) warned: FamilySet,
    /// Told about more prefixes than the limit.
    pub(super) exceeded: FamilySet,
    stage: Stage,
    pub(super) attempt: Option<ConnId>,
    /// Errors in a row.
    pub(super) oscillations: u32,
}

impl Peer {
    pub(crate) fn new(now: Time, id: PeerId, config: PeerConfig, group: Option<Arc<str>>) -> Self {
        Self {
            id,
            config,
            group,
            disabled: false,
            timers: Timers::default(),
            connections: Vec::new(),
            history: History::new(now),
            retained: FamilySet::EMPTY,
            end_of_rib: FamilySet::EMPTY,
            warned: FamilySet::EMPTY,
            exceeded: FamilySet::EMPTY,
            stage: Stage::Idle,
            attempt: None,
            oscillations: 0,
        }
    }

    /// State of the connection that is furthest, else the peer's own.
    pub(crate) fn state(&self) -> State {
        match self.stage {
            Stage::Idle => State::Idle,
            Stage::Connect => State::Connect,
            Stage::Active => State::Active,
            Stage::Open => self
                .connections
                .iter()
                .map(|c| c.state)
                .max()
                .unwrap_or(State::Idle),
        }
    }

    /// The connection that is furthest.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connections.iter().max_by_key(|c| c.state)
    }

    /// The established connection.
    pub(crate) fn session(&self) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|c| c.state == State::Established)
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Connection> {
        self.connections
            .iter_mut()
            .find(|c| c.state == State::Established)
    }

    pub(crate) fn is_down(&self) -> bool {
        self.disabled || self.config.session.shutdown.is_some()
    }

    /// A dynamic peer that has nothing left to wait for.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.group.is_some() && self.stage == Stage::Active && self.retained.is_empty()
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.connections
            .iter()
            .filter_map(|c| c.timers.next())
            .chain(self.timers.next())
            .min()
    }

    /// An event, by state.
    pub(crate) fn handle(&mut self, ctx: &mut Context<'_>, event: Event) {
        match self.stage {
            Stage::Idle => self.idle(ctx, event),
            Stage::Connect => self.connect(ctx, event),
            Stage::Active => self.active(ctx, event),
            Stage::Open => self.open(ctx, event),
        }
        self.settle(ctx);
    }

    /// Idle: starts or waits; refuses connections.
    fn idle(&mut self, ctx: &mut Context<'_>, event: Event) {
        match event {
            Event::Start | Event::IdleHoldTimerExpires if !self.is_down() => {
                self.timers.stop(TimerKind::IdleHold);
                if self.config.passive {
                    self.stage = Stage::Active;
                } else if ctx.local.restarting && self.config.session.graceful_restart.is_some() {
                    self.stage = Stage::Active;
                    let wait = ctx.jitter.apply(limits::PEERS_COME_FIRST);
                    self.timers.set(TimerKind::ConnectRetry, ctx.now + wait);
                } else {
                    self.initiate(ctx);
                }
            }
            Event::TcpCrAcked(conn, _) | Event::TcpConnectionConfirmed(conn, _) => {
                ctx.push(Effect::Close { conn, abort: true });
            }
            _ => {}
        }
    }

    /// Connect: our attempt is under way; the peer's own is welcome too.
    fn connect(&mut self, ctx: &mut Context<'_>, event: Event) {
        match event {
            Event::ConnectRetryTimerExpires => {
                self.failed(ctx, ResetCause::ConnectTimeout);
                self.give_up_attempt(ctx);
                self.initiate(ctx);
            }
            Event::TcpCrAcked(conn, path) => self.acked(ctx, conn, path),
            Event::TcpConnectionConfirmed(conn, path) => self.add(ctx, conn, true, path),
            Event::TcpConnectionFails(conn, reason) if self.attempt == Some(conn) => {
                self.attempt = None;
                self.failed(ctx, ResetCause::ConnectFailed(reason));
                self.stage = Stage::Active;
                self.start_connect_retry(ctx);
            }
            _ => {}
        }
    }

    /// Active: waits for the peer, and tries again when the ConnectRetryTimer expires.
    fn active(&mut self, ctx: &mut Context<'_>, event: Event) {
        match event {
            Event::ConnectRetryTimerExpires if !self.config.passive => self.initiate(ctx),
            Event::TcpConnectionConfirmed(conn, path) => self.add(ctx, conn, true, path),
            Event::TcpCrAcked(conn, path) => self.acked(ctx, conn, path),
            _ => {}
        }
    }

    /// OpenSent and later: a second connection is tracked until its OPEN tells which one stays.
    fn open(&mut self, ctx: &mut Context<'_>, event: Event) {
        match event {
            Event::TcpCrAcked(conn, path) => self.acked(ctx, conn, path),
            Event::TcpConnectionConfirmed(conn, path) => self.add(ctx, conn, true, path),
            Event::TcpConnectionFails(conn, _) if self.attempt == Some(conn) => self.attempt = None,
            _ => {}
        }
    }

    /// Whether a connection from the peer is welcome.
    pub(crate) fn accepts(&self, path: &Path) -> Result<(), RefuseReason> {
        if self.is_down() {
            return Err(RefuseReason::AdminDown);
        }
        if self.stage == Stage::Idle {
            return Err(RefuseReason::IdleHold);
        }
        if self
            .config
            .session
            .local_address
            .is_some_and(|addr| addr != path.local.ip())
        {
            return Err(RefuseReason::WrongLocalAddress);
        }
        if self.connections.len() >= 2 {
            return Err(RefuseReason::Duplicate);
        }
        Ok(())
    }

    /// A message on one of the connections. An UPDATE that the state allows is returned, to be handed to the RIB.
    pub(crate) fn received(
        &mut self,
        ctx: &mut Context<'_>,
        conn: ConnId,
        message: Message,
    ) -> Option<Update> {
        let index = self.index(conn)?;
        count(ctx, &message);
        let config = Arc::clone(&self.config.session);
        match self.connections[index].handle(ctx, &config, message) {
            Verdict::Stay => {}
            Verdict::Update(update) => return Some(update),
            Verdict::Refresh(refresh) => self.refresh(ctx, index, refresh),
            Verdict::Opened => {
                if let Some(index) = self.resolve_collision(ctx, index) {
                    let hold_back = self.must_hold_back(index);
                    if hold_back {
                        self.timers
                            .set(TimerKind::Collision, ctx.now + limits::COLLISION);
                    }
                    self.connections[index].confirm(ctx, &config, hold_back);
                }
                self.settle(ctx);
            }
            Verdict::Established => {
                self.establish(ctx, index);
                self.settle(ctx);
            }
            Verdict::End(end) => {
                self.end(ctx, index, end);
                self.settle(ctx);
            }
        }
        None
    }

    /// Events 21, 22 and 28: a message could not be decoded.
    pub(crate) fn malformed(
        &mut self,
        ctx: &mut Context<'_>,
        conn: ConnId,
        what: Box<str>,
        notification: Notification,
    ) {
        let Some(index) = self.index(conn) else {
            return;
        };
        let established = self.connections[index].state == State::Established;
        let end = match notification.code {
            // Not even the right kind of message: RFC 4271 8.2.2 asks for an FSM error.
            code::UPDATE if !established => self.connections[index].unexpected_kind("UPDATE", 2),
            code::ROUTE_REFRESH if !established => {
                self.connections[index].unexpected_kind("ROUTE-REFRESH", 5)
            }
            _ => End::error(ResetCause::MalformedMessage(what), notification),
        };
        self.end(ctx, index, end);
        self.settle(ctx);
    }

    /// Event 18 on a connection.
    pub(crate) fn closed(&mut self, ctx: &mut Context<'_>, conn: ConnId, reason: Box<str>) {
        let Some(index) = self.index(conn) else {
            return;
        };
        let next = match self.connections[index].state {
            State::OpenSent => Next::Active,
            _ => Next::Idle { damp: true },
        };
        let end = End {
            cause: ResetCause::Transport(reason),
            notify: None,
            next,
            abort: true,
        };
        self.end(ctx, index, end);
        self.settle(ctx);
    }

    /// Event 2 and its like: ends everything. Routes kept from an earlier session go too.
    pub(crate) fn stop(&mut self, ctx: &mut Context<'_>, end: &End) {
        self.give_up_attempt(ctx);
        while !self.connections.is_empty() {
            self.end(ctx, self.connections.len() - 1, end.clone());
        }
        if !matches!(end.next, Next::Idle { .. }) {
            self.sweep_all(ctx, SweepCause::SessionEnded);
        }
        self.timers.stop(TimerKind::ConnectRetry);
        self.stage = Stage::Idle;
        match end.next {
            Next::Active | Next::Idle { .. } => self.timers.set(TimerKind::IdleHold, ctx.now),
            Next::Held(Some(wait)) => self.timers.set(TimerKind::IdleHold, ctx.now + wait),
            Next::Held(None) => self.timers.stop(TimerKind::IdleHold),
        }
        self.settle(ctx);
    }

    /// Forgets errors and starts at once.
    pub(crate) fn enable(&mut self, ctx: &mut Context<'_>) {
        self.disabled = false;
        self.oscillations = 0;
        self.handle(ctx, Event::Start);
    }

    /// Ends the established session, if there is one.
    pub(crate) fn end_session(&mut self, ctx: &mut Context<'_>, end: End) {
        if let Some(index) = self
            .connections
            .iter()
            .position(|c| c.state == State::Established)
        {
            self.end(ctx, index, end);
            self.settle(ctx);
        }
    }

    /// Lets every expired timer act.
    pub(crate) fn expire(&mut self, ctx: &mut Context<'_>) {
        while let Some((index, kind)) = self
            .connections
            .iter_mut()
            .enumerate()
            .find_map(|(index, c)| Some((index, c.timers.expire(ctx.now)?)))
        {
            if let Some(end) = self.connections[index].expired(ctx, kind) {
                self.end(ctx, index, end);
            }
        }
        while let Some(kind) = self.timers.expire(ctx.now) {
            match kind {
                TimerKind::ConnectRetry => self.handle(ctx, Event::ConnectRetryTimerExpires),
                TimerKind::IdleHold => self.handle(ctx, Event::IdleHoldTimerExpires),
                TimerKind::Restart => self.sweep_all(ctx, SweepCause::RestartTimer),
                TimerKind::Stale => self.sweep_all(ctx, SweepCause::StaleTimer),
                TimerKind::Collision => self.collision_timer_expires(ctx),
                TimerKind::Hold | TimerKind::Keepalive | TimerKind::SendHold => {}
            }
        }
        self.settle(ctx);
    }

    fn index(&self, conn: ConnId) -> Option<usize> {
        self.connections.iter().position(|c| c.id == conn)
    }

    /// Initiates a TCP connection and moves to Connect.
    fn initiate(&mut self, ctx: &mut Context<'_>) {
        let conn = ctx.new_conn();
        self.attempt = Some(conn);
        self.stage = Stage::Connect;
        self.start_connect_retry(ctx);
        ctx.push(Effect::Connect { conn });
    }

    fn start_connect_retry(&mut self, ctx: &mut Context<'_>) {
        if !self.config.passive {
            let wait = ctx.jitter.apply(self.config.session.timers.connect_retry);
            self.timers.set(TimerKind::ConnectRetry, ctx.now + wait);
        }
    }

    pub(super) fn give_up_attempt(&mut self, ctx: &mut Context<'_>) {
        if let Some(conn) = self.attempt.take() {
            ctx.push(Effect::Close { conn, abort: true });
        }
    }

    fn acked(&mut self, ctx: &mut Context<'_>, conn: ConnId, path: Path) {
        let ours = self.attempt.take_if(|attempt| *attempt == conn).is_some();
        if !ours || self.connections.len() >= 2 || self.session().is_some() {
            ctx.push(Effect::Close { conn, abort: true });
            return;
        }
        self.add(ctx, conn, false, path);
    }

    /// Takes a connection in: OpenSent.
    fn add(&mut self, ctx: &mut Context<'_>, conn: ConnId, inbound: bool, path: Path) {
        self.timers.stop(TimerKind::ConnectRetry);
        // A process that has had a session since it started kept its forwarding state over whatever ended that.
        let open = ctx
            .local
            .open(&self.config.session, self.history.established > 0);
        let connection = Connection::open(ctx, (conn, inbound, path), open);
        self.connections.push(connection);
        self.stage = Stage::Open;
    }

    /// OpenConfirm → Established.
    pub(super) fn establish(&mut self, ctx: &mut Context<'_>, index: usize) {
        self.give_up_attempt(ctx);
        self.history.established += 1;
        self.end_of_rib = FamilySet::EMPTY;
        self.warned = FamilySet::EMPTY;
        self.exceeded = FamilySet::EMPTY;
        self.timers.stop(TimerKind::Restart);
        ctx.push(Effect::Up);
        let Some(negotiated) = self.connections[index].negotiated.clone() else {
            return;
        };
        ctx.event(SpeakerEvent::SessionUp {
            peer: self.id,
            remote_asn: negotiated.remote_asn,
            remote_router_id: negotiated.remote_router_id,
            families: negotiated.families.iter().collect(),
        });
        // RFC 4724 4.2: without the F bit, or without the family, its stale routes go at once.
        for family in self.retained.iter() {
            let preserved = negotiated.families.contains(family)
                && negotiated.graceful_restart.as_ref().is_some_and(|g| {
                    g.families
                        .iter()
                        .any(|f| f.family == family && f.forwarding)
                });
            if !preserved {
                self.sweep(ctx, family, SweepCause::NotPreserved);
            }
        }
        if !self.retained.is_empty() {
            self.start_stale_timer(ctx);
        }
    }

    /// The end of a connection, and where that leaves the peer.
    pub(super) fn end(&mut self, ctx: &mut Context<'_>, index: usize, mut end: End) {
        let mut connection = self.connections.remove(index);
        let retained = self.retains(&connection, &end);
        if connection
            .negotiated
            .as_ref()
            .is_some_and(|n| n.graceful_notification)
            && is_final(&end.cause)
        {
            // RFC 8538 3.1: only a hard reset makes the peer forget our routes.
            end.notify = end.notify.map(Notification::into_hard_reset);
        }
        if matches!(end.cause, ResetCause::Transport(_)) {
            connection.timers.clear();
        } else {
            connection.close(ctx, end.notify.as_ref(), end.abort);
        }
        let reset = Reset {
            at: ctx.now,
            state: connection.state,
            cause: end.cause,
            sent: end.notify,
        };
        // One of two connections that collide must end: no error, unless it was the only one.
        if self.connections.is_empty() || connection.state == State::Established {
            self.history.connection_ended(&reset);
        }
        if connection.state == State::Established {
            self.session_ended(ctx, &connection, reset, retained);
        } else {
            ctx.event(SpeakerEvent::AttemptFailed {
                peer: self.id,
                reset,
            });
        }
        if self.connections.is_empty() {
            self.go_on(ctx, end.next);
        }
    }

    /// After the last connection.
    fn go_on(&mut self, ctx: &mut Context<'_>, next: Next) {
        let wait = match next {
            Next::Active if self.attempt.is_some() => {
                self.stage = Stage::Connect;
                self.start_connect_retry(ctx);
                return;
            }
            Next::Active => {
                self.stage = Stage::Active;
                self.start_connect_retry(ctx);
                return;
            }
            Next::Idle { damp: false } => Some(Duration::ZERO),
            Next::Idle { damp: true } => {
                let wait = self.idle_hold(ctx);
                self.oscillations = self.oscillations.saturating_add(1);
                Some(wait)
            }
            Next::Held(wait) => wait,
        };
        self.give_up_attempt(ctx);
        self.timers.stop(TimerKind::ConnectRetry);
        self.stage = Stage::Idle;
        match wait {
            Some(wait) => self.timers.set(TimerKind::IdleHold, ctx.now + wait),
            None => self.timers.stop(TimerKind::IdleHold),
        }
        if wait != Some(Duration::ZERO) {
            ctx.event(SpeakerEvent::IdleHold {
                peer: self.id,
                duration: wait,
                flaps: self.oscillations,
            });
        }
    }

    /// IdleHoldTime: nothing for the first error, then doubling (RFC 4271 8.1.1 DampPeerOscillations).
    fn idle_hold(&self, ctx: &mut Context<'_>) -> Duration {
        let timers = &self.config.session.timers;
        match self.oscillations.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                let wait = timers
                    .idle_hold
                    .saturating_mul(factor)
                    .min(timers.idle_hold_max);
                ctx.jitter.apply(wait)
            }
        }
    }

    /// A failed attempt. Repetitions of the same failure don't fill the logs.
    fn failed(&mut self, ctx: &mut Context<'_>, cause: ResetCause) {
        let reset = Reset {
            at: ctx.now,
            state: State::Connect,
            cause,
            sent: None,
        };
        if self.history.attempt_failed(&reset) {
            ctx.event(SpeakerEvent::AttemptFailed {
                peer: self.id,
                reset,
            });
        }
    }

    /// After every event: what waited may go on; notes and tells a change of state.
    fn settle(&mut self, ctx: &mut Context<'_>) {
        self.release(ctx);
        let (from, to) = (self.history.state, self.state());
        if from != to {
            self.history.state = to;
            self.history.state_since = ctx.now;
            ctx.event(SpeakerEvent::StateChanged {
                peer: self.id,
                from,
                to,
            });
        }
    }
}

/// The communication of an administrative end (RFC 9003).
pub(crate) fn cease(subcode: u8, message: &ShutdownMessage) -> Notification {
    Notification::cease_with_text(subcode, message.as_str())
}

fn count(ctx: &mut Context<'_>, message: &Message) {
    let received = &mut ctx.counters.received;
    *match message {
        Message::Open(_) => &mut received.open,
        Message::Update(_) => &mut received.update,
        Message::Notification(_) => &mut received.notification,
        Message::Keepalive => &mut received.keepalive,
        Message::RouteRefresh(_) => &mut received.route_refresh,
    } += 1;
}
