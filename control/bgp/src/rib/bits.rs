//! A growing set of small integers, for destinations by slot.

/// A set of slots, one bit each.
#[derive(Clone, Debug, Default)]
pub(super) struct BitSet {
    words: Vec<u64>,
    count: usize,
}

impl BitSet {
    /// Adds `slot`; returns whether it is new.
    pub(super) fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if word >= self.words.len() {
            self.words.resize((word + 1).next_multiple_of(64), 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += usize::from(new);
        new
    }

    /// Removes `slot`; returns whether it was there.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        let Some(word) = self.words.get_mut(word) else {
            return false;
        };
        let there = *word & bit != 0;
        *word &= !bit;
        self.count -= usize::from(there);
        there
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.words
            .get(slot as usize / 64)
            .is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first slot in the set that is at least `from`.
    pub(super) fn next_from(&self, from: u32) -> Option<u32> {
        let first = from as usize / 64;
        let mut word = self.words.get(first)? & (u64::MAX << (from % 64));
        let mut index = first;
        loop {
            if word != 0 {
                return u32::try_from(index * 64)
                    .ok()
                    .map(|base| base + word.trailing_zeros());
            }
            index += 1;
            word = *self.words.get(index)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_out_in_order_and_are_counted_once() {
        let mut set = BitSet::default();
        for slot in [700, 3, 64, 63, 3] {
            set.insert(slot);
        }
        let mut from = 0;
        let mut seen = Vec::new();
        while let Some(slot) = set.next_from(from) {
            seen.push(slot);
            from = slot + 1;
        }
        assert_eq!(seen, [3, 63, 64, 700]);
        assert!(set.remove(64) && !set.remove(64) && !set.contains(64) && set.contains(63));
        assert_eq!(set.next_from(701), None);
    }
}
