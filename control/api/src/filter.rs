//! `BGPFilter`: which routes pass, and with what changes.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::bgp::Afi;
use crate::cidr::Cidr;
use crate::meta::Object;

/// Kind of [`BgpFilter`].
pub const BGP_FILTER: &str = "BGPFilter";

/// An ordered list of rules. The first one that matches and decides, decides.
pub type BgpFilter = Object<BgpFilterSpec>;

/// Specification of a [`BgpFilter`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpFilterSpec {
    /// What happens to routes that no rule decides. `Next` goes on with the next filter of the list, and rejects at its end.
    /// Default: `Reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_action: Option<FilterAction>,
    /// Rules in order.
    #[serde(default)]
    pub rules: Vec<FilterRule>,
}

/// What becomes of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum FilterAction {
    /// It passes, with all changes made so far.
    Accept,
    /// It does not pass.
    Reject,
    /// Not decided: the next rule or filter goes on, with all changes made so far.
    Next,
}

/// One rule. All conditions that are set must hold; a rule without conditions matches every route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterRule {
    /// Name, unique in the filter; shown by `causeway bgp explain`.
    pub name: String,
    /// Prefixes; one of them must match, as [`Self::match_operator`] says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidr: Vec<Cidr>,
    /// How `cidr` is compared. Default: `In`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<MatchOperator>,
    /// Lengths that match, in bits. Without `cidr`: of any prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<Lengths>,
    /// Family of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub afi: Option<Afi>,
    /// Kind of the peer that the filter is applied for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<PeerType>,
    /// Where the route was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Communities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// The AS path starts with these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<u32>,
    /// AS path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_path: Option<AsPathMatch>,
    /// The next hop lies in one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_hop: Vec<Cidr>,
    /// ORIGIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Changes, if the rule matches and the route is not rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Changes>,
    /// Verdict.
    pub action: FilterAction,
    /// Why; shown by `causeway bgp explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How prefixes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum MatchOperator {
    /// The same prefix.
    Equal,
    /// Another prefix.
    NotEqual,
    /// The same prefix or one within it.
    In,
    /// Neither the same prefix nor one within it.
    NotIn,
}

/// A range of lengths, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lengths {
    /// Least. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u8>,
    /// Greatest. Default: all bits of the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
}

/// Kind of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum PeerType {
    /// Another AS.
    #[serde(rename = "eBGP")]
    Ebgp,
    /// Our AS.
    #[serde(rename = "iBGP")]
    Ibgp,
}

/// Where a route was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Source {
    /// Originated here.
    Local,
    /// From an eBGP peer.
    #[serde(rename = "eBGP")]
    Ebgp,
    /// From an iBGP peer.
    #[serde(rename = "iBGP")]
    Ibgp,
}

/// A condition on communities: standard `ASN:VALUE`, large `GLOBAL:LOCAL1:LOCAL2`, extended `rt:…`, `ro:…` or 16 hex digits,
/// or a well-known name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommunityMatch {
    /// One of them is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<String>,
    /// All of them are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<String>,
    /// None of them is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<String>,
}

/// A condition on the AS path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AsPathMatch {
    /// This AS is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<u32>,
    /// This AS is the last one: the originator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub originator: Option<u32>,
    /// Its length, as the decision process counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<PathLengths>,
}

/// A range of AS path lengths, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathLengths {
    /// Least. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Greatest. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// ORIGIN (RFC 4271 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Origin {
    /// 0.
    #[serde(rename = "IGP")]
    Igp,
    /// 1.
    #[serde(rename = "EGP")]
    Egp,
    /// 2.
    #[serde(rename = "Incomplete")]
    Incomplete,
}

/// Changes to a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Changes {
    /// LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// Removes MULTI_EXIT_DISC. Default: false.
    #[serde(default)]
    pub remove_med: bool,
    /// ORIGIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Communities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityChange>,
    /// AS path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_path_prepend: Option<Prepend>,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHop>,
}

/// A change of communities, written as in [`CommunityMatch`]. `replace` comes first, then `remove`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommunityChange {
    /// Leaves exactly these, of every kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Vec<String>>,
    /// Removes these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Adds these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
}

/// Prepends an AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prepend {
    /// AS; ours if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// How often, 1 to 16.
    pub count: u8,
}

/// How the next hop is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum NextHop {
    /// By a word.
    Word(NextHopWord),
    /// To this address.
    Address(IpAddr),
}

/// How the next hop is set, by a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NextHopWord {
    /// On export our address, on import the peer's.
    #[serde(rename = "self")]
    SelfAddress,
    /// On export: as learned.
    Unchanged,
}
