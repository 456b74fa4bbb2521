//! Packets between namespaces, end to end.
//!
//! `daemon`: our daemon with itself: sessions, reload, refused reloads, its end.
//! `explain`: what `route explain`, status and metrics tell, against what packets do and what peers are sent.
//! `failures`: links, neighbours and daemons fail under traffic, and flows keep their ways.
//! `forwarding`: a client, the daemon, two ToRs and a server.
//! `lab`: what the lab measures, over plain kernel forwarding, so that a figure below can be believed.
//! `netlink`: what the kernel tells of links, addresses and neighbours, and how soon.
//! `racks`: the demo's two racks under two spines.
//! `restart`: a daemon that is killed, ended, upgraded and taken back while packets flow.
//! `routes`: the kernel's own table follows what is wanted, whatever others do to it.

mod daemon;
mod explain;
mod failures;
mod forwarding;
mod lab;
mod netlink;
mod racks;
mod restart;
mod routes;

use anyhow::Result;
use support::Node;

/// Runs `work` on a thread in the node's network.
fn on<T: Send>(node: &Node, work: impl AsyncFnOnce(&Node) -> Result<T> + Send) -> Result<T> {
    node.enter(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(work(node))
    })?
}
