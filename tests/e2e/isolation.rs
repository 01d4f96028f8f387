//! What a client may not reach, and that nobody writes down that it tried.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use tacit_messages::DropReason;
use tacit_tests::{
    Gateway, Lab, RawClient,
    lab::{GATEWAY_V4, GATEWAY_V6, PRIVATE, TARGET_V4, TARGET_V6, client_v4},
    packet::Datagram,
    raw_client::bind,
    target::ECHO_PORT,
};

const EMAIL: &str = "someone@example.org";

struct Pair<'lab> {
    gateway: Gateway<'lab>,
    one: RawClient,
    other: RawClient,
}

/// Two devices with live sessions.
fn pair<'lab>(lab: &'lab Lab, extra: &[&str]) -> Pair<'lab> {
    let gateway = Gateway::start_with(lab, extra);
    let mut one = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    let mut other = RawClient::new(&lab.clients[1], &gateway.add_device(EMAIL, "phone"));
    for client in [&mut one, &mut other] {
        client.handshake();
        assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
    }
    Pair { gateway, one, other }
}

/// Sends a datagram to each address and returns how many packets were dropped for `reason`.
fn dropped_on_the_way(pair: &mut Pair<'_>, destinations: &[IpAddr], reason: DropReason) -> u64 {
    let before = pair.gateway.dropped(reason);
    for ip in destinations {
        let datagram = pair.one.datagram(4001, SocketAddr::new(*ip, ECHO_PORT), b"knock");
        pair.one.send_packet(&datagram.packet());
    }
    thread::sleep(Duration::from_secs(3));
    pair.gateway.dropped(reason) - before
}

/// Asserts that no address or name of those involved stands in the log.
fn assert_nothing_logged(pair: &Pair<'_>, more: &[IpAddr]) {
    let log = pair.gateway.log();
    let clients = [&pair.one, &pair.other];
    let mut addresses: Vec<IpAddr> = vec![TARGET_V4.into(), TARGET_V6.into()];
    addresses.extend(clients.iter().map(|client| IpAddr::from(client.config.tunnel_v4)));
    addresses.extend(clients.iter().map(|client| IpAddr::from(client.config.tunnel_v6)));
    addresses.extend([0, 1].map(|client| IpAddr::from(client_v4(client, 2))));
    for address in addresses.iter().chain(more) {
        assert!(!contains_word(&log, &address.to_string()), "the log has {address}:\n{log}");
    }
    assert!(!log.contains(EMAIL) && !log.contains("example.org"), "the log has an e-mail address");
}

/// Whether `address` stands in `text` by itself, not as a part of a longer one.
fn contains_word(text: &str, address: &str) -> bool {
    let part = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
    text.match_indices(address).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part);
        let after =
            text[at + address.len()..].chars().next().is_some_and(|c| c.is_ascii_hexdigit());
        !before && !after
    })
}

#[test]
fn spoofed_sources_are_dropped_and_counted() {
    let lab = Lab::new(2);
    let mut pair = pair(&lab, &[]);
    let sources: [IpAddr; 5] = [
        pair.other.config.tunnel_v4.into(),
        pair.other.config.tunnel_v6.into(),
        "203.0.113.200".parse().unwrap(),
        "2001:db8:bad::1".parse().unwrap(),
        "10.66.0.1".parse().unwrap(),
    ];
    let before = (lab.target.echoed(), pair.gateway.dropped(DropReason::SourceNotAllowed));
    for source in sources {
        let to: IpAddr = if source.is_ipv4() { TARGET_V4.into() } else { TARGET_V6.into() };
        let from = SocketAddr::new(source, 4000);
        let to = SocketAddr::new(to, ECHO_PORT);
        pair.one.send_packet(&Datagram { from, to, payload: b"spoofed".to_vec() }.packet());
    }
    thread::sleep(Duration::from_secs(3));

    assert_eq!(lab.target.echoed(), before.0, "a spoofed packet got out");
    assert_eq!(pair.gateway.dropped(DropReason::SourceNotAllowed) - before.1, 5);
    assert!(pair.other.receive(Duration::from_millis(100)).is_none());
    assert_nothing_logged(&pair, &sources);
}

#[test]
fn other_devices_cannot_be_reached() {
    let lab = Lab::new(2);
    let mut pair = pair(&lab, &[]);
    let others = [pair.other.config.tunnel_v4.into(), pair.other.config.tunnel_v6.into()];
    let dropped = dropped_on_the_way(&mut pair, &others, DropReason::DestinationDevice);
    assert_eq!(dropped, 2);
    assert!(pair.other.receive(Duration::from_millis(100)).is_none(), "a packet got across");
    assert_nothing_logged(&pair, &[]);
}

#[test]
fn other_devices_can_be_reached_if_the_operator_allows_it() {
    let lab = Lab::new(2);
    let mut pair = pair(&lab, &["--allow-device-to-device"]);
    for ip in [IpAddr::from(pair.other.config.tunnel_v4), pair.other.config.tunnel_v6.into()] {
        let datagram = pair.one.datagram(4001, SocketAddr::new(ip, 4002), b"hello neighbour");
        pair.one.send_packet(&datagram.packet());
        assert_eq!(pair.other.receive(Duration::from_secs(2)), Some(datagram));
    }
}

#[test]
fn gateway_itself_cannot_be_reached() {
    let lab = Lab::new(2);
    let mut pair = pair(&lab, &[]);
    let tunnel = ["10.66.0.1".parse().unwrap(), "fd66:7ac1:7::1".parse().unwrap()];
    let dropped = dropped_on_the_way(&mut pair, &tunnel, DropReason::DestinationGateway);
    assert_eq!(dropped, 2);
    assert_nothing_logged(&pair, &tunnel);

    let ports =
        [SocketAddr::new(GATEWAY_V4.into(), 4003), SocketAddr::new(GATEWAY_V6.into(), 4003)];
    for address in ports {
        let server = bind(&lab.gateway, address);
        server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let datagram = pair.one.datagram(4001, address, b"knock");
        pair.one.send_packet(&datagram.packet());
        assert!(
            server.recv_from(&mut [0; 100]).is_err(),
            "a client reaches the gateway at {address}"
        );
    }
}

#[test]
fn private_ranges_cannot_be_reached() {
    let lab = Lab::new(2);
    let mut pair = pair(&lab, &[]);
    let mut destinations = PRIVATE.to_vec();
    let more =
        ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "::1", "fe80::1", "ff02::1"];
    destinations.extend(more.map(|ip| ip.parse::<IpAddr>().unwrap()));
    let dropped = dropped_on_the_way(&mut pair, &destinations, DropReason::DestinationPrivate);
    assert_eq!(lab.target.trapped(), 0, "a private address behind the gateway was reached");
    assert_eq!(dropped, destinations.len() as u64);
    assert_nothing_logged(&pair, &PRIVATE);
}

#[test]
fn allowed_private_range_can_be_reached() {
    let lab = Lab::new(2);
    let mut pair = pair(&lab, &["--allow-private", "10.99.0.0/24"]);
    let dropped = dropped_on_the_way(&mut pair, &PRIVATE, DropReason::DestinationPrivate);
    assert_eq!((lab.target.trapped(), dropped), (1, PRIVATE.len() as u64 - 1));
}
