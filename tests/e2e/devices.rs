//! Removing and rotating devices takes effect at once.

use std::{thread, time::Duration};

use tacit_tests::{
    Client, Gateway, Implementation, Lab, RawClient,
    config::Config,
    lab::TARGET_V4,
    target::ECHO_PORT,
    transfer::{Direction, Transfer, connects},
};

const EMAIL: &str = "someone@example.org";

#[test]
fn removing_a_device_stops_its_transfer_within_two_seconds() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    let transfer = Transfer::paced(
        client.namespace,
        Direction::Down,
        TARGET_V4.into(),
        1,
        1 << 40,
        20_000_000,
    );
    transfer.wait_for_more(20_000_000, Duration::from_secs(20));

    gateway.text(&["device", "remove", EMAIL, "laptop"]);
    thread::sleep(Duration::from_secs(2));
    let stopped_at = transfer.progress();
    thread::sleep(Duration::from_secs(3));

    assert_eq!(transfer.progress(), stopped_at, "the transfer goes on");
    assert!(!connects(client.namespace, TARGET_V4.into()));
    let sessions = gateway.wait_for_sessions(EMAIL, 1);
    assert!(!sessions[0]["ended_at"].is_null(), "the session of a removed device is still open");
    assert_eq!(gateway.json(&["device", "list", EMAIL]).as_array().unwrap().len(), 0);
}

#[test]
fn rotating_a_device_kills_the_old_key() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let old = gateway.customer(EMAIL);
    let mut client = RawClient::new(&lab.clients[0], &old);
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));

    let new = Config::parse(&gateway.text(&["device", "rotate", EMAIL, "laptop"]));

    assert_ne!(new.private_key, old.private_key);
    assert_ne!(new.preshared_key, old.preshared_key);
    assert_eq!((new.tunnel_v4, new.tunnel_v6), (old.tunnel_v4, old.tunnel_v6));
    let before = lab.target.echoed();
    assert!(!client.echo((TARGET_V4, ECHO_PORT).into(), b"still here"), "the old session lives");
    assert_eq!(lab.target.echoed(), before, "packets of the old session still get out");
    assert!(client.try_handshake(2, Duration::from_secs(1)).is_none(), "the old key is accepted");
    let mut client = RawClient::new(&lab.clients[0], &new);
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"new"));
}

#[test]
fn a_key_made_on_the_client_connects() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    let private_key = lab.clients[0].sh("wg genkey");
    let public_key = lab.clients[0].sh(&format!("echo {} | wg pubkey", private_key.trim()));

    let arguments = ["device", "add", EMAIL, "phone", "--public-key", public_key.trim()];
    let text = gateway.text(&arguments);

    assert!(!text.lines().any(|line| line.trim_start().starts_with("PrivateKey")), "{text}");
    let text =
        text.replace("[Interface]", &format!("[Interface]\nPrivateKey = {}", private_key.trim()));
    let mut client = RawClient::new(&lab.clients[0], &Config::parse(&text));
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
}

#[test]
fn private_keys_are_printed_once_and_not_stored() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    for entry in std::fs::read_dir(gateway.data_dir()).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let found = bytes.windows(32).any(|window| window == config.private_key);
        assert!(!found, "{} holds the device's private key", entry.path().display());
    }
    let key = config.text.lines().find(|line| line.starts_with("PrivateKey")).unwrap();
    let key = key.split(" = ").nth(1).unwrap();
    assert!(!gateway.log().contains(key), "the log has the device's private key");
}
