//! Metrics in the text format of Prometheus.

use core::fmt::Write as _;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use causeway_bgp::session::State as Session;
use causeway_bgp::types::Family;

use crate::app::{Shared, lock};
use crate::bgp::SpeakerTask;

/// `GET /metrics`
pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = Text::default();
    text.family("causeway_info", "gauge", "Version of the daemon.");
    text.sample(
        "causeway_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    {
        let config = lock(&shared.config);
        text.family(
            "causeway_config_generation",
            "gauge",
            "Accepted configurations, the first one included.",
        );
        text.sample("causeway_config_generation", &[], config.generation);
        text.family(
            "causeway_config_errors",
            "gauge",
            "Mistakes that keep the newest files from being in force.",
        );
        text.sample("causeway_config_errors", &[], config.errors.len() as u64);
    }
    if let Some(recording) = &*lock(&shared.recording) {
        text.family(
            "causeway_bgp_recording_active",
            "gauge",
            "1 while what happens to the speaker is recorded, 0 once a limit or an error ended that.",
        );
        let active = !recording.stopped.load(Ordering::Relaxed);
        text.sample("causeway_bgp_recording_active", &[], active.into());
        text.family(
            "causeway_bgp_recording_bytes_total",
            "counter",
            "Bytes recorded.",
        );
        let bytes = recording.bytes.load(Ordering::Relaxed);
        text.sample("causeway_bgp_recording_bytes_total", &[], bytes);
    }
    if let Some(speaker) = shared.speaker() {
        let written = speaker.ask(move |task| {
            bgp(&mut text, task);
            text
        });
        text = written.await.unwrap_or_default();
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text.0).into_response()
}

fn bgp(text: &mut Text, task: &SpeakerTask) {
    let neighbors = task.speaker().neighbors(task.now());
    text.family(
        "causeway_bgp_session_up",
        "gauge",
        "1 if the session is Established.",
    );
    for peer in &neighbors {
        let up = u64::from(peer.state == Session::Established);
        text.sample("causeway_bgp_session_up", &[("peer", &peer.name)], up);
    }
    text.family(
        "causeway_bgp_session_flaps_total",
        "counter",
        "Times that an Established session ended.",
    );
    for peer in &neighbors {
        text.sample(
            "causeway_bgp_session_flaps_total",
            &[("peer", &peer.name)],
            peer.flaps,
        );
    }
    text.family(
        "causeway_bgp_messages_total",
        "counter",
        "Messages by direction and type.",
    );
    for peer in &neighbors {
        for (direction, counters) in [
            ("received", peer.counters.received),
            ("sent", peer.counters.sent),
        ] {
            for (kind, value) in [
                ("open", counters.open),
                ("update", counters.update),
                ("notification", counters.notification),
                ("keepalive", counters.keepalive),
                ("route-refresh", counters.route_refresh),
            ] {
                let labels = [
                    ("peer", &*peer.name),
                    ("direction", direction),
                    ("type", kind),
                ];
                text.sample("causeway_bgp_messages_total", &labels, value);
            }
        }
    }
    text.family(
        "causeway_bgp_malformed_updates_total",
        "counter",
        "UPDATEs that needed a reaction of RFC 7606.",
    );
    for peer in &neighbors {
        text.sample(
            "causeway_bgp_malformed_updates_total",
            &[("peer", &peer.name)],
            peer.counters.malformed_updates,
        );
    }
    text.family(
        "causeway_bgp_peer_prefixes",
        "gauge",
        "Prefixes by peer, family and table.",
    );
    for peer in &neighbors {
        for family in &peer.families {
            for (table, value) in [
                ("received", family.received),
                ("accepted", family.accepted),
                ("advertised", family.advertised),
                ("stale", family.stale),
            ] {
                let labels = [
                    ("peer", &*peer.name),
                    ("family", family.family.name()),
                    ("table", table),
                ];
                text.sample("causeway_bgp_peer_prefixes", &labels, value as u64);
            }
        }
    }
    let summary = task.speaker().rib().summary();
    text.family("causeway_bgp_routes", "gauge", "Prefixes with a best path.");
    for family in Family::ALL {
        let routes = summary.families[family.index()].routes as u64;
        text.sample("causeway_bgp_routes", &[("family", family.name())], routes);
    }
    text.family("causeway_bgp_paths", "gauge", "Paths known.");
    for family in Family::ALL {
        let paths = summary.families[family.index()].paths as u64;
        text.sample("causeway_bgp_paths", &[("family", family.name())], paths);
    }
    text.family(
        "causeway_bgp_refused_connections_total",
        "counter",
        "Connections refused, by reason.",
    );
    for (reason, refused) in task.speaker().refused().by_reason {
        let labels = [("reason", reason.name())];
        text.sample("causeway_bgp_refused_connections_total", &labels, refused);
    }
    let (desired, programmed) = task.generations();
    text.family(
        "causeway_dataplane_generation",
        "gauge",
        "Changes handed over to the forwarding tables, and done.",
    );
    text.sample(
        "causeway_dataplane_generation",
        &[("state", "desired")],
        desired,
    );
    text.sample(
        "causeway_dataplane_generation",
        &[("state", "programmed")],
        programmed,
    );
}

/// The exposition format: names, help and samples.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string can't fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            self.0.push(if n == 0 { '{' } else { ',' });
            let escaped = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{escaped}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted_and_escaped() {
        let mut text = Text::default();
        text.family("a_total", "counter", "Help.");
        text.sample("a_total", &[("x", "1\"\\\n"), ("y", "2")], 3);
        text.sample("a_total", &[], 4);
        assert_eq!(
            text.0,
            "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\\n\",y=\"2\"} 3\na_total 4\n"
        );
    }
}
