//! The two sides that the pipeline stands between: a packet, and the maps.

use bytemuck::Pod;
use causeway_maps::{Config, Group, GroupId, NextHop, NextHopId, Port, Reason};

use crate::header::Ethernet;

/// A packet at a hook.
pub trait Context {
    /// The interface it came in on.
    fn ingress_ifindex(&self) -> u32;

    /// Bytes of the frame, Ethernet header included.
    fn frame_len(&self) -> usize;

    /// A copy of the header at `offset`; `None` when the frame ends before the header does.
    ///
    /// Frames start on an even address, so a header is made of bytes and 16-bit words.
    fn header<H: Pod>(&self, offset: usize) -> Option<H>;

    /// The Ethernet header and the one after it, to be changed; `None` when the frame ends before they do.
    fn headers_mut<H: Pod>(&mut self) -> Option<(&mut Ethernet, &mut H)>;
}

/// The maps, as the programs use them.
pub trait Tables {
    /// Settings of this router.
    fn config(&self) -> Option<&Config>;

    /// The port of an interface; `None` when its index is beyond the map.
    fn port(&self, ifindex: u32) -> Option<&Port>;

    /// Longest prefix match, IPv4 address in network order.
    fn route4(&self, destination: [u8; 4]) -> Option<GroupId>;

    /// Longest prefix match, IPv6 address in network order.
    fn route6(&self, destination: [u8; 16]) -> Option<GroupId>;

    /// An ECMP set; `None` when no such id can exist.
    fn group(&self, id: GroupId) -> Option<&Group>;

    /// A next hop; `None` when no such id can exist.
    fn next_hop(&self, id: NextHopId) -> Option<&NextHop>;

    /// Bits of [`causeway_maps::dead`]; `None` when no such id can exist.
    fn liveness(&self, id: NextHopId) -> Option<u32>;

    /// Chooses the interface that the packet leaves by if the verdict is to forward it; false when that interface
    /// is not there to be sent on.
    fn choose_egress(&self, ifindex: u32) -> bool;

    /// Counts one packet of `bytes` bytes.
    fn count(&self, reason: Reason, bytes: u64);
}
