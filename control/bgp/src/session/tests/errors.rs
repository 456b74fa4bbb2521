//! Errors and the NOTIFICATIONs they are answered with (RFC 4271 6, RFC 6608, RFC 6286, RFC 7607).

use std::sync::Arc;

use crate::config::{PeerConfig, RemoteAs, SessionConfig};
use crate::session::State;
use crate::speaker::ResetCause;
use crate::speaker::testing::*;
use crate::types::{Asn, Family, RouterId};
use crate::wire::{
    Capability, Message, MessageError, Notification, Open, RefreshKind, RouteRefresh, Update,
};

fn refused(session: SessionConfig, open: Open) -> Option<(u8, u8)> {
    let mut driver = Driver::passive(session);
    let conn = driver.accept();
    driver.message(conn, Message::Open(open));
    if driver.state() == State::OpenConfirm {
        return None;
    }
    driver.notification(conn)
}

fn remote_as(remote_as: RemoteAs) -> SessionConfig {
    SessionConfig {
        remote_as,
        ..session()
    }
}

fn from_as(asn: Asn) -> Open {
    Open {
        asn,
        ..open(LOWER_ID)
    }
}

#[test]
fn the_peers_as_must_be_the_configured_one_or_of_the_configured_kind() {
    assert_eq!(refused(session(), from_as(PEER_AS)), None);
    assert_eq!(refused(session(), from_as(Asn(65_002))), Some((2, 2)));
    assert_eq!(
        refused(remote_as(RemoteAs::Internal), from_as(OUR_AS)),
        None
    );
    assert_eq!(
        refused(remote_as(RemoteAs::Internal), from_as(PEER_AS)),
        Some((2, 2))
    );
    assert_eq!(
        refused(remote_as(RemoteAs::External), from_as(PEER_AS)),
        None
    );
    assert_eq!(
        refused(remote_as(RemoteAs::External), from_as(OUR_AS)),
        Some((2, 2))
    );
    assert_eq!(refused(remote_as(RemoteAs::Any), from_as(OUR_AS)), None);
    assert_eq!(refused(remote_as(RemoteAs::Any), from_as(PEER_AS)), None);
}

#[test]
fn as_zero_is_refused_whatever_is_configured() {
    assert_eq!(
        refused(remote_as(RemoteAs::Any), from_as(Asn::ZERO)),
        Some((2, 2))
    );
}

#[test]
fn our_as_towards_a_peer_decides_whether_it_is_internal() {
    let session = SessionConfig {
        local_as: Some(PEER_AS),
        ..remote_as(RemoteAs::Internal)
    };
    assert_eq!(refused(session, from_as(PEER_AS)), None);
}

#[test]
fn identifiers_are_not_zero_and_differ_within_one_as_only() {
    assert_eq!(refused(session(), open(RouterId(0))), Some((2, 3)));
    assert_eq!(
        refused(session(), open(OUR_ID)),
        None,
        "another AS may use our identifier"
    );
    let internal = Open {
        asn: OUR_AS,
        ..open(OUR_ID)
    };
    assert_eq!(
        refused(remote_as(RemoteAs::Internal), internal),
        Some((2, 3))
    );
}

#[test]
fn hold_times_of_one_and_two_seconds_are_refused() {
    for hold_time in [1, 2] {
        assert_eq!(
            refused(
                session(),
                Open {
                    hold_time,
                    ..open(LOWER_ID)
                }
            ),
            Some((2, 6))
        );
    }
    assert_eq!(
        refused(
            session(),
            Open {
                hold_time: 3,
                ..open(LOWER_ID)
            }
        ),
        None
    );
}

#[test]
fn a_peer_without_a_common_family_is_told_which_capability_is_missing() {
    let mut driver = Driver::passive(session());
    let conn = driver.accept();
    driver.message(
        conn,
        Message::Open(Open {
            capabilities: vec![Capability::multiprotocol(Family::Ipv6Unicast)],
            ..open(LOWER_ID)
        }),
    );
    let (sent, closed) = driver.sent(conn);
    assert!(closed);
    assert_eq!(sent[1], Sent::Notification(2, 7, vec![1, 4, 0, 1, 0, 1]));
}

#[test]
fn a_peer_without_capabilities_speaks_ipv4_unicast() {
    let silent = Open {
        capabilities: Vec::new(),
        ..open(LOWER_ID)
    };
    assert_eq!(refused(session(), silent), None);
}

/// RFC 6608: the subcode names the state, the data the message.
#[test]
fn a_message_that_the_state_does_not_allow_is_an_fsm_error_of_that_state() {
    let refresh = Message::RouteRefresh(RouteRefresh {
        family: Family::Ipv4Unicast,
        kind: RefreshKind::Request,
    });
    let update = Message::Update(Update::default());
    let hello = Message::Open(open(LOWER_ID));
    let cases = [
        (State::OpenSent, Message::Keepalive, 1, 4),
        (State::OpenSent, update.clone(), 1, 2),
        (State::OpenSent, refresh.clone(), 1, 5),
        (State::OpenConfirm, hello.clone(), 2, 1),
        (State::OpenConfirm, update, 2, 2),
        (State::OpenConfirm, refresh, 2, 5),
        (State::Established, hello, 3, 1),
    ];
    for (state, message, subcode, kind) in cases {
        let mut driver = Driver::passive(session());
        let conn = match state {
            State::Established => driver.established(open(LOWER_ID)),
            _ => driver.accept(),
        };
        if state == State::OpenConfirm {
            driver.message(conn, Message::Open(open(LOWER_ID)));
        }
        assert_eq!(driver.state(), state);
        driver.message(conn, message);
        let (sent, closed) = driver.sent(conn);
        assert!(closed);
        assert_eq!(
            sent.last(),
            Some(&Sent::Notification(5, subcode, vec![kind])),
            "{state}"
        );
    }
}

#[test]
fn a_malformed_update_before_established_is_an_fsm_error_too() {
    let mut driver = Driver::passive(session());
    let conn = driver.accept();
    driver.message(conn, Message::Open(open(LOWER_ID)));
    driver.error(conn, error(3, 1));
    assert_eq!(driver.notification(conn), Some((5, 2)));
}

fn error(code: u8, subcode: u8) -> MessageError {
    MessageError {
        notification: Notification::new(code, subcode),
        reason: "a test".into(),
    }
}

#[test]
fn a_decode_error_sends_its_notification_and_ends_the_session() {
    for (code, subcode) in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 4)] {
        let mut driver = Driver::passive(session());
        let conn = driver.accept();
        driver.error(conn, error(code, subcode));
        assert_eq!(driver.notification(conn), Some((code, subcode)));
        assert_eq!(driver.state(), State::Idle);
    }
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    driver.error(conn, error(3, 1));
    assert_eq!(driver.notification(conn), Some((3, 1)));
    assert_eq!(
        driver.view().last_reset.unwrap().cause,
        ResetCause::MalformedMessage("a test".into())
    );
}

#[test]
fn a_notification_ends_the_connection_in_every_state_and_is_never_answered() {
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        let mut driver = Driver::passive(session());
        let conn = match state {
            State::Established => driver.established(open(LOWER_ID)),
            _ => driver.accept(),
        };
        if state == State::OpenConfirm {
            driver.message(conn, Message::Open(open(LOWER_ID)));
        }
        driver.message(
            conn,
            Message::Notification(Notification::cease_with_text(2, "maintenance")),
        );
        assert_eq!(driver.notification(conn), None, "{state}");
        assert_eq!(driver.state(), State::Idle);
        let reset = driver.view().last_reset.unwrap();
        assert_eq!(reset.state, state);
        assert!(reset.cause.by_remote());
        assert!(
            reset.cause.to_string().contains("maintenance"),
            "{}",
            reset.cause
        );
    }
}

#[test]
fn messages_after_the_end_of_a_session_are_not_looked_at() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    driver.message(conn, Message::Open(open(LOWER_ID)));
    driver.take();
    driver.message(conn, Message::Keepalive);
    driver.closed(conn);
    assert!(driver.take().is_empty());
}

#[test]
fn one_peers_error_leaves_the_other_alone() {
    let other = PeerConfig {
        passive: true,
        ..PeerConfig::new("other", [192, 0, 2, 2].into(), Arc::new(session()))
    };
    let first = PeerConfig {
        passive: true,
        ..peer(session())
    };
    let mut driver = Driver::new(config(vec![first, other]));
    let good = driver.established(open(LOWER_ID));
    let bad = driver.accept_from([192, 0, 2, 2]);
    driver.error(bad, error(1, 1));
    assert_eq!(driver.notification(bad), Some((1, 1)));
    assert_eq!(driver.state(), State::Established);
    assert_eq!(driver.sent(good), (vec![], false));
}
