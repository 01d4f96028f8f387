//! One forwarder, as control sees it: how it is started through the starter, and how it ends.

use std::{fs::File, io, os::fd::OwnedFd, process::ExitStatus, sync::Arc, time::Duration};

use ipnet::IpNet;
use tacit_accounts::TunnelPool;
use tacit_keys::PrivateKey;
use tacit_messages::{FromForwarder, SecretKey, ToForwarder};
use tacit_seal::Failure;
use tokio::time::timeout;

use super::{
    link::{Link, LinkError},
    site,
    starter::Starter,
};
use crate::{config::Settings, host::TunnelIo, seal::SealError};

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
    #[error(transparent)]
    Unsealed(#[from] SealError),
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

/// A forwarder that carries packets; killed when dropped.
pub(crate) struct Forwarder {
    pid: u32,
    link: Arc<Link>,
    starter: Arc<Starter>,
}

impl Forwarder {
    /// Has a forwarder started, hands it `tunnel` and the gateway's key, and waits until it is ready.
    ///
    /// Control keeps none of the descriptors in `tunnel`.
    ///
    /// # Errors
    /// [`ForwarderError`] if it does not become ready.
    pub(crate) async fn start(
        starter: &Arc<Starter>,
        tunnel: TunnelIo,
        identity: &PrivateKey,
    ) -> Result<Self, ForwarderError> {
        let (link, theirs) = Link::pair()?;
        let uso = tunnel.has_uso;
        let started = starter.start(uso, descriptors(tunnel, theirs)?).await?;
        let pid = started.map_err(|failure| SealError::new("the forwarder", failure))?;
        let forwarder = Self { pid, link: Arc::new(link), starter: Arc::clone(starter) };
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
                let errno = rustix::io::Errno::from_raw_os_error(errno.into());
                Err(SealError::new("the forwarder", Failure { part, errno }).into())
            }
            Some(_) => Err(ForwarderError::NotReady),
            None => Err(ForwarderError::Ended(None)),
        }
    }

    /// The link to it.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits a moment for it to exit, kills it if it does not, and returns how it ended.
    pub(crate) async fn end(self) -> Option<ExitStatus> {
        match timeout(EXIT_PATIENCE, self.starter.end_of(self.pid)).await {
            Ok(status) => status,
            Err(_) => self.kill().await,
        }
    }

    /// Kills it and returns how it ended.
    pub(crate) async fn kill(self) -> Option<ExitStatus> {
        self.starter.kill();
        timeout(EXIT_PATIENCE, self.starter.end_of(self.pid)).await.ok().flatten()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // One that has ended is not killed again: the starter knows.
        self.starter.kill();
    }
}

/// Keeps descriptors that this process inherited from getting into the starter and the forwarder.
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

/// The command line of every forwarder of this gateway, but for what the TUN device can do.
pub(crate) fn arguments(settings: &Settings, networks: TunnelPool) -> Vec<String> {
    let mut arguments = vec![
        format!("--workers={}", settings.workers),
        format!("--tunnel-v4={}", networks.v4()),
        format!("--tunnel-v6={}", networks.v6()),
        format!("--mtu={}", settings.mtu),
    ];
    let serves =
        !settings.serve.is_empty() || !site::ports_in_tunnel(settings, networks).is_empty();
    let switches = [
        ("--allow-device-to-device", settings.allow_device_to_device),
        ("--allow-gateway", serves),
    ];
    arguments.extend(switches.iter().filter(|(_, on)| *on).map(|(switch, _)| (*switch).into()));
    arguments
        .extend(settings.allow_private.iter().map(|net: &IpNet| format!("--allow-private={net}")));
    arguments
}

/// Puts all descriptors in the order in which the forwarder looks for them
/// ([`tacit_forwarder::worker_descriptors`]); a family that is not listened on gets `/dev/null`.
fn descriptors(tunnel: TunnelIo, link: OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = vec![link];
    let (mut udp_v4, mut udp_v6) = (tunnel.udp_v4.into_iter(), tunnel.udp_v6.into_iter());
    for tun in tunnel.tun {
        descriptors.extend([tun, or_null(udp_v4.next())?, or_null(udp_v6.next())?]);
    }
    Ok(descriptors)
}

fn or_null(socket: Option<OwnedFd>) -> io::Result<OwnedFd> {
    match socket {
        Some(socket) => Ok(socket),
        None => Ok(File::open("/dev/null")?.into()),
    }
}
