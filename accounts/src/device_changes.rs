//! Changes of devices that every gateway has to know of at once: who is removed, or got another key, is to be cut.
//!
//! Each such change counts up a number in the store, which every gateway looks at now and then. PostgreSQL also tells
//! those that listen, so that they look at once.

use std::{collections::HashSet, time::Duration};

use sqlx::{AnyConnection, any::AnyExecutor, postgres::PgListener};
use tacit_messages::{DeviceId, UnixSeconds};
use tokio::time::{sleep, timeout};

use crate::{
    Database, HandOver, Store, StoreError,
    database::postgres::{CHANNEL, MOVING_CHANNEL},
    devices::id_column,
    store::Write,
    times::time_column,
};

/// How many devices are asked for at once.
const BATCH: usize = 500;

impl Store {
    /// How often devices were removed or got another key, by any gateway.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn device_changes(&self) -> Result<i64, StoreError> {
        let sql = "SELECT device_changes FROM gateway WHERE id = 1";
        Ok(sqlx::query_scalar(sql).fetch_one(self.reader()).await?)
    }

    /// Those of `devices` that may not be connected any more: removed, with another key, or without a running service.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn unwelcome(
        &self,
        devices: &[DeviceId],
        now: UnixSeconds,
    ) -> Result<Vec<DeviceId>, StoreError> {
        unwelcome(&mut *self.reader().acquire().await?, devices, now).await
    }

    /// Waits for changes of devices by any gateway, and for devices that another hands over.
    #[must_use]
    pub fn watch_devices(&self) -> DeviceWatch {
        DeviceWatch { database: self.tells().then(|| self.database().clone()), listener: None }
    }
}

pub(crate) async fn unwelcome(
    connection: &mut AnyConnection,
    devices: &[DeviceId],
    now: UnixSeconds,
) -> Result<Vec<DeviceId>, StoreError> {
    let mut unwelcome = Vec::new();
    for batch in devices.chunks(BATCH) {
        let numbers: Vec<_> = batch.iter().map(|id| id_column(*id).to_string()).collect();
        let sql = format!(
            "SELECT devices.id FROM devices JOIN accounts ON accounts.id = devices.account_id
             WHERE devices.id IN ({})
             AND (accounts.service_until IS NULL OR accounts.service_until > $1)",
            numbers.join(", ")
        );
        // Numbers and nothing else are put into the statement.
        let welcome: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(time_column(now))
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        let welcome: HashSet<_> = welcome.into_iter().collect();
        unwelcome.extend(batch.iter().filter(|id| !welcome.contains(&id_column(**id))));
    }
    Ok(unwelcome)
}

impl Write {
    /// Tells all gateways that a device may not be connected any more, once this change is committed.
    pub(crate) async fn note_device_change(&mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE gateway SET device_changes = device_changes + 1 WHERE id = 1")
            .execute(self.connection())
            .await?;
        self.have_gateways_look().await
    }

    /// Has all gateways look at once for what was changed, once this change is committed.
    pub(crate) async fn have_gateways_look(&mut self) -> Result<(), StoreError> {
        if self.tells() {
            notify(self.connection(), CHANNEL, "").await?;
        }
        Ok(())
    }
}

/// Has the server tell whoever listens.
pub(crate) async fn notify(
    database: impl AnyExecutor<'_>,
    channel: &'static str,
    payload: &str,
) -> Result<(), StoreError> {
    let told = sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)");
    told.bind(channel).bind(payload.to_owned()).execute(database).await?;
    Ok(())
}

/// Waits for changes of devices, and for devices that are handed over.
#[derive(Debug)]
pub struct DeviceWatch {
    /// The database that tells of them, if one does.
    database: Option<Database>,
    listener: Option<PgListener>,
}

impl DeviceWatch {
    /// Waits until the server tells of a change, or of devices that a gateway hands over, which are returned; but no
    /// longer than `limit`, and where no server tells, as long as that.
    pub async fn wait(&mut self, limit: Duration) -> Option<HandOver> {
        if self.database.is_some() && self.listener.is_none() {
            // Whoever has just begun to listen has missed what came before, and looks at once.
            self.listener = self.listen(limit).await;
            if self.listener.is_some() {
                return None;
            }
        }
        let Some(listener) = &mut self.listener else {
            sleep(limit).await;
            return None;
        };
        match timeout(limit, listener.recv()).await {
            Ok(Ok(told)) if told.channel() == MOVING_CHANNEL => {
                Some(HandOver(told.payload().to_owned()))
            }
            Ok(Err(_)) => {
                self.listener = None;
                sleep(limit).await;
                None
            }
            Ok(Ok(_)) | Err(_) => None,
        }
    }

    async fn listen(&self, limit: Duration) -> Option<PgListener> {
        let Some(Database::Postgres(server)) = &self.database else { return None };
        let listening = async {
            let mut listener = PgListener::connect(server.url()).await?;
            listener.listen_all([CHANNEL, MOVING_CHANNEL]).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        timeout(limit, listening).await.ok()?.ok()
    }
}
