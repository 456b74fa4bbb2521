//! The Internet checksum (RFC 1071) of an IPv4 header, and its incremental update (RFC 1624).
//!
//! One's complement sums don't care about the order of bytes, so words are used as they lie in memory.

use crate::header::{Be16, Ipv4Header};

/// Whether the checksum of a header without options is right (RFC 1812 5.2.2).
#[must_use]
#[inline(always)]
pub fn is_valid(header: &Ipv4Header) -> bool {
    let sum = raw(header.version_length_tos)
        + raw(header.total_length)
        + raw(header.identification)
        + raw(header.fragment)
        + raw(header.ttl_protocol)
        + raw(header.checksum)
        + raw(header.source[0])
        + raw(header.source[1])
        + raw(header.destination[0])
        + raw(header.destination[1]);
    fold(sum) == 0xffff
}

/// The checksum after one 16-bit word of what it covers changed from `before` to `after` (RFC 1624 3, equation 3).
#[must_use]
#[inline(always)]
pub fn updated(checksum: Be16, before: Be16, after: Be16) -> Be16 {
    let sum = raw(checksum) ^ 0xffff;
    let sum = sum + (raw(before) ^ 0xffff) + raw(after);
    Be16::from_raw(!(fold(sum) as u16))
}

#[inline(always)]
const fn raw(word: Be16) -> u64 {
    word.raw() as u64
}

/// Adds the carries back in. Enough for sums of up to 65,536 words.
#[inline(always)]
const fn fold(sum: u64) -> u64 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A well-known example: 192.168.0.1 to 192.168.0.199, UDP, TTL 64, checksum b861.
    const HEADER: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn a_right_checksum_is_valid_and_any_flipped_bit_is_not() {
        assert!(is_valid(&bytemuck::cast(HEADER)));
        for bit in 0..160 {
            let mut wrong = HEADER;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_valid(&bytemuck::cast(wrong)), "bit {bit}");
        }
    }

    #[test]
    fn an_update_equals_a_recalculation_for_every_ttl_and_protocol() {
        let mut header: Ipv4Header = bytemuck::cast(HEADER);
        for identification in [0, 1, 0x7fff, 0xb8d4, 0xb8d5, 0xfffe, 0xffff] {
            for before in 0..=u16::MAX {
                header.identification = Be16::new(identification);
                header.ttl_protocol = Be16::new(before);
                header.checksum = recalculated(&header);
                let after = Be16::new(before.wrapping_sub(0x100));
                let updated = updated(header.checksum, header.ttl_protocol, after);
                header.ttl_protocol = after;
                assert_eq!(
                    updated,
                    recalculated(&header),
                    "{identification:#x} {before:#x}"
                );
            }
        }
    }

    #[test]
    fn the_other_zero_is_updated_to_the_same_checksum() {
        // RFC 1624 3: a checksum of ffff is the one's complement zero that the sender should have written as 0000.
        let (before, after) = (Be16::new(0x4011), Be16::new(0x3f11));
        assert_eq!(
            updated(Be16::new(0xffff), before, after),
            updated(Be16::new(0x0000), before, after)
        );
    }

    fn recalculated(header: &Ipv4Header) -> Be16 {
        let mut zeroed = *header;
        zeroed.checksum = Be16::new(0);
        let words: [Be16; 10] = bytemuck::cast(zeroed);
        let mut sum: u32 = words.iter().map(|word| u32::from(word.value())).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        Be16::new(!(sum as u16))
    }
}
