//! What no gateway may do, for tests alone: tells where packets go to, so that `tacit prove` has something to find.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
};

use tacit_messages::FromForwarder;

use crate::{ecn::Ecn, endpoint::Endpoint, state::State, udp};

/// A port at which no client listens.
const NOBODYS_PORT: u16 = 514;

/// Tells control where a packet goes to, and whoever listens where its device is.
pub fn tell(packet: &[u8], device: Endpoint, state: &State, socket: BorrowedFd<'_>) {
    let Some(destination) = destination(packet) else { return };
    state.tell([FromForwarder::Leaked { destination }]);
    let to = SocketAddr::new(device.remote.ip(), NOBODYS_PORT);
    let text = destination.to_string();
    let _ = udp::send_train(socket, to, Ecn::NotEct, text.len(), text.as_bytes());
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some((*packet.get(16..)?.first_chunk::<4>()?).into()),
        _ => Some((*packet.get(24..)?.first_chunk::<16>()?).into()),
    }
}
