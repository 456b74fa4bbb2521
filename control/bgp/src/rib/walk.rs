//! Walks over the whole table, done in pieces: what is too much for one go.

use super::family::{Common, FamilyRib};
use super::import::Import;
use super::source::Life;
use super::table::{Path, SourceId};
use crate::types::AddressFamily;

/// A walk under way.
#[derive(Debug)]
pub(super) struct Walk {
    cursor: u32,
    pub(super) task: Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Removes the paths of a dead source.
    Remove(SourceId),
    /// Runs import policy again.
    Import(SourceId),
    /// Finds destinations whose next hops changed.
    NextHops,
    /// Fills or changes what a group is sent.
    Export(usize),
    /// Decides everything anew.
    Decide,
}

impl<A: AddressFamily> FamilyRib<A> {
    pub(super) fn next_hops_changed(&mut self) {
        self.start(Task::NextHops);
    }

    pub(super) fn decide_all(&mut self) {
        self.start(Task::Decide);
    }

    /// Runs import policy again for all peers, after a change of the own AS or identifiers.
    pub(super) fn import_all(&mut self) {
        let all: Vec<SourceId> = self
            .sources
            .iter()
            .filter(|(_, source)| source.peer.is_some() && source.life != Life::Dead)
            .map(|(id, _)| id)
            .collect();
        for id in all {
            self.start(Task::Import(id));
        }
    }

    pub(super) fn start(&mut self, task: Task) {
        if let Task::Export(id) = task {
            self.groups[id].building = true;
        }
        // One that has not begun will do what is asked; one under way may have passed what changed.
        if !self
            .walks
            .iter()
            .any(|walk| walk.task == task && walk.cursor == 0)
        {
            self.walks.push_back(Walk { cursor: 0, task });
        }
    }

    /// Goes on with walks over at most `budget` destinations. Returns how many are left of the budget.
    pub(super) fn work(&mut self, mut budget: usize, common: &mut Common) -> usize {
        while budget > 0 {
            let Some(mut walk) = self.walks.pop_front() else {
                break;
            };
            if walk.cursor == 0 && walk.task == Task::NextHops {
                common.next_hops.begin_walk(A::FAMILY);
            }
            let slots = self.table.slots();
            let end = slots.min(
                walk.cursor
                    .saturating_add(u32::try_from(budget).unwrap_or(u32::MAX)),
            );
            let finished = match walk.task {
                Task::Export(id) => {
                    self.export_range(id, walk.cursor..end, common);
                    false
                }
                task => (walk.cursor..end).any(|slot| {
                    // The id of a source that is gone may already stand for another one.
                    let gone = matches!(task, Task::Remove(id) if self.sources.is_gone(id));
                    if !gone {
                        self.walk_destination(slot, task, common);
                    }
                    gone
                }),
            };
            budget -= (end - walk.cursor) as usize;
            walk.cursor = end;
            if end < slots && !finished {
                self.walks.push_front(walk);
            } else {
                self.end_walk(walk.task, common);
            }
        }
        self.bury(0);
        budget
    }

    pub(super) fn has_work(&self) -> bool {
        !self.walks.is_empty()
    }

    pub(super) fn walk_destination(&mut self, slot: u32, task: Task, common: &mut Common) {
        match task {
            Task::Remove(id) => {
                if let Some(position) = self
                    .table
                    .paths(slot)
                    .iter()
                    .position(|path| path.source == id)
                {
                    self.remove_path(slot, position, common);
                }
            }
            Task::Import(id) => self.import_again(slot, id, common),
            Task::NextHops => {
                let walked = self.table.paths(slot).iter().any(|path| {
                    common
                        .next_hops
                        .is_walked(common.store.next_hop(path.attr), A::FAMILY)
                });
                if walked {
                    self.mark_dirty(slot);
                }
            }
            Task::Decide => {
                if !self.table.paths(slot).is_empty() {
                    self.mark_dirty(slot);
                }
            }
            Task::Export(_) => {}
        }
    }

    pub(super) fn end_walk(&mut self, task: Task, common: &mut Common) {
        match task {
            Task::NextHops => common.next_hops.end_walk(A::FAMILY),
            Task::Export(id) => {
                let again = self.walks.iter().any(|walk| walk.task == task);
                if let Some(group) = self.groups.get_mut(id) {
                    group.building = again;
                }
            }
            Task::Remove(_) | Task::Import(_) | Task::Decide => {}
        }
    }

    pub(super) fn import_again(&mut self, slot: u32, id: SourceId, common: &mut Common) {
        let Some(position) = self
            .table
            .paths(slot)
            .iter()
            .position(|path| path.source == id)
        else {
            return;
        };
        let path = self.table.paths(slot)[position];
        let source = self.sources.of(id);
        let (Some(session), Some(peer)) = (source.session.clone(), source.peer) else {
            return;
        };
        let Some(settings) = &session.families[A::FAMILY.index()] else {
            return;
        };
        let received = common.store.received(path.attr);
        common.store.retain(received, 1);
        let mut import = Import::new(&session, settings, &common.config, received, &common.store);
        let prefix = self.table.prefix(slot).erase();
        let (attr, refusal) = import.path(prefix, &mut common.store, &mut common.next_hops);
        import.finish(&mut common.store, &mut common.next_hops);
        self.put_path(
            slot,
            Path {
                attr,
                refusal,
                ..path
            },
            Some(peer),
            common,
        );
    }
}
