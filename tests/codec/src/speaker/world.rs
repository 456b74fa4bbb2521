//! The shell around the speaker: does what it asks for, as well as the schedule lets it.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use causeway_bgp::config::limits;
use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::record::Shown;
use causeway_bgp::rib::{NextHopInterest, NextHopKey};
use causeway_bgp::speaker::{Input, Link, Output, Path, Speaker, SpeakerEvent, inbound_conn};
use causeway_bgp::time::Time;
use causeway_bgp::types::{ConnId, PeerId, Prefix};
use causeway_bgp::wire::{Decoder, Open};

use super::plan::{self, Manner, OUR_ADDRESS, REMOTES, Remote};
use super::remote::Listener;

/// Whether steps and outputs are printed, to look into a failure.
static TRACED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("CAUSEWAY_FUZZ_TRACE").is_some());

/// Prints a line if that is wanted.
pub(super) fn trace(line: impl FnOnce() -> String) {
    if *TRACED {
        println!("{}", line());
    }
}

/// Outputs after which polling must have come to its end.
const MAX_OUTPUTS: usize = 20_000;
/// Timers that may turn out not to be due, one after the other.
const MAX_IDLE_TIMERS: usize = 64;

/// The speaker and everything around it.
pub(super) struct World {
    pub(super) speaker: Speaker,
    pub(super) now: Time,
    pub(super) manner: Manner,
    /// Connections and attempts that the speaker has not closed and that have not been closed to it, oldest first.
    pub(super) sockets: Vec<Socket>,
    /// Closed from the outside since the speaker last had nothing more to say: what it said before may be about them.
    gone: BTreeSet<ConnId>,
    pub(super) fib: Fib,
    /// Next hops that the speaker wants to know about, with the last answer.
    pub(super) tracked: BTreeMap<NextHopKey, Option<Option<u32>>>,
    /// Peers between SessionUp and SessionDown.
    pub(super) up: BTreeSet<PeerId>,
    /// Output waits for the end of our restart.
    pub(super) held: bool,
    /// What has been met so far.
    pub(super) seen: Seen,
    /// The schedule has let the speaker say all it had to say.
    pub(super) drained: bool,
    accepted: u64,
}

/// What a schedule led to, by which to see that the seeds reach what they are there for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Names of the events that the speaker told.
    pub events: BTreeSet<String>,
    /// Changes of the forwarding tables.
    pub fib_changes: u64,
    /// Routes in all tables of peers that were compared with Adj-RIB-Out.
    pub routes_compared: usize,
}

/// A connection or the attempt to make one.
pub(super) struct Socket {
    pub(super) conn: ConnId,
    pub(super) remote: Remote,
    pub(super) path: Path,
    /// The speaker asked for it and has no answer yet.
    pub(super) dialing: bool,
    /// Bytes that the socket has not taken.
    pub(super) in_flight: usize,
    /// What the peer understands; none before its OPEN, nor if that was not of our making.
    pub(super) listener: Option<Listener>,
    /// What the speaker sent before that.
    unheard: BytesMut,
    decoder: Option<Decoder>,
    input: BytesMut,
    /// Nothing is read after an error.
    broken: bool,
    /// The peer may have said an OPEN that it does not know of.
    muddled: bool,
}

/// Forwarding tables that check what they are told.
#[derive(Default)]
pub(super) struct Fib {
    pub(super) sets: BTreeMap<NextHopSetId, Arc<[FibNextHop]>>,
    pub(super) routes: BTreeMap<Prefix, NextHopSetId>,
    pub(super) handed_over: u64,
    pub(super) programmed: u64,
}

impl World {
    pub(super) fn new(manner: Manner, variant: u8) -> Self {
        let config = plan::config(manner, variant);
        let mut world = Self {
            speaker: Speaker::new(Time::ZERO, config, 7).expect("a valid configuration"),
            now: Time::ZERO,
            manner,
            sockets: Vec::new(),
            gone: BTreeSet::new(),
            fib: Fib::default(),
            tracked: BTreeMap::new(),
            up: BTreeSet::new(),
            held: manner.restarting,
            seen: Seen::default(),
            drained: false,
            accepted: 0,
        };
        world.drain();
        world
    }

    pub(super) fn input(&mut self, input: Input) {
        self.drained = false;
        self.speaker.handle(self.now, input);
    }

    /// Lets the speaker say everything.
    pub(super) fn drain(&mut self) {
        self.poll(MAX_OUTPUTS);
        assert!(self.drained, "polling does not come to an end");
    }

    /// Lets the speaker say at most so much.
    pub(super) fn poll(&mut self, most: usize) {
        for _ in 0..most {
            let Some(output) = self.speaker.poll_output(self.now) else {
                self.drained = true;
                self.gone.clear();
                assert!(!self.speaker.has_work(), "said nothing, but has work");
                return;
            };
            self.carry_out(output);
        }
    }

    /// Time passes, with a stop at every deadline.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut stops = 0;
        while let Some(at) = self.speaker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.expire();
            self.drain();
            stops += 1;
            assert!(stops < 10_000, "timers run in circles");
        }
        self.now = end;
    }

    fn expire(&mut self) {
        self.drained = false;
        for _ in 0..MAX_IDLE_TIMERS {
            self.speaker.handle_timeout(self.now);
            if self.speaker.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("a timer stays due after it was let act");
    }

    /// Somebody connects to us.
    pub(super) fn accept(&mut self, remote: Remote) -> ConnId {
        self.accepted += 1;
        let conn = inbound_conn(self.accepted);
        let path = self.path(remote, 179);
        self.sockets
            .push(Socket::new(conn, remote, path.clone(), false));
        self.input(Input::Accepted { conn, path });
        conn
    }

    /// An attempt of ours succeeds, or not.
    pub(super) fn answer(&mut self, index: usize, success: bool) {
        let socket = &mut self.sockets[index];
        if !socket.dialing {
            return;
        }
        let conn = socket.conn;
        if success {
            socket.dialing = false;
            let path = socket.path.clone();
            self.input(Input::Connected { conn, path });
        } else {
            self.sockets.remove(index);
            self.gone.insert(conn);
            let reason = "connection refused".into();
            self.input(Input::ConnectFailed { conn, reason });
        }
    }

    /// The peer closes a connection.
    pub(super) fn close(&mut self, index: usize) {
        if self.sockets[index].dialing {
            return;
        }
        let conn = self.sockets.remove(index).conn;
        self.gone.insert(conn);
        let reason = "connection reset".into();
        self.input(Input::Closed { conn, reason });
    }

    /// The peer sends its OPEN, and from now on understands what it is told.
    pub(super) fn greet(&mut self, index: usize, open: &Open) {
        let socket = &mut self.sockets[index];
        if socket.dialing || socket.decoder.is_none() {
            return;
        }
        if socket.listener.is_none() && !socket.muddled {
            let mut listener = Listener::new(open);
            listener.hear(&core::mem::take(&mut socket.unheard));
            socket.listener = Some(listener);
        } else {
            socket.listener = None;
            socket.muddled = true;
        }
        let mut bytes = BytesMut::new();
        causeway_bgp::wire::encode_open(open, &mut bytes);
        self.send(index, &bytes);
    }

    /// The peer no longer knows what it said, so that what it is told means nothing to it.
    pub(super) fn deaf(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        socket.listener = None;
        socket.muddled = true;
    }

    /// The peer sends bytes.
    pub(super) fn send(&mut self, index: usize, bytes: &[u8]) {
        let socket = &mut self.sockets[index];
        let Some(decoder) = socket.decoder.as_mut().filter(|_| !socket.broken) else {
            return;
        };
        socket.input.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let error = loop {
            match decoder.decode(&mut socket.input) {
                Ok(Some(decoded)) => messages.push(decoded),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        socket.broken |= error.is_some();
        let conn = socket.conn;
        if !messages.is_empty() || error.is_some() {
            self.input(Input::Received {
                conn,
                messages,
                error,
            });
        }
    }

    /// A socket takes bytes.
    pub(super) fn credit(&mut self, index: usize, most: usize) {
        let socket = &mut self.sockets[index];
        let (conn, bytes) = (socket.conn, socket.in_flight.min(most));
        socket.in_flight -= bytes;
        if bytes > 0 {
            self.input(Input::Transmitted { conn, bytes });
        }
    }

    /// The forwarding tables have done up to this many of what they were given.
    pub(super) fn program(&mut self, most: u64) {
        let generation = self.fib.handed_over.min(self.fib.programmed + most);
        if generation > self.fib.programmed {
            self.fib.programmed = generation;
            self.input(Input::Programmed { generation });
        }
    }

    /// A next hop that the speaker asked about has this metric now.
    pub(super) fn reach(&mut self, key: NextHopKey, metric: Option<u32>) {
        if let Some(answer) = self.tracked.get_mut(&key) {
            *answer = Some(metric);
        }
        self.input(Input::NextHop { key, metric });
    }

    /// Whatever was slow catches up.
    pub(super) fn settle(&mut self) {
        if self.held {
            self.pass(Duration::from_secs(61));
        }
        for _ in 0..MAX_OUTPUTS {
            self.drain();
            let unanswered = self.tracked.iter().find(|(_, answer)| answer.is_none());
            if let Some((&key, _)) = unanswered {
                self.reach(key, Some(1));
            } else if self.fib.programmed < self.fib.handed_over {
                self.program(u64::MAX - self.fib.handed_over);
            } else if let Some(index) = self.sockets.iter().position(|s| s.in_flight > 0) {
                self.credit(index, usize::MAX);
            } else {
                return;
            }
        }
        panic!("the speaker does not come to rest");
    }

    fn path(&mut self, remote: Remote, port: u16) -> Path {
        // Each connection has a port of its own, by which it is found again.
        let theirs = 20_000 + u16::try_from(self.accepted % 40_000).expect("below 40,000");
        let far = remote.address.octets()[1] == 9;
        Path {
            local: SocketAddr::from((OUR_ADDRESS, port)),
            remote: SocketAddr::from((remote.address, theirs)),
            link: (!far).then(|| Link {
                index: 2,
                ipv4: Some(OUR_ADDRESS),
                ipv6: "fd00::64".parse().ok(),
                link_local: "fe80::64".parse().ok(),
                subnets: Arc::default(),
            }),
        }
    }

    fn carry_out(&mut self, output: Output) {
        trace(|| format!("  {}", Shown(&output)));
        match output {
            Output::Connect { conn, remote, .. } => {
                let known = REMOTES.iter().find(|r| r.address == remote.ip());
                let remote = *known.expect("connects to nobody but its peers");
                self.accepted += 1;
                let port = 20_000 + u16::try_from(self.accepted % 40_000).expect("below 40,000");
                let mut path = self.path(remote, port);
                path.remote.set_port(179);
                self.sockets.push(Socket::new(conn, remote, path, true));
            }
            Output::Start {
                conn,
                open,
                decoder,
                ..
            } => {
                let Some(socket) = self.open_socket(conn, "started") else {
                    return;
                };
                assert!(socket.decoder.is_none(), "{conn:?} is started twice");
                socket.decoder = Some(Decoder::new(&open, decoder));
            }
            Output::Transmit { conn, bytes } => {
                let prompt = self.manner.prompt;
                let length = bytes.len();
                let Some(socket) = self.open_socket(conn, "sent to") else {
                    return;
                };
                socket.transmitted(&bytes);
                if prompt {
                    socket.in_flight = 0;
                    self.speaker.handle(
                        self.now,
                        Input::Transmitted {
                            conn,
                            bytes: length,
                        },
                    );
                }
            }
            Output::Close { conn, .. } => {
                if let Some(index) = self.sockets.iter().position(|s| s.conn == conn) {
                    self.sockets.remove(index);
                    // The answer to an attempt that was given up is another reason to close it.
                    self.gone.insert(conn);
                } else {
                    assert!(
                        self.gone.contains(&conn),
                        "{conn:?} is closed, but not open"
                    );
                }
            }
            Output::Fib { generation, delta } => {
                self.fib.apply(generation, delta);
                self.seen.fib_changes += 1;
                if self.manner.prompt {
                    self.fib.programmed = generation;
                    self.speaker
                        .handle(self.now, Input::Programmed { generation });
                }
            }
            Output::NextHop(NextHopInterest::Track(key)) => {
                let known = self.tracked.insert(key, None);
                assert!(known.is_none(), "{key:?} is asked for twice");
            }
            Output::NextHop(NextHopInterest::Release(key)) => {
                let known = self.tracked.remove(&key);
                assert!(
                    known.is_some(),
                    "{key:?} is released without being asked for"
                );
            }
            Output::Event(event) => self.event(&event),
            Output::Rekey { conn, .. } => {
                self.open_socket(conn, "given a new key");
            }
            Output::Listen => {}
        }
    }

    /// The socket of a connection, which has to be open unless it has just been closed from the outside.
    fn open_socket(&mut self, conn: ConnId, what: &str) -> Option<&mut Socket> {
        let socket = self.sockets.iter_mut().find(|s| s.conn == conn);
        match &socket {
            Some(socket) => assert!(!socket.dialing, "{conn:?} is {what}, but not connected"),
            None => assert!(
                self.gone.contains(&conn),
                "{conn:?} is {what}, but not open"
            ),
        }
        socket
    }

    fn event(&mut self, event: &SpeakerEvent) {
        if self.manner.watched {
            let text = format!("{event:?}");
            let name = text.split([' ', '{']).next().unwrap_or_default();
            self.seen.events.insert(name.to_owned());
        }
        match event {
            SpeakerEvent::SessionUp { peer, .. } => {
                assert!(self.up.insert(*peer), "{peer:?} comes up twice");
            }
            SpeakerEvent::SessionDown { peer, .. } => {
                assert!(self.up.remove(peer), "{peer:?} goes down without being up");
            }
            SpeakerEvent::SelectionResumed { .. } => self.held = false,
            _ => {}
        }
    }
}

impl Socket {
    fn new(conn: ConnId, remote: Remote, path: Path, dialing: bool) -> Self {
        Self {
            conn,
            remote,
            path,
            dialing,
            in_flight: 0,
            listener: None,
            unheard: BytesMut::new(),
            decoder: None,
            input: BytesMut::new(),
            broken: false,
            muddled: false,
        }
    }

    /// What the speaker's decoder knows of the session.
    pub(super) fn is_started(&self) -> bool {
        self.decoder.is_some()
    }

    fn transmitted(&mut self, bytes: &Bytes) {
        self.in_flight += bytes.len();
        match &mut self.listener {
            Some(listener) => listener.hear(bytes),
            None => self.unheard.extend_from_slice(bytes),
        }
        // Nobody needs more of it than an OPEN; a peer that sends its own OPEN late has missed nothing else.
        assert!(
            self.in_flight <= limits::IN_FLIGHT_BYTES + 2 * limits::TRANSMIT_BYTES,
            "{} bytes on their way to a peer that does not read",
            self.in_flight
        );
    }
}

impl Fib {
    /// The contract of [`FibDelta`].
    fn apply(&mut self, generation: u64, delta: FibDelta) {
        assert_eq!(generation, self.handed_over + 1, "generations count up");
        self.handed_over = generation;
        let waiting = self.handed_over - self.programmed;
        assert!(
            waiting <= limits::FIB_DELTAS_IN_FLIGHT,
            "{waiting} changes wait to be programmed"
        );
        assert!(!delta.is_empty(), "a change that changes nothing");
        assert!(delta.routes.len() <= limits::FIB_DELTA_PREFIXES);
        let releases = delta.sets.iter().position(|(_, set)| set.is_none());
        let definitions = releases.unwrap_or(delta.sets.len());
        let mut seen = BTreeSet::new();
        for (id, set) in &delta.sets[..definitions] {
            let set = set.as_ref().expect("a definition");
            assert!(!set.is_empty(), "a set without members");
            let sorted = set
                .windows(2)
                .all(|two| (two[0].addr, two[0].link) < (two[1].addr, two[1].link));
            assert!(sorted, "{set:?} is not sorted or has duplicates");
            assert!(set.iter().all(|hop| hop.weight > 0), "{set:?}");
            self.sets.insert(*id, Arc::clone(set));
        }
        for (prefix, set) in delta.routes {
            assert!(seen.insert(prefix), "{prefix} is there twice");
            match set {
                Some(set) => {
                    assert!(
                        self.sets.contains_key(&set),
                        "{prefix} points at {set:?}, which nobody defined"
                    );
                    self.routes.insert(prefix, set);
                }
                None => {
                    let known = self.routes.remove(&prefix);
                    assert!(known.is_some(), "{prefix} is removed, but was not there");
                }
            }
        }
        for (id, set) in &delta.sets[definitions..] {
            assert!(set.is_none(), "a definition after a release");
            assert!(
                self.routes.values().all(|used| used != id),
                "{id:?} is released in use"
            );
            let known = self.sets.remove(id);
            assert!(known.is_some(), "{id:?} is released, but was not defined");
        }
    }
}
