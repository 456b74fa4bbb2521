//! What the monitor should hold and what it holds: the check of a daemon's output.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use foldhash::fast::FixedState;

use crate::bgp::monitor::Recording;
use crate::bgp::table::{Prefix, Table};
use crate::bgp::wire::{self, Attributes, Update};

/// The number of a blaster, from 1; `NONE` for a prefix that isn't announced.
pub(crate) type Source = u8;
const NONE: Source = 0;

/// The monitor's table: built from a recording, each route compared with what a blaster announced.
#[derive(Debug)]
pub(crate) struct View<'t> {
    table: &'t Table,
    rules: Rules,
    prefixes: HashMap<Prefix, u32, FixedState>,
    /// Group of each prefix.
    groups: Vec<u32>,
    sources: Vec<Source>,
    /// When each prefix was first announced.
    first_seen: Vec<Option<Instant>>,
    present: usize,
    /// The counters since the last `begin`.
    pub(crate) counts: Counts,
}

/// What the daemon under test adds to a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// First in every AS_PATH.
    pub(crate) daemon_asn: u32,
    /// NEXT_HOP of every route: the daemon's address towards the monitor.
    pub(crate) next_hop: Ipv4Addr,
    /// Blaster n has this AS number plus n.
    pub(crate) blaster_base_asn: u32,
}

/// What came in since the last [`View::begin`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// UPDATE messages with content (End-of-RIB isn't one).
    pub(crate) updates: u64,
    pub(crate) announcements: u64,
    /// Announcements of a prefix that was already there, whatever changed.
    pub(crate) repeated: u64,
    pub(crate) withdrawals: u64,
    /// Arrival of the last UPDATE.
    pub(crate) last: Option<Instant>,
    /// Arrival of the first UPDATE.
    pub(crate) first: Option<Instant>,
}

impl<'t> View<'t> {
    pub(crate) fn new(table: &'t Table, rules: Rules) -> Self {
        let mut prefixes =
            HashMap::with_capacity_and_hasher(table.prefixes.len(), FixedState::default());
        let mut groups = vec![0; table.prefixes.len()];
        for (number, group) in (0..).zip(&table.groups) {
            for position in group.prefixes.clone() {
                groups[position as usize] = number;
                prefixes.insert(table.prefixes[position as usize], position);
            }
        }
        Self {
            table,
            rules,
            prefixes,
            groups,
            sources: vec![NONE; table.prefixes.len()],
            first_seen: vec![None; table.prefixes.len()],
            present: 0,
            counts: Counts::default(),
        }
    }

    /// Starts counting anew; the table stays.
    pub(crate) fn begin(&mut self) {
        self.counts = Counts::default();
    }

    /// Applies what was recorded.
    pub(crate) fn apply(&mut self, recording: &Recording) -> Result<()> {
        for (at, kind, body) in recording.messages() {
            match kind {
                wire::UPDATE => self
                    .update(at, body)
                    .context("in an UPDATE to the monitor")?,
                wire::KEEPALIVE => {}
                other => bail!("the monitor received a message of type {other}: {body:02x?}"),
            }
        }
        Ok(())
    }

    /// Number of prefixes that are announced now.
    pub(crate) fn present(&self) -> usize {
        self.present
    }

    /// Number of prefixes that are announced by way of `source`.
    pub(crate) fn by_way_of(&self, source: Source) -> usize {
        self.sources
            .iter()
            .filter(|present| **present == source)
            .count()
    }

    /// When the prefix at `position` of the table was first announced to the monitor.
    pub(crate) fn first_seen(&self, position: usize) -> Option<Instant> {
        self.first_seen[position]
    }

    /// When the probe prefix `number` was first announced to the monitor.
    pub(crate) fn probe_seen(&self, number: usize) -> Option<Instant> {
        self.first_seen(self.table.routes() + number)
    }

    fn update(&mut self, at: Instant, body: &[u8]) -> Result<()> {
        let update = Update::parse(body)?;
        if update.withdrawn.is_empty() && update.announced.is_empty() {
            return Ok(());
        }
        self.counts.updates += 1;
        self.counts.first.get_or_insert(at);
        self.counts.last = Some(at);
        for prefix in update.withdrawn {
            self.counts.withdrawals += 1;
            let position = self.position(prefix?)?;
            if std::mem::replace(&mut self.sources[position], NONE) != NONE {
                self.present -= 1;
            }
        }
        let Some(attributes) = &update.attributes else {
            return Ok(());
        };
        // Prefixes of one UPDATE are nearly always of one group: compare its attributes once.
        let mut verified = None;
        for prefix in update.announced {
            let prefix = prefix?;
            self.counts.announcements += 1;
            let position = self.position(prefix)?;
            let group = self.groups[position];
            let source = match verified {
                Some((same, source)) if same == group => source,
                _ => self
                    .verify(attributes, group)
                    .with_context(|| format!("{prefix}"))?,
            };
            verified = Some((group, source));
            self.first_seen[position].get_or_insert(at);
            match std::mem::replace(&mut self.sources[position], source) {
                NONE => self.present += 1,
                _ => self.counts.repeated += 1,
            }
        }
        Ok(())
    }

    fn position(&self, prefix: Prefix) -> Result<usize> {
        match self.prefixes.get(&prefix) {
            Some(position) => Ok(*position as usize),
            None => bail!("{prefix} was announced by no blaster"),
        }
    }

    /// The blaster whose route this is. Everything but what the daemon adds must be as it was announced.
    fn verify(&self, attributes: &Attributes, group: u32) -> Result<Source> {
        let group = &self.table.groups[group as usize];
        let [daemon, blaster, path @ ..] = &attributes.path[..] else {
            bail!("AS_PATH {:?} is too short", attributes.path);
        };
        ensure!(
            *daemon == self.rules.daemon_asn,
            "AS_PATH starts with {daemon}"
        );
        ensure!(
            path == group.path,
            "AS_PATH ends with {path:?}, announced {:?}",
            group.path
        );
        ensure!(
            attributes.origin == group.origin,
            "ORIGIN {}",
            attributes.origin
        );
        ensure!(
            attributes.communities == group.communities,
            "communities {:08x?}, announced {:08x?}",
            attributes.communities,
            group.communities
        );
        ensure!(
            attributes.next_hop == self.rules.next_hop,
            "NEXT_HOP {}, the daemon's address is {}",
            attributes.next_hop,
            self.rules.next_hop
        );
        blaster
            .checked_sub(self.rules.blaster_base_asn)
            .and_then(|number| Source::try_from(number).ok())
            .filter(|number| *number != NONE)
            .with_context(|| format!("AS {blaster} is no blaster's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::wire::Identity;

    const RULES: Rules = Rules {
        daemon_asn: 65_000,
        next_hop: Ipv4Addr::new(10, 99, 0, 1),
        blaster_base_asn: 64_600,
    };

    /// The blaster's stream as a daemon would send it on: its own number in front, itself as next hop.
    fn forwarded(table: &Table, source: u32) -> Recording {
        let mut announced = Vec::new();
        for group in &table.groups {
            let mut group = group.clone();
            group.path.insert(0, 64_600 + source);
            announced.push(group);
        }
        let daemon = Identity {
            asn: 65_000,
            addr: RULES.next_hop,
        };
        Recording::of(wire::announce(table, &announced, daemon).to_vec())
    }

    #[test]
    fn a_forwarded_table_is_complete_and_a_withdrawn_one_empty() {
        let table = Table::generate(2000, 1, 9);
        let mut view = View::new(&table, RULES);
        view.apply(&forwarded(&table, 3)).unwrap();
        assert_eq!((view.present(), view.by_way_of(3)), (2001, 2001));
        assert_eq!(view.counts.updates as usize, table.groups.len());
        assert!(view.probe_seen(0).is_some());

        view.begin();
        view.apply(&Recording::of(wire::withdraw(&table.prefixes).to_vec()))
            .unwrap();
        assert_eq!((view.present(), view.counts.withdrawals), (0, 2001));
    }

    #[test]
    fn a_repeated_announcement_is_counted() {
        let table = Table::generate(100, 0, 9);
        let mut view = View::new(&table, RULES);
        view.apply(&forwarded(&table, 1)).unwrap();
        view.apply(&forwarded(&table, 2)).unwrap();
        assert_eq!((view.present(), view.counts.repeated), (100, 100));
        assert_eq!((view.by_way_of(1), view.by_way_of(2)), (0, 100));
    }

    #[test]
    fn changed_attributes_are_found() {
        let table = Table::generate(50, 0, 9);
        let mut altered = Table::generate(50, 0, 9);
        altered.groups[2].path.push(7);
        let mut view = View::new(&table, RULES);
        let error = view.apply(&forwarded(&altered, 1)).unwrap_err();
        assert!(
            format!("{error:#}").contains("AS_PATH ends with"),
            "{error:#}"
        );
    }

    #[test]
    fn a_foreign_prefix_is_found() {
        let table = Table::generate(50, 0, 9);
        let other = Table::generate(50, 0, 10);
        let error = View::new(&table, RULES)
            .apply(&forwarded(&other, 1))
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("announced by no blaster"),
            "{error:#}"
        );
    }
}
