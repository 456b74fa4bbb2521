//! Golden scripts: one file for each behaviour, with objects as YAML and what follows from them as text.
//!
//! A script begins with comment lines that say what it shows. Then come sections, each opened by `=== ` and a word:
//!
//! | Section | Meaning |
//! |---|---|
//! | `=== node NAME` | this node's name; once, before anything else; `node-a` otherwise |
//! | `=== config` | settings as `key: value` lines: `proxyName`, `externalIPRanges`, `nodePortAddresses`, limits |
//! | `=== apply` | YAML documents, added or changed |
//! | `=== delete KIND NAMESPACE/NAME…` | removes objects |
//! | `=== host ADDRESS…` | the addresses that the host has |
//! | `=== hold`, `=== programmed` | from here on, deltas are not, are acknowledged |
//! | `=== failed FRONTEND`, `=== recovered FRONTEND` | an entry could not be written; it is |
//! | `=== tables` | expected: frontends, pools, source ranges, addresses, health checks |
//! | `=== maps` | expected: the entries of the maps |
//! | `=== changes` | expected: what the last step changed |
//! | `=== announce` | expected: what this node originates, and why it doesn't originate the rest |
//! | `=== problems` | expected: what was told since the last time |
//! | `=== explain NAMESPACE/NAME` | expected: each endpoint, chosen or the reason why not |
//!
//! Ids show in `maps` only: tables name services and endpoints, so that a script doesn't depend on the order of what went
//! before. Every script's maps are read as the programs read them, after every operation.

#![forbid(unsafe_code)]

mod maps;
mod render;
mod run;

pub use run::{Outcome, run};
