//! Prefixes as they stand in NLRI and withdrawn-routes fields (RFC 4271 4.3): length in bits, then as many octets as needed.

use bytes::BufMut;

use crate::types::{AddressFamily, Family};

/// Appends the prefixes of a field to `out`. `None` if the field is syntactically incorrect (RFC 7606 5.3): a length beyond
/// the family's bits, or a prefix beyond the end. Bits behind the length are of no meaning and are cleared (RFC 4271 4.3).
pub(super) fn decode<P: AddressFamily>(field: &[u8], out: &mut Vec<P>) -> Option<()> {
    // Most prefixes are as long as half the address or longer.
    out.reserve(field.len() / (P::BYTES / 2 + 2) + usize::from(!field.is_empty()));
    let mut rest = field;
    while let Some((&bits, tail)) = rest.split_first() {
        let octets = usize::from(bits).div_ceil(8);
        // What follows the prefix in the field counts as host bits.
        let prefix = P::from_bytes(tail, bits)?;
        rest = tail.get(octets..)?;
        out.push(prefix);
    }
    Some(())
}

/// Octets that a prefix takes.
pub(super) fn encoded_len<P: AddressFamily>(prefix: P) -> usize {
    1 + usize::from(prefix.len()).div_ceil(8)
}

/// Appends one prefix.
pub(super) fn encode<P: AddressFamily>(prefix: P, out: &mut impl BufMut) {
    out.put_u8(prefix.len());
    out.put_slice(&prefix.addr_bytes()[..encoded_len(prefix) - 1]);
}

/// Whether all addresses of a prefix are multicast, which no unicast route can be (RFC 4271 6.3).
pub(super) fn is_multicast<P: AddressFamily>(prefix: P) -> bool {
    let first = prefix.addr_bytes()[0];
    match P::FAMILY {
        Family::Ipv4Unicast => prefix.len() >= 4 && first & 0xf0 == 0xe0,
        Family::Ipv6Unicast => prefix.len() >= 8 && first == 0xff,
    }
}
