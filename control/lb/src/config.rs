//! What the room is told about the node and the operator's wishes.

use causeway_api::cidr::Cidr;

use crate::limits::Limits;

/// The class of load balancer that is ours.
pub const LOAD_BALANCER_CLASS: &str = "causeway.dev/bgp";

/// Settings; they do not change while the room lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbConfig {
    /// This node's name, as endpoints carry it.
    pub node_name: String,
    /// Value of the label `service.kubernetes.io/service-proxy-name` that gives a service to us. Without it, services that
    /// carry the label belong to others.
    pub proxy_name: Option<String>,
    /// `loadBalancerClass` of the services whose addresses this node announces.
    pub load_balancer_class: String,
    /// Whether addresses of services without a class are announced too.
    pub announce_without_class: bool,
    /// Ranges that `externalIPs` may be in; `None` admits all. Whoever may write services can otherwise draw traffic of
    /// any address to himself (CVE-2020-8554); that of cluster and load-balancer addresses he cannot in either case.
    pub external_ip_ranges: Option<Vec<Cidr>>,
    /// Which of the node's addresses answer node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Limits.
    pub limits: Limits,
}

impl LbConfig {
    /// Defaults for the node of this name.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            proxy_name: None,
            load_balancer_class: LOAD_BALANCER_CLASS.to_owned(),
            announce_without_class: true,
            external_ip_ranges: None,
            node_port_addresses: NodePortAddresses::Primary,
            limits: Limits::default(),
        }
    }
}

/// Which of the node's addresses answer node ports. Loopback addresses never do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The first `InternalIP` of each family in the node's status.
    #[default]
    Primary,
    /// Every address of the host within these ranges.
    Within(Vec<Cidr>),
}
