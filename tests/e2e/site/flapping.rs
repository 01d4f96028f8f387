//! A customer whose device flaps between two addresses, and so has as many sessions as there can be.

use std::{io::Write, net::Ipv6Addr};

use serde_json::Value;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use tacit_keys::{DataKeys, data_key::Place};
use tacit_tests::{Gateway, Lab, visitor::SITE};

use super::{EMAIL, customer, logged_in};

/// Seconds between two sessions of a device that flaps.
const BETWEEN_TWO: i64 = 10;

/// Sessions of the test: their document is more than a connection holds that nobody reads from.
const COUNT: usize = 30_000;
/// Connections that ask and do not read; a network may have two more.
const HELD: usize = 30;
/// What control may take of memory for them, in KiB: what all sessions are once in memory.
const MOST_MEMORY: u64 = 40 * 1024;

/// Writes what the account's first device leaves by flapping. The gateway must be stopped.
pub(super) fn flap(gateway: &Gateway<'_>, account: i64, count: i64) {
    let keys = DataKeys::load(&gateway.data_dir().join("data.key")).unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(gateway.store());
        let mut connection = options.connect().await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        for number in 1..=count {
            let place = Place { table: "sessions", column: "connecting_ip", row: number };
            sqlx::query(
                "INSERT INTO sessions (id, account_id, device_id, connecting_ip, began_at, ended_at)
                 SELECT $1, account_id, MIN(id), $2, unixepoch() - $3, unixepoch() - $3 + 9
                 FROM devices WHERE account_id = $4",
            )
            .bind(number)
            .bind(keys.current().seal(place, &address(number).octets()))
            .bind((count - number + 1) * BETWEEN_TWO)
            .bind(account)
            .execute(&mut *transaction)
            .await
            .unwrap();
        }
        transaction.commit().await.unwrap();
        connection.close().await.unwrap();
    });
}

/// One of two addresses that are as long as addresses get.
fn address(number: i64) -> Ipv6Addr {
    let host = if number % 2 == 0 { 0x1111 } else { 0x2222 };
    Ipv6Addr::new(0x2001, 0xdb8, 0x3333, 0x4444, 0x5555, 0x6666, 0x7777, host)
}

#[test]
fn who_does_not_read_answers_takes_no_memory_and_no_turn_of_others() {
    const BOB: &str = "bob@example.org";
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    customer(&lab, &gateway, EMAIL);
    customer(&lab, &gateway, BOB);
    gateway.add_device(EMAIL, &"d".repeat(63));
    gateway.stop();
    flap(&gateway, 1, COUNT as i64);
    gateway.run();
    let control = gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
    let mut bob = logged_in(&lab, &gateway, BOB).coming_from("127.8.8.8".parse().unwrap());
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let before_kib = gateway.resident_kib(control);

    let cookie = ann.cookie.clone().unwrap();
    let ask = |number: usize| {
        let path = if number.is_multiple_of(2) { "/records.json" } else { "/records" };
        let head = format!("GET {path} HTTP/1.1\r\nHost: {SITE}\r\nCookie: {cookie}\r\n\r\n");
        let mut connection = ann.connect_tls().unwrap();
        connection.write_all(head.as_bytes()).unwrap();
        connection
    };
    let held: Vec<_> = (0..HELD).map(ask).collect();
    let refused = ann.get("/records.json");
    let grown_kib = gateway.resident_kib(control).saturating_sub(before_kib);
    assert!(grown_kib < MOST_MEMORY, "{grown_kib} KiB more");
    assert_eq!(refused.status, 503, "a second download at once");
    assert!(refused.body.contains("Try again in a minute"), "{}", refused.body);
    let bobs: Value = serde_json::from_str(&bob.get("/records.json").body).unwrap();
    assert_eq!(bobs["sessions"], serde_json::json!([]));
    let page = ann.get("/records").body;
    assert!(page.contains("The latest 100 of 30000."), "{page}");
    assert_eq!(page.matches(">2001:db8:").count(), 100);

    drop(held);
    let whole = ann.get("/records.json");
    assert_eq!(whole.status, 200);
    let whole: Value = serde_json::from_str(&whole.body).unwrap();
    let sessions = whole["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), COUNT);
    let began = |session: &Value| session["began_at"].as_str().unwrap().to_owned();
    assert!(sessions.is_sorted_by(|former, next| began(former) < began(next)));
    let grown_kib = gateway.resident_kib(control).saturating_sub(before_kib);
    assert!(grown_kib < MOST_MEMORY, "{grown_kib} KiB more");
}
