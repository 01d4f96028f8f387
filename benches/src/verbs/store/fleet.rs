//! What thousands of gateways and millions of devices cost one PostgreSQL.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use rand_core::{OsRng, RngCore};
use tacit_accounts::{Database, SessionChange, SessionRecorder, Store, TunnelPool};
use tacit_keys::{DataKey, DataKeys};
use tacit_messages::{ConnectingIp, DeviceId, PublicKey, UnixSeconds, clock::Instant};
use tacit_tests::postgres::Postgres;
use tokio::sync::Mutex;

use super::{
    Options,
    rows::{DEVICES_OF_ACCOUNT, DEVICES_OF_LIVE, Rows, identity, name},
    timed::{Times, take_turns},
};
use crate::report::Report;

/// A server as an operator would set it up for so much.
const SERVER: [&str; 10] = [
    "-c",
    "fsync=on",
    "-c",
    "autovacuum=on",
    "-c",
    "shared_buffers=1GB",
    "-c",
    "max_wal_size=8GB",
    "-c",
    "maintenance_work_mem=512MB",
];
const CONDITIONS: &str =
    "PostgreSQL 15 with 1 GB of shared_buffers that syncs, on the same machine";

/// The table's columns: what half of the turns stayed below and what nearly all did, and how many there were a second.
const MEDIAN: &str = "median";
const PARTS: [(&str, usize); 3] = [(MEDIAN, 500), ("p99", 990), ("p99.9", 999)];
const RATE: &str = "a second";
/// Gateways in whose name each connection asks and writes in turn.
const NAMES_OF_CONNECTION: u64 = 50;
/// How many changes of sessions are written together when there are many.
const GROUP: usize = 128;
/// Devices at a gateway that is asked who of them may stay.
const CONNECTED: usize = 500;
/// How often something slow is done, of which the table shows the median.
const TIMES: usize = 5;

/// Gateways that share connections, as if they were one process.
struct Busy {
    gateways: Vec<Store>,
    recorder: Mutex<SessionRecorder>,
    keys: Arc<Vec<[u8; 32]>>,
    devices: u64,
}

impl Busy {
    fn gateway(&self, turn: usize) -> &Store {
        &self.gateways[turn % self.gateways.len()]
    }

    fn some_key(&self) -> &PublicKey {
        &self.keys[OsRng.next_u32() as usize % self.keys.len()]
    }

    /// One that is at no gateway.
    fn some_device(&self) -> DeviceId {
        let number = OsRng.next_u64() % (self.devices / DEVICES_OF_LIVE).max(1);
        DeviceId(number * DEVICES_OF_LIVE + 1)
    }
}

/// What is measured, and where it is noted.
struct Measuring {
    report: Report,
    busy: Vec<Arc<Busy>>,
    time: Duration,
}

/// Fills a store, measures what gateways do with it, and reports.
pub(super) async fn measure(options: &Options, gateways: u32) -> Result<()> {
    let (devices, gateways) = (u64::from(options.devices), u64::from(gateways));
    ensure!(devices >= DEVICES_OF_LIVE && gateways >= u64::from(options.busy), "that is too few");
    let dir = std::env::temp_dir().join(format!("tacit-bench-{}", std::process::id()));
    let server = Postgres::start_with(&dir, None, &SERVER);
    server.create("tacit");
    let url = server.url("tacit");
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    let key = || DataKey::from_bytes(bytes);
    open(&url, key()).await?.close().await;

    let began_at = Instant::now();
    let mut rows = Rows::of(&url, key()).await?;
    rows.add_gateways(gateways).await?;
    rows.add_accounts(devices.div_ceil(DEVICES_OF_ACCOUNT)).await?;
    let keys = Arc::new(rows.add_devices(devices, options.lookups as u64).await?);
    rows.add_ended_sessions(devices).await?;
    // They take over what is open in their names, and end it.
    let busy = busy(options, gateways, &url, &key, &keys).await?;
    rows.add_open_sessions(devices, gateways).await?;
    rows.finish().await?;
    let filled = Instant::now().since(began_at);

    let conditions = format!("{devices} devices, {gateways} gateways, {CONDITIONS}");
    let time = Duration::from_secs(options.seconds);
    let mut measuring = Measuring { report: Report::new(conditions), busy, time };
    measuring.note("filling it", "s", filled.as_secs_f64());
    measuring.note("on the disk", "GiB", size(&server)?);
    measuring.look_ups().await?;
    measuring.signs_of_life().await?;
    measuring.sessions().await?;
    measuring.changes_of_devices().await?;
    measuring.lists().await?;
    if options.purge {
        measuring.purge().await?;
    }
    measuring.report.write("store", "fleet")
}

async fn open(url: &str, key: DataKey) -> Result<Store> {
    let pool = TunnelPool::new("10.0.0.0/8".parse()?, "fd66::/64".parse()?)?;
    Ok(Store::open(Database::Postgres(url.parse()?), pool, DataKeys::new(key)).await?)
}

/// Gateways from all over the fleet, a few to each store's connections.
async fn busy(
    options: &Options,
    gateways: u64,
    url: &str,
    key: &dyn Fn() -> DataKey,
    keys: &Arc<Vec<[u8; 32]>>,
) -> Result<Vec<Arc<Busy>>> {
    let (stores, now) = (u64::from(options.busy), UnixSeconds::now());
    let names = (gateways / stores).clamp(1, NAMES_OF_CONNECTION);
    let bar = ProgressBar::new(stores * names);
    let mut busy = Vec::new();
    for number in 0..stores {
        let store = open(url, key()).await?;
        let mut of_store = Vec::new();
        for turn in 0..names {
            let number = (number * names + turn) * gateways / (stores * names) + 1;
            let (name, identity) = (name(number), identity(number));
            let started = store.clone().for_gateway(&name, &identity, None, now).await;
            of_store.push(started.with_context(|| format!("starting {name}"))?.store);
            bar.inc(1);
        }
        let recorder = Mutex::new(of_store[0].session_recorder().await?);
        let (keys, devices) = (Arc::clone(keys), u64::from(options.devices));
        busy.push(Arc::new(Busy { gateways: of_store, recorder, keys, devices }));
    }
    bar.finish_and_clear();
    Ok(busy)
}

/// What the database takes on the disk, in GiB.
fn size(server: &Postgres<'_>) -> Result<f64> {
    let bytes: f64 = server.sql("tacit", "SELECT pg_database_size('tacit')").trim().parse()?;
    Ok(bytes / f64::from(1 << 30))
}

impl Measuring {
    fn note(&mut self, load: &str, unit: &str, value: f64) {
        self.report.note(MEDIAN, load, unit, value);
    }

    /// Has one gateway take turns by itself, then all busy ones at once.
    async fn turns<A, F>(&mut self, what: &str, act: A) -> Result<()>
    where
        A: Fn(Arc<Busy>, usize) -> F + Clone + Send + 'static,
        F: Future<Output = Result<()>> + Send,
    {
        let alone = take_turns(&self.busy[..1], self.time, act.clone()).await?;
        self.note_times(&format!("{what}, one at a time"), &alone, 1);
        let together = take_turns(&self.busy, self.time, act).await?;
        self.note_times(&format!("{what}, {} at once", self.busy.len()), &together, 1);
        Ok(())
    }

    /// Notes how long turns took, in each of which so much was done.
    fn note_times(&mut self, what: &str, times: &Times, done: usize) {
        for (column, of_thousand) in PARTS {
            self.report.note(column, what, "µs", times.micros(of_thousand));
        }
        self.report.note(MEDIAN, what, RATE, times.per_second() * done as f64);
    }

    async fn look_ups(&mut self) -> Result<()> {
        self.turns("look-up of a device by its key", |busy, turn| async move {
            let now = UnixSeconds::now();
            let found = busy.gateway(turn).device_by_public_key(busy.some_key(), now).await?;
            ensure!(found.is_some(), "a device is lost");
            Ok(())
        })
        .await?;
        self.turns("look-up of a key that nobody has", |busy, turn| async move {
            let mut key = [0; 32];
            OsRng.fill_bytes(&mut key);
            let found = busy.gateway(turn).device_by_public_key(&key, UnixSeconds::now()).await?;
            ensure!(found.is_none(), "somebody has a key that was just made");
            Ok(())
        })
        .await
    }

    /// What each gateway does once in 30 seconds.
    async fn signs_of_life(&mut self) -> Result<()> {
        self.turns("sign of life", |busy, turn| async move {
            Ok(busy.gateway(turn).alive(UnixSeconds::now()).await?)
        })
        .await?;
        self.turns("look for gateways that are silent", |busy, turn| async move {
            let gateway = busy.gateway(turn);
            let closed = gateway.close_sessions_of_the_dead(UnixSeconds::now()).await?;
            ensure!(closed == 0, "a gateway was taken for dead");
            Ok(())
        })
        .await
    }

    /// Begins and ends of sessions, each on the disk.
    async fn sessions(&mut self) -> Result<()> {
        for (what, count) in [("one change by one", 1), ("128 changes together", GROUP)] {
            let pairs = count.div_ceil(2);
            let act = move |busy: Arc<Busy>, _| async move {
                let changes = begins_and_ends(&busy, pairs);
                let mut recorder = busy.recorder.lock().await;
                for group in changes.chunks(count) {
                    recorder.record(group, UnixSeconds::now()).await?;
                }
                Ok(())
            };
            let times = take_turns(&self.busy, self.time, act).await?;
            let what = format!("begin and end of sessions, {what}, {} at once", self.busy.len());
            self.note_times(&what, &times, pairs);
        }
        Ok(())
    }

    /// What each gateway asks once a second, and once a device was removed anywhere.
    async fn changes_of_devices(&mut self) -> Result<()> {
        self.turns("look for changes of devices", |busy, turn| async move {
            let gateway = busy.gateway(turn);
            gateway.is_draining().await?;
            gateway.device_changes().await?;
            Ok(())
        })
        .await?;
        self.turns("look which of 500 devices may stay", |busy, turn| async move {
            let devices: Vec<_> = (0..CONNECTED).map(|_| busy.some_device()).collect();
            let unwelcome = busy.gateway(turn).unwelcome(&devices, UnixSeconds::now()).await?;
            ensure!(unwelcome.is_empty(), "a device is lost");
            Ok(())
        })
        .await
    }

    async fn lists(&mut self) -> Result<()> {
        for _ in 0..TIMES {
            let (busy, now) = (Arc::clone(&self.busy[0]), UnixSeconds::now());
            let store = busy.gateway(0);
            let began_at = Instant::now();
            let fleet = store.fleet(now).await?;
            self.note_since(began_at, "list of all gateways with their sessions");
            let open: u64 = fleet.iter().map(|gateway| gateway.sessions).sum();
            ensure!(open >= busy.devices / DEVICES_OF_LIVE, "open sessions are lost");
            let began_at = Instant::now();
            store.other_entrances(now).await?;
            self.note_since(began_at, "entrances that the site offers");
            let began_at = Instant::now();
            store.counts().await?;
            self.note_since(began_at, "counts of accounts and devices");
        }
        Ok(())
    }

    fn note_since(&mut self, began_at: Instant, what: &str) {
        self.note(what, "ms", Instant::now().since(began_at).as_secs_f64() * 1e3);
    }

    /// Removes what ended 28 days ago, and writes all tables anew.
    async fn purge(&mut self) -> Result<()> {
        const KEEP: Duration = Duration::from_secs(28 * 24 * 60 * 60);
        let busy = Arc::clone(&self.busy[0]);
        let began_at = Instant::now();
        let removed = busy.gateway(0).purge(KEEP, UnixSeconds::now()).await?;
        let taken = Instant::now().since(began_at).as_secs_f64();
        self.note("purge of a day's sessions, with all tables written anew", "s", taken);
        ensure!(removed.sessions > 0, "nothing was removed");
        Ok(())
    }
}

/// Sessions of devices that are nowhere, all begun and then all ended.
fn begins_and_ends(busy: &Busy, pairs: usize) -> Vec<SessionChange> {
    let at = UnixSeconds::now();
    let devices: Vec<_> = (0..pairs).map(|_| busy.some_device()).collect();
    let begun = devices.iter().map(|device| SessionChange::Began {
        device: *device,
        connecting_ip: ConnectingIp::new([192, 0, 2, 7].into()),
        at,
    });
    let ended =
        devices.iter().map(|device| SessionChange::Ended { device: *device, last_seen_at: at });
    begun.chain(ended).collect()
}
