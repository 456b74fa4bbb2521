//! What the kernel tells.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index, not zero.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Its own Ethernet address; `None` for interfaces without one.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// The other end is there (`IFLA_CARRIER`, or `IFF_LOWER_UP` without it).
    pub carrier: bool,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// What it is made of, as far as it matters here.
    pub kind: LinkKind,
}

/// Kinds of links that forwarding treats apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// Frames are sent and received as they are.
    #[default]
    Plain,
    /// An 802.1Q device: XDP sees its frames on the parent, tagged.
    Vlan {
        /// Interface that carries it, in the same network namespace.
        parent: u32,
        /// VLAN id, 1–4094.
        vid: u16,
    },
    /// One end of a pair.
    Veth {
        /// The other end is in another network namespace, so that a packet can be handed over to it (`bpf_redirect_peer`).
        peer_elsewhere: bool,
    },
}

impl Link {
    /// Whether frames can leave by it.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.up && self.carrier
    }
}

/// An address of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Interface that carries it.
    pub ifindex: u32,
    /// The address (`IFA_LOCAL`).
    pub addr: IpAddr,
    /// The subnet on that link; on a point-to-point link it is the peer's and need not contain `addr`.
    pub subnet: Subnet,
}

/// An address and a length, host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    addr: IpAddr,
    len: u8,
}

impl Subnet {
    /// The subnet of `addr` with `len` bits; `None` if the family has fewer.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        let addr = match addr {
            IpAddr::V4(addr) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() & mask))
            }
            IpAddr::V6(addr) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() & mask))
            }
            _ => return None,
        };
        Some(Self { addr, len })
    }

    /// `addr` alone: /32 or /128.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        let len = if addr.is_ipv4() { 32 } else { 128 };
        Self { addr, len }
    }

    /// Network address.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// Length in bits.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a prefix length, not a size: there is no empty subnet"
    )]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether `addr` is in it.
    #[must_use]
    pub fn contains(self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && Self::new(addr, self.len) == Some(self)
    }

    /// The highest address in it.
    #[must_use]
    pub fn last(self) -> IpAddr {
        match self.addr {
            IpAddr::V4(addr) => {
                let host = u32::MAX.checked_shr(self.len.into()).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() | host))
            }
            IpAddr::V6(addr) => {
                let host = u128::MAX.checked_shr(self.len.into()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() | host))
            }
        }
    }

    /// Whether it is one address.
    #[must_use]
    pub fn is_host(self) -> bool {
        self == Self::host(self.addr)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// An entry of the kernel's neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface.
    pub ifindex: u32,
    /// The neighbour's address.
    pub addr: IpAddr,
    /// Its Ethernet address, once known.
    pub mac: Option<MacAddr>,
    /// State.
    pub state: NeighbourState,
}

impl Neighbour {
    /// The Ethernet address, if frames may be sent to it: the kernel's `NUD_VALID`.
    #[must_use]
    pub fn resolved(&self) -> Option<MacAddr> {
        self.mac.filter(|_| self.state.is_valid())
    }
}

/// `NUD_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// Just made.
    None,
    /// Asked for the first time, no answer yet.
    Incomplete,
    /// Answered lately.
    Reachable,
    /// Answered once; not checked for a while.
    Stale,
    /// Used; a check is about to start.
    Delay,
    /// Being checked.
    Probe,
    /// Does not answer.
    Failed,
    /// Needs no resolution.
    NoArp,
    /// Set by hand.
    Permanent,
}

impl NeighbourState {
    /// `NUD_VALID`: the address held is good to send to.
    #[must_use]
    pub fn is_valid(self) -> bool {
        match self {
            Self::Reachable
            | Self::Stale
            | Self::Delay
            | Self::Probe
            | Self::NoArp
            | Self::Permanent => true,
            Self::None | Self::Incomplete | Self::Failed => false,
        }
    }
}

/// A route of the kernel's main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    /// Destination.
    pub prefix: Subnet,
    /// Its metric (`RTA_PRIORITY`): of several for one prefix the lowest counts.
    pub metric: u32,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// Where it leads.
    pub target: RouteTarget,
}

/// Where a route of the kernel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// To one of these, by weight.
    Legs(Vec<RouteLeg>),
    /// To a next-hop object or group, of which nothing more is said.
    Object(u32),
    /// Nowhere: blackhole, unreachable, prohibit.
    Reject,
}

/// One of the ways that a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteLeg {
    /// Next hop; `None` if the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Interface.
    pub ifindex: u32,
    /// Weight, at least 1.
    pub weight: u32,
}

/// One thing learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A link is there, or changed.
    Link(Link),
    /// A link is gone, and what hung on it.
    LinkGone {
        /// Interface.
        ifindex: u32,
    },
    /// An address is there.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A neighbour is there, or changed.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone {
        /// Interface.
        ifindex: u32,
        /// Its address.
        addr: IpAddr,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_clears_host_bits_and_knows_its_addresses() {
        let subnet = Subnet::new("10.1.2.3".parse().unwrap(), 24).unwrap();
        assert_eq!(subnet.to_string(), "10.1.2.0/24");
        assert!(subnet.contains("10.1.2.255".parse().unwrap()));
        assert!(!subnet.contains("10.1.3.0".parse().unwrap()));
        assert!(!subnet.contains("2001:db8::1".parse().unwrap()));
        let all = Subnet::new("::1".parse().unwrap(), 0).unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert_eq!(Subnet::new("10.0.0.0".parse().unwrap(), 33), None);
    }
}
