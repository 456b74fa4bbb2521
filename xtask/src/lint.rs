//! `cargo xtask lint`: the rules that a compiler does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use causeway_maps::Reason;
use serde::Deserialize;

use crate::test::Tally;
use crate::workspace::{cargo, note, output, root, run as run_command};

/// Runs every check.
pub(crate) fn run() -> Result<ExitCode> {
    let tally = checks()?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

type Check = fn() -> Result<()>;

/// Runs every check and counts.
pub(crate) fn checks() -> Result<Tally> {
    let checks: &[(&str, Check)] = &[
        ("formatted", formatted),
        ("clippy", clippy),
        ("dependency edges", edges),
        ("pure sources", pure_sources),
        ("versions pinned", pinned),
        ("every reason raised by a test", reasons_tested),
        ("decisions numbered and listed", decisions),
        ("features with example and test", features),
        ("nothing left half done", finished),
    ];
    let mut total = Tally::default();
    for (name, check) in checks {
        note(format!("lint: {name}"));
        let outcome = check();
        if let Err(error) = &outcome {
            eprintln!("error: lint: {name}: {error:#}");
        }
        let tally = Tally::one(outcome.is_ok());
        total.passed += tally.passed;
        total.failed += tally.failed;
    }
    Ok(total)
}

fn formatted() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run_command(
        cargo()
            .args(["clippy", "--quiet", "--workspace", "--all-targets"])
            .args(["--", "-D", "warnings"]),
    )
}

/// Rooms that compute: what they need of the world is an argument.
const PURE: &[&str] = &[
    "causeway-bgp",
    "causeway-bfd",
    "causeway-net",
    "causeway-lb",
    "causeway-plan",
];

/// Packages that bring a runtime, the kernel, the cluster, a clock or chance.
const IMPURE: &[&str] = &[
    "async-std",
    "aya",
    "aya-obj",
    "chrono",
    "fastrand",
    "getrandom",
    "jiff",
    "k8s-openapi",
    "kube",
    "mio",
    "netlink-sys",
    "nix",
    "quanta",
    "rand",
    "rustix",
    "smol",
    "socket2",
    "time",
    "tokio",
    "uuid",
];

/// Edges forbidden besides: who, what, why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "causeway-bgp",
        &[
            "causeway-lb",
            "causeway-maps",
            "causeway-plan",
            "causeway-net",
        ],
        "only plan sees both ends",
    ),
    (
        "causeway-lb",
        &["causeway-bgp", "causeway-maps", "causeway-plan"],
        "only plan sees both ends",
    ),
    (
        "causeway-net",
        &["causeway-maps", "causeway-plan"],
        "only plan sees the maps",
    ),
    (
        "causeway-bfd",
        &["causeway-bgp", "causeway-maps"],
        "liveness knows no routes",
    ),
    (
        "causeway",
        &[
            "aya",
            "kube",
            "causeway-bgp",
            "causeway-datapath",
            "causeway-maps",
            "causeway-netlink",
        ],
        "the CLI speaks to the API only",
    ),
    (
        "causeway-api",
        &[
            "tokio",
            "aya",
            "kube",
            "causeway-bgp",
            "causeway-net",
            "causeway-plan",
        ],
        "the API owns its types and has no behaviour",
    ),
    (
        "causeway-config",
        &["tokio", "aya", "kube", "causeway-bgp", "causeway-plan"],
        "the CLI checks configuration with it, without a daemon",
    ),
    (
        "causeway-maps",
        &[
            "causeway-bgp",
            "causeway-net",
            "causeway-plan",
            "aya",
            "tokio",
        ],
        "both sides of the kernel share it",
    ),
];

fn edges() -> Result<()> {
    let text = output(cargo().args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--all-features",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&text)?;
    let found = forbidden_edges(&metadata);
    if !found.is_empty() {
        bail!("{}", found.join("; "));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<PackageInfo>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct PackageInfo {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `null` for what is linked into the crate, `"dev"` and `"build"` for what is not.
    kind: Option<String>,
}

/// One sentence for each path along which a package links what it must not.
fn forbidden_edges(metadata: &Metadata) -> Vec<String> {
    let names: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package.name.as_str()))
        .collect();
    let mut links: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &metadata.resolve.nodes {
        let linked = node
            .deps
            .iter()
            .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()))
            .filter_map(|dep| names.get(dep.pkg.as_str()).copied());
        if let Some(name) = names.get(node.id.as_str()) {
            links.entry(name).or_default().extend(linked);
        }
    }
    let pure = PURE.iter().map(|name| (*name, IMPURE, "it is a pure room"));
    let rules = pure.chain(FORBIDDEN.iter().copied());
    let mut found = Vec::new();
    for (from, forbidden, why) in rules {
        for to in forbidden {
            if let Some(path) = path(&links, from, to) {
                found.push(format!("{} is forbidden: {why}", path.join(" → ")));
            }
        }
    }
    found
}

/// The shortest chain of links from one package to another.
fn path<'a>(links: &BTreeMap<&'a str, Vec<&'a str>>, from: &str, to: &str) -> Option<Vec<&'a str>> {
    let (&start, _) = links.get_key_value(from)?;
    let mut parents = BTreeMap::from([(start, start)]);
    let mut front = vec![start];
    while !front.is_empty() {
        let mut next = Vec::new();
        for here in front {
            for &there in links.get(here).into_iter().flatten() {
                if parents.contains_key(there) {
                    continue;
                }
                parents.insert(there, here);
                if there == to {
                    let mut chain = vec![there];
                    while let Some(&last) = chain.last().filter(|last| **last != start) {
                        chain.push(parents[last]);
                    }
                    chain.reverse();
                    return Some(chain);
                }
                next.push(there);
            }
        }
        front = next;
    }
    None
}

/// What a pure room must not name, although the standard library offers it.
const IMPURE_WORDS: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

fn pure_sources() -> Result<()> {
    let mut found = Vec::new();
    for name in PURE {
        let dir = root()
            .join("control")
            .join(name.trim_start_matches("causeway-"));
        let sources = dir.join("src");
        if !sources.exists() {
            continue;
        }
        let lib = fs::read_to_string(sources.join("lib.rs"))?;
        if !lib.contains("#![forbid(unsafe_code)]") {
            found.push(format!("{name} does not forbid unsafe code"));
        }
        for file in rust_files(&sources)? {
            let text = fs::read_to_string(&file)?;
            found.extend(impure_lines(&text).map(|(line, word)| {
                format!(
                    "{}:{line}: names {word}",
                    file.strip_prefix(root()).unwrap_or(&file).display()
                )
            }));
        }
    }
    if !found.is_empty() {
        bail!("{}", found.join("; "));
    }
    Ok(())
}

/// Line numbers and words; tests, which stand last in a file, may read files.
fn impure_lines(text: &str) -> impl Iterator<Item = (usize, &'static str)> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter_map(|(n, line)| {
            let word = IMPURE_WORDS.iter().find(|word| line.contains(**word))?;
            Some((n + 1, *word))
        })
}

/// Packages whose minor releases change interfaces that we depend on: one exact version.
const EXACT: &[&str] = &["aya", "aya-obj", "aya-log", "aya-ebpf", "aya-log-ebpf"];

fn pinned() -> Result<()> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let mut found = unpinned(&manifest);
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml"))?;
    let exact = toolchain
        .lines()
        .filter_map(|line| line.strip_prefix("channel = "))
        .any(|channel| channel.trim_matches('"').split('.').count() == 3);
    if !exact {
        found.push("rust-toolchain.toml names no exact version".to_owned());
    }
    // `--locked` fails when the lock file is stale or absent.
    output(cargo().args(["metadata", "--format-version", "1", "--locked", "--no-deps"]))?;
    if !found.is_empty() {
        bail!("{}", found.join("; "));
    }
    Ok(())
}

fn unpinned(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in manifest.lines() {
        let Some((name, value)) = line.split_once(" = ") else {
            continue;
        };
        if value.contains("git = ") || value.contains("\"*\"") {
            found.push(format!("{name} is not a released version"));
        }
        if EXACT.contains(&name) && !value.contains("\"=") {
            found.push(format!("{name} wants an exact version (\"=…\")"));
        }
    }
    found
}

fn reasons_tested() -> Result<()> {
    let mut text = String::new();
    for file in rust_files(&root().join("tests/kernel"))? {
        text.push_str(&fs::read_to_string(file)?);
    }
    let untested = unraised(&text);
    if !untested.is_empty() {
        bail!("no kernel test raises {}", untested.join(", "));
    }
    Ok(())
}

fn unraised(tests: &str) -> Vec<String> {
    let words: BTreeSet<_> = tests
        .split(|c: char| !c.is_alphanumeric() && c != ':' && c != '_')
        .collect();
    Reason::ALL
        .iter()
        .map(|reason| format!("Reason::{reason:?}"))
        .filter(|name| !words.contains(name.as_str()))
        .collect()
}

fn finished() -> Result<()> {
    // Written in pieces, so that this file does not find itself.
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("#[ign", "ore"),
    ];
    let files = output(
        Command::new("git")
            .args(["ls-files", "*.rs"])
            .current_dir(root()),
    )?;
    let mut found = Vec::new();
    for file in files.lines() {
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            continue;
        };
        for (n, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                found.push(format!("{file}:{}: {mark}", n + 1));
            }
        }
    }
    if !found.is_empty() {
        bail!("{}", found.join("; "));
    }
    Ok(())
}

fn decisions() -> Result<()> {
    let dir = root().join("docs/decisions");
    let index = fs::read_to_string(dir.join("README.md"))?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    let found = misfiled(&names, &index);
    if !found.is_empty() {
        bail!("docs/decisions: {}", found.join("; "));
    }
    Ok(())
}

fn misfiled(names: &[String], index: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut numbers = BTreeSet::new();
    for name in names {
        let Some((number, _)) = name.split_once('-') else {
            continue;
        };
        if !numbers.insert(number) {
            found.push(format!("there are two {number}"));
        }
        if !index.contains(&format!("({name})")) {
            found.push(format!("README.md does not list {name}"));
        }
    }
    found
}

/// The table of features: RFC, field, example, test.
const FEATURES: &str = "docs/reference/bgp.md";

/// Fewer rows than this, and the table was not read.
const FEATURES_AT_LEAST: usize = 40;

fn features() -> Result<()> {
    let table = fs::read_to_string(root().join(FEATURES))?;
    let rows = feature_rows(&table);
    let mut found = Vec::new();
    if rows.len() < FEATURES_AT_LEAST {
        found.push(format!("{} rows only", rows.len()));
    }
    let mut shown = BTreeSet::new();
    for row in &rows {
        let read = |path: &str| fs::read_to_string(root().join(path)).ok();
        found.extend(unfounded(row, read));
        shown.extend(example_of(row));
    }
    for entry in fs::read_dir(root().join("docs/examples/bgp"))? {
        let path = format!("docs/examples/bgp/{}", entry?.file_name().display());
        if !shown.contains(&path) {
            found.push(format!("no row shows {path}"));
        }
    }
    if !found.is_empty() {
        bail!("{FEATURES}: {}", found.join("; "));
    }
    Ok(())
}

/// The cells of each row but the head.
fn feature_rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(str::trim).collect())
        .skip(1)
        .collect()
}

/// The file that a row links to.
fn example_of(row: &[&str]) -> Option<String> {
    let (_, link) = row.get(3)?.split_once("](../")?;
    Some(format!("docs/{}", link.trim_end_matches(')')))
}

/// What a row claims and the files don't hold.
fn unfounded(row: &[&str], read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let [feature, _, field, _, test] = row else {
        return vec![format!("a row without five columns: {row:?}")];
    };
    let mut found = Vec::new();
    let field = field.trim_matches('`');
    match example_of(row).map(|example| (read(&example), example)) {
        Some((None, example)) => found.push(format!("{feature}: no {example}")),
        Some((Some(yaml), example)) if !yaml.contains(&format!("{field}:")) => {
            found.push(format!("{feature}: {example} does not set {field}"));
        }
        None if field != "–" => found.push(format!("{feature}: no example sets {field}")),
        _ => {}
    }
    let exists = test
        .trim_matches('`')
        .split_once("::")
        .is_some_and(|(file, name)| {
            read(file).is_some_and(|text| text.contains(&format!("fn {name}(")))
        });
    if !exists {
        found.push(format!("{feature}: no test {test}"));
    }
    found
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !dir.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packages by name, and links as (from, to, kind).
    fn metadata(links: &[(&str, &str, Option<&str>)]) -> Metadata {
        let names: BTreeSet<_> = links
            .iter()
            .flat_map(|(from, to, _)| [*from, *to])
            .collect();
        let id = |name: &str| format!("path+file:///x/{name}#0.1.0");
        Metadata {
            packages: names
                .iter()
                .map(|name| PackageInfo {
                    id: id(name),
                    name: (*name).to_owned(),
                })
                .collect(),
            resolve: Resolve {
                nodes: names
                    .iter()
                    .map(|name| Node {
                        id: id(name),
                        deps: links
                            .iter()
                            .filter(|(from, ..)| from == name)
                            .map(|(_, to, kind)| Dependency {
                                pkg: id(to),
                                dep_kinds: vec![DependencyKind {
                                    kind: kind.map(str::to_owned),
                                }],
                            })
                            .collect(),
                    })
                    .collect(),
            },
        }
    }

    #[test]
    fn a_feature_needs_its_example_field_and_test() {
        let table = "| Feature | RFC | Field | Example | Test |\n|---|---|---|---|---|\n\
                     | A | 1 | `a` | [x](../examples/x.yaml) | `t.rs::a` |\n| B | 1 | – | – | `t.rs::b` |\n";
        let rows = feature_rows(table);
        assert_eq!(rows.len(), 2);
        let read = |yaml: &'static str| {
            move |path: &str| match path {
                "docs/examples/x.yaml" => Some(yaml.to_owned()),
                "t.rs" => Some("fn a() {}".to_owned()),
                _ => None,
            }
        };
        assert_eq!(unfounded(&rows[0], read("a: 1")), Vec::<String>::new());
        assert_eq!(
            unfounded(&rows[0], read("b: 1")),
            ["A: docs/examples/x.yaml does not set a"]
        );
        assert_eq!(unfounded(&rows[1], read("")), ["B: no test `t.rs::b`"]);
    }

    #[test]
    fn a_forbidden_edge_is_found_through_other_packages() {
        let found = forbidden_edges(&metadata(&[
            ("causeway-bgp", "handy", None),
            ("handy", "tokio", None),
        ]));
        assert_eq!(
            found,
            ["causeway-bgp → handy → tokio is forbidden: it is a pure room"]
        );
    }

    #[test]
    fn the_rooms_of_the_speaker_and_the_balancer_stay_apart() {
        let found = forbidden_edges(&metadata(&[
            ("causeway-bgp", "causeway-lb", None),
            ("causeway-plan", "causeway-bgp", None),
            ("causeway-plan", "causeway-lb", None),
            ("causeway-plan", "causeway-maps", None),
        ]));
        assert_eq!(
            found,
            ["causeway-bgp → causeway-lb is forbidden: only plan sees both ends"]
        );
    }

    #[test]
    fn what_only_tests_or_builds_link_is_allowed() {
        let found = forbidden_edges(&metadata(&[
            ("causeway-bgp", "tokio", Some("dev")),
            ("causeway-bgp", "rand", Some("build")),
        ]));
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_clock_in_a_pure_room_is_found_outside_tests_only() {
        let text =
            "// Instant::now in a comment\nlet t = Instant::now();\n#[cfg(test)]\nuse std::fs;\n";
        let found: Vec<_> = impure_lines(text).collect();
        assert_eq!(found, [(2, "Instant::now")]);
    }

    #[test]
    fn loose_versions_are_found() {
        let found = unpinned(
            "aya = \"0.14\"\nbytes = \"1\"\nx = { git = \"https://x\" }\naya-obj = \"=0.3.0\"\n",
        );
        assert_eq!(
            found,
            [
                "aya wants an exact version (\"=…\")",
                "x is not a released version"
            ]
        );
    }

    #[test]
    fn a_reason_without_a_test_is_named() {
        let all: String = Reason::ALL
            .iter()
            .map(|reason| format!("expect(Reason::{reason:?});\n"))
            .collect();
        assert_eq!(unraised(&all), [""; 0]);
        let some = all.replace("Reason::NoRoute", "Reason::NoRouteX");
        assert_eq!(unraised(&some), ["Reason::NoRoute"]);
    }

    #[test]
    fn a_decision_has_a_number_of_its_own_and_is_listed() {
        let names = ["0001-a.md", "0001-b.md", "README.md"].map(str::to_owned);
        assert_eq!(
            misfiled(&names, "[0001](0001-a.md)"),
            ["there are two 0001", "README.md does not list 0001-b.md"]
        );
        assert_eq!(misfiled(&names[..1], "[0001](0001-a.md)"), [""; 0]);
    }
}
