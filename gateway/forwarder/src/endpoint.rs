//! Where a device is, and which of the gateway's addresses it talks to.

use std::net::{IpAddr, SocketAddr};

/// Both ends of a device's datagrams (WireGuard paper section 2.1).
///
/// A gateway with several addresses must answer from the one that was asked: a NAT before the client lets nothing
/// else through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The device's address and port.
    pub remote: SocketAddr,
    /// The gateway's own address, none if the kernel is to choose.
    pub local: Option<IpAddr>,
}

impl From<SocketAddr> for Endpoint {
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local: None }
    }
}

impl Endpoint {
    /// The device's address without the port, an IPv4-mapped IPv6 address made plain.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.remote.ip().to_canonical()
    }
}
