//! `causeway bgp`.

use anyhow::Result;
use causeway_api::view::{
    AdvertisedRoute, BgpAttributes, BgpPath, BgpRoute, Done, Explanation, List, Neighbor,
    NeighborAction, NeighborFamily, ReceivedRoute, Reset,
};

use crate::args::{Action, Bgp, Direction, Paging};
use crate::client::{Client, encode};
use crate::output::{Printer, cut, duration, fields, or_dash, table};
use crate::route::{self, each_page};

/// Longest reason in a listing; the view of one neighbor shows it whole.
const REASON_CHARS: usize = 60;

pub(crate) fn run(client: &Client, printer: &mut Printer, verb: &Bgp) -> Result<()> {
    match verb {
        Bgp::Neighbors { neighbor: None } => neighbors(client, printer),
        Bgp::Neighbors {
            neighbor: Some(name),
        } => neighbor(client, printer, name),
        Bgp::Routes(listing) => {
            let mut shown = printer.listing(ROUTE_COLUMNS);
            each_page(
                client,
                "/v1/bgp/routes",
                listing,
                |routes: Vec<BgpRoute>| {
                    shown.page(&routes, |route| {
                        route
                            .paths
                            .iter()
                            .map(|path| path_row(&route.prefix, path))
                            .collect()
                    })
                },
            )?;
            shown.end("no routes")
        }
        Bgp::Received { neighbor, page } => {
            let mut shown = printer.listing(ROUTE_COLUMNS);
            each_family(
                client,
                "/v1/bgp/received",
                neighbor,
                page,
                |routes: Vec<ReceivedRoute>| {
                    shown.page(&routes, |route| vec![path_row(&route.prefix, &route.path)])
                },
            )?;
            shown.end("nothing is received from it")
        }
        Bgp::Advertised { neighbor, page } => {
            let mut shown = printer.listing([
                "PREFIX", "NEXT HOP", "FROM", "MED", "PREF", "AS PATH", "ORIGIN",
            ]);
            each_family(
                client,
                "/v1/bgp/advertised",
                neighbor,
                page,
                |routes: Vec<AdvertisedRoute>| {
                    shown.page(&routes, |route| {
                        let [next_hop, med, preference, as_path, origin] =
                            attributes(&route.attributes);
                        let source = route.source.clone().unwrap_or_else(|| "local".into());
                        vec![[
                            route.prefix.clone(),
                            next_hop,
                            source,
                            med,
                            preference,
                            as_path,
                            origin,
                        ]]
                    })
                },
            )?;
            shown.end("nothing is advertised to it")
        }
        Bgp::Explain { prefix } => {
            let explanation: Explanation =
                client.fetch("/v1/bgp/explain", &[("prefix", prefix.as_str())])?;
            printer.one(&explanation, explain_text)
        }
        Bgp::Neighbor { action } => act(client, printer, action),
    }
}

fn each_family<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    neighbor: &str,
    page: &Paging,
    mut each: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    let mut left = page.limit.unwrap_or(usize::MAX);
    for family in page.families() {
        let query = [("peer", neighbor), ("family", family.name())];
        left -= client.pages(path, &query, left, &mut each)?;
    }
    Ok(())
}

const ROUTE_COLUMNS: [&str; 9] = [
    "", "PREFIX", "NEXT HOP", "FROM", "MED", "PREF", "AS PATH", "ORIGIN", "STATUS",
];

fn path_row(prefix: &str, path: &BgpPath) -> [String; 9] {
    let mark = match path.status.as_str() {
        "best" => ">",
        "multipath" => "=",
        "ineligible" => "x",
        _ => "",
    };
    let [next_hop, med, preference, as_path, origin] = attributes(&path.attributes);
    let source = path.peer.clone().unwrap_or_else(|| "local".into());
    let stale = if path.stale { ", stale" } else { "" };
    let weight = weight(path);
    [
        mark.to_owned(),
        prefix.to_owned(),
        next_hop,
        source,
        med,
        preference,
        as_path,
        origin,
        format!("{}{weight}{stale}", path.status),
    ]
}

/// The share of a path in the traffic, where it says something.
fn weight(path: &BgpPath) -> String {
    let unequal = path.weight.filter(|&weight| weight > 1);
    unequal.map_or_else(String::new, |weight| format!(", weight {weight}"))
}

/// Next hop, MED, local preference, AS path, origin.
fn attributes(attributes: &BgpAttributes) -> [String; 5] {
    [
        attributes.next_hop.clone(),
        or_dash(attributes.med),
        or_dash(attributes.local_preference),
        if attributes.as_path.is_empty() {
            "-".to_owned()
        } else {
            attributes.as_path.clone()
        },
        attributes.origin.clone(),
    ]
}

fn neighbors(client: &Client, printer: &mut Printer) -> Result<()> {
    let mut shown = printer.listing([
        "NEIGHBOR",
        "ADDRESS",
        "AS",
        "STATE",
        "FOR",
        "RECEIVED",
        "ACCEPTED",
        "ADVERTISED",
        "LAST RESET",
        "LAST ERROR",
    ]);
    client.pages(
        "/v1/bgp/neighbors",
        &[],
        usize::MAX,
        |neighbors: Vec<Neighbor>| {
            shown.page(&neighbors, |neighbor| {
                let sum = |count: fn(&NeighborFamily) -> usize| {
                    neighbor
                        .families
                        .iter()
                        .map(count)
                        .sum::<usize>()
                        .to_string()
                };
                vec![[
                    neighbor.name.clone(),
                    neighbor.address.to_string(),
                    or_dash(neighbor.peer_asn),
                    state(neighbor),
                    duration(neighbor.state_seconds),
                    sum(|family| family.received),
                    sum(|family| family.accepted),
                    sum(|family| family.advertised),
                    ended(neighbor.last_reset.as_ref()),
                    ended(neighbor.last_error.as_ref()),
                ]]
            })
        },
    )?;
    shown.end("no neighbors are configured")
}

/// The end of a session or attempt in a cell.
fn ended(reset: Option<&Reset>) -> String {
    let cell = |reset: &Reset| {
        let reason = cut(&reset.reason, REASON_CHARS);
        format!("{} ago: {reason}", duration(reset.ago_seconds))
    };
    reset.map_or_else(|| "-".to_owned(), cell)
}

fn state(neighbor: &Neighbor) -> String {
    if neighbor.admin_down {
        format!("{} (admin down)", neighbor.state)
    } else {
        neighbor.state.clone()
    }
}

fn neighbor(client: &Client, printer: &mut Printer, name: &str) -> Result<()> {
    let mut list: List<Neighbor> = client.fetch("/v1/bgp/neighbors", &[("peer", name)])?;
    anyhow::ensure!(
        list.items.len() == 1,
        "there is no neighbor `{name}`; `causeway bgp neighbors` lists them"
    );
    printer.one(&list.items.remove(0), neighbor_text)
}

fn neighbor_text(neighbor: &Neighbor) -> String {
    let socket = |socket: Option<std::net::SocketAddr>| or_dash(socket);
    let mut text = fields(&[
        ("Neighbor", neighbor.name.clone()),
        ("Address", neighbor.address.to_string()),
        ("Type", neighbor.peer_type.clone().unwrap_or_default()),
        ("AS", or_dash(neighbor.peer_asn)),
        ("Local AS", neighbor.local_asn.to_string()),
        ("Identifier", or_dash(neighbor.peer_router_id)),
        (
            "State",
            format!(
                "{} for {}",
                state(neighbor),
                duration(neighbor.state_seconds)
            ),
        ),
        (
            "Sessions",
            format!(
                "{} established, {} ended",
                neighbor.established_count, neighbor.flap_count
            ),
        ),
        (
            "Connection",
            match neighbor.local_socket {
                Some(_) => format!(
                    "{} to {}",
                    socket(neighbor.local_socket),
                    socket(neighbor.remote_socket)
                ),
                None => String::new(),
            },
        ),
    ]);
    for (title, reset) in [
        ("Last reset", &neighbor.last_reset),
        ("Last error", &neighbor.last_error),
    ] {
        if let Some(reset) = reset {
            let sent = reset.sent.as_ref();
            let sent = sent.map_or_else(String::new, |sent| format!("; we sent {sent}"));
            let ago = duration(reset.ago_seconds);
            let value = format!("{ago} ago in {}: {}{sent}", reset.state, reset.reason);
            text.push_str(&fields(&[(title, value)]));
        }
    }
    text.push('\n');
    text.push_str(&family_table(&neighbor.families));
    text.push('\n');
    text.push_str(&message_table(neighbor));
    text.push('\n');
    text.push_str(&timers_and_capabilities(neighbor));
    text
}

fn family_table(families: &[NeighborFamily]) -> String {
    let rows: Vec<_> = families
        .iter()
        .map(|family| {
            let yes_no = |yes| if yes { "yes" } else { "no" }.to_owned();
            let end_of_rib = match (family.end_of_rib_received, family.end_of_rib_sent) {
                (true, true) => "received, sent",
                (true, false) => "received",
                (false, true) => "sent",
                (false, false) => "-",
            };
            [
                family.family.clone(),
                yes_no(family.negotiated),
                family.received.to_string(),
                family.accepted.to_string(),
                or_dash(family.max_prefixes),
                family.advertised.to_string(),
                family.stale.to_string(),
                end_of_rib.to_owned(),
            ]
        })
        .collect();
    table(
        [
            "FAMILY",
            "NEGOTIATED",
            "RECEIVED",
            "ACCEPTED",
            "LIMIT",
            "ADVERTISED",
            "STALE",
            "END-OF-RIB",
        ],
        &rows,
    )
}

fn message_table(neighbor: &Neighbor) -> String {
    let (received, sent) = (neighbor.messages_received, neighbor.messages_sent);
    let rows = [
        ("OPEN", received.open, sent.open),
        ("UPDATE", received.update, sent.update),
        ("NOTIFICATION", received.notification, sent.notification),
        ("KEEPALIVE", received.keepalive, sent.keepalive),
        ("ROUTE-REFRESH", received.route_refresh, sent.route_refresh),
        ("all", received.total, sent.total),
    ];
    let rows =
        rows.map(|(kind, received, sent)| [kind.into(), received.to_string(), sent.to_string()]);
    table(["MESSAGE", "RECEIVED", "SENT"], &rows)
}

fn timers_and_capabilities(neighbor: &Neighbor) -> String {
    let timers = &neighbor.timers;
    let in_use = |negotiated: Option<u64>| {
        negotiated.map_or_else(String::new, |seconds| format!(", {seconds}s in use"))
    };
    let running: Vec<_> = timers
        .running
        .iter()
        .map(|timer| format!("{} in {}", timer.timer, duration(timer.left_seconds)))
        .collect();
    let graceful_restart = neighbor
        .negotiated
        .as_ref()
        .map(|agreed| agreed.graceful_restart.join(", "));
    fields(&[
        (
            "Hold time",
            format!(
                "{}s configured{}",
                timers.hold_configured_seconds,
                in_use(timers.hold_seconds)
            ),
        ),
        (
            "Keepalive time",
            format!(
                "{}s configured{}",
                timers.keep_alive_configured_seconds,
                in_use(timers.keep_alive_seconds)
            ),
        ),
        ("Timers", running.join(", ")),
        ("We offer", neighbor.local_capabilities.join(", ")),
        ("It offers", neighbor.peer_capabilities.join(", ")),
        ("Graceful restart", graceful_restart.unwrap_or_default()),
        (
            "Malformed UPDATEs",
            match neighbor.malformed_updates {
                0 => String::new(),
                count => count.to_string(),
            },
        ),
    ])
}

fn explain_text(explanation: &Explanation) -> String {
    let mut text = format!("{}\n", explanation.prefix);
    if let Some(covering) = &explanation.covered_by {
        text.push_str(&format!("has no path itself; {covering} covers it\n"));
    } else if explanation.paths.is_empty() {
        text.push_str("has no path, and nothing covers it\n");
    }
    for path in &explanation.paths {
        text.push_str(&path_text(path));
    }
    if let Some(route) = &explanation.forwarding {
        let next_hops: Vec<_> = route
            .next_hops
            .iter()
            .map(|hop| hop.address.to_string())
            .collect();
        text.push_str(&format!(
            "\nForwarding: {}, to {}\n",
            route::state(route),
            next_hops.join(", ")
        ));
    }
    if !explanation.exports.is_empty() {
        let rows: Vec<_> = explanation
            .exports
            .iter()
            .map(|export| {
                let sent = if export.advertised { "yes" } else { "no" };
                [export.peer.clone(), sent.to_owned(), export.reason.clone()]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(["TO", "SENT", "REASON"], &rows));
    }
    text
}

pub(crate) fn path_text(path: &BgpPath) -> String {
    let source = path
        .peer
        .clone()
        .unwrap_or_else(|| "originated here".into());
    let [next_hop, med, preference, as_path, origin] = attributes(&path.attributes);
    let stale = if path.stale { ", stale" } else { "" };
    let weight = weight(path);
    let mut communities = path.attributes.communities.clone();
    communities.extend(path.attributes.large_communities.iter().cloned());
    communities.extend(path.attributes.extended_communities.iter().cloned());
    let details = fields(&[
        ("Next hop", next_hop),
        ("AS path", as_path),
        ("Origin", origin),
        ("Local preference", preference),
        ("MED", med),
        ("Communities", communities.join(" ")),
    ]);
    let details: String = details
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    format!(
        "\n  from {source}: {}{weight}{stale}, {}\n{details}",
        path.status, path.reason
    )
}

fn act(client: &Client, printer: &mut Printer, action: &Action) -> Result<()> {
    let (neighbor, verb, body) = match action {
        Action::Reset { neighbor, message } => (
            neighbor,
            "reset",
            NeighborAction {
                message: message.clone(),
                direction: None,
            },
        ),
        Action::Disable { neighbor, message } => (
            neighbor,
            "disable",
            NeighborAction {
                message: message.clone(),
                direction: None,
            },
        ),
        Action::Enable { neighbor } => (neighbor, "enable", NeighborAction::default()),
        Action::Refresh {
            neighbor,
            direction,
        } => {
            let direction = match direction {
                Direction::In => "in",
                Direction::Out => "out",
                Direction::Both => "both",
            };
            (
                neighbor,
                "refresh",
                NeighborAction {
                    message: None,
                    direction: Some(direction.into()),
                },
            )
        }
    };
    let path = format!("/v1/bgp/neighbors/{}/{verb}", encode(neighbor));
    let done: Done = client.post(&path, &body)?;
    printer.one(&done, |done| format!("done: {}\n", done.done))
}
