//! What only shows when objects are compared, or values with their ranges; and the model of this node.

mod filter;
mod instance;
mod template;

use std::collections::{BTreeMap, HashMap};

use causeway_api::meta::LabelSelector;
use causeway_api::node::NodeConfig;

use crate::model::{Generation, NodeSettings};
use crate::parse::{Objects, Origin, Sourced, suggestion};
use crate::{Report, limits};

/// The label that every node has.
const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

/// Checks all objects and puts together what concerns the node.
pub(crate) fn check(objects: &Objects, node_name: &str, report: &mut Report) -> Generation {
    let mut checker = Checker {
        labels: labels(objects, node_name),
        node_name,
        objects,
        report,
    };
    checker.duplicates();
    checker.nodes();
    filter::check(&mut checker);
    let templates = template::resolve(&mut checker);
    let instance = instance::resolve(&mut checker, &templates);
    let node = checker.node_settings();
    let mut json = objects.json.clone();
    json.sort_by_key(|object| {
        let text = |pointer| {
            object
                .pointer(pointer)
                .and_then(|v| v.as_str())
                .unwrap_or("")
                .to_owned()
        };
        (text("/kind"), text("/metadata/name"))
    });
    Generation {
        node,
        instance,
        objects: json,
    }
}

struct Checker<'a> {
    objects: &'a Objects,
    node_name: &'a str,
    labels: BTreeMap<String, String>,
    report: &'a mut Report,
}

impl Checker<'_> {
    fn mistake(
        &mut self,
        origin: &Origin,
        field: impl AsRef<str>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report
            .push(origin.mistake(field.as_ref(), problem.into(), remedy.into()));
    }

    /// Whether a selector, absent for every node, selects this one.
    fn selects(&self, selector: Option<&LabelSelector>) -> bool {
        selector.is_none_or(|selector| selector.selects(&self.labels))
    }

    /// A reference to an object that isn't there.
    fn unknown(&mut self, origin: &Origin, field: &str, kind: &str, name: &str, known: &[&str]) {
        let broken = (kind.to_owned(), name.to_owned());
        if self.objects.broken.contains(&broken) {
            return;
        }
        let remedy = if known.is_empty() {
            format!("add a {kind} of this name")
        } else {
            let nearest = suggestion(name, known.iter().copied());
            let join = if nearest.ends_with('?') {
                " If not,"
            } else {
                ", or"
            };
            format!("{nearest}{join} add a {kind} of this name")
        };
        self.mistake(
            origin,
            field,
            format!("there is no {kind} `{name}`"),
            remedy,
        );
    }

    fn asn(&mut self, origin: &Origin, field: &str, asn: u32) {
        if asn == 0 {
            self.mistake(
                origin,
                field,
                "AS 0 is reserved (RFC 7607)",
                "write an AS number from 1 to 4294967295",
            );
        }
    }

    fn range<T: PartialOrd + core::fmt::Display>(
        &mut self,
        origin: &Origin,
        field: &str,
        value: Option<T>,
        (least, most): (T, T),
    ) {
        if let Some(value) = value
            && (value < least || value > most)
        {
            self.mistake(
                origin,
                field,
                format!("{value} is out of range"),
                format!("write a number from {least} to {most}"),
            );
        }
    }

    fn duplicates(&mut self) {
        let objects = self.objects;
        let mut seen = HashMap::new();
        let origins = (objects.clusters.iter().map(|s| &s.origin))
            .chain(objects.peers.iter().map(|s| &s.origin))
            .chain(objects.advertisements.iter().map(|s| &s.origin))
            .chain(objects.filters.iter().map(|s| &s.origin))
            .chain(objects.overrides.iter().map(|s| &s.origin))
            .chain(objects.node_configs.iter().map(|s| &s.origin))
            .chain(objects.nodes.iter().map(|s| &s.origin))
            .chain(objects.secrets.iter().map(|s| &s.origin));
        for origin in origins {
            if let Some(first) = seen.insert(origin.label(), origin) {
                let problem = format!("there already is one in {}", first.place());
                self.mistake(
                    origin,
                    "metadata.name",
                    problem,
                    "rename or remove one of them",
                );
            }
        }
    }

    fn nodes(&mut self) {
        for config in &self.objects.node_configs {
            for (n, pattern) in config.object.spec.uplinks.interfaces.iter().enumerate() {
                let name = pattern.strip_suffix('*').unwrap_or(pattern);
                // IFNAMSIZ is 16 with the final zero; the kernel refuses slashes and spaces (dev_valid_name).
                let bad =
                    name.contains(['*', '/', ' ', ':']) || pattern.is_empty() || name.len() > 15;
                if bad {
                    self.mistake(
                        &config.origin,
                        format!("spec.uplinks.interfaces[{n}]"),
                        format!("`{pattern}` can't be the name of an interface"),
                        "write a name of up to 15 letters, or its beginning and `*`",
                    );
                }
            }
            let prefix = config.object.spec.pod_interface_prefix.as_deref();
            if let Some(prefix) = prefix
                && (prefix.is_empty() || prefix.len() > 15 || prefix.contains(['*', '/', ' ', ':']))
            {
                self.mistake(
                    &config.origin,
                    "spec.podInterfacePrefix",
                    format!("`{prefix}` can't be how the name of an interface begins"),
                    "write the letters that the names of pods' interfaces begin with, without `*`",
                );
            }
            self.pod_cidrs(config);
        }
    }

    fn pod_cidrs(&mut self, config: &Sourced<NodeConfig>) {
        let ranges = &config.object.spec.pod_cidrs;
        for (n, range) in ranges.iter().enumerate() {
            let (cidr, mask) = (range.cidr, range.node_mask_size);
            let ipv4 = cidr.addr().is_ipv4();
            if ranges[..n]
                .iter()
                .any(|other| other.cidr.addr().is_ipv4() == ipv4)
            {
                self.mistake(
                    &config.origin,
                    format!("spec.podCIDRs[{n}].cidr"),
                    "there is another range of this family",
                    "write one range of each family at most",
                );
            }
            if !cidr.is_network() {
                self.mistake(
                    &config.origin,
                    format!("spec.podCIDRs[{n}].cidr"),
                    format!("{cidr} has bits set behind its length"),
                    format!("write {}", cidr.network()),
                );
            }
            let longest = cidr
                .bits()
                .min(cidr.prefix_len().saturating_add(limits::POD_BLOCK_BITS));
            let shortest = cidr.prefix_len().max(1);
            if !(shortest..=longest).contains(&mask) {
                self.mistake(
                    &config.origin,
                    format!("spec.podCIDRs[{n}].nodeMaskSize"),
                    format!("{mask} is no length of a block of {cidr}"),
                    format!("write {shortest} to {longest}"),
                );
            }
        }
    }

    fn node_settings(&mut self) -> NodeSettings {
        let selected: Vec<&Sourced<NodeConfig>> = self
            .objects
            .node_configs
            .iter()
            .filter(|config| self.selects(config.object.spec.node_selector.as_ref()))
            .collect();
        if let [first, second, ..] = selected[..] {
            let problem = format!(
                "selects node {} as {} does",
                self.node_name,
                first.origin.label()
            );
            self.mistake(
                &second.origin,
                "spec.nodeSelector",
                problem,
                "make at most one NodeConfig select a node",
            );
        }
        selected
            .first()
            .map_or_else(NodeSettings::default, |config| {
                NodeSettings::from(&config.object.spec)
            })
    }
}

fn labels(objects: &Objects, node_name: &str) -> BTreeMap<String, String> {
    let mut labels = objects
        .nodes
        .iter()
        .find(|node| node.object.metadata.name == node_name)
        .map(|node| node.object.metadata.labels.clone())
        .unwrap_or_default();
    labels
        .entry(HOSTNAME_LABEL.to_owned())
        .or_insert_with(|| node_name.to_owned());
    labels
}

fn at_most_message_bytes(text: &str) -> bool {
    text.len() <= limits::SHUTDOWN_MESSAGE_BYTES
}
