//! Debian 12's kernel, the oldest that we support: what only shows there.
//!
//! `cargo xtask test vm` boots it and runs these tests in it, beside those of the `kernel` and `datapath` suites. They are
//! of no use on another kernel, and say so.

mod forwarding;
mod programs;

use std::fs;

/// Panics on any kernel but the one that the suite is about.
fn in_the_machine() {
    assert!(
        std::env::var_os("CAUSEWAY_VM").is_some(),
        "these tests run in a machine of their own: `cargo xtask test vm`"
    );
}

#[test]
fn the_kernel_is_the_oldest_supported_one() {
    in_the_machine();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(release.starts_with("6.1."), "{release}");
}
