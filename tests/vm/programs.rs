//! Every program of the object against this kernel's verifier.

use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::Program;

use crate::in_the_machine;

#[test]
fn every_program_loads() {
    in_the_machine();
    let path = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("../target/ebpf/causeway.o");
    let object = std::fs::read(path).unwrap();
    let mut ebpf = Ebpf::load(&object).unwrap();
    let mut loaded = 0;
    for (name, program) in ebpf.programs_mut() {
        let outcome = match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            other => panic!(
                "{name} is a {:?}, which this test can't load",
                other.prog_type()
            ),
        };
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        loaded += 1;
    }
    assert!(loaded > 0);
}
