//! What goes over the wire, seen by a client that looks at every byte.

use std::{
    collections::HashSet,
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use tacit_messages::{DropReason, clock::Instant};
use tacit_tests::{
    Gateway, Lab, RawClient,
    clock::elapsed,
    lab::{TARGET_V4, TARGET_V6, endpoint},
    noise::{self, COOKIE_REPLY, INITIATION, REJECT_AFTER_MESSAGES, RESPONSE, TRANSPORT},
    packet::Datagram,
    raw_client::bind,
    target::{ECHO_PORT, SOURCE_PORT},
};

const EMAIL: &str = "someone@example.org";
const ECHO: (std::net::Ipv4Addr, u16) = (TARGET_V4, ECHO_PORT);

/// A gateway and a client with a confirmed session.
fn connected(lab: &Lab) -> (Gateway<'_>, RawClient) {
    let gateway = Gateway::start(lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    client.handshake();
    assert!(client.echo(ECHO.into(), b"hello"));
    (gateway, client)
}

/// Opens whatever comes until nothing comes for `pause`, and returns the UDP payloads.
fn drain(client: &RawClient, pause: Duration) -> Vec<Datagram> {
    std::iter::from_fn(|| client.receive(pause)).collect()
}

#[test]
fn transport_plaintext_is_padded_to_sixteen_within_the_mtu() {
    let lab = Lab::new(1);
    let (_gateway, mut client) = connected(&lab);
    for len in (0..40).chain([1380, 1391, 1392]) {
        let datagram = client.datagram(4000, ECHO.into(), &vec![7; len]);
        client.send_packet(&datagram.packet());
        let message = client.receive_kind(TRANSPORT, Duration::from_secs(2)).expect("an answer");
        let plaintext = client.open(&message).expect("an authentic message");
        let padded = (28 + len).next_multiple_of(16).min(1420);
        assert_eq!(plaintext.len(), padded, "a packet of {} bytes", 28 + len);
        assert!(plaintext[28 + len..].iter().all(|byte| *byte == 0), "padding must be zero");
    }
}

#[test]
fn receiver_indices_of_successive_handshakes_cannot_be_linked() {
    let lab = Lab::new(1);
    let (_gateway, mut client) = connected(&lab);
    for _ in 0..24 {
        thread::sleep(Duration::from_millis(120));
        client.handshake();
    }
    let indices: Vec<u32> = client.sessions.iter().map(|session| session.remote_index).collect();
    for bits in [8, 16] {
        let parts: HashSet<u32> = indices.iter().map(|index| index >> bits).collect();
        assert!(parts.len() >= 24, "upper bits repeat in {indices:x?}");
    }
    let lower: HashSet<u32> = indices.iter().map(|index| index & 0xff).collect();
    assert!(lower.len() >= 16, "lower bits repeat in {indices:x?}");
    let near = indices.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 1 << 16).count();
    assert!(near <= 1, "indices count up: {indices:x?}");
}

#[test]
fn old_session_still_works_while_a_new_one_is_made() {
    let lab = Lab::new(1);
    let (_gateway, mut client) = connected(&lab);
    let old = client.session().clone();
    client.handshake();
    let datagram = client.datagram(4000, ECHO.into(), b"by the old session");
    client.send_raw(&old.seal_at(100, &datagram.packet()));
    assert!(client.receive(Duration::from_secs(2)).is_some());
}

#[test]
fn exhausted_counter_is_refused() {
    let lab = Lab::new(1);
    let (gateway, mut client) = connected(&lab);
    let packet = client.datagram(4000, ECHO.into(), b"too late").packet();
    let before = lab.target.echoed();
    for counter in [REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1, u64::MAX] {
        let message = client.session().seal_at(counter, &packet);
        client.send_raw(&message);
    }
    assert!(client.receive(Duration::from_secs(2)).is_none());
    assert_eq!(lab.target.echoed(), before);
    assert_eq!(gateway.dropped(DropReason::CounterExhausted), 3);
    assert!(client.echo(ECHO.into(), b"in time"), "a refused counter harmed the session");
}

#[test]
fn replayed_packet_is_refused() {
    let lab = Lab::new(1);
    let (gateway, mut client) = connected(&lab);
    let packet = client.datagram(4000, ECHO.into(), b"once").packet();
    let message = client.session().seal(&packet);
    let before = lab.target.echoed();
    for _ in 0..5 {
        client.send_raw(&message);
    }
    assert_eq!(drain(&client, Duration::from_secs(1)).len(), 1);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(lab.target.echoed(), before + 1);
    assert_eq!(gateway.dropped(DropReason::Replayed), 4);
}

#[test]
fn replayed_packet_does_not_move_the_endpoint() {
    let lab = Lab::new(2);
    let (_gateway, mut client) = connected(&lab);
    let attacker = bind(&lab.clients[1], "0.0.0.0:0".parse().unwrap());
    let packet = client.datagram(4000, ECHO.into(), b"mine").packet();
    let message = client.session().seal(&packet);
    client.send_raw(&message);
    assert!(client.receive(Duration::from_secs(2)).is_some());
    for _ in 0..10 {
        attacker.send_to(&message, endpoint()).unwrap();
        let mut forged = message.clone();
        forged[8] ^= 0x40;
        attacker.send_to(&forged, endpoint()).unwrap();
    }
    request_stream(&mut client, 5, 100);
    assert!(drain(&client, Duration::from_secs(1)).len() >= 5, "answers go elsewhere");
    assert!(!hears_anything(&attacker, Duration::from_millis(200)));
}

#[test]
fn thousand_packets_out_of_order_are_accepted() {
    let lab = Lab::new(1);
    let (gateway, mut client) = connected(&lab);
    let base = client.session().counter;
    let before = lab.target.echoed();
    let order = std::iter::once(999).chain((0..999).rev());
    for (sent, number) in order.enumerate() {
        let packet = client.datagram(4000, ECHO.into(), &[1; 4]).packet();
        let mut padded = packet.clone();
        padded.resize(packet.len().next_multiple_of(16), 0);
        let message = client.session().seal_at(base + number, &padded);
        client.send_raw(&message);
        if sent.is_multiple_of(20) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    drain(&client, Duration::from_secs(2));
    assert_eq!(lab.target.echoed() - before, 1000);
    assert_eq!(gateway.dropped(DropReason::Replayed), 0);
}

#[test]
fn idle_ends_do_not_keep_each_other_awake() {
    let lab = Lab::new(1);
    let (_gateway, mut client) = connected(&lab);
    thread::sleep(Duration::from_secs(1));
    client.send_packet(&[]);
    let first = client.receive_raw(Duration::from_secs(30));
    assert!(
        first.is_none(),
        "the gateway sent a message of type {:?} unasked",
        first.map(|message| message[0])
    );
}

#[test]
fn received_data_is_acknowledged_by_one_keepalive() {
    let lab = Lab::new(1);
    let (_gateway, mut client) = connected(&lab);
    // boringtun tells times apart only between two runs of its timers.
    thread::sleep(Duration::from_secs(2));
    let nowhere: SocketAddr = "203.0.113.99:9".parse().unwrap();
    let packet = client.datagram(4000, nowhere, b"no answer will come").packet();
    client.send_packet(&packet);
    let start = Instant::now();
    let message = client.receive_kind(TRANSPORT, Duration::from_secs(14)).expect("a keepalive");
    assert_eq!(message.len(), 32, "not a keepalive");
    assert!(
        elapsed(start) > Duration::from_secs(8),
        "the keepalive came after {:?}",
        elapsed(start)
    );
    assert!(client.receive_raw(Duration::from_secs(15)).is_none(), "more than one keepalive");
}

/// Asks the target for `count` datagrams, one per `interval` milliseconds.
fn request_stream(client: &mut RawClient, count: u32, interval: u32) {
    let request: Vec<u8> =
        [count, 64, interval].iter().flat_map(|number| number.to_be_bytes()).collect();
    let datagram = client.datagram(4000, (TARGET_V4, SOURCE_PORT).into(), &request);
    client.send_packet(&datagram.packet());
}

fn hears_anything(socket: &UdpSocket, limit: Duration) -> bool {
    socket.set_read_timeout(Some(limit)).unwrap();
    socket.recv_from(&mut [0; 2000]).is_ok()
}

#[test]
fn gateway_shakes_hands_itself_when_a_client_falls_silent() {
    let lab = Lab::new(1);
    let (gateway, mut client) = connected(&lab);
    request_stream(&mut client, 100, 500);

    assert!(client.answer_initiation(Duration::from_secs(25)), "the gateway did not initiate");
    let session = client.sessions.len() - 1;
    let by_new = (0..40).any(|_| {
        let message = client.receive_raw(Duration::from_secs(1));
        message.is_some_and(|message| client.sessions[session].open(&message).is_some())
    });

    assert!(by_new, "nothing came by the new session");
    client.send_packet(&[]);
    assert!(client.echo(ECHO.into(), b"both ways"));
    assert_eq!(gateway.sessions(EMAIL).len(), 1);
}

#[test]
fn cookie_reply_does_not_move_endpoint() {
    let lab = Lab::new(2);
    let (_gateway, mut client) = connected(&lab);
    let attacker = bind(&lab.clients[1], "0.0.0.0:0".parse().unwrap());
    request_stream(&mut client, 200, 250);
    let initiation =
        client.receive_kind(INITIATION, Duration::from_secs(25)).expect("an initiation");
    let cookie = [0x5a; 16];

    let reply = noise::seal_cookie(&initiation, &client.identity.public_key(), &cookie);
    attacker.send_to(&reply, endpoint()).unwrap();

    let retry =
        client.receive_kind(INITIATION, Duration::from_secs(12)).expect("a retry at the client");
    assert_eq!(
        noise::mac2(&retry),
        noise::expected_mac2(&retry, &cookie),
        "the cookie is not used"
    );
    assert!(
        !hears_anything(&attacker, Duration::from_secs(6)),
        "the cookie reply moved the endpoint"
    );
    assert!(client.answer_initiation(Duration::from_secs(12)));
    client.send_packet(&[]);
    assert!(client.echo(ECHO.into(), b"still here"));
}

#[test]
fn cookie_is_demanded_under_load_and_then_honoured() {
    let lab = Lab::new(2);
    let (gateway, client) = connected(&lab);
    let mut newcomer = RawClient::new(&lab.clients[0], &gateway.add_device(EMAIL, "phone"));
    let flood = bind(&lab.clients[1], "0.0.0.0:0".parse().unwrap());
    let over = std::sync::atomic::AtomicBool::new(false);
    let stop = || over.store(true, std::sync::atomic::Ordering::Relaxed);

    let answered = thread::scope(|scope| {
        scope.spawn(|| flood_with_initiations(&flood, &client, &over));
        thread::sleep(Duration::from_secs(2));
        let answered = shake_hands_with_cookie(&mut newcomer);
        stop();
        answered
    });

    assert!(answered, "no response to an initiation with the right mac2");
    newcomer.send_packet(&[]);
    assert!(newcomer.echo((TARGET_V6, ECHO_PORT).into(), b"made it"));
    assert!(gateway.dropped(DropReason::UnderLoad) > 0);
}

/// Sends initiations with a right mac1 as fast as they can be made.
fn flood_with_initiations(
    socket: &UdpSocket,
    client: &RawClient,
    over: &std::sync::atomic::AtomicBool,
) {
    let mut message = client.initiation().message;
    let mut number = 0u64;
    while !over.load(std::sync::atomic::Ordering::Relaxed) {
        number += 1;
        message[8..16].copy_from_slice(&number.to_le_bytes());
        noise::redo_macs(&mut message, &client.identity.peer, None);
        let _ = socket.send_to(&message, endpoint());
        if number.is_multiple_of(50) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Sends initiations until a cookie comes, then one with its mac2; says whether that was answered.
fn shake_hands_with_cookie(client: &mut RawClient) -> bool {
    for _ in 0..30 {
        let first = client.initiation();
        client.send_raw(&first.message);
        let Some(reply) = client.receive_kind(COOKIE_REPLY, Duration::from_millis(500)) else {
            continue;
        };
        assert_eq!(reply[4..8], first.local_index.to_le_bytes());
        let mac1 = noise::mac1(&first.message);
        let cookie =
            noise::open_cookie(&reply, &client.identity.peer, &mac1).expect("a sound cookie reply");
        for _ in 0..5 {
            let mut second = client.initiation();
            noise::redo_macs(&mut second.message, &client.identity.peer, Some(&cookie));
            client.send_raw(&second.message);
            let response = client.receive_kind(RESPONSE, Duration::from_secs(2));
            let session = response.and_then(|response| client.identity.finish(&second, &response));
            if let Some(session) = session {
                client.sessions.push(session);
                return true;
            }
        }
        return false;
    }
    panic!("no cookie reply under a flood of initiations");
}

#[test]
fn flood_of_initiations_does_not_stop_established_tunnels() {
    let lab = Lab::new(2);
    let (_gateway, mut client) = connected(&lab);
    let flood = bind(&lab.clients[1], "0.0.0.0:0".parse().unwrap());
    let over = std::sync::atomic::AtomicBool::new(false);
    let flooder = RawClient::on(flood.try_clone().unwrap(), &client.config);
    let answered = thread::scope(|scope| {
        scope.spawn(|| flood_with_initiations(&flood, &flooder, &over));
        thread::sleep(Duration::from_secs(1));
        let answered = (0..100)
            .filter(|number: &u32| {
                let datagram = client.datagram(4000, ECHO.into(), &number.to_be_bytes());
                client.send_packet(&datagram.packet());
                client.receive(Duration::from_millis(200)).is_some()
            })
            .count();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        answered
    });
    assert!(answered >= 95, "only {answered} of 100 packets came back during the flood");
}
