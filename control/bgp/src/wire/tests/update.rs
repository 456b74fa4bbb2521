//! UPDATE as it should be: RFC 4271 4.3, RFC 4760, RFC 4724.

use super::*;

fn rare(update: Update) -> RareAttributes {
    *update.reach4.unwrap().attributes.rare.unwrap()
}

#[test]
fn a_plain_announcement_is_read_whole() {
    let (update, reactions) = decode_external(
        &[
            ORIGIN,
            AS_PATH,
            NEXT_HOP,
            &[0x80, 4, 4, 0, 0, 0, 7],
            &[0x40, 6, 0],
            &[0xc0, 8, 8, 0, 2, 0, 1, 0, 1, 0, 1],
        ],
        &[16, 10, 1, 0, 32, 10, 2, 3, 4, 25, 192, 0, 2, 0x80],
    )
    .unwrap();
    assert!(reactions.is_empty());
    let reach = update.reach4.unwrap();
    assert_eq!(
        reach.prefixes,
        ["10.1.0.0/16", "0.0.0.0/0", "10.2.3.4/32", "192.0.2.128/25"].map(prefix4)
    );
    assert_eq!(
        reach.attributes,
        Attributes {
            origin: Origin::Igp,
            atomic_aggregate: true,
            as_path: AsPath::sequence([65002]),
            next_hop: NextHop::V4("192.0.2.1".parse().unwrap()),
            med: Some(7),
            local_pref: None,
            // Sorted.
            communities: [Community(0x1_0001), Community(0x2_0001)].into(),
            rare: None,
        }
    );
}

#[test]
fn withdrawals_are_read_from_both_places() {
    let mut decoder = decoder_for(SessionKind::External, true);
    let unreach = [0x80, 15, 8, 0, 2, 1, 32, 0x20, 1, 0xd, 0xb8];
    let bytes = update_message(NLRI, &[&unreach], &[]);
    let (update, _) = decode_update(&mut decoder, bytes).unwrap();
    assert_eq!(update.withdrawn4, [prefix4("10.1.0.0/16")]);
    assert_eq!(update.withdrawn6, [prefix6("2001:db8::/32")]);
    assert_eq!(update.end_of_rib, None);

    let unreach4 = [0x80, 15, 6, 0, 1, 1, 16, 10, 1];
    let (update, _) = decode_external(&[&unreach4], &[]).unwrap();
    assert_eq!(update.withdrawn4, [prefix4("10.1.0.0/16")]);
}

#[test]
fn ipv6_prefixes_come_with_their_own_next_hop() {
    let (update, _) = decode_external(&[MP_REACH6, ORIGIN, AS_PATH], &[]).unwrap();
    let reach = update.reach6.unwrap();
    assert_eq!(reach.prefixes, [prefix6("2001:db8::/32")]);
    assert_eq!(
        reach.attributes.next_hop,
        NextHop::V6("2001:db8::1".parse().unwrap())
    );
}

#[test]
fn mp_reach_is_found_wherever_it_stands() {
    for attributes in [
        [MP_REACH6, ORIGIN, AS_PATH],
        [ORIGIN, MP_REACH6, AS_PATH],
        [ORIGIN, AS_PATH, MP_REACH6],
    ] {
        let (update, _) = decode_external(&attributes, &[]).unwrap();
        assert!(update.reach6.is_some());
    }
}

#[test]
fn one_message_may_announce_both_families() {
    let (update, _) = decode_external(&[ORIGIN, AS_PATH, NEXT_HOP, MP_REACH6], NLRI).unwrap();
    let (reach4, reach6) = (update.reach4.unwrap(), update.reach6.unwrap());
    assert!(matches!(reach4.attributes.next_hop, NextHop::V4(_)));
    assert!(matches!(reach6.attributes.next_hop, NextHop::V6(_)));
    assert_eq!(reach4.attributes.as_path, reach6.attributes.as_path);
}

#[test]
fn ipv4_prefixes_in_mp_reach_keep_their_own_next_hop() {
    let reach4 = |last: u8| [0x80, 14, 12, 0, 1, 1, 4, 192, 0, 2, last, 0, 16, 10, 2];
    let mut decoder = decoder_for(SessionKind::External, true);
    let bytes = update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &reach4(1)], NLRI);
    let (update, _) = decode_update(&mut decoder, bytes).unwrap();
    assert_eq!(update.reach4.unwrap().prefixes.len(), 2);

    let mut bytes = update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &reach4(2)], NLRI);
    for (next_hop, prefix) in [("192.0.2.1", "10.1.0.0/16"), ("192.0.2.2", "10.2.0.0/16")] {
        let Message::Update(update) = decoder.decode(&mut bytes).unwrap().unwrap().message else {
            panic!("not an UPDATE");
        };
        let reach = update.reach4.unwrap();
        assert_eq!(
            reach.attributes.next_hop,
            NextHop::V4(next_hop.parse().unwrap())
        );
        assert_eq!(reach.prefixes, [prefix4(prefix)]);
    }
    assert_eq!(decoder.decode(&mut bytes), Ok(None));
}

#[test]
fn next_hop_without_classic_prefixes_is_ignored_however_wrong() {
    let wrong = [0x40, 3, 3, 0, 0, 0];
    let (update, reactions) = decode_external(&[MP_REACH6, ORIGIN, AS_PATH, &wrong], &[]).unwrap();
    assert!(update.reach6.is_some() && reactions.is_empty());
}

#[test]
fn a_link_local_next_hop_is_kept_beside_the_global_one_or_alone() {
    let global = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let (global_addr, link_local_addr) = (global.into(), link_local.into());
    for (first, second, wanted) in [
        (
            global,
            Some(link_local),
            NextHop::V6LinkLocal {
                global: global_addr,
                link_local: link_local_addr,
            },
        ),
        (global, Some(global), NextHop::V6(global_addr)),
        ([0; 16], Some(link_local), NextHop::V6(link_local_addr)),
        (link_local, Some(link_local), NextHop::V6(link_local_addr)),
        (link_local, None, NextHop::V6(link_local_addr)),
    ] {
        let next_hop = [&first[..], second.as_ref().map_or(&[], |s| &s[..])].concat();
        let length = u8::try_from(next_hop.len()).unwrap();
        let value = [&[0, 2, 1, length][..], &next_hop, &[0, 8, 0x20]].concat();
        let head = [0x80, 14, u8::try_from(value.len()).unwrap()];
        let (update, _) = decode_external(&[&head, &value, ORIGIN, AS_PATH], &[]).unwrap();
        assert_eq!(update.reach6.unwrap().attributes.next_hop, wanted);
    }
}

#[test]
fn end_of_rib_is_an_empty_message_or_an_empty_mp_unreach_alone() {
    let end_of = |attributes: &[&[u8]]| decode_external(attributes, &[]).unwrap().0.end_of_rib;
    assert_eq!(end_of(&[]), Some(Family::Ipv4Unicast));
    assert_eq!(
        end_of(&[&[0x80, 15, 3, 0, 2, 1]]),
        Some(Family::Ipv6Unicast)
    );
    assert_eq!(
        end_of(&[&[0x80, 15, 3, 0, 1, 1]]),
        Some(Family::Ipv4Unicast)
    );
    // With prefixes, with another attribute, of a family that was not negotiated.
    assert_eq!(end_of(&[&[0x80, 15, 4, 0, 2, 1, 0]]), None);
    assert_eq!(end_of(&[&[0x80, 15, 3, 0, 2, 1], ORIGIN]), None);
    assert_eq!(end_of(&[&[0x80, 15, 3, 0, 1, 2]]), None);
}

#[test]
fn end_of_rib_as_we_write_it_is_read_as_such() {
    for family in Family::ALL {
        let mut bytes = BytesMut::new();
        encode_end_of_rib(family, &mut bytes);
        let mut decoder = decoder_for(SessionKind::External, true);
        let (update, _) = decode_update(&mut decoder, bytes).unwrap();
        assert_eq!(update.end_of_rib, Some(family));
    }
}

#[test]
fn a_family_that_was_not_negotiated_is_left_out() {
    let mut remote = open_of(65002, true);
    remote
        .capabilities
        .retain(|capability| *capability != Capability::multiprotocol(Family::Ipv6Unicast));
    let local = open_of(LOCAL_AS, true);
    let mut decoder = decoder_with(&local, &remote, DecoderConfig::default());
    let bytes = update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP, MP_REACH6], NLRI);
    let (update, reactions) = decode_update(&mut decoder, bytes).unwrap();
    assert!(update.reach4.is_some() && update.reach6.is_none());
    assert_eq!(
        reactions,
        [Reaction {
            attribute: attribute::MP_REACH_NLRI,
            fault: Fault::Family,
            approach: Approach::AttributeDiscard
        }]
    );

    remote.capabilities = vec![Capability::multiprotocol(Family::Ipv6Unicast)];
    let mut decoder = decoder_with(&local, &remote, DecoderConfig::default());
    let path = &[0x40, 2, 4, 2, 1, 0xfd, 0xea];
    let bytes = update_message(NLRI, &[ORIGIN, path, NEXT_HOP, MP_REACH6], NLRI);
    let (update, reactions) = decode_update(&mut decoder, bytes).unwrap();
    assert!(update.reach4.is_none() && update.withdrawn4.is_empty());
    assert!(update.reach6.is_some());
    assert_eq!(reactions[0].fault, Fault::Family);
}

#[test]
fn rare_attributes_are_read() {
    let (update, _) = decode_as(
        SessionKind::Internal,
        &[
            ORIGIN,
            AS_PATH,
            NEXT_HOP,
            LOCAL_PREF,
            &[0xc0, 7, 8, 0, 0, 0xfd, 0xea, 10, 0, 0, 9],
            &[0x80, 9, 4, 10, 0, 0, 5],
            &[0x80, 10, 8, 0, 0, 0, 2, 0, 0, 0, 1],
            &[0xc0, 16, 8, 0, 2, 0, 1, 0, 0, 0, 1],
            &[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
        ],
        NLRI,
    )
    .unwrap();
    let rare = rare(update);
    assert_eq!(
        rare,
        RareAttributes {
            aggregator: Some(Aggregator {
                asn: Asn(65002),
                router_id: RouterId(0x0a00_0009)
            }),
            originator_id: Some(RouterId(0x0a00_0005)),
            // In the order received: it is a path.
            cluster_list: [ClusterId(2), ClusterId(1)].into(),
            extended_communities: [ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 1])].into(),
            large_communities: [LargeCommunity {
                global: 1,
                local1: 2,
                local2: 3
            }]
            .into(),
            unknown: [].into(),
        }
    );
}

#[test]
fn unknown_transitive_attributes_are_kept_as_partial_and_others_are_dropped() {
    let (update, reactions) = decode_external(
        &[
            ORIGIN,
            AS_PATH,
            NEXT_HOP,
            &[0xd0, 99, 0, 1, 7],
            &[0xc0, 35, 1, 8],
            &[0x80, 26, 1, 9],
        ],
        NLRI,
    )
    .unwrap();
    let flags = flags::OPTIONAL | flags::TRANSITIVE | flags::PARTIAL;
    let unknown = |code, value: u8| UnknownAttribute {
        flags,
        code,
        value: [value].into(),
    };
    assert_eq!(*rare(update).unknown, [unknown(35, 8), unknown(99, 7)]);
    assert!(reactions.is_empty());
}

#[test]
fn an_unknown_well_known_attribute_ends_the_session_and_is_returned() {
    let wrong = [0x40, 99, 1, 7];
    let error = decode_external(&[ORIGIN, &wrong], NLRI).unwrap_err();
    let notification = error.notification;
    assert_eq!((notification.code, notification.subcode), (3, 2));
    assert_eq!(*notification.data, wrong);
}

#[test]
fn confederation_segments_are_taken_from_inside_only() {
    let confederation = [0x40, 2, 6, 3, 1, 0, 0, 0xfd, 0xea];
    let from = |kind| {
        let attributes = [ORIGIN, &confederation, NEXT_HOP, LOCAL_PREF];
        decode_as(kind, &attributes, NLRI).unwrap().0
    };
    for kind in [SessionKind::Internal, SessionKind::Confederation] {
        let reach = from(kind).reach4.unwrap();
        assert_eq!(reach.attributes.as_path.to_string(), "(65002)");
        assert_eq!(reach.attributes.local_pref, Some(100));
    }
    assert_eq!(from(SessionKind::External).withdrawn4.len(), 1);
    // A member of the confederation puts itself in front (RFC 5065 5).
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP];
    let (update, _) = decode_as(SessionKind::Confederation, &attributes, NLRI).unwrap();
    assert_eq!(update.withdrawn4.len(), 1);
}

#[test]
fn the_first_as_is_enforced_if_asked_for() {
    let config = DecoderConfig {
        enforce_first_as: true,
        ..DecoderConfig::default()
    };
    let (local, remote) = (open_of(LOCAL_AS, true), open_of(65002, true));
    let mut decoder = decoder_with(&local, &remote, config);
    let mut announced = |path: &[u8]| {
        let bytes = update_message(&[], &[ORIGIN, path, NEXT_HOP], NLRI);
        decode_update(&mut decoder, bytes)
            .unwrap()
            .0
            .reach4
            .is_some()
    };
    assert!(announced(AS_PATH));
    assert!(!announced(&[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xeb]));
    assert!(!announced(&[0x40, 2, 6, 1, 1, 0, 0, 0xfd, 0xea]));
    assert!(!announced(&[0x40, 2, 0]));
}
