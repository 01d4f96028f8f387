//! IP packets by hand, for clients that have no kernel under them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const UDP: u8 = 17;

/// A UDP datagram inside the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// Writes the packet with both checksums.
    ///
    /// # Panics
    /// If the addresses are of two families.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let mut udp = Vec::with_capacity(8 + self.payload.len());
        udp.extend(self.from.port().to_be_bytes());
        udp.extend(self.to.port().to_be_bytes());
        let len = (8 + self.payload.len()) as u16;
        udp.extend(len.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let pseudo = pseudo_header(self.from.ip(), self.to.ip(), len);
        let sum = match checksum(&[&pseudo, &udp]) {
            0 => 0xffff,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => [ipv4_header(from, to, len), udp].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [ipv6_header(from, to, len), udp].concat(),
            _ => panic!("both ends must be of one family"),
        }
    }

    /// Reads a packet that may be padded; nothing if it is not UDP or a checksum is wrong.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (from, to, udp): (IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
            4 => {
                let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                let header = packet.get(..20)?;
                if header[9] != UDP || checksum(&[header]) != 0 {
                    return None;
                }
                (
                    read_v4(&header[12..16]).into(),
                    read_v4(&header[16..20]).into(),
                    packet.get(20..len)?,
                )
            }
            6 => {
                let header = packet.get(..40)?;
                let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
                if header[6] != UDP {
                    return None;
                }
                (
                    read_v6(&header[8..24]).into(),
                    read_v6(&header[24..40]).into(),
                    packet.get(40..40 + len)?,
                )
            }
            _ => return None,
        };
        if udp.len() < 8 || checksum(&[&pseudo_header(from, to, udp.len() as u16), udp]) != 0 {
            return None;
        }
        let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
        Some(Self {
            from: SocketAddr::new(from, port(0)),
            to: SocketAddr::new(to, port(2)),
            payload: udp[8..].to_vec(),
        })
    }
}

fn ipv4_header(from: Ipv4Addr, to: Ipv4Addr, udp_len: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + udp_len).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn ipv6_header(from: Ipv6Addr, to: Ipv6Addr, udp_len: u16) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(udp_len.to_be_bytes());
    header.extend([UDP, 64]);
    header.extend(from.octets());
    header.extend(to.octets());
    header
}

fn pseudo_header(from: IpAddr, to: IpAddr, udp_len: u16) -> Vec<u8> {
    let mut header = Vec::new();
    for ip in [from, to] {
        match ip {
            IpAddr::V4(v4) => header.extend(v4.octets()),
            IpAddr::V6(v6) => header.extend(v6.octets()),
        }
    }
    header.extend([0, UDP]);
    header.extend(udp_len.to_be_bytes());
    header
}

/// The Internet checksum (RFC 1071); every part but the last must be of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for word in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn read_v4(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(bytes).expect("four bytes"))
}

fn read_v6(bytes: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("16 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for (from, to) in [("10.66.0.2:5", "198.51.100.2:7"), ("[fd66::2]:5", "[2001:db8::1]:7")] {
            let payload = vec![1, 2, 3];
            let datagram =
                Datagram { from: from.parse().unwrap(), to: to.parse().unwrap(), payload };
            let mut packet = datagram.packet();
            packet.resize(64, 0);
            assert_eq!(Datagram::parse(&packet), Some(datagram));
            packet[30] ^= 1;
            assert_eq!(Datagram::parse(&packet), None);
        }
    }
}
