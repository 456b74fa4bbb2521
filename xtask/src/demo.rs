//! `cargo xtask demo`: a real router announces, a real packet is redirected.
//!
//! ```text
//!                          ┌── ToR 1, FRR ───┐
//!   client ── Causeway ────┤        │        ├── server 203.0.113.10, 2001:db8:203::10
//!              (XDP)       └── ToR 2, BIRD ──┘
//! ```
//!
//! Everything runs in network namespaces of its own. Both ToRs announce the server's prefixes to Causeway by eBGP, and
//! reach each other over a link between them, so that a ToR whose link to Causeway is cut still finds the client.

use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use clap::ValueEnum;
use support::causeway::{Causeway, binary};
use support::fabric::{CLIENTS, Fabric, PREFIXES, SERVERS, Tor};
use support::forwarding::{group_of, kernel_forwarded, xdp_forwarded};
use support::peer::Implementation;
use support::traffic::{ProbeReport, Probes, ping, transfer};
use support::{Lab, Node, wait, wait_until};

use crate::workspace::{cargo, need_root, note, output, run as run_command};
use crate::{build_ebpf, setup};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Who plays the two ToRs
    #[arg(long, value_enum, default_value_t = Tors::Real)]
    peers: Tors,
    /// Leave everything running and say what to try
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier --keep left running
    #[arg(long, conflicts_with_all = ["keep", "peers"])]
    clean: bool,
}

/// Who plays the two ToRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tors {
    /// FRR and BIRD
    Real,
    /// Our own daemon on both, for machines without those
    None,
}

/// Under this name a kept lab lives on.
const KEPT: &str = "demo";

/// Sessions and routes come up within this, on a busy machine too.
const CONVERGED: Duration = Duration::from_secs(60);
const PINGS: u32 = 50;
const TRANSFER_BYTES: u64 = 4 << 20;
/// Flows of the probes sent while a link is cut: enough that each ToR carries some.
const FLOWS: u16 = 16;
const PROBE_EVERY: Duration = Duration::from_millis(2);
const BEFORE_CUT: Duration = Duration::from_millis(1500);
const AFTER_CUT: Duration = Duration::from_millis(4000);

/// Shows it; exits 1 when anything it shows did not hold.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    need_root("the demo makes network namespaces and loads programs: it")?;
    if args.clean {
        let found = Lab::remove_named(KEPT);
        println!(
            "{}",
            if found {
                "removed"
            } else {
                "there was nothing to remove"
            }
        );
        return Ok(ExitCode::SUCCESS);
    }
    prepare(args.peers)?;
    stop_on_signals();
    let lab = if args.keep {
        Lab::named(KEPT)?
    } else {
        Lab::new()?
    };
    if args.keep {
        lab.keep();
    }
    let mut show = Show::new();
    let outcome = Demo::start(&lab, args.peers, &mut show)
        .and_then(|mut demo| demo.show(&mut show).map(|()| demo));
    match outcome {
        Ok(demo) => {
            show.table();
            if args.keep {
                demo.what_to_try()?;
            }
        }
        Err(error) => {
            show.table();
            if !wait::interrupted() {
                eprintln!("{}", lab.logs());
            }
            if args.keep {
                eprintln!("kept as it is; `cargo xtask demo --clean` removes it");
            }
            return Err(error);
        }
    }
    Ok(if show.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn prepare(tors: Tors) -> Result<()> {
    setup::ensure_packages(setup::LAB)?;
    if tors == Tors::Real {
        setup::ensure_packages(setup::DEMO_PEERS).map_err(|error| {
            anyhow!("{error:#}; or run `cargo xtask demo --peers none`, where our own daemon plays both ToRs")
        })?;
    }
    build_ebpf::build()?;
    note("building causewayd and causeway");
    run_command(cargo().args(["build", "--quiet", "-p", "causewayd", "-p", "causeway"]))
}

/// From now on Ctrl-C ends the next wait, and the lab is undone on the way out.
fn stop_on_signals() {
    extern "C" fn interrupt(_: libc::c_int) {
        wait::interrupt();
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler stores to an atomic, which is safe in a signal handler.
        unsafe {
            libc::signal(signal, interrupt as *const () as libc::sighandler_t);
        }
    }
}

/// Progress, and what was shown.
struct Show {
    start: Instant,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    seen: String,
    holds: bool,
}

impl Show {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            rows: Vec::new(),
        }
    }

    fn say(&self, text: &str) {
        println!("[{:5.1} s] {text}", self.start.elapsed().as_secs_f64());
    }

    fn row(&mut self, what: &str, seen: impl Into<String>, holds: bool) {
        let seen = seen.into();
        self.say(&format!(
            "{} {what}: {seen}",
            if holds { "ok  " } else { "FAIL" }
        ));
        self.rows.push(Row {
            what: what.to_owned(),
            seen,
            holds,
        });
    }

    fn holds(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.holds)
    }

    fn table(&self) {
        let width = |text: fn(&Row) -> &str| {
            self.rows
                .iter()
                .map(|row| text(row).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (what, seen) = (width(|row| &row.what), width(|row| &row.seen));
        println!("\n{:<what$}  {:<seen$}  holds", "what", "seen");
        println!("{}  {}  ─────", "─".repeat(what), "─".repeat(seen));
        for row in &self.rows {
            println!(
                "{:<what$}  {:<seen$}  {}",
                row.what,
                row.seen,
                if row.holds { "yes" } else { "NO" }
            );
        }
        println!();
    }
}

struct Demo {
    fabric: Fabric,
    causeway: Causeway,
    tors: [Tor; 2],
}

impl Demo {
    fn start(lab: &Lab, kind: Tors, show: &mut Show) -> Result<Self> {
        show.say("making five nodes: client, router, tor1, tor2, server");
        let fabric = Fabric::new(lab)?;
        let start = |index: usize| -> Result<Tor> {
            let implementation = match kind {
                Tors::Real => Some([Implementation::Frr, Implementation::Bird][index]),
                Tors::None => None,
            };
            let tor = fabric.start_tor(index, implementation, |_| {})?;
            let version = version(&tor).unwrap_or_else(|_| tor.name());
            show.say(&format!("{version} on {}", fabric.tors[index].name()));
            Ok(tor)
        };
        let tors = [start(0)?, start(1)?];
        if kind == Tors::None {
            show.say("no other implementation takes part: --peers none");
        }
        let causeway = Causeway::start(&fabric.router, Fabric::gateway())?;
        show.say("causewayd on router, its XDP program on client, tor1 and tor2");
        Ok(Self {
            fabric,
            causeway,
            tors,
        })
    }

    fn show(&mut self, show: &mut Show) -> Result<()> {
        self.sessions(show)?;
        self.routes(show)?;
        self.groups(show)?;
        self.crossing(show)?;
        self.cut(show)
    }

    fn sessions(&mut self, show: &mut Show) -> Result<()> {
        self.causeway.wait_established(CONVERGED)?;
        for tor in &mut self.tors {
            tor.wait_established(CONVERGED)?;
        }
        let names = self.tors.each_ref().map(Tor::name);
        show.row(
            "sessions",
            format!(
                "{} and {}, each IPv4 and IPv6: Established",
                names[0], names[1]
            ),
            true,
        );
        Ok(())
    }

    fn routes(&mut self, show: &mut Show) -> Result<()> {
        for prefix in PREFIXES {
            let paths = wait_until(&format!("{prefix} from both ToRs"), CONVERGED, || {
                let paths = self.causeway.paths(prefix)?;
                let used = paths
                    .iter()
                    .filter(|path| path["status"] == "best" || path["status"] == "multipath")
                    .count();
                ensure!(used == 2, "{paths:?}");
                Ok(paths)
            })?;
            let hops: Vec<_> = paths
                .iter()
                // The global address; a link-local one may follow.
                .filter_map(|path| path["nextHop"].as_str()?.split(' ').next())
                .collect();
            show.row(
                &format!("{prefix} by BGP"),
                format!("via {}", hops.join(" and ")),
                true,
            );
        }
        for prefix in CLIENTS {
            for tor in &self.tors {
                tor.wait_route(prefix, CONVERGED)?;
            }
            show.row(&format!("{prefix} by BGP"), "on both ToRs", true);
        }
        Ok(())
    }

    fn groups(&self, show: &mut Show) -> Result<()> {
        for server in SERVERS {
            let group = self.wait_members(server, 2)?;
            show.row(
                &format!("map entry for {server}"),
                format!("a group of {} next hops {group:?} (bpftool)", group.len()),
                group.len() == 2,
            );
        }
        Ok(())
    }

    fn wait_members(&self, server: IpAddr, members: usize) -> Result<Vec<u64>> {
        wait_until(
            &format!("a group of {members} for {server}"),
            CONVERGED,
            || {
                let group = group_of(&self.fabric.router, server)?;
                ensure!(group.len() == members, "members {group:?}");
                Ok(group)
            },
        )
    }

    /// Pings and transfers, and the counters around them.
    fn crossing(&self, show: &mut Show) -> Result<()> {
        // The first packets resolve neighbours on the way.
        for server in SERVERS {
            wait_until(&format!("an answer from {server}"), CONVERGED, || {
                ensure!(ping(&self.fabric.client, server, 1)? == 1, "no answer");
                Ok(())
            })?;
        }
        let (xdp, kernel) = (
            xdp_forwarded(&self.fabric.router)?,
            kernel_forwarded(&self.fabric.router)?,
        );
        for server in SERVERS {
            let answered = ping(&self.fabric.client, server, PINGS)?;
            show.row(
                &format!("ping {server}"),
                format!("{answered} of {PINGS} answered"),
                answered == PINGS,
            );
        }
        for server in SERVERS {
            let took = transfer(
                &self.fabric.client,
                &self.fabric.server,
                server,
                TRANSFER_BYTES,
            )?;
            show.row(
                &format!("TCP to {server}"),
                format!(
                    "{} MiB in {:.2} s, every byte right",
                    TRANSFER_BYTES >> 20,
                    took.as_secs_f64()
                ),
                true,
            );
        }
        let xdp = xdp_forwarded(&self.fabric.router)? - xdp;
        let kernel = kernel_forwarded(&self.fabric.router)? - kernel;
        // Requests and answers in both families, and at least one full segment for each 1448 bytes.
        let least = u64::from(4 * PINGS) + 2 * TRANSFER_BYTES / 1448;
        show.row(
            "who forwarded",
            format!("XDP {xdp} packets (at least {least} crossed), the kernel {kernel}"),
            xdp >= least && kernel * 100 < xdp,
        );
        Ok(())
    }

    /// Cuts the first ToR's link under traffic, and mends it.
    fn cut(&self, show: &mut Show) -> Result<()> {
        let tor = &self.fabric.tors[0];
        show.say(&format!(
            "sending probes in {FLOWS} flows per family, one every {PROBE_EVERY:?}, and cutting the link of tor1"
        ));
        let start = |server| {
            Probes::start(
                &self.fabric.client,
                &self.fabric.server,
                server,
                FLOWS,
                PROBE_EVERY,
            )
        };
        let [v4, v6] = SERVERS;
        let probes = [start(v4)?, start(v6)?];
        let before = self.fabric.carried()?;
        pause(BEFORE_CUT)?;
        let after = self.fabric.carried()?;
        let each = [after[0] - before[0], after[1] - before[1]];
        tor.ip(["link set router down"])?;
        let cut = Instant::now();
        let mut reaction = Vec::new();
        for server in SERVERS {
            let members = wait_until("the group to shrink", CONVERGED, || {
                let group = group_of(&self.fabric.router, server)?;
                ensure!(group.len() == 1, "members {group:?}");
                Ok(group)
            });
            reaction.push((server, members.map(|_| cut.elapsed())));
        }
        pause(AFTER_CUT.saturating_sub(cut.elapsed()))?;
        show.row(
            "ECMP before the cut",
            format!("tor1 carried {} packets, tor2 {}", each[0], each[1]),
            each.iter().all(|packets| *packets > 0),
        );
        for (server, shrank) in reaction {
            show.row(
                &format!("{server} after the cut"),
                match &shrank {
                    Ok(_) => "a group of 1 next hop (bpftool)".to_owned(),
                    Err(error) => format!("{error:#}"),
                },
                shrank.is_ok(),
            );
        }
        for (server, probes) in SERVERS.into_iter().zip(probes) {
            let report = probes.finish()?;
            show.row(
                &format!("traffic to {server}"),
                probes_text(&report),
                goes_on(&report),
            );
        }
        let took = transfer(&self.fabric.client, &self.fabric.server, v4, TRANSFER_BYTES)?;
        show.row(
            "TCP after the cut",
            format!(
                "{} MiB in {:.2} s",
                TRANSFER_BYTES >> 20,
                took.as_secs_f64()
            ),
            true,
        );

        tor.ip(["link set router up"])?;
        for server in SERVERS {
            let group = self.wait_members(server, 2);
            show.row(
                &format!("{server} after mending"),
                match &group {
                    Ok(group) => format!("a group of {} next hops again", group.len()),
                    Err(error) => format!("{error:#}"),
                },
                group.is_ok(),
            );
        }
        Ok(())
    }

    fn what_to_try(&self) -> Result<()> {
        let enter = |node: &Node| format!("nsenter -t {} -n -m", node.holder());
        let (router, client) = (enter(&self.fabric.router), enter(&self.fabric.client));
        let causeway = binary("causeway")?;
        let causeway = causeway.display();
        println!("It goes on running. To try:");
        println!("  {router} {causeway} status");
        println!("  {router} {causeway} bgp neighbors");
        println!("  {router} {causeway} bgp routes");
        println!("  {router} {causeway} route list");
        println!("  {router} bpftool map dump pinned /sys/fs/bpf/causeway/counters");
        println!("  {client} ping {}", SERVERS[0]);
        for (tor, node) in self.tors.iter().zip(&self.fabric.tors) {
            let ask = match tor {
                Tor::Real(peer) if peer.implementation() == Implementation::Frr => {
                    "vtysh -c 'show bgp summary'".to_owned()
                }
                Tor::Real(_) => "birdc show route all".to_owned(),
                Tor::Ours(_) => format!("{causeway} bgp routes"),
            };
            println!("  {} {ask}", enter(node));
        }
        println!(
            "  {} ip link set router down     # cut {} again",
            enter(&self.fabric.tors[0]),
            self.fabric.tors[0].name()
        );
        println!(
            "Configuration and logs: {}",
            self.causeway.directory().display()
        );
        println!("To end it: cargo xtask demo --clean");
        Ok(())
    }
}

/// What the ToR's program says of itself.
fn version(tor: &Tor) -> Result<String> {
    let (program, name) = match tor {
        Tor::Real(peer) => (peer.implementation().program().into(), tor.name()),
        Tor::Ours(_) => (binary("causewayd")?, tor.name()),
    };
    // BIRD says it on stderr.
    let text = output(Command::new("sh").args([
        "-c",
        &format!("{} --version 2>&1 | head -n 1", program.display()),
    ]))?;
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned);
    match number {
        Some(number) => Ok(format!("{name} {number}")),
        None => bail!("no version in {text:?}"),
    }
}

fn probes_text(report: &ProbeReport) -> String {
    format!(
        "{} of {} lost, longest outage of a flow {} ms; {} answers lost",
        report.lost(),
        report.sent,
        report.longest_outage.as_millis(),
        report.arrived.saturating_sub(report.returned)
    )
}

/// Fail-over may take as long as the kernel may hold a link event back, about a second, and then nothing is lost.
fn goes_on(report: &ProbeReport) -> bool {
    report.sent > 0
        && report.arrived * 10 >= report.sent * 7
        && report.longest_outage < Duration::from_secs(2)
}

/// Sleeps, unless interrupted.
fn pause(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        if wait::interrupted() {
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
