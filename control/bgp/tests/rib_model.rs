//! The RIB beside a naive model that recomputes everything from scratch: after any sequence of events, the Loc-RIB, the
//! reasons, the FIB and what each peer holds (decoded from the bytes that it was sent) are equal.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;
use causeway_bgp::fib::{FibNextHop, NextHopSetId};
use causeway_bgp::origin::Originated;
use causeway_bgp::policy::{
    Action, Edit, Match, NextHopAction, PeerType, Policy, PrefixRange, RouteSource, Rule, SetMatch,
    Subject, Verdict,
};
use causeway_bgp::rib::{
    Cursor, DecisionStep, FamilySession, Ineligible, NextHopInterest, NextHopKey, NextHopMode,
    PathStatus, PeerKind, Rib, RibConfig, RibSession, RouteFilter,
};
use causeway_bgp::types::{AddressFamily, Asn, Family, PeerId, Prefix, Prefix4, Prefix6, RouterId};
use causeway_bgp::wire::{
    AsPath, Attributes, Capability, ClusterId, Community, Decoder, DecoderConfig, Message, NextHop,
    Open, Origin, RareAttributes, Reach, Update, encode_open,
};
use proptest::prelude::*;

const OWN_AS: u32 = 65_000;
const OWN_ID: u32 = 0x0909_0909;

#[derive(Clone, Copy, Debug)]
struct PeerFacts {
    kind: PeerKind,
    asn: u32,
    host: u8,
}

const CLIENT: PeerKind = PeerKind::Internal { client: true };
const PLAIN: PeerKind = PeerKind::Internal { client: false };

/// Two peers share a neighbouring AS, two share an update group, all kinds are there.
const PEERS: [PeerFacts; 7] = [
    PeerFacts {
        kind: PeerKind::External,
        asn: 65_001,
        host: 1,
    },
    PeerFacts {
        kind: PeerKind::External,
        asn: 65_001,
        host: 2,
    },
    PeerFacts {
        kind: PeerKind::External,
        asn: 65_002,
        host: 3,
    },
    PeerFacts {
        kind: CLIENT,
        asn: OWN_AS,
        host: 4,
    },
    PeerFacts {
        kind: CLIENT,
        asn: OWN_AS,
        host: 5,
    },
    PeerFacts {
        kind: PLAIN,
        asn: OWN_AS,
        host: 6,
    },
    PeerFacts {
        kind: PLAIN,
        asn: OWN_AS,
        host: 7,
    },
];

fn addr4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, host)
}

fn addr6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host))
}

fn next_hop(family: Family, host: u8) -> NextHop {
    match family {
        Family::Ipv4Unicast => NextHop::V4(addr4(host)),
        Family::Ipv6Unicast => NextHop::V6(addr6(host)),
    }
}

fn next_hop_addr(next_hop: NextHop) -> IpAddr {
    match next_hop {
        NextHop::V4(addr) => addr.into(),
        NextHop::V6(addr) | NextHop::V6LinkLocal { global: addr, .. } => addr.into(),
    }
}

/// 0 is the default route.
fn prefix4(index: u8) -> Prefix4 {
    match index {
        0 => Prefix4::new(Ipv4Addr::UNSPECIFIED, 0).unwrap(),
        _ => Prefix4::new(Ipv4Addr::new(10, index, 0, 0), 16 + index % 9).unwrap(),
    }
}

fn prefix6(index: u8) -> Prefix6 {
    match index {
        0 => Prefix6::new(Ipv6Addr::UNSPECIFIED, 0).unwrap(),
        _ => Prefix6::new(
            Ipv6Addr::new(0x2001, u16::from(index), 0, 0, 0, 0, 0, 0),
            32,
        )
        .unwrap(),
    }
}

fn policy(index: u8) -> Option<Arc<Policy>> {
    let rule = |name: &str, matches, actions, verdict| Rule {
        name: name.into(),
        matches,
        actions,
        verdict,
        reason: None,
    };
    let narrow = PrefixRange {
        prefix: "10.0.0.0/8".parse().unwrap(),
        lengths: 18..=20,
    };
    let marked = Match::Community(SetMatch::Any(vec![Community(65_001 << 16 | 1)]));
    let rules = match index {
        0 => return None,
        1 => vec![],
        2 => vec![rule(
            "narrow",
            vec![Match::Prefix(vec![narrow])],
            vec![],
            Some(Verdict::Reject),
        )],
        3 => vec![
            rule(
                "tag",
                vec![],
                vec![Action::Communities(Edit::Add(vec![Community(7)]))],
                None,
            ),
            rule("marked", vec![marked], vec![], Some(Verdict::Reject)),
            rule(
                "tagged",
                vec![
                    Match::Community(SetMatch::All(vec![Community(7)])),
                    Match::Prefix(vec![narrow]),
                ],
                vec![Action::LocalPref(150), Action::Med(Some(5))],
                Some(Verdict::Accept),
            ),
        ],
        4 => vec![rule(
            "self",
            vec![],
            vec![
                Action::NextHop(NextHopAction::SelfAddress),
                Action::Prepend {
                    asn: None,
                    count: 2,
                },
                Action::Med(Some(9)),
            ],
            Some(Verdict::Accept),
        )],
        _ => vec![
            rule(
                "not-marked",
                vec![Match::Not(Box::new(marked))],
                vec![],
                Some(Verdict::Accept),
            ),
            rule(
                "keep",
                vec![],
                vec![Action::NextHop(NextHopAction::Unchanged)],
                None,
            ),
        ],
    };
    Some(Arc::new(Policy::new(
        format!("policy-{index}"),
        rules,
        Verdict::Accept,
    )))
}

#[derive(Clone, Debug)]
struct Settings {
    import: u8,
    export: u8,
    default_in: bool,
    default_out: bool,
    mode: NextHopMode,
}

impl Settings {
    fn family(&self) -> FamilySession {
        FamilySession {
            import: policy(self.import),
            export: policy(self.export),
            default_route_in: self.default_in,
            default_route_out: self.default_out,
            next_hop: self.mode,
        }
    }
}

fn session(peer: usize, settings: &Settings) -> RibSession {
    let facts = PEERS[peer];
    let families = [
        (Family::Ipv4Unicast, settings.family()),
        (Family::Ipv6Unicast, settings.family()),
    ];
    RibSession {
        local_ipv6: Some(addr6(100)),
        enforce_first_as: peer == 2,
        ..RibSession::new(
            facts.kind,
            (Asn(OWN_AS), addr4(100).into()),
            (
                Asn(facts.asn),
                RouterId(u32::from(facts.host)),
                addr4(facts.host).into(),
            ),
            &families,
        )
    }
}

// ----- events ---------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Event {
    Announce {
        peer: usize,
        prefixes: Vec<u8>,
        v6: bool,
        route: Route,
    },
    /// Each peer announces them by itself, and alike: for multipath.
    AnnounceAlike {
        prefixes: Vec<u8>,
        v6: bool,
    },
    Withdraw {
        peer: usize,
        prefixes: Vec<u8>,
        v6: bool,
    },
    Up {
        peer: usize,
    },
    Down {
        peer: usize,
        retain: bool,
    },
    Sweep {
        peer: usize,
    },
    BeginRefresh {
        peer: usize,
    },
    EndRefresh {
        peer: usize,
    },
    RefreshOut {
        peer: usize,
    },
    Configure {
        peer: usize,
        settings: Settings,
    },
    Originate {
        prefixes: Vec<(u8, bool, bool)>,
    },
    NextHop {
        host: u8,
        metric: Option<u32>,
    },
    Program {
        /// Index and family.
        prefixes: Vec<(u8, bool)>,
        programmed: bool,
    },
    Hold(bool),
    Work(usize),
    Flush(usize),
    Take {
        peer: usize,
        times: usize,
    },
    Check,
}

#[derive(Clone, Debug)]
struct Route {
    path: Vec<u32>,
    origin: Origin,
    med: Option<u32>,
    local_pref: Option<u32>,
    next_hop: u8,
    communities: BTreeSet<Community>,
    originator: Option<u32>,
    clusters: Vec<ClusterId>,
}

impl Route {
    const PLAIN: Self = Self {
        path: Vec::new(),
        origin: Origin::Igp,
        med: None,
        local_pref: None,
        next_hop: 0,
        communities: BTreeSet::new(),
        originator: None,
        clusters: Vec::new(),
    };

    fn attributes(&self, peer: usize, family: Family) -> Attributes {
        let facts = PEERS[peer];
        let external = facts.kind == PeerKind::External;
        let mut path = self.path.clone();
        if external && path.first() != Some(&64_999) {
            path.insert(0, facts.asn);
        }
        let rare = RareAttributes {
            originator_id: self.originator.filter(|_| !external).map(RouterId),
            cluster_list: if external {
                Box::default()
            } else {
                self.clusters.clone().into()
            },
            ..RareAttributes::default()
        };
        Attributes {
            origin: self.origin,
            atomic_aggregate: false,
            as_path: if path.is_empty() {
                AsPath::empty()
            } else {
                AsPath::sequence(path)
            },
            next_hop: next_hop(
                family,
                if self.next_hop == 0 {
                    facts.host
                } else {
                    self.next_hop
                },
            ),
            med: self.med,
            local_pref: self.local_pref.filter(|_| !external),
            communities: self.communities.iter().copied().collect(),
            rare: (rare != RareAttributes::default()).then(|| Box::new(rare)),
        }
    }
}

fn route() -> impl Strategy<Value = Route> {
    let community = prop::sample::select(vec![
        Community::NO_EXPORT,
        Community::NO_ADVERTISE,
        Community::GRACEFUL_SHUTDOWN,
        Community(65_001 << 16 | 1),
        Community(65_001 << 16 | 2),
    ]);
    (
        prop::collection::vec(
            prop::sample::select(vec![64_999, 65_001, 65_002, 65_003, OWN_AS]),
            0..3,
        ),
        prop::sample::select(vec![
            Origin::Igp,
            Origin::Igp,
            Origin::Egp,
            Origin::Incomplete,
        ]),
        prop::option::of(0u32..3),
        prop::option::of(prop::sample::select(vec![100u32, 100, 200])),
        prop::sample::select(vec![0u8, 0, 50, 51, 100]),
        prop::collection::btree_set(community, 0..2),
        prop::option::weighted(0.1, prop::sample::select(vec![OWN_ID, 77])),
        prop::option::weighted(
            0.2,
            prop::sample::select(vec![ClusterId(OWN_ID), ClusterId(5)]),
        ),
    )
        .prop_map(
            |(path, origin, med, local_pref, next_hop, communities, originator, cluster)| Route {
                path,
                origin,
                med,
                local_pref,
                next_hop,
                communities,
                originator,
                clusters: cluster.into_iter().collect(),
            },
        )
}

fn settings() -> impl Strategy<Value = Settings> {
    let mode = prop::sample::select(vec![
        NextHopMode::Default,
        NextHopMode::Default,
        NextHopMode::SelfAddress,
        NextHopMode::Unchanged,
    ]);
    (0u8..6, 0u8..6, any::<bool>(), any::<bool>(), mode).prop_map(
        |(import, export, default_in, default_out, mode)| Settings {
            import,
            export,
            default_in,
            default_out,
            mode,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let peer = 0..PEERS.len();
    let prefixes = prop::collection::vec(0u8..7, 1..5);
    prop_oneof![
        10 => (peer.clone(), prefixes.clone(), any::<bool>(), route())
            .prop_map(|(peer, prefixes, v6, route)| Event::Announce { peer, prefixes, v6, route }),
        3 => (prefixes.clone(), any::<bool>())
            .prop_map(|(prefixes, v6)| Event::AnnounceAlike { prefixes, v6 }),
        5 => (peer.clone(), prefixes, any::<bool>())
            .prop_map(|(peer, prefixes, v6)| Event::Withdraw { peer, prefixes, v6 }),
        3 => peer.clone().prop_map(|peer| Event::Up { peer }),
        2 => (peer.clone(), any::<bool>()).prop_map(|(peer, retain)| Event::Down { peer, retain }),
        1 => peer.clone().prop_map(|peer| Event::Sweep { peer }),
        1 => peer.clone().prop_map(|peer| Event::BeginRefresh { peer }),
        1 => peer.clone().prop_map(|peer| Event::EndRefresh { peer }),
        1 => peer.clone().prop_map(|peer| Event::RefreshOut { peer }),
        2 => (peer.clone(), settings()).prop_map(|(peer, settings)| Event::Configure { peer, settings }),
        1 => prop::collection::vec((0u8..7, any::<bool>(), any::<bool>()), 0..3)
            .prop_map(|prefixes| Event::Originate { prefixes }),
        6 => (
            prop::sample::select(vec![1u8, 2, 3, 4, 5, 6, 7, 50, 51]),
            prop::option::of(prop::sample::select(vec![5u32, 10])),
        )
            .prop_map(|(host, metric)| Event::NextHop { host, metric }),
        2 => (prop::collection::vec((0u8..7, any::<bool>()), 1..4), any::<bool>())
            .prop_map(|(prefixes, programmed)| Event::Program { prefixes, programmed }),
        1 => any::<bool>().prop_map(Event::Hold),
        3 => (0usize..6).prop_map(Event::Work),
        4 => (0usize..6).prop_map(Event::Flush),
        4 => (peer, 1usize..4).prop_map(|(peer, times)| Event::Take { peer, times }),
        2 => Just(Event::Check),
    ]
}

fn config() -> impl Strategy<Value = RibConfig> {
    let log = prop::sample::select(vec![100usize, 300, 1 << 20]);
    (1u16..4, 1u16..4, any::<bool>(), any::<bool>(), log).prop_map(
        |(ebgp, ibgp, relax, always, log)| {
            let mut config = RibConfig::new(Asn(OWN_AS), RouterId(OWN_ID));
            config.maximum_paths_ebgp = ebgp;
            config.maximum_paths_ibgp = ibgp;
            config.group_log_bytes = log;
            config.multipath_relax = relax;
            config.med.always_compare = always;
            config
        },
    )
}

// ----- the model ------------------------------------------------------------------------------------------------------

/// Where a path came from: a peer or, as `None`, this speaker.
type From = Option<usize>;

fn host(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(addr) => addr.octets()[3],
        IpAddr::V6(addr) => addr.octets()[15],
    }
}

#[derive(Clone, Debug)]
struct ModelPath {
    received: Attributes,
    stale: bool,
    ready: bool,
}

#[derive(Debug)]
struct Model {
    config: RibConfig,
    settings: Vec<Settings>,
    up: Vec<bool>,
    paths: BTreeMap<(Prefix, From), ModelPath>,
    metrics: BTreeMap<u8, u32>,
    /// Of those that cannot be reached any more.
    last_metrics: BTreeMap<u8, u32>,
    unprogrammed: BTreeSet<Prefix>,
}

#[derive(Clone, Debug)]
struct Eligible {
    from: From,
    attributes: Attributes,
    metric: u32,
}

impl Eligible {
    fn facts(&self) -> Option<PeerFacts> {
        self.from.map(|peer| PEERS[peer])
    }
}

impl Model {
    fn import(
        &self,
        prefix: Prefix,
        peer: usize,
        path: &ModelPath,
    ) -> Result<Attributes, Ineligible> {
        let (facts, settings) = (PEERS[peer], &self.settings[peer]);
        let external = facts.kind == PeerKind::External;
        let received = &path.received;
        let rare = received.rare.clone().unwrap_or_default();
        if peer == 2 && received.as_path.first_as() != Some(Asn(facts.asn)) {
            return Err(Ineligible::FirstAs {
                found: received.as_path.first_as(),
            });
        }
        if received.as_path.contains(Asn(OWN_AS)) {
            return Err(Ineligible::AsLoop);
        }
        if rare.originator_id == Some(RouterId(OWN_ID)) {
            return Err(Ineligible::OwnOriginatorId);
        }
        if rare.cluster_list.contains(&ClusterId(OWN_ID)) {
            return Err(Ineligible::ClusterLoop);
        }
        if next_hop_addr(received.next_hop) == IpAddr::V4(addr4(100)) {
            return Err(Ineligible::NextHopOwn);
        }
        let policy = policy(settings.import);
        if external && policy.is_none() {
            return Err(Ineligible::NoPolicy);
        }
        if prefix.len() == 0 && !settings.default_in {
            return Err(Ineligible::DefaultRoute);
        }
        let mut attributes = received.clone();
        if let Some(policy) = policy {
            let subject = Subject {
                prefix,
                peer: if external {
                    PeerType::External
                } else {
                    PeerType::Internal
                },
                source: if external {
                    RouteSource::External
                } else {
                    RouteSource::Internal
                },
            };
            let context = causeway_bgp::policy::Session {
                local_asn: Asn(OWN_AS),
                self_next_hop: Some(NextHop::V4(addr4(facts.host))),
            };
            let outcome = policy.evaluate(received, &subject, &context);
            if outcome.verdict == Verdict::Reject {
                let rule = outcome
                    .decided_by
                    .map(|index| policy.rules()[usize::from(index)].name.clone());
                return Err(Ineligible::Rejected(causeway_bgp::rib::RuleName {
                    policy: policy.name().into(),
                    rule,
                    reason: None,
                }));
            }
            policy.apply(&outcome, &mut attributes, prefix.family(), &context);
        }
        if external && received.communities.contains(&Community::GRACEFUL_SHUTDOWN) {
            attributes.local_pref = Some(0);
        }
        Ok(attributes)
    }

    fn metric(&self, next_hop: NextHop) -> Option<u32> {
        let addr = next_hop_addr(next_hop);
        if addr.is_unspecified() {
            return Some(0);
        }
        self.metrics.get(&host(addr)).copied()
    }

    /// The next hops that a prefix is forwarded to.
    fn hops(&self, prefix: Prefix) -> BTreeSet<IpAddr> {
        let (_, _, used) = self.decide(prefix);
        used.iter()
            .filter(|path| path.from.is_some())
            .map(|path| next_hop_addr(path.attributes.next_hop))
            .collect()
    }

    /// The same if these could be reached as they could before they were lost.
    fn hops_with(&mut self, prefix: Prefix, lost: &[IpAddr]) -> BTreeSet<IpAddr> {
        let metrics = self.metrics.clone();
        for addr in lost {
            let host = host(*addr);
            self.metrics
                .extend(self.last_metrics.get(&host).map(|metric| (host, *metric)));
        }
        let hops = self.hops(prefix);
        self.metrics = metrics;
        hops
    }

    /// Every path of a prefix with its status, and the best one.
    fn decide(
        &self,
        prefix: Prefix,
    ) -> (BTreeMap<From, PathStatus>, Option<Eligible>, Vec<Eligible>) {
        let mut status = BTreeMap::new();
        let mut left = Vec::new();
        for (&(_, from), path) in self
            .paths
            .range((prefix, None)..=(prefix, Some(usize::MAX)))
        {
            let imported = match from {
                None if path.ready => Ok(path.received.clone()),
                None => Err(Ineligible::NotReady),
                Some(peer) => self.import(prefix, peer, path),
            };
            match imported.and_then(|attributes| {
                let metric = self
                    .metric(attributes.next_hop)
                    .ok_or(Ineligible::NextHopUnreachable)?;
                Ok(Eligible {
                    from,
                    attributes,
                    metric,
                })
            }) {
                Ok(path) => left.push(path),
                Err(reason) => {
                    status.insert(from, PathStatus::Ineligible(reason));
                }
            }
        }
        let mut lost: Vec<(From, DecisionStep)> = Vec::new();
        let least = |left: &mut Vec<Eligible>,
                     lost: &mut Vec<(From, DecisionStep)>,
                     step: DecisionStep,
                     key: &dyn Fn(&Eligible) -> u64| {
            let Some(least) = left.iter().map(key).min() else {
                return;
            };
            lost.extend(
                left.iter()
                    .filter(|path| key(path) > least)
                    .map(|path| (path.from, step)),
            );
            left.retain(|path| key(path) == least);
        };
        let rare = |path: &Eligible| path.attributes.rare.clone().unwrap_or_default();
        least(&mut left, &mut lost, DecisionStep::LocalPref, &|path| {
            u64::from(u32::MAX - path.attributes.local_pref.unwrap_or(100))
        });
        least(&mut left, &mut lost, DecisionStep::LocalOrigin, &|path| {
            u64::from(path.from.is_some())
        });
        least(&mut left, &mut lost, DecisionStep::AsPathLength, &|path| {
            path.attributes.as_path.hops() as u64
        });
        least(&mut left, &mut lost, DecisionStep::Origin, &|path| {
            path.attributes.origin as u64
        });
        let med = |path: &Eligible| u64::from(path.attributes.med.unwrap_or(0));
        if self.config.med.always_compare {
            least(&mut left, &mut lost, DecisionStep::Med, &med);
        } else {
            let all = left.clone();
            for neighbour in all
                .iter()
                .map(|path| path.attributes.as_path.first_as())
                .collect::<BTreeSet<_>>()
            {
                let same = |path: &Eligible| path.attributes.as_path.first_as() == neighbour;
                let best = all.iter().filter(|path| same(path)).map(med).min().unwrap();
                let loses = |path: &Eligible| same(path) && med(path) > best;
                lost.extend(
                    left.iter()
                        .filter(|path| loses(path))
                        .map(|path| (path.from, DecisionStep::Med)),
                );
                left.retain(|path| !loses(path));
            }
        }
        least(&mut left, &mut lost, DecisionStep::External, &|path| {
            u64::from(path.facts().map(|facts| facts.kind) != Some(PeerKind::External))
        });
        least(&mut left, &mut lost, DecisionStep::IgpMetric, &|path| {
            u64::from(path.metric)
        });
        let mut equal = left.clone();
        least(&mut left, &mut lost, DecisionStep::RouterId, &|path| {
            let own = path.facts().map_or(OWN_ID, |facts| u32::from(facts.host));
            u64::from(rare(path).originator_id.map_or(own, |id| id.0))
        });
        least(&mut left, &mut lost, DecisionStep::ClusterList, &|path| {
            rare(path).cluster_list.len() as u64
        });
        least(&mut left, &mut lost, DecisionStep::PeerAddress, &|path| {
            path.facts().map_or(0, |facts| u64::from(facts.host))
        });
        assert!(left.len() <= 1, "peer addresses differ");
        let best = left.pop();
        let against = best.as_ref().and_then(|best| best.from).map(peer_id);
        for (from, step) in lost {
            status.insert(from, PathStatus::Lost { step, against });
        }
        let mut used = Vec::new();
        if let Some(best) = &best {
            let external = best
                .facts()
                .is_some_and(|facts| facts.kind == PeerKind::External);
            let maximum = if external {
                self.config.maximum_paths_ebgp
            } else {
                self.config.maximum_paths_ibgp
            };
            equal.retain(|path| {
                path.from != best.from
                    && best.from.is_some()
                    && (self.config.multipath_relax
                        || path.attributes.as_path == best.attributes.as_path)
            });
            equal.sort_by_key(|path| path.facts().map(|facts| facts.host));
            equal.truncate(usize::from(maximum) - 1);
            for path in &equal {
                status.insert(path.from, PathStatus::Multipath);
            }
            status.insert(best.from, PathStatus::Best);
            used.push(best.clone());
            used.extend(equal);
        }
        (status, best, used)
    }

    /// What a peer is sent for a prefix.
    fn export(&self, prefix: Prefix, best: &Eligible, peer: usize) -> Option<Attributes> {
        let (facts, settings) = (PEERS[peer], &self.settings[peer]);
        let external = facts.kind == PeerKind::External;
        let from = best.facts();
        if best.from == Some(peer) || self.unprogrammed.contains(&prefix) {
            return None;
        }
        if facts.kind == PLAIN && from.map(|from| from.kind) == Some(PLAIN) {
            return None;
        }
        let communities = &best.attributes.communities;
        if from.is_some()
            && (communities.contains(&Community::NO_ADVERTISE)
                || external && communities.contains(&Community::NO_EXPORT))
        {
            return None;
        }
        if prefix.len() == 0 && !settings.default_out {
            return None;
        }
        let policy = policy(settings.export);
        if external && policy.is_none() {
            return None;
        }
        let own = match prefix.family() {
            Family::Ipv4Unicast => NextHop::V4(addr4(100)),
            Family::Ipv6Unicast => NextHop::V6(addr6(100)),
        };
        let mut attributes = best.attributes.clone();
        let (mut med_set, mut next_hop_set) = (false, false);
        if let Some(policy) = policy {
            let subject = Subject {
                prefix,
                peer: if external {
                    PeerType::External
                } else {
                    PeerType::Internal
                },
                source: match from.map(|from| from.kind) {
                    None => RouteSource::Local,
                    Some(PeerKind::External) => RouteSource::External,
                    Some(PeerKind::Confederation | PeerKind::Internal { .. }) => {
                        RouteSource::Internal
                    }
                },
            };
            let context = causeway_bgp::policy::Session {
                local_asn: Asn(OWN_AS),
                self_next_hop: Some(own),
            };
            let outcome = policy.evaluate(&attributes, &subject, &context);
            if outcome.verdict == Verdict::Reject {
                return None;
            }
            for action in policy.applied(&outcome).flat_map(|rule| &rule.actions) {
                med_set |= matches!(action, Action::Med(_));
                next_hop_set |= matches!(action, Action::NextHop(_));
            }
            policy.apply(&outcome, &mut attributes, prefix.family(), &context);
        }
        let from_internal = matches!(from.map(|from| from.kind), Some(PeerKind::Internal { .. }));
        let use_own = match settings.mode {
            _ if from.is_none() => true,
            NextHopMode::Default => external,
            NextHopMode::SelfAddress => external || !from_internal,
            NextHopMode::Unchanged => false,
            NextHopMode::ThirdParty => external,
        };
        if use_own && (!next_hop_set || next_hop_addr(attributes.next_hop).is_unspecified()) {
            attributes.next_hop = own;
        } else if next_hop_addr(attributes.next_hop) == IpAddr::V4(addr4(facts.host)) {
            // RFC 4271 5.1.3: never the peer's own address.
            return None;
        }
        let mut rare = attributes.rare.take().map(|rare| *rare).unwrap_or_default();
        if external {
            if from.is_some() && !attributes.as_path.is_empty() && !med_set {
                attributes.med = None;
            }
            attributes.as_path = attributes.as_path.prepend(Asn(OWN_AS), 1);
            attributes.local_pref = None;
            rare.originator_id = None;
            rare.cluster_list = Box::default();
        } else {
            attributes.local_pref = Some(attributes.local_pref.unwrap_or(100));
            if let Some(from) = from.filter(|_| from_internal) {
                rare.originator_id = rare.originator_id.or(Some(RouterId(u32::from(from.host))));
                let clusters = [&[ClusterId(OWN_ID)], &*rare.cluster_list].concat();
                rare.cluster_list = clusters.into();
            }
        }
        attributes.rare = (rare != RareAttributes::default()).then(|| Box::new(rare));
        Some(attributes)
    }

    fn prefixes(&self) -> BTreeSet<Prefix> {
        self.paths.keys().map(|&(prefix, _)| prefix).collect()
    }
}

// ----- both side by side ----------------------------------------------------------------------------------------------

fn peer_id(peer: usize) -> PeerId {
    PeerId(u32::try_from(peer).unwrap())
}

/// What a peer has made of the bytes it was sent.
struct Receiver {
    decoder: Decoder,
    routes: BTreeMap<Prefix, Attributes>,
    end_of_rib: BTreeSet<Family>,
}

impl Receiver {
    fn new(peer: usize) -> Self {
        let open = |asn: u32, id: u32| Open {
            asn: Asn(asn),
            hold_time: 90,
            router_id: RouterId(id),
            capabilities: vec![
                Capability::multiprotocol(Family::Ipv4Unicast),
                Capability::multiprotocol(Family::Ipv6Unicast),
                Capability::FourOctetAs(Asn(asn)),
            ],
        };
        let facts = PEERS[peer];
        let mut decoder = Decoder::new(
            &open(facts.asn, u32::from(facts.host)),
            DecoderConfig::default(),
        );
        let mut bytes = BytesMut::new();
        encode_open(&open(OWN_AS, OWN_ID), &mut bytes);
        decoder.decode(&mut bytes).unwrap().expect("a whole OPEN");
        Self {
            decoder,
            routes: BTreeMap::new(),
            end_of_rib: BTreeSet::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut bytes = BytesMut::from(bytes);
        while let Some(decoded) = self
            .decoder
            .decode(&mut bytes)
            .expect("what we send is well-formed")
        {
            assert!(decoded.reactions.is_empty(), "{:?}", decoded.reactions);
            let Message::Update(update) = decoded.message else {
                continue;
            };
            for prefix in &update.withdrawn4 {
                self.routes.remove(&prefix.erase());
            }
            for prefix in &update.withdrawn6 {
                self.routes.remove(&prefix.erase());
            }
            if let Some(reach) = update.reach4 {
                for prefix in reach.prefixes {
                    self.routes.insert(prefix.erase(), reach.attributes.clone());
                }
            }
            if let Some(reach) = update.reach6 {
                for prefix in reach.prefixes {
                    self.routes.insert(prefix.erase(), reach.attributes.clone());
                }
            }
            self.end_of_rib.extend(update.end_of_rib);
        }
        assert!(bytes.is_empty(), "whole messages only");
    }
}

struct Pair {
    rib: Rib,
    model: Model,
    receivers: Vec<Option<Receiver>>,
    tracked: BTreeSet<NextHopKey>,
    sets: BTreeMap<NextHopSetId, Vec<FibNextHop>>,
    fib: BTreeMap<Prefix, NextHopSetId>,
}

impl Pair {
    fn new(config: RibConfig) -> Self {
        let accept = Settings {
            import: 1,
            export: 1,
            default_in: true,
            default_out: true,
            mode: NextHopMode::Default,
        };
        let mut pair = Self {
            rib: Rib::new(config.clone()),
            model: Model {
                config,
                settings: vec![accept; PEERS.len()],
                up: vec![false; PEERS.len()],
                paths: BTreeMap::new(),
                metrics: [1, 2, 3, 4, 5, 6, 7, 50].map(|host| (host, 10)).into(),
                last_metrics: BTreeMap::new(),
                unprogrammed: BTreeSet::new(),
            },
            receivers: PEERS.map(|_| None).into(),
            tracked: BTreeSet::new(),
            sets: BTreeMap::new(),
            fib: BTreeMap::new(),
        };
        for peer in 0..PEERS.len() - 1 {
            pair.apply(&Event::Up { peer });
        }
        pair
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Announce {
                peer,
                prefixes,
                v6,
                route,
            } => {
                if !self.model.up[*peer] {
                    return;
                }
                let family = if *v6 {
                    Family::Ipv6Unicast
                } else {
                    Family::Ipv4Unicast
                };
                let attributes = route.attributes(*peer, family);
                let mut update = Update::default();
                if *v6 {
                    let prefixes = prefixes.iter().map(|&index| prefix6(index)).collect();
                    update.reach6 = Some(Reach {
                        attributes: attributes.clone(),
                        prefixes,
                    });
                } else {
                    let prefixes = prefixes.iter().map(|&index| prefix4(index)).collect();
                    update.reach4 = Some(Reach {
                        attributes: attributes.clone(),
                        prefixes,
                    });
                }
                self.rib.handle_update(peer_id(*peer), update);
                for &index in prefixes {
                    let path = ModelPath {
                        received: attributes.clone(),
                        stale: false,
                        ready: true,
                    };
                    self.model
                        .paths
                        .insert((any_prefix(index, *v6), Some(*peer)), path);
                }
            }
            Event::AnnounceAlike { prefixes, v6 } => {
                for peer in 0..PEERS.len() {
                    self.apply(&Event::Announce {
                        peer,
                        prefixes: prefixes.clone(),
                        v6: *v6,
                        route: Route::PLAIN,
                    });
                }
            }
            Event::Withdraw { peer, prefixes, v6 } => {
                if !self.model.up[*peer] {
                    return;
                }
                let mut update = Update::default();
                if *v6 {
                    update.withdrawn6 = prefixes.iter().map(|&index| prefix6(index)).collect();
                } else {
                    update.withdrawn4 = prefixes.iter().map(|&index| prefix4(index)).collect();
                }
                self.rib.handle_update(peer_id(*peer), update);
                for &index in prefixes {
                    self.model
                        .paths
                        .remove(&(any_prefix(index, *v6), Some(*peer)));
                }
            }
            Event::Up { peer } => {
                if !self.model.up[*peer] {
                    let session = session(*peer, &self.model.settings[*peer]);
                    self.rib.peer_up(peer_id(*peer), session).unwrap();
                    self.model.up[*peer] = true;
                    self.receivers[*peer] = Some(Receiver::new(*peer));
                }
            }
            Event::Down { peer, retain } => {
                let families = if *retain { &Family::ALL[..] } else { &[] };
                let was_up = self.model.up[*peer];
                self.rib.peer_down(peer_id(*peer), families);
                self.model.up[*peer] = false;
                self.receivers[*peer] = None;
                self.model.paths.retain(|(_, from), path| {
                    if *from != Some(*peer) {
                        return true;
                    }
                    path.stale |= was_up;
                    *retain
                });
            }
            Event::Sweep { peer } | Event::EndRefresh { peer } => {
                for family in Family::ALL {
                    self.rib.sweep_stale(peer_id(*peer), family);
                }
                self.model
                    .paths
                    .retain(|(_, from), path| *from != Some(*peer) || !path.stale);
            }
            Event::BeginRefresh { peer } => {
                if self.model.up[*peer] {
                    for family in Family::ALL {
                        self.rib.begin_refresh(peer_id(*peer), family);
                    }
                    for ((_, from), path) in &mut self.model.paths {
                        path.stale |= *from == Some(*peer);
                    }
                }
            }
            Event::RefreshOut { peer } => {
                for family in Family::ALL {
                    self.rib.refresh_out(peer_id(*peer), family);
                }
            }
            Event::Configure { peer, settings } => {
                // What is kept of a session that is gone is judged by the policy of that session.
                if self.model.up[*peer] {
                    self.model.settings[*peer] = settings.clone();
                    self.rib
                        .set_session(peer_id(*peer), session(*peer, settings));
                }
            }
            Event::Originate { prefixes } => {
                self.model.paths.retain(|(_, from), _| from.is_some());
                let mut originated = BTreeMap::new();
                for &(index, v6, ready) in prefixes {
                    let prefix = any_prefix(index, v6);
                    originated.insert(
                        prefix,
                        Originated {
                            ready,
                            ..Originated::new(prefix)
                        },
                    );
                    let received = Attributes {
                        origin: Origin::Igp,
                        atomic_aggregate: false,
                        as_path: AsPath::empty(),
                        next_hop: match prefix.family() {
                            Family::Ipv4Unicast => NextHop::V4(Ipv4Addr::UNSPECIFIED),
                            Family::Ipv6Unicast => NextHop::V6(Ipv6Addr::UNSPECIFIED),
                        },
                        med: None,
                        local_pref: None,
                        communities: Box::default(),
                        rare: None,
                    };
                    let path = ModelPath {
                        received,
                        stale: false,
                        ready,
                    };
                    self.model.paths.insert((prefix, None), path);
                }
                let originated: Vec<_> = originated.into_values().collect();
                self.rib.set_originated(originated);
            }
            Event::NextHop { host, metric } => {
                let before = match metric {
                    Some(metric) => self.model.metrics.insert(*host, *metric),
                    None => self.model.metrics.remove(host),
                };
                let before = before.map(|metric| (*host, metric));
                self.model.last_metrics.extend(before);
                for addr in [IpAddr::V4(addr4(*host)), IpAddr::V6(addr6(*host))] {
                    self.rib
                        .next_hop_changed(NextHopKey { addr, link: None }, *metric);
                }
            }
            Event::Program {
                prefixes,
                programmed,
            } => {
                let prefixes = prefixes.iter().map(|&(index, v6)| any_prefix(index, v6));
                let prefixes: Vec<Prefix> = prefixes.collect();
                if *programmed {
                    self.rib.program_recovered(&prefixes);
                    self.model.unprogrammed.retain(|it| !prefixes.contains(it));
                } else {
                    self.rib.program_failed(&prefixes);
                    self.model.unprogrammed.extend(prefixes);
                }
            }
            Event::Hold(hold) => self.rib.hold_output(*hold),
            Event::Work(budget) => {
                self.rib.work(*budget);
            }
            Event::Flush(budget) => {
                self.rib.flush(*budget);
            }
            Event::Take { peer, times } => {
                for _ in 0..*times {
                    self.transmit(*peer);
                }
            }
            Event::Check => self.check(),
        }
        self.answer_next_hops();
    }

    fn answer_next_hops(&mut self) {
        while let Some(interest) = self.rib.poll_next_hop_interest() {
            match interest {
                NextHopInterest::Track(key) => {
                    assert!(self.tracked.insert(key), "{key:?} is tracked already");
                    let metric = self.model.metrics.get(&host(key.addr)).copied();
                    self.rib.next_hop_changed(key, metric);
                }
                NextHopInterest::Release(key) => {
                    assert!(self.tracked.remove(&key), "{key:?} was not tracked");
                }
            }
        }
    }

    fn transmit(&mut self, peer: usize) -> bool {
        let Some(receiver) = &mut self.receivers[peer] else {
            return false;
        };
        match self.rib.poll_transmit(peer_id(peer), 300) {
            Some(bytes) => {
                receiver.take(&bytes);
                true
            }
            None => false,
        }
    }

    fn take_fib(&mut self, max: usize) -> bool {
        let Some(delta) = self.rib.poll_fib(max) else {
            return false;
        };
        for (id, set) in &delta.sets {
            if let Some(set) = set {
                assert!(
                    self.sets.insert(*id, set.to_vec()).is_none(),
                    "{id:?} was defined"
                );
            }
        }
        for (prefix, set) in &delta.routes {
            match set {
                Some(set) => {
                    assert!(self.sets.contains_key(set), "{set:?} is defined");
                    self.fib.insert(*prefix, *set);
                }
                None => {
                    self.fib.remove(prefix);
                }
            }
        }
        for (id, set) in &delta.sets {
            if set.is_none() {
                assert!(self.sets.remove(id).is_some(), "{id:?} was defined");
                assert!(
                    self.fib.values().all(|other| other != id),
                    "{id:?} is in use"
                );
            }
        }
        true
    }

    fn settle(&mut self) {
        self.rib.hold_output(false);
        for round in 0.. {
            assert!(round < 100, "comes to rest");
            let mut more = self.rib.work(3);
            more |= self.rib.flush(3);
            self.answer_next_hops();
            more |= self.take_fib(2);
            for peer in 0..PEERS.len() {
                while self.transmit(peer) {
                    more = true;
                }
            }
            if !more && !self.rib.work(1) && !self.rib.flush(1) {
                break;
            }
        }
    }

    fn check(&mut self) {
        self.settle();
        let prefixes = self.model.prefixes();
        let mut sent: Vec<BTreeMap<Prefix, Attributes>> = vec![BTreeMap::new(); PEERS.len()];
        let mut fib = BTreeMap::new();
        for &prefix in &prefixes {
            let (status, best, _) = self.model.decide(prefix);
            let views = self.rib.explain(prefix).paths;
            let seen: BTreeMap<From, PathStatus> = views
                .iter()
                .map(|view| (view.peer.map(|peer| peer.0 as usize), view.status.clone()))
                .collect();
            assert_eq!(seen, status, "{prefix}");
            for view in &views {
                let from = view.peer.map(|peer| peer.0 as usize);
                let path = &self.model.paths[&(prefix, from)];
                assert_eq!(
                    (&*view.received, view.stale),
                    (&path.received, path.stale),
                    "{prefix} {from:?}"
                );
            }
            if let Some(best) = &best {
                for (peer, sent) in sent.iter_mut().enumerate() {
                    sent.extend(
                        self.model
                            .export(prefix, best, peer)
                            .map(|attributes| (prefix, attributes)),
                    );
                }
            }
            let hops = self.model.hops(prefix);
            if !hops.is_empty() {
                fib.insert(prefix, hops);
            }
        }
        for (peer, sent) in sent.iter().enumerate() {
            let counts = Family::ALL.map(|family| self.rib.counts(peer_id(peer), family));
            let received = self
                .model
                .paths
                .keys()
                .filter(|(_, from)| *from == Some(peer))
                .count();
            assert_eq!(
                counts.iter().map(|count| count.received).sum::<usize>(),
                received
            );
            let Some(receiver) = &self.receivers[peer] else {
                continue;
            };
            assert_eq!(&receiver.routes, sent, "what peer {peer} holds");
            assert_eq!(receiver.end_of_rib.len(), 2, "End-of-RIB of both families");
            assert_eq!(
                counts.iter().map(|count| count.advertised).sum::<usize>(),
                sent.len()
            );
            let mut listed = BTreeMap::new();
            for family in Family::ALL {
                let mut cursor = Some(Cursor::default());
                while let Some(at) = cursor {
                    let page = self.rib.advertised(peer_id(peer), family, at, 2);
                    listed.extend(
                        page.items
                            .into_iter()
                            .map(|view| (view.prefix, (*view.attributes).clone())),
                    );
                    cursor = page.next;
                }
            }
            assert_eq!(&listed, sent, "what is listed for peer {peer}");
        }
        let installed: BTreeMap<Prefix, BTreeSet<IpAddr>> = self
            .fib
            .iter()
            .map(|(&prefix, set)| (prefix, self.sets[set].iter().map(|hop| hop.addr).collect()))
            .collect();
        assert_eq!(
            installed.keys().collect::<Vec<_>>(),
            fib.keys().collect::<Vec<_>>()
        );
        for (prefix, hops) in installed {
            let lost: Vec<IpAddr> = hops.difference(&fib[&prefix]).copied().collect();
            let unreachable = |addr: &IpAddr| !self.model.metrics.contains_key(&host(*addr));
            assert!(lost.iter().all(unreachable), "{prefix} {hops:?}");
            // What is waited for is what would be chosen again.
            assert_eq!(hops, self.model.hops_with(prefix, &lost), "{prefix}");
        }
        let listed: BTreeSet<Prefix> = Family::ALL
            .iter()
            .flat_map(|&family| {
                self.rib
                    .routes(RouteFilter::All(family), Cursor::default(), 100)
                    .items
            })
            .map(|route| route.prefix)
            .collect();
        assert_eq!(listed, prefixes);
    }
}

fn any_prefix(index: u8, v6: bool) -> Prefix {
    if v6 {
        prefix6(index).erase()
    } else {
        prefix4(index).erase()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rib_equals_the_naive_model_after_any_events(
        config in config(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut pair = Pair::new(config);
        for event in &events {
            pair.apply(event);
        }
        pair.check();
        // And when everybody has gone, nothing is left.
        for peer in 0..PEERS.len() {
            pair.apply(&Event::Down { peer, retain: false });
        }
        pair.apply(&Event::Originate { prefixes: Vec::new() });
        pair.check();
        let summary = pair.rib.summary();
        prop_assert_eq!(summary.attribute_sets, 0);
        prop_assert_eq!(summary.next_hop_sets, 0);
        prop_assert_eq!(summary.update_groups, 0);
        prop_assert_eq!(summary.families.map(|family| (family.prefixes, family.paths, family.routes)), [(0, 0, 0); 2]);
        while let Some(NextHopInterest::Release(key)) = pair.rib.poll_next_hop_interest() {
            pair.tracked.remove(&key);
        }
        prop_assert!(pair.tracked.is_empty(), "{:?}", pair.tracked);
    }
}
