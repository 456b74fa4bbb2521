//! Single entries, as the programs would find them.

use core::net::IpAddr;
use std::os::fd::AsFd as _;

use bytemuck::Pod;
use causeway_maps::catalogue::{
    CONFIG, FLAT4, FLAT4_ROOTS, FLAT4_TABLE, GROUPS, LIVENESS, NEXT_HOPS, PODS4, PODS6, PORTS,
    ROUTES4, ROUTES6, TX_PORTS,
};
use causeway_maps::{
    Config, Flat4Block, Flat4Root, Group, GroupId, MapSpec, NextHop, NextHopId, Port, RouteKey4,
    RouteKey6, TxPort,
};

use super::Datapath;
use crate::error::Error;
use crate::sys;

/// An index beyond an array is an entry that is not there.
impl Datapath {
    /// The entry of `config`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn config(&self) -> Result<Option<Config>, Error> {
        self.entry(&CONFIG, &0_u32)
    }

    /// An interface's entry of `ports`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn port(&self, ifindex: u32) -> Result<Option<Port>, Error> {
        self.entry(&PORTS, &ifindex)
    }

    /// Whether XDP can send by an interface.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn sends_by(&self, ifindex: u32) -> Result<bool, Error> {
        Ok(self.entry::<_, TxPort>(&TX_PORTS, &ifindex)?.is_some())
    }

    /// The index of pods' addresses of a family, by block.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn pods(&self, ipv4: bool, block: u32) -> Result<Option<GroupId>, Error> {
        let map = if ipv4 { &PODS4 } else { &PODS6 };
        Ok(self.entry(map, &block)?.map(GroupId))
    }

    /// How addresses that start with `octet` are looked up.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn flat4_root(&self, octet: u8) -> Result<Option<Flat4Root>, Error> {
        self.entry(&FLAT4_ROOTS, &u32::from(octet))
    }

    /// The row of a flat table for addresses that start with these two octets.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn flat4_row(&self, first: u8, second: u8) -> Result<Option<Flat4Block>, Error> {
        let Some(id) = self.entry::<_, u32>(&FLAT4, &u32::from(first))? else {
            return Ok(None);
        };
        let failed = Error::system(format!("reading map {}", FLAT4_TABLE.name));
        let mut row = <Flat4Block as bytemuck::Zeroable>::zeroed();
        let found = sys::map_by_id(id).and_then(|table| {
            let key = u32::from(second).to_ne_bytes();
            sys::lookup(table.as_fd(), &key, bytemuck::bytes_of_mut(&mut row))
        });
        Ok(found.map_err(failed)?.then_some(row))
    }

    /// What the trie answers for an address: the longest prefix of at most `len` bits.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn longest_match(&self, addr: IpAddr, len: u8) -> Result<Option<GroupId>, Error> {
        let prefix_len = u32::from(len);
        let group = match addr {
            IpAddr::V4(addr) => {
                let addr = addr.octets();
                self.entry(&ROUTES4, &RouteKey4 { prefix_len, addr })?
            }
            IpAddr::V6(addr) => {
                let addr = addr.octets();
                self.entry(&ROUTES6, &RouteKey6 { prefix_len, addr })?
            }
        };
        Ok(group.map(GroupId))
    }

    /// An entry of `groups`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn group(&self, id: GroupId) -> Result<Option<Group>, Error> {
        self.entry(&GROUPS, &id.0)
    }

    /// An entry of `next_hops`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn next_hop(&self, id: NextHopId) -> Result<Option<NextHop>, Error> {
        self.entry(&NEXT_HOPS, &id.0)
    }

    /// Bits of [`causeway_maps::dead`].
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn liveness(&self, id: NextHopId) -> Result<Option<u32>, Error> {
        self.entry(&LIVENESS, &id.0)
    }

    fn entry<K: Pod, V: Pod>(&self, spec: &MapSpec, key: &K) -> Result<Option<V>, Error> {
        let mut value = V::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        let found = sys::lookup(self.maps.fd(spec), bytemuck::bytes_of(key), bytes);
        let found = found.map_err(Error::system(format!("reading map {}", spec.name)))?;
        Ok(found.then_some(value))
    }
}
