//! A peer that breaks the rules: the right NOTIFICATION, and nothing else is affected.
//!
//! Each case is a neighbour of its own, so that no case waits for the pause that another earned.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use support::causeway::{Causeway, Config};
use support::peer::{Implementation, Neighbor, Peer, Router};
use support::raw::{self, OpenFields, RawPeer};
use support::{Lab, Node, wait_until};

use crate::pair::{LIMIT, OUR_ASN};

const US: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 1);
const BYSTANDER_PREFIX: &str = "198.51.100.0/24";

/// How far the peer behaves before it does not.
#[derive(Clone, Copy)]
enum After {
    Connecting,
    Open,
    Establishing,
}

struct Case {
    name: &'static str,
    after: After,
    says: fn(Says) -> Vec<u8>,
    /// Code, subcode, and the data where the RFC says what it is.
    answer: (u8, u8, Option<&'static [u8]>),
}

/// What a case's message may be made of.
#[derive(Clone)]
struct Says {
    open: OpenFields,
    address: Ipv4Addr,
}

const CASES: &[Case] = &[
    // RFC 4271 6.1.
    Case {
        name: "a marker that is not all ones",
        after: After::Connecting,
        says: |says| {
            let mut bytes = says.open.encode();
            bytes[3] = 0;
            bytes
        },
        answer: (1, 1, None),
    },
    Case {
        name: "a length below the header's",
        after: After::Connecting,
        says: |_| with_length(18),
        answer: (1, 2, Some(&[0, 18])),
    },
    Case {
        name: "a length above 4096 before extended messages were agreed",
        after: After::Connecting,
        says: |_| with_length(4097),
        answer: (1, 2, Some(&[0x10, 1])),
    },
    Case {
        name: "a type that does not exist",
        after: After::Connecting,
        says: |_| raw::message(9, &[]),
        answer: (1, 3, Some(&[9])),
    },
    Case {
        name: "a KEEPALIVE with a body",
        after: After::Establishing,
        says: |_| raw::message(raw::KEEPALIVE, &[0]),
        answer: (1, 2, Some(&[0, 20])),
    },
    Case {
        name: "an OPEN that is too short",
        after: After::Connecting,
        says: |_| raw::message(raw::OPEN, &[4, 0]),
        answer: (1, 2, Some(&[0, 21])),
    },
    // RFC 4271 6.2.
    Case {
        name: "version 3",
        after: After::Connecting,
        says: |mut says| {
            says.open.version = 3;
            says.open.encode()
        },
        answer: (2, 1, Some(&[0, 4])),
    },
    Case {
        name: "another AS than configured",
        after: After::Connecting,
        says: |says| OpenFields::new(says.open.asn + 1000, [9, 9, 9, 9]).encode(),
        answer: (2, 2, None),
    },
    Case {
        name: "AS 0 (RFC 7607)",
        after: After::Connecting,
        says: |_| OpenFields::new(0, [9, 9, 9, 9]).encode(),
        answer: (2, 2, None),
    },
    Case {
        name: "identifier 0 (RFC 6286)",
        after: After::Connecting,
        says: |mut says| {
            says.open.router_id = Ipv4Addr::UNSPECIFIED;
            says.open.encode()
        },
        answer: (2, 3, None),
    },
    Case {
        name: "an optional parameter that is no capability",
        after: After::Connecting,
        says: |_| {
            let mut body = vec![4];
            body.extend(OUR_ASN.to_be_bytes().into_iter().skip(2));
            body.extend([0, 90, 9, 9, 9, 9, 3, 77, 1, 0]);
            raw::message(raw::OPEN, &body)
        },
        answer: (2, 4, None),
    },
    Case {
        name: "a hold time of one second",
        after: After::Connecting,
        says: |mut says| {
            says.open.hold_time = 1;
            says.open.encode()
        },
        answer: (2, 6, None),
    },
    Case {
        name: "a hold time of two seconds",
        after: After::Connecting,
        says: |mut says| {
            says.open.hold_time = 2;
            says.open.encode()
        },
        answer: (2, 6, None),
    },
    // RFC 6608.
    Case {
        name: "an UPDATE instead of an OPEN",
        after: After::Connecting,
        says: |_| raw::update(&[], &[], &[]),
        answer: (5, 1, Some(&[raw::UPDATE])),
    },
    Case {
        name: "an UPDATE instead of the first KEEPALIVE",
        after: After::Open,
        says: |_| raw::update(&[], &[], &[]),
        answer: (5, 2, Some(&[raw::UPDATE])),
    },
    Case {
        name: "an OPEN in an established session",
        after: After::Establishing,
        says: |says| says.open.encode(),
        answer: (5, 3, Some(&[raw::OPEN])),
    },
    // RFC 4271 6.3, as far as RFC 7606 leaves it.
    Case {
        name: "withdrawn routes that go beyond the message",
        after: After::Establishing,
        says: |_| raw::message(raw::UPDATE, &[0, 200, 0, 0]),
        answer: (3, 1, None),
    },
    Case {
        name: "attributes that go beyond the message",
        after: After::Establishing,
        says: |_| raw::message(raw::UPDATE, &[0, 0, 0, 200]),
        answer: (3, 1, None),
    },
    Case {
        name: "a prefix of 33 bits",
        after: After::Establishing,
        says: |says| {
            let attributes = raw::attributes(says.open.asn, says.address);
            raw::update(&[], &attributes, &[33, 198, 51, 100, 0, 0])
        },
        answer: (3, 10, None),
    },
];

/// A header that claims a length, with as much behind it as fits.
fn with_length(length: u16) -> Vec<u8> {
    let mut bytes = raw::message(raw::OPEN, &[4; 40]);
    bytes[16..18].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn address_of(case: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 9, 10 + u8::try_from(case).unwrap_or(200))
}

fn asn_of(case: usize) -> u32 {
    65100 + u32::try_from(case).unwrap_or(0)
}

struct Stage {
    us: Causeway,
    bystander: Peer,
    hostile: Node,
}

/// Ours, BIRD as a bystander, and a node for peers that speak byte by byte.
fn stage(lab: &Lab, cases: usize) -> Result<Stage> {
    let (us, bystander, hostile) = (
        lab.node("us")?,
        lab.node("bystander")?,
        lab.node("hostile")?,
    );
    us.link("eth0", &bystander, "eth0")?;
    us.link("eth1", &hostile, "eth0")?;
    us.address("eth0", ["10.0.0.1/24"])?;
    bystander.address("eth0", ["10.0.0.2/24"])?;
    us.address("eth1", [format!("{US}/24")])?;
    let mut router =
        Router::new(OUR_ASN, [10, 0, 0, 1]).neighbor(Neighbor::new("10.0.0.1", "10.0.0.2", 65001));
    for case in 0..cases {
        let address = address_of(case);
        hostile.address("eth0", [format!("{address}/24")])?;
        let mut neighbor = Neighbor::new(&US.to_string(), &address.to_string(), asn_of(case));
        neighbor.passive = true;
        router = router.neighbor(neighbor);
    }
    let us = Causeway::start(&us, Config::speaker(router))?;
    let mut bystander = Peer::start(
        Implementation::Bird,
        &bystander,
        Router::new(65001, [10, 0, 0, 2])
            .originate(BYSTANDER_PREFIX)
            .neighbor(Neighbor::new("10.0.0.2", "10.0.0.1", OUR_ASN)),
    )?;
    bystander.wait_established(LIMIT)?;
    us.wait_route(BYSTANDER_PREFIX, LIMIT)?;
    Ok(Stage {
        us,
        bystander,
        hostile,
    })
}

impl Stage {
    fn connect(&self, case: usize, after: After) -> Result<(RawPeer, Says)> {
        let address = address_of(case);
        let says = Says {
            open: OpenFields::new(asn_of(case), address.octets()),
            address,
        };
        let open = says.open.encode();
        let peer = match after {
            After::Connecting => RawPeer::connect(&self.hostile, address, US)?,
            After::Open => RawPeer::connect_and_open(&self.hostile, address, US, &open)?,
            After::Establishing => RawPeer::establish(&self.hostile, address, US, &open)?,
        };
        Ok((peer, says))
    }

    fn bystander_is_unaffected(&mut self) -> Result<()> {
        self.bystander.check_running()?;
        let neighbor = self.us.neighbor("10.0.0.2")?;
        ensure!(
            neighbor["state"] == "Established"
                && neighbor["establishedCount"] == 1
                && neighbor["flapCount"] == 0,
            "the bystander's session suffered: {neighbor}"
        );
        self.us.wait_route(BYSTANDER_PREFIX, LIMIT).map(drop)
    }
}

#[test]
fn each_broken_rule_gets_its_notification() {
    Lab::test(|lab| {
        let mut stage = stage(lab, CASES.len())?;
        for (n, case) in CASES.iter().enumerate() {
            play(&stage, n, case).with_context(|| case.name)?;
            stage.bystander_is_unaffected().with_context(|| case.name)?;
        }
        Ok(())
    });
}

fn play(stage: &Stage, n: usize, case: &Case) -> Result<()> {
    let (mut peer, says) = stage.connect(n, case.after)?;
    peer.send(&(case.says)(says))?;
    let (code, subcode, data) = peer.notification()?;
    let (wanted_code, wanted_subcode, wanted_data) = case.answer;
    ensure!(
        (code, subcode) == (wanted_code, wanted_subcode),
        "NOTIFICATION {code}/{subcode} {data:?} instead of {wanted_code}/{wanted_subcode}"
    );
    if let Some(wanted) = wanted_data {
        ensure!(data == wanted, "its data is {data:?} instead of {wanted:?}");
    }
    let address = address_of(n).to_string();
    wait_until("the reason of the reset", LIMIT, || {
        let neighbor = stage.us.neighbor(&address)?;
        // The end of a session and of an attempt are two facts.
        let told = match case.after {
            After::Connecting | After::Open => &neighbor["lastError"],
            After::Establishing => &neighbor["lastReset"],
        };
        ensure!(told["sent"].is_string(), "{neighbor}");
        Ok(())
    })
}

/// RFC 4271 6.8: of two connections the one stays that the router with the higher identifier opened.
#[test]
fn a_collision_is_decided_by_the_identifiers() {
    for (theirs, ours_stays) in [([9, 0, 0, 1], true), ([11, 0, 0, 1], false)] {
        Lab::test(|lab| {
            let mut stage = stage(lab, 0)?;
            let address = address_of(0);
            stage.hostile.address("eth0", [format!("{address}/24")])?;
            // It listens before we know of it, so that our first attempt finds it.
            let node = stage.hostile.clone();
            let ours = std::thread::spawn(move || RawPeer::accept(&node, address));
            let mut config = stage.us.config().clone();
            config.router = config.router.neighbor(Neighbor::new(
                &US.to_string(),
                &address.to_string(),
                asn_of(0),
            ));
            stage.us.reconfigure(config)?;
            let mut ours = ours.join().expect("accepting does not panic")?;
            let open = OpenFields::new(asn_of(0), theirs).encode();

            let first = ours.read()?;
            ensure!(first.kind == raw::OPEN, "{first:?}");
            ours.send(&open)?;
            let next = ours.read()?;
            ensure!(next.kind == raw::KEEPALIVE, "{next:?}");
            // Ours is in OpenConfirm; now theirs.
            let mut theirs = RawPeer::connect_and_open(&stage.hostile, address, US, &open)?;

            let (loser, winner) = if ours_stays {
                (&mut theirs, &mut ours)
            } else {
                (&mut ours, &mut theirs)
            };
            let (code, subcode, _) = loser.notification()?;
            ensure!((code, subcode) == (6, 7), "NOTIFICATION {code}/{subcode}");
            winner.send(&raw::keepalive())?;
            let address = address.to_string();
            wait_until("the session", LIMIT, || {
                let session = stage.us.session(&address)?;
                ensure!(session.established, "{}", session.text);
                Ok(())
            })?;
            stage.bystander_is_unaffected()
        });
    }
}

/// RFC 7606: what is wrong with one route costs that route, not the session.
#[test]
fn a_malformed_attribute_costs_the_route_only() {
    Lab::test(|lab| {
        let mut stage = stage(lab, 1)?;
        let (mut peer, says) = stage.connect(0, After::Establishing)?;
        let good = raw::attributes(says.open.asn, says.address);
        peer.send(&raw::update(&[], &good, &[24, 203, 0, 113]))?;
        stage.us.wait_route("203.0.113.0/24", LIMIT)?;

        // ORIGIN 9 on the same prefix: treated as a withdrawal.
        let mut bad = good.clone();
        bad[3] = 9;
        peer.send(&raw::update(&[], &bad, &[24, 203, 0, 113]))?;
        stage.us.wait_no_route("203.0.113.0/24", LIMIT)?;

        let neighbor = stage.us.neighbor(&says.address.to_string())?;
        ensure!(neighbor["state"] == "Established", "{neighbor}");
        ensure!(neighbor["malformedUpdates"] == 1, "{neighbor}");

        // And the session still carries routes.
        peer.send(&raw::update(&[], &good, &[24, 203, 0, 113]))?;
        stage.us.wait_route("203.0.113.0/24", LIMIT)?;
        stage.bystander_is_unaffected()
    });
}

/// RFC 4271 6.5.
#[test]
fn a_silent_peer_is_given_up() {
    Lab::test(|lab| {
        let mut stage = stage(lab, 1)?;
        let address = address_of(0);
        let mut open = OpenFields::new(asn_of(0), address.octets());
        open.hold_time = 3;
        let mut peer = RawPeer::establish(&stage.hostile, address, US, &open.encode())?;
        let (code, subcode, _) = peer.notification()?;
        ensure!((code, subcode) == (4, 0), "NOTIFICATION {code}/{subcode}");
        stage.bystander_is_unaffected()
    });
}

#[test]
fn strangers_are_turned_away() {
    Lab::test(|lab| {
        let mut stage = stage(lab, 0)?;
        stage.hostile.address("eth0", ["10.0.9.250/24"])?;
        let stranger = Ipv4Addr::new(10, 0, 9, 250);
        let mut peer = RawPeer::connect(&stage.hostile, stranger, US)?;
        // Sending may already fail; the answer, or the end of the connection, says the rest.
        let _ = peer.send(&OpenFields::new(65250, stranger.octets()).encode());
        if let Ok((code, _, _)) = peer.notification() {
            ensure!(code == 6, "a stranger was told code {code}");
        }
        let status = stage.us.api("/v1/status")?;
        ensure!(
            status["bgp"]["refused"].as_u64().is_some_and(|n| n > 0),
            "{status}"
        );
        stage.bystander_is_unaffected()
    });
}
