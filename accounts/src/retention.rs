//! What is past its time, and how it goes: from the tables, and from the bytes of the store's files.

use std::time::Duration;

use sqlx::any::AnyExecutor;
use tacit_messages::UnixSeconds;

use crate::{
    Chain, Store, StoreError, addresses, archive, cancellation, chain, pending, post,
    store::Write,
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
    /// Former values whose time is over.
    pub archived: u64,
    /// Addresses that were not confirmed in time.
    pub unconfirmed: u64,
    /// Cancelled accounts that no session and no former value has any more.
    pub accounts: u64,
    /// Entries of the staff log.
    pub staff_entries: u64,
    /// Entries of the disclosure register.
    pub disclosures: u64,
    /// Letters that could not be sent for so long that nobody waits for them any more.
    pub letters: u64,
}

/// How long entries of the staff log and the disclosure register are kept unless told otherwise: three years.
pub const DEFAULT_RECORD_TIME: Duration = Duration::from_secs(3 * 365 * 24 * 60 * 60);

impl PastItsTime {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// The rows of each table.
    #[must_use]
    pub fn by_table(self) -> [(&'static str, u64); 9] {
        let Self {
            sessions,
            former_numbers,
            quarantines,
            archived,
            unconfirmed,
            accounts,
            staff_entries,
            disclosures,
            letters,
        } = self;
        [
            ("sessions", sessions),
            ("rotated_devices", former_numbers),
            ("freed_addresses", quarantines),
            ("archive", archived),
            ("pending_addresses", unconfirmed),
            ("accounts", accounts),
            ("staff_log", staff_entries),
            ("disclosures", disclosures),
            ("letters", letters),
        ]
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
        let latest_record = now.minus(self.record_time);
        Ok(count_past(self.reader(), now.minus(keep_sessions), now, latest_record).await?)
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
        // What sessions show is written down before they go.
        self.record_acceptances(now).await?;
        let latest_end = time_column(now.minus(keep_sessions));
        let sessions = self.remove_sessions(latest_end).await?;
        let mut write = self.write_quickly().await?;
        let latest_record = now.minus(self.record_time);
        let keys = self.keys();
        let removed = PastItsTime {
            former_numbers: remove_former_numbers(&mut write, latest_end).await?,
            quarantines: addresses::end_quarantines(&mut write, now).await?,
            archived: archive::remove_past(&mut write, now).await?,
            unconfirmed: pending::remove_past(&mut write, now).await?,
            accounts: cancellation::remove_past(&mut write).await?,
            staff_entries: chain::remove_past(&mut write, &keys, Chain::StaffLog, latest_record)
                .await?,
            disclosures: chain::remove_past(&mut write, &keys, Chain::Disclosures, latest_record)
                .await?,
            letters: post::give_up_letters(&mut write, now).await?,
            sessions: 0,
        };
        if !removed.is_nothing() {
            write.make_scrub_due().await?;
        }
        write.commit().await?;
        self.scrub_if_due().await?;
        Ok(PastItsTime { sessions, ..removed })
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

async fn remove_former_numbers(write: &mut Write, latest_end: i64) -> Result<u64, StoreError> {
    // A number that was in use lately may still come with a session that is on its way here. All sessions are gone through
    // once, and not once for each number, which is what PostgreSQL makes of `NOT IN` and SQLite of `NOT EXISTS`.
    let removed = sqlx::query(
        "DELETE FROM rotated_devices
         WHERE former_id IN (SELECT former_id FROM rotated_devices EXCEPT SELECT device_id FROM sessions)
         AND device_id IN (SELECT id FROM devices WHERE created_at <= $1)",
    )
    .bind(latest_end)
    .execute(write.connection())
    .await?;
    Ok(removed.rows_affected())
}

type Counted = (i64, i64, i64, i64, i64, i64, i64, i64, i64);

/// Counts sessions that ended at `latest_end` or before, what is kept for them only, and what was
/// over at `latest_quarantine`; records count from their lists' begin to the last made at `latest_record` or before.
pub(crate) async fn count_past(
    database: impl AnyExecutor<'_>,
    latest_end: UnixSeconds,
    latest_quarantine: UnixSeconds,
    latest_record: UnixSeconds,
) -> Result<PastItsTime, sqlx::Error> {
    let counted: Counted = sqlx::query_as(
        "SELECT
            (SELECT COUNT(*) FROM sessions WHERE ended_at <= $1),
            (SELECT COUNT(*) FROM rotated_devices
                WHERE former_id IN (SELECT former_id FROM rotated_devices
                    EXCEPT SELECT device_id FROM sessions WHERE ended_at IS NULL OR ended_at > $1)
                AND device_id IN (SELECT id FROM devices WHERE created_at <= $1)),
            (SELECT COUNT(*) FROM freed_addresses WHERE quarantined_until <= $2),
            (SELECT COUNT(*) FROM archive WHERE keep_until <= $2),
            (SELECT COUNT(*) FROM pending_addresses WHERE expires_at <= $2),
            (SELECT COUNT(*) FROM accounts WHERE cancelled_at IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM sessions WHERE account_id = accounts.id
                    AND (ended_at IS NULL OR ended_at > $1))
                AND NOT EXISTS (SELECT 1 FROM archive WHERE account_id = accounts.id AND keep_until > $2)),
            (SELECT COUNT(*) FROM staff_log
                WHERE number < COALESCE((SELECT MIN(number) FROM staff_log WHERE at > $3), number + 1)),
            (SELECT COUNT(*) FROM disclosures
                WHERE number < COALESCE((SELECT MIN(number) FROM disclosures WHERE at > $3), number + 1)),
            (SELECT COUNT(*) FROM letters WHERE rules_version IS NULL AND queued_at <= $4)",
    )
    .bind(time_column(latest_end))
    .bind(time_column(latest_quarantine))
    .bind(time_column(latest_record))
    .bind(time_column(latest_quarantine.minus(post::GIVEN_UP_AFTER)))
    .fetch_one(database)
    .await?;
    Ok(PastItsTime {
        sessions: counted.0.unsigned_abs(),
        former_numbers: counted.1.unsigned_abs(),
        quarantines: counted.2.unsigned_abs(),
        archived: counted.3.unsigned_abs(),
        unconfirmed: counted.4.unsigned_abs(),
        accounts: counted.5.unsigned_abs(),
        staff_entries: counted.6.unsigned_abs(),
        disclosures: counted.7.unsigned_abs(),
        letters: counted.8.unsigned_abs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory;

    #[test]
    fn every_table_that_is_kept_for_a_time_is_counted() {
        let counted = PastItsTime::default().by_table().map(|(table, _)| table.to_owned());
        for (table, columns) in inventory() {
            let is_for_a_time = columns.values().any(|column| column.days.is_some());
            assert!(!is_for_a_time || counted.contains(&table), "{table}");
        }
    }
}
