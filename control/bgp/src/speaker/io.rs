//! What goes into a speaker and what comes out.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::SpeakerEvent;
use crate::config::{Md5Key, ShutdownMessage, SpeakerConfig, TransportOptions};
use crate::fib::FibDelta;
use crate::origin::Originated;
use crate::rib::{NextHopInterest, NextHopKey};
use crate::types::{ConnId, Family, PeerId, Prefix};
use crate::wire::{Decoded, DecoderConfig, MessageError, Open};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The connection asked for by [`Output::Connect`] stands.
    Connected {
        /// The one of [`Output::Connect`].
        conn: ConnId,
        /// Its ends.
        path: Path,
    },
    /// The connection asked for by [`Output::Connect`] failed.
    ConnectFailed {
        /// The one of [`Output::Connect`].
        conn: ConnId,
        /// What the system said.
        reason: Box<str>,
    },
    /// Somebody connected to us. The answer is [`Output::Start`], or a last [`Output::Transmit`] and [`Output::Close`].
    Accepted {
        /// Numbered by the shell with [`inbound_conn`].
        conn: ConnId,
        /// Its ends.
        path: Path,
    },
    /// Decoded messages, in the order received. The shell hands over one batch per connection at a time and keeps it small
    /// (64 KiB of messages), so that a peer with a full table takes turns with the others.
    Received {
        /// Connection.
        conn: ConnId,
        /// Messages.
        messages: Vec<Decoded>,
        /// The error that ended decoding after them, if any. Nothing more is read then.
        error: Option<MessageError>,
    },
    /// The socket took this many bytes of what [`Output::Transmit`] said: credit for more.
    Transmitted {
        /// Connection.
        conn: ConnId,
        /// Bytes since the last report.
        bytes: usize,
    },
    /// The transport is gone: closed by the peer, reset, timed out. Not reported after [`Output::Close`].
    Closed {
        /// Connection.
        conn: ConnId,
        /// What the system said; empty for an orderly end of stream.
        reason: Box<str>,
    },
    /// The metric to a tracked next hop, or that it is unreachable.
    NextHop {
        /// The one asked for by [`Output::NextHop`].
        key: NextHopKey,
        /// IGP metric; `None` if unreachable.
        metric: Option<u32>,
    },
    /// The forwarding tables hold everything up to this [`Output::Fib`].
    Programmed {
        /// Its generation.
        generation: u64,
    },
    /// The forwarding tables could not take these prefixes: they are not advertised until they can
    /// ([`Self::ProgramRecovered`]). Said before the [`Self::Programmed`] of the change that asked for them.
    ProgramFailed {
        /// In any order; those known already are fine.
        prefixes: Vec<Prefix>,
    },
    /// They have taken these after all, or nobody wants them any more.
    ProgramRecovered {
        /// In any order; others are fine.
        prefixes: Vec<Prefix>,
    },
    /// Replace what we originate, without the rest of the configuration.
    Originate(Vec<Originated>),
    /// Replace the configuration. Touches only what it must: see [`crate::session::change`].
    Reconfigure(Box<SpeakerConfig>),
    /// An operator's command.
    Command(Command),
}

/// The ends of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
    /// The link, if the peer's address is on a network that we are connected to.
    pub link: Option<Link>,
}

/// The link to a directly connected peer, with our addresses on it: what we can offer as next hops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Our IPv4 address on it.
    pub ipv4: Option<Ipv4Addr>,
    /// Our global IPv6 address on it.
    pub ipv6: Option<Ipv6Addr>,
    /// Our link-local address on it.
    pub link_local: Option<Ipv6Addr>,
    /// The subnets on it: where a next hop may be that is told to this peer as a third party (RFC 4271 5.1.3).
    pub subnets: Arc<[Prefix]>,
}

/// An operator's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// End the session and start it again (Cease/4, Administrative Reset).
    Reset {
        /// Peer.
        peer: PeerId,
        /// Sent along (RFC 9003).
        message: ShutdownMessage,
    },
    /// End the session and stay down until [`Command::Enable`] (Cease/2, Administrative Shutdown).
    Disable {
        /// Peer.
        peer: PeerId,
        /// Sent along (RFC 9003).
        message: ShutdownMessage,
    },
    /// Undo [`Command::Disable`], a max-prefix stop or an idle hold: start now.
    Enable {
        /// Peer.
        peer: PeerId,
    },
    /// Ask the peer to send its routes again (RFC 2918).
    RefreshIn {
        /// Peer.
        peer: PeerId,
        /// Family.
        family: Family,
    },
    /// Send our routes again.
    RefreshOut {
        /// Peer.
        peer: PeerId,
        /// Family.
        family: Family,
    },
    /// Stop for good: every session ends. With `restart`, transports close without NOTIFICATION, so that peers with graceful
    /// restart keep our routes; else with Cease/2.
    Shutdown {
        /// Sent along.
        message: ShutdownMessage,
        /// We come back.
        restart: bool,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Connect to a peer and report [`Input::Connected`] or [`Input::ConnectFailed`]. [`Output::Close`] with the same
    /// number gives the attempt up.
    Connect {
        /// Number of the attempt and then of the connection.
        conn: ConnId,
        /// Peer.
        peer: PeerId,
        /// Where to.
        remote: SocketAddr,
        /// Source address, if one is set.
        local: Option<IpAddr>,
        /// Socket options.
        options: TransportOptions,
    },
    /// The connection belongs to this peer: start reading, with a decoder made for this OPEN of ours.
    Start {
        /// Connection.
        conn: ConnId,
        /// Peer.
        peer: PeerId,
        /// The OPEN that was sent on it.
        open: Box<Open>,
        /// What else the decoder must know. The first AS is checked by the RIB, which can explain it.
        decoder: DecoderConfig,
        /// Socket options, to be set on accepted connections.
        options: TransportOptions,
    },
    /// Send these bytes; report [`Input::Transmitted`].
    Transmit {
        /// Connection.
        conn: ConnId,
        /// Whole messages.
        bytes: Bytes,
    },
    /// Send what was handed over, for at most a second, then close. The number is done with.
    Close {
        /// Connection or attempt.
        conn: ConnId,
        /// Drop unsent bytes at once: the peer doesn't read.
        abort: bool,
    },
    /// Change the MD5 key of a live connection (`TCP_MD5SIG` works on a connected socket).
    Rekey {
        /// Connection.
        conn: ConnId,
        /// New key.
        md5: Option<Md5Key>,
    },
    /// What the listening sockets must know has changed: read [`super::Speaker::listen`] again.
    Listen,
    /// Write this to the forwarding tables and report [`Input::Programmed`].
    Fib {
        /// Counts up from 1.
        generation: u64,
        /// What changed.
        delta: FibDelta,
    },
    /// Say whether a next hop is reachable, now and whenever it changes, by [`Input::NextHop`]; or stop that.
    NextHop(NextHopInterest),
    /// For logs, metrics and status.
    Event(SpeakerEvent),
}

/// What a listening socket must know: a connection from `remote` uses these options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Peer address as a host prefix, or a dynamic range.
    pub remote: crate::types::Prefix,
    /// Interface index of a link-local peer.
    pub scope: Option<u32>,
    /// Where it may connect to; `None` for any address.
    pub local: Option<IpAddr>,
    /// Options.
    pub options: TransportOptions,
}

/// The number of the `n`th accepted connection. Those of outgoing ones never meet it.
#[must_use]
pub const fn inbound_conn(n: u64) -> ConnId {
    ConnId(n | 1 << 63)
}
