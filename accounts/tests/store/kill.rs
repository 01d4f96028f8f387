//! A process that is killed at any moment loses nothing that it had said is done, and leaves nothing half done.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write, stdout},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rand_core::{OsRng, RngCore};
use sqlx::AnyConnection;
use tacit_accounts::{
    AccountId, Basis, Database, DisclosureRequest, ServiceName, SessionChange, SessionRecorder,
    Store, Term,
};
use tacit_messages::DeviceId;

use crate::{Fixture, NOW, ON, On, add_account, add_device, email, ip, later, name, open, pool};

/// Names the store of a child process.
const VARIABLE: &str = "TACIT_TEST_KILLED";

/// How often a process is killed.
const TIMES: u64 = match ON {
    On::Sqlite => 200,
    On::Postgres => 50,
};

/// The longest life of a process, from before it has opened the store to the midst of the load.
const LONGEST_LIFE_MILLIS: u64 = 180;

/// How many devices have their sessions written together.
const GROUP: usize = 3;

/// The process that is killed: changes accounts, devices and sessions as fast as it can, and says what is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_works_until_it_is_killed() {
    let Ok(place) = env::var(VARIABLE) else { return };
    let database = match ON {
        On::Sqlite => Path::new(&place).into(),
        On::Postgres => Database::Postgres(place.parse().unwrap()),
    };
    let store = open(database, pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await.unwrap();
    store.close_open_sessions().await.unwrap();
    let store = store.with_device_limit(100_000).for_staff(7);
    let account = add_account(&store, &format!("{:x}@example.org", OsRng.next_u64())).await;
    say("done account", account.0);
    let mut connecting = Vec::new();
    for number in 0..GROUP {
        let device = add_device(&store, account, &format!("connecting {number}")).await.unwrap();
        say("done device", device.id.0);
        connecting.push(device.id);
    }
    let recorder = store.session_recorder().await.unwrap();
    let sessions = tokio::spawn(connect_and_leave(recorder, connecting));
    for number in 0.. {
        change(&store, account, number).await;
        assert!(!sessions.is_finished(), "sessions are not written any more");
    }
}

/// Days that a customer is granted, and days that a code is for; as in [`HALF_DONE`].
const GRANTED_DAYS: u32 = 3;
const CODE_DAYS: u32 = 5;

/// A customer comes, is granted a service, redeems a code and changes their address; every second one leaves.
async fn live(store: &Store, number: u64) {
    let own: u64 = OsRng.next_u64();
    let account = add_account(store, &format!("{own:x}@example.org")).await;
    say("done account", account.0);
    let device = add_device(store, account, "phone").await.unwrap();
    let service: ServiceName = "family".parse().unwrap();
    store.grant(account, &service, Term::MoreDays(GRANTED_DAYS), NOW).await.unwrap();
    say("done granted", account.0);
    let codes = store.make_codes(1, &service, CODE_DAYS, NOW).await.unwrap();
    store.redeem_code(account, &codes[0], NOW).await.unwrap();
    say("done redeemed", account.0);
    store.change_email(account, &email(&format!("{own:x}@example.net")), NOW).await.unwrap();
    say("done moved", account.0);
    if number.is_multiple_of(2) {
        say("doing cancelled", account.0);
        store.cancel_account(account, NOW).await.unwrap();
        say("done cancelled", account.0);
    } else {
        say("done device", device.id.0);
    }
}

/// Adds devices, removes every third one, discloses now and then, and has customers come and leave.
async fn change(store: &Store, account: AccountId, number: u64) {
    let device = add_device(store, account, &number.to_string()).await.unwrap();
    say("done device", device.id.0);
    if number % 3 == 2 {
        say("doing removed", device.id.0);
        let id = store.remove_device(account, &name(&number.to_string()), NOW).await.unwrap();
        say("done removed", id.0);
    }
    if number % 8 == 7 {
        let request = DisclosureRequest {
            account,
            basis: Basis::LawfulOrder,
            reference: "order 1".parse().unwrap(),
            recipient: "a court".parse().unwrap(),
            secret_until: None,
        };
        let (disclosure, _) = store.disclose(&request, NOW).await.unwrap();
        say("done disclosure", disclosure.number);
    }
    if number % 4 == 1 {
        live(store, number / 4).await;
    }
}

/// Writes sessions of some devices, begins of all in one group and ends of all in another.
async fn connect_and_leave(mut recorder: SessionRecorder, devices: Vec<DeviceId>) {
    for turn in 1.. {
        let at = later(turn);
        let connecting_ip = || ip("192.0.2.7");
        let began = |device: &DeviceId| SessionChange::Began {
            device: *device,
            connecting_ip: connecting_ip(),
            at,
        };
        let ended = |device: &DeviceId| SessionChange::Ended { device: *device, last_seen_at: at };
        recorder.record(&devices.iter().map(began).collect::<Vec<_>>(), at).await.unwrap();
        say("done begins", devices[0].0);
        recorder.record(&devices.iter().map(ended).collect::<Vec<_>>(), at).await.unwrap();
        say("done ends", devices[0].0);
    }
}

fn say(done: &str, number: impl std::fmt::Display) {
    let mut out = stdout().lock();
    writeln!(out, "{done} {number}").unwrap();
    out.flush().unwrap();
}

/// What a process said that it had done, or was doing, before it was killed: after some time, from its start or from
/// when it `has_begun` to work.
fn killed_after(place: &str, life: Duration, has_begun: bool) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill::child_works_until_it_is_killed", "--nocapture"])
        .env(VARIABLE, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (begins, begun) = mpsc::channel();
    let reading = thread::spawn(move || -> Vec<String> {
        // The harness writes the test's name before the first of the lines.
        let said = |line: String| line.find("do").map(|at| line[at..].to_owned());
        let is_whole = |line: &String| line.starts_with("done ") || line.starts_with("doing ");
        let said = lines.map_while(Result::ok).filter_map(said).filter(is_whole);
        said.inspect(|_| begins.send(()).unwrap_or_default()).collect()
    });
    if has_begun {
        begun.recv_timeout(Duration::from_secs(30)).expect("the process does nothing");
    }
    thread::sleep(life);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the process ended by itself");
    reading.join().unwrap()
}

/// What there must be.
#[derive(Default)]
struct Expected {
    /// By what they are: accounts, devices, removed ones, disclosures, and accounts by what became of them.
    done: BTreeMap<String, BTreeSet<i64>>,
    /// The same, of what may be done and was not said to be.
    doing: BTreeMap<String, BTreeSet<i64>>,
    /// Of each device that is the first of a group, how many groups of begins and ends are written.
    groups: BTreeMap<(i64, String), i64>,
}

impl Expected {
    fn learn(&mut self, said: &[String]) {
        for line in said {
            let words: Vec<_> = line.split(' ').collect();
            // The last line may be cut.
            let [state, what, number] = words[..] else { continue };
            let Ok(number) = number.parse() else { continue };
            match (state, what) {
                ("doing", _) => drop(self.doing.entry(what.to_owned()).or_default().insert(number)),
                (_, "begins" | "ends") => {
                    *self.groups.entry((number, what.to_owned())).or_default() += 1;
                }
                _ => drop(self.done.entry(what.to_owned()).or_default().insert(number)),
            }
        }
    }

    /// What is done and cannot have been undone.
    fn kept(&self, what: &str, undone: &str) -> BTreeSet<i64> {
        let undone = self.doing.get(undone).cloned().unwrap_or_default();
        self.done(what).difference(&undone).copied().collect()
    }

    async fn check_lives(&self, database: &mut AnyConnection) {
        let found =
            numbers(database, "SELECT account_id FROM services WHERE name = 'family'").await;
        assert!(self.kept("granted", "cancelled").is_subset(&found), "a service is lost");
        let logged = "SELECT account_id FROM staff_log WHERE verb = 'code redeem'";
        let found = numbers(database, logged).await;
        assert!(self.done("redeemed").is_subset(&found), "a code's days are lost");
        let archived =
            "SELECT account_id FROM archive WHERE kind = 'e-mail' AND reason = 'changed'";
        let found = numbers(database, archived).await;
        assert!(self.done("moved").is_subset(&found), "a former address is lost");
        let cancelled = "SELECT id FROM accounts WHERE cancelled_at IS NOT NULL";
        let found = numbers(database, cancelled).await;
        assert!(self.done("cancelled").is_subset(&found), "a cancelled account is there again");
    }

    fn done(&self, what: &str) -> BTreeSet<i64> {
        self.done.get(what).cloned().unwrap_or_default()
    }

    async fn check(&self, database: &mut AnyConnection) {
        let accounts = numbers(database, "SELECT id FROM accounts").await;
        assert!(self.done("account").is_subset(&accounts), "an account is lost");
        let devices = numbers(database, "SELECT id FROM devices").await;
        assert!(self.kept("device", "removed").is_subset(&devices), "devices are lost");
        assert!(devices.is_disjoint(&self.done("removed")), "a removed device is there again");
        let disclosures = numbers(database, "SELECT number FROM disclosures").await;
        assert!(self.done("disclosure").is_subset(&disclosures), "a disclosure is lost");
        self.check_lives(database).await;
        for ((device, what), groups) in &self.groups {
            let sql = match what.as_str() {
                "begins" => "SELECT COUNT(*) FROM sessions WHERE device_id = $1",
                _ => {
                    "SELECT COUNT(*) FROM sessions WHERE device_id = $1 AND ended_at = began_at AND gateway_id IS NULL"
                }
            };
            let rows: i64 =
                sqlx::query_scalar(sql).bind(device).fetch_one(&mut *database).await.unwrap();
            assert!((*groups..=groups + 1).contains(&rows), "{what}: {rows} of {groups}");
        }
        for (what, sql) in HALF_DONE {
            let found: i64 = sqlx::query_scalar(sql).fetch_one(&mut *database).await.unwrap();
            assert_eq!(found, 0, "{what}");
        }
    }
}

/// What no change leaves behind, each counted.
const HALF_DONE: [(&str, &str); 13] = [
    (
        "two devices have an address",
        "SELECT COUNT(*) - COUNT(DISTINCT address_offset) FROM devices",
    ),
    (
        "an address is a device's and free",
        "SELECT COUNT(*) FROM devices JOIN freed_addresses ON freed_addresses.address_offset = devices.address_offset",
    ),
    (
        "an address is nobody's and not free",
        "SELECT next_offset - 2 - (SELECT COUNT(*) FROM devices) - (SELECT COUNT(*) FROM freed_addresses) FROM tunnel_pool",
    ),
    (
        "a change is not in the staff log, or an entry has no change",
        "SELECT (SELECT COUNT(*) FROM staff_log WHERE verb IN ('account add', 'device add', 'device remove', 'disclosure make'))
            - (SELECT COUNT(*) FROM accounts) - (next_device_id - 1) - (SELECT COUNT(*) FROM disclosures)
            - (SELECT COUNT(*) FROM freed_addresses) + (SELECT COUNT(*) FROM accounts WHERE cancelled_at IS NOT NULL)
         FROM tunnel_pool",
    ),
    (
        "a cancellation is not in the staff log, or an entry has no cancellation",
        "SELECT COUNT(*) - (SELECT COUNT(*) FROM staff_log WHERE verb = 'account cancel')
         FROM accounts WHERE cancelled_at IS NOT NULL",
    ),
    (
        "a cancelled account has a service or a device",
        "SELECT COUNT(*) FROM accounts WHERE cancelled_at IS NOT NULL AND (service_until != 0
            OR EXISTS (SELECT 1 FROM services WHERE account_id = accounts.id)
            OR EXISTS (SELECT 1 FROM devices WHERE account_id = accounts.id))",
    ),
    (
        "not all that a cancelled account had is in the archive, or more is",
        "SELECT COUNT(*) - 4 * (SELECT COUNT(*) FROM accounts WHERE cancelled_at IS NOT NULL)
         FROM archive WHERE reason = 'cancelled'",
    ),
    (
        "an address was changed and is not in the archive, or the other way round",
        "SELECT COUNT(*) - (SELECT COUNT(*) FROM staff_log WHERE verb = 'account email')
         FROM archive WHERE reason = 'changed'",
    ),
    (
        "a code is redeemed and there, or neither",
        "SELECT COUNT(CASE WHEN verb = 'code make' THEN 1 END) - COUNT(CASE WHEN verb = 'code redeem' THEN 1 END)
            - (SELECT COUNT(*) FROM codes) FROM staff_log",
    ),
    (
        "a service has other days than were given",
        "SELECT COUNT(*) FROM accounts LEFT JOIN services ON services.account_id = accounts.id AND name = 'family'
         WHERE cancelled_at IS NULL AND COALESCE(ends_at - 1790000000, 0) != 86400 * (
            3 * (SELECT COUNT(*) FROM staff_log WHERE verb = 'account grant' AND account_id = accounts.id)
            + 5 * (SELECT COUNT(*) FROM staff_log WHERE verb = 'code redeem' AND account_id = accounts.id))",
    ),
    ("an account has no e-mail", "SELECT COUNT(*) FROM accounts WHERE length(email) = 0"),
    ("a session has no IP", "SELECT COUNT(*) FROM sessions WHERE length(connecting_ip) = 0"),
    (
        "a group of sessions is written in part, or twice",
        "SELECT COUNT(*) FROM (
            SELECT 1 AS found FROM sessions GROUP BY account_id, began_at
            HAVING COUNT(*) != 3 OR COUNT(DISTINCT device_id) != 3
         ) AS groups",
    ),
];

async fn numbers(database: &mut AnyConnection, sql: &'static str) -> BTreeSet<i64> {
    sqlx::query_scalar(sql).fetch_all(database).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn nothing_done_is_lost_and_nothing_is_half_done_when_a_process_is_killed() {
    let fixture = Fixture::new().await;
    let place = fixture._dir.name();
    let mut expected = Expected::default();
    for turn in 0..TIMES {
        let life = Duration::from_millis(OsRng.next_u64() % LONGEST_LIFE_MILLIS);
        expected.learn(&killed_after(&place, life, turn % 2 == 1));
        if turn % 10 == 9 {
            expected.check(&mut fixture.database().await).await;
        }
    }
    let groups: i64 = expected.groups.values().sum();
    let devices = expected.done("device").len() as u64;
    assert!(groups.unsigned_abs() > TIMES && devices > TIMES, "too little was done");
    assert!(expected.done("cancelled").len() as u64 > TIMES / 10, "too few lives were lived");
    fixture.store.close_open_sessions().await.unwrap();
    let open = "SELECT id FROM sessions WHERE ended_at IS NULL OR gateway_id IS NOT NULL";
    assert!(numbers(&mut fixture.database().await, open).await.is_empty());
    let whole = "the chain is whole";
    let staff_log = fixture.store.verify_staff_log(None).await.unwrap().expect(whole);
    assert!(staff_log.end.entries > TIMES);
    fixture.store.verify_disclosures(None).await.unwrap().expect(whole);
}
