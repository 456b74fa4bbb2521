//! Which members of a next-hop set forward, and what is written of each.

use core::net::IpAddr;

use causeway_bgp::fib::FibNextHop;
use causeway_maps::{Group, NextHop, next_hop_flags};
use causeway_net::{Adjacency, Delivery, NextHopKey, Resolution};

/// The key under which the network resolves a member.
pub(crate) fn key_of(member: &FibNextHop) -> NextHopKey {
    NextHopKey {
        addr: member.addr,
        link: member.link,
    }
}

/// The entry of `next_hops` for the next hop `key`; `None` if nothing can be sent to it.
pub(crate) fn entry(key: NextHopKey, resolution: &Resolution) -> Option<NextHop> {
    let (addr, family) = address(key.addr);
    let next_hop = |ifindex, mtu, src_mac: causeway_net::MacAddr| NextHop {
        ifindex,
        tx_ifindex: ifindex,
        mtu,
        flags: family,
        src_mac: src_mac.0,
        addr,
        ..bytemuck::Zeroable::zeroed()
    };
    match *resolution {
        Resolution::Resolved(Adjacency {
            ifindex,
            src_mac,
            dst_mac,
            mtu,
            tx_ifindex,
            vlan,
            delivery,
        }) => {
            let delivery = match delivery {
                Delivery::Wire => 0,
                Delivery::Local => next_hop_flags::LOCAL,
                Delivery::Peer => next_hop_flags::LOCAL | next_hop_flags::PEER,
            };
            Some(NextHop {
                tx_ifindex,
                flags: family | next_hop_flags::RESOLVED | delivery,
                dst_mac: dst_mac.0,
                vlan,
                ..next_hop(ifindex, mtu, src_mac)
            })
        }
        Resolution::Pending {
            ifindex,
            src_mac,
            mtu,
        } => Some(next_hop(ifindex, mtu, src_mac)),
        Resolution::Unusable(_) => None,
    }
}

/// An address as in `next_hops`, and its flag.
pub(crate) fn address(addr: IpAddr) -> ([u8; 16], u32) {
    match addr {
        IpAddr::V4(addr) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&addr.octets());
            (bytes, 0)
        }
        IpAddr::V6(addr) => (addr.octets(), next_hop_flags::NEIGHBOUR6),
    }
}

/// The address of a neighbour as `next_hops` holds it.
#[must_use]
pub fn address_of(hop: &NextHop) -> IpAddr {
    if hop.flags & next_hop_flags::NEIGHBOUR6 != 0 {
        return IpAddr::from(hop.addr);
    }
    let [a, b, c, d, ..] = hop.addr;
    IpAddr::from([a, b, c, d])
}

/// The members of a set, sorted out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection<'a> {
    /// Those that forward, in the order given, at most [`Group::MAX_MEMBERS`].
    pub(crate) present: Vec<&'a FibNextHop>,
    /// Those that would if they could.
    pub(crate) away: Vec<&'a FibNextHop>,
}

/// The members that forward: the resolved ones; if there is none, the pending ones, so that their packets are counted as
/// unresolved and not as lost; none if all are unusable.
pub(crate) fn select<'a>(
    members: &'a [FibNextHop],
    resolution: impl Fn(&NextHopKey) -> Option<Resolution>,
) -> Selection<'a> {
    let of = |wanted: fn(&Resolution) -> bool| -> Selection<'a> {
        let forwards =
            |member: &&FibNextHop| resolution(&key_of(member)).is_some_and(|r| wanted(&r));
        let (mut present, away): (Vec<_>, Vec<_>) = members.iter().partition(forwards);
        present.truncate(Group::MAX_MEMBERS);
        Selection { present, away }
    };
    let resolved = of(|r| matches!(r, Resolution::Resolved(_)));
    if resolved.present.is_empty() {
        return of(|r| matches!(r, Resolution::Pending { .. }));
    }
    resolved
}
