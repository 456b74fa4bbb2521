//! A prefix as written.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A prefix, `ADDRESS/LENGTH`. Bits behind the length may be set here; whether that is a mistake depends on the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(pub IpNetwork);

impl Cidr {
    /// Address as written.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.0.ip()
    }

    /// Prefix length in bits.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.0.prefix()
    }

    /// Whether this is a default route.
    #[must_use]
    pub fn is_default(self) -> bool {
        self.prefix_len() == 0
    }

    /// Whether no bits are set behind the length.
    #[must_use]
    pub fn is_network(self) -> bool {
        self.0.ip() == self.0.network()
    }

    /// The prefix with the bits behind the length cleared.
    #[must_use]
    pub fn network(self) -> Self {
        Self(IpNetwork::new(self.0.network(), self.0.prefix()).unwrap_or(self.0))
    }

    /// Bits of an address of this family.
    #[must_use]
    pub fn bits(self) -> u8 {
        if self.0.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.prefix_len())
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.into());
        // ipnetwork takes a bare address for a host prefix and a dotted mask for a length: both are likelier mistakes here.
        let (addr, len) = text.split_once('/').ok_or_else(error)?;
        let addr: IpAddr = addr.parse().map_err(|_| error())?;
        let len: u8 = len.parse().map_err(|_| error())?;
        IpNetwork::new(addr, len).map(Self).map_err(|_| error())
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A text that is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a prefix; write ADDRESS/LENGTH, such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct CidrError(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_kept_and_visible() {
        let cidr: Cidr = "10.1.2.3/16".parse().unwrap();
        assert!(!cidr.is_network());
        assert_eq!(cidr.network().to_string(), "10.1.0.0/16");
        assert_eq!(cidr.to_string(), "10.1.2.3/16");
    }

    #[test]
    fn what_is_not_a_prefix_is_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "2001:db8::/129",
            "10.0.0.0/255.0.0.0",
            "x/8",
            "10/8",
            "",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
