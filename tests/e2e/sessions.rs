//! What is recorded: one true row per session, and nothing for what is not one.

use std::{thread, time::Duration};

use tacit_messages::{DropReason, UnixSeconds};
use tacit_tests::{
    Client, Gateway, Implementation, Lab, RawClient,
    config::Config,
    lab::{GATEWAY_V6, PORT, TARGET_V4, TARGET_V6, client_v4, client_v6},
    raw_client::bind,
    target::ECHO_PORT,
    transfer::{Direction, Transfer},
};

use crate::{
    memory::{Traces, tracked},
    store,
    times::{assert_between, seconds},
};

/// All that there is of a session.
const COLUMNS: [&str; 7] =
    ["id", "account_id", "device_id", "connecting_ip", "began_at", "ended_at", "gateway_id"];

const EMAIL: &str = "someone@example.org";

#[test]
fn session_row_holds_only_account_times_and_ip() {
    let lab = Lab::new(1);
    let mut gateway = Gateway::start(&lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));

    let start = UnixSeconds::now();
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
    let sessions = gateway.wait_for_sessions(EMAIL, 1);
    assert_eq!(sessions[0]["connecting_ip"], client_v4(0, 2).to_string());
    assert_eq!(sessions[0]["device"], "laptop");
    assert!(sessions[0]["ended_at"].is_null());
    assert_between(&sessions[0]["began_at"], start, UnixSeconds::now());

    thread::sleep(Duration::from_secs(2));
    assert!(client.echo((TARGET_V6, ECHO_PORT).into(), b"and bye"));
    let last_packet = UnixSeconds::now();
    thread::sleep(Duration::from_secs(4));
    gateway.stop();
    gateway.run();

    let sessions = gateway.wait_for_sessions(EMAIL, 1);
    assert_between(&sessions[0]["ended_at"], last_packet, last_packet);
    let columns = store::columns(&gateway.store(), "sessions");
    assert_eq!(columns, COLUMNS);
    assert_eq!(store::rows(&gateway.store(), "sessions"), 1);
}

#[test]
fn client_may_connect_over_ipv6() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let socket = bind(&lab.clients[0], "[::]:0".parse().unwrap());
    let mut client = RawClient::on(socket, &gateway.customer(EMAIL));
    client.gateway = (GATEWAY_V6, PORT).into();
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"four in six"));
    assert!(client.echo((TARGET_V6, ECHO_PORT).into(), &[6; 1300]));
    let sessions = gateway.wait_for_sessions(EMAIL, 1);
    assert_eq!(sessions[0]["connecting_ip"], client_v6(0, 2).to_string());
}

#[test]
fn silent_session_ends_at_its_last_packet() {
    let lab = Lab::new(1);
    // By themselves the kernel's entries would be gone sooner.
    lab.gateway.sh(
        "for of in timeout timeout_stream; do echo 900 > /proc/sys/net/netfilter/nf_conntrack_udp_$of; done",
    );
    let gateway = Gateway::start(&lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    client.handshake();
    let traces = Traces::of(&mut client, client_v4(0, 2).into());
    traces.assert_found(&lab, &gateway, &mut client);
    let last_packet = UnixSeconds::now();
    let source = format!("src={} ", client.config.tunnel_v4);

    thread::sleep(Duration::from_secs(170));
    let open = gateway.wait_for_sessions(EMAIL, 1);
    assert!(tracked(&lab).contains(&source), "the kernel does not track its connections");
    thread::sleep(Duration::from_secs(20));
    let ended = gateway.wait_for_sessions(EMAIL, 1);

    assert!(open[0]["ended_at"].is_null(), "{open:?}");
    assert_between(&ended[0]["ended_at"], last_packet, last_packet);
    assert_eq!(gateway.json(&["status"])["sessions"], 0);
    let left = traces.found(&lab, &gateway);
    assert!(left.is_empty(), "the forwarder still has {left:?}");
    assert!(!tracked(&lab).contains(&source), "the kernel still tracks its connections");
}

#[test]
fn rekey_writes_nothing() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    for _ in 0..4 {
        client.handshake();
        assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
        thread::sleep(Duration::from_secs(1));
    }
    let sessions = gateway.wait_for_sessions(EMAIL, 1);
    assert!(sessions[0]["ended_at"].is_null());
}

#[test]
fn moving_to_another_address_makes_two_rows_and_the_transfer_goes_on() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    // Debian's wireguard-go goes on sending from the address that it lost until its next handshake.
    let client = Client::up(&lab.clients[0], Implementation::Gotatun, &config);
    let down = Transfer::paced(
        client.namespace,
        Direction::Down,
        TARGET_V4.into(),
        1,
        30_000_000,
        3_000_000,
    );
    let up = Transfer::paced(
        client.namespace,
        Direction::Up,
        TARGET_V6.into(),
        2,
        30_000_000,
        3_000_000,
    );
    down.wait_for_more(6_000_000, Duration::from_secs(20));

    let moved = UnixSeconds::now();
    let new = lab.move_client(0, 9);

    down.finish().unwrap();
    up.finish().unwrap();
    let sessions = gateway.wait_for_sessions(EMAIL, 2);
    let find = |ip: String| sessions.iter().find(|session| session["connecting_ip"] == ip);
    let first = find(client_v4(0, 2).to_string()).expect("a session from the first address");
    let second = find(new.to_string()).expect("a session from the second address");
    assert_between(&first["ended_at"], moved, UnixSeconds(moved.0 + 3));
    assert!(seconds(&second["began_at"]) >= seconds(&first["ended_at"]));
    assert!(second["ended_at"].is_null());
}

#[test]
fn flapping_between_addresses_writes_at_most_one_row_in_ten_seconds() {
    let lab = Lab::new(1);
    lab.clients[0].sh("ip addr add 192.0.2.9/28 dev wan");
    let gateway = Gateway::start(&lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    let other = bind(&lab.clients[0], "192.0.2.9:0".parse().unwrap());
    client.handshake();
    for _ in 0..50 {
        let message = client.session().seal(&[]);
        client.send_raw(&message);
        let message = client.session().seal(&[]);
        let _ = other.send_to(&message, client.gateway);
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_secs(1));
    let sessions = gateway.sessions(EMAIL);
    assert!(sessions.len() <= 2, "{} rows in 5 seconds of flapping", sessions.len());
}

#[test]
fn replayed_initiation_writes_no_row() {
    let lab = Lab::new(2);
    let mut gateway = Gateway::start(&lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    let initiation = client.handshake().message;
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
    gateway.wait_for_sessions(EMAIL, 1);
    let attacker = bind(&lab.clients[1], "0.0.0.0:0".parse().unwrap());
    let replay = || {
        for _ in 0..5 {
            attacker.send_to(&initiation, client.gateway).unwrap();
            thread::sleep(Duration::from_millis(100));
        }
        thread::sleep(Duration::from_secs(2));
    };

    replay();
    assert_eq!(gateway.sessions(EMAIL).len(), 1);
    assert!(gateway.dropped(DropReason::HandshakeRejected) >= 1, "the replay was not refused");

    // A gateway that has just started knows no timestamp to compare with.
    gateway.stop();
    gateway.run();
    replay();
    assert_eq!(gateway.sessions(EMAIL).len(), 1);
}

#[test]
fn unknown_key_gets_no_answer_and_no_row() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let known = gateway.customer(EMAIL);
    let stranger = Config { private_key: [77; 32], ..known };
    let mut client = RawClient::new(&lab.clients[0], &stranger);
    assert!(client.try_handshake(2, Duration::from_millis(1500)).is_none());
    thread::sleep(Duration::from_secs(1));
    assert!(gateway.dropped(DropReason::UnknownKey) >= 1);
    assert_eq!(store::rows(&gateway.store(), "sessions"), 0);
}

#[test]
fn unconfirmed_handshake_writes_no_row() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    client.handshake_unconfirmed();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(store::rows(&gateway.store(), "sessions"), 0);
    client.send_packet(&[]);
    gateway.wait_for_sessions(EMAIL, 1);
}
