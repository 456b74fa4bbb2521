//! The table of path attributes: one row per attribute that this speaker knows, with everything RFC 7606 asks about it.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::as_path::AsSegmentKind;
use super::error::{Approach, Fault};
use super::negotiated::SessionKind;
use super::notification::update as subcode;
use super::{Aggregator, NextHop, Origin, UnknownAttribute};
use crate::types::{Asn, Family, RouterId};

/// Attribute flags (RFC 4271 4.3).
pub mod flags {
    /// Not well-known.
    pub const OPTIONAL: u8 = 0x80;
    /// Passed on by speakers that don't know it.
    pub const TRANSITIVE: u8 = 0x40;
    /// A speaker on the way did not know it.
    pub const PARTIAL: u8 = 0x20;
    /// The length has 2 octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
}

/// Attribute type codes (IANA "BGP Path Attributes").
pub mod attribute {
    /// RFC 4271.
    pub const ORIGIN: u8 = 1;
    /// RFC 4271.
    pub const AS_PATH: u8 = 2;
    /// RFC 4271.
    pub const NEXT_HOP: u8 = 3;
    /// RFC 4271.
    pub const MULTI_EXIT_DISC: u8 = 4;
    /// RFC 4271.
    pub const LOCAL_PREF: u8 = 5;
    /// RFC 4271.
    pub const ATOMIC_AGGREGATE: u8 = 6;
    /// RFC 4271.
    pub const AGGREGATOR: u8 = 7;
    /// RFC 1997.
    pub const COMMUNITIES: u8 = 8;
    /// RFC 4456.
    pub const ORIGINATOR_ID: u8 = 9;
    /// RFC 4456.
    pub const CLUSTER_LIST: u8 = 10;
    /// RFC 4760.
    pub const MP_REACH_NLRI: u8 = 14;
    /// RFC 4760.
    pub const MP_UNREACH_NLRI: u8 = 15;
    /// RFC 4360.
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    /// RFC 6793.
    pub const AS4_PATH: u8 = 17;
    /// RFC 6793.
    pub const AS4_AGGREGATOR: u8 = 18;
    /// RFC 8092.
    pub const LARGE_COMMUNITY: u8 = 32;
}

use attribute as a;

/// What a session decides about attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) session: SessionKind,
    /// AS_PATH and AGGREGATOR carry 4 octets per AS.
    pub(super) as4: bool,
}

/// Values as they were found, borrowed from the message; owned attributes are made only for routes that are used.
#[derive(Default)]
pub(super) struct Found<'a> {
    pub(super) origin: Option<Origin>,
    pub(super) as_path: Option<&'a [u8]>,
    pub(super) as4_path: Option<&'a [u8]>,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) atomic_aggregate: bool,
    pub(super) aggregator: Option<Aggregator>,
    pub(super) as4_aggregator: Option<Aggregator>,
    pub(super) communities: &'a [u8],
    pub(super) originator_id: Option<RouterId>,
    pub(super) cluster_list: &'a [u8],
    pub(super) extended_communities: &'a [u8],
    pub(super) large_communities: &'a [u8],
    pub(super) mp_reach: Option<MpReach<'a>>,
    pub(super) mp_unreach: Option<MpUnreach<'a>>,
    pub(super) unknown: Vec<UnknownAttribute>,
}

/// MP_REACH_NLRI (RFC 4760 3).
#[derive(Clone, Copy)]
pub(super) struct MpReach<'a> {
    /// `None`: a family this speaker does not know.
    pub(super) family: Option<Family>,
    /// The fault if the next hop has the right length but is no address of a host.
    pub(super) next_hop: Result<NextHop, Fault>,
    pub(super) nlri: &'a [u8],
}

/// MP_UNREACH_NLRI (RFC 4760 4).
#[derive(Clone, Copy)]
pub(super) struct MpUnreach<'a> {
    /// `None`: a family this speaker does not know.
    pub(super) family: Option<Family>,
    pub(super) nlri: &'a [u8],
}

/// Which lengths a value may have.
#[derive(Clone, Copy)]
pub(super) enum Length {
    /// The decoder of the row decides.
    Any,
    /// This many octets.
    Exactly(usize),
    /// At least this many octets.
    AtLeast(usize),
    /// A multiple, not zero.
    MultipleOf(usize),
    /// One number if AS numbers have 2 octets, another if they have 4.
    ByAsWidth(usize, usize),
}

impl Length {
    fn admits(self, length: usize, context: Context) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(octets) => length == octets,
            Self::AtLeast(octets) => length >= octets,
            Self::MultipleOf(octets) => length != 0 && length.is_multiple_of(octets),
            Self::ByAsWidth(two, four) => length == if context.as4 { four } else { two },
        }
    }
}

/// What a malformed value costs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The prefixes can't be found: the session ends (RFC 7606 5.3, 7.11, 7.12).
    Reset,
    /// The message is used as withdrawals, or the attribute left out.
    React(Approach),
}

/// From whom an attribute is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Anyone,
    /// Internal peers and members of the confederation (RFC 5065 4).
    OwnAsOrConfederation,
    /// Internal peers only.
    OwnAs,
    /// Speakers with 2-octet AS numbers only (RFC 6793 4.1).
    TwoOctetSpeaker,
}

/// One attribute.
pub(super) struct Row {
    pub(super) code: u8,
    pub(super) name: &'static str,
    /// Optional and transitive bits.
    flags: u8,
    from: From,
    length: Length,
    /// What a wrong length or value costs; wrong flags cost at least treat-as-withdraw (RFC 7606 3 c).
    pub(super) malformed: Malformed,
    /// UPDATE error subcode, where the value is wrong and the session has to end.
    pub(super) subcode: u8,
    decode: for<'a> fn(&mut Found<'a>, &'a [u8], Context) -> Result<(), Fault>,
}

const WELL_KNOWN: u8 = flags::TRANSITIVE;
const OPTIONAL: u8 = flags::OPTIONAL;
const OPTIONAL_TRANSITIVE: u8 = flags::OPTIONAL | flags::TRANSITIVE;
const WITHDRAW: Malformed = Malformed::React(Approach::TreatAsWithdraw);
const DISCARD: Malformed = Malformed::React(Approach::AttributeDiscard);

#[rustfmt::skip]
static ROWS: [Row; 16] = [
    Row { code: a::ORIGIN, name: "ORIGIN", flags: WELL_KNOWN, from: From::Anyone,
          length: Length::Exactly(1), malformed: WITHDRAW, subcode: subcode::INVALID_ORIGIN, decode: origin },
    Row { code: a::AS_PATH, name: "AS_PATH", flags: WELL_KNOWN, from: From::Anyone,
          length: Length::Any, malformed: WITHDRAW, subcode: subcode::MALFORMED_AS_PATH, decode: as_path },
    Row { code: a::NEXT_HOP, name: "NEXT_HOP", flags: WELL_KNOWN, from: From::Anyone,
          length: Length::Exactly(4), malformed: WITHDRAW, subcode: subcode::INVALID_NEXT_HOP, decode: next_hop },
    Row { code: a::MULTI_EXIT_DISC, name: "MULTI_EXIT_DISC", flags: OPTIONAL, from: From::Anyone,
          length: Length::Exactly(4), malformed: WITHDRAW, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: med },
    Row { code: a::LOCAL_PREF, name: "LOCAL_PREF", flags: WELL_KNOWN, from: From::OwnAsOrConfederation,
          length: Length::Exactly(4), malformed: WITHDRAW, subcode: subcode::ATTRIBUTE_LENGTH, decode: local_pref },
    Row { code: a::ATOMIC_AGGREGATE, name: "ATOMIC_AGGREGATE", flags: WELL_KNOWN, from: From::Anyone,
          length: Length::Exactly(0), malformed: DISCARD, subcode: subcode::ATTRIBUTE_LENGTH, decode: atomic_aggregate },
    Row { code: a::AGGREGATOR, name: "AGGREGATOR", flags: OPTIONAL_TRANSITIVE, from: From::Anyone,
          length: Length::ByAsWidth(6, 8), malformed: DISCARD, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: aggregator },
    Row { code: a::COMMUNITIES, name: "COMMUNITIES", flags: OPTIONAL_TRANSITIVE, from: From::Anyone,
          length: Length::MultipleOf(4), malformed: WITHDRAW, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: communities },
    Row { code: a::ORIGINATOR_ID, name: "ORIGINATOR_ID", flags: OPTIONAL, from: From::OwnAs,
          length: Length::Exactly(4), malformed: WITHDRAW, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: originator_id },
    Row { code: a::CLUSTER_LIST, name: "CLUSTER_LIST", flags: OPTIONAL, from: From::OwnAs,
          length: Length::MultipleOf(4), malformed: WITHDRAW, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: cluster_list },
    Row { code: a::MP_REACH_NLRI, name: "MP_REACH_NLRI", flags: OPTIONAL, from: From::Anyone,
          length: Length::AtLeast(5), malformed: Malformed::Reset, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: mp_reach },
    Row { code: a::MP_UNREACH_NLRI, name: "MP_UNREACH_NLRI", flags: OPTIONAL, from: From::Anyone,
          length: Length::AtLeast(3), malformed: Malformed::Reset, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: mp_unreach },
    Row { code: a::EXTENDED_COMMUNITIES, name: "EXTENDED_COMMUNITIES", flags: OPTIONAL_TRANSITIVE, from: From::Anyone,
          length: Length::MultipleOf(8), malformed: WITHDRAW, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: extended_communities },
    Row { code: a::AS4_PATH, name: "AS4_PATH", flags: OPTIONAL_TRANSITIVE, from: From::TwoOctetSpeaker,
          length: Length::AtLeast(6), malformed: DISCARD, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: as4_path },
    Row { code: a::AS4_AGGREGATOR, name: "AS4_AGGREGATOR", flags: OPTIONAL_TRANSITIVE, from: From::TwoOctetSpeaker,
          length: Length::Exactly(8), malformed: DISCARD, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: as4_aggregator },
    Row { code: a::LARGE_COMMUNITY, name: "LARGE_COMMUNITY", flags: OPTIONAL_TRANSITIVE, from: From::Anyone,
          length: Length::MultipleOf(12), malformed: WITHDRAW, subcode: subcode::OPTIONAL_ATTRIBUTE, decode: large_communities },
];

/// Row number by type code, 255 where there is none.
static INDEX: [u8; 256] = {
    let mut index = [u8::MAX; 256];
    let mut i = 0;
    while i < ROWS.len() {
        index[ROWS[i].code as usize] = i as u8;
        i += 1;
    }
    index
};

/// The row of an attribute, if this speaker knows it.
pub(super) fn row(code: u8) -> Option<&'static Row> {
    ROWS.get(usize::from(INDEX[usize::from(code)]))
}

/// The name of an attribute, if this speaker knows it.
#[must_use]
pub fn name(code: u8) -> Option<&'static str> {
    row(code).map(|row| row.name)
}

/// What is wrong with an attribute and what it costs.
#[derive(Clone, Copy)]
pub(super) struct Verdict {
    pub(super) fault: Fault,
    pub(super) cost: Malformed,
}

impl Row {
    /// Takes the value into `found`.
    pub(super) fn take<'a>(
        &self,
        found: &mut Found<'a>,
        flags: u8,
        value: &'a [u8],
        context: Context,
    ) -> Result<(), Verdict> {
        self.check_sender(context)?;
        if flags & OPTIONAL_TRANSITIVE != self.flags {
            let cost = match self.malformed {
                Malformed::Reset => Malformed::Reset,
                Malformed::React(_) => WITHDRAW,
            };
            return Err(Verdict {
                fault: Fault::Flags,
                cost,
            });
        }
        let result = if self.length.admits(value.len(), context) {
            (self.decode)(found, value, context)
        } else {
            Err(Fault::Length)
        };
        result.map_err(|fault| Verdict {
            fault,
            cost: self.malformed,
        })
    }

    fn check_sender(&self, context: Context) -> Result<(), Verdict> {
        let fault = match (self.from, context.session) {
            (From::Anyone, _)
            | (From::OwnAs, SessionKind::Internal)
            | (From::OwnAsOrConfederation, SessionKind::Internal | SessionKind::Confederation) => {
                return Ok(());
            }
            (From::TwoOctetSpeaker, _) if !context.as4 => return Ok(()),
            (From::TwoOctetSpeaker, _) => Fault::NotFromFourOctetSpeaker,
            (From::OwnAs | From::OwnAsOrConfederation, _) => Fault::NotFromExternal,
        };
        Err(Verdict {
            fault,
            cost: DISCARD,
        })
    }
}

fn origin<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.origin = Some(match value {
        [0] => Origin::Igp,
        [1] => Origin::Egp,
        [2] => Origin::Incomplete,
        _ => return Err(Fault::Value("has an undefined value")),
    });
    Ok(())
}

fn as_path<'a>(found: &mut Found<'a>, value: &'a [u8], context: Context) -> Result<(), Fault> {
    if context.as4 {
        check_path::<4>(value, context.session)?;
    } else {
        check_path::<2>(value, context.session)?;
    }
    found.as_path = Some(value);
    Ok(())
}

/// RFC 7606 7.2 (form), RFC 7607 2 (AS 0), RFC 5065 5 (confederation segments).
fn check_path<const WIDTH: usize>(raw: &[u8], session: SessionKind) -> Result<(), Fault> {
    let mut rest = raw;
    let mut confederation = false;
    while let [kind, count, tail @ ..] = rest {
        let Some(kind) = AsSegmentKind::from_code(*kind) else {
            return Err(Fault::Value("has an unknown segment type"));
        };
        if *count == 0 {
            return Err(Fault::Value("has an empty segment"));
        }
        let Some((numbers, tail)) = tail.split_at_checked(usize::from(*count) * WIDTH) else {
            return Err(Fault::Value("has a segment that is longer than the path"));
        };
        if numbers.as_chunks::<WIDTH>().0.contains(&[0; WIDTH]) {
            return Err(Fault::Value("contains AS 0"));
        }
        confederation |= kind.is_confederation();
        rest = tail;
    }
    if !rest.is_empty() {
        return Err(Fault::Value("has an octet left over"));
    }
    match session {
        SessionKind::External if confederation => Err(Fault::Value(
            "has confederation segments from outside the confederation",
        )),
        SessionKind::Confederation
            if raw.first() != Some(&AsSegmentKind::ConfedSequence.code()) =>
        {
            Err(Fault::Value(
                "does not begin with the member AS of the confederation peer",
            ))
        }
        _ => Ok(()),
    }
}

fn next_hop<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    let addr = Ipv4Addr::from_bits(u32_of(value));
    if !is_host4(addr) {
        return Err(Fault::Value("is not the address of a host"));
    }
    found.next_hop = Some(addr);
    Ok(())
}

fn med<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.med = Some(u32_of(value));
    Ok(())
}

fn local_pref<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.local_pref = Some(u32_of(value));
    Ok(())
}

fn atomic_aggregate<'a>(found: &mut Found<'a>, _: &'a [u8], _: Context) -> Result<(), Fault> {
    found.atomic_aggregate = true;
    Ok(())
}

fn aggregator<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.aggregator = Some(aggregator_of(value)?);
    Ok(())
}

fn as4_aggregator<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.as4_aggregator = Some(aggregator_of(value)?);
    Ok(())
}

fn aggregator_of(value: &[u8]) -> Result<Aggregator, Fault> {
    let (asn, router_id) = value
        .split_at_checked(value.len() - 4)
        .ok_or(Fault::Length)?;
    let asn = asn
        .iter()
        .fold(0, |asn, octet| asn << 8 | u32::from(*octet));
    if asn == 0 {
        return Err(Fault::Value("contains AS 0"));
    }
    Ok(Aggregator {
        asn: Asn(asn),
        router_id: RouterId(u32_of(router_id)),
    })
}

fn communities<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.communities = value;
    Ok(())
}

fn originator_id<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.originator_id = Some(RouterId(u32_of(value)));
    Ok(())
}

fn cluster_list<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.cluster_list = value;
    Ok(())
}

fn extended_communities<'a>(
    found: &mut Found<'a>,
    value: &'a [u8],
    _: Context,
) -> Result<(), Fault> {
    found.extended_communities = value;
    Ok(())
}

fn large_communities<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    found.large_communities = value;
    Ok(())
}

/// RFC 6793 6. Confederation segments are cut out when the paths are merged.
fn as4_path<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    check_path::<4>(value, SessionKind::Internal)?;
    found.as4_path = Some(value);
    Ok(())
}

fn mp_reach<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    let [afi0, afi1, safi, length, rest @ ..] = value else {
        return Err(Fault::Length);
    };
    let family = Family::from_afi_safi(u16::from_be_bytes([*afi0, *afi1]), *safi);
    let (next_hop, rest) = rest
        .split_at_checked(usize::from(*length))
        .ok_or(Fault::Value(
            "has a next hop that is longer than the attribute",
        ))?;
    // The octet that RFC 2858 used for SNPAs is ignored.
    let (_, nlri) = rest.split_first().ok_or(Fault::Length)?;
    let next_hop = match family {
        None => Err(Fault::Family),
        Some(Family::Ipv4Unicast) => mp_next_hop4(next_hop)?,
        Some(Family::Ipv6Unicast) => mp_next_hop6(next_hop)?,
    };
    found.mp_reach = Some(MpReach {
        family,
        next_hop,
        nlri,
    });
    Ok(())
}

const NEXT_HOP_LENGTH: Fault = Fault::Value("has a next hop of the wrong length");
const NEXT_HOP_HOST: Fault = Fault::Value("has a next hop that is not the address of a host");

/// IPv6 next hops for IPv4 prefixes (RFC 8950) are never negotiated: their length is wrong.
fn mp_next_hop4(raw: &[u8]) -> Result<Result<NextHop, Fault>, Fault> {
    let raw: [u8; 4] = raw.try_into().map_err(|_| NEXT_HOP_LENGTH)?;
    let addr = Ipv4Addr::from(raw);
    Ok(if is_host4(addr) {
        Ok(NextHop::V4(addr))
    } else {
        Err(NEXT_HOP_HOST)
    })
}

/// One global address, or a global and a link-local one (RFC 2545 3). Some speakers have no global address and send the
/// unspecified or the link-local one in its place; a second address that is not link-local is of no use and left out.
fn mp_next_hop6(raw: &[u8]) -> Result<Result<NextHop, Fault>, Fault> {
    let (first, second) = match raw.as_chunks::<16>() {
        ([first], []) => (Ipv6Addr::from(*first), None),
        ([first, second], []) => (
            Ipv6Addr::from(*first),
            Some(Ipv6Addr::from(*second)).filter(Ipv6Addr::is_unicast_link_local),
        ),
        _ => return Err(NEXT_HOP_LENGTH),
    };
    Ok(match second {
        Some(link_local) if first.is_unspecified() || first.is_unicast_link_local() => {
            Ok(NextHop::V6(link_local))
        }
        _ if first.is_unspecified() || first.is_loopback() || first.is_multicast() => {
            Err(NEXT_HOP_HOST)
        }
        Some(link_local) => Ok(NextHop::V6LinkLocal {
            global: first,
            link_local,
        }),
        None => Ok(NextHop::V6(first)),
    })
}

fn mp_unreach<'a>(found: &mut Found<'a>, value: &'a [u8], _: Context) -> Result<(), Fault> {
    let [afi0, afi1, safi, nlri @ ..] = value else {
        return Err(Fault::Length);
    };
    found.mp_unreach = Some(MpUnreach {
        family: Family::from_afi_safi(u16::from_be_bytes([*afi0, *afi1]), *safi),
        nlri,
    });
    Ok(())
}

/// Whether the address can be that of a host on a network (RFC 4271 6.3, RFC 1122 3.2.1.3): not "this network", loopback,
/// multicast, reserved or broadcast.
fn is_host4(addr: Ipv4Addr) -> bool {
    !matches!(addr.octets()[0], 0 | 127 | 224..)
}

fn u32_of(value: &[u8]) -> u32 {
    value
        .first_chunk()
        .map_or(0, |octets| u32::from_be_bytes(*octets))
}
