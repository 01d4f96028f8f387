//! Explicit congestion notification through the tunnel (RFC 6040).

use crate::packet;

/// The two ECN bits of an IP header (RFC 3168 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable.
    NotEct = 0,
    /// ECN-capable, codepoint 1.
    Ect1 = 1,
    /// ECN-capable, codepoint 0.
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl Ecn {
    /// The ECN field of a type-of-service or traffic-class byte.
    #[must_use]
    pub fn of_tos(tos: u8) -> Self {
        match tos & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The ECN field of an IP packet that holds a whole header.
    #[must_use]
    pub fn of_packet(packet: &[u8]) -> Self {
        if packet[0] >> 4 == 4 { Self::of_tos(packet[1]) } else { Self::of_tos(packet[1] >> 4) }
    }
}

/// Carries the outer header's mark over to the packet that came out of the tunnel (section 4.2).
///
/// Returns whether the packet may go on: one that cannot carry a congestion mark is dropped instead.
#[must_use]
pub fn decapsulate(outer: Ecn, packet: &mut [u8]) -> bool {
    let inner = match outer {
        Ecn::NotEct | Ecn::Ect0 => return true,
        Ecn::Ect1 | Ecn::Ce => Ecn::of_packet(packet),
    };
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => return false,
        (Ecn::Ect0, Ecn::Ect1) | (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => set(packet, outer),
        _ => {}
    }
    true
}

fn set(packet: &mut [u8], ecn: Ecn) {
    if packet[0] >> 4 == 4 {
        packet[1] = packet[1] & !3 | ecn as u8;
        packet::write_ipv4_checksum(packet);
    } else {
        packet[1] = packet[1] & !0x30 | (ecn as u8) << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u8, ecn: Ecn) -> Vec<u8> {
        let mut packet = vec![0; 40];
        if version == 4 {
            packet[0] = 0x45;
            packet[1] = 0xb8 | ecn as u8;
            packet::write_ipv4_checksum(&mut packet);
        } else {
            packet[0] = 0x60;
            packet[1] = (ecn as u8) << 4;
        }
        packet
    }

    /// Inner, outer, what comes out (RFC 6040 figure 4).
    const TABLE: [(Ecn, Ecn, Option<Ecn>); 16] = [
        (Ecn::NotEct, Ecn::NotEct, Some(Ecn::NotEct)),
        (Ecn::NotEct, Ecn::Ect0, Some(Ecn::NotEct)),
        (Ecn::NotEct, Ecn::Ect1, Some(Ecn::NotEct)),
        (Ecn::NotEct, Ecn::Ce, None),
        (Ecn::Ect0, Ecn::NotEct, Some(Ecn::Ect0)),
        (Ecn::Ect0, Ecn::Ect0, Some(Ecn::Ect0)),
        (Ecn::Ect0, Ecn::Ect1, Some(Ecn::Ect1)),
        (Ecn::Ect0, Ecn::Ce, Some(Ecn::Ce)),
        (Ecn::Ect1, Ecn::NotEct, Some(Ecn::Ect1)),
        (Ecn::Ect1, Ecn::Ect0, Some(Ecn::Ect1)),
        (Ecn::Ect1, Ecn::Ect1, Some(Ecn::Ect1)),
        (Ecn::Ect1, Ecn::Ce, Some(Ecn::Ce)),
        (Ecn::Ce, Ecn::NotEct, Some(Ecn::Ce)),
        (Ecn::Ce, Ecn::Ect0, Some(Ecn::Ce)),
        (Ecn::Ce, Ecn::Ect1, Some(Ecn::Ce)),
        (Ecn::Ce, Ecn::Ce, Some(Ecn::Ce)),
    ];

    #[test]
    fn decapsulation_follows_the_table_of_rfc_6040() {
        for version in [4, 6] {
            for (inner, outer, expected) in TABLE {
                let mut packet = packet(version, inner);
                let goes_on = decapsulate(outer, &mut packet);
                assert_eq!(
                    goes_on.then(|| Ecn::of_packet(&packet)),
                    expected,
                    "{inner:?} in {outer:?}"
                );
                if version == 4 && goes_on {
                    assert_eq!(packet::sum(&packet[..20], 0), 0xffff);
                    assert_eq!(packet[1] & 0xfc, 0xb8);
                }
            }
        }
    }
}
