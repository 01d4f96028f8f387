//! Agreement by use: who connects while rules are in force has accepted them (clause 11). Only the day is kept.

use tacit_messages::UnixSeconds;

use super::{
    RulesVersion,
    calendar::{NOTICE_SECONDS, day_of},
};
use crate::{
    AccountId, Store, StoreError,
    times::{read_time, time_column},
};

/// That an account's use accepted a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The version's number.
    pub version: i64,
    /// The begin of the day.
    pub accepted_on: UnixSeconds,
}

/// How many are recorded in one change.
const BATCH: usize = 500;

/// First sessions since version $1, which begins at $2, is in force for an account, and while no later one is. A letter
/// counts $3 seconds after it was sent.
const FIRST_USES: &str = "SELECT accounts.id, MIN(sessions.began_at)
    FROM accounts JOIN sessions ON sessions.account_id = accounts.id
    WHERE sessions.began_at >= $2
    AND NOT EXISTS (SELECT 1 FROM rules_acceptances AS accepted
        WHERE accepted.account_id = accounts.id AND accepted.version = $1)
    AND NOT EXISTS (SELECT 1 FROM rules AS needed LEFT JOIN letters AS letter
        ON letter.account_id = accounts.id AND letter.rules_version = needed.version AND letter.state = 'sent'
        WHERE needed.version <= $1 AND needed.significant = 1
        AND (accounts.created_at < needed.effective_at OR accounts.created_at < needed.published_at)
        AND (letter.id IS NULL OR letter.state_since + $3 > sessions.began_at))
    AND NOT EXISTS (SELECT 1 FROM rules AS later
        WHERE later.version > $1
        AND later.effective_at <= sessions.began_at AND later.published_at <= sessions.began_at
        AND NOT EXISTS (SELECT 1 FROM rules AS needed LEFT JOIN letters AS letter
            ON letter.account_id = accounts.id AND letter.rules_version = needed.version AND letter.state = 'sent'
            WHERE needed.version <= later.version AND needed.significant = 1
            AND (accounts.created_at < needed.effective_at OR accounts.created_at < needed.published_at)
            AND (letter.id IS NULL OR letter.state_since + $3 > sessions.began_at)))
    GROUP BY accounts.id ORDER BY accounts.id";

impl Store {
    /// Records which accounts have accepted rules by using the service since, and returns how many did.
    ///
    /// To be called before sessions are purged.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn record_acceptances(&self, now: UnixSeconds) -> Result<u64, StoreError> {
        let mut recorded = 0;
        for version in self.rules_calendar().await?.versions() {
            if version.begins() <= now {
                recorded += self.record_acceptances_of(*version).await?;
            }
        }
        Ok(recorded)
    }

    async fn record_acceptances_of(&self, version: RulesVersion) -> Result<u64, StoreError> {
        let uses: Vec<(i64, i64)> = sqlx::query_as(FIRST_USES)
            .bind(version.number)
            .bind(time_column(version.begins()))
            .bind(NOTICE_SECONDS)
            .fetch_all(self.reader())
            .await?;
        let mut recorded = 0;
        for uses in uses.chunks(BATCH) {
            let mut write = self.write_quickly().await?;
            for (account, began_at) in uses {
                recorded += sqlx::query(
                    "INSERT INTO rules_acceptances (account_id, version, accepted_on)
                     SELECT id, $2, $3 FROM accounts WHERE id = $1 ON CONFLICT (account_id, version) DO NOTHING",
                )
                .bind(*account)
                .bind(version.number)
                .bind(time_column(day_of(read_time(*began_at))))
                .execute(write.connection())
                .await?
                .rows_affected();
            }
            write.commit().await?;
        }
        Ok(recorded)
    }

    /// What an account's use has accepted, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn acceptances(&self, account: AccountId) -> Result<Vec<Acceptance>, StoreError> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT version, accepted_on FROM rules_acceptances WHERE account_id = $1 ORDER BY version",
        )
        .bind(account.0)
        .fetch_all(self.reader())
        .await?;
        let accepted = rows.into_iter();
        Ok(accepted
            .map(|(version, on)| Acceptance { version, accepted_on: read_time(on) })
            .collect())
    }
}
