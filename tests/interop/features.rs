//! What sessions may do besides: one scenario for each feature.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::peer::Implementation;
use support::{Lab, wait_until};

use crate::pair::{LIMIT, OURS, Plan, THEIRS, THEM, US, with_every_peer};

with_every_peer!(
    md5_protects_a_session,
    gtsm_protects_a_session,
    communities_go_both_ways,
    the_peer_may_ask_for_our_routes_again,
    we_may_ask_for_their_routes_again,
    more_prefixes_than_allowed_end_the_session,
    the_peers_shutdown_is_told,
    our_shutdown_is_told,
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
