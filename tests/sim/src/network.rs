//! The virtual network: nodes with a speaker each, links, connections, time.

use core::cmp::Reverse;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use causeway_bgp::config::SpeakerConfig;
use causeway_bgp::fib::FibDelta;
use causeway_bgp::origin::Originated;
use causeway_bgp::record::{Line, Step};
use causeway_bgp::rib::{NextHopInterest, NextHopKey};
use causeway_bgp::speaker::{
    Input, Link as PathLink, Output, Path, Speaker, SpeakerEvent, inbound_conn,
};
use causeway_bgp::time::Time;
use causeway_bgp::types::{ConnId, Prefix};
use causeway_bgp::wire::{Decoder, message_type};

use crate::fib::Fib;
use crate::plan::{EndPolicy, Plan, link_addr4, link_addr6};

/// Most bytes that may be on their way on one connection; more means that flow control is broken.
pub const IN_FLIGHT_LIMIT_BYTES: usize = 700 * 1024;

/// The network at work.
pub struct Network {
    /// What it was built from; policies follow [`Network::set_policy`].
    pub plan: Plan,
    /// The nodes, by index.
    pub nodes: Vec<Node>,
    /// Now.
    pub now: Time,
    links: Vec<Link>,
    ends: HashMap<(usize, ConnId), End>,
    queue: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    inbound: u64,
    seed: u64,
    last_activity: Time,
}

/// A node.
pub struct Node {
    /// Its speaker, while it runs.
    pub speaker: Option<Speaker>,
    /// Its forwarding table.
    pub fib: Fib,
    /// Every event with its time, oldest first.
    pub events: Vec<(Time, SpeakerEvent)>,
    /// UPDATE messages received per link.
    pub updates_in: BTreeMap<usize, u64>,
    /// Most bytes ever on the way on one connection.
    pub most_in_flight: usize,
    /// Prefixes removed from its forwarding table so far.
    pub removals: Vec<(Time, Prefix)>,
    /// What happened to it and what it did, if it is recorded.
    pub recording: Option<Recording>,
    /// It reads nothing: what is sent to it stays on the way.
    pub stuck: bool,
    puppet: Option<Puppet>,
    timer: Option<Time>,
    tracked: BTreeMap<NextHopKey, Option<u32>>,
    /// Next hops that it asked about and has had no answer for.
    asked: Vec<NextHopKey>,
    /// The table from before a graceful restart, until selection resumes.
    incoming: Option<Fib>,
}

/// What happened to a node, and what it did.
#[derive(Debug, Default)]
pub struct Recording {
    /// The configuration it started from.
    pub config: Option<SpeakerConfig>,
    /// The seed it started from.
    pub seed: u64,
    /// Every step.
    pub steps: Vec<Line>,
    /// Every output.
    pub outputs: Vec<Output>,
}

/// Stands in for a speaker: gets whole messages, yields whole messages.
pub type Puppet = Box<dyn FnMut(&[u8]) -> Vec<Bytes>>;

#[derive(Debug)]
struct Link {
    up: bool,
}

/// One end of a connection.
struct End {
    link: usize,
    peer: (usize, ConnId),
    decoder: Option<Decoder>,
    input: BytesMut,
    /// Bytes that came before [`Output::Start`].
    early: VecDeque<Bytes>,
    in_flight: usize,
}

struct Entry {
    at: Time,
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

enum Event {
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
    /// Boots every node at time zero.
    #[must_use]
    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut network = Self {
            links: plan.links.iter().map(|_| Link { up: true }).collect(),
            nodes: plan
                .nodes
                .iter()
                .map(|_| Node {
                    speaker: None,
                    fib: Fib::default(),
                    events: Vec::new(),
                    updates_in: BTreeMap::new(),
                    most_in_flight: 0,
                    removals: Vec::new(),
                    recording: None,
                    stuck: false,
                    puppet: None,
                    timer: None,
                    tracked: BTreeMap::new(),
                    asked: Vec::new(),
                    incoming: None,
                })
                .collect(),
            plan,
            now: Time::ZERO,
            ends: HashMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            inbound: 0,
            seed,
            last_activity: Time::ZERO,
        };
        for node in 0..network.nodes.len() {
            network.push(
                Duration::ZERO,
                Event::Boot {
                    node,
                    graceful: false,
                },
            );
        }
        network
    }

    /// Runs until nothing but keepalives has happened for a while, or panics after `limit`.
    pub fn run_to_rest(&mut self, limit: Duration) {
        /// Longer than connect retry and the first idle holds.
        const QUIET: Duration = Duration::from_secs(20);
        let end = self.now + limit;
        self.last_activity = self.now;
        while self.now.saturating_since(self.last_activity) < QUIET {
            assert!(self.now < end, "no rest within {limit:?}");
            if !self.step() {
                break;
            }
        }
    }

    /// Runs for a time.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self
            .queue
            .peek()
            .is_some_and(|Reverse(entry)| entry.at <= end)
        {
            self.step();
        }
        self.now = end;
    }

    /// Cuts a link or mends it. Connections over it are lost at once.
    pub fn set_link(&mut self, link: usize, up: bool) {
        self.links[link].up = up;
        if !up {
            self.drop_connections(|end| end.link == link, "link down");
        }
        self.refresh_next_hops();
    }

    /// Ends the session over a link as a transport failure that both sides notice.
    pub fn lose_session(&mut self, link: usize) {
        self.drop_connections(|end| end.link == link, "connection reset");
    }

    /// Stops a node without notice, to come back after `pause`. Gracefully: its forwarding table stays.
    pub fn restart(&mut self, node: usize, graceful: bool, pause: Duration) {
        self.stop(node);
        if !graceful {
            self.nodes[node].fib = Fib::default();
        }
        self.push(pause, Event::Boot { node, graceful });
    }

    /// Stops a node for good, without notice.
    pub fn stop(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        here.speaker = None;
        here.timer = None;
        here.tracked.clear();
        here.asked.clear();
        here.incoming = None;
        let mut lost: Vec<_> = self
            .ends
            .keys()
            .filter(|(n, _)| *n == node)
            .copied()
            .collect();
        lost.sort_unstable();
        for key in lost {
            self.close(key, "peer died");
        }
    }

    /// Changes the policy of one end of a link, by reconfiguration.
    pub fn set_policy(&mut self, link: usize, end: usize, policy: EndPolicy) {
        self.plan.links[link].policy[end] = policy;
        let node = self.plan.links[link].ends[end];
        let config = self.plan.config(node, false);
        self.input(node, Input::Reconfigure(Box::new(config)));
        self.drain(node);
    }

    /// Stops originating a node's prefixes, or begins.
    pub fn set_originates(&mut self, node: usize, originates: bool) {
        self.plan.nodes[node].originates = originates;
        let originated = self.plan.originated(node);
        self.input(node, Input::Originate(originated));
        self.drain(node);
    }

    /// Records a node from its start on. Before anything runs.
    pub fn record(&mut self, node: usize) {
        self.nodes[node].recording = Some(Recording::default());
    }

    /// Puts a puppet in the place of a node's speaker. Before anything runs.
    pub fn set_puppet(&mut self, node: usize, puppet: Puppet) {
        self.nodes[node].puppet = Some(puppet);
    }

    /// Whether a node has a speaker or a puppet at work.
    #[must_use]
    pub fn is_alive(&self, node: usize) -> bool {
        self.nodes[node].speaker.is_some() || self.nodes[node].puppet.is_some()
    }

    /// Replaces what a node originates.
    pub fn originate(&mut self, node: usize, originated: Vec<Originated>) {
        self.input(node, Input::Originate(originated));
        self.drain(node);
    }

    /// Whether a link is up.
    #[must_use]
    pub fn is_up(&self, link: usize) -> bool {
        self.links[link].up
    }

    /// The node that has this address on a link, with the link.
    #[must_use]
    pub fn owner(&self, addr: IpAddr) -> Option<(usize, usize)> {
        self.plan.owner(addr)
    }

    /// Links of a node and which end of each it is.
    #[must_use]
    pub fn links_of(&self, node: usize) -> Vec<(usize, usize)> {
        self.plan.links_of(node).collect()
    }

    fn push(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Entry {
            at: self.now + delay,
            sequence: self.sequence,
            event,
        }));
    }

    /// Everything that happens at the next point in time; then every node it touched is polled, as a shell does that
    /// handles what is at hand before it polls.
    fn step(&mut self) -> bool {
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

    fn dispatch(&mut self, event: Event) -> usize {
        match event {
            Event::Boot { node, graceful } => {
                self.boot(node, graceful);
                node
            }
            Event::Timer { node } => {
                self.note(node, Step::Timeout);
                let now = self.now;
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

    fn boot(&mut self, node: usize, graceful: bool) {
        if self.nodes[node].puppet.is_some() {
            return;
        }
        self.seed = self.seed.wrapping_add(1);
        let config = self.plan.config(node, graceful);
        if let Some(recording) = &mut self.nodes[node].recording {
            recording.config = Some(config.clone());
            recording.seed = self.seed;
        }
        let speaker = Speaker::new(self.now, config, self.seed).expect("a valid configuration");
        self.nodes[node].speaker = Some(speaker);
        if graceful {
            self.nodes[node].incoming = Some(Fib::default());
        }
        self.last_activity = self.now;
    }

    fn syn(&mut self, from: usize, conn: ConnId, link: usize, to: usize) {
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

    fn path(&self, link: usize, node: usize) -> Path {
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

    fn data(&mut self, node: usize, conn: ConnId, bytes: Bytes) {
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
        let recorded = self.nodes[node]
            .recording
            .is_some()
            .then(|| Step::Bytes(conn, bytes[..].into()));
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
        if let Some(step) = recorded {
            self.note(node, step);
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

    fn puppet_data(&mut self, node: usize, conn: ConnId, bytes: &[u8]) {
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

    fn input(&mut self, node: usize, input: Input) {
        if let Some(step) = Step::of(&input) {
            self.note(node, step);
        }
        if let Some(speaker) = &mut self.nodes[node].speaker {
            speaker.handle(self.now, input);
        }
    }

    fn note(&mut self, node: usize, step: Step) {
        let at = self.now;
        if let Some(recording) = &mut self.nodes[node].recording {
            recording.steps.push(Line { at, step });
        }
    }

    /// Carries out what a node wants done. What it asks for on the way is answered when it has said all.
    fn drain(&mut self, node: usize) {
        loop {
            self.note(node, Step::Poll);
            while let Some(speaker) = &mut self.nodes[node].speaker {
                let Some(output) = speaker.poll_output(self.now) else {
                    break;
                };
                if let Some(recording) = &mut self.nodes[node].recording {
                    recording.outputs.push(output.clone());
                }
                self.carry_out(node, output);
            }
            let asked = core::mem::take(&mut self.nodes[node].asked);
            if asked.is_empty() {
                break;
            }
            for key in asked {
                let metric = self.metric(node, key.addr);
                self.nodes[node].tracked.insert(key, metric);
                self.input(node, Input::NextHop { key, metric });
            }
        }
        let here = &mut self.nodes[node];
        let next = here.speaker.as_ref().and_then(Speaker::poll_timeout);
        if let Some(next) = next
            && here.timer.is_none_or(|at| next < at)
        {
            here.timer = Some(next);
            let delay = next - self.now;
            self.push(delay, Event::Timer { node });
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Connect { conn, remote, .. } => {
                let (to, link) = self
                    .owner(remote.ip())
                    .expect("every peer address is a link address");
                let delay = self.plan.links[link].delay;
                self.push(
                    delay,
                    Event::Syn {
                        from: node,
                        conn,
                        link,
                        to,
                    },
                );
            }
            Output::Start {
                conn,
                open,
                decoder,
                ..
            } => {
                let Some(end) = self.ends.get_mut(&(node, conn)) else {
                    return;
                };
                end.decoder = Some(Decoder::new(&open, decoder));
                for bytes in core::mem::take(&mut end.early) {
                    self.push(Duration::ZERO, Event::Data { node, conn, bytes });
                }
            }
            Output::Transmit { conn, bytes } => self.transmit(node, conn, bytes),
            Output::Close { conn, .. } => {
                if self.ends.contains_key(&(node, conn)) {
                    self.close((node, conn), "");
                }
            }
            Output::Fib { generation, delta } => self.program(node, generation, delta),
            Output::NextHop(interest) => self.track(node, interest),
            Output::Event(event) => {
                if matches!(event, SpeakerEvent::SelectionResumed { .. })
                    && let Some(fib) = self.nodes[node].incoming.take()
                {
                    self.nodes[node].fib = fib;
                }
                if !matches!(
                    event,
                    SpeakerEvent::AttemptFailed { .. } | SpeakerEvent::StateChanged { .. }
                ) {
                    self.last_activity = self.now;
                }
                self.nodes[node].events.push((self.now, event));
            }
            Output::Rekey { .. } | Output::Listen => {}
        }
    }

    fn transmit(&mut self, node: usize, conn: ConnId, bytes: Bytes) {
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

    fn program(&mut self, node: usize, generation: u64, delta: FibDelta) {
        self.last_activity = self.now;
        let now = self.now;
        let here = &mut self.nodes[node];
        let fib = here.incoming.as_mut().unwrap_or(&mut here.fib);
        let removed = fib.apply(delta);
        here.removals
            .extend(removed.into_iter().map(|prefix| (now, prefix)));
        self.push(
            Duration::from_micros(200),
            Event::Programmed { node, generation },
        );
    }

    fn track(&mut self, node: usize, interest: NextHopInterest) {
        match interest {
            NextHopInterest::Track(key) => self.nodes[node].asked.push(key),
            NextHopInterest::Release(key) => {
                let here = &mut self.nodes[node];
                here.tracked.remove(&key);
                here.asked.retain(|asked| *asked != key);
            }
        }
    }

    /// 0 over a live link of our own, 10 to any node of our AS that lives, else unreachable.
    fn metric(&self, node: usize, addr: IpAddr) -> Option<u32> {
        let (owner, link) = self.owner(addr)?;
        if self.plan.links[link].ends.contains(&node) {
            return self.links[link].up.then_some(0);
        }
        (self.plan.nodes[owner].asn == self.plan.nodes[node].asn).then_some(10)
    }

    fn refresh_next_hops(&mut self) {
        for node in 0..self.nodes.len() {
            let keys: Vec<_> = self.nodes[node]
                .tracked
                .iter()
                .map(|(key, metric)| (*key, *metric))
                .collect();
            for (key, old) in keys {
                let metric = self.metric(node, key.addr);
                if metric != old {
                    self.nodes[node].tracked.insert(key, metric);
                    self.input(node, Input::NextHop { key, metric });
                }
            }
            self.drain(node);
        }
    }

    fn drop_connections(&mut self, which: impl Fn(&End) -> bool, reason: &'static str) {
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
    fn close(&mut self, key: (usize, ConnId), reason: &'static str) {
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
