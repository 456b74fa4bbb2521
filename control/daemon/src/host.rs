//! What the host knows of itself without netlink: names, addresses.

use core::net::{IpAddr, SocketAddr};

use causeway_bgp::speaker::{Link, Path};
use causeway_bgp::types::Prefix;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::if_nametoindex;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Allows as many file descriptors as the system does: each peer takes one, and so does whoever knocks.
pub(crate) fn raise_limits() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, "the limit on open files stays");
    }
}

/// The host name without its domain.
pub(crate) fn name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let name = name.split('.').next()?.to_owned();
    (!name.is_empty()).then_some(name)
}

/// Every address of every interface.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let Ok(all) = getifaddrs() else {
        return Vec::new();
    };
    let mut addresses: Vec<IpAddr> = all
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| a.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The index of an interface.
pub(crate) fn interface_index(name: &str) -> nix::Result<u32> {
    if_nametoindex(name)
}

/// The ends of a connection, with the link where the peer's address is on a network that an interface is connected to: what
/// can be offered as next hop to it.
pub(crate) fn path(local: SocketAddr, remote: SocketAddr) -> Path {
    Path {
        local,
        remote,
        link: link_to(remote),
    }
}

fn link_to(remote: SocketAddr) -> Option<Link> {
    let all: Vec<_> = getifaddrs().ok()?.collect();
    let scope = match remote {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id()),
        _ => None,
    };
    let on_link = all.iter().find(|interface| {
        let index = || if_nametoindex(interface.interface_name.as_str()).ok();
        match scope {
            Some(scope) => index() == Some(scope),
            None => covers(interface, remote.ip()),
        }
    })?;
    let name = on_link.interface_name.as_str();
    let mut link = Link {
        index: if_nametoindex(name).ok()?,
        ..Link::default()
    };
    let mut subnets = Vec::new();
    for interface in all.iter().filter(|i| i.interface_name == name) {
        let Some(address) = interface.address else {
            continue;
        };
        subnets.extend(subnet(interface));
        if let Some(v4) = address.as_sockaddr_in() {
            link.ipv4.get_or_insert(v4.ip());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            let v6 = v6.ip();
            if v6.is_unicast_link_local() {
                link.link_local.get_or_insert(v6);
            } else {
                link.ipv6.get_or_insert(v6);
            }
        }
    }
    link.subnets = subnets.into();
    Some(link)
}

/// The network that an address of an interface is in.
fn subnet(interface: &InterfaceAddress) -> Option<Prefix> {
    let (address, mask) = (interface.address?, interface.netmask?);
    let (addr, len): (IpAddr, u32) = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => {
            let mask = mask.as_sockaddr_in()?.ip();
            (v4.ip().into(), mask.to_bits().leading_ones())
        }
        (None, Some(v6)) => {
            let mask = mask.as_sockaddr_in6()?.ip();
            (v6.ip().into(), mask.to_bits().leading_ones())
        }
        (None, None) => return None,
    };
    Prefix::new(addr, u8::try_from(len).ok()?)
}

fn covers(interface: &InterfaceAddress, remote: IpAddr) -> bool {
    let (Some(address), Some(mask)) = (interface.address, interface.netmask) else {
        return false;
    };
    match remote {
        IpAddr::V4(remote) => {
            let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in())
            else {
                return false;
            };
            let mask = mask.ip().to_bits();
            remote.to_bits() & mask == address.ip().to_bits() & mask
        }
        IpAddr::V6(remote) => {
            let (Some(address), Some(mask)) = (address.as_sockaddr_in6(), mask.as_sockaddr_in6())
            else {
                return false;
            };
            let mask = mask.ip().to_bits();
            remote.to_bits() & mask == address.ip().to_bits() & mask
        }
    }
}
