//! A store in a database of a PostgreSQL server: how it is named and reached.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};
use sqlx::{
    AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
};

use tacit_messages::clock::Instant;
use tokio::time::sleep;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use super::Connections;
use crate::StoreError;

/// Begins a change once nobody else changes anything. The lock goes with the change; its number is Tacit's own.
pub(crate) const BEGIN_ALONE: &str = "BEGIN; SELECT pg_advisory_xact_lock(8370165091)";
/// Begins a change once nobody changes anything alone.
pub(crate) const BEGIN_BESIDE_OTHERS: &str =
    "BEGIN; SELECT pg_advisory_xact_lock_shared(8370165091)";

// information_schema tells nobody of what is another role's; the catalogue tells everybody of all.
pub(crate) const COLUMNS: &str =
    "SELECT CAST(relname AS TEXT), CAST(attname AS TEXT) FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid
     WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
     AND attnum > 0 AND NOT attisdropped";
/// What acts by itself, or has the server hand changes on.
pub(crate) const PROGRAMS: &str = "SELECT 'trigger', CAST(tgname AS TEXT) FROM pg_trigger
        JOIN pg_class ON pg_class.oid = tgrelid WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace
     UNION ALL SELECT 'rule', CAST(rulename AS TEXT) FROM pg_rewrite
        JOIN pg_class ON pg_class.oid = ev_class WHERE relnamespace = current_schema()::regnamespace
     UNION ALL SELECT 'policy', CAST(polname AS TEXT) FROM pg_policy
        JOIN pg_class ON pg_class.oid = polrelid WHERE relnamespace = current_schema()::regnamespace
     UNION ALL SELECT 'function', CAST(proname AS TEXT) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
     UNION ALL SELECT 'event trigger', CAST(evtname AS TEXT) FROM pg_event_trigger
     UNION ALL SELECT 'publication', CAST(pubname AS TEXT) FROM pg_publication
     UNION ALL SELECT 'subscription', CAST(subname AS TEXT) FROM pg_subscription
        JOIN pg_database ON pg_database.oid = subdbid WHERE datname = current_database()
     UNION ALL SELECT 'logical replication slot', CAST(slot_name AS TEXT) FROM pg_replication_slots
        WHERE database = current_database()";

pub(crate) const HIGHEST_NUMBERS: &str = "SELECT numbered.name, numbered.highest FROM (
        SELECT CAST(table_name AS TEXT) AS name,
            pg_sequence_last_value(CAST(pg_get_serial_sequence(quote_ident(table_name), column_name) AS regclass)) AS highest
        FROM information_schema.columns WHERE table_schema = current_schema() AND is_identity = 'YES'
     ) AS numbered WHERE numbered.highest IS NOT NULL";
pub(crate) const NUMBER_ON: [&str; 1] =
    ["SELECT setval(CAST(pg_get_serial_sequence(quote_ident($1), 'id') AS regclass), $2)"];

/// Where gateways are told of changes of devices.
pub(crate) const CHANNEL: &str = "tacit_devices";
/// Where a gateway hands devices over to others.
pub(crate) const MOVING_CHANNEL: &str = "tacit_moving";

/// Connections for reading.
const READERS: u32 = 4;
/// How long a caller waits for a connection, also for one that is made anew.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Nobody waits for a lock, and nobody keeps one, for ever.
const EACH: &str = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = 'warning';";
const DURABLE: &str = "SET synchronous_commit = 'on'";
const QUICK: &str = "SET synchronous_commit = 'off'";
const READING: &str = "SET default_transaction_read_only = 'on'";

/// Longest file of certificates that is read, in bytes.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Why a text names no database.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Not of this form.
    #[error(
        "a database is named as in postgres://tacit@db.example.org/tacit, with a user and a database"
    )]
    Form,
    /// Everybody could read it.
    #[error(
        "the database's address must not have the password in it; put it into a file and name that with \
         --database-password-file"
    )]
    Password,
    /// A parameter that is not known.
    #[error(
        "the database's address has a parameter that tacit does not know; it knows sslmode and sslrootcert"
    )]
    Parameter,
    /// A way of encrypting that is not known.
    #[error("`sslmode` is one of disable, prefer, require, verify-ca and verify-full")]
    SslMode,
    /// Certificates that nothing would be checked with.
    #[error(
        "`sslrootcert` is for `sslmode` verify-ca or verify-full, over a network; take one of these, or leave it out"
    )]
    UnusedCertificates,
    /// The file of certificates.
    #[error("the certificates {} (`sslrootcert`) cannot be read: {source}", path.display())]
    RootCertificate {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} (`sslrootcert`) has no certificate in PEM's form", .0.display())]
    NoCertificate(PathBuf),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// In a directory, at the socket for this port.
    Directory(PathBuf, u16),
    /// At a host, which may be a name, and a port.
    Host(String, u16),
}

/// A database of a PostgreSQL server, and who is to be there.
///
/// What it needs from files is read once: whoever has it needs to open none to connect.
#[derive(Clone)]
pub struct Server {
    options: AnyConnectOptions,
    address: Address,
    /// What the options name as the file of the certificates to trust.
    _certificates: Option<Arc<OwnedFd>>,
}

/// What an address says.
struct Parsed {
    options: AnyConnectOptions,
    address: Address,
    ssl_mode: String,
    certificates_path: Option<PathBuf>,
}

impl Parsed {
    fn of(text: &str) -> Result<Self, ServerError> {
        let options: AnyConnectOptions = text.parse().map_err(|_| ServerError::Form)?;
        let url = &options.database_url;
        let is_named = !url.username().is_empty() && url.path().len() > 1;
        if !["postgres", "postgresql"].contains(&url.scheme()) || !is_named {
            return Err(ServerError::Form);
        }
        if url.password().is_some() {
            return Err(ServerError::Password);
        }
        let port = url.port().unwrap_or(5432);
        let (mut ssl_mode, mut certificates_path) = (None, None);
        for (key, value) in url.query_pairs() {
            match &*key {
                "sslmode" => ssl_mode = Some(value.into_owned()),
                "sslrootcert" => certificates_path = Some(PathBuf::from(value.into_owned())),
                _ => return Err(ServerError::Parameter),
            }
        }
        let host = url.host_str().ok_or(ServerError::Form)?;
        let address = match directory_of(host) {
            Some(directory) => Address::Directory(directory.into(), port),
            None => Address::Host(host.trim_matches(['[', ']']).to_owned(), port),
        };
        let ssl_mode = match ssl_mode {
            Some(mode) => mode,
            None if certificates_path.is_some() && matches!(address, Address::Host(..)) => {
                "verify-full".into()
            }
            None => default_ssl_mode(&address).into(),
        };
        if !["disable", "prefer", "require", "verify-ca", "verify-full"].contains(&&*ssl_mode) {
            return Err(ServerError::SslMode);
        }
        if certificates_path.is_some() && !ssl_mode.starts_with("verify-") {
            return Err(ServerError::UnusedCertificates);
        }
        Ok(Self { options, address, ssl_mode, certificates_path })
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let Parsed { mut options, address, ssl_mode, certificates_path } = Parsed::of(text)?;
        let certificates = certificates_path.as_deref().map(keep_certificates).transpose()?;
        let mut pairs = options.database_url.query_pairs_mut();
        pairs.clear();
        pairs.append_pair("sslmode", &ssl_mode).append_pair("application_name", "tacit");
        if let Some(certificates) = &certificates {
            let path = format!("/proc/self/fd/{}", certificates.as_raw_fd());
            pairs.append_pair("sslrootcert", &path);
        }
        drop(pairs);
        let options = options.disable_statement_logging();
        Ok(Self { options, address, _certificates: certificates.map(Arc::new) })
    }
}

/// Checks that `text` names a database, without a look at the files that it names.
///
/// # Errors
/// [`ServerError`]
pub fn check_address(text: &str) -> Result<(), ServerError> {
    Parsed::of(text).map(drop)
}

/// The directory of a socket that stands in a host's place, as in `postgres://tacit@%2Frun%2Fpostgresql/tacit`.
fn directory_of(host: &str) -> Option<String> {
    let path = host.replace("%2F", "/").replace("%2f", "/");
    path.starts_with('/').then_some(path)
}

/// What goes over a network is encrypted, and the server's name checked, unless the operator says otherwise.
fn default_ssl_mode(address: &Address) -> &'static str {
    match address {
        Address::Directory(..) => "disable",
        Address::Host(host, _) => {
            let is_loopback = host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
            if is_loopback { "prefer" } else { "verify-full" }
        }
    }
}

/// Copies a file's certificates into memory. sqlx opens what it is given for each connection, also in a process that
/// can open no file any more: this one it can, by its number.
fn keep_certificates(path: &Path) -> Result<OwnedFd, ServerError> {
    let unreadable = |source| ServerError::RootCertificate { path: path.into(), source };
    let text = read_plain(path).map_err(unreadable)?;
    let mut certificates = CertificateDer::pem_slice_iter(&text).peekable();
    if certificates.peek().is_none() || certificates.any(|certificate| certificate.is_err()) {
        return Err(ServerError::NoCertificate(path.into()));
    }
    in_memory(&text).map_err(unreadable)
}

/// Reads a plain file of a reasonable length.
fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::metadata(path)?;
    if !file.is_file() || file.len() > LONGEST_FILE {
        return Err(io::Error::other("it is no plain file of at most 1 MiB"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST_FILE).read_to_end(&mut text)?;
    Ok(text)
}

/// A file without a name that nobody can change any more.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let make =
        |more| memfd_create("certificates", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | more);
    // A kernel may insist that it is never run, and an older one does not know of that.
    let file = match make(MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => make(MemfdFlags::empty()),
        made => made,
    }?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

impl Server {
    /// Logs in with `password`.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        // Refused only for an address without a host, where the user's name is not asked for it either.
        let _ = self.options.database_url.set_password(Some(password));
        self
    }

    pub(crate) fn url(&self) -> &str {
        self.options.database_url.as_str()
    }

    /// Where the server listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.options.database_url == other.options.database_url
    }
}

impl Eq for Server {}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Connects to the server, which must be there.
pub(crate) async fn connect(server: &Server) -> Result<Connections, StoreError> {
    let connections = Connections {
        readers: pool(server, READERS, READING),
        durable: pool(server, 1, DURABLE),
        quick: pool(server, 1, QUICK),
    };
    // Says why it cannot be reached, which a pool does not.
    server.options.connect().await.map_err(StoreError::Unreachable)?;
    Ok(connections)
}

/// Connects to read.
pub(crate) async fn look_into(server: &Server) -> Result<AnyConnection, sqlx::Error> {
    let mut connection = server.options.connect().await?;
    connection.execute(sqlx::raw_sql(READING)).await?;
    Ok(connection)
}

/// How long the server may still show a gateway that has left.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// Whether a gateway has a connection to the database; this one does not count.
pub(crate) async fn is_in_use(mut connection: AnyConnection) -> Result<bool, sqlx::Error> {
    let began_at = Instant::now();
    loop {
        let gateways: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
             AND application_name = 'tacit' AND pid != pg_backend_pid()",
        )
        .fetch_one(&mut connection)
        .await?;
        if gateways == 0 || Instant::now().since(began_at) > LEAVE_PATIENCE {
            connection.close().await?;
            return Ok(gateways > 0);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// How long others may read what is removed, and how long those who just connect do at most.
const READ_PATIENCE: Duration = Duration::from_secs(5);
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// Writes the tables anew without the rows that are removed, and what the planner knows of their values with them. Each
/// is nobody else's meanwhile.
///
/// Returns false if somebody read all the time, who could still see what is removed.
pub(crate) async fn vacuum(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT quote_ident(relname) FROM pg_class
         WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace",
    )
    .fetch_all(&mut *connection)
    .await?;
    for_each(connection, "ANALYZE", &tables).await?;
    if !nobody_sees_what_is_removed(connection).await? {
        return Ok(false);
    }
    for_each(connection, "VACUUM (FULL)", &tables).await?;
    // What was analysed before is in there. The server leaves it alone unless the database is this user's.
    connection.execute(sqlx::raw_sql("VACUUM (FULL) pg_catalog.pg_statistic")).await?;
    Ok(true)
}

async fn for_each(
    connection: &mut AnyConnection,
    verb: &str,
    tables: &[String],
) -> Result<(), sqlx::Error> {
    for table in tables {
        let statement = format!("{verb} {table}");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
    }
    Ok(())
}

/// Waits until everybody who reads began after this.
async fn nobody_sees_what_is_removed(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let now: String = sqlx::query_scalar("SELECT CAST(pg_current_xact_id() AS TEXT)")
        .fetch_one(&mut *connection)
        .await?;
    let began_at = Instant::now();
    while is_seen(connection, &now).await? {
        if Instant::now().since(began_at) > READ_PATIENCE {
            return Ok(false);
        }
        sleep(Duration::from_millis(50)).await;
    }
    // Whoever connects reads before the server says to which database.
    sleep(CONNECT_PATIENCE).await;
    Ok(true)
}

/// Whether what was removed before the transaction `now` is kept for somebody.
async fn is_seen(connection: &mut AnyConnection, now: &str) -> Result<bool, sqlx::Error> {
    // Whoever begins to read while a transaction of any database on the server runs keeps what was removed since that
    // began, and so would the vacuum. Of whom the server tells nothing, anything is to be expected.
    let (old_transactions, old_readers): (i64, i64) = sqlx::query_as(
        "SELECT CAST(CASE WHEN pg_snapshot_xmin(pg_current_snapshot()) > CAST($1 AS xid8) THEN 0 ELSE 1 END AS BIGINT),
            (SELECT COUNT(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid != pg_backend_pid()
             AND (age(backend_xmin) >= age(CAST(CAST($1 AS xid8) AS xid)) OR query = '<insufficient privilege>'))",
    )
    .bind(now)
    .fetch_one(&mut *connection)
    .await?;
    Ok(old_transactions + old_readers > 0)
}

/// Has the server note nothing of texts and bytes for its planner, and forget what it has noted: sealed values, names
/// and keys would stay there after they were removed.
pub(crate) async fn keep_out_of_statistics(
    connection: &mut AnyConnection,
) -> Result<(), sqlx::Error> {
    let noted: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT quote_ident(relname), quote_ident(attname), format_type(atttypid, atttypmod) ||
            CASE WHEN attcollation = typcollation THEN '' ELSE ' COLLATE ' || CAST(CAST(attcollation AS regcollation) AS TEXT) END
         FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_type ON pg_type.oid = atttypid
         WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND typname IN ('bytea', 'text')
         AND attnum > 0 AND NOT attisdropped AND COALESCE(attstattarget, -1) <> 0",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (table, column, of_type) in noted {
        // To give it the type that it has makes the server forget, and changes nothing else.
        let statement = format!(
            "ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0, ALTER COLUMN {column} TYPE {of_type}"
        );
        connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
    }
    Ok(())
}

fn pool(server: &Server, max: u32, own: &'static str) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(EACH)).await?;
                connection.execute(sqlx::raw_sql(own)).await.map(drop)
            })
        })
        .connect_lazy_with(server.options.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Result<Server, ServerError> {
        text.parse()
    }

    #[test]
    fn address_is_a_host_or_a_directory() {
        for (text, address) in [
            ("postgres://tacit@10.0.0.7/tacit", Address::Host("10.0.0.7".into(), 5432)),
            ("postgres://tacit@[fd00::7]:6000/tacit", Address::Host("fd00::7".into(), 6000)),
            ("postgresql://tacit@db.example.org/t", Address::Host("db.example.org".into(), 5432)),
            ("postgres://tacit@%2Frun%2Fpg/tacit", Address::Directory("/run/pg".into(), 5432)),
            ("postgres://tacit@%2frun%2fpg:6000/t", Address::Directory("/run/pg".into(), 6000)),
        ] {
            let parsed = server(text).map(|server| server.address().clone());
            assert_eq!(parsed.ok(), Some(address), "{text}");
        }
    }

    #[test]
    fn network_is_encrypted_and_the_name_checked_unless_told_otherwise() {
        for (text, mode) in [
            ("postgres://tacit@db.example.org/tacit", "sslmode=verify-full"),
            ("postgres://tacit@127.0.0.1/tacit", "sslmode=prefer"),
            ("postgres://tacit@10.0.0.7/tacit?sslmode=require", "sslmode=require"),
            ("postgres://tacit@%2Frun%2Fpg/tacit", "sslmode=disable"),
        ] {
            let url = server(text).unwrap().options.database_url;
            assert!(url.as_str().contains(mode), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        for text in [
            "tacit",
            "mysql://tacit@db/tacit",
            "postgres://db/tacit",
            "postgres://tacit@db",
            "postgres://tacit:secret@db/tacit",
            "postgres://tacit@db/tacit?sslmode=maybe",
            "postgres://tacit@db/tacit?colour=red",
            "postgres://tacit@db/tacit?sslrootcert=/nonexistent",
            "postgres://tacit@db/tacit?sslrootcert=/dev/zero",
            "postgres://tacit@db/tacit?sslrootcert=/etc/passwd",
        ] {
            let error = server(text).unwrap_err().to_string();
            assert!(!error.contains('\n') && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn certificates_are_read_once_and_stay_whatever_becomes_of_their_file() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        fs::write(&path, certificate).unwrap();
        let url = format!("postgres://tacit@db/tacit?sslrootcert={}", path.display());
        let server = server(&url).unwrap();
        path.close().unwrap();
        let pairs = server.options.database_url.query_pairs();
        let (_, kept) = pairs.into_iter().find(|(key, _)| key == "sslrootcert").unwrap();
        for _ in 0..2 {
            assert_eq!(fs::read_to_string(&*kept).unwrap(), certificate);
        }
        assert!(fs::write(&*kept, "another").is_err());
    }

    #[test]
    fn certificates_are_used_or_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        fs::write(file.path(), certificate).unwrap();
        let given = |host: &str, mode: &str| {
            server(&format!(
                "postgres://tacit@{host}/t?{mode}sslrootcert={}",
                file.path().display()
            ))
        };
        for host in ["127.0.0.1", "db.example.org"] {
            for mode in ["", "sslmode=verify-ca&", "sslmode=verify-full&"] {
                let url = given(host, mode).unwrap().options.database_url;
                assert!(url.as_str().contains("sslmode=verify-"), "{url}");
            }
            for mode in ["disable", "prefer", "require"] {
                let error = given(host, &format!("sslmode={mode}&")).unwrap_err();
                assert!(matches!(error, ServerError::UnusedCertificates), "{mode}: {error}");
            }
        }
        let error = given("%2Frun%2Fpg", "").unwrap_err();
        assert!(matches!(error, ServerError::UnusedCertificates), "{error}");
    }

    #[test]
    fn password_is_not_shown() {
        let server = server("postgres://tacit@db/tacit").unwrap().with_password("a?b/c");
        assert_eq!(format!("{server:?}"), "[redacted]");
        assert_eq!(server.options.database_url.password(), Some("a%3Fb%2Fc"));
    }
}
