//! Which addresses are issued next: the lowest offset that is free.
//!
//! Offsets from `tunnel_pool.next_offset` on were never issued. Those below it that no device has are in
//! `freed_addresses`: first in quarantine, then free. So an issue costs the same with ten devices and with a million.

use std::time::Duration;

use sqlx::AnyConnection;
use tacit_messages::{DeviceId, UnixSeconds};

use crate::{StoreError, TunnelPool, pool::FIRST_OFFSET, store::Write, times::time_column};

/// How long an address stays unused after its device is removed, so that nobody gets another's late packets.
const QUARANTINE: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the networks that addresses are issued from; none before the first [`adopt`].
pub(crate) async fn recorded(
    connection: &mut AnyConnection,
) -> Result<Option<TunnelPool>, StoreError> {
    let row: Option<(String, String)> =
        sqlx::query_as("SELECT network_v4, network_v6 FROM tunnel_pool WHERE id = 1")
            .fetch_optional(connection)
            .await?;
    let Some((v4, v6)) = row else { return Ok(None) };
    let v4 = v4.parse().map_err(|_| StoreError::Corrupt("tunnel_pool.network_v4"))?;
    let v6 = v6.parse().map_err(|_| StoreError::Corrupt("tunnel_pool.network_v6"))?;
    TunnelPool::new(v4, v6).map(Some).map_err(|_| StoreError::Corrupt("tunnel_pool"))
}

/// Records `pool` as the networks that addresses are issued from.
pub(crate) async fn adopt(write: &mut Write, pool: TunnelPool) -> Result<(), StoreError> {
    let Some(former) = recorded(write.connection()).await? else {
        return insert(write, pool).await;
    };
    let moved = is_moved(former, pool);
    let highest: Option<i64> = sqlx::query_scalar("SELECT MAX(address_offset) FROM devices")
        .fetch_one(write.connection())
        .await?;
    if highest.is_some_and(|highest| moved || highest > i64::from(pool.last_offset())) {
        return Err(StoreError::PoolChanged);
    }
    sqlx::query("UPDATE tunnel_pool SET network_v4 = $1, network_v6 = $2 WHERE id = 1")
        .bind(pool.v4().to_string())
        .bind(pool.v6().to_string())
        .execute(write.connection())
        .await?;
    Ok(())
}

/// Whether the same offset stands for other addresses.
fn is_moved(former: TunnelPool, pool: TunnelPool) -> bool {
    former.addresses(0) != pool.addresses(0)
}

async fn insert(write: &mut Write, pool: TunnelPool) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tunnel_pool (id, network_v4, network_v6, next_offset, next_device_id) VALUES (1, $1, $2, $3, 1)",
    )
    .bind(pool.v4().to_string())
    .bind(pool.v6().to_string())
    .bind(i64::from(FIRST_OFFSET))
    .execute(write.connection())
    .await?;
    Ok(())
}

/// Takes the lowest free offset of `pool`.
pub(crate) async fn issue(
    write: &mut Write,
    pool: TunnelPool,
    now: UnixSeconds,
) -> Result<u32, StoreError> {
    if recorded(write.connection()).await?.is_some_and(|recorded| is_moved(recorded, pool)) {
        return Err(StoreError::PoolChanged);
    }
    end_quarantines(write, now).await?;
    let offset = match reissue(write, pool).await? {
        Some(offset) => Some(offset),
        None => issue_new(write, pool).await?,
    };
    let offset = offset.ok_or(StoreError::PoolFull { setting: pool.narrower() })?;
    read_offset(offset)
}

/// Puts the offset of a removed device into quarantine, and tells all gateways.
pub(crate) async fn free(
    write: &mut Write,
    offset: u32,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO freed_addresses (address_offset, quarantined_until) VALUES ($1, $2)")
        .bind(i64::from(offset))
        .bind(time_column(now.plus(QUARANTINE)))
        .execute(write.connection())
        .await?;
    write.note_device_change().await
}

/// Takes a number that no device had before.
pub(crate) async fn next_device_id(write: &mut Write) -> Result<DeviceId, StoreError> {
    let sql = "UPDATE tunnel_pool SET next_device_id = next_device_id + 1 WHERE id = 1 RETURNING next_device_id - 1";
    let id: i64 = sqlx::query_scalar(sql).fetch_one(write.connection()).await?;
    Ok(DeviceId(id.unsigned_abs()))
}

pub(crate) fn read_offset(column: i64) -> Result<u32, StoreError> {
    u32::try_from(column).map_err(|_| StoreError::Corrupt("devices.address_offset"))
}

/// Ends the quarantines that are over, and returns how many.
pub(crate) async fn end_quarantines(
    write: &mut Write,
    now: UnixSeconds,
) -> Result<u64, StoreError> {
    let ended = sqlx::query(
        "UPDATE freed_addresses SET quarantined_until = NULL WHERE quarantined_until <= $1",
    )
    .bind(time_column(now))
    .execute(write.connection())
    .await?;
    Ok(ended.rows_affected())
}

async fn reissue(write: &mut Write, pool: TunnelPool) -> Result<Option<i64>, StoreError> {
    // Ordered as the index of quarantines is: by offset alone, PostgreSQL would go through all that are in quarantine.
    let offset = sqlx::query_scalar(
        "DELETE FROM freed_addresses WHERE address_offset = (
            SELECT address_offset FROM freed_addresses
            WHERE quarantined_until IS NULL AND address_offset <= $1
            ORDER BY quarantined_until, address_offset LIMIT 1
        ) RETURNING address_offset",
    )
    .bind(i64::from(pool.last_offset()))
    .fetch_optional(write.connection())
    .await?;
    Ok(offset)
}

async fn issue_new(write: &mut Write, pool: TunnelPool) -> Result<Option<i64>, StoreError> {
    let offset = sqlx::query_scalar(
        "UPDATE tunnel_pool SET next_offset = next_offset + 1
         WHERE id = 1 AND next_offset <= $1 RETURNING next_offset - 1",
    )
    .bind(i64::from(pool.last_offset()))
    .fetch_optional(write.connection())
    .await?;
    Ok(offset)
}
