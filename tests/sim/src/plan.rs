//! What a network is made of, and the configuration of each of its speakers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::sync::Arc;

use causeway_bgp::config::{
    FamilyConfig, GracefulRestartConfig, PeerConfig, RemoteAs, SessionConfig, SpeakerConfig, Ttl,
};
use causeway_bgp::origin::Originated;
use causeway_bgp::policy::{Action, Edit, Match, Policy, Rule, SetMatch, Verdict};
use causeway_bgp::rib::{FamilySession, NextHopMode, RibConfig};
use causeway_bgp::types::{Asn, Family, Prefix, RouterId};
use causeway_bgp::wire::Community;

/// What a network is made of.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Nodes.
    pub nodes: Vec<NodePlan>,
    /// Links.
    pub links: Vec<LinkPlan>,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// AS number.
    pub asn: u32,
    /// Whether it originates its own prefixes.
    pub originates: bool,
    /// Equal paths used at once.
    pub maximum_paths: u16,
    /// Graceful restart on all its sessions.
    pub graceful: bool,
    /// MULTI_EXIT_DISC is compared between neighbouring ASes too.
    pub always_compare_med: bool,
}

impl NodePlan {
    /// A node of this AS that originates its own prefixes and uses one path.
    #[must_use]
    pub const fn new(asn: u32) -> Self {
        Self {
            asn,
            originates: true,
            maximum_paths: 1,
            graceful: false,
            always_compare_med: false,
        }
    }
}

/// One link with the session over it.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    /// Its nodes.
    pub ends: [usize; 2],
    /// One-way delay.
    pub delay: Duration,
    /// What each end does with the other's routes.
    pub policy: [EndPolicy; 2],
}

impl LinkPlan {
    /// A link between two nodes with plain policies.
    #[must_use]
    pub fn new(a: usize, b: usize, delay: Duration) -> Self {
        Self {
            ends: [a, b],
            delay,
            policy: [EndPolicy::default(); 2],
        }
    }
}

/// Policy of one end of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndPolicy {
    /// LOCAL_PREF given to what comes in.
    pub local_pref: Option<u32>,
    /// Takes nothing that carries this tag.
    pub refuse: Option<u16>,
    /// What comes in stays in our AS (NO_EXPORT).
    pub keep: bool,
    /// Sends nothing.
    pub silent: bool,
    /// MULTI_EXIT_DISC put on what goes out.
    pub med: Option<u32>,
    /// Our AS is put on what goes out so many times more.
    pub prepend: u8,
    /// Tag put on what goes out.
    pub tag: Option<u16>,
    /// The other end is our route reflection client.
    pub client: bool,
}

/// The community that stands for a tag.
#[must_use]
pub fn community(tag: u16) -> Community {
    Community(65_535 << 16 | 0x8000 | u32::from(tag))
}

/// Our address on an end of a link.
#[must_use]
pub fn link_addr4(link: usize, end: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | u32::try_from(link << 1 | end).expect("few links"))
}

/// The same for IPv6.
#[must_use]
pub fn link_addr6(link: usize, end: usize) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd00 << 112 | (link << 1 | end) as u128)
}

/// The IPv4 prefix of a node.
#[must_use]
pub fn prefix4(node: usize) -> Prefix {
    let addr = Ipv4Addr::from_bits(0xac10_0000 + (u32::try_from(node).expect("few nodes") << 8));
    Prefix::new(addr.into(), 24).expect("24 bits")
}

/// The IPv6 prefix of a node.
#[must_use]
pub fn prefix6(node: usize) -> Prefix {
    let addr = Ipv6Addr::from_bits(0x2001_0db8 << 96 | (node as u128) << 80);
    Prefix::new(addr.into(), 48).expect("48 bits")
}

/// The identifier of a node.
#[must_use]
pub fn router_id(node: usize) -> RouterId {
    RouterId(u32::try_from(node).expect("few nodes") + 1)
}

impl Plan {
    /// The node that has this address on a link, with the link.
    #[must_use]
    pub fn owner(&self, addr: IpAddr) -> Option<(usize, usize)> {
        let index = match addr {
            IpAddr::V4(addr) => usize::try_from(addr.to_bits() & 0xff_ffff).ok()?,
            IpAddr::V6(addr) => usize::try_from(addr.to_bits() & 0xffff_ffff).ok()?,
        };
        let link = self.links.get(index >> 1)?;
        Some((link.ends[index & 1], index >> 1))
    }

    /// The configuration of a node as of now.
    #[must_use]
    pub fn config(&self, node: usize, restarting: bool) -> SpeakerConfig {
        let plan = &self.nodes[node];
        let mut rib = RibConfig::new(Asn(plan.asn), router_id(node));
        rib.maximum_paths_ebgp = plan.maximum_paths;
        rib.maximum_paths_ibgp = plan.maximum_paths;
        rib.multipath_relax = true;
        rib.med.always_compare = plan.always_compare_med;
        let mut config = SpeakerConfig::new(rib);
        config.originated = self.originated(node);
        config.restarting = restarting.then_some(Duration::from_secs(60));
        for (link, end) in self.links_of(node) {
            config.peers.push(self.peer(link, end));
            config.own_addresses.push(link_addr4(link, end).into());
            config.own_addresses.push(link_addr6(link, end).into());
        }
        config
    }

    /// Links of a node and which end of each it is.
    pub fn links_of(&self, node: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.links
            .iter()
            .enumerate()
            .flat_map(move |(index, link)| {
                (0..2)
                    .filter(move |end| link.ends[*end] == node)
                    .map(move |end| (index, end))
            })
    }

    /// What a node originates.
    #[must_use]
    pub fn originated(&self, node: usize) -> Vec<Originated> {
        if !self.nodes[node].originates {
            return Vec::new();
        }
        vec![
            Originated::new(prefix4(node)),
            Originated::new(prefix6(node)),
        ]
    }

    fn peer(&self, link: usize, end: usize) -> PeerConfig {
        let plan = &self.links[link];
        let policy = plan.policy[end];
        let (local, remote) = (plan.ends[end], plan.ends[1 - end]);
        let (local_as, remote_as) = (self.nodes[local].asn, self.nodes[remote].asn);
        let (import, export) = policies(policy, local_as == remote_as);
        let routing = FamilySession {
            import: Some(Arc::new(import)),
            export: Some(Arc::new(export)),
            next_hop: if local_as == remote_as {
                NextHopMode::SelfAddress
            } else {
                NextHopMode::Default
            },
            ..FamilySession::default()
        };
        let families = Family::ALL
            .map(|family| FamilyConfig::new(family, routing.clone()))
            .to_vec();
        let mut session = SessionConfig::new(RemoteAs::Exactly(Asn(remote_as)), families);
        session.transport.ttl = Ttl::Hops(64);
        session.route_reflector_client = policy.client;
        if self.nodes[local].graceful {
            session.graceful_restart = Some(GracefulRestartConfig::default());
        }
        PeerConfig::new(
            &format!("link{link}"),
            link_addr4(link, 1 - end).into(),
            Arc::new(session),
        )
    }
}

/// Import and export policy of an end.
fn policies(policy: EndPolicy, internal: bool) -> (Policy, Policy) {
    let mut import = Vec::new();
    if let Some(tag) = policy.refuse {
        import.push(Rule {
            matches: vec![Match::Community(SetMatch::Any(vec![community(tag)]))],
            verdict: Some(Verdict::Reject),
            ..Rule::new("refuse")
        });
    }
    let mut change = Rule::new("change");
    change
        .actions
        .extend(policy.local_pref.map(Action::LocalPref));
    if policy.keep {
        let edit = Edit::Add(vec![Community::NO_EXPORT]);
        change.actions.push(Action::Communities(edit));
    }
    import.push(change);

    let mut mark = Rule::new("mark");
    mark.actions
        .extend(policy.med.map(|med| Action::Med(Some(med))));
    if let Some(tag) = policy.tag {
        let edit = Edit::Add(vec![community(tag)]);
        mark.actions.push(Action::Communities(edit));
    }
    if policy.prepend > 0 && !internal {
        mark.actions.push(Action::Prepend {
            asn: None,
            count: policy.prepend,
        });
    }
    let sends = if policy.silent {
        Verdict::Reject
    } else {
        Verdict::Accept
    };
    (
        Policy::new("import", import, Verdict::Accept),
        Policy::new("export", vec![mark], sends),
    )
}
