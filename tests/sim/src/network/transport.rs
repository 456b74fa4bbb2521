//! Connections: bytes with delay from one end to the other, framed and decoded there.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use causeway_bgp::speaker::{Input, Link as PathLink, Path, inbound_conn};
use causeway_bgp::types::ConnId;
use causeway_bgp::wire::{Decoder, message_type};

use super::queue::Event;
use super::{IN_FLIGHT_LIMIT_BYTES, Network};
use crate::plan::{link_addr4, link_addr6};

/// One end of a connection.
pub(super) struct End {
    pub(super) link: usize,
    pub(super) peer: (usize, ConnId),
    pub(super) decoder: Option<Decoder>,
    pub(super) input: BytesMut,
    /// Bytes that came before [`Output::Start`].
    pub(super) early: VecDeque<Bytes>,
    pub(super) in_flight: usize,
}

impl Network {
    pub(super) fn syn(&mut self, from: usize, conn: ConnId, link: usize, to: usize) {
        let delay = self.plan.links[link].delay;
        let alive = self.links[link].up && self.is_alive(to) && self.is_alive(from);
        if alive {
            self.inbound += 1;
            let accepted = inbound_conn(self.inbound);
            let end = |peer| End {
                link,
                peer,
                decoder: None,
                input: BytesMut::new(),
                early: VecDeque::new(),
                in_flight: 0,
            };
            self.ends.insert((from, conn), end((to, accepted)));
            self.ends.insert((to, accepted), end((from, conn)));
            let path = self.path(link, to);
            self.input(
                to,
                Input::Accepted {
                    conn: accepted,
                    path,
                },
            );
        }
        self.push(
            delay,
            Event::SynAck {
                node: from,
                conn,
                link,
                refused: !alive,
            },
        );
    }

    pub(super) fn path(&self, link: usize, node: usize) -> Path {
        let end = usize::from(self.plan.links[link].ends[1] == node);
        Path {
            local: SocketAddr::from((link_addr4(link, end), 179)),
            remote: SocketAddr::from((link_addr4(link, 1 - end), 179)),
            link: Some(PathLink {
                index: u32::try_from(link + 1).expect("few links"),
                ipv4: Some(link_addr4(link, end)),
                ipv6: Some(link_addr6(link, end)),
                link_local: None,
                subnets: std::sync::Arc::default(),
            }),
        }
    }

    pub(super) fn data(&mut self, node: usize, conn: ConnId, bytes: Bytes) {
        let Some(end) = self.ends.get_mut(&(node, conn)) else {
            return;
        };
        let peer = end.peer;
        let length = bytes.len();
        if self.nodes[node].puppet.is_some() {
            self.puppet_data(node, conn, &bytes);
            return;
        }
        let Some(decoder) = &mut end.decoder else {
            end.early.push_back(bytes);
            return;
        };
        end.input.extend_from_slice(&bytes);
        let mut messages = Vec::new();
        let error = loop {
            match decoder.decode(&mut end.input) {
                Ok(Some(decoded)) => messages.push(decoded),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if self.nodes[peer.0].puppet.is_none() {
            assert_eq!(error, None, "node {node} cannot decode what its peer sent");
        }
        let link = end.link;
        let delay = self.plan.links[link].delay;
        self.push(
            delay,
            Event::Ack {
                node: peer.0,
                conn: peer.1,
                bytes: length,
            },
        );
        let now = self.now;
        if let Some(recorder) = self.recorder(node) {
            recorder.received(now, conn, messages.len(), error.is_some(), &bytes);
        }
        self.input(
            node,
            Input::Received {
                conn,
                messages,
                error,
            },
        );
    }

    pub(super) fn puppet_data(&mut self, node: usize, conn: ConnId, bytes: &[u8]) {
        let Some(end) = self.ends.get_mut(&(node, conn)) else {
            return;
        };
        let (peer, delay) = (end.peer, self.plan.links[end.link].delay);
        self.push(
            delay,
            Event::Ack {
                node: peer.0,
                conn: peer.1,
                bytes: bytes.len(),
            },
        );
        let Some(puppet) = &mut self.nodes[node].puppet else {
            return;
        };
        let mut answers = Vec::new();
        let mut rest = bytes;
        while let Some(&[high, low]) = rest.get(16..18) {
            let (message, after) = rest.split_at(u16::from_be_bytes([high, low]).into());
            answers.extend(puppet(message));
            rest = after;
        }
        for bytes in answers {
            self.transmit(node, conn, bytes);
        }
    }

    pub(super) fn transmit(&mut self, node: usize, conn: ConnId, bytes: Bytes) {
        let Some(end) = self.ends.get_mut(&(node, conn)) else {
            return;
        };
        end.in_flight += bytes.len();
        assert!(
            end.in_flight <= IN_FLIGHT_LIMIT_BYTES,
            "flow control is broken"
        );
        let (link, peer, in_flight) = (end.link, end.peer, end.in_flight);
        let here = &mut self.nodes[node];
        here.most_in_flight = here.most_in_flight.max(in_flight);
        let updates = updates(&bytes);
        if updates > 0 {
            self.last_activity = self.now;
            *self.nodes[peer.0].updates_in.entry(link).or_default() += updates;
        }
        if self.nodes[peer.0].stuck {
            return;
        }
        let delay = self.plan.links[link].delay;
        self.push(
            delay,
            Event::Data {
                node: peer.0,
                conn: peer.1,
                bytes,
            },
        );
    }

    pub(super) fn drop_connections(&mut self, which: impl Fn(&End) -> bool, reason: &'static str) {
        let mut lost: Vec<_> = self
            .ends
            .iter()
            .filter(|(_, end)| which(end))
            .map(|(key, _)| *key)
            .collect();
        lost.sort_unstable();
        for key in lost {
            self.push(
                Duration::ZERO,
                Event::Fin {
                    node: key.0,
                    conn: key.1,
                    reason,
                },
            );
        }
    }

    /// Closes one end; the other one hears of it after the delay.
    pub(super) fn close(&mut self, key: (usize, ConnId), reason: &'static str) {
        if let Some(end) = self.ends.remove(&key) {
            let delay = self.plan.links[end.link].delay;
            let (node, conn) = end.peer;
            self.push(delay, Event::Fin { node, conn, reason });
        }
    }
}

/// UPDATE messages in a piece of a stream that begins and ends with a message.
fn updates(mut bytes: &[u8]) -> u64 {
    let mut updates = 0;
    while let Some(&[high, low, kind]) = bytes.get(16..19) {
        updates += u64::from(kind == message_type::UPDATE);
        bytes = bytes
            .get(usize::from(u16::from_be_bytes([high, low]))..)
            .unwrap_or_default();
    }
    updates
}
