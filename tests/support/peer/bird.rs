//! BIRD 2.

use std::fmt::Write;

use anyhow::{Result, ensure};

use super::{Daemon, Family, Neighbor, Origin, Router, Routes, Session, runtime_dir, write_config};
use crate::{Node, Process};

pub(super) struct Bird {
    node: Node,
    router: Router,
    bird: Process,
}

impl Bird {
    pub(super) fn start(node: &Node, router: &Router) -> Result<Self> {
        runtime_dir(node, "/run/bird", "bird")?;
        let file = write_config(node, "bird.conf", &config(router))?;
        let mut command = node.command("bird");
        command.arg("-f").arg("-c").arg(file);
        Ok(Self {
            node: node.clone(),
            router: router.clone(),
            bird: Process::start(node, "bird", command)?,
        })
    }

    fn ask(&self, words: &str) -> Result<String> {
        self.node.run("birdc", words.split_whitespace())
    }

    fn protocol(&self, neighbor: &Neighbor) -> String {
        let at = self
            .router
            .neighbors
            .iter()
            .position(|other| other.address == neighbor.address);
        format!("peer{}", at.unwrap_or(usize::MAX))
    }
}

impl Daemon for Bird {
    fn ready(&mut self) -> Result<()> {
        self.ask("show status").map(drop)
    }

    fn session(&self, neighbor: &Neighbor) -> Result<Session> {
        let text = self.ask(&format!("show protocols all {}", self.protocol(neighbor)))?;
        Ok(Session {
            established: text.contains("BGP state:          Established"),
            text,
        })
    }

    fn routes(&self, family: Family) -> Result<Routes> {
        let text = self.ask(&format!(
            "show route table {} all where source = RTS_BGP",
            table(family)
        ))?;
        Ok(parse_routes(&text))
    }

    fn route(&self, prefix: &str) -> Result<Option<String>> {
        let table = table(Family::of(prefix));
        let words = format!("show route table {table} {prefix} all where source = RTS_BGP");
        Ok(parse_routes(&self.ask(&words)?).remove(prefix))
    }

    fn originate(&mut self, router: &Router, _before: &Router) -> Result<()> {
        write_config(&self.node, "bird.conf", &config(router))?;
        let said = self.ask("configure")?;
        // "in progress" while a session that must end does so.
        ensure!(said.contains("Reconfigur"), "bird: {said}");
        self.router = router.clone();
        Ok(())
    }

    fn shut(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        self.node
            .run(
                "birdc",
                [
                    "disable",
                    &self.protocol(neighbor),
                    &format!("\"{message}\""),
                ],
            )
            .map(drop)
    }

    fn reset(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        self.node
            .run(
                "birdc",
                [
                    "restart",
                    &self.protocol(neighbor),
                    &format!("\"{message}\""),
                ],
            )
            .map(drop)
    }

    fn rekey(&mut self, router: &Router) -> Result<bool> {
        self.originate(router, router)?;
        Ok(true)
    }

    fn refresh(&mut self, neighbor: &Neighbor) -> Result<()> {
        self.ask(&format!("reload in {}", self.protocol(neighbor)))
            .map(drop)
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        vec![&mut self.bird]
    }
}

fn table(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "master4",
        Family::Ipv6 => "master6",
    }
}

/// Entries begin at the first column with the prefix; what follows indented belongs to it.
fn parse_routes(text: &str) -> Routes {
    let mut routes = Routes::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !line.starts_with([' ', '\t']) {
            current = first.contains('/').then(|| first.to_owned());
        }
        if let Some(prefix) = &current {
            let entry = routes.entry(prefix.clone()).or_default();
            entry.push_str(line);
            entry.push('\n');
        }
    }
    routes
}

/// Towards another AS BIRD sends only a MULTI_EXIT_DISC that the export filter has set.
const ANNOUNCED: &str = "attribute int announced_med;
filter announced {
  if ! (source ~ [ RTS_STATIC, RTS_BGP ]) then reject;
  if defined(announced_med) then bgp_med = announced_med;
  accept;
}
";

fn config(router: &Router) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{ scan time 1; }}\n{ANNOUNCED}",
        router.router_id
    );
    for family in Family::BOTH {
        let word = family.word();
        let _ = writeln!(text, "protocol static origin_{word} {{\n  {word};");
        for origin in router.origins(family) {
            let _ = writeln!(
                text,
                "  route {} blackhole{};",
                origin.prefix,
                attributes(router.asn, origin)
            );
        }
        text.push_str("}\n");
        if router.install {
            let _ = writeln!(
                text,
                "protocol kernel kernel_{word} {{\n  merge paths on;\n  \
                 {word} {{ import none; export where source = RTS_BGP; }};\n}}"
            );
        }
    }
    for (n, neighbor) in router.neighbors.iter().enumerate() {
        let _ = write!(
            text,
            "protocol bgp peer{n} {{\n  local {} as {};\n  neighbor {} as {};\n  hold time {};\n  \
             connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n",
            neighbor.local, router.asn, neighbor.address, neighbor.asn, neighbor.hold_time
        );
        let mut line = |words: &str| {
            let _ = writeln!(text, "  {words};");
        };
        if let Some(hops) = neighbor.multihop {
            line(&format!("multihop {hops}"));
        }
        if neighbor.passive {
            line("passive on");
        }
        if let Some(password) = &neighbor.password {
            line(&format!("password \"{password}\""));
        }
        if neighbor.ttl_security {
            line("ttl security on");
        }
        line(if neighbor.graceful_restart {
            "graceful restart on"
        } else {
            "graceful restart off"
        });
        if neighbor.reflector_client {
            line("rr client");
        }
        if neighbor.extended_messages {
            line("enable extended messages on");
        }
        for family in &neighbor.families {
            let limit = neighbor
                .max_prefixes
                .map(|limit| format!(" receive limit {limit} action disable;"))
                .unwrap_or_default();
            line(&format!(
                "{} {{ import all; export filter announced;{limit} }}",
                family.word()
            ));
        }
        text.push_str("}\n");
    }
    text
}

fn attributes(asn: u32, origin: &Origin) -> String {
    let mut adds = String::new();
    for (asn, value) in &origin.communities {
        let _ = write!(adds, " bgp_community.add(({asn},{value}));");
    }
    for (asn, a, b) in &origin.large_communities {
        let _ = write!(adds, " bgp_large_community.add(({asn},{a},{b}));");
    }
    for (asn, value) in &origin.route_targets {
        let _ = write!(adds, " bgp_ext_community.add((rt,{asn},{value}));");
    }
    if let Some(med) = origin.med {
        let _ = write!(adds, " announced_med = {med};");
    }
    for _ in 0..origin.prepend {
        let _ = write!(adds, " bgp_path.prepend({asn});");
    }
    if adds.is_empty() {
        adds
    } else {
        format!(" {{{adds} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_with_their_attributes() {
        let text = "BIRD 2.0.12 ready.\nTable master4:\n203.0.113.0/24       unicast [peer0 12:00:00.000] * (100) [AS65001i]\n\
                    \tvia 10.0.0.1 on eth0\n\tType: BGP univ\n192.0.2.0/24         unicast [peer0 12:00:00.000] * (100) [AS65001i]\n";
        let routes = parse_routes(text);
        assert_eq!(
            routes.keys().collect::<Vec<_>>(),
            ["192.0.2.0/24", "203.0.113.0/24"]
        );
        assert!(routes["203.0.113.0/24"].contains("via 10.0.0.1"));
    }
}
