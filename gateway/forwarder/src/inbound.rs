//! From the UDP socket to the TUN device, in packet order:
//!
//! 1. receive what is there, in one call;
//! 2. tell the kind of each datagram; handshakes go to the coordinator;
//! 3. find the peer of a transport message by its receiver index, and lock it for the run of its messages;
//! 4. decrypt into the arena;
//! 5. note that the device was heard, and from where;
//! 6. check the inner packet: length, source, destination, ECN;
//! 7. coalesce;
//! 8. write to the TUN device.

use std::os::fd::BorrowedFd;

use boringtun::noise::{TunnResult, errors::WireGuardError};
use parking_lot::MutexGuard;
use tacit_messages::{DropReason, clock::Instant};

use crate::{
    coalesce::Coalescer,
    counters::Counters,
    ecn::{self, Ecn},
    endpoint::Endpoint,
    inbox::HandshakeMessage,
    outbound, packet,
    peer::{Peer, Place},
    state::State,
    udp::{BATCH, Batch},
    wireguard::{self, Kind},
};

/// Buffers for the inbound half of a worker, allocated once.
pub struct Inbound {
    batch: Batch,
    coalescer: Coalescer,
    handshakes: Vec<HandshakeMessage>,
}

/// The descriptors that a turn uses.
#[derive(Clone, Copy)]
pub struct Io<'a> {
    /// The UDP socket to receive from.
    pub udp: BorrowedFd<'a>,
    /// The TUN queue to write to.
    pub tun: BorrowedFd<'a>,
}

/// The peer that the last datagram was for, locked.
struct Held<'a> {
    wire_index: u32,
    place: Place,
    slot: MutexGuard<'a, Option<Box<Peer>>>,
    heard: bool,
}

/// Where a datagram came from and how.
#[derive(Clone, Copy)]
struct Outer {
    endpoint: Endpoint,
    ecn: Ecn,
    now: Instant,
}

impl Inbound {
    /// Makes the buffers; `uso` tells whether the TUN device takes UDP super-packets.
    #[must_use]
    pub fn new(uso: bool) -> Self {
        Self {
            batch: Batch::default(),
            coalescer: Coalescer::new(uso),
            handshakes: Vec::with_capacity(BATCH),
        }
    }

    /// Overwrites what earlier turns left in the buffers.
    pub fn wipe(&mut self) {
        self.batch.wipe();
        self.coalescer.wipe();
        self.handshakes = Vec::with_capacity(BATCH);
    }

    /// Carries one batch of datagrams; returns whether there may be more.
    pub fn turn(&mut self, io: Io<'_>, state: &State, counters: &Counters, now: Instant) -> bool {
        let Ok(received) = self.batch.receive(io.udp) else { return false };
        let mut held = None;
        for n in 0..received {
            let Some(train) = self.batch.slot(n) else { continue };
            let outer = Outer { endpoint: train.endpoint, ecn: train.ecn, now };
            if let Some(held) = &mut held {
                Held::forget_heard(held);
            }
            for datagram in train.bytes.chunks_mut(train.segment_len) {
                match Kind::of(datagram) {
                    Some(Kind::Transport) => {
                        if !self.coalescer.has_room() {
                            flush(&mut self.coalescer, io.tun, counters);
                        }
                        let taken =
                            transport(datagram, outer, io, state, &mut held, &mut self.coalescer);
                        if let Err(reason) = taken {
                            counters.dropped(reason);
                            // If the index is a peer's, that peer is locked, and the datagram bears another one by now.
                            if held.is_none() {
                                self.handshakes.extend(newcomer(reason, datagram, outer, state));
                            }
                        }
                    }
                    Some(kind) => {
                        self.handshakes.push(HandshakeMessage::new(kind, outer.endpoint, datagram));
                    }
                    None => counters.dropped(DropReason::Malformed),
                }
            }
        }
        drop(held);
        if !self.handshakes.is_empty() {
            let dropped = state.hand_over(&mut self.handshakes);
            counters.dropped_many(DropReason::HandshakeQueueFull, dropped);
        }
        flush(&mut self.coalescer, io.tun, counters);
        received == BATCH
    }
}

/// Steps 3 to 7 for one transport message.
fn transport<'a>(
    datagram: &mut [u8],
    outer: Outer,
    io: Io<'_>,
    state: &'a State,
    held: &mut Option<Held<'a>>,
    coalescer: &mut Coalescer,
) -> Result<(), DropReason> {
    if wireguard::counter(datagram) >= wireguard::REJECT_AFTER_MESSAGES {
        return Err(DropReason::CounterExhausted);
    }
    let held = hold(wireguard::receiver_index(datagram), state, held)?;
    let Some(peer) = held.slot.as_deref_mut() else { return Err(DropReason::UnknownIndex) };

    wireguard::set_receiver_index(datagram, held.place.local_index);
    let Some(tunnel) = peer.tunnel_at(held.place) else { return Err(DropReason::UnknownIndex) };
    let len = match tunnel.tunn.decapsulate(None, datagram, coalescer.room()) {
        TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
            packet.len()
        }
        TunnResult::Done => 0,
        TunnResult::Err(error) => return Err(drop_reason(&error)),
        TunnResult::WriteToNetwork(_) => return Err(DropReason::NotIp),
    };

    if held.place.is_rivals {
        held.place.is_rivals = false;
        peer.change_key(&state.indices);
    }
    if !held.heard {
        held.heard = true;
        let may_roam = || state.may_begin_session(outer.now);
        if let Some(news) = peer.authenticated(outer.endpoint, held.wire_index, outer.now, may_roam)
        {
            state.tell(news);
        }
        if peer.has_queued() {
            outbound::send_queued(peer, io.udp);
        }
    }
    if len == 0 {
        return Ok(());
    }

    let packet = &mut coalescer.room()[..len];
    if packet::ip_len(packet) != Some(len) {
        return Err(DropReason::NotIp);
    }
    if !peer.owns_source(packet) {
        return Err(DropReason::SourceNotAllowed);
    }
    state.destinations.check(packet)?;
    #[cfg(feature = "leaky")]
    crate::leak::tell(packet, outer.endpoint, state, io);
    if !ecn::decapsulate(outer.ecn, packet) {
        return Err(DropReason::EcnCongested);
    }
    coalescer.push(len);
    Ok(())
}

/// What the coordinator is left if a transport message that is nobody's comes from a device that is expected: such a
/// device has no key here yet.
#[cold]
fn newcomer(
    reason: DropReason,
    datagram: &[u8],
    outer: Outer,
    state: &State,
) -> Option<HandshakeMessage> {
    let has_come = reason == DropReason::UnknownIndex
        && state.expected.has_come(wireguard::receiver_index(datagram));
    has_come.then(|| HandshakeMessage::new(Kind::Transport, outer.endpoint, datagram))
}

/// Locks the peer that has the receiver index, unless it is the one already held.
fn hold<'a, 'h>(
    wire_index: u32,
    state: &'a State,
    held: &'h mut Option<Held<'a>>,
) -> Result<&'h mut Held<'a>, DropReason> {
    if held.as_ref().is_none_or(|held| held.wire_index != wire_index) {
        *held = None;
        let owner = state.indices.owner(wire_index).ok_or(DropReason::UnknownIndex)?;
        let slot = state.peers.slot(owner.slot).ok_or(DropReason::UnknownIndex)?.lock();
        let place = slot.as_deref().and_then(|peer| peer.place(wire_index, owner.local));
        let place = place.ok_or(DropReason::UnknownIndex)?;
        *held = Some(Held { wire_index, place, slot, heard: false });
    }
    held.as_mut().ok_or(DropReason::UnknownIndex)
}

impl Held<'_> {
    /// The next train may come from elsewhere.
    fn forget_heard(&mut self) {
        self.heard = false;
    }
}

fn drop_reason(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => DropReason::Replayed,
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => DropReason::UnknownIndex,
        WireGuardError::InvalidPacket => DropReason::NotIp,
        _ => DropReason::NotAuthentic,
    }
}

fn flush(coalescer: &mut Coalescer, tun: BorrowedFd<'_>, counters: &Counters) {
    let flushed = coalescer.flush(tun);
    counters.inbound(flushed.packets, flushed.bytes);
    counters.dropped_many(DropReason::TunWrite, flushed.refused);
}
