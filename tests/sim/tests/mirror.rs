//! A peer that sends back what it hears must not bring anything back to life.

use core::time::Duration;

use bytes::{Bytes, BytesMut};
use causeway_bgp::rib::{Cursor, RouteFilter};
use causeway_bgp::types::{Asn, Family, RouterId};
use causeway_bgp::wire::{
    Capability, Decoder, DecoderConfig, EncodeOptions, Message, Open, UpdateWriter,
    encode_keepalive, encode_open, message_type,
};
use causeway_sim::network::{Network, Puppet};
use causeway_sim::plan::{LinkPlan, NodePlan, Plan, prefix4, prefix6};
use causeway_sim::seed;

const LIMIT: Duration = Duration::from_secs(600);
const MIRROR_AS: u32 = 65_003;

fn hello(asn: u32) -> Open {
    let mut capabilities = Family::ALL.map(Capability::multiprotocol).to_vec();
    capabilities.push(Capability::FourOctetAs(Asn(asn)));
    Open {
        asn: Asn(asn),
        hold_time: 90,
        router_id: RouterId(0x7f00_0001),
        capabilities,
    }
}

/// Answers OPEN and KEEPALIVE as a peer would, and every UPDATE with what `reflect` makes of it.
fn mirror(mut reflect: impl FnMut(&[u8]) -> Vec<Bytes> + 'static) -> Puppet {
    Box::new(move |message| {
        let mut answer = BytesMut::new();
        match message[18] {
            message_type::OPEN => {
                encode_open(&hello(MIRROR_AS), &mut answer);
                encode_keepalive(&mut answer);
            }
            message_type::KEEPALIVE => encode_keepalive(&mut answer),
            message_type::UPDATE => return reflect(message),
            _ => return Vec::new(),
        }
        vec![answer.freeze()]
    })
}

/// A row of an origin, the speaker under test, and the mirror.
fn network(mirror: Puppet, seed: u64) -> Network {
    let mut plan = Plan::default();
    for asn in [65_001, 65_002, MIRROR_AS] {
        plan.nodes.push(NodePlan::new(asn));
    }
    plan.nodes[2].originates = false;
    for node in 0..2 {
        plan.links
            .push(LinkPlan::new(node, node + 1, Duration::from_millis(1)));
    }
    let mut network = Network::new(plan, seed);
    network.set_puppet(2, mirror);
    network
}

fn nothing_comes_back(mut network: Network) {
    network.run_to_rest(LIMIT);
    assert!(network.nodes[1].updates_in[&1] > 0, "the mirror sends back");
    assert!(!network.nodes[1].fib.next_hops(prefix4(0)).is_empty());
    for _ in 0..3 {
        network.set_originates(0, false);
        network.run_to_rest(LIMIT);
        for prefix in [prefix4(0), prefix6(0)] {
            for node in &network.nodes[..2] {
                assert!(
                    node.fib.next_hops(prefix).is_empty(),
                    "{prefix} lives on without a source"
                );
            }
        }
        network.set_originates(0, true);
        network.run_to_rest(LIMIT);
        assert!(!network.nodes[1].fib.next_hops(prefix4(0)).is_empty());
    }
    // It told about it: the mirrored path is there, ineligible.
    let speaker = network.nodes[1].speaker.as_ref().unwrap();
    let page = speaker
        .rib()
        .routes(RouteFilter::Exact(prefix4(0)), Cursor::default(), 1);
    assert_eq!(page.items[0].paths.len(), 2, "{page:?}");
}

#[test]
fn updates_sent_back_byte_for_byte_do_not_come_back() {
    let exact = mirror(|message| vec![Bytes::copy_from_slice(message)]);
    nothing_comes_back(network(exact, seed(31)));
}

#[test]
fn updates_sent_back_with_the_mirrors_as_in_front_do_not_come_back() {
    let mut ours = BytesMut::new();
    encode_open(&hello(65_002), &mut ours);
    let mut decoder = Decoder::new(&hello(MIRROR_AS), DecoderConfig::default());
    decoder.decode(&mut ours).unwrap();
    let prepended = mirror(move |message| {
        let decoded = decoder
            .decode(&mut BytesMut::from(message))
            .unwrap()
            .unwrap();
        let Message::Update(mut update) = decoded.message else {
            return Vec::new();
        };
        let mut writer = UpdateWriter::new(EncodeOptions::default());
        let mut bytes = BytesMut::new();
        writer.withdraw(update.withdrawn4, &mut bytes);
        writer.withdraw(update.withdrawn6, &mut bytes);
        if let Some(reach) = &mut update.reach4 {
            reach.attributes.as_path = reach.attributes.as_path.prepend(Asn(MIRROR_AS), 1);
            writer
                .announce(&reach.attributes, reach.prefixes.drain(..), &mut bytes)
                .unwrap();
        }
        if let Some(reach) = &mut update.reach6 {
            reach.attributes.as_path = reach.attributes.as_path.prepend(Asn(MIRROR_AS), 1);
            writer
                .announce(&reach.attributes, reach.prefixes.drain(..), &mut bytes)
                .unwrap();
        }
        if bytes.is_empty() {
            Vec::new()
        } else {
            vec![bytes.freeze()]
        }
    });
    nothing_comes_back(network(prepended, seed(32)));
}
