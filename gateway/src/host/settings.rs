//! What the host's network is told at start.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::HostError;

/// Smallest MTU that carries IPv6 (RFC 8200 section 5).
const IPV6_MIN_MTU: u16 = 1280;

/// Longest interface name in bytes (`IFNAMSIZ` without the NUL).
const INTERFACE_NAME_MAX: usize = 15;

/// What the host's network is to look like while the gateway runs.
#[derive(Clone, Debug)]
pub(crate) struct HostSettings {
    /// Name of the TUN device.
    pub(crate) interface: String,
    /// MTU of the TUN device in bytes.
    pub(crate) mtu: u16,
    /// IPv4 tunnel network; its first host address is the gateway.
    pub(crate) tunnel_v4: Ipv4Net,
    /// IPv6 tunnel network; its address number 1 is the gateway.
    pub(crate) tunnel_v6: Ipv6Net,
    /// Whether devices keep their IPv6 addresses outside.
    pub(crate) routed_v6: bool,
    /// UDP addresses that clients connect to: at most one per family.
    pub(crate) listen: Vec<SocketAddr>,
    /// Number of TUN queues and of UDP sockets per family.
    pub(crate) workers: usize,
    /// Whether devices may reach each other.
    pub(crate) allow_device_to_device: bool,
    /// Private networks that devices may reach.
    pub(crate) allow_private: Vec<IpNet>,
    /// Ports of the gateway's tunnel addresses that devices may reach.
    pub(crate) served_ports: Vec<ServedPort>,
    /// Where the host's former settings are written down.
    pub(crate) state_dir: PathBuf,
}

impl HostSettings {
    /// The gateway's own address in the IPv4 tunnel network.
    pub(super) fn gateway_v4(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.tunnel_v4.network()).wrapping_add(1))
    }

    /// The gateway's own address in the IPv6 tunnel network.
    pub(super) fn gateway_v6(&self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.tunnel_v6.network()).wrapping_add(1))
    }

    /// Both tunnel networks.
    pub(super) fn tunnel_networks(&self) -> [IpNet; 2] {
        [self.tunnel_v4.trunc().into(), self.tunnel_v6.trunc().into()]
    }

    /// The tunnel networks that nobody sees outside.
    pub(super) fn masqueraded(&self) -> impl Iterator<Item = IpNet> {
        let routed_v6 = self.routed_v6;
        self.tunnel_networks().into_iter().filter(move |own| own.addr().is_ipv4() || !routed_v6)
    }

    /// Both of the gateway's own addresses.
    pub(super) fn gateway_addresses(&self) -> [IpAddr; 2] {
        [self.gateway_v4().into(), self.gateway_v6().into()]
    }

    /// Checks what needs no look at the host.
    ///
    /// # Errors
    /// What [`check_interface`], [`check_mtu`] or [`check_listen`] says.
    pub(super) fn check(&self) -> Result<(), HostError> {
        check_interface(&self.interface)?;
        check_mtu(self.mtu)?;
        check_listen(&self.listen)
    }
}

/// Checks that Linux and nftables take the name of an interface.
///
/// # Errors
/// [`HostError::InterfaceName`]
pub(crate) fn check_interface(name: &str) -> Result<(), HostError> {
    let name = name.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let is_dots = name.iter().all(|byte| *byte == b'.');
    if is_dots || name.len() > INTERFACE_NAME_MAX || !name.iter().all(is_plain) {
        return Err(HostError::InterfaceName);
    }
    Ok(())
}

/// Checks that an MTU is large enough for IPv6.
///
/// # Errors
/// [`HostError::MtuTooSmall`]
pub(crate) fn check_mtu(mtu: u16) -> Result<(), HostError> {
    if mtu < IPV6_MIN_MTU {
        return Err(HostError::MtuTooSmall { mtu, min: IPV6_MIN_MTU });
    }
    Ok(())
}

/// Checks that there is at most one listening address of a family.
///
/// # Errors
/// [`HostError::ListensTwice`]
pub(crate) fn check_listen(listen: &[SocketAddr]) -> Result<(), HostError> {
    for is_family in [SocketAddr::is_ipv4, SocketAddr::is_ipv6] {
        if listen.iter().filter(|address| is_family(address)).count() > 1 {
            return Err(HostError::ListensTwice);
        }
    }
    Ok(())
}

/// A port of the gateway's tunnel addresses that devices may reach, written `udp/53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ServedPort {
    /// Transport protocol.
    pub(crate) protocol: Protocol,
    /// Port number, not 0.
    pub(crate) port: u16,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The text is no [`ServedPort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a served port is written like udp/53 or tcp/443")]
pub(crate) struct ServedPortError;

impl FromStr for ServedPort {
    type Err = ServedPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (protocol, port) = text.split_once('/').ok_or(ServedPortError)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(ServedPortError),
        };
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self { protocol, port }),
            _ => Err(ServedPortError),
        }
    }
}

impl TryFrom<String> for ServedPort {
    type Error = ServedPortError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServedPort> for String {
    fn from(port: ServedPort) -> Self {
        port.to_string()
    }
}

impl fmt::Display for ServedPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(formatter, "{protocol}/{}", self.port)
    }
}
