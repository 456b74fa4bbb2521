//! ExaBGP: it keeps no RIB, so what it hears is written down by a helper process and read back.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Daemon, Family, Neighbor, Origin, Router, Routes, Session, write_config};
use crate::{Node, Process};

pub(super) struct ExaBgp {
    heard: PathBuf,
    commands: PathBuf,
    exabgp: Process,
}

impl ExaBgp {
    pub(super) fn start(node: &Node, router: &Router) -> Result<Self> {
        let heard = node.dir().join("heard.json");
        let commands = node.dir().join("commands");
        fs::write(&heard, "")?;
        fs::write(&commands, "")?;
        // Its standard input is what ExaBGP hears; its standard output is what ExaBGP is told.
        let script = write_config(
            node,
            "helper.sh",
            &format!(
                "#!/bin/sh\ntail -n +1 -f {} &\nexec cat >> {}\n",
                commands.display(),
                heard.display()
            ),
        )?;
        let file = write_config(node, "exabgp.conf", &config(router, &script))?;
        let mut command = node.command("exabgp");
        command
            .arg(file)
            .env("exabgp.daemon.user", "root")
            .env("exabgp.daemon.drop", "false")
            .env("exabgp.api.ack", "false")
            .env("exabgp.api.cli", "false")
            .env("exabgp.tcp.bind", bind(router))
            .env("exabgp.tcp.port", "179");
        Ok(Self {
            heard,
            commands,
            exabgp: Process::start(node, "exabgp", command)?,
        })
    }

    fn tell(&self, line: &str) -> Result<()> {
        use std::io::Write;
        let mut file = fs::File::options().append(true).open(&self.commands)?;
        Ok(writeln!(file, "{line}")?)
    }

    fn tell_all(&self, verb: &str, router: &Router, origin: &Origin) -> Result<()> {
        let family = Family::of(&origin.prefix);
        for neighbor in &router.neighbors {
            if neighbor.families.contains(&family) {
                let (address, route) = (neighbor.address, route(router.asn, origin, neighbor));
                self.tell(&format!("neighbor {address} {verb} {route}"))?;
            }
        }
        Ok(())
    }

    fn messages(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.heard)?;
        // The last line may still be being written.
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }
}

impl Daemon for ExaBgp {
    fn ready(&mut self) -> Result<()> {
        // It has read its configuration once the helper runs.
        if self
            .exabgp
            .log()
            .contains("loaded new configuration successfully")
        {
            Ok(())
        } else {
            bail!("{}", self.exabgp.log())
        }
    }

    fn session(&self, neighbor: &Neighbor) -> Result<Session> {
        let address = neighbor.address.to_string();
        let last = self
            .messages()?
            .into_iter()
            .rfind(|message| {
                message["type"] == "state" && message["neighbor"]["address"]["peer"] == *address
            })
            .context("no session yet")?;
        Ok(Session {
            established: last["neighbor"]["state"] == "up",
            text: last.to_string(),
        })
    }

    fn routes(&self, family: Family) -> Result<Routes> {
        let name = format!("{} unicast", family.word());
        // By the peer that said so: what one session loses, the others keep.
        let mut learned: BTreeMap<String, Routes> = BTreeMap::new();
        for message in self.messages()? {
            let peer = &message["neighbor"]["address"]["peer"];
            let routes = learned.entry(peer.to_string()).or_default();
            if message["type"] == "state" && message["neighbor"]["state"] == "down" {
                routes.clear();
            }
            let update = &message["neighbor"]["message"]["update"];
            for gone in update["withdraw"][&name].as_array().into_iter().flatten() {
                routes.remove(gone["nlri"].as_str().unwrap_or_default());
            }
            // A global and a link-local next hop are listed one by one.
            let mut heard = Routes::new();
            let by_next_hop = update["announce"][&name].as_object();
            for (next_hop, prefixes) in by_next_hop.into_iter().flatten() {
                for prefix in prefixes.as_array().into_iter().flatten() {
                    if let Some(prefix) = prefix["nlri"].as_str() {
                        let text = heard
                            .entry(prefix.to_owned())
                            .or_insert_with(|| update["attribute"].to_string());
                        let _ = write!(text, " next hop {next_hop}");
                    }
                }
            }
            routes.extend(heard);
        }
        Ok(learned.into_values().flatten().collect())
    }

    fn originate(&mut self, router: &Router, before: &Router) -> Result<()> {
        for origin in before.origins_beyond(router) {
            self.tell_all("withdraw", router, origin)?;
        }
        for origin in router.origins_beyond(before) {
            self.tell_all("announce", router, origin)?;
        }
        Ok(())
    }

    fn shut(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        let _ = message;
        self.tell(&format!("neighbor {} teardown 2", neighbor.address))
    }

    fn reset(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        let _ = message;
        self.tell(&format!("neighbor {} teardown 4", neighbor.address))
    }

    fn refresh(&mut self, neighbor: &Neighbor) -> Result<()> {
        for family in &neighbor.families {
            self.tell(&format!(
                "neighbor {} announce route-refresh {} unicast",
                neighbor.address,
                family.word()
            ))?;
        }
        Ok(())
    }

    fn notes(&self) -> String {
        fs::read_to_string(&self.heard).unwrap_or_default()
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        vec![&mut self.exabgp]
    }
}

/// Local addresses of passive sessions: ExaBGP listens nowhere unless told to.
fn bind(router: &Router) -> String {
    let mut addresses: Vec<_> = router
        .neighbors
        .iter()
        .filter(|neighbor| neighbor.passive)
        .map(|neighbor| neighbor.local.to_string())
        .collect();
    addresses.dedup();
    addresses.join(" ")
}

fn config(router: &Router, script: &std::path::Path) -> String {
    let mut text = format!(
        "process helper {{\n  run /bin/sh {};\n  encoder json;\n}}\n",
        script.display()
    );
    for neighbor in &router.neighbors {
        let _ = writeln!(
            text,
            "neighbor {} {{\n  router-id {};\n  local-address {};\n  local-as {};\n  peer-as {};\n  hold-time {};",
            neighbor.address,
            router.router_id,
            neighbor.local,
            router.asn,
            neighbor.asn,
            neighbor.hold_time
        );
        let mut line = |words: &str| {
            let _ = writeln!(text, "  {words}");
        };
        if neighbor.passive {
            line("passive true;");
        }
        if let Some(password) = &neighbor.password {
            line(&format!("md5-password \"{password}\";"));
        }
        if let Some(hops) = neighbor.multihop {
            line(&format!("outgoing-ttl {hops};"));
        }
        if neighbor.ttl_security {
            line("outgoing-ttl 255;");
            line("incoming-ttl 255;");
        }
        let refresh = "route-refresh enable;";
        let restart = if neighbor.graceful_restart {
            " graceful-restart 20;"
        } else {
            ""
        };
        let extended = if neighbor.extended_messages {
            " extended-message enable;"
        } else {
            ""
        };
        line(&format!("capability {{ {refresh}{restart}{extended} }}"));
        let families: Vec<_> = neighbor
            .families
            .iter()
            .map(|family| format!("{} unicast;", family.word()))
            .collect();
        line(&format!("family {{ {} }}", families.join(" ")));
        line("api { processes [ helper ]; neighbor-changes; receive { parsed; update; } }");
        let own = neighbor
            .families
            .iter()
            .flat_map(|family| router.origins(*family));
        let routes: Vec<_> = own
            .map(|origin| format!("{};", route(router.asn, origin, neighbor)))
            .collect();
        line(&format!("static {{ {} }}", routes.join(" ")));
        text.push_str("}\n");
    }
    text
}

fn route(asn: u32, origin: &Origin, neighbor: &Neighbor) -> String {
    // "self" is the session's own address, whatever the family of the route.
    let next_hop = match neighbor.other_next_hop {
        Some(address) if address.is_ipv6() == (Family::of(&origin.prefix) == Family::Ipv6) => {
            address.to_string()
        }
        _ => "self".to_owned(),
    };
    let mut text = format!("route {} next-hop {next_hop}", origin.prefix);
    if let Some(med) = origin.med {
        let _ = write!(text, " med {med}");
    }
    if origin.prepend > 0 {
        // What it is told replaces what it would say.
        let path = vec![asn.to_string(); usize::from(origin.prepend) + 1];
        let _ = write!(text, " as-path [ {} ]", path.join(" "));
    }
    let targets = origin
        .targets()
        .iter()
        .map(|target| format!("target:{target}"))
        .collect();
    for (word, values) in [
        ("community", origin.standard()),
        ("large-community", origin.large()),
        ("extended-community", targets),
    ] {
        if !values.is_empty() {
            let _ = write!(text, " {word} [ {} ]", values.join(" "));
        }
    }
    text
}
