//! The small types that everything else is made of: AS numbers, identifiers, families, prefixes.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An autonomous system number, 4 octets (RFC 6793).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asn(pub u32);

impl Asn {
    /// AS_TRANS, which stands for a 4-octet AS number towards a 2-octet speaker (RFC 6793 9).
    pub const TRANS: Self = Self(23456);
    /// AS 0, which nobody may use (RFC 7607).
    pub const ZERO: Self = Self(0);

    /// Reserved for private use (RFC 6996).
    #[must_use]
    pub const fn is_private(self) -> bool {
        matches!(self.0, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A BGP identifier, unique within its AS and not zero (RFC 6286).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(pub u32);

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(self.0).fmt(f)
    }
}

/// An address family that this speaker exchanges: AFI and SAFI (RFC 4760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// Position in [`Self::ALL`], for arrays by family.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Address family identifier.
    #[must_use]
    pub const fn afi(self) -> u16 {
        match self {
            Self::Ipv4Unicast => 1,
            Self::Ipv6Unicast => 2,
        }
    }

    /// Subsequent address family identifier.
    #[must_use]
    pub const fn safi(self) -> u8 {
        1
    }

    /// The family with this AFI and SAFI, if this speaker knows it.
    #[must_use]
    pub const fn from_afi_safi(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Self::Ipv4Unicast),
            (2, 1) => Some(Self::Ipv6Unicast),
            _ => None,
        }
    }

    /// The name used in text and JSON: `ipv4-unicast`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One address family as a type, so that each algorithm is written once for both.
#[expect(
    clippy::len_without_is_empty,
    reason = "the length of a prefix is not a count"
)]
pub trait AddressFamily:
    Copy + Eq + Ord + core::hash::Hash + fmt::Debug + fmt::Display + 'static
{
    /// The family.
    const FAMILY: Family;
    /// Bits of an address.
    const BITS: u8;
    /// Bytes of an address.
    const BYTES: usize;

    /// A prefix from the first [`Self::BYTES`] bytes of `addr` (network order; fewer count as zero bytes at the end), with
    /// its host bits cleared. `None` if `len` is more than [`Self::BITS`].
    fn from_bytes(addr: &[u8], len: u8) -> Option<Self>;
    /// Prefix length in bits.
    fn len(self) -> u8;
    /// Address in network order; bytes from [`Self::BYTES`] on are zero.
    fn addr_bytes(self) -> [u8; 16];
    /// The same prefix, erased.
    fn erase(self) -> Prefix;
    /// The prefix of this family in `prefix`, if it is of this family.
    fn from_prefix(prefix: Prefix) -> Option<Self>;

    /// Whether `self` covers all of `other` (equal prefixes cover each other).
    fn covers(self, other: Self) -> bool;
}

macro_rules! prefix_type {
    ($(#[$meta:meta])* $name:ident, $bits:literal, $int:ty, $addr:ty, $family:expr, $variant:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            addr: $int,
            len: u8,
        }

        impl $name {
            /// The prefix `addr/len` with its host bits cleared; `None` if `len` is too large.
            #[must_use]
            pub const fn new(addr: $addr, len: u8) -> Option<Self> {
                if len > $bits {
                    return None;
                }
                Some(Self { addr: addr.to_bits() & Self::mask(len), len })
            }

            /// Network address.
            #[must_use]
            pub const fn addr(self) -> $addr {
                <$addr>::from_bits(self.addr)
            }

            /// Network address as an integer.
            #[must_use]
            pub const fn bits(self) -> $int {
                self.addr
            }

            const fn mask(len: u8) -> $int {
                if len == 0 { 0 } else { <$int>::MAX << ($bits - len as u32) }
            }
        }

        impl AddressFamily for $name {
            const FAMILY: Family = $family;
            const BITS: u8 = $bits;
            const BYTES: usize = $bits / 8;

            fn from_bytes(addr: &[u8], len: u8) -> Option<Self> {
                // A copy of fixed size is a load; near the end of a message there may be fewer bytes.
                let bytes = addr.first_chunk().copied().unwrap_or_else(|| {
                    let mut bytes = [0; $bits / 8];
                    bytes[..addr.len()].copy_from_slice(addr);
                    bytes
                });
                Self::new(<$addr>::from(bytes), len)
            }

            fn len(self) -> u8 {
                self.len
            }

            fn addr_bytes(self) -> [u8; 16] {
                let mut bytes = [0; 16];
                bytes[..$bits / 8].copy_from_slice(&self.addr.to_be_bytes());
                bytes
            }

            fn erase(self) -> Prefix {
                Prefix::$variant(self)
            }

            fn from_prefix(prefix: Prefix) -> Option<Self> {
                match prefix {
                    Prefix::$variant(prefix) => Some(prefix),
                    _ => None,
                }
            }

            fn covers(self, other: Self) -> bool {
                self.len <= other.len && other.addr & Self::mask(self.len) == self.addr
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.addr(), self.len)
            }
        }

        impl From<$name> for Prefix {
            fn from(prefix: $name) -> Self {
                Self::$variant(prefix)
            }
        }
    };
}

prefix_type!(
    /// An IPv4 prefix, host bits cleared.
    Prefix4, 32, u32, Ipv4Addr, Family::Ipv4Unicast, V4
);
prefix_type!(
    /// An IPv6 prefix, host bits cleared.
    Prefix6, 128, u128, Ipv6Addr, Family::Ipv6Unicast, V6
);

/// A prefix of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prefix {
    /// IPv4.
    V4(Prefix4),
    /// IPv6.
    V6(Prefix6),
}

#[expect(
    clippy::len_without_is_empty,
    reason = "the length of a prefix is not a count"
)]
impl Prefix {
    /// The prefix `addr/len` with its host bits cleared; `None` if `len` is too large.
    #[must_use]
    pub const fn new(addr: IpAddr, len: u8) -> Option<Self> {
        match addr {
            IpAddr::V4(addr) => match Prefix4::new(addr, len) {
                Some(prefix) => Some(Self::V4(prefix)),
                None => None,
            },
            IpAddr::V6(addr) => match Prefix6::new(addr, len) {
                Some(prefix) => Some(Self::V6(prefix)),
                None => None,
            },
        }
    }

    /// Family.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::V4(_) => Family::Ipv4Unicast,
            Self::V6(_) => Family::Ipv6Unicast,
        }
    }

    /// Network address.
    #[must_use]
    pub const fn addr(self) -> IpAddr {
        match self {
            Self::V4(prefix) => IpAddr::V4(prefix.addr()),
            Self::V6(prefix) => IpAddr::V6(prefix.addr()),
        }
    }

    /// Prefix length in bits.
    #[must_use]
    pub const fn len(self) -> u8 {
        match self {
            Self::V4(prefix) => prefix.len,
            Self::V6(prefix) => prefix.len,
        }
    }

    /// Whether `self` covers all of `other`; never across families.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(own), Self::V4(other)) => own.covers(other),
            (Self::V6(own), Self::V6(other)) => own.covers(other),
            _ => false,
        }
    }

    /// Whether this is the default route of its family.
    #[must_use]
    pub const fn is_default(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(prefix) => prefix.fmt(f),
            Self::V6(prefix) => prefix.fmt(f),
        }
    }
}

impl core::str::FromStr for Prefix {
    type Err = ParsePrefixError;

    /// Parses `ADDRESS/LENGTH`; refuses host bits, so that a mistyped prefix is not silently another one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (addr, len) = text.split_once('/').ok_or(ParsePrefixError::Form)?;
        let addr: IpAddr = addr.parse().map_err(|_| ParsePrefixError::Form)?;
        let len: u8 = len.parse().map_err(|_| ParsePrefixError::Form)?;
        let prefix = Self::new(addr, len).ok_or(ParsePrefixError::Length)?;
        if prefix.addr() != addr {
            return Err(ParsePrefixError::HostBits { network: prefix });
        }
        Ok(prefix)
    }
}

/// Why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePrefixError {
    /// Not `ADDRESS/LENGTH`.
    #[error("a prefix is written ADDRESS/LENGTH, such as 10.0.0.0/8 or 2001:db8::/32")]
    Form,
    /// Length beyond the family's bits.
    #[error("the prefix length is at most 32 for IPv4 and 128 for IPv6")]
    Length,
    /// Bits set behind the length.
    #[error("bits are set behind the prefix length; the network is {network}")]
    HostBits {
        /// The prefix with those bits cleared.
        network: Prefix,
    },
}

/// A configured or dynamic peer, stable while its configuration lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// One transport connection. Never reused within a speaker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_clear_host_bits_and_refuse_long_lengths() {
        let prefix = Prefix4::new(Ipv4Addr::new(10, 1, 2, 3), 16).unwrap();
        assert_eq!(prefix.to_string(), "10.1.0.0/16");
        assert_eq!(Prefix4::new(Ipv4Addr::UNSPECIFIED, 33), None);
        assert_eq!(
            Prefix6::from_bytes(&[0x20, 0x01, 0x0d, 0xb8], 32)
                .unwrap()
                .to_string(),
            "2001:db8::/32"
        );
    }

    #[test]
    fn covers_is_reflexive_and_respects_length() {
        let parse = |text: &str| Prefix4::from_prefix(text.parse().unwrap()).unwrap();
        let (any, wide, narrow) = (
            parse("0.0.0.0/0"),
            parse("10.0.0.0/8"),
            parse("10.1.0.0/16"),
        );
        assert!(any.covers(narrow) && wide.covers(narrow) && narrow.covers(narrow));
        assert!(!narrow.covers(wide) && !wide.covers(any));
    }

    #[test]
    fn parsing_names_the_mistake() {
        assert_eq!("10.0.0.0".parse::<Prefix>(), Err(ParsePrefixError::Form));
        assert_eq!(
            "10.0.0.0/33".parse::<Prefix>(),
            Err(ParsePrefixError::Length)
        );
        let network = "10.0.0.0/8".parse().unwrap();
        assert_eq!(
            "10.0.0.1/8".parse::<Prefix>(),
            Err(ParsePrefixError::HostBits { network })
        );
    }
}
