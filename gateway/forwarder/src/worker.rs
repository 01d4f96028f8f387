//! A thread that carries packets: it owns one TUN queue, one UDP socket per family and its buffers, and takes
//! each packet all the way.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tacit_messages::clock::Instant;

use crate::{
    counters::Counters,
    inbound::{self, Inbound},
    outbound::{self, Outbound},
    state::State,
    wiping,
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

/// Turns in a row that found packets waiting, after which the worker counts as under load.
const LOADED_STREAK: u32 = 16;
/// How long a worker under load that has carried everything lets packets gather. A wake-up costs as much as
/// several packets do, so under load fewer and larger turns carry more; an idle worker never waits.
const GATHER: Duration = Duration::from_micros(50);

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// How long there must be nothing to carry before what packets left in the buffers is overwritten: whoever is in the
/// middle of something does not pay for it.
const QUIET: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How long what packets left may stay while there is always something to carry: the next ones may be shorter.
const LONGEST_USE: Duration = Duration::from_secs(10);

/// Carries packets until the process ends.
pub fn run(number: usize, io: &WorkerIo, uso: bool, state: &Arc<State>) {
    let mut worker = Worker {
        io,
        state,
        counters: &state.counters[number],
        inbound: Inbound::new(uso),
        outbound: Outbound::default(),
        used_since: None,
    };
    let tun = io.tun.as_fd();
    let sockets: Vec<BorrowedFd<'_>> =
        [&io.udp_v4, &io.udp_v6].into_iter().flatten().map(AsFd::as_fd).collect();
    let mut ready: Vec<PollFd<'_>> = sockets
        .iter()
        .chain([&tun])
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let mut streak = 0;
    loop {
        let Some(at_once) = worker.wait(&mut ready) else {
            worker.wipe();
            wiping::wipe_stack();
            continue;
        };
        streak = if at_once { streak + 1 } else { 0 };
        let now = Instant::now();
        if worker.was_used_for_long(now) {
            worker.wipe();
            wiping::wipe_stack();
        }
        let more = worker.turn(&sockets, &ready, now);
        if !more && streak >= LOADED_STREAK {
            thread::sleep(GATHER);
        }
    }
}

struct Worker<'a> {
    io: &'a WorkerIo,
    state: &'a State,
    counters: &'a Counters,
    inbound: Inbound,
    outbound: Outbound,
    /// Since when the buffers have held what was carried; none if they were wiped since.
    used_since: Option<Instant>,
}

impl Worker<'_> {
    /// Waits until a descriptor is ready; returns whether one was at once, none if there was nothing for so long that
    /// the buffers should be wiped.
    fn wait(&self, ready: &mut [PollFd<'_>]) -> Option<bool> {
        if poll(ready, Some(&AT_ONCE)).is_ok_and(|count| count > 0) {
            return Some(true);
        }
        let patience = self.used_since.map(|_| &QUIET);
        loop {
            match poll(ready, patience) {
                Ok(0) => return None,
                Ok(_) => return Some(false),
                Err(_) => {}
            }
        }
    }

    /// Whether the buffers have been in use for so long that they should be wiped, be there something to carry or not.
    fn was_used_for_long(&self, now: Instant) -> bool {
        self.used_since.is_some_and(|since| now.since(since) >= LONGEST_USE)
    }

    /// Overwrites what packets that are gone left in the buffers.
    fn wipe(&mut self) {
        self.used_since = None;
        self.inbound.wipe();
        self.outbound.wipe();
    }

    /// Carries a bounded number of packets each way; returns whether more are certainly waiting.
    ///
    /// Not inlined, so that all it leaves on the stack lies below its caller, where it is wiped.
    #[inline(never)]
    fn turn(&mut self, sockets: &[BorrowedFd<'_>], ready: &[PollFd<'_>], now: Instant) -> bool {
        self.used_since.get_or_insert(now);
        let tun = self.io.tun.as_fd();
        let mut more = false;
        for (socket, ready) in sockets.iter().zip(ready) {
            if !ready.revents().is_empty() {
                let io = inbound::Io { udp: *socket, tun };
                more |= self.inbound.turn(io, self.state, self.counters, now);
            }
        }
        let tun_ready = ready.last().map_or(PollFlags::empty(), PollFd::revents);
        // Without its device this process is of no use: control makes a new one.
        assert!(!tun_ready.intersects(PollFlags::ERR | PollFlags::NVAL), "the TUN device is gone");
        if !tun_ready.is_empty() {
            more |= self.outbound.turn(self.io.outbound(), self.state, self.counters, now);
        }
        more
    }
}
