//! Reading whole maps.

use std::io;
use std::os::fd::BorrowedFd;

use bytemuck::Pod;

use crate::sys;

const BATCH_ENTRIES: usize = 4_096;

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
