//! Byte vectors that other people wrote (`tests/data/wire/vectors.txt`), and what this decoder makes of each.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::BytesMut;
use causeway_bgp::wire::*;
use causeway_codec_tests::session::{Session, message};

/// One line: `SOURCE KIND WIDTH AUTHOR OURS HEX NAME`.
struct Vector<'a> {
    kind: &'a str,
    as4: bool,
    /// What its author says of it.
    author: &'a str,
    /// What we say of it.
    ours: &'a str,
    bytes: Vec<u8>,
    name: &'a str,
}

fn parse(line: &str) -> Vector<'_> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, kind, width, author, ours, hex, name] = fields[..] else {
        panic!("seven fields, not {line:?}");
    };
    let bytes = (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect();
    Vector {
        kind,
        as4: width == "as4",
        author,
        ours,
        bytes,
        name,
    }
}

fn read() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data/wire/vectors.txt");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An UPDATE with this attribute beside valid mandatory ones, announcing 10.1.0.0/16.
fn around(attribute: &[u8], as4: bool) -> Vec<u8> {
    let path: &[u8] = if as4 {
        &[0x40, 2, 6, 2, 1, 0, 0, 0, 7]
    } else {
        &[0x40, 2, 4, 2, 1, 0, 7]
    };
    let mandatory = [
        &[0x40, 1, 1, 0][..],
        path,
        &[0x40, 3, 4, 192, 0, 2, 1],
        &[0x40, 5, 4, 0, 0, 0, 100],
    ];
    let mut attributes: Vec<u8> = mandatory
        .into_iter()
        .filter(|other| Some(&other[1]) != attribute.get(1))
        .flatten()
        .copied()
        .collect();
    attributes.extend_from_slice(attribute);
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    [&[0, 0], &length[..], &attributes, &[16, 10, 1]].concat()
}

/// What happened, in a word.
fn outcome(vector: &Vector<'_>) -> String {
    let session = Session {
        // An attribute stands beside a LOCAL_PREF that we put there; whole messages stand for themselves.
        kind: match vector.kind {
            "attribute" => SessionKind::Internal,
            _ => SessionKind::External,
        },
        as4: vector.as4,
        extended: false,
        enforce_first_as: false,
    };
    let mut decoder = session.decoder();
    let (kind, body) = match vector.kind {
        "message" => (0, Vec::new()),
        "attribute" => (message_type::UPDATE, around(&vector.bytes, vector.as4)),
        "body" => (message_type::UPDATE, vector.bytes.clone()),
        "notification" => (message_type::NOTIFICATION, vector.bytes.clone()),
        "refresh" => (message_type::ROUTE_REFRESH, vector.bytes.clone()),
        "open" => (message_type::OPEN, vector.bytes.clone()),
        "capability" => {
            let length = u8::try_from(vector.bytes.len()).unwrap();
            let fixed = [4, 0, 7, 0, 90, 10, 0, 0, 1, length + 2, 2, length];
            (message_type::OPEN, [&fixed, &vector.bytes[..]].concat())
        }
        other => panic!("unknown kind {other}"),
    };
    let mut bytes = match kind {
        0 => BytesMut::from(&vector.bytes[..]),
        kind => message(kind, &body).unwrap(),
    };
    match decoder.decode(&mut bytes) {
        Err(error) => {
            let notification = error.notification;
            format!("error:{}/{}", notification.code, notification.subcode)
        }
        Ok(None) => "skipped".to_owned(),
        Ok(Some(decoded)) => match decoded.reactions.iter().map(|r| r.approach).max() {
            Some(Approach::TreatAsWithdraw) => "withdraw".to_owned(),
            Some(Approach::AttributeDiscard) => "discard".to_owned(),
            Some(Approach::IgnorePrefix) => "ignore".to_owned(),
            None => "ok".to_owned(),
        },
    }
}

#[test]
fn vectors_of_others_are_understood_as_written_down() {
    let text = read();
    let mut wrong = String::new();
    let mut count = 0;
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let vector = parse(line);
        let found = outcome(&vector);
        if found != vector.ours {
            writeln!(
                wrong,
                "{} {} ({}): {found}",
                vector.ours, vector.name, vector.author
            )
            .unwrap();
        }
        count += 1;
    }
    assert!(count > 100, "{count} vectors");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_its_author_calls_good_is_refused_only_where_a_comment_says_why() {
    let text = read();
    let mut reason = "";
    for line in text.lines() {
        if line.is_empty() {
            reason = "";
        } else if let Some(comment) = line.strip_prefix('#') {
            reason = comment;
        } else {
            let vector = parse(line);
            let differs = match vector.author {
                "good" => vector.ours != "ok",
                _ => vector.ours == "ok",
            };
            assert!(
                !differs || reason.starts_with(" Differs:"),
                "{} differs from its author without a reason",
                vector.name
            );
        }
    }
}
