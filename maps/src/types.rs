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
    /// Dropped here: ranges that this router announces and of which it has nothing more specific, which would otherwise
    /// go back to whoever sent them.
    pub const BLACKHOLE: Self = Self(2);
    /// The first id that the planner hands out.
    pub const FIRST: Self = Self(3);
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
    /// One slot of a [`Group`]: the members that its flows take, by preference.
    pub struct Slot {
        /// [`NextHopId`]s, the preferred one first, each at most once; the first 0 ends the list. A flow takes the first
        /// whose entry of `liveness` is 0.
        pub order: [u16; 8],
    }
    size = 16;
}

impl Slot {
    /// Most members of one slot: so many failures are survived before the control plane has to act.
    pub const MAX_ORDER: usize = 8;

    /// A slot that no flow can use.
    pub const EMPTY: Self = Self {
        order: [0; Self::MAX_ORDER],
    };
}

shared_struct! {
    /// Value of `groups`: an ECMP set as a table of slots.
    ///
    /// A flow with hash `h` looks at `slots[h >> 24]`. Either all slots are empty, and the group forwards nothing, or
    /// none is.
    pub struct Group {
        /// Distinct members, 0 to [`Group::MAX_MEMBERS`]; for people and the planner, the programs don't read it.
        pub member_count: u32,
        /// Zero.
        pub reserved: u32,
        /// Members by the upper bits of a flow's hash.
        pub slots: [Slot; 256],
    }
    size = 4104;
}

impl Group {
    /// Slots of a group; a flow's slot is the upper [`Self::SLOT_BITS`] bits of its hash.
    pub const SLOTS: usize = 1 << Self::SLOT_BITS;
    /// Bits of a hash that choose the slot.
    pub const SLOT_BITS: u32 = 8;
    /// Most members of one ECMP set.
    pub const MAX_MEMBERS: usize = 64;

    /// A group that forwards nothing.
    pub const EMPTY: Self = Self {
        member_count: 0,
        reserved: 0,
        slots: [Slot::EMPTY; Self::SLOTS],
    };
}

/// Bits of a value of `liveness`, by [`NextHopId`]: 0 is alive.
///
/// Kept apart from [`NextHop`]: what is *desired* is written by the control plane, what is *alive* only by the owner of
/// liveness, and reconciling never touches it. When an id is given to another next hop, its entry is zeroed before a
/// group may name it.
pub mod dead {
    /// The link is down.
    pub const LINK: u32 = 1 << 0;
    /// The neighbour does not answer.
    pub const NEIGHBOUR: u32 = 1 << 1;
    /// BFD says so.
    pub const BFD: u32 = 1 << 2;
}

shared_struct! {
    /// Value of `next_hops`: where a frame goes and what its Ethernet header says.
    pub struct NextHop {
        /// Interface to send on; for an 802.1Q link the VLAN device. 0 for none: nothing is sent.
        pub ifindex: u32,
        /// Interface that XDP sends on, and the slot of `tx_ports`: the parent of a VLAN device, else `ifindex`.
        pub tx_ifindex: u32,
        /// Largest IP packet, in bytes, that fits that interface.
        pub mtu: u32,
        /// Bits of [`next_hop_flags`].
        pub flags: u32,
        /// The neighbour's MAC address.
        pub dst_mac: [u8; 6],
        /// The interface's own MAC address.
        pub src_mac: [u8; 6],
        /// VLAN id of the tag that XDP sends with, 1 to 4094, in host order; 0 for no tag.
        pub vlan: u16,
        /// Zero.
        pub reserved: u16,
        /// The neighbour's IP address, which TC gives to the kernel to resolve: IPv6 in network order, or IPv4 in the
        /// first four bytes; see [`next_hop_flags::NEIGHBOUR6`].
        pub addr: [u8; 16],
        /// What the version before the upgrade test's did not have.
        #[cfg(feature = "upgrade-fixture")]
        pub fixture: [u8; 8],
    }
    size = if cfg!(feature = "upgrade-fixture") { 56 } else { 48 };
}

/// Bits of [`NextHop::flags`].
pub mod next_hop_flags {
    /// The neighbour is resolved: both MAC addresses are known. Without it a packet goes up to the stack.
    pub const RESOLVED: u32 = 1 << 0;
    /// On this node: a pod or a host behind `ifindex`. XDP passes such packets on, TC delivers them.
    pub const LOCAL: u32 = 1 << 1;
    /// `ifindex` is one end of a veth or netkit pair whose other end is in another network namespace: with
    /// [`LOCAL`] TC hands packets over without a queue between (`bpf_redirect_peer`).
    pub const PEER: u32 = 1 << 2;
    /// [`addr`](super::NextHop::addr) is an IPv6 address; without it, IPv4.
    pub const NEIGHBOUR6: u32 = 1 << 3;
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
    /// The host's side of a pod's veth.
    pub const POD: u32 = 1 << 2;
}

shared_struct! {
    /// Key of `vlans`: a tag as it arrives. The value is the ifindex of the VLAN device, which is the port that the rest
    /// of the pipeline sees.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct VlanKey {
        /// Interface that the tagged frame came in on.
        #[cfg(not(feature = "upgrade-fixture"))]
        pub parent: u32,
        /// VLAN id, 1 to 4094, in host order.
        pub vid: u16,
        /// Zero.
        pub reserved: u16,
        /// Interface that the tagged frame came in on; the upgrade test's version has it last.
        #[cfg(feature = "upgrade-fixture")]
        pub parent: u32,
    }
    size = 8;
}

shared_struct! {
    /// Value of `flat4_roots`, by the first octet of an address: how to look it up without a trie.
    pub struct Flat4Root {
        /// One of [`flat4_mode`].
        pub mode: u32,
        /// [`GroupId`] of the best prefix of at most 8 bits that covers this /8; [`GroupId::NONE`] for no route.
        pub group: u32,
    }
    size = 8;
}

/// Values of [`Flat4Root::mode`].
pub mod flat4_mode {
    /// Ask `routes4`.
    pub const LPM: u32 = 0;
    /// No prefix longer than 8 bits lies in this /8: the root's group is the answer.
    pub const DIRECT: u32 = 1;
    /// The table of `flat4` at this octet has the answer for each /24.
    pub const TABLE: u32 = 2;
}

shared_struct! {
    /// Value of the tables in `flat4`, by the second octet of an address.
    pub struct Flat4Block {
        /// By the third octet: 0 asks `routes4`, because a prefix longer than 24 bits lies inside;
        /// [`Flat4Block::COVER`] takes the group of the [`Flat4Root`]; anything else is the [`GroupId`].
        pub groups: [u32; 256],
    }
    size = 1024;
}

impl Flat4Block {
    /// No prefix of 9 to 24 bits covers this /24.
    pub const COVER: u32 = u32::MAX;
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
    /// The range that pods' IPv4 addresses come from, in equal blocks of which each node has some.
    pub struct PodRange4 {
        /// First address, network order.
        pub base: [u8; 4],
        /// Significant bits of `base`.
        pub prefix_len: u8,
        /// Significant bits of a block: at least `prefix_len`, at most 16 more; 0 for no range.
        pub block_len: u8,
        /// Zero.
        pub reserved: [u8; 2],
    }
    size = 8;
}

shared_struct! {
    /// The range that pods' IPv6 addresses come from, in equal blocks of which each node has some.
    pub struct PodRange6 {
        /// First address, network order.
        pub base: [u8; 16],
        /// Significant bits of `base`.
        pub prefix_len: u8,
        /// Significant bits of a block: at least `prefix_len`, at most 16 more; 0 for no range.
        pub block_len: u8,
        /// Zero.
        pub reserved: [u8; 2],
    }
    size = 20;
}

shared_struct! {
    /// Value of `config`, one entry.
    pub struct Config {
        /// Bits of [`config_flags`].
        pub flags: u32,
        /// Seed of the flow hash, so that tiers of routers do not polarise.
        pub hash_seed: u32,
        /// What `pods4` is an index of.
        pub pods4: PodRange4,
        /// What `pods6` is an index of.
        pub pods6: PodRange6,
    }
    size = 36;
}

/// Bits of [`Config::flags`].
pub mod config_flags {
    /// `role: transit`: forward from uplink to uplink.
    pub const TRANSIT: u32 = 1 << 0;
}

shared_struct! {
    /// Value of `counters`, per CPU, by [`crate::Hook::slot`].
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
        assert_eq!(
            RouteKey4::LAYOUT,
            ["RouteKey4", "prefix_len:u32", "addr:[u8; 4]"]
        );
    }

    #[test]
    fn a_group_has_a_slot_for_every_hash_and_a_slot_room_for_every_id() {
        let zeroed: Group = bytemuck::Zeroable::zeroed();
        assert_eq!(zeroed, Group::EMPTY);
        assert_eq!(zeroed.slots.len(), Group::SLOTS);
        const { assert!(crate::catalogue::MAX_NEXT_HOPS <= 1 << u16::BITS) };
    }
}
