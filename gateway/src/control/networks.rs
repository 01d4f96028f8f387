//! The tunnel networks: those that the operator names, else those that the store has, else the first free pair of the
//! defaults. The store records them, so devices keep their addresses whatever else runs on the host later.
//!
//! Gateways that share a database have the same networks, so there the first pair of the defaults goes for the first free
//! one. The database is not asked: only the sealed process speaks with a server.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use tacit_accounts::{Database, PoolError, Store, TunnelPool};

use crate::{config::Settings, host};

/// How many pairs there are: 10.66.0.0/16 with fd66:7ac1:7::/64 to 10.73.0.0/16 with fd66:7ac1:e::/64.
const DEFAULTS: u8 = 8;

/// Chooses the tunnel networks.
///
/// A single network that the operator names goes with the other one of the store or of the first default.
///
/// # Errors
/// [`PoolError`] if a network that the operator names has no room for a device.
pub(crate) async fn choose(
    settings: &Settings,
    database: &Database,
) -> Result<TunnelPool, PoolError> {
    let (recorded, is_shared) = match database {
        Database::Sqlite(_) => (Store::recorded_pool(database).await, false),
        Database::Postgres(_) => (None, true),
    };
    let is_named = settings.tunnel_v4.is_some() || settings.tunnel_v6.is_some();
    let (v4, v6) = match recorded {
        Some(recorded) => (recorded.v4(), recorded.v6()),
        None if is_named || is_shared => default_pair(0),
        None => first_free_pair(&settings.interface).await,
    };
    TunnelPool::new(settings.tunnel_v4.unwrap_or(v4), settings.tunnel_v6.unwrap_or(v6))
}

/// The first default of which this host has no address; the first of all if it has one of each, for the check of
/// the host to refuse.
async fn first_free_pair(interface: &str) -> (Ipv4Net, Ipv6Net) {
    for (v4, v6) in (0..DEFAULTS).map(default_pair) {
        if host::check_networks_are_free(interface, [v4.into(), v6.into()]).await.is_ok() {
            return (v4, v6);
        }
    }
    default_pair(0)
}

fn default_pair(number: u8) -> (Ipv4Net, Ipv6Net) {
    let v4 = Ipv4Addr::new(10, 66 + number, 0, 0);
    let v6 = Ipv6Addr::new(0xfd66, 0x7ac1, 7 + u16::from(number), 0, 0, 0, 0, 0);
    (Ipv4Net::new_assert(v4, 16), Ipv6Net::new_assert(v6, 64))
}

#[cfg(test)]
mod tests {
    use tacit_keys::{DataKey, DataKeys};

    use super::*;
    use crate::{control::data_dir, database};

    const STORED_V4: &str = "10.80.0.0/16";
    const STORED_V6: &str = "fd80::/64";

    /// Settings with the data directory of a gateway that ran with networks of its own.
    async fn settings(directory: &tempfile::TempDir) -> Settings {
        let data_dir = directory.path().to_path_buf();
        let (path, pool) = (data_dir::store_path(&data_dir), pool(STORED_V4, STORED_V6));
        let keys = DataKeys::new(DataKey::generate());
        Store::open(&path, pool, keys).await.unwrap().close().await;
        Settings { data_dir, ..Settings::default() }
    }

    fn pool(v4: &str, v6: &str) -> TunnelPool {
        TunnelPool::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap()
    }

    async fn chosen(settings: &Settings) -> Result<TunnelPool, PoolError> {
        choose(settings, &database::of(settings).unwrap()).await
    }

    #[tokio::test]
    async fn gateways_that_share_a_database_have_the_same_networks() {
        let database = Some("postgres://tacit@10.0.0.7/tacit".into());
        let settings = Settings { database, ..Settings::default() };
        assert_eq!(chosen(&settings).await, Ok(pool("10.66.0.0/16", "fd66:7ac1:7::/64")));
    }

    #[test]
    fn defaults_are_in_a_row() {
        let shown = |(v4, v6): (Ipv4Net, Ipv6Net)| format!("{v4} {v6}");
        assert_eq!(shown(default_pair(0)), "10.66.0.0/16 fd66:7ac1:7::/64");
        assert_eq!(shown(default_pair(DEFAULTS - 1)), "10.73.0.0/16 fd66:7ac1:e::/64");
    }

    #[tokio::test]
    async fn networks_of_the_store_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&directory).await;
        assert_eq!(chosen(&settings).await, Ok(pool(STORED_V4, STORED_V6)));
    }

    #[tokio::test]
    async fn named_network_goes_before_the_stores() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(&directory).await;
        settings.tunnel_v4 = "10.81.0.0/16".parse().ok();
        assert_eq!(chosen(&settings).await, Ok(pool("10.81.0.0/16", STORED_V6)));
        settings.tunnel_v6 = "fd81::/64".parse().ok();
        assert_eq!(chosen(&settings).await, Ok(pool("10.81.0.0/16", "fd81::/64")));
    }

    #[tokio::test]
    async fn single_named_network_of_a_new_gateway_goes_with_the_first_default() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("new");
        let tunnel_v6 = "fd81::/64".parse().ok();
        let settings = Settings { data_dir, tunnel_v6, ..Settings::default() };
        assert_eq!(chosen(&settings).await, Ok(pool("10.66.0.0/16", "fd81::/64")));
    }
}
