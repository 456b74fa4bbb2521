//! What the octets of an input mean.

use core::time::Duration;

use bytes::BytesMut;
use causeway_bgp::config::ShutdownMessage;
use causeway_bgp::rib::NextHopKey;
use causeway_bgp::speaker::{Command, Input, inbound_conn};
use causeway_bgp::types::{ConnId, Family, PeerId};
use causeway_bgp::wire::{
    Notification, RefreshKind, RouteRefresh, encode_end_of_rib, encode_keepalive,
    encode_notification, encode_route_refresh,
};

use super::plan::{self, REMOTES};
use super::remote;
use super::world::{World, trace};
use crate::session::message;

/// What can happen. An octet stands for the one at its remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A peer connects, says OPEN and KEEPALIVE.
    Establish,
    /// A peer connects.
    Accept,
    /// Attempts of ours succeed or fail.
    Answer,
    /// The peer closes.
    Close,
    /// The peer says OPEN.
    Open,
    /// The peer says KEEPALIVE.
    Keepalive,
    /// The peer announces.
    Announce,
    /// The peer withdraws.
    Withdraw,
    /// The peer says End-of-RIB.
    EndOfRib,
    /// The peer announces a lot.
    Crowd,
    /// The peer sends anything.
    Bytes,
    /// The peer sends a message with any body.
    Message,
    /// The peer sends NOTIFICATION.
    Notification,
    /// The peer sends ROUTE-REFRESH.
    Refresh,
    /// Time passes.
    Pass,
    /// Sockets take bytes.
    Credit,
    /// The forwarding tables keep up.
    Program,
    /// A next hop changes.
    NextHop,
    /// The configuration changes.
    Reconfigure,
    /// What is originated changes.
    Originate,
    /// An operator's command.
    Command,
    /// The speaker says some of what it has to say, not all.
    Poll,
    /// News of a connection or next hop that is no more, as they cross on the way.
    Late,
}

impl Step {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 23] = [
        Self::Establish,
        Self::Accept,
        Self::Answer,
        Self::Close,
        Self::Open,
        Self::Keepalive,
        Self::Announce,
        Self::Withdraw,
        Self::EndOfRib,
        Self::Crowd,
        Self::Bytes,
        Self::Message,
        Self::Notification,
        Self::Refresh,
        Self::Pass,
        Self::Credit,
        Self::Program,
        Self::NextHop,
        Self::Reconfigure,
        Self::Originate,
        Self::Command,
        Self::Poll,
        Self::Late,
    ];

    /// Its octet.
    pub(super) fn octet(self) -> u8 {
        let index = Self::ALL.iter().position(|step| *step == self);
        index
            .and_then(|index| u8::try_from(index).ok())
            .unwrap_or(0)
    }
}

/// Whether the speaker is polled after a step: not if this bit of its octet is set, so that several inputs meet.
pub(super) const UNPOLLED: u8 = 0x80;

/// Does one step. Arguments that the input has no more octets for are zero.
pub(super) fn step(world: &mut World, octet: u8, cursor: &mut Cursor<'_>) {
    let step = Step::ALL[usize::from(octet & !UNPOLLED) % Step::ALL.len()];
    let now = world.now;
    trace(|| format!("{now:?} {step:?}"));
    match step {
        Step::Establish | Step::Accept => {
            let remote = REMOTES[usize::from(cursor.byte()) % REMOTES.len()];
            let bits = cursor.byte();
            let conn = world.accept(remote);
            if step == Step::Establish {
                world.drain();
                if let Some(index) = world.sockets.iter().position(|s| s.conn == conn) {
                    world.greet(index, &remote::open(remote, bits));
                }
                say(world, conn, encode_keepalive);
            }
        }
        Step::Answer => {
            let bits = cursor.byte();
            let dialing = world.sockets.iter().filter(|s| s.dialing).count();
            let nth = usize::from(bits >> 1) % dialing.max(1);
            let index = (0..world.sockets.len())
                .filter(|index| world.sockets[*index].dialing)
                .nth(nth);
            if let Some(index) = index {
                world.answer(index, bit(bits, 0));
            }
        }
        Step::Pass => {
            let (unit, count) = (cursor.byte(), cursor.byte());
            let unit = [1, 100, 1_000, 10_000][usize::from(unit & 3)];
            world.pass(Duration::from_millis(unit * u64::from(count)));
        }
        Step::Program => world.program(u64::from(cursor.byte()) + 1),
        Step::NextHop => {
            let (which, metric) = (cursor.byte(), cursor.byte());
            let keys: Vec<_> = world.tracked.keys().copied().collect();
            if let Some(key) = keys.get(usize::from(which) % keys.len().max(1)) {
                world.reach(*key, (!bit(metric, 7)).then_some(u32::from(metric)));
            }
        }
        Step::Reconfigure => {
            let mut config = plan::config(world.manner, cursor.byte());
            config.restarting = None;
            world.input(Input::Reconfigure(Box::new(config)));
        }
        Step::Originate => world.input(Input::Originate(plan::originated(cursor.byte()))),
        Step::Command => {
            let command = command(cursor);
            world.input(Input::Command(command));
        }
        Step::Poll => world.poll(cursor.byte().into()),
        Step::Late => late(world, cursor),
        _ => with_socket(world, step, cursor),
    }
    if octet & UNPOLLED == 0 && step != Step::Poll {
        world.drain();
    }
}

/// Steps of a peer on one of its connections.
fn with_socket(world: &mut World, step: Step, cursor: &mut Cursor<'_>) {
    let which = usize::from(cursor.byte());
    if world.sockets.is_empty() {
        return;
    }
    let index = which % world.sockets.len();
    let (conn, remote) = (world.sockets[index].conn, world.sockets[index].remote);
    let listener = world.sockets[index].listener.as_ref();
    let options = listener.map(|l| l.options()).unwrap_or_default();
    match step {
        Step::Close => world.close(index),
        Step::Open => world.greet(index, &remote::open(remote, cursor.byte())),
        Step::Keepalive => say(world, conn, encode_keepalive),
        Step::Announce => {
            let bytes = remote::announcement(remote, options, cursor);
            world.send(index, &bytes);
        }
        Step::Withdraw => {
            let bytes = remote::withdrawal(options, cursor);
            world.send(index, &bytes);
        }
        Step::Crowd => {
            let bytes = remote::crowd(remote, options, cursor);
            world.send(index, &bytes);
        }
        Step::EndOfRib => {
            let family = family(cursor.byte());
            say(world, conn, |bytes| encode_end_of_rib(family, bytes));
        }
        Step::Bytes => {
            let count = cursor.byte().into();
            let bytes = cursor.take(count).to_vec();
            world.deaf(index);
            world.send(index, &bytes);
        }
        Step::Message => {
            let (kind, count) = (cursor.byte(), cursor.byte().into());
            // An OPEN of this kind is not one that the other end knows to have sent.
            if kind == causeway_bgp::wire::message_type::OPEN {
                world.deaf(index);
            }
            if let Some(bytes) = message(kind, cursor.take(count)) {
                world.send(index, &bytes);
            }
        }
        Step::Notification => {
            let (code, subcode) = (cursor.byte() % 10, cursor.byte() % 12);
            let notification = Notification::new(code, subcode);
            say(world, conn, |bytes| {
                encode_notification(&notification, bytes);
            });
        }
        Step::Refresh => {
            let bits = cursor.byte();
            let refresh = RouteRefresh {
                family: family(bits),
                kind: match bits >> 1 & 3 {
                    0 | 3 => RefreshKind::Request,
                    1 => RefreshKind::Begin,
                    _ => RefreshKind::End,
                },
            };
            say(world, conn, |bytes| encode_route_refresh(refresh, bytes));
        }
        Step::Credit => world.credit(index, usize::from(cursor.byte()) << 8 | 0xff),
        _ => {}
    }
}

fn say(world: &mut World, conn: ConnId, encode: impl FnOnce(&mut BytesMut)) {
    let Some(index) = world.sockets.iter().position(|s| s.conn == conn) else {
        return;
    };
    let mut bytes = BytesMut::new();
    encode(&mut bytes);
    world.send(index, &bytes);
}

fn command(cursor: &mut Cursor<'_>) -> Command {
    let (what, peer, family) = (
        cursor.byte(),
        PeerId(u32::from(cursor.byte() % 10)),
        family(cursor.byte()),
    );
    let message = ShutdownMessage::new("by the schedule");
    match what % 16 {
        0..=2 => Command::Reset { peer, message },
        3..=4 => Command::Disable { peer, message },
        5..=8 => Command::Enable { peer },
        9..=11 => Command::RefreshIn { peer, family },
        12..=14 => Command::RefreshOut { peer, family },
        _ => Command::Shutdown {
            message,
            restart: bit(what, 4),
        },
    }
}

fn late(world: &mut World, cursor: &mut Cursor<'_>) {
    let bits = cursor.byte();
    // Connections that are done with, or were never there.
    let conn = match bit(bits, 7) {
        true => ConnId(1_000_000),
        false => inbound_conn(1_000_000),
    };
    let address = REMOTES[usize::from(bits >> 3) % REMOTES.len()].address;
    world.input(match bits & 7 {
        0 => Input::ConnectFailed {
            conn,
            reason: "late".into(),
        },
        1 => Input::Closed {
            conn,
            reason: "late".into(),
        },
        2 => Input::Transmitted { conn, bytes: 10 },
        3 => Input::Received {
            conn,
            messages: Vec::new(),
            error: None,
        },
        _ => {
            let key = NextHopKey {
                addr: address.into(),
                link: None,
            };
            if world.tracked.contains_key(&key) {
                return;
            }
            Input::NextHop {
                key,
                metric: Some(5),
            }
        }
    });
}

fn family(bits: u8) -> Family {
    Family::ALL[usize::from(bits & 1)]
}

/// Whether a bit is set.
pub(super) const fn bit(bits: u8, index: u8) -> bool {
    bits >> index & 1 == 1
}

/// What is left of the input.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next octet, or 0.
    pub(super) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// The next two.
    pub(super) fn pair(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// As many as there are of the next `count`.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
