//! A thread that carries packets: it owns one TUN queue, one UDP socket per family and its buffers, and takes
//! each packet all the way.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::event::{PollFd, PollFlags, poll};
use tacit_messages::clock::Instant;

use crate::{
    inbound::{self, Inbound},
    outbound::{self, Outbound},
    state::State,
};

/// A worker's descriptors. A family without a socket is none.
pub struct WorkerIo {
    /// TUN queue.
    pub tun: OwnedFd,
    /// UDP socket of the IPv4 endpoints.
    pub udp_v4: Option<OwnedFd>,
    /// UDP socket of the IPv6 endpoints.
    pub udp_v6: Option<OwnedFd>,
}

impl WorkerIo {
    /// The descriptors as the outbound half uses them.
    #[must_use]
    pub fn outbound(&self) -> outbound::Io<'_> {
        outbound::Io {
            tun: self.tun.as_fd(),
            udp_v4: self.udp_v4.as_ref().map(AsFd::as_fd),
            udp_v6: self.udp_v6.as_ref().map(AsFd::as_fd),
        }
    }
}

/// Carries packets until the process ends.
pub fn run(number: usize, io: &WorkerIo, uso: bool, state: &Arc<State>) {
    let counters = &state.counters[number];
    let mut inbound = Inbound::new(uso);
    let mut outbound = Outbound::default();
    let tun = io.tun.as_fd();
    let sockets: Vec<BorrowedFd<'_>> =
        [&io.udp_v4, &io.udp_v6].into_iter().flatten().map(AsFd::as_fd).collect();
    let mut ready: Vec<PollFd<'_>> = sockets
        .iter()
        .chain([&tun])
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    loop {
        if poll(&mut ready, None).is_err() {
            continue;
        }
        let now = Instant::now();
        for (socket, ready) in sockets.iter().zip(&ready) {
            if !ready.revents().is_empty() {
                inbound.turn(inbound::Io { udp: *socket, tun }, state, counters, now);
            }
        }
        let tun_ready = ready.last().map_or(PollFlags::empty(), PollFd::revents);
        // Without its device this process is of no use: control makes a new one.
        assert!(!tun_ready.intersects(PollFlags::ERR | PollFlags::NVAL), "the TUN device is gone");
        if !tun_ready.is_empty() {
            outbound.turn(io.outbound(), state, counters, now);
        }
    }
}
