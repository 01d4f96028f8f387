//! A store in a file of SQLite: how the file is made and opened.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, PermissionsExt},
    },
    path::Path,
    time::Duration,
};

use sqlx::{
    AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
};
use tacit_keys::private_file;
use tacit_messages::clock::Instant;
use tokio::time::sleep;

use super::Connections;
use crate::StoreError;

/// How long a write waits for another process's, and a caller for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries to connect to a file that somebody else has.
const BETWEEN_CONNECTS: Duration = Duration::from_millis(10);
/// Connections for reading; SQLite reads while it writes.
const READERS: u32 = 4;

/// What is deleted is gone from the file, and nothing is sorted in another file.
const EACH: &str = "PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;";
const DURABLE: &str = "PRAGMA synchronous = FULL";
const QUICK: &str = "PRAGMA synchronous = NORMAL";
const READING: &str = "PRAGMA query_only = ON";

pub(crate) const COLUMNS: &str = "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_xinfo(tables.name) AS columns
     WHERE tables.type IN ('table', 'view')";
pub(crate) const PROGRAMS: &str =
    "SELECT type, name FROM sqlite_schema WHERE type NOT IN ('table', 'index')";

pub(crate) const HIGHEST_NUMBERS: &str = "SELECT name, seq FROM sqlite_sequence WHERE seq > 0";
pub(crate) const NUMBER_ON: [&str; 2] = [
    "DELETE FROM sqlite_sequence WHERE name = $1 AND seq != $2",
    "INSERT INTO sqlite_sequence (name, seq) SELECT $1, $2
     WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = $1)",
];

/// Opens the file, made with mode 0600 unless it is there.
pub(crate) async fn connect(path: &Path) -> Result<Connections, StoreError> {
    make_private(path)?;
    let options = options(path, "mode=rw")?;
    let first = connect_when_free(&options).await?;
    let connections = Connections {
        readers: pool(&options, READERS, READING),
        durable: pool(&options, 1, DURABLE),
        quick: pool(&options, 1, QUICK),
    };
    // Whoever closes the file as the last one takes its other files away.
    drop(connections.durable.acquire().await?);
    first.close().await?;
    Ok(connections)
}

/// Opens the file to read it as it is, and leaves no trace in its directory.
pub(crate) async fn look_into(path: &Path) -> Result<AnyConnection, sqlx::Error> {
    let mut log_path = path.as_os_str().to_owned();
    log_path.push("-wal");
    // Whoever closed the store well took its other files away; a reader would make them anew.
    let is_immutable = !Path::new(&log_path).exists();
    let parameters = if is_immutable { "mode=ro&immutable=true" } else { "mode=ro" };
    options(path, parameters)?.connect().await
}

/// Writes the file anew, by way of one without a name beside it: its size may be more than there is memory.
pub(crate) async fn vacuum(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let path: String =
        sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
            .fetch_one(&mut *connection)
            .await?;
    let directory = Path::new(&path).parent().unwrap_or(Path::new("."));
    let directory = directory.to_string_lossy().replace('\'', "''");
    let statements = format!(
        "PRAGMA temp_store_directory = '{directory}'; PRAGMA temp_store = FILE; VACUUM; PRAGMA temp_store = MEMORY;"
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.map(drop)
}

fn options(path: &Path, parameters: &str) -> Result<AnyConnectOptions, sqlx::Error> {
    let mut url = String::from("sqlite:");
    for byte in path.as_os_str().as_bytes() {
        let _ = write!(url, "%{byte:02x}");
    }
    let options: AnyConnectOptions = format!("{url}?{parameters}").parse()?;
    Ok(options.disable_statement_logging())
}

fn pool(options: &AnyConnectOptions, max: u32, own: &'static str) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(EACH)).await?;
                connection.execute(sqlx::raw_sql(own)).await.map(drop)
            })
        })
        .connect_lazy_with(options.clone())
}

/// Connects, and waits while another process makes the store: for the change to a write-ahead log SQLite does not.
async fn connect_when_free(options: &AnyConnectOptions) -> Result<AnyConnection, sqlx::Error> {
    let began_at = Instant::now();
    loop {
        let mut connection = options.connect().await?;
        match connection.execute(sqlx::raw_sql(EACH)).await {
            Ok(_) => return Ok(connection),
            Err(error) if is_busy(&error) && Instant::now().since(began_at) < BUSY_TIMEOUT => {
                sleep(BETWEEN_CONNECTS).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether somebody else has the file (SQLITE_BUSY and its kinds).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 5)
}

/// Makes the file unless it exists, and checks that it is this user's alone. SQLite gives its two other files the same mode.
///
/// An existing file is not opened: closing it would drop the locks that another store of this process has on it.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let create_error = |source| StoreError::Create { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // Whatever the umask took away.
        Ok(file) => file.set_permissions(Permissions::from_mode(0o600)).map_err(create_error),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_private(path),
        Err(error) => Err(create_error(error)),
    }
}

/// Checks that an existing file is this user's alone.
pub(crate) fn check_private(path: &Path) -> Result<(), StoreError> {
    let create_error = |source| StoreError::Create { path: path.to_owned(), source };
    let metadata = fs::symlink_metadata(path).map_err(create_error)?;
    Ok(private_file::check(path, &metadata)?)
}
