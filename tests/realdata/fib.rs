//! The Internet's table in the maps of the shipped daemon, split over eight routers so that a prefix and the one that covers
//! it mostly lead to different next hops: whoever takes the wrong one of them is seen.
//!
//! ```text
//!   source ══ eight replayed peers ══ FRR or BIRD, ×8 ══ us ── in
//! ```
//!
//! The IPv6 table is made from the IPv4 one: `a.b.c.d/len` becomes `2400:abcd:…/16+len`, nesting included. For addresses
//! at and beside the edges of random prefixes four look-ups are held against a naive one: what the LPM map says, what the
//! kernel's own table says, what the program that is attached does with a packet, and what the map says to a look-up that is
//! wrong on purpose, which has to be noticed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map, MapData};
use aya::programs::{TestRun, TestRunOptions, Xdp, loaded_programs};
use aya_obj::programs::XdpAttachType;
use causeway_maps::{Group, GroupId, NextHop};
use causeway_net::kernel::PROTOCOL;
use support::causeway::{Causeway, Config};
use support::peer::{Implementation, Neighbor, Peer, Router};
use support::{Lab, Node, wait_until};

use crate::kernel::KernelTable;
use crate::mrt::{self, RecordedPeer};
use crate::replayer::{Replayer, Target};
use crate::{FULL_VIEW, FULL_VIEW_PREFIXES, data};

const ROUTERS: usize = 8;
const OUR_AS: u32 = 64_600;
const FIRST_AS: u32 = 64_601;
/// For both tables to arrive in the maps, on two loaded cores.
const ARRIVAL: Duration = Duration::from_secs(300);
/// Prefixes whose edges are asked, per family.
const SAMPLES: usize = 2_000;
/// Prefixes of the IPv6 table in one UPDATE.
const PACKED: usize = 100;
const BGP_HEADER: usize = 19;

/// A prefix: its address in the upper bits, and its length. The family is known from where it is kept.
type Prefix = (u128, u8);

/// A table: which router each prefix was given to.
struct Table {
    v4: bool,
    routers: HashMap<Prefix, usize>,
}

#[test]
fn every_look_up_in_the_internets_table_agrees_with_a_naive_one() {
    Lab::test(|lab| {
        let stage = Stage::start(lab)?;
        for table in &stage.tables {
            stage.complete(table)?;
            stage.followed(table)?;
            stage.agree(table)?;
        }
        stage.finish()
    });
}

/// Everybody, established, with all routes under way.
struct Stage {
    us: Node,
    tables: [Table; 2],
    /// The MAC address by which a router is told from the others.
    macs: Vec<[u8; 6]>,
    _causeway: Causeway,
    _routers: Vec<Peer>,
    replayers: Vec<Replayer>,
}

impl Stage {
    fn start(lab: &Lab) -> Result<Self> {
        let recorded = mrt::read(&data("ris-bview-20020722-2337.gz"))?
            .remove(&FULL_VIEW.parse()?)
            .context("the full view is not in the recording")?;
        let (tables, shares) = split(&recorded)?;
        let (source, us, inside) = (lab.node("source")?, lab.node("us")?, lab.node("in")?);
        us.link("in", &inside, "us")?;
        let mut ours = Router::new(OUR_AS, [10, 82, 0, 2]);
        let (mut routers, mut macs) = (Vec::new(), Vec::new());
        for (n, asn) in (FIRST_AS..).take(ROUTERS).enumerate() {
            let router = lab.node(&format!("router{n}"))?;
            source.link(&format!("to{n}"), &router, "eth0")?;
            router.link("eth1", &us, &format!("peer{n}"))?;
            source.address(&format!("to{n}"), addresses(81, n, 1))?;
            router.address("eth0", addresses(81, n, 2))?;
            // The recorded next hops are in this subnet; routers drop routes to next hops that they are not connected to.
            router.address("eth0", ["193.203.0.254/24"])?;
            router.address("eth1", addresses(82, n, 1))?;
            us.address(&format!("peer{n}"), addresses(82, n, 2))?;
            let mut description = Router::new(asn, [10, 82, 0, 100 + u8::try_from(n)?]);
            for (above, below) in plain(81, n).into_iter().zip(plain(82, n)) {
                description = description
                    .neighbor(Neighbor {
                        passive: true,
                        ..Neighbor::new(&above[1], &above[0], recorded.asn)
                    })
                    .neighbor(Neighbor::new(&below[0], &below[1], OUR_AS));
                ours = ours.neighbor(Neighbor::new(&below[1], &below[0], asn));
            }
            let implementation = if n % 2 == 0 {
                Implementation::Frr
            } else {
                Implementation::Bird
            };
            macs.push(mac(&router, "eth1")?);
            routers.push(Peer::start(implementation, &router, description)?);
        }
        let uplinks = (0..ROUTERS)
            .map(|n| format!("peer{n}"))
            .chain(["in".to_owned()]);
        let mut causeway = Causeway::start(&us, Config::transit(ours, uplinks))?;
        causeway.wait_established(ARRIVAL)?;
        let mut replayers = Vec::new();
        for (n, shares) in shares.iter().enumerate() {
            for (share, ends) in shares.iter().zip(plain(81, n)) {
                let target = Target {
                    local: ends[0].parse()?,
                    daemon: SocketAddr::new(ends[1].parse()?, 179),
                };
                replayers.push(source.enter(|| Replayer::start(&target, share))??);
            }
        }
        Ok(Self {
            us,
            tables,
            macs,
            _causeway: causeway,
            _routers: routers,
            replayers,
        })
    }

    /// Every prefix is in the map, with a group whose every slot is the router that announced it.
    fn complete(&self, table: &Table) -> Result<()> {
        wait_until("the whole table in the map", ARRIVAL, || {
            let routes = self.routes(table)?;
            let missing = table
                .routers
                .keys()
                .filter(|prefix| !routes.contains_key(*prefix))
                .count();
            ensure!(missing == 0, "{missing} of {} missing", table.routers.len());
            Ok(())
        })?;
        let routes = self.routes(table)?;
        let mut resolver = Resolver::open(self)?;
        let mut wrong = Vec::new();
        for (prefix, router) in &table.routers {
            let found = resolver.router_of(routes[prefix])?;
            if found != Some(*router) {
                wrong.push((*prefix, *router, found));
            }
        }
        ensure!(
            wrong.is_empty(),
            "{} of {} prefixes lead elsewhere: {:x?}",
            wrong.len(),
            table.routers.len(),
            &wrong[..wrong.len().min(5)]
        );
        Ok(())
    }

    /// Every prefix is in the kernel's table too, which follows the maps.
    fn followed(&self, table: &Table) -> Result<()> {
        let family = if table.v4 { "-4" } else { "-6" };
        let protocol = PROTOCOL.to_string();
        wait_until("the whole table in the kernel", ARRIVAL, || {
            let listing = ["-o", family, "route", "show", "proto", &protocol];
            let routes = self.us.run("ip", listing)?.lines().count();
            ensure!(
                routes == table.routers.len(),
                "{routes} of {} routes",
                table.routers.len()
            );
            Ok(())
        })
    }

    /// First, last and neighbouring addresses of random prefixes.
    fn agree(&self, table: &Table) -> Result<()> {
        let addresses = table.edges(SAMPLES);
        let expected: Vec<Option<usize>> = addresses
            .iter()
            .map(|address| table.longest(*address))
            .collect();
        let answered = expected.iter().flatten().count();
        ensure!(answered * 10 > expected.len() * 9, "{answered} routed");

        let mut resolver = Resolver::open(self)?;
        let by_map = addresses
            .iter()
            .map(|address| resolver.look_up(table.v4, *address))
            .collect::<Result<Vec<_>>>()?;
        same("the map", table, &addresses, &expected, &by_map)?;

        let by_kernel = self.ask_kernel(table, &addresses)?;
        same("the kernel", table, &addresses, &expected, &by_kernel)?;

        let by_packet = self.send(table, &addresses)?;
        same("the program", table, &addresses, &expected, &by_packet)?;

        // Were covering and covered prefixes alike, or the comparison blind, all of this would prove nothing.
        let wrong = addresses
            .iter()
            .map(|address| match table.covering(*address).next() {
                Some((length @ 1.., _)) => resolver.look_up_to(table.v4, *address, length - 1),
                _ => Ok(None),
            })
            .collect::<Result<Vec<_>>>()?;
        let noticed = same("a wrong look-up", table, &addresses, &expected, &wrong);
        ensure!(
            noticed.is_err(),
            "a look-up that takes the covering prefix is not noticed"
        );
        let covering: Vec<_> = addresses
            .iter()
            .map(|address| table.covering(*address).nth(1).map(|(_, router)| router))
            .collect();
        same(
            "a look-up one bit short",
            table,
            &addresses,
            &covering,
            &wrong,
        )?;
        println!("{} addresses agree", addresses.len());
        Ok(())
    }

    /// By which router the kernel would send.
    fn ask_kernel(&self, table: &Table, addresses: &[u128]) -> Result<Vec<Option<usize>>> {
        let indices = (0..ROUTERS)
            .map(|n| index_of(&self.us, &format!("peer{n}")))
            .collect::<Result<Vec<_>>>()?;
        self.us.enter(|| {
            let mut kernel = KernelTable::open()?;
            addresses
                .iter()
                .map(|address| {
                    let Some(index) = kernel.look_up(table.show(*address))? else {
                        return Ok(None);
                    };
                    let router = indices.iter().position(|other| *other == index);
                    let router = router.with_context(|| {
                        format!("{} leads to interface {index}", table.show(*address))
                    })?;
                    Ok(Some(router))
                })
                .collect()
        })?
    }

    /// What the attached program does with a packet to each address: the router that it is sent to.
    fn send(&self, table: &Table, addresses: &[u128]) -> Result<Vec<Option<usize>>> {
        let ingress = index_of(&self.us, "in")?;
        let own = mac(&self.us, "in")?;
        let id = self.open_map(table.map_name())?.info()?.id();
        let program = program_using(id)?;
        let macs = &self.macs;
        self.us.enter(move || {
            addresses
                .iter()
                .map(|address| {
                    let frame = table.frame(own, *address);
                    let mut out = vec![0; 512];
                    let result = program.test_run(TestRunOptions {
                        data_in: Some(&frame),
                        data_out: Some(&mut out),
                        ctx_in: Some(&context(ingress, frame.len())),
                        ..TestRunOptions::default()
                    })?;
                    const XDP_REDIRECT: u32 = 4;
                    if result.return_value != XDP_REDIRECT {
                        return Ok(None);
                    }
                    Ok(macs.iter().position(|mac| out[..6] == mac[..]))
                })
                .collect()
        })?
    }

    fn routes(&self, table: &Table) -> Result<HashMap<Prefix, GroupId>> {
        if table.v4 {
            self.routes_of::<4>(table)
        } else {
            self.routes_of::<16>(table)
        }
    }

    fn routes_of<const N: usize>(&self, table: &Table) -> Result<HashMap<Prefix, GroupId>>
    where
        [u8; N]: Pod,
    {
        let map = Map::LpmTrie(self.open_map(table.map_name())?);
        let trie = LpmTrie::<_, [u8; N], u32>::try_from(map)?;
        trie.iter()
            .map(|entry| {
                let (key, group) = entry?;
                let mut octets = [0; 16];
                octets[..N].copy_from_slice(&key.data());
                let length = u8::try_from(key.prefix_len())?;
                Ok(((u128::from_be_bytes(octets), length), GroupId(group)))
            })
            .collect()
    }

    fn open_map(&self, name: &str) -> Result<MapData> {
        let pins = self
            .us
            .run("find", ["/sys/fs/bpf/causeway", "-name", name])?;
        let pin = pins
            .lines()
            .next()
            .with_context(|| format!("no map {name} is pinned"))?;
        let seen_from_here = Path::new("/proc")
            .join(self.us.holder().to_string())
            .join("root")
            .join(pin.trim_start_matches('/'));
        Ok(MapData::from_pin(&seen_from_here)?)
    }

    /// The sessions have lasted.
    fn finish(self) -> Result<()> {
        self.replayers.into_iter().try_for_each(Replayer::finish)
    }
}

/// Reads the maps as the program would.
struct Resolver<'a> {
    stage: &'a Stage,
    routes4: LpmTrie<MapData, [u8; 4], u32>,
    routes6: LpmTrie<MapData, [u8; 16], u32>,
    groups: Array<MapData, [u8; size_of::<Group>()]>,
    next_hops: Array<MapData, [u8; size_of::<NextHop>()]>,
    known: HashMap<GroupId, Option<usize>>,
}

impl<'a> Resolver<'a> {
    fn open(stage: &'a Stage) -> Result<Self> {
        Ok(Self {
            stage,
            routes4: LpmTrie::try_from(Map::LpmTrie(stage.open_map("routes4")?))?,
            routes6: LpmTrie::try_from(Map::LpmTrie(stage.open_map("routes6")?))?,
            groups: Array::try_from(Map::Array(stage.open_map("groups")?))?,
            next_hops: Array::try_from(Map::Array(stage.open_map("next_hops")?))?,
            known: HashMap::new(),
        })
    }

    fn look_up(&mut self, v4: bool, address: u128) -> Result<Option<usize>> {
        self.look_up_to(v4, address, if v4 { 32 } else { 128 })
    }

    /// By prefixes of this length at most.
    fn look_up_to(&mut self, v4: bool, address: u128, length: u8) -> Result<Option<usize>> {
        let octets = address.to_be_bytes();
        let found = if v4 {
            let key: [u8; 4] = octets[..4].try_into()?;
            self.routes4.get(&Key::new(length.into(), key), 0)
        } else {
            self.routes6.get(&Key::new(length.into(), octets), 0)
        };
        match found {
            Ok(group) => self.router_of(GroupId(group)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The only router in all slots of a group.
    fn router_of(&mut self, group: GroupId) -> Result<Option<usize>> {
        if let Some(router) = self.known.get(&group) {
            return Ok(*router);
        }
        let value: Group = bytemuck::pod_read_unaligned(&self.groups.get(&group.0, 0)?);
        let first = value.slots[0].order[0];
        ensure!(
            value.slots.iter().all(|slot| slot.order[0] == first),
            "group {} has several next hops",
            group.0
        );
        let router = if first == 0 {
            None
        } else {
            let hop = self.next_hops.get(&u32::from(first), 0)?;
            let hop: NextHop = bytemuck::pod_read_unaligned(&hop);
            self.stage.macs.iter().position(|mac| *mac == hop.dst_mac)
        };
        self.known.insert(group, router);
        Ok(router)
    }
}

impl Table {
    fn map_name(&self) -> &'static str {
        if self.v4 { "routes4" } else { "routes6" }
    }

    fn bits(&self) -> u8 {
        if self.v4 { 32 } else { 128 }
    }

    /// By asking for every length in turn.
    fn longest(&self, address: u128) -> Option<usize> {
        self.covering(address).next().map(|(_, router)| router)
    }

    /// Lengths and routers of the prefixes that an address lies in, the longest first.
    fn covering(&self, address: u128) -> impl Iterator<Item = (u8, usize)> {
        (0..=self.bits()).rev().filter_map(move |length| {
            let prefix = (address & mask(length), length);
            Some((length, *self.routers.get(&prefix)?))
        })
    }

    /// First and last addresses of random prefixes, and those before and after.
    fn edges(&self, prefixes: usize) -> Vec<u128> {
        let mut all: Vec<Prefix> = self.routers.keys().copied().collect();
        // A fixed order that has nothing to do with the addresses'.
        all.sort_unstable_by_key(|prefix| (mix(*prefix), *prefix));
        let unit = 1 << (128 - u32::from(self.bits()));
        all.into_iter()
            .take(prefixes)
            .flat_map(|(first, length)| {
                let last = first | (!mask(length) & !(unit - 1));
                [
                    first,
                    last,
                    first.wrapping_sub(unit),
                    last.wrapping_add(unit),
                ]
            })
            .filter(|address| self.is_routable(*address))
            .collect()
    }

    /// Not what the program refuses to route, nor the lab's own addresses.
    fn is_routable(&self, address: u128) -> bool {
        let octets = address.to_be_bytes();
        if self.v4 {
            !matches!(
                octets,
                [0 | 10 | 127, ..] | [169, 254, ..] | [224..=255, ..]
            )
        } else {
            octets[0] == 0x24
        }
    }

    fn show(&self, address: u128) -> IpAddr {
        let octets = address.to_be_bytes();
        if self.v4 {
            Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()
        } else {
            Ipv6Addr::from(octets).into()
        }
    }

    /// A packet without payload.
    fn frame(&self, own_mac: [u8; 6], address: u128) -> Vec<u8> {
        let to = address.to_be_bytes();
        let mut frame = own_mac.to_vec();
        frame.extend([0x02, 0xee, 0, 0, 0, 1]);
        if self.v4 {
            frame.extend([0x08, 0x00]);
            let mut header = [
                0x45, 0, 0, 20, 0, 1, 0, 0, 64, 59, 0, 0, 198, 18, 0, 1, to[0], to[1], to[2], to[3],
            ];
            let sum: u32 = header
                .chunks_exact(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend(header);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 59, 64]);
            frame.extend(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).octets());
            frame.extend(to);
        }
        frame
    }
}

/// The table and its IPv6 twin, and for each router what its peers say, IPv4 first.
fn split(recorded: &RecordedPeer) -> Result<([Table; 2], Vec<[RecordedPeer; 2]>)> {
    let [mut v4, mut v6] = [HashMap::new(), HashMap::new()];
    let silent = || RecordedPeer {
        asn: recorded.asn,
        four_octet_as: recorded.four_octet_as,
        updates: Vec::new(),
    };
    let mut shares: Vec<[RecordedPeer; 2]> = (0..ROUTERS).map(|_| [silent(), silent()]).collect();
    let mut made = vec![Vec::new(); ROUTERS];
    for update in &recorded.updates {
        let (addr, length) = only_prefix(update)?;
        let prefix = (u128::from(addr) << 96, length);
        let router = usize::try_from(mix(prefix) % ROUTERS as u64)?;
        let twin = ((0x2400 << 112) | (u128::from(addr) << 80), length + 16);
        ensure!(
            v4.insert(prefix, router).is_none(),
            "{prefix:x?} comes twice"
        );
        v6.insert(twin, router);
        shares[router][0].updates.push(update.clone());
        made[router].push(twin);
    }
    for (n, (share, prefixes)) in shares.iter_mut().zip(made).enumerate() {
        let [_, source] = plain(81, n);
        let next_hop: Ipv6Addr = source[0].parse()?;
        share[1].updates = prefixes
            .chunks(PACKED)
            .map(|prefixes| update6(recorded.asn, next_hop, prefixes))
            .collect::<Result<_>>()?;
    }
    ensure!(
        v4.len() == FULL_VIEW_PREFIXES,
        "{} prefixes in the recording",
        v4.len()
    );
    let tables = [(true, v4), (false, v6)].map(|(v4, routers)| Table { v4, routers });
    let nested = tables[0]
        .routers
        .iter()
        .filter(|((address, length), router)| {
            let above = (0..*length)
                .rev()
                .find_map(|length| tables[0].routers.get(&(address & mask(length), length)));
            above.is_some_and(|above| above != *router)
        })
        .count();
    ensure!(
        nested > FULL_VIEW_PREFIXES / 10,
        "only {nested} prefixes lie in one that leads elsewhere"
    );
    Ok((tables, shares))
}

/// The prefix of an UPDATE that announces one.
fn only_prefix(update: &[u8]) -> Result<(u32, u8)> {
    let at = BGP_HEADER + 2;
    let length = update.get(at..at + 2).context("no attributes")?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let [bits, octets @ ..] = update.get(at + 2 + length..).context("no prefix")? else {
        bail!("no prefix in {update:x?}");
    };
    ensure!(octets.len() <= 4, "more than one prefix in {update:x?}");
    let mut addr = [0; 4];
    addr[..octets.len()].copy_from_slice(octets);
    // Bits beyond the length may be anything (RFC 4271 4.3).
    let addr = u32::from_be_bytes(addr) & (mask(*bits) >> 96) as u32;
    Ok((addr, *bits))
}

/// An UPDATE that announces IPv6 prefixes (RFC 4760) by way of one AS of two octets.
fn update6(asn: u32, next_hop: Ipv6Addr, prefixes: &[Prefix]) -> Result<Vec<u8>> {
    let mut reach = vec![0, 2, 1, 16];
    reach.extend(next_hop.octets());
    reach.push(0);
    for (address, length) in prefixes {
        reach.push(*length);
        reach.extend(&address.to_be_bytes()[..usize::from(*length).div_ceil(8)]);
    }
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 4, 2, 1];
    attributes.extend(u16::try_from(asn)?.to_be_bytes());
    attributes.extend([0x90, 14]);
    attributes.extend(u16::try_from(reach.len())?.to_be_bytes());
    attributes.extend(reach);
    let mut update = vec![0xff; 16];
    let length = BGP_HEADER + 4 + attributes.len();
    update.extend(u16::try_from(length)?.to_be_bytes());
    update.extend([2, 0, 0]);
    update.extend(u16::try_from(attributes.len())?.to_be_bytes());
    update.extend(attributes);
    Ok(update)
}

/// An error that shows the first few differences.
fn same(
    what: &str,
    table: &Table,
    addresses: &[u128],
    expected: &[Option<usize>],
    found: &[Option<usize>],
) -> Result<()> {
    let differences: Vec<String> = addresses
        .iter()
        .zip(expected.iter().zip(found))
        .filter(|(_, (expected, found))| expected != found)
        .map(|(address, (expected, found))| {
            format!("{}: {found:?}, not {expected:?}", table.show(*address))
        })
        .collect();
    ensure!(
        differences.is_empty() && found.len() == addresses.len(),
        "{what} is wrong for {} of {} addresses: {:#?}",
        differences.len(),
        addresses.len(),
        &differences[..differences.len().min(5)]
    );
    Ok(())
}

fn mask(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(length))
        .unwrap_or_default()
}

/// A fixed number for a prefix (FNV-1a, folded).
fn mix((address, length): Prefix) -> u64 {
    let bytes = address.to_be_bytes().into_iter().chain([length]);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}

/// Addresses of the n-th link of a kind, with lengths.
fn addresses(kind: usize, n: usize, host: usize) -> [String; 2] {
    [
        format!("10.{kind}.{n}.{host}/24"),
        format!("fd00:{kind}:{n}::{host}/64"),
    ]
}

/// Both ends of the n-th link of a kind, in each family.
fn plain(kind: usize, n: usize) -> [[String; 2]; 2] {
    [
        [format!("10.{kind}.{n}.1"), format!("10.{kind}.{n}.2")],
        [format!("fd00:{kind}:{n}::1"), format!("fd00:{kind}:{n}::2")],
    ]
}

/// The loaded program that uses the map with this id.
fn program_using(map: u32) -> Result<Xdp> {
    for info in loaded_programs() {
        let info = info?;
        let uses = info.map_ids()?.is_some_and(|ids| ids.contains(&map));
        if uses && info.name_as_str() == Some("causeway_xdp") {
            let program =
                Xdp::from_program_info(info, "causeway_xdp".into(), XdpAttachType::Interface);
            return Ok(program?);
        }
    }
    bail!("no loaded program uses map {map}")
}

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(ingress: u32, len: usize) -> [u8; 24] {
    bytemuck::cast([0, len as u32, 0, ingress, 0, 0_u32])
}

fn link_words(node: &Node, interface: &str) -> Result<Vec<String>> {
    let shown = node.run("ip", ["-o", "link", "show", interface])?;
    Ok(shown.split_whitespace().map(str::to_owned).collect())
}

fn index_of(node: &Node, interface: &str) -> Result<u32> {
    let words = link_words(node, interface)?;
    let index = words.first().context("no index")?;
    Ok(index.trim_end_matches(':').parse()?)
}

fn mac(node: &Node, interface: &str) -> Result<[u8; 6]> {
    let words = link_words(node, interface)?;
    let at = words
        .iter()
        .position(|word| word == "link/ether")
        .context("not Ethernet")?;
    let text = words.get(at + 1).context("no address")?;
    let octets = text
        .split(':')
        .map(|octet| Ok(u8::from_str_radix(octet, 16)?))
        .collect::<Result<Vec<_>>>()?;
    octets
        .try_into()
        .map_err(|octets| anyhow::anyhow!("{octets:x?} is no MAC address"))
}
