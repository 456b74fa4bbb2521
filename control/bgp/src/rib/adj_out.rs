//! The Adj-RIBs-Out of a family: update groups and what they are sent.

use std::sync::Arc;

use bytes::Bytes;

use super::attributes::AttrId;
use super::audience::Facts;
use super::catch_up::{Change, Writing};
use super::config::{FamilySession, RibSession};
use super::export::{Advertisement, Target};
use super::family::{Common, FamilyRib};
use super::group::Group;
use super::limits::MAX_BATCH_DESTINATIONS;
use super::source::Sources;
use super::table::SourceId;
use super::walk::Task;
use crate::types::{AddressFamily, PeerId};
use crate::wire::Attributes;

impl<A: AddressFamily> FamilyRib<A> {
    /// The group that serves a session; a new one starts with what `like` has advertised, or empty.
    pub(super) fn group_for(
        &mut self,
        session: &Arc<RibSession>,
        settings: &FamilySession,
        like: Option<usize>,
        common: &mut Common,
    ) -> usize {
        if let Some((id, _)) = self
            .groups
            .iter()
            .find(|(_, group)| group.serves(session, settings))
        {
            return id;
        }
        let group = match like.and_then(|like| self.groups.get(like)) {
            Some(like) => like.split(Arc::clone(session), settings.clone()),
            None => Group::new(Arc::clone(session), settings.clone()),
        };
        for slot in 0..group.slots() {
            let advertised = group.advertised(slot);
            if !advertised.is_none() {
                common.store.retain(advertised.attr, 1);
                self.sources.of_mut(advertised.source).advertised += 1;
            }
        }
        let id = self.groups.insert(group);
        self.start(Task::Export(id));
        id
    }

    pub(super) fn drop_group_if_empty(&mut self, id: usize, common: &mut Common) {
        if !self.groups[id].members.is_empty() {
            return;
        }
        let group = self.groups.remove(id);
        self.walks.retain(|walk| walk.task != Task::Export(id));
        for slot in 0..group.slots() {
            self.forget(group.advertised(slot), common);
        }
    }

    pub(super) fn forget(&mut self, advertised: Advertisement, common: &mut Common) {
        if !advertised.is_none() {
            common.store.release(advertised.attr, &mut common.next_hops);
            self.sources.of_mut(advertised.source).advertised -= 1;
            self.sources.collect(advertised.source);
        }
    }

    pub(super) fn export_range(
        &mut self,
        id: usize,
        range: core::ops::Range<u32>,
        common: &mut Common,
    ) {
        let mut slots = Vec::new();
        for slot in range {
            // What is dirty is exported when it is decided.
            if !self.is_dirty.contains(slot) {
                slots.push(slot);
            }
            if slots.len() == MAX_BATCH_DESTINATIONS {
                self.export_slots(id, &slots, common);
                slots.clear();
            }
        }
        self.export_slots(id, &slots, common);
    }

    /// Brings what a group is sent up to date for these destinations.
    pub(super) fn export_slots(&mut self, id: usize, slots: &[u32], common: &mut Common) {
        let mut changes = Vec::new();
        let mut export = Export::new(&self.groups[id]);
        for &slot in slots {
            let best = self.best(slot).filter(|_| !self.is_unprogrammed(slot));
            let new = match best.map(|path| (path.attr, path.source)) {
                Some(best) => {
                    export.advertisement(self.table.prefix(slot), best, &self.sources, common)
                }
                None => Advertisement::NONE,
            };
            let facts = Facts {
                sources: &self.sources,
                store: &common.store,
            };
            let old = self.groups[id].set_advertised(slot, new, facts);
            if !new.is_none() {
                self.sources.of_mut(new.source).advertised += 1;
            }
            if old == new {
                self.forget(old, common);
            } else {
                let same_wire = export.same_wire::<A>(old, new, &self.sources, common);
                changes.push(Change {
                    slot,
                    old,
                    new,
                    same_wire,
                });
            }
        }
        if changes.is_empty() {
            return;
        }
        let (sources, common_ref) = (&self.sources, &*common);
        let facts = Facts {
            sources,
            store: &common_ref.store,
        };
        let attributes =
            |advertisement| export.wire_attributes::<A>(advertisement, sources, common_ref);
        let writing = Writing {
            table: &self.table,
            facts,
            attributes: &attributes,
        };
        self.groups[id].publish(&changes, common.config.group_log_bytes, &writing);
        for change in changes {
            self.forget(change.old, common);
        }
    }

    /// The next messages for a peer.
    pub(super) fn poll_transmit(
        &mut self,
        peer: PeerId,
        max_bytes: usize,
        common: &Common,
    ) -> Option<Bytes> {
        let id = self.peers.get(&peer)?.group;
        let group = self.groups.get_mut(id)?;
        let export = Export::new(group);
        let sources = &self.sources;
        let attributes =
            |advertisement| export.wire_attributes::<A>(advertisement, sources, common);
        let writing = Writing {
            table: &self.table,
            facts: Facts {
                sources,
                store: &common.store,
            },
            attributes: &attributes,
        };
        group.poll(peer, max_bytes, &writing)
    }
}

/// Exports for one group, with the last results: neighbours in a batch usually share their attributes. Not to be kept
/// beyond a batch, because ids of attributes are used again.
struct Export {
    session: Arc<RibSession>,
    settings: FamilySession,
    /// Policy does not look at prefixes.
    uniform: bool,
    last: Option<((AttrId, SourceId), Advertisement)>,
    last_pair: Option<((Advertisement, Advertisement), bool)>,
}

impl Export {
    fn new(group: &Group) -> Self {
        let settings = group.settings.clone();
        Self {
            session: Arc::clone(&group.session),
            uniform: settings
                .export
                .as_ref()
                .is_none_or(|policy| !policy.looks_at_prefix()),
            settings,
            last: None,
            last_pair: None,
        }
    }

    fn target<'a>(&'a self, common: &'a Common) -> Target<'a> {
        Target {
            config: &common.config,
            session: &self.session,
            settings: &self.settings,
        }
    }

    /// What is sent for a best path, with one reference on its attributes for the caller.
    fn advertisement<A: AddressFamily>(
        &mut self,
        prefix: A,
        best: (AttrId, SourceId),
        sources: &Sources,
        common: &mut Common,
    ) -> Advertisement {
        let is_default = prefix.len() == 0;
        if let Some((same, result)) = self.last
            && same == best
            && self.uniform
            && !is_default
        {
            if !result.is_none() {
                common.store.retain(result.attr, 1);
            }
            return result;
        }
        let target = Target {
            config: &common.config,
            session: &self.session,
            settings: &self.settings,
        };
        let result = target
            .export(
                prefix.erase(),
                best.0,
                (best.1, sources.of(best.1)),
                &mut common.store,
                &mut common.next_hops,
            )
            .unwrap_or(Advertisement::NONE);
        if !is_default {
            self.last = Some((best, result));
        }
        result
    }

    /// Whether two advertisements look the same to who receives both.
    fn same_wire<A: AddressFamily>(
        &mut self,
        old: Advertisement,
        new: Advertisement,
        sources: &Sources,
        common: &Common,
    ) -> bool {
        if old.is_none() || new.is_none() {
            return false;
        }
        if let Some((pair, same)) = self.last_pair
            && pair == (old, new)
        {
            return same;
        }
        let wire = |advertisement| self.wire_attributes::<A>(advertisement, sources, common);
        let same = wire(old) == wire(new);
        self.last_pair = Some(((old, new), same));
        same
    }

    fn wire_attributes<A: AddressFamily>(
        &self,
        advertisement: Advertisement,
        sources: &Sources,
        common: &Common,
    ) -> Attributes {
        let source = sources.of(advertisement.source);
        self.target(common)
            .wire_attributes(advertisement, A::FAMILY, source, &common.store)
    }
}
