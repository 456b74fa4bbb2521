//! Resource kinds and API types. No behaviour: what a kind means is decided where it is used.
//!
//! 1. [`meta`] is what every object has: version, kind, name, labels.
//! 2. [`bgp`], [`filter`], [`node`] and [`secret`] are the kinds, as written in YAML or kept by Kubernetes. A field that is
//!    not listed is refused, never ignored.
//! 3. [`service`] and [`endpoint_slice`] are Kubernetes' own kinds, with Kubernetes' own names. Only fields that are used
//!    are listed; the others are passed over, because the API server's objects are full of them and grow with every release.
//! 4. [`view`] is what the daemon's HTTP API answers.
//!
//! Words follow what users know from other products; sections of RFCs are named with the fields.

#![forbid(unsafe_code)]

pub mod bgp;
pub mod cidr;
pub mod endpoint_slice;
pub mod explain;
pub mod filter;
pub mod meta;
pub mod node;
pub mod secret;
pub mod service;
pub mod view;

/// Version of our own kinds.
pub const API_VERSION: &str = "causeway.dev/v1alpha1";

/// Version of the kinds that we share with Kubernetes.
pub const CORE_VERSION: &str = "v1";

/// Version of [`endpoint_slice::EndpointSlice`].
pub const DISCOVERY_VERSION: &str = "discovery.k8s.io/v1";

/// Where the daemon listens unless told otherwise.
pub const SOCKET_PATH: &str = "/run/causeway/causeway.sock";
