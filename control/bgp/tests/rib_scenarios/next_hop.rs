//! The next hop of what is sent: RFC 4271 5.1.3, RFC 2545 3.

use causeway_bgp::rib::NextHopMode;

use super::*;

const ROUTE: &str = "10.0.0.0/8";

/// Joins a peer under this mode, on link 7 with these subnets if there are any.
fn join(rib: &mut Rib, peer: u32, kind: PeerKind, mode: NextHopMode, subnets: &[&str]) {
    let settings = FamilySession {
        next_hop: mode,
        ..accept()
    };
    let host = u8::try_from(peer + 1).unwrap();
    let mut session = session(kind, 65_001 + peer, host, &settings);
    session.link = (!subnets.is_empty()).then_some(7);
    session.subnets = subnets.iter().map(|text| text.parse().unwrap()).collect();
    rib.peer_up(PeerId(peer), session).unwrap();
    sent(rib, peer);
}

fn export_status(rib: &Rib, peer: usize) -> ExportStatus {
    rib.explain(ROUTE.parse().unwrap()).exports[peer].1.clone()
}

fn advertised(rib: &Rib, peer: u32) -> usize {
    let page = rib.advertised(PeerId(peer), Family::Ipv4Unicast, Cursor::default(), 10);
    let count = rib.counts(PeerId(peer), Family::Ipv4Unicast).advertised;
    assert_eq!(page.items.len(), count);
    count
}

#[test]
fn a_route_is_not_sent_to_the_peer_that_its_next_hop_names() {
    let mut rib = rib(config(), &[CLIENT; 3]);
    let one = || (vec![ROUTE.to_owned()], vec![]);
    let none = || (vec![], vec![ROUTE.to_owned()]);
    // Named: peer 1, then nobody but the source, then peer 2, then peer 1.
    let rounds = [
        (2, [vec![], vec![one()]]),
        (1, [vec![one()], vec![one()]]),
        (3, [vec![one()], vec![none()]]),
        (2, [vec![none()], vec![one()]]),
    ];
    for (next_hop, expected) in rounds {
        announce(&mut rib, 0, &path(&[65_009], next_hop), &[ROUTE]);
        let found = [1, 2].map(|peer| updates(&sent(&mut rib, peer)));
        assert_eq!(found, expected, "next hop {next_hop}");
        for peer in [1, 2] {
            let is_named = usize::from(next_hop) == peer as usize + 1;
            assert_eq!(advertised(&rib, peer), usize::from(!is_named));
            let status = export_status(&rib, peer as usize);
            assert_eq!(status == ExportStatus::NextHopIsPeer, is_named);
        }
    }
    withdraw(&mut rib, 0, &[ROUTE]);
    assert_eq!(updates(&sent(&mut rib, 1)), []);
    assert_eq!(updates(&sent(&mut rib, 2)), [none()]);
}

#[test]
fn a_peer_that_joins_or_asks_again_is_not_sent_what_names_it() {
    let mut rib = rib(config(), &[CLIENT; 2]);
    announce(&mut rib, 0, &path(&[65_009], 3), &[ROUTE]);
    announce(&mut rib, 0, &path(&[65_009], 1), &["11.0.0.0/8"]);
    settle(&mut rib);
    let other = || (vec!["11.0.0.0/8".to_owned()], vec![]);
    rib.peer_up(PeerId(2), session(CLIENT, 0, 3, &accept()))
        .unwrap();
    assert_eq!(updates(&sent(&mut rib, 2)), [other()]);
    rib.refresh_out(PeerId(2), Family::Ipv4Unicast);
    assert_eq!(updates(&sent(&mut rib, 2)), [other()]);
    assert_eq!(export_status(&rib, 2), ExportStatus::NextHopIsPeer);
}

#[test]
fn an_external_peer_is_not_sent_its_own_address_unchanged_either() {
    let mut rib = rib(config(), &[PLAIN]);
    for peer in [1, 2] {
        join(
            &mut rib,
            peer,
            PeerKind::External,
            NextHopMode::Unchanged,
            &[],
        );
    }
    announce(&mut rib, 0, &path(&[65_009], 2), &[ROUTE]);
    assert_eq!(updates(&sent(&mut rib, 1)), []);
    let other = announced(&sent(&mut rib, 2)).unwrap();
    assert_eq!(other.next_hop, NextHop::V4(addr(2)));
}

#[test]
fn a_third_party_is_named_only_on_a_subnet_shared_with_a_directly_connected_external_peer() {
    const SUBNET: &[&str] = &["192.0.2.0/24"];
    let cases = [
        (NextHopMode::ThirdParty, SUBNET, 77, 77),
        // On another subnet.
        (NextHopMode::ThirdParty, &["198.51.100.0/24"], 77, 100),
        // More than one hop away.
        (NextHopMode::ThirdParty, &[], 77, 100),
        // Not asked for.
        (NextHopMode::Default, SUBNET, 77, 100),
    ];
    for (mode, subnets, next_hop, expected) in cases {
        let mut rib = rib(config(), &[PLAIN]);
        join(&mut rib, 1, PeerKind::External, mode, subnets);
        announce(&mut rib, 0, &path(&[65_009], next_hop), &[ROUTE]);
        let found = announced(&sent(&mut rib, 1)).unwrap().next_hop;
        assert_eq!(found, NextHop::V4(addr(expected)), "{mode:?} {subnets:?}");
    }
}

#[test]
fn a_link_local_next_hop_goes_along_only_on_the_link_it_was_told_on() {
    let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    let told = NextHop::V6LinkLocal { global, link_local };
    let prefix = Prefix6::from_prefix("2001:db8:f::/48".parse().unwrap()).unwrap();
    let subnets: &[&str] = &["192.0.2.0/24", "2001:db8::/64"];
    for (subnets, expected) in [(subnets, told), (&[], NextHop::V6(global))] {
        let mut rib = Rib::new(config());
        join(
            &mut rib,
            0,
            CLIENT,
            NextHopMode::Default,
            &["2001:db8::/64"],
        );
        join(&mut rib, 1, CLIENT, NextHopMode::Default, subnets);
        let reach6 = Some(Reach {
            attributes: Attributes {
                next_hop: told,
                ..path(&[65_009], 0)
            },
            prefixes: vec![prefix],
        });
        let update = Update {
            reach6,
            ..Update::default()
        };
        rib.handle_update(PeerId(0), update);
        let messages = sent(&mut rib, 1);
        let found = messages.iter().find_map(|message| match message {
            Message::Update(update) => Some(update.reach6.as_ref()?.attributes.next_hop),
            _ => None,
        });
        assert_eq!(found, Some(expected));
    }
}
