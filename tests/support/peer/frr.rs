//! FRR: `bgpd` with `zebra`. (`/usr/sbin/bgpd` is OpenBGPD's.)

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    Daemon, Family, Neighbor, Origin, Router, Routes, START, Session, runtime_dir, write_config,
};
use crate::{Node, Process, wait_until};

pub(super) struct Frr {
    node: Node,
    asn: u32,
    bgpd: Process,
    zebra: Process,
}

impl Frr {
    pub(super) fn start(node: &Node, router: &Router) -> Result<Self> {
        // It drops to its own user before it writes there.
        runtime_dir(node, "/run/frr", "frr")?;
        let config = write_config(node, "bgpd.conf", &config(node, router))?;
        // bgpd knows interfaces and next hops from zebra only, so that IPv6 does not work without it.
        let empty = write_config(node, "zebra.conf", "log stdout\n")?;
        let mut command = node.command("/usr/lib/frr/zebra");
        command.arg("-f").arg(empty);
        let mut zebra = Process::start(node, "zebra", command)?;
        // A bgpd that comes first tries again only after its first sessions, and drops what they said meanwhile.
        wait_until("zebra's socket", START, || {
            zebra.check_running()?;
            node.run("test", ["-S", "/run/frr/zserv.api"])
        })?;
        let mut command = node.command("/usr/lib/frr/bgpd");
        command.arg("-f").arg(config);
        if !router.install {
            command.arg("--no_kernel");
        }
        Ok(Self {
            node: node.clone(),
            asn: router.asn,
            bgpd: Process::start(node, "bgpd", command)?,
            zebra,
        })
    }

    fn show(&self, command: &str) -> Result<Value> {
        let text = self.node.run(
            "vtysh",
            ["-d", "bgpd", "-c", &format!("show {command} json")],
        )?;
        serde_json::from_str(&text).with_context(|| format!("vtysh answered {text:?}"))
    }

    fn configure(&self, lines: impl IntoIterator<Item = String>) -> Result<()> {
        let mut command = self.node.command("vtysh");
        command.args(["-d", "bgpd", "-c", "configure terminal"]);
        for line in lines {
            command.args(["-c", &line]);
        }
        let said = crate::node::checked(&mut command)?;
        ensure!(!said.contains('%'), "vtysh: {said}");
        Ok(())
    }
}

impl Daemon for Frr {
    fn ready(&mut self) -> Result<()> {
        self.show("bgp summary").map(drop)
    }

    fn session(&self, neighbor: &Neighbor) -> Result<Session> {
        let all = self.show(&format!("bgp neighbors {}", neighbor.address))?;
        let one = &all[neighbor.address.to_string()];
        Ok(Session {
            established: one["bgpState"] == "Established",
            text: format!(
                "state {}, last reset: {}, last notification: {}",
                one["bgpState"], one["lastResetDueTo"], one["lastNotificationReason"]
            ),
        })
    }

    fn routes(&self, family: Family) -> Result<Routes> {
        let all = self.show(&format!("bgp {} unicast", family.word()))?;
        let routes = all["routes"].as_object().cloned().unwrap_or_default();
        Ok(routes
            .into_iter()
            .filter_map(|(prefix, paths)| {
                let learned: Vec<_> = paths
                    .as_array()?
                    .iter()
                    .filter(|path| path["peerId"] != "(unspec)")
                    .cloned()
                    .collect();
                (!learned.is_empty()).then(|| (prefix, Value::Array(learned).to_string()))
            })
            .collect())
    }

    fn route(&self, prefix: &str) -> Result<Option<String>> {
        let family = Family::of(prefix);
        if !self.routes(family)?.contains_key(prefix) {
            return Ok(None);
        }
        // The table leaves communities and more out.
        let one = self.show(&format!("bgp {} unicast {prefix}", family.word()))?;
        Ok(Some(one.to_string()))
    }

    fn originate(&mut self, router: &Router, before: &Router) -> Result<()> {
        let mut lines = Vec::new();
        for family in Family::BOTH {
            for origin in router.origins(family) {
                lines.extend(route_map(router.asn, origin));
            }
        }
        lines.push(format!("router bgp {}", self.asn));
        for family in Family::BOTH {
            lines.push(format!("address-family {} unicast", family.word()));
            let ours = |origin: &&Origin| Family::of(&origin.prefix) == family;
            lines.extend(
                before
                    .origins_beyond(router)
                    .filter(ours)
                    .map(|origin| format!("no network {}", origin.prefix)),
            );
            lines.extend(router.origins_beyond(before).filter(ours).map(network));
            lines.push("exit-address-family".to_owned());
        }
        self.configure(lines)
    }

    fn shut(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        self.configure([
            format!("router bgp {}", self.asn),
            format!("neighbor {} shutdown message {message}", neighbor.address),
        ])
    }

    fn reset(&mut self, neighbor: &Neighbor, _message: &str) -> Result<()> {
        for family in &neighbor.families {
            let clear = format!("clear bgp {} {}", family.word(), neighbor.address);
            self.node.run("vtysh", ["-d", "bgpd", "-c", &clear])?;
        }
        Ok(())
    }

    fn rekey(&mut self, router: &Router) -> Result<bool> {
        let mut lines = vec![format!("router bgp {}", self.asn)];
        for neighbor in &router.neighbors {
            if let Some(password) = &neighbor.password {
                lines.push(format!("neighbor {} password {password}", neighbor.address));
            }
        }
        self.configure(lines)?;
        Ok(true)
    }

    fn refresh(&mut self, neighbor: &Neighbor) -> Result<()> {
        for family in &neighbor.families {
            let clear = format!("clear bgp {} {} soft in", family.word(), neighbor.address);
            self.node.run("vtysh", ["-d", "bgpd", "-c", &clear])?;
        }
        Ok(())
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        vec![&mut self.bgpd, &mut self.zebra]
    }
}

fn config(node: &Node, router: &Router) -> String {
    let mut text = format!(
        "hostname {}\nlog stdout debugging\nlog timestamp precision 3\n\
         debug bgp neighbor-events\ndebug bgp graceful-restart\n",
        node.name()
    );
    for origin in &router.originate {
        for line in route_map(router.asn, origin) {
            let _ = writeln!(text, "{line}");
        }
    }
    let _ = write!(
        text,
        "router bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n bgp log-neighbor-changes\n \
         no bgp suppress-duplicates\n",
        router.asn, router.router_id
    );
    // As a mere helper it advertises the capability too, and its peers then keep the routes of a killed bgpd.
    text.push_str(if router.neighbors.iter().any(|n| n.graceful_restart) {
        // Once started it selects no route before each peer's End-of-RIB; if it has missed one, six minutes later.
        " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart select-defer-time 5\n"
    } else {
        " bgp graceful-restart-disable\n"
    });
    for neighbor in &router.neighbors {
        let address = neighbor.address;
        let mut line = |words: &str| {
            let _ = writeln!(text, " neighbor {address} {words}");
        };
        line(&format!("remote-as {}", neighbor.asn));
        line(&format!("update-source {}", neighbor.local));
        let hold = neighbor.hold_time;
        line(&format!("timers {} {hold}", (hold / 3).max(1)));
        line("timers connect 1");
        line("advertisement-interval 0");
        if let Some(hops) = neighbor.multihop {
            line(&format!("ebgp-multihop {hops}"));
        }
        if neighbor.passive {
            line("passive");
        }
        if let Some(password) = &neighbor.password {
            line(&format!("password {password}"));
        }
        if neighbor.ttl_security {
            line("ttl-security hops 1");
        }
        if neighbor.extended_messages {
            line("capability extended-message");
        }
    }
    for family in Family::BOTH {
        let _ = writeln!(text, " address-family {} unicast", family.word());
        for origin in router.origins(family) {
            let _ = writeln!(text, "  {}", network(origin));
        }
        for neighbor in &router.neighbors {
            if !neighbor.families.contains(&family) {
                continue;
            }
            let address = neighbor.address;
            let mut line = |words: &str| {
                let _ = writeln!(text, "  neighbor {address} {words}");
            };
            line("activate");
            if neighbor.reflector_client {
                line("route-reflector-client");
            }
            if let Some(limit) = neighbor.max_prefixes {
                line(&format!("maximum-prefix {limit}"));
            }
        }
        text.push_str(" exit-address-family\n");
    }
    text
}

/// `network`, through a route map where the prefix carries anything.
fn network(origin: &Origin) -> String {
    let plain = Origin {
        prefix: origin.prefix.clone(),
        ..Origin::default()
    };
    if *origin == plain {
        format!("network {}", origin.prefix)
    } else {
        format!("network {} route-map {}", origin.prefix, map_name(origin))
    }
}

fn route_map(asn: u32, origin: &Origin) -> Vec<String> {
    let mut sets: Vec<_> = [
        ("community", origin.standard()),
        ("large-community", origin.large()),
        ("extcommunity rt", origin.targets()),
    ]
    .into_iter()
    .filter(|(_, values)| !values.is_empty())
    .map(|(what, values)| format!("set {what} {}", values.join(" ")))
    .collect();
    sets.extend(origin.med.map(|med| format!("set metric {med}")));
    if origin.prepend > 0 {
        let path = vec![asn.to_string(); origin.prepend.into()];
        sets.push(format!("set as-path prepend {}", path.join(" ")));
    }
    if sets.is_empty() {
        return sets;
    }
    sets.insert(0, format!("route-map {} permit 10", map_name(origin)));
    sets.push("exit".to_owned());
    sets
}

fn map_name(origin: &Origin) -> String {
    origin
        .prefix
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '-' })
        .collect()
}
