//! Every map: name, kind, capacity, layout hash.
//!
//! Names are at most 15 bytes (`BPF_OBJ_NAME_LEN` less its zero byte), so that bpftool shows them whole.

use crate::layout::fnv1a;
use crate::{Config, Counter, Group, Layout, NextHop, Port, Reason, RouteKey4, RouteKey6, TxPort};

/// The kinds of map in use, with the numbers of `enum bpf_map_type`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
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
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries,
            flags,
            layout_hash: fnv1a(&[name, K::LAYOUT, V::LAYOUT, meaning]),
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

/// `BPF_F_NO_PREALLOC`: LPM tries demand it.
pub const NO_PREALLOC: u32 = 1;

/// Prefix → group id, IPv4.
pub const ROUTES4: MapSpec = MapSpec::new::<RouteKey4, u32>(
    "routes4",
    MapKind::LpmTrie,
    MAX_ROUTES4,
    NO_PREALLOC,
    "group id",
);
/// Prefix → group id, IPv6.
pub const ROUTES6: MapSpec = MapSpec::new::<RouteKey6, u32>(
    "routes6",
    MapKind::LpmTrie,
    MAX_ROUTES6,
    NO_PREALLOC,
    "group id",
);
/// Group id → ECMP set.
pub const GROUPS: MapSpec = MapSpec::new::<u32, Group>(
    "groups",
    MapKind::Array,
    MAX_GROUPS,
    0,
    "members by flow hash",
);
/// Next-hop id → where to send.
pub const NEXT_HOPS: MapSpec =
    MapSpec::new::<u32, NextHop>("next_hops", MapKind::Array, MAX_NEXT_HOPS, 0, "");
/// Ifindex → may it forward.
pub const PORTS: MapSpec = MapSpec::new::<u32, Port>("ports", MapKind::Array, MAX_IFINDEX, 0, "");
/// Ifindex → redirect target.
pub const TX_PORTS: MapSpec =
    MapSpec::new::<u32, TxPort>("tx_ports", MapKind::DevMap, MAX_IFINDEX, 0, "");
/// The one [`Config`].
pub const CONFIG: MapSpec = MapSpec::new::<u32, Config>("config", MapKind::Array, 1, 0, "");
/// Outcomes by [`Reason`].
pub const COUNTERS: MapSpec = MapSpec::new::<u32, Counter>(
    "counters",
    MapKind::PerCpuArray,
    Reason::COUNT,
    0,
    "by reason",
);
/// Slots of `layout`: more than there are maps, so that a new map doesn't change it.
pub const MAX_LAYOUTS: u32 = 32;

/// Layout hashes of [`ALL`], in its order, as the pinned maps were made with.
pub const LAYOUT: MapSpec = MapSpec::new::<u32, u64>(
    "layout",
    MapKind::Array,
    MAX_LAYOUTS,
    0,
    "hash by catalogue position",
);

/// Every map, `layout` last.
pub const ALL: &[MapSpec] = &[
    ROUTES4, ROUTES6, GROUPS, NEXT_HOPS, PORTS, TX_PORTS, CONFIG, COUNTERS, LAYOUT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_hashes_differ() {
        for (i, map) in ALL.iter().enumerate() {
            assert!(map.name.len() <= 15, "{}", map.name);
            for other in &ALL[i + 1..] {
                assert_ne!(
                    map.layout_hash, other.layout_hash,
                    "{} and {}",
                    map.name, other.name
                );
            }
        }
        assert!(ALL.len() <= LAYOUT.max_entries as usize);
    }
}
