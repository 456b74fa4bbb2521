//! What a speaker is told to be: itself, its peers, its templates. Values here are valid by construction where a type can
//! say so; [`SpeakerConfig::validate`] names the rest.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use crate::origin::Originated;
use crate::rib::{FamilySession, RibConfig};
use crate::types::{Asn, Family, Prefix};

/// Limits that no configuration can lift.
pub mod limits {
    use core::time::Duration;

    /// Peers of one speaker, dynamic ones included.
    pub const PEERS: usize = 4096;
    /// Dynamic neighbour groups.
    pub const DYNAMIC_GROUPS: usize = 256;
    /// Bytes handed to one connection and not yet accepted by its socket. What exceeds it stays in the RIB, where later
    /// changes to the same prefix replace it.
    pub const IN_FLIGHT_BYTES: usize = 512 * 1024;
    /// Bytes of updates produced in one go for one connection, so that many peers take turns.
    pub const TRANSMIT_BYTES: usize = 64 * 1024;
    /// Prefixes in one forwarding table delta.
    pub const FIB_DELTA_PREFIXES: usize = 4096;
    /// Forwarding changes handed over and not yet [`crate::speaker::Input::Programmed`]. Further ones wait in the RIB, where
    /// they merge.
    pub const FIB_DELTAS_IN_FLIGHT: u64 = 32;
    /// Refused connections that are remembered one by one; more are only counted.
    pub const REFUSED_REMEMBERED: usize = 64;
    /// Bytes of a TCP MD5 key (Linux `TCP_MD5SIG_MAXKEYLEN`).
    pub const MD5_KEY_BYTES: usize = 80;
    /// Bytes of a shutdown communication (RFC 9003 2).
    pub const SHUTDOWN_MESSAGE_BYTES: usize = 255;
    /// Hold timer while waiting for the peer's OPEN (RFC 4271 8.2.2: "a large value, 4 minutes is suggested").
    pub const OPEN_HOLD: Duration = Duration::from_secs(240);
    /// How far apart two connections may come to us and still be the two halves of a collision (RFC 4271 6.8): one was on
    /// its way as the other was answered. A peer that restarts takes longer, or its kernel closes the old one.
    pub const COLLISION: Duration = Duration::from_secs(2);
    /// How long a speaker that restarted leaves it to peers that keep its routes to connect, less up to a quarter. FRR does
    /// so one second after the loss, and then not again.
    pub const PEERS_COME_FIRST: Duration = Duration::from_secs(2);
    /// Restart time that fits the capability (RFC 4724 3: 12 bits of seconds).
    pub const RESTART_TIME_SECONDS: u16 = 4095;
}

/// The speaker and everything it peers with.
#[derive(Clone, Debug)]
pub struct SpeakerConfig {
    /// Our AS (not 0, RFC 7607) and BGP identifier (not 0, RFC 6286), and how routes are chosen.
    pub rib: RibConfig,
    /// Host name for the capability, not sent if absent.
    pub hostname: Option<Box<str>>,
    /// Configured peers, unique by name and by address.
    pub peers: Vec<PeerConfig>,
    /// Ranges from which any neighbour may connect.
    pub dynamic: Vec<DynamicConfig>,
    /// Prefixes that we originate.
    pub originated: Vec<Originated>,
    /// Addresses of ours: a next hop among them is refused (RFC 4271 5.1.3).
    pub own_addresses: Vec<IpAddr>,
    /// This process was restarted while the forwarding tables stayed: OPENs carry the restart state bit and route selection
    /// is deferred (RFC 4724 4.1) for at most this long.
    pub restarting: Option<Duration>,
}

impl SpeakerConfig {
    /// A speaker without peers.
    #[must_use]
    pub fn new(rib: RibConfig) -> Self {
        Self {
            rib,
            hostname: None,
            peers: Vec::new(),
            dynamic: Vec::new(),
            originated: Vec::new(),
            own_addresses: Vec::new(),
            restarting: None,
        }
    }

    /// Checks what the types can't say.
    ///
    /// # Errors
    ///
    /// The first mistake, with the object, the field and the remedy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let speaker = |field, remedy| ConfigError::new("speaker", field, remedy);
        if self.rib.local_asn == Asn::ZERO {
            return Err(speaker(
                "asn",
                "AS 0 is reserved (RFC 7607); set your AS number",
            ));
        }
        if self.rib.router_id.0 == 0 {
            return Err(speaker(
                "router_id",
                "0.0.0.0 is not a BGP identifier (RFC 6286); set a unique one",
            ));
        }
        if let Some(confederation) = &self.rib.confederation {
            let reserved =
                confederation.identifier == Asn::ZERO || confederation.members.contains(&Asn::ZERO);
            if reserved || confederation.members.contains(&confederation.identifier) {
                return Err(speaker(
                    "confederation",
                    "members are ASes other than 0 and the identifier (RFC 5065 3)",
                ));
            }
        }
        if self.peers.len() > limits::PEERS {
            return Err(speaker(
                "peers",
                "at most 4096 peers; use dynamic neighbours on several nodes",
            ));
        }
        if self.dynamic.len() > limits::DYNAMIC_GROUPS {
            return Err(speaker("dynamic", "at most 256 groups; merge ranges"));
        }
        let mut names = hashbrown::HashSet::<_, foldhash::fast::FixedState>::default();
        let mut addresses = hashbrown::HashSet::<_, foldhash::fast::FixedState>::default();
        for peer in &self.peers {
            if !names.insert(&peer.name) {
                return Err(ConfigError::new(
                    &peer.name,
                    "name",
                    "used twice; names are unique",
                ));
            }
            if !addresses.insert((peer.remote, peer.scope)) {
                return Err(ConfigError::new(
                    &peer.name,
                    "remote",
                    "another peer has this address; one session per address",
                ));
            }
            peer.session.validate(&peer.name)?;
        }
        for group in &self.dynamic {
            if !names.insert(&group.name) {
                return Err(ConfigError::new(
                    &group.name,
                    "name",
                    "used twice; names are unique",
                ));
            }
            if group.ranges.is_empty() || group.limit == 0 {
                return Err(ConfigError::new(
                    &group.name,
                    "ranges",
                    "a group without ranges or with limit 0 accepts nobody; remove it",
                ));
            }
            group.session.validate(&group.name)?;
        }
        Ok(())
    }
}

/// One configured peer: where it is and how to speak with it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerConfig {
    /// Unique name; the peer's identity across reconfigurations.
    pub name: Arc<str>,
    /// Address.
    pub remote: IpAddr,
    /// Interface index of a link-local address.
    pub scope: Option<u32>,
    /// TCP port to connect to.
    pub port: u16,
    /// Never connect, only accept.
    pub passive: bool,
    /// How to speak with it, usually shared through a template.
    pub session: Arc<SessionConfig>,
}

impl PeerConfig {
    /// An active peer on port 179.
    #[must_use]
    pub fn new(name: &str, remote: IpAddr, session: Arc<SessionConfig>) -> Self {
        Self {
            name: name.into(),
            remote,
            scope: None,
            port: 179,
            passive: false,
            session,
        }
    }

    /// Where to connect to.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        socket(self.remote, self.scope, self.port)
    }
}

/// An address, its scope and a port as a socket address.
pub(crate) fn socket(addr: IpAddr, scope: Option<u32>, port: u16) -> SocketAddr {
    match addr {
        IpAddr::V4(addr) => SocketAddr::from((addr, port)),
        IpAddr::V6(addr) => SocketAddr::V6(core::net::SocketAddrV6::new(
            addr,
            port,
            0,
            scope.unwrap_or(0),
        )),
    }
}

/// Neighbours that are not known one by one: whoever connects from a range is accepted, up to a limit. Always passive.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicConfig {
    /// Unique name; peers are named `NAME-ADDRESS`.
    pub name: Arc<str>,
    /// Ranges to accept from; the longest that matches decides between groups.
    pub ranges: Vec<Prefix>,
    /// Most neighbours at a time.
    pub limit: usize,
    /// How to speak with them.
    pub session: Arc<SessionConfig>,
}

/// How to speak with a peer: what a template shares.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionConfig {
    /// Which AS the peer must have.
    pub remote_as: RemoteAs,
    /// Our AS towards this peer, if not the speaker's.
    pub local_as: Option<Asn>,
    /// Source address of our connections; also the only one on which the peer is accepted.
    pub local_address: Option<IpAddr>,
    /// Administratively down, with the communication sent to the peer (RFC 9003).
    pub shutdown: Option<ShutdownMessage>,
    /// Options of the TCP connection.
    pub transport: TransportOptions,
    /// Timers.
    pub timers: TimersConfig,
    /// Families to negotiate, each with its policies and limits; at least one.
    pub families: Vec<FamilyConfig>,
    /// Graceful restart; `None` sends no such capability and keeps nothing.
    pub graceful_restart: Option<GracefulRestartConfig>,
    /// Offer messages of up to 65,535 bytes (RFC 8654).
    pub extended_messages: bool,
    /// The peer is our client in route reflection (RFC 4456).
    pub route_reflector_client: bool,
    /// Check that the leftmost AS of routes from an eBGP peer is its own (RFC 4271 6.3).
    pub enforce_first_as: bool,
    /// How often our own AS may be in a received path before it counts as a loop.
    pub allow_own_as: u8,
}

impl SessionConfig {
    /// Defaults for a peer of this AS and these families.
    #[must_use]
    pub fn new(remote_as: RemoteAs, families: Vec<FamilyConfig>) -> Self {
        Self {
            remote_as,
            local_as: None,
            local_address: None,
            shutdown: None,
            transport: TransportOptions::default(),
            timers: TimersConfig::default(),
            families,
            graceful_restart: None,
            extended_messages: true,
            route_reflector_client: false,
            enforce_first_as: true,
            allow_own_as: 0,
        }
    }

    /// The configuration of a family, if it is to be negotiated.
    #[must_use]
    pub fn family(&self, family: Family) -> Option<&FamilyConfig> {
        self.families.iter().find(|config| config.family == family)
    }

    fn validate(&self, object: &str) -> Result<(), ConfigError> {
        let error = |field, remedy| Err(ConfigError::new(object, field, remedy));
        if self.remote_as == RemoteAs::Exactly(Asn::ZERO) || self.local_as == Some(Asn::ZERO) {
            return error(
                "remote_as",
                "AS 0 is reserved (RFC 7607); to learn it, use external or any",
            );
        }
        if self.families.is_empty() {
            return error("families", "name at least one family");
        }
        if Family::ALL
            .iter()
            .any(|f| self.families.iter().filter(|c| c.family == *f).count() > 1)
        {
            return error("families", "a family is listed twice; list it once");
        }
        let hold = self.timers.hold.as_secs();
        if hold == 1 || hold == 2 || hold > 65_535 || self.timers.hold.subsec_nanos() != 0 {
            return error(
                "timers.hold",
                "0 or 3 to 65535 whole seconds (RFC 4271 4.2)",
            );
        }
        if self.timers.connect_retry.is_zero() || self.timers.idle_hold.is_zero() {
            return error("timers", "connect_retry and idle_hold are longer than zero");
        }
        if let Some(gr) = &self.graceful_restart
            && gr.restart_time_seconds > limits::RESTART_TIME_SECONDS
        {
            return error(
                "graceful_restart.restart_time_seconds",
                "at most 4095 (RFC 4724 3)",
            );
        }
        Ok(())
    }
}

/// Which AS a peer must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAs {
    /// This one.
    Exactly(Asn),
    /// Ours: an iBGP peer.
    Internal,
    /// Any but ours: an eBGP peer, its AS learned from its OPEN.
    External,
    /// Any, learned from its OPEN.
    Any,
}

/// Options of the TCP connection, both for connecting and for what the listening socket needs to know about the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// TCP MD5 signature key (RFC 2385).
    pub md5: Option<Md5Key>,
    /// TTL or hop limit.
    pub ttl: Ttl,
    /// Differentiated services code point, 6 bits. CS6 by default (RFC 4271 erratum, RFC 4594 3.2).
    pub dscp: u8,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            md5: None,
            ttl: Ttl::Hops(1),
            dscp: 48,
        }
    }
}

/// TTL (IPv4) or hop limit (IPv6) of a session's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Send with this value: 1 for a neighbour on the link, more for multihop eBGP, 255 or 64 for iBGP.
    Hops(u8),
    /// GTSM (RFC 5082): send with 255, accept only what was forwarded at most `hops - 1` times: set `IP_MINTTL` or
    /// `IPV6_MINHOPCOUNT` to `256 - hops`.
    Security {
        /// Distance of the peer, 1 on the link; at most 254.
        hops: u8,
    },
}

impl Ttl {
    /// Value to send with.
    #[must_use]
    pub const fn outgoing(self) -> u8 {
        match self {
            Self::Hops(hops) => hops,
            Self::Security { .. } => 255,
        }
    }

    /// Least value to accept, if the kernel is to check it.
    #[must_use]
    pub const fn least_incoming(self) -> Option<u8> {
        match self {
            Self::Hops(_) => None,
            Self::Security { hops } => Some(255 - hops.saturating_sub(1)),
        }
    }
}

/// A TCP MD5 key; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(Box<[u8]>);

impl Md5Key {
    /// A key of 1 to 80 bytes (Linux).
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        (1..=limits::MD5_KEY_BYTES)
            .contains(&key.len())
            .then(|| Self(key.into()))
    }

    /// The key, for `setsockopt` only.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Key(…)")
    }
}

/// A shutdown communication: at most 255 bytes of UTF-8 (RFC 9003); may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownMessage(Box<str>);

impl ShutdownMessage {
    /// The message, cut at a character boundary to what fits.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let end = text.floor_char_boundary(limits::SHUTDOWN_MESSAGE_BYTES);
        Self(text[..end].into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Timers of a session. All but hold and idle hold are jittered by 0.75 to 1.0 (RFC 4271 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimersConfig {
    /// ConnectRetryTime.
    pub connect_retry: Duration,
    /// HoldTime proposed: 0 (no keepalives) or 3 to 65535 whole seconds.
    pub hold: Duration,
    /// KeepaliveTime; a third of the negotiated hold time if that is less or this is zero.
    pub keepalive: Duration,
    /// Shortest IdleHoldTime after an error; doubles with each flap up to `idle_hold_max` (RFC 4271 8.1.1
    /// DampPeerOscillations). A session that lasted `idle_hold_max` forgives all flaps.
    pub idle_hold: Duration,
    /// Longest IdleHoldTime.
    pub idle_hold_max: Duration,
    /// SendHoldTime (RFC 9687 4): twice the negotiated hold time, at least this.
    pub send_hold: Duration,
}

impl Default for TimersConfig {
    /// Hold 90 s and keepalive 30 s (RFC 4271 10), connect retry 5 s, idle hold 1 s to 60 s, send hold 8 min (RFC 9687 4).
    fn default() -> Self {
        Self {
            connect_retry: Duration::from_secs(5),
            hold: Duration::from_secs(90),
            keepalive: Duration::from_secs(30),
            idle_hold: Duration::from_secs(1),
            idle_hold_max: Duration::from_secs(60),
            send_hold: Duration::from_secs(480),
        }
    }
}

/// One family of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyConfig {
    /// Family.
    pub family: Family,
    /// Policies, next hop and default route.
    pub routing: FamilySession,
    /// Limit on received prefixes.
    pub max_prefixes: Option<MaxPrefixes>,
}

impl FamilyConfig {
    /// A family without limit.
    #[must_use]
    pub fn new(family: Family, routing: FamilySession) -> Self {
        Self {
            family,
            routing,
            max_prefixes: None,
        }
    }
}

/// A limit on the prefixes that a peer may announce in a family (RFC 4486 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// More than this is too much.
    pub limit: u32,
    /// Percentage of the limit at which an event warns.
    pub warn_percent: u8,
    /// What more than the limit leads to.
    pub excess: Excess,
}

/// What more prefixes than the limit lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The session ends with Cease/1 and waits for a command.
    Stop,
    /// The session ends with Cease/1 and starts again after this.
    RestartAfter(Duration),
    /// An event warns, and the session goes on.
    Warn,
}

/// Graceful restart (RFC 4724, RFC 8538).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestartConfig {
    /// How long our peers shall wait for our return, at most 4095.
    pub restart_time_seconds: u16,
    /// How long we keep stale routes at most once the peer is back and before its End-of-RIB.
    pub stale_time: Duration,
    /// Keep routes over a NOTIFICATION and an expired hold timer too (N bit, RFC 8538).
    pub notification: bool,
}

impl Default for GracefulRestartConfig {
    fn default() -> Self {
        Self {
            restart_time_seconds: 120,
            stale_time: Duration::from_secs(360),
            notification: true,
        }
    }
}

/// A mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {remedy}")]
pub struct ConfigError {
    /// `speaker` or the name of the peer or group.
    pub object: String,
    /// Field.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub remedy: &'static str,
}

impl ConfigError {
    fn new(object: &str, field: &'static str, remedy: &'static str) -> Self {
        Self {
            object: object.into(),
            field,
            remedy,
        }
    }
}
