//! BGP's routes as the network sees them: sets of next hops, and which prefix points at which set.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::facts::Subnet;
use crate::resolve::NextHopKey;

/// A set of next hops, named by whoever defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(pub u32);

/// A next hop and its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// Next hop.
    pub key: NextHopKey,
    /// Relative weight, at least 1.
    pub weight: u32,
}

/// Prefixes and sets, for longest-match look-ups.
///
/// A look-up tries the lengths that occur, the longest first: a handful of hashes, rarely needed.
#[derive(Debug, Default)]
pub(crate) struct Fib {
    pub(crate) sets: BTreeMap<SetId, Arc<[Hop]>>,
    routes: HashMap<Subnet, SetId, RandomState>,
    /// How many prefixes there are of each family and length.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl Fib {
    pub(crate) fn define(&mut self, id: SetId, members: Option<Arc<[Hop]>>) {
        match members {
            Some(members) => self.sets.insert(id, members),
            None => self.sets.remove(&id),
        };
    }

    /// Returns whether that is another set than before.
    pub(crate) fn route(&mut self, prefix: Subnet, set: Option<SetId>) -> bool {
        let before = match set {
            Some(set) => self.routes.insert(prefix, set),
            None => self.routes.remove(&prefix),
        };
        if before == set {
            return false;
        }
        let length = (prefix.addr().is_ipv4(), prefix.len());
        if before.is_none() {
            *self.lengths.entry(length).or_default() += 1;
        } else if set.is_none()
            && let Some(count) = self.lengths.get_mut(&length)
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
        true
    }

    pub(crate) fn contains(&self, prefix: Subnet) -> bool {
        self.routes.contains_key(&prefix)
    }

    /// The routes to `addr`, the longest first.
    pub(crate) fn matches(&self, addr: IpAddr) -> impl Iterator<Item = (Subnet, &[Hop])> + '_ {
        let v4 = addr.is_ipv4();
        self.lengths
            .range((v4, 0)..=(v4, u8::MAX))
            .rev()
            .filter_map(move |((_, len), _)| {
                let prefix = Subnet::new(addr, *len)?;
                let set = self.routes.get(&prefix)?;
                Some((prefix, &**self.sets.get(set)?))
            })
    }
}
