//! The parts put together: configuration → speaker → API, until a signal.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use causeway_api::view::Diagnostic;
use causeway_bgp::time::Time;
use causeway_config::Generation;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::args::{Args, Dataplane};
use crate::bgp::{self, Event, Forwarding, Handle, NoForwarding};
use crate::lower::recorded::{self, Keys};
use crate::lower::{self, Surroundings};
use crate::record::{self, Recording};
use crate::{api, fabric, host, reload};

/// What the API shows beside the speaker.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) node_name: Arc<str>,
    pub(crate) started: Instant,
    pub(crate) config: Arc<Mutex<ConfigState>>,
    pub(crate) speaker: Arc<Mutex<Option<Handle>>>,
    /// The dataplane, if there is one.
    pub(crate) fabric: Option<fabric::Handle>,
    /// The recording, if one is written.
    pub(crate) recording: Arc<Mutex<Option<Arc<record::Progress>>>>,
}

/// The configuration in force, and what was refused since.
#[derive(Debug)]
pub(crate) struct ConfigState {
    pub(crate) directory: String,
    pub(crate) generation: u64,
    pub(crate) accepted: Instant,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) in_force: Generation,
}

impl Shared {
    /// The speaker, if one is configured.
    pub(crate) fn speaker(&self) -> Option<Handle> {
        lock(&self.speaker).clone()
    }
}

/// Locks; what a thread that panicked left behind is as good as it was.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
///
/// One sentence on why it can't start.
pub(crate) async fn run(args: &Args) -> Result<()> {
    host::raise_limits();
    let mut signals = Signals::new()?;
    let node_name = match &args.node_name {
        Some(name) => name.clone(),
        None => host::name().context("this host has no name; set --node-name")?,
    };
    let generation = match causeway_config::load(&args.config, &node_name) {
        Ok(generation) => generation,
        Err(errors) => bail!("the configuration is refused:\n{}", reload::listed(&errors)),
    };
    let (sender, events) = bgp::events();
    let (say_changed, mut addresses_changed) = mpsc::channel(1);
    let settings = fabric::Settings::from(&generation);
    let dataplane = match args.dataplane {
        Dataplane::None => None,
        Dataplane::Xdp => {
            let options = fabric::Options {
                bpffs: args.bpffs.clone(),
                node_name: node_name.clone(),
            };
            Some(fabric::start(
                options,
                settings.clone(),
                sender.clone(),
                say_changed,
            )?)
        }
    };
    let mut app = App {
        args,
        channel: Some((sender, events)),
        router_id: None,
        parked: None,
        settings,
        keys: Keys::default(),
        inherited: dataplane.as_ref().is_some_and(|started| started.inherited),
        shared: Shared {
            node_name: node_name.into(),
            started: Instant::now(),
            config: Arc::new(Mutex::new(ConfigState {
                directory: args.config.display().to_string(),
                generation: 1,
                accepted: Instant::now(),
                errors: Vec::new(),
                in_force: Generation::default(),
            })),
            speaker: Arc::default(),
            fabric: dataplane.as_ref().map(|started| started.handle.clone()),
            recording: Arc::default(),
        },
    };
    app.apply(&generation).await?;
    lock(&app.shared.config).in_force = generation;
    let socket = api::listen(&args.run_dir)?;
    let metrics = match args.metrics {
        Some(address) => Some(api::listen_metrics(address).await?),
        None => None,
    };
    tokio::spawn(api::serve(socket, app.shared.clone()));
    if let Some(metrics) = metrics {
        tokio::spawn(api::serve_metrics(metrics, app.shared.clone()));
    }
    let mut changes = reload::watch(&args.config)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = &*app.shared.node_name,
        config = %args.config.display(),
        dataplane = ?args.dataplane,
        "started"
    );
    loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::Stop(signal) => {
                    tracing::info!(signal, "stopping");
                    app.stop().await;
                    if let Some(started) = dataplane {
                        // It has been told to end; what it is writing it finishes.
                        let _ = started.thread.join();
                    }
                    return Ok(());
                }
                Wish::Reload => app.reload().await,
            },
            Some(()) = changes.recv() => app.reload().await,
            Some(()) = addresses_changed.recv() => app.apply_again().await,
        }
    }
}

struct App<'a> {
    args: &'a Args,
    /// Events of the first speaker, which the dataplane knows too.
    channel: Option<(mpsc::Sender<Event>, mpsc::Receiver<Event>)>,
    /// The maps hold routes of an earlier daemon.
    inherited: bool,
    /// What the dataplane does.
    settings: fabric::Settings,
    /// The router id for configurations that set none.
    router_id: Option<core::net::Ipv4Addr>,
    /// The speaker of an instance that was removed.
    parked: Option<Handle>,
    /// Keys that stand for others in a recording.
    keys: Keys,
    shared: Shared,
}

impl App<'_> {
    /// Reads the directory anew and puts it in force, or keeps what is.
    async fn reload(&mut self) {
        let (dir, node) = (self.args.config.clone(), self.shared.node_name.clone());
        let loaded = tokio::task::spawn_blocking(move || causeway_config::load(&dir, &node)).await;
        let errors = match loaded {
            Ok(Ok(generation)) => match self.apply(&generation).await {
                Ok(()) => {
                    self.accepted(generation);
                    return;
                }
                Err(error) => vec![reload::refused(&self.args.config, &error)],
            },
            Ok(Err(errors)) => errors,
            Err(error) => vec![reload::refused(&self.args.config, &error.into())],
        };
        tracing::error!(
            "the new configuration is refused and the one in force kept:\n{}",
            reload::listed(&errors)
        );
        lock(&self.shared.config).errors = errors;
    }

    /// Puts the configuration in force anew, because facts of the host have changed that are part of it.
    async fn apply_again(&mut self) {
        let generation = lock(&self.shared.config).in_force.clone();
        if let Err(error) = self.apply(&generation).await {
            tracing::error!(
                error = format!("{error:#}"),
                "changed addresses are not taken into account"
            );
        }
    }

    fn accepted(&mut self, generation: Generation) {
        let mut state = lock(&self.shared.config);
        state.errors.clear();
        if state.in_force == generation {
            return;
        }
        state.generation += 1;
        state.accepted = Instant::now();
        state.in_force = generation;
        tracing::info!(generation = state.generation, "configuration in force");
    }

    /// Puts a configuration in force.
    async fn apply(&mut self, generation: &Generation) -> Result<()> {
        let Some(fabric) = self.shared.fabric.clone() else {
            return self.apply_bgp(generation).await;
        };
        // What ends a prefix here stands in the maps before it is originated, and goes after it is withdrawn.
        let wanted = fabric::Settings::from(generation);
        let meanwhile = self.settings.owning_too(&wanted);
        if meanwhile != self.settings {
            fabric.configure(meanwhile).await;
            fabric.written().await;
        }
        let applied = self.apply_bgp(generation).await;
        if applied.is_ok() {
            self.settings = wanted;
        }
        fabric.configure(self.settings.clone()).await;
        applied
    }

    async fn apply_bgp(&mut self, generation: &Generation) -> Result<()> {
        let addresses = host::addresses();
        self.router_id = self.router_id.or_else(|| lower::router_id(&addresses));
        let interfaces = generation
            .instance
            .iter()
            .flat_map(|instance| instance.peers.iter().filter_map(|p| p.interface.clone()))
            .filter_map(|name| Some((host::interface_index(&name).ok()?, name)))
            .map(|(index, name)| (name, index))
            .collect();
        let around = Surroundings {
            hostname: host::name(),
            interfaces,
            addresses,
            router_id: self.router_id,
            assume_reachable: self.args.dataplane == Dataplane::None,
            restarting: self.inherited.then_some(fabric::RESTART_TIME),
        };
        let Some(instance) = &generation.instance else {
            if self.shared.speaker().is_some() {
                return self.park(&around).await;
            }
            if let (Some(fabric), None) = (&self.shared.fabric, &self.parked) {
                fabric.settled().await;
            }
            return Ok(());
        };
        let config = lower::speaker(instance, &around)?;
        config.validate()?;
        let port = instance.spec.local_port.unwrap_or(BGP_PORT);
        let text = self.recorded(generation, &around, false)?;
        if let Some(speaker) = self.parked.clone().or_else(|| self.shared.speaker()) {
            speaker.reconfigure(config, text, port).await?;
            self.parked = None;
            *lock(&self.shared.speaker) = Some(speaker);
            return Ok(());
        }
        let channel = self.channel.take().unwrap_or_else(bgp::events);
        let forwarding: Box<dyn Forwarding> = match &self.shared.fabric {
            Some(fabric) => fabric.forwarding(),
            None => Box::new(NoForwarding),
        };
        let seed = RandomState::new().hash_one(&*self.shared.node_name);
        let mut recording = None;
        if let (Some(file), Some(text)) = (&self.args.record, text) {
            let limit = self.args.record_limit << 20;
            if text.len() as u64 > limit {
                bail!("the configuration alone is larger than --record-limit; raise it");
            }
            let node_name = &self.shared.node_name;
            let (mut new, progress) = Recording::create(file, limit, seed, node_name)?;
            new.configure(Time::ZERO, &text);
            recording = Some(new);
            *lock(&self.shared.recording) = Some(progress);
        }
        let speaker = bgp::start(config, port, seed, channel, forwarding, recording)?;
        *lock(&self.shared.speaker) = Some(speaker);
        Ok(())
    }

    /// The text of a configuration, if what happens is recorded.
    fn recorded(
        &mut self,
        generation: &Generation,
        around: &Surroundings,
        parked: bool,
    ) -> Result<Option<String>> {
        if self.args.record.is_none() {
            return Ok(None);
        }
        let node_name = &self.shared.node_name;
        recorded::write((generation, parked), node_name, around, &mut self.keys).map(Some)
    }

    /// The node has no instance any more: ends all sessions with Cease, Peer De-configured (RFC 4486), listens no longer and
    /// withdraws what was learned from the forwarding tables. The speaker waits for another instance.
    async fn park(&mut self, around: &Surroundings) -> Result<()> {
        let in_force = lock(&self.shared.config).in_force.clone();
        let (Some(instance), Some(speaker)) = (&in_force.instance, self.shared.speaker()) else {
            return Ok(());
        };
        let config = lower::parked(instance, around)?;
        let text = self.recorded(&in_force, around, true)?;
        speaker.reconfigure(config, text, NOWHERE).await?;
        *lock(&self.shared.speaker) = None;
        self.parked = Some(speaker);
        tracing::info!("no BGP instance is configured any more; all sessions end");
        Ok(())
    }

    /// Ends all sessions: with graceful restart where any peer may have agreed to it, as the maps stay and forward on.
    async fn stop(&self) {
        let restart = lock(&self.shared.config)
            .in_force
            .instance
            .as_ref()
            .is_some_and(|instance| {
                instance.peers.iter().any(|peer| {
                    peer.template
                        .spec
                        .graceful_restart
                        .as_ref()
                        .is_some_and(|restart| restart.enabled)
                })
            });
        let speaker = self.parked.clone().or_else(|| self.shared.speaker());
        let speaker_stops = async {
            if let Some(speaker) = speaker {
                speaker.shutdown(restart).await;
            }
        };
        let fabric_stops = async {
            if let Some(fabric) = &self.shared.fabric {
                fabric.stop().await;
            }
        };
        if restart {
            // First: the routes of sessions that end must not go from the maps.
            fabric_stops.await;
            speaker_stops.await;
        } else {
            speaker_stops.await;
            fabric_stops.await;
        }
        api::remove(&self.args.run_dir);
    }
}

/// BGP's port (RFC 4271 3).
const BGP_PORT: u16 = 179;

/// The port that stands for listening nowhere.
const NOWHERE: u16 = 0;

/// Signals that mean something here.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Wish::Stop("SIGINT"),
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// What a signal asks for.
pub(crate) enum Wish {
    Stop(&'static str),
    Reload,
}
