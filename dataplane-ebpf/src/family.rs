//! All that differs between IPv4 and IPv6: headers, addresses that are never routed, the table, the rewrite.

use bytemuck::Pod;
use causeway_maps::{Config, Flat4Block, GroupId, Reason, flat4_mode};

use crate::checksum;
use crate::context::{Context, Tables};
use crate::hash::FlowHash;
use crate::header::{Be16, Ipv4Header, Ipv6Header, Ports};

/// An address family.
pub trait Family {
    /// Its header.
    type Header: Pod;
    /// Counts what was forwarded.
    const FORWARDED: Reason;
    /// In an Ethernet header.
    const ETHER_TYPE: u16;

    /// Accepts a header, which lies at `L3`, that a router may forward.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`], [`Reason::Options`], [`Reason::BadChecksum`] or [`Reason::NotRoutable`], looked for in
    /// this order.
    fn parse<const L3: usize>(
        context: &impl Context,
        header: &Self::Header,
    ) -> Result<Packet, Reason>;

    /// The group of the longest prefix that matches the destination. The tries are asked only if nothing faster knows.
    fn route(tables: &impl Tables, config: &Config, header: &Self::Header) -> Option<GroupId>;

    /// The hash of the packet's flow.
    fn flow_hash<const L3: usize>(
        context: &impl Context,
        header: &Self::Header,
        packet: &Packet,
        seed: u32,
    ) -> u32;

    /// Takes one from the TTL or hop limit, which is at least 2. Returns the word that changed, before and after, unless
    /// the header's own checksum makes up for it.
    fn decrement_ttl(header: &mut Self::Header) -> Option<[Be16; 2]>;

    /// Bytes of the largest IP packet that this one becomes on the wire: its own, or those of its segments (GSO).
    #[inline(always)]
    fn longest_piece<const L3: usize>(context: &impl Context, packet: &Packet) -> u32 {
        let segment = context.segment_size();
        if segment == 0 {
            return packet.ip_len;
        }
        let header_len = size_of::<Self::Header>();
        let transport_len = match packet.protocol {
            TCP => context
                .header::<Be16>(L3 + header_len + TCP_OFFSET)
                .map(|word| u32::from(word.high() >> 4) * 4),
            UDP => Some(UDP_LEN),
            _ => None,
        };
        // Who can't tell leaves it to the stack, unless it fits whole.
        transport_len.map_or(packet.ip_len, |len| header_len as u32 + len + segment)
    }
}

/// What the pipeline wants to know about a packet, whatever its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Bytes of the IP packet, header included, Ethernet padding excluded.
    pub ip_len: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol or next header.
    pub protocol: u8,
    /// Whether [`Ports`] follow the IP header, in this packet and so in every packet of its flow.
    pub has_ports: bool,
}

/// EtherType, version 4.
pub const ETHER_TYPE_IPV4: u16 = 0x0800;
/// EtherType, version 6.
pub const ETHER_TYPE_IPV6: u16 = 0x86dd;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Where TCP says how long its header is, in its upper 4 bits (RFC 9293 3.1).
const TCP_OFFSET: usize = 12;
const UDP_LEN: u32 = 8;
/// RFC 8200 4.3.
const HOP_BY_HOP: u8 = 0;

const IPV4_LEN: usize = size_of::<Ipv4Header>();
const IPV6_LEN: usize = size_of::<Ipv6Header>();
const PORTS_LEN: u32 = size_of::<Ports>() as u32;

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub enum Ipv4 {}

impl Family for Ipv4 {
    type Header = Ipv4Header;
    const FORWARDED: Reason = Reason::Forwarded4;
    const ETHER_TYPE: u16 = ETHER_TYPE_IPV4;

    #[inline(always)]
    fn parse<const L3: usize>(
        context: &impl Context,
        header: &Ipv4Header,
    ) -> Result<Packet, Reason> {
        let first = header.version_length_tos.high();
        let (version, header_len) = (first >> 4, u32::from(first & 0xf) * 4);
        let ip_len = u32::from(header.total_length.value());
        // RFC 1812 5.2.2.
        if version != 4
            || header_len < IPV4_LEN as u32
            || ip_len < header_len
            || context.frame_len() < L3 + ip_len as usize
        {
            return Err(Reason::Malformed);
        }
        if header_len != IPV4_LEN as u32 {
            return Err(Reason::Options);
        }
        if !checksum::is_valid(header) {
            return Err(Reason::BadChecksum);
        }
        if never_routed4(header.source) || never_routed4(header.destination) {
            return Err(Reason::NotRoutable);
        }
        let protocol = header.ttl_protocol.low();
        // More fragments, or an offset. Only the first fragment has ports, and all must take the same member.
        let is_fragment = header.fragment.value() & 0x3fff != 0;
        Ok(Packet {
            ip_len,
            ttl: header.ttl_protocol.high(),
            protocol,
            has_ports: has_ports(protocol) && !is_fragment && ip_len >= IPV4_LEN as u32 + PORTS_LEN,
        })
    }

    #[inline(always)]
    fn route(tables: &impl Tables, config: &Config, header: &Ipv4Header) -> Option<GroupId> {
        let destination: [u8; 4] = bytemuck::cast(header.destination);
        if let Some(block) = config.pods4.block(destination)
            && let Some(group) = tables.pods4(block)
            && group != GroupId::NONE
        {
            return Some(group);
        }
        match flat4(tables, destination) {
            Flat::Known(group) => group,
            Flat::AskTrie => tables.route4(destination),
        }
    }

    #[inline(always)]
    fn flow_hash<const L3: usize>(
        context: &impl Context,
        header: &Ipv4Header,
        packet: &Packet,
        seed: u32,
    ) -> u32 {
        let [s0, s1] = header.source;
        let [d0, d1] = header.destination;
        FlowHash::new(seed)
            .add(word([s0, s1, d0, d1]))
            .add(transport(context, L3 + IPV4_LEN, packet))
            .finish()
    }

    #[inline(always)]
    fn decrement_ttl(header: &mut Ipv4Header) -> Option<[Be16; 2]> {
        let before = header.ttl_protocol;
        let after = Be16::new(before.value().wrapping_sub(0x100));
        header.ttl_protocol = after;
        header.checksum = checksum::updated(header.checksum, before, after);
        None
    }
}

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub enum Ipv6 {}

impl Family for Ipv6 {
    type Header = Ipv6Header;
    const FORWARDED: Reason = Reason::Forwarded6;
    const ETHER_TYPE: u16 = ETHER_TYPE_IPV6;

    #[inline(always)]
    fn parse<const L3: usize>(
        context: &impl Context,
        header: &Ipv6Header,
    ) -> Result<Packet, Reason> {
        let version = header.version_class_flow[0].high() >> 4;
        let ip_len = u32::from(header.payload_length.value()) + IPV6_LEN as u32;
        if version != 6 || context.frame_len() < L3 + ip_len as usize {
            return Err(Reason::Malformed);
        }
        let protocol = header.next_header_hop_limit.high();
        if protocol == HOP_BY_HOP {
            return Err(Reason::Options);
        }
        if never_routed6(&header.source) || never_routed6(&header.destination) {
            return Err(Reason::NotRoutable);
        }
        Ok(Packet {
            ip_len,
            ttl: header.next_header_hop_limit.low(),
            protocol,
            // Behind any extension header, the fragment header included, addresses and next header must do.
            has_ports: has_ports(protocol) && ip_len >= IPV6_LEN as u32 + PORTS_LEN,
        })
    }

    #[inline(always)]
    fn route(tables: &impl Tables, config: &Config, header: &Ipv6Header) -> Option<GroupId> {
        let destination: [u8; 16] = bytemuck::cast(header.destination);
        if let Some(block) = config.pods6.block(destination)
            && let Some(group) = tables.pods6(block)
            && group != GroupId::NONE
        {
            return Some(group);
        }
        tables.route6(destination)
    }

    #[inline(always)]
    fn flow_hash<const L3: usize>(
        context: &impl Context,
        header: &Ipv6Header,
        packet: &Packet,
        seed: u32,
    ) -> u32 {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = header.source;
        let [d0, d1, d2, d3, d4, d5, d6, d7] = header.destination;
        FlowHash::new(seed)
            .add(word([s0, s1, s2, s3]))
            .add(word([s4, s5, s6, s7]))
            .add(word([d0, d1, d2, d3]))
            .add(word([d4, d5, d6, d7]))
            .add(transport(context, L3 + IPV6_LEN, packet))
            .finish()
    }

    #[inline(always)]
    fn decrement_ttl(header: &mut Ipv6Header) -> Option<[Be16; 2]> {
        let before = header.next_header_hop_limit;
        let after = Be16::new(before.value().wrapping_sub(1));
        header.next_header_hop_limit = after;
        Some([before, after])
    }
}

/// What the flat table says.
enum Flat {
    /// The answer, which may be that there is no route.
    Known(Option<GroupId>),
    /// It does not know.
    AskTrie,
}

#[inline(always)]
fn flat4(tables: &impl Tables, [first, second, third, _]: [u8; 4]) -> Flat {
    let Some(root) = tables.flat4_root(first) else {
        return Flat::AskTrie;
    };
    let known = |group| Flat::Known(Some(GroupId(group)).filter(|group| *group != GroupId::NONE));
    match root.mode {
        flat4_mode::DIRECT => known(root.group),
        flat4_mode::TABLE => match tables.flat4(first, second) {
            None => Flat::AskTrie,
            Some(block) => match block.groups[usize::from(third)] {
                0 => Flat::AskTrie,
                Flat4Block::COVER => known(root.group),
                group => known(group),
            },
        },
        _ => Flat::AskTrie,
    }
}

/// Neither source nor destination of anything that a router forwards (RFC 1812 5.3.7, RFC 6890): this network,
/// loopback, link-local, multicast, class E and the limited broadcast.
#[inline(always)]
fn never_routed4(address: [Be16; 2]) -> bool {
    let first = address[0].high();
    first == 0 || first == 127 || first >= 224 || address[0].value() == 0xa9fe
}

/// Neither source nor destination of anything that a router forwards (RFC 4291 2.5.2, 2.5.3, 2.5.6, 2.7, RFC 6890):
/// unspecified, loopback, IPv4-mapped, link-local and multicast.
#[inline(always)]
fn never_routed6(address: &[Be16; 8]) -> bool {
    let [a0, a1, a2, a3, a4, a5, a6, a7] = *address;
    if a0.high() == 0xff || a0.value() & 0xffc0 == 0xfe80 {
        return true;
    }
    if word([a0, a1, a2, a3]) | u64::from(a4.raw()) != 0 {
        return false;
    }
    match a5.value() {
        0xffff => true,
        0 => a6.raw() == 0 && a7.value() <= 1,
        _ => false,
    }
}

#[inline(always)]
const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

/// Ports, if any, and protocol in one word.
#[inline(always)]
fn transport(context: &impl Context, offset: usize, packet: &Packet) -> u64 {
    let ports = if packet.has_ports {
        context.header::<Ports>(offset)
    } else {
        None
    };
    let ports = ports.map_or(0, |ports| {
        u64::from(ports.source.raw()) << 32 | u64::from(ports.destination.raw()) << 16
    });
    ports | u64::from(packet.protocol)
}

#[inline(always)]
const fn word(words: [Be16; 4]) -> u64 {
    let [a, b, c, d] = words;
    a.raw() as u64 | (b.raw() as u64) << 16 | (c.raw() as u64) << 32 | (d.raw() as u64) << 48
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn ipv4_addresses_at_the_borders_of_what_is_never_routed() {
        for (address, never) in [
            ("0.0.0.0", true),
            ("0.255.255.255", true),
            ("1.0.0.0", false),
            ("126.255.255.255", false),
            ("127.0.0.1", true),
            ("127.255.255.255", true),
            ("128.0.0.0", false),
            ("169.253.255.255", false),
            ("169.254.0.0", true),
            ("169.254.255.255", true),
            ("169.255.0.0", false),
            ("223.255.255.255", false),
            ("224.0.0.0", true),
            ("239.255.255.255", true),
            ("240.0.0.0", true),
            ("255.255.255.255", true),
        ] {
            let parsed: Ipv4Addr = address.parse().unwrap();
            assert_eq!(
                never_routed4(bytemuck::cast(parsed.octets())),
                never,
                "{address}"
            );
        }
    }

    #[test]
    fn ipv6_addresses_at_the_borders_of_what_is_never_routed() {
        for (address, never) in [
            ("::", true),
            ("::1", true),
            ("::2", false),
            ("::1:0", false),
            ("::1:0:0", false),
            ("::fffe:ffff:ffff", false),
            ("::ffff:0:0", true),
            ("::ffff:192.0.2.1", true),
            ("::1:ffff:192.0.2.1", false),
            ("1::ffff:192.0.2.1", false),
            ("64:ff9b::192.0.2.1", false),
            ("2001:db8::1", false),
            ("fd00::1", false),
            ("fe7f:ffff::", false),
            ("fe80::1", true),
            ("febf:ffff::1", true),
            ("fec0::1", false),
            ("feff::1", false),
            ("ff00::", true),
            ("ff02::1", true),
        ] {
            let parsed: Ipv6Addr = address.parse().unwrap();
            assert_eq!(
                never_routed6(&bytemuck::cast(parsed.octets())),
                never,
                "{address}"
            );
        }
    }
}
