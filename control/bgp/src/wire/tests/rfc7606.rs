//! RFC 7606, section by section: what a fault costs.

use super::*;

/// Decodes a message with valid mandatory attributes and another one.
fn with(kind: SessionKind, attribute: &[u8]) -> (Update, Vec<Reaction>) {
    decode_as(
        kind,
        &[ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF, attribute],
        NLRI,
    )
    .unwrap_or_else(|error| panic!("{attribute:?}: {error}"))
}

/// Decodes a message in which one of the mandatory attributes is replaced.
fn instead(attribute: &[u8]) -> (Update, Vec<Reaction>) {
    let list = [ORIGIN, AS_PATH, NEXT_HOP].map(|valid| {
        if valid[1] == attribute[1] {
            attribute
        } else {
            valid
        }
    });
    decode_external(&list, NLRI).unwrap_or_else(|error| panic!("{attribute:?}: {error}"))
}

fn assert_withdrawn((update, reactions): (Update, Vec<Reaction>), attribute: u8) {
    assert_eq!(update.withdrawn4, [prefix4("10.1.0.0/16")]);
    assert_eq!(update.reach4, None);
    assert_eq!(update.end_of_rib, None);
    assert!(
        reactions
            .iter()
            .any(|reaction| (reaction.attribute, reaction.approach)
                == (attribute, Approach::TreatAsWithdraw)),
        "{reactions:?}"
    );
}

fn assert_discarded((update, reactions): (Update, Vec<Reaction>), attribute: u8) -> Attributes {
    assert_eq!(
        reactions
            .iter()
            .filter(|reaction| reaction.attribute != attribute::LOCAL_PREF
                || attribute == attribute::LOCAL_PREF)
            .map(|reaction| (reaction.attribute, reaction.approach))
            .collect::<Vec<_>>(),
        [(attribute, Approach::AttributeDiscard)]
    );
    update.reach4.expect("the route is used").attributes
}

#[test]
fn section_3c_wrong_flags_of_any_attribute_treat_as_withdraw() {
    use SessionKind::Internal;
    assert_withdrawn(instead(&[0xc0, 1, 1, 0]), attribute::ORIGIN);
    assert_withdrawn(
        instead(&[0x80, 2, 6, 2, 1, 0, 0, 0xfd, 0xea]),
        attribute::AS_PATH,
    );
    assert_withdrawn(instead(&[0x00, 3, 4, 192, 0, 2, 1]), attribute::NEXT_HOP);
    for wrong in [
        &[0xc0, 4, 4, 0, 0, 0, 1][..],
        &[0xc0, 6, 0],
        &[0x40, 7, 8, 0, 0, 0, 1, 0, 0, 0, 1],
        &[0x80, 8, 4, 0, 0, 0, 1],
        &[0xc0, 9, 4, 0, 0, 0, 1],
        &[0xc0, 10, 4, 0, 0, 0, 1],
        &[0x80, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x80, 32, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_withdrawn(with(Internal, wrong), wrong[1]);
    }
    let local_pref = [0xc0, 5, 4, 0, 0, 0, 1];
    let result = decode_as(Internal, &[ORIGIN, AS_PATH, NEXT_HOP, &local_pref], NLRI);
    assert_withdrawn(result.unwrap(), attribute::LOCAL_PREF);
}

#[test]
fn section_3c_partial_unused_and_extended_length_bits_are_no_fault() {
    let attributes: [&[u8]; 3] = [
        &[0x7f, 1, 0, 1, 0],
        &[0x5f, 2, 0, 6, 2, 1, 0, 0, 0xfd, 0xea],
        &[0x4f, 3, 4, 192, 0, 2, 1],
    ];
    let (update, reactions) = decode_external(&attributes, NLRI).unwrap();
    assert!(update.reach4.is_some() && reactions.is_empty());
}

#[test]
fn section_3d_a_missing_mandatory_attribute_treats_as_withdraw() {
    for missing in [ORIGIN, AS_PATH, NEXT_HOP] {
        let rest: Vec<_> = [ORIGIN, AS_PATH, NEXT_HOP]
            .into_iter()
            .filter(|attribute| *attribute != missing)
            .collect();
        assert_withdrawn(decode_external(&rest, NLRI).unwrap(), missing[1]);
    }
    let internal = decode_as(SessionKind::Internal, &[ORIGIN, AS_PATH, NEXT_HOP], NLRI);
    assert_withdrawn(internal.unwrap(), attribute::LOCAL_PREF);
    // NEXT_HOP is mandatory only beside classic prefixes, and so are the others beside those of MP_REACH_NLRI.
    let (update, reactions) = decode_external(&[MP_REACH6, ORIGIN], &[]).unwrap();
    assert_eq!(update.withdrawn6, [prefix6("2001:db8::/32")]);
    assert_eq!(reactions.len(), 1);
    assert_eq!(reactions[0].attribute, attribute::AS_PATH);
}

#[test]
fn section_3g_only_the_first_of_several_counts() {
    let attributes = [ORIGIN, &[0x40, 1, 1, 9], AS_PATH, NEXT_HOP];
    let (update, reactions) = decode_external(&attributes, NLRI).unwrap();
    assert_eq!(update.reach4.unwrap().attributes.origin, Origin::Igp);
    assert_eq!(reactions[0].fault, Fault::Duplicate);
    assert_eq!(reactions[0].approach, Approach::AttributeDiscard);
    let unknown = [0xc0, 99, 1, 1];
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, &unknown, &unknown];
    let (update, _) = decode_external(&attributes, NLRI).unwrap();
    let rare = update.reach4.unwrap().attributes.rare.unwrap();
    assert_eq!(rare.unknown.len(), 1);
}

#[test]
fn section_3g_a_second_mp_attribute_ends_the_session() {
    assert_eq!(
        codes(decode_external(
            &[MP_REACH6, ORIGIN, AS_PATH, MP_REACH6],
            &[]
        )),
        (3, 1)
    );
    let unreach = [0x80, 15, 3, 0, 2, 1];
    assert_eq!(codes(decode_external(&[&unreach, &unreach], &[])), (3, 1));
}

#[test]
fn section_3h_the_strongest_reaction_wins() {
    let wrong_length = [0x40, 6, 1, 0];
    let attributes = [&wrong_length[..], &[0x40, 1, 1, 9], AS_PATH, NEXT_HOP];
    let result = decode_external(&attributes, NLRI).unwrap();
    assert_eq!(result.1.len(), 2);
    assert_withdrawn(result, attribute::ORIGIN);
}

#[test]
fn section_3_fields_that_do_not_fit_the_message_end_the_session() {
    let mut decoder = decoder_for(SessionKind::External, true);
    for body in [[0, 1, 0, 0], [0, 0, 0, 1], [0xff, 0xff, 0, 0]] {
        let result = decode_update(&mut decoder, message(message_type::UPDATE, &body));
        assert_eq!(codes(result), (3, 1), "{body:?}");
    }
}

#[test]
fn section_4_an_attribute_beyond_the_list_treats_as_withdraw() {
    for overrun in [
        &[0xc0, 8, 5, 0, 0, 0, 1][..],
        &[0x40],
        &[0x40, 6],
        &[0x50, 6, 0],
    ] {
        let result = decode_external(&[ORIGIN, AS_PATH, NEXT_HOP, overrun], NLRI).unwrap();
        let type_code = overrun.get(1).copied().unwrap_or_default();
        assert_withdrawn(result, type_code);
    }
}

#[test]
fn section_5_2_a_fault_in_a_message_that_announces_nothing_ends_the_session() {
    // Where the prefixes are can't be trusted.
    assert_eq!(codes(decode_external(&[&[0x40, 1, 1, 9]], &[])), (3, 6));
    assert_eq!(codes(decode_external(&[&[0x40, 1, 2, 0, 0]], &[])), (3, 5));
    assert_eq!(codes(decode_external(&[&[0x80, 1, 1, 0]], &[])), (3, 4));
    assert_eq!(codes(decode_external(&[&[0x40, 2, 1, 2]], &[])), (3, 11));
    assert_eq!(codes(decode_external(&[&[0x40, 1, 4, 0]], &[])), (3, 1));
    let mut decoder = decoder_for(SessionKind::External, true);
    let bytes = update_message(NLRI, &[&[0x40, 1, 1, 9]], &[]);
    assert_eq!(codes(decode_update(&mut decoder, bytes)), (3, 6));
    // Attribute discard does not.
    let (update, reactions) = decode_external(&[&[0x40, 6, 1, 0]], &[]).unwrap();
    assert_eq!((update, reactions.len()), (Update::default(), 1));
    // Nor do attributes without a fault.
    assert_eq!(
        decode_external(&[ORIGIN], &[]).unwrap().0,
        Update::default()
    );
}

#[test]
fn section_5_3_malformed_prefixes_end_the_session() {
    for wrong in [
        &[33, 10, 0, 0, 0, 0][..],
        &[24, 10, 0],
        &[8],
        &[16, 10, 1, 1],
    ] {
        assert_eq!(
            codes(decode_external(&[ORIGIN, AS_PATH, NEXT_HOP], wrong)),
            (3, 10)
        );
        let mut decoder = decoder_for(SessionKind::External, true);
        let bytes = update_message(wrong, &[], &[]);
        assert_eq!(codes(decode_update(&mut decoder, bytes)), (3, 10));
    }
    for wrong in [&[129, 0x20][..], &[64, 0x20, 1], &[8]] {
        let value = [&[0, 2, 1][..], wrong].concat();
        let head = [0x80, 15, u8::try_from(value.len()).unwrap()];
        assert_eq!(codes(decode_external(&[&head, &value], &[])), (3, 9));
        let value = [&MP_REACH6[3..24], wrong].concat();
        let head = [0x80, 14, u8::try_from(value.len()).unwrap()];
        let attributes = [&head[..], &value, ORIGIN, AS_PATH];
        assert_eq!(codes(decode_external(&attributes, &[])), (3, 9));
    }
}

#[test]
fn section_5_3_wrong_flags_or_length_of_mp_attributes_end_the_session() {
    let mut wrong_flags = MP_REACH6.to_vec();
    wrong_flags[0] = 0xc0;
    let attributes = [&wrong_flags[..], ORIGIN, AS_PATH];
    let error = decode_external(&attributes, &[]).unwrap_err().notification;
    assert_eq!((error.code, error.subcode), (3, 4));
    assert_eq!(*error.data, *wrong_flags);
    let unreach = [0xc0, 15, 3, 0, 2, 1];
    assert_eq!(codes(decode_external(&[&unreach], &[])), (3, 4));

    assert_eq!(codes(decode_external(&[&[0x80, 15, 2, 0, 2]], &[])), (3, 9));
    let short = [0x80, 14, 4, 0, 2, 1, 0];
    assert_eq!(codes(decode_external(&[&short], &[])), (3, 9));
}

#[test]
fn section_7_1_origin() {
    assert_withdrawn(instead(&[0x40, 1, 1, 3]), attribute::ORIGIN);
    assert_withdrawn(instead(&[0x40, 1, 2, 0, 0]), attribute::ORIGIN);
    assert_withdrawn(instead(&[0x40, 1, 0]), attribute::ORIGIN);
}

#[test]
fn section_7_2_as_path() {
    for value in [
        // Unknown segment type.
        &[5, 1, 0, 0, 0, 1][..],
        &[0, 1, 0, 0, 0, 1],
        // Overrun, underrun, empty segment.
        &[2, 2, 0, 0, 0, 1],
        &[2, 1, 0, 0, 0, 1, 2],
        &[2, 0],
        // AS 0 (RFC 7607 2).
        &[2, 2, 0, 0, 0, 1, 0, 0, 0, 0],
    ] {
        let length = u8::try_from(value.len()).unwrap();
        let attribute = [&[0x40, 2, length][..], value].concat();
        assert_withdrawn(instead(&attribute), attribute::AS_PATH);
    }
    // An empty path is well-formed.
    assert!(instead(&[0x40, 2, 0]).0.reach4.is_some());
}

#[test]
fn section_7_3_next_hop() {
    for wrong in [
        &[0x40, 3, 3, 192, 0, 2][..],
        &[0x40, 3, 5, 192, 0, 2, 1, 0],
        // No addresses of hosts (RFC 4271 6.3).
        &[0x40, 3, 4, 0, 0, 0, 0],
        &[0x40, 3, 4, 127, 0, 0, 1],
        &[0x40, 3, 4, 224, 0, 0, 1],
        &[0x40, 3, 4, 255, 255, 255, 255],
    ] {
        assert_withdrawn(instead(wrong), attribute::NEXT_HOP);
    }
}

#[test]
fn section_7_4_multi_exit_disc() {
    let result = with(SessionKind::External, &[0x80, 4, 3, 0, 0, 1]);
    assert_withdrawn(result, attribute::MULTI_EXIT_DISC);
}

#[test]
fn section_7_5_local_pref() {
    // From an external peer it is discarded, however long.
    for value in [&[0x40, 5, 4, 0, 0, 0, 1][..], &[0x40, 5, 1, 0]] {
        let result = decode_external(&[ORIGIN, AS_PATH, NEXT_HOP, value], NLRI).unwrap();
        let attributes = assert_discarded(result, attribute::LOCAL_PREF);
        assert_eq!(attributes.local_pref, None);
    }
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 5, 3, 0, 0, 1]];
    let result = decode_as(SessionKind::Internal, &attributes, NLRI).unwrap();
    assert_withdrawn(result, attribute::LOCAL_PREF);
}

#[test]
fn section_7_6_atomic_aggregate() {
    let result = with(SessionKind::Internal, &[0x40, 6, 1, 0]);
    let attributes = assert_discarded(result, attribute::ATOMIC_AGGREGATE);
    assert!(!attributes.atomic_aggregate);
}

#[test]
fn section_7_7_aggregator() {
    for wrong in [
        &[0xc0, 7, 6, 0xfd, 0xea, 10, 0, 0, 9][..],
        &[0xc0, 7, 0],
        // AS 0 (RFC 7607 2).
        &[0xc0, 7, 8, 0, 0, 0, 0, 10, 0, 0, 9],
    ] {
        let result = with(SessionKind::Internal, wrong);
        let attributes = assert_discarded(result, attribute::AGGREGATOR);
        assert_eq!(attributes.rare, None);
    }
}

#[test]
fn sections_7_8_7_14_and_rfc_8092_communities() {
    for wrong in [
        &[0xc0, 8, 0][..],
        &[0xc0, 8, 3, 0, 0, 1],
        &[0xc0, 16, 0],
        &[0xc0, 16, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xc0, 32, 0],
        &[0xc0, 32, 4, 0, 0, 0, 0],
    ] {
        assert_withdrawn(with(SessionKind::External, wrong), wrong[1]);
    }
}

#[test]
fn sections_7_9_and_7_10_reflection() {
    for wrong in [
        &[0x80, 9, 5, 0, 0, 0, 0, 1][..],
        &[0x80, 10, 0],
        &[0x80, 10, 5, 0, 0, 0, 0, 1],
    ] {
        assert_withdrawn(with(SessionKind::Internal, wrong), wrong[1]);
        let result = with(SessionKind::External, wrong);
        let attributes = assert_discarded(result, wrong[1]);
        assert_eq!(attributes.rare, None);
    }
}

#[test]
fn section_7_11_a_next_hop_of_wrong_length_ends_the_session() {
    for length in [0_u8, 4, 15, 17, 24, 48] {
        let value = [
            &[0, 2, 1, length][..],
            &vec![0x20; length.into()],
            &[0, 8, 0x20],
        ]
        .concat();
        let head = [0x80, 14, u8::try_from(value.len()).unwrap()];
        let result = decode_external(&[&head, &value, ORIGIN, AS_PATH], &[]);
        assert_eq!(codes(result), (3, 9), "length {length}");
    }
    // Longer than the attribute.
    let beyond = [0x80, 14, 6, 0, 2, 1, 16, 0, 0];
    assert_eq!(codes(decode_external(&[&beyond], &[])), (3, 9));
}

#[test]
fn an_ipv6_next_hop_for_ipv4_prefixes_was_not_negotiated() {
    let mut rfc8950 = MP_REACH6.to_vec();
    rfc8950[4] = 1;
    let result = decode_external(&[&rfc8950, ORIGIN, AS_PATH], &[]);
    assert_eq!(codes(result), (3, 9));
}

#[test]
fn an_mp_next_hop_that_is_no_host_treats_as_withdraw() {
    for first in [0, 0xff] {
        let mut wrong = MP_REACH6.to_vec();
        wrong[7..23].fill(0);
        wrong[7] = first;
        let (update, reactions) = decode_external(&[&wrong, ORIGIN, AS_PATH], &[]).unwrap();
        assert_eq!(update.withdrawn6, [prefix6("2001:db8::/32")]);
        assert_eq!(update.reach6, None);
        assert_eq!(reactions[0].attribute, attribute::MP_REACH_NLRI);
    }
}

#[test]
fn treat_as_withdraw_takes_every_prefix_of_the_message() {
    let wrong = [0x40, 1, 1, 9];
    let mut decoder = decoder_for(SessionKind::External, true);
    let bytes = update_message(&[8, 11], &[&wrong, AS_PATH, NEXT_HOP, MP_REACH6], NLRI);
    let (update, _) = decode_update(&mut decoder, bytes).unwrap();
    assert_eq!(
        update.withdrawn4,
        ["11.0.0.0/8", "10.1.0.0/16"].map(prefix4)
    );
    assert_eq!(update.withdrawn6, [prefix6("2001:db8::/32")]);
    assert!(update.reach4.is_none() && update.reach6.is_none());
}

#[test]
fn rfc_4271_6_3_multicast_prefixes_are_ignored_and_the_others_used() {
    let nlri = [&[24, 224, 0, 0, 4, 0xf0, 4, 0xe0, 3, 0xe0][..], NLRI].concat();
    let (update, reactions) = decode_external(&[ORIGIN, AS_PATH, NEXT_HOP], &nlri).unwrap();
    // 240.0.0.0/4 is reserved, 224.0.0.0/3 is more than multicast: neither is ours to judge.
    assert_eq!(
        update.reach4.unwrap().prefixes,
        ["240.0.0.0/4", "224.0.0.0/3", "10.1.0.0/16"].map(prefix4)
    );
    assert_eq!(reactions[0].approach, Approach::IgnorePrefix);
    let (update, _) = decode_external(&[ORIGIN, AS_PATH, NEXT_HOP], &[8, 224]).unwrap();
    assert_eq!(update, Update::default());
}

#[test]
fn bits_behind_the_prefix_length_mean_nothing() {
    let (update, reactions) =
        decode_external(&[ORIGIN, AS_PATH, NEXT_HOP], &[9, 10, 0xff]).unwrap();
    assert_eq!(update.reach4.unwrap().prefixes, [prefix4("10.128.0.0/9")]);
    assert!(reactions.is_empty());
}

#[test]
fn a_message_full_of_faults_reports_a_bounded_number_of_them() {
    let duplicates = [0xc0, 99, 0].repeat(1000);
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, &duplicates];
    let (update, reactions) = decode_external(&attributes, NLRI).unwrap();
    assert_eq!(reactions.len(), MAX_REACTIONS_PER_UPDATE);
    assert!(update.reach4.is_some());
}

#[test]
fn a_reaction_reads_as_a_sentence() {
    let (_, reactions) = instead(&[0x40, 1, 1, 3]);
    assert_eq!(
        reactions[0].to_string(),
        "ORIGIN has an undefined value: treated as withdrawn"
    );
}
