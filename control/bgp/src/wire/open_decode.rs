//! OPEN, decoding (RFC 4271 4.2 and 6.2, RFC 5492, RFC 9072).

use super::error::MessageError;
use super::notification::{code, open as subcode};
use super::{Capability, GracefulRestartCapability, GracefulRestartFamily, Open};
use crate::types::{Asn, Family, RouterId};

/// The version of this protocol.
pub(super) const VERSION: u8 = 4;
/// Optional parameter type of capabilities (RFC 5492 4).
pub(super) const PARAMETER_CAPABILITIES: u8 = 2;
/// "Non-Ext OP Type" of the extended format (RFC 9072 2).
pub(super) const PARAMETER_EXTENDED: u8 = 255;

/// Capability codes (IANA "Capability Codes").
pub(super) mod capability {
    pub(in crate::wire) const MULTIPROTOCOL: u8 = 1;
    pub(in crate::wire) const ROUTE_REFRESH: u8 = 2;
    pub(in crate::wire) const EXTENDED_MESSAGE: u8 = 6;
    pub(in crate::wire) const GRACEFUL_RESTART: u8 = 64;
    pub(in crate::wire) const FOUR_OCTET_AS: u8 = 65;
    pub(in crate::wire) const ENHANCED_ROUTE_REFRESH: u8 = 70;
    pub(in crate::wire) const HOSTNAME: u8 = 73;
}

/// Decodes the message behind its header; the header check has seen to its minimum length.
pub(super) fn decode(body: &[u8]) -> Result<Open, MessageError> {
    let Some(([version, as0, as1, hold0, hold1, id @ ..], parameters)) =
        body.split_first_chunk::<9>()
    else {
        return Err(malformed("the message is too short"));
    };
    if *version != VERSION {
        return Err(MessageError::new(
            code::OPEN,
            subcode::UNSUPPORTED_VERSION,
            &u16::from(VERSION).to_be_bytes(),
            format!("version {version} is not supported"),
        ));
    }
    let capabilities = parameters_of(parameters)?;
    let as2 = Asn(u16::from_be_bytes([*as0, *as1]).into());
    let mut open = Open {
        asn: as2,
        hold_time: u16::from_be_bytes([*hold0, *hold1]),
        router_id: RouterId(u32::from_be_bytes(*id)),
        capabilities,
    };
    open.asn = open.four_octet_as().unwrap_or(as2);
    if as2 == Asn::ZERO || open.asn == Asn::ZERO {
        return Err(refused(subcode::BAD_PEER_AS, "AS 0 is reserved (RFC 7607)"));
    }
    if matches!(open.hold_time, 1 | 2) {
        return Err(refused(
            subcode::UNACCEPTABLE_HOLD_TIME,
            "a hold time is 0 or at least 3 seconds",
        ));
    }
    if open.router_id == RouterId(0) {
        return Err(refused(
            subcode::BAD_BGP_IDENTIFIER,
            "the BGP identifier is zero (RFC 6286)",
        ));
    }
    Ok(open)
}

/// The optional parameters, in the short or the extended format (RFC 9072 2).
fn parameters_of(bytes: &[u8]) -> Result<Vec<Capability>, MessageError> {
    const LENGTH: &str = "the optional parameters don't fill the message";
    let (&length, rest) = bytes.split_first().ok_or_else(|| malformed(LENGTH))?;
    // The short length has no meaning in the extended format, except that zero means there are none.
    let (extended, mut rest) = match rest {
        [PARAMETER_EXTENDED, high, low, rest @ ..] if length != 0 => {
            if rest.len() != usize::from(u16::from_be_bytes([*high, *low])) {
                return Err(malformed(LENGTH));
            }
            (true, rest)
        }
        rest if rest.len() == usize::from(length) => (false, rest),
        _ => return Err(malformed(LENGTH)),
    };
    let mut capabilities = Vec::new();
    while !rest.is_empty() {
        let (kind, value, tail) = parameter(rest, extended)
            .ok_or_else(|| malformed("an optional parameter is longer than the message"))?;
        if kind != PARAMETER_CAPABILITIES {
            return Err(refused(
                subcode::UNSUPPORTED_PARAMETER,
                format!("optional parameter {kind} is not supported"),
            ));
        }
        capabilities_of(value, &mut capabilities)?;
        rest = tail;
    }
    Ok(capabilities)
}

fn parameter(bytes: &[u8], extended: bool) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (length, rest) = if extended {
        let (length, rest) = rest.split_first_chunk()?;
        (usize::from(u16::from_be_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first()?;
        (usize::from(*length), rest)
    };
    let (value, tail) = rest.split_at_checked(length)?;
    Some((*kind, value, tail))
}

fn capabilities_of(bytes: &[u8], out: &mut Vec<Capability>) -> Result<(), MessageError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (code, value, tail) = parameter(rest, false)
            .ok_or_else(|| malformed("a capability is longer than its parameter"))?;
        add(capability_of(code, value)?, out);
        rest = tail;
    }
    Ok(())
}

/// RFC 5492 4: an instance that repeats another one says nothing new. Of capabilities that hold one value the last instance
/// of graceful restart counts (RFC 4724 3) and the first one of the others.
fn add(capability: Capability, out: &mut Vec<Capability>) {
    let same_kind = |other: &Capability| match (&capability, other) {
        (Capability::GracefulRestart(_), Capability::GracefulRestart(_))
        | (Capability::FourOctetAs(_), Capability::FourOctetAs(_))
        | (Capability::Hostname { .. }, Capability::Hostname { .. }) => true,
        (one, other) => one == other,
    };
    match out.iter().position(same_kind) {
        Some(i) if matches!(capability, Capability::GracefulRestart(_)) => out[i] = capability,
        Some(_) => {}
        None => out.push(capability),
    }
}

fn capability_of(code: u8, value: &[u8]) -> Result<Capability, MessageError> {
    let decoded = match code {
        capability::MULTIPROTOCOL => match value {
            // The third octet is reserved and ignored (RFC 4760 8).
            [afi0, afi1, _, safi] => Some(Capability::Multiprotocol {
                afi: u16::from_be_bytes([*afi0, *afi1]),
                safi: *safi,
            }),
            _ => None,
        },
        capability::ROUTE_REFRESH => value.is_empty().then_some(Capability::RouteRefresh),
        capability::EXTENDED_MESSAGE => value.is_empty().then_some(Capability::ExtendedMessage),
        capability::GRACEFUL_RESTART => graceful_restart(value).map(Capability::GracefulRestart),
        capability::FOUR_OCTET_AS => value
            .try_into()
            .ok()
            .map(|asn| Capability::FourOctetAs(Asn(u32::from_be_bytes(asn)))),
        capability::ENHANCED_ROUTE_REFRESH => {
            value.is_empty().then_some(Capability::EnhancedRouteRefresh)
        }
        // A name is not worth a session: one that can't be read is kept as it came.
        capability::HOSTNAME => Some(hostname(value).unwrap_or_else(|| unknown(code, value))),
        _ => Some(unknown(code, value)),
    };
    decoded.ok_or_else(|| malformed(format!("capability {code} has a length of {}", value.len())))
}

fn unknown(code: u8, value: &[u8]) -> Capability {
    Capability::Unknown {
        code,
        value: value.into(),
    }
}

/// RFC 4724 3, RFC 8538 2. Families that this speaker does not know are left out.
fn graceful_restart(value: &[u8]) -> Option<GracefulRestartCapability> {
    let ([high, low], families) = value.split_first_chunk()?;
    let (families, []) = families.as_chunks::<4>() else {
        return None;
    };
    Some(GracefulRestartCapability {
        restarting: high & 0x80 != 0,
        notification: high & 0x40 != 0,
        restart_time: u16::from_be_bytes([high & 0x0f, *low]),
        families: families
            .iter()
            .filter_map(|[afi0, afi1, safi, bits]| {
                Some(GracefulRestartFamily {
                    family: Family::from_afi_safi(u16::from_be_bytes([*afi0, *afi1]), *safi)?,
                    forwarding: bits & 0x80 != 0,
                })
            })
            .collect(),
    })
}

fn hostname(value: &[u8]) -> Option<Capability> {
    let (host, rest) = text(value)?;
    let (domain, []) = text(rest)? else {
        return None;
    };
    Some(Capability::Hostname {
        host: host.into(),
        domain: domain.into(),
    })
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    Some((core::str::from_utf8(text).ok()?, rest))
}

fn malformed(reason: impl Into<std::borrow::Cow<'static, str>>) -> MessageError {
    refused(subcode::UNSPECIFIC, reason)
}

fn refused(subcode: u8, reason: impl Into<std::borrow::Cow<'static, str>>) -> MessageError {
    MessageError::new(code::OPEN, subcode, &[], reason)
}
