//! The store goes away under a gateway and comes back: tunnels go on, and no session is lost or doubled.

use std::{fs, os::unix::fs::PermissionsExt, thread, time::Duration};

use tacit_messages::clock::Instant;
use tacit_tests::{
    Client, Gateway, Implementation, Lab,
    clock::{elapsed, wait_until},
    lab::TARGET_V4,
    postgres::Postgres,
    transfer::{Direction, Transfer},
};

use crate::{metrics::fetch, store};

const EMAIL: &str = "someone@example.org";
const METRICS: &str = "127.0.0.1:9586";

/// Bytes a second of the traffic that goes on.
const RATE: u64 = 2_000_000;

/// A gateway with a real client that downloads all the time.
struct Busy<'lab> {
    lab: &'lab Lab,
    gateway: Gateway<'lab>,
    _client: Client<'lab>,
    down: Transfer,
}

impl<'lab> Busy<'lab> {
    fn new(lab: &'lab Lab, flags: &[&str]) -> Self {
        let gateway = Gateway::start_with(lab, flags);
        let config = gateway.customer(EMAIL);
        let client = Client::up(&lab.clients[0], Implementation::Gotatun, &config);
        let v4 = TARGET_V4.into();
        let down = Transfer::paced(client.namespace, Direction::Down, v4, 1, 1 << 40, RATE);
        down.wait_for_more(RATE, Duration::from_secs(20));
        gateway.wait_for_sessions(EMAIL, 1);
        Self { lab, gateway, _client: client, down }
    }

    fn is_away(&self) -> bool {
        !self.gateway.json(&["status"])["store"]["away_since"].is_null()
    }

    fn ready(&self) -> String {
        fetch(self.lab, METRICS, "/readyz").unwrap()
    }

    /// Moves the client, so that a session ends and another begins, while the store is away.
    fn moves_unseen(&self) -> std::net::IpAddr {
        let moved = self.lab.move_client(0, 7);
        wait_until("the operator to be told", Duration::from_secs(15), || self.is_away());
        assert!(self.ready().starts_with("HTTP/1.1 503"), "{}", self.ready());
        let text = self.gateway.text(&["status"]);
        assert!(text.contains("away since"), "{text}");
        self.down.wait_for_more(RATE, Duration::from_secs(20));
        wait_until("the move to be queued", Duration::from_secs(15), || {
            self.gateway.json(&["status"])["store"]["waiting_changes"].as_u64() >= Some(2)
        });
        moved
    }

    /// Looks that the store has everything once, and the operator knows.
    fn is_whole_again(&self, moved: std::net::IpAddr) {
        wait_until("the store to be back", Duration::from_secs(20), || !self.is_away());
        wait_until("what waited to be written", Duration::from_secs(10), || {
            self.gateway.json(&["status"])["store"]["waiting_changes"] == 0
        });
        self.down.wait_for_more(RATE, Duration::from_secs(10));
        let sessions = self.gateway.sessions(EMAIL);
        assert_eq!(sessions.len(), 2, "{sessions:?}");
        assert!(!sessions[0]["ended_at"].is_null() && sessions[1]["ended_at"].is_null());
        assert_eq!(sessions[1]["connecting_ip"], moved.to_string());
        assert!(self.ready().starts_with("HTTP/1.1 200"), "{}", self.ready());
        let log = self.gateway.log();
        for line in ["the store is away", "the store is back"] {
            assert_eq!(log.matches(line).count(), 1, "{log}");
        }
    }
}

#[test]
fn tunnels_go_on_and_sessions_wait_while_the_database_is_away() {
    let lab = Lab::new(1);
    let mut server = Postgres::start(&lab.dir().join("postgres"), Some(&lab.gateway));
    server.create("tacit");
    let busy = Busy::new(&lab, &["--database", &server.tcp_url("tacit")]);

    server.stop();
    let away = Instant::now();
    let moved = busy.moves_unseen();
    thread::sleep(Duration::from_secs(12).saturating_sub(elapsed(away)));
    busy.down.wait_for_more(RATE, Duration::from_secs(10));
    server.run();
    busy.is_whole_again(moved);
}

#[test]
fn tunnels_go_on_and_sessions_wait_while_somebody_has_the_file_locked() {
    let lab = Lab::new(1);
    let busy = Busy::new(&lab, &[]);
    let file = busy.gateway.store();
    let moved = thread::scope(|scope| {
        let locking = scope.spawn(|| store::lock_for(&file, Duration::from_secs(14)));
        thread::sleep(Duration::from_millis(500));
        let moved = busy.moves_unseen();
        locking.join().unwrap();
        moved
    });
    busy.is_whole_again(moved);
}

#[test]
fn what_waits_when_the_gateway_is_stopped_is_written_at_the_next_start_in_order_and_once() {
    let lab = Lab::new(1);
    let mut server = Postgres::start(&lab.dir().join("postgres"), Some(&lab.gateway));
    server.create("tacit");
    let busy = Busy::new(&lab, &["--database", &server.tcp_url("tacit")]);
    server.stop();
    let moved = busy.moves_unseen();
    let Busy { mut gateway, _client, down, .. } = busy;
    gateway.stop();
    drop((down, _client));
    let path = gateway.data_dir().join("sessions.unwritten");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(gateway.log().contains("they wait, sealed, for the next start"), "{}", gateway.log());

    server.run();
    for _ in 0..2 {
        gateway.run();
        assert!(!path.exists());
        let sessions = gateway.sessions(EMAIL);
        assert_eq!(sessions.len(), 2, "{sessions:?}");
        let time =
            |session: usize, what: &str| sessions[session][what].as_str().unwrap().to_owned();
        assert!(time(0, "began_at") <= time(0, "ended_at"), "{sessions:?}");
        assert!(time(0, "ended_at") <= time(1, "began_at"), "{sessions:?}");
        assert!(time(1, "began_at") <= time(1, "ended_at"), "{sessions:?}");
        assert_eq!(sessions[1]["connecting_ip"], moved.to_string());
        gateway.stop();
    }
    assert_eq!(gateway.log().matches("that waited since the last stop are written").count(), 1);
}
