//! What one node shall be: everything that concerns it, references followed.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use causeway_api::bgp::{
    BgpAdvertisement, BgpInstance, BgpPeerConfigSpec, DynamicNeighbors, PeerFamily,
};
use causeway_api::cidr::Cidr;
use causeway_api::filter::BgpFilter;
use causeway_api::node::{MaxRoutes, NodeConfigSpec, PodCidr, Role, XdpMode};

/// A whole configuration, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// The node.
    pub node: NodeSettings,
    /// Its speaker, if one is configured.
    pub instance: Option<Instance>,
    /// All objects as read, keys left out.
    pub objects: Vec<serde_json::Value>,
}

/// What the node does with packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Whether it routes from uplink to uplink.
    pub role: Role,
    /// Names of interfaces, `*` at the end for any rest.
    pub uplinks: Vec<String>,
    /// How XDP is attached.
    pub xdp_mode: XdpMode,
    /// Seed of the ECMP flow hash.
    pub hash_seed: Option<u32>,
    /// Most routes in the maps.
    pub max_routes: MaxRoutes,
    /// Whether the kernel's main table follows.
    pub kernel_routes: bool,
    /// Whether a default route may resolve a next hop.
    pub resolve_next_hops_via_default: bool,
    /// Ranges of pods' addresses, one of each family at most.
    pub pod_cidrs: Vec<PodCidr>,
    /// How the names of interfaces begin that lead to local pods.
    pub pod_interface_prefix: Option<String>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self::from(&NodeConfigSpec::default())
    }
}

impl From<&NodeConfigSpec> for NodeSettings {
    fn from(spec: &NodeConfigSpec) -> Self {
        Self {
            role: spec.role,
            uplinks: spec.uplinks.interfaces.clone(),
            xdp_mode: spec.xdp_mode,
            hash_seed: spec.hash_seed,
            max_routes: spec.max_routes,
            kernel_routes: spec.kernel_routes,
            resolve_next_hops_via_default: spec.resolve_next_hops_via_default,
            pod_cidrs: spec.pod_cidrs.clone(),
            pod_interface_prefix: spec.pod_interface_prefix.clone(),
        }
    }
}

impl NodeSettings {
    /// Whether packets are forwarded on the interface of this name.
    #[must_use]
    pub fn is_uplink(&self, name: &str) -> bool {
        self.uplinks
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => pattern == name,
            })
    }
}

/// A speaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// As written, with the node's overrides; peers and dynamic neighbours as below instead.
    pub spec: BgpInstance,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Groups of dynamic neighbours, each with its template.
    pub dynamic: Vec<(DynamicNeighbors, PeerAs, Arc<Template>)>,
    /// Prefixes to originate, without duplicates.
    pub originated: Vec<Cidr>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Name.
    pub name: String,
    /// Address.
    pub address: IpAddr,
    /// Interface of a link-local address.
    pub interface: Option<String>,
    /// Its AS.
    pub peer_as: PeerAs,
    /// Source address, where the node overrides the template's.
    pub local_address: Option<IpAddr>,
    /// How to speak with it.
    pub template: Arc<Template>,
}

/// Which AS a peer must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAs {
    /// This one.
    Exactly(u32),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

/// A `BGPPeerConfig` with its references followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Name; empty for the defaults.
    pub name: String,
    /// As written; families as below instead.
    pub spec: BgpPeerConfigSpec,
    /// TCP MD5 key.
    pub password: Option<Password>,
    /// Families.
    pub families: Vec<Family>,
}

/// A family with its references followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// As written.
    pub spec: PeerFamily,
    /// Filters for received routes, in order.
    pub import: Vec<Arc<BgpFilter>>,
    /// Filters for routes to announce, in order.
    pub export: Vec<Arc<BgpFilter>>,
    /// What is announced besides.
    pub advertisements: Vec<Arc<BgpAdvertisement>>,
}

/// A key, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the system call that needs them only.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_rest_of_a_name() {
        let node = NodeSettings {
            uplinks: vec!["eth0".to_owned(), "up*".to_owned()],
            ..NodeSettings::default()
        };
        for (name, yes) in [
            ("eth0", true),
            ("eth01", false),
            ("up", true),
            ("uplink7", true),
            ("lo", false),
        ] {
            assert_eq!(node.is_uplink(name), yes, "{name}");
        }
    }
}
