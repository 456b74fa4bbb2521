//! From Services and EndpointSlices to load-balancing tables: which addresses answer, where their connections go and what
//! this node may announce. Pure; the caller moves objects in and deltas out.
//!
//! A tour in data-flow order:
//!
//! 1. [`Lb::apply_service`], [`Lb::apply_slice`], [`Lb::apply_node`] parse objects into models that can't hold a bad value.
//!    What is wrong with an object is a [`Report`], told once; the object's other parts work on.
//! 2. `compile` computes one service, without ids and without other services: `select` judges its endpoints,
//!    `traffic_policy` says what becomes of whose connections.
//! 3. [`Lb::poll_delta`] compares with what was last published. [`maglev`] makes the rings that differ. Services that claim
//!    the same address and port are put in order; ids stay with whoever had them.
//! 4. [`tables`] is what comes out, for `plan` to lower into maps.
//! 5. [`announce`]: what this node originates, once [`Lb::programmed`] has heard that the tables are in place.
//! 6. [`Lb::explain`] says of each endpoint why it is or is not chosen.
//!
//! # Invariants
//!
//! * The tables are a function of the objects and of nothing else; ids and seats alone depend on history.
//! * A change of one slice costs what its service costs, however many others there are.
//! * After each delta every frontend names a pool, every ring a seat, every seat a backend that is there.
//! * An address is originated only while some connection from outside would be forwarded, and the entries for it are
//!   programmed.
//! * `bgp` is unknown here, and so are maps: only `plan` sees both ends.

#![forbid(unsafe_code)]

pub mod announce;
mod backends;
mod compile;
mod config;
mod endpoint;
mod explain;
mod ids;
mod lb;
pub mod limits;
pub mod maglev;
mod names;
mod node;
mod pool;
mod problem;
mod select;
mod service;
pub mod tables;
mod traffic_policy;
mod types;

pub use announce::{Announcement, AnnouncementChange, Withheld};
pub use config::{LOAD_BALANCER_CLASS, LbConfig, NodePortAddresses};
pub use explain::{EndpointExplanation, Explanation, FrontendExplanation, PortExplanation};
pub use lb::{Lb, Summary};
pub use limits::Limits;
pub use maglev::Ring;
pub use problem::{Problem, ProblemKind, Report};
pub use select::{State, Topology, Verdict};
pub use service::{Distribution, HandsOff, RangesPolicy, SourceRanges, TrafficPolicy};
pub use tables::{
    Backend, BackendId, Change, Delta, Frontend, FrontendKey, FrontendKind, HealthCheck, Held,
    Listen, Pool, PoolId, Route, Routes, Scope, Seat, ServiceId, Tables,
};
pub use types::{BackendKey, Family, ObjectKey, ObjectRef, Protocol, mapped};
