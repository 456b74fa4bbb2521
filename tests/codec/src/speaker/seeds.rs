//! Schedules to start from: each a short story of its own, from which the others are mutations.

use super::schedule::{Step, UNPOLLED};
use causeway_bgp::wire::message_type;

/// A shell that keeps up, and next hops that can be reached.
const PROMPT: u8 = 0b0000_0011;
/// The same with several paths at once.
const MULTIPATH: u8 = 0b0001_1011;
/// Sockets and tables that take only what the schedule lets them.
const SLOW: u8 = 0b0000_0010;
/// Back from a restart.
const RESTARTING: u8 = 0b0000_0111;
/// Next hops are not reachable before somebody says so.
const UNRESOLVED: u8 = 0b0000_0001;

/// Every seed with its name.
#[must_use]
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    use Step as S;

    let establish = |peers: &[u8]| -> Vec<u8> {
        let octets = peers.iter().map(|peer| [S::Establish.octet(), *peer, 0]);
        octets.flatten().collect()
    };
    let announce = |socket: u8, families: u8, which: u8, path: u8, rest: u8| {
        vec![
            S::Announce.octet(),
            socket,
            families,
            0,
            which,
            path,
            rest,
            0,
        ]
    };
    let both = |socket: u8| announce(socket, 2, 0x0f, 0, 0);
    let withdraw = |socket: u8, which: u8| vec![S::Withdraw.octet(), socket, 2, 0, which];
    let pass = |unit: u8, count: u8| vec![S::Pass.octet(), unit, count];
    let end_of_rib = |socket: u8, family: u8| vec![S::EndOfRib.octet(), socket, family];
    let one = |step: Step, arguments: &[u8]| {
        let mut bytes = vec![step.octet()];
        bytes.extend_from_slice(arguments);
        bytes
    };
    let unpolled = |mut bytes: Vec<u8>| {
        bytes[0] |= UNPOLLED;
        bytes
    };
    // The attempts of the active peers fail first, so that sockets are numbered by who connects.
    let quiet = || {
        let mut bytes = Vec::new();
        for _ in 0..4 {
            bytes.extend([S::Answer.octet(), 0]);
        }
        bytes
    };
    let story = |manner: u8, variant: u8, steps: &[Vec<u8>]| {
        let mut bytes = vec![manner, variant];
        bytes.extend(quiet());
        bytes.extend(steps.concat());
        bytes
    };

    vec![
        ("empty", vec![PROMPT, 0]),
        (
            "dialled",
            [
                vec![PROMPT, 0],
                one(S::Answer, &[1]),
                one(S::Open, &[0, 0]),
                one(S::Keepalive, &[0]),
                both(0),
            ]
            .concat(),
        ),
        (
            "collision",
            [
                vec![PROMPT, 0],
                one(S::Answer, &[1]),
                one(S::Accept, &[0, 0]),
                one(S::Open, &[0, 0]),
                one(S::Open, &[1, 0]),
                one(S::Keepalive, &[0]),
                one(S::Keepalive, &[1]),
            ]
            .concat(),
        ),
        (
            // Both connections are the peer's when our own attempt succeeds.
            "third_connection",
            [
                vec![PROMPT, 1],
                one(S::Accept, &[0, 0]),
                one(S::Accept, &[0, 0]),
                one(S::Answer, &[1]),
                one(S::Command, &[3, 1, 0]),
            ]
            .concat(),
        ),
        (
            "two",
            story(PROMPT, 0x05, &[establish(&[0, 1]), both(0), both(1)]),
        ),
        (
            "withdrawn",
            story(PROMPT, 0, &[establish(&[0, 2]), both(0), withdraw(0, 5)]),
        ),
        (
            "multipath",
            story(
                MULTIPATH,
                0,
                &[
                    establish(&[0, 1, 2]),
                    both(0),
                    both(1),
                    both(2),
                    one(S::Close, &[0]),
                ],
            ),
        ),
        (
            "reflected",
            story(
                PROMPT,
                0,
                &[
                    establish(&[2, 3, 6]),
                    announce(0, 2, 0xff, 0, 0x28),
                    announce(1, 2, 0x3c, 4, 0x08),
                ],
            ),
        ),
        (
            "graceful",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0, 1]),
                    both(0),
                    end_of_rib(0, 0),
                    end_of_rib(0, 1),
                    one(S::Close, &[0]),
                    pass(2, 3),
                    establish(&[0]),
                    announce(1, 2, 0x03, 0, 0),
                    end_of_rib(1, 0),
                    end_of_rib(1, 1),
                    pass(3, 60),
                ],
            ),
        ),
        (
            "stale_expires",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0, 2]),
                    both(0),
                    one(S::Close, &[0]),
                    pass(3, 12),
                    pass(3, 60),
                ],
            ),
        ),
        (
            "restarting",
            story(
                RESTARTING,
                3,
                &[
                    establish(&[0, 2]),
                    both(0),
                    end_of_rib(0, 0),
                    end_of_rib(0, 1),
                    end_of_rib(1, 0),
                    end_of_rib(1, 1),
                    pass(3, 7),
                ],
            ),
        ),
        (
            "restart_times_out",
            story(
                RESTARTING,
                3,
                &[establish(&[0]), both(0), pass(3, 7), both(0)],
            ),
        ),
        (
            "max_prefixes",
            story(
                PROMPT,
                0x10,
                &[
                    establish(&[1]),
                    announce(0, 0, 0x3f, 0, 0),
                    announce(0, 0, 0xff, 0, 0),
                    pass(2, 31),
                    establish(&[1]),
                ],
            ),
        ),
        (
            "policies",
            story(
                PROMPT,
                0x04,
                &[
                    establish(&[0, 2]),
                    announce(0, 2, 0xff, 0x80, 4),
                    announce(0, 2, 0xf0, 0x40, 0),
                    one(S::Reconfigure, &[0x02]),
                    one(S::Reconfigure, &[0x06]),
                ],
            ),
        ),
        (
            "no_policy",
            story(
                PROMPT,
                0x06,
                &[establish(&[4]), both(0), one(S::Reconfigure, &[0x01])],
            ),
        ),
        (
            "dynamic",
            story(
                PROMPT,
                0,
                &[
                    establish(&[5, 6, 7]),
                    both(0),
                    both(1),
                    one(S::Reconfigure, &[0x02]),
                    one(S::Close, &[0]),
                    establish(&[7]),
                ],
            ),
        ),
        (
            "stranger",
            story(PROMPT, 0, &[establish(&[8]), establish(&[8])]),
        ),
        (
            "refresh",
            story(
                PROMPT,
                0x05,
                &[
                    establish(&[0, 2]),
                    both(0),
                    one(S::Refresh, &[1, 0]),
                    one(S::Refresh, &[0, 2]),
                    announce(0, 0, 0x03, 0, 0),
                    one(S::Refresh, &[0, 4]),
                    one(S::Command, &[9, 1, 0]),
                    one(S::Command, &[12, 3, 1]),
                ],
            ),
        ),
        (
            "slow",
            story(
                SLOW,
                0x05,
                &[
                    establish(&[0, 1, 2]),
                    both(0),
                    one(S::Credit, &[0, 1]),
                    one(S::Program, &[0]),
                    both(1),
                    one(S::Credit, &[1, 255]),
                    one(S::Program, &[9]),
                ],
            ),
        ),
        (
            "crowded",
            story(
                SLOW,
                0,
                &[
                    establish(&[0, 2]),
                    one(S::Crowd, &[0, 0, 0]),
                    one(S::Crowd, &[0, 1, 0]),
                    one(S::Credit, &[1, 255]),
                    one(S::Close, &[0]),
                ],
            ),
        ),
        (
            "next_hops",
            story(
                UNRESOLVED,
                0,
                &[
                    establish(&[0, 2]),
                    both(0),
                    announce(1, 2, 0x0f, 0, 1),
                    one(S::NextHop, &[0, 5]),
                    one(S::NextHop, &[1, 3]),
                    one(S::NextHop, &[0, 0x80]),
                    one(S::Late, &[4]),
                ],
            ),
        ),
        (
            "loops",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0, 2]),
                    announce(0, 2, 0x0f, 0x02, 0),
                    announce(1, 0, 0x0f, 0, 0x20),
                    announce(0, 0, 0x0f, 0, 3),
                ],
            ),
        ),
        (
            "originated",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0, 3]),
                    one(S::Originate, &[0x0f]),
                    one(S::Originate, &[0x3f]),
                    both(0),
                    one(S::Originate, &[0]),
                ],
            ),
        ),
        (
            "well_known",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0, 2, 1]),
                    announce(0, 2, 0x03, 0x10, 0),
                    announce(0, 2, 0x0c, 0x20, 0),
                ],
            ),
        ),
        (
            "commands",
            story(
                PROMPT,
                1,
                &[
                    establish(&[0]),
                    both(0),
                    one(S::Command, &[9, 9, 0]),
                    one(S::Command, &[0, 1, 0]),
                    pass(2, 5),
                    establish(&[0]),
                    one(S::Command, &[3, 1, 0]),
                    establish(&[0]),
                    one(S::Command, &[5, 1, 0]),
                    establish(&[0]),
                ],
            ),
        ),
        (
            "shut_down",
            story(
                PROMPT,
                1,
                &[
                    establish(&[0, 2]),
                    both(0),
                    one(S::Command, &[15, 0, 0]),
                    establish(&[0]),
                ],
            ),
        ),
        (
            "shut_down_to_restart",
            story(
                PROMPT,
                1,
                &[establish(&[0]), both(0), one(S::Command, &[31, 0, 0])],
            ),
        ),
        (
            "reconfigured",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0, 2]),
                    both(0),
                    one(S::Reconfigure, &[0x40]),
                    one(S::Reconfigure, &[0x08]),
                    one(S::Reconfigure, &[0x80]),
                    establish(&[0, 2]),
                ],
            ),
        ),
        (
            "notified",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0]),
                    both(0),
                    one(S::Notification, &[0, 6, 4]),
                    pass(2, 2),
                    establish(&[0]),
                ],
            ),
        ),
        (
            "hard_reset",
            story(
                PROMPT,
                0,
                &[
                    vec![S::Establish.octet(), 0, 0x20],
                    both(0),
                    one(S::Notification, &[0, 6, 9]),
                ],
            ),
        ),
        (
            "hold_timer",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0]),
                    both(0),
                    pass(2, 91),
                    establish(&[1]),
                    pass(2, 10),
                ],
            ),
        ),
        (
            "send_hold_timer",
            story(
                SLOW,
                0x05,
                &[
                    establish(&[0]),
                    pass(2, 60),
                    one(S::Keepalive, &[0]),
                    pass(2, 60),
                    one(S::Keepalive, &[0]),
                    pass(3, 60),
                ],
            ),
        ),
        (
            "garbage",
            story(
                PROMPT,
                0,
                &[
                    one(S::Accept, &[0, 0]),
                    one(S::Bytes, &[0, 5, 1, 2, 3, 4, 5]),
                    establish(&[2]),
                    one(S::Bytes, &[0, 3, 0xff, 0xff, 0]),
                ],
            ),
        ),
        (
            "malformed_update",
            story(
                PROMPT,
                0,
                &[
                    establish(&[0]),
                    both(0),
                    one(
                        S::Message,
                        &[
                            0,
                            message_type::UPDATE,
                            12,
                            0,
                            0,
                            0,
                            4,
                            0x40,
                            1,
                            1,
                            9,
                            24,
                            172,
                            16,
                            0,
                        ],
                    ),
                ],
            ),
        ),
        (
            "raw_open",
            story(
                PROMPT,
                0,
                &[
                    one(S::Accept, &[0, 0]),
                    one(
                        S::Message,
                        &[
                            0,
                            message_type::OPEN,
                            10,
                            4,
                            0xfd,
                            0xe9,
                            0,
                            90,
                            10,
                            0,
                            0,
                            1,
                            0,
                        ],
                    ),
                    one(S::Keepalive, &[0]),
                ],
            ),
        ),
        (
            "two_octets",
            story(
                PROMPT,
                0,
                &[
                    vec![S::Establish.octet(), 0, 0x02],
                    vec![S::Establish.octet(), 1, 0xff],
                    establish(&[2]),
                    announce(2, 0, 0x0f, 0x04, 0),
                    both(0),
                ],
            ),
        ),
        (
            "at_once",
            story(
                SLOW,
                0,
                &[
                    establish(&[0, 2]),
                    unpolled(both(0)),
                    unpolled(both(1)),
                    unpolled(withdraw(0, 3)),
                    unpolled(one(S::Close, &[1])),
                    one(S::Poll, &[2]),
                    one(S::Poll, &[1]),
                ],
            ),
        ),
        (
            "flapping",
            story(
                PROMPT,
                0x20,
                &[
                    establish(&[0]),
                    one(S::Close, &[0]),
                    pass(2, 2),
                    establish(&[0]),
                    one(S::Close, &[0]),
                    pass(2, 4),
                    establish(&[0]),
                    one(S::Close, &[0]),
                    pass(2, 8),
                ],
            ),
        ),
        (
            "late",
            story(
                PROMPT,
                0,
                &[
                    one(S::Late, &[0]),
                    one(S::Late, &[1]),
                    one(S::Late, &[2]),
                    one(S::Late, &[0x83]),
                    one(S::Late, &[7]),
                ],
            ),
        ),
    ]
}
