//! Which AS a peer is shown in a confederation (RFC 5065 4), and what that makes of the session.

use crate::config::{RemoteAs, SpeakerConfig};
use crate::rib::Confederation;
use crate::session::State;
use crate::speaker::testing::*;
use crate::speaker::{Input, Output, ResetCause};
use crate::types::Asn;
use crate::wire::{Message, Open};

const IDENTIFIER: Asn = Asn(64_512);

fn member_config(remote_as: RemoteAs) -> SpeakerConfig {
    let mut config = config(vec![crate::config::PeerConfig {
        passive: true,
        ..peer(crate::config::SessionConfig {
            remote_as,
            ..session()
        })
    }]);
    config.rib.confederation = Some(Confederation {
        identifier: IDENTIFIER,
        members: [PEER_AS].into(),
    });
    config
}

/// The AS in our OPEN, and the members that the decoder is told.
fn shown(driver: &mut Driver) -> (Asn, usize) {
    let shown = driver.take().into_iter().find_map(|output| match output {
        Output::Start { open, decoder, .. } => {
            Some((open.asn, decoder.confederation_members.len()))
        }
        _ => None,
    });
    shown.expect("a connection")
}

#[test]
fn members_are_shown_the_member_as_and_others_the_confederation() {
    for (remote_as, expected) in [
        (RemoteAs::Exactly(PEER_AS), (OUR_AS, 1)),
        (RemoteAs::Exactly(OUR_AS), (OUR_AS, 1)),
        (RemoteAs::Internal, (OUR_AS, 1)),
        (RemoteAs::Exactly(Asn(64_999)), (IDENTIFIER, 0)),
        (RemoteAs::External, (IDENTIFIER, 0)),
    ] {
        let mut driver = Driver::new(member_config(remote_as));
        driver.accept();
        assert_eq!(shown(&mut driver), expected, "{remote_as:?}");
    }
}

#[test]
fn a_member_peer_is_neither_internal_nor_outside() {
    let mut driver = Driver::new(member_config(RemoteAs::Exactly(PEER_AS)));
    let conn = driver.accept();
    driver.message(conn, Message::Open(open(LOWER_ID)));
    driver.message(conn, Message::Keepalive);
    let view = driver.view();
    assert_eq!(view.state, State::Established);
    assert_eq!((view.internal, view.confederation), (Some(false), true));
}

#[test]
fn a_peer_outside_that_answers_with_the_identifier_is_no_external_peer() {
    let mut driver = Driver::new(member_config(RemoteAs::External));
    let conn = driver.accept();
    let same = Open {
        asn: IDENTIFIER,
        ..open(LOWER_ID)
    };
    driver.message(conn, Message::Open(same));
    assert_eq!(driver.notification(conn), Some((2, 2)));
}

#[test]
fn another_confederation_resets_the_sessions() {
    let mut driver = Driver::new(member_config(RemoteAs::Exactly(PEER_AS)));
    driver.established(open(LOWER_ID));
    let mut config = member_config(RemoteAs::Exactly(PEER_AS));
    config.rib.confederation = None;
    driver.input(Input::Reconfigure(Box::new(config)));
    assert_eq!(
        driver.view().last_reset.unwrap().cause,
        ResetCause::ConfigChanged("confederation")
    );
}
