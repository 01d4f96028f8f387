//! Everything that is held about a customer, for whom it may be shown: the customer, or who a disclosure is made to.

mod text;

use serde::Serialize;
use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

use crate::{
    AccountId, Confirmation, Store, StoreError,
    personal::{EMAIL, PENDING_EMAIL},
    rules::Date,
    times::{read_time, rfc3339},
};

/// What every export begins with.
const ABOUT: &str = "Everything that is held about this account. No traffic log is kept: there is no record of \
     destinations, contents, names that were looked up, or volumes.";

/// The staff's verb whose entries tell of disclosures, which have a list of their own.
const DISCLOSING: &str = "disclosure make";

/// How many entries of the staff log are read at a time.
const BATCH: u32 = 1000;

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
    pub(crate) about: &'static str,
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
    pub(crate) sessions: Vec<SessionPart>,
    pub(crate) consents: Vec<ConsentPart>,
    pub(crate) former_values: Vec<FormerPart>,
    pub(crate) rules: Vec<RulesPart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disclosures: Option<Vec<DisclosurePart>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seen_by_staff: Option<Vec<StaffPart>>,
}

#[derive(Serialize)]
pub(crate) struct ServicePart {
    pub(crate) name: String,
    pub(crate) ends_at: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct DevicePart {
    pub(crate) name: String,
    pub(crate) public_key: String,
    pub(crate) tunnel_v4: String,
    pub(crate) tunnel_v6: String,
    pub(crate) key_since: String,
}

#[derive(Serialize)]
pub(crate) struct SessionPart {
    pub(crate) device: Option<String>,
    pub(crate) connecting_ip: String,
    pub(crate) began_at: String,
    pub(crate) ended_at: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct ConsentPart {
    pub(crate) recipient: String,
    pub(crate) given_at: String,
    pub(crate) withdrawn_at: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct FormerPart {
    pub(crate) kind: &'static str,
    pub(crate) value: String,
    pub(crate) reason: &'static str,
    pub(crate) archived_at: String,
    pub(crate) keep_until: String,
}

#[derive(Serialize)]
pub(crate) struct RulesPart {
    pub(crate) version: i64,
    pub(crate) letter_written_at: Option<String>,
    pub(crate) letter_sent_at: Option<String>,
    pub(crate) accepted_on: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct DisclosurePart {
    pub(crate) made_at: String,
    pub(crate) basis: &'static str,
    pub(crate) reference: String,
    pub(crate) recipient: String,
    pub(crate) sha256: String,
}

#[derive(Serialize)]
pub(crate) struct StaffPart {
    pub(crate) at: String,
    pub(crate) verb: String,
    pub(crate) data: String,
}

/// A version, when its letter was written and sent, and when it was accepted.
type RulesRow = (i64, Option<i64>, Option<i64>, Option<i64>);

type AccountRow = (Vec<u8>, String, i64, Option<i64>, i64);

impl Store {
    /// Everything that is held about an account, also one that is cancelled.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn export(
        &self,
        account: AccountId,
        reader: Reader,
        now: UnixSeconds,
    ) -> Result<Export, StoreError> {
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
        let for_customer = reader == Reader::Customer;
        Ok(Export {
            about: ABOUT,
            made_at: rfc3339(now),
            account: account.0,
            email: (!email.is_empty()).then(|| email.to_string()),
            confirmation: Confirmation::read(&confirmation)?.as_str(),
            confirmed_at: rfc3339(read_time(confirmed_at)),
            cancelled_at: cancelled_at.map(|at| rfc3339(read_time(at))),
            has_password: has_password != 0,
            password: if has_password == 0 { "none" } else { "a hash (Argon2id)" },
            email_to_be_confirmed: self.email_to_be_confirmed(account).await?,
            services: self.service_parts(account).await?,
            devices: self.device_parts(account).await?,
            sessions: self.session_parts(account).await?,
            consents: self.consent_parts(account).await?,
            former_values: self.former_parts(account).await?,
            rules: self.rules_parts(account).await?,
            disclosures: match for_customer {
                true => Some(self.disclosure_parts(account, now).await?),
                false => None,
            },
            seen_by_staff: match for_customer {
                true => Some(self.staff_parts(account).await?),
                false => None,
            },
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

    async fn service_parts(&self, account: AccountId) -> Result<Vec<ServicePart>, StoreError> {
        let services = self.services(account).await?.into_iter();
        let part = |service: crate::Service| ServicePart {
            name: service.name.to_string(),
            ends_at: service.ends_at.map(rfc3339),
        };
        Ok(services.map(part).collect())
    }

    async fn device_parts(&self, account: AccountId) -> Result<Vec<DevicePart>, StoreError> {
        let devices = self.devices(account).await?.into_iter();
        let part = |device: crate::Device| DevicePart {
            name: device.name.as_str().to_owned(),
            public_key: device.public_key.to_string(),
            tunnel_v4: device.tunnel_v4.to_string(),
            tunnel_v6: device.tunnel_v6.to_string(),
            key_since: rfc3339(device.created_at),
        };
        Ok(devices.map(part).collect())
    }

    async fn session_parts(&self, account: AccountId) -> Result<Vec<SessionPart>, StoreError> {
        let sessions = self.sessions(account).await?.into_iter();
        let part = |session: crate::Session| SessionPart {
            device: session.device_name.map(|name| name.as_str().to_owned()),
            connecting_ip: session.connecting_ip.expose().to_string(),
            began_at: rfc3339(session.began_at),
            ended_at: session.ended_at.map(rfc3339),
        };
        Ok(sessions.map(part).collect())
    }

    async fn consent_parts(&self, account: AccountId) -> Result<Vec<ConsentPart>, StoreError> {
        let consents = self.consents(account).await?.into_iter();
        let part = |consent: crate::Consent| ConsentPart {
            recipient: consent.recipient.expose().to_owned(),
            given_at: rfc3339(consent.given_at),
            withdrawn_at: consent.withdrawn_at.map(rfc3339),
        };
        Ok(consents.map(part).collect())
    }

    async fn former_parts(&self, account: AccountId) -> Result<Vec<FormerPart>, StoreError> {
        let values = self.archive(account).await?.into_iter();
        let part = |former: crate::FormerValue| FormerPart {
            kind: former.kind.as_str(),
            value: former.value.to_string(),
            reason: former.reason.as_str(),
            archived_at: rfc3339(former.archived_at),
            keep_until: rfc3339(former.keep_until),
        };
        Ok(values.map(part).collect())
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

    async fn disclosure_parts(
        &self,
        account: AccountId,
        now: UnixSeconds,
    ) -> Result<Vec<DisclosurePart>, StoreError> {
        let disclosures = self.disclosures_told(account, now).await?.into_iter();
        let part = |disclosure: crate::Disclosure| DisclosurePart {
            made_at: rfc3339(disclosure.at),
            basis: disclosure.basis.as_str(),
            reference: disclosure.reference.expose().to_owned(),
            recipient: disclosure.recipient.expose().to_owned(),
            sha256: disclosure.content_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Ok(disclosures.map(part).collect())
    }

    /// What the staff looked at or changed, and when. Not who: that is data of theirs.
    async fn staff_parts(&self, account: AccountId) -> Result<Vec<StaffPart>, StoreError> {
        let (mut parts, mut after) = (Vec::new(), 0);
        loop {
            let entries = self.staff_log(Some(account), after, BATCH).await?;
            let Some(last) = entries.last() else { return Ok(parts) };
            after = last.number;
            let told = entries.into_iter().filter(|entry| entry.verb != DISCLOSING);
            parts.extend(told.map(|entry| StaffPart {
                at: rfc3339(entry.at),
                verb: entry.verb,
                data: entry.data,
            }));
        }
    }
}

impl Export {
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
