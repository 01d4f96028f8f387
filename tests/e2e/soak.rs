//! A tunnel that lives through rekeys.

use std::{collections::BTreeSet, thread, time::Duration};

use tacit_messages::clock::Instant;
use tacit_tests::{
    Client, Gateway, Implementation, Lab, clock::elapsed, lab::TARGET_V4, ping::Ping,
};

const EMAIL: &str = "someone@example.org";
/// Five pings a second for 8 minutes and 50 seconds: four rekeys are due at 120, 240, 360 and 480 s.
const PINGS: usize = 2650;

#[test]
fn tunnel_lives_through_four_rekeys() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    let forwarder = gateway.forwarder();

    let (ping, handshakes) = thread::scope(|scope| {
        let ping = scope.spawn(|| Ping::run(client.namespace, TARGET_V4.into(), PINGS, "0.2", &[]));
        let start = Instant::now();
        let mut handshakes = BTreeSet::new();
        while elapsed(start) < Duration::from_secs(PINGS as u64 / 5 - 5) {
            handshakes.insert(client.latest_handshake());
            thread::sleep(Duration::from_secs(5));
        }
        (ping.join().unwrap(), handshakes)
    });

    handshakes.len().checked_sub(5).unwrap_or_else(|| panic!("too few rekeys: {handshakes:?}"));
    assert!(ping.longest_gap() <= 3, "{} pings in a row were lost", ping.longest_gap());
    assert_eq!(gateway.sessions(EMAIL).len(), 1, "a rekey wrote a row");
    assert_eq!(gateway.forwarder(), forwarder);
}
