//! Where a store is kept: a file of SQLite, or a database of a PostgreSQL server. What differs between the two is here;
//! the queries are the same for both.

pub mod postgres;
pub(crate) mod sqlite;

use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, AnyPool, migrate::Migrator};

use crate::StoreError;
use postgres::Server;

static ON_SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static ON_POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Where a store is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// In a file of SQLite, for one gateway.
    Sqlite(PathBuf),
    /// In a database of a PostgreSQL server.
    Postgres(Server),
}

impl From<&Path> for Database {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&PathBuf> for Database {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl From<&Self> for Database {
    fn from(database: &Self) -> Self {
        database.clone()
    }
}

impl Database {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Postgres(_) => Kind::Postgres,
        }
    }

    /// Connects to what is there, or makes what can be made.
    pub(crate) async fn connect(&self) -> Result<Connections, StoreError> {
        sqlx::any::install_default_drivers();
        match self {
            Self::Sqlite(path) => sqlite::connect(path).await,
            Self::Postgres(server) => postgres::connect(server).await,
        }
    }

    /// Opens the store to read it as it is, and leaves no trace.
    pub(crate) async fn look_into(&self) -> Result<AnyConnection, sqlx::Error> {
        sqlx::any::install_default_drivers();
        match self {
            Self::Sqlite(path) => sqlite::look_into(path).await,
            Self::Postgres(server) => postgres::look_into(server).await,
        }
    }

    /// Whether a gateway is connected to a server's database. Of a file's the data directory tells.
    pub(crate) async fn is_in_use(&self) -> Result<bool, sqlx::Error> {
        match self {
            Self::Sqlite(_) => Ok(false),
            Self::Postgres(_) => postgres::is_in_use(self.look_into().await?).await,
        }
    }
}

/// Which program keeps a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// Begins a change that nobody else changes anything beside.
    pub(crate) const fn begin_alone(self) -> &'static str {
        match self {
            // What a change reads first must still be true when it writes, also with a second process.
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => postgres::BEGIN_ALONE,
        }
    }

    /// Begins a change of rows that no other gateway changes; nobody changes others' meanwhile.
    pub(crate) const fn begin_beside_others(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => postgres::BEGIN_BESIDE_OTHERS,
        }
    }

    /// Begins to read what there is at this moment, whatever is changed meanwhile.
    pub(crate) const fn begin_snapshot(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// Name and highest number of every table whose rows are numbered, if it had one.
    pub(crate) const fn highest_numbers(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::HIGHEST_NUMBERS,
            Self::Postgres => postgres::HIGHEST_NUMBERS,
        }
    }

    /// Has a table numbered on from a number.
    pub(crate) const fn number_on(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &sqlite::NUMBER_ON,
            Self::Postgres => &postgres::NUMBER_ON,
        }
    }

    pub(crate) fn migrations(self) -> &'static Migrator {
        match self {
            Self::Sqlite => &ON_SQLITE,
            Self::Postgres => &ON_POSTGRES,
        }
    }

    /// Keeps copies of what could name somebody out of what the program notes of values to find them quickly.
    pub(crate) async fn keep_out_of_statistics(
        self,
        connection: &mut AnyConnection,
    ) -> Result<(), sqlx::Error> {
        match self {
            // It notes nothing unless told to.
            Self::Sqlite => Ok(()),
            Self::Postgres => postgres::keep_out_of_statistics(connection).await,
        }
    }

    /// Table and name of every column, of views too.
    pub(crate) const fn columns(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::COLUMNS,
            Self::Postgres => postgres::COLUMNS,
        }
    }

    /// Kind and name of what acts by itself.
    pub(crate) const fn programs(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::PROGRAMS,
            Self::Postgres => postgres::PROGRAMS,
        }
    }
}

/// The connections of a store.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    pub(crate) readers: AnyPool,
    /// Syncs each commit: a device once removed stays removed, whatever happens to the power.
    pub(crate) durable: AnyPool,
    /// Leaves syncing for later: what is written survives the death of the process, and may be lost with the power.
    pub(crate) quick: AnyPool,
}

impl Connections {
    pub(crate) async fn close(self) {
        self.readers.close().await;
        self.quick.close().await;
        self.durable.close().await;
    }
}
