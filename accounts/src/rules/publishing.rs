//! Versions of the rules in the store: publishing them, with the letters that tell of them, and reading them.

use std::time::Duration;

use tacit_messages::UnixSeconds;

use super::{
    Calendar, DEFAULT_RULES, Publication, PublicationError, RulesText, RulesVersion, Summary, Told,
    comparison,
};
use crate::{
    AccountId, Store, StoreError, post,
    store::Write,
    times::{read_time, time_column},
};

/// Why rules were not published or found.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The date will not do.
    #[error(transparent)]
    Date(#[from] PublicationError),
    /// Customers must be told, and there is no way to.
    #[error(
        "customers must be told of a significant change by e-mail; set `mail-server`, `mail-from`, `contact` and `site-url` first"
    )]
    NoMail,
    /// The same words as before.
    #[error("these are the words of the last version already")]
    Unchanged,
    /// No version has this number.
    #[error("there is no such version of the rules; `tacit rules list` shows all")]
    NoSuchVersion,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RulesError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A version and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Number and times.
    pub version: RulesVersion,
    /// What it changes.
    pub summary: Summary,
    /// The words.
    pub text: RulesText,
}

/// What an operator wants to publish.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The words.
    pub text: RulesText,
    /// What they change; made from the difference if it is not given.
    pub summary: Option<Summary>,
    /// The begin of the day on which it is to take effect.
    pub effective_at: UnixSeconds,
    /// Whether customers must be told by letter.
    pub is_significant: bool,
}

impl Store {
    /// Publishes the rules that the program brings along, unless there are any.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn publish_default_rules(&self, now: UnixSeconds) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        if calendar(&mut write).await?.versions().is_empty() {
            let day = super::calendar::day_of(now);
            let version = RulesVersion {
                number: 1,
                published_at: now,
                effective_at: day,
                is_significant: false,
            };
            insert(&mut write, version, "The first rules.", DEFAULT_RULES).await?;
            write.commit().await?;
        }
        Ok(())
    }

    /// Publishes a version. If it is significant, a letter to every customer is queued with it; `pace` is the time that
    /// each letter takes, or `None` if letters cannot be sent.
    ///
    /// # Errors
    /// [`RulesError`]; then nothing is changed.
    pub async fn publish_rules(
        &self,
        draft: &Draft,
        pace: Option<Duration>,
        now: UnixSeconds,
    ) -> Result<Rules, RulesError> {
        let mut write = self.write().await?;
        let former = last_text(&mut write).await?;
        if former.as_ref() == Some(&draft.text) {
            return Err(RulesError::Unchanged);
        }
        let last_letter_at = match draft.is_significant {
            true => last_letter_at(&mut write, pace, now).await?,
            false => None,
        };
        let (effective_at, is_significant) = (draft.effective_at, draft.is_significant);
        let wanted = Publication { effective_at, is_significant, last_letter_at };
        let version = calendar(&mut write).await?.publish(wanted, now)?;
        let made = || match &former {
            Some(former) => comparison::summary(former, &draft.text),
            None => Summary::made("The first rules."),
        };
        let summary = draft.summary.clone().unwrap_or_else(made);
        insert(&mut write, version, summary.as_str(), draft.text.as_str()).await?;
        post::queue_rules_letters(&mut write, now).await?;
        write.commit().await?;
        Ok(Rules { version, summary, text: draft.text.clone() })
    }

    /// All versions.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn rules_calendar(&self) -> Result<Calendar, StoreError> {
        let rows = sqlx::query_as(CALENDAR).fetch_all(self.reader()).await?;
        Ok(read_calendar(rows))
    }

    /// A version with its words.
    ///
    /// # Errors
    /// [`RulesError::NoSuchVersion`]
    pub async fn rules(&self, number: i64) -> Result<Rules, RulesError> {
        let row: Option<(i64, i64, i64, i64, String, String)> = sqlx::query_as(
            "SELECT version, published_at, effective_at, significant, summary, body FROM rules WHERE version = $1",
        )
        .bind(number)
        .fetch_optional(self.reader())
        .await?;
        let (number, published_at, effective_at, significant, summary, body) =
            row.ok_or(RulesError::NoSuchVersion)?;
        Ok(Rules {
            version: read_version((number, published_at, effective_at, significant)),
            summary: Summary::parse(&summary).map_err(|_| StoreError::Corrupt("rules.summary"))?,
            text: RulesText::parse(body.as_bytes())
                .map_err(|_| StoreError::Corrupt("rules.body"))?,
        })
    }

    /// What an account was told of rules, and since when there is one.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn told(&self, account: AccountId) -> Result<Told, StoreError> {
        let joined_at: Option<i64> =
            sqlx::query_scalar("SELECT created_at FROM accounts WHERE id = $1")
                .bind(account.0)
                .fetch_optional(self.reader())
                .await?;
        let letters: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT rules_version, state_since FROM letters
             WHERE account_id = $1 AND rules_version IS NOT NULL AND state = 'sent' ORDER BY rules_version",
        )
        .bind(account.0)
        .fetch_all(self.reader())
        .await?;
        let letters = letters.into_iter().map(|(version, at)| (version, read_time(at)));
        Ok(Told {
            joined_at: read_time(joined_at.ok_or(StoreError::NoSuchAccount)?),
            letters: letters.collect(),
        })
    }
}

type VersionRow = (i64, i64, i64, i64);

const CALENDAR: &str = "SELECT version, published_at, effective_at, significant FROM rules";

async fn calendar(write: &mut Write) -> Result<Calendar, StoreError> {
    Ok(read_calendar(sqlx::query_as(CALENDAR).fetch_all(write.connection()).await?))
}

fn read_calendar(rows: Vec<VersionRow>) -> Calendar {
    Calendar::new(rows.into_iter().map(read_version).collect())
}

fn read_version((number, published_at, effective_at, significant): VersionRow) -> RulesVersion {
    RulesVersion {
        number,
        published_at: read_time(published_at),
        effective_at: read_time(effective_at),
        is_significant: significant != 0,
    }
}

async fn last_text(write: &mut Write) -> Result<Option<RulesText>, StoreError> {
    let body: Option<String> =
        sqlx::query_scalar("SELECT body FROM rules ORDER BY version DESC LIMIT 1")
            .fetch_optional(write.connection())
            .await?;
    let text = body.map(|body| RulesText::parse(body.as_bytes()));
    text.transpose().map_err(|_| StoreError::Corrupt("rules.body"))
}

/// When the last of the letters can be sent that are in the queue or come with a new version; `None` if there is no customer.
async fn last_letter_at(
    write: &mut Write,
    pace: Option<Duration>,
    now: UnixSeconds,
) -> Result<Option<UnixSeconds>, RulesError> {
    let customers: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM accounts WHERE cancelled_at IS NULL")
            .fetch_one(write.connection())
            .await?;
    if customers == 0 {
        return Ok(None);
    }
    let pace = pace.ok_or(RulesError::NoMail)?;
    let waiting: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM letters WHERE state IN ('queued', 'sending')")
            .fetch_one(write.connection())
            .await?;
    let letters = u32::try_from(customers + waiting).unwrap_or(u32::MAX);
    // Whole seconds, and one more for the part of this one that is over.
    let takes = pace.saturating_mul(letters) + Duration::from_secs(1);
    Ok(Some(now.plus(takes)))
}

async fn insert(
    write: &mut Write,
    version: RulesVersion,
    summary: &str,
    body: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rules (version, published_at, effective_at, significant, summary, body)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(version.number)
    .bind(time_column(version.published_at))
    .bind(time_column(version.effective_at))
    .bind(i64::from(version.is_significant))
    .bind(summary.to_owned())
    .bind(body.to_owned())
    .execute(write.connection())
    .await?;
    Ok(())
}
