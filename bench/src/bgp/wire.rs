//! The few bytes of BGP that a generator and a monitor need, independent of the codec under test.
//!
//! IPv4 unicast with four-octet AS numbers (RFC 4271, RFC 6793) and nothing else: what a monitor can't read is a
//! failed verification, not something to skip.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use crate::bgp::table::{Group, Prefix, Table};

pub(crate) const HEADER_LEN: usize = 19;
pub(crate) const MAX_MESSAGE_LEN: usize = 4096;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

/// Long enough that no run ends by it; generators still send keepalives.
const HOLD_TIME_SECONDS: u16 = 240;
const AS_TRANS: u16 = 23_456;

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const COMMUNITIES: u8 = 8;

/// Who sends: its AS number and address, which is its BGP identifier and next hop too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) asn: u32,
    pub(crate) addr: Ipv4Addr,
}

/// OPEN with the IPv4 unicast and four-octet AS capabilities.
pub(crate) fn open(identity: Identity) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(identity.asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(
        u16::try_from(identity.asn)
            .unwrap_or(AS_TRANS)
            .to_be_bytes(),
    );
    body.extend(HOLD_TIME_SECONDS.to_be_bytes());
    body.extend(identity.addr.octets());
    body.extend([byte(capabilities.len() + 2), 2, byte(capabilities.len())]);
    body.extend(capabilities);
    message(OPEN, &body)
}

pub(crate) fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// The UPDATEs that announce `groups`, one after the other.
pub(crate) fn announce<'a>(
    table: &Table,
    groups: impl IntoIterator<Item = &'a Group>,
    from: Identity,
) -> Arc<[u8]> {
    let mut stream = Vec::new();
    for group in groups {
        let mut attributes = vec![0x40, ORIGIN, 1, group.origin];
        attributes.extend([0x40, AS_PATH, byte(2 + 4 * (group.path.len() + 1)), 2]);
        attributes.push(byte(group.path.len() + 1));
        for asn in std::iter::once(&from.asn).chain(&group.path) {
            attributes.extend(asn.to_be_bytes());
        }
        attributes.extend([0x40, NEXT_HOP, 4]);
        attributes.extend(from.addr.octets());
        if !group.communities.is_empty() {
            attributes.extend([0xc0, COMMUNITIES, byte(4 * group.communities.len())]);
            attributes.extend(group.communities.iter().flat_map(|c| c.to_be_bytes()));
        }
        let mut body = vec![0, 0];
        body.extend(two_bytes(attributes.len()));
        body.extend(attributes);
        for prefix in table.prefixes_of(group) {
            push_prefix(&mut body, *prefix);
        }
        stream.extend(message(UPDATE, &body));
    }
    stream.into()
}

/// The UPDATEs that withdraw `prefixes`, as few as possible.
pub(crate) fn withdraw(prefixes: &[Prefix]) -> Arc<[u8]> {
    const ROOM: usize = MAX_MESSAGE_LEN - HEADER_LEN - 4;
    let mut stream = Vec::new();
    let mut withdrawn = Vec::new();
    let mut flush = |withdrawn: &mut Vec<u8>| {
        let mut body = two_bytes(withdrawn.len()).to_vec();
        body.append(withdrawn);
        body.extend([0, 0]);
        stream.extend(message(UPDATE, &body));
    };
    for prefix in prefixes {
        if withdrawn.len() + 5 > ROOM {
            flush(&mut withdrawn);
        }
        push_prefix(&mut withdrawn, *prefix);
    }
    if !withdrawn.is_empty() {
        flush(&mut withdrawn);
    }
    stream.into()
}

/// Length and type of the message at the start of `bytes`, once the header is complete.
pub(crate) fn header(bytes: &[u8]) -> Result<Option<(usize, u8)>> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    ensure!(
        header[..16] == [0xff; 16],
        "a message doesn't start with the marker"
    );
    ensure!(
        (HEADER_LEN..=MAX_MESSAGE_LEN).contains(&length),
        "message length {length}"
    );
    Ok(Some((length, header[18])))
}

/// What an UPDATE says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Update<'a> {
    pub(crate) withdrawn: Prefixes<'a>,
    /// Present if anything is announced.
    pub(crate) attributes: Option<Attributes>,
    pub(crate) announced: Prefixes<'a>,
}

/// The attributes of announced routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) origin: u8,
    /// All segments must be AS_SEQUENCE.
    pub(crate) path: Vec<u32>,
    pub(crate) next_hop: Ipv4Addr,
    pub(crate) communities: Vec<u32>,
}

impl<'a> Update<'a> {
    /// Reads the body of an UPDATE. An attribute that no blaster sends is an error: an eBGP speaker that adds
    /// LOCAL_PREF or invents MED isn't doing the same work.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self> {
        let (withdrawn, rest) = counted(body)?;
        let (attributes, announced) = counted(rest)?;
        Ok(Self {
            withdrawn: Prefixes(withdrawn),
            attributes: match announced.is_empty() {
                true => None,
                false => Some(Attributes::parse(attributes)?),
            },
            announced: Prefixes(announced),
        })
    }
}

impl Attributes {
    fn parse(mut bytes: &[u8]) -> Result<Self> {
        let (mut origin, mut path, mut next_hop, mut communities) = (None, None, None, Vec::new());
        while let [flags, code, rest @ ..] = bytes {
            let (value, rest) = match (flags & 0x10 != 0, rest) {
                (true, _) => counted(rest)?,
                (false, [length, rest @ ..]) => split(rest, usize::from(*length))?,
                (false, []) => bail!("attribute {code} has no length"),
            };
            match *code {
                ORIGIN if value.len() == 1 => origin = Some(value[0]),
                AS_PATH => path = Some(as_path(value)?),
                NEXT_HOP => {
                    ensure!(value.len() == 4, "NEXT_HOP has {} bytes", value.len());
                    next_hop = Some(Ipv4Addr::new(value[0], value[1], value[2], value[3]));
                }
                COMMUNITIES => communities = words(value),
                code => bail!("attribute {code} was not announced by anyone"),
            }
            bytes = rest;
        }
        match (origin, path, next_hop) {
            (Some(origin), Some(path), Some(next_hop)) => Ok(Self {
                origin,
                path,
                next_hop,
                communities,
            }),
            _ => bail!("ORIGIN, AS_PATH or NEXT_HOP is missing"),
        }
    }
}

/// Encoded prefixes, read one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefixes<'a>(&'a [u8]);

impl Prefixes<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Iterator for Prefixes<'_> {
    type Item = Result<Prefix>;

    fn next(&mut self) -> Option<Self::Item> {
        let [len, rest @ ..] = self.0 else {
            return None;
        };
        let octets = usize::from(*len).div_ceil(8);
        if *len > 32 || rest.len() < octets {
            self.0 = &[];
            return Some(Err(anyhow::anyhow!(
                "a prefix of length {len} with {} bytes",
                rest.len()
            )));
        }
        let (octets, rest) = rest.split_at(octets);
        self.0 = rest;
        let mut addr = [0; 4];
        addr[..octets.len()].copy_from_slice(octets);
        Some(Ok(Prefix {
            addr: u32::from_be_bytes(addr),
            len: *len,
        }))
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = HEADER_LEN + body.len();
    assert!(
        length <= MAX_MESSAGE_LEN,
        "a generated message has {length} bytes"
    );
    let mut message = vec![0xff; 16];
    message.extend(two_bytes(length));
    message.push(kind);
    message.extend(body);
    message
}

fn push_prefix(out: &mut Vec<u8>, prefix: Prefix) {
    out.push(prefix.len);
    out.extend(&prefix.addr.to_be_bytes()[..usize::from(prefix.len).div_ceil(8)]);
}

fn as_path(mut value: &[u8]) -> Result<Vec<u32>> {
    const AS_SEQUENCE: u8 = 2;
    let mut path = Vec::new();
    while let [kind, count, rest @ ..] = value {
        ensure!(*kind == AS_SEQUENCE, "AS_PATH segment of type {kind}");
        let (numbers, rest) = split(rest, 4 * usize::from(*count))?;
        path.extend(words(numbers));
        value = rest;
    }
    Ok(path)
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u32::from_be_bytes(*word))
        .collect()
}

/// A field with a two-byte length in front, and what follows it.
fn counted(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = split(bytes, 2)?;
    split(
        rest,
        usize::from(u16::from_be_bytes([length[0], length[1]])),
    )
}

fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8])> {
    match bytes.split_at_checked(at) {
        Some(parts) => Ok(parts),
        None => bail!("{} bytes where {at} were promised", bytes.len()),
    }
}

fn byte(length: usize) -> u8 {
    u8::try_from(length).expect("generated fields are short")
}

fn two_bytes(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("generated fields fit a message")
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLASTER: Identity = Identity {
        asn: 64_601,
        addr: Ipv4Addr::new(10, 99, 1, 2),
    };

    fn updates(stream: &[u8]) -> Vec<Update<'_>> {
        let mut updates = Vec::new();
        let mut at = 0;
        while at < stream.len() {
            let (length, kind) = header(&stream[at..]).unwrap().unwrap();
            assert_eq!(kind, UPDATE);
            updates.push(Update::parse(&stream[at + HEADER_LEN..at + length]).unwrap());
            at += length;
        }
        updates
    }

    #[test]
    fn what_is_announced_is_what_is_read() {
        let table = Table::generate(5000, 3, 7);
        let stream = announce(&table, &table.groups, BLASTER);
        let updates = updates(&stream);
        assert_eq!(updates.len(), table.groups.len(), "one UPDATE per group");
        for (update, group) in updates.iter().zip(&table.groups) {
            let attributes = update.attributes.clone().unwrap();
            assert_eq!(attributes.path[0], 64_601);
            assert_eq!(attributes.path[1..], group.path);
            assert_eq!(attributes.communities, group.communities);
            assert_eq!(attributes.next_hop, BLASTER.addr);
            let announced: Vec<Prefix> = update.announced.map(Result::unwrap).collect();
            assert_eq!(announced, table.prefixes_of(group));
        }
    }

    #[test]
    fn withdrawals_are_packed_full() {
        let table = Table::generate(5000, 0, 7);
        let stream = withdraw(&table.prefixes);
        let updates = updates(&stream);
        assert!(updates.len() <= 6, "{} messages", updates.len());
        let withdrawn: Vec<Prefix> = updates
            .iter()
            .flat_map(|update| update.withdrawn)
            .map(Result::unwrap)
            .collect();
        assert_eq!(withdrawn, table.prefixes);
    }

    #[test]
    fn an_attribute_that_nobody_announced_is_an_error() {
        // LOCAL_PREF 100 before one prefix.
        let body = [0, 0, 0, 7, 0x40, 5, 4, 0, 0, 0, 100, 24, 192, 0, 2];
        let error = Update::parse(&body).unwrap_err();
        assert!(error.to_string().contains("attribute 5"), "{error}");
    }

    #[test]
    fn a_truncated_update_is_an_error() {
        let table = Table::generate(10, 0, 7);
        let stream = announce(&table, &table.groups[..1], BLASTER);
        let body = &stream[HEADER_LEN..];
        assert!(Update::parse(&body[..20]).is_err());
        assert!(Update::parse(&[]).is_err());
    }
}
