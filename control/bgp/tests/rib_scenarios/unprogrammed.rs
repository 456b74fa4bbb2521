//! What the forwarding tables could not take is not advertised: nobody is to send traffic that would be lost here.

use super::*;

const ROUTE: &str = "10.0.0.0/8";
const OTHER: &str = "11.0.0.0/8";

fn route() -> Vec<Prefix> {
    vec![ROUTE.parse().unwrap()]
}

fn one() -> (Vec<String>, Vec<String>) {
    (vec![ROUTE.to_owned()], vec![])
}

fn none() -> (Vec<String>, Vec<String>) {
    (vec![], vec![ROUTE.to_owned()])
}

fn exported(rib: &Rib, peer: usize) -> ExportStatus {
    rib.explain(ROUTE.parse().unwrap()).exports[peer].1.clone()
}

fn count(rib: &Rib) -> usize {
    rib.summary().families[Family::Ipv4Unicast.index()].unprogrammed
}

#[test]
fn a_learned_route_that_could_not_be_programmed_is_withdrawn_and_comes_back() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    announce(&mut rib, 0, &path(&[65_001], 1), &[ROUTE, OTHER]);
    assert_eq!(
        updates(&sent(&mut rib, 1)),
        [(vec![ROUTE.to_owned(), OTHER.to_owned()], vec![])]
    );

    rib.program_failed(&route());
    assert_eq!(updates(&sent(&mut rib, 1)), [none()]);
    assert_eq!(exported(&rib, 1), ExportStatus::NotProgrammed);
    assert_eq!(
        status(&rib, ROUTE, 0),
        PathStatus::Best,
        "the decision stands"
    );
    assert_eq!(count(&rib), 1);
    rib.program_failed(&route());
    assert_eq!(updates(&sent(&mut rib, 1)), [], "known already");

    rib.program_recovered(&route());
    assert_eq!(updates(&sent(&mut rib, 1)), [one()]);
    assert_eq!(exported(&rib, 1), ExportStatus::Advertised);
    assert_eq!(count(&rib), 0);
}

#[test]
fn an_originated_prefix_that_could_not_be_programmed_is_not_originated() {
    let mut rib = rib(config(), &[PeerKind::External]);
    rib.program_failed(&route());
    rib.set_originated(vec![Originated::new(route()[0])]);
    assert_eq!(updates(&sent(&mut rib, 0)), []);
    assert_eq!(exported(&rib, 0), ExportStatus::NotProgrammed);
    rib.program_recovered(&route());
    assert_eq!(updates(&sent(&mut rib, 0)), [one()]);
}

#[test]
fn a_peer_that_joins_or_asks_again_is_not_sent_what_could_not_be_programmed() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    announce(&mut rib, 0, &path(&[65_001], 1), &[ROUTE]);
    rib.program_failed(&route());
    settle(&mut rib);
    let joining = session(PeerKind::External, 65_003, 3, &accept());
    rib.peer_up(PeerId(2), joining).unwrap();
    assert_eq!(updates(&sent(&mut rib, 2)), []);
    rib.refresh_out(PeerId(2), Family::Ipv4Unicast);
    assert_eq!(updates(&sent(&mut rib, 2)), []);
    rib.program_recovered(&route());
    assert_eq!(updates(&sent(&mut rib, 2)), [one()]);
}

#[test]
fn a_failure_outlives_the_paths_that_it_came_with() {
    let mut rib = rib(config(), &[PeerKind::External; 2]);
    announce(&mut rib, 0, &path(&[65_001], 1), &[ROUTE]);
    rib.program_failed(&route());
    settle(&mut rib);
    withdraw(&mut rib, 0, &[ROUTE]);
    assert_eq!(updates(&sent(&mut rib, 1)), []);
    // Until the forwarding tables say that nobody wants it any more, it may still be in their way.
    announce(&mut rib, 0, &path(&[65_001, 65_009], 1), &[ROUTE]);
    assert_eq!(updates(&sent(&mut rib, 1)), []);
    rib.program_recovered(&route());
    assert_eq!(updates(&sent(&mut rib, 1)), [one()]);
}
