//! UPDATE, encoding: exact bytes, packing, limits.

use super::*;

fn attributes() -> Attributes {
    Attributes {
        origin: Origin::Igp,
        atomic_aggregate: false,
        as_path: AsPath::sequence([65002]),
        next_hop: NextHop::V4("192.0.2.1".parse().unwrap()),
        med: None,
        local_pref: None,
        communities: [].into(),
        rare: None,
    }
}

fn prefixes(count: u32) -> impl Iterator<Item = Prefix4> {
    (0..count).map(|i| Prefix4::new((0x0a00_0000 + (i << 8)).into(), 24).unwrap())
}

fn writer() -> UpdateWriter {
    UpdateWriter::new(EncodeOptions::default())
}

/// The lengths of the messages in a buffer.
fn lengths(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        lengths.push(length);
        bytes = &bytes[length..];
    }
    lengths
}

#[test]
fn a_classic_announcement_is_written_as_it_was_read() {
    let mut bytes = BytesMut::new();
    let messages = writer()
        .announce(&attributes(), [prefix4("10.1.0.0/16")], &mut bytes)
        .unwrap();
    assert_eq!(messages, 1);
    assert_eq!(
        bytes,
        update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], NLRI)
    );
}

#[test]
fn mp_reach_stands_first_and_has_a_short_length_where_that_is_enough() {
    let attributes = Attributes {
        next_hop: NextHop::V6("2001:db8::1".parse().unwrap()),
        ..attributes()
    };
    let mut bytes = BytesMut::new();
    writer()
        .announce(&attributes, [prefix6("2001:db8::/32")], &mut bytes)
        .unwrap();
    assert_eq!(
        bytes,
        update_message(&[], &[MP_REACH6, ORIGIN, AS_PATH], &[])
    );
}

#[test]
fn lengths_are_extended_only_beyond_255() {
    for (count, flags) in [(63, 0xc0), (64, 0xd0)] {
        let attributes = Attributes {
            communities: (0..count).map(Community).collect(),
            ..attributes()
        };
        let mut bytes = BytesMut::new();
        writer()
            .announce(&attributes, [prefix4("10.1.0.0/16")], &mut bytes)
            .unwrap();
        let at = HEADER_BYTES + 4 + ORIGIN.len() + AS_PATH.len() + NEXT_HOP.len();
        assert_eq!(bytes[at..at + 2], [flags, attribute::COMMUNITIES]);
        let mut decoder = decoder_for(SessionKind::External, true);
        let (update, _) = decode_update(&mut decoder, bytes).unwrap();
        assert_eq!(update.reach4.unwrap().attributes, attributes);
    }
}

#[test]
fn attributes_are_written_in_ascending_order_unknown_ones_among_them() {
    let unknown = |code| UnknownAttribute {
        flags: 0xe0,
        code,
        value: [1].into(),
    };
    let attributes = Attributes {
        origin: Origin::Incomplete,
        atomic_aggregate: true,
        med: Some(1),
        local_pref: Some(2),
        communities: [Community(1)].into(),
        rare: Some(Box::new(RareAttributes {
            aggregator: Some(Aggregator {
                asn: Asn(1),
                router_id: RouterId(2),
            }),
            originator_id: Some(RouterId(3)),
            cluster_list: [ClusterId(4)].into(),
            extended_communities: [ExtendedCommunity([5; 8])].into(),
            large_communities: [LargeCommunity {
                global: 6,
                local1: 7,
                local2: 8,
            }]
            .into(),
            unknown: [unknown(11), unknown(20), unknown(128), unknown(255)].into(),
        })),
        ..attributes()
    };
    let mut bytes = BytesMut::new();
    writer()
        .announce(&attributes, [prefix4("10.1.0.0/16")], &mut bytes)
        .unwrap();
    let mut codes = Vec::new();
    let mut rest = &bytes[HEADER_BYTES + 4..bytes.len() - NLRI.len()];
    while let [_, code, length, tail @ ..] = rest {
        codes.push(*code);
        rest = &tail[usize::from(*length)..];
    }
    assert_eq!(
        codes,
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 20, 32, 128, 255]
    );
    let mut decoder = decoder_for(SessionKind::Internal, true);
    let (update, _) = decode_update(&mut decoder, bytes).unwrap();
    assert_eq!(update.reach4.unwrap().attributes, attributes);
}

#[test]
fn as_few_messages_as_possible_carry_the_prefixes() {
    for limit in [MAX_MESSAGE_BYTES, MAX_EXTENDED_MESSAGE_BYTES] {
        let mut writer = UpdateWriter::new(EncodeOptions {
            as4: true,
            max_message_bytes: limit,
        });
        let fixed = HEADER_BYTES + 4 + ORIGIN.len() + AS_PATH.len() + NEXT_HOP.len();
        let per_message = (limit - fixed) / 4;
        let count = u32::try_from(per_message * 2 + 1).unwrap();
        let mut bytes = BytesMut::new();
        let messages = writer
            .announce(&attributes(), prefixes(count), &mut bytes)
            .unwrap();
        assert_eq!(messages, 3);
        let full = fixed + per_message * 4;
        assert_eq!(lengths(&bytes), [full, full, fixed + 4]);
    }
}

#[test]
fn withdrawals_are_packed_in_both_families() {
    let mut bytes = BytesMut::new();
    assert_eq!(writer().withdraw(prefixes(1018 + 1), &mut bytes), 2);
    assert_eq!(lengths(&bytes), [23 + 4 * 1018, 23 + 4]);

    let six: Vec<_> = (0..1000_u128)
        .map(|i| Prefix6::new((0x2001_0db8 << 96 | i << 64).into(), 64).unwrap())
        .collect();
    let mut bytes = BytesMut::new();
    let messages = writer().withdraw(six.iter().copied(), &mut bytes);
    assert_eq!(messages, 3);
    assert!(
        lengths(&bytes)
            .iter()
            .all(|length| *length <= MAX_MESSAGE_BYTES)
    );
    let mut decoder = decoder_for(SessionKind::External, true);
    let mut withdrawn = Vec::new();
    while let Some(decoded) = decoder.decode(&mut bytes).unwrap() {
        let Message::Update(update) = decoded.message else {
            panic!("not an UPDATE");
        };
        withdrawn.extend(update.withdrawn6);
    }
    assert_eq!(withdrawn, six);
}

#[test]
fn nothing_to_say_is_no_message() {
    let mut bytes = BytesMut::new();
    assert_eq!(writer().withdraw::<Prefix4>([], &mut bytes), 0);
    assert_eq!(
        writer().announce::<Prefix4>(&attributes(), [], &mut bytes),
        Ok(0)
    );
    assert!(bytes.is_empty());
}

#[test]
fn attributes_that_leave_no_room_for_a_prefix_are_reported_and_nothing_is_written() {
    let attributes = Attributes {
        communities: (0..1100).map(Community).collect(),
        ..attributes()
    };
    let mut bytes = BytesMut::new();
    let error = writer().announce(&attributes, prefixes(1), &mut bytes);
    assert!(matches!(
        error,
        Err(EncodeError::AttributesTooLarge { limit: 4096, .. })
    ));
    assert!(bytes.is_empty());
    // A value that no length field can hold is too large as well.
    let attributes = Attributes {
        communities: (0..20_000).map(Community).collect(),
        ..attributes
    };
    let mut extended = UpdateWriter::new(EncodeOptions {
        as4: true,
        max_message_bytes: MAX_EXTENDED_MESSAGE_BYTES,
    });
    assert!(
        extended
            .announce(&attributes, prefixes(1), &mut bytes)
            .is_err()
    );
}

#[test]
fn a_next_hop_of_the_other_family_is_reported() {
    let mut bytes = BytesMut::new();
    let error = writer().announce(&attributes(), [prefix6("2001:db8::/32")], &mut bytes);
    assert_eq!(error, Err(EncodeError::NextHopFamily));
    let attributes = Attributes {
        next_hop: NextHop::V6("2001:db8::1".parse().unwrap()),
        ..attributes()
    };
    let error = writer().announce(&attributes, prefixes(1), &mut bytes);
    assert_eq!(error, Err(EncodeError::NextHopFamily));
}

#[test]
fn keepalive_and_route_refresh_are_written_as_the_rfcs_draw_them() {
    let mut bytes = BytesMut::new();
    encode_keepalive(&mut bytes);
    assert_eq!(bytes, message(message_type::KEEPALIVE, &[]));
    let mut bytes = BytesMut::new();
    let refresh = RouteRefresh {
        family: Family::Ipv6Unicast,
        kind: RefreshKind::Begin,
    };
    encode_route_refresh(refresh, &mut bytes);
    assert_eq!(bytes, message(message_type::ROUTE_REFRESH, &[0, 2, 1, 1]));
}
