//! Takes what was removed or overwritten out of the bytes of the store's files.
//!
//! SQLite's `secure_delete` wipes a removed row where it lies, but not the copies that SQLite leaves when it moves rows
//! between pages, and not the former pages in the write-ahead log. So the file is written anew, and the log emptied. To
//! free pages in small steps (`incremental_vacuum`) would leave those copies.
//!
//! PostgreSQL keeps a removed row until nobody can see it any more and the table is vacuumed. `VACUUM (FULL)` writes the
//! tables anew. The server's own log of changes keeps what it held until its segments are used again, and so do the
//! operator's archives and backups of it.

use sqlx::AnyConnection;

use crate::{
    Store, StoreError,
    database::{Kind, postgres, sqlite},
    store::Write,
};

impl Write {
    /// Notes that this change removes what must not stay in the files, in case this process ends before [`Store::scrub`].
    pub(crate) async fn make_scrub_due(&mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE gateway SET scrub_due = 1, removals = removals + 1 WHERE id = 1")
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

impl Store {
    /// Does [`Self::scrub`] if a change since the last one has made it due.
    pub(crate) async fn scrub_if_due(&self) -> Result<(), StoreError> {
        let due: i64 = sqlx::query_scalar("SELECT scrub_due FROM gateway WHERE id = 1")
            .fetch_one(self.reader())
            .await?;
        if due == 0 { Ok(()) } else { self.scrub().await }
    }

    /// Writes the files anew without what is removed. Nobody of this process writes meanwhile; what other gateways remove
    /// meanwhile stays due.
    ///
    /// # Errors
    /// [`StoreError::NotScrubbed`] if somebody reads all the time.
    async fn scrub(&self) -> Result<(), StoreError> {
        let (mut connection, _turn) = self.alone().await?;
        let removals: i64 = sqlx::query_scalar("SELECT removals FROM gateway WHERE id = 1")
            .fetch_one(&mut *connection)
            .await?;
        let is_done = match self.kind() {
            Kind::Sqlite => scrub_file(&mut connection).await?,
            Kind::Postgres => postgres::vacuum(&mut connection).await?,
        };
        if !is_done {
            return Err(StoreError::NotScrubbed);
        }
        sqlx::query("UPDATE gateway SET scrub_due = 0 WHERE id = 1 AND removals = $1")
            .bind(removals)
            .execute(&mut *connection)
            .await?;
        Ok(())
    }
}

/// Returns false if somebody read all the time.
async fn scrub_file(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    sqlite::vacuum(connection).await?;
    // Waits for those who read as long as for a lock.
    let (busy, ..): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
    Ok(busy == 0)
}
