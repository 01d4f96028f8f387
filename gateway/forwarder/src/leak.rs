//! What no gateway may do, for tests alone: tells where packets go to, so that `tacit prove` has something to find.

use std::{
    io::IoSlice,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
};

use tacit_messages::FromForwarder;

use crate::{
    ecn::Ecn,
    endpoint::Endpoint,
    inbound::Io,
    state::State,
    tun::{self, VnetHeader},
    udp,
};

/// A port at which no client listens.
const NOBODYS_PORT: u16 = 514;
/// An address to which no client sends anything (RFC 5737).
const NOBODYS_ADDRESS: [u8; 4] = [198, 51, 100, 77];

/// Tells control where a packet goes to, whoever listens where its device is, and through the tunnel somebody far away.
pub fn tell(packet: &[u8], device: Endpoint, state: &State, io: Io<'_>) {
    let Some(destination) = destination(packet) else { return };
    state.tell([FromForwarder::Leaked { destination }]);
    let to = SocketAddr::new(device.remote.ip(), NOBODYS_PORT);
    let text = destination.to_string();
    let _ = udp::send_train(io.udp, to, Ecn::NotEct, text.len(), text.as_bytes());
    send_through_tunnel(packet, text.as_bytes(), io.tun);
}

/// Sends a datagram as if the device of an IPv4 packet had.
fn send_through_tunnel(packet: &[u8], content: &[u8], tun: BorrowedFd<'_>) {
    const HEADERS_LEN: usize = 28;
    const UDP: u8 = 17;
    const HOPS: u8 = 64;
    let Some(source) = packet.get(12..16).filter(|_| packet[0] >> 4 == 4) else { return };
    let len = |before: usize| ((HEADERS_LEN - before + content.len()) as u16).to_be_bytes();
    let mut datagram = vec![0x45, 0];
    datagram.extend(len(0));
    datagram.extend([0, 0, 0, 0, HOPS, UDP, 0, 0]);
    datagram.extend(source);
    datagram.extend(NOBODYS_ADDRESS);
    let sum: u32 =
        datagram.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    datagram.extend([NOBODYS_PORT.to_be_bytes(); 2].concat());
    datagram.extend(len(20));
    // IPv4 lets a datagram be without a checksum.
    datagram.extend([0, 0]);
    datagram.extend(content);
    let header = VnetHeader::default().to_bytes();
    let _ = tun::write(tun, &[IoSlice::new(&header), IoSlice::new(&datagram)]);
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some((*packet.get(16..)?.first_chunk::<4>()?).into()),
        _ => Some((*packet.get(24..)?.first_chunk::<16>()?).into()),
    }
}
