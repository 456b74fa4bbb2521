//! What becomes of packets to an address, and why: intent, the maps as the kernel holds them, and the kernel's own table.

mod walk;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;

use causeway_api::explain as api;
use causeway_datapath::Error;
use causeway_maps::{
    Flat4Block, Group, GroupId, Hook, NextHop, NextHopId, Outcome, Port, Reason, config_flags,
    dead, flat4_mode, next_hop_flags, port_flags,
};
use causeway_net::{KernelRoute, MacAddr, PortRole, RouteTarget};
use causeway_plan::{RouteView, address_of};

use super::Fabric;
pub(crate) use walk::FlowKey;
use walk::{Step, Walk, any_port, walk};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Where packets go.
    pub(crate) address: IpAddr,
    /// Between which ends; without it no member of a group is chosen.
    pub(crate) flow: Option<FlowKey>,
    /// The interface that they come in on.
    pub(crate) ingress: Option<String>,
    /// What the kernel's own table says, or why it can't be asked.
    pub(crate) kernel: Result<KernelSays, String>,
}

/// What the kernel's own table says.
#[derive(Clone, Debug)]
pub(crate) enum KernelSays {
    /// It takes this route.
    Takes(KernelRoute),
    /// Blackhole, prohibit or the like; it does not tell which route.
    Refuses,
    /// It has none.
    Nothing,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Packets that come in there are not looked at.
    #[error("packets are not forwarded on interface `{0}`")]
    NotAPort(String),
    /// The kernel refuses.
    #[error(transparent)]
    Read(#[from] Error),
}

/// How a packet comes in.
struct Ingress {
    name: String,
    hooks: &'static [Hook],
    ifindex: u32,
    port: Port,
}

const FROM_UPLINK: &[Hook] = &[Hook::Xdp, Hook::TcUplink];
const FROM_POD: &[Hook] = &[Hook::TcPod];

impl Fabric {
    /// Answers it; what BGP knows is the speaker's to add.
    pub(crate) fn explain(&self, question: &Question) -> Result<api::RouteExplanation, Unanswered> {
        let intent = self.planner.longest_match(question.address);
        let ingress = self.ingress(question, intent.as_ref())?;
        let flow = question.flow.unwrap_or(FlowKey {
            source: somebody(question.address),
            protocol: UDP,
            source_port: 0,
            destination_port: 0,
        });
        let mut outcome = Vec::new();
        let mut first = None;
        let mut last = Reason::PortDisabled;
        for hook in ingress.hooks {
            let at = (*hook, ingress.ifindex, ingress.port);
            let way = walk(&self.datapath, at, question.address, &flow)?;
            last = way.reason;
            outcome.push(shown_outcome(*hook, way.reason));
            // What TC consults is the same.
            first.get_or_insert(way);
            if last.outcome() != Outcome::Passed {
                break;
            }
        }
        let Some(way) = first else {
            return Err(Unanswered::NotAPort(ingress.name));
        };
        let found = Found::of(&way);
        let mut differences = Vec::new();
        self.compare_maps(question, intent.as_ref(), &found, &mut differences)?;
        let members = match &found.group {
            Some((_, group)) => self.members(group, question.flow.and(found.chosen))?,
            None => Vec::new(),
        };
        let kernel = match &question.kernel {
            Ok(kernel) => {
                self.compare_kernel(intent.as_ref(), kernel, &members, &mut differences);
                self.kernel_route(kernel)
            }
            Err(error) => {
                differences.push(format!("the kernel's table cannot be asked: {error}"));
                None
            }
        };
        Ok(api::RouteExplanation {
            address: question.address,
            ingress: Some(ingress.name),
            flow: question.flow.map(|key| api::Flow {
                source: key.source,
                protocol: key.protocol,
                source_port: key.source_port,
                destination_port: key.destination_port,
                hash: found.group.as_ref().and(way.hash),
                slot: found.slot(&way),
            }),
            fate: fate(last, kernel.as_ref()),
            route: intent.as_ref().map(|view| self.shown(view)),
            bgp: None,
            lookups: way.steps.iter().map(|step| self.lookup(step)).collect(),
            members,
            outcome,
            kernel,
            differences,
            settled: self.planner.summary().settled,
        })
    }

    /// The one asked for; else where such packets mostly come in.
    fn ingress(
        &self,
        question: &Question,
        intent: Option<&RouteView>,
    ) -> Result<Ingress, Unanswered> {
        let Some(name) = &question.ingress else {
            let config = self.planner.config_entry();
            let transit = config.is_some_and(|config| config.flags & config_flags::TRANSIT != 0);
            let from_here = !transit && intent.is_some_and(|view| view.origin == "bgp");
            return Ok(if from_here {
                Ingress {
                    name: "pod".to_owned(),
                    hooks: FROM_POD,
                    ifindex: 0,
                    port: any_port(port_flags::POD),
                }
            } else {
                Ingress {
                    name: "uplink".to_owned(),
                    hooks: FROM_UPLINK,
                    ifindex: 0,
                    port: any_port(port_flags::UPLINK),
                }
            });
        };
        let found = self.network.ports().find(|(_, port)| port.name == *name);
        let (ifindex, role) = match found {
            Some((ifindex, port)) => (ifindex, port.role),
            None => return Err(Unanswered::NotAPort(name.clone())),
        };
        Ok(Ingress {
            name: name.clone(),
            hooks: match role {
                PortRole::Pod => FROM_POD,
                PortRole::Uplink | PortRole::Access => FROM_UPLINK,
            },
            ifindex,
            port: self.datapath.port(ifindex)?.unwrap_or(any_port(0)),
        })
    }

    /// The maps against intent.
    fn compare_maps(
        &self,
        question: &Question,
        intent: Option<&RouteView>,
        found: &Found,
        differences: &mut Vec<String>,
    ) -> Result<(), Error> {
        if self.datapath.config()? != self.planner.config_entry() {
            differences.push("the entry of config is not as intended".to_owned());
        }
        // What is never routed is not looked up.
        if found.answer.is_none() {
            return Ok(());
        }
        let len = if question.address.is_ipv4() { 32 } else { 128 };
        let trie = self.datapath.longest_match(question.address, len)?;
        let answer = found.answer.flatten();
        if answer != trie {
            differences.push(format!(
                "what is derived from the routes says {}, the routes themselves {}",
                named(answer),
                named(trie)
            ));
        }
        match intent {
            Some(view) if view.group.is_some() && view.refused.is_none() && trie != view.group => {
                let (prefix, wanted) = (view.prefix, named(view.group));
                differences.push(format!(
                    "the maps say {}, intended is {wanted} by {prefix}",
                    named(trie)
                ));
            }
            None if trie.is_some() => differences.push(format!(
                "the maps say {}, and nothing is intended for this address",
                named(trie)
            )),
            // Covered by another prefix, or not at all, until it is in.
            _ => {}
        }
        if let Some((id, group)) = &found.group {
            let wanted = self.planner.group_entry(*id).unwrap_or(&Group::EMPTY);
            if wanted != &**group {
                differences.push(format!("group {} is not as intended", id.0));
            }
            for id in distinct(group) {
                let hop = self.datapath.next_hop(id)?;
                if hop.is_some() && hop != self.planner.next_hop_entry(id) {
                    differences.push(format!("next hop {} is not as intended", id.0));
                }
                let bits = self.datapath.liveness(id)?.unwrap_or(0);
                let noted = self.liveness.noted(id);
                if bits != noted {
                    let (bits, noted) = (liveness(bits), liveness(noted));
                    let id = id.0;
                    differences.push(format!(
                        "next hop {id} is {bits} in the map, noted as {noted}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The kernel's table against the maps: for BGP's routes both should lead to the same next hops.
    fn compare_kernel(
        &self,
        intent: Option<&RouteView>,
        kernel: &KernelSays,
        members: &[api::Member],
        differences: &mut Vec<String>,
    ) {
        let Some(view) = intent else { return };
        if !self.kernel.is_enabled() || view.origin != "bgp" || view.group.is_none() {
            return;
        }
        let prefix = view.prefix;
        let route = match kernel {
            KernelSays::Takes(route) => route,
            KernelSays::Refuses => {
                differences.push(format!(
                    "the kernel has a route that refuses, the maps {prefix}"
                ));
                return;
            }
            KernelSays::Nothing => {
                differences.push(format!("the kernel has no route, the maps {prefix}"));
                return;
            }
        };
        let prefix = (route.prefix.addr(), route.prefix.len());
        if prefix != (view.prefix.addr(), view.prefix.len()) {
            differences.push(format!(
                "the kernel takes its route to {}/{} (protocol {}), the maps {}",
                prefix.0, prefix.1, route.protocol, view.prefix
            ));
            return;
        }
        let RouteTarget::Legs(legs) = &route.target else {
            differences.push(format!("the kernel's route to {} refuses", view.prefix));
            return;
        };
        let legs: BTreeSet<IpAddr> = legs.iter().filter_map(|leg| leg.gateway).collect();
        for member in members
            .iter()
            .filter(|member| !legs.contains(&member.address))
        {
            differences.push(format!(
                "the kernel's route to {} does not lead to {}",
                view.prefix, member.address
            ));
        }
    }

    fn members(&self, group: &Group, chosen: Option<NextHopId>) -> Result<Vec<api::Member>, Error> {
        let member = |id: NextHopId| {
            let hop = self
                .datapath
                .next_hop(id)?
                .unwrap_or(bytemuck::Zeroable::zeroed());
            let bits = self.datapath.liveness(id)?.unwrap_or(0);
            let resolved = hop.flags & next_hop_flags::RESOLVED != 0;
            let prefers = |slot: &&causeway_maps::Slot| u32::from(slot.order[0]) == id.0;
            Ok(api::Member {
                id: id.0,
                address: address_of(&hop),
                interface: self.interface(hop.ifindex),
                destination_mac: resolved.then(|| MacAddr(hop.dst_mac).to_string()),
                source_mac: MacAddr(hop.src_mac).to_string(),
                vlan: (hop.vlan != 0).then_some(hop.vlan),
                mtu: hop.mtu,
                slots: group.slots.iter().filter(prefers).count(),
                liveness: liveness(bits),
                chosen: chosen == Some(id),
            })
        };
        distinct(group).into_iter().map(member).collect()
    }

    fn interface(&self, ifindex: u32) -> String {
        let mut links = self.network.links();
        links
            .find(|link| link.ifindex == ifindex)
            .map_or_else(|| format!("index {ifindex}"), |link| link.name.clone())
    }

    fn kernel_route(&self, says: &KernelSays) -> Option<api::KernelRoute> {
        let route = match says {
            KernelSays::Takes(route) => route,
            KernelSays::Refuses => {
                return Some(api::KernelRoute {
                    prefix: None,
                    protocol: None,
                    metric: None,
                    next_hops: Vec::new(),
                    rejects: true,
                });
            }
            KernelSays::Nothing => return None,
        };
        let next_hops = match &route.target {
            RouteTarget::Legs(legs) => legs.as_slice(),
            RouteTarget::Object(_) | RouteTarget::Reject => &[],
        };
        let (addr, len) = (route.prefix.addr(), route.prefix.len());
        Some(api::KernelRoute {
            prefix: Some(format!("{addr}/{len}")),
            protocol: Some(route.protocol),
            metric: Some(route.metric),
            next_hops: next_hops
                .iter()
                .map(|leg| api::KernelNextHop {
                    address: leg.gateway,
                    interface: self.interface(leg.ifindex),
                    weight: leg.weight,
                })
                .collect(),
            rejects: route.target == RouteTarget::Reject,
        })
    }

    fn lookup(&self, step: &Step) -> api::Lookup {
        let absent = || "no entry".to_owned();
        let group = |group: Option<u32>| match group {
            Some(0) => "0: ask the routes".to_owned(),
            Some(Flat4Block::COVER) => "as the /8".to_owned(),
            Some(group) => named(Some(GroupId(group))),
            None => absent(),
        };
        let (map, key, value) = match step {
            Step::Pods { block, group: id } => {
                ("pods", format!("block {block}"), group(id.map(|id| id.0)))
            }
            Step::Root { octet, root } => (
                "flat4_roots",
                format!("{octet}.0.0.0/8"),
                root.map_or_else(absent, |root| match root.mode {
                    flat4_mode::DIRECT => format!("direct: {}", named(group_id(root.group))),
                    flat4_mode::TABLE => format!("table, else {}", named(group_id(root.group))),
                    _ => "ask the routes".to_owned(),
                }),
            ),
            Step::Row {
                octets: [a, b, c],
                group: id,
            } => ("flat4", format!("{a}.{b}.{c}.0/24"), group(*id)),
            Step::Trie { group } => ("routes", "longest match".to_owned(), named(*group)),
            Step::Group { id, group } => (
                "groups",
                id.0.to_string(),
                group.as_ref().map_or_else(absent, |group| {
                    let ids = distinct(group);
                    let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
                    format!("next hops {}", ids.join(", "))
                }),
            ),
            Step::Liveness { id, bits } => (
                "liveness",
                id.0.to_string(),
                bits.map_or_else(absent, liveness),
            ),
            Step::NextHop { id, hop } => (
                "next_hops",
                id.0.to_string(),
                hop.map_or_else(absent, |hop| self.next_hop_text(&hop)),
            ),
        };
        api::Lookup {
            map: map.to_owned(),
            key,
            value,
        }
    }

    fn next_hop_text(&self, hop: &NextHop) -> String {
        if hop.ifindex == 0 {
            return "empty".to_owned();
        }
        let (address, interface) = (address_of(hop), self.interface(hop.ifindex));
        let mac = match hop.flags & next_hop_flags::RESOLVED {
            0 => "not resolved".to_owned(),
            _ => format!("at {}", MacAddr(hop.dst_mac)),
        };
        format!("{address} dev {interface} {mac}")
    }
}

/// What the walk met.
struct Found {
    /// The group that the look-up ended with; `None` if there was no look-up.
    answer: Option<Option<GroupId>>,
    group: Option<(GroupId, Box<Group>)>,
    /// The member that the flow takes.
    chosen: Option<NextHopId>,
}

impl Found {
    fn of(way: &Walk) -> Self {
        let mut found = Self {
            answer: None,
            group: None,
            chosen: None,
        };
        let mut cover = None;
        for step in &way.steps {
            match step {
                Step::Pods { group, .. } => {
                    found.answer = group.filter(|id| *id != GroupId::NONE).map(Some);
                }
                Step::Root {
                    root: Some(root), ..
                } => {
                    cover = group_id(root.group);
                    if root.mode == flat4_mode::DIRECT {
                        found.answer = Some(cover);
                    }
                }
                Step::Row {
                    group: Some(group), ..
                } => match *group {
                    0 => {}
                    Flat4Block::COVER => found.answer = Some(cover),
                    group => found.answer = Some(group_id(group)),
                },
                Step::Trie { group } => found.answer = Some(*group),
                Step::Group {
                    id,
                    group: Some(group),
                } => found.group = Some((*id, group.clone())),
                Step::NextHop { id, .. } => found.chosen = Some(*id),
                Step::Root { root: None, .. }
                | Step::Row { group: None, .. }
                | Step::Group { group: None, .. }
                | Step::Liveness { .. } => {}
            }
        }
        found
    }

    /// The slot that the flow looked at.
    fn slot(&self, way: &Walk) -> Option<usize> {
        self.group.as_ref()?;
        way.hash.map(causeway_ebpf::hash::slot)
    }
}

fn group_id(id: u32) -> Option<GroupId> {
    Some(GroupId(id)).filter(|id| *id != GroupId::NONE)
}

/// The members of a group, by number.
fn distinct(group: &Group) -> BTreeSet<NextHopId> {
    let ids = group.slots.iter().flat_map(|slot| slot.order);
    ids.filter(|id| *id != 0)
        .map(|id| NextHopId(u32::from(id)))
        .collect()
}

fn named(group: Option<GroupId>) -> String {
    match group {
        None => "no route".to_owned(),
        Some(GroupId::PUNT) => "punt: the stack's".to_owned(),
        Some(GroupId::BLACKHOLE) => "blackhole".to_owned(),
        Some(GroupId(id)) => format!("group {id}"),
    }
}

fn liveness(bits: u32) -> String {
    if bits == 0 {
        return "alive".to_owned();
    }
    let causes = [
        (dead::LINK, "link down"),
        (dead::NEIGHBOUR, "neighbor does not answer"),
        (dead::BFD, "BFD down"),
    ];
    let known = causes.iter().filter(|(bit, _)| bits & bit != 0);
    let mut words: Vec<&str> = known.map(|(_, word)| *word).collect();
    if words.is_empty() {
        words.push("unknown cause");
    }
    format!("dead ({})", words.join(", "))
}

fn shown_outcome(hook: Hook, reason: Reason) -> api::Outcome {
    api::Outcome {
        hook: hook.name().to_owned(),
        action: match reason.outcome() {
            Outcome::Forwarded => "forwarded",
            Outcome::Passed => "passed",
            Outcome::Dropped => "dropped",
        }
        .to_owned(),
        reason: reason.name().to_owned(),
        description: reason.description().to_owned(),
    }
}

/// What becomes of it in the end.
fn fate(last: Reason, kernel: Option<&api::KernelRoute>) -> String {
    match (last.outcome(), kernel) {
        (Outcome::Forwarded, _) => "forwarded by the programs".to_owned(),
        (Outcome::Dropped, _) => "dropped by the programs".to_owned(),
        (Outcome::Passed, None) => {
            "handed to the stack, which has no route either: unreachable".to_owned()
        }
        (Outcome::Passed, Some(route)) if route.rejects => {
            "handed to the stack, whose route refuses it".to_owned()
        }
        (Outcome::Passed, Some(route)) => {
            let prefix = route.prefix.as_deref().unwrap_or("it");
            format!("handed to the stack, which takes its route to {prefix}")
        }
    }
}

/// Stands for any source: of documentation (RFC 5737, RFC 3849).
fn somebody(destination: IpAddr) -> IpAddr {
    match destination {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

const UDP: u8 = 17;
