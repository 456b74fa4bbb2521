//! RFC 6793: 4-octet AS numbers through 2-octet speakers.

use super::*;

const BIG: u32 = 4_200_000_001;

fn path2(asns: &[u16]) -> Vec<u8> {
    let count = u8::try_from(asns.len()).unwrap();
    let mut raw = vec![0x40, 2, 2 + 2 * count, 2, count];
    asns.iter()
        .for_each(|asn| raw.extend_from_slice(&asn.to_be_bytes()));
    raw
}

fn as4_path(segments: &[(u8, &[u32])]) -> Vec<u8> {
    let mut value = Vec::new();
    for (kind, asns) in segments {
        value.extend_from_slice(&[*kind, u8::try_from(asns.len()).unwrap()]);
        asns.iter()
            .for_each(|asn| value.extend_from_slice(&asn.to_be_bytes()));
    }
    let head = [0xc0, 17, u8::try_from(value.len()).unwrap()];
    [&head, &value[..]].concat()
}

fn decode2(attributes: &[&[u8]]) -> (Attributes, Vec<Reaction>) {
    let mut decoder = decoder_for(SessionKind::External, false);
    let all = [&[ORIGIN, NEXT_HOP], attributes].concat();
    let (update, reactions) = decode_update(&mut decoder, update_message(&[], &all, NLRI)).unwrap();
    (update.reach4.expect("used").attributes, reactions)
}

#[test]
fn a_2_octet_path_is_widened() {
    let (attributes, _) = decode2(&[&path2(&[65002, 7])]);
    assert_eq!(attributes.as_path, AsPath::sequence([65002, 7]));
}

#[test]
fn the_paths_are_merged_to_the_length_of_the_2_octet_one() {
    let (attributes, reactions) =
        decode2(&[&path2(&[65002, 23456, 7]), &as4_path(&[(2, &[BIG, 7])])]);
    assert_eq!(attributes.as_path, AsPath::sequence([65002, BIG, 7]));
    assert!(reactions.is_empty());
}

#[test]
fn a_longer_as4_path_is_out_of_date_and_ignored() {
    let (attributes, _) = decode2(&[&path2(&[23456]), &as4_path(&[(2, &[BIG, 7])])]);
    assert_eq!(attributes.as_path, AsPath::sequence([23456]));
}

#[test]
fn a_set_counts_as_one_when_paths_are_merged() {
    // 65002 {1 2} against {BIG 2}: one hop more.
    let mixed = [0x40, 2, 10, 2, 1, 0xfd, 0xea, 1, 2, 0x5b, 0xa0, 0, 2];
    let (attributes, _) = decode2(&[&mixed, &as4_path(&[(1, &[BIG, 2])])]);
    assert_eq!(attributes.as_path.to_string(), format!("65002 {{{BIG} 2}}"));
}

#[test]
fn an_aggregator_other_than_as_trans_makes_both_as4_attributes_void() {
    let aggregator = [0xc0, 7, 6, 0, 9, 10, 0, 0, 1];
    let as4_aggregator = [0xc0, 18, 8, 0, 1, 0, 1, 10, 0, 0, 2];
    let path = path2(&[65002, 23456]);
    let as4_path = as4_path(&[(2, &[BIG])]);
    let (attributes, _) = decode2(&[&path, &aggregator, &as4_path, &as4_aggregator]);
    assert_eq!(attributes.as_path, AsPath::sequence([65002, 23456]));
    let aggregator = attributes.rare.unwrap().aggregator.unwrap();
    assert_eq!(aggregator.asn, Asn(9));
}

#[test]
fn an_aggregator_of_as_trans_is_replaced_by_the_4_octet_one() {
    let aggregator = [0xc0, 7, 6, 0x5b, 0xa0, 10, 0, 0, 1];
    let as4_aggregator = [0xc0, 18, 8, 0, 1, 0, 1, 10, 0, 0, 2];
    let path = path2(&[65002, 23456]);
    let as4_path = as4_path(&[(2, &[BIG])]);
    let (attributes, _) = decode2(&[&path, &aggregator, &as4_path, &as4_aggregator]);
    assert_eq!(attributes.as_path, AsPath::sequence([65002, BIG]));
    assert_eq!(
        attributes.rare.unwrap().aggregator,
        Some(Aggregator {
            asn: Asn(0x1_0001),
            router_id: RouterId(0x0a00_0002)
        })
    );
}

#[test]
fn a_4_octet_speaker_must_not_send_them_and_they_are_discarded() {
    let as4_path = as4_path(&[(2, &[BIG])]);
    let as4_aggregator = [0xc0, 18, 8, 0, 1, 0, 1, 10, 0, 0, 2];
    let (update, reactions) = decode_external(
        &[ORIGIN, AS_PATH, NEXT_HOP, &as4_path, &as4_aggregator],
        NLRI,
    )
    .unwrap();
    let attributes = update.reach4.unwrap().attributes;
    assert_eq!(attributes.as_path, AsPath::sequence([65002]));
    assert_eq!(attributes.rare, None);
    assert!(
        reactions
            .iter()
            .all(|reaction| reaction.fault == Fault::NotFromFourOctetSpeaker)
    );
    assert_eq!(reactions.len(), 2);
}

#[test]
fn malformed_as4_attributes_are_discarded() {
    for wrong in [
        &[0xc0, 17, 2, 2, 1][..],
        &[0xc0, 17, 7, 2, 1, 0, 0, 0, 1, 2],
        &[0xc0, 17, 6, 9, 1, 0, 0, 0, 1],
        // AS 0 (RFC 7607 2).
        &[0xc0, 17, 6, 2, 1, 0, 0, 0, 0],
        &[0xc0, 18, 6, 0, 1, 10, 0, 0, 2],
        &[0xc0, 18, 8, 0, 0, 0, 0, 10, 0, 0, 2],
    ] {
        let (attributes, reactions) = decode2(&[&path2(&[23456]), wrong]);
        assert_eq!(attributes.as_path, AsPath::sequence([23456]), "{wrong:?}");
        assert_eq!(reactions.len(), 1);
        assert_eq!(reactions[0].approach, Approach::AttributeDiscard);
    }
}

#[test]
fn confederation_segments_are_cut_out_of_as4_path() {
    let (attributes, _) = decode2(&[
        &path2(&[65002, 23456]),
        &as4_path(&[(3, &[65010]), (2, &[BIG])]),
    ]);
    assert_eq!(attributes.as_path, AsPath::sequence([65002, BIG]));
}

#[test]
fn what_goes_to_a_2_octet_speaker_comes_back_whole() {
    let attributes = Attributes {
        origin: Origin::Igp,
        atomic_aggregate: false,
        as_path: AsPath::sequence([65002, BIG, 7]),
        next_hop: NextHop::V4("192.0.2.1".parse().unwrap()),
        med: None,
        local_pref: None,
        communities: [].into(),
        rare: Some(Box::new(RareAttributes {
            aggregator: Some(Aggregator {
                asn: Asn(BIG),
                router_id: RouterId(1),
            }),
            ..RareAttributes::default()
        })),
    };
    let mut writer = UpdateWriter::new(EncodeOptions {
        as4: false,
        ..EncodeOptions::default()
    });
    let mut bytes = BytesMut::new();
    writer
        .announce(&attributes, [prefix4("10.1.0.0/16")], &mut bytes)
        .unwrap();
    let raw = bytes.to_vec();
    // AS_PATH 65002 AS_TRANS 7, AGGREGATOR AS_TRANS.
    let contains = |part: &[u8]| raw.windows(part.len()).any(|window| window == part);
    assert!(contains(&[0x40, 2, 8, 2, 3, 0xfd, 0xea, 0x5b, 0xa0, 0, 7]));
    assert!(contains(&[0xc0, 7, 6, 0x5b, 0xa0, 0, 0, 0, 1]));
    let mut decoder = decoder_for(SessionKind::External, false);
    let (update, reactions) = decode_update(&mut decoder, bytes).unwrap();
    assert_eq!(update.reach4.unwrap().attributes, attributes);
    assert!(reactions.is_empty());
}

#[test]
fn a_path_of_2_octet_numbers_needs_no_as4_path() {
    let mut writer = UpdateWriter::new(EncodeOptions {
        as4: false,
        ..EncodeOptions::default()
    });
    let attributes = decode_external(&[ORIGIN, AS_PATH, NEXT_HOP], NLRI).unwrap();
    let attributes = attributes.0.reach4.unwrap().attributes;
    let mut bytes = BytesMut::new();
    writer
        .announce(&attributes, [prefix4("10.1.0.0/16")], &mut bytes)
        .unwrap();
    let wanted = update_message(&[], &[ORIGIN, &path2(&[65002]), NEXT_HOP], NLRI);
    assert_eq!(bytes, wanted);
}
