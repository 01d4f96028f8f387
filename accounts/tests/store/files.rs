//! What is particular to a store in a file of SQLite.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    time::Duration,
};

use tacit_accounts::{Database, Store, StoreError};
use tacit_keys::private_file::PrivateFileError;

use crate::{
    Fixture, NOW, add_device, data_keys, ip, later, name, open, pool,
    retention::{found, heads, many_sessions},
    sealing::{files, sealed_things},
};

fn path(fixture: &Fixture) -> PathBuf {
    let Database::Sqlite(path) = &fixture.path else { panic!("not a file") };
    path.clone()
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
        fs::copy(fixture._dir.path().join(file), dir.path().join(file)).unwrap();
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
    let (path, place, store) = (path(&fixture), fixture._dir, fixture.store);
    store.close().await;
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let error = open(&path, pool("10.66.0.0/16", "fd66::/64")).await.unwrap_err();
    drop(place);
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
async fn removed_device_leaves_nothing_in_the_file() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "a-name-to-search-for").await.unwrap();
    fixture.store.remove_device(account, &name("a-name-to-search-for"), later(1)).await.unwrap();
    let (path, place, store) = (path(&fixture), fixture._dir, fixture.store);
    store.close().await;
    let bytes = fs::read(path).unwrap();
    drop(place);
    let needle = b"a-name-to-search-for";
    assert!(!bytes.windows(needle.len()).any(|window| window == needle));
}

#[tokio::test]
async fn wrong_key_is_refused_and_the_store_is_unchanged() {
    let (fixture, _) = sealed_things().await;
    let networks = pool("10.66.0.0/16", "fd66:7ac1:7::/64");
    // As a process leaves it that was killed, then as one leaves it that ended.
    let killed = tempfile::tempdir().unwrap();
    for file in ["tacit.db", "tacit.db-wal"] {
        fs::copy(fixture._dir.path().join(file), killed.path().join(file)).unwrap();
    }
    let (path, ended, store) = (path(&fixture), fixture._dir, fixture.store);
    store.close().await;
    for path in [killed.path().join("tacit.db"), path] {
        let dir = path.parent().unwrap();
        let without_index = || {
            let mut files = files(dir);
            files.remove("tacit.db-shm"); // Made anew by each reader.
            files
        };
        let before = without_index();
        let other_networks = pool("10.77.0.0/16", "fd77::/64");
        for networks in [networks, other_networks] {
            let error = Store::open(&path, networks, data_keys(8)).await.unwrap_err();
            assert!(matches!(error, StoreError::WrongDataKey), "{error}");
            assert!(error.to_string().contains("--data-key"), "{error}");
        }
        assert!(without_index() == before, "the store was changed");
        open(&path, networks).await.unwrap().close().await;
    }
    drop(ended);
}

#[tokio::test]
async fn purge_that_could_not_empty_the_log_is_completed_by_the_next() {
    let fixture = Fixture::new().await;
    many_sessions(&fixture, 50).await;
    let gone =
        heads(&fixture, "SELECT connecting_ip FROM sessions WHERE ended_at IS NOT NULL").await;
    let mut reader = fixture.database().await;
    for sql in ["BEGIN", "SELECT * FROM sessions LIMIT 1"] {
        sqlx::query(sql).execute(&mut reader).await.unwrap();
    }
    let error = fixture.store.purge(Duration::ZERO, later(24 * 60 * 60)).await.unwrap_err();
    assert!(matches!(error, StoreError::NotScrubbed), "{error}");
    assert!(found(fixture._dir.path(), &gone) > 0);
    sqlx::query("ROLLBACK").execute(&mut reader).await.unwrap();
    assert!(fixture.store.purge(Duration::ZERO, later(24 * 60 * 60)).await.unwrap().is_nothing());
    assert_eq!(found(fixture._dir.path(), &gone), 0);
}

/// How much of this process was in memory at most since the last call, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn purge_of_a_large_store_takes_little_memory() {
    let fixture = Fixture::new().await;
    fixture.account().await;
    let many = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)
         INSERT INTO sessions (account_id, device_id, connecting_ip, began_at, ended_at)
         SELECT 1, n, randomblob(300), n, CASE WHEN n < 10 THEN n ELSE 1790000000 END FROM numbers";
    fixture.execute(many).await;
    let size = || fs::metadata(path(&fixture)).unwrap().len();
    peak_memory();
    let before = peak_memory();
    let removed = fixture.store.purge(Duration::from_secs(86_400), NOW).await.unwrap();
    assert_eq!(removed.sessions, 9);
    let taken = peak_memory().saturating_sub(before);
    assert!(size() > 64 << 20, "{} bytes", size());
    assert!(taken < 16 << 20, "{taken} bytes of memory for a store of {}", size());
    let names = fs::read_dir(fixture._dir.path()).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(names.count(), 3, "the store and its two companions");
}
