//! What an operator does and meets: peers further away, peers that come by themselves, limits, resets, silence, new keys.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::capture::Capture;
use support::causeway::{Causeway, Config};
use support::peer::{Implementation, Neighbor, Router};
use support::raw::{self, OpenFields, RawPeer};
use support::{Lab, Node, wait_until};

use crate::pair::{LIMIT, OUR_ASN, OURS, Pair, Plan, THEIRS, THEM, US, with_every_peer};

with_every_peer!(
    a_session_crosses_a_router,
    a_peer_from_a_range_is_accepted,
    a_peer_that_falls_silent_is_given_up,
    a_peer_beyond_its_limit_may_come_back_in_time,
    a_limit_may_only_warn,
    the_peers_reset_is_told,
    our_reset_is_told,
    our_routes_may_be_sent_again,
    med_and_prepends_are_carried,
    a_new_md5_key_comes_into_force,
);

/// Two hops: what leaves with a TTL of 1, as towards a neighbour next door, does not get there.
fn a_session_crosses_a_router(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new()
        .sessions(|n| n.multihop = Some(2))
        .start_across_a_router(lab, implementation)?;
    pair.us.wait_established(LIMIT)?;
    pair.them.wait_established(LIMIT)?;
    pair.wait_exchanged()?;
    let path = pair.us.wait_route(THEIRS[0], LIMIT)?;
    ensure!(path["nextHop"] == THEM[0], "{path}");
    Ok(())
}

#[test]
fn a_session_that_may_not_cross_a_router_does_not() {
    Lab::test(|lab| {
        let mut plan = Plan::new();
        // Theirs would get here; ours must not get there.
        plan.them.neighbors[0].multihop = Some(2);
        plan.us.neighbors[0].passive = true;
        for router in [&mut plan.us, &mut plan.them] {
            router.neighbors[1].multihop = Some(2);
        }
        let mut pair = plan.start_across_a_router(lab, Implementation::Bird)?;
        let capture = Capture::start(pair.us.node(), "eth0", "tcp port 179")?;
        // The session over IPv6 shows that there was time.
        wait_until("the session that may", LIMIT, || {
            let session = pair.us.session(THEM[1])?;
            ensure!(session.established, "{}", session.text);
            Ok(())
        })?;
        let sent = capture.wait_packet(&[&format!("{}.179 >", US[0]), "Open Message"], LIMIT)?;
        ensure!(sent.contains("ttl 1,"), "{sent}");
        let session = pair.us.session(THEM[0])?;
        ensure!(!session.established, "{}", session.text);
        pair.them.check_running()
    });
}

/// A range of addresses for both families, and how to speak with who comes from there.
fn with_ranges(plan: &mut Plan, limit: u32) {
    plan.us.neighbors.clear();
    plan.instance = format!(
        "      dynamicNeighbors:\n        - name: rack\n          prefixes: [10.0.0.0/24, \"2001:db8::/64\"]\n          \
         limit: {limit}\n          dynamicASN: external\n          peerConfigRef: {{name: rack}}\n"
    );
    plan.more = "---\napiVersion: causeway.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {name: rack}\nspec:\n  \
         timers: {holdTimeSeconds: 9}\n  families:\n"
        .to_owned();
    for afi in ["ipv4", "ipv6"] {
        plan.more += &format!(
            "    - afi: {afi}\n      import: [everything]\n      export: [everything]\n      \
             advertisements: {{matchLabels: {{announce: own}}}}\n"
        );
    }
}

fn a_peer_from_a_range_is_accepted(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut plan = Plan::new();
    with_ranges(&mut plan, 10);
    let mut pair = plan.start(lab, implementation)?;
    pair.them.wait_established(LIMIT)?;
    pair.wait_exchanged()?;
    for address in THEM {
        let neighbor = pair.us.neighbor(address)?;
        ensure!(neighbor["name"] == format!("rack-{address}"), "{neighbor}");
        ensure!(neighbor["dynamic"] == true, "{neighbor}");
        ensure!(neighbor["peerASN"] == 65001, "{neighbor}");
    }
    // Who leaves is forgotten.
    pair.them.kill()?;
    wait_until("them to be forgotten", LIMIT, || {
        let all = pair.us.api("/v1/bgp/neighbors")?;
        ensure!(all["items"] == json!([]), "{all}");
        Ok(())
    })
}

#[test]
fn a_full_range_turns_others_away_and_says_so() {
    const ROOM: u32 = 2;
    Lab::test(|lab| {
        let mut plan = Plan::new();
        with_ranges(&mut plan, ROOM);
        let (us, node) = (lab.node("us")?, lab.node("them")?);
        us.link("eth0", &node, "eth0")?;
        us.address("eth0", [format!("{}/24", US[0])])?;
        let mut config = Config::speaker(plan.us);
        (config.instance, config.more) = (plan.instance, plan.more);
        let mut us = Causeway::start(&us, config)?;
        let our_address: Ipv4Addr = US[0].parse()?;
        let come = |last: u8| -> Result<RawPeer> {
            let address = Ipv4Addr::new(10, 0, 0, last);
            let open = OpenFields::new(65000 + u32::from(last), address.octets()).encode();
            RawPeer::establish(&node, address, our_address, &open)
        };
        for last in 11..14 {
            node.address("eth0", [format!("10.0.0.{last}/24")])?;
        }
        let (_first, second) = (come(11)?, come(12)?);
        let mut third = RawPeer::connect(&node, Ipv4Addr::new(10, 0, 0, 13), our_address)?;
        let (code, subcode, _) = third.notification()?;
        ensure!((code, subcode) == (6, 5), "NOTIFICATION {code}/{subcode}");
        let refused =
            us.metric("causeway_bgp_refused_connections_total{reason=\"dynamic-limit\"}")?;
        ensure!(refused == 1, "{refused} were refused");
        let log = us.process().log();
        ensure!(
            log.contains("10.0.0.13") && log.contains("the dynamic group has reached its limit"),
            "{log}"
        );
        // A place becomes free.
        drop(second);
        come(13).map(drop)
    });
}

/// RFC 4271 6.5. A frozen process keeps its connections and says nothing more.
fn a_peer_that_falls_silent_is_given_up(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new()
        .sessions(|n| n.hold_time = 3)
        .establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.them.freeze()?;
    for prefix in THEIRS {
        pair.us.wait_no_route(prefix, LIMIT)?;
    }
    let neighbor = pair.us.neighbor(THEM[0])?;
    let reset = &neighbor["lastReset"];
    ensure!(
        reset["reason"].to_string().contains("hold timer expired")
            && reset["sent"].to_string().contains("(4/0)"),
        "{neighbor}"
    );
    pair.them.thaw()?;
    pair.us.wait_established(LIMIT)?;
    pair.wait_exchanged()
}

/// How many prefixes a session may carry here; more than any peer sends of a [`Plan`], what it echoes included.
const ALLOWED: u32 = 10;

/// Lets them announce one more than allowed.
fn exceed(pair: &mut Pair) -> Result<()> {
    for n in 0..=ALLOWED {
        pair.them.announce(format!("203.0.{n}.0/24").as_str())?;
    }
    Ok(())
}

fn a_peer_beyond_its_limit_may_come_back_in_time(
    lab: &Lab,
    implementation: Implementation,
) -> Result<()> {
    const PAUSE: u64 = 4;
    let mut plan = Plan::new();
    plan.us.neighbors[0].max_prefixes = Some(ALLOWED);
    plan.us.neighbors[0].ours.max_prefixes = Some(format!("restartAfterSeconds: {PAUSE}"));
    let mut pair = plan.establish(lab, implementation)?;
    pair.wait_exchanged()?;
    exceed(&mut pair)?;
    let down = wait_until("the session to end", LIMIT, || {
        let neighbor = pair.us.neighbor(THEM[0])?;
        ensure!(neighbor["state"] != "Established", "{neighbor}");
        Ok(Instant::now())
    })?;
    for n in 0..=ALLOWED {
        pair.them.withdraw(&format!("203.0.{n}.0/24"))?;
    }
    let neighbor = pair.us.neighbor(THEM[0])?;
    let running = neighbor["timers"]["running"].to_string();
    ensure!(running.contains("idle-hold"), "{neighbor}");
    pair.us.wait_established(LIMIT)?;
    ensure!(
        down.elapsed() >= Duration::from_secs(PAUSE - 1),
        "it came back after {:?}",
        down.elapsed()
    );
    pair.us.wait_route(THEIRS[0], LIMIT)?;
    let neighbor = pair.us.neighbor(THEM[0])?;
    ensure!(neighbor["flapCount"] == 1, "{neighbor}");
    Ok(())
}

fn a_limit_may_only_warn(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut plan = Plan::new();
    plan.us.neighbors[0].max_prefixes = Some(ALLOWED);
    plan.us.neighbors[0].ours.max_prefixes = Some("warnOnly: true".to_owned());
    let mut pair = plan.establish(lab, implementation)?;
    pair.wait_exchanged()?;
    exceed(&mut pair)?;
    pair.us
        .wait_route(&format!("203.0.{ALLOWED}.0/24"), LIMIT)?;
    let log = pair.us.process().log();
    ensure!(log.contains("more prefixes than the limit"), "{log}");
    let neighbor = pair.us.neighbor(THEM[0])?;
    ensure!(
        neighbor["state"] == "Established" && neighbor["flapCount"] == 0,
        "{neighbor}"
    );
    Ok(())
}

fn the_peers_reset_is_told(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.them.reset(US[0], "new-optics")?;
    // FRR's `clear` and ExaBGP's `teardown` take no text.
    let text = match implementation {
        Implementation::Frr | Implementation::ExaBgp => "",
        _ => "new-optics",
    };
    wait_until("the reset", LIMIT, || {
        let log = pair.us.process().log();
        let told = log.lines().any(|line| {
            ["session down", "peer0", "Administrative Reset", text]
                .iter()
                .all(|part| line.contains(part))
        });
        ensure!(told, "{log}");
        Ok(())
    })?;
    pair.us.wait_established(LIMIT)?;
    pair.wait_exchanged()
}

fn our_reset_is_told(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    let words = [
        "bgp",
        "neighbor",
        "reset",
        THEM[0],
        "--message",
        "move-4711",
    ];
    pair.us.ask(words)?;
    wait_until("their word about it", LIMIT, || {
        let told = format!("{} {}", pair.them.session(US[0])?.text, pair.them.log());
        let wanted = match implementation {
            // ExaBGP 4.2 stumbles over a NOTIFICATION with a text; it sees the end of the session.
            Implementation::ExaBgp => "\"down\"",
            _ => "move-4711",
        };
        ensure!(told.contains(wanted), "{told}");
        Ok(())
    })?;
    wait_until("the session to come back", LIMIT, || {
        let neighbor = pair.us.neighbor(THEM[0])?;
        ensure!(
            neighbor["state"] == "Established" && neighbor["establishedCount"] == 2,
            "{neighbor}"
        );
        Ok(())
    })?;
    pair.wait_exchanged()?;
    // The other session had nothing to do with it.
    let other = pair.us.neighbor(THEM[1])?;
    ensure!(other["flapCount"] == 0, "{other}");
    Ok(())
}

/// A soft reset: everything once more, the session untouched.
fn our_routes_may_be_sent_again(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    let sent = |neighbor: &Value| neighbor["messagesSent"]["update"].as_u64().unwrap_or(0);
    let before = sent(&pair.us.neighbor(THEM[0])?);
    pair.us
        .ask(["bgp", "neighbor", "refresh", THEM[0], "--direction", "out"])?;
    wait_until("our routes once more", LIMIT, || {
        let neighbor = pair.us.neighbor(THEM[0])?;
        ensure!(sent(&neighbor) > before, "{neighbor}");
        Ok(())
    })?;
    pair.them.wait_route(OURS[0], LIMIT)?;
    pair.them.check_running()?;
    let neighbor = pair.us.neighbor(THEM[0])?;
    ensure!(neighbor["flapCount"] == 0, "{neighbor}");
    Ok(())
}

/// RFC 4271 5.1.4 and 5.1.2.
fn med_and_prepends_are_carried(lab: &Lab, implementation: Implementation) -> Result<()> {
    let pair = Plan::new()
        .origins(|origin| {
            origin.med = Some(4711);
            origin.prepend = 2;
        })
        .establish(lab, implementation)?;
    for prefix in THEIRS {
        let path = pair.us.wait_route(prefix, LIMIT)?;
        ensure!(path["med"] == 4711, "{path}");
        ensure!(path["asPath"] == "65001 65001 65001", "{path}");
    }
    for prefix in OURS {
        let route = pair.them.wait_route(prefix, LIMIT)?;
        ensure!(route.contains("4711"), "{route}");
        let digits: String = route
            .chars()
            .map(|c| if c.is_ascii_digit() { c } else { ' ' })
            .collect();
        let words: Vec<_> = digits.split_whitespace().collect();
        ensure!(
            words.windows(3).any(|three| three == ["65000"; 3]),
            "{route}"
        );
    }
    Ok(())
}

/// No peer here keeps its sessions when its own key changes: FRR, BIRD and OpenBGPD end them, GoBGP and ExaBGP are started
/// again. We keep ours, see [`both_may_change_their_md5_key_under_a_live_session`], and take new ones under the new key.
fn a_new_md5_key_comes_into_force(lab: &Lab, implementation: Implementation) -> Result<()> {
    const OLD: &str = "correct-horse";
    const NEW: &str = "battery-staple";
    let mut pair = Plan::new()
        .sessions(|n| n.password = Some(OLD.to_owned()))
        .establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.them.rekey(NEW)?;
    let mut config = pair.us.config().clone();
    for neighbor in &mut config.router.neighbors {
        neighbor.password = Some(NEW.to_owned());
    }
    pair.us.reconfigure(config)?;
    wait_until("the sessions under the new key", LIMIT, || {
        for address in THEM {
            let neighbor = pair.us.neighbor(address)?;
            let again = neighbor["establishedCount"].as_u64() > Some(1);
            ensure!(again && neighbor["state"] == "Established", "{neighbor}");
        }
        Ok(())
    })?;
    pair.wait_exchanged()
}

/// RFC 2385 4.3 leaves it open; a session that lives through a new key needs no window in which to change it.
#[test]
fn both_may_change_their_md5_key_under_a_live_session() {
    Lab::test(|lab| {
        let (us, node) = (lab.node("us")?, lab.node("them")?);
        us.link("eth0", &node, "eth0")?;
        us.address("eth0", [format!("{}/24", US[0])])?;
        node.address("eth0", [format!("{}/24", THEM[0])])?;
        let mut neighbor = Neighbor::new(US[0], THEM[0], 65001);
        neighbor.password = Some("correct-horse".to_owned());
        neighbor.passive = true;
        let router = Router::new(OUR_ASN, [10, 0, 0, 1]).neighbor(neighbor);
        let mut us = Causeway::start(&us, Config::speaker(router))?;
        let (ours, theirs): (Ipv4Addr, Ipv4Addr) = (US[0].parse()?, THEM[0].parse()?);
        let open = OpenFields::new(65001, theirs.octets()).encode();
        let mut peer = RawPeer::establish_with_key(&node, theirs, ours, &open, "correct-horse")?;
        let announce = |peer: &mut RawPeer, third: u8| {
            let attributes = raw::attributes(65001, theirs);
            peer.send(&raw::update(&[], &attributes, &[24, 203, 0, third]))
        };
        announce(&mut peer, 1)?;
        us.wait_route("203.0.1.0/24", LIMIT)?;

        let mut config = us.config().clone();
        config.router.neighbors[0].password = Some("battery-staple".to_owned());
        us.reconfigure(config)?;
        // Said under the old key, which nobody listens to any more.
        announce(&mut peer, 2)?;
        std::thread::sleep(Duration::from_secs(1));
        let early = us.paths("203.0.2.0/24")?;
        ensure!(early.is_empty(), "the old key still works: {early:?}");
        peer.set_key("battery-staple")?;
        // TCP says it again.
        us.wait_route("203.0.2.0/24", LIMIT)?;
        announce(&mut peer, 3)?;
        us.wait_route("203.0.3.0/24", LIMIT)?;
        let neighbor = us.neighbor(THEM[0])?;
        ensure!(
            neighbor["establishedCount"] == 1 && neighbor["flapCount"] == 0,
            "{neighbor}"
        );
        Ok(())
    });
}

/// Two peers, one template. What a change concerns follows at once, by the least that brings it about; nothing else moves.
#[test]
fn a_new_configuration_touches_only_what_it_must() {
    Lab::test(|lab| {
        let mut plan = Plan::new();
        plan.us.neighbors.truncate(2);
        let mut pair = plan.establish(lab, Implementation::Bird)?;
        pair.wait_exchanged()?;
        let flaps = |pair: &Pair| -> Result<[u64; 2]> {
            let of = |address| -> Result<u64> {
                let neighbor = pair.us.neighbor(address)?;
                neighbor["flapCount"].as_u64().context("no number")
            };
            Ok([of(THEM[0])?, of(THEM[1])?])
        };
        let before = pair.us.config().clone();

        // A policy: its routes go and come back, both sessions stay.
        let file = pair.us.directory().join("causeway.yaml");
        let accept = before.yaml();
        let reject = accept.replace("defaultAction: Accept", "defaultAction: Reject");
        std::fs::write(&file, &reject)?;
        for prefix in THEIRS {
            wait_until("the new policy", LIMIT, || {
                let paths = pair.us.paths(prefix)?;
                ensure!(
                    paths.iter().all(|path| path["status"] == "ineligible"),
                    "{paths:?}"
                );
                Ok(())
            })?;
        }
        std::fs::write(&file, &accept)?;
        pair.wait_exchanged()?;
        ensure!(flaps(&pair)? == [0, 0], "a policy cost a session");

        // Timers that are not negotiated: nothing to see at all.
        let mut config = before.clone();
        for neighbor in &mut config.router.neighbors {
            neighbor.ours.idle_hold_max = 30;
            neighbor.ours.send_hold = Some(100);
        }
        pair.us.reconfigure(config)?;
        ensure!(flaps(&pair)? == [0, 0], "a timer cost a session");

        // One peer's hold time is negotiated: that session is new, the other is not.
        let mut config = before.clone();
        config.router.neighbors[0].hold_time = 12;
        pair.us.reconfigure(config)?;
        wait_until("the one session to be new", LIMIT, || {
            let neighbor = pair.us.neighbor(THEM[0])?;
            ensure!(
                neighbor["state"] == "Established" && neighbor["establishedCount"] == 2,
                "{neighbor}"
            );
            let reason = neighbor["lastReset"].to_string();
            ensure!(reason.contains("timers.hold"), "{neighbor}");
            Ok(())
        })?;
        ensure!(flaps(&pair)? == [1, 0], "another session suffered");

        // One peer less.
        let all = pair.us.config().clone();
        let mut config = all.clone();
        config.router.neighbors.truncate(1);
        pair.us.reconfigure(config)?;
        pair.us.wait_no_route(THEIRS[1], LIMIT)?;
        wait_until("them to be told", LIMIT, || {
            let log = pair.them.log();
            ensure!(log.contains("Peer de-configured"), "{log}");
            Ok(())
        })?;

        // And one more.
        pair.us.reconfigure(all)?;
        pair.us.wait_established(LIMIT)?;
        pair.wait_exchanged()?;
        let neighbor = pair.us.neighbor(THEM[0])?;
        ensure!(neighbor["flapCount"] == 1, "{neighbor}");
        Ok(())
    });
}

/// A template serves many peers: a change of it reaches all, a change of another none.
#[test]
fn a_template_is_for_all_who_refer_to_it() {
    Lab::test(|lab| {
        let (node, their_node) = (lab.node("us")?, lab.node("them")?);
        node.link("eth0", &their_node, "eth0")?;
        node.address("eth0", [format!("{}/24", US[0])])?;
        let ours: Ipv4Addr = US[0].parse()?;
        let template = |name: &str, hold: u16| {
            format!(
                "---\napiVersion: causeway.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {{name: {name}}}\nspec:\n  \
                 transport: {{passive: true}}\n  timers: {{holdTimeSeconds: {hold}}}\n"
            )
        };
        let mut peers = "      peers:\n".to_owned();
        for (last, name) in [(11, "leaf"), (12, "leaf"), (13, "spine")] {
            their_node.address("eth0", [format!("10.0.0.{last}/24")])?;
            peers += &format!(
                "        - {{name: p{last}, peerASN: {}, peerAddress: 10.0.0.{last}, peerConfigRef: {{name: {name}}}}}\n",
                65000 + last
            );
        }
        let yaml = |leaf: u16| {
            format!(
                "apiVersion: causeway.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {{name: fabric}}\nspec:\n  \
                 bgpInstances:\n    - name: main\n      localASN: {OUR_ASN}\n      routerID: 10.0.0.1\n{peers}{}{}",
                template("leaf", leaf),
                template("spine", 30)
            )
        };
        let us = Causeway::start_with(&node, &yaml(30))?;
        let mut raw_peers = Vec::new();
        for last in 11..14_u8 {
            let address = Ipv4Addr::new(10, 0, 0, last);
            let open = OpenFields::new(65000 + u32::from(last), address.octets()).encode();
            raw_peers.push(RawPeer::establish(&their_node, address, ours, &open)?);
        }
        std::fs::write(us.directory().join("causeway.yaml"), yaml(60))?;
        for (peer, told) in raw_peers.iter_mut().zip([true, true, false]) {
            if told {
                let (code, subcode, _) = peer.notification()?;
                // RFC 4486: Other Configuration Change.
                ensure!((code, subcode) == (6, 6), "NOTIFICATION {code}/{subcode}");
            }
        }
        let spine = us.neighbor("10.0.0.13")?;
        ensure!(
            spine["state"] == "Established" && spine["flapCount"] == 0,
            "{spine}"
        );
        Ok(())
    });
}

/// RFC 4271 9.1.2.2 c, and the two ways to change it: three paths for one prefix, two of them by way of one AS.
#[test]
fn med_is_compared_as_configured() {
    const PREFIX: &str = "203.0.113.0/24";
    Lab::test(|lab| {
        let (us, node) = (lab.node("us")?, lab.node("them")?);
        us.link("eth0", &node, "eth0")?;
        us.address("eth0", [format!("{}/24", US[0])])?;
        let mut router = Router::new(OUR_ASN, [10, 0, 0, 1]);
        for (last, asn) in MED_PEERS {
            node.address("eth0", [format!("10.0.0.{last}/24")])?;
            let mut neighbor = Neighbor::new(US[0], &format!("10.0.0.{last}"), asn);
            neighbor.passive = true;
            router = router.neighbor(neighbor);
        }
        let mut us = Causeway::start(&us, Config::speaker(router))?;
        // 20 and 10 by way of 65011; none by way of 65012.
        let _peers = announce_meds(&node, [Some(20), Some(10), None])?;

        let cases = [
            // The lower one of each AS, side by side.
            ("", ["lost", "best", "multipath"]),
            // A missing one is 0, which is lowest.
            ("{alwaysCompare: true}", ["lost", "lost", "best"]),
            (
                "{alwaysCompare: true, missingAsWorst: true}",
                ["lost", "best", "lost"],
            ),
        ];
        for (med, wanted) in cases {
            let mut config = us.config().clone();
            if !med.is_empty() {
                config.instance = format!("      med: {med}\n");
                us.reconfigure(config)?;
            }
            wait_until(&format!("the decision with {med:?}"), LIMIT, || {
                let paths = us.wait_paths(PREFIX, 3, Duration::ZERO)?;
                for (n, wanted) in wanted.iter().enumerate() {
                    let path = paths.iter().find(|path| path["peer"] == format!("peer{n}"));
                    let path = path.context("a path is missing")?;
                    ensure!(path["status"] == *wanted, "{paths:?}");
                    let reason = path["reason"].to_string();
                    ensure!(*wanted != "lost" || reason.contains("MED"), "{path}");
                }
                Ok(())
            })?;
        }
        for (last, _) in MED_PEERS {
            let neighbor = us.neighbor(&format!("10.0.0.{last}"))?;
            ensure!(neighbor["flapCount"] == 0, "{neighbor}");
        }
        Ok(())
    });
}

const MED_PEERS: [(u8, u32); 3] = [(11, 65011), (12, 65011), (13, 65012)];

fn announce_meds(node: &Node, meds: [Option<u32>; 3]) -> Result<Vec<RawPeer>> {
    let ours: Ipv4Addr = US[0].parse()?;
    let mut peers = Vec::new();
    for ((last, asn), med) in MED_PEERS.into_iter().zip(meds) {
        let address = Ipv4Addr::new(10, 0, 0, last);
        let mut open = OpenFields::new(asn, address.octets());
        open.hold_time = 0;
        let mut peer = RawPeer::establish(node, address, ours, &open.encode())?;
        let mut attributes = raw::attributes(asn, address);
        if let Some(med) = med {
            attributes.extend([0x80, 4, 4]);
            attributes.extend(med.to_be_bytes());
        }
        peer.send(&raw::update(&[], &attributes, &[24, 203, 0, 113]))?;
        peers.push(peer);
    }
    Ok(peers)
}
