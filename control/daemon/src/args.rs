//! The command line and the log.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// The Causeway node daemon: speaks BGP and programs the forwarding tables of this node.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Directory of YAML files with the configuration.
    #[arg(long, value_name = "DIR", default_value = "/etc/causeway")]
    pub(crate) config: PathBuf,

    /// What forwards packets.
    #[arg(long, value_enum, default_value_t = Dataplane::Xdp)]
    pub(crate) dataplane: Dataplane,

    /// Name of this node, for selectors and overrides [default: the host name].
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,

    /// Directory for the API socket.
    #[arg(long, value_name = "DIR", default_value = "/run/causeway")]
    pub(crate) run_dir: PathBuf,

    /// Directory on a bpffs for pinned maps and links.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/causeway")]
    pub(crate) bpffs: PathBuf,

    /// Address for Prometheus metrics, such as 127.0.0.1:9179 [default: none].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<core::net::SocketAddr>,

    /// How log lines are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Write down everything that happens to the BGP speaker, to be replayed. Holds the configuration and all routes, but
    /// no keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Size at which the recording ends.
    #[arg(long, value_name = "MIB", default_value_t = 64, requires = "record",
        value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) record_limit: u64,

    /// Do again what a recording holds, say whether the speaker does the same, and end. Speaks to nobody.
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    pub(crate) replay: Option<PathBuf>,

    /// Stop the replay after so many seconds of the recording.
    #[arg(long, value_name = "SECONDS", requires = "replay")]
    pub(crate) replay_until: Option<f64>,

    /// Print what the speaker does in the replay, one line each, with its time in nanoseconds.
    #[arg(long, requires = "replay")]
    pub(crate) replay_outputs: bool,

    /// After the replay answer `causeway bgp …` on the API socket about the state at its end, until a signal.
    #[arg(long, requires = "replay")]
    pub(crate) replay_serve: bool,
}

/// What forwards packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dataplane {
    /// Nothing: the speaker runs alone.
    None,
    /// XDP programs on the uplinks.
    Xdp,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `CAUSEWAY_LOG` sets the level, also by module: `debug` or `info,causewayd::bgp=debug`.
pub(crate) fn start_log(format: LogFormat) {
    let wanted = std::env::var("CAUSEWAY_LOG").unwrap_or_else(|_| "info".to_owned());
    let (targets, refused) = match wanted.parse::<Targets>() {
        Ok(targets) => (targets, None),
        Err(error) => (
            Targets::new().with_default(tracing::Level::INFO),
            Some(error),
        ),
    };
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(false).with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(targets))
        .init();
    if let Some(error) = refused {
        tracing::warn!(%error, "CAUSEWAY_LOG is not understood; logging at level info");
    }
}
