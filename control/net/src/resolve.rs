//! What a next hop resolves to.

use core::fmt;
use core::net::IpAddr;

use crate::facts::MacAddr;

/// A next hop as BGP knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHopKey {
    /// Address.
    pub addr: IpAddr,
    /// Interface index, for an address that means something only there (IPv6 link-local).
    pub link: Option<u32>,
}

/// All that a frame needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Adjacency {
    /// Interface to leave by.
    pub ifindex: u32,
    /// The interface's own address.
    pub src_mac: MacAddr,
    /// The neighbour's.
    pub dst_mac: MacAddr,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Interface on which XDP sends the frame: the parent of a VLAN device, else `ifindex`.
    pub tx_ifindex: u32,
    /// VLAN id that such a frame carries; 0 for none.
    pub vlan: u16,
    /// Who takes the packet.
    pub delivery: Delivery,
}

/// Who takes a packet that is sent to an adjacency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Delivery {
    /// Another machine.
    #[default]
    Wire,
    /// A pod on this node.
    Local,
    /// A pod on this node, whose end of the interface may be handed the packet (`bpf_redirect_peer`).
    Peer,
}

/// What became of a next hop.
///
/// *Pending* and *unusable* differ: a pending next hop is where it should be but its Ethernet address is not known yet, or
/// is being asked for again. It stays out of a group as long as another member is resolved; BGP counts it as reachable,
/// because its subnet is. An unusable one, such as a neighbour that was asked and did not answer, leaves every group at
/// once, and BGP is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// Ready to send to.
    Resolved(Adjacency),
    /// Connected, but the neighbour has not answered.
    Pending {
        /// Interface it is on.
        ifindex: u32,
        /// The interface's own address.
        src_mac: MacAddr,
        /// Largest IP packet, bytes.
        mtu: u32,
    },
    /// No frame can be sent to it.
    Unusable(Unusable),
}

impl Resolution {
    /// IGP metric for BGP's decision (RFC 4271 9.1.2.2 e); `None` if unreachable.
    ///
    /// Zero for everything connected. A next hop behind an interface that is not a port is reachable: its traffic passes
    /// through the kernel's stack.
    #[must_use]
    pub fn metric(&self) -> Option<u32> {
        match self {
            Self::Resolved(_)
            | Self::Pending { .. }
            | Self::Unusable(Unusable::NotAPort { .. }) => Some(0),
            Self::Unusable(_) => None,
        }
    }

    /// The interface behind which the kernel can reach it.
    #[must_use]
    pub fn ifindex(&self) -> Option<u32> {
        match self {
            Self::Resolved(adjacency) => Some(adjacency.ifindex),
            Self::Pending { ifindex, .. } | Self::Unusable(Unusable::NotAPort { ifindex }) => {
                Some(*ifindex)
            }
            Self::Unusable(_) => None,
        }
    }
}

/// Why no frame can be sent to a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unusable {
    /// In no connected subnet, and no route leads to it.
    NotConnected,
    /// An address of this node.
    OwnAddress,
    /// A link-local address without its interface.
    LinkMissing,
    /// Its interface does not exist.
    LinkUnknown,
    /// Its interface is administratively down.
    LinkDown,
    /// Its interface has no carrier.
    NoCarrier,
    /// Its interface is not a port.
    NotAPort {
        /// The interface.
        ifindex: u32,
    },
    /// It does not answer.
    NeighbourFailed {
        /// The interface where it should be.
        ifindex: u32,
    },
    /// It is reached by way of others, which forward in its place.
    Recursive,
    /// A route leads to it that says there is nothing.
    Rejected,
    /// The routes to it lead through one another, or through too many.
    TooDeep,
    /// Its interface has no Ethernet address.
    NoEthernet,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "in no connected subnet, and no route leads to it",
            Self::OwnAddress => "an address of this node",
            Self::LinkMissing => "link-local, and its interface is not named",
            Self::LinkUnknown => "its interface does not exist",
            Self::LinkDown => "its interface is down",
            Self::NoCarrier => "its interface has no carrier",
            Self::NotAPort { .. } => "its interface is not a port",
            Self::NeighbourFailed { .. } => "it does not answer",
            Self::Recursive => "reached by way of other next hops",
            Self::Rejected => "a route says that it is unreachable",
            Self::TooDeep => "the routes to it lead through too many others",
            Self::NoEthernet => "its interface has no Ethernet address",
        })
    }
}
