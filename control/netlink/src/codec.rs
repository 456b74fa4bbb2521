//! Links, addresses and neighbours: notifications and dumps to facts, and the requests that we make.

pub mod route;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use causeway_net::{Address, Fact, Link, LinkKind, MacAddr, Neighbour, NeighbourState, Subnet};

use crate::wire::{Attribute, Builder, Malformed, Message, attributes, u16_at, u32_at};

/// `RTM_NEWLINK`: a link is there.
pub const RTM_NEWLINK: u16 = 16;
/// `RTM_DELLINK`: a link is gone.
pub const RTM_DELLINK: u16 = 17;
/// `RTM_GETLINK`.
pub const RTM_GETLINK: u16 = 18;
/// `RTM_NEWADDR`.
pub const RTM_NEWADDR: u16 = 20;
/// `RTM_DELADDR`.
pub const RTM_DELADDR: u16 = 21;
/// `RTM_GETADDR`.
pub const RTM_GETADDR: u16 = 22;
/// `RTM_NEWNEIGH`.
pub const RTM_NEWNEIGH: u16 = 28;
/// `RTM_DELNEIGH`.
pub const RTM_DELNEIGH: u16 = 29;
/// `RTM_GETNEIGH`.
pub const RTM_GETNEIGH: u16 = 30;

/// `NLM_F_ACK`.
const ACK: u16 = 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
const REPLACE: u16 = 0x100;
/// `NLM_F_REPLACE | NLM_F_CREATE`.
const REPLACE_OR_CREATE: u16 = 0x500;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER: u16 = 33;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
/// `ETH_P_8021Q`, in network byte order as the kernel gives it.
const TAGGED: [u8; 2] = [0x81, 0x00];
/// Leaves the statistics out, which are most of a link's message.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
const IFF_LOWER_UP: u32 = 1 << 16;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Somebody else has this address: it is not in use.
const IFA_F_DADFAILED: u32 = 0x08;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_USE: u8 = 0x01;
const NTF_PROXY: u8 = 0x08;
/// The kernel resolves the neighbour now, and again before its entry would go stale (Linux 5.16).
const NTF_EXT_MANAGED: u32 = 1;

/// The fact that a message tells; `None` if it is about nothing of ours (bridge entries, proxies, multicast).
///
/// # Errors
///
/// If the message is too short or contradicts itself.
pub fn fact(message: &Message<'_>) -> Result<Option<Fact>, Malformed> {
    match message.kind {
        RTM_NEWLINK => link(message.body).map(|link| link.map(Fact::Link)),
        RTM_DELLINK => gone_link(message.body),
        RTM_NEWADDR => address(message.body).map(|address| address.map(Fact::Address)),
        RTM_DELADDR => address(message.body).map(|address| address.map(Fact::AddressGone)),
        RTM_NEWNEIGH => neighbour(message.body).map(|neighbour| neighbour.map(Fact::Neighbour)),
        RTM_DELNEIGH => Ok(
            neighbour(message.body)?.map(|neighbour| Fact::NeighbourGone {
                ifindex: neighbour.ifindex,
                addr: neighbour.addr,
            }),
        ),
        _ => Ok(None),
    }
}

/// A request for all links.
#[must_use]
pub fn dump_links(sequence: u32) -> Vec<u8> {
    Builder::new(RTM_GETLINK, DUMP, sequence, &ifinfo(0))
        .attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes())
        .finish()
}

/// A request for one link.
#[must_use]
pub fn query_link(sequence: u32, ifindex: u32) -> Vec<u8> {
    Builder::new(RTM_GETLINK, 0, sequence, &ifinfo(ifindex))
        .attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes())
        .finish()
}

/// A request for all addresses.
#[must_use]
pub fn dump_addresses(sequence: u32) -> Vec<u8> {
    Builder::new(
        RTM_GETADDR,
        DUMP,
        sequence,
        &[AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0],
    )
    .finish()
}

/// A request for all neighbours.
#[must_use]
pub fn dump_neighbours(sequence: u32) -> Vec<u8> {
    Builder::new(RTM_GETNEIGH, DUMP, sequence, &ndmsg(AF_UNSPEC, 0)).finish()
}

/// What the kernel is to do with a neighbour. What the entry holds stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Resolve it now and keep it resolved.
    Managed,
    /// Resolve it now.
    Once,
    /// No longer keep it resolved. Refused with `ENOENT` if there is no such neighbour.
    Released,
}

/// A request about a neighbour.
#[must_use]
pub fn tend_neighbour(sequence: u32, ifindex: u32, addr: IpAddr, care: Care) -> Vec<u8> {
    let (family, octets) = octets(addr);
    let mut head = ndmsg(family, ifindex);
    // Use alone takes "managed" away and leaves the state as it is; a request with neither would invalidate the entry.
    let flags = match care {
        Care::Managed => REPLACE_OR_CREATE,
        Care::Once => {
            head[10] = NTF_USE;
            REPLACE_OR_CREATE
        }
        Care::Released => {
            head[10] = NTF_USE;
            REPLACE
        }
    };
    let request =
        Builder::new(RTM_NEWNEIGH, ACK | flags, sequence, &head).attribute(NDA_DST, &octets);
    match care {
        Care::Managed => request.attribute(NDA_FLAGS_EXT, &NTF_EXT_MANAGED.to_ne_bytes()),
        Care::Once | Care::Released => request,
    }
    .finish()
}

/// `AF_*` and the bytes of an address.
pub(crate) fn octets(addr: IpAddr) -> (u8, Vec<u8>) {
    match addr {
        IpAddr::V4(addr) => (AF_INET, addr.octets().to_vec()),
        IpAddr::V6(addr) => (AF_INET6, addr.octets().to_vec()),
    }
}

/// `struct ifinfomsg`.
fn ifinfo(ifindex: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body
}

/// `struct ndmsg`.
fn ndmsg(family: u8, ifindex: u32) -> [u8; 12] {
    let mut body = [0; 12];
    body[0] = family;
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body
}

fn link(body: &[u8]) -> Result<Option<Link>, Malformed> {
    let short = Malformed::Size("struct ifinfomsg");
    let (Some(family), Some(kind), Some(ifindex), Some(flags)) = (
        body.first().copied(),
        u16_at(body, 2),
        u32_at(body, 4),
        u32_at(body, 8),
    ) else {
        return Err(short);
    };
    // Bridges tell of their ports with the same message and another family.
    if family != AF_UNSPEC {
        return Ok(None);
    }
    let mut link = Link {
        ifindex: index(ifindex)?,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        kind: LinkKind::Plain,
    };
    let (mut other, mut elsewhere, mut info) = (None, false, None);
    for attribute in attributes(body.get(16..).ok_or(short)?) {
        let Attribute { kind: key, value } = attribute?;
        match key {
            IFLA_IFNAME => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                link.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_MTU => link.mtu = u32_at(value, 0).ok_or(Malformed::Size("IFLA_MTU"))?,
            IFLA_CARRIER => {
                let carrier = value.first().ok_or(Malformed::Size("IFLA_CARRIER"))?;
                link.carrier = *carrier != 0;
            }
            IFLA_ADDRESS if kind == ARPHRD_ETHER => link.mac = mac(value),
            IFLA_LINK => other = u32_at(value, 0),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_LINKINFO => info = Some(value),
            _ => {}
        }
    }
    if link.name.is_empty() {
        return Err(Malformed::Missing("IFLA_IFNAME"));
    }
    if let Some(info) = info {
        link.kind = link_kind(info, other, elsewhere)?;
    }
    Ok(Some(link))
}

/// What `IFLA_LINKINFO` says. `other` is the parent, or the other end; `elsewhere`, that it is in another namespace: its
/// index means nothing here then.
fn link_kind(info: &[u8], other: Option<u32>, elsewhere: bool) -> Result<LinkKind, Malformed> {
    let (mut name, mut data) = (&[][..], &[][..]);
    for attribute in attributes(info) {
        let Attribute { kind, value } = attribute?;
        match kind {
            IFLA_INFO_KIND => name = value,
            IFLA_INFO_DATA => data = value,
            _ => {}
        }
    }
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    Ok(match (name, other) {
        (b"veth", _) => LinkKind::Veth {
            peer_elsewhere: elsewhere,
        },
        (b"vlan", Some(parent)) if parent != 0 && !elsewhere => match vlan_id(data)? {
            Some(vid) => LinkKind::Vlan { parent, vid },
            None => LinkKind::Plain,
        },
        _ => LinkKind::Plain,
    })
}

/// The id of an 802.1Q device; `None` for 802.1ad.
fn vlan_id(data: &[u8]) -> Result<Option<u16>, Malformed> {
    let (mut id, mut tagged) = (None, true);
    for attribute in attributes(data) {
        let Attribute { kind, value } = attribute?;
        match kind {
            IFLA_VLAN_ID => id = Some(u16_at(value, 0).ok_or(Malformed::Size("IFLA_VLAN_ID"))?),
            IFLA_VLAN_PROTOCOL => tagged = value.starts_with(&TAGGED),
            _ => {}
        }
    }
    Ok(id.filter(|_| tagged))
}

fn gone_link(body: &[u8]) -> Result<Option<Fact>, Malformed> {
    let (Some(family), Some(ifindex)) = (body.first(), u32_at(body, 4)) else {
        return Err(Malformed::Size("struct ifinfomsg"));
    };
    if *family != AF_UNSPEC {
        return Ok(None);
    }
    let ifindex = index(ifindex)?;
    Ok(Some(Fact::LinkGone { ifindex }))
}

fn address(body: &[u8]) -> Result<Option<Address>, Malformed> {
    let short = Malformed::Size("struct ifaddrmsg");
    let (Some([family, len, flags, _]), Some(ifindex)) = (body.first_chunk::<4>(), u32_at(body, 4))
    else {
        return Err(short);
    };
    if !matches!(*family, AF_INET | AF_INET6) {
        return Ok(None);
    }
    let mut flags = u32::from(*flags);
    let (mut local, mut peer) = (None, None);
    for attribute in attributes(body.get(8..).ok_or(short)?) {
        let Attribute { kind, value } = attribute?;
        match kind {
            IFA_LOCAL => local = Some(ip(*family, value, "IFA_LOCAL")?),
            IFA_ADDRESS => peer = Some(ip(*family, value, "IFA_ADDRESS")?),
            IFA_FLAGS => flags = u32_at(value, 0).ok_or(Malformed::Size("IFA_FLAGS"))?,
            _ => {}
        }
    }
    if flags & IFA_F_DADFAILED != 0 {
        return Ok(None);
    }
    // On a point-to-point link IFA_LOCAL is ours and IFA_ADDRESS the other end; else IPv6 has the latter only.
    let addr = local.or(peer).ok_or(Malformed::Missing("IFA_ADDRESS"))?;
    let subnet = Subnet::new(peer.unwrap_or(addr), *len)
        .ok_or(Malformed::Size("the prefix length of an address"))?;
    Ok(Some(Address {
        ifindex: index(ifindex)?,
        addr,
        subnet,
    }))
}

fn neighbour(body: &[u8]) -> Result<Option<Neighbour>, Malformed> {
    let short = Malformed::Size("struct ndmsg");
    let (Some(family), Some(ifindex), Some(state), Some(flags)) = (
        body.first().copied(),
        u32_at(body, 4),
        u16_at(body, 8),
        body.get(10).copied(),
    ) else {
        return Err(short);
    };
    if !matches!(family, AF_INET | AF_INET6) || flags & NTF_PROXY != 0 {
        return Ok(None);
    }
    let (mut addr, mut lladdr) = (None, None);
    for attribute in attributes(body.get(12..).ok_or(short)?) {
        let Attribute { kind, value } = attribute?;
        match kind {
            NDA_DST => addr = Some(ip(family, value, "NDA_DST")?),
            NDA_LLADDR => lladdr = mac(value),
            _ => {}
        }
    }
    let addr = addr.ok_or(Malformed::Missing("NDA_DST"))?;
    if addr.is_multicast() {
        return Ok(None);
    }
    Ok(Some(Neighbour {
        ifindex: index(ifindex)?,
        addr,
        mac: lladdr,
        state: neighbour_state(state),
    }))
}

/// One bit of `NUD_*` is set, or none.
fn neighbour_state(state: u16) -> NeighbourState {
    match state {
        0x01 => NeighbourState::Incomplete,
        0x02 => NeighbourState::Reachable,
        0x04 => NeighbourState::Stale,
        0x08 => NeighbourState::Delay,
        0x10 => NeighbourState::Probe,
        0x20 => NeighbourState::Failed,
        0x40 => NeighbourState::NoArp,
        0x80 => NeighbourState::Permanent,
        _ => NeighbourState::None,
    }
}

fn index(ifindex: u32) -> Result<u32, Malformed> {
    if ifindex == 0 {
        return Err(Malformed::Missing("the interface index"));
    }
    Ok(ifindex)
}

/// An Ethernet address; other lengths and all zeros (loopback) are none.
fn mac(value: &[u8]) -> Option<MacAddr> {
    let mac: [u8; 6] = value.try_into().ok()?;
    (mac != [0; 6]).then_some(MacAddr(mac))
}

fn ip(family: u8, value: &[u8], what: &'static str) -> Result<IpAddr, Malformed> {
    let wrong = |_| Malformed::Size(what);
    Ok(match family {
        AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).map_err(wrong)?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).map_err(wrong)?)),
    })
}

#[cfg(test)]
mod tests;
