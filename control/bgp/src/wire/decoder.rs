//! The decoder of one connection: framing (RFC 4271 4.1, 6.1), then the message by its type.

use std::borrow::Cow;

use bytes::{Buf, BytesMut};

use super::error::{MessageError, Reaction};
use super::negotiated::{Negotiated, SessionKind};
use super::notification::{code, fsm, header, refresh};
use super::update_decode::{self, UpdateContext};
use super::{Capability, Message, Notification, Open, RefreshKind, RouteRefresh, open_decode};
use crate::types::{Asn, Family};

/// Octets of the header: marker, length, type.
pub const HEADER_BYTES: usize = 19;
/// Octets of the marker.
const MARKER_BYTES: usize = 16;
/// Longest message without the extended message capability (RFC 4271 4.1); always that of OPEN (RFC 8654 3).
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Longest message with the extended message capability (RFC 8654 3).
pub const MAX_EXTENDED_MESSAGE_BYTES: usize = 65_535;

/// Message types (RFC 4271 4.1, RFC 2918 3).
pub mod message_type {
    /// OPEN.
    pub const OPEN: u8 = 1;
    /// UPDATE.
    pub const UPDATE: u8 = 2;
    /// NOTIFICATION.
    pub const NOTIFICATION: u8 = 3;
    /// KEEPALIVE.
    pub const KEEPALIVE: u8 = 4;
    /// ROUTE-REFRESH.
    pub const ROUTE_REFRESH: u8 = 5;
}

/// What a decoder has to know beside the two OPENs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecoderConfig {
    /// The other member ASes of our confederation (RFC 5065), none without one.
    pub confederation_members: Box<[Asn]>,
    /// Routes of an external peer have to begin with its AS, else they count as withdrawn (RFC 4271 6.3). Off for route
    /// servers, which don't add theirs.
    pub enforce_first_as: bool,
}

impl DecoderConfig {
    /// How a peer of this AS relates to us.
    #[must_use]
    pub fn session_kind(&self, local: Asn, remote: Asn) -> SessionKind {
        if local == remote {
            SessionKind::Internal
        } else if self.confederation_members.contains(&remote) {
            SessionKind::Confederation
        } else {
            SessionKind::External
        }
    }
}

/// A decoded message, and what was done about its faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The message.
    pub message: Message,
    /// What RFC 7606 asked for; empty for nearly every message.
    pub reactions: Vec<Reaction>,
}

/// Decodes what one peer sends on one connection. Learns what was negotiated from the peer's OPEN.
#[derive(Clone, Debug)]
pub struct Decoder {
    local: Open,
    config: DecoderConfig,
    negotiated: Option<Negotiated>,
    update: Option<UpdateContext>,
    max_bytes: usize,
    /// The rest of an UPDATE that announced prefixes with two next hops.
    second: Option<Message>,
}

impl Decoder {
    /// A decoder for a connection on which we send (or sent) the OPEN `local`.
    #[must_use]
    pub fn new(local: &Open, config: DecoderConfig) -> Self {
        // What we announced binds us, whether the peer announced it or not (RFC 8654 4).
        let extended = local.capabilities.contains(&Capability::ExtendedMessage);
        Self {
            local: local.clone(),
            config,
            negotiated: None,
            update: None,
            max_bytes: if extended {
                MAX_EXTENDED_MESSAGE_BYTES
            } else {
                MAX_MESSAGE_BYTES
            },
            second: None,
        }
    }

    /// What the two OPENs agree on, once the peer's has been decoded.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// Takes the next message off `input`. `None`: more bytes are needed; call again until then.
    ///
    /// ROUTE-REFRESH messages of unknown subtype or family are skipped (RFC 7313 5, RFC 2918 4). An UPDATE that announces
    /// IPv4 prefixes with two next hops comes out as two.
    ///
    /// # Errors
    ///
    /// The message ends the session: send the notification of the error, then close. The decoder is of no further use.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Decoded>, MessageError> {
        if let Some(message) = self.second.take() {
            return Ok(Some(Decoded {
                message,
                reactions: Vec::new(),
            }));
        }
        loop {
            let Some(header) = Header::parse(input, self.max_bytes)? else {
                return Ok(None);
            };
            if input.len() < header.length {
                input.reserve(header.length - input.len());
                return Ok(None);
            }
            let decoded = self.message(header.kind, &input[..header.length]);
            input.advance(header.length);
            if let Some(decoded) = decoded? {
                return Ok(Some(decoded));
            }
        }
    }

    /// Decodes a whole message, header included; `None` if it is to be ignored.
    fn message(&mut self, kind: u8, message: &[u8]) -> Result<Option<Decoded>, MessageError> {
        let body = &message[HEADER_BYTES..];
        let decoded = match kind {
            message_type::OPEN => Message::Open(self.open(body)?),
            message_type::UPDATE => return self.update(body).map(Some),
            message_type::NOTIFICATION => match body {
                [code, subcode, data @ ..] => {
                    Message::Notification(Notification::with_data(*code, *subcode, data))
                }
                _ => return Err(bad_length(message)),
            },
            message_type::KEEPALIVE => Message::Keepalive,
            message_type::ROUTE_REFRESH => match self.route_refresh(message)? {
                Some(refresh) => Message::RouteRefresh(refresh),
                None => return Ok(None),
            },
            _ => return Err(bad_type(kind)),
        };
        Ok(Some(Decoded {
            message: decoded,
            reactions: Vec::new(),
        }))
    }

    /// The first OPEN decides; a further one is for the session to refuse.
    fn open(&mut self, body: &[u8]) -> Result<Open, MessageError> {
        let open = open_decode::decode(body)?;
        if self.negotiated.is_none() {
            let negotiated = Negotiated::new(&self.local, &open);
            let session = self.config.session_kind(self.local.asn, open.asn);
            let enforce = self.config.enforce_first_as && session == SessionKind::External;
            self.update = Some(UpdateContext {
                session,
                as4: negotiated.as4,
                families: negotiated.families,
                first_as: enforce.then_some(open.asn),
            });
            self.negotiated = Some(negotiated);
        }
        Ok(open)
    }

    fn update(&mut self, body: &[u8]) -> Result<Decoded, MessageError> {
        // What an UPDATE means is not known before the peer's OPEN.
        let context = self.update.ok_or_else(|| {
            MessageError::new(
                code::FSM,
                fsm::OPEN_SENT,
                &[message_type::UPDATE],
                "UPDATE before OPEN",
            )
        })?;
        let decoded = update_decode::decode(body, context)?;
        self.second = decoded.second.map(Message::Update);
        Ok(Decoded {
            message: Message::Update(decoded.update),
            reactions: decoded.reactions,
        })
    }

    fn route_refresh(&self, message: &[u8]) -> Result<Option<RouteRefresh>, MessageError> {
        // A speaker that did not announce it does not know the type (RFC 2918 4).
        if !self.local.capabilities.contains(&Capability::RouteRefresh) {
            return Err(bad_type(message_type::ROUTE_REFRESH));
        }
        let enhanced = self
            .negotiated
            .as_ref()
            .is_some_and(|negotiated| negotiated.enhanced_refresh);
        let &[afi0, afi1, subtype, safi] = &message[HEADER_BYTES..] else {
            return Err(if enhanced {
                MessageError::new(
                    code::ROUTE_REFRESH,
                    refresh::INVALID_LENGTH,
                    message,
                    "the length of a ROUTE-REFRESH message is 23",
                )
            } else {
                bad_length(message)
            });
        };
        let kind = match subtype {
            // Without RFC 7313 the octet is reserved and ignored (RFC 2918 3).
            _ if !enhanced => RefreshKind::Request,
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            _ => return Ok(None),
        };
        let family = Family::from_afi_safi(u16::from_be_bytes([afi0, afi1]), safi);
        Ok(family.map(|family| RouteRefresh { family, kind }))
    }
}

/// A checked header.
struct Header {
    /// Octets of the message, header included.
    length: usize,
    kind: u8,
}

impl Header {
    /// Checks as soon as there is enough to check, so that garbage is not waited for.
    fn parse(input: &[u8], max_bytes: usize) -> Result<Option<Self>, MessageError> {
        let marker = &input[..input.len().min(MARKER_BYTES)];
        if marker.iter().any(|octet| *octet != 0xff) {
            return Err(MessageError::new(
                code::MESSAGE_HEADER,
                header::NOT_SYNCHRONIZED,
                &[],
                "the marker is not all ones",
            ));
        }
        let Some([len0, len1, kind]) = input.get(MARKER_BYTES..HEADER_BYTES) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([*len0, *len1]));
        let admitted = match *kind {
            _ if length < HEADER_BYTES || length > max_bytes => false,
            message_type::OPEN => (29..=MAX_MESSAGE_BYTES).contains(&length),
            message_type::UPDATE => length >= 23,
            message_type::NOTIFICATION => length >= 21,
            message_type::KEEPALIVE => length == HEADER_BYTES,
            // Its own error tells about the length (RFC 7313 5).
            message_type::ROUTE_REFRESH => true,
            kind => return Err(bad_type(kind)),
        };
        if !admitted {
            return Err(bad_length(input));
        }
        Ok(Some(Self {
            length,
            kind: *kind,
        }))
    }
}

fn bad_length(message: &[u8]) -> MessageError {
    let length = message
        .get(MARKER_BYTES..MARKER_BYTES + 2)
        .unwrap_or_default();
    let number = length.iter().fold(0, |n, octet| n << 8 | u32::from(*octet));
    MessageError::new(
        code::MESSAGE_HEADER,
        header::BAD_LENGTH,
        length,
        format!("a message of its type does not have {number} octets"),
    )
}

fn bad_type(kind: u8) -> MessageError {
    let reason: Cow<'static, str> = format!("message type {kind} is not known").into();
    MessageError::new(code::MESSAGE_HEADER, header::BAD_TYPE, &[kind], reason)
}
