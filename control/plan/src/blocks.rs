//! The longest prefix match of a range, worked out for blocks of equal size as prefixes come and go.
//!
//! A block has one answer as long as no prefix longer than the block lies in it: the longest prefix that covers it. Each
//! block remembers how long that is, so that a prefix that comes knows which blocks it takes over, and one that goes which
//! blocks it gives up.

use core::ops::Range;

use causeway_bgp::types::AddressFamily;

/// What covers something: the length of a prefix and the group that it points to.
pub(crate) type Cover = Option<(u8, u16)>;

/// A prefix that came, went, or points elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<P> {
    pub(crate) prefix: P,
    /// Group before, if it was there.
    pub(crate) before: Option<u16>,
    /// Group now, if it is there.
    pub(crate) after: Option<u16>,
    /// The longest of the shorter prefixes that cover it; read only when it went.
    pub(crate) cover: Cover,
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Blocks<P> {
    range: P,
    block_len: u8,
    cells: Box<[Cell]>,
}

/// Four bytes, as there are 65,536 of them for every /8 of a large table.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    group: u16,
    /// One more than the length of the longest prefix that covers the block; 0 if none does.
    best: u8,
    /// Prefixes within. Stays at its maximum once it is there: the block then always counts as divided.
    within: u8,
}

/// The answer for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// One for the whole block.
    Group(u16),
    /// Nothing covers it.
    Nothing,
    /// Longer prefixes lie within: not one answer.
    Divided,
}

impl<P: AddressFamily> Blocks<P> {
    /// The blocks of `block_len` bits in `range`, nothing covering them. At most 16 bits may lie between.
    pub(crate) fn new(range: P, block_len: u8) -> Self {
        let bits = u32::from(block_len.saturating_sub(range.len())).min(16);
        Self {
            range,
            block_len,
            cells: vec![Cell::default(); 1 << bits].into_boxed_slice(),
        }
    }

    /// The answer for a block.
    pub(crate) fn answer(&self, block: usize) -> Answer {
        match self.cells.get(block) {
            Some(cell) if cell.within > 0 => Answer::Divided,
            Some(cell) if cell.best > 0 => Answer::Group(cell.group),
            _ => Answer::Nothing,
        }
    }

    /// Takes a change in; returns the blocks whose answer may be another now.
    pub(crate) fn change(&mut self, change: &Change<P>) -> Range<usize> {
        let span = self.span(change.prefix);
        if change.prefix.len() > self.block_len {
            let Some(cell) = self.cells.get_mut(span.start).filter(|_| !span.is_empty()) else {
                return 0..0;
            };
            let before = cell.within;
            match (change.before, change.after) {
                (None, Some(_)) => cell.within = before.saturating_add(1),
                (Some(_), None) if before < u8::MAX => cell.within = before.saturating_sub(1),
                _ => {}
            }
            let crossed = (before == 0) != (cell.within == 0);
            return if crossed { span } else { 0..0 };
        }
        let best = change.prefix.len() + 1;
        let cells = self.cells.get_mut(span.clone()).unwrap_or_default();
        match change.after {
            Some(group) => {
                for cell in cells.iter_mut().filter(|cell| cell.best <= best) {
                    *cell = Cell {
                        group,
                        best,
                        within: cell.within,
                    };
                }
            }
            None => {
                let (best_now, group) =
                    change.cover.map_or((0, 0), |(len, group)| (len + 1, group));
                for cell in cells.iter_mut().filter(|cell| cell.best == best) {
                    *cell = Cell {
                        group,
                        best: best_now,
                        within: cell.within,
                    };
                }
            }
        }
        span
    }

    /// The blocks that a prefix covers or lies in; none outside the range.
    fn span(&self, prefix: P) -> Range<usize> {
        if prefix.covers(self.range) {
            return 0..self.cells.len();
        }
        if !self.range.covers(prefix) {
            return 0..0;
        }
        // Both address families from the top of 128 bits.
        let addr = u128::from_be_bytes(prefix.addr_bytes());
        let skip = u32::from(self.range.len());
        let bits = self.cells.len().trailing_zeros();
        let offset = addr.checked_shl(skip).unwrap_or(0);
        let start = offset.checked_shr(128 - bits).unwrap_or(0) as usize;
        let blocks = match u32::from(self.block_len).checked_sub(u32::from(prefix.len())) {
            Some(spare) => 1 << spare.min(bits),
            None => 1,
        };
        start..start + blocks
    }
}

/// Numbers of entries to be written, each once, the lowest first.
#[derive(Debug)]
pub(crate) struct Dirty {
    words: Box<[u64]>,
    size: usize,
    count: usize,
    /// No word before this one has a bit set.
    from: usize,
}

impl Dirty {
    /// Of the numbers below `size`, none.
    pub(crate) fn none(size: usize) -> Self {
        Self {
            words: vec![0; size.div_ceil(64)].into_boxed_slice(),
            size,
            count: 0,
            from: 0,
        }
    }

    /// Adds those of `numbers` that are below the size.
    pub(crate) fn extend(&mut self, numbers: Range<usize>) {
        for number in numbers {
            self.insert(number);
        }
    }

    /// Adds one, if it is below the size.
    pub(crate) fn insert(&mut self, number: usize) {
        let Some(word) = self
            .words
            .get_mut(number / 64)
            .filter(|_| number < self.size)
        else {
            return;
        };
        let bit = 1 << (number % 64);
        self.count += usize::from(*word & bit == 0);
        *word |= bit;
        self.from = self.from.min(number / 64);
    }

    /// Takes the lowest out.
    pub(crate) fn pop(&mut self) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        while let Some(word) = self.words.get_mut(self.from) {
            if *word != 0 {
                let bit = word.trailing_zeros() as usize;
                *word &= *word - 1;
                self.count -= 1;
                return Some(self.from * 64 + bit);
            }
            self.from += 1;
        }
        None
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use causeway_bgp::types::{Prefix4, Prefix6};

    use super::*;

    fn v4(text: &str) -> Prefix4 {
        Prefix4::from_prefix(text.parse().unwrap()).unwrap()
    }

    fn add<P>(prefix: P, group: u16) -> Change<P> {
        Change {
            prefix,
            before: None,
            after: Some(group),
            cover: None,
        }
    }

    #[test]
    fn the_longest_cover_wins_whatever_the_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut blocks = Blocks::new(v4("10.0.0.0/8"), 16);
            let changes = [
                add(v4("0.0.0.0/0"), 3),
                add(v4("10.128.0.0/9"), 4),
                add(v4("10.200.0.0/16"), 5),
            ];
            for at in order {
                blocks.change(&changes[at]);
            }
            assert_eq!(blocks.answer(0), Answer::Group(3));
            assert_eq!(blocks.answer(128), Answer::Group(4));
            assert_eq!(blocks.answer(200), Answer::Group(5));
        }
    }

    #[test]
    fn one_that_goes_gives_its_blocks_to_what_covers_it() {
        let mut blocks = Blocks::new(v4("10.0.0.0/8"), 16);
        blocks.change(&add(v4("10.0.0.0/9"), 3));
        blocks.change(&add(v4("10.4.0.0/14"), 4));
        let touched = blocks.change(&Change {
            prefix: v4("10.4.0.0/14"),
            before: Some(4),
            after: None,
            cover: Some((9, 3)),
        });
        assert_eq!(touched, 4..8);
        assert_eq!(blocks.answer(5), Answer::Group(3));
        assert_eq!(blocks.answer(200), Answer::Nothing);
    }

    #[test]
    fn a_block_with_something_within_is_divided_until_it_has_gone() {
        let mut blocks = Blocks::new(v4("10.0.0.0/8"), 16);
        blocks.change(&add(v4("10.0.0.0/8"), 3));
        assert_eq!(blocks.change(&add(v4("10.7.1.0/24"), 4)), 7..8);
        assert_eq!(blocks.change(&add(v4("10.7.2.0/24"), 4)), 0..0);
        assert_eq!(blocks.answer(7), Answer::Divided);
        for third in [1, 2] {
            blocks.change(&Change {
                prefix: v4(&format!("10.7.{third}.0/24")),
                before: Some(4),
                after: None,
                cover: None,
            });
        }
        assert_eq!(blocks.answer(7), Answer::Group(3));
        assert!(blocks.change(&add(v4("11.0.0.0/24"), 4)).is_empty());
    }

    #[test]
    fn ipv6_and_a_range_of_one_block_have_blocks_too() {
        let range = Prefix6::from_prefix("fd00:0:0:ff00::/56".parse().unwrap()).unwrap();
        let mut blocks = Blocks::new(range, 64);
        let inside = Prefix6::from_prefix("fd00:0:0:ff17::/64".parse().unwrap()).unwrap();
        assert_eq!(blocks.change(&add(inside, 9)), 0x17..0x18);
        let mut one = Blocks::new(v4("10.0.0.0/24"), 24);
        assert_eq!(one.change(&add(v4("10.0.0.0/24"), 9)), 0..1);
        assert_eq!(one.change(&add(v4("10.0.0.9/32"), 9)), 0..1);
        assert_eq!(one.answer(0), Answer::Divided);
    }

    #[test]
    fn dirty_numbers_come_out_once_and_in_order() {
        let mut dirty = Dirty::none(200);
        dirty.extend(190..300);
        dirty.insert(3);
        dirty.insert(3);
        assert_eq!(dirty.pop(), Some(3));
        dirty.insert(0);
        assert_eq!(dirty.pop(), Some(0));
        assert_eq!(core::iter::from_fn(|| dirty.pop()).count(), 10);
        assert!(dirty.is_empty());
    }
}
