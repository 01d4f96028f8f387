//! The archive: former values of what a customer changed or cancelled, in their original form, until their time is over.
//!
//! A value gets here in the same change that removes it from where it was. Passwords never do.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

use crate::{
    AccountId, Store, StoreError,
    personal::ARCHIVED,
    store::Write,
    times::{read_time, time_column},
};

/// How long former values are kept unless told otherwise.
pub const DEFAULT_ARCHIVE_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a former value was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormerKind {
    /// Whether the customer was of age, or responsible for a child, and when that was confirmed.
    Confirmation,
    /// The e-mail address.
    Email,
    /// A chosen service and its end.
    Service,
}

impl FormerKind {
    /// The kind's name in the store and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmation => "confirmation",
            Self::Email => "e-mail",
            Self::Service => "service",
        }
    }

    fn read(column: &str) -> Result<Self, StoreError> {
        [Self::Confirmation, Self::Email, Self::Service]
            .into_iter()
            .find(|kind| kind.as_str() == column)
            .ok_or(StoreError::Corrupt("archive.kind"))
    }
}

/// Why a value is in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The customer changed it.
    Changed,
    /// The account was cancelled.
    Cancelled,
}

impl Reason {
    /// The reason's name in the store and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Cancelled => "cancelled",
        }
    }

    fn read(column: &str) -> Result<Self, StoreError> {
        [Self::Changed, Self::Cancelled]
            .into_iter()
            .find(|reason| reason.as_str() == column)
            .ok_or(StoreError::Corrupt("archive.reason"))
    }
}

/// A former value.
#[derive(Clone, PartialEq, Eq)]
pub struct FormerValue {
    /// Its number.
    pub(crate) id: i64,
    /// What it was.
    pub kind: FormerKind,
    /// Itself.
    pub value: Zeroizing<String>,
    /// Why it is kept.
    pub reason: Reason,
    /// Since when.
    pub archived_at: UnixSeconds,
    /// Until when.
    pub keep_until: UnixSeconds,
}

type FormerRow = (i64, String, Vec<u8>, String, i64, i64);

const FORMER: &str =
    "SELECT id, kind, value, reason, archived_at, keep_until FROM archive WHERE account_id = $1";

impl Store {
    /// The account's former values, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn archive(&self, account: AccountId) -> Result<Vec<FormerValue>, StoreError> {
        self.archive_after(account, 0, i64::MAX).await
    }

    /// Up to `most` of the account's former values that follow the one numbered `after`, oldest first.
    pub(crate) async fn archive_after(
        &self,
        account: AccountId,
        after: i64,
        most: i64,
    ) -> Result<Vec<FormerValue>, StoreError> {
        let sql = format!("{FORMER} AND id > $2 ORDER BY id LIMIT $3");
        let rows = sqlx::query_as(AssertSqlSafe(sql)).bind(account.0).bind(after).bind(most);
        read(&self.keys(), rows.fetch_all(self.reader()).await?)
    }

    /// Up to `most` of the account's former values, latest first, and how many there are in all.
    pub(crate) async fn latest_archived(
        &self,
        account: AccountId,
        most: i64,
    ) -> Result<(Vec<FormerValue>, u64), StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM archive WHERE account_id = $1")
            .bind(account.0)
            .fetch_one(self.reader())
            .await?;
        let sql = format!("{FORMER} ORDER BY id DESC LIMIT $2");
        let rows = sqlx::query_as(AssertSqlSafe(sql)).bind(account.0).bind(most);
        let values = read(&self.keys(), rows.fetch_all(self.reader()).await?)?;
        Ok((values, count.unsigned_abs()))
    }

    /// Puts a value that is being changed or removed into the archive.
    pub(crate) async fn put_into_archive(
        &self,
        write: &mut Write,
        account: AccountId,
        kind: FormerKind,
        value: &str,
        reason: Reason,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        // The value is sealed for its row, whose number is known only once there is one.
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO archive (account_id, kind, value, reason, archived_at, keep_until)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        )
        .bind(account.0)
        .bind(kind.as_str())
        .bind(Vec::<u8>::new())
        .bind(reason.as_str())
        .bind(time_column(now))
        .bind(time_column(now.plus(self.archive_time)))
        .fetch_one(write.connection())
        .await?;
        sqlx::query("UPDATE archive SET value = $1 WHERE id = $2")
            .bind(ARCHIVED.seal_text(self.keys().current(), id, value))
            .bind(id)
            .execute(write.connection())
            .await?;
        Ok(())
    }
}

fn read(keys: &DataKeys, rows: Vec<FormerRow>) -> Result<Vec<FormerValue>, StoreError> {
    let read = |(id, kind, value, reason, archived_at, keep_until): FormerRow| {
        Ok(FormerValue {
            id,
            kind: FormerKind::read(&kind)?,
            value: ARCHIVED.open_text(keys, id, &value)?,
            reason: Reason::read(&reason)?,
            archived_at: read_time(archived_at),
            keep_until: read_time(keep_until),
        })
    };
    rows.into_iter().map(read).collect()
}

/// Removes former values whose time is over, and returns how many.
pub(crate) async fn remove_past(write: &mut Write, now: UnixSeconds) -> Result<u64, StoreError> {
    let removed = sqlx::query("DELETE FROM archive WHERE keep_until <= $1")
        .bind(time_column(now))
        .execute(write.connection())
        .await?;
    Ok(removed.rows_affected())
}
