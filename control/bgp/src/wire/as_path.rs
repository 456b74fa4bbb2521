//! AS_PATH (RFC 4271 4.3 and 5.1.2, RFC 5065): kept in wire form with 4-octet AS numbers, changed without parsing.

use core::fmt;

use crate::types::Asn;

/// Most AS numbers in one segment: its count is one octet.
const MAX_SEGMENT_ASNS: usize = 255;
/// Octets of an AS number.
const ASN_BYTES: usize = 4;
/// Octets of a segment header: type and count.
const HEADER_BYTES: usize = 2;

/// What kind of segment (RFC 4271 4.3, RFC 5065 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsSegmentKind {
    /// 1: AS_SET.
    Set,
    /// 2: AS_SEQUENCE.
    Sequence,
    /// 3: AS_CONFED_SEQUENCE.
    ConfedSequence,
    /// 4: AS_CONFED_SET.
    ConfedSet,
}

impl AsSegmentKind {
    /// The kind of a segment type octet.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Set),
            2 => Some(Self::Sequence),
            3 => Some(Self::ConfedSequence),
            4 => Some(Self::ConfedSet),
            _ => None,
        }
    }

    /// The segment type octet.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
            Self::ConfedSet => 4,
        }
    }

    /// Whether the segment belongs to a confederation (RFC 5065).
    #[must_use]
    pub const fn is_confederation(self) -> bool {
        matches!(self, Self::ConfedSequence | Self::ConfedSet)
    }
}

/// One segment of an AS path, borrowed from its [`AsPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsSegment<'a> {
    /// Kind.
    pub kind: AsSegmentKind,
    /// AS numbers, 4 octets each in network order; a multiple of 4 bytes, 1 to 255 numbers.
    pub raw: &'a [u8],
}

impl<'a> AsSegment<'a> {
    /// The AS numbers in order.
    pub fn asns(self) -> impl ExactSizeIterator<Item = Asn> + DoubleEndedIterator + Clone + 'a {
        let (numbers, _) = self.raw.as_chunks::<ASN_BYTES>();
        numbers
            .iter()
            .map(|number| Asn(u32::from_be_bytes(*number)))
    }

    /// How many AS numbers there are.
    #[must_use]
    pub const fn count(self) -> usize {
        self.raw.len() / ASN_BYTES
    }

    /// What the segment counts in the decision process: a set is 1 (RFC 4271 9.1.2.2 a), a confederation segment 0
    /// (RFC 5065 5.3).
    #[must_use]
    pub const fn hops(self) -> usize {
        match self.kind {
            AsSegmentKind::Sequence => self.count(),
            AsSegmentKind::Set => 1,
            AsSegmentKind::ConfedSequence | AsSegmentKind::ConfedSet => 0,
        }
    }
}

/// AS_PATH: segments in wire form with 4-octet AS numbers, well-formed by construction. Empty for a route of our own AS.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath(Box<[u8]>);

impl AsPath {
    /// The empty path.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// A path of one AS_SEQUENCE, or several if there are more than 255 numbers.
    #[must_use]
    pub fn sequence(asns: impl IntoIterator<Item = u32>) -> Self {
        Self::from_segments([(AsSegmentKind::Sequence, asns.into_iter().map(Asn).collect())])
    }

    /// A path of these segments. Empty ones are left out, long ones are split after 255 numbers.
    #[must_use]
    pub fn from_segments(segments: impl IntoIterator<Item = (AsSegmentKind, Vec<Asn>)>) -> Self {
        let mut raw = Vec::new();
        for (kind, asns) in segments {
            for part in asns.chunks(MAX_SEGMENT_ASNS) {
                push_header(&mut raw, kind, part.len());
                for asn in part {
                    raw.extend_from_slice(&asn.0.to_be_bytes());
                }
            }
        }
        Self(raw.into())
    }

    /// The path in wire form with 4-octet AS numbers, if it is well-formed: known segment types, no empty segment, no
    /// octet missing or left over (RFC 7606 7.2).
    #[must_use]
    pub fn from_wire(raw: &[u8]) -> Option<Self> {
        check_segments::<ASN_BYTES>(raw).then(|| Self(raw.into()))
    }

    /// The path in wire form with 2-octet AS numbers, widened.
    #[must_use]
    pub fn from_wire_as2(raw: &[u8]) -> Option<Self> {
        if !check_segments::<2>(raw) {
            return None;
        }
        let mut wide = Vec::with_capacity(raw.len() * 2);
        let mut rest = raw;
        while let [kind, count, tail @ ..] = rest {
            wide.extend_from_slice(&[*kind, *count]);
            let (numbers, tail) = tail.split_at_checked(usize::from(*count) * 2)?;
            for number in numbers.as_chunks::<2>().0 {
                wide.extend_from_slice(&[0, 0, number[0], number[1]]);
            }
            rest = tail;
        }
        Some(Self(wide.into()))
    }

    /// Wire form with 4-octet AS numbers.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no segment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The segments, nearest AS first.
    #[must_use]
    pub fn segments(&self) -> AsSegments<'_> {
        AsSegments(&self.0)
    }

    /// Every AS number of every segment.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + Clone + '_ {
        self.segments().flat_map(AsSegment::asns)
    }

    /// Length for the decision process (RFC 4271 9.1.2.2 a): sets count 1, confederation segments 0 (RFC 5065 5.3).
    #[must_use]
    pub fn hops(&self) -> usize {
        self.segments().map(AsSegment::hops).sum()
    }

    /// Whether the AS is anywhere in the path, confederation segments included.
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|other| other == asn)
    }

    /// How often the AS is in the path, confederation segments included.
    #[must_use]
    pub fn occurrences(&self, asn: Asn) -> usize {
        self.asns().filter(|other| *other == asn).count()
    }

    /// The neighbouring AS, which MED compares within (RFC 4271 9.1.2.2 c): the first number of a leading AS_SEQUENCE,
    /// with confederation segments skipped (RFC 5065 5.3). `None` for a path that is empty or starts with a set.
    #[must_use]
    pub fn first_as(&self) -> Option<Asn> {
        let first = self
            .segments()
            .find(|segment| !segment.kind.is_confederation())?;
        match first.kind {
            AsSegmentKind::Sequence => first.asns().next(),
            _ => None,
        }
    }

    /// The member AS that sent the route: the first number of a leading AS_CONFED_SEQUENCE (RFC 5065 5).
    #[must_use]
    pub fn first_member(&self) -> Option<Asn> {
        let first = self.segments().next()?;
        match first.kind {
            AsSegmentKind::ConfedSequence => first.asns().next(),
            _ => None,
        }
    }

    /// The AS that originated the route: the last number of the path, if it ends with an AS_SEQUENCE (RFC 6811 2).
    #[must_use]
    pub fn origin_as(&self) -> Option<Asn> {
        let last = self.segments().last()?;
        match last.kind {
            AsSegmentKind::Sequence => last.asns().next_back(),
            _ => None,
        }
    }

    /// Whether a number needs more than 2 octets.
    #[must_use]
    pub fn needs_as4(&self) -> bool {
        self.asns().any(|asn| asn.0 > u32::from(u16::MAX))
    }

    /// Whether there are confederation segments.
    #[must_use]
    pub fn has_confederation(&self) -> bool {
        self.segments()
            .any(|segment| segment.kind.is_confederation())
    }

    /// The path with `asn` in front, `times` times (RFC 4271 5.1.2 b): a leading AS_SEQUENCE is filled up to 255 numbers,
    /// then a new one begins.
    #[must_use]
    pub fn prepend(&self, asn: Asn, times: u8) -> Self {
        self.prepend_kind(AsSegmentKind::Sequence, asn, times)
    }

    /// The path with `asn` in front in an AS_CONFED_SEQUENCE, as towards another member AS (RFC 5065 4 b).
    #[must_use]
    pub fn prepend_confederation(&self, asn: Asn) -> Self {
        self.prepend_kind(AsSegmentKind::ConfedSequence, asn, 1)
    }

    /// The path without confederation segments, as it leaves the confederation (RFC 5065 4 c).
    #[must_use]
    pub fn without_confederation(&self) -> Self {
        if !self.has_confederation() {
            return self.clone();
        }
        let mut raw = Vec::with_capacity(self.0.len());
        for segment in self.segments() {
            if !segment.kind.is_confederation() {
                push_header(&mut raw, segment.kind, segment.count());
                raw.extend_from_slice(segment.raw);
            }
        }
        Self(raw.into())
    }

    fn prepend_kind(&self, kind: AsSegmentKind, asn: Asn, times: u8) -> Self {
        let times = usize::from(times);
        if times == 0 {
            return self.clone();
        }
        let lead = self.segments().next().filter(|lead| lead.kind == kind);
        let (lead_raw, rest) = match lead {
            Some(lead) => self.0[HEADER_BYTES..].split_at(lead.raw.len()),
            None => (&[][..], &*self.0),
        };
        let lead_count = lead_raw.len() / ASN_BYTES;
        let joined = times.min(MAX_SEGMENT_ASNS - lead_count);
        let fresh = times - joined;

        let mut raw =
            Vec::with_capacity(2 * HEADER_BYTES + times * ASN_BYTES + lead_raw.len() + rest.len());
        let number = asn.0.to_be_bytes();
        if fresh > 0 {
            push_header(&mut raw, kind, fresh);
            raw.extend(core::iter::repeat_n(number, fresh).flatten());
        }
        if joined + lead_count > 0 {
            push_header(&mut raw, kind, joined + lead_count);
            raw.extend(core::iter::repeat_n(number, joined).flatten());
        }
        raw.extend_from_slice(lead_raw);
        raw.extend_from_slice(rest);
        Self(raw.into())
    }
}

/// Writes as BIRD and FRR do: `65001 65002 {65003 65004} (65010) [65011]`, confederation sequences in round brackets,
/// confederation sets in square ones.
impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments().enumerate() {
            let (open, close) = match segment.kind {
                AsSegmentKind::Sequence => ("", ""),
                AsSegmentKind::Set => ("{", "}"),
                AsSegmentKind::ConfedSequence => ("(", ")"),
                AsSegmentKind::ConfedSet => ("[", "]"),
            };
            f.write_str(if i == 0 { "" } else { " " })?;
            f.write_str(open)?;
            for (j, asn) in segment.asns().enumerate() {
                f.write_str(if j == 0 { "" } else { " " })?;
                asn.fmt(f)?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPath({self})")
    }
}

/// Iterator over the segments of an [`AsPath`].
#[derive(Clone, Debug)]
pub struct AsSegments<'a>(&'a [u8]);

impl<'a> Iterator for AsSegments<'a> {
    type Item = AsSegment<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let [kind, count, rest @ ..] = self.0 else {
            return None;
        };
        let kind = AsSegmentKind::from_code(*kind)?;
        let (raw, rest) = rest.split_at_checked(usize::from(*count) * ASN_BYTES)?;
        self.0 = rest;
        Some(AsSegment { kind, raw })
    }
}

/// Whether `raw` is a list of known, non-empty segments of `WIDTH`-octet AS numbers that fills it exactly.
pub(super) fn check_segments<const WIDTH: usize>(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let [kind, count, tail @ ..] = rest {
        if AsSegmentKind::from_code(*kind).is_none() || *count == 0 {
            return false;
        }
        match tail.get(usize::from(*count) * WIDTH..) {
            Some(tail) => rest = tail,
            None => return false,
        }
    }
    rest.is_empty()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "callers hand over at most 255 numbers"
)]
fn push_header(raw: &mut Vec<u8>, kind: AsSegmentKind, count: usize) {
    debug_assert!((1..=MAX_SEGMENT_ASNS).contains(&count));
    raw.extend_from_slice(&[kind.code(), count as u8]);
}
