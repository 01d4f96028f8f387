//! What the store promises, shown through its public API.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod accounts;
mod allocation;
mod chains;
mod devices;
mod inventory;
mod opening;
mod people;
mod post;
mod reseal;
mod retention;
mod rules;
mod sealing;
mod sessions;

use std::path::{Path, PathBuf};

use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use tacit_accounts::{
    AccountId, Confirmation, Device, DeviceName, EmailAddress, Store, StoreError, TunnelPool,
};
use tacit_keys::{DataKey, DataKeys, PresharedKey, PrivateKey, PublicKey};
use tacit_messages::{ConnectingIp, UnixSeconds};

/// Some time in 2026.
const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

/// A store in a directory of its own.
struct Fixture {
    _dir: tempfile::TempDir,
    path: PathBuf,
    store: Store,
}

impl Fixture {
    async fn new() -> Self {
        Self::with_pool(pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await
    }

    async fn with_pool(pool: TunnelPool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tacit.db");
        let store = open(&path, pool).await.unwrap();
        Self { _dir: dir, path, store }
    }

    async fn account(&self) -> AccountId {
        add_account(&self.store, "ann@example.org").await
    }

    /// Changes the database behind the store's back.
    async fn execute(&self, sql: &str) {
        let statement = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
        statement.execute(&mut self.database().await).await.unwrap();
    }

    /// How many rows a table has.
    async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        count.fetch_one(&mut self.database().await).await.unwrap()
    }

    /// The store as any SQLite program sees it.
    async fn database(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(&self.path).connect().await.unwrap()
    }
}

/// Opens a store with the data key of all tests.
async fn open(path: &Path, pool: TunnelPool) -> Result<Store, StoreError> {
    Store::open(path, pool, data_keys(7)).await
}

fn data_keys(number: u8) -> DataKeys {
    DataKeys::new(DataKey::from_bytes([number; 32]))
}

fn pool(v4: &str, v6: &str) -> TunnelPool {
    TunnelPool::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap()
}

async fn add_account(store: &Store, email: &str) -> AccountId {
    add_account_at(store, email, NOW).await
}

async fn add_account_at(store: &Store, email: &str, now: UnixSeconds) -> AccountId {
    store.add_account(&self::email(email), Confirmation::OfAge, None, now).await.unwrap().id
}

async fn add_device(store: &Store, account: AccountId, name: &str) -> Result<Device, StoreError> {
    add_device_at(store, account, name, NOW).await
}

async fn add_device_at(
    store: &Store,
    account: AccountId,
    name: &str,
    now: UnixSeconds,
) -> Result<Device, StoreError> {
    let preshared_key = PresharedKey::generate();
    store.add_device(account, &self::name(name), new_key(), &preshared_key, now).await
}

fn email(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn new_key() -> PublicKey {
    PrivateKey::generate().public_key()
}

fn ip(text: &str) -> ConnectingIp {
    ConnectingIp::new(text.parse().unwrap())
}

fn later(seconds: u64) -> UnixSeconds {
    UnixSeconds(NOW.0 + seconds)
}
