//! The lab: network namespaces, links, real routers and our own daemon, for suites and for `cargo xtask demo`.
//!
//! A tour in the order of a test: a [`Lab`] makes [`Node`]s and links them; a [`Process`] runs in a node and dies with
//! it; [`peer`] starts FRR, BIRD, GoBGP, OpenBGPD and ExaBGP from one [`peer::Router`] description and reads their
//! state; [`causeway`] does the same for `causewayd` and asks it through the CLI; [`raw`] speaks BGP byte by byte;
//! [`bystander`] measures what others notice of it; [`traffic`] sends packets and counts what arrives, and [`flows`] tells
//! which way; [`capture`] tells what is on a wire; [`fabric`] is two ToRs between a router and a server, and [`racks`] two
//! racks under two spines; [`Random`] repeats a run by its seed; [`wait`] waits for a state and tells what it saw last.
//!
//! Everything is undone when the values are dropped, a panic included. What a killed run leaves behind is removed when
//! the next [`Lab`] starts.

pub mod bystander;
pub mod capture;
pub mod causeway;
pub mod fabric;
pub mod flows;
pub mod forwarding;
pub mod lab;
pub mod node;
pub mod peer;
pub mod process;
pub mod racks;
pub mod raw;
pub mod traffic;
pub mod wait;

pub use causeway_random::Random;
pub use lab::Lab;
pub use node::Node;
pub use process::Process;
pub use wait::wait_until;
