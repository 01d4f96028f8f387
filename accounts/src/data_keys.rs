//! Which data keys the store's values are sealed with, and whether the keys at hand are those.

use sqlx::{AnyConnection, Connection};
use tacit_keys::{DataKey, DataKeys, KeyId, data_key::Place};

use crate::{Database, StoreError, store::Write};

/// What [`recorded`] keys have sealed in the store.
const KNOWN_TEXT: &[u8] = b"This store is sealed with this key.";

/// A key's number, and the known text sealed with it.
pub(crate) type Recorded = (i64, Vec<u8>);

/// Refuses wrong keys for the store in `database` without changing the file.
///
/// Where it cannot be read yet, as while another process makes it, [`adopt`] refuses them.
///
/// # Errors
/// [`StoreError::WrongDataKey`]
pub(crate) async fn check_unopened(database: &Database, keys: &DataKeys) -> Result<(), StoreError> {
    let Ok(mut connection) = database.look_into().await else { return Ok(()) };
    let recorded = recorded(&mut connection).await;
    let _ = connection.close().await;
    recorded.map_or(Ok(()), |recorded| check(&recorded, keys))
}

/// Refuses wrong keys, and records the current one if it is new.
///
/// # Errors
/// [`StoreError::WrongDataKey`]
pub(crate) async fn adopt(write: &mut Write, keys: &DataKeys) -> Result<(), StoreError> {
    let recorded = recorded(write.connection()).await?;
    check(&recorded, keys)?;
    record(write, keys.current()).await
}

/// Notes that values may be sealed with `key` from now on.
pub(crate) async fn record(write: &mut Write, key: &DataKey) -> Result<(), StoreError> {
    let id = i64::from(key.id().0);
    sqlx::query(
        "INSERT INTO data_keys (id, check_value) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id)
    .bind(key.seal(place(id), KNOWN_TEXT))
    .execute(write.connection())
    .await?;
    Ok(())
}

/// Forgets all keys but the one of this number.
pub(crate) async fn forget_others(write: &mut Write, current: KeyId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM data_keys WHERE id != $1")
        .bind(i64::from(current.0))
        .execute(write.connection())
        .await?;
    Ok(())
}

async fn recorded(connection: &mut AnyConnection) -> Result<Vec<Recorded>, StoreError> {
    Ok(sqlx::query_as("SELECT id, check_value FROM data_keys").fetch_all(connection).await?)
}

/// Each key that the store needs must be at hand.
pub(crate) fn check(recorded: &[Recorded], keys: &DataKeys) -> Result<(), StoreError> {
    for (id, sealed) in recorded {
        let key = u32::try_from(*id).ok().and_then(|id| keys.find(KeyId(id)));
        let text = key.ok_or(StoreError::WrongDataKey)?.open(place(*id), sealed);
        if !text.is_ok_and(|text| **text == *KNOWN_TEXT) {
            return Err(StoreError::WrongDataKey);
        }
    }
    Ok(())
}

fn place(id: i64) -> Place {
    Place { table: "data_keys", column: "check_value", row: id }
}
