//! The store: one SQLite file, its connections, and its tables' versions.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tacit_keys::{DataKeys, private_file};
use tacit_messages::clock::Instant;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::sleep,
};

use crate::{
    DEFAULT_ARCHIVE_TIME, DEFAULT_RECORD_TIME, StoreError, TunnelPool, addresses, chain, data_keys,
};

/// How many devices an account may have unless told otherwise.
pub const DEFAULT_DEVICE_LIMIT: u32 = 5;

/// How long a write waits for another process's, and a caller for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries to connect to a file that somebody else has.
const BETWEEN_CONNECTS: Duration = Duration::from_millis(10);
/// Connections for reading; SQLite reads while it writes.
const READERS: u32 = 4;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Accounts, devices and sessions. Clones share the same connections.
#[derive(Clone, Debug)]
pub struct Store {
    readers: SqlitePool,
    /// Syncs each commit: a device once removed stays removed, whatever happens to the power.
    durable: SqlitePool,
    /// Leaves syncing to the checkpoints: a session is written at each connect, survives the death of the process,
    /// and may be lost with the power.
    quick: SqlitePool,
    /// Writers of this process queue here, in order; SQLite would have them poll.
    turn: Arc<Mutex<()>>,
    /// Changed only by whom it is the turn of.
    keys: Arc<RwLock<Arc<DataKeys>>>,
    pub(crate) tunnel_pool: TunnelPool,
    pub(crate) device_limit: u32,
    /// How long former values are kept.
    pub(crate) archive_time: Duration,
    /// How long entries of the staff log and the disclosure register are kept.
    pub(crate) record_time: Duration,
    /// Whose changes go to the staff log: the number of their Unix user.
    pub(crate) staff: Option<u32>,
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Accounts.
    pub accounts: u64,
    /// Devices of all accounts.
    pub devices: u64,
}

impl Store {
    /// Reads which networks the store in `path` issues addresses from.
    ///
    /// None if there is no such store yet, or it cannot be read: then [`Self::open`] says why.
    pub async fn recorded_pool(path: &Path) -> Option<TunnelPool> {
        // SQLite's other files would inherit a mode that is too loose.
        private_file::check(path, &fs::symlink_metadata(path).ok()?).ok()?;
        let mut connection = look_into(path).await.ok()?;
        let recorded = addresses::recorded(&mut connection).await;
        let _ = connection.close().await;
        recorded.ok().flatten()
    }

    /// Opens the store in `path`, made with mode 0600 at the first start, for devices with addresses of `pool`. Personal
    /// data is sealed with `keys`.
    ///
    /// # Errors
    /// [`StoreError::NotPrivate`] if others can open the file, [`StoreError::WrongDataKey`] if its values are sealed with
    /// another key, [`StoreError::NewerSchema`] if a newer program has changed its tables, [`StoreError::PoolChanged`]
    /// if devices have addresses outside of `pool`.
    pub async fn open(path: &Path, pool: TunnelPool, keys: DataKeys) -> Result<Self, StoreError> {
        make_private(path)?;
        data_keys::check_unopened(path, &keys).await?;
        let options = options(path);
        let full = options.clone().synchronous(SqliteSynchronous::Full);
        let durable = connect_when_free(full).await?;
        let store = Self {
            readers: connections(READERS)
                .connect_lazy_with(options.clone().pragma("query_only", "ON")),
            durable,
            quick: connections(1).connect_lazy_with(options),
            turn: Arc::new(Mutex::new(())),
            keys: Arc::new(RwLock::new(Arc::new(keys))),
            tunnel_pool: pool,
            device_limit: DEFAULT_DEVICE_LIMIT,
            archive_time: DEFAULT_ARCHIVE_TIME,
            record_time: DEFAULT_RECORD_TIME,
            staff: None,
        };
        let mut write = store.write().await?;
        // `run` would make this future one that cannot move between threads.
        MIGRATIONS.run_direct(None, write.connection(), false).await?;
        data_keys::adopt(&mut write, &store.keys()).await?;
        chain::adopt(&mut write, &store.keys()).await?;
        addresses::adopt(&mut write, pool).await?;
        write.commit().await?;
        Ok(store)
    }

    /// Lets every account have up to `limit` devices. Those that have more keep them.
    #[must_use]
    pub fn with_device_limit(self, limit: u32) -> Self {
        Self { device_limit: limit, ..self }
    }

    /// Keeps former values for `archive_time` from now on, and entries of staff log and disclosure register for
    /// `record_time`. Former values that are archived already keep their time.
    #[must_use]
    pub fn with_times(self, archive_time: Duration, record_time: Duration) -> Self {
        Self { archive_time, record_time, ..self }
    }

    /// The same store in the hands of a member of the staff, whose changes go to the staff log.
    #[must_use]
    pub fn for_staff(&self, uid: u32) -> Self {
        Self { staff: Some(uid), ..self.clone() }
    }

    /// Counts accounts and devices.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let sql = "SELECT (SELECT COUNT(*) FROM accounts WHERE cancelled_at IS NULL), (SELECT COUNT(*) FROM devices)";
        let (accounts, devices): (i64, i64) = sqlx::query_as(sql).fetch_one(self.reader()).await?;
        Ok(Counts { accounts: accounts.unsigned_abs(), devices: devices.unsigned_abs() })
    }

    /// Finishes what is being written and closes the file.
    pub async fn close(self) {
        self.readers.close().await;
        self.quick.close().await;
        self.durable.close().await;
    }

    /// The keys that values are sealed with. To seal, ask during the change; to open, after reading: then none is missing.
    pub(crate) fn keys(&self) -> Arc<DataKeys> {
        Arc::clone(&self.keys.read())
    }

    /// Puts `keys` in the place of the keys, and returns those. Call only in turn.
    pub(crate) fn replace_keys(&self, keys: DataKeys) -> Arc<DataKeys> {
        std::mem::replace(&mut *self.keys.write(), Arc::new(keys))
    }

    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a change that is on the disk once committed.
    pub(crate) async fn write(&self) -> Result<Write, StoreError> {
        self.begin(&self.durable).await
    }

    /// Begins a change that outlives the process once committed.
    pub(crate) async fn write_quickly(&self) -> Result<Write, StoreError> {
        self.begin(&self.quick).await
    }

    /// The connection that syncs, while nobody else of this process writes.
    pub(crate) async fn alone(
        &self,
    ) -> Result<(PoolConnection<Sqlite>, OwnedMutexGuard<()>), StoreError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        Ok((self.durable.acquire().await?, turn))
    }

    async fn begin(&self, connections: &SqlitePool) -> Result<Write, StoreError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // What a change reads first must still be true when it writes, also with a second process.
        let transaction = connections.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Write { transaction, _turn: turn })
    }
}

/// A change of the store, undone when dropped without [`Self::commit`].
pub(crate) struct Write {
    transaction: Transaction<'static, Sqlite>,
    _turn: OwnedMutexGuard<()>,
}

impl Write {
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

/// Opens the file to read it as it is, and leaves no trace in its directory.
pub(crate) async fn look_into(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let mut log_path = path.as_os_str().to_owned();
    log_path.push("-wal");
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        // Whoever closed the store well took its other files away; a reader would make them anew.
        .immutable(!Path::new(&log_path).exists())
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
        .connect()
        .await
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("secure_delete", "ON") // What is deleted is gone from the file.
        .pragma("temp_store", "MEMORY") // Nothing is sorted in a file elsewhere.
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

/// Connects, and waits while another process makes the store: for the change to a write-ahead log SQLite does not.
async fn connect_when_free(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let began_at = Instant::now();
    loop {
        match connections(1).connect_with(options.clone()).await {
            Err(error) if is_busy(&error) && Instant::now().since(began_at) < BUSY_TIMEOUT => {
                sleep(BETWEEN_CONNECTS).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whether somebody else has the file (SQLITE_BUSY and its kinds).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 5)
}

fn connections(max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(max)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Makes the file unless it exists, and checks that it is this user's alone. SQLite gives its two other files the same mode.
///
/// An existing file is not opened: closing it would drop the locks that another [`Store`] of this process has on it.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let create_error = |source| StoreError::Create { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // Whatever the umask took away.
        Ok(file) => file.set_permissions(Permissions::from_mode(0o600)).map_err(create_error),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path).map_err(create_error)?;
            Ok(private_file::check(path, &metadata)?)
        }
        Err(error) => Err(create_error(error)),
    }
}
