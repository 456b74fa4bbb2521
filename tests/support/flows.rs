//! By which interface each of many flows arrives: one small UDP packet per flow, and the receiving kernel tells.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};

use crate::Node;

/// Where they are sent, always the same: it is part of a flow.
const TARGET_PORT: u16 = 9_999;
/// Below the ports that the kernel gives away by itself.
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 20_000;
/// Sent before what arrived is looked at: what a veth's ring holds, 256, and a receive buffer of 4 MiB are far away.
const BURST: usize = 64;
const RECEIVE_BYTES: usize = 4 << 20;
/// How often a packet that did not arrive is sent anew.
const ROUNDS: usize = 10;
/// How long packets may be under way.
const DRAIN: Duration = Duration::from_millis(100);

/// The way of each flow, by its number: an interface index of the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways(Vec<u32>);

impl Ways {
    /// Sends each of `flows` flows from `from` to `target`, an address of `to`. They differ in source ports and take
    /// turns with `sources`, addresses of `from`.
    ///
    /// # Errors
    ///
    /// When a flow does not arrive although it was tried several times.
    pub fn of(
        from: &Node,
        sources: &[IpAddr],
        to: &Node,
        target: IpAddr,
        flows: u32,
    ) -> Result<Self> {
        let sources_count = u32::try_from(sources.len())?;
        ensure!(
            flows <= sources_count * PORTS,
            "{flows} flows need more source addresses"
        );
        let receiver = to.enter(|| receiver(target))??;
        let target = receiver.local_addr()?;
        let mut ways: Vec<Option<u32>> = vec![None; usize::try_from(flows)?];
        for _ in 0..ROUNDS {
            let missing: Vec<u32> = (0..)
                .zip(&ways)
                .filter(|(_, way)| way.is_none())
                .map(|(flow, _)| flow)
                .collect();
            if missing.is_empty() {
                break;
            }
            from.enter(|| -> Result<()> {
                for burst in missing.chunks(BURST) {
                    for flow in burst {
                        let source = sources[(flow % sources_count) as usize];
                        let port = u16::try_from(FIRST_PORT + flow / sources_count)?;
                        send((source, port).into(), target, *flow)?;
                    }
                    receive(&receiver, &mut ways)?;
                }
                Ok(())
            })??;
            let quiet = Instant::now() + DRAIN;
            while Instant::now() < quiet && ways.contains(&None) {
                receive(&receiver, &mut ways)?;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let lost = ways.iter().filter(|way| way.is_none()).count();
        ensure!(
            lost == 0,
            "{lost} of {flows} flows to {} did not arrive in {ROUNDS} tries",
            target.ip()
        );
        Ok(Self(ways.into_iter().flatten().collect()))
    }

    /// How many flows there are.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.0.len()
    }

    /// Flows by interface.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<u32, usize> {
        let mut shares = BTreeMap::new();
        for way in &self.0 {
            *shares.entry(*way).or_default() += 1;
        }
        shares
    }

    /// Flows that take another way than in `before`: both ways.
    pub fn moved<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (u32, u32)> + 'a {
        let both = before.0.iter().copied().zip(self.0.iter().copied());
        both.filter(|(before, now)| before != now)
    }
}

fn receiver(address: IpAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((address, TARGET_PORT))?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BYTES)?;
    match address {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(socket)
}

fn send(source: SocketAddr, target: SocketAddr, flow: u32) -> Result<()> {
    let socket = UdpSocket::bind(source).with_context(|| format!("cannot use {source}"))?;
    // One that is refused is sent anew, like one that was lost.
    let _ = socket.send_to(&flow.to_be_bytes(), target);
    Ok(())
}

/// Takes in what has arrived.
fn receive(socket: &UdpSocket, ways: &mut [Option<u32>]) -> Result<()> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    loop {
        let mut payload = [0; 4];
        let mut buffers = [IoSliceMut::new(&mut payload)];
        let received = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut buffers,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        );
        let way = match received {
            Ok(message) => {
                let mut came_by = message.cmsgs()?.filter_map(|control| match control {
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        u32::try_from(info.ipi_ifindex).ok()
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_ifindex),
                    _ => None,
                });
                came_by.next().context("a packet without an interface")?
            }
            Err(Errno::EAGAIN) => return Ok(()),
            Err(Errno::EINTR) => continue,
            // An ICMP error for somebody's earlier packet.
            Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH) => continue,
            Err(error) => return Err(error.into()),
        };
        let flow = u32::from_be_bytes(payload);
        let place = ways
            .get_mut(usize::try_from(flow)?)
            .with_context(|| format!("a packet of flow {flow}, which there is not"))?;
        ensure!(
            place.is_none_or(|before| before == way),
            "flow {flow} came by two ways"
        );
        *place = Some(way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_flows_are_those_with_another_way() {
        let (before, now) = (Ways(vec![1, 2, 3, 1]), Ways(vec![1, 3, 3, 2]));
        assert_eq!(now.moved(&before).collect::<Vec<_>>(), [(2, 3), (1, 2)]);
        assert_eq!(now.shares(), BTreeMap::from([(1, 1), (2, 1), (3, 2)]));
    }
}
