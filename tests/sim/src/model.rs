//! What every Loc-RIB must hold: a plain path-vector computation per prefix, repeated until nothing changes. It shares no
//! code with the speaker and takes no short cuts.

use std::collections::BTreeMap;

use crate::network::Network;
use crate::plan::{EndPolicy, link_addr4, router_id};

/// A path as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPath {
    /// Link it came over; `None` if originated there.
    pub link: Option<usize>,
    /// AS path, nearest first.
    pub as_path: Vec<u32>,
    local_pref: u32,
    internal: bool,
    originator: Option<u32>,
    clusters: Vec<u32>,
    router_id: u32,
    peer_addr: u32,
}

/// The paths of one prefix at one node: the best one and all that are used beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelRoute {
    /// Best path.
    pub best: Option<ModelPath>,
    /// Links of the paths in use, the best one's among them; empty for an originated prefix.
    pub used: Vec<usize>,
}

/// The routes of all nodes to the prefixes of `origin`, which is up and originates.
#[must_use]
pub fn routes_to(network: &Network, origin: usize) -> Vec<ModelRoute> {
    let nodes = network.plan.nodes.len();
    let adjacency = adjacency(network);
    let mut best: Vec<Option<ModelPath>> = vec![None; nodes];
    let mut heard: Vec<BTreeMap<usize, ModelPath>> = vec![BTreeMap::new(); nodes];
    best[origin] = Some(ModelPath {
        link: None,
        as_path: Vec::new(),
        local_pref: 100,
        internal: false,
        originator: None,
        clusters: Vec::new(),
        router_id: router_id(origin).0,
        peer_addr: 0,
    });
    let mut changed: std::collections::BTreeSet<usize> = [origin].into();
    let mut rounds = 0;
    while !changed.is_empty() {
        rounds += 1;
        assert!(rounds < 10_000, "the model finds no stable state");
        let mut touched = std::collections::BTreeSet::new();
        for node in core::mem::take(&mut changed) {
            for &(link, end, neighbour) in &adjacency[node] {
                match exported(network, node, best[node].as_ref(), link, end) {
                    Some(path) => heard[neighbour].insert(link, path),
                    None => heard[neighbour].remove(&link),
                };
                touched.insert(neighbour);
            }
        }
        for node in touched {
            if node == origin {
                continue;
            }
            let new = heard[node].values().min_by(|a, b| compare(a, b)).cloned();
            if new != best[node] {
                best[node] = new;
                changed.insert(node);
            }
        }
    }
    (0..nodes)
        .map(|node| ModelRoute {
            used: used(network, node, best[node].as_ref(), &heard[node]),
            best: best[node].clone(),
        })
        .collect()
}

/// Links with a session per node: link, our end, the node at the other end.
fn adjacency(network: &Network) -> Vec<Vec<(usize, usize, usize)>> {
    let mut adjacency = vec![Vec::new(); network.plan.nodes.len()];
    for (index, link) in network.plan.links.iter().enumerate() {
        let alive = link
            .ends
            .iter()
            .all(|node| network.nodes[*node].speaker.is_some());
        if alive && network.is_up(index) {
            for end in 0..2 {
                adjacency[link.ends[end]].push((index, end, link.ends[1 - end]));
            }
        }
    }
    adjacency
}

/// What arrives at the other end of the link, after its checks and import policy.
fn exported(
    network: &Network,
    from: usize,
    best: Option<&ModelPath>,
    link: usize,
    end: usize,
) -> Option<ModelPath> {
    let best = best?;
    let plan = &network.plan.links[link];
    let (ours, theirs): (EndPolicy, EndPolicy) = (plan.policy[end], plan.policy[1 - end]);
    if ours.silent || best.link == Some(link) {
        return None;
    }
    let to = plan.ends[1 - end];
    let (from_as, to_as) = (network.plan.nodes[from].asn, network.plan.nodes[to].asn);
    let mut path = best.clone();
    path.link = Some(link);
    path.peer_addr = link_addr4(link, end).to_bits();
    path.internal = from_as == to_as;
    if path.internal {
        if best.internal {
            // RFC 4456 6: between two non-clients nothing is reflected.
            let learned_from_client = best.link.is_some_and(|learned| {
                let learned = &network.plan.links[learned];
                let side = usize::from(learned.ends[1] == from);
                learned.policy[side].client
            });
            if !learned_from_client && !ours.client {
                return None;
            }
            path.originator = Some(best.originator.unwrap_or(best.router_id));
            path.clusters.insert(0, router_id(from).0);
        }
        if path.originator == Some(router_id(to).0) || path.clusters.contains(&router_id(to).0) {
            return None;
        }
    } else {
        path.as_path.insert(0, from_as);
        path.local_pref = 100;
        path.originator = None;
        path.clusters.clear();
        if path.as_path.contains(&to_as) {
            return None;
        }
    }
    if let Some(local_pref) = theirs.local_pref {
        path.local_pref = local_pref;
    }
    path.router_id = router_id(from).0;
    Some(path)
}

/// RFC 4271 9.1.2 and RFC 4456 9; ORIGIN, MED and metrics are equal here.
fn compare(a: &ModelPath, b: &ModelPath) -> core::cmp::Ordering {
    rank(a)
        .cmp(&rank(b))
        .then_with(|| {
            a.originator
                .unwrap_or(a.router_id)
                .cmp(&b.originator.unwrap_or(b.router_id))
        })
        .then_with(|| a.clusters.len().cmp(&b.clusters.len()))
        .then_with(|| a.peer_addr.cmp(&b.peer_addr))
}

/// What paths in use together have in common.
fn rank(path: &ModelPath) -> (core::cmp::Reverse<u32>, usize, bool) {
    (
        core::cmp::Reverse(path.local_pref),
        path.as_path.len(),
        path.internal,
    )
}

fn used(
    network: &Network,
    node: usize,
    best: Option<&ModelPath>,
    heard: &BTreeMap<usize, ModelPath>,
) -> Vec<usize> {
    let Some(best) = best.filter(|best| best.link.is_some()) else {
        return Vec::new();
    };
    let mut equal: Vec<_> = heard
        .values()
        .filter(|path| rank(path) == rank(best))
        .collect();
    equal.sort_by(|a, b| compare(a, b));
    equal.truncate(network.plan.nodes[node].maximum_paths.into());
    let mut links: Vec<_> = equal.iter().filter_map(|path| path.link).collect();
    links.sort_unstable();
    links
}
