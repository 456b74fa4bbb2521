//! Metrics in the text format of Prometheus.

use core::fmt::Write as _;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use causeway_api::view::{DataplaneStatus, KernelStatus, PacketCounter};
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
    if let Some(fabric) = &shared.fabric {
        let asked = fabric.ask(|fabric| (fabric.status(), fabric.counters()));
        // A dataplane that has ended has no figures; the log says why it ended.
        if let Ok((status, counters)) = asked.await {
            dataplane(&mut text, &status, &counters);
        }
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
    text.family(
        "causeway_bgp_unprogrammed_prefixes",
        "gauge",
        "Prefixes that the forwarding tables could not take: not announced to anybody.",
    );
    for family in Family::ALL {
        let prefixes = summary.families[family.index()].unprogrammed as u64;
        let labels = [("family", family.name())];
        text.sample("causeway_bgp_unprogrammed_prefixes", &labels, prefixes);
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
    text.sample(
        "causeway_bgp_refused_connections_total",
        &[("reason", "too-many")],
        task.turned_away(),
    );
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

fn dataplane(text: &mut Text, status: &DataplaneStatus, counters: &[PacketCounter]) {
    for (name, help, value) in [
        (
            "packets",
            "Packets",
            (|c| c.packets) as fn(&PacketCounter) -> u64,
        ),
        ("bytes", "Bytes, Ethernet headers included,", |c| c.bytes),
    ] {
        let name = format!("causeway_dataplane_{name}_total");
        let help = format!("{help} by hook and by what became of them there.");
        text.family(&name, "counter", &help);
        for counter in counters {
            let labels = [("hook", &*counter.hook), ("reason", &*counter.reason)];
            text.sample(&name, &labels, value(counter));
        }
    }
    for (name, kind, help, value) in [
        (
            "causeway_dataplane_routes",
            "gauge",
            "Routes in the maps.",
            status.routes as u64,
        ),
        (
            "causeway_dataplane_groups",
            "gauge",
            "Next-hop groups in the maps.",
            status.groups as u64,
        ),
        (
            "causeway_dataplane_next_hops",
            "gauge",
            "Next hops in the maps.",
            status.next_hops as u64,
        ),
        (
            "causeway_dataplane_refused_routes",
            "gauge",
            "Prefixes that are wanted and could not be put into the maps.",
            status.refused as u64,
        ),
        (
            "causeway_dataplane_repairs_total",
            "counter",
            "Entries of maps that somebody else changed and that were put right.",
            status.repaired,
        ),
    ] {
        text.family(name, kind, help);
        text.sample(name, &[], value);
    }
    if let Some(kernel) = &status.kernel {
        kernel_table(text, kernel);
    }
}

fn kernel_table(text: &mut Text, kernel: &KernelStatus) {
    for (name, kind, help, value) in [
        (
            "causeway_kernel_routes",
            "gauge",
            "Routes of ours in the kernel's main table.",
            kernel.routes as u64,
        ),
        (
            "causeway_kernel_conflicting_routes",
            "gauge",
            "Routes kept out of the kernel's main table by somebody else's with the same prefix and metric.",
            kernel.conflicts as u64,
        ),
        (
            "causeway_kernel_left_out",
            "gauge",
            "Routes, sets and next hops that did not fit the kernel's table.",
            kernel.left_out,
        ),
        (
            "causeway_kernel_refusals_total",
            "counter",
            "Operations on its table that the kernel refused.",
            kernel.refused,
        ),
        (
            "causeway_kernel_repairs_total",
            "counter",
            "Routes and next-hop objects in the kernel that somebody else changed and that were put right.",
            kernel.repaired,
        ),
    ] {
        text.family(name, kind, help);
        text.sample(name, &[], value);
    }
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
