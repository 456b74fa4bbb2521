//! Entries of maps as an earlier version laid them out, converted to today's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use causeway_maps::{MapKind, MapSpec};

use crate::sys;

/// How to convert the entries of a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversion {
    key: Converter,
    value: Converter,
}

/// Bytes as they were to bytes as they are; `None` for an entry that has no place any more.
type Converter = fn(&[u8]) -> Option<Vec<u8>>;

impl Conversion {
    /// Only the capacity is another.
    pub(crate) const IDENTITY: Self = Self {
        key: same,
        value: same,
    };
}

fn same(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

/// The conversion for a map that was made with the layout `recorded`, if there is one.
pub(crate) fn conversion(spec: &MapSpec, recorded: u64) -> Option<Conversion> {
    let known = history::KNOWN.iter();
    let mut fitting = known.filter(|(map, layout, _)| *map == spec.name && *layout == recorded);
    fitting.next().map(|(_, _, conversion)| *conversion)
}

/// Entries read and written at a time.
const BATCH_ENTRIES: usize = 1024;

/// Copies the entries of `from` to the map `to` that `spec` describes; returns how many.
pub(crate) fn migrate(
    from: &OwnedFd,
    to: BorrowedFd<'_>,
    spec: &MapSpec,
    by: &Conversion,
) -> io::Result<usize> {
    let mut migrated = 0;
    let array = matches!(spec.kind, MapKind::Array);
    for_each(from.as_fd(), spec.kind, |key, value| {
        // Slots of an array are there anyway; most of them are zero.
        if array && value.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let (Some(key), Some(value)) = ((by.key)(key), (by.value)(value)) else {
            return Ok(());
        };
        match sys::update(to, &key, &value) {
            Ok(()) => migrated += 1,
            // Beyond a capacity that has become smaller. The planner notices that it is missing.
            Err(error) if matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    Ok(migrated)
}

/// Entries of a map that can be read in batches.
pub(crate) fn count(map: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count = 0;
    for_each(map, MapKind::Array, |_, _| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Calls `work` with every entry's key and value.
fn for_each(
    map: BorrowedFd<'_>,
    kind: MapKind,
    mut work: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let info = sys::map_info(map)?;
    let (key_size, value_size) = (info.key_size as usize, info.value_size as usize);
    if matches!(kind, MapKind::DevMap) {
        // Can't be read in batches.
        let mut value = vec![0; value_size];
        for index in 0..info.max_entries {
            let key = index.to_ne_bytes();
            if sys::lookup(map, &key, &mut value)? {
                work(&key, &value)?;
            }
        }
        return Ok(());
    }
    let mut cursor = sys::Cursor::new(key_size);
    let mut keys = vec![0; key_size * BATCH_ENTRIES];
    let mut values = vec![0; value_size * BATCH_ENTRIES];
    loop {
        let (count, last) =
            sys::lookup_batch(map, &mut cursor, &mut keys, &mut values, BATCH_ENTRIES)?;
        let entries = keys.chunks(key_size).zip(values.chunks(value_size));
        for (key, value) in entries.take(count) {
            work(key, value)?;
        }
        if last || count == 0 {
            return Ok(());
        }
    }
}

/// Layouts of earlier versions.
mod history {
    use super::Conversion;

    /// Map, layout hash, conversion to today's layout. A version that changes a layout adds a row for the one before.
    #[cfg(not(feature = "upgrade-fixture"))]
    pub(super) const KNOWN: &[(&str, u64, Conversion)] = &[];

    /// What the fixture of the upgrade test changes: from the layout of the version under test.
    #[cfg(feature = "upgrade-fixture")]
    pub(super) const KNOWN: &[(&str, u64, Conversion)] = &[
        (
            "next_hops",
            causeway_maps::fixture::NEXT_HOPS_BEFORE,
            Conversion {
                key: super::same,
                value: widen::<8>,
            },
        ),
        (
            "vlans",
            causeway_maps::fixture::VLANS_BEFORE,
            Conversion {
                key: turn_vlan_key,
                value: super::same,
            },
        ),
    ];

    /// The value has grown by zeros at its end.
    #[cfg(feature = "upgrade-fixture")]
    fn widen<const MORE: usize>(value: &[u8]) -> Option<Vec<u8>> {
        let mut wide = value.to_vec();
        wide.extend([0; MORE]);
        Some(wide)
    }

    /// Parent and id have changed places.
    #[cfg(feature = "upgrade-fixture")]
    fn turn_vlan_key(key: &[u8]) -> Option<Vec<u8>> {
        let (parent, tag) = key.split_first_chunk::<4>()?;
        Some([tag, parent].concat())
    }
}
