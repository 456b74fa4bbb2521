//! A peer that says what a recorded one said: real TCP, a hand-made OPEN, and the recorded bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::mrt::RecordedPeer;

/// How a replayer reaches the daemon.
pub(crate) struct Target {
    /// Own address, the one that the daemon knows the peer by.
    pub(crate) local: IpAddr,
    /// The daemon.
    pub(crate) daemon: SocketAddr,
}

/// An established session whose updates are all sent. It stays up, answering keepalives, until dropped.
pub(crate) struct Replayer {
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<Result<()>>>,
}

const HOLD_TIME_SECONDS: u16 = 180;
const DEADLINE: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);

impl Replayer {
    /// Connects, establishes and sends every update of `peer`.
    ///
    /// # Errors
    ///
    /// If the daemon is not reached in a minute, or answers with a NOTIFICATION.
    pub(crate) fn start(target: &Target, peer: &RecordedPeer) -> Result<Self> {
        let mut stream = connect(target)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(&open(peer, target.local))?;
        expect(&mut stream, 1)?;
        stream.write_all(&keepalive())?;
        expect(&mut stream, 4)?;

        let stop = Arc::new(AtomicBool::new(false));
        let drain = Arc::clone(&stop);
        let mut reader = stream.try_clone()?;
        // The daemon also sends: read it away from the start, or both sides block on full buffers.
        let keeper = std::thread::spawn(move || -> Result<()> {
            reader.set_read_timeout(Some(Duration::from_millis(100)))?;
            let mut last_keepalive = Instant::now();
            let mut sink = vec![0; 1 << 16];
            while !drain.load(Ordering::Relaxed) {
                match reader.read(&mut sink) {
                    Ok(0) => bail!("the daemon closed the session"),
                    Ok(_) => {}
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(e) => return Err(e).context("reading from the daemon"),
                }
                if last_keepalive.elapsed() >= KEEPALIVE_EVERY {
                    reader.write_all(&keepalive())?;
                    last_keepalive = Instant::now();
                }
            }
            Ok(())
        });
        let replayer = Self {
            stop,
            keeper: Some(keeper),
        };
        for updates in peer.updates.chunks(512) {
            stream.write_all(&updates.concat())?;
        }
        Ok(replayer)
    }

    /// Ends the session.
    ///
    /// # Errors
    ///
    /// If the daemon ended it before.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let keeper = self.keeper.take().context("finished twice")?;
        keeper
            .join()
            .map_err(|_| anyhow::anyhow!("the replayer's reader panicked"))?
    }
}

impl Drop for Replayer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn connect(target: &Target) -> Result<TcpStream> {
    let give_up = Instant::now() + DEADLINE;
    loop {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(target.daemon),
            socket2::Type::STREAM,
            None,
        )?;
        socket.bind(&SocketAddr::new(target.local, 0).into())?;
        match socket.connect(&target.daemon.into()) {
            Ok(()) => return Ok(socket.into()),
            Err(e) if Instant::now() > give_up => {
                return Err(e).with_context(|| format!("no connection to {}", target.daemon));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn open(peer: &RecordedPeer, local: IpAddr) -> Vec<u8> {
    let mut capabilities = Vec::new();
    for afi in [1_u8, 2] {
        capabilities.extend([1, 4, 0, afi, 0, 1]);
    }
    if peer.four_octet_as {
        capabilities.extend([65, 4]);
        capabilities.extend(peer.asn.to_be_bytes());
    }
    let capabilities_len = u8::try_from(capabilities.len()).expect("three short capabilities");
    let mut body = vec![4];
    body.extend(u16::try_from(peer.asn).unwrap_or(23456).to_be_bytes());
    body.extend(HOLD_TIME_SECONDS.to_be_bytes());
    body.extend(router_id(local));
    body.extend([capabilities_len + 2, 2, capabilities_len]);
    body.extend(capabilities);
    message(1, &body)
}

/// The last four bytes of the address: unique within a lab.
pub(crate) fn router_id(local: IpAddr) -> [u8; 4] {
    match local {
        IpAddr::V4(addr) => addr.octets(),
        IpAddr::V6(addr) => {
            let [.., a, b, c, d] = addr.octets();
            // The first byte keeps it apart from the IPv4 ones and from zero.
            [a | 0xc0, b, c, d]
        }
    }
}

fn keepalive() -> Vec<u8> {
    message(4, &[])
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a small message");
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

fn expect(stream: &mut TcpStream, kind: u8) -> Result<()> {
    let mut header = [0; 19];
    stream
        .read_exact(&mut header)
        .context("waiting for the daemon's message")?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    ensure!(length >= 19, "the daemon sent a message of {length} bytes");
    let mut body = vec![0; length - 19];
    stream.read_exact(&mut body)?;
    ensure!(
        header[18] == kind,
        "message type {} instead of {kind}: {body:?}",
        header[18]
    );
    Ok(())
}
