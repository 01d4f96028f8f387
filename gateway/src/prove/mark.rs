//! Marks: random values that occur nowhere but in the traffic that is sent, so that finding one proves that it was kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rand_core::{OsRng, RngCore};

use super::encoding::{self, Form};

/// Length of a name's or payload's mark in bytes; half of it is still unmistakable.
const TOKEN_LEN: usize = 24;

/// A random value that travels, and what it stands for.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// What it is, in a few words.
    pub(super) what: String,
    /// The value.
    pub(super) value: Value,
}

/// What a mark is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Letters and digits.
    Text(String),
    /// Bytes that look compressed or encrypted.
    Bytes(Vec<u8>),
    /// Where traffic goes to.
    Destination(SocketAddr),
    /// Where a client connects from.
    ConnectingIp(IpAddr),
}

impl Mark {
    /// A mark of random letters and digits.
    pub(super) fn text(what: impl Into<String>) -> Self {
        Self { what: what.into(), value: Value::Text(token()) }
    }

    /// A mark of random bytes.
    pub(super) fn bytes(what: impl Into<String>) -> Self {
        let mut bytes = vec![0; TOKEN_LEN];
        OsRng.fill_bytes(&mut bytes);
        Self { what: what.into(), value: Value::Bytes(bytes) }
    }

    /// A random address for traffic to go to.
    pub(super) fn destination(what: impl Into<String>, family: Family, port: u16) -> Self {
        let ip = family.draw();
        Self { what: what.into(), value: Value::Destination(SocketAddr::new(ip, port)) }
    }

    /// A random address for a client to connect from.
    pub(super) fn connecting_ip(what: impl Into<String>, family: Family) -> Self {
        Self { what: what.into(), value: Value::ConnectingIp(family.draw()) }
    }

    /// Draws another value of the same kind.
    pub(super) fn redraw(&mut self) {
        let what = std::mem::take(&mut self.what);
        *self = match &self.value {
            Value::Text(_) => Self::text(what),
            Value::Bytes(_) => Self::bytes(what),
            Value::Destination(to) => Self::destination(what, Family::of(to.ip()), to.port()),
            Value::ConnectingIp(ip) => Self::connecting_ip(what, Family::of(*ip)),
        };
    }

    /// The bytes of a name or payload; of an address, its text.
    pub(super) fn content(&self) -> Vec<u8> {
        match &self.value {
            Value::Text(text) => text.clone().into_bytes(),
            Value::Bytes(bytes) => bytes.clone(),
            Value::Destination(to) => to.ip().to_string().into_bytes(),
            Value::ConnectingIp(ip) => ip.to_string().into_bytes(),
        }
    }

    /// The address that it is, if it is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match &self.value {
            Value::Destination(to) => Some(to.ip()),
            Value::ConnectingIp(ip) => Some(*ip),
            Value::Text(_) | Value::Bytes(_) => None,
        }
    }

    /// The mark as the report shows it.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Text(text) => text.clone(),
            Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            Value::Destination(to) => to.to_string(),
            Value::ConnectingIp(ip) => ip.to_string(),
        }
    }

    /// Everything that the mark could be written as.
    pub(super) fn forms(&self) -> Vec<Form> {
        match &self.value {
            Value::Text(text) => encoding::forms_of_content(text.as_bytes()),
            Value::Bytes(bytes) => encoding::forms_of_content(bytes),
            Value::Destination(to) => encoding::forms_of_address(to.ip(), Some(to.port())),
            Value::ConnectingIp(ip) => encoding::forms_of_address(*ip, None),
        }
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Draws a public address whose bytes and digits look like nothing else: no byte is a zero, a letter or
    /// all ones, and an IPv6 address has one way only to be written.
    fn draw(self) -> IpAddr {
        match self {
            Self::V4 => {
                let [b, c, d] = [(); 3].map(|()| between(129, 254) as u8);
                // Past these lie 169.254/16, 172.16/12, 192.168/16 and multicast.
                Ipv4Addr::new(between(129, 168) as u8, b, c, d).into()
            }
            Self::V6 => {
                let mut groups = [(); 8].map(|()| between(0x1000, 0xfffe));
                groups[0] = 0x2a06;
                Ipv6Addr::from(groups).into()
            }
        }
    }
}

/// Draws an unprivileged port that is no well-known one.
pub(super) fn port() -> u16 {
    between(20_011, 32_500)
}

fn token() -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..TOKEN_LEN).map(|_| char::from(DIGITS[usize::from(between(0, 35))])).collect()
}

/// A random number of the range, both ends included.
fn between(first: u16, last: u16) -> u16 {
    let width = u32::from(last - first) + 1;
    // The remainder favours no number by more than one in 2^16.
    first + (OsRng.next_u32() % width) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_addresses_are_public_and_unmistakable() {
        for _ in 0..1000 {
            let IpAddr::V4(v4) = Family::V4.draw() else { panic!("not IPv4") };
            assert!(v4.octets().iter().all(|octet| (129..=254).contains(octet)), "{v4}");
            assert!(!v4.is_private() && !v4.is_link_local() && !v4.is_multicast(), "{v4}");
            let v6 = Family::V6.draw().to_string();
            assert_eq!(v6.len(), 39, "{v6}");
        }
    }

    #[test]
    fn redrawn_mark_is_another_of_its_kind() {
        let mark = Mark::destination("here", Family::V6, 53);
        let mut other = mark.clone();
        other.redraw();
        assert!(other.value != mark.value);
        assert!(matches!(other.value, Value::Destination(to) if to.is_ipv6() && to.port() == 53));
    }
}
