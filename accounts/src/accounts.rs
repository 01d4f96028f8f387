//! Accounts: who may use the gateway, and until when.

use std::{fmt, str::FromStr, sync::Arc};

use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;

use crate::{
    EmailAddress, EmailError, HashedPassword, ServiceName, Store, StoreError,
    personal::{PASSWORD, email_hash, open_email, seal_email},
    post, services,
    staff_log::{DataKind, Deed},
    store::Write,
    times::{read_time, time_column},
};

/// Number of an account; never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub i64);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was confirmed when the account was made; without it there is no account (privacy rules, clause 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The customer is of age.
    OfAge,
    /// The customer is the adult responsible for the child who will use the account.
    ResponsibleAdult,
}

impl Confirmation {
    /// The confirmation's name in the store and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OfAge => "of-age",
            Self::ResponsibleAdult => "responsible-adult",
        }
    }

    pub(crate) fn read(column: &str) -> Result<Self, StoreError> {
        [Self::OfAge, Self::ResponsibleAdult]
            .into_iter()
            .find(|confirmation| confirmation.as_str() == column)
            .ok_or(StoreError::Corrupt("accounts.confirmation"))
    }
}

/// Why a text selects no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Neither a number nor an e-mail address.
    #[error("an account is its number or its e-mail address: {0}")]
    Email(#[from] EmailError),
    /// Digits, but no account can have that number.
    #[error("no account has so large a number; `tacit account list` shows all")]
    Number,
}

/// An account as an operator names it: by number or e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountSelector {
    /// By number.
    Id(AccountId),
    /// By e-mail address.
    Email(EmailAddress),
}

impl FromStr for AccountSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits {
            return text
                .parse()
                .map(|id| Self::Id(AccountId(id)))
                .map_err(|_| SelectorError::Number);
        }
        // Whoever is a customer already is found, also by an address that is not taken any more.
        Ok(Self::Email(EmailAddress::read(text)?))
    }
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Where its customer is reached.
    pub email: EmailAddress,
    /// What its customer confirmed.
    pub confirmation: Confirmation,
    /// When it was made, and with it the confirmation given.
    pub created_at: UnixSeconds,
    /// When its last service ends, or `None` if one runs without end. In 1970 if it has none.
    pub service_until: Option<UnixSeconds>,
    /// How many devices it has.
    pub devices: u32,
    /// How many devices it may have.
    pub device_limit: u32,
}

type AccountRow = (i64, Vec<u8>, String, i64, Option<i64>, i64);

impl Store {
    /// Makes an account; its service ends at `service_until`, or never.
    ///
    /// # Errors
    /// [`StoreError::EmailTaken`] if there is an account with this e-mail address.
    pub async fn add_account(
        &self,
        email: &EmailAddress,
        confirmation: Confirmation,
        service_until: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<Account, StoreError> {
        let mut write = self.write().await?;
        let keys = self.keys();
        check_email_is_new(&mut write, &keys, email).await?;
        let account = NewAccount { email, confirmation, created_at: now, password: None };
        let id = account.insert(&mut write, &keys).await?;
        services::put(&mut write, id, &ServiceName::default(), service_until).await?;
        let data = &[DataKind::Email, DataKind::Confirmation, DataKind::Services];
        self.note(&mut write, Deed::on(id, "account add", data), now).await?;
        write.commit().await?;
        Ok(Account {
            id,
            email: email.clone(),
            confirmation,
            created_at: now,
            service_until,
            devices: 0,
            device_limit: self.device_limit(),
        })
    }

    /// All accounts, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let rows: Vec<AccountRow> = sqlx::query_as(
            "SELECT id, email, confirmation, created_at, service_until,
                (SELECT COUNT(*) FROM devices WHERE devices.account_id = accounts.id)
             FROM accounts WHERE cancelled_at IS NULL ORDER BY id",
        )
        .fetch_all(self.reader())
        .await?;
        let keys = self.keys();
        rows.into_iter().map(|row| self.read_account(&keys, row)).collect()
    }

    /// The account that `selector` names.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn account(&self, selector: &AccountSelector) -> Result<Account, StoreError> {
        loop {
            let keys = self.keys();
            if let Some(row) = self.find_account(&keys, selector).await? {
                return self.read_account(&self.keys(), row);
            }
            if Arc::ptr_eq(&keys, &self.keys()) {
                return Err(StoreError::NoSuchAccount);
            }
        }
    }

    async fn find_account(
        &self,
        keys: &DataKeys,
        selector: &AccountSelector,
    ) -> Result<Option<AccountRow>, StoreError> {
        let selections = match selector {
            AccountSelector::Id(id) => vec![(Some(id.0), None)],
            AccountSelector::Email(email) => {
                email_hashes(keys, email).into_iter().map(|hash| (None, Some(hash))).collect()
            }
        };
        for (id, email_hash) in selections {
            let row = sqlx::query_as(
                "SELECT id, email, confirmation, created_at, service_until,
                    (SELECT COUNT(*) FROM devices WHERE devices.account_id = accounts.id)
                 FROM accounts WHERE (id = $1 OR email_hash = $2) AND cancelled_at IS NULL",
            )
            .bind(id)
            .bind(email_hash)
            .fetch_optional(self.reader())
            .await?;
            if row.is_some() {
                return Ok(row);
            }
        }
        Ok(None)
    }

    fn read_account(&self, keys: &DataKeys, row: AccountRow) -> Result<Account, StoreError> {
        let (id, email, confirmation, created_at, service_until, devices) = row;
        Ok(Account {
            id: AccountId(id),
            email: open_email(keys, AccountId(id), &email)?,
            confirmation: Confirmation::read(&confirmation)?,
            created_at: read_time(created_at),
            service_until: service_until.map(read_time),
            devices: u32::try_from(devices).unwrap_or(u32::MAX),
            device_limit: self.device_limit(),
        })
    }
}

/// What the account with this address may be found by, in the order in which a value sealed anew goes through the keys:
/// so it is not missed on its way.
pub(crate) fn email_hashes(keys: &DataKeys, email: &EmailAddress) -> Vec<Vec<u8>> {
    let mut hashes: Vec<_> = keys.iter().map(|key| email_hash(key, email)).collect();
    hashes.reverse();
    hashes
}

/// A list of so many places in a statement, of which nothing is asked one by one: who waits for the answer must not learn by the
/// time which of them was the right one, if any.
pub(crate) fn places(count: usize) -> String {
    (1..=count).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// The account with this address.
pub(crate) async fn find_email(
    write: &mut Write,
    keys: &DataKeys,
    email: &EmailAddress,
) -> Result<Option<AccountId>, StoreError> {
    let hashes = email_hashes(keys, email);
    let sql = format!("SELECT id FROM accounts WHERE email_hash IN ({})", places(hashes.len()));
    // Places and nothing else are put into the statement.
    let mut query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
    for hash in hashes {
        query = query.bind(hash);
    }
    let found: Option<i64> = query.fetch_optional(write.connection()).await?;
    Ok(found.map(AccountId))
}

pub(crate) async fn check_email_is_new(
    write: &mut Write,
    keys: &DataKeys,
    email: &EmailAddress,
) -> Result<(), StoreError> {
    let taken = find_email(write, keys, email).await?;
    if taken.is_some() { Err(StoreError::EmailTaken) } else { Ok(()) }
}

/// The account's address.
pub(crate) async fn email_of(
    write: &mut Write,
    keys: &DataKeys,
    account: AccountId,
) -> Result<EmailAddress, StoreError> {
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT email FROM accounts WHERE id = $1")
        .bind(account.0)
        .fetch_one(write.connection())
        .await?;
    open_email(keys, account, &sealed)
}

/// Puts another address in the place of the account's, and returns that.
pub(crate) async fn set_email(
    write: &mut Write,
    keys: &DataKeys,
    account: AccountId,
    email: &EmailAddress,
) -> Result<EmailAddress, StoreError> {
    let former = email_of(write, keys, account).await?;
    sqlx::query("UPDATE accounts SET email = $1, email_hash = $2 WHERE id = $3")
        .bind(seal_email(keys.current(), account, email))
        .bind(email_hash(keys.current(), email))
        .bind(account.0)
        .execute(write.connection())
        .await?;
    post::retry_at_new_address(write, account).await?;
    Ok(former)
}

/// What the account's customer confirmed, and when.
pub(crate) async fn confirmation_of(
    write: &mut Write,
    account: AccountId,
) -> Result<(Confirmation, UnixSeconds), StoreError> {
    let (confirmation, created_at): (String, i64) =
        sqlx::query_as("SELECT confirmation, created_at FROM accounts WHERE id = $1")
            .bind(account.0)
            .fetch_one(write.connection())
            .await?;
    Ok((Confirmation::read(&confirmation)?, read_time(created_at)))
}

/// An account that is being made. It has no service yet.
pub(crate) struct NewAccount<'a> {
    pub(crate) email: &'a EmailAddress,
    pub(crate) confirmation: Confirmation,
    pub(crate) created_at: UnixSeconds,
    pub(crate) password: Option<&'a HashedPassword>,
}

impl NewAccount<'_> {
    pub(crate) async fn insert(
        self,
        write: &mut Write,
        keys: &DataKeys,
    ) -> Result<AccountId, StoreError> {
        // Values are sealed for their row, whose number is known only once there is one.
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO accounts (email, email_hash, confirmation, created_at, service_until)
             VALUES ($1, $2, $3, $4, 0) RETURNING id",
        )
        .bind(Vec::<u8>::new())
        .bind(email_hash(keys.current(), self.email))
        .bind(self.confirmation.as_str())
        .bind(time_column(self.created_at))
        .fetch_one(write.connection())
        .await?;
        let key = keys.current();
        let password = self.password.map(|password| PASSWORD.seal_text(key, id, password.expose()));
        sqlx::query("UPDATE accounts SET email = $1, password = $2 WHERE id = $3")
            .bind(seal_email(key, AccountId(id), self.email))
            .bind(password)
            .bind(id)
            .execute(write.connection())
            .await?;
        Ok(AccountId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customer_whose_address_would_not_be_taken_today_is_found_by_it() {
        let text = "\u{430}nn@example.org";
        assert!(EmailAddress::parse(text).is_err());
        let selector: AccountSelector = text.parse().unwrap();
        assert_eq!(selector, AccountSelector::Email(EmailAddress::read(text).unwrap()));
        assert!("ann".parse::<AccountSelector>().is_err());
    }
}
