//! Writes a store as lines, as it is at one moment, while it is in use.

use std::{collections::BTreeMap, mem, time::Duration};

use futures_util::TryStreamExt;
use sqlx::{
    AnyConnection, AssertSqlSafe, Row, TypeInfo, ValueRef,
    any::{AnyRow, AnyTypeInfoKind},
};
use tacit_messages::UnixSeconds;
use tokio::{sync::mpsc, time::timeout};

use super::{
    BackupError,
    line::{Base64, Head, Line, Summary, Value},
    tables::{TABLES, Table, live},
};
use crate::{Store, StoreError, database::Kind};

/// Lines go out in pieces of about so many bytes.
const PIECE: usize = 64 * 1024;

/// How long a piece may wait for whoever takes it: the store keeps what is changed meanwhile twice.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines on their way out.
struct Out<'a> {
    pieces: &'a mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Out<'_> {
    async fn write(&mut self, line: &Line) -> Result<(), BackupError> {
        line.write(&mut self.piece);
        if self.piece.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), BackupError> {
        let piece = mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        match timeout(PATIENCE, self.pieces.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(BackupError::Gone),
        }
    }
}

impl Store {
    /// Sends the store's lines, as it is at the moment of the first one. Others read and write meanwhile, and only a
    /// piece is in memory at a time.
    ///
    /// # Errors
    /// [`BackupError`]; then the last line is missing.
    pub async fn dump(
        &self,
        pieces: &mpsc::Sender<Vec<u8>>,
        now: UnixSeconds,
    ) -> Result<Summary, BackupError> {
        let mut out = Out { pieces, piece: Vec::new() };
        let mut snapshot = self.reader().begin_with(self.kind().begin_snapshot()).await?;
        let version = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
            .fetch_one(&mut *snapshot)
            .await?;
        let columns = live(self.kind(), &mut snapshot).await?;
        let tables = || TABLES.iter().filter_map(|table| Some((table, columns.get(table.name)?)));
        let mut summary = Summary { at: now.0, ..Summary::default() };
        for (table, _) in tables() {
            let rows = count(*table, &mut snapshot).await?;
            summary.rows += rows;
            if table.name == "accounts" {
                summary.accounts = rows;
            }
        }
        out.write(&Line::Tacit(Head::new(version, now.0, summary.rows))).await?;
        for (table, columns) in tables() {
            dump_table(*table, columns.iter().cloned().collect(), &mut snapshot, &mut out).await?;
        }
        out.write(&Line::Numbers(numbers(self.kind(), &mut snapshot).await?)).await?;
        out.write(&Line::End { rows: summary.rows }).await?;
        out.flush().await?;
        snapshot.rollback().await?;
        Ok(summary)
    }
}

async fn count(table: Table, snapshot: &mut AnyConnection) -> Result<u64, BackupError> {
    let statement = format!("SELECT COUNT(*) FROM {}", table.name);
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(snapshot).await?;
    Ok(rows.unsigned_abs())
}

async fn dump_table(
    table: Table,
    columns: Vec<String>,
    snapshot: &mut AnyConnection,
    out: &mut Out<'_>,
) -> Result<(), BackupError> {
    let Table { name, key } = table;
    let statement = format!("SELECT {} FROM {name} ORDER BY {key}", columns.join(", "));
    out.write(&Line::Table { name: name.into(), columns }).await?;
    let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(snapshot);
    while let Some(row) = rows.try_next().await? {
        out.write(&Line::Row(values(&row)?)).await?;
    }
    Ok(())
}

fn values(row: &AnyRow) -> Result<Vec<Value>, BackupError> {
    let value = |column| -> Result<Value, BackupError> {
        let raw = row.try_get_raw(column)?;
        if raw.is_null() || raw.type_info().is_null() {
            return Ok(Value::Nothing(()));
        }
        let kind = raw.type_info().kind();
        Ok(match kind {
            AnyTypeInfoKind::SmallInt | AnyTypeInfoKind::Integer | AnyTypeInfoKind::BigInt => {
                Value::Number(row.try_get(column)?)
            }
            AnyTypeInfoKind::Text => Value::Text(row.try_get(column)?),
            AnyTypeInfoKind::Blob => Value::Bytes { bytes: Base64(row.try_get(column)?) },
            _ => return Err(StoreError::Corrupt("a column of a kind that no table has").into()),
        })
    };
    (0..row.len()).map(value).collect()
}

/// The highest number that a row of each numbered table ever had, if any had one.
async fn numbers(
    kind: Kind,
    snapshot: &mut AnyConnection,
) -> Result<BTreeMap<String, i64>, BackupError> {
    let numbers: Vec<(String, i64)> =
        sqlx::query_as(kind.highest_numbers()).fetch_all(snapshot).await?;
    Ok(numbers.into_iter().collect())
}
