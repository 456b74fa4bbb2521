//! Two of our nodes on one kernel, each with its own network and mounts, both under default names: neither sees the other.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::forwarding::xdp_forwarded;
use support::traffic::Probes;
use support::{Lab, Node};

use super::LIMIT;
use super::fan::{Fan, Plan, SERVERS, check};

const PINS: &str = "/sys/fs/bpf/causeway";

#[test]
fn two_nodes_on_one_kernel_share_nothing_and_one_ends_without_the_other() {
    Lab::test(|lab| {
        let plan = |name, more: &str| Plan {
            name,
            more: vec![more.to_owned()],
            ..Plan::new(2)
        };
        let mut one = Fan::start(lab, plan("a-", "192.0.2.0/24"))?;
        let mut other = Fan::start(lab, plan("b-", "198.18.0.0/15"))?;
        one.causeway.wait_paths("192.0.2.0/24", 2, LIMIT)?;
        other.causeway.wait_paths("198.18.0.0/15", 2, LIMIT)?;

        // The same names, other things.
        let (pins, other_pins) = (pins(&one.router)?, pins(&other.router)?);
        ensure!(
            pins.len() > 15 && pins == other_pins,
            "{pins:?} {other_pins:?}"
        );
        let (ids, other_ids) = (objects(&one.router)?, objects(&other.router)?);
        ensure!(ids.len() > 15 && ids.len() == other_ids.len(), "{ids:?}");
        ensure!(ids.is_disjoint(&other_ids), "{ids:?} {other_ids:?}");
        for (fan, own, foreign) in [
            (&one, "192.0.2.0/24", "198.18.0.0/15"),
            (&other, "198.18.0.0/15", "192.0.2.0/24"),
        ] {
            let name = fan.router.name();
            let status = fan.causeway.ask(["status"])?;
            ensure!(status["nodeName"] == name, "{status}");
            let entries = fan.causeway.ask(["map", "dump", "routes4"])?.to_string();
            ensure!(
                entries.contains(own) && !entries.contains(foreign),
                "{entries}"
            );
            let kernel = fan.router.run("ip", ["route", "show", "proto", "67"])?;
            ensure!(
                kernel.contains(own) && !kernel.contains(foreign),
                "{kernel}"
            );
        }

        // Only what one is sent shows in its counters.
        let before = (xdp_forwarded(&one.router)?, xdp_forwarded(&other.router)?);
        let reports = one.probe(&SERVERS, |_| Ok(()))?;
        check("one alone", &reports, Duration::ZERO)?;
        let after = (xdp_forwarded(&one.router)?, xdp_forwarded(&other.router)?);
        let arrived: u64 = reports.iter().map(|report| report.arrived).sum();
        ensure!(after.0 - before.0 >= arrived, "{before:?} {after:?}");
        ensure!(after.1 - before.1 < arrived / 10, "{before:?} {after:?}");

        // One's daemon ends; both forward on. Then its programs and maps go, and then all of it.
        let streams = other.streams(&SERVERS)?;
        let reports = one.probe(&SERVERS, |one| {
            one.causeway.stop()?;
            std::thread::sleep(Duration::from_millis(300));
            Ok(())
        })?;
        check("one without its daemon", &reports, Duration::ZERO)?;
        one.router.run("rm", ["-r", PINS])?;
        ensure!(objects(&other.router)? == other_ids, "the other's changed");
        let router = one.router.clone();
        drop(one);
        lab.remove(router)?;
        std::thread::sleep(Duration::from_millis(300));
        let reports = streams
            .into_iter()
            .map(Probes::finish)
            .collect::<Result<Vec<_>>>()?;
        check("the other meanwhile", &reports, Duration::ZERO)?;
        other.causeway.process().check_running()?;
        other.wait_members(2)?;
        let verified = other.causeway.ask(["map", "verify"])?;
        ensure!(
            verified["differences"] == Value::Array(Vec::new()),
            "{verified}"
        );
        Ok(())
    });
}

/// Names below the directory of pins.
fn pins(node: &Node) -> Result<BTreeSet<String>> {
    let found = node.run("find", [PINS, "-type", "f", "-printf", "%P\\n"])?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// Kinds and ids of what is pinned there.
fn objects(node: &Node) -> Result<BTreeSet<(&'static str, u64)>> {
    let mut objects = BTreeSet::new();
    for pin in pins(node)? {
        let path = format!("{PINS}/{pin}");
        let kind = ["map", "link", "prog"].into_iter().find_map(|kind| {
            let shown = node.run("bpftool", ["-j", kind, "show", "pinned", &path]);
            let shown: Value = serde_json::from_str(&shown.ok()?).ok()?;
            Some((kind, shown["id"].as_u64()?))
        });
        objects.insert(kind.with_context(|| format!("bpftool doesn't know {path}"))?);
    }
    Ok(objects)
}
