//! Which members of a next-hop set forward, and with what share.

use causeway_bgp::fib::FibNextHop;
use causeway_maps::{Group, NextHop, NextHopId, Slot, next_hop_flags};
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
            tx_ifindex: adjacency.ifindex,
            mtu: adjacency.mtu,
            flags: next_hop_flags::RESOLVED,
            dst_mac: adjacency.dst_mac.0,
            src_mac: adjacency.src_mac.0,
            vlan: 0,
            reserved: 0,
            addr: [0; 16],
        }),
        Resolution::Pending {
            ifindex,
            src_mac,
            mtu,
        } => Some(NextHop {
            ifindex,
            tx_ifindex: ifindex,
            mtu,
            flags: 0,
            dst_mac: [0; 6],
            src_mac: src_mac.0,
            vlan: 0,
            reserved: 0,
            addr: [0; 16],
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

/// The entry of `groups` in which each member is preferred by slots in proportion to its weight, and the others follow.
pub(crate) fn lower(members: &[(NextHopId, u32)]) -> Group {
    let members = &members[..members.len().min(Group::MAX_MEMBERS)];
    let ring: Vec<NextHopId> = shares(members)
        .into_iter()
        .zip(members)
        .flat_map(|(share, (id, _))| core::iter::repeat_n(*id, share))
        .collect();
    let mut group = Group::EMPTY;
    if ring.is_empty() {
        return group;
    }
    group.member_count = members.len() as u32;
    for (i, slot) in group.slots.iter_mut().enumerate() {
        let start = i % ring.len();
        fill(slot, ring[start..].iter().chain(&ring[..start]));
    }
    group
}

/// Writes the first distinct ids.
fn fill<'a>(slot: &mut Slot, ids: impl Iterator<Item = &'a NextHopId>) {
    let mut used = 0;
    for id in ids {
        let id = u16::try_from(id.0).unwrap_or(0);
        if used < Slot::MAX_ORDER && !slot.order[..used].contains(&id) {
            slot.order[used] = id;
            used += 1;
        }
    }
}

/// The distinct members of a group's entry, the preferred one of the first slot first.
pub(crate) fn members_of(group: &Group) -> Vec<NextHopId> {
    let mut members = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for id in group.slots.iter().flat_map(|slot| slot.order) {
        if id != 0 && seen.insert(id) {
            members.push(NextHopId(id.into()));
        }
    }
    members
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
        members
            .iter()
            .map(|(id, _)| {
                let prefers = |slot: &&Slot| u32::from(slot.order[0]) == id.0;
                group.slots.iter().filter(prefers).count()
            })
            .collect()
    }

    #[test]
    fn slots_are_shared_by_weight() {
        assert_eq!(slots(&[1, 1, 1]), [86, 85, 85]);
        assert_eq!(slots(&[40, 40]), [128, 128]);
        assert_eq!(slots(&[0, 1]), [128, 128], "a weight of zero counts as one");
        assert_eq!(slots(&[1; 64]), [4; 64]);
        assert_eq!(slots(&[100, 1]), [252, 4]);
        assert_eq!(slots(&[u32::MAX, 1, 1]).iter().sum::<usize>(), Group::SLOTS);
    }

    #[test]
    fn a_slot_names_each_member_once_and_then_nothing() {
        let members: Vec<_> = (1..=3).map(|id| (NextHopId(id), 2 * id)).collect();
        for slot in lower(&members).slots {
            let mut order = slot.order[..3].to_vec();
            order.sort_unstable();
            assert_eq!(order, [1, 2, 3]);
            assert_eq!(slot.order[3..], [0; 5]);
        }
        let many: Vec<_> = (1..=70).map(|id| (NextHopId(id), 1)).collect();
        let group = lower(&many);
        assert_eq!(group.member_count, 64, "more members are cut off");
        assert!(group.slots.iter().all(|slot| slot.order[7] != 0));
        assert_eq!(lower(&[]), Group::EMPTY);
    }
}
