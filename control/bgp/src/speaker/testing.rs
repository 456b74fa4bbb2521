//! Drives one speaker by hand, message by message, on virtual time.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use super::{Command, Input, NeighborView, Output, Path, Speaker, SpeakerEvent, inbound_conn};
use crate::config::{FamilyConfig, PeerConfig, RemoteAs, SessionConfig, SpeakerConfig};
use crate::policy::Policy;
use crate::rib::{FamilySession, RibConfig};
use crate::session::State;
use crate::time::Time;
use crate::types::{Asn, ConnId, Family, PeerId, RouterId};
use crate::wire::{
    AsPath, Attributes, Capability, Decoded, GracefulRestartCapability, GracefulRestartFamily,
    Message, MessageError, NextHop, Open, Origin,
};

pub(crate) const OUR_AS: Asn = Asn(65_000);
pub(crate) const PEER_AS: Asn = Asn(65_001);
pub(crate) const OUR_ID: RouterId = RouterId(0x0a00_0005);
pub(crate) const LOWER_ID: RouterId = RouterId(0x0a00_0001);
pub(crate) const HIGHER_ID: RouterId = RouterId(0x0a00_0009);
pub(crate) const PEER: PeerId = PeerId(1);

/// A message on the wire, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Open,
    Update,
    Notification(u8, u8, Vec<u8>),
    Keepalive,
    RouteRefresh(u8),
}

pub(crate) struct Driver {
    pub(crate) speaker: Speaker,
    pub(crate) now: Time,
    pub(crate) outputs: Vec<Output>,
    /// Whether sockets take at once whatever they are given.
    pub(crate) sockets_take: bool,
    accepted: u64,
}

pub(crate) fn family(family: Family) -> FamilyConfig {
    FamilyConfig::new(
        family,
        FamilySession {
            import: Some(Arc::new(Policy::accept_all())),
            export: Some(Arc::new(Policy::accept_all())),
            ..FamilySession::default()
        },
    )
}

pub(crate) fn session() -> SessionConfig {
    SessionConfig::new(
        RemoteAs::Exactly(PEER_AS),
        vec![family(Family::Ipv4Unicast)],
    )
}

pub(crate) fn peer(session: SessionConfig) -> PeerConfig {
    PeerConfig::new(
        "peer",
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        Arc::new(session),
    )
}

pub(crate) fn config(peers: Vec<PeerConfig>) -> SpeakerConfig {
    SpeakerConfig {
        peers,
        ..SpeakerConfig::new(RibConfig {
            assume_reachable: true,
            ..RibConfig::new(OUR_AS, OUR_ID)
        })
    }
}

/// The peer's OPEN.
pub(crate) fn open(router_id: RouterId) -> Open {
    Open {
        asn: PEER_AS,
        hold_time: 90,
        router_id,
        capabilities: vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::FourOctetAs(PEER_AS),
            Capability::RouteRefresh,
        ],
    }
}

pub(crate) fn graceful(restarting: bool, forwarding: bool, notification: bool) -> Capability {
    Capability::GracefulRestart(GracefulRestartCapability {
        restarting,
        notification,
        restart_time: 100,
        families: vec![GracefulRestartFamily {
            family: Family::Ipv4Unicast,
            forwarding,
        }],
    })
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Driver {
    pub(crate) fn new(config: SpeakerConfig) -> Self {
        let mut driver = Self {
            speaker: Speaker::new(Time::ZERO, config, 42).unwrap(),
            now: Time::ZERO,
            outputs: Vec::new(),
            sockets_take: true,
            accepted: 0,
        };
        driver.poll();
        driver
    }

    pub(crate) fn with(session: SessionConfig) -> Self {
        Self::new(config(vec![peer(session)]))
    }

    pub(crate) fn passive(session: SessionConfig) -> Self {
        Self::new(config(vec![PeerConfig {
            passive: true,
            ..peer(session)
        }]))
    }

    pub(crate) fn poll(&mut self) {
        while let Some(output) = self.speaker.poll_output(self.now) {
            if let Output::Transmit { conn, bytes } = &output
                && self.sockets_take
            {
                let (conn, bytes) = (*conn, bytes.len());
                self.speaker
                    .handle(self.now, Input::Transmitted { conn, bytes });
            }
            self.outputs.push(output);
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.speaker.handle(self.now, input);
        self.poll();
    }

    /// Lets time pass, stopping at every deadline.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.speaker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.speaker.handle_timeout(self.now);
            self.poll();
        }
        self.now = end;
    }

    pub(crate) fn take(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.outputs)
    }

    /// The attempts asked for since the last look.
    pub(crate) fn attempts(&mut self) -> Vec<ConnId> {
        self.take()
            .into_iter()
            .filter_map(|output| match output {
                Output::Connect { conn, .. } => Some(conn),
                _ => None,
            })
            .collect()
    }

    /// What was sent on a connection since the last look, and whether it was closed.
    pub(crate) fn sent(&mut self, conn: ConnId) -> (Vec<Sent>, bool) {
        let mut sent = Vec::new();
        let mut closed = false;
        self.outputs.retain(|output| match output {
            Output::Transmit { conn: c, bytes } if *c == conn => {
                parse(bytes, &mut sent);
                false
            }
            Output::Close { conn: c, .. } if *c == conn => {
                closed = true;
                false
            }
            _ => true,
        });
        (sent, closed)
    }

    /// The NOTIFICATION that closed a connection.
    pub(crate) fn notification(&mut self, conn: ConnId) -> Option<(u8, u8)> {
        let (sent, closed) = self.sent(conn);
        assert!(closed, "{conn:?} is still open, having sent {sent:?}");
        sent.into_iter().find_map(|message| match message {
            Sent::Notification(code, subcode, _) => Some((code, subcode)),
            _ => None,
        })
    }

    pub(crate) fn events(&mut self) -> Vec<SpeakerEvent> {
        self.take()
            .into_iter()
            .filter_map(|output| match output {
                Output::Event(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn accept_from(&mut self, addr: [u8; 4]) -> ConnId {
        self.accepted += 1;
        let conn = inbound_conn(self.accepted);
        let path = path(addr);
        self.input(Input::Accepted { conn, path });
        conn
    }

    pub(crate) fn accept(&mut self) -> ConnId {
        self.accept_from([192, 0, 2, 1])
    }

    /// Completes the attempt that is under way.
    pub(crate) fn connected(&mut self) -> ConnId {
        let conn = *self.attempts().last().expect("an attempt");
        self.input(Input::Connected {
            conn,
            path: path([192, 0, 2, 1]),
        });
        conn
    }

    pub(crate) fn message(&mut self, conn: ConnId, message: Message) {
        self.input(Input::Received {
            conn,
            messages: vec![Decoded {
                message,
                reactions: Vec::new(),
            }],
            error: None,
        });
    }

    pub(crate) fn error(&mut self, conn: ConnId, error: MessageError) {
        self.input(Input::Received {
            conn,
            messages: Vec::new(),
            error: Some(error),
        });
    }

    pub(crate) fn closed(&mut self, conn: ConnId) {
        self.input(Input::Closed {
            conn,
            reason: "".into(),
        });
    }

    /// An established session on an accepted connection.
    pub(crate) fn established(&mut self, open: Open) -> ConnId {
        let conn = self.accept();
        self.message(conn, Message::Open(open));
        self.message(conn, Message::Keepalive);
        assert_eq!(self.state(), State::Established);
        self.take();
        conn
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    pub(crate) fn view(&self) -> NeighborView {
        self.speaker.neighbor(self.now, PEER).unwrap()
    }

    pub(crate) fn state(&self) -> State {
        self.view().state
    }
}

pub(crate) fn path(remote: [u8; 4]) -> Path {
    Path {
        local: SocketAddr::from(([192, 0, 2, 100], 179)),
        remote: SocketAddr::from((remote, 40_000)),
        link: None,
    }
}

fn parse(mut bytes: &[u8], sent: &mut Vec<Sent>) {
    while !bytes.is_empty() {
        let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        let (message, rest) = bytes.split_at(length);
        sent.push(match message[18] {
            1 => Sent::Open,
            2 => Sent::Update,
            3 => Sent::Notification(message[19], message[20], message[21..].to_vec()),
            4 => Sent::Keepalive,
            5 => Sent::RouteRefresh(message[21]),
            other => panic!("message type {other}"),
        });
        bytes = rest;
    }
}

/// Of a route that came along `asns`.
pub(crate) fn attributes(asns: &[u32]) -> Attributes {
    Attributes {
        origin: Origin::Igp,
        atomic_aggregate: false,
        as_path: AsPath::sequence(asns.iter().copied()),
        next_hop: NextHop::V4([192, 0, 2, 1].into()),
        med: None,
        local_pref: None,
        communities: Box::default(),
        rare: None,
    }
}
