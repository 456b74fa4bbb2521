//! From a frame to a [`Verdict`].
//!
//! ```text
//!  port ─▶ Ethernet ─▶ IP header ─▶ LPM ─▶ punt? ─▶ TTL ─▶ group ─▶ slot ─▶ alive? ─▶ next hop ─▶ role ─▶ MTU ─▶ egress
//!                                                                                                                │
//!                                         forwarded ◀─ TTL − 1, checksum, MAC addresses ◀────────────────────────┘
//! ```
//!
//! Every step can end with its own [`Reason`]; from the egress on nothing fails. The order is part of the contract:
//! a packet is counted under the first reason that applies. The TTL is looked at after the route, as the kernel does,
//! because what ends here, a BGP session with TTL 1 for one, does not expire here.

use causeway_maps::{
    Config, GroupId, NextHop, NextHopId, Outcome, Port, Reason, Slot, config_flags, next_hop_flags,
    port_flags,
};

use crate::context::{Context, Tables};
use crate::family::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Family, Ipv4, Ipv6};
use crate::hash::slot;
use crate::header::{ETHERNET_LEN, Ethernet, Mac};

/// What became of a packet. Made by [`forward`] only, which has counted it.
#[must_use = "the hook returns an action made of this"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(Reason);

impl Verdict {
    /// Why.
    #[must_use]
    #[inline(always)]
    pub const fn reason(self) -> Reason {
        self.0
    }

    /// What to do with the packet.
    #[must_use]
    #[inline(always)]
    pub const fn outcome(self) -> Outcome {
        self.0.outcome()
    }
}

/// Decides about one packet, rewrites it when it is to be forwarded, and counts it.
#[inline(always)]
pub fn forward(context: &mut impl Context, tables: &impl Tables) -> Verdict {
    let bytes = context.frame_len() as u64;
    let reason = match route_frame(context, tables) {
        Ok(forwarded) => forwarded,
        Err(reason) => reason,
    };
    tables.count(reason, bytes);
    Verdict(reason)
}

#[inline(always)]
fn route_frame(context: &mut impl Context, tables: &impl Tables) -> Result<Reason, Reason> {
    let ingress = tables
        .port(context.ingress_ifindex())
        .filter(|port| port.flags & port_flags::ENABLED != 0)
        .ok_or(Reason::PortDisabled)?;
    let ethernet: Ethernet = context.header(0).ok_or(Reason::Malformed)?;
    if !ethernet.destination.same(Mac::new(ingress.mac)) {
        return Err(Reason::NotForUs);
    }
    match ethernet.ether_type.value() {
        ETHER_TYPE_IPV4 => route_packet::<Ipv4>(context, tables, ingress),
        ETHER_TYPE_IPV6 => route_packet::<Ipv6>(context, tables, ingress),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn route_packet<F: Family>(
    context: &mut impl Context,
    tables: &impl Tables,
    ingress: &Port,
) -> Result<Reason, Reason> {
    let header: F::Header = context.header(ETHERNET_LEN).ok_or(Reason::Malformed)?;
    let packet = F::parse(context, &header)?;
    let group = match F::route(tables, &header).ok_or(Reason::NoRoute)? {
        GroupId::PUNT => return Err(Reason::Punt),
        GroupId::BLACKHOLE => return Err(Reason::Blackhole),
        group => group,
    };
    if packet.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let config = tables.config().ok_or(Reason::Inconsistent)?;
    let group = tables.group(group).ok_or(Reason::Inconsistent)?;
    let hash = F::flow_hash(context, &header, &packet, config.hash_seed);
    let slot = group.slots.get(slot(hash)).ok_or(Reason::Inconsistent)?;
    let next_hop = resolve(tables, first_alive(tables, slot)?)?;
    if next_hop.flags & next_hop_flags::LOCAL != 0 {
        return Err(Reason::Local);
    }
    if is_forbidden_transit(tables, config, ingress, next_hop) {
        return Err(Reason::NotTransit);
    }
    if packet.ip_len > next_hop.mtu {
        return Err(Reason::TooBig);
    }
    let (ethernet, header) = context
        .headers_mut::<F::Header>()
        .ok_or(Reason::Malformed)?;
    if !tables.choose_egress(next_hop.tx_ifindex) {
        return Err(Reason::NoTxPort);
    }
    ethernet.destination = Mac::new(next_hop.dst_mac);
    ethernet.source = Mac::new(next_hop.src_mac);
    F::decrement_ttl(header);
    Ok(F::FORWARDED)
}

/// The member that a flow of this slot takes.
#[inline(always)]
fn first_alive(tables: &impl Tables, slot: &Slot) -> Result<NextHopId, Reason> {
    if slot.order[0] == 0 {
        return Err(Reason::EmptyGroup);
    }
    for id in slot.order {
        let id = NextHopId(id.into());
        if id == NextHopId::NONE {
            break;
        }
        if tables.liveness(id).ok_or(Reason::Inconsistent)? == 0 {
            return Ok(id);
        }
    }
    Err(Reason::NoneAlive)
}

#[inline(always)]
fn resolve(tables: &impl Tables, id: NextHopId) -> Result<&NextHop, Reason> {
    let next_hop = tables.next_hop(id).ok_or(Reason::Inconsistent)?;
    if next_hop.flags & next_hop_flags::RESOLVED == 0 {
        return Err(Reason::Unresolved);
    }
    Ok(next_hop)
}

/// A node attached to two switches is not a path between them.
#[inline(always)]
fn is_forbidden_transit(
    tables: &impl Tables,
    config: &Config,
    ingress: &Port,
    next_hop: &NextHop,
) -> bool {
    ingress.flags & port_flags::UPLINK != 0
        && config.flags & config_flags::TRANSIT == 0
        && tables
            .port(next_hop.ifindex)
            .is_some_and(|egress| egress.flags & port_flags::UPLINK != 0)
}
