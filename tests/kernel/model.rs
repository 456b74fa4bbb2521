//! What the program should do, said as plainly as possible: slices, numbers, linear search.
//!
//! It shares nothing with the program but the types of the maps and the flow hash, which has tests of its own.

use causeway_ebpf::hash::FlowHash;
use causeway_maps::catalogue::{MAX_GROUPS, MAX_IFINDEX, MAX_NEXT_HOPS};
use causeway_maps::{GroupId, NextHop, Reason, config_flags, next_hop_flags, port_flags};

use crate::rig::Outcome;
use crate::world::{TX_PORTS, World};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// What becomes of a frame, and why.
pub(crate) fn decide(world: &World, ingress: u32, frame: &[u8]) -> (Reason, Outcome) {
    match forward(world, ingress, frame) {
        Ok((reason, frame)) => (
            reason,
            Outcome {
                action: XDP_REDIRECT,
                frame,
            },
        ),
        Err(reason) => (
            reason,
            Outcome {
                action: match reason {
                    Reason::Inconsistent | Reason::Blackhole => XDP_DROP,
                    _ => XDP_PASS,
                },
                frame: frame.to_vec(),
            },
        ),
    }
}

fn forward(world: &World, ingress: u32, frame: &[u8]) -> Result<(Reason, Vec<u8>), Reason> {
    let Some(port) = world.ports.get(&ingress).filter(|_| ingress < MAX_IFINDEX) else {
        return Err(Reason::PortDisabled);
    };
    if port.flags & port_flags::ENABLED == 0 {
        return Err(Reason::PortDisabled);
    }
    if frame.len() < 14 {
        return Err(Reason::Malformed);
    }
    if frame[..6] != port.mac {
        return Err(Reason::NotForUs);
    }
    let ip = &frame[14..];
    let (is_v4, packet) = match frame[12..14] {
        [0x08, 0x00] => (true, ipv4(ip)?),
        [0x86, 0xdd] => (false, ipv6(ip)?),
        _ => return Err(Reason::NotIp),
    };
    let group = if is_v4 {
        let routes = world.routes4.iter();
        longest(
            routes.map(|((addr, len), id)| (widen(addr), *len, *id)),
            packet.destination,
        )
    } else {
        let routes = world.routes6.iter();
        longest(
            routes.map(|((addr, len), id)| (u128::from_be_bytes(*addr), *len, *id)),
            packet.destination,
        )
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
    if next_hop.flags & next_hop_flags::LOCAL != 0 {
        return Err(Reason::Local);
    }
    let uplink = |ifindex: u32| {
        ifindex < MAX_IFINDEX
            && world
                .ports
                .get(&ifindex)
                .is_some_and(|port| port.flags & port_flags::UPLINK != 0)
    };
    if uplink(ingress)
        && uplink(next_hop.ifindex)
        && world.config.flags & config_flags::TRANSIT == 0
    {
        return Err(Reason::NotTransit);
    }
    if packet.len > next_hop.mtu as usize {
        return Err(Reason::TooBig);
    }
    if !TX_PORTS.contains(&next_hop.tx_ifindex) {
        return Err(Reason::NoTxPort);
    }
    let mut out = frame.to_vec();
    out[..6].copy_from_slice(&next_hop.dst_mac);
    out[6..12].copy_from_slice(&next_hop.src_mac);
    if is_v4 {
        out[14 + 8] -= 1;
        out[14 + 10..14 + 12].fill(0);
        let checksum = !ones_complement_sum(&out[14..34]);
        out[14 + 10..14 + 12].copy_from_slice(&checksum.to_be_bytes());
        Ok((Reason::Forwarded4, out))
    } else {
        out[14 + 7] -= 1;
        Ok((Reason::Forwarded6, out))
    }
}

struct Packet {
    len: usize,
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
    match world.next_hops.get(&id) {
        Some(next_hop) if next_hop.flags & next_hop_flags::RESOLVED != 0 => Ok(*next_hop),
        _ => Err(Reason::Unresolved),
    }
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
