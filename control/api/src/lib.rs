//! Resource kinds and API types. No behaviour: what a kind means is decided where it is used.
//!
//! 1. [`meta`] is what every object has: version, kind, name, labels.
//! 2. [`bgp`], [`filter`], [`node`] and [`secret`] are the kinds, as written in YAML or kept by Kubernetes. A field that is
//!    not listed is refused, never ignored.
//! 3. [`view`] is what the daemon's HTTP API answers.
//!
//! Words follow what users know from other products; sections of RFCs are named with the fields.

#![forbid(unsafe_code)]

pub mod bgp;
pub mod cidr;
pub mod explain;
pub mod filter;
pub mod meta;
pub mod node;
pub mod secret;
pub mod view;

/// Version of our own kinds.
pub const API_VERSION: &str = "causeway.dev/v1alpha1";

/// Version of the kinds that we share with Kubernetes.
pub const CORE_VERSION: &str = "v1";

/// Where the daemon listens unless told otherwise.
pub const SOCKET_PATH: &str = "/run/causeway/causeway.sock";
