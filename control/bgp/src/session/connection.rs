//! One TCP connection with a peer, from OpenSent on (RFC 4271 8.2.2). A peer has at most two.

use core::time::Duration;

use bytes::BytesMut;

use super::effect::{Context, Effect};
use super::open;
use super::timer::{TimerKind, Timers};
use super::{End, Next, State};
use crate::config::{SessionConfig, limits};
use crate::speaker::{Path, ResetCause};
use crate::time::Time;
use crate::types::ConnId;
use crate::wire::notification::{code, fsm};
use crate::wire::{
    Message, Negotiated, Notification, Open, Update, encode_keepalive, encode_notification,
    encode_open,
};

/// One TCP connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    /// The peer opened it.
    pub(crate) inbound: bool,
    pub(crate) path: Path,
    pub(crate) opened_at: Time,
    pub(crate) state: State,
    pub(crate) timers: Timers,
    pub(crate) local_open: Open,
    pub(crate) remote_open: Option<Open>,
    pub(crate) negotiated: Option<Negotiated>,
    answer: Answer,
    /// Bytes handed over and not yet reported as taken by the socket.
    pub(crate) in_flight: usize,
    hold: Duration,
    keepalive: Duration,
    send_hold: Duration,
}

/// The KEEPALIVE that answers the peer's OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Sent, or there is no OPEN yet.
    Given,
    /// It waits for [`Connection::answer`]; `confirmed`: the peer's own has come.
    HeldBack { confirmed: bool },
}

/// What a message leads to.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one, UPDATE, is nearly every message; a box would be one allocation each"
)]
pub(crate) enum Verdict {
    /// Nothing beyond what was done.
    Stay,
    /// A valid OPEN: collisions are to be resolved (RFC 4271 6.8), then [`Connection::confirm`].
    Opened,
    /// The session is up.
    Established,
    /// An UPDATE for the RIB.
    Update(Update),
    /// A ROUTE-REFRESH.
    Refresh(crate::wire::RouteRefresh),
    /// The connection ends.
    End(End),
}

impl Connection {
    /// Events 16 and 17: sends OPEN, waits for the peer's with a large hold timer.
    pub(crate) fn open(
        ctx: &mut Context<'_>,
        (id, inbound, path): (ConnId, bool, Path),
        local_open: Open,
    ) -> Self {
        let mut connection = Self {
            id,
            inbound,
            path,
            opened_at: ctx.now,
            state: State::OpenSent,
            timers: Timers::default(),
            local_open,
            remote_open: None,
            negotiated: None,
            answer: Answer::Given,
            in_flight: 0,
            hold: limits::OPEN_HOLD,
            keepalive: Duration::ZERO,
            send_hold: limits::OPEN_HOLD,
        };
        connection
            .timers
            .set(TimerKind::Hold, ctx.now + limits::OPEN_HOLD);
        ctx.push(Effect::Start {
            conn: id,
            open: Box::new(connection.local_open.clone()),
        });
        let mut bytes = BytesMut::new();
        encode_open(&connection.local_open, &mut bytes);
        ctx.counters.sent.open += 1;
        connection.send(ctx, bytes);
        connection
    }

    /// A message, by state.
    pub(crate) fn handle(
        &mut self,
        ctx: &mut Context<'_>,
        config: &SessionConfig,
        message: Message,
    ) -> Verdict {
        match self.state {
            State::OpenSent => self.open_sent(config, message),
            State::OpenConfirm => self.open_confirm(ctx, message),
            State::Established => self.established(ctx, message),
            State::Idle | State::Connect | State::Active => Verdict::Stay,
        }
    }

    /// OpenSent: event 19 moves on, anything else ends it.
    fn open_sent(&mut self, config: &SessionConfig, message: Message) -> Verdict {
        match message {
            Message::Open(theirs) => {
                let result = open::negotiate(config, &self.local_open, &theirs);
                self.remote_open = Some(theirs);
                match result {
                    Ok(negotiated) => {
                        self.negotiated = Some(negotiated);
                        Verdict::Opened
                    }
                    Err((field, notification)) => {
                        Verdict::End(End::error(ResetCause::OpenRejected(field), notification))
                    }
                }
            }
            Message::Notification(notification) => Verdict::End(End::turned_away(notification)),
            other => self.unexpected(&other),
        }
    }

    /// Event 19 once collisions are resolved: sets the negotiated timers, moves to OpenConfirm, and sends KEEPALIVE unless
    /// that is to be held back.
    pub(crate) fn confirm(
        &mut self,
        ctx: &mut Context<'_>,
        config: &SessionConfig,
        hold_back: bool,
    ) {
        let Some(negotiated) = &self.negotiated else {
            return;
        };
        self.hold = Duration::from_secs(negotiated.hold_time.into());
        let third = self.hold / 3;
        self.keepalive = match config.timers.keepalive {
            configured if configured.is_zero() || configured > third => third,
            configured => configured,
        };
        // The greater of SendHoldTime (8 minutes by default) and twice the hold time (RFC 9687 6).
        self.send_hold = config.timers.send_hold.max(self.hold * 2);
        self.state = State::OpenConfirm;
        if hold_back {
            self.answer = Answer::HeldBack { confirmed: false };
        } else {
            self.send_keepalive(ctx);
        }
        self.restart_hold(ctx.now);
    }

    /// Whether the KEEPALIVE that answers the peer's OPEN waits.
    pub(crate) fn is_held_back(&self) -> bool {
        self.answer != Answer::Given
    }

    /// Sends the KEEPALIVE that was held back. Returns whether that establishes the session, as the peer's has come.
    pub(crate) fn answer(&mut self, ctx: &mut Context<'_>) -> bool {
        let Answer::HeldBack { confirmed } = core::mem::replace(&mut self.answer, Answer::Given)
        else {
            return false;
        };
        self.send_keepalive(ctx);
        if confirmed {
            self.state = State::Established;
        }
        confirmed
    }

    /// OpenConfirm: event 26 establishes the session.
    fn open_confirm(&mut self, ctx: &mut Context<'_>, message: Message) -> Verdict {
        match message {
            Message::Keepalive => {
                self.restart_hold(ctx.now);
                if let Answer::HeldBack { confirmed } = &mut self.answer {
                    *confirmed = true;
                    return Verdict::Stay;
                }
                self.state = State::Established;
                Verdict::Established
            }
            Message::Notification(notification) => Verdict::End(End::turned_away(notification)),
            other => self.unexpected(&other),
        }
    }

    /// Established: events 26 and 27 restart the hold timer.
    fn established(&mut self, ctx: &mut Context<'_>, message: Message) -> Verdict {
        match message {
            Message::Update(update) => {
                self.restart_hold(ctx.now);
                Verdict::Update(update)
            }
            Message::Keepalive => {
                self.restart_hold(ctx.now);
                Verdict::Stay
            }
            Message::RouteRefresh(refresh) => Verdict::Refresh(refresh),
            Message::Notification(notification) => Verdict::End(End::notified(notification)),
            other => self.unexpected(&other),
        }
    }

    /// RFC 6608: the subcode names the state, the data the message type.
    fn unexpected(&self, message: &Message) -> Verdict {
        let (name, kind) = match message {
            Message::Open(_) => ("OPEN", 1),
            Message::Update(_) => ("UPDATE", 2),
            Message::Notification(_) => ("NOTIFICATION", 3),
            Message::Keepalive => ("KEEPALIVE", 4),
            Message::RouteRefresh(_) => ("ROUTE-REFRESH", 5),
        };
        Verdict::End(self.unexpected_kind(name, kind))
    }

    pub(crate) fn unexpected_kind(&self, name: &'static str, kind: u8) -> End {
        let subcode = match self.state {
            State::OpenSent => fsm::OPEN_SENT,
            State::OpenConfirm => fsm::OPEN_CONFIRM,
            _ => fsm::ESTABLISHED,
        };
        End::error(
            ResetCause::UnexpectedMessage(name),
            Notification::with_data(code::FSM, subcode, &[kind]),
        )
    }

    /// An expired timer.
    pub(crate) fn expired(&mut self, ctx: &mut Context<'_>, kind: TimerKind) -> Option<End> {
        match kind {
            // Event 10.
            TimerKind::Hold => Some(End::error(
                ResetCause::HoldTimer,
                Notification::new(code::HOLD_TIMER_EXPIRED, 0),
            )),
            // Event 11.
            TimerKind::Keepalive => {
                self.send_keepalive(ctx);
                None
            }
            // RFC 9687 4: the peer reads nothing, so a NOTIFICATION would not reach it either.
            TimerKind::SendHold => Some(End {
                cause: ResetCause::SendHoldTimer,
                notify: None,
                next: Next::Idle { damp: true },
                abort: true,
            }),
            TimerKind::ConnectRetry
            | TimerKind::IdleHold
            | TimerKind::Restart
            | TimerKind::Stale
            | TimerKind::Collision => None,
        }
    }

    /// The socket took bytes: credit, and a sign of life for the send hold timer.
    pub(crate) fn transmitted(&mut self, now: Time, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if self.in_flight == 0 {
            self.timers.stop(TimerKind::SendHold);
        } else {
            self.timers.set(TimerKind::SendHold, now + self.send_hold);
        }
    }

    /// Whether another portion of updates may be handed over.
    pub(crate) fn has_credit(&self) -> bool {
        self.in_flight < limits::IN_FLIGHT_BYTES
    }

    /// Updates were handed over: they stand in for a KEEPALIVE (RFC 4271 8.2.2 Established).
    pub(crate) fn updates_sent(&mut self, ctx: &mut Context<'_>, bytes: usize) {
        self.handed_over(ctx.now, bytes);
        self.restart_keepalive(ctx);
    }

    /// Sends one message that is not an update.
    pub(crate) fn send(&mut self, ctx: &mut Context<'_>, bytes: BytesMut) {
        self.handed_over(ctx.now, bytes.len());
        ctx.push(Effect::Send {
            conn: self.id,
            bytes: bytes.freeze(),
        });
    }

    /// Sends the last message, if there is one, and closes.
    pub(crate) fn close(
        &mut self,
        ctx: &mut Context<'_>,
        notify: Option<&Notification>,
        abort: bool,
    ) {
        if let Some(notification) = notify {
            let mut bytes = BytesMut::new();
            encode_notification(notification, &mut bytes);
            ctx.counters.sent.notification += 1;
            self.send(ctx, bytes);
        }
        self.timers.clear();
        ctx.push(Effect::Close {
            conn: self.id,
            abort,
        });
    }

    /// Whether both sides keep routes over a restart (RFC 4724).
    pub(crate) fn is_graceful(&self) -> bool {
        let negotiated = self.negotiated.as_ref();
        negotiated.is_some_and(|n| n.graceful_restart.is_some())
    }

    /// Negotiated hold and keepalive times, once known.
    pub(crate) fn times(&self) -> Option<(Duration, Duration)> {
        (self.state >= State::OpenConfirm).then_some((self.hold, self.keepalive))
    }

    /// The send hold timer runs while the socket owes us bytes, so that a peer without keepalives is covered too.
    fn handed_over(&mut self, now: Time, bytes: usize) {
        if self.in_flight == 0 {
            self.timers.set(TimerKind::SendHold, now + self.send_hold);
        }
        self.in_flight += bytes;
    }

    fn send_keepalive(&mut self, ctx: &mut Context<'_>) {
        let mut bytes = BytesMut::new();
        encode_keepalive(&mut bytes);
        ctx.counters.sent.keepalive += 1;
        self.send(ctx, bytes);
        self.restart_keepalive(ctx);
    }

    fn restart_keepalive(&mut self, ctx: &mut Context<'_>) {
        if !self.keepalive.is_zero() {
            let keepalive = ctx.jitter.apply(self.keepalive);
            self.timers.set(TimerKind::Keepalive, ctx.now + keepalive);
        }
    }

    fn restart_hold(&mut self, now: Time) {
        if self.hold.is_zero() {
            self.timers.stop(TimerKind::Hold);
        } else {
            self.timers.set(TimerKind::Hold, now + self.hold);
        }
    }
}
