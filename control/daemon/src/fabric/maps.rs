//! The maps as they are: listed, dumped, and compared with what is wanted.

use std::fmt::Debug;

use causeway_api::view as api;
use causeway_datapath::Error;
use causeway_maps::catalogue::{
    CONFIG, FLAT4, FLAT4_ROOTS, GROUPS, LIVENESS, NEXT_HOPS, PODS4, PODS6, PORTS, ROUTES4, ROUTES6,
    TX_PORTS, VLANS,
};
use causeway_maps::{Group, GroupId, MapSpec, NextHop};
use causeway_plan::{Difference, Dump, Key, address_of};

use super::Fabric;

/// Maps that are read.
const MAPS: [&MapSpec; 13] = [
    &ROUTES4,
    &ROUTES6,
    &PODS4,
    &PODS6,
    &FLAT4_ROOTS,
    &FLAT4,
    &GROUPS,
    &NEXT_HOPS,
    &LIVENESS,
    &PORTS,
    &VLANS,
    &TX_PORTS,
    &CONFIG,
];
/// Entries shown at a time.
const MAX_ENTRIES: usize = 100_000;
/// Differences named at a time.
const MAX_DIFFERENCES: usize = 1_000;
/// Routes beyond which maps are compared on demand only: reading more takes the kernel so long that a link that fails would
/// have to wait.
const MAX_ROUTES_VERIFIED: u32 = 100_000;

impl Fabric {
    /// Every map that the planner or the owner of liveness writes.
    pub(crate) fn maps(&self) -> Result<Vec<api::Map>, Error> {
        let dump = self.datapath.dump()?;
        let dead = self.datapath.dead()?.len();
        let map = |spec: &&MapSpec| api::Map {
            name: spec.name.to_owned(),
            entries: size(&dump, dead, spec.name),
            capacity: spec.max_entries,
        };
        Ok(MAPS.iter().map(map).collect())
    }

    /// The entries of a map; `None` if there is no such map.
    pub(crate) fn map_entries(&self, name: &str) -> Result<Option<Vec<api::MapEntry>>, Error> {
        let dump = self.datapath.dump()?;
        let dead = self.datapath.dead()?;
        let entries: Vec<api::MapEntry> = match name {
            _ if name == ROUTES4.name => all(&dump.routes4, |k| Key::Route4(*k), group),
            _ if name == ROUTES6.name => all(&dump.routes6, |k| Key::Route6(*k), group),
            _ if name == PODS4.name => all(&dump.pods4, |k| Key::Pod4(*k), group),
            _ if name == PODS6.name => all(&dump.pods6, |k| Key::Pod6(*k), group),
            _ if name == FLAT4_ROOTS.name => all(&dump.flat4_roots, |k| Key::Flat4Root(*k), debug),
            _ if name == FLAT4.name => all(
                &dump.flat4,
                |k| Key::Flat4Row(*k),
                |row| {
                    let groups: Vec<String> = row.groups.iter().map(u32::to_string).collect();
                    groups.join(" ")
                },
            ),
            _ if name == GROUPS.name => all(&dump.groups, |k| Key::Group(*k), slots),
            _ if name == NEXT_HOPS.name => all(&dump.next_hops, |k| Key::NextHop(*k), next_hop),
            _ if name == LIVENESS.name => dead
                .iter()
                .map(|(id, bits)| entry(&Key::NextHop(*id), format!("dead {bits:#x}")))
                .collect(),
            _ if name == PORTS.name => all(&dump.ports, |k| Key::Port(*k), debug),
            _ if name == VLANS.name => all(&dump.vlans, |k| Key::Vlan(*k), debug),
            _ if name == TX_PORTS.name => dump
                .tx_ports
                .iter()
                .map(|ifindex| entry(&Key::Port(*ifindex), "sends".to_owned()))
                .collect(),
            _ if name == CONFIG.name => dump
                .config
                .iter()
                .map(|config| entry(&Key::Config, debug(config)))
                .collect(),
            _ => return Ok(None),
        };
        Ok(Some(entries))
    }

    /// Compares every entry with what is wanted.
    pub(crate) fn verify(&self) -> Result<api::MapVerification, Error> {
        let dump = self.datapath.dump()?;
        let differences = self.planner.verify(&dump, MAX_DIFFERENCES);
        Ok(api::MapVerification {
            entries: MAPS.iter().map(|spec| size(&dump, 0, spec.name)).sum(),
            settled: self.planner.summary().settled,
            differences: differences.iter().map(difference).collect(),
        })
    }

    /// Puts right what somebody else changed, and counts it.
    pub(super) fn repair(&mut self) {
        let summary = self.planner.summary();
        if !summary.settled || summary.routes4 + summary.routes6 > MAX_ROUTES_VERIFIED {
            return;
        }
        let dump = match self.datapath.dump() {
            Ok(dump) => dump,
            Err(error) => return self.fail(error.to_string()),
        };
        let differences = self.planner.verify(&dump, MAX_DIFFERENCES);
        for found in &differences {
            let (Difference::Missing(key) | Difference::Unexpected(key) | Difference::Other(key)) =
                found;
            if self.repaired == 0 {
                tracing::warn!(entry = %key, "a map was changed by somebody else and is put right");
            }
            self.repaired += 1;
            self.planner.rewrite(*key);
        }
    }
}

fn size(dump: &Dump, dead: usize, map: &str) -> usize {
    match map {
        _ if map == ROUTES4.name => dump.routes4.len(),
        _ if map == ROUTES6.name => dump.routes6.len(),
        _ if map == PODS4.name => dump.pods4.len(),
        _ if map == PODS6.name => dump.pods6.len(),
        _ if map == FLAT4_ROOTS.name => dump.flat4_roots.len(),
        _ if map == FLAT4.name => {
            let octets: std::collections::BTreeSet<u8> =
                dump.flat4.keys().map(|[octet, _]| *octet).collect();
            octets.len()
        }
        _ if map == GROUPS.name => dump.groups.len(),
        _ if map == NEXT_HOPS.name => dump.next_hops.len(),
        _ if map == LIVENESS.name => dead,
        _ if map == PORTS.name => dump.ports.len(),
        _ if map == VLANS.name => dump.vlans.len(),
        _ if map == TX_PORTS.name => dump.tx_ports.len(),
        _ => usize::from(dump.config.is_some()),
    }
}

fn all<K, V>(
    map: &std::collections::BTreeMap<K, V>,
    key: impl Fn(&K) -> Key,
    value: impl Fn(&V) -> String,
) -> Vec<api::MapEntry> {
    let entries = map.iter().take(MAX_ENTRIES);
    entries.map(|(k, v)| entry(&key(k), value(v))).collect()
}

fn entry(key: &Key, value: String) -> api::MapEntry {
    api::MapEntry {
        key: key.to_string(),
        value,
    }
}

fn group(group: &GroupId) -> String {
    match *group {
        GroupId::PUNT => "punt".to_owned(),
        GroupId::BLACKHOLE => "blackhole".to_owned(),
        GroupId(id) => format!("group {id}"),
    }
}

/// How many slots each next hop leads.
fn slots(group: &Group) -> String {
    let mut leads = std::collections::BTreeMap::<u16, u32>::new();
    for slot in &group.slots {
        *leads.entry(slot.order[0]).or_default() += 1;
    }
    let leads = leads.iter();
    let leads: Vec<String> = leads
        .map(|(id, slots)| format!("next hop {id} ({slots} slots)"))
        .collect();
    leads.join(", ")
}

fn next_hop(hop: &NextHop) -> String {
    let mac = |mac: [u8; 6]| causeway_net::MacAddr(mac).to_string();
    format!(
        "{} dev {} tx {} vlan {} mtu {} flags {:#x} from {} to {}",
        address_of(hop),
        hop.ifindex,
        hop.tx_ifindex,
        hop.vlan,
        hop.mtu,
        hop.flags,
        mac(hop.src_mac),
        mac(hop.dst_mac)
    )
}

fn debug(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn difference(found: &Difference) -> api::MapDifference {
    let (kind, key) = match found {
        Difference::Missing(key) => ("missing", key),
        Difference::Unexpected(key) => ("unexpected", key),
        Difference::Other(key) => ("different", key),
    };
    api::MapDifference {
        entry: key.to_string(),
        kind: kind.to_owned(),
    }
}
