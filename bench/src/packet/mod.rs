//! `bench packet`: the production object, packet by packet, by `BPF_PROG_TEST_RUN`.
//!
//! ```text
//!   kernel's loop ─▶ wrapper: copies the next flow's frame over the last ─▶ tail call ─▶ program under test
//! ```
//!
//! A program that rewrites would see its own output the next time; the wrapper makes every packet anew. What the loop
//! and the wrapper cost is measured with a program that does nothing, and taken from both sides (`net_ns`); `gross_ns`
//! is what was measured. It is CPU time of this thread, which is pinned, so that other work on the machine costs
//! neither side. Sides alternate within each round.
//!
//! [`flows`] are the packets, [`plain`] the programs to compare with, [`ours`] the production object with its maps;
//! [`veth`] sends real frames through interfaces, against the kernel; [`pods`] from a pod of one node to a pod of another.

mod flows;
mod internet;
mod ours;
mod plain;
mod pods;
mod veth;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use aya::programs::{TestRun, TestRunOptions};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::bgp::table::Table;
use crate::report::{Comparison, Report};
use crate::stats::Samples;
use flows::{Destinations, Frame};
use ours::Ours;
use plain::Plain;

const SEED: u64 = 1;
const FULL_ROUNDS: usize = 15;
/// Packets of one measurement.
const PACKETS: u32 = 400_000;
/// Packets before the first one, to fill caches as they are in the middle of a run.
const WARM_UP: u32 = 1 << 17;

/// `XDP_REDIRECT`.
const REDIRECT: u32 = 4;

/// Options of this suite.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The production object.
    #[arg(long, default_value = "target/ebpf/causeway.o")]
    object: PathBuf,
    /// The programs of the bench.
    #[arg(long, default_value = "target/bpfel-unknown-none/ebpf/bench")]
    bench_object: PathBuf,
    /// A recorded table (MRT, gzipped).
    #[arg(long, default_value = "tests/data/ris/ris-bview-20020722-2337.gz")]
    table: PathBuf,
    /// A made-up table of so many prefixes instead, spread evenly.
    #[arg(long)]
    routes: Option<usize>,
    /// Rounds per case [default: 15, quick: 3].
    #[arg(long)]
    rounds: Option<usize>,
    /// Packets of one measurement.
    #[arg(long, default_value_t = PACKETS)]
    packets: u32,
    /// Only cases whose name contains this.
    #[arg(long)]
    case: Option<String>,
}

/// One comparison.
struct Case {
    name: &'static str,
    /// Where our packets go.
    ours: Destinations,
    /// With the full table in our maps.
    full: bool,
    flows: usize,
    against: Against,
}

/// What we are compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    /// The plain router, on packets to its 1k prefixes.
    Plain,
    /// Ourselves, with the same packets and 1k routes.
    SmallTable,
}

const CASES: &[Case] = &[
    Case {
        name: "pods-1-flow",
        ours: Destinations::Pods4,
        full: false,
        flows: 1,
        against: Against::Plain,
    },
    Case {
        name: "pods-64k-flows",
        ours: Destinations::Pods4,
        full: false,
        flows: causeway_bench_ebpf::FLOWS,
        against: Against::Plain,
    },
    Case {
        name: "pods-full-table",
        ours: Destinations::Pods4,
        full: true,
        flows: causeway_bench_ebpf::FLOWS,
        against: Against::SmallTable,
    },
    Case {
        name: "pods6-64k-flows",
        ours: Destinations::Pods6,
        full: true,
        flows: causeway_bench_ebpf::FLOWS,
        against: Against::Plain,
    },
    Case {
        name: "internet4-1-flow",
        ours: Destinations::Internet4,
        full: true,
        flows: 1,
        against: Against::Plain,
    },
    Case {
        name: "internet4-64k-flows",
        ours: Destinations::Internet4,
        full: true,
        flows: causeway_bench_ebpf::FLOWS,
        against: Against::Plain,
    },
    Case {
        name: "internet6-64k-flows",
        ours: Destinations::Internet6,
        full: true,
        flows: causeway_bench_ebpf::FLOWS,
        against: Against::Plain,
    },
];

/// Runs the suite.
pub(crate) fn run(args: &Args, quick: bool, report: &mut Report) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the packet suite loads eBPF programs: run it as root"
    );
    let rounds = args.rounds.unwrap_or(if quick { 3 } else { FULL_ROUNDS });
    ensure!(rounds > 0, "--rounds 0 measures nothing");
    pin()?;
    // A namespace of this thread's own, for the interfaces that packets come from and go to.
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    let interfaces = flows::make_interfaces()?;
    let table = match args.routes {
        Some(routes) => Table::generate(routes, 0, SEED).prefixes,
        None => internet::read(&args.table)?,
    };
    let mut plain = Plain::load(&args.bench_object, interfaces)?;
    let small = Ours::load(&args.object, interfaces)?;
    let mut full = Ours::load(&args.object, interfaces)?;
    full.fill(&table)?;

    let wanted = |case: &&Case| {
        args.case
            .as_deref()
            .is_none_or(|part| case.name.contains(part))
    };
    for case in CASES.iter().filter(wanted) {
        let side = |case: &Case| if case.full { &full } else { &small };
        report.expect_case(case.name);
        let packets = flows::frames(case.ours, case.flows, &table, SEED);
        let plain_packets = flows::frames(Destinations::Pods4, case.flows, &table, SEED);
        let mut measured = Measured::default();
        for round in 0..rounds {
            let mut idle = measure(&mut plain, Subject::Nothing, &packets, args.packets)?;
            let reference = |plain: &mut Plain| match case.against {
                Against::Plain => measure(plain, Subject::Plain, &plain_packets, args.packets),
                Against::SmallTable => {
                    measure(plain, Subject::Ours(&small), &packets, args.packets)
                }
            };
            let (ours, reference) = if round % 2 == 0 {
                let reference = reference(&mut plain)?;
                let ours = measure(
                    &mut plain,
                    Subject::Ours(side(case)),
                    &packets,
                    args.packets,
                )?;
                (ours, reference)
            } else {
                let ours = measure(
                    &mut plain,
                    Subject::Ours(side(case)),
                    &packets,
                    args.packets,
                )?;
                (ours, reference(&mut plain)?)
            };
            // Before and after, since it is taken from both.
            idle = f64::midpoint(
                idle,
                measure(&mut plain, Subject::Nothing, &packets, args.packets)?,
            );
            measured.ours_gross.push(ours);
            measured.reference_gross.push(reference);
            measured.ours.push(ours - idle);
            measured.reference.push(reference - idle);
        }
        measured.report(case, report);
    }
    let wanted = |name: &str| args.case.as_deref().is_none_or(|part| name.contains(part));
    drop((small, full));
    let size = (rounds, args.packets);
    if wanted("veth-pods") || wanted("veth-internet4") {
        veth::make_path(&table)?;
        let mut ours = Ours::load(&args.object, veth::PATH)?;
        ours.fill(&table)?;
        plain.send_by(veth::GENERATOR)?;
        veth::attach_sink(&mut plain)?;
        veth::run(&mut plain, &mut ours, &table, size, wanted, report)?;
    }
    if pods::CASES.iter().any(|(name, _)| wanted(name)) {
        pods::run(&mut plain, &args.object, size, wanted, report)?;
    }
    Ok(())
}

/// The runs of a case.
#[derive(Default)]
struct Measured {
    ours: Samples,
    ours_gross: Samples,
    reference: Samples,
    reference_gross: Samples,
}

impl Measured {
    fn report(&self, case: &Case, report: &mut Report) {
        let reference = match case.against {
            Against::Plain => "plain LPM(1k) + ECMP + devmap",
            Against::SmallTable => "ours, 1k routes",
        };
        for (metric, ours, reference_value) in [
            ("net_ns", &self.ours, &self.reference),
            ("gross_ns", &self.ours_gross, &self.reference_gross),
        ] {
            report.add(Comparison {
                case: case.name,
                metric,
                unit: "ns",
                ours: Some(ours),
                reference,
                reference_value: Some(reference_value),
                binding: metric == "net_ns",
            });
        }
    }
}

/// A program behind the wrapper.
enum Subject<'a> {
    Nothing,
    Plain,
    Ours(&'a Ours),
}

/// Nanoseconds of CPU per packet, all of which have to be sent on.
fn measure(plain: &mut Plain, subject: Subject<'_>, frames: &[Frame], packets: u32) -> Result<f64> {
    match subject {
        Subject::Nothing => plain.call_nothing()?,
        Subject::Plain => plain.call_router()?,
        Subject::Ours(ours) => plain.call(ours.program()?)?,
    }
    plain.set_flows(frames)?;
    let forwarded = |subject: &Subject<'_>| match subject {
        Subject::Ours(ours) => ours.forwarded(),
        _ => Ok(0),
    };
    let context = plain.context();
    let repeat = |program: &Xdp, packets: u32| -> Result<()> {
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(bytemuck::cast_slice(&frames[0].words)),
                ctx_in: Some(bytemuck::cast_slice(&context)),
                repeat: packets,
                ..TestRunOptions::default()
            })
            .context("run a program")?;
        ensure!(
            result.return_value == REDIRECT,
            "a packet was not sent on: action {}",
            result.return_value
        );
        Ok(())
    };
    let wrapper = plain.wrapper()?;
    repeat(wrapper, WARM_UP.min(packets))?;
    let before = forwarded(&subject)?;
    let start = cpu_ns()?;
    repeat(wrapper, packets)?;
    let spent = cpu_ns()? - start;
    if matches!(subject, Subject::Ours(_)) {
        let counted = forwarded(&subject)? - before;
        ensure!(
            counted == u64::from(packets),
            "{counted} of {packets} packets were counted as forwarded"
        );
    }
    Ok(spent / f64::from(packets))
}

/// CPU time of this thread.
pub(crate) fn cpu_ns() -> Result<f64> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read the CPU clock")?;
    Ok(now.tv_sec() as f64 * 1e9 + now.tv_nsec() as f64)
}

fn pin() -> Result<()> {
    let mut cpus = CpuSet::new();
    let last = std::thread::available_parallelism()?.get() - 1;
    cpus.set(last)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("pin this thread to a CPU")
}
