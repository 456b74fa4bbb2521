//! Networks from a seed.

use core::time::Duration;

use crate::plan::{EndPolicy, LinkPlan, NodePlan, Plan};
use causeway_random::Random;

fn delay(random: &mut Random) -> Duration {
    Duration::from_micros(50 + random.bits() % 5_000)
}

/// A full mesh of eBGP nodes, each its own AS.
#[must_use]
pub fn mesh(nodes: usize, random: &mut Random) -> Plan {
    let mut plan = Plan {
        nodes: ases(nodes),
        links: Vec::new(),
    };
    for a in 0..nodes {
        for b in a + 1..nodes {
            plan.links.push(LinkPlan::new(a, b, delay(random)));
        }
    }
    plan
}

/// A connected random graph of eBGP nodes, each its own AS: a random tree and `extra` more links.
#[must_use]
pub fn random_graph(nodes: usize, extra: usize, random: &mut Random) -> Plan {
    let mut plan = Plan {
        nodes: ases(nodes),
        links: Vec::new(),
    };
    for node in 1..nodes {
        let other = random.index(node);
        plan.links.push(LinkPlan::new(other, node, delay(random)));
    }
    while plan.links.len() < nodes - 1 + extra {
        let (a, b) = (random.index(nodes), random.index(nodes));
        if a != b
            && !plan
                .links
                .iter()
                .any(|link| link.ends == [a, b] || link.ends == [b, a])
        {
            plan.links.push(LinkPlan::new(a, b, delay(random)));
        }
    }
    plan
}

/// Sizes of a three-stage fabric as RFC 7938 describes it.
#[derive(Clone, Copy, Debug)]
pub struct Clos {
    /// Pods.
    pub pods: usize,
    /// Leaves in a pod, each its own AS. They originate.
    pub leaves: usize,
    /// Spines in a pod, one AS per pod.
    pub spines: usize,
    /// Super spines per plane, one AS altogether; a plane connects one spine of each pod.
    pub supers: usize,
}

impl Clos {
    /// How many nodes that makes.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.supers * self.spines + self.pods * (self.leaves + self.spines)
    }

    /// The index of a leaf.
    #[must_use]
    pub const fn leaf(&self, pod: usize, leaf: usize) -> usize {
        self.supers * self.spines + pod * (self.leaves + self.spines) + self.spines + leaf
    }

    /// The index of a spine.
    #[must_use]
    pub const fn spine(&self, pod: usize, spine: usize) -> usize {
        self.supers * self.spines + pod * (self.leaves + self.spines) + spine
    }

    /// The fabric, with up to 64 equal paths.
    #[must_use]
    pub fn plan(&self, random: &mut Random) -> Plan {
        let mut plan = Plan::default();
        let node = |asn: usize, originates| NodePlan {
            originates,
            maximum_paths: 64,
            ..NodePlan::new(u32::try_from(asn).expect("few nodes"))
        };
        for _ in 0..self.supers * self.spines {
            plan.nodes.push(node(64_512, false));
        }
        for pod in 0..self.pods {
            for _ in 0..self.spines {
                plan.nodes.push(node(64_600 + pod, false));
            }
            for leaf in 0..self.leaves {
                plan.nodes
                    .push(node(4_200_000_000 + pod * 1_000 + leaf, true));
            }
        }
        for pod in 0..self.pods {
            for spine in 0..self.spines {
                for leaf in 0..self.leaves {
                    let link =
                        LinkPlan::new(self.spine(pod, spine), self.leaf(pod, leaf), delay(random));
                    plan.links.push(link);
                }
                for above in 0..self.supers {
                    let link = LinkPlan::new(
                        spine * self.supers + above,
                        self.spine(pod, spine),
                        delay(random),
                    );
                    plan.links.push(link);
                }
            }
        }
        plan
    }
}

/// One AS with `reflectors` route reflectors that mesh with each other and serve `borders` border routers each, and one
/// eBGP neighbour behind every border router.
#[must_use]
pub fn reflection(reflectors: usize, borders: usize, random: &mut Random) -> Plan {
    let mut plan = Plan::default();
    let inside = NodePlan::new(65_000);
    for _ in 0..reflectors {
        plan.nodes.push(NodePlan {
            originates: false,
            ..inside.clone()
        });
    }
    for a in 0..reflectors {
        for b in a + 1..reflectors {
            plan.links.push(LinkPlan::new(a, b, delay(random)));
        }
    }
    for border in 0..borders {
        let index = plan.nodes.len();
        plan.nodes.push(inside.clone());
        for reflector in 0..reflectors {
            let mut link = LinkPlan::new(reflector, index, delay(random));
            link.policy[0] = EndPolicy {
                client: true,
                ..EndPolicy::default()
            };
            plan.links.push(link);
        }
        let outside = plan.nodes.len();
        plan.nodes.push(NodePlan::new(
            65_100 + u32::try_from(border).expect("few borders"),
        ));
        plan.links
            .push(LinkPlan::new(index, outside, delay(random)));
    }
    plan
}

/// Gives ends of links policies at random. Whatever they are, there is one stable state: paths are preferred by their
/// length, which grows with every hop, and policies only lengthen paths, refuse them, or decide between equal ones.
pub fn vary(plan: &mut Plan, random: &mut Random) {
    for link in &mut plan.links {
        for policy in &mut link.policy {
            let client = policy.client;
            *policy = EndPolicy {
                client,
                silent: false,
                ..any_policy(random)
            };
        }
    }
}

/// A policy that leaves one stable state.
pub fn any_policy(random: &mut Random) -> EndPolicy {
    let tag = |random: &mut Random| {
        let tag = u16::try_from(random.index(4)).expect("below 4");
        random.one_in(6).then_some(tag)
    };
    EndPolicy {
        silent: random.one_in(8),
        refuse: tag(random),
        tag: tag(random),
        keep: random.one_in(20),
        med: random
            .one_in(2)
            .then(|| u32::try_from(random.index(3)).expect("below 3")),
        prepend: if random.one_in(5) { 2 } else { 0 },
        ..EndPolicy::default()
    }
}

fn ases(nodes: usize) -> Vec<NodePlan> {
    (0..nodes)
        .map(|node| NodePlan::new(100_000 + u32::try_from(node).expect("few nodes")))
        .collect()
}
