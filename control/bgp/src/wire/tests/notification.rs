//! RFC 4271 4.5, RFC 4486, RFC 6608, RFC 8538, RFC 9003.

use super::*;

#[test]
fn a_notification_reads_as_its_names_and_numbers() {
    for (code, subcode, text) in [
        (1, 2, "Message Header Error: Bad Message Length (1/2)"),
        (4, 0, "Hold Timer Expired (4/0)"),
        (
            5,
            3,
            "Finite State Machine Error: Receive Unexpected Message in Established State (5/3)",
        ),
        (6, 7, "Cease: Connection Collision Resolution (6/7)"),
        (
            7,
            1,
            "ROUTE-REFRESH Message Error: Invalid Message Length (7/1)",
        ),
        (8, 0, "Send Hold Timer Expired (8/0)"),
        (3, 99, "UPDATE Message Error: subcode 99 (3/99)"),
        (77, 1, "error code 77: subcode 1 (77/1)"),
    ] {
        assert_eq!(Notification::new(code, subcode).to_string(), text);
    }
}

#[test]
fn a_shutdown_text_survives_the_wire() {
    let sent = Notification::cease_with_text(2, "für Wartung, 20 Minuten");
    let mut bytes = BytesMut::new();
    encode_notification(&sent, &mut bytes);
    let mut decoder = Decoder::new(&open_of(LOCAL_AS, true), DecoderConfig::default());
    let decoded = decoder.decode(&mut bytes).unwrap().unwrap();
    assert_eq!(decoded.message, Message::Notification(sent.clone()));
    assert_eq!(sent.shutdown_text(), Some("für Wartung, 20 Minuten"));
    assert_eq!(
        sent.to_string(),
        "Cease: Administrative Shutdown (6/2), \"für Wartung, 20 Minuten\""
    );
}

#[test]
fn a_shutdown_text_is_cut_at_a_character_within_255_bytes() {
    let sent = Notification::cease_with_text(4, &"ü".repeat(200));
    assert_eq!(sent.data.len(), 1 + 254);
    assert_eq!(sent.shutdown_text(), Some(&*"ü".repeat(127)));
    assert!(Notification::cease_with_text(2, "").data.is_empty());
}

#[test]
fn a_shutdown_text_that_is_no_text_is_not_shown() {
    for data in [&[][..], &[0], &[5, b'a'], &[2, 0xff, 0xff]] {
        let received = Notification::with_data(6, 2, data);
        assert_eq!(received.shutdown_text(), None, "{data:?}");
        assert_eq!(received.to_string(), "Cease: Administrative Shutdown (6/2)");
    }
    // Only shutdown and reset carry one.
    assert_eq!(
        Notification::with_data(6, 3, &[1, b'a']).shutdown_text(),
        None
    );
}

#[test]
fn control_characters_of_a_peer_do_not_reach_the_terminal() {
    let text = Notification::cease_with_text(2, "a\x1b[2Jb\n").to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[test]
fn a_hard_reset_names_what_it_wraps() {
    let hard = Notification::new(6, 3).into_hard_reset();
    assert!(hard.is_hard_reset());
    assert_eq!(hard.hard_reset_cause(), Some(Notification::new(6, 3)));
    assert_eq!(
        hard.to_string(),
        "Cease: Hard Reset (6/9), because of Peer De-configured (6/3)"
    );
    assert!(!Notification::new(6, 3).is_hard_reset());
}

#[test]
fn data_is_cut_to_the_longest_message() {
    let mut bytes = BytesMut::new();
    encode_notification(&Notification::with_data(3, 1, &[7; 5000]), &mut bytes);
    assert_eq!(bytes.len(), MAX_MESSAGE_BYTES);
}
