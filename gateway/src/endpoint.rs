//! The address that client configs name.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use nlink::netlink::{Connection, Route};
use serde::{Deserialize, Serialize};

/// A host and, if the operator said so, a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Endpoint {
    host: String,
    port: Option<u16>,
}

/// Why text is not an [`Endpoint`].
#[derive(Debug, thiserror::Error)]
#[error("write HOST or HOST:PORT, such as vpn.example.org, 192.0.2.1:51820 or [2001:db8::1]:51820")]
pub(crate) struct EndpointError;

impl Endpoint {
    /// An endpoint at `ip` with the port left open.
    fn at(ip: IpAddr) -> Self {
        Self { host: bracketed(ip), port: None }
    }

    /// The host, an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port that the operator named.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// The endpoint as `host:port`, with `port` where none was named.
    pub(crate) fn with_port(&self, port: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(port))
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return match socket.port() {
                0 => Err(EndpointError),
                port => Ok(Self { host: bracketed(socket.ip()), port: Some(port) }),
            };
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::at(ip));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| EndpointError)?)),
            None => (text, None),
        };
        if port == Some(0) || !is_host_name(host) {
            return Err(EndpointError);
        }
        Ok(Self { host: host.into(), port })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Whether `host` is a DNS name in its letters (RFC 1123 section 2.1).
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // What looks like a broken IPv4 address is no name.
    let ends_in_letter = host.bytes().next_back().is_some_and(|byte| byte.is_ascii_alphabetic());
    host.len() <= 253 && ends_in_letter && host.split('.').all(is_label)
}

/// How sure the gateway is that clients can reach the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EndpointOrigin {
    /// The operator named it, by `endpoint` or a `listen` address.
    Named,
    /// A public address found on this host.
    Found,
    /// A private address found on this host: nobody outside can reach it.
    FoundPrivate,
}

/// Returns the endpoint for client configs and where it comes from; `None` if this host has no address.
pub(crate) async fn resolve(
    named: Option<&Endpoint>,
    listen: &[SocketAddr],
    except_interface: &str,
) -> Option<(String, EndpointOrigin)> {
    let port = listen.first().map_or(51820, SocketAddr::port);
    if let Some(endpoint) = named {
        return Some((endpoint.with_port(port), EndpointOrigin::Named));
    }
    if let Some(bound) = listen.iter().find(|listen| !listen.ip().is_unspecified()) {
        return Some((Endpoint::at(bound.ip()).with_port(bound.port()), EndpointOrigin::Named));
    }
    let addresses = host_addresses(except_interface).await;
    let of_served_family = addresses
        .into_iter()
        .filter(|ip| listen.iter().any(|listen| listen.is_ipv4() == ip.is_ipv4()));
    let best = best_address(of_served_family)?;
    let port =
        listen.iter().find(|at| at.is_ipv4() == best.is_ipv4()).map_or(port, SocketAddr::port);
    let origin = if is_public(best) { EndpointOrigin::Found } else { EndpointOrigin::FoundPrivate };
    Some((Endpoint::at(best).with_port(port), origin))
}

/// The first public address, IPv4 before IPv6; else the first private one.
fn best_address(addresses: impl IntoIterator<Item = IpAddr>) -> Option<IpAddr> {
    addresses
        .into_iter()
        .filter(|ip| !is_of_the_link(*ip))
        .min_by_key(|ip| (!is_public(*ip), !ip.is_ipv4()))
}

fn is_of_the_link(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// Whether `ip` can be reached from the internet, as far as the address tells.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let shared = Ipv4Addr::new(100, 64, 0, 0);
            let is_shared = u32::from(v4) >> 22 == u32::from(shared) >> 22;
            !(v4.is_private() || is_shared || is_of_the_link(ip))
        }
        IpAddr::V6(v6) => {
            let global = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);
            u128::from(v6) >> 125 == u128::from(global) >> 125
        }
    }
}

/// The addresses of this host, except those of the tunnel; none if the kernel does not tell.
async fn host_addresses(except_interface: &str) -> Vec<IpAddr> {
    let Ok(connection) = Connection::<Route>::new() else { return Vec::new() };
    let Ok(links) = connection.get_links().await else { return Vec::new() };
    let tunnel =
        links.iter().find(|link| link.name() == Some(except_interface)).map(|link| link.ifindex());
    let Ok(addresses) = connection.get_addresses().await else { return Vec::new() };
    addresses
        .iter()
        .filter(|address| Some(address.ifindex()) != tunnel)
        .filter_map(|address| address.local().or_else(|| address.address()).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Option<String> {
        text.parse::<Endpoint>().ok().map(|endpoint| endpoint.with_port(51820))
    }

    #[test]
    fn port_is_added_where_none_is_named() {
        assert_eq!(rendered("vpn.example.org").unwrap(), "vpn.example.org:51820");
        assert_eq!(rendered("vpn.example.org:443").unwrap(), "vpn.example.org:443");
        assert_eq!(rendered("192.0.2.1").unwrap(), "192.0.2.1:51820");
        assert_eq!(rendered("2001:db8::1").unwrap(), "[2001:db8::1]:51820");
        assert_eq!(rendered("[2001:db8::1]").unwrap(), "[2001:db8::1]:51820");
        assert_eq!(rendered("[2001:db8::1]:443").unwrap(), "[2001:db8::1]:443");
    }

    #[test]
    fn what_a_client_config_cannot_name_is_refused() {
        for text in
            ["", ":1", "a b", "a\nb", "host:0", "host:x", "1.2.3.4.5", "192.0.2.1:0", "a..b"]
        {
            assert_eq!(rendered(text), None, "{text:?}");
        }
    }

    #[test]
    fn public_address_goes_before_private_and_v4_before_v6() {
        let best = |addresses: &[&str]| {
            best_address(addresses.iter().map(|ip| ip.parse().unwrap())).map(|ip| ip.to_string())
        };
        assert_eq!(best(&["127.0.0.1", "10.0.0.1", "2001:db8::1"]).unwrap(), "2001:db8::1");
        assert_eq!(best(&["2001:db8::1", "198.51.100.1"]).unwrap(), "198.51.100.1");
        assert_eq!(best(&["fd00::1", "100.64.0.1"]).unwrap(), "100.64.0.1");
        assert_eq!(best(&["127.0.0.1", "::1", "fe80::1", "169.254.0.1"]), None);
    }

    #[tokio::test]
    async fn named_endpoint_and_bound_address_are_not_guessed() {
        let wildcard = ["0.0.0.0:5000".parse().unwrap()];
        let named = "vpn.example.org".parse().unwrap();
        assert_eq!(
            resolve(Some(&named), &wildcard, "tacit0").await.unwrap(),
            ("vpn.example.org:5000".into(), EndpointOrigin::Named)
        );
        let bound = ["0.0.0.0:5000".parse().unwrap(), "[2001:db8::1]:6000".parse().unwrap()];
        assert_eq!(
            resolve(None, &bound, "tacit0").await.unwrap(),
            ("[2001:db8::1]:6000".into(), EndpointOrigin::Named)
        );
    }
}
