//! The kernel's own answer to where an address leads: `RTM_GETROUTE`, which `ip route get` asks as well, by a few bytes of
//! netlink that share nothing with the daemon's.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct rtmsg`.
const RTMSG: usize = 12;

/// Asks the table of the network namespace in which it was opened.
pub(crate) struct KernelTable {
    socket: OwnedFd,
    sequence: u32,
}

impl KernelTable {
    pub(crate) fn open() -> Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The interface by which a packet to `address` leaves; none if there is no route.
    pub(crate) fn look_up(&mut self, address: IpAddr) -> Result<Option<u32>> {
        self.sequence += 1;
        let fd = self.socket.as_raw_fd();
        send(fd, &question(self.sequence, address), MsgFlags::empty())?;
        let mut answer = vec![0; 4096];
        let length = recv(fd, &mut answer, MsgFlags::empty())?;
        let answer = &answer[..length];
        let word = |at: usize| -> Result<u32> {
            let bytes = answer.get(at..at + 4).context("a short answer")?;
            Ok(u32::from_ne_bytes(bytes.try_into()?))
        };
        let half = |at: usize| -> Result<u16> {
            let bytes = answer.get(at..at + 2).context("a short answer")?;
            Ok(u16::from_ne_bytes(bytes.try_into()?))
        };
        ensure!(word(8)? == self.sequence, "an answer to another question");
        match half(4)? {
            RTM_NEWROUTE => {}
            NLMSG_ERROR => {
                return match Errno::from_raw(word(HEADER)?.cast_signed().wrapping_neg()) {
                    Errno::ENETUNREACH | Errno::EHOSTUNREACH => Ok(None),
                    error => Err(error).context(format!("the kernel's route to {address}")),
                };
            }
            other => bail!("a netlink message of type {other}"),
        }
        let mut at = HEADER + RTMSG;
        while at < length {
            let size = usize::from(half(at)?);
            ensure!(size >= 4, "an attribute of {size} bytes");
            if half(at + 2)? == RTA_OIF {
                return word(at + 4).map(Some);
            }
            at += size.next_multiple_of(4);
        }
        bail!("the kernel's route to {address} names no interface")
    }
}

fn question(sequence: u32, address: IpAddr) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::Inet6, address.octets().to_vec()),
    };
    let bits = (octets.len() * 8) as u8;
    let mut message = vec![0; HEADER];
    message.extend([family as i32 as u8, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    message.extend((4 + octets.len() as u16).to_ne_bytes());
    message.extend(RTA_DST.to_ne_bytes());
    message.extend(octets);
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETROUTE.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    message
}
