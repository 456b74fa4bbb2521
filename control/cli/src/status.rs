//! `causeway status`.

use anyhow::Result;
use causeway_api::view::{BgpStatus, ConfigStatus, DataplaneStatus, KernelStatus, Status};

use crate::client::Client;
use crate::output::{Printer, duration, fields, table};

pub(crate) fn run(client: &Client, printer: &mut Printer) -> Result<()> {
    let status: Status = client.fetch("/v1/status", &[])?;
    printer.one(&status, text)
}

fn text(status: &Status) -> String {
    let mut text = fields(&[
        ("Node", status.node_name.clone()),
        ("Version", status.version.clone()),
        ("Uptime", duration(status.uptime_seconds)),
        ("Configuration", config(&status.config)),
        (
            "BGP",
            status
                .bgp
                .as_ref()
                .map_or_else(|| "no instance for this node".into(), bgp),
        ),
        ("Dataplane", dataplane(&status.dataplane)),
        (
            "Dataplane error",
            status.dataplane.error.clone().unwrap_or_default(),
        ),
        ("Repaired", repaired(&status.dataplane)),
        (
            "Kernel's table",
            status
                .dataplane
                .kernel
                .as_ref()
                .map_or_else(String::new, kernel),
        ),
    ]);
    for error in &status.config.errors {
        text.push_str(&format!("refused: {error}\n"));
    }
    if let Some(bgp) = &status.bgp {
        let rows: Vec<_> = bgp
            .families
            .iter()
            .map(|family| {
                let counts = [
                    family.prefixes,
                    family.paths,
                    family.routes,
                    family.unprogrammed,
                ];
                let [prefixes, paths, routes, held] = counts.map(|count| count.to_string());
                [family.family.clone(), prefixes, paths, routes, held]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(
            ["FAMILY", "PREFIXES", "PATHS", "ROUTES", "HELD BACK"],
            &rows,
        ));
    }
    text.push_str(&forwarding(&status.dataplane));
    text
}

fn config(config: &ConfigStatus) -> String {
    let refused = match config.errors.len() {
        0 => String::new(),
        1 => ", newer files refused (1 mistake)".to_owned(),
        n => format!(", newer files refused ({n} mistakes)"),
    };
    format!(
        "{}, generation {}, in force for {}{refused}",
        config.directory,
        config.generation,
        duration(config.age_seconds)
    )
}

fn bgp(bgp: &BgpStatus) -> String {
    format!(
        "AS {}, identifier {}, {} of {} neighbors established",
        bgp.local_asn, bgp.router_id, bgp.established, bgp.neighbors
    )
}

fn dataplane(dataplane: &DataplaneStatus) -> String {
    if dataplane.mode == "none" {
        return "none: routes are not forwarded here".to_owned();
    }
    let behind = dataplane
        .desired_generation
        .saturating_sub(dataplane.programmed_generation);
    format!(
        "{}, {} routes, {} groups, {} next hops, {}",
        dataplane.mode,
        dataplane.routes,
        dataplane.groups,
        dataplane.next_hops,
        match behind {
            0 => "maps up to date".to_owned(),
            n => format!("maps {n} changes behind"),
        }
    )
}

fn repaired(dataplane: &DataplaneStatus) -> String {
    match dataplane.repaired {
        0 => String::new(),
        1 => "1 entry of the maps that somebody else had changed".to_owned(),
        n => format!("{n} entries of the maps that somebody else had changed"),
    }
}

/// What it holds, and what there is to worry about.
fn kernel(kernel: &KernelStatus) -> String {
    let mut text = format!(
        "{} routes, {} groups, {} next hops",
        kernel.routes, kernel.groups, kernel.next_hops
    );
    for (count, what) in [
        (kernel.conflicts as u64, "kept out by routes of others"),
        (kernel.left_out, "did not fit"),
        (kernel.refused, "operations refused"),
        (kernel.repaired, "repaired"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(error) = &kernel.error {
        text.push_str(&format!("; {error}"));
    }
    text
}

fn forwarding(dataplane: &DataplaneStatus) -> String {
    let mut text = String::new();
    if dataplane.refused > 0 {
        let rows: Vec<_> = dataplane
            .refused_routes
            .iter()
            .map(|refused| [refused.prefix.clone(), refused.reason.clone()])
            .collect();
        let count = dataplane.refused;
        text.push_str(&format!(
            "\n{count} prefixes are not in the maps and not announced:\n"
        ));
        text.push_str(&table(["PREFIX", "REASON"], &rows));
    }
    if !dataplane.uplinks.is_empty() {
        let rows: Vec<_> = dataplane
            .uplinks
            .iter()
            .map(|uplink| {
                let state = if uplink.up { "up" } else { "down" };
                [
                    uplink.name.clone(),
                    uplink.index.to_string(),
                    state.into(),
                    uplink.xdp.clone(),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(["UPLINK", "INDEX", "STATE", "XDP"], &rows));
    }
    if !dataplane.counters.is_empty() {
        let rows: Vec<_> = dataplane
            .counters
            .iter()
            .map(|counter| {
                [
                    counter.hook.clone(),
                    counter.reason.clone(),
                    counter.packets.to_string(),
                    counter.bytes.to_string(),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(["HOOK", "OUTCOME", "PACKETS", "BYTES"], &rows));
    }
    text
}
