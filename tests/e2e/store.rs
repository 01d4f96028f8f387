//! Reads the store's file as somebody would who has stolen it.

use std::path::Path;

use sqlx::{
    Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

/// The names of a table's columns.
pub(crate) fn columns(file: &Path, table: &str) -> Vec<String> {
    query(file, &format!("SELECT name FROM pragma_table_info('{table}')"))
}

/// Every value of every table, but for the time at which the gateway was last known to run.
pub(crate) fn dump(file: &Path) -> Vec<String> {
    let tables = query(file, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
    let rows = tables.iter().flat_map(|table| {
        let columns = columns(file, table).into_iter().filter(|column| column != "last_alive_at");
        let quoted: Vec<String> = columns.map(|column| format!("quote(\"{column}\")")).collect();
        let rows =
            query(file, &format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ',' || ")));
        rows.into_iter().map(move |row| format!("{table}: {row}"))
    });
    rows.collect()
}

/// How many rows a table has.
pub(crate) fn rows(file: &Path, table: &str) -> usize {
    query(file, &format!("SELECT CAST(rowid AS TEXT) FROM {table}")).len()
}

/// The first column of every row, which must be bytes.
pub(crate) fn blobs(file: &Path, sql: &str) -> Vec<Vec<u8>> {
    select(file, sql).iter().map(|row| row.get(0)).collect()
}

/// The first column of every row, which must be a number.
pub(crate) fn numbers(file: &Path, sql: &str) -> Vec<i64> {
    select(file, sql).iter().map(|row| row.get(0)).collect()
}

/// Changes the store behind the gateway's back.
pub(crate) fn change(file: &Path, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .busy_timeout(std::time::Duration::from_secs(5));
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let changed = sqlx::query(sql).execute(&mut connection).await.unwrap();
        assert!(changed.rows_affected() > 0, "nothing was changed");
    });
}

/// Keeps everybody else from writing for a while.
pub(crate) fn lock_for(file: &Path, time: std::time::Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(file);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        tokio::time::sleep(time).await;
        sqlx::query("ROLLBACK").execute(&mut connection).await.unwrap();
    });
}

/// The first column of every row, which must be text.
fn query(file: &Path, sql: &str) -> Vec<String> {
    select(file, sql).iter().map(|row| row.get(0)).collect()
}

fn select(file: &Path, sql: &str) -> Vec<SqliteRow> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        sqlx::query(sql).fetch_all(&mut connection).await.unwrap()
    })
}
