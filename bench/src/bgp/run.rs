//! One daemon between its blasters and the monitor, from start to end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bgp::daemons::Subject;
use crate::bgp::fleet::{Fleet, bgp_socket, establish};
use crate::bgp::lab::{DAEMON_ASN, Lab, PEER_BASE_ASN, daemon_addr, peer};
use crate::bgp::monitor::Monitor;
use crate::bgp::process::Daemon;
use crate::bgp::table::Table;
use crate::bgp::view::{Counts, Rules, View};

/// The monitor heard nothing for this long, and the daemon doesn't work any more.
const QUIET: Duration = Duration::from_millis(300);
/// A daemon that uses less of a core than this has nothing left to do.
const IDLE_CPU_SHARE: f64 = 0.05;
const CPU_SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// An incomplete table without any progress for this long is a failure.
const STALLED: Duration = Duration::from_secs(20);
/// Longer than the slowest daemon needs for the largest case.
const PHASE_TIMEOUT: Duration = Duration::from_secs(300);
const PUMP_INTERVAL: Duration = Duration::from_millis(10);

/// A daemon with its peers. Fields drop in order: sessions end before the daemon does.
#[derive(Debug)]
pub(crate) struct Run<'t> {
    pub(crate) fleet: Fleet,
    monitor: Monitor,
    pub(crate) view: View<'t>,
    daemon: Daemon,
    cpu: CpuWatch,
    phase: Phase,
}

/// What a phase cost, from [`Run::begin`] until the daemon is at rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu_seconds: f64,
    /// From the start to the last UPDATE at the monitor.
    pub(crate) last_update_seconds: f64,
    pub(crate) peak_rss_mib: f64,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Phase {
    start: Instant,
    cpu: Duration,
}

impl<'t> Run<'t> {
    /// Starts the daemon and establishes all sessions.
    pub(crate) fn start(
        lab: &Lab,
        subject: &Subject,
        table: &'t Table,
        blasters: u8,
    ) -> Result<Self> {
        let mut daemon = subject.start(lab, blasters)?;
        let connect = |number| establish(peer(number), socket(number));
        let sessions = (0..=blasters).map(connect).collect::<Result<Vec<_>>>();
        let mut sessions = match sessions {
            Ok(sessions) => sessions,
            Err(error) => {
                daemon.check_alive()?;
                return Err(error.context(format!(
                    "the daemon's log ends with:\n{}",
                    daemon.last_words()
                )));
            }
        };
        let rules = Rules {
            daemon_asn: DAEMON_ASN,
            next_hop: daemon_addr(0),
            blaster_base_asn: PEER_BASE_ASN,
        };
        let monitor = Monitor::start(sessions.remove(0))?;
        let cpu = CpuWatch::start(&daemon)?;
        let mut run = Self {
            fleet: Fleet::new(sessions)?,
            monitor,
            view: View::new(table, rules),
            phase: Phase {
                start: Instant::now(),
                cpu: daemon.cpu()?,
            },
            daemon,
            cpu,
        };
        run.settle(|view| view.present() == 0)
            .context("after the sessions came up")?;
        Ok(run)
    }

    /// Starts the clocks of a phase.
    pub(crate) fn begin(&mut self) -> Result<Instant> {
        self.view.begin();
        self.phase = Phase {
            start: Instant::now(),
            cpu: self.daemon.cpu()?,
        };
        Ok(self.phase.start)
    }

    /// Drives the sessions until the daemon is at rest and `complete`.
    pub(crate) fn settle(&mut self, complete: impl Fn(&View<'_>) -> bool) -> Result<Cost> {
        let begun = Instant::now();
        loop {
            self.pump(PUMP_INTERVAL)?;
            let quiet = self.fleet.sent() && self.monitor.idle() > QUIET;
            if self.cpu.is_idle(&self.daemon)? && quiet && begun.elapsed() > QUIET {
                self.view.apply(&self.monitor.take())?;
                if complete(&self.view) {
                    return self.cost();
                }
                if self.monitor.idle() > STALLED {
                    bail!(
                        "incomplete: the monitor has {} prefixes\n{}",
                        self.view.present(),
                        self.daemon.last_words()
                    );
                }
            }
            if begun.elapsed() > PHASE_TIMEOUT {
                bail!("not at rest after {} s", PHASE_TIMEOUT.as_secs());
            }
        }
    }

    /// Moves bytes for at most `timeout`.
    pub(crate) fn pump(&mut self, timeout: Duration) -> Result<()> {
        self.fleet.pump(timeout)?;
        match self.monitor.ended() {
            None => Ok(()),
            Some(reason) => {
                self.daemon.check_alive()?;
                bail!("{reason}\n{}", self.daemon.last_words())
            }
        }
    }

    /// The daemon used next to no CPU in the last tenth of a second.
    pub(crate) fn daemon_rests(&mut self) -> Result<bool> {
        self.cpu.is_idle(&self.daemon)
    }

    fn cost(&self) -> Result<Cost> {
        let counts = self.view.counts;
        let last = counts.last.unwrap_or(self.phase.start);
        Ok(Cost {
            cpu_seconds: (self.daemon.cpu()? - self.phase.cpu).as_secs_f64(),
            last_update_seconds: last
                .saturating_duration_since(self.phase.start)
                .as_secs_f64(),
            peak_rss_mib: self.daemon.peak_rss_mib()?,
            counts,
        })
    }
}

fn socket(number: u8) -> SocketAddr {
    bgp_socket(daemon_addr(number))
}

/// Tells whether a daemon still works, from its CPU time between two looks.
#[derive(Debug)]
pub(crate) struct CpuWatch {
    at: Instant,
    cpu: Duration,
    idle: bool,
}

impl CpuWatch {
    pub(crate) fn start(daemon: &Daemon) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu: daemon.cpu()?,
            idle: false,
        })
    }

    pub(crate) fn is_idle(&mut self, daemon: &Daemon) -> Result<bool> {
        let elapsed = self.at.elapsed();
        if elapsed >= CPU_SAMPLE_INTERVAL {
            let cpu = daemon.cpu()?;
            let used = cpu.saturating_sub(self.cpu);
            self.idle = used.as_secs_f64() < IDLE_CPU_SHARE * elapsed.as_secs_f64();
            (self.at, self.cpu) = (Instant::now(), cpu);
        }
        Ok(self.idle)
    }
}
