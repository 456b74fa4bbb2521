//! What is going to happen, in the order of time.

use core::cmp::Reverse;
use core::time::Duration;

use bytes::Bytes;
use causeway_bgp::speaker::Input;
use causeway_bgp::time::Time;
use causeway_bgp::types::ConnId;

use super::Network;

pub(super) struct Entry {
    pub(super) at: Time,
    sequence: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Something that happens to a node.
pub(super) enum Event {
    /// A SYN arrives.
    Syn {
        from: usize,
        conn: ConnId,
        link: usize,
        to: usize,
    },
    /// Its answer arrives.
    SynAck {
        node: usize,
        conn: ConnId,
        link: usize,
        refused: bool,
    },
    Data {
        node: usize,
        conn: ConnId,
        bytes: Bytes,
    },
    Ack {
        node: usize,
        conn: ConnId,
        bytes: usize,
    },
    Fin {
        node: usize,
        conn: ConnId,
        reason: &'static str,
    },
    Timer {
        node: usize,
    },
    Programmed {
        node: usize,
        generation: u64,
    },
    Boot {
        node: usize,
        graceful: bool,
    },
}

impl Network {
    pub(super) fn push(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Entry {
            at: self.now + delay,
            sequence: self.sequence,
            event,
        }));
    }

    /// Everything that happens at the next point in time; then every node it touched is polled, as a shell does that
    /// handles what is at hand before it polls.
    pub(super) fn step(&mut self) -> bool {
        let Some(Reverse(first)) = self.queue.peek() else {
            return false;
        };
        self.now = first.at;
        let mut touched = Vec::new();
        while self
            .queue
            .peek()
            .is_some_and(|Reverse(entry)| entry.at == self.now)
        {
            let Some(Reverse(entry)) = self.queue.pop() else {
                break;
            };
            let node = self.dispatch(entry.event);
            if !touched.contains(&node) {
                touched.push(node);
            }
        }
        for node in touched {
            self.drain(node);
        }
        true
    }

    pub(super) fn dispatch(&mut self, event: Event) -> usize {
        match event {
            Event::Boot { node, graceful } => {
                self.boot(node, graceful);
                node
            }
            Event::Timer { node } => {
                let now = self.now;
                if let Some(recorder) = self.recorder(node) {
                    recorder.timeout(now);
                }
                let here = &mut self.nodes[node];
                if here.timer.is_some_and(|at| at <= now) {
                    here.timer = None;
                }
                if let Some(speaker) = &mut here.speaker {
                    speaker.handle_timeout(now);
                }
                node
            }
            Event::Programmed { node, generation } => {
                self.input(node, Input::Programmed { generation });
                node
            }
            Event::Syn {
                from,
                conn,
                link,
                to,
            } => {
                self.syn(from, conn, link, to);
                to
            }
            Event::SynAck {
                node,
                conn,
                link,
                refused,
            } => {
                let wanted = self.nodes[node].speaker.is_some();
                if refused {
                    let reason = "connection refused".into();
                    self.input(node, Input::ConnectFailed { conn, reason });
                } else if wanted && self.ends.contains_key(&(node, conn)) {
                    let path = self.path(link, node);
                    self.input(node, Input::Connected { conn, path });
                }
                node
            }
            Event::Data { node, conn, bytes } => {
                self.data(node, conn, bytes);
                node
            }
            Event::Ack { node, conn, bytes } => {
                if let Some(end) = self.ends.get_mut(&(node, conn)) {
                    end.in_flight = end.in_flight.saturating_sub(bytes);
                    self.input(node, Input::Transmitted { conn, bytes });
                }
                node
            }
            Event::Fin { node, conn, reason } => {
                if self.ends.remove(&(node, conn)).is_some() {
                    let reason = reason.into();
                    self.input(node, Input::Closed { conn, reason });
                }
                node
            }
        }
    }
}
