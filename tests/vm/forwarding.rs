//! Packets between namespaces of this kernel, forwarded by our programs: by XDP, by TC without it, and with the daemon dead.

use anyhow::{Result, ensure};
use causeway_maps::Hook;
use support::causeway::Causeway;
use support::fabric::{CLIENTS, Fabric, PREFIXES, SERVERS, Tor, UPLINKS};
use support::forwarding::{forwarded_at, group_of, kernel_forwarded};
use support::traffic::{ping, transfer};
use support::{Lab, Node, wait_until};

use crate::{LIMIT, detach_xdp, in_the_machine};

const PINGS: u32 = 20;
const TRANSFER_BYTES: u64 = 256 << 10;

struct Stage {
    fabric: Fabric,
    causeway: Causeway,
    tors: [Tor; 2],
}

impl Stage {
    /// Our own daemon on both ToRs, everything learned, resolved and in the maps.
    fn start(lab: &Lab) -> Result<Self> {
        let fabric = Fabric::new(lab)?;
        // The router's death ends its sessions; the ToRs keep its routes meanwhile.
        let start =
            |index| fabric.start_tor(index, None, |neighbor| neighbor.graceful_restart = true);
        let tors = [start(0)?, start(1)?];
        let mut config = Fabric::gateway();
        for neighbor in &mut config.router.neighbors {
            neighbor.graceful_restart = true;
        }
        let causeway = Causeway::start(&fabric.router, config)?;
        let mut stage = Self {
            fabric,
            causeway,
            tors,
        };
        stage.wait()?;
        Ok(stage)
    }

    fn wait(&mut self) -> Result<()> {
        self.causeway.wait_established(LIMIT)?;
        for prefix in PREFIXES {
            self.causeway.wait_paths(prefix, 2, LIMIT)?;
        }
        for prefix in CLIENTS {
            for tor in &self.tors {
                tor.wait_route(prefix, LIMIT)?;
            }
        }
        for server in SERVERS {
            wait_until(&format!("two members for {server}"), LIMIT, || {
                let group = group_of(&self.fabric.router, server)?;
                ensure!(group.len() == 2, "{group:?}");
                Ok(())
            })?;
            wait_until(&format!("an answer from {server}"), LIMIT, || {
                ensure!(ping(&self.fabric.client, server, 1)? == 1, "no answer");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Echoes and bytes in both families, all of which the program at `hook` of the router sends on, and its kernel none.
    fn carries(&self, hook: Hook) -> Result<()> {
        let Fabric {
            client,
            router,
            server: target,
            ..
        } = &self.fabric;
        let (ours, kernel) = (forwarded_at(router, hook)?, kernel_forwarded(router)?);
        for server in SERVERS {
            let answered = ping(client, server, PINGS)?;
            ensure!(answered == PINGS, "{server}: {answered} of {PINGS}");
            transfer(client, target, server, TRANSFER_BYTES)?;
        }
        let ours = forwarded_at(router, hook)? - ours;
        let kernel = kernel_forwarded(router)? - kernel;
        // Segments may pass TC together.
        let segments = match hook {
            Hook::Xdp => 2 * TRANSFER_BYTES / 1448,
            Hook::TcUplink | Hook::TcPod => 0,
        };
        let least = u64::from(4 * PINGS) + segments;
        ensure!(
            ours >= least,
            "{hook:?} forwarded {ours} of {least} packets"
        );
        ensure!(kernel == 0, "the kernel forwarded {kernel} packets");
        Ok(())
    }
}

/// Filters of ours on an interface, as `tc` shows them.
fn filters(node: &Node, interface: &str) -> Result<usize> {
    let shown = node.run("tc", ["filter", "show", "dev", interface, "ingress"])?;
    Ok(shown.matches("causeway_tc_uplink").count())
}

#[test]
fn xdp_forwards_both_families_also_while_the_daemon_is_dead() {
    in_the_machine();
    Lab::test(|lab| {
        let mut stage = Stage::start(lab)?;
        stage.carries(Hook::Xdp)?;
        stage.causeway.kill()?;
        stage.carries(Hook::Xdp)?;
        stage.causeway.restart()?;
        stage.wait()?;
        stage.carries(Hook::Xdp)?;
        for uplink in UPLINKS {
            let filters = filters(&stage.fabric.router, uplink)?;
            ensure!(filters == 1, "{filters} filters on {uplink}");
        }
        Ok(())
    });
}

/// This kernel has no TCX: the programs are filters of `clsact`.
#[test]
fn without_xdp_filters_of_clsact_forward_both_families_also_while_the_daemon_is_dead() {
    in_the_machine();
    Lab::test(|lab| {
        let mut stage = Stage::start(lab)?;
        detach_xdp(&stage.fabric.router)?;
        stage.carries(Hook::TcUplink)?;
        stage.causeway.kill()?;
        stage.carries(Hook::TcUplink)
    });
}
