//! Gateways that share a store: who is who, and who is gone.
//!
//! Each gateway completes its own sessions. One that has been silent for long is taken for dead: the others complete its
//! sessions at the time when it was last known to run. If it was only cut off from the store, it corrects them once it
//! is back, for such a row keeps the gateway's number until that has said so itself.
//!
//! Others may also go on without it: take its name, remove it, or change the data key. So each change of a gateway's
//! begins with a look whether the gateway still is who it was.

use std::{sync::Arc, time::Duration};

use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;

use crate::{
    Store, StoreError, Unwritten, data_keys,
    store::Write,
    times::{read_time, time_column},
};

/// How long a gateway may be silent before the others complete its sessions; it should be heard of twice a minute.
pub const PRESUMED_DEAD_AFTER: Duration = Duration::from_secs(180);

/// The gateway that a store is opened for, unless told otherwise.
pub(crate) const FIRST: i64 = 1;

/// What there is of a gateway in the store.
type Row = (i64, Option<String>, Option<i64>);

/// A gateway's start at a store that others share.
#[derive(Debug)]
pub struct Start {
    /// The store in the gateway's hands.
    pub store: Store,
    /// How many changes of sessions that waited were written.
    pub taken_up: usize,
    /// How many sessions were completed that its predecessor had left open.
    pub closed: u64,
}

impl Store {
    /// Writes sessions and takes letters as the gateway called `name`. Its `identity` is no other gateway's, and stays
    /// the same over its restarts. What waits since its last stop is written as in [`Self::take_up`], and sessions that
    /// are still open then are completed as in [`Self::close_open_sessions`].
    ///
    /// # Errors
    /// [`StoreError::GatewayNameTaken`] if another gateway of this name runs.
    pub async fn for_gateway(
        self,
        name: &str,
        identity: &str,
        waiting: Option<&Unwritten>,
        now: UnixSeconds,
    ) -> Result<Start, StoreError> {
        let mut write = self.write().await?;
        let former = match waiting {
            Some(waiting) => own_number(&mut write, waiting.gateway, identity).await?,
            None => None,
        };
        let gateway = claim(&mut write, name, identity, now).await?;
        check_own(&mut write, gateway, identity, &self.keys()).await?;
        let taken_up = match waiting {
            // What others wrote since under the number that it had is none of its own.
            Some(waiting) => {
                let theirs = self.of_gateway(former.unwrap_or(gateway));
                theirs.write_waiting(&mut write, waiting).await?
            }
            None => 0,
        };
        let mut store = self.of_gateway(gateway);
        let closed = store.close_left_open(&mut write).await?;
        // From now on nobody else can have the name.
        store.note_alive(&mut write, now).await?;
        write.commit().await?;
        store.identity = Some(Arc::from(identity));
        Ok(Start { store, taken_up, closed })
    }

    /// Records that the gateway runs. Sessions of it that others completed meanwhile, because it was silent, go on.
    ///
    /// # Errors
    /// [`StoreError::GatewayReplaced`] or [`StoreError::WrongDataKey`] if others have gone on without it: then it must
    /// end, as after every change that fails so.
    pub async fn alive(&self, now: UnixSeconds) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        self.note_alive(&mut write, now).await?;
        sqlx::query(
            "UPDATE sessions SET ended_at = NULL WHERE gateway_id = $1 AND ended_at IS NOT NULL",
        )
        .bind(self.gateway)
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    async fn note_alive(&self, write: &mut Write, now: UnixSeconds) -> Result<(), StoreError> {
        sqlx::query("UPDATE gateways SET last_alive_at = $1 WHERE id = $2")
            .bind(time_column(now))
            .bind(self.gateway)
            .execute(write.connection())
            .await?;
        Ok(())
    }

    /// Completes the sessions of other gateways that have been silent for long, at the time when each was last known to
    /// run but none before it began, and returns how many.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn close_sessions_of_the_dead(&self, now: UnixSeconds) -> Result<u64, StoreError> {
        let latest = time_column(now.minus(PRESUMED_DEAD_AFTER));
        let dead: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM gateways WHERE last_alive_at <= $1 AND id != $2
             AND EXISTS (SELECT 1 FROM sessions WHERE gateway_id = gateways.id AND ended_at IS NULL)",
        )
        .bind(latest)
        .bind(self.gateway)
        .fetch_one(self.reader())
        .await?;
        if dead == 0 {
            return Ok(0);
        }
        let mut write = self.write().await?;
        let closed = sqlx::query(
            "UPDATE sessions SET ended_at = (
                SELECT CASE WHEN sessions.began_at > last_alive_at THEN sessions.began_at ELSE last_alive_at END
                FROM gateways WHERE gateways.id = sessions.gateway_id
             )
             WHERE ended_at IS NULL
             AND gateway_id IN (SELECT id FROM gateways WHERE last_alive_at <= $1 AND id != $2)",
        )
        .bind(latest)
        .bind(self.gateway)
        .execute(write.connection())
        .await?
        .rows_affected();
        write.commit().await?;
        Ok(closed)
    }

    /// Fails if another gateway runs.
    ///
    /// # Errors
    /// [`StoreError::OtherGatewaysRun`]
    pub async fn check_alone(&self, now: UnixSeconds) -> Result<(), StoreError> {
        let others: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM gateways WHERE last_alive_at > $1 AND id != $2",
        )
        .bind(time_column(now.minus(PRESUMED_DEAD_AFTER)))
        .bind(self.gateway)
        .fetch_one(self.reader())
        .await?;
        if others == 0 { Ok(()) } else { Err(StoreError::OtherGatewaysRun) }
    }
}

/// Fails unless the gateway of this number is who it was, and has the keys that the store is sealed with now.
pub(crate) async fn check_own(
    write: &mut Write,
    gateway: i64,
    identity: &str,
    keys: &DataKeys,
) -> Result<(), StoreError> {
    let rows: Vec<(Option<i64>, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT gateways.id, data_keys.id, data_keys.check_value FROM data_keys
         LEFT JOIN gateways ON gateways.id = $1 AND gateways.identity = $2",
    )
    .bind(gateway)
    .bind(identity.to_owned())
    .fetch_all(write.connection())
    .await?;
    if !rows.iter().any(|(found, ..)| found.is_some()) {
        return Err(StoreError::GatewayReplaced);
    }
    let recorded: Vec<_> = rows.into_iter().map(|(_, id, sealed)| (id, sealed)).collect();
    data_keys::check(&recorded, keys)
}

/// The number, if it is no other gateway's.
async fn own_number(
    write: &mut Write,
    number: i64,
    identity: &str,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT id FROM gateways WHERE id = $1 AND COALESCE(identity, $2) = $2";
    let own = sqlx::query_scalar(sql).bind(number).bind(identity.to_owned());
    Ok(own.fetch_optional(write.connection()).await?)
}

/// Makes a row the gateway's own, and returns its number.
async fn claim(
    write: &mut Write,
    name: &str,
    identity: &str,
    now: UnixSeconds,
) -> Result<i64, StoreError> {
    let Some(id) = find(write, name, identity, now).await? else {
        return make(write, name, identity).await;
    };
    take(write, id, name, identity).await?;
    Ok(id)
}

/// Finds the gateway's row: its own, that of a dead one of its name, or the one that was there before gateways had names.
async fn find(
    write: &mut Write,
    name: &str,
    identity: &str,
    now: UnixSeconds,
) -> Result<Option<i64>, StoreError> {
    let named: Option<Row> =
        sqlx::query_as("SELECT id, identity, last_alive_at FROM gateways WHERE name = $1")
            .bind(name)
            .fetch_optional(write.connection())
            .await?;
    if let Some((id, other, last_alive_at)) = named {
        let latest = now.minus(PRESUMED_DEAD_AFTER);
        let is_silent = last_alive_at.is_none_or(|alive_at| read_time(alive_at) <= latest);
        return match other {
            Some(other) if other != identity && !is_silent => Err(StoreError::GatewayNameTaken),
            _ => Ok(Some(id)),
        };
    }
    let own_or_first = sqlx::query_scalar(
        "SELECT id FROM gateways WHERE identity = $1 OR identity IS NULL
         ORDER BY CASE WHEN identity IS NULL THEN 1 ELSE 0 END LIMIT 1",
    )
    .bind(identity)
    .fetch_optional(write.connection())
    .await?;
    Ok(own_or_first)
}

async fn take(write: &mut Write, id: i64, name: &str, identity: &str) -> Result<(), StoreError> {
    // Under another name the gateway has left a row, which is a dead one's from now on.
    sqlx::query("UPDATE gateways SET identity = NULL WHERE identity = $1 AND id != $2")
        .bind(identity)
        .bind(id)
        .execute(write.connection())
        .await?;
    // What another counted is not for what this one has still to write.
    sqlx::query(
        "UPDATE gateways SET name = $1, identity = $2,
            session_groups = CASE WHEN identity != $2 THEN 0 ELSE session_groups END
         WHERE id = $3",
    )
    .bind(name)
    .bind(identity)
    .bind(id)
    .execute(write.connection())
    .await?;
    Ok(())
}

async fn make(write: &mut Write, name: &str, identity: &str) -> Result<i64, StoreError> {
    let sql = "INSERT INTO gateways (name, identity) VALUES ($1, $2) RETURNING id";
    Ok(sqlx::query_scalar(sql).bind(name).bind(identity).fetch_one(write.connection()).await?)
}
