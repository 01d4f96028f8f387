//! Coalesces decrypted packets into super-packets, so that the TUN device and the kernel behind it are paid once
//! for many.
//!
//! Packets are decrypted one after another into an arena and never moved: a super-packet is a list of pieces
//! that one `writev` gathers. TCP is merged only where cutting it again gives the same packets: ACK or ACK and
//! PSH, equal acknowledgement, window, options, TOS, TTL and DF, no fragment, the next sequence number. UDP is
//! merged when lengths are equal. Checksums are verified before, because a super-packet has none of its own.

use std::{io::IoSlice, os::fd::BorrowedFd};

use rustix::io::Errno;

use crate::{
    packet::{
        self, IPV4_HEADER_LEN, IPV6_HEADER_LEN, TCP, TCP_HEADER_LEN, UDP, UDP_HEADER_LEN, set_u16,
        u16_at, u32_at,
    },
    tun::{self, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, MAX_PIECES, VnetHeader},
};

/// Room for the plaintext of one turn; when it is used up, what is there is written.
const ARENA_LEN: usize = 256 * 1024;
/// Longest plaintext: a whole UDP datagram.
const MAX_PACKET: usize = 65_536;
/// Most packets in one super-packet.
const MAX_SEGMENTS: usize = 64;
/// Flows that can be open at once; more are written unmerged.
const MAX_OPEN: usize = 32;
const MAX_IP_LEN: usize = 65_535;

/// Hop-by-hop options, routing, fragment, authentication, destination options (RFC 8200, RFC 4302).
const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];

const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

/// Collects the packets of a turn and writes them merged.
pub struct Coalescer {
    arena: Vec<u8>,
    used: usize,
    /// The most that was used since the arena was wiped.
    most_used: usize,
    pieces: Vec<Piece>,
    writes: Vec<Write>,
    /// Indices into `writes` of those that may still grow, latest last.
    open: Vec<usize>,
    uso: bool,
}

/// Bytes of the arena, and the piece of the same write that follows.
#[derive(Clone, Copy)]
struct Piece {
    start: usize,
    len: usize,
    next: Option<usize>,
}

/// One packet or super-packet to write.
#[derive(Clone, Copy)]
struct Write {
    flow: Option<Flow>,
    start: usize,
    first_piece: usize,
    last_piece: usize,
    segments: usize,
    /// Payload in bytes, all segments together.
    payload_len: usize,
    /// The payload of every segment but the last.
    segment_len: usize,
    checksum_verified: bool,
    push: bool,
}

/// A TCP or UDP packet that could be merged with others.
#[derive(Clone, Copy)]
struct Flow {
    protocol: u8,
    ip_header_len: usize,
    header_len: usize,
    /// Whether it may begin or continue a super-packet, or only tells that its flow goes on.
    mergeable: bool,
}

/// How many packets, bytes and refusals a flush came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Packets that the TUN device took.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that it refused.
    pub refused: u64,
}

impl Coalescer {
    /// Makes an empty coalescer; `uso` tells whether UDP may be merged.
    #[must_use]
    pub fn new(uso: bool) -> Self {
        Self {
            arena: vec![0; ARENA_LEN],
            used: 0,
            most_used: 0,
            pieces: Vec::with_capacity(ARENA_LEN / 64),
            writes: Vec::with_capacity(ARENA_LEN / 64),
            open: Vec::with_capacity(MAX_OPEN),
            uso,
        }
    }

    /// Whether [`Self::room`] is long enough for any packet and bookkeeping needs no allocation.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.arena.len() - self.used >= MAX_PACKET && self.pieces.len() < self.pieces.capacity()
    }

    /// Where the next packet is to be decrypted to.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.arena[self.used..]
    }

    /// Takes the packet in the first `len` bytes of [`Self::room`]: whole, as long as its IP header says.
    pub fn push(&mut self, len: usize) {
        let start = self.used;
        self.used += len;
        let packet = &self.arena[start..start + len];
        let flow = Flow::of(packet, self.uso);
        if flow.is_none() && hides_its_flow(packet) {
            // It may be of any flow, so none goes on ahead of it.
            self.open.clear();
        }
        if let Some(flow) = flow
            && let Some(place) =
                self.open.iter().rposition(|write| self.is_same_flow(*write, flow, start))
        {
            let write = self.open[place];
            if self.try_merge(write, flow, start, len) {
                if !self.may_grow(write, len - flow.header_len) {
                    self.open.swap_remove(place);
                }
                return;
            }
            self.open.swap_remove(place);
        }
        self.begin(flow, start, len);
    }

    fn begin(&mut self, flow: Option<Flow>, start: usize, len: usize) {
        let piece = self.pieces.len();
        self.pieces.push(Piece { start, len, next: None });
        let payload_len = flow.map_or(0, |flow| len - flow.header_len);
        let push = flow.is_some_and(|flow| flow.has_push(&self.arena[start..start + len]));
        self.writes.push(Write {
            flow,
            start,
            first_piece: piece,
            last_piece: piece,
            segments: 1,
            payload_len,
            segment_len: payload_len,
            checksum_verified: false,
            push,
        });
        if flow.is_some_and(|flow| flow.mergeable) && !push && self.open.len() < MAX_OPEN {
            self.open.push(self.writes.len() - 1);
        }
    }

    fn is_same_flow(&self, write: usize, flow: Flow, start: usize) -> bool {
        let write = &self.writes[write];
        let Some(other) = write.flow else { return false };
        let (a, b) = (&self.arena[write.start..], &self.arena[start..]);
        let (addresses, ports) = if flow.ip_header_len == IPV4_HEADER_LEN {
            (12..20, IPV4_HEADER_LEN..IPV4_HEADER_LEN + 4)
        } else {
            (8..40, IPV6_HEADER_LEN..IPV6_HEADER_LEN + 4)
        };
        other.protocol == flow.protocol
            && other.ip_header_len == flow.ip_header_len
            && a[ports.clone()] == b[ports]
            && a[addresses.clone()] == b[addresses]
    }

    fn try_merge(&mut self, index: usize, flow: Flow, start: usize, len: usize) -> bool {
        let write = self.writes[index];
        let payload_len = len - flow.header_len;
        let same_headers = write.flow.is_some_and(|other| other.header_len == flow.header_len)
            && flow.mergeable
            && payload_len <= write.segment_len
            && write.segments < MAX_SEGMENTS
            && flow.header_len + write.payload_len + payload_len <= MAX_IP_LEN
            && flow.continues(&self.arena[write.start..], &self.arena[start..], write.payload_len);
        if !same_headers || !flow.checksum_is_valid(&self.arena[start..start + len]) {
            return false;
        }
        if !write.checksum_verified {
            let first = self.pieces[write.first_piece];
            if !flow.checksum_is_valid(&self.arena[first.start..first.start + first.len]) {
                return false;
            }
        }
        let piece = self.pieces.len();
        let push = flow.has_push(&self.arena[start..start + len]);
        self.pieces.push(Piece { start: start + flow.header_len, len: payload_len, next: None });
        self.pieces[write.last_piece].next = Some(piece);
        let write = &mut self.writes[index];
        write.checksum_verified = true;
        write.last_piece = piece;
        write.segments += 1;
        write.payload_len += payload_len;
        write.push = push;
        true
    }

    /// A short segment or one with PSH is the last of its super-packet.
    fn may_grow(&self, index: usize, last_payload_len: usize) -> bool {
        let write = &self.writes[index];
        last_payload_len == write.segment_len && !write.push
    }

    /// Writes everything to `tun`, in order within each flow.
    pub fn flush(&mut self, tun: BorrowedFd<'_>) -> Flushed {
        let mut flushed = Flushed::default();
        for index in 0..self.writes.len() {
            let write = self.writes[index];
            let bytes = (write.segments * write.flow.map_or(0, |flow| flow.header_len)
                + write.payload_len) as u64;
            match self.write(write, tun) {
                Ok(()) => {
                    flushed.packets += write.segments as u64;
                    flushed.bytes += if write.flow.is_some() {
                        bytes
                    } else {
                        self.pieces[write.first_piece].len as u64
                    };
                }
                Err(errno) => {
                    if errno == Errno::INVAL
                        && write.segments > 1
                        && write.flow.is_some_and(|flow| flow.protocol == UDP)
                    {
                        // This kernel takes no UDP super-packets.
                        self.uso = false;
                    }
                    flushed.refused += write.segments as u64;
                }
            }
        }
        self.most_used = self.most_used.max(self.used);
        self.used = 0;
        self.pieces.clear();
        self.writes.clear();
        self.open.clear();
        flushed
    }

    /// Overwrites the packets that were written, and one that was decrypted and not taken.
    pub fn wipe(&mut self) {
        let most = self.arena.len().min(self.most_used + MAX_PACKET);
        self.arena[self.used..most].fill(0);
        self.most_used = 0;
    }

    fn write(&mut self, write: Write, tun: BorrowedFd<'_>) -> Result<(), Errno> {
        let vnet = match write.flow {
            Some(flow) if write.segments > 1 => {
                let header = &mut self.arena[write.start..write.start + flow.header_len];
                flow.finish(header, &write)
            }
            _ => VnetHeader::default(),
        };
        let vnet = vnet.to_bytes();
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        slices[0] = IoSlice::new(&vnet);
        let mut count = 1;
        let mut next = Some(write.first_piece);
        while let Some(piece) = next.map(|index| self.pieces[index]) {
            slices[count] = IoSlice::new(&self.arena[piece.start..piece.start + piece.len]);
            count += 1;
            next = piece.next;
        }
        tun::write(tun, &slices[..count])
    }
}

impl Flow {
    /// Recognises a TCP or UDP packet without IP options, extension headers or fragmentation.
    fn of(packet: &[u8], uso: bool) -> Option<Self> {
        let (protocol, ip_header_len) = match packet.first()? {
            0x45 if u16_at(packet, 6) & 0x3fff == 0 => (packet[9], IPV4_HEADER_LEN),
            first if first >> 4 == 6 => (packet[6], IPV6_HEADER_LEN),
            _ => return None,
        };
        let transport = &packet[ip_header_len..];
        match protocol {
            TCP if transport.len() >= TCP_HEADER_LEN => {
                let tcp_header_len = usize::from(transport[12] >> 4) * 4;
                if tcp_header_len < TCP_HEADER_LEN || tcp_header_len > transport.len() {
                    return None;
                }
                let flags_fit = transport[13] & !TCP_PSH == TCP_ACK && transport[12] & 0x0f == 0;
                let has_payload = transport.len() > tcp_header_len;
                let header_len = ip_header_len + tcp_header_len;
                Some(Self {
                    protocol,
                    ip_header_len,
                    header_len,
                    mergeable: flags_fit && has_payload,
                })
            }
            UDP if uso && transport.len() >= UDP_HEADER_LEN => {
                let whole = usize::from(u16_at(transport, 4)) == transport.len();
                let has_checksum = u16_at(transport, 6) != 0;
                let has_payload = transport.len() > UDP_HEADER_LEN;
                Some(Self {
                    protocol,
                    ip_header_len,
                    header_len: ip_header_len + UDP_HEADER_LEN,
                    mergeable: whole && has_checksum && has_payload,
                })
            }
            _ => None,
        }
    }

    fn has_push(self, packet: &[u8]) -> bool {
        self.protocol == TCP && packet[self.ip_header_len + 13] & TCP_PSH != 0
    }

    /// Whether `packet` says the same as `first` did, and follows on `payload_len` bytes of payload.
    fn continues(self, first: &[u8], packet: &[u8], payload_len: usize) -> bool {
        let same_ip = if self.ip_header_len == IPV4_HEADER_LEN {
            // TOS; DF; TTL.
            first[1] == packet[1] && first[6] == packet[6] && first[8] == packet[8]
        } else {
            // Traffic class and flow label; hop limit.
            first[..4] == packet[..4] && first[7] == packet[7]
        };
        if !same_ip || self.protocol == UDP {
            return same_ip;
        }
        let (first, packet) = (&first[self.ip_header_len..], &packet[self.ip_header_len..]);
        let options = TCP_HEADER_LEN..self.header_len - self.ip_header_len;
        u32_at(packet, 4) == u32_at(first, 4).wrapping_add(payload_len as u32)
            && first[8..12] == packet[8..12]
            && first[14..16] == packet[14..16]
            && first[18..20] == packet[18..20]
            && first[options.clone()] == packet[options]
    }

    fn checksum_is_valid(self, packet: &[u8]) -> bool {
        let transport = &packet[self.ip_header_len..];
        let pseudo = packet::pseudo_header_sum(packet, self.protocol, transport.len());
        packet::sum(transport, u32::from(pseudo)) == 0xffff
    }

    /// Makes the first packet's headers those of the super-packet, and says how it is to be cut.
    fn finish(self, header: &mut [u8], write: &Write) -> VnetHeader {
        let transport_len = self.header_len - self.ip_header_len + write.payload_len;
        let v4 = self.ip_header_len == IPV4_HEADER_LEN;
        if v4 {
            set_u16(header, 2, (self.ip_header_len + transport_len) as u16);
            packet::write_ipv4_checksum(header);
        } else {
            set_u16(header, 4, transport_len as u16);
        }
        let pseudo = packet::pseudo_header_sum(header, self.protocol, transport_len);
        let transport = &mut header[self.ip_header_len..];
        let csum_offset = if self.protocol == TCP {
            transport[13] |= if write.push { TCP_PSH } else { 0 };
            16
        } else {
            set_u16(transport, 4, transport_len as u16);
            6
        };
        set_u16(transport, csum_offset, pseudo);
        VnetHeader {
            needs_csum: true,
            gso_type: match (self.protocol, v4) {
                (TCP, true) => GSO_TCPV4,
                (TCP, false) => GSO_TCPV6,
                _ => GSO_UDP_L4,
            },
            hdr_len: self.header_len as u16,
            gso_size: write.segment_len as u16,
            csum_start: self.ip_header_len as u16,
            csum_offset: csum_offset as u16,
        }
    }
}

/// Whether ports, if there are any, are not where they are looked for: behind IPv4 options or IPv6 extension
/// headers, or in another fragment.
fn hides_its_flow(packet: &[u8]) -> bool {
    match packet.first() {
        Some(0x45) => u16_at(packet, 6) & 0x3fff != 0,
        Some(first) if first >> 4 == 4 => true,
        _ => EXTENSION_HEADERS.contains(&packet[6]),
    }
}
