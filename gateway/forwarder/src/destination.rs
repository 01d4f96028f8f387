//! Where devices may send to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tacit_messages::DropReason;

use crate::settings::{Pool, Settings};

/// Networks that no packet from a device may reach unless the operator allows it (RFC 6890, RFC 5771).
const PRIVATE_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// The same for IPv6: unspecified, loopback, IPv4-mapped and NAT64 of private hosts, unique local, link-local, multicast.
const PRIVATE_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 8),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe00, 0, 0, 0, 0, 0, 0, 0), 8),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Decides where devices may send to. The host's firewall says the same a second time.
pub struct Destinations {
    pool: Pool,
    allow_device_to_device: bool,
    allow_gateway: bool,
    allowed_v4: Vec<Range<u32>>,
    allowed_v6: Vec<Range<u128>>,
    private_v4: Vec<Range<u32>>,
    private_v6: Vec<Range<u128>>,
    /// Whether any address with this first octet needs a closer look.
    suspect_v4: [bool; 256],
    suspect_v6: [bool; 256],
}

#[derive(Clone, Copy)]
struct Range<N> {
    first: N,
    last: N,
}

impl<N: PartialOrd + Copy> Range<N> {
    fn contains(self, address: N) -> bool {
        self.first <= address && address <= self.last
    }
}

fn range_v4((address, prefix): (Ipv4Addr, u8)) -> Range<u32> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let first = u32::from(address) & !hosts;
    Range { first, last: first | hosts }
}

fn range_v6((address, prefix): (Ipv6Addr, u8)) -> Range<u128> {
    let hosts = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let first = u128::from(address) & !hosts;
    Range { first, last: first | hosts }
}

impl Destinations {
    /// Takes the rules from `settings`.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let tunnel_v4 = range_v4(settings.tunnel_v4);
        let tunnel_v6 = range_v6(settings.tunnel_v6);
        let private_v4: Vec<_> = PRIVATE_V4.iter().copied().map(range_v4).collect();
        let private_v6: Vec<_> = PRIVATE_V6.iter().copied().map(range_v6).collect();
        let mut suspect_v4 = [false; 256];
        for range in private_v4.iter().chain([&tunnel_v4]) {
            let octets = (range.first >> 24) as usize..=(range.last >> 24) as usize;
            suspect_v4[octets].fill(true);
        }
        let mut suspect_v6 = [false; 256];
        for range in private_v6.iter().chain([&tunnel_v6]) {
            let octets = (range.first >> 120) as usize..=(range.last >> 120) as usize;
            suspect_v6[octets].fill(true);
        }
        let mut allowed_v4 = Vec::new();
        let mut allowed_v6 = Vec::new();
        for (address, prefix) in &settings.allow_private {
            match address {
                IpAddr::V4(v4) => allowed_v4.push(range_v4((*v4, *prefix))),
                IpAddr::V6(v6) => allowed_v6.push(range_v6((*v6, *prefix))),
            }
        }
        Self {
            pool: Pool::new(settings),
            allow_device_to_device: settings.allow_device_to_device,
            allow_gateway: settings.allow_gateway,
            allowed_v4,
            allowed_v6,
            private_v4,
            private_v6,
            suspect_v4,
            suspect_v6,
        }
    }

    /// Checks the destination of an IP packet that holds a whole IP header.
    ///
    /// # Errors
    /// Why the packet must be dropped.
    pub fn check(&self, packet: &[u8]) -> Result<(), DropReason> {
        if packet[0] >> 4 == 4 {
            if !self.suspect_v4[packet[16] as usize] {
                return Ok(());
            }
            let Some(octets) = packet[16..].first_chunk::<4>() else {
                return Err(DropReason::NotIp);
            };
            return self.check_v4(Ipv4Addr::from(*octets));
        }
        if !self.suspect_v6[packet[24] as usize] {
            return Ok(());
        }
        let Some(octets) = packet[24..].first_chunk::<16>() else { return Err(DropReason::NotIp) };
        self.check_v6(Ipv6Addr::from(*octets))
    }

    fn check_v4(&self, address: Ipv4Addr) -> Result<(), DropReason> {
        if let Some(slot) = self.pool.slot_v4(address) {
            return self.check_slot(slot);
        }
        let number = u32::from(address);
        let hit = |ranges: &[Range<u32>]| ranges.iter().any(|range| range.contains(number));
        if hit(&self.private_v4) && !hit(&self.allowed_v4) {
            return Err(DropReason::DestinationPrivate);
        }
        Ok(())
    }

    fn check_v6(&self, address: Ipv6Addr) -> Result<(), DropReason> {
        if let Some(slot) = self.pool.slot_v6(address) {
            return self.check_slot(slot);
        }
        if self.pool.contains_v6(address) {
            return Err(DropReason::DestinationDevice);
        }
        let number = u128::from(address);
        let hit = |ranges: &[Range<u128>]| ranges.iter().any(|range| range.contains(number));
        if hit(&self.private_v6) && !hit(&self.allowed_v6) {
            return Err(DropReason::DestinationPrivate);
        }
        Ok(())
    }

    fn check_slot(&self, slot: u32) -> Result<(), DropReason> {
        match (Pool::is_gateway(slot), self.allow_gateway, self.allow_device_to_device) {
            (true, false, _) => Err(DropReason::DestinationGateway),
            (false, _, false) => Err(DropReason::DestinationDevice),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            workers: 1,
            tunnel_v4: (Ipv4Addr::new(10, 66, 0, 0), 16),
            tunnel_v6: ("fd66:7ac1:7::".parse().expect("address"), 64),
            mtu: 1420,
            uso: true,
            allow_device_to_device: false,
            allow_gateway: false,
            allow_private: Vec::new(),
        }
    }

    fn check(settings: &Settings, destination: &str) -> Result<(), DropReason> {
        let mut packet = [0; 40];
        match destination.parse().expect("address") {
            IpAddr::V4(v4) => {
                packet[0] = 0x45;
                packet[16..20].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                packet[0] = 0x60;
                packet[24..40].copy_from_slice(&v6.octets());
            }
        }
        Destinations::new(settings).check(&packet)
    }

    #[test]
    fn the_internet_is_reachable() {
        for destination in
            ["198.51.100.7", "9.9.9.9", "223.255.255.1", "2001:db8::1", "2620:fe::fe"]
        {
            assert_eq!(check(&settings(), destination), Ok(()), "{destination}");
        }
    }

    #[test]
    fn devices_and_gateway_are_not_reachable_unless_allowed() {
        let mut settings = settings();
        assert_eq!(check(&settings, "10.66.3.4"), Err(DropReason::DestinationDevice));
        assert_eq!(check(&settings, "fd66:7ac1:7::9"), Err(DropReason::DestinationDevice));
        assert_eq!(check(&settings, "fd66:7ac1:7::1:2:3:4"), Err(DropReason::DestinationDevice));
        assert_eq!(check(&settings, "10.66.0.1"), Err(DropReason::DestinationGateway));
        assert_eq!(check(&settings, "fd66:7ac1:7::1"), Err(DropReason::DestinationGateway));
        settings.allow_device_to_device = true;
        settings.allow_gateway = true;
        assert_eq!(check(&settings, "10.66.3.4"), Ok(()));
        assert_eq!(check(&settings, "fd66:7ac1:7::1"), Ok(()));
    }

    #[test]
    fn private_ranges_are_not_reachable_unless_allowed() {
        let mut settings = settings();
        for destination in [
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.251",
            "255.255.255.255",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            let checked = check(&settings, destination);
            assert_eq!(checked, Err(DropReason::DestinationPrivate), "{destination}");
        }
        settings.allow_private = vec![(Ipv4Addr::new(192, 168, 1, 0).into(), 24)];
        assert_eq!(check(&settings, "192.168.1.1"), Ok(()));
        assert_eq!(check(&settings, "192.168.2.1"), Err(DropReason::DestinationPrivate));
    }
}
