//! Rings: which backend a new connection goes to (Maglev, NSDI 2016, 3.4).
//!
//! A ring is a pure function of its members and their weights: no history, no seed, no node. Every node that has the same
//! members has the same ring, so a connection that a ToR moves to another node still finds its backend.
//!
//! * The size is the first of [`SIZES`] that gives each member a hundred slots, else the largest.
//! * Members stand in the order of their keys (address, port, protocol; IPv4 before IPv6).
//! * Each has a permutation of the slots from the [`hash`] of its key: `offset + n * skip`, modulo the size, which is prime.
//! * In each round a member gains its weight; one that has gained the largest weight of all pays that much and takes the
//!   next slot of its permutation that is free. With equal weights that is one slot for each in each round.
//!
//! **What stands here is a contract between nodes**: another version that changes any of it must not run beside this one
//! without moving connections. A test holds the numbers.

use core::fmt;

use crate::types::{BackendKey, mapped};

/// Sizes of rings, all prime.
pub const SIZES: [u32; 4] = [1021, 4093, 16_381, 65_521];

/// Slots that each member should have.
const SLOTS_PER_MEMBER: usize = 100;

/// The size of a ring of so many members: 1021 up to 10, 4093 up to 40, 16381 up to 163, else 65521.
#[must_use]
pub fn size(members: usize) -> u32 {
    SIZES
        .into_iter()
        .find(|size| members.saturating_mul(SLOTS_PER_MEMBER) <= *size as usize)
        .unwrap_or(SIZES[SIZES.len() - 1])
}

/// A ring: the seat of the backend for each slot. A connection takes slot `h mod size`.
#[derive(Clone, PartialEq, Eq)]
pub struct Ring {
    slots: Box<[u16]>,
}

impl Ring {
    /// Computes the ring of `members`: key, weight, and what to write into the slots.
    ///
    /// The order of `members` doesn't matter; keys are unique. Those of weight 0 get nothing; `None` if nobody is left.
    #[must_use]
    pub fn new(members: &[(BackendKey, u16, u16)]) -> Option<Self> {
        let mut walks: Vec<_> = members
            .iter()
            .filter(|(_, weight, _)| *weight > 0)
            .collect();
        walks.sort_unstable_by_key(|(key, ..)| *key);
        let size = size(walks.len());
        let most = walks.iter().map(|(_, weight, _)| *weight).max()?;
        if let [(_, _, seat)] = walks[..] {
            let slots = vec![*seat; size as usize].into();
            return Some(Self { slots });
        }
        let mut walks: Vec<_> = walks
            .into_iter()
            .map(|(key, weight, seat)| Walk::new(key, *weight, *seat, size))
            .collect();
        let mut slots: Box<[Option<u16>]> = vec![None; size as usize].into();
        let mut free = size;
        'full: loop {
            for walk in &mut walks {
                walk.credit += u32::from(walk.weight);
                if walk.credit < u32::from(most) {
                    continue;
                }
                walk.credit -= u32::from(most);
                walk.take(&mut slots, size);
                free -= 1;
                if free == 0 {
                    break 'full;
                }
            }
        }
        let slots = slots.iter().map(|slot| slot.unwrap_or_default()).collect();
        Some(Self { slots })
    }

    /// The seats, slot by slot.
    #[must_use]
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// The seat for a hash of the connection.
    #[must_use]
    pub fn seat(&self, hash: u32) -> u16 {
        self.slots[hash as usize % self.slots.len()]
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} slots)", self.slots.len())
    }
}

/// A member on its way through the slots.
struct Walk {
    seat: u16,
    weight: u16,
    credit: u32,
    next: u32,
    skip: u32,
}

impl Walk {
    fn new(key: &BackendKey, weight: u16, seat: u16, size: u32) -> Self {
        let hash = hash(key);
        let (low, high) = (hash as u32, (hash >> 32) as u32);
        Self {
            seat,
            weight,
            credit: 0,
            next: low % size,
            skip: high % (size - 1) + 1,
        }
    }

    /// Takes the next free slot; there is one, and the permutation reaches it because the size is prime.
    fn take(&mut self, slots: &mut [Option<u16>], size: u32) {
        loop {
            let at = self.next as usize;
            self.next += self.skip;
            if self.next >= size {
                self.next -= size;
            }
            if slots[at].is_none() {
                slots[at] = Some(self.seat);
                return;
            }
        }
    }
}

/// 64 bits from a backend's key: its address as sixteen bytes (IPv4 mapped into IPv6), port and protocol, mixed by the
/// finaliser of SplitMix64 after each word.
#[must_use]
pub fn hash(key: &BackendKey) -> u64 {
    let addr = u128::from(mapped(key.addr));
    let words = [
        (addr >> 64) as u64,
        addr as u64,
        u64::from(key.port) << 8 | u64::from(key.protocol as u8),
    ];
    words
        .into_iter()
        .fold(0x6361_7573_6577_6179, |state, word| mix(state ^ word))
}

fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests;
