//! RFC 4271 4.2 and 6.2, RFC 5492, RFC 6286, RFC 7607, RFC 9072 and the capabilities.

use super::*;

/// Body of an OPEN of AS 65002 with these optional parameters.
fn body(parameters: &[u8]) -> Vec<u8> {
    let length = u8::try_from(parameters.len()).unwrap();
    [&[4, 0xfd, 0xea, 0, 90, 10, 0, 0, 2, length][..], parameters].concat()
}

fn decode(body: &[u8]) -> Result<Open, MessageError> {
    let mut decoder = Decoder::new(&open_of(LOCAL_AS, true), DecoderConfig::default());
    let decoded = decoder
        .decode(&mut message(message_type::OPEN, body))?
        .unwrap();
    match decoded.message {
        Message::Open(open) => Ok(open),
        other => panic!("{other:?}"),
    }
}

fn capabilities(value: &[u8]) -> Result<Vec<Capability>, MessageError> {
    let length = u8::try_from(value.len()).unwrap();
    decode(&body(&[&[2, length], value].concat())).map(|open| open.capabilities)
}

#[test]
fn an_open_without_parameters_tells_as_hold_time_and_identifier() {
    let open = decode(&body(&[])).unwrap();
    assert_eq!(open.asn, Asn(65002));
    assert_eq!(open.hold_time, 90);
    assert_eq!(open.router_id, RouterId(0x0a00_0002));
    assert!(open.capabilities.is_empty());
}

#[test]
fn another_version_is_refused_with_ours_in_the_data() {
    for version in [3, 5] {
        let mut body = body(&[]);
        body[0] = version;
        let error = decode(&body).unwrap_err().notification;
        assert_eq!(
            (error.code, error.subcode, &*error.data),
            (2, 1, &[0, 4][..])
        );
    }
}

#[test]
fn as_0_is_refused_in_the_field_and_in_the_capability() {
    let mut zero = body(&[]);
    zero[1..3].fill(0);
    assert_eq!(codes(decode(&zero)), (2, 2));
    assert_eq!(codes(capabilities(&[65, 4, 0, 0, 0, 0])), (2, 2));
}

#[test]
fn hold_times_of_1_and_2_seconds_are_refused_and_0_and_3_are_not() {
    for (seconds, refused) in [(0, false), (1, true), (2, true), (3, false)] {
        let mut body = body(&[]);
        body[4] = seconds;
        match decode(&body) {
            Ok(open) => assert_eq!((open.hold_time, refused), (seconds.into(), false)),
            error => assert_eq!((codes(error), refused), ((2, 6), true)),
        }
    }
}

#[test]
fn identifier_0_is_refused_and_any_other_is_not() {
    let mut zero = body(&[]);
    zero[5..9].fill(0);
    assert_eq!(codes(decode(&zero)), (2, 3));
    zero[5..9].fill(0xff);
    assert_eq!(decode(&zero).unwrap().router_id, RouterId(u32::MAX));
}

#[test]
fn parameters_have_to_fill_the_message() {
    let mut short = body(&[2, 0]);
    short[9] = 3;
    assert_eq!(codes(decode(&short)), (2, 0));
    short[9] = 1;
    assert_eq!(codes(decode(&short)), (2, 0));
    // The parameter is longer than the parameters.
    assert_eq!(codes(decode(&body(&[2, 1]))), (2, 0));
    // Half a parameter header.
    assert_eq!(codes(decode(&body(&[2]))), (2, 0));
}

#[test]
fn an_unknown_parameter_is_refused() {
    assert_eq!(codes(decode(&body(&[1, 1, 0]))), (2, 4));
    assert_eq!(codes(decode(&body(&[3, 0]))), (2, 4));
    // 255 has a meaning only at the beginning (RFC 9072 2).
    assert_eq!(codes(decode(&body(&[2, 0, 255, 0]))), (2, 4));
}

#[test]
fn capabilities_are_read_from_one_parameter_and_from_many() {
    let wanted = vec![
        Capability::multiprotocol(Family::Ipv6Unicast),
        Capability::RouteRefresh,
    ];
    assert_eq!(capabilities(&[1, 4, 0, 2, 0, 1, 2, 0]).unwrap(), wanted);
    let many = body(&[2, 6, 1, 4, 0, 2, 0, 1, 2, 2, 2, 0]);
    assert_eq!(decode(&many).unwrap().capabilities, wanted);
}

#[test]
fn the_4_octet_capability_says_which_as_it_is() {
    let open = decode(&body(&[2, 6, 65, 4, 0xfa, 0x56, 0xea, 1])).unwrap();
    assert_eq!(open.asn, Asn(0xfa56_ea01));
}

#[test]
fn a_capability_of_wrong_length_is_an_unspecific_open_error() {
    for wrong in [
        &[1, 3, 0, 1, 0][..],
        &[1, 5, 0, 1, 0, 1, 0],
        &[2, 1, 0],
        &[6, 1, 0],
        &[64, 1, 0],
        &[64, 4, 0, 0, 0, 1],
        &[65, 2, 0, 1],
        &[65, 0],
        &[70, 1, 0],
        // Longer than the parameter, and without a length.
        &[65, 5, 0, 0, 0, 1],
        &[65],
    ] {
        assert_eq!(codes(capabilities(wrong)), (2, 0), "{wrong:?}");
    }
}

#[test]
fn unknown_capabilities_and_families_are_kept() {
    assert_eq!(
        capabilities(&[1, 4, 0, 25, 0, 70, 69, 4, 0, 1, 1, 3]).unwrap(),
        vec![
            Capability::Multiprotocol { afi: 25, safi: 70 },
            Capability::Unknown {
                code: 69,
                value: [0, 1, 1, 3].into()
            },
        ]
    );
}

#[test]
fn a_repeated_capability_says_nothing_new() {
    assert_eq!(
        capabilities(&[2, 0, 2, 0, 128, 0, 128, 0]).unwrap(),
        vec![
            Capability::RouteRefresh,
            Capability::Unknown {
                code: 128,
                value: [].into()
            }
        ]
    );
}

#[test]
fn of_two_graceful_restart_capabilities_the_last_counts() {
    let found = capabilities(&[64, 2, 0, 1, 64, 6, 0xc0, 120, 0, 2, 1, 0x80]).unwrap();
    assert_eq!(
        found,
        vec![Capability::GracefulRestart(GracefulRestartCapability {
            restarting: true,
            notification: true,
            restart_time: 120,
            families: vec![GracefulRestartFamily {
                family: Family::Ipv6Unicast,
                forwarding: true
            }],
        })]
    );
}

#[test]
fn a_host_name_that_cannot_be_read_costs_nothing() {
    assert_eq!(
        capabilities(&[73, 6, 3, b't', b'o', b'r', 1, b'x']).unwrap(),
        vec![Capability::Hostname {
            host: "tor".into(),
            domain: "x".into()
        }]
    );
    for wrong in [&[73, 2, 1, 0xff][..], &[73, 0], &[73, 2, 9, b't']] {
        assert!(matches!(
            &capabilities(wrong).unwrap()[..],
            [Capability::Unknown { code: 73, .. }]
        ));
    }
}

#[test]
fn the_extended_parameter_format_is_read_whatever_the_short_length_says() {
    let parameters = [255, 0, 5, 2, 0, 2, 2, 0];
    for short in [255, 8, 1] {
        let mut body = body(&parameters);
        body[9] = short;
        let open = decode(&body).unwrap();
        assert_eq!(open.capabilities, vec![Capability::RouteRefresh]);
    }
    let mut wrong = body(&parameters);
    wrong[12] = 6;
    assert_eq!(codes(decode(&wrong)), (2, 0));
}

#[test]
fn parameters_beyond_255_octets_are_written_in_the_extended_format() {
    let mut open = open_of(65002, true);
    for code in 200..204 {
        open.capabilities.push(Capability::Unknown {
            code,
            value: vec![code; 200].into(),
        });
    }
    let mut bytes = BytesMut::new();
    encode_open(&open, &mut bytes);
    assert_eq!(bytes[HEADER_BYTES + 9..HEADER_BYTES + 11], [255, 255]);
    let mut decoder = Decoder::new(&open_of(LOCAL_AS, true), DecoderConfig::default());
    let decoded = decoder.decode(&mut bytes).unwrap().unwrap();
    assert_eq!(decoded.message, Message::Open(open));
}

#[test]
fn a_4_octet_as_goes_out_as_as_trans_in_the_short_field() {
    let mut bytes = BytesMut::new();
    encode_open(&open_of(4_200_000_000, true), &mut bytes);
    assert_eq!(bytes[HEADER_BYTES + 1..HEADER_BYTES + 3], [0x5b, 0xa0]);
}

#[test]
fn a_peer_without_multiprotocol_capabilities_means_ipv4_unicast() {
    let local = open_of(LOCAL_AS, true);
    let mut remote = open_of(65002, true);
    remote.capabilities.clear();
    let negotiated = Negotiated::new(&local, &remote);
    assert_eq!(
        negotiated.families.iter().collect::<Vec<_>>(),
        [Family::Ipv4Unicast]
    );
    assert!(!negotiated.as4);
    remote.capabilities = vec![Capability::multiprotocol(Family::Ipv6Unicast)];
    let negotiated = Negotiated::new(&local, &remote);
    assert_eq!(
        negotiated.families.iter().collect::<Vec<_>>(),
        [Family::Ipv6Unicast]
    );
}

#[test]
fn the_smaller_hold_time_is_used() {
    let (mut local, mut remote) = (open_of(LOCAL_AS, true), open_of(65002, true));
    remote.hold_time = 30;
    assert_eq!(Negotiated::new(&local, &remote).hold_time, 30);
    local.hold_time = 0;
    assert_eq!(Negotiated::new(&local, &remote).hold_time, 0);
}
