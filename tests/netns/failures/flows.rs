//! Which flows move when one member of eight goes, and when it comes back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use support::flows::Ways;
use support::{Lab, Node};

use super::fan::{Fan, Plan, SERVERS, interface};
use super::full;

const LINKS: usize = 8;
/// The member that goes.
const LOST: usize = 3;

#[test]
fn only_the_flows_of_a_lost_member_move_and_they_come_back_with_it() {
    Lab::test(|lab| {
        let mut fan = Fan::start(lab, Plan::new(LINKS))?;
        let sources = sources(&fan.north)?;
        let lost = ifindex(&fan.far, &interface(LOST))?;
        let before = measured(&fan, &sources)?;
        for ways in &before {
            ensure!(ways.shares().len() == LINKS, "{:?}", ways.shares());
        }
        fan.cut(&[LOST])?;
        fan.wait_members(LINKS - 1)?;
        let without = measured(&fan, &sources)?;
        fan.mend(&[LOST])?;
        fan.wait_sessions()?;
        fan.wait_members(LINKS)?;
        let again = measured(&fan, &sources)?;

        for ((before, without), again) in before.iter().zip(&without).zip(&again) {
            few_moved("a member went", before, without)?;
            for (from, _) in without.moved(before) {
                ensure!(from == lost, "a flow of another member moved");
            }
            let by = without.shares();
            ensure!(!by.contains_key(&lost) && by.len() == LINKS - 1, "{by:?}");
            even("the others", &by)?;
            few_moved("it came back", without, again)?;
            for (_, to) in again.moved(without) {
                ensure!(to == lost, "a flow moved that did not have to");
            }
            even("all again", &again.shares())?;
            let elsewhere = again.moved(before).count();
            println!("{elsewhere} flows are not where they were at first");
            ensure!(elsewhere == 0, "flows did not find their member again");
        }
        Ok(())
    });
}

/// The ways to each server.
fn measured(fan: &Fan, sources: &[Vec<IpAddr>; 2]) -> Result<Vec<Ways>> {
    let flows = if full() { 262_144 } else { 32_768 };
    let pairs = SERVERS.into_iter().zip(sources);
    pairs
        .map(|(server, sources)| Ways::of(&fan.north, sources, &fan.far, server.parse()?, flows))
        .collect()
}

/// No more than the lost member's, and one in a hundred.
fn few_moved(what: &str, before: &Ways, after: &Ways) -> Result<()> {
    let moved = after.moved(before).count();
    let (flows, limit) = (
        before.flows(),
        before.flows() / LINKS + before.flows() / 100,
    );
    println!("{what}: {moved} of {flows} flows moved, {limit} may");
    ensure!(moved > 0, "{what}, and no flow noticed");
    ensure!(moved <= limit, "{what}: {moved} of {flows} flows moved");
    Ok(())
}

/// Nobody has a tenth more than its part.
fn even(what: &str, shares: &BTreeMap<u32, usize>) -> Result<()> {
    let all: usize = shares.values().sum();
    let most = shares.values().max().context("no flows")?;
    ensure!(
        most * shares.len() * 10 <= all * 11,
        "{what} are not even: {shares:?}"
    );
    Ok(())
}

/// Addresses of `node` beside its first, to have more ports to send from, by family.
pub(super) fn sources(node: &Node) -> Result<[Vec<IpAddr>; 2]> {
    let v4: Vec<String> = (0..16).map(|n| format!("10.1.0.{}", 100 + n)).collect();
    let v6: Vec<String> = (0..16)
        .map(|n| format!("fd00:1::{:x}", 0x100 + n))
        .collect();
    node.address("eth0", v4.iter().map(|address| format!("{address}/24")))?;
    node.address("eth0", v6.iter().map(|address| format!("{address}/64")))?;
    let parsed = |texts: Vec<String>| -> Result<Vec<IpAddr>> {
        texts.iter().map(|text| Ok(text.parse()?)).collect()
    };
    Ok([parsed(v4)?, parsed(v6)?])
}

/// The index of an interface of `node`.
pub(super) fn ifindex(node: &Node, interface: &str) -> Result<u32> {
    Ok(node.enter(|| nix::net::if_::if_nametoindex(interface))??)
}
