//! The eBPF object within the binary.

/// The object of `cargo xtask build-ebpf`, as it was when this crate was built; empty if there was none.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/causeway.o"));
