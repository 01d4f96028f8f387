//! E-mail addresses that are not confirmed yet. A letter with a link goes to each; who follows it received the letter.

use std::time::Duration;

use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;

use crate::{
    AccountId, Confirmation, EmailAddress, HashedPassword, Letter, Occasion, Store, StoreError,
    Token,
    accounts::{NewAccount, check_email_is_new, email_of, find_email, set_email},
    archive::{FormerKind, Reason},
    personal::{PENDING_EMAIL, PENDING_PASSWORD},
    services::hold_account,
    staff_log::{DataKind, Deed},
    store::Write,
    times::{read_time, time_column},
};

/// How long a link works.
pub const LINK_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What an address is to be confirmed for.
enum Purpose<'a> {
    Registration(&'a HashedPassword, Confirmation),
    Change(AccountId),
}

impl Store {
    /// Begins a registration, and queues and returns the letter for its customer: there is an account once they follow
    /// its link. To the address of a customer goes a letter that says so; the one who registers must not be
    /// told the difference.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn begin_registration(
        &self,
        email: &EmailAddress,
        password: &HashedPassword,
        confirmation: Confirmation,
        now: UnixSeconds,
    ) -> Result<Letter, StoreError> {
        let mut write = self.write().await?;
        let is_taken = find_email(&mut write, &self.keys(), email).await?.is_some();
        let purpose = Purpose::Registration(password, confirmation);
        let token = add(&mut write, &self.keys(), email, &purpose, now).await?;
        // Written and removed, so that it takes the disk as long; and asked for if there is nothing to remove, so that it
        // takes a server far away as long.
        let of_no_use = if is_taken { token.hash() } else { Token::generate().hash() };
        sqlx::query("DELETE FROM pending_addresses WHERE token_hash = $1")
            .bind(of_no_use)
            .execute(write.connection())
            .await?;
        // The row goes at once or later; noted in any case, which takes as long.
        write.make_scrub_due().await?;
        let letter = match is_taken {
            true => Letter::AlreadyRegistered { to: email.clone() },
            false => letter(email, token, Occasion::Registration, now),
        };
        self.post(&mut write, &letter, now).await?;
        write.commit().await?;
        Ok(letter)
    }

    /// Makes the account of which the link was followed. Its service has not begun.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLink`] if it was followed before, is too old or was never made; [`StoreError::EmailTaken`].
    pub async fn confirm_registration(
        &self,
        token: &Token,
        now: UnixSeconds,
    ) -> Result<AccountId, StoreError> {
        self.check_link(token, now).await?;
        let mut write = self.write().await?;
        let taken = take(&mut write, &self.keys(), token, now).await?;
        let Taken {
            account: None,
            email,
            password: Some(password),
            confirmation: Some(confirmation),
            requested_at,
        } = taken
        else {
            return Err(StoreError::NoSuchLink);
        };
        check_email_is_new(&mut write, &self.keys(), &email).await?;
        let account = NewAccount {
            email: &email,
            confirmation: Confirmation::read(&confirmation)?,
            // When the confirmation was given.
            created_at: requested_at,
            password: Some(&password),
        };
        let account = account.insert(&mut write, &self.keys()).await?;
        write.make_scrub_due().await?;
        write.commit().await?;
        Ok(account)
    }

    /// Begins a change of the account's address, queues the letter that tells the present one, and queues and returns that for
    /// the new one. A change that was begun before and not confirmed is dropped.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn begin_email_change(
        &self,
        account: AccountId,
        email: &EmailAddress,
        now: UnixSeconds,
    ) -> Result<Letter, StoreError> {
        let mut write = self.write().await?;
        hold_account(&mut write, account).await?;
        forget_change(&mut write, account).await?;
        // Who asks must not learn whether somebody else is a customer; the owner of the address is told. What waits for a
        // link is shown to who asked, so it stays in any case; a link to the address of a customer goes to nobody.
        let is_taken = find_email(&mut write, &self.keys(), email).await?.is_some();
        let token = add(&mut write, &self.keys(), email, &Purpose::Change(account), now).await?;
        let letter = match is_taken {
            true => Letter::AlreadyRegistered { to: email.clone() },
            false => letter(email, token, Occasion::Change, now),
        };
        let to = email_of(&mut write, &self.keys(), account).await?;
        self.post(&mut write, &Letter::ChangeBegun { to }, now).await?;
        self.post(&mut write, &letter, now).await?;
        write.commit().await?;
        Ok(letter)
    }

    /// Makes the change of address of which the link was followed, archives the former address, and queues and returns
    /// the letters that tell both.
    ///
    /// # Errors
    /// As [`Self::confirm_registration`].
    pub async fn confirm_email_change(
        &self,
        token: &Token,
        now: UnixSeconds,
    ) -> Result<[Letter; 2], StoreError> {
        self.check_link(token, now).await?;
        let mut write = self.write().await?;
        let taken = take(&mut write, &self.keys(), token, now).await?;
        let account = taken.account.ok_or(StoreError::NoSuchLink)?;
        let letters = self.replace_email(&mut write, account, &taken.email, now).await?;
        write.commit().await?;
        Ok(letters)
    }

    /// Checks that there is such a link, without the turn of those who write: whoever makes links up must not take it.
    async fn check_link(&self, token: &Token, now: UnixSeconds) -> Result<(), StoreError> {
        let known: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM pending_addresses WHERE token_hash = $1 AND expires_at > $2",
        )
        .bind(token.hash())
        .bind(time_column(now))
        .fetch_optional(self.reader())
        .await?;
        known.map(drop).ok_or(StoreError::NoSuchLink)
    }

    /// Changes the account's address without a link, as its customer asked the staff for; queues and returns the letters
    /// that tell both.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], [`StoreError::EmailTaken`]
    pub async fn change_email(
        &self,
        account: AccountId,
        email: &EmailAddress,
        now: UnixSeconds,
    ) -> Result<[Letter; 2], StoreError> {
        let mut write = self.write().await?;
        let letters = self.replace_email(&mut write, account, email, now).await?;
        let deed = Deed::on(account, "account email", &[DataKind::Email, DataKind::Archive]);
        self.note(&mut write, deed, now).await?;
        write.commit().await?;
        Ok(letters)
    }

    async fn replace_email(
        &self,
        write: &mut Write,
        account: AccountId,
        email: &EmailAddress,
        now: UnixSeconds,
    ) -> Result<[Letter; 2], StoreError> {
        hold_account(write, account).await?;
        check_email_is_new(write, &self.keys(), email).await?;
        let former = set_email(write, &self.keys(), account, email).await?;
        let (kind, reason) = (FormerKind::Email, Reason::Changed);
        self.put_into_archive(write, account, kind, former.expose(), reason, now).await?;
        forget_change(write, account).await?;
        write.make_scrub_due().await?;
        let letters = [former, email.clone()].map(|to| Letter::AddressChanged { to });
        for letter in &letters {
            self.post(write, letter, now).await?;
        }
        Ok(letters)
    }
}

/// Drops the account's change of address that is not confirmed.
pub(crate) async fn forget_change(write: &mut Write, account: AccountId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM pending_addresses WHERE account_id = $1")
        .bind(account.0)
        .execute(write.connection())
        .await?;
    write.make_scrub_due().await
}

/// Removes addresses whose links do not work any more, and returns how many.
pub(crate) async fn remove_past(write: &mut Write, now: UnixSeconds) -> Result<u64, StoreError> {
    let removed = sqlx::query("DELETE FROM pending_addresses WHERE expires_at <= $1")
        .bind(time_column(now))
        .execute(write.connection())
        .await?;
    Ok(removed.rows_affected())
}

fn letter(to: &EmailAddress, token: Token, occasion: Occasion, now: UnixSeconds) -> Letter {
    Letter::ConfirmAddress { to: to.clone(), token, expires_at: now.plus(LINK_TIME), occasion }
}

async fn add(
    write: &mut Write,
    keys: &DataKeys,
    email: &EmailAddress,
    purpose: &Purpose<'_>,
    now: UnixSeconds,
) -> Result<Token, StoreError> {
    let token = Token::generate();
    let (account, registration) = match purpose {
        Purpose::Registration(password, confirmation) => (None, Some((password, confirmation))),
        Purpose::Change(account) => (Some(account.0), None),
    };
    // Values are sealed for their row, whose number is known only once there is one.
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO pending_addresses
            (token_hash, account_id, email, password, confirmation, requested_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
    )
    .bind(token.hash())
    .bind(account)
    .bind(Vec::<u8>::new())
    .bind(registration.map(|_| Vec::<u8>::new()))
    .bind(registration.map(|(_, confirmation)| confirmation.as_str()))
    .bind(time_column(now))
    .bind(time_column(now.plus(LINK_TIME)))
    .fetch_one(write.connection())
    .await?;
    let key = keys.current();
    let password =
        registration.map(|(password, _)| PENDING_PASSWORD.seal_text(key, id, password.expose()));
    sqlx::query("UPDATE pending_addresses SET email = $1, password = $2 WHERE id = $3")
        .bind(PENDING_EMAIL.seal_text(key, id, email.expose()))
        .bind(password)
        .bind(id)
        .execute(write.connection())
        .await?;
    Ok(token)
}

/// What waited for its link to be followed.
struct Taken {
    account: Option<AccountId>,
    email: EmailAddress,
    password: Option<HashedPassword>,
    confirmation: Option<String>,
    requested_at: UnixSeconds,
}

type TakenRow = (i64, Option<i64>, Vec<u8>, Option<Vec<u8>>, Option<String>, i64);

/// Takes what the link is for, so that it works once.
async fn take(
    write: &mut Write,
    keys: &DataKeys,
    token: &Token,
    now: UnixSeconds,
) -> Result<Taken, StoreError> {
    let row: Option<TakenRow> = sqlx::query_as(
        "DELETE FROM pending_addresses WHERE token_hash = $1 AND expires_at > $2
         RETURNING id, account_id, email, password, confirmation, requested_at",
    )
    .bind(token.hash())
    .bind(time_column(now))
    .fetch_optional(write.connection())
    .await?;
    let (id, account, email, password, confirmation, requested_at) =
        row.ok_or(StoreError::NoSuchLink)?;
    let password = password.map(|sealed| PENDING_PASSWORD.open_text(keys, id, &sealed));
    Ok(Taken {
        account: account.map(AccountId),
        email: PENDING_EMAIL.open_email(keys, id, &email)?,
        password: password.transpose()?.map(HashedPassword::read),
        confirmation,
        requested_at: read_time(requested_at),
    })
}
