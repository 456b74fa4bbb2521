//! From a frame to a [`Verdict`].
//!
//! ```text
//!  tag ─▶ port ─▶ IP header ─▶ pods │ flat table │ LPM ─▶ punt? ─▶ TTL ─▶ group ─▶ slot ─▶ alive?
//!                                                                                              │
//!            forwarded ◀─ TTL − 1, checksum, MAC addresses, tag ◀─ egress ◀─ MTU ◀─ role ◀─ next hop
//! ```
//!
//! Every step can end with its own [`Reason`]; once the egress has accepted the packet nothing fails. The order is part
//! of the contract: a packet is counted under the first reason that applies. The TTL is looked at after the route, as
//! the kernel does, because what ends here, a BGP session with TTL 1 for one, does not expire here. What one hook can't
//! send and another can is found out last: so XDP and TC agree on everything before it.

use causeway_maps::{
    Config, GroupId, NextHop, NextHopId, Outcome, Port, Reason, Slot, VlanKey, config_flags,
    port_flags,
};

use crate::context::{Context, Tables};
use crate::family::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Family, Ipv4, Ipv6};
use crate::hash::slot;
use crate::header::{ETHERNET_LEN, Ethernet, Mac, TAGGED_LEN, VlanTag};

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
    let ethernet: Ethernet = context.header(0).ok_or(Reason::Malformed)?;
    if ethernet.ether_type.value() == ETHER_TYPE_VLAN && is_tag_read(context) {
        let tag: VlanTag = context.header(ETHERNET_LEN).ok_or(Reason::Malformed)?;
        let port = port(context, tables, tag.tci.value())?;
        return route_ether::<TAGGED_LEN>(context, tables, port, &ethernet, tag.ether_type.value());
    }
    let port = port(context, tables, context.tag().unwrap_or(0))?;
    let ether_type = ethernet.ether_type.value();
    route_ether::<ETHERNET_LEN>(context, tables, port, &ethernet, ether_type)
}

/// EtherType of a VLAN tag (IEEE 802.1Q 9.4).
const ETHER_TYPE_VLAN: u16 = 0x8100;
/// VLAN id in a tag's TCI (IEEE 802.1Q 9.6); 0 is no VLAN, only a priority.
const VID: u16 = 0x0fff;

#[inline(always)]
fn is_tag_read<C: Context>(_: &C) -> bool {
    C::TAGS_IN_FRAME
}

/// The port that a frame with this tag came in on.
#[inline(always)]
fn port<'a>(context: &impl Context, tables: &'a impl Tables, tci: u16) -> Result<&'a Port, Reason> {
    let parent = context.ingress_ifindex();
    let ifindex = match tci & VID {
        0 => parent,
        vid => {
            let reserved = 0;
            let key = VlanKey {
                parent,
                vid,
                reserved,
            };
            tables.vlan(&key).ok_or(Reason::PortDisabled)?
        }
    };
    tables
        .port(ifindex)
        .filter(|port| port.flags & port_flags::ENABLED != 0)
        .ok_or(Reason::PortDisabled)
}

#[inline(always)]
fn route_ether<const L3: usize>(
    context: &mut impl Context,
    tables: &impl Tables,
    ingress: &Port,
    ethernet: &Ethernet,
    ether_type: u16,
) -> Result<Reason, Reason> {
    if !ethernet.destination.same(Mac::new(ingress.mac)) {
        return Err(Reason::NotForUs);
    }
    match ether_type {
        ETHER_TYPE_IPV4 => route_packet::<Ipv4, L3>(context, tables, ingress),
        ETHER_TYPE_IPV6 => route_packet::<Ipv6, L3>(context, tables, ingress),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn route_packet<F: Family, const L3: usize>(
    context: &mut impl Context,
    tables: &impl Tables,
    ingress: &Port,
) -> Result<Reason, Reason> {
    let header: F::Header = context.header(L3).ok_or(Reason::Malformed)?;
    let packet = F::parse::<L3>(context, &header)?;
    let config = tables.config().ok_or(Reason::Inconsistent)?;
    let group = match F::route(tables, config, &header).ok_or(Reason::NoRoute)? {
        GroupId::PUNT => return Err(Reason::Punt),
        GroupId::BLACKHOLE => return Err(Reason::Blackhole),
        group => group,
    };
    if packet.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let group = tables.group(group).ok_or(Reason::Inconsistent)?;
    let hash = F::flow_hash::<L3>(context, &header, &packet, config.hash_seed);
    let slot = group.slots.get(slot(hash)).ok_or(Reason::Inconsistent)?;
    let id = first_alive(tables, slot)?;
    let next_hop = tables.next_hop(id).ok_or(Reason::Inconsistent)?;
    if next_hop.ifindex == 0 {
        return Err(Reason::Unresolved);
    }
    if is_forbidden_transit(tables, config, ingress, next_hop) {
        return Err(Reason::NotTransit);
    }
    if F::longest_piece::<L3>(context, &packet) > next_hop.mtu {
        return Err(Reason::TooBig);
    }
    context.send::<F, L3>(next_hop)?;
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
