//! What a recording means, as read by `bgpdump`: somebody else's parser, and the plainest possible tables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A route in the words that both sides share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// AS path as text, blanks between the members of a set: `1853 1239 {7018 3356}`.
    pub(crate) as_path: String,
    /// `IGP`, `EGP` or `INCOMPLETE`.
    pub(crate) origin: String,
    /// MULTI_EXIT_DISC; bgpdump prints an absent one as 0.
    pub(crate) med: u32,
    /// Standard communities, sorted.
    pub(crate) communities: Vec<String>,
}

/// One table: prefix as text → route.
pub(crate) type Table = BTreeMap<String, Route>;

/// What each peer's announcements and withdrawals leave behind, by the peer's recorded address.
///
/// # Errors
///
/// If `bgpdump` is missing or its output is not understood.
pub(crate) fn tables(file: &Path) -> Result<BTreeMap<IpAddr, Table>> {
    let output = Command::new("bgpdump")
        .arg("-m")
        .arg(file)
        .output()
        .context("bgpdump does not start; `cargo xtask setup` installs it")?;
    ensure!(
        output.status.success(),
        "bgpdump failed on {}",
        file.display()
    );
    let mut tables = BTreeMap::<IpAddr, Table>::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let (Some(&action), Some(&peer)) = (fields.get(2), fields.get(3)) else {
            continue;
        };
        match action {
            "A" | "B" => {
                let [
                    _,
                    _,
                    _,
                    _,
                    _,
                    prefix,
                    as_path,
                    origin,
                    _,
                    _,
                    med,
                    communities,
                    ..,
                ] = fields[..]
                else {
                    anyhow::bail!("bgpdump printed a short line: {line}");
                };
                let mut communities: Vec<String> = communities
                    .split_whitespace()
                    .map(numeric_community)
                    .collect();
                communities.sort();
                communities.dedup();
                tables.entry(peer.parse()?).or_default().insert(
                    prefix.to_owned(),
                    Route {
                        as_path: as_path.replace(',', " "),
                        origin: origin.to_owned(),
                        med: med.parse()?,
                        communities,
                    },
                );
            }
            "W" => {
                let prefix = fields.get(5).context("a withdrawal without a prefix")?;
                tables.entry(peer.parse()?).or_default().remove(*prefix);
            }
            _ => {}
        }
    }
    Ok(tables)
}

/// bgpdump writes well-known communities by name.
fn numeric_community(text: &str) -> String {
    match text {
        "no-export" => "65535:65281".to_owned(),
        "no-advertise" => "65535:65282".to_owned(),
        "local-AS" => "65535:65283".to_owned(),
        other => other.to_owned(),
    }
}

/// The best route of each prefix by RFC 9.1.2.2 among eBGP peers of equal local preference: AS path length, origin, MED
/// within a neighbouring AS, lowest BGP identifier, lowest address. Candidates are (identifier, address, table).
pub(crate) fn best(candidates: &[([u8; 4], IpAddr, &Table)]) -> BTreeMap<String, (IpAddr, Route)> {
    let mut by_prefix = BTreeMap::<&String, Vec<([u8; 4], IpAddr, &Route)>>::new();
    for (router_id, peer, table) in candidates {
        for (prefix, route) in *table {
            by_prefix
                .entry(prefix)
                .or_default()
                .push((*router_id, *peer, route));
        }
    }
    let mut best = BTreeMap::new();
    for (prefix, mut routes) in by_prefix {
        keep_lowest(&mut routes, |(_, _, route)| path_length(&route.as_path));
        keep_lowest(&mut routes, |(_, _, route)| origin_rank(&route.origin));
        let all = routes.clone();
        routes.retain(|(_, _, route)| {
            let rivals = all.iter().filter(|(_, _, other)| {
                neighbour_as(&other.as_path) == neighbour_as(&route.as_path)
            });
            rivals
                .map(|(_, _, other)| other.med)
                .all(|med| route.med <= med)
        });
        keep_lowest(&mut routes, |(router_id, _, _)| *router_id);
        keep_lowest(&mut routes, |(_, peer, _)| *peer);
        if let [(_, peer, route)] = routes[..] {
            best.insert(prefix.clone(), (peer, route.clone()));
        }
    }
    best
}

fn keep_lowest<T, K: Ord>(routes: &mut Vec<T>, key: impl Fn(&T) -> K) {
    if let Some(lowest) = routes.iter().map(&key).min() {
        routes.retain(|route| key(route) == lowest);
    }
}

/// An AS_SET counts as one (RFC 4271 9.1.2.2 a).
fn path_length(as_path: &str) -> usize {
    let mut in_set = false;
    let mut length = 0;
    for word in as_path.split_whitespace() {
        length += usize::from(!in_set);
        in_set = (in_set || word.starts_with('{')) && !word.ends_with('}');
    }
    length
}

fn origin_rank(origin: &str) -> u8 {
    match origin {
        "IGP" => 0,
        "EGP" => 1,
        _ => 2,
    }
}

fn neighbour_as(as_path: &str) -> Option<&str> {
    as_path.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(as_path: &str, med: u32) -> Route {
        Route {
            as_path: as_path.into(),
            origin: "IGP".into(),
            med,
            communities: Vec::new(),
        }
    }

    #[test]
    fn a_set_counts_as_one() {
        assert_eq!(path_length("1 2 {3 4 5}"), 3);
        assert_eq!(path_length("1 {2} 3"), 3);
        assert_eq!(path_length(""), 0);
    }

    #[test]
    fn med_counts_only_within_one_neighbouring_as() {
        let table = |as_path, med| Table::from([("10.0.0.0/8".to_owned(), route(as_path, med))]);
        let (a, b, c) = (table("1 9", 10), table("1 8", 5), table("2 9", 100));
        let peer = |n: u8| IpAddr::from([10, 0, 0, n]);
        let best = best(&[
            ([1; 4], peer(1), &a),
            ([2; 4], peer(2), &b),
            ([3; 4], peer(3), &c),
        ]);
        assert_eq!(best["10.0.0.0/8"].0, peer(2));
    }
}
