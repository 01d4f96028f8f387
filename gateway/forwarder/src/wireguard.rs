//! WireGuard's four messages as they lie in a datagram (paper section 5.4), and the protocol's times.

use std::time::Duration;

/// Length of a handshake initiation in bytes.
pub const INITIATION_LEN: usize = 148;
/// Length of a handshake response in bytes.
pub const RESPONSE_LEN: usize = 92;
/// Length of a cookie reply in bytes.
pub const COOKIE_REPLY_LEN: usize = 64;
/// What a transport message adds to its plaintext: header (16 bytes) and authentication tag (16 bytes).
pub const TRANSPORT_OVERHEAD: usize = 32;
/// Transport plaintext is padded to a multiple of this many bytes (section 5.4.6).
pub const PADDING: usize = 16;
/// The longest plaintext of one transport message in a UDP datagram over IPv4.
pub const MAX_DATAGRAM: usize = 65_507;

/// Counter from which on a session key must not be used (section 6.1): 2^64 - 2^13 - 1.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// How long a handshake is tried before it is given up (section 6.1).
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// How long a cookie may be used (section 5.4.7).
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// What kind of message a datagram is, by type, reserved bytes and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Handshake initiation (section 5.4.2).
    Initiation,
    /// Handshake response (section 5.4.3).
    Response,
    /// Cookie reply (section 5.4.7).
    CookieReply,
    /// Transport data (section 5.4.6).
    Transport,
}

impl Kind {
    /// Tells the kind of `datagram`, or none if it is no WireGuard message.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match (datagram.first_chunk::<4>()?, datagram.len()) {
            ([4, 0, 0, 0], TRANSPORT_OVERHEAD..) => Some(Self::Transport),
            ([1, 0, 0, 0], INITIATION_LEN) => Some(Self::Initiation),
            ([2, 0, 0, 0], RESPONSE_LEN) => Some(Self::Response),
            ([3, 0, 0, 0], COOKIE_REPLY_LEN) => Some(Self::CookieReply),
            _ => None,
        }
    }
}

fn u32_at(message: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&message[at..at + 4]);
    u32::from_le_bytes(bytes)
}

/// The sender index of a handshake initiation or response.
#[must_use]
pub fn sender_index(message: &[u8]) -> u32 {
    u32_at(message, 4)
}

/// Replaces the sender index of a handshake initiation or response; its macs no longer fit.
pub fn set_sender_index(message: &mut [u8], index: u32) {
    message[4..8].copy_from_slice(&index.to_le_bytes());
}

/// The receiver index of a transport message or cookie reply.
#[must_use]
pub fn receiver_index(message: &[u8]) -> u32 {
    u32_at(message, 4)
}

/// Replaces the receiver index of a transport message, which is not authenticated.
pub fn set_receiver_index(message: &mut [u8], index: u32) {
    message[4..8].copy_from_slice(&index.to_le_bytes());
}

/// The receiver index of a handshake response.
#[must_use]
pub fn response_receiver_index(message: &[u8]) -> u32 {
    u32_at(message, 8)
}

/// Replaces the receiver index of a handshake response; its macs no longer fit.
pub fn set_response_receiver_index(message: &mut [u8], index: u32) {
    message[8..12].copy_from_slice(&index.to_le_bytes());
}

/// The counter of a transport message.
#[must_use]
pub fn counter(message: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&message[8..16]);
    u64::from_le_bytes(bytes)
}

/// Length of a plaintext of `len` bytes once padded, within `mtu`.
#[must_use]
pub fn padded_len(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING).min(mtu.max(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_a_multiple_of_sixteen_within_the_mtu() {
        assert_eq!(padded_len(0, 1420), 0);
        assert_eq!(padded_len(1, 1420), 16);
        assert_eq!(padded_len(1408, 1420), 1408);
        assert_eq!(padded_len(1409, 1420), 1420);
        assert_eq!(padded_len(1500, 1420), 1500);
    }

    #[test]
    fn kinds_need_their_exact_length() {
        let message = |kind: u8, len: usize| {
            let mut bytes = vec![0; len];
            bytes[0] = kind;
            Kind::of(&bytes)
        };
        assert_eq!(message(1, 148), Some(Kind::Initiation));
        assert_eq!(message(2, 92), Some(Kind::Response));
        assert_eq!(message(3, 64), Some(Kind::CookieReply));
        assert_eq!(message(4, 32), Some(Kind::Transport));
        assert_eq!(message(1, 149), None);
        assert_eq!(message(4, 31), None);
        assert_eq!(message(5, 148), None);
        assert_eq!(Kind::of(&[4, 0]), None);
        assert_eq!(Kind::of(&[4; 64]), None);
    }
}
