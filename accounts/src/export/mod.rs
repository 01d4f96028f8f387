//! Everything that is held about a customer, for whom it may be shown: the customer, or who a disclosure is made to.

mod document;
mod excerpt;
mod kept;
mod parts;
mod text;

use serde::Serialize;
use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

use self::parts::parts;
pub(crate) use self::parts::{
    ConsentPart, DevicePart, DisclosurePart, FormerPart, RulesPart, ServicePart, SessionPart,
    StaffPart,
};
pub use self::{document::Document, excerpt::Excerpt, kept::Kept};
use crate::{
    AccountId, Confirmation, Store, StoreError,
    personal::{EMAIL, PENDING_EMAIL},
    rules::Date,
    sessions::{FIRST_SESSION, SessionPlace},
    times::{read_time, rfc3339},
};

/// What every export begins with.
const ABOUT: &str = "Everything that is held about this account. No traffic log is kept: there is no record of \
     destinations, contents, names that were looked up, or volumes.";

/// The staff's verb whose entries tell of disclosures, which have a list of their own.
const DISCLOSING: &str = "disclosure make";

/// Who an export is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The customer, whose right it is to see: also what was disclosed and who looked.
    Customer,
    /// Somebody whom it is disclosed to.
    Recipient,
}

/// Everything that is held about an account.
#[derive(Serialize)]
pub struct Export {
    #[serde(flatten)]
    pub(crate) own: OwnPart,
    pub(crate) sessions: Vec<SessionPart>,
    pub(crate) former_values: Vec<FormerPart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disclosures: Option<Vec<DisclosurePart>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seen_by_staff: Option<Vec<StaffPart>>,
}

/// The account itself, and those of its lists that have bounds.
#[derive(Serialize)]
pub(crate) struct OwnPart {
    pub(crate) about: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<Kept>,
    pub(crate) made_at: String,
    pub(crate) account: i64,
    pub(crate) email: Option<String>,
    pub(crate) confirmation: &'static str,
    pub(crate) confirmed_at: String,
    pub(crate) cancelled_at: Option<String>,
    pub(crate) password: &'static str,
    #[serde(skip)]
    pub(crate) has_password: bool,
    pub(crate) email_to_be_confirmed: Option<String>,
    pub(crate) services: Vec<ServicePart>,
    pub(crate) devices: Vec<DevicePart>,
    pub(crate) consents: Vec<ConsentPart>,
    pub(crate) rules: Vec<RulesPart>,
}

/// A version, when its letter was written and sent, and when it was accepted.
type RulesRow = (i64, Option<i64>, Option<i64>, Option<i64>);

type AccountRow = (Vec<u8>, String, i64, Option<i64>, i64);

impl Store {
    /// Everything that is held about an account, also one that is cancelled: all of it in memory.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn export(
        &self,
        account: AccountId,
        reader: Reader,
        now: UnixSeconds,
    ) -> Result<Export, StoreError> {
        let for_customer = reader == Reader::Customer;
        Ok(Export {
            own: self.own_part(account, None, now).await?,
            sessions: parts(self.sessions(account).await?),
            former_values: parts(self.archive(account).await?),
            disclosures: match for_customer {
                true => Some(parts(self.disclosures_told(account, now).await?)),
                false => None,
            },
            seen_by_staff: match for_customer {
                true => Some(self.staff_parts(account).await?),
                false => None,
            },
        })
    }

    async fn own_part(
        &self,
        account: AccountId,
        kept: Option<Kept>,
        now: UnixSeconds,
    ) -> Result<OwnPart, StoreError> {
        let row: Option<AccountRow> = sqlx::query_as(
            "SELECT email, confirmation, created_at, cancelled_at,
                CASE WHEN password IS NULL THEN 0 ELSE 1 END FROM accounts WHERE id = $1",
        )
        .bind(account.0)
        .fetch_optional(self.reader())
        .await?;
        let (email, confirmation, confirmed_at, cancelled_at, has_password) =
            row.ok_or(StoreError::NoSuchAccount)?;
        let email = EMAIL.open_text(&self.keys(), account.0, &email)?;
        Ok(OwnPart {
            about: ABOUT,
            kept,
            made_at: rfc3339(now),
            account: account.0,
            email: (!email.is_empty()).then(|| email.to_string()),
            confirmation: Confirmation::read(&confirmation)?.as_str(),
            confirmed_at: rfc3339(read_time(confirmed_at)),
            cancelled_at: cancelled_at.map(|at| rfc3339(read_time(at))),
            has_password: has_password != 0,
            password: if has_password == 0 { "none" } else { "a hash (Argon2id)" },
            email_to_be_confirmed: self.email_to_be_confirmed(account).await?,
            services: parts(self.services(account).await?),
            devices: parts(self.devices(account).await?),
            consents: parts(self.consents(account).await?),
            rules: self.rules_parts(account).await?,
        })
    }

    async fn email_to_be_confirmed(
        &self,
        account: AccountId,
    ) -> Result<Option<String>, StoreError> {
        let row: Option<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT id, email FROM pending_addresses WHERE account_id = $1")
                .bind(account.0)
                .fetch_optional(self.reader())
                .await?;
        let open = |(id, sealed): (i64, Vec<u8>)| {
            PENDING_EMAIL.open_text(&self.keys(), id, &sealed).map(|text| text.to_string())
        };
        row.map(open).transpose()
    }

    async fn rules_parts(&self, account: AccountId) -> Result<Vec<RulesPart>, StoreError> {
        let rows: Vec<RulesRow> = sqlx::query_as(
            "SELECT rules.version, letters.queued_at,
                CASE WHEN letters.state = 'sent' THEN letters.state_since END, accepted.accepted_on
             FROM rules
             LEFT JOIN letters ON letters.rules_version = rules.version AND letters.account_id = $1
             LEFT JOIN rules_acceptances AS accepted
                ON accepted.version = rules.version AND accepted.account_id = $1
             WHERE letters.id IS NOT NULL OR accepted.version IS NOT NULL ORDER BY rules.version",
        )
        .bind(account.0)
        .fetch_all(self.reader())
        .await?;
        let part = |(version, written_at, sent_at, accepted_on): RulesRow| RulesPart {
            version,
            letter_written_at: written_at.map(|at| rfc3339(read_time(at))),
            letter_sent_at: sent_at.map(|at| rfc3339(read_time(at))),
            accepted_on: accepted_on.map(|on| Date(read_time(on)).to_string()),
        };
        Ok(rows.into_iter().map(part).collect())
    }

    async fn staff_parts(&self, account: AccountId) -> Result<Vec<StaffPart>, StoreError> {
        let mut entries = self.staff_log(Some(account), 0, u32::MAX).await?;
        entries.retain(|entry| entry.verb != DISCLOSING);
        Ok(parts(entries))
    }
}

impl Export {
    /// The same, saying how long each thing is kept.
    #[must_use]
    pub fn with_kept(mut self, kept: Kept) -> Self {
        self.own.kept = Some(kept);
        self
    }

    /// The export as JSON, with a line's end.
    ///
    /// # Panics
    /// Never: it has nothing that JSON cannot say.
    #[must_use]
    pub fn json(&self) -> Zeroizing<String> {
        let mut text = serde_json::to_string_pretty(self).expect("texts and numbers are JSON");
        text.push('\n');
        Zeroizing::new(text)
    }

    /// The export for people.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        text::render(self)
    }
}
