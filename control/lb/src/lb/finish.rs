//! What the refreshed services touched, compared with what was last published: the delta, and what follows for
//! announcements.

use core::net::IpAddr;
use core::num::NonZeroU16;
use std::collections::BTreeSet;

use crate::announce::{Announcement, Standing, Withheld};
use crate::config::NodePortAddresses;
use crate::problem::{Findings, Place, ProblemKind};
use crate::tables::{
    Change, Delta, Frontend, FrontendKey, FrontendKind, HealthCheck, Held, Listen, Route, Scope,
};
use crate::types::ObjectRef;

use super::{Claim, Entry, Lb};

impl Lb {
    /// The delta of everything touched; `None` if there is nothing to write, to wait for or to look at next time.
    pub(super) fn finish(&mut self) -> Option<Delta> {
        let revision = self.revision + 1;
        let touched = core::mem::take(&mut self.touched);
        let mut addresses = touched.addresses;
        let mut entries = touched.entries;
        let frontends = self.frontend_changes(touched.frontends, &mut addresses, &mut entries);
        let delta = Delta {
            revision,
            backends: self.backends.changes(),
            seats: touched.pools.seats.into_iter().collect(),
            rings: touched.pools.rings.into_iter().collect(),
            pools: touched.pools.pools.into_iter().collect(),
            source_ranges: touched.source_ranges.into_iter().collect(),
            frontends,
            addresses: self.address_changes(&addresses),
            node_port_addresses: self.node_port_changes(touched.node_port_addresses),
            health_checks: self.health_changes(&touched.health_checks, &mut entries),
        };
        self.revision = revision;
        for at in entries {
            self.table_problems(at);
        }
        for addr in addresses {
            self.judge_address(addr);
        }
        // What was given back can be handed out from the next delta on.
        let room = [
            self.backends.rested(),
            self.pool_ids.rested(),
            self.service_ids.rested(),
        ];
        if room.contains(&true) {
            for at in core::mem::take(&mut self.starved) {
                self.mark(at);
            }
        }
        let waited_for = self
            .waiting
            .last()
            .is_some_and(|(last, _)| *last == revision);
        if delta.is_empty() && !waited_for && self.dirty.is_empty() {
            self.revision -= 1;
            return None;
        }
        Some(delta)
    }

    fn frontend_changes(
        &mut self,
        touched: BTreeSet<FrontendKey>,
        addresses: &mut BTreeSet<IpAddr>,
        entries: &mut BTreeSet<usize>,
    ) -> Vec<Change<FrontendKey, Frontend>> {
        let mut changes = Vec::new();
        // What goes makes room for what comes.
        let (stay, go): (Vec<_>, Vec<_>) = touched.into_iter().partition(|key| {
            self.frontends
                .get(key)
                .is_some_and(|s| !s.claims.is_empty())
        });
        for key in go.into_iter().chain(stay) {
            self.frontend_change(key, &mut changes, addresses, entries);
        }
        while self.published_frontends < self.config.limits.frontends {
            let Some(key) = self.left_out.pop_first() else {
                break;
            };
            self.frontend_change(key, &mut changes, addresses, entries);
        }
        changes.sort_unstable_by_key(|(key, _)| *key);
        changes
    }

    fn frontend_change(
        &mut self,
        key: FrontendKey,
        changes: &mut Vec<Change<FrontendKey, Frontend>>,
        addresses: &mut BTreeSet<IpAddr>,
        entries: &mut BTreeSet<usize>,
    ) {
        let winner = self.winner(&key);
        let value = winner.and_then(|claim| self.frontend(&claim, &key));
        let Some(slot) = self.frontends.get_mut(&key) else {
            return;
        };
        let new = slot.published.is_none() && value.is_some();
        if new && self.published_frontends >= self.config.limits.frontends {
            self.left_out.insert(key);
        } else {
            self.left_out.remove(&key);
            if slot.published != value {
                self.published_frontends += usize::from(new);
                self.published_frontends -= usize::from(value.is_none());
                slot.published = value;
                changes.push((key, value));
                // What could not be written is not wanted any more; if it is again, it is tried again.
                if value.is_none()
                    && let Listen::Address(addr) = key.listen
                    && let Some(vip) = self.vips.get_mut(&addr)
                {
                    vip.failed.retain(|failed| *failed != key);
                }
            }
        }
        slot.winner = winner.map(|claim| claim.entry);
        if slot.claims.len() > 1 {
            entries.extend(slot.claims.iter().map(|claim| claim.entry));
        }
        entries.extend(slot.winner);
        if slot.claims.is_empty() {
            self.frontends.remove(&key);
        }
        if let Listen::Address(addr) = key.listen {
            addresses.insert(addr);
        }
    }

    /// Who gets a frontend: by kind, then the older service, then by name.
    fn winner(&self, key: &FrontendKey) -> Option<Claim> {
        let claims = &self.frontends.get(key)?.claims;
        if let [only] = claims[..] {
            return Some(only);
        }
        claims
            .iter()
            .min_by(|a, b| {
                let rank = |claim: &Claim| (claim.kind, self.seniority(claim.entry));
                rank(a).cmp(&rank(b))
            })
            .copied()
    }

    fn seniority(&self, at: usize) -> Option<(Option<&str>, &crate::types::ObjectKey)> {
        let entry = self.entries.get(at)?;
        let created = entry.service.as_deref().and_then(|s| s.created.as_deref());
        Some((created, &entry.key))
    }

    fn frontend(&self, claim: &Claim, key: &FrontendKey) -> Option<Frontend> {
        let entry = self.entries.get(claim.entry)?;
        let pool = entry.pools.iter().find(|pool| pool.id == claim.pool)?;
        let family = pool.published.as_ref()?.family;
        debug_assert!(pool.frontends.iter().any(|(other, _)| other == key));
        Some(Frontend {
            kind: claim.kind,
            service: entry.id?,
            pool: pool.id,
            routes: pool.routes(claim.kind),
            source_ranges: claim.kind == FrontendKind::LoadBalancer
                && entry.source_ranges[family as usize].is_some(),
        })
    }

    fn address_changes(&mut self, touched: &BTreeSet<IpAddr>) -> Vec<Change<IpAddr, Held>> {
        let mut changes = Vec::new();
        for addr in touched {
            let Some(slot) = self.addresses.get_mut(addr) else {
                continue;
            };
            let now = (!slot.claims.is_empty()).then(|| Held {
                reject_others: !self.host_addresses.contains(addr),
            });
            if slot.published != now {
                slot.published = now;
                changes.push((*addr, now));
            }
            if now.is_none() {
                self.addresses.remove(addr);
            }
        }
        changes
    }

    fn node_port_changes(&mut self, touched: bool) -> Vec<Change<IpAddr, ()>> {
        if !touched {
            return Vec::new();
        }
        let now: BTreeSet<_> = match &self.config.node_port_addresses {
            NodePortAddresses::Primary => self.node.primary.iter().copied().collect(),
            NodePortAddresses::Within(ranges) => self
                .host_addresses
                .iter()
                .copied()
                .filter(|addr| !addr.is_loopback())
                .filter(|addr| ranges.iter().any(|range| range.0.contains(*addr)))
                .collect(),
        };
        let before = core::mem::replace(&mut self.node_port_addresses, now);
        let now = &self.node_port_addresses;
        before
            .symmetric_difference(now)
            .map(|addr| (*addr, now.contains(addr).then_some(())))
            .collect()
    }

    fn health_changes(
        &mut self,
        touched: &BTreeSet<NonZeroU16>,
        entries: &mut BTreeSet<usize>,
    ) -> Vec<Change<NonZeroU16, HealthCheck>> {
        let mut changes = Vec::new();
        for port in touched {
            let Some(slot) = self.health_checks.get(port) else {
                continue;
            };
            let winner = slot
                .claims
                .iter()
                .copied()
                .min_by_key(|at| self.seniority(*at));
            let now = winner.and_then(|at| {
                let entry = self.entries.get(at)?;
                Some(HealthCheck {
                    service: entry.key.clone(),
                    local_ready: entry.health_check?.1,
                })
            });
            if slot.published != now {
                changes.push((*port, now.clone()));
            }
            if slot.claims.is_empty() {
                self.health_checks.remove(port);
            } else if let Some(slot) = self.health_checks.get_mut(port) {
                entries.extend(&slot.claims);
                slot.published = now;
                slot.winner = winner;
            }
        }
        changes
    }

    /// Tells what a service doesn't get because of others or for want of room.
    fn table_problems(&mut self, at: usize) {
        let Some(entry) = self.entries.get(at) else {
            return;
        };
        let reference = ObjectRef::Service(entry.key.clone());
        let mut findings = Findings::new(&self.config.limits);
        let mut fine = true;
        let frontends = entry.pools.iter().flat_map(|pool| &pool.frontends);
        for (key, kind) in frontends {
            let field = match kind {
                FrontendKind::ClusterIp => "spec.clusterIPs",
                FrontendKind::LoadBalancer => "status.loadBalancer.ingress",
                FrontendKind::NodePort => "spec.ports[].nodePort",
                FrontendKind::ExternalIp => "spec.externalIPs",
            };
            let winner = self.frontends.get(key).and_then(|slot| slot.winner);
            if let Some(other) = winner.filter(|winner| *winner != at) {
                let other = &self.entries[other].key;
                let text = format!(
                    "{key} is left out: Service {other} has it; choose another address or port"
                );
                findings.push(ProblemKind::Conflict, field, text);
                fine = false;
            } else if self.left_out.contains(key) {
                let most = self.config.limits.frontends;
                let text = format!("{key} is left out: there are {most} frontends");
                findings.push(ProblemKind::Limit, field, text);
                fine = false;
            }
        }
        if let Some((port, _)) = entry.health_check
            && let Some(other) = self.health_checks.get(&port).and_then(|slot| slot.winner)
            && other != at
        {
            let other = &self.entries[other].key;
            let text = format!(
                "{port} answers for Service {other} only; choose another port for this one"
            );
            findings.push(ProblemKind::Conflict, "spec.healthCheckNodePort", text);
            fine = false;
        }
        if entry.left_out > 0 {
            let text = format!(
                "{} endpoints or ports are left out: a limit of backends or pools is reached",
                entry.left_out
            );
            findings.push(ProblemKind::Limit, "spec.ports", text);
            fine = false;
        }
        if fine {
            self.problems.clear(&reference, Place::Tables);
        } else {
            self.problems.set(reference, Place::Tables, findings);
        }
    }

    /// Decides anew whether an address is originated.
    pub(super) fn judge_address(&mut self, addr: IpAddr) {
        let now = self.announcement(addr);
        let Some(now) = now else {
            if let Some(vip) = self.vips.remove(&addr) {
                if let Some((revision, _)) = vip.waiting {
                    self.waiting.remove(&(revision, addr));
                }
                if vip.told.is_some() {
                    self.told.insert(addr);
                }
            }
            return;
        };
        let vip = self.vips.entry(addr).or_default();
        if let Some((revision, _)) = vip.waiting.take() {
            self.waiting.remove(&(revision, addr));
        }
        let originated = matches!(vip.told, Some(Announcement::Originate { .. }));
        let originate = matches!(now, Announcement::Originate { .. });
        let tell = if originate && !originated && self.revision > self.programmed {
            vip.waiting = Some((self.revision, now));
            self.waiting.insert((self.revision, addr));
            Announcement::Withhold(Withheld::Programming)
        } else {
            now
        };
        if vip.told.as_ref() != Some(&tell) {
            vip.told = Some(tell);
            self.told.insert(addr);
        }
    }

    /// What an address waited for is programmed.
    pub(super) fn announce_waiting(&mut self, addr: IpAddr) {
        let Some(vip) = self.vips.get_mut(&addr) else {
            self.waiting.retain(|(_, other)| *other != addr);
            return;
        };
        if let Some((revision, announcement)) = vip.waiting.take() {
            self.waiting.remove(&(revision, addr));
            vip.told = Some(announcement);
            self.told.insert(addr);
        }
    }

    /// What should be told of an address; `None` if no service has it.
    fn announcement(&self, addr: IpAddr) -> Option<Announcement> {
        let claims = &self.addresses.get(&addr)?.claims;
        let mut services = Vec::new();
        let mut all: Option<Standing> = None;
        for (at, kind) in claims {
            let Some(entry) = self.entries.get(*at) else {
                continue;
            };
            let standing = self.standing(entry, *at, addr, *kind);
            if matches!(standing, Standing::Serves { .. }) {
                services.push((entry.key.clone(), *kind));
            }
            all = Some(all.map_or(standing, |all| all.or(standing)));
        }
        services.sort_unstable();
        Some(match all? {
            Standing::Serves {
                local_endpoints,
                draining,
            } => Announcement::Originate {
                services,
                local_endpoints,
                draining,
            },
            Standing::Not(why) => Announcement::Withhold(why),
        })
    }

    /// How a service stands at one of its addresses.
    fn standing(&self, entry: &Entry, at: usize, addr: IpAddr, kind: FrontendKind) -> Standing {
        if kind == FrontendKind::LoadBalancer {
            if !entry.service.as_deref().is_some_and(|s| s.our_class) {
                return Standing::Not(Withheld::OtherClass);
            }
            if self.node.excluded {
                return Standing::Not(Withheld::NodeExcluded);
            }
        }
        let failed = self.vips.get(&addr).map_or(&[][..], |vip| &vip.failed);
        let mut standing: Option<Standing> = None;
        for pool in &entry.pools {
            for (key, _) in &pool.frontends {
                if key.listen != Listen::Address(addr) {
                    continue;
                }
                let slot = self.frontends.get(key);
                let this = if slot.is_none_or(|slot| slot.winner != Some(at)) {
                    Standing::Not(Withheld::Conflict)
                } else if slot.is_none_or(|slot| slot.published.is_none()) {
                    Standing::Not(Withheld::LeftOut)
                } else if failed.contains(key) {
                    Standing::Not(Withheld::ProgramFailed)
                } else {
                    match pool.routes(kind).outside {
                        Route::Reject => Standing::Not(Withheld::NoEndpoint),
                        Route::Drop => Standing::Not(Withheld::NoLocalEndpoint),
                        Route::Forward {
                            scope: Scope::Cluster,
                            ..
                        } => Standing::Serves {
                            local_endpoints: None,
                            draining: false,
                        },
                        Route::Forward {
                            scope: Scope::Local,
                            ..
                        } => Standing::Serves {
                            local_endpoints: u32::try_from(pool.local_members()).ok(),
                            draining: pool.local_terminating,
                        },
                    }
                };
                standing = Some(standing.map_or(this, |standing| standing.or(this)));
            }
        }
        let nothing = if entry.left_out > 0 {
            Withheld::LeftOut
        } else {
            Withheld::NoEndpoint
        };
        standing.unwrap_or(Standing::Not(nothing))
    }
}
