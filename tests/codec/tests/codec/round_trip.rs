//! decode(encode(x)) == x, for every message and every kind of session.

use bytes::BytesMut;
use causeway_bgp::types::Family;
use causeway_bgp::wire::*;
use causeway_codec_tests::{session::Session, targets};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategies;

fn decode(bytes: &mut BytesMut) -> Message {
    let mut decoder = Session::from_bits(4).fresh_decoder();
    let decoded = decoder.decode(bytes).unwrap().unwrap();
    assert!(bytes.is_empty() && decoded.reactions.is_empty());
    decoded.message
}

proptest! {
    #[test]
    fn any_update_comes_back_from_any_session(
        (session, update) in strategies::session_and_update(),
    ) {
        targets::check_round_trip(session, &session.decoder(), &update);
    }

    #[test]
    fn any_open_comes_back(open in strategies::open()) {
        let mut bytes = BytesMut::new();
        encode_open(&open, &mut bytes);
        prop_assert_eq!(decode(&mut bytes), Message::Open(open));
    }

    #[test]
    fn any_notification_comes_back(
        code in any::<u8>(),
        subcode in any::<u8>(),
        data in vec(any::<u8>(), 0..1000),
    ) {
        let notification = Notification::with_data(code, subcode, &data);
        let text = notification.to_string();
        prop_assert!(!text.chars().any(char::is_control));
        let mut bytes = BytesMut::new();
        encode_notification(&notification, &mut bytes);
        prop_assert_eq!(decode(&mut bytes), Message::Notification(notification));
    }

    #[test]
    fn any_shutdown_text_comes_back_up_to_its_limit(text in "\\PC{0,200}") {
        let notification = Notification::cease_with_text(2, &text);
        let received = notification.shutdown_text().unwrap_or_default();
        prop_assert!(text.starts_with(received));
        prop_assert!(text.len() > 255 || received == text);
    }

    #[test]
    fn any_route_refresh_comes_back(second in any::<bool>(), kind in 0..3_u8) {
        let refresh = RouteRefresh {
            family: Family::ALL[usize::from(second)],
            kind: [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End][usize::from(kind)],
        };
        let mut bytes = BytesMut::new();
        encode_route_refresh(refresh, &mut bytes);
        let mut decoder = Session::from_bits(4).decoder();
        let decoded = decoder.decode(&mut bytes).unwrap().unwrap();
        prop_assert_eq!(decoded.message, Message::RouteRefresh(refresh));
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..200)) {
        for target in targets::ALL {
            (target.run)(&data);
        }
    }

    #[test]
    fn prepending_is_what_it_says(
        asns in vec(any::<u32>(), 0..600),
        asn in any::<u32>(),
        times in any::<u8>(),
    ) {
        let path = AsPath::sequence(asns.iter().copied());
        let longer = path.prepend(causeway_bgp::types::Asn(asn), times);
        let expected: Vec<_> = std::iter::repeat_n(asn, times.into()).chain(asns).collect();
        prop_assert_eq!(longer.asns().map(|asn| asn.0).collect::<Vec<_>>(), expected);
        prop_assert_eq!(AsPath::from_wire(longer.as_wire()), Some(longer));
    }
}
