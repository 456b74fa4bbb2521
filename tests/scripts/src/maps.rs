//! What the maps hold, as text. Ids show here: they are what the maps are made of.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use causeway_maps::service::{
    Backend, Frontend, FrontendKey, Pool, RingPage, RingRef, ServiceAddr, SourceRangeKey,
    admission, backend_flags, frontend_flags, frontend_kind, route, seat_flags, svc_addr_flags,
};
use causeway_plan::ServiceDump;

use crate::render::part;

/// All maps; those that are empty don't show.
pub(crate) fn maps(dump: &ServiceDump) -> String {
    let mut text = String::new();
    let frontends = dump
        .frontends
        .iter()
        .map(|(key, value)| frontend(key, value));
    part(&mut text, "frontends", frontends.collect());
    let addresses = dump.addresses.iter().map(|(addr, flags)| {
        let names = [
            (svc_addr_flags::HELD, "held"),
            (svc_addr_flags::REJECT_OTHERS, "reject others"),
            (svc_addr_flags::NODE_PORT, "node ports"),
        ];
        vec![address(*addr).to_string(), flag_names(*flags, &names)]
    });
    part(&mut text, "svc_addrs", addresses.collect());
    let ranges = dump.source_ranges.iter().map(|(key, value)| {
        let verdict = match *value {
            admission::ADMITTED => "admitted",
            _ => "refused",
        };
        vec![range(key), verdict.to_owned()]
    });
    part(&mut text, "src_ranges", ranges.collect());
    let pools = dump.pools.iter().map(|(id, value)| pool(*id, value));
    part(&mut text, "pools", pools.collect());
    let pages = dump.ring_pages.iter().map(|(page, value)| {
        let seats: BTreeSet<u16> = value.seats.iter().copied().collect();
        let named = seats.into_iter().filter(|seat| *seat != RingPage::NOBODY);
        let shares = named.map(|seat| {
            let slots = value.seats.iter().filter(|other| **other == seat).count();
            format!("seat {seat}: {slots}")
        });
        [page.to_string()].into_iter().chain(shares).collect()
    });
    part(&mut text, "ring_pages", pages.collect());
    let seats = dump.seats.iter().map(|(index, seat)| {
        let names = [
            (seat_flags::CLUSTER, "cluster"),
            (seat_flags::LOCAL, "local"),
        ];
        let rings = flag_names(seat.flags, &names);
        vec![
            index.to_string(),
            format!("backend {}", seat.backend),
            rings,
        ]
    });
    part(&mut text, "seats", seats.collect());
    let backends = dump.backends.iter().map(|(id, value)| backend(*id, value));
    part(&mut text, "backends", backends.collect());
    text
}

fn frontend(key: &FrontendKey, value: &Frontend) -> Vec<String> {
    let mut row = vec![
        end(key.addr, key.port, key.protocol),
        match key.kind {
            frontend_kind::NODE_PORT => "node port".to_owned(),
            _ => "address".to_owned(),
        },
        format!("pool {}", value.pool),
    ];
    for (client, route) in [
        ("pod", value.pod),
        ("host", value.host),
        ("outside", value.outside),
    ] {
        row.push(format!("{client}: {}", route_text(route)));
    }
    if value.flags & frontend_flags::SOURCE_RANGES != 0 {
        row.push(format!("source ranges of {}", value.service));
    }
    row
}

fn route_text(bits: u8) -> String {
    match bits {
        route::REJECT => "reject".to_owned(),
        route::DROP => "drop".to_owned(),
        _ => {
            let names = [
                (route::FORWARD, "forward"),
                (route::LOCAL, "local"),
                (route::MASQUERADE, "masquerade"),
            ];
            flag_names(
                u32::from(bits),
                &names.map(|(bit, name)| (u32::from(bit), name)),
            )
        }
    }
}

fn pool(id: u32, pool: &Pool) -> Vec<String> {
    let ring = |name: &str, ring: RingRef| match ring.slots {
        0 => format!("{name}: none"),
        1 => format!("{name}: seat {}", ring.page),
        slots => format!("{name}: {slots} slots from page {}", ring.page),
    };
    let affinity = match pool.affinity_seconds {
        0 => "no affinity".to_owned(),
        seconds => format!("affinity {seconds}s"),
    };
    vec![
        id.to_string(),
        format!("service {}", pool.service),
        format!("{:016x}", pool.identity),
        format!("{} seats from {}", pool.seats, pool.seats_base),
        affinity,
        ring("cluster", pool.cluster),
        ring("local", pool.local),
    ]
}

fn backend(id: u32, backend: &Backend) -> Vec<String> {
    let generation = format!("generation {}", backend.generation);
    if backend.flags & backend_flags::PRESENT == 0 {
        return vec![id.to_string(), "gone".to_owned(), String::new(), generation];
    }
    let serving = match backend.flags & backend_flags::SERVING {
        0 => "not serving",
        _ => "serving",
    };
    let place = end(backend.addr, backend.port, backend.protocol);
    vec![id.to_string(), place, serving.to_owned(), generation]
}

fn range(key: &SourceRangeKey) -> String {
    let number = u32::from_be_bytes(key.service_family);
    let addr = address(key.addr);
    let bits = key.prefix_len - SourceRangeKey::WHOLE;
    let family = if number & 1 == 0 { "IPv4" } else { "IPv6" };
    let clients = match (bits, addr) {
        (0, _) => "everybody".to_owned(),
        (bits, IpAddr::V4(addr)) => format!("{addr}/{}", bits - 96),
        (bits, IpAddr::V6(addr)) => format!("{addr}/{bits}"),
    };
    format!("service {} {family} {clients}", number >> 1)
}

fn end(addr: ServiceAddr, port: u16, protocol: u8) -> String {
    let protocol = match protocol {
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "?",
    };
    let end = std::net::SocketAddr::new(address(addr), u16::from_be(port));
    format!("{end}/{protocol}")
}

fn address(addr: ServiceAddr) -> IpAddr {
    Ipv6Addr::from(addr.octets()).to_canonical()
}

fn flag_names(flags: u32, names: &[(u32, &str)]) -> String {
    let set = names.iter().filter(|(bit, _)| flags & bit != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("+")
}
