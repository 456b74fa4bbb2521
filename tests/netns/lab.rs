//! The lab's measurements over a path that is known to work: the kernel's own forwarding.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use support::forwarding::kernel_forwarded;
use support::traffic::{Probes, ping, transfer};
use support::{Lab, Node};

struct Path {
    client: Node,
    router: Node,
    server: Node,
}

const SERVERS: [&str; 2] = ["10.2.0.10", "fd00:2::10"];

fn path(lab: &Lab) -> Result<Path> {
    let (client, router, server) = (
        lab.node("client")?,
        lab.node("router")?,
        lab.node("server")?,
    );
    client.link("eth0", &router, "client")?;
    router.link("server", &server, "eth0")?;
    client.address("eth0", ["10.1.0.10/24", "fd00:1::10/64"])?;
    router.address("client", ["10.1.0.1/24", "fd00:1::1/64"])?;
    router.address("server", ["10.2.0.1/24", "fd00:2::1/64"])?;
    server.address("eth0", ["10.2.0.10/24", "fd00:2::10/64"])?;
    client.ip([
        "route add default via 10.1.0.1",
        "-6 route add default via fd00:1::1",
    ])?;
    server.ip([
        "route add default via 10.2.0.1",
        "-6 route add default via fd00:2::1",
    ])?;
    router.forwarding()?;
    Ok(Path {
        client,
        router,
        server,
    })
}

#[test]
fn what_the_kernel_forwards_is_counted() {
    Lab::test(|lab| {
        let Path { client, router, .. } = path(lab)?;
        for server in SERVERS {
            let server: IpAddr = server.parse()?;
            ensure!(ping(&client, server, 1)? == 1, "no answer from {server}");
            let before = kernel_forwarded(&router)?;
            let answered = ping(&client, server, 20)?;
            let forwarded = kernel_forwarded(&router)? - before;
            ensure!(answered == 20, "{answered} of 20 answers from {server}");
            ensure!(forwarded >= 40, "{forwarded} forwarded of 40 packets");
        }
        Ok(())
    });
}

#[test]
fn bytes_arrive_as_they_were_sent() {
    Lab::test(|lab| {
        let Path { client, server, .. } = path(lab)?;
        for address in SERVERS {
            transfer(&client, &server, address.parse()?, 1 << 20)?;
        }
        Ok(())
    });
}

#[test]
fn probes_count_what_a_cut_link_loses() {
    Lab::test(|lab| {
        let Path {
            client,
            router,
            server,
        } = path(lab)?;
        let every = Duration::from_millis(2);
        for address in SERVERS {
            let address: IpAddr = address.parse()?;
            let whole = Probes::start(&client, &server, address, 4, every)?;
            std::thread::sleep(Duration::from_millis(300));
            let whole = whole.finish()?;
            ensure!(whole.sent > 20 && whole.lost() == 0, "{whole:?}");
            ensure!(whole.returned == whole.arrived, "{whole:?}");

            let cut = Probes::start(&client, &server, address, 4, every)?;
            std::thread::sleep(Duration::from_millis(200));
            router.ip(["link set server down"])?;
            std::thread::sleep(Duration::from_millis(400));
            router.ip(["link set server up"])?;
            std::thread::sleep(Duration::from_millis(1500));
            let cut = cut.finish()?;
            ensure!(cut.lost() > 50, "{cut:?}");
            ensure!(cut.longest_outage >= Duration::from_millis(350), "{cut:?}");
        }
        Ok(())
    });
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let mut names = Vec::new();
    Lab::test(|lab| {
        let Path {
            client,
            router,
            server,
        } = path(lab)?;
        for node in [&client, &router, &server] {
            names.push((node.namespace().to_owned(), node.holder()));
        }
        names.push((lab.dir().display().to_string(), 0));
        Ok(())
    });
    for (name, holder) in names {
        assert!(
            !std::path::Path::new("/run/netns").join(&name).exists(),
            "{name}"
        );
        assert!(
            holder == 0
                || !std::path::Path::new("/proc")
                    .join(holder.to_string())
                    .exists()
        );
    }
}
