//! Devices that a drained gateway hands over to others.

use std::time::Duration;

use tacit_accounts::{DeviceWatch, HandOver, MovingDevice, Store, hand_over::MOST_AT_ONCE};
use tacit_keys::{PrivateKey, PublicKey};
use tacit_messages::{DeviceId, UnixSeconds};
use tokio::time::timeout;

use crate::{Fixture, NOW, add_device, name};

fn moving(device: u64) -> MovingDevice {
    let receiver_index = 0x5eed_0000 + u32::try_from(device).unwrap();
    MovingDevice { device: DeviceId(device), receiver_index, silent_seconds: 7 }
}

/// Two gateways that share the store.
async fn gateways(fixture: &Fixture) -> [Store; 2] {
    let own = fixture.store.clone().for_gateway("own", "2", None, NOW).await.unwrap();
    let other = fixture.store.clone().for_gateway("other", "3", None, NOW).await.unwrap();
    [own.store, other.store]
}

fn key() -> PublicKey {
    PrivateKey::generate().public_key()
}

/// What a gateway that listens to the server is told next.
async fn next(watch: &mut DeviceWatch) -> HandOver {
    loop {
        if let Some(hand_over) = watch.wait(Duration::from_secs(20)).await {
            return hand_over;
        }
    }
}

/// What `to` hears of the devices that `from` hands over.
async fn heard(from: &Store, to: &Store, devices: &[MovingDevice], key: PublicKey) -> HandOver {
    let mut watch = to.watch_devices();
    // Returns once it listens.
    assert!(watch.wait(Duration::from_secs(20)).await.is_none());
    let (handed, heard) = tokio::join!(
        from.hand_over(key, devices, NOW),
        timeout(Duration::from_secs(5), next(&mut watch))
    );
    handed.unwrap();
    heard.unwrap()
}

#[tokio::test]
async fn devices_are_handed_over_to_other_gateways_of_the_key_alone() {
    let fixture = Fixture::new().await;
    let [own, other] = gateways(&fixture).await;
    let fleet = key();
    let devices: Vec<_> = (0..MOST_AT_ONCE as u64).map(moving).collect();
    let hand_over = heard(&own, &other, &devices, fleet).await;
    assert_eq!(other.open_hand_over(&hand_over, fleet, NOW), devices);
    assert!(other.open_hand_over(&hand_over, key(), NOW).is_empty(), "another key's");
    assert!(own.open_hand_over(&hand_over, fleet, NOW).is_empty(), "its own");
}

#[tokio::test]
async fn what_was_handed_over_grows_old_on_the_way_and_is_worth_nothing_later() {
    let fixture = Fixture::new().await;
    let [own, other] = gateways(&fixture).await;
    let fleet = key();
    let hand_over = heard(&own, &other, &[moving(1)], fleet).await;
    let silence_at = |seconds: u64| -> Vec<u8> {
        let devices = other.open_hand_over(&hand_over, fleet, UnixSeconds(NOW.0 + seconds));
        devices.iter().map(|device| device.silent_seconds).collect()
    };
    assert_eq!(silence_at(20), [27]);
    assert!(silence_at(3_600).is_empty());
    let early = UnixSeconds(NOW.0 - 61);
    assert!(other.open_hand_over(&hand_over, fleet, early).is_empty(), "from the future");
}

/// Every row of every table.
async fn rows(fixture: &Fixture) -> Vec<String> {
    let mut database = fixture.database().await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT CAST(relname AS TEXT) FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY 1")
            .fetch_all(&mut database)
            .await
            .unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!("SELECT CAST(t AS TEXT) FROM {table} t");
        let of_table: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut database).await.unwrap();
        rows.extend(of_table);
    }
    rows
}

#[tokio::test]
async fn devices_that_are_handed_over_are_sealed_and_in_no_table() {
    let fixture = Fixture::new().await;
    let [own, other] = gateways(&fixture).await;
    let before = rows(&fixture).await;
    assert!(!before.is_empty());
    let fleet = key();
    let one = heard(&own, &other, &[moving(7)], fleet).await;
    let another = heard(&own, &other, &[moving(7)], fleet).await;
    assert_ne!(format!("{one:?}"), format!("{another:?}"));
    assert_eq!(rows(&fixture).await, before);
}

#[tokio::test]
async fn device_that_may_not_connect_has_no_key_to_be_expected_by() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let phone = add_device(&fixture.store, account, "phone").await.unwrap();
    let laptop = add_device(&fixture.store, account, "laptop").await.unwrap();
    fixture.store.remove_device(account, &name("laptop"), NOW).await.unwrap();
    let devices = [moving(phone.id.0), moving(laptop.id.0), moving(4_711)];
    let keys = fixture.store.welcome_keys(&devices, NOW).await.unwrap();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), [(phone.id, phone.public_key)]);
    assert!(fixture.store.welcome_keys(&[], NOW).await.unwrap().is_empty());
}
