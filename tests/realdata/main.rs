//! Real routing data through real sessions: recordings of RIPE's RIS are replayed, byte for byte, and what arrives is held
//! against somebody else's reading of them.

mod fib;
mod kernel;
mod mrt;
mod oracle;
mod replayer;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::causeway::{Causeway, Config};
use support::peer::{Family, Implementation, Neighbor, Peer, Router};
use support::{Lab, Node, wait_until};

use mrt::RecordedPeer;
use oracle::{Route, Table};
use replayer::{Replayer, Target, router_id};

const OUR_AS: u32 = 64_600;
const THEIR_AS: u32 = 64_601;
/// The peer of the table dump that gives a whole view of the Internet of its day.
const FULL_VIEW: &str = "193.203.0.1";
const FULL_VIEW_PREFIXES: usize = 112_986;
const RECORDED_PEERS: usize = 40;
/// For a table to arrive, on two loaded cores.
const ARRIVAL: Duration = Duration::from_secs(180);

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("data/ris")
        .join(name)
}

#[test]
fn the_internet_of_2002_comes_whole_and_equal_through_bird() {
    Lab::test(|lab| full_view_through(lab, Implementation::Bird));
}

#[test]
fn the_internet_of_2002_comes_whole_and_equal_through_frr() {
    Lab::test(|lab| full_view_through(lab, Implementation::Frr));
}

/// Replayer → `implementation` → us.
fn full_view_through(lab: &Lab, implementation: Implementation) -> Result<()> {
    let file = data("ris-bview-20020722-2337.gz");
    let peer: IpAddr = FULL_VIEW.parse()?;
    let recorded = mrt::read(&file)?
        .remove(&peer)
        .context("the full view is not in the recording")?;
    let mut expected = oracle::tables(&file)?
        .remove(&peer)
        .context("bgpdump finds no full view")?;
    ensure!(
        expected.len() == FULL_VIEW_PREFIXES,
        "bgpdump finds {} prefixes",
        expected.len()
    );

    let (source, router, us) = (lab.node("source")?, lab.node("router")?, lab.node("us")?);
    source.link("eth1", &router, "eth0")?;
    router.link("eth1", &us, "eth0")?;
    source.address("eth1", ["10.71.0.1/24"])?;
    // The recorded next hops are in this subnet; routers drop routes to next hops that they are not connected to.
    router.address("eth0", ["10.71.0.2/24", "193.203.0.254/24"])?;
    router.address("eth1", ["10.72.0.1/24"])?;
    us.address("eth0", ["10.72.0.2/24"])?;

    let mut passer = Router::new(THEIR_AS, [10, 72, 0, 1])
        .neighbor(Neighbor::new("10.71.0.2", "10.71.0.1", recorded.asn))
        .neighbor(Neighbor::new("10.72.0.1", "10.72.0.2", OUR_AS));
    passer.neighbors[0].passive = true;
    let ours = Router::new(OUR_AS, [10, 72, 0, 2]).neighbor(Neighbor::new(
        "10.72.0.2",
        "10.72.0.1",
        THEIR_AS,
    ));
    let mut causeway = Causeway::start(&us, Config::speaker(ours))?;
    let _passer = Peer::start(implementation, &router, passer)?;
    causeway.wait_established(ARRIVAL)?;
    let replayer = replay(&source, "10.71.0.1".parse()?, "10.71.0.2", &recorded)?;

    let received = || received_prefixes(&causeway.neighbor("10.72.0.1")?);
    wait_until("the whole view", ARRIVAL, || {
        let received = received()?;
        ensure!(
            received >= FULL_VIEW_PREFIXES,
            "{received} of {FULL_VIEW_PREFIXES} prefixes"
        );
        Ok(())
    })?;
    let mut found = loc_rib(&causeway)?;
    if implementation == Implementation::Frr {
        // FRR sorts the members of AS_SETs, which have no order, and drops repeated ones.
        for route in expected
            .values_mut()
            .chain(found.values_mut().map(|(_, route)| route))
        {
            route.as_path = sorted_sets(&route.as_path);
        }
    }
    let expected = expected.into_iter().map(|(prefix, mut route)| {
        route.as_path = format!("{THEIR_AS} {}", route.as_path);
        // MED is not passed on to another AS (RFC 4271 5.1.4).
        route.med = 0;
        (prefix, ("peer0".to_owned(), route))
    });
    same(&expected.collect(), &found)?;
    replayer.finish()
}

#[test]
fn the_updates_of_forty_peers_leave_what_a_naive_model_says() {
    Lab::test(|lab| {
        let file = data("ris-updates-20160811-1600.gz");
        let recording = mrt::read(&file)?;
        ensure!(
            recording.len() == RECORDED_PEERS,
            "{} peers are in the recording",
            recording.len()
        );
        let mut tables = oracle::tables(&file)?;

        let (source, us, below) = (lab.node("source")?, lab.node("us")?, lab.node("below")?);
        source.link("eth1", &us, "eth0")?;
        us.link("eth1", &below, "eth0")?;
        us.address("eth0", ["10.40.1.0/16", "fd00:40::100/64"])?;
        us.address("eth1", ["10.73.0.1/24", "fd00:73::1/64"])?;
        below.address("eth0", ["10.73.0.2/24", "fd00:73::2/64"])?;

        let mut ours = Router::new(OUR_AS, [10, 40, 1, 0]);
        let mut peers = Vec::new();
        for (n, (recorded_addr, peer)) in (1_u8..).zip(&recording) {
            let (local, address) = match recorded_addr {
                IpAddr::V4(_) => ("10.40.1.0", format!("10.40.0.{n}")),
                IpAddr::V6(_) => ("fd00:40::100", format!("fd00:40::{n:x}")),
            };
            source.address(
                "eth1",
                [format!(
                    "{address}/{}",
                    if address.contains(':') { 64 } else { 16 }
                )],
            )?;
            ours = ours.neighbor(Neighbor {
                passive: true,
                ..Neighbor::new(local, &address, peer.asn).both_families()
            });
            peers.push((
                format!("peer{}", n - 1),
                address.parse::<IpAddr>()?,
                *recorded_addr,
                local,
            ));
        }
        ours = ours.neighbor(Neighbor::new("10.73.0.1", "10.73.0.2", THEIR_AS).both_families());
        let bird = Router::new(THEIR_AS, [10, 73, 0, 2])
            .neighbor(Neighbor::new("10.73.0.2", "10.73.0.1", OUR_AS).both_families());
        let causeway = Causeway::start(&us, Config::speaker(ours))?;
        let mut bird = Peer::start(Implementation::Bird, &below, bird)?;
        bird.wait_established(ARRIVAL)?;

        let mut replayers = Vec::new();
        for (_, address, recorded_addr, local) in &peers {
            replayers.push(replay(&source, *address, local, &recording[recorded_addr])?);
        }
        let empty = Table::new();
        for (name, address, recorded_addr, _) in &peers {
            let expected = tables.entry(*recorded_addr).or_default();
            wait_until(&format!("what {recorded_addr} sent"), ARRIVAL, || {
                let found = received_prefixes(&causeway.neighbor(&address.to_string())?)?;
                ensure!(
                    found == expected.len(),
                    "{found} of {} prefixes",
                    expected.len()
                );
                Ok(())
            })?;
            let found = received(&causeway, name)?;
            same(expected, &found).with_context(|| format!("received from {recorded_addr}"))?;
        }

        let candidates: Vec<_> = peers
            .iter()
            .map(|(_, address, recorded_addr, _)| {
                (
                    router_id(*address),
                    *address,
                    tables.get(recorded_addr).unwrap_or(&empty),
                )
            })
            .collect();
        let names: BTreeMap<_, _> = peers
            .iter()
            .map(|(name, address, ..)| (*address, name.clone()))
            .collect();
        let best: BTreeMap<_, _> = oracle::best(&candidates)
            .into_iter()
            .map(|(prefix, (peer, route))| (prefix, (names[&peer].clone(), route)))
            .collect();
        same(&best, &loc_rib(&causeway)?)?;
        passed_on(&bird, &best)?;
        replayers.into_iter().try_for_each(Replayer::finish)
    });
}

/// BIRD, below us, has every best route and nothing else, with our AS before the path.
fn passed_on(bird: &Peer, best: &BTreeMap<String, (String, Route)>) -> Result<()> {
    wait_until("BIRD to have all best routes", ARRIVAL, || {
        let mut below = BTreeMap::new();
        for family in Family::BOTH {
            below.extend(bird.routes(family)?);
        }
        ensure!(
            below.len() == best.len(),
            "BIRD has {} of {} routes",
            below.len(),
            best.len()
        );
        for (prefix, (_, route)) in best {
            let text = below
                .get(prefix)
                .with_context(|| format!("BIRD lacks {prefix}"))?;
            let path = format!("BGP.as_path: {OUR_AS} {}\n", one_form(&route.as_path));
            ensure!(
                text.contains(&path),
                "BIRD has {prefix} with another path than {path}: {text}"
            );
        }
        Ok(())
    })
}

fn replay(source: &Node, local: IpAddr, daemon: &str, peer: &RecordedPeer) -> Result<Replayer> {
    let target = Target {
        local,
        daemon: SocketAddr::new(daemon.parse()?, 179),
    };
    source.enter(|| Replayer::start(&target, peer))?
}

fn received_prefixes(neighbor: &Value) -> Result<usize> {
    let families = neighbor["families"].as_array().context("no families")?;
    let received = families
        .iter()
        .filter_map(|family| family["received"].as_u64());
    Ok(usize::try_from(received.sum::<u64>())?)
}

/// Best paths: peer and route by prefix.
fn loc_rib(causeway: &Causeway) -> Result<BTreeMap<String, (String, Route)>> {
    let routes = causeway.ask(["bgp", "routes"])?;
    let mut table = BTreeMap::new();
    for route in routes.as_array().context("not a listing")? {
        let paths = route["paths"].as_array().context("no paths")?;
        let best = paths.iter().find(|path| path["status"] == "best");
        let best = best.with_context(|| format!("{route} has no best path"))?;
        let peer = best["peer"].as_str().context("no peer")?.to_owned();
        table.insert(prefix(route)?, (peer, parse(best)?));
    }
    Ok(table)
}

fn received(causeway: &Causeway, peer: &str) -> Result<Table> {
    let routes = causeway.ask(["bgp", "received", peer])?;
    let routes = routes.as_array().context("not a listing")?;
    routes
        .iter()
        .map(|route| Ok((prefix(route)?, parse(route)?)))
        .collect()
}

fn prefix(route: &Value) -> Result<String> {
    Ok(route["prefix"].as_str().context("no prefix")?.to_owned())
}

/// The attributes as received, before import filters.
fn parse(path: &Value) -> Result<Route> {
    let attributes = if path["received"].is_object() {
        &path["received"]
    } else {
        path
    };
    let text = |name: &str| {
        attributes[name]
            .as_str()
            .with_context(|| format!("no {name} in {path}"))
    };
    let communities = attributes["communities"].as_array().into_iter().flatten();
    let mut communities: Vec<String> = communities
        .filter_map(|community| community.as_str().map(str::to_owned))
        .collect();
    communities.sort();
    Ok(Route {
        as_path: one_form(text("asPath")?),
        origin: text("origin")?.to_uppercase(),
        med: u32::try_from(attributes["med"].as_u64().unwrap_or(0))?,
        communities,
    })
}

/// Sets are written with commas by some and with blanks by others.
fn one_form(as_path: &str) -> String {
    as_path.replace(',', " ")
}

fn sorted_sets(as_path: &str) -> String {
    let Some((before, rest)) = as_path.split_once('{') else {
        return as_path.to_owned();
    };
    let Some((set, after)) = rest.split_once('}') else {
        return as_path.to_owned();
    };
    let mut members: Vec<&str> = set.split_whitespace().collect();
    members.sort_unstable();
    members.dedup();
    format!("{before}{{{}}}{}", members.join(" "), sorted_sets(after))
}

/// An error that shows the first few differences.
fn same<T: PartialEq + std::fmt::Debug>(
    expected: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
) -> Result<()> {
    let missing = expected
        .keys()
        .filter(|prefix| !found.contains_key(*prefix));
    let extra = found
        .keys()
        .filter(|prefix| !expected.contains_key(*prefix));
    let other = expected.iter().filter_map(|(prefix, expected)| {
        let found = found.get(prefix)?;
        (found != expected).then(|| format!("{prefix} is {found:?} instead of {expected:?}"))
    });
    let differences: Vec<String> = missing
        .map(|prefix| format!("{prefix} is missing"))
        .chain(extra.map(|prefix| format!("{prefix} is not expected")))
        .chain(other)
        .collect();
    let shown = &differences[..differences.len().min(5)];
    ensure!(
        differences.is_empty(),
        "{} of {} routes differ: {shown:#?}",
        differences.len(),
        expected.len()
    );
    Ok(())
}
