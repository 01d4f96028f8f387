//! Takes what was removed or overwritten out of the bytes of the store's files.
//!
//! `secure_delete` wipes a removed row where it lies, but not the copies that SQLite leaves when it moves rows between
//! pages, and not the former pages in the write-ahead log. So the file is written anew, and the log emptied.

use crate::{Store, StoreError, store::Write};

impl Write {
    /// Notes that this change removes what must not stay in the files, in case this process ends before [`Store::scrub`].
    pub(crate) async fn make_scrub_due(&mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE gateway SET scrub_due = 1 WHERE id = 1 AND scrub_due = 0")
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

    /// Writes the file anew without what is removed, and empties the write-ahead log. Nobody writes meanwhile.
    ///
    /// # Errors
    /// [`StoreError::NotScrubbed`] if somebody reads all the time.
    async fn scrub(&self) -> Result<(), StoreError> {
        let (mut connection, _turn) = self.alone().await?;
        sqlx::query("VACUUM").execute(&mut *connection).await?;
        // Waits for those who read as long as for a lock.
        let (busy, ..): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
        if busy != 0 {
            return Err(StoreError::NotScrubbed);
        }
        sqlx::query("UPDATE gateway SET scrub_due = 0 WHERE id = 1")
            .execute(&mut *connection)
            .await?;
        Ok(())
    }
}
