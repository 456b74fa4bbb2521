//! From advertisements to messages.

use bytes::BytesMut;

use super::config::RibSession;
use crate::types::{AddressFamily, Family};
use crate::wire::{
    Attributes, EncodeOptions, RefreshKind, RouteRefresh, UpdateWriter, encode_end_of_rib,
    encode_route_refresh,
};

/// A writer for a session.
pub(super) fn writer(session: &RibSession) -> UpdateWriter {
    UpdateWriter::new(EncodeOptions {
        as4: session.as4,
        max_message_bytes: usize::from(session.max_message_bytes),
    })
}

/// Appends UPDATEs that announce `prefixes`. What fits no message is withdrawn instead (RFC 8654 4).
pub(super) fn announce<A: AddressFamily>(
    out: &mut BytesMut,
    writer: &mut UpdateWriter,
    attributes: &Attributes,
    prefixes: &[A],
) {
    if writer
        .announce(attributes, prefixes.iter().copied(), out)
        .is_err()
    {
        withdraw(out, writer, prefixes);
    }
}

/// Appends UPDATEs that withdraw `prefixes`.
pub(super) fn withdraw<A: AddressFamily>(
    out: &mut BytesMut,
    writer: &mut UpdateWriter,
    prefixes: &[A],
) {
    writer.withdraw(prefixes.iter().copied(), out);
}

/// Appends the End-of-RIB marker (RFC 4724 2).
pub(super) fn end_of_rib(out: &mut BytesMut, family: Family) {
    encode_end_of_rib(family, out);
}

/// Appends BoRR or EoRR (RFC 7313 3.2).
pub(super) fn refresh_marker(out: &mut BytesMut, family: Family, kind: RefreshKind) {
    encode_route_refresh(RouteRefresh { family, kind }, out);
}
