//! What the HTTP API answers. Durations are in whole seconds; listings come in pages.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Longest page of a listing, in entries. Longer wishes are cut to it.
pub const PAGE_LIMIT: usize = 1000;

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Name of the node.
    pub node_name: String,
    /// Since the daemon started.
    pub uptime_seconds: u64,
    /// Configuration.
    pub config: ConfigStatus,
    /// The speaker, if one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<BgpStatus>,
    /// Forwarding.
    pub dataplane: DataplaneStatus,
}

/// Configuration in force, and what was refused since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Directory it is read from.
    pub directory: String,
    /// Counts accepted configurations, from 1.
    pub generation: u64,
    /// Since the one in force was accepted.
    pub age_seconds: u64,
    /// Why the newest files were refused; empty if they are in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Diagnostic>,
}

/// A mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// File.
    pub file: String,
    /// Line, from 1; 0 where the whole file is meant.
    pub line: u64,
    /// Kind and name of the object, if known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// Path of the field in the object, if known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl core::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        write!(f, ": {}", self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// The speaker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpStatus {
    /// Name of the instance.
    pub instance: String,
    /// Own AS.
    #[serde(rename = "localASN")]
    pub local_asn: u32,
    /// BGP identifier.
    #[serde(rename = "routerID")]
    pub router_id: Ipv4Addr,
    /// Peers.
    pub neighbors: usize,
    /// Peers whose session is Established.
    pub established: usize,
    /// Figures by family.
    pub families: Vec<FamilyStatus>,
    /// Distinct sets of attributes.
    pub attribute_sets: usize,
    /// Distinct sets of next hops in use.
    pub next_hop_sets: usize,
    /// Groups of peers that are sent the same.
    pub update_groups: usize,
    /// Connections refused.
    pub refused: u64,
}

/// Figures of a family.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyStatus {
    /// `ipv4-unicast` or `ipv6-unicast`.
    pub family: String,
    /// Prefixes known.
    pub prefixes: usize,
    /// Paths known.
    pub paths: usize,
    /// Prefixes with a best path.
    pub routes: usize,
    /// Prefixes that the forwarding tables could not take: not originated and not passed on.
    #[serde(default)]
    pub unprogrammed: usize,
}

/// Forwarding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataplaneStatus {
    /// `none` or `xdp`.
    pub mode: String,
    /// Last change handed over by the speaker.
    pub desired_generation: u64,
    /// Last change that the maps hold.
    pub programmed_generation: u64,
    /// Routes in the maps.
    pub routes: usize,
    /// Next-hop groups in the maps.
    pub groups: usize,
    /// Next hops in the maps.
    pub next_hops: usize,
    /// Interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<Uplink>,
    /// Packets by outcome, the ones that occurred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<PacketCounter>,
    /// Entries of maps that somebody else changed and that were put right.
    #[serde(default)]
    pub repaired: u64,
    /// Prefixes that are wanted and could not be put into the maps. They are not announced to anybody.
    #[serde(default)]
    pub refused: usize,
    /// The first of them, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_routes: Vec<RefusedRoute>,
    /// The kernel's own table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelStatus>,
    /// What keeps the maps from being as desired; absent when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The kernel's own table: what it holds of ours, and what went wrong there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelStatus {
    /// Routes of ours, blackholes included.
    pub routes: usize,
    /// Next-hop groups of ours.
    pub groups: usize,
    /// Next-hop objects of ours.
    pub next_hops: usize,
    /// Routes that somebody else's with the same prefix and metric keeps out.
    pub conflicts: usize,
    /// Routes, sets and next hops that did not fit.
    pub left_out: u64,
    /// Operations that the kernel refused since the start.
    pub refused: u64,
    /// Routes and objects of ours found changed or gone, and made again, since the start.
    pub repaired: u64,
    /// The last refusal, until nothing is refused any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A prefix that could not be put into the maps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRoute {
    /// Prefix.
    pub prefix: String,
    /// Why.
    pub reason: String,
}

/// A map of the programs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Map {
    /// Name.
    pub name: String,
    /// Entries in use; zeroed slots of arrays are not.
    pub entries: usize,
    /// Capacity.
    pub capacity: u32,
}

/// An entry of a map, in words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapEntry {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// Every entry of the maps compared with what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapVerification {
    /// Entries read.
    pub entries: usize,
    /// Whether everything wanted had been written when they were read.
    pub settled: bool,
    /// What differs, the first of it.
    pub differences: Vec<MapDifference>,
}

/// An entry that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapDifference {
    /// Which.
    pub entry: String,
    /// `missing`, `unexpected` or `different`.
    pub kind: String,
}

/// An interface on which packets are forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    /// Name.
    pub name: String,
    /// Index.
    pub index: u32,
    /// Whether it is up with carrier.
    pub up: bool,
    /// How XDP is attached: `native`, `generic` or why it is not.
    pub xdp: String,
}

/// Packets with one outcome at one hook. One that a hook passes is counted there and at the next: what TC delivers, XDP has
/// passed before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketCounter {
    /// Where: `xdp`, `tc_uplink` (TC ingress of an uplink, behind XDP) or `tc_pod` (TC ingress of a pod's interface).
    pub hook: String,
    /// Outcome.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// Entries.
    pub items: Vec<T>,
    /// Value of `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}

/// `GET /v1/bgp/neighbors`: a [`List`] of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Neighbor {
    /// Name.
    pub name: String,
    /// Address.
    pub address: IpAddr,
    /// Interface index of a link-local address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
    /// Accepted from a dynamic range.
    pub dynamic: bool,
    /// Our AS towards it.
    #[serde(rename = "localASN")]
    pub local_asn: u32,
    /// Its AS; absent while unknown.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<u32>,
    /// Its BGP identifier; absent while unknown.
    #[serde(
        default,
        rename = "peerRouterID",
        skip_serializing_if = "Option::is_none"
    )]
    pub peer_router_id: Option<Ipv4Addr>,
    /// `eBGP`, `iBGP` or `confederation` (eBGP with another member AS, RFC 5065); absent while unknown.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<String>,
    /// `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm` or `Established` (RFC 4271 8.2.2).
    pub state: String,
    /// For how long it is in this state.
    pub state_seconds: u64,
    /// Administratively down.
    pub admin_down: bool,
    /// We never connect.
    pub passive: bool,
    /// Our end of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_socket: Option<SocketAddr>,
    /// Their end of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_socket: Option<SocketAddr>,
    /// How the last Established session ended. While there has been none, how the last connection on which we sent an
    /// OPEN ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reset: Option<Reset>,
    /// How the last attempt that did not lead to Established ended; stays when a later one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Reset>,
    /// Times that a session became Established.
    pub established_count: u64,
    /// Times that an Established session ended.
    pub flap_count: u64,
    /// Messages received.
    pub messages_received: Messages,
    /// Messages sent.
    pub messages_sent: Messages,
    /// UPDATEs that needed a reaction of RFC 7606.
    pub malformed_updates: u64,
    /// Figures by family.
    pub families: Vec<NeighborFamily>,
    /// Timers.
    pub timers: NeighborTimers,
    /// Capabilities that we send.
    pub local_capabilities: Vec<String>,
    /// Capabilities that the peer sent; empty while unknown.
    pub peer_capabilities: Vec<String>,
    /// What both agreed on; absent without a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiated: Option<Negotiated>,
    /// Bytes handed to the connection and not yet taken by its socket.
    pub in_flight_bytes: usize,
}

/// The end of a session or attempt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reset {
    /// How long ago.
    pub ago_seconds: u64,
    /// State it ended in.
    pub state: String,
    /// Why.
    pub reason: String,
    /// NOTIFICATION that we sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
    /// All of them.
    pub total: u64,
}

/// One family of a neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NeighborFamily {
    /// `ipv4-unicast` or `ipv6-unicast`.
    pub family: String,
    /// Negotiated in the current session.
    pub negotiated: bool,
    /// Prefixes received, refused ones included.
    pub received: usize,
    /// Those of them that the import rules and filters let through.
    pub accepted: usize,
    /// Prefixes advertised.
    pub advertised: usize,
    /// Prefixes kept over a restart and not yet confirmed.
    pub stale: usize,
    /// Limit on `received`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<u32>,
    /// The peer's End-of-RIB came.
    pub end_of_rib_received: bool,
    /// Our End-of-RIB went.
    pub end_of_rib_sent: bool,
}

/// Timers of a neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NeighborTimers {
    /// Hold time configured.
    pub hold_configured_seconds: u64,
    /// Keepalive time configured.
    pub keep_alive_configured_seconds: u64,
    /// Hold time negotiated; 0 without keepalives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u64>,
    /// Keepalive time in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_seconds: Option<u64>,
    /// Running timers.
    pub running: Vec<RunningTimer>,
}

/// A running timer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningTimer {
    /// Which.
    pub timer: String,
    /// What is left of it.
    pub left_seconds: u64,
}

/// What both sides of a session agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Negotiated {
    /// Families.
    pub families: Vec<String>,
    /// 4-octet AS numbers (RFC 6793).
    #[serde(rename = "fourOctetASN")]
    pub four_octet_asn: bool,
    /// Route refresh (RFC 2918).
    pub route_refresh: bool,
    /// Enhanced route refresh (RFC 7313).
    pub enhanced_refresh: bool,
    /// Messages over 4,096 bytes (RFC 8654).
    pub extended_messages: bool,
    /// Families whose routes we keep when the peer restarts (RFC 4724).
    pub graceful_restart: Vec<String>,
}

/// `GET /v1/bgp/routes`: a [`List`] of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpRoute {
    /// Prefix.
    pub prefix: String,
    /// Paths, the best first.
    pub paths: Vec<BgpPath>,
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPath {
    /// Peer it was learned from; absent if originated here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// `best`, `multipath`, `lost` or `ineligible`.
    pub status: String,
    /// Why.
    pub reason: String,
    /// Share of the traffic relative to the other paths in use, 1 to 255; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
    /// Kept over a restart or refresh and not yet confirmed.
    pub stale: bool,
    /// Attributes after the import filters.
    #[serde(flatten)]
    pub attributes: BgpAttributes,
    /// Attributes as received, where the import filters changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<BgpAttributes>,
}

/// Path attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpAttributes {
    /// `IGP`, `EGP` or `Incomplete`.
    pub origin: String,
    /// AS path: sequences as they are, `{…}` sets, `(…)` confederation sequences, `[…]` confederation sets.
    pub as_path: String,
    /// Next hop; global and link-local where there are two.
    pub next_hop: String,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_preference: Option<u32>,
    /// Standard communities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
    /// Extended communities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_communities: Vec<String>,
    /// Large communities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large_communities: Vec<String>,
    /// ORIGINATOR_ID.
    #[serde(
        default,
        rename = "originatorID",
        skip_serializing_if = "Option::is_none"
    )]
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_list: Vec<Ipv4Addr>,
    /// AGGREGATOR: AS and router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<String>,
    /// ATOMIC_AGGREGATE.
    #[serde(default)]
    pub atomic_aggregate: bool,
    /// Unknown transitive attributes: type code and value in hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// `GET /v1/bgp/received`: a [`List`] of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedRoute {
    /// Prefix.
    pub prefix: String,
    /// The path.
    #[serde(flatten)]
    pub path: BgpPath,
}

/// `GET /v1/bgp/advertised`: a [`List`] of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisedRoute {
    /// Prefix.
    pub prefix: String,
    /// Peer it was learned from; absent if originated here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Attributes as sent.
    #[serde(flatten)]
    pub attributes: BgpAttributes,
}

/// `GET /v1/bgp/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Prefix asked for.
    pub prefix: String,
    /// Its paths, the best first.
    pub paths: Vec<BgpPath>,
    /// The longest prefix that covers it, where it has no path itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_by: Option<String>,
    /// What each peer is sent.
    pub exports: Vec<Export>,
    /// Where its packets go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Route>,
}

/// What a peer is sent for a prefix, and why.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// Peer.
    pub peer: String,
    /// Whether it is, or is about to be, sent.
    pub advertised: bool,
    /// Why.
    pub reason: String,
}

/// `GET /v1/routes`: a [`List`] of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Prefix.
    pub prefix: String,
    /// `bgp`, `connected` or `local`.
    pub origin: String,
    /// Number of its next-hop group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Where to.
    pub next_hops: Vec<NextHop>,
    /// `programmed`, `refused` (the maps can't take it, and nobody is told of it), `pending`, `unresolved` or `none` (no
    /// dataplane).
    pub state: String,
    /// Why it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NextHop {
    /// Address.
    pub address: IpAddr,
    /// Interface, once resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Weight.
    pub weight: u32,
    /// `resolved`, or why it is not.
    pub state: String,
}

/// `GET /v1/config`: the objects in force, keys left out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigView {
    /// Where they were read, and how that went.
    #[serde(flatten)]
    pub status: ConfigStatus,
    /// Objects.
    pub objects: Vec<serde_json::Value>,
}

/// Body of `POST /v1/bgp/neighbors/NAME/{reset,disable,enable,refresh}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeighborAction {
    /// Shutdown communication for `reset` and `disable`, at most 255 bytes (RFC 9003).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// For `refresh`: `in`, `out` or `both`. Default: `both`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
}

/// Answer to an action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// What was done.
    pub done: String,
}

/// Answer to a request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub remedy: String,
}
