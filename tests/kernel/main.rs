//! Packets through the loaded programs, by `BPF_PROG_TEST_RUN`, and real ones into a pod.
//!
//! * [`rig`] loads the production object in a network namespace of its own and fills its maps from a [`world`].
//! * [`branches`] has a row for every branch and every [`causeway_maps::Reason`], and packets byte by byte.
//! * [`differential`] compares the program with a plain [`model`] on random packets and tables.
//! * [`delivery`] sends real packets to a pod and back, where the kernel has to finish what TC asks for.
//! * [`names`] asks bpftool what it sees.
//!
//! To add a test: add a row to the table in `branches.rs`, and if there is a new rule, write it into `model.rs` too.

mod branches;
mod delivery;
mod differential;
mod frame;
mod model;
mod names;
mod rig;
mod world;
