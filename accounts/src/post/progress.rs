//! How far the letters of each version of the rules are.

use tacit_messages::UnixSeconds;

use crate::{
    AccountId, Store, StoreError,
    rules::calendar::NOTICE_SECONDS,
    times::{read_time, time_column},
};

/// How far the letters of a version are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The version's number.
    pub version: i64,
    /// The begin of the day on which it takes effect for who was told in time.
    pub effective_at: UnixSeconds,
    /// Letters that wait, for the first time or again.
    pub queued: u64,
    /// Those of them that were tried before.
    pub put_off: u64,
    /// Letters whose end is on its way to the server.
    pub sending: u64,
    /// Letters that the server has.
    pub sent: u64,
    /// Letters of which nobody knows.
    pub doubtful: u64,
    /// Letters that the server will not take for their address.
    pub refused: u64,
    /// Customers for whom the version comes later than on its date, or not before they have their letter.
    pub late: u64,
    /// When the latest of the sent letters was.
    pub last_sent_at: Option<UnixSeconds>,
}

impl Progress {
    /// Letters in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.queued + self.sending + self.sent + self.doubtful + self.refused
    }

    /// Whether the postman has nothing to do for this version.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queued + self.sending == 0
    }
}

/// A letter of which nobody knows, or that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterInDoubt {
    /// The version that it tells of.
    pub version: i64,
    /// Whose it is.
    pub account: AccountId,
    /// Its number in the world, by which a mail server's records have it.
    pub message_id: String,
    /// Whether it was refused or is held; else nobody knows.
    pub is_refused: bool,
    /// Whether it is held since a restore, because it may have been sent before.
    pub is_held: bool,
    /// The server's code for that.
    pub reply_code: Option<i64>,
    /// Since when.
    pub since: UnixSeconds,
}

/// Version, account, number in the world, state, code, since when, and whether it is held.
type LetterRow = (i64, i64, Option<String>, String, Option<i64>, i64, i64);

type Counts = (i64, i64, i64, i64, i64, i64, i64, i64, i64, Option<i64>);

impl Store {
    /// How far the letters of each significant version are, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn letter_progress(&self, now: UnixSeconds) -> Result<Vec<Progress>, StoreError> {
        // Late is who was told less than 14 days before, and who was not told and cannot be in time any more.
        let rows: Vec<Counts> = sqlx::query_as(
            "SELECT rules.version, rules.effective_at,
                COUNT(CASE WHEN letters.state = 'queued' THEN 1 END),
                COUNT(CASE WHEN letters.state = 'queued' AND letters.attempts > 0 THEN 1 END),
                COUNT(CASE WHEN letters.state = 'sending' THEN 1 END),
                COUNT(CASE WHEN letters.state = 'sent' THEN 1 END),
                COUNT(CASE WHEN letters.state = 'doubtful' THEN 1 END),
                COUNT(CASE WHEN letters.state = 'refused' THEN 1 END),
                COUNT(CASE WHEN letters.state = 'sent' AND letters.state_since + $2 > rules.effective_at THEN 1
                    WHEN letters.state != 'sent' AND $1 + $2 > rules.effective_at THEN 1 END),
                MAX(CASE WHEN letters.state = 'sent' THEN letters.state_since END)
             FROM rules LEFT JOIN letters ON letters.rules_version = rules.version
             WHERE rules.significant = 1
             GROUP BY rules.version, rules.effective_at ORDER BY rules.version DESC",
        )
        .bind(time_column(now))
        .bind(NOTICE_SECONDS)
        .fetch_all(self.reader())
        .await?;
        Ok(rows.into_iter().map(read).collect())
    }

    /// Letters that an operator has to look after, oldest first; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn letters_to_look_after(
        &self,
        limit: u32,
    ) -> Result<Vec<LetterInDoubt>, StoreError> {
        let rows: Vec<LetterRow> = sqlx::query_as(
            "SELECT rules_version, account_id, message_id, state, reply_code, state_since, held FROM letters
             WHERE state IN ('doubtful', 'refused') AND rules_version IS NOT NULL ORDER BY id LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let letters = rows.into_iter();
        Ok(letters
            .map(|(version, account, message_id, state, reply_code, since, held)| LetterInDoubt {
                version,
                account: AccountId(account),
                message_id: message_id.unwrap_or_default(),
                is_refused: state == "refused",
                is_held: held == 1,
                reply_code,
                since: read_time(since),
            })
            .collect())
    }
}

fn read(row: Counts) -> Progress {
    let (version, effective_at, queued, put_off, sending, sent, doubtful, refused, late, last) =
        row;
    Progress {
        version,
        effective_at: read_time(effective_at),
        queued: queued.unsigned_abs(),
        put_off: put_off.unsigned_abs(),
        sending: sending.unsigned_abs(),
        sent: sent.unsigned_abs(),
        doubtful: doubtful.unsigned_abs(),
        refused: refused.unsigned_abs(),
        late: late.unsigned_abs(),
        last_sent_at: last.map(read_time),
    }
}
