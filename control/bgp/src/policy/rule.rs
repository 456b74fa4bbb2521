//! Rules: conditions and changes as data.

use core::net::IpAddr;
use core::ops::RangeInclusive;

use super::Verdict;
use crate::types::{Asn, Family, Prefix};
use crate::wire::{Community, ExtendedCommunity, LargeCommunity, Origin};

/// One rule: if all conditions hold, carry out the actions, then decide (or go on, without a verdict).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name, unique in its policy.
    pub name: Box<str>,
    /// All of them must hold; an empty list always holds.
    pub matches: Vec<Match>,
    /// Changes, in order.
    pub actions: Vec<Action>,
    /// Verdict; `None` goes on with the next rule.
    pub verdict: Option<Verdict>,
    /// Why, in the words of whoever wrote the rule.
    pub reason: Option<Box<str>>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The prefix lies in one of these ranges.
    Prefix(Vec<PrefixRange>),
    /// Standard communities.
    Community(SetMatch<Community>),
    /// Extended communities.
    ExtendedCommunity(SetMatch<ExtendedCommunity>),
    /// Large communities.
    LargeCommunity(SetMatch<LargeCommunity>),
    /// AS path.
    AsPath(AsPathMatch),
    /// The next hop (the global one, where there are two) lies in one of these prefixes.
    NextHop(Vec<Prefix>),
    /// The peer that the policy is applied for is of this type.
    PeerType(PeerType),
    /// The route was learned there.
    Source(RouteSource),
    /// The route is of this family.
    Family(Family),
    /// ORIGIN.
    Origin(Origin),
    /// The condition does not hold.
    Not(Box<Match>),
    /// At least one of the conditions holds.
    Any(Vec<Match>),
}

/// A prefix and the lengths of its more specifics that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixRange {
    /// The covering prefix.
    pub prefix: Prefix,
    /// Lengths, in bits.
    pub lengths: RangeInclusive<u8>,
}

impl PrefixRange {
    /// This prefix and no other.
    #[must_use]
    pub const fn exact(prefix: Prefix) -> Self {
        Self {
            prefix,
            lengths: prefix.len()..=prefix.len(),
        }
    }

    /// This prefix and everything in it.
    #[must_use]
    pub const fn or_longer(prefix: Prefix) -> Self {
        Self {
            prefix,
            lengths: prefix.len()..=u8::MAX,
        }
    }
}

/// A condition on a set of communities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetMatch<T> {
    /// At least one of these is there.
    Any(Vec<T>),
    /// All of these are there.
    All(Vec<T>),
}

/// A condition on the AS path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsPathMatch {
    /// The AS is somewhere in it.
    Contains(Asn),
    /// The AS is the first one: the neighbour that sent it.
    First(Asn),
    /// The AS is the last one: the originator.
    Originator(Asn),
    /// It starts with this sequence.
    Prefix(Vec<Asn>),
    /// Its length as the decision process counts it.
    Length(RangeInclusive<u32>),
}

/// The kind of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerType {
    /// iBGP.
    Internal,
    /// eBGP.
    External,
}

/// Where a route was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// Originated by this speaker.
    Local,
    /// From an iBGP peer.
    Internal,
    /// From an eBGP peer.
    External,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets LOCAL_PREF.
    LocalPref(u32),
    /// Sets MULTI_EXIT_DISC, or removes it.
    Med(Option<u32>),
    /// Sets ORIGIN.
    Origin(Origin),
    /// Changes the communities.
    Communities(Edit<Community>),
    /// Changes the extended communities.
    ExtendedCommunities(Edit<ExtendedCommunity>),
    /// Changes the large communities.
    LargeCommunities(Edit<LargeCommunity>),
    /// Prepends an AS (the own one if absent) `count` times.
    Prepend {
        /// AS; the local AS of the session if absent.
        asn: Option<Asn>,
        /// How often.
        count: u8,
    },
    /// Sets the next hop.
    NextHop(NextHopAction),
}

/// How a policy sets the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopAction {
    /// On export: the own address of the session. On import: the address of the peer.
    SelfAddress,
    /// On export: keep what came, where the default would be the own address.
    Unchanged,
    /// This address. Of the other family than the route's: no effect.
    Address(IpAddr),
}

/// A change of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<T> {
    /// Adds these.
    Add(Vec<T>),
    /// Removes these.
    Remove(Vec<T>),
    /// Leaves exactly these.
    Replace(Vec<T>),
}

impl Rule {
    /// A rule without conditions, actions or verdict, to be filled in.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self {
            name: name.into(),
            matches: Vec::new(),
            actions: Vec::new(),
            verdict: None,
            reason: None,
        }
    }

    pub(super) fn looks_at_prefix(&self) -> bool {
        self.matches.iter().any(Match::looks_at_prefix)
    }
}

impl Match {
    fn looks_at_prefix(&self) -> bool {
        match self {
            Self::Prefix(_) => true,
            Self::Not(inner) => inner.looks_at_prefix(),
            Self::Any(inner) => inner.iter().any(Self::looks_at_prefix),
            _ => false,
        }
    }
}
