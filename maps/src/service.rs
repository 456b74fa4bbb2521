//! Keys and values of the maps of services.
//!
//! ```text
//! address ─▶ frontend (address, port, protocol) ─▶ pool ─▶ page of its ring ─▶ seat ─▶ backend
//! ```
//!
//! Addresses of both families are sixteen bytes, IPv4 mapped into IPv6 (RFC 4291 2.5.5.2), so that each map is there
//! once. Addresses and ports lie as a packet carries them, in network order; everything else is in host order.

use core::cmp::Ordering;

use crate::layout::shared_struct;

shared_struct! {
    /// An address of either family. Key of `svc_addrs`.
    #[derive(Hash)]
    pub struct ServiceAddr {
        /// Four bytes each, as they lie in a packet: words are what the programs copy and compare.
        pub words: [u32; 4],
    }
    size = 16;
}

impl ServiceAddr {
    /// An IPv6 address from its bytes in network order.
    #[must_use]
    #[inline(always)]
    pub const fn v6(b: [u8; 16]) -> Self {
        Self {
            words: [
                u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
                u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
                u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
                u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
            ],
        }
    }

    /// An IPv4 address from its bytes in network order, mapped.
    #[must_use]
    #[inline(always)]
    pub const fn v4(b: [u8; 4]) -> Self {
        Self {
            words: [0, 0, 0x0000_ffff_u32.to_be(), u32::from_ne_bytes(b)],
        }
    }

    /// Its bytes in network order.
    #[must_use]
    pub fn octets(self) -> [u8; 16] {
        bytemuck::cast(self.words)
    }
}

impl Ord for ServiceAddr {
    fn cmp(&self, other: &Self) -> Ordering {
        self.octets().cmp(&other.octets())
    }
}

impl PartialOrd for ServiceAddr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Bits of a value of `svc_addrs`: how an address answers where no frontend matches.
pub mod svc_addr_flags {
    /// Some service has it. Without it, and in a range of services, packets are dropped.
    pub const HELD: u32 = 1 << 0;
    /// What has no frontend is rejected. Without it, it is passed: the host has the address itself.
    pub const REJECT_OTHERS: u32 = 1 << 1;
    /// Node ports answer here.
    pub const NODE_PORT: u32 = 1 << 2;
}

shared_struct! {
    /// Key of `frontends`: a destination.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct FrontendKey {
        /// Destination address; for a node port zero, mapped for IPv4.
        pub addr: ServiceAddr,
        /// Destination port, as it lies in a packet.
        pub port: u16,
        /// As in the IP header.
        pub protocol: u8,
        /// One of [`frontend_kind`].
        pub kind: u8,
    }
    size = 20;
}

/// Values of [`FrontendKey::kind`].
pub mod frontend_kind {
    /// An address of a service.
    pub const ADDRESS: u8 = 0;
    /// Every address of the node that answers node ports.
    pub const NODE_PORT: u8 = 1;
}

shared_struct! {
    /// Value of `frontends`: what becomes of new connections.
    pub struct Frontend {
        /// Index into `pools`.
        pub pool: u32,
        /// The service, for [`SourceRangeKey`].
        pub service: u32,
        /// Clients that are pods of this node: bits of [`route`].
        pub pod: u8,
        /// The node itself: bits of [`route`].
        pub host: u8,
        /// Everybody else: bits of [`route`].
        pub outside: u8,
        /// Bits of [`frontend_flags`].
        pub flags: u8,
    }
    size = 12;
}

/// What becomes of a new connection.
pub mod route {
    /// TCP RST or ICMP port unreachable.
    pub const REJECT: u8 = 0;
    /// Nothing is answered.
    pub const DROP: u8 = 1;
    /// To a backend of the cluster's ring, unless [`LOCAL`] is set.
    pub const FORWARD: u8 = 1 << 1;
    /// With [`FORWARD`]: to one of the local ring.
    pub const LOCAL: u8 = 1 << 2;
    /// With [`FORWARD`]: the backend sees this node's address instead of the client's.
    pub const MASQUERADE: u8 = 1 << 3;
}

/// Bits of [`Frontend::flags`].
pub mod frontend_flags {
    /// Clients other than the node itself are asked for in `src_ranges`.
    pub const SOURCE_RANGES: u8 = 1 << 0;
}

shared_struct! {
    /// Value of `pools`: one port of a service in one family. All zero where there is none.
    pub struct Pool {
        /// Of namespace, service, port, protocol and family: tells after a restart whose it is.
        pub identity: u64,
        /// The service.
        pub service: u32,
        /// Index of its first seat in `seats`.
        pub seats_base: u32,
        /// Its seats have numbers below this.
        pub seats: u16,
        /// Zero.
        pub reserved: u16,
        /// Seconds that a client sticks to its backend; 0 for no affinity.
        pub affinity_seconds: u32,
        /// Endpoints anywhere.
        pub cluster: RingRef,
        /// Endpoints on this node.
        pub local: RingRef,
    }
    size = 40;
}

shared_struct! {
    /// Where a ring is.
    pub struct RingRef {
        /// Index of its first page in `ring_pages`; for a ring of one slot the seat itself.
        pub page: u32,
        /// Slots: a connection takes slot `hash mod slots`, which is in page `slot / 1024`. 0 for no ring.
        pub slots: u32,
    }
    size = 8;
}

shared_struct! {
    /// Value of `ring_pages`: a part of a ring.
    pub struct RingPage {
        /// Numbers of seats; [`RingPage::NOBODY`] behind the ring's end.
        pub seats: [u16; 1024],
    }
    size = 2048;
}

impl RingPage {
    /// Bits of a slot's number that choose the entry of its page.
    pub const SLOT_BITS: u32 = 10;
    /// No seat has this number.
    pub const NOBODY: u16 = u16::MAX;
    /// Slots of a page.
    pub const SLOTS: usize = 1 << Self::SLOT_BITS;
}

shared_struct! {
    /// Value of `seats`: who sits there. All zero where nobody does.
    pub struct Seat {
        /// Index into `backends`.
        pub backend: u32,
        /// Bits of [`seat_flags`].
        pub flags: u32,
    }
    size = 8;
}

/// Bits of [`Seat::flags`].
pub mod seat_flags {
    /// The cluster's ring has it.
    pub const CLUSTER: u32 = 1 << 0;
    /// The local ring has it.
    pub const LOCAL: u32 = 1 << 1;
}

shared_struct! {
    /// Value of `backends`: where packets go. Where there is none, all is zero but the generation.
    pub struct Backend {
        /// Address.
        pub addr: ServiceAddr,
        /// Port, as it lies in a packet.
        pub port: u16,
        /// As in the IP header.
        pub protocol: u8,
        /// Bits of [`backend_flags`].
        pub flags: u8,
        /// How often the index was given to a backend: who remembers another generation remembers another backend.
        pub generation: u32,
    }
    size = 24;
}

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// There is a backend.
    pub const PRESENT: u8 = 1 << 0;
    /// It answers. UDP flows leave one that does not.
    pub const SERVING: u8 = 1 << 1;
}

shared_struct! {
    /// Key of `src_ranges`, an LPM trie (`struct bpf_lpm_trie_key`): clients of a service in a family.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct SourceRangeKey {
        /// Significant bits of what follows; [`Self::WHOLE`] of them for everybody.
        pub prefix_len: u32,
        /// Number of the service times two, plus one for IPv6; network order, because the trie compares bytes.
        pub service_family: [u8; 4],
        /// The client.
        pub addr: ServiceAddr,
    }
    size = 24;
}

impl SourceRangeKey {
    /// Bits of the service and family alone.
    pub const WHOLE: u32 = 32;

    /// The clients `addr`/`prefix_len` of a service; an IPv4 prefix counts from the bits that mark a mapped address.
    #[must_use]
    #[inline(always)]
    pub const fn new(service: u32, ipv6: bool, addr: ServiceAddr, prefix_len: u32) -> Self {
        Self {
            prefix_len: Self::WHOLE + prefix_len,
            service_family: (service << 1 | ipv6 as u32).to_be_bytes(),
            addr,
        }
    }
}

/// Values of `src_ranges`. A service of which the trie has nothing refuses everybody.
pub mod admission {
    /// Dropped.
    pub const REFUSED: u32 = 0;
    /// Let in.
    pub const ADMITTED: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_bytes_and_ipv4_is_mapped() {
        let v6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(ServiceAddr::v6(v6).octets(), v6);
        assert_eq!(
            ServiceAddr::v4([192, 0, 2, 7]).octets(),
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]
        );
    }

    #[test]
    fn every_key_and_value_of_a_trie_align() {
        assert_eq!(size_of::<SourceRangeKey>() % align_of::<u32>(), 0);
    }

    #[test]
    fn clients_of_two_services_or_families_never_share_a_prefix() {
        let addr = ServiceAddr::v4([10, 0, 0, 1]);
        let key = |service, ipv6| SourceRangeKey::new(service, ipv6, addr, 0).service_family;
        assert_eq!(key(1, false), [0, 0, 0, 2]);
        assert_eq!(key(1, true), [0, 0, 0, 3]);
        assert_eq!(key(2, false), [0, 0, 0, 4]);
    }
}
