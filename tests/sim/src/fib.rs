//! The forwarding table of a node, as the speaker's changes make it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use causeway_bgp::fib::{FibDelta, FibNextHop, NextHopSetId};
use causeway_bgp::types::Prefix;

/// A forwarding table.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    sets: HashMap<NextHopSetId, Arc<[FibNextHop]>>,
    routes: BTreeMap<Prefix, NextHopSetId>,
}

impl Fib {
    /// Next hops of a prefix; empty if there is no route.
    #[must_use]
    pub fn next_hops(&self, prefix: Prefix) -> &[FibNextHop] {
        self.routes
            .get(&prefix)
            .and_then(|set| self.sets.get(set))
            .map_or(&[], |set| &set[..])
    }

    /// Prefixes with a route.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.routes.keys().copied()
    }

    /// Applies a change and returns the prefixes it removed. The contract of [`FibDelta`] is checked on the way.
    pub(crate) fn apply(&mut self, delta: FibDelta) -> Vec<Prefix> {
        let mut removed = Vec::new();
        for (id, set) in &delta.sets {
            if let Some(set) = set {
                assert!(!set.is_empty(), "a set without members");
                self.sets.insert(*id, Arc::clone(set));
            }
        }
        for (prefix, set) in delta.routes {
            match set {
                Some(set) => {
                    assert!(
                        self.sets.contains_key(&set),
                        "{prefix} points at an undefined set"
                    );
                    self.routes.insert(prefix, set);
                }
                None => {
                    self.routes.remove(&prefix);
                    removed.push(prefix);
                }
            }
        }
        for (id, set) in &delta.sets {
            if set.is_none() {
                assert!(
                    !self.routes.values().any(|used| used == id),
                    "a set released in use"
                );
                self.sets.remove(id);
            }
        }
        removed
    }
}
