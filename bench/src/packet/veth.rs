//! Packets over real interfaces: from the kernel's generator through a router to a sink.
//!
//! ```text
//!   live frames ─▶ generator ─▶ cw-gen ═══ cw-near ─▶ router ─▶ cw-far ═══ cw-sink ─▶ counted and dropped
//! ```
//!
//! All of it happens on one CPU, in this thread's time. The router is the XDP program on `cw-near`, or the kernel where
//! there is none. What generator and sink cost is measured with the sink on `cw-near`, and taken from both sides.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};

use super::flows::{Destinations, Frame, Interfaces, NODES, OWN_MAC, PODS4};
use super::ours::Ours;
use super::plain::Plain;
use super::{Samples, cpu_ns, flows};
use crate::bgp::table::Prefix;
use crate::report::{Comparison, Report};

/// Frames that the generator hands over at once; less than a veth's ring takes.
const BATCH: u32 = 64;

/// What routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Router {
    /// Nobody: the sink is where the packets come in.
    None,
    Kernel,
    Ours,
}

/// One comparison.
struct Case {
    name: &'static str,
    to: Destinations,
}

const CASES: [Case; 2] = [
    Case {
        name: "veth-pods",
        to: Destinations::Pods4,
    },
    Case {
        name: "veth-internet4",
        to: Destinations::Internet4,
    },
];

/// Interfaces of the path, by index.
pub(crate) const GENERATOR: u32 = 21;
pub(crate) const PATH: Interfaces = Interfaces {
    ingress: 22,
    egress: 23,
};
const SINK: u32 = 24;

/// Makes the interfaces, and the routes of the kernel: every node's pods and the whole table.
pub(crate) fn make_path(table: &[Prefix]) -> Result<()> {
    let own = OWN_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let mut lines = vec![
        format!(
            "link add cw-gen index {GENERATOR} type veth peer name cw-near index {} address {own}",
            PATH.ingress
        ),
        format!(
            "link add cw-far index {} type veth peer name cw-sink index {SINK}",
            PATH.egress
        ),
        "addr add 198.51.100.1/24 dev cw-near".to_owned(),
        "addr add 192.0.2.1/24 dev cw-far".to_owned(),
    ];
    for name in ["cw-gen", "cw-near", "cw-far", "cw-sink"] {
        lines.push(format!("link set {name} up"));
    }
    lines.push("neigh add 192.0.2.2 lladdr 02:ff:00:00:00:01 dev cw-far nud permanent".to_owned());
    let via = "via 192.0.2.2 dev cw-far";
    for block in 0..NODES {
        let prefix = u32::from_be_bytes(PODS4) | block << 8;
        lines.push(format!(
            "route add {}/24 {via}",
            std::net::Ipv4Addr::from(prefix)
        ));
    }
    lines.extend(
        table
            .iter()
            .map(|prefix| format!("route replace {prefix} {via}")),
    );
    // Of this thread's namespace.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let the kernel forward")?;
    ip_batch(&lines)?;
    // A veth takes redirected frames in if it has a program or GRO.
    let status = Command::new("ethtool")
        .args(["-K", "cw-near", "gro", "on"])
        .status()
        .context("start ethtool")?;
    ensure!(status.success(), "`ethtool -K cw-near gro on` failed");
    Ok(())
}

pub(crate) fn ip_batch(lines: &[String]) -> Result<()> {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("start ip (package iproute2)")?;
    if let Some(mut stdin) = ip.stdin.take() {
        stdin.write_all(lines.join("\n").as_bytes())?;
    }
    ensure!(ip.wait()?.success(), "`ip -batch` failed");
    Ok(())
}

/// Puts the sink at the end of the path.
pub(crate) fn attach_sink(plain: &mut Plain) -> Result<()> {
    let mode = aya::programs::xdp::XdpMode::Driver;
    plain.program_mut("sink")?.attach_to_if_index(SINK, mode)?;
    Ok(())
}

/// Runs the cases; the sink is attached to the end of the path already.
pub(crate) fn run(
    plain: &mut Plain,
    ours: &mut Ours,
    table: &[Prefix],
    (rounds, packets): (usize, u32),
    wanted: impl Fn(&str) -> bool,
    report: &mut Report,
) -> Result<()> {
    let cases = CASES.iter().filter(|case| wanted(case.name));
    for case in cases {
        report.expect_case(case.name);
        let frames = flows::frames(case.to, causeway_bench_ebpf::FLOWS, table, super::SEED);
        let mut samples = [Samples::default(), Samples::default()];
        let mut gross = [Samples::default(), Samples::default()];
        for _ in 0..rounds {
            let idle = measure(plain, ours, Router::None, &frames, packets)?;
            for (side, router) in [Router::Ours, Router::Kernel].into_iter().enumerate() {
                let spent = measure(plain, ours, router, &frames, packets)?;
                gross[side].push(spent);
                samples[side].push(spent - idle);
            }
        }
        for (metric, [ours, kernel]) in [("net_ns", &samples), ("gross_ns", &gross)] {
            report.add(Comparison {
                case: case.name,
                metric,
                unit: "ns",
                ours: Some(ours),
                reference: "kernel forwarding",
                reference_value: Some(kernel),
                binding: metric == "net_ns",
            });
        }
    }
    Ok(())
}

/// Nanoseconds of CPU per packet that arrived at the sink.
fn measure(
    plain: &mut Plain,
    ours: &mut Ours,
    router: Router,
    frames: &[Frame],
    packets: u32,
) -> Result<f64> {
    plain.set_flows(frames)?;
    let link = match router {
        Router::None => Some((plain.program_mut("sink")?, PATH.ingress)),
        Router::Ours => Some((ours.program_mut()?, PATH.ingress)),
        Router::Kernel => None,
    };
    let link = match link {
        Some((program, ifindex)) => {
            let id = program.attach_to_if_index(ifindex, aya::programs::xdp::XdpMode::Driver)?;
            Some(program.take_link(id)?)
        }
        None => None,
    };
    let result = generate(plain, GENERATOR, frames, packets);
    drop(link);
    result
}

/// Sends packets by the interface; nanoseconds of CPU for each that arrived at the sink.
pub(crate) fn generate(
    plain: &mut Plain,
    ifindex: u32,
    frames: &[Frame],
    packets: u32,
) -> Result<f64> {
    let context: [u32; 6] = [0, 64, 0, ifindex, 0, 0];
    let run = |plain: &Plain, packets: u32| -> Result<()> {
        let program: &Xdp = plain.program("generator")?;
        program
            .test_run(TestRunOptions {
                data_in: Some(bytemuck::cast_slice(&frames[0].words)),
                ctx_in: Some(bytemuck::cast_slice(&context)),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            })
            .context("generate packets")?;
        Ok(())
    };
    run(plain, packets / 4)?;
    let before = plain.sunk()?;
    let start = cpu_ns()?;
    run(plain, packets)?;
    let spent = cpu_ns()? - start;
    let arrived = plain.sunk()? - before;
    if arrived < u64::from(packets) * 99 / 100 {
        bail!("{arrived} of {packets} packets arrived");
    }
    Ok(spent / arrived as f64)
}
