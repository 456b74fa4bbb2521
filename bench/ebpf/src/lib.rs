//! What the bench's programs and the bench agree on.

#![no_std]
#![forbid(unsafe_code)]

/// Flows of a run at most, a power of two.
pub const FLOWS: usize = 1 << 16;
/// Prefixes of the plain router's table.
pub const PLAIN_ROUTES: usize = 1024;
/// Its ECMP groups.
pub const PLAIN_GROUPS: usize = 64;
/// Members of one of them at most.
pub const PLAIN_MEMBERS: usize = 16;
/// Entries of the map that stands for the connections of other programs.
pub const BYSTANDERS: usize = 1 << 16;

/// The first bytes of a frame: Ethernet, IPv4 or IPv6, ports.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Frame {
    /// In words, because they are copied.
    pub words: [u64; 8],
}

/// A set of next hops.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PlainGroup {
    /// Used members.
    pub count: u32,
    /// Places in `plain_hops`.
    pub members: [u32; PLAIN_MEMBERS],
}

/// A next hop.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PlainHop {
    /// Interface.
    pub ifindex: u32,
    /// Neighbour's MAC address, then the interface's.
    pub macs: [u16; 6],
}

/// What stands for a connection: as many bytes as a connection's key and value.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bystander {
    /// Anything.
    pub words: [u64; 7],
}
