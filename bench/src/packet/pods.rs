//! From a pod of one node to a pod of another, with all that lies between.
//!
//! ```text
//!   live frames ─▶ pod ═══ pod-a [node a] up-a ═══ up-b [node b] pod-b ═══ eth0 [pod] ─▶ counted and dropped
//! ```
//!
//! Three paths of this form stand side by side: ours (TC at `pod-a`, XDP and TC at `up-b`, into the pod by
//! `bpf_redirect_peer`), a bridge on each node with the kernel routing between them, and the same with a VXLAN device. What
//! generator and sink cost is measured with the sink on `pod-a`, and taken from all.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::tc::{SchedClassifierLink, TcAttachType};
use aya::programs::xdp::XdpMode;
use causeway_maps::{NextHop, next_hop_flags, port_flags};
use nix::sched::{CloneFlags, setns};

use super::flows::{self, Frame, OWN_MAC, PODS4};
use super::ours::Ours;
use super::plain::Plain;
use super::veth::{generate, ip_batch};
use crate::report::{Comparison, Report};
use crate::stats::Samples;

/// Our reference in each case.
pub(crate) const CASES: [(&str, Kind); 2] = [
    ("pod-to-pod-bridge", Kind::Bridge),
    ("pod-to-pod-vxlan", Kind::Vxlan),
];

/// Whole nodes are between the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Bridge,
    Vxlan,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Bridge => "bridge",
            Self::Vxlan => "vxlan",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Ours => "causeway",
            Self::Bridge => "bridges, kernel routing",
            Self::Vxlan => "bridges, VXLAN",
        }
    }

    /// Interface indices of a path begin here.
    fn base(self) -> u32 {
        match self {
            Self::Ours => 40,
            Self::Bridge => 50,
            Self::Vxlan => 60,
        }
    }
}

/// The block of node b, and the pods.
const BLOCK: u32 = 1;
const POD_A: [u8; 4] = [PODS4[0], PODS4[1], 0, 2];
const POD_B: [u8; 4] = [PODS4[0], PODS4[1], BLOCK as u8, 2];

const UP_A_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const UP_B_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const POD_B_HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0c];
const POD_B_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0d];
/// Of the VXLAN devices.
const VTEP_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 0x0a], [2, 0, 0, 0, 1, 0x0b]];

/// Runs the cases.
pub(crate) fn run(
    plain: &mut Plain,
    object: &Path,
    (rounds, packets): (usize, u32),
    wanted: impl Fn(&str) -> bool,
    report: &mut Report,
) -> Result<()> {
    let frames = flows::pod_frames(POD_A, POD_B, causeway_bench_ebpf::FLOWS, super::SEED);
    plain.set_flows(&frames)?;
    let ours = OurPath::make(plain, object)?;
    for (case, kind) in CASES {
        if !wanted(case) {
            continue;
        }
        report.expect_case(case);
        let reference = Nodes::make(kind)?;
        reference.make_kernel_path()?;
        let sink = reference.attach_sink(plain)?;
        let mut net = [Samples::default(), Samples::default()];
        let mut gross = [Samples::default(), Samples::default()];
        for _ in 0..rounds {
            let idle = idle(plain, &reference, &frames, packets)?;
            for (side, nodes) in [&ours.nodes, &reference].into_iter().enumerate() {
                let spent = sent(plain, nodes, &frames, packets)
                    .with_context(|| format!("by {}", nodes.kind.title()))?;
                gross[side].push(spent);
                net[side].push(spent - idle);
            }
        }
        drop(sink);
        for (metric, [ours, theirs]) in [("net_ns", &net), ("gross_ns", &gross)] {
            report.add(Comparison {
                case,
                metric,
                unit: "ns",
                ours: Some(ours),
                reference: kind.title(),
                reference_value: Some(theirs),
                binding: metric == "net_ns",
            });
        }
    }
    Ok(())
}

fn sent(plain: &mut Plain, nodes: &Nodes, frames: &[Frame], packets: u32) -> Result<f64> {
    plain.send_by(nodes.kind.base())?;
    generate(plain, nodes.kind.base(), frames, packets)
}

/// With the sink where the first node begins.
fn idle(plain: &mut Plain, nodes: &Nodes, frames: &[Frame], packets: u32) -> Result<f64> {
    let link = nodes.a.enter(|| {
        let sink = plain.pod_sink()?;
        let id = sink.attach("pod-a", TcAttachType::Ingress)?;
        Ok(sink.take_link(id)?)
    })?;
    let spent = sent(plain, nodes, frames, packets);
    nodes.a.enter(|| {
        drop(link);
        Ok(())
    })?;
    spent
}

/// Our programs on both nodes. Fields drop in order: programs before interfaces.
struct OurPath {
    _programs: [Ours; 2],
    _sink: SchedClassifierLink,
    nodes: Nodes,
}

impl OurPath {
    fn make(plain: &mut Plain, object: &Path) -> Result<Self> {
        let nodes = Nodes::make(Kind::Ours)?;
        let base = nodes.kind.base();
        let [pod_a, up_a, up_b, pod_b] = [1, 2, 3, 4].map(|n| base + n);
        let hop = |ifindex, flags, [src_mac, dst_mac]: [[u8; 6]; 2]| NextHop {
            ifindex,
            tx_ifindex: ifindex,
            mtu: 1500,
            flags: next_hop_flags::RESOLVED | flags,
            dst_mac,
            src_mac,
            vlan: 0,
            reserved: 0,
            addr: [0; 16],
        };

        let mut a = Ours::empty(object)?;
        a.put_port(pod_a, port_flags::POD, OWN_MAC)?;
        a.put_port(up_a, port_flags::UPLINK, UP_A_MAC)?;
        a.put_only_group(&hop(up_a, 0, [UP_A_MAC, UP_B_MAC]))?;
        a.put_route4([PODS4[0], PODS4[1], BLOCK as u8, 0], 24)?;
        a.put_pod_block4(BLOCK)?;
        nodes.a.enter(|| {
            let program = a.tc_program("causeway_tc_pod")?;
            program.attach("pod-a", TcAttachType::Ingress)?;
            Ok(())
        })?;

        let mut b = Ours::empty(object)?;
        b.put_port(up_b, port_flags::UPLINK, UP_B_MAC)?;
        b.put_port(pod_b, port_flags::POD, POD_B_HOST_MAC)?;
        let local = next_hop_flags::LOCAL | next_hop_flags::PEER;
        b.put_only_group(&hop(pod_b, local, [POD_B_HOST_MAC, POD_B_MAC]))?;
        // The node's own block holds single pods: the index leaves it to the trie.
        b.put_route4(POD_B, 32)?;
        nodes.b.enter(|| {
            b.program_mut()?.attach("up-b", XdpMode::Driver)?;
            let program = b.tc_program("causeway_tc_uplink")?;
            program.attach("up-b", TcAttachType::Ingress)?;
            Ok(())
        })?;
        let sink = nodes.attach_sink(plain)?;
        Ok(Self {
            _programs: [a, b],
            _sink: sink,
            nodes,
        })
    }
}

/// Two nodes and the pod of the second; the first pod's end is in this thread's namespace.
struct Nodes {
    kind: Kind,
    a: Namespace,
    b: Namespace,
    pod: Namespace,
}

impl Nodes {
    fn make(kind: Kind) -> Result<Self> {
        let namespace = |of| Namespace::make(kind, of);
        let (a, b, pod) = (namespace("a")?, namespace("b")?, namespace("pod")?);
        let base = kind.base();
        let own = mac(OWN_MAC);
        ip_batch(&[
            format!(
                "link add cw-pod-{} index {base} type veth peer name pod-a index {} address {own} netns {}",
                kind.name(),
                base + 1,
                a.0
            ),
            format!("link set cw-pod-{} up", kind.name()),
            format!(
                "link add up-a index {} address {} netns {} type veth peer name up-b index {} address {} netns {}",
                base + 2,
                mac(UP_A_MAC),
                a.0,
                base + 3,
                mac(UP_B_MAC),
                b.0
            ),
            format!(
                "link add pod-b index {} address {} netns {} type veth peer name eth0 index {} address {} netns {}",
                base + 4,
                mac(POD_B_HOST_MAC),
                b.0,
                base + 5,
                mac(POD_B_MAC),
                pod.0
            ),
        ])?;
        for (namespace, names) in [
            (&a, &["pod-a", "up-a"][..]),
            (&b, &["up-b", "pod-b"]),
            (&pod, &["eth0"]),
        ] {
            namespace.enter(|| {
                let lines: Vec<String> = names
                    .iter()
                    .map(|name| format!("link set {name} up"))
                    .collect();
                ip_batch(&lines)
            })?;
        }
        // A veth takes redirected frames in if it has a program or GRO.
        a.enter(|| command("ethtool", &["-K", "pod-a", "gro", "on"]))?;
        let nodes = Self { kind, a, b, pod };
        nodes
            .pod
            .enter(|| ip_batch(&[format!("addr add {}/24 dev eth0", Ipv4Addr::from(POD_B))]))?;
        Ok(nodes)
    }

    /// What a CNI of bridges sets up.
    fn make_kernel_path(&self) -> Result<()> {
        for (nth, namespace) in [&self.a, &self.b].into_iter().enumerate() {
            let (here, there) = (nth as u8, 1 - nth as u8);
            let (up, pod) = [("up-a", "pod-a"), ("up-b", "pod-b")][nth];
            let neighbour = [UP_B_MAC, UP_A_MAC][nth];
            let [first, second, ..] = PODS4;
            let block = |node: u8, host: u8| Ipv4Addr::from([first, second, node, host]);
            let mut lines = vec![
                format!("link add cni0 address {} type bridge", mac(OWN_MAC)),
                format!("link set {pod} master cni0"),
                "link set cni0 up".to_owned(),
                format!("addr add {}/24 dev cni0", block(here, 1)),
                format!("addr add 192.0.2.{}/24 dev {up}", here + 1),
                format!(
                    "neigh add 192.0.2.{} lladdr {} dev {up} nud permanent",
                    there + 1,
                    mac(neighbour)
                ),
            ];
            if self.kind == Kind::Vxlan {
                lines.extend([
                    format!(
                        "link add vxlan0 address {} type vxlan id 1 dev {up} local 192.0.2.{} dstport 4789 nolearning",
                        mac(VTEP_MACS[nth]),
                        here + 1
                    ),
                    format!("addr add {}/32 dev vxlan0", block(here, 0)),
                    "link set vxlan0 up".to_owned(),
                    format!("neigh add {} lladdr {} dev vxlan0 nud permanent", block(there, 0), mac(VTEP_MACS[1 - nth])),
                    format!("route add {}/24 via {} dev vxlan0 onlink", block(there, 0), block(there, 0)),
                ]);
            } else {
                lines.push(format!(
                    "route add {}/24 via 192.0.2.{}",
                    block(there, 0),
                    there + 1
                ));
            }
            if nth == 1 {
                lines.push(format!(
                    "neigh add {} lladdr {} dev cni0 nud permanent",
                    Ipv4Addr::from(POD_B),
                    mac(POD_B_MAC)
                ));
            }
            namespace.enter(|| {
                ip_batch(&lines)?;
                if self.kind == Kind::Vxlan {
                    let vtep = mac(VTEP_MACS[1 - nth]);
                    let remote = format!("192.0.2.{}", there + 1);
                    command(
                        "bridge",
                        &["fdb", "append", &vtep, "dev", "vxlan0", "dst", &remote],
                    )?;
                }
                for (name, value) in [
                    ("ip_forward", "1"),
                    ("conf/all/rp_filter", "0"),
                    ("conf/default/rp_filter", "0"),
                ] {
                    std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value)
                        .with_context(|| format!("set net.ipv4.{name}"))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn attach_sink(&self, plain: &mut Plain) -> Result<SchedClassifierLink> {
        self.pod.enter(|| {
            let sink = plain.pod_sink()?;
            let id = sink.attach("eth0", TcAttachType::Ingress)?;
            Ok(sink.take_link(id)?)
        })
    }
}

/// A named network namespace, deleted when this is dropped.
struct Namespace(String);

impl Namespace {
    fn make(kind: Kind, of: &str) -> Result<Self> {
        let name = format!("cw-bench-{}-{}-{of}", std::process::id(), kind.name());
        command("ip", &["netns", "add", &name])?;
        Ok(Self(name))
    }

    /// Does `work` in it, on this thread.
    fn enter<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let back = File::open("/proc/thread-self/ns/net").context("open this namespace")?;
        let to = File::open(format!("/run/netns/{}", self.0)).context("open a namespace")?;
        setns(to, CloneFlags::CLONE_NEWNET).context("enter a namespace")?;
        let result = work();
        setns(back, CloneFlags::CLONE_NEWNET).context("return from a namespace")?;
        result.with_context(|| format!("in {}", self.0))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = command("ip", &["netns", "del", &self.0]) {
            eprintln!("warning: {error:#}");
        }
    }
}

fn command(program: &str, args: &[&str]) -> Result<()> {
    let status = std::process::Command::new(program)
        .args(args)
        .status()
        .with_context(|| format!("start {program}"))?;
    anyhow::ensure!(status.success(), "`{program} {}` failed", args.join(" "));
    Ok(())
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
