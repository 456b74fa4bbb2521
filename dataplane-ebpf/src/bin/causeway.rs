//! The object that the kernel loads: the maps and the XDP entry point.

#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bytemuck::Pod;
use causeway_ebpf::header::{ETHERNET_LEN, Ethernet};
use causeway_ebpf::{Context, forward};
use causeway_maps::Outcome;

use maps::Maps;

/// Routes what it can and passes on the rest.
#[xdp]
fn causeway_xdp(context: XdpContext) -> u32 {
    match forward(&mut XdpFrame::new(&context), &Maps).outcome() {
        Outcome::Forwarded => XDP_REDIRECT,
        Outcome::Passed => XDP_PASS,
        Outcome::Dropped => XDP_DROP,
    }
}

/// The linear part of a frame, which is all of it: without `frags` in its section name a program is given no other.
struct XdpFrame {
    start: usize,
    end: usize,
    ingress_ifindex: u32,
}

impl XdpFrame {
    #[inline(always)]
    fn new(context: &XdpContext) -> Self {
        Self {
            start: context.data(),
            end: context.data_end(),
            ingress_ifindex: context.ingress_ifindex() as u32,
        }
    }

    /// Where an `H` lies, `offset` bytes into the frame.
    #[inline(always)]
    fn locate<H: Pod>(&self, offset: usize) -> Option<*mut H> {
        const { assert!(align_of::<H>() <= 2, "frames only promise even addresses") };
        // The comparison in the form that the verifier learns bounds from.
        if self.start + offset + size_of::<H>() > self.end {
            return None;
        }
        Some((self.start + offset) as *mut H)
    }
}

impl Context for XdpFrame {
    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn header<H: Pod>(&self, offset: usize) -> Option<H> {
        let header = self.locate::<H>(offset)?;
        // SAFETY: it lies within the frame, `offset` is even, and any bytes are a valid `H`.
        Some(unsafe { *header })
    }

    #[inline(always)]
    fn headers_mut<H: Pod>(&mut self) -> Option<(&mut Ethernet, &mut H)> {
        let header = self.locate::<H>(ETHERNET_LEN)?;
        let ethernet = self.locate::<Ethernet>(0)?;
        // SAFETY: both lie within the frame and don't overlap, any bytes are valid, and the frame is ours alone while
        // the program runs; `&mut self` keeps a second pair from being made.
        Some(unsafe { (&mut *ethernet, &mut *header) })
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
    #[btf_map(name = "flat4")]
    static FLAT4: ArrayOfMaps<Array<Flat4Block, { OCTETS as usize }>, { OCTETS as usize }> =
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
    static LAYOUT: Array<u64, { MAX_LAYOUTS as usize }> = Array::new();

    /// What the kernel would do with a packet whose interface is not in `tx_ports`; never used, because the pipeline
    /// looks at the answer first.
    const PASS_ON_MISS: u64 = aya_ebpf::bindings::xdp_action::XDP_PASS as u64;

    /// The maps of this object.
    pub(crate) struct Maps;

    impl Tables for Maps {
        #[inline(always)]
        fn config(&self) -> Option<&Config> {
            CONFIG.get(0)
        }

        #[inline(always)]
        fn port(&self, ifindex: u32) -> Option<&Port> {
            PORTS.get(ifindex)
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
        fn choose_egress(&self, ifindex: u32) -> bool {
            TX_PORTS.redirect(ifindex, PASS_ON_MISS).is_ok()
        }

        #[inline(always)]
        fn count(&self, reason: Reason, bytes: u64) {
            if let Some(counter) = COUNTERS.get_ptr_mut(Hook::Xdp.slot(reason)) {
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
