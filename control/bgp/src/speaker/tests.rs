//! Sessions and RIB together: what goes in comes out, in order and in bounds.

use std::sync::Arc;

use super::testing::*;
use super::{Command, Input, Output, ResetCause, SpeakerEvent};
use crate::config::{
    Excess, FamilyConfig, GracefulRestartConfig, MaxPrefixes, PeerConfig, RemoteAs, SessionConfig,
    SpeakerConfig, limits,
};
use crate::origin::Originated;
use crate::policy::Policy;
use crate::rib::{Cursor, RouteFilter};
use crate::session::State;
use crate::types::{Asn, ConnId, Family, PeerId, Prefix, Prefix4, RouterId};
use crate::wire::{
    Approach, Attributes, Capability, Decoded, Fault, Message, Open, Reach, Reaction, RefreshKind,
    RouteRefresh, Update,
};

const OTHER_AS: Asn = Asn(65_002);

fn prefix(index: u32) -> Prefix4 {
    Prefix4::new(
        core::net::Ipv4Addr::from_bits(0x0b00_0000 + (index << 8)),
        24,
    )
    .unwrap()
}

fn announce(prefixes: impl IntoIterator<Item = u32>) -> Message {
    Message::Update(Update {
        reach4: Some(Reach {
            attributes: attributes(&[PEER_AS.0]),
            prefixes: prefixes.into_iter().map(prefix).collect(),
        }),
        ..Update::default()
    })
}

fn refresh(kind: RefreshKind) -> Message {
    Message::RouteRefresh(RouteRefresh {
        family: Family::Ipv4Unicast,
        kind,
    })
}

fn passive(name: &str, last: u8, session: SessionConfig) -> PeerConfig {
    PeerConfig {
        passive: true,
        ..PeerConfig::new(name, [192, 0, 2, last].into(), Arc::new(session))
    }
}

fn other_session() -> SessionConfig {
    SessionConfig {
        remote_as: RemoteAs::Exactly(OTHER_AS),
        ..session()
    }
}

fn other_open() -> Open {
    Open {
        asn: OTHER_AS,
        capabilities: vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::FourOctetAs(OTHER_AS),
            Capability::RouteRefresh,
        ],
        ..open(RouterId(0x0a00_0002))
    }
}

fn join(driver: &mut Driver, addr: [u8; 4], open: Open) -> ConnId {
    let conn = driver.accept_from(addr);
    driver.message(conn, Message::Open(open));
    driver.message(conn, Message::Keepalive);
    conn
}

/// A source and a sink, both established, nothing announced yet.
fn pair(source: SessionConfig) -> (Driver, ConnId, ConnId) {
    let mut driver = Driver::new(config(vec![
        passive("source", 1, source),
        passive("sink", 2, other_session()),
    ]));
    let source = join(&mut driver, [192, 0, 2, 1], open(LOWER_ID));
    let sink = join(&mut driver, [192, 0, 2, 2], other_open());
    driver.take();
    (driver, source, sink)
}

fn routes(driver: &Driver) -> usize {
    let all = RouteFilter::All(Family::Ipv4Unicast);
    driver
        .speaker
        .rib()
        .routes(all, Cursor::default(), usize::MAX)
        .items
        .len()
}

fn updates(driver: &mut Driver, conn: ConnId) -> usize {
    let (sent, closed) = driver.sent(conn);
    assert!(!closed);
    sent.iter()
        .filter(|message| **message == Sent::Update)
        .count()
}

#[test]
fn a_new_session_gets_the_table_and_then_end_of_rib() {
    let mut driver = Driver::new(SpeakerConfig {
        originated: vec![Originated::new(Prefix::V4(prefix(0)))],
        ..config(vec![passive("sink", 1, session())])
    });
    let conn = join(&mut driver, [192, 0, 2, 1], open(LOWER_ID));
    assert_eq!(updates(&mut driver, conn), 2, "one route, one End-of-RIB");
    let view = driver.view();
    assert!(view.families[0].end_of_rib_sent && !view.families[0].end_of_rib_received);
    assert_eq!(view.families[0].advertised, 1);
    assert_eq!(view.counters.sent.update, 2);
}

#[test]
fn an_update_reaches_the_other_peer_with_the_same_poll() {
    let (mut driver, source, sink) = pair(session());
    driver.message(source, announce([1]));
    assert_eq!(updates(&mut driver, sink), 1);
    assert_eq!(updates(&mut driver, source), 0, "nothing goes back");
    assert_eq!(driver.view().counters.received.update, 1);
    driver.closed(source);
    assert_eq!(updates(&mut driver, sink), 1, "withdrawn with its session");
    assert_eq!(routes(&driver), 0);
}

#[test]
fn a_route_refresh_sends_everything_again() {
    let (mut driver, source, sink) = pair(session());
    driver.message(source, announce([1, 2, 3]));
    driver.sent(sink);
    driver.message(sink, refresh(RefreshKind::Request));
    assert!(updates(&mut driver, sink) >= 1);
    driver.command(Command::RefreshOut {
        peer: PeerId(2),
        family: Family::Ipv4Unicast,
    });
    assert!(updates(&mut driver, sink) >= 1);
}

#[test]
fn routes_that_a_refresh_did_not_repeat_go_with_eorr() {
    let mut driver = Driver::new(config(vec![passive("source", 1, session())]));
    let mut hello = open(LOWER_ID);
    hello.capabilities.push(Capability::EnhancedRouteRefresh);
    let source = join(&mut driver, [192, 0, 2, 1], hello);
    driver.message(source, announce(0..10));
    driver.message(source, refresh(RefreshKind::Begin));
    driver.message(source, announce(0..4));
    assert_eq!(routes(&driver), 10);
    driver.message(source, refresh(RefreshKind::End));
    assert_eq!(routes(&driver), 4);
}

#[test]
fn without_enhanced_refresh_borr_and_eorr_are_ignored() {
    let (mut driver, source, _) = pair(session());
    driver.message(source, announce(0..10));
    driver.message(source, refresh(RefreshKind::Begin));
    driver.message(source, refresh(RefreshKind::End));
    assert_eq!(routes(&driver), 10);
}

#[test]
fn prefixes_over_the_limit_end_only_the_session_that_sent_them() {
    let limited = SessionConfig {
        families: vec![FamilyConfig {
            max_prefixes: Some(MaxPrefixes {
                limit: 100,
                warn_percent: 50,
                excess: Excess::RestartAfter(seconds(60)),
            }),
            ..family(Family::Ipv4Unicast)
        }],
        ..session()
    };
    let (mut driver, source, sink) = pair(limited);
    driver.message(source, announce(0..60));
    let warned = |event: &SpeakerEvent| {
        matches!(
            event,
            SpeakerEvent::MaxPrefixesWarning {
                received: 60,
                limit: 100,
                ..
            }
        )
    };
    assert!(driver.events().iter().any(warned));
    driver.message(source, announce(0..100));
    assert_eq!(
        driver.state(),
        State::Established,
        "repetitions don't count twice"
    );
    driver.message(source, announce(100..101));
    assert_eq!(driver.notification(source), Some((6, 1)));
    assert_eq!(routes(&driver), 0);
    assert_eq!(
        driver.view().last_reset.unwrap().cause.to_string(),
        "more than 100 ipv4-unicast prefixes received"
    );
    assert!(!driver.sent(sink).1);
    driver.advance(seconds(60));
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn what_a_socket_has_not_taken_bounds_what_it_is_given() {
    let (mut driver, source, sink) = pair(session());
    driver.sockets_take = false;
    for index in 0..400_000 {
        // One set of attributes each, so that the updates are many bytes.
        let update = Update {
            reach4: Some(Reach {
                attributes: Attributes {
                    med: Some(index),
                    ..attributes(&[PEER_AS.0])
                },
                prefixes: vec![prefix(index % 60_000)],
            }),
            ..Update::default()
        };
        driver.speaker.handle(
            driver.now,
            Input::Received {
                conn: source,
                messages: vec![Decoded {
                    message: Message::Update(update),
                    reactions: Vec::new(),
                }],
                error: None,
            },
        );
        if index % 1_000 == 0 {
            driver.poll();
        }
    }
    driver.poll();
    let given: usize = driver
        .outputs
        .iter()
        .map(|output| match output {
            Output::Transmit { conn, bytes } if *conn == sink => bytes.len(),
            _ => 0,
        })
        .sum();
    let most = limits::IN_FLIGHT_BYTES + limits::TRANSMIT_BYTES + 4096;
    assert!(
        (limits::IN_FLIGHT_BYTES..=most).contains(&given),
        "{given} bytes"
    );
    assert_eq!(
        driver
            .speaker
            .neighbor(driver.now, PeerId(2))
            .unwrap()
            .in_flight_bytes,
        given
    );
    assert!(!driver.speaker.has_work());
    driver.take();
    driver.input(Input::Transmitted {
        conn: sink,
        bytes: given,
    });
    assert!(
        updates(&mut driver, sink) > 0,
        "goes on when the socket has taken it"
    );
}

#[test]
fn a_new_policy_acts_at_once_and_leaves_the_session_alone() {
    let (mut driver, source, sink) = pair(session());
    driver.message(source, announce(0..5));
    driver.sent(sink);
    let mut refusing = session();
    refusing.families[0].routing.import = Some(Arc::new(Policy::reject_all()));
    driver.input(Input::Reconfigure(Box::new(config(vec![
        passive("source", 1, refusing),
        passive("sink", 2, other_session()),
    ]))));
    assert_eq!(updates(&mut driver, sink), 1, "all withdrawn");
    assert_eq!(driver.state(), State::Established);
    driver.input(Input::Reconfigure(Box::new(config(vec![
        passive("source", 1, session()),
        passive("sink", 2, other_session()),
    ]))));
    assert_eq!(
        updates(&mut driver, sink),
        1,
        "and back, without asking the peer"
    );
}

#[test]
fn a_malformed_update_is_counted_and_told_with_its_reaction() {
    let (mut driver, source, _) = pair(session());
    let reaction = Reaction {
        attribute: 4,
        fault: Fault::Length,
        approach: Approach::TreatAsWithdraw,
    };
    driver.input(Input::Received {
        conn: source,
        messages: vec![Decoded {
            message: Message::Update(Update::default()),
            reactions: vec![reaction],
        }],
        error: None,
    });
    assert_eq!(driver.view().counters.malformed_updates, 1);
    assert!(driver.events().contains(&SpeakerEvent::MalformedUpdate {
        peer: PEER,
        reaction
    }));
    assert_eq!(driver.state(), State::Established);
}

fn end_of_rib() -> Message {
    Message::Update(Update {
        end_of_rib: Some(Family::Ipv4Unicast),
        ..Update::default()
    })
}

#[test]
fn after_a_restart_nothing_is_advertised_before_the_table_is_programmed() {
    let graceful_session = SessionConfig {
        graceful_restart: Some(GracefulRestartConfig::default()),
        ..session()
    };
    let mut driver = Driver::new(SpeakerConfig {
        restarting: Some(seconds(300)),
        ..config(vec![
            passive("source", 1, graceful_session),
            passive("sink", 2, other_session()),
        ])
    });
    let mut hello = open(LOWER_ID);
    hello.capabilities.push(graceful(false, true, false));
    let source = join(&mut driver, [192, 0, 2, 1], hello);
    let sink = join(&mut driver, [192, 0, 2, 2], other_open());
    driver.message(source, announce(0..5));
    assert_eq!(updates(&mut driver, sink), 0, "selection is deferred");
    assert!(
        !driver
            .outputs
            .iter()
            .any(|output| matches!(output, Output::Fib { .. }))
    );
    driver.message(source, end_of_rib());
    // The other one has sent no route; it may be about to.
    driver.advance(seconds(2));
    assert_eq!(updates(&mut driver, sink), 0, "not programmed yet");
    let generation = driver
        .outputs
        .iter()
        .find_map(|output| match output {
            Output::Fib { generation, .. } => Some(*generation),
            _ => None,
        })
        .expect("the forwarding table");
    driver.input(Input::Programmed { generation });
    assert_eq!(updates(&mut driver, sink), 2, "the routes, then End-of-RIB");
}

#[test]
fn routes_of_a_restarting_peer_stay_until_swept() {
    let graceful_session = SessionConfig {
        graceful_restart: Some(GracefulRestartConfig::default()),
        ..session()
    };
    let (mut driver, _, sink) = pair(graceful_session);
    let mut hello = open(LOWER_ID);
    hello.capabilities.push(graceful(false, true, false));
    // Once more, now with the capability.
    driver.command(Command::Reset {
        peer: PEER,
        message: Default::default(),
    });
    driver.advance(seconds(0));
    let source = join(&mut driver, [192, 0, 2, 1], hello.clone());
    driver.message(source, announce(0..10));
    driver.sent(sink);
    driver.closed(source);
    assert_eq!(updates(&mut driver, sink), 0, "kept while it restarts");
    assert_eq!(driver.view().families[0].stale, 10);
    driver.advance(seconds(1));
    let source = join(&mut driver, [192, 0, 2, 1], hello);
    driver.message(source, announce(0..4));
    driver.message(source, end_of_rib());
    assert_eq!(routes(&driver), 4);
    assert_eq!(
        updates(&mut driver, sink),
        1,
        "one withdrawal of what did not come back"
    );
    assert_eq!(
        driver.view().last_reset.unwrap().cause,
        ResetCause::Transport("".into())
    );
}
