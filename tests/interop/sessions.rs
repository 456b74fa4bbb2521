//! What every session must do.

use anyhow::{Result, ensure};
use support::peer::{Family, Implementation};
use support::{Lab, wait_until};

use crate::pair::{LIMIT, OURS, Plan, THEIRS, THEM, US, with_every_peer};

with_every_peer!(
    routes_go_both_ways,
    withdrawals_go_both_ways,
    a_killed_peer_takes_its_routes_along,
    our_death_withdraws_our_routes,
    both_families_share_a_session,
    the_peer_may_wait_for_us,
    we_may_wait_for_the_peer,
    routes_go_both_ways_within_an_as,
);

fn routes_go_both_ways(lab: &Lab, implementation: Implementation) -> Result<()> {
    let pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    for (family, prefix) in THEIRS.into_iter().enumerate() {
        let path = pair.us.wait_route(prefix, LIMIT)?;
        ensure!(path["asPath"] == "65001", "{path}");
        ensure!(path["status"] == "best", "{path}");
        let next_hop = path["nextHop"].as_str().unwrap_or_default();
        ensure!(next_hop.starts_with(THEM[family]), "{path}");
    }
    for (family, prefix) in OURS.into_iter().enumerate() {
        let route = pair.them.wait_route(prefix, LIMIT)?;
        ensure!(
            route.contains("65000") && route.contains(US[family]),
            "{route}"
        );
    }
    Ok(())
}

fn withdrawals_go_both_ways(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    for prefix in THEIRS {
        pair.them.withdraw(prefix)?;
        pair.us.wait_no_route(prefix, LIMIT)?;
        pair.them.announce(prefix)?;
        pair.us.wait_route(prefix, LIMIT)?;
    }
    for prefix in OURS {
        pair.us.withdraw(prefix)?;
        pair.them.wait_no_route(prefix, LIMIT)?;
        pair.us.announce(prefix)?;
        pair.them.wait_route(prefix, LIMIT)?;
    }
    for address in THEM {
        let neighbor = pair.us.neighbor(address)?;
        ensure!(
            neighbor["flapCount"] == 0,
            "the session flapped: {neighbor}"
        );
    }
    Ok(())
}

fn a_killed_peer_takes_its_routes_along(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.them.kill()?;
    for prefix in THEIRS {
        pair.us.wait_no_route(prefix, LIMIT)?;
    }
    let neighbor = pair.us.neighbor(THEM[0])?;
    ensure!(neighbor["flapCount"] == 1, "{neighbor}");
    let log = pair.us.process().log();
    ensure!(
        log.lines()
            .any(|line| line.contains("session down") && line.contains("peer0")),
        "{log}"
    );
    Ok(())
}

fn our_death_withdraws_our_routes(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut pair = Plan::new().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    pair.us.kill()?;
    for prefix in OURS {
        pair.them.wait_no_route(prefix, LIMIT)?;
    }
    // And back: the peer finds us where we were.
    pair.us.restart()?;
    pair.us.wait_established(LIMIT)?;
    pair.wait_exchanged()
}

fn both_families_share_a_session(lab: &Lab, implementation: Implementation) -> Result<()> {
    let pair = Plan::new().one_session().establish(lab, implementation)?;
    ensure!(
        pair.us.negotiated(THEM[0])? == Family::BOTH,
        "{}",
        pair.us.neighbor(THEM[0])?
    );
    pair.us.wait_route(THEIRS[0], LIMIT)?;
    if implementation == Implementation::OpenBgpd {
        // OpenBGPD 7.7 announces its own IPv6 networks over an IPv4 session with next hop ::1. We refuse the route and
        // keep the session (RFC 7606 7.11).
        wait_until("the route to be refused", LIMIT, || {
            let neighbor = pair.us.neighbor(THEM[0])?;
            ensure!(neighbor["malformedUpdates"] == 1, "{neighbor}");
            ensure!(neighbor["flapCount"] == 0, "{neighbor}");
            Ok(())
        })?;
    } else {
        pair.us.wait_route(THEIRS[1], LIMIT)?;
    }
    pair.them.wait_route(OURS[0], LIMIT)?;
    let route = pair.them.wait_route(OURS[1], LIMIT)?;
    ensure!(
        route.contains(US[1]),
        "our IPv6 next hop is not our address: {route}"
    );
    Ok(())
}

fn the_peer_may_wait_for_us(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut plan = Plan::new();
    plan.them
        .neighbors
        .iter_mut()
        .for_each(|n| n.passive = true);
    let pair = plan.establish(lab, implementation)?;
    for address in THEM {
        let remote = pair.us.neighbor(address)?["remoteSocket"].clone();
        ensure!(
            remote.as_str().is_some_and(|text| text.ends_with(":179")),
            "{remote}"
        );
    }
    pair.wait_exchanged()
}

fn we_may_wait_for_the_peer(lab: &Lab, implementation: Implementation) -> Result<()> {
    let mut plan = Plan::new();
    plan.us.neighbors.iter_mut().for_each(|n| n.passive = true);
    let pair = plan.establish(lab, implementation)?;
    for address in THEM {
        let local = pair.us.neighbor(address)?["localSocket"].clone();
        ensure!(
            local.as_str().is_some_and(|text| text.ends_with(":179")),
            "{local}"
        );
    }
    pair.wait_exchanged()
}

fn routes_go_both_ways_within_an_as(lab: &Lab, implementation: Implementation) -> Result<()> {
    let pair = Plan::ibgp().establish(lab, implementation)?;
    pair.wait_exchanged()?;
    for prefix in THEIRS {
        let path = pair.us.wait_route(prefix, LIMIT)?;
        ensure!(path["asPath"] == "", "{path}");
        ensure!(path["localPreference"] == 100, "{path}");
    }
    Ok(())
}
