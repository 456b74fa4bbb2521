//! `causeway route`.

mod explain;

use std::process::ExitCode;

use anyhow::Result;
use causeway_api::view::{NextHop, Route};

use crate::args::{self, Listing};
use crate::client::Client;
use crate::output::{Printer, or_dash};

pub(crate) fn run(client: &Client, printer: &mut Printer, verb: &args::Route) -> Result<ExitCode> {
    match verb {
        args::Route::List(listing) => list(client, printer, listing).map(|()| ExitCode::SUCCESS),
        args::Route::Explain(asked) => explain::run(client, printer, asked),
    }
}

fn list(client: &Client, printer: &mut Printer, listing: &Listing) -> Result<()> {
    let mut shown = printer.listing(["PREFIX", "ORIGIN", "STATE", "GROUP", "NEXT HOPS"]);
    each_page(client, "/v1/routes", listing, |routes: Vec<Route>| {
        shown.page(&routes, |route| {
            let next_hops: Vec<_> = route.next_hops.iter().map(next_hop).collect();
            vec![[
                route.prefix.clone(),
                route.origin.clone(),
                state(route),
                or_dash(route.group),
                next_hops.join(", "),
            ]]
        })
    })?;
    shown.end("no routes")
}

/// The state, with the reason for one that is no good.
pub(crate) fn state(route: &Route) -> String {
    match &route.reason {
        Some(reason) => format!("{}: {reason}", route.state),
        None => route.state.clone(),
    }
}

pub(crate) fn next_hop(next_hop: &NextHop) -> String {
    let interface = next_hop
        .interface
        .as_ref()
        .map(|name| format!(" dev {name}"));
    let weight = (next_hop.weight != 1).then(|| format!(" weight {}", next_hop.weight));
    let state = (next_hop.state != "resolved").then(|| format!(" ({})", next_hop.state));
    let details = [interface, weight, state]
        .map(Option::unwrap_or_default)
        .concat();
    format!("{}{details}", next_hop.address)
}

/// Asks for every page that a listing names, one family after the other.
pub(crate) fn each_page<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    listing: &Listing,
    mut each: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    let limit = listing.page.limit.unwrap_or(usize::MAX);
    if let Some(prefix) = &listing.prefix {
        let filter = match (listing.longer, prefix.contains('/')) {
            (true, _) => "longer",
            (false, true) => "prefix",
            (false, false) => "address",
        };
        client.pages(path, &[(filter, prefix.as_str())], limit, each)?;
        return Ok(());
    }
    let mut left = limit;
    for family in listing.page.families() {
        left -= client.pages(path, &[("family", family.name())], left, &mut each)?;
    }
    Ok(())
}
