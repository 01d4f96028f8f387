//! Real clients with the printed config, unchanged, reach the internet.

use std::{fs, net::IpAddr, time::Duration};

use tacit_tests::{
    Client, Gateway, Implementation, Lab, dns,
    lab::{DNS_V4, TARGET_V4, TARGET_V6},
    ping::Ping,
    target::SOURCE_PORT,
    transfer::{Direction, connects, echo, request_datagrams, transfer},
};

const MEGABYTE: u64 = 1_000_000;

fn brings_everything_through(implementation: Implementation) {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer("someone@example.org");
    let client = Client::up(&lab.clients[0], implementation, &config);
    let namespace = client.namespace;

    for ip in [TARGET_V4.into(), TARGET_V6.into()] {
        let ping = Ping::run(namespace, ip, 5, "0.2", &[]);
        assert!(ping.longest_gap() <= 1, "{}", ping.text);
        let ping = Ping::run(namespace, ip, 3, "0.2", &["-M", "do", "-s", "1372"]);
        assert_eq!(ping.longest_gap(), 0, "{}", ping.text);
        assert!(echo(namespace, ip, 200, 1000) >= 199, "UDP to {ip} gets lost");
        assert_eq!(echo(namespace, ip, 3, 1), 3);
        // The first large answer over IPv6 only tells its sender how small the fragments must be.
        assert!(echo(namespace, ip, 3, 4000) >= 2, "fragments to {ip} get lost");
    }
    for direction in [Direction::Down, Direction::Up] {
        transfer(namespace, direction, TARGET_V4.into(), 1, 200 * MEGABYTE).unwrap();
        transfer(namespace, direction, TARGET_V6.into(), 2, 20 * MEGABYTE).unwrap();
    }
}

#[test]
fn wireguard_go_brings_everything_through() {
    brings_everything_through(Implementation::WireguardGo);
}

#[test]
fn boringtun_brings_everything_through() {
    brings_everything_through(Implementation::Boringtun);
}

#[test]
fn gotatun_brings_everything_through() {
    brings_everything_through(Implementation::Gotatun);
}

#[test]
fn names_are_looked_up_through_the_tunnel() {
    let machine = fs::read("/etc/resolv.conf").ok();
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer("someone@example.org");
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);

    let addresses = client.namespace.sh(&format!("getent ahosts {}", dns::NAME));

    assert!(addresses.contains(&TARGET_V4.to_string()), "{addresses}");
    assert!(addresses.contains(&TARGET_V6.to_string()), "{addresses}");
    assert!(lab.target.names_asked() > 0);
    assert!(client.namespace.sh("cat /etc/resolv.conf").contains(&DNS_V4.to_string()));
    assert_eq!(fs::read("/etc/resolv.conf").ok(), machine, "the machine's own file was touched");
}

#[test]
fn packets_too_big_get_the_right_icmp() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer("someone@example.org");
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    let namespace = client.namespace;

    let ping = Ping::run(namespace, TARGET_V4.into(), 1, "0.2", &["-M", "do", "-s", "1400"]);
    assert!(ping.answered.is_empty() && ping.text.contains("mtu=1420"), "{}", ping.text);

    for ip in [IpAddr::from(TARGET_V4), TARGET_V6.into()] {
        let before = lab.target.too_big();
        let source = (ip, SOURCE_PORT).into();
        let received = request_datagrams(namespace, source, [6, 1440, 100], Duration::from_secs(1));
        assert_eq!(received, 0, "a datagram larger than the tunnel's MTU came through whole");
        assert!(
            lab.target.too_big() > before,
            "{ip} was never told that its datagrams are too big"
        );
        assert_eq!(lab.target.path_mtu(), 1420);
        let received = request_datagrams(namespace, source, [6, 1300, 10], Duration::from_secs(1));
        assert_eq!(received, 6, "datagrams that fit get lost after the ICMP error");
    }
}

#[test]
fn tcp_segments_are_clamped_for_a_client_that_thinks_its_mtu_larger() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer("someone@example.org");
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    client.namespace.sh("ip link set wg0 mtu 1500");

    for (ip, headers) in [(TARGET_V4.into(), 40), (TARGET_V6.into(), 60)] {
        transfer(client.namespace, Direction::Up, ip, 1, MEGABYTE).unwrap();
        let segment = lab.target.segment();
        assert!(
            (500..=1420 - headers).contains(&segment),
            "{ip} may send segments of {segment} bytes"
        );
        transfer(client.namespace, Direction::Up, ip, 1, MEGABYTE).unwrap();
    }
}

#[test]
fn a_client_that_went_down_comes_up_again() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer("someone@example.org");
    for implementation in Implementation::ALL {
        let client = Client::up(&lab.clients[0], implementation, &config);
        assert_eq!(echo(client.namespace, TARGET_V4.into(), 3, 100), 3);
        client.down();
        assert!(
            !connects(client.namespace, TARGET_V4.into()),
            "the target is reached without a tunnel"
        );
    }
}
