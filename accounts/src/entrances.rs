//! Where devices connect: what each gateway that shares the store says of itself, for the sites of the others to offer.
//!
//! It goes into configs, which programs obey. So what another gateway wrote is looked at again when it is read, and one
//! whose words cannot stand in a config is not offered.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use tacit_keys::PublicKey;
use tacit_messages::UnixSeconds;

use crate::{PRESUMED_DEAD_AFTER, Store, StoreError, printable::is_printable, times::time_column};

/// Longest name of a region, in characters.
const MAX_REGION_CHARS: usize = 40;

/// Longest name of a host, in bytes (RFC 1035 section 2.3.4).
const MAX_HOST_LEN: usize = 253;

/// Least MTU of a tunnel that carries IPv6 (RFC 8200 section 5).
const MIN_MTU: u16 = 1280;

/// Where a gateway is, as customers read it: a city, for example.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// A text that is no region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a region has 1 to {MAX_REGION_CHARS} characters that show, and no space at its ends")]
pub struct RegionError;

impl FromStr for Region {
    type Err = RegionError;

    fn from_str(text: &str) -> Result<Self, RegionError> {
        let length = text.chars().take(MAX_REGION_CHARS + 1).count();
        let is_long = !(1..=MAX_REGION_CHARS).contains(&length);
        if is_long || text.trim() != text || !text.chars().all(is_printable) {
            return Err(RegionError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Region {
    type Error = RegionError;

    fn try_from(text: String) -> Result<Self, RegionError> {
        text.parse()
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a device's config says of a gateway, and how customers tell it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// Where the gateway is, if its operator said so.
    pub region: Option<Region>,
    /// The gateway's key.
    pub public_key: PublicKey,
    /// Where it is reached, as `host:port`.
    pub endpoint: String,
    /// Name servers to use while connected.
    pub dns: Vec<IpAddr>,
    /// MTU of the tunnel in bytes.
    pub mtu: u16,
}

/// Number, region, key, endpoint, name servers and MTU, as they stand in the store.
type Row = (i64, Option<String>, Vec<u8>, String, String, i64);

impl Store {
    /// The number by which the store knows the gateway that it was opened for.
    #[must_use]
    pub fn gateway_number(&self) -> i64 {
        self.gateway
    }

    /// Says how devices connect to this gateway.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn announce_entrance(&self, entrance: &Entrance) -> Result<(), StoreError> {
        let dns: Vec<String> = entrance.dns.iter().map(ToString::to_string).collect();
        let mut write = self.write_quickly().await?;
        sqlx::query(
            "UPDATE gateways SET region = $1, public_key = $2, endpoint = $3, dns = $4, mtu = $5 WHERE id = $6",
        )
        .bind(entrance.region.as_ref().map(|region| region.0.clone()))
        .bind(&entrance.public_key.as_bytes()[..])
        .bind(entrance.endpoint.clone())
        .bind(dns.join(","))
        .bind(i64::from(entrance.mtu))
        .bind(self.gateway)
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    /// Says that no device connects to this gateway any more.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn withdraw_entrance(&self) -> Result<(), StoreError> {
        let mut write = self.write_quickly().await?;
        sqlx::query("UPDATE gateways SET endpoint = NULL WHERE id = $1")
            .bind(self.gateway)
            .execute(write.connection())
            .await?;
        write.commit().await
    }

    /// The other gateways that run and are not drained, with their numbers, by region and endpoint.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn other_entrances(
        &self,
        now: UnixSeconds,
    ) -> Result<Vec<(i64, Entrance)>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, region, public_key, endpoint, dns, mtu FROM gateways
             WHERE id != $1 AND last_alive_at > $2 AND endpoint IS NOT NULL AND public_key IS NOT NULL
             AND dns IS NOT NULL AND mtu IS NOT NULL AND draining = 0",
        )
        .bind(self.gateway)
        .bind(time_column(now.minus(PRESUMED_DEAD_AFTER)))
        .fetch_all(self.reader())
        .await?;
        let mut entrances: Vec<_> = rows.into_iter().filter_map(read).collect();
        let order = |entrance: &Entrance| (entrance.region.clone(), entrance.endpoint.clone());
        entrances.sort_by_cached_key(|(number, entrance)| (order(entrance), *number));
        Ok(entrances)
    }
}

/// What a row says, if all of it can stand in a config.
fn read((number, region, public_key, endpoint, dns, mtu): Row) -> Option<(i64, Entrance)> {
    let region = region.map(|region| region.parse()).transpose().ok()?;
    let public_key = PublicKey::from_bytes(public_key.try_into().ok()?).ok()?;
    let servers = dns.split(',').filter(|server| !server.is_empty()).map(str::parse::<IpAddr>);
    let dns = servers.collect::<Result<_, _>>().ok()?;
    let mtu = u16::try_from(mtu).ok().filter(|mtu| *mtu >= MIN_MTU)?;
    is_endpoint(&endpoint).then_some((number, Entrance { region, public_key, endpoint, dns, mtu }))
}

/// Whether `text` is a name or an address with a port, and nothing else.
fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match in_brackets {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok() || is_name(host),
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && is_number && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_name(host: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    (1..=MAX_HOST_LEN).contains(&host.len()) && host.bytes().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(endpoint: &str) -> Row {
        let dns = "9.9.9.9,2620:fe::fe".to_owned();
        (2, Some("Oslo".into()), vec![7; 32], endpoint.into(), dns, 1420)
    }

    #[test]
    fn what_a_gateway_says_is_read() {
        let (number, entrance) = read(row("no1.example.org:51820")).unwrap();
        assert_eq!((number, entrance.endpoint.as_str()), (2, "no1.example.org:51820"));
        assert_eq!(entrance.region.unwrap().to_string(), "Oslo");
        assert_eq!(entrance.dns.len(), 2);
        assert!(read(row("192.0.2.1:51820")).is_some());
        assert!(read(row("[2001:db8::1]:51820")).is_some());
        assert!(read((2, None, vec![7; 32], "a:1".into(), String::new(), 1420)).is_some());
    }

    #[test]
    fn what_a_program_would_obey_is_not_read() {
        for endpoint in [
            "",
            "host",
            "host:0",
            "host:65536",
            "host:+51820",
            ":51820",
            "host:51820\nPostUp = reboot",
            "host\nPostUp = reboot:51820",
            "ho st:51820",
            "[::1\n]:51820",
        ] {
            assert_eq!(read(row(endpoint)), None, "{endpoint:?}");
        }
        let whole = row("host:51820");
        let edits: [fn(Row) -> Row; 5] = [
            |row| (row.0, Some("Oslo\u{202e}".into()), row.2, row.3, row.4, row.5),
            |row| (row.0, row.1, vec![7; 31], row.3, row.4, row.5),
            |row| (row.0, row.1, row.2, row.3, "9.9.9.9\nPostUp = reboot".into(), row.5),
            |row| (row.0, row.1, row.2, row.3, row.4, 65_536),
            |row| (row.0, row.1, row.2, row.3, row.4, 1279),
        ];
        for edit in edits {
            assert_eq!(read(edit(whole.clone())), None);
        }
    }

    #[test]
    fn region_is_short_and_shows() {
        for text in ["Frankfurt", "São Paulo", "東京"] {
            assert_eq!(text.parse::<Region>().unwrap().to_string(), text);
        }
        for text in ["", " ", " Oslo", "Os\nlo", "Os\u{200b}lo", &"a".repeat(41)] {
            assert_eq!(text.parse::<Region>(), Err(RegionError), "{text:?}");
        }
    }
}
