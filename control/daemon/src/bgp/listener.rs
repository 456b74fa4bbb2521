//! The listening sockets, one per family, and the MD5 keys that they must know before a peer connects.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

use anyhow::{Context as _, Result};
use causeway_bgp::config::Md5Key;
use causeway_bgp::speaker::Listener;
use causeway_bgp::types::{Family, Prefix};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Event;
use crate::socket;

/// Pause after the system refused to accept, usually for lack of file descriptors.
const ACCEPT_PAUSE: core::time::Duration = core::time::Duration::from_millis(100);

/// See the head of the module.
#[derive(Debug)]
pub(super) struct Listeners {
    events: mpsc::Sender<Event>,
    port: u16,
    open: Vec<Open>,
    keys: BTreeMap<Prefix, Md5Key>,
}

#[derive(Debug)]
struct Open {
    fd: RawFd,
    v4: bool,
    /// Owns the socket of `fd`.
    task: AbortHandle,
}

impl Listeners {
    pub(super) const fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            events,
            port: 0,
            open: Vec::new(),
            keys: BTreeMap::new(),
        }
    }

    /// Listens on this port instead of the one before.
    ///
    /// # Errors
    ///
    /// If the port can't be opened; the one before stays open.
    pub(super) fn open(&mut self, port: u16) -> Result<()> {
        if port == self.port {
            return Ok(());
        }
        let mut open = Vec::new();
        for v4 in [true, false].into_iter().filter(|_| port != 0) {
            match self.listen(v4, port) {
                Ok(listener) => open.push(listener),
                // A host may have IPv6 turned off.
                Err(error) if !v4 && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                Err(error) => {
                    for listener in &open {
                        listener.task.abort();
                    }
                    return Err(error).with_context(|| explained(port));
                }
            }
        }
        self.close();
        (self.port, self.open) = (port, open);
        for (peer, key) in &self.keys {
            set_key(&self.open, *peer, Some(key));
        }
        Ok(())
    }

    /// Gives the sockets the keys of these peers and takes the others away.
    pub(super) fn set_keys(&mut self, peers: &[Listener]) {
        let wanted: BTreeMap<_, _> = peers
            .iter()
            .filter_map(|peer| Some((peer.remote, peer.options.md5.clone()?)))
            .collect();
        for peer in self.keys.keys().filter(|peer| !wanted.contains_key(peer)) {
            set_key(&self.open, *peer, None);
        }
        for (peer, key) in &wanted {
            if self.keys.get(peer) != Some(key) {
                set_key(&self.open, *peer, Some(key));
            }
        }
        self.keys = wanted;
    }

    fn listen(&self, v4: bool, port: u16) -> io::Result<Open> {
        let socket = socket::listening(v4, port)?;
        let fd = socket.as_raw_fd();
        let listener = TcpListener::from_std(socket.into())?;
        let task = tokio::spawn(accept(listener, self.events.clone()));
        Ok(Open {
            fd,
            v4,
            task: task.abort_handle(),
        })
    }

    fn close(&mut self) {
        for listener in self.open.drain(..) {
            listener.task.abort();
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.close();
    }
}

fn explained(port: u16) -> String {
    let remedy = if port < 1024 {
        "stop what uses it, run with CAP_NET_BIND_SERVICE, or set localPort"
    } else {
        "stop what uses it, or set localPort"
    };
    format!("cannot listen on TCP port {port} ({remedy})")
}

fn set_key(open: &[Open], peer: Prefix, key: Option<&Md5Key>) {
    let v4 = peer.family() == Family::Ipv4Unicast;
    for listener in open.iter().filter(|listener| listener.v4 == v4) {
        // Without its key the peer's connections are dropped by the kernel: it fails closed.
        if let Err(error) = socket::md5(listener.fd, peer, key) {
            tracing::error!(%peer, %error, "the peer cannot connect to us");
        }
    }
}

async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if events.send(Event::Accepted { stream }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
