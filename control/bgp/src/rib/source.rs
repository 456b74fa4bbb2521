//! Where paths come from: sessions past and present, and this speaker itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::config::{PeerKind, RibSession};
use super::limits::MAX_SOURCES;
use super::table::{Path, Refusal, SourceId};
use crate::types::PeerId;

/// Whether paths of a source count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its session is up.
    Live,
    /// Kept until confirmed or swept.
    Stale,
    /// Under removal; its paths are not eligible any more.
    Dead,
}

#[derive(Debug)]
pub(super) struct Source {
    /// `None` for the local one.
    pub(super) peer: Option<PeerId>,
    pub(super) session: Option<Arc<RibSession>>,
    pub(super) life: Life,
    /// Paths in the table.
    pub(super) paths: u32,
    /// Those of them that import let through.
    pub(super) accepted: u32,
    /// Entries of update groups that name it.
    pub(super) advertised: u32,
}

impl Source {
    /// eBGP, iBGP, or `None` for the local source.
    pub(super) fn kind(&self) -> Option<PeerKind> {
        self.session.as_ref().map(|session| session.kind)
    }

    /// A path of this source came into the table.
    pub(super) fn gains(&mut self, path: &Path) {
        self.paths += 1;
        self.accepted += u32::from(path.refusal == Refusal::None);
    }

    /// A path of this source left the table.
    pub(super) fn loses(&mut self, path: &Path) {
        self.paths -= 1;
        self.accepted -= u32::from(path.refusal == Refusal::None);
    }
}

/// Sources of a family by id.
#[derive(Debug)]
pub(super) struct Sources {
    slots: Vec<Option<Source>>,
    free: Vec<u16>,
    by_peer: BTreeMap<PeerId, SmallVec<[SourceId; 2]>>,
}

impl Sources {
    pub(super) fn new() -> Self {
        let local = Source {
            peer: None,
            session: None,
            life: Life::Live,
            paths: 0,
            accepted: 0,
            advertised: 0,
        };
        Self {
            slots: vec![Some(local)],
            free: Vec::new(),
            by_peer: BTreeMap::new(),
        }
    }

    /// A live source for a session; `None` at the limit.
    pub(super) fn add(&mut self, peer: PeerId, session: Arc<RibSession>) -> Option<SourceId> {
        let source = Source {
            peer: Some(peer),
            session: Some(session),
            life: Life::Live,
            paths: 0,
            accepted: 0,
            advertised: 0,
        };
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.slots.len() < MAX_SOURCES => {
                self.slots.push(None);
                u16::try_from(self.slots.len() - 1).ok()?
            }
            None => return None,
        };
        self.slots[usize::from(id)] = Some(source);
        self.by_peer.entry(peer).or_default().push(SourceId(id));
        Some(SourceId(id))
    }

    /// Sources of a peer, oldest first.
    pub(super) fn of_peer(&self, peer: PeerId) -> SmallVec<[SourceId; 2]> {
        self.by_peer.get(&peer).cloned().unwrap_or_default()
    }

    pub(super) fn of(&self, id: SourceId) -> &Source {
        self.slots[usize::from(id.0)]
            .as_ref()
            .expect("a source outlives its paths")
    }

    pub(super) fn of_mut(&mut self, id: SourceId) -> &mut Source {
        self.slots[usize::from(id.0)]
            .as_mut()
            .expect("a source outlives its paths")
    }

    pub(super) fn peer(&self, id: SourceId) -> Option<PeerId> {
        self.slots.get(usize::from(id.0))?.as_ref()?.peer
    }

    /// Whether there is nothing of a dead source left to remove.
    pub(super) fn is_gone(&self, id: SourceId) -> bool {
        self.slots[usize::from(id.0)]
            .as_ref()
            .is_none_or(|source| source.life != Life::Dead || source.paths == 0)
    }

    /// Frees a dead source that nothing names any more.
    pub(super) fn collect(&mut self, id: SourceId) {
        let slot = &mut self.slots[usize::from(id.0)];
        let done = |source: &mut Source| {
            source.life == Life::Dead && source.paths == 0 && source.advertised == 0
        };
        let Some(source) = slot.take_if(done) else {
            return;
        };
        self.free.push(id.0);
        if let Some(peer) = source.peer
            && let Some(ids) = self.by_peer.get_mut(&peer)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_peer.remove(&peer);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(id, source)| Some((SourceId(u16::try_from(id).ok()?), source.as_ref()?)))
    }
}
