//! The disclosure register: what left to whom, on which basis, with a hash of what it was. Hash-chained.

use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;
use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

use crate::{
    AccountId, Line, Reader, Store, StoreError,
    chain::{self, Chain, Content, EVERYBODY, End, Entry, Verdict},
    consents,
    personal::{RECIPIENT, REFERENCE},
    staff_log::{DataKind, Deed},
    store::Write,
    times::{read_time, time_column},
};

/// What allows a disclosure (privacy rules, clause 2). There is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The customer agreed, explicitly, to this recipient.
    Consent,
    /// An order that is lawful and followed its procedure.
    LawfulOrder,
    /// The customer broke the terms.
    TermsBreach,
}

impl Basis {
    /// The basis's name in the register and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::LawfulOrder => "lawful-order",
            Self::TermsBreach => "terms-breach",
        }
    }

    fn read(column: &str) -> Result<Self, StoreError> {
        [Self::Consent, Self::LawfulOrder, Self::TermsBreach]
            .into_iter()
            .find(|basis| basis.as_str() == column)
            .ok_or(StoreError::Corrupt("disclosures.basis"))
    }
}

/// A disclosure that is to be made.
#[derive(Clone, Debug)]
pub struct DisclosureRequest {
    /// About whom: a cancelled account too.
    pub account: AccountId,
    /// What allows it.
    pub basis: Basis,
    /// The order's, letter's or case's reference.
    pub reference: Line,
    /// Who receives it.
    pub recipient: Line,
    /// Until when the order forbids to tell the customer, if it does.
    pub secret_until: Option<UnixSeconds>,
}

/// An entry of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosure {
    /// Its number: one more than the entry's before.
    pub number: u64,
    /// When it was made.
    pub at: UnixSeconds,
    /// Who made it: the number of a Unix user, as the kernel vouched for it.
    pub uid: u32,
    /// About whom.
    pub account: AccountId,
    /// What allowed it.
    pub basis: Basis,
    /// The order's, letter's or case's reference.
    pub reference: Line,
    /// Who received it.
    pub recipient: Line,
    /// Until when the customer must not be told, if ever.
    pub secret_until: Option<UnixSeconds>,
    /// SHA-256 of what left.
    pub content_hash: [u8; 32],
}

impl Disclosure {
    /// Whether the customer is told of it at `now`.
    pub(crate) fn may_be_told(&self, now: UnixSeconds) -> bool {
        self.secret_until.is_none_or(|until| until <= now)
    }
}

pub(crate) type DisclosureRow =
    (i64, i64, i64, i64, String, Vec<u8>, Vec<u8>, Option<i64>, Vec<u8>, Vec<u8>);

impl Entry for DisclosureRow {
    const CHAIN: Chain = Chain::Disclosures;

    const SELECT: &'static str =
        "SELECT number, at, uid, account_id, basis, reference, recipient, secret_until, content_hash, hash
         FROM disclosures WHERE number > $1 AND (account_id = $2 OR $2 < 0) ORDER BY number LIMIT $3";

    fn number(&self) -> i64 {
        self.0
    }

    fn hash(&self) -> &[u8] {
        &self.9
    }

    fn content(&self, keys: &DataKeys) -> Option<Content> {
        read(keys, self).ok().map(|disclosure| content(&disclosure))
    }
}

impl Store {
    /// Registers a disclosure, and returns it with what may leave: everything that is held about the account, as JSON.
    /// The store must be [`Self::for_staff`].
    ///
    /// # Errors
    /// [`StoreError::StaffOnly`], [`StoreError::NoSuchAccount`], or [`StoreError::NoConsent`]; then nothing may leave.
    pub async fn disclose(
        &self,
        request: &DisclosureRequest,
        now: UnixSeconds,
    ) -> Result<(Disclosure, Zeroizing<String>), StoreError> {
        let uid = self.staff.ok_or(StoreError::StaffOnly)?;
        let content = self.export(request.account, Reader::Recipient, now).await?.json();
        let mut write = self.write().await?;
        if request.basis == Basis::Consent {
            let keys = self.keys();
            consents::check(&mut write, &keys, request.account, &request.recipient).await?;
        }
        let mut disclosure = Disclosure {
            number: 0,
            at: now,
            uid,
            account: request.account,
            basis: request.basis,
            reference: request.reference.clone(),
            recipient: request.recipient.clone(),
            secret_until: request.secret_until,
            content_hash: Sha256::digest(content.as_bytes()).into(),
        };
        disclosure.number = self.enter(&mut write, &disclosure).await?;
        let deed = Deed::on(request.account, "disclosure make", DataKind::ALL);
        self.note(&mut write, deed, now).await?;
        write.commit().await?;
        Ok((disclosure, content))
    }

    /// The disclosures about one account or all, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn disclosures(
        &self,
        account: Option<AccountId>,
    ) -> Result<Vec<Disclosure>, StoreError> {
        self.disclosures_after(account, 0, i64::MAX).await
    }

    /// Up to `most` disclosures that follow the one numbered `after`, oldest first.
    pub(crate) async fn disclosures_after(
        &self,
        account: Option<AccountId>,
        after: u64,
        most: i64,
    ) -> Result<Vec<Disclosure>, StoreError> {
        let account = account.map_or(EVERYBODY, |account| account.0);
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows = sqlx::query_as(DisclosureRow::SELECT).bind(after).bind(account).bind(most);
        let rows: Vec<DisclosureRow> = rows.fetch_all(self.reader()).await?;
        let keys = self.keys();
        rows.iter().map(|row| read(&keys, row)).collect()
    }

    /// The disclosures that the customer is told of: all, except those that an order forbids to tell at `now`.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn disclosures_told(
        &self,
        account: AccountId,
        now: UnixSeconds,
    ) -> Result<Vec<Disclosure>, StoreError> {
        let mut disclosures = self.disclosures(Some(account)).await?;
        disclosures.retain(|disclosure| disclosure.may_be_told(now));
        Ok(disclosures)
    }

    /// Up to `most` of those that the customer is told of at `now`, latest first, and how many there are in all.
    pub(crate) async fn latest_disclosures_told(
        &self,
        account: AccountId,
        most: i64,
        now: UnixSeconds,
    ) -> Result<(Vec<Disclosure>, u64), StoreError> {
        const TOLD: &str = "FROM disclosures WHERE account_id = $1 AND (secret_until IS NULL OR secret_until <= $2)";
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) {TOLD}")))
            .bind(account.0)
            .bind(time_column(now))
            .fetch_one(self.reader())
            .await?;
        let sql = format!(
            "SELECT number, at, uid, account_id, basis, reference, recipient, secret_until, content_hash, hash
             {TOLD} ORDER BY number DESC LIMIT $3"
        );
        let rows = sqlx::query_as(AssertSqlSafe(sql)).bind(account.0).bind(time_column(now));
        let rows: Vec<DisclosureRow> = rows.bind(most).fetch_all(self.reader()).await?;
        let keys = self.keys();
        let disclosures = rows.iter().map(|row| read(&keys, row));
        Ok((disclosures.collect::<Result<_, _>>()?, count.unsigned_abs()))
    }

    /// Looks whether any entry of the register was changed, removed, moved, added or cut off. `noted` is an end that was
    /// noted before, outside of the store.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn verify_disclosures(&self, noted: Option<End>) -> Result<Verdict, StoreError> {
        let mut write = self.write().await?;
        chain::verify::<DisclosureRow>(&mut write, &self.keys(), noted).await
    }

    async fn enter(&self, write: &mut Write, entry: &Disclosure) -> Result<u64, StoreError> {
        let keys = self.keys();
        let next = chain::extend(write, &keys, Chain::Disclosures, &content(entry)).await?;
        let key = keys.current();
        sqlx::query(
            "INSERT INTO disclosures
                (number, at, uid, account_id, basis, reference, recipient, secret_until, content_hash, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(next.number)
        .bind(time_column(entry.at))
        .bind(i64::from(entry.uid))
        .bind(entry.account.0)
        .bind(entry.basis.as_str())
        .bind(REFERENCE.seal_text(key, next.number, entry.reference.expose()))
        .bind(RECIPIENT.seal_text(key, next.number, entry.recipient.expose()))
        .bind(entry.secret_until.map(time_column))
        .bind(&entry.content_hash[..])
        .bind(&next.hash[..])
        .execute(write.connection())
        .await?;
        Ok(next.number.unsigned_abs())
    }
}

/// What is hashed: the texts themselves, so that sealing them anew changes nothing.
fn content(entry: &Disclosure) -> Content {
    Content::default()
        .number(time_column(entry.at))
        .number(entry.uid.into())
        .number(entry.account.0)
        .bytes(entry.basis.as_str().as_bytes())
        .bytes(entry.reference.expose().as_bytes())
        .bytes(entry.recipient.expose().as_bytes())
        .optional_number(entry.secret_until.map(time_column))
        .bytes(&entry.content_hash)
}

fn read(keys: &DataKeys, row: &DisclosureRow) -> Result<Disclosure, StoreError> {
    let (number, at, uid, account, basis, reference, recipient, secret_until, content_hash, _) =
        row;
    let line = |column: crate::personal::SealedColumn, sealed: &[u8]| {
        let text = column.open_text(keys, *number, sealed)?;
        Line::parse(&text).map_err(|_| StoreError::Corrupt(column.name))
    };
    Ok(Disclosure {
        number: number.unsigned_abs(),
        at: read_time(*at),
        uid: u32::try_from(*uid).map_err(|_| StoreError::Corrupt("disclosures.uid"))?,
        account: AccountId(*account),
        basis: Basis::read(basis)?,
        reference: line(REFERENCE, reference)?,
        recipient: line(RECIPIENT, recipient)?,
        secret_until: secret_until.map(read_time),
        content_hash: content_hash[..]
            .try_into()
            .map_err(|_| StoreError::Corrupt("disclosures.content_hash"))?,
    })
}
