//! Graceful restart of a peer (RFC 4724, RFC 8538) and refreshes by it (RFC 2918, RFC 7313): which of its routes stay while
//! it is away or sends everything again, and when they go.

use core::time::Duration;

use super::timer::TimerKind;
use super::{Connection, Context, Effect, End, Peer, State};
use crate::speaker::{Reset, ResetCause, SpeakerEvent, SweepCause};
use crate::types::Family;
use crate::wire::{FamilySet, RefreshKind, RouteRefresh};

impl Peer {
    /// The peer's End-of-RIB (RFC 4724 4.2).
    pub(crate) fn end_of_rib(&mut self, ctx: &mut Context<'_>, family: Family) {
        self.end_of_rib.insert(family);
        ctx.event(SpeakerEvent::EndOfRib {
            peer: self.id,
            family,
        });
        self.sweep(ctx, family, SweepCause::EndOfRib);
    }

    pub(super) fn session_ended(
        &mut self,
        ctx: &mut Context<'_>,
        connection: &Connection,
        reset: Reset,
        retained: FamilySet,
    ) {
        self.history.flaps += 1;
        if ctx.now.saturating_since(self.history.state_since)
            >= self.config.session.timers.idle_hold_max
        {
            self.oscillations = 0;
        }
        // RFC 4724 4.2: routes that were stale already don't survive a second restart.
        self.sweep_all(ctx, SweepCause::SessionEnded);
        self.retained = retained;
        if !retained.is_empty() {
            let time = connection
                .negotiated
                .as_ref()
                .and_then(|n| n.graceful_restart.as_ref())
                .map_or(0, |g| g.restart_time);
            self.timers.set(
                TimerKind::Restart,
                ctx.now + Duration::from_secs(time.into()),
            );
        }
        ctx.push(Effect::Down { retained });
        ctx.event(SpeakerEvent::SessionDown {
            peer: self.id,
            reset,
            retained: retained.iter().collect(),
        });
    }

    /// Families whose routes outlive the session (RFC 4724 4.2, RFC 8538 4).
    pub(super) fn retains(&self, connection: &Connection, end: &End) -> FamilySet {
        let Some(negotiated) = connection
            .negotiated
            .as_ref()
            .filter(|_| connection.state == State::Established)
        else {
            return FamilySet::EMPTY;
        };
        let Some(graceful) = negotiated
            .graceful_restart
            .as_ref()
            .filter(|g| g.restart_time > 0)
        else {
            return FamilySet::EMPTY;
        };
        let survives = match &end.cause {
            ResetCause::Transport(_) | ResetCause::Reconnected => true,
            ResetCause::NotificationReceived(notification) => {
                negotiated.graceful_notification && !notification.is_hard_reset()
            }
            cause => negotiated.graceful_notification && !is_final(cause),
        };
        if !survives {
            return FamilySet::EMPTY;
        }
        let theirs: FamilySet = graceful.families.iter().map(|f| f.family).collect();
        negotiated.families.intersection(theirs)
    }

    /// ROUTE-REFRESH (RFC 2918 4, RFC 7313 4). What was not negotiated is ignored, as both ask.
    pub(super) fn refresh(&mut self, ctx: &mut Context<'_>, index: usize, refresh: RouteRefresh) {
        let Some(negotiated) = &self.connections[index].negotiated else {
            return;
        };
        let family = refresh.family;
        if !negotiated.families.contains(family) {
            return;
        }
        match refresh.kind {
            RefreshKind::Request => ctx.push(Effect::RefreshOut(family)),
            RefreshKind::Begin if negotiated.enhanced_refresh => {
                self.retained.insert(family);
                self.start_stale_timer(ctx);
                ctx.push(Effect::BeginRefresh(family));
            }
            RefreshKind::End if negotiated.enhanced_refresh => {
                self.sweep(ctx, family, SweepCause::EndOfRefresh);
            }
            RefreshKind::Begin | RefreshKind::End => {}
        }
    }

    pub(super) fn start_stale_timer(&mut self, ctx: &Context<'_>) {
        let time = self
            .config
            .session
            .graceful_restart
            .map_or(Duration::from_secs(360), |graceful| graceful.stale_time);
        self.timers.set(TimerKind::Stale, ctx.now + time);
    }

    pub(super) fn sweep(&mut self, ctx: &mut Context<'_>, family: Family, cause: SweepCause) {
        if self.retained.contains(family) {
            self.retained.remove(family);
            ctx.push(Effect::Sweep(family, cause));
        }
        if self.retained.is_empty() {
            self.timers.stop(TimerKind::Stale);
            self.timers.stop(TimerKind::Restart);
        }
    }

    pub(super) fn sweep_all(&mut self, ctx: &mut Context<'_>, cause: SweepCause) {
        for family in self.retained.iter() {
            self.sweep(ctx, family, cause);
        }
    }
}

/// Ends that graceful restart must not soften (RFC 8538 3.1).
pub(super) fn is_final(cause: &ResetCause) -> bool {
    matches!(
        cause,
        ResetCause::AdminShutdown
            | ResetCause::PeerRemoved
            | ResetCause::MaxPrefixes { .. }
            | ResetCause::ShuttingDown
    )
}
