//! Packets between namespaces of this kernel, forwarded by our programs.

use std::time::Duration;

use anyhow::{Result, ensure};
use support::causeway::Causeway;
use support::fabric::{CLIENTS, Fabric, PREFIXES, SERVERS, Tor};
use support::forwarding::{group_of, kernel_forwarded, xdp_forwarded};
use support::traffic::{ping, transfer};
use support::{Lab, wait_until};

use crate::in_the_machine;

/// The machine is emulated: everything takes ten times as long.
const LIMIT: Duration = Duration::from_secs(120);
const PINGS: u32 = 20;
const TRANSFER_BYTES: u64 = 256 << 10;

struct Stage {
    fabric: Fabric,
    _causeway: Causeway,
    _tors: [Tor; 2],
}

/// Our own daemon on both ToRs, everything learned, resolved and in the maps.
fn stage(lab: &Lab) -> Result<Stage> {
    let fabric = Fabric::new(lab)?;
    let start = |index| fabric.start_tor(index, None, |_| {});
    let tors = [start(0)?, start(1)?];
    let mut causeway = Causeway::start(&fabric.router, Fabric::gateway())?;
    causeway.wait_established(LIMIT)?;
    for prefix in PREFIXES {
        causeway.wait_paths(prefix, 2, LIMIT)?;
    }
    for prefix in CLIENTS {
        for tor in &tors {
            tor.wait_route(prefix, LIMIT)?;
        }
    }
    for server in SERVERS {
        wait_until(&format!("two members for {server}"), LIMIT, || {
            let group = group_of(&fabric.router, server)?;
            ensure!(group.len() == 2, "{group:?}");
            Ok(())
        })?;
        wait_until(&format!("an answer from {server}"), LIMIT, || {
            ensure!(ping(&fabric.client, server, 1)? == 1, "no answer");
            Ok(())
        })?;
    }
    Ok(Stage {
        fabric,
        _causeway: causeway,
        _tors: tors,
    })
}

#[test]
fn xdp_forwards_both_families_and_the_kernel_does_not() {
    in_the_machine();
    Lab::test(|lab| {
        let stage = stage(lab)?;
        let Fabric {
            client,
            router,
            server: target,
            ..
        } = &stage.fabric;
        let (xdp, kernel) = (xdp_forwarded(router)?, kernel_forwarded(router)?);
        for server in SERVERS {
            let answered = ping(client, server, PINGS)?;
            ensure!(answered == PINGS, "{server}: {answered} of {PINGS}");
            transfer(client, target, server, TRANSFER_BYTES)?;
        }
        let xdp = xdp_forwarded(router)? - xdp;
        let kernel = kernel_forwarded(router)? - kernel;
        let least = u64::from(4 * PINGS) + 2 * TRANSFER_BYTES / 1448;
        ensure!(xdp >= least, "XDP forwarded {xdp} of {least} packets");
        ensure!(kernel == 0, "the kernel forwarded {kernel} packets");
        Ok(())
    });
}
