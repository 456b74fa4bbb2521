//! Our own daemon in a node, and its state as the CLI tells it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::peer::{Family, Neighbor, Origin, Router, Session};
use crate::{Node, Process, wait_until};

/// How long the daemon may take to answer, loading its programs included.
const START: Duration = Duration::from_secs(30);
/// The same in the emulated machine of the `vm` suite.
const START_EMULATED: Duration = Duration::from_secs(180);

/// How long the API may take to answer.
const API_PATIENCE: Duration = Duration::from_secs(10);

/// Where the daemon serves metrics, in its node.
const METRICS: &str = "127.0.0.1:9179";

/// Where the binaries under test are: beside this one, unless `CAUSEWAY_BIN_DIR` says otherwise.
///
/// # Errors
///
/// When `name` was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("CAUSEWAY_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => own_directory()?,
    };
    built(dir, name)
}

/// The directory of this program's profile.
fn own_directory() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dir = own.parent().context("no directory")?;
    // Tests lie one level deeper.
    let deeper = dir.ends_with("deps").then(|| dir.parent()).flatten();
    Ok(deeper.unwrap_or(dir).to_owned())
}

fn built(dir: PathBuf, name: &str) -> Result<PathBuf> {
    let file = dir.join(name);
    ensure!(
        file.exists(),
        "{} is not built; run `cargo xtask test`, or `cargo build -p {name}` and try again",
        file.display()
    );
    Ok(file)
}

/// Which daemon to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one under test.
    Own,
    /// One of a later version, which lays two maps out in another way and knows how to convert them.
    Later,
}

impl Version {
    /// # Errors
    ///
    /// When it was not built.
    fn binary(self) -> Result<PathBuf> {
        let dir = match (self, std::env::var_os("CAUSEWAY_LATER_BIN_DIR")) {
            (Self::Own, _) => return binary("causewayd"),
            (Self::Later, Some(dir)) => PathBuf::from(dir),
            (Self::Later, None) => own_directory()?.join("../upgrade-fixture"),
        };
        built(dir, "causewayd")
    }
}

/// What the daemon is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// The speaker.
    pub router: Router,
    /// Interfaces on which it forwards; none runs the speaker alone (`--dataplane none`).
    pub uplinks: Vec<String>,
    /// More lines of the BGP instance, each with its indentation of six spaces.
    pub instance: String,
    /// Whether packets may pass from uplink to uplink.
    pub transit: bool,
    /// More lines of the NodeConfig's spec, each with its indentation of two spaces.
    pub node_settings: String,
    /// More objects, as YAML documents.
    pub more: String,
    /// More arguments of the daemon.
    pub arguments: Vec<String>,
}

impl Config {
    /// The speaker alone.
    #[must_use]
    pub fn speaker(router: Router) -> Self {
        Self {
            router,
            uplinks: Vec::new(),
            instance: String::new(),
            transit: false,
            node_settings: String::new(),
            more: String::new(),
            arguments: Vec::new(),
        }
    }

    /// A transit router over these interfaces.
    #[must_use]
    pub fn transit<S: Into<String>>(router: Router, uplinks: impl IntoIterator<Item = S>) -> Self {
        Self {
            transit: true,
            ..Self::node(router, uplinks)
        }
    }

    /// An end with these uplinks.
    #[must_use]
    pub fn node<S: Into<String>>(router: Router, uplinks: impl IntoIterator<Item = S>) -> Self {
        Self {
            uplinks: uplinks.into_iter().map(Into::into).collect(),
            ..Self::speaker(router)
        }
    }

    /// The configuration directory's one file.
    #[must_use]
    pub fn yaml(&self) -> String {
        let router = &self.router;
        let mut text = format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {{name: fabric}}\nspec:\n  \
             bgpInstances:\n    - name: main\n      localASN: {}\n      routerID: {}\n      multipathRelax: true\n{}      \
             peers:{}\n",
            router.asn,
            router.router_id,
            self.instance,
            if router.neighbors.is_empty() {
                " []"
            } else {
                ""
            },
        );
        for (n, neighbor) in router.neighbors.iter().enumerate() {
            let _ = write!(
                text,
                "        - name: peer{n}\n          peerASN: {}\n          peerAddress: {}\n          \
                 peerConfigRef: {{name: peer{n}}}\n",
                neighbor.asn,
                quoted(neighbor.address)
            );
        }
        for (n, neighbor) in router.neighbors.iter().enumerate() {
            text.push_str(&peer_config(n, neighbor));
        }
        text.push_str(
            "---\napiVersion: causeway.dev/v1alpha1\nkind: BGPFilter\nmetadata: {name: everything}\n\
             spec: {defaultAction: Accept}\n",
        );
        if !router.originate.is_empty() {
            text.push_str(
                "---\napiVersion: causeway.dev/v1alpha1\nkind: BGPAdvertisement\n\
                 metadata: {name: own, labels: {announce: own}}\nspec:\n  advertisements:\n",
            );
            for origin in &router.originate {
                text.push_str(&advertisement(origin));
            }
        }
        if !self.uplinks.is_empty() {
            let _ = write!(
                text,
                "---\napiVersion: causeway.dev/v1alpha1\nkind: NodeConfig\nmetadata: {{name: node}}\n\
                 spec:\n  role: {}\n  uplinks: {{interfaces: [{}]}}\n{}",
                if self.transit { "transit" } else { "node" },
                self.uplinks.join(", "),
                self.node_settings
            );
        }
        text.push_str(&self.more);
        text
    }
}

fn quoted(address: IpAddr) -> String {
    format!("\"{address}\"")
}

fn peer_config(n: usize, neighbor: &Neighbor) -> String {
    let ours = &neighbor.ours;
    let send_hold = ours.send_hold.map_or_else(String::new, |seconds| {
        format!(", sendHoldTimeSeconds: {seconds}")
    });
    let mut text = format!(
        "---\napiVersion: causeway.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {{name: peer{n}}}\nspec:\n  \
         transport: {{localAddress: {}, passive: {}}}\n  \
         timers: {{connectRetryTimeSeconds: 1, holdTimeSeconds: {}, idleHoldTimeMaxSeconds: {}{send_hold}}}\n",
        quoted(neighbor.local),
        neighbor.passive,
        neighbor.hold_time,
        ours.idle_hold_max,
    );
    let mut line = |words: &str| {
        let _ = writeln!(text, "  {words}");
    };
    if neighbor.password.is_some() {
        line(&format!("authSecretRef: peer{n}"));
    }
    if neighbor.ttl_security {
        line("ttlSecurity: 1");
    }
    if let Some(hops) = neighbor.multihop {
        line(&format!("ebgpMultihop: {hops}"));
    }
    if neighbor.reflector_client {
        line("routeReflectorClient: true");
    }
    line(&format!("extendedMessages: {}", neighbor.extended_messages));
    if neighbor.graceful_restart {
        line("gracefulRestart: {enabled: true, restartTimeSeconds: 20}");
    }
    line("families:");
    for family in &neighbor.families {
        line(&format!("  - afi: {}", family.word()));
        line("    import: [everything]");
        line("    export: [everything]");
        line("    advertisements: {matchLabels: {announce: own}}");
        if let Some(limit) = neighbor.max_prefixes {
            let more = ours.max_prefixes.as_ref();
            let more = more.map_or_else(String::new, |more| format!(", {more}"));
            line(&format!("    maxPrefixes: {{limit: {limit}{more}}}"));
        }
    }
    if let Some(password) = &neighbor.password {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: peer{n}}}\nstringData: {{password: \"{password}\"}}\n"
        );
    }
    text
}

fn advertisement(origin: &Origin) -> String {
    let mut text = format!(
        "    - advertisementType: Prefix\n      prefixes: [\"{}\"]\n",
        origin.prefix
    );
    let quoted = |values: Vec<String>| -> Vec<String> {
        values.iter().map(|value| format!("\"{value}\"")).collect()
    };
    let (standard, large) = (quoted(origin.standard()), quoted(origin.large()));
    let mut attributes = Vec::new();
    if !standard.is_empty() || !large.is_empty() {
        attributes.push(format!(
            "communities: {{standard: [{}], large: [{}]}}",
            standard.join(", "),
            large.join(", ")
        ));
    }
    attributes.extend(origin.med.map(|med| format!("med: {med}")));
    if origin.prepend > 0 {
        attributes.push(format!("asPathPrepend: {}", origin.prepend));
    }
    if !attributes.is_empty() {
        let _ = writeln!(text, "      attributes: {{{}}}", attributes.join(", "));
    }
    text
}

/// A running `causewayd`.
pub struct Causeway {
    node: Node,
    config: Config,
    directory: PathBuf,
    process: Process,
}

impl Causeway {
    /// Starts the daemon and waits until it answers.
    pub fn start(node: &Node, config: Config) -> Result<Self> {
        let yaml = config.yaml();
        Self::start_from(node, config, &yaml)
    }

    /// Starts the speaker alone with this configuration and waits until it answers. What a [`Config`] knows is empty.
    pub fn start_with(node: &Node, yaml: &str) -> Result<Self> {
        let config = Config::speaker(Router::new(0, [0; 4]));
        Self::start_from(node, config, yaml)
    }

    fn start_from(node: &Node, config: Config, yaml: &str) -> Result<Self> {
        let directory = node.dir().join("config");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("causeway.yaml"), yaml)?;
        let process = Self::spawn(node, &directory, &config, Version::Own)?;
        let mut causeway = Self {
            node: node.clone(),
            config,
            directory,
            process,
        };
        causeway.wait_answer()?;
        Ok(causeway)
    }

    fn spawn(node: &Node, directory: &Path, config: &Config, version: Version) -> Result<Process> {
        let mut command = node.command(version.binary()?);
        command
            .arg("--config")
            .arg(directory)
            .args(["--node-name", node.name()])
            .args(["--metrics", METRICS])
            .args(&config.arguments);
        if config.uplinks.is_empty() {
            command.args(["--dataplane", "none"]);
        }
        Process::start(node, "causewayd", command)
    }

    fn wait_answer(&mut self) -> Result<()> {
        wait_until(
            &format!("causewayd on {} to answer", self.node.name()),
            start_limit(),
            || {
                self.process.check_running()?;
                self.api("/v1/status").map(drop)
            },
        )
    }

    /// The node that it runs on.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The daemon's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where its configuration is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it was configured with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Asks the API: `api("/v1/status")`. A listing is one page.
    pub fn api(&self, path: &str) -> Result<Value> {
        // Its socket, seen from outside the node's mount namespace.
        let socket = format!(
            "/proc/{}/root/run/causeway/causeway.sock",
            self.node.holder()
        );
        let mut stream = UnixStream::connect(&socket).with_context(|| format!("no {socket}"))?;
        stream.set_read_timeout(Some(API_PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: causeway\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .with_context(|| format!("the API answered {answer:?}"))?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {head} {body}");
        serde_json::from_str(body).with_context(|| format!("the API answered {body:?}"))
    }

    /// A sample of its metrics: `metric("causeway_bgp_routes{family=\"ipv4-unicast\"}")`. What is not there is 0.
    pub fn metric(&self, sample: &str) -> Result<u64> {
        let mut stream = self.node.enter(|| TcpStream::connect(METRICS))??;
        stream.set_read_timeout(Some(API_PATIENCE))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: causeway\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let value = answer
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(Ok(0), |value| Ok(value.parse()?))
    }

    /// Runs the CLI with `-o json`.
    pub fn ask<S: Into<OsString>>(&self, words: impl IntoIterator<Item = S>) -> Result<Value> {
        let words = words
            .into_iter()
            .map(Into::into)
            .chain(["-o".into(), "json".into()]);
        let text = self.node.run(binary("causeway")?, words)?;
        serde_json::from_str(&text).with_context(|| format!("the CLI answered {text:?}"))
    }

    /// Replaces the configuration and waits until it is in force.
    pub fn reconfigure(&mut self, config: Config) -> Result<()> {
        let generation = |status: &Value| status["config"]["generation"].as_u64().unwrap_or(0);
        let before = generation(&self.api("/v1/status")?);
        // Renamed into place, so that the daemon never reads half of it.
        let next = self.directory.join(".causeway.yaml.next");
        fs::write(&next, config.yaml())?;
        fs::rename(next, self.directory.join("causeway.yaml"))?;
        self.process.signal(Signal::SIGHUP)?;
        self.config = config;
        wait_until("the new configuration", start_limit(), || {
            let status = self.api("/v1/status")?;
            ensure!(generation(&status) > before, "{}", status["config"]);
            Ok(())
        })
    }

    /// Originates another prefix.
    pub fn announce(&mut self, origin: impl Into<Origin>) -> Result<()> {
        let mut config = self.config.clone();
        config.router.originate.push(origin.into());
        self.reconfigure(config)
    }

    /// No longer originates `prefix`.
    pub fn withdraw(&mut self, prefix: &str) -> Result<()> {
        let mut config = self.config.clone();
        config
            .router
            .originate
            .retain(|origin| origin.prefix != prefix);
        self.reconfigure(config)
    }

    /// What `bgp neighbors` says about the peer at `address`.
    pub fn neighbor(&self, address: &str) -> Result<Value> {
        let address: IpAddr = address.parse()?;
        items(&self.api("/v1/bgp/neighbors")?)?
            .iter()
            .find(|neighbor| neighbor["address"] == address.to_string())
            .cloned()
            .with_context(|| format!("no neighbor {address}"))
    }

    /// The session with the peer at `address`.
    pub fn session(&self, address: &str) -> Result<Session> {
        let neighbor = self.neighbor(address)?;
        Ok(Session {
            established: neighbor["state"] == "Established",
            text: format!(
                "state {}, last reset {}, last error {}",
                neighbor["state"], neighbor["lastReset"], neighbor["lastError"]
            ),
        })
    }

    /// Waits until every session is Established.
    pub fn wait_established(&mut self, limit: Duration) -> Result<()> {
        for neighbor in self.config.router.neighbors.clone() {
            let address = neighbor.address.to_string();
            wait_until(
                &format!("causewayd's session with {address}"),
                limit,
                || {
                    self.process.check_running()?;
                    let session = self.session(&address)?;
                    ensure!(session.established, "{}", session.text);
                    Ok(())
                },
            )?;
        }
        Ok(())
    }

    /// The Loc-RIB's first page.
    fn routes(&self, family: Family) -> Result<Value> {
        self.api(&format!("/v1/bgp/routes?family={}", family.word()))
    }

    /// Paths that were learned for `prefix`, the best first.
    pub fn paths(&self, prefix: &str) -> Result<Vec<Value>> {
        let all = self.routes(Family::of(prefix))?;
        let route = items(&all)?
            .iter()
            .find(|route| route["prefix"] == prefix)
            .cloned()
            .unwrap_or_default();
        Ok(route["paths"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|path| path["peer"].is_string())
            .cloned()
            .collect())
    }

    /// Waits until `prefix` was learned `times` over, and returns its paths.
    pub fn wait_paths(&self, prefix: &str, times: usize, limit: Duration) -> Result<Vec<Value>> {
        wait_until(
            &format!("causewayd to have {times} paths for {prefix}"),
            limit,
            || {
                let paths = self.paths(prefix)?;
                ensure!(paths.len() == times, "it has {paths:?}");
                Ok(paths)
            },
        )
    }

    /// Waits until `prefix` was learned, and returns its best path.
    pub fn wait_route(&self, prefix: &str, limit: Duration) -> Result<Value> {
        wait_until(&format!("causewayd to learn {prefix}"), limit, || {
            self.paths(prefix)?
                .into_iter()
                .next()
                .ok_or_else(|| anyhow!("{}", self.routes(Family::of(prefix)).unwrap_or_default()))
        })
    }

    /// Waits until no peer offers `prefix`.
    pub fn wait_no_route(&self, prefix: &str, limit: Duration) -> Result<()> {
        self.wait_paths(prefix, 0, limit).map(drop)
    }

    /// Ends it without warning.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to end and waits for that.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process.stop()?;
        ensure!(status.success(), "causewayd ended with {status}");
        Ok(())
    }

    /// Starts it again with the configuration it had.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_as(Version::Own)
    }

    /// Starts this version with the configuration it had.
    pub fn restart_as(&mut self, version: Version) -> Result<()> {
        self.begin(version)?;
        self.wait_answer()
    }

    /// Starts this version and does not wait for it.
    pub fn begin(&mut self, version: Version) -> Result<()> {
        self.kill()?;
        self.process = Self::spawn(&self.node, &self.directory, &self.config, version)?;
        Ok(())
    }

    /// The families that the session with `address` negotiated.
    pub fn negotiated(&self, address: &str) -> Result<Vec<Family>> {
        let neighbor = self.neighbor(address)?;
        let text = neighbor["negotiated"]["families"].to_string();
        Ok(Family::BOTH
            .into_iter()
            .filter(|family| text.contains(family.word()))
            .collect())
    }
}

fn start_limit() -> Duration {
    match std::env::var_os("CAUSEWAY_VM") {
        Some(_) => START_EMULATED,
        None => START,
    }
}

/// The entries of a listing.
fn items(listing: &Value) -> Result<&Vec<Value>> {
    listing
        .as_array()
        .or_else(|| listing["items"].as_array())
        .with_context(|| format!("not a listing: {listing}"))
}
