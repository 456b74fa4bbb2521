//! Capabilities (RFC 5492).

use crate::types::{Asn, Family};

/// A capability of an OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// 1: multiprotocol extensions (RFC 4760). Any AFI and SAFI, known to us or not.
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// 2: route refresh (RFC 2918).
    RouteRefresh,
    /// 6: extended messages of up to 65,535 bytes (RFC 8654).
    ExtendedMessage,
    /// 64: graceful restart (RFC 4724, RFC 8538).
    GracefulRestart(GracefulRestartCapability),
    /// 65: 4-octet AS numbers (RFC 6793).
    FourOctetAs(Asn),
    /// 70: enhanced route refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// 73: host and domain name (draft-walton-bgp-hostname-capability).
    Hostname {
        /// Host name, at most 255 bytes of UTF-8.
        host: Box<str>,
        /// Domain name, may be empty.
        domain: Box<str>,
    },
    /// Any other, kept as it came.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        value: Box<[u8]>,
    },
}

impl Capability {
    /// The multiprotocol capability of a family of ours.
    #[must_use]
    pub const fn multiprotocol(family: Family) -> Self {
        Self::Multiprotocol {
            afi: family.afi(),
            safi: family.safi(),
        }
    }
}

/// Value of the graceful restart capability.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestartCapability {
    /// R bit: the sender restarted and waits for End-of-RIB.
    pub restarting: bool,
    /// N bit: NOTIFICATION and hold timer expiry keep the routes too (RFC 8538).
    pub notification: bool,
    /// Restart time in seconds, 12 bits.
    pub restart_time: u16,
    /// Families of ours that it covers.
    pub families: Vec<GracefulRestartFamily>,
}

/// One family of the graceful restart capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestartFamily {
    /// Family.
    pub family: Family,
    /// F bit: forwarding state was preserved.
    pub forwarding: bool,
}
