//! What is made from routes as they are written: the index of the pods' addresses and the flat IPv4 table.

use causeway_bgp::types::{AddressFamily, Prefix, Prefix4, Prefix6};
use causeway_maps::{Config, GroupId, PodRange4, PodRange6};

use super::Planner;
use super::apply::Tables;
use super::emit::Out;
use crate::blocks::Change;
use crate::flat::FlatWrite;
use crate::routes::TableFamily;
use crate::write::Write;

/// A row of the flat table counts as so many entries of a batch: it is as long as they are.
const ROW_ENTRIES: usize = 16;

impl Planner {
    /// Takes in that a route was written.
    pub(super) fn derive<P: TableFamily>(
        &mut self,
        prefix: P,
        before: Option<GroupId>,
        after: Option<GroupId>,
    ) where
        Self: Tables<P>,
    {
        let narrow = |group: Option<GroupId>| u16::try_from(group?.0).ok();
        let cover = match after {
            Some(_) => None,
            None => self.table().cover(prefix),
        };
        let change = Change {
            prefix,
            before: narrow(before),
            after: narrow(after),
            cover,
        };
        self.pods().change(&change);
        if let Prefix::V4(prefix) = prefix.erase() {
            let change = Change {
                prefix,
                before: change.before,
                after: change.after,
                cover,
            };
            let routes = &self.routes4;
            self.flat4.change(&change, |prefix| routes.group(prefix));
        }
    }

    /// Derives everything anew from what is written.
    pub(super) fn derive_all(&mut self) {
        let routes = &self.routes4;
        for (prefix, group) in routes.written() {
            let change = Change {
                prefix,
                before: None,
                after: Some(group),
                cover: None,
            };
            self.flat4.change(&change, |prefix| routes.group(prefix));
        }
    }

    /// Changes the ranges that are indexed.
    pub(super) fn set_ranges(&mut self, config: &Config) {
        let PodRange4 {
            base,
            prefix_len,
            block_len,
            ..
        } = config.pods4;
        let range = Prefix4::from_bytes(&base, prefix_len).filter(|_| block_len > 0);
        let range = range.map(|range| (range, block_len));
        if range != self.pods4.range() {
            let same = self.written_config.is_some_and(|w| w.pods4 == config.pods4);
            self.pods4.set_range(range, self.routes4.written(), same);
        }
        let PodRange6 {
            base,
            prefix_len,
            block_len,
            ..
        } = config.pods6;
        let range = Prefix6::from_bytes(&base, prefix_len).filter(|_| block_len > 0);
        let range = range.map(|range| (range, block_len));
        if range != self.pods6.range() {
            let same = self.written_config.is_some_and(|w| w.pods6 == config.pods6);
            self.pods6.set_range(range, self.routes6.written(), same);
        }
    }

    /// The entry of `config` as it should be now: without ranges whose index is not complete.
    pub(super) fn config_now(&self) -> Option<Config> {
        let mut config = self.config?;
        if !self.pods4.active {
            config.pods4 = PodRange4::NONE;
        }
        if !self.pods6.active {
            config.pods6 = PodRange6::NONE;
        }
        Some(config)
    }

    pub(super) fn emit_pods(&mut self, out: &mut Out) {
        // A range that is about to change was taken out of `config` at the start of the batch.
        while out.room() > 0
            && let Some((index, group)) = self.pods4.poll()
        {
            self.push(out, Write::Pod4(index, GroupId(group)));
        }
        while out.room() > 0
            && let Some((index, group)) = self.pods6.poll()
        {
            self.push(out, Write::Pod6(index, GroupId(group)));
        }
        self.pods4.active |= self.pods4.settled() && self.pods4.range().is_some();
        self.pods6.active |= self.pods6.settled() && self.pods6.range().is_some();
        self.emit_config(out);
    }

    pub(super) fn emit_flat4(&mut self, out: &mut Out) {
        loop {
            let more = !self.routes4.drained() || out.room() == 0;
            let Some(write) = self.flat4.poll(more) else {
                return;
            };
            if let FlatWrite::Row(..) = write {
                out.charge(ROW_ENTRIES - 1);
            }
            self.push(out, Write::Flat4(write));
        }
    }

    /// Whether look-ups in what is derived give what the tries do.
    pub(super) fn derived_settled(&self) -> bool {
        self.pods4.settled() && self.pods6.settled() && self.flat4.settled()
    }
}
