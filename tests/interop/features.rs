//! What sessions may do besides: one scenario for each feature.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::capture::Capture;
use support::peer::{Implementation, Origin};
use support::{Lab, wait_until};

use crate::pair::{
    LIMIT, OUR_ASN, OURS, Plan, THEIRS, THEM, THIRD_ASN, THIRD_LINK, THIRD_PREFIX, US,
    with_every_peer,
};

with_every_peer!(
    md5_protects_a_session,
    gtsm_protects_a_session,
    communities_go_both_ways,
    the_peer_may_ask_for_our_routes_again,
    we_may_ask_for_their_routes_again,
    more_prefixes_than_allowed_end_the_session,
    the_peers_shutdown_is_told,
    our_shutdown_is_told,
    a_restarting_peer_keeps_its_routes,
    we_keep_our_routes_over_a_restart,
    we_reflect_between_clients,
    communities_pass_through_us,
    what_shall_not_be_exported_stays,
    long_messages_go_where_they_were_agreed,
);

fn md5_protects_a_session(lab: &Lab, implementation: Implementation) -> Result<()> {
    let pair = Plan::new()
        .sessions(|n| n.password = Some("correct-horse".to_owned()))
        .establish(lab, implementation)?;
    pair.wait_exchanged()
}

fn gtsm_protects_a_session(lab: &Lab, implementation: Implementation) -> Result<()> {
    let pair = Plan::new()
        .sessions(|n| n.ttl_security = true)
        .establish(lab, implementation)?;
    pair.wait_exchanged()
}

fn communities_go_both_ways(lab: &Lab, implementation: Implementation) -> Result<()> {
    let pair = Plan::new()
        .origins(|origin| {
            origin.communities = vec![(65010, 100), (65010, 200)];
            origin.large_communities = vec![(65010, 1, 2)];
        })
        .establish(lab, implementation)?;
    for prefix in THEIRS {
        let path = pair.us.wait_route(prefix, LIMIT)?;
        let (standard, large) = (&path["communities"], &path["largeCommunities"]);
        ensure!(*standard == json!(["65010:100", "65010:200"]), "{path}");
        ensure!(*large == json!(["65010:1:2"]), "{path}");
    }
    for prefix in OURS {
        let route = pair.them.wait_route(prefix, LIMIT)?;
        // Each has its own way to write them: 65010:100, (65010,100), [65010,100] or the number.
        // GoBGP counts its keys.
        let digits: String = route
            .replace("LocalData1", "")
            .replace("LocalData2", "")
            .chars()
            .map(|c| if c.is_ascii_digit() { c } else { ' ' })
            .collect();
        let words: Vec<_> = digits.split_whitespace().collect();
        let standard = words.windows(2).any(|w| w == ["65010", "100"])
            || words.contains(&((65010_u32 << 16) + 100).to_string().as_str());
        let large = words.windows(3).any(|w| w == ["65010", "1", "2"]);
        ensure!(standard && large, "{route}");
    }
    Ok(())
}

fn the_peer_may_ask_for_our_routes_again(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.them.refresh(US[0])?;
    if implementation == Implementation::GoBgp {
        // GoBGP 3.10 keeps what it received and answers the wish from there; nothing is asked of us.
        std::thread::sleep(Duration::from_secs(1));
        let neighbor = pair.us.neighbor(THEM[0])?;
        ensure!(
            neighbor["messagesReceived"]["routeRefresh"] == 0,
            "{neighbor}"
        );
        return pair.them.wait_route(OURS[0], LIMIT).map(drop);
    }
    wait_until("a ROUTE-REFRESH", LIMIT, || {
        let neighbor = pair.us.neighbor(THEM[0])?;
        let received = &neighbor["messagesReceived"]["routeRefresh"];
        ensure!(received.as_u64().is_some_and(|n| n > 0), "{neighbor}");
        ensure!(neighbor["flapCount"] == 0, "{neighbor}");
        Ok(())
    })?;
    pair.them.wait_route(OURS[0], LIMIT).map(drop)
}

fn we_may_ask_for_their_routes_again(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut plan = Plan::new();
    if implementation == Implementation::Frr {
        // FRR 8.4 answers after its End-of-RIB only, which it sends only with graceful restart on both sides.
        plan = plan.sessions(|n| n.graceful_restart = true);
    }
    let mut pair = plan.establish(lab, implementation)?;
    pair.wait_exchanged()?;
    let updates = |neighbor: &Value| neighbor["messagesReceived"]["update"].as_u64().unwrap_or(0);
    let before = updates(&pair.us.neighbor(THEM[0])?);
    pair.us
        .ask(["bgp", "neighbor", "refresh", THEM[0], "--direction", "in"])?;
    match implementation {
        // ExaBGP 4.2 closes the connection; what matters is that its routes come back.
        Implementation::ExaBgp => wait_until("the session to come back", LIMIT, || {
            let neighbor = pair.us.neighbor(THEM[0])?;
            ensure!(neighbor["flapCount"] == 1, "{neighbor}");
            ensure!(neighbor["establishedCount"] == 2, "{neighbor}");
            Ok(())
        })?,
        // OpenBGPD 7.7 sends nothing that is as it was; what matters is that we keep it.
        Implementation::OpenBgpd => {
            wait_until("our ROUTE-REFRESH", LIMIT, || {
                let neighbor = pair.us.neighbor(THEM[0])?;
                ensure!(neighbor["messagesSent"]["routeRefresh"] == 1, "{neighbor}");
                Ok(())
            })?;
            std::thread::sleep(Duration::from_secs(1));
            let neighbor = pair.us.neighbor(THEM[0])?;
            ensure!(neighbor["flapCount"] == 0, "{neighbor}");
            ensure!(updates(&neighbor) == before, "{neighbor}");
        }
        _ => wait_until("the routes once more", LIMIT, || {
            let neighbor = pair.us.neighbor(THEM[0])?;
            ensure!(neighbor["messagesSent"]["routeRefresh"] == 1, "{neighbor}");
            ensure!(updates(&neighbor) > before, "{neighbor}");
            ensure!(neighbor["flapCount"] == 0, "{neighbor}");
            Ok(())
        })?,
    }
    pair.us.wait_route(THEIRS[0], LIMIT)?;
    pair.them.check_running()
}

/// More than any peer sends in a [`Plan`], what it echoes included.
const PREFIX_LIMIT: u32 = 10;

fn more_prefixes_than_allowed_end_the_session(
    lab: &Lab,
    implementation: Implementation,
) -> Result<()> {
    let mut plan = Plan::new();
    plan.us.neighbors[0].max_prefixes = Some(PREFIX_LIMIT);
    let mut pair = plan.establish(lab, implementation)?;
    pair.wait_exchanged()?;
    for n in 0..=PREFIX_LIMIT {
        pair.them.announce(format!("203.0.{n}.0/24").as_str())?;
    }
    wait_until("the session to end", LIMIT, || {
        let neighbor = pair.us.neighbor(THEM[0])?;
        ensure!(neighbor["state"] != "Established", "{neighbor}");
        Ok(())
    })?;
    for prefix in [THEIRS[0], "203.0.0.0/24", "203.0.10.0/24"] {
        pair.us.wait_no_route(prefix, LIMIT)?;
    }
    let log = pair.us.process().log();
    ensure!(
        log.contains("Maximum Number of Prefixes Reached (6/1)"),
        "{log}"
    );
    // The other session goes on.
    let other = pair.us.neighbor(THEM[1])?;
    ensure!(
        other["state"] == "Established" && other["flapCount"] == 0,
        "{other}"
    );
    Ok(())
}

fn the_peers_shutdown_is_told(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.them.shut(US[0], "maintenance")?;
    let wanted = match implementation {
        // Its `teardown` takes a subcode and no text.
        Implementation::ExaBgp => "Administrative Shutdown",
        _ => "maintenance",
    };
    wait_until("the shutdown", LIMIT, || {
        let log = pair.us.process().log();
        ensure!(
            log.lines()
                .any(|line| line.contains("session down") && line.contains(wanted)),
            "{log}"
        );
        Ok(())
    })?;
    pair.us.wait_no_route(THEIRS[0], LIMIT)
}

fn our_shutdown_is_told(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.us.ask([
        "bgp",
        "neighbor",
        "disable",
        THEM[0],
        "--message",
        "window-4711",
    ])?;
    pair.them.wait_no_route(OURS[0], LIMIT)?;
    let neighbor = pair.us.neighbor(THEM[0])?;
    ensure!(neighbor["adminDown"] == true, "{neighbor}");
    wait_until("their word about it", LIMIT, || {
        let told = format!("{} {}", pair.them.session(US[0])?.text, pair.them.log());
        let wanted = match implementation {
            // ExaBGP 4.2 stumbles over a NOTIFICATION with a text; it sees the end of the session.
            Implementation::ExaBgp => "\"down\"",
            _ => "window-4711",
        };
        ensure!(told.contains(wanted), "{told}");
        Ok(())
    })?;
    pair.us.ask(["bgp", "neighbor", "enable", THEM[0]])?;
    pair.us.wait_established(LIMIT)?;
    pair.them.wait_route(OURS[0], LIMIT).map(drop)
}

fn a_restarting_peer_keeps_its_routes(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new()
        .sessions(|n| n.graceful_restart = true)
        .establish(lab, implementation)?;
    pair.wait_exchanged()?;
    let restarts = offers_restart(&pair.us.neighbor(THEM[0])?);
    pair.them.kill()?;
    if !restarts {
        ensure!(
            implementation == Implementation::OpenBgpd,
            "{}",
            pair.us.neighbor(THEM[0])?
        );
        return pair.us.wait_no_route(THEIRS[0], LIMIT);
    }
    for prefix in THEIRS {
        wait_until("the route to be stale", LIMIT, || {
            let path = pair.us.wait_route(prefix, Duration::ZERO)?;
            ensure!(path["stale"] == true, "{path}");
            Ok(())
        })?;
    }
    pair.them.restart()?;
    pair.us.wait_established(LIMIT)?;
    for prefix in THEIRS {
        wait_until("the route to be fresh", LIMIT, || {
            let path = pair.us.wait_route(prefix, Duration::ZERO)?;
            ensure!(path["stale"] == false, "{path}");
            Ok(())
        })?;
    }
    pair.wait_exchanged_again(implementation)
}

/// Whether the peer said in its OPEN that routes of a family may be kept.
fn offers_restart(neighbor: &Value) -> bool {
    neighbor["negotiated"]["gracefulRestart"]
        .as_array()
        .is_some_and(|families| !families.is_empty())
}

fn we_keep_our_routes_over_a_restart(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new()
        .sessions(|n| n.graceful_restart = true)
        .establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.us.kill()?;
    wait_until("the peer to notice", LIMIT, || {
        ensure!(!pair.them.session(US[0])?.established, "not yet");
        Ok(())
    })?;
    if implementation != Implementation::ExaBgp {
        for prefix in OURS {
            pair.them.wait_route(prefix, Duration::ZERO)?;
        }
    }
    pair.us.restart()?;
    pair.us.wait_established(LIMIT)?;
    pair.them.wait_established(LIMIT)?;
    pair.wait_exchanged()
}

fn we_reflect_between_clients(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut plan = Plan::ibgp();
    plan.us
        .neighbors
        .iter_mut()
        .for_each(|n| n.reflector_client = true);
    let (pair, third) =
        plan.establish_with_third(lab, implementation, OUR_ASN, |n| n.reflector_client = true)?;
    let reflected = third.wait_route(THEIRS[0], LIMIT)?;
    // RFC 4456 8: who originated it, through which cluster; the next hop is as it was.
    for part in [
        "originator_id: 10.0.0.2",
        "cluster_list: 10.0.0.1",
        "next_hop: 10.0.0.2",
    ] {
        ensure!(reflected.contains(part), "no {part} in {reflected}");
    }
    let reflected = pair.them.wait_route(THIRD_PREFIX, LIMIT)?;
    ensure!(reflected.contains(THIRD_LINK[1]), "{reflected}");
    Ok(())
}

fn communities_pass_through_us(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut plan = Plan::new();
    for origin in &mut plan.them.originate {
        origin.communities = vec![(65010, 100)];
        origin.large_communities = vec![(65010, 1, 2)];
        origin.route_targets = vec![(65010, 7)];
    }
    let (pair, third) = plan.establish_with_third(lab, implementation, THIRD_ASN, |_| {})?;
    for prefix in THEIRS {
        let path = pair.us.wait_route(prefix, LIMIT)?;
        ensure!(path["communities"] == json!(["65010:100"]), "{path}");
        ensure!(path["largeCommunities"] == json!(["65010:1:2"]), "{path}");
        let extended = path["extendedCommunities"].to_string();
        ensure!(extended.contains("65010:7"), "{path}");
    }
    let passed = third.wait_route(THEIRS[0], LIMIT)?;
    for part in ["(65010,100)", "(65010, 1, 2)", "(rt, 65010, 7)"] {
        ensure!(passed.contains(part), "no {part} in {passed}");
    }
    Ok(())
}

fn what_shall_not_be_exported_stays(lab: &Lab, implementation: Implementation) -> Result<()> {
    const NO_EXPORT: (u16, u16) = (65535, 65281);
    // Within the AS: towards another, FRR and OpenBGPD keep such a route to themselves.
    let mut plan = Plan::ibgp();
    plan.them.originate[0].communities = vec![NO_EXPORT];
    let mut free = Origin::from("198.51.101.0/24");
    free.communities = vec![(65010, 100)];
    plan.them.originate.push(free);
    let (pair, third) = plan.establish_with_third(lab, implementation, THIRD_ASN, |_| {})?;
    pair.us.wait_route(THEIRS[0], LIMIT)?;
    // The one that may go shows that the other had the time.
    third.wait_route("198.51.101.0/24", LIMIT)?;
    third.wait_no_route(THEIRS[0], Duration::ZERO)
}

/// Large communities of 12 bytes each that make a route longer than 4,096 bytes.
const MANY: u32 = 400;

fn long_messages_go_where_they_were_agreed(
    lab: &Lab,
    implementation: Implementation,
) -> Result<()> {
    let mut plan = Plan::new().sessions(|n| n.extended_messages = true);
    let mut long = Origin::from("203.0.113.0/24");
    long.large_communities = (0..MANY).map(|n| (65010, 1, n)).collect();
    plan.us.originate.insert(0, long);
    let mut pair = plan.establish(lab, implementation)?;
    pair.wait_exchanged()?;
    let neighbor = pair.us.neighbor(THEM[0])?;
    let agreed = neighbor["negotiated"]["extendedMessages"] == true;
    // GoBGP 3.10 and OpenBGPD 7.7 do not offer RFC 8654.
    let offers = !matches!(
        implementation,
        Implementation::GoBgp | Implementation::OpenBgpd
    );
    ensure!(agreed == offers, "{neighbor}");
    if agreed {
        let route = pair.them.wait_route("203.0.113.0/24", LIMIT)?;
        ensure!(route.contains(&(MANY - 1).to_string()), "{route}");
    } else {
        // What does not fit is not sent, and costs neither the other routes nor the session.
        pair.them.wait_no_route("203.0.113.0/24", Duration::ZERO)?;
        ensure!(pair.us.neighbor(THEM[0])?["flapCount"] == 0, "{neighbor}");
    }
    pair.them.check_running()
}

/// RFC 5082 3: sent with 255, so that the peer can tell that we are next door. And network control (class selector 6,
/// 0xc0 in the old octet), so that a full link drops it last. Whoever connects, from the first packet on.
#[test]
fn what_we_send_carries_cs6_and_with_gtsm_ttl_255() {
    for we_wait in [false, true] {
        Lab::test(|lab| {
            let mut plan = Plan::new().sessions(|n| n.ttl_security = true);
            for (router, waits) in [(&mut plan.us, we_wait), (&mut plan.them, !we_wait)] {
                router.neighbors.iter_mut().for_each(|n| n.passive = waits);
            }
            let mut pair = plan.start(lab, Implementation::Bird)?;
            let capture = Capture::start(pair.us.node(), "eth0", "tcp port 179")?;
            pair.us.wait_established(LIMIT)?;
            pair.us.ask(["bgp", "neighbor", "reset", THEM[0]])?;
            let ours = format!(") {}.", US[0]);
            capture.wait_packet(&[&ours, "Open Message"], LIMIT)?;
            let sent: Vec<_> = capture
                .finish()?
                .into_iter()
                .filter(|packet| packet.contains(&ours))
                .collect();
            for packet in &sent {
                ensure!(packet.contains("ttl 255"), "{packet}");
                ensure!(packet.contains("tos 0xc0"), "{packet}");
            }
            Ok(())
        });
    }
}

#[test]
fn a_wrong_md5_key_never_establishes() {
    Lab::test(|lab| {
        let mut plan = Plan::new().sessions(|n| n.password = Some("right".to_owned()));
        plan.them.neighbors[0].password = Some("wrong".to_owned());
        let mut pair = plan.start(lab, Implementation::Bird)?;
        // The session with the right key shows that both had the time.
        wait_until("the session with the right key", LIMIT, || {
            ensure!(pair.us.session(THEM[1])?.established);
            Ok(())
        })?;
        std::thread::sleep(Duration::from_secs(3));
        let session = pair.us.session(THEM[0])?;
        ensure!(!session.established, "{}", session.text);
        pair.them.check_running()
    });
}
