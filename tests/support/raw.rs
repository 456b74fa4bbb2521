//! BGP byte by byte: a peer that can say anything, for what no real router would say.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::{Node, wait_until};

/// Message types (RFC 4271 4.1).
pub const OPEN: u8 = 1;
/// UPDATE.
pub const UPDATE: u8 = 2;
/// NOTIFICATION.
pub const NOTIFICATION: u8 = 3;
/// KEEPALIVE.
pub const KEEPALIVE: u8 = 4;

/// Longest wait for the other side to say something.
const PATIENCE: Duration = Duration::from_secs(15);

/// A TCP connection to port 179 of a router under test.
pub struct RawPeer {
    stream: TcpStream,
    pending: Vec<u8>,
}

/// A message without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// Type.
    pub kind: u8,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl RawPeer {
    /// Connects from an address of `node`, again and again while it is refused.
    pub fn connect(node: &Node, from: Ipv4Addr, address: Ipv4Addr) -> Result<Self> {
        let target = SocketAddrV4::new(address, 179);
        wait_until(&format!("{target} to accept"), PATIENCE, || {
            Self::over(node.enter(|| connect_from(from, target, None))??)
        })
    }

    /// Connects with a TCP MD5 key (RFC 2385) and goes on to Established.
    pub fn establish_with_key(
        node: &Node,
        from: Ipv4Addr,
        address: Ipv4Addr,
        open: &[u8],
        key: &str,
    ) -> Result<Self> {
        let target = SocketAddrV4::new(address, 179);
        wait_until(&format!("a session with {target}"), PATIENCE, || {
            let stream = node.enter(|| connect_from(from, target, Some(key)))??;
            Self::over(stream)?.opened(open)?.established()
        })
    }

    /// Changes the TCP MD5 key of the connection.
    pub fn set_key(&self, key: &str) -> Result<()> {
        match self.stream.peer_addr()? {
            SocketAddr::V4(peer) => set_md5(&self.stream, peer, key),
            SocketAddr::V6(_) => bail!("raw peers speak IPv4"),
        }
    }

    /// Waits on port 179 of an address of `node` for the router to connect.
    pub fn accept(node: &Node, address: Ipv4Addr) -> Result<Self> {
        let listener = node.enter(|| TcpListener::bind((address, 179)))??;
        listener.set_nonblocking(true)?;
        wait_until(&format!("a connection to {address}"), PATIENCE, || {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Self::over(stream)
        })
    }

    fn over(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            pending: Vec::new(),
        })
    }

    /// Connects until the router answers our OPEN with its own; a router may drop connections while it is idle.
    pub fn connect_and_open(
        node: &Node,
        from: Ipv4Addr,
        address: Ipv4Addr,
        open: &[u8],
    ) -> Result<Self> {
        wait_until(&format!("an OPEN from {address}"), PATIENCE, || {
            Self::connect(node, from, address)?.opened(open)
        })
    }

    fn opened(mut self, open: &[u8]) -> Result<Self> {
        self.send(open)?;
        let first = self.read()?;
        ensure!(first.kind == OPEN, "the first message was {first:?}");
        Ok(self)
    }

    fn established(mut self) -> Result<Self> {
        self.send(&keepalive())?;
        let next = self.read()?;
        ensure!(next.kind == KEEPALIVE, "instead of a KEEPALIVE: {next:?}");
        Ok(self)
    }

    /// Goes on to Established.
    pub fn establish(node: &Node, from: Ipv4Addr, address: Ipv4Addr, open: &[u8]) -> Result<Self> {
        Self::connect_and_open(node, from, address, open)?.established()
    }

    /// The same connection once more, for another thread. What was read and not yet taken stays here.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            pending: Vec::new(),
        })
    }

    /// How long [`Self::read`] waits; then it fails with the system's error.
    pub fn limit_reads(&self, limit: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(limit))?)
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Ends the connection with a TCP reset.
    pub fn reset(self) -> Result<()> {
        let now = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        Ok(setsockopt(&self.stream, sockopt::Linger, &now)?)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// The next message.
    pub fn read(&mut self) -> Result<RawMessage> {
        loop {
            if let Some(message) = take_message(&mut self.pending)? {
                return Ok(message);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the connection was closed without a message"),
                Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
                // With a time limit on the socket, a stop of the machine shows as this.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("nothing was said"),
            }
        }
    }

    /// Reads up to the NOTIFICATION: (code, subcode, data).
    pub fn notification(&mut self) -> Result<(u8, u8, Vec<u8>)> {
        loop {
            let message = self.read()?;
            if message.kind == NOTIFICATION {
                ensure!(
                    message.body.len() >= 2,
                    "a NOTIFICATION of {:?}",
                    message.body
                );
                return Ok((message.body[0], message.body[1], message.body[2..].to_vec()));
            }
        }
    }
}

/// `std` cannot choose the source address, by which a router knows its neighbours.
fn connect_from(from: Ipv4Addr, target: SocketAddrV4, key: Option<&str>) -> Result<TcpStream> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // It limits `connect` too.
    setsockopt(
        &socket,
        sockopt::SendTimeout,
        &TimeVal::seconds(PATIENCE.as_secs().cast_signed()),
    )?;
    bind(
        socket.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(from, 0)),
    )?;
    if let Some(key) = key {
        set_md5(&socket, target, key)?;
    }
    connect(socket.as_raw_fd(), &SockaddrIn::from(target))?;
    Ok(TcpStream::from(socket))
}

/// `struct tcp_md5sig` of linux/tcp.h: the peer as a `sockaddr_storage` of 128 bytes, flags and prefix length, the key's
/// length, an interface, 80 bytes of key.
fn set_md5(socket: &impl AsRawFd, peer: SocketAddrV4, key: &str) -> Result<()> {
    ensure!(key.len() <= 80, "a TCP MD5 key has at most 80 bytes");
    let mut option = [0_u8; 128 + 8 + 80];
    option[..2].copy_from_slice(&u16::try_from(libc::AF_INET)?.to_ne_bytes());
    option[4..8].copy_from_slice(&peer.ip().octets());
    option[130..132].copy_from_slice(&u16::try_from(key.len())?.to_ne_bytes());
    option[136..][..key.len()].copy_from_slice(key.as_bytes());
    // SAFETY: the pointer is valid for reads of the length given, during the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            option.as_ptr().cast(),
            libc::socklen_t::try_from(option.len())?,
        )
    };
    ensure!(done == 0, "TCP_MD5SIG: {}", std::io::Error::last_os_error());
    Ok(())
}

fn take_message(pending: &mut Vec<u8>) -> Result<Option<RawMessage>> {
    if pending.len() < 19 {
        return Ok(None);
    }
    ensure!(
        pending[..16] == [0xff; 16],
        "the marker is {:?}",
        &pending[..16]
    );
    let length = usize::from(u16::from_be_bytes([pending[16], pending[17]]));
    ensure!(length >= 19, "a message of {length} bytes");
    if pending.len() < length {
        return Ok(None);
    }
    let message: Vec<u8> = pending.drain(..length).collect();
    Ok(Some(RawMessage {
        kind: message[18],
        body: message[19..].to_vec(),
    }))
}

/// A message with a right header.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// A KEEPALIVE.
#[must_use]
pub fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// What an OPEN says.
#[derive(Clone, Debug)]
pub struct OpenFields {
    /// Version; 4 is the right one.
    pub version: u8,
    /// AS, sent as AS_TRANS with the capability when it needs four octets.
    pub asn: u32,
    /// Seconds.
    pub hold_time: u16,
    /// Identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities, encoded: code, length, value, one after the other.
    pub capabilities: Vec<u8>,
}

impl OpenFields {
    /// A right OPEN with both unicast families and four-octet ASNs.
    #[must_use]
    pub fn new(asn: u32, router_id: [u8; 4]) -> Self {
        let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
        capabilities.extend(asn.to_be_bytes());
        Self {
            version: 4,
            asn,
            hold_time: 90,
            router_id: router_id.into(),
            capabilities,
        }
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![self.version];
        body.extend(u16::try_from(self.asn).unwrap_or(23456).to_be_bytes());
        body.extend(self.hold_time.to_be_bytes());
        body.extend(self.router_id.octets());
        let length = u8::try_from(self.capabilities.len()).unwrap_or(u8::MAX);
        if length == 0 {
            body.push(0);
        } else {
            body.extend([length + 2, 2, length]);
            body.extend(&self.capabilities);
        }
        message(OPEN, &body)
    }
}

/// An UPDATE that announces IPv4 prefixes with the attributes given, each encoded with its flags and length.
#[must_use]
pub fn update(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut body = length(withdrawn).to_vec();
    body.extend(withdrawn);
    body.extend(length(attributes));
    body.extend(attributes);
    body.extend(announced);
    message(UPDATE, &body)
}

/// An IPv4 prefix of an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawPrefix {
    /// Bits of it.
    pub length: u8,
    /// The address, in host byte order.
    pub address: u32,
}

/// The IPv4 prefixes that a message announces: none, unless it is an UPDATE.
#[must_use]
pub fn announced(message: &RawMessage) -> Vec<RawPrefix> {
    prefixes(message)
        .map(|(_, announced)| announced)
        .unwrap_or_default()
}

/// The IPv4 prefixes that a message withdraws: none, unless it is an UPDATE.
#[must_use]
pub fn withdrawn(message: &RawMessage) -> Vec<RawPrefix> {
    prefixes(message)
        .map(|(withdrawn, _)| withdrawn)
        .unwrap_or_default()
}

fn prefixes(message: &RawMessage) -> Option<(Vec<RawPrefix>, Vec<RawPrefix>)> {
    if message.kind != UPDATE {
        return None;
    }
    let part = |bytes: &'_ [u8]| -> Option<(usize, usize)> {
        let length = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
        Some((2, 2 + usize::from(length)))
    };
    let (from, to) = part(&message.body)?;
    let withdrawn = message.body.get(from..to)?;
    let rest = message.body.get(to..)?;
    let (_, attributes) = part(rest)?;
    Some((split(withdrawn), split(rest.get(attributes..)?)))
}

fn split(mut bytes: &[u8]) -> Vec<RawPrefix> {
    let mut prefixes = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let size = usize::from(length.div_ceil(8)).min(rest.len()).min(4);
        let mut address = [0; 4];
        address[..size].copy_from_slice(&rest[..size]);
        prefixes.push(RawPrefix {
            length: *length,
            address: u32::from_be_bytes(address),
        });
        bytes = &rest[size..];
    }
    prefixes
}

/// UPDATEs for `count` prefixes of 24 bits from `first` on, eight to a message and each message with another
/// MULTI_EXIT_DISC, as a full table is packed.
pub fn table(
    asn: u32,
    next_hop: Ipv4Addr,
    first: Ipv4Addr,
    count: u32,
) -> impl Iterator<Item = Vec<u8>> {
    const PACKED: u32 = 8;
    let attributes = attributes(asn, next_hop);
    (0..count.div_ceil(PACKED)).map(move |n| {
        let mut attributes = attributes.clone();
        attributes.extend([0x80, 4, 4]);
        attributes.extend(n.to_be_bytes());
        let mut announced = Vec::new();
        for prefix in n * PACKED..((n + 1) * PACKED).min(count) {
            announced.push(24);
            announced.extend(&(first.to_bits() + (prefix << 8)).to_be_bytes()[..3]);
        }
        update(&[], &attributes, &announced)
    })
}

/// ORIGIN igp, AS_PATH of one four-octet AS, NEXT_HOP.
#[must_use]
pub fn attributes(asn: u32, next_hop: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    bytes.extend(asn.to_be_bytes());
    bytes.extend([0x40, 3, 4]);
    bytes.extend(next_hop.octets());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_announces_each_prefix_once() {
        let messages: Vec<_> = table(65001, Ipv4Addr::LOCALHOST, Ipv4Addr::new(16, 0, 0, 0), 20)
            .map(|bytes| take_message(&mut bytes.clone()).unwrap().unwrap())
            .collect();
        assert_eq!(messages.len(), 3);
        let prefixes: Vec<_> = messages.iter().flat_map(announced).collect();
        assert_eq!(prefixes.len(), 20);
        for (n, prefix) in (0..).zip(&prefixes) {
            let address = (16 << 24) + (n << 8);
            assert_eq!(
                *prefix,
                RawPrefix {
                    length: 24,
                    address
                }
            );
        }
        assert!(messages.iter().all(|message| withdrawn(message).is_empty()));
    }

    #[test]
    fn messages_are_taken_whole() {
        let mut pending = keepalive();
        pending.extend(&message(NOTIFICATION, &[6, 2])[..20]);
        let first = take_message(&mut pending).unwrap().unwrap();
        assert_eq!(first.kind, KEEPALIVE);
        assert_eq!(take_message(&mut pending).unwrap(), None);
        pending.push(2);
        assert_eq!(take_message(&mut pending).unwrap().unwrap().body, [6, 2]);
    }
}
