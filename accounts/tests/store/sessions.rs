use std::net::Ipv4Addr;

use sqlx::{Column, Row};
use tacit_accounts::StoreError;
use tacit_keys::{PresharedKey, data_key::Place};
use tacit_messages::{DeviceId, UnixSeconds};

use crate::{Fixture, NOW, add_device, ip, later, name, new_key};

#[tokio::test]
async fn session_row_holds_only_account_times_and_ip() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    fixture.store.session_ended(device.id, later(60)).await.unwrap();
    let mut database = fixture.database().await;
    let rows = sqlx::query("SELECT * FROM sessions").fetch_all(&mut database).await.unwrap();
    assert_eq!(rows.len(), 1);
    let columns: Vec<_> = rows[0].columns().iter().map(|column| column.name()).collect();
    assert_eq!(
        columns,
        ["id", "account_id", "device_id", "connecting_ip", "began_at", "ended_at", "gateway_id"]
    );
    assert_eq!(rows[0].get::<i64, _>("account_id"), account.0);
    assert_eq!(rows[0].get::<i64, _>("device_id").unsigned_abs(), device.id.0);
    let place = Place { table: "sessions", column: "connecting_ip", row: rows[0].get("id") };
    let sealed: Vec<u8> = rows[0].get("connecting_ip");
    let opened = crate::data_keys(7).open(place, &sealed).unwrap();
    assert_eq!(opened[..], "192.0.2.7".parse::<Ipv4Addr>().unwrap().to_ipv6_mapped().octets());
    assert_eq!(rows[0].get::<i64, _>("began_at").unsigned_abs(), NOW.0);
    assert_eq!(rows[0].get::<i64, _>("ended_at").unsigned_abs(), later(60).0);
    let sql = "SELECT COUNT(*) FROM sessions WHERE gateway_id IS NOT NULL";
    let at_a_gateway: i64 = sqlx::query_scalar(sql).fetch_one(&mut database).await.unwrap();
    assert_eq!(at_a_gateway, 0, "which gateway it was is known after the end");
}

#[tokio::test]
async fn session_is_open_until_it_ends() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("2001:db8::7"), NOW).await.unwrap();
    let sessions = fixture.store.sessions(account).await.unwrap();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].device_name, Some(name("phone")));
    assert_eq!(sessions[0].connecting_ip, ip("2001:db8::7"));
    assert_eq!((sessions[0].began_at, sessions[0].ended_at), (NOW, None));
    fixture.store.session_ended(device.id, later(5)).await.unwrap();
    assert_eq!(ends(&fixture, account).await, [Some(later(5))]);
}

#[tokio::test]
async fn end_without_a_session_writes_nothing() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_ended(device.id, NOW).await.unwrap();
    fixture.store.session_ended(DeviceId(99), NOW).await.unwrap();
    assert!(fixture.store.sessions(account).await.unwrap().is_empty());
}

#[tokio::test]
async fn second_end_changes_nothing() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    fixture.store.session_ended(device.id, later(5)).await.unwrap();
    fixture.store.session_ended(device.id, later(50)).await.unwrap();
    assert_eq!(ends(&fixture, account).await, [Some(later(5))]);
}

#[tokio::test]
async fn roam_makes_two_rows() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    fixture.store.session_ended(device.id, later(10)).await.unwrap();
    fixture.store.session_began(device.id, ip("198.51.100.9"), later(10)).await.unwrap();
    let sessions = fixture.store.sessions(account).await.unwrap();
    let ips: Vec<_> = sessions.iter().map(|session| session.connecting_ip.clone()).collect();
    assert_eq!(ips, [ip("192.0.2.7"), ip("198.51.100.9")]);
    assert_eq!(ends(&fixture, account).await, [Some(later(10)), None]);
}

#[tokio::test]
async fn begin_ends_the_session_that_was_open() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.8"), later(30)).await.unwrap();
    assert_eq!(ends(&fixture, account).await, [Some(later(30)), None]);
}

#[tokio::test]
async fn session_never_ends_before_it_began() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), later(30)).await.unwrap();
    fixture.store.session_ended(device.id, NOW).await.unwrap();
    assert_eq!(ends(&fixture, account).await, [Some(later(30))]);
}

#[tokio::test]
async fn open_rows_are_closed_at_last_alive_at() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let phone = add_device(&fixture.store, account, "phone").await.unwrap();
    let laptop = add_device(&fixture.store, account, "laptop").await.unwrap();
    let tablet = add_device(&fixture.store, account, "tablet").await.unwrap();
    fixture.store.session_began(phone.id, ip("192.0.2.7"), NOW).await.unwrap();
    fixture.store.session_ended(phone.id, later(5)).await.unwrap();
    fixture.store.session_began(laptop.id, ip("192.0.2.8"), later(10)).await.unwrap();
    fixture.store.alive(later(60)).await.unwrap();
    fixture.store.session_began(tablet.id, ip("192.0.2.9"), later(70)).await.unwrap();
    assert_eq!(fixture.store.close_open_sessions().await.unwrap(), 2);
    assert_eq!(ends(&fixture, account).await, [Some(later(5)), Some(later(60)), Some(later(70))]);
    assert_eq!(fixture.store.close_open_sessions().await.unwrap(), 0);
}

#[tokio::test]
async fn open_rows_end_as_they_began_if_nothing_is_known() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    fixture.store.close_open_sessions().await.unwrap();
    assert_eq!(ends(&fixture, account).await, [Some(NOW)]);
}

#[tokio::test]
async fn open_rows_are_closed_when_the_forwarder_died() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let phone = add_device(&fixture.store, account, "phone").await.unwrap();
    let laptop = add_device(&fixture.store, account, "laptop").await.unwrap();
    fixture.store.session_began(phone.id, ip("192.0.2.7"), NOW).await.unwrap();
    fixture.store.session_began(laptop.id, ip("192.0.2.8"), later(20)).await.unwrap();
    assert_eq!(fixture.store.close_open_sessions_at(later(10)).await.unwrap(), 2);
    assert_eq!(ends(&fixture, account).await, [Some(later(10)), Some(later(20))]);
}

#[tokio::test]
async fn sessions_of_a_removed_device_stay_without_its_name() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    fixture.store.remove_device(account, &name("phone"), later(8)).await.unwrap();
    fixture.store.session_ended(device.id, later(7)).await.unwrap();
    let sessions = fixture.store.sessions(account).await.unwrap();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].device_name, None);
    assert_eq!(sessions[0].ended_at, Some(later(7)));
}

#[tokio::test]
async fn session_of_a_removed_device_does_not_begin() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.remove_device(account, &name("phone"), NOW).await.unwrap();
    let began = fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await;
    assert!(matches!(began, Err(StoreError::NoSuchDevice)));
    assert!(fixture.store.sessions(account).await.unwrap().is_empty());
}

#[tokio::test]
async fn sessions_keep_the_name_over_rotations_and_end_apart() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let first = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(first.id, ip("192.0.2.7"), NOW).await.unwrap();
    let second = rotate(&fixture, account, later(10)).await;
    fixture.store.session_began(second, ip("192.0.2.7"), later(11)).await.unwrap();
    // The end of the revoked key's session comes late and must not end the new one.
    fixture.store.session_ended(first.id, later(9)).await.unwrap();
    let third = rotate(&fixture, account, later(20)).await;
    fixture.store.session_ended(second, later(19)).await.unwrap();
    fixture.store.session_began(third, ip("192.0.2.7"), later(21)).await.unwrap();
    let sessions = fixture.store.sessions(account).await.unwrap();
    assert!(sessions.iter().all(|session| session.device_name == Some(name("phone"))));
    assert_eq!(ends(&fixture, account).await, [Some(later(9)), Some(later(19)), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_devices_connect_at_once() {
    let fixture = Fixture::new().await;
    let store = fixture.store.clone().with_device_limit(1000);
    let account = fixture.account().await;
    let mut devices = Vec::new();
    for number in 0..1000 {
        devices.push(add_device(&store, account, &number.to_string()).await.unwrap().id);
    }
    let begins: Vec<_> = devices
        .into_iter()
        .map(|device| {
            let store = store.clone();
            tokio::spawn(async move { store.session_began(device, ip("192.0.2.7"), NOW).await })
        })
        .collect();
    for begin in begins {
        begin.await.unwrap().unwrap();
    }
    assert_eq!(store.sessions(account).await.unwrap().len(), 1000);
}

async fn rotate(
    fixture: &Fixture,
    account: tacit_accounts::AccountId,
    now: UnixSeconds,
) -> DeviceId {
    let preshared_key = PresharedKey::generate();
    let rotated =
        fixture.store.rotate_device(account, &name("phone"), new_key(), &preshared_key, now).await;
    rotated.unwrap().1.id
}

async fn ends(fixture: &Fixture, account: tacit_accounts::AccountId) -> Vec<Option<UnixSeconds>> {
    let sessions = fixture.store.sessions(account).await.unwrap();
    sessions.into_iter().map(|session| session.ended_at).collect()
}

#[tokio::test]
async fn device_is_connected_while_its_session_lasts_under_its_present_number() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    let connected = || fixture.store.connected_devices(account);
    assert_eq!(connected().await.unwrap(), []);
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    assert_eq!(connected().await.unwrap(), [device.id]);
    let (key, shared) = (new_key(), PresharedKey::generate());
    let rotated = fixture.store.rotate_device(account, &name("phone"), key, &shared, NOW).await;
    assert_eq!(connected().await.unwrap(), [rotated.unwrap().1.id]);
    fixture.store.session_ended(device.id, later(60)).await.unwrap();
    assert_eq!(connected().await.unwrap(), []);
}
