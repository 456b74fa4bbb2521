//! Packets between nodes, counted at both ends.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::Node;

/// Sends `count` echo requests to `address`, 10 ms apart, and returns how many were answered.
pub fn ping(from: &Node, address: IpAddr, count: u32) -> Result<u32> {
    let output = from
        .command("ping")
        .args([
            "-n",
            "-q",
            "-i",
            "0.01",
            "-W",
            "1",
            "-c",
            &count.to_string(),
        ])
        .arg(address.to_string())
        .output()
        .context("cannot start ping")?;
    // It exits 1 when an answer is missing; the count says how many.
    let text = String::from_utf8_lossy(&output.stdout);
    answered(&text).ok_or_else(|| {
        anyhow!(
            "ping {address} on {}: {text}{}",
            from.name(),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn answered(text: &str) -> Option<u32> {
    let line = text.lines().find(|line| line.contains(" received"))?;
    line.split(", ")
        .find_map(|part| part.strip_suffix(" received"))?
        .trim()
        .parse()
        .ok()
}

/// Longest silence within a TCP transfer.
const TCP_SILENCE: Duration = Duration::from_secs(10);

/// Sends `bytes` by TCP from one node to an address of another, checks that every byte arrived as sent, and returns
/// how long it took.
pub fn transfer(from: &Node, to: &Node, address: IpAddr, bytes: u64) -> Result<Duration> {
    let listener = to.enter(|| TcpListener::bind((address, 0)))??;
    let target = listener.local_addr()?;
    let receiver = std::thread::spawn(move || -> Result<u64> {
        let (mut stream, _) = accept(&listener)?;
        stream.set_read_timeout(Some(TCP_SILENCE))?;
        let mut buffer = vec![0; 64 * 1024];
        let mut at = 0;
        loop {
            let n = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            for byte in &buffer[..n] {
                ensure!(*byte == pattern(at), "byte {at} arrived damaged");
                at += 1;
            }
        }
        stream.write_all(&at.to_be_bytes())?;
        Ok(at)
    });
    let sent = from.enter(|| send(target, bytes))?;
    // The listener waits for a bounded time, so that this join does.
    let received = receiver
        .join()
        .map_err(|_| anyhow!("the receiver panicked"))?;
    let took = sent.with_context(|| format!("TCP from {} to {target}", from.name()))?;
    ensure!(received? == bytes, "bytes are missing");
    Ok(took)
}

fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + TCP_SILENCE;
    loop {
        match listener.accept() {
            Ok((stream, from)) => {
                stream.set_nonblocking(false)?;
                return Ok((stream, from));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ensure!(Instant::now() < deadline, "nobody connected");
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn send(target: SocketAddr, bytes: u64) -> Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&target, TCP_SILENCE)?;
    stream.set_write_timeout(Some(TCP_SILENCE))?;
    stream.set_read_timeout(Some(TCP_SILENCE))?;
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(64 * 1024);
        let chunk: Vec<u8> = (at..at + n).map(pattern).collect();
        stream.write_all(&chunk)?;
        at += n;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut count = [0; 8];
    stream.read_exact(&mut count)?;
    ensure!(
        u64::from_be_bytes(count) == bytes,
        "the other side counted otherwise"
    );
    Ok(start.elapsed())
}

/// A byte that tells its place, with a period that no segment size divides.
fn pattern(at: u64) -> u8 {
    (at % 251) as u8
}

/// A flow of which so much is missing in a row has not just met a moment's congestion.
const SILENCE: Duration = Duration::from_secs(1);

/// A steady stream of small UDP packets in many flows, echoed by the receiver.
pub struct Probes {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<(u64, Vec<u64>)>>,
    receiver: JoinHandle<Result<Vec<Arrival>>>,
    every: Duration,
    flows: u64,
}

struct Arrival {
    sequence: u64,
    at: Instant,
}

/// What became of [`Probes`].
#[derive(Clone, Copy, Debug)]
pub struct ProbeReport {
    /// Sent.
    pub sent: u64,
    /// Seen by the receiver.
    pub arrived: u64,
    /// Echoes seen by the sender.
    pub returned: u64,
    /// The longest time for which some flow was silent at the receiver, less the distance at which it sends.
    pub longest_outage: Duration,
    /// The longest run of numbers missing from one flow, as the time in which they were sent.
    pub longest_gap: Duration,
    /// Flows of which a number is missing.
    pub flows_hit: u64,
    /// Flows of which a second's numbers or more are missing in a row.
    pub flows_silent: u64,
}

/// Numbers of [`Probes`] that are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// They did not reach the receiver.
    pub there: Vec<u64>,
    /// They did, and their echo did not come back.
    pub back: Vec<u64>,
}

impl Missing {
    fn new(sent: u64, arrived: &HashSet<u64>, returned: &HashSet<u64>) -> Self {
        Self {
            there: (0..sent).filter(|n| !arrived.contains(n)).collect(),
            back: (0..sent)
                .filter(|n| arrived.contains(n) && !returned.contains(n))
                .collect(),
        }
    }
}

impl ProbeReport {
    /// Packets that did not reach the receiver.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrived)
    }
}

impl Probes {
    /// Starts sending one packet `every` so often, in turn by each of `flows` sockets.
    pub fn start(
        from: &Node,
        to: &Node,
        address: IpAddr,
        flows: u16,
        every: Duration,
    ) -> Result<Self> {
        let server = to.enter(|| UdpSocket::bind((address, 0)))??;
        patient(&server)?;
        let target = server.local_addr()?;
        let sockets = from.enter(|| -> Result<Vec<UdpSocket>> {
            (0..flows)
                .map(|_| {
                    let any = if address.is_ipv4() {
                        "0.0.0.0:0"
                    } else {
                        "[::]:0"
                    };
                    let socket = UdpSocket::bind(any)?;
                    socket.connect(target)?;
                    socket.set_nonblocking(true)?;
                    patient(&socket)?;
                    Ok(socket)
                })
                .collect()
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let sender = std::thread::spawn({
            let stop = stop.clone();
            move || send_probes(&sockets, every, &stop)
        });
        let receiver = std::thread::spawn({
            let stop = stop.clone();
            move || echo_probes(&server, &stop)
        });
        Ok(Self {
            stop,
            sender,
            receiver,
            every,
            flows: u64::from(flows),
        })
    }

    /// Stops sending, waits for what is under way, and counts.
    pub fn finish(self) -> Result<ProbeReport> {
        self.finish_by_number().map(|(report, _)| report)
    }

    /// Stops sending without waiting: several streams then end together.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// [`Self::finish`], with the numbers of those that did not arrive or were not answered.
    pub fn finish_by_number(self) -> Result<(ProbeReport, Missing)> {
        self.stop();
        let (sent, returned) = self
            .sender
            .join()
            .map_err(|_| anyhow!("the sender of probes panicked"))??;
        let arrivals = self
            .receiver
            .join()
            .map_err(|_| anyhow!("the receiver of probes panicked"))??;
        let mut last = vec![None; usize::try_from(self.flows)?];
        let mut longest = Duration::ZERO;
        for arrival in &arrivals {
            let flow = usize::try_from(arrival.sequence % self.flows)?;
            if let Some(before) = last[flow].replace(arrival.at) {
                longest = longest.max(arrival.at.saturating_duration_since(before));
            }
        }
        let spacing = self.every * u32::try_from(self.flows)?;
        let arrived: HashSet<u64> = arrivals.iter().map(|arrival| arrival.sequence).collect();
        let returned: HashSet<u64> = returned.into_iter().collect();
        let missing = runs_missing(sent, self.flows, &arrived);
        let longest_run = missing.iter().copied().max().unwrap_or(0);
        let silent = |run: u64| spacing * u32::try_from(run).unwrap_or(u32::MAX) >= SILENCE;
        let report = ProbeReport {
            sent,
            arrived: arrived.len() as u64,
            returned: returned.len() as u64,
            longest_outage: longest.saturating_sub(spacing),
            longest_gap: spacing * u32::try_from(longest_run)?,
            flows_hit: missing.iter().filter(|run| **run > 0).count() as u64,
            flows_silent: missing.iter().filter(|run| silent(**run)).count() as u64,
        };
        Ok((report, Missing::new(sent, &arrived, &returned)))
    }
}

/// For each flow the longest run of consecutive packets, of `sent` in all, that are not among those `arrived`. Flows take
/// turns.
fn runs_missing(sent: u64, flows: u64, arrived: &HashSet<u64>) -> Vec<u64> {
    let longest = |flow: u64| {
        let (mut run, mut longest) = (0, 0);
        for number in (flow..sent).step_by(usize::try_from(flows).unwrap_or(1)) {
            run = if arrived.contains(&number) {
                0
            } else {
                run + 1
            };
            longest = longest.max(run);
        }
        longest
    };
    (0..flows).map(longest).collect()
}

/// What a sender that had to wait for its CPU makes up for. More in one burst would overflow the ring of a veth.
const LATE: Duration = Duration::from_millis(20);

/// Room for what arrives while a busy machine doesn't let us read: what a socket drops, no network lost. And for what
/// waits to leave: the kernel keeps up to 208 KiB for a neighbour that it asks for, which is as much as a socket may have
/// under way. Sending an echo would then block for three seconds, and nothing would be read.
const ROOM_BYTES: usize = 8 << 20;

fn patient(socket: &UdpSocket) -> Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(socket, sockopt::RcvBufForce, &ROOM_BYTES)?;
    setsockopt(socket, sockopt::SndBufForce, &ROOM_BYTES)?;
    Ok(())
}

/// How long echoes may be under way after the last probe.
const DRAIN: Duration = Duration::from_millis(300);

/// How many were sent, and the numbers of the echoes.
fn send_probes(
    sockets: &[UdpSocket],
    every: Duration,
    stop: &AtomicBool,
) -> Result<(u64, Vec<u64>)> {
    let mut due = Instant::now();
    let (mut sent, mut returned) = (0_u64, Vec::new());
    let mut buffer = [0; 8];
    let mut drained = |returned: &mut Vec<u64>| {
        for socket in sockets {
            while socket.recv(&mut buffer).is_ok() {
                returned.push(u64::from_be_bytes(buffer));
            }
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let socket = &sockets[usize::try_from(sent)? % sockets.len()];
        // No route, or an ICMP error of an earlier packet: this one is lost like any other.
        let _ = socket.send(&sent.to_be_bytes());
        sent += 1;
        drained(&mut returned);
        due += every;
        let now = Instant::now();
        if now > due + LATE {
            due = now;
        }
        std::thread::sleep(due.saturating_duration_since(now));
    }
    let deadline = Instant::now() + DRAIN;
    while Instant::now() < deadline {
        drained(&mut returned);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok((sent, returned))
}

fn echo_probes(server: &UdpSocket, stop: &AtomicBool) -> Result<Vec<Arrival>> {
    server.set_read_timeout(Some(DRAIN))?;
    let mut arrivals = Vec::new();
    let mut buffer = [0; 64];
    loop {
        match server.recv_from(&mut buffer) {
            Ok((8, from)) => {
                let sequence = u64::from_be_bytes(buffer[..8].try_into()?);
                arrivals.push(Arrival {
                    sequence,
                    at: Instant::now(),
                });
                // An echo that finds no way back is counted by its absence.
                let _ = server.send_to(&buffer[..8], from);
            }
            Ok((n, from)) => bail!("{n} bytes from {from} are not a probe"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(arrivals);
                }
            }
            // ICMP errors for echoes.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_run_of_numbers_missing_from_one_flow() {
        // Two flows; 4 and 6 are neighbours in the even one, 3 is alone in the odd one.
        let arrived = HashSet::from([0, 1, 2, 5, 7, 8, 9]);
        assert_eq!(runs_missing(10, 2, &arrived), [2, 1]);
        assert_eq!(runs_missing(10, 2, &(0..10).collect()), [0, 0]);
        assert_eq!(runs_missing(4, 1, &HashSet::new()), [4]);
    }

    #[test]
    fn what_is_missing_is_known_by_number_and_direction() {
        let missing = Missing::new(5, &HashSet::from([0, 1, 3]), &HashSet::from([0, 3]));
        let (there, back) = (vec![2, 4], vec![1]);
        assert_eq!(missing, Missing { there, back });
        let all = (0..5).collect();
        assert_eq!(Missing::new(5, &all, &all), Missing::default());
    }

    #[test]
    fn answers_are_counted_from_what_ping_says() {
        let text = "--- 10.0.0.1 ping statistics ---\n10 packets transmitted, 9 received, 10% packet loss, time 91ms\n";
        assert_eq!(answered(text), Some(9));
        assert_eq!(answered("ping: connect: Network is unreachable"), None);
    }
}
