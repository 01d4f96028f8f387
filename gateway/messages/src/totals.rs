//! Whole-gateway counters: none of them is about one device.

/// Declares [`DropReason`] with its names, so that the list stands once.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet or message was dropped. One counter each, no addresses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The reason's name in `status` and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

drop_reasons! {
    /// Not one of WireGuard's four messages (paper section 5.4).
    Malformed = "malformed",
    /// A receiver index that no live session has.
    UnknownIndex = "unknown_index",
    /// More handshake messages arrived than could wait.
    HandshakeQueueFull = "handshake_queue_full",
    /// A handshake message whose mac1 is wrong (section 5.4.4).
    InvalidMac = "invalid_mac",
    /// A handshake from a key that nobody may connect with.
    UnknownKey = "unknown_key",
    /// More keys arrived than may be looked up, or let in.
    LookupLimit = "lookup_limit",
    /// A handshake message that did not authenticate or was replayed.
    HandshakeRejected = "handshake_rejected",
    /// A handshake message answered with a cookie instead (section 5.4.7).
    UnderLoad = "under_load",
    /// A transport message that did not authenticate.
    NotAuthentic = "not_authentic",
    /// A transport message with a counter seen before or too old (section 5.4.6).
    Replayed = "replayed",
    /// A counter at or past REJECT_AFTER_MESSAGES (section 6.1).
    CounterExhausted = "counter_exhausted",
    /// An authentic transport message that holds no whole IP packet.
    NotIp = "not_ip",
    /// A source address that is not the device's own (section 3).
    SourceNotAllowed = "source_not_allowed",
    /// From a device to another one.
    DestinationDevice = "destination_device",
    /// From a device to the gateway itself.
    DestinationGateway = "destination_gateway",
    /// From a device to a private, link-local, loopback or multicast range.
    DestinationPrivate = "destination_private",
    /// Congestion marked on a packet that cannot carry the mark (RFC 6040 section 4.2).
    EcnCongested = "ecn_congested",
    /// The TUN device refused a packet.
    TunWrite = "tun_write",
    /// To an address that no live device has.
    NoDevice = "no_device",
    /// To a device that has not confirmed a session yet.
    NoSession = "no_session",
    /// The UDP socket refused a datagram.
    UdpSend = "udp_send",
}

/// How many drop reasons there are.
pub const DROP_REASONS: usize = DropReason::ALL.len();

/// Counters since the forwarder started, and how many sessions and waiting handshake messages there are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets from devices written to the TUN device.
    pub inbound_packets: u64,
    /// Their bytes.
    pub inbound_bytes: u64,
    /// Packets to devices sent.
    pub outbound_packets: u64,
    /// Their bytes.
    pub outbound_bytes: u64,
    /// Handshakes completed.
    pub handshakes: u64,
    /// Sessions now.
    pub sessions: u64,
    /// Handshake messages that wait now.
    pub handshakes_waiting: u64,
    /// Sessions now with the gateway's former key.
    pub former_key_sessions: u64,
    /// Dropped packets, by [`DropReason`].
    pub drops: [u64; DROP_REASONS],
}

impl Totals {
    /// How many were dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }
}
