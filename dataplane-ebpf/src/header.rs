//! Headers as they lie in a frame: 16-bit words in network order, because a frame only promises even addresses.

use bytemuck::{Pod, Zeroable};

/// A 16-bit word in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Be16(u16);

impl Be16 {
    /// From host order.
    #[must_use]
    #[inline(always)]
    pub const fn new(value: u16) -> Self {
        Self(value.to_be())
    }

    /// In host order.
    #[must_use]
    #[inline(always)]
    pub const fn value(self) -> u16 {
        u16::from_be(self.0)
    }

    /// As it lies in memory, for arithmetic that does not care about the order of bytes (RFC 1071 2B).
    #[must_use]
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// From memory order.
    #[must_use]
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// The first of its two bytes.
    #[must_use]
    #[inline(always)]
    pub const fn high(self) -> u8 {
        (self.value() >> 8) as u8
    }

    /// The second of its two bytes.
    #[must_use]
    #[inline(always)]
    pub const fn low(self) -> u8 {
        self.value() as u8
    }
}

/// A MAC address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Mac([u16; 3]);

impl Mac {
    /// From its bytes.
    #[must_use]
    #[inline(always)]
    pub const fn new(b: [u8; 6]) -> Self {
        Self([
            u16::from_ne_bytes([b[0], b[1]]),
            u16::from_ne_bytes([b[2], b[3]]),
            u16::from_ne_bytes([b[4], b[5]]),
        ])
    }

    /// Equality without a branch per word, and without the call to `memcmp` that comparing arrays becomes.
    #[must_use]
    #[inline(always)]
    pub const fn same(self, other: Self) -> bool {
        (self.0[0] ^ other.0[0]) | (self.0[1] ^ other.0[1]) | (self.0[2] ^ other.0[2]) == 0
    }
}

/// An Ethernet II header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ethernet {
    /// Destination.
    pub destination: Mac,
    /// Source.
    pub source: Mac,
    /// What follows.
    pub ether_type: Be16,
}

/// Bytes of an [`Ethernet`] header.
pub const ETHERNET_LEN: usize = size_of::<Ethernet>();

/// What an 802.1Q tag adds between the addresses and the EtherType: its own EtherType stands in [`Ethernet`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct VlanTag {
    /// Priority (3 bits), drop eligible (1), VLAN id (12).
    pub tci: Be16,
    /// What follows.
    pub ether_type: Be16,
}

/// Bytes of an [`Ethernet`] header with a [`VlanTag`].
pub const TAGGED_LEN: usize = ETHERNET_LEN + size_of::<VlanTag>();

/// An IPv4 header without options (RFC 791 3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ipv4Header {
    /// Version (4 bits), header length in 32-bit words (4 bits), traffic class.
    pub version_length_tos: Be16,
    /// Bytes of the packet.
    pub total_length: Be16,
    /// Identification.
    pub identification: Be16,
    /// Reserved, don't fragment, more fragments, offset in units of 8 bytes (13 bits).
    pub fragment: Be16,
    /// Time to live, protocol.
    pub ttl_protocol: Be16,
    /// Checksum of this header.
    pub checksum: Be16,
    /// Source address.
    pub source: [Be16; 2],
    /// Destination address.
    pub destination: [Be16; 2],
}

/// An IPv6 header (RFC 8200 3).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ipv6Header {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version_class_flow: [Be16; 2],
    /// Bytes after this header.
    pub payload_length: Be16,
    /// Next header, hop limit.
    pub next_header_hop_limit: Be16,
    /// Source address.
    pub source: [Be16; 8],
    /// Destination address.
    pub destination: [Be16; 8],
}

/// The first four bytes of TCP, UDP and SCTP alike.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ports {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
}

const _: () = assert!(ETHERNET_LEN == 14);
const _: () = assert!(TAGGED_LEN == 18);
const _: () = assert!(size_of::<Ipv4Header>() == 20);
const _: () = assert!(size_of::<Ipv6Header>() == 40);
const _: () = assert!(size_of::<Ports>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_in_network_order() {
        let word: Be16 = bytemuck::cast([0x12_u8, 0x34]);
        assert_eq!(
            (word.value(), word.high(), word.low()),
            (0x1234, 0x12, 0x34)
        );
        assert_eq!(Be16::new(0x1234), word);
        assert_eq!(Be16::from_raw(word.raw()), word);
    }

    #[test]
    fn macs_are_the_same_only_when_every_byte_is() {
        let mac = [2, 0, 0, 0xaa, 0xbb, 1];
        assert!(Mac::new(mac).same(Mac::new(mac)));
        for byte in 0..6 {
            let mut other = mac;
            other[byte] ^= 0x10;
            assert!(!Mac::new(mac).same(Mac::new(other)), "byte {byte}");
        }
    }
}
