//! What a decoder answers to a message that is wrong: reset the session, or react to one attribute (RFC 7606 2).

use core::fmt;
use std::borrow::Cow;

use super::{Notification, attribute_table};

/// A message that ends the session. It carries the NOTIFICATION to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{notification}: {reason}")]
pub struct MessageError {
    /// What to send before closing.
    pub notification: Notification,
    /// What is wrong, for logs and `causeway bgp neighbors`.
    pub reason: Cow<'static, str>,
}

impl MessageError {
    pub(super) fn new(
        code: u8,
        subcode: u8,
        data: &[u8],
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            notification: Notification::with_data(code, subcode, data),
            reason: reason.into(),
        }
    }
}

/// What becomes of an UPDATE with a fault, weakest first (RFC 7606 2). Session reset is a [`MessageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Approach {
    /// The prefix is left out (RFC 4271 6.3, semantically incorrect NLRI).
    IgnorePrefix,
    /// The attribute is left out, the routes are used.
    AttributeDiscard,
    /// Every announced prefix of the message counts as withdrawn.
    TreatAsWithdraw,
}

/// What is wrong with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Optional or transitive bit (RFC 7606 3 c).
    Flags,
    /// Length of the value (RFC 7606 7).
    Length,
    /// The value itself.
    Value(&'static str),
    /// A second occurrence (RFC 7606 3 g).
    Duplicate,
    /// A mandatory attribute is not there (RFC 7606 3 d).
    Missing,
    /// An external peer must not send it (RFC 7606 7.5, 7.9, 7.10).
    NotFromExternal,
    /// A 4-octet speaker must not send it (RFC 6793 4.1).
    NotFromFourOctetSpeaker,
    /// The attribute is longer than the list of attributes (RFC 7606 4).
    Overrun,
    /// A family that was not negotiated.
    Family,
    /// A multicast address as a prefix (RFC 4271 6.3).
    Multicast,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flags => "wrong flags",
            Self::Length => "wrong length",
            Self::Value(what) => what,
            Self::Duplicate => "appears more than once",
            Self::Missing => "is missing",
            Self::NotFromExternal => "is not accepted from an external peer",
            Self::NotFromFourOctetSpeaker => "is not accepted from a 4-octet AS speaker",
            Self::Overrun => "is longer than the attribute list",
            Self::Family => "carries a family that was not negotiated",
            Self::Multicast => "carries a multicast prefix",
        })
    }
}

/// What was done about one fault of an UPDATE, short of a session reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reaction {
    /// Attribute type code; 0 for the NLRI and withdrawn routes fields.
    pub attribute: u8,
    /// What is wrong.
    pub fault: Fault,
    /// What was done.
    pub approach: Approach,
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match attribute_table::name(self.attribute) {
            Some(name) => write!(f, "{name} {}", self.fault)?,
            None if self.attribute == 0 => write!(f, "NLRI {}", self.fault)?,
            None => write!(f, "attribute {} {}", self.attribute, self.fault)?,
        }
        f.write_str(match self.approach {
            Approach::IgnorePrefix => ": prefix ignored",
            Approach::AttributeDiscard => ": attribute discarded",
            Approach::TreatAsWithdraw => ": treated as withdrawn",
        })
    }
}
