//! The routing table that blasters announce: shaped like the Internet's, the same for the same seed.
//!
//! Routes come in groups that share all attributes. Group sizes are heavy-tailed (mean 7.4, most groups have one
//! prefix, a few have hundreds), 60 % of the prefixes are /24, 60 % of the groups carry communities. No group needs
//! more than one UPDATE, so a table of 100,000 prefixes is announced in about 13,500 messages.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::ops::Range;

use foldhash::fast::FixedState;

use crate::random::Random;

/// Largest group: with 24-bit prefixes and the longest attributes it still fits a 4096-byte message.
/// The mean of `min(⌊1/u⌋, cap)` for uniform u is the harmonic number of the cap: H(900) = 7.38.
const MAX_GROUP_PREFIXES: u32 = 900;

/// Probes have their own range (RFC 2544 benchmarking), which no generated prefix touches.
const PROBE_BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const PROBE_LIMIT: u32 = 1 << 17;

/// An IPv4 prefix; bits beyond the length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix {
    pub(crate) addr: u32,
    /// 0 to 32.
    pub(crate) len: u8,
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.addr), self.len)
    }
}

/// The attributes that the routes of one group share, apart from what the announcing peer adds.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Where its prefixes are in [`Table::prefixes`].
    pub(crate) prefixes: Range<u32>,
    /// ORIGIN code.
    pub(crate) origin: u8,
    /// AS_PATH behind the announcing peer's own number.
    pub(crate) path: Vec<u32>,
    /// Sorted, so that a daemon that sorts them changes nothing.
    pub(crate) communities: Vec<u32>,
}

/// Routes in groups, then probe prefixes in groups of one.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) groups: Vec<Group>,
    probes: usize,
}

impl Table {
    /// A table of exactly `routes` prefixes, followed by `probes` single ones.
    pub(crate) fn generate(routes: usize, probes: usize, seed: u64) -> Self {
        assert!(
            probes < PROBE_LIMIT as usize,
            "probe prefixes are /32 within 198.18.0.0/15"
        );
        let mut random = Random(seed);
        let mut table = Self {
            prefixes: Vec::with_capacity(routes + probes),
            groups: Vec::with_capacity(routes / 7 + probes),
            probes,
        };
        let mut used = HashSet::with_capacity_and_hasher(routes, FixedState::default());
        while table.prefixes.len() < routes {
            let size = random
                .group_size()
                .min(index(routes - table.prefixes.len()));
            let first = index(table.prefixes.len());
            for _ in 0..size {
                let prefix = std::iter::repeat_with(|| random.prefix())
                    .find(|prefix| used.insert(*prefix))
                    .expect("the iterator doesn't end");
                table.prefixes.push(prefix);
            }
            table.groups.push(random.group(first..first + size));
        }
        for probe in 0..index(probes) {
            let first = index(table.prefixes.len());
            table.prefixes.push(Prefix {
                addr: PROBE_BASE + probe,
                len: 32,
            });
            table.groups.push(Group {
                prefixes: first..first + 1,
                origin: 0,
                path: vec![3320, 1299],
                communities: Vec::new(),
            });
        }
        table
    }

    /// The groups that are not probes.
    pub(crate) fn route_groups(&self) -> &[Group] {
        &self.groups[..self.groups.len() - self.probes]
    }

    /// The groups of one probe prefix each.
    pub(crate) fn probe_groups(&self) -> &[Group] {
        &self.groups[self.groups.len() - self.probes..]
    }

    /// Number of prefixes that are not probes.
    pub(crate) fn routes(&self) -> usize {
        self.prefixes.len() - self.probes
    }

    /// The prefixes of a group.
    pub(crate) fn prefixes_of(&self, group: &Group) -> &[Prefix] {
        &self.prefixes[group.prefixes.start as usize..group.prefixes.end as usize]
    }
}

/// Table positions are `u32`: a table has at most a few million prefixes.
fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a table has fewer than 2^32 prefixes")
}

impl Random {
    fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// P(size ≥ k) = 1/k up to the cap.
    fn group_size(&mut self) -> u32 {
        let denominator = (self.next() >> 32).max(1);
        u32::try_from((1_u64 << 32) / denominator)
            .unwrap_or(u32::MAX)
            .min(MAX_GROUP_PREFIXES)
    }

    fn prefix(&mut self) -> Prefix {
        let len = match self.below(100) {
            0..60 => 24,
            60..72 => 22,
            72..81 => 23,
            81..86 => 21,
            86..91 => 20,
            91..95 => 19,
            95..97 => 18,
            97 => 17,
            _ => 16,
        };
        loop {
            let addr = (self.next() >> 32) as u32 & (u32::MAX << (32 - u32::from(len)));
            // Not "this network", private, loopback, benchmarking, multicast or reserved.
            let reserved = matches!(addr.to_be_bytes(), [0 | 10 | 127 | 224..=255, ..])
                || matches!(addr.to_be_bytes(), [169, 254, ..] | [172, 16..=31, ..])
                || matches!(addr.to_be_bytes(), [192, 168, ..] | [198, 18 | 19, ..]);
            if !reserved {
                return Prefix { addr, len };
            }
        }
    }

    fn group(&mut self, prefixes: Range<u32>) -> Group {
        // Both two-octet and four-octet public numbers.
        let path = (0..1 + self.below(6))
            .map(|_| match self.percent(70) {
                true => 1 + self.below(64_000),
                false => 131_072 + self.below(270_000),
            })
            .collect();
        let mut communities = Vec::new();
        if self.percent(60) {
            for _ in 0..1 + self.below(8) {
                communities.push((1 + self.below(64_000)) << 16 | self.below(65_536));
            }
            communities.sort_unstable();
            communities.dedup();
        }
        Group {
            prefixes,
            origin: if self.percent(90) { 0 } else { 2 },
            path,
            communities,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_promised_shape() {
        let table = Table::generate(100_000, 10, 1);
        assert_eq!(table.routes(), 100_000);
        assert_eq!(table.probe_groups().len(), 10);

        let groups = table.route_groups().len() as f64;
        let mean = 100_000.0 / groups;
        assert!((6.4..8.4).contains(&mean), "mean group size {mean}");
        let singles = table
            .route_groups()
            .iter()
            .filter(|g| g.prefixes.len() == 1)
            .count() as f64;
        assert!(
            (0.4..0.6).contains(&(singles / groups)),
            "{singles} of {groups} groups are single"
        );
        let tagged = table
            .route_groups()
            .iter()
            .filter(|g| !g.communities.is_empty())
            .count() as f64;
        assert!(
            (0.57..0.63).contains(&(tagged / groups)),
            "{tagged} of {groups} have communities"
        );
        let slash_24 = table
            .prefixes
            .iter()
            .filter(|prefix| prefix.len == 24)
            .count();
        assert!((59_000..61_000).contains(&slash_24), "{slash_24} are /24");
    }

    #[test]
    fn prefixes_are_distinct_and_canonical() {
        let table = Table::generate(50_000, 100, 2);
        let distinct: HashSet<_> = table.prefixes.iter().collect();
        assert_eq!(distinct.len(), 50_100);
        for prefix in &table.prefixes {
            let host_bits = u32::MAX.checked_shr(u32::from(prefix.len)).unwrap_or(0);
            assert_eq!(prefix.addr & host_bits, 0, "{prefix}");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_table() {
        let [a, b, c] = [3, 3, 4].map(|seed| Table::generate(1000, 0, seed).prefixes);
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
