//! What `route explain`, status and metrics tell, against what packets do and what peers are sent.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::causeway::{Causeway, Config, binary};
use support::fabric::SERVERS;
use support::peer::{Implementation, Neighbor, Peer, Router};
use support::traffic::ping;
use support::{Lab, Node, wait_until};

use crate::forwarding::stage;

const LIMIT: Duration = Duration::from_secs(60);
/// Packets of one flow; more than anybody else sends meanwhile.
const PACKETS: u64 = 40;

fn explain(causeway: &Causeway, query: &str) -> Result<Value> {
    causeway.api(&format!("/v1/routes/explain?{query}"))
}

fn differences(answer: &Value) -> usize {
    answer["differences"].as_array().map_or(0, Vec::len)
}

/// Sends packets of one flow, which nobody answers; the ports.
fn send_flow(from: &Node, to: &Node, address: IpAddr) -> Result<(SocketAddr, SocketAddr)> {
    let sink = to.enter(|| UdpSocket::bind((address, 0)))??;
    let target = sink.local_addr()?;
    let socket = from.enter(|| {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        UdpSocket::bind(any)
    })??;
    socket.connect(target)?;
    for _ in 0..PACKETS {
        socket.send(b"flow")?;
    }
    sink.set_read_timeout(Some(LIMIT))?;
    let mut buffer = [0; 8];
    for _ in 0..PACKETS {
        sink.recv(&mut buffer)
            .context("a packet of the flow is lost")?;
    }
    Ok((socket.local_addr()?, target))
}

#[test]
fn the_member_that_explain_names_is_the_one_that_the_packets_take() {
    Lab::test(|lab| {
        let stage = stage(lab)?;
        let fabric = &stage.fabric;
        let mut taken = [0, 0];
        for round in 0..8 {
            for server in SERVERS {
                let before = fabric.carried()?;
                let (source, target) = send_flow(&fabric.client, &fabric.server, server)?;
                let after = fabric.carried()?;
                let query = format!(
                    "address={server}&source={}&protocol=udp&sourcePort={}&destinationPort={}&ingress=client",
                    source.ip(),
                    source.port(),
                    target.port()
                );
                let answer = explain(&stage.causeway, &query)?;
                ensure!(differences(&answer) == 0, "{answer:#}");
                ensure!(answer["outcome"][0]["action"] == "forwarded", "{answer:#}");
                let members = answer["members"].as_array().context("no members")?;
                ensure!(members.len() == 2, "{answer:#}");
                let chosen: Vec<&str> = members
                    .iter()
                    .filter(|member| member["chosen"] == true)
                    .filter_map(|member| member["interface"].as_str())
                    .collect();
                let index = usize::from(chosen == ["tor2"]);
                ensure!(chosen.len() == 1, "{answer:#}");
                let carried = after[index] - before[index];
                let other = after[1 - index] - before[1 - index];
                ensure!(
                    carried >= PACKETS && other < PACKETS,
                    "round {round}: {chosen:?} is told, tor1 and tor2 carried {before:?} and then {after:?}"
                );
                taken[index] += 1;
            }
        }
        ensure!(
            taken[0] > 0 && taken[1] > 0,
            "all flows took one: {taken:?}"
        );
        Ok(())
    });
}

#[test]
fn explain_tells_what_becomes_of_packets_that_no_route_of_bgp_takes() {
    Lab::test(|lab| {
        let stage = stage(lab)?;
        let ask = |address: &str| explain(&stage.causeway, &format!("address={address}"));
        let reason = |answer: &Value| answer["outcome"][0]["reason"].clone();

        let unknown = ask("192.0.2.77")?;
        ensure!(reason(&unknown) == "no_route", "{unknown:#}");
        ensure!(
            unknown["route"].is_null() && unknown["kernel"].is_null(),
            "{unknown:#}"
        );
        ensure!(
            unknown["fate"].to_string().contains("unreachable"),
            "{unknown:#}"
        );

        for own in ["10.1.0.1", "fd00:1::1"] {
            let answer = ask(own)?;
            ensure!(reason(&answer) == "punt", "{answer:#}");
            ensure!(answer["route"]["origin"] == "connected", "{answer:#}");
            ensure!(answer["kernel"]["protocol"] == 2, "{answer:#}");
        }
        for multicast in ["224.0.0.5", "ff02::5"] {
            let answer = ask(multicast)?;
            ensure!(reason(&answer) == "not_routable", "{answer:#}");
        }
        for server in SERVERS {
            let answer = ask(&server.to_string())?;
            ensure!(answer["route"]["origin"] == "bgp", "{answer:#}");
            ensure!(answer["bgp"]["paths"][0]["status"] == "best", "{answer:#}");
            ensure!(answer["kernel"]["protocol"] == 67, "{answer:#}");
            let ways = answer["kernel"]["nextHops"].as_array().map_or(0, Vec::len);
            ensure!(ways == 2, "{answer:#}");
            ensure!(differences(&answer) == 0, "{answer:#}");
        }
        let failed = ask("nowhere").unwrap_err().to_string();
        ensure!(
            failed.contains("400") && failed.contains("nowhere"),
            "{failed}"
        );
        // The table for people, too.
        let router = &stage.fabric.router;
        let text = router.run(binary("causeway")?, ["route", "explain", "203.0.113.10"])?;
        ensure!(text.contains("maps, intent and kernel agree"), "{text}");
        Ok(())
    });
}

#[test]
fn an_entry_that_somebody_else_changed_is_told_as_a_difference() {
    Lab::test(|lab| {
        let stage = stage(lab)?;
        let router = &stage.fabric.router;
        let key: Vec<String> = [24, 0, 0, 0, 203, 0, 113, 0]
            .map(|b: u8| b.to_string())
            .into();
        let mut update: Vec<String> = [
            "map",
            "update",
            "pinned",
            "/sys/fs/bpf/causeway/routes4",
            "key",
        ]
        .map(str::to_owned)
        .into();
        update.extend(key);
        update.extend(["value", "1", "0", "0", "0"].map(str::to_owned));
        // Now and then the daemon compares all by itself, and may be quicker.
        let seen = wait_until("the difference", LIMIT, || {
            router.run("bpftool", &update)?;
            let answer = explain(&stage.causeway, "address=203.0.113.10")?;
            ensure!(differences(&answer) > 0, "{answer:#}");
            Ok(answer["differences"].to_string())
        })?;
        ensure!(
            seen.contains("punt") && seen.contains("203.0.113.0/24"),
            "{seen}"
        );
        wait_until("exit code 1", LIMIT, || {
            router.run("bpftool", &update)?;
            let told = router.run(binary("causeway")?, ["route", "explain", "203.0.113.10"]);
            ensure!(told.is_err(), "exit code 0: {told:?}");
            Ok(())
        })
    });
}

/// A node with an uplink, a pod, and a range of its own, of which it knows nothing but that pod.
struct Host {
    tor: Node,
    causeway: Causeway,
}

const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];

fn host(lab: &Lab) -> Result<Host> {
    let (tor, node, pod) = (lab.node("tor")?, lab.node("node")?, lab.node("pod")?);
    node.link("tor", &tor, "node")?;
    node.link("pod1", &pod, "eth0")?;
    node.address("tor", ["10.9.0.2/24", "fd00:9::2/64"])?;
    tor.address("node", ["10.9.0.1/24", "fd00:9::1/64"])?;
    node.address("pod1", ["10.244.1.1/32", "fd00:244:1::1/128"])?;
    let [v4, v6] = POD;
    pod.address("eth0", [format!("{v4}/32"), format!("{v6}/128")])?;
    node.ip([
        format!("route add {v4}/32 dev pod1"),
        format!("-6 route add {v6}/128 dev pod1"),
    ])?;
    pod.ip([
        "route add 10.244.1.1/32 dev eth0",
        "route add default via 10.244.1.1 dev eth0",
        "-6 route add fd00:244:1::1/128 dev eth0",
        "-6 route add default via fd00:244:1::1 dev eth0",
    ])?;
    tor.ip([
        "route add 10.244.1.0/24 via 10.9.0.2",
        "-6 route add fd00:244:1::/64 via fd00:9::2",
    ])?;
    node.forwarding()?;
    let router = Router::new(65_001, [10, 9, 0, 2])
        .originate("10.244.1.0/24")
        .originate("fd00:244:1::/64");
    let causeway = Causeway::start(
        &node,
        Config {
            node_settings: "  podInterfacePrefix: pod\n".to_owned(),
            ..Config::node(router, ["tor"])
        },
    )?;
    for address in POD {
        wait_until(&format!("an answer from {address}"), LIMIT, || {
            ensure!(ping(&tor, address.parse()?, 1)? == 1, "no answer");
            let answer = explain(&causeway, &format!("address={address}"))?;
            ensure!(answer["outcome"][1]["action"] == "forwarded", "{answer:#}");
            Ok(())
        })?;
    }
    Ok(Host { tor, causeway })
}

#[test]
fn what_tc_delivers_to_a_pod_is_counted_under_its_hook() {
    Lab::test(|lab| {
        let Host { tor, causeway } = host(lab)?;
        let count = |hook: &str, reason: &str| -> Result<u64> {
            let status = causeway.ask(["status"])?;
            let counters = status["dataplane"]["counters"].as_array().cloned();
            let all = counters.unwrap_or_default().into_iter();
            let mut found = all.filter(|one| one["hook"] == hook && one["reason"] == reason);
            Ok(found
                .next()
                .map_or(0, |one| one["packets"].as_u64().unwrap_or(0)))
        };
        for (address, reason) in POD.into_iter().zip(["forwarded_ipv4", "forwarded_ipv6"]) {
            let (passed, delivered) = (count("xdp", "local")?, count("tc_uplink", reason)?);
            ensure!(ping(&tor, address.parse()?, 10)? == 10, "{address}");
            let (passed, delivered) = (
                count("xdp", "local")? - passed,
                count("tc_uplink", reason)? - delivered,
            );
            ensure!(passed >= 10, "XDP passed {passed}");
            ensure!(delivered >= 10, "TC delivered {delivered}");
            let sample = format!(
                "causeway_dataplane_packets_total{{hook=\"tc_uplink\",reason=\"{reason}\"}}"
            );
            ensure!(causeway.metric(&sample)? >= 10, "{sample}");

            let answer = explain(&causeway, &format!("address={address}"))?;
            let hooks = answer["outcome"].as_array().context("no outcome")?;
            ensure!(hooks.len() == 2, "{answer:#}");
            ensure!(hooks[0]["reason"] == "local", "{answer:#}");
            ensure!(hooks[1]["hook"] == "tc_uplink", "{answer:#}");
            ensure!(hooks[1]["reason"] == reason, "{answer:#}");
            ensure!(answer["members"][0]["interface"] == "pod1", "{answer:#}");
        }
        // Of its own range and not known: the stack's, whose blackhole ends it.
        let answer = explain(&causeway, "address=10.244.1.77")?;
        ensure!(answer["outcome"][0]["reason"] == "punt", "{answer:#}");
        ensure!(answer["kernel"]["rejects"] == true, "{answer:#}");
        Ok(())
    });
}

/// A transit router between two peers, one of which announces more than the router may hold.
#[test]
fn a_prefix_that_does_not_fit_the_maps_is_announced_to_nobody_until_it_does() {
    Lab::test(|lab| {
        let (left, middle, right) = (lab.node("left")?, lab.node("middle")?, lab.node("right")?);
        middle.link("left", &left, "middle")?;
        middle.link("right", &right, "middle")?;
        middle.address("left", ["10.8.1.1/24"])?;
        middle.address("right", ["10.8.2.1/24"])?;
        left.address("middle", ["10.8.1.2/24"])?;
        right.address("middle", ["10.8.2.2/24"])?;
        middle.forwarding()?;
        let peer = |node: &Node, n: u8, asn: u32| {
            let (own, their) = (format!("10.8.{n}.2"), format!("10.8.{n}.1"));
            let router =
                Router::new(asn, [10, 8, n, 2]).neighbor(Neighbor::new(&own, &their, 65_000));
            let first = if n == 1 {
                "198.18.0.0/24"
            } else {
                "198.51.100.0/24"
            };
            Peer::start(Implementation::Bird, node, router.originate(first))
        };
        let (mut left, mut right) = (peer(&left, 1, 65_001)?, peer(&right, 2, 65_002)?);
        let router = Router::new(65_000, [10, 8, 0, 1])
            .neighbor(Neighbor::new("10.8.1.1", "10.8.1.2", 65_001))
            .neighbor(Neighbor::new("10.8.2.1", "10.8.2.2", 65_002));
        let config = Config::transit(router, ["left", "right"]);
        let mut causeway = Causeway::start(&middle, config.clone())?;
        causeway.wait_established(LIMIT)?;
        left.wait_established(LIMIT)?;
        right.wait_established(LIMIT)?;
        right.wait_route("198.18.0.0/24", LIMIT)?;

        // What is in stays; nothing more comes in.
        let mut full = config.clone();
        full.node_settings = "  maxRoutes: {ipv4: 1}\n".to_owned();
        causeway.reconfigure(full.clone())?;
        let many = ["198.18.1.0/24", "198.18.2.0/24"];
        for prefix in many {
            left.announce(prefix)?;
            causeway.wait_route(prefix, LIMIT)?;
        }
        let refused = |causeway: &Causeway| -> Result<Vec<String>> {
            let status = causeway.api("/v1/status")?;
            let routes = status["dataplane"]["refusedRoutes"].as_array().cloned();
            let routes = routes.unwrap_or_default().into_iter();
            Ok(routes
                .filter(|route| route["reason"].to_string().contains("routes4 is full"))
                .filter_map(|route| Some(route["prefix"].as_str()?.to_owned()))
                .filter(|prefix| prefix.starts_with("198.18."))
                .collect())
        };
        wait_until("both to be refused", LIMIT, || {
            let found = refused(&causeway)?;
            ensure!(found == many, "{found:?}");
            Ok(())
        })?;
        let held = "causeway_bgp_unprogrammed_prefixes{family=\"ipv4-unicast\"}";
        ensure!(causeway.metric(held)? >= 2, "the speaker knows");
        for prefix in many {
            right.wait_no_route(prefix, LIMIT)?;
            let why = causeway.api(&format!("/v1/bgp/explain?prefix={prefix}"))?;
            let text = why["exports"].to_string();
            ensure!(
                text.contains("forwarding tables could not take it"),
                "{why:#}"
            );
            ensure!(why["forwarding"]["state"] == "refused", "{why:#}");
        }
        // What it originates itself is no exception.
        full.router.originate.push("192.0.2.0/24".into());
        causeway.reconfigure(full)?;
        wait_until("the own prefix to be held back", LIMIT, || {
            let why = causeway.api("/v1/bgp/explain?prefix=192.0.2.0/24")?;
            let text = why["exports"].to_string();
            ensure!(
                text.contains("forwarding tables could not take it"),
                "{why:#}"
            );
            Ok(())
        })?;
        right.wait_no_route("192.0.2.0/24", LIMIT)?;
        // What was there before the limit still is.
        right.wait_route("198.18.0.0/24", LIMIT)?;

        left.withdraw(many[1])?;
        wait_until("one to be refused", LIMIT, || {
            let found = refused(&causeway)?;
            ensure!(found == many[..1], "{found:?}");
            Ok(())
        })?;
        let mut roomy = config;
        roomy.router.originate.push("192.0.2.0/24".into());
        causeway.reconfigure(roomy)?;
        right.wait_route(many[0], LIMIT)?;
        right.wait_route("192.0.2.0/24", LIMIT)?;
        wait_until("nothing to be refused", LIMIT, || {
            let status = causeway.api("/v1/status")?;
            ensure!(status["dataplane"]["refused"] == 0, "{status:#}");
            Ok(())
        })?;
        ensure!(causeway.metric(held)? == 0, "nothing is held back");
        Ok(())
    });
}
