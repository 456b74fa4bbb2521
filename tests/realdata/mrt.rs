//! Just enough MRT (RFC 6396) to replay a recording byte for byte. What the routes mean is left to `bgpdump`, so that the
//! expectation does not come from the code that sends.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What one recorded peer sent.
pub(crate) struct RecordedPeer {
    /// The peer's AS.
    pub(crate) asn: u32,
    /// Whether its AS numbers are 4 octets wide in `updates` (RFC 6793).
    pub(crate) four_octet_as: bool,
    /// Whole UPDATE messages, header included, in the order recorded.
    pub(crate) updates: Vec<Vec<u8>>,
}

/// The peers of a recording by address.
pub(crate) type Recording = BTreeMap<IpAddr, RecordedPeer>;

const TABLE_DUMP: u16 = 12;
const TABLE_DUMP_IPV4: u16 = 1;
const BGP4MP: u16 = 16;
const BGP4MP_MESSAGE_AS4: u16 = 4;
const BGP4MP_STATE_CHANGE_AS4: u16 = 5;
const BGP_UPDATE: u8 = 2;
const BGP_HEADER: usize = 19;

/// Reads a gzipped recording.
pub(crate) fn read(file: &Path) -> Result<Recording> {
    let raw = std::fs::read(file).with_context(|| {
        format!(
            "{}: the recording is missing; it is part of the repository",
            file.display()
        )
    })?;
    let mut data = Vec::new();
    flate2::read::MultiGzDecoder::new(raw.as_slice()).read_to_end(&mut data)?;
    let mut input = Input(&data);
    let mut recording = Recording::new();
    while !input.0.is_empty() {
        let _seconds = input.u32()?;
        let (kind, subtype) = (input.u16()?, input.u16()?);
        let length = input.u32()? as usize;
        let mut record = Input(input.take(length)?);
        match (kind, subtype) {
            (TABLE_DUMP, TABLE_DUMP_IPV4) => table_dump(&mut record, &mut recording)?,
            (BGP4MP, BGP4MP_MESSAGE_AS4) => message(&mut record, &mut recording)?,
            (BGP4MP, BGP4MP_STATE_CHANGE_AS4) => {}
            other => bail!(
                "{}: an MRT record of type {other:?} is not expected",
                file.display()
            ),
        }
    }
    Ok(recording)
}

/// One prefix of one peer's table, turned back into the UPDATE that announced it.
fn table_dump(record: &mut Input<'_>, recording: &mut Recording) -> Result<()> {
    let (_view, _sequence) = (record.u16()?, record.u16()?);
    let prefix: [u8; 4] = record.take(4)?.try_into()?;
    let prefix_len = record.take(1)?[0];
    let _status = record.take(1)?;
    let _originated = record.u32()?;
    let peer = IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(record.take(4)?)?));
    let asn = u32::from(record.u16()?);
    let attributes_len = record.u16()?;
    let attributes = record.take(usize::from(attributes_len))?;

    let prefix_bytes = usize::from(prefix_len).div_ceil(8);
    ensure!(prefix_bytes <= 4, "an IPv4 prefix of {prefix_len} bits");
    let length = BGP_HEADER + 2 + 2 + attributes.len() + 1 + prefix_bytes;
    let mut update = vec![0xff; 16];
    update.extend(u16::try_from(length)?.to_be_bytes());
    update.push(BGP_UPDATE);
    update.extend([0, 0]);
    update.extend(attributes_len.to_be_bytes());
    update.extend(attributes);
    update.push(prefix_len);
    update.extend(&prefix[..prefix_bytes]);
    peer_of(recording, peer, asn, false).updates.push(update);
    Ok(())
}

/// One message as a peer sent it.
fn message(record: &mut Input<'_>, recording: &mut Recording) -> Result<()> {
    let (asn, _local_asn) = (record.u32()?, record.u32()?);
    let (_interface, afi) = (record.u16()?, record.u16()?);
    let peer = if afi == 1 {
        let peer = Ipv4Addr::from(<[u8; 4]>::try_from(record.take(4)?)?);
        record.take(4)?;
        IpAddr::V4(peer)
    } else {
        let peer = Ipv6Addr::from(<[u8; 16]>::try_from(record.take(16)?)?);
        record.take(16)?;
        IpAddr::V6(peer)
    };
    ensure!(
        record.0.len() >= BGP_HEADER,
        "a BGP message shorter than its header"
    );
    let peer = peer_of(recording, peer, asn, true);
    if record.0[18] == BGP_UPDATE {
        peer.updates.push(record.0.to_vec());
    }
    Ok(())
}

fn peer_of(
    recording: &mut Recording,
    peer: IpAddr,
    asn: u32,
    four_octet_as: bool,
) -> &mut RecordedPeer {
    recording.entry(peer).or_insert_with(|| RecordedPeer {
        asn,
        four_octet_as,
        updates: Vec::new(),
    })
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(n)
            .context("the recording ends in a record")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }
}
