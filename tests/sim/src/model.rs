//! What every Loc-RIB must hold: a plain path-vector computation per prefix, repeated until nothing changes. It shares no
//! code with the speaker and takes no short cuts.

use std::collections::{BTreeMap, BTreeSet};

use causeway_bgp::wire::Community;

use crate::network::Network;
use crate::plan::{EndPolicy, community, link_addr4, router_id};

/// A path as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPath {
    /// Link it came over; `None` if originated there.
    pub link: Option<usize>,
    /// AS path, nearest first.
    pub as_path: Vec<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities.
    pub communities: BTreeSet<Community>,
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
        med: None,
        communities: BTreeSet::new(),
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
            let new = equal(network, node, &heard[node]).first().copied().cloned();
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
        if best.communities.contains(&Community::NO_EXPORT) {
            return None;
        }
        for _ in 0..=ours.prepend {
            path.as_path.insert(0, from_as);
        }
        // RFC 4271 5.1.4: what came from one neighbouring AS is not passed on to another.
        path.med = None;
        path.local_pref = 100;
        path.originator = None;
        path.clusters.clear();
        if path.as_path.contains(&to_as) {
            return None;
        }
    }
    path.med = ours.med.or(path.med);
    path.communities.extend(ours.tag.map(community));
    if theirs
        .refuse
        .is_some_and(|tag| path.communities.contains(&community(tag)))
    {
        return None;
    }
    if theirs.keep {
        path.communities.insert(Community::NO_EXPORT);
    }
    if let Some(local_pref) = theirs.local_pref {
        path.local_pref = local_pref;
    }
    path.router_id = router_id(from).0;
    Some(path)
}

/// The paths that are equal to the end of RFC 4271 9.1.2.2 d, the preferred one first (9.1.2.2 f and g, RFC 4456 9). ORIGIN
/// and metrics are equal here. Every step takes paths away from what the one before it left.
fn equal<'a>(
    network: &Network,
    node: usize,
    heard: &'a BTreeMap<usize, ModelPath>,
) -> Vec<&'a ModelPath> {
    fn keep_least<K: Ord>(paths: &mut Vec<&ModelPath>, key: impl Fn(&ModelPath) -> K) {
        let least = paths.iter().map(|path| key(path)).min();
        paths.retain(|path| Some(key(path)) == least);
    }
    let mut left: Vec<_> = heard.values().collect();
    keep_least(&mut left, |path| core::cmp::Reverse(path.local_pref));
    keep_least(&mut left, |path| path.as_path.len());
    let across = network.plan.nodes[node].always_compare_med;
    let considered = left.clone();
    left.retain(|path| {
        !considered.iter().any(|other| {
            let comparable = across || other.as_path.first() == path.as_path.first();
            comparable && other.med.unwrap_or(0) < path.med.unwrap_or(0)
        })
    });
    keep_least(&mut left, |path| path.internal);
    left.sort_by_key(|path| {
        (
            path.originator.unwrap_or(path.router_id),
            path.clusters.len(),
            path.peer_addr,
        )
    });
    left
}

fn used(
    network: &Network,
    node: usize,
    best: Option<&ModelPath>,
    heard: &BTreeMap<usize, ModelPath>,
) -> Vec<usize> {
    if best.is_none_or(|best| best.link.is_none()) {
        return Vec::new();
    }
    let mut used = equal(network, node, heard);
    used.truncate(network.plan.nodes[node].maximum_paths.into());
    let mut links: Vec<_> = used.iter().filter_map(|path| path.link).collect();
    links.sort_unstable();
    links
}
