use sqlx::Connection;
use tacit_accounts::StoreError;

use crate::{Fixture, NOW, Place, add_account, add_device, email, ip, name, open, pool};

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    let Fixture { _dir, path, store } = fixture;
    let pool = pool("10.66.0.0/16", "fd66:7ac1:7::/64");
    store.close().await;
    let store = open(&path, pool).await.unwrap();
    assert_eq!(store.devices(account).await.unwrap(), [device]);
    assert_eq!(store.sessions(account).await.unwrap().len(), 1);
}

#[tokio::test]
async fn newer_schema_is_refused() {
    let fixture = Fixture::new().await;
    let mut database = fixture.database().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, $1, 0)",
    )
    .bind(&[0][..])
    .execute(&mut database)
    .await
    .unwrap();
    database.close().await.unwrap();
    let error = open(&fixture.path, pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema));
    assert!(error.to_string().contains("newer tacit"), "{error}");
}

/// Opens a store so many times at once.
pub(crate) async fn open_at_once(place: &Place, times: usize) {
    let open = |_| {
        let database = place.database();
        let networks = pool("10.66.0.0/16", "fd66::/64");
        tokio::spawn(async move { open(&database, networks).await })
    };
    for open in (0..times).map(open).collect::<Vec<_>>() {
        open.await.unwrap().unwrap().close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_starts_at_once_make_one_store() {
    for _ in 0..5 {
        open_at_once(&Place::new(), 8).await;
    }
}

#[tokio::test]
async fn other_networks_are_refused_while_devices_have_addresses() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    for other in
        [pool("10.67.0.0/16", "fd66:7ac1:7::/64"), pool("10.66.0.0/16", "fd66:7ac1:8::/64")]
    {
        let error = open(&fixture.path, other).await.unwrap_err();
        assert!(matches!(error, StoreError::PoolChanged));
        assert!(error.to_string().contains("`tunnel-v4`"), "{error}");
    }
    fixture.store.remove_device(account, &name("phone"), NOW).await.unwrap();
    let moved = pool("10.67.0.0/16", "fd66:7ac1:7::/64");
    let store = open(&fixture.path, moved).await.unwrap();
    let device = add_device(&store, account, "phone").await.unwrap();
    assert!(device.tunnel_v4.to_string().starts_with("10.67."));
}

#[tokio::test]
async fn networks_can_grow_and_shrink_around_the_devices() {
    let fixture = Fixture::with_pool(pool("10.64.0.0/24", "fd66::/64")).await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    let grown = open(&fixture.path, pool("10.64.0.0/10", "fd66::/64")).await.unwrap();
    assert_eq!(grown.devices(account).await.unwrap(), [device]);
    let shrunk = pool("10.64.0.0/30", "fd66::/126");
    open(&fixture.path, shrunk).await.unwrap();
    add_device(&grown, account, "laptop").await.unwrap();
    let error = open(&fixture.path, shrunk).await.unwrap_err();
    assert!(matches!(error, StoreError::PoolChanged));
}

#[tokio::test]
async fn two_stores_on_one_file_see_each_others_accounts() {
    let fixture = Fixture::new().await;
    let second = open(&fixture.path, pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await.unwrap();
    let account = fixture.account().await;
    add_device(&second, account, "phone").await.unwrap();
    add_account(&second, "bob@example.org").await;
    assert_eq!(fixture.store.accounts().await.unwrap().len(), 2);
}

#[tokio::test]
async fn errors_name_nobody() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "secret-phone").await.unwrap();
    let key = device.public_key;
    let preshared_key = tacit_keys::PresharedKey::generate();
    let confirmation = tacit_accounts::Confirmation::OfAge;
    let ann = email("ann@example.org");
    let errors = [
        fixture.store.add_account(&ann, confirmation, None, NOW).await.unwrap_err(),
        add_device(&fixture.store, account, "secret-phone").await.unwrap_err(),
        fixture.store.add_device(account, &name("tv"), key, &preshared_key, NOW).await.unwrap_err(),
        fixture.store.account(&"eve@example.org".parse().unwrap()).await.unwrap_err(),
        fixture.store.remove_device(account, &name("secret-tv"), NOW).await.unwrap_err(),
    ];
    for error in errors {
        let shown = format!("{error} {error:?}");
        for secret in ["example.org", "secret", "10.66", "fd66", &key.to_string()] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
