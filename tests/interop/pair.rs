//! Two routers on one link: ours and another.

use std::time::Duration;

use anyhow::Result;
use support::causeway::{Causeway, Config};
use support::peer::{Implementation, Neighbor, Origin, Peer, Router};
use support::{Lab, Node};

/// A scenario's states are reached within this, on a busy machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

pub(crate) const OURS: [&str; 2] = ["192.0.2.0/24", "2001:db8:1::/48"];
pub(crate) const THEIRS: [&str; 2] = ["198.51.100.0/24", "2001:db8:2::/48"];
pub(crate) const US: [&str; 2] = ["10.0.0.1", "2001:db8::1"];
pub(crate) const THEM: [&str; 2] = ["10.0.0.2", "2001:db8::2"];
pub(crate) const OUR_ASN: u32 = 65000;
pub(crate) const THEIR_ASN: u32 = 65001;
pub(crate) const THIRD_ASN: u32 = 65002;

/// Ours and another, connected.
pub(crate) struct Pair {
    pub(crate) us: Causeway,
    pub(crate) them: Peer,
}

/// How a pair is described; tests change what they are about.
pub(crate) struct Plan {
    pub(crate) us: Router,
    pub(crate) them: Router,
    /// [`Config::instance`] of ours.
    pub(crate) instance: String,
    /// [`Config::more`] of ours.
    pub(crate) more: String,
    /// More arguments of our daemon.
    pub(crate) arguments: Vec<String>,
}

impl Plan {
    /// Two eBGP sessions, one over each family, and two prefixes on each side.
    pub(crate) fn new() -> Self {
        Self::between(OUR_ASN, THEIR_ASN)
    }

    /// The same within one AS.
    pub(crate) fn ibgp() -> Self {
        Self::between(OUR_ASN, OUR_ASN)
    }

    fn between(ours: u32, theirs: u32) -> Self {
        let mut us = Router::new(ours, [10, 0, 0, 1]);
        let mut them = Router::new(theirs, [10, 0, 0, 2]);
        for family in 0..2 {
            us = us.originate(OURS[family]).neighbor(Neighbor::new(
                US[family],
                THEM[family],
                theirs,
            ));
            them = them.originate(THEIRS[family]).neighbor(Neighbor::new(
                THEM[family],
                US[family],
                ours,
            ));
        }
        Self {
            us,
            them,
            instance: String::new(),
            more: String::new(),
            arguments: Vec::new(),
        }
    }

    /// Changes every session on both sides.
    pub(crate) fn sessions(mut self, change: impl Fn(&mut Neighbor)) -> Self {
        for router in [&mut self.us, &mut self.them] {
            router.neighbors.iter_mut().for_each(&change);
        }
        self
    }

    /// One session over IPv4 for both families.
    pub(crate) fn one_session(mut self) -> Self {
        for (router, own) in [(&mut self.us, US[1]), (&mut self.them, THEM[1])] {
            router.neighbors.truncate(1);
            let mut neighbor = router.neighbors.remove(0).both_families();
            neighbor.other_next_hop = own.parse().ok();
            router.neighbors.push(neighbor);
        }
        self
    }

    /// Changes what both sides originate.
    pub(crate) fn origins(mut self, change: impl Fn(&mut Origin)) -> Self {
        for router in [&mut self.us, &mut self.them] {
            router.originate.iter_mut().for_each(&change);
        }
        self
    }

    /// Starts both and does not wait for sessions.
    pub(crate) fn start(self, lab: &Lab, implementation: Implementation) -> Result<Pair> {
        let node = lab.node("us")?;
        self.start_on(lab, &node, implementation)
    }

    fn start_on(self, lab: &Lab, node: &Node, implementation: Implementation) -> Result<Pair> {
        let their_node = lab.node("them")?;
        node.link("eth0", &their_node, "eth0")?;
        node.address("eth0", US.map(with_length))?;
        their_node.address("eth0", THEM.map(with_length))?;
        self.run(implementation, node, &their_node)
    }

    /// Starts both with a router in between. The sessions' addresses are on loopback interfaces, as they are where
    /// several links lead to the peer.
    pub(crate) fn start_across_a_router(
        self,
        lab: &Lab,
        implementation: Implementation,
    ) -> Result<Pair> {
        let (node, between, their_node) =
            (lab.node("us")?, lab.node("between")?, lab.node("them")?);
        between.forwarding()?;
        for (n, (node, own, other)) in [(&node, US, THEM), (&their_node, THEM, US)]
            .into_iter()
            .enumerate()
        {
            let link = [format!("10.7.{n}"), format!("2001:db8:7:{n}:")];
            node.link("eth0", &between, &format!("eth{n}"))?;
            node.address(
                "eth0",
                [format!("{}.1/24", link[0]), format!("{}:1/64", link[1])],
            )?;
            between.address(
                &format!("eth{n}"),
                [format!("{}.254/24", link[0]), format!("{}:fe/64", link[1])],
            )?;
            node.address("lo", own)?;
            node.ip([
                format!("route add {} via {}.254", other[0], link[0]),
                format!("-6 route add {} via {}:fe", other[1], link[1]),
            ])?;
            between.ip([
                format!("route add {} via {}.1", own[0], link[0]),
                format!("-6 route add {} via {}:1", own[1], link[1]),
            ])?;
        }
        self.run(implementation, &node, &their_node)
    }

    fn run(self, implementation: Implementation, node: &Node, their_node: &Node) -> Result<Pair> {
        let mut config = Config::speaker(self.us);
        config.instance = self.instance;
        config.more = self.more;
        config.arguments = self.arguments;
        let us = Causeway::start(node, config)?;
        let them = Peer::start(implementation, their_node, self.them)?;
        Ok(Pair { us, them })
    }

    /// Starts both and waits until every session is Established on both sides.
    pub(crate) fn establish(self, lab: &Lab, implementation: Implementation) -> Result<Pair> {
        let mut pair = self.start(lab, implementation)?;
        pair.us.wait_established(LIMIT)?;
        pair.them.wait_established(LIMIT)?;
        Ok(pair)
    }
}

/// Where a third router is, seen from us and seen by itself.
pub(crate) const THIRD_LINK: [&str; 2] = ["10.0.3.1", "10.0.3.2"];
pub(crate) const THIRD_PREFIX: &str = "203.0.113.0/24";

impl Plan {
    /// Starts both and BIRD on our other side, with one IPv4 session there, and waits until every session is
    /// Established.
    pub(crate) fn establish_with_third(
        mut self,
        lab: &Lab,
        implementation: Implementation,
        third_asn: u32,
        change: impl Fn(&mut Neighbor),
    ) -> Result<(Pair, Peer)> {
        let ours = self.us.asn;
        let [us, third] = THIRD_LINK;
        let (mut to, mut from) = (
            Neighbor::new(us, third, third_asn),
            Neighbor::new(third, us, ours),
        );
        change(&mut to);
        change(&mut from);
        // What reflects is this side only.
        from.reflector_client = false;
        self.us = self.us.neighbor(to);

        let (node, third_node) = (lab.node("us")?, lab.node("third")?);
        node.link("third", &third_node, "eth0")?;
        node.address("third", [with_length(us)])?;
        third_node.address("eth0", [with_length(third)])?;
        let mut peer = Peer::start(
            Implementation::Bird,
            &third_node,
            Router::new(third_asn, [10, 0, 3, 2])
                .originate(THIRD_PREFIX)
                .neighbor(from),
        )?;
        let mut pair = self.start_on(lab, &node, implementation)?;
        pair.us.wait_established(LIMIT)?;
        pair.them.wait_established(LIMIT)?;
        peer.wait_established(LIMIT)?;
        Ok((pair, peer))
    }
}

impl Pair {
    /// Waits until each side has what the other originates.
    pub(crate) fn wait_exchanged(&self) -> Result<()> {
        for prefix in THEIRS {
            self.us.wait_route(prefix, LIMIT)?;
        }
        for prefix in OURS {
            self.them.wait_route(prefix, LIMIT)?;
        }
        Ok(())
    }

    /// As [`Self::wait_exchanged`], after the peer's own restart.
    ///
    /// A bgpd that zebra has not told of its interfaces yet withdraws what comes with a link-local next hop, and does not
    /// ask again: whether it has our IPv6 routes after its own restart is a race inside FRR 8.4.
    pub(crate) fn wait_exchanged_again(&self, implementation: Implementation) -> Result<()> {
        if implementation != Implementation::Frr {
            return self.wait_exchanged();
        }
        for prefix in THEIRS {
            self.us.wait_route(prefix, LIMIT)?;
        }
        self.them.wait_route(OURS[0], LIMIT).map(drop)
    }
}

fn with_length(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 64 } else { 24 })
}

/// Makes each scenario a test with each peer: `frr::routes_go_both_ways`.
macro_rules! with_every_peer {
    ($($scenario:ident),+ $(,)?) => {
        /// By name, for the comparison with `matrix.md`.
        pub(crate) const SCENARIOS: &[&str] = &[$(stringify!($scenario)),+];
        $crate::pair::with_every_peer!(@ frr Frr: $($scenario)+);
        $crate::pair::with_every_peer!(@ bird Bird: $($scenario)+);
        $crate::pair::with_every_peer!(@ gobgp GoBgp: $($scenario)+);
        $crate::pair::with_every_peer!(@ openbgpd OpenBgpd: $($scenario)+);
        $crate::pair::with_every_peer!(@ exabgp ExaBgp: $($scenario)+);
    };
    (@ $module:ident $implementation:ident: $($scenario:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $scenario() {
                    support::Lab::test(|lab| {
                        super::$scenario(lab, support::peer::Implementation::$implementation)
                    });
                }
            )+
        }
    };
}

pub(crate) use with_every_peer;
