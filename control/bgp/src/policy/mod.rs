//! Import and export policy: ordered rules, each with conditions, changes and a verdict.
//!
//! A policy never touches attributes in place: it yields an [`Outcome`] that borrows when nothing changes, so that the
//! common case costs no copy. The deciding rule is part of the outcome, because `explain` shows it.

mod apply;
mod rule;

use crate::types::Prefix;

pub use apply::{Outcome, Session};
pub use rule::{
    Action, AsPathMatch, Edit, Match, NextHopAction, PeerType, PrefixRange, RouteSource, Rule,
    SetMatch,
};

/// Whether a route passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes, with the changes made so far.
    Accept,
    /// It does not.
    Reject,
}

/// An ordered list of rules with a verdict for routes that no rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name, for `explain`.
    name: Box<str>,
    rules: Box<[Rule]>,
    default: Verdict,
    /// Whether two prefixes with the same attributes can fare differently.
    looks_at_prefix: bool,
}

impl Policy {
    /// A policy of these rules; a route that no rule decides gets `default`.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>, rules: Vec<Rule>, default: Verdict) -> Self {
        Self {
            name: name.into(),
            looks_at_prefix: rules.iter().any(Rule::looks_at_prefix),
            rules: rules.into(),
            default,
        }
    }

    /// The policy that accepts everything unchanged.
    #[must_use]
    pub fn accept_all() -> Self {
        Self::new("accept-all", Vec::new(), Verdict::Accept)
    }

    /// The policy that rejects everything.
    #[must_use]
    pub fn reject_all() -> Self {
        Self::new("reject-all", Vec::new(), Verdict::Reject)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The verdict where no rule decides.
    #[must_use]
    pub const fn default_verdict(&self) -> Verdict {
        self.default
    }

    /// Whether two prefixes with the same attributes can fare differently.
    #[must_use]
    pub const fn looks_at_prefix(&self) -> bool {
        self.looks_at_prefix
    }
}

/// What is known of a route beside its attributes.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Prefix.
    pub prefix: Prefix,
    /// The kind of peer that the policy is applied for.
    pub peer: PeerType,
    /// Where the route was learned.
    pub source: RouteSource,
}
