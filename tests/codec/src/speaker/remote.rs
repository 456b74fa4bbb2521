//! The other end of a connection: writes what a peer may say, and keeps what the speaker tells it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use causeway_bgp::types::{AddressFamily, Asn, Family, Prefix, RouterId};
use causeway_bgp::wire::{
    AsPath, Attributes, Capability, ClusterId, Community, Decoder, DecoderConfig, EncodeOptions,
    GracefulRestartCapability, GracefulRestartFamily, Message, NextHop, Open, Origin,
    RareAttributes, Reach, RefreshKind, RouteRefresh, Update, UpdateWriter,
};

use super::plan::{OUR_ADDRESS, OUR_AS, PREFIXES, Remote, prefix4, prefix6};
use super::schedule::{Cursor, bit};

/// What a peer knows on one connection, from its OPEN on.
#[derive(Debug)]
pub(super) struct Listener {
    decoder: Decoder,
    input: BytesMut,
    /// What the speaker has announced and not withdrawn.
    pub(super) routes: BTreeMap<Prefix, Attributes>,
    /// Told before a refresh began and not since (RFC 7313).
    unconfirmed: BTreeSet<Prefix>,
}

impl Listener {
    /// Listens from the first byte on.
    pub(super) fn new(open: &Open) -> Self {
        Self {
            decoder: Decoder::new(open, DecoderConfig::default()),
            input: BytesMut::new(),
            routes: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
        }
    }

    /// How the speaker wants UPDATEs, once its OPEN has come.
    pub(super) fn options(&self) -> EncodeOptions {
        self.decoder
            .negotiated()
            .map_or_else(EncodeOptions::default, EncodeOptions::from)
    }

    /// Whether the speaker's OPEN has come and both use AS numbers of four octets: then attributes arrive as they were sent.
    pub(super) fn is_exact(&self) -> bool {
        self.decoder.negotiated().is_some_and(|both| both.as4)
    }

    /// Takes in what the speaker sent.
    ///
    /// # Panics
    ///
    /// If it can't be decoded, or only with a reaction of RFC 7606.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        loop {
            let decoded = self
                .decoder
                .decode(&mut self.input)
                .unwrap_or_else(|error| panic!("the speaker sent what nobody can read: {error}"));
            let Some(decoded) = decoded else {
                break;
            };
            assert!(
                decoded.reactions.is_empty(),
                "the speaker sent a malformed UPDATE: {:?}",
                decoded.reactions
            );
            match decoded.message {
                Message::Update(update) => self.update(update),
                Message::RouteRefresh(refresh) => self.refresh(refresh),
                Message::Open(_) | Message::Notification(_) | Message::Keepalive => {}
            }
        }
        assert!(self.input.is_empty(), "the speaker sent half a message");
    }

    fn update(&mut self, update: Update) {
        let withdrawn4 = update.withdrawn4.into_iter().map(Prefix::from);
        let withdrawn6 = update.withdrawn6.into_iter().map(Prefix::from);
        for prefix in withdrawn4.chain(withdrawn6) {
            self.routes.remove(&prefix);
            self.unconfirmed.remove(&prefix);
        }
        self.reach(update.reach4);
        self.reach(update.reach6);
    }

    fn reach<P: AddressFamily>(&mut self, reach: Option<Reach<P>>) {
        let Some(reach) = reach else {
            return;
        };
        for prefix in reach.prefixes {
            self.unconfirmed.remove(&prefix.erase());
            self.routes.insert(prefix.erase(), reach.attributes.clone());
        }
    }

    fn refresh(&mut self, refresh: RouteRefresh) {
        let family = refresh.family;
        match refresh.kind {
            RefreshKind::Request => {}
            RefreshKind::Begin => {
                let known = self.routes.keys().filter(|p| p.family() == family);
                self.unconfirmed.extend(known);
            }
            RefreshKind::End => {
                let routes = &mut self.routes;
                self.unconfirmed.retain(|prefix| {
                    let ours = prefix.family() == family;
                    if ours {
                        routes.remove(prefix);
                    }
                    !ours
                });
            }
        }
    }
}

/// An OPEN that such a peer might send; the bits leave capabilities out.
pub(super) fn open(remote: Remote, bits: u8) -> Open {
    let mut capabilities = Vec::new();
    if !bit(bits, 0) {
        capabilities.extend(Family::ALL.map(Capability::multiprotocol));
    }
    if !bit(bits, 1) {
        capabilities.push(Capability::FourOctetAs(Asn(remote.asn)));
    }
    if !bit(bits, 2) {
        capabilities.push(Capability::RouteRefresh);
        capabilities.push(Capability::EnhancedRouteRefresh);
    }
    if !bit(bits, 3) {
        capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
            restarting: bit(bits, 4),
            notification: bit(bits, 5),
            restart_time: 100,
            families: Family::ALL
                .map(|family| GracefulRestartFamily {
                    family,
                    forwarding: !bit(bits, 6),
                })
                .to_vec(),
        }));
    }
    if !bit(bits, 7) {
        capabilities.push(Capability::ExtendedMessage);
    }
    Open {
        asn: Asn(remote.asn),
        hold_time: 90,
        router_id: RouterId(remote.address.to_bits()),
        capabilities,
    }
}

/// UPDATEs that announce some of the prefixes. Three octets say which and of which family, two say with what.
pub(super) fn announcement(
    remote: Remote,
    options: EncodeOptions,
    cursor: &mut Cursor<'_>,
) -> Bytes {
    let (families, which) = (cursor.byte(), cursor.pair());
    let mut attributes = attributes(remote, cursor);
    let mut writer = UpdateWriter::new(options);
    let mut bytes = BytesMut::new();
    // What does not fit a message is not sent.
    if !bit(families, 0) {
        let _ = writer.announce(&attributes, chosen(which).map(prefix4), &mut bytes);
    }
    if bit(families, 1) {
        let last = u16::from(cursor.byte() % 3) + 1;
        attributes.next_hop = NextHop::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
        let _ = writer.announce(&attributes, chosen(which).map(prefix6), &mut bytes);
    }
    bytes.freeze()
}

/// UPDATEs that withdraw some of the prefixes.
pub(super) fn withdrawal(options: EncodeOptions, cursor: &mut Cursor<'_>) -> Bytes {
    let (families, which) = (cursor.byte(), cursor.pair());
    let mut writer = UpdateWriter::new(options);
    let mut bytes = BytesMut::new();
    if !bit(families, 0) {
        writer.withdraw(chosen(which).map(prefix4), &mut bytes);
    }
    if bit(families, 1) {
        writer.withdraw(chosen(which).map(prefix6), &mut bytes);
    }
    bytes.freeze()
}

/// UPDATEs with many prefixes of their own, to fill what is meant to have bounds.
pub(super) fn crowd(remote: Remote, options: EncodeOptions, cursor: &mut Cursor<'_>) -> Bytes {
    let attributes = attributes(remote, cursor);
    let prefixes = (0..600).filter_map(|index| {
        let addr = Ipv4Addr::from_bits(0x6440_0000 + (index << 8));
        causeway_bgp::types::Prefix4::new(addr, 24)
    });
    let mut bytes = BytesMut::new();
    let _ = UpdateWriter::new(options).announce(&attributes, prefixes, &mut bytes);
    bytes.freeze()
}

fn chosen(which: u16) -> impl Iterator<Item = u8> {
    (0..PREFIXES).filter(move |index| which & 1 << index != 0)
}

fn attributes(remote: Remote, cursor: &mut Cursor<'_>) -> Attributes {
    const FURTHER: [u32; 4] = [65_002, OUR_AS, 4_200_000_001, 65_001];
    const COMMUNITIES: [Community; 4] = [
        Community::NO_EXPORT,
        Community::NO_ADVERTISE,
        Community(666),
        Community(OUR_AS << 16 | 3),
    ];
    let (path, rest) = (cursor.byte(), cursor.byte());
    let internal = remote.asn == OUR_AS;
    let first = (!internal).then_some(remote.asn);
    let further = (0..4)
        .filter(|n| bit(path, *n))
        .map(|n| FURTHER[usize::from(n)]);
    let communities: Box<[_]> = {
        let mut some: Vec<_> = (4..8)
            .filter(|n| bit(path, *n))
            .map(|n| COMMUNITIES[usize::from(n - 4)])
            .collect();
        some.sort_unstable();
        some.into()
    };
    let next_hop = match rest & 3 {
        0 => remote.address,
        1 => Ipv4Addr::new(10, 0, 1, 1),
        2 => Ipv4Addr::new(10, 0, 1, 2),
        _ => OUR_ADDRESS,
    };
    let reflected = internal && bit(rest, 5);
    Attributes {
        origin: match rest >> 6 {
            0 => Origin::Igp,
            1 => Origin::Egp,
            _ => Origin::Incomplete,
        },
        atomic_aggregate: bit(rest, 4),
        as_path: AsPath::sequence(first.into_iter().chain(further)),
        next_hop: NextHop::V4(next_hop),
        med: bit(rest, 2).then_some(u32::from(path)),
        local_pref: internal.then_some(if bit(rest, 3) { 150 } else { 100 }),
        communities,
        rare: reflected.then(|| {
            Box::new(RareAttributes {
                originator_id: Some(RouterId(u32::from(path))),
                cluster_list: vec![ClusterId(u32::from(rest)), ClusterId(100)].into(),
                ..RareAttributes::default()
            })
        }),
    }
}

/// The address of a remote as an IP address.
pub(super) fn ip(remote: Remote) -> IpAddr {
    IpAddr::V4(remote.address)
}
