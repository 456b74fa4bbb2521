use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use super::*;
use crate::types::Protocol;

fn key(n: u16) -> BackendKey {
    let [high, low] = n.to_be_bytes();
    BackendKey {
        addr: IpAddr::V4(Ipv4Addr::new(10, 1, high, low)),
        port: 8080,
        protocol: Protocol::Tcp,
    }
}

/// Members 0 to n, all of one weight.
fn members(n: u16) -> Vec<(BackendKey, u16, u16)> {
    (0..n).map(|n| (key(n), 100, n)).collect()
}

fn shares(ring: &Ring) -> BTreeMap<u16, usize> {
    let mut shares = BTreeMap::new();
    for seat in ring.slots() {
        *shares.entry(*seat).or_default() += 1;
    }
    shares
}

/// Slots that change although their member is in both rings.
fn moved(before: &Ring, after: &Ring, gone: &[u16]) -> usize {
    before
        .slots()
        .iter()
        .zip(after.slots())
        .filter(|(before, after)| before != after && !gone.contains(before))
        .count()
}

fn checksum(ring: &Ring) -> u64 {
    ring.slots()
        .iter()
        .fold(0, |sum, seat| mix(sum ^ u64::from(*seat)))
}

#[test]
fn the_size_follows_from_the_number_of_members_alone() {
    for (members, expected) in [
        (1, 1021),
        (10, 1021),
        (11, 4093),
        (40, 4093),
        (41, 16_381),
        (163, 16_381),
        (164, 65_521),
        (4096, 65_521),
    ] {
        assert_eq!(size(members), expected, "{members} members");
    }
}

#[test]
fn sizes_are_prime() {
    for size in SIZES {
        let divisor = (2..size)
            .take_while(|n| n * n <= size)
            .find(|n| size % n == 0);
        assert_eq!(divisor, None, "{size}");
    }
}

/// Nodes of different versions must agree. Whoever changes a number here breaks connections that move between nodes while
/// both versions run.
#[test]
fn the_contract_between_nodes_holds() {
    let v6 = BackendKey {
        addr: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        port: 53,
        protocol: Protocol::Udp,
    };
    let mut weighted = members(5);
    weighted[1].1 = 50;
    weighted[2].1 = 0;
    let rings = [members(3), members(10), weighted, members(11)];
    let sums = rings.map(|members| checksum(&Ring::new(&members).unwrap()));
    assert_eq!([hash(&key(0)), hash(&v6)], CONTRACT_HASHES);
    assert_eq!(sums, CONTRACT_RINGS);
}

const CONTRACT_HASHES: [u64; 2] = [13_117_902_449_119_722_268, 6_173_696_952_359_348_201];
const CONTRACT_RINGS: [u64; 4] = [
    4_912_384_049_188_127_663,
    8_326_958_778_674_432_346,
    12_820_818_437_189_044_434,
    13_910_572_200_456_228_953,
];

#[test]
fn the_order_of_members_does_not_matter() {
    let mut members = members(9);
    let ring = Ring::new(&members).unwrap();
    members.reverse();
    members.swap(0, 4);
    assert_eq!(Ring::new(&members).unwrap(), ring);
}

#[test]
fn equal_weights_share_to_within_one_slot() {
    for n in [1, 2, 3, 7, 10, 11, 40, 100, 1000] {
        let shares = shares(&Ring::new(&members(n)).unwrap());
        assert_eq!(shares.len(), usize::from(n));
        let (least, most) = (shares.values().min(), shares.values().max());
        assert!(
            most.unwrap() - least.unwrap() <= 1,
            "{n}: {least:?} to {most:?}"
        );
    }
}

#[test]
fn shares_follow_weights() {
    let weights = [255, 100, 50, 10, 1];
    let members: Vec<_> = (0..).zip(weights).map(|(n, w)| (key(n), w, n)).collect();
    let ring = Ring::new(&members).unwrap();
    let (slots, sum) = (ring.slots().len(), weights.iter().sum::<u16>());
    for (seat, share) in shares(&ring) {
        let fair = slots as f64 * f64::from(weights[usize::from(seat)]) / f64::from(sum);
        assert!(
            (share as f64 - fair).abs() <= 3.0,
            "{seat}: {share}, fair {fair:.1}"
        );
    }
}

#[test]
fn who_has_weight_0_gets_nothing_and_counts_for_nothing() {
    let mut some = members(4);
    let three = Ring::new(&some[..3]).unwrap();
    some[3].1 = 0;
    assert_eq!(Ring::new(&some).unwrap(), three);
    some.iter_mut().for_each(|member| member.1 = 0);
    assert_eq!(Ring::new(&some), None);
    assert_eq!(Ring::new(&[]), None);
}

/// Of those slots that could stay, how many move. Within one size only: another size is another ring.
#[test]
fn one_member_less_or_more_moves_few_others() {
    let mut worst = 0.0_f64;
    for n in [2, 3, 5, 10, 40, 163] {
        let all = members(n);
        let before = Ring::new(&all).unwrap();
        for gone in [0, n / 2, n - 1] {
            let mut rest = all.clone();
            rest.remove(usize::from(gone));
            let after = Ring::new(&rest).unwrap();
            if after.slots().len() != before.slots().len() {
                continue;
            }
            let moved = moved(&before, &after, &[gone]) as f64 / before.slots().len() as f64;
            worst = worst.max(moved);
        }
    }
    assert!(worst <= 0.035, "{:.1} % of all slots", worst * 100.0);
}

#[test]
fn a_new_weight_moves_little_more_than_its_difference() {
    let mut members = members(10);
    let before = Ring::new(&members).unwrap();
    members[4].1 = 50;
    let after = Ring::new(&members).unwrap();
    let moved = moved(&before, &after, &[4]) as f64 / before.slots().len() as f64;
    assert!(moved <= 0.06, "{:.1} % of all slots", moved * 100.0);
}

#[test]
fn a_hash_finds_its_slot() {
    let ring = Ring::new(&members(3)).unwrap();
    assert_eq!(ring.seat(1021), ring.slots()[0]);
    assert_eq!(ring.seat(u32::MAX), ring.slots()[u32::MAX as usize % 1021]);
}
