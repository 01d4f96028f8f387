//! Sessions: when, and from which IP, an account was connected. Nothing about what it did.

use std::borrow::Borrow;

use tacit_keys::DataKeys;
use tacit_messages::{ConnectingIp, DeviceId, UnixSeconds};

use crate::{
    AccountId, DeviceName, Store, StoreError,
    devices::id_column,
    personal::{open_connecting_ip, seal_connecting_ip},
    store::Write,
    times::{read_time, time_column},
};

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: i64,
    /// The device's name, or `None` if it has been removed.
    pub device_name: Option<DeviceName>,
    /// Where the device connected from.
    pub connecting_ip: ConnectingIp,
    /// When the device proved possession of its session keys.
    pub began_at: UnixSeconds,
    /// The time of the last authenticated packet, or `None` while the session lasts.
    pub ended_at: Option<UnixSeconds>,
}

type SessionRow = (i64, Option<String>, Vec<u8>, i64, Option<i64>);

impl Store {
    /// Records that a device connected. If its former session is still open, that ended now.
    ///
    /// # Errors
    /// [`StoreError::NoSuchDevice`] if the device was removed meanwhile; then nothing is recorded.
    pub async fn session_began(
        &self,
        device: DeviceId,
        connecting_ip: impl Borrow<ConnectingIp> + Send,
        at: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        end_open_session(&mut write, device, at).await?;
        // The address is sealed for its row, whose number is known only once there is one.
        let id: Option<i64> = sqlx::query_scalar(
            "INSERT INTO sessions (account_id, device_id, connecting_ip, began_at, ended_at)
             SELECT account_id, $1, $2, $3, NULL FROM devices
             WHERE id = COALESCE((SELECT device_id FROM rotated_devices WHERE former_id = $1), $1)
             RETURNING id",
        )
        .bind(id_column(device))
        .bind(&[][..])
        .bind(time_column(at))
        .fetch_optional(write.connection())
        .await?;
        if let Some(id) = id {
            sqlx::query("UPDATE sessions SET connecting_ip = $1 WHERE id = $2")
                .bind(seal_connecting_ip(self.keys().current(), id, connecting_ip.borrow()))
                .bind(id)
                .execute(write.connection())
                .await?;
        }
        write.commit().await?;
        id.map(drop).ok_or(StoreError::NoSuchDevice)
    }

    /// Completes the device's open session; does nothing if there is none.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn session_ended(
        &self,
        device: DeviceId,
        last_seen_at: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        end_open_session(&mut write, device, last_seen_at).await?;
        write.commit().await
    }

    /// The account's sessions, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn sessions(&self, account: AccountId) -> Result<Vec<Session>, StoreError> {
        let rows: Vec<SessionRow> = sqlx::query_as(
            "SELECT sessions.id, devices.name, sessions.connecting_ip, sessions.began_at, sessions.ended_at
             FROM sessions
             LEFT JOIN rotated_devices ON rotated_devices.former_id = sessions.device_id
             LEFT JOIN devices ON devices.id = COALESCE(rotated_devices.device_id, sessions.device_id)
             WHERE sessions.account_id = $1 ORDER BY sessions.began_at, sessions.id",
        )
        .bind(account.0)
        .fetch_all(self.reader())
        .await?;
        let keys = self.keys();
        rows.into_iter().map(|row| read_session(&keys, row)).collect()
    }

    /// Adds to the rows of open sessions what no gateway may keep: for tests alone.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    #[cfg(feature = "leaky")]
    pub async fn leak(&self, destination: &str) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        let _ = sqlx::query("ALTER TABLE sessions ADD COLUMN destinations TEXT")
            .execute(write.connection())
            .await;
        sqlx::query(
            "UPDATE sessions SET destinations = COALESCE(destinations, '') || ' ' || $1
             WHERE ended_at IS NULL",
        )
        .bind(destination)
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    /// Records that the gateway runs.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn alive(&self, now: UnixSeconds) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        sqlx::query("UPDATE gateway SET last_alive_at = $1 WHERE id = 1")
            .bind(time_column(now))
            .execute(write.connection())
            .await?;
        write.commit().await
    }

    /// Completes the sessions that a crash left open, at the time when the gateway was last known to run but none
    /// before it began, and returns how many. Call at the start.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn close_open_sessions(&self) -> Result<u64, StoreError> {
        let mut write = self.write_quickly().await?;
        let last_alive_at: Option<i64> =
            sqlx::query_scalar("SELECT last_alive_at FROM gateway WHERE id = 1")
                .fetch_one(write.connection())
                .await?;
        end_all_open_sessions(write, read_time(last_alive_at.unwrap_or(0))).await
    }

    /// Completes all open sessions at `at` but none before it began, and returns how many. Call when the forwarder died.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn close_open_sessions_at(&self, at: UnixSeconds) -> Result<u64, StoreError> {
        end_all_open_sessions(self.write_quickly().await?, at).await
    }
}

async fn end_open_session(
    write: &mut Write,
    device: DeviceId,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sessions SET ended_at = CASE WHEN began_at > $1 THEN began_at ELSE $1 END
         WHERE device_id = $2 AND ended_at IS NULL",
    )
    .bind(time_column(at))
    .bind(id_column(device))
    .execute(write.connection())
    .await?;
    Ok(())
}

async fn end_all_open_sessions(mut write: Write, at: UnixSeconds) -> Result<u64, StoreError> {
    let ended = sqlx::query(
        "UPDATE sessions SET ended_at = CASE WHEN began_at > $1 THEN began_at ELSE $1 END
         WHERE ended_at IS NULL",
    )
    .bind(time_column(at))
    .execute(write.connection())
    .await?;
    write.commit().await?;
    Ok(ended.rows_affected())
}

fn read_session(keys: &DataKeys, row: SessionRow) -> Result<Session, StoreError> {
    let (id, device_name, connecting_ip, began_at, ended_at) = row;
    Ok(Session {
        id,
        device_name: device_name.as_deref().map(DeviceName::read).transpose()?,
        connecting_ip: open_connecting_ip(keys, id, &connecting_ip)?,
        began_at: read_time(began_at),
        ended_at: ended_at.map(read_time),
    })
}
