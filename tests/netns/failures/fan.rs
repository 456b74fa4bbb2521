//! A router with many links to one peer.
//!
//! ```text
//!                      ╱── up1 ──╲
//!   north ── router ──┼─── … ─────┼── far   203.0.113.10, 2001:db8:203::10
//!                      ╲── upN ──╱
//! ```
//!
//! `far` announces its prefixes over every link, in both families, and `north` hears them from us. Only `router` is
//! ours. A switch may lie in the first link, which takes both ends' carrier out of their hands.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::causeway::{Causeway, Config};
use support::forwarding::group_of;
use support::peer::{Implementation, Neighbor, Peer, Router};
use support::traffic::{ProbeReport, Probes, ping};
use support::{Lab, Node, wait_until};

use super::LIMIT;

/// Addresses of `far`.
pub(super) const SERVERS: [&str; 2] = ["203.0.113.10", "2001:db8:203::10"];
/// What it announces.
pub(super) const PREFIXES: [&str; 2] = ["203.0.113.0/24", "2001:db8:203::/48"];
/// Where `north` is.
const CLIENTS: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];
/// What `north` knows us by.
const GATEWAYS: [&str; 2] = ["10.1.0.1", "fd00:1::1"];

const ROUTER_ASN: u32 = 65_000;
const FAR_ASN: u32 = 65_001;
const NORTH_ASN: u32 = 65_200;

/// Numbered packets: every so often, by so many flows in turn.
const EVERY: Duration = Duration::from_millis(1);
pub(super) const FLOWS: u16 = 64;
/// Before and after what happens to a stream.
const MARGIN: Duration = Duration::from_millis(200);

/// How to build it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Begins the names of its nodes.
    pub(super) name: &'static str,
    /// Links between `router` and `far`.
    pub(super) links: usize,
    /// Whether there is a switch in the first.
    pub(super) switched: bool,
    /// Whether the router's kernel asks the neighbour on the first link again after one second and not after some thirty.
    pub(super) impatient: bool,
    /// Seconds.
    pub(super) hold_time: u16,
    /// What `north` runs.
    pub(super) north: Implementation,
    /// What `far` announces beside [`PREFIXES`].
    pub(super) more: Vec<String>,
    /// More arguments of our daemon.
    pub(super) arguments: Vec<String>,
}

impl Plan {
    pub(super) fn new(links: usize) -> Self {
        Self {
            name: "",
            links,
            switched: false,
            impatient: false,
            hold_time: 9,
            north: Implementation::Bird,
            more: Vec::new(),
            arguments: Vec::new(),
        }
    }

    fn far_router(&self) -> Router {
        let mut router = Router::new(FAR_ASN, [10, 0, 0, 2]).installing();
        let more = self.more.iter().map(String::as_str);
        for prefix in PREFIXES.into_iter().chain(more) {
            router = router.originate(prefix);
        }
        for link in 1..=self.links {
            let ([own4, own6], [their4, their6]) = (end(link, 2), end(link, 1));
            for (own, their) in [(own4, their4), (own6, their6)] {
                router = router.neighbor(self.session(&own, &their, ROUTER_ASN));
            }
        }
        router
    }

    fn router(&self) -> Config {
        let mut router = Router::new(ROUTER_ASN, [10, 0, 0, 1]);
        for prefix in CLIENTS {
            router = router.originate(prefix);
        }
        for link in 1..=self.links {
            let ([own4, own6], [their4, their6]) = (end(link, 1), end(link, 2));
            for (own, their) in [(own4, their4), (own6, their6)] {
                router = router.neighbor(self.session(&own, &their, FAR_ASN));
            }
        }
        for (own, their) in GATEWAYS.into_iter().zip(["10.1.0.10", "fd00:1::10"]) {
            router = router.neighbor(self.session(own, their, NORTH_ASN));
        }
        let uplinks = (1..=self.links).map(interface);
        let mut config = Config::transit(router, uplinks.chain(["north".to_owned()]));
        config.arguments.clone_from(&self.arguments);
        config
    }

    fn north_router(&self) -> Router {
        let mut router = Router::new(NORTH_ASN, [10, 1, 0, 10]);
        for (own, their) in ["10.1.0.10", "fd00:1::10"].into_iter().zip(GATEWAYS) {
            router = router.neighbor(self.session(own, their, ROUTER_ASN));
        }
        router
    }

    fn session(&self, own: &str, their: &str, asn: u32) -> Neighbor {
        Neighbor {
            hold_time: self.hold_time,
            ..Neighbor::new(own, their, asn)
        }
    }
}

/// The addresses of a link's end, `router` being 1 and `far` 2.
fn end(link: usize, host: usize) -> [String; 2] {
    [
        format!("10.0.{link}.{host}"),
        format!("fd00:0:{link}::{host}"),
    ]
}

fn with_lengths([v4, v6]: [String; 2]) -> [String; 2] {
    [format!("{v4}/24"), format!("{v6}/64")]
}

/// A link's name at both ends.
pub(super) fn interface(link: usize) -> String {
    format!("up{link}")
}

/// The stage, with everything learned, resolved and in the maps.
pub(super) struct Fan {
    plan: Plan,
    pub(super) north: Node,
    pub(super) router: Node,
    pub(super) far: Node,
    pub(super) switch: Option<Node>,
    pub(super) causeway: Causeway,
    pub(super) north_peer: Peer,
    pub(super) far_peer: Peer,
}

/// What `north` was told so far, in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) announced: u64,
    pub(super) withdrawn: u64,
}

impl Fan {
    pub(super) fn start(lab: &Lab, plan: Plan) -> Result<Self> {
        let node = |name: &str| lab.node(&format!("{}{name}", plan.name));
        let (north, router, far) = (node("north")?, node("router")?, node("far")?);
        let switch = plan.switched.then(|| node("switch")).transpose()?;
        connect(&plan, &north, &router, &far, switch.as_ref())?;
        let far_peer = Peer::start(Implementation::Bird, &far, plan.far_router())?;
        let north_peer = Peer::start(plan.north, &north, plan.north_router())?;
        let causeway = Causeway::start(&router, plan.router())?;
        let mut fan = Self {
            plan,
            north,
            router,
            far,
            switch,
            causeway,
            north_peer,
            far_peer,
        };
        fan.causeway.wait_established(LIMIT)?;
        fan.wait_members(fan.plan.links)?;
        for prefix in PREFIXES {
            fan.north_peer.wait_route(prefix, LIMIT)?;
        }
        fan.wait_all_answers()?;
        Ok(fan)
    }

    /// Takes the carrier of these links, at the other end and in one go.
    pub(super) fn cut(&self, links: &[usize]) -> Result<()> {
        let down = |link: &usize| format!("link set {} down", interface(*link));
        self.far.ip(links.iter().map(down))
    }

    /// Gives it back.
    pub(super) fn mend(&self, links: &[usize]) -> Result<()> {
        let up = |link: &usize| format!("link set {} up", interface(*link));
        self.far.ip(links.iter().map(up))
    }

    /// Waits until as many next hops lead to `far`, in both families.
    pub(super) fn wait_members(&self, members: usize) -> Result<()> {
        self.wait_members_within(members, LIMIT)
    }

    /// As [`Self::wait_members`], for so long in each family.
    pub(super) fn wait_members_within(&self, members: usize, limit: Duration) -> Result<()> {
        for server in SERVERS {
            self.wait_members_of_within(server, members, limit)?;
        }
        Ok(())
    }

    /// As [`Self::wait_members`] for an address behind `far`.
    pub(super) fn wait_members_of(&self, address: &str, members: usize) -> Result<()> {
        self.wait_members_of_within(address, members, LIMIT)
    }

    fn wait_members_of_within(&self, address: &str, members: usize, limit: Duration) -> Result<()> {
        let address: IpAddr = address.parse()?;
        wait_until(&format!("{members} members for {address}"), limit, || {
            let group = group_of(&self.router, address)?;
            ensure!(group.len() == members, "{group:?}");
            Ok(())
        })
    }

    /// Waits until every session of `far` is Established and has told it where `north` is.
    pub(super) fn wait_sessions(&mut self) -> Result<()> {
        self.far_peer.wait_established(LIMIT)?;
        for neighbor in self.far_peer.router().neighbors.clone() {
            let address = neighbor.address.to_string();
            wait_until(&format!("routes from {address}"), LIMIT, || {
                let text = self.far_peer.session(&address)?.text;
                let imported = number(&text, "Routes:").context("no count of routes")?;
                ensure!(imported > 0, "{text}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until nothing is lost from `north` to `far` and back.
    pub(super) fn wait_all_answers(&self) -> Result<()> {
        for server in SERVERS {
            wait_until(&format!("all answers from {server}"), LIMIT, || {
                let answered = ping(&self.north, server.parse()?, 20)?;
                ensure!(answered == 20, "{answered} of 20");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// What `north`, a BIRD, was told.
    pub(super) fn told(&self) -> Result<Told> {
        let (mut announced, mut withdrawn) = (0, 0);
        for gateway in GATEWAYS {
            let text = self.north_peer.session(gateway)?.text;
            announced += number(&text, "Import updates:").context("no count of updates")?;
            withdrawn += number(&text, "Import withdraws:").context("no count of withdrawals")?;
        }
        Ok(Told {
            announced,
            withdrawn,
        })
    }

    /// Sends numbered streams from `north` to `addresses` behind `far` while `work` runs.
    pub(super) fn probe(
        &mut self,
        addresses: &[&str],
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Vec<ProbeReport>> {
        let streams = self.streams(addresses)?;
        std::thread::sleep(MARGIN);
        let done = work(self);
        std::thread::sleep(MARGIN);
        let reports = streams.into_iter().map(Probes::finish);
        let reports = reports.collect::<Result<Vec<_>>>()?;
        done.map(|()| reports)
    }

    /// Numbered streams that go on until they are finished.
    pub(super) fn streams(&self, addresses: &[&str]) -> Result<Vec<Probes>> {
        let start = |address: &&str| {
            let address = address.parse()?;
            Probes::start(&self.north, &self.far, address, FLOWS, EVERY)
        };
        addresses.iter().map(start).collect()
    }
}

/// Prints what was lost, and refuses an interruption of any flow that is longer than `limit`.
pub(super) fn check(what: &str, reports: &[ProbeReport], limit: Duration) -> Result<()> {
    for report in reports {
        println!(
            "{what}: lost {} of {}, in {} of {FLOWS} flows, for {:?} at most",
            report.lost(),
            report.sent,
            report.flows_hit,
            report.longest_gap
        );
        ensure!(report.sent > 100, "{what}: {report:?}");
        ensure!(report.longest_gap <= limit, "{what}: {report:?}");
    }
    Ok(())
}

/// The first number behind `label`.
pub(super) fn number(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

fn connect(
    plan: &Plan,
    north: &Node,
    router: &Node,
    far: &Node,
    switch: Option<&Node>,
) -> Result<()> {
    north.link("eth0", router, "north")?;
    north.address("eth0", ["10.1.0.10/24", "fd00:1::10/64"])?;
    router.address("north", ["10.1.0.1/24", "fd00:1::1/64"])?;
    // Not by BGP, so that what is announced and what is forwarded are seen apart.
    north.ip([
        format!("route add default via {}", GATEWAYS[0]),
        format!("-6 route add default via {}", GATEWAYS[1]),
    ])?;
    for link in 1..=plan.links {
        let name = interface(link);
        match switch {
            Some(switch) if link == 1 => {
                router.link(&name, switch, "router")?;
                switch.link("far", far, &name)?;
                switch.ip([
                    "link add bridge0 type bridge",
                    "link set router master bridge0",
                    "link set far master bridge0",
                    "link set bridge0 up",
                ])?;
            }
            _ => router.link(&name, far, &name)?,
        }
        if plan.impatient && link == 1 {
            // Before there is a neighbour whose timer runs.
            be_impatient(router, &name)?;
        }
        router.address(&name, with_lengths(end(link, 1)))?;
        far.address(&name, with_lengths(end(link, 2)))?;
    }
    let [v4, v6] = SERVERS;
    far.address("lo", [format!("{v4}/32"), format!("{v6}/128")])?;
    for node in [router, far] {
        // The router's too, so that it is seen when its kernel forwards what XDP should have.
        node.forwarding()?;
        node.sysctl("ipv4/fib_multipath_hash_policy", "1")?;
        node.sysctl("ipv6/fib_multipath_hash_policy", "1")?;
    }
    Ok(())
}

fn be_impatient(node: &Node, interface: &str) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        for (name, value) in [
            ("base_reachable_time_ms", "1000"),
            ("delay_first_probe_time", "1"),
            ("interval_probe_time_ms", "1000"),
        ] {
            node.sysctl(&format!("{family}/neigh/{interface}/{name}"), value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_what_bird_says() {
        let text = "    Routes:         2 imported, 0 exported, 2 preferred\n    \
                    Import updates:             12          0          0          0         12\n    \
                    Import withdraws:            3          0        ---          0          3\n";
        assert_eq!(number(text, "Routes:"), Some(2));
        assert_eq!(number(text, "Import updates:"), Some(12));
        assert_eq!(number(text, "Import withdraws:"), Some(3));
        assert_eq!(number(text, "Export updates:"), None);
    }
}
