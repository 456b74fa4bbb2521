//! The blasters: sessions that send prebuilt bytes as fast as the daemon takes them.
//!
//! One thread drives them all with poll(2), so that thirty blasters cost no more than one. What the daemon sends to
//! them is read and dropped, but for NOTIFICATION.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use crate::bgp::wire::{self, Identity};

const BGP_PORT: u16 = 179;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_RETRY: Duration = Duration::from_millis(50);
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// At most this much per write, so that a probe never waits behind a whole table.
const WRITE_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 256 << 10;

/// Connects to the daemon and exchanges OPEN and KEEPALIVE; tries again until the daemon is ready.
pub(crate) fn establish(identity: Identity, daemon: SocketAddr) -> Result<TcpStream> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        match handshake(identity, daemon) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!(
                    "no session of AS {} ({}) with the daemon within {} s",
                    identity.asn,
                    identity.addr,
                    CONNECT_TIMEOUT.as_secs()
                )));
            }
            Err(_) => std::thread::sleep(CONNECT_RETRY),
        }
    }
}

/// The daemon's BGP port at `addr`.
pub(crate) fn bgp_socket(addr: std::net::Ipv4Addr) -> SocketAddr {
    (addr, BGP_PORT).into()
}

/// Established sessions, numbered from 1.
#[derive(Debug)]
pub(crate) struct Fleet {
    blasters: Vec<Blaster>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Blaster {
    /// Absent after [`Fleet::close`].
    stream: Option<TcpStream>,
    queue: VecDeque<(Arc<[u8]>, usize)>,
    last_sent: Instant,
    unread: Vec<u8>,
}

impl Fleet {
    /// Takes over established sessions.
    pub(crate) fn new(streams: Vec<TcpStream>) -> Result<Self> {
        let blasters = streams
            .into_iter()
            .map(|stream| {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Blaster {
                    stream: Some(stream),
                    queue: VecDeque::new(),
                    last_sent: Instant::now(),
                    unread: Vec::new(),
                })
            })
            .collect::<std::io::Result<_>>()
            .context("prepare the blasters' sockets")?;
        Ok(Self {
            blasters,
            scratch: vec![0; READ_BYTES],
        })
    }

    /// Queues bytes for blaster `number`.
    pub(crate) fn queue(&mut self, number: u8, bytes: Arc<[u8]>) {
        self.blasters[usize::from(number) - 1]
            .queue
            .push_back((bytes, 0));
    }

    /// Closes the session of blaster `number` as a killed process would.
    pub(crate) fn close(&mut self, number: u8) {
        let blaster = &mut self.blasters[usize::from(number) - 1];
        blaster.queue.clear();
        blaster.stream = None;
    }

    /// Everything queued was handed to the kernel.
    pub(crate) fn sent(&self) -> bool {
        self.blasters.iter().all(|blaster| blaster.queue.is_empty())
    }

    /// Sends and receives until nothing moves for `timeout`, at most once around.
    pub(crate) fn pump(&mut self, timeout: Duration) -> Result<()> {
        let now = Instant::now();
        for blaster in &mut self.blasters {
            if blaster.queue.is_empty() && now - blaster.last_sent > KEEPALIVE_INTERVAL {
                blaster.queue.push_back((wire::keepalive().into(), 0));
            }
        }
        let open = || {
            self.blasters
                .iter()
                .enumerate()
                .filter(|(_, blaster)| blaster.stream.is_some())
        };
        let numbers: Vec<usize> = open().map(|(number, _)| number).collect();
        let mut descriptors: Vec<PollFd<'_>> = open()
            .filter_map(|(_, blaster)| {
                let mut events = PollFlags::POLLIN;
                events.set(PollFlags::POLLOUT, !blaster.queue.is_empty());
                Some(PollFd::new(blaster.stream.as_ref()?.as_fd(), events))
            })
            .collect();
        nix::poll::ppoll(&mut descriptors, Some(TimeSpec::from(timeout)), None)
            .context("poll the blasters")?;
        let ready: Vec<PollFlags> = descriptors
            .iter()
            .map(|descriptor| descriptor.revents().unwrap_or(PollFlags::empty()))
            .collect();
        for (number, events) in numbers.into_iter().zip(ready) {
            let blaster = &mut self.blasters[number];
            if events.contains(PollFlags::POLLOUT) {
                blaster
                    .write()
                    .with_context(|| format!("blaster {}", number + 1))?;
            }
            if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                blaster
                    .read(&mut self.scratch)
                    .with_context(|| format!("blaster {}", number + 1))?;
            }
        }
        Ok(())
    }
}

impl Blaster {
    fn write(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let Some((bytes, at)) = self.queue.front_mut() else {
            return Ok(());
        };
        let end = bytes.len().min(*at + WRITE_BYTES);
        match stream.write(&bytes[*at..end]) {
            Ok(count) => *at += count,
            Err(error) if again(&error) => return Ok(()),
            Err(error) => return Err(error).context("write"),
        }
        self.last_sent = Instant::now();
        if *at == bytes.len() {
            self.queue.pop_front();
        }
        Ok(())
    }

    fn read(&mut self, scratch: &mut [u8]) -> Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let count = match stream.read(scratch) {
            Ok(0) => bail!("the daemon closed the session"),
            Ok(count) => count,
            Err(error) if again(&error) => return Ok(()),
            Err(error) => return Err(error).context("read"),
        };
        self.unread.extend_from_slice(&scratch[..count]);
        let mut start = 0;
        while let Some((length, kind)) = wire::header(&self.unread[start..])? {
            if self.unread.len() < start + length {
                break;
            }
            if kind == wire::NOTIFICATION {
                let body = &self.unread[start + wire::HEADER_LEN..start + length];
                bail!("the daemon sent NOTIFICATION {body:02x?}");
            }
            start += length;
        }
        self.unread.drain(..start);
        Ok(())
    }
}

fn handshake(identity: Identity, daemon: SocketAddr) -> Result<TcpStream> {
    let mut stream =
        TcpStream::connect_timeout(&daemon, MESSAGE_TIMEOUT).context("connect to port 179")?;
    stream.set_read_timeout(Some(MESSAGE_TIMEOUT))?;
    stream
        .write_all(&wire::open(identity))
        .context("send OPEN")?;
    expect(&mut stream, wire::OPEN).context("wait for OPEN")?;
    stream
        .write_all(&wire::keepalive())
        .context("send KEEPALIVE")?;
    expect(&mut stream, wire::KEEPALIVE).context("wait for KEEPALIVE")?;
    Ok(stream)
}

fn expect(stream: &mut TcpStream, expected: u8) -> Result<()> {
    let mut header = [0; wire::HEADER_LEN];
    stream.read_exact(&mut header)?;
    let (length, kind) = wire::header(&header)?.context("a whole header")?;
    let mut body = vec![0; length - wire::HEADER_LEN];
    stream.read_exact(&mut body)?;
    if kind != expected {
        bail!("received a message of type {kind}: {body:02x?}");
    }
    Ok(())
}

fn again(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
