//! The demo's racks, held to what it shows: between racks, from beyond the spines, without a spine, without a daemon.

use std::time::Duration;

use anyhow::{Result, ensure};
use support::forwarding::{group_of, kernel_forwarded, xdp_forwarded};
use support::peer::Implementation;
use support::racks::{RACKS, Racks, pod_addresses};
use support::traffic::{ProbeReport, Probes, ping};
use support::{Lab, Node, wait_until};

const LIMIT: Duration = Duration::from_secs(90);
const FLOWS: u16 = 4;
const EVERY: Duration = Duration::from_millis(2);
/// The demo, alone on its machine, shows 50 ms; other tests run beside this one.
const SPINE_LOSS: Duration = Duration::from_millis(250);

#[test]
fn pods_and_the_client_reach_pods_through_both_spines_and_no_kernel() {
    Lab::test(|lab| {
        let racks = start(lab)?;
        let before = forwarded(&racks)?;
        let pings = 20;
        for address in pod_addresses(2, 0) {
            for from in [&racks.pods[0][0], &racks.client.node] {
                let answered = ping(from, address, pings)?;
                ensure!(answered == pings, "{address}: {answered} of {pings}");
            }
        }
        let mut streams = streams(&racks, 32)?;
        std::thread::sleep(Duration::from_millis(500));
        let reports = finish(&mut streams)?;
        let after = forwarded(&racks)?;
        let carried: Vec<u64> = (0..RACKS).map(|s| after.0[s] - before.0[s]).collect();
        let all: u64 = carried.iter().sum();
        let least: u64 = reports.iter().map(|report| 2 * report.arrived).sum();
        ensure!(all >= least, "{carried:?} of at least {least}");
        ensure!(carried.iter().all(|one| one * 5 > all), "{carried:?}");
        ensure!(after.1 == before.1, "the kernels forwarded");
        Ok(())
    });
}

#[test]
fn a_killed_daemon_comes_back_and_no_packet_of_its_pods_is_lost() {
    Lab::test(|lab| {
        let mut racks = start(lab)?;
        let mut streams = streams(&racks, FLOWS)?;
        let near = &racks.pods[0][0];
        for address in pod_addresses(0, 0) {
            streams.push(Probes::start(
                &racks.client.node,
                near,
                address,
                FLOWS,
                EVERY,
            )?);
        }
        std::thread::sleep(Duration::from_millis(300));
        let causeway = &mut racks.nodes[0].causeway;
        causeway.kill()?;
        std::thread::sleep(Duration::from_millis(1000));
        causeway.restart()?;
        causeway.wait_established(LIMIT)?;
        std::thread::sleep(Duration::from_millis(1000));
        for report in finish(&mut streams)? {
            println!("{report:?}");
            ensure!(report.sent > 500, "{report:?}");
            ensure!(report.lost() == 0, "{report:?}");
            ensure!(report.returned == report.arrived, "{report:?}");
        }
        Ok(())
    });
}

#[test]
fn a_spine_that_vanishes_takes_little_along() {
    Lab::test(|lab| {
        let mut racks = start(lab)?;
        let mut streams = streams(&racks, FLOWS)?;
        std::thread::sleep(Duration::from_millis(300));
        racks.remove_spine(lab)?;
        std::thread::sleep(Duration::from_millis(1500));
        for report in finish(&mut streams)? {
            println!("lost {} of {}: {report:?}", report.lost(), report.sent);
            ensure!(report.sent > 500, "{report:?}");
            ensure!(report.longest_gap <= SPINE_LOSS, "{report:?}");
        }
        for address in pod_addresses(2, 0) {
            wait_until(&format!("one next hop for {address}"), LIMIT, || {
                let group = group_of(&racks.client.node, address)?;
                ensure!(group.len() == 1, "{group:?}");
                Ok(())
            })?;
        }
        Ok(())
    });
}

/// FRR and BIRD as ToRs, everybody reachable.
fn start(lab: &Lab) -> Result<Racks> {
    let mut racks = Racks::start(lab, [Some(Implementation::Frr), Some(Implementation::Bird)])?;
    racks.wait_established(LIMIT)?;
    racks.wait_routes(LIMIT)?;
    racks.wait_reachable(LIMIT)?;
    Ok(racks)
}

/// From the other rack and from the client to a pod of the last node, in both families.
fn streams(racks: &Racks, flows: u16) -> Result<Vec<Probes>> {
    let to = &racks.pods[2][1];
    let sources: [&Node; 2] = [&racks.pods[0][1], &racks.client.node];
    let mut streams = Vec::new();
    for address in pod_addresses(2, 1) {
        for from in sources {
            streams.push(Probes::start(from, to, address, flows, EVERY)?);
        }
    }
    Ok(streams)
}

fn finish(streams: &mut Vec<Probes>) -> Result<Vec<ProbeReport>> {
    streams.drain(..).map(Probes::finish).collect()
}

/// By XDP on each spine, and by their kernels.
fn forwarded(racks: &Racks) -> Result<(Vec<u64>, u64)> {
    let (mut xdp, mut kernel) = (Vec::new(), 0);
    for spine in &racks.spines {
        xdp.push(xdp_forwarded(&spine.node)?);
        kernel += kernel_forwarded(&spine.node)?;
    }
    Ok((xdp, kernel))
}
