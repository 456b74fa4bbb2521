//! What the kernel's maps hold, for verification, pruning and restored ids.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;

use bytemuck::Pod;
use causeway_maps::{Config, Group, GroupId, NextHop, NextHopId, Port, RouteKey4, RouteKey6};

use crate::sys;

const BATCH_ENTRIES: usize = 4_096;

/// Every entry of the maps that the planner writes. Zeroed array slots count as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// `routes4`.
    pub routes4: BTreeMap<RouteKey4, GroupId>,
    /// `routes6`.
    pub routes6: BTreeMap<RouteKey6, GroupId>,
    /// `groups`.
    pub groups: BTreeMap<GroupId, Group>,
    /// `next_hops`.
    pub next_hops: BTreeMap<NextHopId, NextHop>,
    /// `ports`, by ifindex.
    pub ports: BTreeMap<u32, Port>,
    /// Interfaces in `tx_ports`.
    pub tx_ports: Vec<u32>,
    /// `config`.
    pub config: Option<Config>,
}

/// Reads a whole map. Entries that change meanwhile may be missed or seen twice; the last one counts.
pub(crate) fn entries<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    let mut cursor = sys::Cursor::new(size_of::<K>());
    let mut keys = vec![K::zeroed(); BATCH_ENTRIES];
    let mut values = vec![V::zeroed(); BATCH_ENTRIES];
    let mut entries = Vec::new();
    loop {
        let (count, last) = sys::lookup_batch(
            map,
            &mut cursor,
            bytemuck::cast_slice_mut(&mut keys),
            bytemuck::cast_slice_mut(&mut values),
            BATCH_ENTRIES,
        )?;
        entries.extend(
            keys[..count]
                .iter()
                .copied()
                .zip(values[..count].iter().copied()),
        );
        if last || count == 0 {
            return Ok(entries);
        }
    }
}

/// Reads an array, its zeroed slots left out.
pub(crate) fn slots<V: Pod + PartialEq>(map: BorrowedFd<'_>) -> io::Result<Vec<(u32, V)>> {
    let mut slots = entries::<u32, V>(map)?;
    slots.retain(|(_, value)| *value != V::zeroed());
    Ok(slots)
}
