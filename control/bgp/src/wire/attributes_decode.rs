//! From values found in an UPDATE to owned attributes: AS paths merged (RFC 6793), lists that mean sets made canonical.

use super::as_path::{AsPath, AsSegmentKind};
use super::attribute_table::Found;
use super::{
    Aggregator, Attributes, ClusterId, Community, ExtendedCommunity, LargeCommunity, NextHop,
    Origin, RareAttributes,
};
use crate::types::Asn;

impl Found<'_> {
    /// The attributes with this next hop. Unknown ones are moved out: ask once.
    pub(super) fn take_attributes(&mut self, next_hop: NextHop, as4: bool) -> Attributes {
        let found = self;
        let as_path = found.as_path.unwrap_or_default();
        let (as_path, aggregator) = if as4 {
            (AsPath::from_wire(as_path), found.aggregator)
        } else {
            merge_as4(as_path, found)
        };
        let has_rare = aggregator.is_some()
            || found.originator_id.is_some()
            || !found.cluster_list.is_empty()
            || !found.extended_communities.is_empty()
            || !found.large_communities.is_empty()
            || !found.unknown.is_empty();
        let rare = has_rare.then(|| {
            found.unknown.sort_unstable_by_key(|unknown| unknown.code);
            Box::new(RareAttributes {
                aggregator,
                originator_id: found.originator_id,
                cluster_list: list(found.cluster_list, |raw| ClusterId(u32::from_be_bytes(raw))),
                extended_communities: set(found.extended_communities, ExtendedCommunity),
                large_communities: set(found.large_communities, large_community),
                unknown: core::mem::take(&mut found.unknown).into(),
            })
        });
        Attributes {
            // Both are mandatory: a message without them never gets here.
            origin: found.origin.unwrap_or(Origin::Incomplete),
            as_path: as_path.unwrap_or_default(),
            atomic_aggregate: found.atomic_aggregate,
            next_hop,
            med: found.med,
            local_pref: found.local_pref,
            communities: set(found.communities, |raw| Community(u32::from_be_bytes(raw))),
            rare,
        }
    }
}

/// RFC 6793 4.2.3: what a 2-octet speaker passed on, put together with what it could not read.
fn merge_as4(as_path: &[u8], found: &Found<'_>) -> (Option<AsPath>, Option<Aggregator>) {
    let path = AsPath::from_wire_as2(as_path);
    let aggregator = match (found.aggregator, found.as4_aggregator) {
        // A 2-octet speaker aggregated behind the 4-octet one: both AS4 attributes are out of date.
        (Some(aggregator), Some(_)) if aggregator.asn != Asn::TRANS => {
            return (path, Some(aggregator));
        }
        (Some(_), Some(aggregator)) => Some(aggregator),
        (aggregator, _) => aggregator,
    };
    let path = match (path, found.as4_path) {
        (Some(path), Some(as4_path)) => Some(merge_paths(path, as4_path)),
        (path, _) => path,
    };
    (path, aggregator)
}

fn merge_paths(path: AsPath, as4_path: &[u8]) -> AsPath {
    // Confederation segments do not belong there (RFC 6793 6).
    let Some(as4_path) = AsPath::from_wire(as4_path).map(|path| path.without_confederation())
    else {
        return path;
    };
    let Some(mut extra) = path.hops().checked_sub(as4_path.hops()) else {
        return path;
    };
    let mut segments: Vec<(AsSegmentKind, Vec<Asn>)> = Vec::new();
    for segment in path.segments() {
        let asns: Vec<Asn> = match segment.kind {
            // Leading or next to a segment that is prepended.
            AsSegmentKind::ConfedSequence | AsSegmentKind::ConfedSet => segment.asns().collect(),
            _ if extra == 0 => break,
            AsSegmentKind::Set => segment.asns().collect(),
            AsSegmentKind::Sequence => segment.asns().take(extra).collect(),
        };
        extra -= extra.min(match segment.kind {
            AsSegmentKind::Sequence => asns.len(),
            _ => segment.hops(),
        });
        segments.push((segment.kind, asns));
    }
    for (i, segment) in as4_path.segments().enumerate() {
        match segments.last_mut() {
            // One sequence that was cut in two is one again.
            Some((AsSegmentKind::Sequence, asns))
                if i == 0 && segment.kind == AsSegmentKind::Sequence =>
            {
                asns.extend(segment.asns());
            }
            _ => segments.push((segment.kind, segment.asns().collect())),
        }
    }
    AsPath::from_segments(segments)
}

fn list<const N: usize, T>(raw: &[u8], item: impl Fn([u8; N]) -> T) -> Box<[T]> {
    raw.as_chunks::<N>()
        .0
        .iter()
        .map(|raw| item(*raw))
        .collect()
}

/// A list that means a set: sorted, each item once, so that equal sets are equal attributes.
fn set<const N: usize, T: Ord + Copy>(raw: &[u8], item: impl Fn([u8; N]) -> T) -> Box<[T]> {
    let items = list(raw, item);
    if items.is_sorted_by(|a, b| a < b) {
        return items;
    }
    let mut items = items.into_vec();
    items.sort_unstable();
    items.dedup();
    items.into()
}

fn large_community(raw: [u8; 12]) -> LargeCommunity {
    let (parts, _) = raw.as_chunks::<4>();
    let part = |i: usize| u32::from_be_bytes(parts[i]);
    LargeCommunity {
        global: part(0),
        local1: part(1),
        local2: part(2),
    }
}
