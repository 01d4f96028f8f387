//! After restarts and crashes clients come back by themselves and rows stay true.

use std::time::Duration;

use tacit_messages::{UnixSeconds, clock::Instant};
use tacit_tests::{
    Client, Gateway, Implementation, Lab,
    clock::{elapsed, wait_for, wait_until},
    lab::TARGET_V4,
    transfer::{Direction, Transfer, connects, transfer},
};

use crate::times::{assert_between, seconds};

const EMAIL: &str = "someone@example.org";
/// A client may wait KEEPALIVE_TIMEOUT + REKEY_TIMEOUT = 15 s before it shakes hands anew.
const RETURN: Duration = Duration::from_secs(20);

/// A client in the middle of a transfer.
fn busy_client<'lab>(
    lab: &'lab Lab,
    gateway: &Gateway<'lab>,
    implementation: Implementation,
) -> (Client<'lab>, Transfer) {
    let config = gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], implementation, &config);
    let transfer = Transfer::paced(
        client.namespace,
        Direction::Down,
        TARGET_V4.into(),
        1,
        1 << 40,
        10_000_000,
    );
    transfer.wait_for_more(10_000_000, Duration::from_secs(20));
    (client, transfer)
}

/// Waits until the client gets through again, untouched.
fn assert_returns(client: &Client<'_>, since: Instant) {
    let back = wait_for(RETURN, || connects(client.namespace, TARGET_V4.into()).then_some(()));
    assert!(back.is_some(), "the client is not back after {:?}", elapsed(since));
    transfer(client.namespace, Direction::Up, TARGET_V4.into(), 3, 1_000_000).unwrap();
}

/// Asserts that the first session's row is closed soon, at a time between two. Changes are written in groups.
fn assert_closed(gateway: &Gateway<'_>, from: UnixSeconds, to: UnixSeconds) {
    let ended = wait_for(Duration::from_secs(2), || {
        let mut sessions = gateway.sessions(EMAIL);
        sessions.sort_by_key(|session| seconds(&session["began_at"]));
        let ended = sessions[0]["ended_at"].clone();
        ended.is_string().then_some(ended)
    });
    assert_between(&ended.expect("the session is still open"), from, to);
}

fn survives_gateway_restart(implementation: Implementation) {
    let lab = Lab::new(1);
    let mut gateway = Gateway::start(&lab);
    let (client, _transfer) = busy_client(&lab, &gateway, implementation);

    let stopped = UnixSeconds::now();
    gateway.stop();
    gateway.run();
    let since = Instant::now();

    assert_closed(&gateway, UnixSeconds(stopped.0 - 1), UnixSeconds(stopped.0 + 1));
    assert_returns(&client, since);
    gateway.wait_for_sessions(EMAIL, 2);
}

#[test]
fn wireguard_go_returns_after_gateway_restart() {
    survives_gateway_restart(Implementation::WireguardGo);
}

#[test]
fn boringtun_returns_after_gateway_restart() {
    survives_gateway_restart(Implementation::Boringtun);
}

#[test]
fn gotatun_returns_after_gateway_restart() {
    survives_gateway_restart(Implementation::Gotatun);
}

#[test]
fn clients_return_after_the_forwarder_is_killed() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let (client, _transfer) = busy_client(&lab, &gateway, Implementation::WireguardGo);
    let forwarder = gateway.forwarder();

    let killed = UnixSeconds::now();
    gateway.kill_forwarder();
    let since = Instant::now();
    wait_until("a new forwarder", Duration::from_secs(5), || {
        let status = gateway.json(&["status"]);
        let pid = status["forwarder"]["pid"].as_u64();
        pid.is_some_and(|pid| pid != forwarder) && status["forwarder"]["restarts"] == 1
    });

    assert_closed(&gateway, UnixSeconds(killed.0 - 2), UnixSeconds(killed.0 + 2));
    assert_returns(&client, since);
    gateway.wait_for_sessions(EMAIL, 2);
}

#[test]
fn clients_return_after_control_is_killed_and_started_again() {
    let lab = Lab::new(1);
    let mut gateway = Gateway::start(&lab);
    let (client, _transfer) = busy_client(&lab, &gateway, Implementation::WireguardGo);
    let began = seconds(&gateway.sessions(EMAIL)[0]["began_at"]);

    let killed = UnixSeconds::now();
    gateway.kill();
    wait_until("the forwarder to follow control", Duration::from_secs(3), || {
        !lab.gateway.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").contains("forwarder")
    });
    gateway.run();
    let since = Instant::now();

    assert_closed(&gateway, UnixSeconds(began), killed);
    assert_returns(&client, since);
    gateway.wait_for_sessions(EMAIL, 2);
}
