//! Makes a store of a backup's lines, in one change.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufRead,
};

use sqlx::AssertSqlSafe;
use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;

use super::{
    BackupError,
    line::{Head, Line, MAX_LINE, Reader, Summary, Value},
    tables::{DATA_KEYS, TABLES, find, live},
};
use crate::{
    Chain, DataKind, Database, Deed, Store, StoreError, TunnelPool, chain, data_keys,
    database::Kind, disclosures::DisclosureRow, post, staff_log::EntryRow, store::Write,
    times::time_column,
};

/// How a backup is restored.
#[derive(Clone, Debug)]
pub struct Restoration {
    /// Where to.
    pub database: Database,
    /// What its values are sealed with.
    pub keys: DataKeys,
    /// Whether a store that is there already goes.
    pub replaces: bool,
    /// The number of the Unix user who restores it, for the staff log.
    pub uid: u32,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup holds.
    pub backup: Summary,
    /// Letters that tell of rules and were not sent when the backup was made. Nobody knows whether they were after
    /// that, so they wait until an operator has them sent.
    pub held_letters: u64,
}

impl Restoration {
    /// Makes the store that the lines tell of, in the place of what there is.
    ///
    /// # Errors
    /// [`BackupError`]; then what there was is as it was, though there may be an empty file where there was no store.
    pub async fn carry_out(
        self,
        lines: &mut (dyn BufRead + Send),
        now: UnixSeconds,
    ) -> Result<Restored, BackupError> {
        if self.database.is_in_use().await.map_err(StoreError::Unreachable)? {
            return Err(BackupError::InUse);
        }
        // The networks are the backup's, which the store does not look at until it is opened.
        let store = Store::connect(&self.database, TunnelPool::default(), self.keys).await?;
        let restored = restore(&store.for_staff(self.uid), self.replaces, lines, now).await;
        store.close().await;
        restored
    }
}

async fn restore(
    store: &Store,
    replaces: bool,
    lines: &mut (dyn BufRead + Send),
    now: UnixSeconds,
) -> Result<Restored, BackupError> {
    let mut write = store.write().await?;
    make_room(store.kind(), &mut write, replaces).await?;
    let mut loading = Loading {
        kind: store.kind(),
        keys: &store.keys(),
        write: &mut write,
        expected: BTreeMap::new(),
        has_chains: false,
        table: None,
    };
    let backup = loading.all(lines).await?;
    let has_chains = loading.has_chains;
    migrate(store.kind(), &mut write, None).await?;
    store.kind().keep_out_of_statistics(write.connection()).await?;
    if !has_chains {
        chain::adopt(&mut write, &store.keys()).await?;
    }
    check_chains(&mut write, &store.keys()).await?;
    let held_letters = hold_letters(&mut write, now).await?;
    let deed = Deed { verb: "restore", account: None, data: DataKind::ALL };
    store.note(&mut write, deed, now).await?;
    write.commit().await?;
    Ok(Restored { backup, held_letters })
}

/// Removes the tables of a store that is there, or refuses.
async fn make_room(kind: Kind, write: &mut Write, replaces: bool) -> Result<(), BackupError> {
    let tables = live(kind, write.connection()).await?;
    let there: Vec<_> = TABLES.iter().filter(|table| tables.contains_key(table.name)).collect();
    if !there.is_empty() && !replaces {
        return Err(BackupError::StoreExists);
    }
    let names = there.into_iter().rev().map(|table| table.name).chain(["_sqlx_migrations"]);
    for name in names {
        let statement = format!("DROP TABLE IF EXISTS {name}");
        sqlx::query(AssertSqlSafe(statement)).execute(write.connection()).await?;
    }
    Ok(())
}

/// Brings the tables to `version`, or up to date.
async fn migrate(kind: Kind, write: &mut Write, version: Option<i64>) -> Result<(), StoreError> {
    Ok(kind.migrations().run_direct(version, write.connection(), false).await?)
}

async fn check_chains(write: &mut Write, keys: &DataKeys) -> Result<(), BackupError> {
    for chain in Chain::ALL {
        let verdict = match chain {
            Chain::StaffLog => chain::verify::<EntryRow>(write, keys, None).await?,
            Chain::Disclosures => chain::verify::<DisclosureRow>(write, keys, None).await?,
        };
        if let Err(fault) = verdict {
            return Err(BackupError::Chain { chain, fault });
        }
    }
    Ok(())
}

/// Keeps letters that may have been sent since from being sent again: those that waited, those that were refused then and
/// may have been taken later, and those that were not even written.
async fn hold_letters(write: &mut Write, now: UnixSeconds) -> Result<u64, StoreError> {
    post::queue_rules_letters(write, now).await?;
    let held = sqlx::query(
        "UPDATE letters SET state = 'refused', state_since = $1, held = 1
         WHERE rules_version IS NOT NULL AND state IN ('queued', 'refused')",
    )
    .bind(time_column(now))
    .execute(write.connection())
    .await?;
    Ok(held.rows_affected())
}

/// Lines on their way in.
struct Loading<'a> {
    kind: Kind,
    keys: &'a DataKeys,
    write: &'a mut Write,
    /// The tables that are still to come, and their columns.
    expected: BTreeMap<&'static str, BTreeSet<String>>,
    /// Whether there were hash-chained lists in that version.
    has_chains: bool,
    table: Option<(&'static str, Vec<String>)>,
}

impl Loading<'_> {
    async fn all(&mut self, lines: &mut (dyn BufRead + Send)) -> Result<Summary, BackupError> {
        let mut reader = Reader::default();
        while let Some(text) = next_line(lines)? {
            match reader.take(&text)? {
                Line::Tacit(head) => self.begin(head).await?,
                Line::Table { name, columns } => self.begin_table(&name, columns).await?,
                Line::Row(values) => {
                    self.insert(values, BackupError::Line(reader.number())).await?;
                }
                Line::Numbers(numbers) => self.number(&numbers).await?,
                Line::End { .. } if self.expected.is_empty() => {}
                Line::End { .. } => return Err(BackupError::Schema),
            }
        }
        reader.finish()
    }

    /// Makes the tables as they were when the backup was made, without a row.
    async fn begin(&mut self, head: Head) -> Result<(), BackupError> {
        let versions = || self.kind.migrations().iter().map(|migration| migration.version);
        if versions().all(|version| version < head.tables) {
            return Err(BackupError::Newer);
        }
        if versions().all(|version| version != head.tables) {
            return Err(BackupError::Schema);
        }
        migrate(self.kind, self.write, Some(head.tables)).await?;
        let mut tables = live(self.kind, self.write.connection()).await?;
        self.has_chains = tables.contains_key("chains");
        for table in TABLES.iter().rev() {
            if let Some(columns) = tables.remove(table.name) {
                let statement = format!("DELETE FROM {}", table.name);
                sqlx::query(AssertSqlSafe(statement)).execute(self.write.connection()).await?;
                self.expected.insert(table.name, columns);
            }
        }
        Ok(())
    }

    async fn begin_table(&mut self, name: &str, columns: Vec<String>) -> Result<(), BackupError> {
        if self.table.as_ref().is_some_and(|(former, _)| *former == DATA_KEYS) {
            data_keys::adopt(self.write, self.keys).await?;
        }
        let table = find(name).ok_or(BackupError::Schema)?.name;
        let expected = self.expected.remove(table).ok_or(BackupError::Schema)?;
        // Only names that the database has get into a statement.
        let are_all = columns.len() == expected.len()
            && columns.iter().all(|column| expected.contains(column));
        if !are_all {
            return Err(BackupError::Schema);
        }
        self.table = Some((table, columns));
        Ok(())
    }

    async fn insert(&mut self, values: Vec<Value>, wrong: BackupError) -> Result<(), BackupError> {
        let Some((table, columns)) = &self.table else { return Err(wrong) };
        if values.len() != columns.len() {
            return Err(wrong);
        }
        // A column that is left out is empty; it needs no type then.
        let given = columns.iter().zip(values).filter(|(_, value)| *value != Value::Nothing(()));
        let (columns, values): (Vec<&str>, Vec<Value>) =
            given.map(|(column, value)| (column.as_str(), value)).unzip();
        let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
        let statement =
            format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "));
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            query = match value {
                Value::Nothing(()) => query,
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Bytes { bytes } => query.bind(bytes.0),
            };
        }
        match query.execute(self.write.connection()).await {
            Ok(_) => Ok(()),
            // What no row of such a table can be.
            Err(sqlx::Error::Database(_)) => Err(wrong),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the database go on numbering where the other one was.
    async fn number(&mut self, numbers: &BTreeMap<String, i64>) -> Result<(), BackupError> {
        for (name, number) in numbers {
            let table = find(name).ok_or(BackupError::Schema)?;
            for statement in self.kind.number_on() {
                sqlx::query(*statement)
                    .bind(table.name)
                    .bind(*number)
                    .execute(self.write.connection())
                    .await?;
            }
        }
        Ok(())
    }
}

/// The next line without its end; none after the last one.
fn next_line(lines: &mut (dyn BufRead + Send)) -> Result<Option<Vec<u8>>, BackupError> {
    let mut line = Vec::new();
    std::io::Read::take(&mut *lines, MAX_LINE as u64).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(BackupError::CutOff),
    }
}

#[cfg(test)]
mod tests {
    use tacit_keys::DataKey;
    use tokio::sync::mpsc;

    use super::*;

    /// All lines of a store with the tables of `version`, with nobody in it.
    async fn lines_of(version: i64, keys: &DataKeys) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(dir.path().join("store"));
        let store = Store::connect(&database, TunnelPool::default(), keys.clone()).await.unwrap();
        let mut write = store.write().await.unwrap();
        migrate(store.kind(), &mut write, Some(version)).await.unwrap();
        data_keys::adopt(&mut write, keys).await.unwrap();
        let tables = live(store.kind(), write.connection()).await.unwrap();
        if tables.contains_key("chains") {
            chain::adopt(&mut write, keys).await.unwrap();
        }
        write.commit().await.unwrap();
        let (pieces, mut received) = mpsc::channel(100);
        store.dump(&pieces, UnixSeconds(7)).await.unwrap();
        drop(pieces);
        let mut lines = Vec::new();
        while let Some(piece) = received.recv().await {
            lines.extend(piece);
        }
        store.close().await;
        lines
    }

    #[tokio::test]
    async fn backup_of_every_former_version_is_restored_and_brought_up_to_date() {
        let keys = DataKeys::new(DataKey::generate());
        let versions = Kind::Sqlite.migrations().iter().map(|migration| migration.version);
        for version in versions {
            let lines = lines_of(version, &keys).await;
            let dir = tempfile::tempdir().unwrap();
            let database = Database::Sqlite(dir.path().join("store"));
            let (keys, to) = (keys.clone(), database.clone());
            let restoration =
                Restoration { database: to, keys: keys.clone(), replaces: false, uid: 0 };
            restoration.carry_out(&mut &lines[..], UnixSeconds(8)).await.unwrap();
            let store = Store::open(database, TunnelPool::default(), keys).await.unwrap();
            let log = store.staff_log(None, 0, 10).await.unwrap();
            assert_eq!(log.iter().map(|entry| &*entry.verb).collect::<Vec<_>>(), ["restore"]);
            store.close().await;
        }
    }
}
