//! Against netgauze-bgp-pkt and bgpkit-parser: what we write, they read as we meant it, and what netgauze writes of it, we
//! read as we meant it.

use std::collections::HashMap;

use bgpkit_parser::models::{
    AsnLength, AttributeValue, BgpMessage as BgpkitMessage, NextHopAddress,
};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::{Bytes, BytesMut};
use causeway_bgp::types::{AddressFamily, Prefix};
use causeway_bgp::wire::*;
use causeway_codec_tests::session::Session;
use netgauze_bgp_pkt::BgpMessage as NetgauzeMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;

use crate::strategies;

/// A session that netgauze and bgpkit can be told about: they know no session kinds.
fn session(as4: bool) -> Session {
    Session {
        kind: SessionKind::Internal,
        as4,
        extended: false,
        enforce_first_as: false,
    }
}

fn announce<P: AddressFamily>(as4: bool, reach: &Reach<P>) -> BytesMut {
    let mut writer = UpdateWriter::new(session(as4).encode_options());
    let mut bytes = BytesMut::new();
    let prefixes = reach.prefixes.iter().copied();
    let messages = writer
        .announce(&reach.attributes, prefixes, &mut bytes)
        .unwrap();
    assert_eq!(messages, 1);
    bytes
}

fn decode(as4: bool, bytes: &[u8]) -> (Update, Vec<Reaction>) {
    let mut bytes = BytesMut::from(bytes);
    let decoded = session(as4).decoder().decode(&mut bytes).unwrap().unwrap();
    let Message::Update(update) = decoded.message else {
        panic!("{:?}", decoded.message);
    };
    (update, decoded.reactions)
}

/// Attributes with extended communities of the route target type only: of some others netgauze clears reserved bits, where
/// RFC 4360 2 has us pass on what we don't understand as it came.
fn with_route_targets(mut attributes: Attributes) -> Attributes {
    if let Some(rare) = &mut attributes.rare {
        let mut communities = rare.extended_communities.to_vec();
        for community in &mut communities {
            community.0[..2].copy_from_slice(&[0x00, 0x02]);
        }
        communities.sort_unstable();
        communities.dedup();
        rare.extended_communities = communities.into();
    }
    attributes
}

/// What netgauze writes after reading these bytes.
fn through_netgauze(as4: bool, bytes: &[u8]) -> Vec<u8> {
    let (none, no_path_ids) = (HashMap::new(), HashMap::new());
    let mut context = BgpParsingContext::new(as4, none, no_path_ids, true, true, true, true);
    let mut reader = SliceReader::new(bytes);
    let message = NetgauzeMessage::parse(&mut reader, &mut context)
        .unwrap_or_else(|error| panic!("netgauze: {error}"));
    let mut written = Vec::new();
    message.write(&mut written).unwrap();
    written
}

/// Compares with what bgpkit reads.
fn check_bgpkit<P: AddressFamily>(as4: bool, bytes: &[u8], reach: &Reach<P>) {
    let width = if as4 {
        AsnLength::Bits32
    } else {
        AsnLength::Bits16
    };
    let mut input = Bytes::copy_from_slice(bytes);
    let message = parse_bgp_message(&mut input, false, &width)
        .unwrap_or_else(|error| panic!("bgpkit: {error}"));
    let BgpkitMessage::Update(update) = message else {
        panic!("{message:?}");
    };
    let ours = &reach.attributes;
    let theirs = &update.attributes;
    assert_eq!(theirs.origin() as u8, ours.origin as u8);
    assert_eq!(theirs.atomic_aggregate(), ours.atomic_aggregate);
    assert_eq!(theirs.multi_exit_discriminator(), ours.med);
    assert_eq!(theirs.local_preference(), ours.local_pref);
    let path: Vec<u32> = theirs
        .effective_as_path()
        .unwrap()
        .segments
        .iter()
        .flat_map(|segment| segment.as_ref().iter().map(|asn| asn.to_u32()))
        .collect();
    assert_eq!(
        path,
        ours.as_path.asns().map(|asn| asn.0).collect::<Vec<_>>()
    );

    let mut prefixes: Vec<String> = update
        .announced_prefixes
        .iter()
        .map(|prefix| prefix.prefix.to_string())
        .collect();
    let mut next_hop = theirs.next_hop().map(|addr| addr.to_string());
    let mut large = Vec::new();
    let mut clusters = Vec::new();
    for attribute in theirs {
        match attribute {
            AttributeValue::MpReachNlri(nlri) => {
                prefixes.extend(nlri.prefixes.iter().map(|prefix| prefix.prefix.to_string()));
                next_hop = nlri.next_hop.map(|next_hop| match next_hop {
                    NextHopAddress::Ipv6LinkLocal(global, local) => format!("{global} {local}"),
                    other => other.addr().to_string(),
                });
            }
            AttributeValue::LargeCommunities(list) => large.extend(
                list.iter()
                    .map(|one| [one.global_admin, one.local_data[0], one.local_data[1]]),
            ),
            AttributeValue::Clusters(list) => clusters.clone_from(list),
            _ => {}
        }
    }
    let expected: Vec<String> = reach
        .prefixes
        .iter()
        .map(|prefix| Prefix::to_string(&prefix.erase()))
        .collect();
    assert_eq!(prefixes, expected);
    let expected = match ours.next_hop {
        NextHop::V4(addr) => addr.to_string(),
        NextHop::V6(addr) => addr.to_string(),
        NextHop::V6LinkLocal { global, link_local } => format!("{global} {link_local}"),
    };
    assert_eq!(next_hop, Some(expected));
    let rare = ours.rare.clone().unwrap_or_default();
    let expected: Vec<[u32; 3]> = rare
        .large_communities
        .iter()
        .map(|one| [one.global, one.local1, one.local2])
        .collect();
    assert_eq!(large, expected);
    let expected: Vec<u32> = rare.cluster_list.iter().map(|cluster| cluster.0).collect();
    assert_eq!(clusters, expected);
}

proptest! {
    #[test]
    fn ipv4_announcements_mean_the_same_to_everyone(
        as4 in any::<bool>(),
        attributes in strategies::attributes(SessionKind::Internal, strategies::next_hop4()),
        prefixes in strategies::prefixes4(),
    ) {
        let attributes = with_route_targets(attributes);
        let reach = Reach { attributes, prefixes };
        let bytes = announce(as4, &reach);
        check_bgpkit(as4, &bytes, &reach);
        let (update, reactions) = decode(as4, &through_netgauze(as4, &bytes));
        prop_assert!(reactions.is_empty());
        prop_assert_eq!(update.reach4, Some(reach));
    }

    #[test]
    fn ipv6_announcements_mean_the_same_to_everyone(
        as4 in any::<bool>(),
        attributes in strategies::attributes(SessionKind::Internal, strategies::next_hop6()),
        prefixes in strategies::prefixes6(),
    ) {
        let attributes = with_route_targets(attributes);
        let reach = Reach { attributes, prefixes };
        let bytes = announce(as4, &reach);
        // bgpkit takes what follows a default route for ADD-PATH identifiers, whatever it is told.
        if reach.prefixes.iter().all(|prefix| prefix.len() != 0) {
            check_bgpkit(as4, &bytes, &reach);
        }
        let (update, reactions) = decode(as4, &through_netgauze(as4, &bytes));
        prop_assert!(reactions.is_empty());
        prop_assert_eq!(update.reach6, Some(reach));
    }

    #[test]
    fn withdrawals_mean_the_same_to_netgauze(
        four in strategies::prefixes4(),
        six in strategies::prefixes6(),
    ) {
        let mut writer = UpdateWriter::new(EncodeOptions::default());
        let mut bytes = BytesMut::new();
        prop_assert_eq!(writer.withdraw(four.iter().copied(), &mut bytes), 1);
        let (update, _) = decode(true, &through_netgauze(true, &bytes));
        prop_assert_eq!(update.withdrawn4, four);
        let mut bytes = BytesMut::new();
        prop_assert_eq!(writer.withdraw(six.iter().copied(), &mut bytes), 1);
        let (update, _) = decode(true, &through_netgauze(true, &bytes));
        prop_assert_eq!(update.withdrawn6, six);
    }
}
