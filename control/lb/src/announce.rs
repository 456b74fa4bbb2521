//! Which addresses of services this node originates, and why it does not originate the others.
//!
//! An address is originated when a service that has it forwards what arrives from outside on this node, and not before the
//! tables that say so are programmed; it is withdrawn at once when that ends. Under a Local policy that means an endpoint on
//! this node; otherwise any usable endpoint.

use core::fmt;
use core::net::IpAddr;

use crate::tables::{FrontendKey, FrontendKind};
use crate::types::ObjectKey;

/// What this node tells the network about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Originate it.
    Originate {
        /// What the address is to the services that have it and make it worth announcing, in the order of names.
        services: Vec<(ObjectKey, FrontendKind)>,
        /// Endpoints on this node that take new connections from outside, if a Local policy makes them count: the weight
        /// of this node's path.
        local_endpoints: Option<u32>,
        /// Only terminating endpoints are left here: better paths should win (RFC 8326).
        draining: bool,
    },
    /// Do not originate it.
    Withhold(Withheld),
}

/// Why an address is not originated. In this order, the last that holds for any of its services is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Withheld {
    /// Another service has the address and port.
    Conflict,
    /// A limit is reached, and its frontends are left out.
    LeftOut,
    /// The class of the load balancer is somebody else's.
    OtherClass,
    /// The label `node.kubernetes.io/exclude-from-external-load-balancers` is on this node.
    NodeExcluded,
    /// No endpoint is usable.
    NoEndpoint,
    /// No endpoint on this node is usable, and the policy is Local.
    NoLocalEndpoint,
    /// Entries could not be written.
    ProgramFailed,
    /// Entries are being written.
    Programming,
}

impl Withheld {
    /// One sentence.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Conflict => "another service has the address and port",
            Self::LeftOut => "a limit is reached, its frontends are left out",
            Self::OtherClass => "its loadBalancerClass is not ours",
            Self::NodeExcluded => {
                "this node carries the label node.kubernetes.io/exclude-from-external-load-balancers"
            }
            Self::NoEndpoint => "no endpoint is usable",
            Self::NoLocalEndpoint => "no endpoint on this node is usable and the policy is Local",
            Self::ProgramFailed => "its entries could not be programmed",
            Self::Programming => "its entries are being programmed",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

/// What has become of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncementChange {
    /// The address.
    pub addr: IpAddr,
    /// What holds from now on; `None` if no service has it any more.
    pub announcement: Option<Announcement>,
}

/// How one service stands at one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Serves {
        local_endpoints: Option<u32>,
        draining: bool,
    },
    Not(Withheld),
}

impl Standing {
    /// The better of two ports of a service: one that serves is worth announcing.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::Serves {
                    local_endpoints: a,
                    draining: one,
                },
                Self::Serves {
                    local_endpoints: b,
                    draining: two,
                },
            ) => Self::Serves {
                local_endpoints: a.max(b),
                draining: one && two,
            },
            (serves @ Self::Serves { .. }, Self::Not(_))
            | (Self::Not(_), serves @ Self::Serves { .. }) => serves,
            (Self::Not(a), Self::Not(b)) => Self::Not(a.max(b)),
        }
    }
}

/// An address, and how far its announcement is.
#[derive(Debug, Default)]
pub(crate) struct Vip {
    /// What was last told.
    pub(crate) told: Option<Announcement>,
    /// What will be told once this revision is programmed.
    pub(crate) waiting: Option<(u64, Announcement)>,
    /// Frontends that could not be written.
    pub(crate) failed: Vec<FrontendKey>,
}
