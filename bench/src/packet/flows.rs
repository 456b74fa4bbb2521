//! The packets, and the interfaces that they come from and go to.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use causeway_bench_ebpf::PLAIN_ROUTES;

use crate::bgp::table::Prefix;
use crate::random::Random;

/// The first bytes of a frame; as long as the whole frame.
pub(crate) type Frame = causeway_bench_ebpf::Frame;

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destinations {
    /// Pods of 1k nodes.
    Pods4,
    /// The same, IPv6.
    Pods6,
    /// Random addresses in random prefixes of the full table.
    Internet4,
    /// The same, IPv6.
    Internet6,
}

/// Where packets come in and go out, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interfaces {
    pub(crate) ingress: u32,
    pub(crate) egress: u32,
}

/// MAC address of the interface that packets come in on.
pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Pods' ranges: blocks of a /24 and a /64, one for each node.
pub(crate) const PODS4: [u8; 4] = [10, 244, 0, 0];
pub(crate) const PODS4_LEN: u8 = 14;
pub(crate) const PODS6_LEN: u8 = 48;
pub(crate) const BLOCK4_LEN: u8 = 24;
pub(crate) const BLOCK6_LEN: u8 = 64;
/// Nodes, each with a block.
pub(crate) const NODES: u32 = PLAIN_ROUTES as u32;

/// Frames of `flows` flows, in random order.
pub(crate) fn frames(to: Destinations, flows: usize, table: &[Prefix], seed: u64) -> Vec<Frame> {
    let mut random = Random(seed);
    (0..flows)
        .map(|_| {
            let bits = random.next();
            let ports = (random.next() as u32).to_be_bytes();
            let frame = match to {
                Destinations::Pods4 => {
                    let block = (bits >> 32) as u32 % NODES;
                    let host = 1 + bits as u32 % 250;
                    ipv4(u32::from_be_bytes(PODS4) | block << 8 | host, ports)
                }
                Destinations::Internet4 => {
                    let prefix = table[(bits >> 32) as usize % table.len()];
                    ipv4(within(prefix, bits as u32), ports)
                }
                Destinations::Pods6 => {
                    let block = (bits >> 32) as u32 % NODES;
                    ipv6(pods6(block) | u128::from(bits as u16) | 1, ports)
                }
                Destinations::Internet6 => {
                    let prefix = table[(bits >> 32) as usize % table.len()];
                    ipv6(widened(within(prefix, bits as u32)), ports)
                }
            };
            Frame {
                words: bytemuck::cast(frame),
            }
        })
        .collect()
}

/// First address of a node's block.
pub(crate) fn pods6(block: u32) -> u128 {
    0xfd00_0001_0002 << 80 | u128::from(block) << 64
}

/// An IPv6 table with the nesting of the IPv4 one: its address becomes bits 16 to 47 behind 2001.
pub(crate) fn widened(address: u32) -> u128 {
    0x2001 << 112 | u128::from(address) << 80 | 1
}

/// What is in front of [`widened`] prefixes.
pub(crate) const WIDENED_BITS: u8 = 16;

/// Frames of `flows` flows from one pod to another.
pub(crate) fn pod_frames(from: [u8; 4], to: [u8; 4], flows: usize, seed: u64) -> Vec<Frame> {
    let mut random = Random(seed);
    (0..flows)
        .map(|_| {
            let ports = (random.next() as u32).to_be_bytes();
            Frame {
                words: bytemuck::cast(ipv4_from(from, u32::from_be_bytes(to), ports)),
            }
        })
        .collect()
}

fn within(prefix: Prefix, host: u32) -> u32 {
    let mask = u32::MAX.checked_shr(prefix.len.into()).unwrap_or(0);
    prefix.addr | host & mask
}

fn ethernet(frame: &mut [u8; 64], ether_type: u16) {
    frame[..6].copy_from_slice(&OWN_MAC);
    frame[6..12].copy_from_slice(&[2, 0xee, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
}

fn ipv4(destination: u32, ports: [u8; 4]) -> [u8; 64] {
    ipv4_from([198, 51, 100, 7], destination, ports)
}

fn ipv4_from(source: [u8; 4], destination: u32, ports: [u8; 4]) -> [u8; 64] {
    let mut frame = [0; 64];
    ethernet(&mut frame, 0x0800);
    frame[14..26].copy_from_slice(&[0x45, 0, 0, 50, 0, 1, 0x40, 0, 64, 17, 0, 0]);
    frame[26..30].copy_from_slice(&source);
    frame[30..34].copy_from_slice(&destination.to_be_bytes());
    let mut sum: u32 = frame[14..34]
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame[34..38].copy_from_slice(&ports);
    frame[39] = 30;
    frame
}

fn ipv6(destination: u128, ports: [u8; 4]) -> [u8; 64] {
    let mut frame = [0; 64];
    ethernet(&mut frame, 0x86dd);
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 10, 17, 64]);
    frame[22..38].copy_from_slice(&(0x2001_0db8_u128 << 96 | 7).to_be_bytes());
    frame[38..54].copy_from_slice(&destination.to_be_bytes());
    frame[54..58].copy_from_slice(&ports);
    frame[59] = 10;
    frame
}

/// One pair in this thread's network namespace; packets come in on one end and leave by the other.
pub(crate) fn make_interfaces() -> Result<Interfaces> {
    let (ingress, egress) = (11, 12);
    let status = Command::new("ip")
        .args(["link", "add", "cw-in", "index", "11", "type", "veth"])
        .args(["peer", "name", "cw-out", "index", "12"])
        .status()
        .context("start ip (package iproute2)")?;
    ensure!(status.success(), "`ip link add` failed");
    Ok(Interfaces { ingress, egress })
}
