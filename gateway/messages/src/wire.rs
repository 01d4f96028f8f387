//! Messages as bytes, and back.

use std::net::{Ipv4Addr, Ipv6Addr};

use zeroize::Zeroizing;

use crate::{
    ConnectingIp, DeviceId, FromForwarder, SealPart, SecretKey, ToForwarder, Totals, UnixSeconds,
};

/// Length of every message in bytes.
pub const SIZE: usize = 256;

/// First byte of every message.
pub const VERSION: u8 = 1;

/// One message as it travels. Wiped when dropped: it may hold a key.
pub type Frame = Zeroizing<[u8; SIZE]>;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not [`SIZE`] bytes long.
    #[error("a message must be {SIZE} bytes long")]
    Length,
    /// Written by another version of the program.
    #[error("a message has an unknown version; both processes must be the same program")]
    Version,
    /// No such message in this direction.
    #[error("a message is of an unknown kind")]
    Kind,
    /// A field has a value that it cannot have, or bytes stand after the last field.
    #[error("a message has a field out of range")]
    Field,
}

impl ToForwarder {
    /// Writes the message as bytes.
    #[must_use]
    pub fn encode(&self) -> Frame {
        match self {
            Self::Identity { private_key } => Writer::new(1).bytes(private_key.expose()).frame,
            Self::Device { public_key, device, preshared_key, tunnel_v4, tunnel_v6 } => {
                Writer::new(2)
                    .bytes(public_key)
                    .u64(device.0)
                    .bytes(preshared_key.expose())
                    .bytes(&tunnel_v4.octets())
                    .bytes(&tunnel_v6.octets())
                    .frame
            }
            Self::Unknown { public_key } => Writer::new(3).bytes(public_key).frame,
            Self::Revoked { device } => Writer::new(4).u64(device.0).frame,
            Self::Shutdown => Writer::new(5).frame,
            Self::Leave => Writer::new(6).frame,
            Self::Expect { public_key, receiver_index, silent_seconds, by_former_key } => {
                Writer::new(7)
                    .bytes(public_key)
                    .bytes(&receiver_index.to_be_bytes())
                    .bytes(&[*silent_seconds, u8::from(*by_former_key)])
                    .frame
            }
            Self::Retire => Writer::new(8).frame,
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] if `bytes` are not exactly what [`Self::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes)?;
        let message = match reader.u8() {
            1 => Self::Identity { private_key: reader.secret() },
            2 => Self::Device {
                public_key: reader.array(),
                device: DeviceId(reader.u64()),
                preshared_key: reader.secret(),
                tunnel_v4: Ipv4Addr::from(reader.array::<4>()),
                tunnel_v6: Ipv6Addr::from(reader.array::<16>()),
            },
            3 => Self::Unknown { public_key: reader.array() },
            4 => Self::Revoked { device: DeviceId(reader.u64()) },
            5 => Self::Shutdown,
            6 => Self::Leave,
            7 => Self::Expect {
                public_key: reader.array(),
                receiver_index: u32::from_be_bytes(reader.array()),
                silent_seconds: reader.u8(),
                by_former_key: reader.flag()?,
            },
            8 => Self::Retire,
            _ => return Err(WireError::Kind),
        };
        reader.finish(message)
    }
}

impl FromForwarder {
    /// Writes the message as bytes.
    #[must_use]
    pub fn encode(&self) -> Frame {
        match self {
            Self::Ready => Writer::new(1).frame,
            Self::WhoIs { public_key } => Writer::new(2).bytes(public_key).frame,
            Self::SessionBegan { device, connecting_ip, at } => {
                Writer::new(3).u64(device.0).bytes(connecting_ip.expose_octets()).u64(at.0).frame
            }
            Self::SessionEnded { device, last_seen_at } => {
                Writer::new(4).u64(device.0).u64(last_seen_at.0).frame
            }
            Self::Totals(totals) => {
                let writer = Writer::new(5)
                    .u64(totals.inbound_packets)
                    .u64(totals.inbound_bytes)
                    .u64(totals.outbound_packets)
                    .u64(totals.outbound_bytes)
                    .u64(totals.handshakes)
                    .u64(totals.sessions)
                    .u64(totals.handshakes_waiting)
                    .u64(totals.former_key_sessions);
                totals.drops.iter().fold(writer, |writer, drops| writer.u64(*drops)).frame
            }
            Self::Fault { file, line } => {
                Writer::new(6).bytes(&file.to_be_bytes()).bytes(&line.to_be_bytes()).frame
            }
            #[cfg(feature = "leaky")]
            Self::Leaked { destination } => {
                Writer::new(200).bytes(ConnectingIp::new(*destination).expose_octets()).frame
            }
            Self::SealFailed { part, errno } => {
                Writer::new(7).bytes(&[*part as u8]).bytes(&errno.to_be_bytes()).frame
            }
            Self::Moving { device, receiver_index, silent_seconds, by_former_key } => {
                Writer::new(8)
                    .u64(device.0)
                    .bytes(&receiver_index.to_be_bytes())
                    .bytes(&[*silent_seconds, u8::from(*by_former_key)])
                    .frame
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] if `bytes` are not exactly what [`Self::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes)?;
        let message = match reader.u8() {
            1 => Self::Ready,
            2 => Self::WhoIs { public_key: reader.array() },
            3 => Self::SessionBegan {
                device: DeviceId(reader.u64()),
                connecting_ip: ConnectingIp::from_octets(reader.take(16)),
                at: UnixSeconds(reader.u64()),
            },
            4 => Self::SessionEnded {
                device: DeviceId(reader.u64()),
                last_seen_at: UnixSeconds(reader.u64()),
            },
            5 => {
                let mut totals = Totals {
                    inbound_packets: reader.u64(),
                    inbound_bytes: reader.u64(),
                    outbound_packets: reader.u64(),
                    outbound_bytes: reader.u64(),
                    handshakes: reader.u64(),
                    sessions: reader.u64(),
                    handshakes_waiting: reader.u64(),
                    former_key_sessions: reader.u64(),
                    ..Totals::default()
                };
                totals.drops.iter_mut().for_each(|drops| *drops = reader.u64());
                Self::Totals(Box::new(totals))
            }
            6 => Self::Fault {
                file: u32::from_be_bytes(reader.array()),
                line: u32::from_be_bytes(reader.array()),
            },
            #[cfg(feature = "leaky")]
            200 => {
                Self::Leaked { destination: ConnectingIp::from_octets(reader.take(16)).expose() }
            }
            7 => Self::SealFailed {
                part: SealPart::from_number(reader.u8()).ok_or(WireError::Field)?,
                errno: u16::from_be_bytes(reader.array()),
            },
            8 => Self::Moving {
                device: DeviceId(reader.u64()),
                receiver_index: u32::from_be_bytes(reader.array()),
                silent_seconds: reader.u8(),
                by_former_key: reader.flag()?,
            },
            _ => return Err(WireError::Kind),
        };
        reader.finish(message)
    }
}

struct Writer {
    frame: Frame,
    at: usize,
}

impl Writer {
    fn new(kind: u8) -> Self {
        Self { frame: Zeroizing::new([0; SIZE]), at: 0 }.bytes(&[VERSION, kind])
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.frame[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() != SIZE {
            return Err(WireError::Length);
        }
        if bytes[0] != VERSION {
            return Err(WireError::Version);
        }
        Ok(Self { rest: &bytes[1..] })
    }

    /// The next bytes where they stand. No message is longer than [`SIZE`], so there are always as many left.
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N));
        array
    }

    fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Field),
        }
    }

    fn secret(&mut self) -> SecretKey {
        SecretKey::new(self.array())
    }

    fn finish<M>(self, message: M) -> Result<M, WireError> {
        if self.rest.iter().any(|byte| *byte != 0) {
            return Err(WireError::Field);
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = [u8; 32]> {
        any::<[u8; 32]>()
    }

    fn any_to_forwarder() -> impl Strategy<Value = ToForwarder> {
        prop_oneof![
            any_key().prop_map(|key| ToForwarder::Identity { private_key: SecretKey::new(key) }),
            (any_key(), any::<u64>(), any_key(), any::<u32>(), any::<u128>()).prop_map(
                |(public_key, device, preshared, v4, v6)| ToForwarder::Device {
                    public_key,
                    device: DeviceId(device),
                    preshared_key: SecretKey::new(preshared),
                    tunnel_v4: v4.into(),
                    tunnel_v6: v6.into(),
                }
            ),
            any_key().prop_map(|public_key| ToForwarder::Unknown { public_key }),
            any::<u64>().prop_map(|device| ToForwarder::Revoked { device: DeviceId(device) }),
            Just(ToForwarder::Shutdown),
            Just(ToForwarder::Leave),
            (any_key(), any::<u32>(), any::<u8>(), any::<bool>()).prop_map(
                |(public_key, receiver_index, silent_seconds, by_former_key)| ToForwarder::Expect {
                    public_key,
                    receiver_index,
                    silent_seconds,
                    by_former_key,
                }
            ),
            Just(ToForwarder::Retire),
        ]
    }

    fn any_from_forwarder() -> impl Strategy<Value = FromForwarder> {
        prop_oneof![
            Just(FromForwarder::Ready),
            any_key().prop_map(|public_key| FromForwarder::WhoIs { public_key }),
            (any::<u64>(), any::<IpAddr>(), any::<u64>()).prop_map(|(device, ip, at)| {
                FromForwarder::SessionBegan {
                    device: DeviceId(device),
                    connecting_ip: ConnectingIp::new(ip),
                    at: UnixSeconds(at),
                }
            }),
            (any::<u64>(), any::<u64>()).prop_map(|(device, at)| FromForwarder::SessionEnded {
                device: DeviceId(device),
                last_seen_at: UnixSeconds(at),
            }),
            any::<[u64; 6]>().prop_map(|n| FromForwarder::Totals(Box::new(Totals {
                inbound_packets: n[0],
                outbound_bytes: n[1],
                sessions: n[2],
                handshakes_waiting: n[4],
                former_key_sessions: n[5],
                drops: [n[3]; crate::totals::DROP_REASONS],
                ..Totals::default()
            }))),
            any::<(u32, u32)>().prop_map(|(file, line)| FromForwarder::Fault { file, line }),
            (0..SealPart::ALL.len(), any::<u16>()).prop_map(|(part, errno)| {
                FromForwarder::SealFailed { part: SealPart::ALL[part], errno }
            }),
            any::<(u64, u32, u8, bool)>().prop_map(
                |(device, receiver_index, silent_seconds, by_former_key)| FromForwarder::Moving {
                    device: DeviceId(device),
                    receiver_index,
                    silent_seconds,
                    by_former_key,
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn message_to_forwarder_survives_the_wire(message in any_to_forwarder()) {
            prop_assert!(ToForwarder::decode(&*message.encode()) == Ok(message));
        }

        #[test]
        fn message_from_forwarder_survives_the_wire(message in any_from_forwarder()) {
            prop_assert!(FromForwarder::decode(&*message.encode()) == Ok(message));
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(
            mut bytes in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], SIZE),
            kind in 0u8..10,
        ) {
            bytes[..2].copy_from_slice(&[VERSION, kind]);
            if let Ok(message) = ToForwarder::decode(&bytes) {
                prop_assert_eq!(&message.encode()[..], &bytes[..]);
            }
            if let Ok(message) = FromForwarder::decode(&bytes) {
                prop_assert_eq!(&message.encode()[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut frame = ToForwarder::Shutdown.encode();
        frame[0] += 1;
        assert!(ToForwarder::decode(&*frame) == Err(WireError::Version));
    }

    #[test]
    fn another_length_is_refused() {
        let frame = ToForwarder::Shutdown.encode();
        assert!(ToForwarder::decode(&frame[1..]) == Err(WireError::Length));
    }

    #[test]
    fn hidden_bytes_are_refused() {
        let mut frame = FromForwarder::Ready.encode();
        frame[SIZE - 1] = 1;
        assert!(FromForwarder::decode(&*frame) == Err(WireError::Field));
    }
}
