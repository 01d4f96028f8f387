//! What the tests of both stores have in common.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use sqlx::{AnyConnection, Connection};
use tacit_accounts::{
    AccountId, Confirmation, Database, Device, DeviceName, EmailAddress, Store, StoreError,
    TunnelPool,
};
use tacit_keys::{DataKey, DataKeys, PresharedKey, PrivateKey, PublicKey};
use tacit_messages::{ConnectingIp, UnixSeconds};
use tacit_tests::postgres::SharedDatabase;

use crate::ON;

/// Which program keeps the stores of a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// Some time in 2026.
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

/// Where a store's files are; they go when this does.
pub(crate) enum Place {
    Directory(tempfile::TempDir),
    Server(SharedDatabase, Mutex<Vec<tempfile::TempDir>>),
}

impl Place {
    pub(crate) fn new() -> Self {
        if ON == On::Sqlite {
            Self::Directory(tempfile::tempdir().unwrap())
        } else {
            Self::Server(SharedDatabase::create(), Mutex::default())
        }
    }

    pub(crate) fn database(&self) -> Database {
        match self {
            Self::Directory(dir) => Database::Sqlite(dir.path().join("tacit.db")),
            Self::Server(database, _) => Database::Postgres(database.url().parse().unwrap()),
        }
    }

    /// What another process finds it by.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Directory(dir) => dir.path().join("tacit.db").display().to_string(),
            Self::Server(database, _) => database.url(),
        }
    }

    /// The directory of the files, with everything in them that is committed.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Directory(dir) => dir.path().to_owned(),
            Self::Server(database, copies) => {
                database.flush();
                let copy = tempfile::tempdir().unwrap();
                copy_tables(&database.files_dir(), copy.path());
                let path = copy.path().to_owned();
                copies.lock().unwrap().push(copy);
                path
            }
        }
    }

    /// The store as any program sees it.
    pub(crate) async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let url = match self {
            Self::Directory(dir) => format!("sqlite:{}", dir.path().join("tacit.db").display()),
            Self::Server(database, _) => database.url(),
        };
        AnyConnection::connect(&url).await.unwrap()
    }
}

/// What the server notes of the values in columns is in pg_statistic (2619), long ones in its other table (2840).
const STATISTICS: [u32; 2] = [2619, 2840];

/// Copies the files of a database but for those of the server's own tables, which have the low numbers. They know of no
/// values, but for the statistics.
fn copy_tables(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let number: String = name.chars().take_while(char::is_ascii_digit).collect();
        if number.parse().is_ok_and(|number| number >= 16_384 || STATISTICS.contains(&number)) {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

/// A store in a place of its own.
pub(crate) struct Fixture {
    pub(crate) _dir: Place,
    pub(crate) path: Database,
    pub(crate) store: Store,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with_pool(pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await
    }

    pub(crate) async fn with_pool(pool: TunnelPool) -> Self {
        let place = Place::new();
        let database = place.database();
        let store = open(&database, pool).await.unwrap();
        Self { _dir: place, path: database, store }
    }

    pub(crate) async fn account(&self) -> AccountId {
        add_account(&self.store, "ann@example.org").await
    }

    /// Changes the database behind the store's back.
    pub(crate) async fn execute(&self, sql: &str) {
        let statement = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
        statement.execute(&mut self.database().await).await.unwrap();
    }

    /// How many rows a table has.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        count.fetch_one(&mut self.database().await).await.unwrap()
    }

    /// The store as any program sees it.
    pub(crate) async fn database(&self) -> AnyConnection {
        self._dir.connect().await
    }

    /// What keeps everybody else from writing to `pending_addresses`, and nobody from reading it.
    pub(crate) fn others_cannot_write(&self) -> &'static str {
        match self._dir {
            Place::Directory(_) => "BEGIN IMMEDIATE",
            Place::Server(..) => "BEGIN; LOCK TABLE pending_addresses IN SHARE MODE",
        }
    }

    /// Waits until a server has ended what somebody had begun who is dead: it goes on with the last statement before it
    /// finds out. SQLite has no server.
    pub(crate) async fn end_of_what_the_dead_began(&self) {
        let Place::Server(..) = self._dir else { return };
        let mut database = self.database().await;
        let open = "SELECT COUNT(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
        for _ in 0..2000 {
            let count: i64 = sqlx::query_scalar(open).fetch_one(&mut database).await.unwrap();
            if count == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("somebody's transaction does not end");
    }
}

/// Opens a store with the data key of all tests.
pub(crate) async fn open(
    database: impl Into<Database>,
    pool: TunnelPool,
) -> Result<Store, StoreError> {
    Store::open(database, pool, data_keys(7)).await
}

pub(crate) fn data_keys(number: u8) -> DataKeys {
    DataKeys::new(DataKey::from_bytes([number; 32]))
}

pub(crate) fn pool(v4: &str, v6: &str) -> TunnelPool {
    TunnelPool::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap()
}

pub(crate) async fn add_account(store: &Store, email: &str) -> AccountId {
    add_account_at(store, email, NOW).await
}

pub(crate) async fn add_account_at(store: &Store, email: &str, now: UnixSeconds) -> AccountId {
    store.add_account(&self::email(email), Confirmation::OfAge, None, now).await.unwrap().id
}

pub(crate) async fn add_device(
    store: &Store,
    account: AccountId,
    name: &str,
) -> Result<Device, StoreError> {
    add_device_at(store, account, name, NOW).await
}

pub(crate) async fn add_device_at(
    store: &Store,
    account: AccountId,
    name: &str,
    now: UnixSeconds,
) -> Result<Device, StoreError> {
    let preshared_key = PresharedKey::generate();
    store.add_device(account, &self::name(name), new_key(), &preshared_key, now).await
}

pub(crate) fn email(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

pub(crate) fn new_key() -> PublicKey {
    PrivateKey::generate().public_key()
}

pub(crate) fn ip(text: &str) -> ConnectingIp {
    ConnectingIp::new(text.parse().unwrap())
}

pub(crate) fn later(seconds: u64) -> UnixSeconds {
    UnixSeconds(NOW.0 + seconds)
}
