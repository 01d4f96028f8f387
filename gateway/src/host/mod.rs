//! The host's network around the tunnel, set up and taken down through netlink alone.
//!
//! [`preflight`] says within a moment what is missing. [`Network::raise`] cleans what a killed predecessor left,
//! writes down what it is about to change, then puts the firewall table and the forwarding switches in place.
//! [`Network::open_tunnel`] makes the TUN device and the UDP sockets, again whenever the forwarder died with its
//! descriptors. [`Network::lower`] leaves the host as it was.

pub(crate) mod conntrack;
mod error;
mod firewall;
mod leftovers;
mod links;
mod record;
mod settings;
mod sockets;
mod sysctls;
#[cfg(test)]
mod tests;
mod tun;
mod turn;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities};

pub(crate) use error::HostError;
pub(crate) use firewall::{firewall_fingerprint, table_name as firewall_table};
pub(crate) use links::check_networks_are_free;
pub(crate) use settings::{
    HostSettings, Protocol, ServedPort, check_interface, check_listen, check_mtu,
};
pub(crate) use tun::blank_devices as blank_tun_devices;

use firewall::Firewall;
use record::Record;
use sockets::UdpSockets;
use turn::Turn;

/// How long a dead forwarder's descriptors may take to go.
const DESCRIPTORS_GO_WITHIN: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);

/// Checks that the gateway can be set up on this host, and changes nothing.
///
/// # Errors
/// The first thing that is missing, with how to mend it.
pub(crate) async fn preflight(settings: &HostSettings) -> Result<(), HostError> {
    settings.check()?;
    let effective = capabilities(None).map(|sets| sets.effective);
    if !effective.is_ok_and(|effective| effective.contains(CapabilitySet::NET_ADMIN)) {
        return Err(HostError::NoNetAdmin);
    }
    tun::probe()?;
    Firewall::open(&settings.interface).await?;
    check_nothing_in_the_way(settings).await?;
    sysctls::check_forwarding()?;
    sockets::probe(&settings.listen)
}

async fn check_nothing_in_the_way(settings: &HostSettings) -> Result<(), HostError> {
    if links::exists(&settings.interface).await? {
        return Err(HostError::InterfaceExists(settings.interface.clone()));
    }
    check_networks_are_free(&settings.interface, settings.tunnel_networks()).await
}

/// Descriptors that the forwarder carries packets between; all non-blocking.
#[derive(Debug)]
pub(crate) struct TunnelIo {
    /// One queue of the TUN device per worker, each packet behind a `virtio_net_hdr`.
    pub(crate) tun: Vec<OwnedFd>,
    /// Whether the device takes and gives UDP super-packets.
    pub(crate) has_uso: bool,
    /// One IPv4 socket per worker; empty if no IPv4 address is listened on.
    pub(crate) udp_v4: Vec<OwnedFd>,
    /// One IPv6 socket per worker; empty if no IPv6 address is listened on.
    pub(crate) udp_v6: Vec<OwnedFd>,
}

/// The host's network as the gateway set it up. Dropping it changes nothing: [`Network::lower`] does.
pub(crate) struct Network {
    settings: HostSettings,
    firewall: Firewall,
    record: Record,
    /// Whether the TUN device of that name is this gateway's.
    has_made_device: AtomicBool,
}

/// Whether a table that is there already is to be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replace {
    /// It may be a killed predecessor's.
    Always,
    /// It is this gateway's.
    IfMissing,
}

impl Network {
    /// Sets up the firewall table and switches forwarding on.
    ///
    /// # Errors
    /// What could not be set up; then the host is as it was.
    pub(crate) async fn raise(settings: &HostSettings) -> Result<Self, HostError> {
        settings.check()?;
        let _turn = Turn::wait().await;
        check_nothing_in_the_way(settings).await?;
        if !sysctls::ipv6_is_on() {
            tracing::warn!("IPv6 is off on this host: the tunnel carries IPv4 only");
        }
        let firewall = Firewall::open(&settings.interface).await?;
        let known = leftovers::take_over(settings, &firewall).await;
        let record = Record::new(settings, sysctls::plan(known))?;
        record.store(settings)?;
        let network = Self {
            settings: settings.clone(),
            firewall,
            record,
            has_made_device: AtomicBool::new(false),
        };
        match network.put_in_force(Replace::Always).await {
            Ok(()) => Ok(network),
            Err(error) => {
                network.undo().await;
                Err(error)
            }
        }
    }

    /// Makes the TUN device with its addresses of `blank` devices, one per worker, and binds the UDP sockets.
    ///
    /// # Errors
    /// What could not be made.
    pub(crate) async fn open_tunnel(&self, blank: Vec<OwnedFd>) -> Result<TunnelIo, HostError> {
        let sockets = self.bind_when_free().await?;
        let device = tun::make(&self.settings, blank)?;
        self.has_made_device.store(true, Ordering::Relaxed);
        links::configure(&self.settings).await?;
        // Whoever flushed the table or the switches while the forwarder was away did not mean the tunnel.
        self.put_in_force(Replace::IfMissing).await?;
        Ok(TunnelIo {
            tun: device.queues,
            has_uso: device.has_uso,
            udp_v4: sockets.v4,
            udp_v6: sockets.v6,
        })
    }

    /// Leaves the host as it was before [`Network::raise`]. The forwarder must be gone.
    pub(crate) async fn lower(self) {
        let _turn = Turn::wait().await;
        self.undo().await;
    }

    async fn undo(&self) {
        if self.has_made_device.load(Ordering::Relaxed) {
            links::remove(&self.settings.interface).await;
        }
        leftovers::undo(&self.settings, &self.firewall, &self.record).await;
    }

    /// Puts table and switches in place where they are not, the table first, and looks whether they are.
    async fn put_in_force(&self, replace: Replace) -> Result<(), HostError> {
        let changes = &self.record.changes;
        if replace == Replace::Always || !self.firewall.is_installed().await {
            self.firewall.install(&self.settings, changes).await?;
        }
        sysctls::apply(changes)?;
        if !self.firewall.is_installed().await {
            return Err(HostError::NotInForce(format!("table inet {}", self.firewall.table())));
        }
        sysctls::first_off().map_or(Ok(()), |key| Err(HostError::NotInForce(key)))
    }

    /// Binds the sockets, giving a forwarder that just died a moment for its device and its sockets to go.
    async fn bind_when_free(&self) -> Result<UdpSockets, HostError> {
        let polls = DESCRIPTORS_GO_WITHIN.as_millis() / POLL.as_millis();
        for _ in 0..polls {
            match self.bind().await {
                Err(HostError::InterfaceExists(_) | HostError::PortTaken(_)) => {}
                outcome => return outcome,
            }
            tokio::time::sleep(POLL).await;
        }
        self.bind().await
    }

    async fn bind(&self) -> Result<UdpSockets, HostError> {
        let settings = &self.settings;
        if links::exists(&settings.interface).await? {
            return Err(HostError::InterfaceExists(settings.interface.clone()));
        }
        sockets::bind(&settings.listen, settings.workers)
    }
}
