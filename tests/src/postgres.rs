//! A real PostgreSQL for tests: one that the tests of a run share, with a database for each, and servers of a test's own
//! that it can stop.
//!
//! Servers are Debian's, run as its user `postgres`, keep their files in a temporary directory, sync nothing, and listen
//! on a Unix socket there.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};

use crate::{Namespace, clock::wait_for, gateway::target_dir};

/// Where Debian has the programs (package postgresql-15).
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The port in the socket's name.
const PORT: u16 = 5432;
/// The user of the databases.
const USER: &str = "tacit";
/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of a test's own.
pub struct Postgres<'lab> {
    dir: PathBuf,
    namespace: Option<&'lab Namespace>,
    extra: Vec<String>,
    child: Option<Child>,
}

impl<'lab> Postgres<'lab> {
    /// Starts a server with its files in `dir`, which must not exist; with a namespace, also on its loopback.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(dir: &Path, namespace: Option<&'lab Namespace>) -> Self {
        Self::start_with(dir, namespace, &[])
    }

    /// Starts a server with more flags.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_with(dir: &Path, namespace: Option<&'lab Namespace>, extra: &[&str]) -> Self {
        initialize(dir);
        let extra = extra.iter().map(ToString::to_string).collect();
        let mut server = Self { dir: dir.into(), namespace, extra, child: None };
        server.run();
        server
    }

    /// Starts a server that syncs what is committed, as it would at an operator's.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_durably(dir: &Path) -> Self {
        Self::start_with(dir, None, &["-c", "fsync=on"])
    }

    /// Starts the server again.
    ///
    /// # Panics
    /// If it does not start.
    pub fn run(&mut self) {
        let mut command = server(&self.dir);
        command.args([
            "-c",
            if self.namespace.is_some() {
                "listen_addresses=127.0.0.1"
            } else {
                "listen_addresses="
            },
        ]);
        command.args(&self.extra);
        let child = match self.namespace {
            Some(namespace) => namespace.start(&mut command),
            None => command.spawn(),
        };
        self.child = Some(child.expect("starting the server"));
        wait_until_ready(&self.dir);
    }

    /// Ends the server, and all connections with it.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        kill_process(Pid::from_child(&child), Signal::INT).expect("ending the server");
        let ended = wait_for(PATIENCE, || child.try_wait().ok().flatten());
        assert!(ended.is_some(), "the server did not end");
    }

    /// Makes a database.
    ///
    /// # Panics
    /// If that fails.
    pub fn create(&self, database: &str) {
        run(&mut client(&self.dir, "createdb", &["-T", "template0", database]));
    }

    /// Runs statements in a database as its owner and returns the values that they select, a row a line.
    ///
    /// # Panics
    /// If they fail.
    #[must_use]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        run(&mut client(
            &self.dir,
            "psql",
            &["-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statements],
        ))
    }

    /// A database's address, by the Unix socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        url(&self.dir, database)
    }

    /// A database's address, by TCP in the namespace.
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{PORT}/{database}")
    }
}

impl Drop for Postgres<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The server ends its processes when it is told to; killed, it could not.
            let _ = kill_process(Pid::from_child(&child), Signal::QUIT);
            let ended = wait_for(Duration::from_secs(5), || child.try_wait().ok().flatten());
            if ended.is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A database of its own in the server that the tests of a run share; gone when dropped.
pub struct SharedDatabase {
    dir: PathBuf,
    name: String,
}

impl SharedDatabase {
    /// Makes a database, and starts the server unless another test has.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn create() -> Self {
        let dir = shared_server().to_owned();
        let name = format!("test_{:016x}", rand_core::RngCore::next_u64(&mut rand_core::OsRng));
        run(&mut client(&dir, "createdb", &["-T", "template0", &name]));
        Self { dir, name }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.dir, &self.name)
    }

    /// The directory of the files that have its tables.
    ///
    /// # Panics
    /// If the server does not say.
    #[must_use]
    pub fn files_dir(&self) -> PathBuf {
        let sql = "SELECT oid FROM pg_database WHERE datname = current_database()";
        let oid = run(&mut client(&self.dir, "psql", &["-qAtX", "-d", &self.name, "-c", sql]));
        self.dir.join("data/base").join(oid.trim())
    }

    /// Has the server write everything to the files.
    ///
    /// # Panics
    /// If that fails.
    pub fn flush(&self) {
        run(&mut client(&self.dir, "psql", &["-qX", "-d", &self.name, "-c", "CHECKPOINT"]));
    }
}

impl Drop for SharedDatabase {
    fn drop(&mut self) {
        let dropped = client(&self.dir, "dropdb", &["--force", &self.name]).output();
        if !std::thread::panicking() {
            assert!(dropped.is_ok_and(|output| output.status.success()), "dropping the database");
        }
    }
}

/// The directory of the server that runs for as long as a test uses it.
fn shared_server() -> &'static Path {
    static SERVER: OnceLock<(PathBuf, File)> = OnceLock::new();
    &SERVER.get_or_init(|| share().expect("starting the shared server")).0
}

/// Finds or starts the shared server, and holds it for as long as the file is open.
fn share() -> io::Result<(PathBuf, File)> {
    let state_dir = target_dir().join("tmp/postgres");
    fs::create_dir_all(&state_dir)?;
    let state_dir = state_dir.canonicalize()?;
    let turn = open(&state_dir.join("turn"))?;
    flock(&turn, FlockOperation::LockExclusive)?;
    let user = open(&state_dir.join("users"))?;
    flock(&user, FlockOperation::LockShared)?;
    let note_path = state_dir.join("dir");
    let dir = PathBuf::from(fs::read_to_string(&note_path).unwrap_or_default());
    if is_ready(&dir) {
        return Ok((dir, user));
    }
    let dir = tempfile::Builder::new().prefix("tacit-postgres-").tempdir()?.keep();
    fs::remove_dir(&dir)?;
    initialize(&dir);
    let server = server(&dir).args(["-c", "listen_addresses="]).process_group(0).spawn()?;
    File::create(&note_path)?.write_all(dir.as_os_str().as_encoded_bytes())?;
    // Ends the server once the last test is gone, however it went.
    Command::new("setsid")
        .args(["sh", "-c", include_str!("postgres.sh"), "sh"])
        .arg(server.id().to_string())
        .args([&dir, &state_dir])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    wait_until_ready(&dir);
    Ok((dir, user))
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

/// Makes a server's files, for a user who needs no password.
fn initialize(dir: &Path) {
    fs::create_dir(dir).expect("making a directory");
    fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("opening a directory");
    let user = id("-u");
    chown(dir, Some(user), Some(id("-g"))).expect("giving a directory away");
    let mut command = as_postgres("initdb");
    command.arg("-D").arg(dir.join("data"));
    command.args(["-U", USER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8"]);
    run(&mut command);
}

/// A number of the user `postgres`.
fn id(which: &str) -> u32 {
    let number = run(Command::new("id").args([which, "postgres"]));
    number.trim().parse().expect("the user postgres (Debian package postgresql-15)")
}

fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    command.arg(format!("{PROGRAMS}/{program}")).current_dir("/");
    command
}

fn server(dir: &Path) -> Command {
    let mut command = as_postgres("postgres");
    command.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args(["-p", &PORT.to_string()]);
    for setting in ["fsync=off", "max_connections=300", "shared_buffers=32MB", "autovacuum=off"] {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn client(dir: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(format!("{PROGRAMS}/{program}"));
    command.env("PGHOST", dir).env("PGPORT", PORT.to_string()).env("PGUSER", USER);
    command.env("PGDATABASE", "postgres").args(arguments);
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error} (postgresql-15)"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn url(dir: &Path, database: &str) -> String {
    let dir = dir.display().to_string().replace('/', "%2F");
    format!("postgres://{USER}@{dir}:{PORT}/{database}")
}

fn is_ready(dir: &Path) -> bool {
    UnixStream::connect(dir.join(format!(".s.PGSQL.{PORT}"))).is_ok()
        && client(dir, "psql", &["-qX", "-c", "SELECT 1"])
            .output()
            .is_ok_and(|output| output.status.success())
}

fn wait_until_ready(dir: &Path) {
    let ready = wait_for(PATIENCE, || is_ready(dir).then_some(()));
    assert!(ready.is_some(), "the server in {} does not answer", dir.display());
}
