//! Who forwarded: the kernel's counters, and the dataplane's maps read by `bpftool`, which is not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, ensure};
use causeway_maps::{Hook, Outcome, Reason};
use serde_json::Value;

use crate::Node;

/// Packets that a node's kernel forwarded, IPv4 and IPv6.
pub fn kernel_forwarded(node: &Node) -> Result<u64> {
    let (v4, v6) = node.enter(|| {
        (
            fs::read_to_string("/proc/thread-self/net/snmp"),
            fs::read_to_string("/proc/thread-self/net/snmp6"),
        )
    })?;
    let v4 = snmp(&v4?, "Ip", "ForwDatagrams").context("no ForwDatagrams")?;
    let v6 = v6?
        .lines()
        .find_map(|line| {
            line.strip_prefix("Ip6OutForwDatagrams")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .context("no Ip6OutForwDatagrams")?;
    Ok(v4 + v6)
}

/// A line of names, then a line of values.
fn snmp(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let at = lines.next()?.split(' ').position(|word| word == name)?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

/// Packets by what XDP did with them, over all CPUs.
pub fn counters(node: &Node) -> Result<BTreeMap<Reason, u64>> {
    counters_at(node, Hook::Xdp)
}

/// Packets by what the program at `hook` did with them, over all CPUs.
pub fn counters_at(node: &Node, hook: Hook) -> Result<BTreeMap<Reason, u64>> {
    let dump = bpftool(node, "counters", &["dump"], &[])?;
    let mut counters = BTreeMap::new();
    for entry in dump.as_array().into_iter().flatten() {
        let entry = entry.get("formatted").unwrap_or(entry);
        let slot = entry["key"].as_u64().context("a counter without a key")?;
        let mut reasons = Reason::ALL.iter();
        let Some(reason) = reasons.find(|reason| u64::from(hook.slot(**reason)) == slot) else {
            continue;
        };
        let packets = entry["values"]
            .as_array()
            .context("a counter without values")?
            .iter()
            .filter_map(|cpu| cpu["value"]["packets"].as_u64())
            .sum();
        counters.insert(*reason, packets);
    }
    ensure!(!counters.is_empty(), "bpftool shows no counters: {dump}");
    Ok(counters)
}

/// Packets that XDP sent on.
pub fn xdp_forwarded(node: &Node) -> Result<u64> {
    forwarded_at(node, Hook::Xdp)
}

/// Packets that the program at `hook` sent on.
pub fn forwarded_at(node: &Node, hook: Hook) -> Result<u64> {
    Ok(counters_at(node, hook)?
        .into_iter()
        .filter(|(reason, _)| reason.outcome() == Outcome::Forwarded)
        .map(|(_, packets)| packets)
        .sum())
}

/// Members of the ECMP group that the dataplane would use for `address`, as next-hop ids.
pub fn group_of(node: &Node, address: IpAddr) -> Result<Vec<u64>> {
    // The key of an LPM look-up is a host prefix.
    let (map, length, octets) = match address {
        IpAddr::V4(address) => ("routes4", 32_u32, address.octets().to_vec()),
        IpAddr::V6(address) => ("routes6", 128, address.octets().to_vec()),
    };
    let key: Vec<u8> = length.to_ne_bytes().into_iter().chain(octets).collect();
    let route = bpftool(node, map, &["lookup"], &key)?;
    let group = formatted_value(&route)
        .as_u64()
        .with_context(|| format!("{map} holds no group for {address}: {route}"))?;
    let key = u32::try_from(group)?.to_ne_bytes();
    let group = bpftool(node, "groups", &["lookup"], &key)?;
    let value = formatted_value(&group);
    let slots = value["slots"].as_array().context("a group without slots")?;
    let preferred: BTreeSet<u64> = slots
        .iter()
        .filter_map(|slot| slot["order"].get(0)?.as_u64())
        .filter(|id| *id != 0)
        .collect();
    Ok(preferred.into_iter().collect())
}

fn formatted_value(entry: &Value) -> &Value {
    entry
        .get("formatted")
        .map_or_else(|| &entry["value"], |formatted| &formatted["value"])
}

fn bpftool(node: &Node, map: &str, verb: &[&str], key: &[u8]) -> Result<Value> {
    let found = node.run("find", ["/sys/fs/bpf/causeway", "-name", map])?;
    let pin = found
        .lines()
        .next()
        .ok_or_else(|| anyhow!("no map {map} is pinned on {}", node.name()))?;
    let mut args: Vec<String> = vec!["-j".into(), "map".into()];
    args.extend(verb.iter().map(ToString::to_string));
    args.extend(["pinned".into(), pin.to_owned()]);
    if !key.is_empty() {
        args.push("key".into());
        args.extend(key.iter().map(ToString::to_string));
    }
    let text = node.run("bpftool", &args)?;
    serde_json::from_str(&text).with_context(|| format!("bpftool answered {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_column() {
        let text = "Ip: Forwarding DefaultTTL ForwDatagrams\nIp: 1 64 17\nIcmp: InMsgs\nIcmp: 3\n";
        assert_eq!(snmp(text, "Ip", "ForwDatagrams"), Some(17));
        assert_eq!(snmp(text, "Ip", "Nothing"), None);
    }
}
