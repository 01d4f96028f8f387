//! What is particular to a store in a database of a PostgreSQL server.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{AnyConnection, Connection, Executor};
use tacit_accounts::{
    Confirmation, DataKind, Database, Deed, Inspection, Password, PasswordHasher, Store, StoreError,
};
use tacit_messages::clock::Instant;
use tacit_tests::postgres::Postgres;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{UnixListener, UnixStream},
    time::sleep,
};

use crate::{
    Fixture, NOW, Place, add_account, add_device, data_keys, email, ip, later, name, open,
    opening::open_at_once, pool, sealing::files,
};

const DAY: u64 = 24 * 60 * 60;
const NAME: &str = "a-name-to-search-for";

#[tokio::test(flavor = "multi_thread")]
async fn many_gateways_that_start_at_once_make_one_store() {
    let place = Place::new();
    open_at_once(&place, 20).await;
    let applied: i64 =
        sqlx::query_scalar("SELECT COUNT(*) - COUNT(DISTINCT version) FROM _sqlx_migrations")
            .fetch_one(&mut place.connect().await)
            .await
            .unwrap();
    assert_eq!(applied, 0, "a version was applied twice");
}

#[tokio::test]
async fn wrong_key_is_refused_and_nothing_is_written() {
    let fixture = Fixture::new().await;
    fixture.account().await;
    let before: i64 = sqlx::query_scalar("SELECT id FROM data_keys")
        .fetch_one(&mut fixture.database().await)
        .await
        .unwrap();
    let networks = pool("10.77.0.0/16", "fd77::/64");
    let error = Store::open(&fixture.path, networks, data_keys(8)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongDataKey), "{error}");
    let after: Vec<i64> = sqlx::query_scalar("SELECT id FROM data_keys")
        .fetch_all(&mut fixture.database().await)
        .await
        .unwrap();
    assert_eq!(after, [before]);
    let networks = Store::recorded_pool(&fixture.path).await;
    assert_eq!(networks, Some(pool("10.66.0.0/16", "fd66:7ac1:7::/64")));
}

#[tokio::test]
async fn server_that_is_not_there_is_told_in_a_line() {
    let server = "postgres://tacit@%2Fnonexistent/tacit".parse().unwrap();
    let networks = pool("10.66.0.0/16", "fd66::/64");
    let error = open(&Database::Postgres(server), networks).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    let told = error.to_string();
    assert!(told.contains("`database`") && !told.contains('\n'), "{told}");
}

#[tokio::test]
async fn store_goes_on_after_the_server_has_dropped_its_connections() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid != pg_backend_pid()";
    fixture.execute(sql).await;
    assert_eq!(fixture.count("devices").await, 1);
    add_device(&fixture.store, account, "laptop").await.unwrap();
    add_account(&fixture.store, "bob@example.org").await;
    assert_eq!(fixture.store.devices(account).await.unwrap().len(), 2);
    fixture.store.alive(NOW).await.unwrap();
}

/// Types and names of the columns that the server has noted values of.
async fn noted(fixture: &Fixture) -> Vec<(String, String)> {
    fixture.execute("ANALYZE").await;
    let sql = "SELECT CAST(data_type AS TEXT), CAST(table_name || '.' || column_name AS TEXT)
        FROM information_schema.columns JOIN pg_stats ON tablename = table_name AND attname = column_name
        WHERE table_schema = 'public' AND schemaname = 'public' ORDER BY 2";
    sqlx::query_as(sql).fetch_all(&mut fixture.database().await).await.unwrap()
}

/// Has the server note what names there are, as it does in a store that was made before it was told not to.
async fn note_names(fixture: &Fixture) {
    fixture.execute("ALTER TABLE devices ALTER COLUMN name SET STATISTICS -1").await;
    let now = noted(fixture).await;
    assert!(now.contains(&("text".into(), "devices.name".into())), "{now:?}");
}

#[tokio::test]
async fn server_notes_no_text_and_no_bytes_for_its_planner() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    for device in ["phone", "laptop"] {
        add_device(&fixture.store, account, device).await.unwrap();
    }
    let only_numbers = |noted: &[(String, String)]| {
        noted.len() > 5
            && noted.iter().all(|(of_type, _)| *of_type != "text" && *of_type != "bytea")
    };
    let now = noted(&fixture).await;
    assert!(only_numbers(&now), "{now:?}");
    note_names(&fixture).await;
    let store = open(&fixture.path, pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await.unwrap();
    let now = noted(&fixture).await;
    assert!(only_numbers(&now), "{now:?}");
    let ordered: String =
        sqlx::query_scalar("SELECT CAST(collation_name AS TEXT) FROM information_schema.columns WHERE table_name = 'devices' AND column_name = 'name'")
            .fetch_one(&mut fixture.database().await)
            .await
            .unwrap();
    assert_eq!(ordered, "C");
    assert_eq!(store.devices(account).await.unwrap().len(), 2);
}

#[tokio::test]
async fn purge_takes_what_the_server_noted_of_removed_values() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    for device in [NAME, "phone"] {
        add_device(&fixture.store, account, device).await.unwrap();
    }
    note_names(&fixture).await;
    let holders = || {
        let is_holder =
            |bytes: &[u8]| bytes.windows(NAME.len()).any(|part| part == NAME.as_bytes());
        let files = files(fixture._dir.path());
        files.into_iter().filter(|(_, bytes)| is_holder(bytes)).count()
    };
    assert_eq!(holders(), 3, "the table, its index of names, and the statistics");
    fixture.store.remove_device(account, &name(NAME), NOW).await.unwrap();
    fixture.store.purge(Duration::ZERO, NOW).await.unwrap();
    assert_eq!(holders(), 0);
}

/// A server's own files, and a store in it whose user has no right there but to the database.
struct OwnServer {
    server: Postgres<'static>,
    store: Store,
    _dir: tempfile::TempDir,
}

impl OwnServer {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("server");
        let flags = [&["-c", "wal_recycle=off"], more].concat();
        let server = Postgres::start_with(&path, None, &flags);
        let _ = server.sql("postgres", "CREATE ROLE vpn LOGIN");
        let _ = server.sql("postgres", "CREATE DATABASE tacit OWNER vpn");
        let url = server.url("tacit").replace("//tacit@", "//vpn@");
        let database = Database::Postgres(url.parse().unwrap());
        let store = open(&database, pool("10.66.0.0/16", "fd66::/64")).await.unwrap();
        Self { server, store, _dir: dir }
    }

    /// Files in a directory of the server's that have `needle`, after a checkpoint.
    fn holders(&self, dir: &str, needle: &[u8]) -> usize {
        let _ = self.server.sql("postgres", "CHECKPOINT");
        holders(&self._dir.path().join("server/data").join(dir), needle)
    }
}

/// How many files in `dir`, and below it, have `needle`.
fn holders(dir: &Path, needle: &[u8]) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => holders(&path, needle),
        false => {
            let bytes = fs::read(&path).unwrap_or_default();
            usize::from(memchr::memmem::find(&bytes, needle).is_some())
        }
    };
    entries.map(count).sum()
}

#[tokio::test]
async fn purge_says_so_while_the_server_keeps_what_is_removed_for_somebody_else() {
    let own = OwnServer::start().await;
    let store = &own.store;
    let account = add_account(store, "ann@example.org").await;
    add_device(store, account, NAME).await.unwrap();
    // A transaction in another database, since before; then somebody in this one of whom the server tells nothing.
    for (database, sql) in
        [("postgres", "BEGIN; SELECT CAST(pg_current_xact_id() AS TEXT)"), ("tacit", "SELECT 1")]
    {
        let mut other = AnyConnection::connect(&own.server.url(database)).await.unwrap();
        other.execute(sqlx::raw_sql(sql)).await.unwrap();
        if database == "postgres" {
            store.remove_device(account, &name(NAME), NOW).await.unwrap();
        }
        let error = store.purge(Duration::ZERO, NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::NotScrubbed), "{error}");
        assert!(own.holders("base", NAME.as_bytes()) > 0);
        other.close().await.unwrap();
    }
    store.purge(Duration::ZERO, NOW).await.unwrap();
    assert_eq!(own.holders("base", NAME.as_bytes()), 0);
}

/// Waits until somebody waits for those who read what is removed.
async fn until_a_purge_waits(watcher: &mut AnyConnection) {
    let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%pg_snapshot_xmin%' AND pid != pg_backend_pid()";
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *watcher).await.unwrap() == 0 {
        assert!(Instant::now().since(began) < Duration::from_secs(4), "no purge waits");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_gateway_removes_during_a_purge_is_not_taken_for_purged() {
    let own = OwnServer::start().await;
    let account = add_account(&own.store, "ann@example.org").await;
    add_device(&own.store, account, NAME).await.unwrap();
    add_device(&own.store, account, "later").await.unwrap();
    let url = own.server.url("tacit").replace("//tacit@", "//vpn@");
    let database = Database::Postgres(url.parse().unwrap());
    let other = open(database, pool("10.66.0.0/16", "fd66::/64")).await.unwrap();
    let mut reader = AnyConnection::connect(&url).await.unwrap();
    let mut watcher = AnyConnection::connect(&url).await.unwrap();
    reader.execute(sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ")).await.unwrap();
    reader.execute(sqlx::raw_sql("SELECT COUNT(*) FROM devices")).await.unwrap();
    own.store.remove_device(account, &name(NAME), NOW).await.unwrap();

    let store = own.store.clone();
    let purging = tokio::spawn(async move { store.purge(Duration::ZERO, NOW).await });
    until_a_purge_waits(&mut watcher).await;
    other.remove_device(account, &name("later"), NOW).await.unwrap();
    reader.execute(sqlx::raw_sql("COMMIT")).await.unwrap();
    purging.await.unwrap().unwrap();

    let due = "SELECT scrub_due FROM gateway";
    let is_due = async |watcher: &mut AnyConnection| -> i64 {
        sqlx::query_scalar(due).fetch_one(watcher).await.unwrap()
    };
    assert_eq!(is_due(&mut watcher).await, 1);
    other.purge(Duration::ZERO, NOW).await.unwrap();
    assert_eq!(is_due(&mut watcher).await, 0);
}

/// Waits until so many wait for a lock.
async fn until_waiting(watcher: &mut AnyConnection, count: i64) {
    let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *watcher).await.unwrap() < count {
        assert!(Instant::now().since(began) < Duration::from_secs(4), "nobody waits");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_is_whole_after_two_gateways_have_shortened_it_at_once() {
    let own = OwnServer::start().await;
    let account = add_account(&own.store, "ann@example.org").await;
    let staff = own.store.for_staff(7);
    for day in 0..10 {
        let look = Deed::on(account, "session list", &[DataKind::Sessions]);
        staff.note_look(look, later(day * DAY)).await.unwrap();
    }
    let url = own.server.url("tacit").replace("//tacit@", "//vpn@");
    let mut holder = AnyConnection::connect(&url).await.unwrap();
    let mut watcher = AnyConnection::connect(&url).await.unwrap();
    let mut gateways = Vec::new();
    for kept in [5 * DAY, 8 * DAY] {
        let database = Database::Postgres(url.parse().unwrap());
        let store = open(database, pool("10.66.0.0/16", "fd66::/64")).await.unwrap();
        gateways.push(store.with_times(Duration::ZERO, Duration::from_secs(kept)));
    }
    holder.execute(sqlx::raw_sql("BEGIN; UPDATE chains SET entries = entries")).await.unwrap();
    let mut purging = Vec::new();
    for (turn, store) in (1..).zip(gateways) {
        let purge = async move { store.purge(Duration::ZERO, later(10 * DAY)).await };
        purging.push(tokio::spawn(purge));
        until_waiting(&mut watcher, turn).await;
    }
    holder.execute(sqlx::raw_sql("COMMIT")).await.unwrap();
    let mut removed = 0;
    for purge in purging {
        removed += purge.await.unwrap().unwrap().staff_entries;
    }
    assert_eq!(removed, 6);
    own.store.verify_staff_log(None).await.unwrap().expect("the chain is whole");
}

async fn inspected(own: &OwnServer) -> Inspection {
    let url = own.server.url("tacit").replace("//tacit@", "//vpn@");
    let database = Database::Postgres(url.parse().unwrap());
    Inspection::of(database, NOW, NOW, NOW).await.unwrap()
}

#[tokio::test]
async fn what_another_role_made_in_the_database_is_seen() {
    let own = OwnServer::start_with(&["-c", "wal_level=logical"]).await;
    let before = inspected(&own).await;
    assert_eq!(before.columns, before.listed_columns());
    assert_eq!(before.programs, []);
    let _ = own.server.sql(
        "tacit",
        "CREATE TABLE flows (destination TEXT);
         CREATE MATERIALIZED VIEW seen AS SELECT 1 AS one;
         REVOKE ALL ON flows, seen FROM PUBLIC;
         CREATE PUBLICATION copies FOR ALL TABLES;
         CREATE POLICY few ON flows USING (true);
         CREATE SCHEMA elsewhere;
         CREATE FUNCTION elsewhere.act() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER acts ON ddl_command_end EXECUTE FUNCTION elsewhere.act();
         CREATE SUBSCRIPTION draws CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false);",
    );
    let _ =
        own.server.sql("tacit", "SELECT pg_create_logical_replication_slot('slot', 'pgoutput')");
    let after = inspected(&own).await;
    let added = after.columns.difference(&before.columns).cloned();
    let expected = [("flows", "destination"), ("seen", "one")];
    assert!(added.eq(expected.map(|(table, column)| (table.to_owned(), column.to_owned()))));
    let mut kinds: Vec<_> = after.programs.iter().map(|(kind, _)| kind.as_str()).collect();
    kinds.sort_unstable();
    let expected = [
        "event trigger",
        "logical replication slot",
        "policy",
        "publication",
        "rule",
        "subscription",
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn removed_values_are_in_no_file_of_the_server_once_its_log_has_moved_on() {
    let own = OwnServer::start().await;
    let store = &own.store;
    let account = add_account(store, "ann@example.org").await;
    let device = add_device(store, account, NAME).await.unwrap();
    store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    store.session_ended(device.id, later(60)).await.unwrap();
    let connecting_ip =
        own.server.sql("tacit", "SELECT encode(connecting_ip, 'hex') FROM sessions");
    let connecting_ip = bytes_of(connecting_ip.trim());
    let _ = own.server.sql("tacit", "ANALYZE");
    let removed = [NAME.as_bytes(), &connecting_ip];
    for value in removed {
        assert!(own.holders("base", value) > 0 && own.holders("pg_wal", value) > 0);
    }
    store.remove_device(account, &name(NAME), later(60)).await.unwrap();
    store.purge(Duration::ZERO, later(DAY)).await.unwrap();
    for value in removed {
        assert_eq!(own.holders("base", value), 0);
    }
    // What SECURITY.md tells the operator to do.
    let _ = own.server.sql("postgres", "SELECT pg_switch_wal()");
    for value in removed {
        assert_eq!(own.holders(".", value), 0);
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[tokio::test]
async fn server_tells_of_a_change_of_devices_at_once() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    let long = Duration::from_secs(20);
    let mut watch = fixture.store.watch_devices();
    // Returns once it listens.
    watch.wait(long).await;
    let began_at = Instant::now();
    let phone = name("phone");
    let (removed, _) =
        tokio::join!(fixture.store.remove_device(account, &phone, NOW), watch.wait(long));
    removed.unwrap();
    let took = Instant::now().since(began_at);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn listener_that_lost_its_server_listens_again() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    let mut watch = fixture.store.watch_devices();
    watch.wait(Duration::from_secs(20)).await;
    fixture
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid != pg_backend_pid()",
        )
        .await;
    for _ in 0..3 {
        watch.wait(Duration::from_millis(300)).await;
    }
    let began_at = Instant::now();
    let name = name("phone");
    let (removed, _) = tokio::join!(
        fixture.store.remove_device(account, &name, NOW),
        watch.wait(Duration::from_secs(20))
    );
    removed.unwrap();
    assert!(Instant::now().since(began_at) < Duration::from_secs(2));
}

/// Passes bytes on to the Unix socket of a server, and counts how often it is asked something. Returns the database's address by
/// way of it.
fn counting_proxy(url: &str, dir: &Path) -> (String, Arc<AtomicUsize>) {
    let (user, place) = url.split_once('@').unwrap();
    let (server_dir, rest) = place.split_once(':').unwrap();
    let (port, _) = rest.split_once('/').unwrap();
    let server = Path::new(&server_dir.replace("%2F", "/")).join(format!(".s.PGSQL.{port}"));
    let listener = UnixListener::bind(dir.join(format!(".s.PGSQL.{port}"))).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) =
                UnixStream::connect(&server).await.unwrap().into_split();
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(len @ 1..) = from_client.read(&mut buffer).await {
                    // A question is a Bind and what follows it; besides there are looks whether the server is there.
                    count.fetch_add(usize::from(buffer[0] == b'B'), Ordering::Relaxed);
                    to_server.write_all(&buffer[..len]).await.unwrap();
                }
            });
        }
    });
    let dir = dir.display().to_string().replace('/', "%2F");
    (format!("{user}@{dir}:{rest}"), asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_7_server_is_asked_as_often_about_nobody_as_about_a_customer() {
    let (place, dir) = (Place::new(), tempfile::tempdir().unwrap());
    let (url, asked) = counting_proxy(&place.name(), dir.path());
    let database = Database::Postgres(url.parse().unwrap());
    let store = open(database, pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await.unwrap();
    add_account(&store, "ann@example.org").await;
    let questions = async |address: &str| {
        let before = asked.load(Ordering::Relaxed);
        for _ in 0..20 {
            store.credentials(&email(address)).await.unwrap();
        }
        asked.load(Ordering::Relaxed) - before
    };
    // The server is told of each kind of question once.
    for address in ["ann@example.org", "nobody@example.org"] {
        questions(address).await;
    }
    let [customer, nobody] =
        [questions("ann@example.org").await, questions("nobody@example.org").await];
    assert!(customer >= 20, "nothing was counted");
    assert_eq!(customer, nobody);

    let hashed = PasswordHasher::new().hash(&Password::new("x").unwrap()).await.unwrap();
    let registering = async |address: &str| {
        let before = asked.load(Ordering::Relaxed);
        for _ in 0..5 {
            let of_age = Confirmation::OfAge;
            store.begin_registration(&email(address), &hashed, of_age, NOW).await.unwrap();
        }
        asked.load(Ordering::Relaxed) - before
    };
    let [customer, nobody] =
        [registering("ann@example.org").await, registering("nobody@example.org").await];
    assert!(customer >= 20, "nothing was counted");
    assert_eq!(customer, nobody, "registering");
}
