//! Two connections at once with a peer that keeps our routes: what it takes for a restart costs those that are stale.

use super::super::State;
use crate::config::limits;
use crate::speaker::testing::*;
use crate::speaker::{Input, Output, ResetCause};
use crate::types::ConnId;
use crate::wire::Message;

use super::graceful::{graceful_open, graceful_session};

fn hello() -> Message {
    Message::Open(graceful_open(HIGHER_ID, graceful(false, true, false)))
}

/// The peer has opened a connection and said all that it can while our attempt is under way.
fn met() -> (Driver, ConnId, ConnId) {
    let mut driver = Driver::with(graceful_session());
    let attempt = driver.attempts()[0];
    let inbound = driver.accept();
    driver.message(inbound, hello());
    driver.message(inbound, Message::Keepalive);
    (driver, attempt, inbound)
}

fn connect(driver: &mut Driver, conn: ConnId) {
    driver.input(Input::Connected {
        conn,
        path: path([192, 0, 2, 1]),
    });
}

#[test]
fn the_answer_to_an_open_waits_until_the_peer_has_seen_our_connection() {
    let (mut driver, outbound, inbound) = met();
    assert_eq!(driver.sent(inbound).0, [Sent::Open], "no KEEPALIVE yet");
    assert_eq!(driver.state(), State::OpenConfirm);
    connect(&mut driver, outbound);
    assert_eq!(driver.sent(inbound).0, []);
    driver.message(outbound, hello());
    assert_eq!(driver.notification(outbound), Some((6, 7)));
    assert_eq!(driver.sent(inbound).0[0], Sent::Keepalive);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn the_answer_on_our_connection_waits_for_the_open_of_the_peers() {
    let mut driver = Driver::with(graceful_session());
    let outbound = driver.connected();
    let inbound = driver.accept();
    driver.message(outbound, hello());
    driver.message(outbound, Message::Keepalive);
    assert_eq!(driver.state(), State::OpenConfirm);
    driver.closed(inbound);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn the_answer_goes_out_when_our_attempt_fails_and_before_the_session_is_used() {
    let (mut driver, attempt, inbound) = met();
    driver.take();
    driver.input(Input::ConnectFailed {
        conn: attempt,
        reason: "refused".into(),
    });
    assert_eq!(driver.sent(inbound).0[0], Sent::Keepalive);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn the_answer_waits_so_long_and_no_longer() {
    let closed = |conn| Output::Close { conn, abort: true };
    let (mut driver, attempt, inbound) = met();
    driver.advance(limits::COLLISION);
    assert!(driver.outputs.contains(&closed(attempt)));
    assert_eq!(driver.state(), State::Established);
    assert!(driver.sent(inbound).0.contains(&Sent::Keepalive));

    // Nor does a peer that accepts and then says nothing keep it waiting.
    let (mut driver, outbound, _) = met();
    connect(&mut driver, outbound);
    driver.advance(limits::COLLISION);
    assert_eq!(driver.notification(outbound), Some((6, 7)));
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn a_peer_that_ends_while_the_answer_waits_is_not_established() {
    let (mut driver, _, inbound) = met();
    driver.closed(inbound);
    assert_ne!(driver.state(), State::Established);
    assert_eq!(driver.view().flaps, 0);
}

#[test]
fn without_graceful_restart_an_open_is_answered_at_once() {
    let mut driver = Driver::with(session());
    let inbound = driver.accept();
    driver.message(inbound, Message::Open(open(HIGHER_ID)));
    driver.message(inbound, Message::Keepalive);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn what_the_peer_opened_before_it_saw_our_keepalive_is_no_restart() {
    let mut driver = Driver::with(graceful_session());
    let outbound = driver.connected();
    driver.message(outbound, hello());
    driver.message(outbound, Message::Keepalive);
    assert_eq!(driver.state(), State::Established);
    driver.advance(core::time::Duration::from_millis(1));
    let late = driver.accept();
    driver.message(late, hello());
    assert_eq!(driver.notification(late), Some((6, 7)));
    assert_eq!(driver.state(), State::Established);
    driver.advance(limits::COLLISION);
    let restart = driver.accept();
    driver.message(restart, hello());
    assert_eq!(
        driver.view().last_reset.unwrap().cause,
        ResetCause::Reconnected
    );
}

#[test]
fn a_speaker_that_restarts_lets_peers_that_keep_its_routes_come_first() {
    let restarting = |session| {
        Driver::new(crate::config::SpeakerConfig {
            restarting: Some(seconds(300)),
            ..config(vec![peer(session)])
        })
    };
    let mut driver = restarting(graceful_session());
    assert_eq!(driver.attempts(), []);
    assert_eq!(driver.state(), State::Active);
    driver.advance(limits::PEERS_COME_FIRST);
    assert_eq!(driver.attempts().len(), 1);

    let mut driver = restarting(graceful_session());
    driver.established(graceful_open(HIGHER_ID, graceful(false, true, false)));
    driver.advance(limits::PEERS_COME_FIRST);
    assert_eq!(driver.attempts(), []);

    assert_eq!(restarting(session()).attempts().len(), 1);
}
