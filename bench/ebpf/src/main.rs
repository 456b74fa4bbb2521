//! Programs of the packet bench: a plain router to compare with, what makes packets, and what counts them.
//!
//! None of them has a counter, a check or a table that it could do without: they are what the least would cost.

#![no_std]
#![no_main]

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, DevMap, HashMap, LpmTrie, PerCpuArray, ProgramArray};
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use causeway_bench_ebpf::{
    BYSTANDERS, Bystander, FLOWS, Frame, PLAIN_GROUPS, PLAIN_ROUTES, PlainGroup, PlainHop,
};

#[btf_map(name = "flows")]
static FLOW_FRAMES: Array<Frame, FLOWS> = Array::new();
/// How many flows there are, less one; then the next one.
#[btf_map(name = "cursor")]
static CURSOR: PerCpuArray<[u32; 2], 1> = PerCpuArray::new();
/// What the wrapper calls.
#[btf_map(name = "under_test")]
static UNDER_TEST: ProgramArray<1> = ProgramArray::new();
#[btf_map(name = "plain_routes")]
static ROUTES: LpmTrie<[u8; 4], u32, PLAIN_ROUTES> = LpmTrie::new();
#[btf_map(name = "plain_groups")]
static GROUPS: Array<PlainGroup, PLAIN_GROUPS> = Array::new();
#[btf_map(name = "plain_hops")]
static HOPS: Array<PlainHop, 256> = Array::new();
#[btf_map(name = "plain_ports")]
static PORTS: DevMap<256> = DevMap::new();
#[btf_map(name = "sunk")]
static SUNK: PerCpuArray<u64, 1> = PerCpuArray::new();
#[btf_map(name = "bystanders")]
static CONNECTIONS: HashMap<[u64; 5], Bystander, BYSTANDERS> = HashMap::new();

/// Makes the frame of the next flow, and calls the program under test.
#[xdp]
fn wrapper(context: XdpContext) -> u32 {
    if write_next(&context).is_some() {
        // SAFETY: the context is the one that this program was called with.
        unsafe {
            let _ = UNDER_TEST.tail_call(&context, 0);
        }
    }
    // The call doesn't return; this says that it failed.
    XDP_DROP
}

/// What the wrapper costs.
#[xdp]
fn nothing(_: XdpContext) -> u32 {
    XDP_REDIRECT
}

/// Sends the frame of the next flow by the first port.
#[xdp]
fn generator(context: XdpContext) -> u32 {
    if write_next(&context).is_none() {
        return XDP_DROP;
    }
    PORTS.redirect(0, 0).unwrap_or(XDP_DROP)
}

/// Counts frames at the end of their way.
#[xdp]
fn sink(_: XdpContext) -> u32 {
    count();
    XDP_DROP
}

/// The same behind the kernel's receive path, in a pod.
#[classifier]
fn sink_tc(_: TcContext) -> i32 {
    count();
    TC_ACT_SHOT
}

#[inline(always)]
fn count() {
    if let Some(sunk) = SUNK.get_ptr_mut(0) {
        // SAFETY: it is this CPU's own.
        unsafe { *sunk += 1 };
    }
}

/// Longest prefix, ECMP by hash, L2 rewrite, device map; IPv4 only.
#[xdp]
fn plain_router(context: XdpContext) -> u32 {
    route(&context).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn write_next(context: &XdpContext) -> Option<()> {
    let start = context.data();
    if start + size_of::<Frame>() > context.data_end() {
        return None;
    }
    let cursor = CURSOR.get_ptr_mut(0)?;
    // SAFETY: it is this CPU's own.
    let [mask, next] = unsafe { &mut *cursor };
    let flow = FLOW_FRAMES.get(*next & *mask)?;
    *next = next.wrapping_add(1);
    let frame = start as *mut u16;
    // SAFETY: the frame is that long, as the comparison above says; frames start on even addresses.
    unsafe { frame.cast::<Frame>().write_unaligned(*flow) };
    Some(())
}

#[inline(always)]
fn route(context: &XdpContext) -> Option<u32> {
    let start = context.data();
    if start + 14 + 20 + 4 > context.data_end() {
        return None;
    }
    let words = start as *mut u16;
    // SAFETY: 19 words are there, as the comparison above says.
    let word = |n: usize| unsafe { *words.add(n) };
    if word(6) != 0x0800_u16.to_be() || word(7).to_ne_bytes()[0] != 0x45 {
        return None;
    }
    let [ttl, protocol] = word(11).to_ne_bytes();
    if ttl <= 1 {
        return None;
    }
    let ([d0, d1], [d2, d3]) = (word(15).to_ne_bytes(), word(16).to_ne_bytes());
    let group = ROUTES.get(&Key::new(32, [d0, d1, d2, d3]))?;
    let addresses = u64::from(word(13))
        | u64::from(word(14)) << 16
        | u64::from(word(15)) << 32
        | u64::from(word(16)) << 48;
    let ports = u64::from(word(17)) << 16 | u64::from(word(18)) << 32 | u64::from(protocol);
    let mixed = (addresses ^ ports.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (mixed ^ (mixed >> 29)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32;
    let group = GROUPS.get(*group)?;
    let member = (hash * u64::from(group.count)) >> 32;
    let hop = HOPS.get(*group.members.get(member as usize)?)?;
    // SAFETY: as above.
    unsafe {
        for (n, mac) in hop.macs.iter().enumerate() {
            *words.add(n) = *mac;
        }
        *words.add(11) = u16::from_ne_bytes([ttl - 1, protocol]);
        let sum = u32::from(u16::from_be(word(12))) + 0x100;
        *words.add(12) = ((sum + (sum >> 16)) as u16).to_be();
    }
    PORTS.redirect(hop.ifindex, 0).ok()
}

/// GPL-compatible, as the kernel asks of those who use its helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}
