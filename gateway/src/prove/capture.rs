//! What comes out of the gateway at the far ends of its wires, packet by packet.
#![expect(unsafe_code, reason = "to listen at one interface has no safe binding")]

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType,
    netdevice::name_to_index,
    recv, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use super::{namespace::Namespace, traffic::Transport, wires::FAR_END};

/// How long the listener waits before it looks whether it is to stop.
const TICK: Duration = Duration::from_millis(100);
/// Longer than any packet that a wire carries.
const LONGEST: usize = 1 << 16;
/// EtherTypes of IPv4 and IPv6.
const PROTOCOLS: [u16; 2] = [0x0800, 0x86dd];

/// Listens to all IP packets that come to the far end of a wire. It stops when dropped.
pub(super) struct Capture {
    packets: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
}

impl Capture {
    /// Starts to listen.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn start(far: &Namespace) -> anyhow::Result<Self> {
        let capture = Self { packets: Arc::default(), stop: Arc::default() };
        for protocol in PROTOCOLS {
            let socket = far.within(|| Ok(open(protocol)?)).context("listening at a wire")?;
            let (packets, stop) = (Arc::clone(&capture.packets), Arc::clone(&capture.stop));
            thread::spawn(move || listen(&socket, &packets, &stop));
        }
        Ok(capture)
    }

    /// What no exchange accounts for of all that came, in words and each once; `expected` is where packets may go to.
    pub(super) fn strays(&self, expected: &BTreeSet<(Transport, SocketAddr)>) -> BTreeSet<String> {
        self.packets.lock().iter().filter_map(|packet| stray(packet, expected)).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A socket for what comes in of a protocol; one for all protocols would also have what goes out.
fn open(protocol: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    // SAFETY: all-zero bytes are an address of this type.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = name_to_index(&socket, FAR_END)?.cast_signed();
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is alive and as long as said.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    set_socket_timeout(&socket, Timeout::Recv, Some(TICK))?;
    Ok(socket)
}

fn listen(socket: &OwnedFd, packets: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    let mut buffer = vec![0; LONGEST];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, _)) = recv(socket, &mut buffer[..], RecvFlags::empty()) {
            packets.lock().push(buffer[..len].to_vec());
        }
    }
}

/// What a packet is, if neither an exchange nor the kernel at the near end accounts for it.
fn stray(packet: &[u8], expected: &BTreeSet<(Transport, SocketAddr)>) -> Option<String> {
    let Some(header) = Header::read(packet) else { return Some("what is no IP packet".into()) };
    let Header { protocol, to, rest, .. } = header;
    let port = rest.get(2..4).and_then(<[u8]>::first_chunk).map(|port| u16::from_be_bytes(*port));
    let transport = match protocol {
        TCP => Some(Transport::Tcp),
        UDP => Some(Transport::Udp),
        _ => None,
    };
    let sent = transport.zip(port).map(|(transport, port)| (transport, SocketAddr::new(to, port)));
    if sent.is_some_and(|sent| expected.contains(&sent)) || header.is_kernels() {
        return None;
    }
    Some(match sent {
        Some((transport, to)) => format!("{} to {to}", transport.name()),
        None => format!("protocol {protocol} to {to}"),
    })
}

/// Protocols above IP.
const HOP_BY_HOP: u8 = 0;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What a packet says of itself.
struct Header<'a> {
    protocol: u8,
    /// How many more hops it may make.
    hops: u8,
    to: IpAddr,
    /// What follows.
    rest: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads it; of a piece of a packet the protocol is said to be none that is expected.
    fn read(packet: &'a [u8]) -> Option<Self> {
        const V6_LEN: usize = 40;
        const NO_PROTOCOL: u8 = 255;
        match packet.first()? >> 4 {
            4 => {
                let len = usize::from(packet[0] & 0xf) * 4;
                let piece = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x1fff;
                let protocol = if piece == 0 { *packet.get(9)? } else { NO_PROTOCOL };
                let to = Ipv4Addr::from(*packet.get(16..)?.first_chunk()?);
                Some(Self { protocol, hops: packet[8], to: to.into(), rest: packet.get(len..)? })
            }
            6 => {
                let to = Ipv6Addr::from(*packet.get(24..)?.first_chunk()?);
                let (mut protocol, mut rest) = (packet[6], packet.get(V6_LEN..)?);
                if protocol == HOP_BY_HOP {
                    protocol = *rest.first()?;
                    rest = rest.get((usize::from(*rest.get(1)?) + 1) * 8..)?;
                }
                Some(Self { protocol, hops: packet[7], to: to.into(), rest })
            }
            _ => None,
        }
    }

    /// Whether the kernel at the other end of the wire says who is there and what it listens to. Each hop count is one with which
    /// no packet comes through a gateway.
    fn is_kernels(&self) -> bool {
        const NEIGHBOURS: std::ops::RangeInclusive<u8> = 133..=137;
        const LISTENERS: [u8; 4] = [130, 131, 132, 143];
        let Some(kind) = self.rest.first() else { return false };
        match (self.protocol, self.hops) {
            (ICMPV6, 255) => NEIGHBOURS.contains(kind),
            (ICMPV6, 1) => LISTENERS.contains(kind) && self.to.is_multicast(),
            (IGMP, 1) => self.to.is_multicast(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, hops: u8, to: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let header = [0x45, 0, 0, 0, 0, 0, 0, 0, hops, protocol, 0, 0, 192, 0, 2, 1];
        [&header[..], &to, rest].concat()
    }

    fn v6(next: u8, hops: u8, to: &str, rest: &[u8]) -> Vec<u8> {
        let to: Ipv6Addr = to.parse().unwrap();
        [&[0x60, 0, 0, 0, 0, 0, next, hops][..], &[0; 16], &to.octets(), rest].concat()
    }

    fn is_stray(packet: &[u8]) -> bool {
        let to = |to: &str| to.parse().unwrap();
        let expected = BTreeSet::from([
            (Transport::Udp, to("203.0.113.9:53")),
            (Transport::Tcp, to("[2001:db8::9]:443")),
        ]);
        stray(packet, &expected).is_some()
    }

    #[test]
    fn packet_that_is_no_exchanges_is_a_stray() {
        let port = |port: u16| [&[0x10, 0][..], &port.to_be_bytes()].concat();
        let (ours, others) = ([203, 0, 113, 9], [203, 0, 113, 8]);
        assert!(!is_stray(&v4(UDP, 63, ours, &port(53))));
        assert!(!is_stray(&v6(TCP, 63, "2001:db8::9", &port(443))));
        assert!(is_stray(&v4(UDP, 63, ours, &port(54))), "another port");
        assert!(is_stray(&v4(TCP, 63, ours, &port(53))), "another protocol");
        assert!(is_stray(&v4(UDP, 63, others, &port(53))), "another address");
        assert!(is_stray(&v4(1, 63, ours, &[8, 0, 0, 53])), "ICMP");
        let mut piece = v4(UDP, 63, ours, &port(53));
        piece[7] = 1;
        assert!(is_stray(&piece), "a piece");
        assert!(is_stray(&[]));
        assert!(is_stray(&[0x60; 39]));
    }

    #[test]
    fn what_the_kernel_says_to_its_neighbours_is_none_and_comes_through_no_gateway() {
        assert!(!is_stray(&v6(ICMPV6, 255, "ff02::1:ff00:9", &[135, 0, 0, 0])));
        assert!(is_stray(&v6(ICMPV6, 254, "2001:db8::9", &[135, 0, 0, 0])));
        let listener = [ICMPV6, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0];
        assert!(!is_stray(&v6(HOP_BY_HOP, 1, "ff02::16", &listener)));
        assert!(is_stray(&v6(HOP_BY_HOP, 63, "ff02::16", &listener)));
        assert!(is_stray(&v6(ICMPV6, 255, "2001:db8::9", &[128, 0, 0, 0])), "an echo request");
        assert!(!is_stray(&v4(IGMP, 1, [224, 0, 0, 22], &[0x22, 0, 0, 0])));
    }
}
