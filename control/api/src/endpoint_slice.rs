//! The discovery.k8s.io/v1 `EndpointSlice`.
//!
//! As with [`crate::service`], restricted texts stay texts and unknown fields are passed over.

use serde::Deserialize;

use crate::meta::KubeMeta;

/// Kind of [`EndpointSlice`].
pub const ENDPOINT_SLICE: &str = "EndpointSlice";

/// Label that names the service of a slice, in the same namespace.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Some of the endpoints of a service, all of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// `discovery.k8s.io/v1`.
    pub api_version: String,
    /// `EndpointSlice`.
    pub kind: String,
    /// Name and labels; [`SERVICE_NAME_LABEL`] says whose it is.
    pub metadata: KubeMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Endpoints.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub endpoints: Vec<Endpoint>,
    /// Ports, which every endpoint of the slice has.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub ports: Vec<EndpointPort>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its addresses, all of them equally good.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub addresses: Vec<String>,
    /// What state it is in.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub conditions: EndpointConditions,
    /// Node it runs on.
    #[serde(default)]
    pub node_name: Option<String>,
    /// Zone it runs in.
    #[serde(default)]
    pub zone: Option<String>,
    /// Who should use it.
    #[serde(default)]
    pub hints: Option<EndpointHints>,
}

/// State of an [`Endpoint`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointConditions {
    /// Takes new connections. Absent: it does.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Answers, whether or not it is about to end. Absent: as `ready`.
    #[serde(default)]
    pub serving: Option<bool>,
    /// Is about to end. Absent: it is not.
    #[serde(default)]
    pub terminating: Option<bool>,
}

/// Who should use an [`Endpoint`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointHints {
    /// Clients in these zones.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub for_zones: Vec<ForName>,
    /// Clients on these nodes.
    #[serde(default, deserialize_with = "crate::meta::null_as_default")]
    pub for_nodes: Vec<ForName>,
}

/// A zone or node of a hint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForName {
    /// Its name.
    pub name: String,
}

/// A port of an [`EndpointSlice`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    /// Name of the service's port; empty if that has none.
    #[serde(default)]
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`. Default: `TCP`.
    #[serde(default)]
    pub protocol: Option<String>,
    /// The endpoints' port. Absent: every port, which a service can't use.
    #[serde(default)]
    pub port: Option<i64>,
}
