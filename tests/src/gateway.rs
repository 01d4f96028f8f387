//! The gateway under test: the program, its command line, and what it wrote.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tacit_messages::DropReason;

use crate::{
    clock::{wait_for, wait_until},
    config::Config,
    lab::{DNS_V4, DNS_V6, GATEWAY_V4, Lab},
    namespace::Namespace,
};

/// How the log says that packets are carried; the word alone is in "already" too.
const READY: &str = " INFO ready ";

/// A running `tacit run`. It is ended when dropped.
pub struct Gateway<'lab> {
    namespace: &'lab Namespace,
    program: PathBuf,
    data_dir: PathBuf,
    extra: Vec<String>,
    variables: Vec<(String, String)>,
    launcher: Vec<String>,
    is_by_file: bool,
    child: Option<Child>,
}

impl<'lab> Gateway<'lab> {
    /// Starts the gateway with the lab's name servers and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start(lab: &'lab Lab) -> Self {
        Self::start_with(lab, &[])
    }

    /// Starts the gateway with more flags.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start_with(lab: &'lab Lab, extra: &[&str]) -> Self {
        let mut gateway = Self::stopped(lab, "gateway", extra);
        gateway.run();
        gateway
    }

    /// A gateway that does not run yet, with its own directory.
    ///
    /// # Panics
    /// If the directory cannot be made.
    #[must_use]
    pub fn stopped(lab: &'lab Lab, name: &str, extra: &[&str]) -> Self {
        let data_dir = lab.dir().join(name);
        fs::create_dir_all(&data_dir).expect("making the data directory");
        let extra = extra.iter().map(ToString::to_string).collect();
        Self {
            namespace: &lab.gateway,
            program: program(),
            data_dir,
            extra,
            variables: Vec::new(),
            launcher: Vec::new(),
            is_by_file: false,
            child: None,
        }
    }

    /// The same gateway in another namespace than the lab's own for it.
    #[must_use]
    pub fn within(mut self, namespace: &'lab Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// The same gateway by another build of the program.
    #[must_use]
    pub fn built_as(mut self, program: &Path) -> Self {
        self.program = program.into();
        self
    }

    /// The same gateway with a variable in its environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same gateway with what stands in a settings file, in place of flags for its log, endpoint and name servers.
    #[must_use]
    pub fn with_settings_in(mut self, path: &Path) -> Self {
        self.extra.extend(["--config".to_owned(), path.display().to_string()]);
        self.is_by_file = true;
        self
    }

    /// The same gateway, started by a program that starts it in its own way.
    #[must_use]
    pub fn launched_by(mut self, launcher: &[&str]) -> Self {
        self.launcher = launcher.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts the program and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready within 15 seconds.
    pub fn run(&mut self) {
        let before = self.log().matches(READY).count();
        self.spawn();
        let ready = wait_for(Duration::from_secs(15), || {
            let ended =
                self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
            (ended || self.log().matches(READY).count() > before).then_some(!ended)
        });
        assert_eq!(ready, Some(true), "the gateway did not become ready:\n{}", self.log());
    }

    /// Starts the program without waiting.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path());
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("opening the log"));
        self.child = Some(self.namespace.start(&mut command).expect("starting the gateway"));
    }

    /// The command line of `tacit run`.
    #[must_use]
    pub fn command(&self) -> Command {
        let program = self.program.as_os_str();
        let mut words = self.launcher.iter().map(OsStr::new).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.env_clear().envs(self.variables.iter().cloned()).args(words);
        command.arg("run").arg("--data-dir").arg(&self.data_dir);
        command.arg("--socket").arg(self.socket());
        if !self.is_by_file {
            command.args(["--log", "trace", "--endpoint", &GATEWAY_V4.to_string()]);
            command.args(["--dns", &DNS_V4.to_string(), "--dns", &DNS_V6.to_string()]);
        }
        command.args(&self.extra);
        command
    }

    /// Waits until the program has ended by itself.
    ///
    /// # Panics
    /// If it has not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("the gateway was not started");
        let status = wait_for(limit, || child.try_wait().ok().flatten());
        self.child = None;
        status.unwrap_or_else(|| panic!("the gateway did not end within {limit:?}"))
    }

    /// Ends the program with SIGTERM.
    ///
    /// # Panics
    /// If it takes more than 10 seconds or fails.
    pub fn stop(&mut self) {
        self.stop_by(Signal::TERM);
    }

    /// Ends the program with a signal that it must obey.
    ///
    /// # Panics
    /// If it takes more than 10 seconds or fails.
    pub fn stop_by(&mut self, signal: Signal) {
        self.signal(signal);
        let status = self.wait(Duration::from_secs(10));
        assert!(status.success(), "the gateway ended with {status}:\n{}", self.log());
    }

    /// Kills the control process with SIGKILL.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait(Duration::from_secs(5)).signal(), Some(9));
    }

    /// Has the program read its settings again, by SIGHUP.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the gateway does not run");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("signalling the gateway");
    }

    /// Where the store, the key and the log are.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Everything that the gateway wrote to stderr so far, at its most talkative.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.data_dir.with_extension("log")
    }

    /// The admin socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.data_dir.with_extension("sock")
    }

    /// Runs an operator's verb.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.env_clear().args(arguments).arg("--socket").arg(self.socket());
        self.namespace.output(&mut command)
    }

    /// Runs an operator's verb that must succeed and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed: {stderr}");
        String::from_utf8(output.stdout).expect("UTF-8 on stdout")
    }

    /// Runs an operator's verb with `--json`.
    ///
    /// # Panics
    /// If it fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"))
    }

    /// Makes an account.
    pub fn add_account(&self, email: &str) {
        self.text(&["account", "add", email, "--of-age"]);
    }

    /// Adds a device to an account and returns its config.
    pub fn add_device(&self, email: &str, name: &str) -> Config {
        Config::parse(&self.text(&["device", "add", email, name]))
    }

    /// An account with one device.
    pub fn customer(&self, email: &str) -> Config {
        self.add_account(email);
        self.add_device(email, "laptop")
    }

    /// The account's sessions.
    ///
    /// # Panics
    /// If the answer is not a list.
    pub fn sessions(&self, email: &str) -> Vec<Value> {
        self.json(&["session", "list", email]).as_array().expect("a list of sessions").clone()
    }

    /// Waits until the account has `count` sessions.
    ///
    /// # Panics
    /// If that takes more than three seconds.
    pub fn wait_for_sessions(&self, email: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} sessions of {email}");
        wait_until(&what, Duration::from_secs(3), || self.sessions(email).len() >= count);
        let sessions = self.sessions(email);
        assert_eq!(sessions.len(), count, "{sessions:?}");
        sessions
    }

    /// Waits until `status` tells of `count` live sessions; totals come once a second.
    ///
    /// # Panics
    /// If that takes more than five seconds.
    pub fn wait_for_live(&self, count: u64) {
        wait_until(&format!("{count} live sessions"), Duration::from_secs(5), || {
            self.json(&["status"])["sessions"] == count
        });
    }

    /// How many packets were dropped for `reason`; totals come once a second.
    ///
    /// # Panics
    /// If `status` does not have the counter.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        let status = self.json(&["status"]);
        let drops = &status["totals"]["drops"][reason.name()];
        drops.as_u64().unwrap_or_else(|| panic!("no counter {}: {status}", reason.name()))
    }

    /// The forwarder's process number inside the gateway's namespace.
    ///
    /// # Panics
    /// If `status` does not have it.
    #[must_use]
    pub fn forwarder(&self) -> u64 {
        self.json(&["status"])["forwarder"]["pid"].as_u64().expect("the forwarder's process number")
    }

    /// Kills the forwarder with SIGKILL.
    pub fn kill_forwarder(&self) {
        self.namespace.sh(&format!("kill -9 {}", self.forwarder()));
    }

    /// A process's resident memory in KiB.
    ///
    /// # Panics
    /// If there is no such process.
    #[must_use]
    pub fn resident_kib(&self, pid: u64) -> u64 {
        let path = self.namespace.path(&format!("/proc/{pid}/status"));
        let status = fs::read_to_string(path).expect("reading the process's status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// The SQLite file in the data directory.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        let files = fs::read_dir(&self.data_dir).expect("reading the data directory");
        files
            .flatten()
            .map(|entry| entry.path())
            .find(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3")))
            .expect("an SQLite file in the data directory")
    }
}

impl Drop for Gateway<'_> {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}", tail(&self.log(), 60));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The last `count` lines.
fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The program under test: `TACIT_BIN`, else the release build.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn program() -> PathBuf {
    let path = std::env::var_os("TACIT_BIN")
        .map_or_else(|| target_dir().join("release/tacit"), PathBuf::from);
    assert!(path.exists(), "{} is missing: cargo build --release -p tacit", path.display());
    path
}

/// The build with the features `misbehave` and `leaky`, which does as it should unless `TACIT_MISBEHAVE` says what its
/// forwarder tries, or `TACIT_LEAK` where to it leaks.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn unfaithful_program() -> PathBuf {
    let path = std::env::var_os("TACIT_UNFAITHFUL_BIN")
        .map_or_else(|| target_dir().join("debug/tacit-unfaithful"), PathBuf::from);
    assert!(path.exists(), "{} is missing: see tests/run for how it is built", path.display());
    path
}

/// A file that `tests/run` downloads.
///
/// # Panics
/// If it has not been.
#[must_use]
pub fn tool(path: &str) -> PathBuf {
    let path = target_dir().join("tools").join(path);
    assert!(path.exists(), "{} is missing: tests/run downloads it", path.display());
    path
}

/// The workspace's target directory.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
}
