//! Packets between namespaces, end to end.
//!
//! `lab`: what the lab measures, over plain kernel forwarding, so that a figure below can be believed.

mod lab;
