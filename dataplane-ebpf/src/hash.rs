//! The flow hash that picks a member of an ECMP set.
//!
//! Every packet of a flow gets the same hash, flows spread evenly, and the seed makes the choices of two routers
//! independent of each other, so that the second tier doesn't see only the flows that the first sent its way.
//! It keeps nothing secret: who knows the seed can build flows that collide.

use causeway_maps::Group;

/// A hash in the making.
#[derive(Clone, Copy, Debug)]
pub struct FlowHash(u64);

/// 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// The multipliers of MurmurHash3's 64-bit finaliser.
const MIX_1: u64 = 0xff51_afd7_ed55_8ccd;
const MIX_2: u64 = 0xc4ce_b9fe_1a85_ec53;

impl FlowHash {
    /// Starts a hash.
    #[must_use]
    #[inline(always)]
    pub const fn new(seed: u32) -> Self {
        Self((seed as u64 + 1).wrapping_mul(GOLDEN))
    }

    /// Adds eight bytes.
    #[must_use]
    #[inline(always)]
    pub const fn add(self, word: u64) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(MIX_1);
        Self(mixed ^ (mixed >> 32))
    }

    /// The hash, all of whose bits are equally good.
    #[must_use]
    #[inline(always)]
    pub const fn finish(self) -> u32 {
        let mixed = self.0.wrapping_mul(MIX_2);
        ((mixed ^ (mixed >> 29)).wrapping_mul(GOLDEN) >> 32) as u32
    }
}

/// The slot of a [`Group`] that a flow looks at.
#[must_use]
#[inline(always)]
pub const fn slot(hash: u32) -> usize {
    (hash >> (u32::BITS - Group::SLOT_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Flows as they occur: one client network, few servers, counting ports.
    fn flows() -> Vec<[u64; 2]> {
        let mut flows = Vec::new();
        for client in 0..64_u64 {
            for port in 0..1024_u64 {
                let (src, dst) = (0x0a00_0001 + (client << 24), 0xc000_0201_u64 + (port % 4));
                flows.push([src << 32 | dst, (32768 + port) << 32 | 443 << 16 | 6]);
            }
        }
        flows
    }

    fn hash(seed: u32, flow: &[u64; 2]) -> u32 {
        FlowHash::new(seed).add(flow[0]).add(flow[1]).finish()
    }

    /// Pearson's statistic against an even spread.
    fn chi_square(counts: &[u32]) -> f64 {
        let total: u32 = counts.iter().sum();
        let expected = f64::from(total) / counts.len() as f64;
        counts
            .iter()
            .map(|&count| (f64::from(count) - expected).powi(2) / expected)
            .sum()
    }

    fn assert_even(counts: &[u32], seed: u32) {
        // Mean `freedom`, standard deviation its root times 1.41: five of them.
        let freedom = (counts.len() - 1) as f64;
        let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
        let chi_square = chi_square(counts);
        assert!(
            chi_square < limit,
            "seed {seed}, {}: {chi_square}",
            counts.len()
        );
    }

    /// Hashes cut into parts of equal size.
    fn part(hash: u32, parts: usize) -> usize {
        ((u64::from(hash) * parts as u64) >> 32) as usize
    }

    #[test]
    fn flows_spread_evenly_over_the_slots_and_over_any_number_of_parts() {
        let flows = flows();
        for seed in [0, 1, 2, 0x8000_0000, u32::MAX] {
            let mut slots = vec![0; Group::SLOTS];
            for flow in &flows {
                slots[slot(hash(seed, flow))] += 1;
            }
            assert_even(&slots, seed);
            for parts in [2, 3, 4, 5, 7, 8, 16, 31, 32, 48, 64] {
                let mut counts = vec![0; parts];
                for flow in &flows {
                    counts[part(hash(seed, flow), parts)] += 1;
                }
                assert_even(&counts, seed);
            }
        }
    }

    #[test]
    fn two_seeds_choose_independently() {
        let flows = flows();
        for (one, two) in [(0, 1), (1, 2), (7, 7 + 65536), (0, u32::MAX)] {
            let mut counts = vec![0; 16];
            for flow in &flows {
                let pair = part(hash(one, flow), 4) * 4 + part(hash(two, flow), 4);
                counts[pair] += 1;
            }
            let chi_square = chi_square(&counts);
            assert!(
                chi_square < 15.0 + 5.0 * 30_f64.sqrt(),
                "{one}, {two}: {chi_square}"
            );
        }
    }

    #[test]
    fn a_flipped_bit_flips_half_of_the_hash() {
        let flow = [0x0a00_0001_c000_0201, 0x8000_01bb_0006];
        let before = hash(1, &flow);
        let mut flipped = 0;
        for bit in 0..128 {
            let mut other = flow;
            other[bit / 64] ^= 1 << (bit % 64);
            let bits = (hash(1, &other) ^ before).count_ones();
            assert!(bits >= 4, "bit {bit} changes {bits}");
            flipped += bits;
        }
        let mean = f64::from(flipped) / 128.0;
        assert!((14.5..17.5).contains(&mean), "{mean}");
    }

    #[test]
    fn slots_cover_the_group_and_no_more() {
        assert_eq!(slot(0), 0);
        assert_eq!(slot(u32::MAX), Group::SLOTS - 1);
    }
}
