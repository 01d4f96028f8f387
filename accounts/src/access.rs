//! What a customer's access hangs on: the password, and the epoch that ends visits of the site.

use std::sync::Arc;

use tacit_messages::UnixSeconds;

use crate::{
    AccountId, EmailAddress, HashedPassword, Letter, Store, StoreError,
    accounts::{email_hashes, email_of, places},
    pending::forget_change,
    personal::PASSWORD,
    services::hold_account,
    staff_log::{DataKind, Deed},
};

/// What a log-in is checked against.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The account.
    pub account: AccountId,
    /// Visits that began in another epoch are over.
    pub epoch: i64,
    /// Its password, if it has one: an account that the staff made has none until they set it.
    pub password: Option<HashedPassword>,
}

type CredentialsRow = (i64, i64, Option<Vec<u8>>);

impl Store {
    /// What a log-in with this address is checked against, if anybody has it.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn credentials(
        &self,
        email: &EmailAddress,
    ) -> Result<Option<Credentials>, StoreError> {
        loop {
            let keys = self.keys();
            // One question, whoever it is: a server far away takes as long over each.
            let hashes = email_hashes(&keys, email);
            let sql = format!(
                "SELECT id, epoch, password FROM accounts
                 WHERE email_hash IN ({}) AND cancelled_at IS NULL",
                places(hashes.len())
            );
            // Places and nothing else are put into the statement.
            let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
            for hash in hashes {
                query = query.bind(hash);
            }
            let row: Option<CredentialsRow> = query.fetch_optional(self.reader()).await?;
            if row.is_some() || Arc::ptr_eq(&keys, &self.keys()) {
                return row.map(|row| self.read_credentials(row)).transpose();
            }
        }
    }

    /// What the account's customer is checked against when they change something of weight.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn credentials_of(
        &self,
        account: AccountId,
    ) -> Result<Option<Credentials>, StoreError> {
        let row: Option<CredentialsRow> = sqlx::query_as(
            "SELECT id, epoch, password FROM accounts WHERE id = $1 AND cancelled_at IS NULL",
        )
        .bind(account.0)
        .fetch_optional(self.reader())
        .await?;
        row.map(|row| self.read_credentials(row)).transpose()
    }

    fn read_credentials(&self, row: CredentialsRow) -> Result<Credentials, StoreError> {
        let (id, epoch, password) = row;
        let password = password.map(|sealed| PASSWORD.open_text(&self.keys(), id, &sealed));
        Ok(Credentials {
            account: AccountId(id),
            epoch,
            password: password.transpose()?.map(HashedPassword::read),
        })
    }

    /// The account's epoch, or `None` if it is cancelled. A visit of the site goes on as long as it is the one that it
    /// began in.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn epoch(&self, account: AccountId) -> Result<Option<i64>, StoreError> {
        let epoch =
            sqlx::query_scalar("SELECT epoch FROM accounts WHERE id = $1 AND cancelled_at IS NULL");
        Ok(epoch.bind(account.0).fetch_optional(self.reader()).await?)
    }

    /// Changes the account's password, which ends all visits of the site and drops a change of address that is not
    /// confirmed: who knew the former password may have begun it. Queues the letter that tells the customer, and returns the
    /// new epoch with that letter. The former password is not archived.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn set_password(
        &self,
        account: AccountId,
        password: &HashedPassword,
        now: UnixSeconds,
    ) -> Result<(i64, Letter), StoreError> {
        let mut write = self.write().await?;
        hold_account(&mut write, account).await?;
        let sealed = PASSWORD.seal_text(self.keys().current(), account.0, password.expose());
        let epoch: i64 = sqlx::query_scalar(
            "UPDATE accounts SET password = $1, epoch = epoch + 1 WHERE id = $2 RETURNING epoch",
        )
        .bind(sealed)
        .bind(account.0)
        .fetch_one(write.connection())
        .await?;
        forget_change(&mut write, account).await?;
        let to = email_of(&mut write, &self.keys(), account).await?;
        let deed = Deed::on(account, "account password", &[DataKind::Password]);
        self.note(&mut write, deed, now).await?;
        let letter = Letter::PasswordChanged { to };
        self.post(&mut write, &letter, now).await?;
        write.make_scrub_due().await?;
        write.commit().await?;
        Ok((epoch, letter))
    }
}
