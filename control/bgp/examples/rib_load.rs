//! What the RIB costs without sockets: loads a table from some peers, hands it to one more, withdraws it all.
//!
//! `cargo run --release -p causeway-bgp --example rib_load -- [PREFIXES [PEERS]]`

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use causeway_bgp::policy::Policy;
use causeway_bgp::rib::{FamilySession, PeerKind, Rib, RibConfig, RibSession};
use causeway_bgp::types::{Asn, Family, PeerId, Prefix4, RouterId};
use causeway_bgp::wire::{AsPath, Attributes, Community, NextHop, Origin, Reach, Update};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged; only sizes are counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Updates applied before a flush, as many as one read of a transport brings.
const UPDATES_PER_FLUSH: usize = 1000;

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse::<u32>().ok());
    let (prefixes, peers) = (
        args.next().unwrap_or(1_000_000).min(1 << 20),
        args.next().unwrap_or(1),
    );
    let updates: Vec<Vec<Update>> = (0..peers).map(|peer| table(peer, prefixes)).collect();
    let withdrawals: Vec<Vec<Update>> = updates.iter().map(|updates| withdrawn(updates)).collect();
    let count: usize = updates.iter().map(Vec::len).sum();
    println!("{prefixes} prefixes from {peers} peers in {count} updates");

    let mut config = RibConfig::new(Asn(65_000), RouterId(1));
    config.assume_reachable = true;
    config.install_routes = false;
    let before = LIVE.load(Ordering::Relaxed);
    let mut rib = Rib::new(config);
    for peer in 0..=peers {
        rib.peer_up(PeerId(peer), session(peer))
            .expect("few sessions");
    }
    let sink = PeerId(peers);
    let mut sent = Sent::default();
    take(&mut rib, sink, &mut sent);

    let copies = updates.clone();
    let after_input = LIVE.load(Ordering::Relaxed);
    PEAK.store(after_input, Ordering::Relaxed);
    phase("load", &mut rib, sink, copies);
    let after = LIVE.load(Ordering::Relaxed);
    // The copies of the input are gone by now.
    let held = after - before;
    let summary = rib.summary();
    println!(
        "holds {:.1} MiB: {:.1} bytes per prefix, {:.1} per path; {} attribute sets",
        held as f64 / f64::from(1 << 20),
        held as f64 / f64::from(prefixes),
        held as f64 / summary.families[0].paths as f64,
        summary.attribute_sets
    );

    if peers > 1 {
        let start = cpu();
        let mut sent = Sent::default();
        rib.peer_down(PeerId(0), &[]);
        settle(&mut rib, sink, &mut sent);
        println!(
            "fail-over: {:.3} s CPU, {} updates out",
            cpu() - start,
            sent.messages
        );
    }
    phase("withdraw", &mut rib, sink, withdrawals);
}

fn phase(name: &str, rib: &mut Rib, sink: PeerId, per_peer: Vec<Vec<Update>>) {
    let (cpu_start, wall) = (cpu(), Instant::now());
    let mut sent = Sent::default();
    let (mut input, mut flush) = (0.0, 0.0);
    let mut queues: Vec<_> = per_peer.into_iter().map(Vec::into_iter).collect();
    loop {
        let mut any = false;
        let start = cpu();
        for (peer, queue) in (0..).zip(&mut queues) {
            for update in queue.by_ref().take(UPDATES_PER_FLUSH) {
                any = true;
                rib.handle_update(PeerId(peer), update);
            }
        }
        let middle = cpu();
        settle(rib, sink, &mut sent);
        input += middle - start;
        flush += cpu() - middle;
        if !any {
            break;
        }
    }
    println!(
        "{name}: {:.3} s CPU ({input:.3} input, {flush:.3} decide and send), {:.3} s wall; out: {} updates, {} bytes",
        cpu() - cpu_start,
        wall.elapsed().as_secs_f64(),
        sent.messages,
        sent.bytes
    );
}

fn settle(rib: &mut Rib, sink: PeerId, sent: &mut Sent) {
    while rib.work(1 << 16) {}
    while rib.flush(1 << 16) {
        take(rib, sink, sent);
    }
    take(rib, sink, sent);
}

#[derive(Default)]
struct Sent {
    messages: usize,
    bytes: usize,
}

fn take(rib: &mut Rib, sink: PeerId, sent: &mut Sent) {
    while let Some(bytes) = rib.poll_transmit(sink, 64 << 10) {
        sent.bytes += bytes.len();
        let mut rest = &bytes[..];
        while let Some(&[high, low]) = rest.get(16..18) {
            sent.messages += 1;
            rest = &rest[usize::from(u16::from_be_bytes([high, low]))..];
        }
    }
}

/// CPU seconds of this thread, from the kernel's scheduler statistics.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split(' ')
        .next()
        .and_then(|word| word.parse::<u64>().ok());
    nanoseconds.map_or(0.0, |nanoseconds| nanoseconds as f64 / 1e9)
}

fn session(peer: u32) -> RibSession {
    let accept = Some(Arc::new(Policy::accept_all()));
    let family = FamilySession {
        import: accept.clone(),
        export: accept,
        ..FamilySession::default()
    };
    RibSession::new(
        PeerKind::External,
        (Asn(65_000), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        (
            Asn(65_001 + peer),
            RouterId(10 + peer),
            IpAddr::V4(Ipv4Addr::from(0xc633_6400 + peer)),
        ),
        &[(Family::Ipv4Unicast, family)],
    )
}

/// Heavy-tailed groups, 7.4 prefixes in the mean; 60 % of prefixes are /24; communities on 60 % of the groups.
fn table(peer: u32, prefixes: u32) -> Vec<Update> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut updates = Vec::new();
    let mut done = 0;
    while done < prefixes {
        let uniform = (next() >> 11) as f64 / (1u64 << 53) as f64;
        let size = (2.3 / (uniform + 0.002).powf(0.78)) as u32;
        let size = size.clamp(1, 700).min(prefixes - done);
        let hops = 2 + next() % 5;
        let mut path = vec![65_001 + peer];
        path.extend((0..hops).map(|_| 1 + (next() % 60_000) as u32));
        let communities = if next() % 10 < 6 { 1 + next() % 8 } else { 0 };
        let mut communities: Vec<_> = (0..communities).map(|_| Community(next() as u32)).collect();
        communities.sort_unstable();
        communities.dedup();
        let attributes = Attributes {
            origin: Origin::Igp,
            atomic_aggregate: false,
            as_path: AsPath::sequence(path),
            next_hop: NextHop::V4(Ipv4Addr::from(0xc633_6400 + peer)),
            med: None,
            local_pref: None,
            communities: communities.into(),
            rare: None,
        };
        let prefixes = (done..done + size).map(|index| {
            // A permutation of /22s, so that neighbours in a group are not neighbours in the table.
            let base = 0x0100_0000 + (index.wrapping_mul(0x9e_3779) & 0x000f_ffff) * 1024;
            let len = if next() % 10 < 6 {
                24
            } else {
                22 + (next() % 2) as u8
            };
            Prefix4::new(Ipv4Addr::from(base), len).expect("a length of IPv4")
        });
        let prefixes = prefixes.collect();
        updates.push(Update {
            reach4: Some(Reach {
                attributes,
                prefixes,
            }),
            ..Update::default()
        });
        done += size;
    }
    updates
}

fn withdrawn(updates: &[Update]) -> Vec<Update> {
    let prefixes: Vec<Prefix4> = updates
        .iter()
        .flat_map(|update| {
            update
                .reach4
                .iter()
                .flat_map(|reach| reach.prefixes.iter().copied())
        })
        .collect();
    let some = |prefixes: &[Prefix4]| Update {
        withdrawn4: prefixes.to_vec(),
        ..Update::default()
    };
    prefixes.chunks(900).map(some).collect()
}
