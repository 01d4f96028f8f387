//! Values that must not be printed: reading one takes `.expose()`, so that a search finds every use.

use std::{fmt, net::IpAddr};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

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
///
/// However it is handed on, it stands in one place in memory, which is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectingIp(Box<Zeroizing<[u8; 16]>>);

impl ConnectingIp {
    /// Takes the address. An IPv4-mapped IPv6 address is its IPv4 address.
    #[must_use]
    pub fn new(ip: IpAddr) -> Self {
        Self(Box::new(Zeroizing::new(mapped(ip))))
    }

    /// Takes the address as IPv6 has it, 16 bytes, without a copy on the way.
    ///
    /// # Panics
    /// If there are more or fewer.
    #[must_use]
    pub fn from_octets(octets: &[u8]) -> Self {
        let mut ip = Self(Box::default());
        ip.0.copy_from_slice(octets);
        ip
    }

    /// The address.
    #[must_use]
    pub fn expose(&self) -> IpAddr {
        IpAddr::from(**self.0).to_canonical()
    }

    /// The address as IPv6 has it, where it stands.
    #[must_use]
    pub fn expose_octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether it is `ip`.
    #[must_use]
    pub fn is(&self, ip: IpAddr) -> bool {
        **self.0 == mapped(ip)
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
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
    #[test]
    fn mapped_address_is_its_ipv4_address() {
        let ip = ConnectingIp::new("::ffff:192.0.2.7".parse().unwrap());
        assert_eq!(ip.expose(), IpAddr::from(Ipv4Addr::new(192, 0, 2, 7)));
        assert!(ip.is(Ipv4Addr::new(192, 0, 2, 7).into()) && !ip.is(Ipv4Addr::LOCALHOST.into()));
    }
}
