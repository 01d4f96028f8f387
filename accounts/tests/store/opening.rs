use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
};

use sqlx::Connection;
use tacit_accounts::{Store, StoreError};
use tacit_keys::private_file::PrivateFileError;

use crate::{Fixture, NOW, add_account, add_device, email, ip, later, name, open, pool};

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
async fn what_is_committed_survives_the_death_of_the_process() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    // The files as a process leaves them that had no time to close them.
    let dir = tempfile::tempdir().unwrap();
    for file in ["tacit.db", "tacit.db-wal"] {
        fs::copy(fixture.path.with_file_name(file), dir.path().join(file)).unwrap();
    }
    let networks = pool("10.66.0.0/16", "fd66:7ac1:7::/64");
    let store = open(&dir.path().join("tacit.db"), networks).await.unwrap();
    assert_eq!(store.devices(account).await.unwrap(), [device]);
    assert_eq!(store.close_open_sessions().await.unwrap(), 1);
}

#[tokio::test]
async fn all_files_of_the_store_are_private() {
    let fixture = Fixture::new().await;
    fixture.account().await;
    let files: Vec<_> = fs::read_dir(fixture._dir.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 3, "the store and its two companions");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

#[tokio::test]
async fn looser_mode_is_refused_with_the_command_that_mends_it() {
    let fixture = Fixture::new().await;
    let Fixture { _dir, path, store } = fixture;
    store.close().await;
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let error = open(&path, pool("10.66.0.0/16", "fd66::/64")).await.unwrap_err();
    assert!(matches!(error, StoreError::NotPrivate(PrivateFileError::LooseMode(_))));
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn link_in_the_stores_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tacit.db");
    symlink(dir.path().join("elsewhere.db"), &path).unwrap();
    let error = open(&path, pool("10.66.0.0/16", "fd66::/64")).await.unwrap_err();
    assert!(matches!(error, StoreError::NotPrivate(PrivateFileError::NotAFile(_))));
    assert!(!dir.path().join("elsewhere.db").exists());
}

#[tokio::test]
async fn missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/tacit.db");
    let error = open(&path, pool("10.66.0.0/16", "fd66::/64")).await.unwrap_err();
    assert!(matches!(error, StoreError::Create { .. }));
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[tokio::test]
async fn file_that_is_no_store_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tacit.db");
    let text = "This is not a database. ".repeat(100);
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let error = open(&path, pool("10.66.0.0/16", "fd66::/64")).await.unwrap_err();
    assert!(matches!(error, StoreError::Database(_)), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn newer_schema_is_refused() {
    let fixture = Fixture::new().await;
    let mut database = fixture.database().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&mut database)
    .await
    .unwrap();
    database.close().await.unwrap();
    let error = open(&fixture.path, pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema));
    assert!(error.to_string().contains("newer tacit"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_starts_at_once_make_one_store() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tacit.db");
        let opens: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { open(&path, pool("10.66.0.0/16", "fd66::/64")).await })
            })
            .collect();
        for open in opens {
            open.await.unwrap().unwrap();
        }
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
async fn networks_are_known_before_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tacit.db");
    assert_eq!(Store::recorded_pool(&path).await, None);
    assert!(!path.exists());
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Store::recorded_pool(&path).await, None);

    let networks = pool("10.67.0.0/16", "fd66:7ac1:8::/64");
    let store = open(&path, networks).await.unwrap();
    assert_eq!(Store::recorded_pool(&path).await, Some(networks));
    store.close().await;
    assert_eq!(Store::recorded_pool(&path).await, Some(networks));
    open(&path, networks).await.unwrap();
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
async fn removed_device_leaves_nothing_in_the_file() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "a-name-to-search-for").await.unwrap();
    fixture.store.remove_device(account, &name("a-name-to-search-for"), later(1)).await.unwrap();
    let Fixture { _dir, path, store } = fixture;
    store.close().await;
    let bytes = fs::read(path).unwrap();
    let needle = b"a-name-to-search-for";
    assert!(!bytes.windows(needle.len()).any(|window| window == needle));
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
