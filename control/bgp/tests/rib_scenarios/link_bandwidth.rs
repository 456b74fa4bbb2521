//! Shares of traffic by link bandwidth (draft-ietf-idr-link-bandwidth).

use causeway_bgp::rib::LinkBandwidthMode;
use causeway_bgp::wire::{ExtendedCommunity, LinkBandwidth};

use super::*;

const ROUTE: &str = "10.0.0.0/8";

fn multipath(mode: LinkBandwidthMode) -> Rib {
    let config = RibConfig {
        maximum_paths_ebgp: 8,
        multipath_relax: true,
        link_bandwidth: mode,
        ..config()
    };
    rib(config, &[PeerKind::External; 3])
}

/// The route from a peer, with this bandwidth in bytes per second.
fn announce_with(rib: &mut Rib, peer: u32, bandwidth: Option<f32>, transitive: bool) {
    let community = |bytes_per_second| {
        let bandwidth = LinkBandwidth {
            asn: 65_001,
            bytes_per_second,
        };
        ExtendedCommunity::from_link_bandwidth(bandwidth, transitive)
    };
    let rare = bandwidth.map(|bandwidth| {
        Box::new(RareAttributes {
            extended_communities: [community(bandwidth)].into(),
            ..RareAttributes::default()
        })
    });
    let host = u8::try_from(peer + 1).unwrap();
    let attributes = Attributes {
        rare,
        ..path(&[65_001 + peer], host)
    };
    announce(rib, peer, &attributes, &[ROUTE]);
}

/// Weights of the route's set in the forwarding table, by next hop.
fn weights(rib: &mut Rib) -> Option<Vec<u32>> {
    settle(rib);
    let delta = rib.poll_fib(10)?;
    let set = delta.sets.iter().find_map(|(_, set)| set.clone())?;
    Some(set.iter().map(|hop| hop.weight).collect())
}

#[test]
fn paths_share_traffic_in_proportion_to_the_bandwidth_they_tell() {
    for transitive in [false, true] {
        let mut rib = multipath(LinkBandwidthMode::WhenAll);
        announce_with(&mut rib, 0, Some(1.25e9), transitive);
        announce_with(&mut rib, 1, Some(3.125e9), transitive);
        announce_with(&mut rib, 2, Some(1.25e9), transitive);
        assert_eq!(weights(&mut rib), Some(vec![2, 5, 2]));
        let explained = rib.explain(ROUTE.parse().unwrap());
        let mut shown: Vec<_> = (explained.paths.iter())
            .map(|path| (path.peer.unwrap().0, path.weight))
            .collect();
        shown.sort_unstable();
        assert_eq!(shown, [(0, Some(2)), (1, Some(5)), (2, Some(2))]);
    }
}

#[test]
fn one_path_that_tells_nothing_makes_all_shares_equal_until_it_goes() {
    let mut rib = multipath(LinkBandwidthMode::WhenAll);
    announce_with(&mut rib, 0, Some(1.25e9), false);
    announce_with(&mut rib, 1, Some(1.25e8), false);
    announce_with(&mut rib, 2, None, false);
    assert_eq!(weights(&mut rib), Some(vec![1, 1, 1]));
    withdraw(&mut rib, 2, &[ROUTE]);
    assert_eq!(weights(&mut rib), Some(vec![10, 1]));
}

#[test]
fn a_change_of_bandwidth_alone_changes_the_forwarding_table_and_ignoring_it_changes_nothing() {
    let mut rib = multipath(LinkBandwidthMode::WhenAll);
    announce_with(&mut rib, 0, Some(1.25e9), false);
    announce_with(&mut rib, 1, Some(1.25e9), false);
    assert_eq!(weights(&mut rib), Some(vec![1, 1]));
    announce_with(&mut rib, 1, Some(2.5e9), false);
    assert_eq!(weights(&mut rib), Some(vec![1, 2]));

    let mut rib = multipath(LinkBandwidthMode::Ignore);
    announce_with(&mut rib, 0, Some(1.25e9), false);
    announce_with(&mut rib, 1, Some(2.5e9), false);
    assert_eq!(weights(&mut rib), Some(vec![1, 1]));
    announce_with(&mut rib, 1, Some(5e9), false);
    assert_eq!(weights(&mut rib), None);
}

#[test]
fn what_is_no_bandwidth_counts_as_none() {
    for wrong in [f32::NAN, f32::INFINITY, -1.0, 0.0] {
        let mut rib = multipath(LinkBandwidthMode::WhenAll);
        announce_with(&mut rib, 0, Some(1.25e9), false);
        announce_with(&mut rib, 1, Some(wrong), false);
        assert_eq!(weights(&mut rib), Some(vec![1, 1]), "{wrong}");
    }
}

#[test]
fn the_non_transitive_form_stays_within_the_as_and_the_transitive_one_does_not() {
    for transitive in [false, true] {
        let mut rib = multipath(LinkBandwidthMode::WhenAll);
        announce_with(&mut rib, 0, Some(1.25e9), transitive);
        let outside = announced(&sent(&mut rib, 1)).unwrap();
        assert_eq!(outside.rare.is_some(), transitive);
    }
}
