//! A map is full: `groups` holds 4,096 sets of next hops, and peers announce more. Each prefix has a set of its own here,
//! which its number's bits name.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use causeway_maps::catalogue::MAX_GROUPS;
use support::causeway::{Causeway, Config};
use support::forwarding::group_of;
use support::peer::{Implementation, Neighbor, Peer, Router};
use support::raw::{self, OpenFields, RawPeer};
use support::traffic::Probes;
use support::{Lab, Node, wait_until};

use super::LIMIT;
use super::fan::{check, number};

/// Links, each with a session: sets of them are the numbers of this many bits.
const LINKS: usize = 13;
/// Announced first; they fit beside what the router itself needs.
const FITTING: u32 = 4_000;
/// Announced in all.
const ALL: u32 = 4_200;
const OUR_ASN: u32 = 65_000;
const FAR_ASN: u32 = 65_001;
const NORTH_ASN: u32 = 65_200;

const _: () = assert!(FITTING < MAX_GROUPS && MAX_GROUPS < ALL);

#[test]
fn what_a_full_map_does_not_take_is_named_and_not_announced_and_the_rest_is_as_before() {
    Lab::test(|lab| {
        let mut stage = Stage::start(lab)?;
        stage.say(1..=FITTING, true)?;
        stage.wait_heard(FITTING)?;
        let samples = [1, 2_047, FITTING];
        for n in samples {
            let address = Ipv4Addr::from(network(n) + 1).into();
            let ways = group_of(&stage.router, address)?.len();
            ensure!(ways == n.count_ones() as usize, "{address} has {ways} ways");
        }
        let stream = |n| {
            let address = Ipv4Addr::from(network(n) + 1).into();
            let every = Duration::from_millis(1);
            Probes::start(&stage.north, &stage.far, address, super::fan::FLOWS, every)
        };
        let streams = samples.map(stream);

        stage.say(FITTING + 1..=ALL, true)?;
        let refused = wait_until("the map to be full", LIMIT, || {
            let refused = stage.refused()?;
            // Ids that are no group's, and the groups of neighbours, take room too.
            ensure!(
                refused > u64::from(ALL - MAX_GROUPS),
                "{refused} are refused"
            );
            let heard = stage.heard()?;
            ensure!(
                heard + refused == u64::from(ALL),
                "{heard} announced and {refused} refused of {ALL}"
            );
            Ok(refused)
        })?;
        println!("{refused} of {ALL} prefixes are refused");
        let status = stage.causeway.ask(["status"])?;
        let named = &status["dataplane"]["refusedRoutes"][0];
        let prefix = named["prefix"].as_str().context("none is named")?;
        let reason = named["reason"].as_str().context("no reason")?;
        ensure!(reason.contains("groups"), "{named}");
        let heard = stage
            .north_peer
            .wait_no_route(prefix, Duration::from_secs(1));
        heard.context("a prefix that is not forwarded is announced")?;

        // There is room again: those left out come in by themselves.
        stage.say(3..=2 + ALL - FITTING, false)?;
        stage.wait_heard(FITTING)?;
        ensure!(stage.refused()? == 0, "some are still refused");
        let reports = streams.map(|stream| stream.and_then(Probes::finish));
        let reports = reports.into_iter().collect::<Result<Vec<_>>>()?;
        check("while the map was full", &reports, Duration::ZERO)?;
        let verified = stage.causeway.ask(["map", "verify"])?;
        let differences = verified["differences"].as_array().map(Vec::len);
        ensure!(differences == Some(0), "{verified}");
        Ok(())
    });
}

struct Stage {
    north: Node,
    router: Node,
    far: Node,
    causeway: Causeway,
    north_peer: Peer,
    far_peers: Vec<RawPeer>,
}

impl Stage {
    fn start(lab: &Lab) -> Result<Self> {
        let (north, router, far) = (lab.node("north")?, lab.node("router")?, lab.node("far")?);
        north.link("eth0", &router, "north")?;
        north.address("eth0", ["10.1.0.10/24"])?;
        router.address("north", ["10.1.0.1/24"])?;
        north.ip(["route add default via 10.1.0.1"])?;
        let mut ours = Router::new(OUR_ASN, [10, 0, 0, 1]);
        for link in 0..LINKS {
            router.link(&format!("up{link}"), &far, &format!("up{link}"))?;
            router.address(&format!("up{link}"), [format!("10.0.{link}.1/24")])?;
            far.address(&format!("up{link}"), [format!("10.0.{link}.2/24")])?;
            let (own, their) = (format!("10.0.{link}.1"), format!("10.0.{link}.2"));
            ours = ours.neighbor(Neighbor {
                passive: true,
                ..Neighbor::new(&own, &their, FAR_ASN)
            });
        }
        ours = ours.neighbor(Neighbor::new("10.1.0.1", "10.1.0.10", NORTH_ASN));
        // All that is announced is there.
        far.ip([
            "route add local 20.0.0.0/8 dev lo",
            "route add default via 10.0.0.1",
        ])?;
        let links = (0..LINKS).map(|link| format!("up{link}"));
        let config = Config::transit(ours, links.chain(["north".to_owned()]));
        let causeway = Causeway::start(&router, config)?;
        let listener = Router::new(NORTH_ASN, [10, 1, 0, 10]).neighbor(Neighbor::new(
            "10.1.0.10",
            "10.1.0.1",
            OUR_ASN,
        ));
        let mut north_peer = Peer::start(Implementation::Bird, &north, listener)?;
        let mut far_peers = Vec::new();
        for link in 0..LINKS {
            far_peers.push(establish(&far, u8::try_from(link)?)?);
        }
        north_peer.wait_established(LIMIT)?;
        Ok(Self {
            north,
            router,
            far,
            causeway,
            north_peer,
            far_peers,
        })
    }

    /// Announces these prefixes by the links that their bits name, or withdraws them.
    fn say(&mut self, prefixes: std::ops::RangeInclusive<u32>, announce: bool) -> Result<()> {
        for (link, peer) in (0..).zip(&mut self.far_peers) {
            let own: Vec<u32> = prefixes.clone().filter(|n| n >> link & 1 == 1).collect();
            let attributes = raw::attributes(FAR_ASN, Ipv4Addr::new(10, 0, link, 2));
            // As many as a message of 4,096 bytes takes.
            for part in own.chunks(1_000) {
                let encode = |n: &u32| {
                    let [a, b, c, _] = network(*n).to_be_bytes();
                    [24, a, b, c]
                };
                let encoded: Vec<u8> = part.iter().flat_map(encode).collect();
                peer.send(&match announce {
                    true => raw::update(&[], &attributes, &encoded),
                    false => raw::update(&encoded, &[], &[]),
                })?;
            }
        }
        Ok(())
    }

    /// Waits until `north` has heard exactly so many prefixes, and all of them are in the maps.
    fn wait_heard(&self, prefixes: u32) -> Result<()> {
        wait_until(&format!("{prefixes} prefixes at north"), LIMIT, || {
            let heard = self.heard()?;
            ensure!(heard == u64::from(prefixes), "{heard}");
            let status = self.causeway.api("/v1/status")?;
            let dataplane = &status["dataplane"];
            ensure!(
                dataplane["desiredGeneration"] == dataplane["programmedGeneration"],
                "{dataplane}"
            );
            Ok(())
        })
    }

    fn heard(&self) -> Result<u64> {
        let text = self.north_peer.session("10.1.0.1")?.text;
        number(&text, "Routes:").context("no count of routes")
    }

    fn refused(&self) -> Result<u64> {
        let status = self.causeway.api("/v1/status")?;
        status["dataplane"]["refused"]
            .as_u64()
            .context("the status doesn't count what is refused")
    }
}

fn network(n: u32) -> u32 {
    (20 << 24) + (n << 8)
}

/// A session without hold time, whose messages are read away.
fn establish(far: &Node, link: u8) -> Result<RawPeer> {
    let open = OpenFields {
        hold_time: 0,
        ..OpenFields::new(FAR_ASN, [10, 0, link, 2])
    };
    let (own, their) = (Ipv4Addr::new(10, 0, link, 2), Ipv4Addr::new(10, 0, link, 1));
    let peer = RawPeer::establish(far, own, their, &open.encode())?;
    let mut reader = peer.try_clone()?;
    reader.limit_reads(Duration::from_secs(600))?;
    // Ends with the connection.
    std::thread::spawn(move || while reader.read().is_ok() {});
    Ok(peer)
}
