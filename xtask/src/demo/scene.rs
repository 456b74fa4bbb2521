//! What the demo shows, in order.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use support::capture::Capture;
use support::causeway::binary;
use support::fabric::Tor;
use support::forwarding::{group_of, kernel_forwarded, xdp_forwarded};
use support::peer::Implementation;
use support::racks::{CLIENT, RACKS, Racks, next_hops, pod_addresses, pod_prefixes};
use support::traffic::{ProbeReport, Probes, ping, transfer};
use support::{Lab, Node, wait_until};

use super::{Show, Tors, pause};
use crate::workspace::output;

/// Sessions and routes come up within this, on a busy machine too.
const CONVERGED: Duration = Duration::from_secs(60);
const PINGS: u32 = 20;
const TRANSFER_BYTES: u64 = 2 << 20;
/// Flows of a numbered stream, and the distance of its packets.
const FLOWS: u16 = 4;
const EVERY: Duration = Duration::from_millis(1);
/// Flows of a stream that is to be spread.
const MANY_FLOWS: u16 = 32;
/// What of a stream may be lost with a spine.
const SPINE_LOSS: Duration = Duration::from_millis(50);
const BEFORE: Duration = Duration::from_millis(700);
const AFTER: Duration = Duration::from_millis(1500);
/// How long the daemon is dead.
const DEAD: Duration = Duration::from_millis(1500);
/// Bytes of the ping by which the capture is proven; no other packet has this length.
const KNOWN_BYTES: u32 = 333;

/// The lab and where the streams run.
pub(super) struct Scene {
    lab: Lab,
    racks: Racks,
}

/// A stream under way, and what to call it.
struct Stream {
    name: String,
    probes: Probes,
}

impl Scene {
    /// Makes the lab and starts everybody.
    pub(super) fn start(lab: &Lab, tors: Tors, show: &mut Show) -> Result<Self> {
        show.say("making client, spine1, spine2, tor1, tor2, node1 to node3 and two pods on each");
        let implementations = match tors {
            Tors::Real => [Some(Implementation::Frr), Some(Implementation::Bird)],
            Tors::None => [None; RACKS],
        };
        let racks = Racks::start(lab, implementations)?;
        for (tor, node) in racks.tors.iter().zip(&racks.tor_nodes) {
            let version = version(tor).unwrap_or_else(|_| tor.name());
            show.say(&format!("{version} on {}", node.name()));
        }
        show.say("causewayd with XDP on client, spine1, spine2, node1, node2 and node3");
        Ok(Self {
            lab: lab.clone(),
            racks,
        })
    }

    /// Shows everything.
    pub(super) fn play(&mut self, show: &mut Show) -> Result<()> {
        self.sessions(show)?;
        self.ecmp(show)?;
        let capture = self.proven_capture(show)?;
        self.crossing(show)?;
        own_addresses(capture, show)?;
        self.both_spines_carry(show)?;
        self.daemon_dies(show)?;
        self.spine_goes(show)
    }

    fn sessions(&mut self, show: &mut Show) -> Result<()> {
        let sessions = self.racks.wait_established(CONVERGED)?;
        let tors = self.racks.tors.each_ref().map(Tor::name);
        show.row(
            "sessions",
            format!(
                "{sessions} Established, each family on its own; tor1 is {}, tor2 is {}",
                tors[0], tors[1]
            ),
            true,
        );
        self.racks.wait_routes(CONVERGED)?;
        show.row(
            "routes by BGP",
            "every router knows the pods of all nodes, and the client",
            true,
        );
        self.racks.wait_reachable(CONVERGED)?;
        show.row("reachability", "every pod and the client answer", true);
        Ok(())
    }

    /// The last node's pods, seen from the client and from the other rack's ToR.
    fn ecmp(&self, show: &mut Show) -> Result<()> {
        for (prefix, address) in pod_prefixes(2).iter().zip(pod_addresses(2, 0)) {
            let members = self.members(address, RACKS)?;
            show.row(
                &format!("ECMP for {prefix} on client"),
                format!("{members} next hops in the map (bpftool)"),
                members == RACKS,
            );
            let tor = &self.racks.tors[0];
            let hops = wait_until(&format!("{prefix} on tor1"), CONVERGED, || {
                let hops = next_hops(tor, &self.racks.tor_nodes[0], prefix)?;
                ensure!(hops == RACKS, "{hops} next hops");
                Ok(hops)
            });
            show.row(
                &format!("ECMP for {prefix} on tor1"),
                match &hops {
                    Ok(hops) => format!("{hops} next hops, {}", tor.name()),
                    Err(error) => format!("{error:#}"),
                },
                hops.is_ok(),
            );
        }
        Ok(())
    }

    /// Next hops that the client's maps hold for an address, once there are as many as wanted.
    fn members(&self, address: IpAddr, wanted: usize) -> Result<usize> {
        wait_until(
            &format!("{wanted} next hops for {address}"),
            CONVERGED,
            || {
                let group = group_of(&self.racks.client.node, address)?;
                ensure!(group.len() == wanted, "next hops {group:?}");
                Ok(group.len())
            },
        )
    }

    /// A capture on node3's end of its link that has shown a packet of which we know.
    fn proven_capture(&self, show: &mut Show) -> Result<Capture> {
        let capture = Capture::start(&self.racks.tap, "node3", "icmp or icmp6")?;
        let tor = &self.racks.tor_nodes[1];
        tor.command("ping")
            .args(["-n", "-q", "-c", "1", "-s", &KNOWN_BYTES.to_string()])
            .arg("10.1.3.2")
            .output()?;
        let length = format!("length {}", KNOWN_BYTES + 8);
        let seen = capture.wait_packet(
            &["10.1.3.1 > 10.1.3.2", "echo request", &length],
            Duration::from_secs(5),
        );
        show.row(
            "capture on node3's link",
            match &seen {
                Ok(_) => format!("shows a known ping of {KNOWN_BYTES} bytes"),
                Err(_) => "does not show a known ping".to_owned(),
            },
            seen.is_ok(),
        );
        Ok(capture)
    }

    /// Pings and transfers in both families from rack to rack and from the client, and the spines' counters around them.
    fn crossing(&self, show: &mut Show) -> Result<()> {
        let (xdp, kernel) = self.spines_forwarded()?;
        let (near, far) = (&self.racks.pods[0][0], &self.racks.pods[2][0]);
        let client = &self.racks.client.node;
        for address in pod_addresses(2, 0) {
            for (from, name) in [(near, "pod to pod"), (client, "client to pod")] {
                let answered = ping(from, address, PINGS)?;
                let took = transfer(from, far, address, TRANSFER_BYTES)?;
                show.row(
                    &format!("{name}, {address}"),
                    format!(
                        "{answered} of {PINGS} pings, {} MiB of TCP in {:.2} s, every byte right",
                        TRANSFER_BYTES >> 20,
                        took.as_secs_f64()
                    ),
                    answered == PINGS,
                );
            }
        }
        let (xdp_after, kernel_after) = self.spines_forwarded()?;
        let (xdp, kernel) = (
            xdp_after.iter().sum::<u64>() - xdp.iter().sum::<u64>(),
            kernel_after - kernel,
        );
        // Four crossings: requests and answers, and at least one full segment for each 1448 bytes.
        let least = 4 * (u64::from(2 * PINGS) + TRANSFER_BYTES / 1448);
        show.row(
            "who forwarded on the spines",
            format!("XDP {xdp} packets (at least {least} crossed), the kernel {kernel}"),
            xdp >= least && kernel * 100 < xdp,
        );
        Ok(())
    }

    /// By XDP on each spine, and by the kernels of all.
    fn spines_forwarded(&self) -> Result<(Vec<u64>, u64)> {
        let (mut xdp, mut kernel) = (Vec::new(), 0);
        for spine in &self.racks.spines {
            xdp.push(xdp_forwarded(&spine.node)?);
            kernel += kernel_forwarded(&spine.node)?;
        }
        Ok((xdp, kernel))
    }

    fn both_spines_carry(&self, show: &mut Show) -> Result<()> {
        let (before, _) = self.spines_forwarded()?;
        let streams = [
            self.stream("pod to pod", &self.racks.pods[0][0], MANY_FLOWS, 0)?,
            self.stream("client to pod", &self.racks.client.node, MANY_FLOWS, 1)?,
        ];
        pause(BEFORE)?;
        for stream in streams {
            stream.probes.finish()?;
        }
        let (after, _) = self.spines_forwarded()?;
        let carried: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        let all: u64 = carried.iter().sum();
        show.row(
            "ECMP under traffic",
            format!(
                "of {all} packets in {} flows spine1 carried {}, spine2 {}",
                2 * MANY_FLOWS,
                carried[0],
                carried[1]
            ),
            carried.iter().all(|packets| packets * 5 > all),
        );
        Ok(())
    }

    /// Packets from `from` to a pod of node3, in the family with this index.
    fn stream(&self, name: &str, from: &Node, flows: u16, family: usize) -> Result<Stream> {
        let address = pod_addresses(2, 1)[family];
        Ok(Stream {
            name: format!("{name}, {address}"),
            probes: Probes::start(from, &self.racks.pods[2][1], address, flows, EVERY)?,
        })
    }

    /// Streams from the other rack and from the client, in both families.
    fn streams(&self) -> Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for family in 0..2 {
            streams.push(self.stream("pod to pod", &self.racks.pods[0][1], FLOWS, family)?);
            streams.push(self.stream("client to pod", &self.racks.client.node, FLOWS, family)?);
        }
        Ok(streams)
    }

    fn daemon_dies(&mut self, show: &mut Show) -> Result<()> {
        show.say(
            "killing causewayd on node1 and starting it again, with traffic from and to its pods",
        );
        let mut streams = self.streams()?;
        for address in pod_addresses(0, 0) {
            streams.push(Stream {
                name: format!("client to pod, {address}"),
                probes: Probes::start(
                    &self.racks.client.node,
                    &self.racks.pods[0][0],
                    address,
                    FLOWS,
                    EVERY,
                )?,
            });
        }
        pause(BEFORE)?;
        let causeway = &mut self.racks.nodes[0].causeway;
        causeway.kill()?;
        pause(DEAD)?;
        causeway.restart()?;
        causeway.wait_established(CONVERGED)?;
        pause(AFTER)?;
        for Stream { name, probes } in streams {
            let report = probes.finish()?;
            show.row(
                &format!("daemon killed: {name}"),
                lost_text(&report),
                report.sent > 0 && report.lost() == 0 && report.returned == report.arrived,
            );
        }
        Ok(())
    }

    fn spine_goes(&mut self, show: &mut Show) -> Result<()> {
        show.say("removing spine1 under traffic");
        let streams = self.streams()?;
        pause(BEFORE)?;
        self.racks.remove_spine(&self.lab)?;
        pause(AFTER)?;
        for Stream { name, probes } in streams {
            let report = probes.finish()?;
            show.row(
                &format!("spine removed: {name}"),
                lost_text(&report),
                report.sent > 0
                    && report.longest_gap <= SPINE_LOSS
                    && report.lost() * millis(EVERY) <= millis(SPINE_LOSS),
            );
        }
        for address in pod_addresses(2, 0) {
            let members = self.members(address, 1);
            show.row(
                &format!("{address} on client"),
                match &members {
                    Ok(members) => format!("{members} next hop left in the map"),
                    Err(error) => format!("{error:#}"),
                },
                members.is_ok(),
            );
        }
        Ok(())
    }

    /// Commands for a lab that was kept.
    pub(super) fn what_to_try(&self) -> Result<()> {
        let enter = |node: &Node| format!("nsenter -t {} -n -m", node.holder());
        let racks = &self.racks;
        let causeway = binary("causeway")?;
        let causeway = causeway.display();
        println!("It goes on running, without spine1. To try:");
        for speaker in [&racks.client, &racks.nodes[0]] {
            let node = enter(&speaker.node);
            println!("  {node} {causeway} status     # {}", speaker.node.name());
            println!("  {node} {causeway} bgp routes");
            println!("  {node} {causeway} route list");
        }
        println!(
            "  {} bpftool map dump pinned /sys/fs/bpf/causeway/counters",
            enter(&racks.spines[0].node)
        );
        println!(
            "  {} ping {}",
            enter(&racks.client.node),
            pod_addresses(2, 0)[0]
        );
        println!("  {} ping {}", enter(&racks.pods[0][0]), CLIENT[1]);
        for (tor, node) in racks.tors.iter().zip(&racks.tor_nodes) {
            let ask = match tor {
                Tor::Real(peer) if peer.implementation() == Implementation::Frr => {
                    "vtysh -c 'show bgp summary'".to_owned()
                }
                Tor::Real(_) => "birdc show route all".to_owned(),
                Tor::Ours(_) => format!("{causeway} bgp routes"),
            };
            println!("  {} {ask}", enter(node));
        }
        println!("Configuration and logs: {}", self.lab.dir().display());
        println!("To end it: cargo xtask demo --clean");
        Ok(())
    }
}

/// What arrived at node3 while the pods and the client talked to its first pod.
fn own_addresses(capture: Capture, show: &mut Show) -> Result<()> {
    let packets = capture.finish()?;
    let (near, far) = (pod_addresses(0, 0), pod_addresses(2, 0));
    for ((from, to), client) in near.into_iter().zip(far).zip(CLIENT) {
        for (from, name) in [(from, "pod to pod"), (client, "client to pod")] {
            let seen = |pair: &str| {
                packets
                    .iter()
                    .filter(|packet| packet.contains(pair))
                    .count()
            };
            let (there, back) = (
                seen(&format!("{from} > {to}")),
                seen(&format!("{to} > {from}")),
            );
            show.row(
                &format!("on the wire, {name}"),
                format!("{there} packets {from} > {to}, {back} back"),
                there >= PINGS as usize && back >= PINGS as usize,
            );
        }
    }
    Ok(())
}

fn lost_text(report: &ProbeReport) -> String {
    format!(
        "{} of {} lost, longest gap {} ms; {} answers lost",
        report.lost(),
        report.sent,
        report.longest_gap.as_millis(),
        report.arrived.saturating_sub(report.returned)
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the ToR's program says of itself.
fn version(tor: &Tor) -> Result<String> {
    let (program, name) = match tor {
        Tor::Real(peer) => (PathBuf::from(peer.implementation().program()), tor.name()),
        Tor::Ours(_) => (binary("causewayd")?, tor.name()),
    };
    // BIRD says it on stderr.
    let text = output(Command::new("sh").args([
        "-c",
        &format!("{} --version 2>&1 | head -n 1", program.display()),
    ]))?;
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    match number {
        Some(number) => Ok(format!("{name} {number}")),
        None => bail!("no version in {text:?}"),
    }
}
