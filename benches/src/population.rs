//! A store full of devices, written before the gateway starts.

use std::path::Path;

use anyhow::{Context, Result};
use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use tacit_accounts::{Account, Store, TunnelPool, accounts::Confirmation, devices::DeviceName};
use tacit_keys::{DataKeys, PresharedKey, PrivateKey};
use tacit_messages::UnixSeconds;
use tacit_tests::{config::Config, lab::endpoint};

/// The tunnel networks that the store is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Networks {
    pub(crate) v4: &'static str,
    pub(crate) v6: &'static str,
}

/// What a gateway has unless told otherwise: room for 65,533 devices.
pub(crate) const DEFAULT: Networks = Networks { v4: "10.66.0.0/16", v6: "fd66:7ac1:7::/64" };
/// Room for 1,048,573 devices.
pub(crate) const LARGE: Networks = Networks { v4: "10.64.0.0/12", v6: "fd66:7ac1:7::/64" };

/// Makes a gateway's store with `usable` devices, whose configs are returned, and `others` of which only rows exist.
///
/// The configs lack the gateway's key, which is made at its first start.
pub(crate) fn make_store(
    data_dir: &Path,
    networks: Networks,
    usable: usize,
    others: u32,
) -> Result<Vec<Config>> {
    let path = data_dir.join("store.sqlite");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let pool = TunnelPool::new(networks.v4.parse()?, networks.v6.parse()?)?;
        let keys = DataKeys::create(&data_dir.join("data.key"))?;
        let store = Store::open(&path, pool, keys).await?.with_device_limit(u32::MAX);
        let account = store
            .add_account(
                &"bench@example.org".parse()?,
                Confirmation::OfAge,
                None,
                UnixSeconds::now(),
            )
            .await?;
        let mut configs = Vec::with_capacity(usable);
        for number in 0..usable {
            configs.push(add_device(&store, &account, number).await?);
        }
        store.close().await;
        if others > 0 {
            add_rows(&path, &account, others).await.context("writing rows of devices")?;
        }
        Ok(configs)
    })
}

async fn add_device(store: &Store, account: &Account, number: usize) -> Result<Config> {
    let (private, preshared) = (PrivateKey::generate(), PresharedKey::generate());
    let name = DeviceName::parse(&format!("live {number}"))?;
    let now = UnixSeconds::now();
    let device = store.add_device(account.id, &name, private.public_key(), &preshared, now).await?;
    Ok(Config {
        text: String::new(),
        private_key: *private.expose(),
        gateway_key: [0; 32],
        preshared_key: *preshared.expose(),
        tunnel_v4: device.tunnel_v4,
        tunnel_v6: device.tunnel_v6,
        endpoint: endpoint(),
    })
}

/// Writes rows as [`Store::add_device`] would, all in one transaction: a million single ones take an hour.
async fn add_rows(path: &Path, account: &Account, count: u32) -> Result<()> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Off)
        .connect()
        .await?;
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $1)
         INSERT INTO devices (id, account_id, name, public_key, preshared_key, address_offset, created_at)
         SELECT next_device_id + n, $2, 'device ' || n, randomblob(32), randomblob(32), next_offset + n, $3
         FROM numbers, tunnel_pool",
    )
    .bind(count)
    .bind(account.id.0)
    .bind(UnixSeconds::now().0.cast_signed())
    .execute(&mut *transaction)
    .await?;
    sqlx::query("UPDATE tunnel_pool SET next_offset = next_offset + $1, next_device_id = next_device_id + $1")
        .bind(count)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(connection.close().await?)
}
