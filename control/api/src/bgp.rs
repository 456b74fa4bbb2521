//! The BGP kinds: what the cluster speaks, how it speaks to a class of peers, and what it announces.

use core::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::meta::{LabelSelector, Object, ObjectRef};

/// Kind of [`BgpClusterConfig`].
pub const BGP_CLUSTER_CONFIG: &str = "BGPClusterConfig";
/// Kind of [`BgpPeerConfig`].
pub const BGP_PEER_CONFIG: &str = "BGPPeerConfig";
/// Kind of [`BgpAdvertisement`].
pub const BGP_ADVERTISEMENT: &str = "BGPAdvertisement";
/// Kind of [`BgpNodeConfigOverride`].
pub const BGP_NODE_CONFIG_OVERRIDE: &str = "BGPNodeConfigOverride";

/// Speakers and their peers for a set of nodes.
pub type BgpClusterConfig = Object<BgpClusterConfigSpec>;
/// How to speak with peers: a template that peers refer to.
pub type BgpPeerConfig = Object<BgpPeerConfigSpec>;
/// What to announce; families of a [`BgpPeerConfig`] select it by its labels.
pub type BgpAdvertisement = Object<BgpAdvertisementSpec>;
/// What differs on one node, which has the object's name.
pub type BgpNodeConfigOverride = Object<BgpNodeConfigOverrideSpec>;

/// Specification of a [`BgpClusterConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpClusterConfigSpec {
    /// Which nodes; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// Speakers. One for now.
    pub bgp_instances: Vec<BgpInstance>,
}

/// A speaker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpInstance {
    /// Name, unique on a node.
    pub name: String,
    /// Own AS, 1 to 4294967295 (RFC 6793, RFC 7607).
    #[serde(rename = "localASN")]
    pub local_asn: u32,
    /// TCP port to listen on; 0 listens nowhere. Default: 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// BGP identifier (RFC 6286). Usually set per node by a `BGPNodeConfigOverride`; else the highest IPv4 address of the
    /// node that is not a loopback address.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Ipv4Addr>,
    /// Cluster of a route reflector (RFC 4456 7); the router id if absent.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<Ipv4Addr>,
    /// The confederation that `localASN` is a member of (RFC 5065).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confederation: Option<Confederation>,
    /// LOCAL_PREF of routes that carry none. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_local_preference: Option<u32>,
    /// How MULTI_EXIT_DISC is compared (RFC 4271 9.1.2.2 c).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<Med>,
    /// Equal paths used at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_paths: Option<MaximumPaths>,
    /// Paths share traffic when their AS paths are equally long; else they must be identical.
    /// Default: false.
    #[serde(default)]
    pub multipath_relax: bool,
    /// Whether equal paths share traffic by link bandwidth. Default: `WhenAll`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bandwidth: Option<LinkBandwidth>,
    /// The eBGP path that was there first wins before router ids are compared (RFC 5004). Default: false.
    #[serde(default)]
    pub prefer_oldest: bool,
    /// Peers, unique by name and by address.
    #[serde(default)]
    pub peers: Vec<BgpPeer>,
    /// Ranges from which neighbours may connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dynamic_neighbors: Vec<DynamicNeighbors>,
}

/// Several ASes that look like one from outside (RFC 5065).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Confederation {
    /// The AS that peers outside see.
    pub identifier: u32,
    /// The other member ASes, at most 256.
    #[serde(default)]
    pub members: Vec<u32>,
}

/// Whether equal paths share traffic by link bandwidth (draft-ietf-idr-link-bandwidth).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum LinkBandwidth {
    /// In proportion to it if every one of them tells its own, else equally.
    WhenAll,
    /// Always equally.
    Ignore,
}

/// How MULTI_EXIT_DISC is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Med {
    /// Between paths of different neighbouring ASes too. Default: false.
    #[serde(default)]
    pub always_compare: bool,
    /// A missing one counts as the highest, not as 0. Default: false.
    #[serde(default)]
    pub missing_as_worst: bool,
}

/// Equal paths used at once, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaximumPaths {
    /// Learned by eBGP. Default: 16.
    #[serde(default = "maximum_paths", rename = "eBGP")]
    pub ebgp: u16,
    /// Learned by iBGP. Default: 16.
    #[serde(default = "maximum_paths", rename = "iBGP")]
    pub ibgp: u16,
}

const fn maximum_paths() -> u16 {
    16
}

impl Default for MaximumPaths {
    fn default() -> Self {
        Self {
            ebgp: maximum_paths(),
            ibgp: maximum_paths(),
        }
    }
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeer {
    /// Name, unique in the instance.
    pub name: String,
    /// Its AS. Absent or 0: learned from its OPEN as [`Self::dynamic_asn`] says.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<u32>,
    /// Which AS it may have when `peerASN` doesn't say.
    #[serde(
        default,
        rename = "dynamicASN",
        skip_serializing_if = "Option::is_none"
    )]
    pub dynamic_asn: Option<DynamicAsn>,
    /// Its address.
    pub peer_address: IpAddr,
    /// Interface of a link-local address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How to speak with it. Absent: the defaults, IPv4 and IPv6 unicast, nothing accepted or announced to an eBGP peer
    /// (RFC 8212).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_config_ref: Option<ObjectRef>,
}

/// Which AS a peer may have whose AS is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DynamicAsn {
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

/// Neighbours that are not known one by one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DynamicNeighbors {
    /// Name; each neighbour is named `NAME-ADDRESS`.
    pub name: String,
    /// Ranges; the longest that matches decides between groups.
    pub prefixes: Vec<Cidr>,
    /// Most neighbours at a time. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Their AS. Absent or 0: learned from their OPEN as [`Self::dynamic_asn`] says.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<u32>,
    /// Which AS they may have when `peerASN` doesn't say.
    #[serde(
        default,
        rename = "dynamicASN",
        skip_serializing_if = "Option::is_none"
    )]
    pub dynamic_asn: Option<DynamicAsn>,
    /// How to speak with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_config_ref: Option<ObjectRef>,
}

/// Specification of a [`BgpPeerConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeerConfigSpec {
    /// The TCP connection.
    #[serde(default)]
    pub transport: Transport,
    /// Timers.
    #[serde(default)]
    pub timers: Timers,
    /// Name of the `Secret` whose `password` is the TCP MD5 key (RFC 2385). The peer stays down without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<String>,
    /// Hops that an eBGP peer may be away, 1 to 255: the TTL of what is sent. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multihop: Option<u8>,
    /// GTSM (RFC 5082): hops that the peer may be away, 1 to 254; packets from further are dropped. Not with
    /// `ebgpMultihop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// Graceful restart (RFC 4724, RFC 8538).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// Families to negotiate. Default: IPv4 and IPv6 unicast without policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub families: Option<Vec<PeerFamily>>,
    /// Our AS towards these peers, if not the instance's.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<u32>,
    /// They are our clients in route reflection (RFC 4456). iBGP only. Default: false.
    #[serde(default)]
    pub route_reflector_client: bool,
    /// Offer messages of up to 65,535 bytes (RFC 8654). Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_messages: Option<bool>,
    /// Routes of an eBGP peer begin with its AS (RFC 4271 6.3). Default: true.
    #[serde(
        default,
        rename = "enforceFirstAS",
        skip_serializing_if = "Option::is_none"
    )]
    pub enforce_first_as: Option<bool>,
    /// How often our own AS may be in a received path. Default: 0.
    #[serde(default, rename = "allowOwnAS")]
    pub allow_own_as: u8,
    /// Administratively down. Default: false.
    #[serde(default)]
    pub shutdown: bool,
    /// Sent along when `shutdown` ends a session, at most 255 bytes (RFC 9003).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_message: Option<String>,
}

/// The TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transport {
    /// Source address; the peer is accepted on no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_address: Option<IpAddr>,
    /// Port to connect to. Default: 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_port: Option<u16>,
    /// Only accept, never connect. Default: false.
    #[serde(default)]
    pub passive: bool,
    /// Differentiated services code point, 0 to 63. Default: 48 (CS6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
}

/// Timers of a session, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timers {
    /// ConnectRetryTime, 1 to 65535. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_retry_time_seconds: Option<u16>,
    /// HoldTime, 0 (no keepalives) or 3 to 65535 (RFC 4271 4.2). Default: 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<u16>,
    /// KeepaliveTime, less than the hold time. Default: a third of the hold time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_time_seconds: Option<u16>,
    /// Shortest pause after an error, doubled with each flap (RFC 4271 8.1.1). Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_hold_time_seconds: Option<u16>,
    /// Longest pause after an error. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_hold_time_max_seconds: Option<u16>,
    /// A peer that reads nothing for this long, or twice the hold time, is given up (RFC 9687). Default: 480.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_hold_time_seconds: Option<u16>,
}

/// Graceful restart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GracefulRestart {
    /// Offer it.
    pub enabled: bool,
    /// How long peers shall wait for our return, 1 to 4095. Default: 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_time_seconds: Option<u16>,
    /// How long we keep stale routes at most once the peer is back. Default: 360.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_time_seconds: Option<u16>,
    /// Keep routes over a NOTIFICATION and an expired hold timer too (RFC 8538). Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<bool>,
}

/// One family of a session.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerFamily {
    /// Address family.
    pub afi: Afi,
    /// Subsequent address family. Default: unicast.
    #[serde(default)]
    pub safi: Safi,
    /// Which [`BgpAdvertisement`]s are announced, by their labels. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertisements: Option<LabelSelector>,
    /// `BGPFilter`s for received routes, in this order. Without one nothing of an eBGP peer is accepted (RFC 8212) and
    /// everything of an iBGP peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub import: Vec<String>,
    /// `BGPFilter`s for routes to announce beside `advertisements`, in this order. Without one no other route is announced to
    /// an eBGP peer (RFC 8212).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export: Vec<String>,
    /// Next hop of announced routes. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHopMode>,
    /// Default routes pass only where this says so, whatever the filters say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_route: Option<DefaultRoute>,
    /// Limit on received prefixes (RFC 4486 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<MaxPrefixes>,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Afi {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Subsequent address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Safi {
    /// Unicast.
    #[default]
    Unicast,
}

/// Next hop of announced routes (RFC 4271 5.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum NextHopMode {
    /// eBGP: our address. iBGP: as learned, but our address for what we originate.
    #[serde(rename = "default")]
    Default,
    /// Our address, but for reflected routes.
    #[serde(rename = "self")]
    SelfAddress,
    /// As learned, but our address for what we originate.
    #[serde(rename = "unchanged")]
    Unchanged,
    /// As learned where that is on the subnet that we share with a directly connected eBGP peer, else as `default`.
    #[serde(rename = "thirdParty")]
    ThirdParty,
}

/// Whether default routes pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefaultRoute {
    /// From the peer. Default: false.
    #[serde(default)]
    pub accept: bool,
    /// To the peer. Default: false.
    #[serde(default)]
    pub advertise: bool,
}

/// Limit on received prefixes of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaxPrefixes {
    /// More than this ends the session (Cease/1), unless `warnOnly` is set.
    pub limit: u32,
    /// Percentage of the limit that is worth a warning, 1 to 100. Default: 75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_percent: Option<u8>,
    /// Try again after this; absent: stay down until `causeway bgp neighbor enable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after_seconds: Option<u32>,
    /// More than the limit is told and ends nothing. Not with `restartAfterSeconds`. Default: false.
    #[serde(default)]
    pub warn_only: bool,
}

/// Specification of a [`BgpAdvertisement`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpAdvertisementSpec {
    /// Which nodes; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// What.
    pub advertisements: Vec<Advertisement>,
}

/// One group of prefixes to announce.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Advertisement {
    /// Where the prefixes come from.
    pub advertisement_type: AdvertisementType,
    /// The prefixes, for type `Prefix`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Cidr>,
    /// Attributes that they are announced with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Attributes>,
}

/// Where announced prefixes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum AdvertisementType {
    /// Listed.
    Prefix,
    /// The node's pod range. Not yet.
    PodCIDR,
    /// Addresses of services. Not yet.
    Service,
    /// Addresses of interfaces. Not yet.
    Interface,
}

impl AdvertisementType {
    /// The word in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefix => "Prefix",
            Self::PodCIDR => "PodCIDR",
            Self::Service => "Service",
            Self::Interface => "Interface",
        }
    }
}

/// Attributes of announced prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attributes {
    /// Communities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<Communities>,
    /// LOCAL_PREF, towards iBGP peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// How often our AS is put on the path beside once, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_path_prepend: Option<u8>,
}

/// Communities by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Communities {
    /// `ASN:VALUE`, two 16-bit numbers (RFC 1997).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standard: Vec<String>,
    /// `no-export`, `no-advertise`, `no-export-subconfed`, `graceful-shutdown`, `blackhole`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub well_known: Vec<String>,
    /// `GLOBAL:LOCAL1:LOCAL2`, three 32-bit numbers (RFC 8092).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large: Vec<String>,
}

/// Specification of a [`BgpNodeConfigOverride`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpNodeConfigOverrideSpec {
    /// Instances that differ.
    pub bgp_instances: Vec<BgpInstanceOverride>,
}

/// What differs in one instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpInstanceOverride {
    /// Name of the instance.
    pub name: String,
    /// BGP identifier.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Ipv4Addr>,
    /// Own AS.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<u32>,
    /// TCP port to listen on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// Peers that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<BgpPeerOverride>,
}

/// What differs for one peer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeerOverride {
    /// Name of the peer.
    pub name: String,
    /// Source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_address: Option<IpAddr>,
}
