//! Which members of a next-hop set forward, and with what share.

use causeway_bgp::fib::FibNextHop;
use causeway_maps::{Group, NextHop, NextHopId, next_hop_flags};
use causeway_net::{NextHopKey, Resolution};

/// The key under which the network resolves a member.
pub(crate) fn key_of(member: &FibNextHop) -> NextHopKey {
    NextHopKey {
        addr: member.addr,
        link: member.link,
    }
}

/// The entry of `next_hops` for `resolution`; `None` if nothing can be sent to it.
pub(crate) fn entry(resolution: &Resolution) -> Option<NextHop> {
    match *resolution {
        Resolution::Resolved(adjacency) => Some(NextHop {
            ifindex: adjacency.ifindex,
            mtu: adjacency.mtu,
            flags: next_hop_flags::RESOLVED,
            dst_mac: adjacency.dst_mac.0,
            src_mac: adjacency.src_mac.0,
        }),
        Resolution::Pending {
            ifindex,
            src_mac,
            mtu,
        } => Some(NextHop {
            ifindex,
            mtu,
            flags: 0,
            dst_mac: [0; 6],
            src_mac: src_mac.0,
        }),
        Resolution::Unusable(_) => None,
    }
}

/// The members that forward: the resolved ones; if there is none, the pending ones, so that their packets are counted as
/// unresolved and not as lost; none if all are unusable. In the order given, at most [`Group::MAX_MEMBERS`].
pub(crate) fn select<'a>(
    members: &'a [FibNextHop],
    resolution: impl Fn(&NextHopKey) -> Option<Resolution>,
) -> Vec<&'a FibNextHop> {
    let of = |wanted: fn(&Resolution) -> bool| -> Vec<&'a FibNextHop> {
        members
            .iter()
            .filter(|member| resolution(&key_of(member)).is_some_and(|r| wanted(&r)))
            .take(Group::MAX_MEMBERS)
            .collect()
    };
    let resolved = of(|r| matches!(r, Resolution::Resolved(_)));
    if resolved.is_empty() {
        return of(|r| matches!(r, Resolution::Pending { .. }));
    }
    resolved
}

/// The entry of `groups` in which each member has slots in proportion to its weight, at least one.
pub(crate) fn lower(members: &[(NextHopId, u32)]) -> Group {
    let members = &members[..members.len().min(Group::MAX_MEMBERS)];
    let mut group = Group {
        member_count: 0,
        members: [0; Group::MAX_MEMBERS],
    };
    for (slots, (id, _)) in shares(members).into_iter().zip(members) {
        for _ in 0..slots {
            let Some(slot) = group.members.get_mut(group.member_count as usize) else {
                return group;
            };
            *slot = id.0;
            group.member_count += 1;
        }
    }
    group
}

/// Slots per member, [`Group::MAX_MEMBERS`] in total at most. Equal weights give one each.
fn shares(members: &[(NextHopId, u32)]) -> Vec<usize> {
    let weight = |(_, weight): &(NextHopId, u32)| u64::from((*weight).max(1));
    let divisor = members.iter().map(weight).fold(0, gcd).max(1);
    let reduced: Vec<u64> = members.iter().map(|m| weight(m) / divisor).collect();
    let total: u64 = reduced.iter().sum();
    let room = Group::MAX_MEMBERS as u64;
    if total <= room {
        return reduced.into_iter().map(|n| n as usize).collect();
    }
    // The whole part of each one's share, at least one; what is left goes by largest remainder, to the earlier of equals.
    let mut slots: Vec<usize> = reduced
        .iter()
        .map(|n| ((n * room / total) as usize).max(1))
        .collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&i| core::cmp::Reverse(reduced[i] * room % total));
    let used: usize = slots.iter().sum();
    for &i in order.iter().take(Group::MAX_MEMBERS.saturating_sub(used)) {
        slots[i] += 1;
    }
    // Many small members were rounded up: the largest give.
    for _ in Group::MAX_MEMBERS..used {
        if let Some(most) = slots.iter_mut().max() {
            *most -= 1;
        }
    }
    slots
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(weights: &[u32]) -> Vec<usize> {
        let members: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, weight)| (NextHopId(i as u32 + 1), *weight))
            .collect();
        let group = lower(&members);
        let used = &group.members[..group.member_count as usize];
        assert!(
            group.members[used.len()..].iter().all(|id| *id == 0),
            "unused slots are zero"
        );
        members
            .iter()
            .map(|(id, _)| used.iter().filter(|slot| **slot == id.0).count())
            .collect()
    }

    #[test]
    fn equal_weights_take_one_slot_each() {
        assert_eq!(slots(&[1, 1, 1]), [1, 1, 1]);
        assert_eq!(slots(&[40, 40]), [1, 1]);
        assert_eq!(slots(&[0, 1]), [1, 1], "a weight of zero counts as one");
        assert_eq!(slots(&[1; 64]), [1; 64]);
    }

    #[test]
    fn weights_are_kept_exactly_where_they_fit_and_closely_where_not() {
        assert_eq!(slots(&[10, 20, 30]), [1, 2, 3]);
        assert_eq!(slots(&[100, 1]), [63, 1]);
        assert_eq!(slots(&[1000, 1, 1, 1]), [61, 1, 1, 1]);
        assert_eq!(slots(&[65, 65, 64])[..], [22, 21, 21]);
        assert_eq!(
            slots(&[u32::MAX, u32::MAX - 1, 1]).iter().sum::<usize>(),
            64
        );
    }

    #[test]
    fn more_members_than_slots_are_cut_off() {
        let many = slots(&[1; 70]);
        assert_eq!(many.iter().sum::<usize>(), 64);
    }
}
