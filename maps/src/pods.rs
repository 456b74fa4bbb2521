//! Ranges of pods' addresses, cut into blocks.
//!
//! A cluster has one range for each family, `10.0.0.0/14` for one, and each node blocks of it, `/24`s for one. The
//! programs and the planner number the blocks by the same arithmetic: this one.

use crate::catalogue::MAX_POD_BITS;
use crate::{PodRange4, PodRange6};

impl PodRange4 {
    /// No range.
    pub const NONE: Self = Self {
        base: [0; 4],
        prefix_len: 0,
        block_len: 0,
        reserved: [0; 2],
    };

    /// The range `base`/`prefix_len` in blocks of `block_len` bits, bits of `base` beyond the prefix being ignored.
    /// `None` unless `prefix_len` ≤ `block_len` ≤ 32, and for more than [`MAX_POD_BITS`] bits between them.
    #[must_use]
    pub const fn new(base: [u8; 4], prefix_len: u8, block_len: u8) -> Option<Self> {
        if !fits(prefix_len, block_len, 32) {
            return None;
        }
        let host_bits = 32 - prefix_len as u32;
        let base = (u32::from_be_bytes(base) as u64 >> host_bits << host_bits) as u32;
        Some(Self {
            base: base.to_be_bytes(),
            prefix_len,
            block_len,
            reserved: [0; 2],
        })
    }

    /// The number of the block that `addr` lies in; `None` outside the range.
    #[must_use]
    #[inline(always)]
    pub const fn block(&self, addr: [u8; 4]) -> Option<u32> {
        // 64 bits wide, so that no shift is as wide as its word; masked, so that none can be, whatever the map holds.
        let distance = (u32::from_be_bytes(addr) ^ u32::from_be_bytes(self.base)) as u64;
        let block = distance >> (32_u32.wrapping_sub(self.block_len as u32) & 63);
        if self.block_len == 0 || block >> bits(self.prefix_len, self.block_len) != 0 {
            return None;
        }
        Some(block as u32)
    }
}

impl PodRange6 {
    /// No range.
    pub const NONE: Self = Self {
        base: [0; 16],
        prefix_len: 0,
        block_len: 0,
        reserved: [0; 2],
    };

    /// The range `base`/`prefix_len` in blocks of `block_len` bits, bits of `base` beyond the prefix being ignored.
    /// `None` unless `prefix_len` ≤ `block_len` ≤ 128, and for more than [`MAX_POD_BITS`] bits between them.
    #[must_use]
    pub const fn new(base: [u8; 16], prefix_len: u8, block_len: u8) -> Option<Self> {
        if !fits(prefix_len, block_len, 128) {
            return None;
        }
        let mask = match prefix_len {
            0 => 0,
            len => u128::MAX << (128 - len as u32),
        };
        Some(Self {
            base: (u128::from_be_bytes(base) & mask).to_be_bytes(),
            prefix_len,
            block_len,
            reserved: [0; 2],
        })
    }

    /// The number of the block that `addr` lies in; `None` outside the range.
    #[must_use]
    #[inline(always)]
    pub const fn block(&self, addr: [u8; 16]) -> Option<u32> {
        // In halves: a shift of 128 bits would be a call, which programs can't make.
        let [high, low] = distance(addr, self.base);
        let block = if self.block_len <= 64 {
            high >> (64_u32.wrapping_sub(self.block_len as u32) & 63)
        } else {
            let shift = 128_u32.wrapping_sub(self.block_len as u32) & 63;
            if high >> shift != 0 {
                return None;
            }
            // A distance that large is refused below: its upper bits come to lie above those of any block.
            low >> shift | high << (63 - shift) << 1
        };
        if self.block_len == 0 || block >> bits(self.prefix_len, self.block_len) != 0 {
            return None;
        }
        Some(block as u32)
    }
}

/// Bits that differ, in halves, host order.
#[inline(always)]
const fn distance(a: [u8; 16], b: [u8; 16]) -> [u64; 2] {
    let distance = u128::from_be_bytes(a) ^ u128::from_be_bytes(b);
    // Shifts by a constant 64 are a choice of registers, not the call that other shifts of this width are.
    [(distance >> 64) as u64, distance as u64]
}

/// Bits of a block's number.
#[inline(always)]
const fn bits(prefix_len: u8, block_len: u8) -> u32 {
    (block_len as u32).wrapping_sub(prefix_len as u32) & 63
}

const fn fits(prefix_len: u8, block_len: u8, address_len: u8) -> bool {
    block_len != 0
        && prefix_len <= block_len
        && block_len <= address_len
        && (block_len - prefix_len) as u32 <= MAX_POD_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn block4(range: (&str, u8, u8), addr: &str) -> Option<u32> {
        let base: Ipv4Addr = range.0.parse().unwrap();
        let addr: Ipv4Addr = addr.parse().unwrap();
        PodRange4::new(base.octets(), range.1, range.2)
            .unwrap()
            .block(addr.octets())
    }

    fn block6(range: (&str, u8, u8), addr: &str) -> Option<u32> {
        let base: Ipv6Addr = range.0.parse().unwrap();
        let addr: Ipv6Addr = addr.parse().unwrap();
        PodRange6::new(base.octets(), range.1, range.2)
            .unwrap()
            .block(addr.octets())
    }

    #[test]
    fn ipv4_blocks_are_numbered_from_the_base() {
        let range = ("10.244.7.7", 14, 24);
        assert_eq!(block4(range, "10.244.0.0"), Some(0));
        assert_eq!(block4(range, "10.244.0.255"), Some(0));
        assert_eq!(block4(range, "10.244.1.0"), Some(1));
        assert_eq!(block4(range, "10.247.255.255"), Some(1023));
        assert_eq!(block4(range, "10.248.0.0"), None);
        assert_eq!(block4(range, "10.243.255.255"), None);
        assert_eq!(block4(("10.0.0.0", 16, 32), "10.0.255.255"), Some(65535));
        assert_eq!(block4(("10.0.0.0", 24, 24), "10.0.0.9"), Some(0));
        assert_eq!(block4(("0.0.0.0", 0, 8), "255.1.2.3"), Some(255));
        assert_eq!(block4(("128.0.0.0", 1, 1), "1.2.3.4"), None);
    }

    #[test]
    fn ipv6_blocks_are_numbered_from_the_base_in_either_half_and_across() {
        let range = ("fd00:1:2:ff00::", 56, 64);
        assert_eq!(block6(range, "fd00:1:2:ff00::1"), Some(0));
        assert_eq!(block6(range, "fd00:1:2:ffff:ffff::1"), Some(255));
        assert_eq!(block6(range, "fd00:1:2:fe00::1"), None);
        let range = ("fd00::", 112, 120);
        assert_eq!(block6(range, "fd00::1:1"), None);
        assert_eq!(block6(range, "fd00::ffff"), Some(255));
        let range = ("fd00::", 60, 72);
        assert_eq!(block6(range, "fd00:0:0:1:200::1"), Some(0x102));
        assert_eq!(block6(range, "fd00:0:0:10::"), None);
        assert_eq!(block6(range, "fd00:1::"), None);
        assert_eq!(block6(("fd00::", 112, 128), "fd00::ffff"), Some(65535));
        assert_eq!(block6(("fd00::", 48, 64), "fd00:0:0:ffff::9"), Some(65535));
    }

    /// The arithmetic against a division of whole numbers, for every pair of lengths.
    #[test]
    fn blocks_of_every_size_are_those_of_a_division() {
        let base = 0x2001_0db8_1234_5678_9abc_def0_1357_9bdf_u128;
        let mut checked = 0;
        for prefix_len in 0..=128_u8 {
            for block_len in prefix_len.max(1)..=128.min(prefix_len + 16) {
                let range = PodRange6::new(base.to_be_bytes(), prefix_len, block_len).unwrap();
                let first = u128::from_be_bytes(range.base);
                for bit in 0..128 {
                    let addr = (first ^ 1 << bit) | 0x5;
                    let inside = addr >= first && addr - first <= size(prefix_len).wrapping_sub(1);
                    let wanted = inside.then(|| ((addr - first) / size(block_len)) as u32);
                    assert_eq!(
                        range.block(addr.to_be_bytes()),
                        wanted,
                        "{prefix_len} {block_len} {bit}"
                    );
                    checked += 1;
                }
            }
        }
        assert!(checked > 200_000, "{checked}");
    }

    /// Addresses of a prefix; 0 for as many as there are.
    fn size(len: u8) -> u128 {
        1_u128.checked_shl(128 - u32::from(len)).unwrap_or(0)
    }

    #[test]
    fn no_range_has_no_blocks_and_bad_ranges_are_refused() {
        assert_eq!(PodRange4::NONE.block([0; 4]), None);
        assert_eq!(PodRange6::NONE.block([0; 16]), None);
        for (prefix_len, block_len) in [(0, 0), (24, 16), (0, 17), (32, 33), (255, 255)] {
            assert_eq!(PodRange4::new([10; 4], prefix_len, block_len), None);
        }
        assert_eq!(PodRange6::new([10; 16], 40, 57), None);
        assert_eq!(PodRange6::new([10; 16], 128, 129), None);
    }

    #[test]
    fn nonsense_in_the_map_is_not_undefined() {
        for prefix_len in 0..=255 {
            for block_len in 0..=255 {
                let reserved = [0; 2];
                let range4 = PodRange4 {
                    base: [7; 4],
                    prefix_len,
                    block_len,
                    reserved,
                };
                let range6 = PodRange6 {
                    base: [7; 16],
                    prefix_len,
                    block_len,
                    reserved,
                };
                let _ = range4.block([9; 4]);
                let _ = range6.block([9; 16]);
            }
        }
    }
}
