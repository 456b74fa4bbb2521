//! Other people's routers: started from one description, asked in one way.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;

use crate::{Node, Process, wait_until};

/// How long a daemon may take to answer its control socket, on a busy machine.
const START: Duration = Duration::from_secs(20);

/// The daemons that the lab can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Implementation {
    /// FRRouting: `bgpd` with `zebra`.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP.
    GoBgp,
    /// OpenBGPD, the portable version.
    OpenBgpd,
    /// ExaBGP: announces and records; it has no RIB.
    ExaBgp,
}

impl Implementation {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Frr,
        Self::Bird,
        Self::GoBgp,
        Self::OpenBgpd,
        Self::ExaBgp,
    ];

    /// The program, by which to see whether it is installed.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Frr => "/usr/lib/frr/bgpd",
            Self::Bird => "/usr/sbin/bird",
            Self::GoBgp => "/usr/bin/gobgpd",
            Self::OpenBgpd => "/usr/sbin/bgpd",
            Self::ExaBgp => "/usr/sbin/exabgp",
        }
    }

    /// Whether it is installed.
    #[must_use]
    pub fn is_installed(self) -> bool {
        Path::new(self.program()).exists()
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::GoBgp => "GoBGP",
            Self::OpenBgpd => "OpenBGPD",
            Self::ExaBgp => "ExaBGP",
        })
    }
}

/// An address family of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of a prefix in text.
    #[must_use]
    pub fn of(prefix: &str) -> Self {
        if prefix.contains(':') {
            Self::Ipv6
        } else {
            Self::Ipv4
        }
    }

    /// `ipv4` or `ipv6`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// What a router is to be.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its AS.
    pub asn: u32,
    /// Its identifier.
    pub router_id: Ipv4Addr,
    /// Prefixes that it originates.
    pub originate: Vec<Origin>,
    /// Whom it talks to.
    pub neighbors: Vec<Neighbor>,
    /// Whether learned routes go into the kernel's table.
    pub install: bool,
}

impl Router {
    /// A router without neighbours.
    #[must_use]
    pub fn new(asn: u32, router_id: [u8; 4]) -> Self {
        Self {
            asn,
            router_id: router_id.into(),
            originate: Vec::new(),
            neighbors: Vec::new(),
            install: false,
        }
    }

    /// Originates a prefix.
    #[must_use]
    pub fn originate(mut self, prefix: impl Into<Origin>) -> Self {
        self.originate.push(prefix.into());
        self
    }

    /// Adds a neighbour.
    #[must_use]
    pub fn neighbor(mut self, neighbor: Neighbor) -> Self {
        self.neighbors.push(neighbor);
        self
    }

    /// Puts learned routes into the kernel's table.
    #[must_use]
    pub fn installing(mut self) -> Self {
        self.install = true;
        self
    }

    /// What is originated here and not in `other`, by prefix.
    fn origins_beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Origin> {
        self.originate.iter().filter(|origin| {
            !other
                .originate
                .iter()
                .any(|same| same.prefix == origin.prefix)
        })
    }

    fn origins(&self, family: Family) -> impl Iterator<Item = &Origin> {
        self.originate
            .iter()
            .filter(move |origin| Family::of(&origin.prefix) == family)
    }
}

/// A prefix and what it is announced with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The prefix.
    pub prefix: String,
    /// RFC 1997 communities, as (AS, value).
    pub communities: Vec<(u16, u16)>,
    /// RFC 8092 communities.
    pub large_communities: Vec<(u32, u32, u32)>,
    /// RFC 4360 route targets, as (AS, value).
    pub route_targets: Vec<(u16, u32)>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// How often the router's AS is on the path beside once.
    pub prepend: u8,
}

impl Origin {
    /// RFC 1997 communities as `ASN:VALUE`.
    pub(crate) fn standard(&self) -> Vec<String> {
        let one = |(asn, value): &(u16, u16)| format!("{asn}:{value}");
        self.communities.iter().map(one).collect()
    }

    /// RFC 8092 communities as `GLOBAL:LOCAL:LOCAL`.
    pub(crate) fn large(&self) -> Vec<String> {
        let one = |(asn, a, b): &(u32, u32, u32)| format!("{asn}:{a}:{b}");
        self.large_communities.iter().map(one).collect()
    }

    /// Route targets as `ASN:VALUE`.
    fn targets(&self) -> Vec<String> {
        let one = |(asn, value): &(u16, u32)| format!("{asn}:{value}");
        self.route_targets.iter().map(one).collect()
    }
}

impl From<&str> for Origin {
    fn from(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            ..Self::default()
        }
    }
}

/// A session of a [`Router`].
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// Their address.
    pub address: IpAddr,
    /// Our address.
    pub local: IpAddr,
    /// Their AS.
    pub asn: u32,
    /// Families to negotiate.
    pub families: Vec<Family>,
    /// Our address of the other family, where one session carries both.
    pub other_next_hop: Option<IpAddr>,
    /// Waits for the other side to connect.
    pub passive: bool,
    /// RFC 2385 password.
    pub password: Option<String>,
    /// RFC 5082: accept only what comes from the next door.
    pub ttl_security: bool,
    /// Hops that they are away; next door if absent.
    pub multihop: Option<u8>,
    /// Hold time in seconds.
    pub hold_time: u16,
    /// RFC 4724 on both families.
    pub graceful_restart: bool,
    /// RFC 4456: they are our client.
    pub reflector_client: bool,
    /// Announced and expected prefixes at most, per family.
    pub max_prefixes: Option<u32>,
    /// RFC 8654.
    pub extended_messages: bool,
    /// What only `causewayd` is told.
    pub ours: Ours,
}

/// What [`crate::causeway`] configures for a neighbour beside what every router is told.
#[derive(Clone, Debug)]
pub struct Ours {
    /// Longest pause after errors, in seconds.
    pub idle_hold_max: u16,
    /// A peer that reads nothing is given up after this many seconds (RFC 9687).
    pub send_hold: Option<u16>,
    /// Fields of `maxPrefixes` beside the limit, such as `restartAfterSeconds: 3`.
    pub max_prefixes: Option<String>,
}

impl Default for Ours {
    fn default() -> Self {
        Self {
            idle_hold_max: 2,
            send_hold: None,
            max_prefixes: None,
        }
    }
}

impl Neighbor {
    /// A session from `local` to `address` for the family of the addresses.
    ///
    /// # Panics
    ///
    /// When an address does not parse: it stands in a test.
    #[must_use]
    pub fn new(local: &str, address: &str, asn: u32) -> Self {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        Self {
            address: parse(address),
            local: parse(local),
            asn,
            families: vec![Family::of(address)],
            other_next_hop: None,
            passive: false,
            password: None,
            ttl_security: false,
            multihop: None,
            hold_time: 9,
            graceful_restart: false,
            reflector_client: false,
            max_prefixes: None,
            extended_messages: false,
            ours: Ours::default(),
        }
    }

    /// With both families over this one session.
    #[must_use]
    pub fn both_families(mut self) -> Self {
        self.families = Family::BOTH.to_vec();
        self
    }
}

/// A session as its router sees it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whether it is Established.
    pub established: bool,
    /// What the router says about it, for error messages.
    pub text: String,
}

/// What a router knows about a prefix that it learned: its own words, in which tests look for attributes.
pub type Routes = BTreeMap<String, String>;

/// A running router.
pub struct Peer {
    node: Node,
    implementation: Implementation,
    router: Router,
    daemon: Box<dyn Daemon>,
}

/// How one implementation is started and asked.
trait Daemon: Send {
    /// An error unless it answers.
    fn ready(&mut self) -> Result<()>;
    /// The session with `neighbor`.
    fn session(&self, neighbor: &Neighbor) -> Result<Session>;
    /// Prefixes learned by BGP.
    fn routes(&self, family: Family) -> Result<Routes>;
    /// All that it says about one of those.
    fn route(&self, prefix: &str) -> Result<Option<String>> {
        Ok(self.routes(Family::of(prefix))?.remove(prefix))
    }
    /// Brings the originated prefixes in line with `router`.
    fn originate(&mut self, router: &Router, before: &Router) -> Result<()>;
    /// Ends the session with an administrative shutdown.
    fn shut(&mut self, neighbor: &Neighbor, message: &str) -> Result<()>;
    /// Ends the session with an administrative reset; it starts again.
    fn reset(&mut self, neighbor: &Neighbor, message: &str) -> Result<()>;
    /// Brings the passwords in line with `router`; false if only a new start does that.
    fn rekey(&mut self, _router: &Router) -> Result<bool> {
        Ok(false)
    }
    /// Asks for all routes again (RFC 2918).
    fn refresh(&mut self, neighbor: &Neighbor) -> Result<()>;
    /// What it keeps besides its log.
    fn notes(&self) -> String {
        String::new()
    }
    /// Every process, the one that speaks BGP first.
    fn processes(&mut self) -> Vec<&mut Process>;
}

impl Peer {
    /// Starts `router` on `node` and waits until it answers.
    pub fn start(implementation: Implementation, node: &Node, router: Router) -> Result<Self> {
        ensure!(
            implementation.is_installed(),
            "{implementation} is not installed ({}); run `cargo xtask setup`",
            implementation.program()
        );
        let daemon = spawn(implementation, node, &router)?;
        let mut peer = Self {
            node: node.clone(),
            implementation,
            router,
            daemon,
        };
        peer.wait_ready()?;
        Ok(peer)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let what = format!("{} on {} to answer", self.implementation, self.node.name());
        wait_until(&what, START, || {
            self.check_running()?;
            self.daemon.ready()
        })
    }

    /// Starts it again, as it is configured now, after it was [killed](Self::kill).
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.daemon = spawn(self.implementation, &self.node, &self.router)?;
        self.wait_ready()
    }

    /// Which one it is.
    #[must_use]
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// How it was described.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// An error with its log, if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.daemon
            .processes()
            .into_iter()
            .try_for_each(Process::check_running)
    }

    /// What it wrote so far.
    pub fn log(&mut self) -> String {
        let logs: String = self
            .daemon
            .processes()
            .into_iter()
            .map(|process| process.log())
            .collect();
        logs + &self.daemon.notes()
    }

    /// What the process that speaks BGP wrote so far: it only grows, so that a length marks a moment.
    pub fn speaker_log(&mut self) -> String {
        let mut processes = self.daemon.processes().into_iter();
        processes.next().map_or_else(String::new, |it| it.log())
    }

    /// The session with the neighbour at `address`.
    pub fn session(&self, address: &str) -> Result<Session> {
        self.daemon.session(self.neighbor(address)?)
    }

    /// Waits until every session is Established.
    pub fn wait_established(&mut self, limit: Duration) -> Result<()> {
        let neighbors = self.router.neighbors.clone();
        for neighbor in neighbors {
            wait_until(
                &format!(
                    "the session of {} with {}",
                    self.implementation, neighbor.address
                ),
                limit,
                || {
                    self.check_running()?;
                    let session = self.daemon.session(&neighbor)?;
                    ensure!(session.established, "{}", session.text);
                    Ok(())
                },
            )?;
        }
        Ok(())
    }

    /// Prefixes of `family` that it learned by BGP.
    pub fn routes(&self, family: Family) -> Result<Routes> {
        self.daemon.routes(family)
    }

    /// Waits until it has learned `prefix`, and returns what it says about it.
    pub fn wait_route(&self, prefix: &str, limit: Duration) -> Result<String> {
        wait_until(
            &format!("{} to learn {prefix}", self.implementation),
            limit,
            || match self.daemon.route(prefix)? {
                Some(text) => Ok(text),
                None => bail!(
                    "it has {:?}",
                    self.routes(Family::of(prefix))?.keys().collect::<Vec<_>>()
                ),
            },
        )
    }

    /// Waits until it no longer has `prefix`.
    pub fn wait_no_route(&self, prefix: &str, limit: Duration) -> Result<()> {
        wait_until(
            &format!("{} to lose {prefix}", self.implementation),
            limit,
            || match self.routes(Family::of(prefix))?.remove(prefix) {
                None => Ok(()),
                Some(text) => bail!("{text}"),
            },
        )
    }

    /// Originates another prefix.
    pub fn announce(&mut self, origin: impl Into<Origin>) -> Result<()> {
        let mut router = self.router.clone();
        router.originate.push(origin.into());
        self.set_router(router)
    }

    /// No longer originates `prefix`.
    pub fn withdraw(&mut self, prefix: &str) -> Result<()> {
        let mut router = self.router.clone();
        let before = router.originate.len();
        router.originate.retain(|origin| origin.prefix != prefix);
        ensure!(router.originate.len() < before, "{prefix} is not announced");
        self.set_router(router)
    }

    fn set_router(&mut self, router: Router) -> Result<()> {
        self.daemon.originate(&router, &self.router)?;
        self.router = router;
        Ok(())
    }

    /// Ends the session with an administrative shutdown and, where it can, a message (RFC 9003).
    pub fn shut(&mut self, address: &str, message: &str) -> Result<()> {
        let neighbor = self.neighbor(address)?.clone();
        self.daemon.shut(&neighbor, message)
    }

    /// Ends the session with an administrative reset and, where it can, a message (RFC 9003).
    pub fn reset(&mut self, address: &str, message: &str) -> Result<()> {
        let neighbor = self.neighbor(address)?.clone();
        self.daemon.reset(&neighbor, message)
    }

    /// Gives every session another password, by a change of its configuration or a new start.
    pub fn rekey(&mut self, password: &str) -> Result<()> {
        for neighbor in &mut self.router.neighbors {
            neighbor.password = Some(password.to_owned());
        }
        if self.daemon.rekey(&self.router)? {
            return Ok(());
        }
        self.restart()
    }

    /// Stops it as a whole, its connections left open, until [`Self::thaw`].
    pub fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it run again.
    pub fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.daemon
            .processes()
            .into_iter()
            .try_for_each(|process| process.signal_group(signal))
    }

    /// Asks a neighbour for all of its routes again.
    pub fn refresh(&mut self, address: &str) -> Result<()> {
        let neighbor = self.neighbor(address)?.clone();
        self.daemon.refresh(&neighbor)
    }

    /// Ends it without warning: the kernel closes its connections.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon
            .processes()
            .into_iter()
            .try_for_each(Process::kill)
    }

    fn neighbor(&self, address: &str) -> Result<&Neighbor> {
        let address: IpAddr = address.parse()?;
        self.router
            .neighbors
            .iter()
            .find(|neighbor| neighbor.address == address)
            .ok_or_else(|| {
                anyhow!(
                    "{address} is not a neighbor of this {}",
                    self.implementation
                )
            })
    }
}

fn spawn(implementation: Implementation, node: &Node, router: &Router) -> Result<Box<dyn Daemon>> {
    Ok(match implementation {
        Implementation::Frr => Box::new(frr::Frr::start(node, router)?),
        Implementation::Bird => Box::new(bird::Bird::start(node, router)?),
        Implementation::GoBgp => Box::new(gobgp::GoBgp::start(node, router)?),
        Implementation::OpenBgpd => Box::new(openbgpd::OpenBgpd::start(node, router)?),
        Implementation::ExaBgp => Box::new(exabgp::ExaBgp::start(node, router)?),
    })
}

/// Makes `dir` in the node's own `/run`, owned by `owner`.
fn runtime_dir(node: &Node, dir: &str, owner: &str) -> Result<()> {
    node.run("mkdir", ["-p", dir])?;
    node.run("chown", [&format!("{owner}:{owner}"), dir])?;
    Ok(())
}

/// Writes a configuration file that the daemon may read after it dropped its privileges.
fn write_config(node: &Node, name: &str, text: &str) -> Result<std::path::PathBuf> {
    let file = node.dir().join(name);
    std::fs::write(&file, text)?;
    crate::lab::readable_by_all(&file)?;
    Ok(file)
}
