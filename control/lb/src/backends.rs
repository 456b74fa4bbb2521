//! Backends: one number for each address, port and protocol, however many pools have it.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;

use crate::ids::Ids;
use crate::tables::{Backend, BackendId, Change};
use crate::types::BackendKey;

/// All backends.
#[derive(Debug)]
pub(crate) struct Backends {
    ids: Ids,
    by_key: HashMap<BackendKey, BackendId, FixedState>,
    /// By id.
    slots: Vec<Option<Slot>>,
    touched: BTreeSet<BackendId>,
    /// Ids that the maps held before a restart.
    restored: HashMap<BackendKey, BackendId, FixedState>,
}

#[derive(Clone, Debug)]
struct Slot {
    key: BackendKey,
    /// Pools that have it.
    pools: u32,
    /// Those in which it serves.
    serving: u32,
    /// Whether the published one serves.
    published: Option<bool>,
}

impl Backends {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            ids: Ids::new(most),
            by_key: HashMap::default(),
            slots: Vec::new(),
            touched: BTreeSet::new(),
            restored: HashMap::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// One pool more has this backend; `None` if there is no room for it.
    pub(crate) fn acquire(&mut self, key: BackendKey, serving: bool) -> Option<BackendId> {
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => {
                let restored = self.restored.remove(&key);
                let id = restored.or_else(|| self.ids.take().map(BackendId))?;
                self.by_key.insert(key, id);
                id
            }
        };
        let at = index(id);
        if self.slots.len() <= at {
            self.slots.resize(at + 1, None);
        }
        let slot = self.slots[at].get_or_insert(Slot {
            key,
            pools: 0,
            serving: 0,
            published: None,
        });
        slot.pools += 1;
        slot.serving += u32::from(serving);
        self.touched.insert(id);
        Some(id)
    }

    /// A pool that has it sees it in another state.
    pub(crate) fn set_serving(&mut self, id: BackendId, before: bool, now: bool) {
        if before != now
            && let Some(slot) = self.slot(id)
        {
            slot.serving = (slot.serving + u32::from(now)).saturating_sub(u32::from(before));
            self.touched.insert(id);
        }
    }

    /// One pool less has it.
    pub(crate) fn release(&mut self, id: BackendId, serving: bool) {
        if let Some(slot) = self.slot(id) {
            slot.pools = slot.pools.saturating_sub(1);
            slot.serving = slot.serving.saturating_sub(u32::from(serving));
            self.touched.insert(id);
        }
    }

    /// What has changed since last time.
    pub(crate) fn changes(&mut self) -> Vec<Change<BackendId, Backend>> {
        let mut changes = Vec::new();
        for id in core::mem::take(&mut self.touched) {
            let Some(slot) = self.slot(id) else {
                continue;
            };
            let (key, before) = (slot.key, slot.published);
            let now = (slot.pools > 0).then_some(slot.serving > 0);
            slot.published = now;
            if before != now {
                changes.push((id, now.map(|serving| Backend { key, serving })));
            }
            if now.is_none() {
                self.slots[index(id)] = None;
                self.by_key.remove(&key);
                self.ids.give_back(id.0);
            }
        }
        changes
    }

    /// Ends the rest of ids given back; says whether there is new room.
    pub(crate) fn rested(&mut self) -> bool {
        self.ids.rested()
    }

    pub(crate) fn restore(&mut self, id: BackendId, key: BackendKey) {
        if self.ids.claim(id.0)
            && let Some(other) = self.restored.insert(key, id)
        {
            self.ids.give_back(other.0);
        }
    }

    /// Gives back what nobody has wanted since.
    pub(crate) fn end_restore(&mut self) {
        for (_, id) in core::mem::take(&mut self.restored) {
            self.ids.give_back(id.0);
        }
    }

    fn slot(&mut self, id: BackendId) -> Option<&mut Slot> {
        self.slots.get_mut(index(id))?.as_mut()
    }
}

fn index(id: BackendId) -> usize {
    id.0 as usize
}
