//! Keys and values of the maps.

use crate::layout::shared_struct;

/// Index into the `groups` map.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

impl GroupId {
    /// No group: slot 0 of `groups` stays empty, so that a zeroed route can never forward.
    pub const NONE: Self = Self(0);
    /// Not forwarded here: own addresses and connected subnets, which the kernel's stack answers.
    pub const PUNT: Self = Self(1);
    /// The first id that the planner hands out.
    pub const FIRST: Self = Self(2);
}

/// Index into the `next_hops` map. Id 0 stays empty.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHopId(pub u32);

impl NextHopId {
    /// No next hop.
    pub const NONE: Self = Self(0);
    /// The first id that the planner hands out.
    pub const FIRST: Self = Self(1);
}

shared_struct! {
    /// Key of `routes4`, an LPM trie (`struct bpf_lpm_trie_key`).
    #[derive(Hash, PartialOrd, Ord)]
    pub struct RouteKey4 {
        /// Significant bits of `addr`, 0 to 32; host order, as the kernel wants it.
        pub prefix_len: u32,
        /// IPv4 address, network order.
        pub addr: [u8; 4],
    }
    size = 8;
}

shared_struct! {
    /// Key of `routes6`, an LPM trie (`struct bpf_lpm_trie_key`).
    #[derive(Hash, PartialOrd, Ord)]
    pub struct RouteKey6 {
        /// Significant bits of `addr`, 0 to 128; host order, as the kernel wants it.
        pub prefix_len: u32,
        /// IPv6 address, network order.
        pub addr: [u8; 16],
    }
    size = 20;
}

shared_struct! {
    /// Value of `groups`: an ECMP set.
    ///
    /// A flow with hash `h` takes `members[(h * member_count) >> 32]`.
    pub struct Group {
        /// Used members, 0 to [`Group::MAX_MEMBERS`]. An empty group forwards nothing.
        pub member_count: u32,
        /// [`NextHopId`]s; those from `member_count` on are 0.
        pub members: [u32; 64],
    }
    size = 260;
}

impl Group {
    /// Most members of one ECMP set.
    pub const MAX_MEMBERS: usize = 64;
}

shared_struct! {
    /// Value of `next_hops`: where a frame goes and what its Ethernet header says.
    pub struct NextHop {
        /// Interface to send on, and the slot of `tx_ports`.
        pub ifindex: u32,
        /// Largest IP packet, in bytes, that fits that interface.
        pub mtu: u32,
        /// Bits of [`next_hop_flags`].
        pub flags: u32,
        /// The neighbour's MAC address.
        pub dst_mac: [u8; 6],
        /// The interface's own MAC address.
        pub src_mac: [u8; 6],
    }
    size = 24;
}

/// Bits of [`NextHop::flags`].
pub mod next_hop_flags {
    /// The neighbour is resolved: both MAC addresses are known. Without it a packet goes up to the stack.
    pub const RESOLVED: u32 = 1 << 0;
}

shared_struct! {
    /// Value of `ports`, by ifindex: an interface that may take part in forwarding.
    pub struct Port {
        /// Bits of [`port_flags`].
        pub flags: u32,
        /// The interface's own MAC address: only frames sent to it are routed.
        pub mac: [u8; 6],
        /// Zero.
        pub reserved: [u8; 2],
    }
    size = 12;
}

/// Bits of [`Port::flags`].
pub mod port_flags {
    /// Frames that arrive here are forwarded.
    pub const ENABLED: u32 = 1 << 0;
    /// An uplink: towards the fabric. From uplink to uplink only a transit router forwards.
    pub const UPLINK: u32 = 1 << 1;
}

shared_struct! {
    /// Value of `tx_ports` (`struct bpf_devmap_val`), by ifindex.
    pub struct TxPort {
        /// The interface, the same as the key.
        pub ifindex: u32,
        /// Descriptor (when written) or id (when read) of a program to run on egress; 0 for none.
        pub program: u32,
    }
    size = 8;
}

shared_struct! {
    /// Value of `config`, one entry.
    pub struct Config {
        /// Bits of [`config_flags`].
        pub flags: u32,
        /// Seed of the flow hash, so that tiers of routers do not polarise.
        pub hash_seed: u32,
    }
    size = 8;
}

/// Bits of [`Config::flags`].
pub mod config_flags {
    /// `role: transit`: forward from uplink to uplink.
    pub const TRANSIT: u32 = 1 << 0;
}

shared_struct! {
    /// Value of `counters`, per CPU, by [`crate::Reason`].
    pub struct Counter {
        /// Packets.
        pub packets: u64,
        /// Bytes, Ethernet header included.
        pub bytes: u64,
    }
    size = 16;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    #[test]
    fn lpm_values_align_with_their_keys() {
        // A BTF LPM trie wants size_of(key) to be a multiple of the value's alignment.
        assert_eq!(size_of::<RouteKey4>() % align_of::<u32>(), 0);
        assert_eq!(size_of::<RouteKey6>() % align_of::<u32>(), 0);
    }

    #[test]
    fn a_layout_names_every_field() {
        assert_eq!(RouteKey4::LAYOUT, "RouteKey4{prefix_len:u32;addr:[u8; 4];}");
    }

    #[test]
    fn group_has_room_for_its_members() {
        let group: Group = bytemuck::Zeroable::zeroed();
        assert_eq!(group.members.len(), Group::MAX_MEMBERS);
    }
}
