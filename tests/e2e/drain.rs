//! A drained gateway of a fleet hands its clients over: the next one shakes hands with them as soon as they come.

use std::{net::SocketAddr, thread, time::Duration};

use serde_json::Value;
use tacit_messages::clock::Instant;
use tacit_tests::{
    Client, Gateway, Implementation, RawClient,
    clock::{elapsed, wait_until},
    lab::{PORT, TARGET_V4},
    noise,
    ping::Ping,
    raw_client::bind,
    target::ECHO_PORT,
};

use crate::fleet::{EMAIL, Fleet, add_device, readiness};

/// What a stream may lose when its client moves. Without a hand-over it is the 15 seconds after which a client tries
/// again.
const GAP: Duration = Duration::from_secs(1);

/// How long a gateway may take to send what is asked for by a packet.
const SOON: Duration = Duration::from_secs(1);

/// Between two pings, and how many there are.
const INTERVAL: Duration = Duration::from_millis(50);
const PINGS: usize = 160;

/// Drains the first gateway, waits for what leads clients to it to notice, and leads them to the second.
fn move_clients(fleet: &Fleet, gateways: &[Gateway<'_>]) {
    gateways[1].text(&["gateway", "drain", "gateway-0"]);
    let limit = Duration::from_secs(3);
    wait_until("its readiness to go", limit, || readiness(&fleet.hosts[0]) == "503");
    fleet.lead_to(1);
}

/// A client without an interface that is connected to the first gateway.
fn connected(fleet: &Fleet, gateways: &[Gateway<'_>]) -> RawClient {
    gateways[0].add_account(EMAIL);
    fleet.lead_to(0);
    RawClient::connected(&fleet.lab.clients[0], &add_device(&gateways[0], 0))
}

/// A keepalive with another receiver index than it should have.
fn with_index(mut message: Vec<u8>, index: u32) -> Vec<u8> {
    message[4..8].copy_from_slice(&index.to_le_bytes());
    message
}

#[test]
fn streams_of_a_drained_gateways_clients_hardly_pause_when_they_are_led_to_another() {
    let fleet = Fleet::new(2);
    fleet.lead_to(0);
    let gateways = fleet.gateways();
    gateways[0].add_account(EMAIL);
    let clients: Vec<Client<'_>> = Implementation::ALL
        .into_iter()
        .zip(&fleet.lab.clients)
        .enumerate()
        .map(|(number, (implementation, namespace))| {
            Client::up(namespace, implementation, &add_device(&gateways[0], number))
        })
        .collect();
    let pings: Vec<Ping> = thread::scope(|scope| {
        let ping = |client: &Client<'_>| {
            let interval = INTERVAL.as_secs_f32().to_string();
            Ping::run(client.namespace, TARGET_V4.into(), PINGS, &interval, &[])
        };
        let pings: Vec<_> =
            clients.iter().map(|client| scope.spawn(move || ping(client))).collect();
        gateways[0].wait_for_live(clients.len() as u64);
        move_clients(&fleet, &gateways);
        pings.into_iter().map(|ping| ping.join().unwrap()).collect()
    });
    for (ping, client) in pings.iter().zip(&clients) {
        let gap = INTERVAL * u32::try_from(ping.longest_gap()).unwrap();
        println!("{:?}: a pause of {gap:?}", client.implementation());
        assert!(gap < GAP, "{:?}: {gap:?}\n{}", client.implementation(), ping.text);
    }
    gateways[1].wait_for_live(clients.len() as u64);
    let sessions = gateways[1].sessions(EMAIL);
    let is_open = |session: &&Value| session["ended_at"].is_null();
    assert_eq!(sessions.len(), 2 * clients.len(), "one session at each gateway");
    // At the first one they end with their last packets, once three minutes are over.
    assert_eq!(sessions.iter().filter(is_open).count(), sessions.len());
}

#[test]
fn client_that_only_sends_is_met_with_a_handshake_and_nobody_else_is() {
    let fleet = Fleet::new(2);
    let gateways = fleet.gateways();
    let mut client = connected(&fleet, &gateways);
    let message = client.session().seal(&[]);
    let index = client.session().remote_index;
    move_clients(&fleet, &gateways);
    thread::sleep(SOON);

    let stranger = bind(&fleet.lab.clients[1], "0.0.0.0:0".parse().unwrap());
    stranger.set_read_timeout(Some(SOON)).unwrap();
    let next = SocketAddr::from(([198, 18, 1, 2], PORT));
    for other in [index ^ 1, index.swap_bytes(), 0, u32::MAX] {
        stranger.send_to(&with_index(message.clone(), other), next).unwrap();
    }
    assert!(stranger.recv_from(&mut [0; 2000]).is_err(), "a stranger was answered");

    let came_at = Instant::now();
    client.send_raw(&message);
    client.send_raw(&message);
    assert!(client.answer_initiation(SOON), "there was no handshake");
    assert!(elapsed(came_at) < SOON);
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"both ways"));
    client.send_raw(&message);
    assert!(client.receive_kind(noise::INITIATION, SOON).is_none(), "there was another one");
    gateways[1].wait_for_live(1);
}

#[test]
fn client_that_shook_hands_again_since_the_gateway_was_drained_is_known_by_its_new_number() {
    let fleet = Fleet::new(2);
    let gateways = fleet.gateways();
    let mut client = connected(&fleet, &gateways);
    gateways[1].text(&["gateway", "drain", "gateway-0"]);
    thread::sleep(2 * SOON);
    client.handshake();
    // A device is told of once in ten seconds.
    thread::sleep(Duration::from_secs(11));
    fleet.lead_to(1);
    client.send_packet(&[]);
    assert!(client.answer_initiation(SOON), "there was no handshake");
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"both ways"));
}

#[test]
fn device_that_was_removed_or_of_a_gateway_that_is_not_drained_any_more_is_not_expected() {
    let fleet = Fleet::new(2);
    let gateways = fleet.gateways();
    let mut client = connected(&fleet, &gateways);
    gateways[0].text(&["gateway", "drain", "gateway-0"]);
    thread::sleep(2 * SOON);
    gateways[0].text(&["gateway", "resume", "gateway-0"]);
    // What was said before holds for ten seconds.
    thread::sleep(Duration::from_secs(11));
    let mut late = RawClient::connected(&fleet.lab.clients[1], &add_device(&gateways[0], 1));
    thread::sleep(SOON);
    let messages = [client.session().seal(&[]), late.session().seal(&[])];
    gateways[1].text(&["device", "remove", EMAIL, "device-0"]);
    fleet.lead_to(1);
    for (client, message) in [client, late].iter().zip(messages) {
        client.send_raw(&message);
        assert!(client.receive_kind(noise::INITIATION, 2 * SOON).is_none());
    }
}
