//! Messages: framing, decoding, encoding. Pure functions of bytes and of what the two OPENs agreed on.
//!
//! - [`Decoder`] takes bytes of one connection and yields [`Decoded`] messages; a [`MessageError`] carries the NOTIFICATION
//!   that ends the session, and a [`Reaction`] says what RFC 7606 asked for short of that.
//! - `encode_*` and [`UpdateWriter`] append messages to a buffer.
//! - Path attributes stand in one table, `attribute_table`: code, flags, length, whom they are taken from, what a malformed
//!   one costs.

mod as_path;
mod attribute_table;
mod attributes;
mod attributes_decode;
mod capability;
mod decoder;
mod encode;
mod error;
mod message;
mod negotiated;
mod nlri;
pub mod notification;
mod open_decode;
mod update_decode;
mod update_encode;

#[cfg(test)]
mod tests;

pub use as_path::{AsPath, AsSegment, AsSegmentKind, AsSegments};
pub use attribute_table::{attribute, flags, name as attribute_name};
pub use attributes::{
    Aggregator, Attributes, ClusterId, Community, ExtendedCommunity, LargeCommunity, LinkBandwidth,
    NextHop, Origin, RareAttributes, UnknownAttribute,
};
pub use capability::{Capability, GracefulRestartCapability, GracefulRestartFamily};
pub use decoder::{
    Decoded, Decoder, DecoderConfig, HEADER_BYTES, MAX_EXTENDED_MESSAGE_BYTES, MAX_MESSAGE_BYTES,
    message_type,
};
pub use encode::{
    encode_end_of_rib, encode_keepalive, encode_notification, encode_open, encode_route_refresh,
};
pub use error::{Approach, Fault, MessageError, Reaction};
pub use message::{Message, Open, Reach, RefreshKind, RouteRefresh, Update};
pub use negotiated::{FamilySet, Negotiated, SessionKind};
pub use notification::Notification;
pub use update_decode::MAX_REACTIONS_PER_UPDATE;
pub use update_encode::{EncodeError, EncodeOptions, UpdateWriter};
