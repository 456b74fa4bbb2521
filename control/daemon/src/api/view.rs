//! From what the speaker shows to what the API answers.

use core::net::{IpAddr, Ipv4Addr};

use causeway_api::view as api;
use causeway_bgp::rib::{
    AdvertisedView, ExportStatus, Ineligible, PathStatus, PathView, RouteFilter, RouteView,
    RuleName,
};
use causeway_bgp::speaker::{MessageCounters, NeighborView, Reset};
use causeway_bgp::time::Time;
use causeway_bgp::types::{Prefix, RouterId};
use causeway_bgp::wire::{Attributes, Capability, Community, ExtendedCommunity, NextHop, Origin};

use crate::bgp::SpeakerTask;

/// A neighbour.
pub(super) fn neighbor(view: &NeighborView, now: Time) -> api::Neighbor {
    api::Neighbor {
        name: view.name.to_string(),
        address: view.address,
        scope: view.scope,
        dynamic: view.dynamic,
        local_asn: view.local_asn.0,
        peer_asn: view.remote_asn.map(|asn| asn.0),
        peer_router_id: view.remote_router_id.map(address),
        peer_type: view
            .internal
            .map(|internal| match (internal, view.confederation) {
                (true, _) => "iBGP".to_owned(),
                (false, true) => "confederation".to_owned(),
                (false, false) => "eBGP".to_owned(),
            }),
        state: view.state.name().to_owned(),
        state_seconds: now.saturating_since(view.state_since).as_secs(),
        admin_down: view.admin_down,
        passive: view.passive,
        local_socket: view.sockets.map(|(local, _)| local),
        remote_socket: view.sockets.map(|(_, remote)| remote),
        last_reset: view.last_reset.as_ref().map(|last| reset(last, now)),
        last_error: view.last_error.as_ref().map(|last| reset(last, now)),
        established_count: view.established,
        flap_count: view.flaps,
        messages_received: messages(view.counters.received),
        messages_sent: messages(view.counters.sent),
        malformed_updates: view.counters.malformed_updates,
        families: view
            .families
            .iter()
            .map(|family| api::NeighborFamily {
                family: family.family.name().to_owned(),
                negotiated: family.negotiated,
                received: family.received,
                accepted: family.accepted,
                advertised: family.advertised,
                stale: family.stale,
                max_prefixes: family.max_prefixes,
                end_of_rib_received: family.end_of_rib_received,
                end_of_rib_sent: family.end_of_rib_sent,
            })
            .collect(),
        timers: api::NeighborTimers {
            hold_configured_seconds: view.timers.hold_configured.as_secs(),
            keep_alive_configured_seconds: view.timers.keepalive_configured.as_secs(),
            hold_seconds: view.timers.hold.map(|hold| hold.as_secs()),
            keep_alive_seconds: view.timers.keepalive.map(|keepalive| keepalive.as_secs()),
            running: view
                .timers
                .running
                .iter()
                .map(|(timer, left)| api::RunningTimer {
                    timer: timer.name().to_owned(),
                    left_seconds: left.as_secs(),
                })
                .collect(),
        },
        local_capabilities: view.local_capabilities.iter().map(capability).collect(),
        peer_capabilities: view.remote_capabilities.iter().map(capability).collect(),
        negotiated: view.negotiated.as_ref().map(|both| api::Negotiated {
            families: both.families.iter().map(|f| f.name().to_owned()).collect(),
            four_octet_asn: both.four_octet_as,
            route_refresh: both.route_refresh,
            enhanced_refresh: both.enhanced_refresh,
            extended_messages: both.extended_messages,
            graceful_restart: both
                .graceful_restart
                .iter()
                .map(|f| f.name().to_owned())
                .collect(),
        }),
        in_flight_bytes: view.in_flight_bytes,
    }
}

fn reset(reset: &Reset, now: Time) -> api::Reset {
    api::Reset {
        ago_seconds: now.saturating_since(reset.at).as_secs(),
        state: reset.state.name().to_owned(),
        reason: reset.cause.to_string(),
        sent: reset.sent.as_ref().map(ToString::to_string),
    }
}

fn messages(counters: MessageCounters) -> api::Messages {
    api::Messages {
        open: counters.open,
        update: counters.update,
        notification: counters.notification,
        keepalive: counters.keepalive,
        route_refresh: counters.route_refresh,
        total: counters.total(),
    }
}

fn capability(capability: &Capability) -> String {
    match capability {
        Capability::Multiprotocol { afi, safi } => {
            match causeway_bgp::types::Family::from_afi_safi(*afi, *safi) {
                Some(family) => format!("multiprotocol {family}"),
                None => format!("multiprotocol {afi}/{safi}"),
            }
        }
        Capability::RouteRefresh => "route-refresh".to_owned(),
        Capability::ExtendedMessage => "extended-message".to_owned(),
        Capability::GracefulRestart(restart) => format!(
            "graceful-restart {} s{}{}",
            restart.restart_time,
            if restart.restarting {
                ", restarting"
            } else {
                ""
            },
            if restart.notification {
                ", notification"
            } else {
                ""
            },
        ),
        Capability::FourOctetAs(asn) => format!("four-octet-as {asn}"),
        Capability::EnhancedRouteRefresh => "enhanced-route-refresh".to_owned(),
        Capability::Hostname { host, domain } if domain.is_empty() => format!("hostname {host}"),
        Capability::Hostname { host, domain } => format!("hostname {host}.{domain}"),
        Capability::Unknown { code, value } => format!("unknown {code} {}", hex(value)),
    }
}

/// A prefix with its paths.
pub(super) fn route(task: &SpeakerTask, view: &RouteView) -> api::BgpRoute {
    api::BgpRoute {
        prefix: view.prefix.to_string(),
        paths: view
            .paths
            .iter()
            .map(|path| self::path(task, path))
            .collect(),
    }
}

/// A path.
pub(super) fn path(task: &SpeakerTask, view: &PathView) -> api::BgpPath {
    let (status, reason) = status(task, &view.status);
    let in_force = view.imported.as_ref().unwrap_or(&view.received);
    api::BgpPath {
        peer: view.peer.map(|peer| task.peer_name(peer)),
        status: status.to_owned(),
        reason,
        weight: view.weight,
        stale: view.stale,
        attributes: attributes(in_force),
        received: view.imported.as_ref().map(|_| attributes(&view.received)),
    }
}

/// A prefix advertised.
pub(super) fn advertised(task: &SpeakerTask, view: &AdvertisedView) -> api::AdvertisedRoute {
    api::AdvertisedRoute {
        prefix: view.prefix.to_string(),
        source: view.source.map(|peer| task.peer_name(peer)),
        attributes: attributes(&view.attributes),
    }
}

fn status(task: &SpeakerTask, status: &PathStatus) -> (&'static str, String) {
    match status {
        PathStatus::Best => ("best", "best path".to_owned()),
        PathStatus::Multipath => ("multipath", "equal to the best path".to_owned()),
        PathStatus::Lost { step, against } => {
            let winner =
                against.map_or_else(|| "the local path".to_owned(), |peer| task.peer_name(peer));
            (
                "lost",
                format!("lost against {winner} by {}", step.describe()),
            )
        }
        PathStatus::Ineligible(why) => ("ineligible", ineligible(why)),
    }
}

fn ineligible(why: &Ineligible) -> String {
    match why {
        Ineligible::AsLoop => "our own AS is in the AS path (RFC 4271 9.1.2)".to_owned(),
        Ineligible::Confederation => {
            "its confederation segments are not those of this peer (RFC 5065 5)".to_owned()
        }
        Ineligible::OwnOriginatorId => "we are its originator (RFC 4456 8)".to_owned(),
        Ineligible::ClusterLoop => "our cluster is in its cluster list (RFC 4456 8)".to_owned(),
        Ineligible::FirstAs { found: Some(found) } => {
            format!("the first AS is {found}, not the peer's (RFC 4271 6.3)")
        }
        Ineligible::FirstAs { found: None } => {
            "the AS path does not begin with the peer's AS (RFC 4271 6.3)".to_owned()
        }
        Ineligible::NextHopUnreachable => {
            "the next hop is not reachable (RFC 4271 9.1.2.1)".to_owned()
        }
        Ineligible::NextHopOwn => "the next hop is an address of ours (RFC 4271 5.1.3)".to_owned(),
        Ineligible::NextHopMartian => {
            "the next hop is no unicast address that can be sent to".to_owned()
        }
        Ineligible::NoPolicy => {
            "the eBGP peer has no import filter (RFC 8212); set `import`".to_owned()
        }
        Ineligible::DefaultRoute => {
            "default routes are not accepted from this peer; set `defaultRoute.accept`".to_owned()
        }
        Ineligible::Rejected(rule) => format!("rejected by {}", named(rule)),
        Ineligible::PeerDown => "its session is down".to_owned(),
        Ineligible::NotReady => "not programmed into the forwarding tables yet".to_owned(),
        Ineligible::Undecided => {
            "not decided yet: after a restart, selection waits for the peers' routes (RFC 4724 4.1)"
                .to_owned()
        }
    }
}

fn named(rule: &RuleName) -> String {
    let mut text = match &rule.rule {
        Some(name) => format!("rule {name} of filter {}", rule.policy),
        None => format!("the default of filter {}", rule.policy),
    };
    if let Some(reason) = &rule.reason {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

/// Whether a peer is sent a prefix, and why.
pub(super) fn export(status: &ExportStatus) -> (bool, String) {
    let (advertised, text) = match status {
        ExportStatus::Advertised => (true, "advertised"),
        ExportStatus::Pending => (true, "about to be advertised"),
        ExportStatus::NoBestPath => (false, "there is no best path"),
        ExportStatus::SplitHorizon => (false, "the best path came from this peer"),
        ExportStatus::NotProgrammed => (
            false,
            "held back: the forwarding tables could not take it, and its traffic would be lost here",
        ),
        ExportStatus::NotReflected => (
            false,
            "from iBGP to iBGP, and neither side is a client (RFC 4456 6)",
        ),
        ExportStatus::WellKnownCommunity => {
            (false, "held back by a well-known community (RFC 1997)")
        }
        ExportStatus::NoPolicy => (
            false,
            "the eBGP peer has no export filter (RFC 8212); set `advertisements` or `export`",
        ),
        ExportStatus::DefaultRoute => (
            false,
            "default routes are not sent to this peer; set `defaultRoute.advertise`",
        ),
        ExportStatus::Rejected(rule) => return (false, format!("rejected by {}", named(rule))),
        ExportStatus::NoNextHop => (false, "no address of ours fits as next hop"),
        ExportStatus::NextHopIsPeer => (false, "the next hop is the peer itself (RFC 4271 5.1.3)"),
        ExportStatus::Held => (
            false,
            "held until peers have sent their routes after our restart (RFC 4724 4.1)",
        ),
    };
    (advertised, text.to_owned())
}

/// Path attributes.
pub(super) fn attributes(attributes: &Attributes) -> api::BgpAttributes {
    let mut view = api::BgpAttributes {
        origin: match attributes.origin {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "Incomplete",
        }
        .to_owned(),
        as_path: attributes.as_path.to_string(),
        next_hop: next_hop(&attributes.next_hop),
        med: attributes.med,
        local_preference: attributes.local_pref,
        communities: attributes.communities.iter().map(community).collect(),
        atomic_aggregate: attributes.atomic_aggregate,
        ..api::BgpAttributes::default()
    };
    if let Some(rare) = &attributes.rare {
        view.extended_communities = rare.extended_communities.iter().map(extended).collect();
        view.large_communities = rare
            .large_communities
            .iter()
            .map(ToString::to_string)
            .collect();
        view.originator_id = rare.originator_id.map(address);
        view.cluster_list = rare
            .cluster_list
            .iter()
            .map(|id| Ipv4Addr::from_bits(id.0))
            .collect();
        view.aggregator = rare
            .aggregator
            .map(|aggregator| format!("{} {}", aggregator.asn, aggregator.router_id));
        view.unknown = rare
            .unknown
            .iter()
            .map(|unknown| format!("{} {}", unknown.code, hex(&unknown.value)))
            .collect();
    }
    view
}

fn next_hop(next_hop: &NextHop) -> String {
    match next_hop {
        NextHop::V4(v4) => v4.to_string(),
        NextHop::V6(v6) => v6.to_string(),
        NextHop::V6LinkLocal { global, link_local } => format!("{global} {link_local}"),
    }
}

fn next_hop_address(next_hop: &NextHop) -> IpAddr {
    match *next_hop {
        NextHop::V4(v4) => v4.into(),
        NextHop::V6(v6) | NextHop::V6LinkLocal { global: v6, .. } => v6.into(),
    }
}

fn community(community: &Community) -> String {
    match *community {
        Community::NO_EXPORT => "no-export".to_owned(),
        Community::NO_ADVERTISE => "no-advertise".to_owned(),
        Community::NO_EXPORT_SUBCONFED => "no-export-subconfed".to_owned(),
        Community::GRACEFUL_SHUTDOWN => "graceful-shutdown".to_owned(),
        Community::BLACKHOLE => "blackhole".to_owned(),
        other => other.to_string(),
    }
}

/// Route targets, route origins and link bandwidths in words, others as they are, in the forms that filters take.
fn extended(community: &ExtendedCommunity) -> String {
    let [kind, subtype, a, b, c, d, e, f] = community.0;
    if let Some(bandwidth) = community.link_bandwidth()
        && bandwidth.bytes_per_second.fract() == 0.0
    {
        let word = if kind == 0 {
            "bandwidth-transitive"
        } else {
            "bandwidth"
        };
        let bytes = f64::from(bandwidth.bytes_per_second);
        return format!("{word}:{}:{bytes}", bandwidth.asn);
    }
    let word = match subtype {
        2 => "rt",
        3 => "ro",
        _ => return format!("0x{}", hex(&community.0)),
    };
    match kind {
        0 => format!(
            "{word}:{}:{}",
            u16::from_be_bytes([a, b]),
            u32::from_be_bytes([c, d, e, f])
        ),
        1 => format!(
            "{word}:{}:{}",
            Ipv4Addr::new(a, b, c, d),
            u16::from_be_bytes([e, f])
        ),
        2 => format!(
            "{word}:{}:{}",
            u32::from_be_bytes([a, b, c, d]),
            u16::from_be_bytes([e, f])
        ),
        _ => format!("0x{}", hex(&community.0)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn address(id: RouterId) -> Ipv4Addr {
    Ipv4Addr::from_bits(id.0)
}

/// Where a prefix would go without a dataplane: next hops of the best path and of those beside it.
pub(super) fn forwarding(view: &RouteView) -> Option<api::Route> {
    let used = view
        .paths
        .iter()
        .filter(|path| matches!(path.status, PathStatus::Best | PathStatus::Multipath));
    let learned = used.clone().filter(|path| path.peer.is_some());
    let mut next_hops: Vec<_> = learned
        .map(|path| {
            let attributes = path.imported.as_ref().unwrap_or(&path.received);
            api::NextHop {
                address: next_hop_address(&attributes.next_hop),
                interface: None,
                weight: 1,
                state: "not resolved here".to_owned(),
            }
        })
        .collect();
    next_hops.sort_by_key(|next_hop| next_hop.address);
    next_hops.dedup();
    let local = used.clone().next()?.peer.is_none();
    Some(api::Route {
        prefix: view.prefix.to_string(),
        origin: if local { "local" } else { "bgp" }.to_owned(),
        group: None,
        next_hops,
        state: "none".to_owned(),
        reason: None,
    })
}

/// Whether a listing with this filter holds the prefix. Longest match is the RIB's to find, among what it knows.
pub(super) fn selects(filter: RouteFilter, prefix: Prefix) -> bool {
    match filter {
        RouteFilter::All(family) => prefix.family() == family,
        RouteFilter::Exact(wanted) => prefix == wanted,
        RouteFilter::Longer(wanted) => covers(wanted, prefix),
        RouteFilter::LongestMatch(address) => {
            Prefix::new(address, if address.is_ipv4() { 32 } else { 128 })
                .is_some_and(|host| covers(prefix, host))
        }
    }
}

fn covers(wide: Prefix, narrow: Prefix) -> bool {
    use causeway_bgp::types::AddressFamily as _;
    match (wide, narrow) {
        (Prefix::V4(wide), Prefix::V4(narrow)) => wide.covers(narrow),
        (Prefix::V6(wide), Prefix::V6(narrow)) => wide.covers(narrow),
        _ => false,
    }
}

/// The prefix in words that a client may have meant: `10.0.0.1` is `10.0.0.1/32`.
pub(super) fn parse_prefix(text: &str) -> Result<Prefix, String> {
    let whole = if text.contains('/') {
        text.to_owned()
    } else if text.contains(':') {
        format!("{text}/128")
    } else {
        format!("{text}/32")
    };
    whole.parse::<Prefix>().map_err(|error| error.to_string())
}
