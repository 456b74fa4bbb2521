//! Links, addresses and neighbours as the kernel tells them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use causeway_net::{Fact, Link, NeighbourState};
use causeway_netlink::{Error, Event, Monitor, MonitorConfig, Neighbours};
use support::{Lab, Node};
use tokio::time::timeout;

use crate::on;

/// Longest wait for a fact.
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn the_first_event_is_everything_there_is() {
    Lab::test(|lab| {
        let (node, _other) = pair(lab)?;
        on(&node, async |_| {
            let facts = snapshot(&mut monitor()?).await?;
            let link = link_named(&facts, "up0")?;
            ensure!(link.up && link.carrier && link.mac.is_some() && link.mtu == 1500);
            let loopback = link_named(&facts, "lo")?;
            ensure!(loopback.loopback && loopback.mac.is_none());
            let addresses: Vec<_> = facts
                .iter()
                .filter_map(|fact| match fact {
                    Fact::Address(address) if address.ifindex == link.ifindex => {
                        Some((address.addr, address.subnet.to_string()))
                    }
                    _ => None,
                })
                .collect();
            for (addr, subnet) in [
                ("10.0.0.1", "10.0.0.0/24"),
                ("2001:db8::1", "2001:db8::/64"),
            ] {
                let wanted = (addr.parse()?, subnet.to_owned());
                ensure!(addresses.contains(&wanted), "{wanted:?} in {addresses:?}");
            }
            Ok(())
        })
    });
}

#[test]
fn a_neighbour_is_resolved_when_asked_and_comes_as_a_fact_in_both_families() {
    watching(
        async |Watched {
                   other,
                   mut monitor,
                   ifindex,
                   ..
               }| {
            let mac = mac_of(&other, "up1")?;
            let mut neighbours = Neighbours::open()?;
            for addr in ["10.0.0.2", "2001:db8::2"] {
                let addr: IpAddr = addr.parse()?;
                neighbours.keep_resolved(ifindex, addr).await?;
                // Asking twice changes nothing.
                neighbours.keep_resolved(ifindex, addr).await?;
                let found = until(&mut monitor, |fact| match fact {
                    Fact::Neighbour(neighbour) if neighbour.addr == addr => neighbour.resolved(),
                    _ => None,
                })
                .await?;
                ensure!(found.to_string() == mac, "{addr} is at {found}, not {mac}");
            }
            Ok(())
        },
    );
}

#[test]
fn a_neighbour_that_nobody_is_fails() {
    watching(
        async |Watched {
                   mut monitor,
                   ifindex,
                   ..
               }| {
            let nobody: IpAddr = "10.0.0.99".parse()?;
            Neighbours::open()?.keep_resolved(ifindex, nobody).await?;
            until(&mut monitor, |fact| match fact {
                Fact::Neighbour(neighbour) if neighbour.addr == nobody => {
                    (neighbour.state == NeighbourState::Failed).then_some(())
                }
                _ => None,
            })
            .await
        },
    );
}

#[test]
fn a_refusal_carries_the_kernels_words() {
    Lab::test(|lab| {
        let (node, _other) = pair(lab)?;
        on(&node, async |_| {
            let addr: IpAddr = "10.0.0.2".parse()?;
            let refused = Neighbours::open()?.keep_resolved(9_999, addr).await;
            let Err(Error::Refused { request, error }) = refused else {
                bail!("not refused: {refused:?}");
            };
            ensure!(request == "resolve 10.0.0.2 on interface 9999", "{request}");
            ensure!(error.errno == libc::ENODEV, "{error:?}");
            Ok(())
        })
    });
}

/// The kernel tells of link changes in batches, about one a second; after the first, watched links are read in quick
/// succession.
#[test]
fn four_links_cut_at_once_are_seen_within_milliseconds_of_the_last_cut() {
    Lab::test(|lab| {
        let (node, other) = (lab.node("node")?, lab.node("other")?);
        for n in 0..4 {
            node.link(&format!("up{n}"), &other, &format!("their{n}"))?;
        }
        on(&node, async |_| {
            let mut monitor = monitor()?;
            let facts = snapshot(&mut monitor).await?;
            let links: Vec<u32> = (0..4)
                .map(|n| Ok(link_named(&facts, &format!("up{n}"))?.ifindex))
                .collect::<Result<_>>()?;
            monitor.watch(links);
            // The kernel's batches are a second apart: after quiet, the first event would come at once.
            other.ip(["link set their0 down"])?;
            down(&mut monitor, 1).await?;
            other.ip(["link set their0 up"])?;
            until(&mut monitor, |fact| match fact {
                Fact::Link(link) if link.carrier => Some(()),
                _ => None,
            })
            .await?;
            // Cut while we look, as cables are.
            let cutter = std::thread::spawn(move || -> Result<Instant> {
                other.ip((0..4).map(|n| format!("link set their{n} down")))?;
                Ok(Instant::now())
            });
            down(&mut monitor, 4).await?;
            let seen = Instant::now();
            let cut = cutter.join().expect("the cutter doesn't panic")?;
            let took = seen.saturating_duration_since(cut);
            println!("all four seen {took:?} after the last was cut");
            ensure!(took < Duration::from_millis(50), "it took {took:?}");
            Ok(())
        })
    });
}

/// Ends of a pair that have the same index in their namespaces are to the kernel what an interface of its own is: it keeps
/// their next event back for a second after one that it told of.
#[test]
fn a_loss_that_the_kernel_keeps_back_is_seen_nevertheless() {
    Lab::test(|lab| {
        let (node, other) = (lab.node("node")?, lab.node("other")?);
        for (n, index) in [(0, 700), (1, 701)] {
            node.ip([format!(
                "link add up{n} index {index} type veth peer name their{n} index {index} netns {}",
                other.namespace()
            )])?;
            for (node, name) in [(&node, "up"), (&other, "their")] {
                node.ip([format!("link set {name}{n} up")])?;
            }
        }
        on(&node, async |_| {
            // Nothing but the carrier itself is to be the reason.
            let mut monitor = Monitor::open(MonitorConfig {
                link_interval: Duration::from_secs(600),
            })?;
            let facts = snapshot(&mut monitor).await?;
            monitor.watch([link_named(&facts, "up0")?.ifindex]);
            other.ip(["link set their1 down"])?;
            until(&mut monitor, lost("up1")).await?;
            // The quick looks after an event are over then.
            let nothing = until(&mut monitor, |_| None::<()>);
            let waited = timeout(Duration::from_millis(300), nothing).await;
            ensure!(waited.is_err(), "{waited:?}");
            let begin = Instant::now();
            other.ip(["link set their0 down"])?;
            until(&mut monitor, lost("up0")).await?;
            let took = begin.elapsed();
            println!("seen after {took:?}");
            ensure!(took < Duration::from_millis(250), "it took {took:?}");
            Ok(())
        })
    });
}

#[test]
fn a_link_cut_twice_within_a_second_is_told_each_time() {
    watching(
        async |Watched {
                   other,
                   mut monitor,
                   ifindex,
                   ..
               }| {
            monitor.watch([ifindex]);
            let carrier = |wanted: bool| {
                move |fact: &Fact| match fact {
                    Fact::Link(link) if link.ifindex == ifindex => {
                        (link.carrier == wanted).then_some(())
                    }
                    _ => None,
                }
            };
            let begin = Instant::now();
            for _ in 0..2 {
                other.ip(["link set up1 down"])?;
                until(&mut monitor, carrier(false)).await?;
                other.ip(["link set up1 up"])?;
                until(&mut monitor, carrier(true)).await?;
            }
            let took = begin.elapsed();
            println!("down, up, down, up told within {took:?}");
            ensure!(took < Duration::from_secs(1), "it took {took:?}");
            Ok(())
        },
    );
}

#[test]
fn a_reading_of_everything_that_is_cancelled_again_and_again_is_still_whole() {
    Lab::test(|lab| {
        let (node, _other) = pair(lab)?;
        node.ip((0..2_000_u32).map(permanent))?;
        on(&node, async |_| {
            let mut monitor = monitor()?;
            let mut cancelled = 0;
            let facts = loop {
                tokio::task::yield_now().await;
                let event = tokio::select! {
                    biased;
                    event = monitor.next() => Some(event?),
                    () = std::future::ready(()) => None,
                };
                match event {
                    Some(Event::Snapshot(facts)) => break facts,
                    Some(Event::Changes(facts)) => bail!("changes before a snapshot: {facts:?}"),
                    None => cancelled += 1,
                }
                ensure!(cancelled < 100_000, "it never ends");
            };
            ensure!(cancelled > 0, "nothing was cancelled");
            let there = permanent_neighbours(&facts);
            ensure!(there == 2_000, "{there} neighbours");
            Ok(())
        })
    });
}

#[test]
fn a_link_watched_later_is_read_at_once() {
    Lab::test(|lab| {
        let (node, other) = (lab.node("node")?, lab.node("other")?);
        on(&node, async |node| {
            // So slow that only the watch itself can be the reason.
            let mut monitor = Monitor::open(MonitorConfig {
                link_interval: Duration::from_secs(600),
            })?;
            snapshot(&mut monitor).await?;
            node.link("late", &other, "theirs")?;
            let link = |wanted: bool| {
                move |fact: &Fact| match fact {
                    Fact::Link(link) if link.name == "late" && link.carrier == wanted => {
                        Some(link.ifindex)
                    }
                    _ => None,
                }
            };
            let ifindex = until(&mut monitor, link(true)).await?;
            monitor.watch([ifindex]);
            other.ip(["link set theirs down"])?;
            until(&mut monitor, link(false)).await.map(drop)
        })
    });
}

#[test]
fn a_neighbour_that_is_released_is_no_longer_managed_and_keeps_its_address() {
    watching(
        async |Watched {
                   node,
                   mut monitor,
                   ifindex,
                   ..
               }| {
            let mut neighbours = Neighbours::open()?;
            for addr in ["10.0.0.2", "2001:db8::2"] {
                let addr: IpAddr = addr.parse()?;
                let shown = || node.run("ip", ["neigh", "show", "to", &addr.to_string()]);
                neighbours.keep_resolved(ifindex, addr).await?;
                until(&mut monitor, |fact| match fact {
                    Fact::Neighbour(neighbour) if neighbour.addr == addr => neighbour.resolved(),
                    _ => None,
                })
                .await?;
                ensure!(shown()?.contains("managed"), "{}", shown()?);
                neighbours.release(ifindex, addr).await?;
                let after = shown()?;
                ensure!(
                    !after.contains("managed") && after.contains("lladdr"),
                    "{after}"
                );
                neighbours.release(ifindex, "10.0.0.77".parse()?).await?;
            }
            Ok(())
        },
    );
}

#[test]
fn a_link_that_is_removed_goes_once() {
    watching(
        async |Watched {
                   node,
                   mut monitor,
                   ifindex,
                   ..
               }| {
            monitor.watch([ifindex]);
            node.ip(["link del up0"])?;
            let mut gone = 0;
            until(&mut monitor, |fact| {
                gone += u32::from(*fact == Fact::LinkGone { ifindex });
                (gone == 1).then_some(())
            })
            .await?;
            while let Ok(event) = timeout(Duration::from_millis(200), monitor.next()).await {
                if let Event::Changes(facts) = event? {
                    ensure!(!facts.contains(&Fact::LinkGone { ifindex }), "told twice");
                }
            }
            Ok(())
        },
    );
}

#[test]
fn after_lost_notifications_everything_is_told_anew() {
    Lab::test(|lab| {
        let (node, _other) = pair(lab)?;
        on(&node, async |node| {
            let mut monitor = monitor()?;
            snapshot(&mut monitor).await?;
            // Nobody reads meanwhile; the queue holds some hundred notifications.
            node.ip((0..4_000_u32).map(permanent))?;
            let facts = loop {
                match timeout(LIMIT, monitor.next()).await?? {
                    Event::Snapshot(facts) => break facts,
                    Event::Changes(_) => {}
                }
            };
            ensure!(monitor.overruns() > 0);
            let there = permanent_neighbours(&facts);
            ensure!(there == 4_000, "{there} neighbours");
            Ok(())
        })
    });
}

/// The line of `ip` that makes the `n`th neighbour on `up0`.
fn permanent(n: u32) -> String {
    format!(
        "neigh replace 10.0.{}.{} lladdr 02:00:00:00:00:09 dev up0 nud permanent",
        n / 200 + 1,
        n % 200 + 1
    )
}

fn permanent_neighbours(facts: &[Fact]) -> usize {
    facts
        .iter()
        .filter(|fact| matches!(fact, Fact::Neighbour(n) if n.state == NeighbourState::Permanent))
        .count()
}

/// Two nodes with a link, `up0` and `up1`, and addresses .1 and .2 of both families on it.
fn pair(lab: &Lab) -> Result<(Node, Node)> {
    let (node, other) = (lab.node("node")?, lab.node("other")?);
    node.link("up0", &other, "up1")?;
    node.address("up0", ["10.0.0.1/24", "2001:db8::1/64"])?;
    other.address("up1", ["10.0.0.2/24", "2001:db8::2/64"])?;
    Ok((node, other))
}

/// A node one of whose links is watched.
struct Watched<'a> {
    node: &'a Node,
    other: Node,
    monitor: Monitor,
    /// Of `up0`, whose other end is `up1`.
    ifindex: u32,
}

/// Runs `work` in a lab with a [`pair`], after the first snapshot.
fn watching(work: impl AsyncFnOnce(Watched<'_>) -> Result<()> + Send) {
    Lab::test(|lab| {
        let (node, other) = pair(lab)?;
        on(&node, async |node| {
            let mut monitor = monitor()?;
            let facts = snapshot(&mut monitor).await?;
            let ifindex = link_named(&facts, "up0")?.ifindex;
            work(Watched {
                node,
                other,
                monitor,
                ifindex,
            })
            .await
        })
    });
}

fn monitor() -> Result<Monitor> {
    Ok(Monitor::open(MonitorConfig::default())?)
}

async fn snapshot(monitor: &mut Monitor) -> Result<Vec<Fact>> {
    match timeout(LIMIT, monitor.next()).await?? {
        Event::Snapshot(facts) => Ok(facts),
        Event::Changes(facts) => bail!("changes before a snapshot: {facts:?}"),
    }
}

fn link_named(facts: &[Fact], name: &str) -> Result<Link> {
    let found = facts.iter().find_map(|fact| match fact {
        Fact::Link(link) if link.name == name => Some(link.clone()),
        _ => None,
    });
    found.with_context(|| format!("no link {name} in {facts:?}"))
}

/// Reads facts until `wanted` says something of one.
async fn until<T>(monitor: &mut Monitor, mut wanted: impl FnMut(&Fact) -> Option<T>) -> Result<T> {
    let search = async {
        loop {
            let (Event::Snapshot(facts) | Event::Changes(facts)) = monitor.next().await?;
            if let Some(found) = facts.iter().find_map(&mut wanted) {
                return Ok(found);
            }
        }
    };
    timeout(LIMIT, search)
        .await
        .context("no such fact came in time")?
}

/// Waits until `count` links have been told to be without carrier.
async fn down(monitor: &mut Monitor, count: usize) -> Result<()> {
    let mut links = std::collections::BTreeSet::new();
    until(monitor, |fact| {
        if let Fact::Link(link) = fact
            && !link.carrier
        {
            links.insert(link.ifindex);
        }
        (links.len() == count).then_some(())
    })
    .await
}

fn mac_of(node: &Node, interface: &str) -> Result<String> {
    let shown = node.run("ip", ["-br", "link", "show", interface])?;
    shown
        .split_whitespace()
        .nth(2)
        .map(str::to_owned)
        .with_context(|| format!("no address in {shown:?}"))
}

/// The loss of a link's carrier.
fn lost(name: &str) -> impl FnMut(&Fact) -> Option<()> {
    move |fact| match fact {
        Fact::Link(link) if link.name == name => (!link.carrier).then_some(()),
        _ => None,
    }
}
