//! Has the kernel resolve neighbours.

use core::net::IpAddr;

use crate::codec::{Care, tend_neighbour};
use crate::error::Error;
use crate::socket::Connection;

/// A socket for requests about neighbours.
pub struct Neighbours {
    connection: Connection,
    /// The kernel knows no managed neighbours (before Linux 5.16): each call only resolves.
    unmanaged: bool,
}

impl Neighbours {
    /// Opens it, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// If the system refuses a socket.
    pub fn open() -> Result<Self, Error> {
        let connection = Connection::open()?;
        Ok(Self {
            connection,
            unmanaged: false,
        })
    }

    /// Asks the kernel to resolve `addr` on `ifindex` now and to keep it resolved (a managed neighbour, Linux 5.16; an
    /// older kernel resolves it once, and the caller asks again while it matters).
    ///
    /// What became of it comes as a [`causeway_net::Fact`]. Loss of carrier ends it: ask again when carrier returns.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, with its words: no such interface, the interface is down, the table is full.
    pub async fn keep_resolved(&mut self, ifindex: u32, addr: IpAddr) -> Result<(), Error> {
        if !self.unmanaged {
            match self.tend(ifindex, addr, Care::Managed).await {
                Err(Error::Refused { error, .. }) if error.errno == libc::EINVAL => {
                    // Either it knows no such flag, or it means something else by it: then the next request is refused too.
                    self.tend(ifindex, addr, Care::Once).await?;
                    tracing::info!(
                        "this kernel has no managed neighbours; they are refreshed by us"
                    );
                    self.unmanaged = true;
                    return Ok(());
                }
                answer => return answer,
            }
        }
        self.tend(ifindex, addr, Care::Once).await
    }

    /// Ends [`Self::keep_resolved`]: the kernel forgets the neighbour when it is no longer used. One that is gone already
    /// is fine.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, with its words.
    pub async fn release(&mut self, ifindex: u32, addr: IpAddr) -> Result<(), Error> {
        match self.tend(ifindex, addr, Care::Released).await {
            Err(Error::Refused { error, .. })
                if matches!(error.errno, libc::ENOENT | libc::ENODEV) =>
            {
                Ok(())
            }
            answer => answer,
        }
    }

    async fn tend(&mut self, ifindex: u32, addr: IpAddr, care: Care) -> Result<(), Error> {
        let name = || match care {
            Care::Managed | Care::Once => format!("resolve {addr} on interface {ifindex}"),
            Care::Released => format!("forget {addr} on interface {ifindex}"),
        };
        let build = |sequence| tend_neighbour(sequence, ifindex, addr, care);
        self.connection
            .exchange(&name, build, |_| Ok(()))
            .await
            .map(|_| ())
    }
}
