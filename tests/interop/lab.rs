//! The lab itself: each router, as the lab starts it, exchanges routes with BIRD.

use std::time::Duration;

use anyhow::Result;
use support::Lab;
use support::peer::{Implementation, Neighbor, Peer, Router};

const LIMIT: Duration = Duration::from_secs(30);

fn exchanges_routes_with_bird(lab: &Lab, implementation: Implementation) -> Result<()> {
    let (left, right) = (lab.node("left")?, lab.node("right")?);
    left.link("eth0", &right, "eth0")?;
    left.address("eth0", ["10.0.0.1/24", "2001:db8::1/64"])?;
    right.address("eth0", ["10.0.0.2/24", "2001:db8::2/64"])?;

    let mut subject = Peer::start(
        implementation,
        &left,
        Router::new(65001, [10, 0, 0, 1])
            .originate("192.0.2.0/24")
            .originate("2001:db8:1::/48")
            .neighbor(Neighbor::new("10.0.0.1", "10.0.0.2", 65002))
            .neighbor(Neighbor::new("2001:db8::1", "2001:db8::2", 65002)),
    )?;
    let mut bird = Peer::start(
        Implementation::Bird,
        &right,
        Router::new(65002, [10, 0, 0, 2])
            .originate("198.51.100.0/24")
            .originate("2001:db8:2::/48")
            .neighbor(Neighbor::new("10.0.0.2", "10.0.0.1", 65001))
            .neighbor(Neighbor::new("2001:db8::2", "2001:db8::1", 65001)),
    )?;
    subject.wait_established(LIMIT)?;
    bird.wait_established(LIMIT)?;

    bird.wait_route("192.0.2.0/24", LIMIT)?;
    bird.wait_route("2001:db8:1::/48", LIMIT)?;
    subject.wait_route("198.51.100.0/24", LIMIT)?;
    subject.wait_route("2001:db8:2::/48", LIMIT)?;

    subject.announce("192.0.2.128/25")?;
    bird.wait_route("192.0.2.128/25", LIMIT)?;
    subject.withdraw("192.0.2.128/25")?;
    bird.wait_no_route("192.0.2.128/25", LIMIT)?;
    bird.withdraw("198.51.100.0/24")?;
    subject.wait_no_route("198.51.100.0/24", LIMIT)?;

    subject.kill()?;
    bird.wait_no_route("192.0.2.0/24", LIMIT)
}

#[test]
fn frr_exchanges_routes_with_bird() {
    Lab::test(|lab| exchanges_routes_with_bird(lab, Implementation::Frr));
}

#[test]
fn bird_exchanges_routes_with_bird() {
    Lab::test(|lab| exchanges_routes_with_bird(lab, Implementation::Bird));
}

#[test]
fn gobgp_exchanges_routes_with_bird() {
    Lab::test(|lab| exchanges_routes_with_bird(lab, Implementation::GoBgp));
}

#[test]
fn openbgpd_exchanges_routes_with_bird() {
    Lab::test(|lab| exchanges_routes_with_bird(lab, Implementation::OpenBgpd));
}

#[test]
fn exabgp_exchanges_routes_with_bird() {
    Lab::test(|lab| exchanges_routes_with_bird(lab, Implementation::ExaBgp));
}
