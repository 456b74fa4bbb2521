//! Two of our own daemons with each other: what the configuration, the API and the CLI promise, without another maker's
//! router in between.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::causeway::{Causeway, Config, binary};
use support::peer::{Neighbor, Router};
use support::{Lab, Node, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

struct Pair {
    left: Causeway,
    right: Causeway,
}

fn nodes(lab: &Lab) -> Result<(Node, Node)> {
    let (left, right) = (lab.node("left")?, lab.node("right")?);
    left.link("eth0", &right, "eth0")?;
    left.address("eth0", ["10.0.0.1/24", "2001:db8::1/64"])?;
    right.address("eth0", ["10.0.0.2/24", "2001:db8::2/64"])?;
    Ok((left, right))
}

fn left_config() -> Config {
    Config::speaker(
        Router::new(65001, [10, 0, 0, 1])
            .originate("192.0.2.0/24")
            // One side connects: a collision would be the last reset, and not the one that a test made.
            .neighbor(Neighbor {
                passive: true,
                ..Neighbor::new("10.0.0.1", "10.0.0.2", 65002)
            }),
    )
}

fn pair(lab: &Lab) -> Result<Pair> {
    let (left, right) = nodes(lab)?;
    let right_config = Config::speaker(
        Router::new(65002, [10, 0, 0, 2])
            .originate("198.51.100.0/24")
            .neighbor(Neighbor::new("10.0.0.2", "10.0.0.1", 65001)),
    );
    let mut pair = Pair {
        left: Causeway::start(&left, left_config())?,
        right: Causeway::start(&right, right_config)?,
    };
    pair.left.wait_established(LIMIT)?;
    pair.right.wait_established(LIMIT)?;
    pair.left.wait_route("198.51.100.0/24", LIMIT)?;
    pair.right.wait_route("192.0.2.0/24", LIMIT)?;
    Ok(pair)
}

/// How often the session of the left daemon came up, and how often it went down.
fn history(left: &Causeway) -> Result<(u64, u64)> {
    let neighbor = left.neighbor("10.0.0.2")?;
    let number = |field: &str| neighbor[field].as_u64().context("no number");
    Ok((number("establishedCount")?, number("flapCount")?))
}

fn errors(left: &Causeway) -> Result<Vec<Value>> {
    let status = left.ask(["status"])?;
    Ok(status["config"]["errors"]
        .as_array()
        .cloned()
        .unwrap_or_default())
}

#[test]
fn two_daemons_establish_a_session_and_exchange_routes() {
    Lab::test(|lab| {
        let pair = pair(lab)?;
        let neighbor = pair.left.neighbor("10.0.0.2")?;
        ensure!(neighbor["state"] == "Established", "{neighbor}");
        ensure!(neighbor["peerASN"] == 65002, "{neighbor}");
        ensure!(neighbor["negotiated"]["fourOctetASN"] == true, "{neighbor}");
        let path = pair.right.wait_route("192.0.2.0/24", LIMIT)?;
        ensure!(
            path["status"] == "best" && path["asPath"] == "65001",
            "{path}"
        );
        let explained = pair.left.ask(["bgp", "explain", "192.0.2.0/24"])?;
        ensure!(explained["exports"][0]["advertised"] == true, "{explained}");
        Ok(())
    });
}

#[test]
fn a_reload_changes_what_it_must_and_keeps_the_session() {
    Lab::test(|lab| {
        let mut pair = pair(lab)?;
        let before = history(&pair.left)?;
        pair.left.announce("203.0.113.0/24")?;
        pair.right.wait_route("203.0.113.0/24", LIMIT)?;
        pair.left.withdraw("192.0.2.0/24")?;
        pair.right.wait_no_route("192.0.2.0/24", LIMIT)?;
        ensure!(history(&pair.left)? == before, "the session was reset");
        Ok(())
    });
}

#[test]
fn a_wrong_reload_is_refused_as_a_whole_and_changes_nothing() {
    Lab::test(|lab| {
        let pair = pair(lab)?;
        let before = history(&pair.left)?;
        let generation = pair.left.ask(["status"])?["config"]["generation"].clone();
        let file = pair.left.directory().join("another.yaml");
        // Right in itself, and then a mistake: neither may come into force.
        fs::write(
            &file,
            "apiVersion: causeway.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {name: more, labels: {announce: own}}\n\
             spec: {advertisements: [{advertisementType: Prefix, prefixes: [203.0.113.0/24]}]}\n---\n\
             apiVersion: causeway.dev/v1alpha1\nkind: BGPFilter\nmetadata: {name: wrong}\nspec: {defaultActoin: Accept}\n",
        )?;
        let found = wait_until("the refusal", LIMIT, || {
            let errors = errors(&pair.left)?;
            ensure!(!errors.is_empty(), "no error yet");
            Ok(errors)
        })?;
        ensure!(found.len() == 1, "{found:?}");
        ensure!(
            found[0]["line"] == 9 && found[0]["field"] == "spec.defaultActoin",
            "{found:?}"
        );
        ensure!(
            found[0]["remedy"] == "did you mean `defaultAction`?",
            "{found:?}"
        );
        let status = pair.left.ask(["status"])?;
        ensure!(status["config"]["generation"] == generation, "{status}");
        ensure!(history(&pair.left)? == before, "the session was reset");
        ensure!(
            pair.right.paths("203.0.113.0/24")?.is_empty(),
            "half of it is in force"
        );

        fs::remove_file(&file)?;
        wait_until("the errors to go", LIMIT, || {
            ensure!(errors(&pair.left)?.is_empty(), "still there");
            Ok(())
        })
    });
}

#[test]
fn a_reload_without_the_instance_ends_its_sessions_and_one_with_it_starts_them_again() {
    Lab::test(|lab| {
        let mut pair = pair(lab)?;
        let file = pair.left.directory().join("causeway.yaml");
        let yaml = fs::read_to_string(&file)?;
        fs::write(&file, "# nothing\n")?;
        pair.right.wait_no_route("192.0.2.0/24", LIMIT)?;
        let neighbor = pair.right.neighbor("10.0.0.1")?;
        let told = neighbor["lastReset"]["reason"].as_str().unwrap_or_default();
        ensure!(told.contains("(6/3)"), "no Peer De-configured: {neighbor}");
        wait_until("an accepted configuration", LIMIT, || {
            let status = pair.left.ask(["status"])?;
            ensure!(status["config"]["generation"] == 2, "{status}");
            Ok(())
        })?;
        fs::write(&file, yaml)?;
        pair.left.wait_established(LIMIT)?;
        pair.right.wait_established(LIMIT)?;
        pair.left.wait_route("198.51.100.0/24", LIMIT)?;
        pair.right.wait_route("192.0.2.0/24", LIMIT).map(drop)
    });
}

#[test]
fn files_are_watched_without_a_signal() {
    Lab::test(|lab| {
        let pair = pair(lab)?;
        fs::write(
            pair.left.directory().join("more.yaml"),
            "apiVersion: causeway.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {name: more, labels: {announce: own}}\n\
             spec: {advertisements: [{advertisementType: Prefix, prefixes: [203.0.113.0/24]}]}\n",
        )?;
        pair.right.wait_route("203.0.113.0/24", LIMIT).map(drop)
    });
}

#[test]
fn a_daemon_that_is_stopped_says_so_to_its_peers() {
    Lab::test(|lab| {
        let mut pair = pair(lab)?;
        pair.left.stop()?;
        pair.right.wait_no_route("192.0.2.0/24", LIMIT)?;
        let neighbor = pair.right.neighbor("10.0.0.1")?;
        let told = neighbor["lastReset"]["reason"].as_str().unwrap_or_default();
        ensure!(
            told.contains("(6/2)"),
            "no Administrative Shutdown: {neighbor}"
        );
        // What follows, attempts that nobody answers, doesn't hide it.
        wait_until("a failed attempt", LIMIT, || {
            let neighbor = pair.right.neighbor("10.0.0.1")?;
            ensure!(neighbor["lastError"]["reason"].is_string(), "{neighbor}");
            ensure!(neighbor["lastReset"]["reason"] == told, "{neighbor}");
            Ok(())
        })
    });
}

#[test]
fn an_operator_can_reset_stop_and_start_a_peer() {
    Lab::test(|lab| {
        let mut pair = pair(lab)?;
        let (up, down) = history(&pair.left)?;
        pair.left.ask([
            "bgp",
            "neighbor",
            "reset",
            "peer0",
            "--message",
            "new cable",
        ])?;
        let told = wait_until("the reset", LIMIT, || {
            let neighbor = pair.right.neighbor("10.0.0.1")?;
            let told = neighbor["lastReset"]["reason"].as_str().unwrap_or_default();
            ensure!(told.contains("(6/4)"), "{neighbor}");
            Ok(told.to_owned())
        })?;
        ensure!(told.contains("new cable"), "{told}");
        pair.left.wait_established(LIMIT)?;
        ensure!(
            history(&pair.left)? == (up + 1, down + 1),
            "{:?}",
            history(&pair.left)?
        );

        pair.left.ask(["bgp", "neighbor", "disable", "10.0.0.2"])?;
        wait_until("the peer to be down", LIMIT, || {
            let neighbor = pair.left.neighbor("10.0.0.2")?;
            ensure!(
                neighbor["adminDown"] == true && neighbor["state"] == "Idle",
                "{neighbor}"
            );
            Ok(())
        })?;
        pair.left.ask(["bgp", "neighbor", "enable", "peer0"])?;
        pair.left.wait_established(LIMIT)
    });
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    Lab::test(|lab| {
        let (left, _right) = nodes(lab)?;
        let first = Causeway::start(&left, left_config())?;
        let output = left
            .command(binary("causewayd")?)
            .args(["--dataplane", "none", "--node-name", "left", "--config"])
            .arg(first.directory())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
        ensure!(said.lines().count() == 1, "more than a sentence: {said}");
        ensure!(
            said.contains("179") || said.contains("another causewayd"),
            "{said}"
        );
        first.ask(["status"]).map(drop)
    });
}

#[test]
fn a_configuration_that_is_right_for_none_but_wrong_for_the_host_is_kept_out() {
    Lab::test(|lab| {
        let mut pair = pair(lab)?;
        let yaml = left_config().yaml().replace(
            "      peers:\n",
            "      peers:\n        - {name: far, peerASN: 65009, peerAddress: \"fe80::9\", interface: nowhere0}\n",
        );
        fs::write(pair.left.directory().join("causeway.yaml"), yaml)?;
        pair.left.process().signal(Signal::SIGHUP)?;
        let found = wait_until("the refusal", LIMIT, || {
            let errors = errors(&pair.left)?;
            ensure!(!errors.is_empty(), "no error yet");
            Ok(errors)
        })?;
        let problem = found[0]["problem"].as_str().unwrap_or_default();
        ensure!(problem.contains("nowhere0"), "{found:?}");
        ensure!(history(&pair.left)? == (1, 0), "the session was reset");
        Ok(())
    });
}
