//! Places in an array for tables of different lengths: extents of a power of two, the lowest that fits first.
//!
//! Freed extents rest until [`Extents::rested`], because a program may still read what stood there; then two halves that
//! are free become one again.

use std::collections::BTreeSet;

/// Entries `start` to `start + 2^order` of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u32,
    order: u32,
}

impl Extent {
    /// Entries.
    pub(crate) fn len(self) -> u32 {
        1 << self.order
    }
}

/// The free extents of an array.
#[derive(Debug)]
pub(crate) struct Extents {
    /// Starts of the free ones, by order.
    free: Vec<BTreeSet<u32>>,
    resting: Vec<Extent>,
}

impl Extents {
    /// An array of `capacity` entries, of which one extent takes `longest` at most; both are rounded down to what a power of
    /// two divides.
    pub(crate) fn new(capacity: u32, longest: u32) -> Self {
        let top = longest.max(1).ilog2();
        let mut free = vec![BTreeSet::new(); top as usize + 1];
        free[top as usize] = (0..capacity >> top).map(|n| n << top).collect();
        Self {
            free,
            resting: Vec::new(),
        }
    }

    /// The lowest extent with room for `len` entries, at least one; `None` if there is none.
    pub(crate) fn take(&mut self, len: u32) -> Option<Extent> {
        let order = len.max(1).checked_next_power_of_two()?.ilog2();
        let candidates = self.free.iter().enumerate().skip(order as usize);
        let (_, from) = candidates
            .filter_map(|(order, starts)| Some((*starts.first()?, order)))
            .min()?;
        let start = self.free.get_mut(from)?.pop_first()?;
        for half in (order as usize..from).rev() {
            self.free[half].insert(start + (1 << half));
        }
        Some(Extent { start, order })
    }

    /// Takes the extent for `len` entries that begins at `start`; `None` if it can't begin there, or something of it is taken.
    pub(crate) fn claim(&mut self, start: u32, len: u32) -> Option<Extent> {
        let order = len.max(1).checked_next_power_of_two()?.ilog2();
        if !start.is_multiple_of(1 << order) {
            return None;
        }
        let whole = |from: usize| start >> from << from;
        let from = (order as usize..self.free.len())
            .find(|from| self.free[*from].contains(&whole(*from)))?;
        self.free[from].remove(&whole(from));
        for half in order as usize..from {
            self.free[half].insert(whole(half) ^ (1 << half));
        }
        Some(Extent { start, order })
    }

    /// Gives an extent back, to rest.
    pub(crate) fn give_back(&mut self, extent: Extent) {
        self.resting.push(extent);
    }

    /// Nobody reads what was given back; says whether there is room that wasn't there before.
    pub(crate) fn rested(&mut self) -> bool {
        let some = !self.resting.is_empty();
        for extent in core::mem::take(&mut self.resting) {
            self.free(extent);
        }
        some
    }

    /// Gives back an extent that nobody has been told of: it need not rest.
    pub(crate) fn free(&mut self, extent: Extent) {
        let (mut start, mut order) = (extent.start, extent.order as usize);
        while order + 1 < self.free.len() && self.free[order].remove(&(start ^ (1 << order))) {
            start &= !(1 << order);
            order += 1;
        }
        self.free[order].insert(start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_do_not_overlap_and_what_is_given_back_becomes_whole_again() {
        let mut extents = Extents::new(64, 16);
        let mut taken = Vec::new();
        for len in [1, 3, 16, 5, 2, 1, 8] {
            taken.push(extents.take(len).unwrap());
        }
        assert_eq!(taken[0], Extent { start: 0, order: 0 });
        assert_eq!(taken[1], Extent { start: 4, order: 2 });
        let mut used = BTreeSet::new();
        for extent in &taken {
            assert_eq!(extent.start % extent.len(), 0);
            assert!((extent.start..extent.start + extent.len()).all(|at| used.insert(at)));
        }
        assert!(used.iter().all(|at| *at < 64));
        taken
            .into_iter()
            .for_each(|extent| extents.give_back(extent));
        assert!(extents.rested());
        let starts = [0; 4].map(|_| extents.take(16).unwrap().start);
        assert_eq!(starts, [0, 16, 32, 48]);
        assert_eq!(extents.take(1), None);
    }

    #[test]
    fn an_extent_is_claimed_where_it_was_and_only_once() {
        let mut extents = Extents::new(64, 16);
        let claimed = extents.claim(20, 3).unwrap();
        assert_eq!((claimed.start, claimed.len()), (20, 4));
        assert_eq!(extents.claim(20, 3), None, "taken");
        assert_eq!(extents.claim(16, 16), None, "holds what is taken");
        assert_eq!(
            extents.claim(22, 3),
            None,
            "nothing of that length begins there"
        );
        assert_eq!(extents.claim(64, 1), None, "beyond the end");
        let mut taken = Vec::new();
        while let Some(extent) = extents.take(1) {
            taken.push(extent.start);
        }
        assert!(
            taken
                .iter()
                .copied()
                .eq((0..64).filter(|at| !(20..24).contains(at)))
        );
    }

    #[test]
    fn an_extent_rests_before_it_is_taken_again() {
        let mut extents = Extents::new(2, 1);
        let first = extents.take(1).unwrap();
        assert!(extents.take(2).is_none(), "longer than the longest");
        extents.give_back(first);
        assert_eq!(extents.take(1).unwrap().start, 1);
        assert_eq!(extents.take(1), None);
        assert!(extents.rested());
        assert_eq!(extents.take(1), Some(first));
        assert!(!extents.rested());
    }
}
