//! What can keep the gateway from the network, and how to mend it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

/// Why the host's network could not be set up: one line that says what and how to mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The process may not change the network.
    #[error("no permission to change the network: run as root or with --cap-add NET_ADMIN")]
    NoNetAdmin,
    /// There is no TUN driver to open.
    #[error(
        "/dev/net/tun is missing: run `modprobe tun`, or give the container --device /dev/net/tun"
    )]
    NoTunDevice,
    /// The TUN driver may not be opened.
    #[error(
        "/dev/net/tun may not be opened ({0}): run as root, or give the container --device /dev/net/tun"
    )]
    TunDeviceRefused(io::Error),
    /// The kernel would not make the TUN device or a queue of it.
    #[error("the kernel refused TUN device {interface}: {source}")]
    Tun {
        /// Name asked for.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The name is no interface name.
    #[error("`interface` must be 1 to 15 of the characters a-z, A-Z, 0-9, `_`, `-` and `.`")]
    InterfaceName,
    /// Somebody else has an interface of this name.
    #[error(
        "interface {0} exists already: stop what made it, or choose another name with --interface"
    )]
    InterfaceExists(String),
    /// The MTU does not carry IPv6.
    #[error("`mtu` is {mtu}, but IPv6 needs at least {min}")]
    MtuTooSmall {
        /// Asked for, in bytes.
        mtu: u16,
        /// Smallest possible, in bytes.
        min: u16,
    },
    /// An address of the host lies within a tunnel network.
    #[error(
        "tunnel network {network} is in use on this host: {interface} has {address}; choose another with {flag}"
    )]
    TunnelNetworkInUse {
        /// The tunnel network.
        network: IpNet,
        /// Interface with the address.
        interface: String,
        /// Address within the network.
        address: IpAddr,
        /// Setting to change.
        flag: &'static str,
    },
    /// More than one listening address of a family.
    #[error("`listen` takes one IPv4 and one IPv6 address; use 0.0.0.0 and [::] to listen on all")]
    ListensTwice,
    /// Another socket has the UDP port.
    #[error("UDP port {} of {} is taken: stop what listens there, or choose another with --listen", .0.port(), .0.ip())]
    PortTaken(SocketAddr),
    /// The listening address cannot be used.
    #[error("cannot listen on UDP {address}: {source}; give an address of this host with --listen")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No listening address is left.
    #[error("nothing to listen on: this host has no IPv6; give an IPv4 address with --listen")]
    NothingToListenOn,
    /// Forwarding is off and cannot be switched on.
    #[error(
        "{key} is {value} and cannot be changed here ({source}): set {key}=1 from outside (`sysctl -w`, or --sysctl for a container)"
    )]
    Forwarding {
        /// The sysctl.
        key: String,
        /// Its value.
        value: String,
        /// What the kernel said.
        source: nlink::Error,
    },
    /// The kernel has no nftables.
    #[error(
        "the kernel has no nftables ({0}): run `modprobe -a nf_tables nft_ct nft_masq nft_chain_nat nft_fib_inet`"
    )]
    NoNftables(nlink::Error),
    /// The kernel refused the firewall table.
    #[error(
        "nftables refused table inet {table} ({source}): the kernel needs nf_tables with conntrack, masquerade and fib, `modprobe -a nft_ct nft_masq nft_chain_nat nft_fib_inet`"
    )]
    Firewall {
        /// Name of the table.
        table: String,
        /// What the kernel said.
        source: nlink::Error,
    },
    /// An interface or address could not be set up.
    #[error("setting up interface {interface}: {source}")]
    Link {
        /// Name of the interface.
        interface: String,
        /// What the kernel said.
        source: nlink::Error,
    },
    /// What is changed on the host could not be written down first.
    #[error("cannot write {path} ({source}): the data directory must be writable")]
    Record {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something was undone by somebody else right after it was set up.
    #[error(
        "{0} did not stay as set up: look for another program that manages this host's network"
    )]
    NotInForce(String),
}
