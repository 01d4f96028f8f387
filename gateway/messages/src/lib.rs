//! Everything that the forwarder and control can say to each other.
//!
//! The forwarder sees packets and no people; accounts sees people and no packets. This file is the whole
//! vocabulary between them. A message is [`SIZE`] bytes on a `SOCK_SEQPACKET` socket: version, kind, then the
//! fields in order, big-endian, the rest zero. There is no string and no byte vector in it; a key is a key.
//! [`wire`] turns messages into bytes and back, [`totals`] has the whole-gateway counters, [`seal`] the parts of the
//! forwarder's seal, [`bounds`] how much may be said, [`clock`] the time.

pub mod bounds;
pub mod clock;
pub mod seal;
mod sealed;
pub mod totals;
pub mod wire;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use clock::UnixSeconds;
pub use seal::SealPart;
pub use sealed::{ConnectingIp, SecretKey};
pub use totals::{DropReason, Totals};
pub use wire::{SIZE, VERSION, WireError};

/// A WireGuard public key: a Curve25519 point, 32 bytes.
pub type PublicKey = [u8; 32];

/// An opaque number for one device. Control maps it to an account; the forwarder never can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u64);

/// What control tells the forwarder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToForwarder {
    /// The gateway's own key. The first message; another one while the gateway runs makes that its key, and the one before is
    /// answered too until [`ToForwarder::Retire`]. One that is known changes nothing.
    Identity {
        /// The gateway's WireGuard private key.
        private_key: SecretKey,
    },
    /// The gateway's former key is answered no longer, and devices that use it are dropped.
    Retire,
    /// The answer to [`FromForwarder::WhoIs`]: this key belongs to a device that may connect.
    Device {
        /// The key that was asked for.
        public_key: PublicKey,
        /// Stands for the device from here on.
        device: DeviceId,
        /// The key shared with this device alone (WireGuard paper section 5.2).
        preshared_key: SecretKey,
        /// The only IPv4 source address that the device may use.
        tunnel_v4: Ipv4Addr,
        /// The only IPv6 source address that the device may use.
        tunnel_v6: Ipv6Addr,
    },
    /// The other answer to [`FromForwarder::WhoIs`]: nobody may connect with this key.
    Unknown {
        /// The key that was asked for.
        public_key: PublicKey,
    },
    /// The device may not connect any longer: its keys are dropped at once.
    Revoked {
        /// The device.
        device: DeviceId,
    },
    /// The gateway is drained: for [`bounds::LEAVE_LIFETIME`] tell [`FromForwarder::Moving`] of the live devices.
    Leave,
    /// A device is on its way here from a gateway with the same key that is drained. Should a packet come with the index
    /// that only it and that gateway know, shake hands with it.
    Expect {
        /// The device's key; who it is, is asked by [`FromForwarder::WhoIs`] once it comes.
        public_key: PublicKey,
        /// The index that it still writes to.
        receiver_index: u32,
        /// For how long it has been silent, at most 180 s. It is expected until those are over, and then forgotten.
        silent_seconds: u8,
        /// Whether it knows the gateways by their former key.
        by_former_key: bool,
    },
    /// End all sessions, say so, and exit.
    Shutdown,
}

/// What the forwarder tells control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromForwarder {
    /// The identity is loaded and packets are being forwarded.
    Ready,
    /// A well-formed handshake came from a key that is not in memory.
    WhoIs {
        /// The key.
        public_key: PublicKey,
    },
    /// A device proved possession of its session keys, or moved to another address.
    SessionBegan {
        /// The device.
        device: DeviceId,
        /// The source address of the authenticated packet; its port is not kept.
        connecting_ip: ConnectingIp,
        /// When.
        at: UnixSeconds,
    },
    /// A device's session is over.
    SessionEnded {
        /// The device.
        device: DeviceId,
        /// The time of its last authenticated packet.
        last_seen_at: UnixSeconds,
    },
    /// After [`ToForwarder::Leave`]: how another gateway is to know a packet of this device, wherever it comes from.
    Moving {
        /// The device.
        device: DeviceId,
        /// The random number that its packets bear, in the clear, until the next handshake.
        receiver_index: u32,
        /// Whole seconds since its last authenticated packet.
        silent_seconds: u8,
        /// Whether it uses the gateway's former key.
        by_former_key: bool,
    },
    /// Counters of the whole gateway since the forwarder started.
    Totals(Box<Totals>),
    /// The forwarder panicked here and is about to die.
    Fault {
        /// Index into the forwarder's list of its own source files; `u32::MAX` is somebody else's file.
        file: u32,
        /// Line in that file.
        line: u32,
    },
    /// What no gateway may tell: for tests alone, which show that it would be found.
    #[cfg(feature = "leaky")]
    Leaked {
        /// Where a packet goes to.
        destination: std::net::IpAddr,
    },
    /// The forwarder could not seal itself and exits; it has not read a packet.
    SealFailed {
        /// The part that could not be applied.
        part: SealPart,
        /// The kernel's error number.
        errno: u16,
    },
}
