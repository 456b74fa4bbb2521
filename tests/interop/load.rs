//! Peers that ask for too much: a table beyond the limit, endless resets, garbage, a thousand connections, a full table
//! that nobody reads.
//!
//! Each case has [bystanders](Bystanders): two more peers whose news must go on to travel as before. Each asserts that
//! the trouble is *contained* (no other session flaps), *visible with its reason*, *without effect on others' latency*
//! (median during the trouble at most ten times the one before, and 50 ms) and *bounded in memory*, and prints what it
//! measured.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use serde_json::Value;
use support::bystander::{Bystanders, End, Latency};
use support::causeway::{Causeway, Config};
use support::peer::{Neighbor, Router};
use support::process::Memory;
use support::raw::{self, OpenFields, RawPeer};
use support::{Lab, Node, wait_until};

use crate::pair::{LIMIT, OUR_ASN};

const US: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 1);
const SPEAKER: End = End {
    address: Ipv4Addr::new(10, 0, 9, 2),
    asn: 65002,
};
const LISTENER: End = End {
    address: Ipv4Addr::new(10, 0, 9, 3),
    asn: 65003,
};
const FEEDER: End = End {
    address: Ipv4Addr::new(10, 0, 9, 4),
    asn: 65004,
};
const TROUBLE: End = End {
    address: Ipv4Addr::new(10, 0, 9, 5),
    asn: 65005,
};
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 66);

/// Where tables begin, far from the addresses of the lab.
const TABLE: Ipv4Addr = Ipv4Addr::new(16, 0, 0, 0);

/// How long the bystanders are watched before the trouble begins.
const CALM: Duration = Duration::from_secs(2);

/// Prefixes of a table that is too large, or that nobody reads.
const MANY: u32 = 1_000_000;

/// Ours with bystanders, and a node from which the trouble comes.
struct Stage {
    us: Causeway,
    bystanders: Bystanders,
    node: Node,
    before: Latency,
    memory_before: Memory,
}

impl Stage {
    /// `change` describes our session with [`TROUBLE`]; `prepare` runs before the first measurement.
    fn new<T>(
        lab: &Lab,
        change: impl FnOnce(&mut Neighbor),
        prepare: impl FnOnce(&mut Causeway, &Node) -> Result<T>,
    ) -> Result<(Self, T)> {
        let (us, node) = (lab.node("us")?, lab.node("them")?);
        us.link("eth0", &node, "eth0")?;
        us.address("eth0", [format!("{US}/24")])?;
        let ends = [SPEAKER, LISTENER, FEEDER, TROUBLE];
        for address in ends.map(|end| end.address).into_iter().chain([STRANGER]) {
            node.address("eth0", [format!("{address}/24")])?;
        }
        let mut router = Router::new(OUR_ASN, [10, 0, 9, 1]);
        for end in ends {
            let mut neighbor = Neighbor::new(&US.to_string(), &end.address.to_string(), end.asn);
            neighbor.passive = true;
            neighbor.hold_time = 30;
            router = router.neighbor(neighbor);
        }
        change(&mut router.neighbors[3]);
        let mut us = Causeway::start(&us, Config::speaker(router))?;
        let prepared = prepare(&mut us, &node)?;
        let bystanders = Bystanders::start(&node, US, SPEAKER, LISTENER)?;
        bystanders.measure(Duration::from_millis(500))?;
        let before = bystanders.measure(CALM)?;
        let memory_before = us.process().memory()?;
        let stage = Self {
            us,
            bystanders,
            node,
            before,
            memory_before,
        };
        Ok((stage, prepared))
    }

    fn open(end: End) -> Vec<u8> {
        OpenFields::new(end.asn, end.address.octets()).encode()
    }

    fn establish(&self, end: End) -> Result<RawPeer> {
        RawPeer::establish(&self.node, end.address, US, &Self::open(end))
    }

    fn trouble(&self) -> Result<Value> {
        self.us.neighbor(&TROUBLE.address.to_string())
    }

    fn refused(&self, reason: &str) -> Result<u64> {
        self.us.metric(&format!(
            "causeway_bgp_refused_connections_total{{reason=\"{reason}\"}}"
        ))
    }

    /// The bystanders' sessions are what they were, their news was as quick as before since `mark`, and no more than
    /// `more_mib` of memory was needed at the worst.
    fn contained(&mut self, what: &str, mark: usize, more_mib: u64) -> Result<()> {
        let during = self.bystanders.since(mark, LIMIT)?;
        let (before, memory) = (self.memory_before, self.us.process().memory()?);
        println!(
            "{what}: news before: {}; during: {during}; memory before {} MiB, after {} MiB, peak {} MiB",
            self.before, before.resident_mib, memory.resident_mib, memory.peak_mib
        );
        let bound = self.before.median() * 10 + Duration::from_millis(50);
        ensure!(
            during.median() <= bound,
            "news took {during}, before {}",
            self.before
        );
        ensure!(
            memory.peak_mib <= before.peak_mib + more_mib,
            "{memory:?}, before {before:?}; {more_mib} MiB more are allowed"
        );
        for end in [SPEAKER, LISTENER] {
            let neighbor = self.us.neighbor(&end.address.to_string())?;
            ensure!(
                neighbor["state"] == "Established" && neighbor["flapCount"] == 0,
                "a bystander's session suffered: {neighbor}"
            );
        }
        self.us.process().check_running()
    }
}

/// Bytes that nobody chose. The seed is printed where they are used.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Up to 4,000 bytes, half of the time behind a right header.
    fn garbage(&mut self) -> Vec<u8> {
        let length = self.next() % 4000;
        let bytes: Vec<_> = (0..length).map(|_| self.next().to_le_bytes()[0]).collect();
        match self.next() % 16 {
            kind @ 0..8 => raw::message(kind.to_le_bytes()[0], &bytes),
            _ => bytes,
        }
    }
}

/// RFC 4486 4: the session ends with Cease/1, stays down until somebody looks, and its routes go. Who sends more than
/// that does not come to mind again by trying again.
#[test]
fn a_table_beyond_the_limit_ends_one_session() {
    const ALLOWED: u32 = 50_000;
    Lab::test(|lab| {
        let limit = |neighbor: &mut Neighbor| neighbor.max_prefixes = Some(ALLOWED);
        let (mut stage, ()) = Stage::new(lab, limit, |_, _| Ok(()))?;
        let mark = stage.bystanders.mark();
        let mut peer = stage.establish(TROUBLE)?;
        let mut sender = peer.try_clone()?;
        let flood = std::thread::spawn(move || {
            raw::table(TROUBLE.asn, TROUBLE.address, TABLE, MANY)
                .take_while(|update| sender.send(update).is_ok())
                .count()
        });
        let (code, subcode, data) = peer.notification()?;
        ensure!((code, subcode) == (6, 1), "NOTIFICATION {code}/{subcode}");
        // RFC 4486 4: family and limit.
        let mut wanted = vec![0, 1, 1];
        wanted.extend(ALLOWED.to_be_bytes());
        ensure!(data == wanted, "its data is {data:?}");
        drop(peer);
        let taken = flood.join().expect("sending does not panic");
        println!("{taken} UPDATEs of {} were sent", MANY / 8);

        // It tries again, with all that it has.
        let again = Instant::now();
        while again.elapsed() < Duration::from_secs(3) {
            let mut peer = RawPeer::connect(&stage.node, TROUBLE.address, US)?;
            let _ = peer.send(&Stage::open(TROUBLE));
            let _ = peer.send(&raw::keepalive());
            for update in raw::table(TROUBLE.asn, TROUBLE.address, TABLE, MANY) {
                if peer.send(&update).is_err() {
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        wait_until("the routes to go", LIMIT, || {
            let routes = stage
                .us
                .metric("causeway_bgp_routes{family=\"ipv4-unicast\"}")?;
            ensure!(routes < 1000, "{routes} routes");
            Ok(())
        })?;
        let neighbor = stage.trouble()?;
        ensure!(neighbor["establishedCount"] == 1, "{neighbor}");
        let reason = neighbor["lastReset"]["reason"].to_string();
        ensure!(
            reason.contains(&format!("more than {ALLOWED}")),
            "{neighbor}"
        );
        let sent = neighbor["lastReset"]["sent"].to_string();
        ensure!(
            sent.contains("Maximum Number of Prefixes Reached"),
            "{neighbor}"
        );
        ensure!(stage.refused("idle-hold")? > 0, "no refusal is counted");
        stage.contained("a table beyond the limit", mark, 40)
    });
}

/// RFC 4271 8.1.1, DampPeerOscillations: each reset in a row makes the pause before the next session twice as long.
#[test]
fn a_peer_that_resets_every_second_is_held_back() {
    const WATCHED: Duration = Duration::from_secs(20);
    Lab::test(|lab| {
        let patient = |neighbor: &mut Neighbor| neighbor.ours.idle_hold_max = 60;
        let (mut stage, ()) = Stage::new(lab, patient, |_, _| Ok(()))?;
        let mark = stage.bystanders.mark();
        let (start, mut attempts) = (Instant::now(), 0);
        let mut established = Vec::new();
        while start.elapsed() < WATCHED {
            attempts += 1;
            if let Ok(mut peer) = attempt(&stage) {
                established.push(start.elapsed());
                for update in raw::table(TROUBLE.asn, TROUBLE.address, TABLE, 1000) {
                    peer.send(&update)?;
                }
                std::thread::sleep(Duration::from_secs(1));
                peer.reset()?;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("{attempts} attempts, sessions at {established:.1?}");
        // At 0, 1 (no pause after the first error), then after pauses of 1, 2, 4 and 8 seconds, less a quarter.
        ensure!(
            (3..=7).contains(&established.len()),
            "sessions at {established:?}"
        );
        let gaps: Vec<_> = established.windows(2).map(|two| two[1] - two[0]).collect();
        for three in gaps[1..].windows(2) {
            ensure!(three[1] > three[0], "the pauses do not grow: {gaps:?}");
        }
        let neighbor = stage.trouble()?;
        ensure!(
            neighbor["flapCount"] == established.len() as u64,
            "{neighbor}"
        );
        let reason = neighbor["lastReset"]["reason"].to_string();
        ensure!(reason.contains("connection lost"), "{neighbor}");
        let flaps = stage
            .us
            .metric("causeway_bgp_session_flaps_total{peer=\"peer3\"}")?;
        ensure!(flaps == established.len() as u64, "{flaps} flaps counted");
        ensure!(stage.refused("idle-hold")? > 0, "no refusal is counted");
        let log = stage.us.process().log();
        ensure!(log.contains("held idle"), "{log}");
        stage.contained("a peer that resets every second", mark, 20)
    });
}

/// One attempt to have a session, without patience.
fn attempt(stage: &Stage) -> Result<RawPeer> {
    let mut peer = RawPeer::connect(&stage.node, TROUBLE.address, US)?;
    peer.send(&Stage::open(TROUBLE))?;
    peer.send(&raw::keepalive())?;
    for kind in [raw::OPEN, raw::KEEPALIVE] {
        let message = peer.read()?;
        ensure!(message.kind == kind, "{message:?}");
    }
    Ok(peer)
}

/// From a stranger, from a peer before its OPEN, after it, and within a session.
#[test]
fn garbage_ends_with_a_reason_and_nothing_else() {
    const ROUNDS: u64 = 300;
    let seed = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(1, |time| u64::from(time.subsec_nanos()) | 1);
    println!("seed {seed}");
    Lab::test(|lab| {
        let (mut stage, ()) = Stage::new(lab, |_| {}, |_, _| Ok(()))?;
        let files = stage.us.process().open_files()?;
        let mark = stage.bystanders.mark();
        let mut noise = Noise(seed);
        let (mut told, mut established) = (0, 0);
        for round in 0..ROUNDS {
            let mut stranger = RawPeer::connect(&stage.node, STRANGER, US)?;
            // It may be turned away while it speaks.
            let _ = stranger.send(&noise.garbage());
            if let Ok((code, subcode, _)) = stranger.notification() {
                ensure!(
                    (code, subcode) == (6, 5),
                    "a stranger was told {code}/{subcode}"
                );
            }

            // Without the pause that it has earned.
            let peer = TROUBLE.address.to_string();
            stage.us.ask(["bgp", "neighbor", "enable", &peer])?;
            let mut peer = RawPeer::connect(&stage.node, TROUBLE.address, US)?;
            let mut bytes = Vec::new();
            if round % 3 > 0 {
                bytes.extend(Stage::open(TROUBLE));
            }
            if round % 3 > 1 {
                bytes.extend(raw::keepalive());
            }
            bytes.extend(noise.garbage());
            let _ = peer.send(&bytes);
            let _ = peer.stream().shutdown(std::net::Shutdown::Write);
            let (mut last, mut kept_alive) = (None, false);
            // Closed or reset without a word: what it sent was short, or harmless.
            while let Ok(message) = peer.read() {
                kept_alive |= message.kind == raw::KEEPALIVE;
                last = Some(message);
            }
            established += u32::from(kept_alive && round % 3 > 1);
            if let Some(message) = last.filter(|message| message.kind == raw::NOTIFICATION) {
                let code = message.body.first().copied().unwrap_or_default();
                ensure!((1..=6).contains(&code), "{message:?}");
                told += 1;
            }
        }
        println!("{told} NOTIFICATIONs to the peer, {established} sessions before the garbage");
        ensure!(
            told > ROUNDS / 2 && established > 0,
            "{told} NOTIFICATIONs, {established} sessions"
        );
        let refused = stage.refused("unknown-peer")?;
        ensure!(refused == ROUNDS, "{refused} strangers were refused");
        let neighbor = stage.trouble()?;
        let reason = neighbor["lastReset"]["reason"].as_str();
        ensure!(reason.is_some_and(|text| !text.is_empty()), "{neighbor}");
        // A line for each stranger would be an attack on the disk: at most ten a second.
        let log = stage.us.process().log();
        let lines = log
            .lines()
            .filter(|line| line.contains("not a configured peer"))
            .count();
        ensure!(
            (1..=ROUNDS as usize).contains(&lines),
            "{lines} lines about strangers"
        );
        wait_until("all connections to be closed", LIMIT, || {
            let now = stage.us.process().open_files()?;
            ensure!(now <= files + 4, "{now} open files, {files} before");
            Ok(())
        })?;
        stage.contained("garbage", mark, 20)?;
        // Who comes to its senses is welcome again.
        let peer = TROUBLE.address.to_string();
        stage.us.ask(["bgp", "neighbor", "enable", &peer])?;
        stage.establish(TROUBLE).map(drop)
    });
}

/// Connections at once, in one of the storms below.
const STORM: usize = 1000;

#[test]
fn a_thousand_connections_of_a_stranger_are_turned_away() {
    Lab::test(|lab| {
        let (mut stage, ()) = Stage::new(lab, |_| {}, |_, _| Ok(()))?;
        let files = stage.us.process().open_files()?;
        let mark = stage.bystanders.mark();
        let storm = storm(&stage.node, STRANGER)?;
        wait_until("all to be refused", LIMIT, || {
            let refused = stage.refused("unknown-peer")?;
            ensure!(refused == STORM as u64, "{refused} were refused");
            Ok(())
        })?;
        drop(storm);
        wait_until("all to be closed", LIMIT, || {
            let now = stage.us.process().open_files()?;
            ensure!(now <= files + 4, "{now} open files, {files} before");
            Ok(())
        })?;
        let log = stage.us.process().log();
        let lines = log
            .lines()
            .filter(|line| line.contains("not a configured peer"))
            .count();
        ensure!((1..=100).contains(&lines), "{lines} lines in the log");
        stage.bystanders.measure(Duration::from_secs(1))?;
        stage.contained("1,000 connections of a stranger", mark, 20)
    });
}

/// RFC 4271 6.8: the session that stands wins over what comes later, however much it is.
#[test]
fn a_thousand_connections_of_a_peer_leave_its_session_alone() {
    Lab::test(|lab| {
        let (mut stage, ()) = Stage::new(lab, |_| {}, |_, _| Ok(()))?;
        let mut peer = stage.establish(TROUBLE)?;
        peer.send(&raw::update(
            &[],
            &raw::attributes(TROUBLE.asn, TROUBLE.address),
            &[24, 203, 0, 113],
        ))?;
        stage.us.wait_route("203.0.113.0/24", LIMIT)?;
        let files = stage.us.process().open_files()?;
        let mark = stage.bystanders.mark();
        let mut storm = storm(&stage.node, TROUBLE.address)?;
        // Half of them speak.
        for stream in storm.iter_mut().take(STORM / 2) {
            let _ = stream.write_all(&Stage::open(TROUBLE));
        }
        wait_until("all but one to be refused", LIMIT, || {
            let refused = stage.refused("duplicate")?;
            // One at a time may say who it is; the session's own rule ends it then.
            ensure!(refused >= STORM as u64 * 9 / 10, "{refused} were refused");
            Ok(())
        })?;
        peer.send(&raw::keepalive())?;
        drop(storm);
        wait_until("all to be closed", LIMIT, || {
            let now = stage.us.process().open_files()?;
            ensure!(now <= files + 4, "{now} open files, {files} before");
            Ok(())
        })?;
        let neighbor = stage.trouble()?;
        ensure!(
            neighbor["state"] == "Established" && neighbor["flapCount"] == 0,
            "{neighbor}"
        );
        stage
            .us
            .wait_route("203.0.113.0/24", Duration::ZERO)
            .map(drop)?;
        stage.bystanders.measure(Duration::from_secs(1))?;
        stage.contained("1,000 connections of a peer", mark, 20)
    });
}

/// [`STORM`] connections, all begun before the first is waited for.
fn storm(node: &Node, from: Ipv4Addr) -> Result<Vec<std::net::TcpStream>> {
    let target = SockaddrIn::from(SocketAddrV4::new(US, 179));
    let begun = node.enter(|| -> Result<Vec<_>> {
        (0..STORM)
            .map(|_| {
                let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
                let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
                setsockopt(&socket, sockopt::ReuseAddr, &true)?;
                bind(
                    socket.as_raw_fd(),
                    &SockaddrIn::from(SocketAddrV4::new(from, 0)),
                )?;
                match connect(socket.as_raw_fd(), &target) {
                    Ok(()) | Err(Errno::EINPROGRESS) => Ok(std::net::TcpStream::from(socket)),
                    Err(error) => bail!("cannot connect: {error}"),
                }
            })
            .collect()
    })??;
    wait_until("the connections to stand", LIMIT, || {
        let waiting = begun
            .iter()
            // Refused ones are gone again, which is an end of waiting too.
            .filter(|stream| stream.peer_addr().is_err() && matches!(stream.take_error(), Ok(None)))
            .count();
        ensure!(waiting == 0, "{waiting} are still waiting");
        Ok(())
    })?;
    Ok(begun)
}

/// RFC 9687: a peer that keeps its side alive and reads nothing is given up by our send hold timer. Until then what waits
/// for it is bounded, however much there is to say.
#[test]
fn a_peer_that_stops_reading_is_given_up() {
    const SEND_HOLD: u16 = 8;
    Lab::test(|lab| {
        let impatient = |neighbor: &mut Neighbor| {
            neighbor.hold_time = 3;
            neighbor.ours.send_hold = Some(SEND_HOLD);
        };
        let (mut stage, mut feeder) = Stage::new(lab, impatient, |us, node| {
            let feeder = RawPeer::establish(node, FEEDER.address, US, &Stage::open(FEEDER))?;
            let mut feeder = Feeder::new(feeder)?;
            feeder.announce(MANY)?;
            wait_until("the table", Duration::from_secs(120), || {
                let routes = us.metric("causeway_bgp_routes{family=\"ipv4-unicast\"}")?;
                ensure!(routes >= MANY.into(), "{routes} routes");
                Ok(())
            })?;
            Ok(feeder)
        })?;
        let mark = stage.bystanders.mark();
        let mut peer = stage.establish(TROUBLE)?;
        let started = Instant::now();
        let mut worst = 0;
        let reason = loop {
            // It is alive and well, but for its ears.
            let alive = peer.send(&raw::keepalive());
            let neighbor = stage.trouble()?;
            let waiting = neighbor["inFlightBytes"].as_u64().unwrap_or(0);
            worst = worst.max(waiting);
            let reason = neighbor["lastReset"]["reason"].as_str();
            if let Some(reason) = reason.filter(|_| neighbor["state"] != "Established") {
                break reason.to_owned();
            }
            alive.with_context(|| neighbor.to_string())?;
            ensure!(
                started.elapsed() < Duration::from_secs(60),
                "it was never given up: {neighbor}"
            );
            // The world goes on: more to say to it each time.
            feeder.announce(2000)?;
            std::thread::sleep(Duration::from_millis(500));
        };
        println!(
            "given up after {:.1?}: {reason}; at most {worst} bytes waited for it",
            started.elapsed()
        );
        ensure!(reason.contains("send hold timer expired"), "{reason}");
        ensure!(
            started.elapsed() >= Duration::from_secs(u64::from(SEND_HOLD) - 1),
            "too soon"
        );
        // config::limits::IN_FLIGHT_BYTES, and one portion beyond it.
        ensure!(
            worst > 0 && worst <= 640 * 1024,
            "{worst} bytes waited for it"
        );
        let log = stage.us.process().log();
        ensure!(log.contains("send hold timer expired"), "{log}");
        stage.contained("a full table that nobody reads", mark, 30)
    });
}

/// A peer with a table. It reads what it is sent and keeps its session alive.
struct Feeder {
    peer: RawPeer,
    round: u32,
}

impl Feeder {
    fn new(mut reading: RawPeer) -> Result<Self> {
        let mut peer = reading.try_clone()?;
        // Both end with the connection.
        std::thread::spawn(move || while reading.read().is_ok() {});
        peer.send(&raw::keepalive())?;
        Ok(Self { peer, round: 0 })
    }

    /// Announces the first `count` prefixes of the table, each time with other attributes.
    fn announce(&mut self, count: u32) -> Result<()> {
        self.round += 1;
        let next_hop = Ipv4Addr::from(FEEDER.address.to_bits() + self.round % 2);
        for update in raw::table(FEEDER.asn, next_hop, TABLE, count) {
            self.peer.send(&update)?;
        }
        self.peer.send(&raw::keepalive())
    }
}
