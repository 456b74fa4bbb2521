//! Small stable numbers.

use std::collections::BTreeSet;

/// Hands out the lowest free id, from 1 on. What is given back rests until the delta is out, so that no delta takes an id
/// from one thing and gives it to another.
#[derive(Debug)]
pub(crate) struct Ids {
    free: BTreeSet<u32>,
    resting: Vec<u32>,
    /// The lowest id never handed out.
    next: u32,
    /// The highest id.
    last: u32,
}

impl Ids {
    /// Ids from 1 to `last`.
    pub(crate) fn new(last: u32) -> Self {
        Self {
            free: BTreeSet::new(),
            resting: Vec::new(),
            next: 1,
            last,
        }
    }

    /// The lowest free id; `None` if all are taken.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop_first() {
            return Some(id);
        }
        if self.next > self.last {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Takes this one; says whether it was free.
    pub(crate) fn claim(&mut self, id: u32) -> bool {
        if id == 0 || id > self.last {
            return false;
        }
        if id >= self.next {
            self.free.extend(self.next..id);
            self.next = id + 1;
            return true;
        }
        self.free.remove(&id)
    }

    /// Gives it back, to rest.
    pub(crate) fn give_back(&mut self, id: u32) {
        self.resting.push(id);
    }

    /// Takes back one that no delta has named: nothing has to rest.
    pub(crate) fn untake(&mut self, id: u32) {
        self.free.insert(id);
    }

    /// Ends the rest; says whether there is room that wasn't there before.
    pub(crate) fn rested(&mut self) -> bool {
        let some = !self.resting.is_empty();
        self.free.extend(self.resting.drain(..));
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_rests_before_it_is_handed_out_again() {
        let mut ids = Ids::new(2);
        assert_eq!(
            [ids.take(), ids.take(), ids.take()],
            [Some(1), Some(2), None]
        );
        ids.give_back(1);
        assert_eq!(ids.take(), None);
        assert!(ids.rested());
        assert_eq!(ids.take(), Some(1));
        assert!(!ids.rested());
    }

    #[test]
    fn a_claimed_id_is_not_handed_out() {
        let mut ids = Ids::new(9);
        assert!(ids.claim(3));
        assert!(!ids.claim(3) && !ids.claim(0) && !ids.claim(10));
        assert_eq!([ids.take(), ids.take(), ids.take()], [1, 2, 4].map(Some));
    }
}
