//! Messages: framing, decoding, encoding.

mod attributes;
mod capability;
mod message;
mod notification;

pub use attributes::{
    Aggregator, AsPath, AsSegment, AsSegmentKind, Attributes, ClusterId, Community,
    ExtendedCommunity, LargeCommunity, NextHop, Origin, RareAttributes, UnknownAttribute,
};
pub use capability::{Capability, GracefulRestartCapability, GracefulRestartFamily};
pub use message::{Message, Open, Reach, RefreshKind, RouteRefresh, Update};
pub use notification::Notification;
