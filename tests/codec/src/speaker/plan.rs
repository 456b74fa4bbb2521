//! Who the speaker under test is and whom it peers with.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::sync::Arc;

use causeway_bgp::config::{
    DynamicConfig, Excess, FamilyConfig, GracefulRestartConfig, MaxPrefixes, Md5Key, PeerConfig,
    RemoteAs, SessionConfig, ShutdownMessage, SpeakerConfig,
};
use causeway_bgp::origin::Originated;
use causeway_bgp::policy::{Action, Edit, Match, Policy, PrefixRange, Rule, SetMatch, Verdict};
use causeway_bgp::rib::{FamilySession, NextHopMode, RibConfig};
use causeway_bgp::types::{Asn, Family, Prefix, Prefix4, Prefix6, RouterId};
use causeway_bgp::wire::Community;

use super::schedule::bit;

/// Our AS.
pub(super) const OUR_AS: u32 = 65_000;
/// Our end of every connection.
pub(super) const OUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// Prefixes of each family that peers announce one by one.
pub(super) const PREFIXES: u8 = 16;

/// How the shell behaves, from the first octet of an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Sockets and forwarding tables take at once what they are given.
    pub(super) prompt: bool,
    /// Next hops count as reachable before anybody says so.
    pub(super) assume_reachable: bool,
    /// The speaker comes back from a restart.
    pub(super) restarting: bool,
    /// Several equal paths are used at once.
    pub(super) multipath: bool,
    /// The names of events are kept.
    pub(super) watched: bool,
    /// The first octet as it was.
    bits: u8,
}

impl Manner {
    pub(super) fn new(bits: u8) -> Self {
        Self {
            prompt: bit(bits, 0),
            assume_reachable: bit(bits, 1),
            restarting: bit(bits, 2),
            multipath: bit(bits, 3),
            watched: false,
            bits,
        }
    }
}

/// Somebody who may connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    /// Address.
    pub(super) address: Ipv4Addr,
    /// The AS that it says it has.
    pub(super) asn: u32,
}

/// Everybody: five configured peers, three from the dynamic range (which takes two), and a stranger.
pub(super) const REMOTES: [Remote; 9] = [
    remote(10, 0, 1, 65_001),
    remote(10, 0, 2, 65_002),
    remote(10, 0, 3, OUR_AS),
    remote(10, 0, 4, OUR_AS),
    remote(10, 0, 5, 65_005),
    remote(10, 9, 1, 65_009),
    remote(10, 9, 2, OUR_AS),
    remote(10, 9, 3, 65_010),
    remote(10, 8, 1, 65_011),
];

const fn remote(a: u8, b: u8, last: u8, asn: u32) -> Remote {
    Remote {
        address: Ipv4Addr::new(a, b, 0, last),
        asn,
    }
}

/// The configuration in the variant that eight bits stand for.
pub(super) fn config(manner: Manner, variant: u8) -> SpeakerConfig {
    let router_id = if bit(variant, 7) { 9_000 } else { 100 };
    let mut rib = RibConfig::new(Asn(OUR_AS), RouterId(router_id));
    rib.assume_reachable = manner.assume_reachable;
    if manner.multipath {
        (rib.maximum_paths_ebgp, rib.maximum_paths_ibgp) = (3, 3);
    }
    rib.multipath_relax = bit(manner.bits, 4);
    rib.prefer_oldest = bit(manner.bits, 5);
    rib.med.always_compare = bit(manner.bits, 6);
    let mut config = SpeakerConfig::new(rib);
    config.own_addresses = vec![OUR_ADDRESS.into()];
    config.originated = originated(variant);
    config.restarting = manner.restarting.then_some(Duration::from_secs(60));
    config.peers = peers(variant);
    config.dynamic = vec![DynamicConfig {
        name: "dynamic".into(),
        ranges: "10.9.0.0/24".parse().into_iter().collect(),
        limit: if bit(variant, 1) { 1 } else { 2 },
        session: Arc::new(session(RemoteAs::Any, &Family::ALL, &accept_all())),
    }];
    config
}

/// What is originated: four prefixes by the low bits, half of them not programmed yet.
pub(super) fn originated(bits: u8) -> Vec<Originated> {
    (0..4)
        .filter(|index| bit(bits, *index))
        .map(|index| {
            let prefix = match index {
                0 | 1 => prefix4(index).into(),
                _ => prefix6(index).into(),
            };
            Originated {
                med: bit(bits, 4).then_some(7),
                ready: !bit(bits, 5) || index % 2 == 0,
                ..Originated::new(prefix)
            }
        })
        .collect()
}

/// An IPv4 prefix that peers announce; the last one is the default route.
pub(super) fn prefix4(index: u8) -> Prefix4 {
    let len = if index + 1 == PREFIXES { 0 } else { 24 };
    Prefix4::new(Ipv4Addr::new(172, 16, index, 0), len).expect("a length that fits")
}

/// The same for IPv6.
pub(super) fn prefix6(index: u8) -> Prefix6 {
    let len = if index + 1 == PREFIXES { 0 } else { 48 };
    let addr = Ipv6Addr::new(0x2001, 0xdb8, index.into(), 0, 0, 0, 0, 0);
    Prefix6::new(addr, len).expect("a length that fits")
}

fn peers(variant: u8) -> Vec<PeerConfig> {
    let peer = |index: usize, name: &str, session: SessionConfig| {
        PeerConfig::new(name, IpAddr::V4(REMOTES[index].address), Arc::new(session))
    };
    let exactly = |index: usize| RemoteAs::Exactly(Asn(REMOTES[index].asn));
    let mut external = session(exactly(0), &Family::ALL, &picky(variant));
    external.graceful_restart = (!bit(variant, 5)).then(GracefulRestartConfig::default);
    external.shutdown = bit(variant, 3).then(|| ShutdownMessage::new("for repairs"));
    external.families[0].routing.default_route_in = true;
    external.families[0].routing.default_route_out = bit(variant, 2);

    let mut limited = session(exactly(1), &[Family::Ipv4Unicast], &accept_all());
    limited.allow_own_as = 1;
    limited.timers.hold = Duration::from_secs(if bit(variant, 6) { 0 } else { 9 });
    limited.families[0].max_prefixes = Some(MaxPrefixes {
        limit: if bit(variant, 2) { 2 } else { 6 },
        warn_percent: 50,
        excess: match (bit(variant, 4), bit(variant, 3)) {
            (true, _) => Excess::RestartAfter(Duration::from_secs(30)),
            (false, true) => Excess::Warn,
            (false, false) => Excess::Stop,
        },
    });

    let mut client = session(RemoteAs::Internal, &Family::ALL, &accept_all());
    client.route_reflector_client = !bit(variant, 4);
    client.transport.md5 = Md5Key::new(if bit(variant, 6) { b"one" } else { b"two" });
    client.graceful_restart = Some(GracefulRestartConfig {
        notification: false,
        ..GracefulRestartConfig::default()
    });

    let mut internal = session(RemoteAs::Internal, &Family::ALL, &FamilySession::default());
    internal.extended_messages = false;
    internal.families[0].routing.next_hop = NextHopMode::SelfAddress;
    internal.families[1].routing.next_hop = NextHopMode::SelfAddress;

    let without_policy = session(RemoteAs::External, &Family::ALL, &FamilySession::default());
    let mut peers = vec![
        peer(0, "external", external),
        peer(1, "limited", limited),
        peer(2, "client", client),
        PeerConfig {
            passive: true,
            ..peer(3, "internal", internal)
        },
    ];
    if !bit(variant, 0) {
        peers.push(peer(4, "without-policy", without_policy));
    }
    peers
}

fn session(remote_as: RemoteAs, families: &[Family], routing: &FamilySession) -> SessionConfig {
    let families = families
        .iter()
        .map(|family| FamilyConfig::new(*family, routing.clone()))
        .collect();
    SessionConfig::new(remote_as, families)
}

fn accept_all() -> FamilySession {
    FamilySession {
        import: Some(Arc::new(Policy::accept_all())),
        export: Some(Arc::new(Policy::accept_all())),
        ..FamilySession::default()
    }
}

/// Policies that look at prefixes and communities and change what passes.
fn picky(variant: u8) -> FamilySession {
    let some = Prefix::from(prefix4(3));
    let preferred = Rule {
        matches: vec![Match::Prefix(vec![
            PrefixRange::or_longer(some),
            PrefixRange::exact(prefix6(3).into()),
        ])],
        actions: vec![
            Action::LocalPref(if bit(variant, 1) { 50 } else { 200 }),
            Action::Communities(Edit::Add(vec![Community(OUR_AS << 16 | 3)])),
        ],
        verdict: Some(Verdict::Accept),
        ..Rule::new("preferred")
    };
    let unwanted = Rule {
        matches: vec![Match::Community(SetMatch::Any(vec![Community(666)]))],
        verdict: Some(Verdict::Reject),
        ..Rule::new("unwanted")
    };
    let longer = Rule {
        matches: vec![Match::Community(SetMatch::Any(vec![Community(
            OUR_AS << 16 | 3,
        )]))],
        actions: vec![
            Action::Prepend {
                asn: None,
                count: 2,
            },
            Action::Med(bit(variant, 1).then_some(10)),
        ],
        verdict: None,
        ..Rule::new("longer")
    };
    let export = if bit(variant, 2) {
        Policy::new("export", vec![longer, unwanted.clone()], Verdict::Accept)
    } else {
        Policy::accept_all()
    };
    FamilySession {
        import: Some(Arc::new(Policy::new(
            "import",
            vec![unwanted, preferred],
            Verdict::Accept,
        ))),
        export: Some(Arc::new(export)),
        ..FamilySession::default()
    }
}
