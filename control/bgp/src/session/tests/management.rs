//! Commands, limits, dynamic neighbours and reconfiguration.

use core::time::Duration;
use std::sync::Arc;

use crate::config::{
    DynamicConfig, Excess, FamilyConfig, GracefulRestartConfig, MaxPrefixes, Md5Key, PeerConfig,
    RemoteAs, SessionConfig, ShutdownMessage, SpeakerConfig, TransportOptions, Ttl,
};
use crate::session::State;
use crate::session::change::{Change, change};
use crate::speaker::testing::*;
use crate::speaker::{Command, Input, Output, RefuseReason, ResetCause, SpeakerEvent};
use crate::types::{Asn, Family};
use crate::wire::{Message, RefreshKind, RouteRefresh};

fn text(text: &str) -> ShutdownMessage {
    ShutdownMessage::new(text)
}

#[test]
fn disable_sends_the_shutdown_communication_and_stays_down_until_enabled() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    driver.command(Command::Disable {
        peer: PEER,
        message: text("moved to rack 7"),
    });
    let (sent, closed) = driver.sent(conn);
    let mut data = vec![15];
    data.extend_from_slice(b"moved to rack 7");
    assert_eq!((sent, closed), (vec![Sent::Notification(6, 2, data)], true));
    driver.advance(seconds(3600));
    assert_eq!(driver.state(), State::Idle);
    assert!(driver.view().admin_down);
    let conn = driver.accept();
    assert_eq!(driver.notification(conn), Some((6, 5)));
    driver.command(Command::Enable { peer: PEER });
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn reset_ends_the_session_and_starts_it_again_at_once() {
    let mut driver = Driver::with(session());
    let conn = driver.connected();
    driver.message(conn, Message::Open(open(LOWER_ID)));
    driver.message(conn, Message::Keepalive);
    driver.command(Command::Reset {
        peer: PEER,
        message: text(""),
    });
    assert_eq!(driver.notification(conn), Some((6, 4)));
    driver.advance(Duration::ZERO);
    assert_eq!(driver.state(), State::Connect);
    assert_eq!(
        driver.view().last_reset.unwrap().cause,
        ResetCause::AdminReset
    );
}

#[test]
fn a_command_for_an_unknown_peer_is_rejected_by_an_event() {
    let mut driver = Driver::passive(session());
    driver.take();
    driver.command(Command::Enable {
        peer: crate::types::PeerId(77),
    });
    assert!(matches!(
        driver.events()[..],
        [SpeakerEvent::Rejected { .. }]
    ));
}

#[test]
fn refresh_in_sends_route_refresh_if_the_peer_takes_it() {
    let mut driver = Driver::passive(session());
    let family = Family::Ipv4Unicast;
    driver.command(Command::RefreshIn { peer: PEER, family });
    assert!(
        driver
            .events()
            .iter()
            .any(|event| matches!(event, SpeakerEvent::Rejected { .. }))
    );
    let conn = driver.established(open(LOWER_ID));
    driver.command(Command::RefreshIn { peer: PEER, family });
    assert_eq!(driver.sent(conn).0, [Sent::RouteRefresh(0)]);
}

#[test]
fn a_refresh_of_a_family_that_was_not_negotiated_is_ignored() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    for kind in [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End] {
        driver.message(
            conn,
            Message::RouteRefresh(RouteRefresh {
                family: Family::Ipv6Unicast,
                kind,
            }),
        );
    }
    assert_eq!(driver.state(), State::Established);
    assert_eq!(driver.sent(conn), (vec![], false));
}

#[test]
fn shutting_down_tells_every_peer_and_refuses_newcomers() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    driver.command(Command::Shutdown {
        message: text("bye"),
        restart: false,
    });
    assert_eq!(driver.notification(conn), Some((6, 2)));
    let conn = driver.accept();
    assert_eq!(driver.notification(conn), Some((6, 5)));
}

#[test]
fn strangers_are_refused_counted_and_told_in_bounded_numbers() {
    let mut driver = Driver::passive(session());
    driver.take();
    for last in 0..=255 {
        let conn = driver.accept_from([198, 51, 100, last]);
        assert_eq!(driver.notification(conn), Some((6, 5)));
    }
    let refused = driver.speaker.refused();
    assert_eq!(refused.total, 256);
    assert!(
        refused
            .by_reason
            .contains(&(RefuseReason::UnknownPeer, 256))
    );
    assert_eq!(refused.by_reason.iter().map(|(_, n)| n).sum::<u64>(), 256);
    assert_eq!(refused.recent.len(), 64);
    assert_eq!(refused.recent[63].2, RefuseReason::UnknownPeer);
    assert_eq!(driver.events().len(), 10, "of 256 within one second");
}

#[test]
fn a_connection_to_another_address_than_the_local_one_is_refused() {
    let mut driver = Driver::passive(SessionConfig {
        local_address: Some([192, 0, 2, 101].into()),
        ..session()
    });
    let conn = driver.accept();
    assert_eq!(driver.notification(conn), Some((6, 5)));
    assert_eq!(
        driver.speaker.refused().recent[0].2,
        RefuseReason::WrongLocalAddress
    );
}

fn dynamic(limit: usize) -> SpeakerConfig {
    SpeakerConfig {
        dynamic: vec![DynamicConfig {
            name: "rack".into(),
            ranges: vec!["198.51.100.0/24".parse().unwrap()],
            limit,
            session: Arc::new(SessionConfig {
                remote_as: RemoteAs::External,
                ..session()
            }),
        }],
        ..config(Vec::new())
    }
}

#[test]
fn neighbours_from_a_range_are_accepted_up_to_the_limit_and_forgotten_when_gone() {
    let mut driver = Driver::new(dynamic(2));
    let first = driver.accept_from([198, 51, 100, 1]);
    driver.accept_from([198, 51, 100, 2]);
    let third = driver.accept_from([198, 51, 100, 3]);
    assert_eq!(driver.notification(third), Some((6, 5)));
    let names: Vec<_> = driver
        .speaker
        .neighbors(driver.now)
        .iter()
        .map(|view| view.name.to_string())
        .collect();
    assert_eq!(names, ["rack-198.51.100.1", "rack-198.51.100.2"]);
    driver.message(first, Message::Open(open(LOWER_ID)));
    driver.message(first, Message::Keepalive);
    driver.closed(first);
    driver.advance(Duration::ZERO);
    assert_eq!(driver.speaker.neighbors(driver.now).len(), 1);
    let third = driver.accept_from([198, 51, 100, 3]);
    assert!(!driver.sent(third).1);
}

#[test]
fn a_dynamic_neighbour_that_makes_errors_is_held_idle_like_any_other() {
    let mut driver = Driver::new(dynamic(8));
    for _ in 0..2 {
        let conn = driver.accept_from([198, 51, 100, 1]);
        driver.message(conn, Message::Keepalive);
    }
    let conn = driver.accept_from([198, 51, 100, 1]);
    assert_eq!(driver.notification(conn), Some((6, 5)));
}

#[test]
fn a_dynamic_neighbour_follows_its_group_until_it_is_configured_itself() {
    let mut driver = Driver::new(dynamic(8));
    let conn = driver.accept_from([198, 51, 100, 1]);
    driver.message(conn, Message::Open(open(LOWER_ID)));
    driver.message(conn, Message::Keepalive);
    let mut narrower = dynamic(8);
    narrower.dynamic[0].ranges = vec!["198.51.100.0/28".parse().unwrap()];
    driver.input(Input::Reconfigure(Box::new(narrower.clone())));
    assert!(!driver.sent(conn).1, "still covered");
    narrower.peers = vec![PeerConfig::new(
        "named",
        [198, 51, 100, 1].into(),
        Arc::new(session()),
    )];
    driver.input(Input::Reconfigure(Box::new(narrower)));
    assert_eq!(driver.notification(conn), Some((6, 3)));
    let names: Vec<_> = driver
        .speaker
        .neighbors(driver.now)
        .iter()
        .map(|view| view.name.to_string())
        .collect();
    assert_eq!(names, ["named"]);
}

fn limited(excess: Excess) -> SessionConfig {
    SessionConfig {
        families: vec![FamilyConfig {
            max_prefixes: Some(MaxPrefixes {
                limit: 10,
                warn_percent: 80,
                excess,
            }),
            ..family(Family::Ipv4Unicast)
        }],
        ..session()
    }
}

/// The state machine's part of max-prefix, without a RIB that counts.
fn receive(
    session: SessionConfig,
    counts: &[usize],
) -> (crate::session::Peer, Vec<crate::session::Effect>) {
    use crate::session::{Context, Event, Jitter, Local, Peer};
    let config = PeerConfig {
        passive: true,
        ..peer(session)
    };
    let local = Local {
        asn: OUR_AS,
        confederation: None,
        router_id: OUR_ID,
        hostname: None,
        restarting: false,
    };
    let mut counters = Default::default();
    let mut effects = Vec::new();
    let mut ctx = Context {
        now: crate::time::Time::ZERO,
        local: &local,
        jitter: &mut Jitter::new(1),
        next_conn: &mut 0,
        counters: &mut counters,
        effects: &mut effects,
    };
    let mut peer = Peer::new(ctx.now, PEER, config, None);
    peer.handle(&mut ctx, Event::Start);
    let conn = crate::types::ConnId(9);
    peer.handle(
        &mut ctx,
        Event::TcpConnectionConfirmed(conn, path([192, 0, 2, 1])),
    );
    peer.received(&mut ctx, conn, Message::Open(open(LOWER_ID)));
    peer.received(&mut ctx, conn, Message::Keepalive);
    ctx.effects.clear();
    for count in counts {
        peer.check_prefixes(&mut ctx, Family::Ipv4Unicast, *count);
    }
    (peer, effects)
}

#[test]
fn the_prefix_limit_warns_once_per_crossing() {
    use crate::session::Effect;
    let (_, effects) = receive(limited(Excess::Stop), &[7, 8, 9, 10, 7, 8]);
    let warnings = effects
        .iter()
        .filter(|effect| {
            matches!(
                effect,
                Effect::Event(SpeakerEvent::MaxPrefixesWarning { .. })
            )
        })
        .count();
    assert_eq!((warnings, effects.len()), (2, 2));
}

#[test]
fn a_limit_that_only_warns_ends_nothing() {
    use crate::session::Effect;
    let (peer, effects) = receive(limited(Excess::Warn), &[8, 11, 12, 10, 11]);
    assert_eq!(peer.state(), State::Established);
    let received: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Event(SpeakerEvent::MaxPrefixesWarning { received, .. }) => Some(*received),
            _ => None,
        })
        .collect();
    assert_eq!(received, [8, 11, 11], "near, over, and over once more");
    assert_eq!(effects.len(), 3);
}

#[test]
fn more_prefixes_than_the_limit_end_the_session_with_cease_1_and_hold_it() {
    use crate::session::TimerKind;
    let (peer, _) = receive(limited(Excess::Stop), &[11]);
    assert_eq!(peer.state(), State::Idle);
    assert_eq!(peer.deadline(), None, "waits for a command");
    let reset = peer.history.last_reset.clone().unwrap();
    assert_eq!(
        reset.cause,
        ResetCause::MaxPrefixes {
            family: Family::Ipv4Unicast,
            limit: 10
        }
    );
    let notification = reset.sent.unwrap();
    assert_eq!(
        (
            notification.code,
            notification.subcode,
            &notification.data[..]
        ),
        (6, 1, &[0, 1, 1, 0, 0, 0, 10][..])
    );
    let (peer, _) = receive(limited(Excess::RestartAfter(seconds(30))), &[11]);
    assert_eq!(
        peer.timers.deadline(TimerKind::IdleHold),
        Some(crate::time::Time::from_duration(seconds(30)))
    );
}

/// One row per field of a peer: what changing it asks for.
#[test]
fn a_change_asks_for_the_least_that_brings_it_about() {
    type Edit = fn(&mut PeerConfig, &mut SessionConfig);
    let reset = Change::Reset;
    let cases: Vec<(Edit, Option<Change>)> = vec![
        (|_, _| {}, None),
        (
            |p, _| p.remote = [192, 0, 2, 9].into(),
            Some(reset("remote")),
        ),
        (|p, _| p.passive = true, Some(Change::Live)),
        (
            |_, s| s.remote_as = RemoteAs::External,
            Some(reset("remote_as")),
        ),
        (
            |_, s| s.local_as = Some(Asn(65_009)),
            Some(reset("local_as")),
        ),
        (
            |_, s| s.local_address = Some([192, 0, 2, 100].into()),
            Some(reset("local_address")),
        ),
        (|_, s| s.shutdown = Some(text("x")), Some(reset("shutdown"))),
        (
            |_, s| s.transport.ttl = Ttl::Hops(3),
            Some(reset("transport.ttl")),
        ),
        (|_, s| s.transport.dscp = 0, Some(reset("transport.dscp"))),
        (|_, s| s.transport.md5 = None, Some(reset("transport.md5"))),
        (
            |_, s| s.transport.md5 = Md5Key::new(b"new"),
            Some(Change::Rekey),
        ),
        (
            |_, s| s.timers.hold = seconds(30),
            Some(reset("timers.hold")),
        ),
        (
            |_, s| s.timers.connect_retry = seconds(30),
            Some(Change::Live),
        ),
        (
            |_, s| s.families.push(family(Family::Ipv6Unicast)),
            Some(reset("families")),
        ),
        (
            |_, s| s.families[0].routing.import = None,
            Some(Change::Routes),
        ),
        (
            |_, s| s.families[0].max_prefixes = limited(Excess::Stop).families[0].max_prefixes,
            Some(Change::Live),
        ),
        (
            |_, s| s.graceful_restart = Some(GracefulRestartConfig::default()),
            Some(reset("graceful_restart")),
        ),
        (
            |_, s| s.extended_messages = false,
            Some(reset("extended_messages")),
        ),
        (
            |_, s| s.route_reflector_client = true,
            Some(reset("route_reflector_client")),
        ),
        (|_, s| s.enforce_first_as = false, Some(Change::Routes)),
        (|_, s| s.allow_own_as = 1, Some(Change::Routes)),
    ];
    let base = SessionConfig {
        transport: TransportOptions {
            md5: Md5Key::new(b"old"),
            ..TransportOptions::default()
        },
        ..session()
    };
    for (index, (edit, expected)) in cases.into_iter().enumerate() {
        let old = peer(base.clone());
        let (mut new, mut session) = (old.clone(), base.clone());
        edit(&mut new, &mut session);
        new.session = Arc::new(session);
        assert_eq!(change(&old, &new), expected, "case {index}");
    }
}

fn passive_peer(session: SessionConfig) -> PeerConfig {
    PeerConfig {
        passive: true,
        ..peer(session)
    }
}

fn with_key(key: &[u8]) -> SessionConfig {
    SessionConfig {
        transport: TransportOptions {
            md5: Md5Key::new(key),
            ..TransportOptions::default()
        },
        ..session()
    }
}

#[test]
fn a_new_md5_key_is_set_on_the_live_connection_and_the_listening_socket() {
    let mut driver = Driver::passive(with_key(b"old"));
    let conn = driver.established(open(LOWER_ID));
    driver.input(Input::Reconfigure(Box::new(config(vec![passive_peer(
        with_key(b"new"),
    )]))));
    assert_eq!(driver.state(), State::Established);
    let outputs = driver.take();
    assert!(outputs.contains(&Output::Rekey {
        conn,
        md5: Md5Key::new(b"new")
    }));
    assert!(outputs.contains(&Output::Listen));
    assert_eq!(driver.speaker.listen()[0].options.md5, Md5Key::new(b"new"));
}

#[test]
fn reconfiguration_removes_adds_and_resets_only_what_changed() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    let added = PeerConfig::new("added", [192, 0, 2, 2].into(), Arc::new(session()));
    driver.input(Input::Reconfigure(Box::new(config(vec![
        passive_peer(session()),
        added.clone(),
    ]))));
    assert_eq!(driver.sent(conn), (vec![], false));
    assert_eq!(driver.attempts().len(), 1);

    let changed = SessionConfig {
        extended_messages: false,
        ..session()
    };
    driver.input(Input::Reconfigure(Box::new(config(vec![
        passive_peer(changed),
        added,
    ]))));
    assert_eq!(driver.notification(conn), Some((6, 6)));
    driver.advance(Duration::ZERO);
    assert_eq!(driver.state(), State::Active);

    let conn = driver.established(open(LOWER_ID));
    driver.input(Input::Reconfigure(Box::new(config(Vec::new()))));
    assert_eq!(driver.notification(conn), Some((6, 3)));
    assert!(driver.speaker.neighbors(driver.now).is_empty());
}

#[test]
fn an_invalid_configuration_is_rejected_and_the_old_one_stays() {
    let mut driver = Driver::passive(session());
    driver.established(open(LOWER_ID));
    driver.input(Input::Reconfigure(Box::new(config(vec![
        passive_peer(session()),
        passive_peer(session()),
    ]))));
    assert!(
        matches!(&driver.events()[..], [SpeakerEvent::Rejected { reason }] if reason.contains("peer: name"))
    );
    assert_eq!(driver.state(), State::Established);
}

#[test]
fn shutdown_in_the_configuration_is_announced_and_undone() {
    let mut driver = Driver::passive(session());
    let conn = driver.established(open(LOWER_ID));
    let down = SessionConfig {
        shutdown: Some(text("later")),
        ..session()
    };
    driver.input(Input::Reconfigure(Box::new(config(vec![passive_peer(
        down,
    )]))));
    assert_eq!(driver.notification(conn), Some((6, 2)));
    driver.advance(seconds(60));
    assert_eq!(driver.state(), State::Idle);
    driver.input(Input::Reconfigure(Box::new(config(vec![passive_peer(
        session(),
    )]))));
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn gtsm_accepts_only_what_came_over_so_many_hops() {
    assert_eq!(Ttl::Security { hops: 1 }.least_incoming(), Some(255));
    assert_eq!(Ttl::Security { hops: 3 }.least_incoming(), Some(253));
    assert_eq!(Ttl::Security { hops: 3 }.outgoing(), 255);
    assert_eq!(
        (Ttl::Hops(4).outgoing(), Ttl::Hops(4).least_incoming()),
        (4, None)
    );
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", with_key(b"hunter2"));
    assert!(!text.contains("hunter2"), "{text}");
}
