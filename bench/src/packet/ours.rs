//! The production object, its maps filled as the planner would.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::of_maps::ArrayOfMaps;
use aya::maps::xdp::DevMap;
use aya::maps::{Array, LpmTrie, Map, MapData, PerCpuArray};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use bytemuck::{NoUninit, bytes_of};
use causeway_maps::catalogue::OCTETS;
use causeway_maps::{
    Config, Flat4Block, Flat4Root, Group, GroupId, Hook, NextHop, PodRange4, PodRange6, Port,
    Reason, config_flags, flat4_mode, next_hop_flags, port_flags,
};

use super::flows::{
    BLOCK4_LEN, BLOCK6_LEN, Interfaces, NODES, OWN_MAC, PODS4, PODS4_LEN, PODS6_LEN, WIDENED_BITS,
    pods6, widened,
};
use crate::bgp::table::Prefix;

/// ECMP groups that routes point to in turn.
pub(crate) const GROUPS: u32 = 16;
/// Members of each.
pub(crate) const MEMBERS: u32 = 4;
/// Next hops that they are taken from.
pub(crate) const HOPS: u32 = 16;

type TableMap = Array<MapData, [u8; size_of::<Flat4Block>()]>;

/// The loaded object.
pub(crate) struct Ours {
    ebpf: Ebpf,
    counters: PerCpuArray<MapData, [u64; 2]>,
}

/// Reads and loads an object's maps.
pub(crate) fn load_object(path: &Path) -> Result<Ebpf> {
    let bytes = std::fs::read(path).with_context(|| {
        format!(
            "read {}; `cargo xtask bench packet` builds it",
            path.display()
        )
    })?;
    Ebpf::load(&bytes).with_context(|| format!("load {}", path.display()))
}

impl Ours {
    /// Loads it, with the blocks of all nodes' pods.
    pub(crate) fn load(object: &Path, interfaces: Interfaces) -> Result<Self> {
        let mut ours = Self::empty(object)?;
        let port = |mac| Port {
            flags: port_flags::ENABLED | port_flags::UPLINK,
            mac,
            reserved: [0; 2],
        };
        ours.put("ports", interfaces.ingress, &port(OWN_MAC))?;
        ours.put("ports", interfaces.egress, &port([2, 0, 0, 0, 0, 2]))?;
        DevMap::try_from(ours.map("tx_ports")?)?.set(
            interfaces.egress,
            interfaces.egress,
            None,
            0,
        )?;
        ours.put_groups(interfaces.egress)?;
        ours.put_pods()?;
        Ok(ours)
    }

    /// Loads it, with the range of pods and nothing else.
    pub(crate) fn empty(object: &Path) -> Result<Self> {
        let mut ebpf = load_object(object)?;
        let program: &mut Xdp = ebpf
            .program_mut("causeway_xdp")
            .context("the object lacks its program")?
            .try_into()?;
        program.load().context("load causeway_xdp")?;
        let counters = ebpf
            .take_map("counters")
            .context("the object lacks map counters")?
            .try_into()?;
        let mut ours = Self { ebpf, counters };
        ours.put(
            "config",
            0,
            &Config {
                flags: config_flags::TRANSIT,
                hash_seed: 7,
                pods4: PodRange4::new(PODS4, PODS4_LEN, BLOCK4_LEN).context("the pods' range")?,
                pods6: PodRange6::new(pods6(0).to_be_bytes(), PODS6_LEN, BLOCK6_LEN)
                    .context("the pods' range")?,
            },
        )?;
        Ok(ours)
    }

    pub(crate) fn program(&self) -> Result<&ProgramFd> {
        let program: &Xdp = self
            .ebpf
            .program("causeway_xdp")
            .context("it was loaded")?
            .try_into()?;
        Ok(program.fd()?)
    }

    pub(crate) fn program_mut(&mut self) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut("causeway_xdp");
        Ok(program.context("it was loaded")?.try_into()?)
    }

    /// One of the programs at TC.
    pub(crate) fn tc_program(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(name);
        let program: &mut SchedClassifier = program
            .with_context(|| format!("the object lacks program {name}"))?
            .try_into()?;
        program.load().with_context(|| format!("load {name}"))?;
        Ok(program)
    }

    /// Makes an interface a port.
    pub(crate) fn put_port(&mut self, ifindex: u32, flags: u32, mac: [u8; 6]) -> Result<()> {
        let port = Port {
            flags: port_flags::ENABLED | flags,
            mac,
            reserved: [0; 2],
        };
        self.put("ports", ifindex, &port)
    }

    /// The first group, with one member.
    pub(crate) fn put_only_group(&mut self, next_hop: &NextHop) -> Result<()> {
        let mut group = Group::EMPTY;
        group.member_count = 1;
        for slot in &mut group.slots {
            slot.order[0] = 1;
        }
        self.put("groups", GroupId::FIRST.0, &group)?;
        self.put("next_hops", 1, next_hop)
    }

    /// The prefix goes to the first group.
    pub(crate) fn put_route4(&mut self, address: [u8; 4], len: u8) -> Result<()> {
        let mut routes: LpmTrie<_, [u8; 4], u32> = self.map("routes4")?.try_into()?;
        Ok(routes.insert(&Key::new(len.into(), address), GroupId::FIRST.0, 0)?)
    }

    /// All of a node's block goes to the first group.
    pub(crate) fn put_pod_block4(&mut self, block: u32) -> Result<()> {
        self.put("pods4", block, &GroupId::FIRST.0)
    }

    /// Packets counted as sent on.
    pub(crate) fn forwarded(&self) -> Result<u64> {
        let mut packets = 0;
        for reason in [Reason::Forwarded4, Reason::Forwarded6] {
            let counters = self.counters.get(&Hook::Xdp.slot(reason), 0)?;
            packets += counters.iter().map(|counter| counter[0]).sum::<u64>();
        }
        Ok(packets)
    }

    /// Adds a full table of each family, and what is made of it.
    pub(crate) fn fill(&mut self, table: &[Prefix]) -> Result<()> {
        let mut routes4: LpmTrie<_, [u8; 4], u32> = self.map("routes4")?.try_into()?;
        let mut routes6: LpmTrie<_, [u8; 16], u32> = self.map("routes6")?.try_into()?;
        for (prefix, group) in table.iter().zip((0..).map(group_of)) {
            let key = Key::new(prefix.len.into(), prefix.addr.to_be_bytes());
            routes4.insert(&key, group, 0).context("a route")?;
            let len = u32::from(prefix.len + WIDENED_BITS);
            let address = widened(prefix.addr) & (u128::MAX << (128 - len));
            let key = Key::new(len, address.to_be_bytes());
            routes6.insert(&key, group, 0).context("a route")?;
        }
        self.put_flat(table)
    }

    fn put_groups(&mut self, egress: u32) -> Result<()> {
        for nth in 0..GROUPS {
            let mut group = Group::EMPTY;
            group.member_count = MEMBERS;
            for (slot, first) in group.slots.iter_mut().zip((0..MEMBERS).cycle()) {
                for (place, id) in slot.order.iter_mut().zip(0..MEMBERS) {
                    *place = 1 + ((nth + (first + id) % MEMBERS) % HOPS) as u16;
                }
            }
            self.put("groups", group_of(nth), &group)?;
        }
        for nth in 0..HOPS {
            let next_hop = NextHop {
                ifindex: egress,
                tx_ifindex: egress,
                mtu: 1500,
                flags: next_hop_flags::RESOLVED,
                dst_mac: [2, 0xff, 0, 0, 0, nth as u8],
                src_mac: [2, 0, 0, 0, 0, 2],
                vlan: 0,
                reserved: 0,
                addr: [0; 16],
            };
            self.put("next_hops", 1 + nth, &next_hop)?;
        }
        Ok(())
    }

    fn put_pods(&mut self) -> Result<()> {
        let mut routes4: LpmTrie<_, [u8; 4], u32> = self.map("routes4")?.try_into()?;
        let mut routes6: LpmTrie<_, [u8; 16], u32> = self.map("routes6")?.try_into()?;
        for block in 0..NODES {
            let group = group_of(block);
            let prefix = (u32::from_be_bytes(PODS4) | block << 8).to_be_bytes();
            routes4.insert(&Key::new(BLOCK4_LEN.into(), prefix), group, 0)?;
            let prefix = pods6(block).to_be_bytes();
            routes6.insert(&Key::new(BLOCK6_LEN.into(), prefix), group, 0)?;
            self.put("pods4", block, &group)?;
            self.put("pods6", block, &group)?;
        }
        Ok(())
    }

    /// The flat table: every /8 of it, longest prefixes last.
    fn put_flat(&mut self, table: &[Prefix]) -> Result<()> {
        let mut routes: Vec<(Prefix, u32)> =
            table.iter().copied().zip((0..).map(group_of)).collect();
        routes.sort_by_key(|(prefix, _)| prefix.len);
        let mut tables: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
        let mut covers = [0; OCTETS as usize];
        for (prefix, group) in routes {
            let [first, second, third, _] = prefix.addr.to_be_bytes();
            if prefix.len <= 8 {
                let at = usize::from(first);
                covers[at..at + (1 << (8 - prefix.len))].fill(group);
                continue;
            }
            let table = tables
                .entry(first)
                .or_insert_with(|| vec![Flat4Block::COVER; 1 << 16]);
            let at = usize::from(second) << 8 | usize::from(third);
            match prefix.len {
                0..=24 => table[at..at + (1 << (24 - prefix.len))].fill(group),
                _ => table[at] = 0,
            }
        }
        let mut outer = ArrayOfMaps::<_, TableMap>::try_from(self.map("flat4")?)?;
        for (octet, groups) in tables {
            let mut inner = TableMap::create(OCTETS, 0)?;
            for (second, block) in (0..).zip(groups.chunks_exact(256)) {
                let groups: [u32; 256] = block.try_into()?;
                let block: [u8; size_of::<Flat4Block>()] = bytemuck::cast(Flat4Block { groups });
                inner.set(second, block, 0)?;
            }
            outer.set(octet.into(), &inner, 0)?;
            let root = Flat4Root {
                mode: flat4_mode::TABLE,
                group: covers[usize::from(octet)],
            };
            self.put("flat4_roots", octet.into(), &root)?;
        }
        Ok(())
    }

    /// The map by a descriptor of its own.
    fn map(&self, name: &str) -> Result<Map> {
        let map = self
            .ebpf
            .map(name)
            .with_context(|| format!("the object lacks map {name}"))?;
        let data = match map {
            Map::Array(data) | Map::LpmTrie(data) | Map::DevMap(data) | Map::ArrayOfMaps(data) => {
                data
            }
            _ => anyhow::bail!("map {name} is of another kind"),
        };
        Ok(Map::from_map_data(MapData::from_id(data.info()?.id())?)?)
    }

    fn put<T: NoUninit>(&mut self, map: &str, index: u32, value: &T) -> Result<()> {
        let bytes = bytes_of(value);
        let map = self.map(map)?;
        // One array type for each size of value.
        match bytes.len() {
            4 => set::<4>(map, index, bytes),
            8 => set::<8>(map, index, bytes),
            12 => set::<12>(map, index, bytes),
            36 => set::<36>(map, index, bytes),
            48 => set::<48>(map, index, bytes),
            4104 => set::<4104>(map, index, bytes),
            other => anyhow::bail!("no map has values of {other} bytes"),
        }
    }
}

fn set<const N: usize>(map: Map, index: u32, bytes: &[u8]) -> Result<()> {
    let mut array: Array<_, [u8; N]> = map.try_into()?;
    Ok(array.set(index, <[u8; N]>::try_from(bytes)?, 0)?)
}

/// The group of the nth route.
fn group_of(nth: u32) -> u32 {
    GroupId::FIRST.0 + nth % GROUPS
}
