//! The flat IPv4 table: what `routes4` answers, by the first three octets of an address.
//!
//! ```text
//!  /8 with        root                table
//!  no prefixes    DIRECT              –
//!  a few          LPM                 –
//!  64 and more    TABLE, or LPM while its rows lag behind routes that still wait to be written
//! ```
//!
//! A table stays until its /8 has no prefixes left. It is a copy of what is *written* to `routes4`, never ahead of it, and
//! a /8 whose rows are not up to date is asked in the trie meanwhile: wrong answers have no moment to be given.

use std::collections::{BTreeMap, BTreeSet};

use causeway_bgp::types::{AddressFamily as _, Prefix4};
use causeway_maps::{Flat4Block, Flat4Root, GroupId, flat4_mode};

use crate::blocks::{Answer, Blocks, Change, Dirty};

/// Prefixes that make a table of 256 KiB worth while: a trie of fewer is quick.
pub(crate) const TABLE_ROUTES: usize = 64;
/// Bits of a root.
const ROOT_LEN: u8 = 8;
/// Bits of a block in a table.
const BLOCK_LEN: u8 = 24;
const OCTETS: usize = 256;
const LPM: Flat4Root = Flat4Root {
    mode: flat4_mode::LPM,
    group: 0,
};

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Flat4 {
    /// The best prefix of at most 8 bits for each /8.
    short: Blocks<Prefix4>,
    roots: Vec<Root>,
    /// What has to be looked at.
    todo: Dirty,
    /// Tables put aside: looked at when no routes wait.
    aside: Dirty,
}

#[derive(Debug)]
struct Root {
    /// Prefixes longer than 8 bits.
    routes: usize,
    /// These prefixes, as long as there is no table.
    few: Vec<Prefix4>,
    table: Option<Table>,
    /// What the map holds; `None` if that is not known.
    written: Option<Flat4Root>,
    /// The map may hold a table.
    has_map: bool,
}

#[derive(Debug)]
struct Table {
    blocks: Blocks<Prefix4>,
    /// Rows to be written.
    rows: Dirty,
    /// A row could not be written; until it is tried again nobody reads the table.
    refused: bool,
}

/// Something to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FlatWrite {
    /// An entry of `flat4_roots`.
    Root(u8, Flat4Root),
    /// A row of a table in `flat4`: the first two octets.
    Row([u8; 2], Box<Flat4Block>),
    /// The table of this octet is no longer needed.
    Drop(u8),
}

impl Flat4 {
    /// Without prefixes. What the map holds is not known: every root is written once.
    pub(crate) fn new() -> Self {
        let root = || Root {
            routes: 0,
            few: Vec::new(),
            table: None,
            written: None,
            has_map: true,
        };
        let mut todo = Dirty::none(OCTETS);
        todo.extend(0..OCTETS);
        Self {
            short: Blocks::new(slash8(0, 0), 8),
            roots: (0..OCTETS).map(|_| root()).collect(),
            todo,
            aside: Dirty::none(OCTETS),
        }
    }

    /// Believes that the map of roots holds `roots`, zeros left out, and that there are tables of `octets`. A table is
    /// believed to be there, but not to be right.
    pub(crate) fn restore(&mut self, roots: &BTreeMap<u8, Flat4Root>, octets: &BTreeSet<u8>) {
        for (octet, root) in (0..=u8::MAX).zip(&mut self.roots) {
            let written = roots.get(&octet).copied().unwrap_or(LPM);
            root.written = (written.mode != flat4_mode::TABLE).then_some(written);
            root.has_map = octets.contains(&octet);
        }
    }

    /// Takes in a change of what is written to `routes4`; `group` says what is written for a prefix.
    pub(crate) fn change(
        &mut self,
        change: &Change<Prefix4>,
        group: impl Fn(Prefix4) -> Option<u16>,
    ) {
        let prefix = change.prefix;
        if prefix.len() <= ROOT_LEN {
            let touched = self.short.change(change);
            self.todo.extend(touched);
            return;
        }
        let octet = prefix.addr().octets()[0];
        let root = &mut self.roots[usize::from(octet)];
        match (change.before, change.after) {
            (None, Some(_)) => root.routes += 1,
            (Some(_), None) => root.routes = root.routes.saturating_sub(1),
            _ => {}
        }
        let touched = root.change(octet, change, group);
        if touched {
            self.todo.insert(usize::from(octet));
        }
    }

    /// The next write. While routes wait (`more`), tables that fall behind are put aside.
    pub(crate) fn poll(&mut self, more: bool) -> Option<FlatWrite> {
        if !more {
            while let Some(octet) = self.aside.pop() {
                self.todo.insert(octet);
            }
        }
        while let Some(octet) = self.todo.pop() {
            let cover = match self.short.answer(octet) {
                Answer::Group(group) => GroupId(u32::from(group)),
                _ => GroupId::NONE,
            };
            let root = &mut self.roots[octet];
            if let Some(write) = root.poll(narrow(octet), cover, more) {
                self.todo.insert(octet);
                return Some(write);
            }
            if root.table.as_ref().is_some_and(Table::lags) {
                self.aside.insert(octet);
            }
        }
        None
    }

    /// Whether every look-up gives what `routes4` does: tables that are put aside are not looked up.
    pub(crate) fn settled(&self) -> bool {
        self.todo.is_empty()
    }

    /// A row could not be written: its table is put aside until [`Self::rewrite_row`].
    pub(crate) fn refused(&mut self, [octet, row]: [u8; 2]) {
        if let Some(table) = &mut self.roots[usize::from(octet)].table {
            table.refused = true;
            table.rows.insert(usize::from(row));
            self.todo.insert(usize::from(octet));
        }
    }

    /// Writes a row again.
    pub(crate) fn rewrite_row(&mut self, [octet, row]: [u8; 2]) {
        let root = &mut self.roots[usize::from(octet)];
        root.has_map = true;
        if let Some(table) = &mut root.table {
            table.refused = false;
            table.rows.insert(usize::from(row));
        }
        self.todo.insert(usize::from(octet));
    }

    /// Writes a root again.
    pub(crate) fn rewrite_root(&mut self, octet: u8) {
        self.roots[usize::from(octet)].written = None;
        self.todo.insert(usize::from(octet));
    }

    /// What the map of roots holds.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (u8, Flat4Root)> {
        let roots = self.roots.iter().enumerate();
        roots.filter_map(|(octet, root)| Some((narrow(octet), root.written?)))
    }

    /// What the tables hold that are looked up.
    pub(crate) fn rows(&self) -> impl Iterator<Item = ([u8; 2], Box<Flat4Block>)> {
        let tables = self.roots.iter().enumerate().filter_map(|(octet, root)| {
            let used = root.written.is_some_and(|w| w.mode == flat4_mode::TABLE);
            let table = root.table.as_ref().filter(|_| used)?;
            Some((narrow(octet), table))
        });
        tables
            .flat_map(|(octet, table)| {
                (0..OCTETS).map(move |row| ([octet, narrow(row)], table.row(row)))
            })
            // Zeros are what a table begins with.
            .filter(|(_, row)| row.groups.iter().any(|group| *group != 0))
    }
}

impl Root {
    /// Returns whether there may be something to write.
    fn change(
        &mut self,
        octet: u8,
        change: &Change<Prefix4>,
        group: impl Fn(Prefix4) -> Option<u16>,
    ) -> bool {
        if self.routes == 0 {
            self.table = None;
            self.few = Vec::new();
            return true;
        }
        if let Some(table) = &mut self.table {
            return table.change(change);
        }
        let before = self.few.len();
        self.few.retain(|other| *other != change.prefix);
        if change.after.is_some() {
            self.few.push(change.prefix);
        }
        if self.few.len() >= TABLE_ROUTES {
            let few = core::mem::take(&mut self.few);
            self.table = Some(Table::new(octet, &few, group));
        }
        before == 0 || self.table.is_some()
    }

    fn poll(&mut self, octet: u8, cover: GroupId, more: bool) -> Option<FlatWrite> {
        if let Some(table) = self.table.as_mut().filter(|table| table.lags()) {
            let wait = more || table.refused;
            let read = |written: Flat4Root| written.mode == flat4_mode::TABLE;
            // Its rows change one by one under those who read it, but never more than those of one moment.
            if (wait || !self.written.is_some_and(read)) && self.written != Some(LPM) {
                self.written = Some(LPM);
                return Some(FlatWrite::Root(octet, LPM));
            }
            if wait {
                return None;
            }
            let row = table.rows.pop()?;
            self.has_map = true;
            return Some(FlatWrite::Row([octet, narrow(row)], table.row(row)));
        }
        let wanted = match &self.table {
            Some(_) => Flat4Root {
                mode: flat4_mode::TABLE,
                group: cover.0,
            },
            None if self.routes == 0 => Flat4Root {
                mode: flat4_mode::DIRECT,
                group: cover.0,
            },
            None => LPM,
        };
        if self.written != Some(wanted) {
            self.written = Some(wanted);
            return Some(FlatWrite::Root(octet, wanted));
        }
        let unused = self.table.is_none() && core::mem::take(&mut self.has_map);
        unused.then_some(FlatWrite::Drop(octet))
    }
}

impl Table {
    fn new(octet: u8, routes: &[Prefix4], group: impl Fn(Prefix4) -> Option<u16>) -> Self {
        let mut blocks = Blocks::new(slash8(octet, ROOT_LEN), BLOCK_LEN);
        for prefix in routes {
            blocks.change(&Change {
                prefix: *prefix,
                before: None,
                after: group(*prefix),
                cover: None,
            });
        }
        let mut rows = Dirty::none(OCTETS);
        rows.extend(0..OCTETS);
        Self {
            blocks,
            rows,
            refused: false,
        }
    }

    fn change(&mut self, change: &Change<Prefix4>) -> bool {
        let cover = change.cover.filter(|(len, _)| *len > ROOT_LEN);
        let touched = self.blocks.change(&Change { cover, ..*change });
        let rows = touched.start / OCTETS..touched.end.div_ceil(OCTETS);
        self.rows.extend(rows);
        self.lags()
    }

    fn lags(&self) -> bool {
        !self.rows.is_empty()
    }

    fn row(&self, row: usize) -> Box<Flat4Block> {
        let entry = |column| match self.blocks.answer(row * OCTETS + column) {
            Answer::Divided => GroupId::NONE.0,
            Answer::Nothing => Flat4Block::COVER,
            Answer::Group(group) => u32::from(group),
        };
        Box::new(Flat4Block {
            groups: core::array::from_fn(entry),
        })
    }
}

/// The prefix of `len` bits at most 8 that begins with `octet`.
fn slash8(octet: u8, len: u8) -> Prefix4 {
    let addr = core::net::Ipv4Addr::new(octet, 0, 0, 0);
    Prefix4::new(addr, len.min(ROOT_LEN)).expect("8 bits are not too many")
}

/// A number below 256.
fn narrow(octet: usize) -> u8 {
    u8::try_from(octet).unwrap_or(u8::MAX)
}
