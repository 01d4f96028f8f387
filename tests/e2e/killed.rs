//! Control is killed at random moments while devices come, go and connect, and customers come, change and leave; the next
//! start finds everything as it was said.
//! `TACIT_KILLS` says how often; `accounts/tests/store/kill.rs` does it to the store alone, hundreds of times.

use std::{
    collections::BTreeSet,
    env,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rand_core::{OsRng, RngCore};
use serde_json::Value;
use tacit_tests::{Gateway, Lab, RawClient, clock::wait_until, config::Config, postgres::Postgres};

use crate::times::seconds;

const EMAIL: &str = "someone@example.org";

/// The longest time of load before a kill.
const LONGEST_MILLIS: u64 = 700;

/// How long it may take until a customer has come and left; that is waited for now and then.
const LONGEST_LIFE: Duration = Duration::from_secs(30);

/// A customer, to whom this happens: added for three days, granted two more, given another address, cancelled.
#[derive(Default)]
struct Life {
    account: Option<String>,
    addresses: [String; 2],
    /// How many steps the gateway has said that it has done, and how many were asked of it.
    done: usize,
    asked: usize,
    /// Whether what became of it has been looked at since.
    is_known: bool,
}

impl Life {
    fn steps(&self) -> [Vec<&str>; 4] {
        let [former, later] = self.addresses.each_ref().map(String::as_str);
        [
            vec!["account", "add", former, "--of-age", "--days", "3", "--json"],
            vec!["account", "grant", former, "--days", "2"],
            vec!["account", "email", former, later],
            vec!["account", "cancel", later],
        ]
    }

    fn live(&mut self, gateway: &Gateway<'_>) {
        for step in 0..4 {
            self.asked = step + 1;
            let output = gateway.cli(&self.steps()[step]);
            if !output.status.success() {
                return;
            }
            if step == 0 {
                let added: Value = serde_json::from_slice(&output.stdout).unwrap();
                self.account = Some(added["id"].to_string());
            }
            self.done = step + 1;
        }
    }

    /// How many steps are done by what the gateway lists. Who is not there has not come or has left.
    fn found(&self, listed: &[Value]) -> Vec<usize> {
        let find = |address: &str| listed.iter().find(|account| account["email"] == address);
        match self.addresses.each_ref().map(|address| find(address)) {
            [Some(account), None] if days(account) == 3 => vec![1],
            [Some(account), None] if days(account) == 5 => vec![2],
            [None, Some(account)] if days(account) == 5 => vec![3],
            [None, None] => vec![0, 4],
            other => panic!("half a change: {other:?}"),
        }
    }

    fn check(&mut self, gateway: &Gateway<'_>, listed: &[Value]) {
        let found = self.found(listed);
        let may_be = |step: &usize| (self.done..=self.asked).contains(step);
        assert!(found.iter().any(may_be), "{found:?}, but {} to {}", self.done, self.asked);
        self.is_known = true;
        let Some(account) = self.account.as_deref().filter(|_| found != [1] && found != [2]) else {
            return;
        };
        let export = gateway.json(&["account", "export", account]);
        let former = export["former_values"].as_array().unwrap();
        let has_former = former.iter().any(|value| value["value"] == self.addresses[0].as_str());
        assert!(has_former, "an address was changed and is not in the archive: {former:?}");
        assert_eq!(former.len() > 1, found == [0, 4], "{former:?}");
    }
}

/// For how many days an account was given service.
fn days(account: &Value) -> u64 {
    let [made, until] = ["created_at", "service_until"].map(|key| seconds(&account[key]));
    // The grant adds to the end; both are of one second.
    (until - made) / (24 * 60 * 60)
}

/// What the gateway has said that it has done, and what was asked of it.
#[derive(Default)]
struct Said {
    lives: Vec<Life>,
    codes: usize,
    codes_asked: usize,
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    removal_asked: BTreeSet<String>,
    tries: u64,
}

impl Said {
    /// Adds devices, lets each connect, removes every third one, and has customers come and leave, whom it counts in `left`;
    /// until the gateway answers no more.
    fn load(&mut self, lab: &Lab, gateway: &Gateway<'_>, is_over: &AtomicBool, left: &AtomicUsize) {
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
            if self.tries.is_multiple_of(2) {
                left.fetch_add(self.live(gateway), Ordering::Relaxed);
            }
        }
    }

    /// Makes a code and has a customer live; returns how many have left.
    fn live(&mut self, gateway: &Gateway<'_>) -> usize {
        self.codes_asked += 1;
        let made = gateway.cli(&["code", "make", "--days", "3"]);
        self.codes += usize::from(made.status.success());
        let own = self.lives.len();
        let addresses = ["org", "net"].map(|end| format!("c{own}@example.{end}"));
        let mut life = Life { addresses, ..Life::default() };
        life.live(gateway);
        let has_left = life.done == 4;
        self.lives.push(life);
        has_left.into()
    }

    fn check_lives(&mut self, gateway: &Gateway<'_>) {
        let listed = gateway.json(&["account", "list"]);
        let listed = listed.as_array().unwrap();
        self.lives.iter_mut().filter(|life| !life.is_known).for_each(|life| {
            life.check(gateway, listed);
        });
        let codes = gateway.json(&["code", "list"]).as_array().unwrap().len();
        assert!((self.codes..=self.codes_asked).contains(&codes), "{codes} codes");
    }

    fn check(&mut self, gateway: &Gateway<'_>) {
        self.check_lives(gateway);
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

/// Kills control so many times, unless `TACIT_KILLS` says otherwise.
fn killed(lab: &Lab, flags: &[&str], kills: u32) {
    let told = env::var("TACIT_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills: u32 = told.unwrap_or(kills);
    let flags = [flags, &["--device-limit", "100000"]].concat();
    let mut gateway = Gateway::start_with(lab, &flags);
    gateway.add_account(EMAIL);
    let mut said = Said::default();
    let mut seen = 0;
    let left = AtomicUsize::new(0);
    for turn in 0..kills {
        let pid = gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let left_before = left.load(Ordering::Relaxed);
            scope.spawn(|| said.load(lab, &gateway, &is_over, &left));
            if turn % 10 == 0 {
                let has_left = || left.load(Ordering::Relaxed) > left_before;
                wait_until("somebody to come and leave", LONGEST_LIFE, has_left);
            }
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
    killed(&Lab::new(1), &[], 60);
}

#[test]
fn killed_control_loses_nothing_that_it_said_on_postgres() {
    let lab = Lab::new(1);
    let server = Postgres::start(&lab.dir().join("postgres"), None);
    server.create("tacit");
    killed(&lab, &["--database", &server.url("tacit")], 50);
}
