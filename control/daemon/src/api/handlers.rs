//! What each request does.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use causeway_api::view as api;
use causeway_bgp::config::ShutdownMessage;
use causeway_bgp::rib::{Cursor, Page, RouteFilter, RouteView};
use causeway_bgp::speaker::Command;
use causeway_bgp::types::{Family, PeerId};
use serde::Deserialize;
use tokio::time::Instant;

use super::view;
use crate::app::{Shared, lock};
use crate::bgp::SpeakerTask;
use crate::fabric::Fabric;

/// A request that failed.
pub(super) struct Failed(StatusCode, api::Failure);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

pub(super) type Answer<T> = Result<Json<T>, Failed>;

pub(super) fn failed(
    code: StatusCode,
    error: impl Into<String>,
    remedy: impl Into<String>,
) -> Failed {
    Failed(
        code,
        api::Failure {
            error: error.into(),
            remedy: remedy.into(),
        },
    )
}

pub(super) fn bad(error: impl Into<String>, remedy: impl Into<String>) -> Failed {
    failed(StatusCode::BAD_REQUEST, error, remedy)
}

/// Asks the speaker, which may not be configured or may have ended.
pub(super) async fn ask<T: Send + 'static>(
    shared: &Shared,
    question: impl FnOnce(&mut SpeakerTask) -> T + Send + 'static,
) -> Result<T, Failed> {
    let speaker = shared.speaker().ok_or_else(|| {
        failed(
            StatusCode::NOT_FOUND,
            "no BGP instance is configured for this node",
            "add a BGPClusterConfig that selects it",
        )
    })?;
    speaker.ask(question).await.map_err(|error| {
        failed(
            StatusCode::SERVICE_UNAVAILABLE,
            error.to_string(),
            "see the log",
        )
    })
}

/// Parameters of listings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    family: Option<String>,
    prefix: Option<String>,
    longer: Option<String>,
    address: Option<String>,
    peer: Option<String>,
    cursor: Option<u32>,
    limit: Option<usize>,
}

type Parameters = Result<Query<Wanted>, QueryRejection>;

fn wanted(parameters: Parameters) -> Result<Wanted, Failed> {
    match parameters {
        Ok(Query(wanted)) => Ok(wanted),
        Err(error) => Err(bad(
            error.body_text(),
            "use family, prefix, longer, address, peer, cursor and limit",
        )),
    }
}

impl Wanted {
    fn family(&self) -> Result<Family, Failed> {
        let Some(text) = &self.family else {
            return Ok(Family::Ipv4Unicast);
        };
        Family::ALL
            .into_iter()
            .find(|family| {
                family.name() == text || family.name().strip_suffix("-unicast") == Some(text)
            })
            .ok_or_else(|| {
                bad(
                    format!("unknown family `{text}`"),
                    "use ipv4-unicast or ipv6-unicast",
                )
            })
    }

    fn filter(&self) -> Result<RouteFilter, Failed> {
        let parse = |text: &str| {
            let form = "write ADDRESS/LENGTH";
            view::parse_prefix(text).map_err(|error| bad(format!("`{text}`: {error}"), form))
        };
        if let Some(text) = &self.prefix {
            return Ok(RouteFilter::Exact(parse(text)?));
        }
        if let Some(text) = &self.longer {
            return Ok(RouteFilter::Longer(parse(text)?));
        }
        if let Some(text) = &self.address {
            let address = text.parse().map_err(|_| {
                bad(
                    format!("`{text}` is not an address"),
                    "write an IPv4 or IPv6 address",
                )
            })?;
            return Ok(RouteFilter::LongestMatch(address));
        }
        Ok(RouteFilter::All(self.family()?))
    }

    fn cursor(&self) -> Cursor {
        self.cursor.map_or_else(Cursor::default, Cursor)
    }

    fn limit(&self) -> usize {
        self.limit
            .unwrap_or(api::PAGE_LIMIT)
            .clamp(1, api::PAGE_LIMIT)
    }

    fn peer(&self) -> Result<String, Failed> {
        self.peer
            .clone()
            .ok_or_else(|| bad("no peer is named", "add peer=NAME or peer=ADDRESS"))
    }
}

fn list<T, U>(page: Page<T>, each: impl FnMut(&T) -> U) -> api::List<U> {
    api::List {
        items: page.items.iter().map(each).collect(),
        next: page.next.map(|cursor| cursor.0),
    }
}

/// A peer by name or address.
fn find(task: &SpeakerTask, wanted: &str) -> Result<PeerId, Failed> {
    let neighbors = task.speaker().neighbors(task.now());
    let found = neighbors
        .iter()
        .find(|peer| *peer.name == *wanted || wanted.parse() == Ok(peer.address));
    found.map(|peer| peer.id).ok_or_else(|| {
        failed(
            StatusCode::NOT_FOUND,
            format!("there is no neighbor `{wanted}`"),
            "`causeway bgp neighbors` lists them",
        )
    })
}

/// `GET /v1/status`
pub(super) async fn status(State(shared): State<Shared>) -> Answer<api::Status> {
    let mut dataplane = match &shared.fabric {
        Some(fabric) => fabric.ask(Fabric::status).await.unwrap_or_else(broken),
        None => api::DataplaneStatus {
            mode: "none".to_owned(),
            ..api::DataplaneStatus::default()
        },
    };
    let mut bgp = None;
    if shared.speaker().is_some() {
        let name = instance_name(&shared);
        let (status, generations) = ask(&shared, move |task| {
            (bgp_status(task, name), task.generations())
        })
        .await?;
        bgp = Some(status);
        (
            dataplane.desired_generation,
            dataplane.programmed_generation,
        ) = generations;
    }
    Ok(Json(api::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_name: shared.node_name.to_string(),
        uptime_seconds: shared.started.elapsed().as_secs(),
        config: config_status(&shared),
        bgp,
        dataplane,
    }))
}

fn instance_name(shared: &Shared) -> String {
    let state = lock(&shared.config);
    let instance = state.in_force.instance.as_ref();
    instance.map_or_else(String::new, |instance| instance.spec.name.clone())
}

fn bgp_status(task: &SpeakerTask, instance: String) -> api::BgpStatus {
    let speaker = task.speaker();
    let neighbors = speaker.neighbors(task.now());
    let summary = speaker.rib().summary();
    let config = speaker.rib().config();
    api::BgpStatus {
        instance,
        local_asn: config.local_asn.0,
        router_id: core::net::Ipv4Addr::from_bits(config.router_id.0),
        neighbors: neighbors.len(),
        established: neighbors
            .iter()
            .filter(|peer| peer.state == causeway_bgp::session::State::Established)
            .count(),
        families: Family::ALL
            .into_iter()
            .map(|family| {
                let figures = summary.families[family.index()];
                api::FamilyStatus {
                    family: family.name().to_owned(),
                    prefixes: figures.prefixes,
                    paths: figures.paths,
                    routes: figures.routes,
                    unprogrammed: figures.unprogrammed,
                }
            })
            .collect(),
        attribute_sets: summary.attribute_sets,
        next_hop_sets: summary.next_hop_sets,
        update_groups: summary.update_groups,
        refused: speaker.refused().total + task.turned_away(),
    }
}

fn broken(error: anyhow::Error) -> api::DataplaneStatus {
    api::DataplaneStatus {
        mode: "xdp".to_owned(),
        error: Some(error.to_string()),
        ..api::DataplaneStatus::default()
    }
}

fn config_status(shared: &Shared) -> api::ConfigStatus {
    let state = lock(&shared.config);
    api::ConfigStatus {
        directory: state.directory.clone(),
        generation: state.generation,
        age_seconds: Instant::now().duration_since(state.accepted).as_secs(),
        errors: state.errors.clone(),
    }
}

/// `GET /v1/config`
pub(super) async fn config(State(shared): State<Shared>) -> Json<api::ConfigView> {
    let status = config_status(&shared);
    let objects = lock(&shared.config).in_force.objects.clone();
    Json(api::ConfigView { status, objects })
}

/// `GET /v1/bgp/neighbors`
pub(super) async fn neighbors(
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer<api::List<api::Neighbor>> {
    let wanted = wanted(parameters)?;
    let (from, limit) = (wanted.cursor.unwrap_or(0), wanted.limit());
    ask(&shared, move |task| {
        let now = task.now();
        let mut items: Vec<_> = match &wanted.peer {
            Some(name) => {
                let id = find(task, name)?;
                task.speaker().neighbor(now, id).into_iter().collect()
            }
            None => task.speaker().neighbors(now),
        };
        let rest = items.split_off(usize::try_from(from).unwrap_or(usize::MAX).min(items.len()));
        let next = (rest.len() > limit)
            .then(|| from.saturating_add(u32::try_from(limit).unwrap_or(u32::MAX)));
        Ok(Json(api::List {
            items: rest
                .iter()
                .take(limit)
                .map(|peer| view::neighbor(peer, now))
                .collect(),
            next,
        }))
    })
    .await?
}

/// `GET /v1/bgp/routes`
pub(super) async fn bgp_routes(
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer<api::List<api::BgpRoute>> {
    let wanted = wanted(parameters)?;
    let filter = wanted.filter()?;
    ask(&shared, move |task| {
        let page = task
            .speaker()
            .rib()
            .routes(filter, wanted.cursor(), wanted.limit());
        Ok(Json(list(page, |route| view::route(task, route))))
    })
    .await?
}

/// `GET /v1/bgp/received`
pub(super) async fn received(
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer<api::List<api::ReceivedRoute>> {
    let wanted = wanted(parameters)?;
    let (peer, family) = (wanted.peer()?, wanted.family()?);
    ask(&shared, move |task| {
        let peer = find(task, &peer)?;
        let rib = task.speaker().rib();
        let page = rib.received(peer, family, wanted.cursor(), wanted.limit());
        Ok(Json(list(page, |(prefix, path)| api::ReceivedRoute {
            prefix: prefix.to_string(),
            path: view::path(task, path),
        })))
    })
    .await?
}

/// `GET /v1/bgp/advertised`
pub(super) async fn advertised(
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer<api::List<api::AdvertisedRoute>> {
    let wanted = wanted(parameters)?;
    let (peer, family) = (wanted.peer()?, wanted.family()?);
    ask(&shared, move |task| {
        let peer = find(task, &peer)?;
        let rib = task.speaker().rib();
        let page = rib.advertised(peer, family, wanted.cursor(), wanted.limit());
        Ok(Json(list(page, |route| view::advertised(task, route))))
    })
    .await?
}

/// `GET /v1/bgp/explain`
pub(super) async fn explain(
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer<api::Explanation> {
    let wanted = wanted(parameters)?;
    let RouteFilter::Exact(prefix) = wanted.filter()? else {
        return Err(bad("no prefix is named", "add prefix=ADDRESS/LENGTH"));
    };
    let Json(mut explanation) = ask(&shared, move |task| {
        let rib = task.speaker().rib();
        let explained = rib.explain(prefix);
        let page = rib.routes(RouteFilter::Exact(prefix), Cursor::default(), 1);
        Json(api::Explanation {
            prefix: prefix.to_string(),
            paths: explained
                .paths
                .iter()
                .map(|path| view::path(task, path))
                .collect(),
            covered_by: explained.covered_by.map(|prefix| prefix.to_string()),
            exports: explained
                .exports
                .iter()
                .map(|(peer, status)| {
                    let (advertised, reason) = view::export(status);
                    api::Export {
                        peer: task.peer_name(*peer),
                        advertised,
                        reason,
                    }
                })
                .collect(),
            forwarding: page.items.first().and_then(view::forwarding),
        })
    })
    .await?;
    if let Some(fabric) = &shared.fabric {
        let known = fabric.ask(move |fabric| fabric.route(prefix)).await;
        explanation.forwarding = known.unwrap_or_default().or(explanation.forwarding);
    }
    Ok(Json(explanation))
}

/// `GET /v1/routes`: prefixes of this node and its links first, then BGP's, a page at a time.
pub(super) async fn routes(
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer<api::List<api::Route>> {
    let wanted = wanted(parameters)?;
    let filter = wanted.filter()?;
    let (first, cursor, limit) = (wanted.cursor.is_none(), wanted.cursor(), wanted.limit());
    let mut page = api::List {
        items: Vec::new(),
        next: None,
    };
    let mut bgp = Vec::new();
    if shared.speaker().is_some() {
        (bgp, page.next) = ask(&shared, move |task| {
            let found = task.speaker().rib().routes(filter, cursor, limit);
            let shown = |route: &RouteView| Some((route.prefix, view::forwarding(route)?));
            let items = found.items.iter().filter_map(shown).collect::<Vec<_>>();
            (items, found.next.map(|cursor| cursor.0))
        })
        .await?;
    }
    let Some(fabric) = &shared.fabric else {
        page.items = bgp.into_iter().map(|(_, route)| route).collect();
        return Ok(Json(page));
    };
    let answered = fabric.ask(move |fabric| {
        let local = fabric.local_routes(api::PAGE_LIMIT).into_iter();
        let mut items: Vec<_> = local
            .filter(|(prefix, _)| first && view::selects(filter, *prefix))
            .map(|(_, route)| route)
            .collect();
        // What the network wants beats BGP's choice and stands above.
        items.extend(
            bgp.into_iter()
                .filter_map(|(prefix, route)| match fabric.route(prefix) {
                    Some(known) => (known.origin == "bgp").then_some(known),
                    None => Some(route),
                }),
        );
        items
    });
    page.items = answered.await.map_err(|error| {
        failed(
            StatusCode::SERVICE_UNAVAILABLE,
            error.to_string(),
            "see the log",
        )
    })?;
    Ok(Json(page))
}

/// `GET /v1/maps`
pub(super) async fn maps(State(shared): State<Shared>) -> Answer<Vec<api::Map>> {
    read_maps(&shared, |fabric| fabric.maps()).await.map(Json)
}

/// `GET /v1/maps/dump/NAME`
pub(super) async fn map_entries(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Answer<Vec<api::MapEntry>> {
    let asked = name.clone();
    let entries = read_maps(&shared, move |fabric| fabric.map_entries(&asked)).await?;
    entries.map(Json).ok_or_else(|| {
        failed(
            StatusCode::NOT_FOUND,
            format!("there is no map `{name}`"),
            "`causeway map list` names them",
        )
    })
}

/// `GET /v1/maps/verify`
pub(super) async fn verify_maps(State(shared): State<Shared>) -> Answer<api::MapVerification> {
    read_maps(&shared, |fabric| fabric.verify()).await.map(Json)
}

/// Reads maps on the thread that writes them, so that nothing changes meanwhile.
async fn read_maps<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&Fabric) -> Result<T, causeway_datapath::Error> + Send + 'static,
) -> Result<T, Failed> {
    let Some(fabric) = &shared.fabric else {
        return Err(failed(
            StatusCode::NOT_FOUND,
            "the daemon runs without a dataplane",
            "start it with --dataplane xdp",
        ));
    };
    let unavailable = |error: String| failed(StatusCode::SERVICE_UNAVAILABLE, error, "see the log");
    let answer = fabric.ask(read).await;
    let answer = answer.map_err(|error| unavailable(error.to_string()))?;
    answer.map_err(|error| unavailable(error.to_string()))
}

/// `POST /v1/bgp/neighbors/NAME/ACTION`
pub(super) async fn act(
    State(shared): State<Shared>,
    Path((name, action)): Path<(String, String)>,
    body: Result<Json<api::NeighborAction>, JsonRejection>,
) -> Answer<api::Done> {
    let Json(body) =
        body.map_err(|error| bad(error.body_text(), "send a JSON object, {} at least"))?;
    let message = ShutdownMessage::new(body.message.as_deref().unwrap_or_default());
    let (inbound, outbound) = match body.direction.as_deref() {
        None | Some("both") => (true, true),
        Some("in") => (true, false),
        Some("out") => (false, true),
        Some(other) => {
            return Err(bad(
                format!("unknown direction `{other}`"),
                "use in, out or both",
            ));
        }
    };
    let done = format!("{action} {name}");
    ask(&shared, move |task| {
        if task.is_ended() {
            return Err(failed(
                StatusCode::CONFLICT,
                "this is the end of a replay; nothing happens any more",
                "ask what is, or replay up to another time with --replay-until",
            ));
        }
        let peer = find(task, &name)?;
        let refresh = |wanted: bool, command: fn(PeerId, Family) -> Command| {
            let families = if wanted { &Family::ALL[..] } else { &[] };
            families.iter().map(move |family| command(peer, *family))
        };
        let commands: Vec<_> = match &*action {
            "reset" => vec![Command::Reset { peer, message }],
            "disable" => vec![Command::Disable { peer, message }],
            "enable" => vec![Command::Enable { peer }],
            "refresh" => refresh(inbound, |peer, family| Command::RefreshIn { peer, family })
                .chain(refresh(outbound, |peer, family| Command::RefreshOut {
                    peer,
                    family,
                }))
                .collect(),
            other => {
                return Err(bad(
                    format!("unknown action `{other}`"),
                    "use reset, disable, enable or refresh",
                ));
            }
        };
        for command in commands {
            task.command(command);
        }
        Ok(Json(api::Done { done }))
    })
    .await?
}

/// Any other path.
pub(super) async fn unknown() -> Failed {
    failed(
        StatusCode::NOT_FOUND,
        "there is nothing at this path",
        "see docs/reference/api.md; the daemon may be older than the client",
    )
}
