//! Control is killed at random moments while devices come, go and connect; the next start finds everything as it was said.
//! `TACIT_KILLS` says how often; `accounts/tests/store/kill.rs` does it to the store alone, hundreds of times.

use std::{
    collections::BTreeSet,
    env,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rand_core::{OsRng, RngCore};
use tacit_tests::{Gateway, Lab, RawClient, config::Config, postgres::Postgres};

const EMAIL: &str = "someone@example.org";

/// The longest time of load before a kill.
const LONGEST_MILLIS: u64 = 700;

/// What the gateway has said that it has done, and what was asked of it.
#[derive(Default)]
struct Said {
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    removal_asked: BTreeSet<String>,
    tries: u64,
}

impl Said {
    /// Adds devices, lets each connect, and removes every third one, until the gateway answers no more.
    fn load(&mut self, lab: &Lab, gateway: &Gateway<'_>, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            self.tries += 1;
            let name = format!("device {}", self.tries);
            let added = gateway.cli(&["device", "add", EMAIL, &name]);
            if !added.status.success() {
                continue;
            }
            self.added.insert(name.clone());
            let config = Config::parse(&String::from_utf8(added.stdout).unwrap());
            let mut client = RawClient::new(&lab.clients[0], &config);
            if client.try_handshake(1, Duration::from_millis(200)).is_some() {
                client.send_packet(&[]);
            }
            if self.tries.is_multiple_of(3) {
                self.removal_asked.insert(name.clone());
                if gateway.cli(&["device", "remove", EMAIL, &name]).status.success() {
                    self.removed.insert(name);
                }
            }
        }
    }

    fn check(&self, gateway: &Gateway<'_>) {
        let devices = gateway.json(&["device", "list", EMAIL]);
        let all = |key: &str| -> Vec<String> {
            let devices = devices.as_array().unwrap().iter();
            devices.map(|device| device[key].as_str().unwrap().to_owned()).collect()
        };
        let names: BTreeSet<_> = all("name").into_iter().collect();
        let kept: BTreeSet<_> = self.added.difference(&self.removal_asked).cloned().collect();
        assert!(kept.is_subset(&names), "lost: {:?}", kept.difference(&names));
        assert!(names.is_disjoint(&self.removed), "a removed device is there again");
        let addresses: BTreeSet<_> = all("tunnel_v4").into_iter().collect();
        assert_eq!(addresses.len(), names.len(), "two devices have an address");
        gateway.text(&["staff", "verify"]);
    }
}

/// How many sessions there are, all of which are over.
fn sessions(gateway: &Gateway<'_>) -> usize {
    let listed = gateway.sessions(EMAIL);
    let is_open = listed.iter().any(|session| session["ended_at"].is_null());
    assert!(!is_open, "a session of the dead gateway is open: {listed:?}");
    listed.len()
}

fn killed(lab: &Lab, flags: &[&str]) {
    let kills = env::var("TACIT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4);
    let flags = [flags, &["--device-limit", "100000"]].concat();
    let mut gateway = Gateway::start_with(lab, &flags);
    gateway.add_account(EMAIL);
    let mut said = Said::default();
    let mut seen = 0;
    for _ in 0..kills {
        let pid = gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| said.load(lab, &gateway, &is_over));
            thread::sleep(Duration::from_millis(OsRng.next_u64() % LONGEST_MILLIS));
            lab.gateway.sh(&format!("kill -9 {pid}"));
            is_over.store(true, Ordering::Relaxed);
        });
        gateway.wait(Duration::from_secs(5));
        gateway.run();
        said.check(&gateway);
        let now = sessions(&gateway);
        assert!(seen <= now, "sessions are lost: {seen}, then {now}");
        seen = now;
    }
    assert!(!said.added.is_empty() && seen > 0, "too little was done");
}

#[test]
fn killed_control_loses_nothing_that_it_said_on_sqlite() {
    killed(&Lab::new(1), &[]);
}

#[test]
fn killed_control_loses_nothing_that_it_said_on_postgres() {
    let lab = Lab::new(1);
    let server = Postgres::start(&lab.dir().join("postgres"), None);
    server.create("tacit");
    killed(&lab, &["--database", &server.url("tacit")]);
}
