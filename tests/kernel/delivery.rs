//! Real packets through the TC programs: into a pod and out of it again, on a node whose kernel forwards nothing.
//!
//! ```text
//!   outside eth0 ───── up0 node pod0 ───── eth0 pod
//!   192.0.2.2      192.0.2.1   10.1.0.1    10.1.0.2
//! ```

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use causeway_maps::{Hook, Reason, next_hop_flags, port_flags};
use serde_json::Value;
use support::{Lab, Node, traffic, wait_until};

use crate::frame::{Family, Frame};
use crate::rig::Rig;
use crate::world::{VID, World, group, next_hop, port};

const TO_POD: u16 = 1;
const TO_OUTSIDE: u16 = 2;
const POD4: [u8; 4] = [10, 1, 0, 2];
const POD6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const LIMIT: Duration = Duration::from_secs(10);
/// A VLAN device on the uplink, as far as the maps know; the kernel has none.
const VLAN_DEVICE: u32 = 5_000;
const DISCARD_PORT: u16 = 9;

/// An interface as its node shows it.
struct Interface {
    ifindex: u32,
    mac: [u8; 6],
}

struct Stage {
    outside: Node,
    node: Node,
    pod: Node,
    world: World,
    rig: Rig,
}

impl Stage {
    /// With the TC programs attached, and XDP on the uplink if asked.
    fn new(lab: &Lab, with_xdp: bool) -> Result<Self> {
        let [outside, node, pod] = ["outside", "node", "pod"].map(|name| lab.node(name));
        let (outside, node, pod) = (outside?, node?, pod?);
        outside.link("eth0", &node, "up0")?;
        pod.link("eth0", &node, "pod0")?;
        outside.address("eth0", ["192.0.2.2/24", "2001:db8:2::2/64"])?;
        node.address("up0", ["192.0.2.1/24", "2001:db8:2::1/64"])?;
        node.address("pod0", ["10.1.0.1/24", "2001:db8:1::1/64"])?;
        pod.address("eth0", ["10.1.0.2/24", "2001:db8:1::2/64"])?;
        outside.ip([
            "route add 10.1.0.0/24 via 192.0.2.1",
            "-6 route add 2001:db8:1::/64 via 2001:db8:2::1",
        ])?;
        pod.ip([
            "route add default via 10.1.0.1",
            "-6 route add default via 2001:db8:1::1",
        ])?;
        let [up, at_pod] = ["up0", "pod0"].map(|name| interface(&node, name));
        let (up, at_pod) = (up?, at_pod?);
        let world = world(
            &up,
            &at_pod,
            interface(&outside, "eth0")?.mac,
            interface(&pod, "eth0")?.mac,
        );
        let rig = node.enter(|| {
            let mut rig = Rig::here(&[up.ifindex]);
            rig.attach_tc(Hook::TcUplink, "up0");
            rig.attach_tc(Hook::TcPod, "pod0");
            if with_xdp {
                rig.attach_xdp("up0");
            }
            rig
        })?;
        let mut stage = Self {
            outside,
            node,
            pod,
            world,
            rig,
        };
        stage.install();
        Ok(stage)
    }

    fn install(&mut self) {
        self.rig.install(&self.world);
    }

    /// Changes the next hop into the pod.
    fn change(&mut self, flags: u32, addr: [u8; 16]) {
        let hop = self.world.next_hops.get_mut(&TO_POD.into());
        let hop = hop.expect("the stage has it");
        hop.flags = flags;
        hop.addr = addr;
        if flags & next_hop_flags::RESOLVED == 0 {
            (hop.dst_mac, hop.src_mac) = ([0; 6], [0; 6]);
        }
        self.install();
    }

    /// Echo requests from outside, all of them answered by the pod, and what was counted meanwhile at TC: into the pod,
    /// out of it.
    fn ping(&self, address: IpAddr) -> Result<[u64; 2]> {
        let counted = || {
            [Hook::TcUplink, Hook::TcPod].map(|hook| {
                let forwarded = [Reason::Forwarded4, Reason::Forwarded6];
                forwarded.map(|reason| self.rig.counted(hook, reason)[0])[..]
                    .iter()
                    .sum::<u64>()
            })
        };
        let before = counted();
        let answered = traffic::ping(&self.outside, address, 5)?;
        ensure!(
            answered == 5,
            "{answered} of 5 to {address} were answered; {:?}",
            self.rig.named_counters()
        );
        let after = counted();
        Ok([after[0] - before[0], after[1] - before[1]])
    }

    /// Packets that the host's end of the pair has sent to the pod's, as its own counter says.
    fn sent_to_pod(&self) -> Result<u64> {
        let text = self
            .node
            .run("ip", ["-s", "-j", "link", "show", "dev", "pod0"])?;
        let link: Value = serde_json::from_str(&text)?;
        link[0]["stats64"]["tx"]["packets"]
            .as_u64()
            .context("ip shows no counter")
    }
}

fn world(up: &Interface, at_pod: &Interface, outside: [u8; 6], pod: [u8; 6]) -> World {
    let mut world = World::simple();
    world.ports.clear();
    world.vlans.clear();
    for (interface, flags) in [(up, port_flags::UPLINK), (at_pod, port_flags::POD)] {
        let mut entry = port(interface.ifindex, port_flags::ENABLED | flags);
        entry.mac = interface.mac;
        world.ports.insert(interface.ifindex, entry);
    }
    world.routes4.clear();
    world.routes6.clear();
    world.route4("10.1.0.2", 32, 3);
    world.route6("2001:db8:1::2", 128, 3);
    world.route4("192.0.2.2", 32, 4);
    world.route6("2001:db8:2::2", 128, 4);
    world.groups = [(3, group(&[TO_POD])), (4, group(&[TO_OUTSIDE]))].into();
    world.next_hops.clear();
    for (id, interface, mac) in [(TO_POD, at_pod, pod), (TO_OUTSIDE, up, outside)] {
        let mut hop = next_hop(interface.ifindex);
        hop.src_mac = interface.mac;
        hop.dst_mac = mac;
        world.next_hops.insert(id.into(), hop);
    }
    world
}

fn interface(node: &Node, name: &str) -> Result<Interface> {
    let text = node.run("ip", ["-j", "link", "show", "dev", name])?;
    let link: Value = serde_json::from_str(&text)?;
    let mac = link[0]["address"].as_str().context("no address")?;
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    Ok(Interface {
        ifindex: u32::try_from(link[0]["ifindex"].as_u64().context("no index")?)?,
        mac: bytes.try_into().ok().context("no MAC address")?,
    })
}

/// Hands a frame to an interface of this thread's namespace as it is.
fn send_raw(ifindex: u32, frame: &[u8]) -> Result<()> {
    use nix::libc;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: zeros are a valid address.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = i32::try_from(ifindex)?;
    // SAFETY: the frame and the address live across the call, and the lengths are theirs.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as u32,
        )
    };
    ensure!(
        usize::try_from(sent) == Ok(frame.len()),
        "sendto: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

fn pod_addresses() -> [IpAddr; 2] {
    [POD4.into(), POD6.into()]
}

const RESOLVED_LOCAL: u32 = next_hop_flags::RESOLVED | next_hop_flags::LOCAL;

#[test]
fn a_pod_is_handed_its_packets_and_answers_without_the_kernel_forwarding() {
    for with_xdp in [false, true] {
        Lab::test(|lab| {
            let mut stage = Stage::new(lab, with_xdp)?;
            stage.change(RESOLVED_LOCAL | next_hop_flags::PEER, [0; 16]);
            for address in pod_addresses() {
                // The first packets may wait for the pod to learn its gateway's address, which counts as sent to it.
                stage.ping(address)?;
                let sent = stage.sent_to_pod()?;
                let counted = stage.ping(address)?;
                ensure!(counted == [5, 5], "{counted:?}");
                let passed_by = stage.sent_to_pod()? - sent;
                ensure!(passed_by < 5, "{passed_by} went through the pair's queue");
            }
            let local = stage.rig.counted(Hook::Xdp, Reason::Local)[0];
            ensure!(
                (local >= 20) == with_xdp,
                "XDP left {local} packets to TC, attached: {with_xdp}"
            );
            Ok(())
        });
    }
}

#[test]
fn a_host_on_this_node_is_sent_its_packets_by_its_interface() {
    Lab::test(|lab| {
        let mut stage = Stage::new(lab, false)?;
        stage.change(RESOLVED_LOCAL, [0; 16]);
        for address in pod_addresses() {
            stage.ping(address)?;
            let sent = stage.sent_to_pod()?;
            let counted = stage.ping(address)?;
            ensure!(counted == [5, 5], "{counted:?}");
            let by_interface = stage.sent_to_pod()? - sent;
            ensure!(by_interface >= 5, "{by_interface}");
        }
        Ok(())
    });
}

#[test]
fn the_kernel_resolves_a_neighbour_that_is_not_known_yet() {
    Lab::test(|lab| {
        let mut stage = Stage::new(lab, true)?;
        let v4 = [POD4.to_vec(), vec![0; 12]].concat();
        let v4 = v4.try_into().expect("16 bytes");
        for (address, flags, addr) in [
            (POD4.into(), 0, v4),
            (POD6.into(), next_hop_flags::NEIGHBOUR6, POD6),
        ] {
            stage.node.ip(["neigh flush dev pod0"])?;
            stage.change(flags, addr);
            let counted = stage.ping(address)?;
            ensure!(counted == [5, 5], "{counted:?}");
            wait_until("the node to have resolved the pod", LIMIT, || {
                let table = stage.node.run("ip", ["neigh", "show", "dev", "pod0"])?;
                ensure!(table.contains(&format!("{address} lladdr")), "{table}");
                Ok(())
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_transfer_into_a_pod_keeps_its_segments_and_sums() {
    Lab::test(|lab| {
        let mut stage = Stage::new(lab, false)?;
        stage.change(RESOLVED_LOCAL | next_hop_flags::PEER, [0; 16]);
        // Large packets with their sums left to hardware, as between a pod and its node.
        for (node, interface) in [
            (&stage.outside, "eth0"),
            (&stage.node, "up0"),
            (&stage.node, "pod0"),
            (&stage.pod, "eth0"),
        ] {
            node.run("ethtool", ["-K", interface, "tx", "on", "tso", "on"])?;
        }
        const BYTES: u64 = 20 << 20;
        for address in pod_addresses() {
            let counted = || -> [u64; 2] {
                [Reason::Forwarded4, Reason::Forwarded6]
                    .map(|reason| stage.rig.counted(Hook::TcUplink, reason))
                    .iter()
                    .fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
            };
            let before = counted();
            traffic::transfer(&stage.outside, &stage.pod, address, BYTES)?;
            let [packets, bytes] = counted();
            let (packets, bytes) = (packets - before[0], bytes - before[1]);
            ensure!(bytes > BYTES, "{bytes} bytes of {BYTES} came by TC");
            ensure!(
                bytes / packets > 3_000,
                "{packets} packets for {bytes} bytes: they were cut before"
            );
        }
        Ok(())
    });
}

/// The kernel takes the tag out before TC sees the packet, and would not deliver one whose tag is still beside it.
#[test]
fn a_tagged_packet_is_delivered_without_its_tag() {
    for with_xdp in [false, true] {
        Lab::test(|lab| {
            let mut stage = Stage::new(lab, with_xdp)?;
            let up = interface(&stage.node, "up0")?;
            let mut vlan = port(VLAN_DEVICE, port_flags::ENABLED | port_flags::UPLINK);
            vlan.mac = up.mac;
            stage.world.ports.insert(VLAN_DEVICE, vlan);
            stage.world.vlans.insert((up.ifindex, VID), VLAN_DEVICE);
            stage.change(RESOLVED_LOCAL | next_hop_flags::PEER, [0; 16]);

            let mut frame = Frame::udp(Family::V4, 0);
            frame.bytes[..6].copy_from_slice(&up.mac);
            frame.set_source("192.0.2.2");
            frame.set_destination("10.1.0.2");
            let at = frame.payload() + 2;
            frame.bytes[at..at + 2].copy_from_slice(&DISCARD_PORT.to_be_bytes());
            let mut other_vlan = frame.clone();
            frame.tag(VID);
            other_vlan.tag(VID + 1);

            let socket = stage
                .pod
                .enter(|| UdpSocket::bind((IpAddr::from(POD4), DISCARD_PORT)))??;
            socket.set_read_timeout(Some(LIMIT))?;
            let from = interface(&stage.outside, "eth0")?.ifindex;
            let counted = |hook, reason| stage.rig.counted(hook, reason)[0];
            // What the kernel sent by itself before the tables were installed was counted too.
            let disabled = counted(Hook::TcUplink, Reason::PortDisabled);
            stage.outside.enter(|| {
                send_raw(from, &other_vlan.bytes)?;
                send_raw(from, &frame.bytes)
            })??;
            let mut payload = [0; 64];
            let (len, _) = socket
                .recv_from(&mut payload)
                .with_context(|| format!("{:?}", stage.rig.named_counters()))?;
            ensure!(payload[..len] == *b"causeway", "{payload:x?}");
            ensure!(counted(Hook::TcUplink, Reason::Forwarded4) == 1);
            ensure!(counted(Hook::TcUplink, Reason::PortDisabled) - disabled == 1);
            ensure!((counted(Hook::Xdp, Reason::Local) == 1) == with_xdp);
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            ensure!(
                socket.recv_from(&mut payload).is_err(),
                "a packet of another VLAN was delivered"
            );
            Ok(())
        });
    }
}
