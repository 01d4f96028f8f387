//! All that touches a packet, and nothing that knows a person.
//!
//! ```text
//!            UDP socket                                   TUN queue
//!                │  ▲                                       ▲  │
//!   inbound.rs   │  │   outbound.rs       one worker        │  │
//!                ▼  │                     per core          │  ▼
//!   udp ─▶ indices ─▶ peer (boringtun) ─▶ destination ─▶ coalesce ─▶ tun
//!   udp ◀──────────── peer (boringtun) ◀─ segment ◀────────────────── tun
//!                │
//!                │ handshakes            one coordinator, apart:
//!                ▼                       handshakes, lookups, timers
//!              inbox ─▶ coordinator ◀─▶ link ◀─▶ control
//! ```
//!
//! `inbound` is UDP to TUN, `outbound` is TUN to UDP. Both files read in packet order.

pub mod coalesce;
pub mod coordinator;
pub mod counters;
pub mod destination;
pub mod ecn;
pub mod endpoint;
pub mod fault;
pub mod handshakes;
pub mod inbound;
pub mod inbox;
pub mod indices;
pub mod link;
pub mod lookups;
pub mod macs;
pub mod outbound;
pub mod packet;
pub mod peer;
pub mod peers;
pub mod segment;
pub mod session;
pub mod settings;
pub mod sources;
pub mod state;
pub mod tun;
pub mod udp;
pub mod wireguard;
pub mod worker;

use std::{
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process::ExitCode,
    sync::Arc,
    thread,
};

pub use fault::source_file;
pub use settings::{Network, Settings};

use crate::{
    coordinator::Coordinator, handshakes::Identity, link::Link, state::State, worker::WorkerIo,
};

/// Descriptor of the socket to control.
pub const LINK_DESCRIPTOR: RawFd = 3;

/// Descriptors of a worker: TUN queue, IPv4 socket, IPv6 socket. A family that is not used has anything but
/// a socket there.
#[must_use]
pub const fn worker_descriptors(worker: usize) -> [RawFd; 3] {
    let first = LINK_DESCRIPTOR + 1 + 3 * worker as RawFd;
    [first, first + 1, first + 2]
}

/// Is the forwarder, until control says `Shutdown` or goes.
///
/// The process must have been started with the descriptors of [`LINK_DESCRIPTOR`] and [`worker_descriptors`],
/// which are taken over. Nothing is printed; a panic sends its place to control.
#[must_use]
pub fn run(settings: &Settings) -> ExitCode {
    let link = take(LINK_DESCRIPTOR);
    fault::report_to(borrow_link());
    match forward(settings, link) {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

fn forward(settings: &Settings, link: OwnedFd) -> Option<()> {
    let link = Link::new(link);
    let io: Arc<[WorkerIo]> = (0..settings.workers).map(worker_io).collect();
    for socket in io.iter().flat_map(|io| [&io.udp_v4, &io.udp_v6]).flatten() {
        udp::prepare(std::os::fd::AsFd::as_fd(socket)).ok()?;
    }
    let identity = Identity::new(&link.identity().ok()?);
    let state = Arc::new(State::new(settings).ok()?);
    for number in 0..settings.workers {
        let (io, state, uso) = (Arc::clone(&io), Arc::clone(&state), settings.uso);
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || worker::run(number, &io[number], uso, &state))
            .ok()?;
    }
    Coordinator::new(&state, identity, io.first()?.outbound(), link).run().ok()
}

fn worker_io(worker: usize) -> WorkerIo {
    let [tun, udp_v4, udp_v6] = worker_descriptors(worker).map(take);
    WorkerIo { tun, udp_v4: socket(udp_v4), udp_v6: socket(udp_v6) }
}

/// A descriptor, if it is a socket.
fn socket(descriptor: OwnedFd) -> Option<OwnedFd> {
    rustix::net::sockopt::socket_type(&descriptor).ok().map(|_| descriptor)
}

#[expect(unsafe_code, reason = "descriptors arrive by number")]
fn take(descriptor: RawFd) -> OwnedFd {
    // SAFETY: control opened the descriptor for this process alone, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[expect(unsafe_code, reason = "descriptors arrive by number")]
fn borrow_link() -> BorrowedFd<'static> {
    // SAFETY: the link is open as long as the process lives: when it is closed, the process ends.
    unsafe { BorrowedFd::borrow_raw(LINK_DESCRIPTOR) }
}
