//! Servers under test: Tacit, and any WireGuard program that `wg` can configure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tacit_tests::{Gateway, Lab, clock::wait_for, config::Config, lab::GATEWAY_V4};

use crate::{peers::version_of, process::Processes};

/// A kind of server.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    version: Option<String>,
    program: Program,
}

#[derive(Clone, Debug)]
enum Program {
    /// The program and variables of its environment.
    Tacit(PathBuf, Vec<(&'static str, &'static str)>),
    /// The command that starts it, followed by the interface name.
    Peer(Vec<String>),
}

/// A server that runs, with two clients configured: one for TCP, one for floods.
pub(crate) struct Running<'lab> {
    pub(crate) processes: Processes<'lab>,
    pub(crate) tcp_client: Config,
    pub(crate) flood_client: Config,
    _server: Server<'lab>,
}

enum Server<'lab> {
    Tacit { _gateway: Gateway<'lab> },
    Peer(Child),
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if let Self::Peer(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const INTERFACE: &str = "wg0";

/// A lab with offloads towards the target, as network cards have them; tests go without, so that wrong checksums show.
pub(crate) fn lab() -> Lab {
    let lab = Lab::new(2);
    for (namespace, device) in [(&lab.gateway, "uplink"), (&lab.target_namespace, "wan")] {
        namespace.sh(&format!("ethtool -K {device} tx on >/dev/null"));
    }
    lab
}

impl Subject {
    /// A build of Tacit.
    pub(crate) fn tacit(name: &str, program: PathBuf) -> Self {
        let version = version_of(&program);
        Self { name: name.to_owned(), version, program: Program::Tacit(program, Vec::new()) }
    }

    /// The same with a variable in its environment.
    pub(crate) fn with_variable(mut self, name: &'static str, value: &'static str) -> Self {
        if let Program::Tacit(_, variables) = &mut self.program {
            variables.push((name, value));
        }
        self
    }

    /// A program that takes an interface name after `command` and is configured with `wg`.
    pub(crate) fn peer(name: &str, command: Vec<String>, version: Option<String>) -> Self {
        Self { name: name.to_owned(), version, program: Program::Peer(command) }
    }

    /// Name and version, as the report's columns are headed.
    pub(crate) fn label(&self) -> String {
        match &self.version {
            Some(version) => format!("{} {version}", self.name),
            None => self.name.clone(),
        }
    }

    /// Starts the server in the lab's gateway namespace with `workers` workers, where it has any.
    pub(crate) fn start<'lab>(&self, lab: &'lab Lab, workers: usize) -> Result<Running<'lab>> {
        match &self.program {
            Program::Tacit(program, variables) => start_tacit(lab, program, variables, workers),
            Program::Peer(command) => {
                start_peer(lab, command).with_context(|| format!("starting {}", self.name))
            }
        }
    }
}

fn start_tacit<'lab>(
    lab: &'lab Lab,
    program: &Path,
    variables: &[(&str, &str)],
    workers: usize,
) -> Result<Running<'lab>> {
    let workers = ["--workers", &workers.to_string()];
    let mut gateway = Gateway::stopped(lab, "gateway", &workers).built_as(program);
    for (name, value) in variables {
        gateway = gateway.with_variable(name, value);
    }
    gateway.run();
    gateway.add_account("bench@example.org");
    let tcp_client = gateway.add_device("bench@example.org", "tcp");
    let flood_client = gateway.add_device("bench@example.org", "flood");
    let status = gateway.json(&["status"]);
    let id = |process: &str| status[process]["pid"].as_u64();
    let ids = ["control", "forwarder", "starter"].map(id).into_iter().collect::<Option<_>>();
    let ids = ids.with_context(|| format!("status does not name the processes: {status}"))?;
    let processes = Processes { namespace: &lab.gateway, ids };
    Ok(Running {
        processes,
        tcp_client,
        flood_client,
        _server: Server::Tacit { _gateway: gateway },
    })
}

/// The firewall that every peer needs to do the same job.
const MASQUERADE: &str = "nft add table ip bench; \
    nft 'add chain ip bench post { type nat hook postrouting priority srcnat; }'; \
    nft add rule ip bench post oifname uplink masquerade; \
    sysctl -qw net.ipv4.ip_forward=1";

fn start_peer<'lab>(lab: &'lab Lab, command: &[String]) -> Result<Running<'lab>> {
    let namespace = &lab.gateway;
    let key = |_| namespace.sh("wg genkey").trim().to_owned();
    let [server, tcp, flood] = [0, 1, 2].map(key);
    let preshared = namespace.sh("wg genpsk").trim().to_owned();
    let public =
        |private: &str| namespace.sh(&format!("echo {private} | wg pubkey")).trim().to_owned();

    let (program, arguments) = command.split_first().context("the peer's command is empty")?;
    let mut start = Command::new(program);
    start
        .args(arguments)
        .arg(INTERFACE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = namespace.start(&mut start)?;
    let server_process = Server::Peer(child);
    let up = wait_for(Duration::from_secs(5), || {
        let shown = namespace.output(Command::new("wg").args(["show", INTERFACE]));
        shown.status.success().then_some(())
    });
    up.context("the peer did not answer `wg show` within 5 s")?;

    fs::write(namespace.path("/run/server.key"), &server)?;
    fs::write(namespace.path("/run/preshared.key"), &preshared)?;
    namespace.sh(&format!(
        "wg set {INTERFACE} private-key /run/server.key listen-port 51820 \
            peer {} preshared-key /run/preshared.key allowed-ips 10.66.0.2/32 \
            peer {} preshared-key /run/preshared.key allowed-ips 10.66.0.3/32; \
         ip addr add 10.66.0.1/16 dev {INTERFACE}; ip link set {INTERFACE} mtu 1420 up; {MASQUERADE}",
        public(&tcp),
        public(&flood),
    ));
    let pid = server_pid(lab, program)?;
    let config = |private: &str, host: u8| {
        Config::parse(&format!(
            "[Interface]\nPrivateKey = {private}\nAddress = 10.66.0.{host}/32, fd66:7ac1:7::{host}/128\nMTU = 1420\n\
             [Peer]\nPublicKey = {}\nPresharedKey = {preshared}\nEndpoint = {GATEWAY_V4}:51820\nAllowedIPs = 0.0.0.0/0\n",
            public(&server),
        ))
    };
    Ok(Running {
        processes: Processes { namespace, ids: vec![pid] },
        tcp_client: config(&tcp, 2),
        flood_client: config(&flood, 3),
        _server: server_process,
    })
}

/// The server's number inside the namespace, where it is the only process of its name.
fn server_pid(lab: &Lab, program: &str) -> Result<u64> {
    let name: String = program.rsplit('/').next().unwrap_or(program).chars().take(15).collect();
    let text = lab.gateway.sh(&format!("pgrep -x {name}"));
    text.split_whitespace().next().and_then(|id| id.parse().ok()).context("the peer has no process")
}

/// Runs a command in a namespace and reads its JSON.
pub(crate) fn json_of(namespace: &tacit_tests::Namespace, line: &str) -> Result<Value> {
    serde_json::from_str(&namespace.sh(line))
        .with_context(|| format!("reading what {line:?} printed"))
}
