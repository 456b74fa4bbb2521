//! Debian 12's kernel, the oldest that we support: what only shows there.
//!
//! `cargo xtask test vm` boots it and runs these tests in it, beside those of the `kernel` and `datapath` suites. They are
//! of no use on another kernel, and say so.

mod forwarding;
mod programs;
mod vlan;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use support::Node;

/// For a state to come: the machine is emulated, and everything takes ten times as long.
const LIMIT: Duration = Duration::from_secs(120);

/// Panics on any kernel but the one that the suite is about.
fn in_the_machine() {
    assert!(
        std::env::var_os("CAUSEWAY_VM").is_some(),
        "these tests run in a machine of their own: `cargo xtask test vm`"
    );
}

/// Takes XDP from every interface of a node whose daemon attached it. The daemon doesn't notice.
fn detach_xdp(node: &Node) -> Result<()> {
    let seen_from_here = format!("/proc/{}/root", node.holder());
    let links = Path::new(&seen_from_here).join("sys/fs/bpf/causeway/links");
    let mut detached = 0;
    for link in fs::read_dir(links)? {
        let link = link?;
        if link.file_name().to_string_lossy().starts_with("xdp-") {
            // The pin alone holds the link.
            fs::remove_file(link.path())?;
            detached += 1;
        }
    }
    ensure!(detached > 0, "XDP is attached nowhere on {}", node.name());
    Ok(())
}

#[test]
fn the_kernel_is_the_oldest_supported_one() {
    in_the_machine();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(release.starts_with("6.1."), "{release}");
}
