//! What a prefix costs in memory: counted in the allocator, so that the figure does not depend on the machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use causeway_bgp::policy::Policy;
use causeway_bgp::rib::{FamilySession, PeerKind, Rib, RibConfig, RibSession};
use causeway_bgp::types::{Asn, Family, PeerId, Prefix4, RouterId};
use causeway_bgp::wire::{AsPath, Attributes, Community, NextHop, Origin, Reach, Update};

struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged; only sizes are counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Just below a power of two, where growing tables are at their fullest, and the share of each prefix is not blurred by room
/// for more.
const PREFIXES: u32 = (1 << 17) * 7 / 8;

/// In, out, hash table, destination, attributes: what one prefix may cost.
const MAX_BYTES_PER_PREFIX: usize = 100;

fn session(peer: u32) -> RibSession {
    let all = Some(Arc::new(Policy::accept_all()));
    let family = FamilySession {
        import: all.clone(),
        export: all,
        ..FamilySession::default()
    };
    RibSession::new(
        PeerKind::External,
        (Asn(65_000), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        (
            Asn(65_001 + peer),
            RouterId(10 + peer),
            IpAddr::V4(Ipv4Addr::from(0xc000_020a + peer)),
        ),
        &[(Family::Ipv4Unicast, family)],
    )
}

fn load(rib: &mut Rib) {
    /// The mean number of prefixes that share their attributes in the global table.
    const GROUP: u32 = 7;
    for first in (0..PREFIXES).step_by(GROUP as usize) {
        let attributes = Attributes {
            origin: Origin::Igp,
            atomic_aggregate: false,
            as_path: AsPath::sequence([65_001, first + 1, 3, 4]),
            next_hop: NextHop::V4(Ipv4Addr::new(192, 0, 2, 10)),
            med: None,
            local_pref: None,
            communities: [Community(first), Community(u32::MAX / 2)].into(),
            rare: None,
        };
        let prefixes = (first..PREFIXES.min(first + GROUP))
            .map(|index| Prefix4::new(Ipv4Addr::from(0x0a00_0000 + (index << 8)), 24).unwrap())
            .collect();
        let reach4 = Some(Reach {
            attributes,
            prefixes,
        });
        rib.handle_update(
            PeerId(0),
            Update {
                reach4,
                ..Update::default()
            },
        );
        while rib.work(1000) | rib.flush(1000) {}
        while rib.poll_transmit(PeerId(1), 65_536).is_some() {}
    }
}

#[test]
fn a_prefix_costs_at_most_100_bytes_however_often_it_comes_and_goes() {
    let config = RibConfig {
        assume_reachable: true,
        ..RibConfig::new(Asn(65_000), RouterId(1))
    };
    let start = LIVE_BYTES.load(Ordering::Relaxed);
    let mut rib = Rib::new(config);
    for peer in 0..2 {
        rib.peer_up(PeerId(peer), session(peer)).unwrap();
    }
    load(&mut rib);
    while rib.poll_fib(1000).is_some() {}
    let loaded = LIVE_BYTES.load(Ordering::Relaxed) - start;
    assert_eq!(rib.summary().families[0].routes, PREFIXES as usize);
    let each = loaded / PREFIXES as usize;
    println!("{each} bytes per prefix");
    assert!(each <= MAX_BYTES_PER_PREFIX, "{each} bytes per prefix");

    // What the queues of a great change need comes on top once, and is not needed again.
    let mut after = Vec::new();
    for _ in 0..4 {
        rib.peer_down(PeerId(0), &[]);
        while rib.work(1000) | rib.flush(1000) {}
        while rib.poll_transmit(PeerId(1), 65_536).is_some() {}
        while rib.poll_fib(1000).is_some() {}
        rib.peer_up(PeerId(0), session(0)).unwrap();
        load(&mut rib);
        while rib.poll_fib(1000).is_some() {}
        after.push(LIVE_BYTES.load(Ordering::Relaxed) - start);
    }
    assert!(after[3] <= after[1], "{after:?}");
    assert!(
        after[0] <= loaded * 13 / 10,
        "{loaded} bytes grew to {}",
        after[0]
    );
}
