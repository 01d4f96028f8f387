//! A million hostile datagrams while somebody works.

use std::{net::UdpSocket, thread, time::Duration};

use rand_core::{OsRng, RngCore};
use tacit_messages::DropReason;
use tacit_tests::{
    Client, Gateway, Implementation, Lab, RawClient,
    lab::{TARGET_V4, TARGET_V6, client_v4, endpoint},
    noise::{self, COOKIE_REPLY, INITIATION, RESPONSE, TRANSPORT},
    raw_client::bind,
    target::ECHO_PORT,
    transfer::{Direction, Transfer},
};

const EMAIL: &str = "someone@example.org";
const DATAGRAMS: usize = 1_000_000;
const SOURCES: u8 = 64;

/// Fast randomness whose quality does not matter (xorshift).
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(OsRng.next_u64() | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// Genuine messages of all four types, to start from.
fn genuine(client: &mut RawClient) -> Vec<Vec<u8>> {
    let initiation = client.handshake();
    let (response, _) = client.identity.respond(&initiation.message).unwrap_or_else(|| {
        // Nobody but the gateway can answer; one that is well-formed will do.
        let mut response = vec![RESPONSE.0; RESPONSE.1];
        response[1..4].fill(0);
        noise::redo_macs(&mut response, &client.identity.peer, None);
        (response, client.session().clone())
    });
    let cookie = noise::seal_cookie(&initiation.message, &client.identity.public_key(), &[7; 16]);
    let packet = client.datagram(4000, (TARGET_V4, ECHO_PORT).into(), &[9; 300]).packet();
    let transport = client.session().seal(&packet);
    client.send_raw(&transport);
    vec![initiation.message, response, cookie, transport]
}

/// The next hostile datagram, made in `buffer`.
fn mutate<'a>(
    random: &mut Random,
    genuine: &[Vec<u8>],
    gateway: &RawClient,
    buffer: &'a mut Vec<u8>,
) -> &'a [u8] {
    let template = &genuine[random.below(4)];
    buffer.clear();
    buffer.extend_from_slice(template);
    match random.below(8) {
        0 => {}
        1 => buffer.truncate(random.below(template.len())),
        2 => {
            let len = template.len() + random.below(2500);
            buffer.resize(len, 0);
            random.fill(&mut buffer[template.len()..]);
        }
        3 => {
            let (kind, len) = [INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT][random.below(4)];
            buffer.resize(len, 0);
            random.fill(buffer);
            buffer[..4].copy_from_slice(&[kind, 0, 0, 0]);
        }
        4 if random.below(64) == 0 => {
            // Well-formed with a right mac1, so that it costs the gateway the most.
            random.fill(&mut buffer[8..40]);
            let handshake = random.below(2);
            buffer.clear();
            buffer.extend_from_slice(&genuine[handshake]);
            random.fill(&mut buffer[8..40]);
            noise::redo_macs(buffer, &gateway.identity.peer, None);
        }
        5 => {
            let len = random.below(200);
            buffer.resize(len, 0);
            random.fill(buffer);
        }
        _ => {
            for _ in 0..=random.below(8) {
                let at = random.below(buffer.len());
                buffer[at] ^= 1 << random.below(8);
            }
        }
    }
    buffer
}

fn attack(sockets: &[UdpSocket], genuine: &[Vec<u8>], client: &RawClient, count: usize) {
    let mut random = Random::new();
    let mut buffer = Vec::new();
    for number in 0..count {
        let datagram = mutate(&mut random, genuine, client, &mut buffer);
        let _ = sockets[number % sockets.len()].send_to(datagram, endpoint());
        if number.is_multiple_of(500) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sockets on many source addresses that the gateway can answer.
fn sources(lab: &Lab) -> Vec<UdpSocket> {
    lab.clients[1].sh("ip route add local 198.18.0.0/24 dev lo");
    lab.gateway.sh(&format!("ip route add 198.18.0.0/24 via {}", client_v4(1, 2)));
    (1..=SOURCES).map(|host| bind(&lab.clients[1], ([198, 18, 0, host], 0).into())).collect()
}

#[test]
fn million_hostile_datagrams_harm_nobody() {
    let lab = Lab::new(2);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    let mut other = RawClient::new(&lab.clients[1], &gateway.add_device(EMAIL, "attacker"));
    let genuine = genuine(&mut other);
    let sockets = sources(&lab);
    let control = gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
    let forwarder = gateway.forwarder();
    let before = [control, forwarder].map(|pid| gateway.resident_kib(pid));
    let down = Transfer::paced(
        client.namespace,
        Direction::Down,
        TARGET_V4.into(),
        1,
        60_000_000,
        4_000_000,
    );
    let up = Transfer::paced(
        client.namespace,
        Direction::Up,
        TARGET_V6.into(),
        2,
        60_000_000,
        4_000_000,
    );
    down.wait_for_more(1_000_000, Duration::from_secs(20));

    attack(&sockets, &genuine, &other, DATAGRAMS);

    assert_eq!(gateway.forwarder(), forwarder, "the forwarder died:\n{}", gateway.log());
    let after = [control, forwarder].map(|pid| gateway.resident_kib(pid));
    down.finish().unwrap();
    up.finish().unwrap();
    for (before, after) in before.iter().zip(after) {
        assert!(after < before + 64 * 1024, "memory went from {before} to {after} KiB");
    }
    let counted: u64 = DropReason::ALL.iter().map(|reason| gateway.dropped(*reason)).sum();
    assert!(counted > DATAGRAMS as u64 / 4, "only {counted} datagrams were seen");
    for reason in [DropReason::Malformed, DropReason::InvalidMac, DropReason::UnknownIndex] {
        assert!(
            gateway.dropped(reason) > 1000,
            "only {} {}",
            gateway.dropped(reason),
            reason.name()
        );
    }
    assert!(
        other.try_handshake(10, Duration::from_secs(2)).is_some(),
        "nobody can connect any longer"
    );
    let log = gateway.log();
    assert!(log.len() < 1 << 20, "the log grew to {} bytes", log.len());
    assert!(!log.contains("198.18.0.") && !log.contains("192.0.2."), "the log has addresses");
}
