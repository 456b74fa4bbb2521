//! The way of one packet through the programs' own pipeline, run here over the maps as the kernel holds them.

use core::cell::{OnceCell, RefCell};
use core::net::IpAddr;

use bytemuck::Pod;
use causeway_datapath::{Datapath, Error};
use causeway_ebpf::family::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Family, Ipv4, Ipv6};
use causeway_ebpf::header::{ETHERNET_LEN, Ipv4Header, Ipv6Header};
use causeway_ebpf::{Context, Tables, forward};
use causeway_maps::{
    Config, Flat4Block, Flat4Root, Group, GroupId, Hook, NextHop, NextHopId, Port, Reason, VlanKey,
    next_hop_flags, port_flags,
};

/// Between which ends, by which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey {
    /// Source address, of the family of the destination.
    pub(crate) source: IpAddr,
    /// IP protocol.
    pub(crate) protocol: u8,
    /// Source port.
    pub(crate) source_port: u16,
    /// Destination port.
    pub(crate) destination_port: u16,
}

/// What was consulted, in order.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Pods {
        block: u32,
        group: Option<GroupId>,
    },
    Root {
        octet: u8,
        root: Option<Flat4Root>,
    },
    Row {
        octets: [u8; 3],
        group: Option<u32>,
    },
    Trie {
        group: Option<GroupId>,
    },
    Group {
        id: GroupId,
        group: Option<Box<Group>>,
    },
    Liveness {
        id: NextHopId,
        bits: Option<u32>,
    },
    NextHop {
        id: NextHopId,
        hop: Option<NextHop>,
    },
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) reason: Reason,
    pub(super) steps: Vec<Step>,
    /// The flow's hash.
    pub(super) hash: Option<u32>,
}

/// Sends a small packet of this flow to `destination` through the pipeline as at `hook`; it comes in on the interface
/// `ingress`, which is this port.
///
/// # Errors
///
/// If a map can't be read.
pub(super) fn walk(
    datapath: &Datapath,
    (hook, ingress, port): (Hook, u32, Port),
    destination: IpAddr,
    flow: &FlowKey,
) -> Result<Walk, Error> {
    let maps = Maps {
        datapath,
        ingress: (ingress, port),
        config: OnceCell::new(),
        egress: OnceCell::new(),
        root: OnceCell::new(),
        row: OnceCell::new(),
        group: OnceCell::new(),
        next_hop: OnceCell::new(),
        steps: RefCell::default(),
        failed: RefCell::default(),
        destination,
    };
    let mut frame = Frame {
        bytes: frame(port, destination, flow),
        ingress,
        hook,
        maps: &maps,
    };
    let reason = forward(&mut frame, &maps).reason();
    let seed = maps.config().map(|config| config.hash_seed);
    let hash = seed.and_then(|seed| frame.hash(seed));
    if let Some(error) = maps.failed.take() {
        return Err(error);
    }
    Ok(Walk {
        reason,
        hash,
        steps: maps.steps.into_inner(),
    })
}

/// An Ethernet frame to this port's own address.
fn frame(port: Port, destination: IpAddr, flow: &FlowKey) -> Vec<u8> {
    const PAYLOAD: u8 = 20;
    let mut bytes = port.mac.to_vec();
    bytes.extend([2, 0, 0, 0, 0, 0]);
    match (flow.source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(ETHER_TYPE_IPV4.to_be_bytes());
            let mut header = [0; 20];
            header[0] = 0x45;
            header[3] = 20 + PAYLOAD;
            header[8] = 64;
            header[9] = flow.protocol;
            header[12..16].copy_from_slice(&source.octets());
            header[16..].copy_from_slice(&destination.octets());
            let sum = !ones_sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend(header);
        }
        (source, destination) => {
            // Of one family, or the header is not one that is forwarded.
            let octets = |addr| match addr {
                IpAddr::V6(addr) => addr.octets(),
                IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
            };
            bytes.extend(ETHER_TYPE_IPV6.to_be_bytes());
            bytes.extend([0x60, 0, 0, 0, 0, PAYLOAD, flow.protocol, 64]);
            bytes.extend(octets(source));
            bytes.extend(octets(destination));
        }
    }
    bytes.extend(flow.source_port.to_be_bytes());
    bytes.extend(flow.destination_port.to_be_bytes());
    bytes.extend([0; PAYLOAD as usize - 4]);
    bytes
}

/// The sum of RFC 1071.
fn ones_sum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter();
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

struct Frame<'a> {
    bytes: Vec<u8>,
    ingress: u32,
    hook: Hook,
    maps: &'a Maps<'a>,
}

impl Frame<'_> {
    fn hash(&self, seed: u32) -> Option<u32> {
        fn of<F: Family>(frame: &Frame<'_>, seed: u32) -> Option<u32> {
            let header: F::Header = frame.header(ETHERNET_LEN)?;
            let packet = F::parse::<ETHERNET_LEN>(frame, &header).ok()?;
            Some(F::flow_hash::<ETHERNET_LEN>(frame, &header, &packet, seed))
        }
        const { assert!(size_of::<Ipv4Header>() == 20 && size_of::<Ipv6Header>() == 40) };
        if self.maps.destination.is_ipv4() {
            of::<Ipv4>(self, seed)
        } else {
            of::<Ipv6>(self, seed)
        }
    }
}

impl Context for Frame<'_> {
    const TAGS_IN_FRAME: bool = true;

    fn ingress_ifindex(&self) -> u32 {
        self.ingress
    }

    fn tag(&self) -> Option<u16> {
        None
    }

    fn frame_len(&self) -> usize {
        self.bytes.len()
    }

    fn segment_size(&self) -> u32 {
        0
    }

    fn header<H: Pod>(&self, offset: usize) -> Option<H> {
        let bytes = self.bytes.get(offset..offset + size_of::<H>())?;
        bytemuck::try_pod_read_unaligned(bytes).ok()
    }

    /// As far as each hook may refuse; nothing is sent.
    fn send<F: Family, const L3: usize>(&mut self, next_hop: &NextHop) -> Result<(), Reason> {
        let has = |flag| next_hop.flags & flag != 0;
        match self.hook {
            Hook::Xdp if has(next_hop_flags::LOCAL) => Err(Reason::Local),
            Hook::Xdp if !has(next_hop_flags::RESOLVED) => Err(Reason::Unresolved),
            Hook::Xdp if !self.maps.sends_by(next_hop.tx_ifindex) => Err(Reason::NoTxPort),
            Hook::Xdp => Ok(()),
            // The kernel resolves it, but has no IPv4 neighbours for IPv6 packets.
            Hook::TcUplink | Hook::TcPod
                if !has(next_hop_flags::RESOLVED)
                    && !has(next_hop_flags::NEIGHBOUR6)
                    && F::ETHER_TYPE == ETHER_TYPE_IPV6 =>
            {
                Err(Reason::Unresolved)
            }
            Hook::TcUplink | Hook::TcPod => Ok(()),
        }
    }
}

/// The maps, each entry read once: one packet looks at one of each kind.
struct Maps<'a> {
    datapath: &'a Datapath,
    ingress: (u32, Port),
    config: OnceCell<Option<Config>>,
    egress: OnceCell<Option<Port>>,
    root: OnceCell<Option<Flat4Root>>,
    row: OnceCell<Option<Flat4Block>>,
    group: OnceCell<Option<Box<Group>>>,
    next_hop: OnceCell<Option<NextHop>>,
    steps: RefCell<Vec<Step>>,
    /// The first read that the kernel refused.
    failed: RefCell<Option<Error>>,
    destination: IpAddr,
}

impl Maps<'_> {
    fn read<T>(&self, read: Result<Option<T>, Error>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        })
    }

    fn note(&self, step: Step) {
        self.steps.borrow_mut().push(step);
    }

    fn sends_by(&self, ifindex: u32) -> bool {
        let sends = self.datapath.sends_by(ifindex).map(Some);
        self.read(sends).unwrap_or(false)
    }

    fn trie(&self) -> Option<GroupId> {
        let len = if self.destination.is_ipv4() { 32 } else { 128 };
        let group = self.read(self.datapath.longest_match(self.destination, len));
        self.note(Step::Trie { group });
        group
    }

    fn pods(&self, ipv4: bool, block: u32) -> Option<GroupId> {
        let group = self.read(self.datapath.pods(ipv4, block));
        self.note(Step::Pods { block, group });
        group
    }
}

impl Tables for Maps<'_> {
    fn config(&self) -> Option<&Config> {
        let read = || self.read(self.datapath.config());
        self.config.get_or_init(read).as_ref()
    }

    fn vlan(&self, _: &VlanKey) -> Option<u32> {
        // Ours has no tag.
        None
    }

    fn port(&self, ifindex: u32) -> Option<&Port> {
        if ifindex == self.ingress.0 {
            return Some(&self.ingress.1);
        }
        let read = || self.read(self.datapath.port(ifindex));
        self.egress.get_or_init(read).as_ref()
    }

    fn pods4(&self, block: u32) -> Option<GroupId> {
        self.pods(true, block)
    }

    fn pods6(&self, block: u32) -> Option<GroupId> {
        self.pods(false, block)
    }

    fn flat4_root(&self, octet: u8) -> Option<&Flat4Root> {
        let read = || self.read(self.datapath.flat4_root(octet));
        let root = self.root.get_or_init(read);
        self.note(Step::Root { octet, root: *root });
        root.as_ref()
    }

    fn flat4(&self, first: u8, second: u8) -> Option<&Flat4Block> {
        let read = || self.read(self.datapath.flat4_row(first, second));
        let row = self.row.get_or_init(read).as_ref();
        let third = match self.destination {
            IpAddr::V4(addr) => addr.octets()[2],
            IpAddr::V6(_) => 0,
        };
        self.note(Step::Row {
            octets: [first, second, third],
            group: row.map(|row| row.groups[usize::from(third)]),
        });
        row
    }

    fn route4(&self, _: [u8; 4]) -> Option<GroupId> {
        self.trie()
    }

    fn route6(&self, _: [u8; 16]) -> Option<GroupId> {
        self.trie()
    }

    fn group(&self, id: GroupId) -> Option<&Group> {
        let read = || self.read(self.datapath.group(id)).map(Box::new);
        let group = self.group.get_or_init(read);
        self.note(Step::Group {
            id,
            group: group.clone(),
        });
        group.as_deref()
    }

    fn next_hop(&self, id: NextHopId) -> Option<&NextHop> {
        let read = || self.read(self.datapath.next_hop(id));
        let hop = self.next_hop.get_or_init(read);
        self.note(Step::NextHop { id, hop: *hop });
        hop.as_ref()
    }

    fn liveness(&self, id: NextHopId) -> Option<u32> {
        let bits = self.read(self.datapath.liveness(id));
        self.note(Step::Liveness { id, bits });
        bits
    }

    fn count(&self, _: Reason, _: u64) {}
}

/// A port that stands for any of its kind.
pub(super) fn any_port(flag: u32) -> Port {
    Port {
        flags: port_flags::ENABLED | flag,
        mac: [2, 0, 0, 0, 0, 1],
        reserved: [0; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_that_the_pipeline_accepts() {
        for (source, destination) in [("192.0.2.1", "203.0.113.9"), ("2001:db8::1", "2001:db8::9")]
        {
            let flow = FlowKey {
                source: source.parse().unwrap(),
                protocol: 6,
                source_port: 40000,
                destination_port: 443,
            };
            let destination: IpAddr = destination.parse().unwrap();
            let bytes = frame(any_port(0), destination, &flow);
            let ip = &bytes[ETHERNET_LEN..];
            if destination.is_ipv4() {
                assert_eq!(bytes.len(), ETHERNET_LEN + 40);
                assert_eq!(ones_sum(&ip[..20]), 0xffff, "the checksum is right");
            } else {
                assert_eq!(bytes.len(), ETHERNET_LEN + 60);
            }
            let ports = &ip[ip.len() - 20..][..4];
            assert_eq!(ports, [0x9c, 0x40, 0x01, 0xbb]);
        }
    }
}
