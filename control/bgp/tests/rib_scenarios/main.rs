//! What the RIB does, one sentence a test, through its public API and the bytes it sends.

mod confederation;
mod link_bandwidth;
mod next_hop;
mod unprogrammed;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BytesMut;
use causeway_bgp::fib::FibNextHop;
use causeway_bgp::origin::Originated;
use causeway_bgp::policy::{Action, Match, Policy, PrefixRange, Rule, Verdict};
use causeway_bgp::rib::{
    Cursor, DecisionStep, ExportStatus, FamilySession, Ineligible, MissingMed, NextHopInterest,
    NextHopKey, PathStatus, PeerKind, Rib, RibConfig, RibSession, RouteFilter,
};
use causeway_bgp::types::{AddressFamily, Asn, Family, PeerId, Prefix, Prefix4, Prefix6, RouterId};
use causeway_bgp::wire::{
    AsPath, Attributes, Capability, ClusterId, Community, Decoder, DecoderConfig, Message, NextHop,
    Open, Origin, RareAttributes, Reach, RefreshKind, RouteRefresh, Update, encode_open,
};

const OWN: Asn = Asn(65_000);
const CLIENT: PeerKind = PeerKind::Internal { client: true };
const PLAIN: PeerKind = PeerKind::Internal { client: false };

fn config() -> RibConfig {
    RibConfig {
        assume_reachable: true,
        ..RibConfig::new(OWN, RouterId(100))
    }
}

fn accept() -> FamilySession {
    let all = Some(Arc::new(Policy::accept_all()));
    FamilySession {
        import: all.clone(),
        export: all,
        ..FamilySession::default()
    }
}

fn addr(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, host)
}

fn session(kind: PeerKind, asn: u32, host: u8, family: &FamilySession) -> RibSession {
    let asn = if kind == PeerKind::External {
        Asn(asn)
    } else {
        OWN
    };
    let families = Family::ALL.map(|each| (each, family.clone()));
    RibSession {
        local_ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 100)),
        ..RibSession::new(
            kind,
            (OWN, addr(100).into()),
            (asn, RouterId(u32::from(host)), addr(host).into()),
            &families,
        )
    }
}

fn prefix(text: &str) -> Prefix4 {
    Prefix4::from_prefix(text.parse().unwrap()).unwrap()
}

fn path(asns: &[u32], next_hop: u8) -> Attributes {
    Attributes {
        origin: Origin::Igp,
        atomic_aggregate: false,
        as_path: AsPath::sequence(asns.iter().copied()),
        next_hop: NextHop::V4(addr(next_hop)),
        med: None,
        local_pref: None,
        communities: Box::default(),
        rare: None,
    }
}

fn announce(rib: &mut Rib, peer: u32, attributes: &Attributes, prefixes: &[&str]) {
    let prefixes = prefixes.iter().map(|text| prefix(text)).collect();
    let reach4 = Some(Reach {
        attributes: attributes.clone(),
        prefixes,
    });
    rib.handle_update(
        PeerId(peer),
        Update {
            reach4,
            ..Update::default()
        },
    );
}

fn withdraw(rib: &mut Rib, peer: u32, prefixes: &[&str]) {
    let withdrawn4 = prefixes.iter().map(|text| prefix(text)).collect();
    rib.handle_update(
        PeerId(peer),
        Update {
            withdrawn4,
            ..Update::default()
        },
    );
}

fn settle(rib: &mut Rib) {
    while rib.work(1000) | rib.flush(1000) {}
}

/// A RIB with peers 0, 1, … of these kinds; external ones are of AS 65001, 65002, …
fn rib(config: RibConfig, kinds: &[PeerKind]) -> Rib {
    let mut rib = Rib::new(config);
    for (peer, &kind) in (0..).zip(kinds) {
        let host = u8::try_from(peer + 1).unwrap();
        rib.peer_up(PeerId(peer), session(kind, 65_001 + peer, host, &accept()))
            .unwrap();
    }
    settle(&mut rib);
    for peer in 0..u32::try_from(kinds.len()).unwrap() {
        sent(&mut rib, peer);
    }
    rib
}

/// Two peers; the first has announced 10/8 and 11/8 with the same attributes, and 12/8 with others.
fn two_alike_and_one() -> Rib {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    announce(
        &mut rib,
        0,
        &path(&[65_001], 1),
        &["10.0.0.0/8", "11.0.0.0/8"],
    );
    announce(&mut rib, 0, &path(&[65_001, 9], 1), &["12.0.0.0/8"]);
    rib
}

/// What is sent to a peer, decoded.
fn sent(rib: &mut Rib, peer: u32) -> Vec<Message> {
    settle(rib);
    take(rib, peer)
}

fn take(rib: &mut Rib, peer: u32) -> Vec<Message> {
    let open = |asn: Asn, id: u32| Open {
        asn,
        hold_time: 90,
        router_id: RouterId(id),
        capabilities: vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::multiprotocol(Family::Ipv6Unicast),
            Capability::FourOctetAs(asn),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
        ],
    };
    let mut stream = BytesMut::new();
    encode_open(&open(OWN, 100), &mut stream);
    while let Some(more) = rib.poll_transmit(PeerId(peer), 65_536) {
        stream.extend_from_slice(&more);
    }
    // As an external or as an internal peer: one of them has nothing to object.
    let decode = |asn: Asn| {
        let mut decoder = Decoder::new(&open(asn, 7), DecoderConfig::default());
        let (mut bytes, mut messages) = (stream.clone(), Vec::new());
        while let Some(decoded) = decoder.decode(&mut bytes).unwrap() {
            if !decoded.reactions.is_empty() {
                return None;
            }
            messages.push(decoded.message);
        }
        messages.remove(0);
        Some(messages)
    };
    decode(Asn(64_999))
        .or_else(|| decode(OWN))
        .expect("what we send is well-formed")
}

/// Updates only, as (announced with their path, withdrawn) of IPv4.
fn updates(messages: &[Message]) -> Vec<(Vec<String>, Vec<String>)> {
    let texts = |prefixes: &[Prefix4]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
    messages
        .iter()
        .filter_map(|message| match message {
            Message::Update(update) if update.end_of_rib.is_none() => Some((
                update
                    .reach4
                    .as_ref()
                    .map(|reach| texts(&reach.prefixes))
                    .unwrap_or_default(),
                texts(&update.withdrawn4),
            )),
            _ => None,
        })
        .collect()
}

fn announced(messages: &[Message]) -> Option<Attributes> {
    messages.iter().find_map(|message| match message {
        Message::Update(update) => update.reach4.as_ref().map(|reach| reach.attributes.clone()),
        _ => None,
    })
}

fn status(rib: &Rib, text: &str, peer: u32) -> PathStatus {
    let explanation = rib.explain(text.parse().unwrap());
    let path = explanation
        .paths
        .iter()
        .find(|path| path.peer == Some(PeerId(peer)));
    path.expect("the peer has a path").status.clone()
}

fn lost(step: DecisionStep, against: u32) -> PathStatus {
    PathStatus::Lost {
        step,
        against: Some(PeerId(against)),
    }
}

// ----- decision -------------------------------------------------------------------------------------------------------

#[test]
fn each_step_decides_where_all_before_it_tie() {
    let base = || path(&[65_001, 1], 1);
    type Change = fn(&mut Attributes);
    let worse: [(DecisionStep, Change); 5] = [
        (DecisionStep::LocalPref, |path| path.local_pref = Some(99)),
        (DecisionStep::AsPathLength, |path| {
            path.as_path = AsPath::sequence([65_001, 2, 1])
        }),
        (DecisionStep::Origin, |path| {
            path.origin = Origin::Incomplete
        }),
        (DecisionStep::Med, |path| path.med = Some(1)),
        (DecisionStep::ClusterList, |path| {
            path.rare = Some(Box::new(RareAttributes {
                originator_id: Some(RouterId(1)),
                cluster_list: [ClusterId(5)].into(),
                ..RareAttributes::default()
            }));
        }),
    ];
    for (step, change) in worse {
        let mut rib = rib(config(), &[PLAIN, PLAIN]);
        let mut other = base();
        change(&mut other);
        // The worse one first and from the lower router id, so that nothing but the step makes the difference.
        announce(&mut rib, 0, &other, &["10.0.0.0/8"]);
        let mut good = base();
        if step == DecisionStep::ClusterList {
            good.rare = Some(Box::new(RareAttributes {
                originator_id: Some(RouterId(1)),
                ..RareAttributes::default()
            }));
        }
        announce(&mut rib, 1, &good, &["10.0.0.0/8"]);
        settle(&mut rib);
        assert_eq!(status(&rib, "10.0.0.0/8", 1), PathStatus::Best, "{step:?}");
        assert_eq!(status(&rib, "10.0.0.0/8", 0), lost(step, 1));
    }
}

#[test]
fn ebgp_wins_over_ibgp_and_the_lower_router_id_over_the_higher() {
    let mut rib = rib(config(), &[PLAIN, PeerKind::External, PLAIN]);
    announce(
        &mut rib,
        0,
        &path(&[65_002], 1),
        &["10.0.0.0/8", "11.0.0.0/8"],
    );
    announce(&mut rib, 2, &path(&[65_002], 3), &["11.0.0.0/8"]);
    announce(&mut rib, 1, &path(&[65_002], 2), &["10.0.0.0/8"]);
    settle(&mut rib);
    assert_eq!(
        status(&rib, "10.0.0.0/8", 0),
        lost(DecisionStep::External, 1)
    );
    assert_eq!(
        status(&rib, "11.0.0.0/8", 2),
        lost(DecisionStep::RouterId, 0)
    );
}

#[test]
fn med_is_compared_within_one_neighbouring_as_whatever_the_order_of_arrival() {
    // Pairwise, A beats B by MED, B beats C and C beats A by cost to the next hop: there is no order among them.
    let paths = [
        (0, path(&[1, 9], 1), Some(0), 30),
        (1, path(&[1, 9], 2), Some(10), 10),
        (2, path(&[2, 9], 3), None, 20),
    ];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let unresolved = RibConfig {
            assume_reachable: false,
            ..config()
        };
        let mut rib = rib(unresolved, &[PLAIN, PLAIN, PLAIN]);
        for index in order {
            let (peer, attributes, med, cost) = &paths[index];
            let attributes = Attributes {
                med: *med,
                ..attributes.clone()
            };
            announce(&mut rib, *peer, &attributes, &["10.0.0.0/8"]);
            let host = u8::try_from(index + 1).unwrap();
            let key = NextHopKey {
                addr: addr(host).into(),
                link: None,
            };
            rib.next_hop_changed(key, Some(*cost));
            settle(&mut rib);
        }
        assert_eq!(status(&rib, "10.0.0.0/8", 2), PathStatus::Best, "{order:?}");
        assert_eq!(status(&rib, "10.0.0.0/8", 1), lost(DecisionStep::Med, 2));
        assert_eq!(
            status(&rib, "10.0.0.0/8", 0),
            lost(DecisionStep::IgpMetric, 2)
        );
    }
}

#[test]
fn a_missing_med_is_worst_and_med_crosses_ases_if_so_configured() {
    let mut config = config();
    config.med.missing = MissingMed::Worst;
    config.med.always_compare = true;
    let mut rib = rib(config, &[PLAIN, PLAIN]);
    announce(&mut rib, 0, &path(&[1], 1), &["10.0.0.0/8"]);
    let with_med = Attributes {
        med: Some(1000),
        ..path(&[2], 2)
    };
    announce(&mut rib, 1, &with_med, &["10.0.0.0/8"]);
    settle(&mut rib);
    assert_eq!(status(&rib, "10.0.0.0/8", 0), lost(DecisionStep::Med, 1));
}

#[test]
fn multipath_takes_equal_paths_up_to_its_maximum() {
    for (relax, members) in [(false, 1), (true, 2)] {
        let config = RibConfig {
            maximum_paths_ebgp: 2,
            multipath_relax: relax,
            ..config()
        };
        let external = [PeerKind::External; 3];
        let mut rib = rib(config, &external);
        for peer in 0..3 {
            let host = u8::try_from(peer + 1).unwrap();
            announce(
                &mut rib,
                peer,
                &path(&[65_001 + peer, 9], host),
                &["10.0.0.0/8"],
            );
        }
        settle(&mut rib);
        let delta = rib.poll_fib(10).expect("a route");
        let set = delta.sets[0].1.as_ref().expect("a definition");
        assert_eq!(set.len(), members, "relax {relax}");
        let beside = if relax {
            PathStatus::Multipath
        } else {
            lost(DecisionStep::RouterId, 0)
        };
        assert_eq!(status(&rib, "10.0.0.0/8", 1), beside);
        assert_eq!(
            status(&rib, "10.0.0.0/8", 2),
            lost(DecisionStep::RouterId, 0)
        );
    }
}

// ----- what is sent ---------------------------------------------------------------------------------------------------

#[test]
fn a_route_goes_to_the_others_and_its_withdrawal_only_to_those_who_had_it() {
    let mut rib = rib(config(), &[PeerKind::External; 3]);
    announce(&mut rib, 0, &path(&[65_001], 1), &["10.0.0.0/8"]);
    withdraw(&mut rib, 0, &["10.0.0.0/8"]);
    assert_eq!(sent(&mut rib, 1), [], "nobody had heard of it");
    announce(&mut rib, 0, &path(&[65_001], 1), &["10.0.0.0/8"]);
    let to_other = sent(&mut rib, 1);
    assert_eq!(
        updates(&to_other),
        [(vec!["10.0.0.0/8".to_owned()], vec![])]
    );
    assert_eq!(
        announced(&to_other).unwrap().as_path,
        AsPath::sequence([65_000, 65_001])
    );
    withdraw(&mut rib, 0, &["10.0.0.0/8"]);
    assert_eq!(
        updates(&sent(&mut rib, 1)),
        [(vec![], vec!["10.0.0.0/8".to_owned()])]
    );
    assert_eq!(sent(&mut rib, 0), [], "its own path is never sent back");
    // Peer 2 has not taken anything so far: both messages wait, in order.
    assert_eq!(updates(&sent(&mut rib, 2)).len(), 2);
}

#[test]
fn who_becomes_the_source_of_the_best_path_is_sent_a_withdrawal() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    announce(&mut rib, 0, &path(&[65_001, 9, 9], 1), &["10.0.0.0/8"]);
    assert_eq!(updates(&sent(&mut rib, 1)).len(), 1);
    announce(&mut rib, 1, &path(&[65_002], 2), &["10.0.0.0/8"]);
    assert_eq!(
        updates(&sent(&mut rib, 1)),
        [(vec![], vec!["10.0.0.0/8".to_owned()])]
    );
    assert_eq!(
        updates(&sent(&mut rib, 0)),
        [(vec!["10.0.0.0/8".to_owned()], vec![])]
    );
}

#[test]
fn what_looks_the_same_on_the_wire_is_not_sent_again() {
    let mut rib = rib(config(), &[CLIENT, CLIENT, PeerKind::External]);
    let reflected = |cluster| Attributes {
        rare: Some(Box::new(RareAttributes {
            originator_id: Some(RouterId(77)),
            cluster_list: [ClusterId(cluster)].into(),
            ..RareAttributes::default()
        })),
        ..path(&[9], 50)
    };
    announce(&mut rib, 0, &reflected(5), &["10.0.0.0/8"]);
    announce(&mut rib, 1, &reflected(6), &["10.0.0.0/8"]);
    assert_eq!(updates(&sent(&mut rib, 2)).len(), 1);
    announce(&mut rib, 0, &reflected(5), &["10.0.0.0/8"]);
    assert_eq!(sent(&mut rib, 2), [], "the same again");
    rib.peer_down(PeerId(0), &[]);
    assert_eq!(
        sent(&mut rib, 2),
        [],
        "the other reflector's path makes the same UPDATE"
    );
}

#[test]
fn peers_that_withdraw_together_cause_no_path_hunting() {
    let mut rib = rib(config(), &[PeerKind::External; 5]);
    for peer in 0..4 {
        let host = u8::try_from(peer + 1).unwrap();
        announce(
            &mut rib,
            peer,
            &path(&[65_001 + peer], host),
            &["10.0.0.0/8", "11.0.0.0/8"],
        );
    }
    assert_eq!(updates(&sent(&mut rib, 4)).len(), 1);
    for peer in 0..4 {
        withdraw(&mut rib, peer, &["10.0.0.0/8", "11.0.0.0/8"]);
    }
    let both = vec!["10.0.0.0/8".to_owned(), "11.0.0.0/8".to_owned()];
    assert_eq!(updates(&sent(&mut rib, 4)), [(vec![], both)]);
}

#[test]
fn prefixes_with_the_same_attributes_share_an_update_although_they_came_apart() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    for text in ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"] {
        announce(&mut rib, 0, &path(&[65_001], 1), &[text]);
        announce(
            &mut rib,
            0,
            &path(&[65_001, 9], 1),
            &[&text.replace(".0.0.0/8", ".1.0.0/16")],
        );
    }
    assert_eq!(updates(&sent(&mut rib, 1)).len(), 2);
}

#[test]
fn a_small_budget_does_not_tear_the_routes_of_one_update_apart() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    for (asn, octet) in [(65_101, 1), (65_102, 2)] {
        let prefixes: Vec<String> = (0..10).map(|n| format!("10.{octet}.{n}.0/24")).collect();
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        announce(&mut rib, 0, &path(&[65_001, asn], 1), &prefixes);
    }
    while rib.flush(4) {}
    let sizes: Vec<usize> = updates(&take(&mut rib, 1))
        .iter()
        .map(|(announced, _)| announced.len())
        .collect();
    assert_eq!(sizes, [10, 10]);
}

#[test]
fn a_table_dump_does_not_tear_the_routes_of_one_update_apart() {
    const BATCH_DESTINATIONS: u32 = 16 << 10;
    let mut rib = rib(config(), &[PeerKind::External]);
    let mut next = 0x0a00_0000_u32;
    for (asn, count) in [(65_101, BATCH_DESTINATIONS - 5), (65_102, 10)] {
        let prefixes = (0..count).map(|_| {
            next += 256;
            Prefix4::from_bytes(&next.to_be_bytes(), 24).unwrap()
        });
        let reach4 = Some(Reach {
            attributes: path(&[65_001, asn], 1),
            prefixes: prefixes.collect(),
        });
        let update = Update {
            reach4,
            ..Update::default()
        };
        rib.handle_update(PeerId(0), update);
    }
    settle(&mut rib);
    rib.peer_up(PeerId(1), session(PeerKind::External, 65_002, 2, &accept()))
        .unwrap();
    let last = updates(&sent(&mut rib, 1)).pop().unwrap();
    assert_eq!(last.0.len(), 10);
}

#[test]
fn a_peer_that_stops_reading_is_sent_the_outcome_and_not_the_history() {
    let mut rib = rib(
        RibConfig {
            group_log_bytes: 2000,
            ..config()
        },
        &[PeerKind::External; 3],
    );
    let mut keeps_up = 0;
    for round in 0..200 {
        announce(
            &mut rib,
            0,
            &path(&[65_001, round + 1], 1),
            &["10.0.0.0/8", "11.0.0.0/8"],
        );
        keeps_up += updates(&sent(&mut rib, 1)).len();
    }
    withdraw(&mut rib, 0, &["11.0.0.0/8"]);
    assert_eq!(keeps_up, 200);
    let late = updates(&sent(&mut rib, 2));
    let all = (vec!["10.0.0.0/8".to_owned()], vec![]);
    assert!(
        late.len() < 50 && late.contains(&all),
        "{} updates",
        late.len()
    );
    let listed = rib
        .advertised(PeerId(2), Family::Ipv4Unicast, Cursor::default(), 10)
        .items;
    assert_eq!(listed.len(), 1);
}

#[test]
fn a_new_peer_is_sent_the_table_and_then_end_of_rib() {
    let mut rib = rib(config(), &[PeerKind::External]);
    announce(&mut rib, 0, &path(&[65_001], 1), &["10.0.0.0/8"]);
    settle(&mut rib);
    rib.peer_up(PeerId(1), session(PeerKind::External, 65_002, 2, &accept()))
        .unwrap();
    let messages = sent(&mut rib, 1);
    let ends: BTreeSet<_> = messages
        .iter()
        .filter_map(|message| match message {
            Message::Update(update) => update.end_of_rib,
            _ => None,
        })
        .collect();
    assert_eq!((updates(&messages).len(), ends), (1, Family::ALL.into()));
    let position = |wanted: &dyn Fn(&Update) -> bool| {
        messages
            .iter()
            .position(|message| matches!(message, Message::Update(update) if wanted(update)))
    };
    let end = position(&|update| update.end_of_rib == Some(Family::Ipv4Unicast));
    assert!(
        position(&|update| update.reach4.is_some()) < end,
        "the table comes first"
    );
}

#[test]
fn a_refresh_is_enclosed_in_markers_for_who_knows_them() {
    let mut rib = rib(config(), &[PeerKind::External]);
    announce(&mut rib, 0, &path(&[65_001], 1), &["10.0.0.0/8"]);
    let knows = RibSession {
        enhanced_refresh: true,
        ..session(PeerKind::External, 65_002, 2, &accept())
    };
    rib.peer_up(PeerId(1), knows).unwrap();
    sent(&mut rib, 1);
    rib.refresh_out(PeerId(1), Family::Ipv4Unicast);
    let messages = sent(&mut rib, 1);
    let marker = |kind| {
        Message::RouteRefresh(RouteRefresh {
            family: Family::Ipv4Unicast,
            kind,
        })
    };
    assert_eq!(messages.first(), Some(&marker(RefreshKind::Begin)));
    assert_eq!(messages.last(), Some(&marker(RefreshKind::End)));
    assert_eq!(updates(&messages).len(), 1);
}

#[test]
fn a_policy_change_sends_only_the_difference() {
    let mut rib = two_alike_and_one();
    sent(&mut rib, 1);
    let without_ten = Rule {
        matches: vec![Match::Prefix(vec![PrefixRange::exact(
            "10.0.0.0/8".parse().unwrap(),
        )])],
        verdict: Some(Verdict::Reject),
        reason: Some("not this one".into()),
        ..Rule::new("ten")
    };
    let export = Some(Arc::new(Policy::new(
        "p",
        vec![without_ten],
        Verdict::Accept,
    )));
    let family = FamilySession { export, ..accept() };
    rib.set_session(PeerId(1), session(PeerKind::External, 65_002, 2, &family));
    assert_eq!(
        updates(&sent(&mut rib, 1)),
        [(vec![], vec!["10.0.0.0/8".to_owned()])]
    );
    let explanation = rib.explain("10.0.0.0/8".parse().unwrap());
    let (_, status) = &explanation.exports[1];
    let ExportStatus::Rejected(rule) = status else {
        panic!("{status:?}")
    };
    assert_eq!(rule.reason.as_deref(), Some("not this one"));
    rib.set_session(PeerId(1), session(PeerKind::External, 65_002, 2, &accept()));
    assert_eq!(
        updates(&sent(&mut rib, 1)),
        [(vec!["10.0.0.0/8".to_owned()], vec![])]
    );
}

// ----- import and export rules ----------------------------------------------------------------------------------------

#[test]
fn without_policy_ebgp_neither_takes_nor_gives() {
    let mut rib = Rib::new(config());
    let bare = FamilySession::default();
    rib.peer_up(PeerId(0), session(PeerKind::External, 65_001, 1, &accept()))
        .unwrap();
    rib.peer_up(PeerId(1), session(PeerKind::External, 65_002, 2, &bare))
        .unwrap();
    announce(&mut rib, 0, &path(&[65_001], 1), &["10.0.0.0/8"]);
    announce(&mut rib, 1, &path(&[65_002], 2), &["11.0.0.0/8"]);
    settle(&mut rib);
    let refused = PathStatus::Ineligible(Ineligible::NoPolicy);
    assert_eq!(status(&rib, "11.0.0.0/8", 1), refused);
    assert_eq!(updates(&sent(&mut rib, 1)), []);
    let explanation = rib.explain("10.0.0.0/8".parse().unwrap());
    assert_eq!(explanation.exports[1], (PeerId(1), ExportStatus::NoPolicy));
    let counts = |rib: &Rib| {
        let counts = rib.counts(PeerId(1), Family::Ipv4Unicast);
        (counts.received, counts.accepted)
    };
    assert_eq!(counts(&rib), (1, 0), "kept for a soft refresh");
    // A policy makes it eligible without asking the peer again.
    rib.set_session(PeerId(1), session(PeerKind::External, 65_002, 2, &accept()));
    settle(&mut rib);
    assert_eq!(counts(&rib), (1, 1));
    assert_eq!(status(&rib, "11.0.0.0/8", 1), PathStatus::Best);
}

#[test]
fn a_default_route_needs_leave_in_both_directions() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    announce(&mut rib, 0, &path(&[65_001], 1), &["0.0.0.0/0"]);
    settle(&mut rib);
    let refused = PathStatus::Ineligible(Ineligible::DefaultRoute);
    assert_eq!(status(&rib, "0.0.0.0/0", 0), refused);
    let may = FamilySession {
        default_route_in: true,
        ..accept()
    };
    rib.set_session(PeerId(0), session(PeerKind::External, 65_001, 1, &may));
    settle(&mut rib);
    assert_eq!(status(&rib, "0.0.0.0/0", 0), PathStatus::Best);
    assert_eq!(updates(&sent(&mut rib, 1)), []);
    let may = FamilySession {
        default_route_out: true,
        ..accept()
    };
    rib.set_session(PeerId(1), session(PeerKind::External, 65_002, 2, &may));
    assert_eq!(updates(&sent(&mut rib, 1)).len(), 1);
}

#[test]
fn a_reflector_reflects_between_clients_and_others_and_names_the_originator() {
    let mut rib = rib(config(), &[CLIENT, CLIENT, PLAIN, PLAIN]);
    announce(&mut rib, 2, &path(&[9], 50), &["10.0.0.0/8"]);
    let to_client = announced(&sent(&mut rib, 0)).expect("from others to clients");
    let rare = to_client.rare.expect("reflected");
    assert_eq!(rare.originator_id, Some(RouterId(3)));
    assert_eq!(&*rare.cluster_list, [ClusterId(100)]);
    assert_eq!(to_client.next_hop, NextHop::V4(addr(50)), "unchanged");
    assert_eq!(sent(&mut rib, 3), [], "not between others");
    announce(&mut rib, 0, &path(&[9], 51), &["11.0.0.0/8"]);
    assert!(
        announced(&sent(&mut rib, 3)).is_some(),
        "from clients to others"
    );
    assert!(
        announced(&sent(&mut rib, 1)).is_some(),
        "from clients to clients"
    );
}

#[test]
fn reflected_loops_are_refused() {
    let mut rib = rib(config(), &[PLAIN]);
    let with = |originator, cluster: Option<u32>| Attributes {
        rare: Some(Box::new(RareAttributes {
            originator_id: Some(RouterId(originator)),
            cluster_list: cluster.map(ClusterId).into_iter().collect(),
            ..RareAttributes::default()
        })),
        ..path(&[9], 50)
    };
    announce(&mut rib, 0, &with(100, None), &["10.0.0.0/8"]);
    announce(&mut rib, 0, &with(7, Some(100)), &["11.0.0.0/8"]);
    announce(&mut rib, 0, &path(&[9, 65_000], 50), &["12.0.0.0/8"]);
    settle(&mut rib);
    for (text, why) in [
        ("10.0.0.0/8", Ineligible::OwnOriginatorId),
        ("11.0.0.0/8", Ineligible::ClusterLoop),
        ("12.0.0.0/8", Ineligible::AsLoop),
    ] {
        assert_eq!(status(&rib, text, 0), PathStatus::Ineligible(why));
    }
}

#[test]
fn med_is_not_passed_on_to_a_third_as_unless_policy_sets_it() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    let with_med = Attributes {
        med: Some(5),
        ..path(&[65_001], 1)
    };
    announce(&mut rib, 0, &with_med, &["10.0.0.0/8"]);
    assert_eq!(announced(&sent(&mut rib, 1)).unwrap().med, None);
    let sets = Rule {
        actions: vec![Action::Med(Some(7))],
        ..Rule::new("med")
    };
    let export = Some(Arc::new(Policy::new("p", vec![sets], Verdict::Accept)));
    let family = FamilySession { export, ..accept() };
    rib.set_session(PeerId(1), session(PeerKind::External, 65_002, 2, &family));
    assert_eq!(announced(&sent(&mut rib, 1)).unwrap().med, Some(7));
}

#[test]
fn graceful_shutdown_makes_a_path_the_last_resort() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    let leaving = Attributes {
        communities: [Community::GRACEFUL_SHUTDOWN].into(),
        ..path(&[65_001], 1)
    };
    announce(&mut rib, 0, &leaving, &["10.0.0.0/8"]);
    announce(&mut rib, 1, &path(&[65_002, 9, 9, 9], 2), &["10.0.0.0/8"]);
    settle(&mut rib);
    assert_eq!(
        status(&rib, "10.0.0.0/8", 0),
        lost(DecisionStep::LocalPref, 1)
    );
}

#[test]
fn own_prefixes_go_out_when_they_are_ready_with_the_own_address() {
    let mut rib = rib(config(), &[PeerKind::External, PLAIN]);
    let own = Originated {
        ready: false,
        communities: vec![Community::NO_EXPORT],
        med: Some(3),
        ..Originated::new("10.9.0.0/16".parse().unwrap())
    };
    rib.set_originated(vec![own.clone()]);
    assert_eq!(sent(&mut rib, 0), []);
    rib.set_originated(vec![Originated {
        ready: true,
        ..own.clone()
    }]);
    let external = announced(&sent(&mut rib, 0)).expect("NO_EXPORT is for the neighbour to heed");
    assert_eq!(external.as_path, AsPath::sequence([65_000]));
    assert_eq!(
        (external.next_hop, external.med),
        (NextHop::V4(addr(100)), Some(3))
    );
    let internal = announced(&sent(&mut rib, 1)).expect("to iBGP too");
    assert_eq!(
        (internal.local_pref, internal.as_path),
        (Some(100), AsPath::empty())
    );
    assert_eq!(
        rib.poll_fib(10),
        None,
        "own prefixes are not routes to anywhere"
    );
    rib.set_originated(vec![own]);
    assert_eq!(
        updates(&sent(&mut rib, 0)),
        [(vec![], vec!["10.9.0.0/16".to_owned()])]
    );
}

#[test]
fn link_local_next_hops_are_told_apart_by_their_link() {
    let mut rib = Rib::new(RibConfig {
        maximum_paths_ebgp: 8,
        multipath_relax: true,
        ..config()
    });
    let fe80 = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
    for peer in 0..2 {
        let unnumbered = RibSession {
            remote_addr: fe80.into(),
            local_addr: own.into(),
            local_link_local: Some(own),
            link: Some(10 + peer),
            ..session(PeerKind::External, 65_001 + peer, 1, &accept())
        };
        rib.peer_up(PeerId(peer), unnumbered).unwrap();
        let attributes = Attributes {
            next_hop: NextHop::V6(fe80),
            ..path(&[65_001 + peer], 1)
        };
        let prefixes = vec![Prefix6::new(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 16).unwrap()];
        let reach6 = Some(Reach {
            attributes,
            prefixes,
        });
        rib.handle_update(
            PeerId(peer),
            Update {
                reach6,
                ..Update::default()
            },
        );
    }
    settle(&mut rib);
    let delta = rib.poll_fib(10).unwrap();
    let hops = [10, 11].map(|link| FibNextHop {
        addr: fe80.into(),
        link: Some(link),
        weight: 1,
    });
    assert_eq!(delta.sets[0].1.as_deref(), Some(&hops[..]));
    let interest: BTreeSet<_> = core::iter::from_fn(|| rib.poll_next_hop_interest())
        .map(|interest| match interest {
            NextHopInterest::Track(key) | NextHopInterest::Release(key) => key.link,
        })
        .collect();
    assert_eq!(interest, [Some(10), Some(11)].into());
}

#[test]
fn a_link_local_next_hop_from_beyond_the_link_is_refused() {
    let mut rib = rib(config(), &[PeerKind::External]);
    let fe80 = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let attributes = Attributes {
        next_hop: NextHop::V6(fe80),
        ..path(&[65_001], 1)
    };
    let prefixes = vec![Prefix6::new(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 16).unwrap()];
    let reach6 = Some(Reach {
        attributes,
        prefixes,
    });
    rib.handle_update(
        PeerId(0),
        Update {
            reach6,
            ..Update::default()
        },
    );
    settle(&mut rib);
    let martian = PathStatus::Ineligible(Ineligible::NextHopMartian);
    assert_eq!(status(&rib, "2001::/16", 0), martian);
}

#[test]
fn on_a_shared_link_both_next_hops_are_told_and_elsewhere_only_the_global_one() {
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
    let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 100);
    let mut rib = Rib::new(config());
    let near = RibSession {
        local_link_local: Some(link_local),
        link: Some(3),
        ..session(PeerKind::External, 65_001, 1, &accept())
    };
    rib.peer_up(PeerId(0), near).unwrap();
    rib.peer_up(PeerId(1), session(PeerKind::External, 65_002, 2, &accept()))
        .unwrap();
    rib.set_originated(vec![Originated::new("2001:db8:9::/48".parse().unwrap())]);
    settle(&mut rib);
    let next_hop = |peer| {
        let page = rib.advertised(PeerId(peer), Family::Ipv6Unicast, Cursor::default(), 1);
        page.items[0].attributes.next_hop
    };
    assert_eq!(next_hop(0), NextHop::V6LinkLocal { global, link_local });
    assert_eq!(next_hop(1), NextHop::V6(global));
}

// ----- next hops, restart, listings -----------------------------------------------------------------------------------

#[test]
fn a_next_hop_that_goes_away_takes_its_paths_along() {
    let mut rib = rib(
        RibConfig {
            assume_reachable: false,
            ..config()
        },
        &[PeerKind::External, PeerKind::External],
    );
    announce(&mut rib, 0, &path(&[65_001], 1), &["10.0.0.0/8"]);
    settle(&mut rib);
    let unreachable = PathStatus::Ineligible(Ineligible::NextHopUnreachable);
    assert_eq!(status(&rib, "10.0.0.0/8", 0), unreachable);
    let key = NextHopKey {
        addr: addr(1).into(),
        link: None,
    };
    assert_eq!(
        rib.poll_next_hop_interest(),
        Some(NextHopInterest::Track(key))
    );
    rib.next_hop_changed(key, Some(1));
    assert_eq!(updates(&sent(&mut rib, 1)).len(), 1);
    rib.next_hop_changed(key, None);
    assert_eq!(
        updates(&sent(&mut rib, 1)),
        [(vec![], vec!["10.0.0.0/8".to_owned()])]
    );
    rib.next_hop_changed(key, Some(1));
    rib.set_own_addresses(vec![IpAddr::V4(addr(1))]);
    settle(&mut rib);
    assert_eq!(
        status(&rib, "10.0.0.0/8", 0),
        PathStatus::Ineligible(Ineligible::NextHopOwn)
    );
    withdraw(&mut rib, 0, &["10.0.0.0/8"]);
    settle(&mut rib);
    let delta = rib
        .poll_fib(10)
        .expect("what was decided and not asked for");
    assert!(
        delta.routes.iter().all(|(_, set)| set.is_none()),
        "installed and removed unseen"
    );
}

#[test]
fn a_restarting_peer_keeps_its_routes_until_they_are_swept() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    announce(
        &mut rib,
        0,
        &path(&[65_001], 1),
        &["10.0.0.0/8", "11.0.0.0/8"],
    );
    sent(&mut rib, 1);
    rib.peer_down(PeerId(0), &[Family::Ipv4Unicast]);
    assert_eq!(sent(&mut rib, 1), []);
    assert_eq!(rib.counts(PeerId(0), Family::Ipv4Unicast).stale, 2);
    rib.peer_up(PeerId(0), session(PeerKind::External, 65_001, 1, &accept()))
        .unwrap();
    announce(&mut rib, 0, &path(&[65_001], 1), &["10.0.0.0/8"]);
    assert_eq!(sent(&mut rib, 1), [], "nothing changes by coming back");
    rib.sweep_stale(PeerId(0), Family::Ipv4Unicast);
    assert_eq!(
        updates(&sent(&mut rib, 1)),
        [(vec![], vec!["11.0.0.0/8".to_owned()])]
    );
    let counts = rib.counts(PeerId(0), Family::Ipv4Unicast);
    assert_eq!((counts.received, counts.stale), (1, 0));
}

#[test]
fn held_output_says_nothing_and_decides_nothing() {
    let mut rib = Rib::new(config());
    rib.hold_output(true);
    rib.peer_up(PeerId(0), session(PeerKind::External, 65_001, 1, &accept()))
        .unwrap();
    rib.peer_up(PeerId(1), session(PeerKind::External, 65_002, 2, &accept()))
        .unwrap();
    announce(&mut rib, 0, &path(&[65_001], 1), &["10.0.0.0/8"]);
    assert_eq!(sent(&mut rib, 1), [], "not even End-of-RIB");
    assert_eq!(rib.poll_fib(10), None);
    rib.hold_output(false);
    assert_eq!(updates(&sent(&mut rib, 1)).len(), 1);
    assert!(rib.poll_fib(10).is_some());
}

#[test]
fn listings_find_exact_longer_and_longest_matches_page_by_page() {
    let mut rib = rib(config(), &[PeerKind::External]);
    let prefixes = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "11.0.0.0/8"];
    announce(&mut rib, 0, &path(&[65_001], 1), &prefixes);
    settle(&mut rib);
    let list = |filter| {
        let (mut found, mut cursor) = (Vec::new(), Some(Cursor::default()));
        while let Some(at) = cursor {
            let page = rib.routes(filter, at, 1);
            assert!(page.items.len() <= 1);
            found.extend(page.items.into_iter().map(|route| route.prefix.to_string()));
            cursor = page.next;
        }
        found
    };
    let parse = |text: &str| text.parse::<Prefix>().unwrap();
    assert_eq!(list(RouteFilter::All(Family::Ipv4Unicast)), prefixes);
    assert_eq!(
        list(RouteFilter::Exact(parse("10.1.0.0/16"))),
        ["10.1.0.0/16"]
    );
    assert_eq!(
        list(RouteFilter::Longer(parse("10.1.0.0/16"))),
        ["10.1.0.0/16", "10.1.2.0/24"]
    );
    let longest = |text: &str| list(RouteFilter::LongestMatch(text.parse().unwrap()));
    assert_eq!(longest("10.1.2.3"), ["10.1.2.0/24"]);
    assert_eq!(longest("10.9.9.9"), ["10.0.0.0/8"]);
    assert!(longest("12.0.0.1").is_empty() && longest("::1").is_empty());
    let unknown = rib.explain(parse("10.1.2.128/25"));
    assert_eq!(
        (unknown.paths.len(), unknown.covered_by),
        (0, Some(parse("10.1.2.0/24")))
    );
    let received = rib.received(PeerId(0), Family::Ipv4Unicast, Cursor::default(), 10);
    assert_eq!(received.items.len(), 4);
}

#[test]
fn the_same_next_hops_are_one_set_and_a_set_is_released_when_nothing_uses_it() {
    let mut rib = two_alike_and_one();
    settle(&mut rib);
    let first = rib.poll_fib(2).unwrap();
    assert_eq!((first.sets.len(), first.routes.len()), (1, 2));
    let rest = rib.poll_fib(2).unwrap();
    assert_eq!((rest.sets.len(), rest.routes.len()), (0, 1));
    rib.peer_down(PeerId(0), &[]);
    settle(&mut rib);
    let removed = rib.poll_fib(2).unwrap();
    assert!(removed.sets.is_empty(), "one route still points there");
    let last = rib.poll_fib(2).unwrap();
    assert_eq!(last.sets, [(first.sets[0].0, None)]);
    assert!(
        removed
            .routes
            .iter()
            .chain(&last.routes)
            .all(|(_, set)| set.is_none())
    );
}
