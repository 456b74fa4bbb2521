//! Reads a script, does what it says, and writes what came of it.

use anyhow::{Context, Result, bail, ensure};
use causeway_api::endpoint_slice::{ENDPOINT_SLICE, EndpointSlice};
use causeway_api::node::Node;
use causeway_api::service::{SERVICE, Service};
use causeway_lb::{Delta, FrontendKey, Lb, LbConfig, Listen, NodePortAddresses, Protocol, Tables};
use causeway_plan::{ServiceDump, Services};
use serde::Deserialize;

use crate::{maps, render};

/// A script with the expected sections as they came out.
#[derive(Debug)]
pub struct Outcome {
    /// The script as it should be.
    pub text: String,
    /// What disagrees, one entry for each section: its title and line, expected and found.
    pub differences: Vec<String>,
}

/// Runs a script.
///
/// # Errors
///
/// The script itself is wrong: unknown sections, YAML that doesn't parse, tables that don't hold together.
pub fn run(script: &str) -> Result<Outcome> {
    let (head, sections) = parse(script);
    ensure!(
        head.starts_with('#'),
        "a script begins with `#` and what it shows"
    );
    let mut stage = Stage::default();
    let mut outcome = Outcome {
        text: head,
        differences: Vec::new(),
    };
    for section in sections {
        let found = stage
            .section(&section)
            .with_context(|| format!("line {}: {}", section.line, section.title))?;
        outcome.text.push_str(&format!("=== {}\n", section.title));
        match found {
            None => outcome.text.push_str(&section.body),
            Some(found) => {
                if found.trim() != section.body.trim() {
                    outcome.differences.push(difference(&section, &found));
                }
                outcome.text.push_str(&found);
                outcome.text.push('\n');
            }
        }
    }
    let text = outcome.text.trim_end().to_owned() + "\n";
    outcome.text = text;
    Ok(outcome)
}

struct Section {
    line: usize,
    title: String,
    body: String,
}

fn parse(script: &str) -> (String, Vec<Section>) {
    let mut head = String::new();
    let mut sections: Vec<Section> = Vec::new();
    for (n, line) in script.lines().enumerate() {
        if let Some(title) = line.strip_prefix("=== ") {
            sections.push(Section {
                line: n + 1,
                title: title.trim().to_owned(),
                body: String::new(),
            });
            continue;
        }
        let into = sections
            .last_mut()
            .map_or(&mut head, |section| &mut section.body);
        into.push_str(line);
        into.push('\n');
    }
    (head, sections)
}

fn difference(section: &Section, found: &str) -> String {
    let (expected, found): (Vec<_>, Vec<_>) = (
        section.body.trim().lines().collect(),
        found.trim().lines().collect(),
    );
    let mut text = format!("line {}: {}\n", section.line, section.title);
    for line in &expected {
        if !found.contains(line) {
            text.push_str(&format!("  - {line}\n"));
        }
    }
    for line in &found {
        if !expected.contains(line) {
            text.push_str(&format!("  + {line}\n"));
        }
    }
    text
}

/// The tables as the script has made them.
struct Stage {
    config: LbConfig,
    lb: Option<Lb>,
    before: Tables,
    tables: Tables,
    services: Services,
    dump: ServiceDump,
    deltas: Vec<Delta>,
    hold: bool,
    held: u64,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            config: LbConfig::new("node-a"),
            lb: None,
            before: Tables::default(),
            tables: Tables::default(),
            services: Services::default(),
            dump: ServiceDump::default(),
            deltas: Vec::new(),
            hold: false,
            held: 0,
        }
    }
}

impl Stage {
    /// Does what a section says, or returns what it expects.
    fn section(&mut self, section: &Section) -> Result<Option<String>> {
        let (verb, rest) = section
            .title
            .split_once(' ')
            .unwrap_or((&section.title, ""));
        match verb {
            "node" => {
                ensure!(self.lb.is_none(), "too late");
                self.config.node_name = rest.to_owned();
            }
            "config" => {
                ensure!(self.lb.is_none(), "too late");
                self.configure(&section.body)?;
            }
            "apply" => {
                for document in documents(&section.body) {
                    self.apply(document)?;
                }
                self.poll()?;
            }
            "delete" => {
                let mut words = rest.split_whitespace();
                let kind = words.next().context("which kind?")?;
                for name in words {
                    self.delete(kind, name)?;
                }
                self.poll()?;
            }
            "host" => {
                let addresses = rest
                    .split_whitespace()
                    .map(str::parse)
                    .collect::<Result<Vec<_>, _>>()?;
                self.lb().set_host_addresses(addresses);
                self.poll()?;
            }
            "hold" => self.hold = true,
            "programmed" => {
                self.hold = false;
                let held = self.held;
                self.lb().programmed(held);
            }
            "failed" => {
                let key = frontend(rest)?;
                self.lb().program_failed(key);
            }
            "recovered" => {
                let key = frontend(rest)?;
                self.lb().program_recovered(key);
            }
            "tables" => return Ok(Some(render::tables(&self.tables))),
            "maps" => return Ok(Some(maps::maps(&self.dump))),
            "changes" => {
                let text = render::changes(&self.deltas, &self.before, &self.tables);
                return Ok(Some(text));
            }
            "announce" => {
                let addresses: Vec<_> = self.tables.addresses.keys().copied().collect();
                return Ok(Some(render::announcements(self.lb(), &addresses)));
            }
            "problems" => {
                let lb = self.lb();
                let mut text = String::new();
                while let Some(report) = lb.poll_problem() {
                    text.push_str(&format!("{report}\n"));
                }
                return Ok(Some(render::or_none(text)));
            }
            "explain" => {
                let (namespace, name) = rest.split_once('/').context("NAMESPACE/NAME")?;
                let text = match self.lb().explain(namespace, name) {
                    Some(explanation) => render::explanation(&explanation),
                    None => "not there\n".to_owned(),
                };
                return Ok(Some(text));
            }
            other => bail!("unknown section `{other}`"),
        }
        Ok(None)
    }

    fn lb(&mut self) -> &mut Lb {
        self.lb.get_or_insert_with(|| Lb::new(self.config.clone()))
    }

    fn configure(&mut self, body: &str) -> Result<()> {
        for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once(':').context("write `key: value`")?;
            let value = value.trim();
            let cidrs = || {
                value
                    .split_whitespace()
                    .map(str::parse)
                    .collect::<Result<Vec<_>, _>>()
            };
            let limits = &mut self.config.limits;
            match key {
                "proxyName" => self.config.proxy_name = Some(value.to_owned()),
                "externalIPRanges" => self.config.external_ip_ranges = Some(cidrs()?),
                "nodePortAddresses" => {
                    self.config.node_port_addresses = NodePortAddresses::Within(cidrs()?);
                }
                "frontends" => limits.frontends = value.parse()?,
                "pools" => limits.pools = value.parse()?,
                "backends" => limits.backends = value.parse()?,
                "backendsPerPool" => limits.backends_per_pool = value.parse()?,
                "services" => limits.services = value.parse()?,
                other => bail!("unknown setting `{other}`"),
            }
        }
        Ok(())
    }

    fn apply(&mut self, document: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Head {
            kind: String,
        }
        let Head { kind } = serde_saphyr::from_str(document)?;
        match kind.as_str() {
            SERVICE => self
                .lb()
                .apply_service(&serde_saphyr::from_str::<Service>(document)?),
            ENDPOINT_SLICE => self
                .lb()
                .apply_slice(&serde_saphyr::from_str::<EndpointSlice>(document)?),
            "Node" => self
                .lb()
                .apply_node(&serde_saphyr::from_str::<Node>(document)?),
            other => bail!("unknown kind {other}"),
        }
        Ok(())
    }

    fn delete(&mut self, kind: &str, name: &str) -> Result<()> {
        let object = name.split_once('/').context("NAMESPACE/NAME");
        match kind {
            SERVICE => {
                let (namespace, name) = object?;
                self.lb().remove_service(namespace, name);
            }
            ENDPOINT_SLICE => {
                let (namespace, name) = object?;
                self.lb().remove_slice(namespace, name);
            }
            "Node" => self.lb().remove_node(name),
            other => bail!("unknown kind {other}"),
        }
        Ok(())
    }

    /// Takes in all deltas; the tables must hold together after each.
    fn poll(&mut self) -> Result<()> {
        self.before = self.tables.clone();
        self.deltas.clear();
        while let Some(delta) = self.lb().poll_delta(usize::MAX) {
            self.tables.apply(&delta);
            let wrong = self.tables.inconsistencies();
            ensure!(wrong.is_empty(), "{}", wrong.join("; "));
            for op in self.services.apply(&delta).ops {
                self.dump.apply(&op);
                let wrong = self.dump.inconsistencies();
                ensure!(wrong.is_empty(), "maps: {}", wrong.join("; "));
            }
            self.held = delta.revision;
            if !self.hold {
                self.lb().programmed(delta.revision);
            }
            self.deltas.push(delta);
        }
        Ok(())
    }
}

fn documents(body: &str) -> impl Iterator<Item = &str> {
    body.split("\n---\n")
        .map(|document| document.strip_prefix("---\n").unwrap_or(document))
        .filter(|document| !document.trim().is_empty())
}

/// Reads `10.96.0.1:80/TCP`.
fn frontend(text: &str) -> Result<FrontendKey> {
    let (end, protocol) = text.split_once('/').context("ADDRESS:PORT/PROTOCOL")?;
    let end: core::net::SocketAddr = end.parse()?;
    Ok(FrontendKey {
        listen: Listen::Address(end.ip()),
        port: end.port(),
        protocol: Protocol::parse(protocol).context("TCP, UDP or SCTP")?,
    })
}
