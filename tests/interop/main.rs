//! Sessions with real routers, in namespaces.
//!
//! `lab`: the routers among themselves, so that a failure below is not the lab's.

mod lab;
