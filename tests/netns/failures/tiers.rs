//! Two tiers of our routers, one behind the other, with equally many members: what the first sends one way, the second
//! must spread over all of its own.
//!
//! ```text
//!                      ╱─ leaf1 ─╲╲╲╲
//!   north ── spine ───┼──  …   ───┼─── far   four links from each leaf
//!                      ╲─ leaf4 ─╱╱╱╱
//! ```

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use support::causeway::{Causeway, Config};
use support::flows::Ways;
use support::forwarding::group_of;
use support::peer::{Implementation, Neighbor, Peer, Router};
use support::{Lab, Node, wait_until};

use super::LIMIT;
use super::flows::{ifindex, sources};

/// Leaves, and links of each.
const MEMBERS: usize = 4;
const FLOWS: u32 = 16_384;
const SERVERS: [&str; 2] = ["203.0.113.10", "2001:db8:203::10"];
const PREFIXES: [&str; 2] = ["203.0.113.0/24", "2001:db8:203::/48"];

const SPINE_ASN: u32 = 65_100;
const LEAF_ASN: u32 = 65_001;
const FAR_ASN: u32 = 65_200;

#[test]
fn two_tiers_of_routers_spread_flows_over_all_their_links() {
    Lab::test(|lab| {
        let stage = Stage::start(lab)?;
        let sources = sources(&stage.north)?;
        for (server, sources) in SERVERS.into_iter().zip(&sources) {
            let spread = stage.spread(server, sources)?;
            ensure!(spread >= 0.8, "{spread:.2} of the ideal spread");
        }
        Ok(())
    });
}

struct Stage {
    north: Node,
    far: Node,
    _far_peer: Peer,
    _routers: Vec<Causeway>,
}

impl Stage {
    fn start(lab: &Lab) -> Result<Self> {
        let (north, spine, far) = (lab.node("north")?, lab.node("spine")?, lab.node("far")?);
        let leaves = (1..=MEMBERS)
            .map(|leaf| lab.node(&format!("leaf{leaf}")))
            .collect::<Result<Vec<_>>>()?;
        connect(&north, &spine, &leaves, &far)?;
        let far_peer = Peer::start(Implementation::Bird, &far, far_router())?;
        let mut routers = vec![Causeway::start(&spine, spine_config())?];
        for (leaf, node) in (1..).zip(&leaves) {
            routers.push(Causeway::start(node, leaf_config(leaf))?);
        }
        for router in &mut routers {
            router.wait_established(LIMIT)?;
        }
        for node in [&spine].into_iter().chain(&leaves) {
            for server in SERVERS {
                wait_until(&format!("all members on {}", node.name()), LIMIT, || {
                    let group = group_of(node, server.parse()?)?;
                    ensure!(group.len() == MEMBERS, "{group:?}");
                    Ok(())
                })?;
            }
        }
        Ok(Self {
            north,
            far,
            _far_peer: far_peer,
            _routers: routers,
        })
    }

    /// How many of their links the leaves use to `server`, the worst of them: 1 if all carry the same, a quarter if all
    /// flows take one.
    fn spread(&self, server: &str, sources: &[IpAddr]) -> Result<f64> {
        let ways = Ways::of(&self.north, sources, &self.far, server.parse()?, FLOWS)?;
        let shares = ways.shares();
        let mut worst = 1.0_f64;
        for leaf in 1..=MEMBERS {
            let links = (1..=MEMBERS).map(|link| -> Result<usize> {
                let way = ifindex(&self.far, &lower_interface(leaf, link))?;
                Ok(shares.get(&way).copied().unwrap_or(0))
            });
            let links = links.collect::<Result<Vec<_>>>()?;
            let all: usize = links.iter().sum();
            ensure!(
                all * MEMBERS * 10 > ways.flows() * 9,
                "leaf {leaf} has too few flows: {shares:?}"
            );
            let most = links.iter().max().context("no links")?;
            let spread = all as f64 / (MEMBERS * most) as f64;
            println!("{server} by leaf {leaf}: {links:?}, {spread:.2} of the ideal spread");
            worst = worst.min(spread);
        }
        Ok(worst)
    }
}

/// The link between the spine and a leaf, the spine's end being 1.
fn upper(leaf: usize, host: usize) -> [String; 2] {
    [
        format!("10.2.{leaf}.{host}"),
        format!("fd00:2:{leaf}::{host}"),
    ]
}

/// A link between a leaf and `far`, the leaf's end being 1.
fn lower(leaf: usize, link: usize, host: usize) -> [String; 2] {
    let number = 10 * leaf + link;
    [
        format!("10.3.{number}.{host}"),
        format!("fd00:3:{number}::{host}"),
    ]
}

/// Of such a link, on `far`.
fn lower_interface(leaf: usize, link: usize) -> String {
    format!("leaf{leaf}-{link}")
}

fn connect(north: &Node, spine: &Node, leaves: &[Node], far: &Node) -> Result<()> {
    north.link("eth0", spine, "north")?;
    north.address("eth0", ["10.1.0.10/24", "fd00:1::10/64"])?;
    spine.address("north", ["10.1.0.1/24", "fd00:1::1/64"])?;
    north.ip([
        "route add default via 10.1.0.1",
        "-6 route add default via fd00:1::1",
    ])?;
    let with_lengths = |[v4, v6]: [String; 2]| [format!("{v4}/24"), format!("{v6}/64")];
    for (leaf, node) in (1..).zip(leaves) {
        spine.link(node.name(), node, "spine")?;
        spine.address(node.name(), with_lengths(upper(leaf, 1)))?;
        node.address("spine", with_lengths(upper(leaf, 2)))?;
        for link in 1..=MEMBERS {
            let (name, far_name) = (format!("far{link}"), lower_interface(leaf, link));
            node.link(&name, far, &far_name)?;
            node.address(&name, with_lengths(lower(leaf, link, 1)))?;
            far.address(&far_name, with_lengths(lower(leaf, link, 2)))?;
        }
    }
    let [v4, v6] = SERVERS;
    far.address("lo", [format!("{v4}/32"), format!("{v6}/128")])
}

fn sessions(own: [String; 2], their: [String; 2], asn: u32) -> impl Iterator<Item = Neighbor> {
    let pairs = own.into_iter().zip(their);
    pairs.map(move |(own, their)| Neighbor::new(&own, &their, asn))
}

fn leaf_asn(leaf: usize) -> u32 {
    (LEAF_ASN..).nth(leaf).unwrap_or(LEAF_ASN)
}

fn spine_config() -> Config {
    let mut router = Router::new(SPINE_ASN, [10, 2, 0, 1]);
    for leaf in 1..=MEMBERS {
        let ends = sessions(upper(leaf, 1), upper(leaf, 2), leaf_asn(leaf));
        router.neighbors.extend(ends);
    }
    let leaves = (1..=MEMBERS).map(|leaf| format!("leaf{leaf}"));
    Config::transit(router, leaves.chain(["north".to_owned()]))
}

fn leaf_config(leaf: usize) -> Config {
    let id = u8::try_from(leaf).unwrap_or(u8::MAX);
    let mut router = Router::new(leaf_asn(leaf), [10, 3, 0, id]);
    let up = sessions(upper(leaf, 2), upper(leaf, 1), SPINE_ASN);
    router.neighbors.extend(up);
    for link in 1..=MEMBERS {
        let ends = sessions(lower(leaf, link, 1), lower(leaf, link, 2), FAR_ASN);
        router.neighbors.extend(ends);
    }
    let links = (1..=MEMBERS).map(|link| format!("far{link}"));
    Config::transit(router, links.chain(["spine".to_owned()]))
}

fn far_router() -> Router {
    let mut router = Router::new(FAR_ASN, [10, 3, 0, 200]);
    for prefix in PREFIXES {
        router = router.originate(prefix);
    }
    for leaf in 1..=MEMBERS {
        for link in 1..=MEMBERS {
            let ends = sessions(lower(leaf, link, 2), lower(leaf, link, 1), leaf_asn(leaf));
            router.neighbors.extend(ends);
        }
    }
    router
}
