//! NOTIFICATION (RFC 4271 4.5, 6): the catalogue of error codes and subcodes, and what the data means.

use core::fmt;
use core::fmt::Write as _;

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data, as the code defines it.
    pub data: Box<[u8]>,
}

/// Error codes (RFC 4271 4.5, RFC 7313 5, RFC 9687 3).
pub mod code {
    /// Message Header Error.
    pub const MESSAGE_HEADER: u8 = 1;
    /// OPEN Message Error.
    pub const OPEN: u8 = 2;
    /// UPDATE Message Error.
    pub const UPDATE: u8 = 3;
    /// Hold Timer Expired.
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    /// Finite State Machine Error.
    pub const FSM: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send Hold Timer Expired (RFC 9687).
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;
}

/// Subcodes of Message Header Error (RFC 4271 6.1).
pub mod header {
    /// The marker is not all ones.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// Data: the length field.
    pub const BAD_LENGTH: u8 = 2;
    /// Data: the type field.
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of OPEN Message Error (RFC 4271 6.2, RFC 5492 5).
pub mod open {
    /// No more specific subcode fits.
    pub const UNSPECIFIC: u8 = 0;
    /// Data: the version this speaker supports, 2 octets.
    pub const UNSUPPORTED_VERSION: u8 = 1;
    /// The AS number is not the one expected, or zero.
    pub const BAD_PEER_AS: u8 = 2;
    /// The identifier is zero, or ours within one AS.
    pub const BAD_BGP_IDENTIFIER: u8 = 3;
    /// An optional parameter is not known.
    pub const UNSUPPORTED_PARAMETER: u8 = 4;
    /// A hold time of 1 or 2 seconds, or below what is configured.
    pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
    /// A capability is missing that this speaker requires. Data: the capability.
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
}

/// Subcodes of UPDATE Message Error (RFC 4271 6.3).
pub mod update {
    /// Lengths don't add up, or an attribute came twice.
    pub const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
    /// Data: the attribute.
    pub const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
    /// Data: the type code of the missing attribute.
    pub const MISSING_WELL_KNOWN: u8 = 3;
    /// Data: the attribute.
    pub const ATTRIBUTE_FLAGS: u8 = 4;
    /// Data: the attribute.
    pub const ATTRIBUTE_LENGTH: u8 = 5;
    /// Data: the attribute.
    pub const INVALID_ORIGIN: u8 = 6;
    /// Data: the attribute.
    pub const INVALID_NEXT_HOP: u8 = 8;
    /// Data: the attribute.
    pub const OPTIONAL_ATTRIBUTE: u8 = 9;
    /// A prefix of the NLRI or the withdrawn routes field is wrong.
    pub const INVALID_NETWORK: u8 = 10;
    /// The AS path is wrong.
    pub const MALFORMED_AS_PATH: u8 = 11;
}

/// Subcodes of Finite State Machine Error (RFC 6608); the data is the type of the unexpected message.
pub mod fsm {
    /// In OpenSent.
    pub const OPEN_SENT: u8 = 1;
    /// In OpenConfirm.
    pub const OPEN_CONFIRM: u8 = 2;
    /// In Established.
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of Cease (RFC 4486, RFC 8538, RFC 9384).
pub mod cease {
    /// Data, optional: AFI, SAFI and the limit.
    pub const MAX_PREFIXES: u8 = 1;
    /// May carry a shutdown communication (RFC 9003).
    pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
    /// The peer was removed from the configuration.
    pub const PEER_DECONFIGURED: u8 = 3;
    /// May carry a shutdown communication (RFC 9003).
    pub const ADMINISTRATIVE_RESET: u8 = 4;
    /// This speaker does not want the connection.
    pub const CONNECTION_REJECTED: u8 = 5;
    /// A configuration change needs a new session.
    pub const OTHER_CONFIGURATION_CHANGE: u8 = 6;
    /// This connection lost against another one of the same peers (RFC 4271 6.8).
    pub const CONNECTION_COLLISION: u8 = 7;
    /// Out of memory or the like.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// Graceful restart must not keep the routes (RFC 8538 3.1). Data: the code, subcode and data it wraps.
    pub const HARD_RESET: u8 = 9;
    /// BFD reports the path down (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// Subcodes of ROUTE-REFRESH Message Error (RFC 7313 5).
pub mod refresh {
    /// Data: the whole message.
    pub const INVALID_LENGTH: u8 = 1;
}

/// Longest shutdown communication in bytes (RFC 9003 2).
pub const MAX_SHUTDOWN_BYTES: usize = 255;

/// One error code: its name and its subcodes by name.
struct CodeRow {
    code: u8,
    name: &'static str,
    subcodes: &'static [(u8, &'static str)],
}

const CODES: &[CodeRow] = &[
    CodeRow {
        code: code::MESSAGE_HEADER,
        name: "Message Header Error",
        subcodes: &[
            (header::NOT_SYNCHRONIZED, "Connection Not Synchronized"),
            (header::BAD_LENGTH, "Bad Message Length"),
            (header::BAD_TYPE, "Bad Message Type"),
        ],
    },
    CodeRow {
        code: code::OPEN,
        name: "OPEN Message Error",
        subcodes: &[
            (open::UNSUPPORTED_VERSION, "Unsupported Version Number"),
            (open::BAD_PEER_AS, "Bad Peer AS"),
            (open::BAD_BGP_IDENTIFIER, "Bad BGP Identifier"),
            (
                open::UNSUPPORTED_PARAMETER,
                "Unsupported Optional Parameter",
            ),
            (5, "Authentication Failure (deprecated)"),
            (open::UNACCEPTABLE_HOLD_TIME, "Unacceptable Hold Time"),
            (open::UNSUPPORTED_CAPABILITY, "Unsupported Capability"),
            (11, "Role Mismatch"),
        ],
    },
    CodeRow {
        code: code::UPDATE,
        name: "UPDATE Message Error",
        subcodes: &[
            (update::MALFORMED_ATTRIBUTE_LIST, "Malformed Attribute List"),
            (
                update::UNRECOGNIZED_WELL_KNOWN,
                "Unrecognized Well-known Attribute",
            ),
            (update::MISSING_WELL_KNOWN, "Missing Well-known Attribute"),
            (update::ATTRIBUTE_FLAGS, "Attribute Flags Error"),
            (update::ATTRIBUTE_LENGTH, "Attribute Length Error"),
            (update::INVALID_ORIGIN, "Invalid ORIGIN Attribute"),
            (7, "AS Routing Loop (deprecated)"),
            (update::INVALID_NEXT_HOP, "Invalid NEXT_HOP Attribute"),
            (update::OPTIONAL_ATTRIBUTE, "Optional Attribute Error"),
            (update::INVALID_NETWORK, "Invalid Network Field"),
            (update::MALFORMED_AS_PATH, "Malformed AS_PATH"),
        ],
    },
    CodeRow {
        code: code::HOLD_TIMER_EXPIRED,
        name: "Hold Timer Expired",
        subcodes: &[],
    },
    CodeRow {
        code: code::FSM,
        name: "Finite State Machine Error",
        subcodes: &[
            (
                fsm::OPEN_SENT,
                "Receive Unexpected Message in OpenSent State",
            ),
            (
                fsm::OPEN_CONFIRM,
                "Receive Unexpected Message in OpenConfirm State",
            ),
            (
                fsm::ESTABLISHED,
                "Receive Unexpected Message in Established State",
            ),
        ],
    },
    CodeRow {
        code: code::CEASE,
        name: "Cease",
        subcodes: &[
            (cease::MAX_PREFIXES, "Maximum Number of Prefixes Reached"),
            (cease::ADMINISTRATIVE_SHUTDOWN, "Administrative Shutdown"),
            (cease::PEER_DECONFIGURED, "Peer De-configured"),
            (cease::ADMINISTRATIVE_RESET, "Administrative Reset"),
            (cease::CONNECTION_REJECTED, "Connection Rejected"),
            (
                cease::OTHER_CONFIGURATION_CHANGE,
                "Other Configuration Change",
            ),
            (
                cease::CONNECTION_COLLISION,
                "Connection Collision Resolution",
            ),
            (cease::OUT_OF_RESOURCES, "Out of Resources"),
            (cease::HARD_RESET, "Hard Reset"),
            (cease::BFD_DOWN, "BFD Down"),
        ],
    },
    CodeRow {
        code: code::ROUTE_REFRESH,
        name: "ROUTE-REFRESH Message Error",
        subcodes: &[(refresh::INVALID_LENGTH, "Invalid Message Length")],
    },
    CodeRow {
        code: code::SEND_HOLD_TIMER_EXPIRED,
        name: "Send Hold Timer Expired",
        subcodes: &[],
    },
];

impl Notification {
    /// A notification without data.
    #[must_use]
    pub fn new(code: u8, subcode: u8) -> Self {
        Self::with_data(code, subcode, &[])
    }

    /// A notification with data.
    #[must_use]
    pub fn with_data(code: u8, subcode: u8, data: &[u8]) -> Self {
        Self {
            code,
            subcode,
            data: data.into(),
        }
    }

    /// Cease with a shutdown communication (RFC 9003), cut to [`MAX_SHUTDOWN_BYTES`] at a character boundary. Without a
    /// text there is no data. Meant for Administrative Shutdown and Administrative Reset.
    #[must_use]
    pub fn cease_with_text(subcode: u8, text: &str) -> Self {
        if text.is_empty() {
            return Self::new(code::CEASE, subcode);
        }
        let text = &text[..text.floor_char_boundary(MAX_SHUTDOWN_BYTES)];
        let mut data = Vec::with_capacity(1 + text.len());
        data.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        data.extend_from_slice(text.as_bytes());
        Self::with_data(code::CEASE, subcode, &data)
    }

    /// This notification wrapped into a hard reset, which asks the peer not to keep our routes (RFC 8538 3.1).
    #[must_use]
    pub fn into_hard_reset(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::with_data(code::CEASE, cease::HARD_RESET, &data)
    }

    /// Whether this is a hard reset (RFC 8538 3.1).
    #[must_use]
    pub fn is_hard_reset(&self) -> bool {
        (self.code, self.subcode) == (code::CEASE, cease::HARD_RESET)
    }

    /// What a hard reset wraps, if it says so.
    #[must_use]
    pub fn hard_reset_cause(&self) -> Option<Self> {
        match &*self.data {
            [code, subcode, data @ ..] if self.is_hard_reset() => {
                Some(Self::with_data(*code, *subcode, data))
            }
            _ => None,
        }
    }

    /// The shutdown communication (RFC 9003), if there is one and it is UTF-8.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<&str> {
        let carries = matches!(
            (self.code, self.subcode),
            (
                code::CEASE,
                cease::ADMINISTRATIVE_SHUTDOWN | cease::ADMINISTRATIVE_RESET
            )
        );
        let (&length, text) = self.data.split_first().filter(|_| carries)?;
        // Octets behind the text are none of ours; a length beyond the data makes it invalid.
        let text = text.get(..usize::from(length))?;
        core::str::from_utf8(text)
            .ok()
            .filter(|text| !text.is_empty())
    }

    /// Name of the error code, if it is known.
    #[must_use]
    pub fn code_name(&self) -> Option<&'static str> {
        self.row().map(|row| row.name)
    }

    /// Name of the error subcode, if it is known.
    #[must_use]
    pub fn subcode_name(&self) -> Option<&'static str> {
        let (_, name) = self
            .row()?
            .subcodes
            .iter()
            .find(|(subcode, _)| *subcode == self.subcode)?;
        Some(name)
    }

    fn row(&self) -> Option<&'static CodeRow> {
        CODES.iter().find(|row| row.code == self.code)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code_name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "error code {}", self.code)?,
        }
        match self.subcode_name() {
            Some(name) => write!(f, ": {name}")?,
            None if self.subcode != 0 => write!(f, ": subcode {}", self.subcode)?,
            None => {}
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        if let Some(cause) = self.hard_reset_cause() {
            // One level only: a peer must not be able to make this recurse.
            return match cause.subcode_name().or_else(|| cause.code_name()) {
                Some(name) => write!(f, ", because of {name} ({}/{})", cause.code, cause.subcode),
                None => write!(f, ", because of {}/{}", cause.code, cause.subcode),
            };
        }
        if let Some(text) = self.shutdown_text() {
            // The peer wrote this text: control characters must not reach a terminal (RFC 9003 5).
            f.write_str(", \"")?;
            for c in text.chars() {
                f.write_char(if c.is_control() { ' ' } else { c })?;
            }
            f.write_char('"')?;
        }
        Ok(())
    }
}
