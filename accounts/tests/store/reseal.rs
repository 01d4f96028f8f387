use std::{collections::HashSet, sync::Arc};

use tacit_accounts::{AccountId, AccountSelector, Progress, Store, StoreError, inventory};
use tacit_keys::{
    DataKeys,
    data_key::{Place, sealing_key},
};

use crate::{
    Fixture, NOW, add_account, add_device, data_keys, email,
    inventory::one_of_everything,
    ip, later, pool,
    retention::{found, heads, many_sessions},
};

const SEALED: [&str; 5] = [
    "SELECT email FROM accounts",
    "SELECT preshared_key FROM devices",
    "SELECT connecting_ip FROM sessions",
    "SELECT content FROM letters WHERE content IS NOT NULL",
    "SELECT check_value FROM data_keys",
];

async fn all_heads(fixture: &Fixture) -> HashSet<Vec<u8>> {
    let mut all = HashSet::new();
    for sql in SEALED {
        all.extend(heads(fixture, sql).await);
    }
    all
}

/// Begins to seal with a new key, and returns both and the new one alone.
async fn begin(fixture: &Fixture) -> (DataKeys, DataKeys) {
    let both = data_keys(7).with_new();
    fixture.store.use_data_keys(both.clone()).await.unwrap();
    let new = both.without_former();
    (both, new)
}

async fn reopen(fixture: Fixture, keys: DataKeys) -> Result<Fixture, StoreError> {
    let Fixture { _dir, path, store } = fixture;
    store.close().await;
    let store = Store::open(&path, pool("10.66.0.0/16", "fd66:7ac1:7::/64"), keys).await?;
    Ok(Fixture { _dir, path, store })
}

#[tokio::test]
async fn nothing_of_the_former_key_is_in_the_files_afterwards() {
    let fixture = Fixture::new().await;
    many_sessions(&fixture, 1200).await;
    fixture.store.post_trial(&email("boss@example.org"), NOW).await.unwrap();
    let old = all_heads(&fixture).await;
    let hashes: Vec<Vec<u8>> = sqlx::query_scalar("SELECT email_hash FROM accounts")
        .fetch_all(&mut fixture.database().await)
        .await
        .unwrap();
    let before = fixture.store.sessions(AccountId(1)).await.unwrap();
    let devices = fixture.store.devices(AccountId(1)).await.unwrap();
    let key = devices[0].public_key;
    let credentials = fixture.store.device_by_public_key(key.as_bytes(), NOW).await.unwrap();

    let (_, new) = begin(&fixture).await;
    let progress = Progress::default();
    fixture.store.seal_anew(&progress).await.unwrap();
    // 1,200 sessions, 5 devices, an account, the states of two chains, and a letter.
    assert_eq!(progress.counts(), (1209, 1209));
    assert_eq!(found(fixture._dir.path(), &old), 0, "old ciphertext is in the files");
    let old_hashes: HashSet<_> = hashes.into_iter().map(|hash| hash[..29].to_vec()).collect();
    assert_eq!(found(fixture._dir.path(), &old_hashes), 0, "an old hash is in the files");

    let fixture = reopen(fixture, new).await.unwrap();
    assert!(fixture.store.sessions(AccountId(1)).await.unwrap() == before);
    let again = fixture.store.device_by_public_key(key.as_bytes(), NOW).await.unwrap();
    assert!(again == credentials && again.is_some());
    let by_email = AccountSelector::Email(email("ann@example.org"));
    assert_eq!(fixture.store.account(&by_email).await.unwrap().id, AccountId(1));
    let former = reopen(fixture, data_keys(7)).await.map(drop).unwrap_err();
    assert!(matches!(former, StoreError::WrongDataKey));
}

#[tokio::test]
async fn ciphertext_of_every_sealed_column_goes_with_the_former_key() {
    let fixture = Fixture::new().await;
    one_of_everything(&fixture).await;
    let mut old = HashSet::new();
    for (table, columns) in inventory() {
        for (column, _) in columns.iter().filter(|(_, column)| column.sealed) {
            let sql = format!("SELECT {column} FROM {table} WHERE {column} IS NOT NULL");
            let of_column = heads(&fixture, &sql).await;
            assert!(!of_column.is_empty(), "{table}.{column}: nothing to see");
            old.extend(of_column);
        }
    }
    assert_eq!(found(fixture._dir.path(), &old), old.len(), "the search misses what is there");
    begin(&fixture).await;
    fixture.store.seal_anew(&Progress::default()).await.unwrap();
    assert_eq!(found(fixture._dir.path(), &old), 0, "old ciphertext is in the files");
}

#[tokio::test]
async fn address_that_would_not_be_taken_any_more_is_found_by_the_new_key() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    // With a Cyrillic letter.
    let address = "\u{430}nn@example.org";
    let mut padded = address.as_bytes().to_vec();
    padded.resize(64, 0);
    let place = Place { table: "accounts", column: "email", row: account.0 };
    let hash = |keys: &DataKeys| {
        keys.current().look_up_hash("accounts.email", address.as_bytes()).to_vec()
    };
    sqlx::query("UPDATE accounts SET email = $1, email_hash = $2")
        .bind(data_keys(7).current().seal(place, &padded))
        .bind(hash(&data_keys(7)))
        .execute(&mut fixture.database().await)
        .await
        .unwrap();
    let (_, new) = begin(&fixture).await;
    fixture.store.seal_anew(&Progress::default()).await.unwrap();
    let now: Vec<u8> = sqlx::query_scalar("SELECT email_hash FROM accounts")
        .fetch_one(&mut fixture.database().await)
        .await
        .unwrap();
    assert_eq!(now, hash(&new));
}

#[tokio::test]
async fn store_works_while_it_has_values_of_both_keys() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    many_sessions(&fixture, 10).await;
    begin(&fixture).await;
    let error = store
        .add_account(&email("ann@example.org"), tacit_accounts::Confirmation::OfAge, None, NOW)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::EmailTaken));
    add_account(store, "bob@example.org").await;
    for address in ["ann@example.org", "bob@example.org"] {
        let found = store.account(&AccountSelector::Email(email(address))).await.unwrap();
        assert!(found.email == email(address));
    }
    let device = add_device(store, AccountId(1), "new").await;
    assert!(matches!(device, Err(StoreError::DeviceLimit { .. })));
    let device = add_device(store, AccountId(2), "new").await.unwrap();
    store.session_began(device.id, ip("2001:db8::1"), later(1)).await.unwrap();
    assert_eq!(store.sessions(AccountId(2)).await.unwrap()[0].connecting_ip, ip("2001:db8::1"));
    assert_eq!(store.sessions(AccountId(1)).await.unwrap().len(), 10);
}

#[tokio::test]
async fn what_is_cut_short_is_carried_on_after_opening_again() {
    let fixture = Fixture::new().await;
    many_sessions(&fixture, 1500).await;
    let old = all_heads(&fixture).await;
    let (both, new) = begin(&fixture).await;
    let progress = Arc::new(Progress::default());
    let cut = {
        let (store, progress) = (fixture.store.clone(), Arc::clone(&progress));
        tokio::spawn(async move { store.seal_anew(&progress).await })
    };
    while progress.counts().0 < 500 {
        tokio::task::yield_now().await;
    }
    cut.abort();
    let cut = cut.await;
    assert!(cut.is_err_and(|error| error.is_cancelled()), "it was done before it could be cut");

    let fixture = reopen(fixture, both).await.unwrap();
    let old_key = data_keys(7).current().id();
    let sessions: Vec<Vec<u8>> = sqlx::query_scalar("SELECT connecting_ip FROM sessions")
        .fetch_all(&mut fixture.database().await)
        .await
        .unwrap();
    let left = sessions.iter().filter(|value| sealing_key(value) == Some(old_key)).count();
    assert!((1..1500).contains(&left), "{left} values are left");
    let networks = pool("10.66.0.0/16", "fd66:7ac1:7::/64");
    let error = Store::open(&fixture.path, networks, new.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongDataKey), "the former key is still needed");

    fixture.store.seal_anew(&Progress::default()).await.unwrap();
    assert_eq!(found(fixture._dir.path(), &old), 0, "old ciphertext is in the files");
    let fixture = reopen(fixture, new).await.unwrap();
    assert_eq!(fixture.store.sessions(AccountId(1)).await.unwrap().len(), 1500);
}
