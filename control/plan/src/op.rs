//! One write to the maps: what the planner asks for and the datapath carries out.

use causeway_maps::{
    Config, Flat4Block, Flat4Root, Group, GroupId, NextHop, NextHopId, Port, RouteKey4, RouteKey6,
    VlanKey,
};

/// An idempotent write. Applying it twice is the same as once; the order of a batch is what keeps the maps consistent at
/// every moment, so operations are applied as they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write the one entry of `config`.
    PutConfig(Config),
    /// Write `ports[ifindex]`.
    PutPort(u32, Port),
    /// Zero `ports[ifindex]`: nothing that arrives there is forwarded.
    ClearPort(u32),
    /// Make the interface a redirect target in `tx_ports`.
    PutTxPort(u32),
    /// Take it out of `tx_ports`.
    ClearTxPort(u32),
    /// Tell in `vlans` which interface a tag belongs to.
    PutVlan(VlanKey, u32),
    /// Forget a tag.
    ClearVlan(VlanKey),
    /// Write a next hop.
    PutNextHop(NextHopId, NextHop),
    /// Zero a next hop.
    ClearNextHop(NextHopId),
    /// Write a group.
    PutGroup(GroupId, Box<Group>),
    /// Zero a group.
    ClearGroup(GroupId),
    /// Add or replace IPv4 prefixes.
    PutRoutes4(Vec<(RouteKey4, GroupId)>),
    /// Remove IPv4 prefixes; absent ones are fine.
    DeleteRoutes4(Vec<RouteKey4>),
    /// Add or replace IPv6 prefixes.
    PutRoutes6(Vec<(RouteKey6, GroupId)>),
    /// Remove IPv6 prefixes; absent ones are fine.
    DeleteRoutes6(Vec<RouteKey6>),
    /// Write entries of `pods4`.
    PutPods4(Vec<(u32, GroupId)>),
    /// Write entries of `pods6`.
    PutPods6(Vec<(u32, GroupId)>),
    /// Write entries of `flat4_roots`, by first octet.
    PutFlat4Roots(Vec<(u8, Flat4Root)>),
    /// Write rows of tables in `flat4`, by the first two octets. A table that is not there is made, of zeros.
    PutFlat4Rows(Vec<([u8; 2], Box<Flat4Block>)>),
    /// Remove the table of a first octet; an absent one is fine.
    DropFlat4(u8),
}
