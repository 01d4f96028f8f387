//! The tunnel networks, and which addresses of them a device may have.
//!
//! One offset gives a device both its addresses: the networks' first addresses moved on by it. Offset 0 is the
//! networks themselves, 1 is the gateway; the IPv4 broadcast address is nobody's.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The gateway's own offset.
const GATEWAY_OFFSET: u32 = 1;
/// The first device's offset.
pub(crate) const FIRST_OFFSET: u32 = 2;
/// Longest prefixes that leave room for a device.
const MAX_PREFIX_V4: u8 = 30;
const MAX_PREFIX_V6: u8 = 126;

/// Why two networks are not a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The IPv4 network is too small.
    #[error(
        "`tunnel-v4` leaves no address for a device; its prefix must be /{MAX_PREFIX_V4} or shorter"
    )]
    SmallV4,
    /// The IPv6 network is too small.
    #[error(
        "`tunnel-v6` leaves no address for a device; its prefix must be /{MAX_PREFIX_V6} or shorter"
    )]
    SmallV6,
    /// The IPv4 network is written with an address that is not its first.
    #[error("`tunnel-v4` must be a network's first address and prefix, as in 10.66.0.0/16")]
    HostBitsV4,
    /// The IPv6 network is written with an address that is not its first.
    #[error("`tunnel-v6` must be a network's first address and prefix, as in fd66:7ac1:7::/64")]
    HostBitsV6,
}

/// The networks from which devices get their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelPool {
    v4: Ipv4Net,
    v6: Ipv6Net,
}

impl Default for TunnelPool {
    /// The networks that the first gateway of a machine takes.
    fn default() -> Self {
        Self {
            v4: Ipv4Net::new_assert(Ipv4Addr::new(10, 66, 0, 0), 16),
            v6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd66, 0x7ac1, 7, 0, 0, 0, 0, 0), 64),
        }
    }
}

impl TunnelPool {
    /// Makes a pool of two networks.
    ///
    /// # Errors
    /// [`PoolError`] if a network has no room for a device, or is written with bits after its prefix.
    pub fn new(v4: Ipv4Net, v6: Ipv6Net) -> Result<Self, PoolError> {
        if v4.trunc() != v4 {
            return Err(PoolError::HostBitsV4);
        }
        if v6.trunc() != v6 {
            return Err(PoolError::HostBitsV6);
        }
        if v4.prefix_len() > MAX_PREFIX_V4 {
            return Err(PoolError::SmallV4);
        }
        if v6.prefix_len() > MAX_PREFIX_V6 {
            return Err(PoolError::SmallV6);
        }
        Ok(Self { v4, v6 })
    }

    /// The IPv4 network.
    #[must_use]
    pub const fn v4(&self) -> Ipv4Net {
        self.v4
    }

    /// The IPv6 network.
    #[must_use]
    pub const fn v6(&self) -> Ipv6Net {
        self.v6
    }

    /// The gateway's own IPv4 address.
    #[must_use]
    pub fn gateway_v4(&self) -> Ipv4Addr {
        self.addresses(GATEWAY_OFFSET).0
    }

    /// The gateway's own IPv6 address.
    #[must_use]
    pub fn gateway_v6(&self) -> Ipv6Addr {
        self.addresses(GATEWAY_OFFSET).1
    }

    /// Both addresses of the device that has `offset`.
    #[must_use]
    pub fn addresses(&self, offset: u32) -> (Ipv4Addr, Ipv6Addr) {
        let v4 = u32::from(self.v4.network()).wrapping_add(offset);
        let v6 = u128::from(self.v6.network()).wrapping_add(offset.into());
        (v4.into(), v6.into())
    }

    /// How many devices can have addresses at a time.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.last_offset() - FIRST_OFFSET + 1
    }

    /// The highest offset that a device can have.
    pub(crate) fn last_offset(&self) -> u32 {
        self.last_offset_v4().min(self.last_offset_v6())
    }

    /// The setting to change for more devices.
    pub(crate) fn narrower(&self) -> &'static str {
        if self.last_offset_v4() <= self.last_offset_v6() { "tunnel-v4" } else { "tunnel-v6" }
    }

    fn last_offset_v4(&self) -> u32 {
        u32::from(self.v4.hostmask()) - 1
    }

    fn last_offset_v6(&self) -> u32 {
        u32::try_from(u128::from(self.v6.hostmask())).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(v4: &str, v6: &str) -> Result<TunnelPool, PoolError> {
        TunnelPool::new(v4.parse().unwrap(), v6.parse().unwrap())
    }

    #[test]
    fn one_offset_gives_both_addresses() {
        let pool = pool("10.66.0.0/16", "fd66:7ac1:7::/64").unwrap();
        assert_eq!(pool.gateway_v4(), Ipv4Addr::new(10, 66, 0, 1));
        assert_eq!(pool.gateway_v6(), "fd66:7ac1:7::1".parse::<Ipv6Addr>().unwrap());
        let (v4, v6) = pool.addresses(0x1234);
        assert_eq!(v4, Ipv4Addr::new(10, 66, 0x12, 0x34));
        assert_eq!(v6, "fd66:7ac1:7::1234".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn network_gateway_and_broadcast_are_nobodys() {
        let pool = pool("10.66.0.0/16", "fd66:7ac1:7::/64").unwrap();
        assert_eq!(pool.capacity(), 65_536 - 3);
        assert_eq!(pool.addresses(pool.last_offset()).0, Ipv4Addr::new(10, 66, 255, 254));
    }

    #[test]
    fn smaller_network_sets_the_capacity() {
        let pool = pool("10.64.0.0/10", "fd66::/120").unwrap();
        assert_eq!(pool.capacity(), 254);
        assert_eq!(pool.narrower(), "tunnel-v6");
    }

    #[test]
    fn smallest_and_largest_networks_have_addresses() {
        assert_eq!(pool("10.0.0.0/30", "fd66::/126").unwrap().capacity(), 1);
        assert_eq!(pool("0.0.0.0/0", "::/0").unwrap().capacity(), u32::MAX - 2);
    }

    #[test]
    fn networks_without_room_are_refused() {
        assert_eq!(pool("10.66.0.0/31", "fd66::/64"), Err(PoolError::SmallV4));
        assert_eq!(pool("10.66.0.0/16", "fd66::/127"), Err(PoolError::SmallV6));
    }

    #[test]
    fn bits_after_the_prefix_are_refused() {
        assert_eq!(pool("10.66.0.1/16", "fd66::/64"), Err(PoolError::HostBitsV4));
        assert_eq!(pool("10.66.0.0/16", "fd66::1/64"), Err(PoolError::HostBitsV6));
    }
}
