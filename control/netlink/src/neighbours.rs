//! Has the kernel resolve neighbours.

use core::net::IpAddr;

use crate::codec::manage_neighbour;
use crate::error::Error;
use crate::socket::Connection;

/// A socket for requests about neighbours.
pub struct Neighbours {
    connection: Connection,
}

impl Neighbours {
    /// Opens it, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// If the system refuses a socket.
    pub fn open() -> Result<Self, Error> {
        let connection = Connection::open()?;
        Ok(Self { connection })
    }

    /// Asks the kernel to resolve `addr` on `ifindex` now and to keep it resolved (a managed neighbour, Linux 5.16).
    ///
    /// What became of it comes as a [`causeway_net::Fact`]. Loss of carrier ends it: ask again when carrier returns.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, with its words: no such interface, the interface is down, the table is full.
    pub async fn keep_resolved(&mut self, ifindex: u32, addr: IpAddr) -> Result<(), Error> {
        let name = || format!("resolve {addr} on interface {ifindex}");
        let build = |sequence| manage_neighbour(sequence, ifindex, addr);
        self.connection
            .exchange(&name, build, |_| Ok(()))
            .await
            .map(|_| ())
    }
}
