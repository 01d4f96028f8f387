//! Cuts the super-packets that the kernel hands over into packets.
//!
//! The buffer is used up as it is cut: each packet's headers are written over the tail of the payload that the
//! packet before it ended with, so a packet must be sent before the next one is asked for.

use std::ops::Range;

use crate::{
    packet::{
        self, IPV4_HEADER_LEN, IPV6_HEADER_LEN, TCP, TCP_HEADER_LEN, UDP, UDP_HEADER_LEN, set_u16,
        u16_at, u32_at,
    },
    tun::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VnetHeader},
};

const MAX_HEADER_LEN: usize = 60 + 60;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// The packets of one TUN read.
pub struct Segments {
    header: [u8; MAX_HEADER_LEN],
    header_len: usize,
    ip_header_len: usize,
    protocol: u8,
    segment_len: usize,
    /// Where the next packet's payload begins; none is left at `end`.
    at: usize,
    end: usize,
    index: u16,
    whole: bool,
}

impl Segments {
    /// Looks at what was read: `packet` is the packet, `vnet` what the kernel says about it.
    ///
    /// Completes the checksum of a packet that needs no cutting. Returns none if the two do not fit together.
    pub fn new(vnet: VnetHeader, packet: &mut [u8]) -> Option<Self> {
        let mut segments = Self {
            header: [0; MAX_HEADER_LEN],
            header_len: 0,
            ip_header_len: 0,
            protocol: 0,
            segment_len: usize::from(vnet.gso_size),
            at: 0,
            end: packet.len(),
            index: 0,
            whole: vnet.gso_type == GSO_NONE,
        };
        if segments.whole {
            if vnet.needs_csum {
                let start = usize::from(vnet.csum_start);
                let field = start + usize::from(vnet.csum_offset);
                if start < IPV4_HEADER_LEN || field + 2 > packet.len() {
                    return None;
                }
                packet::complete_checksum(packet, start, field);
            }
            return Some(segments);
        }
        segments.read_headers(vnet, packet)?;
        Some(segments)
    }

    fn read_headers(&mut self, vnet: VnetHeader, packet: &[u8]) -> Option<()> {
        let v4 = packet[0] >> 4 == 4;
        self.ip_header_len =
            if v4 { usize::from(packet[0] & 15) * 4 } else { usize::from(vnet.csum_start) };
        let shortest = if v4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
        self.protocol = match vnet.gso_type {
            GSO_TCPV4 if v4 => TCP,
            GSO_TCPV6 if !v4 => TCP,
            GSO_UDP_L4 => UDP,
            _ => return None,
        };
        if self.ip_header_len < shortest || self.ip_header_len + TCP_HEADER_LEN > MAX_HEADER_LEN {
            return None;
        }
        let transport = packet.get(self.ip_header_len..)?;
        let transport_header_len = if self.protocol == UDP {
            UDP_HEADER_LEN
        } else {
            usize::from(transport.get(12)? >> 4) * 4
        };
        let shortest = if self.protocol == UDP { UDP_HEADER_LEN } else { TCP_HEADER_LEN };
        self.header_len = self.ip_header_len + transport_header_len;
        let fits = transport_header_len >= shortest
            && self.header_len <= MAX_HEADER_LEN
            && self.header_len < packet.len()
            && self.segment_len > 0;
        if !fits {
            return None;
        }
        self.header[..self.header_len].copy_from_slice(&packet[..self.header_len]);
        self.at = self.header_len;
        Some(())
    }

    /// Makes the next packet in `packet`, the same buffer each time, and returns where it lies.
    pub fn next(&mut self, packet: &mut [u8]) -> Option<Range<usize>> {
        if self.at >= self.end {
            return None;
        }
        if self.whole {
            self.at = self.end;
            return Some(0..self.end);
        }
        let payload_len = self.segment_len.min(self.end - self.at);
        let range = self.at - self.header_len..self.at + payload_len;
        self.write_headers(&mut packet[range.clone()]);
        self.at += payload_len;
        self.index = self.index.wrapping_add(1);
        Some(range)
    }

    fn write_headers(&self, segment: &mut [u8]) {
        segment[..self.header_len].copy_from_slice(&self.header[..self.header_len]);
        let len = segment.len();
        if segment[0] >> 4 == 4 {
            set_u16(segment, 2, len as u16);
            let id = u16_at(segment, 4).wrapping_add(self.index);
            set_u16(segment, 4, id);
            packet::write_ipv4_checksum(segment);
        } else {
            set_u16(segment, 4, (len - IPV6_HEADER_LEN) as u16);
        }
        let transport_len = len - self.ip_header_len;
        let pseudo = packet::pseudo_header_sum(segment, self.protocol, transport_len);
        let checksum_at = if self.protocol == TCP {
            self.write_tcp(&mut segment[self.ip_header_len..]);
            16
        } else {
            set_u16(segment, self.ip_header_len + 4, transport_len as u16);
            6
        };
        let field = self.ip_header_len + checksum_at;
        set_u16(segment, field, pseudo);
        packet::complete_checksum(segment, self.ip_header_len, field);
    }

    fn write_tcp(&self, tcp: &mut [u8]) {
        let sent = (self.at - self.header_len) as u32;
        let sequence = u32_at(tcp, 4).wrapping_add(sent);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        if self.at + self.segment_len < self.end {
            tcp[13] &= !(TCP_FIN | TCP_PSH);
        }
        if self.index > 0 {
            tcp[13] &= !TCP_CWR;
        }
    }
}
