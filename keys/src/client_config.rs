//! What a customer's device is configured with, in the format of `wg-quick`.

use std::{
    fmt::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use zeroize::Zeroizing;

use crate::{PresharedKey, PrivateKey, PublicKey};

/// Room for the longest config, so that no copy of its keys is left behind by growing.
const TEXT_CAPACITY: usize = 4096;

/// Stands in the config for a key that was made on the device and that the gateway never sees.
const PRIVATE_KEY_PLACEHOLDER: &str = "# PrivateKey = <insert the private key made on this device>";

/// A device's config. Everything goes through the tunnel: `AllowedIPs = 0.0.0.0/0, ::/0`.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The device's key, or `None` if it was made on the device.
    pub private_key: Option<PrivateKey>,
    /// The device's IPv4 address in the tunnel.
    pub tunnel_v4: Ipv4Addr,
    /// The device's IPv6 address in the tunnel.
    pub tunnel_v6: Ipv6Addr,
    /// Name servers to use while connected, none to leave the device's own.
    pub dns: Vec<IpAddr>,
    /// Length of the longest packet in the tunnel in bytes, or `None` to let the device choose.
    pub mtu: Option<u16>,
    /// The gateway's key.
    pub gateway_public_key: PublicKey,
    /// The key shared by the gateway and this device.
    pub preshared_key: PresharedKey,
    /// Where the gateway is reached, as `host:port`.
    pub endpoint: String,
    /// Seconds between keepalives, or `None` for none.
    pub persistent_keepalive: Option<u16>,
}

impl ClientConfig {
    /// Writes the config as `wg-quick` and the WireGuard apps read it.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TEXT_CAPACITY));
        // Writing to a string cannot fail.
        let _ = self.write_interface(&mut text).and_then(|()| self.write_peer(&mut text));
        text
    }

    fn write_interface(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "[Interface]")?;
        match &self.private_key {
            Some(key) => writeln!(text, "PrivateKey = {}", *key.expose_base64())?,
            None => writeln!(text, "{PRIVATE_KEY_PLACEHOLDER}")?,
        }
        writeln!(text, "Address = {}/32, {}/128", self.tunnel_v4, self.tunnel_v6)?;
        if !self.dns.is_empty() {
            let servers: Vec<_> = self.dns.iter().map(IpAddr::to_string).collect();
            writeln!(text, "DNS = {}", servers.join(", "))?;
        }
        if let Some(mtu) = self.mtu {
            writeln!(text, "MTU = {mtu}")?;
        }
        Ok(())
    }

    fn write_peer(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\n[Peer]")?;
        writeln!(text, "PublicKey = {}", self.gateway_public_key)?;
        writeln!(text, "PresharedKey = {}", *self.preshared_key.expose_base64())?;
        writeln!(text, "AllowedIPs = 0.0.0.0/0, ::/0")?;
        writeln!(text, "Endpoint = {}", self.endpoint)?;
        if let Some(seconds) = self.persistent_keepalive {
            writeln!(text, "PersistentKeepalive = {seconds}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ClientConfig {
        let private_key: PrivateKey =
            "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=".parse().unwrap();
        ClientConfig {
            gateway_public_key: private_key.public_key(),
            private_key: Some(private_key),
            tunnel_v4: Ipv4Addr::new(10, 66, 0, 2),
            tunnel_v6: "fd66:7ac1:7::2".parse().unwrap(),
            dns: vec!["9.9.9.9".parse().unwrap(), "2620:fe::fe".parse().unwrap()],
            mtu: Some(1420),
            preshared_key: "mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvDE=".parse().unwrap(),
            endpoint: "vpn.example.org:51820".into(),
            persistent_keepalive: Some(25),
        }
    }

    #[test]
    fn full_config_reads_as_wg_quick_expects() {
        let expected = "\
[Interface]
PrivateKey = uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=
Address = 10.66.0.2/32, fd66:7ac1:7::2/128
DNS = 9.9.9.9, 2620:fe::fe
MTU = 1420

[Peer]
PublicKey = KB0EsYBXJQAuCygRsYlx3i2rq9p0RuuMELMD+OJhgDw=
PresharedKey = mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvDE=
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example.org:51820
PersistentKeepalive = 25
";
        assert_eq!(*config().render(), expected);
    }

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        let config =
            ClientConfig { dns: Vec::new(), mtu: None, persistent_keepalive: None, ..config() };
        let text = config.render();
        for word in ["DNS", "MTU", "PersistentKeepalive"] {
            assert!(!text.contains(word), "{word}");
        }
    }

    #[test]
    fn key_made_on_the_device_leaves_a_line_for_it() {
        let text = ClientConfig { private_key: None, ..config() }.render();
        let second = text.lines().nth(1).unwrap();
        assert_eq!(second, "# PrivateKey = <insert the private key made on this device>");
    }

    #[test]
    fn printing_shows_no_key() {
        let shown = format!("{:?}", config());
        assert!(!shown.contains("uFOu") && !shown.contains("mPSJ"), "{shown}");
    }
}
