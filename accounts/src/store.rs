//! The store: its connections, its tables' versions, and changes of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Transaction, pool::PoolConnection};
use tacit_keys::DataKeys;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    DEFAULT_ARCHIVE_TIME, DEFAULT_RECORD_TIME, Database, StoreError, TunnelPool, addresses, chain,
    data_keys,
    database::{Connections, Kind, sqlite},
    gateways,
};

/// How many devices an account may have unless told otherwise.
pub const DEFAULT_DEVICE_LIMIT: u32 = 5;

/// Accounts, devices and sessions. Clones share the same connections.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    connections: Connections,
    /// Whose sessions are written.
    pub(crate) gateway: i64,
    /// What tells that gateway from another of its name, if several share the store.
    pub(crate) identity: Option<Arc<str>>,
    /// Whether the server is not to tell of changes of devices.
    is_polling: bool,
    /// Writers of this process queue here, in order; SQLite would have them poll.
    turn: Arc<Mutex<()>>,
    /// Changed only by whom it is the turn of.
    keys: Arc<RwLock<Arc<DataKeys>>>,
    pub(crate) tunnel_pool: TunnelPool,
    /// Shared by all clones, so that it can be changed while the gateway runs.
    device_limit: Arc<AtomicU32>,
    /// How long former values are kept.
    pub(crate) archive_time: Duration,
    /// How long entries of the staff log and the disclosure register are kept.
    pub(crate) record_time: Duration,
    /// Whose changes go to the staff log: the number of their Unix user.
    pub(crate) staff: Option<u32>,
    /// Whether letters that account life asks for are queued.
    pub(crate) has_postman: bool,
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
    /// Reads which networks the store in `database` issues addresses from.
    ///
    /// None if there is no such store yet, or it cannot be read: then [`Self::open`] says why.
    pub async fn recorded_pool(database: impl Into<Database>) -> Option<TunnelPool> {
        let database = database.into();
        if let Database::Sqlite(path) = &database {
            // SQLite's other files would inherit a mode that is too loose.
            sqlite::check_private(path).ok()?;
        }
        let mut connection = database.look_into().await.ok()?;
        let recorded = addresses::recorded(&mut connection).await;
        let _ = connection.close().await;
        recorded.ok().flatten()
    }

    /// Opens the store in `database`, a file of which is made with mode 0600 at the first start, for devices with
    /// addresses of `pool`. Personal data is sealed with `keys`.
    ///
    /// # Errors
    /// [`StoreError::NotPrivate`] if others can open the file, [`StoreError::Unreachable`] if there is no server,
    /// [`StoreError::WrongDataKey`] if values are sealed with another key, [`StoreError::NewerSchema`] if a newer program
    /// has changed the tables, [`StoreError::PoolChanged`] if devices have addresses outside of `pool`.
    pub async fn open(
        database: impl Into<Database>,
        pool: TunnelPool,
        keys: DataKeys,
    ) -> Result<Self, StoreError> {
        let database = database.into();
        if let Database::Sqlite(path) = &database
            && path.exists()
        {
            sqlite::check_private(path)?;
            // Opening changes the file, while a server undoes what is not committed.
            data_keys::check_unopened(&database, &keys).await?;
        }
        let store = Self::connect(&database, pool, keys).await?;
        match store.prepare().await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Connects to a store whatever is in it, if anything.
    pub(crate) async fn connect(
        database: &Database,
        pool: TunnelPool,
        keys: DataKeys,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            connections: database.connect().await?,
            database: database.clone(),
            gateway: gateways::FIRST,
            identity: None,
            is_polling: false,
            turn: Arc::new(Mutex::new(())),
            keys: Arc::new(RwLock::new(Arc::new(keys))),
            tunnel_pool: pool,
            device_limit: Arc::new(AtomicU32::new(DEFAULT_DEVICE_LIMIT)),
            archive_time: DEFAULT_ARCHIVE_TIME,
            record_time: DEFAULT_RECORD_TIME,
            staff: None,
            has_postman: false,
        })
    }

    /// Brings the tables up to date, and records keys and networks.
    async fn prepare(&self) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        // `run` would make this future one that cannot move between threads.
        self.kind().migrations().run_direct(None, write.connection(), false).await?;
        self.kind().keep_out_of_statistics(write.connection()).await?;
        data_keys::adopt(&mut write, &self.keys()).await?;
        chain::adopt(&mut write, &self.keys()).await?;
        addresses::adopt(&mut write, self.tunnel_pool).await?;
        write.commit().await
    }

    /// Lets every account have up to `limit` devices. Those that have more keep them.
    #[must_use]
    pub fn with_device_limit(self, limit: u32) -> Self {
        Self { device_limit: Arc::new(AtomicU32::new(limit)), ..self }
    }

    /// Lets every account of this store and its clones have up to `limit` devices from now on.
    pub fn set_device_limit(&self, limit: u32) {
        self.device_limit.store(limit, Ordering::Relaxed);
    }

    /// How many devices an account may have.
    pub(crate) fn device_limit(&self) -> u32 {
        self.device_limit.load(Ordering::Relaxed)
    }

    /// Keeps former values for `archive_time` from now on, and entries of staff log and disclosure register for
    /// `record_time`. Former values that are archived already keep their time.
    #[must_use]
    pub fn with_times(self, archive_time: Duration, record_time: Duration) -> Self {
        Self { archive_time, record_time, ..self }
    }

    /// Queues the letters that changes of accounts ask for, for a postman to take.
    #[must_use]
    pub fn with_postman(self) -> Self {
        Self { has_postman: true, ..self }
    }

    /// Has gateways ask for changes of devices, if `is_polling`, also where a server could tell them.
    #[must_use]
    pub fn with_polling(self, is_polling: bool) -> Self {
        Self { is_polling, ..self }
    }

    /// The same store in the hands of a member of the staff, whose changes go to the staff log.
    #[must_use]
    pub fn for_staff(&self, uid: u32) -> Self {
        Self { staff: Some(uid), ..self.clone() }
    }

    /// The same store in the hands of the gateway of this number.
    pub(crate) fn of_gateway(&self, gateway: i64) -> Self {
        Self { gateway, identity: None, ..self.clone() }
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

    /// Finishes what is being written and closes the connections.
    pub async fn close(self) {
        self.connections.close().await;
    }

    /// The keys that values are sealed with. To seal, ask during the change; to open, after reading: then none is missing.
    pub(crate) fn keys(&self) -> Arc<DataKeys> {
        Arc::clone(&self.keys.read())
    }

    /// Puts `keys` in the place of the keys, and returns those. Call only in turn.
    pub(crate) fn replace_keys(&self, keys: DataKeys) -> Arc<DataKeys> {
        std::mem::replace(&mut *self.keys.write(), Arc::new(keys))
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.database.kind()
    }

    /// Whether the server tells gateways of changes of devices.
    pub(crate) fn tells(&self) -> bool {
        self.kind() == Kind::Postgres && !self.is_polling
    }

    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    pub(crate) fn reader(&self) -> &AnyPool {
        &self.connections.readers
    }

    /// Begins a change that is on the disk once committed.
    pub(crate) async fn write(&self) -> Result<Write, StoreError> {
        self.begin(&self.connections.durable, self.kind().begin_alone()).await
    }

    /// Begins a change that outlives the process once committed, of rows that other gateways leave alone.
    pub(crate) async fn write_quickly(&self) -> Result<Write, StoreError> {
        self.begin(&self.connections.quick, self.kind().begin_beside_others()).await
    }

    /// Begins a change that is on the disk once committed, of rows that other gateways leave alone.
    pub(crate) async fn write_beside_others(&self) -> Result<Write, StoreError> {
        self.begin(&self.connections.durable, self.kind().begin_beside_others()).await
    }

    /// The connection that syncs, while nobody else of this process writes.
    pub(crate) async fn alone(
        &self,
    ) -> Result<(PoolConnection<Any>, OwnedMutexGuard<()>), StoreError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        Ok((self.connections.durable.acquire().await?, turn))
    }

    async fn begin(
        &self,
        connections: &AnyPool,
        statement: &'static str,
    ) -> Result<Write, StoreError> {
        let (turn, connections, tells) =
            (Arc::clone(&self.turn), connections.clone(), self.tells());
        let (keys, gateway, identity) =
            (Arc::clone(&self.keys), self.gateway, self.identity.clone());
        // Whoever is dropped at the begin would leave a transaction that nobody ends, with its lock: so the begin goes on
        // by itself, and what has begun is undone.
        let begun = tokio::spawn(async move {
            let turn = turn.lock_owned().await;
            let transaction = connections.begin_with(statement).await?;
            let mut write = Write { transaction, tells, _turn: turn };
            if let Some(identity) = identity {
                let keys = Arc::clone(&keys.read());
                gateways::check_own(&mut write, gateway, &identity, &keys).await?;
            }
            Ok(write)
        });
        begun.await.unwrap_or(Err(StoreError::Database(sqlx::Error::WorkerCrashed)))
    }
}

/// A change of the store, undone when dropped without [`Self::commit`].
pub(crate) struct Write {
    transaction: Transaction<'static, Any>,
    /// Whether the server tells gateways of changes of devices.
    tells: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Write {
    pub(crate) const fn tells(&self) -> bool {
        self.tells
    }

    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}
