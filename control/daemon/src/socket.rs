//! TCP sockets with what BGP asks of them: MD5 (RFC 2385), TTL and GTSM (RFC 5082), DSCP, source address.

use core::mem::{size_of, zeroed};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use causeway_bgp::config::limits::MD5_KEY_BYTES;
use causeway_bgp::config::{Md5Key, TransportOptions};
use causeway_bgp::types::Prefix;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits;

/// A socket that is set up to connect to `remote`; not yet connecting.
///
/// # Errors
///
/// What the kernel says, with the option that it refused.
pub(crate) fn outgoing(
    remote: SocketAddr,
    local: Option<IpAddr>,
    options: &TransportOptions,
) -> io::Result<Socket> {
    let socket = new(remote)?;
    apply(socket.as_raw_fd(), remote.is_ipv4(), options)?;
    if let Some(key) = &options.md5 {
        md5(socket.as_raw_fd(), host(remote.ip()), Some(key))?;
    }
    if let Some(local) = local {
        // Several connections may leave from one address while older ones are still in TIME_WAIT.
        socket.set_reuse_address(true)?;
        let scope = match (local, remote) {
            (IpAddr::V6(v6), SocketAddr::V6(remote)) if v6.is_unicast_link_local() => {
                remote.scope_id()
            }
            _ => 0,
        };
        let address = match local {
            IpAddr::V4(v4) => SocketAddr::from((v4, 0)),
            IpAddr::V6(v6) => SocketAddr::V6(core::net::SocketAddrV6::new(v6, 0, 0, scope)),
        };
        socket
            .bind(&address.into())
            .map_err(|error| named("cannot use local address", local, &error))?;
    }
    Ok(socket)
}

/// A socket that listens on all addresses of a family.
///
/// # Errors
///
/// What the kernel says: the port is in use, or a privilege is missing.
pub(crate) fn listening(v4: bool, port: u16) -> io::Result<Socket> {
    let any = if v4 {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
    };
    let socket = new(any)?;
    socket.set_reuse_address(true)?;
    // The answer to a peer that speaks GTSM must leave with 255 before anybody has told who that is.
    hops(socket.as_raw_fd(), v4, 255)?;
    class(socket.as_raw_fd(), v4, TransportOptions::default().dscp)?;
    socket.bind(&any.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(socket)
}

fn new(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // UPDATEs leave in large pieces anyway, and a lone one must not wait for an acknowledgement.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Sets the options that a connected socket can take: TTL, GTSM, DSCP.
///
/// # Errors
///
/// What the kernel says.
pub(crate) fn apply(fd: RawFd, v4: bool, options: &TransportOptions) -> io::Result<()> {
    hops(fd, v4, options.ttl.outgoing())?;
    let least = i32::from(options.ttl.least_incoming().unwrap_or(0));
    if v4 {
        set(fd, libc::IPPROTO_IP, libc::IP_MINTTL, &least)?;
    } else {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &least)?;
    }
    class(fd, v4, options.dscp)
}

fn class(fd: RawFd, v4: bool, dscp: u8) -> io::Result<()> {
    let class = i32::from(dscp) << 2;
    if v4 {
        set(fd, libc::IPPROTO_IP, libc::IP_TOS, &class)
    } else {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class)
    }
}

fn hops(fd: RawFd, v4: bool, hops: u8) -> io::Result<()> {
    let hops = i32::from(hops);
    if v4 {
        set(fd, libc::IPPROTO_IP, libc::IP_TTL, &hops)
    } else {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &hops)
    }
}

/// Sets or removes the MD5 key for peers of a prefix: on a listening socket for many, on a connected one for its peer.
/// Link-local peers share a key per address, as the kernel takes an interface for VRF devices only.
///
/// # Errors
///
/// What the kernel says; removing a key that isn't there is no error.
pub(crate) fn md5(fd: RawFd, peer: Prefix, key: Option<&Md5Key>) -> io::Result<()> {
    let mut option = TcpMd5Sig {
        // SAFETY: a sockaddr_storage is plain data for which zero is valid.
        address: unsafe { zeroed() },
        flags: TCP_MD5SIG_FLAG_PREFIX,
        prefix_length: peer.len(),
        key_length: 0,
        interface: 0,
        key: [0; MD5_KEY_BYTES],
    };
    let address = socket2::SockAddr::from(SocketAddr::new(peer.addr(), 0));
    // SAFETY: both are valid for reads and writes of their sizes and don't overlap; a sockaddr_storage holds any address.
    unsafe {
        core::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut option.address).cast::<u8>(),
            (address.len() as usize).min(size_of::<libc::sockaddr_storage>()),
        );
    }
    if let Some(key) = key {
        let key = key.expose();
        option.key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
        for (to, from) in option.key.iter_mut().zip(key) {
            *to = *from;
        }
    }
    match set(fd, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &option) {
        Err(error) if key.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(named("cannot set the TCP MD5 key for", peer, &error)),
        Ok(()) => Ok(()),
    }
}

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; MD5_KEY_BYTES],
}

/// The address is a prefix (linux/tcp.h).
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// An address as the prefix that holds it alone.
pub(crate) fn host(address: IpAddr) -> Prefix {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    Prefix::new(address, bits).unwrap_or_else(|| unreachable!("the length is the family's"))
}

fn named(what: &str, whom: impl core::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {whom}: {error}"))
}

fn set<T>(fd: RawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` is valid for reads of `size` bytes during the call, which keeps no pointer to it.
    let done = unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), size) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
