//! Two peers that behave while another does not, and the time that news takes from the one to the other.
//!
//! ```text
//!  speaker ── UPDATE with the n-th prefix ──▶ router under test ──▶ listener: when did the n-th arrive?
//! ```
//!
//! Both speak byte by byte, so that what is measured is the router's time and not another router's timers. Both sessions
//! must live all the time: a connection that ends fails the measurement.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::raw::{self, OpenFields, RawPeer};
use crate::{Node, wait_until};

/// Between two UPDATEs of the speaker.
const PACE: Duration = Duration::from_millis(10);

/// Prefixes that are out at a time; an older one is withdrawn by the UPDATE that announces the next.
const WINDOW: u32 = 512;

/// The first prefix, a host route in 100.64.0.0/10.
const FIRST: u32 = 0x6440_0000;

/// Seconds between KEEPALIVEs.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// The pair, measuring.
pub struct Bystanders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<Measured>,
}

#[derive(Default)]
struct Measured {
    sent: Vec<Instant>,
    seen: Vec<Option<Instant>>,
    failure: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Measured> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fail(&self, who: &str, error: &anyhow::Error) {
        if !self.stopped() {
            let text = format!("the {who}'s session: {error:#}");
            self.state().failure.get_or_insert(text);
        }
    }
}

/// What a thread does again and again.
type Work = Box<dyn FnMut(&Shared) -> Result<()> + Send>;

/// An end of the pair.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its AS.
    pub asn: u32,
}

impl Bystanders {
    /// Establishes both sessions with `router` from `node` and begins to measure.
    pub fn start(node: &Node, router: Ipv4Addr, speaker: End, listener: End) -> Result<Self> {
        let establish = |end: End| {
            let open = OpenFields::new(end.asn, end.address.octets()).encode();
            RawPeer::establish(node, end.address, router, &open)
        };
        // Those that read keep what came with the last message of the handshake.
        let (mut deaf, mut listening) = (establish(speaker)?, establish(listener)?);
        let (mut speaking, mut alive) = (deaf.try_clone()?, listening.try_clone()?);
        let shared = Arc::new(Shared::default());
        let run = |who: &'static str, mut work: Work| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                while !shared.stopped() {
                    if let Err(error) = work(&shared) {
                        shared.fail(who, &error);
                        return;
                    }
                }
            })
        };
        let attributes = raw::attributes(speaker.asn, speaker.address);
        let mut told = Instant::now();
        let threads = vec![
            run(
                "speaker",
                Box::new(move |shared| {
                    std::thread::sleep(PACE);
                    if told.elapsed() > KEEPALIVE {
                        told = Instant::now();
                        speaking.send(&raw::keepalive())?;
                    }
                    speak(&mut speaking, &attributes, shared)
                }),
            ),
            run(
                "listener",
                Box::new(move |_| {
                    std::thread::sleep(KEEPALIVE);
                    alive.send(&raw::keepalive())
                }),
            ),
            run("speaker", Box::new(move |_| read(&mut deaf).map(drop))),
            run(
                "listener",
                Box::new(move |shared| listen(&mut listening, shared)),
            ),
        ];
        Ok(Self { shared, threads })
    }

    /// A point in time, for [`Self::since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.state().sent.len()
    }

    /// What news took since `mark`, once all of it has arrived.
    ///
    /// # Errors
    ///
    /// When a session ended, or something did not arrive within `limit`.
    pub fn since(&self, mark: usize, limit: Duration) -> Result<Latency> {
        let end = self.mark();
        ensure!(end > mark, "nothing was sent");
        wait_until("the bystanders' news", limit, || {
            let state = self.shared.state();
            if let Some(failure) = &state.failure {
                return Ok(Err(anyhow!("{failure}")));
            }
            let mut times = Vec::new();
            for n in mark..end {
                let seen = state.seen.get(n).copied().flatten();
                let seen = seen.ok_or_else(|| anyhow!("UPDATE {n} has not arrived"))?;
                times.push(seen.saturating_duration_since(state.sent[n]));
            }
            Ok(Ok(Latency::new(times)))
        })?
    }

    /// Measures for some time.
    pub fn measure(&self, time: Duration) -> Result<Latency> {
        let mark = self.mark();
        std::thread::sleep(time);
        self.since(mark, Duration::from_secs(30))
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its failure, if any, was told.
            let _ = thread.join();
        }
    }
}

fn speak(peer: &mut RawPeer, attributes: &[u8], shared: &Shared) -> Result<()> {
    let n = {
        let mut state = shared.state();
        state.sent.push(Instant::now());
        u32::try_from(state.sent.len() - 1)?
    };
    let host = |n: u32| {
        let mut prefix = vec![32];
        prefix.extend((FIRST + n).to_be_bytes());
        prefix
    };
    let gone = n.checked_sub(WINDOW).map(host).unwrap_or_default();
    peer.send(&raw::update(&gone, attributes, &host(n)))
}

fn listen(peer: &mut RawPeer, shared: &Shared) -> Result<()> {
    let Some(message) = read(peer)? else {
        return Ok(());
    };
    let now = Instant::now();
    let mut state = shared.state();
    for prefix in raw::announced(&message) {
        if let (32, Some(n)) = (prefix.length, prefix.address.checked_sub(FIRST)) {
            let n = n as usize;
            if n < state.sent.len() {
                if state.seen.len() <= n {
                    state.seen.resize(n + 1, None);
                }
                state.seen[n].get_or_insert(now);
            }
        }
    }
    Ok(())
}

/// The next message, or none within a short time, so that the thread sees that it shall end.
fn read(peer: &mut RawPeer) -> Result<Option<raw::RawMessage>> {
    peer.limit_reads(Duration::from_millis(200))?;
    match peer.read() {
        Ok(message) if message.kind == raw::NOTIFICATION => {
            Err(anyhow!("NOTIFICATION {:?}", message.body))
        }
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.downcast_ref::<std::io::Error>() {
            Some(io) if matches!(io.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

/// How long news took.
#[derive(Clone, Debug)]
pub struct Latency {
    sorted: Vec<Duration>,
}

impl Latency {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { sorted: times }
    }

    /// The time within which `percent` of the news arrived.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.sorted.len() * percent / 100).min(self.sorted.len() - 1);
        self.sorted[at]
    }

    /// The time within which half of the news arrived.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} UPDATEs, p50 {:.2?}, p99 {:.2?}, longest {:.2?}",
            self.sorted.len(),
            self.median(),
            self.percentile(99),
            self.percentile(100)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let latency = Latency::new((0..100).rev().map(Duration::from_millis).collect());
        assert_eq!(latency.median(), Duration::from_millis(50));
        assert_eq!(latency.percentile(99), Duration::from_millis(99));
        assert_eq!(latency.percentile(100), Duration::from_millis(99));
    }
}
