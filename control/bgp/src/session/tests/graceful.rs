//! Graceful restart (RFC 4724, RFC 8538), as helper and as restarting speaker.

use core::time::Duration;

use crate::config::{GracefulRestartConfig, PeerConfig, SessionConfig, SpeakerConfig};
use crate::origin::Originated;
use crate::rib::{Ineligible, PathStatus};
use crate::session::State;
use crate::speaker::testing::*;
use crate::speaker::{Command, Input, Output, ResetCause, SpeakerEvent, SweepCause};
use crate::types::{ConnId, Family, Prefix, Prefix4, RouterId};
use crate::wire::{Capability, Message, Notification, Open, Reach, Update};

pub(super) fn graceful_session() -> SessionConfig {
    SessionConfig {
        graceful_restart: Some(GracefulRestartConfig::default()),
        ..session()
    }
}

pub(super) fn graceful_open(router_id: RouterId, capability: Capability) -> Open {
    let mut open = open(router_id);
    open.capabilities.push(capability);
    open
}

fn end_of_rib() -> Message {
    Message::Update(Update {
        end_of_rib: Some(Family::Ipv4Unicast),
        ..Update::default()
    })
}

fn route() -> Message {
    Message::Update(Update {
        reach4: Some(Reach {
            attributes: attributes(&[PEER_AS.0]),
            prefixes: vec![Prefix4::new([198, 51, 100, 0].into(), 24).unwrap()],
        }),
        ..Update::default()
    })
}

/// A session with graceful restart, N bit as given.
fn graceful_driver(notification: bool) -> (Driver, ConnId) {
    let mut driver = Driver::passive(graceful_session());
    let conn = driver.established(graceful_open(LOWER_ID, graceful(false, true, notification)));
    (driver, conn)
}

fn retained(driver: &mut Driver) -> Vec<Family> {
    driver
        .events()
        .into_iter()
        .find_map(|event| match event {
            SpeakerEvent::SessionDown { retained, .. } => Some(retained),
            _ => None,
        })
        .expect("the session went down")
}

fn swept(driver: &mut Driver) -> Vec<SweepCause> {
    driver
        .events()
        .into_iter()
        .filter_map(|event| match event {
            SpeakerEvent::StaleSwept { cause, .. } => Some(cause),
            _ => None,
        })
        .collect()
}

const KEPT: [Family; 1] = [Family::Ipv4Unicast];

#[test]
fn routes_are_kept_when_the_transport_fails_and_go_when_the_restart_time_is_up() {
    let (mut driver, conn) = graceful_driver(false);
    driver.closed(conn);
    assert_eq!(retained(&mut driver), KEPT);
    driver.advance(Duration::from_millis(99_999));
    assert_eq!(swept(&mut driver), []);
    driver.advance(Duration::from_millis(1));
    assert_eq!(swept(&mut driver), [SweepCause::RestartTimer]);
}

#[test]
fn without_the_capability_nothing_is_kept() {
    let mut driver = Driver::passive(graceful_session());
    let conn = driver.established(open(LOWER_ID));
    driver.closed(conn);
    assert_eq!(retained(&mut driver), []);

    let mut driver = Driver::passive(session());
    let conn = driver.established(graceful_open(LOWER_ID, graceful(false, true, false)));
    driver.closed(conn);
    assert_eq!(retained(&mut driver), []);
}

#[test]
fn a_notification_or_an_expired_hold_timer_keeps_routes_only_with_the_n_bit_of_both() {
    for n_bit in [false, true] {
        let kept: &[Family] = if n_bit { &KEPT } else { &[] };
        let (mut driver, conn) = graceful_driver(n_bit);
        driver.message(conn, Message::Notification(Notification::new(6, 4)));
        assert_eq!(retained(&mut driver), kept);

        let (mut driver, _) = graceful_driver(n_bit);
        driver.advance(seconds(90));
        assert_eq!(retained(&mut driver), kept);
    }
}

#[test]
fn a_hard_reset_keeps_nothing() {
    let (mut driver, conn) = graceful_driver(true);
    driver.message(
        conn,
        Message::Notification(Notification::new(6, 2).into_hard_reset()),
    );
    assert_eq!(retained(&mut driver), []);
}

#[test]
fn our_administrative_shutdown_is_a_hard_reset_and_our_reset_is_not() {
    let (mut driver, conn) = graceful_driver(true);
    driver.command(Command::Disable {
        peer: PEER,
        message: crate::config::ShutdownMessage::default(),
    });
    assert_eq!(driver.notification(conn), Some((6, 9)));
    assert_eq!(retained(&mut driver), []);

    let (mut driver, conn) = graceful_driver(true);
    driver.command(Command::Reset {
        peer: PEER,
        message: crate::config::ShutdownMessage::default(),
    });
    assert_eq!(driver.notification(conn), Some((6, 4)));
    assert_eq!(retained(&mut driver), KEPT);
}

#[test]
fn stale_routes_go_with_end_of_rib_after_the_peers_return() {
    let (mut driver, conn) = graceful_driver(false);
    driver.closed(conn);
    driver.advance(seconds(10));
    let conn = driver.established(graceful_open(LOWER_ID, graceful(true, true, false)));
    driver.message(conn, end_of_rib());
    assert_eq!(swept(&mut driver), [SweepCause::EndOfRib]);
    for _ in 0..40 {
        driver.message(conn, Message::Keepalive);
        driver.advance(seconds(60));
    }
    assert_eq!(swept(&mut driver), [], "neither timer is left running");
}

#[test]
fn stale_routes_go_when_the_peer_returns_and_never_sends_end_of_rib() {
    let (mut driver, conn) = graceful_driver(false);
    driver.closed(conn);
    driver.advance(seconds(10));
    let conn = driver.established(graceful_open(LOWER_ID, graceful(true, true, false)));
    for _ in 0..6 {
        driver.message(conn, Message::Keepalive);
        driver.advance(seconds(59));
    }
    assert_eq!(swept(&mut driver), []);
    driver.advance(seconds(6));
    assert_eq!(swept(&mut driver), [SweepCause::StaleTimer]);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn a_peer_that_returns_without_forwarding_state_or_capability_loses_its_stale_routes_at_once() {
    for capability in [Some(graceful(true, false, false)), None] {
        let (mut driver, conn) = graceful_driver(false);
        driver.closed(conn);
        driver.take();
        driver.advance(seconds(10));
        let conn = driver.accept();
        let mut open = open(LOWER_ID);
        open.capabilities.extend(capability);
        driver.message(conn, Message::Open(open));
        driver.message(conn, Message::Keepalive);
        assert_eq!(swept(&mut driver), [SweepCause::NotPreserved]);
    }
}

#[test]
fn routes_stale_from_one_restart_do_not_survive_the_next() {
    let (mut driver, conn) = graceful_driver(false);
    driver.closed(conn);
    driver.advance(seconds(10));
    let conn = driver.established(graceful_open(LOWER_ID, graceful(true, true, false)));
    driver.closed(conn);
    assert_eq!(swept(&mut driver), [SweepCause::SessionEnded]);
}

#[test]
fn a_new_connection_replaces_the_session_of_a_peer_that_restarts_without_a_notification() {
    let (mut driver, old) = graceful_driver(false);
    driver.advance(seconds(10));
    let new = driver.accept();
    assert_eq!(
        driver.state(),
        State::Established,
        "a TCP connection alone changes nothing"
    );
    driver.message(
        new,
        Message::Open(graceful_open(LOWER_ID, graceful(true, true, false))),
    );
    assert_eq!(driver.notification(old), None);
    assert_eq!(driver.state(), State::OpenConfirm);
    assert_eq!(
        driver.view().last_reset.unwrap().cause,
        ResetCause::Reconnected
    );
    assert_eq!(retained(&mut driver), KEPT);
    driver.message(new, Message::Keepalive);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn an_ordinary_collision_does_not_count_as_a_restart() {
    let mut driver = Driver::passive(graceful_session());
    let hello = || Message::Open(graceful_open(HIGHER_ID, graceful(false, true, false)));
    let first = driver.accept();
    let second = driver.accept();
    driver.message(first, hello());
    driver.message(first, Message::Keepalive);
    driver.message(second, hello());
    assert_eq!(driver.notification(second), Some((6, 7)));
    assert!(!driver.sent(first).1);
}

fn our_capability(driver: &mut Driver) -> crate::wire::GracefulRestartCapability {
    driver
        .take()
        .into_iter()
        .find_map(|output| match output {
            Output::Start { open, .. } => open.graceful_restart().cloned(),
            _ => None,
        })
        .expect("our OPEN has the capability")
}

#[test]
fn a_cold_start_claims_no_forwarding_state_and_a_later_session_does() {
    let mut driver = Driver::passive(graceful_session());
    let conn = driver.accept();
    let cold = our_capability(&mut driver);
    assert!(!cold.restarting && !cold.families[0].forwarding);
    driver.message(
        conn,
        Message::Open(graceful_open(LOWER_ID, graceful(false, true, false))),
    );
    driver.message(conn, Message::Keepalive);
    driver.closed(conn);
    driver.advance(Duration::ZERO);
    driver.take();
    driver.accept();
    let later = our_capability(&mut driver);
    assert!(!later.restarting && later.families[0].forwarding);
}

fn restarting_driver() -> Driver {
    let second = PeerConfig {
        passive: true,
        ..PeerConfig::new("other", [192, 0, 2, 2].into(), graceful_session().into())
    };
    let first = PeerConfig {
        passive: true,
        ..peer(graceful_session())
    };
    Driver::new(SpeakerConfig {
        restarting: Some(seconds(300)),
        ..config(vec![first, second])
    })
}

fn join(driver: &mut Driver, addr: [u8; 4], capability: Capability) -> ConnId {
    let conn = driver.accept_from(addr);
    driver.message(
        conn,
        Message::Open(graceful_open(RouterId(u32::from(addr[3])), capability)),
    );
    driver.message(conn, Message::Keepalive);
    conn
}

fn resumed(driver: &mut Driver) -> Option<bool> {
    driver.events().into_iter().find_map(|event| match event {
        SpeakerEvent::SelectionResumed { complete } => Some(complete),
        _ => None,
    })
}

#[test]
fn a_restarting_speaker_sets_the_restart_state_bit_until_selection_resumes() {
    let mut driver = restarting_driver();
    driver.accept();
    let capability = our_capability(&mut driver);
    assert!(capability.restarting && capability.families[0].forwarding);
    driver.advance(seconds(300));
    driver.accept_from([192, 0, 2, 2]);
    assert!(!our_capability(&mut driver).restarting);
}

#[test]
fn selection_waits_for_end_of_rib_from_all_peers_but_restarting_ones() {
    let mut driver = restarting_driver();
    let first = join(&mut driver, [192, 0, 2, 1], graceful(false, true, false));
    driver.message(first, route());
    driver.message(first, end_of_rib());
    assert_eq!(resumed(&mut driver), None, "the other one has not come yet");
    let second = join(&mut driver, [192, 0, 2, 2], graceful(true, true, false));
    driver.message(second, route());
    driver.advance(seconds(2));
    assert_eq!(resumed(&mut driver), Some(true));

    let mut driver = restarting_driver();
    let first = join(&mut driver, [192, 0, 2, 1], graceful(false, true, false));
    let second = join(&mut driver, [192, 0, 2, 2], graceful(false, true, false));
    driver.message(first, route());
    driver.message(first, end_of_rib());
    assert_eq!(resumed(&mut driver), None);
    driver.message(second, route());
    driver.message(second, end_of_rib());
    driver.advance(Duration::from_millis(499));
    assert_eq!(resumed(&mut driver), None, "next hops are asked for");
    driver.advance(Duration::from_millis(1));
    assert_eq!(resumed(&mut driver), Some(true));
}

/// FRR says so after its start, and sends its routes a moment later.
#[test]
fn a_peer_that_restarts_too_is_given_a_moment_for_its_routes() {
    let mut driver = restarting_driver();
    let first = join(&mut driver, [192, 0, 2, 1], graceful(false, true, false));
    driver.message(first, route());
    driver.message(first, end_of_rib());
    let second = join(&mut driver, [192, 0, 2, 2], graceful(true, true, false));
    driver.advance(Duration::from_millis(1_999));
    assert_eq!(resumed(&mut driver), None);
    driver.message(second, route());
    driver.advance(Duration::from_millis(1_999));
    assert_eq!(resumed(&mut driver), None, "there may be more");
    driver.advance(Duration::from_millis(1));
    assert_eq!(resumed(&mut driver), Some(true));
}

#[test]
fn a_peer_that_never_pauses_does_not_keep_selection_waiting() {
    let mut driver = restarting_driver();
    let first = join(&mut driver, [192, 0, 2, 1], graceful(false, true, false));
    driver.message(first, route());
    driver.message(first, end_of_rib());
    let second = join(&mut driver, [192, 0, 2, 2], graceful(true, true, false));
    for _ in 0..10 {
        assert_eq!(resumed(&mut driver), None);
        driver.message(second, route());
        driver.advance(seconds(1));
    }
    assert_eq!(resumed(&mut driver), Some(true));
}

#[test]
fn selection_resumes_when_the_selection_deferral_timer_expires() {
    let mut driver = restarting_driver();
    driver.advance(Duration::from_millis(299_999));
    assert_eq!(resumed(&mut driver), None);
    driver.advance(Duration::from_millis(1));
    assert_eq!(resumed(&mut driver), Some(false));
}

#[test]
fn before_selection_resumes_a_path_is_undecided_and_not_lost() {
    let mut driver = restarting_driver();
    let prefix: Prefix = "198.51.100.0/24".parse().unwrap();
    driver.input(Input::Originate(vec![Originated::new(prefix)]));
    let status = |driver: &Driver| driver.speaker.rib().explain(prefix).paths[0].status.clone();
    assert_eq!(
        status(&driver),
        PathStatus::Ineligible(Ineligible::Undecided)
    );
    driver.advance(seconds(300));
    assert_eq!(status(&driver), PathStatus::Best);
}

#[test]
fn stopping_to_restart_closes_without_a_notification() {
    let (mut driver, conn) = graceful_driver(true);
    driver.command(Command::Shutdown {
        message: crate::config::ShutdownMessage::default(),
        restart: true,
    });
    assert_eq!(driver.notification(conn), None);
    driver.input(Input::Programmed { generation: 7 });
}
