//! The services that a customer chose, and when they end.

use std::{fmt, str::FromStr, time::Duration};

use tacit_messages::{DeviceId, UnixSeconds};

use crate::{
    AccountId, Store, StoreError,
    devices::read_id,
    staff_log::{DataKind, Deed},
    store::Write,
    times::{read_time, time_column},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest name of a service in characters.
const MAX_NAME_LEN: usize = 32;

/// A text that cannot name a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a service's name has 1 to {MAX_NAME_LEN} characters of a-z, 0-9 and `-`, and begins with a letter"
)]
pub struct ServiceNameError;

/// A service's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName(String);

impl ServiceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn read(column: &str) -> Result<Self, StoreError> {
        column.parse().map_err(|_| StoreError::Corrupt("services.name"))
    }
}

/// The one service of an operator who does not name any.
impl Default for ServiceName {
    fn default() -> Self {
        Self("vpn".to_owned())
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let begins = text.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
        if text.len() > MAX_NAME_LEN || !begins || !text.bytes().all(plain) {
            return Err(ServiceNameError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A chosen service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// When it ends or ended, or `None` if it runs without end.
    pub ends_at: Option<UnixSeconds>,
}

impl Service {
    /// Whether it runs at `now`.
    #[must_use]
    pub fn is_running(&self, now: UnixSeconds) -> bool {
        self.ends_at.is_none_or(|ends_at| ends_at > now)
    }
}

/// For how long a service is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Days after the end that the service has, or from now on if it does not run.
    MoreDays(u32),
    /// Days from now on, whatever end the service had.
    DaysFromNow(u32),
    /// Without end.
    WithoutEnd,
}

impl Store {
    /// The account's services, in the order of their names.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn services(&self, account: AccountId) -> Result<Vec<Service>, StoreError> {
        let rows: Vec<(String, Option<i64>)> = sqlx::query_as(
            "SELECT name, ends_at FROM services WHERE account_id = $1 ORDER BY name",
        )
        .bind(account.0)
        .fetch_all(self.reader())
        .await?;
        let read = |(name, ends_at): (String, Option<i64>)| {
            Ok(Service { name: ServiceName::read(&name)?, ends_at: ends_at.map(read_time) })
        };
        rows.into_iter().map(read).collect()
    }

    /// Gives the account a service.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], or [`StoreError::WithoutEnd`] if the service has no end to add days to.
    pub async fn grant(
        &self,
        account: AccountId,
        service: &ServiceName,
        term: Term,
        now: UnixSeconds,
    ) -> Result<Service, StoreError> {
        let mut write = self.write().await?;
        hold_account(&mut write, account).await?;
        let granted = extend(&mut write, account, service, term, now).await?;
        let deed = Deed::on(account, "account grant", &[DataKind::Services]);
        self.note(&mut write, deed, now).await?;
        write.commit().await?;
        Ok(granted)
    }

    /// The devices that have a session although their account's service is over: revoke them.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn devices_without_service(
        &self,
        now: UnixSeconds,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let rows: Vec<i64> = sqlx::query_scalar(
            "SELECT sessions.device_id FROM sessions
             JOIN accounts ON accounts.id = sessions.account_id
             WHERE sessions.ended_at IS NULL AND sessions.gateway_id IS NOT NULL AND accounts.service_until <= $1",
        )
        .bind(time_column(now))
        .fetch_all(self.reader())
        .await?;
        Ok(rows.into_iter().map(read_id).collect())
    }
}

/// Keeps everybody else from changing the account until this change ends.
pub(crate) async fn hold_account(write: &mut Write, account: AccountId) -> Result<(), StoreError> {
    // An update, because that is how both databases let one wait for another.
    let held: Option<i64> = sqlx::query_scalar(
        "UPDATE accounts SET epoch = epoch WHERE id = $1 AND cancelled_at IS NULL RETURNING id",
    )
    .bind(account.0)
    .fetch_optional(write.connection())
    .await?;
    held.map(drop).ok_or(StoreError::NoSuchAccount)
}

/// Gives a held account more of a service.
pub(crate) async fn extend(
    write: &mut Write,
    account: AccountId,
    service: &ServiceName,
    term: Term,
    now: UnixSeconds,
) -> Result<Service, StoreError> {
    let present: Option<Option<i64>> =
        sqlx::query_scalar("SELECT ends_at FROM services WHERE account_id = $1 AND name = $2")
            .bind(account.0)
            .bind(service.as_str())
            .fetch_optional(write.connection())
            .await?;
    let ends_at = match (term, present) {
        (Term::WithoutEnd, _) => None,
        (Term::DaysFromNow(days), _) => Some(now.plus(DAY * days)),
        (Term::MoreDays(_), Some(None)) => return Err(StoreError::WithoutEnd),
        (Term::MoreDays(days), present) => {
            let from = present.flatten().map_or(now, |ends_at| read_time(ends_at).max(now));
            Some(from.plus(DAY * days))
        }
    };
    put(write, account, service, ends_at).await?;
    Ok(Service { name: service.clone(), ends_at })
}

/// Writes when the service ends.
pub(crate) async fn put(
    write: &mut Write,
    account: AccountId,
    service: &ServiceName,
    ends_at: Option<UnixSeconds>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO services (account_id, name, ends_at) VALUES ($1, $2, $3)
         ON CONFLICT (account_id, name) DO UPDATE SET ends_at = excluded.ends_at",
    )
    .bind(account.0)
    .bind(service.as_str())
    .bind(ends_at.map(time_column))
    .execute(write.connection())
    .await?;
    // What a device's look-up reads.
    sqlx::query(
        "UPDATE accounts SET service_until =
            CASE WHEN EXISTS (SELECT 1 FROM services WHERE account_id = $1 AND ends_at IS NULL) THEN NULL
            ELSE COALESCE((SELECT MAX(ends_at) FROM services WHERE account_id = $1), 0) END
         WHERE id = $1",
    )
    .bind(account.0)
    .execute(write.connection())
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_plain() {
        for text in ["vpn", "family-5", "x"] {
            assert_eq!(text.parse::<ServiceName>().unwrap().as_str(), text);
        }
        let long = "a".repeat(33);
        for text in ["", "VPN", "5x", "-x", "a b", "vpn\n", "vрn", "'; DROP", "\u{1b}[2J", &long] {
            assert_eq!(text.parse::<ServiceName>(), Err(ServiceNameError), "{text:?}");
        }
    }
}
