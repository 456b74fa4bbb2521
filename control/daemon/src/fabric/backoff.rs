//! Longer and longer pauses between attempts that fail.

use crate::limits;

/// Counts ticks of the slow timer: an attempt at the next one, then after 2, 4 and so on, while something fails.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Ticks between the last two attempts; 0 while all is well.
    pause: u32,
    left: u32,
}

impl Backoff {
    /// Whether this tick brings an attempt.
    pub(super) fn due(&mut self, failing: bool) -> bool {
        if !failing {
            *self = Self::default();
            return false;
        }
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.pause = (2 * self.pause).clamp(1, limits::FABRIC_RETRY_TICKS);
        self.left = self.pause - 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_when_all_is_well() {
        let mut backoff = Backoff::default();
        let mut attempts = |failing: bool, ticks: u32| -> Vec<u32> {
            (0..ticks).filter(|_| backoff.due(failing)).collect()
        };
        assert!(attempts(false, 5).is_empty());
        assert_eq!(attempts(true, 127), [0, 1, 3, 7, 15, 31, 63, 95]);
        assert!(attempts(false, 1).is_empty());
        assert_eq!(attempts(true, 2), [0, 1]);
    }
}
