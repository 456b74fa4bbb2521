//! `causeway map`.

use std::process::ExitCode;

use anyhow::Result;
use causeway_api::view::{Map, MapEntry, MapVerification};

use crate::args;
use crate::client::Client;
use crate::exit;
use crate::output::Printer;

pub(crate) fn run(client: &Client, printer: &mut Printer, verb: &args::Map) -> Result<ExitCode> {
    match verb {
        args::Map::List => {
            let maps: Vec<Map> = client.fetch("/v1/maps", &[])?;
            let mut shown = printer.listing(["MAP", "ENTRIES", "CAPACITY"]);
            shown.page(&maps, |map| {
                vec![[
                    map.name.clone(),
                    map.entries.to_string(),
                    map.capacity.to_string(),
                ]]
            })?;
            shown.end("no maps")?;
        }
        args::Map::Dump { name } => {
            let entries: Vec<MapEntry> = client.fetch(&format!("/v1/maps/dump/{name}"), &[])?;
            let mut shown = printer.listing(["KEY", "VALUE"]);
            shown.page(&entries, |entry| {
                vec![[entry.key.clone(), entry.value.clone()]]
            })?;
            shown.end("no entries")?;
        }
        args::Map::Verify => return verify(client, printer),
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(client: &Client, printer: &mut Printer) -> Result<ExitCode> {
    let found: MapVerification = client.fetch("/v1/maps/verify", &[])?;
    printer.one(&found, |found| {
        let differences = found.differences.iter();
        let mut text: String = differences
            .map(|difference| format!("{}: {}\n", difference.kind, difference.entry))
            .collect();
        let (entries, count) = (found.entries, found.differences.len());
        text.push_str(&format!("{entries} entries, {count} differences\n"));
        if !found.settled {
            text.push_str("not everything wanted was written yet\n");
        }
        text
    })?;
    Ok(match found.differences.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(exit::FAILURE),
    })
}
