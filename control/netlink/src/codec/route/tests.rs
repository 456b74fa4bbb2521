use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol, RouteType,
};
use proptest::prelude::*;

use super::*;
use crate::wire::messages;

fn ip4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// A unicast route of the main table to 203.0.113.0/24, with these attributes besides.
fn message(attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = netlink_packet_route::AddressFamily::Inet;
    message.header.destination_prefix_length = 24;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(ip4(
        "203.0.113.0",
    )))];
    message.attributes.extend(attributes);
    message
}

/// What we read in somebody else's encoding of it.
fn read(message: RouteMessage) -> Option<RouteNews> {
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let message = messages(&bytes).next().unwrap().unwrap();
    route_news(&message).unwrap()
}

fn legs(message: RouteMessage) -> Vec<RouteLeg> {
    match read(message) {
        Some(RouteNews::Route(KernelRoute {
            target: RouteTarget::Legs(legs),
            ..
        })) => legs,
        other => panic!("no legs: {other:?}"),
    }
}

fn leg(gateway: &str, ifindex: u32, weight: u32) -> RouteLeg {
    RouteLeg {
        gateway: gateway.parse().ok(),
        ifindex,
        weight,
    }
}

#[test]
fn a_route_is_read_with_its_metric_and_its_way() {
    let route = message(vec![
        RouteAttribute::Priority(7),
        RouteAttribute::Oif(3),
        RouteAttribute::Gateway(RouteAddress::Inet(ip4("10.0.0.2"))),
    ]);
    let expected = KernelRoute {
        prefix: Subnet::new(ip4("203.0.113.0").into(), 24).unwrap(),
        metric: 7,
        protocol: 4,
        target: RouteTarget::Legs(vec![leg("10.0.0.2", 3, 1)]),
    };
    assert_eq!(read(route), Some(RouteNews::Route(expected)));
}

#[test]
fn several_ways_come_with_their_weights() {
    let way = |gateway: &str, ifindex, hops| {
        let mut way = RouteNextHop::default();
        way.interface_index = ifindex;
        way.hops = hops;
        way.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(ip4(gateway)))];
        way
    };
    let route = message(vec![RouteAttribute::MultiPath(vec![
        way("10.0.0.2", 3, 0),
        way("10.0.1.2", 4, 9),
    ])]);
    assert_eq!(legs(route), [leg("10.0.0.2", 3, 1), leg("10.0.1.2", 4, 10)]);
}

#[test]
fn what_is_not_a_route_of_the_main_table_is_not_told() {
    let changed = |change: fn(&mut RouteMessage)| {
        let mut route = message(vec![RouteAttribute::Oif(3)]);
        change(&mut route);
        read(route)
    };
    assert!(changed(|_| {}).is_some());
    for change in [
        (|route| route.header.table = 255) as fn(&mut RouteMessage),
        |route| route.header.protocol = RouteProtocol::Kernel,
        |route| route.header.kind = RouteType::Multicast,
        |route| route.header.source_prefix_length = 64,
        |route| route.attributes.push(RouteAttribute::Table(1_000)),
    ] {
        assert_eq!(changed(change), None);
    }
    let rejected = changed(|route| route.header.kind = RouteType::BlackHole);
    assert!(matches!(
        rejected,
        Some(RouteNews::Route(KernelRoute {
            target: RouteTarget::Reject,
            ..
        }))
    ));
}

fn sent(op: &Op) -> (u16, u16, Vec<u8>) {
    let bytes = operation(5, op, true);
    let message = messages(&bytes).next().unwrap().unwrap();
    assert_eq!(message.sequence, 5);
    (message.kind, message.flags, message.body.to_vec())
}

#[test]
fn a_route_of_ours_is_made_only_where_there_is_none_and_replaced_only_where_there_is_one() {
    let op = |replace| Op::Route {
        prefix: Subnet::new(ip4("203.0.113.0").into(), 24).unwrap(),
        group: 9,
        replace,
    };
    let (kind, flags, body) = sent(&op(false));
    assert_eq!((kind, flags), (24, 0x605), "create, exclusively");
    assert_eq!(sent(&op(true)).1, 0x105, "replace, without create");
    let read = parse(&body, false).unwrap().unwrap();
    assert_eq!(read.0, 254);
    assert_eq!(
        read.1,
        KernelRoute {
            prefix: Subnet::new(ip4("203.0.113.0").into(), 24).unwrap(),
            metric: METRIC,
            protocol: PROTOCOL,
            target: RouteTarget::Object(9),
        }
    );
}

#[test]
fn objects_and_groups_are_read_as_they_are_written() {
    let gateway = Gateway {
        ifindex: 3,
        addr: "2001:db8::2".parse().unwrap(),
    };
    let (kind, _, body) = sent(&Op::NextHop {
        id: 7,
        gateway,
        replace: false,
    });
    assert_eq!(kind, 104);
    let found = next_hop(&body).unwrap().unwrap();
    assert_eq!(
        (found.id, found.protocol, found.value),
        (7, PROTOCOL, FoundValue::Gateway(gateway))
    );
    let members: Arc<[(u32, u8)]> = Arc::from([(7, 1), (8, 255)]);
    let (_, _, body) = sent(&Op::Group {
        id: 9,
        members: Arc::clone(&members),
        replace: true,
    });
    // `struct nexthop_grp`: what is written is one less than what is meant.
    let wire = [7_u8, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 254, 0, 0, 0];
    assert!(body.windows(wire.len()).any(|window| window == wire));
    let found = next_hop(&body).unwrap().unwrap();
    assert_eq!(found.value, FoundValue::Group(members));
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(
        kind in prop_oneof![Just(24_u16), Just(25), Just(104), Just(16)],
        body in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let message = Message { kind, flags: 0, sequence: 0, body: &body };
        let _ = route_news(&message);
        let _ = any_route(&body);
    }
}
