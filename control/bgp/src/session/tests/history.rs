//! How the last session ended, apart from what keeps the next one from coming up.

use crate::session::State;
use crate::speaker::testing::*;
use crate::speaker::{Command, Input, ResetCause, SpeakerEvent};
use crate::wire::{Message, Notification};

/// An Established session on an attempt of ours, ended by the peer with Administrative Shutdown.
fn stopped_by_the_peer() -> Driver {
    let mut driver = Driver::with(session());
    let conn = driver.connected();
    driver.message(conn, Message::Open(open(LOWER_ID)));
    driver.message(conn, Message::Keepalive);
    driver.message(
        conn,
        Message::Notification(Notification::cease_with_text(2, "maintenance")),
    );
    assert!(shows_the_shutdown(&driver));
    assert_eq!(driver.view().last_error, None);
    driver
}

/// Whether the peer's shutdown is what is shown as the end of the last session.
fn shows_the_shutdown(driver: &Driver) -> bool {
    let reset = driver.view().last_reset.unwrap();
    reset.state == State::Established && reset.cause.to_string().contains("maintenance")
}

fn refuse(driver: &mut Driver) {
    let conn = *driver.attempts().last().expect("an attempt");
    driver.input(Input::ConnectFailed {
        conn,
        reason: "connection refused".into(),
    });
}

#[test]
fn a_connection_refused_after_a_session_does_not_hide_why_that_ended() {
    let mut driver = stopped_by_the_peer();
    driver.advance(seconds(0));
    refuse(&mut driver);
    assert!(shows_the_shutdown(&driver));
    let error = driver.view().last_error.unwrap();
    assert_eq!(
        (error.state, error.cause),
        (
            State::Connect,
            ResetCause::ConnectFailed("connection refused".into())
        )
    );
}

#[test]
fn a_connection_that_dies_before_established_does_not_hide_why_the_session_ended() {
    for is_rejected in [false, true] {
        let mut driver = stopped_by_the_peer();
        driver.advance(seconds(0));
        let conn = driver.connected();
        if is_rejected {
            let rejected = Notification::cease_with_text(5, "");
            driver.message(conn, Message::Notification(rejected));
        } else {
            driver.closed(conn);
        }
        assert!(shows_the_shutdown(&driver));
        assert_eq!(driver.view().last_error.unwrap().state, State::OpenSent);
    }
}

#[test]
fn the_end_of_another_session_replaces_the_last_reset_and_a_success_keeps_the_last_error() {
    let mut driver = stopped_by_the_peer();
    driver.advance(seconds(0));
    refuse(&mut driver);
    driver.advance(seconds(5));
    let conn = driver.connected();
    driver.message(conn, Message::Open(open(LOWER_ID)));
    driver.message(conn, Message::Keepalive);
    assert_eq!(driver.state(), State::Established);
    assert!(driver.view().last_error.is_some());
    driver.command(Command::Reset {
        peer: PEER,
        message: Default::default(),
    });
    let view = driver.view();
    assert_eq!(view.last_reset.unwrap().cause, ResetCause::AdminReset);
    assert!(matches!(
        view.last_error.unwrap().cause,
        ResetCause::ConnectFailed(_)
    ));
}

#[test]
fn before_the_first_session_the_last_open_stands_in_but_a_failed_connect_does_not() {
    let mut driver = Driver::with(session());
    refuse(&mut driver);
    assert_eq!(driver.view().last_reset, None);
    assert!(driver.view().last_error.is_some());
    driver.advance(seconds(5));
    let conn = driver.connected();
    driver.closed(conn);
    let view = driver.view();
    assert_eq!(view.last_reset, view.last_error);
    assert_eq!(view.last_reset.unwrap().state, State::OpenSent);
}

#[test]
fn the_same_failure_to_connect_is_told_once_and_another_one_again() {
    let mut driver = Driver::with(session());
    let mut told = 0;
    for reason in [
        "connection refused",
        "connection refused",
        "no route to host",
    ] {
        let conn = *driver.attempts().last().expect("an attempt");
        driver.input(Input::ConnectFailed {
            conn,
            reason: reason.into(),
        });
        let failed = |event: &SpeakerEvent| matches!(event, SpeakerEvent::AttemptFailed { .. });
        told += driver.events().iter().filter(|event| failed(event)).count();
        driver.advance(seconds(5));
    }
    assert_eq!(told, 2);
}
