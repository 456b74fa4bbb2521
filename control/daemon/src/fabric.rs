//! The fabric thread: what the kernel knows of the network, and the maps that forward packets.
//!
//! ```text
//!  netlink ──facts──▶ Network ──ports, next hops, local prefixes──▶ Planner ──batches──▶ Datapath (maps, XDP)
//!                        │                                             ▲                     │
//!                        └── next-hop metrics ──▶ speaker ── deltas ───┘◀──── refusals ──────┘
//! ```
//!
//! A thread of its own with a runtime of its own, because writing a full table takes the kernel a second, and sessions must
//! not wait for it. It alone owns the maps.

mod attach;
mod backoff;
mod explain;
mod kernel;
mod liveness;
mod maps;
mod view;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow, bail};
use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::rib::{NextHopInterest, NextHopKey as BgpNextHop};
use causeway_bgp::types::Prefix;
use causeway_config::{Generation, NodeSettings};
use causeway_datapath::{Datapath, LoadOptions, OBJECT};
use causeway_maps::{Config, PodRange4, PodRange6, config_flags};
use causeway_net::{
    Fact, Hop, Limits, NamePattern, Network, NetworkConfig, NextHopKey, PortRole, PortRule, Probe,
    Resolution, SetId, Subnet,
};
use causeway_netlink::{
    Event as NetlinkEvent, Monitor, MonitorConfig, Neighbours, RouteEvent, RouteEvents,
};
use causeway_plan::{Failure, Interest, Key, Planner, Refusals};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::bgp::{Event, Forwarding};
use crate::limits;
use attach::Uplinks;
use backoff::Backoff;
pub(crate) use explain::{FlowKey, KernelSays, Question, Unanswered};
use kernel::Kernel;
use liveness::Liveness;

/// What to run on.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Directory of the pins.
    pub(crate) bpffs: std::path::PathBuf,
    /// Name of the node, which seeds the flow hash.
    pub(crate) node_name: String,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    node: NodeSettings,
    /// Ranges that this node originates: what is not on it ends here.
    owned: Vec<Subnet>,
}

impl From<&Generation> for Settings {
    fn from(generation: &Generation) -> Self {
        let originated = generation.instance.iter().flat_map(|i| &i.originated);
        Self {
            node: generation.node.clone(),
            owned: originated
                .filter_map(|cidr| Subnet::new(cidr.addr(), cidr.prefix_len()))
                .collect(),
        }
    }
}

impl Settings {
    /// These, with the other's ranges beside its own.
    pub(crate) fn owning_too(&self, other: &Self) -> Self {
        let mut both = self.clone();
        let more = other.owned.iter();
        both.owned
            .extend(more.filter(|range| !self.owned.contains(range)));
        both
    }
}

/// Asks the fabric thread, and hands changes over to it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
}

enum Command {
    /// From the speaker.
    Fib { generation: u64, delta: FibDelta },
    /// From the speaker.
    Track(NextHopInterest),
    /// The speaker wants everything that it will want: what an earlier daemon left goes.
    Settled,
    /// A new configuration.
    Configure(Box<Settings>),
    /// From the API.
    Ask(Box<dyn FnOnce(&Fabric) + Send>),
    /// The end.
    Stop,
}

/// What [`start`] found.
pub(crate) struct Started {
    pub(crate) handle: Handle,
    pub(crate) thread: JoinHandle<()>,
    /// The maps hold routes of an earlier daemon.
    pub(crate) inherited: bool,
}

/// Loads the programs and starts the thread.
///
/// # Errors
///
/// If the kernel can't, or another daemon has the pins.
pub(crate) fn start(
    options: Options,
    settings: Settings,
    events: mpsc::Sender<Event>,
    addresses_changed: mpsc::Sender<()>,
) -> Result<Started> {
    let (commands, receiver) = mpsc::channel(limits::FABRIC_COMMANDS);
    let (say, said) = std_mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name("fabric".to_owned())
        .spawn(move || {
            let to = Listeners {
                events,
                addresses_changed,
            };
            run(&options, &settings, to, receiver, &say);
        })
        .context("cannot start a thread")?;
    let inherited = said
        .recv()
        .unwrap_or_else(|_| Err(anyhow!("the fabric thread ended")))?;
    Ok(Started {
        handle: Handle { commands },
        thread,
        inherited,
    })
}

impl Handle {
    /// The speaker's way to the maps.
    pub(crate) fn forwarding(&self) -> Box<dyn Forwarding> {
        Box::new(Maps {
            commands: self.commands.clone(),
        })
    }

    /// Puts new settings in force.
    pub(crate) async fn configure(&self, settings: Settings) {
        // The thread ends only when told to or when it can't go on, and then has said so in the log.
        let command = Command::Configure(Box::new(settings));
        let _ = self.commands.send(command).await;
    }

    /// Waits until what was handed over before has been taken in, and a batch of it written.
    pub(crate) async fn written(&self) {
        for _ in 0..2 {
            // Between two questions lies a round of writes. One that has ended has said so in the log.
            let _ = self.ask(|_| ()).await;
        }
    }

    /// What an earlier daemon left in the maps and nobody wants goes.
    pub(crate) async fn settled(&self) {
        let _ = self.commands.send(Command::Settled).await;
    }

    /// Ends the thread. Maps and programs stay at work.
    pub(crate) async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }

    /// Runs a question on the fabric thread.
    ///
    /// # Errors
    ///
    /// If the thread has ended.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Fabric) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let question = Box::new(move |fabric: &Fabric| {
            // Whoever asked may have gone.
            let _ = answer.send(question(fabric));
        });
        let sent = self.commands.send(Command::Ask(question)).await;
        sent.ok().context("the dataplane has ended; see the log")?;
        answered
            .await
            .context("the dataplane has ended; see the log")
    }
}

struct Maps {
    commands: mpsc::Sender<Command>,
}

impl Maps {
    fn send(&self, command: Command) {
        // There is room: the speaker asks before. A thread that has ended has said so in the log.
        let _ = self.commands.try_send(command);
    }
}

impl Forwarding for Maps {
    fn ready(&self) -> bool {
        // One output may be many commands: a question of the API may take a place meanwhile.
        self.commands.is_closed() || self.commands.capacity() > limits::FABRIC_COMMANDS / 2
    }

    fn apply(&mut self, generation: u64, delta: FibDelta) -> bool {
        self.send(Command::Fib { generation, delta });
        false
    }

    fn track(&mut self, interest: NextHopInterest) {
        self.send(Command::Track(interest));
    }

    fn settled(&mut self) {
        self.send(Command::Settled);
    }
}

/// See the head of the module.
pub(crate) struct Fabric {
    network: Network,
    planner: Planner,
    datapath: Datapath,
    kernel: Kernel,
    uplinks: Uplinks,
    liveness: Liveness,
    /// The speaker has said everything that it wants since the start.
    said: bool,
    /// The kernel's routes have been read: some of them lead to pods.
    listed: bool,
    /// There is a speaker, which takes what it is told; else that waits, and must not fill the queue.
    speaking: bool,
    /// Entries of maps that were put right.
    repaired: u64,
    /// When to try again what the kernel refused.
    backoff: Backoff,
    to: Listeners,
    /// Own addresses as last seen.
    addresses: BTreeSet<IpAddr>,
    /// What went wrong last, until it goes right.
    error: Option<String>,
}

/// Who is told what.
struct Listeners {
    /// The speaker: next hops, and what is programmed.
    events: mpsc::Sender<Event>,
    /// The application: own addresses are part of the speaker's configuration.
    addresses_changed: mpsc::Sender<()>,
}

fn run(
    options: &Options,
    settings: &Settings,
    to: Listeners,
    commands: mpsc::Receiver<Command>,
    say: &std_mpsc::SyncSender<Result<bool>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = say.send(Err(error.into()));
            return;
        }
    };
    runtime.block_on(async {
        match begin(options, settings, to).await {
            Ok(Begun {
                fabric,
                sockets,
                inherited,
            }) => {
                // Whoever waited for this has ended if it doesn't listen.
                let _ = say.send(Ok(inherited));
                fabric.run(options, sockets, commands).await;
            }
            Err(error) => {
                let _ = say.send(Err(error));
            }
        }
    });
}

struct Begun {
    fabric: Fabric,
    sockets: Sockets,
    inherited: bool,
}

/// To the kernel.
struct Sockets {
    monitor: Monitor,
    neighbours: Neighbours,
    routes: RouteEvents,
}

/// Loads, and attaches to the uplinks that are there: one that can't be attached to is a reason not to start.
async fn begin(options: &Options, settings: &Settings, to: Listeners) -> Result<Begun> {
    let (kernel, routes) = Kernel::open()?;
    let (mut fabric, inherited) = Fabric::open(options, settings, kernel, to)?;
    let mut sockets = Sockets {
        monitor: Monitor::open(MonitorConfig::default())?,
        neighbours: Neighbours::open()?,
        routes,
    };
    if let NetlinkEvent::Snapshot(facts) = sockets.monitor.next().await? {
        fabric.note_deaths(&facts);
        fabric.network.snapshot(facts);
    }
    fabric.take_over()?;
    while fabric.settle(&mut sockets).await {}
    fabric.watch(&mut sockets.monitor);
    fabric.note_addresses();
    Ok(Begun {
        fabric,
        sockets,
        inherited,
    })
}

impl Fabric {
    fn open(
        options: &Options,
        settings: &Settings,
        kernel: Kernel,
        to: Listeners,
    ) -> Result<(Self, bool)> {
        let datapath = Datapath::load(&LoadOptions {
            pin_dir: options.bpffs.clone(),
            object: OBJECT.into(),
        })?;
        for map in datapath.recreated() {
            let reason = &map.reason;
            match map.migrated {
                Some(entries) => {
                    tracing::info!(map = map.map, reason, entries, "a pinned map was converted");
                }
                None => tracing::warn!(map = map.map, reason, "a pinned map was made anew"),
            }
        }
        if datapath.incomplete() {
            tracing::warn!(
                "the programs of an earlier version forward on until the new maps are complete"
            );
        }
        let mut planner = Planner::new(causeway_plan::Capacities::default());
        let dump = datapath.dump()?;
        let inherited =
            !dump.routes4.is_empty() || !dump.routes6.is_empty() || datapath.incomplete();
        planner.restore(dump);
        let liveness = Liveness::open(&datapath)?;
        let mut fabric = Self {
            network: Network::new(NetworkConfig::default()),
            planner,
            datapath,
            kernel,
            uplinks: Uplinks::default(),
            liveness,
            said: false,
            listed: false,
            speaking: false,
            repaired: 0,
            backoff: Backoff::default(),
            to,
            addresses: BTreeSet::new(),
            error: None,
        };
        fabric.configure(options, settings);
        Ok((fabric, inherited))
    }

    fn configure(&mut self, options: &Options, settings: &Settings) {
        let Settings {
            node: settings,
            owned,
        } = settings;
        self.kernel.configure(settings.kernel_routes, owned);
        let ranges = owned.iter();
        self.planner
            .set_owned(ranges.filter_map(|range| Prefix::new(range.addr(), range.len())));
        // Checked with the configuration.
        let rule = |name: &str, role| {
            let pattern = NamePattern::new(name).ok()?;
            Some(PortRule { pattern, role })
        };
        let uplinks = settings.uplinks.iter();
        let pods = settings.pod_interface_prefix.iter();
        self.network.configure(NetworkConfig {
            ports: uplinks
                .filter_map(|name| rule(name, PortRole::Uplink))
                .chain(pods.filter_map(|prefix| rule(&format!("{prefix}*"), PortRole::Pod)))
                .collect(),
            resolve_via_default: settings.resolve_next_hops_via_default,
            limits: Limits::default(),
        });
        self.uplinks.set_mode(settings.xdp_mode);
        let most = settings.max_routes;
        self.planner
            .set_route_limits(most.ipv4.unwrap_or(u32::MAX), most.ipv6.unwrap_or(u32::MAX));
        let (mut pods4, mut pods6) = (None, None);
        for range in &settings.pod_cidrs {
            let (len, block) = (range.cidr.prefix_len(), range.node_mask_size);
            match range.cidr.addr() {
                IpAddr::V4(base) => pods4 = PodRange4::new(base.octets(), len, block),
                IpAddr::V6(base) => pods6 = PodRange6::new(base.octets(), len, block),
            }
        }
        let transit = settings.role == causeway_api::node::Role::Transit;
        self.planner.set_config(Config {
            flags: if transit { config_flags::TRANSIT } else { 0 },
            hash_seed: settings
                .hash_seed
                .unwrap_or_else(|| seed(&options.node_name)),
            pods4: pods4.unwrap_or(PodRange4::NONE),
            pods6: pods6.unwrap_or(PodRange6::NONE),
        });
    }

    async fn run(
        mut self,
        options: &Options,
        mut sockets: Sockets,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let mut slow = tokio::time::interval(limits::FABRIC_RETRY);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut busy, mut stopping) = (true, false);
        let mut not_before = Instant::now();
        let mut ticks = 0_u32;
        loop {
            // Links first: nothing else may keep a loss waiting.
            tokio::select! {
                biased;
                event = next(&mut sockets.monitor, not_before) => match event {
                    Ok(NetlinkEvent::Snapshot(facts)) => {
                        self.note_deaths(&facts);
                        self.network.snapshot(facts);
                    }
                    Ok(NetlinkEvent::Changes(facts)) => {
                        // Before anything else: this alone moves the flows of a lost link, however many routes use it.
                        self.note_deaths(&facts);
                        for fact in facts {
                            self.network.apply(fact);
                        }
                    }
                    Err(error) => {
                        self.fail(format!("netlink: {error}"));
                        not_before = Instant::now() + limits::FABRIC_RETRY;
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Stop) | None => return,
                    Some(command) => {
                        self.command(options, command);
                        stopping = self.more(options, &mut commands);
                    }
                },
                event = sockets.routes.next() => match event {
                    Ok(event) => {
                        kernel::found(&mut self.network, &event);
                        self.kernel.found(&event);
                        if !self.listed && matches!(event, RouteEvent::ListingEnds) {
                            self.listed = true;
                            self.prune();
                        }
                    }
                    Err(error) => self.kernel.failed(&error),
                },
                _ = slow.tick() => {
                    self.network.probe_again();
                    if self.backoff.due(self.planner.summary().failed > 0) {
                        self.planner.retry();
                    }
                    self.uplinks.retry();
                    self.kernel.tick();
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(limits::FABRIC_VERIFY_TICKS) {
                        self.repair();
                    }
                }
                () = core::future::ready(()), if busy => {}
            }
            busy = self.settle(&mut sockets).await;
            if stopping {
                return;
            }
            if self.note_addresses() {
                // One that waits serves this change too.
                let _ = self.to.addresses_changed.try_send(());
            }
            self.watch(&mut sockets.monitor);
        }
    }

    /// The links whose loss must be seen at once.
    fn watch(&self, monitor: &mut Monitor) {
        let uplinks = self
            .network
            .ports()
            .filter(|(_, port)| port.role == PortRole::Uplink);
        monitor.watch(uplinks.map(|(ifindex, _)| ifindex));
    }

    /// Takes in what else waits for a moment, so that one round of writes serves all. Returns whether it ends after that;
    /// what is said behind the end is not listened to.
    fn more(&mut self, options: &Options, commands: &mut mpsc::Receiver<Command>) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < limits::FABRIC_ROUND_TIME {
            match commands.try_recv() {
                Ok(Command::Stop) => return true,
                Ok(command) => self.command(options, command),
                Err(_) => return false,
            }
        }
        false
    }

    fn command(&mut self, options: &Options, command: Command) {
        self.speaking |= matches!(command, Command::Fib { .. } | Command::Track(_));
        match command {
            Command::Fib { generation, delta } => self.apply_fib(generation, delta),
            Command::Track(NextHopInterest::Track(key)) => self.network.track(from_bgp(key)),
            Command::Track(NextHopInterest::Release(key)) => self.network.release(from_bgp(key)),
            Command::Settled => {
                self.said = true;
                self.prune();
            }
            Command::Configure(settings) => self.configure(options, &settings),
            Command::Ask(question) => question(self),
            Command::Stop => {}
        }
    }

    /// What an earlier daemon left and nobody wants goes, once everything wanted is known.
    fn prune(&mut self) {
        if self.said && self.listed {
            self.exchange();
            self.planner.prune();
            self.kernel.table().prune();
        }
    }

    /// BGP's changes, with next hops replaced by what leads to them.
    fn apply_fib(&mut self, generation: u64, mut delta: FibDelta) {
        for (set, members) in &mut delta.sets {
            let hops = members
                .as_ref()
                .map(|members| members.iter().map(hop).collect());
            if hops.is_some()
                && let Some(flat) = self.network.define(SetId(set.0), hops)
            {
                *members = Some(flat.iter().map(member).collect());
            }
        }
        for (prefix, set) in &delta.routes {
            if let Some(subnet) = Subnet::new(prefix.addr(), prefix.len()) {
                self.network.route(subnet, set.map(|set| SetId(set.0)));
            }
        }
        for (set, members) in &delta.sets {
            if members.is_none() {
                self.network.define(SetId(set.0), None);
            }
        }
        self.kernel.apply_fib(&delta);
        self.planner.apply_fib(generation, delta);
    }

    /// Puts the programs in the place of those of an earlier version, before the first write: what is written from here on
    /// is in maps that those do not read. Killed at any moment before, this process leaves nothing that its successor
    /// would not find as it was.
    ///
    /// # Errors
    ///
    /// If a program can't be attached to an uplink that is there.
    fn take_over(&mut self) -> Result<()> {
        self.exchange();
        self.uplinks.attach(&mut self.datapath);
        if let Some(error) = self.uplinks.error() {
            bail!("{error}");
        }
        Ok(self.datapath.commit()?)
    }

    /// Carries changes through to the maps and to the speaker. Returns whether there is more to write: a batch at a time,
    /// so that a link that fails doesn't wait for a table that loads.
    async fn settle(&mut self, sockets: &mut Sockets) -> bool {
        self.exchange();
        while let Some(probe) = self.network.poll_probe() {
            let Probe { ifindex, addr } = probe;
            if let Err(error) = sockets.neighbours.keep_resolved(ifindex, addr).await {
                tracing::debug!(%error, "a neighbour cannot be resolved now");
            }
        }
        while let Some(Probe { ifindex, addr }) = self.network.poll_release() {
            if let Err(error) = sockets.neighbours.release(ifindex, addr).await {
                tracing::debug!(%error, "a neighbour cannot be released");
            }
        }
        self.uplinks.attach(&mut self.datapath);
        let more = self.write();
        if !more {
            self.complete();
        }
        while let Some(fact) = self.network.poll_next_hop() {
            let key = BgpNextHop {
                addr: fact.key.addr,
                link: fact.key.link,
            };
            let metric = fact.metric;
            if metric.is_none() {
                let reason = self.network.resolve(fact.key);
                if let Resolution::Unusable(reason) = reason {
                    tracing::info!(next_hop = %fact.key.addr, %reason, "a next hop is unusable");
                }
            }
            self.tell(Event::NextHop { key, metric }).await;
        }
        // First what is missing: who waits for the generation must not announce it.
        while (self.speaking || self.to.events.capacity() > 2)
            && let Some(Refusals { failed, recovered }) =
                self.planner.poll_refusals(limits::PREFIXES_PER_EVENT)
        {
            if !failed.is_empty() {
                self.tell(Event::ProgramFailed { prefixes: failed }).await;
            }
            if !recovered.is_empty() {
                let prefixes = recovered;
                self.tell(Event::ProgramRecovered { prefixes }).await;
            }
        }
        if let Some(generation) = self.planner.poll_programmed() {
            self.tell(Event::Programmed { generation }).await;
        }
        // The maps come first.
        more || self.kernel.write(&mut sockets.routes).await
    }

    /// Tells facts to the planner and its interest to the network, until neither has news.
    fn exchange(&mut self) {
        loop {
            self.network.update();
            while let Some((set, flat)) = self.network.poll_set() {
                let members = flat.iter().map(member).collect();
                self.planner.redefine(NextHopSetId(set.0), &members);
                self.kernel.table().define(set, Some(flat));
            }
            while let Some(delta) = self.network.poll_delta() {
                for (ifindex, port) in &delta.ports {
                    self.uplinks
                        .changed(&mut self.datapath, *ifindex, port.as_ref());
                }
                self.kernel.apply_net(&delta);
                self.planner.apply_net(delta);
            }
            let mut interested = false;
            while let Some(interest) = self.planner.poll_interest() {
                interested = true;
                match interest {
                    Interest::Track(key) => self.network.track(key),
                    Interest::Release(key) => self.network.release(key),
                }
            }
            if !interested {
                break;
            }
        }
    }

    /// All is written that is wanted now.
    fn complete(&mut self) {
        if self.said && self.listed && self.datapath.incomplete() {
            self.datapath.completed();
            self.uplinks.retry();
            self.uplinks.attach(&mut self.datapath);
        }
        if let Err(error) = self.datapath.commit() {
            self.fail(error.to_string());
        }
        if let Err(error) = self.liveness.revive(&self.datapath, &self.planner) {
            self.fail(error.to_string());
        }
    }

    fn note_deaths(&mut self, facts: &[Fact]) {
        if let Err(error) = self.liveness.note(&self.datapath, &self.planner, facts) {
            self.fail(error.to_string());
        }
    }

    /// Writes one batch, if there is one.
    fn write(&mut self) -> bool {
        let Some(batch) = self.planner.poll_batch(limits::FABRIC_BATCH_OPS) else {
            return false;
        };
        let mut failures = Vec::new();
        for op in &batch.ops {
            let alive = self.liveness.before(&self.datapath, op);
            if let Err(error) = alive.and_then(|()| self.datapath.apply(op)) {
                self.fail(error.to_string());
                failures.extend(error.failures.iter().filter_map(|failure| {
                    Some(Failure {
                        key: Key::from_map(error.map, &failure.key)?,
                        error: failure.error.to_string().into(),
                    })
                }));
            }
        }
        if failures.is_empty() && self.planner.summary().failed == 0 {
            self.error = None;
        }
        self.planner.ack(batch.generation, failures);
        true
    }

    /// Notes own addresses. Returns whether they are others than before.
    fn note_addresses(&mut self) -> bool {
        let now: BTreeSet<_> = self
            .network
            .addresses()
            .map(|address| address.addr)
            .collect();
        let changed = now != self.addresses;
        self.addresses = now;
        changed
    }

    fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::error!(%error, "the dataplane is not as it should be");
        }
        self.error = Some(error);
    }

    async fn tell(&self, event: Event) {
        // The speaker may have ended; then there is nobody to tell.
        let _ = self.to.events.send(event).await;
    }
}

async fn next(
    monitor: &mut Monitor,
    from: Instant,
) -> Result<NetlinkEvent, causeway_netlink::Error> {
    tokio::time::sleep_until(from).await;
    monitor.next().await
}

fn hop(member: &FibNextHop) -> Hop {
    Hop {
        key: NextHopKey {
            addr: member.addr,
            link: member.link,
        },
        weight: member.weight,
    }
}

fn member(hop: &Hop) -> FibNextHop {
    FibNextHop {
        addr: hop.key.addr,
        link: hop.key.link,
        weight: hop.weight,
    }
}

fn from_bgp(key: BgpNextHop) -> NextHopKey {
    NextHopKey {
        addr: key.addr,
        link: key.link,
    }
}

/// FNV-1a of the name: the same at every start, different on every node.
fn seed(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Time for which an earlier daemon's routes are kept while peers come back (RFC 4724 4.1).
pub(crate) const RESTART_TIME: Duration = Duration::from_secs(120);
