//! The contents of all maps, in plain collections.

use std::collections::BTreeMap;

use causeway_maps::{
    Config, Flat4Root, Group, NextHop, PodRange4, PodRange6, Port, Slot, next_hop_flags, port_flags,
};

/// What the maps hold. Ids that can't exist are welcome: the maps simply don't get what they have no slot for.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) ports: BTreeMap<u32, Port>,
    /// Address and prefix length to group id.
    pub(crate) routes4: BTreeMap<([u8; 4], u8), u32>,
    pub(crate) routes6: BTreeMap<([u8; 16], u8), u32>,
    pub(crate) groups: BTreeMap<u32, Group>,
    pub(crate) next_hops: BTreeMap<u32, NextHop>,
    pub(crate) liveness: BTreeMap<u32, u32>,
    /// Block to group id.
    pub(crate) pods4: BTreeMap<u32, u32>,
    pub(crate) pods6: BTreeMap<u32, u32>,
    /// By first octet.
    pub(crate) flat4_roots: BTreeMap<u8, Flat4Root>,
    /// By first octet, the tables that there are: by second and third octet.
    pub(crate) flat4: BTreeMap<u8, BTreeMap<(u8, u8), u32>>,
    /// Parent and VLAN id to VLAN device.
    pub(crate) vlans: BTreeMap<(u32, u16), u32>,
}

/// Two uplinks, a port for pods, and one that does not forward: interfaces that exist in every rig.
pub(crate) const UPLINK: u32 = 11;
pub(crate) const UPLINK_2: u32 = 12;
pub(crate) const POD: u32 = 13;
pub(crate) const OFF: u32 = 14;
/// An interface that exists but can't be sent on.
pub(crate) const NO_TX: u32 = 16;
/// A VLAN device on the first uplink, as the maps know it; nothing is sent on it.
pub(crate) const VLAN_DEVICE: u32 = 17;
pub(crate) const VID: u16 = 100;
/// Those in `tx_ports`.
pub(crate) const TX_PORTS: &[u32] = &[UPLINK, UPLINK_2, POD, OFF];

/// The group of the route that packets of [`crate::frame`] match, and its only next hop, by the port for pods.
pub(crate) const GROUP: u32 = 3;
pub(crate) const NEXT_HOP: u16 = 1;

/// The MAC address of an interface.
pub(crate) const fn own_mac(ifindex: u32) -> [u8; 6] {
    [0x02, 0, 0, 0, 0, ifindex as u8]
}

impl World {
    /// One route in each family, to one next hop.
    pub(crate) fn simple() -> Self {
        let enabled = port_flags::ENABLED;
        let mut world = Self {
            config: Config {
                flags: 0,
                hash_seed: 7,
                pods4: PodRange4::NONE,
                pods6: PodRange6::NONE,
            },
            ports: [
                (UPLINK, port(UPLINK, enabled | port_flags::UPLINK)),
                (UPLINK_2, port(UPLINK_2, enabled | port_flags::UPLINK)),
                (POD, port(POD, enabled)),
                (OFF, port(OFF, 0)),
                (VLAN_DEVICE, port(VLAN_DEVICE, enabled | port_flags::UPLINK)),
            ]
            .into(),
            routes4: [(([10, 1, 0, 0], 16), GROUP)].into(),
            routes6: BTreeMap::new(),
            groups: [(GROUP, group(&[NEXT_HOP]))].into(),
            next_hops: [(NEXT_HOP.into(), next_hop(POD))].into(),
            liveness: BTreeMap::new(),
            pods4: BTreeMap::new(),
            pods6: BTreeMap::new(),
            flat4_roots: BTreeMap::new(),
            flat4: BTreeMap::new(),
            vlans: [((UPLINK, VID), VLAN_DEVICE)].into(),
        };
        world.route6("2001:db8:1::", 48, GROUP);
        world
    }

    pub(crate) fn route4(&mut self, prefix: &str, len: u8, group: u32) {
        let prefix: std::net::Ipv4Addr = prefix.parse().expect("an IPv4 address");
        self.routes4.insert((prefix.octets(), len), group);
    }

    pub(crate) fn route6(&mut self, prefix: &str, len: u8, group: u32) {
        let prefix: std::net::Ipv6Addr = prefix.parse().expect("an IPv6 address");
        self.routes6.insert((prefix.octets(), len), group);
    }

    /// Leads the routes that are there to another group.
    pub(crate) fn reroute(&mut self, group: u32) {
        self.routes4.values_mut().for_each(|id| *id = group);
        self.routes6.values_mut().for_each(|id| *id = group);
    }
}

pub(crate) fn port(ifindex: u32, flags: u32) -> Port {
    Port {
        flags,
        mac: own_mac(ifindex),
        reserved: [0; 2],
    }
}

/// A group in which each slot prefers the next of `members`, and falls back on those after it.
pub(crate) fn group(members: &[u16]) -> Group {
    let mut group = Group::EMPTY;
    if members.is_empty() {
        return group;
    }
    group.member_count = members.len() as u32;
    for (slot, first) in group.slots.iter_mut().zip((0..members.len()).cycle()) {
        *slot = order(
            members
                .iter()
                .cycle()
                .skip(first)
                .take(members.len())
                .copied(),
        );
    }
    group
}

/// A slot.
pub(crate) fn order(ids: impl IntoIterator<Item = u16>) -> Slot {
    let mut slot = Slot::EMPTY;
    slot.order.iter_mut().zip(ids).for_each(|(to, id)| *to = id);
    slot
}

/// A resolved next hop; its neighbour's MAC address tells which.
pub(crate) fn next_hop(ifindex: u32) -> NextHop {
    NextHop {
        ifindex,
        tx_ifindex: ifindex,
        mtu: 1500,
        flags: next_hop_flags::RESOLVED,
        dst_mac: [0x02, 0xff, 0, 0, 0, ifindex as u8],
        src_mac: own_mac(ifindex),
        vlan: 0,
        reserved: 0,
        addr: [0; 16],
    }
}
