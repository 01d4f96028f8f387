//! A hundred devices at once, and none sees a byte of another's.

use std::{thread, time::Duration};

use tacit_messages::clock::Instant;
use tacit_tests::{
    Gateway, Lab, RawClient,
    clock::elapsed,
    lab::{TARGET_V4, TARGET_V6},
    packet::Datagram,
    pattern::Pattern,
    target::ECHO_PORT,
};

const EMAIL: &str = "everybody@example.org";
const DEVICES: usize = 100;
const DATAGRAMS: u32 = 400;
const WINDOW: usize = 16;

/// What device `number` sends as its datagram `sequence`.
fn content(number: usize, sequence: u32) -> Vec<u8> {
    let mut content = Pattern::bytes((number as u64) << 16 | u64::from(sequence), 900 + number);
    content[..4].copy_from_slice(&sequence.to_be_bytes());
    content
}

/// Sends everything to the echo server until all has come back; every datagram must be this device's own.
fn move_data(number: usize, client: &mut RawClient) {
    let to = if number.is_multiple_of(2) {
        (TARGET_V4, ECHO_PORT).into()
    } else {
        (TARGET_V6, ECHO_PORT).into()
    };
    let port = 4000 + number as u16;
    let mut missing: Vec<u32> = (0..DATAGRAMS).rev().collect();
    let start = Instant::now();
    while !missing.is_empty() {
        assert!(
            elapsed(start) < Duration::from_secs(90),
            "device {number} misses {}",
            missing.len()
        );
        let window = missing.iter().rev().take(WINDOW).copied().collect::<Vec<_>>();
        for sequence in &window {
            let datagram = client.datagram(port, to, &content(number, *sequence));
            client.send_packet(&datagram.packet());
        }
        for _ in &window {
            let Some(answer) = client.receive(Duration::from_millis(500)) else { break };
            let sequence = check(number, client, &answer, port);
            missing.retain(|missing| *missing != sequence);
        }
    }
}

/// Asserts that a datagram is one of this device's own and returns its number.
fn check(number: usize, client: &RawClient, answer: &Datagram, port: u16) -> u32 {
    let own = client.datagram(port, answer.from, &[]).from;
    assert_eq!(answer.to, own, "device {number} got a datagram for another address");
    let sequence = u32::from_be_bytes(answer.payload[..4].try_into().unwrap());
    assert!(answer.payload == content(number, sequence), "device {number} got another's content");
    sequence
}

#[test]
fn hundred_devices_move_data_without_cross_talk() {
    let lab = Lab::new(4);
    let gateway = Gateway::start_with(&lab, &["--device-limit", "100"]);
    gateway.add_account(EMAIL);
    let mut clients: Vec<RawClient> = (0..DEVICES)
        .map(|number| gateway.add_device(EMAIL, &format!("device {number}")))
        .enumerate()
        .map(|(number, config)| RawClient::new(&lab.clients[number % 4], &config))
        .collect();

    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                client.try_handshake(5, Duration::from_secs(5)).expect("no handshake");
                client.send_packet(&[]);
                move_data(number, client);
            });
        }
    });

    gateway.wait_for_live(DEVICES as u64);
    assert_eq!(gateway.sessions(EMAIL).len(), DEVICES);
}
