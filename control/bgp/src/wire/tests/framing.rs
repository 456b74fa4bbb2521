//! RFC 4271 4.1 and 6.1, RFC 8654.

use super::*;

fn keepalive() -> BytesMut {
    message(message_type::KEEPALIVE, &[])
}

fn error_of(mut bytes: BytesMut) -> Notification {
    let mut decoder = decoder_for(SessionKind::External, true);
    decoder.decode(&mut bytes).unwrap_err().notification
}

#[test]
fn a_message_is_decoded_when_its_last_byte_has_come_and_not_before() {
    let mut decoder = decoder_for(SessionKind::External, true);
    let whole = update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], NLRI);
    let mut input = BytesMut::new();
    for (i, byte) in whole.iter().enumerate() {
        assert_eq!(decoder.decode(&mut input), Ok(None), "after {i} bytes");
        input.extend_from_slice(&[*byte]);
    }
    assert!(decoder.decode(&mut input).unwrap().is_some());
    assert!(input.is_empty());
}

#[test]
fn messages_that_come_together_are_decoded_one_by_one() {
    let mut decoder = decoder_for(SessionKind::External, true);
    let mut input = keepalive();
    input.unsplit(keepalive());
    input.extend_from_slice(&[0xff; 3]);
    for _ in 0..2 {
        let decoded = decoder.decode(&mut input).unwrap().unwrap();
        assert_eq!(decoded.message, Message::Keepalive);
    }
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(input.len(), 3);
}

#[test]
fn a_marker_that_is_not_all_ones_is_not_synchronized_as_soon_as_it_shows() {
    for at in 0..16 {
        let mut bytes = keepalive();
        bytes[at] = 0xfe;
        bytes.truncate(at + 1);
        let error = error_of(bytes);
        assert_eq!((error.code, error.subcode, &*error.data), (1, 1, &[][..]));
    }
}

#[test]
fn a_length_out_of_bounds_is_bad_and_returned_in_the_data() {
    for (kind, length) in [
        (message_type::KEEPALIVE, 18_u16),
        (message_type::KEEPALIVE, 20),
        (message_type::KEEPALIVE, 0),
        (message_type::OPEN, 28),
        (message_type::UPDATE, 22),
        (message_type::NOTIFICATION, 20),
        (message_type::UPDATE, 4097),
        (message_type::UPDATE, u16::MAX),
    ] {
        let mut bytes = message(kind, &[]);
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        let error = error_of(bytes);
        assert_eq!((error.code, error.subcode), (1, 2), "type {kind}");
        assert_eq!(*error.data, length.to_be_bytes());
    }
}

#[test]
fn an_unknown_type_is_bad_and_returned_in_the_data() {
    for kind in [0, 6, 128, 255] {
        let error = error_of(message(kind, &[]));
        assert_eq!(
            (error.code, error.subcode, &*error.data),
            (1, 3, &[kind][..])
        );
    }
}

#[test]
fn long_messages_are_taken_once_we_announced_that_we_take_them() {
    let mut local = open_of(LOCAL_AS, true);
    local.capabilities.push(Capability::ExtendedMessage);
    // The peer may use what we announced without announcing it (RFC 8654 4).
    let remote = open_of(65002, true);
    let mut decoder = decoder_with(&local, &remote, DecoderConfig::default());
    assert!(!decoder.negotiated().unwrap().extended_message_send);

    let nlri = NLRI.repeat(2000);
    let bytes = update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &nlri);
    assert!(bytes.len() > MAX_MESSAGE_BYTES);
    let (update, _) = decode_update(&mut decoder, bytes).unwrap();
    assert_eq!(update.reach4.unwrap().prefixes.len(), 2000);
}

/// FRR 8.4 announces that it takes long messages, and resets the session when one comes from a peer that does not.
#[test]
fn long_messages_are_sent_only_if_both_announced_them() {
    let silent = open_of(LOCAL_AS, true);
    let mut willing = open_of(65002, true);
    willing.capabilities.push(Capability::ExtendedMessage);
    let bytes = |local, remote| Negotiated::new(local, remote).max_send_bytes();
    assert_eq!(bytes(&silent, &willing), MAX_MESSAGE_BYTES);
    assert_eq!(bytes(&willing, &silent), MAX_MESSAGE_BYTES);
    assert_eq!(bytes(&willing, &willing), MAX_EXTENDED_MESSAGE_BYTES);
}

#[test]
fn an_open_or_keepalive_is_never_extended() {
    let mut local = open_of(LOCAL_AS, true);
    local.capabilities.push(Capability::ExtendedMessage);
    for kind in [message_type::OPEN, message_type::KEEPALIVE] {
        let mut decoder = Decoder::new(&local, DecoderConfig::default());
        let result = decoder.decode(&mut message(kind, &[0; 4078]));
        assert_eq!(codes(result), (1, 2));
    }
}

#[test]
fn an_update_before_the_open_is_an_fsm_error_that_names_its_type() {
    let mut decoder = Decoder::new(&open_of(LOCAL_AS, true), DecoderConfig::default());
    let error = decoder
        .decode(&mut update_message(&[], &[], &[]))
        .unwrap_err()
        .notification;
    assert_eq!((error.code, error.subcode, &*error.data), (5, 1, &[2][..]));
}

#[test]
fn a_route_refresh_tells_family_and_subtype() {
    for (subtype, kind) in [
        (0, RefreshKind::Request),
        (1, RefreshKind::Begin),
        (2, RefreshKind::End),
    ] {
        let mut decoder = decoder_for(SessionKind::External, true);
        let mut bytes = message(message_type::ROUTE_REFRESH, &[0, 2, subtype, 1]);
        let family = Family::Ipv6Unicast;
        assert_eq!(
            decoder.decode(&mut bytes).unwrap().unwrap().message,
            Message::RouteRefresh(RouteRefresh { family, kind })
        );
    }
}

#[test]
fn a_route_refresh_of_unknown_subtype_or_family_is_skipped() {
    let mut decoder = decoder_for(SessionKind::External, true);
    let mut input = message(message_type::ROUTE_REFRESH, &[0, 1, 3, 1]);
    input.unsplit(message(message_type::ROUTE_REFRESH, &[0, 1, 0, 128]));
    input.unsplit(message(message_type::ROUTE_REFRESH, &[0x40, 4, 0, 71]));
    input.unsplit(keepalive());
    let decoded = decoder.decode(&mut input).unwrap().unwrap();
    assert_eq!(decoded.message, Message::Keepalive);
}

#[test]
fn a_route_refresh_of_wrong_length_is_returned_whole() {
    for body in [&[0, 1, 1][..], &[0, 1, 2, 1, 0], &[]] {
        let bytes = message(message_type::ROUTE_REFRESH, body);
        let error = error_of(bytes.clone());
        assert_eq!((error.code, error.subcode), (7, 1));
        assert_eq!(*error.data, *bytes);
    }
}

#[test]
fn without_enhanced_refresh_the_subtype_is_reserved_and_the_length_error_is_the_old_one() {
    let mut remote = open_of(65002, true);
    remote
        .capabilities
        .retain(|capability| *capability != Capability::EnhancedRouteRefresh);
    let local = open_of(LOCAL_AS, true);
    let mut decoder = decoder_with(&local, &remote, DecoderConfig::default());
    let mut bytes = message(message_type::ROUTE_REFRESH, &[0, 1, 1, 1]);
    assert_eq!(
        decoder.decode(&mut bytes).unwrap().unwrap().message,
        Message::RouteRefresh(RouteRefresh {
            family: Family::Ipv4Unicast,
            kind: RefreshKind::Request
        })
    );
    let result = decoder.decode(&mut message(message_type::ROUTE_REFRESH, &[0, 1, 1]));
    assert_eq!(codes(result), (1, 2));
}

#[test]
fn a_route_refresh_is_an_unknown_type_for_who_did_not_announce_it() {
    let mut local = open_of(LOCAL_AS, true);
    local.capabilities.clear();
    let mut decoder = Decoder::new(&local, DecoderConfig::default());
    let result = decoder.decode(&mut message(message_type::ROUTE_REFRESH, &[0, 1, 0, 1]));
    assert_eq!(codes(result), (1, 3));
}
