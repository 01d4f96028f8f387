//! The UDP sockets that clients send to.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::{Domain, Protocol, Socket, Type};

use super::HostError;

/// Kernel buffer in each direction of each socket.
const BUFFER_BYTES: usize = 4 << 20;

/// One socket per worker and family; a family that is not listened on has none.
#[derive(Debug, Default)]
pub(super) struct UdpSockets {
    /// Bound to the IPv4 address.
    pub(super) v4: Vec<OwnedFd>,
    /// Bound to the IPv6 address; takes no IPv4.
    pub(super) v6: Vec<OwnedFd>,
}

/// Checks that every address can be bound by nobody but us.
///
/// # Errors
/// [`HostError::PortTaken`] and its neighbours.
pub(super) fn probe(listen: &[SocketAddr]) -> Result<(), HostError> {
    let mut is_any_left = false;
    for address in listen {
        is_any_left |= probe_one(*address)?.is_some();
    }
    if is_any_left { Ok(()) } else { Err(HostError::NothingToListenOn) }
}

/// Binds `workers` sockets to each address; the kernel spreads clients over them.
///
/// # Errors
/// [`HostError::PortTaken`] and its neighbours.
pub(super) fn bind(listen: &[SocketAddr], workers: usize) -> Result<UdpSockets, HostError> {
    probe(listen)?;
    let mut sockets = UdpSockets::default();
    for asked in listen {
        let Some(address) = probe_one(*asked)? else { continue };
        let bound: io::Result<Vec<OwnedFd>> = (0..workers).map(|_| bind_shared(address)).collect();
        let bound = bound.map_err(|source| refusal(address, source))?;
        if address.is_ipv4() {
            sockets.v4 = bound;
        } else {
            sockets.v6 = bound;
        }
    }
    Ok(sockets)
}

/// Binds once without sharing: with `SO_REUSEPORT` alone, two gateways of one user would split the clients of one
/// port between them without a word. Returns the address with its port, none if the host has no such family.
fn probe_one(address: SocketAddr) -> Result<Option<SocketAddr>, HostError> {
    let bound = open(address).and_then(|socket| {
        socket.bind(&address.into())?;
        socket.local_addr()
    });
    match bound {
        Ok(bound) => Ok(bound.as_socket()),
        Err(error) if is_missing_family(&error) && address.ip().is_unspecified() => Ok(None),
        Err(error) => Err(refusal(address, error)),
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind_shared(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Only the initial user namespace may go beyond rmem_max and wmem_max; others get what these allow.
    if set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
    }
    if set_socket_send_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
        socket.set_send_buffer_size(BUFFER_BYTES)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn is_missing_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn refusal(address: SocketAddr, error: io::Error) -> HostError {
    if error.kind() == io::ErrorKind::AddrInUse {
        return HostError::PortTaken(address);
    }
    HostError::Listen { address, source: error }
}
