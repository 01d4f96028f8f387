//! Goes along a chain in the store and finds the first entry that is not as it was written.

use sqlx::{FromRow, any::AnyRow};
use tacit_keys::DataKeys;

use super::{Chain, Content, End, Verdict, Walk, hold};
use crate::{StoreError, store::Write};

/// Stands for everybody in [`Entry::SELECT`]: no account has a number below 1.
pub(crate) const EVERYBODY: i64 = -1;

/// How many entries are read at a time.
const BATCH: i64 = 1000;

/// A row of a chain's table.
pub(crate) trait Entry: for<'row> FromRow<'row, AnyRow> + Send + Sync + Unpin {
    /// The chain.
    const CHAIN: Chain;

    /// Selects at most $3 rows that follow the one numbered $1, of the account $2 or of [`EVERYBODY`].
    const SELECT: &'static str;

    fn number(&self) -> i64;

    fn hash(&self) -> &[u8];

    /// What is hashed; `None` if it cannot be read.
    fn content(&self, keys: &DataKeys) -> Option<Content>;
}

/// Looks whether any entry was changed, removed, moved, added or cut off; `noted` is an end that the chain had before.
pub(crate) async fn verify<E: Entry>(
    write: &mut Write,
    keys: &DataKeys,
    noted: Option<End>,
) -> Result<Verdict, StoreError> {
    let head = hold(write, E::CHAIN).await?;
    let mut walk = match Walk::begin(keys, E::CHAIN, head, noted) {
        Ok(walk) => walk,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut after = i64::MIN;
    loop {
        let batch = sqlx::query_as(E::SELECT).bind(after).bind(EVERYBODY).bind(BATCH);
        let entries: Vec<E> = batch.fetch_all(write.connection()).await?;
        for entry in &entries {
            let content = entry.content(keys);
            if let Err(fault) = walk.step(entry.number(), content.as_ref(), entry.hash()) {
                return Ok(Err(fault));
            }
        }
        match entries.last() {
            Some(entry) => after = entry.number(),
            None => return Ok(walk.end()),
        }
    }
}
