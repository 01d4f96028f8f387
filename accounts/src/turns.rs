//! Work that one of the gateways that share a store does for all: whoever finds it due takes the turn.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tacit_messages::UnixSeconds;

use crate::{
    Store, StoreError,
    times::{read_time, time_column},
};

/// Work that one does for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// To remove what is past its time.
    Purge,
    /// To look for gateways that are silent.
    LookForSilent,
}

impl Turn {
    /// Nothing is due later than so long from now.
    const fn latest(self) -> Duration {
        match self {
            Self::Purge => Duration::from_secs(24 * 60 * 60),
            Self::LookForSilent => Duration::from_secs(60),
        }
    }

    /// Where it stands when it is due.
    const fn column(self) -> &'static str {
        match self {
            Self::Purge => "purge_due_at",
            Self::LookForSilent => "look_due_at",
        }
    }
}

impl Store {
    /// Takes the turn if it is due, and returns whether it was. It is due again after `until_next`.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn take_turn(
        &self,
        turn: Turn,
        until_next: Duration,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let sql = format!("SELECT {} FROM gateway WHERE id = 1", turn.column());
        let due_at: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(self.reader()).await?;
        // What is due too late was put off by a clock that is wrong.
        let is_put_off = read_time(due_at) > now && read_time(due_at) <= now.plus(turn.latest());
        if is_put_off {
            return Ok(false);
        }
        let sql = format!("UPDATE gateway SET {0} = $1 WHERE id = 1 AND {0} = $2", turn.column());
        let mut write = self.write_quickly().await?;
        let taken = sqlx::query(AssertSqlSafe(sql))
            .bind(time_column(now.plus(until_next)))
            .bind(due_at)
            .execute(write.connection())
            .await?
            .rows_affected();
        write.commit().await?;
        Ok(taken == 1)
    }

    /// Makes what was done due again at `next`, at most a day from now.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn end_turn(&self, turn: Turn, next: UnixSeconds) -> Result<(), StoreError> {
        let sql = format!("UPDATE gateway SET {} = $1 WHERE id = 1", turn.column());
        let mut write = self.write_quickly().await?;
        sqlx::query(AssertSqlSafe(sql)).bind(time_column(next)).execute(write.connection()).await?;
        write.commit().await
    }
}
