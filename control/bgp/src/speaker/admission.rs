//! Who may connect: configured peers, dynamic ranges, nobody else. Also what the listening sockets must know.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::{
    Counters, Entry, Listener, Output, Path, RefuseReason, RefusedView, Speaker, SpeakerEvent,
    connection_rejected,
};
use crate::config::{DynamicConfig, PeerConfig, limits};
use crate::session::{Event, Peer};
use crate::time::Time;
use crate::types::{ConnId, PeerId, Prefix};
use crate::wire::encode_notification;

/// Refusals, remembered and told in bounded numbers.
#[derive(Debug, Default)]
pub(super) struct Admission {
    total: u64,
    by_reason: [u64; RefuseReason::ALL.len()],
    recent: VecDeque<(Time, SocketAddr, RefuseReason)>,
    /// Refusals told in the second that began then.
    told: (Time, u32),
}

/// Refusals told per second; all are counted.
const TOLD_PER_SECOND: u32 = 10;

impl Admission {
    fn refuse(
        &mut self,
        now: Time,
        remote: SocketAddr,
        reason: RefuseReason,
    ) -> Option<SpeakerEvent> {
        self.total += 1;
        self.by_reason[reason as usize] += 1;
        if self.recent.len() == limits::REFUSED_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((now, remote, reason));
        if self.total == 1 || now.saturating_since(self.told.0) >= Duration::from_secs(1) {
            self.told = (now, 0);
        }
        self.told.1 += 1;
        (self.told.1 <= TOLD_PER_SECOND).then_some(SpeakerEvent::Refused {
            remote,
            reason,
            total: self.total,
        })
    }
}

impl Speaker {
    /// What the listening sockets must know: one entry per peer and dynamic range.
    #[must_use]
    pub fn listen(&self) -> Vec<Listener> {
        let host = |addr: IpAddr| Prefix::new(addr, if addr.is_ipv4() { 32 } else { 128 });
        let peers = self.config.peers.iter().filter_map(|peer| {
            Some(Listener {
                remote: host(peer.remote)?,
                scope: peer.scope,
                local: peer.session.local_address,
                options: peer.session.transport.clone(),
            })
        });
        let ranges = self.config.dynamic.iter().flat_map(|group| {
            group.ranges.iter().map(|range| Listener {
                remote: *range,
                scope: None,
                local: group.session.local_address,
                options: group.session.transport.clone(),
            })
        });
        peers.chain(ranges).collect()
    }

    /// Connections refused.
    #[must_use]
    pub fn refused(&self) -> RefusedView {
        RefusedView {
            total: self.admission.total,
            by_reason: RefuseReason::ALL
                .into_iter()
                .zip(self.admission.by_reason)
                .collect(),
            recent: self.admission.recent.iter().copied().collect(),
        }
    }

    /// Somebody connected.
    pub(super) fn accepted(&mut self, now: Time, conn: ConnId, path: Path) {
        match self.admit(now, &path) {
            Ok(id) => {
                self.conns.insert(conn, id);
                self.with_peer(now, id, |peer, ctx| {
                    peer.handle(ctx, Event::TcpConnectionConfirmed(conn, path))
                });
            }
            Err(reason) => {
                // RFC 4486 4: Connection Rejected, for strangers too.
                let mut bytes = BytesMut::new();
                encode_notification(&connection_rejected(), &mut bytes);
                self.outputs.push_back(Output::Transmit {
                    conn,
                    bytes: bytes.freeze(),
                });
                self.outputs.push_back(Output::Close { conn, abort: false });
                if let Some(event) = self.admission.refuse(now, path.remote, reason) {
                    self.outputs.push_back(Output::Event(event));
                }
            }
        }
    }

    fn admit(&mut self, now: Time, path: &Path) -> Result<PeerId, RefuseReason> {
        if self.stopping {
            return Err(RefuseReason::ShuttingDown);
        }
        let (addr, scope) = address(path.remote);
        let known = self.peers.iter().find(|(_, e)| {
            e.peer.config.remote == addr
                && (e.peer.config.scope.is_none() || e.peer.config.scope == scope)
        });
        if let Some((id, entry)) = known {
            entry.peer.accepts(path)?;
            return Ok(*id);
        }
        let group = self
            .dynamic_group(addr)
            .ok_or(RefuseReason::UnknownPeer)?
            .clone();
        if group.session.shutdown.is_some() {
            return Err(RefuseReason::AdminDown);
        }
        let members = self
            .peers
            .values()
            .filter(|entry| entry.peer.group.as_ref() == Some(&group.name))
            .count();
        if members >= group.limit || self.peers.len() >= limits::PEERS {
            return Err(RefuseReason::DynamicLimit);
        }
        if group
            .session
            .local_address
            .is_some_and(|local| local != path.local.ip())
        {
            return Err(RefuseReason::WrongLocalAddress);
        }
        let config = PeerConfig {
            name: format!("{}-{addr}", group.name).into(),
            remote: addr,
            scope,
            port: path.remote.port(),
            passive: true,
            session: Arc::clone(&group.session),
        };
        // Not yet started: started peers without a connection are forgotten.
        Ok(self.add_peer(now, config, Some(Arc::clone(&group.name))))
    }

    /// The group with the longest range that covers the address.
    fn dynamic_group(&self, addr: IpAddr) -> Option<&DynamicConfig> {
        self.config
            .dynamic
            .iter()
            .filter_map(|group| {
                let best = group
                    .ranges
                    .iter()
                    .filter(|range| contains(**range, addr))
                    .map(|range| range.len())
                    .max()?;
                Some((best, group))
            })
            .max_by_key(|(len, _)| *len)
            .map(|(_, group)| group)
    }

    /// A new peer, started.
    pub(super) fn add_peer(
        &mut self,
        now: Time,
        config: PeerConfig,
        group: Option<Arc<str>>,
    ) -> PeerId {
        self.next_peer += 1;
        let id = PeerId(self.next_peer);
        self.outputs
            .push_back(Output::Event(SpeakerEvent::PeerAdded {
                peer: id,
                name: Arc::clone(&config.name),
            }));
        let dynamic = group.is_some();
        self.peers.insert(
            id,
            Entry {
                peer: Peer::new(now, id, config, group),
                counters: Counters::default(),
                scheduled: None,
                queued: false,
                end_of_rib_sent: [false; 2],
            },
        );
        if !self.stopping {
            self.with_peer_quick(now, id, |peer, ctx| peer.handle(ctx, Event::Start));
        }
        if !dynamic {
            self.reschedule(id);
        }
        id
    }

    /// A peer that is stopped goes.
    pub(super) fn forget(&mut self, id: PeerId) {
        if let Some(entry) = self.peers.remove(&id) {
            self.outputs
                .push_back(Output::Event(SpeakerEvent::PeerRemoved {
                    peer: id,
                    name: entry.peer.config.name,
                }));
        }
    }
}

/// Address and scope; an IPv4 address that came in on an IPv6 socket is an IPv4 address.
fn address(socket: SocketAddr) -> (IpAddr, Option<u32>) {
    match socket {
        SocketAddr::V4(v4) => (IpAddr::V4(*v4.ip()), None),
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => (IpAddr::V4(v4), None),
            None => (
                IpAddr::V6(*v6.ip()),
                (v6.scope_id() != 0).then_some(v6.scope_id()),
            ),
        },
    }
}

/// Whether the range covers the address.
pub(super) fn contains(range: Prefix, addr: IpAddr) -> bool {
    Prefix::new(addr, range.len()) == Some(range)
}
