//! What the program should do, said as plainly as possible: slices, numbers, linear search.
//!
//! It shares nothing with the program but the types of the maps and the flow hash, which has tests of its own.

use causeway_ebpf::hash::FlowHash;
use causeway_maps::catalogue::{MAX_GROUPS, MAX_IFINDEX, MAX_NEXT_HOPS};
use causeway_maps::{
    GroupId, Hook, NextHop, Reason, config_flags, flat4_mode, next_hop_flags, port_flags,
};

use crate::rig::Outcome;
use crate::world::{TX_PORTS, World};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
const TC_ACT_UNSPEC: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

/// A frame as it arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) hook: Hook,
    pub(crate) ingress: u32,
    pub(crate) frame: &'a [u8],
    /// Bytes of payload in each segment that it will be cut into; 0 for none.
    pub(crate) segment_size: u32,
}

/// What becomes of a frame at XDP, and why.
pub(crate) fn decide(world: &World, ingress: u32, frame: &[u8]) -> (Reason, Outcome) {
    decide_at(
        world,
        Arrival {
            hook: Hook::Xdp,
            ingress,
            frame,
            segment_size: 0,
        },
    )
}

/// What becomes of a frame, and why.
pub(crate) fn decide_at(world: &World, arrival: Arrival<'_>) -> (Reason, Outcome) {
    let at_xdp = arrival.hook == Hook::Xdp;
    let (reason, frame) = match forward(world, arrival) {
        Ok((reason, frame)) => (reason, frame),
        Err(reason) => (reason, arrival.frame.to_vec()),
    };
    let action = match reason {
        Reason::Forwarded4 | Reason::Forwarded6 if at_xdp => XDP_REDIRECT,
        Reason::Forwarded4 | Reason::Forwarded6 => TC_ACT_REDIRECT,
        Reason::Inconsistent | Reason::Blackhole if at_xdp => XDP_DROP,
        Reason::Inconsistent | Reason::Blackhole => TC_ACT_SHOT,
        _ if at_xdp => XDP_PASS,
        _ => TC_ACT_UNSPEC,
    };
    (reason, Outcome { action, frame })
}

fn forward(world: &World, arrival: Arrival<'_>) -> Result<(Reason, Vec<u8>), Reason> {
    let Arrival { hook, frame, .. } = arrival;
    if frame.len() < 14 {
        return Err(Reason::Malformed);
    }
    // TC gets frames whose tag the kernel has taken out; one that is left is a second one.
    let is_tagged = hook == Hook::Xdp && frame[12..14] == [0x81, 0x00];
    let mut ingress = arrival.ingress;
    let mut rest = &frame[12..];
    if is_tagged {
        let [_, _, t0, t1, ..] = *rest else {
            return Err(Reason::Malformed);
        };
        if rest.len() < 6 {
            return Err(Reason::Malformed);
        }
        let vid = u16::from_be_bytes([t0, t1]) % 4096;
        if vid != 0 {
            let device = world.vlans.get(&(ingress, vid));
            ingress = *device.ok_or(Reason::PortDisabled)?;
        }
        rest = &rest[4..];
    }
    let Some(port) = world.ports.get(&ingress).filter(|_| ingress < MAX_IFINDEX) else {
        return Err(Reason::PortDisabled);
    };
    if port.flags & port_flags::ENABLED == 0 {
        return Err(Reason::PortDisabled);
    }
    if frame[..6] != port.mac {
        return Err(Reason::NotForUs);
    }
    let ip = &rest[2..];
    let (is_v4, packet) = match rest[..2] {
        [0x08, 0x00] => (true, ipv4(ip)?),
        [0x86, 0xdd] => (false, ipv6(ip)?),
        _ => return Err(Reason::NotIp),
    };
    let group = if is_v4 {
        route4(world, packet.destination)
    } else {
        route6(world, packet.destination)
    };
    let group = group.ok_or(Reason::NoRoute)?;
    if group == GroupId::PUNT.0 {
        return Err(Reason::Punt);
    }
    if group == GroupId::BLACKHOLE.0 {
        return Err(Reason::Blackhole);
    }
    if packet.ttl < 2 {
        return Err(Reason::TtlExpired);
    }
    let next_hop = next_hop(world, group, &packet)?;
    if next_hop.ifindex == 0 {
        return Err(Reason::Unresolved);
    }
    let is_uplink = |flags: u32| flags & port_flags::UPLINK != 0;
    let to_uplink = next_hop.ifindex < MAX_IFINDEX
        && world
            .ports
            .get(&next_hop.ifindex)
            .is_some_and(|port| is_uplink(port.flags));
    if is_uplink(port.flags) && to_uplink && world.config.flags & config_flags::TRANSIT == 0 {
        return Err(Reason::NotTransit);
    }
    let longest = match (arrival.segment_size as usize, &packet.transport[..]) {
        (0, _) => packet.len,
        // A TCP header says its length in words in the upper half of its 13th byte.
        (size, [6, tcp @ ..]) if tcp.len() >= 14 => {
            packet.header_len + usize::from(tcp[12] / 16) * 4 + size
        }
        (size, [17, ..]) => packet.header_len + 8 + size,
        _ => packet.len,
    };
    if longest > next_hop.mtu as usize {
        return Err(Reason::TooBig);
    }
    let has = |flag| next_hop.flags & flag != 0;
    let mut tag = None;
    match hook {
        Hook::Xdp => {
            if has(next_hop_flags::LOCAL) {
                return Err(Reason::Local);
            }
            if !has(next_hop_flags::RESOLVED) {
                return Err(Reason::Unresolved);
            }
            if !TX_PORTS.contains(&next_hop.tx_ifindex) {
                return Err(Reason::NoTxPort);
            }
            tag = Some(next_hop.vlan).filter(|vid| *vid != 0);
        }
        Hook::TcUplink | Hook::TcPod => {
            if !is_v4 && !has(next_hop_flags::RESOLVED) && !has(next_hop_flags::NEIGHBOUR6) {
                return Err(Reason::Unresolved);
            }
        }
    }
    let mut ip = ip.to_vec();
    if is_v4 {
        ip[8] -= 1;
        ip[10..12].fill(0);
        let checksum = !ones_complement_sum(&ip[..20]);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        ip[7] -= 1;
    }
    let mut out = [next_hop.dst_mac, next_hop.src_mac].concat();
    if let Some(vid) = tag {
        out.extend([0x81, 0x00]);
        out.extend(vid.to_be_bytes());
    }
    out.extend(&rest[..2]);
    out.extend(ip);
    let reason = if is_v4 {
        Reason::Forwarded4
    } else {
        Reason::Forwarded6
    };
    Ok((reason, out))
}

fn route4(world: &World, destination: u128) -> Option<u32> {
    let [first, second, third, _] = ((destination >> 96) as u32).to_be_bytes();
    let range = world.config.pods4;
    let block = block(
        widen(&range.base),
        range.prefix_len,
        range.block_len,
        destination,
    );
    if let Some(group) = indexed(&world.pods4, block) {
        return Some(group);
    }
    if let Some(root) = world.flat4_roots.get(&first) {
        let cover = Some(root.group).filter(|group| *group != 0);
        let table = world.flat4.get(&first);
        match (root.mode, table) {
            (flat4_mode::DIRECT, _) => return cover,
            (flat4_mode::TABLE, Some(table)) => match table.get(&(second, third)) {
                None | Some(0) => {}
                Some(&u32::MAX) => return cover,
                Some(group) => return Some(*group),
            },
            _ => {}
        }
    }
    let routes = world.routes4.iter();
    longest(
        routes.map(|((addr, len), id)| (widen(addr), *len, *id)),
        destination,
    )
}

fn route6(world: &World, destination: u128) -> Option<u32> {
    let range = world.config.pods6;
    let base = u128::from_be_bytes(range.base);
    let block = block(base, range.prefix_len, range.block_len, destination);
    if let Some(group) = indexed(&world.pods6, block) {
        return Some(group);
    }
    let routes = world.routes6.iter();
    longest(
        routes.map(|((addr, len), id)| (u128::from_be_bytes(*addr), *len, *id)),
        destination,
    )
}

/// Which block of a range an address lies in; an IPv4 address is in the upper 32 bits.
fn block(base: u128, prefix_len: u8, block_len: u8, address: u128) -> Option<u32> {
    if block_len == 0 || address < base {
        return None;
    }
    let distance = address - base;
    let size = 1_u128.checked_shl(128 - u32::from(prefix_len));
    if size.is_some_and(|size| distance >= size) {
        return None;
    }
    u32::try_from(distance >> (128 - u32::from(block_len))).ok()
}

fn indexed(index: &std::collections::BTreeMap<u32, u32>, block: Option<u32>) -> Option<u32> {
    index.get(&block?).copied().filter(|group| *group != 0)
}

struct Packet {
    len: usize,
    header_len: usize,
    /// Protocol, then what the IP header is followed by in the frame.
    transport: Vec<u8>,
    ttl: u8,
    /// An IPv4 address is in the upper 32 bits, as it is in [`widen`].
    destination: u128,
    /// What tells its flow from others.
    flow: Vec<u8>,
}

fn ipv4(ip: &[u8]) -> Result<Packet, Reason> {
    if ip.len() < 20 || ip[0] >> 4 != 4 {
        return Err(Reason::Malformed);
    }
    let header_len = usize::from(ip[0] % 16) * 4;
    let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if header_len < 20 || len < header_len || ip.len() < len {
        return Err(Reason::Malformed);
    }
    if header_len > 20 {
        return Err(Reason::Options);
    }
    if ones_complement_sum(&ip[..20]) != 0xffff {
        return Err(Reason::BadChecksum);
    }
    let never_routed = |addr: &[u8]| {
        matches!(
            addr,
            [0, ..] | [127, ..] | [169, 254, ..] | [224..=239, ..] | [240..=255, ..]
        )
    };
    if never_routed(&ip[12..16]) || never_routed(&ip[16..20]) {
        return Err(Reason::NotRoutable);
    }
    let more_fragments = ip[6] & 0x20 != 0;
    let offset = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff;
    let mut flow = ip[12..20].to_vec();
    add_transport(
        &mut flow,
        ip[9],
        &ip[20..len],
        more_fragments || offset != 0,
    );
    Ok(Packet {
        len,
        header_len: 20,
        transport: [&ip[9..10], &ip[20..]].concat(),
        ttl: ip[8],
        destination: widen(&[ip[16], ip[17], ip[18], ip[19]]),
        flow,
    })
}

fn ipv6(ip: &[u8]) -> Result<Packet, Reason> {
    if ip.len() < 40 || ip[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let len = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    if ip.len() < len {
        return Err(Reason::Malformed);
    }
    if ip[6] == 0 {
        return Err(Reason::Options);
    }
    let address = |at: usize| u128::from_be_bytes(ip[at..at + 16].try_into().expect("16 bytes"));
    let never_routed = |addr: u128| {
        addr <= 1 || addr >> 32 == 0xffff || addr >> 118 == 0xfe80 >> 6 || addr >> 120 == 0xff
    };
    if never_routed(address(8)) || never_routed(address(24)) {
        return Err(Reason::NotRoutable);
    }
    let mut flow = ip[8..40].to_vec();
    add_transport(&mut flow, ip[6], &ip[40..len], false);
    Ok(Packet {
        len,
        header_len: 40,
        transport: [&ip[6..7], &ip[40..]].concat(),
        ttl: ip[7],
        destination: address(24),
        flow,
    })
}

/// Adds eight bytes: protocol, zero, destination port, source port, with ports only where the whole flow has them.
fn add_transport(flow: &mut Vec<u8>, protocol: u8, payload: &[u8], is_fragment: bool) {
    let ports = match (protocol, payload) {
        (6 | 17 | 132, [s0, s1, d0, d1, ..]) if !is_fragment => [*d0, *d1, *s0, *s1],
        _ => [0; 4],
    };
    flow.extend([protocol, 0]);
    flow.extend(ports);
    flow.extend([0, 0]);
}

fn longest(routes: impl Iterator<Item = (u128, u8, u32)>, destination: u128) -> Option<u32> {
    routes
        .filter(|(addr, len, _)| *len == 0 || (addr ^ destination) >> (128 - u32::from(*len)) == 0)
        .max_by_key(|(_, len, _)| *len)
        .map(|(_, _, id)| id)
}

fn next_hop(world: &World, group: u32, packet: &Packet) -> Result<NextHop, Reason> {
    if group >= MAX_GROUPS {
        return Err(Reason::Inconsistent);
    }
    let hash = packet
        .flow
        .chunks_exact(8)
        .fold(FlowHash::new(world.config.hash_seed), |hash, word| {
            hash.add(u64::from_le_bytes(word.try_into().expect("8 bytes")))
        })
        .finish();
    let nth = (f64::from(hash) / 4_294_967_296.0 * 256.0) as usize;
    let order: Vec<u32> = match world.groups.get(&group) {
        None => vec![],
        Some(group) => group.slots[nth].order.map(u32::from).to_vec(),
    };
    let members: Vec<u32> = order.into_iter().take_while(|id| *id != 0).collect();
    if members.is_empty() {
        return Err(Reason::EmptyGroup);
    }
    let mut alive = None;
    for id in members {
        if id >= MAX_NEXT_HOPS {
            return Err(Reason::Inconsistent);
        }
        if world.liveness.get(&id).is_none_or(|dead| *dead == 0) {
            alive = Some(id);
            break;
        }
    }
    let id = alive.ok_or(Reason::NoneAlive)?;
    let next_hop = world.next_hops.get(&id).copied();
    next_hop.ok_or(Reason::Unresolved)
}

fn widen(addr: &[u8; 4]) -> u128 {
    u128::from(u32::from_be_bytes(*addr)) << 96
}

fn ones_complement_sum(bytes: &[u8]) -> u16 {
    bytes.chunks_exact(2).fold(0, |sum: u16, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
        sum + u16::from(carry)
    })
}
