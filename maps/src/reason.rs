//! Why a packet was forwarded or handed to the stack: one counter each, at each hook.

/// What a [`Reason`] means for the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent on, or delivered to a pod.
    Forwarded,
    /// Given to what comes next, unmodified: from XDP to TC, from TC to the kernel's stack.
    Passed,
    /// Discarded.
    Dropped,
}

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal, $outcome:ident; )+) => {
        /// What became of a packet at a hook.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $( $(#[doc = $doc])+ $name = $value, )+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[ $( Reason::$name, )+ ];

            /// The name that the CLI and metrics use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+).trim_ascii(), )+ }
            }

            /// What happens to a packet counted here.
            #[must_use]
            pub const fn outcome(self) -> Outcome {
                match self { $( Self::$name => Outcome::$outcome, )+ }
            }
        }
    };
}

reasons! {
    /// Forwarded, IPv4.
    Forwarded4 = 0, "forwarded_ipv4", Forwarded;
    /// Forwarded, IPv6.
    Forwarded6 = 1, "forwarded_ipv6", Forwarded;
    /// Came in on an interface that does not forward.
    PortDisabled = 2, "port_disabled", Passed;
    /// Not sent to this interface's own MAC address: broadcast, multicast, or flooded for somebody else.
    NotForUs = 3, "not_for_us", Passed;
    /// Neither IPv4 nor IPv6: ARP, LLDP, 802.1Q.
    NotIp = 4, "not_ip", Passed;
    /// The frame ends before its headers do, or its lengths or version contradict each other.
    Malformed = 5, "malformed", Passed;
    /// The IPv4 header checksum is wrong (RFC 1812 5.2.2).
    BadChecksum = 6, "bad_checksum", Passed;
    /// IPv4 options or an IPv6 hop-by-hop header, which a router must read (RFC 1812 5.2.4, RFC 8200 4.3).
    Options = 7, "options", Passed;
    /// An address, source or destination, that is never routed (RFC 1812 5.3.7, RFC 6890): unspecified, loopback, link-local, IPv4-mapped, multicast, class E or broadcast.
    NotRoutable = 8, "not_routable", Passed;
    /// TTL or hop limit ends here; the stack answers with time exceeded.
    TtlExpired = 9, "ttl_expired", Passed;
    /// No prefix matches.
    NoRoute = 10, "no_route", Passed;
    /// An own address or a connected subnet.
    Punt = 11, "punt", Passed;
    /// The route's group has no members.
    EmptyGroup = 12, "empty_group", Passed;
    /// The next hop's neighbour is not resolved.
    Unresolved = 13, "unresolved", Passed;
    /// Larger than the next hop's MTU; the stack fragments it or says packet too big.
    TooBig = 14, "too_big", Passed;
    /// From uplink to uplink on a router whose role is `node`.
    NotTransit = 15, "not_transit", Passed;
    /// The next hop's interface is not in `tx_ports`.
    NoTxPort = 16, "no_tx_port", Passed;
    /// An invariant between maps is broken: a route names a group, or a group a next hop, that cannot exist.
    Inconsistent = 17, "inconsistent", Dropped;
    /// All next hops that the flow may take are dead.
    NoneAlive = 18, "none_alive", Passed;
    /// A range that this router announces and of which it has nothing more specific.
    Blackhole = 19, "blackhole", Dropped;
    /// For a pod or host on this node: XDP leaves delivery to TC.
    Local = 20, "local", Passed;
    /// No room in front of the frame for the VLAN tag of its next hop.
    NoHeadroom = 21, "no_headroom", Passed;
}

/// Where a program looks at packets.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// XDP on an uplink.
    Xdp = 0,
    /// TC ingress on an uplink: what XDP passed on, or everything where XDP is not attached.
    TcUplink = 1,
    /// TC ingress on the host's side of a pod's veth.
    TcPod = 2,
}

impl Hook {
    /// Every hook, in the order of their slots.
    pub const ALL: &'static [Self] = &[Self::Xdp, Self::TcUplink, Self::TcPod];

    /// Slots of `counters`.
    pub const SLOTS: u32 = Self::ALL.len() as u32 * Reason::COUNT;

    /// The slot of `counters` for packets that ended here with `reason`.
    #[must_use]
    pub const fn slot(self, reason: Reason) -> u32 {
        self as u32 * Reason::COUNT + reason.index()
    }

    /// The name that the CLI and metrics use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcUplink => "tc_uplink",
            Self::TcPod => "tc_pod",
        }
    }
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Its number: its place among the slots of a hook.
    #[must_use]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_names_unique() {
        for (slot, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index() as usize, slot, "{reason:?}");
            assert!(!reason.description().is_empty());
            let same = Reason::ALL
                .iter()
                .filter(|other| other.name() == reason.name());
            assert_eq!(same.count(), 1, "{}", reason.name());
        }
    }

    #[test]
    fn every_hook_and_reason_has_a_slot_of_its_own() {
        let pairs = Hook::ALL
            .iter()
            .flat_map(|hook| Reason::ALL.iter().map(|reason| hook.slot(*reason)));
        assert!(pairs.eq(0..Hook::SLOTS));
    }
}
