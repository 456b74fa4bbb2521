//! Any message that this speaker can send.

use causeway_bgp::types::{Asn, Family, Prefix4, Prefix6, RouterId};
use causeway_bgp::wire::*;
use causeway_codec_tests::session::{REMOTE_AS, Session};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

pub(crate) fn prefixes4() -> impl Strategy<Value = Vec<Prefix4>> {
    // Not multicast: those are ignored on receipt.
    let prefix = (0..0xe000_0000_u32, 4..=32_u8)
        .prop_map(|(addr, len)| Prefix4::new(addr.into(), len).unwrap());
    vec(prefix, 1..60)
}

pub(crate) fn prefixes6() -> impl Strategy<Value = Vec<Prefix6>> {
    let prefix = (any::<u128>(), 0..=128_u8)
        .prop_map(|(addr, len)| Prefix6::new((addr >> 1).into(), len).unwrap());
    vec(prefix, 1..60)
}

pub(crate) fn next_hop4() -> impl Strategy<Value = NextHop> {
    (1..=223_u8, any::<[u8; 3]>())
        .prop_filter("loopback", |(first, _)| *first != 127)
        .prop_map(|(first, [b, c, d])| NextHop::V4([first, b, c, d].into()))
}

pub(crate) fn next_hop6() -> impl Strategy<Value = NextHop> {
    let global = any::<u64>().prop_map(|host| (0x2001_0db8_u128 << 96 | u128::from(host)).into());
    let link_local = any::<u64>().prop_map(|host| (0xfe80_u128 << 112 | u128::from(host)).into());
    (global, proptest::option::of(link_local)).prop_map(|(global, link_local)| match link_local {
        Some(link_local) => NextHop::V6LinkLocal { global, link_local },
        None => NextHop::V6(global),
    })
}

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1..=65_535_u32, 1..=u32::MAX].prop_map(Asn)
}

/// A path without confederation segments, beginning with the peer.
fn as_path() -> impl Strategy<Value = AsPath> {
    let kind = prop_oneof![
        4 => Just(AsSegmentKind::Sequence),
        1 => Just(AsSegmentKind::Set),
    ];
    let segment = (kind, vec(asn(), 1..12));
    vec(segment, 0..4)
        .prop_map(|segments| AsPath::from_segments(segments).prepend(Asn(REMOTE_AS), 1))
}

fn sorted<T: Ord + core::fmt::Debug>(
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = Box<[T]>> {
    btree_set(item, 0..10).prop_map(|set| set.into_iter().collect())
}

fn rare(kind: SessionKind) -> impl Strategy<Value = Option<Box<RareAttributes>>> {
    let aggregator = (asn(), any::<u32>()).prop_map(|(asn, id)| Aggregator {
        asn,
        router_id: RouterId(id),
    });
    let large = any::<[u32; 3]>().prop_map(|[global, local1, local2]| LargeCommunity {
        global,
        local1,
        local2,
    });
    // Codes that no decoder in these tests gives a meaning to.
    let unknown = btree_set(200..=250_u8, 0..3).prop_flat_map(|codes| {
        let value = vec(any::<u8>(), 0..300);
        vec(value, codes.len()).prop_map(move |values| {
            codes
                .iter()
                .zip(values)
                .map(|(code, value)| UnknownAttribute {
                    flags: flags::OPTIONAL | flags::TRANSITIVE | flags::PARTIAL,
                    code: *code,
                    value: value.into(),
                })
                .collect::<Box<[_]>>()
        })
    });
    let fields = (
        proptest::option::of(aggregator),
        proptest::option::of(any::<u32>().prop_map(RouterId)),
        vec(any::<u32>().prop_map(ClusterId), 0..4),
        sorted(any::<[u8; 8]>().prop_map(ExtendedCommunity)),
        sorted(large),
        unknown,
    );
    fields.prop_map(
        move |(aggregator, originator_id, clusters, extended, large, unknown)| {
            let internal = kind == SessionKind::Internal;
            let rare = RareAttributes {
                aggregator,
                originator_id: originator_id.filter(|_| internal),
                cluster_list: if internal { clusters.into() } else { [].into() },
                extended_communities: extended,
                large_communities: large,
                unknown,
            };
            (rare != RareAttributes::default()).then(|| Box::new(rare))
        },
    )
}

/// Attributes that a peer of this kind may send.
pub(crate) fn attributes(
    kind: SessionKind,
    next_hop: impl Strategy<Value = NextHop>,
) -> impl Strategy<Value = Attributes> {
    let origin = prop_oneof![
        Just(Origin::Igp),
        Just(Origin::Egp),
        Just(Origin::Incomplete)
    ];
    let fields = (
        origin,
        any::<bool>(),
        as_path(),
        next_hop,
        proptest::option::of(any::<u32>()),
        any::<u32>(),
        sorted(any::<u32>().prop_map(Community)),
        rare(kind),
    );
    fields.prop_map(
        move |(origin, atomic_aggregate, as_path, next_hop, med, pref, communities, rare)| {
            Attributes {
                origin,
                atomic_aggregate,
                as_path: match kind {
                    SessionKind::Confederation => as_path.prepend_confederation(Asn(REMOTE_AS)),
                    SessionKind::Internal | SessionKind::External => as_path,
                },
                next_hop,
                med,
                local_pref: (kind == SessionKind::Internal).then_some(pref),
                communities,
                rare,
            }
        },
    )
}

/// A session, and an UPDATE that its peer may send.
pub(crate) fn session_and_update() -> impl Strategy<Value = (Session, Update)> {
    (0..32_u8)
        .prop_map(Session::from_bits)
        .prop_flat_map(|session| {
            let reach4 = (attributes(session.kind, next_hop4()), prefixes4());
            let reach6 = (attributes(session.kind, next_hop6()), prefixes6());
            let parts = (
                proptest::option::of(prefixes4()),
                proptest::option::of(prefixes6()),
                proptest::option::of(reach4),
                proptest::option::of(reach6),
            );
            parts.prop_map(move |(withdrawn4, withdrawn6, reach4, reach6)| {
                let update = Update {
                    withdrawn4: withdrawn4.unwrap_or_default(),
                    withdrawn6: withdrawn6.unwrap_or_default(),
                    reach4: reach4.map(|(attributes, prefixes)| Reach {
                        attributes,
                        prefixes,
                    }),
                    reach6: reach6.map(|(attributes, prefixes)| Reach {
                        attributes,
                        prefixes,
                    }),
                    end_of_rib: None,
                };
                (session, update)
            })
        })
}

pub(crate) fn open() -> impl Strategy<Value = Open> {
    let family = prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)];
    let graceful = (any::<[bool; 3]>(), 0..4096_u16, vec(family, 0..3)).prop_map(
        |([restarting, notification, forwarding], restart_time, families)| {
            Capability::GracefulRestart(GracefulRestartCapability {
                restarting,
                notification,
                restart_time,
                families: families
                    .into_iter()
                    .map(|family| GracefulRestartFamily { family, forwarding })
                    .collect(),
            })
        },
    );
    let hostname =
        ("[a-zü]{0,40}", "[a-z.]{0,80}").prop_map(|(host, domain)| Capability::Hostname {
            host: host.into(),
            domain: domain.into(),
        });
    let unknown =
        (128..=255_u8, vec(any::<u8>(), 0..255)).prop_map(|(code, value)| Capability::Unknown {
            code,
            value: value.into(),
        });
    let multiprotocol =
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Capability::Multiprotocol { afi, safi });
    let capabilities = (
        vec(prop_oneof![unknown, multiprotocol], 0..6),
        proptest::option::of(graceful),
        proptest::option::of(hostname),
        any::<[bool; 4]>(),
    );
    let fields = (asn(), any::<u16>(), 1..=u32::MAX, capabilities);
    fields.prop_map(|(asn, hold, id, (mut list, graceful, hostname, with))| {
        list.extend(graceful);
        list.extend(hostname);
        let known = [
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedMessage,
        ];
        list.extend(
            known
                .into_iter()
                .zip(with)
                .filter(|(_, on)| *on)
                .map(|(c, _)| c),
        );
        if with[3] || asn.0 > 65_535 {
            list.push(Capability::FourOctetAs(asn));
        }
        let mut capabilities: Vec<Capability> = Vec::new();
        for capability in list {
            if !capabilities.contains(&capability) {
                capabilities.push(capability);
            }
        }
        Open {
            asn,
            hold_time: if matches!(hold, 1 | 2) { 3 } else { hold },
            router_id: RouterId(id),
            capabilities,
        }
    })
}
