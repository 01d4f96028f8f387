//! The lab itself works: shown with wireguard-go as the gateway, so that a fault below is Tacit's.

use std::{fs, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use rand_core::{OsRng, RngCore};
use tacit_tests::{
    Client, Implementation, Lab, RawClient,
    config::Config,
    dns,
    lab::{DNS_V4, PORT, TARGET_V4, TARGET_V6, endpoint},
    ping::Ping,
    target::ECHO_PORT,
    transfer::{Direction, echo, transfer},
};
use x25519_dalek::{PublicKey, StaticSecret};

/// Makes wireguard-go with masquerading the lab's gateway and returns configs of two devices.
fn reference_gateway(lab: &Lab) -> [Config; 2] {
    let gateway_key = StaticSecret::random_from_rng(OsRng);
    let configs = [2, 3].map(|host| device(host, &PublicKey::from(&gateway_key)));
    let mut text = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n",
        STANDARD.encode(gateway_key.as_bytes())
    );
    for config in &configs {
        let public_key = PublicKey::from(&StaticSecret::from(config.private_key));
        text += &format!(
            "[Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = {}/32, {}/128\n",
            STANDARD.encode(public_key.as_bytes()),
            STANDARD.encode(config.preshared_key),
            config.tunnel_v4,
            config.tunnel_v6,
        );
    }
    fs::write(lab.gateway.path("/run/reference.conf"), text).unwrap();
    let started =
        lab.gateway.output(Command::new("sh").args(["-ec", "wireguard-go ref0 >/dev/null 2>&1"]));
    assert!(started.status.success());
    lab.gateway.sh(
        "wg setconf ref0 /run/reference.conf
         ip addr add 10.66.0.1/16 dev ref0; ip addr add fd66:7ac1:7::1/64 dev ref0 nodad
         ip link set ref0 mtu 1420 up
         echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         nft 'add table inet ref; add chain inet ref nat { type nat hook postrouting priority 100; };
              add rule inet ref nat oifname uplink masquerade'",
    );
    configs
}

fn device(host: u8, gateway: &PublicKey) -> Config {
    let private_key = StaticSecret::random_from_rng(OsRng);
    let mut preshared_key = [0; 32];
    OsRng.fill_bytes(&mut preshared_key);
    Config::parse(&format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.66.0.{host}/32, fd66:7ac1:7::{host}/128\n\
         DNS = {DNS_V4}\nMTU = 1420\n\n[Peer]\nPublicKey = {}\nPresharedKey = {}\n\
         AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {}\n",
        STANDARD.encode(private_key.as_bytes()),
        STANDARD.encode(gateway.as_bytes()),
        STANDARD.encode(preshared_key),
        endpoint(),
    ))
}

#[test]
fn real_clients_reach_the_target() {
    let lab = Lab::new(1);
    let configs = reference_gateway(&lab);
    let machine = fs::read("/etc/resolv.conf").ok();
    for implementation in Implementation::ALL {
        let client = Client::up(&lab.clients[0], implementation, &configs[0]);
        assert_eq!(Ping::run(client.namespace, TARGET_V4.into(), 3, "0.2", &[]).longest_gap(), 0);
        for direction in [Direction::Down, Direction::Up] {
            transfer(client.namespace, direction, TARGET_V6.into(), 1, 5_000_000).unwrap();
        }
        assert_eq!(echo(client.namespace, TARGET_V4.into(), 20, 1300), 20);
        assert!(
            client.namespace.sh(&format!("getent ahosts {}", dns::NAME)).contains("198.51.100.2")
        );
        client.down();
    }
    assert_eq!(fs::read("/etc/resolv.conf").ok(), machine, "the machine's resolv.conf was touched");
}

#[test]
fn raw_client_speaks_wireguard() {
    let lab = Lab::new(1);
    let configs = reference_gateway(&lab);
    let mut client = RawClient::new(&lab.clients[0], &configs[1]);
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"four"));
    assert!(client.echo((TARGET_V6, ECHO_PORT).into(), b"six"));
}
