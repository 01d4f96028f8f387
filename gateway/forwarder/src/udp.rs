//! UDP in batches: recvmmsg with `UDP_GRO` in, one sendmsg with `UDP_SEGMENT` for a train of datagrams out.
//!
//! Control messages carry the segment size and the ECN field, which is why this is raw libc: rustix has no
//! recvmmsg, and per-datagram wrappers cost a tenth of the throughput.
#![expect(unsafe_code, reason = "recvmmsg and control messages have no safe binding")]

use std::{
    io,
    mem::{MaybeUninit, size_of, zeroed},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use crate::{ecn::Ecn, endpoint::Endpoint};

/// Datagrams, or trains of them, that one call can receive.
pub const BATCH: usize = 16;
/// Room for the longest train that the kernel hands over at once.
const BUFFER_LEN: usize = 65_536;
/// Room for three control messages: segment size, ECN, local address.
const CONTROL_LEN: usize = 128;

/// Turns on what [`Batch`] and [`send_train`] need on `socket`.
///
/// # Errors
/// What the kernel said.
pub fn prepare(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    if is_v6(socket)? {
        set_option(socket, libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        set_option(socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        set_option(socket, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
    } else {
        set_option(socket, libc::SOL_IP, libc::IP_RECVTOS, 1)?;
        set_option(socket, libc::SOL_IP, libc::IP_PKTINFO, 1)?;
        set_option(socket, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    }
}

fn is_v6(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut domain: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to live variables of the length given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut len,
        )
    };
    check(result)?;
    Ok(domain == libc::AF_INET6)
}

fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer is to a live variable of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    check(result)
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_LEN]);

/// Buffers for one recvmmsg, allocated once.
pub struct Batch {
    buffers: Vec<u8>,
    names: Box<[libc::sockaddr_storage; BATCH]>,
    controls: Box<[Control; BATCH]>,
    lens: [u32; BATCH],
    control_lens: [usize; BATCH],
    /// The most that each buffer received since it was wiped.
    used: [u32; BATCH],
}

/// What one slot of a [`Batch`] received: datagrams of one sender, all `segment_len` long but the last.
pub struct Received<'a> {
    /// Where they came from, and to which address.
    pub endpoint: Endpoint,
    /// The ECN field of their outer headers.
    pub ecn: Ecn,
    /// Length of each datagram in bytes, but for the last, which may be shorter.
    pub segment_len: usize,
    /// The datagrams, one after another.
    pub bytes: &'a mut [u8],
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            buffers: vec![0; BATCH * BUFFER_LEN],
            // SAFETY: sockaddr_storage is plain data, for which zeros are valid.
            names: Box::new(unsafe { zeroed() }),
            controls: Box::new([Control([0; CONTROL_LEN]); BATCH]),
            lens: [0; BATCH],
            control_lens: [0; BATCH],
            used: [0; BATCH],
        }
    }
}

impl Batch {
    /// Receives what is there, at most [`BATCH`] trains, without waiting; returns how many.
    ///
    /// # Errors
    /// What the kernel said; `WouldBlock` if nothing is there.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut iovecs: [MaybeUninit<libc::iovec>; BATCH] = [MaybeUninit::uninit(); BATCH];
        let mut headers: [MaybeUninit<libc::mmsghdr>; BATCH] =
            [const { MaybeUninit::uninit() }; BATCH];
        for (n, header) in headers.iter_mut().enumerate() {
            let iovec = iovecs[n].write(libc::iovec {
                iov_base: self.buffers[n * BUFFER_LEN..].as_mut_ptr().cast(),
                iov_len: BUFFER_LEN,
            });
            // SAFETY: mmsghdr is plain data, for which zeros are valid.
            let header = header.write(unsafe { zeroed() });
            header.msg_hdr.msg_name = (&raw mut self.names[n]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut self.controls[n]).cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN;
        }
        // SAFETY: each header points to a buffer, a name and a control buffer of the lengths given, which
        // `self` owns and nobody else uses during the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        check(received)?;
        for (n, header) in headers.iter().enumerate().take(received as usize) {
            // SAFETY: all headers were written above, and the kernel filled this one.
            let header = unsafe { header.assume_init_ref() };
            self.lens[n] = header.msg_len;
            self.used[n] = self.used[n].max(header.msg_len);
            self.control_lens[n] = header.msg_hdr.msg_controllen;
        }
        Ok(received as usize)
    }

    /// What slot `n` received in the last call; none if its sender has no IP address.
    pub fn slot(&mut self, n: usize) -> Option<Received<'_>> {
        let remote = socket_addr(&self.names[n])?;
        let len = (self.lens[n] as usize).min(BUFFER_LEN);
        let mut segment_len = len.max(1);
        let mut ecn = Ecn::NotEct;
        let mut local = None;
        for (level, kind, data) in ControlMessages::of(&self.controls[n].0, self.control_lens[n]) {
            match (level, kind, data) {
                (libc::SOL_UDP, libc::UDP_GRO, [a, b, c, d, ..]) => {
                    segment_len = (u32::from_ne_bytes([*a, *b, *c, *d]) as usize).max(1);
                }
                (libc::SOL_IP, libc::IP_TOS, [tos, ..])
                | (libc::SOL_IPV6, libc::IPV6_TCLASS, [tos, ..]) => ecn = Ecn::of_tos(*tos),
                (libc::SOL_IP, libc::IP_PKTINFO, info) => {
                    local = info
                        .get(8..)
                        .and_then(<[u8]>::first_chunk)
                        .map(|v4: &[u8; 4]| (*v4).into());
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO, info) => {
                    local = info.first_chunk().map(|v6: &[u8; 16]| (*v6).into());
                }
                _ => {}
            }
        }
        let bytes = &mut self.buffers[n * BUFFER_LEN..n * BUFFER_LEN + len];
        Some(Received { endpoint: Endpoint { remote, local }, ecn, segment_len, bytes })
    }

    /// Overwrites all that was received.
    pub fn wipe(&mut self) {
        for (buffer, used) in self.buffers.chunks_exact_mut(BUFFER_LEN).zip(&mut self.used) {
            buffer[..(*used as usize).min(BUFFER_LEN)].fill(0);
            *used = 0;
        }
        // SAFETY: sockaddr_storage is plain data, for which zeros are valid.
        self.names.fill(unsafe { zeroed() });
        self.controls.fill(Control([0; CONTROL_LEN]));
    }
}

/// Walks the control messages of one received message: level, kind, data.
struct ControlMessages<'a>(&'a [u8]);

impl<'a> ControlMessages<'a> {
    fn of(buffer: &'a [u8; CONTROL_LEN], len: usize) -> Self {
        Self(&buffer[..len.min(CONTROL_LEN)])
    }
}

const HEADER_LEN: usize = size_of::<libc::cmsghdr>();

impl<'a> Iterator for ControlMessages<'a> {
    type Item = (i32, i32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.first_chunk::<HEADER_LEN>()?;
        // SAFETY: cmsghdr is plain data, and the array is as long as it; it need not be aligned.
        let header: libc::cmsghdr = unsafe { ptr::read_unaligned(header.as_ptr().cast()) };
        let data = self.0.get(HEADER_LEN..header.cmsg_len)?;
        let next = header.cmsg_len.next_multiple_of(size_of::<usize>()).min(self.0.len());
        self.0 = &self.0[next..];
        Some((header.cmsg_level, header.cmsg_type, data))
    }
}

fn socket_addr(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let name = ptr::from_ref(name);
    // SAFETY: a sockaddr_storage is as long and as aligned as every socket address, and the family tells
    // which of them the kernel wrote.
    unsafe {
        match i32::from((*name).ss_family) {
            libc::AF_INET => {
                let v4 = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some((ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let v6 = &*name.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddr::V6(std::net::SocketAddrV6::new(
                    ip,
                    u16::from_be(v6.sin6_port),
                    0,
                    v6.sin6_scope_id,
                )))
            }
            _ => None,
        }
    }
}

/// A socket address as the kernel wants it.
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

fn name_of(address: SocketAddr) -> (Name, usize) {
    match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            (Name { v4: name }, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            (Name { v6: name }, size_of::<libc::sockaddr_in6>())
        }
    }
}

/// Sends `bytes` as datagrams of `segment_len`, the last maybe shorter, with one call, from the address that the
/// device talks to as long as the gateway has it.
///
/// # Errors
/// What the kernel said; nothing was sent then. `EIO` and `EINVAL` mean that the route cannot segment.
pub fn send_train(
    socket: BorrowedFd<'_>,
    to: impl Into<Endpoint>,
    ecn: Ecn,
    segment_len: usize,
    bytes: &[u8],
) -> io::Result<()> {
    let to = to.into();
    match send_once(socket, to, ecn, segment_len, bytes) {
        Err(error)
            if to.local.is_some()
                && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENETUNREACH)) =>
        {
            send_once(socket, to.remote.into(), ecn, segment_len, bytes)
        }
        outcome => outcome,
    }
}

fn send_once(
    socket: BorrowedFd<'_>,
    to: Endpoint,
    ecn: Ecn,
    segment_len: usize,
    bytes: &[u8],
) -> io::Result<()> {
    let (mut name, name_len) = name_of(to.remote);
    let mut iovec =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; CONTROL_LEN]);
    let mut control_len = 0;
    if segment_len < bytes.len() {
        let segment = (segment_len as u16).to_ne_bytes();
        control_len += put_control(&mut control.0, libc::SOL_UDP, libc::UDP_SEGMENT, &segment);
    }
    if ecn != Ecn::NotEct {
        let (level, kind) = match to.remote {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TCLASS),
        };
        let tos = i32::from(ecn as u8).to_ne_bytes();
        control_len += put_control(&mut control.0[control_len..], level, kind, &tos);
    }
    if let Some(local) = to.local {
        control_len += put_local(&mut control.0[control_len..], local);
    }
    // SAFETY: msghdr is plain data, for which zeros are valid.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = name_len as libc::socklen_t;
    header.msg_iov = &raw mut iovec;
    header.msg_iovlen = 1;
    if control_len > 0 {
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = control_len;
    }
    // SAFETY: the header points to live buffers of the lengths given; sendmsg only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes the address to send from (`in_pktinfo`, `in6_pktinfo`), the interface left to the kernel.
fn put_local(buffer: &mut [u8], local: IpAddr) -> usize {
    match local {
        IpAddr::V4(v4) => {
            let mut info = [0; size_of::<libc::in_pktinfo>()];
            info[4..8].copy_from_slice(&v4.octets());
            put_control(buffer, libc::SOL_IP, libc::IP_PKTINFO, &info)
        }
        IpAddr::V6(v6) => {
            let mut info = [0; size_of::<libc::in6_pktinfo>()];
            info[..16].copy_from_slice(&v6.octets());
            put_control(buffer, libc::SOL_IPV6, libc::IPV6_PKTINFO, &info)
        }
    }
}

/// Writes one control message to the start of `buffer`; returns the room that it takes.
fn put_control(buffer: &mut [u8], level: i32, kind: i32, data: &[u8]) -> usize {
    let len = HEADER_LEN + data.len();
    buffer[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
    buffer[8..12].copy_from_slice(&level.to_ne_bytes());
    buffer[12..16].copy_from_slice(&kind.to_ne_bytes());
    buffer[HEADER_LEN..len].copy_from_slice(data);
    len.next_multiple_of(size_of::<usize>())
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd};

    use super::*;

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind(address).expect("bind");
        prepare(receiver.as_fd()).expect("options");
        let sender = UdpSocket::bind(address).expect("bind");
        (sender, receiver)
    }

    fn train_arrives(address: &str) {
        let (sender, receiver) = pair(address);
        let bytes: Vec<u8> = (0..3_500u32).map(|n| n as u8).collect();
        let to = receiver.local_addr().expect("address");
        send_train(sender.as_fd(), to, Ecn::Ce, 1_000, &bytes).expect("send");
        let mut batch = Batch::default();
        let mut datagrams = Vec::new();
        for n in 0..batch.receive(receiver.as_fd()).expect("receive") {
            let received = batch.slot(n).expect("source");
            assert_eq!(received.endpoint.remote, sender.local_addr().expect("address"));
            assert_eq!(received.ecn, Ecn::Ce);
            datagrams.extend(received.bytes.chunks(received.segment_len).map(<[u8]>::to_vec));
        }
        assert_eq!(datagrams.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 1000, 500]);
        assert_eq!(datagrams.concat(), bytes);
    }

    #[test]
    fn train_keeps_its_datagrams_and_ecn_over_ipv4() {
        train_arrives("127.0.0.1:0");
    }

    #[test]
    fn train_keeps_its_datagrams_and_ecn_over_ipv6() {
        train_arrives("[::1]:0");
    }

    #[test]
    fn answer_comes_from_the_address_that_was_asked() {
        let gateway = UdpSocket::bind("0.0.0.0:0").expect("bind");
        prepare(gateway.as_fd()).expect("options");
        let port = gateway.local_addr().expect("address").port();
        let device = UdpSocket::bind("127.0.0.1:0").expect("bind");
        device.send_to(b"ask", ("127.0.0.77", port)).expect("send");
        let mut batch = Batch::default();
        batch.receive(gateway.as_fd()).expect("receive");
        let endpoint = batch.slot(0).expect("source").endpoint;
        send_train(gateway.as_fd(), endpoint, Ecn::NotEct, 6, b"answer").expect("send");
        let (_, from) = device.recv_from(&mut [0; 16]).expect("answer");
        assert_eq!(from, (Ipv4Addr::new(127, 0, 0, 77), port).into());
    }

    #[test]
    fn answer_goes_out_although_the_address_that_was_asked_is_gone() {
        let (gateway, device) = pair("127.0.0.1:0");
        let endpoint = Endpoint {
            remote: device.local_addr().expect("address"),
            local: Some(Ipv4Addr::new(192, 0, 2, 99).into()),
        };
        send_train(gateway.as_fd(), endpoint, Ecn::NotEct, 6, b"answer").expect("send");
        assert_eq!(device.recv(&mut [0; 16]).expect("answer"), 6);
    }

    #[test]
    fn empty_datagram_is_received_as_such() {
        let (sender, receiver) = pair("127.0.0.1:0");
        sender.send_to(&[], receiver.local_addr().expect("address")).expect("send");
        let mut batch = Batch::default();
        assert_eq!(batch.receive(receiver.as_fd()).expect("receive"), 1);
        assert!(batch.slot(0).expect("source").bytes.is_empty());
    }
}
