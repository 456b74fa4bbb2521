//! A confederation (RFC 5065): FRR in another member AS on one side, BIRD outside on the other.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use support::causeway::{Causeway, Config};
use support::peer::{Implementation, Neighbor, Peer, Router};
use support::{Lab, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

const IDENTIFIER: u32 = 64512;
const MEMBER: u32 = 65100;
const OURS: u32 = 65000;
const OUTSIDE: u32 = 64999;

#[test]
fn a_member_as_between_frr_in_another_one_and_bird_outside() {
    Lab::test(|lab| {
        let (frr_node, us_node, bird_node) =
            (lab.node("member")?, lab.node("us")?, lab.node("outside")?);
        us_node.link("eth0", &frr_node, "eth0")?;
        us_node.link("eth1", &bird_node, "eth0")?;
        us_node.address("eth0", ["10.0.0.1/24"])?;
        us_node.address("eth1", ["10.0.1.1/24"])?;
        frr_node.address("eth0", ["10.0.0.2/24"])?;
        bird_node.address("eth0", ["10.0.1.2/24"])?;

        let frr = Peer::start(
            Implementation::Frr,
            &frr_node,
            Router::new(MEMBER, [10, 0, 0, 2])
                .originate("198.51.100.0/24")
                .neighbor(Neighbor::new("10.0.0.2", "10.0.0.1", OURS)),
        )?;
        let confederation = [
            "configure terminal".to_owned(),
            format!("router bgp {MEMBER}"),
            format!("bgp confederation identifier {IDENTIFIER}"),
            format!("bgp confederation peers {OURS}"),
        ];
        let commands = confederation.iter().flat_map(|line| ["-c", line.as_str()]);
        frr_node.run("vtysh", ["-d", "bgpd"].into_iter().chain(commands))?;
        let bird = Peer::start(
            Implementation::Bird,
            &bird_node,
            Router::new(OUTSIDE, [10, 0, 1, 2])
                .originate("203.0.113.0/24")
                .neighbor(Neighbor::new("10.0.1.2", "10.0.1.1", IDENTIFIER)),
        )?;
        let mut config = Config::speaker(
            Router::new(OURS, [10, 0, 0, 1])
                .originate("192.0.2.0/24")
                .neighbor(Neighbor::new("10.0.0.1", "10.0.0.2", MEMBER))
                .neighbor(Neighbor::new("10.0.1.1", "10.0.1.2", OUTSIDE)),
        );
        config.instance = format!(
            "      confederation: {{identifier: {IDENTIFIER}, members: [{OURS}, {MEMBER}]}}\n"
        );
        let mut us = Causeway::start(&us_node, config)?;
        us.wait_established(LIMIT)?;
        ensure!(us.neighbor("10.0.0.2")?["type"] == "confederation");
        ensure!(us.neighbor("10.0.1.2")?["type"] == "eBGP");

        let inner = us.wait_route("198.51.100.0/24", LIMIT)?;
        ensure!(inner["asPath"] == "(65100)", "{inner}");
        // FRR: the member path before the outer one, local preference and next hop as we learned them.
        let seen = |prefix: &str| -> Result<Value> {
            Ok(serde_json::from_str(&frr.wait_route(prefix, LIMIT)?)?)
        };
        let (own, outer) = (seen("192.0.2.0/24")?, seen("203.0.113.0/24")?);
        ensure!(own["paths"][0]["aspath"]["string"] == "(65000)", "{own}");
        let path = &outer["paths"][0];
        ensure!(path["aspath"]["string"] == "(65000) 64999", "{outer}");
        ensure!(path["nexthops"][0]["ip"] == "10.0.1.2", "{outer}");
        // BIRD: the identifier and nothing else.
        for prefix in ["192.0.2.0/24", "198.51.100.0/24"] {
            wait_until("the route at BIRD", LIMIT, || {
                let route = bird.wait_route(prefix, Duration::from_secs(1))?;
                ensure!(route.contains("64512"), "{route}");
                ensure!(
                    !route.contains("65100") && !route.contains("65000"),
                    "{route}"
                );
                Ok(())
            })?;
        }
        Ok(())
    });
}
