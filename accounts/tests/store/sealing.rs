use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use sqlx::{AnyConnection, Connection};
use tacit_accounts::{AccountSelector, Store, StoreError};
use tacit_keys::{DataKey, DataKeys, PresharedKey};

use crate::{
    Fixture, NOW, Place, add_account, add_device, data_keys, email, ip, later, name, new_key, pool,
};

const EMAIL: &str = "Ann.Searchable@example.org";
const IPS: [&str; 2] = ["203.0.113.217", "2001:db8:5eac:4ab1::217"];
const NAME: &str = "a-name-to-search-for";

/// A store with one of everything that is personal, and the preshared keys that it was given.
pub(crate) async fn sealed_things() -> (Fixture, Vec<PresharedKey>) {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let account = add_account(store, EMAIL).await;
    let keys = vec![PresharedKey::generate(), PresharedKey::generate()];
    let device = store.add_device(account, &name(NAME), new_key(), &keys[0], NOW).await.unwrap();
    for (later_by, text) in IPS.into_iter().enumerate() {
        store.session_began(device.id, ip(text), later(later_by as u64)).await.unwrap();
    }
    store.rotate_device(account, &name(NAME), new_key(), &keys[1], NOW).await.unwrap();
    (fixture, keys)
}

/// Every file in the store's directory.
pub(crate) fn files(dir: impl AsRef<Path>) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

/// `value` as programs write it.
fn encodings(value: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = STANDARD.encode(value);
    vec![
        value.to_vec(),
        value.to_ascii_lowercase(),
        value.iter().rev().copied().collect(),
        value.iter().flat_map(|byte| [*byte, 0]).collect(),
        value.iter().flat_map(|byte| [0, *byte]).collect(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        base64.trim_end_matches('=')[..base64.len() - 4].into(),
    ]
}

/// The files that have `value` in any encoding.
fn holders(dir: impl AsRef<Path>, value: &[u8]) -> Vec<String> {
    let needles = encodings(value);
    let has = |bytes: &[u8]| {
        needles.iter().any(|needle| bytes.windows(needle.len()).any(|window| window == needle))
    };
    files(dir).into_iter().filter(|(_, bytes)| has(bytes)).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn clause_7_stolen_database_yields_no_email_no_ip_and_no_preshared_key() {
    let (fixture, keys) = sealed_things().await;
    let dir = fixture._dir.path();
    assert!(!holders(&dir, NAME.as_bytes()).is_empty(), "the search finds nothing at all");
    let local = EMAIL.split('@').next().unwrap();
    let mut secrets: Vec<Vec<u8>> = vec![EMAIL.into(), local.into()];
    for text in IPS {
        let ip: std::net::IpAddr = text.parse().unwrap();
        secrets.push(text.into());
        secrets.push(match ip {
            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        });
    }
    for key in &keys {
        secrets.push(key.expose().to_vec());
    }
    for secret in &secrets {
        assert_eq!(holders(&dir, secret), Vec::<String>::new());
    }
    fixture.store.close().await;
    for secret in &secrets {
        assert_eq!(holders(fixture._dir.path(), secret), Vec::<String>::new());
    }
}

#[tokio::test]
async fn key_whose_number_is_right_but_not_itself_is_refused() {
    let fixture = Fixture::new().await;
    let forged = DataKey::from_bytes([7; 32]);
    let id = i64::from(forged.id().0);
    let mut database = fixture.database().await;
    sqlx::query("UPDATE data_keys SET check_value = $1 WHERE id = $2")
        .bind(vec![1; 80])
        .bind(id)
        .execute(&mut database)
        .await
        .unwrap();
    let networks = pool("10.66.0.0/16", "fd66:7ac1:7::/64");
    let error = crate::open(&fixture.path, networks).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongDataKey), "{error}");
}

async fn swap(database: &mut AnyConnection, table: &str, column: &str) {
    let sql = format!(
        "UPDATE {table} SET {column} = (SELECT other.{column} FROM {table} AS other WHERE other.id != {table}.id)"
    );
    let swapped = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database).await.unwrap();
    assert_eq!(swapped.rows_affected(), 2);
}

#[tokio::test]
async fn value_of_another_row_is_refused() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let account = fixture.account().await;
    add_account(store, "bob@example.org").await;
    let phone = add_device(store, account, "phone").await.unwrap();
    let laptop = add_device(store, account, "laptop").await.unwrap();
    store.session_began(phone.id, ip("192.0.2.7"), NOW).await.unwrap();
    store.session_began(laptop.id, ip("192.0.2.8"), NOW).await.unwrap();
    let mut database = fixture.database().await;
    for (table, column) in
        [("accounts", "email"), ("devices", "preshared_key"), ("sessions", "connecting_ip")]
    {
        swap(&mut database, table, column).await;
    }
    database.close().await.unwrap();
    let by_id = AccountSelector::Id(account);
    assert!(matches!(
        store.account(&by_id).await.unwrap_err(),
        StoreError::Corrupt("accounts.email")
    ));
    assert!(matches!(
        store.sessions(account).await.unwrap_err(),
        StoreError::Corrupt("sessions.connecting_ip")
    ));
    assert!(matches!(
        store.device_by_public_key(phone.public_key.as_bytes(), NOW).await.unwrap_err(),
        StoreError::Corrupt("devices.preshared_key")
    ));
}

#[tokio::test]
async fn look_up_by_key_opens_the_preshared_key_only() {
    let (fixture, keys) = sealed_things().await;
    let mut database = fixture.database().await;
    for sql in ["UPDATE accounts SET email = $1", "UPDATE sessions SET connecting_ip = $1"] {
        sqlx::query(sql).bind(&[0][..]).execute(&mut database).await.unwrap();
    }
    let account = tacit_accounts::AccountId(1);
    let device = fixture.store.devices(account).await.unwrap().remove(0);
    let found = fixture.store.device_by_public_key(device.public_key.as_bytes(), NOW).await;
    assert_eq!(found.unwrap().unwrap().preshared_key, keys[1]);
}

#[tokio::test]
async fn equal_emails_of_two_stores_look_different() {
    let mut hashes = Vec::new();
    for number in [1, 2] {
        let place = Place::new();
        let database = place.database();
        let networks = pool("10.66.0.0/16", "fd66::/64");
        let store = Store::open(&database, networks, data_keys(number)).await.unwrap();
        add_account(&store, EMAIL).await;
        let fixture = Fixture { _dir: place, path: database, store };
        let hash: Vec<u8> = sqlx::query_scalar("SELECT email_hash FROM accounts")
            .fetch_one(&mut fixture.database().await)
            .await
            .unwrap();
        hashes.push(hash);
    }
    assert_ne!(hashes[0], hashes[1]);
}

#[tokio::test]
async fn first_start_records_which_key_is_the_right_one() {
    let place = Place::new();
    let database = place.database();
    let networks = pool("10.66.0.0/16", "fd66::/64");
    let keys = DataKeys::new(DataKey::generate());
    Store::open(&database, networks, keys.clone()).await.unwrap().close().await;
    let error = crate::open(&database, networks).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongDataKey));
    let store = Store::open(&database, networks, keys).await.unwrap();
    let found = store.account(&AccountSelector::Email(email(EMAIL))).await;
    assert!(matches!(found, Err(StoreError::NoSuchAccount)));
}
