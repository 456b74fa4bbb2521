//! A daemon that is killed, ended, upgraded and taken back, again and again, while numbered packets flow through its node
//! and into a pod there. None may be lost.
//!
//! ```text
//!   left ── tor1 (FRR) ── node ── tor2 (BIRD) ── right
//!                           │
//!                          pod
//! ```
//!
//! The node's kernel forwards nothing: what arrives went by XDP from ToR to ToR, and by TC into the pod and out of it. Both
//! ToRs reach what is behind the node by BGP alone.
//!
//! `CAUSEWAY_SEED=N` repeats the moments of a run that failed; `CAUSEWAY_TIER=full` runs a hundred rounds.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use causeway_maps::{Hook, fixture};
use support::causeway::{Causeway, Config, Version};
use support::forwarding::{forwarded_at, kernel_forwarded};
use support::peer::{Implementation, Neighbor, Peer, Router};
use support::traffic::{Probes, ping};
use support::{Lab, Node, Process, Random, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
const FLOWS: u16 = 4;
const EVERY: Duration = Duration::from_millis(4);
/// A daemon is ready after some 300 ms: it is killed before, meanwhile and after.
const START_UP: Duration = Duration::from_millis(600);
/// FRR connects so long after it lost a session, and not again: some daemons are started to meet that.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Starts of a crash loop that fail.
const CRASHES: u32 = 5;
/// Missing packets further apart than so many numbers were not lost for one reason: a quarter of a second.
const ONE_PIECE: u64 = 64;
/// Rounds with losses whose logs are shown, and lines of each.
const EXPLAINED_ROUNDS: usize = 4;
const EXPLAINED_LINES: usize = 400;

/// Behind each ToR: prefix and host.
const LEFT: [(&str, &str); 2] = [("10.1.0.0/24", "10.1.0.10"), ("fd00:1::/64", "fd00:1::10")];
const RIGHT: [(&str, &str); 2] = [("10.2.0.0/24", "10.2.0.10"), ("fd00:2::/64", "fd00:2::10")];
const POD: [(&str, &str); 2] = [
    ("10.244.1.0/24", "10.244.1.11"),
    ("fd00:244:1::/64", "fd00:244:1::11"),
];
const NODE_ASN: u32 = 65_000;
const TOR_ASN: [u32; 2] = [65_001, 65_002];

#[test]
fn no_packet_is_lost_however_often_the_daemon_dies_or_changes_its_version() {
    Lab::test(|lab| {
        let mut moments = Moments::new();
        let mut stage = Stage::new(lab)?;
        let watched = stage.watch_routes()?;
        let before = stage.forwarded()?;
        let streams = stage.streams()?;
        let mut marks = Vec::new();
        let rounds = if full() { 100 } else { 20 };
        let run = (0..rounds).try_for_each(|round| {
            marks.push(stage.mark());
            stage.round(round, &mut moments)
        });
        let (carried, losses) = finish(streams)?;
        stage.explain(&losses, &marks);
        run?;
        ensure!(losses.is_empty(), "packets were lost: see above");
        stage.went_by_programs(before, carried)?;
        kept_all_routes(&watched)?;
        stage.detach()?;
        let streams = stage.streams()?;
        thread::sleep(Duration::from_millis(500));
        let (_, losses) = finish(streams)?;
        ensure!(
            !losses.is_empty(),
            "without programs nothing is forwarded, and nobody noticed"
        );
        Ok(())
    });
}

struct Stage {
    left: Node,
    right: Node,
    pod: Node,
    node: Node,
    tors: [Tor; 2],
    causeway: Causeway,
}

struct Tor {
    node: Node,
    peer: Peer,
}

impl Stage {
    fn new(lab: &Lab) -> Result<Self> {
        let [left, right, pod, node] = ["left", "right", "pod", "node"].map(|name| lab.node(name));
        let (left, right, pod, node) = (left?, right?, pod?, node?);
        let start = |n, implementation, host: &Node, behind| {
            start_tor(lab, &node, n, implementation, host, behind)
        };
        let tors = [
            start(0, Implementation::Frr, &left, LEFT)?,
            start(1, Implementation::Bird, &right, RIGHT)?,
        ];
        connect_pod(&node, &pod)?;
        node.sysctl("ipv4/ip_forward", "0")?;
        node.sysctl("ipv6/conf/all/forwarding", "0")?;
        let causeway = Causeway::start(&node, node_config())?;
        let mut stage = Self {
            left,
            right,
            pod,
            node,
            tors,
            causeway,
        };
        stage.wait_ready()?;
        for (from, to) in stage.pairs() {
            for (_, address) in to {
                wait_until(&format!("an answer from {address}"), LIMIT, || {
                    ensure!(ping(from, address.parse()?, 1)? == 1, "there was none");
                    Ok(())
                })?;
            }
        }
        Ok(stage)
    }

    /// Who sends to whom; each answers.
    fn pairs(&self) -> [(&Node, [(&'static str, &'static str); 2]); 3] {
        [(&self.left, RIGHT), (&self.left, POD), (&self.right, POD)]
    }

    /// The other version takes over from a daemon that is killed; now and then one is ended before, or others fail between.
    fn round(&mut self, round: u32, moments: &mut Moments) -> Result<()> {
        let begin = Instant::now();
        let (now, next) = match round % 2 {
            0 => (Version::Own, Version::Later),
            _ => (Version::Later, Version::Own),
        };
        if [2, 15].contains(&(round % 20)) {
            self.causeway.stop()?;
            self.causeway.restart_as(now)?;
            self.wait_ready()?;
        }
        self.causeway.kill()?;
        let converted = self.converted();
        let crashes = if [8, 19].contains(&(round % 20)) {
            CRASHES
        } else {
            0
        };
        if crashes > 0 {
            self.crash_loop(moments)?;
        }
        if [5, 11].contains(&(round % 20)) {
            thread::sleep(START_UP + moments.below(ATTEMPT - START_UP));
        }
        self.causeway.restart_as(next)?;
        self.wait_ready()?;
        let converted = self.converted() - converted;
        ensure!(
            crashes > 0 || next == Version::Own || converted == fixture::CHANGED.len(),
            "{converted} maps were converted"
        );
        println!("round {round}: {next:?} after {:?}", begin.elapsed());
        Ok(())
    }

    /// Where the logs stand as a round begins.
    fn mark(&mut self) -> Mark {
        Mark {
            begin: Instant::now(),
            written: self.logs().map(|(_, log)| log.len()),
        }
    }

    /// What tells why a route went: FRR's kernel gives routes up that BIRD keeps, and the reason is a matter of milliseconds.
    fn logs(&mut self) -> [(&'static str, String); 2] {
        [
            ("FRR", self.tors[0].peer.speaker_log()),
            ("causewayd", self.causeway.process().log()),
        ]
    }

    /// Prints in which round what was lost, and what was logged in that round.
    fn explain(&mut self, losses: &[Loss], marks: &[Mark]) {
        let mut rounds = BTreeSet::new();
        for loss in losses {
            let round = marks.partition_point(|mark| mark.begin <= loss.at);
            let at = match round.checked_sub(1) {
                Some(round) => {
                    rounds.insert(round);
                    format!("{:?} into round {round}", loss.at - marks[round].begin)
                }
                None => "before the first round".to_owned(),
            };
            println!("{}, {at}", loss.text);
        }
        let logs = self.logs();
        for round in rounds.into_iter().take(EXPLAINED_ROUNDS) {
            for (n, (who, log)) in logs.iter().enumerate() {
                let end = marks.get(round + 1).map_or(log.len(), |m| m.written[n]);
                println!("── {who} in round {round}");
                let lines = log.get(marks[round].written[n]..end).unwrap_or_default();
                lines
                    .lines()
                    .take(EXPLAINED_LINES)
                    .for_each(|line| println!("{line}"));
            }
        }
    }

    /// Daemons of either version die at any moment of their start. Their peers see one restart: what is stale from one goes
    /// with the next (RFC 4724 4.2), so no session may come up meanwhile.
    fn crash_loop(&mut self, moments: &mut Moments) -> Result<()> {
        let rules = |verb| {
            let ports = ["sport", "dport"];
            let families = ["", "-6 "];
            self.node.ip(families.iter().flat_map(|family| {
                ports.map(|port| format!("{family}rule {verb} ipproto tcp {port} 179 prohibit"))
            }))
        };
        rules("add")?;
        for _ in 0..CRASHES {
            let version = moments.pick([Version::Own, Version::Later]);
            self.causeway.begin(version)?;
            thread::sleep(moments.below(START_UP));
            self.causeway.kill()?;
        }
        rules("del")
    }

    /// How many maps daemons on the node have converted.
    fn converted(&mut self) -> usize {
        let log = self.causeway.process().log();
        let said = |line: &&str| {
            let of = |map: &str| line.contains(&format!("map=\"{map}\""));
            line.contains("a pinned map was converted")
                && fixture::CHANGED.iter().any(|map| of(map))
        };
        log.lines().filter(said).count()
    }

    /// Waits until all sessions are up and have said everything, and the programs and maps are those of the daemon that runs.
    fn wait_ready(&mut self) -> Result<()> {
        self.causeway.wait_established(LIMIT)?;
        for (prefix, _) in LEFT.into_iter().chain(RIGHT) {
            self.causeway.wait_route(prefix, LIMIT)?;
        }
        for (tor, others) in self.tors.iter().zip([RIGHT, LEFT]) {
            for (prefix, _) in others.into_iter().chain(POD) {
                tor.peer.wait_route(prefix, LIMIT)?;
            }
        }
        // From here on it may be killed again: peers have been told everything, and hold nothing for stale.
        wait_until("each End-of-RIB to be sent", LIMIT, || {
            let neighbors = self.causeway.api("/v1/bgp/neighbors")?.to_string();
            let sent = neighbors.matches("\"endOfRibSent\":true").count();
            ensure!(sent == 4, "{neighbors}");
            Ok(())
        })?;
        wait_until("programs and maps of the daemon that runs", LIMIT, || {
            let dataplane = &self.causeway.api("/v1/status")?["dataplane"];
            let uplinks = dataplane["uplinks"].as_array().context("no uplinks")?;
            ensure!(
                uplinks.len() >= 2 && dataplane["error"].is_null(),
                "{dataplane}"
            );
            let own = |uplink: &serde_json::Value| uplink["xdp"] == "native";
            ensure!(
                uplinks.iter().filter(|u| own(u)).count() == 2,
                "{dataplane}"
            );
            let verified = self.causeway.api("/v1/maps/verify")?;
            ensure!(verified["settled"] == true, "{verified}");
            let differences = verified["differences"].as_array();
            ensure!(differences.is_none_or(Vec::is_empty), "{verified}");
            Ok(())
        })
    }

    fn streams(&self) -> Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for (from, to) in self.pairs() {
            for (_, address) in to {
                let address: IpAddr = address.parse()?;
                let receiver = if to == POD { &self.pod } else { &self.right };
                streams.push(Stream {
                    name: format!("{} to {address}", from.name()),
                    into_pod: to == POD,
                    begin: Instant::now(),
                    probes: Probes::start(from, receiver, address, FLOWS, EVERY)?,
                });
            }
        }
        Ok(streams)
    }

    fn forwarded(&self) -> Result<Forwarded> {
        Ok(Forwarded {
            xdp: forwarded_at(&self.node, Hook::Xdp)?,
            into_pod: forwarded_at(&self.node, Hook::TcUplink)?,
            out_of_pod: forwarded_at(&self.node, Hook::TcPod)?,
            kernel: kernel_forwarded(&self.node)?,
        })
    }

    /// Our programs counted what was carried, and the kernel nothing.
    fn went_by_programs(&self, before: Forwarded, carried: Carried) -> Result<()> {
        let after = self.forwarded()?;
        println!("carried {carried:?}; counted before {before:?}, after {after:?}");
        // There and back again.
        ensure!(after.xdp - before.xdp >= 2 * carried.through);
        ensure!(after.into_pod - before.into_pod >= carried.into_pod);
        ensure!(after.out_of_pod - before.out_of_pod >= carried.into_pod);
        ensure!(after.kernel == before.kernel, "the kernel forwarded");
        Ok(())
    }

    /// Writes down what happens to the routes of both ToRs' kernels.
    fn watch_routes(&self) -> Result<Vec<Process>> {
        let watch = |tor: &Tor| {
            let mut command = tor.node.command("ip");
            command.args(["-o", "-ts", "monitor", "route"]);
            Process::start(&tor.node, "monitor", command)
        };
        let watched = self.tors.iter().map(watch).collect::<Result<Vec<_>>>()?;
        // Proven first: it sees a route of ours come and go.
        for (tor, monitor) in self.tors.iter().zip(&watched) {
            wait_until("the monitor to see a route go", LIMIT, || {
                let route = "192.0.2.99/32 dev lo";
                tor.node
                    .ip([format!("route add {route}"), format!("route del {route}")])?;
                ensure!(deleted(monitor).contains("192.0.2.99"), "nothing seen");
                Ok(())
            })?;
        }
        Ok(watched)
    }

    /// Takes the programs off while no daemon is there to put them back.
    fn detach(&mut self) -> Result<()> {
        self.causeway.kill()?;
        self.node
            .run(
                "find",
                ["/sys/fs/bpf/causeway/links", "-type", "f", "-delete"],
            )
            .map(drop)
    }
}

/// Packets by who sent them on.
#[derive(Clone, Copy, Debug)]
struct Forwarded {
    xdp: u64,
    into_pod: u64,
    out_of_pod: u64,
    kernel: u64,
}

/// Probes that arrived, by where to.
#[derive(Clone, Copy, Debug, Default)]
struct Carried {
    through: u64,
    into_pod: u64,
}

struct Stream {
    name: String,
    into_pod: bool,
    begin: Instant,
    probes: Probes,
}

/// Where logs stood as a round began.
struct Mark {
    begin: Instant,
    /// Their lengths, in the order of [`Stage::logs`].
    written: [usize; 2],
}

/// Packets of a stream that are missing in one piece.
struct Loss {
    text: String,
    /// When the first was sent.
    at: Instant,
}

/// Ends all streams.
fn finish(streams: Vec<Stream>) -> Result<(Carried, Vec<Loss>)> {
    streams.iter().for_each(|stream| stream.probes.stop());
    let (mut carried, mut losses) = (Carried::default(), Vec::new());
    for stream in streams {
        let (report, missing) = stream.probes.finish_by_number()?;
        println!("{}: lost {} of {}", stream.name, report.lost(), report.sent);
        let to = if stream.into_pod {
            &mut carried.into_pod
        } else {
            &mut carried.through
        };
        *to += report.arrived;
        for (what, numbers) in [("probes", missing.there), ("echoes", missing.back)] {
            for piece in numbers.chunk_by(|one, next| next - one <= ONE_PIECE) {
                let (first, last) = (piece[0], piece[piece.len() - 1]);
                let (name, n) = (&stream.name, piece.len());
                losses.push(Loss {
                    text: format!("{name}: {n} {what} are missing, {first} to {last}"),
                    at: stream.begin + EVERY * u32::try_from(first)?,
                });
            }
        }
    }
    Ok((carried, losses))
}

/// Neither ToR's kernel was without a route for a moment: graceful restart held them.
fn kept_all_routes(watched: &[Process]) -> Result<()> {
    for monitor in watched {
        let deleted = deleted(monitor);
        for (prefix, _) in LEFT.into_iter().chain(RIGHT).chain(POD) {
            let name = monitor.node().name();
            ensure!(
                !deleted.contains(prefix),
                "{name} lost {prefix}:\n{deleted}"
            );
        }
    }
    Ok(())
}

fn deleted(monitor: &Process) -> String {
    let log = monitor.log();
    let deleted = log.lines().filter(|line| line.contains("Deleted"));
    deleted.collect::<Vec<_>>().join("\n")
}

fn full() -> bool {
    std::env::var("CAUSEWAY_TIER").is_ok_and(|tier| tier == "full")
}

/// When things happen: different at each run, and the same for the same seed.
struct Moments(Random);

impl Moments {
    fn new() -> Self {
        let seed = match std::env::var("CAUSEWAY_SEED") {
            Ok(seed) => seed.parse().expect("CAUSEWAY_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0) % 1_000_000,
        };
        println!("CAUSEWAY_SEED={seed}");
        Self(Random::new(seed))
    }

    fn below(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.0.bits() as f64 / u64::MAX as f64)
    }

    fn pick<T: Copy>(&mut self, from: [T; 2]) -> T {
        *self.0.of(&from)
    }
}

fn start_tor(
    lab: &Lab,
    node: &Node,
    n: usize,
    implementation: Implementation,
    host: &Node,
    behind: [(&str, &str); 2],
) -> Result<Tor> {
    let name = format!("tor{}", n + 1);
    let tor = lab.node(&name)?;
    tor.forwarding()?;
    node.link(&name, &tor, "node")?;
    tor.link("host", host, "eth0")?;
    let (ours, theirs) = link(n);
    node.address(&name, &ours.with_length)?;
    tor.address("node", &theirs.with_length)?;
    let mut router = Router::new(TOR_ASN[n], [10, 0, u8::try_from(n)? + 1, 2]).installing();
    for (prefix, address) in behind {
        let length = prefix.split('/').nth(1).context("a prefix")?;
        let gateway = address.strip_suffix('0').context("it ends with 10")?;
        host.address("eth0", [format!("{address}/{length}")])?;
        tor.address("host", [format!("{gateway}/{length}")])?;
        let family = if prefix.contains(':') { "-6 " } else { "" };
        host.ip([format!("{family}route add default via {gateway}")])?;
        router = router.originate(prefix);
    }
    router.neighbors.extend(sessions(theirs, ours, NODE_ASN));
    let peer = Peer::start(implementation, &tor, router)?;
    Ok(Tor { node: tor, peer })
}

/// One end of a link: its addresses, and with their lengths.
struct End {
    plain: [String; 2],
    with_length: [String; 2],
}

/// The link to a ToR: the node's end and the ToR's.
fn link(n: usize) -> (End, End) {
    let end = |host| {
        let net = n + 1;
        let (v4, v6) = (
            format!("10.0.{net}.{host}"),
            format!("fd00:0:{net}::{host}"),
        );
        End {
            with_length: [format!("{v4}/24"), format!("{v6}/64")],
            plain: [v4, v6],
        }
    };
    (end(1), end(2))
}

/// The sessions of both families over a link, kept while the daemon is gone.
fn sessions(own: End, their: End, asn: u32) -> impl Iterator<Item = Neighbor> {
    let pairs = own.plain.into_iter().zip(their.plain);
    pairs.map(move |(own, their)| Neighbor {
        graceful_restart: true,
        ..Neighbor::new(&own, &their, asn)
    })
}

/// As a CNI does it: a host route to the pod, and a gateway address that all pods share.
fn connect_pod(node: &Node, pod: &Node) -> Result<()> {
    node.link("pod1", pod, "eth0")?;
    node.address("pod1", ["10.244.1.1/32", "fd00:244:1::1/128"])?;
    let [(_, v4), (_, v6)] = POD;
    pod.address("eth0", [format!("{v4}/32"), format!("{v6}/128")])?;
    node.ip([
        format!("route add {v4}/32 dev pod1"),
        format!("-6 route add {v6}/128 dev pod1"),
    ])?;
    pod.ip([
        "route add 10.244.1.1 dev eth0",
        "route add default via 10.244.1.1 dev eth0",
        "-6 route add fd00:244:1::1 dev eth0",
        "-6 route add default via fd00:244:1::1 dev eth0",
    ])
}

fn node_config() -> Config {
    let mut router = Router::new(NODE_ASN, [10, 0, 0, 1]);
    for (prefix, _) in POD {
        router = router.originate(prefix);
    }
    for (n, asn) in TOR_ASN.into_iter().enumerate() {
        let (ours, theirs) = link(n);
        router.neighbors.extend(sessions(ours, theirs, asn));
    }
    Config {
        node_settings: "  podInterfacePrefix: pod\n".to_owned(),
        ..Config::transit(router, ["tor1", "tor2"])
    }
}
