//! Encoding of every message but UPDATE.

use bytes::{BufMut, BytesMut};

use super::decoder::{HEADER_BYTES, MAX_MESSAGE_BYTES, message_type};
use super::open_decode::{PARAMETER_CAPABILITIES, PARAMETER_EXTENDED, VERSION, capability};
use super::update_encode::UpdateWriter;
use super::{Capability, Notification, Open, RefreshKind, RouteRefresh};
use crate::types::{Asn, Family};

/// Appends an OPEN (RFC 4271 4.2), its optional parameters in the extended format only if they are longer than 255 octets
/// (RFC 9072 2). Values that can't be encoded are cut: 255 octets per capability, 4096 per message.
pub fn encode_open(open: &Open, out: &mut BytesMut) {
    let mut capabilities = Vec::new();
    for capability in &open.capabilities {
        let before = capabilities.len();
        encode_capability(capability, &mut capabilities);
        // Header, fixed fields and the extended parameter header.
        if HEADER_BYTES + 10 + 3 + 3 + capabilities.len() > MAX_MESSAGE_BYTES {
            capabilities.truncate(before);
        }
    }
    message(message_type::OPEN, out, |out| {
        out.put_u8(VERSION);
        out.put_u16(u16::try_from(open.asn.0).unwrap_or(AS_TRANS));
        out.put_u16(open.hold_time);
        out.put_u32(open.router_id.0);
        match u8::try_from(capabilities.len()) {
            Ok(0) => out.put_u8(0),
            Ok(length @ ..=253) => out.put_slice(&[length + 2, PARAMETER_CAPABILITIES, length]),
            _ => {
                let length = octets16(capabilities.len());
                out.put_slice(&[255, PARAMETER_EXTENDED]);
                out.put_u16(length + 3);
                out.put_u8(PARAMETER_CAPABILITIES);
                out.put_u16(length);
            }
        }
        out.put_slice(&capabilities);
    });
}

/// Appends a NOTIFICATION (RFC 4271 4.5). Data that makes it longer than 4096 octets is cut.
pub fn encode_notification(notification: &Notification, out: &mut BytesMut) {
    let data = &notification.data;
    let data = &data[..data.len().min(MAX_MESSAGE_BYTES - HEADER_BYTES - 2)];
    message(message_type::NOTIFICATION, out, |out| {
        out.put_slice(&[notification.code, notification.subcode]);
        out.put_slice(data);
    });
}

/// Appends a KEEPALIVE (RFC 4271 4.4).
pub fn encode_keepalive(out: &mut BytesMut) {
    message(message_type::KEEPALIVE, out, |_| {});
}

/// Appends a ROUTE-REFRESH (RFC 2918 3, RFC 7313 3.2).
pub fn encode_route_refresh(refresh: RouteRefresh, out: &mut BytesMut) {
    message(message_type::ROUTE_REFRESH, out, |out| {
        out.put_u16(refresh.family.afi());
        out.put_u8(match refresh.kind {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
        });
        out.put_u8(refresh.family.safi());
    });
}

/// Appends the End-of-RIB marker of a family (RFC 4724 2).
pub fn encode_end_of_rib(family: Family, out: &mut BytesMut) {
    UpdateWriter::end_of_rib(family, out);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "AS_TRANS is a 2-octet number"
)]
pub(super) const AS_TRANS: u16 = Asn::TRANS.0 as u16;

/// Appends a message: its header, then what `body` writes, which fits the 2 octets of the length.
pub(super) fn message(kind: u8, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    put_header(kind, out);
    body(out);
    patch_length(start, out);
}

pub(super) fn put_header(kind: u8, out: &mut BytesMut) {
    let mut header = [0xff; HEADER_BYTES];
    header[HEADER_BYTES - 3..].copy_from_slice(&[0, 0, kind]);
    out.put_slice(&header);
}

/// Sets the length of the message that begins at `start` and ends with `out`.
pub(super) fn patch_length(start: usize, out: &mut BytesMut) {
    let length = octets16(out.len() - start);
    put_u16_at(start + HEADER_BYTES - 3, length, out);
}

pub(super) fn put_u16_at(at: usize, value: u16, out: &mut BytesMut) {
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// A length that limits elsewhere keep within 2 octets.
pub(super) fn octets16(length: usize) -> u16 {
    debug_assert!(u16::try_from(length).is_ok());
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn encode_capability(capability: &Capability, out: &mut Vec<u8>) {
    let code = match capability {
        Capability::Multiprotocol { .. } => capability::MULTIPROTOCOL,
        Capability::RouteRefresh => capability::ROUTE_REFRESH,
        Capability::ExtendedMessage => capability::EXTENDED_MESSAGE,
        Capability::GracefulRestart(_) => capability::GRACEFUL_RESTART,
        Capability::FourOctetAs(_) => capability::FOUR_OCTET_AS,
        Capability::EnhancedRouteRefresh => capability::ENHANCED_ROUTE_REFRESH,
        Capability::Hostname { .. } => capability::HOSTNAME,
        Capability::Unknown { code, .. } => *code,
    };
    out.extend_from_slice(&[code, 0]);
    let start = out.len();
    match capability {
        Capability::Multiprotocol { afi, safi } => {
            out.put_u16(*afi);
            out.extend_from_slice(&[0, *safi]);
        }
        Capability::RouteRefresh
        | Capability::ExtendedMessage
        | Capability::EnhancedRouteRefresh => {}
        Capability::GracefulRestart(graceful) => {
            let bits = u16::from(graceful.restarting) << 15
                | u16::from(graceful.notification) << 14
                | graceful.restart_time.min(0x0fff);
            out.put_u16(bits);
            for family in graceful.families.iter().take(63) {
                out.put_u16(family.family.afi());
                let bits = if family.forwarding { 0x80 } else { 0 };
                out.extend_from_slice(&[family.family.safi(), bits]);
            }
        }
        Capability::FourOctetAs(asn) => out.put_u32(asn.0),
        Capability::Hostname { host, domain } => {
            // Both and their lengths have to fit 255 octets.
            let host = &host[..host.floor_char_boundary(253)];
            let domain = &domain[..domain.floor_char_boundary(253 - host.len())];
            for name in [host, domain] {
                out.push(u8::try_from(name.len()).unwrap_or_default());
                out.extend_from_slice(name.as_bytes());
            }
        }
        Capability::Unknown { value, .. } => {
            out.extend_from_slice(&value[..value.len().min(255)]);
        }
    }
    out[start - 1] = u8::try_from(out.len() - start).unwrap_or(u8::MAX);
}
