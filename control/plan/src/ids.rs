//! Small stable numbers.

use std::collections::BTreeSet;

/// Hands out the lowest free id of a range.
#[derive(Debug)]
pub(crate) struct Ids {
    free: BTreeSet<u32>,
    /// The lowest id never handed out.
    next: u32,
    end: u32,
}

impl Ids {
    /// Ids from `first` to `end`, `end` excluded.
    pub(crate) fn new(first: u32, end: u32) -> Self {
        Self {
            free: BTreeSet::new(),
            next: first,
            end,
        }
    }

    /// The lowest free id; `None` if all are taken.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop_first() {
            return Some(id);
        }
        if self.next >= self.end {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Takes this one; says whether it was free.
    pub(crate) fn claim(&mut self, id: u32) -> bool {
        if id >= self.end {
            return false;
        }
        if id >= self.next {
            self.free.extend(self.next..id);
            self.next = id + 1;
            return true;
        }
        self.free.remove(&id)
    }

    /// Gives it back.
    pub(crate) fn free(&mut self, id: u32) {
        self.free.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_id_comes_first_and_the_end_is_respected() {
        let mut ids = Ids::new(2, 5);
        assert_eq!([ids.take(), ids.take(), ids.take()], [2, 3, 4].map(Some));
        assert_eq!(ids.take(), None);
        ids.free(4);
        ids.free(2);
        assert_eq!(ids.take(), Some(2));
    }

    #[test]
    fn a_claimed_id_is_not_handed_out() {
        let mut ids = Ids::new(1, 10);
        assert!(ids.claim(3));
        assert!(!ids.claim(3));
        assert!(!ids.claim(10));
        assert_eq!([ids.take(), ids.take(), ids.take()], [1, 2, 4].map(Some));
    }
}
