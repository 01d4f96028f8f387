//! One forwarder process: how it is started, and how it ends.

use std::{
    fs::File,
    io,
    os::{
        fd::{OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{self, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use ipnet::IpNet;
use rustix::{
    io::Errno,
    thread::{UnshareFlags, unshare_unsafe},
};
use tacit_accounts::TunnelPool;
use tacit_forwarder::{LINK_DESCRIPTOR, worker_descriptors};
use tacit_keys::PrivateKey;
use tacit_messages::{FromForwarder, SealPart, SecretKey, ToForwarder};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    time::timeout,
};

use super::link::{Link, LinkError};
use crate::{config::Settings, host::TunnelIo};

/// How long a new forwarder may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// How long a forwarder that closed its link may take to exit.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// Why a forwarder did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwarderError {
    /// No process or descriptor could be had.
    #[error("starting the forwarder process")]
    Process(#[from] io::Error),
    /// It ended before it was ready.
    #[error("the forwarder ended at its start{}", at(.0))]
    Ended(Option<(&'static str, u32)>),
    /// It could not seal itself, so it must not see a packet.
    #[error("the forwarder cannot be sealed: {} failed: {error}; {}", part.name(), remedy(*part))]
    Unsealed {
        /// The part that could not be applied.
        part: SealPart,
        /// What the kernel said.
        error: io::Error,
    },
    /// It said something else than that it is ready.
    #[error("the forwarder did not say that it is ready; reinstall the program")]
    NotReady,
    /// It did not become ready in time.
    #[error("the forwarder was not ready within {} s", START_PATIENCE.as_secs())]
    Slow,
    /// The link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

fn at(fault: &Option<(&'static str, u32)>) -> String {
    fault.map(|(file, line)| format!(", in {file} line {line}")).unwrap_or_default()
}

/// What an operator can do about a part of the seal that could not be applied.
fn remedy(part: SealPart) -> &'static str {
    match part {
        SealPart::Memory => {
            "lift the limit on locked memory (systemd: LimitMEMLOCK=infinity, Docker: --ulimit memlock=-1)"
        }
        SealPart::Landlock => {
            "use Linux 5.13 or later with Landlock on (the kernel's `lsm=` parameter must name it)"
        }
        SealPart::Capabilities => "let the gateway have CAP_SETPCAP",
        SealPart::User => "let the gateway have CAP_SETUID, CAP_SETGID and 65536 user numbers",
        SealPart::Namespaces => {
            "let the gateway unshare and mount, or take CAP_SYS_ADMIN from it altogether"
        }
        SealPart::Dumps | SealPart::Limits | SealPart::Descriptors => {
            "mount /proc, use Linux 5.11 or later"
        }
        SealPart::SystemCalls => "use a kernel with seccomp filters",
    }
}

/// A forwarder process that carries packets; killed when dropped.
#[derive(Debug)]
pub(crate) struct Forwarder {
    process: Child,
    link: Arc<Link>,
}

impl Forwarder {
    /// Starts a forwarder, hands it `tunnel` and the gateway's key, and waits until it is ready.
    ///
    /// Control keeps none of the descriptors in `tunnel`.
    ///
    /// # Errors
    /// [`ForwarderError`] if it does not become ready.
    pub(crate) async fn start(
        settings: &Settings,
        networks: TunnelPool,
        tunnel: TunnelIo,
        identity: &PrivateKey,
    ) -> Result<Self, ForwarderError> {
        let (link, theirs) = Link::pair()?;
        let arguments = arguments(settings, networks, tunnel.has_uso);
        let process = spawn(arguments, descriptors(tunnel, theirs)?)?;
        let forwarder = Self { process, link: Arc::new(link) };
        let private_key = SecretKey::new(*identity.expose());
        if forwarder.link.send(&ToForwarder::Identity { private_key }).await.is_err() {
            return Err(ForwarderError::Ended(None));
        }
        timeout(START_PATIENCE, forwarder.ready()).await.map_err(|_| ForwarderError::Slow)??;
        Ok(forwarder)
    }

    async fn ready(&self) -> Result<(), ForwarderError> {
        match self.link.receive().await? {
            Some(FromForwarder::Ready) => Ok(()),
            Some(FromForwarder::Fault { file, line }) => {
                Err(ForwarderError::Ended(Some((tacit_forwarder::source_file(file), line))))
            }
            Some(FromForwarder::SealFailed { part, errno }) => {
                let error = io::Error::from_raw_os_error(errno.into());
                Err(ForwarderError::Unsealed { part, error })
            }
            Some(_) => Err(ForwarderError::NotReady),
            None => Err(ForwarderError::Ended(None)),
        }
    }

    /// The link to it.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Its process id; none once it was seen to end.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits a moment for it to exit, kills it if it does not, and returns how it ended.
    pub(crate) async fn end(mut self) -> Option<ExitStatus> {
        if let Ok(Ok(status)) = timeout(EXIT_PATIENCE, self.process.wait()).await {
            return Some(status);
        }
        self.kill().await
    }

    /// Kills it and returns how it ended.
    pub(crate) async fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.process.start_kill();
        self.process.wait().await.ok()
    }
}

/// Keeps descriptors that this process inherited from getting into the forwarder.
///
/// # Errors
/// If the kernel does not know how (before Linux 5.11).
#[expect(unsafe_code, reason = "nothing safe marks a range of descriptors")]
pub(crate) fn keep_inherited_descriptors() -> io::Result<()> {
    let (first, last) = (3, libc::c_uint::MAX);
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: nothing is closed in this process; descriptors are only marked to be closed by `exec`.
    match unsafe { libc::close_range(first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn spawn(arguments: Vec<String>, descriptors: Vec<FdMapping>) -> io::Result<Child> {
    let mut command = process::Command::new("/proc/self/exe");
    command
        .arg0("tacit")
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at a terminal is for control, which then ends the forwarder in good order.
        .process_group(0);
    #[cfg(feature = "misbehave")]
    command.envs(std::env::var_os("TACIT_MISBEHAVE").map(|attempt| ("TACIT_MISBEHAVE", attempt)));
    command.fd_mappings(descriptors).map_err(io::Error::other)?;
    let mut command = Command::from(command);
    start_alone(command.kill_on_drop(true))
}

/// Starts `command` as the first process of a process namespace, in which there is nobody else to find.
///
/// Without CAP_SYS_ADMIN, as in most containers, the namespace is the one of this process.
fn start_alone(command: &mut Command) -> io::Result<Child> {
    let runtime = Handle::current();
    let start = || {
        let _entered = runtime.enter();
        match unshare_processes() {
            Ok(()) | Err(Errno::PERM) => command.spawn(),
            Err(error) => Err(error.into()),
        }
    };
    // What is unshared is this thread's only.
    let child = thread::scope(|scope| scope.spawn(start).join());
    child.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

#[expect(unsafe_code, reason = "rustix marks every unshare unsafe")]
fn unshare_processes() -> rustix::io::Result<()> {
    // SAFETY: descriptors stay shared; only processes that this thread starts are set apart.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }
}

fn arguments(settings: &Settings, networks: TunnelPool, has_uso: bool) -> Vec<String> {
    let mut arguments = vec![
        "forwarder".into(),
        format!("--workers={}", settings.workers),
        format!("--tunnel-v4={}", networks.v4()),
        format!("--tunnel-v6={}", networks.v6()),
        format!("--mtu={}", settings.mtu),
    ];
    let switches = [
        ("--uso", has_uso),
        ("--allow-device-to-device", settings.allow_device_to_device),
        ("--allow-gateway", !settings.serve.is_empty()),
    ];
    arguments.extend(switches.iter().filter(|(_, on)| *on).map(|(switch, _)| (*switch).into()));
    arguments
        .extend(settings.allow_private.iter().map(|net: &IpNet| format!("--allow-private={net}")));
    arguments
}

/// Puts every descriptor where the forwarder looks for it; a family that is not listened on gets `/dev/null`.
fn descriptors(tunnel: TunnelIo, link: OwnedFd) -> io::Result<Vec<FdMapping>> {
    let mut mappings = vec![FdMapping { parent_fd: link, child_fd: LINK_DESCRIPTOR }];
    let (mut udp_v4, mut udp_v6) = (tunnel.udp_v4.into_iter(), tunnel.udp_v6.into_iter());
    for (worker, tun) in tunnel.tun.into_iter().enumerate() {
        let places: [RawFd; 3] = worker_descriptors(worker);
        let ours = [tun, or_null(udp_v4.next())?, or_null(udp_v6.next())?];
        mappings.extend(
            ours.into_iter()
                .zip(places)
                .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }),
        );
    }
    Ok(mappings)
}

fn or_null(socket: Option<OwnedFd>) -> io::Result<OwnedFd> {
    match socket {
        Some(socket) => Ok(socket),
        None => Ok(File::open("/dev/null")?.into()),
    }
}
