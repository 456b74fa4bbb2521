use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage, VlanProtocol,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState as OracleState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use proptest::prelude::*;

use super::*;
use crate::wire::messages;

/// Bytes of a notification, made by somebody else's codec.
fn encoded(message: RouteNetlinkMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// What somebody else's codec reads in a request of ours.
fn decoded(bytes: &[u8]) -> (u16, RouteNetlinkMessage) {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap();
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => (message.header.flags, inner),
        other => panic!("not a route message: {other:?}"),
    }
}

fn told(message: RouteNetlinkMessage) -> Option<Fact> {
    let bytes = encoded(message);
    let message = messages(&bytes).next().unwrap().unwrap();
    fact(&message).unwrap()
}

fn link_message() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    message.attributes = vec![
        LinkAttribute::IfName("eth0".into()),
        LinkAttribute::Mtu(9000),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        LinkAttribute::Carrier(1),
    ];
    message
}

#[test]
fn a_link_is_read() {
    let link = Link {
        ifindex: 7,
        name: "eth0".into(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: 9000,
        up: true,
        carrier: true,
        loopback: false,
        kind: LinkKind::Plain,
    };
    let message = RouteNetlinkMessage::NewLink(link_message());
    assert_eq!(told(message), Some(Fact::Link(link)));
    let message = RouteNetlinkMessage::DelLink(link_message());
    assert_eq!(told(message), Some(Fact::LinkGone { ifindex: 7 }));
}

/// The kind of a link with these attributes besides the usual ones.
fn kind_of(more: impl IntoIterator<Item = LinkAttribute>) -> LinkKind {
    let mut message = link_message();
    message.attributes.extend(more);
    match told(RouteNetlinkMessage::NewLink(message)) {
        Some(Fact::Link(link)) => link.kind,
        other => panic!("a link: {other:?}"),
    }
}

fn vlan_info(protocol: VlanProtocol) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(vec![
            InfoVlan::Protocol(protocol),
            InfoVlan::Id(42),
        ])),
    ])
}

#[test]
fn a_vlan_device_is_known_by_parent_and_id_unless_its_parent_is_elsewhere_or_it_is_802_1ad() {
    let tagged = || vlan_info(VlanProtocol::Ieee8021Q);
    let vlan = LinkKind::Vlan { parent: 3, vid: 42 };
    assert_eq!(kind_of([LinkAttribute::Link(3), tagged()]), vlan);
    assert_eq!(kind_of([tagged(), LinkAttribute::Link(3)]), vlan);
    let elsewhere = LinkAttribute::LinkNetNsId(0);
    assert_eq!(
        kind_of([LinkAttribute::Link(3), elsewhere, tagged()]),
        LinkKind::Plain
    );
    assert_eq!(
        kind_of([LinkAttribute::Link(3), vlan_info(VlanProtocol::Ieee8021Ad)]),
        LinkKind::Plain
    );
}

#[test]
fn the_other_end_of_a_pair_is_here_or_elsewhere() {
    let veth = || LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]);
    for (more, peer_elsewhere) in [
        (vec![LinkAttribute::Link(3), veth()], false),
        (
            vec![
                LinkAttribute::Link(3),
                LinkAttribute::LinkNetNsId(1),
                veth(),
            ],
            true,
        ),
    ] {
        assert_eq!(kind_of(more), LinkKind::Veth { peer_elsewhere });
    }
}

#[test]
fn carrier_comes_from_its_attribute_and_a_mac_address_from_ethernet_only() {
    let mut message = link_message();
    message.attributes[3] = LinkAttribute::Carrier(0);
    message.header.link_layer_type = LinkLayerType::Loopback;
    let Some(Fact::Link(link)) = told(RouteNetlinkMessage::NewLink(message)) else {
        panic!("a link");
    };
    assert!(link.up && !link.carrier);
    assert_eq!(link.mac, None);
}

#[test]
fn what_a_bridge_says_of_its_ports_is_no_link() {
    let mut message = link_message();
    message.header.interface_family = AddressFamily::Bridge;
    assert_eq!(told(RouteNetlinkMessage::NewLink(message)), None);
}

fn address_message(addr: &str, len: u8) -> AddressMessage {
    let addr: IpAddr = addr.parse().unwrap();
    let mut message = AddressMessage::default();
    message.header.index = 7;
    message.header.prefix_len = len;
    message.header.family = match addr {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes = vec![AddressAttribute::Address(addr)];
    message
}

#[test]
fn addresses_of_both_families_are_read() {
    for (addr, len, subnet) in [
        ("10.0.0.7", 24, "10.0.0.0"),
        ("2001:db8::7", 64, "2001:db8::"),
    ] {
        let fact = told(RouteNetlinkMessage::NewAddress(address_message(addr, len)));
        let address = Address {
            ifindex: 7,
            addr: addr.parse().unwrap(),
            subnet: Subnet::new(subnet.parse().unwrap(), len).unwrap(),
        };
        assert_eq!(fact, Some(Fact::Address(address)));
    }
}

#[test]
fn a_point_to_point_address_is_the_local_one_and_its_subnet_the_peers() {
    let mut message = address_message("192.0.2.9", 32);
    let local = "10.0.0.1".parse().unwrap();
    message.attributes.push(AddressAttribute::Local(local));
    let fact = told(RouteNetlinkMessage::DelAddress(message));
    let Some(Fact::AddressGone(address)) = fact else {
        panic!("an address that went: {fact:?}");
    };
    assert_eq!(address.addr, local);
    assert_eq!(address.subnet.to_string(), "192.0.2.9/32");
}

#[test]
fn an_address_that_another_node_has_is_none_of_ours() {
    let mut message = address_message("2001:db8::7", 64);
    message
        .attributes
        .push(AddressAttribute::Flags(AddressFlags::Dadfailed));
    assert_eq!(told(RouteNetlinkMessage::NewAddress(message)), None);
}

fn neighbour_message(state: OracleState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = 7;
    message.header.state = state;
    message.attributes = vec![
        NeighbourAttribute::Destination(Ipv4Addr::new(10, 0, 0, 2).into()),
        NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 2]),
    ];
    message
}

#[test]
fn every_neighbour_state_is_read() {
    for (state, expected) in [
        (OracleState::None, NeighbourState::None),
        (OracleState::Incomplete, NeighbourState::Incomplete),
        (OracleState::Reachable, NeighbourState::Reachable),
        (OracleState::Stale, NeighbourState::Stale),
        (OracleState::Delay, NeighbourState::Delay),
        (OracleState::Probe, NeighbourState::Probe),
        (OracleState::Failed, NeighbourState::Failed),
        (OracleState::Noarp, NeighbourState::NoArp),
        (OracleState::Permanent, NeighbourState::Permanent),
    ] {
        let fact = told(RouteNetlinkMessage::NewNeighbour(neighbour_message(state)));
        let Some(Fact::Neighbour(neighbour)) = fact else {
            panic!("a neighbour: {fact:?}");
        };
        assert_eq!(neighbour.state, expected);
        assert_eq!(neighbour.mac, Some(MacAddr([2, 0, 0, 0, 0, 2])));
    }
    let fact = told(RouteNetlinkMessage::DelNeighbour(neighbour_message(
        OracleState::Failed,
    )));
    let addr = Ipv4Addr::new(10, 0, 0, 2).into();
    assert_eq!(fact, Some(Fact::NeighbourGone { ifindex: 7, addr }));
}

#[test]
fn proxies_bridge_entries_and_multicast_are_no_neighbours() {
    let mut proxy = neighbour_message(OracleState::Permanent);
    proxy.header.flags = NeighbourFlags::Proxy;
    let mut bridge = neighbour_message(OracleState::Reachable);
    bridge.header.family = AddressFamily::Bridge;
    let mut multicast = neighbour_message(OracleState::Noarp);
    multicast.attributes[0] = NeighbourAttribute::Destination(Ipv4Addr::new(224, 0, 0, 5).into());
    for message in [proxy, bridge, multicast] {
        assert_eq!(told(RouteNetlinkMessage::NewNeighbour(message)), None);
    }
}

#[test]
fn requests_are_what_another_codec_reads() {
    let (flags, message) = decoded(&dump_links(1));
    assert_eq!(flags, 0x301);
    let RouteNetlinkMessage::GetLink(message) = message else {
        panic!("{message:?}");
    };
    assert_eq!(
        message.attributes,
        [LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])]
    );

    let (flags, message) = decoded(&query_link(2, 7));
    assert_eq!(flags, 1);
    let RouteNetlinkMessage::GetLink(message) = message else {
        panic!("{message:?}");
    };
    assert_eq!(message.header.index, 7);

    assert!(matches!(
        decoded(&dump_addresses(3)),
        (0x301, RouteNetlinkMessage::GetAddress(_))
    ));
    assert!(matches!(
        decoded(&dump_neighbours(4)),
        (0x301, RouteNetlinkMessage::GetNeighbour(_))
    ));

    let addr: Ipv6Addr = "fe80::2".parse().unwrap();
    let (flags, message) = decoded(&tend_neighbour(5, 7, addr.into(), Care::Managed));
    assert_eq!(flags, 0x505, "request, acknowledge, create, replace");
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        panic!("{message:?}");
    };
    assert_eq!(message.header.ifindex, 7);
    assert_eq!(message.header.state, OracleState::None);
    assert_eq!(
        message.attributes,
        [
            NeighbourAttribute::Destination(addr.into()),
            NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
        ]
    );
    // Neither may make a neighbour that is gone, nor keep the flag.
    let (flags, message) = decoded(&tend_neighbour(5, 7, addr.into(), Care::Released));
    assert_eq!(flags, 0x105, "request, acknowledge, replace");
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        panic!("{message:?}");
    };
    assert_eq!(message.header.flags, NeighbourFlags::Use);
    assert_eq!(
        message.attributes,
        [NeighbourAttribute::Destination(addr.into())]
    );
}

#[test]
fn a_message_cut_anywhere_is_refused_or_tells_less_but_never_panics() {
    let whole = encoded(RouteNetlinkMessage::NewLink(link_message()));
    let body = &whole[16..];
    for len in 0..body.len() {
        let message = Message {
            kind: RTM_NEWLINK,
            flags: 0,
            sequence: 0,
            body: &body[..len],
        };
        if len < 16 {
            assert_eq!(
                fact(&message),
                Err(Malformed::Size("struct ifinfomsg")),
                "{len}"
            );
        } else {
            let _ = fact(&message);
        }
    }
}

#[test]
fn wrong_sizes_are_named() {
    let mut body = vec![AF_INET, 24, 0, 0, 7, 0, 0, 0];
    body.extend([7, 0, 1, 0, 10, 0, 0, 0]);
    fn read(body: &[u8]) -> Result<Option<Fact>, Malformed> {
        fact(&Message {
            kind: RTM_NEWADDR,
            flags: 0,
            sequence: 0,
            body,
        })
    }
    assert_eq!(read(&body), Err(Malformed::Size("IFA_ADDRESS")));
    body[1] = 33;
    body[8] = 8;
    assert_eq!(
        read(&body),
        Err(Malformed::Size("the prefix length of an address"))
    );
    assert_eq!(read(&body[..8]), Err(Malformed::Missing("IFA_ADDRESS")));
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(
        kind in 16..32_u16,
        family in proptest::sample::select(vec![0_u8, 2, 7, 10]),
        mut body in proptest::collection::vec(any::<u8>(), 1..128),
    ) {
        body[0] = family;
        let message = Message { kind, flags: 0, sequence: 0, body: &body };
        let _ = fact(&message);
    }

    /// Random bytes seldom hold attributes that are whole; these do.
    #[test]
    fn no_attributes_make_it_panic(
        kind in 16..32_u16,
        family in proptest::sample::select(vec![0_u8, 2, 10]),
        fixed in proptest::sample::select(vec![8_usize, 12, 16]),
        items in proptest::collection::vec((0..40_u16, proptest::collection::vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let mut head = vec![1; fixed];
        head[0] = family;
        let mut builder = Builder::new(kind, 0, 0, &head);
        for (kind, value) in &items {
            builder = builder.attribute(*kind, value);
        }
        let bytes = builder.finish();
        for message in messages(&bytes) {
            let _ = fact(&message.unwrap());
        }
    }
}
