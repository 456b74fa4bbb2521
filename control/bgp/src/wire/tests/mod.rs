//! The codec, rule by rule.

mod as_path;
mod encode;
mod framing;
mod notification;
mod open;
mod rfc6793;
mod rfc7606;
mod update;

use bytes::BytesMut;

use super::*;
use crate::types::{Asn, Family, Prefix, Prefix4, Prefix6, RouterId};

const LOCAL_AS: u32 = 65001;

/// An OPEN with everything this speaker knows.
fn open_of(asn: u32, as4: bool) -> Open {
    let mut capabilities = vec![
        Capability::multiprotocol(Family::Ipv4Unicast),
        Capability::multiprotocol(Family::Ipv6Unicast),
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
    ];
    if as4 {
        capabilities.push(Capability::FourOctetAs(Asn(asn)));
    }
    Open {
        asn: Asn(asn),
        hold_time: 90,
        router_id: RouterId(0x0a00_0001),
        capabilities,
    }
}

/// A decoder that has seen the OPEN of a peer.
fn decoder_with(local: &Open, remote: &Open, config: DecoderConfig) -> Decoder {
    let mut decoder = Decoder::new(local, config);
    let mut bytes = BytesMut::new();
    encode_open(remote, &mut bytes);
    let decoded = decoder.decode(&mut bytes).unwrap().unwrap();
    assert_eq!(decoded.message, Message::Open(remote.clone()));
    decoder
}

fn decoder_for(kind: SessionKind, as4: bool) -> Decoder {
    let (asn, members): (u32, &[Asn]) = match kind {
        SessionKind::Internal => (LOCAL_AS, &[]),
        SessionKind::External => (65002, &[]),
        SessionKind::Confederation => (65002, &[Asn(65002)]),
    };
    let config = DecoderConfig {
        confederation_members: members.into(),
        enforce_first_as: false,
    };
    decoder_with(&open_of(LOCAL_AS, true), &open_of(asn, as4), config)
}

/// A whole message.
fn message(kind: u8, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    super::encode::message(kind, &mut bytes, |out| out.extend_from_slice(body));
    bytes
}

fn update_message(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> BytesMut {
    let attributes = attributes.concat();
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let body = [
        &length(withdrawn),
        withdrawn,
        &length(&attributes),
        &attributes,
        nlri,
    ]
    .concat();
    message(message_type::UPDATE, &body)
}

/// Decodes an UPDATE of an external peer with 4-octet AS numbers.
fn decode_external(
    attributes: &[&[u8]],
    nlri: &[u8],
) -> Result<(Update, Vec<Reaction>), MessageError> {
    decode_as(SessionKind::External, attributes, nlri)
}

fn decode_as(
    kind: SessionKind,
    attributes: &[&[u8]],
    nlri: &[u8],
) -> Result<(Update, Vec<Reaction>), MessageError> {
    decode_update(
        &mut decoder_for(kind, true),
        update_message(&[], attributes, nlri),
    )
}

fn decode_update(
    decoder: &mut Decoder,
    mut bytes: BytesMut,
) -> Result<(Update, Vec<Reaction>), MessageError> {
    let decoded = decoder.decode(&mut bytes)?.unwrap();
    match decoded.message {
        Message::Update(update) => Ok((update, decoded.reactions)),
        other => panic!("{other:?}"),
    }
}

fn prefix4(text: &str) -> Prefix4 {
    match text.parse() {
        Ok(Prefix::V4(prefix)) => prefix,
        other => panic!("{other:?}"),
    }
}

fn prefix6(text: &str) -> Prefix6 {
    match text.parse() {
        Ok(Prefix::V6(prefix)) => prefix,
        other => panic!("{other:?}"),
    }
}

/// Error code and subcode of an error.
fn codes<T: core::fmt::Debug>(result: Result<T, MessageError>) -> (u8, u8) {
    let notification = result.unwrap_err().notification;
    (notification.code, notification.subcode)
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
/// 65002.
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const LOCAL_PREF: &[u8] = &[0x40, 5, 4, 0, 0, 0, 100];
/// 10.1.0.0/16.
const NLRI: &[u8] = &[16, 10, 1];
/// 2001:db8::/32 by 2001:db8::1.
const MP_REACH6: &[u8] = &[
    0x80, 14, 26, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20,
    1, 0xd, 0xb8,
];
