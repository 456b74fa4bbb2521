//! What the tables hold for one service, and why each endpoint is or is not chosen.

use core::net::IpAddr;
use std::sync::Arc;

use crate::announce::Announcement;
use crate::compile::judge;
use crate::lb::Lb;
use crate::problem::Report;
use crate::select::{State, Topology, Verdict};
use crate::service::HandsOff;
use crate::tables::{BackendId, Frontend, FrontendKey, FrontendKind, PoolId};
use crate::types::{BackendKey, Family, ObjectKey, ObjectRef, Protocol};

/// A service, explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its name.
    pub service: ObjectKey,
    /// Why it is left alone, if so.
    pub hands_off: Option<HandsOff>,
    /// Its ports by family.
    pub ports: Vec<PortExplanation>,
    /// Its addresses, and what this node announces of them.
    pub addresses: Vec<(IpAddr, FrontendKind, Option<Announcement>)>,
    /// Port of its health check, and endpoints of this node that are ready.
    pub health_check: Option<(u16, u32)>,
    /// What is wrong with it.
    pub problems: Vec<Report>,
}

/// A port in one family.
#[derive(Clone, Debug)]
pub struct PortExplanation {
    /// Name; empty if it has none.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Family.
    pub family: Family,
    /// Its pool; `None` if there was no room for it.
    pub pool: Option<PoolId>,
    /// How topology narrowed the cluster's ring.
    pub topology: Topology,
    /// Its frontends.
    pub frontends: Vec<FrontendExplanation>,
    /// Every endpoint of the port, in the order of keys.
    pub endpoints: Vec<EndpointExplanation>,
}

/// A frontend.
#[derive(Clone, Debug)]
pub struct FrontendExplanation {
    /// Key.
    pub key: FrontendKey,
    /// What it is to the service.
    pub kind: FrontendKind,
    /// What stands in the tables; `None` if it is left out.
    pub published: Option<Frontend>,
    /// The service that has it instead.
    pub held_by: Option<ObjectKey>,
}

/// An endpoint.
#[derive(Clone, Debug)]
pub struct EndpointExplanation {
    /// Address, port, protocol.
    pub key: BackendKey,
    /// Its backend; `None` if there was no room.
    pub backend: Option<BackendId>,
    /// Node that it runs on.
    pub node: Option<Arc<str>>,
    /// Zone that it runs in.
    pub zone: Option<Arc<str>>,
    /// Whether that node is this one.
    pub local: bool,
    /// Share of new connections among the chosen.
    pub weight: u16,
    /// What it says of itself.
    pub state: State,
    /// Slices that have it.
    pub slices: u32,
    /// For traffic that may go anywhere.
    pub cluster: Verdict,
    /// For traffic that must stay on this node.
    pub within_node: Verdict,
}

impl Lb {
    /// Names of all services that are there, in order.
    #[must_use]
    pub fn services(&self) -> Vec<ObjectKey> {
        let mut keys: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.service.is_some())
            .map(|(_, entry)| entry.key.clone())
            .collect();
        keys.sort_unstable();
        keys
    }

    /// Explains a service; `None` if there is none of that name.
    #[must_use]
    pub fn explain(&self, namespace: &str, name: &str) -> Option<Explanation> {
        let key = ObjectKey::new(namespace, name);
        let (at, entry) = self.entry_of(&key)?;
        let service = entry.service.as_deref()?;
        let mut ports = Vec::new();
        for port in &service.ports {
            for &family in &service.families {
                let slices = entry.slices.values();
                let selection = judge(service, slices, port, family, self.here(), &self.config);
                let pool = entry.pools.iter().find(|pool| {
                    pool.published.as_ref().is_some_and(|pool| {
                        (&pool.port_name, pool.protocol, pool.family)
                            == (&port.name, port.protocol, family)
                    })
                });
                let frontends = pool.map_or(&[][..], |pool| &pool.frontends);
                ports.push(PortExplanation {
                    name: Arc::clone(&port.name),
                    protocol: port.protocol,
                    family,
                    pool: pool.map(|pool| pool.id),
                    topology: selection.topology,
                    frontends: frontends
                        .iter()
                        .map(|(key, kind)| self.explain_frontend(at, *key, *kind))
                        .collect(),
                    endpoints: selection
                        .candidates
                        .iter()
                        .map(|one| EndpointExplanation {
                            key: one.key,
                            backend: pool.and_then(|pool| pool.backend(&one.key)),
                            node: one.endpoint.node.clone(),
                            zone: one.endpoint.zone.clone(),
                            local: one.local,
                            weight: one.weight,
                            state: one.state,
                            slices: one.slices,
                            cluster: one.cluster,
                            within_node: one.within_node,
                        })
                        .collect(),
                });
            }
        }
        let reference = ObjectRef::Service(key.clone());
        Some(Explanation {
            service: key,
            hands_off: service.hands_off,
            ports,
            addresses: entry
                .addresses
                .iter()
                .map(|(addr, kind)| (*addr, *kind, self.announced(*addr).cloned()))
                .collect(),
            health_check: entry.health_check.map(|(port, n)| (port.get(), n)),
            problems: self
                .problems()
                .into_iter()
                .filter(|report| report.object == reference)
                .collect(),
        })
    }

    fn explain_frontend(
        &self,
        at: usize,
        key: FrontendKey,
        kind: FrontendKind,
    ) -> FrontendExplanation {
        let slot = self.frontends.get(&key);
        let winner = slot.and_then(|slot| slot.winner);
        FrontendExplanation {
            key,
            kind,
            published: slot
                .filter(|_| winner == Some(at))
                .and_then(|slot| slot.published),
            held_by: winner
                .filter(|winner| *winner != at)
                .and_then(|winner| self.entries.get(winner))
                .map(|entry| entry.key.clone()),
        }
    }
}
