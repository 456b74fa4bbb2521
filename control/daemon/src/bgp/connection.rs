//! One TCP connection: made, read and decoded, written, closed.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use causeway_bgp::config::{Md5Key, TransportOptions};
use causeway_bgp::types::ConnId;
use causeway_bgp::wire::Decoder;
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::Event;
use crate::{limits, socket};

/// Pieces handed to the kernel at once.
const PIECES: usize = 64;

/// A connection or the attempt to make one. Dropping it ends both.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Option<Arc<TcpStream>>,
    /// The attempt, then the reader.
    task: Option<AbortHandle>,
    /// What the socket did not take. The speaker keeps it below `limits::IN_FLIGHT_BYTES`.
    unsent: VecDeque<Bytes>,
    /// Somebody waits for the socket to take more.
    waiter: Option<AbortHandle>,
}

impl Connection {
    /// Begins to connect; the outcome comes as an event.
    pub(super) fn connect(
        conn: ConnId,
        (remote, local): (SocketAddr, Option<IpAddr>),
        options: TransportOptions,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let task = tokio::spawn(async move {
            let attempt = timeout(limits::CONNECT_TIME, connect(remote, local, &options));
            let outcome = attempt
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let event = match outcome {
                Ok(stream) => Event::Connected { conn, stream },
                Err(error) => Event::ConnectFailed {
                    conn,
                    reason: error.to_string().into(),
                },
            };
            // The speaker may have ended.
            let _ = events.send(event).await;
        });
        Self {
            stream: None,
            task: Some(task.abort_handle()),
            unsent: VecDeque::new(),
            waiter: None,
        }
    }

    /// A connection that stands. It is not read before [`Self::start`].
    pub(super) fn open(_: ConnId, stream: TcpStream) -> Self {
        Self {
            stream: Some(Arc::new(stream)),
            task: None,
            unsent: VecDeque::new(),
            waiter: None,
        }
    }

    /// Sets the options of the peer and begins to read; `recorded`: what was read is handed over beside what it decodes to.
    ///
    /// # Errors
    ///
    /// What the kernel says to the options.
    pub(super) fn start(
        &mut self,
        conn: ConnId,
        decoder: Decoder,
        options: &TransportOptions,
        events: mpsc::Sender<Event>,
        recorded: bool,
    ) -> io::Result<()> {
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        let v4 = stream.peer_addr()?.is_ipv4();
        socket::apply(stream.as_raw_fd(), v4, options)?;
        let reader = read(conn, stream.clone(), decoder, events, recorded);
        self.task = Some(tokio::spawn(reader).abort_handle());
        Ok(())
    }

    /// Changes the MD5 key.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(super) fn rekey(&self, key: Option<&Md5Key>) -> io::Result<()> {
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        let peer = socket::host(stream.peer_addr()?.ip());
        socket::md5(stream.as_raw_fd(), peer, key)
    }

    /// Writes what was held back and then `bytes`. Returns how many bytes the socket took; asks to be called again when it
    /// takes more.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub(super) fn write(
        &mut self,
        conn: ConnId,
        bytes: Option<Bytes>,
        events: &mpsc::Sender<Event>,
    ) -> io::Result<usize> {
        let Some(stream) = &self.stream else {
            return Ok(0);
        };
        let resumed = bytes.is_none();
        self.unsent.extend(bytes);
        if resumed {
            self.waiter = None;
        } else if self.waiter.is_some() {
            return Ok(0);
        }
        let mut written = 0;
        loop {
            match write_some(stream, &mut self.unsent) {
                Ok(0) => return Ok(written),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.unsent.clear();
                    return Err(error);
                }
            }
        }
        let (stream, events) = (stream.clone(), events.clone());
        let waiter = tokio::spawn(async move {
            // An error shows at the next write.
            let _ = stream.writable().await;
            let _ = events.send(Event::Writable { conn }).await;
        });
        self.waiter = Some(waiter.abort_handle());
        Ok(written)
    }

    /// Ends the connection: at once with a reset, or after the last bytes.
    pub(super) fn close(mut self, abort: bool, lingering: &mut JoinSet<()>) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        if abort {
            // The reset frees what the kernel still holds for a peer that doesn't read.
            let _ = socket2::SockRef::from(&*stream).set_linger(Some(core::time::Duration::ZERO));
            return;
        }
        let unsent = core::mem::take(&mut self.unsent);
        lingering.spawn(async move {
            let _ = timeout(limits::LINGER, linger(&stream, unsent)).await;
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in self.task.iter().chain(&self.waiter) {
            task.abort();
        }
    }
}

async fn connect(
    remote: SocketAddr,
    local: Option<IpAddr>,
    options: &TransportOptions,
) -> io::Result<TcpStream> {
    let socket = socket::outgoing(remote, local, options)?;
    TcpSocket::from_std_stream(socket.into())
        .connect(remote)
        .await
}

/// Reads and decodes until the end or an error of either kind.
async fn read(
    conn: ConnId,
    stream: Arc<TcpStream>,
    mut decoder: Decoder,
    events: mpsc::Sender<Event>,
    recorded: bool,
) {
    let turns = Arc::new(Semaphore::new(limits::BATCHES_PER_CONNECTION));
    let mut buffer = BytesMut::new();
    loop {
        let closed = match read_some(&stream, &mut buffer).await {
            Ok(0) => Some("".into()),
            Ok(_) => None,
            Err(error) => Some(error.to_string().into()),
        };
        if let Some(reason) = closed {
            let _ = events.send(Event::Closed { conn, reason }).await;
            return;
        }
        loop {
            let mut bytes = if recorded {
                buffer.to_vec()
            } else {
                Vec::new()
            };
            let (messages, end) = decode(&mut decoder, &mut buffer);
            let (more, error) = match end {
                End::Empty => (false, None),
                End::Full => (true, None),
                End::Error(error) => (false, Some(error)),
            };
            let last = error.is_some();
            if !last {
                bytes.truncate(bytes.len().saturating_sub(buffer.len()));
            }
            if !messages.is_empty() || last {
                let Ok(permit) = turns.clone().acquire_owned().await else {
                    return;
                };
                let event = Event::Received {
                    conn,
                    messages,
                    error,
                    bytes,
                    permit,
                };
                if events.send(event).await.is_err() || last {
                    return;
                }
            }
            if !more {
                break;
            }
        }
    }
}

async fn read_some(stream: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        buffer.reserve(limits::READ_BYTES);
        let room = buffer.capacity() - buffer.len();
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(read) if (1..room).contains(&read) => {
                // The socket is empty: wait for it at once instead of asking again and being told so.
                let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _ = stream.try_io(Interest::READABLE, empty);
                return Ok(read);
            }
            outcome => return outcome,
        }
    }
}

enum End {
    /// More bytes are needed.
    Empty,
    /// The batch is full.
    Full,
    /// The session ends.
    Error(causeway_bgp::wire::MessageError),
}

fn decode(decoder: &mut Decoder, buffer: &mut BytesMut) -> (Vec<causeway_bgp::wire::Decoded>, End) {
    let mut messages = Vec::new();
    while messages.len() < limits::MESSAGES_PER_BATCH {
        match decoder.decode(buffer) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, End::Empty),
            Err(error) => return (messages, End::Error(error)),
        }
    }
    (messages, End::Full)
}

/// One write of as much as there is. 0: there is nothing.
fn write_some(stream: &TcpStream, unsent: &mut VecDeque<Bytes>) -> io::Result<usize> {
    if unsent.is_empty() {
        return Ok(0);
    }
    let pieces: Vec<_> = unsent
        .iter()
        .take(PIECES)
        .map(|b| IoSlice::new(b))
        .collect();
    let written = stream.try_write_vectored(&pieces)?;
    let mut left = written;
    while let Some(first) = unsent.front_mut() {
        let n = left.min(first.len());
        first.advance(n);
        left -= n;
        if !first.is_empty() {
            break;
        }
        unsent.pop_front();
    }
    Ok(written)
}

/// Sends the rest, then waits for the peer to close: closing a socket with unread bytes would reset the connection, and
/// the peer might never see our NOTIFICATION.
async fn linger(stream: &TcpStream, mut unsent: VecDeque<Bytes>) {
    while !unsent.is_empty() {
        match write_some(stream, &mut unsent) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stream.writable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
            Ok(_) => {}
        }
    }
    if socket2::SockRef::from(stream)
        .shutdown(std::net::Shutdown::Write)
        .is_err()
    {
        return;
    }
    let mut discarded = [0; 4096];
    while stream.ready(Interest::READABLE).await.is_ok() {
        match stream.try_read(&mut discarded) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
