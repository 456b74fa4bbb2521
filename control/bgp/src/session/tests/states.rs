//! Transitions of RFC 4271 8.2.2, timers and collisions.

use core::time::Duration;

use crate::session::{State, TimerKind};
use crate::speaker::testing::*;
use crate::speaker::{Command, Input, Output, ResetCause, SpeakerEvent};
use crate::wire::{Message, Notification, Open};

#[test]
fn starting_initiates_a_connection_and_moves_to_connect() {
    let mut driver = Driver::with(session());
    assert_eq!(driver.state(), State::Connect);
    assert_eq!(driver.attempts().len(), 1);
}

#[test]
fn a_passive_peer_waits_in_active_and_never_connects() {
    let mut driver = Driver::passive(session());
    assert_eq!(driver.state(), State::Active);
    driver.advance(seconds(3600));
    assert!(driver.attempts().is_empty());
}

#[test]
fn a_failed_attempt_leads_to_active_and_the_connect_retry_timer_starts_the_next() {
    let mut driver = Driver::with(session());
    let conn = driver.attempts()[0];
    driver.input(Input::ConnectFailed {
        conn,
        reason: "connection refused".into(),
    });
    assert_eq!(driver.state(), State::Active);
    driver.advance(Duration::from_millis(3_700));
    assert!(
        driver.attempts().is_empty(),
        "earlier than 0.75 of ConnectRetryTime"
    );
    driver.advance(Duration::from_millis(1_300));
    assert_eq!(driver.attempts().len(), 1);
    assert_eq!(driver.state(), State::Connect);
}

#[test]
fn connect_retry_in_connect_drops_the_attempt_and_initiates_another() {
    let mut driver = Driver::with(session());
    let first = driver.attempts()[0];
    driver.advance(seconds(5));
    assert!(driver.outputs.contains(&Output::Close {
        conn: first,
        abort: true
    }));
    let second = driver.attempts()[0];
    assert_ne!(first, second);
    assert_eq!(driver.state(), State::Connect);
    // The old attempt may still complete in the meantime: it is not wanted any more.
    driver.input(Input::Connected {
        conn: first,
        path: path([192, 0, 2, 1]),
    });
    assert_eq!(driver.state(), State::Connect);
}

#[test]
fn a_completed_attempt_sends_open_and_waits_four_minutes_for_the_peers() {
    let mut driver = Driver::with(session());
    let conn = driver.connected();
    assert_eq!(driver.state(), State::OpenSent);
    assert_eq!(driver.sent(conn), (vec![Sent::Open], false));
    driver.advance(seconds(239));
    assert_eq!(driver.state(), State::OpenSent);
    driver.advance(seconds(1));
    assert_eq!(driver.notification(conn), Some((4, 0)));
}

#[test]
fn an_accepted_connection_stops_the_connect_retry_timer_and_sends_open() {
    let mut driver = Driver::passive(session());
    let conn = driver.accept();
    assert_eq!(driver.state(), State::OpenSent);
    assert_eq!(driver.sent(conn), (vec![Sent::Open], false));
    assert!(
        driver
            .view()
            .timers
            .running
            .iter()
            .all(|(kind, _)| *kind == TimerKind::Hold || *kind == TimerKind::SendHold)
    );
}

#[test]
fn transport_loss_in_open_sent_leads_to_active() {
    let mut driver = Driver::with(session());
    let conn = driver.connected();
    driver.closed(conn);
    assert_eq!(driver.state(), State::Active);
    driver.advance(seconds(5));
    assert_eq!(driver.attempts().len(), 1);
}

#[test]
fn a_valid_open_is_answered_by_keepalive_and_sets_the_smaller_hold_time() {
    let mut driver = Driver::passive(session());
    let conn = driver.accept();
    driver.message(
        conn,
        Message::Open(Open {
            hold_time: 9,
            ..open(LOWER_ID)
        }),
    );
    assert_eq!(driver.state(), State::OpenConfirm);
    assert_eq!(
        driver.sent(conn),
        (vec![Sent::Open, Sent::Keepalive], false)
    );
    let timers = driver.view().timers;
    assert_eq!(
        (timers.hold, timers.keepalive),
        (Some(seconds(9)), Some(seconds(3)))
    );
}

#[test]
fn keepalive_in_open_confirm_establishes_the_session() {
    let mut driver = Driver::passive(session());
    let conn = driver.accept();
    driver.message(conn, Message::Open(open(LOWER_ID)));
    driver.message(conn, Message::Keepalive);
    assert_eq!(driver.state(), State::Established);
    assert!(driver.events().iter().any(|event| matches!(
        event,
        SpeakerEvent::SessionUp {
            remote_asn: PEER_AS,
            remote_router_id: LOWER_ID,
            ..
        }
    )));
}

#[test]
fn the_hold_timer_ends_a_session_that_falls_silent_and_any_update_or_keepalive_restarts_it() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    driver.advance(seconds(89));
    driver.message(conn, Message::Keepalive);
    driver.advance(seconds(89));
    driver.message(conn, Message::Update(crate::wire::Update::default()));
    driver.advance(seconds(89));
    assert_eq!(driver.state(), State::Established);
    driver.advance(seconds(1));
    assert_eq!(driver.notification(conn), Some((4, 0)));
    assert_eq!(
        driver.view().last_reset.unwrap().cause,
        ResetCause::HoldTimer
    );
}

#[test]
fn keepalives_go_out_every_three_quarters_to_one_keepalive_time() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    for _ in 0..20 {
        driver.message(conn, Message::Keepalive);
        driver.advance(seconds(30));
    }
    let (sent, closed) = driver.sent(conn);
    assert!(!closed && sent.iter().all(|message| *message == Sent::Keepalive));
    assert!(
        (20..=27).contains(&sent.len()),
        "{} keepalives in 600 s",
        sent.len()
    );
}

#[test]
fn hold_time_zero_means_neither_keepalives_nor_hold_timer() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(Open {
        hold_time: 0,
        ..open(LOWER_ID)
    });
    driver.advance(seconds(100_000));
    assert_eq!(driver.state(), State::Established);
    assert_eq!(driver.sent(conn), (vec![], false));
}

#[test]
fn a_peer_that_does_not_read_is_cut_by_the_send_hold_timer_only() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    driver.sockets_take = false;
    for _ in 0..60 {
        driver.message(conn, Message::Keepalive);
        driver.advance(seconds(10));
    }
    assert_eq!(
        driver.view().last_reset.unwrap().cause,
        ResetCause::SendHoldTimer
    );
    assert!(
        driver
            .outputs
            .contains(&Output::Close { conn, abort: true })
    );
}

/// Both sides connect at once; both OPENs arrive on our connection first.
fn collide(remote: crate::types::RouterId) -> (Driver, crate::types::ConnId, crate::types::ConnId) {
    let mut driver = Driver::with(session());
    let inbound = driver.accept();
    let outbound = driver.connected();
    driver.message(outbound, Message::Open(open(remote)));
    driver.message(inbound, Message::Open(open(remote)));
    (driver, outbound, inbound)
}

#[test]
fn of_two_connections_the_one_opened_by_the_higher_identifier_stays() {
    let (mut driver, outbound, inbound) = collide(HIGHER_ID);
    assert_eq!(driver.notification(outbound), Some((6, 7)));
    driver.message(inbound, Message::Keepalive);
    assert_eq!(driver.state(), State::Established);

    let (mut driver, outbound, inbound) = collide(LOWER_ID);
    assert_eq!(driver.notification(inbound), Some((6, 7)));
    driver.message(outbound, Message::Keepalive);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn of_two_connections_between_equal_identifiers_the_one_opened_by_the_higher_as_stays() {
    let (mut driver, outbound, inbound) = collide(OUR_ID);
    assert_eq!(
        driver.notification(outbound),
        Some((6, 7)),
        "{PEER_AS} > {OUR_AS}"
    );
    driver.message(inbound, Message::Keepalive);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn a_collision_is_resolved_only_when_the_second_open_arrives() {
    let mut driver = Driver::with(session());
    let inbound = driver.accept();
    let outbound = driver.connected();
    driver.message(outbound, Message::Open(open(HIGHER_ID)));
    assert!(!driver.sent(inbound).1 && !driver.sent(outbound).1);
    assert_eq!(driver.state(), State::OpenConfirm);
}

#[test]
fn an_attempt_that_makes_a_third_connection_is_closed_once_and_forgotten() {
    let mut driver = Driver::with(session());
    let attempt = driver.attempts()[0];
    driver.accept();
    driver.accept();
    driver.take();
    driver.input(Input::Connected {
        conn: attempt,
        path: path([192, 0, 2, 1]),
    });
    driver.command(Command::Disable {
        peer: PEER,
        message: crate::config::ShutdownMessage::default(),
    });
    let closed = Output::Close {
        conn: attempt,
        abort: true,
    };
    let times = driver.take().iter().filter(|o| **o == closed).count();
    assert_eq!(times, 1);
}

#[test]
fn a_connection_that_collides_with_an_established_session_is_closed() {
    let mut driver = Driver::passive(session());
    let first = driver.established(open(HIGHER_ID));
    driver.advance(seconds(1));
    let second = driver.accept();
    assert!(!driver.sent(second).1, "tracked until its OPEN");
    driver.message(second, Message::Open(open(HIGHER_ID)));
    assert_eq!(driver.notification(second), Some((6, 7)));
    assert!(!driver.sent(first).1);
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn an_established_session_gives_up_the_attempt_that_is_still_under_way() {
    let mut driver = Driver::with(session());
    let attempt = driver.attempts()[0];
    let inbound = driver.accept();
    driver.message(inbound, Message::Open(open(HIGHER_ID)));
    driver.message(inbound, Message::Keepalive);
    assert!(driver.outputs.contains(&Output::Close {
        conn: attempt,
        abort: true
    }));
}

#[test]
fn a_third_connection_is_refused() {
    let mut driver = Driver::with(session());
    driver.accept();
    driver.accept();
    let third = driver.accept();
    assert_eq!(driver.notification(third), Some((6, 5)));
}

#[test]
fn the_first_error_restarts_at_once_and_further_ones_back_off_up_to_the_limit() {
    let mut driver = Driver::with(session());
    let mut waits = Vec::new();
    for _ in 0..9 {
        let conn = driver.connected();
        driver.message(conn, Message::Keepalive);
        assert_eq!(driver.state(), State::Idle);
        let failed = driver.now;
        while driver.state() == State::Idle {
            let next = driver.speaker.poll_timeout().unwrap();
            let wait = next - driver.now;
            driver.advance(wait);
        }
        waits.push(driver.now - failed);
    }
    assert_eq!(waits[0], Duration::ZERO);
    for (index, wait) in waits.iter().enumerate().skip(1) {
        let full = seconds(1 << (index - 1)).min(seconds(60));
        assert!(
            *wait <= full && *wait >= full * 3 / 4,
            "{index}: {wait:?} of {full:?}"
        );
    }
}

#[test]
fn a_session_that_lasted_forgives_earlier_errors() {
    let mut driver = Driver::passive(session());
    for _ in 0..4 {
        let conn = driver.established(open(LOWER_ID));
        driver.advance(seconds(61));
        driver.closed(conn);
        assert_eq!(driver.state(), State::Idle);
        driver.advance(Duration::ZERO);
        assert_eq!(
            driver.state(),
            State::Active,
            "no idle hold after a stable session"
        );
    }
    assert_eq!(driver.view().flaps, 4);
}

#[test]
fn idle_refuses_connections() {
    let mut driver = Driver::passive(session());
    for _ in 0..2 {
        let conn = driver.accept();
        driver.message(conn, Message::Keepalive);
        if driver.state() == State::Idle {
            driver.advance(Duration::ZERO);
        }
    }
    assert_eq!(driver.state(), State::Idle);
    let conn = driver.accept();
    assert_eq!(driver.notification(conn), Some((6, 5)));
    assert_eq!(driver.speaker.refused().total, 1);
}

#[test]
fn a_peer_that_turns_us_away_may_still_come_to_us() {
    let mut driver = Driver::with(session());
    for _ in 0..5 {
        let conn = driver.connected();
        let rejected = Notification::new(6, 5);
        driver.message(conn, Message::Notification(rejected));
        assert_eq!(driver.state(), State::Active, "no idle hold");
        driver.advance(seconds(6));
    }
    let outgoing = driver.connected();
    driver.message(outgoing, Message::Notification(Notification::new(6, 5)));
    let conn = driver.accept();
    assert_eq!(driver.sent(conn), (vec![Sent::Open], false));
    assert_eq!(driver.state(), State::OpenSent);
}
