//! The staff log: who of the staff looked at or changed which account's data, and when. Never the data.

use std::fmt;

use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;

use crate::{
    AccountId, Store, StoreError,
    chain::{self, Chain, Content, EVERYBODY, End, Entry, Verdict},
    store::Write,
    times::{read_time, time_column},
};

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataKind {
    /// Former values.
    Archive,
    /// Whether the customer is of age, or responsible for a child.
    Confirmation,
    /// To whom the customer agreed that data is disclosed.
    Consents,
    /// Devices: names, keys and tunnel addresses.
    Devices,
    /// What was disclosed to whom.
    Disclosures,
    /// The e-mail address.
    Email,
    /// The password.
    Password,
    /// Chosen services and their ends.
    Services,
    /// Sessions: times and connecting IPs.
    Sessions,
}

impl DataKind {
    /// Everything that is held about a customer.
    pub const ALL: &'static [Self] = &[
        Self::Email,
        Self::Confirmation,
        Self::Services,
        Self::Devices,
        Self::Sessions,
        Self::Consents,
        Self::Disclosures,
        Self::Archive,
    ];

    /// The kind's name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Confirmation => "confirmation",
            Self::Consents => "consents",
            Self::Devices => "devices",
            Self::Disclosures => "disclosures",
            Self::Email => "e-mail",
            Self::Password => "password",
            Self::Services => "services",
            Self::Sessions => "sessions",
        }
    }
}

/// What was done, to which account's data.
#[derive(Clone, Copy, Debug)]
pub struct Deed {
    /// The verb, as in `account show`.
    pub verb: &'static str,
    /// The account, or `None` if it was all of them or none.
    pub account: Option<AccountId>,
    /// What kinds of data were looked at or changed.
    pub data: &'static [DataKind],
}

impl Deed {
    /// A look at or change of one account.
    #[must_use]
    pub const fn on(account: AccountId, verb: &'static str, data: &'static [DataKind]) -> Self {
        Self { verb, account: Some(account), data }
    }

    fn data_column(&self) -> String {
        self.data.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
    }
}

/// An entry of the staff log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaffEntry {
    /// Its number: one more than the entry's before.
    pub number: u64,
    /// When it was.
    pub at: UnixSeconds,
    /// Who it was: the number of a Unix user, as the kernel vouched for it.
    pub uid: u32,
    /// The verb.
    pub verb: String,
    /// The account, or `None` if it was all of them or none.
    pub account: Option<AccountId>,
    /// The kinds of data, as in `e-mail, services`.
    pub data: String,
}

pub(crate) type EntryRow = (i64, i64, i64, String, Option<i64>, String, Vec<u8>);

impl Entry for EntryRow {
    const CHAIN: Chain = Chain::StaffLog;

    const SELECT: &'static str =
        "SELECT number, at, uid, verb, account_id, data, hash FROM staff_log
         WHERE number > $1 AND (account_id = $2 OR $2 < 0) ORDER BY number LIMIT $3";

    fn number(&self) -> i64 {
        self.0
    }

    fn hash(&self) -> &[u8] {
        &self.6
    }

    fn content(&self, _: &DataKeys) -> Option<Content> {
        let (_, at, uid, verb, account, data, _) = self;
        Some(content(*at, *uid, verb, *account, data))
    }
}

impl Store {
    /// Writes to the staff log that somebody is going to be shown data; show it only after that.
    ///
    /// Does nothing if this store is not [`Self::for_staff`].
    ///
    /// # Errors
    /// [`StoreError`]; then nothing may be shown.
    pub async fn note_look(&self, deed: Deed, now: UnixSeconds) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        self.note(&mut write, deed, now).await?;
        write.commit().await
    }

    /// Writes to the staff log in the change that it tells of, if this store is [`Self::for_staff`].
    pub(crate) async fn note(
        &self,
        write: &mut Write,
        deed: Deed,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let Some(uid) = self.staff else { return Ok(()) };
        let (at, uid, account) = (time_column(now), i64::from(uid), deed.account.map(|id| id.0));
        let data = deed.data_column();
        let content = content(at, uid, deed.verb, account, &data);
        let next = chain::extend(write, &self.keys(), Chain::StaffLog, &content).await?;
        sqlx::query(
            "INSERT INTO staff_log (number, at, uid, verb, account_id, data, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(next.number)
        .bind(at)
        .bind(uid)
        .bind(deed.verb)
        .bind(account)
        .bind(data)
        .bind(&next.hash[..])
        .execute(write.connection())
        .await?;
        Ok(())
    }

    /// Up to `limit` entries that follow the one numbered `after`: of one account or of all.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn staff_log(
        &self,
        account: Option<AccountId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StaffEntry>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let account = account.map_or(EVERYBODY, |account| account.0);
        let rows =
            sqlx::query_as(EntryRow::SELECT).bind(after).bind(account).bind(i64::from(limit));
        let rows: Vec<EntryRow> = rows.fetch_all(self.reader()).await?;
        Ok(rows.into_iter().map(read_entry).collect())
    }

    /// Up to `most` entries about the account but those by the verb `except`, latest first, and how many there are in all.
    pub(crate) async fn latest_staff_entries(
        &self,
        account: AccountId,
        except: &str,
        most: i64,
    ) -> Result<(Vec<StaffEntry>, u64), StoreError> {
        let count = "SELECT COUNT(*) FROM staff_log WHERE account_id = $1 AND verb <> $2";
        let count = sqlx::query_scalar(count).bind(account.0).bind(except);
        let count: i64 = count.fetch_one(self.reader()).await?;
        let rows = sqlx::query_as(
            "SELECT number, at, uid, verb, account_id, data, hash FROM staff_log
             WHERE account_id = $1 AND verb <> $2 ORDER BY number DESC LIMIT $3",
        );
        let rows = rows.bind(account.0).bind(except).bind(most);
        let rows: Vec<EntryRow> = rows.fetch_all(self.reader()).await?;
        Ok((rows.into_iter().map(read_entry).collect(), count.unsigned_abs()))
    }

    /// Looks whether any entry of the staff log was changed, removed, moved, added or cut off. `noted` is an end that
    /// was noted before, outside of the store.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn verify_staff_log(&self, noted: Option<End>) -> Result<Verdict, StoreError> {
        let mut write = self.write().await?;
        chain::verify::<EntryRow>(&mut write, &self.keys(), noted).await
    }
}

fn content(at: i64, uid: i64, verb: &str, account: Option<i64>, data: &str) -> Content {
    Content::default()
        .number(at)
        .number(uid)
        .bytes(verb.as_bytes())
        .optional_number(account)
        .bytes(data.as_bytes())
}

fn read_entry(row: EntryRow) -> StaffEntry {
    let (number, at, uid, verb, account, data, _) = row;
    StaffEntry {
        number: number.unsigned_abs(),
        at: read_time(at),
        uid: u32::try_from(uid).unwrap_or(u32::MAX),
        verb,
        account: account.map(AccountId),
        data,
    }
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
