//! Packets from a client to a server behind two ToRs, forwarded by the daemon's programs.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use support::causeway::Causeway;
use support::fabric::{CLIENTS, Fabric, PREFIXES, SERVERS, Tor};
use support::forwarding::{group_of, kernel_forwarded, xdp_forwarded};
use support::peer::Implementation;
use support::traffic::{ProbeReport, Probes, ping, transfer};
use support::{Lab, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
const FLOWS: u16 = 8;
const EVERY: Duration = Duration::from_millis(2);

pub(crate) struct Stage {
    pub(crate) fabric: Fabric,
    pub(crate) causeway: Causeway,
    tors: [Tor; 2],
}

/// BIRD on both ToRs, everything learned, resolved and in the maps.
pub(crate) fn stage(lab: &Lab) -> Result<Stage> {
    let fabric = Fabric::new(lab)?;
    let start = |index| {
        fabric.start_tor(index, Some(Implementation::Bird), |neighbor| {
            neighbor.graceful_restart = true;
        })
    };
    let tors = [start(0)?, start(1)?];
    let mut config = Fabric::gateway();
    for neighbor in &mut config.router.neighbors {
        neighbor.graceful_restart = true;
    }
    let mut causeway = Causeway::start(&fabric.router, config)?;
    causeway.wait_established(LIMIT)?;
    for prefix in PREFIXES {
        causeway.wait_paths(prefix, 2, LIMIT)?;
    }
    for prefix in CLIENTS {
        for tor in &tors {
            tor.wait_route(prefix, LIMIT)?;
        }
    }
    let stage = Stage {
        fabric,
        causeway,
        tors,
    };
    for server in SERVERS {
        stage.wait_members(server, 2)?;
        wait_until(&format!("an answer from {server}"), LIMIT, || {
            ensure!(ping(&stage.fabric.client, server, 1)? == 1, "no answer");
            Ok(())
        })?;
    }
    Ok(stage)
}

impl Stage {
    fn wait_members(&self, server: IpAddr, members: usize) -> Result<()> {
        wait_until(&format!("{members} members for {server}"), LIMIT, || {
            let group = group_of(&self.fabric.router, server)?;
            ensure!(group.len() == members, "{group:?}");
            Ok(())
        })
    }

    /// Probes to both addresses of the server while `work` runs.
    fn probe(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<[ProbeReport; 2]> {
        let start = |server| {
            Probes::start(
                &self.fabric.client,
                &self.fabric.server,
                server,
                FLOWS,
                EVERY,
            )
        };
        let [v4, v6] = SERVERS.map(start);
        let (v4, v6) = (v4?, v6?);
        std::thread::sleep(Duration::from_millis(300));
        let done = work(self);
        std::thread::sleep(Duration::from_millis(300));
        let reports = [v4.finish()?, v6.finish()?];
        done.map(|()| reports)
    }
}

#[test]
fn xdp_forwards_and_the_kernel_does_not() {
    Lab::test(|lab| {
        let stage = stage(lab)?;
        let router = &stage.fabric.router;
        let (xdp, kernel) = (xdp_forwarded(router)?, kernel_forwarded(router)?);
        for server in SERVERS {
            ensure!(
                ping(&stage.fabric.client, server, 20)? == 20,
                "{server} lost pings"
            );
            transfer(&stage.fabric.client, &stage.fabric.server, server, 1 << 20)?;
        }
        let (xdp, kernel) = (
            xdp_forwarded(router)? - xdp,
            kernel_forwarded(router)? - kernel,
        );
        ensure!(xdp > 80 + 2 * (1 << 20) / 1448, "XDP forwarded {xdp}");
        ensure!(kernel == 0, "the kernel forwarded {kernel}");
        Ok(())
    });
}

/// The maps and the attached programs are pinned: they outlive the daemon, and the next one takes them over.
#[test]
fn no_packet_is_lost_while_the_daemon_is_dead_and_comes_back() {
    Lab::test(|lab| {
        let mut stage = stage(lab)?;
        let reports = stage.probe(|stage| {
            stage.causeway.kill()?;
            std::thread::sleep(Duration::from_millis(1500));
            stage.causeway.restart()?;
            stage.causeway.wait_established(LIMIT)?;
            for prefix in PREFIXES {
                stage.causeway.wait_paths(prefix, 2, LIMIT)?;
            }
            Ok(())
        })?;
        for report in reports {
            ensure!(report.sent > 500, "{report:?}");
            ensure!(report.lost() == 0, "{report:?}");
            ensure!(report.returned == report.arrived, "{report:?}");
        }
        for server in SERVERS {
            stage.wait_members(server, 2)?;
        }
        Ok(())
    });
}

#[test]
fn each_link_may_fail_in_turn() {
    Lab::test(|lab| {
        let mut stage = stage(lab)?;
        for index in [0, 1] {
            let reports = stage.probe(|stage| {
                let tor = &stage.fabric.tors[index];
                tor.ip(["link set router down"])?;
                for server in SERVERS {
                    stage.wait_members(server, 1)?;
                }
                stage.fabric.tors[index].ip(["link set router up"])?;
                for server in SERVERS {
                    stage.wait_members(server, 2)?;
                }
                Ok(())
            })?;
            for report in reports {
                // The kernel may hold a link event back for a second.
                ensure!(report.longest_outage < Duration::from_secs(3), "{report:?}");
                ensure!(report.arrived * 2 > report.sent, "{report:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_dead_tor_is_left_and_taken_back() {
    Lab::test(|lab| {
        let mut stage = stage(lab)?;
        // Without its daemon, but with its links: only BGP can tell. Its graceful restart ends with its timer.
        let Tor::Real(bird) = &mut stage.tors[0] else {
            unreachable!("the stage has real ToRs")
        };
        bird.shut("10.0.1.1", "off")?;
        bird.shut("fd00:0:1::1", "off")?;
        for server in SERVERS {
            stage.wait_members(server, 1)?;
            // The ToR itself needs a moment to send answers by the other one.
            wait_until(&format!("all answers from {server}"), LIMIT, || {
                let answered = ping(&stage.fabric.client, server, 20)?;
                ensure!(answered == 20, "{answered} of 20");
                Ok(())
            })?;
        }
        let Tor::Real(bird) = &mut stage.tors[0] else {
            unreachable!("the stage has real ToRs")
        };
        bird.restart()?;
        for server in SERVERS {
            stage.wait_members(server, 2)?;
        }
        Ok(())
    });
}

#[test]
fn a_tor_with_a_new_mac_address_is_followed() {
    Lab::test(|lab| {
        let stage = stage(lab)?;
        stage.fabric.tors[1].ip(["link set router address 02:00:00:00:12:34"])?;
        // Its answers to the router's probes, or its own packets, tell the new address.
        for server in SERVERS {
            wait_until(&format!("every flow to {server} to arrive"), LIMIT, || {
                let probes = Probes::start(
                    &stage.fabric.client,
                    &stage.fabric.server,
                    server,
                    FLOWS,
                    EVERY,
                )?;
                std::thread::sleep(Duration::from_millis(200));
                let report = probes.finish()?;
                ensure!(report.lost() == 0, "{report:?}");
                Ok(())
            })?;
        }
        Ok(())
    });
}

/// The ways that the kernel's own route to a server's prefix takes, in its words.
fn kernel_ways(router: &support::Node, prefix: &str) -> Result<usize> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let text = router.run("ip", [family, "-j", "route", "show", prefix, "proto", "67"])?;
    let routes: serde_json::Value = serde_json::from_str(text.trim()).unwrap_or_default();
    let route = &routes[0];
    Ok(match route["nexthops"].as_array() {
        Some(ways) => ways.len(),
        None => usize::from(route["dev"].is_string()),
    })
}

fn wait_kernel_ways(router: &support::Node, ways: usize) -> Result<()> {
    for prefix in PREFIXES {
        wait_until(&format!("{ways} ways to {prefix}"), LIMIT, || {
            let found = kernel_ways(router, prefix)?;
            ensure!(found == ways, "{found}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn the_kernels_own_table_follows_links_and_outlives_the_daemon() {
    Lab::test(|lab| {
        let mut stage = stage(lab)?;
        let router = stage.fabric.router.clone();
        wait_kernel_ways(&router, 2)?;
        // The host's own traffic takes it.
        for server in SERVERS {
            ensure!(
                ping(&router, server, 3)? == 3,
                "{server} does not answer the router"
            );
        }
        // What the router originates ends there; what is connected wins.
        let owned = router.run("ip", ["route", "show", CLIENTS[0]])?;
        ensure!(
            owned.contains("blackhole") && owned.contains("dev client"),
            "{owned}"
        );
        for index in [0, 1] {
            stage.fabric.tors[index].ip(["link set router down"])?;
            wait_kernel_ways(&router, 1)?;
            stage.fabric.tors[index].ip(["link set router up"])?;
            wait_kernel_ways(&router, 2)?;
        }
        stage.causeway.kill()?;
        wait_kernel_ways(&router, 2)?;
        stage.causeway.restart()?;
        stage.causeway.wait_established(LIMIT)?;
        for prefix in PREFIXES {
            stage.causeway.wait_paths(prefix, 2, LIMIT)?;
        }
        wait_kernel_ways(&router, 2)
    });
}

/// Its link is up and its session stands: only the neighbour table tells.
#[test]
fn a_neighbour_that_stops_answering_is_left_and_taken_back() {
    Lab::test(|lab| {
        let stage = stage(lab)?;
        let begin = std::time::Instant::now();
        stage.fabric.tors[1].ip(["addr del 10.0.2.2/24 dev router"])?;
        stage.wait_members(SERVERS[0], 1)?;
        println!("left after {:?}", begin.elapsed());
        wait_until("all answers", LIMIT, || {
            let answered = ping(&stage.fabric.client, SERVERS[0], 20)?;
            ensure!(answered == 20, "{answered} of 20");
            Ok(())
        })?;
        stage.fabric.tors[1].address("router", ["10.0.2.2/24"])?;
        stage.wait_members(SERVERS[0], 2)
    });
}

#[test]
fn both_links_cut_at_once_come_back_with_everything() {
    Lab::test(|lab| {
        let stage = stage(lab)?;
        let router = &stage.fabric.router;
        // Cut at this end: both go in one go.
        for way in ["down", "up"] {
            router.ip([
                format!("link set tor1 {way}"),
                format!("link set tor2 {way}"),
            ])?;
            let members = if way == "down" { 0 } else { 2 };
            wait_kernel_ways(router, members)?;
        }
        for server in SERVERS {
            stage.wait_members(server, 2)?;
            wait_until("all answers", LIMIT, || {
                let answered = ping(&stage.fabric.client, server, 20)?;
                ensure!(answered == 20, "{answered} of 20");
                Ok(())
            })?;
        }
        Ok(())
    });
}
