//! Two ToRs between a Causeway router and a server: what the demo shows and what packets cross in the `netns` suite.
//!
//! ```text
//!                          ┌── tor1 ───┐
//!   client ── router ──────┤     │     ├── server 203.0.113.10, 2001:db8:203::10
//!                          └── tor2 ───┘
//! ```
//!
//! Both ToRs announce the server's prefixes to the router by eBGP, over IPv4 and IPv6 sessions, and the router announces
//! the client's. The ToRs talk to each other too, so that one whose link to the router is cut still finds the client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Result;

use crate::causeway::{Causeway, Config};
use crate::forwarding::{kernel_forwarded, xdp_forwarded};
use crate::peer::{Implementation, Neighbor, Peer, Router};
use crate::{Lab, Node};

/// The server's addresses.
pub const SERVERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 0x10)),
];
/// The server's prefixes.
pub const PREFIXES: [&str; 2] = ["203.0.113.0/24", "2001:db8:203::/48"];
/// The client's prefixes.
pub const CLIENTS: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];
/// The router's interfaces.
pub const UPLINKS: [&str; 3] = ["client", "tor1", "tor2"];

const ROUTER_ASN: u32 = 65000;
const TOR_ASN: [u32; 2] = [65001, 65002];

/// The nodes, linked and with the routes that no BGP carries.
pub struct Fabric {
    /// Sends.
    pub client: Node,
    /// For Causeway.
    pub router: Node,
    /// For the ToRs.
    pub tors: [Node; 2],
    /// Answers.
    pub server: Node,
}

/// A ToR.
pub enum Tor {
    /// Somebody else's program, which forwards by the kernel.
    Real(Peer),
    /// Ours.
    Ours(Box<Causeway>),
}

impl Fabric {
    /// Makes the nodes.
    pub fn new(lab: &Lab) -> Result<Self> {
        let fabric = Self {
            client: lab.node("client")?,
            router: lab.node("router")?,
            tors: [lab.node("tor1")?, lab.node("tor2")?],
            server: lab.node("server")?,
        };
        fabric.connect()?;
        Ok(fabric)
    }

    fn connect(&self) -> Result<()> {
        let Self {
            client,
            router,
            tors,
            server,
        } = self;
        client.link("eth0", router, "client")?;
        client.address("eth0", ["10.1.0.10/24", "fd00:1::10/64"])?;
        router.address("client", ["10.1.0.1/24", "fd00:1::1/64"])?;
        client.ip([
            "route add default via 10.1.0.1",
            "-6 route add default via fd00:1::1",
        ])?;
        for (n, tor) in (1..).zip(tors) {
            let name = tor.name();
            router.link(name, tor, "router")?;
            router.address(
                name,
                [format!("10.0.{n}.1/24"), format!("fd00:0:{n}::1/64")],
            )?;
            tor.address(
                "router",
                [format!("10.0.{n}.2/24"), format!("fd00:0:{n}::2/64")],
            )?;
            tor.link("server", server, name)?;
            tor.address(
                "server",
                [format!("10.2.{n}.1/24"), format!("fd00:2:{n}::1/64")],
            )?;
            server.address(
                name,
                [format!("10.2.{n}.2/24"), format!("fd00:2:{n}::2/64")],
            )?;
            tor.ip([
                format!("route add {} via 10.2.{n}.2", PREFIXES[0]),
                format!("-6 route add {} via fd00:2:{n}::2", PREFIXES[1]),
            ])?;
            tor.forwarding()?;
        }
        let [tor1, tor2] = tors;
        tor1.link("tor2", tor2, "tor1")?;
        tor1.address("tor2", ["10.3.0.1/24", "fd00:3::1/64"])?;
        tor2.address("tor1", ["10.3.0.2/24", "fd00:3::2/64"])?;
        // So that it is seen when the kernel forwards what XDP should have.
        router.forwarding()?;
        let [v4, v6] = SERVERS;
        server.address("lo", [format!("{v4}/32"), format!("{v6}/128")])?;
        server.sysctl("ipv4/fib_multipath_hash_policy", "1")?;
        server.sysctl("ipv6/fib_multipath_hash_policy", "1")?;
        server.ip([
            "route add default nexthop via 10.2.1.1 dev tor1 nexthop via 10.2.2.1 dev tor2",
            "-6 route add default nexthop via fd00:2:1::1 dev tor1 nexthop via fd00:2:2::1 dev tor2",
        ])
    }

    /// How the router is configured.
    #[must_use]
    pub fn gateway() -> Config {
        let mut router = Router::new(ROUTER_ASN, [10, 0, 0, 1]);
        for prefix in CLIENTS {
            router = router.originate(prefix);
        }
        for (n, asn) in (1..).zip(TOR_ASN) {
            router = router
                .neighbor(Neighbor::new(
                    &format!("10.0.{n}.1"),
                    &format!("10.0.{n}.2"),
                    asn,
                ))
                .neighbor(Neighbor::new(
                    &format!("fd00:0:{n}::1"),
                    &format!("fd00:0:{n}::2"),
                    asn,
                ));
        }
        Config::transit(router, UPLINKS)
    }

    /// Starts the ToR with this index as `implementation`, or as ours. `change` is applied to its sessions.
    pub fn start_tor(
        &self,
        index: usize,
        implementation: Option<Implementation>,
        change: impl Fn(&mut Neighbor),
    ) -> Result<Tor> {
        let (asn, other) = (TOR_ASN[index], TOR_ASN[1 - index]);
        let (n, m) = (index + 1, 2 - index);
        let id = if index == 0 { 1 } else { 2 };
        let mut router = Router::new(asn, [10, 0, id, 2]).installing();
        for prefix in PREFIXES {
            router = router.originate(prefix);
        }
        for (own, their, asn) in [
            (format!("10.0.{n}.2"), format!("10.0.{n}.1"), ROUTER_ASN),
            (
                format!("fd00:0:{n}::2"),
                format!("fd00:0:{n}::1"),
                ROUTER_ASN,
            ),
            (format!("10.3.0.{n}"), format!("10.3.0.{m}"), other),
            (format!("fd00:3::{n}"), format!("fd00:3::{m}"), other),
        ] {
            router = router.neighbor(Neighbor::new(&own, &their, asn));
        }
        router.neighbors.iter_mut().for_each(change);
        let node = &self.tors[index];
        Ok(if let Some(implementation) = implementation {
            Tor::Real(Peer::start(implementation, node, router)?)
        } else {
            let uplinks = ["router".to_owned(), "server".to_owned(), format!("tor{m}")];
            Tor::Ours(Box::new(Causeway::start(
                node,
                Config::transit(router, uplinks),
            )?))
        })
    }

    /// Packets that each ToR forwarded, by its kernel or by XDP.
    pub fn carried(&self) -> Result<[u64; 2]> {
        // Without our daemon there is no map to read.
        let [one, two] = self.tors.each_ref().map(|tor| -> Result<u64> {
            Ok(kernel_forwarded(tor)? + xdp_forwarded(tor).unwrap_or(0))
        });
        Ok([one?, two?])
    }
}

impl Tor {
    /// What it is.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Real(peer) => peer.implementation().to_string(),
            Self::Ours(_) => "causewayd".to_owned(),
        }
    }

    /// Waits until all of its sessions are Established.
    pub fn wait_established(&mut self, limit: Duration) -> Result<()> {
        match self {
            Self::Real(peer) => peer.wait_established(limit),
            Self::Ours(causeway) => causeway.wait_established(limit),
        }
    }

    /// Waits until it has learned `prefix`.
    pub fn wait_route(&self, prefix: &str, limit: Duration) -> Result<()> {
        match self {
            Self::Real(peer) => peer.wait_route(prefix, limit).map(drop),
            Self::Ours(causeway) => causeway.wait_route(prefix, limit).map(drop),
        }
    }
}
