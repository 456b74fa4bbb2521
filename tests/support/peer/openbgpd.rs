//! OpenBGPD, the portable version.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Daemon, Family, Neighbor, Origin, Router, Routes, Session, runtime_dir, write_config};
use crate::{Node, Process};

pub(super) struct OpenBgpd {
    node: Node,
    bgpd: Process,
}

impl OpenBgpd {
    pub(super) fn start(node: &Node, router: &Router) -> Result<Self> {
        // Its children are locked into this directory, which only root may write.
        runtime_dir(node, "/run/openbgpd", "root")?;
        let file = write_config(node, "openbgpd.conf", &config(router))?;
        // It refuses a configuration that others may read, passwords being in it.
        node.run("chmod", ["600".as_ref(), file.as_os_str()])?;
        let mut command = node.command("/usr/sbin/bgpd");
        command.args(["-d", "-v", "-f"]).arg(file);
        Ok(Self {
            node: node.clone(),
            bgpd: Process::start(node, "openbgpd", command)?,
        })
    }

    fn ask(&self, words: &str) -> Result<String> {
        self.node.run("bgpctl", words.split_whitespace())
    }

    fn json(&self, words: &str) -> Result<Value> {
        let text = self.ask(&format!("-j {words}"))?;
        serde_json::from_str(&text).with_context(|| format!("bgpctl answered {text:?}"))
    }
}

impl Daemon for OpenBgpd {
    fn ready(&mut self) -> Result<()> {
        self.ask("show").map(drop)
    }

    fn session(&self, neighbor: &Neighbor) -> Result<Session> {
        let all = self.json(&format!("show neighbor {}", neighbor.address))?;
        let one = &all["neighbors"][0];
        Ok(Session {
            established: one["state"] == "Established",
            text: format!(
                "state {}, last error: {} / {}, message: {}",
                one["state"],
                one["last_error_sent"],
                one["last_error_received"],
                one["last_shutdown_reason"]
            ),
        })
    }

    fn routes(&self, family: Family) -> Result<Routes> {
        let word = match family {
            Family::Ipv4 => "inet",
            Family::Ipv6 => "inet6",
        };
        let all = self.json(&format!("show rib {word} detail"))?;
        let mut routes = Routes::new();
        for route in all["rib"].as_array().into_iter().flatten() {
            // What it originates itself is announced by no session.
            if route["origin"] == "announced" || route["announced"] == true {
                continue;
            }
            if let Some(prefix) = route["prefix"].as_str() {
                routes
                    .entry(prefix.to_owned())
                    .or_default()
                    .push_str(&route.to_string());
            }
        }
        Ok(routes)
    }

    fn originate(&mut self, router: &Router, _before: &Router) -> Result<()> {
        let file = write_config(&self.node, "openbgpd.conf", &config(router))?;
        self.node.run("chmod", ["600".as_ref(), file.as_os_str()])?;
        self.ask("reload").map(drop)
    }

    fn shut(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        let address = neighbor.address.to_string();
        self.node
            .run("bgpctl", ["neighbor", &address, "down", message])
            .map(drop)
    }

    fn reset(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        let address = neighbor.address.to_string();
        self.node
            .run("bgpctl", ["neighbor", &address, "clear", message])
            .map(drop)
    }

    fn rekey(&mut self, router: &Router) -> Result<bool> {
        self.originate(router, router)?;
        Ok(true)
    }

    fn refresh(&mut self, neighbor: &Neighbor) -> Result<()> {
        self.ask(&format!("neighbor {} refresh", neighbor.address))
            .map(drop)
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        vec![&mut self.bgpd]
    }
}

fn config(router: &Router) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "AS {}\nrouter-id {}\nfib-update {}",
        router.asn,
        router.router_id,
        if router.install { "yes" } else { "no" }
    );
    for origin in &router.originate {
        let _ = writeln!(text, "network {}{}", origin.prefix, sets(origin));
    }
    for neighbor in &router.neighbors {
        let _ = writeln!(
            text,
            "neighbor {} {{\n  remote-as {}\n  local-address {}\n  holdtime {}",
            neighbor.address, neighbor.asn, neighbor.local, neighbor.hold_time
        );
        for family in Family::BOTH {
            let word = match family {
                Family::Ipv4 => "IPv4",
                Family::Ipv6 => "IPv6",
            };
            let what = if neighbor.families.contains(&family) {
                "unicast"
            } else {
                "none"
            };
            let _ = writeln!(text, "  announce {word} {what}");
        }
        let mut line = |words: &str| {
            let _ = writeln!(text, "  {words}");
        };
        if let Some(hops) = neighbor.multihop {
            line(&format!("multihop {hops}"));
        }
        if neighbor.passive {
            line("passive");
        }
        if let Some(password) = &neighbor.password {
            line(&format!("tcp md5sig password \"{password}\""));
        }
        if neighbor.ttl_security {
            line("ttl-security yes");
        }
        if neighbor.reflector_client {
            line("route-reflector");
        }
        if let Some(limit) = neighbor.max_prefixes {
            line(&format!("max-prefix {limit}"));
        }
        text.push_str("}\n");
    }
    text.push_str("allow from any\nallow to any\n");
    text
}

fn sets(origin: &Origin) -> String {
    let mut sets: Vec<_> = [
        ("community", origin.standard()),
        ("large-community", origin.large()),
        ("ext-community rt", origin.targets()),
    ]
    .into_iter()
    .flat_map(|(what, values)| {
        values
            .into_iter()
            .map(move |value| format!("{what} {value}"))
    })
    .collect();
    sets.extend(origin.med.map(|med| format!("med {med}")));
    if origin.prepend > 0 {
        sets.push(format!("prepend-self {}", origin.prepend));
    }
    if sets.is_empty() {
        String::new()
    } else {
        format!(" set {{ {} }}", sets.join(", "))
    }
}
