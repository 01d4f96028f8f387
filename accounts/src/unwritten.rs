//! Changes of sessions that the store did not take before the gateway stopped: sealed for a file, and written at the next
//! start.
//!
//! What is sealed is, in this order, all numbers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 32 | what tells the store from others |
//! | 8 | number of the gateway |
//! | 8 | how many groups it had written |
//! | 8 | how many of the changes may have been written after all, with the group that was tried last |
//! | 33 each | the changes in order: kind, device, time, connecting IP as IPv6 has it |

use std::net::Ipv6Addr;

use tacit_keys::data_key::{OpenError, Place};
use tacit_messages::{ConnectingIp, DeviceId, UnixSeconds};
use zeroize::Zeroizing;

use crate::{
    SessionChange, Store, StoreError,
    chain::{self, HASH_LEN, Hash},
    sessions::SessionRecorder,
    store::Write,
};

/// No table's: what is sealed for it opens nowhere in the store.
const PLACE: Place = Place { table: "unwritten sessions", column: "changes", row: 0 };

const CHANGE_LEN: usize = 1 + 8 + 8 + 16;
const HEAD_LEN: usize = HASH_LEN + 3 * 8;

const BEGAN: u8 = 1;
const ENDED: u8 = 2;
const ALL_ENDED: u8 = 3;

/// Why changes that wait cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum UnwrittenError {
    /// The data key was changed elsewhere, or another put in its place.
    #[error("they are sealed with another data key")]
    OtherKey,
    /// The file's end is missing, or bytes of it are others.
    #[error("their file was cut off or changed")]
    Broken,
    /// The gateway was given another store.
    #[error("they are another store's")]
    OtherStore,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes of sessions that wait.
#[derive(Debug)]
pub struct Unwritten {
    pub(crate) gateway: i64,
    /// How many groups were written before.
    groups: i64,
    /// How many changes, from the begin on, may have been written after all.
    tried: usize,
    changes: Vec<SessionChange>,
}

impl SessionRecorder {
    /// Seals what is not written: the group that was `tried` last, and those after it. [`Store::take_up`] writes them.
    #[must_use]
    pub fn seal_unwritten(&self, tried: &[SessionChange], after: &[SessionChange]) -> Vec<u8> {
        let changes = tried.len() + after.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD_LEN + changes * CHANGE_LEN));
        bytes.extend_from_slice(&self.mark.unwrap_or_default());
        bytes.extend_from_slice(&self.store.gateway.to_be_bytes());
        bytes.extend_from_slice(&self.groups.to_be_bytes());
        bytes.extend_from_slice(&(tried.len() as u64).to_be_bytes());
        tried.iter().chain(after).for_each(|change| write_change(&mut bytes, change));
        self.store.keys().current().seal(PLACE, &bytes)
    }
}

impl Store {
    /// Opens what [`SessionRecorder::seal_unwritten`] sealed for this store.
    ///
    /// # Errors
    /// [`UnwrittenError`]
    pub async fn open_unwritten(&self, sealed: &[u8]) -> Result<Unwritten, UnwrittenError> {
        let keys = self.keys();
        let bytes = keys.open(PLACE, sealed).map_err(|error| match error {
            OpenError::OtherKey(_) => UnwrittenError::OtherKey,
            OpenError::NotSealed | OpenError::Forged => UnwrittenError::Broken,
        })?;
        let (mark, unwritten) = read(&bytes).ok_or(UnwrittenError::Broken)?;
        let mut reader = self.reader().acquire().await.map_err(StoreError::from)?;
        let own = chain::mark(&mut reader, &keys).await.map_err(StoreError::from)?;
        if own == Some(mark) { Ok(unwritten) } else { Err(UnwrittenError::OtherStore) }
    }

    /// Writes changes that waited, each once however often this is tried, and returns how many were to be written. Call
    /// before the sessions that are open are completed, and only where the store is one gateway's alone; else
    /// [`Self::for_gateway`] does it.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn take_up(&self, unwritten: &Unwritten) -> Result<usize, StoreError> {
        let theirs = self.of_gateway(unwritten.gateway);
        let mut write = theirs.write().await?;
        let left = theirs.write_waiting(&mut write, unwritten).await?;
        write.commit().await?;
        Ok(left)
    }

    /// Writes what waited as this gateway, and returns how many changes that were.
    pub(crate) async fn write_waiting(
        &self,
        write: &mut Write,
        unwritten: &Unwritten,
    ) -> Result<usize, StoreError> {
        let Unwritten { groups, tried, changes, .. } = unwritten;
        let written: Option<i64> =
            sqlx::query_scalar("SELECT session_groups FROM gateways WHERE id = $1")
                .bind(self.gateway)
                .fetch_optional(write.connection())
                .await?;
        let left = match written {
            // The store is as it was then, or was restored from a backup from before.
            Some(written) if written <= *groups => &changes[..],
            Some(written) if written == groups + 1 => &changes[*tried..],
            // They were taken up before.
            _ => return Ok(0),
        };
        self.record_changes(write, left).await?;
        sqlx::query("UPDATE gateways SET session_groups = $1 WHERE id = $2")
            .bind(groups + 2)
            .bind(self.gateway)
            .execute(write.connection())
            .await?;
        Ok(left.len())
    }
}

fn write_change(bytes: &mut Vec<u8>, change: &SessionChange) {
    let (kind, device, at, connecting_ip) = match change {
        SessionChange::Began { device, connecting_ip, at } => {
            (BEGAN, *device, *at, Some(connecting_ip))
        }
        SessionChange::Ended { device, last_seen_at } => (ENDED, *device, *last_seen_at, None),
        SessionChange::AllEnded { at } => (ALL_ENDED, DeviceId(0), *at, None),
        #[cfg(feature = "leaky")]
        SessionChange::Leaked { .. } => return,
    };
    bytes.push(kind);
    bytes.extend_from_slice(&device.0.to_be_bytes());
    bytes.extend_from_slice(&at.0.to_be_bytes());
    bytes.extend_from_slice(connecting_ip.map_or(&[0; 16][..], |ip| ip.expose_octets()));
}

fn read(bytes: &[u8]) -> Option<(Hash, Unwritten)> {
    let (mark, bytes) = bytes.split_first_chunk::<HASH_LEN>()?;
    let (gateway, bytes) = bytes.split_first_chunk::<8>()?;
    let (groups, bytes) = bytes.split_first_chunk::<8>()?;
    let (tried, bytes) = bytes.split_first_chunk::<8>()?;
    let (changes, rest) = bytes.as_chunks::<CHANGE_LEN>();
    let changes: Vec<_> = changes.iter().map(read_change).collect::<Option<_>>()?;
    let tried = usize::try_from(u64::from_be_bytes(*tried)).ok()?;
    let unwritten = Unwritten {
        gateway: i64::from_be_bytes(*gateway),
        groups: i64::from_be_bytes(*groups),
        tried,
        changes,
    };
    (rest.is_empty() && tried <= unwritten.changes.len()).then_some((*mark, unwritten))
}

fn read_change(bytes: &[u8; CHANGE_LEN]) -> Option<SessionChange> {
    let (kind, bytes) = bytes.split_first()?;
    let (device, bytes) = bytes.split_first_chunk()?;
    let (at, octets) = bytes.split_first_chunk()?;
    let (device, at) =
        (DeviceId(u64::from_be_bytes(*device)), UnixSeconds(u64::from_be_bytes(*at)));
    let octets: [u8; 16] = octets.try_into().ok()?;
    match *kind {
        BEGAN => {
            let connecting_ip = ConnectingIp::new(Ipv6Addr::from(octets).into());
            Some(SessionChange::Began { device, connecting_ip, at })
        }
        ENDED => Some(SessionChange::Ended { device, last_seen_at: at }),
        ALL_ENDED => Some(SessionChange::AllEnded { at }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = SessionChange> {
        let (device, at) = (any::<u64>().prop_map(DeviceId), any::<u64>().prop_map(UnixSeconds));
        (0..3, device, at, any::<std::net::IpAddr>()).prop_map(
            |(kind, device, at, ip)| match kind {
                0 => SessionChange::Began { device, connecting_ip: ConnectingIp::new(ip), at },
                1 => SessionChange::Ended { device, last_seen_at: at },
                _ => SessionChange::AllEnded { at },
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_nothing_shorter(
            changes in prop::collection::vec(change(), 0..20),
        ) {
            let mut bytes = vec![7; HASH_LEN + 16];
            bytes.extend_from_slice(&0_u64.to_be_bytes());
            changes.iter().for_each(|change| write_change(&mut bytes, change));
            let (_, unwritten) = read(&bytes).unwrap();
            prop_assert_eq!(&unwritten.changes, &changes);
            prop_assert!(read(&bytes[..bytes.len() - 1]).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
