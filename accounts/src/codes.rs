//! Activation codes: each switches a service on once, for who has it. Nothing ties one to a payment or to a person.

use std::{fmt, str::FromStr};

use rand_core::{OsRng, RngCore};
use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

use crate::{
    AccountId, Service, ServiceName, Store, StoreError,
    services::{Term, extend, hold_account},
    staff_log::{DataKind, Deed},
    times::{read_time, time_column},
    token::hash,
};

/// Letters and digits that are not mistaken for each other when they are read out (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of a code: five bits each, 125 in all.
pub(crate) const LEN: usize = 25;

/// Characters between hyphens.
pub(crate) const GROUP: usize = 5;

/// The longest time that a code may give, in days.
pub const MAX_DAYS: u32 = 3660;

/// A text that is no activation code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an activation code has {LEN} letters and digits, in groups of {GROUP}")]
pub struct CodeError;

/// An activation code; wiped when dropped, printed as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<String>);

impl Code {
    fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; LEN]);
        OsRng.fill_bytes(&mut *bytes);
        let characters = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        Self(Zeroizing::new(characters.collect()))
    }

    /// The code as people are given it.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let groups = self.0.as_bytes().chunks(GROUP).map(|group| String::from_utf8_lossy(group));
        Zeroizing::new(groups.collect::<Vec<_>>().join("-"))
    }

    fn hash(&self) -> Vec<u8> {
        hash("tacit activation code", &self.0)
    }
}

/// Reads a code as people write it: in small letters, with spaces or hyphens or none, and with O for 0 and I or L for 1.
impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let mut code = Zeroizing::new(String::with_capacity(LEN));
        for c in text.chars().filter(|c| !matches!(c, '-' | ' ')) {
            let c = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                c => c,
            };
            if code.len() == LEN || !c.is_ascii() || !ALPHABET.contains(&(c as u8)) {
                return Err(CodeError);
            }
            code.push(c);
        }
        if code.len() == LEN { Ok(Self(code)) } else { Err(CodeError) }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A code that nobody has redeemed, without itself: it is known to who was given it only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedCode {
    /// Its number.
    pub id: i64,
    /// The service that it switches on.
    pub service: ServiceName,
    /// For how many days.
    pub days: u32,
    /// When it was made.
    pub made_at: UnixSeconds,
}

impl Store {
    /// Makes `count` codes, which are nowhere else than in the answer.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn make_codes(
        &self,
        count: u32,
        service: &ServiceName,
        days: u32,
        now: UnixSeconds,
    ) -> Result<Vec<Code>, StoreError> {
        let mut write = self.write().await?;
        let codes: Vec<Code> = (0..count).map(|_| Code::generate()).collect();
        for code in &codes {
            sqlx::query(
                "INSERT INTO codes (code_hash, service, days, made_at) VALUES ($1, $2, $3, $4)",
            )
            .bind(code.hash())
            .bind(service.as_str())
            .bind(i64::from(days))
            .bind(time_column(now))
            .execute(write.connection())
            .await?;
        }
        let deed = Deed { verb: "code make", account: None, data: &[] };
        self.note(&mut write, deed, now).await?;
        write.commit().await?;
        Ok(codes)
    }

    /// The codes that nobody has redeemed, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn unused_codes(&self) -> Result<Vec<UnusedCode>, StoreError> {
        let rows: Vec<(i64, String, i64, i64)> =
            sqlx::query_as("SELECT id, service, days, made_at FROM codes ORDER BY id")
                .fetch_all(self.reader())
                .await?;
        let read = |(id, service, days, made_at): (_, String, i64, _)| {
            Ok(UnusedCode {
                id,
                service: ServiceName::read(&service)?,
                days: u32::try_from(days).unwrap_or(u32::MAX),
                made_at: read_time(made_at),
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Gives the account what the code is for, and removes the code.
    ///
    /// # Errors
    /// [`StoreError::NoSuchCode`], also of one that is used; [`StoreError::WithoutEnd`] if the service has no end to
    /// add days to: then the code is still good.
    pub async fn redeem_code(
        &self,
        account: AccountId,
        code: &Code,
        now: UnixSeconds,
    ) -> Result<Service, StoreError> {
        let mut write = self.write().await?;
        hold_account(&mut write, account).await?;
        let row: Option<(String, i64)> =
            sqlx::query_as("DELETE FROM codes WHERE code_hash = $1 RETURNING service, days")
                .bind(code.hash())
                .fetch_optional(write.connection())
                .await?;
        let (service, days) = row.ok_or(StoreError::NoSuchCode)?;
        let service = ServiceName::read(&service)?;
        let days = u32::try_from(days).map_err(|_| StoreError::Corrupt("codes.days"))?;
        let given = extend(&mut write, account, &service, Term::MoreDays(days), now).await?;
        let deed = Deed::on(account, "code redeem", &[DataKind::Services]);
        self.note(&mut write, deed, now).await?;
        write.make_scrub_due().await?;
        write.commit().await?;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_read_as_people_write_it() {
        let code: Code = "01A2B-3C4D5-E6F7G-8H9J0-KMNPQ".parse().unwrap();
        assert_eq!("oIa2b 3c4d5 e6f7g8h9jOkmnpq".parse(), Ok(code.clone()));
        assert_eq!(code.expose().parse(), Ok(code));
    }

    #[test]
    fn other_text_is_no_code() {
        let long = "0".repeat(26);
        for text in ["", "0", &long, "U1A2B-3C4D5-E6F7G-8H9J0-KMNPQ", "０1A2B3C4D5E6F7G8H9J0KMNPQ"]
        {
            assert_eq!(text.parse::<Code>(), Err(CodeError), "{text:?}");
        }
    }

    #[test]
    fn codes_differ_and_print_nothing() {
        assert!(Code::generate() != Code::generate());
        assert_eq!(format!("{:?}", Code::generate()), "[redacted]");
    }
}
