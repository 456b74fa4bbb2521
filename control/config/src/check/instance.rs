//! Checks of `BGPClusterConfig` and `BGPNodeConfigOverride`, and this node's speaker.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use causeway_api::bgp::{
    BGP_PEER_CONFIG, BgpClusterConfig, BgpInstance, BgpInstanceOverride, BgpPeer, Confederation,
    DynamicAsn,
};
use causeway_api::meta::ObjectRef;

use super::template::Templates;
use super::{Checker, filter};
use crate::limits;
use crate::model::{Instance, Peer, PeerAs, Template};
use crate::parse::{Origin, Sourced, is_name, suggestion};

pub(super) fn resolve(checker: &mut Checker<'_>, templates: &Templates) -> Option<Instance> {
    let clusters = &checker.objects.clusters;
    for cluster in clusters {
        instances(checker, cluster);
    }
    let selected: Vec<_> = clusters
        .iter()
        .filter(|cluster| checker.selects(cluster.object.spec.node_selector.as_ref()))
        .collect();
    if let [first, second, ..] = selected[..] {
        let problem = format!(
            "selects node {} as {} does",
            checker.node_name,
            first.origin.label()
        );
        let remedy = "make at most one BGPClusterConfig select a node";
        checker.mistake(&second.origin, "spec.nodeSelector", problem, remedy);
    }
    let overrides = overrides(checker, selected.first().copied());
    let mut resolved = None;
    for cluster in clusters {
        for (n, instance) in cluster.object.spec.bgp_instances.iter().enumerate() {
            let here = selected
                .first()
                .is_some_and(|first| core::ptr::eq(*first, cluster))
                && n == 0;
            let over = overrides.filter(|over| here && over.name == instance.name);
            let at = format!("spec.bgpInstances[{n}]");
            let result = one(checker, &cluster.origin, &at, instance, over, templates);
            if here {
                resolved = Some(result);
            }
        }
    }
    resolved
}

fn instances(checker: &mut Checker<'_>, cluster: &Sourced<BgpClusterConfig>) {
    let field = "spec.bgpInstances";
    match cluster.object.spec.bgp_instances.len() {
        0 => checker.mistake(
            &cluster.origin,
            field,
            "empty",
            "add an instance, or remove the object",
        ),
        1 => {}
        _ => checker.mistake(
            &cluster.origin,
            format!("{field}[1]"),
            "more than one instance is not implemented in this version",
            "keep one, and put all peers into it",
        ),
    }
}

fn overrides<'a>(
    checker: &mut Checker<'a>,
    selected: Option<&Sourced<BgpClusterConfig>>,
) -> Option<&'a BgpInstanceOverride> {
    let objects = checker.objects;
    let mut ours = None;
    for object in &objects.overrides {
        let here = object.object.metadata.name == checker.node_name;
        for (n, instance) in object.object.spec.bgp_instances.iter().enumerate() {
            let at = format!("spec.bgpInstances[{n}]");
            if let Some(asn) = instance.local_asn {
                checker.asn(&object.origin, &format!("{at}.localASN"), asn);
            }
            identifier(
                checker,
                &object.origin,
                &format!("{at}.routerID"),
                instance.router_id,
            );
            if !here {
                continue;
            }
            let known = selected.map_or(&[][..], |cluster| &cluster.object.spec.bgp_instances);
            let Some(target) = known.iter().find(|known| known.name == instance.name) else {
                let names: Vec<_> = known.iter().map(|known| known.name.as_str()).collect();
                let problem = format!("this node has no instance `{}`", instance.name);
                let remedy = suggestion(&instance.name, names);
                checker.mistake(&object.origin, format!("{at}.name"), problem, remedy);
                continue;
            };
            for (m, peer) in instance.peers.iter().enumerate() {
                if !target.peers.iter().any(|known| known.name == peer.name) {
                    let names = target.peers.iter().map(|known| known.name.as_str());
                    let problem =
                        format!("instance `{}` has no peer `{}`", instance.name, peer.name);
                    let remedy = suggestion(&peer.name, names);
                    checker.mistake(
                        &object.origin,
                        format!("{at}.peers[{m}].name"),
                        problem,
                        remedy,
                    );
                }
            }
            ours = Some(instance);
        }
    }
    ours
}

fn identifier(checker: &mut Checker<'_>, origin: &Origin, field: &str, id: Option<Ipv4Addr>) {
    if id == Some(Ipv4Addr::UNSPECIFIED) {
        checker.mistake(
            origin,
            field,
            "0.0.0.0 is not an identifier (RFC 6286)",
            "write an IPv4 address that is unique within the AS, or leave it out",
        );
    }
}

fn check_confederation(
    checker: &mut Checker<'_>,
    origin: &Origin,
    at: &str,
    confederation: &Confederation,
) {
    checker.asn(
        origin,
        &format!("{at}.identifier"),
        confederation.identifier,
    );
    let members = &confederation.members;
    if members.len() > limits::CONFEDERATION_MEMBERS {
        let problem = format!(
            "{} entries, more than {}",
            members.len(),
            limits::CONFEDERATION_MEMBERS
        );
        checker.mistake(
            origin,
            format!("{at}.members"),
            problem,
            "merge member ASes",
        );
    }
    for (n, &member) in members.iter().enumerate() {
        checker.asn(origin, &format!("{at}.members[{n}]"), member);
        if member == confederation.identifier {
            checker.mistake(
                origin,
                format!("{at}.members[{n}]"),
                "the identifier is not a member (RFC 5065 3)",
                "list the AS numbers that are used within the confederation only",
            );
        }
    }
}

fn one(
    checker: &mut Checker<'_>,
    origin: &Origin,
    at: &str,
    instance: &BgpInstance,
    over: Option<&BgpInstanceOverride>,
    templates: &Templates,
) -> Instance {
    let mut spec = instance.clone();
    checker.asn(origin, &format!("{at}.localASN"), spec.local_asn);
    identifier(checker, origin, &format!("{at}.routerID"), spec.router_id);
    identifier(checker, origin, &format!("{at}.clusterID"), spec.cluster_id);
    if let Some(confederation) = &spec.confederation {
        check_confederation(
            checker,
            origin,
            &format!("{at}.confederation"),
            confederation,
        );
    }
    if let Some(paths) = spec.maximum_paths {
        let range = (1, limits::MAXIMUM_PATHS);
        checker.range(
            origin,
            &format!("{at}.maximumPaths.eBGP"),
            Some(paths.ebgp),
            range,
        );
        checker.range(
            origin,
            &format!("{at}.maximumPaths.iBGP"),
            Some(paths.ibgp),
            range,
        );
    }
    for (field, count, limit) in [
        ("peers", spec.peers.len(), limits::PEERS),
        (
            "dynamicNeighbors",
            spec.dynamic_neighbors.len(),
            limits::DYNAMIC_GROUPS,
        ),
    ] {
        if count > limit {
            let problem = format!("{count} entries, more than {limit}");
            checker.mistake(
                origin,
                format!("{at}.{field}"),
                problem,
                "spread them over several nodes",
            );
        }
    }
    if let Some(over) = over {
        spec.router_id = over.router_id.or(spec.router_id);
        spec.local_asn = over.local_asn.unwrap_or(spec.local_asn);
        spec.local_port = over.local_port.or(spec.local_port);
    }
    let peers = peers(checker, origin, at, &spec, over, templates);
    let dynamic = dynamic(checker, origin, at, &spec, templates);
    let originated = originated(checker);
    Instance {
        spec,
        peers,
        dynamic,
        originated,
    }
}

fn peers(
    checker: &mut Checker<'_>,
    origin: &Origin,
    at: &str,
    spec: &BgpInstance,
    over: Option<&BgpInstanceOverride>,
    templates: &Templates,
) -> Vec<Peer> {
    let (mut names, mut addresses) = (HashSet::new(), HashMap::new());
    let mut resolved = Vec::new();
    for (n, peer) in spec.peers.iter().enumerate() {
        let at = format!("{at}.peers[{n}]");
        name(
            checker,
            origin,
            &format!("{at}.name"),
            &peer.name,
            &mut names,
        );
        address(checker, origin, &at, peer);
        if let Some(other) = addresses.insert((peer.peer_address, &peer.interface), &peer.name) {
            checker.mistake(
                origin,
                format!("{at}.peerAddress"),
                format!("peer `{other}` has the address {} too", peer.peer_address),
                "keep one peer per address",
            );
        }
        let peer_as = peer_as(checker, origin, &at, (peer.peer_asn, peer.dynamic_asn));
        let template = template(
            checker,
            origin,
            &at,
            peer.peer_config_ref.as_ref(),
            templates,
        );
        let local_address = over
            .and_then(|over| over.peers.iter().find(|o| o.name == peer.name))
            .and_then(|over| over.local_address);
        let (Some(peer_as), Some(template)) = (peer_as, template) else {
            continue;
        };
        if let Some(local) = local_address.or(template.spec.transport.local_address)
            && local.is_ipv4() != peer.peer_address.is_ipv4()
        {
            checker.mistake(
                origin,
                format!("{at}.peerAddress"),
                format!(
                    "{} is of another family than the local address {local}",
                    peer.peer_address
                ),
                "give both the same family",
            );
        }
        internal_only(checker, origin, &at, spec.local_asn, peer_as, &template);
        resolved.push(Peer {
            name: peer.name.clone(),
            address: peer.peer_address,
            interface: peer.interface.clone(),
            peer_as,
            local_address,
            template,
        });
    }
    resolved
}

fn dynamic(
    checker: &mut Checker<'_>,
    origin: &Origin,
    at: &str,
    spec: &BgpInstance,
    templates: &Templates,
) -> Vec<(causeway_api::bgp::DynamicNeighbors, PeerAs, Arc<Template>)> {
    let mut names: HashSet<_> = spec.peers.iter().map(|peer| peer.name.clone()).collect();
    let mut resolved = Vec::new();
    for (n, group) in spec.dynamic_neighbors.iter().enumerate() {
        let at = format!("{at}.dynamicNeighbors[{n}]");
        name(
            checker,
            origin,
            &format!("{at}.name"),
            &group.name,
            &mut names,
        );
        if group.prefixes.is_empty() {
            let remedy = "list the ranges to accept neighbours from";
            checker.mistake(origin, format!("{at}.prefixes"), "empty", remedy);
        }
        filter::networks(checker, origin, &format!("{at}.prefixes"), &group.prefixes);
        checker.range(
            origin,
            &format!("{at}.limit"),
            group.limit,
            (1, limits::PEERS as u32),
        );
        let peer_as = peer_as(checker, origin, &at, (group.peer_asn, group.dynamic_asn));
        let template = template(
            checker,
            origin,
            &at,
            group.peer_config_ref.as_ref(),
            templates,
        );
        if let (Some(peer_as), Some(template)) = (peer_as, template) {
            internal_only(checker, origin, &at, spec.local_asn, peer_as, &template);
            resolved.push((group.clone(), peer_as, template));
        }
    }
    resolved
}

fn name(
    checker: &mut Checker<'_>,
    origin: &Origin,
    field: &str,
    name: &str,
    names: &mut HashSet<String>,
) {
    if !is_name(name) {
        let remedy =
            "use lower-case letters, digits, `-` and `.`, with a letter or digit at both ends";
        checker.mistake(origin, field, format!("`{name}` is not a name"), remedy);
    } else if !names.insert(name.to_owned()) {
        checker.mistake(
            origin,
            field,
            format!("`{name}` is used twice"),
            "rename one of them",
        );
    }
}

fn address(checker: &mut Checker<'_>, origin: &Origin, at: &str, peer: &BgpPeer) {
    let field = format!("{at}.peerAddress");
    let address = peer.peer_address;
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified()
        || address.is_multicast()
        || mapped
        || address == IpAddr::V4(Ipv4Addr::BROADCAST)
    {
        let problem = format!("nobody can be reached at {address}");
        checker.mistake(origin, field, problem, "write the address of the peer");
    } else if link_local && peer.interface.is_none() {
        let problem = format!("{address} means nothing without its link");
        checker.mistake(
            origin,
            field,
            problem,
            "add `interface:` with the name of the link",
        );
    } else if !link_local && peer.interface.is_some() {
        checker.mistake(
            origin,
            format!("{at}.interface"),
            format!("{address} is not a link-local address"),
            "remove `interface`",
        );
    }
}

fn peer_as(
    checker: &mut Checker<'_>,
    origin: &Origin,
    at: &str,
    (asn, learned): (Option<u32>, Option<DynamicAsn>),
) -> Option<PeerAs> {
    match (asn.filter(|asn| *asn != 0), learned) {
        (Some(asn), None) => Some(PeerAs::Exactly(asn)),
        (None, Some(DynamicAsn::Internal)) => Some(PeerAs::Internal),
        (None, Some(DynamicAsn::External)) => Some(PeerAs::External),
        (None, None) => {
            let problem = if asn.is_some() {
                "AS 0 is reserved (RFC 7607)"
            } else {
                "missing"
            };
            let remedy =
                "write the AS of the peer, or `dynamicASN: external` (or `internal`) to learn it";
            checker.mistake(origin, format!("{at}.peerASN"), problem, remedy);
            None
        }
        (Some(_), Some(_)) => {
            let remedy = "keep peerASN or dynamicASN";
            checker.mistake(
                origin,
                format!("{at}.dynamicASN"),
                "contradicts peerASN",
                remedy,
            );
            None
        }
    }
}

fn template(
    checker: &mut Checker<'_>,
    origin: &Origin,
    at: &str,
    reference: Option<&ObjectRef>,
    templates: &Templates,
) -> Option<Arc<Template>> {
    let name = reference.map_or("", |reference| &reference.name);
    let found = templates.get(name).cloned();
    if found.is_none() {
        let known: Vec<_> = templates
            .keys()
            .map(String::as_str)
            .filter(|n| !n.is_empty())
            .collect();
        checker.unknown(
            origin,
            &format!("{at}.peerConfigRef.name"),
            BGP_PEER_CONFIG,
            name,
            &known,
        );
    }
    found
}

/// What makes sense with iBGP only.
fn internal_only(
    checker: &mut Checker<'_>,
    origin: &Origin,
    at: &str,
    local_asn: u32,
    peer_as: PeerAs,
    template: &Template,
) {
    let local_asn = template.spec.local_asn.unwrap_or(local_asn);
    let internal = match peer_as {
        PeerAs::Exactly(asn) => asn == local_asn,
        PeerAs::Internal => true,
        PeerAs::External => false,
    };
    let field = format!("{at}.peerConfigRef");
    if template.spec.route_reflector_client && !internal {
        let problem = format!(
            "BGPPeerConfig `{}` makes it a route reflector client, but it is an eBGP peer",
            template.name
        );
        checker.mistake(
            origin,
            &field,
            problem,
            "refer to another BGPPeerConfig, or make it an iBGP peer",
        );
    }
    if template.spec.ebgp_multihop.is_some() && internal {
        let problem = format!(
            "BGPPeerConfig `{}` sets ebgpMultihop, but it is an iBGP peer",
            template.name
        );
        checker.mistake(
            origin,
            &field,
            problem,
            "refer to another BGPPeerConfig; iBGP peers may be any number of hops away",
        );
    }
}

fn originated(checker: &Checker<'_>) -> Vec<causeway_api::cidr::Cidr> {
    let mut prefixes: Vec<_> = checker
        .objects
        .advertisements
        .iter()
        .filter(|a| checker.selects(a.object.spec.node_selector.as_ref()))
        .flat_map(|a| {
            a.object
                .spec
                .advertisements
                .iter()
                .flat_map(|group| group.prefixes.iter().copied())
        })
        .collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}
