//! A row for every branch of the pipeline and every reason, in both families where both have it.

use std::collections::BTreeSet;

use causeway_maps::catalogue::{MAX_GROUPS, MAX_IFINDEX, MAX_NEXT_HOPS};
use causeway_maps::{
    Flat4Block, Flat4Root, Group, GroupId, Hook, PodRange4, PodRange6, Reason, config_flags, dead,
    flat4_mode, next_hop_flags,
};

use crate::frame::{FAMILIES, Family, Frame, IP, is_packet};
use crate::model;
use crate::rig::{self, Outcome, Rig};
use crate::world::{
    GROUP, NEXT_HOP, NO_TX, OFF, POD, UPLINK, UPLINK_2, VID, VLAN_DEVICE, World, group, next_hop,
    order, own_mac,
};

/// A frame on an interface, and the maps.
struct Setup {
    ingress: u32,
    frame: Frame,
    world: World,
    /// Bytes of metadata in front of the frame.
    meta: usize,
    /// Bytes of payload in each segment, for TC.
    segment_size: u32,
}

/// What has to happen.
#[derive(Clone, Copy)]
enum Expect {
    /// Sent by the port for pods.
    Forwarded,
    /// Sent to the neighbour on this interface.
    ForwardedBy(u32),
    /// Sent by the port for pods, with this VLAN id.
    ForwardedTagged(u16),
    /// Handed on as it came, or dropped, as the reason says.
    Not(Reason),
}
use Expect::{Forwarded, ForwardedBy, ForwardedTagged, Not};

/// The sentence, the families that it is about, what differs from the simple case, what has to happen.
type Row = (&'static str, &'static [Family], fn(&mut Setup), Expect);

const BOTH: &[Family] = &FAMILIES;
const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];

// A row is a line.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("a routed packet is forwarded", BOTH, |_| {}, Forwarded),
    // Ports.
    ("a port that is off forwards nothing", BOTH, |s| s.arrive(OFF), Not(Reason::PortDisabled)),
    ("an unknown interface forwards nothing", BOTH, |s| s.arrive(NO_TX), Not(Reason::PortDisabled)),
    // Ethernet.
    ("a broadcast frame is not for us", BOTH, |s| s.bytes()[..6].fill(0xff), Not(Reason::NotForUs)),
    ("a multicast frame is not for us", BOTH, |s| s.bytes()[0] |= 1, Not(Reason::NotForUs)),
    ("another port's address is not for us", BOTH, |s| s.bytes()[..6].copy_from_slice(&own_mac(POD)), Not(Reason::NotForUs)),
    ("ARP is not IP", V4, |s| s.bytes()[12..14].copy_from_slice(&[0x08, 0x06]), Not(Reason::NotIp)),
    ("a provider's tag is not IP", BOTH, |s| s.bytes()[12..14].copy_from_slice(&[0x88, 0xa8]), Not(Reason::NotIp)),
    ("a length instead of an EtherType is not IP", BOTH, |s| s.bytes()[12..14].copy_from_slice(&[0, 38]), Not(Reason::NotIp)),
    // IP header.
    ("a bare Ethernet header is malformed", BOTH, |s| s.frame.bytes.truncate(IP), Not(Reason::Malformed)),
    ("a cut header is malformed", V4, |s| s.frame.bytes.truncate(IP + 19), Not(Reason::Malformed)),
    ("a cut header is malformed", V6, |s| s.frame.bytes.truncate(IP + 39), Not(Reason::Malformed)),
    ("version 5 is malformed", BOTH, |s| s.ip(0, |byte| byte & 0x0f | 0x50), Not(Reason::Malformed)),
    ("version 6 under IPv4's EtherType is malformed", V4, |s| s.ip(0, |byte| byte & 0x0f | 0x60), Not(Reason::Malformed)),
    ("version 4 under IPv6's EtherType is malformed", V6, |s| s.ip(0, |_| 0x45), Not(Reason::Malformed)),
    ("a header of 16 bytes is malformed", V4, |s| s.ip(0, |_| 0x44), Not(Reason::Malformed)),
    ("a total length below the header is malformed", V4, |s| s.frame.claim_ip_len(19), Not(Reason::Malformed)),
    ("a total length below a header with options is malformed", V4, |s| { s.ip(0, |_| 0x46); s.frame.claim_ip_len(23); }, Not(Reason::Malformed)),
    ("a packet longer than its frame is malformed", V4, |s| s.frame.claim_ip_len(37), Not(Reason::Malformed)),
    ("a packet longer than its frame is malformed", V6, |s| s.frame.claim_ip_len(57), Not(Reason::Malformed)),
    ("a packet of 65535 bytes in a short frame is malformed", BOTH, |s| s.frame.claim_ip_len(u16::MAX), Not(Reason::Malformed)),
    ("padding after the packet is nothing to us", BOTH, |s| s.frame.bytes.extend([0xaa; 30]), Forwarded),
    ("a packet without payload is forwarded", V4, |s| s.frame.set_ip_len(20), Forwarded),
    ("a packet without payload is forwarded", V6, |s| s.frame.set_ip_len(40), Forwarded),
    ("a wrong checksum goes up", V4, |s| s.ip(11, |byte| byte ^ 1), Not(Reason::BadChecksum)),
    ("a zero checksum is not taken for none", V4, |s| { s.ip(10, |_| 0); s.ip(11, |_| 0); }, Not(Reason::BadChecksum)),
    ("the checksum ffff stands for 0000", V4, |s| s.zero_checksum_written_as_ffff(), Forwarded),
    ("IPv4 options go up", V4, |s| { s.ip(0, |_| 0x46); s.frame.fix_checksum(); }, Not(Reason::Options)),
    ("the longest IPv4 header goes up", V4, |s| { s.frame.set_ip_len(60); s.ip(0, |_| 0x4f); s.frame.fix_checksum(); }, Not(Reason::Options)),
    ("hop-by-hop options go up", V6, |s| s.frame.set_protocol(0), Not(Reason::Options)),
    ("traffic class and flow label are nothing to us", V6, |s| { s.ip(0, |_| 0x6f); s.ip(1, |_| 0xff); }, Forwarded),
    ("the reserved and don't-fragment bits are nothing to us", V4, |s| s.frame.set_fragment(0xc000), Forwarded),
    ("a first fragment is forwarded", V4, |s| s.frame.set_fragment(0x2000), Forwarded),
    ("a last fragment is forwarded", V4, |s| s.frame.set_fragment(0x0010), Forwarded),
    ("a fragment header is forwarded", V6, |s| s.frame.set_protocol(44), Forwarded),
    ("a routing header is forwarded", V6, |s| s.frame.set_protocol(43), Forwarded),
    ("an unknown protocol is forwarded", BOTH, |s| s.frame.set_protocol(253), Forwarded),
    // Addresses.
    ("this network is no source", V4, |s| s.frame.set_source("0.1.2.3"), Not(Reason::NotRoutable)),
    ("loopback is no source", V4, |s| s.frame.set_source("127.0.0.1"), Not(Reason::NotRoutable)),
    ("link-local is no source", V4, |s| s.frame.set_source("169.254.1.1"), Not(Reason::NotRoutable)),
    ("multicast is no source", V4, |s| s.frame.set_source("224.0.0.5"), Not(Reason::NotRoutable)),
    ("class E is no source", V4, |s| s.frame.set_source("240.0.0.1"), Not(Reason::NotRoutable)),
    ("the limited broadcast is no source", V4, |s| s.frame.set_source("255.255.255.255"), Not(Reason::NotRoutable)),
    ("this network is no destination", V4, |s| s.send_to("0.0.0.0"), Not(Reason::NotRoutable)),
    ("loopback is no destination", V4, |s| s.send_to("127.0.0.1"), Not(Reason::NotRoutable)),
    ("link-local is no destination", V4, |s| s.send_to("169.254.169.254"), Not(Reason::NotRoutable)),
    ("multicast is no destination", V4, |s| s.send_to("239.1.2.3"), Not(Reason::NotRoutable)),
    ("class E is no destination", V4, |s| s.send_to("250.0.0.1"), Not(Reason::NotRoutable)),
    ("the limited broadcast is no destination", V4, |s| s.send_to("255.255.255.255"), Not(Reason::NotRoutable)),
    ("the neighbours of what is never routed are", V4, |s| { s.frame.set_source("223.255.255.255"); s.send_to("169.253.0.1"); }, Forwarded),
    ("unspecified is no source", V6, |s| s.frame.set_source("::"), Not(Reason::NotRoutable)),
    ("loopback is no source", V6, |s| s.frame.set_source("::1"), Not(Reason::NotRoutable)),
    ("link-local is no source", V6, |s| s.frame.set_source("fe80::1"), Not(Reason::NotRoutable)),
    ("multicast is no source", V6, |s| s.frame.set_source("ff05::2"), Not(Reason::NotRoutable)),
    ("an IPv4-mapped address is no source", V6, |s| s.frame.set_source("::ffff:10.1.2.3"), Not(Reason::NotRoutable)),
    ("unspecified is no destination", V6, |s| s.send_to("::"), Not(Reason::NotRoutable)),
    ("loopback is no destination", V6, |s| s.send_to("::1"), Not(Reason::NotRoutable)),
    ("link-local is no destination", V6, |s| s.send_to("febf::1"), Not(Reason::NotRoutable)),
    ("multicast is no destination", V6, |s| s.send_to("ff02::1"), Not(Reason::NotRoutable)),
    ("an IPv4-mapped address is no destination", V6, |s| s.send_to("::ffff:10.1.2.3"), Not(Reason::NotRoutable)),
    ("the neighbours of what is never routed are", V6, |s| { s.frame.set_source("::2"); s.send_to("fec0::1"); }, Forwarded),
    // Routes.
    ("without a route a packet goes up", V4, |s| s.frame.set_destination("10.2.0.0"), Not(Reason::NoRoute)),
    ("without a route a packet goes up", V6, |s| s.frame.set_destination("2001:db8:2::"), Not(Reason::NoRoute)),
    ("an own address is punted", BOTH, |s| s.world.reroute(GroupId::PUNT.0), Not(Reason::Punt)),
    ("an owned range without anything in it drops", BOTH, |s| s.world.reroute(GroupId::BLACKHOLE.0), Not(Reason::Blackhole)),
    ("an own address with TTL 1 is punted and has not expired", BOTH, |s| { s.world.reroute(GroupId::PUNT.0); s.frame.set_ttl(1); }, Not(Reason::Punt)),
    ("the longest prefix wins", V4, |s| { s.second_path(4); s.world.route4("10.1.2.3", 32, 4); s.world.route4("0.0.0.0", 0, GROUP); }, ForwardedBy(UPLINK_2)),
    ("the longest prefix wins", V6, |s| { s.second_path(4); s.world.route6("2001:db8:1::3", 128, 4); s.world.route6("::", 0, GROUP); }, ForwardedBy(UPLINK_2)),
    ("the default route takes what nothing else does", V4, |s| { s.second_path(4); s.world.route4("0.0.0.0", 0, 4); s.frame.set_destination("203.0.113.9"); }, ForwardedBy(UPLINK_2)),
    ("the default route takes what nothing else does", V6, |s| { s.second_path(4); s.world.route6("::", 0, 4); s.frame.set_destination("2001:db8:ffff::9"); }, ForwardedBy(UPLINK_2)),
    // What is faster than the tries.
    ("the index of pods' blocks is asked first", V4, |s| s.index_pods(2, 4), ForwardedBy(UPLINK_2)),
    ("the index of pods' blocks is asked first", V6, |s| s.index_pods(0, 4), ForwardedBy(UPLINK_2)),
    ("another block's entry is not taken", V4, |s| s.index_pods(3, 4), Forwarded),
    ("another block's entry is not taken", V6, |s| s.index_pods(1, 4), Forwarded),
    ("a block without an entry asks the trie", V4, |s| s.index_pods(2, 0), Forwarded),
    ("a block without an entry asks the trie", V6, |s| s.index_pods(0, 0), Forwarded),
    ("addresses outside the range are not in the index", BOTH, |s| { s.index_pods(0, 4); s.frame.set_destination(if s.frame.family == Family::V4 { "10.2.0.1" } else { "2001:db8:2::1" }); }, Not(Reason::NoRoute)),
    ("a block of this node's own addresses is punted", V4, |s| s.index_pods(2, GroupId::PUNT.0), Not(Reason::Punt)),
    ("a /8 without longer prefixes is direct", V4, |s| s.flat_root(flat4_mode::DIRECT, 4), ForwardedBy(UPLINK_2)),
    ("a /8 without any prefix has no route", V4, |s| s.flat_root(flat4_mode::DIRECT, 0), Not(Reason::NoRoute)),
    ("a /8 that is left to the trie asks it", V4, |s| s.flat_root(flat4_mode::LPM, 4), Forwarded),
    ("another /8 asks the trie", V4, |s| { s.flat_root(flat4_mode::DIRECT, 4); s.send_to("11.1.2.3"); }, Forwarded),
    ("a mode that is not known asks the trie", V4, |s| s.flat_root(3, 4), Forwarded),
    ("a table that is not there asks the trie", V4, |s| s.flat_root(flat4_mode::TABLE, 4), Forwarded),
    ("an entry of the flat table is the answer", V4, |s| s.flat_entry(0, 4), ForwardedBy(UPLINK_2)),
    ("an entry of 0 asks the trie", V4, |s| s.flat_entry(4, 0), Forwarded),
    ("an entry without a prefix of its own takes the cover", V4, |s| s.flat_entry(4, Flat4Block::COVER), ForwardedBy(UPLINK_2)),
    ("no cover is no route", V4, |s| s.flat_entry(0, Flat4Block::COVER), Not(Reason::NoRoute)),
    ("the index comes before the flat table", V4, |s| { s.index_pods(2, 4); s.flat_entry(0, GROUP); }, ForwardedBy(UPLINK_2)),
    // TTL.
    ("TTL 0 has expired", BOTH, |s| s.frame.set_ttl(0), Not(Reason::TtlExpired)),
    ("TTL 1 expires here", BOTH, |s| s.frame.set_ttl(1), Not(Reason::TtlExpired)),
    ("TTL 2 is forwarded", BOTH, |s| s.frame.set_ttl(2), Forwarded),
    ("TTL 255 is forwarded", BOTH, |s| s.frame.set_ttl(255), Forwarded),
    // Groups.
    ("a zeroed route forwards nothing", BOTH, |s| s.world.reroute(GroupId::NONE.0), Not(Reason::EmptyGroup)),
    ("a group without members forwards nothing", BOTH, |s| s.set_group(&[]), Not(Reason::EmptyGroup)),
    ("a group that can't exist drops", BOTH, |s| s.world.reroute(MAX_GROUPS), Not(Reason::Inconsistent)),
    ("the last group forwards", BOTH, |s| { s.world.groups.insert(MAX_GROUPS - 1, group(&[NEXT_HOP])); s.world.reroute(MAX_GROUPS - 1); }, Forwarded),
    ("a full group forwards", BOTH, |s| s.set_group(&[NEXT_HOP; 64]), Forwarded),
    // Liveness.
    ("the first member that is alive forwards", BOTH, |s| { s.second_path(4); s.set_slots([NEXT_HOP, 2]); s.kill(1, dead::LINK); }, ForwardedBy(UPLINK_2)),
    ("the preferred member forwards although another is dead", BOTH, |s| { s.second_path(4); s.set_slots([NEXT_HOP, 2]); s.kill(2, dead::LINK); }, Forwarded),
    ("a dead neighbour forwards nothing", BOTH, |s| s.kill(1, dead::NEIGHBOUR), Not(Reason::NoneAlive)),
    ("what BFD has lost forwards nothing", BOTH, |s| s.kill(1, dead::BFD), Not(Reason::NoneAlive)),
    ("a bit without a meaning is dead too", BOTH, |s| s.kill(1, 1 << 31), Not(Reason::NoneAlive)),
    ("the last of eight forwards", BOTH, |s| s.all_dead_but_the_last(), Forwarded),
    ("what stands behind a gap is not looked at", BOTH, |s| { s.set_slots([2, 0, NEXT_HOP]); s.kill(2, 1); }, Not(Reason::NoneAlive)),
    // Next hops.
    ("a slot without members forwards nothing", BOTH, |s| s.set_group(&[0]), Not(Reason::EmptyGroup)),
    ("a next hop that can't exist drops", BOTH, |s| s.set_group(&[MAX_NEXT_HOPS as u16]), Not(Reason::Inconsistent)),
    ("what no flow prefers is not looked at", BOTH, |s| s.set_slots([NEXT_HOP, MAX_NEXT_HOPS as u16]), Forwarded),
    ("an unresolved next hop goes up", BOTH, |s| s.next_hop().flags = 0, Not(Reason::Unresolved)),
    ("a next hop that was never written goes up", BOTH, |s| s.set_group(&[MAX_NEXT_HOPS as u16 - 1]), Not(Reason::Unresolved)),
    ("what is on this node is left to TC", BOTH, |s| s.next_hop().flags |= next_hop_flags::LOCAL, Not(Reason::Local)),
    ("a packet as large as the MTU is forwarded", BOTH, |s| { s.frame.set_ip_len(1500); }, Forwarded),
    ("a packet larger than the MTU goes up", BOTH, |s| { s.frame.set_ip_len(1501); }, Not(Reason::TooBig)),
    ("padding does not count against the MTU", BOTH, |s| { s.next_hop().mtu = 100; s.frame.bytes.extend([0; 100]); }, Forwarded),
    // 802.1Q.
    ("a tagged packet is forwarded without its tag", BOTH, |s| s.tag(VID), Forwarded),
    ("priority and drop bits of a tag don't matter", BOTH, |s| s.tag(0xf000 | VID), Forwarded),
    ("a tag of priority only belongs to the interface itself", BOTH, |s| s.frame.tag(0xe000), Forwarded),
    ("a VLAN that is not known forwards nothing", BOTH, |s| s.tag(VID + 1), Not(Reason::PortDisabled)),
    ("a VLAN of another interface is not known", BOTH, |s| { s.tag(VID); s.ingress = UPLINK_2; }, Not(Reason::PortDisabled)),
    ("the parent's address is not the VLAN device's", BOTH, |s| s.frame.tag(VID), Not(Reason::NotForUs)),
    ("a second tag is not IP", BOTH, |s| { s.frame.tag(7); s.tag(VID); }, Not(Reason::NotIp)),
    ("a cut tag is malformed", BOTH, |s| { s.tag(VID); s.frame.bytes.truncate(17); }, Not(Reason::Malformed)),
    ("a tagged packet longer than its frame is malformed", V4, |s| { s.frame.claim_ip_len(37); s.tag(VID); }, Not(Reason::Malformed)),
    ("a packet is tagged for its next hop", BOTH, |s| s.send_tagged(7), ForwardedTagged(7)),
    ("a tag is replaced by the next hop's", BOTH, |s| { s.tag(0xf000 | VID); s.send_tagged(4094); }, ForwardedTagged(4094)),
    ("without room for a tag a packet goes up", BOTH, |s| { s.send_tagged(7); s.meta = 216; }, Not(Reason::NoHeadroom)),
    ("a node is no path from a VLAN of one uplink to another uplink", BOTH, |s| { s.tag(VID); s.next_hop().ifindex = UPLINK_2; }, Not(Reason::NotTransit)),
    // Role.
    ("a node is no path between its uplinks", BOTH, |s| s.next_hop().ifindex = UPLINK_2, Not(Reason::NotTransit)),
    ("a node sends nothing back where it came from", BOTH, |s| s.next_hop().ifindex = UPLINK, Not(Reason::NotTransit)),
    ("a transit router is a path between its uplinks", BOTH, |s| { s.world.config.flags = config_flags::TRANSIT; s.world.next_hops.insert(NEXT_HOP.into(), next_hop(UPLINK_2)); }, ForwardedBy(UPLINK_2)),
    ("a node forwards from a pod to an uplink", BOTH, |s| { s.arrive(POD); s.world.next_hops.insert(NEXT_HOP.into(), next_hop(UPLINK_2)); }, ForwardedBy(UPLINK_2)),
    ("a node forwards from pod to pod", BOTH, |s| s.arrive(POD), Forwarded),
    // Egress.
    ("a port that is off can still be sent on", BOTH, |s| { s.world.next_hops.insert(NEXT_HOP.into(), next_hop(OFF)); }, ForwardedBy(OFF)),
    ("an interface that is not in tx_ports is not sent on", BOTH, |s| s.next_hop().tx_ifindex = NO_TX, Not(Reason::NoTxPort)),
    ("an interface beyond tx_ports is not sent on", BOTH, |s| s.next_hop().tx_ifindex = MAX_IFINDEX, Not(Reason::NoTxPort)),
    // Which of two reasons.
    ("a bad checksum is said before a bad address", V4, |s| { s.frame.set_source("127.0.0.1"); s.ip(10, |byte| byte ^ 1); }, Not(Reason::BadChecksum)),
    ("no route is said before an expired TTL", BOTH, |s| { s.world.routes4.clear(); s.world.routes6.clear(); s.frame.set_ttl(1); }, Not(Reason::NoRoute)),
    ("an expired TTL is said before an empty group", BOTH, |s| { s.set_group(&[]); s.frame.set_ttl(1); }, Not(Reason::TtlExpired)),
    ("no transit is said before too big", BOTH, |s| { s.next_hop().ifindex = UPLINK_2; s.frame.set_ip_len(1501); }, Not(Reason::NotTransit)),
    ("too big is said before no egress", BOTH, |s| { s.next_hop().tx_ifindex = NO_TX; s.frame.set_ip_len(1501); }, Not(Reason::TooBig)),
];

impl Setup {
    fn new(family: Family) -> Self {
        Self {
            ingress: UPLINK,
            frame: Frame::udp(family, UPLINK),
            world: World::simple(),
            meta: 0,
            segment_size: 0,
        }
    }

    /// Puts a tag in, for the MAC address of the VLAN device.
    fn tag(&mut self, tci: u16) {
        self.frame.tag(tci);
        self.frame.bytes[..6].copy_from_slice(&own_mac(VLAN_DEVICE));
    }

    /// The range `10.1.0.0/16` and its like in blocks of `/24` and `/64`, whose index leads to the second uplink.
    fn index_pods(&mut self, block: u32, group: u32) {
        self.second_path(4);
        self.world.config.pods4 = PodRange4::new([10, 1, 0, 0], 16, 24).expect("a range");
        let base = [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        self.world.config.pods6 = PodRange6::new(base, 48, 64).expect("a range");
        self.world.pods4.insert(block, group);
        self.world.pods6.insert(block, group);
    }

    fn flat_root(&mut self, mode: u32, group: u32) {
        self.second_path(4);
        self.world.flat4_roots.insert(10, Flat4Root { mode, group });
    }

    /// A table with one entry, for the /24 of the packet's destination.
    fn flat_entry(&mut self, cover: u32, entry: u32) {
        self.flat_root(flat4_mode::TABLE, cover);
        self.world.flat4.insert(10, [((1, 2), entry)].into());
    }

    /// The next hop is reached by a tag.
    fn send_tagged(&mut self, vlan: u16) {
        self.next_hop().vlan = vlan;
    }

    fn arrive(&mut self, ingress: u32) {
        self.ingress = ingress;
        self.frame.bytes[..6].copy_from_slice(&own_mac(ingress));
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.frame.bytes
    }

    /// Changes one byte of the IP header and leaves the checksum alone.
    fn ip(&mut self, offset: usize, change: fn(u8) -> u8) {
        let byte = &mut self.frame.bytes[IP + offset];
        *byte = change(*byte);
    }

    /// Changes the destination, and routes everything.
    fn send_to(&mut self, destination: &str) {
        self.frame.set_destination(destination);
        self.world.route4("0.0.0.0", 0, GROUP);
        self.world.route6("::", 0, GROUP);
    }

    fn set_group(&mut self, members: &[u16]) {
        self.world.groups.insert(GROUP, group(members));
    }

    /// The same members in the same order for every flow.
    fn set_slots<const N: usize>(&mut self, ids: [u16; N]) {
        let mut group = Group::EMPTY;
        group.slots.fill(order(ids));
        self.world.groups.insert(GROUP, group);
    }

    fn kill(&mut self, next_hop: u32, bits: u32) {
        self.world.liveness.insert(next_hop, bits);
    }

    fn all_dead_but_the_last(&mut self) {
        self.set_slots([11, 12, 13, 14, 15, 16, 17, NEXT_HOP]);
        (11..=17).for_each(|id| self.kill(id, dead::LINK));
    }

    /// A group that leads to the second uplink, which this router may use.
    fn second_path(&mut self, id: u32) {
        self.world.config.flags = config_flags::TRANSIT;
        self.world.groups.insert(id, group(&[2]));
        self.world.next_hops.insert(2, next_hop(UPLINK_2));
    }

    fn next_hop(&mut self) -> &mut causeway_maps::NextHop {
        self.world
            .next_hops
            .get_mut(&NEXT_HOP.into())
            .expect("the simple world has it")
    }

    /// Chooses an identification with which the sum comes out as zero, and writes zero the other way.
    fn zero_checksum_written_as_ffff(&mut self) {
        let checksum = u16::from_be_bytes([self.frame.bytes[IP + 10], self.frame.bytes[IP + 11]]);
        let identification = 0x1234_u32 + u32::from(checksum);
        let folded = (identification & 0xffff) + (identification >> 16);
        self.frame.bytes[IP + 4..IP + 6].copy_from_slice(&(folded as u16).to_be_bytes());
        self.frame.fix_checksum();
        assert_eq!(
            self.frame.bytes[IP + 10..IP + 12],
            [0, 0],
            "the sum is zero"
        );
        self.frame.bytes[IP + 10..IP + 12].fill(0xff);
    }
}

/// The reason, and what comes out.
fn expected(setup: &Setup, expect: Expect) -> (Reason, Outcome) {
    let before = setup.frame.bytes.clone();
    match expect {
        Forwarded => expected(setup, ForwardedBy(POD)),
        ForwardedTagged(vid) => {
            let (reason, mut outcome) = expected(setup, Forwarded);
            let [high, low] = vid.to_be_bytes();
            outcome.frame.splice(12..12, [0x81, 0x00, high, low]);
            (reason, outcome)
        }
        ForwardedBy(ifindex) => {
            let hop = next_hop(ifindex);
            let mut after = setup.frame.clone();
            after.untag();
            after.bytes[..6].copy_from_slice(&hop.dst_mac);
            after.bytes[6..12].copy_from_slice(&hop.src_mac);
            let (ttl, reason) = match after.family {
                Family::V4 => (IP + 8, Reason::Forwarded4),
                Family::V6 => (IP + 7, Reason::Forwarded6),
            };
            let ttl = after.bytes[ttl] - 1;
            after.set_ttl(ttl);
            (
                reason,
                Outcome {
                    action: 4,
                    frame: after.bytes,
                },
            )
        }
        Not(reason) if reason.outcome() == causeway_maps::Outcome::Dropped => (
            reason,
            Outcome {
                action: 1,
                frame: before,
            },
        ),
        Not(reason) => (
            reason,
            Outcome {
                action: 2,
                frame: before,
            },
        ),
    }
}

#[test]
fn every_branch_ends_as_its_row_says() {
    let mut rig = Rig::new();
    for &(sentence, families, change, expect) in ROWS {
        for &family in families {
            let mut setup = Setup::new(family);
            change(&mut setup);
            let name = format!("{sentence} ({family:?})");
            if setup.meta > rig::longest_metadata() {
                println!("this kernel can't be given: {name}");
                continue;
            }
            rig.install(&setup.world);
            let before = rig.all_counted();
            let outcome = rig.run_behind(setup.ingress, &setup.frame.bytes, setup.meta);
            let (reason, wanted) = expected(&setup, expect);
            assert_eq!(
                moved(&before, &rig.all_counted()),
                [(Hook::Xdp, reason, 1, setup.frame.bytes.len() as u64)],
                "{name}"
            );
            assert_eq!(outcome, wanted, "{name}");
            if setup.meta > 0 {
                // The model knows no headroom.
                continue;
            }
            let model = model::decide(&setup.world, setup.ingress, &setup.frame.bytes);
            assert_eq!(model, (reason, wanted), "the model on: {name}");
        }
    }
}

/// Rows for TC: where it differs from XDP, and what XDP never sees.
#[rustfmt::skip]
const TC_ROWS: &[Row] = &[
    ("what is on this node is delivered", BOTH, |s| s.next_hop().flags |= next_hop_flags::LOCAL, Forwarded),
    ("what is in a pod of this node is handed over", BOTH, |s| s.next_hop().flags |= next_hop_flags::LOCAL | next_hop_flags::PEER, Forwarded),
    ("an unresolved neighbour is left to the kernel", V4, |s| s.next_hop().flags = 0, Forwarded),
    ("an unresolved neighbour is left to the kernel", V6, |s| s.next_hop().flags = next_hop_flags::NEIGHBOUR6, Forwarded),
    ("an IPv6 neighbour is looked up for an IPv4 packet", V4, |s| s.next_hop().flags = next_hop_flags::NEIGHBOUR6, Forwarded),
    ("an IPv4 neighbour is none for an IPv6 packet", V6, |s| s.next_hop().flags = 0, Not(Reason::Unresolved)),
    ("a next hop that was never written goes up", BOTH, |s| s.set_group(&[MAX_NEXT_HOPS as u16 - 1]), Not(Reason::Unresolved)),
    ("TC needs no redirect target", BOTH, |s| s.next_hop().tx_ifindex = NO_TX, Forwarded),
    ("the VLAN device puts the tag in", BOTH, |s| s.send_tagged(7), Forwarded),
    ("a tag that is left in the frame is a second one", BOTH, |s| s.tag(VID), Not(Reason::NotForUs)),
    ("a second tag is not IP", BOTH, |s| s.frame.tag(VID), Not(Reason::NotIp)),
    ("segments as large as the MTU are forwarded", BOTH, |s| s.udp_segments(1500), Forwarded),
    ("segments larger than the MTU go up", BOTH, |s| s.udp_segments(1501), Not(Reason::TooBig)),
    ("TCP segments as large as the MTU are forwarded", BOTH, |s| s.tcp_segments(1500), Forwarded),
    ("TCP segments larger than the MTU go up", BOTH, |s| s.tcp_segments(1501), Not(Reason::TooBig)),
    ("segments of what is not known go up", BOTH, |s| { s.udp_segments(1000); s.frame.set_protocol(132); }, Not(Reason::TooBig)),
    ("segments of what fits whole are forwarded", BOTH, |s| { s.frame.set_protocol(132); s.segment_size = 10; }, Forwarded),
];

impl Setup {
    /// Makes the packet one that is cut into segments of `len` bytes, IP header included.
    fn udp_segments(&mut self, len: u32) {
        self.frame.set_ip_len(2900);
        self.segment_size = len - self.header_len() - 8;
    }

    fn tcp_segments(&mut self, len: u32) {
        self.frame.set_ip_len(2900);
        self.frame.set_protocol(6);
        let offset = self.frame.payload() + 12;
        self.frame.bytes[offset] = 0x8f;
        self.segment_size = len - self.header_len() - 32;
    }

    fn header_len(&self) -> u32 {
        (self.frame.payload() - IP) as u32
    }
}

/// Reasons that only XDP has: TC sends on, or never looks.
const XDP_ONLY: &[Reason] = &[
    Reason::Local,
    Reason::Unresolved,
    Reason::NoTxPort,
    Reason::NoHeadroom,
];

#[test]
fn every_branch_ends_the_same_at_tc() {
    let mut rig = Rig::new();
    let rows = ROWS.iter().map(|row| (row, false));
    let mut ran = 0;
    for (&(sentence, families, change, expect), is_own) in
        rows.chain(TC_ROWS.iter().map(|row| (row, true)))
    {
        for &family in families {
            let mut setup = Setup::new(family);
            change(&mut setup);
            let (reason, mut wanted) = expected(&setup, expect);
            let is_tagged = setup.frame.is_tagged() || matches!(expect, ForwardedTagged(_));
            if !is_own && (XDP_ONLY.contains(&reason) || is_tagged)
                || !is_packet(&setup.frame.bytes)
            {
                continue;
            }
            wanted.action = match reason.outcome() {
                causeway_maps::Outcome::Forwarded => 7,
                causeway_maps::Outcome::Passed => u32::MAX,
                causeway_maps::Outcome::Dropped => 2,
            };
            rig.install(&setup.world);
            for hook in [Hook::TcUplink, Hook::TcPod] {
                let name = format!("{sentence} ({family:?}, {hook:?})");
                let frame = &setup.frame.bytes;
                let before = rig.all_counted();
                let outcome = rig.run_tc(hook, setup.ingress, frame, setup.segment_size);
                assert_eq!(
                    moved(&before, &rig.all_counted()),
                    [(hook, reason, 1, frame.len() as u64)],
                    "{name}"
                );
                assert_eq!(outcome, wanted, "{name}");
                let arrival = model::Arrival {
                    hook,
                    ingress: setup.ingress,
                    frame,
                    segment_size: setup.segment_size,
                };
                let model = model::decide_at(&setup.world, arrival);
                assert_eq!(model, (reason, wanted.clone()), "the model on: {name}");
                ran += 1;
            }
        }
    }
    assert!(ran > 300, "{ran}");
}

#[test]
fn every_reason_has_a_row() {
    let raised: BTreeSet<_> = ROWS
        .iter()
        .flat_map(|&(_, families, change, expect)| {
            families.iter().map(move |&family| {
                let mut setup = Setup::new(family);
                change(&mut setup);
                expected(&setup, expect).0
            })
        })
        .collect();
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !raised.contains(reason))
        .collect();
    assert!(missing.is_empty(), "no row raises {missing:?}");
}

#[test]
fn a_forwarded_ipv4_packet_byte_by_byte() {
    let mut rig = Rig::new();
    rig.install(&World::simple());
    // The words but the checksum add up to bb57 with TTL 64 and to ba57 with TTL 63.
    let before = b"\x02\x00\x00\x00\x00\x0b\x02\xee\x00\x00\x00\x01\x08\x00\
        \x45\x00\x00\x1c\x00\x01\x00\x00\x40\x01\x44\xa8\xc6\x33\x64\x01\x0a\x01\x02\x03\
        \x08\x00\xf7\xfe\x00\x00\x00\x01";
    let after = b"\x02\xff\x00\x00\x00\x0d\x02\x00\x00\x00\x00\x0d\x08\x00\
        \x45\x00\x00\x1c\x00\x01\x00\x00\x3f\x01\x45\xa8\xc6\x33\x64\x01\x0a\x01\x02\x03\
        \x08\x00\xf7\xfe\x00\x00\x00\x01";
    let outcome = rig.run(UPLINK, before);
    assert_eq!(
        outcome,
        Outcome {
            action: 4,
            frame: after.to_vec()
        }
    );
}

#[test]
fn a_forwarded_ipv6_packet_byte_by_byte() {
    let mut rig = Rig::new();
    rig.install(&World::simple());
    let before = b"\x02\x00\x00\x00\x00\x0b\x02\xee\x00\x00\x00\x01\x86\xdd\
        \x6a\xbc\xde\xf0\x00\x00\x3b\x02\
        \x20\x01\x0d\xb8\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\
        \x20\x01\x0d\xb8\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03";
    let after = b"\x02\xff\x00\x00\x00\x0d\x02\x00\x00\x00\x00\x0d\x86\xdd\
        \x6a\xbc\xde\xf0\x00\x00\x3b\x01\
        \x20\x01\x0d\xb8\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\
        \x20\x01\x0d\xb8\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03";
    let outcome = rig.run(UPLINK, before);
    assert_eq!(
        outcome,
        Outcome {
            action: 4,
            frame: after.to_vec()
        }
    );
}

#[test]
fn members_share_flows_and_every_packet_of_a_flow_takes_the_same() {
    let mut rig = Rig::new();
    for family in FAMILIES {
        let mut setup = four_members(family);
        rig.install(&setup.world);
        for protocol in [6, 17, 132] {
            setup.frame.set_protocol(protocol);
            let mut shares = [0; 4];
            for port in 0..1000 {
                setup.frame.set_source_port(1024 + port);
                let member = taken(&rig, &setup);
                setup.frame.set_ttl(9);
                assert_eq!(member, taken(&rig, &setup), "TTL does not matter");
                setup.frame.set_ttl(64);
                shares[member] += 1;
            }
            assert!(
                shares.iter().all(|share| (190..310).contains(share)),
                "{family:?} protocol {protocol}: {shares:?}"
            );
        }
        setup.frame.set_protocol(50);
        assert_eq!(members_by_port(&rig, &mut setup), 1, "ESP has no ports");
    }
}

#[test]
fn all_fragments_of_a_datagram_take_the_same_member() {
    let mut rig = Rig::new();
    let mut setup = four_members(Family::V4);
    rig.install(&setup.world);
    for word in [0x2000, 0x2001, 0x3fff, 0x0001, 0x1fff] {
        setup.frame.set_fragment(word);
        assert_eq!(members_by_port(&rig, &mut setup), 1, "{word:#x}");
    }
    setup.frame.set_fragment(0xc000);
    assert_eq!(members_by_port(&rig, &mut setup), 4, "not fragmented");

    let mut setup = four_members(Family::V6);
    rig.install(&setup.world);
    setup.frame.set_protocol(44);
    assert_eq!(members_by_port(&rig, &mut setup), 1);
}

#[test]
fn another_seed_chooses_other_members() {
    let mut rig = Rig::new();
    let mut setup = four_members(Family::V4);
    let mut choices = |seed| {
        setup.world.config.hash_seed = seed;
        rig.install(&setup.world);
        (0..64)
            .map(|port| {
                setup.frame.set_source_port(port);
                taken(&rig, &setup)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(choices(1), choices(1));
    assert_ne!(choices(1), choices(2));
}

/// Next hops 1 to 4, all by the port for pods, told apart by their MAC addresses.
fn four_members(family: Family) -> Setup {
    let mut setup = Setup::new(family);
    setup.set_group(&[1, 2, 3, 4]);
    for id in 1..=4_u8 {
        let mut hop = next_hop(POD);
        hop.dst_mac[4] = id;
        setup.world.next_hops.insert(id.into(), hop);
    }
    setup
}

/// The member that a packet was sent to.
fn taken(rig: &Rig, setup: &Setup) -> usize {
    let outcome = rig.run(setup.ingress, &setup.frame.bytes);
    assert_eq!(outcome.action, 4);
    usize::from(outcome.frame[4]) - 1
}

/// How many members packets take that differ in their source port only.
fn members_by_port(rig: &Rig, setup: &mut Setup) -> usize {
    let taken: BTreeSet<_> = (0..64)
        .map(|port| {
            setup.frame.set_source_port(port);
            taken(rig, setup)
        })
        .collect();
    taken.len()
}

/// Counters that differ: hook, reason, packets, bytes.
fn moved(before: &[[u64; 2]], after: &[[u64; 2]]) -> Vec<(Hook, Reason, u64, u64)> {
    let slots = Hook::ALL
        .iter()
        .flat_map(|&hook| Reason::ALL.iter().map(move |&reason| (hook, reason)));
    slots
        .zip(before.iter().zip(after))
        .filter(|(_, (before, after))| before != after)
        .map(|((hook, reason), (before, after))| {
            (hook, reason, after[0] - before[0], after[1] - before[1])
        })
        .collect()
}
