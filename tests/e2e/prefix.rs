//! The tunnel's IPv6 network may be a prefix that is routed to the gateway.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use tacit_tests::{
    Client, Gateway, Implementation, Lab, RawClient,
    clock::{wait_for, wait_until},
    lab::{GATEWAY_V6, TARGET_V4, TARGET_V6},
    raw_client::bind,
    transfer::{Direction, transfer},
};

const EMAIL: &str = "someone@example.org";
const PREFIX: &str = "2001:db8:7::/64";
const PORT: u16 = 7_007;
const SOON: Duration = Duration::from_secs(1);
/// How long what must happen may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// A lab whose target routes the prefix to the gateway, and somebody who listens there.
fn lab() -> (Lab, UdpSocket) {
    let lab = Lab::new(1);
    lab.target_namespace.sh(&format!("ip -6 route add {PREFIX} via {GATEWAY_V6}"));
    let listener = bind(&lab.target_namespace, SocketAddr::from((TARGET_V6, PORT)));
    listener.set_read_timeout(Some(SOON)).unwrap();
    (lab, listener)
}

/// Whom the listener sees when the client sends it something, once the links' own addresses are theirs (RFC 4862 section 5.4).
fn seen(client: &mut RawClient, listener: &UdpSocket) -> SocketAddr {
    let packet = client.datagram(4_711, (TARGET_V6, PORT).into(), b"who am I?").packet();
    let source = wait_for(PATIENCE, || {
        client.send_packet(&packet);
        listener.recv_from(&mut [0; 100]).ok()
    });
    source.expect("nothing came").1
}

#[test]
fn device_shows_the_gateways_address_by_default_and_its_own_where_the_prefix_is_routed() {
    for (flags, is_routed) in [(&[][..], false), (&["--routed-v6"], true)] {
        let (lab, listener) = lab();
        let flags = [&["--tunnel-v6", PREFIX], flags].concat();
        let gateway = Gateway::start_with(&lab, &flags);
        let config = gateway.customer(EMAIL);
        let own = config.tunnel_v6;
        assert_eq!(own.segments()[..4], [0x2001, 0xdb8, 7, 0]);
        let mut client = RawClient::connected(&lab.clients[0], &config);
        let source = seen(&mut client, &listener);
        let expected: Ipv6Addr = if is_routed { own } else { GATEWAY_V6 };
        assert_eq!(source.ip(), IpAddr::from(expected));
        listener.send_to(b"somebody", source).unwrap();
        assert_eq!(client.receive(PATIENCE).expect("no answer came").payload, b"somebody");

        listener.send_to(b"uninvited", (own, 4_712)).unwrap();
        assert!(client.receive(SOON).is_none(), "somebody outside reached a device");
    }
}

#[test]
fn streams_go_both_ways_where_the_prefix_is_routed_and_nothing_of_them_is_tracked_afterwards() {
    let (lab, _) = lab();
    let gateway = Gateway::start_with(&lab, &["--tunnel-v6", PREFIX, "--routed-v6"]);
    let config = gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    for target in [TARGET_V6.into(), TARGET_V4.into()] {
        for direction in [Direction::Up, Direction::Down] {
            transfer(client.namespace, direction, target, 2, 4_000_000).unwrap();
        }
    }
    // As the kernel writes it.
    let own = config.tunnel_v6.segments().map(|word| format!("{word:04x}")).join(":");
    let is_tracked = || lab.gateway.sh("cat /proc/net/nf_conntrack").contains(&own);
    assert!(is_tracked(), "the search does not find {own}");
    gateway.text(&["device", "remove", EMAIL, "laptop"]);
    wait_until("the kernel to forget", PATIENCE, || !is_tracked());
}
