//! How many changes of sessions a store writes durably, and how fast it finds a device among a million; and what gateways
//! that share a store cost it.

mod fleet;
mod rows;
mod timed;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rand_core::{OsRng, RngCore};
use serde::Serialize;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tacit_accounts::{
    Account, Confirmation, Database, DeviceName, SessionChange, Store, StoreError, TunnelPool,
};
use tacit_keys::{DataKey, DataKeys, PresharedKey, PrivateKey};
use tacit_messages::{ConnectingIp, DeviceId, UnixSeconds, clock::Instant};
use tacit_tests::postgres::Postgres;

/// How many devices have sessions in turn.
const LIVE: usize = 1000;
/// How many changes are written together, as control does.
const GROUP: usize = 128;

/// Options of `store`.
#[derive(Args)]
#[command(after_help = "Examples:\n  cargo run --release -p tacit-benches -- store\n  \
    cargo run --release -p tacit-benches -- store --devices 100000 --seconds 5\n  \
    cargo run --release -p tacit-benches -- store --devices 5000000 --gateways 10000 --purge")]
pub(crate) struct Options {
    /// Devices registered.
    #[arg(long, default_value_t = 1_000_000)]
    devices: u32,
    /// Gateways that share a store on PostgreSQL, of which every tenth device is at one: measures what they cost it.
    #[arg(long)]
    gateways: Option<u32>,
    /// Gateways that ask and write at once.
    #[arg(long, default_value_t = 8, requires = "gateways", value_parser = clap::value_parser!(u32).range(1..=40))]
    busy: u32,
    /// Also measures a purge that writes all tables anew, of which nobody reads meanwhile.
    #[arg(long, requires = "gateways")]
    purge: bool,
    /// How long sessions are written, and each other thing is done.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many look-ups are timed.
    #[arg(long, default_value_t = 20_000)]
    lookups: usize,
    /// Where the stores are made; a directory of a disk, not of memory.
    #[arg(long, default_value = "target/store")]
    dir: PathBuf,
}

/// What was measured of a store.
#[derive(Debug, Serialize)]
struct Measured {
    store: &'static str,
    devices: u32,
    session_changes_per_second: u64,
    look_up_p50_micros: u64,
    look_up_p99_micros: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(gateways) = options.gateways {
        return runtime.block_on(fleet::measure(options, gateways));
    }
    fs::create_dir_all(&options.dir)?;
    let dir = tempfile_in(&options.dir)?;
    let path = dir.join("store.sqlite");
    let mut measured = Vec::new();
    let url = format!("sqlite:{}", path.display());
    measured.push(runtime.block_on(measure("SQLite", (&path).into(), &url, options))?);
    fs::remove_dir_all(&dir)?;

    let server = Postgres::start_durably(
        &std::env::temp_dir().join(format!("tacit-bench-{}", std::process::id())),
    );
    server.create("tacit");
    let url = server.url("tacit");
    let database = Database::Postgres(url.parse()?);
    measured.push(runtime.block_on(measure("PostgreSQL", database, &url, options))?);
    drop(server);

    println!(
        "| store | devices | session changes/s, on the disk | look-up p50, µs | look-up p99, µs |"
    );
    println!("|---|---|---|---|---|");
    for row in &measured {
        let Measured { store, devices, session_changes_per_second, .. } = row;
        let (p50, p99) = (row.look_up_p50_micros, row.look_up_p99_micros);
        println!("| {store} | {devices} | {session_changes_per_second} | {p50} | {p99} |");
    }
    let json = serde_json::to_string_pretty(&measured)?;
    Ok(fs::write(options.dir.join("store.json"), json)?)
}

fn tempfile_in(dir: &std::path::Path) -> Result<PathBuf> {
    let dir = dir.join(format!("sqlite-{}", std::process::id()));
    fs::create_dir(&dir)?;
    Ok(fs::canonicalize(dir)?)
}

async fn measure(
    name: &'static str,
    database: Database,
    url: &str,
    options: &Options,
) -> Result<Measured> {
    let pool = TunnelPool::new("10.0.0.0/8".parse()?, "fd66::/64".parse()?)?;
    let keys = DataKeys::new(DataKey::generate());
    let store = Store::open(&database, pool, keys).await?.with_device_limit(u32::MAX);
    let email = "bench@example.org".parse()?;
    let account = store.add_account(&email, Confirmation::OfAge, None, UnixSeconds::now()).await?;
    let mut live = Vec::new();
    for number in 0..LIVE {
        live.push(add_device(&store, &account, number).await?);
    }
    fill(url, &account, options.devices).await.context("writing rows of devices")?;
    let changes = write_sessions(&store, &live, Duration::from_secs(options.seconds)).await?;
    let keys = some_keys(url, options).await?;
    let mut times = look_up(&store, &keys).await?;
    times.sort();
    let micros = |part: usize| times[times.len() * part / 100].as_micros() as u64;
    store.close().await;
    Ok(Measured {
        store: name,
        devices: options.devices,
        session_changes_per_second: changes,
        look_up_p50_micros: micros(50),
        look_up_p99_micros: micros(99),
    })
}

async fn add_device(store: &Store, account: &Account, number: usize) -> Result<DeviceId> {
    let name = DeviceName::parse(&format!("live {number}"))?;
    let key = PrivateKey::generate().public_key();
    let preshared = PresharedKey::generate();
    let device = store.add_device(account.id, &name, key, &preshared, UnixSeconds::now()).await?;
    Ok(device.id)
}

/// Writes rows as the store would, all in one change.
async fn fill(url: &str, account: &Account, count: u32) -> Result<()> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await?;
    let bytes = if url.starts_with("sqlite:") {
        "randomblob(32)"
    } else {
        "decode(md5(n::text) || md5((-n)::text), 'hex')"
    };
    let sql = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})
         INSERT INTO devices (id, account_id, name, public_key, preshared_key, address_offset, created_at)
         SELECT next_device_id + n, {account}, 'device ' || n, {bytes}, {bytes}, next_offset + n, 0
         FROM numbers, tunnel_pool;
         UPDATE tunnel_pool SET next_offset = next_offset + {count}, next_device_id = next_device_id + {count};
         ANALYZE",
        account = account.id
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    Ok(connection.close().await?)
}

/// Returns how many begins and ends were written a second.
async fn write_sessions(store: &Store, live: &[DeviceId], time: Duration) -> Result<u64> {
    let mut recorder = store.session_recorder().await?;
    let (began_at, mut written) = (Instant::now(), 0);
    while Instant::now().since(began_at) < time {
        let now = UnixSeconds::now();
        let changes: Vec<_> = (written..written + GROUP).map(|n| change(live, n, now)).collect();
        let unwelcome = recorder.record(&changes, now).await?;
        ensure!(unwelcome.is_empty(), "a device is lost");
        written += GROUP;
    }
    Ok((written as f64 / Instant::now().since(began_at).as_secs_f64()) as u64)
}

/// Devices in turn begin a session, then in turn end it.
fn change(live: &[DeviceId], number: usize, at: UnixSeconds) -> SessionChange {
    let device = live[number % live.len()];
    if (number / live.len()).is_multiple_of(2) {
        let connecting_ip = ConnectingIp::new([192, 0, 2, 7].into());
        SessionChange::Began { device, connecting_ip, at }
    } else {
        SessionChange::Ended { device, last_seen_at: at }
    }
}

/// Public keys of devices all over the table.
async fn some_keys(url: &str, options: &Options) -> Result<Vec<Vec<u8>>> {
    let mut connection = AnyConnection::connect(url).await?;
    let mut keys = Vec::with_capacity(options.lookups);
    while keys.len() < options.lookups {
        let id = i64::from(1 + OsRng.next_u32() % options.devices);
        let key = sqlx::query_scalar("SELECT public_key FROM devices WHERE id = $1").bind(id);
        keys.extend(key.fetch_optional(&mut connection).await?);
    }
    connection.close().await?;
    Ok(keys)
}

async fn look_up(store: &Store, keys: &[Vec<u8>]) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(keys.len());
    for key in keys {
        let key = key[..].try_into()?;
        let began_at = Instant::now();
        match store.device_by_public_key(&key, UnixSeconds::now()).await {
            // The preshared keys of rows that were only filled in are not sealed.
            Ok(Some(_)) | Err(StoreError::Corrupt(_)) => {}
            Ok(None) => bail!("a device is lost"),
            Err(error) => return Err(error.into()),
        }
        times.push(Instant::now().since(began_at));
    }
    Ok(times)
}
