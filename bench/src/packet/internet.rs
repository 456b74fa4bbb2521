//! The Internet's table, as a route collector recorded it (MRT, RFC 6396 4.2).

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::bgp::table::Prefix;

const HEADER_LEN: usize = 12;
/// `TABLE_DUMP`, `AFI_IPv4`.
const TABLE_DUMP_IPV4: [u8; 4] = [0, 12, 0, 1];
/// Where an entry has its prefix and its length, behind view and sequence number.
const PREFIX: usize = 4;

/// The distinct prefixes of a gzipped table dump, those left out that are not routed: multicast and longer than 32 bits.
pub(crate) fn read(file: &Path) -> Result<Vec<Prefix>> {
    let name = || format!("read {}, which is part of the repository", file.display());
    let raw = std::fs::File::open(file).with_context(name)?;
    let mut data = Vec::new();
    flate2::read::MultiGzDecoder::new(raw)
        .read_to_end(&mut data)
        .with_context(name)?;
    let mut rest = data.as_slice();
    let mut prefixes = BTreeSet::new();
    while let Some((header, behind)) = rest.split_at_checked(HEADER_LEN) {
        let len = u32::from_be_bytes(header[8..12].try_into()?) as usize;
        ensure!(
            len <= behind.len(),
            "{} ends within a record",
            file.display()
        );
        let (record, next) = behind.split_at(len);
        rest = next;
        if header[4..8] == TABLE_DUMP_IPV4 && record.len() > PREFIX + 4 {
            let addr = u32::from_be_bytes(record[PREFIX..PREFIX + 4].try_into()?);
            let len = record[PREFIX + 4];
            if len <= 32 && addr >> 28 < 0xe {
                let mask = u32::MAX.checked_shr(len.into()).unwrap_or(0);
                prefixes.insert((addr & !mask, len));
            }
        }
    }
    ensure!(!prefixes.is_empty(), "{} holds no table", file.display());
    Ok(prefixes
        .into_iter()
        .map(|(addr, len)| Prefix { addr, len })
        .collect())
}
