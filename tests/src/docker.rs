//! A real Docker engine in a namespace, with nothing of the machine's own: its images, containers, networks and firewall
//! rules go with the namespace.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    clock::{wait_for, wait_until},
    namespace::Namespace,
};

/// Where the engine listens, inside the namespace.
const SOCKET: &str = "/run/docker.sock";

/// The containers' IPv6 network; of IPv4 the engine has its own default.
pub const CONTAINERS_V6: &str = "2001:db8:d0::/64";

/// How long the engine may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running engine. It is ended when dropped.
pub struct Docker<'lab> {
    namespace: &'lab Namespace,
    engine: Child,
    log_path: PathBuf,
}

impl<'lab> Docker<'lab> {
    /// Starts an engine that keeps its data in `dir`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(namespace: &'lab Namespace, dir: &Path) -> Self {
        mount_cgroups(namespace);
        fs::create_dir_all(dir).expect("making the engine's directory");
        let log_path = dir.join("log");
        let log = File::create(&log_path).expect("making the engine's log");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(dir.join("data"));
        command.args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"]);
        command.args(["--host", &format!("unix://{SOCKET}")]);
        command.args(["--ipv6", "--fixed-cidr-v6", CONTAINERS_V6, "--experimental", "--ip6tables"]);
        let errors = log.try_clone().expect("copying a descriptor");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let engine = namespace.start(&mut command).expect("starting dockerd (docker.io)");
        let mut docker = Self { namespace, engine, log_path };
        let ready = wait_for(PATIENCE, || {
            let ended = matches!(docker.engine.try_wait(), Ok(Some(_)));
            (ended || docker.docker(&["version"]).status.success()).then_some(!ended)
        });
        assert_eq!(ready, Some(true), "the engine did not start:\n{}", docker.log());
        docker
    }

    /// What the engine logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log_path).unwrap_or_default()
    }

    /// Makes a command one that talks to this engine.
    pub fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("DOCKER_HOST", format!("unix://{SOCKET}")).env("DOCKER_BUILDKIT", "0")
    }

    /// Runs `docker` with `arguments`.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        self.namespace.output(self.environment(&mut command).args(arguments))
    }

    /// The same, which must succeed; returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).expect("UTF-8 on stdout")
    }

    /// Waits until a container's health check says that it is well.
    ///
    /// # Panics
    /// If that takes more than 30 seconds; with what the container wrote.
    pub fn wait_until_healthy(&self, container: &str) {
        let format = ["inspect", "--format", "{{.State.Health.Status}}", container];
        let healthy = wait_for(PATIENCE, || (self.text(&format).trim() == "healthy").then_some(()));
        if healthy.is_none() {
            let output = self.docker(&["logs", container]);
            panic!("{container} is not well: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        // It ends its containers before itself; what is left goes with the namespace.
        let _ = kill_process(Pid::from_child(&self.engine), Signal::TERM);
        let ended = wait_for(Duration::from_secs(20), || self.engine.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.engine.kill();
            let _ = self.engine.wait();
        }
    }
}

fn mount_cgroups(namespace: &Namespace) {
    let is_mounted =
        || namespace.path("/sys/fs/cgroup").read_dir().is_ok_and(|mut dir| dir.next().is_some());
    if is_mounted() {
        return;
    }
    let is_second = fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok();
    let version = if is_second { "2" } else { "1" };
    let script = include_str!("docker.sh");
    let output = namespace.output(Command::new("sh").args(["-ec", script, "sh", version]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "mounting control groups: {stderr}");
    wait_until("control groups", Duration::from_secs(1), is_mounted);
}
