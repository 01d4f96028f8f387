//! What is past its time, and how it goes: from the tables, and from the bytes of the store's files.

use std::time::Duration;

use sqlx::SqliteExecutor;
use tacit_messages::UnixSeconds;

use crate::{
    Store, StoreError, addresses,
    times::{read_time, time_column},
};

/// How many sessions are removed in one change, so that nobody who writes meanwhile waits for long.
const BATCH: i64 = 1000;

/// What is past its time, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PastItsTime {
    /// Sessions that ended too long ago.
    pub sessions: u64,
    /// Former numbers of devices that no session has any more.
    pub former_numbers: u64,
    /// Quarantines of addresses that are over.
    pub quarantines: u64,
}

impl PastItsTime {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl Store {
    /// Counts what [`Self::purge`] would remove.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn past_its_time(
        &self,
        keep_sessions: Duration,
        now: UnixSeconds,
    ) -> Result<PastItsTime, StoreError> {
        Ok(count_past(self.reader(), now.minus(keep_sessions), now).await?)
    }

    /// Removes sessions that ended `keep_sessions` ago or earlier, and what was kept for them only.
    ///
    /// What is removed, also devices that were removed before, is then in none of the store's files any more.
    ///
    /// # Errors
    /// [`StoreError::NotScrubbed`] if it is out of the tables only; the next purge tries again.
    pub async fn purge(
        &self,
        keep_sessions: Duration,
        now: UnixSeconds,
    ) -> Result<PastItsTime, StoreError> {
        let latest_end = time_column(now.minus(keep_sessions));
        let sessions = self.remove_sessions(latest_end).await?;
        let mut write = self.write_quickly().await?;
        // A number that was in use lately may still come with a session that is on its way here.
        let former_numbers = sqlx::query(
            "DELETE FROM rotated_devices WHERE former_id NOT IN (SELECT device_id FROM sessions)
             AND device_id IN (SELECT id FROM devices WHERE created_at <= $1)",
        )
        .bind(latest_end)
        .execute(write.connection())
        .await?
        .rows_affected();
        let quarantines = addresses::end_quarantines(&mut write, now).await?;
        if former_numbers + quarantines > 0 {
            write.make_scrub_due().await?;
        }
        write.commit().await?;
        self.scrub_if_due().await?;
        Ok(PastItsTime { sessions, former_numbers, quarantines })
    }

    /// When the session ended that ended first; `None` if none has.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn oldest_session_end(&self) -> Result<Option<UnixSeconds>, StoreError> {
        let ended_at: Option<i64> = sqlx::query_scalar("SELECT MIN(ended_at) FROM sessions")
            .fetch_one(self.reader())
            .await?;
        Ok(ended_at.map(read_time))
    }

    /// Removes the sessions in batches, each of which is found before anybody has to wait for it.
    async fn remove_sessions(&self, latest_end: i64) -> Result<u64, StoreError> {
        let (mut removed, mut after) = (0, 0);
        loop {
            let ids: Vec<i64> = sqlx::query_scalar(
                "SELECT id FROM sessions WHERE ended_at <= $1 AND id > $2 ORDER BY id LIMIT $3",
            )
            .bind(latest_end)
            .bind(after)
            .bind(BATCH)
            .fetch_all(self.reader())
            .await?;
            let Some(last) = ids.last() else { return Ok(removed) };
            let mut write = self.write_quickly().await?;
            removed +=
                sqlx::query("DELETE FROM sessions WHERE ended_at <= $1 AND id > $2 AND id <= $3")
                    .bind(latest_end)
                    .bind(after)
                    .bind(last)
                    .execute(write.connection())
                    .await?
                    .rows_affected();
            write.make_scrub_due().await?;
            write.commit().await?;
            after = *last;
        }
    }
}

/// Counts sessions that ended at `latest_end` or before, what is kept for them only, and quarantines over at
/// `latest_quarantine`.
pub(crate) async fn count_past(
    database: impl SqliteExecutor<'_>,
    latest_end: UnixSeconds,
    latest_quarantine: UnixSeconds,
) -> Result<PastItsTime, sqlx::Error> {
    let (sessions, former_numbers, quarantines): (i64, i64, i64) = sqlx::query_as(
        "SELECT
            (SELECT COUNT(*) FROM sessions WHERE ended_at <= $1),
            (SELECT COUNT(*) FROM rotated_devices
                WHERE former_id NOT IN (SELECT device_id FROM sessions WHERE ended_at IS NULL OR ended_at > $1)
                AND device_id IN (SELECT id FROM devices WHERE created_at <= $1)),
            (SELECT COUNT(*) FROM freed_addresses WHERE quarantined_until <= $2)",
    )
    .bind(time_column(latest_end))
    .bind(time_column(latest_quarantine))
    .fetch_one(database)
    .await?;
    Ok(PastItsTime {
        sessions: sessions.unsigned_abs(),
        former_numbers: former_numbers.unsigned_abs(),
        quarantines: quarantines.unsigned_abs(),
    })
}
