//! The core/v1 `Service`.
//!
//! Texts that Kubernetes restricts (types, protocols, policies, addresses) stay texts here: one that we don't know must
//! not take the rest of the object, or of a list of objects, with it.

use serde::Deserialize;

use crate::meta::KubeMeta;

/// Kind of [`Service`].
pub const SERVICE: &str = "Service";

/// Label that names another proxy, which then has the service to itself.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Label that keeps every proxy off, whatever its value.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Annotation: share of new connections, of all endpoints or of some; 0 takes out of service.
pub const WEIGHT_ANNOTATION: &str = "service.causeway.dev/weight";
/// Annotation: whether `loadBalancerSourceRanges` are let in (`allow`) or kept out (`deny`).
pub const SOURCE_RANGES_POLICY_ANNOTATION: &str = "service.causeway.dev/src-ranges-policy";
/// `clusterIP` of a headless service.
pub const NO_CLUSTER_IP: &str = "None";

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `v1`.
    pub api_version: String,
    /// `Service`.
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: KubeMeta,
    /// What is asked for.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub spec: ServiceSpec,
    /// What others have decided.
    #[serde(default)]
    pub status: Option<ServiceStatus>,
}

/// Specification of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`. Default: `ClusterIP`.
    #[serde(default, rename = "type")]
    pub service_type: Option<String>,
    /// Address within the cluster; `None` for a headless service.
    #[serde(default, rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// One for each family; the first is [`Self::cluster_ip`].
    #[serde(
        default,
        rename = "clusterIPs",
        deserialize_with = "crate::meta::null_as_default"
    )]
    pub cluster_ips: Vec<String>,
    /// Addresses that somebody routes to the nodes.
    #[serde(
        default,
        rename = "externalIPs",
        deserialize_with = "crate::meta::null_as_default"
    )]
    pub external_ips: Vec<String>,
    /// `IPv4`, `IPv6`.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub ip_families: Vec<String>,
    /// Ports.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub ports: Vec<ServicePort>,
    /// `Cluster` or `Local`: where traffic to the cluster address may go. Default: `Cluster`.
    #[serde(default)]
    pub internal_traffic_policy: Option<String>,
    /// `Cluster` or `Local`: where traffic from outside may go. Default: `Cluster`.
    #[serde(default)]
    pub external_traffic_policy: Option<String>,
    /// `PreferSameZone` (also `PreferClose`) or `PreferSameNode`.
    #[serde(default)]
    pub traffic_distribution: Option<String>,
    /// Whether pods that aren't ready count.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub publish_not_ready_addresses: bool,
    /// `None` or `ClientIP`. Default: `None`.
    #[serde(default)]
    pub session_affinity: Option<String>,
    /// Details of the affinity.
    #[serde(default)]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// Sources that may use the load-balancer addresses; everybody if empty.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub load_balancer_source_ranges: Vec<String>,
    /// Who implements the load balancer.
    #[serde(default)]
    pub load_balancer_class: Option<String>,
    /// Port of the health check under `externalTrafficPolicy: Local`; 0 for none.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub health_check_node_port: i64,
}

/// A port of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name; may be absent if it is the only port.
    #[serde(default)]
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`. Default: `TCP`.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Port of the service's addresses.
    pub port: i64,
    /// Port of the nodes' addresses; 0 for none.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub node_port: i64,
}

/// Details of the session affinity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinityConfig {
    /// For `ClientIP`.
    #[serde(default, rename = "clientIP")]
    pub client_ip: Option<ClientIpConfig>,
}

/// Details of affinity by client address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// How long a client sticks after its last connection, 1 to 86400. Default: 10800.
    #[serde(default)]
    pub timeout_seconds: Option<i64>,
}

/// Status of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The load balancer.
    #[serde(default)]
    pub load_balancer: Option<LoadBalancerStatus>,
}

/// Status of the load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// Its addresses.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// An address of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerIngress {
    /// The address; absent where the load balancer has a host name instead.
    #[serde(default)]
    pub ip: Option<String>,
    /// `VIP`: packets arrive with this destination. `Proxy`: they don't. Default: `VIP`.
    #[serde(default)]
    pub ip_mode: Option<String>,
}
