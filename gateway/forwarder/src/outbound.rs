//! From the TUN device to the UDP socket, in packet order:
//!
//! 1. read a packet or super-packet;
//! 2. find the device of its destination by index, and lock it for the run of its packets;
//! 3. cut super-packets into packets, complete checksums;
//! 4. pad to a multiple of 16 bytes within the MTU (WireGuard paper section 5.4.6);
//! 5. encrypt to the end of the train;
//! 6. send the train: datagrams of one length to one endpoint.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::BorrowedFd,
};

use boringtun::noise::TunnResult;
use parking_lot::MutexGuard;
use tacit_messages::{DropReason, clock::Instant};

use crate::{
    counters::Counters,
    ecn::Ecn,
    endpoint::Endpoint,
    packet,
    peer::Peer,
    peers::Slot,
    segment::Segments,
    state::State,
    tun::{self, VNET_HEADER_LEN, VnetHeader},
    udp, wiping,
    wireguard::{self, Kind, PADDING, TRANSPORT_OVERHEAD},
};

/// TUN reads per turn, so that the other direction has its turn too.
const READS_PER_TURN: usize = 64;
/// The longest packet that the TUN device hands over, with room to pad it.
const BUFFER_LEN: usize = VNET_HEADER_LEN + 65_535 + PADDING;
/// Most datagrams that one call may send (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_TRAIN: usize = 64;
/// boringtun wants room for a handshake initiation, whatever it writes.
const MIN_ROOM: usize = wireguard::INITIATION_LEN;

/// Buffers for the outbound half of a worker, allocated once.
pub struct Outbound {
    buffer: Vec<u8>,
    /// The most that was read into the buffer since it was wiped.
    used: usize,
    train: Train,
}

/// The descriptors that a turn uses.
#[derive(Clone, Copy)]
pub struct Io<'a> {
    /// The TUN queue to read from.
    pub tun: BorrowedFd<'a>,
    /// The IPv4 socket, if there is one.
    pub udp_v4: Option<BorrowedFd<'a>>,
    /// The IPv6 socket, if there is one.
    pub udp_v6: Option<BorrowedFd<'a>>,
}

impl<'a> Io<'a> {
    /// The socket that reaches `endpoint`.
    #[must_use]
    pub fn socket(self, endpoint: Endpoint) -> Option<BorrowedFd<'a>> {
        if endpoint.remote.is_ipv4() { self.udp_v4 } else { self.udp_v6 }
    }

    /// Sends one message to `endpoint`, without a word if that fails: whoever needs it asks again.
    pub fn send(self, endpoint: Endpoint, message: &[u8]) {
        if let Some(socket) = self.socket(endpoint) {
            let _ = udp::send_train(socket, endpoint, Ecn::NotEct, message.len(), message);
        }
    }
}

/// The device that the last packet was for, locked.
struct Held<'a> {
    slot: Slot,
    peer: MutexGuard<'a, Option<Box<Peer>>>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER_LEN], used: 0, train: Train::default() }
    }
}

impl Outbound {
    /// Carries what the TUN queue holds, up to a bound; returns whether there may be more.
    pub fn turn(&mut self, io: Io<'_>, state: &State, counters: &Counters, now: Instant) -> bool {
        let mut held = None;
        let mut more = true;
        for _ in 0..READS_PER_TURN {
            let Ok(len) = tun::read(io.tun, &mut self.buffer[..BUFFER_LEN - PADDING]) else {
                more = false;
                break;
            };
            self.used = self.used.max(len);
            let carried = self.carry(len, io, state, counters, now, &mut held);
            if let Err(reason) = carried {
                counters.dropped(reason);
            }
        }
        self.train.send(io, counters);
        more
    }

    /// Overwrites what earlier turns left in the buffers.
    pub fn wipe(&mut self) {
        self.buffer[..self.used].fill(0);
        self.used = 0;
        self.train.wipe();
    }

    /// Steps 2 to 5 for one read of `len` bytes.
    fn carry<'a>(
        &mut self,
        len: usize,
        io: Io<'_>,
        state: &'a State,
        counters: &Counters,
        now: Instant,
        held: &mut Option<Held<'a>>,
    ) -> Result<(), DropReason> {
        let (vnet, packet) = self.buffer.split_at_mut(VNET_HEADER_LEN);
        let vnet = vnet.first_chunk().map(VnetHeader::from_bytes).ok_or(DropReason::NotIp)?;
        let packet_len = len.checked_sub(VNET_HEADER_LEN).ok_or(DropReason::NotIp)?;
        if packet::ip_len(&packet[..packet_len]) != Some(packet_len) {
            return Err(DropReason::NotIp);
        }
        let slot = destination(packet, state).ok_or(DropReason::NoDevice)?;
        let peer = hold(slot, state, held)?;
        let endpoint = peer.endpoint().ok_or(DropReason::NoSession)?;
        let ecn = Ecn::of_packet(packet);
        let mut segments =
            Segments::new(vnet, &mut packet[..packet_len]).ok_or(DropReason::NotIp)?;
        while let Some(range) = segments.next(&mut packet[..packet_len]) {
            let len = wireguard::padded_len(range.len(), state.mtu);
            if len + TRANSPORT_OVERHEAD > wireguard::MAX_DATAGRAM {
                return Err(DropReason::NotIp);
            }
            self.train.make_room(endpoint, ecn, len + TRANSPORT_OVERHEAD, io, counters);
            let packet_bytes = range.len();
            let padded = range.start..range.start + len;
            let saved = pad(&mut packet[range.start..], packet_bytes, len);
            let sealed = seal(peer, &packet[padded], self.train.room());
            packet[range.end..range.end + PADDING].copy_from_slice(&saved);
            match sealed {
                Sealed::Transport(len) => self.train.take(len, packet_bytes),
                Sealed::Initiation(mut message) => {
                    let key = peer.tunnel.key();
                    if peer.dress_handshake(&mut message, key, &state.indices, now) {
                        io.send(endpoint, &message);
                    }
                }
                Sealed::Queued => {}
            }
        }
        Ok(())
    }
}

/// The slot of the device that a packet from the TUN device is for.
fn destination(packet: &[u8], state: &State) -> Option<Slot> {
    if packet[0] >> 4 == 4 {
        state.pool.slot_v4(Ipv4Addr::from(*packet[16..].first_chunk::<4>()?))
    } else {
        state.pool.slot_v6(Ipv6Addr::from(*packet[24..].first_chunk::<16>()?))
    }
}

/// Locks the device in `slot`, unless it is the one already held.
fn hold<'a, 'h>(
    slot: Slot,
    state: &'a State,
    held: &'h mut Option<Held<'a>>,
) -> Result<&'h mut Peer, DropReason> {
    if held.as_ref().is_none_or(|held| held.slot != slot) {
        *held = None;
        let peer = state.peers.slot(slot).ok_or(DropReason::NoDevice)?.lock();
        *held = Some(Held { slot, peer });
    }
    held.as_mut().and_then(|held| held.peer.as_deref_mut()).ok_or(DropReason::NoDevice)
}

/// Zeroes what follows a packet up to its padded length; returns what stood there.
fn pad(bytes: &mut [u8], len: usize, padded_len: usize) -> [u8; PADDING] {
    let mut saved = [0; PADDING];
    saved.copy_from_slice(&bytes[len..len + PADDING]);
    bytes[len..padded_len].fill(0);
    saved
}

/// What boringtun made of a packet.
enum Sealed {
    /// A transport message of this length.
    Transport(usize),
    /// There is no session key: the packet waits in boringtun, and this message asks for one.
    Initiation([u8; wireguard::INITIATION_LEN]),
    /// There is no session key, and one was asked for already.
    Queued,
}

fn seal(peer: &mut Peer, packet: &[u8], room: &mut [u8]) -> Sealed {
    match peer.tunnel.tunn.encapsulate(packet, room) {
        TunnResult::WriteToNetwork(message) => match Kind::of(message) {
            Some(Kind::Transport) => Sealed::Transport(message.len()),
            _ => {
                peer.note_queued();
                message.first_chunk().map_or(Sealed::Queued, |message| Sealed::Initiation(*message))
            }
        },
        _ => {
            peer.note_queued();
            Sealed::Queued
        }
    }
}

/// Sends what waited in boringtun for a session key, each packet by itself: there are few.
pub fn send_queued(peer: &mut Peer, socket: BorrowedFd<'_>) {
    let mut buffer = vec![0; wireguard::MAX_DATAGRAM];
    peer.clear_queued();
    let Some(endpoint) = peer.endpoint() else { return };
    while let TunnResult::WriteToNetwork(message) =
        peer.tunnel.tunn.decapsulate(None, &[], &mut buffer)
    {
        if Kind::of(message) != Some(Kind::Transport) {
            peer.note_queued();
            return;
        }
        let _ = udp::send_train(socket, endpoint, Ecn::NotEct, message.len(), message);
    }
}

/// Encrypted datagrams of one length to one endpoint, the last maybe shorter.
struct Train {
    buffer: Vec<u8>,
    used: usize,
    /// The most that was used since the buffer was wiped.
    most_used: usize,
    to: Option<(Endpoint, Ecn)>,
    segment_len: usize,
    datagrams: usize,
    /// The IP packets' own bytes, for the counters.
    packet_bytes: usize,
    /// A shorter datagram ends a train.
    ended: bool,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            buffer: vec![0; wireguard::MAX_DATAGRAM + MIN_ROOM],
            used: 0,
            most_used: 0,
            to: None,
            segment_len: 0,
            datagrams: 0,
            packet_bytes: 0,
            ended: false,
        }
    }
}

impl Train {
    /// Sends the train if a datagram of `len` bytes to `endpoint` cannot be its next.
    fn make_room(
        &mut self,
        endpoint: Endpoint,
        ecn: Ecn,
        len: usize,
        io: Io<'_>,
        counters: &Counters,
    ) {
        let joins = self.to == Some((endpoint, ecn))
            && !self.ended
            && len <= self.segment_len
            && self.datagrams < MAX_TRAIN
            && self.used + len <= wireguard::MAX_DATAGRAM;
        if !joins {
            self.send(io, counters);
            self.to = Some((endpoint, ecn));
            self.segment_len = len;
        }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.used..]
    }

    fn take(&mut self, len: usize, packet_bytes: usize) {
        self.used += len;
        self.datagrams += 1;
        self.packet_bytes += packet_bytes;
        self.ended = len < self.segment_len;
    }

    /// Sends what there is, in one call where the route can segment.
    fn send(&mut self, io: Io<'_>, counters: &Counters) {
        if let Some((endpoint, ecn)) = self.to.take()
            && self.used > 0
        {
            let refused = self.send_to(endpoint, ecn, io);
            counters.dropped_many(DropReason::UdpSend, refused as u64);
            if refused == 0 {
                counters.outbound(self.datagrams as u64, self.packet_bytes as u64);
            }
        }
        self.most_used = self.most_used.max(self.used);
        self.used = 0;
        self.datagrams = 0;
        self.packet_bytes = 0;
        self.ended = false;
    }

    /// Overwrites the datagrams that were sent, and where to.
    fn wipe(&mut self) {
        let most = self.buffer.len().min(self.most_used + MIN_ROOM);
        self.buffer[self.used..most].fill(0);
        self.most_used = 0;
        wiping::wipe_none(&mut self.to);
    }

    /// Returns how many datagrams the socket refused.
    fn send_to(&self, endpoint: Endpoint, ecn: Ecn, io: Io<'_>) -> usize {
        let Some(socket) = io.socket(endpoint) else { return self.datagrams };
        let bytes = &self.buffer[..self.used];
        match udp::send_train(socket, endpoint, ecn, self.segment_len, bytes) {
            Ok(()) => 0,
            // The route cannot segment, or its MTU is smaller than the datagrams.
            Err(error) if self.datagrams > 1 && cannot_segment(&error) => bytes
                .chunks(self.segment_len)
                .filter(|one| udp::send_train(socket, endpoint, ecn, one.len(), one).is_err())
                .count(),
            Err(_) => self.datagrams,
        }
    }
}

fn cannot_segment(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}
