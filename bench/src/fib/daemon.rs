//! The shipped daemon between its peers, with programs on both links.
//!
//! ```text
//!   peers 1.. ─── blasters ─┐
//!                           ├─ daemon: maps, programs, kernel routes
//!   peer 0 ───── monitor ───┘
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map, MapData};
use causeway_datapath::Datapath;
use causeway_maps::catalogue::{LIVENESS, MAX_NEXT_HOPS, ROUTES4};
use causeway_net::kernel::PROTOCOL;

use super::{against_limit, alone};
use crate::bgp::daemons;
use crate::bgp::fleet::{Fleet, bgp_socket, establish};
use crate::bgp::lab::{Lab, MONITOR, daemon_addr, peer};
use crate::bgp::process::Daemon;
use crate::bgp::run::CpuWatch;
use crate::bgp::table::{Prefix, Table};
use crate::bgp::wire;
use crate::report::{Comparison, Report};
use crate::stats::Samples;

pub(crate) const UPDATE_TO_MAP: &str = "update-to-map";
pub(crate) const NEXT_HOP_LOSS: &str = "next-hop-loss";
pub(crate) const IDLE: &str = "idle";

const SEED: u64 = 0x0CA5_E3A7;
const PROBES: usize = 500;
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// Longer than a million routes need.
const PATIENCE: Duration = Duration::from_secs(120);
const PUMP_INTERVAL: Duration = Duration::from_millis(10);
/// How long a change is waited for.
const LOSS_PATIENCE: Duration = Duration::from_secs(10);
const CUTS: usize = 20;
/// The kernel keeps news of links back for up to a second after others, which it may have kept back as well. Each cut comes
/// later, whatever the daemon had to do since the last one: so all find the kernel ready to tell.
const CUT_PAUSE: Duration = Duration::from_millis(2200);
const IDLE_PEERS: u8 = 10;
const IDLE_ROUTES: usize = 1_000;
const IDLE_TIME: Duration = Duration::from_secs(30);
/// The link of peer 0, which has it for itself.
const CUT_LINK: &str = "monitor";

/// An UPDATE's latency to the map, in ms.
const UPDATE_P99_LIMIT: f64 = 2.0;
/// Resident memory of an idle daemon, in MiB.
const IDLE_RSS_LIMIT: f64 = 30.0;
/// CPU of an idle daemon, in percent of one.
const IDLE_CPU_LIMIT: f64 = 0.2;

/// What is measured.
pub(crate) struct Subject(daemons::Subject, PathBuf);

impl Subject {
    pub(crate) fn new(program: &Path, scripts: &Path) -> Result<Self> {
        let pins = PathBuf::from(format!("/sys/fs/bpf/cw-bench-{}", std::process::id()));
        let subject = daemons::Subject::forwarding(program, scripts, &pins)?;
        Ok(Self(subject, pins))
    }
}

/// A daemon and its peers. Fields drop in order: sessions end before the daemon, and its pins go last.
struct Running {
    fleet: Fleet,
    daemon: Daemon,
    cpu: CpuWatch,
    maps: PathBuf,
    _left: Left,
}

/// What the daemon leaves behind, so that packets go on: its pins, and the kernel's routes. The next one would have to remove
/// those first.
struct Left {
    pins: PathBuf,
    flush: Command,
}

impl Left {
    fn by(lab: &Lab, subject: &Subject) -> Self {
        // With the groups of next hops go the routes.
        let mut flush = lab.command(Path::new("ip"));
        flush.args(["nexthop", "flush", "proto", &PROTOCOL.to_string()]);
        Self {
            pins: subject.1.clone(),
            flush,
        }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        if let Err(error) = Datapath::unload_pins(&self.pins) {
            eprintln!("warning: {error:#}");
        }
        // Members take their groups along: that those are gone already is no reason to complain.
        if let Err(error) = self.flush.output() {
            eprintln!("warning: the kernel's routes stay: {error}");
        }
    }
}

impl Running {
    /// With sessions to peers 1 to `peers`, and to peer 0, which is the last of the fleet.
    fn start(lab: &Lab, subject: &Subject, peers: u8) -> Result<Self> {
        let left = Left::by(lab, subject);
        let mut daemon = subject.0.start(lab, peers)?;
        let sessions = (1..=peers)
            .chain([MONITOR])
            .map(|number| establish(peer(number), bgp_socket(daemon_addr(number))))
            .collect::<Result<Vec<_>>>();
        let sessions = match sessions {
            Ok(sessions) => sessions,
            Err(error) => {
                daemon.check_alive()?;
                return Err(error.context(daemon.last_words()));
            }
        };
        let cpu = CpuWatch::start(&daemon)?;
        Ok(Self {
            fleet: Fleet::new(sessions)?,
            daemon,
            cpu,
            maps: subject.1.clone(),
            _left: left,
        })
    }

    /// Drives the sessions until `routes` prefixes are in the map and the daemon rests.
    fn settle(&mut self, routes: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.fleet.pump(PUMP_INTERVAL)?;
            if self.fleet.sent() && self.cpu.is_idle(&self.daemon)? {
                let entries = Datapath::pinned_entries(&self.maps, ROUTES4.name)?;
                // The daemon's own links are in it too.
                if entries >= routes {
                    return Ok(());
                }
                ensure!(
                    Instant::now() < deadline,
                    "{entries} of {routes} prefixes are in the map\n{}",
                    self.daemon.last_words()
                );
            }
        }
    }

    /// Until no next hop is dead, and then until the daemon rests.
    fn wait_alive(&mut self, liveness: &Array<MapData, u32>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut alive = false;
        while !alive || !self.cpu.is_idle(&self.daemon)? {
            ensure!(Instant::now() < deadline, "the next hop did not return");
            self.fleet.pump(PUMP_INTERVAL)?;
            if !alive && dead(liveness)? == 0 {
                alive = true;
                // What it did before says nothing.
                self.cpu = CpuWatch::start(&self.daemon)?;
            }
        }
        Ok(())
    }

    fn routes4(&self) -> Result<LpmTrie<MapData, [u8; 4], u32>> {
        let data = MapData::from_pin(self.maps.join(ROUTES4.name))?;
        Ok(Map::from_map_data(data)?.try_into()?)
    }

    fn liveness(&self) -> Result<Array<MapData, u32>> {
        let data = MapData::from_pin(self.maps.join(LIVENESS.name))?;
        Ok(Map::from_map_data(data)?.try_into()?)
    }
}

/// One prefix after the other, beside 10k at rest: from the write at the sender to the map.
pub(crate) fn update_to_map(lab: &Lab, subject: &Subject, report: &mut Report) -> Result<()> {
    report.expect_case(UPDATE_TO_MAP);
    let table = Table::generate(10_000, PROBES, SEED);
    let mut running = Running::start(lab, subject, 1)?;
    let stream = wire::announce(&table, table.route_groups(), peer(1));
    running.fleet.queue(1, stream);
    running.settle(table.routes())?;
    let routes = running.routes4()?;
    let mut samples = Samples::default();
    for group in table.probe_groups() {
        let message = wire::announce(&table, [group], peer(1));
        let [Prefix { addr, len }] = *table.prefixes_of(group) else {
            bail!("a probe is one prefix");
        };
        let key = Key::new(len.into(), addr.to_be_bytes());
        ensure!(routes.get(&key, 0).is_err(), "a probe was there before");
        let sent = Instant::now();
        running.fleet.queue(1, message);
        running.fleet.pump(Duration::ZERO)?;
        while routes.get(&key, 0).is_err() {
            ensure!(
                sent.elapsed() < LOSS_PATIENCE,
                "{} never came to the map",
                Ipv4Addr::from(addr)
            );
        }
        samples.push(sent.elapsed().as_secs_f64() * 1000.0);
        running.fleet.pump(PROBE_INTERVAL)?;
    }
    let percentile = |percent| samples.percentile(percent).context("no probe was sent");
    let case = UPDATE_TO_MAP;
    against_limit(
        report,
        case,
        ("p99_ms", "ms"),
        percentile(99.0)?,
        UPDATE_P99_LIMIT,
    );
    alone(
        report,
        case,
        ("p50_ms", "ms"),
        &Samples::of(percentile(50.0)?),
    );
    Ok(())
}

/// From the cut of a link until the programs are told that one of two next hops is dead, with many prefixes and with few.
pub(crate) fn next_hop_loss(
    lab: &Lab,
    subject: &Subject,
    many: usize,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    const FEW: usize = 10;
    report.expect_case(NEXT_HOP_LOSS);
    let cuts = if rounds == 1 { CUTS / 4 } else { CUTS };
    let [many, few] = [many, FEW].map(|routes| losses(lab, subject, routes, cuts));
    report.add(Comparison {
        case: NEXT_HOP_LOSS,
        metric: "dead_ms",
        unit: "ms",
        ours: Some(&many?),
        reference: "causewayd, 10 prefixes",
        reference_value: Some(&few?),
        binding: true,
    });
    Ok(())
}

fn losses(lab: &Lab, subject: &Subject, routes: usize, cuts: usize) -> Result<Samples> {
    let table = Table::generate(routes, 0, SEED);
    let mut running = Running::start(lab, subject, 1)?;
    // Peer 0 is the fleet's second session.
    for (number, from) in [(1, 1), (2, MONITOR)] {
        let stream = wire::announce(&table, table.route_groups(), peer(from));
        running.fleet.queue(number, stream);
    }
    running.settle(routes)?;
    let mut samples = Samples::default();
    for _ in 0..cuts {
        let liveness = running.liveness()?;
        ensure!(dead(&liveness)? == 0, "a next hop was dead before");
        let cut = AtomicBool::new(false);
        let spent = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                while !cut.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                let start = Instant::now();
                while dead(&liveness)? == 0 {
                    ensure!(start.elapsed() < LOSS_PATIENCE, "the loss was not noticed");
                }
                Ok(start.elapsed())
            });
            cut.store(true, Ordering::Release);
            set_link("down")?;
            watch.join().unwrap_or_else(|_| bail!("the watch panicked"))
        })?;
        samples.push(spent.as_secs_f64() * 1000.0);
        set_link("up")?;
        let up = Instant::now();
        running.wait_alive(&liveness)?;
        while up.elapsed() < CUT_PAUSE {
            running.fleet.pump(PUMP_INTERVAL)?;
        }
    }
    Ok(samples)
}

/// How many next hops are dead.
fn dead(liveness: &Array<MapData, u32>) -> Result<usize> {
    // The first ids are given out first; this daemon has few.
    const LOOKED_AT: u32 = 8;
    let mut dead = 0;
    for id in 1..LOOKED_AT.min(MAX_NEXT_HOPS) {
        dead += usize::from(liveness.get(&id, 0)? != 0);
    }
    Ok(dead)
}

/// The peers' end: the daemon's loses its carrier.
fn set_link(state: &str) -> Result<()> {
    let status = Command::new("ip")
        .args(["link", "set", CUT_LINK, state])
        .status()
        .context("start ip (package iproute2)")?;
    ensure!(status.success(), "`ip link set {CUT_LINK} {state}` failed");
    Ok(())
}

/// Ten peers that have said everything.
pub(crate) fn idle(lab: &Lab, subject: &Subject, quick: bool, report: &mut Report) -> Result<()> {
    report.expect_case(IDLE);
    let table = Table::generate(IDLE_ROUTES, 0, SEED);
    // Peer 0 is one of them.
    let mut running = Running::start(lab, subject, IDLE_PEERS - 1)?;
    for number in 1..IDLE_PEERS {
        let stream: Arc<[u8]> = wire::announce(&table, table.route_groups(), peer(number));
        running.fleet.queue(number, stream);
    }
    running.settle(IDLE_ROUTES)?;
    let time = if quick { IDLE_TIME / 3 } else { IDLE_TIME };
    let (start, before) = (Instant::now(), running.daemon.cpu()?);
    while start.elapsed() < time {
        running.fleet.pump(PUMP_INTERVAL)?;
    }
    let spent = (running.daemon.cpu()? - before).as_secs_f64();
    let percent = 100.0 * spent / start.elapsed().as_secs_f64();
    let rss = running.daemon.rss_mib()?;
    against_limit(report, IDLE, ("rss_mib", "MiB"), rss, IDLE_RSS_LIMIT);
    against_limit(report, IDLE, ("cpu_percent", "%"), percent, IDLE_CPU_LIMIT);
    // Reading the kernel's own BTF, which loading takes, is the peak.
    let peak = running.daemon.peak_rss_mib()?;
    let maps = running.daemon.map_memory_mib()?;
    for (metric, mib) in [("peak_rss_mib", peak), ("map_mib", maps)] {
        alone(report, IDLE, (metric, "MiB"), &Samples::of(mib));
    }
    Ok(())
}
