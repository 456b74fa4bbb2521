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

/// A RIB whose route has paths by way of three peers.
fn three_ways() -> Rib {
    let config = RibConfig {
        maximum_paths_ebgp: 8,
        multipath_relax: true,
        ..config()
    };
    let mut rib = rib(config, &[PeerKind::External; 3]);
    for (peer, host) in [(0, 1), (1, 2), (2, 3)] {
        announce(&mut rib, peer, &path(&[65_001 + peer], host), &[ROUTE]);
    }
    assert_eq!(moved_to(&mut rib), Some(vec![1, 2, 3]));
    rib
}

fn next_hop_changed(rib: &mut Rib, host: u8, metric: Option<u32>) {
    let key = NextHopKey {
        addr: addr(host).into(),
        link: None,
    };
    rib.next_hop_changed(key, metric);
}

/// The last byte of each next hop of the set that the route was moved to (none: it was removed); `None` if nothing is told.
fn moved_to(rib: &mut Rib) -> Option<Vec<u8>> {
    settle(rib);
    let delta = rib.poll_fib(10)?;
    let [(_, set)] = delta.routes[..] else {
        panic!("not one route: {delta:?}");
    };
    let Some(set) = set else {
        return Some(Vec::new());
    };
    let defined = delta.sets.iter().find(|(id, _)| *id == set);
    let members = defined.and_then(|(_, members)| members.clone()).unwrap();
    let host = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => addr.octets()[3],
        IpAddr::V6(addr) => addr.octets()[15],
    };
    Some(members.iter().map(|member| host(member.addr)).collect())
}

#[test]
fn the_loss_of_some_next_hops_and_their_return_move_no_route() {
    let mut rib = three_ways();
    for lost in [&[2][..], &[1, 3], &[2, 3]] {
        for host in lost {
            next_hop_changed(&mut rib, *host, None);
            assert_eq!(moved_to(&mut rib), None, "without {host} of {lost:?}");
            let unreachable = PathStatus::Ineligible(Ineligible::NextHopUnreachable);
            assert_eq!(status(&rib, ROUTE, u32::from(*host) - 1), unreachable);
        }
        for host in lost {
            next_hop_changed(&mut rib, *host, Some(0));
            assert_eq!(moved_to(&mut rib), None, "{host} of {lost:?} is back");
        }
    }
    for host in [1, 2, 3] {
        next_hop_changed(&mut rib, host, None);
    }
    assert_eq!(moved_to(&mut rib), Some(vec![]), "nothing is left");
    next_hop_changed(&mut rib, 2, Some(0));
    assert_eq!(moved_to(&mut rib), Some(vec![2]));
    next_hop_changed(&mut rib, 1, Some(0));
    assert_eq!(moved_to(&mut rib), Some(vec![1, 2]));
}

#[test]
fn an_unreachable_next_hop_is_not_waited_for_once_its_path_would_not_be_chosen() {
    let worse = path(&[65_002, 65_003], 2);
    not_waited_for_after("withdrawn", |rib| withdraw(rib, 1, &[ROUTE]));
    not_waited_for_after("its session is down", |rib| rib.peer_down(PeerId(1), &[]));
    not_waited_for_after("worse", |rib| announce(rib, 1, &worse, &[ROUTE]));
    not_waited_for_after("an own address", |rib| {
        rib.set_own_addresses(vec![addr(2).into()]);
    });
}

fn not_waited_for_after(case: &str, end: impl Fn(&mut Rib)) {
    let mut rib = three_ways();
    next_hop_changed(&mut rib, 2, None);
    assert_eq!(moved_to(&mut rib), None, "{case}");
    end(&mut rib);
    assert_eq!(moved_to(&mut rib), Some(vec![1, 3]), "{case}");
    next_hop_changed(&mut rib, 2, Some(0));
    assert_eq!(moved_to(&mut rib), None, "{case}: the link alone is back");
}

#[test]
fn paths_kept_for_a_restarting_peer_are_waited_for() {
    let mut rib = three_ways();
    rib.peer_down(PeerId(1), &[Family::Ipv4Unicast]);
    next_hop_changed(&mut rib, 2, None);
    assert_eq!(moved_to(&mut rib), None);
    rib.sweep_stale(PeerId(1), Family::Ipv4Unicast);
    assert_eq!(moved_to(&mut rib), Some(vec![1, 3]));
}

#[test]
fn a_next_hop_that_is_reached_at_another_cost_moves_its_routes() {
    let mut rib = three_ways();
    next_hop_changed(&mut rib, 2, None);
    assert_eq!(moved_to(&mut rib), None);
    next_hop_changed(&mut rib, 2, Some(5));
    assert_eq!(moved_to(&mut rib), Some(vec![1, 3]), "the others cost 0");
}
