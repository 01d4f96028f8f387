//! To whom a customer agreed that what is held about them is disclosed.

use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;

use crate::{
    AccountId, Line, Store, StoreError,
    personal::CONSENT_RECIPIENT,
    services::hold_account,
    store::Write,
    times::{read_time, time_column},
};

/// A customer's consent to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Its number.
    pub id: i64,
    /// Who may be given what is held.
    pub recipient: Line,
    /// When it was given.
    pub given_at: UnixSeconds,
    /// When it was withdrawn, or `None` while it holds.
    pub withdrawn_at: Option<UnixSeconds>,
}

type ConsentRow = (i64, Vec<u8>, i64, Option<i64>);

const CONSENTS: &str = "SELECT id, recipient, given_at, withdrawn_at FROM consents
     WHERE account_id = $1 ORDER BY id";

impl Store {
    /// Records that the customer agrees to a disclosure to `recipient`, and returns the consent's number: that of the one
    /// which holds already, if there is one, so that a form sent twice leaves nothing to withdraw twice.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn give_consent(
        &self,
        account: AccountId,
        recipient: &Line,
        now: UnixSeconds,
    ) -> Result<i64, StoreError> {
        let mut write = self.write().await?;
        hold_account(&mut write, account).await?;
        let key = self.keys();
        let held = held_for(&mut write, &key, account, recipient).await?;
        if let Some(consent) = held.first() {
            return Ok(*consent);
        }
        // The recipient is sealed for its row, whose number is known only once there is one.
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO consents (account_id, recipient, given_at) VALUES ($1, $2, $3) RETURNING id",
        )
        .bind(account.0)
        .bind(Vec::<u8>::new())
        .bind(time_column(now))
        .fetch_one(write.connection())
        .await?;
        sqlx::query("UPDATE consents SET recipient = $1 WHERE id = $2")
            .bind(CONSENT_RECIPIENT.seal_text(key.current(), id, recipient.expose()))
            .bind(id)
            .execute(write.connection())
            .await?;
        write.commit().await?;
        Ok(id)
    }

    /// Withdraws a consent of the account, and every other to the same recipient: afterwards none holds, whichever of them
    /// the customer had before their eyes.
    ///
    /// # Errors
    /// [`StoreError::NoConsent`] if the account has none of this number, or [`StoreError::NoSuchAccount`].
    pub async fn withdraw_consent(
        &self,
        account: AccountId,
        consent: i64,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        hold_account(&mut write, account).await?;
        let keys = self.keys();
        let mut consents = all(&mut write, &keys, account).await?.into_iter();
        let named = consents.find(|given| given.id == consent).ok_or(StoreError::NoConsent)?;
        for held in held_for(&mut write, &keys, account, &named.recipient).await? {
            sqlx::query("UPDATE consents SET withdrawn_at = $1 WHERE id = $2")
                .bind(time_column(now))
                .bind(held)
                .execute(write.connection())
                .await?;
        }
        write.commit().await
    }

    /// The account's consents, those that were withdrawn too, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn consents(&self, account: AccountId) -> Result<Vec<Consent>, StoreError> {
        let rows = sqlx::query_as(CONSENTS).bind(account.0).fetch_all(self.reader()).await?;
        read(&self.keys(), rows)
    }
}

/// Refuses unless the customer agrees to a disclosure to `recipient`.
pub(crate) async fn check(
    write: &mut Write,
    keys: &DataKeys,
    account: AccountId,
    recipient: &Line,
) -> Result<(), StoreError> {
    let held = held_for(write, keys, account, recipient).await?;
    if held.is_empty() { Err(StoreError::NoConsent) } else { Ok(()) }
}

/// The numbers of the account's consents to `recipient` that hold: at most one, but for what a former version took twice.
async fn held_for(
    write: &mut Write,
    keys: &DataKeys,
    account: AccountId,
    recipient: &Line,
) -> Result<Vec<i64>, StoreError> {
    let holds =
        |consent: &Consent| consent.withdrawn_at.is_none() && consent.recipient == *recipient;
    let consents = all(write, keys, account).await?;
    Ok(consents.into_iter().filter(holds).map(|consent| consent.id).collect())
}

async fn all(
    write: &mut Write,
    keys: &DataKeys,
    account: AccountId,
) -> Result<Vec<Consent>, StoreError> {
    let rows = sqlx::query_as(CONSENTS).bind(account.0).fetch_all(write.connection()).await?;
    read(keys, rows)
}

fn read(keys: &DataKeys, rows: Vec<ConsentRow>) -> Result<Vec<Consent>, StoreError> {
    let read = |(id, recipient, given_at, withdrawn_at): ConsentRow| {
        let recipient = CONSENT_RECIPIENT.open_text(keys, id, &recipient)?;
        Ok(Consent {
            id,
            recipient: Line::parse(&recipient)
                .map_err(|_| StoreError::Corrupt(CONSENT_RECIPIENT.name))?,
            given_at: read_time(given_at),
            withdrawn_at: withdrawn_at.map(read_time),
        })
    };
    rows.into_iter().map(read).collect()
}
