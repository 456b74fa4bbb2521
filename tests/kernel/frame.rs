//! Frames to start from, and what can be done to them.

use std::net::IpAddr;

use crate::world::own_mac;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Both.
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// An Ethernet frame with an IP packet.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) family: Family,
    pub(crate) bytes: Vec<u8>,
}

/// Where the IP header starts.
pub(crate) const IP: usize = 14;

/// Whether the kernel makes a packet of it for a test of TC: not of one that ends within its IP header.
pub(crate) fn is_packet(frame: &[u8]) -> bool {
    let least = match frame.get(12..14) {
        Some([0x08, 0x00]) => IP + 20,
        Some([0x86, 0xdd]) => IP + 40,
        _ => IP + 1,
    };
    frame.len() >= least
}

impl Frame {
    /// A UDP packet with 8 bytes of payload and TTL 64, to the MAC address of `ingress`, from a documentation prefix to
    /// a host behind the route of [`crate::world::World::simple`].
    pub(crate) fn udp(family: Family, ingress: u32) -> Self {
        let mut bytes = Vec::new();
        bytes.extend(own_mac(ingress));
        bytes.extend([0x02, 0xee, 0, 0, 0, 1]);
        match family {
            Family::V4 => {
                bytes.extend([0x08, 0x00]);
                bytes.extend([0x45, 0, 0, 36, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0]);
                bytes.extend([198, 51, 100, 1]);
                bytes.extend([10, 1, 2, 3]);
            }
            Family::V6 => {
                bytes.extend([0x86, 0xdd]);
                bytes.extend([0x60, 0, 0, 0, 0, 16, 17, 64]);
                bytes.extend([
                    0x20, 0x01, 0x0d, 0xb8, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
                ]);
                bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
            }
        }
        // Ports 40000 and 53, length 16, no checksum; then the payload.
        bytes.extend([0x9c, 0x40, 0, 53, 0, 16, 0, 0]);
        bytes.extend(*b"causeway");
        let mut frame = Self { family, bytes };
        frame.fix_checksum();
        frame
    }

    /// Puts an 802.1Q tag in; everything else about the packet has to be said before.
    pub(crate) fn tag(&mut self, tci: u16) {
        let [high, low] = tci.to_be_bytes();
        self.bytes.splice(12..12, [0x81, 0x00, high, low]);
    }

    pub(crate) fn is_tagged(&self) -> bool {
        self.bytes[12..14] == [0x81, 0x00]
    }

    /// Takes the tag out, if there is one.
    pub(crate) fn untag(&mut self) {
        if self.is_tagged() {
            self.bytes.drain(12..16);
        }
    }

    /// Where the IP payload starts.
    pub(crate) fn payload(&self) -> usize {
        match self.family {
            Family::V4 => IP + 20,
            Family::V6 => IP + 40,
        }
    }

    pub(crate) fn set_ttl(&mut self, ttl: u8) {
        let offset = match self.family {
            Family::V4 => IP + 8,
            Family::V6 => IP + 7,
        };
        self.bytes[offset] = ttl;
        self.fix_checksum();
    }

    pub(crate) fn set_protocol(&mut self, protocol: u8) {
        let offset = match self.family {
            Family::V4 => IP + 9,
            Family::V6 => IP + 6,
        };
        self.bytes[offset] = protocol;
        self.fix_checksum();
    }

    pub(crate) fn set_source(&mut self, address: &str) {
        let offset = match self.family {
            Family::V4 => IP + 12,
            Family::V6 => IP + 8,
        };
        self.set_address(offset, address);
    }

    pub(crate) fn set_destination(&mut self, address: &str) {
        let offset = match self.family {
            Family::V4 => IP + 16,
            Family::V6 => IP + 24,
        };
        self.set_address(offset, address);
    }

    /// IPv4's word of fragment bits and offset.
    pub(crate) fn set_fragment(&mut self, word: u16) {
        self.bytes[IP + 6..IP + 8].copy_from_slice(&word.to_be_bytes());
        self.fix_checksum();
    }

    pub(crate) fn set_source_port(&mut self, port: u16) {
        let offset = self.payload();
        self.bytes[offset..offset + 2].copy_from_slice(&port.to_be_bytes());
    }

    /// Makes the IP packet `len` bytes long, header included, and the frame no longer.
    pub(crate) fn set_ip_len(&mut self, len: u16) {
        self.bytes.resize(IP + usize::from(len), 0x55);
        self.claim_ip_len(len);
    }

    /// Writes a length into the IP header without changing the frame.
    pub(crate) fn claim_ip_len(&mut self, len: u16) {
        let (offset, value) = match self.family {
            Family::V4 => (IP + 2, len),
            Family::V6 => (IP + 4, len.wrapping_sub(40)),
        };
        self.bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
        self.fix_checksum();
    }

    /// Puts the sum of RFC 791 3.1 where it belongs, if this is IPv4 and the header is whole.
    pub(crate) fn fix_checksum(&mut self) {
        if self.family != Family::V4 || self.bytes.len() < IP + 20 {
            return;
        }
        let header_len = usize::from(self.bytes[IP] & 0xf) * 4;
        let end = (IP + header_len.max(20)).min(self.bytes.len());
        self.bytes[IP + 10..IP + 12].fill(0);
        let mut sum = 0_u32;
        for pair in self.bytes[IP..end].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let checksum = !(sum as u16);
        self.bytes[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
    }

    fn set_address(&mut self, offset: usize, address: &str) {
        match address.parse().expect("an IP address") {
            IpAddr::V4(address) => {
                self.bytes[offset..offset + 4].copy_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                self.bytes[offset..offset + 16].copy_from_slice(&address.octets());
            }
        }
        self.fix_checksum();
    }
}
