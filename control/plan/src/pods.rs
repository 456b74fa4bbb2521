//! The index of the pods' addresses: what the tries answer, by block of the range that pods' addresses come from.
//!
//! An entry is a copy of what is *written* to the trie, and 0, which asks the trie, where a block has no one answer. The
//! programs read the index when `config` names its range; that is taken out of there while the range changes.

use causeway_bgp::types::AddressFamily;

use crate::blocks::{Answer, Blocks, Change, Dirty};

/// Stands for an entry of which it is not known what the map holds; no id is that large.
const UNKNOWN: u16 = u16::MAX;

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Pods<P> {
    range: Option<(P, u8)>,
    blocks: Option<Blocks<P>>,
    /// What the map holds.
    written: Box<[u16]>,
    dirty: Dirty,
    /// The programs may read it.
    pub(crate) active: bool,
}

impl<P: AddressFamily> Pods<P> {
    /// No range, for a map of `entries` entries that are zero.
    pub(crate) fn new(entries: u32) -> Self {
        Self {
            range: None,
            blocks: None,
            written: vec![0; entries as usize].into_boxed_slice(),
            dirty: Dirty::none(entries as usize),
            active: false,
        }
    }

    /// Believes that the map holds this.
    pub(crate) fn restore(&mut self, entries: impl IntoIterator<Item = (u32, u32)>) {
        for (index, group) in entries {
            if let Some(entry) = self.written.get_mut(index as usize) {
                *entry = u16::try_from(group).unwrap_or(UNKNOWN);
                self.dirty.insert(index as usize);
            }
        }
    }

    /// The range, and the length of its blocks.
    pub(crate) fn range(&self) -> Option<(P, u8)> {
        self.range
    }

    /// Another range. `written` is all that is written to the trie, and `same` says that the programs read the index of
    /// this very range already.
    pub(crate) fn set_range(
        &mut self,
        range: Option<(P, u8)>,
        written: impl Iterator<Item = (P, u16)>,
        same: bool,
    ) {
        self.range = range;
        self.active = same && range.is_some();
        self.blocks = range.map(|(range, block_len)| {
            let mut blocks = Blocks::new(range, block_len);
            for (prefix, group) in written {
                blocks.change(&Change {
                    prefix,
                    before: None,
                    after: Some(group),
                    cover: None,
                });
            }
            blocks
        });
        self.dirty.extend(0..self.written.len());
    }

    /// Takes in a change of what is written to the trie.
    pub(crate) fn change(&mut self, change: &Change<P>) {
        if let Some(blocks) = &mut self.blocks {
            let touched = blocks.change(change);
            self.dirty.extend(touched);
        }
    }

    /// The next entry to be written.
    pub(crate) fn poll(&mut self) -> Option<(u32, u32)> {
        while let Some(index) = self.dirty.pop() {
            let wanted = match self.blocks.as_ref().map(|blocks| blocks.answer(index)) {
                Some(Answer::Group(group)) => group,
                _ => 0,
            };
            let entry = self.written.get_mut(index)?;
            if core::mem::replace(entry, wanted) != wanted {
                return Some((u32::try_from(index).unwrap_or(u32::MAX), u32::from(wanted)));
            }
        }
        None
    }

    /// Whether every entry is written.
    pub(crate) fn settled(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Writes an entry again.
    pub(crate) fn rewrite(&mut self, index: u32) {
        if let Some(entry) = self.written.get_mut(index as usize) {
            *entry = UNKNOWN;
            self.dirty.insert(index as usize);
        }
    }

    /// Entries of the map that are not zero.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        let known = (0_u32..).zip(&self.written);
        known
            .filter(|(_, group)| **group != 0 && **group != UNKNOWN)
            .map(|(index, group)| (index, u32::from(*group)))
    }
}
