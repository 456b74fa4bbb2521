//! Confederations (RFC 5065): we are member AS 65000 of confederation 64512, with 65100 and 65200.

use causeway_bgp::rib::{Confederation, NextHopMode};
use causeway_bgp::wire::AsSegmentKind::{ConfedSequence, Sequence};

use super::*;

const IDENTIFIER: Asn = Asn(64_512);
const ROUTE: &str = "10.0.0.0/8";

fn member_config() -> RibConfig {
    RibConfig {
        confederation: Some(Confederation {
            identifier: IDENTIFIER,
            members: [Asn(65_100), Asn(65_200)].into(),
        }),
        ..config()
    }
}

/// Peers 0 and 1 in other member ASes, 2 in ours, 3 outside.
fn member() -> Rib {
    let mut rib = Rib::new(member_config());
    let family = accept();
    for (peer, kind, asn) in [
        (0, PeerKind::Confederation, 65_100),
        (1, PeerKind::Confederation, 65_200),
        (2, PLAIN, 65_000),
        (3, PeerKind::External, 64_999),
    ] {
        let host = u8::try_from(peer + 1).unwrap();
        let mut session = session(kind, asn, host, &family);
        session.remote_asn = Asn(asn);
        if kind == PeerKind::External {
            session.local_asn = IDENTIFIER;
        }
        rib.peer_up(PeerId(peer), session).unwrap();
        sent(&mut rib, peer);
    }
    rib
}

fn confederated(members: &[u32], outside: &[u32], next_hop: u8) -> Attributes {
    let asns = |list: &[u32]| list.iter().copied().map(Asn).collect();
    Attributes {
        as_path: AsPath::from_segments([
            (ConfedSequence, asns(members)),
            (Sequence, asns(outside)),
        ]),
        local_pref: Some(200),
        med: Some(30),
        ..path(&[], next_hop)
    }
}

#[test]
fn between_members_the_path_grows_inside_and_all_else_stays() {
    let mut rib = member();
    announce(
        &mut rib,
        0,
        &confederated(&[65_100], &[64_700], 77),
        &[ROUTE],
    );
    let other = announced(&sent(&mut rib, 1)).unwrap();
    assert_eq!(other.as_path.to_string(), "(65000 65100) 64700");
    assert_eq!(other.next_hop, NextHop::V4(addr(77)));
    assert_eq!((other.local_pref, other.med), (Some(200), Some(30)));
    let internal = announced(&sent(&mut rib, 2)).unwrap();
    assert_eq!(internal.as_path.to_string(), "(65100) 64700");
    assert_eq!(internal.rare, None, "nothing is reflected");
}

#[test]
fn outside_only_the_identifier_is_seen() {
    let mut rib = member();
    announce(
        &mut rib,
        0,
        &confederated(&[65_100], &[64_700], 77),
        &[ROUTE],
    );
    let outside = announced(&sent(&mut rib, 3)).unwrap();
    assert_eq!(outside.as_path.to_string(), "64512 64700");
    assert_eq!(outside.next_hop, NextHop::V4(addr(100)));
    assert_eq!((outside.local_pref, outside.med), (None, None));
}

#[test]
fn a_path_with_our_member_as_or_the_identifier_is_a_loop() {
    let looped = PathStatus::Ineligible(Ineligible::AsLoop);
    for (members, outside) in [
        (&[65_100, 65_000][..], &[64_700][..]),
        (&[65_100], &[64_700, 64_512]),
    ] {
        let mut rib = member();
        announce(&mut rib, 0, &confederated(members, outside, 77), &[ROUTE]);
        settle(&mut rib);
        assert_eq!(status(&rib, ROUTE, 0), looped);
    }
}

#[test]
fn segments_of_a_confederation_come_from_members_only_and_begin_with_theirs() {
    let refused = PathStatus::Ineligible(Ineligible::Confederation);
    let mut rib = member();
    announce(
        &mut rib,
        3,
        &confederated(&[65_100], &[64_999], 4),
        &[ROUTE],
    );
    announce(
        &mut rib,
        0,
        &confederated(&[65_200], &[64_700], 1),
        &[ROUTE],
    );
    announce(&mut rib, 1, &path(&[64_700], 2), &[ROUTE]);
    settle(&mut rib);
    for peer in [3, 0, 1] {
        assert_eq!(status(&rib, ROUTE, peer), refused, "peer {peer}");
    }
}

#[test]
fn member_segments_count_nothing_and_a_member_is_no_external_peer() {
    let mut rib = member();
    let far = confederated(&[65_100, 65_300, 65_400], &[64_700], 77);
    let far = Attributes {
        local_pref: None,
        med: None,
        ..far
    };
    announce(&mut rib, 0, &far, &[ROUTE]);
    let internal = path(&[64_700, 64_701], 78);
    announce(&mut rib, 2, &internal, &[ROUTE]);
    settle(&mut rib);
    assert_eq!(
        status(&rib, ROUTE, 2),
        lost(DecisionStep::AsPathLength, 0),
        "three members are shorter than one AS"
    );
    announce(&mut rib, 3, &path(&[64_999], 4), &[ROUTE]);
    settle(&mut rib);
    assert_eq!(status(&rib, ROUTE, 0), lost(DecisionStep::External, 3));
}

#[test]
fn no_export_stays_in_the_confederation_and_no_export_subconfed_in_the_member_as() {
    for (community, to_member) in [
        (Community::NO_EXPORT, true),
        (Community::NO_EXPORT_SUBCONFED, false),
    ] {
        let mut rib = member();
        let held = Attributes {
            communities: [community].into(),
            ..confederated(&[65_100], &[64_700], 77)
        };
        announce(&mut rib, 0, &held, &[ROUTE]);
        let sees = |rib: &mut Rib, peer| announced(&sent(rib, peer)).is_some();
        assert_eq!(sees(&mut rib, 1), to_member, "{community}");
        assert!(sees(&mut rib, 2) && !sees(&mut rib, 3), "{community}");
    }
}

#[test]
fn next_hop_self_holds_between_members_where_it_is_asked_for() {
    let mut rib = member();
    let settings = FamilySession {
        next_hop: NextHopMode::SelfAddress,
        ..accept()
    };
    let mut session = session(PeerKind::Confederation, 0, 2, &settings);
    session.remote_asn = Asn(65_200);
    rib.set_session(PeerId(1), session);
    announce(
        &mut rib,
        0,
        &confederated(&[65_100], &[64_700], 77),
        &[ROUTE],
    );
    let other = announced(&sent(&mut rib, 1)).unwrap();
    assert_eq!(other.next_hop, NextHop::V4(addr(100)));
}
