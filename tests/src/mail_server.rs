//! A real mail server (Exim) on a loopback port, from a directory of its own: it touches nothing of the machine's mail.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::namespace::Namespace;

/// The user without rights that it runs as.
const NOBODY: u32 = 65_534;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// How many processes bring letters from its queue to the mailbox at once.
const RUNNERS: usize = 4;

/// A mail server that takes letters for everybody into one mailbox.
///
/// An address that begins with `bad` is refused for good, one with `later` for now.
pub struct MailServer<'lab> {
    namespace: Option<&'lab Namespace>,
    dir: tempfile::TempDir,
    port: u16,
    daemon: Option<Child>,
}

/// What is not as usual about a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    /// How long it thinks before it takes a recipient.
    pub slowness: Duration,
    /// Whether it takes letters only after a log-in by `tacit` with the password `se cret`, over TLS.
    pub asks_who: bool,
    /// Whether TLS begins with the first byte.
    pub speaks_tls_first: bool,
    /// Whether it turns away everybody who connects.
    pub turns_away: bool,
}

/// A letter of the mailbox.
#[derive(Clone, Debug)]
pub struct Received {
    /// Who got it.
    pub to: String,
    /// All of it, without the mailbox's own lines.
    pub text: String,
}

impl Received {
    /// A line of the letter's head, unfolded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\n\n").next().unwrap_or_default();
        let head = head.replace("\n ", " ").replace("\n\t", " ");
        let start = format!("{}:", name.to_ascii_lowercase());
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&start))?;
        Some(line[start.len()..].trim().to_owned())
    }
}

impl<'lab> MailServer<'lab> {
    /// Starts a server on this machine's loopback.
    ///
    /// # Panics
    /// If Exim is not installed or does not start.
    #[must_use]
    pub fn start(habits: Habits) -> Self {
        Self::start_in(None, habits)
    }

    /// Starts a server on the loopback of a namespace.
    ///
    /// # Panics
    /// If Exim is not installed or does not start.
    #[must_use]
    pub fn start_in(namespace: Option<&'lab Namespace>, habits: Habits) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the mail server");
        for name in ["", "spool", "log", "mail"] {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).expect("a directory for the mail server");
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("a directory to give away");
        }
        make_certificate(dir.path());
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let free = within(namespace, free);
        let port = free.expect("a free port").port();
        fs::write(dir.path().join("exim.conf"), config(dir.path(), port, habits))
            .expect("a configuration");
        let mut server = Self { namespace, dir, port, daemon: None };
        server.restart();
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The certificate that its own is signed by.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Panics
    /// If it does not listen in time.
    pub fn restart(&mut self) {
        let mut daemon = self.exim();
        // A group of its own, so that what it has started can be killed with it.
        let daemon = daemon.arg("-bdf").process_group(0);
        self.daemon = Some(self.spawn(daemon));
        for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
            let address = self.address();
            if within(self.namespace, move || TcpStream::connect(address)).is_ok() {
                return;
            }
            sleep(POLL);
        }
        let log = fs::read_to_string(self.dir.path().join("log/main")).unwrap_or_default();
        panic!("the mail server does not listen: {log}");
    }

    /// Kills it and starts it again with other habits.
    ///
    /// # Panics
    /// If it does not listen in time.
    pub fn restart_with(&mut self, habits: Habits) {
        self.kill();
        let config = config(self.dir.path(), self.port, habits);
        fs::write(self.dir.path().join("exim.conf"), config).expect("a configuration");
        self.restart();
    }

    /// Kills it with all its connections, in the middle of whatever it does.
    ///
    /// # Panics
    /// If it is not running.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a running mail server");
        let group = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
            .expect("an own process group");
        daemon.wait().expect("the end of the mail server");
    }

    /// The Message-IDs of all letters that it has taken, delivered or not, by its log.
    #[must_use]
    pub fn taken(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("log/main")).unwrap_or_default();
        let taken = log.lines().filter(|line| line.contains(" <= "));
        let ids =
            taken.filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("id=")));
        ids.map(str::to_owned).collect()
    }

    /// How many letters it has taken.
    #[must_use]
    pub fn count_taken(&self) -> usize {
        self.taken().len()
    }

    /// Delivers what it has taken, and reads the mailbox.
    ///
    /// # Panics
    /// If it cannot be delivered.
    #[must_use]
    pub fn mailbox(&self) -> Vec<Received> {
        let runners: Vec<_> = (0..RUNNERS).map(|_| self.spawn(self.exim().arg("-qff"))).collect();
        for mut runner in runners {
            assert!(runner.wait().expect("a queue runner").success(), "letters were not delivered");
        }
        let text = fs::read_to_string(self.dir.path().join("mail/box")).unwrap_or_default();
        let letters = text.split("\n\nFrom ").filter(|letter| !letter.trim().is_empty());
        letters.map(read).collect()
    }

    fn spawn(&self, command: &mut Command) -> Child {
        let child = match self.namespace {
            Some(namespace) => namespace.start(command),
            None => command.spawn(),
        };
        child.expect("Debian's exim4-daemon-light")
    }

    fn exim(&self) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/sbin/exim4", "-C"])
            .arg(self.dir.path().join("exim.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

impl Drop for MailServer<'_> {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill();
        }
    }
}

fn within<T: Send>(namespace: Option<&Namespace>, work: impl FnOnce() -> T + Send) -> T {
    match namespace {
        Some(namespace) => namespace.within(work),
        None => work(),
    }
}

fn read(letter: &str) -> Received {
    let to = letter.lines().find_map(|line| line.strip_prefix("Envelope-to: "));
    Received { to: to.unwrap_or_default().to_owned(), text: letter.to_owned() }
}

fn make_certificate(dir: &Path) {
    let made = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '),
        )
        .args(["-subj", "/CN=mail.test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("Debian's openssl").success(), "no certificate was made");
    for name in ["key.pem", "cert.pem"] {
        chown(dir.join(name), Some(NOBODY), Some(NOBODY)).expect("a file to give away");
    }
}

fn config(dir: &Path, port: u16, habits: Habits) -> String {
    let dir = dir.display();
    let slowness = habits.slowness.as_secs();
    let asks_who = if habits.asks_who { "deny !authenticated = *\n" } else { "" };
    let tls_port = if habits.speaks_tls_first { port.to_string() } else { String::new() };
    let welcome = if habits.turns_away { "deny" } else { "accept" };
    format!(
        "primary_hostname = mail.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
spool_directory = {dir}/spool
log_file_path = {dir}/log/%s
pid_file_path = {dir}/exim.pid
exim_user = 65534
exim_group = 65534
never_users =
deliver_drop_privilege = true
keep_environment =
queue_only = true
host_lookup =
message_logs = false
tls_certificate = {dir}/cert.pem
tls_privatekey = {dir}/key.pem
tls_on_connect_ports = {tls_port}
smtp_accept_max_per_connection = 0
smtp_accept_max_nonmail = 100000
acl_smtp_connect = welcome
acl_smtp_rcpt = recipient
acl_smtp_data = text
begin acl
welcome:
  {welcome}
recipient:
  {asks_who}
  deny local_parts = ^bad
  defer local_parts = ^later
  accept delay = {slowness}s
text:
  accept
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  file = {dir}/mail/box
  user = 65534
  group = 65534
  mode = 0600
  envelope_to_add
begin retry
* * F,1h,1s
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{def:tls_in_cipher}}{{eq{{$auth2}}{{tacit}}}}{{eq{{$auth3}}{{se cret}}}}}}}}
  server_set_id = $auth2
"
    )
}
