//! The whole store as lines of text, the same for SQLite and PostgreSQL, and a store made of such lines.
//!
//! What is sealed stays sealed: the data key is not in it. The lines are not protected by themselves; whoever writes
//! them to a file seals that.

mod dump;
mod line;
mod load;
mod tables;

pub use line::{Counting, Summary};
pub use load::{Restoration, Restored};

use crate::{Chain, ChainFault, StoreError};

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Not lines of a backup.
    #[error("line {0} is not one of a backup; the file is another one, or was changed")]
    Line(u64),
    /// The lines end before the last one.
    #[error("the backup ends too early; it was cut off")]
    CutOff,
    /// The lines do not add up.
    #[error("the backup has {found} rows, but says it has {said}; it was changed")]
    Rows {
        /// Rows that there are.
        found: u64,
        /// Rows that there should be.
        said: u64,
    },
    /// A newer program made it.
    #[error("the backup was made by a newer tacit; restore it with that one")]
    Newer,
    /// It has other tables or columns than a store of its version.
    #[error(
        "the backup has not the tables of a store of its version; it was changed, or another program made it"
    )]
    Schema,
    /// There is a store already.
    #[error("there is a store already; `--force` puts the backup in its place")]
    StoreExists,
    /// A gateway has the database open.
    #[error("a gateway uses this database; stop it first")]
    InUse,
    /// A hash-chained list does not hold together.
    #[error("the {} of the backup was tampered with: {fault}; nothing is restored", chain.name())]
    Chain {
        /// The list.
        chain: Chain,
        /// What is wrong with it.
        fault: ChainFault,
    },
    /// Reading the lines failed.
    #[error("the backup cannot be read to its end; it was changed or cut off: {0}")]
    Read(#[from] std::io::Error),
    /// Nobody takes the lines any more.
    #[error("whoever wanted the backup is gone")]
    Gone,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
