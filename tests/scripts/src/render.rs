//! Tables as text. Columns are two spaces apart and as wide as they need to be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use causeway_lb::{
    Announcement, Change, Delta, Explanation, Frontend, FrontendKey, Lb, Pool, PoolId,
    RangesPolicy, Route, Scope, ServiceId, SourceRanges, State, Tables, Topology,
};

/// All tables; those that are empty don't show.
pub(crate) fn tables(tables: &Tables) -> String {
    let mut text = String::new();
    let rows = tables
        .frontends
        .iter()
        .map(|(key, frontend)| frontend_row(tables, key, frontend))
        .collect();
    part(&mut text, "frontends", rows);
    let mut named: Vec<_> = tables
        .pools
        .iter()
        .map(|(id, pool)| (pool_name(pool), *id, pool))
        .collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let rows = named
        .into_iter()
        .flat_map(|(name, id, pool)| {
            let affinity = match pool.affinity {
                Some(seconds) => format!("affinity {seconds}s"),
                None => "no affinity".to_owned(),
            };
            let head = vec![name, affinity];
            let rings = [Scope::Cluster, Scope::Local]
                .into_iter()
                .filter(move |scope| tables.rings.contains_key(&(id, *scope)))
                .map(move |scope| {
                    let shares = tables.shares(id, scope);
                    let slots: usize = shares.values().sum();
                    let mut row = vec![format!("  {} ring, {slots} slots:", scope_name(scope))];
                    row.extend(shares.iter().map(|(key, n)| format!("{key} {n}")));
                    row
                });
            core::iter::once(head).chain(rings).collect::<Vec<_>>()
        })
        .collect();
    loose(&mut text, "pools", rows);
    let quiet: Vec<_> = idle(tables);
    loose(&mut text, "backends in no ring", quiet);
    let rows = tables
        .source_ranges
        .iter()
        .map(|((service, family), ranges)| {
            vec![
                format!("{} {family}", service_name(tables, *service)),
                ranges_text(ranges),
            ]
        })
        .collect();
    part(&mut text, "source ranges", rows);
    let rows = tables
        .addresses
        .iter()
        .map(|(addr, held)| {
            let others = if held.reject_others {
                "reject others"
            } else {
                "host's own"
            };
            vec![addr.to_string(), others.to_owned()]
        })
        .collect();
    part(&mut text, "addresses", rows);
    let rows = tables
        .node_port_addresses
        .keys()
        .map(|addr| vec![addr.to_string()])
        .collect();
    part(&mut text, "node port addresses", rows);
    let rows = tables
        .health_checks
        .iter()
        .map(|(port, check)| {
            let code = if check.local_ready > 0 { 200 } else { 503 };
            let counts = format!("{} local ready: {code}", check.local_ready);
            vec![port.to_string(), check.service.to_string(), counts]
        })
        .collect();
    part(&mut text, "health checks", rows);
    or_none(text)
}

/// What deltas wrote (`+`) and removed (`-`).
pub(crate) fn changes(deltas: &[Delta], before: &Tables, after: &Tables) -> String {
    let mut lines = BTreeSet::new();
    let mut add = |table: &str, name: String, written: bool| {
        let sign = if written { '+' } else { '-' };
        lines.insert(format!("{sign} {table} {name}\n"));
    };
    let pool = |id: PoolId| {
        let pool = after.pools.get(&id).or_else(|| before.pools.get(&id));
        pool.map_or_else(|| format!("#{}", id.0), pool_name)
    };
    let backend = |id| {
        let backend = after.backends.get(&id).or_else(|| before.backends.get(&id));
        backend.map_or_else(String::new, |backend| {
            let state = if backend.serving {
                ""
            } else {
                " (not serving)"
            };
            format!("{}/{}{state}", backend.key, backend.key.protocol)
        })
    };
    for delta in deltas {
        for (id, value) in &delta.backends {
            add("backend", backend(*id), value.is_some());
        }
        for ((id, number), value) in &delta.seats {
            let seat = value.or_else(|| before.seats.get(&(*id, *number)).copied());
            let holder = seat.map_or_else(String::new, |seat| backend(seat.backend));
            add(
                "seat",
                format!("{} {number}: {holder}", pool(*id)),
                value.is_some(),
            );
        }
        for ((id, scope), value) in &delta.rings {
            let name = format!("{} {}", pool(*id), scope_name(*scope));
            add("ring", name, value.is_some());
        }
        for (id, value) in &delta.pools {
            add("pool", pool(*id), value.is_some());
        }
        for ((service, family), value) in &delta.source_ranges {
            let name = [after, before]
                .map(|tables| service_name(tables, *service))
                .into_iter()
                .find(|name| !name.is_empty());
            let name = format!("{} {family}", name.unwrap_or_default());
            add("source ranges", name, value.is_some());
        }
        named(&delta.addresses, "address", &mut add);
        named(&delta.node_port_addresses, "node port address", &mut add);
        named(&delta.frontends, "frontend", &mut add);
        named(&delta.health_checks, "health check", &mut add);
    }
    or_none(lines.into_iter().collect())
}

fn named<K: ToString, V>(
    changes: &[Change<K, V>],
    table: &str,
    add: &mut impl FnMut(&str, String, bool),
) {
    for (key, value) in changes {
        add(table, key.to_string(), value.is_some());
    }
}

/// What this node tells of each address.
pub(crate) fn announcements(lb: &Lb, addresses: &[IpAddr]) -> String {
    let rows = addresses
        .iter()
        .filter_map(|addr| Some((addr, lb.announced(*addr)?)))
        .map(|(addr, announcement)| vec![addr.to_string(), announcement_text(announcement)])
        .collect();
    let mut text = String::new();
    columns(&mut text, "", rows);
    or_none(text)
}

fn announcement_text(announcement: &Announcement) -> String {
    match announcement {
        Announcement::Withhold(why) => format!("withheld: {why}"),
        Announcement::Originate {
            services,
            local_endpoints,
            draining,
        } => {
            let services: Vec<_> = services
                .iter()
                .map(|(service, kind)| format!("{service} ({})", kind.name()))
                .collect();
            let mut text = format!("originated for {}", services.join(", "));
            if let Some(n) = local_endpoints {
                text.push_str(&format!(", {n} local"));
            }
            if *draining {
                text.push_str(", draining");
            }
            text
        }
    }
}

/// A service and the verdict on each endpoint.
pub(crate) fn explanation(explanation: &Explanation) -> String {
    let mut text = String::new();
    if let Some(why) = explanation.hands_off {
        text.push_str(&format!("left alone: {}\n", why.description()));
    }
    for port in &explanation.ports {
        let name = if port.name.is_empty() {
            "(unnamed)"
        } else {
            &port.name
        };
        text.push_str(&format!("{name} {} {}", port.protocol, port.family));
        match port.topology {
            Topology::All => {}
            Topology::Node => text.push_str(", this node first"),
            Topology::Zone => text.push_str(", this zone first"),
        }
        text.push('\n');
        let rows = port
            .frontends
            .iter()
            .map(|frontend| {
                let state = match (&frontend.published, &frontend.held_by) {
                    (Some(_), _) => "in the tables".to_owned(),
                    (None, Some(other)) => format!("left out: {other} has it"),
                    (None, None) => "left out: no room".to_owned(),
                };
                vec![
                    frontend.key.to_string(),
                    frontend.kind.name().to_owned(),
                    state,
                ]
            })
            .collect();
        columns(&mut text, "  ", rows);
        let rows = port
            .endpoints
            .iter()
            .map(|one| {
                let state = match one.state {
                    State::Ready => "ready",
                    State::Terminating => "terminating",
                    State::Unready => "unready",
                    State::NotReady => "not ready",
                };
                let place = [&one.node, &one.zone]
                    .into_iter()
                    .map(|name| name.as_deref().unwrap_or("-"))
                    .collect::<Vec<_>>()
                    .join("/");
                let mut facts = format!("{state}, weight {}", one.weight);
                if one.slices > 1 {
                    facts.push_str(&format!(", in {} slices", one.slices));
                }
                vec![
                    one.key.to_string(),
                    place,
                    facts,
                    format!("cluster: {}", one.cluster.description()),
                    format!("local: {}", one.within_node.description()),
                ]
            })
            .collect();
        columns(&mut text, "  ", rows);
    }
    or_none(text)
}

/// The text, or a word for its absence.
pub(crate) fn or_none(text: String) -> String {
    if text.is_empty() {
        "none\n".to_owned()
    } else {
        text
    }
}

fn frontend_row(tables: &Tables, key: &FrontendKey, frontend: &Frontend) -> Vec<String> {
    let pool = tables
        .pools
        .get(&frontend.pool)
        .map_or_else(String::new, pool_name);
    let mut row = vec![key.to_string(), frontend.kind.name().to_owned(), pool];
    for (client, route) in [
        ("pod", frontend.routes.pod),
        ("host", frontend.routes.host),
        ("outside", frontend.routes.outside),
    ] {
        row.push(format!("{client}: {}", route_text(route)));
    }
    if frontend.source_ranges {
        row.push("source ranges".to_owned());
    }
    row
}

fn route_text(route: Route) -> String {
    match route {
        Route::Reject => "reject".to_owned(),
        Route::Drop => "drop".to_owned(),
        Route::Forward { scope, masquerade } => {
            let masquerade = if masquerade { "+masquerade" } else { "" };
            format!("{}{masquerade}", scope_name(scope))
        }
    }
}

/// Backends that no ring has: their connections may finish, or they are down.
fn idle(tables: &Tables) -> Vec<Vec<String>> {
    let seated: BTreeSet<_> = tables.seats.values().map(|seat| seat.backend).collect();
    let mut idle: Vec<_> = tables
        .backends
        .iter()
        .filter(|(id, _)| !seated.contains(id))
        .map(|(_, backend)| backend)
        .collect();
    idle.sort_by_key(|backend| backend.key);
    idle.into_iter()
        .map(|backend| {
            let state = if backend.serving {
                "serving"
            } else {
                "not serving"
            };
            vec![
                format!("{}/{}", backend.key, backend.key.protocol),
                state.to_owned(),
            ]
        })
        .collect()
}

fn ranges_text(ranges: &SourceRanges) -> String {
    let verb = match ranges.policy {
        RangesPolicy::Allow => "allow",
        RangesPolicy::Deny => "deny",
    };
    let mut text = verb.to_owned();
    for prefix in &ranges.prefixes {
        text.push_str(&format!(" {prefix}"));
    }
    if ranges.prefixes.is_empty() {
        text.push_str(" nobody");
    }
    text
}

fn service_name(tables: &Tables, service: ServiceId) -> String {
    tables
        .pools
        .values()
        .find(|pool| pool.service == service)
        .map_or_else(String::new, |pool| pool.owner.to_string())
}

fn pool_name(pool: &Pool) -> String {
    format!(
        "{}:{}/{}/{}",
        pool.owner, pool.port_name, pool.protocol, pool.family
    )
}

const fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Cluster => "cluster",
        Scope::Local => "local",
    }
}

pub(crate) fn part(text: &mut String, title: &str, rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        text.push_str(&format!("{title}\n"));
        columns(text, "  ", rows);
    }
}

/// A part whose rows have nothing in common.
fn loose(text: &mut String, title: &str, rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        text.push_str(&format!("{title}\n"));
        for row in rows {
            text.push_str(&format!("  {}\n", row.join("  ").trim_end()));
        }
    }
}

fn columns(text: &mut String, indent: &str, rows: Vec<Vec<String>>) {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..count)
        .map(|n| {
            rows.iter()
                .filter_map(|row| row.get(n))
                .map(String::len)
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
