//! The flow hash that picks a member of an ECMP set.
//!
//! Every packet of a flow gets the same hash, flows spread evenly, and the seed makes the choices of two routers
//! independent of each other, so that the second tier doesn't see only the flows that the first sent its way.
//! It keeps nothing secret: who knows the seed can build flows that collide.

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

/// The member, below `count`, that a flow takes: without a division, and so that hash ranges stay in order.
#[must_use]
#[inline(always)]
pub const fn member(hash: u32, count: u32) -> u32 {
    ((hash as u64 * count as u64) >> 32) as u32
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

    #[test]
    fn flows_spread_evenly_over_any_number_of_members() {
        let flows = flows();
        for seed in [0, 1, 2, 0x8000_0000, u32::MAX] {
            for members in [2, 3, 4, 5, 7, 8, 16, 31, 32, 48, 64] {
                let mut counts = vec![0; members as usize];
                for flow in &flows {
                    counts[member(hash(seed, flow), members) as usize] += 1;
                }
                // Mean `members - 1`, standard deviation its root times 1.41: five of them.
                let freedom = f64::from(members - 1);
                let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
                let chi_square = chi_square(&counts);
                assert!(chi_square < limit, "seed {seed}, {members}: {chi_square}");
            }
        }
    }

    #[test]
    fn two_seeds_choose_independently() {
        let flows = flows();
        for (one, two) in [(0, 1), (1, 2), (7, 7 + 65536), (0, u32::MAX)] {
            let mut counts = vec![0; 16];
            for flow in &flows {
                let pair = member(hash(one, flow), 4) * 4 + member(hash(two, flow), 4);
                counts[pair as usize] += 1;
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
    fn members_cover_the_range_and_no_more() {
        for count in 1..=64 {
            assert_eq!(member(0, count), 0);
            assert_eq!(member(u32::MAX, count), count - 1);
        }
        assert_eq!(member(u32::MAX, 0), 0);
    }
}
