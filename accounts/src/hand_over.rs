//! Devices that a drained gateway hands over to the others with its key: by which number each knows their packets.
//!
//! It goes from gateway to gateway through the server's NOTIFY, sealed, and stands in no table. A payload has at most
//! 7,999 bytes: the gateway's number, a space, and in base64 what was sealed: the key, the time, then 13 bytes a device.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use sqlx::Row;
use tacit_keys::{PublicKey, data_key::Place};
use tacit_messages::{DeviceId, UnixSeconds};
use zeroize::Zeroizing;

use crate::{
    Store, StoreError,
    database::postgres::MOVING_CHANNEL,
    device_changes::notify,
    devices::{id_column, read_id, read_public_key},
    times::time_column,
};

/// How many devices one notification has room for.
pub const MOST_AT_ONCE: usize = 400;

const KEY_LEN: usize = 32;
const TIME_LEN: usize = 8;
const DEVICE_LEN: usize = 13;

/// How far the clocks of two gateways may be apart. What is from later than that could be kept to be used then.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// A device that is about to come to another gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovingDevice {
    /// The device.
    pub device: DeviceId,
    /// What its packets bear until its next handshake.
    pub receiver_index: u32,
    /// For how long it has been silent.
    pub silent_seconds: u8,
}

impl MovingDevice {
    fn to_bytes(self) -> [u8; DEVICE_LEN] {
        let mut bytes = [0; DEVICE_LEN];
        bytes[..8].copy_from_slice(&self.device.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.receiver_index.to_be_bytes());
        bytes[12] = self.silent_seconds;
        bytes
    }

    /// The same some time later; `None` once it would have been silent for more seconds than can be said.
    #[must_use]
    pub fn later(self, seconds: u64) -> Option<Self> {
        let silent_seconds = u8::try_from(u64::from(self.silent_seconds).saturating_add(seconds));
        Some(Self { silent_seconds: silent_seconds.ok()?, ..self })
    }

    fn from_bytes(bytes: &[u8; DEVICE_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, index @ .., silent_seconds] = *bytes;
        Self {
            device: DeviceId(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            receiver_index: u32::from_be_bytes(index),
            silent_seconds,
        }
    }
}

/// Devices that another gateway hands over, as they came: sealed.
#[derive(Debug)]
pub struct HandOver(pub(crate) String);

impl Store {
    /// Whether there is a way to hand devices over.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.tells()
    }

    /// Hands up to [`MOST_AT_ONCE`] devices over to the other gateways whose key is `fleet_key`. Nothing is written down.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn hand_over(
        &self,
        fleet_key: PublicKey,
        devices: &[MovingDevice],
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut plain = Zeroizing::new(fleet_key.as_bytes().to_vec());
        plain.extend(now.0.to_be_bytes());
        plain.extend(devices.iter().take(MOST_AT_ONCE).flat_map(|device| device.to_bytes()));
        let sealed = self.keys().current().seal(place(self.gateway), &plain);
        let payload = format!("{} {}", self.gateway, STANDARD_NO_PAD.encode(sealed));
        notify(self.reader(), MOVING_CHANNEL, &payload).await
    }

    /// The devices that another gateway with the key `fleet_key` hands over, none if it is this one or has another key. They
    /// have been silent since, so that an old notification that somebody sends again is worth nothing.
    #[must_use]
    pub fn open_hand_over(
        &self,
        hand_over: &HandOver,
        fleet_key: PublicKey,
        now: UnixSeconds,
    ) -> Vec<MovingDevice> {
        let opened = || {
            let (gateway, sealed) = hand_over.0.split_once(' ')?;
            let gateway: i64 = gateway.parse().ok()?;
            let sealed = STANDARD_NO_PAD.decode(sealed).ok()?;
            let is_other = gateway != self.gateway;
            let plain = self.keys().open(place(gateway), &sealed).ok().filter(|_| is_other)?;
            let (key, devices) = plain.split_first_chunk::<KEY_LEN>()?;
            let (at, devices) = devices.split_first_chunk::<TIME_LEN>()?;
            let at = UnixSeconds(u64::from_be_bytes(*at));
            let (devices, _) = devices.as_chunks::<DEVICE_LEN>();
            let is_meant = key == fleet_key.as_bytes() && at <= now.plus(CLOCKS_APART);
            let age = now.0.saturating_sub(at.0);
            let aged = |device| MovingDevice::from_bytes(device).later(age);
            is_meant.then(|| devices.iter().filter_map(aged).collect())
        };
        opened().unwrap_or_default()
    }

    /// The keys of those of `devices` that may connect.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn welcome_keys(
        &self,
        devices: &[MovingDevice],
        now: UnixSeconds,
    ) -> Result<HashMap<DeviceId, PublicKey>, StoreError> {
        let numbers: Vec<_> =
            devices.iter().map(|moving| id_column(moving.device).to_string()).collect();
        if numbers.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT devices.id, devices.public_key
             FROM devices JOIN accounts ON accounts.id = devices.account_id
             WHERE devices.id IN ({}) AND (accounts.service_until IS NULL OR accounts.service_until > $1)",
            numbers.join(", ")
        );
        // Numbers and nothing else are put into the statement.
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(time_column(now))
            .persistent(false)
            .fetch_all(self.reader())
            .await?;
        let key = |row: &sqlx::any::AnyRow| {
            Ok((read_id(row.try_get(0)?), read_public_key(row.try_get(1)?)?))
        };
        rows.iter().map(key).collect()
    }
}

/// Where it would stand if it stood anywhere: opens as nothing else that is sealed, and as no other gateway's.
const fn place(gateway: i64) -> Place {
    Place { table: "gateways", column: "moving devices", row: gateway }
}
