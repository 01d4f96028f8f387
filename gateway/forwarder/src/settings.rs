//! What the forwarder is told at start, besides its key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::peers::Slot;

/// A network: an address within it and its prefix length in bits.
pub type Network<A> = (A, u8);

/// How the forwarder is to work. All of it is public: it stands on the command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that carry packets; each has its own TUN queue and UDP sockets.
    pub workers: usize,
    /// IPv4 tunnel network; host number 1 is the gateway, the others are devices.
    pub tunnel_v4: Network<Ipv4Addr>,
    /// IPv6 tunnel network, numbered like the IPv4 one.
    pub tunnel_v6: Network<Ipv6Addr>,
    /// MTU of the TUN device in bytes.
    pub mtu: u16,
    /// Whether the TUN device takes UDP super-packets (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    pub uso: bool,
    /// Whether devices may reach each other.
    pub allow_device_to_device: bool,
    /// Whether devices may reach the gateway's tunnel addresses.
    pub allow_gateway: bool,
    /// Private networks that devices may reach.
    pub allow_private: Vec<Network<IpAddr>>,
}

/// Host number of the gateway in both tunnel networks.
const GATEWAY: Slot = 1;

/// The largest number of addresses that a pool can have.
const MAX_CAPACITY: u32 = 1 << 24;

/// The tunnel networks as numbers: from address to [`Slot`] without a search.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    base_v4: u32,
    base_v6: u128,
    capacity: u32,
    mask_v6: u128,
}

impl Pool {
    /// Takes the networks from `settings`.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (v4, prefix_v4) = settings.tunnel_v4;
        let (v6, prefix_v6) = settings.tunnel_v6;
        let host_bits = 32 - u32::from(prefix_v4.min(32));
        let mask_v4 = u32::MAX.checked_shl(host_bits).unwrap_or(0);
        let mask_v6 = u128::MAX.checked_shl(128 - u32::from(prefix_v6.min(128))).unwrap_or(0);
        Self {
            base_v4: u32::from(v4) & mask_v4,
            base_v6: u128::from(v6) & mask_v6,
            capacity: 1u32.checked_shl(host_bits).unwrap_or(MAX_CAPACITY).min(MAX_CAPACITY),
            mask_v6,
        }
    }

    /// How many slots there are.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The slot of an address of the IPv4 tunnel network.
    #[must_use]
    pub fn slot_v4(&self, address: Ipv4Addr) -> Option<Slot> {
        let slot = u32::from(address).wrapping_sub(self.base_v4);
        (slot < self.capacity).then_some(slot)
    }

    /// The slot of an address of the IPv6 tunnel network.
    #[must_use]
    pub fn slot_v6(&self, address: Ipv6Addr) -> Option<Slot> {
        let slot = u128::from(address).wrapping_sub(self.base_v6);
        (slot < u128::from(self.capacity)).then_some(slot as Slot)
    }

    /// Whether `address` is in the IPv6 tunnel network, be there a slot for it or not.
    #[must_use]
    pub fn contains_v6(&self, address: Ipv6Addr) -> bool {
        u128::from(address) & self.mask_v6 == self.base_v6
    }

    /// Whether `slot` is the gateway's own.
    #[must_use]
    pub fn is_gateway(slot: Slot) -> bool {
        slot == GATEWAY
    }
}
