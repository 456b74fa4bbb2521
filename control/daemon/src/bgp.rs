//! The speaker task: owns the speaker and all its connections.
//!
//! ```text
//!  listener, connects ──┐                                   ┌──▶ sockets (written here, at once)
//!  readers (decode) ────┼─ events ─▶ SpeakerTask ── outputs ┼──▶ forwarding tables
//!  forwarding tables ───┘               ▲                   └──▶ log
//!                          questions ───┘ (API)
//! ```
//!
//! One thread runs everything here. The speaker takes in what is there, gives readers a chance to bring more, and only then
//! answers, so that changes that come together merge and a lone one leaves at once.

mod connection;
mod listener;
mod log;

use core::pin::pin;
use core::time::Duration;
use std::collections::HashMap;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use causeway_bgp::config::{ShutdownMessage, SpeakerConfig};
use causeway_bgp::fib::FibDelta;
use causeway_bgp::rib::{NextHopInterest, NextHopKey};
use causeway_bgp::speaker::{Command, Input, Output, Speaker, SpeakerEvent, inbound_conn};
use causeway_bgp::time::Time;
use causeway_bgp::types::{ConnId, PeerId, Prefix};
use causeway_bgp::wire::{Decoded, Decoder, MessageError};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::record::Recording;
use crate::{host, limits};
use connection::Connection;
use listener::Listeners;
pub(crate) use log::EventLog;

/// Something that happened, for the speaker task.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection that the speaker asked for stands.
    Connected { conn: ConnId, stream: TcpStream },
    /// A connection that the speaker asked for failed.
    ConnectFailed { conn: ConnId, reason: Box<str> },
    /// Somebody connected to us.
    Accepted { stream: TcpStream },
    /// Messages came.
    Received {
        conn: ConnId,
        messages: Vec<Decoded>,
        error: Option<MessageError>,
        /// What they were decoded from, if that is recorded; with an error all that had come.
        bytes: Vec<u8>,
        /// Lets the reader go on once it is dropped.
        permit: OwnedSemaphorePermit,
    },
    /// The peer or the network closed the connection.
    Closed { conn: ConnId, reason: Box<str> },
    /// The socket takes more.
    Writable { conn: ConnId },
    /// The forwarding tables hold everything up to this generation.
    Programmed { generation: u64 },
    /// The forwarding tables could not take these prefixes.
    ProgramFailed { prefixes: Vec<Prefix> },
    /// They could after all, or nobody wants them any more.
    ProgramRecovered { prefixes: Vec<Prefix> },
    /// A next hop can be reached at this cost, or not.
    NextHop {
        key: NextHopKey,
        metric: Option<u32>,
    },
}

impl Event {
    fn messages(&self) -> usize {
        match self {
            Self::Received { messages, .. } => messages.len(),
            _ => 0,
        }
    }
}

/// Where changes of the forwarding tables go.
pub(crate) trait Forwarding: Send {
    /// Whether it takes more at this moment. The speaker waits until then.
    fn ready(&self) -> bool {
        true
    }
    /// Takes a change over. Its completion comes back as [`Event::Programmed`], unless this returns true: it is done. What of
    /// it can't be done comes back before that as [`Event::ProgramFailed`].
    fn apply(&mut self, generation: u64, delta: FibDelta) -> bool;
    /// Begins or ends watching a next hop; changes come back as [`Event::NextHop`].
    fn track(&mut self, interest: NextHopInterest);
    /// The speaker wants all that it will want after a restart: what was there before and isn't wanted may go.
    fn settled(&mut self) {}
}

/// No forwarding tables: everything is done at once.
#[derive(Debug)]
pub(crate) struct NoForwarding;

impl Forwarding for NoForwarding {
    fn apply(&mut self, _: u64, _: FibDelta) -> bool {
        true
    }

    fn track(&mut self, _: NextHopInterest) {}
}

type Question = Box<dyn FnOnce(&mut SpeakerTask) + Send>;

/// Asks the speaker task.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    questions: mpsc::Sender<Question>,
}

impl Handle {
    /// Runs a question on the speaker task. It must be short: at most a page of a listing.
    ///
    /// # Errors
    ///
    /// If the task has ended.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut SpeakerTask) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |task| {
            // Whoever asked may have gone.
            let _ = answer.send(question(task));
        });
        let sent = self.questions.send(question).await;
        sent.ok().context("the speaker has ended")?;
        answered.await.context("the speaker has ended")
    }

    /// Replaces the configuration; `recorded` is its text for a recording.
    ///
    /// # Errors
    ///
    /// If the listening port can't be opened; the old configuration stays in force.
    pub(crate) async fn reconfigure(
        &self,
        config: SpeakerConfig,
        recorded: Option<String>,
        port: u16,
    ) -> Result<()> {
        self.ask(move |task| {
            task.listeners.open(port)?;
            let now = task.now();
            if let (Some(recording), Some(text)) = (&mut task.recording, recorded) {
                recording.configure(now, &text);
            }
            task.input_at(now, Input::Reconfigure(Box::new(config)));
            Ok(())
        })
        .await?
    }

    /// Ends all sessions and the task. With `restart`, peers that agreed to graceful restart keep our routes.
    pub(crate) async fn shutdown(&self, restart: bool) {
        let ended = self
            .ask(move |task| {
                let message = ShutdownMessage::new("");
                task.input(Input::Command(Command::Shutdown { message, restart }));
                task.stopping = true;
            })
            .await;
        if ended.is_ok() {
            self.questions.closed().await;
        }
    }
}

/// See the head of the module.
pub(crate) struct SpeakerTask {
    speaker: Speaker,
    epoch: Instant,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    questions: mpsc::Receiver<Question>,
    connections: HashMap<ConnId, Connection>,
    /// Connections whose last bytes are on their way.
    lingering: JoinSet<()>,
    listeners: Listeners,
    forwarding: Box<dyn Forwarding>,
    log: EventLog,
    accepted: u64,
    /// Connections closed at once, because there were too many.
    turned_away: u64,
    desired: u64,
    programmed: u64,
    /// Route selection resumed after a restart, and its outcome is still on its way to the forwarding tables.
    settling: bool,
    stopping: bool,
    recording: Option<Recording>,
    /// A replay has ended here: time stands still, and nothing happens any more.
    ended: Option<Time>,
}

/// The sender of events, and what receives them, made before the task because others need the sender first.
pub(crate) fn events() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(limits::SPEAKER_EVENTS)
}

/// Starts a speaker that listens on `port` (0: nowhere).
///
/// # Errors
///
/// If the configuration is refused or the port can't be opened.
pub(crate) fn start(
    config: SpeakerConfig,
    port: u16,
    seed: u64,
    (sender, events): (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    forwarding: Box<dyn Forwarding>,
    recording: Option<Recording>,
) -> Result<Handle> {
    let epoch = Instant::now();
    let speaker = Speaker::new(Time::ZERO, config, seed)?;
    let mut listeners = Listeners::new(sender.clone());
    listeners.open(port)?;
    let (ask, questions) = mpsc::channel(limits::SPEAKER_QUESTIONS);
    let task = SpeakerTask {
        speaker,
        epoch,
        events,
        sender,
        questions,
        connections: HashMap::new(),
        lingering: JoinSet::new(),
        listeners,
        forwarding,
        log: EventLog::default(),
        accepted: 0,
        turned_away: 0,
        desired: 0,
        programmed: 0,
        settling: false,
        stopping: false,
        recording,
        ended: None,
    };
    tokio::spawn(task.run());
    Ok(Handle { questions: ask })
}

/// Answers questions about a speaker as a replay left it, with the names of its peers.
pub(crate) fn show(speaker: Speaker, now: Time, log: EventLog) -> Handle {
    let (sender, events) = self::events();
    let (ask, questions) = mpsc::channel(limits::SPEAKER_QUESTIONS);
    let mut task = SpeakerTask {
        speaker,
        epoch: Instant::now(),
        events,
        listeners: Listeners::new(sender.clone()),
        sender,
        questions,
        connections: HashMap::new(),
        lingering: JoinSet::new(),
        forwarding: Box::new(NoForwarding),
        log,
        accepted: 0,
        turned_away: 0,
        desired: 0,
        programmed: 0,
        settling: false,
        stopping: false,
        recording: None,
        ended: Some(now),
    };
    tokio::spawn(async move {
        while let Some(question) = task.questions.recv().await {
            question(&mut task);
        }
    });
    Handle { questions: ask }
}

impl SpeakerTask {
    /// The speaker, for its queries.
    pub(crate) const fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    /// The speaker's time.
    pub(crate) fn now(&self) -> Time {
        match self.ended {
            Some(at) => at,
            None => Time::from_duration(self.epoch.elapsed()),
        }
    }

    /// Whether this is the end of a replay, where nothing happens any more.
    pub(crate) const fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// A command of an operator.
    pub(crate) fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    /// Generations of the forwarding tables: handed over, and done.
    pub(crate) const fn generations(&self) -> (u64, u64) {
        (self.desired, self.programmed)
    }

    /// Connections closed at once since the start, because there were too many.
    pub(crate) const fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// The name of a peer.
    pub(crate) fn peer_name(&self, peer: PeerId) -> String {
        self.log.name(peer)
    }

    async fn run(mut self) {
        let mut batch = Vec::new();
        self.hand_on();
        self.hand_recording_over();
        let mut alarm = pin!(tokio::time::sleep_until(self.deadline()));
        loop {
            if self.stopping && !self.speaker.has_work() {
                break;
            }
            // Timers mostly move on. To wake too early now and then costs less than to set the alarm every time.
            let deadline = self.deadline();
            if alarm.is_elapsed() || deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                _ = self.events.recv_many(&mut batch, limits::EVENTS_PER_ROUND) => {}
                Some(question) = self.questions.recv() => question(&mut self),
                Some(_) = self.lingering.join_next() => {}
                () = &mut alarm => {}
            }
            self.take_in(&mut batch).await;
            let now = self.now();
            if self.speaker.poll_timeout().is_some_and(|at| at <= now) {
                if let Some(recording) = &mut self.recording {
                    recording.timeout(now);
                }
                self.speaker.handle_timeout(now);
            }
            self.hand_on();
            self.hand_recording_over();
        }
        let now = self.now();
        if let Some(recording) = self.recording.take() {
            recording.finish(now);
        }
        self.questions.close();
        let all_sent = async { while self.lingering.join_next().await.is_some() {} };
        // What can't be sent in time is lost; the peer will notice by its hold timer.
        let _ = tokio::time::timeout(limits::SHUTDOWN_TIME, all_sent).await;
    }

    /// When to go on without an event.
    fn deadline(&self) -> Instant {
        if !self.forwarding.ready() {
            return Instant::now() + limits::FABRIC_BUSY;
        }
        if self.speaker.has_work() {
            return Instant::now();
        }
        match self.speaker.poll_timeout() {
            Some(at) => self.epoch + at.since_epoch(),
            None => Instant::now() + Duration::from_secs(3600),
        }
    }

    /// Takes in what is there and, if that is much, what readers bring meanwhile, for a short time.
    async fn take_in(&mut self, batch: &mut Vec<Event>) {
        if batch.is_empty() {
            return;
        }
        let started = Instant::now();
        loop {
            let mut messages = 0;
            for event in batch.drain(..) {
                messages += event.messages();
                self.event(event);
            }
            if messages < limits::FEW_MESSAGES && self.events.is_empty() {
                return;
            }
            // Lets the runtime look at the sockets and run the readers once.
            tokio::task::yield_now().await;
            if started.elapsed() > limits::ROUND_TIME {
                return;
            }
            while batch.len() < limits::EVENTS_PER_ROUND
                && let Ok(event) = self.events.try_recv()
            {
                batch.push(event);
            }
            if batch.is_empty() {
                return;
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.input_at(self.now(), input);
    }

    fn input_at(&mut self, now: Time, input: Input) {
        if let Some(recording) = &mut self.recording {
            recording.input(now, &input);
        }
        self.speaker.handle(now, input);
    }

    fn hand_recording_over(&mut self) {
        let now = self.now();
        if let Some(recording) = &mut self.recording {
            recording.hand_over(now);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected { conn, stream } => self.connected(conn, stream),
            Event::ConnectFailed { conn, reason } => {
                if self.connections.remove(&conn).is_some() {
                    self.input(Input::ConnectFailed { conn, reason });
                }
            }
            Event::Accepted { stream } => self.accept(stream),
            Event::Received {
                conn,
                messages,
                error,
                bytes,
                permit,
            } => {
                if self.connections.contains_key(&conn) {
                    let now = self.now();
                    if let Some(recording) = &mut self.recording {
                        let what = (messages.len(), error.is_some());
                        recording.received(now, conn, what, &bytes);
                    }
                    let input = Input::Received {
                        conn,
                        messages,
                        error,
                    };
                    self.input_at(now, input);
                }
                drop(permit);
            }
            Event::Closed { conn, reason } => {
                if self.connections.remove(&conn).is_some() {
                    self.input(Input::Closed { conn, reason });
                }
            }
            Event::Writable { conn } => self.write(conn, None),
            Event::Programmed { generation } => {
                self.programmed = generation;
                self.input(Input::Programmed { generation });
            }
            Event::ProgramFailed { prefixes } => {
                if let [first, rest @ ..] = &prefixes[..] {
                    let (prefix, more) = (first, rest.len());
                    tracing::warn!(%prefix, more, "not announced: the forwarding tables cannot take it");
                }
                self.input(Input::ProgramFailed { prefixes });
            }
            Event::ProgramRecovered { prefixes } => {
                if let [first, rest @ ..] = &prefixes[..] {
                    let (prefix, more) = (first, rest.len());
                    tracing::info!(%prefix, more, "announced again where it is wanted");
                }
                self.input(Input::ProgramRecovered { prefixes });
            }
            Event::NextHop { key, metric } => self.input(Input::NextHop { key, metric }),
        }
    }

    fn connected(&mut self, conn: ConnId, stream: TcpStream) {
        // The attempt may have been given up meanwhile.
        if !self.connections.contains_key(&conn) {
            return;
        }
        match (stream.local_addr(), stream.peer_addr()) {
            (Ok(local), Ok(remote)) => {
                self.connections
                    .insert(conn, Connection::open(conn, stream));
                self.input(Input::Connected {
                    conn,
                    path: host::path(local, remote),
                });
            }
            (Err(error), _) | (_, Err(error)) => {
                self.connections.remove(&conn);
                let reason = error.to_string().into();
                self.input(Input::ConnectFailed { conn, reason });
            }
        }
    }

    fn accept(&mut self, stream: TcpStream) {
        if self.connections.len() >= limits::CONNECTIONS {
            self.turned_away += 1;
            self.log
                .turned_away(stream.peer_addr().ok(), self.turned_away);
            return;
        }
        // Whoever has gone again before we looked is not worth a word.
        let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else {
            return;
        };
        self.accepted += 1;
        let conn = inbound_conn(self.accepted);
        self.connections
            .insert(conn, Connection::open(conn, stream));
        self.input(Input::Accepted {
            conn,
            path: host::path(local, remote),
        });
    }

    /// Does what the speaker wants, for a short time.
    fn hand_on(&mut self) {
        let started = Instant::now();
        let mut now = self.now();
        while self.forwarding.ready() {
            let output = self.speaker.poll_output(now);
            if let Some(recording) = &mut self.recording {
                recording.polled(now, output.as_ref());
            }
            let Some(output) = output else {
                if core::mem::take(&mut self.settling) {
                    self.forwarding.settled();
                }
                return;
            };
            self.output(output);
            if started.elapsed() > limits::OUTPUT_TIME {
                return;
            }
            now = self.now();
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Connect {
                conn,
                remote,
                local,
                options,
                ..
            } => {
                let connection =
                    Connection::connect(conn, (remote, local), options, self.sender.clone());
                self.connections.insert(conn, connection);
            }
            Output::Start {
                conn,
                open,
                decoder,
                options,
                ..
            } => {
                let sender = self.sender.clone();
                let recorded = self.recording.as_ref().is_some_and(Recording::is_running);
                let decoder = Decoder::new(&open, decoder);
                if let Some(connection) = self.connections.get_mut(&conn)
                    && let Err(error) = connection.start(conn, decoder, &options, sender, recorded)
                {
                    self.connections.remove(&conn);
                    let reason = error.to_string().into();
                    self.input(Input::Closed { conn, reason });
                }
            }
            Output::Transmit { conn, bytes } => self.write(conn, Some(bytes)),
            Output::Close { conn, abort } => {
                if let Some(connection) = self.connections.remove(&conn) {
                    let crowded = self.lingering.len() >= limits::LINGERING;
                    connection.close(abort || crowded, &mut self.lingering);
                }
            }
            Output::Rekey { conn, md5 } => {
                if let Some(connection) = self.connections.get(&conn)
                    && let Err(error) = connection.rekey(md5.as_ref())
                {
                    tracing::error!(%error, "the TCP MD5 key of a session could not be changed");
                }
            }
            Output::Listen => self.listeners.set_keys(&self.speaker.listen()),
            Output::Fib { generation, delta } => {
                self.desired = generation;
                if self.forwarding.apply(generation, delta) {
                    self.programmed = generation;
                    self.input(Input::Programmed { generation });
                }
            }
            Output::NextHop(interest) => self.forwarding.track(interest),
            Output::Event(event) => {
                self.settling |= matches!(event, SpeakerEvent::SelectionResumed { .. });
                self.log.write(&event);
            }
        }
    }

    /// Writes what the connection holds back, and then `bytes`, as far as the socket takes them.
    fn write(&mut self, conn: ConnId, bytes: Option<Bytes>) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        match connection.write(conn, bytes, &self.sender) {
            Ok(0) => {}
            Ok(bytes) => self.input(Input::Transmitted { conn, bytes }),
            // A reader sees the same end, but only after what the peer sent before it, such as a NOTIFICATION.
            Err(error) => tracing::debug!(?conn, %error, "cannot write"),
        }
    }
}
