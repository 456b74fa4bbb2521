//! From documents to objects, or to what is wrong with them.

use std::collections::HashSet;
use std::rc::Rc;

use causeway_api::bgp::{
    BGP_ADVERTISEMENT, BGP_CLUSTER_CONFIG, BGP_NODE_CONFIG_OVERRIDE, BGP_PEER_CONFIG,
    BgpAdvertisement, BgpClusterConfig, BgpNodeConfigOverride, BgpPeerConfig,
};
use causeway_api::filter::{BGP_FILTER, BgpFilter};
use causeway_api::node::{NODE_CONFIG, Node as KubeNode, NodeConfig};
use causeway_api::secret::Secret;
use causeway_api::{API_VERSION, CORE_VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_saphyr::Error;

use crate::source::{Document, File, documents};
use crate::tree::Node;
use crate::{Diagnostic, Report, limits};

/// Objects of a directory by kind.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) clusters: Vec<Sourced<BgpClusterConfig>>,
    pub(crate) peers: Vec<Sourced<BgpPeerConfig>>,
    pub(crate) advertisements: Vec<Sourced<BgpAdvertisement>>,
    pub(crate) filters: Vec<Sourced<BgpFilter>>,
    pub(crate) overrides: Vec<Sourced<BgpNodeConfigOverride>>,
    pub(crate) node_configs: Vec<Sourced<NodeConfig>>,
    pub(crate) nodes: Vec<Sourced<KubeNode>>,
    pub(crate) secrets: Vec<Sourced<Secret>>,
    /// Kinds and names of objects that are there but could not be read: a reference to one is no second mistake.
    pub(crate) broken: HashSet<(String, String)>,
    /// All but secrets, as JSON.
    pub(crate) json: Vec<serde_json::Value>,
}

/// An object and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Sourced<T> {
    pub(crate) object: T,
    pub(crate) origin: Rc<Origin>,
}

/// Where an object stands.
#[derive(Debug)]
pub(crate) struct Origin {
    file: String,
    lines_before: u64,
    tree: Node,
    kind: String,
    name: String,
}

impl Origin {
    /// Kind and name.
    pub(crate) fn label(&self) -> String {
        label(&self.kind, &self.name)
    }

    /// File and line.
    pub(crate) fn place(&self) -> String {
        format!(
            "{}:{}",
            self.file,
            self.lines_before + self.tree.line("metadata.name")
        )
    }

    /// A mistake in a field, given as a path such as `spec.rules[0].cidr`.
    pub(crate) fn mistake(&self, field: &str, problem: String, remedy: String) -> Diagnostic {
        Diagnostic {
            file: self.file.clone(),
            line: self.lines_before + self.tree.line(field),
            object: self.label(),
            field: field.to_owned(),
            problem,
            remedy,
        }
    }
}

fn label(kind: &str, name: &str) -> String {
    format!("{kind} {name}").trim().to_owned()
}

/// Reads every document of every file.
pub(crate) fn parse(files: &[File], report: &mut Report) -> Objects {
    let mut objects = Objects::default();
    let mut seen = 0;
    for file in files {
        for document in documents(file) {
            seen += 1;
            if seen > limits::DOCUMENTS {
                report.push(Diagnostic {
                    file: file.name.clone(),
                    line: document.lines_before + 1,
                    object: String::new(),
                    field: String::new(),
                    problem: format!("more than {} documents", limits::DOCUMENTS),
                    remedy: "remove objects that nothing refers to".to_owned(),
                });
                return objects;
            }
            one(&mut objects, document, report);
        }
    }
    objects
}

/// How an object of a kind is read and kept.
type Reader = fn(&mut Objects, Header<'_>, &mut Report);

/// Every kind: version, name, reader.
const KINDS: [(&str, &str, Reader); 8] = [
    (API_VERSION, BGP_CLUSTER_CONFIG, |o, h, r| {
        keep(h, r, &mut o.broken, &mut o.clusters, Some(&mut o.json))
    }),
    (API_VERSION, BGP_PEER_CONFIG, |o, h, r| {
        keep(h, r, &mut o.broken, &mut o.peers, Some(&mut o.json))
    }),
    (API_VERSION, BGP_ADVERTISEMENT, |o, h, r| {
        keep(
            h,
            r,
            &mut o.broken,
            &mut o.advertisements,
            Some(&mut o.json),
        )
    }),
    (API_VERSION, BGP_FILTER, |o, h, r| {
        keep(h, r, &mut o.broken, &mut o.filters, Some(&mut o.json))
    }),
    (API_VERSION, BGP_NODE_CONFIG_OVERRIDE, |o, h, r| {
        keep(h, r, &mut o.broken, &mut o.overrides, Some(&mut o.json))
    }),
    (API_VERSION, NODE_CONFIG, |o, h, r| {
        keep(h, r, &mut o.broken, &mut o.node_configs, Some(&mut o.json))
    }),
    (CORE_VERSION, "Node", |o, h, r| {
        keep_unwritten(h, r, &mut o.broken, &mut o.nodes)
    }),
    (CORE_VERSION, "Secret", |o, h, r| {
        keep_unwritten(h, r, &mut o.broken, &mut o.secrets)
    }),
];

/// Kinds that users know from us, Kubernetes or other products, and that this version does not implement.
const UNIMPLEMENTED_KINDS: [&str; 13] = [
    "BFDProfile",
    "BGPNodeStatus",
    "Community",
    "IPAddressPool",
    "CustomResourceDefinition",
    "ConfigMap",
    "Endpoints",
    "EndpointSlice",
    "List",
    "Namespace",
    "NetworkPolicy",
    "Pod",
    "Service",
];

/// Fields that are known and that this version does not implement: field, and what to do without it.
const UNIMPLEMENTED_FIELDS: [(&str, &str); 19] = [
    (
        "bfdProfile",
        "remove it; shorter timers detect failures meanwhile",
    ),
    (
        "bfdProfileRef",
        "remove it; shorter timers detect failures meanwhile",
    ),
    (
        "interfaces",
        "name the interface in a rule of the fabric instead",
    ),
    (
        "service",
        "use `advertisementType: Prefix` with the range of the service addresses",
    ),
    ("selector", "use `advertisementType: Prefix`"),
    ("aggregationLengthIPv4", "list the aggregate in `prefixes`"),
    ("aggregationLengthIPv6", "list the aggregate in `prefixes`"),
    ("addPath", "remove it"),
    ("rpki", "filter by prefix and AS path"),
    ("bmp", "remove it"),
    ("tcpAO", "use authSecretRef (TCP MD5)"),
    ("vrf", "remove it"),
    ("staleAfter", "remove it"),
    ("priority", "put the rules in order"),
    ("uid", "remove what the Kubernetes API server has added"),
    (
        "resourceVersion",
        "remove what the Kubernetes API server has added",
    ),
    (
        "creationTimestamp",
        "remove what the Kubernetes API server has added",
    ),
    (
        "generation",
        "remove what the Kubernetes API server has added",
    ),
    (
        "managedFields",
        "remove what the Kubernetes API server has added",
    ),
];

/// What is known of a document before its kind's own fields are read.
struct Header<'a> {
    document: Document<'a>,
    tree: Node,
    kind: &'a str,
    name: String,
}

fn one(objects: &mut Objects, document: Document<'_>, report: &mut Report) {
    let tree: Node = match serde_saphyr::from_str_with_options(document.text, options()) {
        Ok(tree) => tree,
        Err(error) => {
            report.push(syntax(document, &error));
            return;
        }
    };
    let text = |path: [&str; 2]| {
        let node = tree.child(path[0])?;
        let node = if path[1].is_empty() {
            node
        } else {
            node.child(path[1])?
        };
        Some(node.text()?.to_owned())
    };
    let kind = text(["kind", ""]).unwrap_or_default();
    let version = text(["apiVersion", ""]).unwrap_or_default();
    let name = text(["metadata", "name"]).unwrap_or_default();
    let mut mistake = |field: &str, problem: String, remedy: String| {
        report.push(Diagnostic {
            file: document.file.to_owned(),
            line: document.lines_before + tree.line(field),
            object: label(&kind, &name),
            field: field.to_owned(),
            problem,
            remedy,
        });
    };
    if !tree.is_mapping() {
        let remedy = "begin with `apiVersion:`, `kind:`, `metadata:` and `spec:`";
        mistake("", "is not an object".to_owned(), remedy.to_owned());
        return;
    }
    if kind.is_empty() {
        let kinds = KINDS.map(|(_, kind, _)| kind).join(", ");
        mistake("kind", "missing".to_owned(), format!("add one of {kinds}"));
        return;
    }
    let Some((right_version, known, read)) = KINDS.iter().find(|(_, known, _)| *known == kind)
    else {
        objects.broken.insert((kind.clone(), name.clone()));
        if UNIMPLEMENTED_KINDS.contains(&kind.as_str()) {
            let problem = format!("kind {kind} is not implemented in this version");
            mistake("kind", problem, "remove the object".to_owned());
        } else {
            let remedy = suggestion(&kind, KINDS.map(|(_, kind, _)| kind));
            mistake("kind", format!("unknown kind `{kind}`"), remedy);
        }
        return;
    };
    let mut fine = true;
    if version != *right_version {
        let problem = if version.is_empty() {
            "missing".to_owned()
        } else {
            format!("unknown version `{version}`")
        };
        mistake(
            "apiVersion",
            problem,
            format!("write `apiVersion: {right_version}`"),
        );
        fine = false;
    }
    if !is_name(&name) {
        let problem = if name.is_empty() {
            "missing".to_owned()
        } else {
            format!("`{name}` is not a name")
        };
        let remedy = "use up to 253 lower-case letters, digits, `-` and `.`, with a letter or digit at both ends";
        mistake("metadata.name", problem, remedy.to_owned());
        fine = false;
    }
    if !fine {
        objects.broken.insert((kind.clone(), name));
        return;
    }
    let header = Header {
        document,
        tree,
        kind: known,
        name,
    };
    read(objects, header, report);
}

/// RFC 1123 subdomain, as Kubernetes demands of names.
pub(crate) fn is_name(name: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=253).contains(&bytes.len())
        && bytes.first().is_some_and(letter)
        && bytes.last().is_some_and(letter)
        && bytes
            .iter()
            .all(|byte| letter(byte) || matches!(byte, b'-' | b'.'))
}

fn keep<T: DeserializeOwned + Serialize>(
    header: Header<'_>,
    report: &mut Report,
    broken: &mut HashSet<(String, String)>,
    into: &mut Vec<Sourced<T>>,
    json: Option<&mut Vec<serde_json::Value>>,
) {
    let before = into.len();
    keep_unwritten(header, report, broken, into);
    if let (Some(json), Some(new)) = (json, into.get(before)) {
        json.extend(serde_json::to_value(&new.object).ok());
    }
}

/// Keeps an object that is never shown.
fn keep_unwritten<T: DeserializeOwned>(
    header: Header<'_>,
    report: &mut Report,
    broken: &mut HashSet<(String, String)>,
    into: &mut Vec<Sourced<T>>,
) {
    let origin = Origin {
        file: header.document.file.to_owned(),
        lines_before: header.document.lines_before,
        tree: header.tree,
        kind: header.kind.to_owned(),
        name: header.name,
    };
    match typed::<T>(header.document.text, &origin, report) {
        Some(object) => into.push(Sourced {
            object,
            origin: Rc::new(origin),
        }),
        None => {
            broken.insert((origin.kind, origin.name));
        }
    }
}

/// Reads the object; after an unknown field that stands on lines of its own, goes on without it to find more mistakes.
fn typed<T: DeserializeOwned>(text: &str, origin: &Origin, report: &mut Report) -> Option<T> {
    let mut text = text.to_owned();
    let mut fine = true;
    for _ in 0..limits::DIAGNOSTICS_PER_DOCUMENT {
        let error = match serde_saphyr::from_str_with_options::<T>(&text, options()) {
            Ok(object) => return fine.then_some(object),
            Err(error) => error,
        };
        let unknown = matches!(error.without_snippet(), Error::SerdeUnknownField { .. });
        // Once a field is taken out, other errors may be of our own making: its right name would be missing.
        if fine || unknown {
            report.push(explained(origin, &error));
        }
        fine = false;
        let cut = error
            .location()
            .filter(|_| unknown)
            .and_then(|at| without_field(&text, at.line(), at.column()));
        match cut {
            Some(rest) => text = rest,
            None => break,
        }
    }
    None
}

/// The text with the lines of a field emptied, if the field starts its line.
fn without_field(text: &str, line: u64, column: u64) -> Option<String> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let indent = usize::try_from(column).ok()?.checked_sub(1)?;
    let lines: Vec<_> = text.split('\n').collect();
    let first = lines.get(line)?;
    if first.len() - first.trim_start().len() != indent {
        return None;
    }
    let belongs = |line: &&&str| {
        let content = line.trim_start();
        // Items of a sequence may stand at the indentation of their key.
        content.is_empty()
            || line.len() - content.len() > indent
            || (line.len() - content.len() == indent && content.starts_with("- "))
    };
    let end = line + 1 + lines[line + 1..].iter().take_while(belongs).count();
    let mut kept: Vec<_> = lines.iter().map(|text| (*text).to_owned()).collect();
    for text in &mut kept[line..end] {
        text.clear();
    }
    // A mapping that is left without fields is still a mapping.
    let depth = |line: &String| line.len() - line.trim_start().len();
    let before = (0..line).rev().find(|n| !kept[*n].trim().is_empty())?;
    let next = kept[end..].iter().find(|line| !line.trim().is_empty());
    if kept[before].trim_end().ends_with(':') && next.is_none_or(|next| depth(next) < indent) {
        kept[before].push_str(" {}");
    }
    Some(kept.join("\n"))
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
    }
}

fn syntax(document: Document<'_>, error: &Error) -> Diagnostic {
    Diagnostic {
        file: document.file.to_owned(),
        line: document.lines_before + error.location().map_or(1, |at| at.line()),
        object: String::new(),
        field: String::new(),
        problem: format!("is not YAML: {}", message(error)),
        remedy: "check indentation, quotes and brackets here and on the line before".to_owned(),
    }
}

fn explained(origin: &Origin, error: &Error) -> Diagnostic {
    let location = error.location();
    let line = location.map_or(1, |at| at.line());
    let path = location
        .and_then(|at| origin.tree.path(at.line(), at.column()))
        .unwrap_or_default();
    let (field, problem, remedy) = match error.without_snippet() {
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            let known = UNIMPLEMENTED_FIELDS.iter().find(|(name, _)| name == field);
            let (problem, remedy) = match known {
                Some((_, remedy)) => (
                    format!("field `{field}` is not implemented in this version"),
                    (*remedy).to_owned(),
                ),
                None => (
                    format!("unknown field `{field}`"),
                    suggestion(field, expected.iter().copied()),
                ),
            };
            (path, problem, remedy)
        }
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => (
            path,
            format!("unknown value `{variant}`"),
            suggestion(variant, expected.iter().copied()),
        ),
        Error::SerdeMissingField { field, .. } => {
            let remedy = if *field == "peerAddress" {
                "add it; peers by interface alone are not implemented in this version".to_owned()
            } else {
                format!("add `{field}:`")
            };
            let at = if path.is_empty() {
                (*field).to_owned()
            } else {
                format!("{path}.{field}")
            };
            (at, "missing".to_owned(), remedy)
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            (
                path,
                format!("`{key}` stands here twice"),
                "keep one of them".to_owned(),
            )
        }
        // Whatever is wrong in a Secret, its values stay out of messages and logs.
        _ if origin.kind == "Secret" => (
            path,
            "is not of the right form".to_owned(),
            "data and stringData map keys to texts; put numbers in quotes".to_owned(),
        ),
        other => (
            path,
            message(other),
            "write a value of that form".to_owned(),
        ),
    };
    // Our own value types say what to do after a semicolon.
    let (problem, remedy) = match problem.split_once("; ") {
        Some((problem, remedy)) => (problem.to_owned(), remedy.to_owned()),
        None => (problem, remedy),
    };
    Diagnostic {
        file: origin.file.clone(),
        line: origin.lines_before + line,
        object: origin.label(),
        field,
        problem,
        remedy,
    }
}

/// The error's message without its place, which is reported apart.
fn message(error: &Error) -> String {
    match error.without_snippet() {
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => msg.clone(),
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => {
            format!("found {unexpected} where {expected} is expected")
        }
        Error::InvalidScalar { ty, .. } => format!("not a valid {ty}"),
        Error::Unexpected { expected, .. } => format!("{expected} is expected here"),
        other => {
            let text = other.render();
            let end = text
                .rfind(" at line ")
                .or_else(|| text.find('\n'))
                .unwrap_or(text.len());
            text[..end].trim_start_matches("error: ").to_owned()
        }
    }
}

/// "did you mean" and, failing that, what there is.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.into_iter().collect();
    let lower = wrong.to_lowercase();
    // Typing mistakes change few letters; forgotten endings keep the beginning.
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        let distance = strsim::osa_distance(&lower, &name);
        if distance * 3 <= name.len().max(lower.len()) {
            return 2.0 - distance as f64 / 100.0;
        }
        strsim::jaro_winkler(&lower, &name)
    };
    let nearest = known
        .iter()
        .map(|name| (likeness(name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, name)) if likeness > 0.8 => format!("did you mean `{name}`?"),
        _ if known.is_empty() => "remove it".to_owned(),
        _ => format!("use one of {}", known.join(", ")),
    }
}
