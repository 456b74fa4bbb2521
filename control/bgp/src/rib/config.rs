//! What the RIB is told: its own configuration and the facts of each session.

use core::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::policy::Policy;
use crate::types::{Asn, Family, Prefix, RouterId};
use crate::wire::ClusterId;

/// Configuration of the whole RIB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibConfig {
    /// Own AS.
    pub local_asn: Asn,
    /// Own BGP identifier.
    pub router_id: RouterId,
    /// Own cluster for reflection (RFC 4456); the router id if absent.
    pub cluster_id: Option<ClusterId>,
    /// The confederation of which `local_asn` is a member (RFC 5065).
    pub confederation: Option<Confederation>,
    /// LOCAL_PREF of routes that carry none.
    pub default_local_pref: u32,
    /// How MULTI_EXIT_DISC is compared.
    pub med: MedConfig,
    /// Equal paths used at once, learned by eBGP; at least 1.
    pub maximum_paths_ebgp: u16,
    /// Equal paths used at once, learned by iBGP; at least 1.
    pub maximum_paths_ibgp: u16,
    /// Multipath asks only for AS paths of equal length; else they must be identical.
    pub multipath_relax: bool,
    /// Whether paths used at once share traffic by link bandwidth.
    pub link_bandwidth: LinkBandwidthMode,
    /// Prefers the eBGP path that was there first, before comparing router ids (RFC 5004).
    pub prefer_oldest: bool,
    /// Whether a next hop is reachable before [`super::Rib::next_hop_changed`] says so. True for a speaker without a
    /// dataplane.
    pub assume_reachable: bool,
    /// Whether [`super::Rib::poll_fib`] has anything to say. False for a speaker that forwards nothing, such as a route
    /// reflector.
    pub install_routes: bool,
    /// What an update group keeps of encoded messages for members whose transport is slow, in bytes. A member that lags
    /// further falls back to a bit set of destinations.
    pub group_log_bytes: usize,
    /// Seed of hash tables; keep it from peers, who could choose prefixes that collide.
    pub hash_seed: u64,
}

impl RibConfig {
    /// The defaults for this AS and identifier: LOCAL_PREF 100, MED within one neighbouring AS, no multipath.
    #[must_use]
    pub const fn new(local_asn: Asn, router_id: RouterId) -> Self {
        Self {
            local_asn,
            router_id,
            cluster_id: None,
            confederation: None,
            default_local_pref: 100,
            med: MedConfig {
                always_compare: false,
                missing: MissingMed::Best,
            },
            maximum_paths_ebgp: 1,
            maximum_paths_ibgp: 1,
            multipath_relax: false,
            link_bandwidth: LinkBandwidthMode::WhenAll,
            prefer_oldest: false,
            assume_reachable: false,
            install_routes: true,
            group_log_bytes: super::limits::GROUP_LOG_BYTES,
            hash_seed: 0,
        }
    }
}

/// A confederation: several ASes that look like one from outside (RFC 5065).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confederation {
    /// The AS that others see.
    pub identifier: Asn,
    /// The other member ASes.
    pub members: Arc<[Asn]>,
}

/// Whether paths used at once share traffic by link bandwidth (draft-ietf-idr-link-bandwidth).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkBandwidthMode {
    /// In proportion to it if every one of them tells its own, else equally.
    #[default]
    WhenAll,
    /// Always equally.
    Ignore,
}

/// How MULTI_EXIT_DISC is compared (RFC 4271 9.1.2.2 c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MedConfig {
    /// Between paths of different neighbouring ASes too.
    pub always_compare: bool,
    /// What a missing one counts as.
    pub missing: MissingMed,
}

/// What a missing MULTI_EXIT_DISC counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingMed {
    /// 0, the RFC's reading.
    Best,
    /// 2^32-1.
    Worst,
}

/// Facts of an established session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibSession {
    /// eBGP or iBGP.
    pub kind: PeerKind,
    /// The AS that we present to this peer.
    pub local_asn: Asn,
    /// The peer's AS.
    pub remote_asn: Asn,
    /// The peer's BGP identifier.
    pub remote_router_id: RouterId,
    /// The peer's address.
    pub remote_addr: IpAddr,
    /// Our address of the session: the next hop that "self" means for its family.
    pub local_addr: IpAddr,
    /// Our global IPv6 address on the link, for an IPv6 next hop where `local_addr` is not one.
    pub local_ipv6: Option<Ipv6Addr>,
    /// Our IPv4 address on the link, for an IPv4 next hop where `local_addr` is not one.
    pub local_ipv4: Option<core::net::Ipv4Addr>,
    /// Our link-local address, if the peer is directly connected (RFC 2545 3).
    pub local_link_local: Option<Ipv6Addr>,
    /// Interface index of the link, if the peer is directly connected; link-local next hops are bound to it.
    pub link: Option<u32>,
    /// The subnets of that link: what a next hop must be in to be told to this peer as a third party.
    pub subnets: Arc<[Prefix]>,
    /// Refuses paths whose first AS is not the peer's (RFC 4271 6.3). eBGP only.
    pub enforce_first_as: bool,
    /// How often our own AS may be in a received path before it counts as a loop.
    pub allow_own_as: u8,
    /// Both sides use 4-octet AS numbers (RFC 6793).
    pub as4: bool,
    /// Largest message the peer takes, in bytes: 4096, or 65535 (RFC 8654).
    pub max_message_bytes: u16,
    /// Peer asked for and we support enhanced refresh: refreshes go out between BoRR and EoRR (RFC 7313).
    pub enhanced_refresh: bool,
    /// By [`Family::index`]; `None` where the family was not negotiated.
    pub families: [Option<FamilySession>; Family::ALL.len()],
}

impl RibSession {
    /// A plain session with every given family under the same policies.
    #[must_use]
    pub fn new(
        kind: PeerKind,
        (local_asn, local_addr): (Asn, IpAddr),
        (remote_asn, remote_router_id, remote_addr): (Asn, RouterId, IpAddr),
        families: &[(Family, FamilySession)],
    ) -> Self {
        let mut by_index = [None, None];
        for (family, session) in families {
            by_index[family.index()] = Some(session.clone());
        }
        Self {
            kind,
            local_asn,
            remote_asn,
            remote_router_id,
            remote_addr,
            local_addr,
            local_ipv6: None,
            local_ipv4: None,
            local_link_local: None,
            link: None,
            subnets: Arc::default(),
            enforce_first_as: matches!(kind, PeerKind::External),
            allow_own_as: 0,
            as4: true,
            max_message_bytes: 4096,
            enhanced_refresh: false,
            families: by_index,
        }
    }
}

/// The kind of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// eBGP.
    External,
    /// eBGP with another member AS of our confederation (RFC 5065): next hop, MED and LOCAL_PREF stay as they are, and the
    /// path counts as an internal one.
    Confederation,
    /// iBGP.
    Internal {
        /// The peer is our route reflection client (RFC 4456).
        client: bool,
    },
}

/// One family of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilySession {
    /// Import policy; without one an eBGP peer's routes are rejected (RFC 8212), an iBGP peer's accepted.
    pub import: Option<Arc<Policy>>,
    /// Export policy; without one nothing is sent to an eBGP peer (RFC 8212), everything to an iBGP peer.
    pub export: Option<Arc<Policy>>,
    /// Accepts a default route from the peer. Otherwise it is rejected, whatever the policy says.
    pub default_route_in: bool,
    /// Sends a default route to the peer. Otherwise it is not sent, whatever the policy says.
    pub default_route_out: bool,
    /// Next hop of routes sent to the peer.
    pub next_hop: NextHopMode,
}

/// Next hop of routes sent (RFC 4271 5.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NextHopMode {
    /// eBGP: the own address. iBGP and within a confederation: unchanged, but the own address for originated routes.
    #[default]
    Default,
    /// Always the own address, except for routes reflected between iBGP peers.
    SelfAddress,
    /// Unchanged, except for originated routes.
    Unchanged,
    /// Unchanged where the next hop is on the subnet that we share with a directly connected peer ("third party"), else as
    /// [`Self::Default`].
    ThirdParty,
}
