//! The two sides that the pipeline stands between: a packet, and the maps.

use bytemuck::Pod;
use causeway_maps::{
    Config, Flat4Block, Flat4Root, Group, GroupId, NextHop, NextHopId, Port, Reason, VlanKey,
};

use crate::family::Family;

/// A packet at a hook.
pub trait Context {
    /// Whether 802.1Q tags stand in the frame. Where the kernel has taken them out, they are beside it: [`Self::tag`].
    const TAGS_IN_FRAME: bool;

    /// The interface it came in on; for a tagged frame the one that the tag was seen on.
    fn ingress_ifindex(&self) -> u32;

    /// The tag's TCI (IEEE 802.1Q 9.6) where the kernel keeps it beside the frame.
    fn tag(&self) -> Option<u16>;

    /// Bytes of the frame, Ethernet header included.
    fn frame_len(&self) -> usize;

    /// Bytes of payload in each segment of a packet that will be cut later (GSO); 0 for one that will not.
    fn segment_size(&self) -> u32;

    /// A copy of the header at `offset`; `None` when the frame ends before the header does.
    ///
    /// Frames start on an even address, so a header is made of bytes and 16-bit words.
    fn header<H: Pod>(&self, offset: usize) -> Option<H>;

    /// Rewrites the packet, whose IP header is at `L3`, for its next hop and chooses the way out that the verdict
    /// [`Outcome::Forwarded`](causeway_maps::Outcome) stands for.
    ///
    /// # Errors
    ///
    /// The reason why it can't be sent from this hook. The packet is unmodified then.
    fn send<F: Family, const L3: usize>(&mut self, next_hop: &NextHop) -> Result<(), Reason>;
}

/// The maps, as the programs use them.
pub trait Tables {
    /// Settings of this router.
    fn config(&self) -> Option<&Config>;

    /// The VLAN device of a tag.
    fn vlan(&self, key: &VlanKey) -> Option<u32>;

    /// The port of an interface; `None` when its index is beyond the map.
    fn port(&self, ifindex: u32) -> Option<&Port>;

    /// The group of a block of pods' IPv4 addresses; [`GroupId::NONE`] to ask [`Self::route4`].
    fn pods4(&self, block: u32) -> Option<GroupId>;

    /// The group of a block of pods' IPv6 addresses; [`GroupId::NONE`] to ask [`Self::route6`].
    fn pods6(&self, block: u32) -> Option<GroupId>;

    /// How to look up addresses that start with `octet`.
    fn flat4_root(&self, octet: u8) -> Option<&Flat4Root>;

    /// The groups of addresses that start with these two octets; `None` where there is no table.
    fn flat4(&self, first: u8, second: u8) -> Option<&Flat4Block>;

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

    /// Counts one packet of `bytes` bytes.
    fn count(&self, reason: Reason, bytes: u64);
}
