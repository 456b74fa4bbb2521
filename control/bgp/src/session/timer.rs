//! Timers as deadlines, and the small generator that jitters them.

use core::time::Duration;

use crate::time::Time;

/// Timers of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimerKind {
    /// ConnectRetryTimer (RFC 4271 8).
    ConnectRetry,
    /// IdleHoldTimer (RFC 4271 8.1.1), also the wait after too many prefixes.
    IdleHold,
    /// HoldTimer (RFC 4271 8).
    Hold,
    /// KeepaliveTimer (RFC 4271 8).
    Keepalive,
    /// SendHoldTimer (RFC 9687).
    SendHold,
    /// The restart timer of a gracefully restarting peer (RFC 4724 4.2).
    Restart,
    /// Upper limit on keeping stale routes after its return (RFC 4724 4.2).
    Stale,
    /// How long the answer to an OPEN waits for a connection that may collide with this one.
    Collision,
}

impl TimerKind {
    /// Every timer.
    pub const ALL: [Self; 8] = [
        Self::ConnectRetry,
        Self::IdleHold,
        Self::Hold,
        Self::Keepalive,
        Self::SendHold,
        Self::Restart,
        Self::Stale,
        Self::Collision,
    ];

    /// The name used in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectRetry => "connect-retry",
            Self::IdleHold => "idle-hold",
            Self::Hold => "hold",
            Self::Keepalive => "keepalive",
            Self::SendHold => "send-hold",
            Self::Restart => "restart",
            Self::Stale => "stale",
            Self::Collision => "collision",
        }
    }
}

/// A table of deadlines, one per kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers([Option<Time>; TimerKind::ALL.len()]);

impl Timers {
    /// When `kind` expires.
    pub(crate) fn deadline(&self, kind: TimerKind) -> Option<Time> {
        self.0[kind as usize]
    }

    /// Starts or restarts `kind`.
    pub(crate) fn set(&mut self, kind: TimerKind, at: Time) {
        self.0[kind as usize] = Some(at);
    }

    /// Stops `kind`.
    pub(crate) fn stop(&mut self, kind: TimerKind) {
        self.0[kind as usize] = None;
    }

    /// Stops all.
    pub(crate) fn clear(&mut self) {
        self.0 = Default::default();
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes one timer that has expired by `now`, the earliest kind first.
    pub(crate) fn expire(&mut self, now: Time) -> Option<TimerKind> {
        let kind = TimerKind::ALL
            .into_iter()
            .find(|kind| self.deadline(*kind).is_some_and(|at| at <= now))?;
        self.stop(kind);
        Some(kind)
    }

    /// Running timers with their deadlines.
    pub(crate) fn running(&self) -> impl Iterator<Item = (TimerKind, Time)> + '_ {
        TimerKind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, self.deadline(kind)?)))
    }
}

/// A small seeded generator (SplitMix64) for jitter. Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `duration` times a factor from 0.75 to 1.0, evenly distributed (RFC 4271 10).
    pub(crate) fn apply(&mut self, duration: Duration) -> Duration {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let quarter = nanos / 4;
        Duration::from_nanos(nanos - self.next() % (quarter + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_three_quarters_and_one_and_reaches_both_halves() {
        let mut jitter = Jitter::new(7);
        let full = Duration::from_secs(100);
        let drawn: Vec<_> = (0..1000).map(|_| jitter.apply(full)).collect();
        assert!(
            drawn
                .iter()
                .all(|d| (Duration::from_secs(75)..=full).contains(d))
        );
        assert!(drawn.iter().any(|d| *d < Duration::from_secs(80)));
        assert!(drawn.iter().any(|d| *d > Duration::from_secs(95)));
        assert_eq!(jitter.apply(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn expired_timers_come_once_and_only_when_due() {
        let mut timers = Timers::default();
        let at = |s| Time::from_duration(Duration::from_secs(s));
        timers.set(TimerKind::Hold, at(9));
        timers.set(TimerKind::Keepalive, at(3));
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.expire(at(2)), None);
        assert_eq!(timers.expire(at(3)), Some(TimerKind::Keepalive));
        assert_eq!(timers.expire(at(3)), None);
        timers.set(TimerKind::Hold, at(20));
        assert_eq!(timers.expire(at(9)), None);
        assert_eq!(
            timers.running().collect::<Vec<_>>(),
            [(TimerKind::Hold, at(20))]
        );
    }
}
