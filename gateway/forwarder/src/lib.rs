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
pub mod expected;
pub mod fault;
pub mod handshakes;
pub mod identity;
pub mod inbound;
pub mod inbox;
pub mod indices;
#[cfg(feature = "leaky")]
pub mod leak;
pub mod link;
pub mod lookups;
pub mod macs;
#[cfg(feature = "misbehave")]
pub mod misbehaviour;
pub mod outbound;
pub mod packet;
pub mod peer;
pub mod peers;
pub mod seal;
pub mod segment;
pub mod session;
pub mod settings;
pub mod sources;
pub mod state;
pub mod syscalls;
pub mod tun;
pub mod tunnel;
pub mod udp;
pub mod wiping;
pub mod wireguard;
pub mod worker;

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process::ExitCode,
    sync::{Arc, Barrier},
    thread,
};

pub use fault::source_file;
pub use settings::{Network, Settings};

use crate::{
    coordinator::Coordinator, identity::Identities, link::Link, seal::Seal, state::State,
    syscalls::Descriptors, worker::WorkerIo,
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
/// which are taken over, and must have no other thread. It seals itself ([`seal`]) before it reads a packet, or does
/// not go on. Nothing is printed; a panic sends its place to control.
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
    let mut link = Link::new(link);
    let io: Arc<[WorkerIo]> = (0..settings.workers).map(worker_io).collect();
    for socket in io.iter().flat_map(|io| [&io.udp_v4, &io.udp_v6]).flatten() {
        udp::prepare(socket.as_fd()).ok()?;
    }
    let identities = Identities::new(&link.identity().ok()?);
    let state = Arc::new(State::new(settings).ok()?);

    if let Err(failure) = start_sealed(settings, &io, &state) {
        let _ = link.send([failure?.into()]);
        return None;
    }
    Coordinator::new(&state, identities, io.first()?.outbound(), link).run().ok()
}

/// Starts the workers and seals the process before one of them reads; the error is none if a thread is lacking.
fn start_sealed(
    settings: &Settings,
    io: &Arc<[WorkerIo]>,
    state: &Arc<State>,
) -> Result<(), Option<tacit_seal::Failure>> {
    let seal = Seal::begin()?;
    seal::settle();
    let gate = Arc::new(Barrier::new(settings.workers + 1));
    let started = seal.without_rights(|| {
        (0..settings.workers).try_for_each(|number| {
            let (io, state, gate) = (Arc::clone(io), Arc::clone(state), Arc::clone(&gate));
            let uso = settings.uso;
            let worker = move || {
                seal::settle();
                gate.wait();
                // The seal is finished here.
                gate.wait();
                worker::run(number, &io[number], uso, &state);
            };
            thread::Builder::new().name(format!("worker-{number}")).spawn(worker).map(drop)
        })
    })?;
    started.map_err(|_| None)?;
    coordinator::give_way();
    gate.wait();
    seal.finish(&descriptors(io, state))?;
    gate.wait();
    Ok(())
}

fn descriptors(io: &[WorkerIo], state: &State) -> Descriptors {
    let sockets = io.iter().flat_map(|io| [&io.udp_v4, &io.udp_v6]).flatten();
    Descriptors {
        link: LINK_DESCRIPTOR,
        wake: state.inbox.wake().as_raw_fd(),
        tun: io.iter().map(|io| io.tun.as_raw_fd()).collect(),
        udp: sockets.map(AsRawFd::as_raw_fd).collect(),
    }
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
