//! Every map: name, kind, capacity, layout hash.
//!
//! Names are at most 15 bytes (`BPF_OBJ_NAME_LEN` less its zero byte), so that bpftool shows them whole.

use crate::layout::{fnv1a, fnv1a_more};
use crate::service::{self, RingRef, ServiceAddr, SourceRangeKey};
use crate::{
    Config, Counter, Flat4Block, Flat4Root, Group, Hook, Layout, NextHop, PodRange4, PodRange6,
    Port, RouteKey4, RouteKey6, Slot, TxPort, VlanKey,
};

/// The kinds of map in use, with the numbers of `enum bpf_map_type`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
    ArrayOfMaps = 12,
    /// `BPF_MAP_TYPE_DEVMAP`.
    DevMap = 14,
}

/// One map of the object.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Name in the object, in the kernel and as a pin.
    pub name: &'static str,
    /// Kind.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (of one CPU's, for per-CPU maps).
    pub value_size: u32,
    /// Capacity in entries.
    pub max_entries: u32,
    /// `BPF_F_*` creation flags.
    pub flags: u32,
    /// Changes when keys, values or their meaning change; capacities do not count.
    pub layout_hash: u64,
}

impl MapSpec {
    const fn new<K: Layout, V: Layout>(
        name: &'static str,
        kind: MapKind,
        max_entries: u32,
        flags: u32,
        meaning: &[&[&str]],
    ) -> Self {
        Self {
            name,
            kind,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries,
            flags,
            layout_hash: fnv1a_more(fnv1a(&[&[name], K::LAYOUT, V::LAYOUT]), meaning),
        }
    }
}

/// Most IPv4 prefixes.
pub const MAX_ROUTES4: u32 = 2_097_152;
/// Most IPv6 prefixes.
pub const MAX_ROUTES6: u32 = 1_048_576;
/// Most ECMP sets, the reserved ids included.
pub const MAX_GROUPS: u32 = 4_096;
/// Most next hops, the reserved id included.
pub const MAX_NEXT_HOPS: u32 = 8_192;
/// Interfaces with an ifindex below this can forward: `ports` and `tx_ports` are indexed by it.
pub const MAX_IFINDEX: u32 = 16_384;
/// Most blocks of a range of pods' addresses.
pub const MAX_POD_BLOCKS: u32 = 1 << MAX_POD_BITS;
/// Most bits between the length of such a range and that of its blocks.
pub const MAX_POD_BITS: u32 = 16;
/// Most VLAN devices.
pub const MAX_VLANS: u32 = 4_096;
/// Values of an octet.
pub const OCTETS: u32 = 256;

/// `BPF_F_NO_PREALLOC`: LPM tries demand it.
pub const NO_PREALLOC: u32 = 1;

const GROUP_ID: &[&[&str]] = &[&["group id"]];

/// Prefix → group id, IPv4.
pub const ROUTES4: MapSpec = MapSpec::new::<RouteKey4, u32>(
    "routes4",
    MapKind::LpmTrie,
    MAX_ROUTES4,
    NO_PREALLOC,
    GROUP_ID,
);
/// Prefix → group id, IPv6.
pub const ROUTES6: MapSpec = MapSpec::new::<RouteKey6, u32>(
    "routes6",
    MapKind::LpmTrie,
    MAX_ROUTES6,
    NO_PREALLOC,
    GROUP_ID,
);
/// Block of [`Config::pods4`] → group id, 0 to ask `routes4`. Made from `routes4`, and exact where it is not 0.
pub const PODS4: MapSpec =
    MapSpec::new::<u32, u32>("pods4", MapKind::Array, MAX_POD_BLOCKS, 0, GROUP_ID);
/// Block of [`Config::pods6`] → group id, 0 to ask `routes6`. Made from `routes6`, and exact where it is not 0.
pub const PODS6: MapSpec =
    MapSpec::new::<u32, u32>("pods6", MapKind::Array, MAX_POD_BLOCKS, 0, GROUP_ID);
/// First octet → how to look up the rest. Made from `routes4`, like `flat4`.
pub const FLAT4_ROOTS: MapSpec =
    MapSpec::new::<u32, Flat4Root>("flat4_roots", MapKind::Array, OCTETS, 0, &[]);
/// First octet → a map as [`FLAT4_TABLE`] says, for a /8 of many routes; empty for the others.
pub const FLAT4: MapSpec = MapSpec::new::<u32, u32>(
    "flat4",
    MapKind::ArrayOfMaps,
    OCTETS,
    0,
    &[&["of flat4_table"], Flat4Block::LAYOUT],
);
/// The inner maps of [`FLAT4`]: second octet → groups by third octet. Not an entry of [`ALL`].
pub const FLAT4_TABLE: MapSpec =
    MapSpec::new::<u32, Flat4Block>("flat4_table", MapKind::Array, OCTETS, 0, &[]);
/// Group id → ECMP set.
pub const GROUPS: MapSpec = MapSpec::new::<u32, Group>(
    "groups",
    MapKind::Array,
    MAX_GROUPS,
    0,
    &[&["slot by upper bits of the flow hash"], Slot::LAYOUT],
);
/// Next-hop id → where to send.
pub const NEXT_HOPS: MapSpec =
    MapSpec::new::<u32, NextHop>("next_hops", MapKind::Array, MAX_NEXT_HOPS, 0, &[]);
/// Next-hop id → bits of [`dead`](crate::dead); 0 is alive.
pub const LIVENESS: MapSpec = MapSpec::new::<u32, u32>(
    "liveness",
    MapKind::Array,
    MAX_NEXT_HOPS,
    0,
    &[&["why it is dead"]],
);
/// Ifindex → may it forward.
pub const PORTS: MapSpec = MapSpec::new::<u32, Port>("ports", MapKind::Array, MAX_IFINDEX, 0, &[]);
/// Parent interface and VLAN id → ifindex of the VLAN device.
pub const VLANS: MapSpec =
    MapSpec::new::<VlanKey, u32>("vlans", MapKind::Hash, MAX_VLANS, 0, &[&["ifindex"]]);
/// Ifindex → redirect target.
pub const TX_PORTS: MapSpec =
    MapSpec::new::<u32, TxPort>("tx_ports", MapKind::DevMap, MAX_IFINDEX, 0, &[]);
/// The one [`Config`].
pub const CONFIG: MapSpec = MapSpec::new::<u32, Config>(
    "config",
    MapKind::Array,
    1,
    0,
    &[PodRange4::LAYOUT, PodRange6::LAYOUT],
);
/// Outcomes by [`Hook::slot`].
pub const COUNTERS: MapSpec = MapSpec::new::<u32, Counter>(
    "counters",
    MapKind::PerCpuArray,
    Hook::SLOTS,
    0,
    &[&["by hook and reason"]],
);
/// Entries of `layout`: for every map, and for its successor while a new version takes over.
pub const MAX_LAYOUTS: u32 = 64;

/// Kernel's id of a pinned map → the layout hash that it was made with. By id, so that a map and what is known of it are
/// never two things, whenever a daemon dies.
pub const LAYOUT: MapSpec = MapSpec::new::<u32, u64>(
    "layout",
    MapKind::Hash,
    MAX_LAYOUTS,
    0,
    &[&["layout hash by map id"]],
);

/// Address of services → bits of [`svc_addr_flags`](service::svc_addr_flags).
pub const SVC_ADDRS: MapSpec = MapSpec::new::<ServiceAddr, u32>(
    "svc_addrs",
    MapKind::Hash,
    65_536,
    0,
    &[&["how it answers"]],
);
/// Address, port and protocol → pool, and what becomes of whose connections.
pub const FRONTENDS: MapSpec = MapSpec::new::<service::FrontendKey, service::Frontend>(
    "frontends",
    MapKind::Hash,
    524_288,
    0,
    &[],
);
/// Pool id → seats and rings.
pub const POOLS: MapSpec =
    MapSpec::new::<u32, service::Pool>("pools", MapKind::Array, 131_072, 0, &[RingRef::LAYOUT]);
/// Pages of rings.
pub const RING_PAGES: MapSpec =
    MapSpec::new::<u32, service::RingPage>("ring_pages", MapKind::Array, 65_536, 0, &[]);
/// Seats of pools → backend ids.
pub const SEATS: MapSpec =
    MapSpec::new::<u32, service::Seat>("seats", MapKind::Array, 1_048_576, 0, &[]);
/// Backend id → where packets go.
pub const BACKENDS: MapSpec =
    MapSpec::new::<u32, service::Backend>("backends", MapKind::Array, 524_288, 0, &[]);
/// Clients of a service → whether they may use its load-balancer addresses.
pub const SRC_RANGES: MapSpec = MapSpec::new::<SourceRangeKey, u32>(
    "src_ranges",
    MapKind::LpmTrie,
    65_536,
    NO_PREALLOC,
    &[&["admission"]],
);

/// The maps of services, in the order in which they are written. Not in [`ALL`]: no program has them yet.
pub const SERVICES: &[MapSpec] = &[
    BACKENDS, SEATS, RING_PAGES, POOLS, SRC_RANGES, SVC_ADDRS, FRONTENDS,
];

/// Every map, `layout` last.
pub const ALL: &[MapSpec] = &[
    ROUTES4,
    ROUTES6,
    PODS4,
    PODS6,
    FLAT4_ROOTS,
    FLAT4,
    GROUPS,
    NEXT_HOPS,
    LIVENESS,
    PORTS,
    VLANS,
    TX_PORTS,
    CONFIG,
    COUNTERS,
    LAYOUT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_hashes_differ() {
        let all: Vec<&MapSpec> = ALL.iter().chain(SERVICES).collect();
        for (i, map) in all.iter().enumerate() {
            assert!(map.name.len() <= 15, "{}", map.name);
            for other in &all[i + 1..] {
                assert_ne!(
                    map.layout_hash, other.layout_hash,
                    "{} and {}",
                    map.name, other.name
                );
            }
        }
        assert!(2 * ALL.len() <= LAYOUT.max_entries as usize);
    }
}
