//! Cancelling: what was the customer's leaves the account, and what may be kept goes to the archive, in one change.
//!
//! The account's number stays for as long as a session or an archived value has it.

use std::net::{Ipv4Addr, Ipv6Addr};

use rand_core::{OsRng, RngCore};
use tacit_messages::{DeviceId, UnixSeconds};

use crate::{
    AccountId, Letter, Store, StoreError,
    accounts::{confirmation_of, email_of},
    addresses::{self, read_offset},
    archive::{FormerKind, Reason},
    devices::read_id,
    pending,
    personal::EMAIL,
    post,
    services::hold_account,
    staff_log::{DataKind, Deed},
    store::Write,
    times::{read_time, rfc3339, time_column},
};

/// A device that is gone: have the forwarder drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovedDevice {
    /// Its number.
    pub id: DeviceId,
    /// Its former IPv4 address in the tunnel.
    pub tunnel_v4: Ipv4Addr,
    /// Its former IPv6 address in the tunnel.
    pub tunnel_v6: Ipv6Addr,
}

/// What has to be done once an account is cancelled.
#[derive(Clone, Debug)]
pub struct Cancelled {
    /// Its devices, to be revoked.
    pub devices: Vec<RemovedDevice>,
    /// The letter that tells its customer; it is queued.
    pub letter: Letter,
}

impl Store {
    /// Cancels the account: archives what may be kept, removes its devices and services, and ends all visits of the site.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn cancel_account(
        &self,
        account: AccountId,
        now: UnixSeconds,
    ) -> Result<Cancelled, StoreError> {
        let mut write = self.write().await?;
        hold_account(&mut write, account).await?;
        let to = email_of(&mut write, &self.keys(), account).await?;
        self.archive_all(&mut write, account, to.expose(), now).await?;
        let devices = self.remove_devices(&mut write, account, now).await?;
        for table in [
            "DELETE FROM services WHERE account_id = $1",
            "DELETE FROM consents WHERE account_id = $1",
        ] {
            sqlx::query(table).bind(account.0).execute(write.connection()).await?;
        }
        pending::forget_change(&mut write, account).await?;
        post::forget_account(&mut write, account).await?;
        // An address that is none, and a hash that no address has.
        let mut hash = vec![0; 32];
        OsRng.fill_bytes(&mut hash);
        sqlx::query(
            "UPDATE accounts SET email = $1, email_hash = $2, password = NULL, epoch = epoch + 1,
                service_until = 0, cancelled_at = $3 WHERE id = $4",
        )
        .bind(EMAIL.seal_text(self.keys().current(), account.0, ""))
        .bind(hash)
        .bind(time_column(now))
        .bind(account.0)
        .execute(write.connection())
        .await?;
        self.note(&mut write, Deed::on(account, "account cancel", DataKind::ALL), now).await?;
        let letter = Letter::Cancelled { to };
        self.post(&mut write, &letter, now).await?;
        write.make_scrub_due().await?;
        write.commit().await?;
        Ok(Cancelled { devices, letter })
    }

    async fn remove_devices(
        &self,
        write: &mut Write,
        account: AccountId,
        now: UnixSeconds,
    ) -> Result<Vec<RemovedDevice>, StoreError> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "DELETE FROM devices WHERE account_id = $1 RETURNING id, address_offset",
        )
        .bind(account.0)
        .fetch_all(write.connection())
        .await?;
        let mut removed = Vec::new();
        for (id, offset) in rows {
            let offset = read_offset(offset)?;
            addresses::free(write, offset, now).await?;
            let (tunnel_v4, tunnel_v6) = self.tunnel_pool.addresses(offset);
            removed.push(RemovedDevice { id: read_id(id), tunnel_v4, tunnel_v6 });
        }
        Ok(removed)
    }

    async fn archive_all(
        &self,
        write: &mut Write,
        account: AccountId,
        email: &str,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let (confirmation, created_at) = confirmation_of(write, account).await?;
        let services: Vec<(String, Option<i64>)> = sqlx::query_as(
            "SELECT name, ends_at FROM services WHERE account_id = $1 ORDER BY name",
        )
        .bind(account.0)
        .fetch_all(write.connection())
        .await?;
        let confirmed = format!("{} at {}", confirmation.as_str(), rfc3339(created_at));
        let mut values =
            vec![(FormerKind::Email, email.to_owned()), (FormerKind::Confirmation, confirmed)];
        values.extend(services.into_iter().map(|(name, ends_at)| {
            let end = ends_at.map(|ends_at| format!("until {}", rfc3339(read_time(ends_at))));
            (FormerKind::Service, format!("{name} {}", end.as_deref().unwrap_or("without end")))
        }));
        for (kind, value) in values {
            self.put_into_archive(write, account, kind, &value, Reason::Cancelled, now).await?;
        }
        Ok(())
    }
}

/// Removes the numbers of cancelled accounts that nothing has any more, and returns how many.
pub(crate) async fn remove_past(write: &mut Write) -> Result<u64, StoreError> {
    let removed = sqlx::query(
        "DELETE FROM accounts WHERE cancelled_at IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM sessions WHERE account_id = accounts.id)
         AND NOT EXISTS (SELECT 1 FROM archive WHERE account_id = accounts.id)",
    )
    .execute(write.connection())
    .await?;
    Ok(removed.rows_affected())
}
