//! Waiting for a state, with a deadline and an error that says what was seen last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every wait of this process fail from now on, so that labs are undone. Safe in a signal handler.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Calls `look` until it returns `Ok`, and returns that value. `what` completes "timed out waiting for …"; the last
/// `Err` is quoted.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => {
                bail!("timed out after {limit:?} waiting for {what}; last seen: {last:#}")
            }
            Err(_) => {}
        }
        if interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_wait_ends_with_the_state_it_waited_for() {
        let mut looks = 0;
        let seen = wait_until("the third look", Duration::from_secs(60), || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err(anyhow!("look {looks}"))
            }
        });
        assert_eq!(seen.unwrap(), 3);
    }

    #[test]
    fn a_wait_in_vain_tells_what_it_saw_last() {
        let error = wait_until::<()>("a miracle", Duration::ZERO, || Err(anyhow!("state Idle")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a miracle") && error.contains("state Idle"),
            "{error}"
        );
    }
}
