//! Communities as written.

use core::net::Ipv4Addr;

/// A community of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 4360, network order.
    Extended([u8; 8]),
    /// RFC 8092.
    Large(u32, u32, u32),
}

/// What to write, for messages.
pub(crate) const FORMS: &str = "write ASN:VALUE with numbers up to 65535, GLOBAL:LOCAL1:LOCAL2, rt:ASN:VALUE, ro:ASN:VALUE, \
     bandwidth:ASN:BYTES_PER_SECOND, 0x and 16 hex digits, or a well-known name such as no-export";

/// Names of well-known communities (RFC 1997, RFC 7999, RFC 8326).
pub(crate) const WELL_KNOWN: [(&str, u32); 5] = [
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
    ("graceful-shutdown", 0xffff_0000),
    ("blackhole", 0xffff_029a),
];

impl Community {
    /// Parses any of the forms.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(value) = well_known(text) {
            return Some(Self::Standard(value));
        }
        if let Some(hex) = text.strip_prefix("0x") {
            let fits = hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            return fits
                .then(|| u64::from_str_radix(hex, 16).ok())
                .flatten()
                .map(|value| Self::Extended(value.to_be_bytes()));
        }
        let parts: Vec<_> = text.split(':').collect();
        match parts[..] {
            ["rt", admin, value] => extended(2, admin, value),
            ["ro", admin, value] => extended(3, admin, value),
            ["bandwidth", asn, bytes] => bandwidth(0x40, asn, bytes),
            ["bandwidth-transitive", asn, bytes] => bandwidth(0x00, asn, bytes),
            [asn, value] => {
                let (asn, value): (u16, u16) = (number(asn)?, number(value)?);
                Some(Self::Standard(u32::from(asn) << 16 | u32::from(value)))
            }
            [global, local1, local2] => Some(Self::Large(
                number(global)?,
                number(local1)?,
                number(local2)?,
            )),
            _ => None,
        }
    }
}

/// The value of a well-known community.
pub(crate) fn well_known(name: &str) -> Option<u32> {
    WELL_KNOWN
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

/// Route target (subtype 2) and route origin (3): 2-octet AS (RFC 4360 3.1), IPv4 (3.2), 4-octet AS (RFC 5668 2).
fn extended(subtype: u8, admin: &str, value: &str) -> Option<Community> {
    let mut bytes = [0; 8];
    bytes[1] = subtype;
    if let Some(asn) = number::<u16>(admin) {
        bytes[2..4].copy_from_slice(&asn.to_be_bytes());
        bytes[4..].copy_from_slice(&number::<u32>(value)?.to_be_bytes());
        return Some(Community::Extended(bytes));
    }
    let (kind, admin) = match number::<u32>(admin) {
        Some(asn) => (2, asn.to_be_bytes()),
        None => (1, admin.parse::<Ipv4Addr>().ok()?.octets()),
    };
    bytes[0] = kind;
    bytes[2..6].copy_from_slice(&admin);
    bytes[6..].copy_from_slice(&number::<u16>(value)?.to_be_bytes());
    Some(Community::Extended(bytes))
}

/// Link bandwidth (draft-ietf-idr-link-bandwidth): a 2-octet AS and bytes per second as IEEE 754.
fn bandwidth(kind: u8, asn: &str, bytes: &str) -> Option<Community> {
    let [a, b] = number::<u16>(asn)?.to_be_bytes();
    number::<u64>(bytes)?;
    let [c, d, e, f] = bytes.parse::<f32>().ok()?.to_be_bytes();
    Some(Community::Extended([kind, 4, a, b, c, d, e, f]))
}

/// A decimal number without sign, as `from_str` alone would take `+1`.
fn number<T: core::str::FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_understood() {
        for (text, community) in [
            ("65001:100", Community::Standard(0xfde9_0064)),
            ("no-export", Community::Standard(0xffff_ff01)),
            ("4200000000:1:2", Community::Large(4_200_000_000, 1, 2)),
            (
                "rt:65001:70000",
                Community::Extended([0, 2, 0xfd, 0xe9, 0, 1, 0x11, 0x70]),
            ),
            (
                "ro:192.0.2.1:7",
                Community::Extended([1, 3, 192, 0, 2, 1, 0, 7]),
            ),
            (
                "rt:4200000000:7",
                Community::Extended([2, 2, 0xfa, 0x56, 0xea, 0, 0, 7]),
            ),
            (
                "bandwidth:65001:1250000000",
                Community::Extended([0x40, 4, 0xfd, 0xe9, 0x4e, 0x95, 0x02, 0xf9]),
            ),
            (
                "bandwidth-transitive:65001:0",
                Community::Extended([0, 4, 0xfd, 0xe9, 0, 0, 0, 0]),
            ),
            (
                "0x0002fde900000001",
                Community::Extended([0, 2, 0xfd, 0xe9, 0, 0, 0, 1]),
            ),
        ] {
            assert_eq!(Community::parse(text), Some(community), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in [
            "65536:1",
            "1:65536",
            "1",
            "",
            "a:b",
            "+1:1",
            "1:2:3:4",
            "rt:1",
            "0x12",
            "rt:70000:70000",
            "bandwidth:65001:-1",
            "bandwidth:65001:1e9",
            "bandwidth:70000:1",
            ":1",
            "1:",
        ] {
            assert_eq!(Community::parse(text), None, "{text}");
        }
    }
}
