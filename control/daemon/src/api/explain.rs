//! `GET /v1/routes/explain`: the speaker, the maps and the kernel, asked about one address.

use core::net::IpAddr;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use causeway_api::explain::RouteExplanation;
use causeway_bgp::rib::{Cursor, RouteFilter};
use causeway_netlink::{Error, RouteWriter};
use serde::Deserialize;

use super::handlers::{Answer, Failed, ask, bad, failed};
use super::view;
use crate::app::Shared;
use crate::fabric::{FlowKey, KernelSays, Question, Unanswered};

/// Parameters.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Asked {
    address: String,
    source: Option<String>,
    protocol: Option<String>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    ingress: Option<String>,
}

/// `GET /v1/routes/explain`
pub(super) async fn explain(
    State(shared): State<Shared>,
    parameters: Result<Query<Asked>, QueryRejection>,
) -> Answer<RouteExplanation> {
    let Query(asked) = parameters.map_err(|error| {
        let known = "use address, source, protocol, sourcePort, destinationPort and ingress";
        bad(error.body_text(), known)
    })?;
    let address = parse(&asked.address)?;
    let flow = asked.flow(address)?;
    let mut answer = match &shared.fabric {
        Some(fabric) => {
            let question = Question {
                address,
                flow,
                ingress: asked.ingress,
                kernel: kernel(address).await,
            };
            let answered = fabric.ask(move |fabric| fabric.explain(&question)).await;
            let answered = answered.map_err(|error| unavailable(error.to_string()))?;
            answered.map_err(|error| match error {
                Unanswered::NotAPort(_) => {
                    bad(error.to_string(), "`causeway status` lists the uplinks")
                }
                Unanswered::Read(_) => unavailable(error.to_string()),
            })?
        }
        None => without_dataplane(address),
    };
    if shared.speaker().is_none() {
        return Ok(Json(answer));
    }
    let known = answer.route.as_ref().filter(|route| route.origin == "bgp");
    let prefix = known.and_then(|route| route.prefix.parse().ok());
    let filter = prefix.map_or(RouteFilter::LongestMatch(address), RouteFilter::Exact);
    let (bgp, forwarding) = ask(&shared, move |task| {
        let found = task.speaker().rib().routes(filter, Cursor::default(), 1);
        let found = found.items.first();
        (
            found.map(|found| view::route(task, found)),
            found.and_then(view::forwarding),
        )
    })
    .await?;
    answer.bgp = bgp;
    if shared.fabric.is_none() {
        answer.route = forwarding;
    }
    Ok(Json(answer))
}

impl Asked {
    fn flow(&self, address: IpAddr) -> Result<Option<FlowKey>, Failed> {
        let Some(source) = &self.source else {
            let more = self.protocol.is_some()
                || self.source_port.is_some()
                || self.destination_port.is_some();
            return if more {
                let why = "a flow without its source";
                Err(bad(why, "add source=ADDRESS: members are chosen by it"))
            } else {
                Ok(None)
            };
        };
        let source = parse(source)?;
        if source.is_ipv4() != address.is_ipv4() {
            let why = format!("{source} and {address} are of different families");
            return Err(bad(why, "name a source of the same family"));
        }
        Ok(Some(FlowKey {
            source,
            protocol: protocol(self.protocol.as_deref().unwrap_or("tcp"))?,
            source_port: self.source_port.unwrap_or(0),
            destination_port: self.destination_port.unwrap_or(0),
        }))
    }
}

fn parse(text: &str) -> Result<IpAddr, Failed> {
    let wrong = |_| {
        let why = format!("`{text}` is not an address");
        bad(why, "write an IPv4 or IPv6 address")
    };
    text.parse().map_err(wrong)
}

/// By name or number (IANA protocol numbers).
fn protocol(text: &str) -> Result<u8, Failed> {
    match text {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "icmpv6" => Ok(58),
        "sctp" => Ok(132),
        _ => text.parse().map_err(|_| {
            let why = format!("unknown protocol `{text}`");
            bad(
                why,
                "write tcp, udp, sctp, icmp, icmpv6 or a number up to 255",
            )
        }),
    }
}

/// What the kernel's own table says of it.
async fn kernel(address: IpAddr) -> Result<KernelSays, String> {
    let mut routes = RouteWriter::open().map_err(|error| error.to_string())?;
    match routes.matching(address).await {
        Ok(Some(route)) => Ok(KernelSays::Takes(route)),
        Ok(None) => Ok(KernelSays::Nothing),
        // `fib_props` of the kernel: what a blackhole and a prohibition answer with.
        Err(Error::Refused { error, .. }) if matches!(error.errno, libc::EINVAL | libc::EACCES) => {
            Ok(KernelSays::Refuses)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn without_dataplane(address: IpAddr) -> RouteExplanation {
    RouteExplanation {
        address,
        ingress: None,
        flow: None,
        route: None,
        bgp: None,
        lookups: Vec::new(),
        members: Vec::new(),
        outcome: Vec::new(),
        kernel: None,
        fate: "not forwarded here: the daemon runs without a dataplane".to_owned(),
        differences: Vec::new(),
        settled: true,
    }
}

fn unavailable(error: String) -> Failed {
    failed(StatusCode::SERVICE_UNAVAILABLE, error, "see the log")
}
