//! Which endpoints of a pool take new connections, and why the others don't.
//!
//! Kubernetes' rules, in this order:
//!
//! 1. Endpoints of all slices of the family, each by the port of the service port's name; the same address and port in
//!    several slices is one endpoint, in the best state that any of them tells.
//! 2. Weight 0 is out of service: as if not there, but its connections finish.
//! 3. Ready endpoints; if there is none, those that serve although they terminate. Judged apart for the whole cluster and
//!    for this node.
//! 4. For the cluster's ring, topology among the ready ones: hints count when every one has some and one is for this node
//!    (then its zone); without any hints, `trafficDistribution` is followed by where the endpoints are. Else all.
//! 5. What exceeds the limit is left out, from the end of the order of keys.

use std::sync::Arc;

use crate::endpoint::{Endpoint, Slice};
use crate::service::{Distribution, Service, ServicePort};
use crate::types::{BackendKey, Family};

/// What an endpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Neither ready nor serving.
    NotReady,
    /// Serves, but is not ready and not about to end either.
    Unready,
    /// Serves and is about to end.
    Terminating,
    /// Takes new connections.
    Ready,
}

/// Whether an endpoint takes new connections within a scope, or the reason why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is ready.
    Chosen,
    /// It is about to end, but nobody is ready.
    ChosenTerminating,
    /// No frontend uses this scope.
    Unused,
    /// Weight 0: taken out of service.
    Maintenance,
    /// Not ready.
    NotReady,
    /// About to end, and others are ready.
    Terminating,
    /// On another node.
    OtherNode,
    /// Others are nearer: on this node.
    NotNearNode,
    /// Others are nearer: in this zone.
    NotNearZone,
    /// A limit is reached.
    LeftOut,
}

impl Verdict {
    /// Whether it takes new connections.
    #[must_use]
    pub const fn is_chosen(self) -> bool {
        matches!(self, Self::Chosen | Self::ChosenTerminating)
    }

    /// A few words.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::ChosenTerminating => "chosen: terminating, but none is ready",
            Self::Unused => "not asked: no traffic policy uses it",
            Self::Maintenance => "weight 0",
            Self::NotReady => "not ready",
            Self::Terminating => "terminating, others are ready",
            Self::OtherNode => "on another node",
            Self::NotNearNode => "others are preferred: on this node",
            Self::NotNearZone => "others are preferred: in this zone",
            Self::LeftOut => "left out: a limit is reached",
        }
    }
}

/// How topology narrows the cluster's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Not at all.
    All,
    /// Endpoints for this node.
    Node,
    /// Endpoints for this zone.
    Zone,
}

/// Where this node is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here<'a> {
    pub(crate) node: &'a str,
    pub(crate) zone: Option<&'a str>,
}

/// An endpoint of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) key: BackendKey,
    pub(crate) weight: u16,
    pub(crate) state: State,
    pub(crate) serving: bool,
    pub(crate) local: bool,
    pub(crate) endpoint: &'a Endpoint,
    /// Slices that have it.
    pub(crate) slices: u32,
    pub(crate) cluster: Verdict,
    pub(crate) within_node: Verdict,
}

/// The endpoints of a pool, judged.
#[derive(Clone, Debug)]
pub(crate) struct Selection<'a> {
    /// In the order of keys.
    pub(crate) candidates: Vec<Candidate<'a>>,
    /// How the cluster's ring was narrowed.
    pub(crate) topology: Topology,
    /// Somebody, somewhere, takes new connections.
    pub(crate) usable: bool,
    /// Endpoints left out by the limit.
    pub(crate) left_out: usize,
}

/// The scopes that the frontends of a service use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scopes {
    pub(crate) cluster: bool,
    pub(crate) local: bool,
}

/// Finds the endpoints of a port in a family and judges them.
pub(crate) fn select<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice>,
    port: &ServicePort,
    family: Family,
    here: Here<'_>,
    scopes: Scopes,
    most: usize,
) -> Selection<'a> {
    let mut candidates = candidates(service, slices, port, family, here);
    let usable = candidates
        .iter()
        .any(|one| one.weight > 0 && matches!(one.state, State::Ready | State::Terminating));
    let topology = topology(service, &candidates, here);
    if scopes.cluster {
        let wanted = best(candidates.iter());
        for one in &mut candidates {
            one.cluster = match judge(one, wanted) {
                Verdict::Chosen => match topology {
                    Topology::Node if !near_node(service, one, here) => Verdict::NotNearNode,
                    Topology::Zone if !near_zone(one, here) => Verdict::NotNearZone,
                    _ => Verdict::Chosen,
                },
                other => other,
            };
        }
    }
    if scopes.local {
        let wanted = best(candidates.iter().filter(|one| one.local));
        for one in &mut candidates {
            one.within_node = if one.local {
                judge(one, wanted)
            } else {
                Verdict::OtherNode
            };
        }
    }
    let left_out = leave_out(&mut candidates, most);
    Selection {
        candidates,
        topology,
        usable,
        left_out,
    }
}

fn candidates<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice>,
    port: &ServicePort,
    family: Family,
    here: Here<'_>,
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for slice in slices.filter(|slice| slice.family == family) {
        let found = slice
            .ports
            .iter()
            .find(|other| other.protocol == port.protocol && other.name == port.name);
        let Some(found) = found else {
            continue;
        };
        candidates.extend(slice.endpoints.iter().map(|endpoint| Candidate {
            key: BackendKey {
                addr: endpoint.addr,
                port: found.port.get(),
                protocol: port.protocol,
            },
            weight: service.weight(endpoint.addr, slice.weight),
            state: state(service, endpoint),
            serving: endpoint.serving || endpoint.ready || service.publish_not_ready,
            local: endpoint.node.as_deref() == Some(here.node),
            endpoint,
            slices: 1,
            cluster: Verdict::Unused,
            within_node: Verdict::Unused,
        }));
    }
    // The best state first; the sort is stable, so slices decide by the order of their names where states are equal.
    candidates.sort_by(|a, b| a.key.cmp(&b.key).then(b.state.cmp(&a.state)));
    candidates.dedup_by(|next, first| {
        let same = next.key == first.key;
        if same {
            first.slices += 1;
            first.serving |= next.serving;
            first.local |= next.local;
        }
        same
    });
    candidates
}

fn state(service: &Service, endpoint: &Endpoint) -> State {
    if endpoint.ready || service.publish_not_ready {
        State::Ready
    } else if endpoint.serving && endpoint.terminating {
        State::Terminating
    } else if endpoint.serving {
        State::Unready
    } else {
        State::NotReady
    }
}

/// The state that counts among these: ready if anybody is, else terminating if anybody serves.
fn best<'a, 'b: 'a>(among: impl Iterator<Item = &'a Candidate<'b>>) -> Option<State> {
    among
        .filter(|one| one.weight > 0)
        .map(|one| one.state)
        .filter(|state| matches!(state, State::Ready | State::Terminating))
        .max()
}

fn judge(one: &Candidate<'_>, wanted: Option<State>) -> Verdict {
    match one.state {
        _ if one.weight == 0 => Verdict::Maintenance,
        State::Ready => Verdict::Chosen,
        State::Terminating if wanted == Some(State::Terminating) => Verdict::ChosenTerminating,
        State::Terminating => Verdict::Terminating,
        State::Unready | State::NotReady => Verdict::NotReady,
    }
}

fn topology(service: &Service, candidates: &[Candidate<'_>], here: Here<'_>) -> Topology {
    let ready = || {
        candidates
            .iter()
            .filter(|one| one.state == State::Ready && one.weight > 0)
    };
    if ready().all(|one| one.endpoint.hints.is_none()) {
        return distribution(service, &ready, here);
    }
    let hinted = |names: &dyn Fn(&Endpoint) -> &[Arc<str>], own: Option<&str>| {
        ready().all(|one| !names(one.endpoint).is_empty())
            && ready().any(|one| has(names(one.endpoint), own))
    };
    if hinted(&node_hints, Some(here.node)) {
        Topology::Node
    } else if hinted(&zone_hints, here.zone) {
        Topology::Zone
    } else {
        Topology::All
    }
}

/// Nobody gives hints, as in hand-made slices: where endpoints are says it.
fn distribution<'a, 'b: 'a, I>(service: &Service, ready: &dyn Fn() -> I, here: Here<'_>) -> Topology
where
    I: Iterator<Item = &'a Candidate<'b>>,
{
    let Some(wanted) = service.distribution else {
        return Topology::All;
    };
    if wanted == Distribution::SameNode && ready().any(|one| one.local) {
        return Topology::Node;
    }
    let known = ready().all(|one| one.endpoint.zone.is_some());
    let near = ready().any(|one| here.zone.is_some() && one.endpoint.zone.as_deref() == here.zone);
    if known && near {
        Topology::Zone
    } else {
        Topology::All
    }
}

fn near_node(service: &Service, one: &Candidate<'_>, here: Here<'_>) -> bool {
    match &one.endpoint.hints {
        Some(hints) => has(&hints.nodes, Some(here.node)),
        None => service.distribution == Some(Distribution::SameNode) && one.local,
    }
}

fn near_zone(one: &Candidate<'_>, here: Here<'_>) -> bool {
    match &one.endpoint.hints {
        Some(hints) => has(&hints.zones, here.zone),
        None => one.endpoint.zone.as_deref() == here.zone,
    }
}

fn node_hints(endpoint: &Endpoint) -> &[Arc<str>] {
    endpoint.hints.as_ref().map_or(&[], |hints| &hints.nodes)
}

fn zone_hints(endpoint: &Endpoint) -> &[Arc<str>] {
    endpoint.hints.as_ref().map_or(&[], |hints| &hints.zones)
}

fn has(names: &[Arc<str>], own: Option<&str>) -> bool {
    own.is_some_and(|own| names.iter().any(|name| &**name == own))
}

/// Takes the choice back from what exceeds the limit; says from how many.
fn leave_out(candidates: &mut [Candidate<'_>], most: usize) -> usize {
    let chosen = candidates
        .iter_mut()
        .filter(|one| one.cluster.is_chosen() || one.within_node.is_chosen());
    let mut left_out = 0;
    for one in chosen.skip(most) {
        left_out += 1;
        for verdict in [&mut one.cluster, &mut one.within_node] {
            if verdict.is_chosen() {
                *verdict = Verdict::LeftOut;
            }
        }
    }
    left_out
}
