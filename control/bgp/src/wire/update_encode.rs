//! UPDATE, encoding: attributes once per block, as many prefixes per message as fit (RFC 4271 4.3, RFC 4760, RFC 6793).

use bytes::{BufMut, BytesMut};

use super::attribute_table::{attribute, flags};
use super::decoder::{HEADER_BYTES, MAX_MESSAGE_BYTES, message_type};
use super::encode::{AS_TRANS, message, octets16, patch_length, put_header, put_u16_at};
use super::{
    Aggregator, AsPath, Attributes, Negotiated, NextHop, Origin, RareAttributes, UnknownAttribute,
    nlri,
};
use crate::types::{AddressFamily, Asn, Family, RouterId};

/// How a peer wants its UPDATEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodeOptions {
    /// AS numbers have 4 octets (RFC 6793).
    pub as4: bool,
    /// Longest message in octets: [`MAX_MESSAGE_BYTES`] or
    /// [`MAX_EXTENDED_MESSAGE_BYTES`](super::MAX_EXTENDED_MESSAGE_BYTES).
    pub max_message_bytes: usize,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            as4: true,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }
}

impl From<&Negotiated> for EncodeOptions {
    fn from(negotiated: &Negotiated) -> Self {
        Self {
            as4: negotiated.as4,
            max_message_bytes: negotiated.max_send_bytes(),
        }
    }
}

/// Why routes can't be announced. They have to be withdrawn instead, if they were announced before (RFC 8654 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The attributes leave no room for a prefix.
    #[error(
        "the attributes need a message of {bytes} bytes with a single prefix, the peer accepts {limit}"
    )]
    AttributesTooLarge {
        /// Bytes of a message with one prefix of full length.
        bytes: usize,
        /// Bytes the peer accepts.
        limit: usize,
    },
    /// The next hop is of the other family than the prefixes; RFC 8950 is not spoken.
    #[error("the next hop is not of the address family of the prefixes")]
    NextHopFamily,
}

/// Octets of the two length fields of an UPDATE.
const LENGTH_FIELDS_BYTES: usize = 4;
/// Octets of the longest MP_REACH_NLRI without prefixes: attribute header, family, two next hops, the reserved octet.
const MP_REACH_BYTES: usize = 4 + 3 + 1 + 32 + 1;

/// Writes UPDATE messages for peers that want them the same way. Keeps a buffer, so that nothing is allocated per prefix or
/// per message.
#[derive(Clone, Debug)]
pub struct UpdateWriter {
    options: EncodeOptions,
    /// The encoded attributes but MP_REACH_NLRI.
    block: Vec<u8>,
}

impl UpdateWriter {
    /// A writer.
    #[must_use]
    pub fn new(options: EncodeOptions) -> Self {
        Self {
            options,
            block: Vec::new(),
        }
    }

    /// How the messages are written.
    #[must_use]
    pub fn options(&self) -> EncodeOptions {
        self.options
    }

    /// Appends messages that announce the prefixes with these attributes, and returns how many messages that were. IPv4
    /// prefixes go into the NLRI field, IPv6 prefixes into MP_REACH_NLRI, which comes first (RFC 7606 5.1).
    ///
    /// # Errors
    ///
    /// Nothing has been written.
    pub fn announce<P: AddressFamily>(
        &mut self,
        attributes: &Attributes,
        prefixes: impl IntoIterator<Item = P>,
        out: &mut BytesMut,
    ) -> Result<usize, EncodeError> {
        let classic = match (P::FAMILY, attributes.next_hop) {
            (Family::Ipv4Unicast, NextHop::V4(_)) => true,
            (Family::Ipv6Unicast, NextHop::V6(_) | NextHop::V6LinkLocal { .. }) => false,
            _ => return Err(EncodeError::NextHopFamily),
        };
        self.block.clear();
        encode_attributes(attributes, classic, self.options.as4, &mut self.block);

        let limit = self.options.max_message_bytes;
        let reach_bytes = if classic { 0 } else { MP_REACH_BYTES };
        let fixed = HEADER_BYTES + LENGTH_FIELDS_BYTES + reach_bytes + self.block.len();
        let bytes = fixed + 1 + P::BYTES;
        if bytes > limit {
            return Err(EncodeError::AttributesTooLarge { bytes, limit });
        }
        let mut prefixes = prefixes.into_iter();
        let mut next = prefixes.next();
        let mut messages = 0;
        while next.is_some() {
            let start = out.len();
            put_header(message_type::UPDATE, out);
            out.put_u16(0);
            out.put_u16(0);
            let attributes_start = out.len();
            if classic {
                out.put_slice(&self.block);
                let length = octets16(out.len() - attributes_start);
                put_u16_at(attributes_start - 2, length, out);
                next = put_prefixes(next, &mut prefixes, start + limit, out);
            } else {
                let reach = AttributeStart::put(flags::OPTIONAL, attribute::MP_REACH_NLRI, out);
                put_reach_header(attributes.next_hop, out);
                next = put_prefixes(next, &mut prefixes, start + limit - self.block.len(), out);
                reach.finish(out);
                out.put_slice(&self.block);
                let length = octets16(out.len() - attributes_start);
                put_u16_at(attributes_start - 2, length, out);
            }
            patch_length(start, out);
            messages += 1;
        }
        Ok(messages)
    }

    /// Appends messages that withdraw the prefixes, and returns how many messages that were.
    pub fn withdraw<P: AddressFamily>(
        &mut self,
        prefixes: impl IntoIterator<Item = P>,
        out: &mut BytesMut,
    ) -> usize {
        let limit = self.options.max_message_bytes;
        let mut prefixes = prefixes.into_iter();
        let mut next = prefixes.next();
        let mut messages = 0;
        while next.is_some() {
            let start = out.len();
            put_header(message_type::UPDATE, out);
            out.put_u16(0);
            let field_start = out.len();
            match P::FAMILY {
                Family::Ipv4Unicast => {
                    // The length of the attributes follows.
                    next = put_prefixes(next, &mut prefixes, start + limit - 2, out);
                    let length = octets16(out.len() - field_start);
                    put_u16_at(field_start - 2, length, out);
                    out.put_u16(0);
                }
                Family::Ipv6Unicast => {
                    out.put_u16(0);
                    let unreach =
                        AttributeStart::put(flags::OPTIONAL, attribute::MP_UNREACH_NLRI, out);
                    out.put_u16(P::FAMILY.afi());
                    out.put_u8(P::FAMILY.safi());
                    next = put_prefixes(next, &mut prefixes, start + limit, out);
                    unreach.finish(out);
                    let length = octets16(out.len() - field_start - 2);
                    put_u16_at(field_start, length, out);
                }
            }
            patch_length(start, out);
            messages += 1;
        }
        messages
    }

    /// Appends the End-of-RIB marker of a family (RFC 4724 2).
    pub(super) fn end_of_rib(family: Family, out: &mut BytesMut) {
        message(message_type::UPDATE, out, |out| match family {
            Family::Ipv4Unicast => out.put_u32(0),
            Family::Ipv6Unicast => {
                out.put_u16(0);
                out.put_u16(6);
                out.put_slice(&[flags::OPTIONAL, attribute::MP_UNREACH_NLRI, 3]);
                out.put_u16(family.afi());
                out.put_u8(family.safi());
            }
        });
    }
}

/// Appends prefixes up to the end of `out` being `end`; returns the first one that did not fit.
fn put_prefixes<P: AddressFamily>(
    first: Option<P>,
    rest: &mut impl Iterator<Item = P>,
    end: usize,
    out: &mut BytesMut,
) -> Option<P> {
    let mut next = first;
    while let Some(prefix) = next {
        if out.len() + nlri::encoded_len(prefix) > end {
            break;
        }
        nlri::encode(prefix, out);
        next = rest.next();
    }
    next
}

/// AFI, SAFI, next hop and the reserved octet of MP_REACH_NLRI (RFC 4760 3, RFC 2545 3).
fn put_reach_header(next_hop: NextHop, out: &mut BytesMut) {
    let family = Family::Ipv6Unicast;
    out.put_u16(family.afi());
    out.put_u8(family.safi());
    match next_hop {
        NextHop::V4(addr) => {
            // Refused before: kept whole so that the message stays well-formed.
            out.put_u8(16);
            out.put_slice(&addr.to_ipv6_mapped().octets());
        }
        NextHop::V6(addr) => {
            out.put_u8(16);
            out.put_slice(&addr.octets());
        }
        NextHop::V6LinkLocal { global, link_local } => {
            out.put_u8(32);
            out.put_slice(&global.octets());
            out.put_slice(&link_local.octets());
        }
    }
    out.put_u8(0);
}

/// An attribute whose length is known only when it is written.
struct AttributeStart {
    at: usize,
}

impl AttributeStart {
    /// Room for flags, type and an extended length.
    fn put(attribute_flags: u8, code: u8, out: &mut BytesMut) -> Self {
        let at = out.len();
        out.put_slice(&[attribute_flags, code, 0, 0]);
        Self { at }
    }

    /// Sets the length, extended only if it has to be.
    fn finish(self, out: &mut BytesMut) {
        let value = self.at + 4;
        let length = out.len() - value;
        if let Ok(length) = u8::try_from(length) {
            out[self.at + 2] = length;
            out.copy_within(value.., value - 1);
            out.truncate(out.len() - 1);
        } else {
            out[self.at] |= flags::EXTENDED_LENGTH;
            put_u16_at(self.at + 2, octets16(length), out);
        }
    }
}

/// Appends the attributes in ascending order of type code (RFC 4271 5), without MP_REACH_NLRI.
fn encode_attributes(attributes: &Attributes, next_hop: bool, as4: bool, out: &mut Vec<u8>) {
    const WELL_KNOWN: u8 = flags::TRANSITIVE;
    const OPTIONAL: u8 = flags::OPTIONAL;

    let origin = match attributes.origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    };
    out.extend_from_slice(&[WELL_KNOWN, attribute::ORIGIN, 1, origin]);
    encode_as_path(&attributes.as_path, as4, out);
    if let (true, NextHop::V4(addr)) = (next_hop, attributes.next_hop) {
        out.extend_from_slice(&[WELL_KNOWN, attribute::NEXT_HOP, 4]);
        out.extend_from_slice(&addr.octets());
    }
    if let Some(med) = attributes.med {
        put_u32(OPTIONAL, attribute::MULTI_EXIT_DISC, med, out);
    }
    if let Some(local_pref) = attributes.local_pref {
        put_u32(WELL_KNOWN, attribute::LOCAL_PREF, local_pref, out);
    }
    if attributes.atomic_aggregate {
        out.extend_from_slice(&[WELL_KNOWN, attribute::ATOMIC_AGGREGATE, 0]);
    }
    let aggregator = attributes.rare.as_ref().and_then(|rare| rare.aggregator);
    if let Some(aggregator) = aggregator {
        encode_aggregator(aggregator, as4, out);
    }
    if !attributes.communities.is_empty() {
        put_list(
            attribute::COMMUNITIES,
            flags::OPTIONAL | flags::TRANSITIVE,
            &attributes.communities,
            |community| community.0.to_be_bytes(),
            out,
        );
    }
    let needs_as4_path = !as4 && attributes.as_path.needs_as4();
    match &attributes.rare {
        Some(rare) => {
            let as4_path = needs_as4_path.then_some(&attributes.as_path);
            encode_rare(rare, as4_path, as4, out);
        }
        None if needs_as4_path => encode_as4_path(&attributes.as_path, out),
        None => {}
    }
}

fn encode_rare(rare: &RareAttributes, as4_path: Option<&AsPath>, as4: bool, out: &mut Vec<u8>) {
    const OPTIONAL_TRANSITIVE: u8 = flags::OPTIONAL | flags::TRANSITIVE;

    if let Some(RouterId(id)) = rare.originator_id {
        put_u32(flags::OPTIONAL, attribute::ORIGINATOR_ID, id, out);
    }
    if !rare.cluster_list.is_empty() {
        put_list(
            attribute::CLUSTER_LIST,
            flags::OPTIONAL,
            &rare.cluster_list,
            |cluster| cluster.0.to_be_bytes(),
            out,
        );
    }
    let mut unknown = rare.unknown.iter().peekable();
    put_unknown(&mut unknown, attribute::EXTENDED_COMMUNITIES, out);
    if !rare.extended_communities.is_empty() {
        put_list(
            attribute::EXTENDED_COMMUNITIES,
            OPTIONAL_TRANSITIVE,
            &rare.extended_communities,
            |community| community.0,
            out,
        );
    }
    if let Some(path) = as4_path {
        encode_as4_path(path, out);
    }
    if let Some(aggregator) = rare.aggregator.filter(|a| !as4 && needs_as4(a.asn)) {
        put_head(OPTIONAL_TRANSITIVE, attribute::AS4_AGGREGATOR, 8, out);
        out.extend_from_slice(&aggregator.asn.0.to_be_bytes());
        out.extend_from_slice(&aggregator.router_id.0.to_be_bytes());
    }
    put_unknown(&mut unknown, attribute::LARGE_COMMUNITY, out);
    if !rare.large_communities.is_empty() {
        put_list(
            attribute::LARGE_COMMUNITY,
            OPTIONAL_TRANSITIVE,
            &rare.large_communities,
            |community| {
                let mut raw = [0; 12];
                let parts = [community.global, community.local1, community.local2];
                for (octets, part) in raw.as_chunks_mut::<4>().0.iter_mut().zip(parts) {
                    *octets = part.to_be_bytes();
                }
                raw
            },
            out,
        );
    }
    put_unknown(&mut unknown, u8::MAX, out);
}

/// AS_PATH with as many octets per AS as the peer reads; numbers that don't fit become AS_TRANS (RFC 6793 4.2.2).
fn encode_as_path(path: &AsPath, as4: bool, out: &mut Vec<u8>) {
    let wire = path.as_wire();
    if as4 {
        put_head(flags::TRANSITIVE, attribute::AS_PATH, wire.len(), out);
        out.extend_from_slice(wire);
        return;
    }
    let length = path.segments().map(|segment| 2 + segment.count() * 2).sum();
    put_head(flags::TRANSITIVE, attribute::AS_PATH, length, out);
    for segment in path.segments() {
        out.push(segment.kind.code());
        out.push(u8::try_from(segment.count()).unwrap_or(u8::MAX));
        for asn in segment.asns() {
            out.extend_from_slice(&as2(asn).to_be_bytes());
        }
    }
}

/// RFC 6793 4.2.2: without confederation segments, and not at all if nothing is left.
fn encode_as4_path(path: &AsPath, out: &mut Vec<u8>) {
    let path = path.without_confederation();
    if path.is_empty() {
        return;
    }
    let wire = path.as_wire();
    let attribute_flags = flags::OPTIONAL | flags::TRANSITIVE;
    put_head(attribute_flags, attribute::AS4_PATH, wire.len(), out);
    out.extend_from_slice(wire);
}

fn encode_aggregator(aggregator: Aggregator, as4: bool, out: &mut Vec<u8>) {
    let attribute_flags = flags::OPTIONAL | flags::TRANSITIVE;
    if as4 {
        put_head(attribute_flags, attribute::AGGREGATOR, 8, out);
        out.extend_from_slice(&aggregator.asn.0.to_be_bytes());
    } else {
        put_head(attribute_flags, attribute::AGGREGATOR, 6, out);
        out.extend_from_slice(&as2(aggregator.asn).to_be_bytes());
    }
    out.extend_from_slice(&aggregator.router_id.0.to_be_bytes());
}

fn as2(asn: Asn) -> u16 {
    u16::try_from(asn.0).unwrap_or(AS_TRANS)
}

fn needs_as4(asn: Asn) -> bool {
    u16::try_from(asn.0).is_err()
}

/// Appends the unknown attributes below a type code.
fn put_unknown<'a>(
    unknown: &mut core::iter::Peekable<impl Iterator<Item = &'a UnknownAttribute>>,
    below: u8,
    out: &mut Vec<u8>,
) {
    while let Some(next) = unknown.next_if(|next| next.code < below || below == u8::MAX) {
        let attribute_flags = next.flags & !flags::EXTENDED_LENGTH;
        put_head(attribute_flags, next.code, next.value.len(), out);
        out.extend_from_slice(&next.value);
    }
}

fn put_u32(attribute_flags: u8, code: u8, value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[attribute_flags, code, 4]);
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_list<T: Copy, const N: usize>(
    code: u8,
    attribute_flags: u8,
    items: &[T],
    raw: impl Fn(T) -> [u8; N],
    out: &mut Vec<u8>,
) {
    put_head(attribute_flags, code, items.len() * N, out);
    for item in items {
        out.extend_from_slice(&raw(*item));
    }
}

/// Flags, type and length, which is extended only if it has to be. A value beyond 2 octets of length makes a block that fits
/// no message and is refused as a whole.
fn put_head(attribute_flags: u8, code: u8, length: usize, out: &mut Vec<u8>) {
    if let Ok(length) = u8::try_from(length) {
        out.extend_from_slice(&[attribute_flags, code, length]);
    } else {
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        out.extend_from_slice(&[attribute_flags | flags::EXTENDED_LENGTH, code]);
        out.extend_from_slice(&length.to_be_bytes());
    }
}
