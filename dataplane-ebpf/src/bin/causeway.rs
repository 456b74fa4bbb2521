//! The object that the kernel loads: the maps and the entry points.
//!
//! | program | attached to | sees |
//! |---|---|---|
//! | `causeway_xdp` | XDP of an uplink | every frame, first |
//! | `causeway_tc_uplink` | TC ingress of an uplink | what XDP passed on; everything where XDP is not attached |
//! | `causeway_tc_pod` | TC ingress of the host's side of a pod's veth | what the pod sends |
//!
//! They differ in how they see a packet and how they send it on; what happens in between is [`forward`].

#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use causeway_ebpf::forward;
use causeway_maps::{Hook, Outcome};

use maps::Maps;
use skb::SkbFrame;
use xdp::XdpFrame;

/// Routes what it can and passes on the rest.
#[xdp]
fn causeway_xdp(context: XdpContext) -> u32 {
    match forward(&mut XdpFrame::new(&context), &Maps(Hook::Xdp)).outcome() {
        Outcome::Forwarded => XDP_REDIRECT,
        Outcome::Passed => XDP_PASS,
        Outcome::Dropped => XDP_DROP,
    }
}

/// Finishes what XDP can't: neighbours that the kernel has to resolve, pods on this node.
#[classifier]
fn causeway_tc_uplink(context: TcContext) -> i32 {
    classify(&context, Hook::TcUplink)
}

/// Routes what pods send.
#[classifier]
fn causeway_tc_pod(context: TcContext) -> i32 {
    classify(&context, Hook::TcPod)
}

#[inline(always)]
fn classify(context: &TcContext, hook: Hook) -> i32 {
    match forward(&mut SkbFrame::new(context), &Maps(hook)).outcome() {
        Outcome::Forwarded => TC_ACT_REDIRECT,
        // On to the next program, if there is one, and then to the stack.
        Outcome::Passed => TC_ACT_UNSPEC,
        Outcome::Dropped => TC_ACT_SHOT,
    }
}

mod packet {
    //! Bytes between two addresses, as the verifier wants them to be reached.

    use bytemuck::Pod;
    use causeway_ebpf::family::Family;
    use causeway_ebpf::header::{Be16, Ethernet, Mac};
    use causeway_maps::NextHop;

    /// A packet's bytes that can be reached directly.
    #[derive(Clone, Copy)]
    pub(crate) struct Bytes {
        pub(crate) start: usize,
        pub(crate) end: usize,
    }

    impl Bytes {
        /// Where an `H` lies, `offset` bytes into the packet.
        #[inline(always)]
        pub(crate) fn locate<H: Pod>(self, offset: usize) -> Option<*mut H> {
            const { assert!(align_of::<H>() <= 2, "frames only promise even addresses") };
            // The comparison in the form that the verifier learns bounds from.
            if self.start + offset + size_of::<H>() > self.end {
                return None;
            }
            Some((self.start + offset) as *mut H)
        }

        #[inline(always)]
        pub(crate) fn header<H: Pod>(self, offset: usize) -> Option<H> {
            let header = self.locate::<H>(offset)?;
            // SAFETY: it lies within the packet, `offset` is even, and any bytes are a valid `H`.
            Some(unsafe { *header })
        }

        #[inline(always)]
        pub(crate) fn write<H: Pod>(self, offset: usize, header: H) -> Option<()> {
            let place = self.locate::<H>(offset)?;
            // SAFETY: it lies within the packet, and the packet is ours alone while the program runs.
            unsafe { *place = header };
            Some(())
        }

        /// Writes the Ethernet header for `next_hop` and takes one from the TTL of the IP header at `L3`; `None`, and
        /// nothing written, if they are not within these bytes. Returns what [`Family::decrement_ttl`] does.
        #[inline(always)]
        pub(crate) fn rewrite<F: Family, const L3: usize>(
            self,
            next_hop: &NextHop,
            ether_type: u16,
        ) -> Option<Option<[Be16; 2]>> {
            let header = self.locate::<F::Header>(L3)?;
            self.write(
                0,
                Ethernet {
                    destination: Mac::new(next_hop.dst_mac),
                    source: Mac::new(next_hop.src_mac),
                    ether_type: Be16::new(ether_type),
                },
            )?;
            // SAFETY: it lies within the packet and doesn't overlap the Ethernet header, any bytes are valid, and the
            // packet is ours alone while the program runs.
            Some(F::decrement_ttl(unsafe { &mut *header }))
        }
    }
}

mod xdp {
    //! Frames at XDP, sent by a device map.

    use aya_ebpf::EbpfContext;
    use aya_ebpf::helpers::bpf_xdp_adjust_head;
    use aya_ebpf::programs::XdpContext;
    use bytemuck::Pod;
    use causeway_ebpf::Context;
    use causeway_ebpf::family::Family;
    use causeway_ebpf::header::{Be16, ETHERNET_LEN, TAGGED_LEN, VlanTag};
    use causeway_maps::{NextHop, Reason, next_hop_flags};

    use crate::maps;
    use crate::packet::Bytes;

    const ETHER_TYPE_VLAN: u16 = 0x8100;
    const TAG_LEN: i32 = size_of::<VlanTag>() as i32;

    /// The linear part of a frame, which is all of it: without `frags` in its section name a program is given no other.
    pub(crate) struct XdpFrame<'a> {
        context: &'a XdpContext,
        bytes: Bytes,
    }

    impl<'a> XdpFrame<'a> {
        #[inline(always)]
        pub(crate) fn new(context: &'a XdpContext) -> Self {
            let bytes = bytes(context);
            Self { context, bytes }
        }

        /// Moves the start of the frame by `delta` bytes; what was reached before is gone.
        #[inline(always)]
        fn move_start(&self, delta: i32) -> Result<Bytes, Reason> {
            // SAFETY: the context is the one that this program was called with.
            match unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), delta) } {
                0 => Ok(bytes(self.context)),
                _ => Err(Reason::NoHeadroom),
            }
        }
    }

    #[inline(always)]
    fn bytes(context: &XdpContext) -> Bytes {
        Bytes {
            start: context.data(),
            end: context.data_end(),
        }
    }

    impl Context for XdpFrame<'_> {
        const TAGS_IN_FRAME: bool = true;

        #[inline(always)]
        fn ingress_ifindex(&self) -> u32 {
            self.context.ingress_ifindex() as u32
        }

        #[inline(always)]
        fn tag(&self) -> Option<u16> {
            None
        }

        #[inline(always)]
        fn frame_len(&self) -> usize {
            self.bytes.end - self.bytes.start
        }

        #[inline(always)]
        fn segment_size(&self) -> u32 {
            0
        }

        #[inline(always)]
        fn header<H: Pod>(&self, offset: usize) -> Option<H> {
            self.bytes.header(offset)
        }

        #[inline(always)]
        fn send<F: Family, const L3: usize>(&mut self, next_hop: &NextHop) -> Result<(), Reason> {
            if next_hop.flags & next_hop_flags::LOCAL != 0 {
                return Err(Reason::Local);
            }
            if next_hop.flags & next_hop_flags::RESOLVED == 0 {
                return Err(Reason::Unresolved);
            }
            if !maps::choose_egress(next_hop.tx_ifindex) {
                return Err(Reason::NoTxPort);
            }
            let sent = if next_hop.vlan == 0 {
                let bytes = match L3 {
                    TAGGED_LEN => self.move_start(TAG_LEN)?,
                    _ => self.bytes,
                };
                bytes
                    .rewrite::<F, ETHERNET_LEN>(next_hop, F::ETHER_TYPE)
                    .map(|_| ())
            } else {
                let bytes = match L3 {
                    TAGGED_LEN => self.bytes,
                    _ => self.move_start(-TAG_LEN)?,
                };
                let tag = VlanTag {
                    tci: Be16::new(next_hop.vlan),
                    ether_type: Be16::new(F::ETHER_TYPE),
                };
                bytes
                    .rewrite::<F, TAGGED_LEN>(next_hop, ETHER_TYPE_VLAN)
                    .and_then(|_| bytes.write(ETHERNET_LEN, tag))
            };
            // Only the verifier doubts it.
            sent.ok_or(Reason::Inconsistent)
        }
    }
}

mod skb {
    //! Packets at TC, sent by interface, by the kernel's neighbour table, or into a pod.

    use aya_ebpf::bindings::__sk_buff;
    use aya_ebpf::helpers::{
        bpf_csum_update, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_pull_data,
        bpf_skb_vlan_pop,
    };
    use aya_ebpf::programs::TcContext;
    use bytemuck::Pod;
    use causeway_ebpf::Context;
    use causeway_ebpf::family::Family;
    use causeway_ebpf::header::{Be16, ETHERNET_LEN, Ethernet, Ipv6Header};
    use causeway_maps::{NextHop, Reason, next_hop_flags};

    use crate::packet::Bytes;

    const AF_INET: u32 = 2;
    const AF_INET6: u32 = 10;

    /// The longest headers that the pipeline reads: Ethernet, IPv6 and 20 bytes of what follows.
    const HEADERS: u32 = (size_of::<Ethernet>() + size_of::<Ipv6Header>() + 20) as u32;

    /// A packet, whose headers are made to lie in its linear part.
    pub(crate) struct SkbFrame {
        skb: *mut __sk_buff,
        bytes: Bytes,
    }

    /// `struct bpf_redir_neigh`.
    #[repr(C)]
    struct Neighbour {
        family: u32,
        addr: [u8; 16],
    }

    impl SkbFrame {
        #[inline(always)]
        pub(crate) fn new(context: &TcContext) -> Self {
            let skb = context.skb.skb;
            let mut bytes = bytes(skb);
            let wanted = context.len().min(HEADERS);
            if bytes.start + wanted as usize > bytes.end {
                // Where it fails, what is missing is found missing later.
                // SAFETY: the context is the one that this program was called with.
                unsafe { bpf_skb_pull_data(skb, wanted) };
                bytes = self::bytes(skb);
            }
            Self { skb, bytes }
        }
    }

    #[inline(always)]
    fn bytes(skb: *mut __sk_buff) -> Bytes {
        // SAFETY: the context is valid while the program runs.
        unsafe {
            Bytes {
                start: (*skb).data as usize,
                end: (*skb).data_end as usize,
            }
        }
    }

    impl Context for SkbFrame {
        const TAGS_IN_FRAME: bool = false;

        #[inline(always)]
        fn ingress_ifindex(&self) -> u32 {
            // SAFETY: the context is valid while the program runs.
            unsafe { (*self.skb).ifindex }
        }

        #[inline(always)]
        fn tag(&self) -> Option<u16> {
            // SAFETY: the context is valid while the program runs.
            unsafe { ((*self.skb).vlan_present != 0).then(|| (*self.skb).vlan_tci as u16) }
        }

        #[inline(always)]
        fn frame_len(&self) -> usize {
            // SAFETY: the context is valid while the program runs.
            unsafe { (*self.skb).len as usize }
        }

        #[inline(always)]
        fn segment_size(&self) -> u32 {
            // SAFETY: the context is valid while the program runs.
            unsafe { (*self.skb).gso_size }
        }

        #[inline(always)]
        fn header<H: Pod>(&self, offset: usize) -> Option<H> {
            self.bytes.header(offset)
        }

        #[inline(always)]
        fn send<F: Family, const L3: usize>(&mut self, next_hop: &NextHop) -> Result<(), Reason> {
            let has = |flag| next_hop.flags & flag != 0;
            if !has(next_hop_flags::RESOLVED)
                && !has(next_hop_flags::NEIGHBOUR6)
                && F::ETHER_TYPE == causeway_ebpf::family::ETHER_TYPE_IPV6
            {
                // The kernel has no IPv4 neighbours for IPv6 packets.
                return Err(Reason::Unresolved);
            }
            if self.tag().is_some() {
                // SAFETY: the context is the one that this program was called with.
                if unsafe { bpf_skb_vlan_pop(self.skb) } != 0 {
                    return Err(Reason::NoHeadroom);
                }
                self.bytes = bytes(self.skb);
            }
            let changed = self
                .bytes
                .rewrite::<F, ETHERNET_LEN>(next_hop, F::ETHER_TYPE)
                .ok_or(Reason::Inconsistent)?;
            if let Some(words) = changed {
                account(self.skb, words);
            }
            let ifindex = next_hop.ifindex;
            // SAFETY: the helpers take numbers, or a structure of the kernel's own shape with its size.
            unsafe {
                if !has(next_hop_flags::RESOLVED) {
                    let mut neighbour = Neighbour {
                        family: if has(next_hop_flags::NEIGHBOUR6) {
                            AF_INET6
                        } else {
                            AF_INET
                        },
                        addr: next_hop.addr,
                    };
                    let size = size_of::<Neighbour>() as i32;
                    bpf_redirect_neigh(ifindex, (&raw mut neighbour).cast(), size, 0);
                } else if has(next_hop_flags::LOCAL) && has(next_hop_flags::PEER) {
                    bpf_redirect_peer(ifindex, 0);
                } else {
                    bpf_redirect(ifindex, 0);
                }
            }
            Ok(())
        }
    }

    /// Keeps the sum that the interface made of the packet right (`CHECKSUM_COMPLETE`); no other kind covers the header.
    #[inline(always)]
    fn account(skb: *mut __sk_buff, [before, after]: [Be16; 2]) {
        let difference = u32::from(after.raw()) + u32::from(!before.raw());
        // SAFETY: the context is the one that this program was called with.
        unsafe { bpf_csum_update(skb, difference) };
    }
}

mod maps {
    //! The maps of [`catalogue`], under the names that it gives them.

    use aya_ebpf::btf_maps::lpm_trie::Key;
    use aya_ebpf::btf_maps::{Array, ArrayOfMaps, DevMap, HashMap, LpmTrie, PerCpuArray};
    use aya_ebpf::macros::btf_map;
    use causeway_ebpf::Tables;
    use causeway_maps::catalogue::{
        MAX_GROUPS, MAX_IFINDEX, MAX_LAYOUTS, MAX_NEXT_HOPS, MAX_POD_BLOCKS, MAX_ROUTES4,
        MAX_ROUTES6, MAX_VLANS, OCTETS,
    };
    use causeway_maps::{
        Config, Counter, Flat4Block, Flat4Root, Group, GroupId, Hook, NextHop, NextHopId, Port,
        Reason, VlanKey,
    };

    #[btf_map(name = "routes4")]
    static ROUTES4: LpmTrie<[u8; 4], u32, { MAX_ROUTES4 as usize }> = LpmTrie::new();
    #[btf_map(name = "routes6")]
    static ROUTES6: LpmTrie<[u8; 16], u32, { MAX_ROUTES6 as usize }> = LpmTrie::new();
    #[btf_map(name = "pods4")]
    static PODS4: Array<u32, { MAX_POD_BLOCKS as usize }> = Array::new();
    #[btf_map(name = "pods6")]
    static PODS6: Array<u32, { MAX_POD_BLOCKS as usize }> = Array::new();
    #[btf_map(name = "flat4_roots")]
    static FLAT4_ROOTS: Array<Flat4Root, { OCTETS as usize }> = Array::new();
    // The inner value is a bare array, no struct: userspace makes the tables without BTF, and before Linux 6.2 the kernel
    // takes a table only if `timer_off` is that of the template. For a map without BTF, and for a value that is no
    // struct, it is EINVAL; for a struct without a timer it is ENOENT.
    #[btf_map(name = "flat4")]
    static FLAT4: ArrayOfMaps<Array<[u32; 256], { OCTETS as usize }>, { OCTETS as usize }> =
        ArrayOfMaps::new();
    #[btf_map(name = "groups")]
    static GROUPS: Array<Group, { MAX_GROUPS as usize }> = Array::new();
    #[btf_map(name = "next_hops")]
    static NEXT_HOPS: Array<NextHop, { MAX_NEXT_HOPS as usize }> = Array::new();
    #[btf_map(name = "liveness")]
    static LIVENESS: Array<u32, { MAX_NEXT_HOPS as usize }> = Array::new();
    #[btf_map(name = "ports")]
    static PORTS: Array<Port, { MAX_IFINDEX as usize }> = Array::new();
    #[btf_map(name = "vlans")]
    static VLANS: HashMap<VlanKey, u32, { MAX_VLANS as usize }> = HashMap::new();
    #[btf_map(name = "tx_ports")]
    static TX_PORTS: DevMap<{ MAX_IFINDEX as usize }> = DevMap::new();
    #[btf_map(name = "config")]
    static CONFIG: Array<Config, 1> = Array::new();
    #[btf_map(name = "counters")]
    static COUNTERS: PerCpuArray<Counter, { Hook::SLOTS as usize }> = PerCpuArray::new();
    // Written and read by userspace only.
    #[btf_map(name = "layout")]
    static LAYOUT: HashMap<u32, u64, { MAX_LAYOUTS as usize }> = HashMap::new();

    /// What the kernel would do with a packet whose interface is not in `tx_ports`; never used, because the pipeline
    /// looks at the answer first.
    const PASS_ON_MISS: u64 = aya_ebpf::bindings::xdp_action::XDP_PASS as u64;

    /// Chooses the interface that XDP sends on; false when it is not there to be sent on.
    #[inline(always)]
    pub(crate) fn choose_egress(ifindex: u32) -> bool {
        TX_PORTS.redirect(ifindex, PASS_ON_MISS).is_ok()
    }

    /// The maps of this object, as the program at a hook uses them.
    pub(crate) struct Maps(pub(crate) Hook);

    impl Tables for Maps {
        #[inline(always)]
        fn config(&self) -> Option<&Config> {
            CONFIG.get(0)
        }

        #[inline(always)]
        fn vlan(&self, key: &VlanKey) -> Option<u32> {
            // SAFETY: the value is read at once; an entry that is replaced meanwhile gives the old one or the new.
            unsafe { VLANS.get(key) }.copied()
        }

        #[inline(always)]
        fn port(&self, ifindex: u32) -> Option<&Port> {
            PORTS.get(ifindex)
        }

        #[inline(always)]
        fn pods4(&self, block: u32) -> Option<GroupId> {
            PODS4.get(block).map(|&id| GroupId(id))
        }

        #[inline(always)]
        fn pods6(&self, block: u32) -> Option<GroupId> {
            PODS6.get(block).map(|&id| GroupId(id))
        }

        #[inline(always)]
        fn flat4_root(&self, octet: u8) -> Option<&Flat4Root> {
            FLAT4_ROOTS.get(octet.into())
        }

        #[inline(always)]
        fn flat4(&self, first: u8, second: u8) -> Option<&Flat4Block> {
            let groups: &[u32; 256] = FLAT4.get_value(first.into(), &second.into())?;
            Some(bytemuck::cast_ref(groups))
        }

        #[inline(always)]
        fn route4(&self, destination: [u8; 4]) -> Option<GroupId> {
            ROUTES4
                .get(&Key::new(32, destination))
                .map(|&id| GroupId(id))
        }

        #[inline(always)]
        fn route6(&self, destination: [u8; 16]) -> Option<GroupId> {
            ROUTES6
                .get(&Key::new(128, destination))
                .map(|&id| GroupId(id))
        }

        #[inline(always)]
        fn group(&self, id: GroupId) -> Option<&Group> {
            GROUPS.get(id.0)
        }

        #[inline(always)]
        fn next_hop(&self, id: NextHopId) -> Option<&NextHop> {
            NEXT_HOPS.get(id.0)
        }

        #[inline(always)]
        fn liveness(&self, id: NextHopId) -> Option<u32> {
            LIVENESS.get(id.0).copied()
        }

        #[inline(always)]
        fn count(&self, reason: Reason, bytes: u64) {
            if let Some(counter) = COUNTERS.get_ptr_mut(self.0.slot(reason)) {
                // SAFETY: it is this CPU's own, and nothing interrupts the program to count on the same CPU.
                let counter = unsafe { &mut *counter };
                counter.packets += 1;
                counter.bytes += bytes;
            }
        }
    }
}

/// GPL-compatible, as the kernel asks of those who use its tracing helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}
