//! The owner of liveness: which next hops are dead, beside what is desired.
//!
//! A link that fails is noted here first of all: one write for each next hop on it, and every group skips them, before the
//! planner has rewritten a single one. Who is believed in again is revived when the maps say of it what is wanted, and
//! before a group names it anew.

use std::collections::BTreeMap;

use causeway_datapath::{ApplyError, Datapath, Error};
use causeway_maps::{NextHop, NextHopId, dead};
use causeway_net::{Fact, NeighbourState};
use causeway_plan::{Op, Planner, address_of};

/// What the map holds, zeros left out.
#[derive(Debug)]
pub(super) struct Liveness(BTreeMap<NextHopId, u32>);

impl Liveness {
    /// Takes over what an earlier daemon noted.
    ///
    /// # Errors
    ///
    /// If the map can't be read.
    pub(super) fn open(datapath: &Datapath) -> Result<Self, Error> {
        Ok(Self(datapath.dead()?.into_iter().collect()))
    }

    /// What is noted of a next hop: bits of [`causeway_maps::dead`].
    pub(super) fn noted(&self, id: NextHopId) -> u32 {
        self.0.get(&id).copied().unwrap_or(0)
    }

    /// Notes who is dead by these facts.
    ///
    /// # Errors
    ///
    /// If the map can't be written.
    pub(super) fn note(
        &mut self,
        datapath: &Datapath,
        planner: &Planner,
        facts: &[Fact],
    ) -> Result<(), ApplyError> {
        let bits = |hop: &NextHop| {
            facts.iter().fold(0, |bits, fact| match fact {
                Fact::Link(link) if on(hop, link.ifindex) => match link.usable() {
                    true => bits & !dead::LINK,
                    false => bits | dead::LINK,
                },
                Fact::LinkGone { ifindex } if on(hop, *ifindex) => bits | dead::LINK,
                Fact::Neighbour(neighbour)
                    if neighbour.ifindex == hop.ifindex && neighbour.addr == address_of(hop) =>
                {
                    match neighbour.state {
                        NeighbourState::Failed => bits | dead::NEIGHBOUR,
                        _ => bits & !dead::NEIGHBOUR,
                    }
                }
                _ => bits,
            })
        };
        let killing = facts.iter().any(|fact| match fact {
            Fact::Link(link) => !link.usable(),
            Fact::LinkGone { .. } => true,
            Fact::Neighbour(neighbour) => neighbour.state == NeighbourState::Failed,
            _ => false,
        });
        if !killing {
            return Ok(());
        }
        for (id, hop) in planner.next_hops() {
            let before = self.0.get(&id).copied().unwrap_or(0);
            let now = before | bits(&hop);
            if now != before {
                datapath.set_liveness(id, now)?;
                self.0.insert(id, now);
            }
        }
        Ok(())
    }

    /// Revives whom a group is about to name: the planner names only those it believes in, and an id may be another's.
    ///
    /// # Errors
    ///
    /// If the map can't be written.
    pub(super) fn before(&mut self, datapath: &Datapath, op: &Op) -> Result<(), ApplyError> {
        let Op::PutGroup(_, group) = op else {
            return Ok(());
        };
        if self.0.is_empty() {
            return Ok(());
        }
        for id in group.slots.iter().flat_map(|slot| slot.order) {
            self.clear(datapath, NextHopId(u32::from(id)))?;
        }
        Ok(())
    }

    /// Revives whom the planner believes in, with everything written.
    ///
    /// # Errors
    ///
    /// If the map can't be written.
    pub(super) fn revive(
        &mut self,
        datapath: &Datapath,
        planner: &Planner,
    ) -> Result<(), ApplyError> {
        let dead: Vec<NextHopId> = self.0.keys().copied().collect();
        for id in dead {
            if planner.believes_in(id) {
                self.clear(datapath, id)?;
            }
        }
        Ok(())
    }

    fn clear(&mut self, datapath: &Datapath, id: NextHopId) -> Result<(), ApplyError> {
        if self.0.contains_key(&id) {
            datapath.set_liveness(id, 0)?;
            self.0.remove(&id);
        }
        Ok(())
    }
}

/// Whether a next hop is reached by an interface.
fn on(hop: &NextHop, ifindex: u32) -> bool {
    hop.ifindex == ifindex || hop.tx_ifindex == ifindex
}
