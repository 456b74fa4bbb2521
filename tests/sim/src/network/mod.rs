//! The virtual network: nodes with a speaker each, links, connections, time.
//!
//! - `queue` is what is going to happen, `transport` the connections, `shell` what surrounds each speaker.

mod queue;
mod shell;
mod transport;

use core::cmp::Reverse;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use bytes::Bytes;
use causeway_bgp::config::SpeakerConfig;
use causeway_bgp::origin::Originated;
use causeway_bgp::record::Recorder;
use causeway_bgp::rib::NextHopKey;
use causeway_bgp::speaker::{Command, Input, Output, Speaker, SpeakerEvent};
use causeway_bgp::time::Time;
use causeway_bgp::types::{ConnId, Prefix};

use crate::fib::Fib;
use crate::plan::{EndPolicy, Plan};
use queue::{Entry, Event};
use transport::End;

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

/// What happened to a node since it booted, and what it did.
#[derive(Debug, Default)]
pub struct Recording {
    /// The configurations that it was given, in order. The text of each in the recording is its number.
    pub configs: Vec<SpeakerConfig>,
    /// Every output.
    pub outputs: Vec<Output>,
    recorder: Option<Recorder>,
}

impl Recording {
    /// The recording as text.
    #[must_use]
    pub fn text(&mut self) -> String {
        self.recorder
            .as_mut()
            .map(Recorder::take)
            .unwrap_or_default()
    }

    fn configure(&mut self, now: Time, config: &SpeakerConfig) {
        if let Some(recorder) = &mut self.recorder {
            recorder.configure(now, &self.configs.len().to_string());
            self.configs.push(config.clone());
        }
    }
}

/// Stands in for a speaker: gets whole messages, yields whole messages.
pub type Puppet = Box<dyn FnMut(&[u8]) -> Vec<Bytes>>;

#[derive(Debug)]
struct Link {
    up: bool,
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

    /// Gives a node an operator's command.
    pub fn command(&mut self, node: usize, command: Command) {
        self.input(node, Input::Command(command));
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
}
