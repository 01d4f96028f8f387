//! The TUN queue, with the kernel's offload header before each packet (`IFF_VNET_HDR`).

use std::{io::IoSlice, os::fd::BorrowedFd};

use rustix::io::Errno;

/// Length of `struct virtio_net_hdr` in bytes.
pub const VNET_HEADER_LEN: usize = 10;

/// No super-packet.
pub const GSO_NONE: u8 = 0;
/// A TCP super-packet over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// A TCP super-packet over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// A UDP super-packet, to be cut into datagrams.
pub const GSO_UDP_L4: u8 = 5;
/// Set on TCP super-packets whose first segment carries CWR.
const GSO_ECN: u8 = 0x80;
/// The checksum is still to be completed.
const NEEDS_CSUM: u8 = 1;

/// What the kernel says, or is told, about a packet (`struct virtio_net_hdr`, VIRTIO 1.2 section 5.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// Whether the checksum at `csum_start + csum_offset` is still to be completed.
    pub needs_csum: bool,
    /// [`GSO_NONE`] or how the super-packet is to be cut.
    pub gso_type: u8,
    /// Length of all headers in bytes; not to be trusted on read.
    pub hdr_len: u16,
    /// Payload of each segment in bytes.
    pub gso_size: u16,
    /// Where the checksum begins to count.
    pub csum_start: u16,
    /// Where it is stored, from `csum_start` on.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Reads a header.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; VNET_HEADER_LEN]) -> Self {
        let u16_at = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            needs_csum: bytes[0] & NEEDS_CSUM != 0,
            gso_type: bytes[1] & !GSO_ECN,
            hdr_len: u16_at(2),
            gso_size: u16_at(4),
            csum_start: u16_at(6),
            csum_offset: u16_at(8),
        }
    }

    /// Writes a header.
    #[must_use]
    pub fn to_bytes(self) -> [u8; VNET_HEADER_LEN] {
        let mut bytes = [0; VNET_HEADER_LEN];
        bytes[0] = if self.needs_csum { NEEDS_CSUM } else { 0 };
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        bytes
    }
}

/// Most pieces that one packet can be written from, its offload header included.
pub const MAX_PIECES: usize = 68;

/// Writes one packet from its pieces; the first is the offload header.
///
/// # Errors
/// What the kernel said; the packet is gone then.
pub fn write(tun: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> Result<(), Errno> {
    rustix::io::writev(tun, pieces).map(|_| ())
}

/// Reads one packet into `buffer`, its offload header first; returns the length of both.
///
/// # Errors
/// What the kernel said; `AGAIN` if nothing is there.
pub fn read(tun: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::read(tun, buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offload_header_survives_writing_and_reading() {
        let header = VnetHeader {
            needs_csum: true,
            gso_type: GSO_TCPV6,
            hdr_len: 72,
            gso_size: 1348,
            csum_start: 40,
            csum_offset: 16,
        };
        assert_eq!(VnetHeader::from_bytes(&header.to_bytes()), header);
    }
}
