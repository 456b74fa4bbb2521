//! The program against the [`model`] on random tables and packets.
//!
//! Tables are small and full of mistakes, packets start valid and are damaged now and then, so that every reason
//! occurs and most packets are still forwarded. `CAUSEWAY_SEED` repeats a run.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use causeway_maps::catalogue::{MAX_GROUPS, MAX_IFINDEX, MAX_NEXT_HOPS};
use causeway_maps::{
    Flat4Block, Flat4Root, GroupId, Hook, PodRange4, PodRange6, Reason, config_flags, dead,
    next_hop_flags,
};

use support::Random;

use crate::frame::{Family, Frame, IP, is_packet};
use crate::model::{self, Arrival};
use crate::rig::Rig;
use crate::world::{
    NO_TX, OFF, POD, UPLINK, UPLINK_2, VID, VLAN_DEVICE, World, group, next_hop, order, own_mac,
};

const WORLDS: u32 = 250;
const PACKETS_PER_WORLD: u32 = 480;
/// Of 120,000 packets; a reason that hardly ever occurs is not compared.
const RAREST: u64 = 25;

#[test]
fn the_program_and_the_model_agree_on_random_packets_and_tables() {
    let tally = agree_at(&[Hook::Xdp], Reason::ALL);
    let forwarded = tally[0] + tally[1];
    assert!(
        forwarded * 5 > u64::from(WORLDS * PACKETS_PER_WORLD),
        "{forwarded} forwarded"
    );
}

#[test]
fn the_tc_programs_and_the_model_agree_on_random_packets_and_tables() {
    let raised = Reason::ALL
        .iter()
        .filter(|reason| !matches!(reason, Reason::Local | Reason::NoTxPort));
    let raised: Vec<_> = raised.copied().collect();
    let tally = agree_at(&[Hook::TcUplink, Hook::TcPod], &raised);
    let forwarded = tally[0] + tally[1];
    assert!(
        forwarded * 5 > u64::from(WORLDS * PACKETS_PER_WORLD),
        "{forwarded} forwarded"
    );
}

/// What XDP finishes, TC alone finishes in the same way: the same frame but for the tag, which a VLAN device puts in.
#[test]
fn with_xdp_detached_every_packet_ends_the_same() {
    let seed = seed();
    println!("CAUSEWAY_SEED={seed}");
    let mut random = Random::new(seed);
    let mut rig = Rig::new();
    let mut finished = [0; 2];
    for _ in 0..WORLDS {
        let world = random_world(&mut random);
        rig.install(&world);
        for _ in 0..PACKETS_PER_WORLD / 4 {
            let (ingress, frame) = random_packet(&mut random, &world);
            if !is_packet(&frame) || frame[12..14] == [0x81, 0x00] {
                continue;
            }
            let mut xdp = rig.run(ingress, &frame);
            let tc = rig.run_tc(Hook::TcUplink, ingress, &frame, 0);
            let wanted = match xdp.action {
                4 => 7,
                1 => 2,
                // What XDP passes on, TC sees as it came.
                _ => {
                    assert_eq!(xdp.frame, frame, "CAUSEWAY_SEED={seed}");
                    continue;
                }
            };
            if xdp.frame[12..14] == [0x81, 0x00] {
                xdp.frame.drain(12..16);
            }
            assert_eq!(
                (tc.action, &tc.frame),
                (wanted, &xdp.frame),
                "CAUSEWAY_SEED={seed}: {frame:02x?} on {ingress}"
            );
            finished[usize::from(wanted == 7)] += 1;
        }
    }
    println!("{} dropped, {} forwarded", finished[0], finished[1]);
    assert!(finished[0] > 500 && finished[1] > 5_000, "{finished:?}");
}

/// Runs random packets through the programs at `hooks`; returns how often each reason occurred, of which all of `raised`
/// have to.
fn agree_at(hooks: &[Hook], raised: &[Reason]) -> Vec<u64> {
    let seed = seed();
    println!("CAUSEWAY_SEED={seed}");
    let mut random = Random::new(seed);
    let mut rig = Rig::new();
    let mut tally = vec![[0_u64; 2]; Hook::SLOTS as usize];
    for nth_world in 0..WORLDS {
        let world = random_world(&mut random);
        rig.install(&world);
        for nth_packet in 0..PACKETS_PER_WORLD {
            let (ingress, frame) = random_packet(&mut random, &world);
            let hook = *random.of(hooks);
            let mut segment_size = 0;
            if hook != Hook::Xdp {
                if !is_packet(&frame) {
                    continue;
                }
                if random.one_in(4) {
                    segment_size = random.below(1600) as u32;
                }
            }
            let arrival = Arrival {
                hook,
                ingress,
                frame: &frame,
                segment_size,
            };
            let context = || {
                format!(
                    "CAUSEWAY_SEED={seed} world {nth_world} packet {nth_packet}: {frame:02x?} on {ingress} at {hook:?}, {segment_size}"
                )
            };
            let (reason, wanted) = model::decide_at(&world, arrival);
            let outcome = match hook {
                Hook::Xdp => rig.run(ingress, &frame),
                _ => rig.run_tc(hook, ingress, &frame, segment_size),
            };
            assert_eq!(outcome, wanted, "{reason:?}, {}", context());
            let counted = &mut tally[hook.slot(reason) as usize];
            counted[0] += 1;
            counted[1] += frame.len() as u64;
            assert_eq!(
                rig.counted(hook, reason),
                *counted,
                "{reason:?}, {}",
                context()
            );
        }
        assert_eq!(
            rig.all_counted(),
            tally,
            "CAUSEWAY_SEED={seed} world {nth_world}"
        );
    }
    let mut by_reason = vec![0; Reason::ALL.len()];
    for &reason in Reason::ALL {
        let packets = hooks
            .iter()
            .map(|hook| tally[hook.slot(reason) as usize][0])
            .sum();
        by_reason[reason.index() as usize] = packets;
        println!("{packets:>7} {}", reason.name());
        // The rows of branches.rs take the headroom away; random frames have it.
        if reason != Reason::NoHeadroom && raised.contains(&reason) {
            assert!(packets >= RAREST, "{reason:?} occurred {packets} times");
        }
    }
    by_reason
}

fn seed() -> u64 {
    if let Ok(seed) = std::env::var("CAUSEWAY_SEED") {
        return seed.parse().expect("CAUSEWAY_SEED is a number");
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970");
    now.as_nanos() as u64
}

fn random_world(random: &mut Random) -> World {
    let mut world = World::simple();
    world.config.hash_seed = random.bits() as u32;
    if random.one_in(2) {
        world.config.flags = config_flags::TRANSIT;
    }
    // A few bits of address, so that prefixes overlap.
    for _ in 0..random.below(40) {
        let id = random_group(random);
        let len = random.below(33) as u8;
        world
            .routes4
            .insert((masked(random_address4(random), len), len), id);
        let len = random.below(129) as u8;
        world
            .routes6
            .insert((masked(random_address6(random), len), len), id);
    }
    random_indices(random, &mut world);
    for id in 0..12 {
        let members: Vec<_> = (0..random.below(65))
            .map(|_| random_next_hop_id(random))
            .collect();
        let mut group = group(&members);
        if random.one_in(8) {
            let nonsense = random.bytes::<16>().map(|byte| u16::from(byte & 7));
            for slot in group.slots.iter_mut().step_by(3) {
                *slot = order(nonsense);
            }
        }
        if id >= GroupId::FIRST.0 {
            world.groups.insert(id, group);
        }
    }
    for id in 1..20 {
        let mut hop = next_hop(*random.of(&[POD, POD, POD, UPLINK, UPLINK_2, OFF]));
        hop.dst_mac = random.bytes();
        hop.mtu = *random.of(&[1500, 1500, 1500, 1280, 9000, 68]);
        if random.one_in(12) {
            hop.flags = random.bits() as u32 & !next_hop_flags::RESOLVED;
        }
        if random.one_in(16) {
            hop.tx_ifindex = *random.of(&[0, NO_TX, 40, MAX_IFINDEX, u32::MAX]);
        }
        if random.one_in(16) {
            hop.flags |= next_hop_flags::LOCAL;
        }
        hop.vlan = *random.of(&[0, 0, 0, 1, VID, 4094]);
        if random.one_in(4) {
            hop.flags |= next_hop_flags::NEIGHBOUR6;
        }
        world.next_hops.insert(id, hop);
        if random.one_in(4) {
            let bits = *random.of(&[dead::LINK, dead::NEIGHBOUR, dead::BFD, u32::MAX, 1 << 31]);
            world.liveness.insert(id, bits);
        }
    }
    world
}

/// Tables in front of the tries, which need not agree with them: what is found first counts.
fn random_indices(random: &mut Random, world: &mut World) {
    if random.one_in(2) {
        let prefix_len = 8 + random.below(17) as u8;
        let block_len = prefix_len + random.below(9.min(33 - u64::from(prefix_len))) as u8;
        let base = random_address4(random);
        world.config.pods4 = PodRange4::new(base, prefix_len, block_len).expect("a range");
        for _ in 0..random.below(20) {
            let block = random.below(1 << (block_len - prefix_len)) as u32;
            world.pods4.insert(block, random_group(random));
        }
    }
    if random.one_in(2) {
        let prefix_len = *random.of(&[16, 40, 56, 60, 64, 72, 112]);
        let block_len = prefix_len + random.below(17) as u8;
        let base = random_address6(random);
        world.config.pods6 = PodRange6::new(base, prefix_len, block_len).expect("a range");
        for _ in 0..random.below(20) {
            let block = random.below(4.min(1 << (block_len - prefix_len))) as u32;
            world.pods6.insert(block, random_group(random));
        }
    }
    for _ in 0..random.below(4) {
        let root = Flat4Root {
            mode: random.below(4) as u32,
            group: random_group(random),
        };
        world.flat4_roots.insert(*random.of(&[10, 10, 11, 0]), root);
    }
    if random.one_in(3) {
        let mut table = BTreeMap::new();
        for second in 0..2 {
            for third in 0..4 {
                let entry = match random.below(4) {
                    0 => 0,
                    1 => Flat4Block::COVER,
                    _ => random_group(random),
                };
                table.insert((second, third), entry);
            }
        }
        world.flat4.insert(10, table);
    }
}

fn random_group(random: &mut Random) -> u32 {
    match random.below(24) {
        0 => 0,
        1 => 1,
        2 => *random.of(&[MAX_GROUPS, u32::MAX, 1 << 31]),
        3 => 100 + random.below(100) as u32,
        4 => 2,
        _ => 3 + random.below(9) as u32,
    }
}

fn random_next_hop_id(random: &mut Random) -> u16 {
    match random.below(60) {
        0 => *random.of(&[0, MAX_NEXT_HOPS as u16, u16::MAX]),
        1 => MAX_NEXT_HOPS as u16 - 1,
        _ => 1 + random.below(19) as u16,
    }
}

fn random_packet(random: &mut Random, world: &World) -> (u32, Vec<u8>) {
    let family = *random.of(&[Family::V4, Family::V6]);
    let ingress = match random.below(30) {
        0 => OFF,
        1 => NO_TX,
        n => *[UPLINK, UPLINK_2, POD]
            .get(n as usize % 3)
            .expect("one of three"),
    };
    let mut frame = Frame::udp(family, ingress);
    set_addresses(random, &mut frame, world);
    frame.set_source_port(random.bits() as u16);
    if random.one_in(3) {
        frame.set_protocol(*random.of(&[1, 6, 6, 17, 43, 44, 50, 58, 59, 132]));
    }
    frame.set_ttl(match random.below(12) {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 3 + random.below(253) as u8,
    });
    if random.one_in(4) {
        let header = if family == Family::V4 { 20 } else { 40 };
        let longest = *random.of(&[10, 100, 1600]);
        frame.set_ip_len(header + random.below(longest) as u16);
    }
    if random.one_in(4) {
        frame.bytes.extend(vec![0xee; random.below(60) as usize]);
    }
    if family == Family::V4 && random.one_in(6) {
        frame.set_fragment(random.bits() as u16);
    }
    if random.one_in(6) {
        frame.tag(*random.of(&[0, 0xe000, VID, VID, 0x3000 | VID, VID + 1, 4095]));
        if !random.one_in(4) {
            frame.bytes[..6].copy_from_slice(&own_mac(VLAN_DEVICE));
        }
    } else if random.one_in(4) {
        damage(random, &mut frame);
    }
    (ingress, frame.bytes)
}

fn set_addresses(random: &mut Random, frame: &mut Frame, world: &World) {
    match frame.family {
        Family::V4 => {
            let mut to: [u8; 4] = random_address4(random);
            if !random.one_in(5) {
                let nth = random.below(world.routes4.len() as u64) as usize;
                if let Some((&(prefix, len), _)) = world.routes4.iter().nth(nth) {
                    to = within(prefix, len, random.bytes());
                }
            }
            frame.bytes[IP + 16..IP + 20].copy_from_slice(&to);
            frame.bytes[IP + 12..IP + 16].copy_from_slice(&random_address4(random));
        }
        Family::V6 => {
            let mut to: [u8; 16] = random_address6(random);
            if !random.one_in(5) {
                let nth = random.below(world.routes6.len() as u64) as usize;
                if let Some((&(prefix, len), _)) = world.routes6.iter().nth(nth) {
                    to = within(prefix, len, random.bytes());
                }
            }
            frame.bytes[IP + 24..IP + 40].copy_from_slice(&to);
            frame.bytes[IP + 8..IP + 24].copy_from_slice(&random_address6(random));
        }
    }
    frame.fix_checksum();
}

/// Breaks something; the checksum is repaired half of the time, or most damage would look the same.
fn damage(random: &mut Random, frame: &mut Frame) {
    match random.below(9) {
        0 => {
            let bits = frame.bytes.len().min(60) as u64 * 8;
            let bit = random.below(bits) as usize;
            frame.bytes[bit / 8] ^= 1 << (bit % 8);
        }
        1 => {
            // The kernel gives no program less than an Ethernet header.
            let len = 14 + random.below(frame.bytes.len() as u64 - 13) as usize;
            frame.bytes.truncate(len);
        }
        2 => frame.claim_ip_len(random.bits() as u16),
        3 => frame.claim_ip_len(random.below(80) as u16),
        4 => frame.bytes[IP] = random.bits() as u8,
        5 => frame.bytes[IP] = frame.bytes[IP] & 0xf0 | random.below(16) as u8,
        6 => frame.bytes[12..14].copy_from_slice(random.of::<[u8; 2]>(&[
            [0x08, 0x00],
            [0x86, 0xdd],
            [0x08, 0x06],
            [0x81, 0x00],
        ])),
        7 => frame.bytes[..6].copy_from_slice(random.of::<[u8; 6]>(&[
            [0xff; 6],
            own_mac(UPLINK),
            own_mac(POD),
        ])),
        _ => frame.set_protocol(0),
    }
    if random.one_in(2) {
        frame.fix_checksum();
    }
}

fn random_address4(random: &mut Random) -> [u8; 4] {
    let first = match random.below(12) {
        0 => random.bits() as u8,
        1 => *random.of(&[0, 127, 224, 239, 240, 255]),
        2 => return [169, 254, random.bits() as u8, 1],
        _ => 10,
    };
    [
        first,
        random.below(2) as u8,
        random.below(4) as u8,
        random.below(4) as u8,
    ]
}

fn random_address6(random: &mut Random) -> [u8; 16] {
    let mut address = [0; 16];
    match random.below(14) {
        0 => return random.bytes(),
        1 => {}
        2 => address[10..12].fill(0xff),
        3 => address[..2].copy_from_slice(&[0xfe, 0x40 | random.bits() as u8]),
        4 => address[0] = 0xff,
        _ => address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]),
    }
    address[*random.of(&[2, 5, 9, 10, 15])] ^= random.below(4) as u8;
    address[15] = random.below(4) as u8;
    address
}

/// Clears the bits behind the prefix.
fn masked<const N: usize>(address: [u8; N], len: u8) -> [u8; N] {
    within(address, len, [0; N])
}

/// The first `len` bits of `prefix`, then those of `host`.
fn within<const N: usize>(prefix: [u8; N], len: u8, host: [u8; N]) -> [u8; N] {
    std::array::from_fn(|i| {
        let bits = usize::from(len).saturating_sub(i * 8).min(8);
        let mask = (0xff00_u16 >> bits) as u8;
        prefix[i] & mask | host[i] & !mask
    })
}
