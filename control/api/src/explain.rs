//! What `GET /v1/routes/explain` answers: what becomes of packets to an address, and why.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::view::{BgpRoute, Route};

/// What becomes of packets to an address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteExplanation {
    /// The address asked for.
    pub address: IpAddr,
    /// How the packet comes in: `uplink`, `pod`, or the interface asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// The flow asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// What is intended: the longest prefix that anybody wants and that covers the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// The paths of that prefix in the RIB, each with its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<BgpRoute>,
    /// Entries of the maps that were consulted, in order, read back from the kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
    /// Next hops of the group that the maps lead to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// What the programs make of the packet, hook by hook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcome: Vec<Outcome>,
    /// The route that the kernel's own tables have for the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelRoute>,
    /// What becomes of it in the end, in one sentence.
    pub fate: String,
    /// How maps, intent and kernel differ; empty if they agree.
    #[serde(default)]
    pub differences: Vec<String>,
    /// Whether everything wanted was written when this was asked: while it is not, differences may be about to go.
    pub settled: bool,
}

/// The flow of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// Its hash on this node, if a group is chosen from by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<u32>,
    /// The slot of the group that it looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<usize>,
}

/// An entry of a map that was consulted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    /// Name of the map.
    pub map: String,
    /// Key.
    pub key: String,
    /// What the kernel holds.
    pub value: String,
}

/// A next hop of a group, as the maps have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its number in `next_hops`.
    pub id: u32,
    /// Address.
    pub address: IpAddr,
    /// Interface that it is behind.
    pub interface: String,
    /// Destination MAC address of frames to it; absent while its neighbour is not resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_mac: Option<String>,
    /// Source MAC address of frames to it.
    pub source_mac: String,
    /// VLAN id of frames to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Slots of the group that prefer it, of 256.
    pub slots: usize,
    /// `alive`, or why it is dead.
    pub liveness: String,
    /// The flow asked for takes it.
    pub chosen: bool,
}

/// What a program makes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `xdp`, `tc_uplink` or `tc_pod`.
    pub hook: String,
    /// `forwarded`, `passed` (to what comes next) or `dropped`.
    pub action: String,
    /// The name under which it is counted.
    pub reason: String,
    /// What that means.
    pub description: String,
}

/// A route of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelRoute {
    /// Prefix; of a route that refuses the kernel does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Who made it (`rtm_protocol`): 67 is us, 2 the kernel itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Where it leads; empty for one that ends here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_hops: Vec<KernelNextHop>,
    /// It refuses: blackhole, unreachable or prohibit.
    pub rejects: bool,
}

/// One of the ways that a route of the kernel takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelNextHop {
    /// Gateway; absent if the destination itself is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Interface.
    pub interface: String,
    /// Weight.
    pub weight: u32,
}
