//! Two racks under two spines: what the demo shows, and what the `netns` suite holds it to.
//!
//! ```text
//!                       client  198.51.100.10, 2001:db8:100::10
//!                      ╱      ╲
//!                spine1        spine2            ours, XDP
//!                   │ ╲        ╱ │
//!                   │   ╲    ╱   │
//!                   │     ╲╱     │
//!                   │     ╱╲     │
//!                 tor1          tor2             FRR and BIRD, or ours
//!                 ╱   ╲           │  tap
//!             node1   node2     node3            ours, XDP
//!              ╱╲       ╱╲        ╱╲
//!           pod1 pod2 pod1 pod2 pod1 pod2        10.244.N.11 and .12, fd00:244:N::11 and ::12
//! ```
//!
//! Every line is an eBGP session in each family, but those to pods, which are host routes on their nodes. The client is
//! a router too: with one link to each spine it has to choose. A bridge in a node of its own, `tap`, lies in the link
//! between `tor2` and `node3`, because what XDP sends on is not seen by a capture on the sender.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::causeway::{Causeway, Config};
use crate::fabric::Tor;
use crate::peer::{Family, Implementation, Neighbor, Peer, Router};
use crate::{Lab, Node, wait_until};

/// The client's addresses.
pub const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0x10)),
];
/// The client's prefixes.
pub const CLIENTS: [&str; 2] = ["198.51.100.0/24", "2001:db8:100::/48"];
/// Racks, spines, and uplinks of the client.
pub const RACKS: usize = 2;
/// Nodes with pods, and the rack of each.
pub const RACK_OF: [usize; 3] = [0, 0, 1];
/// Pods of a node.
pub const PODS: usize = 2;

const CLIENT_ASN: u32 = 65_200;
const SPINE_ASN: u32 = 65_100;
const TOR_ASN: u32 = 65_001;
const NODE_ASN: u32 = 65_011;

/// A machine that runs our daemon.
pub struct Speaker {
    /// Where it runs.
    pub node: Node,
    /// What runs.
    pub causeway: Causeway,
}

/// Everything.
pub struct Racks {
    /// Beyond the spines.
    pub client: Speaker,
    /// Those that are left.
    pub spines: Vec<Speaker>,
    /// One per rack.
    pub tors: [Tor; RACKS],
    /// Where the ToRs are.
    pub tor_nodes: [Node; RACKS],
    /// Kubernetes nodes.
    pub nodes: Vec<Speaker>,
    /// The pods of each node.
    pub pods: Vec<[Node; PODS]>,
    /// Bridges the link between `tor2` and `node3`.
    pub tap: Node,
}

/// The addresses of a pod.
#[must_use]
pub fn pod_addresses(node: usize, pod: usize) -> [IpAddr; 2] {
    let [node, pod] = [node + 1, pod + 11].map(|n| u8::try_from(n).unwrap_or(u8::MAX));
    // Read as hexadecimal, as everywhere here, so that both families show the same digits.
    let last = u16::from(pod / 10) * 16 + u16::from(pod % 10);
    [
        Ipv4Addr::new(10, 244, node, pod).into(),
        Ipv6Addr::new(0xfd00, 0x244, node.into(), 0, 0, 0, 0, last).into(),
    ]
}

/// The prefixes from which a node's pods have their addresses.
#[must_use]
pub fn pod_prefixes(node: usize) -> [String; 2] {
    let n = node + 1;
    [format!("10.244.{n}.0/24"), format!("fd00:244:{n}::/64")]
}

/// One end of a link: addresses with prefix length, and without.
struct End {
    with_length: [String; 2],
    plain: [String; 2],
}

fn end(tier: usize, link: usize, host: usize) -> End {
    let (v4, v6) = (
        format!("10.{tier}.{link}.{host}"),
        format!("fd00:{tier}:{link}::{host}"),
    );
    End {
        with_length: [format!("{v4}/24"), format!("{v6}/64")],
        plain: [v4, v6],
    }
}

/// The sessions over a link, seen from `own`: one per family, with that family's routes.
fn sessions(own: &End, their: &End, asn: u32) -> impl Iterator<Item = Neighbor> {
    let pairs = own.plain.clone().into_iter().zip(their.plain.clone());
    pairs.map(move |(own, their)| Neighbor::new(&own, &their, asn))
}

/// Links: the upper end first.
fn client_link(spine: usize) -> (End, End) {
    (end(2, spine + 1, 2), end(2, spine + 1, 1))
}

fn spine_link(spine: usize, tor: usize) -> (End, End) {
    let link = 10 * (spine + 1) + tor + 1;
    (end(0, link, 1), end(0, link, 2))
}

fn node_link(node: usize) -> (End, End) {
    (end(1, node + 1, 1), end(1, node + 1, 2))
}

impl Racks {
    /// Makes and starts it all. `tors` are FRR or BIRD or others, or ours where there is none.
    pub fn start(lab: &Lab, tors: [Option<Implementation>; RACKS]) -> Result<Self> {
        let client = lab.node("client")?;
        let spines = [lab.node("spine1")?, lab.node("spine2")?];
        let tor_nodes = [lab.node("tor1")?, lab.node("tor2")?];
        let nodes = [lab.node("node1")?, lab.node("node2")?, lab.node("node3")?];
        let tap = lab.node("tap")?;
        connect_client(&client, &spines)?;
        connect_spines(&spines, &tor_nodes)?;
        connect_nodes(&tor_nodes, &nodes, &tap)?;
        let mut pods = Vec::new();
        for (n, node) in nodes.iter().enumerate() {
            pods.push([pod(lab, node, n, 0)?, pod(lab, node, n, 1)?]);
        }
        for router in [&client]
            .into_iter()
            .chain(&spines)
            .chain(&tor_nodes)
            .chain(&nodes)
        {
            router.forwarding()?;
            router.sysctl("ipv4/fib_multipath_hash_policy", "1")?;
            router.sysctl("ipv6/fib_multipath_hash_policy", "1")?;
        }
        let [first, second] = tors;
        let tors = [
            start_tor(&tor_nodes[0], 0, first)?,
            start_tor(&tor_nodes[1], 1, second)?,
        ];
        Ok(Self {
            client: Speaker::start(client, client_config())?,
            spines: spines
                .into_iter()
                .enumerate()
                .map(|(s, node)| Speaker::start(node, spine_config(s)))
                .collect::<Result<_>>()?,
            tors,
            tor_nodes,
            nodes: nodes
                .into_iter()
                .enumerate()
                .map(|(n, node)| Speaker::start(node, node_config(n)))
                .collect::<Result<_>>()?,
            pods,
            tap,
        })
    }

    /// Waits until every session is Established; how many there are.
    pub fn wait_established(&mut self, limit: Duration) -> Result<usize> {
        let ours = [&mut self.client]
            .into_iter()
            .chain(&mut self.spines)
            .chain(&mut self.nodes);
        let mut ends = 0;
        for speaker in ours {
            speaker.causeway.wait_established(limit)?;
            ends += speaker.causeway.config().router.neighbors.len();
        }
        for (t, tor) in self.tors.iter_mut().enumerate() {
            tor.wait_established(limit)?;
            ends += tor_router(t).neighbors.len();
        }
        Ok(ends / 2)
    }

    /// Waits until every router knows the way to every pod and to the client.
    pub fn wait_routes(&self, limit: Duration) -> Result<()> {
        for (n, rack) in RACK_OF.into_iter().enumerate() {
            for prefix in pod_prefixes(n) {
                self.client
                    .causeway
                    .wait_paths(&prefix, self.spines.len(), limit)?;
                for (m, other) in self.nodes.iter().enumerate() {
                    if m != n {
                        other.causeway.wait_route(&prefix, limit)?;
                    }
                }
                // The other rack's ToR, which hears it from every spine.
                self.tors[1 - rack].wait_route(&prefix, limit)?;
            }
        }
        for prefix in CLIENTS {
            for node in &self.nodes {
                node.causeway.wait_route(prefix, limit)?;
            }
        }
        Ok(())
    }

    /// Waits until the first packets have resolved all neighbours: every pod answers every pod of the other rack, and
    /// the client.
    pub fn wait_reachable(&self, limit: Duration) -> Result<()> {
        for (n, rack) in RACK_OF.into_iter().enumerate() {
            let across = if rack == 0 { 2 } else { 0 };
            for (p, from) in self.pods[across].iter().enumerate() {
                for address in pod_addresses(n, p) {
                    answers(from, address, limit)?;
                    answers(&self.client.node, address, limit)?;
                }
            }
        }
        for address in CLIENT {
            for pod in self.pods.iter().flatten() {
                answers(pod, address, limit)?;
            }
        }
        Ok(())
    }

    /// Takes the first spine away while everything else goes on: its processes, and its namespace with all links.
    pub fn remove_spine(&mut self, lab: &Lab) -> Result<()> {
        ensure!(self.spines.len() > 1, "the last spine stays");
        let Speaker { node, causeway } = self.spines.remove(0);
        drop(causeway);
        lab.remove(node)
    }
}

impl Speaker {
    fn start(node: Node, config: Config) -> Result<Self> {
        let causeway = Causeway::start(&node, config)?;
        Ok(Self { node, causeway })
    }
}

fn answers(from: &Node, address: IpAddr, limit: Duration) -> Result<()> {
    let what = format!("an answer from {address} on {}", from.name());
    wait_until(&what, limit, || {
        ensure!(
            crate::traffic::ping(from, address, 1)? == 1,
            "there was none"
        );
        Ok(())
    })
}

fn connect_client(client: &Node, spines: &[Node; RACKS]) -> Result<()> {
    let [v4, v6] = CLIENT;
    client.address("lo", [format!("{v4}/32"), format!("{v6}/128")])?;
    // Objects: a route with a list of next hops goes as a whole when one of its interfaces is deleted.
    let mut objects = Vec::new();
    for (s, spine) in spines.iter().enumerate() {
        let (own, their) = client_link(s);
        client.link(spine.name(), spine, "client")?;
        // Not to be chosen as the source of what the client sends: nobody else knows the links' addresses.
        let [v4, v6] = own.with_length;
        client.ip([
            format!("addr add {v4} dev {} scope link", spine.name()),
            format!("addr add {v6} dev {} nodad preferred_lft 0", spine.name()),
        ])?;
        spine.address("client", &their.with_length)?;
        for (family, address) in (1..).zip(their.plain) {
            objects.push(format!(
                "nexthop add id {family}{s} via {address} dev {}",
                spine.name()
            ));
        }
    }
    objects.push("nexthop add id 100 group 10/11".to_owned());
    objects.push("nexthop add id 200 group 20/21".to_owned());
    objects.push(format!("route add default nhid 100 src {v4}"));
    objects.push(format!("-6 route add default nhid 200 src {v6}"));
    client.ip(objects)
}

fn connect_spines(spines: &[Node; RACKS], tors: &[Node; RACKS]) -> Result<()> {
    for (s, spine) in spines.iter().enumerate() {
        for (t, tor) in tors.iter().enumerate() {
            let (upper, lower) = spine_link(s, t);
            spine.link(tor.name(), tor, spine.name())?;
            spine.address(tor.name(), &upper.with_length)?;
            tor.address(spine.name(), &lower.with_length)?;
        }
    }
    Ok(())
}

fn connect_nodes(tors: &[Node; RACKS], nodes: &[Node; 3], tap: &Node) -> Result<()> {
    for (n, node) in nodes.iter().enumerate() {
        let tor = &tors[RACK_OF[n]];
        if n == 2 {
            tor.link(node.name(), tap, tor.name())?;
            tap.link(node.name(), node, tor.name())?;
            tap.ip([
                "link add bridge0 type bridge".to_owned(),
                format!("link set {} master bridge0", tor.name()),
                format!("link set {} master bridge0", node.name()),
                "link set bridge0 up".to_owned(),
            ])?;
        } else {
            tor.link(node.name(), node, tor.name())?;
        }
        let (upper, lower) = node_link(n);
        tor.address(node.name(), &upper.with_length)?;
        node.address(tor.name(), &lower.with_length)?;
        let [v4, v6] = upper.plain;
        node.ip([
            format!("route add default via {v4}"),
            format!("-6 route add default via {v6}"),
        ])?;
    }
    Ok(())
}

/// A pod of a node: a host route there, and a gateway address that all pods of the node share.
fn pod(lab: &Lab, node: &Node, n: usize, p: usize) -> Result<Node> {
    let pod = lab.node(&format!("{}-pod{}", node.name(), p + 1))?;
    let outside = format!("pod{}", p + 1);
    node.link(&outside, &pod, "eth0")?;
    let n4 = n + 1;
    let gateways = [format!("10.244.{n4}.1"), format!("fd00:244:{n4}::1")];
    node.address(
        &outside,
        [
            format!("{}/32", gateways[0]),
            format!("{}/128", gateways[1]),
        ],
    )?;
    let [v4, v6] = pod_addresses(n, p);
    pod.address("eth0", [format!("{v4}/32"), format!("{v6}/128")])?;
    node.ip([
        format!("route add {v4}/32 dev {outside}"),
        format!("-6 route add {v6}/128 dev {outside}"),
    ])?;
    pod.ip([
        format!("route add {} dev eth0", gateways[0]),
        format!("route add default via {} dev eth0", gateways[0]),
        format!("-6 route add {} dev eth0", gateways[1]),
        format!("-6 route add default via {} dev eth0", gateways[1]),
    ])?;
    Ok(pod)
}

fn client_config() -> Config {
    let mut router = Router::new(CLIENT_ASN, [10, 2, 0, 1]);
    for prefix in CLIENTS {
        router = router.originate(prefix);
    }
    for s in 0..RACKS {
        let (own, their) = client_link(s);
        router.neighbors.extend(sessions(&own, &their, SPINE_ASN));
    }
    Config::node(router, ["spine1", "spine2"])
}

fn spine_config(s: usize) -> Config {
    let id = u8::try_from(s + 1).unwrap_or(u8::MAX);
    let mut router = Router::new(SPINE_ASN, [10, 0, 0, id]);
    let (their, own) = client_link(s);
    router.neighbors.extend(sessions(&own, &their, CLIENT_ASN));
    for (t, asn) in (TOR_ASN..).take(RACKS).enumerate() {
        let (own, their) = spine_link(s, t);
        router.neighbors.extend(sessions(&own, &their, asn));
    }
    Config::transit(router, ["client", "tor1", "tor2"])
}

/// A node's daemon may die: its ToR keeps its routes meanwhile.
fn node_config(n: usize) -> Config {
    let id = u8::try_from(n + 1).unwrap_or(u8::MAX);
    let asn = (NODE_ASN..).nth(n).unwrap_or(NODE_ASN);
    let mut router = Router::new(asn, [10, 1, 0, id]);
    for prefix in pod_prefixes(n) {
        router = router.originate(prefix.as_str());
    }
    let (their, own) = node_link(n);
    let tor_asn = (TOR_ASN..).nth(RACK_OF[n]).unwrap_or(TOR_ASN);
    for mut neighbor in sessions(&own, &their, tor_asn) {
        neighbor.graceful_restart = true;
        router = router.neighbor(neighbor);
    }
    Config::node(router, [format!("tor{}", RACK_OF[n] + 1)])
}

fn tor_router(t: usize) -> Router {
    let id = u8::try_from(t + 1).unwrap_or(u8::MAX);
    let asn = (TOR_ASN..).nth(t).unwrap_or(TOR_ASN);
    let mut router = Router::new(asn, [10, 1, 1, id]).installing();
    for s in 0..RACKS {
        let (their, own) = spine_link(s, t);
        router.neighbors.extend(sessions(&own, &their, SPINE_ASN));
    }
    for (n, asn) in (NODE_ASN..).take(RACK_OF.len()).enumerate() {
        if RACK_OF[n] == t {
            let (own, their) = node_link(n);
            for mut neighbor in sessions(&own, &their, asn) {
                neighbor.graceful_restart = true;
                router = router.neighbor(neighbor);
            }
        }
    }
    router
}

fn start_tor(node: &Node, t: usize, implementation: Option<Implementation>) -> Result<Tor> {
    let router = tor_router(t);
    Ok(if let Some(implementation) = implementation {
        Tor::Real(Peer::start(implementation, node, router)?)
    } else {
        let below = RACK_OF
            .into_iter()
            .enumerate()
            .filter(|(_, rack)| *rack == t);
        let uplinks = (1..=RACKS)
            .map(|s| format!("spine{s}"))
            .chain(below.map(|(n, _)| format!("node{}", n + 1)));
        let config = Config::transit(router, uplinks);
        Tor::Ours(Box::new(Causeway::start(node, config)?))
    })
}

/// How many next hops a ToR has for a prefix: in its kernel, or in its maps if it is ours.
pub fn next_hops(tor: &Tor, node: &Node, prefix: &str) -> Result<usize> {
    match tor {
        Tor::Real(_) => {
            let family = match Family::of(prefix) {
                Family::Ipv4 => "-4",
                Family::Ipv6 => "-6",
            };
            let text = node.run("ip", [family, "route", "show", prefix])?;
            // IPv6 lists them one by one if they are not a group.
            let hops = text.matches("nexthop via").count();
            Ok(if hops > 0 {
                hops
            } else {
                text.matches(" via ").count()
            })
        }
        Tor::Ours(_) => {
            let address = prefix.split('/').next().context("a prefix")?;
            Ok(crate::forwarding::group_of(node, address.parse()?)?.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_same_digits_in_both_families() {
        let [v4, v6] = pod_addresses(2, 1);
        assert_eq!(v4.to_string(), "10.244.3.12");
        assert_eq!(v6.to_string(), "fd00:244:3::12");
    }

    #[test]
    fn both_ends_of_a_link_mean_each_other() {
        let ours: Vec<Neighbor> = spine_config(1).router.neighbors;
        let tor = tor_router(0);
        let to_spine2: Vec<_> = tor.neighbors.iter().skip(2).take(2).collect();
        for theirs in to_spine2 {
            assert!(
                ours.iter()
                    .any(|own| own.local == theirs.address && own.address == theirs.local),
                "{theirs:?}"
            );
        }
    }
}
