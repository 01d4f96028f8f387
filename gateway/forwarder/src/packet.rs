//! IP, TCP and UDP headers as they lie in a packet, and the Internet checksum (RFC 1071).

/// Shortest IPv4 header in bytes.
pub const IPV4_HEADER_LEN: usize = 20;
/// IPv6 header in bytes.
pub const IPV6_HEADER_LEN: usize = 40;
/// Shortest TCP header in bytes.
pub const TCP_HEADER_LEN: usize = 20;
/// UDP header in bytes.
pub const UDP_HEADER_LEN: usize = 8;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Reads a big-endian number at `at`; the caller has checked the length.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Reads a big-endian number at `at`; the caller has checked the length.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes a big-endian number at `at`.
pub fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Length in bytes that an IP packet claims, if `bytes` hold a whole header and no less than that.
#[must_use]
pub fn ip_len(bytes: &[u8]) -> Option<usize> {
    let len = match bytes.first()? >> 4 {
        4 if bytes.len() >= IPV4_HEADER_LEN => {
            let header_len = usize::from(bytes[0] & 15) * 4;
            let len = usize::from(u16_at(bytes, 2));
            (header_len >= IPV4_HEADER_LEN && len >= header_len).then_some(len)?
        }
        6 if bytes.len() >= IPV6_HEADER_LEN => usize::from(u16_at(bytes, 4)) + IPV6_HEADER_LEN,
        _ => return None,
    };
    (len <= bytes.len()).then_some(len)
}

/// Adds `bytes` as 16-bit big-endian numbers to `start` in ones' complement; returns the folded sum.
#[must_use]
pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut chunks = bytes.chunks_exact(32);
    let mut total = 0u64;
    for chunk in &mut chunks {
        // Ones' complement sums do not depend on the byte order (RFC 1071 section 2B).
        for word in chunk.as_chunks::<4>().0 {
            total += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut rest = chunks.remainder().chunks_exact(2);
    for word in &mut rest {
        total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
    }
    if let [last] = rest.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    fold(u64::from(fold(total).to_be()) + u64::from(start))
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// The sum of the pseudo-header of a TCP or UDP packet of `len` bytes (RFC 9293 section 3.1, RFC 8200 section 8.1).
#[must_use]
pub fn pseudo_header_sum(packet: &[u8], protocol: u8, len: usize) -> u16 {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    sum(addresses, u32::from(protocol) + len as u32)
}

/// Writes the checksum of an IPv4 header.
pub fn write_ipv4_checksum(packet: &mut [u8]) {
    let header_len = usize::from(packet[0] & 15) * 4;
    set_u16(packet, 10, 0);
    let checksum = !sum(&packet[..header_len], 0);
    set_u16(packet, 10, checksum);
}

/// Completes a checksum that the kernel left to the device: the field at `field` holds the sum of the
/// pseudo-header, and everything from `start` on is to be added.
pub fn complete_checksum(packet: &mut [u8], start: usize, field: usize) {
    let sum = !sum(&packet[start..], 0);
    set_u16(packet, field, if sum == 0 { 0xffff } else { sum });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_by_the_book(bytes: &[u8], start: u32) -> u16 {
        let mut total = start;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    proptest! {
        #[test]
        fn sum_agrees_with_rfc_1071(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            start in 0u32..0x1_0000,
        ) {
            let (fast, slow) = (sum(&bytes, start), sum_by_the_book(&bytes, start));
            prop_assert_eq!(fast % 0xffff, slow % 0xffff);
        }

        #[test]
        fn ip_len_never_exceeds_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(len) = ip_len(&bytes) {
                prop_assert!(len <= bytes.len() && len >= IPV4_HEADER_LEN);
            }
        }
    }

    #[test]
    fn checksum_of_a_known_header() {
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        write_ipv4_checksum(&mut header);
        assert_eq!(u16_at(&header, 10), 0xb861);
    }
}
