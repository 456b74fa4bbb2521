//! Puts the eBPF object that `cargo xtask build-ebpf` made where the crate can embed it.
//!
//! A missing object doesn't fail the build: checks, lints and the tests of other crates need neither the object nor
//! bpf-linker. An empty one is embedded instead, and `Datapath::load` then names the command.

use std::path::PathBuf;
use std::{env, fs};

const OBJECT: &str = "target/ebpf/causeway.o";
const FIXTURE_OBJECT: &str = "target/ebpf/causeway-upgrade-fixture.o";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_EMBEDDED_OBJECT").is_none() {
        return;
    }
    let (file, command) = match env::var_os("CARGO_FEATURE_UPGRADE_FIXTURE") {
        Some(_) => (FIXTURE_OBJECT, "cargo xtask test netns"),
        None => (OBJECT, "cargo xtask build-ebpf"),
    };
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let object = manifest_dir.join("../..").join(file);
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).unwrap_or_else(|error| {
        println!(
            "cargo::warning={file}: {error}; run `{command}` and build again for a \
             daemon that can forward"
        );
        Vec::new()
    });
    fs::write(out_dir.join("causeway.o"), bytes).expect("OUT_DIR is writable");
}
