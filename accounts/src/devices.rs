//! Devices: the keys and addresses with which an account's customer connects.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::Duration,
};

use tacit_keys::{PresharedKey, PublicKey};
use tacit_messages::{DeviceId, UnixSeconds};

use crate::{
    AccountId, RemovedDevice, Store, StoreError, addresses,
    addresses::read_offset,
    personal::{open_preshared_key, seal_preshared_key},
    printable::is_printable,
    staff_log::{DataKind, Deed},
    store::Write,
    times::{read_time, time_column},
};

/// Longest name of a device in characters.
pub(crate) const MAX_NAME_CHARS: usize = 63;

/// Why a text cannot name a device. Never says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("a device's name has 1 to {MAX_NAME_CHARS} characters")]
    Length,
    /// A character that does not show.
    #[error("a device's name has only characters that show, and no space at its ends")]
    Character,
}

/// A device's name, chosen by its customer; printed as `[sealed]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`] if the name is empty, too long, or could not be shown as it is.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if !(1..=MAX_NAME_CHARS).contains(&text.chars().count()) {
            return Err(NameError::Length);
        }
        if text.trim() != text || !text.chars().all(is_printable) {
            return Err(NameError::Character);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn read(column: &str) -> Result<Self, StoreError> {
        Self::parse(column).map_err(|_| StoreError::Corrupt("devices.name"))
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number, which stands for its present key; never given to another one.
    pub id: DeviceId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its name, unique in the account.
    pub name: DeviceName,
    /// Its present public key.
    pub public_key: PublicKey,
    /// Its IPv4 address in the tunnel.
    pub tunnel_v4: Ipv4Addr,
    /// Its IPv6 address in the tunnel.
    pub tunnel_v6: Ipv6Addr,
    /// When its present key was registered.
    pub created_at: UnixSeconds,
}

/// What the forwarder needs to let a device connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCredentials {
    /// The device's number.
    pub device: DeviceId,
    /// The key shared with it.
    pub preshared_key: PresharedKey,
    /// Its IPv4 address in the tunnel.
    pub tunnel_v4: Ipv4Addr,
    /// Its IPv6 address in the tunnel.
    pub tunnel_v6: Ipv6Addr,
}

impl Store {
    /// Registers a device, with the lowest addresses that are free.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], [`StoreError::DeviceLimit`], [`StoreError::NameTaken`],
    /// [`StoreError::KeyTaken`], or [`StoreError::PoolFull`].
    pub async fn add_device(
        &self,
        account: AccountId,
        name: &DeviceName,
        public_key: PublicKey,
        preshared_key: &PresharedKey,
        now: UnixSeconds,
    ) -> Result<Device, StoreError> {
        let mut write = self.write().await?;
        self.check_room(&mut write, account).await?;
        if find(&mut write, account, name).await?.is_some() {
            return Err(StoreError::NameTaken);
        }
        check_key_is_new(&mut write, public_key).await?;
        let offset = addresses::issue(&mut write, self.tunnel_pool, now).await?;
        let id = addresses::next_device_id(&mut write).await?;
        sqlx::query(
            "INSERT INTO devices (id, account_id, name, public_key, preshared_key, address_offset, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id_column(id))
        .bind(account.0)
        .bind(name.as_str())
        .bind(&public_key.as_bytes()[..])
        .bind(seal_preshared_key(self.keys().current(), id, preshared_key))
        .bind(i64::from(offset))
        .bind(time_column(now))
        .execute(write.connection())
        .await?;
        self.note(&mut write, Deed::on(account, "device add", &[DataKind::Devices]), now).await?;
        write.commit().await?;
        Ok(self.device(id, account, name.clone(), public_key, offset, now))
    }

    /// The account's devices, in the order of their names.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn devices(&self, account: AccountId) -> Result<Vec<Device>, StoreError> {
        let rows: Vec<(i64, String, Vec<u8>, i64, i64)> = sqlx::query_as(
            "SELECT id, name, public_key, address_offset, created_at FROM devices
             WHERE account_id = $1 ORDER BY name",
        )
        .bind(account.0)
        .fetch_all(self.reader())
        .await?;
        let read = |(id, name, public_key, offset, created_at): (_, String, Vec<u8>, _, _)| {
            Ok(self.device(
                read_id(id),
                account,
                DeviceName::read(&name)?,
                read_public_key(&public_key)?,
                read_offset(offset)?,
                read_time(created_at),
            ))
        };
        rows.into_iter().map(read).collect()
    }

    /// Gives the device new keys and a new number, and returns its former number to revoke. Its addresses stay.
    ///
    /// # Errors
    /// [`StoreError::NoSuchDevice`], or [`StoreError::KeyTaken`].
    pub async fn rotate_device(
        &self,
        account: AccountId,
        name: &DeviceName,
        public_key: PublicKey,
        preshared_key: &PresharedKey,
        now: UnixSeconds,
    ) -> Result<(DeviceId, Device), StoreError> {
        let mut write = self.write().await?;
        let found = find(&mut write, account, name).await?;
        let (former, offset) = found.ok_or(StoreError::NoSuchDevice)?;
        check_key_is_new(&mut write, public_key).await?;
        let id = addresses::next_device_id(&mut write).await?;
        sqlx::query(
            "UPDATE devices SET id = $1, public_key = $2, preshared_key = $3, created_at = $4 WHERE id = $5",
        )
        .bind(id_column(id))
        .bind(&public_key.as_bytes()[..])
        .bind(seal_preshared_key(self.keys().current(), id, preshared_key))
        .bind(time_column(now))
        .bind(id_column(former))
        .execute(write.connection())
        .await?;
        sqlx::query("INSERT INTO rotated_devices (former_id, device_id) VALUES ($1, $2)")
            .bind(id_column(former))
            .bind(id_column(id))
            .execute(write.connection())
            .await?;
        let deed = Deed::on(account, "device rotate", &[DataKind::Devices]);
        self.note(&mut write, deed, now).await?;
        write.note_device_change().await?;
        write.make_scrub_due().await?;
        write.commit().await?;
        Ok((former, self.device(id, account, name.clone(), public_key, offset, now)))
    }

    /// Removes the device and returns its number to revoke. Nobody gets its addresses within 24 hours.
    ///
    /// # Errors
    /// [`StoreError::NoSuchDevice`]
    pub async fn remove_device(
        &self,
        account: AccountId,
        name: &DeviceName,
        now: UnixSeconds,
    ) -> Result<DeviceId, StoreError> {
        Ok(self.remove(account, None, Some(name), now).await?.id)
    }

    /// Removes the account's device that has this number, whatever its name is by now, and returns it to be revoked. Nobody
    /// gets its addresses within 24 hours.
    ///
    /// # Errors
    /// [`StoreError::NoSuchDevice`]
    pub async fn remove_device_numbered(
        &self,
        account: AccountId,
        device: DeviceId,
        now: UnixSeconds,
    ) -> Result<RemovedDevice, StoreError> {
        self.remove(account, Some(device), None, now).await
    }

    async fn remove(
        &self,
        account: AccountId,
        device: Option<DeviceId>,
        name: Option<&DeviceName>,
        now: UnixSeconds,
    ) -> Result<RemovedDevice, StoreError> {
        let mut write = self.write().await?;
        let removed: Option<(i64, i64)> = sqlx::query_as(
            "DELETE FROM devices WHERE account_id = $1 AND (id = $2 OR name = $3)
             RETURNING id, address_offset",
        )
        .bind(account.0)
        .bind(device.map(id_column))
        .bind(name.map(DeviceName::as_str))
        .fetch_optional(write.connection())
        .await?;
        let (id, offset) = removed.ok_or(StoreError::NoSuchDevice)?;
        let offset = read_offset(offset)?;
        addresses::free(&mut write, offset, now).await?;
        let deed = Deed::on(account, "device remove", &[DataKind::Devices]);
        self.note(&mut write, deed, now).await?;
        write.make_scrub_due().await?;
        write.commit().await?;
        let (tunnel_v4, tunnel_v6) = self.tunnel_pool.addresses(offset);
        Ok(RemovedDevice { id: read_id(id), tunnel_v4, tunnel_v6 })
    }

    /// The account's device of this name and key with the key shared with it, if it was added no longer than `lately` ago.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn device_just_added(
        &self,
        account: AccountId,
        name: &DeviceName,
        public_key: PublicKey,
        lately: Duration,
        now: UnixSeconds,
    ) -> Result<Option<(Device, PresharedKey)>, StoreError> {
        let row: Option<(i64, Vec<u8>, i64, i64)> = sqlx::query_as(
            "SELECT id, preshared_key, address_offset, created_at FROM devices
             WHERE account_id = $1 AND name = $2 AND public_key = $3 AND created_at >= $4",
        )
        .bind(account.0)
        .bind(name.as_str())
        .bind(&public_key.as_bytes()[..])
        .bind(time_column(now.minus(lately)))
        .fetch_optional(self.reader())
        .await?;
        let Some((id, preshared_key, offset, created_at)) = row else { return Ok(None) };
        let (id, offset) = (read_id(id), read_offset(offset)?);
        let preshared_key = open_preshared_key(&self.keys(), id, &preshared_key)?;
        let created_at = read_time(created_at);
        let device = self.device(id, account, name.clone(), public_key, offset, created_at);
        Ok(Some((device, preshared_key)))
    }

    /// Gives the device another name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], or [`StoreError::NoSuchDevice`].
    pub async fn rename_device(
        &self,
        account: AccountId,
        device: DeviceId,
        name: &DeviceName,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        match find(&mut write, account, name).await? {
            Some((other, _)) if other != device => return Err(StoreError::NameTaken),
            _ => {}
        }
        let renamed = sqlx::query("UPDATE devices SET name = $1 WHERE id = $2 AND account_id = $3")
            .bind(name.as_str())
            .bind(id_column(device))
            .bind(account.0)
            .execute(write.connection())
            .await?;
        if renamed.rows_affected() == 0 {
            return Err(StoreError::NoSuchDevice);
        }
        write.make_scrub_due().await?;
        write.commit().await
    }

    /// What the forwarder needs to let the device with this key connect, or `None` if nobody may connect with it:
    /// no device has it, or its account's service has ended.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn device_by_public_key(
        &self,
        public_key: &tacit_messages::PublicKey,
        now: UnixSeconds,
    ) -> Result<Option<DeviceCredentials>, StoreError> {
        let row: Option<(i64, Vec<u8>, i64)> = sqlx::query_as(
            "SELECT devices.id, devices.preshared_key, devices.address_offset
             FROM devices JOIN accounts ON accounts.id = devices.account_id
             WHERE devices.public_key = $1 AND (accounts.service_until IS NULL OR accounts.service_until > $2)",
        )
        .bind(&public_key[..])
        .bind(time_column(now))
        .fetch_optional(self.reader())
        .await?;
        let Some((id, preshared_key, offset)) = row else {
            return Ok(None);
        };
        let device = read_id(id);
        let preshared_key = open_preshared_key(&self.keys(), device, &preshared_key)?;
        let (tunnel_v4, tunnel_v6) = self.tunnel_pool.addresses(read_offset(offset)?);
        Ok(Some(DeviceCredentials { device, preshared_key, tunnel_v4, tunnel_v6 }))
    }

    /// The addresses of the device that has, or before a rotation had, this number; `None` if it was removed.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn tunnel_addresses(
        &self,
        device: DeviceId,
    ) -> Result<Option<(Ipv4Addr, Ipv6Addr)>, StoreError> {
        let offset: Option<i64> = sqlx::query_scalar(
            "SELECT address_offset FROM devices
             WHERE id = COALESCE((SELECT device_id FROM rotated_devices WHERE former_id = $1), $1)",
        )
        .bind(id_column(device))
        .fetch_optional(self.reader())
        .await?;
        offset.map(|offset| Ok(self.tunnel_pool.addresses(read_offset(offset)?))).transpose()
    }

    async fn check_room(&self, write: &mut Write, account: AccountId) -> Result<(), StoreError> {
        let devices: Option<i64> = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM devices WHERE devices.account_id = accounts.id)
             FROM accounts WHERE id = $1 AND cancelled_at IS NULL",
        )
        .bind(account.0)
        .fetch_optional(write.connection())
        .await?;
        if devices.ok_or(StoreError::NoSuchAccount)? >= i64::from(self.device_limit()) {
            return Err(StoreError::DeviceLimit { limit: self.device_limit() });
        }
        Ok(())
    }

    fn device(
        &self,
        id: DeviceId,
        account: AccountId,
        name: DeviceName,
        public_key: PublicKey,
        offset: u32,
        created_at: UnixSeconds,
    ) -> Device {
        let (tunnel_v4, tunnel_v6) = self.tunnel_pool.addresses(offset);
        Device { id, account, name, public_key, tunnel_v4, tunnel_v6, created_at }
    }
}

/// The number and the offset of the account's device of this name.
async fn find(
    write: &mut Write,
    account: AccountId,
    name: &DeviceName,
) -> Result<Option<(DeviceId, u32)>, StoreError> {
    let row: Option<(i64, i64)> = sqlx::query_as(
        "SELECT id, address_offset FROM devices WHERE account_id = $1 AND name = $2",
    )
    .bind(account.0)
    .bind(name.as_str())
    .fetch_optional(write.connection())
    .await?;
    row.map(|(id, offset)| Ok((read_id(id), read_offset(offset)?))).transpose()
}

async fn check_key_is_new(write: &mut Write, public_key: PublicKey) -> Result<(), StoreError> {
    let taken: Option<i64> = sqlx::query_scalar("SELECT id FROM devices WHERE public_key = $1")
        .bind(&public_key.as_bytes()[..])
        .fetch_optional(write.connection())
        .await?;
    if taken.is_some() { Err(StoreError::KeyTaken) } else { Ok(()) }
}

pub(crate) fn id_column(id: DeviceId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

pub(crate) fn read_id(column: i64) -> DeviceId {
    DeviceId(column.unsigned_abs())
}

pub(crate) fn read_public_key(column: &[u8]) -> Result<PublicKey, StoreError> {
    let corrupt = StoreError::Corrupt("devices.public_key");
    let Ok(bytes) = column.try_into() else {
        return Err(corrupt);
    };
    PublicKey::from_bytes(bytes).map_err(|_| corrupt)
}
