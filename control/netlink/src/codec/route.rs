//! Routes and next-hop objects: listings and notifications, and the operations that we make on ours.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use causeway_net::kernel::{
    BLACKHOLE_METRIC, FoundNextHop, FoundValue, Gateway, METRIC, Op, PROTOCOL,
};
use causeway_net::{KernelRoute, RouteLeg, RouteTarget, Subnet};

use super::{ACK, AF_INET, AF_INET6, AF_UNSPEC, DUMP, RTM_NEWLINK, ip, octets};
use crate::wire::{Attribute, Builder, Malformed, Message, attributes, u16_at, u32_at};

/// `RTM_NEWROUTE`: a route is there.
pub const RTM_NEWROUTE: u16 = 24;
/// `RTM_DELROUTE`: a route is gone.
pub const RTM_DELROUTE: u16 = 25;
/// `RTM_GETROUTE`.
pub const RTM_GETROUTE: u16 = 26;
/// `RTM_NEWNEXTHOP`: a next-hop object is there (Linux 5.3).
pub const RTM_NEWNEXTHOP: u16 = 104;
/// `RTM_DELNEXTHOP`: a next-hop object is gone.
pub const RTM_DELNEXTHOP: u16 = 105;
/// `RTM_GETNEXTHOP`.
pub const RTM_GETNEXTHOP: u16 = 106;

/// `NLM_F_REPLACE`, without create: what is not there is refused and not made.
const REPLACE: u16 = 0x100;
/// `NLM_F_CREATE | NLM_F_EXCL`: what is there is refused and not changed.
const CREATE: u16 = 0x600;

const RT_TABLE_MAIN: u8 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTN_PROHIBIT: u8 = 8;
/// Made by the kernel along with addresses, or by ICMP redirects: both are known otherwise, or not to be relied on.
const RTPROT_REDIRECT: u8 = 1;
const RTPROT_KERNEL: u8 = 2;
const RTM_F_CLONED: u32 = 0x200;
/// With `RTM_GETROUTE`: answer with the route that matches and not with what is made of it.
const RTM_F_FIB_MATCH: u32 = 0x2000;
/// The gateway is on the link whatever the addresses there say.
const RTNH_F_ONLINK: u32 = 4;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;

/// `struct rtmsg`.
const RTMSG_BYTES: usize = 12;
/// `struct nhmsg`.
const NHMSG_BYTES: usize = 8;
/// `struct nexthop_grp`.
const GROUP_ENTRY_BYTES: usize = 8;

/// What a message on routes tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteNews {
    /// A route of the main table is there.
    Route(KernelRoute),
    /// A route of the main table is gone.
    RouteGone(KernelRoute),
    /// Somebody changed a next-hop object, or removed one.
    NextHop(u32),
    /// Something happened to a link; what is on it may be gone without another word.
    Link(u32),
}

/// The news that a message tells; `None` if it is about nothing of ours: other tables, multicast, connected routes.
///
/// # Errors
///
/// If the message is too short or contradicts itself.
pub fn route_news(message: &Message<'_>) -> Result<Option<RouteNews>, Malformed> {
    Ok(match message.kind {
        RTM_NEWROUTE => route(message.body)?.map(RouteNews::Route),
        RTM_DELROUTE => route(message.body)?.map(RouteNews::RouteGone),
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
            next_hop(message.body)?.map(|found| RouteNews::NextHop(found.id))
        }
        RTM_NEWLINK => u32_at(message.body, 4).map(RouteNews::Link),
        _ => None,
    })
}

/// A route of the main table; `None` for others, and for what the kernel made by itself.
pub(crate) fn route(body: &[u8]) -> Result<Option<KernelRoute>, Malformed> {
    let protocol = body.get(5).copied().unwrap_or_default();
    if matches!(protocol, RTPROT_KERNEL | RTPROT_REDIRECT) {
        return Ok(None);
    }
    let found = parse(body, false)?;
    Ok(found
        .filter(|(table, _)| *table == u32::from(RT_TABLE_MAIN))
        .map(|(_, route)| route))
}

/// A route of any table, whoever made it, its next hops spelled out.
pub(crate) fn any_route(body: &[u8]) -> Result<Option<KernelRoute>, Malformed> {
    Ok(parse(body, true)?.map(|(_, route)| route))
}

/// A route and its table; `None` for what is neither unicast nor a refusal. Of ours only the next-hop object is told, unless
/// next hops are to be spelled out.
fn parse(body: &[u8], spell_out: bool) -> Result<Option<(u32, KernelRoute)>, Malformed> {
    let short = Malformed::Size("struct rtmsg");
    let (Some([family, len, source_len, tos]), Some([table, protocol, _scope, kind])) = (
        body.first_chunk::<4>().copied(),
        body.get(4..)
            .and_then(|rest| rest.first_chunk::<4>())
            .copied(),
    ) else {
        return Err(short);
    };
    let flags = u32_at(body, 8).ok_or(short)?;
    let rest = body.get(RTMSG_BYTES..).ok_or(short)?;
    let zero = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    let reject = matches!(kind, RTN_BLACKHOLE | RTN_UNREACHABLE | RTN_PROHIBIT);
    if flags & RTM_F_CLONED != 0
        || source_len != 0
        || tos != 0
        || !(matches!(kind, RTN_UNICAST | RTN_LOCAL) || reject)
    {
        return Ok(None);
    }
    let mut table = u32::from(table);
    let (mut addr, mut metric, mut object) = (zero, 0, None);
    let mut single = RouteLeg {
        gateway: None,
        ifindex: 0,
        weight: 1,
    };
    let mut legs = Vec::new();
    for attribute in attributes(rest) {
        let Attribute { kind, value } = attribute?;
        match kind {
            RTA_DST => addr = ip(family, value, "RTA_DST")?,
            RTA_TABLE => table = u32_at(value, 0).ok_or(Malformed::Size("RTA_TABLE"))?,
            RTA_PRIORITY => metric = u32_at(value, 0).ok_or(Malformed::Size("RTA_PRIORITY"))?,
            RTA_NH_ID => object = Some(u32_at(value, 0).ok_or(Malformed::Size("RTA_NH_ID"))?),
            RTA_OIF => single.ifindex = u32_at(value, 0).ok_or(Malformed::Size("RTA_OIF"))?,
            RTA_GATEWAY => single.gateway = Some(ip(family, value, "RTA_GATEWAY")?),
            RTA_VIA => single.gateway = Some(via(value)?),
            // The kernel spells objects out besides naming them; of ours we know what they are.
            RTA_MULTIPATH if spell_out || protocol != PROTOCOL => legs = multipath(family, value)?,
            _ => {}
        }
    }
    let prefix = Subnet::new(addr, len).ok_or(Malformed::Size("the prefix length of a route"))?;
    if single.ifindex != 0 && legs.is_empty() {
        legs.push(single);
    }
    let target = match object {
        _ if reject => RouteTarget::Reject,
        Some(object) if protocol == PROTOCOL && !spell_out || legs.is_empty() => {
            RouteTarget::Object(object)
        }
        _ => RouteTarget::Legs(legs),
    };
    let route = KernelRoute {
        prefix,
        metric,
        protocol,
        target,
    };
    Ok(Some((table, route)))
}

/// `struct rtvia`: a gateway of the other family.
fn via(value: &[u8]) -> Result<IpAddr, Malformed> {
    let wrong = Malformed::Size("RTA_VIA");
    let family = u16_at(value, 0).ok_or(wrong)?;
    let family = u8::try_from(family).map_err(|_| wrong)?;
    ip(family, value.get(2..).ok_or(wrong)?, "RTA_VIA")
}

/// `struct rtnexthop`, each with its attributes.
fn multipath(family: u8, mut bytes: &[u8]) -> Result<Vec<RouteLeg>, Malformed> {
    const HEAD_BYTES: usize = 8;
    let wrong = Malformed::Size("RTA_MULTIPATH");
    let mut legs = Vec::new();
    while !bytes.is_empty() {
        let len = usize::from(u16_at(bytes, 0).ok_or(wrong)?);
        let (Some(hops), Some(ifindex)) = (bytes.get(3).copied(), u32_at(bytes, 4)) else {
            return Err(wrong);
        };
        let mut leg = RouteLeg {
            gateway: None,
            ifindex,
            weight: u32::from(hops) + 1,
        };
        for attribute in attributes(bytes.get(HEAD_BYTES..len).ok_or(wrong)?) {
            let Attribute { kind, value } = attribute?;
            match kind {
                RTA_GATEWAY => leg.gateway = Some(ip(family, value, "RTA_GATEWAY")?),
                RTA_VIA => leg.gateway = Some(via(value)?),
                _ => {}
            }
        }
        legs.push(leg);
        bytes = bytes.get((len + 3) & !3..).unwrap_or_default();
    }
    Ok(legs)
}

/// A next-hop object or group.
pub(crate) fn next_hop(body: &[u8]) -> Result<Option<FoundNextHop>, Malformed> {
    let short = Malformed::Size("struct nhmsg");
    let (Some(family), Some(protocol), Some(rest)) = (
        body.first().copied(),
        body.get(2).copied(),
        body.get(NHMSG_BYTES..),
    ) else {
        return Err(short);
    };
    let (mut id, mut ifindex, mut gateway, mut members) = (0, None, None, None);
    for attribute in attributes(rest) {
        let Attribute { kind, value } = attribute?;
        match kind {
            NHA_ID => id = u32_at(value, 0).ok_or(Malformed::Size("NHA_ID"))?,
            NHA_OIF => ifindex = Some(u32_at(value, 0).ok_or(Malformed::Size("NHA_OIF"))?),
            NHA_GATEWAY => gateway = Some(ip(family, value, "NHA_GATEWAY")?),
            NHA_GROUP => members = Some(group(value)?),
            _ => {}
        }
    }
    if id == 0 {
        return Ok(None);
    }
    let value = match (members, ifindex, gateway) {
        (Some(members), _, _) => FoundValue::Group(Arc::from(members)),
        (None, Some(ifindex), Some(addr)) => FoundValue::Gateway(Gateway { ifindex, addr }),
        _ => FoundValue::Other,
    };
    Ok(Some(FoundNextHop {
        id,
        protocol,
        value,
    }))
}

/// `struct nexthop_grp`: the weight is one less than meant.
fn group(value: &[u8]) -> Result<Vec<(u32, u8)>, Malformed> {
    let (entries, rest) = value.as_chunks::<GROUP_ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(Malformed::Size("NHA_GROUP"));
    }
    Ok(entries
        .iter()
        .map(|[a, b, c, d, weight, ..]| {
            (
                u32::from_ne_bytes([*a, *b, *c, *d]),
                weight.saturating_add(1),
            )
        })
        .collect())
}

/// A request for all routes.
#[must_use]
pub fn dump_routes(sequence: u32) -> Vec<u8> {
    Builder::new(RTM_GETROUTE, DUMP, sequence, &rtmsg(AF_UNSPEC, 0, 0, 0)).finish()
}

/// A request for all next-hop objects.
#[must_use]
pub fn dump_next_hops(sequence: u32) -> Vec<u8> {
    Builder::new(RTM_GETNEXTHOP, DUMP, sequence, &[0; NHMSG_BYTES]).finish()
}

/// A request for the route that the kernel takes to `addr`.
#[must_use]
pub fn match_route(sequence: u32, addr: IpAddr) -> Vec<u8> {
    let (family, octets) = octets(addr);
    let len = if addr.is_ipv4() { 32 } else { 128 };
    let mut head = rtmsg(family, len, 0, 0);
    head[4] = 0;
    head[8..].copy_from_slice(&RTM_F_FIB_MATCH.to_ne_bytes());
    Builder::new(RTM_GETROUTE, 0, sequence, &head)
        .attribute(RTA_DST, &octets)
        .finish()
}

/// The request that carries `op` out. With `acknowledge` the kernel answers in any case, else only if it refuses.
#[must_use]
pub fn operation(sequence: u32, op: &Op, acknowledge: bool) -> Vec<u8> {
    let ack = if acknowledge { ACK } else { 0 };
    let how = |replace: bool| ack | if replace { REPLACE } else { CREATE };
    match op {
        Op::NextHop {
            id,
            gateway,
            replace,
        } => {
            let (family, octets) = octets(gateway.addr);
            Builder::new(
                RTM_NEWNEXTHOP,
                how(*replace),
                sequence,
                &nhmsg(family, RTNH_F_ONLINK),
            )
            .attribute(NHA_ID, &id.to_ne_bytes())
            .attribute(NHA_OIF, &gateway.ifindex.to_ne_bytes())
            .attribute(NHA_GATEWAY, &octets)
        }
        Op::Group {
            id,
            members,
            replace,
        } => {
            let mut entries = Vec::with_capacity(members.len() * GROUP_ENTRY_BYTES);
            for (id, weight) in members.iter() {
                entries.extend_from_slice(&id.to_ne_bytes());
                entries.extend_from_slice(&[weight.saturating_sub(1), 0, 0, 0]);
            }
            Builder::new(
                RTM_NEWNEXTHOP,
                how(*replace),
                sequence,
                &nhmsg(AF_UNSPEC, 0),
            )
            .attribute(NHA_ID, &id.to_ne_bytes())
            .attribute(NHA_GROUP, &entries)
        }
        Op::RemoveNextHop { id } => Builder::new(RTM_DELNEXTHOP, ack, sequence, &[0; NHMSG_BYTES])
            .attribute(NHA_ID, &id.to_ne_bytes()),
        Op::Route {
            prefix,
            group,
            replace,
        } => route_request(
            RTM_NEWROUTE,
            how(*replace),
            sequence,
            (*prefix, METRIC, RTN_UNICAST),
        )
        .attribute(RTA_NH_ID, &group.to_ne_bytes()),
        Op::Blackhole { prefix } => route_request(
            RTM_NEWROUTE,
            how(false),
            sequence,
            (*prefix, BLACKHOLE_METRIC, RTN_BLACKHOLE),
        ),
        // With type 0 any of ours with this metric goes.
        Op::RemoveRoute { prefix, metric } => {
            route_request(RTM_DELROUTE, ack, sequence, (*prefix, *metric, 0))
        }
    }
    .finish()
}

fn route_request(
    message: u16,
    flags: u16,
    sequence: u32,
    (prefix, metric, kind): (Subnet, u32, u8),
) -> Builder {
    let (family, octets) = octets(prefix.addr());
    let mut head = rtmsg(family, prefix.len(), PROTOCOL, kind);
    if message == RTM_DELROUTE {
        // "Any": a deletion compares it otherwise.
        head[6] = RT_SCOPE_NOWHERE;
    }
    Builder::new(message, flags, sequence, &head)
        .attribute(RTA_DST, &octets)
        .attribute(RTA_PRIORITY, &metric.to_ne_bytes())
}

const RT_SCOPE_NOWHERE: u8 = 255;

/// `struct rtmsg` of the main table.
fn rtmsg(family: u8, len: u8, protocol: u8, kind: u8) -> [u8; RTMSG_BYTES] {
    let mut head = [0; RTMSG_BYTES];
    head[..8].copy_from_slice(&[
        family,
        len,
        0,
        0,
        RT_TABLE_MAIN,
        protocol,
        RT_SCOPE_UNIVERSE,
        kind,
    ]);
    head
}

/// `struct nhmsg`.
fn nhmsg(family: u8, flags: u32) -> [u8; NHMSG_BYTES] {
    let mut head = [0; NHMSG_BYTES];
    head[0] = family;
    head[2] = PROTOCOL;
    head[4..].copy_from_slice(&flags.to_ne_bytes());
    head
}

#[cfg(test)]
mod tests;
