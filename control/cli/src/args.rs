//! What can be asked for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use causeway_api::SOCKET_PATH;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Ask a Causeway node what it does and why.
///
/// Exit codes: 0 done; 1 the daemon refused or a check found mistakes; 2 wrong usage; 3 the daemon does not answer.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// Options of every verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The daemon's socket
    #[arg(long, global = true, env = "CAUSEWAY_SOCKET", value_name = "PATH", default_value = SOCKET_PATH)]
    pub(crate) socket: PathBuf,
    /// Form of the answer
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// Form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs: the API's own fields
    Json,
    /// The same as YAML
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// The node at a glance: configuration, sessions, forwarding
    Status,
    /// The BGP speaker
    Bgp {
        #[command(subcommand)]
        verb: Bgp,
    },
    /// What is forwarded where
    Route {
        #[command(subcommand)]
        verb: Route,
    },
    /// The maps that the programs forward by
    Map {
        #[command(subcommand)]
        verb: Map,
    },
    /// Configuration
    Config {
        #[command(subcommand)]
        verb: Config,
    },
    /// Print a completion script
    #[command(hide = true)]
    Completions {
        /// Shell
        shell: Shell,
    },
    /// Write man pages
    #[command(hide = true)]
    Man {
        /// Directory to write to
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bgp {
    /// Peers: state, counters, and how their last session ended
    Neighbors {
        /// Show everything about one peer, by name or address
        neighbor: Option<String>,
    },
    /// The Loc-RIB: every path, the best marked
    Routes(Listing),
    /// What a peer sent, before and after the import filters
    Received {
        /// Peer, by name or address
        neighbor: String,
        #[command(flatten)]
        page: Paging,
    },
    /// What a peer is sent
    Advertised {
        /// Peer, by name or address
        neighbor: String,
        #[command(flatten)]
        page: Paging,
    },
    /// Why a prefix is where it is: each path's reason, and what each peer is sent
    Explain {
        /// ADDRESS/LENGTH
        prefix: String,
    },
    /// Act on one peer
    Neighbor {
        #[command(subcommand)]
        action: Action,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Map {
    /// Every map: entries in use and capacity
    List,
    /// The entries of one map
    Dump {
        /// Name, as `map list` tells it
        name: String,
    },
    /// Compare every entry with what is wanted; exit code 1 if any differs
    Verify,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// End the session and start it again (Cease, Administrative Reset)
    Reset {
        /// Peer, by name or address
        neighbor: String,
        /// Tell the peer why (RFC 9003), at most 255 bytes
        #[arg(long)]
        message: Option<String>,
    },
    /// End the session and stay down (Cease, Administrative Shutdown)
    Disable {
        /// Peer, by name or address
        neighbor: String,
        /// Tell the peer why (RFC 9003), at most 255 bytes
        #[arg(long)]
        message: Option<String>,
    },
    /// Undo `disable`, a max-prefix stop or an idle hold
    Enable {
        /// Peer, by name or address
        neighbor: String,
    },
    /// Exchange routes again without ending the session (RFC 2918)
    Refresh {
        /// Peer, by name or address
        neighbor: String,
        /// Which way
        #[arg(long, value_enum, default_value_t = Direction::Both)]
        direction: Direction,
    },
}

/// Which way a refresh goes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Direction {
    /// The peer sends again
    In,
    /// We send again
    Out,
    /// Both
    Both,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Route {
    /// Routes with their next hops, and whether the maps hold them
    List(Listing),
    /// What becomes of packets to an address and why; exit code 1 if maps, intent and the kernel differ
    Explain(Explain),
}

/// Which packets.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Where they go
    pub(crate) address: std::net::IpAddr,
    /// Where they come from: with it, show which member of an ECMP group the flow takes
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Option<std::net::IpAddr>,
    /// tcp, udp, sctp, icmp, icmpv6 or a number; tcp unless given
    #[arg(long, requires = "source")]
    pub(crate) protocol: Option<String>,
    /// Source port
    #[arg(long, value_name = "PORT", requires = "source")]
    pub(crate) source_port: Option<u16>,
    /// Destination port
    #[arg(long, value_name = "PORT", requires = "source")]
    pub(crate) destination_port: Option<u16>,
    /// The interface that they come in on; an uplink or a pod's, as fits, unless given
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) ingress: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check a directory as the daemon would, without one
    Check {
        /// Directory of YAML files
        dir: PathBuf,
        /// The node to check for; the host name unless given
        #[arg(long, value_name = "NAME")]
        node_name: Option<String>,
    },
}

/// Which routes.
#[derive(Debug, clap::Args)]
pub(crate) struct Listing {
    /// One prefix (ADDRESS/LENGTH), or the longest match of an ADDRESS
    pub(crate) prefix: Option<String>,
    /// All prefixes within PREFIX, too
    #[arg(long, requires = "prefix")]
    pub(crate) longer: bool,
    #[command(flatten)]
    pub(crate) page: Paging,
}

/// How many, of which family.
#[derive(Debug, clap::Args)]
pub(crate) struct Paging {
    /// One address family; both unless given
    #[arg(short, long, value_enum)]
    pub(crate) family: Option<Family>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    /// IPv4 unicast
    #[value(alias = "ipv4-unicast")]
    Ipv4,
    /// IPv6 unicast
    #[value(alias = "ipv6-unicast")]
    Ipv6,
}

impl Family {
    /// The API's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4-unicast",
            Self::Ipv6 => "ipv6-unicast",
        }
    }
}

impl Paging {
    /// The families asked for.
    pub(crate) fn families(&self) -> Vec<Family> {
        self.family
            .map_or_else(|| vec![Family::Ipv4, Family::Ipv6], |family| vec![family])
    }
}

/// Prints a completion script.
pub(crate) fn print_completions(shell: Shell) {
    clap_complete::generate(
        shell,
        &mut Args::command(),
        "causeway",
        &mut std::io::stdout(),
    );
}

/// Writes a page for each verb.
pub(crate) fn write_man_pages(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    clap_mangen::generate_to(Args::command(), dir)
        .with_context(|| format!("cannot write to {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
