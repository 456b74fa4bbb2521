//! The cases: what happens between the blasters and the monitor, and which figures come out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bgp::daemons::Subject;
use crate::bgp::lab::{Lab, peer};
use crate::bgp::run::{Cost, Run};
use crate::bgp::table::{Group, Table};
use crate::bgp::view::View;
use crate::bgp::wire;
use crate::stats::Samples;

/// All tables come from this seed.
const SEED: u64 = 0x0CA5_E3A7;
const PROBE_INTERVAL: Duration = Duration::from_millis(2);
const IDLE_PROBES: usize = 500;
const LOADING_PROBES: usize = 20_000;

/// A case of the suite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    scenario: Scenario,
}

#[derive(Clone, Copy, Debug)]
enum Scenario {
    /// Every blaster announces the whole table, or each its own share of it.
    Load {
        blasters: u8,
        routes: usize,
        shared: bool,
    },
    /// Two blasters have the same table; the preferred one dies.
    FailOver { routes: usize },
    /// Every blaster has the same table, and all withdraw it at once.
    WithdrawAll { blasters: u8, routes: usize },
    /// Single prefixes, one every 2 ms, beside a table at rest.
    NewPrefixIdle { routes: usize },
    /// Single prefixes, one every 2 ms, while another blaster's table comes in.
    NewPrefixLoading { routes: usize },
}

/// One figure. Lower is better.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

impl Case {
    /// The cases of a full run; a quick one leaves the full tables out.
    pub(crate) fn all(quick: bool) -> Vec<Self> {
        let load = |blasters, routes, shared| Scenario::Load {
            blasters,
            routes,
            shared,
        };
        let withdraw = Scenario::WithdrawAll {
            blasters: 10,
            routes: 100_000,
        };
        let loading = Scenario::NewPrefixLoading { routes: 1_000_000 };
        [
            ("load-1x100k", load(1, 100_000, true)),
            ("load-1x1m", load(1, 1_000_000, true)),
            ("load-10x100k", load(10, 100_000, true)),
            ("load-30x10k", load(30, 300_000, false)),
            ("failover-100k", Scenario::FailOver { routes: 100_000 }),
            ("withdraw-10x100k", withdraw),
            (
                "new-prefix-idle",
                Scenario::NewPrefixIdle { routes: 10_000 },
            ),
            ("new-prefix-loading", loading),
        ]
        .into_iter()
        .map(|(name, scenario)| Self { name, scenario })
        .filter(|case| !quick || case.routes() < 1_000_000)
        .collect()
    }

    /// Size of the case's table.
    fn routes(&self) -> usize {
        match self.scenario {
            Scenario::Load { routes, .. }
            | Scenario::FailOver { routes }
            | Scenario::WithdrawAll { routes, .. }
            | Scenario::NewPrefixIdle { routes }
            | Scenario::NewPrefixLoading { routes } => routes,
        }
    }

    /// The table that the case needs, the same for every subject.
    pub(crate) fn table(&self) -> Table {
        let probes = match self.scenario {
            Scenario::NewPrefixIdle { .. } => IDLE_PROBES,
            Scenario::NewPrefixLoading { .. } => LOADING_PROBES,
            _ => 0,
        };
        Table::generate(self.routes(), probes, SEED)
    }

    /// Runs the case once.
    pub(crate) fn measure(
        &self,
        lab: &Lab,
        subject: &Subject,
        table: &Table,
    ) -> Result<Vec<Figure>> {
        match self.scenario {
            Scenario::Load {
                blasters, shared, ..
            } => load(lab, subject, table, blasters, shared),
            Scenario::FailOver { .. } => fail_over(lab, subject, table),
            Scenario::WithdrawAll { blasters, .. } => withdraw_all(lab, subject, table, blasters),
            Scenario::NewPrefixIdle { .. } => new_prefix_idle(lab, subject, table),
            Scenario::NewPrefixLoading { .. } => new_prefix_loading(lab, subject, table),
        }
    }
}

fn load(
    lab: &Lab,
    subject: &Subject,
    table: &Table,
    blasters: u8,
    shared: bool,
) -> Result<Vec<Figure>> {
    let streams: Vec<Arc<[u8]>> = (1..=blasters)
        .map(|number| {
            let share = table
                .route_groups()
                .iter()
                .enumerate()
                .filter(|(position, _)| {
                    shared || position % usize::from(blasters) == usize::from(number) - 1
                });
            announce(table, share.map(|(_, group)| group), number)
        })
        .collect();
    let mut run = Run::start(lab, subject, table, blasters)?;
    run.begin()?;
    for (number, stream) in (1..).zip(streams) {
        run.fleet.queue(number, stream);
    }
    let cost = run.settle(|view| view.present() == table.routes())?;
    Ok(vec![
        figure("cpu_seconds", "s", cost.cpu_seconds),
        figure("wall_seconds", "s", cost.last_update_seconds),
        figure("peak_rss_mib", "MiB", cost.peak_rss_mib),
        updates(&cost),
        figure("repeated_routes", "count", cost.counts.repeated as f64),
    ])
}

fn fail_over(lab: &Lab, subject: &Subject, table: &Table) -> Result<Vec<Figure>> {
    const PREFERRED: u8 = 1;
    const OTHER: u8 = 2;
    let mut run = Run::start(lab, subject, table, 2)?;
    for number in [PREFERRED, OTHER] {
        run.fleet
            .queue(number, announce(table, table.route_groups(), number));
        run.settle(|view| view.present() == table.routes())?;
    }
    // Same path length and origin, first come, lower router identifier: every tie-break prefers the first.
    ensure!(
        run.view.by_way_of(PREFERRED) == table.routes(),
        "{} of {} routes are not by way of the preferred blaster",
        table.routes() - run.view.by_way_of(PREFERRED),
        table.routes()
    );
    run.begin()?;
    run.fleet.close(PREFERRED);
    let cost = run.settle(|view| view.by_way_of(OTHER) == table.routes())?;
    Ok(vec![
        figure("last_update_seconds", "s", cost.last_update_seconds),
        figure("cpu_seconds", "s", cost.cpu_seconds),
        updates(&cost),
        figure("withdrawn_routes", "count", cost.counts.withdrawals as f64),
    ])
}

fn withdraw_all(lab: &Lab, subject: &Subject, table: &Table, blasters: u8) -> Result<Vec<Figure>> {
    let mut run = Run::start(lab, subject, table, blasters)?;
    for number in 1..=blasters {
        run.fleet
            .queue(number, announce(table, table.route_groups(), number));
    }
    run.settle(|view| view.present() == table.routes())?;
    let stream = wire::withdraw(&table.prefixes);
    run.begin()?;
    for number in 1..=blasters {
        run.fleet.queue(number, Arc::clone(&stream));
    }
    let cost = run.settle(|view| view.present() == 0)?;
    Ok(vec![
        figure("last_update_seconds", "s", cost.last_update_seconds),
        figure("cpu_seconds", "s", cost.cpu_seconds),
        updates(&cost),
        figure("repeated_routes", "count", cost.counts.repeated as f64),
    ])
}

fn new_prefix_idle(lab: &Lab, subject: &Subject, table: &Table) -> Result<Vec<Figure>> {
    let mut run = Run::start(lab, subject, table, 1)?;
    run.fleet.queue(1, announce(table, table.route_groups(), 1));
    run.settle(|view| view.present() == table.routes())?;
    let mut probes = Probes::new(table);
    run.begin()?;
    while probes.remaining() {
        probes.send_when_due(&mut run)?;
    }
    let cost = run.settle(|view| view.present() == table.prefixes.len())?;
    let mut figures = probes.latencies(&run.view, None)?;
    let cpu_micros = cost.cpu_seconds * 1e6 / probes.sent.len() as f64;
    figures.push(figure("cpu_per_prefix_us", "us", cpu_micros));
    Ok(figures)
}

fn new_prefix_loading(lab: &Lab, subject: &Subject, table: &Table) -> Result<Vec<Figure>> {
    let stream = announce(table, table.route_groups(), 2);
    let mut run = Run::start(lab, subject, table, 2)?;
    let mut probes = Probes::new(table);
    run.begin()?;
    run.fleet.queue(2, stream);
    // The daemon is at rest when all that remains are the probes, which alone keep it well below the limit.
    let mut resting = false;
    while probes.remaining() && !(resting && run.fleet.sent()) {
        probes.send_when_due(&mut run)?;
        resting = run.daemon_rests()?;
    }
    let expected = table.routes() + probes.sent.len();
    run.settle(|view| view.present() == expected)?;
    let loaded = (0..table.routes())
        .filter_map(|route| run.view.first_seen(route))
        .max();
    probes.latencies(&run.view, loaded)
}

/// Prefixes announced one by one by the first blaster.
struct Probes {
    messages: Vec<Arc<[u8]>>,
    sent: Vec<Instant>,
    due: Instant,
}

impl Probes {
    fn new(table: &Table) -> Self {
        let messages = table
            .probe_groups()
            .iter()
            .map(|group| announce(table, [group], 1))
            .collect();
        Self {
            messages,
            sent: Vec::new(),
            due: Instant::now(),
        }
    }

    fn remaining(&self) -> bool {
        self.sent.len() < self.messages.len()
    }

    /// Moves other bytes until the next probe is due, then hands it to the kernel.
    fn send_when_due(&mut self, run: &mut Run<'_>) -> Result<()> {
        loop {
            let wait = self.due.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            run.pump(wait)?;
        }
        let message = Arc::clone(&self.messages[self.sent.len()]);
        let now = Instant::now();
        self.sent.push(now);
        self.due = now + PROBE_INTERVAL;
        run.fleet.queue(1, message);
        run.pump(Duration::ZERO)
    }

    /// From the write at the blaster to the read at the monitor, for probes sent before `until`.
    fn latencies(&self, view: &View<'_>, until: Option<Instant>) -> Result<Vec<Figure>> {
        let mut samples = Samples::default();
        for (number, sent) in self.sent.iter().enumerate() {
            if until.is_none_or(|until| *sent < until) {
                let seen = view
                    .probe_seen(number)
                    .with_context(|| format!("probe {number} is lost"))?;
                samples.push((seen - *sent).as_secs_f64() * 1000.0);
            }
        }
        let percentile = |percent| {
            samples
                .percentile(percent)
                .context("no probe was sent in time")
        };
        Ok(vec![
            figure("p50_ms", "ms", percentile(50.0)?),
            figure("p99_ms", "ms", percentile(99.0)?),
        ])
    }
}

fn announce<'a>(
    table: &Table,
    groups: impl IntoIterator<Item = &'a Group>,
    number: u8,
) -> Arc<[u8]> {
    wire::announce(table, groups, peer(number))
}

fn updates(cost: &Cost) -> Figure {
    figure("updates", "count", cost.counts.updates as f64)
}

fn figure(metric: &'static str, unit: &'static str, value: f64) -> Figure {
    Figure {
        metric,
        unit,
        value,
    }
}
