//! What a store's file really holds, read beside the gateway that has it open.

use std::collections::BTreeSet;

use sqlx::{AnyConnection, Connection};
use tacit_messages::UnixSeconds;

use crate::{Database, PastItsTime, StoreError, database::Kind, inventory, retention};

/// What a store holds, about nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    is_at_server: bool,
    /// Table and name of every column, of views too.
    pub columns: BTreeSet<(String, String)>,
    /// Kind and name of what acts by itself, or has a server hand changes on: triggers and publications, for example.
    pub programs: Vec<(String, String)>,
    /// What a purge should have removed.
    pub past_its_time: PastItsTime,
}

impl Inspection {
    /// Table and name of every column that the inventory lists for such a store.
    #[must_use]
    pub fn listed_columns(&self) -> BTreeSet<(String, String)> {
        let tables = inventory().into_iter();
        tables
            .filter(|(table, _)| !(self.is_at_server && table.starts_with("sqlite_")))
            .flat_map(|(table, columns)| {
                columns.into_keys().map(move |column| (table.clone(), column))
            })
            .collect()
    }

    /// Looks into the store in `database`, and changes nothing.
    ///
    /// Past their time are sessions that ended at `latest_end` or before with what was kept for them only, what was
    /// over at `latest_quarantine`, and entries of the staff log and the disclosure register up to `latest_record`.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn of(
        database: impl Into<Database>,
        latest_end: UnixSeconds,
        latest_quarantine: UnixSeconds,
        latest_record: UnixSeconds,
    ) -> Result<Self, StoreError> {
        let database = database.into();
        let mut connection = database.look_into().await?;
        let looked =
            look(&mut connection, database.kind(), latest_end, latest_quarantine, latest_record)
                .await;
        let _ = connection.close().await;
        Ok(looked?)
    }
}

async fn look(
    connection: &mut AnyConnection,
    kind: Kind,
    latest_end: UnixSeconds,
    latest_quarantine: UnixSeconds,
    latest_record: UnixSeconds,
) -> Result<Inspection, sqlx::Error> {
    let columns: Vec<(String, String)> =
        sqlx::query_as(kind.columns()).fetch_all(&mut *connection).await?;
    let programs = sqlx::query_as(kind.programs()).fetch_all(&mut *connection).await?;
    let past_its_time =
        retention::count_past(&mut *connection, latest_end, latest_quarantine, latest_record)
            .await?;
    let columns = columns.into_iter().collect();
    let is_at_server = kind == Kind::Postgres;
    Ok(Inspection { is_at_server, columns, programs, past_its_time })
}
