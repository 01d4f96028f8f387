//! Values that must not be printed: reading one takes `.expose()`, so that a search finds every use.

use std::{fmt, net::IpAddr};

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A WireGuard private or preshared key: 32 bytes, wiped when dropped, printed as `[redacted]`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Takes the key's bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The address from which a customer connects, without the port; printed as `[sealed]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectingIp(IpAddr);

impl ConnectingIp {
    /// Takes the address. An IPv4-mapped IPv6 address is its IPv4 address.
    #[must_use]
    pub const fn new(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }

    /// The address.
    #[must_use]
    pub const fn expose(&self) -> IpAddr {
        self.0
    }
}

impl fmt::Debug for ConnectingIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn printing_shows_nothing() {
        assert_eq!(format!("{:?}", SecretKey::new([7; 32])), "[redacted]");
        assert_eq!(format!("{:?}", ConnectingIp::new(Ipv4Addr::LOCALHOST.into())), "[sealed]");
    }
}
