//! Sessions: when, and from which IP, an account was connected. Nothing about what it did.

use std::borrow::Borrow;

use sqlx::AssertSqlSafe;
use tacit_keys::DataKeys;
use tacit_messages::{ConnectingIp, DeviceId, UnixSeconds};

use crate::{
    AccountId, DeviceName, Store, StoreError,
    chain::{self, Hash},
    device_changes::unwelcome,
    devices::{id_column, read_id},
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

const SESSIONS: &str =
    "SELECT sessions.id, devices.name, sessions.connecting_ip, sessions.began_at, sessions.ended_at
     FROM sessions
     LEFT JOIN rotated_devices ON rotated_devices.former_id = sessions.device_id
     LEFT JOIN devices ON devices.id = COALESCE(rotated_devices.device_id, sessions.device_id)
     WHERE sessions.account_id = $1";

/// A place in the list of an account's sessions: when the one before it began, and its number.
pub(crate) type SessionPlace = (UnixSeconds, i64);

/// Before the first session.
pub(crate) const FIRST_SESSION: SessionPlace = (UnixSeconds(0), 0);

/// A change of the session records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// A session began.
    Began {
        /// The device.
        device: DeviceId,
        /// Where the customer connects from.
        connecting_ip: ConnectingIp,
        /// When.
        at: UnixSeconds,
    },
    /// A session ended.
    Ended {
        /// The device.
        device: DeviceId,
        /// The time of its last authenticated packet.
        last_seen_at: UnixSeconds,
    },
    /// The forwarder is gone, and all sessions with it.
    AllEnded {
        /// When it died: no packet came later.
        at: UnixSeconds,
    },
    /// What no gateway may keep: for tests alone.
    #[cfg(feature = "leaky")]
    Leaked {
        /// Where a packet went to.
        destination: String,
    },
}

impl SessionChange {
    fn began(&self) -> Option<DeviceId> {
        match self {
            Self::Began { device, .. } => Some(*device),
            _ => None,
        }
    }
}

/// Writes changes of a gateway's sessions in groups, each once, however often it has to be tried.
#[derive(Debug)]
pub struct SessionRecorder {
    pub(crate) store: Store,
    /// How many groups are written.
    pub(crate) groups: i64,
    /// What tells the store from others.
    pub(crate) mark: Option<Hash>,
}

impl SessionRecorder {
    /// Writes `changes` in order, all or none of them; they are on the disk when this returns. After an error, try the
    /// same changes again: that they were written after all is found out then.
    ///
    /// Returns the devices that began a session although they may not be connected any more.
    ///
    /// # Errors
    /// [`StoreError::GatewayReplaced`] if somebody else has written as this gateway, [`StoreError::Database`]
    pub async fn record(
        &mut self,
        changes: &[SessionChange],
        now: UnixSeconds,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let mut write = self.store.write_beside_others().await?;
        // A server may have done what it could not say that it did.
        let is_new = sqlx::query(
            "UPDATE gateways SET session_groups = session_groups + 1 WHERE id = $1 AND session_groups = $2",
        )
        .bind(self.store.gateway)
        .bind(self.groups)
        .execute(write.connection())
        .await?
        .rows_affected()
            == 1;
        let is_lost = !is_new && {
            let written = self.groups_written(&mut write).await?;
            let written = written.ok_or(StoreError::GatewayReplaced)?;
            if written > self.groups + 1 {
                return Err(StoreError::GatewayReplaced);
            }
            written < self.groups
        };
        if is_lost {
            self.count_as_written(&mut write).await?;
        }
        if is_new || is_lost {
            self.store.record_changes(&mut write, changes).await?;
        }
        let began: Vec<_> = changes.iter().filter_map(SessionChange::began).collect();
        let unwelcome = unwelcome(write.connection(), &began, now).await?;
        write.commit().await?;
        self.groups += 1;
        Ok(unwelcome)
    }

    /// Goes on with what the gateway has counted itself: a server that took another's place may not have the last groups
    /// that were written there.
    async fn count_as_written(&self, write: &mut Write) -> Result<(), StoreError> {
        sqlx::query("UPDATE gateways SET session_groups = $1 WHERE id = $2")
            .bind(self.groups + 1)
            .bind(self.store.gateway)
            .execute(write.connection())
            .await?;
        Ok(())
    }

    async fn groups_written(&self, write: &mut Write) -> Result<Option<i64>, StoreError> {
        let groups = sqlx::query_scalar("SELECT session_groups FROM gateways WHERE id = $1");
        Ok(groups.bind(self.store.gateway).fetch_optional(write.connection()).await?)
    }
}

impl Store {
    /// Who writes the sessions of this gateway, and nobody beside it.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn session_recorder(&self) -> Result<SessionRecorder, StoreError> {
        let sql = "SELECT session_groups FROM gateways WHERE id = $1";
        let mut reader = self.reader().acquire().await?;
        let groups = sqlx::query_scalar(sql).bind(self.gateway).fetch_one(&mut *reader).await?;
        let mark = chain::mark(&mut reader, &self.keys()).await?;
        Ok(SessionRecorder { store: self.clone(), groups, mark })
    }

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
        let mut write = self.write_beside_others().await?;
        let is_there = self.begin_session(&mut write, device, connecting_ip.borrow(), at).await?;
        write.commit().await?;
        if is_there { Ok(()) } else { Err(StoreError::NoSuchDevice) }
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
        let mut write = self.write_beside_others().await?;
        self.end_session(&mut write, device, last_seen_at).await?;
        write.commit().await
    }

    /// The account's sessions, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn sessions(&self, account: AccountId) -> Result<Vec<Session>, StoreError> {
        self.sessions_after(account, FIRST_SESSION, i64::MAX).await
    }

    /// Up to `most` of the account's sessions that follow a place, oldest first.
    pub(crate) async fn sessions_after(
        &self,
        account: AccountId,
        (began_at, id): SessionPlace,
        most: i64,
    ) -> Result<Vec<Session>, StoreError> {
        let sql = format!(
            "{SESSIONS} AND (sessions.began_at, sessions.id) > ($2, $3)
             ORDER BY sessions.began_at, sessions.id LIMIT $4"
        );
        let rows = sqlx::query_as(AssertSqlSafe(sql)).bind(account.0).bind(time_column(began_at));
        let rows: Vec<SessionRow> = rows.bind(id).bind(most).fetch_all(self.reader()).await?;
        let keys = self.keys();
        rows.into_iter().map(|row| read_session(&keys, row)).collect()
    }

    /// Up to `most` of the account's sessions, latest first, and how many there are in all.
    pub(crate) async fn latest_sessions(
        &self,
        account: AccountId,
        most: i64,
    ) -> Result<(Vec<Session>, u64), StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE account_id = $1")
            .bind(account.0)
            .fetch_one(self.reader())
            .await?;
        let sql = format!("{SESSIONS} ORDER BY sessions.began_at DESC, sessions.id DESC LIMIT $2");
        let rows = sqlx::query_as(AssertSqlSafe(sql)).bind(account.0).bind(most);
        let rows: Vec<SessionRow> = rows.fetch_all(self.reader()).await?;
        let keys = self.keys();
        let sessions = rows.into_iter().map(|row| read_session(&keys, row));
        Ok((sessions.collect::<Result<_, _>>()?, count.unsigned_abs()))
    }

    /// The account's devices that have a session now.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn connected_devices(&self, account: AccountId) -> Result<Vec<DeviceId>, StoreError> {
        let rows: Vec<i64> = sqlx::query_scalar(
            "SELECT COALESCE(rotated_devices.device_id, sessions.device_id) FROM sessions
             LEFT JOIN rotated_devices ON rotated_devices.former_id = sessions.device_id
             WHERE sessions.account_id = $1 AND sessions.ended_at IS NULL",
        )
        .bind(account.0)
        .fetch_all(self.reader())
        .await?;
        Ok(rows.into_iter().map(read_id).collect())
    }

    /// Completes the sessions that a crash of this gateway left open, at the time when it was last known to run but none
    /// before it began, and returns how many. Call at the start.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn close_open_sessions(&self) -> Result<u64, StoreError> {
        let mut write = self.write_beside_others().await?;
        let ended = self.close_left_open(&mut write).await?;
        write.commit().await?;
        Ok(ended)
    }

    pub(crate) async fn close_left_open(&self, write: &mut Write) -> Result<u64, StoreError> {
        let last_alive_at: Option<i64> =
            sqlx::query_scalar("SELECT last_alive_at FROM gateways WHERE id = $1")
                .bind(self.gateway)
                .fetch_one(write.connection())
                .await?;
        // What others completed while this gateway was away stays as they did.
        sqlx::query(
            "UPDATE sessions SET gateway_id = NULL WHERE gateway_id = $1 AND ended_at IS NOT NULL",
        )
        .bind(self.gateway)
        .execute(write.connection())
        .await?;
        self.end_sessions(write, read_time(last_alive_at.unwrap_or(0))).await
    }

    /// Completes all open sessions of this gateway at `at` but none before it began, and returns how many. Call when the
    /// forwarder died.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn close_open_sessions_at(&self, at: UnixSeconds) -> Result<u64, StoreError> {
        let mut write = self.write_beside_others().await?;
        let ended = self.end_sessions(&mut write, at).await?;
        write.commit().await?;
        Ok(ended)
    }

    pub(crate) async fn record_changes(
        &self,
        write: &mut Write,
        changes: &[SessionChange],
    ) -> Result<(), StoreError> {
        for change in changes {
            match change {
                SessionChange::Began { device, connecting_ip, at } => {
                    // If it was removed since, its account's record ends with the sessions before.
                    self.begin_session(write, *device, connecting_ip, *at).await?;
                }
                SessionChange::Ended { device, last_seen_at } => {
                    self.end_session(write, *device, *last_seen_at).await?;
                }
                SessionChange::AllEnded { at } => {
                    self.end_sessions(write, *at).await?;
                }
                #[cfg(feature = "leaky")]
                SessionChange::Leaked { destination } => leak(write, destination).await?,
            }
        }
        Ok(())
    }

    /// Returns whether there is such a device.
    async fn begin_session(
        &self,
        write: &mut Write,
        device: DeviceId,
        connecting_ip: &ConnectingIp,
        at: UnixSeconds,
    ) -> Result<bool, StoreError> {
        self.end_session(write, device, at).await?;
        // The address is sealed for its row, whose number is known only once there is one.
        let id: Option<i64> = sqlx::query_scalar(
            "INSERT INTO sessions (account_id, device_id, connecting_ip, began_at, ended_at, gateway_id)
             SELECT account_id, $1, $2, $3, NULL, $4 FROM devices
             WHERE id = COALESCE((SELECT device_id FROM rotated_devices WHERE former_id = $1), $1)
             RETURNING id",
        )
        .bind(id_column(device))
        .bind(&[][..])
        .bind(time_column(at))
        .bind(self.gateway)
        .fetch_optional(write.connection())
        .await?;
        let Some(id) = id else { return Ok(false) };
        sqlx::query("UPDATE sessions SET connecting_ip = $1 WHERE id = $2")
            .bind(seal_connecting_ip(self.keys().current(), id, connecting_ip))
            .bind(id)
            .execute(write.connection())
            .await?;
        Ok(true)
    }

    /// Completes the device's session at this gateway, also if others have because this one was silent.
    async fn end_session(
        &self,
        write: &mut Write,
        device: DeviceId,
        at: UnixSeconds,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE sessions SET ended_at = CASE WHEN began_at > $1 THEN began_at ELSE $1 END, gateway_id = NULL
             WHERE gateway_id = $2 AND device_id = $3",
        )
        .bind(time_column(at))
        .bind(self.gateway)
        .bind(id_column(device))
        .execute(write.connection())
        .await?;
        Ok(())
    }

    async fn end_sessions(&self, write: &mut Write, at: UnixSeconds) -> Result<u64, StoreError> {
        let ended = sqlx::query(
            "UPDATE sessions SET ended_at = CASE WHEN began_at > $1 THEN began_at ELSE $1 END, gateway_id = NULL
             WHERE gateway_id = $2",
        )
        .bind(time_column(at))
        .bind(self.gateway)
        .execute(write.connection())
        .await?;
        Ok(ended.rows_affected())
    }
}

/// Adds to the rows of open sessions what no gateway may keep: for tests alone.
#[cfg(feature = "leaky")]
async fn leak(write: &mut Write, destination: &str) -> Result<(), StoreError> {
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
    Ok(())
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
