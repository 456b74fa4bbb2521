//! `bench micro`: the stages of the speaker core and of the service tables one by one, in this process, without sockets.
//!
//! Each stage has a plain program beside it that does the least that the stage could possibly do: the bench's own
//! parser and encoder, and a hash map. The ratio says what exactness, interning and bookkeeping cost.

mod services;

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use causeway_bgp::policy::Policy;
use causeway_bgp::rib::{FamilySession, PeerKind, Rib, RibConfig, RibSession};
use causeway_bgp::types::{Asn, Family, PeerId, RouterId};
use causeway_bgp::wire::{
    Capability, Decoder, DecoderConfig, EncodeOptions, Message, Open, Update, UpdateWriter,
    encode_open,
};
use foldhash::fast::FixedState;

use crate::bgp::table::{Prefix, Table};
use crate::bgp::wire::{self, Identity};
use crate::report::{Comparison, Report};
use crate::stats::Samples;

const ROUNDS: usize = 5;
const FULL_ROUTES: usize = 1_000_000;
const QUICK_ROUTES: usize = 100_000;
const SEED: u64 = 1;
/// What the daemon hands to the RIB between two flushes, about.
const FLUSH_UPDATES: usize = 512;
const TRANSMIT_BYTES: usize = 256 << 10;

const LOCAL: Identity = Identity {
    asn: 65_000,
    addr: Ipv4Addr::new(10, 99, 0, 1),
};
const MONITOR: Identity = Identity {
    asn: 64_600,
    addr: Ipv4Addr::new(10, 99, 0, 2),
};
const BLASTER: Identity = Identity {
    asn: 64_601,
    addr: Ipv4Addr::new(10, 99, 1, 2),
};

/// Runs the suite.
pub(crate) fn run(quick: bool, report: &mut Report) -> Result<()> {
    let table = Table::generate(if quick { QUICK_ROUTES } else { FULL_ROUTES }, 0, SEED);
    let stream = wire::announce(&table, &table.groups, BLASTER);
    let cluster = services::Cluster::new(quick);
    let mut stages: Vec<Stage> = Vec::new();
    for _ in 0..if quick { 1 } else { ROUNDS } {
        let mut ours = ours(&table, &stream)?;
        let mut plain = plain(&table, &stream)?;
        ours.extend(cluster.ours());
        plain.extend(cluster.plain());
        if stages.is_empty() {
            stages = ours
                .iter()
                .map(|(name, unit, _)| Stage::new(name, unit))
                .collect();
        }
        for ((stage, ours), plain) in stages.iter_mut().zip(ours).zip(plain) {
            stage.ours.push(ours.2);
            stage.plain.push(plain);
        }
    }
    for stage in &stages {
        report.expect_case(stage.case);
        report.add(Comparison {
            case: stage.case,
            metric: stage.metric,
            unit: "ns",
            ours: Some(&stage.ours),
            reference: "plain program",
            reference_value: Some(&stage.plain),
            binding: true,
        });
    }
    Ok(())
}

struct Stage {
    case: &'static str,
    metric: &'static str,
    ours: Samples,
    plain: Samples,
}

impl Stage {
    fn new(case: &'static str, metric: &'static str) -> Self {
        Self {
            case,
            metric,
            ours: Samples::default(),
            plain: Samples::default(),
        }
    }
}

/// The stages in the order of [`plain`]: case, metric, nanoseconds.
fn ours(table: &Table, stream: &[u8]) -> Result<Vec<(&'static str, &'static str, f64)>> {
    let (updates, prefixes) = (table.groups.len(), table.prefixes.len());

    let mut input = BytesMut::from(stream);
    let mut decoder = decoder()?;
    let (decode, decoded) = timed(|| decode_all(&mut decoder, &mut input));
    let decoded = decoded?;
    ensure!(
        decoded.len() == updates,
        "{} of {updates} UPDATEs",
        decoded.len()
    );

    let mut writer = UpdateWriter::new(EncodeOptions::default());
    let (encode, encoded) = timed(|| {
        let mut out = BytesMut::with_capacity(stream.len());
        for update in &decoded {
            if let Some(reach) = &update.reach4 {
                writer.announce(&reach.attributes, reach.prefixes.iter().copied(), &mut out)?;
            }
        }
        anyhow::Ok(out)
    });
    ensure!(
        encoded?.len() == stream.len(),
        "encoding doesn't give back what was decoded"
    );

    let mut rib = rib()?;
    let (mut import, mut decide, mut transmit) = (0.0, 0.0, 0.0);
    let mut sent = 0;
    let mut left = decoded.into_iter().peekable();
    while left.peek().is_some() {
        import += timed(|| {
            for update in left.by_ref().take(FLUSH_UPDATES) {
                rib.handle_update(PeerId(1), update);
            }
        })
        .0;
        decide += timed(|| {
            while rib.flush(usize::MAX) {}
            while rib.poll_next_hop_interest().is_some() {}
        })
        .0;
        transmit += timed(|| {
            while let Some(bytes) = rib.poll_transmit(PeerId(0), TRANSMIT_BYTES) {
                sent += bytes.len();
            }
        })
        .0;
    }
    ensure!(
        sent > stream.len(),
        "the monitor was sent {sent} of {} bytes",
        stream.len()
    );
    Ok(vec![
        ("decode", "per_update_ns", decode / updates as f64),
        ("encode", "per_update_ns", encode / updates as f64),
        ("import", "per_prefix_ns", import / prefixes as f64),
        (
            "decide-and-send",
            "per_prefix_ns",
            (decide + transmit) / prefixes as f64,
        ),
    ])
}

/// The same stages by the simplest means.
fn plain(table: &Table, stream: &[u8]) -> Result<Vec<f64>> {
    let (updates, prefixes) = (table.groups.len(), table.prefixes.len());
    let (decode, decoded) = timed(|| {
        let mut at = 0;
        let mut decoded = Vec::with_capacity(updates);
        while let Some((length, _)) = wire::header(&stream[at..])? {
            let update = wire::Update::parse(&stream[at + wire::HEADER_LEN..at + length])?;
            let announced = update.announced.collect::<Result<Vec<Prefix>>>()?;
            decoded.push((update.attributes, announced));
            at += length;
        }
        anyhow::Ok(decoded)
    });
    let decoded = decoded?;
    let (encode, encoded) = timed(|| wire::announce(table, &table.groups, BLASTER));
    black_box(encoded);
    let mut routes = HashMap::with_hasher(FixedState::default());
    let (import, ()) = timed(|| {
        for (number, (_, announced)) in decoded.iter().enumerate() {
            for prefix in announced {
                routes.insert(*prefix, number);
            }
        }
    });
    let (send, bytes) = timed(|| {
        let found = table
            .prefixes
            .iter()
            .filter(|prefix| routes.contains_key(*prefix))
            .count();
        (found, wire::announce(table, &table.groups, LOCAL))
    });
    black_box(bytes);
    Ok(vec![
        decode / updates as f64,
        encode / updates as f64,
        import / prefixes as f64,
        send / prefixes as f64,
    ])
}

fn decoder() -> Result<Decoder> {
    let open = |identity: Identity| Open {
        asn: Asn(identity.asn),
        hold_time: 90,
        router_id: RouterId(identity.addr.into()),
        capabilities: vec![
            Capability::Multiprotocol { afi: 1, safi: 1 },
            Capability::FourOctetAs(Asn(identity.asn)),
        ],
    };
    let mut decoder = Decoder::new(&open(LOCAL), DecoderConfig::default());
    let mut input = BytesMut::new();
    encode_open(&open(BLASTER), &mut input);
    decoder.decode(&mut input)?.context("the OPEN is whole")?;
    Ok(decoder)
}

fn decode_all(decoder: &mut Decoder, input: &mut BytesMut) -> Result<Vec<Update>> {
    let mut updates = Vec::new();
    while let Some(decoded) = decoder.decode(input)? {
        if let Message::Update(update) = decoded.message {
            updates.push(update);
        }
    }
    Ok(updates)
}

/// A RIB between the blaster, peer 1, and the monitor, peer 0, that accepts and sends everything.
fn rib() -> Result<Rib> {
    let mut config = RibConfig::new(Asn(LOCAL.asn), RouterId(LOCAL.addr.into()));
    config.assume_reachable = true;
    config.install_routes = false;
    let mut rib = Rib::new(config);
    let everything = Some(Arc::new(Policy::accept_all()));
    let listen = FamilySession {
        export: everything.clone(),
        ..FamilySession::default()
    };
    let blast = FamilySession {
        import: everything,
        ..FamilySession::default()
    };
    for (number, identity, family) in [(0, MONITOR, listen), (1, BLASTER, blast)] {
        let session = RibSession::new(
            PeerKind::External,
            (Asn(LOCAL.asn), IpAddr::V4(LOCAL.addr)),
            (
                Asn(identity.asn),
                RouterId(identity.addr.into()),
                identity.addr.into(),
            ),
            &[(Family::Ipv4Unicast, family)],
        );
        rib.peer_up(PeerId(number), session)?;
    }
    Ok(rib)
}

/// Nanoseconds, and the result.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_nanos() as f64, result)
}
