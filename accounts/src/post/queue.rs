//! The queue: which letter is in which state, from the moment that it is due.

use std::{fmt, time::Duration};

use rand_core::{OsRng, RngCore};
use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

use crate::{
    AccountId, Deed, EmailAddress, Store, StoreError,
    personal::{LETTER, open_email},
    store::Write,
    times::time_column,
};

/// How long a server may take over the end of a letter before it is in doubt; longer than the postman waits.
pub(super) const SENDING_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How long after the first failure a letter is due again; after each further one twice as long, up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(60);
const LAST_RETRY: Duration = Duration::from_secs(6 * 60 * 60);

/// After how many days a letter that tells of no rules is given up: by then nobody waits for it.
pub(crate) const GIVEN_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Number of a letter in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub i64);

/// What a letter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A version of the rules is coming.
    RulesChange,
    /// An operator tries whether letters arrive.
    Trial,
    /// A link confirms the address of a registration.
    ConfirmRegistration,
    /// A link confirms a new address.
    ConfirmChange,
    /// Somebody gave the address of a customer.
    AlreadyRegistered,
    /// A change of the account's address was begun.
    ChangeBegun,
    /// The account's address was changed.
    AddressChanged,
    /// The account's password was changed.
    PasswordChanged,
    /// The account was cancelled.
    Cancelled,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::RulesChange,
        Self::Trial,
        Self::ConfirmRegistration,
        Self::ConfirmChange,
        Self::AlreadyRegistered,
        Self::ChangeBegun,
        Self::AddressChanged,
        Self::PasswordChanged,
        Self::Cancelled,
    ];

    /// Its name in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RulesChange => "rules-change",
            Self::Trial => "trial",
            Self::ConfirmRegistration => "confirm-registration",
            Self::ConfirmChange => "confirm-change",
            Self::AlreadyRegistered => "already-registered",
            Self::ChangeBegun => "change-begun",
            Self::AddressChanged => "address-changed",
            Self::PasswordChanged => "password-changed",
            Self::Cancelled => "cancelled",
        }
    }

    fn read(column: &str) -> Result<Self, StoreError> {
        let mut kinds = Self::ALL.into_iter();
        kinds.find(|kind| kind.as_str() == column).ok_or(StoreError::Corrupt("letters.kind"))
    }
}

/// A letter that is due.
pub(super) struct DueLetter {
    pub(super) id: LetterId,
    pub(super) kind: Kind,
    pub(super) rules_version: Option<i64>,
    pub(super) to: EmailAddress,
    /// What is in it besides the address, by line.
    pub(super) lines: Zeroizing<Vec<String>>,
    /// Its number in the world; the same each time that it is sent.
    pub(super) message_id: String,
    pub(super) attempts: i64,
}

impl fmt::Debug for DueLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "letter {}", self.id.0)
    }
}

/// How an operator settles a letter in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The mail server had it: it counts as sent when it was.
    Arrived,
    /// The mail server never had it: it is sent again.
    Lost,
}

type DueRow =
    (i64, String, Option<i64>, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>, Option<String>, i64);

impl Store {
    /// Queues a letter by which an operator tries whether mail arrives.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn post_trial(&self, to: &EmailAddress, now: UnixSeconds) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        self.queue(&mut write, Kind::Trial, to, &[], now).await?;
        write.commit().await
    }

    /// Queues a letter with its address and what is in it by line, both sealed.
    pub(crate) async fn queue(
        &self,
        write: &mut Write,
        kind: Kind,
        to: &EmailAddress,
        lines: &[&str],
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO letters (kind, content, queued_at, state, state_since, due_at, attempts)
             VALUES ($1, $2, $3, 'queued', $3, $3, 0) RETURNING id",
        )
        .bind(kind.as_str())
        .bind(Vec::<u8>::new())
        .bind(time_column(now))
        .fetch_one(write.connection())
        .await?;
        let mut text = Zeroizing::new(to.expose().to_owned());
        for line in lines {
            text.push('\n');
            text.push_str(line);
        }
        sqlx::query("UPDATE letters SET content = $1 WHERE id = $2")
            .bind(LETTER.seal_text(self.keys().current(), id, &text))
            .bind(id)
            .execute(write.connection())
            .await?;
        Ok(())
    }

    /// Queues letters of rules that accounts made since the publication must have too.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn queue_missing_letters(&self, now: UnixSeconds) -> Result<u64, StoreError> {
        let mut write = self.write().await?;
        let queued = queue_rules_letters(&mut write, now).await?;
        write.commit().await?;
        Ok(queued)
    }

    /// Has letters that were put off, refused or held since a restore sent now, and returns how many.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn retry_letters(&self, now: UnixSeconds) -> Result<u64, StoreError> {
        let mut write = self.write().await?;
        let retried = sqlx::query(
            "UPDATE letters SET state = 'queued', state_since = $1, due_at = $1, attempts = 0, held = 0
             WHERE state = 'refused' OR (state = 'queued' AND attempts > 0)",
        )
        .bind(time_column(now))
        .execute(write.connection())
        .await?
        .rows_affected();
        let deed = Deed { verb: "notice retry", account: None, data: &[] };
        self.note(&mut write, deed, now).await?;
        write.commit().await?;
        Ok(retried)
    }

    /// Settles the letter in doubt that has this number in the world.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLetter`] if no letter in doubt has it.
    pub async fn settle_letter(
        &self,
        message_id: &str,
        doubt: Doubt,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let statement = match doubt {
            // Since when it is in this state stays: that is when it was sent.
            Doubt::Arrived => {
                "UPDATE letters SET state = 'sent', due_at = $1 WHERE message_id = $2 AND state = 'doubtful'
                 RETURNING account_id"
            }
            Doubt::Lost => {
                "UPDATE letters SET state = 'queued', state_since = $1, due_at = $1
                 WHERE message_id = $2 AND state = 'doubtful' RETURNING account_id"
            }
        };
        let settled: Option<Option<i64>> = sqlx::query_scalar(statement)
            .bind(time_column(now))
            .bind(message_id.to_owned())
            .fetch_optional(write.connection())
            .await?;
        let account = settled.ok_or(StoreError::NoSuchLetter)?.map(AccountId);
        self.note(&mut write, Deed { verb: "notice settle", account, data: &[] }, now).await?;
        write.commit().await
    }

    /// Takes up to `limit` letters that are due, which nobody else does for as long as `lease`; those that somebody waits
    /// for before those that tell of rules.
    pub(super) async fn take_due(
        &self,
        limit: i64,
        lease: Duration,
        now: UnixSeconds,
    ) -> Result<Vec<DueLetter>, StoreError> {
        let mut write = self.write_quickly().await?;
        let rows: Vec<DueRow> = sqlx::query_as(
            "SELECT letters.id, letters.kind, letters.account_id, letters.rules_version, letters.content,
                accounts.email, letters.message_id, letters.attempts
             FROM letters LEFT JOIN accounts ON accounts.id = letters.account_id
             WHERE letters.state = 'queued' AND letters.due_at <= $1
             ORDER BY CASE WHEN letters.rules_version IS NULL THEN 0 ELSE 1 END, letters.due_at, letters.id LIMIT $2",
        )
        .bind(time_column(now))
        .bind(limit)
        .fetch_all(write.connection())
        .await?;
        let mut due = Vec::new();
        for row in rows {
            let message_id = row.6.clone().unwrap_or_else(new_message_id);
            // Another gateway may have taken it meanwhile.
            let taken = sqlx::query(
                "UPDATE letters SET due_at = $1, message_id = $2, gateway_id = $3
                 WHERE id = $4 AND state = 'queued' AND due_at <= $5",
            )
            .bind(time_column(now.plus(lease)))
            .bind(message_id.clone())
            .bind(self.gateway)
            .bind(row.0)
            .bind(time_column(now))
            .execute(write.connection())
            .await?
            .rows_affected();
            if taken == 1 {
                due.push(self.read_due(row, message_id)?);
            }
        }
        write.commit().await?;
        Ok(due)
    }

    fn read_due(&self, row: DueRow, message_id: String) -> Result<DueLetter, StoreError> {
        let (id, kind, account, rules_version, content, email, _, attempts) = row;
        let keys = self.keys();
        let (to, lines) = match (rules_version, content, account, email) {
            (Some(_), _, Some(account), Some(email)) => {
                (open_email(&keys, AccountId(account), &email)?, Vec::new())
            }
            (None, Some(content), ..) => {
                let text = LETTER.open_text(&keys, id, &content)?;
                let mut lines = text.split('\n').map(str::to_owned);
                let to = lines.next().and_then(|to| EmailAddress::read(&to).ok());
                (to.ok_or(StoreError::Corrupt(LETTER.name))?, lines.collect())
            }
            _ => return Err(StoreError::Corrupt("letters.account_id")),
        };
        Ok(DueLetter {
            id: LetterId(id),
            kind: Kind::read(&kind)?,
            rules_version,
            to,
            lines: Zeroizing::new(lines),
            message_id,
            attempts,
        })
    }

    /// Keeps a letter that was taken for as long as `lease` from now on. False if another gateway has taken it since.
    pub(super) async fn keep_letter(
        &self,
        letter: LetterId,
        lease: Duration,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let mut write = self.write_quickly().await?;
        let kept = sqlx::query(
            "UPDATE letters SET due_at = $1 WHERE id = $2 AND state = 'queued' AND gateway_id = $3",
        )
        .bind(time_column(now.plus(lease)))
        .bind(letter.0)
        .bind(self.gateway)
        .execute(write.connection())
        .await?
        .rows_affected();
        write.commit().await?;
        Ok(kept == 1)
    }

    /// Notes that the end of a letter is about to go out. From here on only a server's answer tells where it is.
    ///
    /// False if somebody else has the letter: then it must not go out.
    pub(super) async fn letter_goes_out(
        &self,
        letter: LetterId,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let goes = sqlx::query(
            "UPDATE letters SET state = 'sending', state_since = $1
             WHERE id = $2 AND state = 'queued' AND gateway_id = $3",
        )
        .bind(time_column(now))
        .bind(letter.0)
        .bind(self.gateway)
        .execute(write.connection())
        .await?
        .rows_affected();
        write.commit().await?;
        Ok(goes == 1)
    }

    /// Notes that the server has the letter. One that tells of no rules is of no use any more and goes.
    pub(super) async fn letter_sent(
        &self,
        letter: LetterId,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE letters SET state = 'sent', state_since = $1, reply_code = NULL
             WHERE id = $2 AND state IN ('sending', 'doubtful')",
        )
        .bind(time_column(now))
        .bind(letter.0)
        .execute(write.connection())
        .await?;
        let gone = sqlx::query("DELETE FROM letters WHERE id = $1 AND rules_version IS NULL")
            .bind(letter.0)
            .execute(write.connection())
            .await?;
        if gone.rows_affected() > 0 {
            // Its address, and its link if it had one.
            write.make_scrub_due().await?;
        }
        write.commit().await
    }

    /// Notes that the server does not have the letter for now; it is due again later.
    pub(super) async fn letter_put_off(
        &self,
        letter: &DueLetter,
        reply_code: Option<u16>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let due_at = now.plus(retry_after(letter.attempts));
        self.letter_back(letter.id, due_at, 1, reply_code, now).await
    }

    /// Puts a letter back as if it had not been taken: what happened is no fault of its own.
    pub(super) async fn letter_untouched(
        &self,
        letter: LetterId,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        self.letter_back(letter, now, 0, None, now).await
    }

    async fn letter_back(
        &self,
        letter: LetterId,
        due_at: UnixSeconds,
        attempts: i64,
        reply_code: Option<u16>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        sqlx::query(
            "UPDATE letters SET state = 'queued', state_since = $1, due_at = $2, attempts = attempts + $3,
                reply_code = COALESCE($4, reply_code)
             WHERE id = $5 AND state IN ('queued', 'sending') AND gateway_id = $6",
        )
        .bind(time_column(now))
        .bind(time_column(due_at))
        .bind(attempts)
        .bind(reply_code.map(i64::from))
        .bind(letter.0)
        .bind(self.gateway)
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    /// Notes that the server will not take the letter for this address.
    pub(super) async fn letter_refused(
        &self,
        letter: LetterId,
        reply_code: Option<u16>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        sqlx::query(
            "UPDATE letters SET state = 'refused', state_since = $1, reply_code = $2
             WHERE id = $3 AND state IN ('queued', 'sending') AND gateway_id = $4",
        )
        .bind(time_column(now))
        .bind(reply_code.map(i64::from))
        .bind(letter.0)
        .bind(self.gateway)
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    /// Notes that nobody knows whether the server has the letter. Since when stays: that is when it was sent, if it was.
    pub(super) async fn letter_in_doubt(&self, letter: LetterId) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        sqlx::query(
            "UPDATE letters SET state = 'doubtful' WHERE id = $1 AND state = 'sending' AND gateway_id = $2",
        )
        .bind(letter.0)
        .bind(self.gateway)
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    /// Takes letters over from this gateway's predecessor, which is gone for sure: those that were going out are in
    /// doubt, or due again as in [`Self::find_letters_in_doubt`], and those that it had taken are due. What other
    /// gateways have taken stays theirs.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn take_over_letters(&self, now: UnixSeconds) -> Result<u64, StoreError> {
        let doubtful = self.doubt_letters(now, Some(self.gateway), now).await?;
        let mut write = self.write_quickly().await?;
        sqlx::query(
            "UPDATE letters SET due_at = $1
             WHERE state = 'queued' AND attempts = 0 AND due_at > $1 AND gateway_id = $2",
        )
        .bind(time_column(now))
        .bind(self.gateway)
        .execute(write.connection())
        .await?;
        write.commit().await?;
        Ok(doubtful)
    }

    /// Finds letters that went out and were not heard of since `latest`: a gateway died meanwhile. Those that tell of
    /// rules are in doubt, any other is due again.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn find_letters_in_doubt(
        &self,
        latest: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<u64, StoreError> {
        self.doubt_letters(latest, None, now).await
    }

    /// As above, of all gateways' letters, also of those that were removed since, or one's.
    async fn doubt_letters(
        &self,
        latest: UnixSeconds,
        gateway: Option<i64>,
        now: UnixSeconds,
    ) -> Result<u64, StoreError> {
        let mut write = self.write_quickly().await?;
        let doubtful = sqlx::query(
            "UPDATE letters SET state = 'doubtful'
             WHERE state = 'sending' AND state_since <= $1 AND rules_version IS NOT NULL
             AND COALESCE(gateway_id, 0) = COALESCE($2, gateway_id, 0)",
        )
        .bind(time_column(latest))
        .bind(gateway)
        .execute(write.connection())
        .await?
        .rows_affected();
        sqlx::query(
            "UPDATE letters SET state = 'queued', due_at = $3
             WHERE rules_version IS NULL AND COALESCE(gateway_id, 0) = COALESCE($2, gateway_id, 0)
             AND (state = 'doubtful' OR (state = 'sending' AND state_since <= $1))",
        )
        .bind(time_column(latest))
        .bind(gateway)
        .bind(time_column(now))
        .execute(write.connection())
        .await?;
        write.commit().await?;
        Ok(doubtful)
    }
}

/// Removes letters that tell of no rules and could not be sent for so long that nobody waits for them any more.
pub(crate) async fn give_up_letters(
    write: &mut Write,
    now: UnixSeconds,
) -> Result<u64, StoreError> {
    let removed =
        sqlx::query("DELETE FROM letters WHERE rules_version IS NULL AND queued_at <= $1")
            .bind(time_column(now.minus(GIVEN_UP_AFTER)))
            .execute(write.connection())
            .await?;
    Ok(removed.rows_affected())
}

/// Removes the account's letters and acceptances: they are of no use without it.
pub(crate) async fn forget_account(
    write: &mut Write,
    account: AccountId,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM letters WHERE account_id = $1",
        "DELETE FROM rules_acceptances WHERE account_id = $1",
    ] {
        sqlx::query(statement).bind(account.0).execute(write.connection()).await?;
    }
    Ok(())
}

/// Has letters tried at once that were refused for the account's former address, but none that a restore holds.
pub(crate) async fn retry_at_new_address(
    write: &mut Write,
    account: AccountId,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE letters SET state = 'queued', due_at = 0, attempts = 0
         WHERE account_id = $1 AND state = 'refused' AND held = 0",
    )
    .bind(account.0)
    .execute(write.connection())
    .await?;
    Ok(())
}

/// Queues a letter of every significant version for every account that is older than it and has none.
pub(crate) async fn queue_rules_letters(
    write: &mut Write,
    now: UnixSeconds,
) -> Result<u64, StoreError> {
    let queued = sqlx::query(
        "INSERT INTO letters (kind, account_id, rules_version, queued_at, state, state_since, due_at, attempts)
         SELECT 'rules-change', accounts.id, rules.version, $1, 'queued', $1, $1, 0
         FROM accounts CROSS JOIN rules
         WHERE rules.significant = 1 AND accounts.cancelled_at IS NULL
         AND (accounts.created_at < rules.effective_at OR accounts.created_at < rules.published_at)
         AND NOT EXISTS (SELECT 1 FROM letters AS others
            WHERE others.account_id = accounts.id AND others.rules_version = rules.version)
         ON CONFLICT (account_id, rules_version) DO NOTHING",
    )
    .bind(time_column(now))
    .execute(write.connection())
    .await?;
    Ok(queued.rows_affected())
}

fn retry_after(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
    (FIRST_RETRY * 2_u32.pow(doublings)).min(LAST_RETRY)
}

/// A number that no other letter has, and that says nothing.
fn new_message_id() -> String {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_doubles_up_to_six_hours() {
        let minutes = |attempts| retry_after(attempts).as_secs() / 60;
        assert_eq!([0, 1, 2, 3].map(minutes), [1, 2, 4, 8]);
        assert_eq!([8, 9, 60, i64::MAX].map(minutes), [256, 360, 360, 360]);
    }
}
