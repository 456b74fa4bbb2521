//! 802.1Q: a packet that comes with one tag and leaves with another.
//!
//! ```text
//!   client eth0.10 ══ left.10 router right.20 ══ eth0.20 server
//! ```

use anyhow::{Result, ensure};
use causeway_maps::Hook;
use support::causeway::{Causeway, Config};
use support::fabric::{CLIENTS, PREFIXES, SERVERS};
use support::forwarding::{forwarded_at, kernel_forwarded};
use support::peer::{Neighbor, Router};
use support::traffic::{ping, transfer};
use support::{Lab, Node, wait_until};

use crate::{LIMIT, detach_xdp, in_the_machine};

const PINGS: u32 = 20;
const TRANSFER_BYTES: u64 = 64 << 10;

/// Connects two nodes by a link, with a VLAN device at either end.
fn trunk(node: &Node, interface: &str, router: &Node, theirs: &str, vid: u16) -> Result<()> {
    node.link(interface, router, theirs)?;
    for (node, interface) in [(node, interface), (router, theirs)] {
        node.ip([
            format!("link add link {interface} name {interface}.{vid} type vlan id {vid}"),
            format!("link set {interface}.{vid} up"),
        ])?;
        // The tag goes beside the frame otherwise, where XDP at the other end doesn't see it.
        node.run("ethtool", ["-K", interface, "txvlan", "off"])?;
    }
    Ok(())
}

#[test]
fn packets_between_vlans_are_forwarded_by_xdp_and_without_it_by_tc() {
    in_the_machine();
    Lab::test(|lab| {
        let (client, router, server) = (
            lab.node("client")?,
            lab.node("router")?,
            lab.node("server")?,
        );
        trunk(&client, "eth0", &router, "left", 10)?;
        trunk(&server, "eth0", &router, "right", 20)?;
        client.address("eth0.10", ["10.1.0.10/24", "fd00:1::10/64"])?;
        router.address("left.10", ["10.1.0.1/24", "fd00:1::1/64"])?;
        router.address("right.20", ["10.2.0.1/24", "fd00:2::1/64"])?;
        server.address("eth0.20", ["10.2.0.2/24", "fd00:2::2/64"])?;
        server.address("lo", SERVERS.map(|server| server.to_string()))?;
        for (node, v4, v6) in [
            (&client, "10.1.0.1", "fd00:1::1"),
            (&server, "10.2.0.1", "fd00:2::1"),
        ] {
            node.ip([
                format!("route add default via {v4}"),
                format!("-6 route add default via {v6}"),
            ])?;
        }
        // So that it is seen when the kernel forwards what the programs should have.
        router.forwarding()?;

        let mut ours = Router::new(65000, [10, 0, 0, 1]);
        let mut theirs = Router::new(65001, [10, 0, 0, 2]);
        for (prefix, own, their) in [
            (PREFIXES[0], "10.2.0.1", "10.2.0.2"),
            (PREFIXES[1], "fd00:2::1", "fd00:2::2"),
        ] {
            ours = ours.neighbor(Neighbor::new(own, their, 65001));
            theirs = theirs
                .originate(prefix)
                .neighbor(Neighbor::new(their, own, 65000));
        }
        for prefix in CLIENTS {
            ours = ours.originate(prefix);
        }
        let _theirs = Causeway::start(&server, Config::speaker(theirs))?;
        let uplinks = ["left.10", "right.20"];
        let mut ours = Causeway::start(&router, Config::transit(ours, uplinks))?;
        ours.wait_established(LIMIT)?;
        for address in SERVERS {
            wait_until(&format!("an answer from {address}"), LIMIT, || {
                ensure!(ping(&client, address, 1)? == 1, "no answer");
                Ok(())
            })?;
        }

        let carries = |hook: Hook| -> Result<()> {
            let (before, kernel) = (forwarded_at(&router, hook)?, kernel_forwarded(&router)?);
            for address in SERVERS {
                let answered = ping(&client, address, PINGS)?;
                ensure!(answered == PINGS, "{address}: {answered} of {PINGS}");
                transfer(&client, &server, address, TRANSFER_BYTES)?;
            }
            let forwarded = forwarded_at(&router, hook)? - before;
            let kernel = kernel_forwarded(&router)? - kernel;
            ensure!(
                forwarded >= u64::from(4 * PINGS) && kernel == 0,
                "{hook:?} forwarded {forwarded}, the kernel {kernel}"
            );
            Ok(())
        };
        wait_until("XDP to have all neighbours", LIMIT, || carries(Hook::Xdp))?;
        ours.kill()?;
        carries(Hook::Xdp)?;
        detach_xdp(&router)?;
        carries(Hook::TcUplink)
    });
}
