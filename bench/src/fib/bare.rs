//! The reference of `load-1m`: an LPM trie filled by batches, and nothing else.

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use anyhow::{Context, Result, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData};
use causeway_maps::catalogue::ROUTES4;
use nix::libc;

use crate::bgp::table::Prefix;

/// As the datapath's, so that the number of system calls is the same.
const BATCH_ENTRIES: usize = 4_096;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// The batch arm of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// An empty trie of the kind and capacity of `routes4`.
pub(crate) struct Bare(MapData);

impl Bare {
    pub(crate) fn create() -> Result<Self> {
        let map = aya_obj::Map::new_from_params(
            ROUTES4.kind as u32,
            ROUTES4.key_size,
            ROUTES4.value_size,
            ROUTES4.max_entries,
            ROUTES4.flags,
        );
        let map = MapData::create(map, "bare", None).context("make an LPM trie")?;
        Ok(Self(map))
    }

    /// Puts all prefixes in, in the order in which they are.
    pub(crate) fn fill(&mut self, table: &[Prefix]) -> Result<()> {
        let map = self.0.fd().as_fd().as_raw_fd();
        for prefixes in table.chunks(BATCH_ENTRIES) {
            let keys: Vec<[u8; 8]> = prefixes.iter().map(key).collect();
            let values = vec![causeway_maps::GroupId::FIRST.0; keys.len()];
            update_batch(map, &keys, &values)?;
        }
        Ok(())
    }

    /// Fails unless the last of the prefixes is there.
    pub(crate) fn verify(&self, table: &[Prefix]) -> Result<()> {
        let last = table.last().context("an empty table")?;
        let key = Key::new(last.len.into(), last.addr.to_be_bytes());
        let map = MapData::from_id(self.0.info()?.id())?;
        let trie: LpmTrie<_, [u8; 4], u32> = Map::from_map_data(map)?.try_into()?;
        trie.get(&key, 0).context("the last prefix is missing")?;
        Ok(())
    }
}

fn key(prefix: &Prefix) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&u32::from(prefix.len).to_ne_bytes());
    key[4..].copy_from_slice(&prefix.addr.to_be_bytes());
    key
}

fn update_batch(map: RawFd, keys: &[[u8; 8]], values: &[u32]) -> Result<()> {
    let wanted = u32::try_from(keys.len())?;
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: wanted,
        map_fd: u32::try_from(map)?,
        ..BatchAttr::default()
    };
    // SAFETY: the kernel reads `count` keys and values, which both slices hold, and writes only into `attr`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_UPDATE_BATCH,
            &raw mut attr,
            size_of::<BatchAttr>(),
        )
    };
    ensure!(
        result == 0 && attr.count == wanted,
        "{} of {wanted} entries were written: {}",
        attr.count,
        std::io::Error::last_os_error()
    );
    Ok(())
}
