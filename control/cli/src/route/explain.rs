//! `causeway route explain`.

use std::process::ExitCode;

use anyhow::Result;
use causeway_api::explain::{Flow, KernelRoute, Member, RouteExplanation};
use causeway_api::view::Route;

use crate::args::Explain;
use crate::bgp::path_text;
use crate::client::Client;
use crate::exit;
use crate::output::{Printer, fields, or_dash, table};

pub(crate) fn run(client: &Client, printer: &mut Printer, asked: &Explain) -> Result<ExitCode> {
    let text = |value: &Option<u16>| value.map(|port| port.to_string());
    let parameters = [
        ("address", Some(asked.address.to_string())),
        ("source", asked.source.map(|source| source.to_string())),
        ("protocol", asked.protocol.clone()),
        ("sourcePort", text(&asked.source_port)),
        ("destinationPort", text(&asked.destination_port)),
        ("ingress", asked.ingress.clone()),
    ];
    let given: Vec<(&str, &str)> = parameters
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
        .collect();
    let answer: RouteExplanation = client.fetch("/v1/routes/explain", &given)?;
    printer.one(&answer, explanation)?;
    Ok(if answer.differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILURE)
    })
}

fn explanation(answer: &RouteExplanation) -> String {
    let mut text = fields(&[
        ("Address", answer.address.to_string()),
        ("Comes in by", answer.ingress.clone().unwrap_or_default()),
        ("Flow", answer.flow.as_ref().map(flow).unwrap_or_default()),
        (
            "Route",
            answer
                .route
                .as_ref()
                .map_or_else(|| "none".to_owned(), route),
        ),
        (
            "Kernel",
            answer
                .kernel
                .as_ref()
                .map_or_else(|| "no route".to_owned(), kernel),
        ),
        ("Fate", answer.fate.clone()),
        ("Verdict", verdict(answer)),
    ]);
    for difference in &answer.differences {
        text.push_str(&format!("differs: {difference}\n"));
    }
    if let Some(bgp) = &answer.bgp {
        text.push_str(&format!("\nPaths of {}:\n", bgp.prefix));
        for path in &bgp.paths {
            text.push_str(&path_text(path));
        }
    }
    if !answer.lookups.is_empty() {
        let rows: Vec<_> = answer
            .lookups
            .iter()
            .map(|entry| [entry.map.clone(), entry.key.clone(), entry.value.clone()])
            .collect();
        text.push('\n');
        text.push_str(&table(["MAP", "KEY", "VALUE"], &rows));
    }
    if !answer.members.is_empty() {
        let rows: Vec<_> = answer.members.iter().map(member).collect();
        let columns = [
            "",
            "NEXT HOP",
            "ADDRESS",
            "INTERFACE",
            "MAC",
            "FROM MAC",
            "VLAN",
            "MTU",
            "SLOTS",
            "LIVENESS",
        ];
        text.push('\n');
        text.push_str(&table(columns, &rows));
    }
    if !answer.outcome.is_empty() {
        let rows: Vec<_> = answer
            .outcome
            .iter()
            .map(|at| {
                let (reason, description) = (at.reason.clone(), at.description.clone());
                [at.hook.clone(), at.action.clone(), reason, description]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(["HOOK", "ACTION", "REASON", "MEANING"], &rows));
    }
    text
}

fn flow(flow: &Flow) -> String {
    let Flow {
        source,
        protocol,
        source_port,
        destination_port,
        hash,
        slot,
    } = flow;
    let mut text =
        format!("from {source}, protocol {protocol}, ports {source_port} to {destination_port}");
    if let (Some(hash), Some(slot)) = (hash, slot) {
        text.push_str(&format!(", hash {hash:#010x}, slot {slot} of 256"));
    }
    text
}

fn route(route: &Route) -> String {
    let next_hops: Vec<_> = route.next_hops.iter().map(super::next_hop).collect();
    let to = match next_hops.is_empty() {
        true => String::new(),
        false => format!(", to {}", next_hops.join(", ")),
    };
    let (prefix, origin, state) = (&route.prefix, &route.origin, super::state(route));
    format!("{prefix} ({origin}), {state}{to}")
}

fn kernel(route: &KernelRoute) -> String {
    let (Some(prefix), Some(protocol), Some(metric)) =
        (&route.prefix, route.protocol, route.metric)
    else {
        return "a route that refuses".to_owned();
    };
    let made_by = match protocol {
        67 => "ours".to_owned(),
        2 => "the kernel's own".to_owned(),
        number => format!("protocol {number}"),
    };
    let ways = route.next_hops.iter().map(|hop| match hop.address {
        Some(address) => format!("{address} dev {}", hop.interface),
        None => format!("dev {}", hop.interface),
    });
    let ways: Vec<String> = ways.collect();
    let to = match (route.rejects, ways.is_empty()) {
        (true, _) => ", refuses".to_owned(),
        (false, true) => String::new(),
        (false, false) => format!(", to {}", ways.join(", ")),
    };
    format!("{prefix} ({made_by}), metric {metric}{to}")
}

fn member(member: &Member) -> [String; 10] {
    [
        if member.chosen { ">" } else { "" }.to_owned(),
        member.id.to_string(),
        member.address.to_string(),
        member.interface.clone(),
        or_dash(member.destination_mac.as_ref()),
        member.source_mac.clone(),
        or_dash(member.vlan),
        member.mtu.to_string(),
        member.slots.to_string(),
        member.liveness.clone(),
    ]
}

fn verdict(answer: &RouteExplanation) -> String {
    let pending = if answer.settled {
        ""
    } else {
        "; changes are still being written"
    };
    match answer.differences.len() {
        0 if answer.lookups.is_empty() => String::new(),
        0 => format!("maps, intent and kernel agree{pending}"),
        1 => format!("1 difference{pending}"),
        n => format!("{n} differences{pending}"),
    }
}
