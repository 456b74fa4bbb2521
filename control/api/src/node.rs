//! The node itself: `NodeConfig`, and the core/v1 `Node` for its labels and addresses.

use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::meta::{KubeMeta, LabelSelector, Object};

/// Kind of [`NodeConfig`].
pub const NODE_CONFIG: &str = "NodeConfig";

/// What a node does with packets. At most one selects a node.
pub type NodeConfig = Object<NodeConfigSpec>;

/// Specification of a [`NodeConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfigSpec {
    /// Which nodes; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// Whether packets may be forwarded from uplink to uplink. Default: `node`.
    #[serde(default)]
    pub role: Role,
    /// Where packets are forwarded.
    #[serde(default)]
    pub uplinks: Uplinks,
    /// How XDP is attached. Default: `auto`.
    #[serde(default)]
    pub xdp_mode: XdpMode,
    /// Seed of the ECMP flow hash; derived from the node's name if absent, so that tiers don't choose alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_seed: Option<u32>,
    /// Most routes in the maps; what the maps take unless set.
    #[serde(default)]
    pub max_routes: MaxRoutes,
    /// Whether BGP's routes, and blackholes for what the node originates, are put into the kernel's main table too.
    /// Default: true.
    #[serde(default = "yes")]
    pub kernel_routes: bool,
    /// Whether a default route may resolve a next hop of BGP. Default: false.
    #[serde(default)]
    pub resolve_next_hops_via_default: bool,
    /// The ranges that the cluster's pods have their addresses from, one of each family at most: their routes are found by
    /// an index instead of a walk.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<PodCidr>,
    /// Interfaces whose name begins so lead to local pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_interface_prefix: Option<String>,
}

fn yes() -> bool {
    true
}

impl Default for NodeConfigSpec {
    fn default() -> Self {
        Self {
            node_selector: None,
            role: Role::default(),
            uplinks: Uplinks::default(),
            xdp_mode: XdpMode::default(),
            hash_seed: None,
            max_routes: MaxRoutes::default(),
            kernel_routes: yes(),
            resolve_next_hops_via_default: false,
            pod_cidrs: Vec::new(),
            pod_interface_prefix: None,
        }
    }
}

/// Most routes in the maps, those of links and neighbours included. A route in a map takes some 60 to 100 bytes of the
/// kernel's memory, which this bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaxRoutes {
    /// IPv4. Default, and most: 2,097,152.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<u32>,
    /// IPv6. Default, and most: 1,048,576.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<u32>,
}

/// A range of pods' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodCidr {
    /// The range.
    pub cidr: Cidr,
    /// Length of the block that a node has of it: at most 16 bits more than that of the range.
    pub node_mask_size: u8,
}

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// An end: never routes from uplink to uplink.
    #[default]
    Node,
    /// A gateway or ToR: routes from uplink to uplink.
    Transit,
}

/// Interfaces on which packets are forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Uplinks {
    /// Names, `*` at the end stands for any rest: `eth*`.
    #[serde(default)]
    pub interfaces: Vec<String>,
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum XdpMode {
    /// In the driver where it can, else generic.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the stack, slower.
    Generic,
}

/// Label of a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Label that keeps load-balancer traffic away from a node, whatever its value.
pub const EXCLUDE_FROM_LOAD_BALANCERS_LABEL: &str =
    "node.kubernetes.io/exclude-from-external-load-balancers";

/// A core/v1 `Node`, as far as it is looked at. Other fields of Kubernetes are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// `v1`.
    pub api_version: String,
    /// `Node`.
    pub kind: String,
    /// Name and labels.
    pub metadata: KubeMeta,
    /// What the cluster knows of it.
    #[serde(default)]
    pub status: Option<NodeStatus>,
}

/// Status of a [`Node`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its addresses; the first `InternalIP` of a family is its primary address.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub addresses: Vec<NodeAddress>,
}

/// An address of a [`Node`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, …
    #[serde(rename = "type")]
    pub address_type: String,
    /// The address or name.
    pub address: String,
}
