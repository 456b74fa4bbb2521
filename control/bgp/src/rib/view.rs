//! What the RIB shows: owned plain structs for the API, and the reasons of each decision.

use core::net::IpAddr;
use std::sync::Arc;

use crate::types::{Asn, Family, PeerId, Prefix};
use crate::wire::Attributes;

/// Which routes to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteFilter {
    /// All of a family.
    All(Family),
    /// This prefix.
    Exact(Prefix),
    /// This prefix and everything in it.
    Longer(Prefix),
    /// The longest prefix that covers the address.
    LongestMatch(IpAddr),
}

/// Position in a listing that is read in pages; `Default` starts. A listing read while the table changes may miss or
/// repeat what changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub u32);

/// A page of a listing. It may hold less than was asked for, even nothing, and still not be the last one: what is looked at
/// for one page is limited too.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Entries.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// A prefix with all its paths, best first, then multipath members, then the others.
#[derive(Clone, Debug)]
pub struct RouteView {
    /// Prefix.
    pub prefix: Prefix,
    /// Paths.
    pub paths: Vec<PathView>,
}

/// One path of a prefix.
#[derive(Clone, Debug)]
pub struct PathView {
    /// Where it was learned; `None` if this speaker originates it.
    pub peer: Option<PeerId>,
    /// Attributes as received.
    pub received: Arc<Attributes>,
    /// Attributes after import policy, where it changed them.
    pub imported: Option<Arc<Attributes>>,
    /// Kept from before a restart or refresh, not yet confirmed.
    pub stale: bool,
    /// What became of it.
    pub status: PathStatus,
    /// Its share of the traffic relative to the others in use, 1 to 255; `None` if it has none.
    pub weight: Option<u8>,
}

/// What became of a path, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStatus {
    /// The best path.
    Best,
    /// Used beside the best path.
    Multipath,
    /// Lost against another path.
    Lost {
        /// At which step.
        step: DecisionStep,
        /// Against the path of this peer (`None`: a local one).
        against: Option<PeerId>,
    },
    /// Took no part.
    Ineligible(Ineligible),
}

/// The steps of the decision process (RFC 4271 9.1.2, with RFC 4456 9 and common practice in between).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecisionStep {
    /// Highest LOCAL_PREF (9.1.1).
    LocalPref,
    /// Originated here.
    LocalOrigin,
    /// Shortest AS_PATH (9.1.2.2 a); a set counts 1, confederation segments 0.
    AsPathLength,
    /// Lowest ORIGIN (9.1.2.2 b).
    Origin,
    /// Lowest MULTI_EXIT_DISC within one neighbouring AS (9.1.2.2 c).
    Med,
    /// eBGP over iBGP (9.1.2.2 d).
    External,
    /// Lowest cost to the next hop (9.1.2.2 e).
    IgpMetric,
    /// The eBGP path that was there first (RFC 5004); only if configured.
    Oldest,
    /// Lowest BGP identifier, or ORIGINATOR_ID (9.1.2.2 f, RFC 4456 9).
    RouterId,
    /// Shortest CLUSTER_LIST (RFC 4456 9).
    ClusterList,
    /// Lowest peer address (9.1.2.2 g).
    PeerAddress,
}

impl DecisionStep {
    /// RFC section and what is compared, for text output.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::LocalPref => "local preference (RFC 4271 9.1.1)",
            Self::LocalOrigin => "originated here",
            Self::AsPathLength => "AS path length (RFC 4271 9.1.2.2 a)",
            Self::Origin => "origin (RFC 4271 9.1.2.2 b)",
            Self::Med => "MED (RFC 4271 9.1.2.2 c)",
            Self::External => "eBGP over iBGP (RFC 4271 9.1.2.2 d)",
            Self::IgpMetric => "metric to the next hop (RFC 4271 9.1.2.2 e)",
            Self::Oldest => "oldest eBGP path (RFC 5004)",
            Self::RouterId => "router id (RFC 4271 9.1.2.2 f, RFC 4456 9)",
            Self::ClusterList => "cluster list length (RFC 4456 9)",
            Self::PeerAddress => "peer address (RFC 4271 9.1.2.2 g)",
        }
    }
}

/// Why a path takes no part in the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// Our own AS is in the AS path (RFC 4271 9.1.2).
    AsLoop,
    /// Confederation segments from outside, or none of a member AS from that member (RFC 5065 5).
    Confederation,
    /// We are its originator (RFC 4456 8).
    OwnOriginatorId,
    /// Our cluster is in its cluster list (RFC 4456 8).
    ClusterLoop,
    /// The first AS is not the peer's (RFC 4271 6.3).
    FirstAs {
        /// The AS that is first; `None` if the path is empty or starts with a set.
        found: Option<Asn>,
    },
    /// The next hop is not reachable (RFC 4271 9.1.2.1).
    NextHopUnreachable,
    /// The next hop is an address of ours (RFC 4271 5.1.3).
    NextHopOwn,
    /// The next hop is not a unicast address that can be sent to.
    NextHopMartian,
    /// eBGP without import policy (RFC 8212).
    NoPolicy,
    /// A default route, which the peer is not allowed to send.
    DefaultRoute,
    /// Rejected by import policy.
    Rejected(RuleName),
    /// Its session went down; it is about to be removed.
    PeerDown,
    /// An originated prefix that is not programmed yet.
    NotReady,
    /// Nothing has been decided yet that it could lose against: after a restart, selection waits (RFC 4724 4.1).
    Undecided,
}

/// The rule of a policy that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// Policy.
    pub policy: Box<str>,
    /// Rule; `None` for the policy's default verdict.
    pub rule: Option<Box<str>>,
    /// Reason text of the rule.
    pub reason: Option<Box<str>>,
}

/// A prefix advertised to a peer.
#[derive(Clone, Debug)]
pub struct AdvertisedView {
    /// Prefix.
    pub prefix: Prefix,
    /// Attributes as sent.
    pub attributes: Arc<Attributes>,
    /// Where it was learned; `None` if originated here.
    pub source: Option<PeerId>,
}

/// Everything about one prefix.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Prefix asked for.
    pub prefix: Prefix,
    /// Its paths with what became of each; empty if there are none.
    pub paths: Vec<PathView>,
    /// The longest prefix that covers it, where it has no path itself.
    pub covered_by: Option<Prefix>,
    /// What each established peer of the family is sent, and why.
    pub exports: Vec<(PeerId, ExportStatus)>,
}

/// What a peer is sent for a prefix, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportStatus {
    /// The best path.
    Advertised,
    /// To be sent as soon as the peer takes more.
    Pending,
    /// There is no best path.
    NoBestPath,
    /// The best path came from this peer.
    SplitHorizon,
    /// The forwarding tables could not take it: its traffic would be lost here.
    NotProgrammed,
    /// From iBGP to iBGP, neither side a client (RFC 4456 6).
    NotReflected,
    /// NO_ADVERTISE, NO_EXPORT or NO_EXPORT_SUBCONFED (RFC 1997).
    WellKnownCommunity,
    /// eBGP without export policy (RFC 8212).
    NoPolicy,
    /// A default route, which this peer is not sent.
    DefaultRoute,
    /// Rejected by export policy.
    Rejected(RuleName),
    /// No address of ours fits as next hop.
    NoNextHop,
    /// The next hop is the peer itself (RFC 4271 5.1.3).
    NextHopIsPeer,
    /// Output waits for the end of a restart (RFC 4724 4.1).
    Held,
}

/// Figures of the RIB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// By [`Family::index`].
    pub families: [FamilySummary; Family::ALL.len()],
    /// Distinct attribute sets.
    pub attribute_sets: usize,
    /// Next-hop sets in the FIB.
    pub next_hop_sets: usize,
    /// Update groups.
    pub update_groups: usize,
}

/// Figures of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilySummary {
    /// Prefixes known.
    pub prefixes: usize,
    /// Paths known.
    pub paths: usize,
    /// Prefixes with a best path.
    pub routes: usize,
    /// Prefixes that the forwarding tables could not take, and that are not advertised because of that.
    pub unprogrammed: usize,
}

/// Counts of one peer and family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Paths received and kept, rejected ones and stale ones included.
    pub received: usize,
    /// Of these, let through by the rules of import and by import policy.
    pub accepted: usize,
    /// Of those received, from before a restart or refresh and not yet confirmed.
    pub stale: usize,
    /// Prefixes advertised to the peer.
    pub advertised: usize,
}
