//! The kernel's own table follows what is wanted: judged by what `ip` says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use causeway_net::kernel::{BLACKHOLE_METRIC, KernelTable, METRIC, PROTOCOL};
use causeway_net::{Hop, NextHopKey, Resolution, RouteTarget, SetId, Subnet, Unusable};
use causeway_netlink::{MAX_BATCH, RouteEvent, RouteEvents, RouteNews, RouteWriter};
use serde_json::Value;
use support::{Lab, Node};
use tokio::time::timeout;

use crate::on;

/// Longest wait for the kernel's table to be as wanted.
const LIMIT: Duration = Duration::from_secs(60);
/// What is quiet for so long will stay so.
const QUIET: Duration = Duration::from_millis(300);

/// The table and its sockets.
struct Rig {
    table: KernelTable,
    writer: RouteWriter,
    events: RouteEvents,
}

impl Rig {
    fn open() -> Result<Self> {
        let writer = RouteWriter::open()?;
        Ok(Self {
            table: KernelTable::new(true),
            events: RouteEvents::open(&writer)?,
            writer,
        })
    }

    /// Works until there is nothing to do and nothing more is told.
    async fn settle(&mut self) -> Result<()> {
        timeout(LIMIT, async {
            loop {
                if let Some(listing) = self.table.poll_listing() {
                    self.events.list(listing)?;
                }
                if let Some(batch) = self.table.poll(MAX_BATCH) {
                    let refused = self.writer.apply(batch).await?;
                    self.table.ack(refused);
                    continue;
                }
                match timeout(QUIET, self.events.next()).await {
                    Ok(event) => self.take(event?),
                    Err(_) => return Ok(()),
                }
            }
        })
        .await
        .context("the table does not settle")?
    }

    fn take(&mut self, event: RouteEvent) {
        let table = &mut self.table;
        match event {
            RouteEvent::ListingBegins => table.listing_begins(),
            RouteEvent::Listed(routes) => routes.iter().for_each(|r| table.found_route(r)),
            RouteEvent::ListingEnds => table.listing_ends(),
            RouteEvent::NextHops(found) => table.found_next_hops(found),
            RouteEvent::News(news) => {
                for news in news {
                    match news {
                        RouteNews::Route(route) => table.found_route(&route),
                        RouteNews::RouteGone(route) => table.lost_route(&route),
                        RouteNews::NextHop(id) => table.next_hop_touched(id),
                        RouteNews::Link(ifindex) => table.link_touched(ifindex),
                    }
                }
            }
            RouteEvent::Overrun => table.verify(true),
        }
    }

    /// Two next hops of each family, on `up0` and `up1`; set 1 has the IPv4 ones, set 2 the IPv6 ones.
    fn load(&mut self, links: [u32; 2]) -> Result<()> {
        for (set, addrs) in [
            (SetId(1), ["10.0.0.2", "10.0.1.2"]),
            (SetId(2), ["2001:db8::2", "2001:db8:0:1::2"]),
        ] {
            let mut hops = Vec::new();
            for (addr, ifindex) in addrs.into_iter().zip(links) {
                let key = key(addr)?;
                self.table.next_hop(key, Some(&reachable(ifindex)));
                hops.push(Hop { key, weight: 1 });
            }
            self.table.define(set, Some(hops.into()));
        }
        for prefix in ["203.0.113.0/24", "198.51.100.0/24"] {
            self.table.route(subnet(prefix)?, Some(SetId(1)));
        }
        self.table
            .route(subnet("2001:db8:203::/48")?, Some(SetId(2)));
        Ok(())
    }
}

/// Behind an interface that is no port: all that the kernel needs to know.
fn reachable(ifindex: u32) -> Resolution {
    Resolution::Unusable(Unusable::NotAPort { ifindex })
}

fn key(addr: &str) -> Result<NextHopKey> {
    Ok(NextHopKey {
        addr: addr.parse()?,
        link: None,
    })
}

fn subnet(text: &str) -> Result<Subnet> {
    let (addr, len) = text.split_once('/').context("no prefix")?;
    Subnet::new(addr.parse()?, len.parse()?).context("no prefix")
}

/// A node with two links and addresses of both families on each, and the other ends.
fn node(lab: &Lab) -> Result<(Node, Node)> {
    let (node, other) = (lab.node("node")?, lab.node("other")?);
    for n in 0..2 {
        let (up, their) = (format!("up{n}"), format!("their{n}"));
        node.link(&up, &other, &their)?;
        node.address(
            &up,
            [format!("10.0.{n}.1/24"), format!("2001:db8:0:{n}::1/64")],
        )?;
        other.address(
            &their,
            [format!("10.0.{n}.2/24"), format!("2001:db8:0:{n}::2/64")],
        )?;
    }
    Ok((node, other))
}

fn links(node: &Node) -> Result<[u32; 2]> {
    let index = |name: &str| -> Result<u32> {
        let shown = json(node, &["link", "show", name])?;
        let index = shown[0]["ifindex"].as_u64().context("no index")?;
        Ok(u32::try_from(index)?)
    };
    Ok([index("up0")?, index("up1")?])
}

fn json(node: &Node, words: &[&str]) -> Result<Value> {
    let text = node.run("ip", ["-j"].iter().chain(words))?;
    if text.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    Ok(serde_json::from_str(&text)?)
}

/// The interfaces by which our route to `prefix` leads, in the kernel's own words.
fn ways(node: &Node, prefix: &str) -> Result<BTreeSet<String>> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let protocol = PROTOCOL.to_string();
    let routes = json(node, &[family, "route", "show", prefix, "proto", &protocol])?;
    let route = &routes[0];
    let legs = match route["nexthops"].as_array() {
        Some(legs) => legs.iter().collect(),
        None => vec![route],
    };
    Ok(legs
        .into_iter()
        .filter_map(|leg| leg["dev"].as_str().map(str::to_owned))
        .collect())
}

fn both() -> BTreeSet<String> {
    ["up0", "up1"].map(str::to_owned).into()
}

fn only(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}

/// Our routes that the kernel counts in its own list.
fn count(node: &Node, family: &str) -> Result<usize> {
    let text = node.run(
        "ip",
        [family, "route", "show", "proto", &PROTOCOL.to_string()],
    )?;
    Ok(text.lines().filter(|line| !line.starts_with('\t')).count())
}

const PREFIXES: [&str; 3] = ["203.0.113.0/24", "198.51.100.0/24", "2001:db8:203::/48"];

/// A node whose table holds [`PREFIXES`].
struct Stage<'a> {
    node: &'a Node,
    other: Node,
    links: [u32; 2],
    rig: Rig,
}

/// Runs `work` in a lab where [`Rig::load`] is done and settled.
fn with_routes(work: impl AsyncFnOnce(Stage<'_>) -> Result<()> + Send) {
    Lab::test(|lab| {
        let (node, other) = node(lab)?;
        let links = links(&node)?;
        on(&node, async |node| {
            let mut rig = Rig::open()?;
            rig.load(links)?;
            rig.settle().await?;
            work(Stage {
                node,
                other,
                links,
                rig,
            })
            .await
        })
    });
}

#[test]
fn routes_of_both_families_use_groups_of_next_hop_objects() {
    with_routes(async |Stage { node, mut rig, .. }| {
        for prefix in PREFIXES {
            ensure!(ways(node, prefix)? == both(), "{prefix}");
        }
        let next_hops = json(node, &["nexthop", "show"])?;
        ensure!(
            next_hops.as_array().map_or(0, Vec::len) == 6,
            "four objects and two groups: {next_hops}"
        );
        let routes = json(node, &["-4", "route", "show", "203.0.113.0/24"])?;
        ensure!(routes[0]["metric"] == METRIC, "{routes}");
        ensure!(routes[0]["nhid"].is_u64(), "{routes}");
        // What it leads to is what the host's own traffic takes.
        let taken = rig.writer.matching("203.0.113.9".parse()?).await?;
        let taken = taken.context("no route")?;
        ensure!(
            taken.prefix == subnet("203.0.113.0/24")? && taken.protocol == PROTOCOL,
            "{taken:?}"
        );
        let RouteTarget::Legs(legs) = &taken.target else {
            bail!("its next hops are not spelled out: {taken:?}")
        };
        let legs: BTreeSet<_> = legs.iter().filter_map(|leg| leg.gateway).collect();
        let both = ["10.0.0.2".parse::<IpAddr>()?, "10.0.1.2".parse()?];
        ensure!(legs == both.into(), "{taken:?}");
        ensure!(rig.writer.matching("192.0.2.1".parse()?).await?.is_none());
        Ok(())
    });
}

#[test]
fn a_cut_link_leaves_the_routes_and_one_cut_whole_comes_back_with_them() {
    with_routes(
        async |Stage {
                   node,
                   other,
                   links,
                   mut rig,
               }| {
            let addrs = [["10.0.0.2", "2001:db8::2"], ["10.0.1.2", "2001:db8:0:1::2"]];
            let down = Resolution::Unusable(Unusable::NoCarrier);
            for (n, left) in [(0, only("up1")), (1, BTreeSet::new())] {
                other.ip([format!("link set their{n} down")])?;
                for addr in addrs[n] {
                    rig.table.next_hop(key(addr)?, Some(&down));
                }
                rig.settle().await?;
                for prefix in PREFIXES {
                    ensure!(ways(node, prefix)? == left, "{prefix}, {n}");
                }
            }
            for n in [0, 1] {
                other.ip([format!("link set their{n} up")])?;
            }
            std::thread::sleep(Duration::from_millis(100));
            for (addrs, link) in addrs.into_iter().zip(links) {
                for addr in addrs {
                    rig.table.next_hop(key(addr)?, Some(&reachable(link)));
                }
            }
            rig.settle().await?;
            for prefix in PREFIXES {
                ensure!(ways(node, prefix)? == both(), "{prefix}");
            }
            Ok(())
        },
    );
}

/// Carrier loss deletes objects, groups and routes, and the kernel tells of none of it.
#[test]
fn a_group_changes_its_members_without_a_word_about_each_of_its_routes() {
    with_routes(async |Stage { node, mut rig, .. }| {
        let compat_mode = || node.run("cat", ["/proc/sys/net/ipv4/nexthop_compat_mode"]);
        ensure!(compat_mode()? == "1\n", "the kernel's default");
        // Hears what this writer does, because it isn't its own.
        let mut watcher = RouteEvents::open(&RouteWriter::open()?)?;
        let (addr, elsewhere) = (key("10.0.1.2")?, Unusable::NoCarrier);
        let gone = Resolution::Unusable(elsewhere);
        rig.table.next_hop(addr, Some(&gone));
        rig.settle().await?;
        for prefix in &PREFIXES[..2] {
            ensure!(ways(node, prefix)? == only("up0"), "{prefix}");
        }
        let (mut groups, mut routes) = (0, 0);
        while let Ok(event) = timeout(QUIET, watcher.next()).await {
            let RouteEvent::News(news) = event? else {
                continue;
            };
            for news in news {
                match news {
                    RouteNews::NextHop(_) => groups += 1,
                    RouteNews::Route(_) | RouteNews::RouteGone(_) => routes += 1,
                    RouteNews::Link(_) => {}
                }
            }
        }
        ensure!(groups > 0, "the change itself is told");
        ensure!(routes == 0, "{routes} routes were told of");
        ensure!(compat_mode()? == "1\n", "it is as it was");
        Ok(())
    });
}

#[test]
fn a_flap_that_nobody_resolved_anew_is_repaired() {
    with_routes(async |Stage { node, mut rig, .. }| {
        node.ip(["link set up0 down", "link set up1 down"])?;
        ensure!(ways(node, PREFIXES[0])?.is_empty(), "the kernel kept it");
        node.ip(["link set up0 up", "link set up1 up"])?;
        rig.settle().await?;
        for prefix in PREFIXES {
            ensure!(ways(node, prefix)? == both(), "{prefix}");
        }
        ensure!(rig.table.summary().repaired > 0);
        Ok(())
    });
}

#[test]
fn drift_is_repaired() {
    with_routes(async |Stage { node, mut rig, .. }| {
        let object = json(node, &["nexthop", "show", "dev", "up0"])?[0]["id"].to_string();
        for damage in [
            format!("route del 203.0.113.0/24 metric {METRIC}"),
            format!("-6 route del 2001:db8:203::/48 metric {METRIC}"),
            format!("route replace 203.0.113.0/24 nhid {object} metric {METRIC} proto {PROTOCOL}"),
            format!("nexthop del id {object}"),
            "nexthop flush".to_owned(),
        ] {
            node.ip([&damage])?;
            rig.settle().await?;
            for prefix in PREFIXES {
                ensure!(ways(node, prefix)? == both(), "{prefix} after {damage}");
            }
        }
        Ok(())
    });
}

#[test]
fn routes_of_others_are_left_alone() {
    Lab::test(|lab| {
        let (node, _other) = node(lab)?;
        let links = links(&node)?;
        on(&node, async |node| {
            // One beside ours, and one where ours would be.
            let theirs = [
                "203.0.113.0/24 via 10.0.0.9 dev up0 proto static".to_owned(),
                format!("198.51.100.0/24 via 10.0.0.9 dev up0 proto static metric {METRIC}"),
            ];
            node.ip(theirs.iter().map(|route| format!("route add {route}")))?;
            let before = node.run("ip", ["route", "show", "proto", "static"])?;
            let mut rig = Rig::open()?;
            rig.load(links)?;
            rig.settle().await?;
            ensure!(node.run("ip", ["route", "show", "proto", "static"])? == before);
            ensure!(ways(node, "203.0.113.0/24")? == both());
            ensure!(ways(node, "198.51.100.0/24")?.is_empty());
            ensure!(rig.table.summary().conflicts == 1);
            node.ip([format!("route del {}", theirs[1])])?;
            rig.settle().await?;
            ensure!(ways(node, "198.51.100.0/24")? == both());
            // Somebody takes our place.
            node.ip([format!("route replace {}", theirs[1])])?;
            rig.table.route(subnet("198.51.100.0/24")?, None);
            rig.settle().await?;
            let stays = node.run("ip", ["route", "show", "198.51.100.0/24"])?;
            ensure!(stays.contains("proto static"), "{stays}");
            Ok(())
        })
    });
}

#[test]
fn the_next_one_takes_over_without_a_gap_and_prunes_what_nobody_wants() {
    Lab::test(|lab| {
        let (node, _other) = node(lab)?;
        let links = links(&node)?;
        on(&node, async |node| {
            let mut rig = Rig::open()?;
            rig.load(links)?;
            rig.table.own([subnet("10.244.0.0/24")?]);
            rig.settle().await?;
            let before = node.run("ip", ["nexthop", "show"])?;
            drop(rig);

            let mut rig = Rig::open()?;
            rig.settle().await?;
            rig.load(links)?;
            rig.table.route(subnet("198.51.100.0/24")?, None);
            rig.settle().await?;
            ensure!(ways(node, "198.51.100.0/24")? == both(), "kept until told");
            rig.table.prune();
            rig.settle().await?;
            ensure!(ways(node, "198.51.100.0/24")?.is_empty());
            ensure!(ways(node, "203.0.113.0/24")? == both());
            ensure!(node.run("ip", ["nexthop", "show"])? == before, "ids stay");
            let owned = node.run("ip", ["route", "show", "10.244.0.0/24"])?;
            ensure!(owned.is_empty(), "no longer owned: {owned}");
            Ok(())
        })
    });
}

#[test]
fn an_owned_range_is_a_blackhole_behind_everything_else() {
    Lab::test(|lab| {
        let (node, _other) = node(lab)?;
        on(&node, async |node| {
            let mut rig = Rig::open()?;
            for range in ["10.244.0.0/24", "2001:db8:244::/64"] {
                rig.table.own([subnet(range)?]);
                rig.settle().await?;
                let family = if range.contains(':') { "-6" } else { "-4" };
                let shown = json(node, &[family, "route", "show", range])?;
                ensure!(shown[0]["type"] == "blackhole", "{shown}");
                ensure!(shown[0]["metric"] == BLACKHOLE_METRIC, "{shown}");
            }
            rig.table.own([subnet("10.0.0.0/24")?]);
            rig.settle().await?;
            let way = node.run("ip", ["route", "get", "10.0.0.9"])?;
            ensure!(way.contains("dev up0"), "connected wins: {way}");
            Ok(())
        })
    });
}

#[test]
fn a_hundred_thousand_routes_go_in_within_seconds_and_survive_a_flap() {
    const ROUTES: u32 = 100_000;
    Lab::test(|lab| {
        let (node, _other) = node(lab)?;
        let links = links(&node)?;
        on(&node, async |node| {
            let mut rig = Rig::open()?;
            rig.settle().await?;
            rig.load(links)?;
            for n in 0..ROUTES {
                let addr = IpAddr::from((0x6400_0000 + (n << 8)).to_be_bytes());
                let prefix = Subnet::new(addr, 24).context("no prefix")?;
                rig.table.route(prefix, Some(SetId(1)));
            }
            let begin = Instant::now();
            rig.settle().await?;
            let took = begin.elapsed() - QUIET;
            let there = count(node, "-4")?;
            println!("{there} routes in {took:?}");
            ensure!(there == ROUTES as usize + 2, "{there} routes");
            ensure!(took < Duration::from_secs(20), "it took {took:?}");

            node.ip(["link set up0 down"])?;
            ensure!(count(node, "-4")? == there, "the other link carries them");
            node.ip(["link set up1 down"])?;
            ensure!(count(node, "-4")? == 0, "the kernel deletes them");
            node.ip(["link set up0 up", "link set up1 up"])?;
            let begin = Instant::now();
            rig.settle().await?;
            let took = begin.elapsed() - QUIET;
            println!("all of them again in {took:?}");
            ensure!(count(node, "-4")? == there);
            ensure!(ways(node, "100.0.7.0/24")? == both());
            Ok(())
        })
    });
}
