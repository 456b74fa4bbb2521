//! The fuzz targets: arbitrary bytes in, a panic if a property does not hold.

use std::sync::LazyLock;

use bytes::BytesMut;
use causeway_bgp::types::AddressFamily;
use causeway_bgp::wire::{
    Decoded, Decoder, EncodeError, Message, MessageError, NextHop, Reach, SessionKind, Update,
    UpdateWriter, encode_end_of_rib, encode_notification, encode_open, encode_route_refresh,
    message_type,
};

use crate::session::{Session, message};

/// A fuzz target by name.
#[derive(Clone, Copy)]
pub struct Target {
    /// Name, also of its corpus directory.
    pub name: &'static str,
    /// The target.
    pub run: fn(&[u8]),
}

/// Every target.
pub const ALL: [Target; 4] = [
    Target {
        name: "decode_message",
        run: decode_message,
    },
    Target {
        name: "decode_update",
        run: decode_update,
    },
    Target {
        name: "decode_open",
        run: decode_open,
    },
    Target {
        name: "speaker",
        run: crate::speaker::speaker,
    },
];

/// Decoders by the bits of [`Session::from_bits`], cloned for each execution.
static DECODERS: LazyLock<Vec<Decoder>> =
    LazyLock::new(|| Session::all().map(Session::decoder).collect());

/// The whole decoder: a session (first octet; bit 5: before the peer's OPEN) and a stream. However the stream is cut, the
/// messages and the error are the same, and what is decoded can be encoded.
pub fn decode_message(data: &[u8]) {
    let Some((&bits, stream)) = data.split_first() else {
        return;
    };
    let session = Session::from_bits(bits);
    let decoder = if bits & 32 != 0 {
        session.fresh_decoder()
    } else {
        DECODERS[usize::from(bits & 31)].clone()
    };
    let cut = stream.len() / 3;
    let whole = drain(decoder.clone(), &[stream]);
    let parts = drain(decoder, &[&stream[..cut], &stream[cut..]]);
    assert_eq!(whole, parts, "the messages depend on how they arrive");
    let (messages, error) = whole;
    for decoded in messages {
        let mut bytes = BytesMut::new();
        let expected = match &decoded.message {
            Message::Open(open) => {
                encode_open(open, &mut bytes);
                Some(&decoded.message)
            }
            Message::Notification(notification) => {
                encode_notification(notification, &mut bytes);
                // A long notification is cut where extended messages are not spoken.
                (notification.data.len() < 4000).then_some(&decoded.message)
            }
            Message::RouteRefresh(refresh) => {
                encode_route_refresh(*refresh, &mut bytes);
                Some(&decoded.message)
            }
            Message::Keepalive | Message::Update(_) => None,
        };
        if let Some(expected) = expected {
            let again = drain(session.decoder(), &[&bytes]).0;
            assert_eq!(
                again.first().map(|decoded| &decoded.message),
                Some(expected)
            );
        }
    }
    if let Some(error) = error {
        let _ = error.to_string();
        let mut bytes = BytesMut::new();
        encode_notification(&error.notification, &mut bytes);
    }
}

/// Everything a decoder makes of these parts.
fn drain(mut decoder: Decoder, parts: &[&[u8]]) -> (Vec<Decoded>, Option<MessageError>) {
    let mut messages = Vec::new();
    let mut input = BytesMut::new();
    for part in parts {
        input.extend_from_slice(part);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(decoded)) => messages.push(decoded),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// An UPDATE: a session (first octet) and the body. What is decoded, encoded and decoded again is the same, without a fault.
pub fn decode_update(data: &[u8]) {
    let Some((&bits, body)) = data.split_first() else {
        return;
    };
    let bits = bits & 31;
    let session = Session::from_bits(bits);
    let Some(bytes) = message(message_type::UPDATE, body) else {
        return;
    };
    let decoder = &DECODERS[usize::from(bits)];
    let (messages, _) = drain(decoder.clone(), &[&bytes]);
    for decoded in messages {
        for reaction in &decoded.reactions {
            let _ = reaction.to_string();
        }
        if let Message::Update(update) = decoded.message {
            check_round_trip(session, decoder, &update);
        }
    }
}

/// Encodes an UPDATE and checks that it comes back.
///
/// # Panics
///
/// If it does not.
pub fn check_round_trip(session: Session, decoder: &Decoder, update: &Update) {
    let mut writer = UpdateWriter::new(session.encode_options());
    let mut bytes = BytesMut::new();
    writer.withdraw(update.withdrawn4.iter().copied(), &mut bytes);
    writer.withdraw(update.withdrawn6.iter().copied(), &mut bytes);
    if let Some(family) = update.end_of_rib {
        encode_end_of_rib(family, &mut bytes);
    }
    let lossy = !session.as4 && update.reach4.as_ref().is_some_and(has_confederation);
    let lossy = lossy || !session.as4 && update.reach6.as_ref().is_some_and(has_confederation);
    // What 2-octet AS numbers and confederations do to each other can't be undone (RFC 6793 4.2.2).
    let mut expected = update.clone();
    if lossy {
        (expected.reach4, expected.reach6) = (None, None);
    }
    announce(&mut writer, &mut expected.reach4, &mut bytes);
    announce(&mut writer, &mut expected.reach6, &mut bytes);

    let (messages, error) = drain(decoder.clone(), &[&bytes]);
    assert_eq!(error, None);
    let mut again = Update::default();
    for decoded in messages {
        assert!(decoded.reactions.is_empty(), "{:?}", decoded.reactions);
        let Message::Update(update) = decoded.message else {
            panic!("{:?} instead of an UPDATE", decoded.message);
        };
        again.withdrawn4.extend(update.withdrawn4);
        again.withdrawn6.extend(update.withdrawn6);
        join(&mut again.reach4, update.reach4);
        join(&mut again.reach6, update.reach6);
        again.end_of_rib = again.end_of_rib.or(update.end_of_rib);
    }
    assert_eq!(again, expected);
}

fn has_confederation<P>(reach: &Reach<P>) -> bool {
    reach.attributes.as_path.has_confederation()
}

/// Attributes that fill a message by themselves may not fit beside one prefix of full length: then nothing is expected.
fn announce<P: AddressFamily>(
    writer: &mut UpdateWriter,
    reach: &mut Option<Reach<P>>,
    bytes: &mut BytesMut,
) {
    let Some(announced) = reach.as_ref() else {
        return;
    };
    let prefixes = announced.prefixes.iter().copied();
    match writer.announce(&announced.attributes, prefixes, bytes) {
        Ok(messages) => assert!(messages >= 1),
        Err(EncodeError::AttributesTooLarge { bytes, limit }) => {
            assert!(bytes > limit);
            *reach = None;
        }
        Err(EncodeError::NextHopFamily) => {
            let next_hop = announced.attributes.next_hop;
            panic!("{next_hop:?} was decoded for {:?}", P::FAMILY);
        }
    }
}

fn join<P>(all: &mut Option<Reach<P>>, part: Option<Reach<P>>) {
    match (all, part) {
        (Some(all), Some(part)) => {
            assert!(matches!(
                all.attributes.next_hop,
                NextHop::V4(_) | NextHop::V6(_) | NextHop::V6LinkLocal { .. }
            ));
            assert_eq!(all.attributes, part.attributes);
            all.prefixes.extend(part.prefixes);
        }
        (all @ None, part) => *all = part,
        (Some(_), None) => {}
    }
}

/// The body of an OPEN. What is decoded, encoded and decoded again is the same.
pub fn decode_open(data: &[u8]) {
    let session = Session {
        kind: SessionKind::External,
        as4: true,
        extended: false,
        enforce_first_as: false,
    };
    let Some(bytes) = message(message_type::OPEN, data) else {
        return;
    };
    let (messages, _) = drain(session.fresh_decoder(), &[&bytes]);
    for decoded in messages {
        let Message::Open(open) = &decoded.message else {
            panic!("{:?} instead of an OPEN", decoded.message);
        };
        let mut bytes = BytesMut::new();
        encode_open(open, &mut bytes);
        let (again, error) = drain(session.fresh_decoder(), &[&bytes]);
        assert_eq!(error, None);
        assert_eq!(again.len(), 1);
        let Message::Open(again) = &again[0].message else {
            panic!("not an OPEN");
        };
        // 2-octet AS_TRANS without the capability comes back as itself.
        assert_eq!(again, open);
    }
}
