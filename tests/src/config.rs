//! Reading what `tacit device add` prints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};

/// A wg-quick config.
#[derive(Clone)]
pub struct Config {
    /// As it was printed.
    pub text: String,
    /// The client's private key.
    pub private_key: [u8; 32],
    /// The gateway's public key.
    pub gateway_key: [u8; 32],
    /// Shared by these two.
    pub preshared_key: [u8; 32],
    /// The client's IPv4 address in the tunnel.
    pub tunnel_v4: Ipv4Addr,
    /// The client's IPv6 address in the tunnel.
    pub tunnel_v6: Ipv6Addr,
    /// Where the gateway listens.
    pub endpoint: SocketAddr,
}

impl Config {
    /// Reads a config.
    ///
    /// # Panics
    /// If something that a client needs is missing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let addresses: Vec<IpAddr> = values(text, "Address")
            .flat_map(|value| value.split(','))
            .map(|address| {
                address.split('/').next().unwrap_or("").trim().parse().expect("an address")
            })
            .collect();
        let v4 =
            addresses.iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None });
        let v6 =
            addresses.iter().find_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None });
        Self {
            text: text.to_owned(),
            private_key: key(text, "PrivateKey"),
            gateway_key: key(text, "PublicKey"),
            preshared_key: key(text, "PresharedKey"),
            tunnel_v4: v4.expect("an IPv4 address"),
            tunnel_v6: v6.expect("an IPv6 address"),
            endpoint: value(text, "Endpoint").parse().expect("a numeric endpoint"),
        }
    }
}

fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(move |(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn value<'a>(text: &'a str, name: &'a str) -> &'a str {
    values(text, name).next().unwrap_or_else(|| panic!("the config has no {name}"))
}

fn key(text: &str, name: &str) -> [u8; 32] {
    let bytes = STANDARD.decode(value(text, name)).expect("a key in base64");
    bytes.try_into().expect("a key of 32 bytes")
}
